//! The directory that a tree was made over: opened, and told from another one in its place.

use std::os::fd::OwnedFd;

use super::{Error, Layer, Tree};
use crate::base::text;
use crate::store::applied::Applied;
use crate::store::origin::{self, Places};
use crate::store::planted::Planted;
use crate::sys::at::{self, Stamp};
use crate::sys::openat2::{self, For};

/// Open the base of `layer`, if it is still the directory that the jail ran over.
pub(super) fn open(layer: Layer<'_>) -> Result<OwnedFd, Error> {
    let base = open_any(layer)?;
    let then = directory(layer).and_then(|dir| origin::noted(dir, layer.base));
    let now = at::fstat(&base).map(|m| m.identity());
    match (then, now) {
        (Some(then), Ok(now)) if !then.is(&now) && at::keeps_identities(&base) => {
            Err(Error::Replaced { id: layer.tree.to_string(), base: text::os(layer.base) })
        }
        _ => Ok(base),
    }
}

impl Error {
    /// The same once more, if it says that the directory that a tree lies over is gone, or another one.
    pub(in crate::ops) fn of_base(&self) -> Option<Error> {
        match self {
            Error::Base { base, source } => Some(Error::Base { base: base.clone(), source: source.clone() }),
            Error::Replaced { id, base } => Some(Error::Replaced { id: id.clone(), base: base.clone() }),
            _ => None,
        }
    }
}

/// Open whatever directory has the name of the base.
pub(super) fn open_any(layer: Layer<'_>) -> Result<OwnedFd, Error> {
    use std::os::unix::ffi::OsStrExt;
    openat2::absolute(layer.base.as_os_str().as_bytes(), For::Listing)
        .map_err(|source| Error::Base { base: text::os(layer.base), source })
}

/// What was noted about the directories of the base when the run ended.
pub(super) fn places(layer: Layer<'_>) -> Option<Places> {
    directory(layer).and_then(Places::read)
}

/// Note it. Without it the changes are judged by times: no reason to keep them from the user.
pub(super) fn note(layer: Layer<'_>, places: &Places) {
    if let Some(dir) = directory(layer) {
        places.write(dir).ok();
    }
}

/// What was put on the host from the tree.
pub(super) fn applied(layer: Layer<'_>) -> Applied {
    directory(layer).map(Applied::read).unwrap_or_default()
}

/// Note more of that.
pub(super) fn note_applied(layer: Layer<'_>, put: &[(u64, Stamp)]) {
    if let Some(directory) = directory(layer) {
        Applied::append(directory, put).ok();
    }
}

/// What was hidden from the jail. Without knowing it nothing is compared: a whiteout of ours would be
/// a deletion.
pub(super) fn hidden(layer: Layer<'_>, tree: &Tree) -> Result<Planted, Error> {
    let failed = |e| {
        let source = crate::sys::Error::new("read", "hidden", e).into();
        Error::Damaged { id: tree.id.to_string(), source }
    };
    let dir = openat2::parent(layer.upper, For::Listing).map_err(|e| failed(e.errno))?;
    Ok(Planted::read(dir).map_err(failed)?.unwrap_or_default())
}

/// The directory of the tree, which the upper layer lies in. No jail can move that.
fn directory(layer: Layer<'_>) -> Option<OwnedFd> {
    openat2::parent(layer.upper, For::Listing).ok()
}
