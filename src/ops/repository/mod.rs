//! What git needs of the host beside the tree: the git directory that a linked worktree shares, that of
//! a submodule, and the object stores of a clone that borrows them.
//!
//! Where they are is written in the tree, by whoever wrote the tree, who may have been a stranger. So a
//! pointer is never enough: what it names has to say for itself that it belongs here. The shared
//! directory of a linked worktree names its worktrees, the directory of a submodule its working tree, and
//! neither is a place that the tree's author can write to. A borrowed store says nothing about its
//! borrowers; it is shown when the history that this repository names continues in it, which nobody can
//! write down who has not seen it. Whatever cannot prove itself is named and left out. git is never run
//! on the host: its files are read here, bounded, and by paths in which no link was followed unseen.

mod alternates;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod objects;
mod pointer;

use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use crate::base::{env, text};
use crate::jail::plan;
use crate::jail::spec::Owner;
use crate::policy::flavor::{Refusal, private};
use crate::sys::at::{self, FileKind};
use crate::sys::copy;
use crate::sys::openat2::{self, For};

/// Longer `.git` files and the like are none.
const POINTER_LIMIT: usize = 4096;
/// A longer configuration is not read.
const CONFIG_LIMIT: usize = 1 << 20;

/// The tree, and what else is known of the jail.
pub struct Around<'a> {
    /// Its top: absolute, without links.
    pub tree: &'a Path,
    /// Whose it is.
    pub owner: Owner,
    /// The state directory, without links.
    pub state: &'a Path,
    /// An overlay is to be made over a shared directory: its files must be those of the caller's group.
    pub overlay: bool,
    /// Whether a path is shown without us.
    pub shown: &'a dyn Fn(&Path) -> bool,
}

impl std::fmt::Debug for Around<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Around").field("tree", &self.tree).finish_non_exhaustive()
    }
}

/// What is to be shown.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// A git directory outside of the tree that belongs to it, and whose it is.
    pub shared: Option<(PathBuf, Owner)>,
    /// Object stores that are only read.
    pub borrowed: Vec<PathBuf>,
    /// Names that lead to them, through links of the host.
    pub links: Vec<(PathBuf, PathBuf)>,
}

/// Look for it: two calls for a tree with a plain `.git` directory, one for a tree without.
/// What is named in the tree and not shown is a warning.
pub fn find(around: &Around<'_>, warnings: &mut Vec<String>) -> Needs {
    let mut needs = Needs::default();
    let git = around.tree.join(".git");
    let Ok(meta) = git.symlink_metadata() else { return needs };
    let (own, common) = if meta.is_dir() {
        (git.clone(), git)
    } else {
        match pointer::resolve(around, &git, meta.file_type(), &mut needs) {
            Ok(Some(found)) => found,
            Ok(None) => return needs,
            Err(why) => {
                warnings.push(why);
                return needs;
            }
        }
    };
    alternates::find(around, (&own, &common), &mut needs, warnings);
    needs
}

impl Around<'_> {
    /// Whether the jail has `path`, absolute and without links, anyway.
    fn has(&self, path: &Path) -> bool {
        path.starts_with(self.tree) || (self.shown)(path)
    }

    /// Why `path` is nothing to show, by its name alone. Asked before anything there is touched, too.
    fn private(&self, path: &Path) -> Result<(), String> {
        let home = env::HOME.absolute_path();
        let real = home.as_deref().and_then(|h| std::fs::canonicalize(h).ok());
        for home in [home.as_deref(), real.as_deref()] {
            match private(path, home) {
                None => {}
                Some(Refusal::Home) => return Err("it has your home directory in it".to_owned()),
                Some(Refusal::Secret(secret)) => return Err(format!("secrets are kept in `{secret}`")),
                Some(Refusal::Machine) => return Err("it is a place of the machine".to_owned()),
            }
        }
        if path.starts_with(self.state) || self.state.starts_with(path) {
            return Err("aj's state directory is there".to_owned());
        }
        if !plan::can_show(path) {
            return Err("the jail has something of its own in that place".to_owned());
        }
        Ok(())
    }

    /// Why the directory `path` is not one that the tree may share, by whose it is and who may write it.
    fn trusted(&self, path: &Path) -> Result<Owner, String> {
        let opened = openat2::absolute(path.as_os_str().as_encoded_bytes(), For::Passing);
        let meta = opened.and_then(at::fstat).map_err(|e| format!("it cannot be opened ({})", e.name()))?;
        let me = nix::unistd::geteuid().as_raw();
        if meta.uid != me && meta.uid != self.owner.uid {
            return Err(format!("it belongs to user {}", meta.uid));
        }
        if meta.mode & 0o002 != 0 {
            return Err("everyone may write it".to_owned());
        }
        Ok(Owner { uid: meta.uid, gid: meta.gid })
    }

    /// Whether `path`, seen from `from`, is the tree itself, by whatever name.
    fn is_tree(&self, from: &Path, path: &Path) -> bool {
        let (Ok(there), Ok(tree)) = (std::fs::metadata(from.join(path)), std::fs::metadata(self.tree)) else {
            return false;
        };
        (there.dev(), there.ino()) == (tree.dev(), tree.ino())
    }
}

/// `path` as seen from `dir`, without `.` and `..`, by text alone.
fn plain(dir: &Path, path: &Path) -> PathBuf {
    let mut whole = PathBuf::new();
    for part in dir.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(whole.pop()),
            other => whole.push(other),
        }
    }
    whole
}

/// Where `path`, seen from `dir`, really is.
fn real(dir: &Path, path: &Path) -> Result<PathBuf, String> {
    std::fs::canonicalize(dir.join(path)).map_err(|e| match e.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT | Errno::ENOTDIR) => "there is no such directory".to_owned(),
        Some(errno) => format!("it cannot be followed ({errno:?})"),
        None => "it is no path".to_owned(),
    })
}

/// What is in a regular file, as `read` reads one; `None` where it cannot be read.
pub fn read_file(path: &Path, limit: usize) -> Option<Vec<u8>> {
    read(path, limit).ok().flatten()
}

/// A regular file at an absolute path without links; nothing blocks, nothing long is read. `Ok(None)`:
/// there is none.
fn read(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, String> {
    let name = path.as_os_str().as_encoded_bytes();
    let file = match openat2::absolute(name, For::Reading) {
        Ok(file) => file,
        Err(e) if matches!(e.errno, Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
        Err(e) => return Err(format!("`{}` cannot be opened ({})", text::os(path), e.name())),
    };
    let unfit = |what: &str| Err(format!("`{}` {what}", text::os(path)));
    match at::fstat(&file) {
        Ok(meta) if meta.kind != FileKind::File => return unfit("is no file"),
        Ok(meta) if meta.size > limit as u64 => return unfit("is too long"),
        Ok(_) => {}
        Err(e) => return unfit(&format!("cannot be looked at ({})", e.name())),
    }
    match copy::read_all(&file, limit) {
        Ok(Some(bytes)) => Ok(Some(bytes)),
        Ok(None) => unfit("is too long"),
        Err(e) => unfit(&format!("cannot be read ({})", e.name())),
    }
}
