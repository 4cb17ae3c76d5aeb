//! What pid 1 puts over what it has just mounted, so that the host's own inode is out of reach:
//! a read-only overlay over a directory.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::Mode;

use super::plan::{EMPTY, Mount};
use crate::sys::mount::{self, Attr, NewFs};
use crate::sys::{Error, Result};

/// Cover the attached mount `below` with a read-only overlay of itself. `false`: the kernel makes none
/// over this file system (a third level of stacking, names without case, mounts that cannot be parted).
pub(super) fn veil(below: &OwnedFd, store: &OwnedFd) -> Result<bool> {
    let empty = openat(store, EMPTY, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|e| Error::new("open", show(EMPTY), e))?;
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

/// Where a mount goes, below directories of the host: no link is followed.
pub(super) fn place(root: impl AsFd, m: &Mount) -> Result<OwnedFd> {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(
        ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS,
    );
    openat2(root, m.at.as_c_str(), how).map_err(|e| Error::new("open mount point", show(&m.at), e))
}

fn show(path: &CStr) -> String {
    crate::base::text::printable(path.to_bytes())
}
