//! What `aj exec --json`, `--events` and `--status-fd` write.

use serde::Serialize;

use super::jail::{Effective, Excerpt, Usage};

/// Version of these documents.
pub const FORMAT: &str = "0.1";

/// The answer of `aj exec --json`.
#[derive(Debug, Serialize)]
pub struct Result {
    /// Version of this document.
    pub format_version: &'static str,
    /// The jail's id, for `aj jail show`.
    pub jail_id: String,
    /// The workspace that it ran in, by its name; `null` for none.
    pub workspace: Option<String>,
    /// What the command wrote to stdout, as text; bytes that are not UTF-8 become U+FFFD. `null` in
    /// `completed`: it has been told.
    pub stdout: Option<String>,
    /// The same for stderr.
    pub stderr: Option<String>,
    /// Exact bytes as base64, when the text is not.
    pub stdout_base64: Option<String>,
    /// The same for stderr.
    pub stderr_base64: Option<String>,
    /// Which of the two is not whole: only its first and last 64 KiB are here. `null` in `completed`.
    pub truncated: Option<Truncated>,
    /// Exit code of `aj exec`.
    pub exit_code: u8,
    /// Signal that killed the command.
    pub signal: Option<i32>,
    /// Who killed it: `timeout`, `memory`, `disk`, `user`, `signal`; `null` when it exited by itself.
    pub killed_by: Option<&'static str>,
    /// The timeout expired.
    pub timed_out: bool,
    /// The memory limit was reached.
    pub oom_killed: bool,
    /// Wall time.
    pub duration_ms: u64,
    /// What it used.
    pub stats: Usage,
    /// Files changed in the overlay; `null` when the workspace was not an overlay.
    pub files_changed: Option<u64>,
    /// The policy that was enforced.
    pub policy: Effective,
    /// Layers that were in force.
    pub layers: Vec<String>,
    /// Warnings, as on stderr.
    pub warnings: Vec<String>,
}

/// Which stream is not whole.
#[derive(Debug, Serialize)]
pub struct Truncated {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

/// One line of `aj exec --events`. `seq` counts from 0 without gaps; `completed` is always last.
#[derive(Debug, Serialize)]
pub struct Line {
    /// Position.
    pub seq: u64,
    /// RFC 3339.
    pub time: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// An event.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The command runs.
    Started {
        /// Version of these lines.
        format_version: &'static str,
        /// Layers in force.
        layers: Vec<String>,
        /// Pid of the jail's pid 1 on the host.
        pid: i32,
    },
    /// Bytes of stdout.
    Stdout(Bytes),
    /// Bytes of stderr.
    Stderr(Bytes),
    /// Twice a second.
    Stats {
        /// So far; `peak_rss` is the memory held now.
        stats: Usage,
    },
    /// The end, however it came.
    Completed {
        /// The same object as `--json`, but for the output, which has been told: `stdout`, `stderr` and
        /// `truncated` are `null`.
        result: Box<Result>,
    },
    /// The jail could not be started; nothing ran. Also an end.
    Failed {
        /// Version of these lines: it may be the first one.
        format_version: &'static str,
        /// The error as under `--json`.
        error: serde_json::Value,
    },
}

/// A chunk of output: `text` when it is UTF-8, else `base64`. Exactly one is not `null`.
#[derive(Debug, Serialize)]
pub struct Bytes {
    /// The chunk as text.
    pub text: Option<String>,
    /// The chunk as base64.
    pub base64: Option<String>,
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Bytes {
        match std::str::from_utf8(bytes) {
            Ok(text) => Bytes { text: Some(text.to_owned()), base64: None },
            Err(_) => Bytes { text: None, base64: Some(super::jail::bytes64::encode(bytes)) },
        }
    }
}

impl Excerpt {
    /// Whether bytes in the middle are missing.
    pub fn is_truncated(&self) -> bool {
        self.total > (self.head.len() + self.tail.len()) as u64
    }

    /// Both ends joined, and the exact bytes as base64 when the text is not exact.
    pub fn text(&self) -> (String, Option<String>) {
        let bytes = [self.head.as_slice(), self.tail.as_slice()].concat();
        match String::from_utf8(bytes) {
            Ok(text) => (text, None),
            Err(e) => {
                let bytes = e.into_bytes();
                (String::from_utf8_lossy(&bytes).into_owned(), Some(super::jail::bytes64::encode(&bytes)))
            }
        }
    }
}
