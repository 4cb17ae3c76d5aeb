//! `aj promote`: what a fork made of it becomes the workspace's own.

use super::list::detail;
use super::{Error, Found, find, fork, have_one_base};
use crate::schema::workspace::WorkspaceDetail;
use crate::store::layout::StateDir;
use crate::store::workspaces::{self, Filed};

/// Let `into` (`None`: the workspace that it is a fork of) have what is in `child`, its home and output
/// included. Both go on; what was written in `into` since they parted is in the way unless `overwrite`.
pub fn promote(child: &Found, into: Option<Found>, overwrite: bool) -> Result<WorkspaceDetail, Error> {
    let parent = match (into, child.filed.record.parent) {
        (Some(into), _) => into,
        (None, Some(parent)) => match find(Some(parent.as_str().as_ref())) {
            Err(Error::NotFound(_)) => return Err(Error::Orphan { child: child.name().to_string(), parent }),
            found => found?,
        },
        (None, None) => return Err(Error::NoFork(child.name().to_string())),
    };
    let state = &child.state;
    let unrelated =
        || Error::Unrelated { child: child.name().to_string(), parent: parent.name().to_string() };
    if parent.id() == child.id() {
        return Err(Error::Itself(child.name().to_string()));
    }
    if !have_one_base(&parent.filed.record, &child.filed.record) {
        return Err(unrelated());
    }
    // In one order, so that two of us never wait for each other: nobody waits at all.
    let (of_child, of_parent) = (fork::hold(child)?, fork::hold(&parent)?);
    let gone = |found: &Found| Error::NotFound(found.name().to_string());
    // A git directory elsewhere is no part of the layers: half of it would not be what the other has.
    for (found, tree) in [(child, &of_child), (&parent, &of_parent)] {
        if tree.has_parts()? {
            return Err(Error::Unforkable { name: found.name().to_string() });
        }
    }
    if of_child.owner()? != of_parent.owner()? {
        return Err(Error::OtherId { child: child.name().to_string(), parent: parent.name().to_string() });
    }
    let sealed = fork::seal(child, &of_child)?;
    let now = Filed::read(state, parent.id())?.ok_or_else(|| gone(&parent))?;
    let stands_on = workspaces::lineage(state, &now.record.layers)?;
    let parted = !workspaces::lineage(state, &sealed.record.layers)?.ends_with(&stands_on)
        || !workspaces::is_bare_but_for_ours(&of_parent)?;
    if parted && !overwrite {
        return Err(Error::Parted { child: child.name().to_string(), parent: parent.name().to_string() });
    }
    if parted {
        // What it had stays in a layer until nobody stands on it.
        fork::seal(&parent, &of_parent)?;
    }
    workspaces::take_over(state, (&of_child, &sealed.record.layers), &of_parent)?;
    drop((of_child, of_parent));
    workspaces::release(state)?;
    let filed = Filed::read(state, parent.id())?.ok_or_else(|| gone(&parent))?;
    detail(&Found { state: StateDir::open()?, filed })
}
