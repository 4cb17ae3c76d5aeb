//! Where a path lies on its file system, whatever it is called: one directory has as many names as
//! there are mounts of it.

use std::io::Read;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::mounts::{self, Mount};
use crate::sys::at::Meta;
use crate::sys::{Error, Result};

/// A directory or file as the file system that holds it knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    device: Vec<u8>,
    path: PathBuf,
}

/// The mounts of this process.
#[derive(Debug)]
pub struct Table(Vec<Mount>);

impl Table {
    /// Read all of it.
    pub fn read() -> Result<Table> {
        const FILE: &str = "/proc/self/mountinfo";
        let errno = |e: std::io::Error| Errno::from_raw(e.raw_os_error().unwrap_or_default());
        // Not cut off anywhere: a mount that is missing would be one that is not compared.
        let mut text = Vec::with_capacity(16 << 10);
        let read = std::fs::File::open(FILE).and_then(|mut file| file.read_to_end(&mut text));
        read.map_err(|e| Error::new("read", FILE, errno(e)))?;
        Ok(Table(mounts::parse(&text)))
    }

    /// Where `path` (absolute, without links) lies, and where everything does that is mounted below
    /// it. `meta` says by which mount it is reached. `None`: that mount is not in the table.
    pub fn places(&self, path: &Path, meta: &Meta) -> Option<Vec<Place>> {
        self.places_by(path, meta.mount)
    }

    /// The same without what is mounted below it.
    pub fn place(&self, path: &Path, meta: &Meta) -> Option<Place> {
        self.place_by(path, meta.mount)
    }

    /// Where something is mounted below `path` (absolute, without links), in order.
    pub fn below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a Path> {
        self.0.iter().map(|m| m.at.as_path()).filter(move |at| *at != path && at.starts_with(path))
    }

    fn places_by(&self, path: &Path, mount: u64) -> Option<Vec<Place>> {
        let own = self.place_by(path, mount)?;
        // Whether it can be seen there or something covers it makes no difference: rather too many.
        let below = self.0.iter().filter(|m| m.at != path && m.at.starts_with(path));
        let below = below.map(|m| place(m, Path::new("")));
        Some(std::iter::once(own).chain(below).collect())
    }

    fn place_by(&self, path: &Path, mount: u64) -> Option<Place> {
        let own = self.0.iter().find(|m| m.id == mount)?;
        Some(place(own, path.strip_prefix(&own.at).ok()?))
    }
}

fn place(mount: &Mount, rest: &Path) -> Place {
    Place { device: mount.device.clone(), path: mount.root.join(rest) }
}

/// Whether something of one lies in, or is, something of the other.
pub fn overlap(one: &[Place], other: &[Place]) -> bool {
    one.iter().any(|a| {
        other
            .iter()
            .any(|b| a.device == b.device && (a.path.starts_with(&b.path) || b.path.starts_with(&a.path)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
1 0 254:0 / / rw - ext4 d rw
2 1 254:16 / /data rw - ext4 e rw
3 1 254:16 /home /home rw - ext4 e rw
4 1 254:0 /root/.local/state /mnt/x rw - ext4 d rw
5 1 0:40 / /srv/tmp rw - tmpfs t rw
6 5 254:0 /root /srv/tmp/deep rw - ext4 d rw
";

    fn overlaps(shown: (&str, u64), state: (&str, u64)) -> bool {
        let table = Table(mounts::parse(TABLE.as_bytes()));
        let places = |(path, mount)| table.places_by(Path::new(path), mount).unwrap();
        overlap(&places(shown), &places(state))
    }

    #[test]
    fn one_directory_under_two_names_is_one_place() {
        let state = ("/root/.local/state/agentjail", 1);
        for shown in [("/mnt/x", 4), ("/mnt/x/agentjail", 4), ("/mnt/x/agentjail/cache", 4), ("/root", 1)] {
            assert!(overlaps(shown, state), "{shown:?}");
        }
        // By a mount below what is shown, and one below that.
        for shown in [("/mnt", 1), ("/srv", 1), ("/srv/tmp", 5)] {
            assert!(overlaps(shown, state), "{shown:?}");
        }
        for shown in
            [("/home/me", 3), ("/data", 2), ("/mnt/x/agentjail2", 4), ("/srv/tmp/other", 5), ("/opt", 1)]
        {
            assert!(!overlaps(shown, state), "{shown:?}");
        }
        // A home that is a part of another disk, which is also mounted as a whole.
        let state = ("/home/me/.local/state/agentjail", 3);
        assert!(overlaps(("/data", 2), state) && overlaps(("/data/home/me", 2), state));
        assert!(!overlaps(("/data/other", 2), state) && !overlaps(("/mnt/x", 4), state));
    }

    #[test]
    fn what_is_mounted_in_the_state_belongs_to_it() {
        assert!(overlaps(("/root/.local", 1), ("/srv", 1)));
        assert!(!overlaps(("/root2", 1), ("/srv", 1)));
    }

    #[test]
    fn a_mount_that_is_not_in_the_table_is_no_answer() {
        let table = Table(mounts::parse(TABLE.as_bytes()));
        assert_eq!(table.places_by(Path::new("/mnt/x"), 77), None);
        assert_eq!(table.places_by(Path::new("/other"), 4), None);
        assert!(Table::read().unwrap().0.len() > 1);
    }
}
