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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeftOut {
    /// What lies in a git directory: no patch may touch that.
    pub git: u64,
    /// Directories in which nothing is: a patch knows none.
    pub directories: u64,
    /// Files that are too large; they are named only.
    pub large: u64,
    /// What could not be read, or holds what was hidden from the jail.
    pub unknown: u64,
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
            true => writer.left.git += 1,
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
                true => self.left.unknown += 1,
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
        self.left.directories += u64::from(change.status == "added" && change.kind == "directory");
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
                Err(_) => {
                    self.left.unknown += 1;
                    return None;
                }
            }
        }
        None
    }

    fn put(&mut self, path: &[u8], old: Option<&Entry>, new: Option<&Entry>) {
        let large = [old, new].into_iter().flatten().any(|e| e.content.is_none());
        self.left.large += u64::from(large);
        let mut text = Vec::new();
        append(&mut text, path, old, new);
        (self.out)(&text);
    }

    /// A directory of the host is gone: so is each file in it.
    fn all_gone(&mut self, path: &[u8], depth: usize) -> crate::sys::Result<()> {
        let Ok(dir) = openat2::beneath(&self.host, path, For::Listing) else {
            self.left.unknown += 1;
            return Ok(());
        };
        if depth > DEPTH {
            self.left.unknown += 1;
            return Ok(());
        }
        let mut names = Vec::new();
        at::each_name(&dir, |name| names.push(name.to_vec()))?;
        names.sort();
        for name in names {
            let below = [path, b"/", &name].concat();
            match at::stat_opt(&dir, &name)?.map(|meta| meta.kind) {
                Some(FileKind::Dir) if name == b".git" => self.left.git += 1,
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
