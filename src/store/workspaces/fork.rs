//! The tree of a fork: over the same directory as its parent, with what was noted about that.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{AtFlags, readlinkat};
use nix::sys::stat::fstatat;

use super::super::atomic::{self, Durability};
use super::super::error::{Error, Result};
use super::super::trees::{self, Tree};
use super::super::{fault, origin};
use crate::sys::at::{self, Stamp};

/// When the first of the workspaces that this one is a fork of was made, on a file system's clock: what
/// the host changed since then, none of them has seen.
const SINCE: &str = "since";
/// Files of a tree that are about its base and its changes. Bytes of one at most.
const NOTES: [(&str, u64); 3] = [("places", 8 << 20), ("hidden", 8 << 20), ("applied", 16 << 20)];

/// Make the layers of the fork in `tree`, which is at `path`, and take over what is known.
pub(super) fn follow(tree: &File, path: &Path, parent: &Tree) -> Result<()> {
    let failed = |call, e| Error::call(call, path, e);
    let base = PathBuf::from(readlinkat(parent, "base").map_err(|e| failed("readlink", e))?);
    let of = fstatat(parent, c"upper", AtFlags::AT_SYMLINK_NOFOLLOW).map_err(|e| failed("stat", e))?;
    let owner = nix::unistd::geteuid().is_root().then_some((of.st_uid, of.st_gid));
    trees::populate_over(tree, path, (&base, of.st_mode & 0o7777), owner)?;
    super::seal::add_works(tree, &of)?;
    if base.is_absolute() {
        // That of the directory that the parent lies over, whatever stands there now.
        origin::hand_on(parent, tree);
    }
    let started = match since(parent) {
        Some(stamp) => stamp,
        None => at::stat(parent, b"base")?.ctime,
    };
    let text = format!("{} {}\n", started.sec, started.nsec);
    fault::point();
    atomic::write(tree, SINCE, text.as_bytes(), Durability::Cache).map_err(|e| failed("write", e))?;
    for (name, most) in NOTES {
        let Some(bytes) = atomic::read(parent, name, most).map_err(|e| failed("read", e))? else { continue };
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
