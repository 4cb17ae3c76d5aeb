//! The trees of one-shot overlays: `trees/ID/{base, upper, work}`, further overlays (see
//! [`sides`]), and what `origin`, `kept` and `applied` note beside them. None of it is ever
//! shown to a jail but the upper layers, through the overlays.
//!
//! A tree is in use while somebody holds a `flock` on its directory: the supervisor an exclusive one
//! for the length of the run, `aj diff` and `aj apply` shared ones for theirs, so that a shared lock
//! that is refused tells a run. A killed process holds nothing. The
//! directory `trees` itself is locked shared while a tree is being made and exclusively while one
//! is judged, so that a tree is never seen between `mkdir` and its lock.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, fchown, symlinkat};

use super::dirfd::{self, open_file};
use super::error::{Error, Result};
use super::kept::Kept;
use super::layout::StateDir;
use super::lock;
use super::{origin, planted, quota, sides, spare, workspaces};
use crate::base::id::{Id, Kind};

pub(super) const DIR: &str = "trees";
/// How long a sweep may hold the lock of a tree it judges; whoever holds it longer is a run.
const A_SWEEP: Duration = Duration::from_millis(100);
/// Prefix of a tree on its way out: no longer found, removed by the next sweep if we die.
pub(super) const GONE: &str = ".gone-";

/// The open directory of a tree. Dropping it gives up the lock, if it was taken.
#[derive(Debug)]
pub struct Tree {
    id: Id,
    dir: File,
    path: PathBuf,
    /// A run went on in it: see [`super::again`].
    again: bool,
    /// A quota may hold it: see [`super::quota`].
    pub(super) has_quota: bool,
}

/// Where the tree of jail or workspace `id` is or will be.
pub fn path_of(state: &StateDir, id: Id) -> PathBuf {
    state.path().join(below(id))
}

/// The same below the state directory: of a workspace, its tree.
fn below(id: Id) -> String {
    match id.kind() {
        // Jobs and volumes have none: what is looked for there is not found.
        Kind::Jail | Kind::Job | Kind::Volume => format!("{DIR}/{id}"),
        Kind::Workspace => workspaces::tree_below(id),
    }
}

/// Make the tree of jail `id` over the host directory `base`, and lock it.
///
/// `upper` and `work` belong to `owner` when given (the host ids that a jail of real root is mapped
/// to); `upper` gets the permission bits of `base`, because overlayfs shows them as the bits of the
/// workspace's root.
pub fn create_tree(state: &StateDir, id: Id, base: &Path, owner: Option<(u32, u32)>) -> Result<Tree> {
    let trees = state.subdir(DIR)?;
    let trees_path = state.path().join(DIR);
    let path = trees_path.join(id.as_str());
    lock::acquire(&trees, lock::Mode::Shared, lock::APPEND_WAIT, &trees_path)?;
    if let Some(tree) = spare::take(&trees, &path, id, base, owner) {
        origin::note(&tree, base);
        return Ok(tree);
    }
    mkdirat(&trees, id.as_str(), Mode::S_IRWXU).map_err(|e| Error::call("mkdir", &path, e))?;
    let dir = open_tree_dir(&trees, id.as_str()).map_err(|e| Error::call("open", &path, e))?;
    let tree = Tree::from_parts(id, dir, path);
    if !tree.try_lock()? {
        return Err(tree.busy());
    }
    drop(trees);
    populate(&tree.dir, &tree.path, base, owner)?;
    origin::note(&tree, base);
    Ok(tree)
}

/// Prepare a tree for a later [`create_tree`]: work for a moment of waiting.
pub fn prepare_spare(state: &StateDir) -> Result<()> {
    spare::prepare(&state.subdir(DIR)?, &state.path().join(DIR), &spare::Shelf::trees());
    Ok(())
}

/// The directory of all trees.
pub(super) fn all(state: &StateDir) -> Result<File> {
    state.subdir(DIR)
}

/// The tree of jail or workspace `id`, not locked; `None` when there is none or it was never finished.
pub fn open_tree(state: &StateDir, id: Id) -> Result<Option<Tree>> {
    let path = path_of(state, id);
    match open_tree_dir(state, &below(id)) {
        Ok(dir) => {
            let tree = Tree::from_parts(id, dir, path);
            if tree.is_lasting() {
                workspaces::mend(state, &tree)?;
            }
            Ok(tree.unlock_upper().then_some(tree))
        }
        Err(Errno::ENOENT) => Ok(None),
        Err(e) => Err(Error::call("open", &path, e)),
    }
}

/// Ids of all trees, in use or not, sorted.
pub fn list_trees(state: &StateDir) -> Result<Vec<Id>> {
    let mut ids: Vec<Id> = names(state)?.iter().filter_map(|n| n.to_str().ok()?.parse().ok()).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Remove the tree of jail `id`, whatever is in it. [`Error::Busy`] while it is in use; fine when
/// there is none.
pub fn remove_tree(state: &StateDir, id: Id) -> Result<()> {
    let path = state.path().join(DIR).join(id.as_str());
    match open_tree_dir(state, &format!("{DIR}/{id}")) {
        Ok(dir) => {
            let tree = Tree::from_parts(id, dir, path);
            if tree.try_lock()? { tree.remove(state) } else { Err(tree.busy()) }
        }
        Err(Errno::ENOENT) => Ok(()),
        Err(e) => Err(Error::call("open", &path, e)),
    }
}

/// Whether the tree `id` exists and is in use by jail `jail`.
pub(super) fn is_locked(state: &StateDir, id: &Id, jail: &Id) -> bool {
    let Ok(dir) = open_tree_dir(state, &below(*id)) else { return false };
    matches!(lock::try_acquire(&dir, lock::Mode::Shared, Path::new(DIR)), Ok(false))
        // A later run may hold the tree of one that was killed.
        && Kept::read(&dir).and_then(|k| k.last).is_none_or(|last| last == *jail)
}

/// Whether `tree` still has its name.
pub(super) fn is_current(state: &StateDir, tree: &Tree) -> Result<bool> {
    Ok(open_tree(state, tree.id)?.is_some_and(|named| named.is(tree)))
}

/// Open and lock a kept tree to remove it; `None` when it is in use or gone.
pub fn claim_kept(state: &StateDir, id: Id) -> Result<Option<Tree>> {
    let Some(tree) = open_tree(state, id)? else { return Ok(None) };
    Ok((tree.try_lock()? && is_current(state, &tree)?).then_some(tree))
}

/// The turn of one process among those that hold the kept trees to their bounds, until it is dropped.
/// `None`: another one has it for longer than `wait`.
pub fn take_turn(state: &StateDir, wait: Duration) -> Result<Option<File>> {
    const NAME: &str = "keep.lock";
    let path = state.path().join(NAME);
    let file = open_file(state, NAME, OFlag::O_RDWR | OFlag::O_CREAT);
    let file = file.map_err(|e| Error::call("open", &path, e))?;
    match lock::acquire(&file, lock::Mode::Exclusive, wait, &path) {
        Ok(()) => Ok(Some(file)),
        Err(Error::Busy { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

/// All names in `trees`, none when it does not exist.
pub(super) fn names(state: &StateDir) -> Result<Vec<CString>> {
    let path = state.path().join(DIR);
    let dir = match open_file(state, DIR, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
        Ok(dir) => dir,
        Err(Errno::ENOENT) => return Ok(Vec::new()),
        Err(e) => return Err(Error::call("open", &path, e)),
    };
    dirfd::names(&dir).map_err(|e| Error::call("readdir", &path, e))
}

/// Open and lock a tree to judge it; `None` when it is in use, being made, or gone.
pub fn claim(state: &StateDir, id: Id) -> Result<Option<Tree>> {
    let trees = state.subdir(DIR)?;
    let path = state.path().join(DIR).join(id.as_str());
    // Held by a tree being made; that one is not ours to judge, and neither is anything right now.
    if !lock::try_acquire(&trees, lock::Mode::Exclusive, &path)? {
        return Ok(None);
    }
    match open_tree_dir(&trees, id.as_str()) {
        Ok(dir) => {
            let tree = Tree::from_parts(id, dir, path);
            Ok(tree.try_lock()?.then_some(tree))
        }
        Err(Errno::ENOENT) => Ok(None),
        Err(e) => Err(Error::call("open", &path, e)),
    }
}

pub(super) fn open_tree_dir(parent: impl AsFd, name: &str) -> nix::Result<File> {
    open_file(parent, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
}

impl Tree {
    /// The jail it belongs to.
    pub fn id(&self) -> Id {
        self.id
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The writable layer. What is in it was written by a jail.
    pub fn upper(&self) -> PathBuf {
        self.path.join("upper")
    }

    /// overlayfs's own working directory.
    pub fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    /// The host directory it lies over, as given to [`create_tree`].
    pub fn base(&self) -> Result<PathBuf> {
        let target: OsString =
            readlinkat(&self.dir, "base").map_err(|e| Error::call("readlink", &self.path.join("base"), e))?;
        Ok(workspaces::base_in(&self.dir, &self.path, PathBuf::from(target)))
    }

    /// Take the lock if nobody else holds it.
    pub fn try_lock(&self) -> Result<bool> {
        lock::try_acquire(&self.dir, lock::Mode::Exclusive, &self.path)
    }

    /// Take the lock; a sweep that judges the tree is waited for.
    pub fn lock_patiently(&self) -> Result<bool> {
        match lock::acquire(&self.dir, lock::Mode::Exclusive, A_SWEEP, &self.path) {
            Ok(()) => Ok(true),
            Err(Error::Busy { .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Keep the tree from being swept or removed while this value lives. `false`: its run still goes on.
    pub fn try_share(&self) -> Result<bool> {
        match lock::acquire(&self.dir, lock::Mode::Shared, A_SWEEP, &self.path) {
            Ok(()) => Ok(true),
            Err(Error::Busy { .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The run is over: let readers in, while the tree is kept from being removed as long as this value
    /// lives.
    pub fn share(&self) -> Result<()> {
        lock::try_acquire(&self.dir, lock::Mode::Shared, &self.path).map(drop)
    }

    /// Let an ordinary user's `rm -rf` remove it: the run is over, but the kernel leaves directories
    /// without permission bits in `work`. Failing is no loss: aj itself removes them all the same.
    pub fn make_removable(&self) {
        spare::open_work(&self.dir).ok();
        sides::make_removable(self);
    }

    /// Whether it is that of a workspace, which stays whatever is in it.
    pub fn is_lasting(&self) -> bool {
        self.id.kind() == Kind::Workspace
    }

    /// Whether parts of the project that lie elsewhere were changed in it.
    pub fn has_parts(&self) -> Result<bool> {
        sides::parts_unchanged(self).map(|unchanged| !unchanged)
    }

    /// Whether a run, or somebody who takes it away, holds it now.
    pub fn is_in_use(&self) -> Result<bool> {
        lock::try_acquire(&self.dir, lock::Mode::Shared, &self.path).map(|free| !free)
    }

    /// Whether nothing was ever changed: the upper layers have no entries but those that hide something.
    pub fn is_unchanged(&self) -> Result<bool> {
        let untouched = match planted::is_untouched(self) {
            // One that can be opened and not entered.
            Err(Errno::EACCES) if self.unlock_upper() => planted::is_untouched(self),
            done => done,
        };
        let untouched = untouched.map_err(|e| Error::call("open", &self.upper(), e))?;
        Ok(untouched && sides::parts_unchanged(self)?)
    }

    /// Remove it. The caller holds the lock.
    pub fn remove(self, state: &StateDir) -> Result<()> {
        match self.take_away(state)? {
            Some(gone) => gone.remove(state, &mut || true).map(drop),
            None => Ok(()),
        }
    }

    /// Put an unchanged tree aside for the next run to take, or remove it when enough are there.
    /// The caller holds the lock, and nothing is mounted on it any more.
    pub fn retire(self, state: &StateDir) -> Result<()> {
        // Out of it first: what is hidden from one jail is no business of the next one over another base;
        // nor is what is noted beside the layers of a tree that several ran in.
        if self.again || !planted::uproot(&self).unwrap_or(false) {
            return self.remove(state);
        }
        if self.has_quota && quota::take_off(&self).is_err() {
            return self.remove(state);
        }
        let trees = state.subdir(DIR)?;
        let reusable = sides::put_aside(&trees, &self)? && spare::put(&trees, self.id, &self.dir);
        if reusable { Ok(()) } else { self.remove(state) }
    }

    /// Whether making it came to its end: `upper` is made last.
    pub(super) fn is_whole(&self) -> bool {
        dirfd::has_upper(&self.dir)
    }

    /// The same, and open `upper` to its owner: a jail may have shut it, and its `aj` was killed before it could
    /// open it.
    pub(super) fn unlock_upper(&self) -> bool {
        dirfd::unlock_upper(&self.dir)
    }

    /// Open the writable layer to look at it, whatever permission bits the jail left on its top.
    pub fn open_upper(&self) -> Result<OwnedFd> {
        // One that can be read but not entered is opened as well.
        self.unlock_upper();
        dirfd::open_upper(&self.dir).map_err(|e| Error::call("open", &self.upper(), e))
    }

    /// A tree of these parts.
    pub(super) fn from_parts(id: Id, dir: File, path: PathBuf) -> Tree {
        Tree { id, dir, path, again: false, has_quota: false }
    }

    /// From now on it is a tree that a further run goes on in.
    pub(super) fn goes_on(&mut self) {
        self.again = true;
    }

    /// Whether it was made for an earlier run than the one that holds it.
    pub fn is_older(&self) -> bool {
        self.again
    }

    fn busy(&self) -> Error {
        Error::Busy { path: crate::base::text::os(&self.path), waited: Duration::ZERO }
    }
}

/// Make `base`, `work` and `upper` in `dir`, which is at `path`; `upper` last.
pub(super) fn populate(dir: &File, path: &Path, base: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    populate_over(dir, path, (base, upper_mode(base)), owner)
}

/// The same with the permission bits of `upper`.
pub(super) fn populate_over(
    dir: &File,
    path: &Path,
    (base, mode): (&Path, u32),
    owner: Option<(u32, u32)>,
) -> Result<()> {
    symlinkat(base, dir, "base").map_err(|e| Error::call("symlink", &path.join("base"), e))?;
    spare::date_base(dir).map_err(|e| Error::call("utimensat", &path.join("base"), e))?;
    for (name, mode) in [(c"work", 0o700), (c"upper", mode)] {
        let fail = |call| move |e| Error::call(call, &path.join(name.to_string_lossy().as_ref()), e);
        mkdirat(dir, name, Mode::S_IRWXU).map_err(fail("mkdir"))?;
        if owner.is_none() && mode == 0o700 {
            continue;
        }
        let made = dirfd::open_dir(dir, name).map_err(fail("open"))?;
        // Set apart from mkdir, which the umask cuts down.
        fchmod(&made, Mode::from_bits_truncate(mode)).map_err(fail("chmod"))?;
        if let Some((uid, gid)) = owner {
            fchown(&made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(fail("chown"))?;
        }
    }
    Ok(())
}

/// Permission bits of an upper layer over `base`.
pub(super) fn upper_mode(base: &Path) -> u32 {
    std::fs::metadata(base).map_or(0o755, |m| m.mode() & 0o777 | 0o700)
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{id, state};
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn whether_a_tree_is_whole_is_a_question_and_opening_it_is_not() {
        let (dir, state) = state();
        let tree = create_tree(&state, id(), dir.path(), None).unwrap();
        let mode = || fs::metadata(tree.upper()).unwrap().mode() & 0o7777;
        fs::set_permissions(tree.upper(), Permissions::from_mode(0o20)).unwrap();
        assert!(tree.is_whole());
        assert_eq!(mode(), 0o20);
        assert!(tree.unlock_upper());
        assert_eq!(mode(), 0o720);
        assert!(tree.is_unchanged().is_ok());
        fs::remove_dir(tree.upper()).unwrap();
        assert!(!tree.is_whole() && !tree.unlock_upper());
    }

    #[test]
    fn a_tree_is_made_locked_found_and_removed() {
        let (dir, state) = state();
        let base = dir.path().join("base");
        fs::create_dir(&base).unwrap();
        fs::set_permissions(&base, Permissions::from_mode(0o2775)).unwrap();
        let a = id();
        let tree = create_tree(&state, a, &base, None).unwrap();
        assert_eq!((tree.id(), tree.base().unwrap()), (a, base.clone()));
        assert_eq!(fs::metadata(tree.upper()).unwrap().mode() & 0o7777, 0o775, "the base's bits");
        assert_eq!(fs::metadata(tree.work()).unwrap().mode() & 0o7777, 0o700);
        assert_eq!(fs::metadata(tree.path()).unwrap().mode() & 0o7777, 0o700);
        assert!(tree.is_unchanged().unwrap());
        assert_eq!(list_trees(&state).unwrap(), [a]);
        assert!(is_locked(&state, &a, &a));
        assert!(!open_tree(&state, a).unwrap().unwrap().try_lock().unwrap());
        assert!(matches!(remove_tree(&state, a), Err(Error::Busy { .. })));
        let e = create_tree(&state, a, &base, None).unwrap_err();
        assert_eq!(e.errno(), Some(Errno::EEXIST));
        fs::write(tree.upper().join("x"), "").unwrap();
        assert!(!tree.is_unchanged().unwrap());
        drop(tree);
        assert!(!is_locked(&state, &a, &a));
        remove_tree(&state, a).unwrap();
        remove_tree(&state, a).unwrap();
        assert!(open_tree(&state, a).unwrap().is_none());
        assert_eq!(fs::read_dir(state.path().join("trees")).unwrap().count(), 0);
        assert!(base.exists(), "the base is only linked to");
    }

    #[test]
    fn readers_share_a_tree_that_no_run_holds() {
        let (_dir, state) = state();
        let run = create_tree(&state, id(), "/".as_ref(), None).unwrap();
        let open = || open_tree(&state, run.id()).unwrap().unwrap();
        assert!(!open().try_share().unwrap(), "its run goes on");
        let id = run.id();
        drop(run);
        let readers = [(); 2].map(|()| open_tree(&state, id).unwrap().unwrap());
        assert!(readers.iter().all(|r| r.try_share().unwrap()));
        assert!(matches!(remove_tree(&state, id), Err(Error::Busy { .. })));
    }

    #[test]
    fn what_overlayfs_leaves_can_be_made_removable() {
        let (_dir, state) = state();
        let tree = create_tree(&state, id(), "/".as_ref(), None).unwrap();
        tree.make_removable();
        let left = ["work", "work/incompat", "work/incompat/volatile"].map(|n| tree.work().join(n));
        fs::create_dir_all(&left[2]).unwrap();
        for dir in left.iter().rev() {
            fs::set_permissions(dir, Permissions::from_mode(0o0)).unwrap();
        }
        tree.make_removable();
        for dir in &left {
            assert_eq!(fs::metadata(dir).unwrap().mode() & 0o777, 0o700, "{}", dir.display());
        }
    }

    #[test]
    fn the_layers_belong_to_the_jails_owner() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIP: only root can give files away");
            return;
        }
        let (_dir, state) = state();
        let tree = create_tree(&state, id(), "/".as_ref(), Some((1_001_000, 1_002_000))).unwrap();
        let owner = |p: &Path| fs::metadata(p).map(|m| (m.uid(), m.gid())).unwrap();
        assert_eq!(owner(&tree.upper()), (1_001_000, 1_002_000));
        assert_eq!(owner(&tree.work()), (1_001_000, 1_002_000));
        assert_eq!(owner(tree.path()), (0, nix::unistd::getegid().as_raw()));
    }

    #[test]
    fn the_holder_of_the_lock_may_remove_its_own_tree() {
        let (_dir, state) = state();
        let a = id();
        let tree = create_tree(&state, a, "/".as_ref(), None).unwrap();
        // A leftover of an earlier attempt is in the way.
        fs::create_dir_all(state.path().join(format!("trees/{GONE}{a}/x"))).unwrap();
        tree.remove(&state).unwrap();
        assert_eq!(list_trees(&state).unwrap(), []);
    }

    #[test]
    fn a_link_in_place_of_a_tree_is_not_followed() {
        let (dir, state) = state();
        let a = id();
        fs::create_dir_all(dir.path().join("victim/upper")).unwrap();
        state.subdir("trees").unwrap();
        let link = state.path().join("trees").join(a.as_str());
        std::os::unix::fs::symlink(dir.path().join("victim"), link).unwrap();
        assert!(open_tree(&state, a).is_err());
        assert!(remove_tree(&state, a).is_err());
        assert!(dir.path().join("victim/upper").exists());
    }
}
