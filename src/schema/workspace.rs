//! Workspaces: their record on disk, and what `aj workspace --json` shows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::changes::FormatVersion;
use super::job::Process;
use crate::base::id::Id;
use crate::base::name::Name;

/// Format of [`Record`]; an older `aj` refuses a newer one.
pub const RECORD: u32 = 1;
/// The same of one with an [`Import`] or a path of its own: an older `aj` would take the layer for one that
/// nobody uses.
pub const RECORD_OF_IMPORT: u32 = 2;

/// `workspaces/ID/workspace.toml`, but for its section `[policy]`, which `policy::stored` reads and writes.
/// Times are milliseconds since the epoch, durations milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`RECORD`].
    pub format: u32,
    /// Its id.
    pub id: Id,
    /// Its name. The link `workspaces/names/NAME` leads to the id.
    pub name: Name,
    /// When it was made.
    pub created_ms: u64,
    /// The host directory that its tree lies over; `None`: it began empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_dir: Option<String>,
    /// It ends so long after it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// So long after its last use it is idle: what still runs in it is stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
    /// So long after its last use it is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rm_idle_ms: Option<u64>,
    /// When somebody said that it is in use (`aj workspace touch`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub touched_ms: Option<u64>,
    /// It does not end before then, whatever the other two say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_until_ms: Option<u64>,
    /// Files of variables that each command gets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_files: Vec<String>,
    /// GPUs that each command has, as `--gpu` takes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// Volumes that each command gets, as `--vol` takes them, by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// The workspace that this one is a fork of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Id>,
    /// The same for all that were made of it by one command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The layers below its own, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Where its tree is seen, when that is neither the host directory's path nor `/workspace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The copy of a host directory that its tree lies over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import: Option<Import>,
    /// The process that made it for one command of its own (`aj exec --isolated`): without changes it is worth
    /// nothing once that has ended. `None` as well when somebody has given it a name or a setting, or has used
    /// it, since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maker: Option<Process>,
    /// What the user noted about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
}

/// A copy of a host directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// The directory.
    pub from: String,
    /// The layer that it was copied into.
    pub layer: String,
    /// Files and links in it.
    pub files: u64,
    /// Bytes in them, holes apart.
    pub bytes: u64,
}

/// What a workspace is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing runs in it.
    Ready,
    /// A command does, or its jail is kept.
    Running,
    /// What runs in it stands still: see `aj resume`.
    Paused,
    /// Nothing runs in it, and nobody has used it for as long as `--idle` said.
    Idle,
    /// Its time is up.
    Expired,
}

impl Status {
    /// All of them.
    pub const ALL: [Status; 5] =
        [Status::Ready, Status::Running, Status::Paused, Status::Idle, Status::Expired];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Ready => "ready",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Idle => "idle",
            Status::Expired => "expired",
        }
    }
}

/// The jail that runs in a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Live {
    /// Its id; `null` when that is not known.
    pub jail_id: Option<Id>,
    /// The process that holds it.
    pub pid: u32,
    /// When it was started, RFC 3339.
    pub since: String,
    /// Commands in it; `null` while it is paused.
    pub commands: Option<u32>,
    /// Processes in it; `null` while it is paused.
    pub processes: Option<u32>,
    /// Whether it stays when nothing is left in it (`aj workspace start`).
    pub keep: bool,
}

/// One workspace.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Workspace {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: Name,
    /// What it is doing.
    pub status: Status,
    /// The jail that runs in it.
    pub live: Option<Live>,
    /// The host directory that it lies over; `null`: it began empty.
    pub from_dir: Option<String>,
    /// The host directory that its tree lies over a copy of.
    pub imported: Option<Imported>,
    /// Where it is seen inside.
    pub path: String,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When a command last began or ended in it, or somebody touched it, RFC 3339.
    pub used_at: String,
    /// When it ends if nobody uses it, RFC 3339; `null`: never. One that has ended is removed a while later
    /// (`keep.expired` of config.toml), one of `--rm-when-idle` at once.
    pub expires_at: Option<String>,
    /// As given by `--ttl`, milliseconds.
    pub ttl_ms: Option<u64>,
    /// As given by `--idle`, milliseconds.
    pub idle_ms: Option<u64>,
    /// As given by `--rm-when-idle`, milliseconds.
    pub rm_idle_ms: Option<u64>,
    /// Bytes that its changes take on the disk; `null` when nobody has measured them.
    pub bytes: Option<u64>,
    /// The workspace that it is a fork of.
    pub parent: Option<Id>,
    /// The same for all that one command made of it.
    pub group: Option<String>,
    /// The layers below its own, newest first.
    pub layers: Vec<String>,
    /// Words to find it by.
    pub labels: Vec<String>,
    /// What the user noted about it.
    pub meta: BTreeMap<String, String>,
}

impl Workspace {
    /// The host directory that it began with, shared or copied.
    pub fn began_with(&self) -> Option<&str> {
        self.from_dir.as_deref().or_else(|| self.imported.as_ref().map(|copy| copy.from.as_str()))
    }
}

/// A copy of a host directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// The directory.
    pub from: String,
    /// Files and links in it.
    pub files: u64,
    /// Bytes in them, holes apart.
    pub bytes: u64,
}

/// `aj workspace list --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkspaceList {
    /// Version of this document.
    pub format_version: FormatVersion,
    /// Newest first.
    pub workspaces: Vec<Workspace>,
    /// For `--cursor`, when there are more.
    pub next_cursor: Option<String>,
    /// Those whose records cannot be read, whatever was asked for; nothing of them is known. Not after a cursor.
    pub unreadable: Vec<Unreadable>,
}

/// A workspace that cannot be listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// Which one.
    pub id: Id,
    /// Why, printable.
    pub error: String,
}

/// `aj workspace show --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkspaceDetail {
    /// Version of this document.
    pub format_version: FormatVersion,
    /// The workspace.
    #[serde(flatten)]
    pub workspace: Workspace,
    /// The settings that it keeps, in the order of tables.
    pub policy: Vec<Kept>,
    /// Files of variables.
    pub env_files: Vec<String>,
    /// Volumes that each command gets, as `--vol` takes them.
    pub volumes: Vec<String>,
    /// Where it lies in the state directory.
    pub directory: String,
    /// Since when what was written is lost, RFC 3339: it was in the memory of its jail, which was killed. `null` as
    /// soon as a later one has ended.
    pub lost_since: Option<String>,
}

/// `aj workspace fork --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forked {
    /// Version of this document.
    pub format_version: FormatVersion,
    /// The workspace that was forked.
    pub parent: Id,
    /// What the new ones have in common, for `aj fork rm`.
    pub group: String,
    /// The new ones.
    pub forks: Vec<Workspace>,
    /// How long it took.
    pub clone_ms: u64,
    /// How they came by what is in the workspace.
    #[serde(flatten)]
    pub how: Method,
}

/// How forks came by what was written in their workspace.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Method {
    /// `seal`: nothing was copied, because nothing ran in it; `reflink`: copied in part by sharing blocks;
    /// `copy`.
    pub method: &'static str,
    /// Files that were copied.
    pub files: u64,
    /// Bytes in them, holes apart.
    pub bytes: u64,
    /// Its jail stood still meanwhile, or for the last part of it.
    pub was_frozen: bool,
    /// For how long; `null` when it did not, or was paused before and still is.
    pub frozen_ms: Option<u64>,
    /// `cgroup.freeze`, `freezer` or `SIGSTOP`.
    pub held_by: Option<&'static str>,
}

/// One setting that a workspace keeps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kept {
    /// Its name.
    pub key: &'static str,
    /// Its value, or one of its values, as flags take it; of a variable its name only.
    pub value: String,
}
