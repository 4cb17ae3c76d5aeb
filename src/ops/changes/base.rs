//! The directory that a tree was made over: opened, and told from another one in its place.

use std::os::fd::OwnedFd;

use super::{Error, Tree};
use crate::base::text;
use crate::store::applied::Applied;
use crate::store::origin::{self, Places};
use crate::sys::at::{self, Stamp};
use crate::sys::openat2::{self, For};

/// Open the base of `tree`, if it is still the directory that the jail ran over.
pub(super) fn open(tree: &Tree) -> Result<OwnedFd, Error> {
    let base = open_any(tree)?;
    let then = directory(tree).and_then(|dir| origin::noted(dir, &tree.base));
    let now = at::fstat(&base).map(|m| m.identity());
    match (then, now) {
        (Some(then), Ok(now)) if !then.is(&now) && at::keeps_identities(&base) => {
            Err(Error::Replaced { base: text::os(&tree.base) })
        }
        _ => Ok(base),
    }
}

/// Open whatever directory has the name of the base.
pub(super) fn open_any(tree: &Tree) -> Result<OwnedFd, Error> {
    use std::os::unix::ffi::OsStrExt;
    openat2::absolute(tree.base.as_os_str().as_bytes(), For::Listing)
        .map_err(|source| Error::Base { base: text::os(&tree.base), source })
}

/// What was noted about the directories of the base when the run ended.
pub(super) fn places(tree: &Tree) -> Option<Places> {
    directory(tree).and_then(Places::read)
}

/// What was put on the host from the tree.
pub(super) fn applied(tree: &Tree) -> Applied {
    directory(tree).map(Applied::read).unwrap_or_default()
}

/// Note more of that.
pub(super) fn note_applied(tree: &Tree, put: &[(u64, Stamp)]) {
    if let Some(directory) = directory(tree) {
        Applied::append(directory, put).ok();
    }
}

/// The directory of the tree, which the upper layer lies in. No jail can move that.
fn directory(tree: &Tree) -> Option<OwnedFd> {
    openat2::parent(&tree.upper, For::Listing).ok()
}
