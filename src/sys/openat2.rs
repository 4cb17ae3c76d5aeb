//! Opening below a directory descriptor so that no name can lead out of it.
//!
//! Every open here refuses symbolic links in *all* components, magic links, and paths that climb out
//! of the directory (`openat2(2)`, Linux 5.6). A tree that a jail wrote is opened in no other way.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::{Error, Result, check};

pub mod steps;

/// What the descriptor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// Reading a regular file. Never blocks: a fifo opens at once and is told by its metadata.
    Reading,
    /// Listing a directory and reaching below it.
    Listing,
    /// Reaching below a directory; needs no read permission on it.
    Passing,
    /// Naming an object of any kind, the link itself for a symbolic link.
    Naming,
}

impl For {
    fn flags(self) -> i32 {
        let base = libc::O_CLOEXEC | libc::O_NOFOLLOW;
        match self {
            For::Reading => base | libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY,
            For::Listing => base | libc::O_RDONLY | libc::O_DIRECTORY,
            For::Passing => base | libc::O_PATH | libc::O_DIRECTORY,
            For::Naming => base | libc::O_PATH,
        }
    }
}

/// Open `name` below `dir`, refusing links (`ELOOP`), climbing out and mount points (`EXDEV`).
pub fn beneath(dir: impl AsFd, name: &[u8], how: For) -> Result<OwnedFd> {
    let resolve = libc::RESOLVE_BENEATH
        | libc::RESOLVE_NO_SYMLINKS
        | libc::RESOLVE_NO_MAGICLINKS
        | libc::RESOLVE_NO_XDEV;
    openat2(dir.as_fd().as_raw_fd(), name, how.flags(), 0, resolve)
}

/// Open a trusted absolute directory in which no component may be a symbolic link (`ELOOP`).
pub fn absolute(dir: &[u8], how: For) -> Result<OwnedFd> {
    if dir.first() != Some(&b'/') {
        return Err(Error::new("openat2", crate::base::text::printable(dir), Errno::EINVAL));
    }
    let resolve = libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    openat2(libc::AT_FDCWD, dir, how.flags(), 0, resolve)
}

/// Open what is at an absolute path in which, when it was resolved, no component was a symbolic link;
/// `ELOOP` if one has become one since, the last one included.
pub fn resolved(path: &[u8]) -> Result<OwnedFd> {
    let resolve = libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    openat2(libc::AT_FDCWD, path, libc::O_PATH | libc::O_CLOEXEC, 0, resolve)
}

/// Make the new regular file `name` below `dir` for writing; `EEXIST` if anything has that name.
pub fn create(dir: impl AsFd, name: &[u8], mode: u32) -> Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    openat2(dir.as_fd().as_raw_fd(), name, flags, mode, resolve)
}

/// Open the parent of `dir`. The caller compares what was opened with what it expected: the
/// directory may have been moved.
pub fn parent(dir: impl AsFd, how: For) -> Result<OwnedFd> {
    openat2(dir.as_fd().as_raw_fd(), b"..", how.flags(), 0, libc::RESOLVE_NO_MAGICLINKS)
}

fn openat2(dir: RawFd, name: &[u8], flags: i32, mode: u32, resolve: u64) -> Result<OwnedFd> {
    let open = if steps::are_taken() { steps::open } else { kernel };
    open(dir, name, flags, mode, resolve)
}

fn kernel(dir: RawFd, name: &[u8], flags: i32, mode: u32, resolve: u64) -> Result<OwnedFd> {
    let c = path(name)?;
    // SAFETY: `open_how` is plain integers; all zero is a valid value, and unknown fields must be zero.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = flags as u64;
    how.mode = u64::from(mode);
    how.resolve = resolve;
    loop {
        // SAFETY: `c` is NUL-terminated and `how` outlives the call; its true size is passed. On
        // success the call returns a new descriptor.
        let fd = check("openat2", unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir,
                c.as_ptr(),
                std::ptr::from_ref(&how),
                std::mem::size_of::<libc::open_how>(),
            )
        });
        match fd {
            // SAFETY: the kernel just returned `fd`, and nobody else holds it.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }),
            // EAGAIN: a rename raced with the check of `..`; the manual asks to try again.
            Err(e) if matches!(e.errno, Errno::EINTR | Errno::EAGAIN) => {}
            Err(e) => return Err(e.on(crate::base::text::printable(name))),
        }
    }
}

/// A path as the kernel takes it; `EINVAL` when it holds a NUL.
pub fn path(bytes: &[u8]) -> Result<std::ffi::CString> {
    std::ffi::CString::new(bytes)
        .map_err(|_| Error::new("path", crate::base::text::printable(bytes), Errno::EINVAL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_and_climbing_are_refused_in_every_component() {
        let t = tempfile::tempdir().unwrap();
        let out = tempfile::tempdir().unwrap();
        std::fs::create_dir(t.path().join("d")).unwrap();
        std::fs::write(t.path().join("d/f"), b"x").unwrap();
        std::fs::write(out.path().join("f"), b"secret").unwrap();
        symlink(out.path(), t.path().join("away")).unwrap();
        symlink("d", t.path().join("inner")).unwrap();
        symlink("d/f", t.path().join("link")).unwrap();
        let dir = std::fs::File::open(t.path()).unwrap();
        assert!(beneath(&dir, b"d/f", For::Reading).is_ok());
        for (name, errno) in [
            (&b"away/f"[..], Errno::ELOOP),
            (b"inner/f", Errno::ELOOP),
            (b"link", Errno::ELOOP),
            (b"../x", Errno::EXDEV),
            (b"d/../../x", Errno::EXDEV),
            (b"/etc/passwd", Errno::EXDEV),
            (b"none", Errno::ENOENT),
            (b"nul\0", Errno::EINVAL),
        ] {
            let got = beneath(&dir, name, For::Reading).unwrap_err();
            assert_eq!(got.errno, errno, "{name:?}");
        }
        assert!(beneath(&dir, b"link", For::Naming).is_ok(), "a link may be named, not followed");
        assert_eq!(create(&dir, b"link", 0o600).unwrap_err().errno, Errno::EEXIST);
    }

    #[test]
    fn opening_a_fifo_for_reading_returns_at_once() {
        let t = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&t.path().join("p"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let dir = std::fs::File::open(t.path()).unwrap();
        assert!(beneath(&dir, b"p", For::Reading).is_ok());
    }

    #[test]
    fn absolute_directories_have_no_links_in_them() {
        let t = tempfile::tempdir().unwrap();
        let real = t.path().canonicalize().unwrap();
        std::fs::create_dir_all(real.join("a/b")).unwrap();
        symlink("a", real.join("l")).unwrap();
        use std::os::unix::ffi::OsStrExt;
        assert!(absolute(real.join("a/b").as_os_str().as_bytes(), For::Listing).is_ok());
        let e = absolute(real.join("l/b").as_os_str().as_bytes(), For::Listing).unwrap_err();
        assert_eq!(e.errno, Errno::ELOOP);
        assert_eq!(absolute(b"relative", For::Listing).unwrap_err().errno, Errno::EINVAL);
    }
}
