//! The tree of a fork: over the same directory as its parent, with what was noted about that.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, readlinkat};
use nix::sys::stat::fstatat;

use super::super::atomic::{self, Durability};
use super::super::error::{Error, Result};
use super::super::layout::StateDir;
use super::super::trees::{self, Tree};
use super::super::{fault, origin};
use super::{Filed, Unread, take_turn};
use crate::sys::at::{self, Stamp};

/// When the first of the workspaces that this one is a fork of was made, on a file system's clock: what
/// the host changed since then, none of them has seen.
const SINCE: &str = "since";
const HIDDEN: &str = "hidden";
const PLACES: &str = "places";
/// Files of a tree that are about its base and its changes. Bytes of one at most.
const NOTES: [(&str, u64); 3] = [(PLACES, 8 << 20), (HIDDEN, 8 << 20), ("applied", 16 << 20)];

/// Make the layers of the fork in `tree`, which is at `path`, and take over what is known.
///
/// `copy`: what is to be its base instead, which is the same as that of its parent.
pub(super) fn follow(
    tree: &File,
    path: &Path,
    (parent, copy): (&Tree, Option<&Path>),
    hidden: Option<&[u8]>,
) -> Result<()> {
    let failed = |call, e| Error::call(call, path, e);
    let base = match copy {
        Some(copy) => copy.to_owned(),
        None => PathBuf::from(readlinkat(parent, "base").map_err(|e| failed("readlink", e))?),
    };
    let of = fstatat(parent, c"upper", AtFlags::AT_SYMLINK_NOFOLLOW).map_err(|e| failed("stat", e))?;
    let owner = nix::unistd::geteuid().is_root().then_some((of.st_uid, of.st_gid));
    trees::populate_over(tree, path, (&base, of.st_mode & 0o7777), owner)?;
    super::seal::add_works(tree, &of)?;
    if base.is_absolute() {
        // That of the directory that the parent lies over, whatever stands there now.
        origin::hand_on(parent, tree);
    }
    // A copy is as old as this tree, and its directories are not those that were noted.
    if copy.is_none() {
        note_since(tree, started(parent)?).map_err(|e| failed("write", e))?;
    }
    for (name, most) in NOTES.into_iter().filter(|(name, _)| copy.is_none() || *name != PLACES) {
        let read = match hidden.filter(|_| name == HIDDEN) {
            Some(bytes) => Some(bytes.to_vec()),
            None => atomic::read(parent, name, most).map_err(|e| failed("read", e))?,
        };
        let Some(bytes) = read else { continue };
        fault::point();
        atomic::write(tree, name, &bytes, Durability::Cache).map_err(|e| failed("write", e))?;
    }
    Ok(())
}

/// Since when a tree that is a fork stands over its base; `None`: since it was made.
pub fn since(tree: impl AsFd) -> Option<Stamp> {
    let bytes = atomic::read(tree, SINCE, 64).ok().flatten()?;
    let (sec, nsec) = std::str::from_utf8(&bytes).ok()?.trim_end().split_once(' ')?;
    Some(Stamp { sec: sec.parse().ok()?, nsec: nsec.parse().ok()? })
}

/// The same of any tree.
fn started(tree: &Tree) -> Result<Stamp> {
    match since(tree) {
        Some(stamp) => Ok(stamp),
        None => Ok(at::stat(tree, b"base")?.ctime),
    }
}

fn note_since(tree: impl AsFd, started: Stamp) -> std::result::Result<(), Errno> {
    let text = format!("{} {}\n", started.sec, started.nsec);
    fault::point();
    atomic::write(tree, SINCE, text.as_bytes(), Durability::Cache)
}

/// Let the workspace of `to` stand on `layers`, those of `from`, and on nothing else, with what is noted
/// about them. Nothing is in what either writes; the caller holds both for itself alone.
pub fn take_over(
    state: &StateDir,
    (from, layers): (&Tree, &[String]),
    to: &Tree,
) -> std::result::Result<(), Unread> {
    let _turn = take_turn(state)?;
    let Some(mut filed) = Filed::read(state, to.id())? else { return Ok(()) };
    let of = fstatat(to, c"upper", AtFlags::AT_SYMLINK_NOFOLLOW);
    super::seal::add_works(to, &of.map_err(|e| Error::call("stat", to.path(), e))?)?;
    let failed = |call, e| Error::call(call, to.path(), e);
    // What is in the layers is as old as `from`, and was made over what that lay over then: what the host
    // changed since is in conflict in `to` as well. The earlier of both is right whenever we are killed.
    let theirs = started(from)?;
    if theirs < started(to)? {
        note_since(to, theirs).map_err(|e| failed("write", e))?;
    }
    fault::point();
    origin::hand_on(from, to);
    for (name, most) in NOTES {
        // More of them than are needed only make more be asked about.
        let Some(bytes) = atomic::read(from, name, most).map_err(|e| failed("read", e))? else { continue };
        fault::point();
        atomic::write(to, name, &bytes, Durability::Cache).map_err(|e| failed("write", e))?;
    }
    filed.record.layers = layers.to_vec();
    Ok(filed.write_in(state)?)
}
