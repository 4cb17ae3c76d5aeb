//! The lines of `aj events`.

use serde::Serialize;

use super::changes::FormatVersion;
use super::job::Status as JobStatus;
use super::ledger::Status as JailStatus;
use crate::base::id::Id;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Counts the lines from 0.
    pub seq: u64,
    /// When it happened, RFC 3339; `null`: nobody wrote that down.
    pub time: Option<String>,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened. More may be added.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The first line.
    Version {
        /// Version of the lines.
        format_version: FormatVersion,
    },
    /// A jail was started.
    JailStarted {
        /// Its id.
        jail_id: String,
        /// What made it.
        kind: String,
        /// Its command, each argument printable.
        argv: Vec<String>,
        /// Working directory, printable.
        cwd: String,
    },
    /// A jail has ended.
    JailEnded {
        /// Its id.
        jail_id: String,
        /// What became of it.
        status: JailStatus,
        /// The code that `aj` returned.
        exit_code: Option<i32>,
    },
    /// A job was made, or started again by hand.
    JobStarted {
        /// Its id.
        job_id: Id,
        /// Its name.
        name: Option<String>,
        /// Its group.
        group: Option<String>,
        /// Its command, each argument printable.
        argv: Vec<String>,
    },
    /// Its command runs, for the first time or again.
    JobRunning {
        /// Its id.
        job_id: Id,
        /// How often it was started again.
        restarts: u32,
    },
    /// It is ready.
    JobReady {
        /// Its id.
        job_id: Id,
    },
    /// It has ended.
    JobEnded {
        /// Its id.
        job_id: Id,
        /// What became of it.
        status: JobStatus,
        /// The code that `aj exec` would have returned.
        exit_code: Option<u8>,
    },
    /// It was removed.
    JobRemoved {
        /// Its id.
        job_id: Id,
    },
    /// A workspace was made.
    WorkspaceCreated {
        /// Its id.
        workspace_id: Id,
        /// Its name.
        name: String,
    },
    /// It was removed.
    WorkspaceRemoved {
        /// Its id.
        workspace_id: Id,
    },
}
