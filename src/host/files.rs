//! The mounts of a jail, tried one kind at a time in new namespaces.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::attempt::{Ids, attempt, inside};
use super::facts::Tried;
use crate::base::text;
use crate::sys::clone::Namespaces;
use crate::sys::mount::{self, Attr, NewFs};
use crate::sys::ns::{IdMap, Mapping};
use crate::sys::{Error, Result};

const SPACE: Namespaces = Namespaces::WITHOUT_NET;

fn open_dir(path: &CStr) -> Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|e| Error::new("open", text::c(path), e))
}

fn cpath(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::new("open", text::os(path), Errno::EINVAL))
}

/// A tmpfs with a directory `root`, attached over `/dev`, as the jail's pid 1 does it.
fn scratch() -> Result<OwnedFd> {
    let tmpfs = NewFs::open(c"tmpfs")?;
    tmpfs.set(c"size", c"1048576")?;
    tmpfs.set(c"mode", c"0755")?;
    let store = tmpfs.mount(Attr::NOSUID.and(Attr::NODEV)).map_err(|e| e.on("tmpfs"))?;
    mkdirat(&store, c"root", Mode::S_IRWXU).map_err(|e| Error::new("mkdir", "root", e))?;
    mount::attach(&store, open_dir(c"/")?, c"dev").map_err(|e| e.on("tmpfs"))?;
    Ok(store)
}

fn root_of(store: &OwnedFd) -> Result<OwnedFd> {
    let root = mount::clone_tree(Some(store.as_fd()), c"root", false).map_err(|e| e.on("new root"))?;
    mount::attach(&root, store, c"root").map_err(|e| e.on("new root"))?;
    Ok(root)
}

/// Whether making `name` in `dir` ends with EROFS.
fn refuses_writes(dir: &OwnedFd, name: &CStr) -> bool {
    mkdirat(dir, name, Mode::S_IRWXU) == Err(Errno::EROFS)
}

/// A new tmpfs, a clone of `/usr`, both made read-only and attached: fsopen, fsconfig, fsmount,
/// open_tree, mount_setattr, move_mount.
pub fn mounts(ids: Ids) -> Tried {
    inside(ids, SPACE, usr, |usr| {
        let store = scratch()?;
        let root = root_of(&store)?;
        mkdirat(&root, c"usr", Mode::S_IRWXU).map_err(|e| Error::new("mkdir", "usr", e))?;
        mount::attach(&usr, &root, c"usr").map_err(|e| e.on("usr"))?;
        mount::set_attr(&root, Attr::RDONLY, false).map_err(|e| e.on("new root"))?;
        Ok(match refuses_writes(&root, c"x") && refuses_writes(&usr, c"aj-doctor") {
            true => Tried::Worked(
                "a tmpfs and a clone of /usr, read-only, by the descriptor-based calls".to_owned(),
            ),
            false => Tried::Wrong("mounts that were made read-only can be written".to_owned()),
        })
    })
}

fn usr() -> Result<OwnedFd> {
    let (tree, recursive) = match mount::clone_tree(None, c"/usr", false) {
        Err(Error { errno: Errno::EINVAL, .. }) => (mount::clone_tree(None, c"/usr", true), true),
        other => (other, false),
    };
    let tree = tree.map_err(|e| e.on("/usr"))?;
    mount::set_attr(&tree, Attr::RDONLY, recursive).map_err(|e| e.on("/usr"))?;
    Ok(tree)
}

/// Changing the root and detaching the old one.
pub fn pivot_root(ids: Ids) -> Tried {
    inside(
        ids,
        SPACE,
        || Ok(()),
        |()| {
            let root = root_of(&scratch()?)?;
            mount::pivot_into(&root)?;
            Ok(match std::fs::read_dir("/").map(Iterator::count) {
                Ok(0) => Tried::Worked("changed to an empty root; nothing of the old one is left".to_owned()),
                Ok(n) => Tried::Wrong(format!("the new root is empty, but shows {n} entries")),
                Err(e) => Tried::Wrong(format!("the new root cannot be read: {e}")),
            })
        },
    )
}

/// A fresh proc.
pub fn proc(ids: Ids) -> Tried {
    inside(
        ids,
        SPACE,
        || Ok(()),
        |()| {
            let made = NewFs::open(c"proc")
                .and_then(|fs| fs.mount(Attr::NOSUID.and(Attr::NODEV).and(Attr::NOEXEC)))
                .map_err(|e| e.on("proc"))?;
            let seen = openat(&made, c"self/stat", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
            Ok(match seen {
                Ok(_) => Tried::Worked("a new one, of the new pid namespace".to_owned()),
                Err(e) => Tried::Wrong(format!("a new one, but its `self/stat` cannot be opened ({e:?})")),
            })
        },
    )
}

/// A devpts of its own, and a terminal in it.
pub fn devpts(ids: Ids) -> Tried {
    inside(
        ids,
        SPACE,
        || Ok(()),
        |()| {
            let make = || -> Result<OwnedFd> {
                let fs = NewFs::open(c"devpts")?;
                fs.flag(c"newinstance")
                    .or_else(|e| if e.errno == Errno::EINVAL { Ok(()) } else { Err(e) })?;
                fs.set(c"ptmxmode", c"0666")?;
                fs.set(c"mode", c"0620")?;
                fs.mount(Attr::NOSUID.and(Attr::NOEXEC))
            };
            let made = make().map_err(|e| e.on("devpts"))?;
            openat(&made, c"ptmx", OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(|e| Error::new("open", "ptmx", e))?;
            Ok(Tried::Worked("a new one, and a terminal in it".to_owned()))
        },
    )
}

/// A directory to show and who owns it.
#[derive(Debug, Clone, Copy)]
pub struct Lower<'a> {
    /// Its path.
    pub path: &'a Path,
    /// Its owner's uid.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// A clone of `lower` that shows its owner as the jail's user: for root only.
fn mapped(ids: Ids, lower: Lower<'_>) -> Result<OwnedFd> {
    let path = cpath(lower.path)?;
    let outside = |first: u32| first + (ids.user - ids.inside);
    let line = |id, outside| [IdMap { inside: id, outside, count: 1 }];
    let mapping = Mapping::new(&line(lower.uid, outside(ids.uid)), &line(lower.gid, outside(ids.gid)))?;
    let tree = mount::clone_tree(None, &path, false).map_err(|e| e.on(text::c(&path)))?;
    mount::set_idmap(&tree, Attr::NOSUID.and(Attr::NODEV), mapping.userns(), false)
        .map_err(|e| Error { call: "mount_setattr(idmap)", ..e.on(text::c(&path)) })?;
    mapping.finish()?;
    Ok(tree)
}

/// An id-mapped clone of a directory.
pub fn idmap(ids: Ids, lower: Lower<'_>) -> Tried {
    attempt(|| {
        mapped(ids, lower)?;
        Ok(Tried::Worked(format!(
            "a clone of `{}` that shows uid {} as the jail's user",
            text::os(lower.path),
            lower.uid
        )))
    })
}

/// An overlay of `lower` and the directories `upper` and `work` of `dir`. With `write`, the file `kept`
/// of `lower` is changed through it, `gone` removed and a directory made.
pub fn overlay(ids: Ids, lower: Lower<'_>, dir: &Path, write: bool) -> Tried {
    let mut write = write;
    let mapped = if !ids.is_range() {
        None
    } else {
        match mapped_apart(ids, lower) {
            Ok(mapped) => Some(mapped),
            // The upper is what is asked about: without the mapping it cannot be written through.
            Err(_) if write => {
                write = false;
                None
            }
            Err(tried) => return tried,
        }
    };
    let prepare = || {
        let by_path = if mapped.is_some() { None } else { Some(open_dir(&cpath(lower.path)?)?) };
        Ok((by_path, open_dir(&cpath(&dir.join("upper"))?)?, open_dir(&cpath(&dir.join("work"))?)?))
    };
    inside(ids, SPACE, prepare, |(by_path, upper, work)| {
        let lower = match (&by_path, &mapped) {
            (Some(fd), _) => fd,
            (None, Some(tree)) => {
                // Overlayfs takes mounts of this namespace only.
                mount::attach(tree, scratch()?, c"root").map_err(|e| e.on("lower"))?;
                tree
            }
            (None, None) => return Err(Error::new("open", "lower", Errno::EBADF)),
        };
        let merged = merge(lower, &upper, &work)?;
        if write {
            change(&merged)?;
        }
        Ok(Tried::Worked(match write {
            true => "a file copied up, one whited out, a directory made".to_owned(),
            false => "an overlay over it mounts".to_owned(),
        }))
    })
}

/// In a child first: the file system may hang. What works there is done again here, because a mount
/// cannot be handed back.
fn mapped_apart(ids: Ids, lower: Lower<'_>) -> std::result::Result<OwnedFd, Tried> {
    match idmap(ids, lower) {
        Tried::Worked(_) => mapped(ids, lower).map_err(Tried::from),
        other => Err(other),
    }
}

fn merge(lower: &OwnedFd, upper: &OwnedFd, work: &OwnedFd) -> Result<OwnedFd> {
    let by_fd = |fd: &OwnedFd| CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default();
    let fs = NewFs::open(c"overlay").map_err(|e| e.on("overlay"))?;
    fs.set(c"lowerdir", &by_fd(lower))?;
    fs.set(c"upperdir", &by_fd(upper))?;
    fs.set(c"workdir", &by_fd(work))?;
    fs.flag(c"userxattr")?;
    fs.flag(c"volatile")?;
    fs.mount(Attr::NOSUID.and(Attr::NODEV)).map_err(|e| e.on("overlay"))
}

/// The three things that an upper file system must be able to do.
fn change(merged: &OwnedFd) -> Result<()> {
    let fail = |call, on: &'static str| move |e| Error::new(call, on, e);
    let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CLOEXEC;
    let kept = openat(merged, c"kept", flags, Mode::empty()).map_err(fail("copy up", "overlay"))?;
    nix::unistd::write(&kept, b"more").map_err(fail("write", "overlay"))?;
    unlinkat(merged, c"gone", UnlinkatFlags::NoRemoveDir).map_err(fail("white out", "overlay"))?;
    mkdirat(merged, c"gone", Mode::S_IRWXU).map_err(fail("mkdir", "overlay"))
}
