//! Workspaces among what `aj diff` and `aj apply` can mean.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Error, Tree, find};
use crate::base::id::{Id, Kind};
use crate::ops::workspaces::{self, Error as Missing};
use crate::store::Error as StateError;
use crate::store::layout::StateDir;
use crate::store::workspaces as store;
use crate::sys::at::Stamp;
use crate::sys::openat2::{self, For};
use crate::workspace::diff::{self, Status};
use crate::workspace::original;

/// Whether a word can be nothing but the id of a workspace.
pub(super) fn is_id(word: &OsStr) -> bool {
    let start = word.as_bytes().get(..3).unwrap_or_default();
    start.eq_ignore_ascii_case(b"ws-") && !word.as_bytes().contains(&b'/')
}

/// The workspace that a word names: by its name, or by an id that begins with `ws-`. Costs one call for a
/// word that is neither.
pub(super) fn named(state: &StateDir, word: &OsStr) -> Result<Option<Id>, Error> {
    if is_id(word) {
        return Ok(Some(workspaces::find(Some(word))?.id()));
    }
    match word.to_str().and_then(|text| text.parse().ok()) {
        Some(name) => Ok(store::holder(state, &name)?),
        None => Ok(None),
    }
}

/// The tree of the workspace that owns the directory `cwd`.
pub(super) fn over(state: &StateDir, cwd: &Path) -> Result<Option<Tree>, Error> {
    match workspaces::owner_of(state, cwd) {
        Ok(filed) => find::open(state, filed.record.id),
        Err(Missing::NoneHere(_)) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// A tree with the sealed layers below its own, if it is that of a workspace. It is locked.
pub(super) fn with_layers(state: &StateDir, tree: Tree) -> Result<Tree, StateError> {
    if tree.id.kind() != Kind::Workspace {
        return Ok(tree);
    }
    let record = match store::Filed::read(state, tree.id) {
        Ok(Some(filed)) => filed.record,
        Ok(None) => return Ok(tree),
        Err(e) => return Err(unread(e)),
    };
    Ok(Tree {
        below: store::open_layers(state, &record.layers, c"upper")?,
        imported: record.import.map(|import| import.from.into()),
        seen_at: record.at.map(Into::into),
        ..tree
    })
}

/// A record that cannot be read: what it says of the layers is needed.
fn unread(e: store::Unread) -> StateError {
    match e {
        store::Unread::Store(e) => e,
        store::Unread::Damaged { path, .. } | store::Unread::Newer { path, .. } => {
            crate::sys::Error::new("read", path, nix::errno::Errno::EBADMSG).into()
        }
    }
}

/// A tree that lies over no directory of the host's, as one over `dir`. What is there is the host's own, and newer
/// than whatever the tree could know, but for what is still as it was when it was imported.
pub(super) fn over_dir(tree: Tree, dir: &Path) -> Result<Tree, Error> {
    if !tree.homeless {
        return Err(Error::HasBase { base: crate::base::text::os(&tree.base) });
    }
    let failed = |source| Error::Base { base: crate::base::text::os(dir), source };
    let base = std::fs::canonicalize(dir).map_err(|e| {
        failed(crate::sys::Error::new("open", crate::base::text::os(dir), crate::sys::errno(&e)))
    })?;
    let there = openat2::absolute(base.as_os_str().as_bytes(), For::Listing).map_err(failed)?;
    let known = match tree.imported {
        Some(_) => as_imported(&tree, there)?,
        None => Vec::new(),
    };
    let started = Stamp { sec: i64::MIN, nsec: 0 };
    Ok(Tree { base, started, homeless: false, elsewhere: Some(known), ..tree })
}

/// What of the directory `there` is as it was imported, where the tree has changes.
fn as_imported(tree: &Tree, there: OwnedFd) -> Result<Vec<(u64, Stamp)>, Error> {
    let mut paths = original::Paths::default();
    let layer = tree.main();
    let Some(options) = layer.options(tree, &super::DiffOptions::default())? else { return Ok(Vec::new()) };
    let failed = |e| super::not_compared(tree, layer, e);
    let found =
        diff::diff(super::listing(tree, layer)?, super::base::open(layer)?, &options).map_err(failed)?;
    for change in found.changes {
        match change.status {
            Status::Deleted | Status::TypeChanged => paths.whole.insert(change.path),
            Status::Added | Status::Modified | Status::ModeChanged => paths.single.insert(change.path),
        };
    }
    original::unchanged(super::base::open(layer)?, there, &paths).map_err(failed)
}
