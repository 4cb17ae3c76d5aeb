//! A private copy of a tree, for where no overlay over it can be had, and what a jail made of it.
//!
//! The copy's own inodes and change times are noted while it is made. Nobody inside can set a change time,
//! so that what has another one afterwards is what was written to: the rest was never touched, whatever
//! the host has made of the original meanwhile. What was written is put into an upper layer, as if there
//! had been an overlay, and compared and applied like any other.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::carry::{self, entry};
use super::names::Names;
use super::trail::Trail;
use crate::base::text::printable;
use crate::store::whiteout;
use crate::sys::at::{self, FileKind, Meta, Stamp};
use crate::sys::openat2::{self, For};
use crate::sys::{Error, Result, copy, xattr};

/// What is hidden of the tree, by its path below the top: `None` is left out, a text is shown instead.
pub type Hidden = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Whose the copy is.
#[derive(Debug, Clone, Copy)]
pub struct Owners {
    /// Whose files are to be the jail's user's.
    pub from: (u32, u32),
    /// The jail's user, by its ids on the host.
    pub to: (u32, u32),
    /// Whose the files of all others are.
    pub others: (u32, u32),
}

/// How much there may be.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
}

/// So far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of files, as long as they are.
    pub bytes: u64,
    /// What could not be read, and is not in the copy.
    pub unread: u64,
}

/// What one entry of the copy was when it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    ino: u64,
    ctime: Stamp,
    mode: u32,
    directory: bool,
}

/// What the copy was: of each directory, by its path, the entries.
#[derive(Debug, Default)]
pub struct Record {
    directories: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Known>>,
}

/// How to copy.
#[allow(missing_debug_implementations, reason = "a call is in it")]
pub struct Ask<'a> {
    /// Whose it is; `None`: the caller's own.
    pub owners: Option<Owners>,
    /// What is hidden.
    pub hidden: &'a Hidden,
    /// Bounds: `EFBIG` when there is more.
    pub most: Most,
    /// Told now and then.
    pub progress: &'a mut dyn FnMut(Sum),
}

struct Frame {
    names: Names,
    next: usize,
    path: Vec<u8>,
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// Copy the tree `from` into the empty directory `to`. Sockets, FIFOs and what lies on other mounts stay
/// behind, as does what cannot be read: no command of this user could.
pub fn make(from: OwnedFd, to: OwnedFd, ask: &mut Ask<'_>) -> Result<(Record, Sum)> {
    let (mut record, mut sum) = (Record::default(), Sum::default());
    let mut from = Trail::new(from, For::Listing)?;
    let mut to = Trail::new(to, For::Listing)?;
    let mut frames = vec![Frame { names: Names::read(from.top()?, |_| true)?, next: 0, path: Vec::new() }];
    loop {
        let Some(Frame { names, next, path }) = frames.last_mut() else { return Ok((record, sum)) };
        let Some(name) = names.get(*next) else {
            let meta = from.meta()?;
            give(to.top()?, &meta, ask.owners)?;
            at::set_mode(to.top()?, meta.mode & 0o1777)?;
            at::set_mtime_of(to.top()?, meta.mtime).ok();
            let made = at::fstat(to.top()?)?;
            let path = frames.pop().map(|f| f.path).unwrap_or_default();
            record.directories.entry(path.clone()).or_default();
            if !frames.is_empty() {
                from.leave()?;
                to.leave()?;
                let at = path.iter().rposition(|b| *b == b'/');
                let (dir, name) = at.map_or((&b""[..], &path[..]), |at| (&path[..at], &path[at + 1..]));
                record.note(dir, name, &made);
            }
            continue;
        };
        *next += 1;
        sum.entries += 1;
        if sum.entries > ask.most.entries || sum.bytes > ask.most.bytes {
            return Err(Error::new("copy", "the tree", Errno::EFBIG));
        }
        if sum.entries.is_multiple_of(256) {
            (ask.progress)(sum);
        }
        let below = join(path, name);
        let meta = match at::stat_opt(from.top()?, name)? {
            Some(meta) => meta,
            // Gone since the names were read.
            None => continue,
        };
        match ask.hidden.get(&below) {
            Some(None) => continue,
            Some(Some(text)) if meta.kind == FileKind::File => {
                let made = openat2::create(to.top()?, name, 0o600)?;
                copy::bytes(text, &made)?;
                settle(&made, &meta, ask.owners)?;
                record.note(path, name, &at::fstat(&made)?);
                continue;
            }
            Some(Some(_)) | None => {}
        }
        match meta.kind {
            FileKind::Dir => match from.enter(name) {
                Ok(()) => {
                    at::make_dir(to.top()?, name, 0o700)?;
                    to.enter(name)?;
                    let names = Names::read(from.top()?, |_| true)?;
                    frames.push(Frame { names, next: 0, path: below });
                }
                Err(e) if is_unreadable(e.errno) => sum.unread += 1,
                Err(e) => return Err(e),
            },
            FileKind::File => match openat2::beneath(from.top()?, name, For::Reading) {
                Ok(source) => {
                    let now = at::fstat(&source)?;
                    if now.kind != FileKind::File {
                        continue;
                    }
                    sum.bytes = sum.bytes.saturating_add(now.size);
                    if sum.bytes > ask.most.bytes {
                        return Err(Error::new("copy", "the tree", Errno::EFBIG));
                    }
                    let made = openat2::create(to.top()?, name, 0o600)?;
                    copy::file(&source, &made, now.size).map_err(|e| e.on(printable(&below)))?;
                    settle(&made, &now, ask.owners)?;
                    record.note(path, name, &at::fstat(&made)?);
                }
                Err(e) if is_unreadable(e.errno) => sum.unread += 1,
                Err(e) => return Err(e),
            },
            FileKind::Symlink => {
                at::make_link(to.top()?, name, &at::read_link(from.top()?, name)?)?;
                let made = openat2::beneath(to.top()?, name, For::Naming)?;
                give(&made, &meta, ask.owners)?;
                record.note(path, name, &at::fstat(&made)?);
            }
            FileKind::Fifo | FileKind::Socket | FileKind::Char(..) | FileKind::Block | FileKind::Other => {}
        }
    }
}

/// What nobody can read here, another mount, or something that was replaced just now.
fn is_unreadable(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EACCES | Errno::EPERM | Errno::EXDEV | Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR
    )
}

fn settle(made: &OwnedFd, meta: &Meta, owners: Option<Owners>) -> Result<()> {
    give(made, meta, owners)?;
    at::set_mode(made, meta.mode & 0o777)?;
    at::set_mtime_of(made, meta.mtime).ok();
    Ok(())
}

fn give(made: impl std::os::fd::AsFd, meta: &Meta, owners: Option<Owners>) -> Result<()> {
    let Some(Owners { from, to, others }) = owners else { return Ok(()) };
    let (uid, gid) = if meta.uid == from.0 { to } else { others };
    at::set_owner(made, Some(uid), Some(gid))
}

impl Record {
    fn note(&mut self, dir: &[u8], name: &[u8], made: &Meta) {
        let known = Known {
            ino: made.ino,
            ctime: made.ctime,
            mode: made.mode & 0o7777,
            directory: made.kind == FileKind::Dir,
        };
        self.directories.entry(dir.to_vec()).or_default().insert(name.to_vec(), known);
    }
}

/// Put what was made of the copy `of` since into the empty directory `upper`. What was hidden stays where
/// it is.
pub fn changes(of: OwnedFd, record: &Record, hidden: &Hidden, upper: OwnedFd) -> Result<()> {
    let mut of = Trail::of_jail(of, For::Listing)?;
    let mut upper = Trail::new(upper, For::Listing)?;
    let root = of.meta()?;
    let mut frames =
        vec![Level { names: Names::read(of.top()?, |_| true)?, next: 0, path: Vec::new(), merged: true }];
    gone(&of, &mut upper, record, &frames)?;
    while let Some(Level { names, next, path, merged }) = frames.last_mut() {
        let Some(name) = names.get(*next) else {
            if upper.depth() == of.depth() && frames.len() > 1 {
                carry::finish_directory(of.top()?, upper.top()?, &of.meta()?)?;
                upper.leave()?;
            }
            frames.pop();
            if !frames.is_empty() {
                of.leave()?;
            }
            continue;
        };
        *next += 1;
        let (below, merged) = (join(path, name), *merged);
        if hidden.get(&below).is_some_and(Option::is_some) {
            continue;
        }
        let meta = at::stat(of.top()?, name)?;
        let known = record.directories.get(path).and_then(|d| d.get(name)).filter(|_| merged).copied();
        let name = name.to_vec();
        let same = known.filter(|k| k.ino == meta.ino && k.directory == (meta.kind == FileKind::Dir));
        if meta.kind == FileKind::Dir {
            let changed = same.is_none_or(|k| k.mode != meta.mode & 0o7777);
            of.enter_unlocking(&name)?;
            let level = Level {
                names: Names::read(of.top()?, |_| true)?,
                next: 0,
                path: below,
                merged: same.is_some(),
            };
            frames.push(level);
            if changed {
                ensure(&mut upper, &frames)?;
                if known.is_some() && same.is_none() {
                    // Another one of the same name: nothing of the old one shows through.
                    xattr::set(upper.top()?, c"user.overlay.opaque", b"y")?;
                }
            }
            gone(&of, &mut upper, record, &frames)?;
        } else if same.is_none_or(|k| k.ctime != meta.ctime) {
            ensure(&mut upper, &frames)?;
            entry(of.top()?, upper.top()?, &name, &meta)?;
        }
    }
    carry::finish_directory(of.root()?, upper.root()?, &root)
}

struct Level {
    names: Names,
    next: usize,
    path: Vec<u8>,
    /// The directory is the one that was copied.
    merged: bool,
}

/// Whiteouts for what was in the directory on top and is no more.
fn gone(of: &Trail, upper: &mut Trail, record: &Record, frames: &[Level]) -> Result<()> {
    let Some(Level { names, path, merged: true, .. }) = frames.last() else { return Ok(()) };
    debug_assert_eq!(of.depth(), frames.len());
    for name in record.directories.get(path).into_iter().flatten().map(|(name, _)| name) {
        if !names.contains(name) {
            ensure(upper, frames)?;
            whiteout::make(upper.top()?, name)?;
        }
    }
    Ok(())
}

/// Make the directory on top in the upper layer, with those around it.
fn ensure(upper: &mut Trail, frames: &[Level]) -> Result<()> {
    for level in frames.get(upper.depth()..).unwrap_or_default() {
        let name = level.path.rsplit(|b| *b == b'/').next().unwrap_or_default();
        at::make_dir(upper.top()?, name, 0o700)?;
        upper.enter(name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::upper;
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn open(path: &Path) -> OwnedFd {
        fs::File::open(path).unwrap().into()
    }

    const ALL: Most = Most { entries: 1000, bytes: 1 << 20 };

    struct Bench(tempfile::TempDir);

    impl Bench {
        fn new() -> Bench {
            let t = super::super::tests::memory_dir();
            for d in ["base", "copy", "upper", "base/d", "base/d/e", "base/r"] {
                fs::create_dir(t.path().join(d)).unwrap();
            }
            for f in ["f", "d/g", "d/e/h", "r/old", ".env", "config", "same"] {
                fs::write(t.path().join("base").join(f), f).unwrap();
            }
            symlink("f", t.path().join("base/link")).unwrap();
            Bench(t)
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.0.path().join(name)
        }

        fn copy(&self, most: Most) -> Result<(Record, Sum)> {
            let hidden = hidden();
            let mut ask = Ask { owners: None, hidden: &hidden, most, progress: &mut |_| {} };
            make(open(&self.path("base")), open(&self.path("copy")), &mut ask)
        }

        fn listed(&self) -> Vec<String> {
            fn walk(dir: &Path, top: &Path, into: &mut Vec<String>) {
                let fd = open(dir);
                let opacity = upper::opacity(&fd).unwrap();
                for e in fs::read_dir(dir).unwrap() {
                    let e = e.unwrap();
                    let name = e.file_name();
                    let bytes = name.as_encoded_bytes();
                    let meta = at::stat(&fd, bytes).unwrap();
                    let kind = upper::kind(fd.as_fd(), bytes, &meta, opacity.marked_files).unwrap();
                    let shown = e.path().strip_prefix(top).unwrap().display().to_string();
                    into.push(match kind {
                        upper::UpperKind::Whiteout => format!("-{shown}"),
                        upper::UpperKind::Dir if upper::opacity(open(&e.path())).unwrap().opaque => {
                            format!("!{shown}/")
                        }
                        upper::UpperKind::Dir => format!("{shown}/"),
                        _ => shown,
                    });
                    if kind == upper::UpperKind::Dir {
                        walk(&e.path(), top, into);
                    }
                }
            }
            let mut all = Vec::new();
            walk(&self.path("upper"), &self.path("upper"), &mut all);
            all.sort();
            all
        }
    }

    fn hidden() -> Hidden {
        [(b".env".to_vec(), None), (b"config".to_vec(), Some(b"clean".to_vec()))].into()
    }

    #[test]
    fn what_was_not_touched_is_no_change_and_what_was_is_in_the_upper_layer() {
        let b = Bench::new();
        let (record, sum) = b.copy(ALL).unwrap();
        assert_eq!((sum.entries, sum.unread), (11, 0));
        assert!(!b.path("copy/.env").exists());
        assert_eq!(fs::read(b.path("copy/config")).unwrap(), b"clean");
        changes(open(&b.path("copy")), &record, &hidden(), open(&b.path("upper"))).unwrap();
        assert_eq!(b.listed(), [""; 0]);
        std::thread::sleep(std::time::Duration::from_millis(20));
        // On the host, meanwhile: none of the jail's business.
        fs::write(b.path("base/same"), "host").unwrap();
        fs::remove_file(b.path("base/d/g")).unwrap();
        let copy = |name: &str| b.path("copy").join(name);
        fs::write(copy("f"), "F").unwrap();
        // The time of change by content is put back; the other one cannot be.
        fs::File::open(copy("f"))
            .unwrap()
            .set_modified(fs::metadata(b.path("base/f")).unwrap().modified().unwrap())
            .unwrap();
        fs::remove_file(copy("d/e/h")).unwrap();
        fs::remove_dir_all(copy("r")).unwrap();
        fs::create_dir(copy("r")).unwrap();
        fs::write(copy("r/new"), "").unwrap();
        fs::rename(copy("link"), copy("link2")).unwrap();
        fs::set_permissions(copy("d"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(copy("config"), "jail").unwrap();
        fs::write(copy(".env"), "mine").unwrap();
        fs::create_dir_all(copy("n/m")).unwrap();
        fs::rename(copy("same"), copy("n/m/moved")).unwrap();
        changes(open(&b.path("copy")), &record, &hidden(), open(&b.path("upper"))).unwrap();
        assert_eq!(
            b.listed(),
            [
                "!r/",
                "-d/e/h",
                "-link",
                "-same",
                ".env",
                "d/",
                "d/e/",
                "f",
                "link2",
                "n/",
                "n/m/",
                "n/m/moved",
                "r/new"
            ]
        );
        assert_eq!(fs::metadata(b.path("upper/d")).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn what_a_jail_says_of_the_overlay_means_nothing() {
        let b = Bench::new();
        let (record, _) = b.copy(ALL).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(b.path("copy/fake"), "").unwrap();
        xattr::set(open(&b.path("copy/fake")), c"user.overlay.whiteout", b"y").unwrap();
        xattr::set(open(&b.path("copy/d")), c"user.overlay.opaque", b"x").unwrap();
        fs::write(b.path("copy/d/fake"), "").unwrap();
        changes(open(&b.path("copy")), &record, &hidden(), open(&b.path("upper"))).unwrap();
        assert_eq!(b.listed(), ["d/", "d/fake", "fake"]);
        assert_eq!(xattr::get(open(&b.path("upper/fake")), c"user.overlay.whiteout").unwrap(), None);
    }

    #[test]
    fn more_than_the_bounds_is_refused() {
        let few = Bench::new().copy(Most { entries: 5, ..ALL }).unwrap_err();
        let small = Bench::new().copy(Most { bytes: 5, ..ALL }).unwrap_err();
        assert_eq!((few.errno, small.errno), (Errno::EFBIG, Errno::EFBIG));
    }
}
