//! A copy of a directory of upper entries that somebody may still be writing to: in passes while they do,
//! and then, once they stand still, of what has changed since the last one.
//!
//! What a pass need not copy again is told by ctime, which no program can set: an entry that has not changed
//! since a pass began is in the copy as it is. Memory that is mapped is written without a word to anybody as
//! long as its page is dirty; so a pass begins with the disk being up to date, which makes the next write to
//! each page tell. Where a file system promises nothing of the kind, the one pass that counts copies all.
//!
//! The copy means what the original does: owners, modes, times, holes, names of one inode, whiteouts, and the
//! attributes that an overlay believes. Nothing is opened but regular files and directories, and nothing by a
//! path.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, SFlag, mknodat};
use nix::unistd::linkat;

use super::names::Names;
use super::trail::Trail;
use super::upper;
use crate::base::text::printable;
use crate::store::whiteout;
use crate::sys::at::{self, FileKind, Meta, Replace, Stamp};
use crate::sys::openat2::{self, For};
use crate::sys::{Error, Result, copy, xattr};

/// The clock of a file system may be so far behind what has just happened: a tick of the kernel, and then some.
const TICK: u32 = 20_000_000;
/// Bytes that are copied in a millisecond, when it has to be known before whether there is time for them.
const PER_MS: u64 = 400_000;

/// What has been copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Entries that are no directories.
    pub files: u64,
    /// Bytes of their content, holes apart.
    pub bytes: u64,
    /// Of the files, those that share their blocks with the original.
    pub shared: u64,
}

/// What is copied, and to where.
#[derive(Debug)]
pub struct Mirror {
    from: OwnedFd,
    to: OwnedFd,
    /// One name for each inode that has several, by its number.
    links: OwnedFd,
    /// What is in the way is moved here.
    trash: OwnedFd,
    /// Directories of the copy, and the ones that they are copies of, by number.
    dirs: HashMap<u64, u64>,
    /// In which pass an inode came to `links`.
    linked: HashMap<u64, u32>,
    moved: u64,
    pass: u32,
    /// What is older than this is in the copy; `None`: nothing is known to be.
    covered: Option<Stamp>,
    /// Whether ctime tells of every write.
    telling: bool,
    shares: bool,
    /// In all passes.
    pub tally: Tally,
}

/// One pass.
struct Pass<'a> {
    /// Nobody writes: what cannot be copied is an error.
    still: bool,
    until: Option<Instant>,
    since: Option<Stamp>,
    step: &'a mut dyn FnMut(),
}

struct Frame {
    names: Names,
    next: usize,
    /// Of the copy, when it was there before.
    there: Option<Names>,
    /// Its own metadata is to be made as it should be.
    touched: bool,
}

/// Why a pass came to no end.
enum Stop {
    Late,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(e: Error) -> Stop {
        Stop::Failed(e)
    }
}

impl Mirror {
    /// Copy what is in `from` into the empty directory `to`, of the same file system, by means of two more
    /// empty ones of it.
    pub fn new(from: OwnedFd, to: OwnedFd, (links, trash): (OwnedFd, OwnedFd)) -> Mirror {
        let telling = tells(&from);
        Mirror {
            from,
            to,
            links,
            trash,
            dirs: HashMap::new(),
            linked: HashMap::new(),
            moved: 0,
            pass: 0,
            covered: None,
            telling,
            shares: true,
            tally: Tally::default(),
        }
    }

    /// Whether a pass before the one that counts saves anything.
    pub fn is_helped_by_passes(&self) -> bool {
        self.telling
    }

    /// Copy what there is while others write to it. `step` is called for each entry.
    pub fn follow(&mut self, step: &mut dyn FnMut()) -> Result<()> {
        let now = self.clock()?;
        nix::unistd::syncfs(&self.from).map_err(|e| Error::new("syncfs", "", e))?;
        let since = self.covered;
        match self.walk(&mut Pass { still: false, until: None, since, step }) {
            Ok(()) => self.covered = Some(now),
            // Moved away below us: what is missing is copied by the next one.
            Err(Stop::Failed(e)) if is_of_the_moment(e.errno) => {}
            Err(Stop::Failed(e)) => return Err(e),
            Err(Stop::Late) => {}
        }
        Ok(())
    }

    /// Copy what has changed, while nobody writes. `false`: it was not done at `until`.
    pub fn finish(&mut self, until: Option<Instant>, step: &mut dyn FnMut()) -> Result<bool> {
        let since = self.covered.filter(|_| self.telling);
        match self.walk(&mut Pass { still: true, until, since, step }) {
            Ok(()) => Ok(true),
            Err(Stop::Late) => Ok(false),
            Err(Stop::Failed(e)) => Err(e),
        }
    }

    /// A time before which everything is over, by the clock of the file system.
    fn clock(&self) -> Result<Stamp> {
        at::set_mode(&self.links, 0o700)?;
        let now = at::fstat(&self.links)?.ctime;
        Ok(match now.nsec.checked_sub(TICK) {
            Some(nsec) => Stamp { nsec, ..now },
            None => Stamp { sec: now.sec - 1, nsec: now.nsec + (1_000_000_000 - TICK) },
        })
    }

    fn walk(&mut self, pass: &mut Pass<'_>) -> std::result::Result<(), Stop> {
        self.pass += 1;
        let own = |fd: &OwnedFd| openat2::beneath(fd, b".", For::Listing);
        let mut from = Trail::new(own(&self.from)?, For::Listing)?;
        let mut to = Trail::new(own(&self.to)?, For::Listing)?;
        let mut frames = vec![self.frame(&from, &to, true)?];
        let done = self.walk_on(pass, (&mut from, &mut to), &mut frames);
        if done.is_err() {
            // So that whoever comes next finds directories with their own modes.
            while let Some(frame) = frames.pop() {
                if frame.touched {
                    finish_directory(&from, &to).ok();
                }
                if !frames.is_empty() && (from.leave().is_err() | to.leave().is_err()) {
                    break;
                }
            }
        }
        done
    }

    fn walk_on(
        &mut self,
        pass: &mut Pass<'_>,
        (from, to): (&mut Trail, &mut Trail),
        frames: &mut Vec<Frame>,
    ) -> std::result::Result<(), Stop> {
        while let Some(frame) = frames.last_mut() {
            let Some(name) = frame.names.get(frame.next).map(<[u8]>::to_vec) else {
                let changed = pass.since.is_none_or(|since| from.meta().is_ok_and(|m| m.ctime >= since));
                if frame.touched || changed {
                    finish_directory(from, to)?;
                }
                frames.pop();
                if !frames.is_empty() {
                    from.leave()?;
                    to.leave()?;
                }
                continue;
            };
            frame.next += 1;
            (pass.step)();
            if pass.until.is_some_and(|until| Instant::now() >= until) {
                return Err(Stop::Late);
            }
            match self.entry(pass, (&mut *from, &mut *to), frame, &name) {
                Ok(None) => {}
                Ok(Some(below)) => frames.push(below),
                Err(Stop::Failed(e)) if !pass.still && is_of_the_moment(e.errno) => {
                    // What is there of it is not it.
                    frame.touched = true;
                    self.put_away(to.top()?, &name)?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Copy the entry `name`. A directory is entered.
    fn entry(
        &mut self,
        pass: &Pass<'_>,
        (from, to): (&mut Trail, &mut Trail),
        frame: &mut Frame,
        name: &[u8],
    ) -> std::result::Result<Option<Frame>, Stop> {
        let meta = at::stat(from.top()?, name)?;
        let there = frame.there.as_ref().is_some_and(|names| names.contains(name));
        if meta.kind == FileKind::Dir {
            from.enter_unlocking(name)?;
            let depth = to.depth();
            let entered = self.enter_copy(to, frame, (name, there), &meta);
            let below = entered.and_then(|old| self.frame(from, to, old));
            if below.is_err() {
                from.leave()?;
                if to.depth() > depth {
                    to.leave()?;
                }
            }
            return Ok(Some(below?));
        }
        let as_before = pass.since.is_some_and(|since| meta.ctime < since);
        if there && as_before {
            return Ok(None);
        }
        frame.touched = true;
        if there {
            self.put_away(to.top()?, name)?;
        }
        self.file(pass, (from.top()?, to.top()?), name, &meta, as_before)?;
        Ok(None)
    }

    /// Enter the copy of a directory, which is made unless it is there. Whether it was.
    fn enter_copy(
        &mut self,
        to: &mut Trail,
        frame: &mut Frame,
        (name, there): (&[u8], bool),
        meta: &Meta,
    ) -> Result<bool> {
        if there {
            let named = openat2::beneath(to.top()?, name, For::Naming)?;
            let copy = at::fstat(&named)?;
            if copy.kind == FileKind::Dir && self.dirs.get(&copy.ino) == Some(&meta.ino) {
                if copy.mode & 0o700 != 0o700 {
                    at::set_mode_by_path_fd(&named, 0o700)?;
                }
                to.enter(name)?;
                return Ok(true);
            }
            self.put_away(to.top()?, name)?;
        }
        frame.touched = true;
        at::make_dir(to.top()?, name, 0o700)?;
        to.enter(name)?;
        self.dirs.insert(to.meta()?.ino, meta.ino);
        Ok(false)
    }

    /// Begin with the directories on top. `old`: the copy was there before.
    fn frame(&mut self, from: &Trail, to: &Trail, old: bool) -> Result<Frame> {
        let names = Names::read(from.top()?, |_| true)?;
        if !old {
            return Ok(Frame { names, next: 0, there: None, touched: true });
        }
        // Its own mode may have been widened to come in.
        let mut touched = at::fstat(to.top()?)?.mode != from.meta()?.mode;
        let there = Names::read(to.top()?, |_| true)?;
        for name in (0..there.len()).filter_map(|i| there.get(i)) {
            if !names.contains(name) {
                touched = true;
                self.put_away(to.top()?, name)?;
            }
        }
        Ok(Frame { names, next: 0, there: Some(there), touched })
    }

    /// Copy one entry that is no directory. `as_before`: it has not changed since what is covered.
    fn file(
        &mut self,
        pass: &Pass<'_>,
        (from, to): (BorrowedFd<'_>, BorrowedFd<'_>),
        name: &[u8],
        meta: &Meta,
        as_before: bool,
    ) -> std::result::Result<(), Stop> {
        let several = meta.nlink > 1;
        let first = CString::new(format!("{:x}", meta.ino)).unwrap_or_default();
        let path = openat2::path(name)?;
        let link_failed = |e| Error::new("link", printable(name), e);
        if several && self.linked.get(&meta.ino).is_some_and(|pass| as_before || *pass == self.pass) {
            linkat(&self.links, first.as_c_str(), to, path.as_c_str(), AtFlags::empty())
                .map_err(link_failed)?;
            return Ok(());
        }
        match meta.kind {
            FileKind::File => self.content(pass, (from, to), name, meta)?,
            FileKind::Symlink => {
                at::make_link(to, name, &at::read_link(from, name)?)?;
                own_by_name(to, name, meta)?;
                at::set_mtime(to, name, meta.mtime).ok();
            }
            FileKind::Char(0, 0) => {
                whiteout::make(to, name)?;
                own_by_name(to, name, meta)?;
                at::set_mtime(to, name, meta.mtime).ok();
            }
            FileKind::Fifo => node(to, name, SFlag::S_IFIFO, meta)?,
            FileKind::Socket => node(to, name, SFlag::S_IFSOCK, meta)?,
            // No jail can make one.
            FileKind::Dir | FileKind::Char(..) | FileKind::Block | FileKind::Other => return Ok(()),
        }
        self.tally.files += 1;
        if several {
            let links = self.links.as_fd();
            at::remove_file(links, first.to_bytes()).or_else(fine_if_gone)?;
            match linkat(to, path.as_c_str(), links, first.as_c_str(), AtFlags::empty()) {
                // As many names as the file system gives: further ones become files of their own.
                Err(Errno::EMLINK) => {}
                linked => {
                    linked.map_err(link_failed)?;
                    self.linked.insert(meta.ino, self.pass);
                }
            }
        }
        Ok(())
    }

    fn content(
        &mut self,
        pass: &Pass<'_>,
        (from, to): (BorrowedFd<'_>, BorrowedFd<'_>),
        name: &[u8],
        meta: &Meta,
    ) -> std::result::Result<(), Stop> {
        let source = upper::open_file(from, name)?;
        let now = at::fstat(&source)?;
        if now.kind != FileKind::File {
            return Err(Error::new("open", printable(name), Errno::ESTALE).into());
        }
        let made = openat2::create(to, name, 0o600)?;
        if now.size > 0 {
            if self.shares && copy::reflink(&source, &made) {
                self.tally.shared += 1;
            } else {
                self.shares = false;
                let left =
                    pass.until.map(|until| until.saturating_duration_since(Instant::now()).as_millis());
                if left.is_some_and(|ms| u128::from(now.allocated.min(now.size) / PER_MS) > ms) {
                    self.put_away(to, name)?;
                    return Err(Stop::Late);
                }
                copy::data(&source, &made, now.size).map_err(|e| e.on(printable(name)))?;
            }
            self.tally.bytes += now.allocated.min(now.size);
        }
        describe(&source, &made, meta)?;
        Ok(())
    }

    /// Move an entry of the copy out of it, whatever it is; fine when there is none.
    fn put_away(&mut self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        let Some(meta) = at::stat_opt(dir, name)? else { return Ok(()) };
        if meta.kind == FileKind::Dir && meta.mode & 0o700 != 0o700 {
            // One that its owner may not write to cannot be moved to another parent.
            at::set_mode_by_path_fd(&openat2::beneath(dir, name, For::Naming)?, 0o700)?;
        }
        self.moved += 1;
        let to = self.moved.to_string();
        at::rename_between((dir, name), (&self.trash, to.as_bytes()), Replace::No)
    }
}

/// Whether ctime changes with every write by way of memory that was mapped, once the disk is up to date, and
/// with every rename: so it is where pages are written back, and nowhere is it promised.
fn tells(fd: impl AsFd) -> bool {
    // ext2 to ext4, XFS, btrfs, F2FS.
    const KNOWN: [u32; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010];
    nix::sys::statfs::fstatfs(fd).is_ok_and(|s| KNOWN.contains(&(s.filesystem_type().0 as u32)))
}

/// What comes of an entry that is replaced, moved or locked by its writer in this moment.
fn is_of_the_moment(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ENOENT
            | Errno::ESTALE
            | Errno::ELOOP
            | Errno::ENOTDIR
            | Errno::EISDIR
            | Errno::EACCES
            | Errno::EINVAL
            | Errno::EAGAIN
            | Errno::EEXIST
            | Errno::ENODATA
    )
}

fn fine_if_gone(e: Error) -> Result<()> {
    if e.errno == Errno::ENOENT { Ok(()) } else { Err(e) }
}

fn finish_directory(from: &Trail, to: &Trail) -> Result<()> {
    let (from, to, meta) = (from.top()?, to.top()?, from.meta()?);
    // One that was there before may have lost some.
    for name in attribute_names(to)? {
        if xattr::get_all(from, &name)?.is_none() && name.as_bytes() != b"user.overlay.opaque" {
            xattr::remove(to, &name)?;
        }
    }
    describe(from, to, &meta)
}

/// Attributes, owner, mode and time of an open file or directory.
fn describe(from: impl AsFd, to: impl AsFd, meta: &Meta) -> Result<()> {
    let mut lists = Vec::new();
    for name in attribute_names(&from)? {
        let Some(value) = xattr::get_all(&from, &name)? else { continue };
        if name.as_bytes().starts_with(b"user.") {
            xattr::set(&to, &name, &value).map_err(|e| e.on(name.to_string_lossy()))?;
        } else {
            lists.push((name, value));
        }
    }
    own(&to, meta)?;
    at::set_mode(&to, meta.mode)?;
    // Their mask is in the mode, so they come after it.
    for (name, value) in lists {
        xattr::set(&to, &name, &value).map_err(|e| e.on(name.to_string_lossy()))?;
    }
    // A time that the file system cannot hold is no reason to lose the content.
    at::set_mtime_of(&to, meta.mtime).ok();
    Ok(())
}

/// Attributes that belong to the content: those of users, the overlay's among them, and access lists.
fn attribute_names(fd: impl AsFd) -> Result<Vec<CString>> {
    let ours = |n: &Vec<u8>| n.starts_with(b"user.") || n.starts_with(b"system.posix_acl_");
    let names = xattr::all_names(fd)?.into_iter().filter(ours);
    Ok(names.filter_map(|n| CString::new(n).ok()).collect())
}

fn own(made: impl AsFd, meta: &Meta) -> Result<()> {
    if at::is_root() { at::set_owner(made, Some(meta.uid), Some(meta.gid)) } else { Ok(()) }
}

fn own_by_name(dir: BorrowedFd<'_>, name: &[u8], meta: &Meta) -> Result<()> {
    if !at::is_root() {
        return Ok(());
    }
    own(openat2::beneath(dir, name, For::Naming)?, meta)
}

/// A fifo, or a socket that nobody listens on.
fn node(to: BorrowedFd<'_>, name: &[u8], kind: SFlag, meta: &Meta) -> Result<()> {
    let path = openat2::path(name)?;
    mknodat(to, path.as_c_str(), kind, Mode::empty(), 0)
        .map_err(|e| Error::new("mknod", printable(name), e))?;
    own_by_name(to, name, meta)?;
    at::set_mode_by_path_fd(&openat2::beneath(to, name, For::Naming)?, meta.mode)?;
    at::set_mtime(to, name, meta.mtime).ok();
    Ok(())
}

#[cfg(test)]
#[path = "mirror_tests.rs"]
mod tests;
