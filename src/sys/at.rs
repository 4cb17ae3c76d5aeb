//! Looking at and changing directory entries through the descriptor of their directory.
//!
//! Names are single components as read from a directory; the functions refuse a `/` in them, so an
//! operation can never reach another directory than the one it was given. No link is ever followed.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags};

use super::openat2::path;
use super::{Error, Result, check};
use crate::base::text::printable;

/// A file system timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Stamp {
    /// Seconds since the epoch.
    pub sec: i64,
    /// Nanoseconds.
    pub nsec: u32,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// Regular file.
    File,
    /// Directory.
    Dir,
    /// Symbolic link.
    Symlink,
    /// Named pipe.
    Fifo,
    /// Socket.
    Socket,
    /// Character device, with its number.
    Char(u32, u32),
    /// Block device.
    Block,
    /// Something this program does not know.
    Other,
}

/// Metadata of one entry.
#[derive(Debug, Clone, Copy)]
pub struct Meta {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names of this inode.
    pub nlink: u32,
    /// Length in bytes.
    pub size: u64,
    /// Bytes allocated.
    pub allocated: u64,
    /// Inode number.
    pub ino: u64,
    /// File system.
    pub dev: (u32, u32),
    /// Last change of the content.
    pub mtime: Stamp,
    /// Last change of anything; no program can set it.
    pub ctime: Stamp,
    /// Birth, where the file system knows it.
    pub btime: Option<Stamp>,
    /// Number of the mount that it was reached through.
    pub mount: u64,
}

impl Meta {
    /// Whether both are the same inode.
    pub fn same_inode(&self, other: &Meta) -> bool {
        self.ino == other.ino && self.dev == other.dev
    }

    /// Whether it is a file that has more names than one.
    pub fn has_other_names(&self) -> bool {
        self.kind == FileKind::File && self.nlink > 1
    }
}

/// What one name of an inode takes on the disk, in bytes: of a file with several names its part.
pub fn share(meta: &Meta) -> u64 {
    match meta.kind {
        FileKind::Dir => meta.allocated,
        _ => meta.allocated / u64::from(meta.nlink.max(1)),
    }
}

/// What an inode keeps for as long as it exists, and shares with none that gets its number later. The
/// device is no part of it: its number may be another one after the next start of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Inode number.
    pub ino: u64,
    /// Birth, where the file system knows it.
    pub born: Option<Stamp>,
}

impl Identity {
    /// Whether both may be the same inode of one file system.
    pub fn is(&self, other: &Identity) -> bool {
        self.ino == other.ino && (self.born == other.born || self.born.is_none() || other.born.is_none())
    }
}

impl Meta {
    /// Which inode it is.
    pub fn identity(&self) -> Identity {
        Identity { ino: self.ino, born: self.btime }
    }
}

/// Whether the file system of `fd` is one of those known to keep the inode number of a directory for
/// good, and to move ctime and mtime of a directory together when its entries change. Others (FUSE,
/// FAT, overlayfs, the network) hand out another number after a while, or copy directories around.
pub fn keeps_identities(fd: impl AsFd) -> bool {
    // ext2 to ext4, XFS, btrfs, tmpfs, ramfs, F2FS, ZFS, bcachefs, JFS.
    const KNOWN: [u32; 9] = [
        0xef53,
        0x5846_5342,
        0x9123_683e,
        0x0102_1994,
        0x8584_58f6,
        0xf2f5_2010,
        0x2fc1_2fc1,
        0xca45_1a4e,
        0x3153_464a,
    ];
    // The kernel's numbers have 32 bits; the type of the field differs between C libraries.
    nix::sys::statfs::fstatfs(fd).is_ok_and(|s| KNOWN.contains(&(s.filesystem_type().0 as u32)))
}

/// One component: not empty, not `.` or `..`, no `/`.
fn component(name: &[u8]) -> Result<std::ffi::CString> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
        return Err(Error::new("name", printable(name), Errno::EINVAL));
    }
    path(name)
}

/// Metadata of the entry `name` of `dir`, of the link itself for a symbolic link.
pub fn stat(dir: impl AsFd, name: &[u8]) -> Result<Meta> {
    let c = component(name)?;
    statx(dir.as_fd(), &c, 0).map_err(|e| e.on(printable(name)))
}

/// As [`stat`], `None` when there is no such entry.
pub fn stat_opt(dir: impl AsFd, name: &[u8]) -> Result<Option<Meta>> {
    match stat(dir, name) {
        Ok(m) => Ok(Some(m)),
        Err(e) if e.errno == Errno::ENOENT => Ok(None),
        Err(e) => Err(e),
    }
}

/// Metadata of what a descriptor refers to (any descriptor, `O_PATH` too).
pub fn fstat(fd: impl AsFd) -> Result<Meta> {
    statx(fd.as_fd(), c"", libc::AT_EMPTY_PATH)
}

/// Metadata of what is at `path`, links followed. The standard library knows no birth where it is built with musl.
pub fn stat_path(path: &std::path::Path) -> Result<Meta> {
    use std::os::unix::ffi::OsStrExt;
    let c = super::openat2::path(path.as_os_str().as_bytes())?;
    statx_at(nix::fcntl::AT_FDCWD, &c, 0).map_err(|e| e.on(crate::base::text::os(path)))
}

/// Metadata of what is at `path` below `dir`, links followed, as the kernel has it at hand: nobody who serves the file
/// system is asked, or waited for.
pub fn stat_at_hand(dir: impl AsFd, path: &str) -> Result<Meta> {
    let c = super::openat2::path(path.as_bytes())?;
    statx_at(dir.as_fd(), &c, libc::AT_STATX_DONT_SYNC).map_err(|e| e.on(printable(path.as_bytes())))
}

fn statx(fd: BorrowedFd<'_>, name: &std::ffi::CStr, flags: i32) -> Result<Meta> {
    statx_at(fd, name, flags | libc::AT_SYMLINK_NOFOLLOW)
}

fn statx_at(fd: BorrowedFd<'_>, name: &std::ffi::CStr, flags: i32) -> Result<Meta> {
    // SAFETY: `statx` is plain integers; all zero is a valid value.
    let mut x: libc::statx = unsafe { std::mem::zeroed() };
    let flags = flags | libc::AT_NO_AUTOMOUNT;
    let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME | libc::STATX_MNT_ID;
    // SAFETY: `name` is NUL-terminated, `x` is writable and outlives the call.
    let r = unsafe { libc::statx(fd.as_raw_fd(), name.as_ptr(), flags, mask, &raw mut x) };
    check("statx", r.into())?;
    let kind = match u32::from(x.stx_mode) & libc::S_IFMT {
        libc::S_IFREG => FileKind::File,
        libc::S_IFDIR => FileKind::Dir,
        libc::S_IFLNK => FileKind::Symlink,
        libc::S_IFIFO => FileKind::Fifo,
        libc::S_IFSOCK => FileKind::Socket,
        libc::S_IFCHR => FileKind::Char(x.stx_rdev_major, x.stx_rdev_minor),
        libc::S_IFBLK => FileKind::Block,
        _ => FileKind::Other,
    };
    let stamp = |t: libc::statx_timestamp| Stamp { sec: t.tv_sec, nsec: t.tv_nsec };
    Ok(Meta {
        kind,
        mode: u32::from(x.stx_mode) & 0o7777,
        uid: x.stx_uid,
        gid: x.stx_gid,
        nlink: x.stx_nlink,
        size: x.stx_size,
        allocated: x.stx_blocks.saturating_mul(512),
        ino: x.stx_ino,
        dev: (x.stx_dev_major, x.stx_dev_minor),
        mtime: stamp(x.stx_mtime),
        ctime: stamp(x.stx_ctime),
        btime: (x.stx_mask & libc::STATX_BTIME != 0).then(|| stamp(x.stx_btime)),
        mount: x.stx_mnt_id,
    })
}

/// Every name in `dir` but `.` and `..`, in the order of the file system.
pub fn each_name(dir: impl AsFd, mut f: impl FnMut(&[u8])) -> Result<()> {
    // A description of its own: the caller's read position stays, and O_PATH descriptors work.
    let fd = super::openat2::beneath(dir, b".", super::openat2::For::Listing)?;
    let mut entries = super::entries::Entries::of(fd);
    while let Some(entry) = entries.step()? {
        f(entry.name);
    }
    Ok(())
}

/// Whether the permissions of the directory `dir`, and nothing else, let the caller change its entries.
pub fn may_write_in(dir: impl AsFd) -> bool {
    use nix::fcntl::AtFlags;
    use nix::unistd::{AccessFlags, faccessat};
    faccessat(dir, ".", AccessFlags::W_OK | AccessFlags::X_OK, AtFlags::AT_EACCESS).is_ok()
}

/// The target of a symbolic link.
pub fn read_link(dir: impl AsFd, name: &[u8]) -> Result<Vec<u8>> {
    let c = component(name)?;
    nix::fcntl::readlinkat(dir, c.as_c_str())
        .map(std::os::unix::ffi::OsStringExt::into_vec)
        .map_err(|e| Error::new("readlink", printable(name), e))
}

/// Make a symbolic link.
pub fn make_link(dir: impl AsFd, name: &[u8], target: &[u8]) -> Result<()> {
    let c = component(name)?;
    let t = path(target)?;
    nix::unistd::symlinkat(t.as_c_str(), dir, c.as_c_str())
        .map_err(|e| Error::new("symlink", printable(name), e))
}

/// Make a directory.
pub fn make_dir(dir: impl AsFd, name: &[u8], mode: u32) -> Result<()> {
    let c = component(name)?;
    nix::sys::stat::mkdirat(dir, c.as_c_str(), Mode::from_bits_truncate(mode))
        .map_err(|e| Error::new("mkdir", printable(name), e))
}

/// Remove an entry that is not a directory.
pub fn remove_file(dir: impl AsFd, name: &[u8]) -> Result<()> {
    let c = component(name)?;
    nix::unistd::unlinkat(dir, c.as_c_str(), UnlinkatFlags::NoRemoveDir)
        .map_err(|e| Error::new("unlink", printable(name), e))
}

/// Remove an empty directory.
pub fn remove_dir(dir: impl AsFd, name: &[u8]) -> Result<()> {
    let c = component(name)?;
    nix::unistd::unlinkat(dir, c.as_c_str(), UnlinkatFlags::RemoveDir)
        .map_err(|e| Error::new("rmdir", printable(name), e))
}

/// What happens to an entry that already has the new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// It is replaced, atomically.
    Yes,
    /// `EEXIST`.
    No,
    /// The two entries change places, atomically.
    Exchange,
}

/// Rename `from` to `to` within `dir`. `EINVAL` when the file system cannot exchange (NFS). Where it cannot refuse to
/// replace, that is looked at before.
pub fn rename(dir: impl AsFd, from: &[u8], to: &[u8], how: Replace) -> Result<()> {
    rename_between((dir.as_fd(), from), (dir.as_fd(), to), how)
}

/// As [`rename`], from one directory to another of the same mount.
pub fn rename_between(
    (from, name): (impl AsFd, &[u8]),
    (to, new): (impl AsFd, &[u8]),
    how: Replace,
) -> Result<()> {
    let (a, b) = (component(name)?, component(new)?);
    let at = to.as_fd();
    let (from, to) = (from.as_fd().as_raw_fd(), at.as_raw_fd());
    let call = |how: Replace| {
        // SAFETY: both names are NUL-terminated and outlive the call; both directories are open.
        let r = unsafe { libc::syscall(libc::SYS_renameat2, from, a.as_ptr(), to, b.as_ptr(), how.flags()) };
        check("rename", r).map(drop).map_err(|e| e.on(printable(new)))
    };
    match call(how) {
        Err(e) if e.errno == Errno::EINVAL && how == Replace::No => match stat_opt(at, new)? {
            None => call(Replace::Yes),
            Some(_) => Err(Error::new("rename", printable(new), Errno::EEXIST)),
        },
        done => done,
    }
}

impl Replace {
    fn flags(self) -> u32 {
        match self {
            Replace::Yes => 0,
            Replace::No => libc::RENAME_NOREPLACE,
            Replace::Exchange => libc::RENAME_EXCHANGE,
        }
    }
}

/// Set the permission bits of an open file or directory (not of an `O_PATH` descriptor).
pub fn set_mode(fd: impl AsFd, mode: u32) -> Result<()> {
    nix::sys::stat::fchmod(fd, Mode::from_bits_truncate(mode)).map_err(|e| Error::new("chmod", "", e))
}

/// Set the permission bits of what an `O_PATH` descriptor names; needs `/proc`.
pub fn set_mode_by_path_fd(fd: impl AsFd, mode: u32) -> Result<()> {
    // Of a borrowed one: one that is given away must stay open until it is used.
    let link = proc_link(&fd);
    nix::sys::stat::fchmodat(
        nix::fcntl::AT_FDCWD,
        link.as_str(),
        Mode::from_bits_truncate(mode),
        nix::sys::stat::FchmodatFlags::FollowSymlink,
    )
    .map_err(|e| Error::new("chmod", "", e))
}

/// Open for reading what an `O_PATH` descriptor names; needs `/proc`.
pub fn reopen(fd: impl AsFd) -> Result<std::os::fd::OwnedFd> {
    use nix::fcntl::OFlag;
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    nix::fcntl::open(proc_link(&fd).as_str(), flags, Mode::empty()).map_err(|e| Error::new("open", "", e))
}

fn proc_link(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// Set owner and group of what a descriptor refers to (any descriptor, `O_PATH` too); `None` keeps.
pub fn set_owner(fd: impl AsFd, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    nix::unistd::fchownat(
        fd,
        c"",
        uid.map(Uid::from_raw),
        gid.map(Gid::from_raw),
        nix::fcntl::AtFlags::AT_EMPTY_PATH,
    )
    .map_err(|e| Error::new("chown", "", e))
}

/// Set the modification time of the entry `name`, of the link itself for a symbolic link.
pub fn set_mtime(dir: impl AsFd, name: &[u8], mtime: Stamp) -> Result<()> {
    let c = component(name)?;
    nix::sys::stat::utimensat(
        dir,
        c.as_c_str(),
        &TimeSpec::UTIME_OMIT,
        &TimeSpec::new(mtime.sec, mtime.nsec.into()),
        nix::sys::stat::UtimensatFlags::NoFollowSymlink,
    )
    .map_err(|e| Error::new("utimens", printable(name), e))
}

/// Set the modification time of an open file.
pub fn set_mtime_of(fd: impl AsFd, mtime: Stamp) -> Result<()> {
    nix::sys::stat::futimens(fd, &TimeSpec::UTIME_OMIT, &TimeSpec::new(mtime.sec, mtime.nsec.into()))
        .map_err(|e| Error::new("utimens", "", e))
}

/// Bytes an unprivileged user may still write on the file system of `fd`.
pub fn free_bytes(fd: impl AsFd) -> Result<u64> {
    let v = nix::sys::statvfs::fstatvfs(fd).map_err(|e| Error::new("statvfs", "", e))?;
    Ok(v.blocks_available().saturating_mul(v.fragment_size()))
}

/// Take an exclusive lock on an open directory; `EWOULDBLOCK` when somebody else has it. It lasts
/// until the descriptor closes.
pub fn lock(fd: impl AsFd) -> Result<()> {
    // SAFETY: no pointers; the descriptor is open for the whole call.
    let r = unsafe { libc::flock(fd.as_fd().as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    check("flock", r.into()).map(drop)
}

/// Whether this process is root, whose files would otherwise all be root's.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_more_than_one_component_are_refused() {
        let t = tempfile::tempdir().unwrap();
        std::fs::create_dir(t.path().join("d")).unwrap();
        let dir = std::fs::File::open(t.path()).unwrap();
        for bad in [&b""[..], b".", b"..", b"d/x", b"/etc", b"a\0b"] {
            assert_eq!(stat(&dir, bad).unwrap_err().errno, Errno::EINVAL, "{bad:?}");
            assert!(remove_file(&dir, bad).is_err());
            assert!(make_link(&dir, bad, b"t").is_err());
        }
        assert_eq!(stat(&dir, b"d").unwrap().kind, FileKind::Dir);
        assert!(stat_opt(&dir, b"none").unwrap().is_none());
    }

    #[test]
    fn a_descriptor_that_is_given_away_is_open_until_the_mode_is_set() {
        use std::os::unix::fs::PermissionsExt;
        let t = tempfile::tempdir().unwrap();
        let path = t.path().join("f");
        std::fs::write(&path, "x").unwrap();
        let named = || {
            let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC;
            nix::fcntl::open(&path, flags, Mode::empty()).unwrap()
        };
        set_mode_by_path_fd(named(), 0o640).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert!(reopen(named()).is_ok());
    }

    #[test]
    fn an_inode_is_told_from_the_one_that_gets_its_number() {
        let t = tempfile::tempdir().unwrap();
        let (a, b) = (t.path().join("a"), t.path().join("b"));
        std::fs::create_dir(&a).unwrap();
        let dir = std::fs::File::open(t.path()).unwrap();
        let first = stat(&dir, b"a").unwrap().identity();
        assert_eq!(stat_path(&a).unwrap().identity(), first, "both ways of asking agree");
        std::fs::rename(&a, &b).unwrap();
        assert!(stat(&dir, b"b").unwrap().identity().is(&first), "a rename keeps it");
        let reused = Identity { born: Some(Stamp { sec: 1, nsec: 2 }), ..first };
        assert!(!reused.is(&Identity { born: Some(Stamp { sec: 1, nsec: 3 }), ..first }));
        assert!(reused.is(&Identity { born: None, ..first }), "nothing says otherwise");
        assert!(!first.is(&Identity { ino: first.ino + 1, ..first }));
        assert!(!keeps_identities(std::fs::File::open("/proc/self").unwrap()));
    }

    #[test]
    fn renames_replace_refuse_or_exchange() {
        let t = tempfile::tempdir().unwrap();
        let dir = std::fs::File::open(t.path()).unwrap();
        std::fs::write(t.path().join("a"), b"a").unwrap();
        std::fs::create_dir(t.path().join("b")).unwrap();
        assert_eq!(rename(&dir, b"a", b"b", Replace::No).unwrap_err().errno, Errno::EEXIST);
        rename(&dir, b"a", b"b", Replace::Exchange).unwrap();
        assert_eq!(stat(&dir, b"b").unwrap().kind, FileKind::File);
        assert_eq!(stat(&dir, b"a").unwrap().kind, FileKind::Dir);
    }
}
