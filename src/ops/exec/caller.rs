//! The caller's side of a run: what is told while it goes on, and the terminal.

use std::time::Duration;

use crate::schema::jail::Usage;
use crate::sys;
use crate::sys::sink;

/// What the caller hears while the command runs. What it appends to `lines` is written to stdout,
/// in order and without holding up the command's clock.
pub trait Watcher {
    /// The command is running, with these layers in force; `pid` is the jail's pid 1.
    fn started(&mut self, layers: Vec<String>, pid: i32, lines: &mut Vec<u8>);
    /// Output, when it is captured instead of passed through.
    fn output(&mut self, stderr: bool, bytes: &[u8], lines: &mut Vec<u8>);
    /// Twice a second, when asked for.
    fn tick(&mut self, usage: Usage, lines: &mut Vec<u8>);
    /// The caller's terminal is about to be the command's: the last moment to write to it.
    fn attaching(&mut self);
    /// The first Ctrl-C was passed on.
    fn stopping(&mut self);
    /// What aj is at before the command can start, when that takes a while.
    fn progress(&mut self, said: &str);
}

/// Make the caller's terminal as it was: for whoever ends the process in the middle of a run.
pub fn restore_terminal() {
    sys::screen::give_back(sys::fd::standard(1));
    sys::terminal::restore();
}

/// Write a message of `aj` to stderr, waiting for its reader no longer than `patience`.
pub fn say_within(text: &str, patience: Duration) {
    // Nothing can be reported when stderr itself is gone.
    sink::write_within(sys::fd::standard(2), text.as_bytes(), patience).ok();
}

/// Die of `signal`, so that the caller's shell sees what the user did. Returns only when it does
/// not kill.
pub fn die_of(signal: i32) {
    sys::signal::die_of(signal);
}
