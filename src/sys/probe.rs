//! Trying things in a child that may be refused, hang or die: for `aj doctor`.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::clone::exit_now;
use super::pidfd::End;
use super::{Error, Result, caps, check, fd};

/// How a child of [`in_child`] ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It gave this answer.
    Said(Vec<u8>),
    /// It took too long and was killed.
    TimedOut,
    /// It ended without an answer.
    Died(End),
}

/// Largest answer that is read.
const MOST: usize = 64 * 1024;

/// Leaves the child whatever happens: a panic must not go on as a second copy of the caller.
struct Leave;

impl Drop for Leave {
    fn drop(&mut self) {
        exit_now(101)
    }
}

/// Run `work` in a forked child and return the bytes it gives, waiting no longer than `limit`.
///
/// An ordinary fork, not `clone3`, because `clone3` is one of the things to be tried. The process
/// must be single-threaded (checked: EBUSY otherwise): `work` runs on a copy of this memory. The
/// child dies with this process; what it starts itself it must let die with it.
pub fn in_child(limit: Duration, work: impl FnOnce() -> Vec<u8>) -> Result<Ended> {
    let tasks =
        nix::sys::stat::stat(c"/proc/self/task").map_err(|e| Error::new("stat", "/proc/self/task", e))?;
    // Test programs have threads, but in a copy of them only the forking one exists.
    if tasks.st_nlink != 3 && !cfg!(test) {
        return Err(Error::new("fork", "with threads running", Errno::EBUSY));
    }
    let (answer, ours) = fd::pipe()?;
    let deadline = Instant::now() + limit;
    let parent = nix::unistd::getpid();
    // SAFETY: single-threaded as just checked, so no lock is held by a thread that the child lacks.
    let pid = check("fork", libc::c_long::from(unsafe { libc::fork() }))? as i32;
    if pid == 0 {
        let _leave = Leave;
        drop(answer);
        if caps::die_with_parent().is_ok() && nix::unistd::getppid() == parent {
            write_all(&ours, &work());
            exit_now(0)
        }
        exit_now(102)
    }
    drop(ours);
    let said = read_until(&answer, deadline);
    if said.is_none() {
        // SAFETY: takes integers; the child is ours and not yet reaped.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
    let end = reap(pid, deadline.max(Instant::now()) + Duration::from_millis(200))?;
    Ok(match (said, end) {
        (Some(bytes), _) if !bytes.is_empty() => Ended::Said(bytes),
        (Some(_), Some(end)) => Ended::Died(end),
        _ => Ended::TimedOut,
    })
}

fn write_all(to: &OwnedFd, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match nix::unistd::write(to, bytes) {
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            // Nobody listens any more.
            Err(_) => return,
        }
    }
}

/// Everything until end of file; `None` when the time is up first.
fn read_until(from: &OwnedFd, deadline: Instant) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = [0u8; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let wait = PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(from.as_fd(), PollFlags::POLLIN)], wait) {
            Ok(0) if left.is_zero() => return None,
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) | Err(_) => {}
        }
        match nix::unistd::read(from, &mut buffer) {
            Ok(0) => return Some(all),
            Ok(n) if all.len() < MOST => all.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return Some(all),
        }
    }
}

/// Reap `pid`. `None` when it is still there at `deadline`: stuck in the kernel, and left to it.
fn reap(pid: i32, deadline: Instant) -> Result<Option<End>> {
    let mut status: libc::c_int = 0;
    loop {
        // SAFETY: `status` is live storage of the right type.
        let r = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
        match check("waitpid", libc::c_long::from(r)) {
            Ok(0) if Instant::now() >= deadline => return Ok(None),
            Ok(0) => std::thread::sleep(Duration::from_micros(200)),
            Ok(_) if libc::WIFSIGNALED(status) => return Ok(Some(End::Signaled(libc::WTERMSIG(status)))),
            Ok(_) => return Ok(Some(End::Exited(libc::WEXITSTATUS(status)))),
            Err(Error { errno: Errno::EINTR, .. }) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Start a child that does nothing until it is killed, which happens when it is dropped.
#[derive(Debug)]
pub struct Idle(i32);

impl Idle {
    /// Start it. Only in a single-threaded process, as [`in_child`].
    pub fn start() -> Result<Idle> {
        // SAFETY: the child only makes system calls until it is killed.
        let pid = check("fork", libc::c_long::from(unsafe { libc::fork() }))? as i32;
        if pid == 0 {
            let _leave = Leave;
            if caps::die_with_parent().is_ok() {
                loop {
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
            exit_now(102)
        }
        Ok(Idle(pid))
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        // SAFETY: takes integers; the child is ours and not yet reaped.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        // It has just been killed; whether it could be reaped changes nothing.
        drop(reap(self.0, Instant::now() + Duration::from_millis(200)));
    }
}

/// A descriptor of this process itself, and a signal 0 through it.
pub fn pidfd_of_self() -> Result<()> {
    // SAFETY: takes integers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) };
    let fd = check("pidfd_open", fd)?;
    // SAFETY: a new descriptor that only we hold.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) };
    super::pidfd::signal(fd.as_fd(), 0).map(drop)
}

/// Whether `number` is an open descriptor of this process.
pub fn is_open(number: impl AsRawFd) -> bool {
    // SAFETY: takes integers only.
    unsafe { libc::fcntl(number.as_raw_fd(), libc::F_GETFD) >= 0 }
}

/// The kernel's Landlock ABI, or why there is none: ENOSYS not built in, EOPNOTSUPP not switched on.
pub fn landlock_abi() -> Result<i32> {
    landlock_query(1)
}

/// Bit set of the Landlock bugs that this kernel has fixed (Linux 6.15).
pub fn landlock_errata() -> Result<i32> {
    landlock_query(2)
}

fn landlock_query(flag: libc::c_uint) -> Result<i32> {
    // SAFETY: a null attribute with size 0 and one of these flags asks for a number.
    let r = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, flag) };
    check("landlock_create_ruleset", r).map(|v| v as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_answers_or_dies_or_is_killed_in_time() {
        assert_eq!(in_child(Duration::from_secs(5), || b"yes".to_vec()), Ok(Ended::Said(b"yes".to_vec())));
        let long = vec![7u8; 20_000];
        assert_eq!(in_child(Duration::from_secs(5), || long.clone()), Ok(Ended::Said(long.clone())));
        assert_eq!(in_child(Duration::from_secs(5), || exit_now(3)), Ok(Ended::Died(End::Exited(3))));
        let started = Instant::now();
        let hung = in_child(Duration::from_millis(100), || {
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        assert_eq!(hung, Ok(Ended::TimedOut));
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    }

    #[test]
    fn an_idle_child_ends_when_it_is_dropped() {
        let idle = Idle::start().unwrap();
        let pid = idle.0;
        assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
        drop(idle);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
