//! What `aj stats --json` prints.

use serde::Serialize;

/// Version of this document: a higher second number adds keys, a higher first one may change them.
pub const FORMAT: &str = "0.1";

/// Totals over the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Stats {
    /// [`FORMAT`].
    pub format_version: &'static str,
    /// Only jails that started since then, RFC 3339; `null`: since the first.
    pub since: Option<String>,
    /// Only those that started before then.
    pub until: Option<String>,
    /// All of them together.
    pub total: Sum,
    /// What they are sorted into: `day`, `program`, `preset`, `kind`, `dir` or `jail`; `null` without.
    pub by: Option<&'static str>,
    /// The parts of it, the one with the most processor time first; days in their order.
    pub groups: Vec<Group>,
    /// Changes that are kept, of whatever time.
    pub kept: Kept,
}

/// Some of the jails.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Group {
    /// What they have in common, printable; `null`: what is not known, or was not chosen.
    pub key: Option<String>,
    /// What they used.
    #[serde(flatten)]
    pub sum: Sum,
}

/// What some jails did and used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Sum {
    /// How many.
    pub runs: u64,
    /// Of these, those that run now.
    pub running: u64,
    /// Exited with 0.
    pub succeeded: u64,
    /// Exited with another code, or could not be started.
    pub failed: u64,
    /// Their time was up.
    pub timed_out: u64,
    /// They ran out of memory.
    pub oom: u64,
    /// Killed by a signal that nobody here sent.
    pub killed: u64,
    /// Ended by the user.
    pub interrupted: u64,
    /// Their `aj` is gone and left no end: what they used is not known.
    pub lost: u64,
    /// Processor time in user mode.
    pub user_ms: u64,
    /// Processor time in the kernel.
    pub system_ms: u64,
    /// Wall time, added up: jails beside each other count each.
    pub wall_ms: u64,
    /// Most bytes of memory that one of them had.
    pub peak_memory: u64,
}

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Kept {
    /// Jails whose changes are.
    pub jails: u64,
    /// Bytes on the disk, as far as they were measured.
    pub bytes: u64,
}
