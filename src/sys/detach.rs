//! This program once more, as a process that its caller does not take along: in a session of its own, with
//! nothing of the caller's open and none of its signals ignored.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::pidfd;
use super::umask;

/// Start it with these arguments in `dir`, which it knows by that name: its pid, and what it writes to its
/// stdout. Its stdin and stderr lead nowhere.
pub fn start<'a>(words: impl IntoIterator<Item = &'a OsStr>, dir: &Path) -> io::Result<(u32, File)> {
    let mut command = Command::new("/proc/self/exe");
    umask::hand_on(&mut command);
    command
        .arg0("aj")
        .args(words)
        .current_dir(dir)
        .env("PWD", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    // SAFETY: between fork and exec it makes system calls that take integers only.
    unsafe { command.pre_exec(let_go) };
    let mut child = command.spawn()?;
    let pid = child.id();
    let said = child.stdout.take().map(OwnedFd::from);
    said.map(|fd| (pid, File::from(fd))).ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
}

/// A helper of this process, killed when this is dropped or the process ends.
#[derive(Debug)]
pub struct Helper(OwnedFd);

impl Drop for Helper {
    fn drop(&mut self) {
        pidfd::signal(self.0.as_fd(), libc::SIGKILL).ok();
        // Whoever ends all that descends from this process may have been first.
        pidfd::reap(self.0.as_fd()).ok();
    }
}

/// Start one: its standard descriptors lead nowhere.
pub fn helper<'a>(words: impl IntoIterator<Item = &'a OsStr>) -> io::Result<Helper> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("aj").args(words).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    umask::hand_on(&mut command);
    end_with_us(&mut command);
    let mut child = command.spawn()?;
    let opened = pidfd::open(i32::try_from(child.id()).unwrap_or(0));
    opened.map(Helper).map_err(|e| {
        child.kill().ok();
        child.wait().ok();
        e.errno.into()
    })
}

/// Have what `command` starts killed at the end of the thread that starts it, however that comes.
pub fn end_with_us(command: &mut Command) {
    let parent = std::process::id();
    let end_with_parent = move || {
        // SAFETY: takes integers only.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        // It may have ended before it could be told so.
        if std::os::unix::process::parent_id() == parent {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(libc::ESRCH))
        }
    };
    // SAFETY: between fork and exec it makes system calls that take integers only.
    unsafe { command.pre_exec(end_with_parent) };
}

fn let_go() -> io::Result<()> {
    // SAFETY: take integers only; marking descriptors leaves those that the standard library uses until exec.
    unsafe {
        // Fails in the leader of a group, which a child that was just forked is not.
        libc::setsid();
        // A shell without job control has its background commands ignore these, and so does nohup.
        for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGTERM, libc::SIGCHLD] {
            libc::signal(signal, libc::SIG_DFL);
        }
        let from = 3 as libc::c_uint;
        let flag = libc::CLOSE_RANGE_CLOEXEC as libc::c_uint;
        if libc::syscall(libc::SYS_close_range, from, libc::c_uint::MAX, flag) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
