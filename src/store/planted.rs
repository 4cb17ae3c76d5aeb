//! What `aj` itself puts into the upper layer of a tree before it is mounted, to keep secrets of the
//! base out of sight: whiteouts, files without the credentials in them, and the directories on the way.
//!
//! The file `hidden` in the directory of the tree, out of the jail's reach, lists them. It is written
//! before the first of them is made: whatever kills us in between, nobody takes a whiteout of ours for a
//! deletion.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, UtimensatFlags, fchmod, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, unlinkat};

use super::atomic::Durability;
use super::dirfd;
use super::sides::{self, Kind};
use super::trees::Tree;
use super::{atomic, error, whiteout};
use crate::base::text::printable;
use crate::sys::at::{self, FileKind, Meta, Stamp};
use crate::sys::openat2::{self, For};
use crate::sys::{errno, xattr};

const FILE: &str = "hidden";
const HEAD: &[u8] = b"aj-hidden 1\n";
/// Bytes of the record at most.
const LIMIT: u64 = 8 << 20;

/// One thing to put there. Paths are below the base, raw, without `.` and `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// Where.
    pub path: Vec<u8>,
    /// What.
    pub what: Sown,
    /// Who owns it on the host; `None`: whoever makes it.
    pub owner: Option<(u32, u32)>,
}

/// What to put there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sown {
    /// Nothing is there.
    Whiteout,
    /// A directory of the base, as a copy up would make it.
    Way {
        /// Its permission bits, with setgid and sticky.
        mode: u32,
        /// When its entries changed.
        mtime: Stamp,
    },
    /// A file with this content.
    File {
        /// Its permission bits.
        mode: u32,
        /// When it changed.
        mtime: Stamp,
        /// What is in it.
        content: Vec<u8>,
    },
}

/// What was put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A whiteout.
    Whiteout,
    /// A directory with these permission bits.
    Way(u32),
    /// A file with these permission bits, and the hash of its content.
    File(u32, [u8; 32]),
}

/// All that was put into one tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Planted(BTreeMap<Vec<u8>, What>);

/// What to put into one upper layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bed {
    /// The directory with the layers of an overlay beside the workspace; `None`: the tree itself.
    pub side: Option<PathBuf>,
    /// All of it, directories before what is in them.
    pub seeds: Vec<Seed>,
}

/// Put it there. In a tree that another run left, what it has in a place is its own and stays: only what is
/// missing is put there, and what was put there for it and is `shown` now (by its path below the workspace,
/// or the absolute one) is taken away. Overlays beside the workspace have a record of their own.
pub fn plant(tree: &Tree, beds: &[Bed], shown: &dyn Fn(&[u8]) -> bool) -> error::Result<()> {
    if tree.is_older() {
        let wanted = |side: Option<&Path>| {
            let bed = beds.iter().find(|bed| bed.side.as_deref() == side);
            bed.map_or(&[][..], |bed| &bed.seeds)
        };
        uncover(tree, tree.path(), wanted(None), shown)?;
        for side in sides::all(tree, Kind::Part)? {
            let layers = tree.path().join(side.name.to_string_lossy().as_ref());
            let top = side.base.as_os_str().as_bytes();
            let shown = |path: &[u8]| shown(&[top, b"/", path].concat());
            uncover(&side.dir, &layers, wanted(Some(&layers)), &shown)?;
        }
    }
    for bed in beds.iter().filter(|bed| !bed.seeds.is_empty()) {
        match &bed.side {
            // An earlier run may have left a top that even its owner cannot write to.
            None if tree.is_older() => {
                dirfd::unlock(tree, c"upper").map_err(|e| error::Error::call("chmod", &tree.upper(), e))?;
                plant_in(tree, tree.path(), &bed.seeds)?;
            }
            None => plant_in(tree, tree.path(), &bed.seeds)?,
            Some(path) => {
                let side = openat2::resolved(path.as_os_str().as_bytes())?;
                plant_in(&side, path, &bed.seeds)?;
            }
        }
    }
    Ok(())
}

/// Take out what was hidden from an earlier run and is `shown` to this one, as far as it is still ours.
fn uncover(
    tree: impl AsFd + Copy,
    path: &Path,
    wanted: &[Seed],
    shown: &dyn Fn(&[u8]) -> bool,
) -> error::Result<()> {
    let failed = |e| error::Error::call("uncover", path, e);
    let Some(mut record) = Planted::read(tree).map_err(failed)? else { return Ok(()) };
    let upper = dirfd::open_upper(tree).map_err(failed)?;
    let is_out = |path: &Vec<u8>, what: &What| {
        !matches!(what, What::Way(_)) && !wanted.iter().any(|seed| seed.path == *path) && shown(path)
    };
    let out: Vec<(Vec<u8>, What)> =
        record.0.iter().filter(|(p, w)| is_out(p, w)).map(|(p, w)| (p.clone(), *w)).collect();
    for (below, what) in &out {
        // In a directory that is gone, or another thing by now, nothing is ours.
        let Ok((parent, name)) = place(&upper, below) else { continue };
        let Ok(meta) = at::stat(&parent, name.to_bytes()) else { continue };
        if is(*what, &meta, &parent, name.to_bytes()).map_err(failed)? {
            dirfd::unlink(&parent, &name, UnlinkatFlags::NoRemoveDir).map_err(failed)?;
            record.0.remove(below);
        }
    }
    // After it is out: until then it is no change of the jail's.
    if out.is_empty() {
        return Ok(());
    }
    atomic::write(tree, FILE, &record.encode(), Durability::Cache).map_err(failed)
}

/// Take out of the upper layer of `tree` what is still ours, so that what is left in it is the jail's. The
/// record keeps what the jail made in these places.
pub(super) fn lift(tree: &Tree) -> error::Result<()> {
    uncover(tree, tree.path(), &[], &|_| true)
}

/// The same for a copy of the upper layer of `tree`, which is the directory `upper` in `copy`: what the record of
/// a tree over it has to say. The record of `tree` itself stays as it is.
pub(super) fn lift_copy(tree: &Tree, copy: &File, path: &Path) -> error::Result<Option<Vec<u8>>> {
    let failed = |e| error::Error::call("uncover", path, e);
    let Some(record) = atomic::read(tree, FILE, LIMIT).map_err(failed)? else { return Ok(None) };
    atomic::write(copy, FILE, &record, Durability::Cache).map_err(failed)?;
    uncover(copy, path, &[], &|_| true)?;
    let lifted = atomic::read(copy, FILE, LIMIT).map_err(failed)?;
    unlinkat(copy, FILE, UnlinkatFlags::NoRemoveDir).map_err(failed)?;
    Ok(lifted)
}

fn plant_in(tree: impl AsFd + Copy, path: &Path, seeds: &[Seed]) -> error::Result<()> {
    let failed = |call, path: &[u8], errno| {
        error::Error::Sys(crate::sys::Error::new(call, format!("upper/{}", printable(path)), errno))
    };
    let upper = dirfd::open_upper(tree).map_err(|e| failed("open", b"", e))?;
    let unwritten = |e| error::Error::call("write", &path.join(FILE), e);
    let before = Planted::read(tree).map_err(unwritten)?;
    let mut missing: Vec<&Seed> = Vec::with_capacity(seeds.len());
    if before.is_none() && dirfd::is_empty(&upper).map_err(|e| failed("readdir", b"", e))? {
        missing.extend(seeds);
    } else {
        for seed in seeds {
            match openat2::beneath(&upper, &seed.path, For::Naming) {
                Err(e) if e.errno == Errno::ENOENT => missing.push(seed),
                // Below something of the jail's nothing of the base is seen.
                Err(e) if matches!(e.errno, Errno::ENOTDIR | Errno::ELOOP) => {}
                Ok(_) => {}
                Err(e) => return Err(failed("open", &seed.path, e.errno)),
            }
        }
    }
    let mut record = before.unwrap_or_default();
    record.0.extend(Planted::of(&missing).0);
    atomic::write(tree, FILE, &record.encode(), Durability::Cache).map_err(unwritten)?;
    for seed in &missing {
        let (parent, name) = place(&upper, &seed.path).map_err(|e| failed("open", &seed.path, e))?;
        let made = sow(&parent, &name, seed);
        made.map_err(|(call, e)| failed(call, &seed.path, e))?;
    }
    // Last, when nothing more is made in them.
    for seed in missing.iter().rev() {
        if let Sown::Way { mode, mtime } = &seed.what {
            let (parent, name) = place(&upper, &seed.path).map_err(|e| failed("open", &seed.path, e))?;
            let dir = dirfd::open_dir(&parent, &name).map_err(|e| failed("open", &seed.path, e))?;
            // It may be one that even its owner cannot write to.
            fchmod(&dir, Mode::from_bits_truncate(*mode)).map_err(|e| failed("chmod", &seed.path, e))?;
            date(&parent, &name, *mtime).map_err(|e| failed("utimensat", &seed.path, e))?;
        }
    }
    Ok(())
}

fn sow(parent: &OwnedFd, name: &CString, seed: &Seed) -> Result<(), (&'static str, Errno)> {
    let name = name.as_c_str();
    let own = |call: &'static str| {
        let Some((uid, gid)) = seed.owner else { return Ok(()) };
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        fchownat(parent, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(|e| (call, e))
    };
    match &seed.what {
        Sown::Whiteout => {
            whiteout::make(parent.as_fd(), name.to_bytes()).map_err(|e| (e.call, e.errno))?;
            own("chown")
        }
        Sown::Way { .. } => {
            mkdirat(parent, name, Mode::S_IRWXU).map_err(|e| ("mkdir", e))?;
            own("chown")
        }
        Sown::File { mode, mtime, content } => {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            let file = openat(parent, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|e| ("open", e))?;
            let mut file = File::from(file);
            file.write_all(content).map_err(|e| ("write", errno(&e)))?;
            own("chown")?;
            fchmod(&file, Mode::from_bits_truncate(*mode)).map_err(|e| ("chmod", e))?;
            date(parent, &name.to_owned(), *mtime).map_err(|e| ("utimensat", e))
        }
    }
}

fn date(parent: &OwnedFd, name: &CString, mtime: Stamp) -> Result<(), Errno> {
    let mtime = TimeSpec::new(mtime.sec, mtime.nsec.into());
    utimensat(parent, name.as_c_str(), &mtime, &mtime, UtimensatFlags::NoFollowSymlink)
}

/// The directory below `upper` that `path` is in, and the name there.
fn place(upper: &OwnedFd, path: &[u8]) -> Result<(OwnedFd, CString), Errno> {
    let slash = path.iter().rposition(|b| *b == b'/');
    let (parent, name) = match slash {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (&b"."[..], path),
    };
    let parent = openat2::beneath(upper, parent, For::Passing).map_err(|e| e.errno)?;
    Ok((parent, CString::new(name).map_err(|_| Errno::EINVAL)?))
}

/// Take what was put into the upper layer in `tree` out again, as long as it is all that is there.
/// `false`: it is not. With the record, so that the tree is as if nothing had been hidden in it.
pub(super) fn uproot(tree: impl AsFd) -> Result<bool, Errno> {
    let Some(planted) = Planted::read(&tree)? else { return Ok(true) };
    let upper = dirfd::open_upper(&tree)?;
    if !planted.is_all_in(&upper)? {
        return Ok(false);
    }
    for (path, what) in planted.0.iter().rev() {
        let (parent, name) = place(&upper, path)?;
        let flag = match what {
            What::Way(_) => UnlinkatFlags::RemoveDir,
            What::Whiteout | What::File(..) => UnlinkatFlags::NoRemoveDir,
        };
        dirfd::unlink(&parent, &name, flag)?;
    }
    unlinkat(tree, FILE, UnlinkatFlags::NoRemoveDir)?;
    Ok(true)
}

/// Whether there is nothing in the upper layer of `tree`, or of an overlay beside one, but what was put
/// there.
pub(super) fn is_untouched(tree: impl AsFd + Copy) -> Result<bool, Errno> {
    let upper = dirfd::open_upper(tree)?;
    if dirfd::is_empty(&upper)? {
        return Ok(true);
    }
    match Planted::read(tree)? {
        Some(planted) => planted.is_all_in(&upper),
        None => Ok(false),
    }
}

impl Planted {
    fn of(seeds: &[&Seed]) -> Planted {
        let what = |seed: &Seed| match &seed.what {
            Sown::Whiteout => What::Whiteout,
            Sown::Way { mode, .. } => What::Way(*mode & 0o777),
            Sown::File { mode, content, .. } => What::File(*mode, *blake3::hash(content).as_bytes()),
        };
        Planted(seeds.iter().map(|seed| (seed.path.clone(), what(seed))).collect())
    }

    /// What was put at `path`.
    pub fn at(&self, path: &[u8]) -> Option<What> {
        self.0.get(path).copied()
    }

    /// Whether something below the directory `path` was hidden.
    pub fn hides_below(&self, path: &[u8]) -> bool {
        let mut first = path.to_vec();
        first.push(b'/');
        let mut below = self.0.range(first.clone()..).take_while(|(p, _)| p.starts_with(&first));
        below.any(|(_, what)| !matches!(what, What::Way(_)))
    }

    /// For tests of what reads these: whiteouts at `paths`.
    #[cfg(test)]
    pub fn whiteouts(paths: &[&[u8]]) -> Planted {
        Planted(paths.iter().map(|p| (p.to_vec(), What::Whiteout)).collect())
    }

    /// What was put into the tree whose open directory is `tree`; `None`: nothing. `EBADMSG`: that can
    /// no longer be told.
    pub fn read(tree: impl AsFd) -> Result<Option<Planted>, Errno> {
        match atomic::read(tree, FILE, LIMIT + 1)? {
            None => Ok(None),
            Some(bytes) => Planted::decode(&bytes).map(Some).ok_or(Errno::EBADMSG),
        }
    }

    /// Whether an open upper layer holds exactly these.
    fn is_all_in(&self, upper: &OwnedFd) -> Result<bool, Errno> {
        let mut found = 0;
        let dirs = self.0.iter().filter(|(_, what)| matches!(what, What::Way(_))).map(|(path, _)| path);
        for dir in std::iter::once(&Vec::new()).chain(dirs) {
            let open = if dir.is_empty() { &b"."[..] } else { dir.as_slice() };
            let opened = match openat2::beneath(upper, open, For::Listing) {
                Err(e)
                    if matches!(e.errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES) =>
                {
                    return Ok(false);
                }
                other => other.map_err(|e| e.errno)?,
            };
            // Made anew by the jail, and nothing of the base's in it.
            if xattr::get(&opened, whiteout::OPAQUE).map_err(|e| e.errno)?.is_some() {
                return Ok(false);
            }
            for name in dirfd::names(&opened)? {
                let mut path = dir.clone();
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(name.to_bytes());
                let Some(what) = self.at(&path) else { return Ok(false) };
                let meta = at::stat(&opened, name.to_bytes()).map_err(|e| e.errno)?;
                if !is(what, &meta, &opened, name.to_bytes())? {
                    return Ok(false);
                }
                found += 1;
            }
        }
        Ok(found == self.0.len())
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = HEAD.to_vec();
        for (path, what) in &self.0 {
            let word = match what {
                What::Whiteout => "w".to_owned(),
                What::Way(mode) => format!("d{mode:o}"),
                What::File(mode, hash) => format!("f{mode:o} {}", blake3::Hash::from_bytes(*hash).to_hex()),
            };
            out.extend_from_slice(word.as_bytes());
            out.push(b'/');
            out.extend_from_slice(path);
            out.push(0);
        }
        // Without it the file was cut short.
        out.extend_from_slice(b"all\0");
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Planted> {
        let mut entries = bytes.strip_prefix(HEAD)?.strip_suffix(b"\0")?.split(|b| *b == 0);
        if entries.next_back()? != b"all" {
            return None;
        }
        let mut planted = BTreeMap::new();
        for entry in entries {
            let slash = entry.iter().position(|b| *b == b'/')?;
            let word = std::str::from_utf8(entry.get(..slash)?).ok()?;
            let mode = |text: &str| u32::from_str_radix(text, 8).ok();
            let what = match word.split_at_checked(1)? {
                ("w", "") => What::Whiteout,
                ("d", bits) => What::Way(mode(bits)?),
                ("f", rest) => {
                    let (bits, hash) = rest.split_once(' ')?;
                    What::File(mode(bits)?, *blake3::Hash::from_hex(hash).ok()?.as_bytes())
                }
                _ => return None,
            };
            planted.insert(entry.get(slash + 1..)?.to_vec(), what);
        }
        Some(Planted(planted))
    }
}

/// Whether the entry is what was put there.
fn is(what: What, meta: &Meta, dir: &OwnedFd, name: &[u8]) -> Result<bool, Errno> {
    Ok(match what {
        What::Whiteout => whiteout::is(dir, name, meta).map_err(|e| e.errno)?,
        What::Way(mode) => meta.kind == FileKind::Dir && meta.mode & 0o777 == mode,
        What::File(mode, hash) => {
            let same = meta.kind == FileKind::File && meta.mode & 0o777 == mode;
            same && match openat2::beneath(dir, name, For::Reading) {
                Ok(file) => is_content(file, meta.size, &hash)?,
                Err(_) => false,
            }
        }
    })
}

/// Whether the open regular file `file` of `size` bytes has content of this hash. Ours are small.
pub fn is_content(file: OwnedFd, size: u64, hash: &[u8; 32]) -> Result<bool, Errno> {
    const MOST: u64 = 2 << 20;
    if size > MOST {
        return Ok(false);
    }
    let mut bytes = Vec::new();
    File::from(file).take(MOST).read_to_end(&mut bytes).map_err(|e| errno(&e))?;
    Ok(blake3::hash(&bytes).as_bytes() == hash)
}

#[cfg(test)]
#[path = "planted_tests.rs"]
mod tests;
