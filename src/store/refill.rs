//! An upper layer filled anew: what a jail had in its memory becomes what is kept.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, fchown};

use super::dirfd;
use super::error::{Error, Result};
use super::remove::remove_dir;
use crate::sys::at::{self, Replace};
use crate::sys::openat2::{self, For};

const UPPER: &CStr = c"upper";
const NEW: &CStr = c"upper.new";

/// Put what `fill` makes in the place of the upper layer in the directory `layers` of a tree. What was
/// there stays until the new one is whole, and when that fails. The caller holds the lock of the tree.
pub fn refill(layers: &Path, fill: impl FnOnce(OwnedFd) -> crate::sys::Result<()>) -> Result<()> {
    let fail = |call: &'static str| move |e: Errno| Error::call(call, &layers.join("upper.new"), e);
    let dir = openat2::absolute(layers.as_os_str().as_bytes(), For::Listing)?;
    // Left by a run that was killed.
    remove_dir(&dir, NEW, layers)?;
    mkdirat(&dir, NEW, Mode::S_IRWXU).map_err(fail("mkdir"))?;
    let made = filled(&dir, layers, fill);
    if made.is_err() {
        // Whatever is left goes with the tree.
        drop(remove_dir(&dir, NEW, layers));
        return made;
    }
    match at::rename(&dir, NEW.to_bytes(), UPPER.to_bytes(), Replace::Exchange) {
        Ok(()) => remove_dir(&dir, NEW, layers),
        // A file system that exchanges nothing.
        Err(e) if e.errno == Errno::EINVAL => {
            remove_dir(&dir, UPPER, layers)?;
            Ok(at::rename(&dir, NEW.to_bytes(), UPPER.to_bytes(), Replace::Yes)?)
        }
        Err(e) => Err(e.into()),
    }
}

fn filled(dir: &OwnedFd, layers: &Path, fill: impl FnOnce(OwnedFd) -> crate::sys::Result<()>) -> Result<()> {
    let fail = |call: &'static str| move |e: Errno| Error::call(call, &layers.join("upper.new"), e);
    let old = fstatat(dir, UPPER, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(fail("stat"))?;
    let made = dirfd::open_dir(dir, NEW).map_err(fail("open"))?;
    if at::is_root() {
        let (uid, gid) = (Uid::from_raw(old.st_uid), Gid::from_raw(old.st_gid));
        fchown(made.as_fd(), Some(uid), Some(gid)).map_err(fail("chown"))?;
    }
    Ok(fill(made)?)
}

/// Remove the directory `name` beside the layers, with all that a jail wrote there.
pub fn remove(layers: &Path, name: &CStr) -> Result<()> {
    let dir = openat2::absolute(layers.as_os_str().as_bytes(), For::Listing)?;
    remove_dir(&dir, name, layers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;

    #[test]
    fn a_layer_is_exchanged_when_it_is_whole_and_kept_when_it_is_not() {
        let t = tempfile::tempdir().unwrap();
        let top = t.path().canonicalize().unwrap();
        std::fs::create_dir(top.join("upper")).unwrap();
        std::fs::write(top.join("upper/old"), "").unwrap();
        let put = |dir: OwnedFd, name: &[u8]| openat2::create(dir, name, 0o600).map(drop);
        let failed = refill(&top, |dir| {
            put(dir, b"half")?;
            Err(sys::Error::new("write", "", Errno::ENOSPC))
        });
        assert_eq!(failed.unwrap_err().errno(), Some(Errno::ENOSPC));
        let names = || {
            let mut all: Vec<_> =
                std::fs::read_dir(top.join("upper")).unwrap().map(|e| e.unwrap().file_name()).collect();
            all.sort();
            all
        };
        assert_eq!(names(), ["old"]);
        refill(&top, |dir| put(dir, b"new")).unwrap();
        assert_eq!(names(), ["new"]);
        assert_eq!(std::fs::read_dir(&top).unwrap().count(), 1, "nothing else is left");
    }
}
