//! Path arguments: from where they are taken, and whether they name anything.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use super::layers::Layer;
use super::{Error, Tree, base};
use crate::base::text;
use crate::sys::openat2::{self, For};

/// `cwd` below `base`; empty at the top of it and outside of it.
pub(super) fn below(base: &Path, cwd: Option<&Path>) -> Vec<u8> {
    let below = cwd.and_then(|cwd| cwd.strip_prefix(base).ok());
    below.map(|b| b.as_os_str().as_bytes().to_vec()).unwrap_or_default()
}

/// Path arguments as paths below the base, or absolute ones of a part, each of which names something
/// there or in the tree: a misspelt one would otherwise read as "nothing changed".
pub(super) fn check(tree: &Tree, cwd: Option<&Path>, paths: &[OsString]) -> Result<Vec<Vec<u8>>, Error> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let one = |path: &OsString| {
        let whole = absolute(&tree.base, cwd, path);
        let below = |layer: Layer<'_>| whole.strip_prefix(layer.base).ok().map(|b| b.as_os_str().as_bytes());
        // A part may hold the base: what is in both is the base's.
        let Some((layer, below)) = tree.layers().find_map(|layer| Some((layer, below(layer)?))) else {
            return Err(Error::Outside { path: text::os(path), base: text::os(&tree.base) });
        };
        if layer.uppers().any(|upper| is_there(upper, below)) || is_there(base::open_any(layer)?, below) {
            return Ok(layer.shown(below));
        }
        Err(Error::NoPath { path: text::os(path), base: text::os(layer.base), id: tree.id.to_string() })
    };
    paths.iter().map(one).collect()
}

/// Whether there is something of this name. What cannot be told is taken for there.
fn is_there(dir: impl AsFd, below: &[u8]) -> bool {
    let name = if below.is_empty() { b"." } else { below };
    match openat2::beneath(dir, name, For::Naming) {
        Ok(_) => true,
        // A link on the way: the comparison follows none either.
        Err(e) => !matches!(e.errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP),
    }
}

/// A path argument as an absolute path. A relative one starts at `cwd` where that is in the base, at the
/// base otherwise. Judged by text alone: links are not followed.
fn absolute(base: &Path, cwd: Option<&Path>, path: &OsString) -> PathBuf {
    let start = cwd.filter(|cwd| cwd.starts_with(base)).unwrap_or(base);
    let mut whole = PathBuf::new();
    for part in start.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(whole.pop()),
            other => whole.push(other),
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree;
    use super::*;

    #[test]
    fn path_arguments_are_taken_from_the_current_directory_or_the_base() {
        let get = |cwd: &str, path: &str| {
            let whole = absolute(Path::new("/p/q"), Some(Path::new(cwd)), &path.into());
            whole.strip_prefix("/p/q").map(|v| v.to_str().unwrap().to_owned()).ok()
        };
        assert_eq!(get("/p/q/sub", "x").as_deref(), Some("sub/x"));
        assert_eq!(get("/p/q/sub", "../y//z/.").as_deref(), Some("y/z"));
        assert_eq!(get("/elsewhere", "x").as_deref(), Some("x"));
        assert_eq!(get("/p/q", "/p/q/a").as_deref(), Some("a"));
        assert_eq!(get("/p/q", ".").as_deref(), Some(""));
        for outside in ["/p/qq", "..", "../../etc/passwd", "/"] {
            assert_eq!(get("/p/q", outside), None, "{outside}");
        }
    }

    #[test]
    fn a_path_names_something_of_the_base_or_of_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("base/old/deep")).unwrap();
        std::fs::create_dir_all(root.join("upper/new")).unwrap();
        std::os::unix::fs::symlink("old", root.join("base/link")).unwrap();
        let mut t = tree(&root.join("base"));
        t.upper = std::fs::File::open(root.join("upper")).unwrap().into();
        let get = |path: &str| check(&t, None, &[".".into(), path.into()]).map(|found| found[1].clone());
        for there in ["old", "old/deep", "new", "link"] {
            assert_eq!(get(there).unwrap(), there.as_bytes());
        }
        for missing in ["typo", "old/typo", "new/typo", "link/deep"] {
            let e = get(missing).unwrap_err();
            assert!(matches!(&e, Error::NoPath { path, .. } if path == missing), "{e}");
        }
    }
}
