//! The same without `openat2`, one component after the other, for a process whose filter refuses it.
//!
//! A filter cannot read what `openat2` is called with, so a jail that may write to the host has none, and what
//! we do in such a jail (`jail::hands`) goes this way. Each component is opened by a descriptor of the directory
//! before it and never through a link, and where it leads to another mount is seen on the descriptor. Two
//! things the kernel does better: of a directory that is moved while we are in it, it says so (`EXDEV`) where
//! we go on in that very directory; and what lies on another mount is opened before it is refused. Whoever
//! works with the jail's rights alone can afford both. On the host, where this is never switched on, a kernel
//! without `openat2` is an error.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;

use super::path;
use crate::sys::at::{self, FileKind};
use crate::sys::{Error, Result, check};

static ALWAYS: AtomicBool = AtomicBool::new(false);

/// From now on this process opens nothing by `openat2`.
pub fn always() {
    ALWAYS.store(true, Ordering::Relaxed);
}

/// Whether it is so.
pub(super) fn are_taken() -> bool {
    ALWAYS.load(Ordering::Relaxed)
}

/// As `openat2` would, with these `flags` and this `mode`, and of `resolve` what this module asks for: links
/// are never followed.
pub(super) fn open(dir: RawFd, name: &[u8], flags: i32, mode: u32, resolve: u64) -> Result<OwnedFd> {
    let fail = |errno| Error::new("openat", crate::base::text::printable(name), errno);
    let beneath = resolve & libc::RESOLVE_BENEATH != 0;
    let absolute = name.first() == Some(&b'/');
    let parts: Vec<&[u8]> = name.split(|b| *b == b'/').filter(|c| !matches!(*c, b"" | b".")).collect();
    if name.is_empty() {
        return Err(fail(Errno::ENOENT));
    }
    // Also where it would come back: nothing of ours climbs.
    if beneath && (absolute || parts.contains(&&b".."[..])) {
        return Err(fail(Errno::EXDEV));
    }
    let (last, ways) = match parts.split_last() {
        Some((last, ways)) => (*last, ways),
        None => (&b"."[..], &[][..]),
    };
    const WAY: i32 = libc::O_PATH | libc::O_DIRECTORY;
    let start = if absolute { Some(step(dir, b"/", WAY, 0)?) } else { None };
    let mut here = start;
    let mount = match resolve & libc::RESOLVE_NO_XDEV {
        0 => None,
        // SAFETY: the caller's descriptor is open for the whole call.
        _ => Some(at::fstat(unsafe { BorrowedFd::borrow_raw(dir) })?.mount),
    };
    let stays = |fd: &OwnedFd| match mount {
        Some(mount) if at::fstat(fd)?.mount != mount => Err(fail(Errno::EXDEV)),
        _ => Ok(()),
    };
    for way in ways {
        let at = here.as_ref().map_or(dir, AsRawFd::as_raw_fd);
        let below = step(at, way, WAY, 0).map_err(|e| through(at, way, e).on(name_of(name)))?;
        stays(&below)?;
        here = Some(below);
    }
    let here = here.as_ref().map_or(dir, AsRawFd::as_raw_fd);
    let directory = if name.ends_with(b"/") { libc::O_DIRECTORY } else { 0 };
    let through = |e| if directory == 0 { e } else { through(here, last, e) };
    let fd = step(here, last, flags | directory, mode).map_err(|e| through(e).on(name_of(name)))?;
    stays(&fd)?;
    // By `O_PATH` the link itself is opened; whoever did not ask for that wanted what it leads to.
    if flags & libc::O_PATH != 0 && flags & libc::O_NOFOLLOW == 0 && at::fstat(&fd)?.kind == FileKind::Symlink
    {
        return Err(fail(Errno::ELOOP));
    }
    Ok(fd)
}

fn name_of(name: &[u8]) -> String {
    crate::base::text::printable(name)
}

/// Open one component.
fn step(dir: RawFd, name: &[u8], flags: i32, mode: u32) -> Result<OwnedFd> {
    let c: CString = path(name)?;
    let flags = flags | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    loop {
        // SAFETY: `c` is NUL-terminated and outlives the call, which returns a new descriptor.
        let fd = check("openat", i64::from(unsafe { libc::openat(dir, c.as_ptr(), flags, mode) }));
        match fd {
            // SAFETY: the kernel just returned `fd`, and nobody else holds it.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }),
            Err(e) if e.errno == Errno::EINTR => {}
            Err(e) => return Err(e),
        }
    }
}

/// A link is no directory; where one would go through it, that is what is said.
fn through(dir: RawFd, name: &[u8], e: Error) -> Error {
    // SAFETY: the caller's descriptor is open for the whole call.
    let dir = unsafe { BorrowedFd::borrow_raw(dir) };
    let link = || at::stat(dir, name).is_ok_and(|meta| meta.kind == FileKind::Symlink);
    if e.errno == Errno::ENOTDIR && link() { Error { errno: Errno::ELOOP, ..e } } else { e }
}

#[cfg(test)]
mod tests {
    use super::super::{For, kernel};
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// Everything that is asked for in this program.
    const BENEATH: u64 = libc::RESOLVE_BENEATH
        | libc::RESOLVE_NO_SYMLINKS
        | libc::RESOLVE_NO_MAGICLINKS
        | libc::RESOLVE_NO_XDEV;
    const ANYWHERE: u64 = libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;

    #[test]
    fn what_the_kernel_opens_is_opened_and_what_it_refuses_is_refused() {
        let t = tempfile::tempdir().unwrap();
        let top = t.path().canonicalize().unwrap();
        std::fs::create_dir_all(top.join("d/e")).unwrap();
        std::fs::write(top.join("d/f"), b"x").unwrap();
        std::fs::write(top.join("d/e/g"), b"y").unwrap();
        nix::unistd::mkfifo(&top.join("p"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (target, link) in [
            ("/etc", "away"),
            ("d", "inner"),
            ("d/f", "link"),
            ("link", "d/twice"),
            ("self", "self"),
            ("/proc/self/fd", "fds"),
            ("nothing", "none"),
        ] {
            symlink(target, top.join(link)).unwrap();
        }
        let dir = std::fs::File::open(&top).unwrap();
        let names: [&[u8]; 28] = [
            b".",
            b"d",
            b"d/",
            b"./d/./e",
            b"d//e",
            b"d/e/g",
            b"d/f",
            b"d/f/",
            b"d/f/x",
            b"p",
            b"link",
            b"d/twice",
            b"inner",
            b"inner/f",
            b"inner/",
            b"away",
            b"away/hosts",
            b"self",
            b"self/x",
            b"fds/0",
            b"none",
            b"nil",
            b"nil/x",
            b"..",
            b"../x",
            b"/etc",
            b"",
            b"nul\0",
        ];
        for how in [For::Reading, For::Listing, For::Passing, For::Naming] {
            for name in names {
                let [ours, theirs] =
                    [open, kernel].map(|open| open(dir.as_raw_fd(), name, how.flags(), 0, BENEATH));
                same(ours, theirs, (how, name));
            }
        }
        // Absolute ones, without a bound.
        for name in ["/", "/proc", "/proc/self/cwd", "/proc/self/fd/0", "/dev/null", "/dev/fd/0", "/none/x"] {
            for flags in [For::Listing.flags(), For::Passing.flags(), libc::O_PATH | libc::O_CLOEXEC] {
                let [ours, theirs] =
                    [open, kernel].map(|open| open(libc::AT_FDCWD, name.as_bytes(), flags, 0, ANYWHERE));
                same(ours, theirs, (flags, name));
            }
        }
        let long = top.join("away/hosts");
        let long = std::os::unix::ffi::OsStrExt::as_bytes(long.as_os_str());
        assert_eq!(open(libc::AT_FDCWD, long, libc::O_PATH, 0, ANYWHERE).unwrap_err().errno, Errno::ELOOP);
    }

    /// The same inode, or the same error.
    #[track_caller]
    fn same(ours: Result<OwnedFd>, theirs: Result<OwnedFd>, what: impl std::fmt::Debug) {
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => {
                let [ours, theirs] = [ours, theirs].map(|fd| at::fstat(fd).unwrap());
                assert!(ours.same_inode(&theirs) && ours.mount == theirs.mount, "{what:?}");
            }
            (ours, theirs) => {
                assert_eq!(ours.err().map(|e| e.errno), theirs.err().map(|e| e.errno), "{what:?}");
            }
        }
    }

    #[test]
    fn a_mount_on_the_way_or_at_the_end_is_not_entered() {
        let proc = std::fs::File::open("/").unwrap();
        if at::fstat(&proc).unwrap().mount == at::fstat(std::fs::File::open("/proc").unwrap()).unwrap().mount
        {
            return eprintln!("SKIP: /proc is no mount of its own here");
        }
        for name in [&b"proc"[..], b"proc/self/status", b"proc/version"] {
            for how in [For::Naming, For::Reading] {
                let e = open(proc.as_raw_fd(), name, how.flags(), 0, BENEATH).unwrap_err();
                assert!(matches!(e.errno, Errno::EXDEV | Errno::ELOOP), "{name:?}: {e}");
            }
        }
    }

    #[test]
    fn what_is_made_is_new_and_takes_the_place_of_nothing() {
        let t = tempfile::tempdir().unwrap();
        symlink("/nowhere/at/all", t.path().join("l")).unwrap();
        let dir = std::fs::File::open(t.path()).unwrap();
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let made = open(dir.as_raw_fd(), b"f", flags, 0o640, BENEATH).unwrap();
        let mode = std::fs::File::from(made).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "{mode:o}");
        for name in [&b"f"[..], b"l"] {
            assert_eq!(open(dir.as_raw_fd(), name, flags, 0o600, BENEATH).unwrap_err().errno, Errno::EEXIST);
        }
    }
}
