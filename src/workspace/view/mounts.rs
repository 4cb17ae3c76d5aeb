//! Places of a view that are seen within another: what a walk meets on its way.

use super::dir::{Dir, Entry};
use super::resolve::{Components, components};
use super::{Spot, View};
use crate::sys::Result;
use crate::sys::at::FileKind;

/// What a walk has to know of them. Absent where there are none on its way, and then it costs nothing.
#[derive(Debug, Clone)]
pub(super) struct Mounts<'a> {
    pub(super) view: &'a View,
    /// Where the walk began.
    at: Components,
    /// The place that it is in.
    pub(super) place: Option<usize>,
}

impl<'a> Mounts<'a> {
    /// Those below a spot, if there are any.
    pub(super) fn below(view: &'a View, spot: &Spot) -> Option<Mounts<'a>> {
        let at = view.path_of(spot);
        // That of the spot itself is where the walk is.
        let others = view.places.iter().enumerate().filter(|(n, _)| *n != spot.place);
        let some = others.into_iter().any(|(_, place)| place.at.starts_with(&at));
        some.then_some(Mounts { view, at, place: Some(spot.place) })
    }

    fn whole(&self, path: &[u8]) -> Components {
        self.at.iter().cloned().chain(components(path)).collect()
    }

    /// The place that the file at `path` below the beginning is.
    pub(super) fn file(&self, path: &[u8]) -> Option<usize> {
        let mut dir = self.whole(path);
        let name = dir.pop()?;
        self.view.file_at(&dir, &name)
    }

    /// The same of a directory, which is going to be entered.
    fn directory(&self, path: &[u8]) -> Option<usize> {
        self.view.directory_at(&self.whole(path)).filter(|n| Some(*n) != self.place)
    }

    /// How a walk through the place that the directory at `path` is goes on, if it is one.
    pub(super) fn enter(&self, path: &[u8]) -> Option<(Mounts<'a>, usize)> {
        let place = self.directory(path)?;
        Some((Mounts { place: Some(place), ..self.clone() }, place))
    }

    /// What is mounted at `path`; `None`: nothing is.
    pub(super) fn entry(&self, path: &[u8]) -> Result<Option<Entry>> {
        if let Some(place) = self.directory(path) {
            let meta = self.view.places[place].stack.root()?.meta;
            return Ok(Some(Entry { meta, layer: 0 }));
        }
        let Some(dir) = self.directory_of_file(path)? else { return Ok(None) };
        // Whatever else is there on the host by now was not mounted.
        let is_file = |entry: &Entry| entry.meta.kind == FileKind::File;
        Ok(dir.find(super::split(path).1)?.filter(is_file))
    }

    /// The directory of the file that is mounted at `path`, if one is.
    pub(super) fn directory_of_file(&self, path: &[u8]) -> Result<Option<Dir>> {
        self.file(path).map(|place| self.view.places[place].stack.root()).transpose()
    }
}
