//! Project quotas: an id that inodes carry and hand on, and what all inodes of one id may take together.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

use super::{Result, check};

/// `struct fsxattr` of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_extent_size: u32,
    padding: [u8; 8],
}

const GET: libc::Ioctl = libc::_IOR::<Attributes>(b'X' as u32, 31);
const SET: libc::Ioctl = libc::_IOW::<Attributes>(b'X' as u32, 32);
/// What is made in a directory gets its project, and only what has the same may be moved or linked there.
const PROJECT_INHERIT: u32 = 0x200;

/// `struct if_dqblk` of linux/quota.h. Room in KiB, what is used in bytes.
#[repr(C)]
#[derive(Default)]
struct Block {
    room: u64,
    room_soft: u64,
    used: u64,
    inodes: u64,
    inodes_soft: u64,
    inodes_used: u64,
    times: [u64; 2],
    valid: u32,
}

const PROJECT: u32 = 2;
const Q_GET: u32 = 0x0080_0007;
const Q_SET: u32 = 0x0080_0008;
const Q_STATE: u32 = 0x5808;
/// The limits, and neither what is used nor times.
const LIMITS: u32 = 0b101;
/// `FS_QUOTA_PDQ_ACCT` and `FS_QUOTA_PDQ_ENFD` of linux/dqblk_xfs.h.
const COUNTED: u16 = 1 << 4;
const ENFORCED: u16 = 1 << 5;

/// What a file system does about projects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// It counts what they use.
    pub counted: bool,
    /// It holds them to their limits.
    pub enforced: bool,
}

/// The limits of a project, 0 for none, and what it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Project {
    /// Bytes at most; the kernel counts KiB.
    pub room: u64,
    /// Inodes at most.
    pub inodes: u64,
    /// Bytes used.
    pub used: u64,
    /// Inodes used.
    pub inodes_used: u64,
}

fn quotactl(fd: impl AsFd, command: u32, id: u32, to: *mut libc::c_void) -> Result<()> {
    let command = libc::c_long::from(command << 8 | PROJECT);
    // SAFETY: every caller passes what `command` reads or writes, whole and alive. The call changes no memory but that.
    let r = unsafe {
        libc::syscall(libc::SYS_quotactl_fd, fd.as_fd().as_raw_fd(), command, libc::c_long::from(id), to)
    };
    check("quotactl_fd", r).map(drop)
}

/// What the file system of `fd` does about projects. `ENOSYS`: nothing, or the kernel is older than 5.14;
/// other errors are those of a file system without any quota.
pub fn state(fd: impl AsFd) -> Result<State> {
    // `struct fs_quota_statv` is 160 bytes long.
    let mut answer = [0u64; 32];
    // Version 1, in the first byte.
    answer[0] = u64::from_ne_bytes([1, 0, 0, 0, 0, 0, 0, 0]);
    quotactl(fd, Q_STATE, 0, answer.as_mut_ptr().cast())?;
    let [_, _, low, high, ..] = answer[0].to_ne_bytes();
    let flags = u16::from_ne_bytes([low, high]);
    Ok(State { counted: flags & COUNTED != 0, enforced: flags & ENFORCED != 0 })
}

/// The limits of project `id` on the file system of `fd`, and what it uses. `EPERM` without
/// `CAP_SYS_ADMIN` of the host.
pub fn get(fd: impl AsFd, id: u32) -> Result<Project> {
    let mut block = Block::default();
    match quotactl(fd, Q_GET, id, (&raw mut block).cast()) {
        // XFS: there has never been any.
        Err(e) if e.errno == Errno::ENOENT => return Ok(Project::default()),
        done => done?,
    }
    Ok(Project {
        room: block.room.saturating_mul(1024),
        inodes: block.inodes,
        used: block.used,
        inodes_used: block.inodes_used,
    })
}

/// Set the limits of project `id`: bytes and inodes, 0 for none.
pub fn set(fd: impl AsFd, id: u32, room: u64, inodes: u64) -> Result<()> {
    let mut block = Block { room: room.div_ceil(1024), inodes, valid: LIMITS, ..Block::default() };
    quotactl(fd, Q_SET, id, (&raw mut block).cast())
}

/// The project of an inode; 0 where it has none.
pub fn project(fd: impl AsFd) -> u32 {
    attributes(fd).map_or(0, |attributes| attributes.project)
}

fn attributes(fd: impl AsFd) -> Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: the kernel fills the structure, which has the size that the request names.
    let r = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), GET, &raw mut attributes) };
    check("FS_IOC_FSGETXATTR", r.into())?;
    Ok(attributes)
}

/// Give an inode project `id`. What is made in a directory from then on gets it as well when it `hands_on`.
/// In a user namespace the kernel refuses that with `EINVAL`, whoever owns the inode.
pub fn assign(fd: impl AsFd, id: u32, hands_on: bool) -> Result<()> {
    let mut attributes = attributes(&fd)?;
    attributes.project = id;
    attributes.flags = attributes.flags & !PROJECT_INHERIT | if hands_on { PROJECT_INHERIT } else { 0 };
    // SAFETY: the kernel reads the structure, which has the size that the request names.
    let r = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), SET, &raw const attributes) };
    check("FS_IOC_FSSETXATTR", r.into()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_are_as_long_as_the_kernels() {
        assert_eq!((size_of::<Attributes>(), size_of::<Block>()), (28, 72));
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        assert_eq!((GET as u32, SET as u32), (0x801c_581f, 0x401c_5820));
    }

    #[test]
    fn a_file_system_without_projects_says_so_and_nothing_is_assigned() {
        let proc = std::fs::File::open("/proc").unwrap();
        assert_eq!(project(&proc), 0);
        assert!(state(&proc).is_err() && assign(&proc, 7, true).is_err() && set(&proc, 7, 1, 1).is_err());
    }
}
