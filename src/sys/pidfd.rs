//! Processes by descriptor: signals that cannot hit a reused pid, and the end with its resource use.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;

use super::{Error, Result, check};

/// A descriptor of the process `pid`.
pub fn open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: takes integers only.
    let fd = check("pidfd_open", unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel just returned a new descriptor that only we hold.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Send `signal`. `Ok(false)` when the process is gone.
pub fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<bool> {
    // SAFETY: a null siginfo asks for what kill(2) would send.
    let r = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<u8>(), 0)
    };
    match check("pidfd_send_signal", r) {
        Ok(_) => Ok(true),
        Err(Error { errno: Errno::ESRCH, .. }) => Ok(false),
        Err(e) => Err(e),
    }
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

/// CPU time and memory of a child and all it waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rusage {
    /// User CPU time.
    pub user: Duration,
    /// System CPU time.
    pub system: Duration,
    /// Largest resident set of one process, bytes.
    pub peak_rss: u64,
}

impl Rusage {
    fn of(usage: &libc::rusage) -> Rusage {
        let peak_rss = u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024;
        Rusage { user: time(usage.ru_utime), system: time(usage.ru_stime), peak_rss }
    }
}

fn time(t: libc::timeval) -> Duration {
    Duration::from_secs(u64::try_from(t.tv_sec).unwrap_or(0))
        + Duration::from_micros(u64::try_from(t.tv_usec).unwrap_or(0))
}

/// Wait for the child `pid` and reap it.
pub fn wait4(pid: i32) -> Result<(End, Rusage)> {
    let mut status: libc::c_int = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to live storage of the right type.
        let r = unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) };
        match check("wait4", libc::c_long::from(r)) {
            Ok(_) => break,
            Err(Error { errno: Errno::EINTR, .. }) => {}
            Err(e) => return Err(e),
        }
    }
    // SAFETY: zeroed at first, then filled in by the kernel.
    let usage = unsafe { usage.assume_init() };
    let end = if libc::WIFSIGNALED(status) {
        End::Signaled(libc::WTERMSIG(status))
    } else {
        End::Exited(libc::WEXITSTATUS(status))
    };
    Ok((end, Rusage::of(&usage)))
}

/// What the children that were waited for, and theirs, have used.
pub fn used_by_children() -> Rusage {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to live storage of the right type.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) };
    // SAFETY: zeroed at first, then filled in by the kernel.
    Rusage::of(&unsafe { usage.assume_init() })
}

/// What [`wait_any`] saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It has ended, and is reaped.
    Ended(End),
    /// It was stopped.
    Stopped,
}

/// Wait for any child and reap it, as pid 1 does: its pid and how it ended; with `stops`, also for one
/// that is stopped. `None` when there are none left, `Some(None)` when a signal interrupted the wait.
pub fn wait_any(stops: bool) -> Option<Option<(i32, Change)>> {
    let mut status: libc::c_int = 0;
    let flags = libc::__WALL | if stops { libc::WUNTRACED } else { 0 };
    // SAFETY: `status` is live storage of the right type.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, flags) };
    if pid > 0 {
        if libc::WIFSTOPPED(status) {
            return Some(Some((pid, Change::Stopped)));
        }
        let end = if libc::WIFSIGNALED(status) {
            End::Signaled(libc::WTERMSIG(status))
        } else {
            End::Exited(libc::WEXITSTATUS(status))
        };
        return Some(Some((pid, Change::Ended(end))));
    }
    if Errno::last() == Errno::EINTR { Some(None) } else { None }
}

/// Reap whatever child has ended, without waiting: whether there was one.
pub fn reap_any() -> bool {
    // SAFETY: a null status is allowed.
    unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::__WALL | libc::WNOHANG) > 0 }
}

/// Reap a child that has ended, without waiting: its pid. `Err(true)`: there are none left at all.
pub fn reap_one() -> std::result::Result<i32, bool> {
    // SAFETY: a null status is allowed.
    let pid = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::__WALL | libc::WNOHANG) };
    if pid > 0 { Ok(pid) } else { Err(pid < 0 && Errno::last() == Errno::ECHILD) }
}

/// The number of a process that is known by descriptor, as `/proc` has it here. `None`: it has ended.
pub fn number(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let text = super::fd::read_proc(&format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let text = String::from_utf8(text).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    line.trim().parse().ok().filter(|pid| *pid > 0)
}

/// Whether this process has no children at all, waited for or not.
pub fn no_children() -> bool {
    // SAFETY: a null status is allowed.
    let r = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::__WALL | libc::WNOHANG) };
    r < 0 && Errno::last() == Errno::ECHILD
}

/// Whether the kernel calls the process `pid` by this name, which only the process itself can change.
pub fn is_named(pid: i32, name: &str) -> bool {
    super::fd::read_proc(&format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_ascii() == name.as_bytes())
}

/// Wait until the process behind a pidfd has ended, whoever's child it is, at most until `until`; whether it has.
pub fn ends(pidfd: BorrowedFd<'_>, until: std::time::Instant) -> Result<bool> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    loop {
        let left = until.saturating_duration_since(std::time::Instant::now());
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pidfd, PollFlags::POLLIN)], timeout) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(e) => return Err(Error::new("poll", "pidfd", e)),
        }
    }
}

/// Wait for and reap the child behind a pidfd, discarding how it ended.
pub fn reap(pidfd: BorrowedFd<'_>) -> Result<()> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    loop {
        // SAFETY: `info` is live storage of the right type.
        let r = unsafe {
            libc::waitid(libc::P_PIDFD, pidfd.as_raw_fd() as libc::id_t, info.as_mut_ptr(), libc::WEXITED)
        };
        match check("waitid", libc::c_long::from(r)) {
            Ok(_) => return Ok(()),
            Err(Error { errno: Errno::EINTR, .. }) => {}
            Err(e) => return Err(e),
        }
    }
}
