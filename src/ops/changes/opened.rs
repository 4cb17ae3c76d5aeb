//! The directories that a tree lies over, opened for whoever looks at the whole of what its jail saw.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::{Error, Tree, base, listing, not_compared};
use crate::sys;

/// One of them.
#[derive(Debug)]
pub(in crate::ops) struct Opened {
    /// Where it is, on the host and in the jail.
    pub(in crate::ops) at: PathBuf,
    /// The directory itself.
    pub(in crate::ops) base: OwnedFd,
    /// What was written over it.
    pub(in crate::ops) upper: OwnedFd,
    /// Sealed layers between the two, the newest first.
    pub(in crate::ops) sealed: Vec<OwnedFd>,
}

impl Tree {
    /// All of them, the project's own first. Fails when one is not the directory that the jail ran over.
    pub(in crate::ops) fn opened(&self) -> Result<Vec<Opened>, Error> {
        let one = |layer| {
            let base = base::open(layer)?;
            let (upper, sealed) = listing(self, layer)?.into_parts();
            let none = || sys::Error::new("open", "", nix::errno::Errno::ENOENT);
            let upper = upper.ok_or_else(|| not_compared(self, layer, none()))?;
            Ok(Opened { at: layer.base.to_owned(), base, upper, sealed })
        };
        self.layers().map(one).collect()
    }
}
