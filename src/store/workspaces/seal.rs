//! Sealing: what was written in a workspace becomes a layer that nobody writes any more,
//! `layers/ID/{upper, home, output}`, on which the workspace and its forks then stand.
//!
//! Each of the three changes places with an empty directory that waits where the layer will be, so that at
//! no instant one of them is missing. The file `sealing` in the tree, written before the first of them
//! moves, says which inodes were the workspace's own: until the record of the workspace names the layer,
//! whoever opens the tree next puts them back, and afterwards they are the layer's. The caller holds the
//! lock of the tree for itself alone.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, fchmod, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use super::super::atomic::{self, Durability};
use super::super::dirfd::{self, open_file};
use super::super::error::{Error, Result};
use super::super::layout::StateDir;
use super::super::remove::remove_dir;
use super::super::trees::Tree;
use super::super::{fault, lock, planted, quota};
use super::{Filed, NewLayer, Unread, room, take_turn};
use crate::base::id::{Id, Kind};
use crate::sys::at::{self, Replace};
use crate::sys::exchange::exchange;

pub(super) const DIR: &str = "layers";
const NOTE: &str = "sealing";
const HEAD: &str = "aj-sealing 1\n";
/// What is sealed: names in the tree, and in the layer.
pub const ROOMS: [&CStr; 3] = [c"upper", c"home", c"output"];
/// Of those, what the kernel wants beside when they lie over a layer.
const WORKS: [&str; 2] = ["home-work", "output-work"];
/// In a layer that was made of several: the names of those, the newest first.
const MERGED: &str = "merged";
/// Layers of one workspace at most: with what they lie over, eight lower layers.
pub const MOST_LAYERS: usize = 7;
/// Of them, how many are left as they are when the others are made one.
pub const OLDEST: usize = 2;

/// Where layer `name` is.
pub fn path_of(state: &StateDir, name: &str) -> PathBuf {
    state.real_path().join(DIR).join(name)
}

/// Whether `name` can be that of a layer: records are files that a person may have changed.
pub fn is_layer_name(name: &str) -> bool {
    format!("{}{name}", Kind::Workspace.prefix()).parse::<Id>().is_ok()
}

/// The open directories of that name in the layers of a workspace, the newest first.
pub fn open_layers(state: &StateDir, layers: &[String], room: &CStr) -> Result<Vec<std::os::fd::OwnedFd>> {
    let open = |name: &String| {
        let path = path_of(state, name);
        if !is_layer_name(name) {
            return Err(Error::call("open", &path, Errno::EINVAL));
        }
        let failed = |e| Error::call("open", &path, e);
        let layer = open_file(state, &format!("{DIR}/{name}"), OFlag::O_RDONLY | OFlag::O_DIRECTORY);
        dirfd::open_dir(layer.map_err(failed)?, room).map_err(failed)
    };
    layers.iter().map(open).collect()
}

/// Seal what is in the tree of a workspace, and note it in its record. Nothing happens when nothing was
/// written since the last time. Its record as it is then comes back.
pub fn seal(state: &StateDir, tree: &Tree) -> std::result::Result<Option<Filed>, Unread> {
    let _turn = take_turn(state)?;
    let Some(mut filed) = Filed::read(state, tree.id())? else { return Ok(None) };
    // What aj put there to hide secrets is no part of it.
    fault::point();
    planted::lift(tree)?;
    if is_bare(tree)? {
        return Ok(Some(filed));
    }
    let all = state.subdir(DIR)?;
    let name = fresh(tree.path())?;
    let path = state.path().join(DIR).join(&name);
    let failed = |call| {
        let path = path.clone();
        move |e| Error::call(call, &path, e)
    };
    fault::point();
    mkdirat(&all, name.as_str(), Mode::S_IRWXU).map_err(failed("mkdir"))?;
    let layer = open_file(&all, &name, OFlag::O_RDONLY | OFlag::O_DIRECTORY).map_err(failed("open"))?;
    let mut note = format!("{HEAD}{name}\n");
    for room in ROOMS {
        let mut of = stat(tree, room).map_err(|e| Error::call("stat", tree.path(), e))?;
        // A directory that its owner may not write to goes nowhere, and a jail sets the bits of this one.
        if of.st_mode & 0o700 != 0o700 {
            dirfd::unlock(tree, room).map_err(|e| Error::call("chmod", &tree.path().join(on(room)), e))?;
            of.st_mode |= 0o700;
        }
        fault::point();
        twin(&layer, room, &of).map_err(failed("mkdir"))?;
        note.push_str(&format!("{}\n", of.st_ino));
    }
    let owner = stat(tree, c"upper").map_err(|e| Error::call("stat", tree.path(), e))?;
    add_works(tree, &owner)?;
    fault::point();
    let noted = atomic::write(tree, NOTE, note.as_bytes(), Durability::Synced);
    noted.map_err(|e| Error::call("write", &tree.path().join(NOTE), e))?;
    for room in ROOMS {
        fault::point();
        if let Err(e) = change_places(tree, &layer, room) {
            mend_in(state, tree)?;
            return Err(e.into());
        }
    }
    fault::point();
    filed.record.layers.insert(0, name);
    if let Err(e) = filed.write_in(state) {
        mend_in(state, tree)?;
        return Err(e.into());
    }
    // A limit is of what is written in a workspace, not of what it stands on. Before the note goes: whoever finds it
    // does this as well.
    fault::point();
    quota::take_off(tree).map_err(Error::from)?;
    forget(tree)?;
    Ok(Some(filed))
}

/// Let `room` of the tree and the empty one of the layer change places. NFS knows no exchange: there the tree has none
/// for an instant, in which [`mend`] makes one.
fn change_places(tree: &Tree, layer: &File, room: &CStr) -> Result<()> {
    match exchange((tree, room), (layer, room)) {
        Err(e) if e.errno == Errno::EINVAL => {
            at::rename_between((tree, room.to_bytes()), (layer, room.to_bytes()), Replace::Yes)?;
            fault::point();
            replace_missing(tree, layer, room)
        }
        done => Ok(done?),
    }
}

/// An empty `room` like that of the layer, where the tree has none.
fn replace_missing(tree: &Tree, layer: &File, room: &CStr) -> Result<()> {
    let failed = |call| move |e| Error::call(call, tree.path(), e);
    match stat(tree, room) {
        Err(Errno::ENOENT) => {
            let of = stat(layer, room).map_err(failed("stat"))?;
            let dir = dirfd::open_dir(tree, c".").map(File::from).map_err(failed("open"))?;
            twin(&dir, room, &of).map_err(failed("mkdir"))
        }
        found => found.map(drop).map_err(failed("stat")),
    }
}

/// The same, once what hides secrets is taken out. The caller holds the lock for itself alone.
pub fn is_bare_but_for_ours(tree: &Tree) -> Result<bool> {
    planted::lift(tree)?;
    is_bare(tree)
}

/// Make one layer of the newer ones of a workspace, whose tree the caller has locked for itself alone: `merge` fills
/// an empty one.
pub fn replace_layers(
    state: &StateDir,
    tree: &Tree,
    merge: impl FnOnce(&[String], &File) -> Result<()>,
) -> std::result::Result<(), Unread> {
    let Some(filed) = Filed::read(state, tree.id())? else { return Ok(()) };
    // The oldest stay: what was there at first is most of it as a rule.
    let (newest, rest) = filed.record.layers.split_at(filed.record.layers.len().saturating_sub(OLDEST));
    let rest = rest.to_vec();
    let made = NewLayer::make(state, tree)?;
    if let Err(e) = merge(newest, made.dir()) {
        made.discard()?;
        return Err(e.into());
    }
    let of = lineage(state, newest)?.join("\n");
    fault::point();
    atomic::write(made.dir(), MERGED, of.as_bytes(), Durability::Cache)
        .map_err(|e| Error::call("write", &state.path().join(DIR), e))?;
    let _turn = take_turn(state)?;
    let Some(mut filed) = Filed::read(state, tree.id())? else { return Ok(()) };
    let placed = made.place_in_turn()?;
    fault::point();
    filed.record.layers = std::iter::once(placed.name.clone()).chain(rest).collect();
    Ok(filed.write_in(state)?)
}

/// The layers that `layers` were sealed as, whichever of them have been made one since.
pub fn lineage(state: &StateDir, layers: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for name in layers.iter().filter(|name| is_layer_name(name)) {
        let failed = |call| {
            let path = path_of(state, name);
            move |e| Error::call(call, &path, e)
        };
        let layer = open_file(state, &format!("{DIR}/{name}"), OFlag::O_RDONLY | OFlag::O_DIRECTORY);
        let merged = atomic::read(layer.map_err(failed("open"))?, MERGED, 1 << 20).map_err(failed("read"))?;
        match merged {
            Some(of) => all.extend(String::from_utf8_lossy(&of).lines().map(str::to_owned)),
            None => all.push(name.clone()),
        }
    }
    Ok(all)
}

/// Open what is to be filled of a new layer.
pub fn open_room(layer: &File, room: &CStr) -> Result<std::os::fd::OwnedFd> {
    dirfd::open_dir(layer, room).map_err(|e| Error::call("open", Path::new(DIR), e))
}

/// A name for a layer.
pub(super) fn fresh(for_path: &Path) -> Result<String> {
    let id = Id::random(Kind::Workspace).map_err(|_| Error::call("getrandom", for_path, Errno::EIO))?;
    Ok(id.as_str().trim_start_matches(Kind::Workspace.prefix()).to_owned())
}

/// Whether nothing was written since the workspace was made or sealed.
pub fn is_bare(tree: &Tree) -> Result<bool> {
    for room in ROOMS {
        if !is_room_bare(tree, room)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The same for one of its directories.
pub fn is_room_bare(tree: &Tree, room: &CStr) -> Result<bool> {
    let path = || tree.path().join(on(room));
    let dir = dirfd::open_top(tree, room).map_err(|e| Error::call("open", &path(), e))?;
    dirfd::is_empty(&dir).map_err(|e| Error::call("readdir", &path(), e))
}

/// The name of one of [`ROOMS`] in a path.
fn on(room: &CStr) -> &OsStr {
    OsStr::from_bytes(room.to_bytes())
}

pub(super) fn stat(dir: impl std::os::fd::AsFd, name: &CStr) -> std::result::Result<FileStat, Errno> {
    fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// An empty directory like the one of `of`.
pub(super) fn twin(dir: &File, name: &CStr, of: &FileStat) -> std::result::Result<(), Errno> {
    mkdirat(dir, name, Mode::S_IRWXU)?;
    let made = dirfd::open_dir(dir, name)?;
    fchmod(&made, Mode::from_bits_truncate(of.st_mode & 0o7777))?;
    let (uid, gid) = (Uid::from_raw(of.st_uid), Gid::from_raw(of.st_gid));
    if nix::unistd::geteuid().is_root() { fchown(&made, Some(uid), Some(gid)) } else { Ok(()) }
}

/// Make the working directories that overlays of home and output need.
pub(super) fn add_works(tree: impl std::os::fd::AsFd, of: &FileStat) -> Result<()> {
    let dir = dirfd::open_dir(&tree, c".").map(File::from);
    let dir = dir.map_err(|e| Error::call("open", Path::new("."), e))?;
    let owner = nix::unistd::geteuid().is_root().then_some((of.st_uid, of.st_gid));
    for name in WORKS {
        match room(&dir, Path::new(name), name, (0o700, owner)) {
            Err(e) if e.errno() == Some(Errno::EEXIST) => {}
            done => done?,
        }
    }
    Ok(())
}

/// Empty the working directories of home and output, which the kernel mounts over once only.
pub fn clear_works(tree: &Tree) -> Result<()> {
    for name in WORKS {
        let path = tree.path().join(name);
        let name = CString::new(name).unwrap_or_default();
        match dirfd::open_dir(tree, &name) {
            Ok(work) => remove_dir(&work, c"work", &path)?,
            Err(Errno::ENOENT) => {}
            Err(e) => return Err(Error::call("open", &path, e)),
        }
    }
    Ok(())
}

/// Put right what a killed process left of sealing the workspace of `tree`. Costs one call when there is
/// nothing. `false`: somebody is at it.
pub fn mend(state: &StateDir, tree: &Tree) -> Result<bool> {
    match stat(tree, c"sealing") {
        Err(Errno::ENOENT) => return Ok(true),
        Err(e) => return Err(Error::call("stat", &tree.path().join(NOTE), e)),
        Ok(_) => {}
    }
    // By a description of its own, so that the lock goes with it.
    let own = dirfd::open_dir(tree, c".").map_err(|e| Error::call("open", tree.path(), e))?;
    if !lock::try_acquire(&File::from(own), lock::Mode::Exclusive, tree.path())? {
        return Ok(false);
    }
    let _turn = take_turn(state)?;
    mend_in(state, tree)?;
    Ok(true)
}

/// The same for whoever holds the tree for itself alone, and has the turn.
pub(in super::super) fn mend_in(state: &StateDir, tree: &Tree) -> Result<()> {
    let read = atomic::read(tree, NOTE, 4096).map_err(|e| Error::call("read", &tree.path().join(NOTE), e))?;
    let Some(bytes) = read else { return Ok(()) };
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.strip_prefix(HEAD).unwrap_or_default().lines();
    let Some(name) = lines.next().filter(|name| is_layer_name(name)) else {
        // Cut short: nothing was moved.
        return forget(tree);
    };
    let sealed = match Filed::read(state, tree.id()) {
        Ok(Some(filed)) => filed.record.layers.iter().any(|layer| layer == name),
        // Taken away meanwhile, or a record that says nothing: what is there is not touched.
        Ok(None) | Err(Unread::Damaged { .. } | Unread::Newer { .. }) => return Ok(()),
        Err(Unread::Store(e)) => return Err(e),
    };
    let all = state.subdir(DIR)?;
    if sealed {
        if let Ok(layer) = open_file(&all, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
            ROOMS.into_iter().try_for_each(|room| replace_missing(tree, &layer, room))?;
        }
        // Failing is a limit that is too strict, which is no reason to keep anybody from what is there.
        quota::take_off(tree).ok();
    } else {
        let path = state.path().join(DIR).join(name);
        match open_file(&all, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
            Err(Errno::ENOENT) => {}
            Err(e) => return Err(Error::call("open", &path, e)),
            Ok(layer) => {
                for (room, inode) in ROOMS.into_iter().zip(lines) {
                    let there = stat(&layer, room).map(|m| m.st_ino.to_string());
                    if there.as_deref() == Ok(inode) {
                        fault::point();
                        match exchange((tree, room), (&layer, room)) {
                            // Ours is empty, or not there.
                            Err(e) if matches!(e.errno, Errno::EINVAL | Errno::ENOENT) => {
                                let (from, to) = ((&layer, room.to_bytes()), (tree, room.to_bytes()));
                                at::rename_between(from, to, Replace::Yes)?;
                            }
                            done => done?,
                        }
                    }
                }
                // Only the empty ones are left in it.
                fault::point();
                let name = CString::new(name).unwrap_or_default();
                remove_dir(&all, &name, &path)?;
            }
        }
    }
    forget(tree)
}

fn forget(tree: &Tree) -> Result<()> {
    fault::point();
    match unlinkat(tree, NOTE, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(e) => Err(Error::call("unlink", &tree.path().join(NOTE), e)),
    }
}

/// Remove the layers that no workspace stands on. Their names go first, in the turn of the caller.
pub fn release(state: &StateDir) -> Result<()> {
    let gone = {
        let _turn = take_turn(state)?;
        unused(state)?
    };
    let all = state.subdir(DIR)?;
    for name in gone {
        remove_dir(&all, &name, &state.path().join(DIR))?;
    }
    Ok(())
}

/// Layers that no workspace stands on, by name, as far as that can be told.
pub fn unused_layers(state: &StateDir) -> Result<Vec<String>> {
    let _turn = match take_turn(state) {
        Err(e) if e.is_read_only() => None,
        turn => Some(turn?),
    };
    let Some((dir, used)) = used(state)? else { return Ok(Vec::new()) };
    let path = state.path().join(DIR);
    let names = dirfd::names(&dir).map_err(|e| Error::call("readdir", &path, e))?;
    let names = names.iter().filter_map(|n| n.to_str().ok());
    let unused = |name: &&str| is_layer_name(name) && !used.contains(*name) && !is_held(&dir, name, &path);
    Ok(names.filter(unused).map(str::to_owned).collect())
}

/// The layers that are used, and the directory of all. `None`: there are none, or a record cannot be read, and
/// all may be used.
fn used(state: &StateDir) -> Result<Option<(File, std::collections::BTreeSet<String>)>> {
    let path = state.path().join(DIR);
    let dir = match open_file(state, DIR, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
        Ok(dir) => dir,
        Err(Errno::ENOENT) => return Ok(None),
        Err(e) => return Err(Error::call("open", &path, e)),
    };
    let mut used = std::collections::BTreeSet::new();
    for id in super::list(state)? {
        match Filed::read(state, id) {
            Ok(Some(filed)) => {
                used.extend(filed.record.import.map(|import| import.layer));
                used.extend(filed.record.layers);
            }
            Ok(None) => {}
            Err(_) => return Ok(None),
        }
        // One that is half sealed may have everything in a layer that no record names yet.
        if dir_of_tree(state, id).is_ok_and(|tree| stat(&tree, c"sealing").is_ok()) {
            return Ok(None);
        }
    }
    Ok(Some((dir, used)))
}

/// Take their names from the layers that are not used.
fn unused(state: &StateDir) -> Result<Vec<CString>> {
    let path = state.path().join(DIR);
    let Some((dir, used)) = used(state)? else { return Ok(Vec::new()) };
    let mut gone = Vec::new();
    for name in dirfd::names(&dir).map_err(|e| Error::call("readdir", &path, e))? {
        let Ok(text) = name.to_str() else { continue };
        if text.starts_with(super::GONE) {
            // One that is being filled is locked.
            let held = open_file(&dir, text, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
            if held.is_ok_and(|d| lock::try_acquire(&d, lock::Mode::Exclusive, &path).unwrap_or(false)) {
                gone.push(name);
            }
        } else if is_layer_name(text) && !used.contains(text) && !is_held(&dir, text, &path) {
            let to = format!("{}{text}", super::GONE);
            fault::point();
            if nix::fcntl::renameat(&dir, name.as_c_str(), &dir, to.as_str()).is_ok() {
                gone.extend(CString::new(to));
            }
        }
    }
    Ok(gone)
}

/// Whether somebody is about to make a workspace that stands on a layer.
fn is_held(all: &File, name: &str, path: &Path) -> bool {
    let dir = open_file(all, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
    dir.is_ok_and(|dir| !lock::try_acquire(&dir, lock::Mode::Exclusive, path).unwrap_or(true))
}

fn dir_of_tree(state: &StateDir, id: Id) -> Result<File> {
    let path = super::tree_below(id);
    match open_file(state, &path, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
        Ok(dir) => Ok(dir),
        Err(e) => Err(Error::call("open", &state.path().join(path), e)),
    }
}
