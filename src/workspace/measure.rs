//! How much an upper layer takes on the disk, when no run counted it.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::names::Names;
use super::trail::Trail;
use crate::sys;
use crate::sys::at::{self, FileKind};
use crate::sys::openat2::For;

/// How much work that may be.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// Entries looked at.
    pub entries: u64,
    /// Time.
    pub time: Duration,
}

/// Bytes on the disk of what is in `upper`, as far as `most` goes: less than there are where it ends the
/// walk, and where something cannot be read.
pub fn allocated(upper: OwnedFd, most: Most) -> sys::Result<u64> {
    let mut walk = Walk::new(upper)?;
    // A directory that was moved away ends it as well.
    walk.go_on(most).ok();
    Ok(walk.bytes())
}

/// A walk that can be gone on with: a tree that is too large for one look is not one that takes nothing.
#[derive(Debug)]
pub struct Walk {
    trail: Trail,
    frames: Vec<(Names, usize)>,
    bytes: u64,
}

impl Walk {
    /// Begin at `upper`.
    pub fn new(upper: OwnedFd) -> sys::Result<Walk> {
        let trail = Trail::new(upper, For::Listing)?;
        let frames = vec![(Names::read(trail.top()?, |_| true)?, 0)];
        Ok(Walk { trail, frames, bytes: 0 })
    }

    /// Bytes seen so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Go on as far as `most` goes; whether all has been seen.
    pub fn go_on(&mut self, most: Most) -> sys::Result<bool> {
        let (began, mut left) = (Instant::now(), most.entries);
        let Walk { trail, frames, bytes } = self;
        while let Some((names, next)) = frames.last_mut() {
            let Some(name) = names.get(*next) else {
                frames.pop();
                if !frames.is_empty() {
                    trail.leave()?;
                }
                continue;
            };
            if left == 0 || began.elapsed() > most.time {
                return Ok(false);
            }
            *next += 1;
            left -= 1;
            let Ok(meta) = at::stat(trail.top()?, name) else { continue };
            *bytes = bytes.saturating_add(at::share(&meta));
            if meta.kind == FileKind::Dir && trail.enter_unlocking(name).is_ok() {
                match Names::read(trail.top()?, |_| true) {
                    Ok(names) => frames.push((names, 0)),
                    Err(_) => trail.leave()?,
                }
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    const ALL: Most = Most { entries: u64::MAX, time: Duration::from_secs(60) };

    fn of(dir: &std::path::Path, most: Most) -> u64 {
        allocated(fs::File::open(dir).unwrap().into(), most).unwrap()
    }

    #[test]
    fn each_file_counts_once_and_nothing_outside_is_counted() {
        let (t, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(out.path().join("big"), vec![1; 1 << 20]).unwrap();
        symlink(out.path(), t.path().join("away")).unwrap();
        fs::create_dir_all(t.path().join("a/locked")).unwrap();
        fs::write(t.path().join("a/locked/file"), vec![1; 100_000]).unwrap();
        let whole = |p: &str| fs::symlink_metadata(t.path().join(p)).unwrap().blocks() * 512;
        let expected = ["away", "a", "a/locked", "a/locked/file"].map(whole).iter().sum::<u64>();
        fs::set_permissions(t.path().join("a/locked"), Permissions::from_mode(0o0)).unwrap();
        assert_eq!(of(t.path(), ALL), expected);
        assert_eq!(fs::metadata(t.path().join("a/locked")).unwrap().mode() & 0o777, 0, "put back");
        fs::set_permissions(t.path().join("a/locked"), Permissions::from_mode(0o700)).unwrap();
        // A thousand names would be 100 MB that are not there.
        for n in 0..1000 {
            fs::hard_link(t.path().join("a/locked/file"), t.path().join(format!("a/{n}"))).unwrap();
        }
        assert!(of(t.path(), ALL) < expected + 300_000, "{}", of(t.path(), ALL));
        assert_eq!(of(t.path(), Most { entries: 0, ..ALL }), 0);
        assert!(of(t.path(), Most { time: Duration::ZERO, ..ALL }) < expected);
        // A piece at a time it comes to the same.
        let mut walk = Walk::new(fs::File::open(t.path()).unwrap().into()).unwrap();
        let mut looks = 1;
        while !walk.go_on(Most { entries: 100, ..ALL }).unwrap() {
            looks += 1;
        }
        assert_eq!((walk.bytes(), looks), (of(t.path(), ALL), 11));
    }
}
