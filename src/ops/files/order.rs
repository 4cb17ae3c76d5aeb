//! What changes a tree, as a value: carried out here where no jail is at work in the tree, and in the jail
//! otherwise (see [`super::inside`]).

use std::ffi::{OsStr, OsString};
use std::io::Read;

use serde::{Deserialize, Serialize};

use super::copy::{Options, into, stream};
use super::inside::{self, Jail};
use super::replace::{self, Replacement};
use super::write::{self, Writing};
use super::{Result, Target};
use crate::monitor::Monitor;
use crate::schema::files::{Copied, Done, Replaced};
use crate::workspace::view::edit::Staging;

/// One change. Paths are those of the jail.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// `aj fs write`: what is sent along, to this file.
    Write {
        /// The file.
        path: OsString,
        /// How.
        how: Writing,
    },
    /// `aj fs mkdir`.
    Mkdir {
        /// Directories.
        paths: Vec<OsString>,
        /// Their permission bits.
        mode: u32,
        /// Those on the way, too.
        parents: bool,
    },
    /// `aj fs rm`.
    Remove {
        /// What.
        paths: Vec<OsString>,
        /// Directories with what is in them.
        recursive: bool,
        /// What is not there is fine.
        force: bool,
    },
    /// `aj fs mv`.
    Rename {
        /// What.
        from: OsString,
        /// Where to.
        to: OsString,
        /// Replace nothing.
        no_clobber: bool,
    },
    /// `aj fs replace`.
    Replace {
        /// Files.
        paths: Vec<OsString>,
        /// What by what.
        what: Replacement,
    },
    /// `aj cp`: what is sent along.
    Copy {
        /// Where to.
        to: OsString,
        /// What it is.
        what: Sent,
        /// As given.
        options: Given,
    },
}

/// What is sent along to be copied.
#[derive(Debug, Serialize, Deserialize)]
pub enum Sent {
    /// The bytes of a file.
    Stream,
    /// A tar stream.
    Tar,
    /// Something of the host's with this name, if it has one: its bytes, or what is in it as a tar stream.
    Host(into::Source),
}

/// Options of `aj cp` that matter where things are put.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Given {
    /// As in [`Options`].
    pub no_clobber: bool,
    /// As in [`Options`].
    pub mode: Option<u32>,
    /// Patterns of what is left out of a tar stream.
    pub exclude: Vec<String>,
}

/// What was done.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Of the small changes.
    Done(Done),
    /// Of [`Order::Replace`].
    Replaced(Replaced),
    /// Of [`Order::Copy`].
    Copied(Copied),
}

/// Who changes a tree.
pub(super) enum Hands {
    /// We do.
    Ours(Target, Staging),
    /// The jail that is at work in it does.
    Jail(Jail),
}

impl Order {
    /// Carry it out in the tree that `word` means.
    pub fn carry_out(self, word: &OsStr, data: &mut dyn Read, monitor: &dyn Monitor) -> Result<Answer> {
        inside::change(word, monitor, |hands| match hands {
            Hands::Ours(target, staging) => self.run((&target, &staging), data, monitor).map(Some),
            Hands::Jail(jail) => jail.carry_out(&self, data),
        })
    }

    /// Carry it out in an open tree.
    pub(super) fn run(
        &self,
        tree: (&Target, &Staging),
        data: &mut dyn Read,
        monitor: &dyn Monitor,
    ) -> Result<Answer> {
        Ok(match self {
            Order::Write { path, how } => Answer::Done(write::write(tree, path, data, how)?),
            Order::Mkdir { paths, mode, parents } => {
                Answer::Done(write::make_directories(tree, paths, (*mode, *parents))?)
            }
            Order::Remove { paths, recursive, force } => {
                Answer::Done(write::remove(tree, paths, (*recursive, *force))?)
            }
            Order::Rename { from, to, no_clobber } => {
                Answer::Done(write::rename(tree, (from, to), *no_clobber)?)
            }
            Order::Replace { paths, what } => {
                Answer::Replaced(replace::replace((tree.0, Some(tree.1)), paths, what)?)
            }
            Order::Copy { to, what, options } => {
                let options = Options::new(true, options.no_clobber, options.mode, &options.exclude)?;
                Answer::Copied(match what {
                    Sent::Stream => into::copy_stream_in(tree, data, to, &options)?,
                    Sent::Tar => stream::unpack(tree, data, to, &options, monitor)?,
                    Sent::Host(source) => into::copy_sent(tree, (source, data), to, &options)?,
                })
            }
        })
    }
}
