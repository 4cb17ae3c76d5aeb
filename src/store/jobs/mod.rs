//! Where jobs lie: `jobs/ID/`, with the record `job.toml`, the files of the log, and small notes.
//!
//! A directory is made under another name and renamed when it is whole, and taken away the same way, so that
//! there is a job, whole, or there is none. Whoever starts, claims, restarts or removes one holds its lock for
//! a moment; nobody holds it while it runs.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::atomic::{self, Durability};
use super::dirfd::{self, open_file};
use super::error::{Error, Result};
use super::filed::Recorded;
use super::layout::StateDir;
use super::lock;
use super::remove::remove_dir;
use crate::base::id::{Id, Kind};
use crate::schema::job::Record;

mod record;

pub use super::filed::Unread;
pub use record::Filed;

const DIR: &str = "jobs";
const LOCK: &str = "lock";
const NEW: &str = ".new-";
const GONE: &str = ".gone-";
/// Bytes that are given back when the disk is full and the end has to be written.
const RESERVE: &str = "reserve";
const RESERVED: usize = 16 * 1024;
/// Somebody wants it to end, and not to be started again: holds the turn that is meant.
const STOP: &str = "stop";
/// It is ready: holds the turn and the time.
const READY: &str = "ready";
/// What its server that is not ready was seen to do: holds the turn and that.
const UNREADY: &str = "unready";
/// How long one waits for whoever has the lock.
const WAIT: Duration = Duration::from_secs(5);

/// The open directory of a job.
#[derive(Debug)]
pub struct Home {
    dir: File,
    path: PathBuf,
    id: Id,
}

/// Where the directory of job `id` is.
fn path_of(state: &StateDir, id: Id) -> PathBuf {
    state.path().join(DIR).join(id.as_str())
}

/// The directory that jobs lie in, made when it is missing.
pub fn all_path(state: &StateDir) -> Result<PathBuf> {
    state.subdir(DIR)?;
    Ok(state.path().join(DIR))
}

/// The turn of one process among those that start jobs, until it is dropped: names are given under it.
pub fn take_turn(state: &StateDir) -> Result<File> {
    let all = state.subdir(DIR)?;
    let path = state.path().join(DIR).join(LOCK);
    let file =
        open_file(&all, LOCK, OFlag::O_RDWR | OFlag::O_CREAT).map_err(|e| Error::call("open", &path, e))?;
    lock::acquire(&file, lock::Mode::Exclusive, WAIT, &path)?;
    Ok(file)
}

/// Make the job of `filed`.
pub fn create(state: &StateDir, filed: &Filed) -> Result<Home> {
    let all = state.subdir(DIR)?;
    let (id, path) = (filed.record.id, state.path().join(DIR));
    let new = format!("{NEW}{id}");
    let failed = |call| {
        let path = path.join(&new);
        move |e| Error::call(call, &path, e)
    };
    sweep(&all, &path);
    mkdirat(&all, new.as_str(), Mode::S_IRWXU).map_err(failed("mkdir"))?;
    let made = || -> Result<Home> {
        let dir = open_file(&all, &new, OFlag::O_RDONLY | OFlag::O_DIRECTORY).map_err(failed("open"))?;
        // What tells it from a leftover.
        if !lock::try_acquire(&dir, lock::Mode::Exclusive, &path)? {
            return Err(Error::call("flock", &path.join(&new), Errno::EWOULDBLOCK));
        }
        let home = Home { dir, path: path.join(id.as_str()), id };
        home.put_by()?;
        home.write(filed)?;
        renameat(&all, new.as_str(), &all, id.as_str()).map_err(failed("rename"))?;
        all.sync_all().ok();
        // The lock was that of the new one.
        Home::open(state, id)?.ok_or_else(|| failed("open")(Errno::ENOENT))
    }();
    if made.is_err() {
        for name in [new.as_str(), id.as_str()] {
            remove_dir(&all, &CString::new(name).unwrap_or_default(), &path).ok();
        }
    }
    made
}

/// The jobs that there are, in no order.
pub fn list(state: &StateDir) -> Result<Vec<Id>> {
    let path = state.path().join(DIR);
    let all = match open_file(state, DIR, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
        Ok(all) => all,
        Err(Errno::ENOENT) => return Ok(Vec::new()),
        Err(e) => return Err(Error::call("open", &path, e)),
    };
    let names = dirfd::names(&all).map_err(|e| Error::call("read", &path, e))?;
    let ids = names.iter().filter_map(|n| n.to_str().ok()?.parse::<Id>().ok());
    Ok(ids.filter(|id| id.kind() == Kind::Job).collect())
}

/// Remove what was half made and half taken away by whoever was killed.
fn sweep(all: &File, path: &Path) {
    for name in dirfd::names(all).unwrap_or_default() {
        let Ok(text) = name.to_str() else { continue };
        if text.starts_with(GONE) {
            remove_dir(all, &name, path).ok();
        } else if text.starts_with(NEW)
            && let Ok(dir) = open_file(all, text, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
            && lock::try_acquire(&dir, lock::Mode::Exclusive, path).unwrap_or(false)
            && is_at(all, text, &dir)
            // Between its mkdir and its lock it is not a leftover either.
            && dir.metadata().ok().and_then(|m| m.modified().ok()?.elapsed().ok()).is_some_and(|age| age > WAIT)
        {
            remove_dir(all, &name, path).ok();
        }
    }
}

/// Whether `name` is still this very directory.
fn is_at(all: &File, name: &str, dir: &File) -> bool {
    let there =
        open_file(all, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY).ok().and_then(|d| d.metadata().ok());
    matches!((there, dir.metadata()), (Some(a), Ok(b)) if (a.dev(), a.ino()) == (b.dev(), b.ino()))
}

impl Home {
    /// Open the directory of job `id`; `None`: there is no such job.
    pub fn open(state: &StateDir, id: Id) -> Result<Option<Home>> {
        let path = path_of(state, id);
        match open_file(state, &format!("{DIR}/{id}"), OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
            Ok(dir) => Ok(Some(Home { dir, path, id })),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(Error::call("open", &path, e)),
        }
    }

    /// The job.
    pub fn id(&self) -> Id {
        self.id
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its record; `None`: it was removed meanwhile.
    pub fn read(&self) -> std::result::Result<Option<Filed>, Unread> {
        Filed::read_from(&self.dir, Record::FILE, &self.path.join(Record::FILE), self.id)
    }

    /// Replace its record. On a full disk what was put by for that is given back.
    pub fn write(&self, filed: &Filed) -> Result<()> {
        match filed.write_to(&self.dir, &self.path) {
            Err(e) if matches!(e.errno(), Some(Errno::ENOSPC | Errno::EDQUOT)) => {
                unlinkat(&self.dir, RESERVE, UnlinkatFlags::NoRemoveDir).ok();
                filed.write_to(&self.dir, &self.path)
            }
            done => done,
        }
    }

    /// Put by what its end will take, unless that is there.
    pub fn put_by(&self) -> Result<()> {
        if atomic::read(&self.dir, RESERVE, 1).ok().flatten().is_some() {
            return Ok(());
        }
        atomic::write(&self.dir, RESERVE, &vec![0x20; RESERVED], Durability::Cache)
            .map_err(|e| Error::call("write", &self.path.join(RESERVE), e))
    }

    /// Take its lock, until the file is dropped. `None`: it was removed meanwhile.
    pub fn lock(&self, state: &StateDir) -> Result<Option<File>> {
        let path = self.path.join(LOCK);
        let file = match open_file(&self.dir, LOCK, OFlag::O_RDWR | OFlag::O_CREAT) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Ok(None),
            Err(e) => return Err(Error::call("open", &path, e)),
        };
        lock::acquire(&file, lock::Mode::Exclusive, WAIT, &path)?;
        let all = state.subdir(DIR)?;
        Ok(is_at(&all, self.id.as_str(), &self.dir).then_some(file))
    }

    /// Take it away with all that is in it. The caller has the lock. `false`: it was gone.
    pub fn remove(&self, state: &StateDir) -> Result<bool> {
        let all = state.subdir(DIR)?;
        let path = state.path().join(DIR);
        let gone = format!("{GONE}{}", self.id);
        match renameat(&all, self.id.as_str(), &all, gone.as_str()) {
            Ok(()) => {}
            Err(Errno::ENOENT) => return Ok(false),
            Err(e) => return Err(Error::call("rename", &self.path, e)),
        }
        let gone = CString::new(gone).unwrap_or_default();
        // Another one that ends or removes it just now may make a file in it still: it has its descriptor.
        let mut tries = 0;
        loop {
            match remove_dir(&all, &gone, &path) {
                Err(e) if e.errno() == Some(Errno::ENOTEMPTY) && tries < 10 => tries += 1,
                Ok(_) => break,
                Err(e) => return Err(e),
            }
        }
        sweep(&all, &path);
        Ok(true)
    }

    /// Ask that turn `turn` of it ends, and is not started again.
    pub fn ask_to_stop(&self, turn: u32) -> Result<()> {
        self.note(STOP, &format!("{turn}\n"))
    }

    /// Whether somebody has asked that turn `turn` ends.
    pub fn is_asked_to_stop(&self, turn: u32) -> bool {
        self.noted(STOP).is_some_and(|text| text.trim().parse() == Ok(turn))
    }

    /// Note that turn `turn` is ready.
    pub fn be_ready(&self, turn: u32, now_ms: u64) -> Result<()> {
        self.note(READY, &format!("{turn} {now_ms}\n"))
    }

    /// Since when turn `turn` is ready.
    pub fn ready_since(&self, turn: u32) -> Option<u64> {
        let text = self.noted(READY)?;
        let (of, since) = text.trim().split_once(' ')?;
        (of.parse() == Ok(turn)).then(|| since.parse().ok())?
    }

    /// Forget what was noted of that: it begins anew.
    pub fn forget_ready(&self) -> Result<()> {
        [READY, UNREADY].into_iter().try_for_each(|name| {
            match unlinkat(&self.dir, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => Ok(()),
                Err(e) => Err(Error::call("unlink", &self.path.join(name), e)),
            }
        })
    }

    /// Note what was seen last of a server in turn `turn` that was not ready.
    pub fn note_unready(&self, turn: u32, seen: &str) -> Result<()> {
        self.note(UNREADY, &format!("{turn} {seen}\n"))
    }

    /// What was seen last, in turn `turn`.
    pub fn unready(&self, turn: u32) -> Option<String> {
        let text = self.noted(UNREADY)?;
        let (of, seen) = text.trim().split_once(' ')?;
        (of.parse() == Ok(turn)).then(|| seen.to_owned())
    }

    fn note(&self, name: &str, text: &str) -> Result<()> {
        let failed = |e| Error::call("write", &self.path.join(name), e);
        match atomic::write(&self.dir, name, text.as_bytes(), Durability::Cache) {
            Err(Errno::ENOSPC | Errno::EDQUOT) => {
                unlinkat(&self.dir, RESERVE, UnlinkatFlags::NoRemoveDir).ok();
                atomic::write(&self.dir, name, text.as_bytes(), Durability::Cache).map_err(failed)
            }
            done => done.map_err(failed),
        }
    }

    fn noted(&self, name: &str) -> Option<String> {
        String::from_utf8(atomic::read(&self.dir, name, 64).ok().flatten()?).ok()
    }

    /// Bytes that everything in it takes.
    pub fn size(&self) -> u64 {
        let names = dirfd::names(&self.dir).unwrap_or_default();
        let len = |n: &CString| {
            let file = open_file(&self.dir, n.to_str().ok()?, OFlag::O_RDONLY | OFlag::O_NONBLOCK).ok()?;
            n.to_bytes().starts_with(b"log-").then(|| file.metadata().map(|m| m.len()).ok())?
        };
        names.iter().filter_map(len).sum()
    }
}

impl AsFd for Home {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}
