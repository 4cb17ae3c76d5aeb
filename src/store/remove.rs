//! Removing a tree that a jail wrote: any names, any depth, any modes, never through a link.
//!
//! Iterative, with at most [`MAX_DEPTH`] levels open at once. A directory deeper than that is
//! renamed to the top of the tree being removed and dealt with there, so that neither the stack nor
//! the descriptors grow with the depth.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::dir::{Dir, OwningIter, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, fstat};
use nix::unistd::UnlinkatFlags;

use super::dirfd::{open_dir, unlink};
use super::error::{Error, Result};
use crate::base::text;
use crate::sys;

/// Levels open at once, two descriptors each.
const MAX_DEPTH: usize = 32;
/// How often a directory is read again when something was left in it.
const MAX_PASSES: u32 = 3;

/// Remove the directory `name` of `parent` with everything in it. Goes on after a failure, to remove
/// all that can be removed, and reports the first one. `shown` is the path for that error.
pub(super) fn remove_dir(parent: impl AsFd, name: &CStr, shown: &Path) -> Result<()> {
    let mut work = Work { failure: None, hoisted: 0 };
    match open_for_removal(&parent, name) {
        Ok(top) => match Level::new(top, name.to_owned()) {
            Ok(level) => work.empty(level),
            Err(e) => work.fail("open", name, e),
        },
        Err(Errno::ENOENT) => return Ok(()),
        Err(e) => work.fail("open", name, e),
    }
    if work.failure.is_none() {
        if let Err(e) = unlink(&parent, name, UnlinkatFlags::RemoveDir) {
            work.fail("rmdir", name, e);
        }
    }
    match work.failure {
        None => Ok(()),
        Some((call, at, errno)) => {
            let arg = format!("{} (in {})", at, text::os(shown));
            Err(Error::Sys(sys::Error::new(call, arg, errno)))
        }
    }
}

struct Level {
    fd: OwnedFd,
    entries: OwningIter,
    /// Its name in the level above.
    name: CString,
    /// Something in it could not be removed.
    stuck: bool,
    passes: u32,
}

impl Level {
    fn new(fd: OwnedFd, name: CString) -> Result<Level, Errno> {
        let entries = read(&fd)?;
        Ok(Level { fd, entries, name, stuck: false, passes: 1 })
    }
}

fn read(fd: &OwnedFd) -> Result<OwningIter, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(Dir::openat(fd, ".", flags, Mode::empty())?.into_iter())
}

struct Work {
    failure: Option<(&'static str, String, Errno)>,
    hoisted: u64,
}

impl Work {
    fn fail(&mut self, call: &'static str, name: &CStr, errno: Errno) {
        self.failure.get_or_insert_with(|| (call, text::printable(name.to_bytes()), errno));
    }

    /// Remove everything in `top`.
    fn empty(&mut self, top: Level) {
        let mut stack = vec![top];
        while let Some(depth) = stack.len().checked_sub(1) {
            let level = &mut stack[depth];
            match level.entries.next() {
                Some(Ok(entry)) => {
                    let name = entry.file_name();
                    if matches!(name.to_bytes(), b"." | b"..") {
                        continue;
                    }
                    match self.remove_entry(&mut stack, name, entry.file_type()) {
                        Ok(Some(child)) => stack.push(child),
                        Ok(None) => {}
                        Err((call, e)) => {
                            self.fail(call, name, e);
                            stack[depth].stuck = true;
                        }
                    }
                }
                Some(Err(e)) => {
                    let name = level.name.clone();
                    level.stuck = true;
                    self.fail("readdir", &name, e);
                    self.close(&mut stack);
                }
                None => self.close(&mut stack),
            }
        }
    }

    /// Remove one entry of the deepest level, or return it opened when it is a directory with entries.
    fn remove_entry(
        &mut self,
        stack: &mut [Level],
        name: &CStr,
        kind: Option<Type>,
    ) -> Result<Option<Level>, (&'static str, Errno)> {
        let Some(level) = stack.last() else { return Ok(None) };
        if kind != Some(Type::Directory) {
            match unlink(&level.fd, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) => return Ok(None),
                // Linux says EISDIR; POSIX and some file systems say EPERM.
                Err(Errno::EISDIR | Errno::EPERM) if kind.is_none() => {}
                Err(e) => return Err(("unlink", e)),
            }
        }
        match unlink(&level.fd, name, UnlinkatFlags::RemoveDir) {
            Ok(()) => return Ok(None),
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
            Err(e) => return Err(("rmdir", e)),
        }
        if stack.len() >= MAX_DEPTH {
            let (Some(top), Some(level)) = (stack.first(), stack.last()) else { return Ok(None) };
            // Moving a directory changes its `..`, for which it has to be writable.
            make_enterable(&level.fd, name).ok();
            return self.hoist(level, name, top).map(|()| None).map_err(|e| ("rename", e));
        }
        let opened = open_for_removal(&level.fd, name).map_err(|e| ("open", e))?;
        Level::new(opened, name.to_owned()).map(Some).map_err(|e| ("open", e))
    }

    /// Move a directory to the top, under a name nothing there has.
    fn hoist(&mut self, from: &Level, name: &CStr, top: &Level) -> Result<(), Errno> {
        loop {
            self.hoisted += 1;
            let new = format!(".aj-removing-{}", self.hoisted);
            match renameat(&from.fd, name, &top.fd, new.as_str()) {
                // A leftover of an earlier removal, or a file the jail gave that name.
                Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) if self.hoisted < 1 << 32 => {}
                other => return other,
            }
        }
    }

    /// The deepest level has been read to its end.
    fn close(&mut self, stack: &mut Vec<Level>) {
        let Some(level) = stack.pop() else { return };
        let Some(above) = stack.last_mut() else {
            // The top: what was hoisted meanwhile may lie behind the reading position.
            if self.again(&level) {
                self.reread(stack, level);
            }
            return;
        };
        match unlink(&above.fd, &level.name, UnlinkatFlags::RemoveDir) {
            Ok(()) => {}
            // Some file systems skip names when others are removed while they are read.
            Err(Errno::ENOTEMPTY | Errno::EEXIST) if !level.stuck && level.passes < MAX_PASSES => {
                self.reread(stack, level);
            }
            Err(e) => {
                above.stuck = true;
                self.fail("rmdir", &level.name, e);
            }
        }
    }

    fn again(&self, top: &Level) -> bool {
        // Each pass over the top takes at least MAX_DEPTH levels off every chain, unless it is stuck.
        !top.stuck && !super::dirfd::is_empty(&top.fd).unwrap_or(true)
    }

    fn reread(&mut self, stack: &mut Vec<Level>, mut level: Level) {
        match read(&level.fd) {
            Ok(entries) => {
                level.entries = entries;
                level.passes += 1;
                stack.push(level);
            }
            Err(e) => self.fail("open", &level.name, e),
        }
    }
}

/// Open a directory whose owner may have taken every permission away, and make its entries removable.
fn open_for_removal(parent: &impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let fd = match open_dir(parent, name) {
        Err(Errno::EACCES) => {
            make_enterable(parent, name)?;
            open_dir(parent, name)?
        }
        other => other?,
    };
    let mode = fstat(&fd)?.st_mode;
    if mode & 0o700 != 0o700 {
        // Fails for a directory of another owner, where it would not have helped either.
        fchmod(&fd, Mode::S_IRWXU).ok();
    }
    Ok(fd)
}

fn make_enterable(parent: &impl AsFd, name: &CStr) -> Result<(), Errno> {
    fchmodat(parent, name, Mode::S_IRWXU, FchmodatFlags::NoFollowSymlink)
}

/// [`remove_dir`] for tests and for directories of the store named by path.
#[cfg(test)]
pub(super) fn remove_path(path: &Path) -> Result<()> {
    let name = CString::new(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())).unwrap();
    let (parent, name) =
        (path.parent().unwrap(), name.to_bytes().rsplit(|&b| b == b'/').next().unwrap().to_vec());
    let parent = nix::fcntl::open(parent, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    remove_dir(parent, &CString::new(name).unwrap(), path)
}
