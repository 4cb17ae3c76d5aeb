//! A directory of the view: the directories of the layers that make it up.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::listing::{self, whiteout};
use super::{Kind, Stack, again};
use crate::sys::at::{self, FileKind, Meta};
use crate::sys::openat2::{self, For};
use crate::sys::{Error, Result};
use crate::workspace::names::Names;
use crate::workspace::upper;

/// One layer of a directory.
#[derive(Debug)]
pub(super) struct Part<F = OwnedFd> {
    /// Which layer of the stack.
    pub(super) layer: usize,
    pub(super) fd: F,
    /// Empty files in it may be whiteouts.
    pub(super) marked: bool,
    /// Nothing in it is a whiteout.
    pub(super) plain: bool,
}

/// A directory of the view.
#[derive(Debug)]
pub struct Dir {
    /// Topmost first. Never empty.
    pub(super) parts: Vec<Part>,
    /// Metadata of the topmost, which are those of the whole.
    pub meta: Meta,
}

/// What shows under a name.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Its metadata, of the link itself for a symbolic link.
    pub meta: Meta,
    /// The layer of the stack that it is in: 0 is the one that is written to.
    pub layer: usize,
}

impl Dir {
    pub(super) fn root(stack: &Stack) -> Result<Dir> {
        let last = stack.layers().len() - 1;
        let part = |(layer, l): (usize, &super::Layer)| {
            let fd = again(&l.root, For::Listing)?;
            // Of the top the kernel never asks whether it is opaque.
            let marked = match l.kind {
                Kind::Overlay if layer < last => upper::opacity(&fd)?.marked_files,
                Kind::Overlay | Kind::Bottom | Kind::Plain => false,
            };
            Ok(Part { layer, fd, marked, plain: l.kind == Kind::Plain })
        };
        let parts = stack.layers().iter().enumerate().map(part).collect::<Result<Vec<_>>>()?;
        Dir::of(parts)
    }

    pub(super) fn of(parts: Vec<Part>) -> Result<Dir> {
        let top = parts.first().ok_or_else(|| Error::new("open", "", Errno::ENOENT))?;
        let meta = at::fstat(&top.fd)?;
        Ok(Dir { parts, meta })
    }

    /// The same once more, with descriptors of its own.
    pub fn again(&self) -> Result<Dir> {
        let own = |part: &Part| {
            let fd = again(&part.fd, For::Listing)?;
            Ok(Part { layer: part.layer, fd, marked: part.marked, plain: part.plain })
        };
        Dir::of(self.parts.iter().map(own).collect::<Result<_>>()?)
    }

    /// What shows under `name`; `None`: nothing.
    pub fn find(&self, name: &[u8]) -> Result<Option<Entry>> {
        find(&self.parts, name)
    }

    /// The same without the layer that is written to.
    pub(super) fn find_below(&self, name: &[u8]) -> Result<Option<Entry>> {
        find(self.parts.get(usize::from(self.upper().is_some())..).unwrap_or_default(), name)
    }

    /// Its part in the layer that is written to.
    pub(super) fn upper(&self) -> Option<BorrowedFd<'_>> {
        self.parts.first().filter(|part| part.layer == 0).map(|part| part.fd.as_fd())
    }

    /// The directory `name` in it. `ENOTDIR` when that is something else.
    pub fn enter(&self, stack: &Stack, name: &[u8]) -> Result<Dir> {
        let mut below = Vec::new();
        for part in &self.parts {
            match enter_part(stack, part, name)? {
                Said::Directory(fd, opacity) => {
                    let (layer, marked, plain) = (part.layer, opacity.marked_files, part.plain);
                    below.push(Part { layer, fd, marked, plain });
                    if opacity.opaque {
                        break;
                    }
                }
                Said::Other => break,
                Said::Nothing => {}
            }
        }
        if below.is_empty() {
            let errno = if self.find(name)?.is_some() { Errno::ENOTDIR } else { Errno::ENOENT };
            return Err(Error::new("open", crate::base::text::printable(name), errno));
        }
        Dir::of(below)
    }

    /// All names in it, sorted by their bytes.
    pub fn names(&self) -> Result<Vec<Vec<u8>>> {
        let names = self.listed()?;
        Ok((0..names.len()).filter_map(|i| names.get(i).map(<[u8]>::to_vec)).collect())
    }

    pub(super) fn listed(&self) -> Result<Names> {
        listing::read(&self.parts)
    }

    /// Whether nothing shows in it.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.listed()?.len() == 0)
    }

    /// Open the regular file `name`. Anything else is never opened: `ESTALE`.
    pub fn open(&self, name: &[u8]) -> Result<OwnedFd> {
        open(&self.parts, name)
    }

    /// Set its permission bits and its time, in the layer that is written to.
    pub fn set(&self, mode: u32, mtime: Option<at::Stamp>) -> Result<()> {
        let upper = self.upper().ok_or_else(|| Error::new("chmod", "", Errno::EROFS))?;
        at::set_mode(upper, self.meta.mode & 0o7000 | mode & 0o777)?;
        mtime.map_or(Ok(()), |mtime| at::set_mtime_of(upper, mtime))
    }

    /// The target of the symbolic link `name`.
    pub fn link(&self, name: &[u8]) -> Result<Vec<u8>> {
        let entry = self.find(name)?;
        let part = entry.and_then(|e| self.parts.iter().find(|part| part.layer == e.layer));
        let part = part.ok_or_else(|| Error::new("readlink", "", Errno::ENOENT))?;
        at::read_link(&part.fd, name)
    }
}

/// What `name` is in one layer; `None` as well when it is a whiteout, which is told by the second value.
fn look<F: AsFd>(part: &Part<F>, name: &[u8]) -> Result<(Option<Meta>, bool)> {
    let Some(meta) = at::stat_opt(&part.fd, name)? else { return Ok((None, false)) };
    if !part.plain && whiteout(part.fd.as_fd(), name, &meta, part.marked)? {
        return Ok((None, true));
    }
    Ok((Some(meta), true))
}

pub(super) fn find<F: AsFd>(parts: &[Part<F>], name: &[u8]) -> Result<Option<Entry>> {
    for part in parts {
        match look(part, name)? {
            (Some(meta), _) => return Ok(Some(Entry { meta, layer: part.layer })),
            (None, true) => return Ok(None),
            (None, false) => {}
        }
    }
    Ok(None)
}

/// What one layer says of a name that is to be entered.
pub(super) enum Said {
    /// A directory, and what it hides.
    Directory(OwnedFd, upper::Opacity),
    /// Something else, or that there is nothing: what is below does not show.
    Other,
    /// It does not know the name.
    Nothing,
}

/// Open the directory `name` of one layer.
pub(super) fn enter_part<F: AsFd>(stack: &Stack, part: &Part<F>, name: &[u8]) -> Result<Said> {
    match look(part, name)? {
        (Some(meta), _) if meta.kind == FileKind::Dir => {}
        (_, true) => return Ok(Said::Other),
        (_, false) => return Ok(Said::Nothing),
    }
    let fd = openat2::beneath(&part.fd, name, For::Listing)?;
    let kind = stack.layers().get(part.layer).map_or(Kind::Plain, |l| l.kind);
    // A layer at the bottom has nothing to hide, so what its directories say of themselves is not asked.
    let opacity = match kind {
        Kind::Overlay => opacity(&fd)?,
        Kind::Bottom | Kind::Plain => upper::Opacity::default(),
    };
    Ok(Said::Directory(fd, opacity))
}

#[cfg(debug_assertions)]
fn opacity(fd: &OwnedFd) -> Result<upper::Opacity> {
    // For the test that shows that opaque directories matter.
    if crate::base::env::TEST_WITHOUT.get().is_some_and(|v| v == "opaque") {
        return Ok(upper::Opacity::default());
    }
    upper::opacity(fd)
}

#[cfg(not(debug_assertions))]
fn opacity(fd: &OwnedFd) -> Result<upper::Opacity> {
    upper::opacity(fd)
}

/// Open the regular file that shows under `name`.
pub(super) fn open<F: AsFd>(parts: &[Part<F>], name: &[u8]) -> Result<OwnedFd> {
    let changed = || Error::new("open", crate::base::text::printable(name), Errno::ESTALE);
    let entry = find(parts, name)?.ok_or_else(|| Error::new("open", "", Errno::ENOENT))?;
    let part = parts.iter().find(|part| part.layer == entry.layer).ok_or_else(changed)?;
    if entry.meta.kind != FileKind::File {
        return Err(changed());
    }
    // Named first: what a jail puts there in between is looked at before it is opened, and what is opened
    // is what was looked at.
    let named = openat2::beneath(&part.fd, name, For::Naming)?;
    if at::fstat(&named)?.kind != FileKind::File {
        return Err(changed());
    }
    at::reopen(&named)
}
