//! `aj job logs`.

use std::time::Duration;

use super::{Error, Found};
use crate::base::clock::rfc3339;
use crate::base::text;
use crate::job::read::Reader;
use crate::job::watch::Watch;
pub use crate::job::{Entry, Stream};
use crate::schema::changes::FORMAT;
use crate::schema::jail::bytes64;
use crate::schema::job::{Encodings, Line, Output, Status};

/// Bytes of a JSON answer that are the command's at most.
const MOST: usize = 4 << 20;
/// How often one looks whether the job has ended, beside being told that its log has grown.
const LOOK: Duration = Duration::from_millis(500);

/// Which part of the log.
#[derive(Debug, Clone, Default)]
pub struct Which {
    /// What comes after this cursor.
    pub since: Option<u64>,
    /// Only this stream of the command.
    pub stream: Option<Stream>,
    /// Only the last so many lines.
    pub tail: Option<u64>,
}

impl Which {
    fn shows(&self, entry: &Entry) -> bool {
        entry.stream == Stream::System || self.stream.is_none_or(|s| s == entry.stream)
    }
}

/// What is heard of a log, in its order.
pub trait Listener {
    /// A record. `false`: nobody listens any more.
    fn entry(&mut self, entry: &Entry) -> bool;
    /// So many bytes are missing here: they were removed to keep the log within its bound, or damaged.
    fn missing(&mut self, gone: u64, damaged: u64);
}

fn reader(found: &Found, since: Option<u64>) -> Result<Reader, Error> {
    Reader::open(&found.home, found.key(), since).map_err(|e| failed(found, e))
}

fn failed(found: &Found, source: crate::sys::Error) -> Error {
    Error::Log { id: found.filed.record.id, source }
}

/// Bytes of the command that [`Which::tail`] leaves out.
#[derive(Debug, Default)]
struct Tail {
    /// Line feeds that are still to go by.
    skip: u64,
}

impl Tail {
    /// Look through the log as it is now.
    fn of(found: &Found, which: &Which) -> Result<Tail, Error> {
        let Some(wanted) = which.tail else { return Ok(Tail::default()) };
        let mut reader = reader(found, which.since)?;
        let (mut lines, mut open) = (0u64, false);
        while let Some(entry) = reader.step().map_err(|e| failed(found, e))? {
            if entry.stream != Stream::System && which.shows(&entry) {
                lines += entry.bytes.iter().filter(|b| **b == b'\n').count() as u64;
                open = entry.bytes.last().is_some_and(|b| *b != b'\n');
            }
        }
        Ok(Tail { skip: (lines + u64::from(open)).saturating_sub(wanted) })
    }

    /// What of a record is shown; `None`: nothing.
    fn cut(&mut self, mut entry: Entry) -> Option<Entry> {
        if self.skip == 0 {
            return Some(entry);
        }
        if entry.stream == Stream::System {
            return None;
        }
        for (at, _) in entry.bytes.iter().enumerate().filter(|(_, b)| **b == b'\n') {
            self.skip -= 1;
            if self.skip == 0 {
                entry.bytes.drain(..=at);
                return (!entry.bytes.is_empty()).then_some(entry);
            }
        }
        None
    }
}

/// Read the log aloud: to its end as it is now, or with `follow` until the job has ended. What became of the
/// job, and its exit code.
pub fn read(
    found: &mut Found,
    which: &Which,
    follow: bool,
    listener: &mut dyn Listener,
) -> Result<(Status, Option<u8>), Error> {
    let mut tail = Tail::of(found, which)?;
    let mut reader = reader(found, which.since)?;
    let watch = follow.then(|| Watch::new([found.home.path()]));
    let mut told = (0, 0);
    loop {
        let status = found.status()?;
        // Looked at before the rest is read: what it wrote last was written before it ended.
        let last = watch.is_none() || !status.is_running();
        while let Some(entry) = reader.step().map_err(|e| failed(found, e))? {
            if reader.missing() != told {
                let (gone, damaged) = reader.missing();
                listener.missing(gone - told.0, damaged - told.1);
                told = (gone, damaged);
            }
            let entry = if which.shows(&entry) { tail.cut(entry) } else { None };
            if entry.is_some_and(|entry| !listener.entry(&entry)) {
                return Ok((status, code(found)));
            }
        }
        if last {
            return Ok((status, code(found)));
        }
        if let Some(watch) = &watch {
            watch.wait(LOOK);
        }
        match found.look() {
            Ok(_) => {}
            // It was removed under the reader: that is its end.
            Err(Error::Removed(_)) => return Ok((status, code(found))),
            Err(e) => return Err(e),
        }
    }
}

fn code(found: &Found) -> Option<u8> {
    found.filed.record.end.as_ref().map(|end| end.exit_code)
}

/// What the command wrote, in one answer.
pub fn output(found: &mut Found, which: &Which) -> Result<Output, Error> {
    let status = found.status()?;
    let mut tail = Tail::of(found, which)?;
    let mut reader = reader(found, which.since)?;
    let (mut streams, mut system) = ([Vec::new(), Vec::new()], Vec::new());
    let (mut taken, mut more) = (0, false);
    let mut next = reader.cursor();
    while let Some(entry) = reader.step().map_err(|e| failed(found, e))? {
        next = entry.end;
        let Some(entry) = (if which.shows(&entry) { tail.cut(entry) } else { None }) else { continue };
        taken += entry.bytes.len();
        match entry.stream {
            Stream::Out => streams[0].extend_from_slice(&entry.bytes),
            Stream::Err => streams[1].extend_from_slice(&entry.bytes),
            Stream::System => system.push(text::printable(entry.bytes.trim_ascii_end())),
        }
        if taken >= MOST {
            more = reader.end().map_err(|e| failed(found, e))? > next;
            break;
        }
    }
    let [out, err] = streams;
    let ((stdout, of_stdout), (stderr, of_stderr)) = (encoded(&out), encoded(&err));
    Ok(Output {
        format_version: FORMAT,
        id: found.filed.record.id,
        stdout,
        stderr,
        encoding: Encodings { stdout: of_stdout, stderr: of_stderr },
        system,
        exit_code: code(found),
        running: status.is_running(),
        status,
        next_cursor: next,
        more,
        skipped: reader.missing().0,
    })
}

/// The bytes as a string, and how.
fn encoded(bytes: &[u8]) -> (String, &'static str) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), "utf-8"),
        Err(_) => (bytes64::encode(bytes), "base64"),
    }
}

/// A record as a line of JSON.
pub fn line(entry: &Entry) -> Line {
    let (data, encoding) = encoded(&entry.bytes);
    Line::Output {
        time: rfc3339(entry.time_ms),
        stream: entry.stream.name(),
        data,
        encoding,
        next_cursor: entry.end,
    }
}
