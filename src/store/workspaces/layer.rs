//! A layer that is being filled. While it is, its name is that of a leftover and it is locked: if we are killed,
//! the next `release` takes it away.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::fcntl::{OFlag, renameat};
use nix::sys::stat::{Mode, mkdirat};

use super::super::dirfd::{self, open_file};
use super::super::error::{Error, Result};
use super::super::layout::StateDir;
use super::super::remove::remove_dir;
use super::super::trees::Tree;
use super::super::{fault, lock, planted};
use super::{ROOMS, UPPER, seal, take_turn};

/// Where layers are, from the tree of a workspace.
pub(super) const FROM_TREE: &str = "../../../layers";

/// One that has no name yet.
#[derive(Debug)]
pub struct NewLayer {
    all: File,
    dir: File,
    name: String,
    path: PathBuf,
}

/// One that is there, and kept from being taken for a leftover as long as this lives.
#[derive(Debug)]
pub struct Placed {
    /// Its name.
    pub name: String,
    _dir: File,
}

impl NewLayer {
    /// Make one, with empty directories like those of `tree`.
    pub fn make(state: &StateDir, tree: &Tree) -> Result<NewLayer> {
        let made = NewLayer::begin(state)?;
        for room in ROOMS {
            let of = seal::stat(tree, room).map_err(|e| Error::call("stat", tree.path(), e))?;
            fault::point();
            seal::twin(&made.dir, room, &of).map_err(|e| Error::call("mkdir", &made.path, e))?;
        }
        Ok(made)
    }

    /// Make one that will be what workspaces lie over: with an empty [`UPPER`], and nothing else.
    pub fn ground(state: &StateDir) -> Result<NewLayer> {
        let made = NewLayer::begin(state)?;
        made.scratch(UPPER)?;
        Ok(made)
    }

    fn begin(state: &StateDir) -> Result<NewLayer> {
        let all = state.subdir(seal::DIR)?;
        let name = seal::fresh(state.path())?;
        let path = state.path().join(seal::DIR).join(&name);
        let shown = path.clone();
        let failed = |call| {
            let path = shown.clone();
            move |e| Error::call(call, &path, e)
        };
        let new = format!("{}{name}", super::GONE);
        // Whoever sweeps takes what nobody has locked yet for a leftover.
        let turn = take_turn(state)?;
        fault::point();
        mkdirat(&all, new.as_str(), Mode::S_IRWXU).map_err(failed("mkdir"))?;
        let dir = open_file(&all, &new, OFlag::O_RDONLY | OFlag::O_DIRECTORY).map_err(failed("open"))?;
        let held = lock::try_acquire(&dir, lock::Mode::Exclusive, &path)?;
        debug_assert!(held, "nobody else knows it");
        drop(turn);
        Ok(NewLayer { all, dir, name, path })
    }

    /// Its directory.
    pub fn dir(&self) -> &File {
        &self.dir
    }

    /// A further directory, which is no part of it: for whoever fills it.
    pub fn scratch(&self, name: &CStr) -> Result<OwnedFd> {
        let failed = |call| move |e| Error::call(call, &self.path, e);
        mkdirat(&self.dir, name, Mode::S_IRWXU).map_err(failed("mkdir"))?;
        dirfd::open_dir(&self.dir, name).map_err(failed("open"))
    }

    /// Remove such a directory with everything in it.
    pub fn drop_scratch(&self, name: &CStr) -> Result<()> {
        remove_dir(&self.dir, name, &self.path)
    }

    /// An entry of it is about to be made.
    pub fn step(&self) {
        fault::point();
    }

    /// It is a copy of what is in `tree`, which may be in use: take out what aj put there to hide secrets. What a
    /// tree over it has to know about that comes back.
    pub fn lift(&self, tree: &Tree) -> Result<Option<Vec<u8>>> {
        planted::lift_copy(tree, &self.dir, &self.path)
    }

    /// Whether there is nothing in it.
    pub fn is_bare(&self) -> Result<bool> {
        for room in ROOMS {
            let dir = dirfd::open_dir(&self.dir, room).map_err(|e| Error::call("open", &self.path, e))?;
            if !dirfd::is_empty(&dir).map_err(|e| Error::call("readdir", &self.path, e))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Give it its name.
    pub fn place(self, state: &StateDir) -> Result<Placed> {
        let _turn = take_turn(state)?;
        self.place_in_turn()
    }

    /// The same for whoever has the turn.
    pub(super) fn place_in_turn(self) -> Result<Placed> {
        let new = format!("{}{}", super::GONE, self.name);
        fault::point();
        renameat(&self.all, new.as_str(), &self.all, self.name.as_str())
            .map_err(|e| Error::call("rename", &self.path, e))?;
        fault::point();
        Ok(Placed { name: self.name, _dir: self.dir })
    }

    /// Take it away.
    pub fn discard(self) -> Result<()> {
        let new = format!("{}{}", super::GONE, self.name);
        remove_dir(&self.all, &CString::new(new).unwrap_or_default(), &self.path)
    }
}

impl Placed {
    /// What was copied into it, as the `base` of a tree names it: the state directory may be moved.
    pub(super) fn seen_from_tree(&self) -> PathBuf {
        PathBuf::from(FROM_TREE).join(&self.name).join("upper")
    }
}
