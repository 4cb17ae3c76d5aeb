//! The entries of a directory, read into a buffer of our own. libc's streams take memory from its malloc,
//! which a start does not touch otherwise: its first use costs more than a whole small directory.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::dir::Type;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::{Error, Result};

/// Bytes read at once: the longest entry takes 280.
const BUFFER: usize = 2048;
/// Offsets in `struct linux_dirent64` (getdents64(2)).
const LENGTH: usize = 16;
const KIND: usize = 18;
const NAME: usize = 19;

/// One entry.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Its name: not empty, without NUL and `/`, never `.` or `..`.
    pub name: &'a [u8],
    /// What it is, where the file system says so.
    pub kind: Option<Type>,
}

/// An open directory that is being read.
#[derive(Debug)]
pub struct Entries {
    dir: OwnedFd,
    buffer: Vec<u8>,
    at: usize,
    end: usize,
}

impl Entries {
    /// Read `dir` from its read position.
    pub fn of(dir: OwnedFd) -> Entries {
        Entries { dir, buffer: vec![0; BUFFER], at: 0, end: 0 }
    }

    /// The same, asking the kernel for one or two at a time: for a directory of what may be gone in a moment.
    /// A name of more than 44 bytes is an error.
    pub fn one_by_one(dir: OwnedFd) -> Entries {
        Entries { dir, buffer: vec![0; 64], at: 0, end: 0 }
    }

    /// Read `dir` from its start, by a description of its own. `dir` may be `O_PATH`.
    pub fn again(dir: impl AsFd) -> Result<Entries> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        openat(dir, c".", flags, Mode::empty()).map(Entries::of).map_err(|e| Error::new("open", ".", e))
    }

    /// The next one, in the order of the file system.
    pub fn step(&mut self) -> Result<Option<Entry<'_>>> {
        let (name, kind) = loop {
            if self.at >= self.end && !self.fill()? {
                return Ok(None);
            }
            let Some((length, name, kind)) = self.entry() else {
                // The kernel never writes such; nothing in it can be believed.
                return Err(Error::new("getdents64", "", Errno::EIO));
            };
            self.at += length;
            let bytes = self.buffer.get(name.clone()).unwrap_or_default();
            if !matches!(bytes, b"." | b"..") {
                break (name, kind);
            }
        };
        Ok(self.buffer.get(name).map(|name| Entry { name, kind }))
    }

    fn fill(&mut self) -> Result<bool> {
        // SAFETY: the kernel writes at most the length of the buffer, which is plain bytes.
        let r = unsafe {
            libc::syscall(
                libc::SYS_getdents64,
                self.dir.as_raw_fd(),
                self.buffer.as_mut_ptr(),
                self.buffer.len(),
            )
        };
        self.end = usize::try_from(super::check("getdents64", r)?).unwrap_or(0).min(self.buffer.len());
        self.at = 0;
        Ok(self.end > 0)
    }

    /// Length of the entry at hand, where its name is, and its kind.
    fn entry(&self) -> Option<(usize, std::ops::Range<usize>, Option<Type>)> {
        let entry = self.buffer.get(self.at..self.end)?;
        let length = usize::from(u16::from_ne_bytes(entry.get(LENGTH..KIND)?.try_into().ok()?));
        let name = entry.get(NAME..length)?.split(|b| *b == 0).next().filter(|name| !name.is_empty())?;
        let kind = match *entry.get(KIND)? {
            libc::DT_FIFO => Some(Type::Fifo),
            libc::DT_CHR => Some(Type::CharacterDevice),
            libc::DT_DIR => Some(Type::Directory),
            libc::DT_BLK => Some(Type::BlockDevice),
            libc::DT_REG => Some(Type::File),
            libc::DT_LNK => Some(Type::Symlink),
            libc::DT_SOCK => Some(Type::Socket),
            _ => None,
        };
        let start = self.at + NAME;
        Some((length, start..start + name.len(), kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_entry_is_told_once_with_its_kind() {
        let t = tempfile::tempdir().unwrap();
        let mut wanted = BTreeMap::new();
        for n in 0..300 {
            let name = format!("{n}-{}", "x".repeat(n % 250));
            std::fs::write(t.path().join(&name), "").unwrap();
            wanted.insert(name.into_bytes(), Some(Type::File));
        }
        std::fs::create_dir(t.path().join("d")).unwrap();
        std::os::unix::fs::symlink("d", t.path().join("l")).unwrap();
        wanted.extend([(b"d".to_vec(), Some(Type::Directory)), (b"l".to_vec(), Some(Type::Symlink))]);
        let dir = std::fs::File::open(t.path()).unwrap();
        for _ in 0..2 {
            let (mut entries, mut found) = (Entries::again(&dir).unwrap(), BTreeMap::new());
            while let Some(entry) = entries.step().unwrap() {
                assert_eq!(found.insert(entry.name.to_vec(), entry.kind), None);
            }
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn entries_can_be_had_one_by_one() {
        let t = tempfile::tempdir().unwrap();
        for n in 0..100 {
            std::fs::write(t.path().join(format!("{n}-{}", "x".repeat(n % 40))), "").unwrap();
        }
        let mut entries = Entries::one_by_one(std::fs::File::open(t.path()).unwrap().into());
        let mut count = 0;
        while entries.step().unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 100);
        std::fs::write(t.path().join("x".repeat(60)), "").unwrap();
        let mut entries = Entries::one_by_one(std::fs::File::open(t.path()).unwrap().into());
        let end = loop {
            match entries.step() {
                Ok(Some(_)) => {}
                Ok(None) => break None,
                Err(e) => break Some(e.errno),
            }
        };
        assert_eq!(end, Some(Errno::EINVAL));
    }

    #[test]
    fn what_is_no_directory_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(Entries::again(&file).unwrap_err().errno, Errno::ENOTDIR);
        assert_eq!(Entries::of(file.into()).step().unwrap_err().errno, Errno::ENOTDIR);
    }
}
