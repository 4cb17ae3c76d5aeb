//! Looking at paths with few calls: each directory above a place is asked about once, and read once.
//!
//! What is learned here decides what is shown. Whoever mounts it opens it again without following
//! links, so that what has changed since is an error and no way in.

use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::policy::flavor::matches;
use crate::sys::openat2;

/// Names that one `*` may stand for.
const MOST: usize = 256;

/// What has been looked at.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// `None`: nothing is there.
    asked: Vec<(PathBuf, Option<Metadata>)>,
    listed: Vec<(PathBuf, Vec<OsString>)>,
    /// A directory known to have no link in its path.
    plain: Option<PathBuf>,
}

/// `path` without links, if there is something. One call for the usual one that has none.
pub(super) fn real(path: &Path) -> Option<PathBuf> {
    match openat2::resolved(path.as_os_str().as_bytes()) {
        Ok(_) => Some(path.to_owned()),
        Err(e) if e.errno == Errno::ELOOP => std::fs::canonicalize(path).ok(),
        Err(_) => None,
    }
}

impl Disk {
    /// Most places lie below `home`, which has no link in its path.
    pub(super) fn new(home: Option<&Path>) -> Disk {
        Disk { plain: home.map(Path::to_owned), ..Disk::default() }
    }

    /// What is at a plain absolute path: where that is without links, and what it is.
    pub(super) fn look(&mut self, path: &Path) -> Option<(PathBuf, Metadata)> {
        let bytes = path.as_os_str().as_bytes();
        let known = self.plain.as_ref().map(|dir| dir.as_os_str().as_bytes());
        let known = known.filter(|dir| bytes.strip_prefix(*dir).is_some_and(|rest| rest.starts_with(b"/")));
        let first = known.map_or(1, |dir| dir.len() + 1);
        let ends = (first..bytes.len()).filter(|at| bytes.get(*at) == Some(&b'/')).chain([bytes.len()]);
        for end in ends {
            let part = Path::new(OsStr::from_bytes(bytes.get(..end)?));
            let meta = self.ask(part)?;
            if meta.is_symlink() {
                let real = std::fs::canonicalize(path).ok()?;
                let meta = std::fs::symlink_metadata(&real).ok()?;
                return Some((real, meta));
            }
        }
        let meta = self.ask(path)?.clone();
        Some((path.to_owned(), meta))
    }

    fn ask(&mut self, path: &Path) -> Option<&Metadata> {
        let bytes = path.as_os_str().as_bytes();
        let known = self.asked.iter().position(|(known, _)| known.as_os_str().as_bytes() == bytes);
        let at = known.unwrap_or_else(|| {
            self.asked.push((path.to_owned(), std::fs::symlink_metadata(path).ok()));
            self.asked.len() - 1
        });
        self.asked.get(at).and_then(|(_, meta)| meta.as_ref())
    }

    /// What `pattern` stands for: itself when it has no `*`, else the names that are there.
    pub(super) fn glob(&mut self, pattern: &Path) -> Vec<PathBuf> {
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
        let known = self.listed.iter().position(|(known, _)| known == dir);
        let at = known.unwrap_or_else(|| {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
            let mut names: Vec<OsString> = entries.map(|entry| entry.file_name()).collect();
            names.sort();
            self.listed.push((dir.to_owned(), names));
            self.listed.len() - 1
        });
        self.listed.get(at).map(|(_, names)| names.as_slice()).unwrap_or_default()
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
            let mut disk = Disk::new(home);
            let mut at = |name: &str| disk.look(&top.join(name)).map(|(real, meta)| (real, meta.is_dir()));
            assert_eq!(at("a/b"), Some((top.join("a/b"), true)), "{home:?}");
            assert_eq!(at("l/b"), Some((top.join("a/b"), true)));
            assert_eq!(at("l"), Some((top.join("a"), true)));
            assert_eq!(at("l/file"), Some((top.join("a/file"), false)));
            for missing in ["x", "x/y", "a/broken", "loop", "loop/x", "a/file/x"] {
                assert_eq!(at(missing), None, "{missing}");
            }
            assert_eq!(disk.look(Path::new("/")).map(|(real, _)| real), Some("/".into()));
            let mut glob = |pattern: &str| disk.glob(&top.join(pattern));
            assert_eq!(glob("*/b"), ["a", "l", "loop"].map(|d| top.join(d).join("b")));
            assert_eq!(glob("a/f*"), [top.join("a/file")]);
            assert_eq!(glob("none/*"), Vec::<PathBuf>::new());
        }
    }
}
