//! Small files that change by rename, so that a reader sees the old or the new content, never half.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::fcntl::{OFlag, renameat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::dirfd::open_file;
use crate::sys::errno;

/// Bytes of the buffer that a file is read into at first.
const ROOM: usize = 1024;

/// Whether the content must survive power loss, at the price of an fsync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It can be made again: no fsync.
    Cache,
    /// fsync before the rename.
    Synced,
}

/// Replace the file `name` in `dir` with `bytes` (mode 0600).
pub fn write(dir: impl AsFd, name: &str, bytes: &[u8], durability: Durability) -> Result<(), Errno> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let turn = COUNTER.fetch_add(1, Ordering::Relaxed);
    let temp = format!("{name}.new-{}-{turn}", std::process::id());
    // A leftover of a killed process with our pid may be in the way; nobody else uses the name.
    let mut file = open_file(&dir, &temp, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC)?;
    let written = fill(&mut file, bytes, durability).and_then(|()| renameat(&dir, temp.as_str(), &dir, name));
    if written.is_err() {
        // The error of the write is the one to report.
        unlinkat(&dir, temp.as_str(), UnlinkatFlags::NoRemoveDir).ok();
    }
    written
}

fn fill(file: &mut File, bytes: &[u8], durability: Durability) -> Result<(), Errno> {
    file.write_all(bytes).map_err(|e| errno(&e))?;
    match durability {
        Durability::Cache => Ok(()),
        Durability::Synced => file.sync_all().map_err(|e| errno(&e)),
    }
}

/// The first `max` bytes of the file `name` in `dir`, `None` when there is no such file.
pub fn read(dir: impl AsFd, name: &str, max: u64) -> Result<Option<Vec<u8>>, Errno> {
    let file = match open_file(dir, name, OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
        Ok(file) => file,
        Err(Errno::ENOENT) => return Ok(None),
        Err(e) => return Err(e),
    };
    // Room for most at once: it is read in pieces of 32 bytes otherwise.
    let mut bytes = Vec::with_capacity(usize::try_from(max).unwrap_or(ROOM).min(ROOM));
    file.take(max).read_to_end(&mut bytes).map_err(|e| errno(&e))?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let fd = File::open(dir.path()).unwrap();
        assert_eq!(read(&fd, "a", 9), Ok(None));
        write(&fd, "a", b"long first content", Durability::Synced).unwrap();
        write(&fd, "a", b"second", Durability::Cache).unwrap();
        assert_eq!(read(&fd, "a", 99).unwrap().unwrap(), b"second");
        assert_eq!(read(&fd, "a", 3).unwrap().unwrap(), b"sec");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        assert_eq!(read(&fd, "link", 9), Err(Errno::ELOOP));
    }

    #[test]
    fn a_failed_write_leaves_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let fd = File::open(dir.path()).unwrap();
        std::fs::create_dir_all(dir.path().join("a/full")).unwrap();
        assert!(write(&fd, "a", b"x", Durability::Cache).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
