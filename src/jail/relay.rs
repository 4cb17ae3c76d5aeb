//! One output stream of the command on its way to the caller: byte for byte, in bounded memory,
//! never blocking, with its first and last 64 KiB kept for the ledger.
//!
//! What comes in small pieces is copied: that is most output, and the excerpt wants it anyway.
//! Where much is waiting, pages move by `splice` without being copied; `tee` puts a second
//! reference to them into a side pipe, of which only the end is ever read.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};

use super::excerpt::{Collector, KEEP};
use super::screen::Screen;
use crate::schema::jail::Excerpt;
use crate::sys::fd;
use crate::sys::sink::Sink;

/// Copied at most at a time.
const COPY: usize = 64 * 1024;
/// Spliced from this much on.
const SPLICE_FROM: usize = 32 * 1024;
/// Copied again below this: a side pipe full of small pieces would not hold [`KEEP`] bytes.
const COPY_BELOW: usize = 4096;
/// Capacity of the pipes in the splice phase, and spliced at most at a time. Measured: with a
/// quarter of it, or with the caller's pipe left as it is, a third of the throughput is lost.
const PIPE: usize = 1024 * 1024;
/// Rounds before the other descriptors get their turn.
const ROUNDS: usize = 16;

/// Receives output in place of a descriptor.
pub(super) trait Receiver {
    /// The next bytes of stdout (`false`) or stderr (`true`).
    fn output(&mut self, stderr: bool, bytes: &[u8]);
}

/// The side pipe of the splice phase.
#[derive(Debug)]
struct Side {
    read: OwnedFd,
    write: OwnedFd,
    null: OwnedFd,
    holds: usize,
    passed: u64,
    /// Bytes at the front of the source that are in the side pipe already.
    teed: usize,
    /// How much there was to move the last time.
    last: usize,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    source: Option<OwnedFd>,
    /// `None`: bytes are handed to a [`Receiver`].
    to: Option<BorrowedFd<'static>>,
    /// Made at the first output.
    sink: Option<Sink<'static>>,
    stderr: bool,
    pending: Vec<u8>,
    written: usize,
    collector: Collector,
    side: Option<Side>,
    may_splice: bool,
    /// The source is the master's side of a terminal; what was done to the one at the other end.
    screen: Option<Screen>,
    /// Why the caller's end takes no more.
    pub(super) lost: Option<Errno>,
}

/// What a step of the relay came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Bytes moved, or the way of moving them changed: try again.
    Again,
    /// Nothing can be done before something is polled for.
    Wait,
    /// Nothing more will come.
    End,
}

impl Stream {
    /// A stream from `source` to the descriptor `sink`. `source` must not block: a jail that reads
    /// its own stdout would make us wait for what is no longer there.
    pub(super) fn to_fd(source: OwnedFd, sink: BorrowedFd<'static>, stderr: bool) -> Stream {
        Stream::new(source, Some(sink), stderr)
    }

    /// A stream whose bytes are handed to a [`Receiver`].
    pub(super) fn to_call(source: OwnedFd, stderr: bool) -> Stream {
        Stream::new(source, None, stderr)
    }

    /// A stream from the master's side of the jail's terminal, which must not block, to `sink`.
    pub(super) fn of_terminal(source: OwnedFd, sink: BorrowedFd<'static>) -> Stream {
        Stream { screen: Some(Screen::default()), ..Stream::new(source, Some(sink), false) }
    }

    fn new(source: OwnedFd, to: Option<BorrowedFd<'static>>, stderr: bool) -> Stream {
        Stream {
            source: Some(source),
            to,
            sink: None,
            may_splice: false,
            stderr,
            pending: Vec::new(),
            written: 0,
            collector: Collector::default(),
            side: None,
            screen: None,
            lost: None,
        }
    }

    /// What makes the terminal at the other end as it was, as far as this stream has changed it.
    pub(super) fn undo(&self) -> Vec<u8> {
        self.screen.as_ref().map(Screen::undo).unwrap_or_default()
    }

    /// Whether all that the command has written so far is delivered; delivers what can be.
    pub(super) fn is_idle(&mut self, receiver: &mut dyn Receiver) -> bool {
        // What somebody else goes on writing is not waited for.
        (0..8).any(|_| !self.advance(PollFlags::POLLIN, receiver)) && self.written == self.pending.len()
    }

    /// Nothing more will come.
    pub(super) fn end_reading(&mut self) {
        self.source = None;
    }

    /// Nothing more is taken from whoever still writes: where it came from, if that is open.
    pub(super) fn let_go(&mut self, receiver: &mut dyn Receiver) -> Option<OwnedFd> {
        self.finish_side();
        let source = self.source.take();
        self.end(receiver);
        source
    }

    /// Whether everything has been delivered.
    pub(super) fn done(&self) -> bool {
        self.source.is_none() && self.written == self.pending.len()
    }

    /// Give up delivering. The command gets SIGPIPE when it writes more.
    pub(super) fn abandon(&mut self) {
        self.finish_side();
        self.source = None;
        self.pending = Vec::new();
        self.written = 0;
    }

    /// Whether its bytes go to a [`Receiver`].
    pub(super) fn is_captured(&self) -> bool {
        self.to.is_none()
    }

    /// Whether it is the caller's end that is waited for.
    pub(super) fn waits(&self) -> bool {
        self.written < self.pending.len() || self.side.as_ref().is_some_and(|s| s.teed > 0)
    }

    /// What to poll for next.
    pub(super) fn poll_fd(&self) -> Option<PollFd<'_>> {
        match (&self.sink, &self.source) {
            (Some(sink), _) if self.waits() => Some(sink.poll_fd()),
            (_, Some(source)) => Some(PollFd::new(source.as_fd(), PollFlags::POLLIN)),
            (_, None) => None,
        }
    }

    /// Move what can be moved now; `seen` is what [`Stream::poll_fd`]'s descriptor reported.
    /// Returns whether the caller's end took anything.
    pub(super) fn advance(&mut self, seen: PollFlags, receiver: &mut dyn Receiver) -> bool {
        // A hang-up of the sink says nothing about the command, and a terminal is read to its end.
        let ended = self.screen.is_none() && !self.waits() && seen.contains(PollFlags::POLLHUP);
        if seen.is_empty() {
            return false;
        }
        if ended && !seen.contains(PollFlags::POLLIN) {
            self.end(receiver);
            return false;
        }
        if let (Some(to), None) = (self.to, &self.sink) {
            let sink = Sink::new(to);
            self.may_splice = sink.takes_pages();
            self.sink = Some(sink);
        }
        let mut moved = false;
        for _ in 0..ROUNDS {
            let step =
                if self.written < self.pending.len() { self.flush() } else { self.take(ended, receiver) };
            match step {
                Step::Again => moved = true,
                Step::Wait => break,
                Step::End => {
                    self.end(receiver);
                    break;
                }
            }
        }
        moved
    }

    /// Get the next bytes from the command; `ended`: all writers are gone.
    fn take(&mut self, ended: bool, receiver: &mut dyn Receiver) -> Step {
        let Some(source) = &self.source else { return Step::Wait };
        if self.screen.is_some() {
            return self.copy(COPY, receiver);
        }
        if self.side.as_ref().is_some_and(|s| s.teed > 0 || s.last >= COPY_BELOW) {
            return self.splice();
        }
        let waiting = fd::waiting(source);
        if waiting == 0 {
            // Told by what poll saw instead of by a read that might block.
            return if ended { Step::End } else { Step::Wait };
        }
        let enough = if self.side.as_ref().is_some_and(|s| s.holds > 0) { COPY_BELOW } else { SPLICE_FROM };
        if self.may_splice && self.collector.head_is_full() && waiting >= enough {
            return self.splice();
        }
        self.finish_side();
        self.copy(waiting.min(COPY), receiver)
    }

    fn copy(&mut self, len: usize, receiver: &mut dyn Receiver) -> Step {
        let Some(source) = &self.source else { return Step::Wait };
        if self.to.is_some() {
            self.pending.clear();
            self.written = 0;
        }
        let kept = self.pending.len();
        match fd::read_to(source, &mut self.pending, len) {
            Ok(n) if n > 0 => {}
            Err(Errno::EINTR | Errno::EAGAIN) => return Step::Wait,
            _ => return Step::End,
        }
        self.collector.push(self.pending.get(kept..).unwrap_or_default());
        if self.to.is_none() {
            let whole = self.pending.len() - cut_character(&self.pending);
            let (bytes, rest) = self.pending.split_at(whole);
            if !bytes.is_empty() {
                receiver.output(self.stderr, bytes);
            }
            let rest = rest.to_vec();
            self.pending.clear();
            self.pending.extend_from_slice(&rest);
            self.written = self.pending.len();
        }
        Step::Again
    }

    /// Write pending bytes.
    fn flush(&mut self) -> Step {
        let Some(sink) = &mut self.sink else { return Step::Wait };
        match sink.write(self.pending.get(self.written..).unwrap_or_default()) {
            Ok(n) if n > 0 => {
                if let Some(screen) = &mut self.screen {
                    screen.see(self.pending.get(self.written..self.written + n).unwrap_or_default());
                }
                self.written += n;
                Step::Again
            }
            Ok(_) | Err(Errno::EAGAIN) => Step::Wait,
            Err(e) => self.lose(e),
        }
    }

    /// Nobody reads any more, or the disk is full: the command finds out as it would have by
    /// itself, by SIGPIPE on its next write.
    fn lose(&mut self, why: Errno) -> Step {
        self.lost = Some(why);
        self.abandon();
        Step::Wait
    }

    /// Move a chunk by reference.
    fn splice(&mut self) -> Step {
        let (Some(source), Some(sink)) = (&self.source, &self.sink) else { return Step::Wait };
        if self.side.is_none() {
            self.side = Side::new(source);
            sink.grow(PIPE);
        }
        let Some(side) = &mut self.side else {
            self.may_splice = false;
            return Step::Again;
        };
        if side.teed == 0 {
            match side.tee(source) {
                Ok(n) if n > 0 => {}
                // Nothing is waiting, or it has ended: the other way of moving finds out which.
                Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {
                    side.last = 0;
                    return Step::Again;
                }
                Err(_) => return self.copy_from_here(),
            }
        }
        match fd::splice(source, sink.fd(), side.teed) {
            Ok(n) if n > 0 => {
                side.teed -= n.min(side.teed);
                side.passed += n as u64;
                Step::Again
            }
            Ok(_) | Err(Errno::EAGAIN) => Step::Wait,
            Err(Errno::EINTR) => Step::Again,
            // This sink cannot take pages (opened for appending, some devices).
            Err(Errno::EINVAL) => self.copy_from_here(),
            Err(e) => self.lose(e),
        }
    }

    fn copy_from_here(&mut self) -> Step {
        self.finish_side();
        self.side = None;
        self.may_splice = false;
        Step::Again
    }

    /// Take the end of the side pipe into the excerpt.
    fn finish_side(&mut self) {
        let Some(side) = self.side.as_mut().filter(|s| s.passed > 0 || s.holds > 0) else { return };
        let mut last = Vec::new();
        while last.len() < side.holds {
            let rest = side.holds - last.len();
            match fd::read_to(&side.read, &mut last, rest) {
                Ok(n) if n > 0 => {}
                Err(Errno::EINTR) => {}
                _ => break,
            }
        }
        // What was teed but not delivered is not part of the stream.
        last.truncate(last.len().saturating_sub(side.teed));
        self.collector.skip(side.passed, &last);
        (side.holds, side.teed, side.passed) = (0, 0, 0);
    }

    fn end(&mut self, receiver: &mut dyn Receiver) {
        self.source = None;
        if self.to.is_none() && !self.pending.is_empty() {
            // Half a character that will never be whole.
            receiver.output(self.stderr, &std::mem::take(&mut self.pending));
            self.written = 0;
        }
    }

    /// The excerpt of what was delivered.
    pub(super) fn finish(mut self) -> Excerpt {
        self.finish_side();
        self.collector.finish()
    }
}

impl Side {
    fn new(source: &OwnedFd) -> Option<Side> {
        let (read, write) = fd::pipe().ok()?;
        let null = fd::write_null().ok()?;
        fd::grow_pipe(source, PIPE);
        fd::grow_pipe(&write, PIPE);
        Some(Side { read, write, null, holds: 0, passed: 0, teed: 0, last: PIPE })
    }

    /// Drop all but the last `keep` bytes of the side pipe.
    fn forget(&mut self, keep: usize) {
        while self.holds > keep {
            match fd::splice(&self.read, &self.null, self.holds - keep) {
                Ok(n) if n > 0 => self.holds -= n.min(self.holds),
                _ => return,
            }
        }
    }

    fn tee(&mut self, source: &OwnedFd) -> Result<usize, Errno> {
        self.forget(KEEP);
        let n = match fd::tee(source, &self.write, PIPE) {
            // Either the source is empty or the side pipe is out of slots.
            Err(Errno::EAGAIN) if fd::waiting(source) > 0 => {
                self.forget(0);
                fd::tee(source, &self.write, PIPE)?
            }
            other => other?,
        };
        self.holds += n;
        self.teed = n;
        self.last = n;
        Ok(n)
    }
}

/// Bytes at the end that begin a UTF-8 character without ending it: at most three. Events that cut
/// a character in two would have to carry both halves as base64.
fn cut_character(bytes: &[u8]) -> usize {
    let tail = bytes.get(bytes.len().saturating_sub(3)..).unwrap_or_default();
    (0..tail.len())
        .find_map(|at| match std::str::from_utf8(&tail[at..]) {
            Err(e) if e.valid_up_to() == 0 && e.error_len().is_none() => Some(tail.len() - at),
            _ => None,
        })
        .unwrap_or(0)
}
