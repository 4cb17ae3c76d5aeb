//! `aj workspace`: named trees that last, with the settings that each command in them gets.
//!
//! [`find`] says which one is meant, [`create`] makes one, [`change`] renames, touches and removes them,
//! [`list`] looks at them. What runs in one is `ops::exec`'s.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;

use crate::base::id::Id;
use crate::base::name::NotAName;
use crate::base::text;
use crate::policy::file::FileError;
use crate::policy::stored::NotText;
use crate::schema::workspace::Record;
use crate::store::workspaces::Unread;

pub mod change;
pub mod compare;
pub mod create;
mod find;
mod flatten;
pub mod fork;
mod fork_live;
pub mod import;
pub mod isolated;
pub mod life;
pub mod list;
pub mod live;
pub mod promote;
mod settings;

pub use find::{Candidate, Found, find, is_selector, owner_of};
pub use settings::Kept;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state directory.
    #[error(transparent)]
    State(#[from] crate::store::Error),
    /// A record that cannot be used.
    #[error(transparent)]
    Record(Unread),
    /// The settings in a record.
    #[error(transparent)]
    Settings(#[from] FileError),
    /// No workspace is meant.
    #[error("no workspace `{0}`")]
    NotFound(String),
    /// None lies over the current directory.
    #[error("no workspace lies over `{0}`")]
    NoneHere(String),
    /// There are none at all.
    #[error("there are no workspaces")]
    None,
    /// Several are meant.
    #[error("{what}: {}", candidates.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Ambiguous {
        /// What was asked for.
        what: String,
        /// At most 8.
        candidates: Vec<Candidate>,
    },
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] NotAName),
    /// A name that another one has.
    #[error("there is a workspace `{name}` already ({id})")]
    Taken {
        /// The name.
        name: String,
        /// Who has it.
        id: Id,
    },
    /// Somebody uses it.
    #[error("workspace `{name}` is in use: {}", if *.by_run { "a command runs in it" } else { "another `aj` reads in it" })]
    InUse {
        /// Its name.
        name: String,
        /// By a command; otherwise by somebody who reads.
        by_run: bool,
    },
    /// Its jail stands still, and nothing in it ends meanwhile.
    #[error("workspace `{0}` is in use: its jail is paused")]
    Paused(String),
    /// It has parts that cannot be forked.
    #[error("workspace `{name}` cannot be forked or promoted: its git directory lies elsewhere")]
    Unforkable {
        /// Its name.
        name: String,
    },
    /// Its jail could not be made to stand still.
    #[error(transparent)]
    Still(super::pause::Error),
    /// What is written in it changes faster than it can be copied.
    #[error("workspace `{name}` changes faster than it can be copied: its jail would stand still for more than {}", crate::base::duration::human(*.most))]
    Restless {
        /// Its name.
        name: String,
        /// For how long it may.
        most: std::time::Duration,
    },
    /// It is written to memory.
    #[error(
        "workspace `{name}` cannot be forked now: what runs in it writes to memory until it ends (storage memory)"
    )]
    InMemory {
        /// Its name.
        name: String,
    },
    /// No forks are meant.
    #[error("there are no forks of the name or the group `{0}`")]
    NoSuchForks(String),
    /// It has no forks.
    #[error("workspace `{0}` has no forks")]
    NoForks(String),
    /// A tree that cannot be looked at.
    #[error(transparent)]
    Changes(#[from] Box<super::changes::Error>),
    /// It is no fork.
    #[error("workspace `{0}` is no fork of another")]
    NoFork(String),
    /// What it is a fork of is not there any more.
    #[error("the workspace that `{child}` is a fork of was removed ({parent})")]
    Orphan {
        /// The fork.
        child: String,
        /// What it was a fork of.
        parent: Id,
    },
    /// A fork and the workspace that is to have its changes are one.
    #[error(
        "workspace `{0}` cannot become itself: name a fork of it, or another workspace to have its changes"
    )]
    Itself(String),
    /// They lie over different directories.
    #[error("workspace `{child}` cannot become `{parent}`: they do not lie over the same directory")]
    Unrelated {
        /// The one.
        child: String,
        /// The other.
        parent: String,
    },
    /// What is in them belongs to different users of their jails.
    #[error("workspace `{child}` cannot become `{parent}`: commands in one are uid 0, in the other not")]
    OtherId {
        /// The one.
        child: String,
        /// The other.
        parent: String,
    },
    /// The one that is to be replaced has something that the other has not.
    #[error("workspace `{parent}` has changed since `{child}` was made of it")]
    Parted {
        /// The fork.
        child: String,
        /// What it is a fork of.
        parent: String,
    },
    /// Its time is up.
    #[error("workspace `{0}` has expired")]
    Expired(String),
    /// A host directory that cannot be one's base.
    #[error("`{}` cannot be the directory of a workspace: {why}", text::os(.path))]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A host directory that could not be copied.
    #[error("could not copy `{}`", text::os(.from))]
    Import {
        /// The directory.
        from: PathBuf,
        /// Why, with the path below it.
        source: crate::sys::Error,
    },
    /// There is nothing of the host's to copy.
    #[error("workspace `{0}` lies over no directory of the host's that could be copied")]
    NoDirectory(String),
    /// A copy would hide that the host has changed what was changed in it.
    #[error(
        "workspace `{name}` cannot be forked with a copy of its directory: {conflicts} of its changes are in conflict with the host's"
    )]
    Conflicts {
        /// Its name.
        name: String,
        /// How many.
        conflicts: u64,
    },
    /// A path that its tree cannot be seen at.
    #[error("`--at {}`: {why}", text::os(.path))]
    At {
        /// As given.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A setting that a record cannot hold.
    #[error(transparent)]
    NotText(#[from] NotText),
    /// A volume that it is to have.
    #[error(transparent)]
    Volume(Box<super::volumes::Error>),
    /// One that its record names in a way that nobody reads.
    #[error("a volume in the record of the workspace cannot be used: {0}")]
    Attachment(String),
    /// A setting that means nothing for a workspace.
    #[error("a workspace cannot keep {what}: {why}")]
    Setting {
        /// The flag.
        what: &'static str,
        /// Why.
        why: &'static str,
    },
    /// A label, or a note, that cannot be one.
    #[error("`{given}` cannot be {what}: {why}")]
    Word {
        /// As given, printable.
        given: String,
        /// What it was to be.
        what: &'static str,
        /// Why.
        why: &'static str,
    },
    /// The policy could not be made.
    #[error(transparent)]
    Policy(#[from] super::config::Error),
    /// A place in a list that is none.
    #[error("`{0}` is not a cursor that `aj workspace list` gave")]
    Cursor(String),
    /// The current directory.
    #[error("the current directory cannot be used: {}", super::config::why(.0))]
    CurrentDir(io::Error),
    /// No randomness.
    #[error("no random bytes for an id: {0}")]
    Random(getrandom::Error),
}

impl From<super::volumes::Error> for Error {
    fn from(e: super::volumes::Error) -> Error {
        Error::Volume(Box::new(e))
    }
}

impl From<Unread> for Error {
    fn from(e: Unread) -> Error {
        match e {
            Unread::Store(e) => Error::State(e),
            e => Error::Record(e),
        }
    }
}

/// Where the tree of a workspace is seen when it is not one of the host's, which keep their own path.
pub fn own_place(record: &Record) -> Option<PathBuf> {
    let own = || record.from_dir.is_none().then(|| PathBuf::from("/workspace"));
    record.at.as_ref().map(PathBuf::from).or_else(own)
}

/// Whether a workspace began with something that its changes are told against: a directory of the host's or a copy.
pub fn has_base(record: &Record) -> bool {
    record.from_dir.is_some() || record.import.is_some()
}

/// Whether two workspaces lie over the same, so that what is in one can be compared with what is in the other.
fn have_one_base(a: &Record, b: &Record) -> bool {
    let layer = |record: &Record| record.import.as_ref().map(|import| import.layer.clone());
    (&a.from_dir, layer(a)) == (&b.from_dir, layer(b))
}

fn not_found(word: &OsStr) -> Error {
    Error::NotFound(text::brief(&text::os(word)))
}
