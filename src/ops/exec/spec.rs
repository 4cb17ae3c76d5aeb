//! From what was asked for and found to the description of one jail.

use std::path::{Path, PathBuf};

use super::shown::Shown;
use super::sight::{Sight, Started};
use super::{Error, Request, check};
use crate::base::env;
use crate::base::id::Id;
use crate::jail::spec::{Birth, Owner, Spec, Storage, Without};
use crate::jail::status::Required;
use crate::ops::project::Place;
use crate::policy::settings::Settings;
use crate::sys;

/// One jail over the tree of `place`, known to the caller as `alias` as well.
pub(super) fn spec(
    request: &Request,
    settings: &Settings,
    id: Id,
    (place, alias, owner, host): (Place, Option<PathBuf>, Owner, String),
    birth: Birth,
    shown: Shown,
    etc: PathBuf,
) -> Result<(Spec, Sight), Error> {
    let at = place.at().to_owned();
    let workspace = place.root;
    let cwd = check::inside(&at, (&workspace, &place.start), request.cwd.as_deref())?;
    let logical = check::known_as(alias.as_deref(), &at, &cwd);
    let Shown { binds, mut aliases, tools, caches } = shown;
    let variables: Vec<_> = tools.variables.iter().chain(&caches.variables).cloned().collect();
    aliases.extend(alias.map(|name| (name, at.clone())));
    let paths = |all: &mut dyn Iterator<Item = &Path>| all.map(|p| p.as_os_str().to_owned()).collect();
    let sight = Sight {
        at: at.clone().into(),
        whole: paths(&mut binds.iter().map(|b| &*b.path).chain(tools.shown.iter().map(|t| &*t.path))),
        some: paths(&mut tools.of_programs.iter().map(|p| &**p)),
        aliases: aliases.iter().map(|(name, target)| (name.into(), target.into())).collect(),
        host: host.clone(),
        variables,
    };
    let Started { env, search, argv } = sight.start(request, settings, &logical, id)?;
    let spec = Spec {
        id,
        hostname: host,
        argv,
        env,
        search,
        cwd,
        workspace,
        at,
        aliases,
        access: settings.access,
        tree: None,
        layers: Vec::new(),
        home: None,
        output: None,
        storage: Storage::Disk,
        owner,
        durable: settings.durable,
        sides: Vec::new(),
        rooms: caches.rooms,
        caches: Vec::new(),
        binds,
        volumes: Vec::new(),
        tools: tools.shown,
        hidden: tools.hidden,
        devices: Vec::new(),
        etc,
        net: settings.net,
        seccomp: settings.seccomp,
        nested_userns: settings.nested_userns,
        as_root: settings.as_root,
        pids: settings.pids,
        nofile: settings.nofile,
        inotify: half_of_inotify(),
        tmp: settings.tmp,
        umask: 0o022,
        ids: birth.ids,
        landlock_abi: sys::landlock::abi(),
        mode: settings.mode,
        required: Required::of(&settings.require),
        without: without(),
    };
    Ok((spec, sight))
}

/// Half of the inotify instances and watches that a user of this host may have.
fn half_of_inotify() -> Option<(u64, u64)> {
    let half = |name: &str| -> Option<u64> {
        let text = sys::fd::read_proc(&format!("/proc/sys/fs/inotify/{name}")).ok()?;
        Some(std::str::from_utf8(&text).ok()?.trim().parse::<u64>().ok()? / 2)
    };
    // A host without them has none to run out of.
    half("max_user_instances").zip(half("max_user_watches"))
}

/// Whether a test wants a start to take this way, which depends on what happened before otherwise. In
/// debug builds only.
pub(super) fn test_takes(way: &str) -> bool {
    cfg!(debug_assertions)
        && env::TEST_WAYS.get().is_some_and(|ways| ways.to_string_lossy().split(',').any(|w| w == way))
}

/// Layers to leave out, so that a test can show what each one stops. In debug builds only: a
/// released binary has no such switch.
fn without() -> Without {
    match env::TEST_WITHOUT.get() {
        Some(list) if cfg!(debug_assertions) => {
            Without(list.to_string_lossy().split(',').map(str::to_owned).collect())
        }
        _ => Without::default(),
    }
}
