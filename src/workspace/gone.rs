//! What the host had and has no longer: the jail's version of it is no new entry, though it looks like one.
//!
//! Two witnesses:
//! - **notes**: what the base had when a run ended ([`Places`](crate::store::origin::Places)). Exact for all that
//!   was deleted after that;
//! - **origins**, for what was deleted before, or where no note could be written: the kernel marks what it copies
//!   up. In a jail the mark is empty, because file handles are for those with privileges over the whole machine. So
//!   it says that an entry comes from below, and not from where: a file that the jail moved has it as well.
//!   Directories with it do not move (`redirect_dir` is off), so of them it is exact. A file is taken for a deleted
//!   one only where the jail has removed or replaced nothing that it could be. Of several layers only the oldest
//!   can have it from the host.
//!
//! A file that the host deleted before the jail changed it, through a name that the jail had looked up already, is
//! copied up without the mark: the kernel gives that to files with one name only, and this one had none left. What is
//! left then is that the directory is marked as one that something was copied up into, and nothing in it is that.
//!
//! What neither of them tells is new, as it always was.

use std::os::fd::OwnedFd;

use super::change::Conflict;
use super::names::Names;
use super::scan::Scan;
use super::stack::Stack;
use super::trail::Trail;
use super::upper::{IMPURE, ORIGIN, UpperKind};
use crate::store::origin::Known;
use crate::sys::at::{self, FileKind, Meta};
use crate::sys::openat2::{self, For};
use crate::sys::{Result, xattr};

/// The conflict of an entry that is gone, where `known` is what speaks against it already.
pub(super) fn or(known: Option<Conflict>) -> Option<Conflict> {
    known.filter(|c| !c.may_be_overridden()).or(Some(Conflict::Gone))
}

impl Scan<'_> {
    /// Note that the base has the current entry, if the jail saw it so.
    pub(super) fn note_entry(&mut self, kind: UpperKind, old: Option<&Meta>) {
        let Some(old) = old.filter(|_| self.places.is_some()) else { return };
        // A directory in the place of a file is put there in two steps: one that was killed in between has to be
        // able to go on. What came later is the host's own, and its end is no business of the jail's.
        if matches!(kind, UpperKind::Dir | UpperKind::Whiteout) || self.changed(old) {
            return;
        }
        if let Some(places) = &mut self.places {
            places.add_entry(&self.path);
        }
    }

    /// Whether the directory of the upper layer that was entered last, and that the base does not have, is
    /// one that it had.
    pub(super) fn is_gone_directory(&self) -> Result<bool> {
        let noted = self.options.places.as_ref().is_some_and(|places| {
            let before = |id: at::Identity| {
                let ours = |born| self.options.applied.has(id.ino, born);
                id.born.is_some_and(|born| born <= self.options.started || ours(born))
            };
            places.had_entry(&self.path) || matches!(places.at(&self.path), Known::As(id) if before(id))
        });
        Ok(noted
            || (self.options.seen
                && !self.upper.is_opaque()?
                && xattr::get(self.upper.oldest()?, ORIGIN)?.is_some()))
    }

    /// Whether the entry `name` of the current directory, no directory and not in the base, was in it.
    pub(super) fn is_gone(&self, name: &[u8], new: &Meta) -> bool {
        self.options.places.as_ref().is_some_and(|places| places.had_entry(&self.path))
            || self.is_copied_up_here(name, new).unwrap_or(false)
    }

    fn is_copied_up_here(&self, name: &[u8], new: &Meta) -> Result<bool> {
        let merged = self.base_here() && self.frames.last().is_some_and(|frame| !frame.opaque);
        if !self.options.seen || !merged || new.kind != FileKind::File || new.nlink > 1 {
            return Ok(false);
        }
        let Some(root) = self.upper.only_root()? else { return Ok(false) };
        if !xattr::has(self.upper.dir_of(name)?, name, ORIGIN)? && !self.hides_a_copy(name)? {
            return Ok(false);
        }
        if let Some(moves) = self.moves.get() {
            return Ok(!moves);
        }
        let own = |fd| openat2::beneath(fd, b".", For::Listing);
        let moves =
            self.may_have_moved(own(root)?, openat2::beneath(self.base.root()?, b".", For::Passing)?)?;
        Ok(!*self.moves.get_or_init(|| moves))
    }

    /// Whether something was copied up into the current directory, which the host has changed since, and no entry
    /// there is known to be that.
    fn hides_a_copy(&self, name: &[u8]) -> Result<bool> {
        let base = self.base.meta()?;
        if base.mtime <= self.options.started || self.options.applied.has(base.ino, base.ctime) {
            return Ok(false);
        }
        if let Some(known) = self.frames.last().and_then(|frame| frame.hides_a_copy.get()) {
            return Ok(*known);
        }
        let dir = self.upper.dir_of(name)?;
        let mut hides = xattr::get(dir, IMPURE)?.is_some();
        if hides {
            let names = self.upper.names()?;
            for name in (0..names.len()).filter_map(|i| names.get(i)) {
                let (dir, _, kind) = self.upper.look(name)?;
                let known = match kind {
                    UpperKind::Whiteout => true,
                    UpperKind::Dir | UpperKind::File if xattr::has(dir, name, ORIGIN)? => true,
                    UpperKind::Dir => false,
                    _ => at::stat_opt(self.base.top()?, name)?.is_some(),
                };
                hides &= !known;
            }
        }
        let Some(frame) = self.frames.last() else { return Ok(hides) };
        Ok(*frame.hides_a_copy.get_or_init(|| hides))
    }

    /// Whether something of the base is out of its place: removed, replaced by something new, or in a directory
    /// that was made anew.
    fn may_have_moved(&self, upper: OwnedFd, base: OwnedFd) -> Result<bool> {
        let mut upper = Stack::new(vec![upper])?;
        let mut base = Trail::new(base, For::Passing)?;
        let mut path: Vec<u8> = Vec::new();
        let mut frames: Vec<(Names, usize, usize)> = vec![(upper.names()?, 0, 0)];
        while let Some((names, next, end)) = frames.last_mut() {
            path.truncate(*end);
            let Some(name) = names.get(*next).map(<[u8]>::to_vec) else {
                if base.depth() == frames.len() && frames.len() > 1 {
                    base.leave()?;
                }
                frames.pop();
                if !frames.is_empty() {
                    upper.leave()?;
                }
                continue;
            };
            *next += 1;
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            let here = base.depth() == frames.len();
            let old = if here { at::stat_opt(base.top()?, &name)? } else { None };
            let (dir, _, kind) = upper.look(&name)?;
            match kind {
                UpperKind::Whiteout if self.options.hidden.at(&path).is_none() => return Ok(true),
                UpperKind::Whiteout => {}
                UpperKind::Dir => {
                    upper.enter_unlocking(&name)?;
                    match old {
                        Some(old) if old.kind == FileKind::Dir && !upper.is_opaque()? => base.enter(&name)?,
                        Some(_) => return Ok(true),
                        None => {}
                    }
                    frames.push((upper.names()?, 0, path.len()));
                }
                UpperKind::File if old.is_some() && self.options.hidden.at(&path).is_none() => {
                    if !xattr::has(dir, &name, ORIGIN)? {
                        return Ok(true);
                    }
                }
                UpperKind::File => {}
                // The kernel marks neither.
                UpperKind::Symlink | UpperKind::Special(_) if old.is_some() => return Ok(true),
                UpperKind::Symlink | UpperKind::Special(_) => {}
            }
        }
        Ok(false)
    }
}
