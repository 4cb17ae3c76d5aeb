//! Why nothing ran.

use std::io;
use std::path::PathBuf;

use super::check::WayOut;
use super::seat::Seat;
use super::volumes::Volumes;
use crate::base::id::Id;
use crate::base::text;
use crate::jail::plan;
use crate::jail::spec::inside_id;
use crate::ops::{changes, config, project, secrets};
use crate::sys;

/// Why nothing ran, or why what ran could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The policy could not be made.
    #[error(transparent)]
    Policy(#[from] config::Error),
    /// The state directory.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    /// The plan.
    #[error(transparent)]
    Plan(#[from] plan::Error),
    /// A system call on the host side.
    #[error("start the jail")]
    Launch(#[source] sys::Error),
    /// The tree.
    #[error(transparent)]
    Place(#[from] project::Error),
    /// A directory that is not shown unless the user insists.
    #[error("`{}` {why}", text::os(.path))]
    Refused {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What would do.
        way: WayOut,
    },
    /// The overlay could not copy up files of this owner.
    #[error(
        "`{}` belongs to {} {theirs}, not to you ({ours}): an overlay over it could not change its files (EOVERFLOW)",
        text::os(.path), .what
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// `user` or `group`.
        what: &'static str,
        /// Its id.
        theirs: u32,
        /// The caller's.
        ours: u32,
    },
    /// A working directory that is not in the workspace.
    #[error("`--cwd {}` is not below `{}`", text::os(.path), text::os(.at))]
    Cwd {
        /// The path.
        path: PathBuf,
        /// Where the workspace is shown.
        at: PathBuf,
    },
    /// A host path given by `--ro` or `--rw`.
    #[error("cannot show `{}`: {}", text::os(.path), config::why(.why))]
    Bind {
        /// The path.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// What may be a secret could not be told, or is too much.
    #[error(transparent)]
    Secrets(#[from] secrets::Error),
    /// It could not be hidden.
    #[error("could not hide the secrets of the tree")]
    Unhidden(#[source] crate::store::Error),
    /// `--tools` names what is in no catalogue.
    #[error("there are no tools of the name `{name}`")]
    UnknownTools {
        /// As given.
        name: String,
        /// The nearest known one.
        meant: Option<String>,
    },
    /// `--caches` names what is in no catalogue.
    #[error("there is no cache of the name `{name}`")]
    UnknownCache {
        /// As given.
        name: String,
        /// The nearest known one.
        meant: Option<String>,
    },
    /// The jail's `/etc` could not be prepared.
    #[error("prepare the jail's /etc in the state directory: {}", config::why(.0))]
    Etc(io::Error),
    /// A limit that was asked for cannot be held here.
    #[error("{what} cannot be enforced here: {why}")]
    Limit {
        /// The flag, or the setting and the file and line where it stands.
        what: String,
        /// Why.
        why: String,
        /// A control group would hold it.
        needs_cgroup: bool,
    },
    /// `--gpu` asks for what is not there.
    #[error(transparent)]
    Gpu(crate::host::gpu::Missing),
    /// A terminal was asked for.
    #[error("a terminal was asked for, and stdin is none")]
    NoTerminal,
    /// `--status-fd` is not open.
    #[error("`--status-fd {fd}`")]
    StatusFd {
        /// The number.
        fd: i32,
        /// Why.
        source: sys::Error,
    },
    /// The kept tree is in use.
    #[error("the kept changes of `{id}` are in use: {}", if *.by_run { "a run goes on in them" } else { "another `aj` reads in it" })]
    InUse {
        /// The jail that made the tree.
        id: Id,
        /// By a run; otherwise by somebody who reads.
        by_run: bool,
    },
    /// A kept tree and something else that was asked for do not go together.
    #[error("a run cannot go on in kept changes: {what} {why}")]
    NotAgain {
        /// The flag, or the setting and where it stands.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// As root: the files of the kept tree belong to another id of the jail.
    #[error("the kept changes of `{id}` were made as uid {}, not as uid {}", inside_id(!*.as_root), inside_id(*.as_root))]
    OtherId {
        /// The jail that made the tree.
        id: Id,
        /// Uid 0 is asked for now.
        as_root: bool,
    },
    /// The files of the kept tree are somebody else's.
    #[error(
        "the kept changes of `{id}` belong to uid {owner} of this machine, which no jail of yours runs as"
    )]
    OtherOwner {
        /// The jail that made the tree.
        id: Id,
        /// Their owner.
        owner: u32,
    },
    /// What the jail would have in its memory could not be kept.
    #[error(
        "the file system of `{}` holds neither an upper layer of an overlay nor a copy of one",
        text::os(.path)
    )]
    Unkept {
        /// The tree.
        path: PathBuf,
        /// What it does not take.
        source: sys::Error,
    },
    /// What is asked for cannot be had without namespaces.
    #[error("the mode lite cannot be had: {why}")]
    Lite {
        /// Why.
        why: String,
        /// What would do.
        way: &'static str,
    },
    /// There is too much to copy.
    #[error(
        "`{}` is more than is copied for one run: {most}", text::os(.path)
    )]
    TooLarge {
        /// The directory.
        path: PathBuf,
        /// The bounds.
        most: String,
    },
    /// What changed could not be compared or applied.
    #[error(transparent)]
    Changes(#[from] changes::Error),
    /// A volume that is not there, or cannot be used.
    #[error(transparent)]
    Volume(#[from] crate::ops::volumes::Error),
    /// The workspace.
    #[error(transparent)]
    Workspace(#[from] crate::ops::workspaces::Error),
    /// What the jail wants to have in the home of the workspace could not be made there.
    #[error("`{path}` could not be made in the home of the workspace")]
    Home {
        /// As it would be seen inside.
        path: String,
        /// What is in the way.
        source: sys::Error,
        /// The workspace, once it is known.
        workspace: String,
        /// The volume that was to be seen at the very path.
        volume: Option<String>,
    },
    /// The jail of a workspace cannot take the command.
    #[error(transparent)]
    NotLive(#[from] super::live::NotLive),
    /// In the process that was to hold a jail for others: the jail was never there.
    #[error("the jail could not be started")]
    Holder(Box<super::Report>),
    /// Another process of ours has said why, and would have exited with this.
    #[error("it has been said")]
    Said(u8),
    /// No randomness.
    #[error("no random bytes for an id: {0}")]
    Random(getrandom::Error),
}

impl Error {
    /// The directory that was refused because the jail has one of its own in that place: whether one below it
    /// would do, and the one at the top that is to be left.
    pub fn place_is_taken(&self) -> Option<(bool, PathBuf)> {
        let Error::Plan(plan::Error::Occupied { path, .. }) = self else { return None };
        let top = path.components().take(2).collect();
        Some((plan::place(&path.join("below")).is_ok(), top))
    }

    /// The same, with what is known of the home that it is about.
    pub(super) fn in_home_of(self, seat: Option<&Seat>, volumes: &Volumes) -> Error {
        let Error::Home { path, source, .. } = self else { return self };
        let workspace = seat.map(Seat::name).unwrap_or_default();
        let volume =
            volumes.described().into_iter().find(|volume| volume.path == path).map(|volume| volume.name);
        Error::Home { path, source, workspace, volume }
    }
}
