//! Reading a log, while it is written or afterwards, without a lock.
//!
//! A cursor is a place in the log: where the next record begins. It holds across rotation, because files are
//! named after places, and stands for everything before it (what was read so far), so that no record is read
//! twice and none is left out unsaid.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use nix::fcntl::OFlag;

use super::frame::{Entry, HEADER, Head, MAGIC, MOST};
use super::segments::{self, Key};
use crate::sys::{Error, Result, errno};

/// What lies at a place of a file.
#[derive(Debug)]
pub(super) enum Item {
    /// A whole record.
    Entry(Entry),
    /// So many bytes that are no record, and a record behind them.
    Bad(u64),
    /// No whole record from here on.
    End,
}

/// Records of one file.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    file: &'a File,
    base: u64,
    at: u64,
}

impl<'a> Scanner<'a> {
    /// From the place `at` of the file that begins at `base`.
    pub(super) fn new(file: &'a File, base: u64, at: u64) -> Scanner<'a> {
        Scanner { file, base, at }
    }

    /// The next one before `end`.
    pub(super) fn next(&mut self, key: &Key, end: u64) -> Result<Item> {
        if let Some(entry) = self.entry_at(key, self.at, end)? {
            self.at = entry.end;
            return Ok(Item::Entry(entry));
        }
        let mut from = self.at + 1;
        while let Some(candidate) = self.find_magic(from, end)? {
            if self.entry_at(key, candidate, end)?.is_some() {
                let bad = candidate - self.at;
                self.at = candidate;
                return Ok(Item::Bad(bad));
            }
            from = candidate + 1;
        }
        Ok(Item::End)
    }

    fn entry_at(&self, key: &Key, at: u64, end: u64) -> Result<Option<Entry>> {
        let mut raw = [0; HEADER];
        if at + HEADER as u64 > end || !self.read(&mut raw, at)? {
            return Ok(None);
        }
        let Some(head) = Head::parse(raw) else { return Ok(None) };
        let mut bytes = vec![0; head.len];
        if at + (HEADER + head.len) as u64 > end || !self.read(&mut bytes, at + HEADER as u64)? {
            return Ok(None);
        }
        Ok(head.with(key, at, bytes))
    }

    fn find_magic(&self, from: u64, end: u64) -> Result<Option<u64>> {
        let mut at = from;
        let mut buffer = vec![0; MOST];
        while at + (HEADER as u64) <= end {
            let want = usize::try_from(end - at).unwrap_or(MOST).min(MOST);
            let Some(piece) = buffer.get_mut(..want) else { return Ok(None) };
            if !self.read(piece, at)? {
                return Ok(None);
            }
            if let Some(found) = piece.windows(MAGIC.len()).position(|w| w == MAGIC) {
                return Ok(Some(at + found as u64));
            }
            // One may begin in the last three bytes.
            at += (want - (MAGIC.len() - 1)) as u64;
        }
        Ok(None)
    }

    /// Whether that much was there.
    fn read(&self, into: &mut [u8], at: u64) -> Result<bool> {
        match self.file.read_exact_at(into, at - self.base) {
            Ok(()) => Ok(true),
            // Cut meanwhile.
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            Err(e) => Err(Error::new("read", "log", errno(&e))),
        }
    }
}

/// A reader of a log.
#[derive(Debug)]
pub struct Reader {
    dir: File,
    key: Key,
    at: u64,
    open: Option<(u64, File)>,
    /// The place may lie inside of a record, until the first one was read.
    fresh: bool,
    gone: u64,
    bad: u64,
}

impl Reader {
    /// Read the log in `dir` from the cursor `since`, or from the oldest record that there is.
    pub fn open(dir: impl AsFd, key: Key, since: Option<u64>) -> Result<Reader> {
        let dir = dir.as_fd().try_clone_to_owned().map_err(|e| Error::new("dup", "log", errno(&e)))?;
        let mut reader = Reader {
            dir: File::from(dir),
            key,
            at: since.unwrap_or(0),
            open: None,
            fresh: true,
            gone: 0,
            bad: 0,
        };
        let end = reader.end()?;
        // A cursor of what is no more (a log that lost its end with the machine) waits for nothing.
        reader.at = reader.at.min(end);
        reader.enter()?;
        if since.is_none() {
            reader.gone = 0;
        }
        Ok(reader)
    }

    /// The cursor after what was read so far.
    pub fn cursor(&self) -> u64 {
        self.at
    }

    /// Bytes of the log that were removed before they could be read, and those that were damaged.
    pub fn missing(&self) -> (u64, u64) {
        (self.gone, self.bad)
    }

    /// Where the log ends now.
    pub fn end(&self) -> Result<u64> {
        let Some(base) = segments::bases(&self.dir)?.pop() else { return Ok(0) };
        let file = segments::open(&self.dir, base, OFlag::O_RDONLY)?;
        Ok(base + file.and_then(|f| f.metadata().ok()).map_or(0, |m| m.len()))
    }

    /// The next record; `None`: there is no more, for now.
    pub fn step(&mut self) -> Result<Option<Entry>> {
        loop {
            let Some((base, file)) = &self.open else {
                if self.enter()? {
                    continue;
                }
                return Ok(None);
            };
            let meta = file.metadata().map_err(|e| Error::new("stat", "log", errno(&e)))?;
            let mut scanner = Scanner::new(file, *base, self.at);
            let item = if self.at < base + meta.len() {
                scanner.next(&self.key, base + meta.len())?
            } else {
                Item::End
            };
            match item {
                Item::Entry(entry) => {
                    self.at = entry.end;
                    self.fresh = false;
                    return Ok(Some(entry));
                }
                Item::Bad(bytes) => {
                    self.at += bytes;
                    self.bad += if std::mem::take(&mut self.fresh) { 0 } else { bytes };
                }
                // Of a file that others follow, or that was removed, nothing more is to come.
                Item::End if !self.leave(*base, *base + meta.len(), meta.nlink() == 0)? => return Ok(None),
                Item::End => {}
            }
        }
    }

    /// Go on to the file after the one that begins at `base`, if there is one; `false`: not yet.
    fn leave(&mut self, base: u64, end: u64, removed: bool) -> Result<bool> {
        let exact = segments::open(&self.dir, end, OFlag::O_RDONLY)?.filter(|_| end > base && end == self.at);
        if let Some(file) = exact {
            self.open = Some((end, file));
            return Ok(true);
        }
        let Some(next) = segments::bases(&self.dir)?.into_iter().find(|b| *b > base) else {
            if removed {
                self.open = None;
            }
            return Ok(false);
        };
        // It grew before the next one was begun.
        if self.open.as_ref().and_then(|(_, f)| f.metadata().ok()).is_some_and(|m| base + m.len() != end) {
            return Ok(true);
        }
        // What is behind the last record here is no record and never will be one.
        let last = end.min(next);
        self.bad += last.saturating_sub(self.at);
        self.gone += next.saturating_sub(last.max(self.at));
        self.at = next;
        self.open = segments::open(&self.dir, next, OFlag::O_RDONLY)?.map(|file| (next, file));
        Ok(true)
    }

    /// Open the file that the place lies in, or the oldest one behind it; `false`: there is none.
    fn enter(&mut self) -> Result<bool> {
        // It may be removed between the look and the open: each time the log has grown by a whole file.
        for _ in 0..8 {
            let bases = segments::bases(&self.dir)?;
            let within = bases.iter().rev().find(|b| **b <= self.at).copied();
            let Some(base) = within.or(bases.first().copied()) else { return Ok(false) };
            let Some(file) = segments::open(&self.dir, base, OFlag::O_RDONLY)? else { continue };
            self.gone += base.saturating_sub(self.at);
            self.at = self.at.max(base);
            self.open = Some((base, file));
            return Ok(true);
        }
        Ok(false)
    }
}
