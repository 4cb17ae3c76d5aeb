//! Changing: write, mkdir, rm, mv.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use serde::{Deserialize, Serialize};

use super::read::regular;
use super::{Error, Result, Target, format, name};
use crate::base::text;
use crate::schema::files::{Changed, Done};
use crate::sys::at::FileKind;
use crate::workspace::view::edit::Staging;
use crate::workspace::view::resolve::Last;
use crate::workspace::view::{self, At, Dir, Entry, Spot};

/// Bits of a new file and of a new directory, where nothing else is asked for.
pub const FILE_MODE: u32 = 0o644;
/// Bits of a new directory.
pub const DIR_MODE: u32 = 0o755;

/// How to write a file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Writing {
    /// Its permission bits; those that it has, or 0644.
    pub mode: Option<u32>,
    /// After what is in it.
    pub append: bool,
    /// Only if its content has this BLAKE3 hash (hexadecimal), or `absent`.
    pub if_hash: Option<String>,
}

fn done(target: &Target, changed: Vec<Changed>) -> Done {
    Done { format_version: format(), target: target.name.clone(), changed }
}

fn change(path: &[u8], change: &'static str) -> Changed {
    Changed { name: name(path), change: change.into(), bytes: None, hash: None }
}

/// The entry of a spot, which is not the top of a place.
pub(super) fn entry(spot: &Spot, given: &OsStr) -> Result<Option<Entry>> {
    match &spot.at {
        At::Top(_) => Err(view::Error::Top(given.as_bytes().to_vec()).into()),
        At::In { entry, .. } => Ok(*entry),
    }
}

/// Write what `from` gives to the file at `path`, which is replaced in one step; directories on the way
/// are made.
pub fn write(
    (target, staging): (&Target, &Staging),
    path: &OsStr,
    from: &mut dyn Read,
    options: &Writing,
) -> Result<Done> {
    let spot = find_to_make(target, path)?;
    target.check_writable(spot.place, staging)?;
    let old = entry(&spot, path)?;
    if let Some(old) = old.filter(|old| old.meta.kind != FileKind::File) {
        let is = view::noun(&old.meta);
        return Err(view::Error::Is { path: path.as_bytes().to_vec(), is }.into());
    }
    let opened = match &old {
        Some(_) => {
            let (parent, _) = regular(&spot, path)?;
            let fd = parent.open(view::split(&spot.path).1);
            Some(fd.map_err(view::Error::sys("read", path.as_bytes()))?)
        }
        None => None,
    };
    if let Some(wanted) = &options.if_hash {
        check_hash(path, opened.as_ref(), wanted)?;
    }
    let editor = target.editor(spot.place, staging)?;
    let (dir, last) = view::split(&spot.path);
    let dir = editor.prepare(dir, Some(DIR_MODE))?;
    let staged = editor.stage(&dir)?;
    let out = staged.fd.try_clone().map(fs::File::from);
    let mut out = out.map_err(|source| Error::Host { what: "write", name: text::os(path), source })?;
    let mut hash = blake3::Hasher::new();
    if options.append
        && let Some(old) = &opened
    {
        let own = old.try_clone().map(fs::File::from);
        let mut own = own.map_err(|source| Error::Host { what: "read", name: text::os(path), source })?;
        pour(&mut own, &mut out, &mut hash, path)?;
    }
    let bytes = pour(from, &mut out, &mut hash, path)?;
    let mode = options.mode.or(old.map(|o| o.meta.mode)).unwrap_or(FILE_MODE);
    editor.file((&dir, last), &staged, (mode, None), opened.as_ref(), path.as_bytes())?;
    let what = if old.is_some() { "written" } else { "created" };
    let changed = Changed {
        bytes: Some(bytes),
        hash: Some(hash.finalize().to_hex().to_string()),
        ..change(&target.view.shown(&spot), what)
    };
    Ok(done(target, vec![changed]))
}

/// As [`Target::find`], where directories on the way may be missing and none of them is a link.
pub(super) fn find_to_make(target: &Target, path: &OsStr) -> Result<Spot> {
    let missing = match target.find(path, Last::Follow) {
        Err(Error::View(view::Error::Missing(_))) => path.as_bytes(),
        found => return found,
    };
    // The longest part of it that is there, and what is missing below.
    let mut cut = missing.len();
    while let Some(slash) = missing.get(..cut).and_then(|p| p.iter().rposition(|b| *b == b'/')) {
        cut = slash;
        let (front, rest) = missing.split_at(slash);
        if rest.split(|b| *b == b'/').any(|c| c == b"..") {
            break;
        }
        let front = if front.is_empty() { &b"/"[..] } else { front };
        let spot = match target.find(OsStr::from_bytes(front), Last::Follow) {
            Err(Error::View(view::Error::Missing(_))) => continue,
            found => found?,
        };
        let rest: Vec<&[u8]> = rest.split(|b| *b == b'/').filter(|c| !matches!(*c, b"" | b".")).collect();
        let is_dir = match &spot.at {
            At::Top(_) => true,
            At::In { entry, .. } => entry.is_none_or(|e| e.meta.kind == FileKind::Dir),
        };
        if !is_dir {
            return Err(view::Error::NotDir(front.to_vec()).into());
        }
        let whole = rest.iter().fold(spot.path.clone(), |dir, name| view::join(&dir, name));
        let parent = match spot.at {
            At::Top(dir) | At::In { parent: dir, .. } => dir,
        };
        return Ok(Spot { place: spot.place, path: whole, at: At::In { parent, entry: None } });
    }
    Err(view::Error::Missing(path.as_bytes().to_vec()).into())
}

fn pour(from: &mut dyn Read, to: &mut fs::File, hash: &mut blake3::Hasher, path: &OsStr) -> Result<u64> {
    let mut block = vec![0; 128 << 10];
    let mut sum = 0;
    loop {
        let n = match from.read(&mut block) {
            Ok(0) => return Ok(sum),
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(source) => {
                return Err(Error::Host { what: "read what is to be in", name: text::os(path), source });
            }
        };
        let bytes = block.get(..n).unwrap_or_default();
        hash.update(bytes);
        to.write_all(bytes).map_err(|e| {
            let source = crate::sys::Error::new("write", "", crate::sys::errno(&e));
            view::Error::sys("write", path.as_bytes())(source)
        })?;
        sum += n as u64;
    }
}

fn check_hash(path: &OsStr, opened: Option<&OwnedFd>, wanted: &str) -> Result<()> {
    let found = match opened {
        None => "absent".to_owned(),
        Some(fd) => {
            let own = fd.try_clone().map(fs::File::from);
            let hash = own.and_then(|mut own| {
                let mut hash = blake3::Hasher::new();
                std::io::copy(&mut own, &mut hash)?;
                // The position is shared with whoever reads it next.
                std::io::Seek::rewind(&mut own)?;
                Ok(hash.finalize())
            });
            let hash = hash.map_err(|source| Error::Host { what: "read", name: text::os(path), source })?;
            hash.to_hex().to_string()
        }
    };
    if found.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    Err(Error::Changed { path: text::os(path), found })
}

/// Make directories. `parents`: those on the way, too, and one that is there is fine.
pub fn make_directories(
    (target, staging): (&Target, &Staging),
    paths: &[OsString],
    (mode, parents): (u32, bool),
) -> Result<Done> {
    let mut changed = Vec::new();
    for path in paths {
        let spot = if parents { find_to_make(target, path)? } else { target.find(path, Last::Follow)? };
        let editor = target.editor(spot.place, staging)?;
        let there = match &spot.at {
            At::Top(_) => Some(FileKind::Dir),
            At::In { entry, .. } => entry.map(|e| e.meta.kind),
        };
        match there {
            Some(FileKind::Dir) if parents => continue,
            Some(_) => return Err(view::Error::Exists(path.as_bytes().to_vec()).into()),
            None => {}
        }
        let (dir, last) = view::split(&spot.path);
        let dir = editor.prepare(dir, parents.then_some(DIR_MODE))?;
        editor.directory(&dir, last, mode, path.as_bytes())?;
        changed.push(change(&target.view.shown(&spot), "created"));
    }
    Ok(done(target, changed))
}

/// Remove what is at `paths`, links themselves. `recursive`: directories with what is in them. `force`:
/// what is not there is fine.
pub fn remove(
    (target, staging): (&Target, &Staging),
    paths: &[OsString],
    (recursive, force): (bool, bool),
) -> Result<Done> {
    let mut changed = Vec::new();
    for path in paths {
        let spot = match target.find(path, Last::Keep) {
            Err(Error::View(view::Error::Missing(_))) if force => continue,
            found => found?,
        };
        let there = match entry(&spot, path)? {
            None if force => continue,
            None => return Err(view::Error::Missing(path.as_bytes().to_vec()).into()),
            Some(there) => there,
        };
        let editor = target.editor(spot.place, staging)?;
        target.check_free(spot.place, &spot.path, Some(there.meta.kind))?;
        let (dir, last) = view::split(&spot.path);
        let dir = editor.prepare(dir, None)?;
        if there.meta.kind == FileKind::Dir && !recursive && !is_empty(target, &spot, &dir, last)? {
            return Err(view::Error::NotEmpty(path.as_bytes().to_vec()).into());
        }
        editor.remove(&dir, last, path.as_bytes())?;
        changed.push(change(&target.view.shown(&spot), "removed"));
    }
    Ok(done(target, changed))
}

fn is_empty(target: &Target, spot: &Spot, dir: &Dir, last: &[u8]) -> Result<bool> {
    let read = |e| view::Error::sys("read", &spot.path)(e);
    let below = dir.enter(target.stack(spot), last).map_err(read)?;
    Ok(below.is_empty().map_err(read)?)
}

/// Move what is at `from` (a link itself) to `to`, into it if that is a directory.
pub fn rename(
    (target, staging): (&Target, &Staging),
    (from, to): (&OsStr, &OsStr),
    no_clobber: bool,
) -> Result<Done> {
    let source = target.find(from, Last::Keep)?;
    let Some(moved) = entry(&source, from)? else {
        return Err(view::Error::Missing(from.as_bytes().to_vec()).into());
    };
    let aim = target.find(to, Last::Follow)?;
    let mut spot_path = aim.path.clone();
    let is_dir = |at: &At| match at {
        At::Top(_) => true,
        At::In { entry, .. } => entry.is_some_and(|e| e.meta.kind == FileKind::Dir),
    };
    let last = view::split(&source.path).1;
    let into = is_dir(&aim.at);
    if into {
        spot_path = view::join(&aim.path, last);
    }
    if aim.place != source.place {
        return Err(Error::Asked(format!(
            "`{}` and `{}` lie in different trees: copy it with `aj cp` and remove it",
            text::os(from),
            text::os(to)
        )));
    }
    if spot_path == source.path {
        return Ok(done(target, Vec::new()));
    }
    if moved.meta.kind == FileKind::Dir && spot_path.starts_with(&view::join(&source.path, b"")) {
        let (from, to) = (from.as_bytes().to_vec(), to.as_bytes().to_vec());
        return Err(view::Error::IntoItself { from, to }.into());
    }
    let editor = target.editor(source.place, staging)?;
    target.check_free(source.place, &source.path, Some(moved.meta.kind))?;
    target.check_free(aim.place, &spot_path, None)?;
    let (dir, new) = view::split(&spot_path);
    let aim_dir = editor.prepare(dir, None)?;
    let read = |e| view::Error::sys("look up", to.as_bytes())(e);
    if let Some(old) = aim_dir.find(new).map_err(read)? {
        let exists = || view::Error::Exists(spot_path.clone());
        let fits = (old.meta.kind == FileKind::Dir) == (moved.meta.kind == FileKind::Dir);
        if no_clobber || !fits {
            return Err(exists().into());
        }
        if old.meta.kind == FileKind::Dir {
            let below = aim_dir.enter(target.stack(&source), new).map_err(read)?;
            if !below.is_empty().map_err(read)? {
                return Err(view::Error::NotEmpty(spot_path.clone()).into());
            }
        }
    }
    let (dir, last) = view::split(&source.path);
    let from_dir = editor.prepare(dir, None)?;
    editor.rename((&from_dir, last, &moved), (&aim_dir, new), from.as_bytes())?;
    let shown = Spot { place: source.place, path: spot_path, at: aim.at };
    Ok(done(target, vec![change(&target.view.shown(&shown), "moved")]))
}
