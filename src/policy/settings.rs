//! The settings of one jail: plain data that every layer (flag, `aj.toml`, user config, preset,
//! built-in) contributes to and that `jail::plan` turns into steps.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hide::Pattern;
use super::require::Need;

/// What holds a jail together. Each is weaker than the one before it, and named in an order of what a
/// user puts up with: whoever allows `nested` gets `full` where that works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Every layer.
    Full,
    /// Namespaces, but with the `/proc` that is around us, or a root that cannot be pivoted away.
    Nested,
    /// No namespaces: Landlock, the system call filter, and what every process may give up.
    Lite,
}

/// How the jail sees the workspace directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Writes go to a private upper layer; the host copy stays untouched.
    Overlay,
    /// Writes go to the host directory.
    Rw,
    /// No writes.
    Ro,
}

/// The jail's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Net {
    /// A network namespace with `lo` and nothing else.
    None,
    /// The host's network: no network isolation at all.
    Host,
}

/// How strict the system call filter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seccomp {
    /// The default allow-list.
    #[default]
    Standard,
    /// Without INET sockets as well.
    Strict,
    /// What `standard` refuses is allowed and logged by the kernel: for learning, not for hostile code.
    Log,
}

/// Where what a command writes to an overlay is held while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// On the disk, where the state directory can hold it; else in memory.
    #[default]
    Disk,
    /// In the jail's tmpfs, from where it is copied to the disk at its end.
    Memory,
}

/// Which of the caller's tool chains are shown: never one that the caller's PATH or variables do
/// not lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tools {
    /// None of them.
    None,
    /// All of them.
    Auto,
    /// Those of these names.
    Only(Vec<String>),
}

impl Tools {
    /// Whether the one of that name may be shown.
    pub fn allows(&self, name: &str) -> bool {
        match self {
            Tools::None => false,
            Tools::Auto => true,
            Tools::Only(names) => names.iter().any(|n| n == name),
        }
    }
}

/// Which of the caller's package caches are shown: the same words, other names.
pub type Caches = Tools;

/// The outcome of resolving all layers. Every value is decided; nothing is optional by accident.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Preset, if one was named.
    pub preset: Option<String>,
    /// The weakest mode that the user puts up with.
    pub mode: Mode,
    /// How the workspace is shown.
    pub access: Access,
    /// The network.
    pub net: Net,
    /// The system call filter.
    pub seccomp: Seccomp,
    /// Allow programs inside to make user namespaces of their own.
    pub nested_userns: bool,
    /// Uid 0 inside instead of 1000 (no capabilities either way).
    pub as_root: bool,
    /// The caller's tool chains.
    pub tools: Tools,
    /// The caller's package caches.
    pub caches: Caches,
    /// Wall-clock limit of the command. `None`: no limit.
    pub timeout: Option<Duration>,
    /// Time between SIGTERM and SIGKILL when the timeout expires.
    pub grace: Duration,
    /// Memory limit in bytes.
    pub mem: Option<u64>,
    /// CPU limit in thousandths of a processor. `None`: all processors.
    pub cpu_millis: Option<u64>,
    /// Limit of processes and threads.
    pub pids: Option<u64>,
    /// Hard limit of open files per process.
    pub nofile: Option<u64>,
    /// Size cap of the jail's own tmpfs in bytes (`/tmp`, home, `/dev/shm` together).
    pub tmp: u64,
    /// Bytes that may be written to disk in all. `None`: no limit.
    pub disk: Option<u64>,
    /// Where it is held while the command runs.
    pub storage: Storage,
    /// Bytes read from disks in a second. `None`: no limit.
    pub io_read: Option<u64>,
    /// Bytes written to disks in a second. `None`: no limit.
    pub io_write: Option<u64>,
    /// Limits that cannot be enforced here are reported instead of refused.
    pub best_effort: bool,
    /// Mount the overlay without `volatile`: survives power loss, slower.
    pub durable: bool,
    /// Further host directories shown read-only at their own path.
    pub ro: Vec<PathBuf>,
    /// Further host directories shown writable at their own path.
    pub rw: Vec<PathBuf>,
    /// What is shown although it is hidden by custom, and by whom.
    pub show: Vec<Pattern>,
    /// What is hidden in the tree beside that, and by whom.
    pub hide: Vec<Pattern>,
    /// Layers that must be in force, whoever asks for them.
    pub require: Vec<Need>,
    /// Variables set for the command, after the built-in ones. Later entries win.
    pub env: Vec<(OsString, OsString)>,
    /// Variables copied from the caller's environment, by name.
    pub pass: Vec<OsString>,
}
