//! A fork of a workspace in which something runs: what was written in it is copied into a layer, with its jail
//! standing still for what has changed since it was copied first.

use std::ffi::CStr;
use std::time::{Duration, Instant};

use super::{Error, Found};
use crate::base::id::Id;
use crate::jail::freeze::Jail;
use crate::monitor::Silent;
use crate::ops::exec::live;
use crate::ops::pause::{self, Still};
use crate::store::kept::Kept;
use crate::store::layout::StateDir;
use crate::store::ledger;
use crate::store::trees::{self, Tree};
use crate::store::workspaces::{self, MOST_LAYERS, NewLayer, Placed, ROOMS};
use crate::sys::openat2::{self, For};
use crate::workspace::merge;
use crate::workspace::mirror::{Mirror, Tally};

/// For how long the jail may stand still, one attempt after the other: before each but the first, what there is is
/// copied while it runs.
const ATTEMPTS: [Duration; 4] = [
    Duration::from_millis(60),
    Duration::from_millis(120),
    Duration::from_millis(500),
    Duration::from_secs(2),
];
/// Where a jail that is about to run, or has just ended, is looked for again.
const LOOKS: u32 = 50;
const BETWEEN: Duration = Duration::from_millis(20);
/// Of each of the [`ROOMS`]: what a [`Mirror`] needs beside.
const BESIDE: [(&CStr, &CStr); 3] =
    [(c"links-0", c"trash-0"), (c"links-1", c"trash-1"), (c"links-2", c"trash-2")];

/// What was copied, and how.
#[derive(Debug)]
pub(super) struct Copied {
    /// The layers that a fork stands on, the newest first.
    pub(super) layers: Vec<String>,
    /// What is noted in a fork about what is hidden.
    pub(super) hidden: Option<Vec<u8>>,
    pub(super) how: Filled,
    /// Keep the new layers until the forks are there.
    _placed: Vec<Placed>,
}

/// How a layer was filled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filled {
    pub(super) tally: Tally,
    /// How long the jail stood still; `None`: it was paused before.
    pub(super) still: Option<Duration>,
    /// What it was held by.
    pub(super) by: &'static str,
}

/// Copy what is in the workspace, in which a command runs. `None`: nothing runs in it any more.
pub(super) fn copy(found: &Found) -> Result<Option<Copied>, Error> {
    let state = &found.state;
    for _ in 0..LOOKS {
        let Some(tree) = trees::open_tree(state, found.id())? else {
            return Err(Error::NotFound(found.name().to_string()));
        };
        if !tree.is_in_use()? {
            return Ok(None);
        }
        let id = live::jail_of(state, found.id());
        let jail = id.map(|id| pause::jail_that_runs(state, id)).transpose().map_err(Error::Still)?.flatten();
        if let Some(jail) = jail
            && is_on_disk(found, jail.id)?
            && let Some(copied) = of(found, tree, &jail)?
        {
            return Ok(Some(copied));
        }
        // It begins, or ends.
        std::thread::sleep(BETWEEN);
    }
    Err(Error::InUse { name: found.name().to_string(), by_run: true })
}

/// Refuse what only the jail itself sees: what it writes comes to the disk at its end.
fn is_on_disk(found: &Found, jail: Id) -> Result<bool, Error> {
    let start =
        ledger::read(&found.state, &Silent, |l| l.get(jail.as_str())).ok().flatten().and_then(|r| r.start);
    match start.is_some_and(|start| start.policy.storage == "memory") {
        true => Err(Error::InMemory { name: found.name().to_string() }),
        false => Ok(true),
    }
}

/// Whether `jail` is still the one that has the tree.
fn has(tree: &Tree, jail: &Jail) -> Result<bool, Error> {
    Ok(Kept::read(tree).and_then(|kept| kept.last) == Some(jail.id) && tree.is_in_use()?)
}

fn of(found: &Found, tree: Tree, jail: &Jail) -> Result<Option<Copied>, Error> {
    let state = &found.state;
    let layer = NewLayer::make(state, &tree)?;
    let done = fill(found, (&tree, jail), &layer).and_then(|filled| {
        let Some(filled) = filled else { return Ok(None) };
        let hidden = layer.lift(&tree)?;
        Ok(Some((filled, hidden)))
    });
    let (how, hidden) = match done {
        Ok(Some(done)) => done,
        Ok(None) => {
            layer.discard()?;
            return Ok(None);
        }
        Err(e) => {
            layer.discard()?;
            return Err(e);
        }
    };
    let below = workspaces::Filed::read(state, found.id())?
        .ok_or_else(|| Error::NotFound(found.name().to_string()))?
        .record
        .layers;
    let (layers, placed) = stand(state, &tree, (layer, below))?;
    Ok(Some(Copied { layers, hidden, how, _placed: placed }))
}

/// Fill the layer. `None`: the jail has ended meanwhile.
fn fill(found: &Found, (tree, jail): (&Tree, &Jail), layer: &NewLayer) -> Result<Option<Filled>, Error> {
    let mut mirrors = Vec::new();
    for (room, (links, trash)) in ROOMS.into_iter().zip(BESIDE) {
        let from =
            openat2::beneath(tree, room.to_bytes(), For::Listing).map_err(crate::store::Error::from)?;
        let to = openat2::beneath(layer.dir(), room.to_bytes(), For::Listing)
            .map_err(crate::store::Error::from)?;
        mirrors.push(Mirror::new(from, to, (layer.scratch(links)?, layer.scratch(trash)?)));
    }
    let sum = |mirrors: &[Mirror]| {
        mirrors.iter().fold(Tally::default(), |sum, m| Tally {
            files: sum.files + m.tally.files,
            bytes: sum.bytes + m.tally.bytes,
            shared: sum.shared + m.tally.shared,
        })
    };
    let mut answer = None;
    for (turn, most) in ATTEMPTS.into_iter().enumerate() {
        if turn > 0 {
            for mirror in mirrors.iter_mut().filter(|m| m.is_helped_by_passes()) {
                mirror.follow(&mut || layer.step()).map_err(crate::store::Error::from)?;
            }
        }
        let still = match Still::hold(&found.state, jail) {
            Ok(still) => still,
            Err(pause::Error::NotRunning(_)) => return Ok(None),
            Err(e) => return Err(Error::Still(e)),
        };
        if !has(tree, jail)? {
            return Ok(None);
        }
        if tree.has_parts()? {
            return Err(Error::Unforkable { name: found.name().to_string() });
        }
        // One that is paused waits for as long as it takes.
        let until = (!still.was_before()).then(|| Instant::now() + most);
        let mut whole = true;
        for mirror in &mut mirrors {
            whole = whole && mirror.finish(until, &mut || layer.step()).map_err(crate::store::Error::from)?;
        }
        let (by, before, lasted) = (still.by(), still.was_before(), still.lasts());
        let took = still.thaw().map_err(Error::Still)?;
        if !lasted {
            return Ok(None);
        }
        if whole {
            answer = Some(Filled { tally: sum(&mirrors), still: (!before).then_some(took), by });
            break;
        }
    }
    drop(mirrors);
    for name in BESIDE.into_iter().flat_map(|(links, trash)| [links, trash]) {
        layer.drop_scratch(name)?;
    }
    let restless = || Error::Restless { name: found.name().to_string(), most: ATTEMPTS[ATTEMPTS.len() - 1] };
    answer.map(Some).ok_or_else(restless)
}

/// Give a layer its place, once it is on the disk: what a record names must be there after a loss of power, and
/// nobody could tell by a layer that it is not. The jail runs again meanwhile.
fn place(layer: NewLayer, state: &StateDir) -> Result<Placed, Error> {
    if let Err(e) = nix::unistd::syncfs(layer.dir()) {
        layer.discard()?;
        return Err(crate::store::Error::from(crate::sys::Error::new("syncfs", "layers", e)).into());
    }
    Ok(layer.place(state)?)
}

/// The layers of a fork: the new one on those of the workspace, and never more of them than can be.
fn stand(
    state: &StateDir,
    tree: &Tree,
    (layer, below): (NewLayer, Vec<String>),
) -> Result<(Vec<String>, Vec<Placed>), Error> {
    if layer.is_bare()? {
        layer.discard()?;
        return Ok((below, Vec::new()));
    }
    if below.len() < MOST_LAYERS {
        let placed = place(layer, state)?;
        let layers = std::iter::once(placed.name.clone()).chain(below).collect();
        return Ok((layers, vec![placed]));
    }
    // Those of the workspace stay as they are: something runs on them.
    let merged = NewLayer::make(state, tree)?;
    let (newest, oldest) = below.split_at(below.len().saturating_sub(workspaces::OLDEST));
    let fill = || -> Result<(), Error> {
        for room in ROOMS {
            let own = workspaces::open_room(layer.dir(), room)?;
            let all = std::iter::once(own).chain(workspaces::open_layers(state, newest, room)?).collect();
            let to = workspaces::open_room(merged.dir(), room)?;
            merge::merge(all, to).map_err(crate::store::Error::from)?;
        }
        Ok(())
    };
    let filled = fill();
    layer.discard()?;
    if let Err(e) = filled {
        merged.discard()?;
        return Err(e);
    }
    let placed = place(merged, state)?;
    let layers = std::iter::once(placed.name.clone()).chain(oldest.iter().cloned()).collect();
    Ok((layers, vec![placed]))
}
