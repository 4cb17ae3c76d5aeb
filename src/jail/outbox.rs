//! Lines of our own on their way to stdout: queued in bounded memory, written without blocking.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::poll::PollFd;

use crate::sys::sink::Sink;

/// With this much waiting, no more output of the command is taken in.
const ENOUGH: usize = 256 * 1024;

/// The queue.
#[derive(Debug)]
pub(super) struct Outbox {
    to: BorrowedFd<'static>,
    sink: Option<Sink<'static>>,
    /// Filled by whoever has something to say.
    pub(super) lines: Vec<u8>,
    written: usize,
    /// Why the rest will never be delivered.
    pub(super) lost: Option<Errno>,
}

impl Outbox {
    pub(super) fn new(to: BorrowedFd<'static>) -> Outbox {
        Outbox { to, sink: None, lines: Vec::new(), written: 0, lost: None }
    }

    /// Whether everything was written, or never will be.
    pub(super) fn is_empty(&self) -> bool {
        self.written == self.lines.len()
    }

    /// Whether the reader is so far behind that nothing more should be produced.
    pub(super) fn is_full(&self) -> bool {
        self.lines.len() - self.written >= ENOUGH
    }

    pub(super) fn poll_fd(&self) -> Option<PollFd<'_>> {
        self.sink.as_ref().filter(|_| !self.is_empty()).map(Sink::poll_fd)
    }

    /// Forget what is queued.
    pub(super) fn abandon(&mut self) {
        self.lines = Vec::new();
        self.written = 0;
    }

    /// Write what the reader takes now; returns whether it took anything.
    pub(super) fn advance(&mut self) -> bool {
        let before = self.written;
        if self.lost.is_some() {
            self.abandon();
            return false;
        }
        let sink = self.sink.get_or_insert_with(|| Sink::new(self.to));
        while let Some(rest) = self.lines.get(self.written..).filter(|r| !r.is_empty()) {
            match sink.write(rest) {
                Ok(n) if n > 0 => self.written += n,
                Ok(_) | Err(Errno::EAGAIN) => break,
                Err(e) => {
                    self.lost = Some(e);
                    self.abandon();
                    return false;
                }
            }
        }
        let moved = self.written > before;
        if self.is_empty() {
            self.lines.clear();
            self.written = 0;
        } else if self.written > ENOUGH {
            self.lines.drain(..self.written);
            self.written = 0;
        }
        moved
    }
}
