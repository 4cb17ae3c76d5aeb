//! What `aj top --json` prints.

use serde::Serialize;

use super::ledger::Status;

/// Version of this document: a higher second number adds keys, a higher first one may change them.
pub const FORMAT: &str = "0.1";

/// The jails that run, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Top {
    /// [`FORMAT`].
    pub format_version: &'static str,
    /// RFC 3339, UTC.
    pub taken_at: String,
    /// One for each jail.
    pub jails: Vec<Jail>,
}

/// One of them. What nobody could count is `null`, and so are rates of a jail that was seen only once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Jail {
    /// Full id.
    pub id: String,
    /// What made it: `exec`, `shell`.
    pub kind: String,
    /// `running` or `paused`.
    pub status: Status,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// How long ago that was.
    pub age_ms: u64,
    /// Pid of its `aj`.
    pub pid: u32,
    /// The command, each argument printable.
    pub argv: Vec<String>,
    /// Where it started, printable.
    pub cwd: String,
    /// Host directory shown as the workspace, printable.
    pub base: String,
    /// Processor time so far.
    pub cpu_ms: Option<u64>,
    /// Thousandths of a processor that it takes now.
    pub cpu_millis: Option<u64>,
    /// The limit of those; `null` without one.
    pub cpu_millis_limit: Option<u64>,
    /// Bytes of memory now.
    pub memory: Option<u64>,
    /// The limit; `null` without one.
    pub memory_limit: Option<u64>,
    /// Processes and threads now.
    pub tasks: Option<u64>,
    /// The limit; `null` without one.
    pub tasks_limit: Option<u64>,
    /// Bytes read from disks so far.
    pub read: Option<u64>,
    /// Bytes read in a second now.
    pub read_rate: Option<u64>,
    /// Bytes written to disks so far.
    pub written: Option<u64>,
    /// Bytes written in a second now.
    pub write_rate: Option<u64>,
    /// What holds its limits, as recorded.
    pub limits_by: String,
    /// Who counted.
    pub counted_by: CountedBy,
}

/// Who counted what: `cgroup2`, `cgroup1`, or `processes`, which is a sum over the processes that there
/// were at that moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct CountedBy {
    /// Processor time.
    pub cpu: &'static str,
    /// Memory.
    pub memory: &'static str,
    /// Processes and threads.
    pub tasks: &'static str,
    /// Reading and writing.
    pub io: &'static str,
}
