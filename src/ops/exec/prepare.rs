//! What a run is to be: everything that is checked and worked out before its jail is told.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::beside::{self, Beside};
use super::limits::Chosen;
use super::seat::{self, Seat};
use super::sight::Sight;
use super::volumes::{self, Volumes};
use super::{
    CACHE, Error, Request, again, alias, cargo, check, copied, disk, filters, gpu, hide, layered, lite,
    parts, record, setid, shown, spec, storage,
};
use crate::base::id::Id;
use crate::jail::ready::Ready;
use crate::jail::spec::{Birth, Owner, Spec, Storage};
use crate::jail::{etc, launch, plan, root};
use crate::ops::caches::Found as FoundCache;
use crate::ops::project::Place;
use crate::ops::secrets::{Placed, Secrets};
use crate::ops::tools::Found;
use crate::policy::resolve::Resolved;
use crate::policy::settings::{Access, Net};
use crate::schema::jail::Effective;
use crate::store::layout::StateDir;
use crate::store::planted::Bed;
use crate::store::sides::Kind;
use crate::store::trees::{self, Tree};

/// What a run is to be, checked and worked out.
pub(super) struct Prepared {
    pub(super) state: StateDir,
    pub(super) spec: Spec,
    pub(super) sight: Sight,
    pub(super) plan: plan::Plan,
    pub(super) policy: Effective,
    /// Kept for the length of the run.
    pub(super) etc: Ready,
    /// Likewise; or what is to be made for later runs.
    pub(super) root: Result<root::Root, Option<root::Wanted>>,
    /// The tools that are shown.
    pub(super) tools: Vec<Found>,
    /// The caches that are shown.
    pub(super) caches: Vec<FoundCache>,
    /// What has an overlay beside the workspace.
    pub(super) beside: Vec<Beside>,
    /// What is shown because git needs it, in whichever way.
    pub(super) parts: Vec<PathBuf>,
    /// What lasts longer than the jail: held for the length of the run.
    pub(super) volumes: Volumes,
    /// What holds the limit of what is written to disk.
    pub(super) disk: disk::By,
    /// What is hidden.
    pub(super) secrets: Secrets,
    /// What the tree has in it before anything runs.
    pub(super) seeds: Vec<Bed>,
    /// What is not to be there afterwards: see [`parts::set_aside`].
    pub(super) absent: Vec<PathBuf>,
}

/// How a start is to be made.
pub(super) struct How<'a> {
    pub(super) id: Id,
    /// Where changes are; `None`: where they were the last time.
    pub(super) storage: Option<Storage>,
    pub(super) birth: Birth,
    /// What holds its limits.
    pub(super) limits: &'a Chosen,
    pub(super) umask: u32,
}

pub(super) fn prepare(
    request: &Request,
    resolved: &Resolved,
    place: Place,
    (older, seat): (Option<&Tree>, Option<&Seat>),
    How { id, storage, birth, limits, umask }: How<'_>,
    warnings: &mut Vec<String>,
) -> Result<Prepared, Error> {
    let settings = &resolved.settings;
    let lite = birth.lite;
    if let Some(tree) = older {
        again::check(tree, resolved, &birth)?;
    }
    let may_be_shown =
        |state: &Path| check::workspace((&place.root, &place.meta), state, settings, request.i_mean_it);
    // What is refused because of it is not to find it made.
    let state = StateDir::open_checked(|at| match place.shown_at {
        None => may_be_shown(at).map(drop),
        Some(_) => Ok(()),
    })?;
    let real = state.real_path();
    let owner = match place.shown_at {
        None => may_be_shown(&real)?,
        // An empty directory of the workspace's own.
        Some(_) => Owner { uid: place.meta.uid(), gid: place.meta.gid() },
    };
    let storage = storage
        .or(lite.then_some(Storage::Copy))
        .unwrap_or_else(|| storage::known(&state, &place.meta, settings.storage, older.is_some()));
    warnings.extend(storage::idle(resolved));
    let cache = state.path().join(CACHE);
    let (etc, filters) = etc::ready(&cache, warnings).map_err(Error::Etc)?;
    let host = seat.map_or_else(|| etc::HOSTNAME.to_owned(), |seat| etc::host_name(&seat.name()));
    let alias = check::alias(&place);
    let mut shown = shown::beside(resolved, place.at(), Some(&real), warnings)?;
    let names = shown.tools.names();
    let tools = std::mem::take(&mut shown.tools.found);
    let caches = std::mem::take(&mut shown.caches.found);
    let (names, shown_caches) = ((names, cache_names(&caches)), std::mem::take(&mut shown.caches.shown));
    let (mut spec, sight) =
        spec::spec(request, settings, id, (place, alias, owner, host), birth, shown, etc.path.clone())?;
    (spec.umask, spec.storage) = (umask, storage);
    warnings.extend(filters::line(&spec, &filters));
    spec.pids = limits.rlimit_pids(spec.pids);
    if older.is_some() && storage == Storage::Copy {
        return Err(copied::not_again(&spec));
    }
    let gpu = gpu::add(&mut spec, seat::gpus(request, seat), lite)?;
    let (mut beside, parts) = parts::add(&mut spec, &real, warnings);
    check::binds_and_state(&spec, &real, request.i_mean_it)?;
    if let Some(tree) = older.filter(|tree| tree.is_lasting()) {
        seat::furnish(&mut spec, &state, tree)?;
    }
    alias::state(&spec, &beside, &state, request.i_mean_it)?;
    // What a network brings may be large.
    let memory = !shown_caches.is_empty() && settings.net == Net::None && beside::memory_has_attributes();
    beside.extend(shown_caches.iter().filter(|c| !memory || c.grows).map(Beside::cache));
    let tree = trees::path_of(&state, older.map_or(id, Tree::id));
    spec.caches = beside::caches(shown_caches, &tree, memory);
    if settings.access == Access::Overlay {
        spec.sides = beside.iter().filter(|b| b.kind == Kind::Part).map(|b| b.side(&tree)).collect();
        spec.sides.sort_by(|a, b| a.path.cmp(&b.path));
    }
    // Without an overlay of the workspace there may be one over a cache.
    spec.tree = (settings.access == Access::Overlay || !beside.is_empty()).then_some(tree);
    let mut secrets = hide::find(resolved, &spec, &parts, (&state, request.cwd.is_some()), warnings)?;
    hide::among_programs(resolved, &mut spec, (&tools, lite), &mut secrets, warnings)?;
    if lite {
        beside.clear();
        lite::settle_in(&mut spec, trees::path_of(&state, older.map_or(id, Tree::id)));
    }
    let volumes = volumes::add(&mut spec, &state, (request, seat), lite)?;
    let disk = disk::choose(&mut spec, (limits, lite), (&state, older));
    let mut placed = Placed::of(&secrets, &spec)?;
    layered::settle(&mut placed, &mut secrets, &spec, older)?;
    let Placed { seeds, masks } = placed;
    let names = (names.0, names.1, secrets.names());
    let policy = Effective {
        gpu,
        volumes: volumes.rows(),
        ..record::effective(settings, &spec, names, (limits, &disk), lite)
    };
    // First, because it knows places that cannot be shown at all.
    let whole = if lite { None } else { Some(plan::plan(&spec, &launch::host_root(settings.net))?) };
    let parts::Settings { mut covered, absent } = parts::protect(&spec, warnings);
    covered.extend(setid::find(&spec, warnings)?);
    let mut plan = match whole {
        None => lite::plan(&spec, &masks, !covered.is_empty())?,
        Some(mut plan) => {
            plan.cover(&covered)?;
            plan.mask(&masks)?;
            plan.mask(&etc::named(&spec.hostname))?;
            if let Some(text) = cargo::config(&spec.argv, (&tools, &caches), warnings) {
                plan.add_file(Path::new(cargo::SEEN), text)?;
            }
            plan
        }
    };
    let owner = spec.outside().map(|(uid, _)| uid);
    let mut root = if lite { Err(None) } else { root::ready(&cache, &mut plan, owner) };
    if let (Err(Some(wanted)), true) = (&root, spec::test_takes("ready-root")) {
        wanted.make(&cache);
        root = root::ready(&cache, &mut plan, owner);
    }
    Ok(Prepared {
        state,
        spec,
        sight,
        plan,
        policy,
        etc,
        root,
        tools,
        caches,
        beside,
        parts,
        volumes,
        disk,
        secrets,
        seeds,
        absent,
    })
}

fn cache_names(found: &[FoundCache]) -> Vec<String> {
    found.iter().map(|f| f.name.clone()).collect()
}
