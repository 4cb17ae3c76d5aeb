//! Things of ours that have names: `DIR/ID/` for each, and links `DIR/names/NAME` whose text is the id.
//!
//! The record of a thing says what its name is; the link is how it is found, and one that the record does not
//! bear out is what a killed process left. `DIR/lock` is held while a thing gets or loses its name and its place,
//! never for longer.

use std::fs::File;

use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

use super::dirfd::{self, open_file};
use super::error::{Error, Result};
use super::filed::Unread;
use super::layout::StateDir;
use super::{fault, lock};
use crate::base::id::{Id, Kind};
use crate::base::name::Name;

const NAMES: &str = "names";
const LOCK: &str = "lock";

/// What came of an attempt to give a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// It has it.
    Yes,
    /// This one has it.
    Taken(Id),
}

/// Where the things of one kind are.
#[derive(Debug)]
pub(super) struct Shelf {
    /// The directory of all.
    pub(super) dir: &'static str,
    /// What their ids are of.
    pub(super) kind: Kind,
    /// What the record of one says its name is; `None`: there is no such thing.
    pub(super) name_of: fn(&StateDir, Id) -> std::result::Result<Option<Name>, Unread>,
}

impl Shelf {
    /// The turn of one process among those that give and take names, until it is dropped.
    pub(super) fn take_turn(&self, state: &StateDir) -> Result<File> {
        let all = state.subdir(self.dir)?;
        let path = state.path().join(self.dir).join(LOCK);
        let file = open_file(&all, LOCK, OFlag::O_RDWR | OFlag::O_CREAT);
        let file = file.map_err(|e| Error::call("open", &path, e))?;
        lock::acquire(&file, lock::Mode::Exclusive, lock::APPEND_WAIT, &path)?;
        Ok(file)
    }

    fn names(&self, state: &StateDir) -> Result<File> {
        state.subdir(self.dir)?;
        state.subdir(&format!("{}/{NAMES}", self.dir))
    }

    /// Give `name` to `id`. The caller has the turn.
    pub(super) fn link(&self, state: &StateDir, name: &Name, id: Id) -> Result<Named> {
        let names = self.names(state)?;
        let failed = |call| {
            let path = state.path().join(self.dir).join(NAMES).join(name.as_str());
            move |e| Error::call(call, &path, e)
        };
        loop {
            fault::point();
            match symlinkat(id.as_str(), &names, name.as_str()) {
                Ok(()) => return Ok(Named::Yes),
                Err(Errno::EEXIST) => match self.holder(state, name)? {
                    Some(other) if other != id => return Ok(Named::Taken(other)),
                    Some(_) => return Ok(Named::Yes),
                    None => remove(&names, name).map_err(failed("unlink"))?,
                },
                Err(e) => return Err(failed("symlink")(e)),
            }
        }
    }

    /// Take `name` from `id`, if it has it. Failing is no loss: a link that leads nowhere counts for nothing.
    pub(super) fn unlink(&self, state: &StateDir, name: &Name, id: Id) {
        let Ok(names) = self.names(state) else { return };
        if readlinkat(&names, name.as_str()).is_ok_and(|text| text.to_str() == Some(id.as_str())) {
            remove(&names, name).ok();
        }
    }

    /// Where the link of that name leads.
    pub(super) fn linked(&self, state: &StateDir, name: &Name) -> Result<Option<Id>> {
        let below = format!("{}/{NAMES}/{name}", self.dir);
        let id: Option<Id> = match readlinkat(state, below.as_str()) {
            Ok(text) => text.to_str().and_then(|t| t.parse().ok()),
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            // Not ours: in the way, but nobody's name.
            Err(Errno::EINVAL) => None,
            Err(e) => return Err(Error::call("readlink", &state.path().join(below), e)),
        };
        Ok(id.filter(|id| id.kind() == self.kind))
    }

    /// The one of that name. Two small reads.
    pub(super) fn holder(&self, state: &StateDir, name: &Name) -> Result<Option<Id>> {
        let Some(id) = self.linked(state, name)? else { return Ok(None) };
        match (self.name_of)(state, id) {
            Ok(its) => Ok((its.as_ref() == Some(name)).then_some(id)),
            // What cannot be read keeps its name: nobody may take it for a leftover.
            Err(Unread::Damaged { .. } | Unread::Newer { .. }) => Ok(Some(id)),
            Err(Unread::Store(e)) => Err(e),
        }
    }

    /// Names that lead to nothing, which killed processes left; they are taken away when `remove_them`.
    pub(super) fn stale_names(&self, state: &StateDir, remove_them: bool) -> Result<Vec<String>> {
        let below = format!("{}/{NAMES}", self.dir);
        if let Err(Errno::ENOENT) = open_file(state, &below, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
            return Ok(Vec::new());
        }
        // Nothing is half named while we have the turn.
        let _turn = match self.take_turn(state) {
            Err(e) if e.is_read_only() && !remove_them => None,
            turn => Some(turn?),
        };
        let names = self.names(state)?;
        let mut stale = Vec::new();
        let path = state.path().join(below);
        for name in dirfd::names(&names).map_err(|e| Error::call("readdir", &path, e))? {
            // What is no name and no link is not ours.
            let Some(text) = name.to_str().ok().and_then(|text| text.parse::<Name>().ok()) else { continue };
            if readlinkat(&names, text.as_str()).is_err() || self.holder(state, &text)?.is_some() {
                continue;
            }
            if remove_them {
                remove(&names, &text).map_err(|e| Error::call("unlink", &path.join(text.as_str()), e))?;
            }
            stale.push(text.to_string());
        }
        Ok(stale)
    }

    /// Ids of all, in no order.
    pub(super) fn list(&self, state: &StateDir) -> Result<Vec<Id>> {
        let path = state.path().join(self.dir);
        let dir = match open_file(state, self.dir, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
            Ok(dir) => dir,
            Err(Errno::ENOENT) => return Ok(Vec::new()),
            Err(e) => return Err(Error::call("open", &path, e)),
        };
        let names = dirfd::names(&dir).map_err(|e| Error::call("readdir", &path, e))?;
        let ids = names.iter().filter_map(|n| n.to_str().ok()?.parse::<Id>().ok());
        Ok(ids.filter(|id| id.kind() == self.kind).collect())
    }
}

fn remove(names: &File, name: &Name) -> std::result::Result<(), Errno> {
    fault::point();
    match unlinkat(names, name.as_str(), UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(e) => Err(e),
    }
}
