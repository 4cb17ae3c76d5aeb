//! The changes of a tree as a patch.

use std::os::fd::OwnedFd;

use super::{Error, Tree, base, listing, not_compared};
use crate::schema::changes::{Change, Diff};
use crate::schema::jail::bytes64;
use crate::sys::at::{self, FileKind};
use crate::sys::openat2::{self, For};
use crate::workspace::diff::Conflict;
use crate::workspace::patch::{Entry, append, read};

/// Directories below one that is gone, at most: deeper ones are left out.
const DEPTH: usize = 512;

/// What a patch cannot say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeftOut {
    /// What lies in a git directory: no patch may touch that.
    pub git: Left,
    /// Directories in which nothing is: a patch knows none.
    pub directories: Left,
    /// Files that are too large; they are named only.
    pub large: Left,
    /// What could not be read, or holds what was hidden from the jail.
    pub unknown: Left,
}

/// Changes that are left out for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Left {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub first: Vec<u8>,
    /// What has failed there, if anything has.
    pub why: Option<crate::sys::Error>,
}

impl Left {
    fn add(&mut self, path: &[u8], why: Option<crate::sys::Error>) {
        if self.count == 0 {
            (self.first, self.why) = (path.to_vec(), why);
        }
        self.count += 1;
    }
}

/// Write `diff`, made of `tree`, to `out`, a change at a time.
pub fn patch(tree: &Tree, diff: &Diff, out: &mut dyn FnMut(&[u8])) -> Result<LeftOut, Error> {
    let layer = tree.main();
    let uppers = listing(tree, layer)?.into_inner();
    let mut writer = Writer { uppers, host: base::open_any(layer)?, out, left: LeftOut::default() };
    for change in &diff.changes {
        let raw = change.path_base64.as_deref().and_then(bytes64::decode);
        let path = raw.unwrap_or_else(|| change.path.clone().into_bytes());
        let git = path.starts_with(b"/") || path.split(|b| *b == b'/').any(|part| part == b".git");
        match git {
            true => writer.left.git.add(&path, None),
            false => writer.change(change, &path).map_err(|e| not_compared(tree, layer, e))?,
        }
    }
    Ok(writer.left)
}

struct Writer<'a> {
    /// The newest first.
    uppers: Vec<OwnedFd>,
    host: OwnedFd,
    out: &'a mut dyn FnMut(&[u8]),
    left: LeftOut,
}

impl Writer<'_> {
    fn change(&mut self, change: &Change, path: &[u8]) -> crate::sys::Result<()> {
        let hides = change.conflict.as_deref() == Some(Conflict::Hidden.text());
        let gone = matches!(change.status.as_str(), "deleted" | "type_changed");
        if change.old_kind.as_deref() == Some("directory") && gone {
            match hides {
                true => self.left.unknown.add(path, None),
                false => self.all_gone(path, 0)?,
            }
        }
        let old = match change.status.as_str() {
            "added" => None,
            _ => self.side(false, path),
        };
        let new = match change.status.as_str() {
            "deleted" => None,
            _ => self.side(true, path),
        };
        if change.status == "added" && change.kind == "directory" {
            self.left.directories.add(path, None);
        }
        self.put(path, old.as_ref(), new.as_ref());
        Ok(())
    }

    /// One side. What a walk has found a moment ago and cannot be read is counted, and nothing is claimed.
    fn side(&mut self, new: bool, path: &[u8]) -> Option<Entry> {
        let dirs = if new { self.uppers.as_slice() } else { std::slice::from_ref(&self.host) };
        // The newest layer that has it: the walk has found that it is there.
        for dir in dirs {
            match read(dir, path) {
                Ok(None) => {}
                Ok(entry) => return entry,
                Err(e) => {
                    self.left.unknown.add(path, Some(e));
                    return None;
                }
            }
        }
        None
    }

    fn put(&mut self, path: &[u8], old: Option<&Entry>, new: Option<&Entry>) {
        if [old, new].into_iter().flatten().any(|e| e.content.is_none()) {
            self.left.large.add(path, None);
        }
        let mut text = Vec::new();
        append(&mut text, path, old, new);
        (self.out)(&text);
    }

    /// A directory of the host is gone: so is each file in it.
    fn all_gone(&mut self, path: &[u8], depth: usize) -> crate::sys::Result<()> {
        let dir = match openat2::beneath(&self.host, path, For::Listing) {
            Ok(dir) => dir,
            Err(e) => {
                self.left.unknown.add(path, Some(e));
                return Ok(());
            }
        };
        if depth > DEPTH {
            self.left.unknown.add(path, None);
            return Ok(());
        }
        let mut names = Vec::new();
        at::each_name(&dir, |name| names.push(name.to_vec()))?;
        names.sort();
        for name in names {
            let below = [path, b"/", &name].concat();
            match at::stat_opt(&dir, &name)?.map(|meta| meta.kind) {
                Some(FileKind::Dir) if name == b".git" => self.left.git.add(&below, None),
                Some(FileKind::Dir) => self.all_gone(&below, depth + 1)?,
                Some(_) => {
                    let old = self.side(false, &below);
                    self.put(&below, old.as_ref(), None);
                }
                None => {}
            }
        }
        Ok(())
    }
}
