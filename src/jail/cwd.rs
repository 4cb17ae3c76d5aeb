//! The working directory of a command, found in what the jail sees.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::overlay;
use crate::base::text;
use crate::sys::at::{self, FileKind};
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

/// Both, when our root is that of the jail. A jail that may write to the host has a filter that leaves it without
/// `openat2`, whoever joins it included.
pub(super) fn enter(path: &CStr) -> Result<()> {
    let root = overlay::directory(AT_FDCWD, c"/", OFlag::O_PATH)?;
    let found = match find(&root, path) {
        Err(e) if e.errno == Errno::ENOSYS => by_steps(root.as_fd(), path),
        found => found,
    };
    go_to(found?, path)
}

/// Give the owner of the workspace's top all permissions on it: a command may have taken them away, and without them
/// no other one could begin. It is what the next jail does to the layer; a layer below a mount must not change, so in
/// here it is done as a command would do it. `false`: they were not what was missing.
pub(crate) fn unlock_workspace() -> bool {
    use nix::sys::stat::{FchmodatFlags, fchmodat, stat};
    use nix::unistd::{AccessFlags, access};
    const TOP: &CStr = c"/workspace";
    // The mode alone does not tell: where somebody outside has opened the layer, it is that, and the overlay still
    // goes by what it has seen.
    if access(TOP, AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK).is_ok() {
        return false;
    }
    let Ok(meta) = stat(TOP) else { return false };
    let mode = Mode::from_bits_truncate(meta.st_mode) | Mode::S_IRWXU;
    fchmodat(AT_FDCWD, TOP, mode, FchmodatFlags::FollowSymlink).is_ok()
}

/// Links on the way at most, as many as the kernel follows.
const LINKS: u32 = 40;

/// As [`find`], below the root of this process: link by link, and through none of `/proc`.
fn by_steps(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd> {
    let fail = |e| Error::new("chdir", text::c(path), e);
    let open = |dir: BorrowedFd<'_>, name: &[u8]| {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(dir, name, flags, Mode::empty()).map_err(fail)
    };
    let parts = |path: &[u8]| -> Vec<Vec<u8>> {
        path.split(|b| *b == b'/').filter(|c| !c.is_empty()).map(<[u8]>::to_vec).collect()
    };
    let mut todo: VecDeque<Vec<u8>> = parts(path.to_bytes()).into();
    let mut here = open(root, b".")?;
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        let next = open(here.as_fd(), &name)?;
        if at::fstat(&next)?.kind != FileKind::Symlink {
            here = next;
            continue;
        }
        links += 1;
        let of_proc = || fstatfs(&next).map(|fs| fs.filesystem_type() == PROC_SUPER_MAGIC);
        if links > LINKS || of_proc().map_err(fail)? {
            return Err(fail(Errno::ELOOP));
        }
        let target = readlinkat(&next, c"").map_err(fail)?;
        let target = target.as_encoded_bytes();
        if target.first() == Some(&b'/') {
            here = open(root, b".")?;
        }
        todo = parts(target).into_iter().chain(todo).collect();
    }
    match at::fstat(&here)?.kind {
        FileKind::Dir => Ok(here),
        _ => Err(fail(Errno::ENOTDIR)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn without_openat2_the_same_is_found_and_no_link_of_proc_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::write(top.join("f"), "").unwrap();
        for (target, link) in
            [("a", "to-a"), ("../to-a/b", "a/up"), ("/", "root"), ("self", "self"), ("f", "file")]
        {
            std::os::unix::fs::symlink(target, top.join(link)).unwrap();
        }
        std::os::unix::fs::symlink(&top, top.join("a/b/top")).unwrap();
        let root = overlay::directory(AT_FDCWD, c"/", OFlag::O_PATH).unwrap();
        for below in [
            "",
            "a",
            "to-a",
            "to-a/b",
            "a/up",
            "a/up/top/to-a/..",
            "a/b/../../..",
            "root",
            "root/../..",
            "f",
            "file",
            "none",
            "self",
            "f/x",
            "a/./b/",
        ] {
            let path = std::ffi::CString::new(format!("{}/{below}", top.display())).unwrap();
            let [ours, theirs] = [by_steps(root.as_fd(), &path), find(&root, &path)];
            match (ours, theirs) {
                (Ok(ours), Ok(theirs)) => {
                    assert!(at::fstat(ours).unwrap().same_inode(&at::fstat(theirs).unwrap()), "{below}");
                }
                (ours, theirs) => {
                    assert_eq!(ours.err().map(|e| e.errno), theirs.err().map(|e| e.errno), "{below}")
                }
            }
        }
        let open = fs::File::open(&top).unwrap();
        for way in ["/proc/self/cwd", "/proc/self/root/tmp"] {
            let path = std::ffi::CString::new(way).unwrap();
            assert_eq!(by_steps(root.as_fd(), &path).unwrap_err().errno, Errno::ELOOP, "{way}");
        }
        let number = std::os::fd::AsRawFd::as_raw_fd(&open);
        let path = std::ffi::CString::new(format!("/proc/thread-self/fd/{number}")).unwrap();
        assert_eq!(by_steps(root.as_fd(), &path).unwrap_err().errno, Errno::ELOOP);
    }

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
