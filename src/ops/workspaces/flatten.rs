//! The newer layers made one: by hard links, since nobody writes them any more.

use crate::store::layout::StateDir;
use crate::store::trees::Tree;
use crate::store::workspaces::{self, ROOMS, Unread};
use crate::workspace::merge;

use super::Error;

/// Make one layer of the newer ones that the workspace of `tree` stands on, whose lock the caller holds. Workspaces
/// that stand on some of them keep those.
pub(super) fn flatten(state: &StateDir, tree: &Tree) -> Result<(), Error> {
    let done: Result<(), Unread> = workspaces::replace_layers(state, tree, |layers, made| {
        for room in ROOMS {
            let from = workspaces::open_layers(state, layers, room)?;
            let to = workspaces::open_room(made, room)?;
            merge::merge(from, to)?;
        }
        Ok(())
    });
    Ok(done?)
}
