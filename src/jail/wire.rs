//! What pid 1 tells the launcher, over a `SOCK_SEQPACKET` pair: short binary messages, one per
//! packet, with descriptors by `SCM_RIGHTS`; the other way go the descriptors of its plan and the overlays
//! that are made for it. Everything sent before the command starts comes from our own code; nothing the
//! command writes can reach this socket, which it never inherits.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv, recvmsg, sendmsg,
    socketpair,
};

use super::status::Layers;
use crate::store::fault;
use crate::sys::pidfd::{End, Rusage};
use crate::sys::{self, Error};

/// Longest packet.
pub(super) const MAX: usize = 1024;

/// One message of pid 1.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// A step failed; nothing of the command has run.
    Failed {
        /// `call` or `call \`object\``.
        step: String,
        /// Why.
        errno: i32,
        /// Whether it was the exec itself (exit code 126 or 127 instead of 125).
        exec: bool,
    },
    /// The jail's tmpfs is made; the upper layers that it holds follow as descriptors, and are waited for to
    /// be filled.
    Uppers,
    /// The root of the jail is in place, with the overlays that were lent. `pivoted`: the old one lies over it,
    /// for the one that has lent them to detach, which is before the command may start.
    Root {
        /// Otherwise the old one lies below, and stays.
        pivoted: bool,
    },
    /// The command is running, with these layers in force. The jail's `/proc` travels with it;
    /// sockets made in the jail's network namespace can travel the same way.
    Started(Layers),
    /// The master's side of the terminal that the command will have travels with this. Nothing of the
    /// command has run.
    Terminal,
    /// The command, which has a terminal, was stopped (Ctrl-Z): by itself or by its terminal, not by the
    /// launcher.
    Stopped,
    /// The command ended.
    Ended {
        /// How.
        end: End,
        /// Nothing else was left in the jail: nobody can write to the workspace any more, although
        /// pid 1 itself has yet to end.
        alone: bool,
        /// What the command and its descendants used, those that were waited for.
        used: Rusage,
    },
}

/// A connected pair: launcher's end, init's end.
pub fn pair() -> sys::Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(|e| Error::new("socketpair", "", e))
}

impl Message {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        match self {
            Message::Failed { step, errno, exec } => {
                out.push(1);
                out.extend_from_slice(&errno.to_le_bytes());
                out.push(u8::from(*exec));
                out.extend_from_slice(step.as_bytes().get(..step.len().min(MAX - 6)).unwrap_or_default());
            }
            Message::Uppers => out.push(7),
            Message::Root { pivoted } => out.extend_from_slice(&[8, u8::from(*pivoted)]),
            Message::Started(layers) => {
                out.push(2);
                out.extend_from_slice(&layers.to_bits().to_le_bytes());
                out.extend_from_slice(&layers.caches_missing().to_le_bytes());
            }
            Message::Terminal => out.push(5),
            Message::Stopped => out.push(6),
            Message::Ended { end, alone, used } => {
                let (tag, number) = match end {
                    End::Exited(code) => (3, code),
                    End::Signaled(signal) => (4, signal),
                };
                out.push(tag);
                out.extend_from_slice(&number.to_le_bytes());
                out.push(u8::from(*alone));
                for time in [used.user, used.system] {
                    let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
                    out.extend_from_slice(&us.to_le_bytes());
                }
                out.extend_from_slice(&used.peak_rss.to_le_bytes());
            }
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Message> {
        let (tag, rest) = bytes.split_first()?;
        let int = || Some(i32::from_le_bytes(rest.get(..4)?.try_into().ok()?));
        let word = |at: usize| Some(u64::from_le_bytes(rest.get(at..at + 8)?.try_into().ok()?));
        Some(match tag {
            1 => Message::Failed {
                errno: int()?,
                exec: *rest.get(4)? != 0,
                step: String::from_utf8_lossy(rest.get(5..)?).into_owned(),
            },
            2 if rest.len() == 16 => {
                let mut layers = Layers::from_bits(word(0)?);
                layers.without_caches(word(8)?);
                Message::Started(layers)
            }
            7 if rest.is_empty() => Message::Uppers,
            8 if rest.len() == 1 => Message::Root { pivoted: rest == [1] },
            3 | 4 if rest.len() == 29 => {
                let end = if *tag == 3 { End::Exited(int()?) } else { End::Signaled(int()?) };
                let time = |at| word(at).map(Duration::from_micros);
                let used = Rusage { user: time(5)?, system: time(13)?, peak_rss: word(21)? };
                Message::Ended { end, alone: *rest.get(4)? != 0, used }
            }
            5 if rest.is_empty() => Message::Terminal,
            6 if rest.is_empty() => Message::Stopped,
            _ => return None,
        })
    }
}

/// Send one message, with at most one descriptor.
pub fn send(socket: impl AsFd, message: &Message, fd: Option<RawFd>) -> sys::Result<()> {
    fault::point();
    let bytes = message.encode();
    let iov = [IoSlice::new(&bytes)];
    let fds: Vec<RawFd> = fd.into_iter().collect();
    let control = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &control[..0] } else { &control[..] };
    loop {
        match sendmsg::<()>(socket.as_fd().as_raw_fd(), &iov, control, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(Error::new("sendmsg", "status socket", e)),
        }
    }
}

/// Descriptors in one packet; the kernel takes 253 (`SCM_MAX_FD`).
const PACKED: usize = 64;

/// Send descriptors alone, however many.
pub fn send_descriptors(socket: impl AsFd, fds: &[OwnedFd]) -> sys::Result<()> {
    for some in fds.chunks(PACKED) {
        let raw: Vec<RawFd> = some.iter().map(AsRawFd::as_raw_fd).collect();
        let control = [ControlMessage::ScmRights(&raw)];
        let flags = MsgFlags::MSG_NOSIGNAL;
        loop {
            match sendmsg::<()>(socket.as_fd().as_raw_fd(), &[IoSlice::new(b"d")], &control, flags, None) {
                Ok(_) => break,
                Err(Errno::EINTR) => {}
                Err(e) => return Err(Error::new("sendmsg", "descriptors", e)),
            }
        }
    }
    Ok(())
}

/// Send one byte to pid 1. One that has ended hears nothing, and has said itself why.
fn send_word(socket: impl AsFd, word: &[u8; 1]) -> sys::Result<()> {
    fault::point();
    match nix::sys::socket::send(socket.as_fd().as_raw_fd(), word, MsgFlags::MSG_NOSIGNAL) {
        Ok(_) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
        Err(e) => Err(Error::new("send", "status socket", e)),
    }
}

/// Send word that the descriptors that were promised do not come.
pub fn send_none(socket: impl AsFd) -> sys::Result<()> {
    send_word(socket, b"n")
}

/// Send word that `lo` is up in the jail.
pub fn send_loopback(socket: impl AsFd) -> sys::Result<()> {
    send_word(socket, b"l")
}

/// Whether [`send_loopback`] has been heard by now. Does not wait, and takes nothing that comes later.
pub fn is_loopback_up(socket: impl AsFd) -> bool {
    let socket = socket.as_fd().as_raw_fd();
    let mut byte = [0u8; 1];
    loop {
        match recv(socket, &mut byte, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
            Ok(1) if byte == *b"s" => return false,
            Ok(1) => {}
            Err(Errno::EINTR) => continue,
            _ => return false,
        }
        let up = byte == *b"l";
        if recv(socket, &mut byte, MsgFlags::MSG_DONTWAIT).is_ok() && up {
            return true;
        }
    }
}

/// Wait for [`Message::Root`] of pid 1, and take it. `None`: it has failed or ended, which is for others to hear.
pub fn wait_root(socket: impl AsFd) -> Option<bool> {
    let socket = socket.as_fd();
    let mut bytes = [0u8; 2];
    loop {
        match recv(socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_PEEK) {
            // See `receive`: what it sent before it ended is still to be heard.
            Err(Errno::EINTR | Errno::ECONNRESET) => {}
            Ok(2) if matches!(Message::decode(&bytes), Some(Message::Root { .. })) => break,
            _ => return None,
        }
    }
    match receive(socket, false) {
        Ok(Received::Message(Message::Root { pivoted }, _)) => Some(pivoted),
        _ => None,
    }
}

/// Tell pid 1 that its command may start, once it has stepped in by these `doors`. One that has failed already
/// says why itself.
pub fn send_start(socket: impl AsFd, doors: &[OwnedFd]) -> sys::Result<()> {
    if doors.is_empty() {
        return send_word(socket, b"s");
    }
    let doors: Vec<_> = doors.iter().map(AsFd::as_fd).collect();
    match send_packet(socket, b"s", &doors) {
        Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
        Err(e) => Err(Error::new("send", "status socket", e)),
    }
}

/// Wait for [`send_start`]: what it was given. `None`: the other side is gone.
pub fn wait_start(socket: impl AsFd) -> Option<Vec<OwnedFd>> {
    loop {
        let mut byte = [0u8; 1];
        let mut space = nix::cmsg_space!([RawFd; PACKED]);
        let mut iov = [IoSliceMut::new(&mut byte)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let got = match recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut iov, Some(&mut space), flags) {
            Err(Errno::EINTR) => continue,
            other => other.ok()?,
        };
        if got.bytes == 0 {
            return None;
        }
        let mut doors = Vec::new();
        for c in got.cmsgs().ok()? {
            if let ControlMessageOwned::ScmRights(fds) = c {
                doors.extend(fds.into_iter().map(own));
            }
        }
        // Other words are about overlays, from one that was lent and killed after it had sent them; `lo`, too late.
        if byte == *b"s" {
            return Some(doors);
        }
    }
}

/// Wait for `count` descriptors; fewer when there are no more. `None`: the other side is gone.
pub fn receive_descriptors(socket: impl AsFd, count: usize) -> sys::Result<Option<Vec<OwnedFd>>> {
    let fail = |e| Error::new("recvmsg", "descriptors", e);
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let mut byte = [0u8; 1];
        let mut iov = [IoSliceMut::new(&mut byte)];
        let mut space = nix::cmsg_space!([RawFd; PACKED]);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let got = match recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut iov, Some(&mut space), flags) {
            Err(Errno::EINTR) => continue,
            Err(Errno::ECONNRESET) => return Ok(None),
            other => other.map_err(fail)?,
        };
        if got.bytes == 0 {
            return Ok(None);
        }
        let before = all.len();
        for c in got.cmsgs().map_err(fail)? {
            if let ControlMessageOwned::ScmRights(fds) = c {
                all.extend(fds.into_iter().map(own));
            }
        }
        if all.len() == before {
            break;
        }
    }
    Ok(Some(all))
}

/// Send `bytes` and at most [`PACKED`] descriptors as one packet, without waiting for room.
pub(super) fn send_packet(
    socket: impl AsFd,
    bytes: &[u8],
    fds: &[std::os::fd::BorrowedFd<'_>],
) -> Result<(), Errno> {
    fault::point();
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &control[..0] } else { &control[..] };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    loop {
        match sendmsg::<()>(socket.as_fd().as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// The next packet and its descriptors, if one is there. Empty: the other side is gone. What is longer than
/// [`MAX`] or has more than [`PACKED`] descriptors is `EMSGSIZE`.
pub(super) fn receive_packet(socket: impl AsFd) -> Result<(Vec<u8>, Vec<OwnedFd>), Errno> {
    let mut bytes = [0u8; MAX];
    let mut space = nix::cmsg_space!([RawFd; PACKED]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let mut iov = [IoSliceMut::new(&mut bytes)];
    loop {
        match recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut iov, Some(&mut space), flags) {
            Ok(got) => {
                let mut fds = Vec::new();
                let cut = got.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC);
                for c in got.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(raw) = c {
                        fds.extend(raw.into_iter().map(own));
                    }
                }
                let n = got.bytes;
                return if cut {
                    Err(Errno::EMSGSIZE)
                } else {
                    Ok((bytes.get(..n).unwrap_or_default().to_vec(), fds))
                };
            }
            Err(Errno::EINTR) => {}
            // It was closed with something unread in it.
            Err(Errno::ECONNRESET) => return Ok((Vec::new(), Vec::new())),
            Err(e) => return Err(e),
        }
    }
}

/// Whether the other side has gone. A process closes its sockets before its children are told of its
/// death, so a child that has asked to be told and then finds this `false` misses nothing.
pub fn is_closed(socket: impl AsFd) -> bool {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    matches!(recv(socket.as_fd().as_raw_fd(), &mut [0u8; 1], flags), Ok(0) | Err(Errno::ECONNRESET))
}

/// What [`receive`] found.
#[derive(Debug)]
pub enum Received {
    /// A message, and the descriptor that came with it.
    Message(Message, Option<OwnedFd>),
    /// Nothing yet.
    Nothing,
    /// The other side is gone.
    Closed,
}

/// Receive one message without blocking (`block == false`) or waiting for one.
pub fn receive(socket: impl AsFd, block: bool) -> sys::Result<Received> {
    let mut bytes = [0u8; MAX];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | if block { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
    let mut iov = [IoSliceMut::new(&mut bytes)];
    let (n, fd) = loop {
        match recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut iov, Some(&mut space), flags) {
            Ok(r) => {
                let mut fd = None;
                for c in r.cmsgs().map_err(|e| Error::new("recvmsg", "status socket", e))? {
                    if let ControlMessageOwned::ScmRights(fds) = c {
                        fd = fds.into_iter().map(own).next();
                    }
                }
                break (r.bytes, fd);
            }
            // The other side ended before it had read what we sent: said once, and ahead of what it had
            // sent itself.
            Err(Errno::EINTR | Errno::ECONNRESET) => {}
            Err(Errno::EAGAIN) => return Ok(Received::Nothing),
            Err(e) => return Err(Error::new("recvmsg", "status socket", e)),
        }
    };
    if n == 0 {
        return Ok(Received::Closed);
    }
    bytes
        .get(..n)
        .and_then(Message::decode)
        .map(|m| Received::Message(m, fd))
        .ok_or_else(|| Error::new("decode", "status message", Errno::EBADMSG))
}

fn own(fd: RawFd) -> OwnedFd {
    sys::fd::received(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip_and_garbage_is_refused() {
        let mut without = Layers::from_bits(3);
        without.without_caches(1 << 63 | 2);
        for m in [
            Message::Uppers,
            Message::Root { pivoted: true },
            Message::Root { pivoted: false },
            Message::Started(without),
            Message::Failed { step: "mount `proc`".into(), errno: 1, exec: false },
            Message::Started(Layers::from_bits(0x1ff)),
            Message::Terminal,
            Message::Stopped,
            Message::Ended { end: End::Exited(255), alone: true, used: Rusage::default() },
            Message::Ended {
                end: End::Signaled(9),
                alone: false,
                used: Rusage {
                    user: Duration::from_micros(1),
                    system: Duration::from_secs(7),
                    peak_rss: u64::MAX,
                },
            },
        ] {
            assert_eq!(Message::decode(&m.encode()), Some(m));
        }
        for bad in [&b""[..], b"\x09", b"\x02\x01", b"\x03\x01\x02", b"\x05\x01", b"\x08"] {
            assert_eq!(Message::decode(bad), None);
        }
    }

    #[test]
    fn words_of_the_launcher_are_told_apart_whatever_came_before() {
        let (a, b) = pair().unwrap();
        assert!(!is_loopback_up(&b));
        send_none(&a).unwrap();
        send_loopback(&a).unwrap();
        send_start(&a, &[]).unwrap();
        assert!(is_loopback_up(&b));
        assert!(!is_loopback_up(&b) && wait_start(&b).is_some(), "the last word stays");
        send_start(&a, &[]).unwrap();
        assert!(!is_loopback_up(&b) && wait_start(&b).is_some());
        send_loopback(&a).unwrap();
        send_start(&a, &[]).unwrap();
        assert!(wait_start(&b).is_some(), "one that nobody asked about any more");
        drop(a);
        assert!(!is_loopback_up(&b) && wait_start(&b).is_none());
    }

    #[test]
    fn many_descriptors_arrive_in_order_and_a_closed_socket_is_no_error() {
        let (a, b) = pair().unwrap();
        let pipes: Vec<_> = (0..150).map(|_| sys::fd::pipe().unwrap()).collect();
        let (reads, writes): (Vec<_>, Vec<_>) = pipes.into_iter().unzip();
        send_descriptors(&a, &reads).unwrap();
        let got = receive_descriptors(&b, 150).unwrap().unwrap();
        for (i, w) in writes.iter().enumerate() {
            nix::unistd::write(w, &[i as u8]).unwrap();
        }
        for (i, r) in got.iter().enumerate() {
            let mut byte = [0];
            nix::unistd::read(r, &mut byte).unwrap();
            assert_eq!(byte[0], i as u8);
        }
        drop(a);
        assert!(receive_descriptors(&b, 0).unwrap().is_some());
        assert!(receive_descriptors(&b, 1).unwrap().is_none());
    }

    #[test]
    fn the_last_word_is_heard_whatever_was_left_unread() {
        let (a, b) = pair().unwrap();
        send_none(&a).unwrap();
        let failed = Message::Failed { step: "open".into(), errno: 24, exec: false };
        send(&b, &failed, None).unwrap();
        drop(b);
        let Received::Message(said, None) = receive(&a, true).unwrap() else { panic!("nothing said") };
        assert_eq!(said, failed);
        assert!(matches!(receive(&a, true).unwrap(), Received::Closed));
    }

    #[test]
    fn one_that_ends_after_its_root_is_in_place_is_heard_to_the_end() {
        let (a, b) = pair().unwrap();
        send_loopback(&a).unwrap();
        let failed = Message::Failed { step: "sethostname".into(), errno: 1, exec: false };
        send(&b, &Message::Root { pivoted: true }, None).unwrap();
        send(&b, &failed, None).unwrap();
        drop(b);
        assert_eq!(wait_root(&a), Some(true));
        assert_eq!(wait_root(&a), None);
        let Received::Message(said, None) = receive(&a, true).unwrap() else { panic!("nothing said") };
        assert_eq!(said, failed);
    }

    #[test]
    fn descriptors_that_do_not_come_are_not_waited_for() {
        let (a, b) = pair().unwrap();
        let (r, _w) = sys::fd::pipe().unwrap();
        send_descriptors(&a, &[r]).unwrap();
        send_none(&a).unwrap();
        assert_eq!(receive_descriptors(&b, 2).unwrap().unwrap().len(), 1);
        drop(b);
        send_none(&a).unwrap();
    }

    #[test]
    fn descriptors_travel_with_their_message() {
        let (a, b) = pair().unwrap();
        let (r, w) = sys::fd::pipe().unwrap();
        let started = Message::Started(Layers::from_bits(3));
        send(&b, &started, Some(r.as_raw_fd())).unwrap();
        drop(r);
        let Received::Message(Message::Started(_), Some(got)) = receive(&a, true).unwrap() else {
            panic!("no descriptor")
        };
        nix::unistd::write(&w, b"x").unwrap();
        let mut byte = [0];
        assert_eq!(nix::unistd::read(&got, &mut byte), Ok(1));
        assert!(matches!(receive(&a, false).unwrap(), Received::Nothing));
        assert!(!is_closed(&a));
        send(&b, &Message::Started(Layers::default()), None).unwrap();
        assert!(!is_closed(&a));
        assert!(matches!(receive(&a, false).unwrap(), Received::Message(..)));
        drop(b);
        assert!(is_closed(&a));
        assert!(matches!(receive(&a, true).unwrap(), Received::Closed));
    }
}
