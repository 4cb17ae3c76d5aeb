//! Looking at paths with few calls: each directory above a place is asked about once, and read once.
//!
//! What is learned here decides what is shown. Whoever mounts it opens it again without following
//! links, so that what has changed since is an error and no way in.

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use rustix::fs::RawDir;

use crate::jail::spec::Owner;
use crate::policy::flavor::matches;
use crate::sys::openat2;

/// Names that one `*` may stand for.
const MOST: usize = 256;

/// What is at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ops) struct Seen {
    kind: SFlag,
    /// Permissions.
    pub(in crate::ops) mode: u32,
    /// Whose it is.
    pub(in crate::ops) owner: Owner,
}

impl Seen {
    pub(in crate::ops) fn is_dir(self) -> bool {
        self.kind == SFlag::S_IFDIR
    }

    pub(in crate::ops) fn is_file(self) -> bool {
        self.kind == SFlag::S_IFREG
    }

    fn is_link(self) -> bool {
        self.kind == SFlag::S_IFLNK
    }
}

/// What has been looked at.
#[derive(Debug)]
pub(in crate::ops) struct Disk {
    /// The home directory, which has no link in its path, and opened: most places lie below it, and
    /// walking down to it would be half of each call.
    home: Option<(PathBuf, OwnedFd)>,
    /// `None`: nothing is there.
    asked: Vec<(PathBuf, Option<Seen>)>,
    listed: Vec<(PathBuf, Vec<OsString>)>,
}

/// `path` without links, if there is something. One call for the usual one that has none.
pub(in crate::ops) fn real(path: &Path) -> Option<PathBuf> {
    match openat2::resolved(path.as_os_str().as_bytes()) {
        Ok(_) => Some(path.to_owned()),
        Err(e) if e.errno == Errno::ELOOP => std::fs::canonicalize(path).ok(),
        Err(_) => None,
    }
}

impl Disk {
    /// With a home directory, of which the name without links comes back.
    pub(in crate::ops) fn new(home: Option<&Path>) -> (Disk, Option<PathBuf>) {
        let mut disk = Disk { home: None, asked: Vec::with_capacity(48), listed: Vec::with_capacity(8) };
        let open = |path: &Path| openat2::resolved(path.as_os_str().as_bytes());
        let opened = home.and_then(|name| match open(name) {
            Ok(fd) => Some((name.to_owned(), fd)),
            Err(_) => std::fs::canonicalize(name).ok().and_then(|real| open(&real).ok().map(|fd| (real, fd))),
        });
        let real = opened.as_ref().map(|(path, _)| path.clone());
        disk.home = opened;
        (disk, real)
    }

    /// What is at a plain absolute path: where that is without links, and what it is.
    pub(in crate::ops) fn look(&mut self, path: &Path) -> Option<(PathBuf, Seen)> {
        let bytes = path.as_os_str().as_bytes();
        let first = self.below_home(path).map_or(1, |inside| bytes.len() - inside.as_os_str().len());
        let ends = (first..bytes.len()).filter(|at| bytes.get(*at) == Some(&b'/')).chain([bytes.len()]);
        let mut seen = None;
        for end in ends {
            let part = Path::new(OsStr::from_bytes(bytes.get(..end)?));
            let here = self.ask(part)?;
            if here.is_link() {
                let real = std::fs::canonicalize(path).ok()?;
                let seen = self.ask(&real)?;
                return Some((real, seen));
            }
            seen = Some(here);
        }
        Some((path.to_owned(), seen?))
    }

    /// The part of `path` below the home directory.
    fn below_home<'p>(&self, path: &'p Path) -> Option<&'p Path> {
        let (home, _) = self.home.as_ref()?;
        let rest = path.as_os_str().as_bytes().strip_prefix(home.as_os_str().as_bytes())?;
        rest.strip_prefix(b"/").filter(|rest| !rest.is_empty()).map(|rest| Path::new(OsStr::from_bytes(rest)))
    }

    fn ask(&mut self, path: &Path) -> Option<Seen> {
        let bytes = path.as_os_str().as_bytes();
        if let Some((_, seen)) = self.asked.iter().find(|(known, _)| known.as_os_str().as_bytes() == bytes) {
            return *seen;
        }
        let found = match (self.below_home(path), &self.home) {
            (Some(inside), Some((_, home))) => fstatat(home, inside, AtFlags::AT_SYMLINK_NOFOLLOW),
            _ => fstatat(AT_FDCWD, path, AtFlags::AT_SYMLINK_NOFOLLOW),
        };
        let seen = found.ok().map(|s| Seen {
            kind: SFlag::from_bits_truncate(s.st_mode) & SFlag::S_IFMT,
            mode: s.st_mode & 0o7777,
            owner: Owner { uid: s.st_uid, gid: s.st_gid },
        });
        self.asked.push((path.to_owned(), seen));
        seen
    }

    /// What `pattern` stands for: itself when it has no `*`, else the names that are there.
    pub(in crate::ops) fn glob(&mut self, pattern: &Path) -> Vec<PathBuf> {
        let bytes = pattern.as_os_str().as_bytes();
        if !bytes.contains(&b'*') {
            return vec![pattern.to_owned()];
        }
        let mut found = vec![PathBuf::from("/")];
        for part in bytes.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
            if !part.contains(&b'*') {
                found.iter_mut().for_each(|dir| dir.push(OsStr::from_bytes(part)));
                continue;
            }
            let mut next = Vec::new();
            for dir in found {
                let names = self.names(&dir).iter().filter(|name| matches(part, name.as_bytes()));
                next.extend(names.take(MOST).map(|name| dir.join(name)));
            }
            next.truncate(MOST);
            found = next;
        }
        found
    }

    /// The names in a directory, sorted.
    fn names(&mut self, dir: &Path) -> &[OsString] {
        let known = self.listed.iter().position(|(known, _)| known.as_os_str() == dir.as_os_str());
        let at = known.unwrap_or_else(|| {
            let mut names = self.read(dir).unwrap_or_default();
            names.sort();
            self.listed.push((dir.to_owned(), names));
            self.listed.len() - 1
        });
        self.listed.get(at).map(|(_, names)| names.as_slice()).unwrap_or_default()
    }

    fn read(&self, dir: &Path) -> Option<Vec<OsString>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let opened = match (self.below_home(dir), &self.home) {
            (Some(inside), Some((_, home))) => openat(home, inside, flags, Mode::empty()),
            _ => openat(AT_FDCWD, dir, flags, Mode::empty()),
        };
        let opened = opened.ok()?;
        // Not by the C library, which spends as many calls on getting ready.
        let mut buffer = [const { MaybeUninit::uninit() }; 2048];
        let mut entries = RawDir::new(opened, &mut buffer);
        let mut names = Vec::new();
        while let Some(Ok(entry)) = entries.next() {
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_anywhere_in_a_path_are_resolved_and_what_is_missing_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let top = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir_all(top.join("a/b")).unwrap();
        std::fs::write(top.join("a/file"), "").unwrap();
        symlink("a", top.join("l")).unwrap();
        symlink("nowhere", top.join("a/broken")).unwrap();
        symlink("loop", top.join("loop")).unwrap();
        for home in [None, Some(top.as_path()), Some(Path::new("/"))] {
            let (mut disk, real) = Disk::new(home);
            assert_eq!(real.as_deref(), home);
            let mut at = |name: &str| disk.look(&top.join(name)).map(|(real, meta)| (real, meta.is_dir()));
            assert_eq!(at("a/b"), Some((top.join("a/b"), true)), "{home:?}");
            assert_eq!(at("l/b"), Some((top.join("a/b"), true)));
            assert_eq!(at("l"), Some((top.join("a"), true)));
            assert_eq!(at("l/file"), Some((top.join("a/file"), false)));
            for missing in ["x", "x/y", "a/broken", "loop", "loop/x", "a/file/x"] {
                assert_eq!(at(missing), None, "{missing}");
            }
            let mut glob = |pattern: &str| disk.glob(&top.join(pattern));
            assert_eq!(glob("*/b"), ["a", "l", "loop"].map(|d| top.join(d).join("b")));
            assert_eq!(glob("a/f*"), [top.join("a/file")]);
            assert_eq!(glob("none/*"), Vec::<PathBuf>::new());
        }
    }
}
