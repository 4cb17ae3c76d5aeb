//! `aj discard`: kept changes that nobody wants.

use std::ffi::OsString;

use super::changes::{self, Error};
use crate::base::clock::rfc3339;
use crate::base::id::{Id, Kind};
use crate::base::text;
use crate::monitor::Monitor;
use crate::schema::changes::FORMAT;
use crate::schema::discard::{Discarded, FailedTree, KeptTree};
use crate::store::gone;
use crate::store::kept::Kept;
use crate::store::layout::StateDir;
use crate::store::trees::{self, Tree};

/// Which ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Those of these jails.
    Of(Vec<OsString>),
    /// All.
    All,
}

/// Trees that are meant, and words that mean none.
#[derive(Debug, Default)]
pub struct Meant {
    /// Each once; of all, the newest use first.
    pub trees: Vec<KeptTree>,
    /// What is wrong with the others.
    pub missing: Vec<Error>,
}

/// The trees that are meant. Nothing is changed.
pub fn choose(which: &Which, monitor: &dyn Monitor) -> Result<Meant, Error> {
    let state = StateDir::open_if_present()?;
    let mut meant = Meant::default();
    match which {
        Which::All => {
            if let Some(state) = &state {
                meant.trees.extend(trees::list_trees(state)?.into_iter().filter_map(|id| look(state, id)));
                meant.trees.sort_by(|a, b| b.used_at.cmp(&a.used_at).then(a.tree.cmp(&b.tree)));
            }
        }
        Which::Of(words) => {
            for word in words {
                match one(state.as_ref(), word, monitor) {
                    Ok(tree) if meant.trees.iter().any(|t| t.tree == tree.tree) => {}
                    Ok(tree) => meant.trees.push(tree),
                    Err(e @ (Error::NotFound(_) | Error::NothingKept(_))) => meant.missing.push(e),
                    Err(e) => return Err(e),
                }
            }
        }
    }
    Ok(meant)
}

fn one(state: Option<&StateDir>, word: &OsString, monitor: &dyn Monitor) -> Result<KeptTree, Error> {
    let state = state.ok_or_else(|| Error::NotFound(text::os(word)))?;
    let (jail, tree) = changes::selected(state, word, monitor)?;
    // What a run left in a workspace is that workspace.
    if tree.kind() == Kind::Workspace {
        return Err(Error::NothingKept(jail.to_string()));
    }
    look(state, tree).ok_or_else(|| Error::NothingKept(jail.to_string()))
}

/// `None`: there is none, or nothing is in it.
fn look(state: &StateDir, id: Id) -> Option<KeptTree> {
    // One that cannot be opened is reported by whoever tries to remove it.
    let tree = trees::open_tree(state, id).transpose()?.ok();
    if tree.as_ref().is_some_and(|tree| tree.is_unchanged().unwrap_or(false)) {
        return None;
    }
    let kept = tree.as_ref().and_then(Kept::read);
    Some(KeptTree {
        tree: id,
        base: tree.and_then(|t| t.base().ok()).map(|base| text::os(&base)).unwrap_or_default(),
        bytes: kept.as_ref().and_then(|k| k.bytes),
        used_at: kept.map(|k| rfc3339(k.used_ms)),
    })
}

/// Remove them. What is in use stays.
pub fn discard(meant: Vec<KeptTree>, dry_run: bool, monitor: &dyn Monitor) -> Result<Discarded, Error> {
    let mut done = Discarded {
        format_version: FORMAT,
        dry_run,
        discarded: Vec::new(),
        in_use: Vec::new(),
        failed: Vec::new(),
    };
    let Some(state) = StateDir::open_if_present()? else { return Ok(done) };
    monitor.phase("remove files", 0);
    for kept in meant {
        match remove(&state, kept.tree, dry_run, monitor) {
            Ok(true) => done.discarded.push(kept),
            Ok(false) => done.in_use.push(kept),
            Err(e) => done.failed.push(FailedTree { tree: kept.tree, error: e.to_string() }),
        }
    }
    if !dry_run {
        // What an earlier one, killed at it, has left.
        gone::finish_all(&state, &mut || {
            monitor.step(1);
            true
        })?;
    }
    Ok(done)
}

/// `false`: in use.
fn remove(
    state: &StateDir,
    id: Id,
    dry_run: bool,
    monitor: &dyn Monitor,
) -> Result<bool, crate::store::Error> {
    let Some(tree) = trees::open_tree(state, id)? else { return Ok(true) };
    if !tree.lock_patiently()? {
        return Ok(false);
    }
    if dry_run {
        return Ok(true);
    }
    take_away(state, tree, monitor).map(|()| true)
}

fn take_away(state: &StateDir, tree: Tree, monitor: &dyn Monitor) -> Result<(), crate::store::Error> {
    // Its name goes first: if we are killed, the next sweep finishes.
    if let Some(gone) = tree.take_away(state)? {
        let mut step = || {
            monitor.step(1);
            true
        };
        gone.remove(state, &mut step)?;
    }
    Ok(())
}
