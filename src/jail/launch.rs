//! The launcher's part of a start: everything that can fail on the host side, then the clone.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use super::init::{self, Hand};
use super::plan::{HostRoot, Mapped, Plan, USR_NAMES};
use super::spec::{AGENT, Ids, Owner, RANGE_BASE, RANGE_COUNT, Spec};
use super::wire;
use crate::policy::settings::{Net, Seccomp};
use crate::sys::clone::{Cloned, Namespaces, clone3};
use crate::sys::ns::{IdMap, Mapping};
use crate::sys::seccomp::{self, Level};
use crate::sys::{Error, Result, fd, mount, ns, openat2, pidfd, signal};

/// Where the command's standard input comes from.
#[derive(Debug)]
pub enum Stdin {
    /// The jail's own `/dev/null`.
    Null,
    /// A pipe that the supervisor fills.
    Relay,
}

/// A jail that has been cloned; whether its command ever ran is known from the status socket.
#[derive(Debug)]
pub struct Running {
    /// Pid of the jail's pid 1, as the host numbers it.
    pub pid: i32,
    /// The same by descriptor.
    pub pidfd: OwnedFd,
    /// Our end of the status socket.
    pub status: OwnedFd,
    /// Read end of the command's stdout (of stderr too when that is `None`).
    pub stdout: OwnedFd,
    /// Read end of the command's stderr.
    pub stderr: Option<OwnedFd>,
    /// Write end of the command's stdin, with [`Stdin::Relay`].
    pub stdin: Option<OwnedFd>,
    /// When it was cloned.
    pub started: Instant,
}

/// A jail that waits for [`Held::release`] before it touches its overlay or starts anything.
/// Dropped instead, it ends by itself.
#[derive(Debug)]
pub struct Held {
    running: Running,
    go: OwnedFd,
    mapping: Option<Mapping>,
}

impl Held {
    /// Let it go on: the tree exists and the start is recorded.
    pub fn release(self) -> Result<Running> {
        match nix::unistd::write(&self.go, b"g") {
            // It has failed already, and says why on the status socket.
            Ok(_) | Err(nix::errno::Errno::EPIPE) => {}
            Err(e) => return Err(Error::new("write", "go pipe", e)),
        }
        self.mapping.map_or(Ok(()), Mapping::finish)?;
        Ok(self.running)
    }

    /// End it without a trace; waits until it is gone.
    pub fn abandon(self) -> Result<()> {
        drop(self.go);
        pidfd::signal(self.running.pidfd.as_fd(), nix::libc::SIGKILL)?;
        pidfd::reap(self.running.pidfd.as_fd())?;
        self.mapping.map_or(Ok(()), Mapping::finish)
    }
}

/// How this host lays out what belongs with `/usr`.
pub fn host_root(net: Net) -> HostRoot {
    let resolv_conf = net == Net::Host && Path::new("/etc/resolv.conf").exists();
    let mut root = HostRoot { resolv_conf, ..HostRoot::default() };
    for name in USR_NAMES {
        let path = Path::new("/").join(name);
        match std::fs::read_link(&path) {
            Ok(target) => root.links.push((name, target)),
            Err(_) if path.is_dir() => root.dirs.push(name),
            Err(_) => {}
        }
    }
    root
}

/// Clone the jail. It prepares itself while the caller makes its tree and records its start; then
/// [`Held::release`] lets it go on. The process must be single-threaded.
pub fn launch(spec: &Spec, plan: &Plan, stdin: Stdin, separate_stderr: bool) -> Result<Held> {
    signal::default_sigchld();
    room_for_descriptors(plan)?;
    let (status, status_inside) = wire::pair()?;
    let (go, go_write) = fd::pipe()?;
    let (stdout, stdout_inside) = fd::pipe()?;
    let (stderr, stderr_inside) = if separate_stderr {
        let (r, w) = fd::pipe()?;
        (Some(r), Some(w))
    } else {
        (None, None)
    };
    let (stdin_inside, stdin_write) = match stdin {
        Stdin::Null => (None, None),
        Stdin::Relay => {
            let (r, w) = fd::pipe()?;
            (Some(r), Some(w))
        }
    };
    let mut mapped = Vec::with_capacity(plan.mapped.len());
    let mut mapping = None;
    if spec.ids == Ids::Range {
        // So that `/dev/stdout` and `/dev/stdin` can be opened again inside: a pipe belongs to
        // whoever made it, and host uid 0 is nobody there.
        let inside = RANGE_BASE + spec.inside_id();
        let pipes = [Some(&stdout_inside), stderr_inside.as_ref(), stdin_inside.as_ref()];
        for pipe in pipes.into_iter().flatten() {
            nix::unistd::fchown(pipe, Some(inside.into()), Some(inside.into()))
                .map_err(|e| Error::new("fchown", "pipe", e))?;
        }
        if !plan.mapped.is_empty() {
            let made = mapping_for(spec.owner, inside)?;
            for m in &plan.mapped {
                mapped.push(mapped_clone(m, &made)?);
            }
            mapping = Some(made);
        }
    }
    let filter = seccomp::program(&seccomp::Options {
        level: match spec.seccomp {
            Seccomp::Standard => Level::Standard,
            Seccomp::Strict => Level::Strict,
            Seccomp::Log => Level::Log,
        },
        nested_userns: spec.nested_userns,
    });
    let started = Instant::now();
    match clone3(Namespaces::WITHOUT_NET, None).map_err(|e| e.on("new namespaces"))? {
        Cloned::Child => {
            drop((status, go_write, stdout, stderr, stdin_write));
            let hand = Hand {
                status: status_inside,
                go,
                stdin: stdin_inside,
                stdout: stdout_inside,
                stderr: stderr_inside,
                mapped,
                filter,
            };
            init::run(spec, plan, hand)
        }
        Cloned::Parent(pid, pidfd) => {
            let running = Running { pid, pidfd, status, stdout, stderr, stdin: stdin_write, started };
            let held = Held { running, go: go_write, mapping };
            if spec.ids == Ids::Range {
                let line = IdMap { inside: 0, outside: RANGE_BASE, count: RANGE_COUNT };
                if let Err(e) = ns::map_child(pid, &[line], &[line]) {
                    held.abandon()?;
                    return Err(e);
                }
            }
            Ok(held)
        }
    }
}

/// Raise our soft limit of open files to what a start takes: every mount is a descriptor for a
/// while. The command's own limit is set from the policy.
fn room_for_descriptors(plan: &Plan) -> Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let needed = 64 + 2 * plan.mounts.len() as u64;
    let fail = |call| move |e| Error::new(call, "RLIMIT_NOFILE", e);
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(fail("getrlimit"))?;
    if soft < needed && soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, needed.min(hard), hard).map_err(fail("setrlimit"))?;
    }
    Ok(())
}

/// The mapping of an id-mapped mount: the tree's owner becomes the jail's user; every other owner
/// keeps an id of its own that the jail does not have, so that it can be seen but never taken.
fn mapping_for(owner: Owner, inside: u32) -> Result<Mapping> {
    const OTHERS: u32 = 1_100_000;
    const LIMIT: u32 = 1_000_000_000;
    let lines = |id: u32| {
        let mut lines = vec![IdMap { inside: id, outside: inside, count: 1 }];
        if id > 0 {
            lines.push(IdMap { inside: 0, outside: OTHERS, count: id });
        }
        if id < LIMIT {
            lines.push(IdMap { inside: id + 1, outside: OTHERS + id + 1, count: LIMIT - id });
        }
        lines
    };
    Mapping::new(&lines(owner.uid), &lines(owner.gid))
}

fn mapped_clone(m: &Mapped, mapping: &Mapping) -> Result<OwnedFd> {
    let name = || crate::base::text::printable(m.source.to_bytes());
    // Resolved before: a link in it now is somebody's trick (see `init::bind`).
    let exact = openat2::resolved(m.source.to_bytes()).map_err(|e| e.on(name()))?;
    let tree = mount::clone_tree(Some(exact.as_fd()), c"", false).map_err(|e| e.on(name()))?;
    mount::set_idmap(&tree, m.attr, mapping.userns(), false)
        .map_err(|e| Error { call: "mount_setattr(idmap)", ..e.on(name()) })?;
    Ok(tree)
}

const _: () = assert!(AGENT < RANGE_COUNT);
