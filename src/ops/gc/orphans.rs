//! What belongs to nothing any more: what killed processes left, names without records, layers that nothing
//! stands on. What nobody knows is told and left alone.

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::time::Duration;

use super::{Work, bytes_of};
use crate::base::id::Id;
use crate::base::text;
use crate::jail::{join, ready};
use crate::ops::{ledger as runs, pause};
use crate::store::sweep::{self, Rules};
use crate::store::workspaces::{self as store, Filed};
use crate::store::{gc, ledger, trees, volumes};

/// How long what was set aside is kept.
const ASIDE: Duration = Duration::from_secs(30 * 86_400);
/// How long a ready-made directory is kept that no jail shows.
const READY: Duration = Duration::from_secs(7 * 86_400);

pub(super) fn collect(work: &mut Work<'_>) {
    swept(work);
    leftovers(work);
    names(work);
    layers(work);
    sockets(work);
    files(work);
    unknown(work);
}

/// Trees without changes and what is left of trees, records of pauses, control groups.
fn swept(work: &mut Work<'_>) {
    let (state, dry, monitor) = (work.state, work.dry, work.monitor);
    let run = ledger::read(state, monitor, |ledger| Ok((runs::run(ledger)?, ledger.is_durable())));
    // What cannot be told to run is not judged; who only looks has the locks to tell it by.
    let run = work.tried("ledger.db", run);
    let Some((run, _)) = run.filter(|(_, durable)| *durable || dry) else {
        work.no_ledger = true;
        return;
    };
    let gone = RefCell::new(Vec::new());
    let goes = |name: &str, dir: std::os::fd::BorrowedFd<'_>, leftover: bool| {
        gone.borrow_mut().push((name.to_owned(), bytes_of(dir), leftover));
        !dry
    };
    let rules = Rules { running: &run.trees, expired: &|_| false, goes: &goes };
    let done = sweep::sweep(state, &rules, monitor);
    work.tried("trees", done);
    for (name, bytes, leftover) in gone.into_inner() {
        let name = format!("trees/{}", text::printable(name.as_bytes()));
        let why = if leftover { "half made or half removed" } else { "nothing in it, and its run has ended" };
        work.took("leftover", name, bytes, why);
    }
    let groups = if dry { pause::left() } else { pause::sweep(state, &|id| run.jails.contains(&id)) };
    match groups {
        0 => {}
        1 => work.took("group", "1 control group", None, "its aj has ended"),
        n => work.took("group", format!("{n} control groups"), None, "their aj has ended"),
    }
}

/// What others made only by half.
pub(super) fn leftovers(work: &mut Work<'_>) {
    for leftover in gc::leftovers(work.state) {
        if !work.goes_on() {
            break;
        }
        let name = leftover.shown();
        let bytes = leftover.dir().and_then(|dir| work.bytes_of(dir.as_fd()));
        if !work.dry {
            let until = work.until;
            let mut go_on = || until.is_none_or(|until| std::time::Instant::now() < until);
            let done = leftover.remove(work.state, &mut go_on);
            if work.tried(&name, done) != Some(true) {
                continue;
            }
        }
        work.took("leftover", name, bytes, "half made or half removed");
    }
}

/// Names that lead nowhere.
fn names(work: &mut Work<'_>) {
    let of_workspaces = store::stale_names(work.state, !work.dry);
    let of_volumes = volumes::stale_names(work.state, !work.dry);
    for (kind, found) in [("workspaces", of_workspaces), ("volumes", of_volumes)] {
        for name in work.tried(&format!("{kind}/names"), found).unwrap_or_default() {
            work.took("name", format!("{kind}/names/{name}"), None, "there is nothing of that name");
        }
    }
}

fn layers(work: &mut Work<'_>) {
    let unused = store::unused_layers(work.state);
    let unused = work.tried("layers", unused).unwrap_or_default();
    let size = |name: &String| {
        let dir = std::fs::File::open(store::layer_path(work.state, name)).ok()?;
        bytes_of(dir.as_fd())
    };
    let sized: Vec<(String, Option<u64>)> = unused.iter().map(|name| (name.clone(), size(name))).collect();
    if !work.dry && !sized.is_empty() {
        let done = store::release(work.state);
        work.tried("layers", done);
    }
    for (name, bytes) in sized {
        if work.dry || !store::layer_path(work.state, &name).exists() {
            work.took("layer", name, bytes, "no workspace stands on it");
        }
    }
}

/// The sockets of live jails whose holder was killed, and what is odd about workspaces.
fn sockets(work: &mut Work<'_>) {
    let ids = store::list(work.state);
    for id in work.tried("workspaces", ids).unwrap_or_default() {
        match Filed::read(work.state, id) {
            Ok(Some(filed)) => {
                let name = filed.record.name.to_string();
                if matches!(trees::open_tree(work.state, id), Ok(None)) {
                    work.unknown(
                        below(id),
                        format!("workspace `{name}` has no tree: `aj workspace rm {name}`"),
                    );
                }
                let left = socket(work, id);
                if work.tried(&name, left) == Some(true) {
                    work.took("socket", format!("{}/live", below(id)), None, "the jail's holder was killed");
                }
            }
            Ok(None) => work.unknown(below(id), "it has no record"),
            Err(e) => work.unknown(below(id), e.to_string()),
        }
    }
    for id in volumes::list(work.state).unwrap_or_default() {
        match volumes::read(work.state, id) {
            Ok(Some(_)) => {}
            Ok(None) => work.unknown(format!("volumes/{id}"), "it has no record"),
            Err(e) => work.unknown(format!("volumes/{id}"), e.to_string()),
        }
    }
}

fn below(id: Id) -> String {
    format!("workspaces/{id}")
}

/// Whether the socket of a workspace is one that nobody listens on; it is taken away.
fn socket(work: &Work<'_>, id: Id) -> Result<bool, crate::ops::exec::Error> {
    let dir = crate::ops::exec::live::dir(work.state, id)?;
    if !join::is_left(dir.as_fd()) {
        return Ok(false);
    }
    // Whoever starts a jail makes the socket under this lock.
    let Some(_turn) = crate::ops::exec::live::try_turn(work.state, id, &dir)? else { return Ok(false) };
    let reached = join::reach(dir.as_fd(), Duration::from_millis(200));
    if !matches!(reached, Ok(join::Reached::None)) || !join::is_left(dir.as_fd()) {
        return Ok(false);
    }
    if !work.dry {
        join::forget(dir.as_fd());
    }
    Ok(true)
}

/// What was set aside, what was half written, and ready-made directories that nothing uses.
fn files(work: &mut Work<'_>) {
    for stray in gc::strays(work.state, ASIDE) {
        let name = stray.shown();
        let done = if work.dry { Ok(()) } else { stray.remove(work.state) };
        if work.tried(&name, done).is_some() {
            work.took("file", name, Some(stray.bytes), stray.why);
        }
    }
    for (name, bytes) in ready::collect(&work.state.path().join("cache"), READY, !work.dry) {
        work.took(
            "cache",
            format!("cache/{name}"),
            Some(bytes),
            "no jail shows it, and newer ones are there",
        );
    }
}

fn unknown(work: &mut Work<'_>) {
    for (name, why) in gc::unknown(work.state) {
        work.unknown(name, why);
    }
}
