//! `aj exec --isolated`: one command in a fork of its own.
//!
//! The fork is a workspace like any other, so that nothing is lost when we are killed; what nobody uses for as
//! long as the changes of one-shots are kept is removed. At the end it goes at once when the command has changed
//! nothing but its home, and where we were killed the next garbage collection does that.

use std::ffi::OsStr;

use super::{Error, Found, find, fork, life};
use crate::base::id::Id;
use crate::base::name::Name;
use crate::ops::config;
use crate::policy::keep::Keep;
use crate::schema::workspace::Record;
use crate::store::alive;
use crate::store::trees::Tree;
use crate::store::workspaces as store;

/// A fork for one command.
#[derive(Debug)]
pub struct Isolated {
    id: Id,
    /// The process that made it: a copy of it leaves it alone.
    maker: u32,
}

impl Isolated {
    /// Make one of the workspace that `word` means.
    pub fn begin(word: &OsStr) -> Result<Isolated, Error> {
        let found = find(Some(word))?;
        if life::is_over(&found.filed.record) {
            return Err(Error::Expired(found.name().to_string()));
        }
        let keep = config::user()?.map_or_else(Keep::default, |user| user.keep).age.value;
        let ms = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let made = fork::fork_with(found, &|record| {
            record.rm_idle_ms = keep.map(ms).or(record.rm_idle_ms);
            record.maker = Some(alive::this_process());
        })?;
        let id = made.forks.first().map(|fork| fork.id).ok_or(Error::None)?;
        Ok(Isolated { id, maker: std::process::id() })
    }

    /// What a command runs in.
    pub fn word(&self) -> &OsStr {
        OsStr::new(self.id.as_str())
    }

    /// The command has ended. The name of the fork, if it stays; `forget`: it does not.
    pub fn end(self, forget: bool, monitor: &dyn crate::monitor::Monitor) -> Result<Option<Name>, Error> {
        if self.maker != std::process::id() {
            return Ok(None);
        }
        let found = match find(Some(self.word())) {
            Err(Error::NotFound(_)) => return Ok(None),
            found => found?,
        };
        // Somebody has given it a name, or uses it.
        let is_wanted = found.filed.record.maker.is_none();
        if !forget && (is_wanted || is_changed(&fork::hold(&found)?)?) {
            if !is_wanted {
                // From here on it belongs to whoever uses it.
                store::amend(&found.state, self.id, |_| {})?;
            }
            return Ok(Some(found.name().clone()));
        }
        super::change::remove(found, true, monitor)?;
        Ok(None)
    }
}

/// Note that somebody uses the workspace. If it was made for one command of another process, it is no longer that
/// and stays, whatever is written to it: also when that is its home alone.
pub(crate) fn note_use(found: &Found) -> Result<(), Error> {
    let maker = found.filed.record.maker.as_ref();
    if maker.is_some_and(|maker| *maker != alive::this_process()) {
        store::amend(&found.state, found.id(), |_| ())?;
    }
    Ok(())
}

/// Whether it was made for one command whose `aj` is gone, and in which nothing runs: it goes without changes.
pub(crate) fn is_left(record: &Record) -> bool {
    record.maker.as_ref().is_some_and(|maker| !alive::lives(maker))
}

/// Whether something was written in a fork or to its /output.
pub(crate) fn is_changed(tree: &Tree) -> Result<bool, crate::store::Error> {
    Ok(!store::is_room_bare(tree, c"output")? || !tree.is_unchanged()?)
}
