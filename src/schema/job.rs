//! Jobs: their record on disk, and what `aj job --json`, `aj ps --json` and `aj wait --json` show.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::changes::FormatVersion;
use super::jail::{Outcome, bytes64};
use crate::base::id::Id;
use crate::base::name::Name;
use crate::base::text;

/// Format of [`Record`]; an older `aj` refuses a newer one.
pub const RECORD: u32 = 1;

/// Bytes that may be anything: text as it is, everything else as `base64:…`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bytes(pub Vec<u8>);

const BASE64: &str = "base64:";

impl Bytes {
    /// Printable.
    pub fn shown(&self) -> String {
        text::printable(&self.0)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) if !text.starts_with(BASE64) && !text.chars().any(char::is_control) => {
                s.serialize_str(text)
            }
            _ => s.serialize_str(&format!("{BASE64}{}", bytes64::encode(&self.0))),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Bytes, D::Error> {
        let text = <String as Deserialize>::deserialize(d)?;
        let Some(coded) = text.strip_prefix(BASE64) else { return Ok(Bytes(text.into_bytes())) };
        bytes64::decode(coded).map(Bytes).ok_or_else(|| serde::de::Error::custom("no base64"))
    }
}

/// `jobs/ID/job.toml`, but for its section `[policy]`, which `policy::stored` reads and writes. Times are
/// milliseconds since the epoch, durations milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`RECORD`].
    pub format: u32,
    /// Its id.
    pub id: Id,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Its group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Name>,
    /// The workspace that it runs in; `None`: a jail of its own over `dir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<Id>,
    /// Working directory of whoever started it, under the name that he had for it.
    pub dir: Bytes,
    /// Only that directory is shown.
    #[serde(default, skip_serializing_if = "is_false")]
    pub here: bool,
    /// This directory is shown instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_dir: Option<Bytes>,
    /// Where it begins, relative to `dir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<Bytes>,
    /// Directories that are refused otherwise are shown.
    #[serde(default, skip_serializing_if = "is_false")]
    pub i_mean_it: bool,
    /// The command.
    pub argv: Vec<Bytes>,
    /// Files of variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_files: Vec<Bytes>,
    /// GPUs, as `--gpu` takes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// Volumes, as `--vol` takes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// How often it is started again in a row when it fails; `None`: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<u32>,
    /// When it is ready, as `--ready` takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// How long that may take.
    pub ready_timeout_ms: u64,
    /// Bytes of the log at most.
    pub log_max: u64,
    /// The secret of the log.
    pub log_key: String,
    /// Where in the log its last run begins.
    pub log_from: u64,
    /// When it was made.
    pub created_ms: u64,
    /// How often `aj job start` and `aj job restart` have started it.
    pub turn: u32,
    /// What it is at.
    pub phase: Phase,
    /// How many jails this turn has had.
    pub runs: u32,
    /// When the command began; `None`: it has not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// When the last run of this turn was ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_ms: Option<u64>,
    /// The jail of the last run that has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jail: Option<Id>,
    /// Bytes of output that the log could not keep, by a full disk.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub log_lost: u64,
    /// Who watches over it.
    pub supervisor: Process,
    /// The parent of its command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<Process>,
    /// How this turn ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

fn is_false(b: &bool) -> bool {
    !*b
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// What a job is at, as its supervisor noted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// A jail is made.
    Starting,
    /// The command runs.
    Running,
    /// It failed and is started again soon.
    Restarting,
    /// It has ended.
    Ended,
}

/// One process of one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot.
    pub start: u64,
    /// The boot.
    pub boot: String,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// When.
    pub ended_ms: u64,
    /// As `aj exec` returns it.
    pub exit_code: u8,
    /// Wall time of the last run by the monotonic clock.
    pub duration_ms: u64,
    /// `aj job kill` asked for it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub by_kill: bool,
    /// Why it could not be started, or its end cannot be trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What became of the command; `None`: it was not started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// Why something failed, as `aj exec` would have said it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Exit code.
    pub exit: u8,
    /// Stable code.
    pub code: String,
    /// What failed.
    pub message: String,
    /// Why, outermost first.
    #[serde(default)]
    pub causes: Vec<String>,
    /// What can be done.
    #[serde(default)]
    pub hints: Vec<String>,
}

/// What became of a job. More values may be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Its jail is made.
    Starting,
    /// Its command runs.
    Running,
    /// It failed and is started again soon.
    Restarting,
    /// The command ended by itself, with any code.
    Exited,
    /// The jail or the command could not be started.
    Failed,
    /// `--timeout` expired.
    TimedOut,
    /// It died of a signal, `aj job kill` included.
    Killed,
    /// The memory limit was reached.
    Oom,
    /// A signal to its supervisor ended it.
    Interrupted,
    /// Its supervisor is gone and left no end: killed, or the machine went down.
    Lost,
}

impl Status {
    /// All of them.
    pub const ALL: [Status; 10] = [
        Status::Starting,
        Status::Running,
        Status::Restarting,
        Status::Exited,
        Status::Failed,
        Status::TimedOut,
        Status::Killed,
        Status::Oom,
        Status::Interrupted,
        Status::Lost,
    ];

    /// As in JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Starting => "starting",
            Status::Running => "running",
            Status::Restarting => "restarting",
            Status::Exited => "exited",
            Status::Failed => "failed",
            Status::TimedOut => "timed_out",
            Status::Killed => "killed",
            Status::Oom => "oom",
            Status::Interrupted => "interrupted",
            Status::Lost => "lost",
        }
    }

    /// Whether there is more to come.
    pub fn is_running(self) -> bool {
        matches!(self, Status::Starting | Status::Running | Status::Restarting)
    }
}

/// One job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Job {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: Option<Name>,
    /// Its group.
    pub group: Option<Name>,
    /// What became of it.
    pub status: Status,
    /// Whether it runs.
    pub running: bool,
    /// Whether it has been ready since its command last began; `null`: nobody said what that is.
    pub ready: Option<bool>,
    /// The code that `aj exec` would have returned; `null` while it runs and when it is lost.
    pub exit_code: Option<u8>,
    /// The signal that ended the command.
    pub signal: Option<i32>,
    /// The workspace that it runs in; `null`: a jail of its own.
    pub workspace: Option<Id>,
    /// The command, each argument printable.
    pub argv: Vec<String>,
    /// Working directory of whoever started it, printable.
    pub dir: String,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When its command last began, RFC 3339.
    pub started_at: Option<String>,
    /// When it was ready, RFC 3339.
    pub ready_at: Option<String>,
    /// When it ended, RFC 3339.
    pub ended_at: Option<String>,
    /// Wall time of the last run by the monotonic clock.
    pub duration_ms: Option<u64>,
    /// How often it was started again since it was last started by hand.
    pub restarts: u32,
    /// Pid of its supervisor.
    pub pid: Option<u32>,
    /// The jail of its last run that has ended; of `aj ps`, that of the run now.
    pub jail_id: Option<Id>,
    /// Pid of the parent of its command, for `aj ps`.
    #[serde(skip)]
    pub init: Option<u32>,
}

/// `aj job list --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobList {
    /// Version of this document.
    pub format_version: FormatVersion,
    /// Newest first.
    pub jobs: Vec<Job>,
}

/// `aj job show --json`, and the job after a change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobDetail {
    /// Version of this document.
    pub format_version: FormatVersion,
    /// The job.
    #[serde(flatten)]
    pub job: Job,
    /// When it is ready, as `--ready` takes it.
    pub ready_when: Option<String>,
    /// How often it may be started again in a row; `null`: never.
    pub restart_max: Option<u32>,
    /// Settings that it was started with, as flags take them; of a variable its name only.
    pub policy: Vec<super::workspace::Kept>,
    /// Why it could not be started.
    pub failure: Option<Failure>,
    /// Its log.
    pub log: Log,
}

/// What there is of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Log {
    /// Bytes that it takes on the disk.
    pub bytes: u64,
    /// Bytes that it may take.
    pub max: u64,
    /// A cursor that has seen all of it.
    pub end: u64,
    /// Bytes of output that could not be kept, by a full disk.
    pub lost: u64,
}

/// `aj job group list --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupList {
    /// Version of this document.
    pub format_version: FormatVersion,
    /// By name.
    pub groups: Vec<Group>,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Its name.
    pub name: Name,
    /// Jobs in it.
    pub jobs: u64,
    /// Those that run.
    pub running: u64,
}

/// `aj job rm --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Removed {
    /// Version of this document.
    pub format_version: FormatVersion,
    /// Jobs that are gone.
    pub removed: Vec<Id>,
}

/// `aj job logs --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Output {
    /// Version of this document.
    pub format_version: FormatVersion,
    /// The job.
    pub id: Id,
    /// What it wrote to stdout since the cursor.
    pub stdout: String,
    /// The same of stderr.
    pub stderr: String,
    /// How each is written: `utf-8`, or `base64` where it is no text.
    pub encoding: Encodings,
    /// Lines of `aj` about the job and its log.
    pub system: Vec<String>,
    /// The code that `aj exec` would have returned; `null` while it runs and when it is lost.
    pub exit_code: Option<u8>,
    /// Whether it runs.
    pub running: bool,
    /// What became of it.
    pub status: Status,
    /// For `--since`: what comes after this.
    pub next_cursor: u64,
    /// There is more already: this answer is bounded.
    pub more: bool,
    /// Bytes of the log between the cursor and what is shown that had been removed.
    pub skipped: u64,
}

/// See [`Output::encoding`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Encodings {
    /// Of stdout.
    pub stdout: &'static str,
    /// Of stderr.
    pub stderr: &'static str,
}

/// One line of `aj job logs -f --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    /// The first.
    Version {
        /// Version of the lines.
        format_version: FormatVersion,
    },
    /// Output, or a line of `aj`.
    Output {
        /// RFC 3339.
        time: String,
        /// `stdout`, `stderr` or `system`.
        stream: &'static str,
        /// The bytes.
        data: String,
        /// `utf-8` or `base64`.
        encoding: &'static str,
        /// For `--since`: what comes after this.
        next_cursor: u64,
    },
    /// The last.
    Ended {
        /// What became of it.
        status: Status,
        /// As in [`Output::exit_code`].
        exit_code: Option<u8>,
    },
}

/// `aj wait --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Waited {
    /// Version of this document.
    pub format_version: FormatVersion,
    /// In the order of the command line.
    pub waited: Vec<WaitedFor>,
}

/// What became of one of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WaitedFor {
    /// Full id.
    pub id: String,
    /// Its status.
    pub status: String,
    /// Whether what was waited for has come.
    pub met: bool,
    /// The code that it ended with.
    pub exit_code: Option<u8>,
    /// What was seen last when `http:…` was waited for in vain.
    pub unready: Option<Unready>,
}

/// A server that was not ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unready {
    /// The port; `null`: any.
    pub port: Option<u16>,
    /// The status that it answered with; `null`: with none.
    pub status: Option<u16>,
    /// All of it, in words.
    pub text: String,
}

/// `aj ps --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Processes {
    /// Version of this document.
    pub format_version: FormatVersion,
    /// Jobs that run, newest first.
    pub jobs: Vec<Job>,
    /// Processes of jails that run, those of one jail together.
    pub processes: Vec<OneProcess>,
}

/// One process in a jail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OneProcess {
    /// As the host numbers it.
    pub pid: u32,
    /// As its jail numbers it; `null`: there is no pid namespace.
    pub pid_inside: Option<u32>,
    /// Its parent, as the host numbers it.
    pub parent: u32,
    /// The jail.
    pub jail_id: Id,
    /// The job whose jail that is.
    pub job_id: Option<Id>,
    /// The workspace that it runs in.
    pub workspace: Option<Id>,
    /// `R`, `S`, `D`, `T`, `Z` …
    pub state: String,
    /// Processor time since it began, its waited-for children included, milliseconds.
    pub cpu_ms: u64,
    /// Resident memory, bytes.
    pub memory: u64,
    /// Threads.
    pub threads: u64,
    /// Its command line, printable, at most 4096 characters.
    pub command: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_where_they_can_be() {
        #[derive(Serialize, Deserialize, PartialEq, Debug)]
        struct One {
            b: Bytes,
        }
        for (bytes, text) in [
            (&b"npm run \"dev\""[..], "b = 'npm run \"dev\"'\n"),
            (b"\xff", "b = \"base64:/w==\"\n"),
            (b"a\nb\x1b", "b = \"base64:YQpiGw==\"\n"),
            (b"base64:x", "b = \"base64:YmFzZTY0Ong=\"\n"),
            (b"", "b = \"\"\n"),
        ] {
            let one = One { b: Bytes(bytes.to_vec()) };
            assert_eq!(toml::to_string(&one).unwrap(), text);
            assert_eq!(toml::from_str::<One>(text).unwrap(), one);
        }
        assert!(toml::from_str::<One>("b = \"base64:!\"").is_err());
    }
}
