//! From a path to what it names, as the jail would find it.
//!
//! Links are followed by this code and not by the kernel: what an absolute link means is what it means in
//! the jail, and one that leads out of what the view shows is an error, wherever it leads on the host.

use std::collections::VecDeque;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::{Dir, Entry, Error, Result, Stack};
use crate::sys::at::FileKind;

/// Links on one path, as many as the kernel follows.
const LINKS: u32 = 40;
/// Components looked up for one path: links may name long ways, and `..` begins again at the top.
const STEPS: u32 = 50_000;

/// A path by its components.
pub type Components = Vec<Vec<u8>>;

/// A tree and where the jail sees it.
#[derive(Debug)]
pub struct Place {
    /// The absolute path, by its components, no link among them.
    pub at: Components,
    /// The layers.
    pub stack: Stack,
    /// It is no tree of the workspace's, but mounted there.
    pub mount: Option<Mount>,
}

/// What is known of a place that is mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Commands may write there.
    pub writable: bool,
    /// It is one file: of the directory nothing but this name is meant.
    pub only: Option<Vec<u8>>,
    /// It is the host's own, at the same path.
    pub host: bool,
}

impl Place {
    /// Whether it is a directory that is seen at `path`.
    fn is_at(&self, path: &[Vec<u8>]) -> bool {
        self.is_directory() && self.at == path
    }

    /// The path of the directory or file that it is.
    fn whole(&self) -> Components {
        let only = self.mount.as_ref().and_then(|mount| mount.only.clone());
        self.at.iter().cloned().chain(only).collect()
    }

    fn is_directory(&self) -> bool {
        self.mount.as_ref().is_none_or(|mount| mount.only.is_none())
    }

    /// Whether it is the file `name` in the directory `dir`.
    fn is_file(&self, dir: &[Vec<u8>], name: &[u8]) -> bool {
        let only = self.mount.as_ref().and_then(|mount| mount.only.as_deref());
        only == Some(name) && self.at == dir
    }
}

/// What a jail sees, as far as it lies in trees of its own.
#[derive(Debug)]
pub struct View {
    /// The workspace first.
    pub places: Vec<Place>,
    /// Paths that are links in the jail (`/workspace`), and what they lead to.
    pub aliases: Vec<(Components, Components)>,
}

/// What a path names.
#[derive(Debug)]
pub struct Spot {
    /// Which place it is in.
    pub place: usize,
    /// The path below its top, without links, `.` and `..`; empty: the top itself.
    pub path: Vec<u8>,
    /// What is there.
    pub at: At,
}

/// What is at a [`Spot`].
#[derive(Debug)]
pub enum At {
    /// The top of a place.
    Top(Dir),
    /// A name in a directory.
    In {
        /// The directory.
        parent: Dir,
        /// What shows there, if anything.
        entry: Option<Entry>,
    },
}

/// What becomes of a link that is the last component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// It is followed.
    Follow,
    /// It is meant itself.
    Keep,
}

/// The components of a path.
pub fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|b| *b == b'/').filter(|c| !c.is_empty() && *c != b".").map(<[u8]>::to_vec)
}

/// Components as an absolute path.
fn absolute(components: &[Vec<u8>]) -> Vec<u8> {
    if components.is_empty() {
        return b"/".to_vec();
    }
    components.iter().flat_map(|c| [b"/", c.as_slice()].concat()).collect()
}

struct Search<'a> {
    view: &'a View,
    /// As it was given.
    given: &'a [u8],
    /// Where it is, without links.
    here: Components,
    /// The place that is in, and the directory.
    inside: Option<(usize, Dir)>,
    todo: VecDeque<Vec<u8>>,
    links: u32,
    steps: u32,
}

impl View {
    /// What `path` names: below the workspace when it is relative, in the jail when it is absolute. The
    /// last component need not exist.
    pub fn find(&self, path: &[u8], last: Last) -> Result<Spot> {
        if path.contains(&0) {
            return Err(Error::Missing(path.to_vec()));
        }
        let mut search = Search {
            view: self,
            given: path,
            here: Vec::new(),
            inside: None,
            todo: components(path).collect(),
            links: 0,
            steps: 0,
        };
        if path.first() == Some(&b'/') {
            search.settle()?;
        } else {
            search.here.clone_from(&self.places[0].at);
            search.inside = Some((0, search.top(0)?));
        }
        let must_be_dir = path.ends_with(b"/");
        let spot = search.run(if must_be_dir { Last::Follow } else { last })?;
        match &spot.at {
            At::In { entry: Some(entry), .. } if must_be_dir && entry.meta.kind != FileKind::Dir => {
                Err(Error::NotDir(path.to_vec()))
            }
            _ => Ok(spot),
        }
    }

    /// A spot as it is said: below the workspace, or absolute elsewhere.
    pub fn shown(&self, spot: &Spot) -> Vec<u8> {
        self.shown_path(&self.path_of(spot))
    }

    /// The same of a whole path.
    pub fn shown_path(&self, whole: &[Vec<u8>]) -> Vec<u8> {
        match whole.strip_prefix(self.places[0].at.as_slice()) {
            Some([]) => b".".to_vec(),
            Some(below) => below.join(&b'/'),
            None => absolute(whole),
        }
    }

    /// The whole path of a spot, by its components.
    pub fn path_of(&self, spot: &Spot) -> Components {
        self.places[spot.place].at.iter().cloned().chain(components(&spot.path)).collect()
    }

    /// The place that a directory at `path` is, if there is one.
    pub(super) fn directory_at(&self, path: &[Vec<u8>]) -> Option<usize> {
        self.places.iter().position(|place| place.is_at(path))
    }

    /// The place that the file `name` in the directory `dir` is, if there is one.
    pub(super) fn file_at(&self, dir: &[Vec<u8>], name: &[u8]) -> Option<usize> {
        self.places.iter().position(|place| place.is_file(dir, name))
    }

    /// What else is seen in a place: paths below its top.
    pub fn seen_in(&self, place: usize) -> Vec<Vec<u8>> {
        let Some(at) = self.places.get(place).map(|place| place.at.as_slice()) else { return Vec::new() };
        let below = |(n, other): (usize, &Place)| {
            let whole = other.whole();
            let rest = whole.strip_prefix(at).filter(|rest| n != place && !rest.is_empty())?;
            Some(rest.join(&b'/'))
        };
        self.places.iter().enumerate().filter_map(below).collect()
    }

    /// Whether something is mounted at `path` itself.
    pub fn is_mounted_at(&self, path: &[Vec<u8>]) -> bool {
        self.places.iter().any(|place| place.whole() == path)
    }

    /// Whether something is mounted at or below `path`.
    pub fn is_mounted_on(&self, path: &[Vec<u8>]) -> bool {
        self.places.iter().any(|place| place.whole().starts_with(path))
    }
}

impl Search<'_> {
    fn top(&self, place: usize) -> Result<Dir> {
        self.view.places[place].stack.root().map_err(Error::sys("open", self.given))
    }

    fn stack(&self, place: usize) -> &Stack {
        &self.view.places[place].stack
    }

    fn run(mut self, last: Last) -> Result<Spot> {
        while let Some(name) = self.todo.pop_front() {
            self.steps += 1;
            if self.steps > STEPS {
                return Err(Error::Loop(self.given.to_vec()));
            }
            if name == b".." {
                self.here.pop();
                self.settle()?;
                continue;
            }
            let file = self.view.file_at(&self.here, &name);
            if let Some(place) = file {
                self.inside = Some((place, self.top(place)?));
            }
            let Some((place, dir)) = self.inside.take() else {
                self.here.push(name);
                self.settle()?;
                continue;
            };
            // Something else may be mounted there.
            self.here.push(name.clone());
            if file.is_none() && self.view.directory_at(&self.here).is_some() {
                self.settle()?;
                continue;
            }
            self.here.pop();
            let entry = dir.find(&name).map_err(Error::sys("look up", self.given))?;
            let end = self.todo.is_empty();
            match entry {
                None if end => return Ok(self.spot(place, dir, &name, None)),
                None => return Err(Error::Missing(self.given.to_vec())),
                Some(e) if e.meta.kind == FileKind::Symlink && (!end || last == Last::Follow) => {
                    self.links += 1;
                    if self.links > LINKS {
                        return Err(Error::Loop(self.given.to_vec()));
                    }
                    let target = dir.link(&name).map_err(Error::sys("read the link", self.given))?;
                    let rest = std::mem::take(&mut self.todo);
                    self.todo = components(&target).chain(rest).collect();
                    if target.first() == Some(&b'/') {
                        self.here.clear();
                        self.settle()?;
                    } else {
                        self.inside = Some((place, dir));
                    }
                }
                Some(e) if end => return Ok(self.spot(place, dir, &name, Some(e))),
                Some(_) => match dir.enter(self.stack(place), &name) {
                    Ok(below) => {
                        self.here.push(name);
                        self.inside = Some((place, below));
                    }
                    Err(e) if e.errno == Errno::ENOTDIR => {
                        return Err(Error::NotDir(self.given.to_vec()));
                    }
                    Err(e) => return Err(Error::sys("enter", self.given)(e)),
                },
            }
        }
        self.ended()
    }

    fn spot(&self, place: usize, parent: Dir, name: &[u8], entry: Option<Entry>) -> Spot {
        let below = self.here.get(self.view.places[place].at.len()..).unwrap_or_default();
        let path = below.iter().map(Vec::as_slice).chain([name]).collect::<Vec<_>>().join(&b'/');
        Spot { place, path, at: At::In { parent, entry } }
    }

    /// The path ended in a directory that was entered.
    fn ended(mut self) -> Result<Spot> {
        let Some((place, dir)) = self.inside.take() else {
            let to = absolute(&self.here);
            return Err(match self.links {
                0 => Error::Elsewhere(to),
                _ => Error::LeadsOut { path: self.given.to_vec(), to },
            });
        };
        if self.here.len() == self.view.places[place].at.len() {
            return Ok(Spot { place, path: Vec::new(), at: At::Top(dir) });
        }
        // Its own name is wanted, too.
        let Some(name) = self.here.pop() else { return Err(Error::Missing(self.given.to_vec())) };
        self.settle()?;
        let Some((place, parent)) = self.inside.take() else {
            return Err(Error::Missing(self.given.to_vec()));
        };
        let entry = parent.find(&name).map_err(Error::sys("look up", self.given))?;
        Ok(self.spot(place, parent, &name, entry))
    }

    /// Find out which place `here` is in, and go there. What is above all places has no links but ours.
    fn settle(&mut self) -> Result<()> {
        if let Some((_, to)) = self.view.aliases.iter().find(|(from, _)| *from == self.here) {
            self.here.clone_from(to);
        }
        let holds = |(_, p): &(usize, &Place)| p.is_directory() && self.here.starts_with(&p.at);
        let found = self.view.places.iter().enumerate().filter(holds).max_by_key(|(_, p)| p.at.len());
        let Some((place, at)) = found.map(|(n, p)| (n, p.at.len())) else {
            self.inside = None;
            return Ok(());
        };
        let mut dir = self.top(place)?;
        for name in self.here.get(at..).unwrap_or_default() {
            self.steps += 1;
            if self.steps > STEPS {
                return Err(Error::Loop(self.given.to_vec()));
            }
            // No link is among them: they were entered before.
            dir = dir.enter(self.stack(place), name).map_err(Error::sys("enter", self.given))?;
        }
        self.inside = Some((place, dir));
        Ok(())
    }
}
