//! The caller's stdin on its way into the jail's own pipe.
//!
//! The caller's descriptor itself never enters the jail: by descriptor a file's mode could be
//! changed, and a pipe opened again for writing, to feed words to whoever reads it next on the host
//! (`while read f; do aj exec -- tool "$f"; rm "$f"; done`). What the command did not read must
//! still be there for that next reader, as it would be without a jail.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};

use crate::sys::{fd, terminal};

/// One page: a pipe of this size holds one buffer, and so has room only when it is empty.
const ONE: usize = 4096;
const CHUNK: usize = 64 * 1024;
/// Looks at once for a large loan to be used up, before waiting by the clock.
const LOOKS: usize = 32;
/// First and longest time to wait between looks.
const WAITS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(64));

/// How often to see whether the terminal is read by lines again.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How bytes get into the jail's pipe.
#[derive(Debug)]
enum Way {
    /// From a pipe: bytes are lent by `tee`, and taken out of the caller's pipe once the jail has
    /// read them. Exact, whenever the command stops reading.
    Lent(Loan),
    /// By `splice`.
    Moved {
        /// A regular file: what was not read is given back.
        file: bool,
    },
    /// By reading and writing: what cannot be spliced.
    Copied {
        /// Read and not yet written.
        pending: Vec<u8>,
        /// As for [`Way::Moved`].
        file: bool,
    },
    /// A file has been moved to its end, and the jail's end of the pipe is closed so that the command
    /// sees that. What it leaves in the pipe is known only when it has ended.
    AtEnd,
}

/// Bytes at the front of the caller's pipe that are also in the jail's. Only when all are used up
/// can more be lent, because `tee` starts at the front.
#[derive(Debug)]
struct Loan {
    bytes: usize,
    /// Where they go when they are taken out.
    null: OwnedFd,
    /// Whether the jail's pipe has its full size. With one page, "room" means "used up", and `poll`
    /// tells; that is right for a command that reads now and then. For one that reads all there is,
    /// [`CHUNK`] at a time is ten times faster, but the moment must be looked for.
    large: bool,
    /// Used up since the size was last changed.
    used: usize,
    /// When to look next.
    look_at: Option<Instant>,
    wait: Duration,
}

/// The relay of stdin. Dropping it closes the jail's end; [`Input::close`] gives back first.
#[derive(Debug)]
pub(super) struct Input {
    /// The end for writing; the one for reading with [`Way::AtEnd`].
    pipe: OwnedFd,
    way: Way,
    /// The jail's pipe was full.
    wait_for_room: bool,
    terminal: bool,
}

impl Input {
    pub(super) fn new(pipe: OwnedFd) -> Input {
        let stdin = fd::standard(0);
        let kind = fstat(stdin).map(|s| SFlag::from_bits_truncate(s.st_mode) & SFlag::S_IFMT);
        let null = (kind == Ok(SFlag::S_IFIFO)).then(fd::write_null).and_then(|null| null.ok());
        let way = match null {
            Some(null) => {
                fd::grow_pipe(&pipe, ONE);
                Way::Lent(Loan { bytes: 0, null, large: false, used: 0, look_at: None, wait: WAITS.0 })
            }
            None => Way::Moved { file: kind == Ok(SFlag::S_IFREG) },
        };
        let terminal = kind == Ok(SFlag::S_IFCHR) && nix::unistd::isatty(stdin).unwrap_or(false);
        Input { pipe, way, wait_for_room: false, terminal }
    }

    /// When to call [`Input::advance`] although nothing was reported.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        match &self.way {
            Way::Lent(loan) => loan.look_at,
            _ => self.is_taken().then(|| Instant::now() + LOOK_EVERY),
        }
    }

    /// Whether each key of the terminal is for somebody else, who is in the foreground with us
    /// (`aj exec -- make | less`): the command, which has a pipe, cannot have asked for that.
    fn is_taken(&self) -> bool {
        self.terminal && !terminal::reads_lines(fd::standard(0))
    }

    /// Whether the terminal, if it is one, is ours to read.
    fn is_ours(&self) -> bool {
        !self.terminal || fd::in_foreground(fd::standard(0)) && !self.is_taken()
    }

    /// What to poll for next. `None`: the clock tells (see [`Input::wake_at`]), or the terminal is
    /// not ours to read now (a background job), and SIGCONT or the clock tells when that changes.
    pub(super) fn poll_fd(&self) -> Option<PollFd<'_>> {
        let waits = match &self.way {
            Way::Lent(loan) if loan.look_at.is_some() => return None,
            Way::Lent(loan) => loan.bytes > 0,
            Way::Moved { .. } => self.wait_for_room,
            Way::Copied { pending, .. } => !pending.is_empty(),
            Way::AtEnd => return None,
        };
        if waits {
            Some(PollFd::new(self.pipe.as_fd(), PollFlags::POLLOUT))
        } else if !self.is_ours() {
            None
        } else {
            Some(PollFd::new(fd::standard(0), PollFlags::POLLIN))
        }
    }

    /// Move what can be moved now; `seen` is what [`Input::poll_fd`]'s descriptor reported.
    /// `false` at the end, or when nobody inside reads any more.
    pub(super) fn advance(&mut self, seen: PollFlags) -> bool {
        if let Way::Lent(loan) = &mut self.way {
            let due = loan.look_at.is_some_and(|at| Instant::now() >= at);
            return (seen.is_empty() && !due) || loan.advance(&self.pipe, seen);
        }
        if seen.is_empty() || seen.contains(PollFlags::POLLIN) && !self.is_ours() {
            return true;
        }
        match &mut self.way {
            Way::Lent(_) | Way::AtEnd => true,
            Way::Moved { .. } => self.move_on(),
            Way::Copied { .. } => self.copy(),
        }
    }

    fn move_on(&mut self) -> bool {
        if std::mem::take(&mut self.wait_for_room) {
            return true;
        }
        let Way::Moved { file } = self.way else { return true };
        match fd::splice(fd::standard(0), &self.pipe, CHUNK) {
            Ok(0) => file && self.end_of_file(),
            Ok(_) | Err(Errno::EINTR) => true,
            // The source said that it was ready, so it is the pipe that was not.
            Err(Errno::EAGAIN) => {
                self.wait_for_room = true;
                true
            }
            Err(Errno::EPIPE) => false,
            Err(_) => {
                // The jail may fill its own pipe (by opening it for writing): never block on it.
                self.way = Way::Copied { pending: Vec::new(), file };
                fd::set_nonblocking(&self.pipe).is_ok()
            }
        }
    }

    fn copy(&mut self) -> bool {
        let Way::Copied { pending, file } = &mut self.way else { return true };
        if pending.is_empty() {
            match fd::read_to(fd::standard(0), pending, ONE) {
                Ok(0) => *file && self.end_of_file(),
                Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => true,
                Err(_) => false,
            }
        } else {
            match nix::unistd::write(&self.pipe, pending) {
                Ok(n) => {
                    pending.drain(..n);
                    true
                }
                Err(Errno::EAGAIN | Errno::EINTR) => true,
                Err(_) => false,
            }
        }
    }

    /// Let the command see the end and keep an eye on what it has still to read. `false`: without one,
    /// everything counts as read.
    fn end_of_file(&mut self) -> bool {
        let Ok(reader) = fd::other_end(&self.pipe) else { return false };
        self.pipe = reader;
        self.way = Way::AtEnd;
        true
    }

    /// Close the jail's end. What nobody inside read stays with the caller: the next reader of the
    /// same file description or pipe continues where the command stopped.
    pub(super) fn close(self) {
        let unread = fd::waiting(&self.pipe);
        match self.way {
            Way::Lent(mut loan) => loan.take_back(loan.bytes.saturating_sub(unread)),
            Way::Moved { file: true } | Way::AtEnd => rewind(unread),
            Way::Copied { pending, file: true } => rewind(unread + pending.len()),
            Way::Moved { file: false } | Way::Copied { file: false, .. } => {}
        }
    }
}

impl Loan {
    fn advance(&mut self, pipe: &OwnedFd, seen: PollFlags) -> bool {
        self.look_at = None;
        if self.bytes > 0 {
            if seen.contains(PollFlags::POLLERR) {
                return false;
            }
            if self.large && !self.is_used_up(pipe) {
                if has_no_reader(pipe) {
                    return false;
                }
                self.look_at = Some(Instant::now() + self.wait);
                self.wait = (self.wait * 2).min(WAITS.1);
                return true;
            }
            self.take_back(self.bytes);
            self.resize(pipe);
        }
        let len = if self.large { CHUNK } else { ONE };
        match fd::tee(fd::standard(0), pipe, len) {
            Ok(0) => false,
            Ok(n) => {
                self.bytes = n;
                true
            }
            Err(Errno::EAGAIN | Errno::EINTR) => true,
            Err(_) => false,
        }
    }

    /// Whether the jail has read everything, looking a few times: a reader that woke us has often
    /// just begun.
    fn is_used_up(&self, pipe: &OwnedFd) -> bool {
        (0..LOOKS).any(|_| {
            let empty = fd::waiting(pipe) == 0;
            if !empty {
                nix::sched::sched_yield().ok();
            }
            empty
        })
    }

    /// With an empty pipe: large for a command that has read [`CHUNK`] bytes, small again for one
    /// that had to be waited for.
    fn resize(&mut self, pipe: &OwnedFd) {
        let large = if self.large { self.wait < WAITS.1 } else { self.used >= CHUNK };
        if large != self.large {
            self.used = 0;
            self.large = large;
            fd::grow_pipe(pipe, if large { CHUNK } else { ONE });
        }
        self.wait = WAITS.0;
    }

    /// Take `n` bytes that the jail has read out of the caller's pipe.
    fn take_back(&mut self, mut n: usize) {
        self.used += n;
        self.bytes = 0;
        while n > 0 {
            match fd::splice(fd::standard(0), &self.null, n) {
                Ok(moved) if moved > 0 => n -= moved.min(n),
                Err(Errno::EINTR) => {}
                // Somebody else has read them meanwhile.
                _ => return,
            }
        }
    }
}

fn has_no_reader(pipe: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

fn rewind(unread: usize) {
    if let Ok(back) = i64::try_from(unread) {
        // Failing (a file that cannot seek) leaves what every relay does.
        nix::unistd::lseek(fd::standard(0), -back, nix::unistd::Whence::SeekCur).ok();
    }
}
