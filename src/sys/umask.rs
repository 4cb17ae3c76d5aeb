//! The umask: ours keeps what is made private, and the caller's goes to what runs for the caller.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::stat::{Mode, umask};

/// What is made belongs to its owner, who can always use it: some callers' umasks would leave directories that
/// nobody can enter.
const OURS: Mode = Mode::S_IRWXG.union(Mode::S_IRWXO);

/// The caller's, once it is known.
static CALLERS: AtomicU32 = AtomicU32::new(UNKNOWN);
const UNKNOWN: u32 = u32::MAX;

/// From here on, have our own. Once, while there is one thread; further calls change nothing.
pub fn take() {
    if CALLERS.load(Ordering::Relaxed) == UNKNOWN {
        CALLERS.store(umask(OURS).bits(), Ordering::Relaxed);
    }
}

/// The caller's.
pub fn callers() -> Mode {
    take();
    Mode::from_bits_truncate(CALLERS.load(Ordering::Relaxed))
}

/// Do with the caller's what makes files that are the caller's, and not ours. There is one thread.
pub fn with_callers<T>(work: impl FnOnce() -> T) -> T {
    let callers = callers();
    umask(callers);
    let done = work();
    umask(OURS);
    done
}

/// Start `command` with the caller's.
pub fn hand_on(command: &mut Command) {
    let callers = callers();
    let set = move || -> io::Result<()> {
        umask(callers);
        Ok(())
    };
    // SAFETY: between fork and exec it makes one system call that takes an integer only.
    unsafe { command.pre_exec(set) };
}
