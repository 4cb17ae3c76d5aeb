//! A directory of the host copied to where jails lie over it: `--import`.
//!
//! The directory is the user's and may be anybody's work: it is walked by descriptor, nothing of it is followed,
//! and nothing but directories and regular files is opened. What a jail could not use (sockets, fifos, devices)
//! and what an overlay shows nothing of (other mounts) stays behind and is named. What cannot be read is an error
//! and not a gap: a copy that lacks something would be taken for the whole.
//!
//! Nothing the copy says of itself is believed by an overlay later: there are no devices in it, which would be
//! whiteouts, and no attributes of the overlay's. The copy belongs to whoever makes it, and setuid and setgid bits
//! are taken off.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::linkat;

use super::carry;
use super::names::Names;
use super::trail::Trail;
use crate::base::text::{brief, printable};
use crate::sys::at::{self, FileKind, Meta};
use crate::sys::openat2::{self, For};
use crate::sys::{Error, Result, copy};

/// A file that changes while it is read is read anew, so often in all.
const TURNS: u32 = 4;
/// Names that are kept of what is left out, and of what changed; the rest is counted.
const NAMED: usize = 20;
/// Paths, of which the first few are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Few {
    /// The first, with a reason, in the order in which they were met.
    pub named: Vec<(Vec<u8>, String)>,
    /// All of them.
    pub total: u64,
}

impl Few {
    fn add(&mut self, path: &[u8], why: impl Into<String>) {
        self.total += 1;
        if self.named.len() < NAMED {
            self.named.push((path.to_vec(), why.into()));
        }
    }
}

/// What was copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Regular files, each name counted.
    pub files: u64,
    /// Directories, the top not counted.
    pub directories: u64,
    /// Symbolic links.
    pub links: u64,
    /// Bytes of content, holes apart.
    pub bytes: u64,
    /// Of the files, those that share their blocks with the original.
    pub shared: u64,
    /// What stayed behind.
    pub left_out: Few,
    /// What changed while it was copied.
    pub changed: Few,
}

/// How to copy.
#[allow(missing_debug_implementations, reason = "a call is in it")]
pub struct Ask<'a> {
    /// A directory that is no part of it, wherever it is met: where the copy lies.
    pub apart: Meta,
    /// Called for each entry.
    pub step: &'a mut dyn FnMut(),
}

struct Copy<'a, 'b> {
    ask: &'a mut Ask<'b>,
    /// One name for each inode that has several, by its number.
    links: BorrowedFd<'a>,
    linked: HashSet<(u32, u32, u64)>,
    shares: bool,
    taken: Taken,
    path: Vec<u8>,
}

struct Frame {
    names: Names,
    next: usize,
    /// Where the path of the directory ends.
    end: usize,
}

/// Copy what is in `from` into the empty directory `to` by means of `links`, another empty one of the same file
/// system. Errors name the path below the top.
pub fn copy_in(from: OwnedFd, to: OwnedFd, links: BorrowedFd<'_>, ask: &mut Ask<'_>) -> Result<Taken> {
    let mut copy =
        Copy { ask, links, linked: HashSet::new(), shares: true, taken: Taken::default(), path: Vec::new() };
    let done = copy.walk(from, to);
    let at = if copy.path.is_empty() { ".".to_owned() } else { brief(&printable(&copy.path)) };
    done.map(|()| copy.taken).map_err(|e| e.on(at))
}

impl Copy<'_, '_> {
    fn walk(&mut self, from: OwnedFd, to: OwnedFd) -> Result<()> {
        let mut from = Trail::new(from, For::Listing)?;
        let mut to = Trail::new(to, For::Listing)?;
        let mut frames = vec![Frame { names: Names::read(from.top()?, |_| true)?, next: 0, end: 0 }];
        while let Some(Frame { names, next, end }) = frames.last_mut() {
            self.path.truncate(*end);
            let Some(name) = names.get(*next).map(<[u8]>::to_vec) else {
                let meta = from.meta()?;
                self.attributes(from.top()?, to.top()?)?;
                at::set_mode(to.top()?, meta.mode & 0o1777)?;
                at::set_mtime_of(to.top()?, meta.mtime).ok();
                frames.pop();
                if !frames.is_empty() {
                    from.leave()?;
                    to.leave()?;
                }
                continue;
            };
            *next += 1;
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name);
            (self.ask.step)();
            match self.entry((&mut from, &mut to), &name) {
                Ok(false) => {}
                Ok(true) => {
                    let names = Names::read(from.top()?, |_| true)?;
                    frames.push(Frame { names, next: 0, end: self.path.len() });
                }
                // Removed, or replaced by something else, since its name was read.
                Err(e)
                    if matches!(e.errno, Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR | Errno::ESTALE) =>
                {
                    self.taken.changed.add(&self.path, "it was removed or replaced");
                }
                Err(e) if e.errno == Errno::EXDEV => self.leave_out("something else is mounted there"),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Copy one entry. `true`: it is a directory, and both trails are in it.
    fn entry(&mut self, (from, to): (&mut Trail, &mut Trail), name: &[u8]) -> Result<bool> {
        let meta = at::stat(from.top()?, name)?;
        match meta.kind {
            FileKind::Dir => return self.directory((from, to), name),
            FileKind::File | FileKind::Symlink => self.leaf((from.top()?, to.top()?), name, &meta)?,
            FileKind::Fifo => self.leave_out("a fifo"),
            FileKind::Socket => self.leave_out("a socket"),
            FileKind::Char(..) | FileKind::Block => self.leave_out("a device"),
            FileKind::Other => self.leave_out("nothing that is known"),
        }
        Ok(false)
    }

    fn leave_out(&mut self, why: &str) {
        self.taken.left_out.add(&self.path, why);
    }

    fn directory(&mut self, (from, to): (&mut Trail, &mut Trail), name: &[u8]) -> Result<bool> {
        from.enter(name).inspect_err(|e| {
            // As an overlay shows it: a directory with nothing in it.
            if e.errno == Errno::EXDEV {
                to.top().and_then(|to| empty(to, name)).ok();
            }
        })?;
        if from.meta()?.same_inode(&self.ask.apart) {
            from.leave()?;
            self.leave_out("the state of aj, which this copy is in");
            return Ok(false);
        }
        at::make_dir(to.top()?, name, 0o700)?;
        to.enter(name)?;
        self.taken.directories += 1;
        Ok(true)
    }

    /// Copy a file or a link, or link it when its inode is in the copy already.
    fn leaf(&mut self, (from, to): (BorrowedFd<'_>, BorrowedFd<'_>), name: &[u8], meta: &Meta) -> Result<()> {
        let key = (meta.dev.0, meta.dev.1, meta.ino);
        let first = CString::new(format!("{:x}-{:x}-{:x}", key.0, key.1, key.2)).unwrap_or_default();
        let path = openat2::path(name)?;
        let several = meta.nlink > 1;
        let failed = |e| Error::new("link", "", e);
        if several && self.linked.contains(&key) {
            linkat(self.links, first.as_c_str(), to, path.as_c_str(), AtFlags::empty()).map_err(failed)?;
            self.count(meta, 0);
            return Ok(());
        }
        let bytes = if meta.kind == FileKind::File {
            self.file((from, to), name)?
        } else {
            // What is no link any more is something else now.
            let replaced =
                |e: Error| if e.errno == Errno::EINVAL { Error { errno: Errno::ESTALE, ..e } } else { e };
            at::make_link(to, name, &at::read_link(from, name).map_err(replaced)?)?;
            at::set_mtime(to, name, meta.mtime).ok();
            0
        };
        self.count(meta, bytes);
        if several {
            match linkat(to, path.as_c_str(), self.links, first.as_c_str(), AtFlags::empty()) {
                Ok(()) => drop(self.linked.insert(key)),
                // As many names as the file system gives: further ones become files of their own.
                Err(Errno::EMLINK) => {}
                Err(e) => return Err(failed(e)),
            }
        }
        Ok(())
    }

    fn count(&mut self, meta: &Meta, bytes: u64) {
        match meta.kind {
            FileKind::Symlink => self.taken.links += 1,
            _ => self.taken.files += 1,
        }
        self.taken.bytes += bytes;
    }

    /// Copy a regular file. How many bytes of content that were.
    fn file(&mut self, (from, to): (BorrowedFd<'_>, BorrowedFd<'_>), name: &[u8]) -> Result<u64> {
        let source = openat2::beneath(from, name, For::Reading)?;
        let mut meta = at::fstat(&source)?;
        if meta.kind != FileKind::File {
            return Err(Error::new("open", "", Errno::ESTALE));
        }
        let made = File::from(openat2::create(to, name, 0o600)?);
        for turn in 1.. {
            if meta.size > 0 {
                if self.shares && copy::reflink(&source, &made) {
                    self.taken.shared += 1;
                } else {
                    self.shares = false;
                    copy::data(&source, &made, meta.size)?;
                }
            }
            let now = at::fstat(&source)?;
            if (now.size, now.mtime) == (meta.size, meta.mtime) {
                break;
            }
            if turn == TURNS {
                self.taken.changed.add(&self.path, "it was written to all the time");
                break;
            }
            meta = now;
            made.set_len(0).map_err(|e| Error::new("ftruncate", "", crate::sys::errno(&e)))?;
        }
        self.attributes(source.as_fd(), made.as_fd())?;
        at::set_mode(&made, meta.mode & 0o777)?;
        // A time that the file system cannot hold is no reason to lose the content.
        at::set_mtime_of(&made, meta.mtime).ok();
        Ok(meta.allocated.min(meta.size))
    }

    /// The attributes that are a user's own.
    fn attributes(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
        carry::attributes_or(from, to, |name, e| {
            // There is room for few and short ones in some file systems.
            if !is_too_much(e.errno) {
                return Err(e);
            }
            self.leave_out(&format!("its attribute `{}` ({})", shown(name), e.name()));
            Ok(())
        })
    }
}

/// A directory with nothing in it, which everybody may read.
fn empty(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    at::make_dir(dir, name, 0o700)?;
    at::set_mode_by_path_fd(&openat2::beneath(dir, name, For::Naming)?, 0o755)
}

fn is_too_much(errno: Errno) -> bool {
    matches!(errno, Errno::ENOSPC | Errno::E2BIG | Errno::ERANGE | Errno::EOPNOTSUPP)
}

fn shown(name: &CStr) -> String {
    brief(&printable(name.to_bytes()))
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
