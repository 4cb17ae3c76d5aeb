//! The directory that a tree was made over: opened, and told from another one in its place.

use std::os::fd::OwnedFd;

use super::{Error, Tree};
use crate::base::text;
use crate::store::origin::{self, Places};
use crate::store::planted::Planted;
use crate::sys::at;
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

/// What was hidden from the jail. Without knowing it nothing is compared: a whiteout of ours would be
/// a deletion.
pub(super) fn hidden(tree: &Tree) -> Result<Planted, Error> {
    let failed = |e| {
        let source = crate::sys::Error::new("read", "hidden", e).into();
        Error::Damaged { id: tree.id.to_string(), source }
    };
    let dir = openat2::parent(&tree.upper, For::Listing).map_err(|e| failed(e.errno))?;
    Ok(Planted::read(dir).map_err(failed)?.unwrap_or_default())
}

/// The directory of the tree, which the upper layer lies in. No jail can move that.
fn directory(tree: &Tree) -> Option<OwnedFd> {
    openat2::parent(&tree.upper, For::Listing).ok()
}
