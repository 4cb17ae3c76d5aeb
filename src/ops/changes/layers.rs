//! The directories that a tree lies over: the project's own, and the parts of the project that lie
//! elsewhere. Paths of the first are below it, those of a part are absolute: one begins with `/`, the
//! other never does, so each can be given back as it was shown.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{DiffOptions, Error, Tree, base};
use crate::base::id::Id;
use crate::store::origin::Places;
use crate::sys;
use crate::sys::at::Stamp;
use crate::sys::openat2::{self, For};
use crate::workspace::{Uppers, diff as compare};

/// A part of the project that lies outside of its directory: a git directory.
#[derive(Debug)]
pub struct Part {
    /// The host directory: absolute, and no component of it a link.
    pub base: PathBuf,
    /// As [`Tree::upper`].
    pub upper: OwnedFd,
    /// As [`Tree::started`].
    pub started: Stamp,
}

/// One directory and its upper layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer<'a> {
    /// The tree that it is a layer of.
    pub(super) tree: Id,
    pub(super) base: &'a Path,
    pub(super) upper: &'a OwnedFd,
    /// Sealed layers below it, the newest first.
    pub(super) below: &'a [OwnedFd],
    pub(super) started: Stamp,
    /// It is a [`Part`].
    pub(super) part: bool,
}

impl Tree {
    /// The project's own directory.
    pub(super) fn main(&self) -> Layer<'_> {
        Layer {
            tree: self.id,
            base: &self.base,
            upper: &self.upper,
            below: &self.below,
            started: self.started,
            part: false,
        }
    }

    /// All of them, the project's own first.
    pub(super) fn layers(&self) -> impl Iterator<Item = Layer<'_>> {
        std::iter::once(self.main()).chain(self.parts.iter().map(|part| part.layer(self.id)))
    }
}

impl Part {
    fn layer(&self, tree: Id) -> Layer<'_> {
        Layer { tree, base: &self.base, upper: &self.upper, below: &[], started: self.started, part: true }
    }
}

impl<'a> Layer<'a> {
    /// All that was written over the directory, the newest first.
    pub(super) fn uppers(&self) -> impl Iterator<Item = &'a OwnedFd> + use<'a> {
        std::iter::once(self.upper).chain(self.below)
    }

    /// The same, open for a comparison.
    pub(super) fn open(&self) -> Result<Uppers, sys::Error> {
        let own = |upper: &OwnedFd| openat2::beneath(upper, b".", For::Listing);
        let below: Result<Vec<OwnedFd>, _> = self.below.iter().map(own).collect();
        Ok(Uppers::new(own(self.upper)?, below?))
    }

    /// A path below it as it is shown and given.
    pub(super) fn shown(&self, below: &[u8]) -> Vec<u8> {
        match (self.part, below) {
            (false, _) => below.to_vec(),
            (true, b"") => self.base.as_os_str().as_bytes().to_vec(),
            (true, _) => [self.base.as_os_str().as_bytes(), b"/", below].concat(),
        }
    }

    /// What to compare in it; `None` when only paths elsewhere were asked for.
    pub(super) fn options(
        &self,
        tree: &Tree,
        asked: &DiffOptions,
    ) -> Result<Option<compare::Options>, Error> {
        let mut only = Vec::new();
        for path in &asked.only {
            let absolute = path.first() == Some(&b'/');
            if absolute == self.part {
                let top = self.base.as_os_str().as_bytes();
                let below = if self.part { path.strip_prefix(top) } else { Some(path.as_slice()) };
                match below.map(|b| b.strip_prefix(b"/").unwrap_or(b)) {
                    Some(below) if !self.part || path.len() == top.len() || path[top.len()] == b'/' => {
                        only.push(below.to_vec());
                    }
                    _ => {}
                }
            }
        }
        if only.is_empty() && !asked.only.is_empty() {
            return Ok(None);
        }
        Ok(Some(compare::Options {
            started: self.started,
            base: self.base.to_owned(),
            only,
            // What is noted is about the directory that the jail ran over.
            places: base::places(*self).filter(|_| tree.elsewhere.is_none()),
            applied: base::applied(*self).with(tree.elsewhere.iter().flatten()),
            hidden: base::hidden(*self, tree)?,
            seen: tree.elsewhere.is_none(),
            git_directory: self.part,
        }))
    }

    /// Keep what was noted about its directories.
    pub(super) fn note(&self, places: Option<&Places>) {
        if let Some(places) = places {
            base::note(*self, places);
        }
    }
}
