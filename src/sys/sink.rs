//! One of the caller's descriptors, written without ever blocking, so that the clock and the signals
//! work whatever the reader does.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};

use super::fd;

/// How to write without blocking.
#[derive(Debug)]
enum Kind {
    /// A regular file or a device: never waits for a reader.
    File,
    /// A pipe: `RWF_NOWAIT`, where the kernel knows it for pipes.
    Pipe,
    /// A socket: `MSG_DONTWAIT`.
    Socket,
    /// A terminal, or a pipe of an older kernel: through a description of our own that is
    /// non-blocking.
    Reopened(OwnedFd),
    /// As before, but it may not be opened again (it belongs to another user): a few bytes at a
    /// time, when it says that it is ready.
    Careful,
}

/// Bytes that a pipe or a terminal which has said that it is ready takes without blocking, if
/// nobody else writes to it.
const CAREFUL: usize = 64;

/// One of the caller's descriptors.
#[derive(Debug)]
pub struct Sink<'a> {
    to: BorrowedFd<'a>,
    kind: Kind,
}

impl<'a> Sink<'a> {
    /// Looks at what `to` is, so it is made when there is something to write: most runs of short
    /// commands leave stderr alone.
    pub fn new(to: BorrowedFd<'a>) -> Sink<'a> {
        let kind = match fstat(to).map(|s| SFlag::from_bits_truncate(s.st_mode) & SFlag::S_IFMT) {
            Ok(SFlag::S_IFIFO) => Kind::Pipe,
            Ok(SFlag::S_IFSOCK) => Kind::Socket,
            Ok(SFlag::S_IFCHR) if nix::unistd::isatty(to).unwrap_or(false) => reopened(to),
            _ => Kind::File,
        };
        Sink { to, kind }
    }

    /// Whether pages may be moved here by `splice`: it waits for no reader.
    pub fn takes_pages(&self) -> bool {
        // A socket's splice blocks unless its description is non-blocking.
        matches!(self.kind, Kind::File | Kind::Pipe)
    }

    /// Let a pipe hold more: fewer turns between its two ends when much goes through.
    pub fn grow(&self, bytes: usize) {
        if matches!(self.kind, Kind::Pipe) {
            fd::grow_pipe(self.to, bytes);
        }
    }

    /// The descriptor, to splice to.
    pub fn fd(&self) -> BorrowedFd<'a> {
        self.to
    }

    /// To wait until it takes more.
    pub fn poll_fd(&self) -> PollFd<'_> {
        let fd = match &self.kind {
            Kind::Reopened(fd) => fd.as_fd(),
            _ => self.to,
        };
        PollFd::new(fd, PollFlags::POLLOUT)
    }

    /// Write what it takes now. EAGAIN: nothing.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        loop {
            let written = match &self.kind {
                Kind::File => nix::unistd::write(self.to, bytes),
                Kind::Pipe => match fd::write_nowait(self.to, bytes) {
                    Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                        self.kind = reopened(self.to);
                        continue;
                    }
                    other => other,
                },
                Kind::Socket => fd::send_nowait(self.to, bytes),
                Kind::Reopened(fd) => nix::unistd::write(fd, bytes),
                Kind::Careful if !ready(self.to) => Err(Errno::EAGAIN),
                Kind::Careful => {
                    nix::unistd::write(self.to, bytes.get(..bytes.len().min(CAREFUL)).unwrap_or_default())
                }
            };
            if written != Err(Errno::EINTR) {
                return written;
            }
        }
    }
}

/// Write all of `bytes`, waiting for the reader no longer than `patience` in all. EAGAIN: that did not do.
pub fn write_within(to: BorrowedFd<'_>, bytes: &[u8], patience: Duration) -> Result<(), Errno> {
    let (mut sink, mut rest, started) = (Sink::new(to), bytes, Instant::now());
    while !rest.is_empty() {
        match sink.write(rest) {
            Ok(n) if n > 0 => rest = rest.get(n..).unwrap_or_default(),
            Ok(_) | Err(Errno::EAGAIN) => {
                let left = patience.saturating_sub(started.elapsed());
                // `poll` counts whole milliseconds.
                let ms = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
                match poll(&mut [sink.poll_fd()], ms) {
                    Ok(n) if n > 0 => {}
                    Err(Errno::EINTR) => {}
                    _ => return Err(Errno::EAGAIN),
                }
                if left.is_zero() {
                    return Err(Errno::EAGAIN);
                }
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn reopened(to: BorrowedFd<'_>) -> Kind {
    fd::reopen_nonblocking(to).map_or(Kind::Careful, Kind::Reopened)
}

fn ready(fd: BorrowedFd<'_>) -> bool {
    poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_takes_nothing_is_waited_for_so_long_and_no_longer() {
        let (read, write) = fd::pipe().unwrap();
        let write = write.as_fd();
        let patience = Duration::from_millis(40);
        assert_eq!(write_within(write, b"few", patience), Ok(()));
        let started = Instant::now();
        assert_eq!(write_within(write, &[0; 100_000], patience), Err(Errno::EAGAIN));
        assert!(started.elapsed() >= patience);
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            while all.len() < 200_000 && fd::read_to(&read, &mut all, 65_536).is_ok_and(|n| n > 0) {}
            // Open to the end: what was there before still waits in the pipe.
            read
        });
        assert_eq!(write_within(write, &[0; 200_000], Duration::from_secs(10)), Ok(()));
        drop(reader.join().unwrap());
    }
}
