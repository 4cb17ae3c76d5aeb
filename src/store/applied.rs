//! What `aj apply` itself put on the host from a tree, so that it is no conflict when a later run in the
//! same tree has changed it again: the file `applied` in the directory of the tree.
//!
//! An entry of the host is known by its inode number and a time that no program can set: the ctime that
//! it had when it was put there, and for a directory its birth as well. A change that somebody makes to
//! it since moves the ctime, and it is the host's again.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::{atomic, dirfd, fault};
use crate::sys::at::Stamp;

const FILE: &str = "applied";
const HEAD: &[u8] = b"aj-applied 1\n";
/// Bytes of one entry: inode, seconds, nanoseconds.
const SIZE: usize = 20;
/// Entries that are noted at most: what is beyond is the host's own change.
const MOST: usize = 400_000;

/// Inodes of the host with the times by which they are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied(BTreeSet<(u64, Stamp)>);

impl Applied {
    /// Whether that inode was put there, and not touched since `time`.
    pub fn has(&self, ino: u64, time: Stamp) -> bool {
        !self.0.is_empty() && self.0.contains(&(ino, time))
    }

    /// Whether an inode was put there, or changed, at any time.
    pub fn knows(&self, ino: u64) -> bool {
        let last = Stamp { sec: i64::MAX, nsec: u32::MAX };
        self.0.range((ino, Stamp { sec: i64::MIN, nsec: 0 })..=(ino, last)).next().is_some()
    }

    /// The same and further ones.
    #[must_use]
    pub fn with<'a>(mut self, more: impl IntoIterator<Item = &'a (u64, Stamp)>) -> Applied {
        self.0.extend(more);
        self
    }

    /// Those noted in the directory of a tree; none when they cannot be read.
    pub fn read(tree: impl AsFd) -> Applied {
        let most = (HEAD.len() + MOST * SIZE) as u64;
        let bytes = atomic::read(tree, FILE, most).ok().flatten().unwrap_or_default();
        // An append that was cut short is passed over: what it was about is asked about.
        let entries = bytes.strip_prefix(HEAD).unwrap_or_default().chunks_exact(SIZE);
        Applied(entries.map(decode).collect())
    }

    /// Note more of them in the directory of a tree.
    pub fn append(tree: impl AsFd, entries: &[(u64, Stamp)]) -> Result<(), Errno> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND;
        let mut file = dirfd::open_file(tree, FILE, flags)?;
        let len = file.metadata().map_err(|e| crate::sys::errno(&e))?.len();
        let mut bytes = Vec::with_capacity(HEAD.len() + entries.len() * SIZE);
        if len == 0 {
            bytes.extend_from_slice(HEAD);
        } else if let Some(torn) = torn(len) {
            // The rest of an entry is filled up, so that those that follow can be read.
            bytes.resize(torn, 0);
        }
        for (ino, time) in entries.iter().take(MOST) {
            bytes.extend_from_slice(&ino.to_be_bytes());
            bytes.extend_from_slice(&time.sec.to_be_bytes());
            bytes.extend_from_slice(&time.nsec.to_be_bytes());
        }
        fault::point();
        file.write_all(&bytes).map_err(|e| crate::sys::errno(&e))
    }
}

/// Bytes that are missing at the end of a file that was cut short.
fn torn(len: u64) -> Option<usize> {
    let head = HEAD.len() as u64;
    match len.checked_sub(head).map(|n| n % SIZE as u64) {
        None | Some(0) => None,
        Some(over) => usize::try_from(SIZE as u64 - over).ok(),
    }
}

fn decode(entry: &[u8]) -> (u64, Stamp) {
    let number =
        |from: usize| entry.iter().skip(from).take(8).fold(0u64, |n, byte| n << 8 | u64::from(*byte));
    let nsec = entry.iter().skip(16).fold(0u32, |n, byte| n << 8 | u32::from(*byte));
    (number(0), Stamp { sec: number(8).cast_signed(), nsec })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn what_was_applied_is_known_by_inode_and_time() {
        let dir = tempfile::tempdir().unwrap();
        let fd = File::open(dir.path()).unwrap();
        let at = |sec, nsec| Stamp { sec, nsec };
        assert_eq!(Applied::read(&fd), Applied::default());
        Applied::append(&fd, &[(1, at(-5, 999_999_999)), (u64::MAX, at(i64::MAX, 0))]).unwrap();
        Applied::append(&fd, &[(7, at(7, 7))]).unwrap();
        let all = Applied::read(&fd);
        assert_eq!(all.0.len(), 3);
        assert!(
            all.has(1, at(-5, 999_999_999)) && all.has(u64::MAX, at(i64::MAX, 0)) && all.has(7, at(7, 7))
        );
        assert!(!all.has(1, at(-5, 0)) && !all.has(2, at(7, 7)));
        let path = dir.path().join("applied");
        let bytes = fs::read(&path).unwrap();
        for end in 0..bytes.len() {
            fs::write(&path, &bytes[..end]).unwrap();
            let read = Applied::read(&fd);
            assert!(read.0.is_subset(&all.0), "cut short at {end}");
            if end >= HEAD.len() {
                Applied::append(&fd, &[(9, at(9, 9))]).unwrap();
                assert!(Applied::read(&fd).has(9, at(9, 9)), "after a cut at {end}");
            }
        }
    }
}
