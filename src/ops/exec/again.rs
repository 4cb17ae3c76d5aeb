//! `aj exec JAIL -- COMMAND`: one more run in a tree that an earlier one left.
//!
//! The policy is that of the new command line. What the tree fixes is the directory it lies over and,
//! as root, the id that its files belong to.

use std::ffi::OsString;

use super::seat::Seat;
use super::{Error, Request};
use crate::base::clock::rfc3339;
use crate::base::id::Id;
use crate::base::text;
use crate::jail::spec::{Birth, Ids, RANGE_BASE, inside_id};
use crate::monitor::{Recording, Silent};
use crate::ops::project::{self, Choice, Place};
use crate::ops::{changes, workspaces};
use crate::policy::key::Key;
use crate::policy::resolve::Resolved;
use crate::policy::settings::Access;
use crate::store::again::{self, Last, Taken, User};
use crate::store::layout::StateDir;
use crate::store::ledger;
use crate::store::trees::Tree;

/// Find the tree that is asked for, lock it, and make sure that its base is still there. `None`: a
/// tree of its own is asked for.
pub(super) fn take(
    request: &Request,
    seat: Option<&Seat>,
    warnings: &mut Vec<String>,
) -> Result<Option<(Tree, Place)>, Error> {
    let Some(word) = &request.again else { return Ok(None) };
    if let Some(seat) = seat {
        return sit_down(request, seat).map(Some);
    }
    let state = StateDir::open_if_present()?;
    let id = find(state.as_ref(), word, &request.tree, warnings)?;
    let none = || Error::Changes(changes::Error::NothingKept(id.to_string()));
    let tree = match again::take(state.as_ref().ok_or_else(none)?, id)? {
        Taken::Tree(tree) => tree,
        Taken::Gone => return Err(none()),
        Taken::By(user) => return Err(Error::InUse { id, by_run: user == User::Run }),
    };
    let described = changes::tree_of_run(&tree)?;
    changes::check_base(&described)?;
    Ok(Some((tree, project::over(described.base)?)))
}

/// The same for the tree of a workspace.
fn sit_down(request: &Request, seat: &Seat) -> Result<(Tree, Place), Error> {
    if request.tree != Choice::Project {
        return Err(Error::NotAgain {
            what: if request.tree == Choice::Here { "`--here`" } else { "`--root-dir`" }.to_owned(),
            why: format!("says which directory is shown; the workspace `{}` has its own", seat.name()),
        });
    }
    let name = || seat.name();
    let tree = match again::take(&seat.found.state, seat.found.id())? {
        Taken::Tree(tree) => tree,
        Taken::Gone => return Err(workspaces::Error::NotFound(name()).into()),
        Taken::By(user) => {
            return Err(workspaces::Error::InUse { name: name(), by_run: user == User::Run }.into());
        }
    };
    let described = changes::tree_of_run(&tree)?;
    changes::check_base(&described)?;
    let at = workspaces::own_place(&seat.found.filed.record);
    Ok((tree, project::of_workspace(described.base, at)?))
}

/// `@` is the newest tree of this project, whether over all of it or over a part that the current
/// directory is in (`--here`); everything else is a jail, as for `aj diff`.
fn find(
    state: Option<&StateDir>,
    word: &OsString,
    choice: &Choice,
    warnings: &mut Vec<String>,
) -> Result<Id, Error> {
    let monitor = Recording::default();
    let found = if word == "@" || word == "latest" {
        let place = project::find(choice)?;
        let state = state.ok_or_else(|| changes::Error::NoTree(text::os(&place.root)))?;
        changes::newest_of_project(state, &place.root, &place.start, &monitor)
    } else if *choice == Choice::Project {
        let not_found = || changes::Error::NotFound(text::os(word));
        let state = state.ok_or_else(not_found)?;
        changes::selected(state, word, &monitor).map(|(_, tree)| tree)
    } else {
        return Err(Error::NotAgain {
            what: if *choice == Choice::Here { "`--here`" } else { "`--root-dir`" }.to_owned(),
            why: format!("says which directory `@` is looked for in; `{}` says it itself", text::os(word)),
        });
    };
    warnings.extend(monitor.warnings());
    Ok(found?)
}

/// Refuse what cannot be had in this tree.
pub(super) fn check(tree: &Tree, resolved: &Resolved, birth: &Birth) -> Result<(), Error> {
    if resolved.settings.access != Access::Overlay {
        let origin = resolved.origin(Key::Workspace).unwrap_or(crate::policy::resolve::Origin::BuiltIn);
        return Err(Error::NotAgain {
            what: resolved.setting_text(Key::Workspace, origin),
            why: "does without an overlay, and the kept changes are one".to_owned(),
        });
    }
    let owner = tree.owner()?;
    let (mine, other) = match birth.ids {
        Ids::Caller { owner } => (owner.uid, None),
        Ids::Range => (RANGE_BASE + inside_id(birth.as_root), Some(RANGE_BASE + inside_id(!birth.as_root))),
    };
    match owner {
        _ if owner == mine => Ok(()),
        // Its files would belong to somebody else inside, who could not change them.
        _ if Some(owner) == other => Err(Error::OtherId { id: tree.id(), as_root: birth.as_root }),
        _ => Err(Error::OtherOwner { id: tree.id(), owner }),
    }
}

/// Make the tree fit to be mounted by `jail`.
pub(super) fn begin(
    state: &StateDir,
    tree: Tree,
    jail: Id,
    warnings: &mut Vec<String>,
) -> Result<Tree, Error> {
    let before = again::begin(&tree, jail, |run| last(state, run))?;
    if before.still_runs {
        return Err(Error::InUse { id: tree.id(), by_run: true });
    }
    if before.may_be_torn {
        warnings.push(format!(
            "the machine was started again since the changes of `{}` were made: if it lost power, a part of \
             them may be missing (`--durable` is slower and waits for the disk)",
            tree.id()
        ));
    }
    if let Some(ms) = before.lost_ms {
        warnings.push(format!("`{}`: {}", tree.id(), lost(ms)));
    }
    Ok(tree)
}

/// What the ledger knows of a run that was the last one in its tree.
pub(in crate::ops) fn last(state: &StateDir, run: Id) -> Option<Last> {
    let record = ledger::read(state, &Silent, |l| l.get(run.as_str())).ok().flatten()?;
    Some(Last { ended: record.end.is_some(), start: record.start? })
}

/// Why what was written since then is not there.
pub(in crate::ops) fn lost(since_ms: u64) -> String {
    format!(
        "what was written since {} is lost: it was in the memory of its jail (storage memory), which was killed",
        rfc3339(since_ms)
    )
}
