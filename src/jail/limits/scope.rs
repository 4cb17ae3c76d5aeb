//! A scope of the user's own service manager, or of root's, for who has no group of his own: `StartTransientUnit` of
//! `org.freedesktop.systemd1.Manager`, spoken over the manager's private socket, where no bus stands between. It
//! takes some milliseconds, so it is only asked where nothing cheaper holds what is wanted.
//!
//! A scope is there as long as somebody is in it, and what its group has counted goes with it: it would be gone before
//! anybody can look why a jail ended. So systemd is first given a process that does nothing, and the jail gets a group
//! below, which is ours alone (`Delegate=yes`) and is made and read like any other. Only systemd may move a process in
//! there from elsewhere, or have it born there: it is asked again, for pid 1.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::place;
use crate::base::text;
use crate::host::cgroups::Controller;
use crate::sys::cgroup::Group;
use crate::sys::{Error, Result, clone, errno, pidfd};

/// How long the manager may take: it does one thing after the other, and others ask as well. As long as who calls over
/// a bus waits.
const PATIENCE: Duration = Duration::from_secs(25);
/// Why it cannot hold something.
pub(super) const LACKS: &str = "the service manager of this user (`systemd`) does not have it to hand on";
/// Bytes of one answer at most.
const MOST: usize = 1 << 20;

/// The manager of this user, and the group that it hands out parts of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manager {
    socket: PathBuf,
    pub(super) group: PathBuf,
}

impl Manager {
    /// The one of the user `uid` on a machine with cgroup v2 at `mount`, if it is there: the socket of one that was
    /// stopped may stay. Two stats.
    pub(super) fn of(uid: u32, mount: &Path) -> Option<Manager> {
        let (socket, group) = match uid {
            0 => (PathBuf::from("/run/systemd/private"), mount.to_owned()),
            _ => (
                PathBuf::from(format!("/run/user/{uid}/systemd/private")),
                mount.join(format!("user.slice/user-{uid}.slice/user@{uid}.service")),
            ),
        };
        let is_ours = |m: std::fs::Metadata| m.file_type().is_socket() && m.uid() == uid;
        let is_there = std::fs::symlink_metadata(&socket).is_ok_and(is_ours) && group.is_dir();
        is_there.then_some(Manager { socket, group })
    }

    /// What it cannot hold: it has what root's manager gave it, which often is not `io`.
    pub(super) fn lacks(&self, needed: &[Controller]) -> Vec<Controller> {
        let has = std::fs::read_to_string(self.group.join("cgroup.controllers")).unwrap_or_default();
        let lacks = |c: &Controller| !c.v2().is_some_and(|name| has.split_whitespace().any(|w| w == name));
        needed.iter().copied().filter(lacks).collect()
    }

    /// A scope of this name on the hierarchy at `mount`, and its group, which hands on these controllers.
    pub(super) fn scope(
        self,
        unit: String,
        mount: &Path,
        needed: &[Controller],
    ) -> Result<(Scope, Group, PathBuf)> {
        let keeper = Keeper::park()?;
        let below = self.start(&unit, keeper.pid)?;
        let path = mount.join(below.strip_prefix("/").unwrap_or(&below));
        let group = Group::open(&path)?;
        // A group that hands on controllers has no processes itself.
        group.make(KEEPER)?.enter(keeper.pid)?;
        place::hand_on(&group, needed)?;
        Ok((Scope { manager: self, unit, _keeper: keeper }, group, path))
    }

    /// Put `pid` into a scope of this name; the path of its group, below the mount.
    fn start(&self, name: &str, pid: i32) -> Result<PathBuf> {
        self.ask(START, &start_transient(name, pid))?;
        arrived(START, pid, name).inspect_err(|_| {
            // What it does later is not to be left there, with nobody in it.
            let mut body = Wire::default();
            body.string(name).string("replace");
            drop(self.ask(STOP, &message(STOP, "ss", body)));
        })
    }

    /// One call and its answer.
    fn ask(&self, method: &'static str, message: &[u8]) -> Result<()> {
        let fail = |e: std::io::Error| Error::new("connect", text::os(&self.socket), errno(&e));
        let mut stream = UnixStream::connect(&self.socket).map_err(fail)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(fail)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(fail)?;
        call(&mut stream, method, message)
    }
}

const START: &str = "StartTransientUnit";
const STOP: &str = "StopUnit";
const ATTACH: &str = "AttachProcessesToUnit";

/// Wait until `pid` is in a group of this name; the path of that.
fn arrived(method: &'static str, pid: i32, name: &str) -> Result<PathBuf> {
    let until = Instant::now() + PATIENCE;
    loop {
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let found = groups.lines().find_map(|l| l.strip_prefix("0::")).filter(|p| p.ends_with(name));
        match found {
            Some(path) => return Ok(PathBuf::from(path)),
            None if Instant::now() > until => return Err(Error::new(method, name, Errno::ETIMEDOUT)),
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// A group of the kept process in its scope.
const KEEPER: &str = "keeper";

/// A scope that is there until its keeper goes.
#[derive(Debug)]
pub(super) struct Scope {
    manager: Manager,
    unit: String,
    _keeper: Keeper,
}

impl Scope {
    /// Have `pid` put into the group of this name in it.
    pub(super) fn attach(&self, group: &str, pid: i32) -> Result<()> {
        let mut body = Wire::default();
        body.string(&self.unit).string(&format!("/{group}")).array(4, |pids| {
            pids.u32(u32::try_from(pid).unwrap_or(0));
        });
        self.manager.ask(ATTACH, &message(ATTACH, "ssau", body))?;
        arrived(ATTACH, pid, group).map(drop)
    }
}

/// The process that keeps a scope. It ends with this, and with us.
#[derive(Debug)]
pub(super) struct Keeper {
    pid: i32,
    pidfd: OwnedFd,
}

impl Keeper {
    fn park() -> Result<Keeper> {
        let (pid, pidfd) = clone::parked()?;
        Ok(Keeper { pid, pidfd })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if pidfd::signal(self.pidfd.as_fd(), nix::libc::SIGKILL).is_ok() {
            drop(pidfd::wait4(self.pid));
        }
    }
}

/// Say who we are, send one call, wait for its answer.
fn call(stream: &mut (impl Read + Write), method: &'static str, message: &[u8]) -> Result<()> {
    let fail = |e: std::io::Error| {
        let errno = if e.kind() == ErrorKind::WouldBlock { Errno::ETIMEDOUT } else { errno(&e) };
        Error::new(method, "", errno)
    };
    // The uid in decimal, its digits in hexadecimal.
    let uid: String = nix::unistd::geteuid().to_string().bytes().map(|b| format!("{b:02x}")).collect();
    stream.write_all(format!("\0AUTH EXTERNAL {uid}\r\n").as_bytes()).map_err(fail)?;
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).map_err(fail)?;
        line.push(byte[0]);
        if line.len() > 1024 {
            return Err(Error::new(method, "AUTH", Errno::EPROTO));
        }
    }
    if !line.starts_with(b"OK ") {
        return Err(Error::new(method, "AUTH", Errno::EACCES));
    }
    stream.write_all(b"BEGIN\r\n").map_err(fail)?;
    stream.write_all(message).map_err(fail)?;
    loop {
        let mut head = [0; 16];
        stream.read_exact(&mut head).map_err(fail)?;
        let number = |at: usize| {
            let bytes = head.get(at..at + 4).and_then(|b| b.try_into().ok()).unwrap_or([0; 4]);
            if head[0] == b'l' { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }
        };
        let (body, fields) = (number(4) as usize, (number(12) as usize).next_multiple_of(8));
        if body.saturating_add(fields) > MOST {
            return Err(Error::new(method, "", Errno::EPROTO));
        }
        let mut rest = vec![0; fields + body];
        stream.read_exact(&mut rest).map_err(fail)?;
        match head[1] {
            // The one answer that we wait for; signals are for others.
            2 => return Ok(()),
            3 => {
                let said = rest.get(fields + 4..).unwrap_or_default();
                let said = text::printable(said.split(|b| *b == 0).next().unwrap_or_default());
                let said: String = said.chars().take(200).collect();
                return Err(Error::new(method, said, Errno::EREMOTEIO));
            }
            _ => {}
        }
    }
}

/// Values as D-Bus writes them: each at a multiple of its size.
#[derive(Default)]
struct Wire(Vec<u8>);

impl Wire {
    fn align(&mut self, to: usize) -> &mut Wire {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
        self
    }

    fn u32(&mut self, n: u32) -> &mut Wire {
        self.align(4).0.extend(n.to_le_bytes());
        self
    }

    fn string(&mut self, s: &str) -> &mut Wire {
        self.u32(u32::try_from(s.len()).unwrap_or(0)).0.extend(s.as_bytes());
        self.0.push(0);
        self
    }

    fn signature(&mut self, s: &str) -> &mut Wire {
        self.0.push(u8::try_from(s.len()).unwrap_or(0));
        self.0.extend(s.as_bytes());
        self.0.push(0);
        self
    }

    /// An array, whose length does not count the gap before its first element.
    fn array(&mut self, element: usize, fill: impl FnOnce(&mut Wire)) -> &mut Wire {
        self.u32(0);
        let length = self.0.len() - 4;
        self.align(element);
        let start = self.0.len();
        fill(self);
        let bytes = u32::try_from(self.0.len() - start).unwrap_or(0).to_le_bytes();
        self.0.splice(length..length + 4, bytes);
        self
    }

    /// A property: a name and a value of some type.
    fn property(&mut self, name: &str, kind: &str) -> &mut Wire {
        self.align(8).string(name).signature(kind)
    }
}

fn start_transient(name: &str, pid: i32) -> Vec<u8> {
    let mut body = Wire::default();
    body.string(name).string("fail").array(8, |all| {
        all.property("PIDs", "au").array(4, |pids| {
            pids.u32(u32::try_from(pid).unwrap_or(0));
        });
        all.property("Delegate", "b").u32(1);
        all.property("CollectMode", "s").string("inactive-or-failed");
    });
    // No further units.
    body.array(8, |_| {});
    message(START, "ssa(sv)a(sa(sv))", body)
}

/// A call of a method of the manager's.
fn message(method: &str, signature: &str, body: Wire) -> Vec<u8> {
    let mut message = Wire(vec![b'l', 1, 0, 1]);
    message.u32(u32::try_from(body.0.len()).unwrap_or(0)).u32(1).array(8, |fields| {
        let texts = [
            (1, "o", "/org/freedesktop/systemd1"),
            (2, "s", "org.freedesktop.systemd1.Manager"),
            (3, "s", method),
            (6, "s", "org.freedesktop.systemd1"),
        ];
        for (code, kind, value) in texts {
            fields.align(8).0.push(code);
            fields.signature(kind).string(value);
        }
        fields.align(8).0.push(8);
        fields.signature("g").signature(signature);
    });
    message.align(8).0.extend(body.0);
    message.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manager that says what it is told to.
    struct Fake {
        says: std::io::Cursor<Vec<u8>>,
        heard: Vec<u8>,
    }

    impl Read for Fake {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            self.says.read(into)
        }
    }

    impl Write for Fake {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.heard.extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn answered(with: &[&[u8]]) -> (Result<()>, Vec<u8>) {
        let says = std::io::Cursor::new(with.concat());
        let mut fake = Fake { says, heard: Vec::new() };
        let result = call(&mut fake, START, b"MESSAGE");
        (result, fake.heard)
    }

    fn answer(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![b'l', kind, 1, 1];
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend([7, 0, 0, 0, 8, 0, 0, 0]);
        bytes.extend([5, 1, b'u', 0, 1, 0, 0, 0]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn an_answer_is_waited_for_and_a_refusal_is_told() {
        let ok = b"OK 0123\r\n";
        let (result, heard) = answered(&[ok, &answer(4, b"signal"), &answer(2, b"")]);
        assert_eq!(result, Ok(()));
        let hex: String = nix::unistd::geteuid().to_string().bytes().map(|b| format!("{b:02x}")).collect();
        assert_eq!(heard, format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\nMESSAGE").into_bytes());
        let (refused, _) = answered(&[ok, &answer(3, b"\x05\0\0\0no\x1b!x\0")]);
        let refused = refused.unwrap_err();
        assert_eq!((refused.errno, refused.arg.as_str()), (Errno::EREMOTEIO, "no\\x1b!x"));
        assert_eq!(answered(&[b"REJECTED EXTERNAL\r\n"]).0.unwrap_err().errno, Errno::EACCES);
        // It breaks off, and it promises more than anybody would read.
        assert!(answered(&[ok, b"l\x02"]).0.is_err());
        let huge = [&b"l\x02\x01\x01"[..], &u32::MAX.to_le_bytes(), &[0; 8]].concat();
        assert_eq!(answered(&[ok, &huge]).0.unwrap_err().errno, Errno::EPROTO);
        assert!(answered(&[&[b'x'; 5000]]).0.is_err());
    }

    #[test]
    fn the_call_is_laid_out_as_d_bus_wants_it() {
        let bytes = start_transient("aj-x.scope", 77);
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        assert_eq!(&bytes[..4], b"l\x01\0\x01");
        let (body, fields) = (word(4), word(12));
        let start = (16 + fields).next_multiple_of(8);
        assert_eq!((bytes.len(), word(8)), (start + body, 1));
        // The body begins with the name, the mode, and an array that ends where the last one, empty, begins.
        assert_eq!((word(start), &bytes[start + 4..start + 15]), (10, &b"aj-x.scope\0"[..]));
        let mode = start + 16;
        assert_eq!((word(mode), &bytes[mode + 4..mode + 9]), (4, &b"fail\0"[..]));
        let array = mode + 12;
        let first = (array + 4).next_multiple_of(8);
        assert_eq!((word(first), &bytes[first + 4..first + 9]), (4, &b"PIDs\0"[..]));
        let end = first + word(array);
        assert_eq!(word(end.next_multiple_of(4)), 0);
        assert_eq!((end.next_multiple_of(4) + 4).next_multiple_of(8), bytes.len());
        let at = bytes.windows(9).position(|w| w == b"Delegate\0").unwrap();
        let value = (at + 9 + 3).next_multiple_of(4);
        assert_eq!((&bytes[at + 9..at + 12], word(value)), (&b"\x01b\0"[..], 1));
        assert!(bytes.windows(4).any(|w| w == 77u32.to_le_bytes()));
    }

    #[test]
    fn a_keeper_ends_with_whoever_holds_it_and_by_nothing_less() {
        let keeper = Keeper::park().unwrap();
        let state = |pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            stat.rsplit_once(") ")?.1.chars().next()
        };
        let pid = keeper.pid;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGTERM).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(state(pid), Some('S'));
        // It keeps no pipe and no lock of ours.
        assert_eq!(std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(), 0);
        drop(keeper);
        assert_eq!(state(pid), None);
    }

    #[test]
    fn a_manager_without_a_socket_of_this_user_is_none() {
        assert_eq!(Manager::of(4_000_000_000, Path::new("/sys/fs/cgroup")), None);
        let dir = tempfile::tempdir().unwrap();
        let manager = Manager { socket: dir.path().join("none"), group: dir.path().to_owned() };
        std::fs::write(dir.path().join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        assert_eq!(manager.lacks(&[Controller::Memory, Controller::Io]), [Controller::Io]);
        assert_eq!(manager.start("aj-x.scope", 1).unwrap_err().errno, Errno::ENOENT);
    }
}
