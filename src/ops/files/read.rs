//! Looking: list, stat, cat, test.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;

use super::{Error, Result, Target, directory, failed, format, name, why};
use crate::schema::files::{Content, Failed, File, Listing, Stat};
use crate::schema::jail::bytes64;
use crate::sys::at::FileKind;
use crate::workspace::view::resolve::Last;
use crate::workspace::view::{self, At, Dir, Entry, Spot, Step, Walk, join};

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct List {
    /// Names that begin with a dot, too.
    pub all: bool,
    /// What is in directories, too.
    pub recursive: bool,
    /// At most so many.
    pub limit: Option<u64>,
    /// Only what comes after this name.
    pub after: Option<Vec<u8>>,
}

/// One step of a listing.
#[derive(Debug)]
pub enum Told {
    /// An entry, by its path below what was listed.
    Entry(Box<File>),
    /// One that could not be read.
    Failed(Failed),
}

/// List the directory at `path`, or what else is there, entry by entry in the order of their bytes, a
/// directory before what is in it. `tell` says whether to go on. Returns whether it came to an end, and
/// the path last told otherwise.
pub fn list(
    target: &Target,
    path: &OsStr,
    options: &List,
    tell: &mut dyn FnMut(Told) -> bool,
) -> Result<Option<Vec<u8>>> {
    let spot = target.find(path, Last::Follow)?;
    let place = spot.place;
    if let At::In { parent, entry: Some(entry) } = &spot.at
        && entry.meta.kind != FileKind::Dir
    {
        let name = view::split(&spot.path).1.to_vec();
        tell(one(target, place, (parent, &name), &target.view.shown(&spot), entry));
        return Ok(None);
    }
    let (dir, _) = directory(target, &spot, path)?;
    let read = |e| view::Error::sys("read", path.as_bytes())(e);
    let mut walk = Walk::over(&target.view, &spot, &dir).map_err(read)?;
    let place = |walk: &Walk<'_>| walk.place().unwrap_or(place);
    let mut told = 0;
    let mut last = Vec::new();
    while let Some(step) = walk.step().map_err(read)? {
        let hidden = !options.all && walk.name().first() == Some(&b'.');
        if hidden || options.after.as_deref().is_some_and(|after| walk.path() <= after) {
            continue;
        }
        if !matches!(step, Step::Left) && options.limit.is_some_and(|limit| told >= limit) {
            return Ok(Some(last));
        }
        let go_on = match step {
            Step::Left => continue,
            Step::Unreadable(e) => tell(Told::Failed(failed(walk.path(), why(&e)))),
            Step::Entry(entry) => {
                let said = match walk.here() {
                    Ok(here) if entry.meta.kind == FileKind::Symlink => {
                        one(target, place(&walk), (&here, walk.name()), walk.path(), &entry)
                    }
                    _ => Told::Entry(Box::new(target.file(place(&walk), walk.path(), &entry, None))),
                };
                let mut go_on = tell(said);
                if options.recursive
                    && entry.meta.kind == FileKind::Dir
                    && let Err(e) = walk.enter()
                {
                    go_on &= tell(Told::Failed(failed(walk.path(), why(&e))));
                }
                go_on
            }
        };
        told += 1;
        last = walk.path().to_vec();
        if !go_on {
            return Ok(Some(last));
        }
    }
    Ok(None)
}

fn one(target: &Target, place: usize, at: (&Dir, &[u8]), path: &[u8], entry: &Entry) -> Told {
    let link = (entry.meta.kind == FileKind::Symlink).then(|| at.0.link(at.1).ok()).flatten();
    Told::Entry(Box::new(target.file(place, path, entry, link.as_deref())))
}

/// The whole listing.
pub fn listing(target: &Target, path: &OsStr, options: &List) -> Result<Listing> {
    let (mut entries, mut failed) = (Vec::new(), Vec::new());
    let rest = list(target, path, options, &mut |told| {
        match told {
            Told::Entry(file) => entries.push(*file),
            Told::Failed(f) => failed.push(f),
        }
        true
    })?;
    Ok(Listing {
        format_version: format(),
        target: target.name.clone(),
        running: target.running,
        entries,
        failed,
        next_cursor: rest.map(|last| bytes64::encode(&last)),
    })
}

/// What is at `path`. `follow`: at what a link leads to.
pub fn stat(target: &Target, path: &OsStr, follow: bool) -> Result<Stat> {
    let spot = target.find(path, if follow { Last::Follow } else { Last::Keep })?;
    let shown = target.view.shown(&spot);
    let file = match &spot.at {
        At::Top(dir) => {
            let entry = Entry { meta: dir.meta, layer: 0 };
            target.file(spot.place, &shown, &entry, None)
        }
        At::In { entry: None, .. } => return Err(missing(path)),
        At::In { parent, entry: Some(entry) } => {
            let name = view::split(&spot.path).1;
            match one(target, spot.place, (parent, name), &shown, entry) {
                Told::Entry(file) => *file,
                Told::Failed(_) => return Err(missing(path)),
            }
        }
    };
    Ok(Stat { format_version: format(), target: target.name.clone(), running: target.running, file })
}

fn missing(path: &OsStr) -> Error {
    view::Error::Missing(path.as_bytes().to_vec()).into()
}

/// What is asked of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// Something is there.
    Exists,
    /// A regular file, through links.
    File,
    /// A directory, through links.
    Directory,
    /// A symbolic link.
    Link,
}

/// Whether it is so. A link that leads out of the view is there, and leads to nothing.
pub fn test(target: &Target, path: &OsStr, what: Test) -> Result<bool> {
    let last = if what == Test::Link { Last::Keep } else { Last::Follow };
    let spot = match target.find(path, last) {
        Ok(spot) => spot,
        Err(Error::View(
            view::Error::Missing(_)
            | view::Error::NotDir(_)
            | view::Error::LeadsOut { .. }
            | view::Error::Loop(_),
        )) => return Ok(false),
        Err(e) => return Err(e),
    };
    let kind = match &spot.at {
        At::Top(_) => Some(FileKind::Dir),
        At::In { entry, .. } => entry.map(|e| e.meta.kind),
    };
    Ok(match what {
        Test::Exists => kind.is_some(),
        Test::File => kind == Some(FileKind::File),
        Test::Directory => kind == Some(FileKind::Dir),
        Test::Link => kind == Some(FileKind::Symlink),
    })
}

/// A part of a file: from where, and how many bytes at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Range {
    /// First byte; from the end when negative.
    pub start: i64,
    /// How many; all that follow when there is no number.
    pub length: Option<u64>,
}

/// A file that is open at the place asked for, and what is to be read of it.
#[derive(Debug)]
pub struct Opened {
    /// The file, as the jail wrote it.
    pub file: std::io::Take<fs::File>,
    /// Its size when it was opened.
    pub size: u64,
    path: Vec<u8>,
}

/// Open the regular file at `path`, through links within the view.
pub fn open(target: &Target, path: &OsStr, range: Range) -> Result<Opened> {
    let spot = target.find(path, Last::Follow)?;
    let (parent, _) = regular(&spot, path)?;
    let read = |e| view::Error::sys("read", path.as_bytes())(e);
    let fd = parent.open(view::split(&spot.path).1).map_err(read)?;
    let mut file = fs::File::from(fd);
    let failed = |source| Error::Host { what: "read", name: crate::base::text::os(path), source };
    let size = file.metadata().map_err(failed)?.len();
    let start = match u64::try_from(range.start) {
        Ok(start) => start,
        Err(_) => size.saturating_sub(range.start.unsigned_abs()),
    };
    if start > 0 {
        // Beyond the end there is nothing to read.
        file.seek(SeekFrom::Start(start.min(i64::MAX as u64))).map_err(failed)?;
    }
    let length = range.length.unwrap_or(u64::MAX);
    Ok(Opened { file: file.take(length), size, path: target.view.shown(&spot) })
}

/// The directory and entry of a spot that is a regular file.
pub(super) fn regular<'a>(spot: &'a Spot, given: &OsStr) -> Result<(&'a Dir, Entry)> {
    let is = |is| view::Error::Is { path: given.as_bytes().to_vec(), is };
    match &spot.at {
        At::Top(_) => Err(is("a directory").into()),
        At::In { entry: None, .. } => Err(missing(given)),
        At::In { parent, entry: Some(entry) } if entry.meta.kind == FileKind::File => Ok((parent, *entry)),
        At::In { entry: Some(entry), .. } => Err(is(view::noun(&entry.meta)).into()),
    }
}

/// Bytes that one JSON document holds at most.
const DOCUMENT: u64 = 64 << 20;

impl Opened {
    /// The content as a document.
    pub fn content(mut self, target: &Target) -> Result<Content> {
        let shown = || crate::base::text::printable(&self.path);
        let mut bytes = Vec::new();
        (&mut self.file).take(DOCUMENT + 1).read_to_end(&mut bytes).map_err(|source| Error::Host {
            what: "read",
            name: shown(),
            source,
        })?;
        if bytes.len() as u64 > DOCUMENT {
            return Err(Error::Asked(format!(
                "`{}` is longer than a JSON document holds (64 MiB): ask for a part with `--range`, or do \
                 without `--json`",
                shown()
            )));
        }
        let (content, encoding) = match String::from_utf8(bytes) {
            Ok(text) => (text, "utf-8"),
            Err(e) => (bytes64::encode(e.as_bytes()), "base64"),
        };
        let (name, size) = (name(&self.path), self.size);
        Ok(Content { format_version: format(), target: target.name.clone(), name, content, encoding, size })
    }
}

/// `dir/name` for lines about entries below a directory that was shown as `dir`.
pub(super) fn below(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir == b"." { name.to_vec() } else { join(dir, name) }
}
