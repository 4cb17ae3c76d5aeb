//! Changing the layer that is written to, as the jail itself would have through its overlay.
//!
//! Whoever edits holds the tree's lock: nothing is mounted on it, and nobody else writes. What is new is
//! made in a directory beside the layers and renamed into place, so that a jail started after a kill sees
//! the old or the new, never half. What an overlay would do is done here: directories on the way are copied
//! up with their bits, owner and times; what is removed from a layer below gets a whiteout; a directory in
//! the place of something below is opaque.
//!
//! In a jail that runs, the same is done inside, over the mounted overlay, which is one plain directory there:
//! see [`Staging::Beside`] and `beside`.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, mknodat};

use super::{Dir, Entry, Error, Kind, Result, Stack, join};
use crate::store::whiteout;
use crate::sys::at::{self, FileKind, Meta, Replace, Stamp};
use crate::sys::openat2::{self, For};
use crate::sys::{self, xattr};
use crate::workspace::carry;

/// Whose things are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owners {
    /// As root: the jail's user, by its ids on the host. `None`: the caller.
    pub jail: Option<(u32, u32)>,
    /// Whose files of the bottom layer the jail sees as its own.
    pub bottom: (u32, u32),
}

/// Where what is new is made before it has its name.
#[derive(Debug)]
pub enum Staging {
    /// In an empty directory on the file system of the upper layer, of which no jail knows; whatever is left in
    /// it afterwards is rubbish.
    Apart(OwnedFd),
    /// Beside its place, under a name that begins with this: from one directory of a mount to another nothing
    /// can be moved that the mount does not show. Whoever is at work there sees it. What is left is taken away.
    Beside(String),
}

/// One who edits.
#[derive(Debug)]
pub struct Editor<'a> {
    pub(super) stack: &'a Stack,
    staging: Staging,
    owners: Owners,
    /// Of [`Staging::Beside`]: what has no name of its own yet.
    pub(super) left: RefCell<Vec<(OwnedFd, Vec<u8>)>>,
}

/// A file that has no name in the tree yet.
#[derive(Debug)]
pub struct Staged {
    /// Open for writing.
    pub fd: OwnedFd,
    name: Vec<u8>,
}

impl<'a> Editor<'a> {
    /// Edit `stack`.
    pub fn new(stack: &'a Stack, staging: Staging, owners: Owners) -> Editor<'a> {
        Editor { stack, staging, owners, left: RefCell::default() }
    }

    /// Whether others are at work in what is edited.
    pub(super) fn is_beside(&self) -> bool {
        matches!(self.staging, Staging::Beside(_))
    }

    /// A new name for what is going to be in `dir`, and the directory in which it is made.
    pub(super) fn temporary<'d>(&'d self, dir: &'d Dir) -> sys::Result<(BorrowedFd<'d>, Vec<u8>)> {
        // One directory serves several who edit, one after the other, and what they take out stays in it.
        static MADE: AtomicU64 = AtomicU64::new(1);
        let made = MADE.fetch_add(1, Ordering::Relaxed);
        match &self.staging {
            Staging::Apart(staging) => Ok((staging.as_fd(), format!("t{made}").into_bytes())),
            Staging::Beside(start) => {
                let upper = dir.upper().ok_or_else(|| sys::Error::new("open", "", Errno::EROFS))?;
                let name = format!("{start}-{made}").into_bytes();
                let own = openat2::beneath(upper, b".", For::Passing)?;
                self.left.borrow_mut().push((own, name.clone()));
                Ok((upper, name))
            }
        }
    }

    /// The directory at `path`, with a part in the layer that is written to. With `make`, what is missing
    /// of it is made with these bits.
    pub fn prepare(&self, path: &[u8], make: Option<u32>) -> Result<Dir> {
        let mut dir = self.stack.root().map_err(Error::sys("open", b""))?;
        let mut walked = Vec::new();
        for name in path.split(|b| *b == b'/').filter(|c| !c.is_empty()) {
            walked = join(&walked, name);
            let look_up = |e| Error::sys("look up", &walked)(e);
            match (dir.find(name).map_err(look_up)?, make) {
                (None, None) => return Err(Error::Missing(walked)),
                (None, Some(mode)) => self.directory(&dir, name, mode, &walked)?,
                (Some(e), _) if e.meta.kind != FileKind::Dir => return Err(Error::NotDir(walked)),
                (Some(entry), _) => {
                    let below = dir.enter(self.stack, name).map_err(look_up)?;
                    if below.upper().is_some() {
                        dir = below;
                        continue;
                    }
                    self.copy_up(&dir, name, (&entry, &below), &walked)?;
                }
            }
            dir = dir.enter(self.stack, name).map_err(look_up)?;
        }
        Ok(dir)
    }

    /// Copy a directory up, without what is in it.
    fn copy_up(&self, dir: &Dir, name: &[u8], (entry, below): (&Entry, &Dir), path: &[u8]) -> Result<()> {
        let owner = self.owner_above(entry, path)?;
        let failed = |e| Error::sys("copy up", path)(e);
        let (staging, temporary) = self.temporary(dir).map_err(failed)?;
        at::make_dir(staging, &temporary, 0o700).map_err(failed)?;
        let made = openat2::beneath(staging, &temporary, For::Listing).map_err(failed)?;
        if let Some(top) = below.parts.first() {
            carry::attributes(&top.fd, &made);
        }
        self.give(&made, owner).map_err(failed)?;
        self.settle(dir, name, (staging, &temporary), FileKind::Dir).map_err(failed)?;
        // Only now: a directory without write permission cannot be moved.
        at::set_mode(&made, entry.meta.mode & 0o7777).map_err(failed)?;
        at::set_mtime_of(&made, entry.meta.mtime).ok();
        Ok(())
    }

    /// Who owns what `entry` is copied up to.
    pub(super) fn owner_above(&self, entry: &Entry, path: &[u8]) -> Result<Option<(u32, u32)>> {
        let own = (entry.meta.uid, entry.meta.gid);
        let foreign = || Error::Foreign { path: path.to_vec(), uid: own.0, gid: own.1 };
        let bottom = self.stack.layers().get(entry.layer).is_some_and(|l| l.kind == Kind::Bottom);
        match self.owners.jail {
            // Layers that jails wrote have the ids that jails have.
            Some(_) if !bottom => Ok(Some(own)),
            Some(jail) if own == self.owners.bottom => Ok(Some(jail)),
            Some(_) => Err(foreign()),
            None if !bottom || own == self.owners.bottom => Ok(None),
            None => Err(foreign()),
        }
    }

    fn give(&self, fd: impl AsFd, owner: Option<(u32, u32)>) -> sys::Result<()> {
        match owner {
            Some((uid, gid)) => at::set_owner(fd, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    /// Rename what was made as `staged` to `name` in `dir`, in place of what the upper layer has.
    pub(super) fn settle(
        &self,
        dir: &Dir,
        name: &[u8],
        staged: (BorrowedFd<'_>, &[u8]),
        kind: FileKind,
    ) -> sys::Result<()> {
        let upper = dir.upper().ok_or_else(|| sys::Error::new("rename", "", Errno::EROFS))?;
        let how = match at::stat_opt(upper, name)? {
            None => Replace::No,
            Some(old) if old.kind != FileKind::Dir && kind != FileKind::Dir => Replace::Yes,
            // Somebody has just made it: the kernel says what is in the way.
            Some(_) if self.is_beside() => Replace::No,
            // A directory in place of a whiteout, or the other way round. What was there is rubbish now.
            Some(_) => Replace::Exchange,
        };
        match at::rename_between(staged, (upper, name), how) {
            // NFS exchanges nothing. Nobody else is at the tree.
            Err(e) if e.errno == Errno::EINVAL && matches!(how, Replace::Exchange) => {
                let aside = [staged.1, b".old"].concat();
                at::rename_between((upper, name), (staged.0, &aside), Replace::Yes)?;
                at::rename_between(staged, (upper, name), Replace::Yes)?;
            }
            done => done?,
        }
        self.settled(staged.1);
        Ok(())
    }

    /// What was made as `temporary` has a name of its own.
    pub(super) fn settled(&self, temporary: &[u8]) {
        self.left.borrow_mut().retain(|(_, name)| name != temporary);
    }

    /// A new file for `dir`, that has no name there yet.
    pub fn stage(&self, dir: &Dir) -> Result<Staged> {
        let make = || {
            let (staging, name) = self.temporary(dir)?;
            Ok(Staged { fd: openat2::create(staging, &name, 0o600)?, name })
        };
        make().map_err(Error::sys("make", b"a file"))
    }

    /// Where [`Editor::stage`] has made it.
    fn staging<'d>(&'d self, dir: &'d Dir) -> sys::Result<BorrowedFd<'d>> {
        match &self.staging {
            Staging::Apart(staging) => Ok(staging.as_fd()),
            Staging::Beside(_) => dir.upper().ok_or_else(|| sys::Error::new("open", "", Errno::EROFS)),
        }
    }

    /// Give a staged file its bits, its time and its name. `like`: the file whose attributes it is to have.
    pub fn file(
        &self,
        (dir, name): (&Dir, &[u8]),
        staged: &Staged,
        (mode, mtime): (u32, Option<Stamp>),
        like: Option<&OwnedFd>,
        path: &[u8],
    ) -> Result<()> {
        let finish = || {
            if let Some(like) = like {
                carry::attributes(like, &staged.fd);
            }
            self.give(&staged.fd, self.owners.jail)?;
            at::set_mode(&staged.fd, mode & 0o777)?;
            if let Some(mtime) = mtime {
                at::set_mtime_of(&staged.fd, mtime).ok();
            }
            self.settle(dir, name, (self.staging(dir)?, &staged.name), FileKind::File)
        };
        finish().map_err(Error::sys("write", path))
    }

    /// Make a directory where nothing shows.
    pub fn directory(&self, dir: &Dir, name: &[u8], mode: u32, path: &[u8]) -> Result<()> {
        let make = || {
            let (staging, temporary) = self.temporary(dir)?;
            at::make_dir(staging, &temporary, 0o700)?;
            let made = openat2::beneath(staging, &temporary, For::Listing)?;
            self.make_opaque(dir, name, &made)?;
            self.give(&made, self.owners.jail)?;
            self.settle(dir, name, (staging, &temporary), FileKind::Dir)?;
            // As in any directory with the bit, what is made in it is of its group.
            let inherited = dir.meta.mode & 0o2000;
            match at::set_mode(&made, inherited | (mode & 0o1777)) {
                // A jail that writes to the host may not ask for it.
                Err(e) if e.errno == Errno::EPERM && inherited != 0 => at::set_mode(&made, mode & 0o1777),
                done => done,
            }
        };
        make().map_err(Error::sys("make", path))
    }

    /// Let nothing of what is below `name` show through `made`, which is going to be there.
    pub(super) fn make_opaque(&self, dir: &Dir, name: &[u8], made: &OwnedFd) -> sys::Result<()> {
        // Also of what is hidden now: the whiteout goes when the directory takes its place.
        if !self.is_plain() && dir.find_below(name)?.is_some() {
            xattr::set(made, c"user.overlay.opaque", b"y")?;
        }
        Ok(())
    }

    fn is_plain(&self) -> bool {
        self.stack.upper().kind == Kind::Plain
    }

    /// Make a symbolic link, in place of what shows there (no directory).
    pub fn link(
        &self,
        (dir, name): (&Dir, &[u8]),
        target: &[u8],
        mtime: Option<Stamp>,
        path: &[u8],
    ) -> Result<()> {
        let make = || {
            let (staging, temporary) = self.temporary(dir)?;
            at::make_link(staging, &temporary, target)?;
            if let Some(mtime) = mtime {
                at::set_mtime(staging, &temporary, mtime).ok();
            }
            if self.owners.jail.is_some() {
                let named = openat2::beneath(staging, &temporary, For::Naming)?;
                self.give(&named, self.owners.jail)?;
            }
            self.settle(dir, name, (staging, &temporary), FileKind::Symlink)
        };
        make().map_err(Error::sys("make", path))
    }

    /// Make nothing show under `name`. A directory goes with all that is in it, at once: from one moment to
    /// the next it is gone.
    pub fn remove(&self, dir: &Dir, name: &[u8], path: &[u8]) -> Result<()> {
        self.hide(dir, name).map_err(Error::sys("remove", path))
    }

    fn hide(&self, dir: &Dir, name: &[u8]) -> sys::Result<()> {
        let upper = dir.upper().ok_or_else(|| sys::Error::new("unlink", "", Errno::EROFS))?;
        let below = !self.is_plain() && dir.find_below(name)?.is_some();
        match (at::stat_opt(upper, name)?, below) {
            (None, false) => Ok(()),
            (None, true) => self.whiteout(dir, name),
            (Some(old), false) => self.take_out(dir, name, &old),
            (Some(old), true) => {
                // In one step where the device can be made; otherwise what is below shows for a moment.
                let (staging, temporary) = self.temporary(dir)?;
                let node = openat2::path(&temporary)?;
                match mknodat(staging, node.as_c_str(), SFlag::S_IFCHR, Mode::empty(), 0) {
                    Ok(()) => {
                        self.give_named(staging, &temporary)?;
                        if old.kind == FileKind::Dir {
                            self.unlock(dir, name)?;
                        }
                        self.settle(dir, name, (staging, &temporary), FileKind::File)
                    }
                    Err(_) => {
                        self.take_out(dir, name, &old)?;
                        self.whiteout(dir, name)
                    }
                }
            }
        }
    }

    fn whiteout(&self, dir: &Dir, name: &[u8]) -> sys::Result<()> {
        let upper = dir.upper().ok_or_else(|| sys::Error::new("mknod", "", Errno::EROFS))?;
        whiteout::make(upper, name)?;
        match self.owners.jail {
            Some(_) => self.give(openat2::beneath(upper, name, For::Naming)?, self.owners.jail),
            None => Ok(()),
        }
    }

    fn give_named(&self, staging: BorrowedFd<'_>, staged: &[u8]) -> sys::Result<()> {
        match self.owners.jail {
            Some(_) => self.give(openat2::beneath(staging, staged, For::Naming)?, self.owners.jail),
            None => Ok(()),
        }
    }

    /// Take an entry of the upper layer out of it.
    pub(super) fn take_out(&self, dir: &Dir, name: &[u8], old: &Meta) -> sys::Result<()> {
        let upper = dir.upper().ok_or_else(|| sys::Error::new("unlink", "", Errno::EROFS))?;
        if old.kind != FileKind::Dir {
            return at::remove_file(upper, name);
        }
        if self.is_beside() {
            return self.take_out_beside(dir, name);
        }
        self.unlock(dir, name)?;
        let (staging, temporary) = self.temporary(dir)?;
        at::rename_between((upper, name), (staging, &temporary), Replace::No)
    }

    /// A directory that its owner may not write to cannot be moved either.
    fn unlock(&self, dir: &Dir, name: &[u8]) -> sys::Result<()> {
        let upper = dir.upper().ok_or_else(|| sys::Error::new("chmod", "", Errno::EROFS))?;
        let named = openat2::beneath(upper, name, For::Naming)?;
        let meta = at::fstat(&named)?;
        if meta.mode & 0o300 != 0o300 && !at::is_root() {
            at::set_mode_by_path_fd(&named, meta.mode | 0o300)?;
        }
        Ok(())
    }
}
