//! The names of one directory, sorted, in one allocation: a directory of a million entries that a
//! jail made costs its names and four bytes each.

use std::os::fd::AsFd;

use crate::sys;

/// Sorted names.
#[derive(Debug, Default)]
pub(super) struct Names {
    bytes: Vec<u8>,
    /// Where each name starts; it ends at the next NUL.
    starts: Vec<u32>,
}

impl Names {
    /// Every name in `dir` that `keep` wants.
    pub(super) fn read(dir: impl AsFd, mut keep: impl FnMut(&[u8]) -> bool) -> sys::Result<Names> {
        let mut names = Names::default();
        let mut failed = None;
        sys::at::each_name(dir, |name| {
            if keep(name) {
                failed = failed.take().or(names.add(name).err());
            }
        })?;
        names.sort();
        failed.map_or(Ok(names), Err)
    }

    /// Add a name at the end. `EOVERFLOW` when there are 4 GiB of them.
    pub(super) fn add(&mut self, name: &[u8]) -> sys::Result<()> {
        let start = u32::try_from(self.bytes.len())
            .map_err(|_| sys::Error::new("getdents", "", nix::errno::Errno::EOVERFLOW))?;
        self.starts.push(start);
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        Ok(())
    }

    /// Bring them in order, after some were added.
    pub(super) fn sort(&mut self) {
        let Names { bytes, starts } = self;
        starts.sort_unstable_by(|a, b| at(bytes, *a).cmp(at(bytes, *b)));
    }

    /// Those of `more` as well, of which none is here yet.
    pub(super) fn merge(&mut self, more: Names) -> sys::Result<()> {
        if self.starts.is_empty() {
            *self = more;
            return Ok(());
        }
        let too_many = || sys::Error::new("getdents", "", nix::errno::Errno::EOVERFLOW);
        let shift = u32::try_from(self.bytes.len()).map_err(|_| too_many())?;
        for start in more.starts {
            self.starts.push(start.checked_add(shift).ok_or_else(too_many)?);
        }
        self.bytes.extend_from_slice(&more.bytes);
        let Names { bytes, starts } = self;
        starts.sort_unstable_by(|a, b| at(bytes, *a).cmp(at(bytes, *b)));
        Ok(())
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The name at `i`, if there are so many.
    pub(super) fn get(&self, i: usize) -> Option<&[u8]> {
        self.starts.get(i).map(|s| at(&self.bytes, *s))
    }

    /// Whether `name` is among them.
    pub(super) fn contains(&self, name: &[u8]) -> bool {
        self.starts.binary_search_by(|s| at(&self.bytes, *s).cmp(name)).is_ok()
    }
}

fn at(bytes: &[u8], start: u32) -> &[u8] {
    let rest = &bytes[start as usize..];
    rest.split(|b| *b == 0).next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_by_bytes_and_found() {
        let t = tempfile::tempdir().unwrap();
        for n in ["b", "a", "B", "aa", "é", ".x"] {
            std::fs::write(t.path().join(n), b"").unwrap();
        }
        let dir = std::fs::File::open(t.path()).unwrap();
        let names = Names::read(&dir, |n| n != b"B").unwrap();
        let all: Vec<_> = (0..names.len()).map(|i| names.get(i).unwrap().to_vec()).collect();
        assert_eq!(all, [&b".x"[..], b"a", b"aa", b"b", "é".as_bytes()]);
        assert!(names.contains(b"aa") && !names.contains(b"B") && !names.contains(b""));
        assert!(names.get(5).is_none());
    }
}
