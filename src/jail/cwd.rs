//! The working directory of a command, found in what the jail sees.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};

use super::overlay;
use crate::base::text;
use crate::sys::{Error, Result};

/// The directory `path`, as it is called below `root`. Nothing may lie over `root`: a link in the tree that climbs
/// out (`../../..`) ends there, and would lead into that. Descriptors that the caller left open are still ours here,
/// the host's directories among them, so no link of `/proc` may be part of the way (CVE-2024-21626).
pub(super) fn find(root: impl AsFd, path: &CStr) -> Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    loop {
        match openat2(&root, path, how) {
            // Somebody mounted or renamed something, anywhere, while it looked at a `..`: the manual asks to try again.
            Err(Errno::EAGAIN) => {}
            other => return other.map_err(|e| Error::new("chdir", text::c(path), e)),
        }
    }
}

/// Go to what [`find`] has found.
pub(super) fn go_to(dir: OwnedFd, path: &CStr) -> Result<()> {
    nix::unistd::fchdir(dir).map_err(|e| Error::new("chdir", text::c(path), e))
}

/// Both, when our root is that of the jail.
pub(super) fn enter(path: &CStr) -> Result<()> {
    let root = overlay::directory(AT_FDCWD, c"/", OFlag::O_PATH)?;
    go_to(find(root, path)?, path)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn it_is_found_whatever_is_renamed_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b/c"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink("../".repeat(32), dir.path().join("b/up")).unwrap();
        let root = fs::File::open(dir.path()).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|s| {
            s.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    fs::rename(dir.path().join("a"), dir.path().join("d")).unwrap();
                    fs::rename(dir.path().join("d"), dir.path().join("a")).unwrap();
                }
            });
            let found: Result<Vec<_>> = (0..500).map(|_| find(&root, c"/b/up/b/c").map(drop)).collect();
            done.store(true, Ordering::Relaxed);
            found.unwrap();
        });
    }
}
