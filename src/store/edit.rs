//! A kept tree that is changed from outside of any jail: `aj fs`, `aj cp`.

use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::again::{Last, is_gone};
use super::error::{Error, Result};
use super::kept::Kept;
use super::origin::Places;
use super::trees::Tree;
use super::{dirfd, quota, remove};
use crate::base::clock;
use crate::base::id::Id;

/// In the directory of a tree: where what is going to be in it is made.
pub(super) const STAGING: &std::ffi::CStr = c"edit";

/// Make a tree that [`again::take`](super::again::take) locked ready to be changed, and open the empty
/// directory in which new things are made: on the file system of its layers, and seen by no jail. `None`:
/// the jail of a killed `aj` has not ended, and nothing may be changed below its mount. `record_of` as for
/// [`again::begin`](super::again::begin).
pub fn begin(tree: &Tree, record_of: impl FnOnce(Id) -> Option<Last>) -> Result<Option<OwnedFd>> {
    let known = Kept::read(tree);
    let old = known.clone().unwrap_or_default();
    if (old.open || old.last.is_none())
        && record_of(old.last.unwrap_or(tree.id())).is_some_and(|last| !is_gone(&last.start))
    {
        return Ok(None);
    }
    let failed = |call| move |e| Error::call(call, tree.path(), e);
    if let Some(kept) = known {
        // What it takes is another number from now on.
        let kept = Kept { bytes: None, used_ms: clock::now_ms(), ..kept };
        match kept.write(tree) {
            // The number is an estimate, and removing files is the way out of a full disk.
            Err(Errno::ENOSPC | Errno::EDQUOT) => {}
            done => done.map_err(failed("write"))?,
        }
    }
    if let Some(places) = Places::read(tree) {
        // Where there are going to be changes is not known to be absent.
        match places.open_ended().write(tree) {
            Err(Errno::ENOSPC | Errno::EDQUOT) => Places::open_end(tree).map_err(failed("write"))?,
            done => done.map_err(failed("write"))?,
        }
    }
    // What a killed one left.
    end(tree)?;
    match nix::sys::stat::mkdirat(tree, STAGING, nix::sys::stat::Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(e) => return Err(failed("mkdir")(e)),
    }
    let made = dirfd::open_dir(tree, STAGING).map_err(failed("open"))?;
    quota::adopt(tree, &made)?;
    Ok(Some(made))
}

/// Remove what is left in the directory that [`begin`] made, and that of a one-shot's tree itself. A workspace keeps
/// it: on a full disk it could not be made.
pub fn end(tree: &Tree) -> Result<()> {
    if tree.is_lasting() {
        return remove::clear_dir(tree, STAGING, &tree.path().join("edit"));
    }
    remove::remove_dir(tree, STAGING, &tree.path().join("edit"))
}

#[cfg(test)]
mod tests {
    use super::super::again::{Taken, take};
    use super::super::testing::{id, state};
    use super::super::trees::create_tree;
    use super::*;
    use crate::store::origin::Known;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_tree_is_noted_to_be_changed_and_rubbish_of_a_killed_one_goes() {
        let (_dir, state) = state();
        let tree = create_tree(&state, id(), "/usr".as_ref(), None).unwrap();
        std::fs::write(tree.upper().join("x"), "x").unwrap();
        let of = tree.id();
        let kept = Kept { last: Some(of), bytes: Some(7), ..Kept::default() };
        kept.write(&tree).unwrap();
        Places::default().write(&tree).unwrap();
        drop(tree);
        let Taken::Tree(tree) = take(&state, of).unwrap() else { panic!("it is free") };
        let left = tree.path().join("edit/deep");
        std::fs::create_dir_all(left.join("er")).unwrap();
        std::fs::set_permissions(&left, std::fs::Permissions::from_mode(0o0)).unwrap();
        let staging = begin(&tree, |_| panic!("it is known")).unwrap().unwrap();
        assert!(dirfd::is_empty(&staging).unwrap());
        let now = Kept::read(&tree).unwrap();
        assert_eq!((now.last, now.bytes), (Some(of), None));
        assert_eq!(Places::read(&tree).unwrap().at(b"new"), Known::Unknown);
        end(&tree).unwrap();
        assert!(!tree.path().join("edit").exists());
    }
}
