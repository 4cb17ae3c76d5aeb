//! Repairing what killed processes left under `trees`.

use std::collections::BTreeSet;

use super::error::Result;
use super::layout::StateDir;
use super::trees::{self, GONE, Tree};
use crate::base::id::Id;
use crate::monitor::Monitor;

/// What a sweep may do.
pub struct Rules<'a> {
    /// Jails that the ledger says are running: never touched, whatever their lock says.
    pub running: &'a BTreeSet<Id>,
    /// Whether a tree with changes may go. The hook for bounded retention.
    pub expired: &'a dyn Fn(&Tree) -> bool,
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
            trees::finish_removal(state, &name)
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
        swept.kept += 1;
        return Ok(());
    };
    *counter += 1;
    tree.remove(state)
}
