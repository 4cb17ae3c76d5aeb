//! What is done in a live jail by a process of ours that executes nothing (see `jail::hands`), and how it is
//! asked for.
//!
//! Two pipes lead to it. What is sent along comes in pieces, each with its length, and the end is said: a pipe
//! that ends before says that whoever asked is gone, and nothing is finished then. It comes when it is asked for,
//! so that who refuses need not read. The answer begins with its length.
//!
//! Whatever runs in the jail may stop that process or kill it, and change under its hands what it works at. It can
//! make it fail, and cannot speak for it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{files, jobs};
use crate::jail::hands;
use crate::jail::join::{Handed, Live};
use crate::sys::{self, fd};

/// Bytes sent at once.
const PIECE: usize = 64 << 10;
/// Bytes of an answer at most.
const MOST: u32 = 32 << 20;
/// How long it may be stopped by somebody.
const STOPPED: Duration = Duration::from_secs(5);
/// How often one looks whether it is.
const LOOK: Duration = Duration::from_millis(500);

/// What it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Changes of files: `files::inside::Told`.
    Files,
    /// A question to a server in it: `jobs::knock`.
    Http,
}

/// What came of asking.
#[derive(Debug)]
pub(super) enum Asked {
    /// The answer.
    Answer(Vec<u8>),
    /// The jail has ended, and nothing was done.
    Gone,
    /// A command runs that is to be alone, among so many.
    Busy(u32),
    /// The jail could make no process.
    Refused(Errno),
    /// What is sent along could not be read here: it was called off.
    Source(io::Error),
    /// It has not said what came of it.
    Lost {
        /// It had all that it needs to finish.
        all_sent: bool,
        /// Why.
        why: &'static str,
    },
}

/// Have jails that this process makes know what to do.
pub(super) fn teach() {
    hands::teach(work);
}

/// In the jail.
fn work(order: &[u8], input: File, output: File) {
    let Some((kind, order)) = order.split_first() else { return };
    let mut data = Data { input, output: &output, asked: false, left: 0, ended: false };
    let answer = match kind {
        b'f' => files::inside::carry_out(order, &mut data),
        b'h' => jobs::knock::carry_out(order),
        _ => return,
    };
    let Ok(length) = u32::try_from(answer.len()) else { return };
    let mut output = &output;
    let said = output.write_all(b"a").and_then(|()| output.write_all(&length.to_le_bytes()));
    // Whoever is gone does not want to know.
    drop(said.and_then(|()| output.write_all(&answer)));
}

/// What is sent along, in the jail.
struct Data<'a> {
    input: File,
    output: &'a File,
    asked: bool,
    left: u32,
    ended: bool,
}

impl Read for Data<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.asked {
            self.output.write_all(b"w")?;
            self.asked = true;
        }
        if self.ended || into.is_empty() {
            return Ok(0);
        }
        if self.left == 0 {
            let mut length = [0; 4];
            self.input.read_exact(&mut length)?;
            self.left = u32::from_le_bytes(length);
            if self.left == 0 {
                self.ended = true;
                return Ok(0);
            }
        }
        let most = into.len().min(self.left as usize);
        let n = self.input.read(into.get_mut(..most).unwrap_or_default())?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= u32::try_from(n).unwrap_or(self.left);
        Ok(n)
    }
}

/// Ask, and wait for the answer. `data` is sent along if that is asked for; `paused` says whether the jail
/// stands still.
pub(super) fn ask(
    live: Live,
    kind: Kind,
    order: &[u8],
    data: Option<&mut dyn Read>,
    paused: &dyn Fn() -> bool,
) -> sys::Result<Asked> {
    let (input, to) = fd::pipe()?;
    let (from, output) = fd::pipe()?;
    let tag: &[u8] = match kind {
        Kind::Files => b"f",
        Kind::Http => b"h",
    };
    let hand = match live.hand(&[tag, order].concat(), &input, &output)? {
        Handed::Taken(hand) => hand,
        Handed::Busy(n) => return Ok(Asked::Busy(n)),
        Handed::Gone => return Ok(Asked::Gone),
        Handed::Refused(errno) => return Ok(Asked::Refused(errno)),
    };
    drop((input, output));
    fd::set_nonblocking(&to)?;
    fd::set_nonblocking(&from)?;
    let watch = Watch { pid: hand.pid, paused };
    let mut talk = Talk { to: Some(to), from, heard: Vec::new(), watch, all_sent: data.is_none() };
    // What needs nothing may be done from the first moment on.
    match talk.run(data) {
        Ok(answer) => Ok(Asked::Answer(answer)),
        Err(Stop::Source(e)) => Ok(Asked::Source(e)),
        Err(Stop::Lost(why)) => Ok(Asked::Lost { all_sent: talk.all_sent, why }),
    }
}

/// Looks whether the other side is kept from answering.
struct Watch<'a> {
    pid: Option<i32>,
    paused: &'a dyn Fn() -> bool,
}

impl Watch<'_> {
    /// Whether somebody has stopped it.
    fn is_stopped(&self) -> bool {
        let stat =
            self.pid.and_then(|pid| std::fs::read(format!("/proc/{pid}/stat")).ok()).unwrap_or_default();
        // After the name, in which there may be anything.
        let after = stat.iter().rposition(|b| *b == b')').and_then(|at| stat.get(at + 2));
        matches!(after, Some(b'T' | b't'))
    }
}

enum Stop {
    Source(io::Error),
    Lost(&'static str),
}

struct Talk<'a> {
    to: Option<OwnedFd>,
    from: OwnedFd,
    heard: Vec<u8>,
    watch: Watch<'a>,
    all_sent: bool,
}

impl Talk<'_> {
    fn run(&mut self, data: Option<&mut dyn Read>) -> Result<Vec<u8>, Stop> {
        let mut data = data;
        loop {
            match self.heard.first() {
                None => {
                    self.wait(false)?;
                    self.hear()?;
                }
                Some(b'w') => {
                    self.heard.remove(0);
                    if let Some(data) = data.take() {
                        self.send(data)?;
                    }
                    self.all_sent = true;
                }
                Some(b'a') => return self.answer(),
                Some(_) => return Err(Stop::Lost("it says what nobody understands")),
            }
            if self.heard.first() == Some(&b'a') {
                return self.answer();
            }
        }
    }

    fn answer(&mut self) -> Result<Vec<u8>, Stop> {
        loop {
            let length = self.heard.get(1..5).and_then(|l| l.try_into().ok()).map(u32::from_le_bytes);
            match length {
                Some(length) if length > MOST => return Err(Stop::Lost("its answer is too long")),
                Some(length) if self.heard.len() >= 5 + length as usize => {
                    return Ok(self.heard.get(5..5 + length as usize).unwrap_or_default().to_vec());
                }
                _ => {
                    self.wait(false)?;
                    self.hear()?;
                }
            }
        }
    }

    /// Send all that `data` has, unless an answer comes before that.
    fn send(&mut self, data: &mut dyn Read) -> Result<(), Stop> {
        let mut piece = vec![0; 4 + PIECE];
        loop {
            let n = match data.read(piece.get_mut(4..).unwrap_or_default()) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Stop::Source(e)),
            };
            if n == 0 {
                // From here on it may be done.
                self.all_sent = true;
            }
            if let (Some(head), Ok(n)) = (piece.get_mut(..4), u32::try_from(n)) {
                head.copy_from_slice(&n.to_le_bytes());
            }
            let mut rest = piece.get(..4 + n).unwrap_or_default();
            while !rest.is_empty() {
                if !self.wait(true)? {
                    return Ok(());
                }
                let Some(to) = &self.to else { return Ok(()) };
                match nix::unistd::write(to, rest) {
                    Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                    Err(Errno::EAGAIN | Errno::EINTR) => {}
                    // It has an answer, or is gone.
                    Err(_) => return Ok(()),
                }
            }
            if n == 0 {
                return Ok(());
            }
        }
    }

    /// Wait until there is something to hear, or with `room` until something can be sent: whether it can.
    fn wait(&self, room: bool) -> Result<bool, Stop> {
        let mut stopped: Option<Instant> = None;
        loop {
            let mut fds = vec![PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
            fds.extend(
                self.to.as_ref().filter(|_| room).map(|to| PollFd::new(to.as_fd(), PollFlags::POLLOUT)),
            );
            let timeout = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, timeout) {
                Ok(0) => {}
                Ok(_) => {
                    let seen =
                        |at: usize| fds.get(at).and_then(PollFd::revents).is_some_and(|r| !r.is_empty());
                    return Ok(!seen(0));
                }
                Err(Errno::EINTR) => continue,
                Err(_) => return Err(Stop::Lost("it could not be waited for")),
            }
            if (self.watch.paused)() {
                return Err(Stop::Lost("it was paused meanwhile"));
            }
            if !self.watch.is_stopped() {
                stopped = None;
            } else if stopped.get_or_insert_with(Instant::now).elapsed() >= STOPPED {
                return Err(Stop::Lost("something in it stopped the process that was at it"));
            }
        }
    }

    fn hear(&mut self) -> Result<(), Stop> {
        match fd::read_to(&self.from, &mut self.heard, PIECE) {
            Ok(0) => Err(Stop::Lost("the process that was at it was killed, or could not begin")),
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(_) => Err(Stop::Lost("it could not be heard")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(bytes: &[u8], output: &File) -> io::Result<Vec<u8>> {
        let (read, write) = fd::pipe().unwrap();
        File::from(write).write_all(bytes).unwrap();
        let mut data = Data { input: File::from(read), output, asked: false, left: 0, ended: false };
        let mut all = Vec::new();
        data.read_to_end(&mut all).map(|_| all)
    }

    #[test]
    fn what_is_sent_along_has_an_end_that_is_said() {
        let (read, write) = fd::pipe().unwrap();
        let output = File::from(write);
        assert_eq!(data(b"\x02\0\0\0ab\x01\0\0\0c\0\0\0\0", &output).unwrap(), b"abc");
        for cut in [&b""[..], b"\x02\0", b"\x02\0\0\0a", b"\x02\0\0\0ab"] {
            let e = data(cut, &output).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::UnexpectedEof, "{cut:?}");
        }
        drop(output);
        let mut asked = Vec::new();
        File::from(read).read_to_end(&mut asked).unwrap();
        assert_eq!(asked, b"wwwww");
    }
}
