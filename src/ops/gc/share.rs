//! The share of other commands: what is due and quickly done, now and then.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use super::{Work, expired, orphans};
use crate::base::clock;
use crate::monitor::Silent;
use crate::ops::config;
use crate::schema::gc::Removed;
use crate::store::gc;
use crate::store::layout::StateDir;

/// How often it is done.
const EVERY_MS: u64 = 10 * 60 * 1000;
/// How long a command is held up by it.
const MOMENT: Duration = Duration::from_millis(100);
/// In `cache`: when it was done last.
const STAMP: &str = "gc";

/// Remove a few of the workspaces and changes that are due, unless that was done not long ago. Nothing is
/// stopped, and a failure is nobody's concern: `aj gc` tells of it.
pub fn share() -> Vec<Removed> {
    let Ok(Some(state)) = StateDir::open_if_present() else { return Vec::new() };
    let now = clock::now_ms();
    let done = std::fs::metadata(state.path().join("cache").join(STAMP)).ok();
    let done_ms = done.and_then(|m| u64::try_from(m.mtime()).ok()).unwrap_or(0).saturating_mul(1000);
    // A clock that was set back does not keep it from being done.
    if now.abs_diff(done_ms) < EVERY_MS {
        return Vec::new();
    }
    let Ok(Some(_turn)) = gc::take_turn(&state, Duration::ZERO) else { return Vec::new() };
    // First: where it cannot be noted, each command would do it.
    if state.cache(STAMP, b"").is_err() {
        return Vec::new();
    }
    let Ok(user) = config::user() else { return Vec::new() };
    let keep = user.map(|user| user.keep).unwrap_or_default();
    let mut work = Work::new(&state, keep, false, &Silent);
    work.until = Some(Instant::now() + MOMENT);
    expired::collect(&mut work);
    orphans::leftovers(&mut work);
    work.done.removed
}
