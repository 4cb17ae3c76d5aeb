//! Further overlays of a tree, each with a `base`, an `upper` and a `work` of its own:
//! `trees/ID/side-NAME` for parts of the project that lie outside of its directory, which are compared
//! and applied like the workspace, and `trees/ID/cache-NAME` for the jail's own side of a cache of the
//! user's, which is nobody's business once the tree goes.
//!
//! They are covered by the lock of the tree, made before its jail starts, and go with the tree. Parts
//! that a run left unchanged are put aside for the next run over the same directory, like trees.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::{Mode, mkdirat};

use super::dirfd::{self, open_file};
use super::error::{Error, Result};
use super::layout::StateDir;
use super::trees::{self, Tree, populate};
use super::{origin, planted, spare};

/// What a further overlay is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A part of the project.
    Part,
    /// A cache.
    Cache,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Kind::Part => "side-",
            Kind::Cache => "cache-",
        }
    }
}

/// A further overlay of a tree.
#[derive(Debug)]
pub struct Side {
    /// Of its directory in that of the tree: the kind, and what was given to [`add`].
    pub name: CString,
    /// Its directory; what is in `upper` was written by a jail.
    pub dir: File,
    /// The host directory it lies over.
    pub base: PathBuf,
}

impl Side {
    /// Open the writable layer to look at it, whatever permission bits the jail left on its top.
    pub fn open_upper(&self) -> Result<OwnedFd> {
        dirfd::open_upper(&self.dir).map_err(|e| Error::call("open", &self.base, e))
    }
}

/// Where the layers of overlay `name` are or will be in the tree at `tree`.
pub fn path_of(tree: &Path, kind: Kind, name: &str) -> PathBuf {
    tree.join(format!("{}{name}", kind.prefix()))
}

/// Make the overlay `name` (a plain file name) over the host directory `base`; one that an earlier
/// run in this tree made over the same base is made ready to be mounted again. The caller holds the
/// lock of the tree. `owner` as in [`create_tree`](super::trees::create_tree).
pub fn add(
    state: &StateDir,
    tree: &Tree,
    (kind, name): (Kind, &str),
    base: &Path,
    owner: Option<(u32, u32)>,
) -> Result<()> {
    let path = path_of(tree.path(), kind, name);
    let name = format!("{}{name}", kind.prefix());
    if kind == Kind::Part
        && let Some(dir) = spare::take_side(&trees::all(state)?, (tree, &name), base, owner)
    {
        origin::note(&dir, base);
        return Ok(());
    }
    match mkdirat(tree, name.as_str(), Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(e) => return Err(Error::call("mkdir", &path, e)),
    }
    let dir = open_file(tree, &name, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
    let dir = dir.map_err(|e| Error::call("open", &path, e))?;
    match readlinkat(&dir, "base") {
        Err(Errno::ENOENT) => {
            populate(&dir, &path, base, owner)?;
            if kind == Kind::Part {
                origin::note(&dir, base);
            }
            Ok(())
        }
        Ok(old) if Path::new(&old) == base => spare::empty_work(&dir, &path),
        Ok(_) => Err(Error::call("use", &path, Errno::ESTALE)),
        Err(e) => Err(Error::call("readlink", &path.join("base"), e)),
    }
}

/// All overlays of one kind, sorted by name.
pub fn all(tree: &Tree, kind: Kind) -> Result<Vec<Side>> {
    Ok(every(tree)?.into_iter().filter(|(k, _)| *k == kind).map(|(_, side)| side).collect())
}

/// All overlays, sorted by name.
fn every(tree: &Tree) -> Result<Vec<(Kind, Side)>> {
    let fail = |e| Error::call("read", tree.path(), e);
    let mut names = dirfd::names(tree).map_err(fail)?;
    names.sort();
    let mut sides = Vec::new();
    for name in names {
        let of = |kind: &Kind| name.to_bytes().starts_with(kind.prefix().as_bytes());
        let Some(kind) = [Kind::Part, Kind::Cache].into_iter().find(of) else { continue };
        let one = dirfd::open_dir(tree, &name).map_err(fail)?;
        // Made last but for the layers: without them its making was cut short, and no jail saw it.
        if dirfd::unlock_upper(&one) {
            let base = PathBuf::from(readlinkat(&one, "base").map_err(fail)?);
            sides.push((kind, Side { name, dir: one.into(), base }));
        }
    }
    Ok(sides)
}

/// Put the parts aside that a run left unchanged, for the next one over the same directories. `false`:
/// the tree has something beside the workspace that cannot be used again.
pub(super) fn put_aside(trees: &File, tree: &Tree) -> Result<bool> {
    let (parts, caches): (Vec<_>, Vec<_>) = every(tree)?.into_iter().partition(|(k, _)| *k == Kind::Part);
    for (_, side) in parts {
        // What is hidden from one jail is no business of the next one.
        if !planted::uproot(&side.dir).unwrap_or(false) || !spare::put_side(trees, (tree, &side)) {
            return Ok(false);
        }
    }
    Ok(caches.is_empty())
}

/// Make one part over each of `bases` ready for a later run. Failing is no loss.
pub fn prepare_spares<'a>(state: &StateDir, bases: impl Iterator<Item = &'a Path>) {
    for base in bases {
        if let Ok(trees) = trees::all(state) {
            spare::prepare(&trees, state.path(), &spare::Shelf::of(base));
        }
    }
}

/// Whether no part of the project outside of the workspace was changed.
pub(super) fn parts_unchanged(tree: &Tree) -> Result<bool> {
    for side in all(tree, Kind::Part)? {
        let untouched = planted::is_untouched(&side.dir);
        if !untouched.map_err(|e| Error::call("open", tree.path(), e))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Let an ordinary user's `rm -rf` remove them: see [`Tree::make_removable`].
pub(super) fn make_removable(tree: &Tree) {
    for (_, side) in every(tree).unwrap_or_default() {
        spare::open_work(&side.dir).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{id, state};
    use super::super::trees::{create_tree, names};
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn what_is_beside_the_workspace_counts_when_it_is_of_the_project() {
        let (dir, state) = state();
        let tree = create_tree(&state, id(), "/usr".as_ref(), None).unwrap();
        let base = dir.path();
        add(&state, &tree, (Kind::Part, "git"), base, None).unwrap();
        add(&state, &tree, (Kind::Cache, "npm"), base, None).unwrap();
        let git = path_of(tree.path(), Kind::Part, "git");
        assert!(git.join("work").exists() && git.join("upper").exists());
        let parts = all(&tree, Kind::Part).unwrap();
        assert_eq!((parts[0].name.as_c_str(), parts[0].base.as_path(), parts.len()), (c"side-git", base, 1));
        fs::write(path_of(tree.path(), Kind::Cache, "npm").join("upper/x"), "").unwrap();
        assert!(tree.is_unchanged().unwrap(), "a cache is nobody's business");
        fs::write(git.join("upper/x"), "").unwrap();
        assert!(!tree.is_unchanged().unwrap());
    }

    fn names_of(state: &StateDir) -> Vec<String> {
        let mut all: Vec<_> =
            names(state).unwrap().iter().map(|n| n.to_string_lossy().into_owned()).collect();
        all.sort();
        all
    }

    #[test]
    fn a_part_that_was_not_changed_is_used_again_over_the_same_directory_and_no_other() {
        let (dir, state) = state();
        let inode = |tree: &Tree| {
            let upper = path_of(tree.path(), Kind::Part, "git").join("upper");
            std::os::unix::fs::MetadataExt::ino(&fs::metadata(upper).unwrap())
        };
        let ctime = |tree: &Tree| {
            let base = path_of(tree.path(), Kind::Part, "git").join("base");
            fs::symlink_metadata(base).map(|m| (m.ctime(), m.ctime_nsec())).unwrap()
        };
        let run = |base: &Path| {
            let tree = create_tree(&state, id(), "/usr".as_ref(), None).unwrap();
            add(&state, &tree, (Kind::Part, "git"), base, None).unwrap();
            fs::create_dir_all(path_of(tree.path(), Kind::Part, "git").join("work/work/incompat/volatile"))
                .unwrap();
            tree
        };
        let end = |tree: Tree| {
            tree.retire(&state).unwrap();
            trees::prepare_spare(&state).unwrap();
            prepare_spares(&state, [dir.path()].into_iter());
        };
        let first = run(dir.path());
        let (was, began) = (inode(&first), ctime(&first));
        end(first);
        assert_eq!(names_of(&state).len(), 2, "{:?}", names_of(&state));
        let other = run(Path::new("/usr"));
        assert_ne!(inode(&other), was);
        std::thread::sleep(std::time::Duration::from_millis(20));
        let second = run(dir.path());
        assert_eq!(inode(&second), was);
        assert!(ctime(&second) > began, "its start is its own");
        fs::write(path_of(second.path(), Kind::Part, "git").join("upper/x"), "").unwrap();
        end(second);
        assert!(run(dir.path()).is_unchanged().unwrap(), "what was written to is never used again");
    }

    #[test]
    fn a_tree_with_a_cache_is_not_used_again() {
        let (dir, state) = state();
        let tree = create_tree(&state, id(), "/usr".as_ref(), None).unwrap();
        add(&state, &tree, (Kind::Cache, "x"), dir.path(), None).unwrap();
        tree.retire(&state).unwrap();
        assert_eq!(names_of(&state), Vec::<String>::new());
    }

    #[test]
    fn parts_of_directories_that_nobody_uses_any_more_do_not_pile_up() {
        let (dir, state) = state();
        for n in 0..20 {
            let base = dir.path().join(n.to_string());
            fs::create_dir(&base).unwrap();
            let tree = create_tree(&state, id(), "/usr".as_ref(), None).unwrap();
            add(&state, &tree, (Kind::Part, "git"), &base, None).unwrap();
            tree.retire(&state).unwrap();
        }
        let sides = names_of(&state).into_iter().filter(|n| n.contains("-side-")).count();
        assert!((1..=8).contains(&sides), "{sides}");
    }

    #[test]
    fn a_second_run_finds_the_layers_of_the_first_ready_to_be_mounted() {
        let (dir, state) = state();
        let tree = create_tree(&state, id(), "/usr".as_ref(), None).unwrap();
        let again = |base: &Path| add(&state, &tree, (Kind::Part, "git"), base, None);
        again(dir.path()).unwrap();
        let git = path_of(tree.path(), Kind::Part, "git");
        fs::write(git.join("upper/kept"), "").unwrap();
        fs::create_dir_all(git.join("work/work/incompat/volatile")).unwrap();
        again(dir.path()).unwrap();
        assert!(git.join("upper/kept").exists() && !git.join("work/work").exists());
        assert_eq!(again("/usr".as_ref()).unwrap_err().errno(), Some(Errno::ESTALE), "another base");
        fs::create_dir_all(git.join("work/work/half")).unwrap();
        again(dir.path()).unwrap();
        assert!(git.join("upper/kept").exists() && !git.join("work/work").exists(), "what a power cut left");
    }
}
