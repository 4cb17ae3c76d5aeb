//! What one jail is asked to be: resolved, absolute, nothing left to decide.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::status::Required;
use crate::base::id::Id;
use crate::policy::settings::{Access, Mode, Net, Seccomp};

/// A host path shown in the jail at its own path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Absolute path without `.`, `..` or links in its parents.
    pub path: PathBuf,
    /// Whether it may be written.
    pub writable: bool,
    /// A directory, or a single file.
    pub directory: bool,
    /// How it is shown.
    pub kind: BindKind,
}

/// A file or directory that nobody inside may replace or, mostly, write, wherever it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covered {
    /// Absolute path in the jail.
    pub path: PathBuf,
    /// Its inode: another file in its place means that somebody moves files about.
    pub inode: u64,
    /// It may be written all the same, only not be moved or replaced.
    pub writable: bool,
}

/// How a host path is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindKind {
    /// As it is: the jail's descriptors are of the host's own inodes, sockets and locks included.
    Plain,
    /// A directory, read-only, through an overlay whose inodes are the jail's: the same files, but
    /// nobody listens on its sockets, its FIFOs lead nowhere, and its locks are not the host's.
    Veiled,
}

/// A part of the caller's tool chains, shown read-only at its own path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// As in [`Bind::path`].
    pub path: PathBuf,
    /// A directory, or a single file.
    pub directory: bool,
    /// With [`Ids::Range`]: whose files appear as the jail's user's own. `None` for what belongs to
    /// the machine, of which the jail reads what everyone may.
    pub owner: Option<Owner>,
}

/// What is seen empty in a [`Tool`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hidden {
    /// As in [`Bind::path`].
    pub path: PathBuf,
    /// A directory, or a single file.
    pub directory: bool,
}

/// A directory beside the workspace that is shown at its own path through an overlay of its own: a
/// part of the project that lies elsewhere, or a cache of the user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// As in [`Bind::path`].
    pub path: PathBuf,
    /// The directory that holds `upper` and `work`.
    pub layers: PathBuf,
    /// With [`Ids::Range`]: whose files appear as the jail's user's own.
    pub owner: Owner,
}

/// A package cache: as a [`Side`], but the jail goes on without it where no overlay can be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// The overlay. Its layers are not looked at when what is written goes to `memory`.
    pub side: Side,
    /// Write to the jail's tmpfs instead.
    pub memory: bool,
    /// What is seen empty in it; a directory is then the jail's own to write to.
    pub hidden: Vec<Hidden>,
}

/// A directory of ours that jails share and that lasts longer than they do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// What is shown. As in [`Bind::path`].
    pub data: PathBuf,
    /// Where it is shown.
    pub at: PathBuf,
    /// It cannot be written.
    pub read_only: bool,
    /// Whose its files are on the host.
    pub owner: Owner,
}

/// What is shown in the place of a secret where no overlay hides it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// Absolute path in the jail.
    pub path: PathBuf,
    /// The content of a file; `None`: an empty directory.
    pub shows: Option<Vec<u8>>,
}

/// Where what the jail writes to the workspace is while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Storage {
    /// In the run's tree, as the upper layer of an overlay.
    #[default]
    Disk,
    /// In the jail's tmpfs, as the upper layer of an overlay: the file system of the tree takes none.
    Memory,
    /// In the run's tree, as a copy of the workspace: no overlay over it can be had.
    Copy,
}

/// Owner ids of the tree's top directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// How ids inside relate to ids outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// An ordinary user: one id inside, the caller's outside.
    Caller {
        /// The caller's effective ids.
        owner: Owner,
    },
    /// Real root: 65 536 ids, mapped to an unprivileged range of the host. The workspace's owner
    /// appears as the jail's user through an id-mapped mount.
    Range,
}

/// First host id of the range that a jail started by root is mapped to.
pub const RANGE_BASE: u32 = 1_000_000;
/// Ids in that range.
pub const RANGE_COUNT: u32 = 65_536;
/// Uid and gid of the jail's user.
pub const AGENT: u32 = 1000;

/// Uid (and gid) of the command inside.
pub fn inside_id(as_root: bool) -> u32 {
    if as_root { 0 } else { AGENT }
}

/// Layers switched off, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Without(pub Vec<String>);

impl Without {
    /// Whether a layer is in place: always, but for the tests that take one away.
    pub fn keeps(&self, layer: &str) -> bool {
        !self.0.iter().any(|w| w == layer)
    }
}

/// What must be known of a jail for its pid 1 to be born: the rest is still being worked out while
/// its namespaces are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Birth {
    /// Id mapping.
    pub ids: Ids,
    /// Uid 0 inside.
    pub as_root: bool,
    /// The network.
    pub net: Net,
    /// Without any namespace.
    pub lite: bool,
}

/// One jail.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Its id.
    pub id: Id,
    /// Host name inside.
    pub hostname: String,
    /// The command. Never empty.
    pub argv: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Directories searched for a command without a slash, in order.
    pub search: Vec<PathBuf>,
    /// Working directory inside.
    pub cwd: PathBuf,
    /// Host directory shown as the workspace.
    pub workspace: PathBuf,
    /// Where it is shown.
    pub at: PathBuf,
    /// Names by which the caller knows the workspace and the binds, through links of the host, and
    /// what each leads to: links inside as well.
    pub aliases: Vec<(PathBuf, PathBuf)>,
    /// How.
    pub access: Access,
    /// With [`Access::Overlay`]: the directory holding `upper` and `work`.
    pub tree: Option<PathBuf>,
    /// Directories of sealed layers between the workspace and what is written, the newest first: in each
    /// `upper`, and of the same for the two below `home` and `output`.
    pub layers: Vec<PathBuf>,
    /// Host directory shown as the jail's home, its own to write to; `None`: one in its tmpfs.
    pub home: Option<PathBuf>,
    /// Host directory shown at `/output` in the same way, if any.
    pub output: Option<PathBuf>,
    /// With [`Access::Overlay`]: where what it writes is.
    pub storage: Storage,
    /// Owner of the workspace's top directory.
    pub owner: Owner,
    /// Mount the overlay without `volatile`.
    pub durable: bool,
    /// With [`Access::Overlay`]: what else has an overlay, parents before children. One that holds
    /// the workspace is mounted before it.
    pub sides: Vec<Side>,
    /// Directories of the jail's own at paths of the host's, none in the workspace: around caches.
    pub rooms: Vec<PathBuf>,
    /// Package caches, none in another nor in the workspace.
    pub caches: Vec<Cache>,
    /// Further host paths, parents before children.
    pub binds: Vec<Bind>,
    /// Volumes, none in another nor in anything else that is shown.
    pub volumes: Vec<Volume>,
    /// Tools, parents before children, none in the workspace or in a bind.
    pub tools: Vec<Tool>,
    /// What is hidden in them, none below another.
    pub hidden: Vec<Hidden>,
    /// Device nodes of the host's that are shown, below `/dev`, beside those that every jail has.
    pub devices: Vec<String>,
    /// A ready-made `/etc`.
    pub etc: PathBuf,
    /// The network.
    pub net: Net,
    /// The system call filter.
    pub seccomp: Seccomp,
    /// Allow user namespaces inside.
    pub nested_userns: bool,
    /// Uid 0 inside.
    pub as_root: bool,
    /// Processes and threads at most.
    pub pids: Option<u64>,
    /// Open files per process at most.
    pub nofile: Option<u64>,
    /// Inotify instances and watches at most.
    pub inotify: Option<(u64, u64)>,
    /// Bytes in the jail's tmpfs at most.
    pub tmp: u64,
    /// The caller's umask, which the command gets.
    pub umask: u32,
    /// Id mapping.
    pub ids: Ids,
    /// Kernel's Landlock ABI.
    pub landlock_abi: i32,
    /// The weakest mode that it may end up in.
    pub mode: Mode,
    /// Layers without which the command does not run.
    pub required: Required,
    /// Layers switched off, by name: for tests that show a layer's teeth, in debug builds only.
    pub without: Without,
}

impl Spec {
    /// Uid (and gid) of the command inside.
    pub fn inside_id(&self) -> u32 {
        inside_id(self.as_root)
    }

    /// Uid and gid on the host of the command and of what it writes to its own layers; `None`: the
    /// caller's own.
    pub fn outside(&self) -> Option<(u32, u32)> {
        let outside = RANGE_BASE + self.inside_id();
        (self.ids == Ids::Range).then_some((outside, outside))
    }

    /// Whether what the jail writes can land on the host, at once and under the owner's name.
    pub fn writes_to_host(&self) -> bool {
        self.access == Access::Rw || self.binds.iter().any(|b| b.writable)
    }
}
