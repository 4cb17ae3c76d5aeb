//! From the host into a tree.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::write::{DIR_MODE, FILE_MODE, find_to_make};
use super::super::{Error, Result, Target, why};
use super::out::is_directory;
use super::{Options, Sum, special};
use crate::base::text;
use crate::monitor::Monitor;
use crate::schema::files::Copied;
use crate::sys::at::{self, FileKind, Stamp};
use crate::workspace::view::edit::Staging;
use crate::workspace::view::{self, Dir, Editor, Stack, Step, Walk, join};

/// Directories whose times are set at the end, at most: they change while things are made in them.
const DATED: usize = 100_000;

fn host(what: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Host { what, name: text::os(path), source }
}

/// One who puts things into a tree.
pub(super) struct Sink<'a> {
    editor: Editor<'a>,
    options: &'a Options,
    pub(super) sum: Sum,
    /// Where everything goes, below the top of the place.
    top: Vec<u8>,
    /// What else is seen in the place, below its top: nothing goes there by way of this.
    mounted: Vec<Vec<u8>>,
    /// The directory written to last.
    last: Option<(Vec<u8>, Dir)>,
    /// Directories that were made: path, bits, time.
    made: Vec<(Vec<u8>, u32, Option<Stamp>)>,
}

impl<'a> Sink<'a> {
    pub(super) fn new(
        editor: Editor<'a>,
        options: &'a Options,
        (target, direction): (&Target, &'static str),
        (place, top): (usize, Vec<u8>),
    ) -> Sink<'a> {
        let (sum, mounted) = (Sum::new(target, direction), target.view.seen_in(place));
        Sink { editor, options, sum, top, mounted, last: None, made: Vec::new() }
    }

    /// Whether something else is seen at a path below the top of the place, or at one above it.
    fn is_covered(&self, whole: &[u8]) -> bool {
        let below = |at: &Vec<u8>| {
            whole.strip_prefix(at.as_slice()).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
        };
        self.mounted.iter().any(below)
    }

    /// The directory that `path` is in, ready to be written to, and the name there. No component of it may
    /// be a link.
    fn place(&mut self, path: &[u8]) -> view::Result<(Dir, Vec<u8>)> {
        let whole = if path.is_empty() { self.top.clone() } else { join(&self.top, path) };
        if self.is_covered(&whole) {
            let crossed = crate::sys::Error::new("open", "", nix::errno::Errno::EXDEV);
            return Err(view::Error::sys("write", path)(crossed));
        }
        let (dir, name) = view::split(&whole);
        let ready = match self.last.take() {
            Some((known, ready)) if known == dir => ready,
            _ => self.editor.prepare(dir, Some(DIR_MODE))?,
        };
        Ok((ready, name.to_vec()))
    }

    /// `path` as an error says it: of what is copied as a whole, where it goes.
    fn said(&self, path: &[u8]) -> Vec<u8> {
        if path.is_empty() { self.top.clone() } else { path.to_vec() }
    }

    fn done(&mut self, path: &[u8], dir: Dir) {
        let whole = if path.is_empty() { self.top.clone() } else { join(&self.top, path) };
        self.last = Some((view::split(&whole).0.to_vec(), dir));
    }

    /// Make a directory, unless there is one.
    pub(super) fn directory(&mut self, path: &[u8], mode: u32, mtime: Option<Stamp>) -> view::Result<()> {
        let whole = if path.is_empty() { self.top.clone() } else { join(&self.top, path) };
        if whole.is_empty() {
            return Ok(());
        }
        let (dir, name) = self.place(path)?;
        let look = |e| view::Error::sys("look up", path)(e);
        match dir.find(&name).map_err(look)? {
            Some(old) if old.meta.kind == FileKind::Dir => {}
            Some(_) => return Err(view::Error::NotDir(path.to_vec())),
            None => {
                // Things are going to be made in it; its own bits come last.
                self.editor.directory(&dir, &name, mode | 0o700, path)?;
                self.sum.0.directories += 1;
                if self.made.len() < DATED {
                    self.made.push((whole, mode, mtime));
                }
            }
        }
        self.done(path, dir);
        Ok(())
    }

    /// Write a file. `false`: something is there, and is to stay.
    pub(super) fn file(
        &mut self,
        path: &[u8],
        fill: &mut dyn FnMut(&OwnedFd) -> crate::sys::Result<u64>,
        (mode, mtime): (u32, Option<Stamp>),
    ) -> view::Result<bool> {
        let (dir, name) = self.place(path)?;
        if !self.may_take(&dir, &name, path)? {
            return Ok(false);
        }
        let staged = self.editor.stage(&dir)?;
        let said = self.said(path);
        let bytes = fill(&staged.fd).map_err(view::Error::sys("write", &said))?;
        let mode = self.options.mode.unwrap_or(mode);
        self.editor.file((&dir, &name), &staged, (mode, mtime), None, &said)?;
        self.sum.0.files += 1;
        self.sum.0.bytes += bytes;
        self.done(path, dir);
        Ok(true)
    }

    /// Whether something that is no directory may take this name.
    fn may_take(&self, dir: &Dir, name: &[u8], path: &[u8]) -> view::Result<bool> {
        let old = dir.find(name).map_err(view::Error::sys("look up", path))?;
        match old {
            Some(old) if old.meta.kind == FileKind::Dir => {
                let path = if path.is_empty() { &self.top } else { path };
                Err(view::Error::Is { path: path.to_vec(), is: "a directory" })
            }
            Some(_) => Ok(!self.options.no_clobber),
            None => Ok(true),
        }
    }

    /// Make a link, as it is.
    pub(super) fn link(&mut self, path: &[u8], target: &[u8], mtime: Option<Stamp>) -> view::Result<bool> {
        let (dir, name) = self.place(path)?;
        if !self.may_take(&dir, &name, path)? {
            return Ok(false);
        }
        self.editor.link((&dir, &name), target, mtime, path)?;
        self.sum.link(path, target);
        self.done(path, dir);
        Ok(true)
    }

    /// Open a file that is there: what a hard link of a tar stream names.
    pub(super) fn there(&mut self, path: &[u8]) -> view::Result<(OwnedFd, u32)> {
        let (dir, name) = self.place(path)?;
        let entry = dir.find(&name).map_err(view::Error::sys("look up", path))?;
        let entry = entry.ok_or_else(|| view::Error::Missing(path.to_vec()))?;
        let opened = dir.open(&name).map_err(view::Error::sys("read", path))?;
        self.done(path, dir);
        Ok((opened, entry.meta.mode))
    }

    /// Bits and times of the directories that were made, the innermost first.
    pub(super) fn finish(mut self) -> Result<Copied> {
        for (path, mode, mtime) in std::mem::take(&mut self.made).into_iter().rev() {
            let Ok(dir) = self.editor.prepare(&path, None) else { continue };
            dir.set(mode, mtime).ok();
        }
        Ok(self.sum.0)
    }
}

/// Something of the host's that is to be copied.
#[derive(Debug, Serialize, Deserialize)]
pub struct Source {
    /// It is a directory.
    pub(in crate::ops::files) directory: bool,
    /// What it is called in a directory that it is copied to; `None`: what is in it is meant.
    name: Option<Vec<u8>>,
    /// Its permission bits, and when it changed, in seconds and nanoseconds.
    mode: u32,
    mtime: Option<(i64, u32)>,
    /// A file with holes: how long it is. Its map is sent before its content.
    #[serde(default)]
    pub(in crate::ops::files) sparse: Option<u64>,
}

impl Source {
    fn mtime(&self) -> Option<Stamp> {
        self.mtime.map(|(sec, nsec)| Stamp { sec, nsec })
    }

    /// Where it goes, below the top of the place that `spot` is in.
    fn place(&self, spot: &view::Spot, to: &OsStr) -> Result<Vec<u8>> {
        match &self.name {
            Some(name) if is_directory(spot) && name.is_empty() => {
                Err(Error::Asked("`/` has no name to copy it to".to_owned()))
            }
            Some(name) if is_directory(spot) => Ok(join(&spot.path, name)),
            _ if !is_directory(spot) && to.as_bytes().ends_with(b"/") && !self.directory => {
                Err(view::Error::NotDir(to.as_bytes().to_vec()).into())
            }
            Some(_) | None => Ok(spot.path.clone()),
        }
    }
}

/// Open what is to be copied.
pub(in crate::ops::files) fn look(from: &Path) -> Result<(fs::File, fs::Metadata, Source)> {
    let opened = fs::File::open(from).map_err(|e| host("read", from, e))?;
    let meta = opened.metadata().map_err(|e| host("read", from, e))?;
    // As for `cp`, `DIR/.` is what is in it.
    let contents = meta.is_dir() && matches!(from.as_os_str().as_bytes(), b"." | b"..")
        || from.as_os_str().as_bytes().ends_with(b"/.");
    let real = if from.file_name().is_some() || contents { from.to_owned() } else { real(from)? };
    let name = real.file_name().map(|name| name.as_bytes().to_vec()).unwrap_or_default();
    let bits = std::os::unix::fs::MetadataExt::mode(&meta) & 0o777;
    let known = meta.is_dir() || meta.is_file();
    let source = Source {
        directory: meta.is_dir(),
        name: (!contents).then_some(name),
        mode: if known { bits } else { FILE_MODE },
        mtime: known.then(|| stamp(&meta)).map(|at| (at.sec, at.nsec)),
        sparse: None,
    };
    Ok((opened, meta, source))
}

pub(in crate::ops::files) fn needs_recursive(from: &Path) -> Error {
    Error::Asked(format!("`{}` is a directory: `-r` copies it", text::os(from)))
}

/// Copy what is sent along of the host's: the bytes of a file, or a tar stream of what is in a directory.
pub(in crate::ops::files) fn copy_sent(
    (target, staging): (&Target, &Staging),
    (source, data): (&Source, &mut dyn Read),
    to: &OsStr,
    options: &Options,
) -> Result<Copied> {
    let spot = find_to_make(target, to)?;
    let top = source.place(&spot, to)?;
    let editor = target.editor(spot.place, staging)?;
    let mut sink = Sink::new(editor, options, (target, "in"), (spot.place, top));
    if !source.directory {
        let mut fill = |fd: &OwnedFd| match source.sparse {
            Some(size) => super::sparse::fill(data, (size, None), fd),
            None => pour(data, fd, u64::MAX),
        };
        if !sink.file(b"", &mut fill, (source.mode, source.mtime()))? {
            sink.sum.skip(to.as_bytes(), "exists");
        }
        return sink.finish();
    }
    sink.directory(b"", source.mode, source.mtime())?;
    super::stream::members(&mut sink, data, options, &crate::monitor::Silent)?;
    sink.finish()
}

/// Copy the host's `from` to `to` in the tree, into it if that is a directory.
pub fn copy_in(
    (target, staging): (&Target, &Staging),
    (from, to): (&Path, &OsStr),
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Copied> {
    let (opened, meta, source) = look(from)?;
    let spot = find_to_make(target, to)?;
    let top = source.place(&spot, to)?;
    monitor.phase("copying", 0);
    let editor = target.editor(spot.place, staging)?;
    let mut sink = Sink::new(editor, options, (target, "in"), (spot.place, top));
    if !source.directory {
        let mut fill = |to: &OwnedFd| fill(&opened, meta.is_file(), to);
        if !sink.file(b"", &mut fill, (source.mode, source.mtime()))? {
            sink.sum.skip(to.as_bytes(), "exists");
        }
        return sink.finish();
    }
    if !options.recursive {
        return Err(needs_recursive(from));
    }
    sink.directory(b"", source.mode, source.mtime())?;
    let stack = Stack::plain(opened.into());
    let read = |e: crate::sys::Error| host("read", from, io::Error::from(e.errno));
    let mut walk = stack.root().and_then(|root| Walk::new(&stack, &root)).map_err(read)?;
    let own = target.directory()?;
    while let Some(step) = walk.step().map_err(read)? {
        match step {
            Step::Left => {}
            Step::Unreadable(e) => sink.sum.fail(walk.path(), why(&e)),
            Step::Entry(entry) => {
                monitor.step(1);
                if !options.excludes(walk.path(), entry.meta.kind == FileKind::Dir) {
                    one(&mut sink, &mut walk, &entry.meta);
                    // What is copied may hold the state directory: that would never end.
                    if own.as_ref().is_some_and(|own| walk.is_in(own)) {
                        walk.turn_back().map_err(read)?;
                        sink.sum.skip(walk.path(), "is where the copy goes");
                    }
                }
            }
        }
    }
    sink.finish()
}

fn real(path: &Path) -> Result<std::path::PathBuf> {
    fs::canonicalize(path).map_err(|e| host("find", path, e))
}

fn stamp(meta: &fs::Metadata) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    Stamp { sec: meta.mtime(), nsec: u32::try_from(meta.mtime_nsec()).unwrap_or(0) }
}

/// Copy the entry that the walk told last, and go into it if it is a directory.
fn one(sink: &mut Sink<'_>, walk: &mut Walk<'_>, meta: &at::Meta) {
    let path = walk.path().to_vec();
    let time = Some(meta.mtime);
    let done = match meta.kind {
        FileKind::Dir => match sink.directory(&path, meta.mode & 0o777, time) {
            Ok(()) => walk.enter().map(|()| true).map_err(view::Error::sys("read", &path)),
            Err(e) => Err(e),
        },
        FileKind::File => match walk.open() {
            Ok(from) => {
                let from = fs::File::from(from);
                sink.file(&path, &mut |to| fill(&from, true, to), (meta.mode & 0o777, time))
            }
            Err(e) => Err(view::Error::sys("read", &path)(e)),
        },
        FileKind::Symlink => match walk.here().and_then(|here| here.link(walk.name())) {
            Ok(target) => sink.link(&path, &target, time),
            Err(e) => Err(view::Error::sys("read", &path)(e)),
        },
        FileKind::Fifo | FileKind::Socket | FileKind::Char(..) | FileKind::Block | FileKind::Other => {
            sink.sum.skip(&path, special(meta));
            return;
        }
    };
    match done {
        Ok(true) => {}
        Ok(false) => sink.sum.skip(&path, "exists"),
        Err(e) => sink.sum.fail(&path, reason(&e)),
    }
}

/// Why an entry failed, in a line about it.
pub(super) fn reason(e: &view::Error) -> String {
    match e {
        view::Error::Sys { source, .. } => why(source),
        e => e.to_string(),
    }
}

/// Copy what is in an open file; of a pipe or a device, what it gives.
fn fill(from: &fs::File, regular: bool, to: &OwnedFd) -> crate::sys::Result<u64> {
    if regular {
        let size = at::fstat(from)?.size;
        crate::sys::copy::file(from, to, size)?;
        return Ok(size);
    }
    pour(&mut &*from, to, u64::MAX)
}

/// Copy at most `most` bytes of a stream.
pub(super) fn pour(from: &mut dyn Read, to: &OwnedFd, most: u64) -> crate::sys::Result<u64> {
    let failed = |e: &io::Error| crate::sys::Error::new("write", "", crate::sys::errno(e));
    let mut out = to.try_clone().map(fs::File::from).map_err(|e| failed(&e))?;
    let copied = io::copy(&mut from.take(most), &mut out).map_err(|e| failed(&e))?;
    out.flush().map_err(|e| failed(&e))?;
    Ok(copied)
}

/// Copy one stream to the file at `to`.
pub fn copy_stream_in(
    (target, staging): (&Target, &Staging),
    from: &mut dyn Read,
    to: &OsStr,
    options: &Options,
) -> Result<Copied> {
    let spot = find_to_make(target, to)?;
    if is_directory(&spot) {
        return Err(view::Error::Is { path: to.as_bytes().to_vec(), is: "a directory" }.into());
    }
    let editor = target.editor(spot.place, staging)?;
    let mut sink = Sink::new(editor, options, (target, "in"), (spot.place, spot.path));
    if !sink.file(b"", &mut |fd| pour(from, fd, u64::MAX), (FILE_MODE, None))? {
        sink.sum.skip(to.as_bytes(), "exists");
    }
    sink.finish()
}
