//! Repairing what killed processes left under `trees`.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

use super::error::Result;
use super::gone;
use super::layout::StateDir;
use super::trees::{self, GONE, Tree};
use crate::base::id::Id;
use crate::monitor::Monitor;

/// What a sweep may do.
pub struct Rules<'a> {
    /// Jails that the ledger says are running: never touched, whatever their lock says.
    pub running: &'a BTreeSet<Id>,
    /// Whether a tree with changes may go.
    pub expired: &'a dyn Fn(&Tree) -> bool,
    /// Called with what goes, its directory still open, and whether it is a leftover. `false`: it stays.
    pub goes: &'a dyn Fn(&str, BorrowedFd<'_>, bool) -> bool,
}

impl std::fmt::Debug for Rules<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").field("running", self.running).finish_non_exhaustive()
    }
}

/// What a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Trees without changes, or expired.
    pub removed: u64,
    /// Trees that were half made or half removed.
    pub leftovers: u64,
    /// Trees with changes, kept to be applied.
    pub kept: u64,
    /// Trees in use.
    pub in_use: u64,
}

/// Remove the trees of finished jails that changed nothing, and leftovers of killed processes.
/// A tree that cannot be removed is a warning: it is tried again next time.
pub fn sweep(state: &StateDir, rules: &Rules<'_>, monitor: &dyn Monitor) -> Result<Swept> {
    let mut swept = Swept::default();
    for name in trees::names(state)? {
        let Ok(text) = name.to_str() else { continue };
        let outcome = if text.starts_with(GONE) {
            swept.leftovers += 1;
            let dir = trees::open_tree_dir(&trees::all(state)?, text).ok();
            let held = dir.as_ref().is_some_and(gone::is_held);
            if !held && dir.as_ref().is_none_or(|dir| (rules.goes)(text, dir.as_fd(), true)) {
                drop(dir);
                gone::finish(state, &name, &mut || true).map(drop)
            } else {
                Ok(())
            }
        } else if let Ok(id) = text.parse() {
            judge(state, id, rules, &mut swept)
        } else {
            // Not ours: left alone.
            Ok(())
        };
        if let Err(e) = outcome {
            monitor.warn(&format!(
                "could not clean up `trees/{}`: {e}",
                crate::base::text::printable(name.to_bytes())
            ));
        }
    }
    Ok(swept)
}

fn judge(state: &StateDir, id: Id, rules: &Rules<'_>, swept: &mut Swept) -> Result<()> {
    if rules.running.contains(&id) {
        swept.in_use += 1;
        return Ok(());
    }
    let Some(tree) = trees::claim(state, id)? else {
        swept.in_use += 1;
        return Ok(());
    };
    let counter = if !tree.is_whole() {
        &mut swept.leftovers
    } else if tree.is_unchanged().unwrap_or(false) || (rules.expired)(&tree) {
        &mut swept.removed
    } else {
        // Its run may have been killed before it could do this itself.
        tree.make_removable();
        swept.kept += 1;
        return Ok(());
    };
    *counter += 1;
    let leftover = !tree.is_whole();
    if (rules.goes)(id.as_str(), tree.as_fd(), leftover) { tree.remove(state) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{id, state};
    use super::super::trees::create_tree;
    use super::*;
    use crate::monitor::Recording;
    use std::fs;

    fn run(state: &StateDir, running: &[Id], expired: &dyn Fn(&Tree) -> bool) -> (Swept, Vec<String>) {
        let monitor = Recording::default();
        let running = running.iter().copied().collect();
        let swept =
            sweep(state, &Rules { running: &running, expired, goes: &|_, _, _| true }, &monitor).unwrap();
        (swept, monitor.warnings())
    }

    #[test]
    fn only_what_nobody_uses_and_nobody_changed_is_removed() {
        let (_dir, state) = state();
        assert_eq!(run(&state, &[], &|_| true).0, Swept::default());
        let make = || create_tree(&state, id(), "/".as_ref(), None).unwrap();
        let live = make();
        let changed = {
            let tree = make();
            fs::write(tree.upper().join("x"), "").unwrap();
            tree.id()
        };
        let (unchanged, running) = (make().id(), make().id());
        let trees = state.path().join("trees");
        let half = id();
        fs::create_dir_all(trees.join(half.as_str()).join("work/work")).unwrap();
        fs::create_dir_all(trees.join(format!("{GONE}{}/upper/x", id()))).unwrap();
        fs::create_dir_all(trees.join("somebody's")).unwrap();
        let (swept, warnings) = run(&state, &[running], &|_| false);
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(swept, Swept { removed: 1, leftovers: 2, kept: 1, in_use: 2 });
        let mut left = vec![changed, running, live.id()];
        left.sort();
        assert_eq!(trees::list_trees(&state).unwrap(), left);
        assert!(!trees.join(unchanged.as_str()).exists());
        assert_eq!(fs::read_dir(&trees).unwrap().count(), 4, "the foreign name stays");
        let (swept, _) = run(&state, &[], &|tree| tree.id() == changed);
        assert_eq!(swept, Swept { removed: 2, leftovers: 0, kept: 0, in_use: 1 });
    }

    #[test]
    fn a_tree_being_made_is_never_taken_for_a_leftover() {
        let (_dir, state) = state();
        std::thread::scope(|s| {
            let makers: Vec<_> = (0..3)
                .map(|_| {
                    s.spawn(|| {
                        for _ in 0..60 {
                            let tree = create_tree(&state, id(), "/".as_ref(), None).unwrap();
                            assert!(tree.upper().exists() && tree.work().exists());
                            tree.remove(&state).unwrap();
                        }
                    })
                })
                .collect();
            while makers.iter().any(|m| !m.is_finished()) {
                assert_eq!(run(&state, &[], &|_| true).1, Vec::<String>::new());
            }
        });
        assert_eq!(trees::list_trees(&state).unwrap(), []);
    }
}
