//! `aj gc --json`.

use serde::Serialize;

use super::changes::FormatVersion;

/// What was cleaned up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Version of this document.
    pub format_version: FormatVersion,
    /// Nothing was changed.
    pub dry_run: bool,
    /// What was removed or stopped, or would be.
    pub removed: Vec<Removed>,
    /// Bytes of all of them together, as far as they are known.
    pub bytes: u64,
    /// What nobody knows, or what is not as it should be. It stays.
    pub unknown: Vec<Unknown>,
    /// What could not be removed.
    pub failed: Vec<Failed>,
}

/// One thing that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// `workspace`, `jail` (one that was stopped), `changes`, `leftover`, `layer`, `name`, `socket`, `group`,
    /// `file`, `cache`, `job` or `records`.
    pub kind: &'static str,
    /// What it was called; for groups and records how many there were.
    pub name: String,
    /// Bytes that it took on the disk; `null`: none, or that is not known.
    pub bytes: Option<u64>,
    /// Why it went.
    pub reason: String,
}

/// One thing that stays and should not be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unknown {
    /// Below the state directory.
    pub name: String,
    /// What is odd about it.
    pub reason: String,
}

/// One thing that could not be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// What it is called.
    pub name: String,
    /// Why not.
    pub error: String,
}
