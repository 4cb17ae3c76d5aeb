//! Trying a mechanism of a jail for real: in a forked child with a time limit, and where it needs
//! namespaces, in new ones with the ids of a jail. What is tried is what the jail's pid 1 does, by the
//! same functions, so that a step that fails here has the name that it has in a failed start.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::facts::{Landlock, Tried};
use crate::sys::clone::{self, Cloned, Namespaces};
use crate::sys::landlock::Right;
use crate::sys::ns::{self, IdMap};
use crate::sys::pidfd::{self, End};
use crate::sys::probe::{self, Ended, Idle};
use crate::sys::{Error, Result, caps, fd, landlock, net, seccomp};

/// How ids inside relate to ids outside, as in a jail.
#[derive(Debug, Clone, Copy)]
pub struct Ids {
    /// First id inside.
    pub inside: u32,
    /// Host uid that it stands for.
    pub uid: u32,
    /// Host gid that it stands for.
    pub gid: u32,
    /// How many: 1 for an ordinary user, who writes the map from inside.
    pub count: u32,
    /// Id inside that the jail's user gets.
    pub user: u32,
}

impl Ids {
    /// Whether this is the mapping of root's jails.
    pub fn is_range(&self) -> bool {
        self.count > 1
    }
}

/// How long one mechanism may take.
pub const LIMIT: Duration = Duration::from_secs(2);

/// Run `work` in a child of its own; on `Err`, what came instead of an answer.
pub fn isolated<T: Serialize + DeserializeOwned>(work: impl FnOnce() -> T) -> std::result::Result<T, Tried> {
    isolated_for(LIMIT, work)
}

/// The same for work that may take longer.
pub fn isolated_for<T: Serialize + DeserializeOwned>(
    limit: Duration,
    work: impl FnOnce() -> T,
) -> std::result::Result<T, Tried> {
    match probe::in_child(limit, || serde_json::to_vec(&work()).unwrap_or_default()) {
        Ok(Ended::Said(bytes)) => {
            serde_json::from_slice(&bytes).map_err(|_| Tried::Wrong("its answer was cut off".to_owned()))
        }
        Ok(Ended::TimedOut) => Err(Tried::TimedOut(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))),
        Ok(Ended::Died(End::Exited(code))) => Err(Tried::Wrong(format!("the process ended with {code}"))),
        Ok(Ended::Died(End::Signaled(n))) => {
            Err(Tried::Killed { what: "the process that tried it".to_owned(), signal: n })
        }
        Err(e) => Err(e.into()),
    }
}

/// Try `work` in a child of its own.
pub fn attempt(work: impl FnOnce() -> Result<Tried>) -> Tried {
    isolated(|| work().unwrap_or_else(Tried::from)).unwrap_or_else(|why| why)
}

/// Try `work` in new namespaces, as the jail's user with every capability there. `prepare` runs in
/// them before that, still with the caller's identity.
pub fn inside<P>(
    ids: Ids,
    namespaces: Namespaces,
    prepare: impl FnOnce() -> Result<P>,
    work: impl FnOnce(P) -> Result<Tried>,
) -> Tried {
    attempt(|| clone_and_try(ids, namespaces, prepare, work))
}

fn clone_and_try<P>(
    ids: Ids,
    namespaces: Namespaces,
    prepare: impl FnOnce() -> Result<P>,
    work: impl FnOnce(P) -> Result<Tried>,
) -> Result<Tried> {
    let (answer, ours) = fd::pipe()?;
    let (go, go_write) = fd::pipe()?;
    let line = |outside| IdMap { inside: ids.inside, outside, count: ids.count };
    match clone::clone3(namespaces, None)? {
        Cloned::Child => {
            drop((answer, go_write));
            let settled = caps::die_with_parent()
                .and_then(
                    |()| if ids.is_range() { Ok(()) } else { ns::map_self(line(ids.uid), line(ids.gid)) },
                )
                .and_then(|()| prepare());
            let tried = settled.and_then(|prepared| {
                wait(&go)?;
                if ids.is_range() {
                    caps::become_ids(ids.user, ids.user)?;
                    caps::die_with_parent()?;
                }
                work(prepared)
            });
            let text = serde_json::to_vec(&tried.unwrap_or_else(Tried::from)).unwrap_or_default();
            // An answer that cannot be delivered shows as none.
            nix::unistd::write(&ours, &text).ok();
            clone::exit_now(0)
        }
        Cloned::Parent(pid, pidfd) => {
            drop((ours, go));
            if ids.is_range()
                && let Err(e) = ns::map_child(pid, &[line(ids.uid)], &[line(ids.gid)])
            {
                pidfd::signal(pidfd.as_fd(), nix::libc::SIGKILL)?;
                pidfd::reap(pidfd.as_fd())?;
                return Err(e);
            }
            // A child that has failed already does not wait; its answer is there.
            nix::unistd::write(&go_write, b"g").ok();
            drop(go_write);
            let text = read_all(&answer)?;
            pidfd::reap(pidfd.as_fd())?;
            Ok(serde_json::from_slice(&text)
                .unwrap_or_else(|_| Tried::Wrong("the process in new namespaces died".to_owned())))
        }
    }
}

/// Until the parent has written the id maps.
fn wait(go: &OwnedFd) -> Result<()> {
    let mut byte = [0u8; 1];
    loop {
        match nix::unistd::read(go, &mut byte) {
            Err(Errno::EINTR) => {}
            Ok(1) => return Ok(()),
            Ok(_) => return Err(Error::new("read", "go pipe", Errno::EPIPE)),
            Err(e) => return Err(Error::new("read", "go pipe", e)),
        }
    }
}

fn read_all(from: &OwnedFd) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = [0u8; 4096];
    loop {
        match nix::unistd::read(from, &mut buffer) {
            Ok(0) => return Ok(all),
            Ok(n) => all.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(Error::new("read", "answer", e)),
        }
    }
}

/// A user namespace and its id maps.
pub fn userns(ids: Ids) -> Tried {
    inside(
        ids,
        Namespaces::USER,
        || Ok(()),
        |()| {
            let uid = nix::unistd::geteuid().as_raw();
            if uid != ids.user {
                return Ok(Tried::Wrong(format!("the uid inside is {uid}, not {}", ids.user)));
            }
            let host = ids.uid + (uid - ids.inside);
            Ok(Tried::Worked(format!("made one; uid {uid} inside is uid {host} here")))
        },
    )
}

/// All namespaces by one call; when that fails, which of them is refused.
pub fn namespaces(ids: Ids) -> Tried {
    let all = inside(
        ids,
        Namespaces::ALL,
        || Ok(()),
        |()| Ok(Tried::Worked("user, mount, pid, ipc, uts, cgroup and net by one clone3".to_owned())),
    );
    if all.worked() { all } else { refused_alone(ids).unwrap_or(all) }
}

fn refused_alone(ids: Ids) -> Option<Tried> {
    const EACH: [(&str, CloneFlags); 6] = [
        ("mount", CloneFlags::CLONE_NEWNS),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
        ("net", CloneFlags::CLONE_NEWNET),
    ];
    EACH.into_iter().find_map(|(name, flag)| {
        let tried = inside(
            ids,
            Namespaces::USER,
            || Ok(()),
            |()| {
                unshare(flag).map_err(|e| Error::new("unshare", name, e))?;
                Ok(Tried::Worked(String::new()))
            },
        );
        (!tried.worked()).then_some(tried)
    })
}

/// `lo` up, and a connection over it.
pub fn network(ids: Ids) -> Tried {
    inside(
        ids,
        Namespaces::ALL,
        || Ok(()),
        |()| {
            net::loopback_up()?;
            let io = |call| move |e: std::io::Error| Error::new(call, "127.0.0.1", crate::sys::errno(&e));
            let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(io("bind"))?;
            let address = listener.local_addr().map_err(io("getsockname"))?;
            std::net::TcpStream::connect(address).map_err(io("connect"))?;
            Ok(Tried::Worked("lo is up and carries a connection".to_owned()))
        },
    )
}

/// `no_new_privs`.
pub fn no_new_privs() -> Tried {
    attempt(|| {
        caps::no_new_privs()?;
        Ok(match caps::has_no_new_privs() {
            true => Tried::Worked("set, and reads back as set".to_owned()),
            false => Tried::Wrong("was set, but reads back as not set".to_owned()),
        })
    })
}

/// The real system call filter, and a call that it must refuse.
pub fn filter() -> Tried {
    attempt(|| {
        let options = seccomp::Options { level: seccomp::Level::Standard, nested_userns: false };
        let program = seccomp::program(&options);
        caps::no_new_privs()?;
        seccomp::install(&program)?;
        if caps::seccomp_mode()? != 2 {
            return Ok(Tried::Wrong("was installed, but the mode is not 2 (filter)".to_owned()));
        }
        Ok(match unshare(CloneFlags::CLONE_NEWUSER) {
            Err(Errno::EPERM) => {
                let n = program.instructions().len();
                Tried::Worked(format!("{n} instructions in force; unshare ends with EPERM"))
            }
            other => Tried::Wrong(format!("was installed, but unshare ends with {other:?}")),
        })
    })
}

/// What kind of Landlock there is.
pub fn landlock_facts() -> Landlock {
    match probe::landlock_abi() {
        Ok(abi) => Landlock { abi, errno: None, errata: probe::landlock_errata().ok() },
        Err(e) => Landlock { abi: 0, errno: Some(e.name()), errata: None },
    }
}

/// Read-only by Landlock, and a write that it must refuse.
pub fn landlock(abi: i32) -> Tried {
    attempt(|| {
        caps::no_new_privs()?;
        landlock::restrict(Some(&[(c"/".to_owned(), Right::Read)]), abi)?;
        Ok(match std::fs::File::options().write(true).open("/dev/null") {
            Err(e) if e.raw_os_error() == Some(Errno::EACCES as i32) => {
                Tried::Worked("a write that no rule allows ends with EACCES".to_owned())
            }
            Err(e) => Tried::Wrong(format!("a write that no rule allows ends with: {e}")),
            Ok(_) => Tried::Wrong("a write that no rule allows is not stopped".to_owned()),
        })
    })
}

/// A session keyring of its own.
pub fn keyring() -> Tried {
    attempt(|| {
        Ok(Tried::Worked(match caps::fresh_session_keyring()? {
            true => "joined a new session keyring".to_owned(),
            false => "this kernel has no keyrings, so there is nothing to hide".to_owned(),
        }))
    })
}

/// Processes by descriptor.
pub fn pidfd() -> Tried {
    attempt(|| {
        probe::pidfd_of_self()?;
        Ok(Tried::Worked("opened one and signalled through it".to_owned()))
    })
}

/// Closing every descriptor from a number up.
pub fn close_range() -> Tried {
    attempt(|| {
        // The highest number there can be, so that nothing else is closed, the answer's pipe above all.
        let (soft, _) =
            getrlimit(Resource::RLIMIT_NOFILE).map_err(|e| Error::new("getrlimit", "RLIMIT_NOFILE", e))?;
        let highest = i32::try_from(soft.min(65_536)).unwrap_or(256) - 1;
        let extra = fd::dup_above(fd::standard(2), highest)?;
        // Closed by the call under test, not by the value.
        let number = std::os::fd::IntoRawFd::into_raw_fd(extra);
        fd::close_from(number)?;
        Ok(match probe::is_open(number) {
            true => Tried::Wrong("the call succeeds and closes nothing".to_owned()),
            false => Tried::Worked(format!("closed descriptor {number} and all above")),
        })
    })
}

/// A limit of processes that counts the jail's own and no others.
pub fn process_limit(ids: Ids) -> Tried {
    inside(
        ids,
        Namespaces::WITHOUT_NET,
        || Ok(()),
        |()| {
            setrlimit(Resource::RLIMIT_NPROC, 2, 2)
                .map_err(|e| Error::new("setrlimit", "RLIMIT_NPROC", e))?;
            // With this process that makes two. Where every process of the user counts, it is too many:
            // at least aj and the child that made these namespaces run as well.
            let first = match Idle::start() {
                Err(e) if e.errno == Errno::EAGAIN => {
                    return Ok(Tried::Weak(
                        "RLIMIT_NPROC counts the user's processes outside as well".to_owned(),
                    ));
                }
                other => other?,
            };
            let second = Idle::start();
            drop(first);
            Ok(match second {
                Err(e) if e.errno == Errno::EAGAIN => Tried::Worked(
                    "RLIMIT_NPROC counts the processes of one jail: the one above it got EAGAIN".to_owned(),
                ),
                Err(e) => e.into(),
                Ok(_) => Tried::Weak("RLIMIT_NPROC does not stop a process above the limit".to_owned()),
            })
        },
    )
}
