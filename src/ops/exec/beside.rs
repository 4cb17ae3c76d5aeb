//! Overlays beside the workspace: what each is over, and where in the run's tree its layers are.

use std::path::{Path, PathBuf};

use crate::base::text;
use crate::jail::spec::{Cache, Owner, Side, Spec};
use crate::ops::caches::Shown;
use crate::store;
use crate::store::layout::StateDir;
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

    /// The directory, if it is a part of the project.
    pub(super) fn part(&self) -> Option<&Path> {
        (self.kind == Kind::Part).then_some(&*self.path)
    }

    /// Make its layers.
    pub(super) fn make(&self, state: &StateDir, tree: &Tree, owner: Option<(u32, u32)>) -> store::Result<()> {
        sides::add(state, tree, (self.kind, &self.name), &self.path, owner)
    }
}

/// The caches of `shown` as the jail is to show them, in `tree` when their layers are on disk.
///
/// Layers on disk cost milliseconds on ext4, which makes and removes a dozen inodes for each; those in
/// memory a twentieth. What a run without a network writes to a cache of packages is little.
pub(super) fn caches(shown: Vec<Shown>, tree: &Path, memory: bool) -> Vec<Cache> {
    let cache = |shown: Shown| Cache {
        side: Beside::cache(&shown).side(tree),
        memory: memory && !shown.grows,
        hidden: shown.hidden,
    };
    shown.into_iter().map(cache).collect()
}

/// Whether a tmpfs takes the attributes that an upper layer needs (Linux 6.6).
pub(super) fn memory_has_attributes() -> bool {
    let Ok(name) = nix::sys::utsname::uname() else { return false };
    let mut numbers = name.release().to_str().unwrap_or_default().split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next().and_then(|n| n.parse::<u32>().ok());
    matches!((number(), number()), (Some(major), Some(minor)) if (major, minor) >= (6, 6))
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
