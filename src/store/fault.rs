//! Where a test can kill this process: between any two changes of the state directory that belong
//! together. In debug builds only; a released binary has no such place.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::base::env;

static OFF: AtomicBool = AtomicBool::new(false);

/// From now on this process, which was forked off by the one that is to be killed, is not.
pub(super) fn spare() {
    OFF.store(true, Ordering::Relaxed);
}

/// A change of the state directory is about to be made.
pub(super) fn point() {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    if !cfg!(debug_assertions) {
        return;
    }
    let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    let wanted = || env::TEST_KILL_AT.get()?.to_str()?.parse::<u64>().ok();
    if wanted() == Some(count) && !OFF.load(Ordering::Relaxed) {
        // As somebody's `kill -9` would: nothing is put away.
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).ok();
    }
}
