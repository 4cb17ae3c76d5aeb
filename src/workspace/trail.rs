//! The way down to the current directory as descriptors: any depth with few of them open.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::sys::at::{self, Meta};
use crate::sys::openat2::{self, For};
use crate::sys::{Error, Result};

/// Levels that keep their descriptor; the ones above are opened again on the way up.
const KEEP: usize = 48;

/// A stack of directories, the root first. The top is always open.
#[derive(Debug)]
pub(super) struct Trail {
    levels: Vec<Level>,
    how: For,
}

#[derive(Debug)]
struct Level {
    fd: Option<OwnedFd>,
    meta: Meta,
    /// Permission bits to put back on leaving, if they had to be widened to get in.
    relock: Option<u32>,
}

impl Trail {
    /// Start at `root`. `how`: what the directories are opened for.
    pub(super) fn new(root: OwnedFd, how: For) -> Result<Trail> {
        let meta = at::fstat(&root)?;
        Ok(Trail { levels: vec![Level { fd: Some(root), meta, relock: None }], how })
    }

    /// The same at the top of what a jail wrote: where it took the permission bits away from that that its
    /// owner needs to look at it, they are given back.
    pub(super) fn of_jail(root: OwnedFd, how: For) -> Result<Trail> {
        let mode = at::fstat(&root)?.mode;
        if mode & 0o500 != 0o500 {
            at::set_mode_by_path_fd(&root, mode & 0o7777 | 0o700)?;
        }
        Trail::new(root, how)
    }

    /// Directories on the way, the root included.
    pub(super) fn depth(&self) -> usize {
        self.levels.len()
    }

    /// The current directory.
    pub(super) fn top(&self) -> Result<BorrowedFd<'_>> {
        self.levels
            .last()
            .and_then(|l| l.fd.as_ref())
            .map(AsFd::as_fd)
            .ok_or_else(|| Error::new("walk", "", Errno::ESTALE))
    }

    /// The directory it starts at, which stays open.
    pub(super) fn root(&self) -> Result<BorrowedFd<'_>> {
        let root = self.levels.first().and_then(|l| l.fd.as_ref());
        root.map(AsFd::as_fd).ok_or_else(|| Error::new("walk", "", Errno::ESTALE))
    }

    /// Metadata of the current directory when it was entered.
    pub(super) fn meta(&self) -> Result<Meta> {
        self.levels.last().map(|l| l.meta).ok_or_else(|| Error::new("walk", "", Errno::ESTALE))
    }

    /// Go into `name`, a real directory of the same mount.
    pub(super) fn enter(&mut self, name: &[u8]) -> Result<()> {
        let fd = openat2::beneath(self.top()?, name, self.how)?;
        self.push(fd, None)
    }

    /// Go into `dir`, a directory in the current one that was opened by its name.
    pub(super) fn enter_opened(&mut self, dir: OwnedFd) -> Result<()> {
        self.push(dir, None)
    }

    /// As [`Trail::enter`], also into a directory of the caller's own that lacks the permission bits
    /// to read it: they are widened for the owner until the walk leaves.
    pub(super) fn enter_unlocking(&mut self, name: &[u8]) -> Result<()> {
        let e = match self.enter(name) {
            Err(e) if e.errno == Errno::EACCES => e,
            done => return done,
        };
        let named = openat2::beneath(self.top()?, name, For::Naming)?;
        let meta = at::fstat(&named)?;
        if meta.kind != at::FileKind::Dir || at::set_mode_by_path_fd(&named, meta.mode | 0o500).is_err() {
            return Err(e);
        }
        match openat2::beneath(self.top()?, name, self.how) {
            Ok(fd) => self.push(fd, Some(meta.mode)),
            Err(e) => {
                at::set_mode_by_path_fd(&named, meta.mode)?;
                Err(e)
            }
        }
    }

    fn push(&mut self, fd: OwnedFd, relock: Option<u32>) -> Result<()> {
        let mut meta = at::fstat(&fd)?;
        if let Some(mode) = relock {
            meta.mode = mode;
        }
        self.levels.push(Level { fd: Some(fd), meta, relock });
        // The root stays open: nothing above it may be opened.
        if self.levels.len() > KEEP + 1 {
            let far = self.levels.len() - 1 - KEEP;
            if far > 0 {
                self.levels[far].fd = None;
            }
        }
        Ok(())
    }

    /// Back to the parent. Fails with `ESTALE` when the directory was moved elsewhere meanwhile.
    pub(super) fn leave(&mut self) -> Result<()> {
        let Some(child) = self.levels.pop() else { return Ok(()) };
        let mut result = Ok(());
        if let (Some(parent @ Level { fd: None, .. }), Some(fd)) = (self.levels.last_mut(), &child.fd) {
            match openat2::parent(fd, self.how).and_then(|up| Ok((at::fstat(&up)?, up))) {
                Ok((meta, up)) if meta.same_inode(&parent.meta) => parent.fd = Some(up),
                Ok(_) => result = Err(Error::new("walk", "", Errno::ESTALE)),
                Err(e) => result = Err(e),
            }
        }
        if let (Some(mode), Some(fd)) = (child.relock, &child.fd) {
            result = result.and(at::set_mode(fd, mode));
        }
        result
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        while self.levels.iter().any(|l| l.relock.is_some()) {
            // What cannot be put back any more must not keep the rest from it.
            drop(self.leave());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn open(path: &std::path::Path) -> OwnedFd {
        std::fs::File::open(path).unwrap().into()
    }

    #[test]
    fn five_thousand_levels_need_few_descriptors() {
        let t = super::super::tests::memory_dir();
        let mut trail = Trail::new(open(t.path()), For::Listing).unwrap();
        for _ in 0..5_000 {
            at::make_dir(trail.top().unwrap(), b"d", 0o700).unwrap();
            trail.enter(b"d").unwrap();
        }
        assert_eq!(trail.depth(), 5_001);
        let open = trail.levels.iter().filter(|l| l.fd.is_some()).count();
        assert!(open <= KEEP + 2, "{open}");
        for _ in 0..5_000 {
            trail.leave().unwrap();
            at::remove_dir(trail.top().unwrap(), b"d").unwrap();
        }
        assert_eq!(trail.depth(), 1);
    }

    #[test]
    fn a_directory_moved_elsewhere_is_noticed_on_the_way_up() {
        let t = tempfile::tempdir().unwrap();
        let away = tempfile::tempdir_in(t.path().parent().unwrap()).unwrap();
        let mut trail = Trail::new(open(t.path()), For::Listing).unwrap();
        for _ in 0..KEEP * 2 {
            at::make_dir(trail.top().unwrap(), b"d", 0o700).unwrap();
            trail.enter(b"d").unwrap();
        }
        let deep = t.path().join(vec!["d"; KEEP / 2 + 1].join("/"));
        std::fs::rename(deep, away.path().join("stolen")).unwrap();
        let errors = (0..KEEP * 2).filter_map(|_| trail.leave().err()).next();
        assert_eq!(errors.map(|e| e.errno), Some(Errno::ESTALE));
    }

    #[test]
    fn permission_bits_are_put_back_also_when_the_walk_breaks_off() {
        let t = tempfile::tempdir().unwrap();
        let locked = t.path().join("locked");
        std::fs::create_dir_all(locked.join("in")).unwrap();
        let mode = |p: &std::path::Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o7777;
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o0)).unwrap();
        for finish in [true, false] {
            let mut trail = Trail::new(open(t.path()), For::Listing).unwrap();
            trail.enter_unlocking(b"locked").unwrap();
            trail.enter_unlocking(b"in").unwrap();
            if finish {
                trail.leave().unwrap();
                trail.leave().unwrap();
            }
            drop(trail);
            assert_eq!(mode(&locked), 0);
        }
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
}
