//! What is said between a command that joins a jail and the jail's pid 1: packets over a `SOCK_SEQPACKET`
//! socket that nothing in the jail has or can name. Both sides are our own code; they may be of two versions.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::status::Required;
use super::wire;
use crate::sys::terminal::Sent;

/// Version of the packets, of [`Job`] and of whatever a blueprint is.
pub(super) const VERSION: u32 = 5;
/// Largest job or blueprint: arguments and environment are bounded by the kernel's execve at less.
pub(super) const LARGEST: usize = 64 << 20;

/// How pid 1 of a jail that commands join goes about it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serve {
    /// What whoever joins has to know: shown to them, and not looked at here.
    pub blueprint: Vec<u8>,
    /// Milliseconds between SIGTERM and SIGKILL when the jail is stopped.
    pub grace_ms: u64,
    /// It does not end with its last process.
    pub keep: bool,
}

/// A command that joins, as a sealed file carries it.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Working directory.
    pub cwd: CString,
    /// Candidates for execve, in order.
    pub programs: Vec<CString>,
    /// Arguments.
    pub argv: Vec<CString>,
    /// Environment as `K=V`.
    pub env: Vec<CString>,
    /// Its umask.
    pub umask: u32,
    /// Open files per process at most; never more than the jail has.
    pub nofile: Option<u64>,
    /// Layers without which it does not run.
    pub required: Required,
    /// The terminal that it is to have; `None`: pipes.
    pub terminal: Option<Sent>,
}

/// What whoever connects asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// Run the job whose file comes with this; then its status socket; without a terminal its stdin, unless it
    /// has none, its stdout, and its stderr, unless that is the same.
    Exec {
        /// Its stdin comes.
        stdin: bool,
        /// Its stderr comes.
        stderr: bool,
        /// It has a terminal, and nothing of it comes.
        terminal: bool,
        /// Only if nothing else runs, and nothing else shall until it has ended.
        exclusive: bool,
    },
    /// Carry out the order whose file comes with this (see `jail::hands`); then where what is sent along comes
    /// from, and where the answer goes.
    Hand,
    /// Do not end with the last process.
    Keep,
    /// Say what runs.
    Look,
    /// Nothing: the end of this connection is the end of the jail.
    Wait,
    /// The command has ended, and its output is not read any more: take it from whoever still writes.
    Drain,
}

impl Ask {
    fn encode(self) -> Vec<u8> {
        match self {
            Ask::Exec { stdin, stderr, terminal, exclusive } => {
                let bits = [stdin, stderr, terminal, exclusive];
                vec![b'x', bits.iter().enumerate().map(|(n, bit)| u8::from(*bit) << n).sum()]
            }
            Ask::Hand => vec![b'h'],
            Ask::Keep => vec![b'k'],
            Ask::Look => vec![b'i'],
            Ask::Wait => vec![b'w'],
            Ask::Drain => vec![b'd'],
        }
    }

    fn decode(bytes: &[u8]) -> Option<Ask> {
        Some(match bytes {
            [b'x', bits] if *bits < 16 => {
                let bit = |n: u8| bits >> n & 1 == 1;
                Ask::Exec { stdin: bit(0), stderr: bit(1), terminal: bit(2), exclusive: bit(3) }
            }
            [b'h'] => Ask::Hand,
            [b'k'] => Ask::Keep,
            [b'i'] => Ask::Look,
            [b'w'] => Ask::Wait,
            [b'd'] => Ask::Drain,
            _ => return None,
        })
    }

    /// Say it, with its descriptors.
    pub(super) fn send(self, to: impl AsFd, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        wire::send_packet(to, &self.encode(), fds)
    }

    /// What was said; `None`: the other side is gone, or says what nobody understands.
    pub(super) fn receive(from: impl AsFd) -> Result<Option<(Ask, Vec<OwnedFd>)>, Errno> {
        let (bytes, fds) = wire::receive_packet(from)?;
        Ok(Ask::decode(&bytes).map(|ask| (ask, fds)))
    }
}

/// What pid 1 answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Said at once to whoever connects: its version. The blueprint comes with it.
    Hello(u32),
    /// It is taken: its process is being made.
    Taken,
    /// The process that minds the command, as the jail numbers it. Its pidfd comes with this.
    Forked(i32),
    /// So many commands run already, or there is one that wants to be alone.
    Busy(u32),
    /// It could not be made.
    Failed(Errno),
    /// Done; or the command has ended, and the jail goes on.
    Done,
    /// So many commands and, as far as that can be told, processes.
    Seen {
        /// Commands that joined.
        commands: u32,
        /// Processes, ours not counted.
        processes: u32,
        /// It does not end with its last process.
        keep: bool,
    },
}

impl Answer {
    fn encode(self) -> Vec<u8> {
        let with = |tag: u8, numbers: &[u32]| {
            let mut out = vec![tag];
            numbers.iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
            out
        };
        match self {
            Answer::Hello(version) => with(b'h', &[version]),
            Answer::Taken => with(b't', &[]),
            Answer::Forked(pid) => with(b'f', &[pid.unsigned_abs()]),
            Answer::Busy(n) => with(b'b', &[n]),
            Answer::Failed(errno) => with(b'e', &[(errno as i32).unsigned_abs()]),
            Answer::Done => with(b'l', &[]),
            Answer::Seen { commands, processes, keep } => with(b's', &[commands, processes, keep.into()]),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Answer> {
        let (tag, rest) = bytes.split_first()?;
        let words: Vec<u32> =
            rest.chunks(4).map(|w| w.try_into().map(u32::from_le_bytes)).collect::<Result<_, _>>().ok()?;
        let signed = |n: u32| i32::try_from(n).ok();
        Some(match (tag, &*words) {
            (b'h', [version]) => Answer::Hello(*version),
            (b't', []) => Answer::Taken,
            (b'f', [pid]) => Answer::Forked(signed(*pid)?),
            (b'b', [n]) => Answer::Busy(*n),
            (b'e', [errno]) => Answer::Failed(Errno::from_raw(signed(*errno)?)),
            (b'l', []) => Answer::Done,
            (b's', [commands, processes, keep]) => {
                Answer::Seen { commands: *commands, processes: *processes, keep: *keep != 0 }
            }
            _ => return None,
        })
    }

    /// Say it. Whoever does not listen any more is not waited for.
    pub(super) fn send(self, to: impl AsFd, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        wire::send_packet(to, &self.encode(), fds)
    }

    /// What was said; `None`: the jail is gone.
    pub(super) fn receive(from: impl AsFd) -> Result<Option<(Answer, Vec<OwnedFd>)>, Errno> {
        let (bytes, fds) = wire::receive_packet(from)?;
        match Answer::decode(&bytes) {
            Some(answer) => Ok(Some((answer, fds))),
            None if bytes.is_empty() => Ok(None),
            None => Err(Errno::EBADMSG),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fd;

    #[test]
    fn what_is_said_arrives_as_it_was_said() {
        let (a, b) = wire::pair().unwrap();
        let (r, _w) = fd::pipe().unwrap();
        let exec = |n: u8| Ask::Exec {
            stdin: n & 1 != 0,
            stderr: n & 2 != 0,
            terminal: n & 4 != 0,
            exclusive: n & 8 != 0,
        };
        for ask in (0..16).map(exec).chain([Ask::Hand, Ask::Keep, Ask::Look, Ask::Wait, Ask::Drain]) {
            ask.send(&a, &[r.as_fd()]).unwrap();
            let (got, fds) = Ask::receive(&b).unwrap().unwrap();
            assert_eq!((got, fds.len()), (ask, 1));
        }
        for answer in [
            Answer::Hello(7),
            Answer::Taken,
            Answer::Forked(12),
            Answer::Busy(3),
            Answer::Failed(Errno::EAGAIN),
            Answer::Done,
            Answer::Seen { commands: 1, processes: 2, keep: true },
        ] {
            answer.send(&b, &[]).unwrap();
            assert_eq!(Answer::receive(&a).unwrap().unwrap().0, answer);
        }
        assert_eq!(Answer::receive(&a).unwrap_err(), Errno::EAGAIN);
        wire::send_packet(&b, b"?", &[]).unwrap();
        assert_eq!(Answer::receive(&a).unwrap_err(), Errno::EBADMSG);
        wire::send_packet(&a, b"x\xff", &[]).unwrap();
        assert!(Ask::receive(&b).unwrap().is_none());
        drop(b);
        assert!(Answer::receive(&a).unwrap().is_none());
    }
}
