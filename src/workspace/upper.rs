//! What an entry of an overlay's upper layer means.
//!
//! The kernel records in it, besides plain entries: *whiteouts* (a lower entry is gone: a character
//! device 0:0, or since Linux 6.7 an empty file with the attribute `user.overlay.whiteout` in a
//! directory whose `user.overlay.opaque` is `x`) and *opaque* directories (`user.overlay.opaque` is
//! `y`: nothing of the lower directory shows through, here or further down). The overlay hides these
//! attributes from the jail, so a jail cannot forge them. Other `user.overlay.*` attributes
//! (`impure`, `origin`, `uuid`) are notes of the kernel to itself.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::sys::at::{self, FileKind, Meta};
use crate::sys::openat2::{self, For};
use crate::sys::{Result, xattr};

/// Marks an empty file as a whiteout.
pub(super) const WHITEOUT: &std::ffi::CStr = c"user.overlay.whiteout";

/// The mark of a directory that something was copied up, or moved, into.
pub(super) const IMPURE: &std::ffi::CStr = c"user.overlay.impure";
/// On what was copied up. Without privileges over the whole machine its value is empty: it does not say from where.
pub(crate) const ORIGIN: &std::ffi::CStr = c"user.overlay.origin";

/// What an entry of the upper layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UpperKind {
    /// Content of the jail's.
    File,
    /// A directory, merged with the lower one or opaque.
    Dir,
    /// A link.
    Symlink,
    /// The lower entry of this name is gone.
    Whiteout,
    /// Fifo, socket or device.
    Special(&'static str),
}

/// How a directory of the upper layer hides the lower one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Opacity {
    /// The lower directory does not show through.
    pub(super) opaque: bool,
    /// Empty files in it may be whiteouts.
    pub(super) marked_files: bool,
}

/// Read the opacity of an open directory.
pub(super) fn opacity(dir: impl AsFd) -> Result<Opacity> {
    let value = xattr::get(dir, c"user.overlay.opaque")?;
    Ok(Opacity { opaque: value.as_deref() == Some(b"y"), marked_files: value.as_deref() == Some(b"x") })
}

/// What the entry `name` of `dir` with metadata `meta` is.
pub(super) fn kind(dir: BorrowedFd<'_>, name: &[u8], meta: &Meta, marked_files: bool) -> Result<UpperKind> {
    Ok(match meta.kind {
        FileKind::File if marked_files && meta.size == 0 => {
            let file = open_file(dir, name)?;
            match xattr::get(file, WHITEOUT)? {
                Some(_) => UpperKind::Whiteout,
                None => UpperKind::File,
            }
        }
        FileKind::File => UpperKind::File,
        FileKind::Dir => UpperKind::Dir,
        FileKind::Symlink => UpperKind::Symlink,
        FileKind::Char(0, 0) => UpperKind::Whiteout,
        FileKind::Fifo => UpperKind::Special("fifo"),
        FileKind::Socket => UpperKind::Special("socket"),
        FileKind::Char(..) | FileKind::Block => UpperKind::Special("device"),
        FileKind::Other => UpperKind::Special("unknown kind"),
    })
}

/// Open the regular file `name` of `dir`, also one of the caller's own without read permission (a
/// jail may have said `chmod 000`): the bit is given for the moment of opening.
pub(super) fn open_file(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    let e = match openat2::beneath(dir, name, For::Reading) {
        Err(e) if e.errno == Errno::EACCES => e,
        other => return other,
    };
    let named = openat2::beneath(dir, name, For::Naming)?;
    let meta = at::fstat(&named)?;
    if meta.kind != FileKind::File || at::set_mode_by_path_fd(&named, meta.mode | 0o400).is_err() {
        return Err(e);
    }
    let opened = at::reopen(&named);
    at::set_mode_by_path_fd(&named, meta.mode)?;
    opened
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn entries_mean_what_the_kernel_means_by_them() {
        let t = tempfile::tempdir().unwrap();
        let p = t.path();
        let dir = std::fs::File::open(p).unwrap();
        std::fs::write(p.join("empty"), b"").unwrap();
        std::fs::write(p.join("marked"), b"").unwrap();
        std::fs::write(p.join("marked-full"), b"x").unwrap();
        nix::unistd::mkfifo(&p.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for n in ["marked", "marked-full"] {
            let f = std::fs::File::open(p.join(n)).unwrap();
            if let Err(e) = xattr::set(&f, c"user.overlay.whiteout", b"y") {
                eprintln!("SKIP: no user attributes here: {e}");
                return;
            }
        }
        let see = |n: &str, marked| {
            let meta = at::stat(&dir, n.as_bytes()).unwrap();
            kind(dir.as_fd(), n.as_bytes(), &meta, marked).unwrap()
        };
        assert_eq!(see("empty", true), UpperKind::File);
        assert_eq!(see("marked", true), UpperKind::Whiteout);
        assert_eq!(see("marked", false), UpperKind::File, "only where the directory says so");
        assert_eq!(see("marked-full", true), UpperKind::File, "only an empty file");
        assert_eq!(see("fifo", true), UpperKind::Special("fifo"));
        assert_eq!(opacity(&dir).unwrap(), Opacity::default());
        xattr::set(&dir, c"user.overlay.opaque", b"x").unwrap();
        assert_eq!(opacity(&dir).unwrap(), Opacity { opaque: false, marked_files: true });
        xattr::set(&dir, c"user.overlay.opaque", b"y").unwrap();
        assert_eq!(opacity(&dir).unwrap(), Opacity { opaque: true, marked_files: false });
    }

    #[test]
    fn a_file_without_permission_bits_is_read_and_keeps_them() {
        let t = tempfile::tempdir().unwrap();
        let f = t.path().join("f");
        std::fs::write(&f, b"text").unwrap();
        std::fs::set_permissions(&f, std::fs::Permissions::from_mode(0o0)).unwrap();
        let dir = std::fs::File::open(t.path()).unwrap();
        let fd = open_file(dir.as_fd(), b"f").unwrap();
        assert_eq!(crate::sys::copy::read_all(fd, 9).unwrap().unwrap(), b"text");
        assert_eq!(std::fs::metadata(&f).unwrap().permissions().mode() & 0o7777, 0);
    }
}
