//! `aj exec --dry-run`: everything that a run checks and works out, and nothing of it started.

use nix::sys::stat::{Mode, umask};

use super::{Error, Request, again, born, config, prepare, streams};
use crate::base::text::os;
use crate::ops::caches;
use crate::ops::project;
use crate::ops::tools::Found;
use crate::policy::resolve::Resolved;
use crate::schema::policy;

/// What a run would be.
#[derive(Debug)]
pub struct Explained {
    /// The effective policy and its origins.
    pub resolved: Resolved,
    /// The tree that it would see.
    pub tree: policy::Tree,
    /// The tools that it would show.
    pub tools: Vec<policy::Tools>,
    /// The package caches that it would show.
    pub caches: Vec<policy::Caches>,
    /// What it would hide.
    pub hidden: Vec<policy::Hidden>,
}

/// The effective policy and its origins, and what it shows and hides. What a run would be refused for
/// before it starts anything is the same error here, because it comes from the same checks.
pub fn explain(request: &Request) -> Result<Explained, Error> {
    drop(streams::inherited(request.status_fd)?);
    // The state directory may be made on the way, as by a run.
    umask(Mode::from_bits_truncate(0o077));
    let mut warnings = Vec::new();
    let (older, place) = match again::take(request, &mut warnings)? {
        Some((tree, place)) => (Some(tree), place),
        None => (None, project::find(&request.tree)?),
    };
    let (path, found_by) = (os(&place.root), place.why);
    let mut resolved = config::policy(&place.root, &place.cwd, request.flags.clone(), &request.env_files)?;
    let birth = born::asked_for(&resolved.settings);
    let prepared = prepare(request, &resolved, place, older.as_ref(), birth, 0o022, &mut warnings)?;
    resolved.warnings.append(&mut warnings);
    let parts = prepared.parts.iter().map(os).collect();
    let tree = policy::Tree { path, found_by, parts };
    let row = |found: Found| policy::Tools {
        name: found.name,
        found_by: found.by,
        shows: found.places.iter().map(os).collect(),
    };
    let cache = |found: caches::Found| policy::Caches {
        name: found.name,
        found_by: found.by,
        shows: found.places.iter().map(os).collect(),
        hides: found.hidden.iter().map(os).collect(),
    };
    Ok(Explained {
        resolved,
        tree,
        tools: prepared.tools.into_iter().map(row).collect(),
        caches: prepared.caches.into_iter().map(cache).collect(),
        hidden: prepared.secrets.rows(),
    })
}
