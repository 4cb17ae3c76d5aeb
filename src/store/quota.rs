//! What the file system itself holds the layers of a tree to: a project quota.
//!
//! A tree with a limit has a project id of its own, on its directory, where nothing inherits it, and on every directory
//! in it that a jail writes to, where everything does. So the tree says which id is its own, for as long as it is
//! there, and no file of the store's is charged. A jail cannot change an id, because the kernel lets nobody in a user
//! namespace do that; nor can it move or link a file to where another one holds.
//!
//! Which ids are in use the file system knows: one that has neither limits nor files is free. Two that choose the same
//! one at the same moment see twice the inodes that they marked, before either sets a limit, and choose again.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use super::dirfd;
use super::fault;
use super::layout::StateDir;
use super::trees::Tree;
use super::workspaces::ROOMS;
use crate::base::stamp;
use crate::sys::quota::{self, Project, State};
use crate::sys::{self};

/// Ids that are taken: few enough that a file system which keeps a place for each ever used stays small, and far from
/// those that people and container engines give.
const FIRST: u32 = 0x616a_0000;
const IDS: u32 = 1 << 16;
/// Ids that are looked at before giving up.
const TRIES: u32 = 64;
/// Where people note ids of their own, which may not be in use at the moment: `ID:PATH` and `NAME:ID` a line.
const DECLARED: [(&str, usize); 2] = [("/etc/projects", 0), ("/etc/projid", 1)];
/// Directories of a tree that are marked, where they are there, beside [`ROOMS`].
const OTHERS: [&CStr; 4] = [c"work", c"home-work", c"output-work", super::edit::STAGING];
/// An inode takes room of its own, of which nothing is counted: one for so many bytes.
const PER_INODE: u64 = 512;
const FEWEST_INODES: u64 = 1024;
/// Bytes and inodes that a further run has in any case.
const MOUNT: (u64, u64) = (64 << 10, 64);

/// Why no quota holds a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Not {
    /// The file system does not know projects, or the kernel is too old to be asked.
    Unknown,
    /// It counts and lets everything pass.
    Lax,
    /// We are not root of the host.
    Rights,
    /// The state directory belongs to a project of the host's, whose limit is not ours to leave.
    Theirs(u32),
    /// Something was written in the tree before it had a limit.
    Written,
    /// All ids that were looked at are in use.
    Full,
    /// It did not work.
    Failed(sys::Error),
}

impl std::fmt::Display for Not {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Not::Unknown => f.write_str("the file system of the state directory has no project quotas"),
            Not::Lax => f.write_str(
                "the file system of the state directory counts what projects use and enforces nothing: mount it with \
                 `prjquota`",
            ),
            Not::Rights => f.write_str("only root of the host may set project quotas"),
            Not::Theirs(id) => {
                write!(f, "the state directory belongs to project {id} of this machine, whose quota holds there")
            }
            Not::Written => f.write_str("something was written there before it had a limit"),
            Not::Full => f.write_str("no project id is free"),
            Not::Failed(e) => e.fmt(f),
        }
    }
}

/// Whether the file system can hold trees to a limit.
pub fn is_possible(state: &StateDir) -> Result<(), Not> {
    let known = quota::state(state).map_err(|e| e.errno);
    if known.is_ok_and(|known| !known.enforced) || known.is_err() {
        return judge(known, 0, Ok(Project::default()));
    }
    judge(known, quota::project(state), quota::get(state, FIRST).map_err(|e| e.errno))
}

/// The same of what was asked: about projects, the project of the state directory, and one that is ours.
fn judge(known: Result<State, Errno>, given: u32, asked: Result<Project, Errno>) -> Result<(), Not> {
    match (known, given, asked) {
        (Ok(State { enforced: true, .. }), 0, Ok(_)) => Ok(()),
        (Err(_) | Ok(State { counted: false, .. }), ..) => Err(Not::Unknown),
        (Ok(State { enforced: false, .. }), ..) => Err(Not::Lax),
        (Ok(_), id @ 1.., _) => Err(Not::Theirs(id)),
        (Ok(_), 0, Err(Errno::EPERM | Errno::EACCES)) => Err(Not::Rights),
        (Ok(_), 0, Err(e)) => Err(Not::Failed(sys::Error::new("quotactl_fd", "", e))),
    }
}

/// The same for a further run in `tree`: what is in it has to have its id.
pub fn is_possible_in(state: &StateDir, tree: &Tree) -> Result<(), Not> {
    is_possible(state)?;
    let own = own(tree).unwrap_or(0);
    for (place, dir) in places(tree).map_err(failed)? {
        // What the last mount left there goes before the next one.
        let passing = OTHERS.contains(&&*place) || place.to_bytes().ends_with(b"/work");
        let marked = own != 0 && quota::project(&dir) == own;
        if !marked
            && !passing
            && !dirfd::is_empty(&dir).map_err(|e| failed(sys::Error::new("read", "", e)))?
        {
            return Err(Not::Written);
        }
    }
    Ok(())
}

fn failed(e: sys::Error) -> Not {
    Not::Failed(e)
}

/// The id of a tree that has a limit.
pub(super) fn own(tree: impl AsFd) -> Option<u32> {
    Some(quota::project(tree)).filter(|id| (FIRST..FIRST + IDS).contains(id))
}

/// The directories of a tree that jails write to, or from which what they write is moved there.
fn places(tree: &Tree) -> sys::Result<Vec<(CString, OwnedFd)>> {
    let read = |e| sys::Error::new("open", crate::base::text::os(tree.path()), e);
    let mut found = Vec::new();
    for name in dirfd::names(tree).map_err(read)? {
        let side = name.to_bytes().starts_with(b"side-") || name.to_bytes().starts_with(b"cache-");
        if side {
            let dir = dirfd::open_dir(tree, &name).map_err(read)?;
            for inner in [c"upper", c"work"] {
                let whole = [name.to_bytes(), b"/", inner.to_bytes()].concat();
                match dirfd::open_dir(&dir, inner) {
                    Ok(dir) => found.push((CString::new(whole).unwrap_or_default(), dir)),
                    Err(Errno::ENOENT) => {}
                    Err(e) => return Err(read(e)),
                }
            }
        } else if ROOMS.into_iter().chain(OTHERS).any(|room| *room == *name) {
            let dir = dirfd::open_dir(tree, &name).map_err(read)?;
            found.push((name, dir));
        }
    }
    Ok(found)
}

/// Whether `id` is one of those that the lines of a file declare, whose field `at` is an id.
fn declares(text: &str, at: usize, id: u32) -> bool {
    let of = |line: &str| line.trim().split(':').nth(at).and_then(|field| field.trim().parse::<u32>().ok());
    text.lines().any(|line| of(line) == Some(id))
}

/// Inodes that `bytes` stand for.
fn inodes(bytes: u64) -> u64 {
    (bytes / PER_INODE).max(FEWEST_INODES)
}

/// Hold what is in `tree`, which the caller has locked, to `bytes`, and take it for granted that
/// [`is_possible_in`] said yes. Of a new tree before anything is written in it.
pub fn hold(tree: &mut Tree, bytes: u64) -> Result<(), Not> {
    tree.has_quota = true;
    let places = places(tree).map_err(failed)?;
    let mark = |id: u32| places.iter().try_for_each(|(_, dir)| quota::assign(dir, id, id != 0));
    if let Some(id) = own(&*tree) {
        mark(id).map_err(failed)?;
        // A mount makes directories of its own, and would be read-only without: nobody could make room again.
        let used = quota::get(&*tree, id).map_err(failed)?;
        let room = bytes.max(used.used.saturating_add(MOUNT.0));
        let inodes = inodes(bytes).max(used.inodes_used.saturating_add(MOUNT.1));
        return quota::set(&*tree, id, room, inodes).map_err(failed);
    }
    match quota::project(&*tree) {
        0 => {}
        id => return Err(Not::Theirs(id)),
    }
    let declared = DECLARED.map(|(path, at)| (std::fs::read_to_string(path).unwrap_or_default(), at));
    let marks = places.len() as u64 + 1;
    // The ids of jails are random.
    let start = stamp::of(tree.path().as_os_str().as_encoded_bytes()) as u32;
    for id in (0..TRIES).map(|n| FIRST + start.wrapping_add(n) % IDS) {
        let is_free =
            |project: Project, used| (project.room, project.inodes) == (0, 0) && project.inodes_used == used;
        if declared.iter().any(|(text, at)| declares(text, *at, id))
            || !is_free(quota::get(&*tree, id).map_err(failed)?, 0)
        {
            continue;
        }
        let marked = quota::assign(&*tree, id, false).and_then(|()| mark(id));
        let ours = marked.and_then(|()| Ok(is_free(quota::get(&*tree, id)?, marks)));
        let done = match ours {
            Ok(true) => quota::set(&*tree, id, bytes, inodes(bytes)).map(|()| true),
            other => other,
        };
        if let Ok(true) = done {
            return Ok(());
        }
        // Without a limit the marks are of no use. Limits are not touched: they may be another tree's.
        drop(mark(0));
        quota::assign(&*tree, 0, false).map_err(failed)?;
        done.map_err(failed)?;
    }
    Err(Not::Full)
}

/// Let a tree that a run without a limit goes on in grow as it likes, if it had a limit. It keeps its id.
pub fn let_go(tree: &Tree) -> sys::Result<()> {
    let Some(id) = own(tree) else { return Ok(()) };
    for (_, dir) in places(tree)? {
        quota::assign(dir, id, true)?;
    }
    quota::set(tree, id, 0, 0)
}

/// Bytes and inodes that a tree has of those it may have, while something holds it.
pub fn used(tree: impl AsFd) -> Option<Project> {
    let id = own(&tree)?;
    quota::get(tree, id).ok()
}

/// Take the id from a tree whose directories are empty, or which is about to be others'. The tree's own goes last, so
/// that whoever is killed in between leaves it to be done once more.
pub(super) fn take_off(tree: &Tree) -> sys::Result<()> {
    let Some(id) = own(tree) else { return Ok(()) };
    fault::point();
    quota::set(tree, id, 0, 0)?;
    for (_, dir) in places(tree)? {
        fault::point();
        quota::assign(dir, 0, false)?;
    }
    fault::point();
    quota::assign(tree, 0, false)
}

/// The directory of a tree goes: its id is free once the files are gone. One call where it has none.
pub(super) fn give_back(tree: impl AsFd) {
    if let Some(id) = own(&tree) {
        // Failing is a number that nobody uses any more.
        quota::set(tree, id, 0, 0).ok();
    }
}

/// A directory from which things are moved into `tree`.
pub(super) fn adopt(tree: impl AsFd, dir: impl AsFd) -> sys::Result<()> {
    match own(tree) {
        Some(id) => quota::assign(dir, id, true),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_quota_that_holds_on_what_nobody_else_has_will_do() {
        let on = Ok(State { counted: true, enforced: true });
        let free = Ok(Project::default());
        assert_eq!(judge(on, 0, free), Ok(()));
        assert_eq!(judge(Ok(State { counted: true, enforced: false }), 0, free), Err(Not::Lax));
        assert_eq!(judge(Ok(State::default()), 0, free), Err(Not::Unknown));
        for errno in [Errno::ENOSYS, Errno::ESRCH, Errno::EINVAL, Errno::ENOTBLK] {
            assert_eq!(judge(Err(errno), 0, free), Err(Not::Unknown), "{errno}");
        }
        assert_eq!(judge(on, 42, free), Err(Not::Theirs(42)));
        assert_eq!(judge(on, FIRST, free), Err(Not::Theirs(FIRST)), "nested in a tree of another aj");
        assert_eq!(judge(on, 0, Err(Errno::EPERM)), Err(Not::Rights));
        assert!(matches!(judge(on, 0, Err(Errno::EIO)), Err(Not::Failed(_))));
    }

    #[test]
    fn ids_that_people_declare_are_theirs() {
        let projects = "# id:path\n10:/srv/a\n\n 1634336770 :/srv/b:x\n";
        assert!(declares(projects, 0, 10) && declares(projects, 0, 1_634_336_770));
        assert!(!declares(projects, 0, 11) && !declares(projects, 1, 10));
        assert!(declares("web:11\nmail: 12\n", 1, 12) && !declares("web:11x\n", 1, 11));
        assert!(!declares("\u{0}:99999999999999:\n:::\n", 0, 0));
    }

    #[test]
    fn the_ids_are_apart_from_those_of_others_and_no_limit_is_without_inodes() {
        assert!(FIRST > 1 << 30 && FIRST.checked_add(IDS).is_some());
        assert_eq!((inodes(0), inodes(1 << 30)), (1024, 2 << 20));
    }
}
