//! What a finished run leaves.

use super::{Error, mode, record};
use crate::base::clock;
use crate::base::id::Id;
use crate::base::text;
use crate::jail::root::Root;
use crate::jail::supervise::Ended;
use crate::ops::changes;
use crate::schema::changes::Diff;
use crate::schema::jail::{Effective, Outcome};
use crate::store::alive;
use crate::store::kept::Kept;
use crate::store::layout::StateDir;
use crate::store::spool;
use crate::store::trees::Tree;
use crate::store::workspaces;

/// Changes that are kept.
#[derive(Debug)]
pub(super) struct Left {
    /// What they are.
    pub(super) diff: Diff,
    /// Bytes that they take on the disk.
    pub(super) bytes: u64,
    /// Where they are: open to readers, and not to be removed while this lives.
    pub(super) tree: Tree,
}

/// Look at what the run of `jail` left in its tree. A tree that equals its base after all goes, unless it is
/// that of a workspace.
pub(super) fn settle(state: &StateDir, tree: Tree, jail: Id) -> Result<Option<Left>, Error> {
    if workspaces::is_empty_based(&tree) {
        // There is nothing to compare it with.
        note(&tree, jail, None);
        tree.share()?;
        return Ok(None);
    }
    let run = changes::tree_of_run_in(state, &tree)?;
    let (diff, noted, bytes) = changes::diff_at_end(&run)?;
    if diff.totals.changes == 0 && diff.totals.skipped == 0 && !tree.is_lasting() {
        tree.remove(state)?;
        return Ok(None);
    }
    noted.keep(&run);
    note(&tree, jail, Some(bytes));
    tree.share()?;
    Ok(Some(Left { diff, bytes, tree }))
}

/// Record the end of the run `id`, whose policy has the mode that was used after all from then on.
pub(super) fn record(
    state: &StateDir,
    (id, ended): (Id, &Ended),
    files_changed: Option<u64>,
    policy: &mut Effective,
    warnings: &mut Vec<String>,
) {
    let used = mode::used(ended).filter(|used| *used != policy.mode);
    if let Some(used) = &used {
        policy.mode.clone_from(used);
    }
    match spool::append_end(state, &record::end(id, ended.outcome.clone(), Some(ended), files_changed, used))
    {
        Ok(set_aside) => warnings.extend(set_aside),
        Err(e) => warnings.push(format!("the run was not recorded: {e}")),
    }
}

/// That the run of `jail` has ended. Without it the tree is measured again.
fn note(tree: &Tree, jail: Id, bytes: Option<u64>) {
    let boot = alive::boot_id().unwrap_or_default();
    let used_ms = clock::now_ms();
    let kept = Kept { boot, last: Some(jail), bytes, used_ms, open: false, torn: false, lost_ms: None };
    kept.write(tree).ok();
}

/// A line for a run that failed over a ready-made root which is no longer whole. The next one has its own.
pub(super) fn damaged(root: &Root, outcome: &Outcome) -> Option<String> {
    if matches!(outcome, Outcome::Exited { code: 0 }) || !root.set_aside_if_damaged() {
        return None;
    }
    let path = text::os(root.path());
    Some(format!("`{path}`, on which the jail was built, was damaged and is set aside: run it again"))
}
