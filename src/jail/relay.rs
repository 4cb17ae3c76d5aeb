//! One output stream of the command on its way to the caller: byte for byte, in bounded memory,
//! never blocking, with its first and last 64 KiB kept for the ledger.
//!
//! The first bytes are copied, because small outputs are the common case and the head of the
//! excerpt is wanted anyway. After that pages move by `splice` without being copied; `tee` puts a
//! second reference to them into a side pipe, of which only the end is ever read.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::stat::{SFlag, fstat};

use super::excerpt::{Collector, KEEP};
use crate::schema::jail::Excerpt;
use crate::sys::fd;

const COPY: usize = 64 * 1024;
const CHUNK: usize = 256 * 1024;
const PIPE: usize = 1024 * 1024;

/// Receives output in place of a descriptor.
pub(super) trait Receiver {
    /// The next bytes of stdout (`false`) or stderr (`true`).
    fn output(&mut self, stderr: bool, bytes: &[u8]);
}

/// Where the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A pipe or socket: written without blocking.
    Pipe,
    /// A regular file or a device that is always ready.
    File,
    /// A terminal: written when it says it is ready.
    Terminal,
    /// A function.
    Call,
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
}

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    source: Option<OwnedFd>,
    sink: BorrowedFd<'static>,
    kind: Kind,
    stderr: bool,
    pending: Vec<u8>,
    written: usize,
    collector: Collector,
    side: Option<Side>,
    may_splice: bool,
    /// Set when the caller's end is gone.
    pub(super) broken: bool,
}

impl Stream {
    /// A stream from `source` to the descriptor `sink`.
    pub(super) fn to_fd(source: OwnedFd, sink: BorrowedFd<'static>, stderr: bool) -> Stream {
        let kind = match fstat(sink).map(|s| SFlag::from_bits_truncate(s.st_mode) & SFlag::S_IFMT) {
            Ok(SFlag::S_IFIFO | SFlag::S_IFSOCK) => Kind::Pipe,
            Ok(SFlag::S_IFCHR) if nix::unistd::isatty(sink).unwrap_or(false) => Kind::Terminal,
            _ => Kind::File,
        };
        Stream::new(source, sink, kind, stderr)
    }

    /// A stream whose bytes are handed to a [`Receiver`].
    pub(super) fn to_call(source: OwnedFd, stderr: bool) -> Stream {
        Stream::new(source, fd::standard(2), Kind::Call, stderr)
    }

    fn new(source: OwnedFd, sink: BorrowedFd<'static>, kind: Kind, stderr: bool) -> Stream {
        Stream {
            source: Some(source),
            sink,
            kind,
            stderr,
            pending: Vec::new(),
            written: 0,
            collector: Collector::default(),
            side: None,
            may_splice: matches!(kind, Kind::Pipe | Kind::File),
            broken: false,
        }
    }

    /// Whether everything has been delivered.
    pub(super) fn done(&self) -> bool {
        self.source.is_none() && self.written == self.pending.len()
    }

    /// Give up delivering.
    pub(super) fn abandon(&mut self) {
        self.source = None;
        self.pending.clear();
        self.written = 0;
    }

    fn waits_for_sink(&self) -> bool {
        self.written < self.pending.len() || self.side.as_ref().is_some_and(|s| s.teed > 0)
    }

    /// What to poll for next.
    pub(super) fn poll_fd(&self) -> Option<PollFd<'_>> {
        if self.done() {
            None
        } else if self.waits_for_sink() && self.kind != Kind::Call {
            Some(PollFd::new(self.sink, PollFlags::POLLOUT))
        } else {
            self.source.as_ref().map(|s| PollFd::new(s.as_fd(), PollFlags::POLLIN))
        }
    }

    /// Move what can be moved now.
    pub(super) fn advance(&mut self, receiver: &mut dyn Receiver) {
        for _ in 0..16 {
            if self.written < self.pending.len() {
                if !self.flush() {
                    return;
                }
                continue;
            }
            if self.source.is_none() {
                return;
            }
            let more = if self.may_splice && self.collector.head_is_full() {
                self.splice()
            } else {
                self.copy(receiver)
            };
            if !more {
                return;
            }
        }
    }

    /// Read a bufferful. `false` when there is nothing to do now.
    fn copy(&mut self, receiver: &mut dyn Receiver) -> bool {
        let Some(source) = &self.source else { return false };
        if fd::waiting(source) == 0 && !ready(source.as_fd(), PollFlags::POLLIN) {
            return false;
        }
        self.pending.resize(COPY, 0);
        self.written = 0;
        let n = match nix::unistd::read(source, &mut self.pending) {
            Ok(n) => n,
            Err(Errno::EINTR | Errno::EAGAIN) => {
                self.pending.clear();
                return false;
            }
            Err(_) => 0,
        };
        self.pending.truncate(n);
        if n == 0 {
            self.source = None;
            return false;
        }
        self.collector.push(&self.pending);
        if self.kind == Kind::Call {
            receiver.output(self.stderr, &self.pending);
            self.pending.clear();
        }
        true
    }

    /// Write pending bytes. `false` when the sink takes no more now.
    fn flush(&mut self) -> bool {
        let rest = self.pending.get(self.written..).unwrap_or_default();
        let written = match self.kind {
            Kind::Pipe => match fd::write_nowait(self.sink, rest) {
                // Up to PIPE_BUF bytes do not block once poll has said that there is room.
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS) if ready(self.sink, PollFlags::POLLOUT) => {
                    nix::unistd::write(self.sink, rest.get(..rest.len().min(4096)).unwrap_or_default())
                }
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Err(Errno::EAGAIN),
                other => other,
            },
            Kind::Terminal if !ready(self.sink, PollFlags::POLLOUT) => Err(Errno::EAGAIN),
            Kind::Terminal => {
                nix::unistd::write(self.sink, rest.get(..rest.len().min(1024)).unwrap_or_default())
            }
            Kind::File | Kind::Call => nix::unistd::write(self.sink, rest),
        };
        match written {
            Ok(n) => {
                self.written += n;
                n > 0
            }
            Err(Errno::EINTR) => true,
            Err(Errno::EAGAIN) => false,
            Err(_) => {
                // Nobody reads any more (or the disk is full): the command finds out as it would
                // have by itself, by SIGPIPE on its next write.
                self.broken = true;
                self.abandon();
                false
            }
        }
    }

    /// Move a chunk by reference. `false` when there is nothing to do now.
    fn splice(&mut self) -> bool {
        let Some(source) = &self.source else { return false };
        if self.side.is_none() {
            self.side = Side::new(source);
            if self.side.is_none() {
                self.may_splice = false;
                return true;
            }
        }
        let Some(side) = &mut self.side else { return false };
        if side.teed == 0 {
            match side.tee(source) {
                Ok(0) => {
                    self.finish_side();
                    self.source = None;
                    return false;
                }
                Ok(_) => {}
                Err(Errno::EAGAIN | Errno::EINTR) => return false,
                Err(_) => {
                    self.finish_side();
                    self.may_splice = false;
                    return true;
                }
            }
        }
        match fd::splice(source, self.sink, side.teed) {
            Ok(n) => {
                side.teed -= n.min(side.teed);
                side.passed += n as u64;
                n > 0
            }
            Err(Errno::EINTR) => true,
            Err(Errno::EAGAIN) => false,
            Err(Errno::EINVAL) => {
                // This sink cannot take pages (opened for appending, some devices): copy from here.
                self.finish_side();
                self.may_splice = false;
                true
            }
            Err(_) => {
                self.broken = true;
                self.finish_side();
                self.abandon();
                false
            }
        }
    }

    /// Take the end of the side pipe into the excerpt.
    fn finish_side(&mut self) {
        let Some(side) = self.side.take() else { return };
        let mut last = vec![0u8; side.holds];
        let mut got = 0;
        while got < last.len() {
            match nix::unistd::read(&side.read, last.get_mut(got..).unwrap_or_default()) {
                Ok(n) if n > 0 => got += n,
                Err(Errno::EINTR) => {}
                _ => break,
            }
        }
        // What was teed but not delivered is not part of the stream.
        last.truncate(got.saturating_sub(side.teed));
        self.collector.skip(side.passed, &last);
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
        let flags = nix::fcntl::OFlag::O_WRONLY | nix::fcntl::OFlag::O_CLOEXEC;
        let null = nix::fcntl::open("/dev/null", flags, nix::sys::stat::Mode::empty()).ok()?;
        fd::grow_pipe(source, PIPE);
        fd::grow_pipe(&write, PIPE);
        Some(Side { read, write, null, holds: 0, passed: 0, teed: 0 })
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
        let n = match fd::tee(source, &self.write, CHUNK) {
            // Either the source is empty or the side pipe is out of slots (many small writes).
            Err(Errno::EAGAIN) if fd::waiting(source) > 0 => {
                self.forget(0);
                fd::tee(source, &self.write, CHUNK)?
            }
            other => other?,
        };
        self.holds += n;
        self.teed = n;
        Ok(n)
    }
}

/// Whether `fd` is ready now.
fn ready(fd: BorrowedFd<'_>, what: PollFlags) -> bool {
    let mut fds = [PollFd::new(fd, what)];
    nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO).is_ok_and(|n| n > 0)
}
