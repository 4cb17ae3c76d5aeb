//! What a jail changed, as `aj diff --json` and `aj apply --json` show it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::base::id::Id;

/// Version of these documents.
pub const FORMAT: FormatVersion = FormatVersion(Cow::Borrowed("0.1"));

/// The version that a document says it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FormatVersion(pub Cow<'static, str>);

/// The answer of `aj diff`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diff {
    /// [`FORMAT`].
    #[serde(rename = "format_version")]
    pub format: FormatVersion,
    /// The jail whose tree this is.
    pub tree: Id,
    /// The directory it was made over, printable.
    pub base: String,
    /// Parts of the project that lie elsewhere and were compared as well, printable and absolute: the git
    /// directory that a linked worktree or a submodule shares.
    #[serde(default)]
    pub parts: Vec<String>,
    /// The jail has not ended: what is listed may be half written.
    pub running: bool,
    /// The changes: those of `base` sorted by path, then those of each of `parts`.
    pub changes: Vec<Change>,
    /// Entries of the tree that were not compared.
    pub skipped: Vec<Skipped>,
    /// Numbers.
    pub totals: Totals,
    /// Changes and skipped entries that the lists had no room for; counted in `totals`.
    pub truncated: u64,
}

/// The answer of `aj apply`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    /// [`FORMAT`].
    #[serde(rename = "format_version")]
    pub format: FormatVersion,
    /// The jail whose tree this is.
    pub tree: Id,
    /// The directory that was changed, printable.
    pub base: String,
    /// As in [`Diff::parts`].
    #[serde(default)]
    pub parts: Vec<String>,
    /// `--dry-run` was given.
    pub dry_run: bool,
    /// Whether the directory was written to: not in a dry run, and not when conflicts stopped it.
    pub performed: bool,
    /// Changes made, or in a dry run that would be made, in the order of [`Diff::changes`]. Empty when
    /// conflicts stop it: then nothing is made.
    pub applied: Vec<Change>,
    /// Files that the host would execute, left out.
    pub withheld: Vec<Change>,
    /// Changes in conflict with the host, left out.
    pub conflicts: Vec<Change>,
    /// Changes that failed.
    pub failed: Vec<Failure>,
    /// Entries of the tree that are never applied.
    pub skipped: Vec<Skipped>,
    /// Numbers of `applied`.
    pub totals: Totals,
    /// Files withheld, listed or not.
    pub withheld_total: u64,
    /// Changes in conflict, listed or not.
    pub conflicts_total: u64,
    /// Changes that only the conflicts of others stopped. For the hint alone.
    #[serde(skip)]
    pub rest: u64,
    /// A failure ended the work early (a full disk).
    pub stopped: bool,
    /// Temporary files of an earlier, killed apply that were removed.
    pub cleaned: u64,
    /// Entries that the lists had no room for.
    pub truncated: u64,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Path below the base, printable. Of what lies in one of the `parts` it is absolute, so it begins
    /// with `/`; both kinds can be given to `aj diff` and `aj apply`.
    pub path: String,
    /// The exact bytes in base64 where `path` had to be escaped, else `null`.
    pub path_base64: Option<String>,
    /// `added`, `modified`, `mode_changed`, `type_changed` or `deleted`.
    pub status: String,
    /// `file`, `directory`, `symlink` or `special`; of a deletion what it was.
    pub kind: String,
    /// What it was on the host, `null` when added.
    pub old_kind: Option<String>,
    /// Bytes now.
    pub size: Option<u64>,
    /// Bytes on the host.
    pub old_size: Option<u64>,
    /// Permission bits now, such as `0644`.
    pub mode: Option<String>,
    /// Permission bits on the host.
    pub old_mode: Option<String>,
    /// Files below a directory that is deleted or replaced.
    pub files_below: u64,
    /// Target of a link, printable.
    pub target: Option<String>,
    /// The link leads out of the base or is absolute.
    pub leads_out: bool,
    /// The file has further names in the tree; each becomes a file of its own.
    pub hard_links: bool,
    /// It has a setuid, setgid or sticky bit, which is dropped.
    pub special_bits: bool,
    /// Why the host would execute it, `null` when it would not.
    pub host_executed: Option<String>,
    /// Why it cannot simply be applied, `null` when it can.
    pub conflict: Option<String>,
}

/// An entry that is not compared or applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// As in [`Change::path`].
    pub path: String,
    /// Why.
    pub reason: String,
    /// It could not be looked at: there may be changes that are not listed.
    pub unknown: bool,
}

/// A change that could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// As in [`Change::path`].
    pub path: String,
    /// What went wrong, with the errno by name.
    pub error: String,
    /// Errno by name, such as `EACCES`.
    pub errno: String,
    /// The directory that is at fault, because nothing can be made, replaced or removed in it;
    /// absolute, printable, `null` when it is not.
    pub directory: Option<String>,
}

/// Numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Changed entries in all.
    pub changes: u64,
    /// New ones (a directory with entries does not count).
    pub added: u64,
    /// With other content.
    pub modified: u64,
    /// With other permission bits only.
    pub mode_changed: u64,
    /// Of another kind.
    pub type_changed: u64,
    /// Gone; a directory counts once.
    pub deleted: u64,
    /// Files below the directories that are gone or replaced.
    pub deleted_below: u64,
    /// Of all: files that the host would execute.
    pub host_executed: u64,
    /// Of all: in conflict with the host.
    pub conflicts: u64,
    /// Entries not compared.
    pub skipped: u64,
    /// Bytes of content to write.
    pub bytes: u64,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Totals) {
        self.changes += other.changes;
        self.added += other.added;
        self.modified += other.modified;
        self.mode_changed += other.mode_changed;
        self.type_changed += other.type_changed;
        self.deleted += other.deleted;
        self.deleted_below += other.deleted_below;
        self.host_executed += other.host_executed;
        self.conflicts += other.conflicts;
        self.skipped += other.skipped;
        self.bytes += other.bytes;
    }
}
