//! The supervisor's end of a jail's terminal: what is typed goes in, the size of the window follows,
//! and the caller's terminal is raw meanwhile. What comes out is a [`super::relay::Stream`].
//!
//! The caller's own terminal never enters the jail (CVE-2017-5226): the command has one of the jail's
//! devpts, whose line discipline does what a terminal's does, Ctrl-C and Ctrl-Z included. Who is in the
//! background of the caller's terminal neither reads it nor sets its modes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};

use crate::sys::terminal::{Raw, copy_size};
use crate::sys::{self, fd};

/// Read at once.
const CHUNK: usize = 4096;
/// So much may wait for a program that does not read: more than is typed by hand or pasted, so that the keys
/// that end the jail are seen all the same.
const MOST: usize = 1024 * 1024;
/// How often to see whether we are in the foreground again: a shell that continues a job in the
/// background does not say so.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Ctrl-], so often within a second, ends the jail whatever it does.
const WAY_OUT: (u8, usize, Duration) = (0x1d, 3, Duration::from_secs(1));

/// What the keyboard came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// Nothing that is not for the command.
    Plain,
    /// The user wants it to end at once.
    WayOut,
    /// There is no terminal any more.
    HungUp,
}

const CTRL_C: u8 = 0x03;

/// The two terminals.
#[derive(Debug)]
pub(super) struct Terminal {
    /// The caller's, which is stdin.
    caller: BorrowedFd<'static>,
    raw: Raw,
    /// The master's side of the jail's; `None`: hung up.
    master: Option<OwnedFd>,
    /// Typed, and not yet taken.
    keys: Vec<u8>,
    /// When [`WAY_OUT`] was pressed last.
    presses: Vec<Instant>,
    look_at: Option<Instant>,
}

impl Terminal {
    /// Make the caller's terminal, which is stdin, raw for the jail's, whose `master` must not block.
    pub(super) fn new(master: OwnedFd) -> Terminal {
        let caller = fd::standard(0);
        let mut terminal = Terminal {
            caller,
            raw: Raw::of(caller),
            master: Some(master),
            keys: Vec::new(),
            presses: Vec::new(),
            look_at: None,
        };
        terminal.resume();
        terminal
    }

    /// The master's side once more, to read from.
    pub(super) fn output(master: &OwnedFd) -> sys::Result<OwnedFd> {
        fd::set_nonblocking(master)?;
        fd::dup_above(master.as_fd(), 3)
    }

    /// When to call [`Terminal::look`].
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// See whether the terminal is ours again.
    pub(super) fn look(&mut self, now: Instant) {
        if self.look_at.is_some_and(|at| now >= at) {
            self.resume();
        }
    }

    /// Take the caller's terminal (again), if we are in its foreground; the jail's gets its size.
    pub(super) fn resume(&mut self) {
        let ours = self.raw.enter();
        self.look_at = (!ours && self.master.is_some()).then(|| Instant::now() + LOOK_EVERY);
        self.resize();
    }

    /// Make the caller's terminal as it was.
    pub(super) fn suspend(&mut self) {
        self.raw.leave();
    }

    /// The caller's window has another size.
    pub(super) fn resize(&self) {
        if let Some(master) = &self.master {
            copy_size(self.caller, master.as_fd());
        }
    }

    /// Close the jail's terminal: whoever has it gets SIGHUP, and can neither read nor write it any more.
    pub(super) fn hang_up(&mut self) {
        self.master = None;
        self.keys.clear();
        self.look_at = None;
    }

    /// Whether there is one to be typed on.
    pub(super) fn is_open(&self) -> bool {
        self.master.is_some()
    }

    /// The caller's terminal: to read, once the command `runs`; at any time for its end.
    pub(super) fn keyboard(&self, runs: bool) -> Option<PollFd<'_>> {
        self.master.as_ref()?;
        let reads = runs && self.keys.len() < MOST && self.raw.is_entered();
        Some(PollFd::new(self.caller, if reads { PollFlags::POLLIN } else { PollFlags::empty() }))
    }

    /// The jail's terminal, when something is to be typed there.
    pub(super) fn room(&self) -> Option<PollFd<'_>> {
        let master = self.master.as_ref().filter(|_| !self.keys.is_empty())?;
        Some(PollFd::new(master.as_fd(), PollFlags::POLLOUT))
    }

    /// Move what can be moved now; `keyboard` and `room` are what these reported. When the command has
    /// `ended`, a Ctrl-C is for us: what it has written is still being delivered.
    pub(super) fn advance(&mut self, keyboard: PollFlags, room: PollFlags, ended: bool) -> Keys {
        if keyboard.intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL) {
            return Keys::HungUp;
        }
        let mut came = Keys::Plain;
        if keyboard.contains(PollFlags::POLLIN) {
            if !fd::in_foreground(self.caller) {
                // Somebody else's since a moment ago.
                self.raw.lose();
                self.look_at = Some(Instant::now() + LOOK_EVERY);
                return Keys::Plain;
            }
            let before = self.keys.len();
            match fd::read_to(self.caller, &mut self.keys, CHUNK) {
                Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(_) => return Keys::HungUp,
            }
            if self.is_way_out(before, Instant::now()) || ended && self.keys.contains(&CTRL_C) {
                came = Keys::WayOut;
            }
            if ended {
                self.keys.clear();
            }
        }
        if !room.is_empty() || !keyboard.is_empty() {
            self.type_keys();
        }
        came
    }

    fn type_keys(&mut self) {
        let Some(master) = &self.master else { return };
        while !self.keys.is_empty() {
            match nix::unistd::write(master, &self.keys) {
                Ok(n) if n > 0 => drop(self.keys.drain(..n)),
                Err(Errno::EINTR) => {}
                Ok(_) | Err(Errno::EAGAIN) => return,
                // Nobody has it any more.
                Err(_) => self.keys.clear(),
            }
        }
    }

    /// Whether what was just typed, the keys after the first `old` ones, completes [`WAY_OUT`].
    fn is_way_out(&mut self, old: usize, now: Instant) -> bool {
        let (key, times, within) = WAY_OUT;
        for typed in self.keys.iter().skip(old) {
            if *typed == key {
                self.presses.push(now);
            } else {
                self.presses.clear();
            }
        }
        self.presses.retain(|at| now.duration_since(*at) <= within);
        self.presses.len() >= times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(words: &[(&[u8], u64)]) -> bool {
        let mut terminal = Terminal {
            caller: fd::standard(0),
            raw: Raw::of(fd::standard(0)),
            master: None,
            keys: Vec::new(),
            presses: Vec::new(),
            look_at: None,
        };
        let start = Instant::now();
        words.iter().any(|(keys, ms)| {
            terminal.keys = keys.to_vec();
            terminal.is_way_out(0, start + Duration::from_millis(*ms))
        })
    }

    #[test]
    fn three_times_within_a_second_is_the_way_out() {
        assert!(typed(&[(b"\x1d\x1d\x1d", 0)]));
        assert!(typed(&[(b"x\x1d", 0), (b"\x1d", 400), (b"\x1d", 900)]));
        assert!(!typed(&[(b"\x1d", 0), (b"\x1d", 900), (b"\x1d", 1100)]));
        assert!(!typed(&[(b"\x1d\x1d", 0), (b"x\x1d", 100)]));
        assert!(!typed(&[(b"\x1d\x1d", 0)]));
        assert!(typed(&[(b"\x1d", 0), (b"\x1d", 900), (b"\x1d", 1100), (b"\x1d", 1200)]));
    }
}
