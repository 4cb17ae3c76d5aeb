//! `aj exec --isolated`: one command in a fork of its own.
//!
//! The fork is a workspace like any other, so that nothing is lost when we are killed; what nobody uses for as
//! long as the changes of one-shots are kept is removed. At the end it goes at once when the command has changed
//! nothing but its home.

use std::ffi::OsStr;

use super::{Error, Found, find, fork, life};
use crate::base::id::Id;
use crate::base::name::Name;
use crate::ops::config;
use crate::policy::keep::Keep;
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
        let made = fork::fork(found, 1, None)?;
        let id = made.forks.first().map(|fork| fork.id).ok_or(Error::None)?;
        let state = crate::store::layout::StateDir::open()?;
        let ms = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        store::amend(&state, id, |filed| {
            filed.record.rm_idle_ms = keep.map(ms).or(filed.record.rm_idle_ms);
        })?;
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
        if !forget && is_changed(&found)? {
            return Ok(Some(found.name().clone()));
        }
        super::change::remove(found, true, monitor)?;
        Ok(None)
    }
}

/// Whether something was written in it or to /output.
fn is_changed(found: &Found) -> Result<bool, Error> {
    let tree = fork::hold(found)?;
    Ok(!store::is_room_bare(&tree, c"output")? || !tree.is_unchanged()?)
}
