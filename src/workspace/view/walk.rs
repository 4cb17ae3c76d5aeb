//! A walk through a tree of the view: no recursion, few descriptors whatever the depth, and memory for the
//! names of the directories on the way only.

use std::os::fd::{BorrowedFd, OwnedFd};

use super::dir::{self, Dir, Entry, Part, Said};
use super::mounts::Mounts;
use super::{Spot, Stack, View, again};
use crate::sys::at;
use crate::sys::openat2::For;
use crate::sys::{Error, Result};
use crate::workspace::names::Names;
use crate::workspace::trail::Trail;

/// One step.
#[derive(Debug)]
pub enum Step {
    /// An entry; [`Walk::enter`] goes into it, if it is a directory.
    Entry(Entry),
    /// The entry could not be looked at, or the directory entered last could not be listed.
    Unreadable(Error),
    /// The directory entered last is done, and the walk is in the one around it.
    Left,
}

/// A directory on the way.
#[derive(Debug)]
struct Frame {
    names: Names,
    next: usize,
    /// Where its path ends.
    end: usize,
    /// Of each layer that it has a part in: which, and [`Part::marked`].
    layers: Vec<(usize, bool)>,
}

/// The walk.
#[derive(Debug)]
pub struct Walk<'a> {
    stack: &'a Stack,
    /// Of each layer, down to where it has no part in the current directory any more.
    trails: Vec<(usize, Trail, bool)>,
    frames: Vec<Frame>,
    path: Vec<u8>,
    /// What else is seen in what it walks through.
    mounts: Option<Mounts<'a>>,
    /// The walk through the place that was entered last.
    nested: Option<Box<Walk<'a>>>,
}

impl<'a> Walk<'a> {
    /// Begin in `dir`, which is at `spot` of the view, and go into other places that are seen in it. Paths are
    /// told from there.
    pub fn over(view: &'a View, spot: &Spot, dir: &Dir) -> Result<Walk<'a>> {
        let mut walk = Walk::new(&view.places[spot.place].stack, dir)?;
        walk.mounts = Mounts::below(view, spot);
        Ok(walk)
    }

    /// Begin in `dir`. Paths are told from there.
    pub fn new(stack: &'a Stack, dir: &Dir) -> Result<Walk<'a>> {
        let trail = |part: &Part| {
            Ok((part.layer, Trail::new(again(&part.fd, For::Listing)?, For::Listing)?, part.plain))
        };
        let trails = dir.parts.iter().map(trail).collect::<Result<_>>()?;
        let layers = dir.parts.iter().map(|part| (part.layer, part.marked)).collect();
        let frame = Frame { names: dir.listed()?, next: 0, end: 0, layers };
        let path = Vec::new();
        Ok(Walk { stack, trails, frames: vec![frame], path, mounts: None, nested: None })
    }

    /// The place of the view that the entry told last is in; `None`: the one that it began in, or the walk is
    /// not one of a view.
    pub fn place(&self) -> Option<usize> {
        match &self.nested {
            Some(nested) => nested.place(),
            None => self.mounts.as_ref().and_then(|mounts| mounts.file(&self.path).or(mounts.place)),
        }
    }

    /// The path of the entry told last, from where the walk began. After [`Step::Left`]: of the directory
    /// that was left.
    pub fn path(&self) -> &[u8] {
        self.nested.as_ref().map_or(&self.path, |nested| nested.path())
    }

    /// Its last component.
    pub fn name(&self) -> &[u8] {
        super::split(self.path()).1
    }

    /// Directories on the way, the first one included.
    pub fn depth(&self) -> usize {
        self.frames.len() + self.nested.as_ref().map_or(0, |nested| nested.depth())
    }

    /// The next step, `None` at the end. An error ends the walk.
    pub fn step(&mut self) -> Result<Option<Step>> {
        if let Some(nested) = &mut self.nested {
            let step = nested.step()?;
            if step.is_none() {
                self.nested = None;
            }
            return Ok(Some(step.unwrap_or(Step::Left)));
        }
        // Entries that vanish as fast as they are told are passed over; each is met once, so this ends.
        loop {
            let Some(frame) = self.frames.last_mut() else { return Ok(None) };
            let Some(name) = frame.names.get(frame.next) else { return self.leave() };
            frame.next += 1;
            self.path.truncate(frame.end);
            if frame.end > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            let found = match self.mounts.as_ref().map_or(Ok(None), |mounts| mounts.entry(&self.path)) {
                Ok(None) => self.parts().and_then(|parts| dir::find(&parts, self.name())),
                mounted => mounted,
            };
            match found {
                Ok(Some(entry)) => return Ok(Some(Step::Entry(entry))),
                Ok(None) => {}
                Err(e) => return Ok(Some(Step::Unreadable(e))),
            }
        }
    }

    fn leave(&mut self) -> Result<Option<Step>> {
        if self.frames.len() == 1 {
            return Ok(None);
        }
        let left = self.frames.pop();
        self.path.truncate(left.map_or(0, |f| f.end));
        self.climb()?;
        Ok(Some(Step::Left))
    }

    /// Leave the directory that was just entered, as if it had not been. The entry told last is it again.
    pub fn turn_back(&mut self) -> Result<()> {
        match &mut self.nested {
            Some(nested) if nested.depth() > 1 => return nested.turn_back(),
            Some(_) => {
                self.nested = None;
                return Ok(());
            }
            None => {}
        }
        if self.frames.len() > 1
            && let Some(left) = self.frames.pop()
        {
            self.path.truncate(left.end);
        }
        self.climb()
    }

    /// Whether a layer of the current directory is this very one.
    pub fn is_in(&self, directory: &at::Meta) -> bool {
        if let Some(nested) = &self.nested {
            return nested.is_in(directory);
        }
        let depth = self.frames.len();
        let here = self.trails.iter().filter(|(_, trail, _)| trail.depth() == depth);
        here.into_iter().any(|(_, trail, _)| trail.meta().is_ok_and(|meta| meta.same_inode(directory)))
    }

    /// Take every layer back to the current directory.
    fn climb(&mut self) -> Result<()> {
        let depth = self.frames.len();
        for (_, trail, _) in &mut self.trails {
            if trail.depth() > depth {
                trail.leave()?;
            }
        }
        Ok(())
    }

    /// Go into the entry told last. Afterwards its entries are told, then that it was left. An error
    /// leaves the walk where it is.
    pub fn enter(&mut self) -> Result<()> {
        if let Some(nested) = &mut self.nested {
            return nested.enter();
        }
        if let Some((mounts, place)) = self.mounts.as_ref().and_then(|mounts| mounts.enter(&self.path)) {
            let stack = &mounts.view.places[place].stack;
            let mut walk = Walk::new(stack, &stack.root()?)?;
            walk.path.clone_from(&self.path);
            for frame in &mut walk.frames {
                frame.end = self.path.len();
            }
            walk.mounts = Some(mounts);
            self.nested = Some(Box::new(walk));
            return Ok(());
        }
        let name = self.name().to_vec();
        let depth = self.frames.len();
        let done = self.enter_layers(&name);
        let listed = done.and_then(|layers| {
            let parts = self.parts_of(&layers, depth + 1)?;
            Ok(Frame { names: super::listing::read(&parts)?, next: 0, end: self.path.len(), layers })
        });
        match listed {
            Ok(frame) => {
                self.frames.push(frame);
                Ok(())
            }
            Err(e) => {
                self.climb()?;
                Err(e)
            }
        }
    }

    fn enter_layers(&mut self, name: &[u8]) -> Result<Vec<(usize, bool)>> {
        let mut opened = Vec::new();
        for part in self.parts()? {
            match dir::enter_part(self.stack, &part, name)? {
                Said::Directory(fd, opacity) => {
                    opened.push((part.layer, fd, opacity));
                    if opacity.opaque {
                        break;
                    }
                }
                Said::Other => break,
                Said::Nothing => {}
            }
        }
        if opened.is_empty() {
            return Err(Error::new("open", "", nix::errno::Errno::ESTALE));
        }
        let mut layers = Vec::with_capacity(opened.len());
        for (layer, fd, opacity) in opened {
            if let Some((_, trail, _)) = self.trails.iter_mut().find(|t| t.0 == layer) {
                trail.enter_opened(fd)?;
            }
            layers.push((layer, opacity.marked_files));
        }
        Ok(layers)
    }

    /// Open the entry told last, a regular file.
    pub fn open(&self) -> Result<OwnedFd> {
        if let Some(nested) = &self.nested {
            return nested.open();
        }
        if let Some(dir) = self.mounted_file()? {
            return dir.open(self.name());
        }
        dir::open(&self.parts()?, self.name())
    }

    /// The current directory, in which the entry told last is.
    pub fn here(&self) -> Result<Dir> {
        if let Some(nested) = &self.nested {
            return nested.here();
        }
        if let Some(dir) = self.mounted_file()? {
            return Ok(dir);
        }
        let own = |part: Part<BorrowedFd<'_>>| {
            let fd = again(part.fd, For::Listing)?;
            Ok(Part { layer: part.layer, fd, marked: part.marked, plain: part.plain })
        };
        Dir::of(self.parts()?.into_iter().map(own).collect::<Result<_>>()?)
    }

    /// The directory of a file that is mounted at the entry told last.
    fn mounted_file(&self) -> Result<Option<Dir>> {
        self.mounts.as_ref().map_or(Ok(None), |mounts| mounts.directory_of_file(&self.path))
    }

    /// The parts of the current directory.
    fn parts(&self) -> Result<Vec<Part<BorrowedFd<'_>>>> {
        let layers = self.frames.last().map(|f| f.layers.as_slice()).unwrap_or_default();
        self.parts_of(layers, self.frames.len())
    }

    fn parts_of(&self, layers: &[(usize, bool)], depth: usize) -> Result<Vec<Part<BorrowedFd<'_>>>> {
        let part = |(layer, marked): &(usize, bool)| {
            let stale = || Error::new("walk", "", nix::errno::Errno::ESTALE);
            let found = self.trails.iter().find(|t| t.0 == *layer && t.1.depth() == depth);
            let (_, trail, plain) = found.ok_or_else(stale)?;
            Ok(Part { layer: *layer, fd: trail.top()?, marked: *marked, plain: *plain })
        };
        layers.iter().map(part).collect()
    }
}
