//! What pid 1 puts over what it has just mounted, so that the host's own inode is out of reach:
//! a read-only overlay over a directory, a read-only mount of a file over itself.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use super::overlay::directory;
use super::plan::{EMPTY, Mount, What};
use crate::base::text;
use crate::sys::mount::{self, Attr, NewFs};
use crate::sys::{Error, Result, at};

/// Cover the attached mount `below` with a read-only overlay of itself. `false`: the kernel makes none
/// over this file system (a third level of stacking, names without case, mounts that cannot be parted).
pub(super) fn veil(below: &OwnedFd, store: &OwnedFd) -> Result<bool> {
    let empty = directory(store, EMPTY, OFlag::O_PATH)?;
    let (below_fd, empty) = (below.as_raw_fd(), empty.as_raw_fd());
    let lower = CString::new(format!("/proc/self/fd/{below_fd}:/proc/self/fd/{empty}")).unwrap_or_default();
    let make = || -> Result<OwnedFd> {
        let fs = NewFs::open(c"overlay")?;
        fs.set(c"lowerdir", &lower)?;
        fs.flag(c"userxattr")?;
        // One device number for files and directories, as `tar --one-file-system` expects: the two
        // layers are never of one file system.
        fs.set(c"xino", c"on")?;
        fs.mount(Attr::RDONLY.and(Attr::NOSUID).and(Attr::NODEV))
    };
    match make() {
        // Onto the mount itself, not its path: that may lie below a directory of the host, where
        // somebody renames.
        Ok(made) => mount::attach(made, below, c"").map(|()| true).map_err(|e| e.on("read-only overlay")),
        Err(e) if matches!(e.errno, Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE) => Err(e.on("overlay")),
        Err(_) => Ok(false),
    }
}

/// Where a mount goes, below directories of the host: no link is followed, and one that is itself the
/// place is covered.
pub(super) fn place(root: impl AsFd, m: &Mount) -> Result<OwnedFd> {
    let mut flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    if matches!(m.what, What::Text(_)) {
        flags |= OFlag::O_NOFOLLOW;
    }
    find(root, &m.at, flags)
}

/// The same for a path.
pub(super) fn place_of(root: impl AsFd, at: &CStr) -> Result<OwnedFd> {
    find(root, at, OFlag::O_PATH | OFlag::O_CLOEXEC)
}

fn find(root: impl AsFd, at: &CStr, flags: OFlag) -> Result<OwnedFd> {
    let how = OpenHow::new().flags(flags).resolve(
        ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS,
    );
    openat2(root, at, how).map_err(|e| Error::new("open mount point", text::c(at), e))
}

/// Mount a file or directory over itself, read-only unless it is `writable`. The clone is of the jail's
/// own view, so that it keeps the id mapping and cannot be of anything that is not shown.
pub(super) fn cover(root: &OwnedFd, m: &Mount, inode: u64, writable: bool) -> Result<()> {
    let file = match place(root, m) {
        // Nor can the command get there: it is the same user with fewer rights.
        Err(e) if e.errno == Errno::EACCES => return Ok(()),
        other => other?,
    };
    let fail = |e: Error| e.on(text::c(&m.at));
    if at::fstat(&file).map_err(fail)?.ino != inode {
        // Moved by somebody who writes there as well: where the file is now, it would be bare.
        return Err(Error::new("cover", text::c(&m.at), Errno::ESTALE));
    }
    let tree = mount::clone_tree(Some(file.as_fd()), c"", false).map_err(fail)?;
    let attr = Attr::NOSUID.and(Attr::NODEV);
    let attr = if writable { attr } else { attr.and(Attr::RDONLY) };
    mount::set_attr(&tree, attr, false).map_err(fail)?;
    mount::attach(&tree, &file, c"").map_err(fail)?;
    // Seen from where the command will be: it may have been moved while it was covered.
    let seen = place(root, m)?;
    let same = at::fstat(&seen).map_err(fail)?.ino == inode;
    if same && (writable || mount::is_read_only_mount(&seen).map_err(fail)?) {
        Ok(())
    } else {
        Err(Error::new("cover", text::c(&m.at), Errno::ESTALE))
    }
}
