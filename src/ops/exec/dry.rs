//! `aj exec --dry-run`: everything that a run checks and works out, and nothing of it started.

use std::path::{Path, PathBuf};

use super::disk::By;
use super::limits::{self, Chosen};
use super::seat::Seat;
use super::{Error, How, Request, again, born, config, prepare, streams, unseen};
use crate::base::id::{Id, Kind};
use crate::base::text::os;
use crate::jail::limits::Limits;
use crate::ops::caches;
use crate::ops::project;
use crate::ops::tools::Found;
use crate::policy::resolve::Resolved;
use crate::schema::jail::Effective;
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
    /// Entries of PATH that it would do without.
    pub path_left_out: Vec<policy::LeftOut>,
    /// The package caches that it would show.
    pub caches: Vec<policy::Caches>,
    /// What it would hide.
    pub hidden: Vec<policy::Hidden>,
    /// What would hold its limits.
    pub limits: policy::Limits,
    /// Device nodes of GPUs that it would show.
    pub gpu: Vec<String>,
    /// Volumes that it would show.
    pub volumes: Vec<policy::Volume>,
}

fn held(effective: &Effective, limits: &Chosen, disk: &By) -> policy::Limits {
    policy::Limits {
        by: effective.limits_by.clone(),
        groups: limits.group.iter().flat_map(Limits::paths).map(|path| os(&path)).collect(),
        disk_by: Some(effective.disk_by.clone()).filter(|by| !by.is_empty()),
        disk_why: disk.why(),
    }
}

/// The effective policy and its origins, and what it shows and hides. What a run would be refused for
/// before it starts anything is the same error here, because it comes from the same checks.
pub fn explain(request: &Request) -> Result<Explained, Error> {
    drop(streams::inherited(request.status_fd)?);
    streams::terminal(request)?;
    let mut warnings = Vec::new();
    let seat = Seat::look(request)?;
    let (older, place) = match again::take(request, seat.as_ref(), &mut warnings)? {
        Some((tree, place)) => (Some(tree), place),
        None => (None, project::find(&request.tree)?),
    };
    let (path, found_by) = (os(&place.root), place.why);
    let workspace = seat.as_ref().map(|seat| &seat.kept.stored);
    let (at, flags) = ((&*place.root, &*place.cwd), request.flags.clone());
    let mut resolved = config::policy_with(config::user()?, at, workspace, flags, &request.env_files)?;
    let id = Id::random(Kind::Jail).map_err(Error::Random)?;
    // A group that has to be there before pid 1 is made, and removed again.
    let limits = limits::choose(&resolved, &id, &place.root, None, &mut warnings)?;
    let birth = born::asked_for(&resolved.settings);
    let how = How { id, storage: None, birth, limits: &limits, umask: 0o022 };
    let in_it = (older.as_ref(), seat.as_ref());
    let mut prepared = prepare(request, &resolved, place, in_it, how, &mut warnings)?;
    resolved.warnings.append(&mut warnings);
    let parts = prepared.parts.iter().map(os).collect();
    let tree = policy::Tree { path, found_by, parts };
    let below = |places: &[PathBuf], path: &Path| places.iter().any(|place| path.starts_with(place));
    let masked = std::mem::take(&mut prepared.spec.hidden);
    let row = |found: Found| policy::Tools {
        hides: masked.iter().map(|h| &h.path).filter(|h| below(&found.places, h)).map(os).collect(),
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
    let path_left_out = unseen::entries(&prepared.sight, &resolved.settings);
    Ok(Explained {
        resolved,
        tree,
        tools: prepared.tools.into_iter().map(row).collect(),
        path_left_out,
        caches: prepared.caches.into_iter().map(cache).collect(),
        hidden: prepared.secrets.rows(),
        limits: held(&prepared.policy, &limits, &prepared.disk),
        gpu: prepared.policy.gpu,
        volumes: prepared.volumes.described(),
    })
}
