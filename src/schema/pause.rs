//! What `aj pause --json` and `aj resume --json` answer.

use serde::Serialize;

/// Version of these documents.
pub const FORMAT: &str = "0.1";

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Done {
    /// [`FORMAT`].
    pub format_version: &'static str,
    /// The jail's id.
    pub jail_id: String,
    /// Whether it stands still now.
    pub paused: bool,
    /// Whether this command changed that.
    pub changed: bool,
    /// What holds it: `cgroup.freeze`, `freezer` (cgroup v1) or `SIGSTOP`; `null` while it runs.
    pub by: Option<&'static str>,
    /// How long it took until everything stood still.
    pub took_ms: u64,
    /// How long it has been paused so far; its `--timeout` does not count that.
    pub paused_ms: u64,
}
