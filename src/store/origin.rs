//! Which directory a tree was made over, so that another one in its place is told from it.
//!
//! Two records, both out of the jail's reach in the directory of the tree:
//! - the attribute `user.aj.base`: the identity of the base itself, noted before the run. It is bound
//!   to the path, because an older `aj` gives a spare tree another base and leaves the attribute;
//! - the file `places`: the identities of the directories of the base that the run had changes in,
//!   noted after it, and the other entries that were there and that it has a version of: an entry of the
//!   jail's that the host has no longer is no new one. Of directories it has the permission bits of the base as
//!   well, where nobody changed those beside the jail. Only runs that changed something pay for it. A
//!   further run in the same tree adds to it and takes nothing back: what the first one saw is what its
//!   changes belong to.
//!
//! A tree without a record, or with one that cannot be read, is judged by times alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::atomic::{self, Durability};
use crate::base::stamp;
use crate::sys::at::{self, Identity, Stamp};
use crate::sys::{errno, xattr};

const ATTRIBUTE: &CStr = c"user.aj.base";
const FILE: &str = "places";
/// Older versions know directories only, and what they wrote is read still.
const HEAD: &[u8] = b"aj-places 2\n";
const HEAD_BEFORE: &[u8] = b"aj-places 1\n";
/// In place of an identity: an entry that is no directory.
const ENTRY: &[u8] = b"-";
/// Before the permission bits of a directory, in place of an identity.
const MODE: u8 = b'm';
/// Bytes of paths and identities that the file holds at most; directories beyond are left out.
const LIMIT: usize = 4 << 20;
/// The same of entries that are no directories, so that they cannot take the room of those.
const ENTRIES_LIMIT: usize = 3 << 20;
/// The same of permission bits.
const MODES_LIMIT: usize = 3 << 18;

/// Note in the directory of a tree which directory is at `base` now. A run can do without: it is
/// judged by times then. Trees are used again over the same base, so the attribute mostly stands.
pub(super) fn note(tree: impl AsFd, base: &Path) {
    let identity = at::stat_path(base).map(|m| m.identity());
    let value = identity.map(|i| format!("{:x} {}", bind(base), print(&i))).unwrap_or_default();
    let noted = xattr::get(&tree, ATTRIBUTE);
    if !matches!(noted, Ok(Some(old)) if old == value.as_bytes()) {
        drop(xattr::set(&tree, ATTRIBUTE, value.as_bytes()));
    }
}

/// Let `to` have what is noted on `from`, over the same base.
pub(super) fn hand_on(from: impl AsFd, to: impl AsFd) {
    if let Ok(Some(value)) = xattr::get(from, ATTRIBUTE) {
        drop(xattr::set(to, ATTRIBUTE, &value));
    }
}

/// The identity of the directory that the tree was made over, if that was noted for `base`.
pub fn noted(tree: impl AsFd, base: &Path) -> Option<Identity> {
    let value = xattr::get(tree, ATTRIBUTE).ok().flatten()?;
    let (bound, identity) = std::str::from_utf8(&value).ok()?.split_once(' ')?;
    let bound = u64::from_str_radix(bound, 16).ok()?;
    (bound == bind(base) || bound == bound_before(base)).then(|| parse(identity)).flatten()
}

/// A digest of the path.
fn bind(base: &Path) -> u64 {
    stamp::of(base.as_os_str().as_bytes())
}

/// That of older versions, whose kept changes are still there.
fn bound_before(base: &Path) -> u64 {
    let hash = blake3::hash(base.as_os_str().as_bytes());
    hash.as_bytes().iter().take(8).fold(0, |n, b| n << 8 | u64::from(*b))
}

fn print(identity: &Identity) -> String {
    match identity.born {
        Some(born) => format!("{:x} {:x} {:x}", identity.ino, born.sec, born.nsec),
        None => format!("{:x}", identity.ino),
    }
}

fn parse(text: &str) -> Option<Identity> {
    let mut words = text.split(' ');
    let ino = u64::from_str_radix(words.next()?, 16).ok()?;
    let born = match (words.next(), words.next(), words.next()) {
        (None, ..) => None,
        (Some(sec), Some(nsec), None) => Some(Stamp {
            // Printed as the bits of a negative number are: as an unsigned one.
            sec: u64::from_str_radix(sec, 16).ok()?.cast_signed(),
            nsec: u32::from_str_radix(nsec, 16).ok()?,
        }),
        (Some(_), ..) => return None,
    };
    Some(Identity { ino, born })
}

/// Directories of a base by their paths below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    known: BTreeMap<Vec<u8>, Identity>,
    bytes: usize,
    /// There was no room for all.
    cut: bool,
    /// Entries that were there and were not directories on both sides.
    entries: BTreeSet<Vec<u8>>,
    entry_bytes: usize,
    /// Permission bits that directories of the base had.
    modes: BTreeMap<Vec<u8>, u32>,
    mode_bytes: usize,
}

/// What is known about one directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It was this one.
    As(Identity),
    /// There was none.
    Absent,
    /// There was no room to note it.
    Unknown,
}

impl Places {
    /// Note the directory at `path`, while there is room.
    pub fn add(&mut self, path: &[u8], identity: Identity) {
        if !self.known.contains_key(path) {
            self.bytes += path.len() + 48;
        }
        if self.bytes <= LIMIT {
            self.known.insert(path.to_vec(), identity);
        } else {
            self.cut = true;
        }
    }

    /// Note that the base has the entry `path`, while there is room.
    pub fn add_entry(&mut self, path: &[u8]) {
        let takes = path.len() + 3;
        if self.entry_bytes + takes <= ENTRIES_LIMIT && self.entries.insert(path.to_vec()) {
            self.entry_bytes += takes;
        }
    }

    /// Note the permission bits of the base's directory at `path`, as they are before the jail's changes, while
    /// there is room.
    pub fn add_mode(&mut self, path: &[u8], mode: u32) {
        let takes = path.len() + 6;
        if self.modes.contains_key(path) || self.mode_bytes + takes <= MODES_LIMIT {
            let known = self.modes.insert(path.to_vec(), mode & 0o777).is_some();
            self.mode_bytes += if known { 0 } else { takes };
        }
    }

    /// The permission bits that the base's directory at `path` had, if that was noted.
    pub fn mode_of(&self, path: &[u8]) -> Option<u32> {
        self.modes.get(path).copied()
    }

    /// Whether the base is known to have had the entry `path`, which is no directory that is a directory in
    /// the tree as well.
    pub fn had_entry(&self, path: &[u8]) -> bool {
        self.entries.contains(path)
    }

    /// What was noted about `path`.
    pub fn at(&self, path: &[u8]) -> Known {
        match self.known.get(path) {
            Some(identity) => Known::As(*identity),
            None if self.cut => Known::Unknown,
            None => Known::Absent,
        }
    }

    /// The same, about a tree that a run goes on in: what is not known may be there by now.
    pub fn open_ended(mut self) -> Places {
        self.cut = true;
        self
    }

    /// The same when all there is is about to be added.
    pub fn to_be_completed(mut self) -> Places {
        self.cut = false;
        self
    }

    /// Keep them in the directory of a tree.
    pub fn write(&self, tree: impl AsFd) -> Result<(), Errno> {
        atomic::write(tree, FILE, &self.encode(), Durability::Cache)
    }

    /// Make those that are kept in the directory of a tree [`open_ended`](Places::open_ended) where they are:
    /// that takes no room.
    pub(super) fn open_end(tree: impl AsFd) -> Result<(), Errno> {
        let file = super::dirfd::open_file(tree, FILE, OFlag::O_RDWR)?;
        let end = file.metadata().map_err(|e| errno(&e))?.len().saturating_sub(b"all\0".len() as u64);
        file.write_all_at(b"cut\0", end).map_err(|e| errno(&e))
    }

    /// Those kept in the directory of a tree; `None` when there are none, or they cannot be read.
    pub fn read(tree: impl AsFd) -> Option<Places> {
        let bytes = atomic::read(tree, FILE, 2 * LIMIT as u64).ok().flatten()?;
        Places::decode(&bytes)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = HEAD.to_vec();
        for (path, identity) in &self.known {
            out.extend_from_slice(print(identity).as_bytes());
            out.push(b'/');
            out.extend_from_slice(path);
            out.push(0);
        }
        for (path, mode) in &self.modes {
            out.push(MODE);
            out.extend_from_slice(format!("{mode:o}/").as_bytes());
            out.extend_from_slice(path);
            out.push(0);
        }
        for path in &self.entries {
            out.extend_from_slice(ENTRY);
            out.push(b'/');
            out.extend_from_slice(path);
            out.push(0);
        }
        // Without it the file was cut short.
        out.extend_from_slice(if self.cut { b"cut\0" } else { b"all\0" });
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Places> {
        let entries = bytes.strip_prefix(HEAD).or_else(|| bytes.strip_prefix(HEAD_BEFORE))?;
        let mut entries = entries.strip_suffix(b"\0")?.split(|b| *b == 0);
        let cut = match entries.next_back()? {
            b"cut" => true,
            b"all" => false,
            _ => return None,
        };
        let mut places = Places::default();
        for entry in entries {
            let slash = entry.iter().position(|b| *b == b'/')?;
            if &entry[..slash] == ENTRY {
                places.add_entry(&entry[slash + 1..]);
                continue;
            }
            if let Some(mode) = entry[..slash].strip_prefix(&[MODE]) {
                let mode = u32::from_str_radix(std::str::from_utf8(mode).ok()?, 8).ok()?;
                places.add_mode(&entry[slash + 1..], mode);
                continue;
            }
            let identity = parse(std::str::from_utf8(&entry[..slash]).ok()?)?;
            places.add(&entry[slash + 1..], identity);
        }
        places.cut |= cut;
        Some(places)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{id, state};
    use super::super::trees;
    use super::*;

    fn some(ino: u64) -> Identity {
        Identity { ino, born: Some(Stamp { sec: -2, nsec: 999_999_999 }) }
    }

    #[test]
    fn what_is_noted_is_read_back() {
        for identity in [some(u64::MAX), Identity { ino: 0, born: None }] {
            assert_eq!(parse(&print(&identity)), Some(identity));
        }
        for bad in ["", "x", "1 2", "1 2 3 4", "1  3", "1 2 fffffffff"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let mut places = Places::default();
        for (i, path) in [&b"a"[..], b"a/b c", b"odd\n\xff/ 1"].into_iter().enumerate() {
            places.add(path, some(i as u64));
        }
        places.add_entry(b"a/f\xff");
        places.add_mode(b"a", 0o777);
        places.add_mode(b"a", 0o1750);
        let dir = tempfile::tempdir().unwrap();
        let dir = std::fs::File::open(dir.path()).unwrap();
        assert_eq!(Places::read(&dir), None);
        places.write(&dir).unwrap();
        let read = Places::read(&dir).unwrap();
        assert_eq!((&read, read.at(b"a/b c"), read.at(b"b")), (&places, Known::As(some(1)), Known::Absent));
        assert_eq!((read.had_entry(b"a/f\xff"), read.had_entry(b"a/b c")), (true, false));
        assert_eq!((read.mode_of(b"a"), read.mode_of(b"a/b c")), (Some(0o750), None));
        let older = Places::decode(b"aj-places 1\n1/d\0all\0").unwrap();
        assert_eq!(older.at(b"d"), Known::As(Identity { ino: 1, born: None }), "by an older version");
        places.clone().to_be_completed().write(&dir).unwrap();
        Places::open_end(&dir).unwrap();
        assert_eq!(Places::read(&dir), Some(places.clone().open_ended()));
        let bytes = places.encode();
        for end in 0..bytes.len() {
            assert_eq!(Places::decode(&bytes[..end]), None, "cut short at {end}");
        }
    }

    #[test]
    fn the_file_is_bounded_and_says_that_something_is_missing() {
        let mut places = Places::default();
        for i in 0..10_000u64 {
            places.add(format!("{i}/{}", "n".repeat(1000)).as_bytes(), some(i));
            places.add_entry(format!("{i}/{}", "e".repeat(1000)).as_bytes());
        }
        let bytes = places.encode();
        assert!(bytes.len() < LIMIT + ENTRIES_LIMIT, "{}", bytes.len());
        let read = Places::decode(&bytes).unwrap();
        assert_eq!(read.at(b"elsewhere"), Known::Unknown);
        assert_eq!((&read.known, &read.entries), (&places.known, &places.entries));
    }

    #[test]
    fn a_tree_knows_its_base_also_when_it_is_used_again() {
        let (dir, state) = state();
        let [a, b] = ["a", "b"].map(|n| dir.path().join(n));
        for d in [&a, &b] {
            std::fs::create_dir(d).unwrap();
        }
        let is = |d: &Path| at::stat_path(d).unwrap().identity();
        let make = |base: &Path| trees::create_tree(&state, id(), base, None).unwrap();
        let tree = make(&a);
        if xattr::get(&tree, ATTRIBUTE).unwrap().is_none() {
            eprintln!("SKIP: user attributes cannot be set here");
            return;
        }
        assert_eq!(noted(&tree, &a), Some(is(&a)));
        let told = at::fstat(std::fs::File::open(&a).unwrap()).unwrap().btime;
        assert_eq!(noted(&tree, &a).unwrap().born, told, "whatever the C library");
        assert_eq!(noted(&tree, &b), None, "noted for another path");
        let older = format!("{:x} {}", bound_before(&a), print(&is(&a)));
        xattr::set(&tree, ATTRIBUTE, older.as_bytes()).unwrap();
        assert_eq!((noted(&tree, &a), noted(&tree, &b)), (Some(is(&a)), None), "noted by an older version");
        for base in [&b, &a] {
            let tree = make(base);
            tree.retire(&state).unwrap();
            trees::prepare_spare(&state).unwrap();
        }
        let tree = make(&b);
        assert_eq!(noted(&tree, &b), Some(is(&b)));
        tree.retire(&state).unwrap();
        trees::prepare_spare(&state).unwrap();
        std::fs::rename(&b, dir.path().join("old")).unwrap();
        std::fs::rename(&a, &b).unwrap();
        let tree = make(&b);
        assert_eq!(noted(&tree, &b), Some(is(&b)), "the directory that is there now");
        assert!(!is(&b).is(&is(&dir.path().join("old"))));
    }
}
