//! The effective policy with the origin of every value: `aj config list --json`, `aj exec --dry-run`.

use serde::Serialize;
use serde_json::Value;

/// Version of these documents.
pub const FORMAT: &str = "0.1";

/// Every setting of one resolution.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Document {
    /// [`FORMAT`].
    pub format_version: &'static str,
    /// The settings in a fixed order; list settings have one row per entry and none when empty.
    pub settings: Vec<Row>,
    /// The tree that a command sees; null where only settings were asked for.
    pub tree: Option<Tree>,
    /// The caller's tool chains that a jail here shows; null where only settings were asked for.
    pub tools: Option<Vec<Tools>>,
    /// Entries of the caller's PATH that PATH in a jail here does not have; null where only settings were
    /// asked for.
    pub path_left_out: Option<Vec<LeftOut>>,
    /// The caller's package caches that a jail here shows; null where only settings were asked for.
    pub caches: Option<Vec<Caches>>,
    /// What a jail here does not see of the tree; null where only settings were asked for.
    pub hidden: Option<Vec<Hidden>>,
    /// What would hold its limits; null where only settings were asked for.
    pub limits: Option<Limits>,
    /// Device nodes of GPUs that a jail here shows; null where only settings were asked for.
    pub gpu: Option<Vec<String>>,
    /// Volumes that a jail here shows; null where only settings were asked for.
    pub volumes: Option<Vec<Volume>>,
    /// What did not go as written: unknown keys, ignored values, lowered limits.
    pub warnings: Vec<String>,
    /// Layers that are weaker than usual because somebody chose so.
    pub weakened: Vec<String>,
}

/// One setting, or one entry of a list setting.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its name as files spell it.
    pub key: &'static str,
    /// Its value: an integer with `unit`, a boolean, a string, or null for no limit.
    pub value: Value,
    /// `bytes`, `bytes/s`, `ms`, `millicpus` (thousandths of a processor) or null.
    pub unit: Option<&'static str>,
    /// The value as files and flags spell it, printable. Values of variables are never shown.
    pub text: String,
    /// Where it comes from, for people: `flag --mem`, `aj.toml:3`, `preset build`, `built-in`.
    pub origin: String,
    /// `built-in`, `preset`, `user`, `project`, `flag`, `limit` or `host`.
    pub layer: &'static str,
    /// The file, for the layers that have one.
    pub file: Option<String>,
    /// Line in that file.
    pub line: Option<u32>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Where it is seen.
    pub path: String,
    /// It cannot be written.
    pub read_only: bool,
    /// `flag --vol`, or the workspace that it is attached to.
    pub origin: String,
}

/// A tool chain of the caller's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tools {
    /// Its name, as `--tools` takes it.
    pub name: String,
    /// What led to it: an entry of PATH, or the name of a variable.
    pub found_by: String,
    /// Directories and files that are shown read-only.
    pub shows: Vec<String>,
    /// What is seen empty in them.
    pub hides: Vec<String>,
}

/// An entry of the caller's PATH that a jail does without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// As it stands in PATH, printable; it may be empty.
    pub entry: String,
    /// Why, a fact about it.
    pub why: String,
}

/// A package cache of the caller's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Caches {
    /// Its name, as `--caches` takes it.
    pub name: String,
    /// What it is for: the program that the jail has, or `--caches`.
    pub found_by: String,
    /// Directories that are shown, each below an upper layer of the run's own.
    pub shows: Vec<String>,
    /// What is seen empty in them.
    pub hides: Vec<String>,
}

/// What holds the limits of a jail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// `rlimit`, `cgroup2`, `systemd-scope` or `cgroup1`, with `+poll` where memory is only watched.
    pub by: String,
    /// Its control groups; each jail has others.
    pub groups: Vec<String>,
    /// Where what is written to disk is limited: `quota`, `tmpfs`, `tmpfs+watched` or `watched`.
    pub disk_by: Option<String>,
    /// Why it is only watched.
    pub disk_why: Option<String>,
}

/// Something in the tree that is hidden from a jail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hidden {
    /// Below the tree's top, printable.
    pub path: String,
    /// `file`, `directory`, or `credentials in it`: the rest of it is shown.
    pub how: &'static str,
    /// The pattern that hides it, or `built-in`.
    pub by: String,
}

/// The files that configuration is read from: `aj config path --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Paths {
    /// [`FORMAT`].
    pub format_version: &'static str,
    /// The user configuration; null without a home directory.
    pub user: Option<Location>,
    /// The project's file.
    pub project: Location,
}

/// A file that may exist.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Location {
    /// Absolute path, printable.
    pub path: String,
    /// Whether something is there.
    pub exists: bool,
}

/// The answer of `aj config check --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// [`FORMAT`].
    pub format_version: &'static str,
    /// The files read, as shown.
    pub files: Vec<String>,
    /// What was not understood or would be ignored.
    pub warnings: Vec<String>,
}

/// The tree that a command sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tree {
    /// Its top.
    pub path: String,
    /// Why this one: the name of what marks a project, or the flag.
    pub found_by: &'static str,
    /// Parts of the project that lie elsewhere and are seen as well: the git directory that a linked
    /// worktree or a submodule shares, stores that objects are borrowed from.
    pub parts: Vec<String>,
}
