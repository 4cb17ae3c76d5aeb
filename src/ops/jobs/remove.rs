//! `aj job rm`.

use super::{Error, Found, all, kill};
use crate::base::id::Id;
use crate::base::name::Name;
use crate::store::layout::StateDir;

/// Remove a job with its log. One that runs is ended first, when `force` says so. `None`: somebody else has
/// removed it meanwhile.
pub fn remove(found: Found, force: bool) -> Result<Option<Id>, Error> {
    match try_remove(found, force) {
        Err(Error::Removed(_)) => Ok(None),
        done => done,
    }
}

fn try_remove(mut found: Found, force: bool) -> Result<Option<Id>, Error> {
    let id = found.filed.record.id;
    if found.status()?.is_running() {
        if !force {
            return Err(Error::Running(found.name()));
        }
        kill::end(&mut found)?;
    }
    let Some(_lock) = found.home.lock(&found.state)? else { return Ok(None) };
    // Somebody may have started it again since.
    found.look()?;
    if found.status()?.is_running() {
        return Err(Error::Running(found.name()));
    }
    Ok(found.home.remove(&found.state)?.then_some(id))
}

/// The jobs of a group, newest first.
pub fn of_group(group: &Name) -> Result<Vec<Found>, Error> {
    let none = || Error::NoGroup(group.clone());
    let Some(state) = StateDir::open_if_present()? else { return Err(none()) };
    let mut found = Vec::new();
    for (home, filed) in all(&state)? {
        if filed.record.group.as_ref() == Some(group) {
            let state = StateDir::open_at(state.path())?;
            found.push(Found { state, home, filed });
        }
    }
    if found.is_empty() { Err(none()) } else { Ok(found) }
}
