//! Changing one entry of a host directory, atomically, and only if it still is what was decided on.
//!
//! New content is written to a temporary file in the same directory and renamed into place, so that
//! at every instant the name has either the old content or the new. Directories are removed by
//! renaming them to a temporary name first, and get their name back where they cannot be. A process that is
//! killed leaves at most temporary entries, which the next apply removes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::carry;
use super::names::Names;
use super::remove::remove_tree;
use super::temporary;
use crate::base::text;
use crate::store::fault;
use crate::sys::at::{self, FileKind, Meta, Replace};
use crate::sys::openat2::{self, For};
use crate::sys::{self, copy, xattr};

/// Why an entry was left as it is.
#[derive(Debug)]
pub(super) enum Refused {
    /// The host's entry is no longer what the decision was made on.
    Raced,
    /// The directory lets nothing be made, replaced or removed in it.
    Shut(sys::Error),
    /// A system call failed.
    Failed(sys::Error),
}

impl From<sys::Error> for Refused {
    fn from(e: sys::Error) -> Refused {
        Refused::Failed(e)
    }
}

type Result<T> = std::result::Result<T, Refused>;

/// An entry of a host directory, and what it was when the change was decided on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) dir: BorrowedFd<'a>,
    pub(super) name: &'a [u8],
    pub(super) old: Option<&'a Meta>,
}

impl Place<'_> {
    /// Fails when the entry is not the one that was looked at.
    fn check(&self) -> Result<()> {
        let now = at::stat_opt(self.dir, self.name)?;
        match (self.old, now) {
            (None, None) => Ok(()),
            // Entries below change a directory's times; what is below was looked over on its own.
            (Some(old), Some(now)) if old.kind == FileKind::Dir && now.same_inode(old) => Ok(()),
            (Some(old), Some(now)) if now.same_inode(old) && now.ctime == old.ctime => Ok(()),
            _ => Err(Refused::Raced),
        }
    }

    /// The entry itself, by descriptor.
    fn open(&self) -> Result<OwnedFd> {
        match openat2::beneath(self.dir, self.name, For::Naming) {
            Err(e) if e.errno == Errno::ENOENT => Err(Refused::Raced),
            opened => Ok(opened?),
        }
    }

    /// Owner of what is put here. Root would otherwise turn the user's files into root's own.
    fn owner(&self) -> Result<(Option<u32>, Option<u32>)> {
        let like = match self.old {
            Some(old) if old.kind != FileKind::Dir => Some((old.uid, old.gid)),
            _ => None,
        };
        if at::is_root() {
            let (uid, gid) = match like {
                Some(ids) => ids,
                None => at::fstat(self.dir).map(|m| (m.uid, m.gid))?,
            };
            return Ok((Some(uid), Some(gid)));
        }
        Ok((None, like.map(|ids| ids.1)))
    }

    /// An error of a call that changes the entries of the directory. The name in it says nothing to anybody when
    /// the directory is at fault, and it may be a temporary one. In a directory that can be written in, what is not
    /// permitted is so for the entry: it is append-only, or another user's where the sticky bit is set.
    fn refused(&self, e: sys::Error) -> Refused {
        match e.errno {
            Errno::EPERM if at::may_write_in(self.dir) => {
                Refused::Failed(sys::Error::new(e.call, text::printable(self.name), e.errno))
            }
            Errno::EACCES | Errno::EPERM | Errno::EROFS => Refused::Shut(e),
            _ => Refused::Failed(e),
        }
    }

    fn give(&self, fd: impl AsFd) -> Result<()> {
        let (uid, gid) = self.owner()?;
        match at::set_owner(fd, uid, gid) {
            // A user keeps the group where membership allows it, and a new file's own otherwise.
            Err(_) if uid.is_none() => Ok(()),
            done => Ok(done?),
        }
    }
}

impl Place<'_> {
    /// What the host's file has beside its permission bits belongs to the one that takes its place. Of an access list
    /// above all: the bits of a group are the bound of that list, and without it they would be what the group may.
    fn attribute(&self, fd: &OwnedFd) -> Result<()> {
        let Some(old) = self.old.filter(|old| old.kind == FileKind::File) else { return Ok(()) };
        let from = self.open()?;
        if !at::fstat(&from)?.same_inode(old) {
            return Err(Refused::Raced);
        }
        // A directory may have given one to the new file that the old one did not have.
        xattr::set_access_list(fd, xattr::access_list(&from)?.as_deref())?;
        let Ok(from) = openat2::beneath(self.dir, self.name, For::Reading) else { return Ok(()) };
        // Notes of programs: no reason to refuse the content.
        carry::attributes(&from, fd);
        Ok(())
    }
}

/// A temporary entry, removed unless it was renamed into place.
struct Temporary<'a> {
    dir: BorrowedFd<'a>,
    name: Vec<u8>,
    keep: bool,
}

impl<'a> Temporary<'a> {
    fn name(dir: BorrowedFd<'a>) -> Result<Temporary<'a>> {
        Ok(Temporary { dir, name: temporary::name()?, keep: true })
    }

    /// Give it the name of `place`, instead of what has it now.
    fn into_place(mut self, place: &Place<'_>) -> Result<()> {
        place.check()?;
        fault::point();
        match place.old {
            None => match at::rename(place.dir, &self.name, place.name, Replace::No) {
                Err(e) if e.errno == Errno::EEXIST => return Err(Refused::Raced),
                // The file system does not know the flag; the check above has to do.
                Err(e) if e.errno == Errno::EINVAL => {
                    at::rename(place.dir, &self.name, place.name, Replace::Yes)
                        .map_err(|e| place.refused(e))?;
                }
                done => done.map_err(|e| place.refused(e))?,
            },
            Some(old) => match at::rename(place.dir, &self.name, place.name, Replace::Exchange) {
                // The file system does not know that one either.
                Err(e) if e.errno == Errno::EINVAL => self.over(place, old)?,
                // Somebody has taken it away just now.
                Err(e) if e.errno == Errno::ENOENT => return Err(Refused::Raced),
                done => {
                    done.map_err(|e| place.refused(e))?;
                    // From here on the temporary name is that of what was there.
                    self.keep = true;
                    fault::point();
                    if let Err(refused) = take_away(place, &self.name, old) {
                        // It has its name again, and what was to take its place goes.
                        self.keep = at::rename(place.dir, &self.name, place.name, Replace::Exchange).is_err();
                        return Err(refused);
                    }
                }
            },
        }
        self.keep = true;
        Ok(())
    }
}

impl Temporary<'_> {
    /// The same where two entries cannot change places.
    fn over(&self, place: &Place<'_>, old: &Meta) -> Result<()> {
        let how = match old.kind {
            FileKind::Dir => Replace::No,
            _ if at::stat(place.dir, &self.name)?.kind == FileKind::Dir => Replace::No,
            _ => Replace::Yes,
        };
        if how == Replace::No {
            remove(place)?;
            fault::point();
        }
        at::rename(place.dir, &self.name, place.name, how).map_err(|e| place.refused(e))
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.keep {
            // A leftover does no harm; the next apply removes it.
            if at::remove_file(self.dir, &self.name).is_err() {
                drop(at::remove_dir(self.dir, &self.name));
            }
        }
    }
}

/// What a file is to hold.
#[derive(Debug)]
pub(super) enum Content<'a> {
    /// What the open file holds.
    File(OwnedFd),
    /// These bytes.
    Bytes(&'a [u8]),
}

/// Put a file with `content` and metadata `new` in place.
pub(super) fn file(place: &Place<'_>, content: Content<'_>, new: &Meta) -> Result<()> {
    place.check()?;
    let mut temporary = Temporary::name(place.dir)?;
    fault::point();
    let fd = openat2::create(place.dir, &temporary.name, 0o600).map_err(|e| place.refused(e))?;
    temporary.keep = false;
    fault::point();
    match content {
        Content::File(from) => {
            let now = at::fstat(&from)?;
            if now.kind != FileKind::File {
                return Err(sys::Error::new("open", "", Errno::EINVAL).into());
            }
            copy::file(from, &fd, now.size)?;
        }
        Content::Bytes(bytes) => copy::bytes(bytes, &fd)?,
    }
    fault::point();
    place.give(&fd)?;
    place.attribute(&fd)?;
    // Setuid, setgid and sticky never come back from a jail.
    at::set_mode(&fd, new.mode & 0o777)?;
    // A time that the file system cannot hold is no reason to refuse the content.
    drop(at::set_mtime_of(&fd, new.mtime));
    drop(fd);
    temporary.into_place(place)
}

/// Put a symbolic link in place; its target is stored, never followed.
pub(super) fn symlink(place: &Place<'_>, target: &[u8], new: &Meta) -> Result<()> {
    place.check()?;
    let mut temporary = Temporary::name(place.dir)?;
    fault::point();
    at::make_link(place.dir, &temporary.name, target).map_err(|e| place.refused(e))?;
    temporary.keep = false;
    let named = openat2::beneath(place.dir, &temporary.name, For::Naming)?;
    let made = at::fstat(&named)?;
    // Somebody else may write in this directory: what gets an owner is what was just made.
    if made.kind != FileKind::Symlink || made.nlink != 1 {
        return Err(Refused::Raced);
    }
    place.give(&named)?;
    drop(at::set_mtime(place.dir, &temporary.name, new.mtime));
    temporary.into_place(place)
}

/// Make a directory, removing what is in its place (never a directory). It gets `mode` and, until the
/// caller is done filling it, all permissions of the owner. It has these bits from the moment that it has its name:
/// a closed directory there is always somebody's own.
pub(super) fn directory(place: &Place<'_>, mode: u32) -> Result<()> {
    place.check()?;
    let mut temporary = Temporary::name(place.dir)?;
    fault::point();
    at::make_dir(place.dir, &temporary.name, 0o700).map_err(|e| place.refused(e))?;
    temporary.keep = false;
    let fd = openat2::beneath(place.dir, &temporary.name, For::Listing)?;
    let fresh = Place { old: None, ..*place };
    fault::point();
    fresh.give(&fd)?;
    // The set-group-id bit that a directory inherits from its parent belongs to the host.
    let inherited = at::fstat(&fd)?.mode & 0o2000;
    at::set_mode(&fd, inherited | (mode & 0o777) | 0o700)?;
    temporary.into_place(place)
}

/// Set the permission bits of `dir`, which was opened and is to be `old` still; special bits stay.
pub(super) fn open_up(dir: BorrowedFd<'_>, old: &Meta, mode: u32) -> Result<()> {
    let now = at::fstat(dir)?;
    if !now.same_inode(old) || now.mode != old.mode {
        return Err(Refused::Raced);
    }
    fault::point();
    Ok(at::set_mode_by_path_fd(dir, (now.mode & 0o7000) | (mode & 0o777))?)
}

/// Set the permission bits of an existing file or directory; a directory keeps its special bits. A file with
/// more names than this one makes way for a copy: the others may be anywhere, and are nobody's business here.
pub(super) fn mode(place: &Place<'_>, mode: u32) -> Result<()> {
    let fd = place.open()?;
    let now = at::fstat(&fd)?;
    let same = place.old.is_none_or(|old| {
        now.same_inode(old) && now.kind == old.kind && (now.kind == FileKind::Dir || now.ctime == old.ctime)
    });
    let keep = match now.kind {
        FileKind::Dir => 0o7000,
        FileKind::File => 0,
        _ => return Err(Refused::Raced),
    };
    if !same {
        return Err(Refused::Raced);
    }
    if now.has_other_names() && place.old.is_some() {
        return file(place, Content::File(at::reopen(&fd)?), &Meta { mode, ..now });
    }
    fault::point();
    Ok(at::set_mode_by_path_fd(&fd, (now.mode & keep) | (mode & 0o777))?)
}

/// Remove an entry, a directory with all that is in it.
pub(super) fn remove(place: &Place<'_>) -> Result<()> {
    place.check()?;
    fault::point();
    let old = place.old.ok_or(Refused::Raced)?;
    // At once gone under its name, then looked at again and taken apart.
    let aside = Temporary::name(place.dir)?;
    match at::rename(place.dir, place.name, &aside.name, Replace::No) {
        Err(e) if e.errno == Errno::EINVAL => {
            at::rename(place.dir, place.name, &aside.name, Replace::Yes).map_err(|e| place.refused(e))?;
        }
        Err(e) if e.errno == Errno::ENOENT => return Err(Refused::Raced),
        // Another name needs room, and none does not.
        Err(e) if matches!(e.errno, Errno::ENOSPC | Errno::EDQUOT) && old.kind != FileKind::Dir => {
            return at::remove_file(place.dir, place.name).map_err(|e| place.refused(e));
        }
        done => done.map_err(|e| place.refused(e))?,
    }
    fault::point();
    take_away(place, &aside.name, old).inspect_err(|_| {
        // What is left of it is not to lie there under a name that nobody knows.
        at::rename(place.dir, &aside.name, place.name, Replace::No).ok();
    })
}

/// Remove `aside`, which had the name of `place` until now and is `old` if nobody was faster. What was put there
/// or written to after the last look, by whoever does not know of us, is left.
fn take_away(place: &Place<'_>, aside: &[u8], old: &Meta) -> Result<()> {
    let now = at::stat(place.dir, aside)?;
    if !now.same_inode(old) {
        return Err(Refused::Raced);
    }
    if old.kind == FileKind::Dir {
        return Ok(remove_tree(place.dir, aside)?);
    }
    // Another name is another ctime.
    if (now.mode, now.size, now.mtime) != (old.mode, old.size, old.mtime) {
        return Err(Refused::Raced);
    }
    at::remove_file(place.dir, aside)
        .map_err(|e| place.refused(sys::Error::new(e.call, text::printable(place.name), e.errno)))
}

/// Remove what an earlier, killed apply left in `dir`, and nothing of one that is at work. Returns how many
/// entries; `failed` is told which could not be removed.
pub(super) fn clean(dir: BorrowedFd<'_>, failed: &mut dyn FnMut(&[u8], sys::Error)) -> u64 {
    // The host may refuse to list a directory: then nothing was put there either.
    let leftovers = Names::read(dir, temporary::is_left).unwrap_or_default();
    let mut cleaned = 0;
    for name in (0..leftovers.len()).filter_map(|i| leftovers.get(i)) {
        let removed = match at::stat_opt(dir, name) {
            Ok(Some(m)) if m.kind == FileKind::Dir => remove_tree(dir, name),
            Ok(Some(_)) => at::remove_file(dir, name),
            Ok(None) => continue,
            Err(e) => Err(e),
        };
        match removed {
            Ok(()) => cleaned += 1,
            Err(e) => failed(name, e),
        }
    }
    cleaned
}
