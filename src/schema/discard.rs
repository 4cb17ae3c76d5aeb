//! What `aj discard --json` shows.

use serde::Serialize;

use super::changes::FormatVersion;
use crate::base::id::Id;

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Discarded {
    /// Version of this document.
    pub format_version: FormatVersion,
    /// `--dry-run` was given: `discarded` would be.
    pub dry_run: bool,
    /// Trees that were removed, newest use first.
    pub discarded: Vec<KeptTree>,
    /// Trees that a run, or somebody who reads, has in use: they stay.
    pub in_use: Vec<KeptTree>,
    /// Trees that could not be removed, or not whole.
    pub failed: Vec<FailedTree>,
}

/// The kept changes of a run, and of those that went on in them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeptTree {
    /// The jail that made it.
    pub tree: Id,
    /// The directory it was made over, printable; empty when that is not known.
    pub base: String,
    /// Bytes on the disk; `null` when nobody has measured them.
    pub bytes: Option<u64>,
    /// When the last run in it ended, RFC 3339; `null` when that is not known.
    pub used_at: Option<String>,
}

/// One that could not be removed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FailedTree {
    /// The jail that made it.
    pub tree: Id,
    /// Why.
    pub error: String,
}
