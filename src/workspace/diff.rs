//! What a jail changed: the upper layer of its tree compared with the base directory as it is now.
//!
//! # What counts as a change
//! An entry of the upper layer that is the same as the host's (content and permission bits) is not a
//! change: copying up, touching, or writing the same bytes again leaves no trace here, and what was
//! applied already disappears from the list. Contents are compared byte by byte, only where the sizes
//! are equal, and without reading holes.
//!
//! # Changed on the host meanwhile
//! A three-way comparison needs the base as it was when the jail started. The overlay keeps no copy of
//! it, and hashing a whole tree before every run would cost more than the run. So:
//! 1. where host and upper layer agree there is no conflict, whatever happened in between;
//! 2. otherwise an entry whose **ctime** is later than the jail's start changed meanwhile. No program
//!    can set ctime, and every write, chmod, rename and replacement moves it forward. The price: a
//!    change back and forth, or a new hard link, counts as a change;
//! 3. a directory on the way must be the one that the jail saw: see the module `ways`;
//! 4. an entry that the host does not have must not be one that it had: see the module `gone`.
//!
//! [`Options::started`] must come from a file system, not from `clock_gettime`: before Linux 6.13 file
//! times advance in ticks (4 ms at 250 Hz), and a tick may end after a time read from the clock. The
//! ctime of the `base` link in the tree's own directory, made before the overlay is mounted, is such a
//! time. "Later" is strict: a file written in the same tick just *before* the start (`echo x >f; aj
//! exec …`) has an equal time and must not be a conflict; the price is that a write in the rest of
//! that tick after the start is not seen. The base must be on this machine: with a network file
//! system the times come from the server's clock.

use std::os::fd::OwnedFd;

pub use super::change::{Change, Conflict, Kind, Options, Skipped, Status};
use super::scan::{Event, Scan};
use super::stack::Uppers;
use crate::store::origin::Places;
use crate::sys;

/// Bytes of path text that a report holds at most; further changes are counted only.
const PATHS_LIMIT: usize = 256 << 20;

/// Numbers of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// New entries (not counting directories that have entries).
    pub added: u64,
    /// Entries with other content.
    pub modified: u64,
    /// Entries with other permission bits only.
    pub mode_changed: u64,
    /// Entries of another kind.
    pub type_changed: u64,
    /// Entries gone; a directory counts once.
    pub deleted: u64,
    /// Files below the directories that are gone or replaced.
    pub deleted_below: u64,
    /// Of all: files that the host would execute.
    pub host_executed: u64,
    /// Of all: changes in conflict with the host.
    pub conflicts: u64,
    /// Entries not compared.
    pub skipped: u64,
    /// Bytes of content that applying would write.
    pub bytes: u64,
}

impl Totals {
    /// Changed entries in all.
    pub fn changes(&self) -> u64 {
        self.added + self.modified + self.mode_changed + self.type_changed + self.deleted
    }

    pub(super) fn count(&mut self, change: &Change) {
        match change.status {
            Status::Added => self.added += 1,
            Status::Modified => self.modified += 1,
            Status::ModeChanged => self.mode_changed += 1,
            Status::TypeChanged => self.type_changed += 1,
            Status::Deleted => self.deleted += 1,
        }
        self.deleted_below += change.below;
        self.host_executed += u64::from(change.host_executed.is_some());
        self.conflicts += u64::from(change.conflict.is_some());
    }
}

/// A comparison.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The changes, sorted by path.
    pub changes: Vec<Change>,
    /// Entries that were not compared, sorted by path.
    pub skipped: Vec<Skipped>,
    /// Numbers; they count what the lists had no room for as well.
    pub totals: Totals,
    /// Changes and skipped entries that the lists had no room for.
    pub truncated: u64,
}

/// Compare the upper layers `uppers` with the directory `base`.
///
/// Nothing on the host is changed. Fails when the walk as a whole cannot go on; entries that cannot
/// be read are reported as skipped.
pub fn diff(uppers: impl Into<Uppers>, base: OwnedFd, options: &Options) -> sys::Result<Report> {
    compare(&mut Scan::new(uppers.into(), base, options)?)
}

/// What is found when a run has ended.
#[derive(Debug)]
pub struct AtEnd {
    /// The comparison.
    pub report: Report,
    /// The directories of the base that later comparisons must find again, where they can be told from
    /// others.
    pub places: Option<Places>,
    /// Bytes that the upper layer takes on the disk.
    pub allocated: u64,
}

/// As [`fn@diff`] when a run has ended.
pub fn diff_at_end(uppers: impl Into<Uppers>, base: OwnedFd, options: &Options) -> sys::Result<AtEnd> {
    let mut scan = Scan::new(uppers.into(), base, options)?.noting();
    let report = compare(&mut scan)?;
    Ok(AtEnd { report, places: scan.places, allocated: scan.allocated })
}

fn compare(scan: &mut Scan<'_>) -> sys::Result<Report> {
    let mut report = Report::default();
    let mut bytes = 0;
    while let Some(event) = scan.next()? {
        match event {
            Event::Enter(Some(item)) | Event::Item(item) if !item.change.implied => {
                report.totals.count(&item.change);
                if matches!(item.change.status, Status::Added | Status::Modified | Status::TypeChanged) {
                    report.totals.bytes += item.new.map_or(0, |m| m.allocated.min(m.size));
                }
                bytes += item.change.path.len();
                if bytes <= PATHS_LIMIT { report.changes.push(item.change) } else { report.truncated += 1 }
            }
            Event::Skip(skipped) => {
                report.totals.skipped += 1;
                bytes += skipped.path.len();
                if bytes <= PATHS_LIMIT { report.skipped.push(skipped) } else { report.truncated += 1 }
            }
            Event::Enter(_) | Event::Item(_) | Event::Leave => {}
        }
    }
    Ok(report)
}
