//! Where the records of a log lie: files named after the place in the log at which they begin.

use std::fs::File;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::sys::entries::Entries;
use crate::sys::{Error, Result};

const PREFIX: &str = "log-";
const DIGITS: usize = 20;

/// The secret of a log.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// The key that random bytes stand for.
    pub fn of(random: &[u8]) -> Key {
        Key(blake3::derive_key("agentjail job log 1", random))
    }

    pub(super) fn hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.0)
    }
}

/// The name of the file that begins at `base`.
pub(super) fn name(base: u64) -> String {
    format!("{PREFIX}{base:0DIGITS$}")
}

fn base_of(name: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(name).ok()?.strip_prefix(PREFIX)?;
    (digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// Where the files of the log in `dir` begin, in order. None in a directory that was removed meanwhile.
pub(super) fn bases(dir: impl AsFd) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    let read = || {
        let mut entries = Entries::again(dir)?;
        while let Some(entry) = entries.step()? {
            found.extend(base_of(entry.name));
        }
        Ok(())
    };
    match read() {
        Err(Error { errno: Errno::ENOENT, .. }) => return Ok(Vec::new()),
        done => done?,
    }
    found.sort_unstable();
    Ok(found)
}

/// The file that begins at `base`; `None`: there is none.
pub(super) fn open(dir: impl AsFd, base: u64, flags: OFlag) -> Result<Option<File>> {
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    loop {
        match openat(&dir, name(base).as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(fd) => return Ok(Some(File::from(fd))),
            Err(Errno::EINTR) => {}
            Err(Errno::ENOENT) if !flags.contains(OFlag::O_CREAT) => return Ok(None),
            Err(e) => return Err(Error::new("open", name(base), e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_places_do_and_others_are_left_alone() {
        let places = [0, 9, 10, u64::MAX];
        assert_eq!(places.map(|p| base_of(name(p).as_bytes())), places.map(Some));
        assert!(places.map(name).is_sorted());
        for other in [
            "log-",
            "log-1",
            "log-00000000000000000001x",
            "log--0000000000000000001",
            "job.toml",
            "log-99999999999999999999",
        ] {
            assert_eq!(base_of(other.as_bytes()), None, "{other}");
        }
    }
}
