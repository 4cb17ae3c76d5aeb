//! Tar streams, in both directions.
//!
//! What comes in was made by whoever: names with `..`, absolute names, links and files through them, lengths
//! of 10^18 bytes. Nothing is believed, nothing long is held in memory, and everything is put where the
//! tree's own directories lead, never through a link.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use tar::{EntryType, Header};

use super::super::read::regular;
use super::super::write::find_to_make;
use super::super::{Error, Result, Target, directory, why};
use super::into::{Sink, pour, reason};
use super::out::{is_directory, own_name};
use super::sparse::{self, Map};
use super::{LONGEST_PATH, Options, Sum, sound, special};
use crate::monitor::Monitor;
use crate::schema::files::Copied;
use crate::sys::at::{FileKind, Meta, Stamp};
use crate::workspace::view::edit::Staging;
use crate::workspace::view::resolve::Last;
use crate::workspace::view::{self, Step, Walk, join};

const BLOCK: u64 = 512;
/// Bytes of one name or of one set of attributes in a stream.
const LONGEST: u64 = 1 << 20;
const TOO_LONG: &str = "a file in it is longer than a file can be";
/// Bytes that a file may be longer than what it takes on the disk: a stream has no holes.
const HOLES: u64 = 1 << 30;

fn host(what: &'static str, source: io::Error) -> Error {
    Error::Host { what, name: "-".to_owned(), source }
}

/// Write what is at `from` to a stream: a file as it is, or with `recursive` anything as tar.
pub fn copy_stream_out(
    target: &Target,
    from: &OsStr,
    out: &mut dyn Write,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Copied> {
    let spot = target.find(from, Last::Follow)?;
    let mut sum = Sum::new(target, "out");
    monitor.phase("copying", 0);
    let failed = |e| host("write to", e);
    if !is_directory(&spot) {
        let (parent, entry) = regular(&spot, from)?;
        let name = view::split(&spot.path).1;
        let file = parent.open(name).map_err(view::Error::sys("read", from.as_bytes()))?;
        let mut file = fs::File::from(file);
        let now = crate::sys::at::fstat(&file).map_err(view::Error::sys("read", from.as_bytes()))?;
        if options.recursive {
            let map = map(&file, &now, options).map_err(view::Error::sys("read", from.as_bytes()))?;
            regular_member((name, &entry.meta), (&mut file, now.size, map), options, out).map_err(failed)?;
            end(out).map_err(failed)?;
            sum.0.bytes = now.size;
        } else if sparse::holes(&now) > HOLES {
            return Err(Error::Asked(format!(
                "`{}` has holes of more than 1 GiB, which a stream cannot have: copy it to a file, or with `-r` as tar",
                crate::base::text::os(from)
            )));
        } else {
            sum.0.bytes = io::copy(&mut file, out).map_err(failed)?;
        }
        sum.0.files = 1;
        return Ok(sum.0);
    }
    if !options.recursive {
        return Err(view::Error::Is { path: from.as_bytes().to_vec(), is: "a directory" }.into());
    }
    let prefix = own_name(target, &spot, from).unwrap_or_default();
    let (dir, _) = directory(target, &spot, from)?;
    let mut walk =
        Walk::over(&target.view, &spot, &dir).map_err(view::Error::sys("read", from.as_bytes()))?;
    if !prefix.is_empty() {
        let path = join(&prefix, b"");
        let of = Member {
            path: &path,
            kind: EntryType::Directory,
            link: b"",
            size: 0,
            meta: &dir.meta,
            exact: false,
            sparse: None,
        };
        of.write(options, out).map_err(failed)?;
        sum.0.directories += 1;
    }
    pack(&mut walk, &prefix, (out, options), &mut sum, (monitor, &|_| false))
        .map_err(|e| e.map_or_else(failed, |e| view::Error::sys("read", from.as_bytes())(e).into()))?;
    Ok(sum.0)
}

/// Whether a walk that has just entered a directory turns back there.
pub(in crate::ops::files) type Turns<'a> = dyn Fn(&Walk<'_>) -> bool + 'a;

/// Write all that a walk comes to, and the end of the archive. What `turns` says of is left out, with what is
/// in it. An error is one of the stream, or of the directory.
pub(in crate::ops::files) fn pack(
    walk: &mut Walk<'_>,
    prefix: &[u8],
    (out, options): (&mut dyn Write, &Options),
    sum: &mut Sum,
    (monitor, turns): (&dyn Monitor, &Turns<'_>),
) -> std::result::Result<(), Broken> {
    while let Some(step) = walk.step().map_err(Broken::Directory)? {
        match step {
            Step::Left => {}
            Step::Unreadable(e) => sum.fail(walk.path(), why(&e)),
            Step::Entry(entry) => {
                monitor.step(1);
                if !options.excludes(walk.path(), entry.meta.kind == FileKind::Dir) {
                    one(walk, &entry.meta, prefix, (out, options), sum).map_err(Broken::Stream)?;
                    if turns(walk) {
                        walk.turn_back().map_err(Broken::Directory)?;
                        sum.skip(walk.path(), "is where the copy goes");
                    }
                }
            }
        }
    }
    end(out).map_err(Broken::Stream)
}

/// Why a stream is not whole.
#[derive(Debug)]
pub(in crate::ops::files) enum Broken {
    /// It could not be written.
    Stream(io::Error),
    /// What is in it could not be read.
    Directory(crate::sys::Error),
}

impl Broken {
    fn map_or_else(
        self,
        stream: impl FnOnce(io::Error) -> Error,
        directory: impl FnOnce(crate::sys::Error) -> Error,
    ) -> Error {
        match self {
            Broken::Stream(e) => stream(e),
            Broken::Directory(e) => directory(e),
        }
    }
}

/// Write the entry told last. An error is one of the stream.
fn one(
    walk: &mut Walk<'_>,
    meta: &Meta,
    prefix: &[u8],
    (out, options): (&mut dyn Write, &Options),
    sum: &mut Sum,
) -> io::Result<()> {
    let path = walk.path().to_vec();
    let whole = join(prefix, &path);
    match meta.kind {
        FileKind::Dir => {
            let name = join(&whole, b"");
            let of = Member {
                path: &name,
                kind: EntryType::Directory,
                link: b"",
                size: 0,
                meta,
                exact: options.exact,
                sparse: None,
            };
            match walk.enter() {
                Ok(()) => {
                    sum.0.directories += 1;
                    of.write(options, out)?;
                }
                Err(e) => sum.fail(&path, why(&e)),
            }
        }
        FileKind::File => {
            let opened = walk.open().map(fs::File::from).and_then(|f| Ok((crate::sys::at::fstat(&f)?, f)));
            match opened {
                Ok((now, mut file)) => match map(&file, &now, options) {
                    Ok(map) => {
                        regular_member((&whole, meta), (&mut file, now.size, map), options, out)?;
                        sum.0.files += 1;
                        sum.0.bytes += now.size;
                    }
                    Err(e) => sum.fail(&path, why(&e)),
                },
                Err(e) => sum.fail(&path, why(&e)),
            }
        }
        FileKind::Symlink => match walk.here().and_then(|here| here.link(walk.name())) {
            Ok(link) => {
                Member {
                    path: &whole,
                    kind: EntryType::Symlink,
                    link: &link,
                    size: 0,
                    meta,
                    exact: options.exact,
                    sparse: None,
                }
                .write(options, out)?;
                sum.link(&path, &link);
            }
            Err(e) => sum.fail(&path, why(&e)),
        },
        FileKind::Fifo | FileKind::Socket | FileKind::Char(..) | FileKind::Block | FileKind::Other => {
            sum.skip(&path, special(meta));
        }
    }
    Ok(())
}

/// Where the data of a file lies, if it goes into the stream as one with holes: those that this program reads
/// again all do, and for others only what would be too much without.
fn map(file: &fs::File, now: &Meta, options: &Options) -> crate::sys::Result<Option<Map>> {
    let most = if options.exact { 0 } else { HOLES };
    if sparse::holes(now) > most { Map::of(file, now.size).map(Some) } else { Ok(None) }
}

/// A regular file: its header and what is in it.
fn regular_member(
    (path, meta): (&[u8], &Meta),
    (file, size, map): (&mut fs::File, u64, Option<Map>),
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    let stored = map.as_ref().map_or(size, Map::stored);
    let sparse = map.as_ref().map(|map| map.size);
    let kind = EntryType::Regular;
    Member { path, kind, link: b"", size: stored, meta, exact: options.exact, sparse }.write(options, out)?;
    match map {
        None => content(file, size, out),
        Some(map) => {
            io::copy(&mut map.sending(file), out)?;
            pad(stored, out)
        }
    }
}

/// What one header says.
struct Member<'a> {
    path: &'a [u8],
    kind: EntryType,
    link: &'a [u8],
    size: u64,
    meta: &'a Meta,
    /// With the part of a second of its time, in a header that is ours alone.
    exact: bool,
    /// Of a file with holes, which has its map before its content: its size.
    sparse: Option<u64>,
}

impl Member<'_> {
    /// Write the header, with those of GNU's for what is long.
    fn write(&self, options: &Options, out: &mut dyn Write) -> io::Result<()> {
        let mut records = Vec::new();
        if self.exact {
            records
                .push(("mtime", format!("{}.{:09}", self.meta.mtime.sec, self.meta.mtime.nsec).into_bytes()));
        }
        if let Some(size) = self.sparse {
            records.push(("GNU.sparse.major", b"1".to_vec()));
            records.push(("GNU.sparse.minor", b"0".to_vec()));
            records.push(("GNU.sparse.name", self.path.to_vec()));
            records.push(("GNU.sparse.realsize", size.to_string().into_bytes()));
        }
        for (kind, long) in [(EntryType::GNULongName, self.path), (EntryType::GNULongLink, self.link)] {
            if long.len() > 100 {
                let mut header = Header::new_gnu();
                put(&mut header, 0, b"././@LongLink");
                header.set_entry_type(kind);
                header.set_size(long.len() as u64 + 1);
                header.set_mode(0o644);
                header.set_cksum();
                out.write_all(header.as_bytes())?;
                out.write_all(long)?;
                out.write_all(&[0])?;
                pad(long.len() as u64 + 1, out)?;
            }
        }
        if !records.is_empty() {
            let record: Vec<u8> =
                records.iter().flat_map(|(key, value)| sparse::attribute(key, value)).collect();
            let mut header = Header::new_ustar();
            put(&mut header, 0, b"PaxHeader");
            header.set_entry_type(EntryType::XHeader);
            header.set_size(record.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            out.write_all(header.as_bytes())?;
            out.write_all(&record)?;
            pad(record.len() as u64, out)?;
        }
        // The kind of the header is what GNU tar chooses by in which form a map is.
        let mut header = if self.sparse.is_some() { Header::new_ustar() } else { Header::new_gnu() };
        put(&mut header, 0, self.path);
        put(&mut header, 157, self.link);
        header.set_entry_type(self.kind);
        header.set_size(self.size);
        let mode = if self.kind == EntryType::Regular { options.mode } else { None };
        header.set_mode(mode.unwrap_or(self.meta.mode) & 0o777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(u64::try_from(self.meta.mtime.sec).unwrap_or(0));
        header.set_cksum();
        out.write_all(header.as_bytes())
    }
}

/// The first bytes of a field of 100.
fn put(header: &mut Header, at: usize, bytes: &[u8]) {
    let field = header.as_mut_bytes().get_mut(at..at + 100).unwrap_or_default();
    for (to, from) in field.iter_mut().zip(bytes) {
        *to = *from;
    }
}

/// Exactly `size` bytes: what a file has lost since is zeros.
fn content(file: &mut fs::File, size: u64, out: &mut dyn Write) -> io::Result<()> {
    let copied = io::copy(&mut file.take(size), out)?;
    io::copy(&mut io::repeat(0).take(size - copied), out)?;
    pad(size, out)
}

fn pad(size: u64, out: &mut dyn Write) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(size.next_multiple_of(BLOCK) - size), out).map(drop)
}

/// Two empty blocks.
fn end(out: &mut dyn Write) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(2 * BLOCK), out)?;
    out.flush()
}

/// Put what a tar stream holds into the directory `to`, which is made when it is not there.
pub fn unpack(
    (target, staging): (&Target, &Staging),
    from: &mut dyn Read,
    to: &OsStr,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Copied> {
    let spot = find_to_make(target, to)?;
    monitor.phase("copying", 0);
    let editor = target.editor(spot.place, staging)?;
    let mut sink = Sink::new(editor, options, (target, "in"), (spot.place, spot.path));
    sink.directory(b"", super::super::write::DIR_MODE, None)?;
    members(&mut sink, from, options, monitor)?;
    sink.finish()
}

/// Put every member of a tar stream into the sink.
pub(super) fn members(
    sink: &mut Sink<'_>,
    from: &mut dyn Read,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<()> {
    let mut long = Long::default();
    let read = |e| host("read", e);
    while let Some(header) = next(from).map_err(read)? {
        let size = header.entry_size().map_err(read)?;
        let kind = header.entry_type();
        if let EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader = kind {
            long.read(kind, from, size).map_err(read)?;
            continue;
        }
        monitor.step(1);
        let about = std::mem::take(&mut long);
        let size = about.size.unwrap_or(size);
        // No file is longer, and what is added below has room.
        i64::try_from(size).map_err(|_| read(io::Error::new(io::ErrorKind::InvalidData, TOO_LONG)))?;
        let mut body = from.take(size);
        member(sink, &header, about, (&mut body, size), options)?;
        let rest = body.limit();
        // What nobody wanted of it, and what fills the last block.
        skip(from, rest + (size.next_multiple_of(BLOCK) - size)).map_err(read)?;
    }
    Ok(())
}

/// The next header; `None` at the end of the archive, which is an empty block or that of the stream.
fn next(from: &mut dyn Read) -> io::Result<Option<Header>> {
    let mut block = [0; BLOCK as usize];
    let mut have = 0;
    while have < block.len() {
        match from.read(block.get_mut(have..).unwrap_or_default()) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    if block.iter().all(|b| *b == 0) {
        // What comes after it is nobody's; a writer must not be told that nobody reads.
        io::copy(from, &mut io::sink())?;
        return Ok(None);
    }
    let header = Header::from_byte_slice(&block).clone();
    // The field itself counts as blanks.
    let sum = |i: usize, b: u8| if (148..156).contains(&i) { 32 } else { u32::from(b) };
    let found: u32 = block.iter().enumerate().map(|(i, b)| sum(i, *b)).sum();
    if header.cksum()? != found {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "this is no tar stream"));
    }
    Ok(Some(header))
}

fn skip(from: &mut dyn Read, bytes: u64) -> io::Result<()> {
    let skipped = io::copy(&mut from.take(bytes), &mut io::sink())?;
    if skipped < bytes { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// What headers in front of one say about it.
#[derive(Default)]
struct Long {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    mtime: Option<Stamp>,
    /// Of a file with holes: what it is called, the version of its form, its size.
    name: Option<Vec<u8>>,
    version: (Option<u64>, Option<u64>),
    real: Option<u64>,
    /// It has them in a form that is not read.
    old: bool,
}

impl Long {
    fn read(&mut self, kind: EntryType, from: &mut dyn Read, size: u64) -> io::Result<()> {
        let too_long = || io::Error::new(io::ErrorKind::InvalidData, "a name in it is longer than 1 MiB");
        if size > LONGEST {
            return Err(too_long());
        }
        let mut bytes = Vec::new();
        from.take(size).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        skip(from, size.next_multiple_of(BLOCK) - size)?;
        let text = |bytes: Vec<u8>| bytes.split(|b| *b == 0).next().map(<[u8]>::to_vec);
        match kind {
            EntryType::GNULongName => self.path = text(bytes),
            EntryType::GNULongLink => self.link = text(bytes),
            _ => self.attributes(&bytes),
        }
        Ok(())
    }

    /// `LENGTH KEY=VALUE\n`, again and again. What makes no sense ends it.
    fn attributes(&mut self, mut bytes: &[u8]) {
        while let Some(space) = bytes.iter().position(|b| *b == b' ') {
            let (digits, _) = bytes.split_at(space);
            let length = std::str::from_utf8(digits).ok().and_then(|d| d.parse::<usize>().ok());
            let Some((record, rest)) = length.and_then(|length| bytes.split_at_checked(length)) else {
                return;
            };
            let Some(pair) = record.get(space + 1..).and_then(|r| r.strip_suffix(b"\n")) else { return };
            let Some(equals) = pair.iter().position(|b| *b == b'=') else { return };
            let (key, value) = (&pair[..equals], pair[equals + 1..].to_vec());
            let number = || std::str::from_utf8(&value).ok().map(str::to_owned);
            match key {
                b"size" => self.size = number().and_then(|n| n.parse().ok()),
                b"mtime" => {
                    self.mtime = number().and_then(|n| time(&n));
                }
                b"GNU.sparse.name" => self.name = Some(value),
                b"GNU.sparse.major" => self.version.0 = number().and_then(|n| n.parse().ok()),
                b"GNU.sparse.minor" => self.version.1 = number().and_then(|n| n.parse().ok()),
                b"GNU.sparse.realsize" => self.real = number().and_then(|n| n.parse().ok()),
                b"GNU.sparse.map" | b"GNU.sparse.numblocks" => self.old = true,
                b"path" => self.path = Some(value),
                b"linkpath" => self.link = Some(value),
                _ => {}
            }
            bytes = rest;
        }
    }
}

/// Seconds, with a part of one: less than a nanosecond of it is nothing. Before 1970, the whole ones.
fn time(text: &str) -> Option<Stamp> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let sec: i64 = whole.parse().ok()?;
    let digits: String = part.chars().chain("000000000".chars()).take(9).collect();
    let nsec = if sec < 0 { 0 } else { digits.parse().unwrap_or(0) };
    Some(Stamp { sec, nsec })
}

/// One member. Only what a whole stream suffers from is an error.
fn member(
    sink: &mut Sink<'_>,
    header: &Header,
    about: Long,
    (body, size): (&mut dyn Read, u64),
    options: &Options,
) -> Result<()> {
    let sparse = about.version == (Some(1), Some(0)) && about.real.is_some();
    let old = about.old || about.version != (None, None) && !sparse;
    let named = about.name.filter(|_| sparse).or(about.path);
    let raw = named.unwrap_or_else(|| header.path_bytes().into_owned());
    let path = match sound(&raw) {
        Ok(path) => path,
        Err(why) => {
            sink.sum.fail(raw.get(..LONGEST_PATH).unwrap_or(&raw), why);
            return Ok(());
        }
    };
    let kind = header.entry_type();
    if options.excludes(&path, kind == EntryType::Directory) || options.excludes_above(&path) {
        return Ok(());
    }
    let link = || about.link.clone().or_else(|| header.link_name_bytes().map(|l| l.into_owned()));
    let mode = header.mode().unwrap_or(0o644) & 0o777;
    let sec = header.mtime().ok().and_then(|t| i64::try_from(t).ok());
    let mtime = about.mtime.or(sec.map(|sec| Stamp { sec, nsec: 0 }));
    let done = match kind {
        EntryType::Directory => sink.directory(&path, mode, mtime).map(|()| true),
        EntryType::Regular | EntryType::Continuous if path.is_empty() => Ok(true),
        EntryType::Regular | EntryType::Continuous => {
            if old {
                sink.sum.fail(&path, "is a sparse file of a form that is not known");
                return Ok(());
            }
            let mut fill = |to: &OwnedFd| match about.real.filter(|_| sparse) {
                Some(real) => sparse::fill(body, (real, Some(size)), to),
                None => whole(body, size, to),
            };
            let done = sink.file(&path, &mut fill, (mode, mtime));
            if let Err(view::Error::Sys { source, .. }) = &done
                && source.call == CUT
            {
                return Err(host("read", io::ErrorKind::UnexpectedEof.into()));
            }
            done
        }
        EntryType::Symlink => match link() {
            Some(target) if !target.is_empty() && !target.contains(&0) => sink.link(&path, &target, mtime),
            _ => {
                sink.sum.fail(&path, "is a link to nothing");
                return Ok(());
            }
        },
        // Of what came before: a copy of it, because in a tree with layers there is no other way.
        EntryType::Link => match link().as_deref().map(sound) {
            Some(Ok(first)) => sink.there(&first).and_then(|(from, mode)| {
                let size = crate::sys::at::fstat(&from).map_err(view::Error::sys("read", &first))?.size;
                let mut fill = |to: &OwnedFd| crate::sys::copy::file(&from, to, size).map(|()| size);
                sink.file(&path, &mut fill, (mode & 0o777, mtime))
            }),
            Some(Err(_)) | None => {
                sink.sum.fail(&path, "is a link out of the directory");
                return Ok(());
            }
        },
        EntryType::Fifo | EntryType::Char | EntryType::Block => {
            sink.sum.skip(&path, "is a fifo or a device");
            return Ok(());
        }
        EntryType::XGlobalHeader => return Ok(()),
        _ => {
            sink.sum.fail(&path, "is of a kind that is not known (a sparse file, perhaps)");
            return Ok(());
        }
    };
    match done {
        Ok(true) => {}
        Ok(false) => sink.sum.skip(&path, "exists"),
        Err(e) => sink.sum.fail(&path, reason(&e)),
    }
    Ok(())
}

/// The call of an error that says that the stream ended before its time.
pub(super) const CUT: &str = "read the stream";

fn whole(body: &mut dyn Read, size: u64, to: &OwnedFd) -> crate::sys::Result<u64> {
    match pour(body, to, u64::MAX)? {
        bytes if bytes == size => Ok(bytes),
        _ => Err(crate::sys::Error::new(CUT, "", nix::errno::Errno::EIO)),
    }
}
