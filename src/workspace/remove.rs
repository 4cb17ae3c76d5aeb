//! Looking over and removing whole directories of the host, without recursion.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::names::Names;
use super::trail::Trail;
use crate::base::text;
use crate::store::fault;
use crate::sys::at::{self, FileKind};
use crate::sys::openat2::{self, For};
use crate::sys::{Error, Result};

/// What is in a directory that would be removed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Survey {
    /// Entries that are not directories.
    pub(super) files: u64,
    /// Something in it changed.
    pub(super) changed: bool,
    /// Another file system is mounted in it.
    pub(super) mount: bool,
    /// A part of it could not be read.
    pub(super) unreadable: bool,
    /// A directory in it that nothing can be removed from, also by making it writable.
    pub(super) shut: Option<Error>,
}

/// Look over the directory `name` of `parent`. `changed` judges one entry.
pub(super) fn survey(
    parent: BorrowedFd<'_>,
    name: &[u8],
    changed: impl Fn(&at::Meta) -> bool,
) -> Result<Survey> {
    let mut out = Survey::default();
    walk(parent, name, Doors::AsTheyAre, |step| {
        match step {
            Step::Entry(_, _, meta) => {
                out.changed |= changed(meta);
                if meta.kind != FileKind::Dir {
                    out.files += 1;
                }
            }
            Step::Refused(e) if e.errno == Errno::EXDEV => out.mount = true,
            Step::Refused(_) => out.unreadable = true,
            Step::Filled(dir, name) => {
                if out.shut.is_none() && !lets_remove(dir) {
                    out.shut = Some(Error::new("rmdir", text::printable(name), Errno::EACCES));
                }
            }
            Step::Left(..) => {}
        }
        Ok(())
    })?;
    Ok(out)
}

/// Whether entries of `dir` can be removed, once its owner has made it writable.
fn lets_remove(dir: BorrowedFd<'_>) -> bool {
    at::fstat(dir).is_ok_and(|m| m.uid == nix::unistd::geteuid().as_raw()) || at::may_write_in(dir)
}

/// Remove the directory `name` of `parent` with everything in it. Directories of the caller's own are made
/// writable on the way: `parent` is where they were put to be removed.
pub(super) fn remove_tree(parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    walk(parent, name, Doors::Opened, |step| match step {
        Step::Entry(dir, name, meta) if meta.kind != FileKind::Dir => at::remove_file(dir, name),
        Step::Entry(..) | Step::Filled(..) => Ok(()),
        Step::Left(dir, name) => {
            fault::point();
            at::remove_dir(dir, name)
        }
        Step::Refused(e) => Err(e),
    })?;
    fault::point();
    at::remove_dir(parent, name)
}

enum Step<'a> {
    /// An entry and the directory it is in.
    Entry(BorrowedFd<'a>, &'a [u8], &'a at::Meta),
    /// A directory that was entered and has entries, and its name.
    Filled(BorrowedFd<'a>, &'a [u8]),
    /// A directory whose entries are done, and the directory it is in.
    Left(BorrowedFd<'a>, &'a [u8]),
    /// A directory that could not be entered.
    Refused(Error),
}

/// What a walk does with directories that their owner may not read, enter or write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doors {
    /// Nothing.
    AsTheyAre,
    /// It gives the owner all permissions, for good.
    Opened,
}

impl Doors {
    /// Enter `name` of `parent`: what is opened is a directory and no link, and its bits are those of what
    /// was opened, whatever has the name by then.
    fn enter(self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
        let dir = openat2::beneath(parent, name, For::Passing)?;
        if self == Doors::Opened {
            let mode = at::fstat(&dir)?.mode;
            if mode & 0o700 != 0o700 {
                fault::point();
                // Fails for a directory of another owner, whose bits may do for us or not.
                at::set_mode_by_path_fd(&dir, mode | 0o700).ok();
            }
        }
        Ok(dir)
    }
}

fn walk(
    parent: BorrowedFd<'_>,
    name: &[u8],
    doors: Doors,
    mut f: impl FnMut(Step<'_>) -> Result<()>,
) -> Result<()> {
    let root = match doors.enter(parent, name) {
        Ok(root) => root,
        Err(e) => return f(Step::Refused(e)),
    };
    let mut trail = Trail::new(root, For::Passing)?;
    let read = |dir: BorrowedFd<'_>| Names::read(dir.as_fd(), |_| true);
    let mut frames: Vec<(Names, usize)> = match read(trail.top()?) {
        Ok(names) => {
            if names.len() > 0 {
                f(Step::Filled(trail.top()?, name))?;
            }
            vec![(names, 0)]
        }
        Err(e) => return f(Step::Refused(e)),
    };
    while let Some((names, next)) = frames.last_mut() {
        let Some(name) = names.get(*next) else {
            frames.pop();
            trail.leave()?;
            if let Some((names, next)) = frames.last() {
                // `next` stands one past the directory just left.
                if let Some(done) = next.checked_sub(1).and_then(|i| names.get(i)) {
                    f(Step::Left(trail.top()?, done))?;
                }
            }
            continue;
        };
        *next += 1;
        let meta = match at::stat(trail.top()?, name) {
            Ok(meta) => meta,
            Err(e) if e.errno == Errno::ENOENT => continue,
            Err(e) => {
                f(Step::Refused(e))?;
                continue;
            }
        };
        f(Step::Entry(trail.top()?, name, &meta))?;
        if meta.kind != FileKind::Dir {
            continue;
        }
        if let Err(e) = doors.enter(trail.top()?, name).and_then(|dir| trail.enter_opened(dir)) {
            f(Step::Refused(e))?;
            continue;
        }
        match read(trail.top()?) {
            Ok(inner) => {
                if inner.len() > 0 {
                    f(Step::Filled(trail.top()?, name))?;
                }
                frames.push((inner, 0));
            }
            Err(e) => {
                trail.leave()?;
                f(Step::Refused(e))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn removing_a_tree_never_leaves_it_through_a_link() {
        let t = tempfile::tempdir().unwrap();
        let out = tempfile::tempdir().unwrap();
        std::fs::write(out.path().join("keep"), b"x").unwrap();
        std::fs::create_dir_all(t.path().join("d/e/f")).unwrap();
        std::fs::write(t.path().join("d/e/file"), b"x").unwrap();
        symlink(out.path(), t.path().join("d/e/away")).unwrap();
        symlink(out.path(), t.path().join("link")).unwrap();
        let dir = std::fs::File::open(t.path()).unwrap();
        let seen = survey(dir.as_fd(), b"d", |_| false).unwrap();
        assert_eq!(seen, Survey { files: 2, ..Survey::default() });
        assert!(survey(dir.as_fd(), b"d", |m| m.kind == FileKind::Symlink).unwrap().changed);
        remove_tree(dir.as_fd(), b"d").unwrap();
        assert!(!t.path().join("d").exists());
        assert!(remove_tree(dir.as_fd(), b"link").is_err(), "a link is not a tree");
        assert!(out.path().join("keep").exists());
    }

    #[test]
    fn a_very_deep_tree_is_removed_without_recursion() {
        let t = super::super::tests::memory_dir();
        let dir = std::fs::File::open(t.path()).unwrap();
        let mut trail = Trail::new(dir.try_clone().unwrap().into(), For::Passing).unwrap();
        for _ in 0..10_000 {
            at::make_dir(trail.top().unwrap(), b"d", 0o700).unwrap();
            trail.enter(b"d").unwrap();
        }
        drop(trail);
        remove_tree(dir.as_fd(), b"d").unwrap();
        assert!(!t.path().join("d").exists());
    }
}
