//! Whiteouts in both of the forms that the kernel knows: a character device 0:0, and, since Linux 6.7, an
//! empty file with an attribute in a directory that says so. The second is for file systems on which
//! nobody may make the device (overlayfs) or an ordinary user may not (some of the network).

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, mknodat};

use super::fault;
use crate::sys::at::{self, FileKind, Meta};
use crate::sys::openat2::{self, For};
use crate::sys::{Error, Result, xattr};

const MARK: &std::ffi::CStr = c"user.overlay.whiteout";
/// `y`: nothing of what is below a directory is seen; `x`: see above.
pub const OPAQUE: &std::ffi::CStr = c"user.overlay.opaque";

/// Make a whiteout of this name in `dir`, which is no opaque directory.
pub fn make(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    let shown = || crate::base::text::printable(name);
    let path = std::ffi::CString::new(name).map_err(|_| Error::new("mknod", shown(), Errno::EINVAL))?;
    fault::point();
    // An ordinary user may make this one device since Linux 5.8.
    match mknodat(dir, path.as_c_str(), SFlag::S_IFCHR, Mode::empty(), 0) {
        Ok(()) => return Ok(()),
        Err(Errno::EPERM | Errno::EACCES | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS) => {}
        Err(e) => return Err(Error::new("mknod", shown(), e)),
    }
    let listed = openat2::beneath(dir, b".", For::Listing)?;
    xattr::set(&listed, OPAQUE, b"x").map_err(|e| e.on(shown()))?;
    let file = openat2::create(dir, name, 0o600)?;
    xattr::set(&file, MARK, b"y").map_err(|e| {
        // Without the mark it would be a file of the jail's.
        at::remove_file(dir, name).ok();
        e.on(shown())
    })
}

/// Whether the entry `name` of `dir` with metadata `meta` is one that [`make`] made.
pub fn is(dir: impl AsFd, name: &[u8], meta: &Meta) -> Result<bool> {
    match meta.kind {
        FileKind::Char(0, 0) => Ok(true),
        FileKind::File if meta.size == 0 => xattr::has(dir, name, MARK),
        _ => Ok(false),
    }
}

/// Whether a whiteout can be made in `dir` at all: an attempt under a name of our own, taken away again.
pub fn can_make(dir: BorrowedFd<'_>) -> Result<()> {
    const NAME: &[u8] = b".aj-whiteout";
    match at::remove_file(dir, NAME) {
        Err(e) if e.errno != Errno::ENOENT => return Err(e),
        _ => {}
    }
    make(dir, NAME)?;
    at::remove_file(dir, NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_recognised_and_a_file_is_not() {
        let t = tempfile::tempdir().unwrap();
        let dir = std::fs::File::open(t.path()).unwrap();
        can_make(dir.as_fd()).unwrap();
        assert_eq!(std::fs::read_dir(t.path()).unwrap().count(), 0);
        make(dir.as_fd(), b"gone").unwrap();
        std::fs::write(t.path().join("empty"), "").unwrap();
        let seen = |name: &[u8]| is(&dir, name, &at::stat(&dir, name).unwrap()).unwrap();
        assert!(seen(b"gone") && !seen(b"empty"));
        let marked = std::fs::File::open(t.path().join("empty")).unwrap();
        if xattr::set(&marked, MARK, b"y").is_ok() {
            assert!(seen(b"empty"), "the other form");
        } else {
            eprintln!("SKIP: no user attributes here");
        }
    }
}
