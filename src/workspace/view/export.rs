//! Out of a view, into a directory of the host's.
//!
//! What lies in that directory may have come out of a jail before: a link in it is never followed. A file
//! is made beside its place and renamed into it, a directory in the way has to be one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::walk::{Step, Walk};
use crate::base::id::{Id, Kind};
use crate::sys::at::{self, FileKind, Meta, Replace};
use crate::sys::openat2::{self, For};
use crate::sys::{Error, Result, copy};
use crate::workspace::trail::Trail;

/// How to copy.
#[allow(missing_debug_implementations, reason = "a call is in it")]
pub struct How<'a> {
    /// Leave what is there as it is.
    pub no_clobber: bool,
    /// Permission bits of files, instead of those that they have.
    pub mode: Option<u32>,
    /// Bits that nothing gets.
    pub umask: u32,
    /// What is left out: by its path, and whether it is a directory.
    pub excludes: &'a dyn Fn(&[u8], bool) -> bool,
}

/// What became of an entry.
#[derive(Debug)]
pub enum Exported {
    /// A directory was made.
    Directory,
    /// A file of so many bytes was written.
    File(u64),
    /// A link was made, with this target.
    Link(Vec<u8>),
    /// Something is there, and stays; of a directory, what comes is put into it.
    Kept,
    /// It is neither.
    Special(Meta),
    /// It is the directory that everything is copied to.
    Itself,
}

/// Copy all that the walk tells into the directory `root`. `tell` is told of each entry, by its path.
pub fn tree(
    walk: &mut Walk<'_>,
    root: OwnedFd,
    how: &How<'_>,
    tell: &mut dyn FnMut(&[u8], Result<Exported>),
) -> Result<()> {
    let goal = at::fstat(&root)?;
    let mut to = Trail::new(root, For::Listing)?;
    // Of the directories on the way that were made, what they are to be.
    let mut made = Vec::new();
    while let Some(step) = walk.step()? {
        let entry = match step {
            Step::Left => {
                if let Some(Some(meta)) = made.pop() {
                    finish(to.top()?, &meta, how);
                }
                to.leave()?;
                continue;
            }
            Step::Unreadable(e) => {
                tell(walk.path(), Err(e));
                continue;
            }
            Step::Entry(entry) => entry,
        };
        let meta = &entry.meta;
        if (how.excludes)(walk.path(), meta.kind == FileKind::Dir) {
            continue;
        }
        let name = walk.name().to_vec();
        let done = match meta.kind {
            FileKind::Dir => match walk.enter() {
                // What is copied may be shown in a directory that lies in it: that would never end.
                Ok(()) if walk.is_in(&goal) => {
                    walk.turn_back()?;
                    Ok(Exported::Itself)
                }
                Ok(()) => match directory(to.top()?, &name) {
                    Ok(new) => Ok(new),
                    Err(e) => {
                        walk.turn_back()?;
                        Err(e)
                    }
                },
                Err(e) => Err(e),
            },
            FileKind::File => walk.open().and_then(|from| file(&from, meta, (to.top()?, &name), how)),
            FileKind::Symlink => {
                walk.here().and_then(|here| link(here.link(&name)?, meta, (to.top()?, &name), how))
            }
            FileKind::Fifo | FileKind::Socket | FileKind::Char(..) | FileKind::Block | FileKind::Other => {
                Ok(Exported::Special(*meta))
            }
        };
        if let Ok(new @ (Exported::Directory | Exported::Kept)) = &done
            && meta.kind == FileKind::Dir
        {
            // The walk is in it; what comes next has to go there, or nowhere.
            to.enter(&name)?;
            made.push(matches!(new, Exported::Directory).then_some(*meta));
        }
        tell(walk.path(), done);
    }
    Ok(())
}

/// Make a directory, unless there is one (and no link).
pub fn directory(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Exported> {
    match at::make_dir(dir, name, 0o700) {
        Ok(()) => Ok(Exported::Directory),
        Err(e) if e.errno == Errno::EEXIST && at::stat(dir, name)?.kind == FileKind::Dir => {
            // Whatever is mounted on it is another place.
            openat2::beneath(dir, name, For::Listing)?;
            Ok(Exported::Kept)
        }
        Err(e) => Err(e),
    }
}

/// Bits and time of a directory that was made, when nothing more is made in it.
pub fn finish(dir: impl AsFd + Copy, meta: &Meta, how: &How<'_>) {
    // Neither is a reason to take back what is in it.
    at::set_mode(dir, meta.mode & 0o777 & !how.umask).ok();
    at::set_mtime_of(dir, meta.mtime).ok();
}

/// A name for what is going to be renamed into its place.
fn temporary() -> Result<Vec<u8>> {
    let id = Id::random(Kind::Jail).map_err(|_| Error::new("getrandom", "", Errno::EIO))?;
    Ok(format!(".aj-cp-{}", id.as_str().get(Kind::Jail.prefix().len()..).unwrap_or_default()).into_bytes())
}

/// Copy a file to its place.
pub fn file(
    from: &OwnedFd,
    meta: &Meta,
    (dir, name): (BorrowedFd<'_>, &[u8]),
    how: &How<'_>,
) -> Result<Exported> {
    if how.no_clobber && at::stat_opt(dir, name)?.is_some() {
        return Ok(Exported::Kept);
    }
    let temporary = temporary()?;
    let made = openat2::create(dir, &temporary, 0o600)?;
    let fill = || {
        let now = at::fstat(from)?;
        copy::file(from, &made, now.size)?;
        // Setuid, setgid and sticky never come out of a jail.
        at::set_mode(&made, how.mode.unwrap_or(meta.mode & !how.umask) & 0o777)?;
        at::set_mtime_of(&made, meta.mtime).ok();
        in_place(dir, &temporary, name, how)?;
        Ok(Exported::File(now.size))
    };
    fill().inspect_err(|_| drop(at::remove_file(dir, &temporary)))
}

fn link(target: Vec<u8>, meta: &Meta, at: (BorrowedFd<'_>, &[u8]), how: &How<'_>) -> Result<Exported> {
    let (dir, name) = at;
    if how.no_clobber && at::stat_opt(dir, name)?.is_some() {
        return Ok(Exported::Kept);
    }
    let temporary = temporary()?;
    at::make_link(dir, &temporary, &target)?;
    at::set_mtime(dir, &temporary, meta.mtime).ok();
    in_place(dir, &temporary, name, how).inspect_err(|_| drop(at::remove_file(dir, &temporary)))?;
    Ok(Exported::Link(target))
}

fn in_place(dir: BorrowedFd<'_>, from: &[u8], to: &[u8], how: &How<'_>) -> Result<()> {
    at::rename(dir, from, to, if how.no_clobber { Replace::No } else { Replace::Yes })
}
