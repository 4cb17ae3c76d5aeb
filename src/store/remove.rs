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
use super::fault;
use crate::base::text;
use crate::sys;

/// Levels open at once, two descriptors each.
const MAX_DEPTH: usize = 32;
/// How often a directory is read again when something was left in it.
const MAX_PASSES: u32 = 3;

/// Remove the directory `name` of `parent` with everything in it. Goes on after a failure, to remove
/// all that can be removed, and reports the first one. `shown` is the path for that error.
pub(super) fn remove_dir(parent: impl AsFd, name: &CStr, shown: &Path) -> Result<()> {
    remove_dir_while(parent, name, shown, &mut || true).map(drop)
}

/// The same as long as `go_on`, asked for each entry, says yes. `false`: it said no, and a part is left.
pub(super) fn remove_dir_while(
    parent: impl AsFd,
    name: &CStr,
    shown: &Path,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<bool> {
    let mut work = Work { failure: None, hoisted: 0, go_on, stopped: false };
    if !work.clear(&parent, name) {
        return Ok(true);
    }
    fault::point();
    if work.failure.is_none()
        && !work.stopped
        && let Err(e) = unlink(&parent, name, UnlinkatFlags::RemoveDir)
    {
        work.fail("rmdir", name, e);
    }
    work.outcome(shown)
}

/// Remove everything in the directory `name` of `parent`, which stays; fine when there is none.
pub(super) fn clear_dir(parent: impl AsFd, name: &CStr, shown: &Path) -> Result<()> {
    let mut work = Work { failure: None, hoisted: 0, go_on: &mut || true, stopped: false };
    work.clear(&parent, name);
    work.outcome(shown).map(drop)
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

struct Work<'a> {
    failure: Option<(&'static str, String, Errno)>,
    hoisted: u64,
    go_on: &'a mut dyn FnMut() -> bool,
    stopped: bool,
}

impl Work<'_> {
    fn fail(&mut self, call: &'static str, name: &CStr, errno: Errno) {
        self.failure.get_or_insert_with(|| (call, text::printable(name.to_bytes()), errno));
    }

    /// Remove everything in the directory `name` of `parent`; `false`: there is none.
    fn clear(&mut self, parent: impl AsFd, name: &CStr) -> bool {
        match open_for_removal(&parent, name) {
            Ok(top) => match Level::new(top, name.to_owned()) {
                Ok(level) => self.empty(level),
                Err(e) => self.fail("open", name, e),
            },
            Err(Errno::ENOENT) => return false,
            Err(e) => self.fail("open", name, e),
        }
        true
    }

    /// Whether it came to its end.
    fn outcome(self, shown: &Path) -> Result<bool> {
        match self.failure {
            None => Ok(!self.stopped),
            // NFS keeps what is still open under such a name, and the directory with it: the next sweep takes both.
            Some(("unlink", name, Errno::EBUSY)) if name.starts_with(".nfs") => Ok(false),
            Some((call, at, errno)) => {
                let arg = format!("{} (in {})", at, text::os(shown));
                Err(Error::Sys(sys::Error::new(call, arg, errno)))
            }
        }
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
                    if !(self.go_on)() {
                        self.stopped = true;
                        return;
                    }
                    fault::point();
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

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::{SFlag, mkdirat, mknodat};
    use std::ffi::OsStr;
    use std::fs::{self, File, Permissions};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn remove(dir: &Path, name: &str) -> Result<()> {
        remove_dir(File::open(dir).unwrap(), &CString::new(name).unwrap(), dir)
    }

    #[test]
    fn names_types_and_modes_of_every_kind_go_and_link_targets_stay() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "kept").unwrap();
        fs::set_permissions(&outside, Permissions::from_mode(0o750)).unwrap();
        let top = dir.path().join("top");
        fs::create_dir_all(top.join("a/b/c")).unwrap();
        for name in [&b"\xff\xfe"[..], b"new\nline", b"-rf", b"*", b"\x1b]0;x\x07", &[b'n'; 255]] {
            fs::write(top.join("a").join(OsStr::from_bytes(name)), "").unwrap();
            fs::create_dir_all(top.join("a/b").join(OsStr::from_bytes(name)).join("x")).unwrap();
        }
        symlink(&outside, top.join("a/link")).unwrap();
        symlink("../../outside", top.join("a/relative")).unwrap();
        symlink("loop", top.join("a/loop")).unwrap();
        symlink("/", top.join("root")).unwrap();
        mknodat(File::open(&top).unwrap(), "pipe", SFlag::S_IFIFO, Mode::S_IRWXU, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(top.join("socket")).unwrap();
        // A whiteout, where the kernel lets us make one.
        mknodat(File::open(&top).unwrap(), "whiteout", SFlag::S_IFCHR, Mode::empty(), 0).ok();
        fs::create_dir_all(top.join("locked/inner/deep")).unwrap();
        fs::write(top.join("locked/inner/file"), "").unwrap();
        for path in ["locked/inner/deep", "locked/inner", "locked"] {
            fs::set_permissions(top.join(path), Permissions::from_mode(0o0)).unwrap();
        }
        for n in 0..3000 {
            fs::write(top.join(format!("a/b/c/{n}")), "").unwrap();
        }
        remove(dir.path(), "top").unwrap();
        assert!(!top.exists());
        assert_eq!(fs::read(outside.join("kept")).unwrap(), b"kept");
        assert_eq!(fs::metadata(&outside).unwrap().permissions().mode() & 0o777, 0o750);
        remove(dir.path(), "top").unwrap();
    }

    #[test]
    fn a_link_in_place_of_the_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        fs::write(dir.path().join("real/kept"), "").unwrap();
        symlink("real", dir.path().join("link")).unwrap();
        assert!(remove(dir.path(), "link").is_err());
        assert!(dir.path().join("real/kept").exists());
    }

    /// A chain `d/d/d/…`, deeper than any path the kernel takes, each level with a file beside it.
    fn chain(top: &Path, depth: usize, mode: u32) {
        let mut at: OwnedFd = File::open(top).unwrap().into();
        for _ in 0..depth {
            mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
            let next = open_dir(&at, c"d").unwrap();
            drop(nix::fcntl::openat(&at, "f", OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRWXU).unwrap());
            fchmod(&at, Mode::from_bits_truncate(mode)).unwrap();
            at = next;
        }
    }

    #[test]
    fn ten_thousand_levels_go_with_few_descriptors() {
        // In memory where possible: making the chain takes ten times as long as removing it.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let top = dir.path().join("top");
        for name in ["one", "two", ".aj-removing-1", ".aj-removing-3/full"] {
            fs::create_dir_all(top.join(name)).unwrap();
        }
        fs::write(top.join(".aj-removing-2"), "a file that has the name").unwrap();
        chain(&top.join("one"), 10_000, 0o700);
        chain(&top.join("two"), 300, 0);
        remove(dir.path(), "top").unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn what_cannot_be_removed_is_named_and_the_rest_goes() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIP: needs a directory of another owner, which only root can make");
            return;
        }
        use nix::mount::{MntFlags, MsFlags, mount, umount2};
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        fs::create_dir_all(top.join("a/mounted")).unwrap();
        fs::create_dir_all(top.join("b/c")).unwrap();
        let none: Option<&str> = None;
        let point = top.join("a/mounted");
        if let Err(e) = mount(none, &point, Some("tmpfs"), MsFlags::empty(), none) {
            eprintln!("SKIP: cannot mount a tmpfs ({e})");
            return;
        }
        fs::write(point.join("kept"), "").unwrap();
        let error = remove(dir.path(), "top").unwrap_err();
        let kept = point.join("kept").exists();
        umount2(&point, MntFlags::MNT_DETACH).unwrap();
        assert!(kept, "another mount is not entered");
        assert!(error.to_string().contains("mounted"), "{error}");
        assert!(!top.join("b").exists());
        remove(dir.path(), "top").unwrap();
        assert!(!top.exists());
    }
}
