//! What `aj fork compare --json` and `aj fork rm --json` show.

use serde::Serialize;

use super::changes::FormatVersion;
use super::files::Name as PathName;
use crate::base::id::Id;
use crate::base::name::Name;

/// `aj fork compare --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// Version of this document.
    pub format_version: FormatVersion,
    /// The host directory that all lie over; `null`: they began empty.
    pub from_dir: Option<String>,
    /// How many sealed layers all stand on: with the directory, what changes are told against.
    pub layers_in_common: u64,
    /// The forks, in the order of the columns.
    pub forks: Vec<Fork>,
    /// Paths that at least one of them has changed.
    pub paths: Vec<Path>,
    /// What could not be looked at; the rest was compared.
    pub failed: Vec<Failed>,
    /// Whether these are all; otherwise there were more than are compared.
    pub complete: bool,
}

/// One fork.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fork {
    /// Its name.
    pub name: Name,
    /// Its id.
    pub id: Id,
    /// Something runs in it, and may be changing it.
    pub running: bool,
    /// How many of the paths it has changed.
    pub changes: u64,
}

/// One path.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Path {
    /// What it is in: `workspace`, `home` or `output`.
    pub root: &'static str,
    /// Below the top of the workspace; absolute, as the commands inside see it, in the others.
    #[serde(flatten)]
    pub name: PathName,
    /// Not all forks have the same there, as far as that is known.
    pub differ: bool,
    /// Of each fork, in their order.
    pub forks: Vec<Side>,
}

/// What became of a path in one fork.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Side {
    /// `unchanged`, `added`, `deleted`, `modified`, `mode_changed` or `type_changed`; `unknown` below what could
    /// not be looked at.
    pub status: &'static str,
    /// The first of the forks that has the same there; its own name when that is itself.
    pub same_as: Name,
}

/// A directory, or what is in it, that could not be looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failed {
    /// What it is in, as of a path.
    pub root: &'static str,
    /// Where, as of a path.
    #[serde(flatten)]
    pub name: PathName,
    /// In which fork; `null`: in what they have in common.
    pub fork: Option<Name>,
    /// Why.
    pub reason: String,
}
