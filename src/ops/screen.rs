//! The caller's terminal as a screen that is drawn again and again, with keys. However it ends, the
//! terminal is as it was; nothing here waits for a terminal that takes nothing.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;

use crate::base::env;
use crate::sys::sink::Sink;
use crate::sys::terminal::{self, Raw};
use crate::sys::{self, fd, screen, signal};

/// How often it is looked whether a terminal that somebody else has is ours again.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Lines and columns of a terminal that does not know them.
const USUAL: (u16, u16) = (24, 80);

/// What happened while we waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The time is up.
    Elapsed,
    /// A key, or a byte of one.
    Key(u8),
    /// What is shown is gone, or has another size.
    Redraw,
    /// End now, by this signal.
    End(i32),
}

/// The screen. Dropping it gives the terminal back.
#[derive(Debug)]
pub struct Screen {
    raw: Raw,
    keyboard: BorrowedFd<'static>,
    output: BorrowedFd<'static>,
    sink: Sink<'static>,
    signals: SignalFd,
    /// What the terminal has not taken yet.
    rest: Vec<u8>,
}

/// Whether stdin and stdout are a terminal that can be drawn on.
pub fn is_one() -> bool {
    let both = [0, 1].into_iter().all(|n| terminal::is_terminal(fd::standard(n)));
    both && env::TERM.get().is_some_and(|t| !t.is_empty() && t != "dumb")
}

impl Screen {
    /// Take the terminal, once it is ours. [`is_one`] must hold.
    pub fn open() -> sys::Result<Screen> {
        let signals = signal::take_over()?;
        let (keyboard, output) = (fd::standard(0), fd::standard(1));
        let mut screen = Screen {
            raw: Raw::of(keyboard),
            keyboard,
            output,
            sink: Sink::new(output),
            signals,
            rest: Vec::new(),
        };
        screen.resume();
        Ok(screen)
    }

    /// Lines and columns.
    pub fn size(&self) -> (usize, usize) {
        let (rows, columns) = terminal::window(self.output);
        let or = |n: u16, usual: u16| usize::from(if n == 0 { usual } else { n });
        (or(rows, USUAL.0), or(columns, USUAL.1))
    }

    /// Draw these lines, each cut by the terminal, in place of what is there. Left out while the terminal is
    /// somebody else's, and where it has not taken the ones before.
    pub fn draw(&mut self, lines: &[String]) {
        if !self.raw.is_entered() || !self.rest.is_empty() {
            return;
        }
        // Home, each line over the old one, and the rest of the screen empty: nothing is wiped before.
        let mut text = String::from("\x1b[H");
        text.push_str(
            &lines.iter().map(|line| format!("{line}\x1b[m\x1b[K")).collect::<Vec<_>>().join("\r\n"),
        );
        text.push_str("\x1b[J");
        self.rest = text.into_bytes();
        self.flush();
    }

    fn flush(&mut self) {
        while !self.rest.is_empty() {
            match self.sink.write(&self.rest) {
                Ok(n) if n > 0 => drop(self.rest.drain(..n)),
                Ok(_) | Err(Errno::EAGAIN) => return,
                // It has gone, which the keyboard tells.
                Err(_) => self.rest.clear(),
            }
        }
    }

    /// Wait for something to happen, until `until` at most.
    pub fn wait(&mut self, until: Instant) -> Event {
        loop {
            if !self.raw.is_entered() && self.resume() {
                return Event::Redraw;
            }
            if let Some(event) = self.take_signal() {
                return event;
            }
            let mut left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Event::Elapsed;
            }
            if !self.raw.is_entered() {
                left = left.min(LOOK_EVERY);
            }
            let ready = self.poll(left);
            self.flush();
            if ready.intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL) {
                return Event::End(libc::SIGHUP);
            }
            if ready.contains(PollFlags::POLLIN)
                && let Some(event) = self.take_key()
            {
                return event;
            }
        }
    }

    /// What the keyboard has to say.
    fn poll(&self, left: Duration) -> PollFlags {
        // Somebody else's keys are not read, but the terminal's end is noticed.
        let keys = if self.raw.is_entered() { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut fds =
            vec![PollFd::new(self.keyboard, keys), PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if !self.rest.is_empty() {
            fds.push(self.sink.poll_fd());
        }
        // `poll` counts whole milliseconds.
        let ms = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, ms) {
            Ok(n) if n > 0 => fds.first().and_then(PollFd::revents).unwrap_or(PollFlags::empty()),
            _ => PollFlags::empty(),
        }
    }

    fn take_signal(&mut self) -> Option<Event> {
        let info = self.signals.read_signal().ok().flatten()?;
        let number = i32::try_from(info.ssi_signo).unwrap_or(0);
        match number {
            _ if signal::is_ignored(number) => None,
            libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT => Some(Event::End(number)),
            libc::SIGTSTP => Some(self.stop(signal::stop_self)),
            // Whoever continued us may have set the terminal.
            libc::SIGCONT => {
                self.resume();
                Some(Event::Redraw)
            }
            libc::SIGWINCH => Some(Event::Redraw),
            _ => None,
        }
    }

    fn take_key(&mut self) -> Option<Event> {
        let mut key = [0];
        match nix::unistd::read(self.keyboard, &mut key) {
            Ok(1) => match key[0] {
                // Raw: the keys that send signals elsewhere are keys here.
                0x03 => Some(Event::End(libc::SIGINT)),
                0x1c => Some(Event::End(libc::SIGQUIT)),
                0x1a => Some(self.stop(signal::stop_group)),
                key => Some(Event::Key(key)),
            },
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => None,
            Err(_) => Some(Event::End(libc::SIGHUP)),
        }
    }

    /// Give the terminal back, stop as Ctrl-Z would have, and go on.
    fn stop(&mut self, stop: fn()) -> Event {
        self.suspend();
        stop();
        self.resume();
        Event::Redraw
    }

    /// Take the terminal if we are in its foreground; whether we are.
    fn resume(&mut self) -> bool {
        let ours = self.raw.enter();
        if ours {
            screen::take(self.output);
        }
        ours
    }

    fn suspend(&mut self) {
        // Half a sequence would take the next one for its own.
        self.flush();
        self.rest.clear();
        if self.raw.is_entered() {
            screen::give_back(self.output);
        }
        self.raw.leave();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.suspend();
    }
}

/// End as `signal` ends a program that does not handle it. To be called when the screen is gone.
pub fn die_of(signal: i32) {
    signal::die_of(signal);
}
