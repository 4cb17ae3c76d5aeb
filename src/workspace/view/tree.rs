//! Moving within the view. What lies in the upper layer alone is renamed; what shows through from below is
//! copied up first, as `mv` in the jail would have to: the kernel answers `EXDEV` there.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use super::edit::Editor;
use super::walk::{Step, Walk};
use super::{Dir, Entry, Error, Result, join};
use crate::base::size;
use crate::sys;
use crate::sys::at::{self, FileKind, Replace};
use crate::sys::openat2::{self, For};
use crate::workspace::carry;
use crate::workspace::trail::Trail;

/// Entries that one move copies up at most.
const ENTRIES: u64 = 1_000_000;

impl Editor<'_> {
    /// Give what shows under `name` of `dir` the place of what shows under `new` of `to` (which is no
    /// directory with anything in it). Both were prepared.
    pub fn rename(&self, from: (&Dir, &[u8], &Entry), to: (&Dir, &[u8]), path: &[u8]) -> Result<()> {
        let (dir, name, entry) = from;
        let (target, new) = to;
        let failed = |e| Error::sys("move", path)(e);
        let whole = entry.meta.kind != FileKind::Dir
            || dir.enter(self.stack, name).map_err(failed)?.parts.iter().all(|part| part.layer == 0);
        let moved = match entry.layer == 0 && whole {
            true => self.move_upper(dir, name, (target, new), entry),
            false => Err(sys::Error::new("rename", "", Errno::EXDEV)),
        };
        match moved {
            Ok(()) => {}
            // From inside, the kernel alone knows what shows through.
            Err(e) if e.errno == Errno::EXDEV && (!whole || entry.layer > 0 || self.is_beside()) => {
                self.copy(dir, name, (target, new), entry, path)?;
            }
            Err(e) => return Err(failed(e)),
        }
        // What is below shows again until it is hidden; a kill in between leaves both.
        self.remove(dir, name, path)
    }

    fn move_upper(&self, dir: &Dir, name: &[u8], to: (&Dir, &[u8]), entry: &Entry) -> sys::Result<()> {
        let (target, new) = to;
        let upper = dir.upper().ok_or_else(|| sys::Error::new("rename", "", Errno::EROFS))?;
        let is_dir = entry.meta.kind == FileKind::Dir;
        if is_dir && self.stack.layers().len() > 1 {
            // Nothing below its new name may show through it.
            let made = openat2::beneath(upper, name, For::Listing)?;
            self.make_opaque(target, new, &made)?;
        }
        let place = target.upper().ok_or_else(|| sys::Error::new("rename", "", Errno::EROFS))?;
        let how = self.make_room(target, new, is_dir)?;
        at::rename_between((upper, name), (place, new), how)
    }

    /// Take out what a directory, or what takes the place of one, cannot be renamed over.
    fn make_room(&self, target: &Dir, new: &[u8], is_dir: bool) -> sys::Result<Replace> {
        let place = target.upper().ok_or_else(|| sys::Error::new("rename", "", Errno::EROFS))?;
        match at::stat_opt(place, new)? {
            // Nothing that somebody makes there meanwhile is lost.
            None => Ok(Replace::No),
            // The kernel replaces an empty directory, and no other.
            Some(_) if self.is_beside() => Ok(Replace::Yes),
            Some(old) => {
                if is_dir || old.kind == FileKind::Dir {
                    self.take_out(target, new, &old)?;
                }
                Ok(Replace::Yes)
            }
        }
    }

    fn copy(&self, dir: &Dir, name: &[u8], to: (&Dir, &[u8]), entry: &Entry, path: &[u8]) -> Result<()> {
        let (target, new) = to;
        let failed = |e| Error::sys("copy up", path)(e);
        // In a directory of its own, because what is copied keeps its name until it is in place.
        let (staging, temporary) = self.temporary(target).map_err(failed)?;
        at::make_dir(staging, &temporary, 0o700).map_err(failed)?;
        let staged = openat2::beneath(staging, &temporary, For::Listing).map_err(failed)?;
        let mut top = None;
        if entry.meta.kind == FileKind::Dir {
            let bytes = at::free_bytes(&staged).map_err(failed)? / 2;
            self.copy_tree(dir, name, entry, &staged, path, bytes)?;
            let made = openat2::beneath(&staged, name, For::Listing).map_err(failed)?;
            self.make_opaque(target, new, &made).map_err(failed)?;
            // It is moved yet, which needs the owner's permission.
            at::set_mode(&made, entry.meta.mode & 0o7777 | 0o300).map_err(failed)?;
            top = Some(made);
        } else {
            self.copy_entry(dir, name, entry, &staged, path)?;
        }
        let place = target.upper().ok_or_else(|| Error::NotDir(path.to_vec()))?;
        let how = self.make_room(target, new, entry.meta.kind == FileKind::Dir).map_err(failed)?;
        at::rename_between((&staged, name), (place, new), how).map_err(failed)?;
        if let Some(made) = top {
            at::set_mode(&made, entry.meta.mode & 0o7777).map_err(failed)?;
        }
        Ok(())
    }

    fn copy_entry(&self, dir: &Dir, name: &[u8], entry: &Entry, to: &OwnedFd, path: &[u8]) -> Result<()> {
        let mut meta = entry.meta;
        if let Some((uid, gid)) = self.owner_above(entry, path)? {
            (meta.uid, meta.gid) = (uid, gid);
        }
        let part = dir.parts.iter().find(|part| part.layer == entry.layer);
        let part = part.ok_or_else(|| Error::Missing(path.to_vec()))?;
        carry::entry(part.fd.as_fd(), to.as_fd(), name, &meta).map_err(Error::sys("copy up", path))
    }

    /// Copy the directory `name` with all that shows in it to `staged`, as a directory of one layer.
    fn copy_tree(
        &self,
        dir: &Dir,
        name: &[u8],
        entry: &Entry,
        staged: &OwnedFd,
        path: &[u8],
        bytes: u64,
    ) -> Result<()> {
        let failed = |e| Error::sys("copy up", path)(e);
        let most = || format!("{ENTRIES} entries, {} (half of what is free)", size::human(bytes));
        let too_much = || Error::TooMuch { path: path.to_vec(), most: most() };
        let top = dir.enter(self.stack, name).map_err(failed)?;
        let mut walk = Walk::new(self.stack, &top).map_err(failed)?;
        let root = openat2::beneath(staged, b".", For::Listing).map_err(failed)?;
        let mut to = Trail::new(root, For::Listing).map_err(failed)?;
        let mut owners = vec![self.begin_copy(&mut to, name, entry, path)?];
        let (mut entries, mut size) = (0, 0u64);
        loop {
            match walk.step().map_err(failed)? {
                Some(Step::Entry(found)) => {
                    let below = join(path, walk.path());
                    entries += 1;
                    size = size.saturating_add(at::share(&found.meta));
                    if entries > ENTRIES || size > bytes {
                        return Err(too_much());
                    }
                    if found.meta.kind == FileKind::Dir {
                        let name = walk.name().to_vec();
                        owners.push(self.begin_copy(&mut to, &name, &found, &below)?);
                        walk.enter().map_err(Error::sys("read", &below))?;
                    } else {
                        let here = walk.here().map_err(failed)?;
                        let into = openat2::beneath(to.top().map_err(failed)?, b".", For::Listing);
                        self.copy_entry(&here, walk.name(), &found, &into.map_err(failed)?, &below)?;
                    }
                }
                Some(Step::Unreadable(e)) => return Err(Error::sys("read", &join(path, walk.path()))(e)),
                Some(Step::Left) => finish(&mut to, owners.pop()).map_err(failed)?,
                None => break,
            }
        }
        finish(&mut to, owners.pop()).map_err(failed)
    }

    /// Make a directory of the copy and go into it. What it is to be comes last.
    fn begin_copy(&self, to: &mut Trail, name: &[u8], entry: &Entry, path: &[u8]) -> Result<at::Meta> {
        let owner = self.owner_above(entry, path)?;
        let make = |to: &mut Trail| {
            at::make_dir(to.top()?, name, 0o700)?;
            to.enter(name)
        };
        make(to).map_err(Error::sys("copy up", path))?;
        let mut meta = entry.meta;
        if let Some((uid, gid)) = owner {
            (meta.uid, meta.gid) = (uid, gid);
        }
        Ok(meta)
    }
}

/// Give a directory of the copy its bits, when nothing more is made in it, and leave it.
fn finish(to: &mut Trail, meta: Option<at::Meta>) -> sys::Result<()> {
    if let Some(meta) = meta {
        if at::is_root() {
            at::set_owner(to.top()?, Some(meta.uid), Some(meta.gid))?;
        }
        at::set_mode(to.top()?, meta.mode & 0o7777)?;
        at::set_mtime_of(to.top()?, meta.mtime).ok();
    }
    to.leave()
}
