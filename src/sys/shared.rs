//! Whether files of a directory can be mapped into the memory of several processes: some network file
//! systems and some of FUSE refuse that, or have no coherent answer.

use std::os::fd::{AsFd, AsRawFd};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::statfs::fstatfs;
use nix::unistd::{UnlinkatFlags, ftruncate, unlinkat};

use super::{Error, Result};

/// File systems that may be those of other machines as well, which map the same file to other memory: NFS, SMB (three
/// versions), Ceph, AFS, Coda, 9P and GFS2, by the numbers of linux/magic.h.
const REMOTE: [u32; 9] = [
    0x6969,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x00c3_6400,
    0x5346_414f,
    0x7375_7245,
    0x0102_1997,
    0x0116_1970,
];

/// Try it with a file of our own, which is gone afterwards. An error: none can be made.
pub fn can_be_mapped(dir: impl AsFd) -> Result<bool> {
    // The numbers have 32 bits, whatever the type that they are told in.
    if fstatfs(&dir).is_ok_and(|fs| REMOTE.contains(&(fs.filesystem_type().0 as u32))) {
        return Ok(false);
    }
    const NAME: &std::ffi::CStr = c".shared";
    const LENGTH: usize = 4096;
    let fail = |call: &'static str| move |e| Error::new(call, ".shared", e);
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(&dir, NAME, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(fail("open"))?;
    // Gone at once: another process that tries the same makes its own.
    unlinkat(&dir, NAME, UnlinkatFlags::NoRemoveDir).ok();
    ftruncate(&file, LENGTH as libc::off_t).map_err(fail("ftruncate"))?;
    // SAFETY: a fresh mapping at an address of the kernel's choice, of a file that is open for both; it is
    // never looked at.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            LENGTH,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return Ok(false);
    }
    // SAFETY: exactly what was mapped, which nothing refers to.
    unsafe { libc::munmap(at, LENGTH) };
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_directory_can_share_and_nothing_is_left() {
        let t = tempfile::tempdir().unwrap();
        assert!(can_be_mapped(std::fs::File::open(t.path()).unwrap()).unwrap());
        assert_eq!(std::fs::read_dir(t.path()).unwrap().count(), 0);
    }
}
