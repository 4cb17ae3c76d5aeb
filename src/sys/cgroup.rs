//! One group of a cgroup hierarchy, by the descriptor of its directory: no path is walked twice, and
//! nothing that a start does here allocates.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{AccessFlags, UnlinkatFlags, faccessat, unlinkat};

use super::openat2::{self, For};
use super::{Error, Result};
use crate::base::text;

/// Bytes of a file that are looked at. What is read here is a number or a few lines.
const MOST: usize = 4096;

/// An open group.
#[derive(Debug)]
pub struct Group(OwnedFd);

/// The content of a group's file.
#[derive(Debug)]
pub struct Content {
    bytes: [u8; MOST],
    length: usize,
}

impl Content {
    /// As text without the white space around it; empty for what is none.
    pub fn text(&self) -> &str {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default().trim()
    }

    /// The number that it is.
    pub fn number(&self) -> Option<u64> {
        self.text().parse().ok()
    }

    /// The number behind `key`, one `key number` a line.
    pub fn value(&self, key: &str) -> Option<u64> {
        let of = |line: &str| line.split_once(' ').filter(|(k, _)| *k == key)?.1.trim().parse().ok();
        self.text().lines().find_map(of)
    }
}

impl Group {
    /// The group that is at `path`, which has no links in it.
    pub fn open(path: &Path) -> Result<Group> {
        openat2::absolute(path.as_os_str().as_bytes(), For::Passing).map(Group)
    }

    /// The group `name` in this one.
    pub fn child(&self, name: &str) -> Result<Group> {
        openat2::beneath(&self.0, name.as_bytes(), For::Passing).map(Group)
    }

    /// Make the group `name` in this one.
    pub fn make(&self, name: &str) -> Result<Group> {
        mkdirat(&self.0, name, Mode::from_bits_truncate(0o755)).map_err(|e| Error::new("mkdir", name, e))?;
        self.child(name).inspect_err(|_| drop(self.remove(name)))
    }

    /// Remove the group `name` of this one. EBUSY while a process is in it.
    pub fn remove(&self, name: &str) -> Result<()> {
        unlinkat(&self.0, name, UnlinkatFlags::RemoveDir).map_err(|e| Error::new("rmdir", name, e))
    }

    /// Whether we may make groups in this one and move processes into it.
    pub fn is_ours(&self) -> bool {
        let may = |name| faccessat(&self.0, name, AccessFlags::W_OK, AtFlags::AT_EACCESS).is_ok();
        may(".") && may("cgroup.procs")
    }

    /// Whether it has this file.
    pub fn has(&self, file: &str) -> bool {
        faccessat(&self.0, file, AccessFlags::F_OK, AtFlags::empty()).is_ok()
    }

    /// Write `value` to a file of it, in one call, as the kernel wants it.
    pub fn write(&self, file: &'static str, value: &str) -> Result<()> {
        let fail = |e| Error::new("write", file, e);
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = openat(&self.0, file, flags, Mode::empty()).map_err(fail)?;
        loop {
            match nix::unistd::write(&fd, value.as_bytes()) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(fail(e)),
            }
        }
    }

    /// The same with a number.
    pub fn set(&self, file: &'static str, value: u64) -> Result<()> {
        let mut digits = [0; 20];
        self.write(file, decimal(value, &mut digits))
    }

    /// Move the process `pid` into it.
    pub fn enter(&self, pid: i32) -> Result<()> {
        self.set("cgroup.procs", u64::try_from(pid).unwrap_or(0))
    }

    /// Of a group of cgroup v1: what a process that has one thread steps in by itself with, see [`step_in`].
    pub fn door(&self) -> Result<OwnedFd> {
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        openat(&self.0, "tasks", flags, Mode::empty()).map_err(|e| Error::new("open", "tasks", e))
    }

    /// What is in a file of it.
    pub fn read(&self, file: &'static str) -> Result<Content> {
        let fail = |e| Error::new("read", file, e);
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = openat(&self.0, file, flags, Mode::empty()).map_err(fail)?;
        let mut content = Content { bytes: [0; MOST], length: 0 };
        while let Some(rest) = content.bytes.get_mut(content.length..).filter(|r| !r.is_empty()) {
            match nix::unistd::read(&fd, rest) {
                Ok(0) => break,
                Ok(n) => content.length += n,
                Err(Errno::EINTR) => {}
                Err(e) => return Err(fail(e)),
            }
        }
        Ok(content)
    }

    /// The processes in it, by the numbers that our pid namespace has for them.
    pub fn processes(&self) -> Result<Vec<i32>> {
        use std::io::Read;
        let file = "cgroup.procs";
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = openat(&self.0, file, flags, Mode::empty()).map_err(|e| Error::new("read", file, e))?;
        let mut text = String::new();
        std::fs::File::from(fd)
            .read_to_string(&mut text)
            .map_err(|e| Error::new("read", file, super::errno(&e)))?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect())
    }

    /// A descriptor that becomes readable when memory runs out in this group of cgroup v1.
    pub fn on_memory_shortage(&self) -> Result<OwnedFd> {
        use std::os::fd::AsRawFd;
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let event = EventFd::from_value_and_flags(0, flags).map_err(|e| Error::new("eventfd", "", e))?;
        let read = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let control = openat(&self.0, "memory.oom_control", read, Mode::empty())
            .map_err(|e| Error::new("open", "memory.oom_control", e))?;
        let (event_fd, control_fd) = (event.as_fd().as_raw_fd(), control.as_raw_fd());
        self.write("cgroup.event_control", &format!("{event_fd} {control_fd}"))?;
        Ok(event.into())
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Step into the group that `door` belongs to: we are one thread. Nobody else is moved, so that the kernel need
/// not wait for all processors. The kernel asks for the rights of whoever opened the door (before 5.16: for ours,
/// who may move themselves).
pub fn step_in(door: impl AsFd) -> Result<()> {
    loop {
        match nix::unistd::write(door.as_fd(), b"0") {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(Error::new("write", "tasks", e)),
        }
    }
}

/// `value` in decimal.
fn decimal(mut value: u64, digits: &mut [u8; 20]) -> &str {
    let mut at = digits.len();
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + (value % 10) as u8;
        value /= 10;
        at -= 1;
        if value == 0 {
            break;
        }
    }
    std::str::from_utf8(digits.get(at..).unwrap_or_default()).unwrap_or_default()
}

/// Names of the groups in the one at `path`, at most `most`, in the order of the kernel.
pub fn children(group: &Group, most: usize) -> Result<Vec<String>> {
    let mut entries = super::entries::Entries::again(group)?;
    let mut names = Vec::new();
    while let Some(entry) = entries.step()? {
        if entry.kind == Some(nix::dir::Type::Directory) {
            names.push(text::printable(entry.name));
        }
        if names.len() >= most {
            break;
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn fake() -> (tempfile::TempDir, Group) {
        let dir = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(dir.path()).unwrap();
        (dir, Group::open(&path).unwrap())
    }

    #[test]
    fn files_are_read_as_numbers_and_as_keys() {
        let (dir, group) = fake();
        fs::write(dir.path().join("memory.max"), "max\n").unwrap();
        group.set("memory.max", 67_108_864).unwrap();
        assert_eq!(group.read("memory.max").unwrap().number(), Some(67_108_864));
        fs::write(dir.path().join("memory.events"), "low 0\noom_kill 12\noom_kill_x 3\n").unwrap();
        let events = group.read("memory.events").unwrap();
        assert_eq!((events.value("oom_kill"), events.value("oom"), events.number()), (Some(12), None, None));
        fs::write(dir.path().join("x"), [0xff, 0xfe]).unwrap();
        assert_eq!(group.read("x").unwrap().text(), "");
        assert_eq!(group.read("none").unwrap_err().errno, Errno::ENOENT);
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for n in [0, 1, 9, 10, 4096, u64::MAX] {
            assert_eq!(decimal(n, &mut [0; 20]), n.to_string());
        }
    }

    #[test]
    fn groups_are_made_found_and_removed_by_name_and_no_link_is_followed() {
        let (dir, group) = fake();
        fs::write(dir.path().join("cgroup.procs"), "").unwrap();
        assert!(group.is_ours() && group.has("cgroup.procs") && !group.has("cgroup.kill"));
        let child = group.make("aj-x").unwrap();
        assert!(!child.is_ours(), "it has no cgroup.procs");
        assert_eq!(group.make("aj-x").unwrap_err().errno, Errno::EEXIST);
        assert_eq!(children(&group, 9).unwrap(), ["aj-x"]);
        group.remove("aj-x").unwrap();
        std::os::unix::fs::symlink("/tmp", dir.path().join("link")).unwrap();
        let link = group.child("link").unwrap_err().errno;
        assert!(matches!(link, Errno::ELOOP | Errno::ENOTDIR), "{link}");
        assert_eq!(group.child("..").unwrap_err().errno, Errno::EXDEV);
        assert_eq!(children(&group, 9).unwrap(), [""; 0]);
    }

    #[test]
    fn a_list_of_processes_may_be_longer_than_a_page() {
        let (dir, group) = fake();
        let all: Vec<i32> = (100_000..103_000).collect();
        let text: String = all.iter().map(|pid| format!("{pid}\n")).collect();
        fs::write(dir.path().join("cgroup.procs"), text).unwrap();
        assert_eq!(group.processes().unwrap(), all);
        fs::write(dir.path().join("cgroup.procs"), "0\n7\n").unwrap();
        assert_eq!(group.processes().unwrap(), [7], "0 is a process of another pid namespace");
    }
}
