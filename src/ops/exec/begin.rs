//! What a run begins with: what is asked for, and the tree that it works on.

use super::beside::Beside;
use super::disk::{self, By};
use super::limits::Chosen;
use super::seat::Seat;
use super::{Error, Request, again, home};
use crate::jail::plan::Plan;
use crate::jail::spec::{Spec, Storage};
use crate::ops::config;
use crate::ops::project::{self, Place};
use crate::ops::secrets::Secrets;
use crate::policy::file::UserFile;
use crate::policy::resolve::Resolved;
use crate::policy::settings::Access;
use crate::store::layout::StateDir;
use crate::store::planted::{self, Bed};
use crate::store::trees::{self, Tree};

/// What is asked for, over which directory.
pub(super) struct Asked {
    /// The tree to go on in.
    pub(super) older: Option<Tree>,
    pub(super) place: Place,
    pub(super) resolved: Resolved,
}

impl Asked {
    pub(super) fn look_at(
        request: &Request,
        user: Option<UserFile>,
        seat: Option<&Seat>,
        warnings: &mut Vec<String>,
    ) -> Result<Asked, Error> {
        let (older, place) = match again::take(request, seat, warnings)? {
            Some((tree, place)) => (Some(tree), place),
            None => (None, project::find(&request.tree)?),
        };
        let flags = request.flags.clone();
        let workspace = seat.map(|seat| &seat.kept.stored);
        let at = (&*place.root, &*place.cwd);
        let resolved = config::policy_with(user, at, workspace, flags, &request.env_files)?;
        Ok(Asked { older, place, resolved })
    }
}

/// A run whose jail has been born.
pub(super) struct Begun<'a> {
    pub(super) spec: &'a Spec,
    pub(super) plan: &'a Plan,
    pub(super) beside: &'a [Beside],
    pub(super) seeds: &'a [Bed],
    pub(super) secrets: &'a Secrets,
    /// What kind of run it is, and the pid of the jail's pid 1.
    pub(super) run: (&'static str, i32),
}

impl Begun<'_> {
    /// Make the tree, or go on in an older one; leave nothing new when that fails.
    pub(super) fn tree(
        &self,
        state: &StateDir,
        older: Option<Tree>,
        (disk, limits): (&mut By, &Chosen),
        warnings: &mut Vec<String>,
    ) -> Result<Option<Tree>, Error> {
        let Begun { spec, plan, beside, seeds, secrets, .. } = *self;
        let owner = spec.outside();
        let mut tree = match older {
            Some(tree) => Some(again::begin(state, tree, spec.id, warnings)?),
            None if spec.tree.is_some() => Some(trees::create_tree(state, spec.id, &spec.workspace, owner)?),
            None => None,
        };
        if let Some(Err(e)) =
            tree.as_ref().map(|tree| beside.iter().try_for_each(|b| b.make(state, tree, owner)))
        {
            discard(tree, state);
            return Err(e.into());
        }
        if let Some(tree) = &mut tree {
            // Before anything is written in it.
            disk::hold(disk, tree, limits, warnings);
        }
        if let Some(home) = &spec.home
            && let Err(e) = home::prepare(home, plan, owner)
        {
            discard(tree, state);
            return Err(e);
        }
        if let Some(Err(e)) = tree
            .as_ref()
            // A copy is made without them.
            .filter(|_| spec.storage != Storage::Copy || spec.access != Access::Overlay)
            .map(|tree| planted::plant(tree, seeds, &|path| secrets.is_shown(path)))
        {
            discard(tree, state);
            return Err(Error::Unhidden(e));
        }
        Ok(tree)
    }
}

/// Remove the tree of a run that did not come about.
pub(super) fn discard(tree: Option<Tree>, state: &StateDir) {
    // What earlier runs left is not this one's to take away.
    if let Some(tree) = tree.filter(|tree| !tree.is_older()) {
        // Whatever is left is swept by the next command that looks.
        drop(tree.remove(state));
    }
}
