//! How a run ends: what is known of it while it goes on, and what is told afterwards.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;

use super::attend::LAST_OUTPUT;
use super::join;
use super::launch::Joined;
use super::status::Layers;
use super::wire::Message;
use crate::schema::jail::{Excerpt, Outcome, Usage};
use crate::sys;
use crate::sys::pidfd::{self, End};

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// Errno of a failed start, for the exit code.
    pub errno: Option<Errno>,
    /// The exec itself failed, not a step before it.
    pub exec_failed: bool,
    /// Layers that were in force.
    pub layers: Layers,
    /// What it used.
    pub usage: Usage,
    /// Its stdout.
    pub stdout: Excerpt,
    /// Its stderr.
    pub stderr: Excerpt,
    /// Most memory seen, when it was watched.
    pub peak_memory: Option<u64>,
    /// Memory ran out, but not at the limit of this jail.
    pub elsewhere: bool,
    /// It was killed because it had written more to disk than it may.
    pub over_disk: bool,
    /// Times that the kernel refused it a process or thread, as far as that is counted.
    pub refused: u64,
    /// The first signal to `aj` that meant that the command should end, whatever it made of it.
    pub interrupted: Option<i32>,
    /// Output that the caller did not get.
    pub undelivered: Undelivered,
    /// Pid of the jail's pid 1, when it did not end although it was killed: a process of the jail
    /// waits inside the kernel.
    pub unkillable: Option<i32>,
}

/// Output that the caller did not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Undelivered {
    /// Why writing to the caller's stdout failed: EPIPE when nobody reads it any more.
    pub stdout: Option<Errno>,
    /// The same for stderr.
    pub stderr: Option<Errno>,
    /// The reader had not taken everything when the time was up or the user put an end to it.
    pub abandoned: bool,
}

impl Undelivered {
    /// Which stream failed and why, but for a reader that went away: that is its own affair.
    pub fn failure(&self) -> Option<(&'static str, Errno)> {
        [("stdout", self.stdout), ("stderr", self.stderr)]
            .into_iter()
            .filter_map(|(name, why)| why.map(|e| (name, e)))
            .find(|(_, e)| !matches!(e, Errno::EPIPE | Errno::ECONNRESET))
    }
}

/// What is known so far.
#[derive(Default)]
pub(super) struct State {
    pub(super) layers: Layers,
    pub(super) started: bool,
    pub(super) said: Option<Message>,
    pub(super) ended: Option<(End, pidfd::Rusage)>,
    pub(super) timed_out: bool,
    pub(super) out_of_memory: bool,
    pub(super) over_disk: bool,
    /// What the clock has stood still for pauses by others.
    pub(super) paused: Duration,
    /// What it had used when it was killed.
    pub(super) spent: Usage,
    /// It was asked why a jail that was killed is still there.
    pub(super) lingered: bool,
    pub(super) interrupted: Option<i32>,
    pub(super) interrupts: u32,
    /// Signals that came before the command could be sent any.
    pub(super) early: Vec<i32>,
    pub(super) deadline: Option<Instant>,
    /// When it is looked whether it can be found.
    pub(super) look_at: Option<Instant>,
    pub(super) kill_at: Option<Instant>,
    /// Since when pid 1 must be about to end: it was killed, or it has said its last word.
    pub(super) dying: Option<Instant>,
    pub(super) unkillable: bool,
    pub(super) abandoned: bool,
    /// Pid 1 can say nothing more.
    pub(super) silent: bool,
    /// The master's side of the command's terminal, just come.
    pub(super) master: Option<OwnedFd>,
    /// The command was stopped: until when its last output is waited for before we stop as well.
    pub(super) stop_by: Option<Instant>,
    /// It is a command that has joined a jail.
    pub(super) joined: Option<Joined>,
}

impl State {
    /// Pass a signal on to the command: now, or once pid 1 has said that it runs. Its first output
    /// may get here before that word.
    pub(super) fn pass_on(&mut self, jail: BorrowedFd<'_>, number: i32) -> sys::Result<()> {
        if self.started {
            pidfd::signal(jail, number)?;
        } else {
            self.early.push(number);
        }
        Ok(())
    }

    pub(super) fn kill(&mut self, jail: BorrowedFd<'_>) -> sys::Result<()> {
        self.dying.get_or_insert_with(Instant::now);
        match &self.joined {
            // With who minds it alone, what it has started would be left.
            Some(joined) => join::hang_up(joined.conn.as_fd()),
            None => drop(pidfd::signal(jail, libc::SIGKILL)?),
        }
        Ok(())
    }

    /// It has joined a jail, and has ended: others may still write to what it wrote to.
    pub(super) fn left_others(&self) -> bool {
        self.joined.is_some() && (self.ended.is_some() || matches!(self.said, Some(Message::Ended { .. })))
    }

    /// Until when what is written to its outputs may be its own.
    pub(super) fn lets_go_at(&self) -> Option<Instant> {
        self.joined.as_ref()?;
        self.dying.map(|at| at + LAST_OUTPUT)
    }

    /// What it has to leave to its jail.
    pub(super) fn leaving(&mut self, outputs: &mut Vec<OwnedFd>) -> Option<(OwnedFd, Vec<OwnedFd>)> {
        self.joined.take().map(|joined| (joined.conn, std::mem::take(outputs)))
    }

    /// Pid 1 has said its last word, or has died without one.
    pub(super) fn fall_silent(&mut self) {
        self.silent = true;
        self.dying.get_or_insert_with(Instant::now);
    }

    /// When the time will be up, while that can still happen.
    pub(super) fn deadline_ahead(&self) -> Option<Instant> {
        self.deadline.filter(|_| !self.timed_out && self.said.is_none())
    }

    /// The clock stood still for `pause`.
    pub(super) fn postpone(&mut self, pause: Duration) {
        for at in [&mut self.deadline, &mut self.kill_at, &mut self.dying].into_iter().flatten() {
            *at += pause;
        }
    }

    /// How it ended; with a failed start, also its errno and whether it was the exec itself.
    pub(super) fn outcome(self) -> (Outcome, Option<Errno>, bool) {
        let end = self.ended.map_or(End::Signaled(libc::SIGKILL), |(end, _)| end);
        let outcome = match self.said {
            Some(Message::Failed { step, errno, exec }) => {
                let errno = Errno::from_raw(errno);
                let outcome = Outcome::Failed { step, errno: format!("{errno:?}"), code: 125 };
                return (outcome, Some(errno), exec);
            }
            _ if self.out_of_memory => Outcome::OutOfMemory,
            _ if self.over_disk => Outcome::Signaled { signal: libc::SIGKILL },
            _ if self.timed_out => Outcome::TimedOut,
            Some(Message::Ended { end: End::Exited(_), .. }) if self.abandoned => {
                Outcome::Interrupted { signal: self.interrupted.unwrap_or(libc::SIGINT) }
            }
            Some(Message::Ended { end: End::Exited(code), .. }) => Outcome::Exited { code },
            Some(Message::Ended { end: End::Signaled(signal), .. }) => match self.interrupted {
                Some(ours) if ours == signal => Outcome::Interrupted { signal },
                _ => Outcome::Signaled { signal },
            },
            _ => match (self.interrupted, end) {
                (Some(signal), _) => Outcome::Interrupted { signal },
                (None, End::Signaled(signal)) if self.started => Outcome::Signaled { signal },
                (None, end) => Outcome::Failed {
                    step: match end {
                        End::Signaled(signal) => format!("the jail's pid 1 was killed (signal {signal})"),
                        End::Exited(code) => {
                            format!("the jail's pid 1 ended without a word (exit code {code})")
                        }
                    },
                    errno: String::new(),
                    code: 125,
                },
            },
        };
        (outcome, None, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(end: End) -> State {
        let said = Message::Ended { end, alone: true, used: pidfd::Rusage::default() };
        State { started: true, said: Some(said), ..State::default() }
    }

    fn outcome(state: State) -> Outcome {
        state.outcome().0
    }

    #[test]
    fn a_signal_death_is_the_users_only_if_the_user_sent_that_signal() {
        let by = |interrupted| outcome(State { interrupted, ..ended(End::Signaled(15)) });
        assert_eq!(by(None), Outcome::Signaled { signal: 15 });
        assert_eq!(by(Some(2)), Outcome::Signaled { signal: 15 });
        assert_eq!(by(Some(15)), Outcome::Interrupted { signal: 15 });
        let handled = State { interrupted: Some(2), ..ended(End::Exited(3)) };
        assert_eq!(outcome(handled), Outcome::Exited { code: 3 });
        let abandoned = State { interrupted: Some(2), abandoned: true, ..ended(End::Exited(3)) };
        assert_eq!(outcome(abandoned), Outcome::Interrupted { signal: 2 });
    }

    #[test]
    fn what_we_did_to_it_comes_before_how_it_took_it() {
        let timed_out = State { timed_out: true, ..ended(End::Exited(0)) };
        assert_eq!(outcome(timed_out), Outcome::TimedOut);
        let memory = State { out_of_memory: true, timed_out: true, ..State::default() };
        assert_eq!(outcome(memory), Outcome::OutOfMemory);
        let failed = Message::Failed { step: "x".into(), errno: libc::EPERM, exec: true };
        let failed = State { timed_out: true, said: Some(failed), ..State::default() };
        assert!(matches!(failed.outcome(), (Outcome::Failed { .. }, Some(Errno::EPERM), true)));
    }

    #[test]
    fn silence_before_the_start_is_a_failure_and_after_it_a_death() {
        let killed = Some((End::Signaled(9), pidfd::Rusage::default()));
        assert!(matches!(outcome(State { ended: killed, ..State::default() }), Outcome::Failed { .. }));
        let running = State { ended: killed, started: true, ..State::default() };
        assert_eq!(outcome(running), Outcome::Signaled { signal: 9 });
    }

    #[test]
    fn the_clock_can_stand_still_and_stops_at_the_last_word() {
        let now = Instant::now();
        let mut state = State { deadline: Some(now), kill_at: Some(now), ..State::default() };
        state.postpone(Duration::from_secs(5));
        assert_eq!(state.deadline_ahead(), Some(now + Duration::from_secs(5)));
        assert_eq!(state.kill_at, state.deadline);
        let done = State { deadline: Some(now), ..ended(End::Exited(0)) };
        assert_eq!(done.deadline_ahead(), None);
    }
}
