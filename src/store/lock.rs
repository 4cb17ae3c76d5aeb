//! `flock` with a deadline.
//!
//! Every lock of the store is held for microseconds (an append) or milliseconds (a fold). A process
//! stopped with Ctrl-Z in that instant must not hang all others for ever, hence the deadline.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::{Error, Result};

/// How long an append waits for a fold.
pub const APPEND_WAIT: Duration = Duration::from_secs(10);
/// How long a reader waits before it shows what it can without the lock.
pub fn read_wait() -> Duration {
    #[cfg(test)]
    return tests::READ_WAIT.get();
    #[cfg(not(test))]
    Duration::from_secs(5)
}

/// Who may hold it at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Many.
    Shared,
    /// One.
    Exclusive,
}

/// Lock `file`, waiting at most `wait`. The lock belongs to the open file description and ends with
/// its last descriptor. `path` is for the error only.
pub fn acquire(file: &File, mode: Mode, wait: Duration, path: &Path) -> Result<()> {
    let mut deadline = None;
    let mut pause = Duration::from_micros(100);
    while !try_acquire(file, mode, path)? {
        // The clock is read only when the lock is taken, to keep the usual case at one call.
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + wait);
        if Instant::now() >= deadline {
            return Err(Error::Busy { path: crate::base::text::os(path), waited: wait });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
    Ok(())
}

/// Lock `file` if nobody else holds it in a conflicting mode.
pub fn try_acquire(file: &File, mode: Mode, path: &Path) -> Result<bool> {
    loop {
        let outcome = match mode {
            Mode::Shared => file.try_lock_shared(),
            Mode::Exclusive => file.try_lock(),
        };
        match outcome {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(e)) => return Err(Error::io("flock", path, &e)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    thread_local! {
        /// Shortened by tests that wait for a lock in vain.
        pub(in super::super) static READ_WAIT: std::cell::Cell<Duration> =
            const { std::cell::Cell::new(Duration::from_secs(5)) };
    }

    #[test]
    fn a_held_lock_is_busy_after_the_deadline_and_free_when_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let open = || File::options().create(true).append(true).open(&path).unwrap();
        let (a, b) = (open(), open());
        let wait = Duration::from_millis(30);
        acquire(&a, Mode::Shared, wait, &path).unwrap();
        acquire(&b, Mode::Shared, wait, &path).unwrap();
        let started = Instant::now();
        let e = acquire(&a, Mode::Exclusive, wait, &path).unwrap_err();
        assert!(matches!(e, Error::Busy { .. }), "{e}");
        assert!(started.elapsed() >= wait);
        drop(b);
        acquire(&a, Mode::Exclusive, wait, &path).unwrap();
        assert!(!try_acquire(&open(), Mode::Shared, &path).unwrap());
    }
}
