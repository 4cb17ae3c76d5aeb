//! Overlays beside the workspace: what each is over, and where in the run's tree its layers are.

use std::path::{Path, PathBuf};

use crate::base::text;
use crate::jail::spec::{Cache, Owner, Side, Spec};
use crate::ops::caches::Shown;
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
    /// A package cache.
    pub(super) fn cache(shown: &Shown) -> Beside {
        Beside { kind: Kind::Cache, name: shown.name.clone(), path: shown.path.clone(), owner: shown.owner }
    }

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

/// The caches of `shown` as the jail is to show them; `beside` has their layers in `tree`.
pub(super) fn caches(shown: Vec<Shown>, beside: &[Beside], tree: &Path) -> Vec<Cache> {
    let layers = beside.iter().filter(|b| b.kind == Kind::Cache);
    shown.into_iter().zip(layers).map(|(s, b)| Cache { side: b.side(tree), hidden: s.hidden }).collect()
}

/// A line for a run that had to do without some of its caches: those of these numbers, a bit each.
pub(super) fn missing(spec: &Spec, numbers: u64) -> Option<String> {
    let names = spec.caches.iter().enumerate().filter(|(n, _)| numbers & 1 << n != 0);
    let names: Vec<String> = names.map(|(_, c)| format!("`{}`", text::os(&c.side.path))).collect();
    (!names.is_empty()).then(|| {
        format!(
            "{} was empty inside: no overlay can be mounted over the file system of that cache",
            names.join(", ")
        )
    })
}
