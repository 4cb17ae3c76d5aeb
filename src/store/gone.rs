//! Trees on their way out: renamed first, so that half a tree is never taken for a whole one, then
//! removed by whoever has the time. Their lock tells who is at it.

use std::ffi::{CStr, CString};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::renameat;

use super::error::{Error, Result};
use super::layout::StateDir;
use super::lock;
use super::quota;
use super::remove::remove_dir_while;
use super::trees::{self, DIR, GONE, Tree, open_tree_dir};

/// A tree that has lost its name.
#[derive(Debug)]
pub struct Gone {
    name: CString,
    /// With its lock.
    tree: Tree,
}

impl Tree {
    /// Take its name away, so that it is no tree any more. The caller holds the lock. `None`: it is gone
    /// already.
    pub fn take_away(self, state: &StateDir) -> Result<Option<Gone>> {
        let trees = state.subdir(DIR)?;
        for turn in 0.. {
            let gone =
                format!("{GONE}{}{}", self.id(), if turn == 0 { String::new() } else { format!("-{turn}") });
            match renameat(&trees, self.id().as_str(), &trees, gone.as_str()) {
                Ok(()) => {
                    let name = CString::new(gone).unwrap_or_default();
                    return Ok(Some(Gone { name, tree: self }));
                }
                Err(Errno::ENOENT) => return Ok(None),
                Err(Errno::ENOTEMPTY | Errno::EEXIST) if turn < 100 => {}
                Err(e) => return Err(Error::call("rename", self.path(), e)),
            }
        }
        Ok(None)
    }
}

impl Gone {
    /// Remove its files, as long as `go_on`, asked for each of them, says yes. `false`: it said no, and
    /// the next sweep does the rest.
    pub fn remove(self, state: &StateDir, go_on: &mut dyn FnMut() -> bool) -> Result<bool> {
        quota::give_back(&self.tree);
        let done = remove(state, &self.name, go_on);
        drop(self.tree);
        done
    }
}

/// Remove the files of trees that killed or hurried processes have left, as [`Gone::remove`] does.
/// Those that somebody else is at are his.
pub fn finish_all(state: &StateDir, go_on: &mut dyn FnMut() -> bool) -> Result<()> {
    for name in trees::names(state)?.iter().filter(|n| n.to_bytes().starts_with(GONE.as_bytes())) {
        if !go_on() {
            break;
        }
        finish(state, name, go_on)?;
    }
    Ok(())
}

/// The same for one of them.
pub(super) fn finish(state: &StateDir, name: &CStr, go_on: &mut dyn FnMut() -> bool) -> Result<bool> {
    let trees = state.subdir(DIR)?;
    // We make directories only: what else has such a name is told by `gc` and left alone.
    if let Ok(meta) = nix::sys::stat::fstatat(&trees, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)
        && meta.st_mode & nix::libc::S_IFMT != nix::libc::S_IFDIR
    {
        return Ok(true);
    }
    if let Ok(dir) = open_tree_dir(&trees, &name.to_string_lossy()) {
        if !lock::try_acquire(&dir, lock::Mode::Exclusive, Path::new(DIR))? {
            return Ok(true);
        }
        quota::give_back(&dir);
    }
    remove(state, name, go_on)
}

/// Whether somebody is at it. The lock that this takes goes with `dir`.
pub(super) fn is_held(dir: &std::fs::File) -> bool {
    !lock::try_acquire(dir, lock::Mode::Exclusive, Path::new(DIR)).unwrap_or(false)
}

fn remove(state: &StateDir, name: &CStr, go_on: &mut dyn FnMut() -> bool) -> Result<bool> {
    remove_dir_while(&state.subdir(DIR)?, name, &state.path().join(DIR), go_on)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{id, state};
    use super::super::trees::create_tree;
    use super::*;
    use std::fs;

    #[test]
    fn a_removal_that_stops_is_finished_by_the_next_and_by_one_at_a_time() {
        let (_dir, state) = state();
        let tree = create_tree(&state, id(), "/".as_ref(), None).unwrap();
        for n in 0..50 {
            fs::create_dir_all(tree.upper().join(format!("d{n}/e"))).unwrap();
            fs::write(tree.upper().join(format!("d{n}/e/f")), "").unwrap();
        }
        let id = tree.id();
        let gone = tree.take_away(&state).unwrap().unwrap();
        assert!(trees::open_tree(&state, id).unwrap().is_none(), "at once");
        finish_all(&state, &mut || true).unwrap();
        assert_eq!(trees::names(&state).unwrap().len(), 1, "somebody is at it");
        let mut left = 20;
        let mut some = || {
            left -= 1;
            left > 0
        };
        assert!(!gone.remove(&state, &mut some).unwrap());
        assert_eq!(trees::names(&state).unwrap().len(), 1);
        finish_all(&state, &mut || false).unwrap();
        assert_eq!(trees::names(&state).unwrap().len(), 1);
        finish_all(&state, &mut || true).unwrap();
        assert_eq!(trees::names(&state).unwrap().len(), 0);
    }
}
