//! Where a test can kill this process: between any two changes of the state directory or of the host that
//! belong together, and between any two words that processes of aj exchange. In debug builds only; a
//! released binary has no such place.
//!
//! `AJ_TEST_KILL_AT=7` kills the aj that was called at its seventh such place; `holder:7`, `init:7` and
//! `minder:7` a process that it makes, at its own seventh.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::base::env;

static COUNT: AtomicU64 = AtomicU64::new(0);
static ROLE: AtomicUsize = AtomicUsize::new(0);
static OFF: AtomicBool = AtomicBool::new(false);

/// Which process of those that make a run this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It holds the jail of a workspace.
    Holder = 1,
    /// Pid 1 of a jail.
    Init,
    /// It minds a command in a jail that several share.
    Minder,
}

/// Values of the variable begin with these.
const ROLES: [&str; 4] = ["", "holder:", "init:", "minder:"];

/// From here on this process, which has just been made, is that one.
pub(crate) fn enter(role: Role) {
    if cfg!(debug_assertions) {
        ROLE.store(role as usize, Ordering::Relaxed);
        COUNT.store(0, Ordering::Relaxed);
    }
}

/// From now on this process, which was forked off by the one that is to be killed, is not.
pub(super) fn spare() {
    OFF.store(true, Ordering::Relaxed);
}

/// Something is about to be changed, or said.
pub(crate) fn point() {
    if !cfg!(debug_assertions) {
        return;
    }
    let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    let role = ROLES.get(ROLE.load(Ordering::Relaxed)).copied().unwrap_or_default();
    let wanted = || env::TEST_KILL_AT.get()?.to_str()?.strip_prefix(role)?.parse::<u64>().ok();
    if wanted() == Some(count) && !OFF.load(Ordering::Relaxed) {
        // As somebody's `kill -9` would: nothing is put away.
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).ok();
        // Pid 1 does not hear its own.
        crate::sys::clone::exit_now(137);
    }
}
