//! User namespace id maps, and the helper namespace that id-mapped mounts need.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use super::{Error, Result, check, clone, errno, pidfd};

/// One line of `uid_map`/`gid_map`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

fn write_file(call: &'static str, path: &str, text: &str) -> Result<()> {
    let fail = |e: Errno| Error::new(call, path, e);
    let fd = openat(AT_FDCWD, path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(fail)?;
    // The kernel takes a map in one write only.
    let n = File::from(fd).write(text.as_bytes()).map_err(|e| fail(errno(&e)))?;
    if n == text.len() { Ok(()) } else { Err(fail(Errno::EIO)) }
}

fn lines(maps: &[IdMap]) -> String {
    maps.iter().map(|m| format!("{} {} {}\n", m.inside, m.outside, m.count)).collect()
}

/// Map ids of this process's own new user namespace: one line each, to the caller's own ids, which
/// is all that the kernel lets an ordinary user do. Denies setgroups first, as it must.
pub fn map_self(uid: IdMap, gid: IdMap) -> Result<()> {
    map("self", &[uid], &[gid], true)
}

/// Map ids of another process's user namespace. Needs CAP_SETUID and CAP_SETGID in its parent.
pub fn map_child(pid: i32, uids: &[IdMap], gids: &[IdMap]) -> Result<()> {
    map(&pid.to_string(), uids, gids, false)
}

/// Map ids of another process's user namespace as [`map_self`] would there.
pub fn map_child_to_self(pid: i32, uid: IdMap, gid: IdMap) -> Result<()> {
    map(&pid.to_string(), &[uid], &[gid], true)
}

fn map(process: &str, uids: &[IdMap], gids: &[IdMap], deny_setgroups: bool) -> Result<()> {
    if deny_setgroups {
        write_file("write setgroups", &format!("/proc/{process}/setgroups"), "deny")?;
    }
    write_file("write uid_map", &format!("/proc/{process}/uid_map"), &lines(uids))?;
    write_file("write gid_map", &format!("/proc/{process}/gid_map"), &lines(gids))
}

/// Join the user and mount namespaces of a process, with every capability there. The caller is alone in
/// its process and has made the user namespace. `EINVAL` before Linux 5.8.
pub fn join_files(process: &OwnedFd) -> Result<()> {
    join(process, libc::CLONE_NEWUSER | libc::CLONE_NEWNS)
}

/// Join the network namespace of a process, if it is one of our user namespace's own: EPERM otherwise.
pub fn join_net(process: &OwnedFd) -> Result<()> {
    join(process, libc::CLONE_NEWNET)
}

/// Join the network namespace of a process by way of its user namespace, which the caller has made, with every
/// capability there. The caller is alone in its process. `EINVAL` before Linux 5.8.
pub fn join_net_of_user(process: &OwnedFd) -> Result<()> {
    join(process, libc::CLONE_NEWUSER | libc::CLONE_NEWNET)
}

fn join(process: &OwnedFd, namespaces: libc::c_int) -> Result<()> {
    // SAFETY: takes a descriptor and flags.
    let r = unsafe { libc::setns(process.as_raw_fd(), namespaces) };
    check("setns", libc::c_long::from(r)).map(drop)
}

/// Forbid further user namespaces below ours (`user.max_user_namespaces`, counted per namespace).
pub fn forbid_nested() -> Result<()> {
    write_file("write max_user_namespaces", "/proc/sys/user/max_user_namespaces", "0")
}

/// Bound the inotify instances and watches of our user namespace. What it uses counts for the user
/// who made it, too (`user_namespaces(7)`), who would be left without any.
pub fn limit_inotify(instances: u64, watches: u64) -> Result<()> {
    let path = "/proc/sys/user/max_inotify_instances";
    write_file("write max_inotify_instances", path, &instances.to_string())?;
    write_file("write max_inotify_watches", "/proc/sys/user/max_inotify_watches", &watches.to_string())
}

/// A user namespace that exists only to describe an id mapping to `mount_setattr`, and the process
/// that it was made with, which sleeps: to be ended when there is time. It goes with us in any case.
#[derive(Debug)]
pub struct Mapping {
    userns: OwnedFd,
    process: Option<OwnedFd>,
}

impl Mapping {
    /// Make one with these maps.
    pub fn new(uids: &[IdMap], gids: &[IdMap]) -> Result<Mapping> {
        let (pid, process) =
            clone::parked_in_userns().map_err(|e| e.on("user namespace of an id mapping"))?;
        let made = map_child(pid, uids, gids).and_then(|()| {
            let path = format!("/proc/{pid}/ns/user");
            openat(AT_FDCWD, path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(|e| Error::new("open", path, e))
        });
        match made {
            Ok(userns) => Ok(Mapping { userns, process: Some(process) }),
            Err(e) => {
                end(&process)?;
                Err(e)
            }
        }
    }

    /// The namespace, for `mount_setattr`.
    pub fn userns(&self) -> BorrowedFd<'_> {
        self.userns.as_fd()
    }

    /// End the process. Nobody has needed it since the namespace was open, but a start has no time for its end.
    pub fn finish(mut self) -> Result<()> {
        self.process.take().as_ref().map_or(Ok(()), end)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            end(&process).ok();
        }
    }
}

fn end(process: &OwnedFd) -> Result<()> {
    pidfd::signal(process.as_fd(), libc::SIGKILL)?;
    pidfd::reap(process.as_fd())
}
