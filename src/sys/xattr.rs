//! Extended attributes and flags of a file.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

use super::{Error, Result};

/// Bytes of a value at most: `XATTR_SIZE_MAX`, the kernel lets none be longer.
const LONGEST: usize = 64 << 10;

/// The first bytes (at most 64) of attribute `name` of `fd`, `None` when it has none or the file
/// system knows no attributes. A value longer than 64 bytes is an `ERANGE` error.
pub fn get(fd: impl AsFd, name: &std::ffi::CStr) -> Result<Option<Vec<u8>>> {
    let mut value = [0u8; 64];
    // SAFETY: `name` is NUL-terminated; the buffer is writable for the length passed.
    let n = unsafe {
        libc::fgetxattr(fd.as_fd().as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
    };
    match usize::try_from(n) {
        Ok(n) => Ok(Some(value[..n.min(value.len())].to_vec())),
        Err(_) => match Errno::last() {
            Errno::ENODATA | Errno::ENOTSUP => Ok(None),
            e => Err(Error::new("fgetxattr", name.to_string_lossy(), e)),
        },
    }
}

/// All of attribute `name` of `fd`, however long; `None` when it has none.
pub fn get_all(fd: impl AsFd, name: &std::ffi::CStr) -> Result<Option<Vec<u8>>> {
    match get(&fd, name) {
        Err(e) if e.errno == Errno::ERANGE => {}
        short => return short,
    }
    let mut value = vec![0u8; LONGEST];
    // SAFETY: `name` is NUL-terminated; the buffer is writable for the length passed.
    let n = unsafe {
        libc::fgetxattr(fd.as_fd().as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
    };
    match usize::try_from(n) {
        Ok(n) => {
            value.truncate(n);
            Ok(Some(value))
        }
        Err(_) => match Errno::last() {
            Errno::ENODATA => Ok(None),
            e => Err(Error::new("fgetxattr", name.to_string_lossy(), e)),
        },
    }
}

/// Take attribute `name` from `fd`; fine when it has none.
pub fn remove(fd: impl AsFd, name: &std::ffi::CStr) -> Result<()> {
    // SAFETY: `name` is NUL-terminated.
    let r = unsafe { libc::fremovexattr(fd.as_fd().as_raw_fd(), name.as_ptr()) };
    match super::check("fremovexattr", r.into()) {
        Err(e) if e.errno != Errno::ENODATA => Err(e.on(name.to_string_lossy())),
        _ => Ok(()),
    }
}

/// Whether the file system of `fd` knows attributes of ours. Asks, and changes nothing.
pub fn are_known(fd: impl AsFd) -> bool {
    // SAFETY: the name is NUL-terminated; a length of 0 asks for the size, and nothing is written.
    let n = unsafe {
        libc::fgetxattr(fd.as_fd().as_raw_fd(), c"user.overlay.aj".as_ptr(), std::ptr::null_mut(), 0)
    };
    n >= 0 || Errno::last() != Errno::ENOTSUP
}

/// The names of all attributes of `fd`, ACLs among them. More than 4 KiB of names are an `ERANGE`
/// error; a file system without attributes has none.
pub fn names(fd: impl AsFd) -> Result<Vec<Vec<u8>>> {
    names_in(fd, &mut [0u8; 4096])
}

/// The same, however many there are.
pub fn all_names(fd: impl AsFd) -> Result<Vec<Vec<u8>>> {
    // XATTR_LIST_MAX: the kernel tells no more.
    const MOST: usize = 64 << 10;
    match names(&fd) {
        Err(e) if e.errno == Errno::ERANGE => names_in(fd, &mut vec![0u8; MOST]),
        few => few,
    }
}

fn names_in(fd: impl AsFd, list: &mut [u8]) -> Result<Vec<Vec<u8>>> {
    // SAFETY: the buffer is writable for the length passed.
    let n = unsafe { libc::flistxattr(fd.as_fd().as_raw_fd(), list.as_mut_ptr().cast(), list.len()) };
    match usize::try_from(n) {
        Ok(n) => {
            let list = list.get(..n).unwrap_or_default();
            Ok(list.split(|b| *b == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
        }
        Err(_) => match Errno::last() {
            Errno::ENOTSUP => Ok(Vec::new()),
            e => Err(Error::new("flistxattr", "", e)),
        },
    }
}

/// The inode flags of `fd` (`FS_IOC_GETFLAGS`), `None` where the file system has none.
pub fn flags(fd: impl AsFd) -> Option<u32> {
    let mut flags: libc::c_int = 0;
    // SAFETY: the kernel stores an int.
    let r = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::FS_IOC_GETFLAGS as _, &raw mut flags) };
    (r == 0).then_some(flags as u32)
}

/// Tell the file system that the directories in `dir` have nothing to do with each other (`chattr +T`): ext4 then
/// spreads them over its block groups. Without effect where nothing is known of this.
pub fn spread_children(dir: impl AsFd) {
    // FS_TOPDIR_FL of linux/fs.h.
    const TOPDIR: u32 = 0x0002_0000;
    let Some(flags) = flags(dir.as_fd()) else { return };
    let flags = (flags | TOPDIR) as libc::c_int;
    // SAFETY: the kernel reads an int. It refuses flags that are not the owner's to set, or changes nothing.
    unsafe { libc::ioctl(dir.as_fd().as_raw_fd(), libc::FS_IOC_SETFLAGS as _, &raw const flags) };
}

/// Whether the entry `name` of `dir` has attribute `attribute`, the link itself for a symbolic link.
/// Opens nothing but by way of `/proc`, so that no lease is broken.
pub fn has(dir: impl AsFd, name: &[u8], attribute: &std::ffi::CStr) -> Result<bool> {
    let mut place = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
    place.extend_from_slice(name);
    let place = super::openat2::path(&place)?;
    // SAFETY: both names are NUL-terminated; a length of 0 asks for the size, and nothing is written.
    let n = unsafe { libc::lgetxattr(place.as_ptr(), attribute.as_ptr(), std::ptr::null_mut(), 0) };
    match (n, Errno::last()) {
        (0.., _) => Ok(true),
        (_, Errno::ENODATA | Errno::ENOTSUP) => Ok(false),
        (_, e) => Err(Error::new("lgetxattr", crate::base::text::printable(name), e)),
    }
}

/// Set attribute `name` of `fd` (not of an `O_PATH` descriptor).
pub fn set(fd: impl AsFd, name: &std::ffi::CStr, value: &[u8]) -> Result<()> {
    // SAFETY: `name` is NUL-terminated; the buffer is readable for the length passed.
    let r = unsafe {
        libc::fsetxattr(fd.as_fd().as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    };
    super::check("fsetxattr", r.into()).map(drop)
}

/// The access list of `file`, which may be an `O_PATH` descriptor and need not be readable; `None`: its permission
/// bits are all there is. See acl(5).
pub fn access_list(file: impl AsFd) -> Result<Option<Vec<u8>>> {
    let place = super::openat2::path(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()).as_bytes())?;
    let mut value = vec![0u8; LONGEST];
    // SAFETY: both names are NUL-terminated; the buffer is writable for the length passed.
    let n = unsafe {
        libc::getxattr(place.as_ptr(), ACCESS_LIST.as_ptr(), value.as_mut_ptr().cast(), value.len())
    };
    match (usize::try_from(n), Errno::last()) {
        (Ok(n), _) => {
            value.truncate(n);
            Ok(Some(value))
        }
        (Err(_), Errno::ENODATA | Errno::ENOTSUP) => Ok(None),
        (Err(_), e) => Err(Error::new("getxattr", ACCESS_LIST.to_string_lossy(), e)),
    }
}

/// Give `fd` that access list, or none. Its permission bits are another thing then: set them after it.
pub fn set_access_list(fd: impl AsFd, list: Option<&[u8]>) -> Result<()> {
    match list {
        Some(list) => set(&fd, ACCESS_LIST, list).map_err(|e| e.on(ACCESS_LIST.to_string_lossy())),
        None => match remove(&fd, ACCESS_LIST) {
            Err(e) if e.errno == Errno::ENOTSUP => Ok(()),
            done => done,
        },
    }
}

const ACCESS_LIST: &std::ffi::CStr = c"system.posix_acl_access";
