//! `aj workspace rename`, `touch` and `rm`.

use std::time::{Duration, Instant};

use super::list::detail;
use super::{Error, Found, life};
use crate::base::clock;
use crate::base::name::Name;
use crate::monitor::Monitor;
use crate::ops::exec::live;
use crate::schema::workspace::WorkspaceDetail;
use crate::store::kept::Kept;
use crate::store::layout::StateDir;
use crate::store::workspaces::{self, Filed, Named};
use crate::store::{alive, ledger, trees};
use crate::sys::pidfd;

/// How long a command that was killed may take to end.
const LAST_MOMENTS: Duration = Duration::from_secs(10);

/// Give it another name.
pub fn rename(found: Found, to: &Name) -> Result<WorkspaceDetail, Error> {
    match workspaces::rename(&found.state, found.id(), to)? {
        Some(Named::Yes) => again(found.state, found.filed),
        Some(Named::Taken(id)) => Err(Error::Taken { name: to.to_string(), id }),
        None => Err(gone(&found)),
    }
}

/// Note that it is in use, and keep it `for_time` from now on whatever its age. Without that a use is no help to
/// one that is too old: saying until when it lasts would tell of a time that is past.
pub fn touch(found: Found, for_time: Option<Duration>) -> Result<WorkspaceDetail, Error> {
    if for_time.is_none() && life::is_over(&found.filed.record) {
        return Err(Error::Expired(found.name().to_string()));
    }
    let now = clock::now_ms();
    let until = for_time.map(|d| now.saturating_add(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)));
    let touched = workspaces::amend(&found.state, found.id(), |filed| {
        filed.record.touched_ms = Some(now);
        if until.is_some() {
            filed.record.keep_until_ms = until;
        }
    })?;
    match touched {
        Some(filed) => again(found.state, filed),
        None => Err(gone(&found)),
    }
}

fn again(state: StateDir, filed: Filed) -> Result<WorkspaceDetail, Error> {
    let id = filed.record.id;
    let filed = Filed::read(&state, id)?.unwrap_or(filed);
    detail(&Found { state, filed })
}

pub(super) fn gone(found: &Found) -> Error {
    Error::NotFound(found.name().to_string())
}

/// Somebody uses it.
fn in_use(found: &Found, by_run: bool) -> Error {
    let name = found.name().to_string();
    if by_run && live::is_paused(&found.state, found.id()) {
        return Error::Paused(name);
    }
    Error::InUse { name, by_run }
}

/// Fail when something runs in one of them.
pub fn refuse_used(all: &[Found]) -> Result<(), Error> {
    for found in all {
        let tree = trees::open_tree(&found.state, found.id())?;
        if let Some(tree) = tree
            && !tree.try_share()?
        {
            return Err(in_use(found, true));
        }
    }
    Ok(())
}

/// Remove it with everything in it. What runs in it is killed with `force`, and refused otherwise.
pub fn remove(found: Found, force: bool, monitor: &dyn Monitor) -> Result<WorkspaceDetail, Error> {
    let removed = detail(&found)?;
    let Found { state, filed } = &found;
    let tree = trees::open_tree(state, filed.record.id)?;
    if let Some(tree) = &tree
        && !tree.lock_patiently()?
    {
        let by_run = tree.is_in_use()?;
        let busy = || in_use(&found, by_run);
        if !force {
            return Err(busy());
        }
        kill(state, tree, monitor);
        let end = Instant::now() + LAST_MOMENTS;
        while !tree.lock_patiently()? {
            if Instant::now() >= end {
                return Err(busy());
            }
        }
    }
    let taken = workspaces::take_away(state, filed.record.id, tree)?.ok_or_else(|| gone(&found))?;
    // It has lost its name: what is left now is removed by the next one that comes by.
    if let Err(e) = taken.remove(state) {
        monitor.warn(&format!("not all files of `{}` could be removed: {e}", filed.record.name));
    }
    // Layers that nobody stands on any more.
    if let Err(e) = workspaces::release(state) {
        monitor.warn(&format!("not all layers that are no longer used could be removed: {e}"));
    }
    Ok(removed)
}

/// End the jail that runs in a tree, by its pid 1.
fn kill(state: &StateDir, tree: &trees::Tree, monitor: &dyn Monitor) {
    let Some(last) = Kept::read(tree).and_then(|kept| kept.last) else { return };
    let Ok(Some(run)) = ledger::read(state, monitor, |l| l.get(last.as_str())) else { return };
    let Some(start) = run.start else { return };
    let Some(init) = start.init.and_then(|pid| i32::try_from(pid).ok()) else { return };
    // Opened before it is judged, so that what is judged is what is killed.
    if let Ok(fd) = pidfd::open(init)
        && alive::may_be_child(init.unsigned_abs(), start.pid_start, &start.boot_id)
    {
        use std::os::fd::AsFd;
        pidfd::signal(fd.as_fd(), nix::libc::SIGKILL).ok();
    }
}
