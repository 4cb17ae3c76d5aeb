//! What the supervisor of a jail tells and asks whoever started it.

use std::time::Duration;

use super::status::Layers;
use crate::schema::jail::Usage;

/// What the supervisor tells while the jail runs. Bytes appended to `lines` are written to stdout in
/// order, without ever holding up the jail's clock.
pub trait Watcher {
    /// Pid 1 is setting the jail up, on another processor if there is one, and will not be heard of
    /// for a third of a millisecond. Called once, first.
    fn meanwhile(&mut self) {}
    /// The jail has lived for a moment: time for what no short command is to wait for. Called once, and only of
    /// one that has control groups.
    fn lives(&mut self) {}
    /// The command is running.
    fn started(&mut self, _layers: Layers, _pid: i32, _lines: &mut Vec<u8>) {}
    /// Output, when it is captured instead of passed through. Characters of UTF-8 come whole.
    fn output(&mut self, _stderr: bool, _bytes: &[u8], _lines: &mut Vec<u8>) {}
    /// Twice a second while it runs and `lines` are being read.
    fn tick(&mut self, _usage: Usage, _lines: &mut Vec<u8>) {}
    /// The caller's terminal is about to be that of the command: the last moment to write to it.
    fn attaching(&mut self) {}
    /// The first Ctrl-C was passed on. Not with a terminal, which passes it on itself.
    fn stopping(&mut self) {}
    /// Bytes that it has written to disk, with [`Options::watch_disk`](super::supervise::Options::watch_disk), and
    /// whether that is all or what a look that is to be gone on with has seen so far; `None` when it cannot be told.
    fn disk(&mut self) -> Option<(u64, bool)> {
        None
    }
    /// How long it has been paused so far, the pause at hand included. Asked when its time is up.
    fn paused(&mut self) -> Duration {
        Duration::ZERO
    }
    /// It was killed a moment ago and is still there: it may be frozen. Called at most once.
    fn lingers(&mut self) {}
    /// Whether anybody can still find it, with [`Options::findable`](super::supervise::Options::findable).
    fn is_findable(&mut self) -> bool {
        true
    }
}
