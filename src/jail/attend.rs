//! The supervisor of a command that has a terminal: what the keyboard, the window and a Ctrl-Z inside come
//! to.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::libc;

use super::ended::State;
use super::relay::Stream;
use super::supervise::{Adapter, Flows, Options, Seen, Watcher};
use super::terminal::{Keys, Terminal};
use super::wire::Message;
use crate::sys::{self, fd, pidfd, signal, sink};

/// How long the last output of a command that was stopped is waited for.
pub(super) const LAST_OUTPUT: Duration = Duration::from_millis(300);
/// How long a terminal that takes nothing is waited for to be made as it was.
const TIDY: Duration = Duration::from_millis(300);

impl Flows {
    /// The command has a terminal, of which this is the master's side.
    pub(super) fn attach(&mut self, master: OwnedFd, watcher: &mut dyn Watcher) -> sys::Result<()> {
        watcher.attaching();
        self.streams.push(Stream::of_terminal(Terminal::output(&master)?, fd::standard(1)));
        self.terminal = Some(Terminal::new(master));
        Ok(())
    }

    /// Whether what the command has written is with the caller.
    fn is_idle(&mut self, watcher: &mut dyn Watcher) -> bool {
        let mut adapter = Adapter(watcher, &mut self.outbox.lines);
        self.streams.iter_mut().all(|s| s.is_idle(&mut adapter))
    }

    /// The caller's terminal as it was, whatever the command has left on it.
    pub(super) fn detach(&mut self) {
        let Some(mut terminal) = self.terminal.take() else { return };
        let undo = self.streams.first().map(Stream::undo).unwrap_or_default();
        if !undo.is_empty() && sys::terminal::is_terminal(fd::standard(1)) {
            sink::write_within(fd::standard(1), &undo, TIDY).ok();
        }
        terminal.suspend();
    }
}

/// What the terminals came to: keys, a hang-up, a command that was stopped.
pub(super) fn on_terminal(
    flows: &mut Flows,
    seen: &Seen,
    state: &mut State,
    options: &Options,
    jail: BorrowedFd<'_>,
    watcher: &mut dyn Watcher,
) -> sys::Result<()> {
    let Some(terminal) = &mut flows.terminal else { return Ok(()) };
    let now = Instant::now();
    terminal.look(now);
    let keys = terminal.advance(seen.keyboard, seen.room, state.ended.is_some());
    // Nobody sees what it would show: to a program that is what a terminal that has gone is.
    let unseen = state.abandoned || flows.streams.iter().any(|s| s.lost.is_some());
    if (keys == Keys::HungUp || unseen) && terminal.is_open() {
        terminal.hang_up();
        if keys == Keys::HungUp {
            state.interrupted.get_or_insert(libc::SIGHUP);
            // There is no caller any more whose patience could end.
            flows.streams.iter_mut().for_each(Stream::abandon);
        }
        state.kill_at = state.kill_at.or_else(|| now.checked_add(options.grace));
    }
    if keys == Keys::WayOut {
        state.interrupted.get_or_insert(libc::SIGINT);
        match state.ended {
            Some(_) => state.abandoned = true,
            None => state.kill(jail)?,
        }
    }
    if state.said.is_some() || state.ended.is_some() {
        state.stop_by = None;
    }
    // Pid 1 has the terminal to its end, and whatever anybody else has written is there to be read.
    let alone = matches!(state.said, Some(Message::Ended { alone: true, .. }));
    if (alone || state.left_others()) && flows.is_idle(watcher) {
        flows.streams.iter_mut().for_each(Stream::end_reading);
    }
    if state.stop_by.is_some_and(|by| now >= by || flows.is_idle(watcher)) {
        state.stop_by = None;
        let terminal = flows.terminal.as_mut();
        stop(state, jail, terminal, signal::stop_group)?;
    }
    Ok(())
}

/// Stop the jail and ourselves, by `stop`, until somebody continues us. The clock stands still while the
/// user has stopped us.
pub(super) fn stop(
    state: &mut State,
    jail: BorrowedFd<'_>,
    mut terminal: Option<&mut Terminal>,
    stop: fn(),
) -> sys::Result<()> {
    pidfd::signal(jail, libc::SIGTSTP)?;
    if let Some(terminal) = &mut terminal {
        terminal.suspend();
    }
    let since = Instant::now();
    stop();
    state.postpone(since.elapsed());
    if let Some(terminal) = terminal {
        terminal.resume();
    }
    pidfd::signal(jail, libc::SIGCONT)?;
    Ok(())
}
