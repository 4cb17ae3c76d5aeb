//! Overlays beside the workspace: what each is over, and where in the run's tree its layers are.

use std::path::{Path, PathBuf};

use crate::jail::spec::{Owner, Side};
use crate::store;
use crate::store::sides::{self, Kind};
use crate::store::trees::Tree;

/// A directory of the host that the jail may write to, but only on its own side.
#[derive(Debug)]
pub(super) struct Beside {
    pub(super) kind: Kind,
    /// A plain file name, no other of its kind has it.
    pub(super) name: String,
    /// As in [`Side::path`].
    pub(super) path: PathBuf,
    /// As in [`Side::owner`].
    pub(super) owner: Owner,
}

impl Beside {
    /// As the jail is to show it.
    pub(super) fn side(&self, tree: &Path) -> Side {
        let layers = sides::path_of(tree, self.kind, &self.name);
        Side { path: self.path.clone(), layers, owner: self.owner }
    }

    /// Make its layers.
    pub(super) fn make(&self, tree: &Tree, owner: Option<(u32, u32)>) -> store::Result<()> {
        sides::add(tree, self.kind, &self.name, &self.path, owner)
    }
}
