//! What `aj jail list --json` and `aj jail show --json` print.

use serde::{Deserialize, Serialize};

use super::jail::{Effective, Usage};

/// Version of these types: a higher second number adds keys, a higher first one may change them.
pub const FORMAT_VERSION: &str = "0.1";

/// What became of a jail. More values may be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Its `aj` still runs.
    Running,
    /// So it does, and nothing else of it: see `aj resume`.
    Paused,
    /// The command ended by itself, with any code.
    Exited,
    /// The jail or the command could not be started.
    Failed,
    /// `--timeout` expired.
    TimedOut,
    /// The command died of a signal nobody here sent.
    Killed,
    /// The memory limit was reached.
    Oom,
    /// The user, or a signal to `aj`, ended it.
    Interrupted,
    /// Its `aj` is gone and left no end: killed, or the machine went down.
    Lost,
}

impl Status {
    /// All of them, in the order of the documentation.
    pub const ALL: [Status; 9] = [
        Status::Running,
        Status::Paused,
        Status::Exited,
        Status::Failed,
        Status::TimedOut,
        Status::Killed,
        Status::Oom,
        Status::Interrupted,
        Status::Lost,
    ];

    /// As written in JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Exited => "exited",
            Status::Failed => "failed",
            Status::TimedOut => "timed_out",
            Status::Killed => "killed",
            Status::Oom => "oom",
            Status::Interrupted => "interrupted",
            Status::Lost => "lost",
        }
    }

    /// The status of that name.
    pub fn from_name(name: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|s| s.as_str() == name)
    }
}

/// What can have made a jail. More may be added.
pub const KINDS: [&str; 4] = ["exec", "shell", "live", "unknown"];

/// The answer of `aj jail list`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JailList {
    /// [`FORMAT_VERSION`].
    pub format_version: &'static str,
    /// Newest first.
    pub jails: Vec<JailSummary>,
}

/// One row of the list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JailSummary {
    /// Full id.
    pub id: String,
    /// What made it: `exec`.
    pub kind: String,
    /// What became of it.
    pub status: Status,
    /// The code `aj` returned; `null` while running and when lost.
    pub exit_code: Option<i32>,
    /// RFC 3339, UTC.
    pub started_at: Option<String>,
    /// RFC 3339, UTC.
    pub ended_at: Option<String>,
    /// Wall time by the monotonic clock; `null` while running and when lost.
    pub duration_ms: Option<u64>,
    /// The command, each argument printable.
    pub argv: Vec<String>,
    /// Where it started, printable.
    pub cwd: String,
    /// Host directory shown as the workspace, printable.
    pub base: String,
    /// The exact bytes of every argument in base64 where one of `argv` had to be escaped, else `null`.
    pub argv_base64: Option<Vec<String>>,
    /// The same of `cwd`.
    pub cwd_base64: Option<String>,
    /// The same of `base`.
    pub base_base64: Option<String>,
    /// The jail whose kept changes it went on in; `null` when it began with none.
    pub tree: Option<String>,
    /// Whether the overlay's changes are still there to be applied: its own, or those of `tree`.
    pub changes_kept: bool,
    /// Bytes that they take on the disk; `null` when none are kept, or nobody has measured them.
    pub kept_bytes: Option<u64>,
}

/// The answer of `aj jail show`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JailDetail {
    /// [`FORMAT_VERSION`].
    pub format_version: &'static str,
    /// Full id.
    pub id: String,
    /// What made it: `exec`.
    pub kind: String,
    /// What became of it.
    pub status: Status,
    /// The code `aj` returned; `null` while running and when lost.
    pub exit_code: Option<i32>,
    /// The signal that ended the command or `aj`.
    pub signal: Option<i32>,
    /// Why it could not be started.
    pub failure: Option<Failure>,
    /// RFC 3339, UTC.
    pub started_at: Option<String>,
    /// RFC 3339, UTC.
    pub ended_at: Option<String>,
    /// Wall time by the monotonic clock.
    pub duration_ms: Option<u64>,
    /// The command, each argument printable.
    pub argv: Vec<String>,
    /// Where it started, printable.
    pub cwd: String,
    /// Host directory shown as the workspace, printable.
    pub base: String,
    /// The exact bytes of every argument in base64 where one of `argv` had to be escaped, else `null`.
    pub argv_base64: Option<Vec<String>>,
    /// The same of `cwd`.
    pub cwd_base64: Option<String>,
    /// The same of `base`.
    pub base_base64: Option<String>,
    /// The jail whose kept changes it went on in; `null` when it began with none.
    pub tree: Option<String>,
    /// Pid of its `aj`.
    pub pid: Option<u32>,
    /// Files changed in the overlay; `null` when not counted.
    pub files_changed: Option<u64>,
    /// Whether the overlay's changes are still there to be applied: its own, or those of `tree`.
    pub changes_kept: bool,
    /// Bytes that they take on the disk; `null` when none are kept, or nobody has measured them.
    pub kept_bytes: Option<u64>,
    /// The policy as enforced; `null` when its record is lost.
    pub policy: Option<Effective>,
    /// Layers that were in force, in the order they were applied.
    pub layers: Vec<String>,
    /// What it used; `null` while running and when lost.
    pub usage: Option<Usage>,
    /// The limit that it was killed for where `status` cannot say so: `disk`.
    pub killed_for: Option<String>,
    /// What it wrote to stdout.
    pub stdout: Output,
    /// What it wrote to stderr.
    pub stderr: Output,
}

/// Which step failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The step, for example `mount proc`.
    pub step: String,
    /// Errno by name; `null` when there was none.
    pub errno: Option<String>,
}

/// The recorded part of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Output {
    /// Bytes the stream carried in all.
    pub total: u64,
    /// Whether something between `text` and `tail` was not kept.
    pub truncated: bool,
    /// The start of the stream, all of it when not truncated. Bytes that are not UTF-8 are replaced.
    pub text: String,
    /// The end of the stream; empty when not truncated.
    pub tail: String,
    /// The bytes of `text`, standard base64.
    pub text_base64: String,
    /// The bytes of `tail`, standard base64.
    pub tail_base64: String,
    /// The bytes of `text`, for the terminal side.
    #[serde(skip)]
    pub head_bytes: Vec<u8>,
    /// The bytes of `tail`.
    #[serde(skip)]
    pub tail_bytes: Vec<u8>,
}
