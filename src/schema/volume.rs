//! Volumes: their record on disk, and what `aj volume --json` shows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::changes::FormatVersion;
use crate::base::id::Id;
use crate::base::name::Name;

/// Format of [`Record`]; an older `aj` refuses a newer one.
pub const RECORD: u32 = 1;

/// `volumes/ID/volume.toml`. Times are milliseconds since the epoch. When it was last used is the time of
/// its directory: that costs a run one call, and no run rewrites what another one reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`RECORD`].
    pub format: u32,
    /// Its id.
    pub id: Id,
    /// Its name. The link `volumes/names/NAME` leads to the id.
    pub name: Name,
    /// When it was made.
    pub created_ms: u64,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// What the user noted about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
}

/// One volume.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Volume {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: Name,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When a jail with it was last started, RFC 3339.
    pub used_at: String,
    /// Whether a jail has it now.
    pub in_use: bool,
    /// Workspaces whose commands get it, by name.
    pub workspaces: Vec<String>,
    /// Words to find it by.
    pub labels: Vec<String>,
    /// What the user noted about it.
    pub meta: BTreeMap<String, String>,
}

/// `aj volume list --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VolumeList {
    /// Version of this document.
    pub format_version: FormatVersion,
    /// By name.
    pub volumes: Vec<Volume>,
}

/// `aj volume show --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VolumeDetail {
    /// Version of this document.
    pub format_version: FormatVersion,
    /// The volume.
    #[serde(flatten)]
    pub volume: Volume,
    /// Bytes that it takes on the disk; `null` when it is too large to be measured in a moment.
    pub bytes: Option<u64>,
    /// Where its files lie.
    pub directory: String,
}

/// `aj volume attach --json` and `detach`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attached {
    /// Version of this document.
    pub format_version: FormatVersion,
    /// The workspace, by name.
    pub workspace: String,
    /// What its commands get now, as `--vol` takes it.
    pub volumes: Vec<String>,
    /// Something runs in it, which does not see the change.
    pub running: bool,
}
