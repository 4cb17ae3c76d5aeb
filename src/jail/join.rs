//! Joining a jail: the caller's side of `jail::serve`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen as listen_on,
    socket, sockopt,
};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::confine::Stdio;
use super::launch::{self, Joined, Outside, Running, Streams};
use super::limits::Limits;
use super::live::{Answer, Ask, LARGEST, VERSION};
pub use super::live::{Job, Serve};
use super::spec::Birth;
use super::wire;
use crate::store::fault;
use crate::sys::{Error, Result, fd, pidfd, terminal};

/// The socket's name in the directory of what the jail belongs to.
const NAME: &str = "live";

fn address(dir: BorrowedFd<'_>) -> Result<UnixAddr> {
    // Of any length: `sun_path` takes 108 bytes.
    let path = format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd());
    UnixAddr::new(path.as_str()).map_err(|e| Error::new("socket address", path, e))
}

fn new_socket() -> Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|e| Error::new("socket", "AF_UNIX", e))
}

/// Listen for commands that join, in `dir`, which is ours alone. The caller holds the lock under which jails
/// are started there: what listens there is dead.
pub fn listen(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    let fail = |call| move |e| Error::new(call, NAME, e);
    fault::point();
    match unlinkat(dir, NAME, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(e) => return Err(fail("unlink")(e)),
    }
    let listener = new_socket()?;
    fault::point();
    bind(listener.as_raw_fd(), &address(dir)?).map_err(fail("bind"))?;
    fchmodat(dir, NAME, Mode::S_IRUSR | Mode::S_IWUSR, FchmodatFlags::FollowSymlink)
        .map_err(fail("chmod"))?;
    fault::point();
    // Of more at once, the others wait for a place.
    listen_on(&listener, Backlog::MAXCONN).map_err(fail("listen"))?;
    Ok(listener)
}

/// Take the name of a jail that has ended away.
pub fn forget(dir: BorrowedFd<'_>) {
    fault::point();
    unlinkat(dir, NAME, UnlinkatFlags::NoRemoveDir).ok();
}

/// Whether a jail has ended that could not take its name away: what held it was killed.
pub fn is_left(dir: BorrowedFd<'_>) -> bool {
    fstatat(dir, NAME, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
}

/// Whether nobody can find the jail that listens there: its name is gone. Not being able to look is no sign of it.
pub fn is_lost(dir: BorrowedFd<'_>) -> bool {
    let looked = fstatat(dir, NAME, AtFlags::AT_SYMLINK_NOFOLLOW);
    matches!(looked, Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE))
}

/// When a jail began to listen, by what the file system says of its name.
pub fn since(dir: BorrowedFd<'_>) -> Option<std::fs::Metadata> {
    std::fs::symlink_metadata(format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd())).ok()
}

/// A live jail that has said who it is.
#[derive(Debug)]
pub struct Live {
    conn: OwnedFd,
    /// What it shows to whoever joins.
    pub blueprint: Vec<u8>,
    /// The process that started it, as the kernel noted it when it began to listen.
    pub holder: i32,
}

/// What came of an attempt to reach one.
#[derive(Debug)]
pub enum Reached {
    /// It is there.
    Live(Live),
    /// There is none, or it has just ended.
    None,
    /// It is there and does not answer: it stands still.
    Silent {
        /// See [`Live::holder`].
        holder: i32,
    },
    /// It is of another version of aj.
    Strange {
        /// See [`Live::holder`].
        holder: i32,
    },
}

/// Reach the live jail of `dir`, waiting for its first word for `patience`.
pub fn reach(dir: BorrowedFd<'_>, patience: Duration) -> Result<Reached> {
    let conn = new_socket()?;
    loop {
        match connect(conn.as_raw_fd(), &address(dir)?) {
            Ok(()) => break,
            Err(Errno::EINTR) => {}
            Err(Errno::ENOENT | Errno::ECONNREFUSED | Errno::ECONNRESET) => return Ok(Reached::None),
            Err(e) => return Err(Error::new("connect", NAME, e)),
        }
    }
    let peer = getsockopt(&conn, sockopt::PeerCredentials).map_err(|e| Error::new("getsockopt", NAME, e))?;
    if peer.uid() != nix::unistd::geteuid().as_raw() {
        return Err(Error::new("connect", NAME, Errno::EACCES));
    }
    let holder = peer.pid();
    match hear(&conn, Some(patience))? {
        Heard::Silence => Ok(Reached::Silent { holder }),
        Heard::End => Ok(Reached::None),
        Heard::Answer(Answer::Hello(VERSION), fds) => {
            let Some(blueprint) = fds.into_iter().next() else {
                return Err(Error::new("recvmsg", "blueprint", Errno::EMFILE));
            };
            let blueprint = fd::read_sealed(&blueprint, LARGEST)?;
            Ok(Reached::Live(Live { conn, blueprint, holder }))
        }
        Heard::Answer(..) | Heard::Nonsense => Ok(Reached::Strange { holder }),
    }
}

enum Heard {
    Answer(Answer, Vec<OwnedFd>),
    /// Nothing in time.
    Silence,
    /// The jail is gone.
    End,
    Nonsense,
}

/// Wait for the next answer; without `patience`, for ever.
fn hear(conn: &OwnedFd, patience: Option<Duration>) -> Result<Heard> {
    let until = patience.map(|p| Instant::now() + p);
    loop {
        match Answer::receive(conn) {
            Ok(Some((answer, fds))) => return Ok(Heard::Answer(answer, fds)),
            Ok(None) => return Ok(Heard::End),
            Err(Errno::EBADMSG | Errno::EMSGSIZE) => return Ok(Heard::Nonsense),
            Err(Errno::EAGAIN) => {}
            Err(e) => return Err(Error::new("recvmsg", NAME, e)),
        }
        let timeout = match until {
            None => PollTimeout::NONE,
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(Heard::Silence);
                }
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut [PollFd::new(conn.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(Error::new("poll", NAME, e)),
        }
    }
}

/// What came of asking for a command to be run.
#[derive(Debug)]
pub enum Asked {
    /// Its process is being made, and waits for [`Waiting::start`].
    Waiting(Waiting),
    /// So many commands run, and it or one of them wants to be alone.
    Busy(u32),
    /// The jail has ended, and nothing has run.
    Gone,
}

/// A command that is about to join, and waits before it runs. Dropped instead, it ends by itself.
#[derive(Debug)]
pub struct Waiting {
    conn: OwnedFd,
    status: OwnedFd,
    outside: Outside,
    started: Instant,
}

/// What came of handing an order over.
#[derive(Debug)]
pub enum Handed {
    /// It is being carried out.
    Taken(Hand),
    /// A command that wants to be alone runs, among so many.
    Busy(u32),
    /// The jail has ended, and nothing was done.
    Gone,
    /// The jail could not make a process.
    Refused(Errno),
}

/// The process that carries out an order. It is ended when this is dropped before it has ended.
#[derive(Debug)]
pub struct Hand {
    _conn: OwnedFd,
    /// Its number here, as long as it is there.
    pub pid: Option<i32>,
}

/// What came of its start.
#[derive(Debug)]
pub enum Begun {
    /// It runs, or says soon why it does not.
    Running(Running),
    /// The jail could not make a process.
    Refused(Errno),
    /// The jail was killed at that moment.
    Died,
}

impl Waiting {
    /// Let the command run, in groups of its own where it has `limits`: its start is recorded.
    pub fn start(self, limits: Option<&mut Limits>) -> Result<Begun> {
        let Waiting { conn, status, outside: Outside { stdout, stderr, stdin }, started } = self;
        if limits.is_none() {
            wire::send_start(&status, &[])?;
        }
        match hear(&conn, None)? {
            Heard::Answer(Answer::Forked(inner), fds) => {
                let Some(pidfd) = fds.into_iter().next() else {
                    return Err(Error::new("recvmsg", "pidfd", Errno::EMFILE));
                };
                // Gone already: it says why on the status socket.
                let pid = pidfd::number(pidfd.as_fd()).unwrap_or(0);
                match limits {
                    Some(limits) if pid > 0 => match limits.open(pid) {
                        Err(e) if e.errno == Errno::ESRCH => hang_up(status.as_fd()),
                        doors => wire::send_start(&status, &doors?)?,
                    },
                    // It is not to begin without them.
                    Some(_) => hang_up(status.as_fd()),
                    None => {}
                }
                let joined = Some(Joined { conn, inner });
                Ok(Begun::Running(Running {
                    pid,
                    pidfd,
                    status,
                    stdout,
                    stderr,
                    stdin,
                    started,
                    said: None,
                    joined,
                }))
            }
            Heard::Answer(Answer::Failed(errno), _) => Ok(Begun::Refused(errno)),
            Heard::End => Ok(Begun::Died),
            Heard::Answer(..) | Heard::Silence | Heard::Nonsense => {
                Err(Error::new("recvmsg", NAME, Errno::EBADMSG))
            }
        }
    }
}

/// What runs in a live jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Commands that joined.
    pub commands: u32,
    /// Processes, ours not counted.
    pub processes: u32,
    /// It does not end with its last process.
    pub keep: bool,
}

impl Live {
    /// The process that holds it, by descriptor; `None`: it has just ended, or cannot be seen from here.
    pub fn holder(&self) -> Option<OwnedFd> {
        let process = pidfd::open(self.holder).ok()?;
        // While the jail is there so is its holder, which makes this it and no later process of its number.
        (!wire::is_closed(&self.conn)).then_some(process)
    }

    /// Have `job` run with these streams. `birth`: that of the jail. `exclusive`: only where nothing else runs.
    pub fn exec(self, mut job: Job, birth: &Birth, streams: Streams, exclusive: bool) -> Result<Asked> {
        let started = Instant::now();
        let (status, status_inside) = wire::pair()?;
        let (stdio, outside) = launch::stdio(birth, streams)?;
        let mut inside: Vec<OwnedFd> = Vec::with_capacity(3);
        let ask = match stdio {
            Stdio::Terminal(settings) => {
                job.terminal = Some(terminal::Sent::from(&settings));
                Ask::Exec { stdin: false, stderr: false, terminal: true, exclusive }
            }
            Stdio::Pipes { stdin, stdout, stderr } => {
                let ask = Ask::Exec {
                    stdin: stdin.is_some(),
                    stderr: stderr.is_some(),
                    terminal: false,
                    exclusive,
                };
                inside.extend(stdin.into_iter().chain([stdout]).chain(stderr));
                ask
            }
            Stdio::Serve(_) => return Err(Error::new("join", "streams", Errno::EINVAL)),
        };
        let bytes = postcard::to_allocvec(&job).map_err(|_| Error::new("write", "job", Errno::EINVAL))?;
        if bytes.len() > LARGEST {
            return Err(Error::new("write", "job", Errno::E2BIG));
        }
        let job = fd::sealed(&bytes)?;
        let fds: Vec<BorrowedFd<'_>> =
            [job.as_fd(), status_inside.as_fd()].into_iter().chain(inside.iter().map(AsFd::as_fd)).collect();
        match ask.send(&self.conn, &fds) {
            Ok(()) => {}
            Err(Errno::EPIPE | Errno::ECONNRESET) => return Ok(Asked::Gone),
            Err(e) => return Err(Error::new("sendmsg", NAME, e)),
        }
        drop((status_inside, inside));
        match hear(&self.conn, None)? {
            Heard::Answer(Answer::Taken, _) => {
                Ok(Asked::Waiting(Waiting { conn: self.conn, status, outside, started }))
            }
            Heard::Answer(Answer::Busy(n), _) => Ok(Asked::Busy(n)),
            Heard::End => Ok(Asked::Gone),
            Heard::Answer(..) | Heard::Silence | Heard::Nonsense => {
                Err(Error::new("recvmsg", NAME, Errno::EBADMSG))
            }
        }
    }

    /// Have `order` carried out in it: see `jail::hands`. `input`: what is sent along; `output`: for the answer.
    pub fn hand(self, order: &[u8], input: &OwnedFd, output: &OwnedFd) -> Result<Handed> {
        if order.len() > LARGEST {
            return Err(Error::new("write", "order", Errno::E2BIG));
        }
        let order = fd::sealed(order)?;
        match Ask::Hand.send(&self.conn, &[order.as_fd(), input.as_fd(), output.as_fd()]) {
            Ok(()) => {}
            Err(Errno::EPIPE | Errno::ECONNRESET) => return Ok(Handed::Gone),
            Err(e) => return Err(Error::new("sendmsg", NAME, e)),
        }
        match hear(&self.conn, Some(ANSWER))? {
            Heard::Answer(Answer::Taken, _) => {}
            Heard::Answer(Answer::Busy(n), _) => return Ok(Handed::Busy(n)),
            Heard::End => return Ok(Handed::Gone),
            Heard::Silence => return Err(Error::new("recvmsg", NAME, Errno::ETIMEDOUT)),
            Heard::Answer(..) | Heard::Nonsense => return Err(Error::new("recvmsg", NAME, Errno::EBADMSG)),
        }
        match hear(&self.conn, Some(ANSWER))? {
            Heard::Answer(Answer::Forked(_), fds) => {
                let pidfd = fds.into_iter().next();
                let pid = pidfd.as_ref().and_then(|pidfd| pidfd::number(pidfd.as_fd()));
                Ok(Handed::Taken(Hand { _conn: self.conn, pid }))
            }
            Heard::Answer(Answer::Failed(errno), _) => Ok(Handed::Refused(errno)),
            // It may be at it already.
            Heard::End => Ok(Handed::Taken(Hand { _conn: self.conn, pid: None })),
            Heard::Silence => Err(Error::new("recvmsg", NAME, Errno::ETIMEDOUT)),
            Heard::Answer(..) | Heard::Nonsense => Err(Error::new("recvmsg", NAME, Errno::EBADMSG)),
        }
    }

    /// Say what runs; `None`: it has just ended.
    pub fn look(self) -> Result<Option<Seen>> {
        match self.ask(Ask::Look)? {
            Some(Answer::Seen { commands, processes, keep }) => Ok(Some(Seen { commands, processes, keep })),
            _ => Ok(None),
        }
    }

    /// Have it not end with its last process; whether it is there to hear that.
    pub fn keep(self) -> Result<bool> {
        Ok(self.ask(Ask::Keep)? == Some(Answer::Done))
    }

    /// Wait until it has ended, at most for `patience`; whether it has.
    pub fn wait(self, patience: Option<Duration>) -> Result<bool> {
        if self.ask(Ask::Wait)?.is_none() {
            return Ok(true);
        }
        Ok(matches!(hear(&self.conn, patience)?, Heard::End))
    }

    fn ask(&self, ask: Ask) -> Result<Option<Answer>> {
        match ask.send(&self.conn, &[]) {
            Ok(()) => {}
            Err(Errno::EPIPE | Errno::ECONNRESET) => return Ok(None),
            Err(e) => return Err(Error::new("sendmsg", NAME, e)),
        }
        match hear(&self.conn, Some(ANSWER))? {
            Heard::Answer(answer, _) => Ok(Some(answer)),
            Heard::End => Ok(None),
            Heard::Silence => Err(Error::new("recvmsg", NAME, Errno::ETIMEDOUT)),
            Heard::Nonsense => Err(Error::new("recvmsg", NAME, Errno::EBADMSG)),
        }
    }
}

/// How long the answer to a small question is waited for.
const ANSWER: Duration = Duration::from_secs(5);

/// Say nothing more. The jail's pid 1 ends all of a command that has joined, whose connection this is.
pub(super) fn hang_up(conn: BorrowedFd<'_>) {
    nix::sys::socket::shutdown(conn.as_raw_fd(), nix::sys::socket::Shutdown::Write).ok();
}

/// What became of the jail that a command had joined, once the command has ended; `outputs` are what nobody
/// reads any more, and others may still write to.
pub(super) fn after(conn: &OwnedFd, outputs: &[OwnedFd], patience: Duration) -> Result<bool> {
    if !outputs.is_empty() {
        let fds: Vec<BorrowedFd<'_>> = outputs.iter().map(AsFd::as_fd).collect();
        Ask::Drain.send(conn, &fds).ok();
    }
    Ok(!matches!(hear(conn, Some(patience))?, Heard::Answer(Answer::Done, _)))
}
