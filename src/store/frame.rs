//! The frames of the spool: how one record is written, and how whole ones are found again among torn ones.
//!
//! ```text
//! ff 41 4a 01 | kind u8, 0 0 0 | length u32 LE | checksum u64 LE | payload (JSON)
//! ```
//! The checksum is the first 64 bits of BLAKE3 over everything else in the frame. The payload is
//! UTF-8, in which the byte `ff` never occurs, so output of a jail cannot forge the start of a frame.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The start of every frame; the last byte is the version of the framing.
const MAGIC: [u8; 4] = [0xff, b'A', b'J', 1];
const HEADER: usize = 20;
/// The largest payload. A start with 2 MB of arguments, all of it escaped, is a quarter of that.
pub(super) const MAX_PAYLOAD: usize = 64 << 20;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `schema::jail::Start`.
    Start,
    /// `schema::jail::End`.
    End,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Kind::Start => 1,
            Kind::End => 2,
        }
    }

    fn from_byte(b: u8) -> Option<Kind> {
        match b {
            1 => Some(Kind::Start),
            2 => Some(Kind::End),
            _ => None,
        }
    }
}

/// A frame around the JSON of `value`, `None` when it is too large for any reader.
pub(super) fn encode<T: serde::Serialize>(
    kind: Kind,
    value: &T,
) -> Result<Option<Vec<u8>>, serde_json::Error> {
    let mut frame = Vec::with_capacity(1024);
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&[kind.byte(), 0, 0, 0]);
    frame.extend_from_slice(&[0; 12]);
    serde_json::to_writer(&mut frame, value)?;
    let len = frame.len() - HEADER;
    if len > MAX_PAYLOAD {
        return Ok(None);
    }
    frame[8..12].copy_from_slice(&(len as u32).to_le_bytes());
    let sum = checksum(&frame[..12], &frame[HEADER..]);
    frame[12..HEADER].copy_from_slice(&sum);
    Ok(Some(frame))
}

fn checksum(head: &[u8], payload: &[u8]) -> [u8; 8] {
    let hash = blake3::Hasher::new().update(head).update(payload).finalize();
    let mut sum = [0; 8];
    sum.copy_from_slice(&hash.as_bytes()[..8]);
    sum
}

/// What lies at a place of the spool.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A whole frame with the right checksum. `kind` is `None` for one this `aj` does not know.
    Frame {
        /// What it holds.
        kind: Option<Kind>,
        /// Its JSON.
        payload: Vec<u8>,
        /// Where it starts.
        at: u64,
    },
    /// Bytes that are no frame: a torn write, or a page the disk lost.
    Bad {
        /// Where they start.
        at: u64,
        /// How many.
        len: u64,
    },
}

/// Reads frames from `at` to `end`; holds one payload in memory at a time.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(file: &'a File, at: u64, end: u64) -> Scanner<'a> {
        Scanner { file, at, end }
    }

    /// Where the next item starts.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The next item, `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Item>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let at = self.at;
        if let Some((kind, payload)) = self.frame_at(at)? {
            self.at = at + (HEADER + payload.len()) as u64;
            return Ok(Some(Item::Frame { kind, payload, at }));
        }
        // The length of a damaged frame proves nothing: look for the next start in its own bytes.
        let mut from = at + 1;
        loop {
            let Some(candidate) = self.find_magic(from)? else {
                self.at = self.end;
                break;
            };
            if self.frame_at(candidate)?.is_some() {
                self.at = candidate;
                break;
            }
            from = candidate + 1;
        }
        Ok(Some(Item::Bad { at, len: self.at - at }))
    }

    fn frame_at(&self, at: u64) -> io::Result<Option<(Option<Kind>, Vec<u8>)>> {
        let mut head = [0u8; HEADER];
        if self.end - at < HEADER as u64 || !self.read(&mut head, at)? || head[..4] != MAGIC {
            return Ok(None);
        }
        let len = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
        let room = self.end - at - HEADER as u64;
        if len as usize > MAX_PAYLOAD || u64::from(len) > room {
            return Ok(None);
        }
        let mut payload = vec![0u8; len as usize];
        if !self.read(&mut payload, at + HEADER as u64)? || checksum(&head[..12], &payload) != head[12..] {
            return Ok(None);
        }
        Ok(Some((Kind::from_byte(head[4]), payload)))
    }

    /// Fill `buf` from `at`; false when the file has become shorter.
    fn read(&self, buf: &mut [u8], at: u64) -> io::Result<bool> {
        match self.file.read_exact_at(buf, at) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn find_magic(&self, mut from: u64) -> io::Result<Option<u64>> {
        let mut buf = vec![0u8; 64 << 10];
        while from < self.end {
            let want = usize::try_from(self.end - from).unwrap_or(usize::MAX).min(buf.len());
            let got = self.file.read_at(&mut buf[..want], from)?;
            if got < MAGIC.len() {
                return Ok(None);
            }
            if let Some(i) = buf[..got].windows(MAGIC.len()).position(|w| w == MAGIC) {
                return Ok(Some(from + i as u64));
            }
            // A start may lie across the border of two reads.
            from += (got - (MAGIC.len() - 1)) as u64;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn frame(kind: Kind, n: usize) -> Vec<u8> {
        encode(kind, &"x".repeat(n)).unwrap().unwrap()
    }

    fn scan(bytes: &[u8]) -> Vec<(u64, Option<u64>)> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let mut scanner = Scanner::new(&file, 0, bytes.len() as u64);
        let mut out = Vec::new();
        while let Some(item) = scanner.next().unwrap() {
            out.push(match item {
                Item::Frame { at, .. } => (at, None),
                Item::Bad { at, len } => (at, Some(len)),
            });
        }
        out
    }

    #[test]
    fn frames_are_found_between_garbage_of_every_kind() {
        let (a, b) = (frame(Kind::Start, 10), frame(Kind::End, 300));
        let (la, lb) = (a.len() as u64, b.len() as u64);
        assert_eq!(scan(&[a.clone(), b.clone()].concat()), [(0, None), (la, None)]);
        for garbage in [
            vec![0u8; 100],
            vec![0xff; 7],
            MAGIC.to_vec(),
            MAGIC.repeat(40),
            a[..la as usize - 1].to_vec(),
            vec![0u8; (64 << 10) - 2],
            vec![b'x'; 200_000],
        ] {
            let n = garbage.len() as u64;
            let all = [a.clone(), garbage, b.clone()].concat();
            assert_eq!(scan(&all), [(0, None), (la, Some(n)), (la + n, None)]);
            assert_eq!(scan(&all[la as usize..]), [(0, Some(n)), (n, None)]);
            assert_eq!(scan(&all[..(la + n) as usize]), [(0, None), (la, Some(n))]);
        }
        assert_eq!(
            scan(&[a.clone(), b.clone()[..lb as usize - 1].to_vec()].concat()),
            [(0, None), (la, Some(lb - 1))]
        );
        assert_eq!(scan(b""), []);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = frame(Kind::Start, 20);
        for i in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[i / 8] ^= 1 << (i % 8);
            assert_eq!(scan(&bad), [(0, Some(good.len() as u64))], "bit {i}");
        }
    }

    #[test]
    fn a_frame_of_an_unknown_kind_is_whole_but_unknown() {
        let mut f = frame(Kind::Start, 3);
        f[4] = 9;
        let sum = checksum(&f[..12], &f[HEADER..]);
        f[12..HEADER].copy_from_slice(&sum);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&f).unwrap();
        let item = Scanner::new(&file, 0, f.len() as u64).next().unwrap();
        assert!(matches!(item, Some(Item::Frame { kind: None, .. })));
    }
}
