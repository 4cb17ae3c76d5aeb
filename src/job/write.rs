//! The one that writes a log: a record at a time, within its bounds, and never at a loss what to do when the
//! disk is full: the oldest goes first, then what comes is counted instead of kept, and said once there is room.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::frame::{self, HEADER, MOST, Stream};
use super::read::{Item, Scanner};
use super::segments::{self, Key};
use crate::base::clock;
use crate::sys::{Error, Result, errno};

/// A file of the log at most, where its bound has room for some.
const SEGMENT: u64 = 8 << 20;
/// Files that a bound has room for at least: what is thrown away at once is one of them.
const PARTS: u64 = 4;
/// The smallest bound of a log.
pub const LEAST: u64 = 1 << 20;
/// The bound of a log for which nobody set one.
pub const USUAL: u64 = 64 << 20;

/// A log that is being written. There is one writer at a time.
#[derive(Debug)]
pub struct Writer {
    dir: File,
    key: Key,
    /// Bytes of all files together at most.
    most: u64,
    segment: u64,
    /// Where each file but the last begins, and its length.
    older: VecDeque<(u64, u64)>,
    last: Option<Last>,
    /// Where the next record goes.
    at: u64,
    frame: Vec<u8>,
    /// Bytes of the command that were not kept since the last record, and why.
    missing: Option<(u64, Errno)>,
    /// The same in all.
    lost: u64,
}

#[derive(Debug)]
struct Last {
    base: u64,
    file: File,
}

impl Writer {
    /// Go on with the log in `dir`, of at most `most` bytes. What a writer that was killed left half written
    /// is taken back.
    pub fn open(dir: impl AsFd, key: Key, most: u64) -> Result<Writer> {
        let dir = dir.as_fd().try_clone_to_owned().map_err(|e| Error::new("dup", "log", errno(&e)))?;
        let dir = File::from(dir);
        let most = most.max(LEAST);
        let mut older = VecDeque::new();
        let mut bases = segments::bases(&dir)?;
        let last = bases.pop();
        for base in bases {
            if let Some(file) = segments::open(&dir, base, OFlag::O_RDONLY)? {
                older.push_back((base, length(&file)?));
            }
        }
        let mut writer = Writer {
            dir,
            key,
            most,
            segment: SEGMENT.min(most / PARTS),
            older,
            last: None,
            at: 0,
            frame: Vec::with_capacity(HEADER + MOST),
            missing: None,
            lost: 0,
        };
        if let Some(base) = last {
            writer.resume(base)?;
        }
        Ok(writer)
    }

    fn resume(&mut self, base: u64) -> Result<()> {
        let Some(file) = segments::open(&self.dir, base, OFlag::O_RDWR)? else { return Ok(()) };
        let len = length(&file)?;
        let mut whole = base;
        let mut scanner = Scanner::new(&file, base, base);
        loop {
            match scanner.next(&self.key, base + len)? {
                Item::Entry(entry) => whole = entry.end,
                Item::Bad(_) => {}
                Item::End => break,
            }
        }
        self.at = whole;
        let torn = (base + len).saturating_sub(whole);
        if torn > 0 && file.set_len(whole - base).is_err() {
            // Left where it is: a new file begins behind it.
            self.older.push_back((base, len));
            self.at = base + len;
        } else {
            self.last = Some(Last { base, file });
        }
        if torn > 0 {
            self.say(&format!("the log was cut short when its writer was killed: {torn} bytes are gone"));
        }
        Ok(())
    }

    /// Where the next record goes: a cursor that has seen everything so far.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Bytes of the command that could not be kept.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Add a line of our own.
    pub fn say(&mut self, text: &str) {
        self.add(Stream::System, format!("{text}\n").as_bytes());
    }

    /// Add what the command wrote. What cannot be kept is counted, and said as soon as something can.
    pub fn add(&mut self, stream: Stream, bytes: &[u8]) {
        let now = clock::now_ms();
        for piece in bytes.chunks(MOST) {
            if let Err(e) = self.put(now, Some((stream, piece))) {
                let missing = self.missing.map_or(0, |(n, _)| n);
                let counted = if stream == Stream::System { 0 } else { piece.len() as u64 };
                self.missing = Some((missing + counted, e));
                self.lost += counted;
            }
        }
    }

    /// Say what is missing at the end, if anything is and there is room for that.
    pub fn finish(&mut self) {
        if self.missing.is_some() {
            self.put(clock::now_ms(), None).ok();
        }
    }

    /// Write a record, and before it what is missing: both or neither. By itself a line about what is missing
    /// finds room where the next piece of output does not, time and again.
    fn put(&mut self, now: u64, record: Option<(Stream, &[u8])>) -> std::result::Result<(), Errno> {
        let mut frames = std::mem::take(&mut self.frame);
        frames.clear();
        if let Some((bytes, why)) = self.missing.filter(|(n, _)| *n > 0) {
            let line = format!("{bytes} bytes of output are missing here: {} ({why:?})\n", why.desc());
            frame::encode(&mut frames, &self.key, self.at, (Stream::System, now), line.as_bytes());
        }
        if let Some((stream, bytes)) = record {
            let place = self.at + frames.len() as u64;
            frame::encode(&mut frames, &self.key, place, (stream, now), bytes);
        }
        let written = self.write(&frames);
        self.frame = frames;
        if written.is_ok() {
            self.missing = None;
        }
        written
    }

    fn write(&mut self, frame: &[u8]) -> std::result::Result<(), Errno> {
        let len = frame.len() as u64;
        let used = self.last.as_ref().map(|l| self.at - l.base);
        if used.is_some_and(|used| used > 0 && used + len > self.segment) {
            self.older.extend(self.last.take().map(|l| (l.base, self.at - l.base)));
        }
        while self.size() + len > self.most && self.drop_oldest() {}
        loop {
            match self.try_write(frame) {
                Err(Errno::ENOSPC | Errno::EDQUOT) if self.drop_oldest() => {}
                done => return done,
            }
        }
    }

    fn try_write(&mut self, frame: &[u8]) -> std::result::Result<(), Errno> {
        use std::os::unix::fs::FileExt;
        let last = match &mut self.last {
            Some(last) => last,
            none => {
                let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_TRUNC;
                let file = segments::open(&self.dir, self.at, flags).map_err(|e| e.errno)?;
                none.insert(Last { base: self.at, file: file.ok_or(Errno::ENOENT)? })
            }
        };
        let at = self.at - last.base;
        match last.file.write_all_at(frame, at) {
            Ok(()) => {
                self.at += frame.len() as u64;
                Ok(())
            }
            Err(e) => {
                // Half a record would be in the way of the next one only where it cannot be taken back; then it
                // is written over.
                last.file.set_len(at).ok();
                Err(errno(&e))
            }
        }
    }

    /// Bytes of all files.
    fn size(&self) -> u64 {
        let older: u64 = self.older.iter().map(|(_, len)| len).sum();
        older + self.last.as_ref().map_or(0, |l| self.at - l.base)
    }

    /// Remove the oldest file but the one that is written to; whether there was one.
    pub fn drop_oldest(&mut self) -> bool {
        let Some((base, _)) = self.older.pop_front() else { return false };
        unlinkat(&self.dir, segments::name(base).as_str(), UnlinkatFlags::NoRemoveDir).ok();
        true
    }
}

fn length(file: &File) -> Result<u64> {
    file.metadata().map(|m| m.len()).map_err(|e| Error::new("stat", "log", errno(&e)))
}
