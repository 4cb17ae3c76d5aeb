//! Work below a directory descriptor: no path that a jail wrote is ever resolved by name.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::UnlinkatFlags;

use crate::sys::at;
use crate::sys::entries::Entries;
use crate::sys::openat2::{self, For};

/// The writable layer, beside `base` and `work`.
const UPPER: &CStr = c"upper";

/// Open the directory `name` of `parent`, never through a link and never into another mount.
pub(super) fn open_dir(parent: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_MAGICLINKS
                | ResolveFlag::RESOLVE_NO_XDEV,
        );
    retry(|| nix::fcntl::openat2(&parent, name, how))
}

/// Open the writable layer in the directory `layers`.
pub(super) fn open_upper(layers: impl AsFd) -> Result<OwnedFd, Errno> {
    open_top(layers, UPPER)
}

/// Open the directory `name` of `parent`, the top of what a jail wrote. A jail sets its permission bits, and may
/// have taken those away that its owner needs to look at it: then they are given back.
pub(super) fn open_top(parent: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    match open_dir(&parent, name) {
        Err(Errno::EACCES) => {}
        done => return done,
    }
    unlock(&parent, name)?;
    open_dir(&parent, name)
}

/// Whether there is a writable layer in the directory `layers`.
pub(super) fn has_upper(layers: impl AsFd) -> bool {
    fstatat(&layers, UPPER, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
}

/// Open the writable layer in the directory `layers` to its owner, where they could not read its top, or not enter
/// it. Whether there is one.
pub(super) fn unlock_upper(layers: impl AsFd) -> bool {
    let upper = fstatat(&layers, UPPER, AtFlags::AT_SYMLINK_NOFOLLOW);
    if upper.is_ok_and(|m| m.st_mode & 0o500 != 0o500) {
        unlock(&layers, UPPER).ok();
    }
    upper.is_ok()
}

/// Give the owner of the directory `name` of `parent`, the top of what a jail wrote, all permissions on it, as
/// it had when it was made. What is changed is what was opened, and no link.
pub(super) fn unlock(parent: impl AsFd, name: &CStr) -> Result<(), Errno> {
    let named = openat2::beneath(parent, name.to_bytes(), For::Passing).map_err(|e| e.errno)?;
    let mode = at::fstat(&named).map_err(|e| e.errno)?.mode;
    at::set_mode_by_path_fd(&named, mode & 0o7777 | 0o700).map_err(|e| e.errno)
}

/// Open a file of the store itself (never of a jail) with `flags`; mode 0600 when it is created.
pub(super) fn open_file(parent: impl AsFd, name: &str, flags: OFlag) -> Result<File, Errno> {
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    retry(|| openat(&parent, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)).map(File::from)
}

/// Repeat a call that a signal interrupted.
pub(super) fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// The names in a directory of the store itself, without `.` and `..`, in no order.
pub(super) fn names(dir: impl AsFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    let mut entries = Entries::again(dir).map_err(|e| e.errno)?;
    while let Some(entry) = entries.step().map_err(|e| e.errno)? {
        names.extend(CString::new(entry.name));
    }
    Ok(names)
}

/// Whether a directory has no entries; reads one entry at most, however many there are.
pub(super) fn is_empty(dir: impl AsFd) -> Result<bool, Errno> {
    let first = Entries::again(dir).and_then(|mut entries| Ok(entries.step()?.is_none()));
    first.map_err(|e| e.errno)
}

/// Remove a name; a name that is gone already is fine.
pub(super) fn unlink(dir: impl AsFd, name: &CStr, flag: UnlinkatFlags) -> Result<(), Errno> {
    match nix::unistd::unlinkat(dir, name, flag) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(e) => Err(e),
    }
}
