//! Workspaces: `workspaces/ID/workspace.toml`, and in `workspaces/ID/tree/` what a kept tree has (see
//! [`super::trees`]) with `home/` and `output/`, which are seen at `/home/agent` and `/output`.
//! `workspaces/names/NAME` is a link whose text is the id.
//!
//! The record says what the name is; the link is how it is found. `workspaces/lock` is held while a name
//! is given or taken and while a workspace gets or loses its place, never for longer: what takes time is
//! done under `.new-ID` before and under `.gone-ID` after. A link that leads nowhere, or to a workspace of
//! another name, is what a killed process left; the next one that wants the name takes it.
//!
//! The lock on a workspace is that of its tree: shared by readers, exclusive for a run and for whoever
//! takes it away.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat, renameat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, fchown};

use super::dirfd::{self, open_file};
use super::edit::STAGING;
use super::error::{Error, Result};
use super::layout::StateDir;
use super::remove::{remove_dir, remove_dir_while};
use super::trees::{self, Tree};
use super::{fault, lock, origin};
use crate::base::id::{Id, Kind};
use crate::base::name::Name;
use crate::base::text;

mod fork;
mod layer;
mod record;
mod seal;

pub use super::filed::Unread;
pub use super::named::Named;
use super::named::Shelf;
pub use fork::{since, take_over};
pub use layer::{NewLayer, Placed};
pub use record::{Filed, path_of as record_path};
pub use seal::{
    MOST_LAYERS, OLDEST, ROOMS, clear_works, is_bare, is_bare_but_for_ours, is_layer_name, is_room_bare,
    lineage, mend, open_layers, open_room, path_of as layer_path, release, replace_layers, seal,
    unused_layers,
};

pub(super) const DIR: &str = "workspaces";
const NEW: &str = ".new-";
const GONE: &str = ".gone-";
/// Of a workspace's directory.
const TREE: &str = "tree";
/// Of its tree: what one without a host directory lies over.
const EMPTY: &str = "empty";
/// Of a tree and of a layer: what was written.
pub const UPPER: &std::ffi::CStr = c"upper";
/// Of its tree: what is seen at `/home/agent`.
pub const HOME: &str = "home";
/// Of its tree: what is seen at `/output`.
pub const OUTPUT: &str = "output";

/// Where the tree of workspace `id` is, below the state directory.
pub(super) fn tree_below(id: Id) -> String {
    format!("{DIR}/{id}/{TREE}")
}

/// Where workspace `id` lies.
pub fn dir_of(state: &StateDir, id: Id) -> PathBuf {
    state.path().join(DIR).join(id.as_str())
}

/// What a new workspace lies over, and whom what is written to it belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// The tree that this one is a fork of, which the caller keeps from being changed.
    pub fork_of: Option<&'a Tree>,
    /// What is noted for it about what is hidden; `None`: what is noted in that tree.
    pub hidden: Option<&'a [u8]>,
    /// The host directory; `None`: what was imported, or an empty directory of its own.
    pub base: Option<&'a Path>,
    /// The layer that a host directory was copied into.
    pub import: Option<&'a Placed>,
    /// As in [`trees::create_tree`].
    pub owner: Option<(u32, u32)>,
}

/// Make the workspace of `filed`. With [`Named::Taken`] nothing was made.
pub fn create(state: &StateDir, filed: &Filed, ground: Ground<'_>) -> Result<Named> {
    let all = state.subdir(DIR)?;
    let (id, path) = (filed.record.id, state.path().join(DIR));
    // Told at once; judged again below.
    if let Some(other) = holder(state, &filed.record.name)? {
        return Ok(Named::Taken(other));
    }
    let new = format!("{NEW}{id}");
    let failed = |call| {
        let path = path.join(&new);
        move |e| Error::call(call, &path, e)
    };
    // In our turn, because whoever sweeps takes what nobody has locked yet for a leftover.
    let turn = take_turn(state)?;
    fault::point();
    mkdirat(&all, new.as_str(), Mode::S_IRWXU).map_err(failed("mkdir"))?;
    let made = || -> Result<Named> {
        let dir = open_file(&all, &new, OFlag::O_RDONLY | OFlag::O_DIRECTORY).map_err(failed("open"))?;
        // Until it has its name, this is what tells it from a leftover.
        if !lock::try_acquire(&dir, lock::Mode::Exclusive, &path)? {
            return Err(Error::call("flock", &path.join(&new), Errno::EWOULDBLOCK));
        }
        drop(turn);
        fault::point();
        furnish(&dir, &path.join(&new), ground)?;
        fault::point();
        filed.write_to(&dir, &path.join(&new))?;
        let turn = take_turn(state)?;
        sweep(&all, &path);
        if let Named::Taken(other) = SHELF.link(state, &filed.record.name, id)? {
            return Ok(Named::Taken(other));
        }
        fault::point();
        let placed = renameat(&all, new.as_str(), &all, id.as_str()).map_err(failed("rename"));
        if placed.is_err() {
            SHELF.unlink(state, &filed.record.name, id);
        }
        placed?;
        fault::point();
        // What a successful command reported is there after a power cut as well.
        all.sync_all().ok();
        drop(turn);
        Ok(Named::Yes)
    }();
    if !matches!(made, Ok(Named::Yes)) {
        let name = CString::new(new.as_str()).unwrap_or_default();
        remove_dir(&all, &name, &path).ok();
    }
    made
}

/// Make the tree in the directory of a new workspace.
fn furnish(dir: &File, path: &Path, ground: Ground<'_>) -> Result<()> {
    let path = path.join(TREE);
    let failed = |call| {
        let path = path.clone();
        move |e| Error::call(call, &path, e)
    };
    mkdirat(dir, TREE, Mode::S_IRWXU).map_err(failed("mkdir"))?;
    let tree = open_file(dir, TREE, OFlag::O_RDONLY | OFlag::O_DIRECTORY).map_err(failed("open"))?;
    for (name, mode) in [(HOME, 0o700), (OUTPUT, 0o755)] {
        room(&tree, &path, name, (mode, ground.owner))?;
    }
    mkdirat(&tree, STAGING, Mode::S_IRWXU).map_err(failed("mkdir"))?;
    let import = ground.import.map(Placed::seen_from_tree);
    if let Some(parent) = ground.fork_of {
        if is_empty_based(parent) {
            room(&tree, &path, EMPTY, (0o755, None))?;
        }
        return fork::follow(&tree, &path, (parent, import.as_deref()), ground.hidden);
    }
    match (ground.base, import) {
        (_, Some(copy)) => {
            let mode = trees::upper_mode(&path.join(&copy));
            trees::populate_over(&tree, &path, (&copy, mode), ground.owner)?;
        }
        (Some(base), None) => {
            trees::populate(&tree, &path, base, ground.owner)?;
            origin::note(&tree, base);
        }
        (None, None) => {
            room(&tree, &path, EMPTY, (0o755, None))?;
            trees::populate_over(&tree, &path, (Path::new(EMPTY), 0o755), ground.owner)?;
        }
    }
    Ok(())
}

/// Make a directory of these permission bits and this owner.
fn room(tree: &File, path: &Path, name: &str, (mode, owner): (u32, Option<(u32, u32)>)) -> Result<()> {
    let failed = |call| {
        let path = path.join(name);
        move |e| Error::call(call, &path, e)
    };
    fault::point();
    mkdirat(tree, name, Mode::S_IRWXU).map_err(failed("mkdir"))?;
    let made = open_file(tree, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY).map_err(failed("open"))?;
    // Set apart from mkdir, which the umask cuts down.
    fchmod(&made, Mode::from_bits_truncate(mode)).map_err(failed("chmod"))?;
    if let Some((uid, gid)) = owner {
        fchown(&made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(failed("chown"))?;
    }
    Ok(())
}

const SHELF: Shelf = Shelf { dir: DIR, kind: Kind::Workspace, name_of };

fn name_of(state: &StateDir, id: Id) -> std::result::Result<Option<Name>, Unread> {
    Ok(Filed::read(state, id)?.map(|filed| filed.record.name))
}

fn take_turn(state: &StateDir) -> Result<File> {
    SHELF.take_turn(state)
}

/// The workspace of that name. Two small reads.
pub fn holder(state: &StateDir, name: &Name) -> Result<Option<Id>> {
    SHELF.holder(state, name)
}

/// The same with its record.
pub fn of_name(state: &StateDir, name: &Name) -> std::result::Result<Option<Filed>, Unread> {
    let Some(id) = SHELF.linked(state, name)? else { return Ok(None) };
    Ok(Filed::read(state, id)?.filter(|filed| filed.record.name == *name))
}

/// Names that lead to no workspace, which killed processes left; they are taken away when `remove`.
pub fn stale_names(state: &StateDir, remove: bool) -> Result<Vec<String>> {
    SHELF.stale_names(state, remove)
}

/// Ids of all workspaces, in no order.
pub fn list(state: &StateDir) -> Result<Vec<Id>> {
    SHELF.list(state)
}

/// Replace the record of a workspace by what `change` makes of it; `None`: there is no such workspace. The
/// name stays what it is. It is no longer what was made for one command.
pub fn amend(
    state: &StateDir,
    id: Id,
    change: impl FnOnce(&mut Filed),
) -> std::result::Result<Option<Filed>, Unread> {
    let _turn = take_turn(state)?;
    let Some(mut filed) = Filed::read(state, id)? else { return Ok(None) };
    let name = filed.record.name.clone();
    filed.record.maker = None;
    change(&mut filed);
    filed.record.name = name;
    filed.write_in(state)?;
    Ok(Some(filed))
}

/// Give a workspace another name. `None`: there is no such workspace.
pub fn rename(state: &StateDir, id: Id, to: &Name) -> std::result::Result<Option<Named>, Unread> {
    let _turn = take_turn(state)?;
    let Some(mut filed) = Filed::read(state, id)? else { return Ok(None) };
    if let Named::Taken(other) = SHELF.link(state, to, id)? {
        return Ok(Some(Named::Taken(other)));
    }
    filed.record.maker = None;
    let from = std::mem::replace(&mut filed.record.name, to.clone());
    if let Err(e) = filed.write_in(state) {
        if from != *to {
            SHELF.unlink(state, to, id);
        }
        return Err(e.into());
    }
    if from != *to {
        SHELF.unlink(state, &from, id);
    }
    Ok(Some(Named::Yes))
}

/// A workspace that has lost its place and its name.
#[derive(Debug)]
pub struct Gone {
    name: CString,
    /// With its lock.
    _tree: Option<Tree>,
}

/// Take a workspace away, whose tree the caller has locked for itself alone (`None`: it has none). `None`:
/// it is gone already.
pub fn take_away(state: &StateDir, id: Id, tree: Option<Tree>) -> Result<Option<Gone>> {
    let turn = take_turn(state)?;
    let all = state.subdir(DIR)?;
    let name = Filed::read(state, id).ok().flatten().map(|filed| filed.record.name);
    let gone = format!("{GONE}{id}");
    fault::point();
    match renameat(&all, id.as_str(), &all, gone.as_str()) {
        Ok(()) => {}
        Err(Errno::ENOENT) => return Ok(None),
        Err(e) => return Err(Error::call("rename", &dir_of(state, id), e)),
    }
    if let Some(name) = name {
        SHELF.unlink(state, &name, id);
    }
    all.sync_all().ok();
    drop(turn);
    Ok(Some(Gone { name: CString::new(gone).unwrap_or_default(), _tree: tree }))
}

impl Gone {
    /// Remove its files.
    pub fn remove(self, state: &StateDir) -> Result<()> {
        self.remove_while(state, &mut || true).map(drop)
    }

    /// The same as long as `go_on`, asked for each entry, says yes. `false`: it said no, and a part is left.
    pub fn remove_while(self, state: &StateDir, go_on: &mut dyn FnMut() -> bool) -> Result<bool> {
        fault::point();
        remove_dir_while(state.subdir(DIR)?, &self.name, &state.path().join(DIR), go_on)
    }
}

/// Remove what killed processes left half made or half removed. The caller has the turn. Failing is no
/// loss: the next one tries again.
fn sweep(all: &File, path: &Path) {
    for name in dirfd::names(all).unwrap_or_default() {
        let Ok(text) = name.to_str() else { continue };
        let within = match text {
            _ if text.starts_with(NEW) => None,
            _ if text.starts_with(GONE) => Some(TREE),
            _ => continue,
        };
        // Whoever is at it holds a lock on the one or the other.
        let Ok(dir) = dirfd::open_dir(all, &name) else { continue };
        let held = match within {
            None => Some(File::from(dir)),
            Some(tree) => open_file(&dir, tree, OFlag::O_RDONLY | OFlag::O_DIRECTORY).ok(),
        };
        let free = held
            .as_ref()
            .is_none_or(|held| lock::try_acquire(held, lock::Mode::Exclusive, path).unwrap_or(false));
        if free {
            remove_dir(all, &name, path).ok();
        }
    }
}

/// The host directory of a tree's `base` link: one that is not absolute is in the tree itself.
pub(super) fn base_in(tree: &File, path: &Path, target: PathBuf) -> PathBuf {
    use std::os::fd::AsRawFd;
    if target.is_absolute() {
        return target;
    }
    // Without links, as the kernel knows it.
    let real = std::fs::read_link(format!("/proc/self/fd/{}", tree.as_raw_fd()));
    let mut whole = real.unwrap_or_else(|_| path.to_owned());
    for part in target.components() {
        match part {
            Component::ParentDir => drop(whole.pop()),
            part => whole.push(part),
        }
    }
    whole
}

/// Whether the tree of a workspace lies over a copy of a host directory.
pub fn is_over_import(tree: &Tree) -> bool {
    readlinkat(tree, "base").is_ok_and(|target| Path::new(&target).starts_with(layer::FROM_TREE))
}

/// Whether the tree of a workspace lies over an empty directory of its own.
pub fn is_empty_based(tree: impl AsFd) -> bool {
    readlinkat(tree, "base").is_ok_and(|target| Path::new(&target) == Path::new(EMPTY))
}

/// For messages: the directory of a workspace below the state directory.
pub fn shown(state: &StateDir, id: Id) -> String {
    text::os(&dir_of(state, id))
}
