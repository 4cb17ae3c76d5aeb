//! The second screen of the caller's terminal: taken for a while, and given back on every way out.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::sink;

/// The alternate screen, no cursor, lines that are too long cut by the terminal.
const TAKE: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?7l";
/// The opposite, and no colours.
const GIVE_BACK: &[u8] = b"\x1b[m\x1b[?7h\x1b[?25h\x1b[?1049l";
/// How long a terminal that takes nothing is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// A process has one terminal, and the hook for panics has to find out.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Take it. `false`: the terminal takes nothing.
pub fn take(terminal: BorrowedFd<'_>) -> bool {
    // Noted first: giving back what was not taken is no harm.
    TAKEN.store(true, Ordering::Relaxed);
    sink::write_within(terminal, TAKE, PATIENCE).is_ok()
}

/// Give it back, if it is taken.
pub fn give_back(terminal: BorrowedFd<'_>) {
    if TAKEN.swap(false, Ordering::Relaxed) {
        // One that has gone has no screens.
        sink::write_within(terminal, GIVE_BACK, PATIENCE).ok();
    }
}
