//! Further overlays of a tree, each with a `base`, an `upper` and a `work` of its own:
//! `trees/ID/side/NAME` for parts of the project that lie outside of its directory, which are compared
//! and applied like the workspace, and `trees/ID/cache/NAME` for the jail's own side of a cache of the
//! user's, which is nobody's business once the tree goes.
//!
//! They are covered by the lock of the tree, made before its jail starts, and go with the tree: one
//! that has any is removed instead of being used again.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, readlinkat};
use nix::sys::stat::{Mode, fstatat, mkdirat};

use super::dirfd::{self, open_file};
use super::error::{Error, Result};
use super::trees::{Tree, populate};
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
    fn dir(self) -> &'static str {
        match self {
            Kind::Part => "side",
            Kind::Cache => "cache",
        }
    }
}

/// A further overlay of a tree.
#[derive(Debug)]
pub struct Side {
    /// As given to [`add`].
    pub name: CString,
    /// Its directory; what is in `upper` was written by a jail.
    pub dir: File,
    /// The host directory it lies over.
    pub base: PathBuf,
}

/// Where the layers of overlay `name` are or will be in the tree at `tree`.
pub fn path_of(tree: &Path, kind: Kind, name: &str) -> PathBuf {
    tree.join(kind.dir()).join(name)
}

/// Make the overlay `name` (a plain file name) over the host directory `base`; one that an earlier
/// run in this tree made over the same base is made ready to be mounted again. The caller holds the
/// lock of the tree. `owner` as in [`create_tree`](super::trees::create_tree).
pub fn add(tree: &Tree, kind: Kind, name: &str, base: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    let path = path_of(tree.path(), kind, name);
    let make = |parent: &File, name: &str| match mkdirat(parent, name, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => open_file(parent, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY),
        Err(e) => Err(e),
    };
    let all = open_file(tree, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY)
        .and_then(|top| make(&top, kind.dir()))
        .map_err(|e| Error::call("mkdir", &path, e))?;
    let dir = make(&all, name).map_err(|e| Error::call("mkdir", &path, e))?;
    match readlinkat(&dir, "base") {
        Err(Errno::ENOENT) => {
            populate(&dir, &path, base, owner)?;
            if kind == Kind::Part {
                origin::note(&dir, base);
            }
            Ok(())
        }
        Ok(old) if Path::new(&old) == base => match spare::clear_work(&dir) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::call("clear", &path.join("work"), Errno::ENOTEMPTY)),
            Err(e) => Err(Error::call("clear", &path.join("work"), e)),
        },
        Ok(_) => Err(Error::call("use", &path, Errno::ESTALE)),
        Err(e) => Err(Error::call("readlink", &path.join("base"), e)),
    }
}

/// All overlays of one kind, sorted by name.
pub fn all(tree: &Tree, kind: Kind) -> Result<Vec<Side>> {
    let fail = |e| Error::call("read", &tree.path().join(kind.dir()), e);
    let dir = match open_file(tree, kind.dir(), OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
        Ok(dir) => dir,
        Err(Errno::ENOENT) => return Ok(Vec::new()),
        Err(e) => return Err(fail(e)),
    };
    let mut names = dirfd::names(&dir).map_err(fail)?;
    names.sort();
    let mut sides = Vec::new();
    for name in names {
        let one = dirfd::open_dir(&dir, &name).map_err(fail)?;
        // Made last but for the layers: without them its making was cut short, and no jail saw it.
        if fstatat(&one, "upper", AtFlags::AT_SYMLINK_NOFOLLOW).is_ok() {
            let base = PathBuf::from(readlinkat(&one, "base").map_err(fail)?);
            sides.push(Side { name, dir: one.into(), base });
        }
    }
    Ok(sides)
}

/// Whether no part of the project outside of the workspace was changed.
pub(super) fn parts_unchanged(tree: &Tree) -> Result<bool> {
    for side in all(tree, Kind::Part)? {
        let untouched = planted::is_untouched(&side.dir);
        if !untouched.map_err(|e| Error::call("open", &tree.path().join(Kind::Part.dir()), e))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether there are overlays of any kind.
pub(super) fn any(tree: impl AsFd) -> bool {
    [Kind::Part, Kind::Cache]
        .iter()
        .any(|kind| fstatat(&tree, kind.dir(), AtFlags::AT_SYMLINK_NOFOLLOW) != Err(Errno::ENOENT))
}

/// Let an ordinary user's `rm -rf` remove them: see [`Tree::make_removable`].
pub(super) fn make_removable(tree: &Tree) {
    for kind in [Kind::Part, Kind::Cache] {
        for side in all(tree, kind).unwrap_or_default() {
            spare::open_work(&side.dir).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{id, state};
    use super::super::trees::{create_tree, names};
    use super::*;
    use std::fs;

    #[test]
    fn what_is_beside_the_workspace_counts_when_it_is_of_the_project() {
        let (dir, state) = state();
        let tree = create_tree(&state, id(), "/usr".as_ref(), None).unwrap();
        let base = dir.path();
        add(&tree, Kind::Part, "git", base, None).unwrap();
        add(&tree, Kind::Cache, "npm", base, None).unwrap();
        let git = path_of(tree.path(), Kind::Part, "git");
        assert!(git.join("work").exists() && git.join("upper").exists());
        let parts = all(&tree, Kind::Part).unwrap();
        assert_eq!((parts[0].name.as_c_str(), parts[0].base.as_path(), parts.len()), (c"git", base, 1));
        fs::write(path_of(tree.path(), Kind::Cache, "npm").join("upper/x"), "").unwrap();
        assert!(tree.is_unchanged().unwrap(), "a cache is nobody's business");
        fs::write(git.join("upper/x"), "").unwrap();
        assert!(!tree.is_unchanged().unwrap());
    }

    #[test]
    fn a_tree_with_more_than_a_workspace_is_not_used_again() {
        let (dir, state) = state();
        for kind in [Kind::Part, Kind::Cache] {
            let tree = create_tree(&state, id(), "/usr".as_ref(), None).unwrap();
            add(&tree, kind, "x", dir.path(), None).unwrap();
            tree.retire(&state).unwrap();
            assert_eq!(names(&state).unwrap().len(), 0, "{kind:?}");
        }
    }

    #[test]
    fn a_second_run_finds_the_layers_of_the_first_ready_to_be_mounted() {
        let (dir, state) = state();
        let tree = create_tree(&state, id(), "/usr".as_ref(), None).unwrap();
        let again = |base: &Path| add(&tree, Kind::Part, "git", base, None);
        again(dir.path()).unwrap();
        let git = path_of(tree.path(), Kind::Part, "git");
        fs::write(git.join("upper/kept"), "").unwrap();
        fs::create_dir_all(git.join("work/work/incompat/volatile")).unwrap();
        again(dir.path()).unwrap();
        assert!(git.join("upper/kept").exists() && !git.join("work/work").exists());
        assert_eq!(again("/usr".as_ref()).unwrap_err().errno(), Some(Errno::ESTALE), "another base");
        fs::create_dir_all(git.join("work/work/planted")).unwrap();
        assert_eq!(again(dir.path()).unwrap_err().errno(), Some(Errno::ENOTEMPTY));
    }
}
