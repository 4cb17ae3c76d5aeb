//! Volumes: `volumes/ID/volume.toml`, and in `volumes/ID/data/` what jails see. `volumes/names/NAME` is a
//! link whose text is the id.
//!
//! The record says what the name is; the link is how it is found, and one that leads nowhere is what a
//! killed process left. `volumes/lock` is held while a volume gets or loses its name and its place, never
//! for longer: what takes time is done under `.new-ID` before and under `.gone-ID` after.
//!
//! The lock on a volume is a `flock` of its directory: shared by the jails that have it, exclusive for
//! whoever takes it away. What is in `data` was written by jails, and is only ever removed by us.

use std::ffi::CString;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, fchown};

use super::dirfd::{self, open_file};
use super::error::{Error, Result};
use super::filed::{Filed, Recorded};
use super::layout::StateDir;
use super::named::{Named, Shelf};
use super::remove::remove_dir_while;
use super::{fault, lock};
use crate::base::id::{Id, Kind};
use crate::base::name::Name;
use crate::schema::volume::{RECORD, Record};

pub use super::filed::Unread;

const DIR: &str = "volumes";
const NEW: &str = ".new-";
const GONE: &str = ".gone-";
const DATA: &str = "data";
const STAGING: &str = "edit";
/// How long somebody who only looks may hold a volume.
const A_LOOK: Duration = Duration::from_millis(100);

impl Recorded for Record {
    const FILE: &'static str = "volume.toml";
    const LIMIT: u64 = 1 << 18;
    const FORMAT: u32 = RECORD;

    fn format(&self) -> u32 {
        self.format
    }

    fn id(&self) -> Id {
        self.id
    }
}

/// A volume that cannot be removed while this lives.
#[derive(Debug)]
pub struct Held {
    /// Its record.
    pub record: Record,
    dir: File,
}

/// A volume that has lost its place and its name.
#[derive(Debug)]
pub struct Gone {
    name: CString,
    /// With its lock.
    _dir: File,
}

/// Where volume `id` lies.
pub fn dir_of(state: &StateDir, id: Id) -> PathBuf {
    state.path().join(DIR).join(id.as_str())
}

/// Where the files of volume `id` lie.
pub fn data_of(state: &StateDir, id: Id) -> PathBuf {
    dir_of(state, id).join(DATA)
}

fn open_dir(parent: impl std::os::fd::AsFd, name: &str) -> nix::Result<File> {
    open_file(parent, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
}

/// Make the volume of `record`, whose files belong to `owner` (`None`: to the caller). With
/// [`Named::Taken`] nothing was made.
pub fn create(state: &StateDir, record: &Record, owner: Option<(u32, u32)>) -> Result<Named> {
    let (all, id, path) = (state.subdir(DIR)?, record.id, state.path().join(DIR));
    if let Some(other) = holder(state, &record.name)? {
        return Ok(Named::Taken(other));
    }
    let new = format!("{NEW}{id}");
    let failed = |call, name: &str| {
        let path = path.join(&new).join(name);
        move |e| Error::call(call, &path, e)
    };
    fault::point();
    mkdirat(&all, new.as_str(), Mode::S_IRWXU).map_err(failed("mkdir", ""))?;
    let made = || -> Result<Named> {
        let dir = open_dir(&all, &new).map_err(failed("open", ""))?;
        // Until it has its name, this is what tells it from a leftover.
        if !lock::try_acquire(&dir, lock::Mode::Exclusive, &path)? {
            return Err(failed("flock", "")(Errno::EWOULDBLOCK));
        }
        fault::point();
        mkdirat(&dir, DATA, Mode::S_IRWXU).map_err(failed("mkdir", DATA))?;
        let data = open_dir(&dir, DATA).map_err(failed("open", DATA))?;
        // Set apart from mkdir, which the umask cuts down.
        fchmod(&data, Mode::from_bits_truncate(0o755)).map_err(failed("chmod", DATA))?;
        if let Some((uid, gid)) = owner {
            fchown(&data, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(failed("chown", DATA))?;
        }
        fault::point();
        Filed::new(record.clone(), String::new()).write_to(&dir, &path.join(&new))?;
        let turn = SHELF.take_turn(state)?;
        if let Named::Taken(other) = SHELF.link(state, &record.name, id)? {
            return Ok(Named::Taken(other));
        }
        fault::point();
        let placed = renameat(&all, new.as_str(), &all, id.as_str()).map_err(failed("rename", ""));
        if placed.is_err() {
            SHELF.unlink(state, &record.name, id);
        }
        placed?;
        all.sync_all().ok();
        drop(turn);
        Ok(Named::Yes)
    }();
    if !matches!(made, Ok(Named::Yes)) {
        let name = CString::new(new.as_str()).unwrap_or_default();
        remove_dir_while(&all, &name, &path, &mut || true).ok();
    }
    made
}

const SHELF: Shelf = Shelf { dir: DIR, kind: Kind::Volume, name_of };

fn name_of(state: &StateDir, id: Id) -> std::result::Result<Option<Name>, Unread> {
    Ok(read(state, id)?.map(|record| record.name))
}

/// The volume of that name. Two small reads.
pub fn holder(state: &StateDir, name: &Name) -> Result<Option<Id>> {
    SHELF.holder(state, name)
}

/// Names that lead to no volume, which killed processes left; they are taken away when `remove`.
pub fn stale_names(state: &StateDir, remove: bool) -> Result<Vec<String>> {
    SHELF.stale_names(state, remove)
}

/// The record of volume `id`; `None`: there is none.
pub fn read(state: &StateDir, id: Id) -> std::result::Result<Option<Record>, Unread> {
    let path = dir_of(state, id).join(Record::FILE);
    let filed = Filed::<Record>::read_from(state, &format!("{DIR}/{id}/{}", Record::FILE), &path, id)?;
    Ok(filed.map(|filed| filed.record))
}

/// Ids of all volumes, in no order.
pub fn list(state: &StateDir) -> Result<Vec<Id>> {
    SHELF.list(state)
}

/// When it was last used, milliseconds since the epoch; and whether a jail has it, or somebody removes it.
pub fn look(state: &StateDir, id: Id) -> (Option<u64>, bool) {
    let Ok(dir) = open_dir(state, &format!("{DIR}/{id}")) else { return (None, false) };
    let used = dir.metadata().ok().and_then(|m| {
        u64::try_from(m.mtime())
            .ok()?
            .checked_mul(1000)?
            .checked_add(u64::try_from(m.mtime_nsec()).ok()? / 1_000_000)
    });
    // A lock that a jail holds is shared: only an exclusive one is refused beside it.
    let in_use = lock::try_acquire(&dir, lock::Mode::Exclusive, Path::new(DIR)).is_ok_and(|free| !free);
    (used, in_use)
}

/// Keep volume `id` from being removed, and note that it is used. `None`: there is none. [`Error::Busy`]: it is
/// there, and somebody changes what is in it.
pub fn hold(state: &StateDir, id: Id) -> std::result::Result<Option<Held>, Unread> {
    held(state, id, lock::Mode::Shared)
}

/// The same for whoever changes what is in it while no jail has it. `None`: there is none, or one has it.
pub fn hold_alone(state: &StateDir, id: Id) -> std::result::Result<Option<Held>, Unread> {
    held(state, id, lock::Mode::Exclusive)
}

fn held(state: &StateDir, id: Id, mode: lock::Mode) -> std::result::Result<Option<Held>, Unread> {
    let path = dir_of(state, id);
    let name = format!("{DIR}/{id}");
    let dir = match open_dir(state, &name) {
        Ok(dir) => dir,
        Err(Errno::ENOENT) => return Ok(None),
        Err(e) => return Err(Error::call("open", &path, e).into()),
    };
    match lock::acquire(&dir, mode, A_LOOK, &path) {
        Ok(()) => {}
        // Whoever takes it away holds it to the end, when it has lost its name.
        Err(e @ Error::Busy { .. }) if mode == lock::Mode::Shared && is_named(state, &name, &dir) => {
            return Err(e.into());
        }
        Err(Error::Busy { .. }) => return Ok(None),
        Err(e) => return Err(e.into()),
    }
    // It may have been taken away between the two calls.
    if !is_named(state, &name, &dir) {
        return Ok(None);
    }
    let record = read(state, id)?;
    dir.set_modified(std::time::SystemTime::now()).ok();
    Ok(record.map(|record| Held { record, dir }))
}

impl Held {
    /// What jails see, opened. Its owner inside may have taken every permission from it; ours is given back:
    /// nothing else of aj would reach the files in it.
    pub fn data(&self) -> Result<std::os::fd::OwnedFd> {
        let name = CString::new(DATA).unwrap_or_default();
        let opened = match dirfd::open_dir(&self.dir, &name) {
            Err(Errno::EACCES) => fchmodat(&self.dir, DATA, Mode::S_IRWXU, FchmodatFlags::NoFollowSymlink)
                .and_then(|()| dirfd::open_dir(&self.dir, &name)),
            other => other,
        };
        opened.map_err(|e| Error::call("open", Path::new(DATA), e))
    }

    /// The directory of the volume itself, which no jail sees.
    pub fn dir(&self) -> &File {
        &self.dir
    }

    /// An empty directory in which new things are made, on the file system of the volume and seen by no jail.
    /// The caller holds it alone.
    pub fn stage(&self) -> Result<std::os::fd::OwnedFd> {
        self.unstage()?;
        let failed = |call| move |e| Error::call(call, Path::new(STAGING), e);
        mkdirat(&self.dir, STAGING, Mode::S_IRWXU).map_err(failed("mkdir"))?;
        dirfd::open_dir(&self.dir, &CString::new(STAGING).unwrap_or_default()).map_err(failed("open"))
    }

    /// Remove it, with what is left in it.
    pub fn unstage(&self) -> Result<()> {
        let name = CString::new(STAGING).unwrap_or_default();
        remove_dir_while(&self.dir, &name, Path::new(DIR), &mut || true).map(drop)
    }
}

fn is_named(at: impl std::os::fd::AsFd, name: &str, dir: &File) -> bool {
    let (named, held) = (fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW), fstat(dir));
    matches!((named, held), (Ok(a), Ok(b)) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

/// What came of an attempt to take a volume away.
#[derive(Debug)]
pub enum Taken {
    /// Its files are left to remove.
    Away(Gone),
    /// A jail has it.
    InUse,
    /// It is gone already.
    Missing,
}

/// Take a volume's place and name away; with `force` also from jails that have it, which keep an empty
/// directory.
pub fn take_away(state: &StateDir, id: Id, force: bool) -> Result<Taken> {
    let path = dir_of(state, id);
    let dir = match open_dir(state, &format!("{DIR}/{id}")) {
        Ok(dir) => dir,
        Err(Errno::ENOENT) => return Ok(Taken::Missing),
        Err(e) => return Err(Error::call("open", &path, e)),
    };
    match lock::acquire(&dir, lock::Mode::Exclusive, A_LOOK, &path) {
        Ok(()) => {}
        Err(Error::Busy { .. }) if force => {}
        Err(Error::Busy { .. }) => return Ok(Taken::InUse),
        Err(e) => return Err(e),
    }
    let turn = SHELF.take_turn(state)?;
    let all = state.subdir(DIR)?;
    if !is_named(&all, id.as_str(), &dir) {
        return Ok(Taken::Missing);
    }
    let name = read(state, id).ok().flatten().map(|record| record.name);
    let gone = format!("{GONE}{id}");
    fault::point();
    match renameat(&all, id.as_str(), &all, gone.as_str()) {
        Ok(()) => {}
        Err(Errno::ENOENT) => return Ok(Taken::Missing),
        Err(e) => return Err(Error::call("rename", &path, e)),
    }
    fault::point();
    if let Some(name) = name {
        SHELF.unlink(state, &name, id);
    }
    all.sync_all().ok();
    drop(turn);
    Ok(Taken::Away(Gone { name: CString::new(gone).unwrap_or_default(), _dir: dir }))
}

impl Gone {
    /// Remove its files.
    pub fn remove(self, state: &StateDir) -> Result<()> {
        fault::point();
        let (all, path) = (state.subdir(DIR)?, state.path().join(DIR));
        remove_dir_while(&all, &self.name, &path, &mut || true).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::state;
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn record(name: &str) -> Record {
        Record {
            format: RECORD,
            id: Id::random(Kind::Volume).unwrap(),
            name: name.parse().unwrap(),
            created_ms: 1,
            labels: vec!["l".to_owned()],
            meta: [("k".to_owned(), "v".to_owned())].into(),
        }
    }

    fn soon(is_so: impl Fn() -> bool) -> bool {
        (0..500).any(|_| is_so() || (std::thread::sleep(Duration::from_millis(10)), false).1)
    }

    #[test]
    fn a_name_has_one_volume_and_a_link_that_leads_nowhere_is_nobodys() {
        let (_dir, state) = state();
        let (one, two) = (record("data"), record("data"));
        assert_eq!(create(&state, &one, None).unwrap(), Named::Yes);
        assert_eq!(create(&state, &two, None).unwrap(), Named::Taken(one.id));
        assert_eq!(read(&state, one.id).unwrap(), Some(one.clone()));
        assert_eq!(list(&state).unwrap(), [one.id]);
        let mode = fs::metadata(data_of(&state, one.id)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        let names = state.path().join("volumes/names");
        symlink(record("x").id.as_str(), names.join("left")).unwrap();
        assert_eq!(holder(&state, &"left".parse().unwrap()).unwrap(), None);
        let left = record("left");
        assert_eq!(create(&state, &left, None).unwrap(), Named::Yes);
        assert_eq!(holder(&state, &left.name).unwrap(), Some(left.id));
    }

    #[test]
    fn what_a_jail_has_is_not_taken_away_but_by_force() {
        let (_dir, state) = state();
        let one = record("data");
        create(&state, &one, None).unwrap();
        symlink("/etc", data_of(&state, one.id).join("link")).unwrap();
        let (first, second) =
            (hold(&state, one.id).unwrap().unwrap(), hold(&state, one.id).unwrap().unwrap());
        assert!(look(&state, one.id).1);
        assert!(matches!(take_away(&state, one.id, false).unwrap(), Taken::InUse));
        drop((first, second));
        // A process that another test is just starting has a copy of all descriptors until it executes.
        assert!(soon(|| !look(&state, one.id).1));
        let still = hold(&state, one.id).unwrap();
        let Taken::Away(gone) = take_away(&state, one.id, true).unwrap() else { panic!("still there") };
        assert!(hold(&state, one.id).unwrap().is_none() && list(&state).unwrap().is_empty());
        gone.remove(&state).unwrap();
        drop(still);
        assert!(matches!(take_away(&state, one.id, false).unwrap(), Taken::Missing));
        assert!(fs::symlink_metadata("/etc").unwrap().is_dir());
        assert_eq!(create(&state, &record("data"), None).unwrap(), Named::Yes, "the name is free");
    }

    #[test]
    fn a_damaged_record_is_said_and_keeps_its_name() {
        let (_dir, state) = state();
        let one = record("data");
        create(&state, &one, None).unwrap();
        fs::write(dir_of(&state, one.id).join(Record::FILE), "format = 0\n").unwrap();
        assert!(matches!(read(&state, one.id), Err(Unread::Damaged { .. })));
        assert_eq!(create(&state, &record("data"), None).unwrap(), Named::Taken(one.id));
        let newer = Record { format: RECORD + 1, ..one.clone() };
        fs::write(dir_of(&state, one.id).join(Record::FILE), toml::to_string(&newer).unwrap()).unwrap();
        assert!(matches!(read(&state, one.id), Err(Unread::Newer { found: 2, .. })));
    }
}
