//! `aj workspace start`, `stop` and `wait`, and what is told of the jail that runs in a workspace.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::SIGTERM;

use super::Found;
use crate::base::id::{Id, Kind};
use crate::base::name::Name;
use crate::jail::join::{self, Reached};
use crate::ops::exec::{Error, NotLive, live};
use crate::ops::pause;
use crate::store::layout::StateDir;
use crate::sys::pidfd;

/// How long the first word of a jail is waited for by those who only look.
const GLANCE: Duration = Duration::from_millis(200);
/// How long a jail that is stopped may take beside its grace.
const LAST_MOMENTS: Duration = Duration::from_secs(10);

/// The jail that runs in a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// Its id, when that is known.
    pub jail: Option<Id>,
    /// The process that holds it.
    pub holder: u32,
    /// When it was started, milliseconds since the epoch.
    pub since_ms: u64,
    /// Commands in it. `None`: it does not say, because it is paused or of another version of aj.
    pub commands: Option<u32>,
    /// Processes in it.
    pub processes: Option<u32>,
    /// It does not end with its last process.
    pub keep: bool,
    /// It is paused.
    pub paused: bool,
}

/// Look at the jail of a workspace; `None`: there is none.
pub fn look(state: &StateDir, id: Id) -> Result<Option<Live>, Error> {
    let dir = live::dir(state, id)?;
    let reached = join::reach(dir.as_fd(), GLANCE).map_err(Error::Launch)?;
    let jail = live::jail_of(state, id);
    let (holder, seen) = match reached {
        Reached::None => return Ok(None),
        Reached::Silent { holder } | Reached::Strange { holder } => (holder, None),
        Reached::Live(live) => {
            let holder = live.holder;
            match live.look().map_err(Error::Launch)? {
                Some(seen) => (holder, Some(seen)),
                None => return Ok(None),
            }
        }
    };
    let since = join::since(dir.as_fd()).map_or(0, |meta| ms(&meta));
    Ok(Some(Live {
        paused: jail.is_some_and(|jail| pause::is_paused(state, jail)),
        jail,
        holder: holder.unsigned_abs(),
        since_ms: since,
        commands: seen.map(|s| s.commands),
        processes: seen.map(|s| s.processes),
        keep: seen.is_some_and(|s| s.keep),
    }))
}

fn ms(meta: &std::fs::Metadata) -> u64 {
    let ms = meta.mtime().saturating_mul(1000).saturating_add(meta.mtime_nsec() / 1_000_000);
    u64::try_from(ms).unwrap_or(0)
}

/// End the jail of a workspace: SIGTERM to all in it, SIGKILL after its grace, or at once with `kill`.
/// Whether there was one.
pub fn stop(found: &Found, kill: bool) -> Result<bool, Error> {
    let (state, id) = (&found.state, found.id());
    let dir = live::dir(state, id)?;
    let (holder, live) = match join::reach(dir.as_fd(), GLANCE).map_err(Error::Launch)? {
        Reached::None => {
            live::wait_until_settled(state, id)?;
            return Ok(false);
        }
        Reached::Silent { holder } | Reached::Strange { holder } => (holder, None),
        Reached::Live(live) => (live.holder, Some(live)),
    };
    let process = match pidfd::open(holder) {
        // By itself, just now.
        Err(e) if e.errno == Errno::ESRCH => {
            live::wait_until_settled(state, id)?;
            return Ok(true);
        }
        process => process.map_err(Error::Launch)?,
    };
    // Named by a jail that is still there after it was opened, and by its own name: this is it, and no later
    // process of its number.
    if matches!(join::reach(dir.as_fd(), GLANCE).map_err(Error::Launch)?, Reached::None) {
        live::wait_until_settled(state, id)?;
        return Ok(true);
    }
    let has_ended = || pidfd::ends(process.as_fd(), Instant::now()).map_err(Error::Launch);
    if !pidfd::is_named(holder, live::HOLDER) {
        if has_ended()? {
            return Ok(true);
        }
        return Err(NotLive::Silent { name: found.name().to_string(), holder }.into());
    }
    let signal = || pidfd::signal(process.as_fd(), SIGTERM).map_err(Error::Launch);
    signal()?;
    if let Some(jail) = live::jail_of(state, id).filter(|jail| pause::is_paused(state, *jail)) {
        // What stands still cannot end.
        pause::let_die(state, jail);
    }
    if kill {
        // One signal is kept while it has not been read: the second has to be another one.
        std::thread::sleep(Duration::from_millis(20));
        pidfd::signal(process.as_fd(), nix::libc::SIGINT).map_err(Error::Launch)?;
    }
    drop(live);
    // Its own grace comes first; a jail that does not keep to it is killed by its holder.
    let grace = found.kept()?.stored.layer.grace.map_or(Duration::from_secs(2), |g| g.value);
    let until = Instant::now() + grace.saturating_add(LAST_MOMENTS);
    if !pidfd::ends(process.as_fd(), until).map_err(Error::Launch)? {
        pidfd::signal(process.as_fd(), nix::libc::SIGINT).map_err(Error::Launch)?;
        if !pidfd::ends(process.as_fd(), Instant::now() + LAST_MOMENTS).map_err(Error::Launch)? {
            return Err(NotLive::Silent { name: found.name().to_string(), holder }.into());
        }
    }
    Ok(true)
}

/// The jail that runs, or ran last, in the workspace that `word` names in full; `None`: it names none.
pub fn jail_named(word: &str) -> Option<Id> {
    let full =
        word.parse::<Name>().is_ok() || word.parse::<Id>().is_ok_and(|id| id.kind() == Kind::Workspace);
    let found = if full { super::find(Some(OsStr::new(word))).ok()? } else { return None };
    let named = found.name().to_string() == word || found.id().as_str() == word;
    live::jail_of(&found.state, found.id()).filter(|_| named)
}

/// Wait until nothing runs in a workspace, at most for `timeout`; whether that has come.
pub fn wait(found: &Found, timeout: Option<Duration>) -> Result<bool, Error> {
    let (state, id) = (&found.state, found.id());
    let dir = live::dir(state, id)?;
    let until = timeout.and_then(|t| Instant::now().checked_add(t));
    loop {
        let left = until.map(|at| at.saturating_duration_since(Instant::now()));
        match join::reach(dir.as_fd(), left.map_or(GLANCE, |l| l.min(GLANCE))).map_err(Error::Launch)? {
            // Another one may have been started meanwhile.
            Reached::None if live::wait_until_settled(state, id)? => return Ok(true),
            Reached::None => {}
            Reached::Live(live) => {
                if !live.wait(left).map_err(Error::Launch)? {
                    return Ok(false);
                }
            }
            // Paused, most likely: its end is not near.
            Reached::Silent { .. } | Reached::Strange { .. } => std::thread::sleep(GLANCE),
        }
        if left.is_some_and(|l| l.is_zero()) {
            return Ok(false);
        }
    }
}
