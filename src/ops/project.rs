//! Which tree a command sees: the project that the current directory belongs to.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::base::env;
use crate::sys;

/// What makes a directory the top of a project.
const MARKS: [&str; 2] = ["aj.toml", ".git"];

/// Which tree the caller asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Choice {
    /// The project's.
    #[default]
    Project,
    /// The current directory alone (`--here`).
    Here,
    /// This one (`--root-dir`).
    Dir(PathBuf),
}

/// A tree, and where in it the command starts.
#[derive(Debug)]
pub struct Place {
    /// The tree's top: absolute, without links.
    pub root: PathBuf,
    /// Its metadata.
    pub meta: Metadata,
    /// The caller's current directory, or the top when that lies elsewhere.
    pub start: PathBuf,
    /// The caller's current directory; empty where that cannot be used and was not needed.
    pub cwd: PathBuf,
    /// Why this tree.
    pub why: &'static str,
    /// Where it is shown, when that is not its own path.
    pub shown_at: Option<PathBuf>,
}

impl Place {
    /// Where it is shown.
    pub fn at(&self) -> &Path {
        match &self.shown_at {
            Some(at) => at,
            None if self.root == Path::new("/") => Path::new("/workspace"),
            None => &self.root,
        }
    }
}

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The current directory.
    #[error("the current directory cannot be used: {}", super::config::why(.0))]
    CurrentDir(io::Error),
    /// The directory of `--root-dir`.
    #[error("`--root-dir {}`: {}", crate::base::text::os(.path), super::config::why(.why))]
    Root {
        /// As given.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
}

/// The current directory, if it can be a workspace at all.
pub fn current_dir() -> Result<(PathBuf, Metadata), Error> {
    let path = std::env::current_dir().map_err(Error::CurrentDir)?;
    // Longer ones exist (made step by step), but no call takes them.
    if path.as_os_str().len() >= 4096 {
        return Err(Error::CurrentDir(io::Error::from(Errno::ENAMETOOLONG)));
    }
    let meta = std::fs::metadata(&path).map_err(Error::CurrentDir)?;
    Ok((path, meta))
}

/// Find the tree.
pub fn find(choice: &Choice) -> Result<Place, Error> {
    let (cwd, here) = current_dir()?;
    let place = |root: PathBuf, meta, why| {
        let start = if cwd.starts_with(&root) { cwd.clone() } else { root.clone() };
        Place { root, meta, start, cwd: cwd.clone(), why, shown_at: None }
    };
    match choice {
        Choice::Here => Ok(place(cwd.clone(), here, "--here")),
        Choice::Dir(path) => {
            let fail = |why| Error::Root { path: path.clone(), why };
            let root = std::fs::canonicalize(path).map_err(fail)?;
            let meta = std::fs::metadata(&root).map_err(fail)?;
            if !meta.is_dir() {
                return Err(fail(io::Error::from(Errno::ENOTDIR)));
            }
            Ok(place(root, meta, "--root-dir"))
        }
        Choice::Project => match root(&cwd, &here, env::HOME.absolute_path().as_deref()) {
            (_, None) => Ok(place(cwd.clone(), here, "the current directory")),
            (root, Some(mark)) => {
                let meta = std::fs::metadata(&root).map_err(Error::CurrentDir)?;
                Ok(place(root, meta, mark))
            }
        },
    }
}

/// The top of the project that `cwd` is in: `cwd` itself when it is in none.
pub fn root_of(cwd: &Path) -> PathBuf {
    std::fs::metadata(cwd)
        .map_or_else(|_| cwd.to_owned(), |meta| root(cwd, &meta, env::HOME.absolute_path().as_deref()).0)
}

/// The tree over `root`, which a kept tree was made over.
pub fn over(root: PathBuf) -> Result<Place, Error> {
    kept(root, "the kept tree", None)
}

/// The tree of a workspace, over the directory `root`, which is seen at `at`; `None`: at its own path, because
/// it is one of the host's.
pub fn of_workspace(root: PathBuf, at: Option<PathBuf>) -> Result<Place, Error> {
    kept(root, "the workspace", at)
}

fn kept(root: PathBuf, why: &'static str, shown_at: Option<PathBuf>) -> Result<Place, Error> {
    // What was named needs none: one that is gone is in no tree, and what is named below it is not there.
    let cwd = current_dir().map_or_else(|_| PathBuf::new(), |(cwd, _)| cwd);
    let meta = std::fs::metadata(&root).map_err(|why| Error::Root { path: root.clone(), why })?;
    let start = if cwd.starts_with(&root) { cwd.clone() } else { root.clone() };
    Ok(Place { root, meta, start, cwd, why, shown_at })
}

/// The nearest directory at or above `cwd` with an `aj.toml` or a `.git` (a directory, a file or a
/// link), below the home directory; `cwd` itself when there is none. With it, what marks it.
///
/// A mark above `cwd` widens what the jail sees, so it must be the owner's of `cwd` who put it there,
/// in a directory of his own: anyone may make a `/tmp/.git` (CVE-2022-24765 was git's own lesson). The way
/// ends where `cwd` is no longer on the mount of the directory, as git's does: what is mounted below a tree
/// is not shown with it, so `cwd` would not be there.
/// Two calls for each directory on the way; nothing is read.
fn root(cwd: &Path, meta: &Metadata, home: Option<&Path>) -> (PathBuf, Option<&'static str>) {
    let home_id = || home.and_then(|h| h.metadata().ok()).map(|m| (m.dev(), m.ino()));
    for dir in cwd.ancestors() {
        if dir.parent().is_none() || home.is_some_and(|home| home.starts_with(dir)) {
            break;
        }
        let mark = MARKS.into_iter().find_map(|m| dir.join(m).symlink_metadata().ok().map(|meta| (m, meta)));
        let Some((name, mark)) = mark else { continue };
        if dir == cwd {
            return (cwd.to_owned(), Some(name));
        }
        let Ok(top) = dir.symlink_metadata() else { break };
        // The home directory by another name (a link in the way, a bind mount), or that of its owner, when root
        // works there.
        if home_id() == Some((top.dev(), top.ino())) || is_home(dir, &top, home) {
            break;
        }
        if dir != cwd && mount_of(dir) != mount_of(cwd) {
            break;
        }
        if [top.uid(), mark.uid()].iter().all(|uid| *uid == meta.uid()) && top.mode() & 0o002 == 0 {
            return (dir.to_owned(), Some(name));
        }
    }
    (cwd.to_owned(), None)
}

/// Bytes of `/etc/passwd` that are read.
const PASSWD: u64 = 1 << 20;

/// Whether `dir` is where `/etc/passwd` has its owner live. Nothing is read for a directory of the caller's own, or
/// below his home: where he lives is said by `home`, and nobody else lives there.
pub(super) fn is_home(dir: &Path, meta: &Metadata, home: Option<&Path>) -> bool {
    if home.is_some_and(|home| meta.uid() == nix::unistd::geteuid().as_raw() || dir.starts_with(home)) {
        return false;
    }
    let mut text = Vec::new();
    let read = std::fs::File::open("/etc/passwd").and_then(|file| file.take(PASSWD).read_to_end(&mut text));
    let is_it = |home: &[u8]| {
        let lives = Path::new(OsStr::from_bytes(home)).metadata();
        lives.is_ok_and(|lives| (lives.dev(), lives.ino()) == (meta.dev(), meta.ino()))
    };
    read.is_ok() && homes(&text, meta.uid()).any(is_it)
}

/// The homes of `uid` in the text of passwd(5).
fn homes(text: &[u8], uid: u32) -> impl Iterator<Item = &[u8]> {
    let uid = uid.to_string();
    text.split(|b| *b == b'\n').filter_map(move |line| {
        let mut fields = line.split(|b| *b == b':').skip(2);
        let own = fields.next()? == uid.as_bytes();
        let home = fields.nth(2)?;
        (own && home.starts_with(b"/")).then_some(home)
    })
}

/// The mount that a directory is on; `None` when it cannot be opened, not even to be named.
fn mount_of(dir: &Path) -> Option<u64> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let dir = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(dir).ok()?;
    Some(sys::at::fstat(&dir).ok()?.mount)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn find(cwd: &Path, home: &Path) -> (PathBuf, Option<&'static str>) {
        root(cwd, &fs::metadata(cwd).unwrap(), Some(home))
    }

    fn ground() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(top.join("home/code/app/src/deep")).unwrap();
        (dir, top)
    }

    #[test]
    fn the_nearest_mark_wins_whatever_it_is() {
        let (_dir, top) = ground();
        let (home, app) = (top.join("home"), top.join("home/code/app"));
        let deep = app.join("src/deep");
        assert_eq!(find(&deep, &home), (deep.clone(), None));
        fs::create_dir(home.join("code/.git")).unwrap();
        assert_eq!(find(&deep, &home), (home.join("code"), Some(".git")));
        // A linked worktree's file, a dangling link.
        fs::write(app.join(".git"), "gitdir: /elsewhere").unwrap();
        assert_eq!(find(&deep, &home), (app.clone(), Some(".git")));
        fs::remove_file(app.join(".git")).unwrap();
        symlink("/nowhere", app.join(".git")).unwrap();
        assert_eq!(find(&deep, &home), (app.clone(), Some(".git")));
        fs::write(app.join("src/aj.toml"), "").unwrap();
        assert_eq!(find(&deep, &home), (app.join("src"), Some("aj.toml")));
        assert_eq!(find(&app, &home), (app, Some(".git")));
    }

    #[test]
    fn the_home_directory_and_what_is_above_are_never_a_project() {
        let (_dir, top) = ground();
        let (home, deep) = (top.join("home"), top.join("home/code/app/src/deep"));
        fs::create_dir(home.join(".git")).unwrap();
        fs::create_dir(top.join(".git")).unwrap();
        assert_eq!(find(&deep, &home), (deep.clone(), None));
        // Known by another name.
        symlink(&home, top.join("alias")).unwrap();
        assert_eq!(find(&deep, &top.join("alias")), (deep.clone(), None));
        // Beside it, what is above both.
        fs::create_dir(top.join("beside")).unwrap();
        assert_eq!(find(&top.join("beside"), &home), (top.join("beside"), None));
        // Outside of it, the way ends at the top.
        assert_eq!(find(&deep, Path::new("/nowhere")).0, home);
    }

    #[test]
    fn where_somebody_lives_stands_in_a_table() {
        let text = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:1:::\nbroken\n:x:7\nme:x:7:7:a,b:/home/me:/bin/sh\n\xff:x:7:7::rel:\nalso:x:7:7::/srv/me";
        let of = |uid| homes(text, uid).collect::<Vec<_>>();
        assert_eq!(of(7), [&b"/home/me"[..], b"/srv/me"]);
        assert_eq!((of(0), of(65534)), (vec![&b"/root"[..]], vec![]));
        let root = fs::metadata("/root").or_else(|_| fs::metadata("/"));
        let (lives, root) = (Path::new("/root"), root.unwrap());
        if lives.metadata().is_ok() {
            assert!(is_home(lives, &root, None));
            let others = !nix::unistd::geteuid().is_root();
            assert_eq!(is_home(lives, &root, Some(Path::new("/home/me"))), others);
            assert!(!is_home(&lives.join("in"), &root, Some(lives)), "below the caller's own nobody lives");
        }
        let (dir, _) = ground();
        assert!(!is_home(dir.path(), &fs::metadata(dir.path()).unwrap(), None));
    }

    #[test]
    fn a_mark_of_somebody_else_or_where_anyone_may_put_one_does_not_count() {
        let (_dir, top) = ground();
        let (home, app) = (top.join("home"), top.join("home/code/app"));
        fs::create_dir(app.join(".git")).unwrap();
        let deep = app.join("src/deep");
        fs::set_permissions(&app, Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(find(&deep, &home), (deep.clone(), None));
        fs::set_permissions(&app, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find(&deep, &home).0, app);
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIP: only root can give files away");
            return;
        }
        for planted in [app.join(".git"), app.clone()] {
            std::os::unix::fs::chown(&planted, Some(12345), None).unwrap();
            assert_eq!(find(&deep, &home), (deep.clone(), None), "{planted:?}");
            std::os::unix::fs::chown(&planted, Some(0), None).unwrap();
        }
    }
}
