//! From a path to what it names, as the jail would find it.
//!
//! Links are followed by this code and not by the kernel: what an absolute link means is what it means in
//! the jail, and one that leads out of what the view shows is an error, wherever it leads on the host.

use std::collections::VecDeque;

use nix::errno::Errno;

use super::{Dir, Entry, Error, Result, Stack, join};
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
        match spot.place {
            0 if spot.path.is_empty() => b".".to_vec(),
            0 => spot.path.clone(),
            n if spot.path.is_empty() => absolute(&self.places[n].at),
            n => join(&absolute(&self.places[n].at), &spot.path),
        }
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
            let Some((place, dir)) = self.inside.take() else {
                self.here.push(name);
                self.settle()?;
                continue;
            };
            // Something else may be mounted there.
            self.here.push(name.clone());
            if self.view.places.iter().any(|p| p.at == self.here) {
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
        let holds = |(_, p): &(usize, &Place)| self.here.starts_with(&p.at);
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
