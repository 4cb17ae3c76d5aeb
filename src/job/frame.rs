//! One record of a log.
//!
//! ```text
//! ff 4a 4c 01 | stream u8, 0 0 0 | length u32 LE | time ms u64 LE | checksum u64 LE | bytes
//! ```
//! The checksum is the first 64 bits of a BLAKE3 that is keyed with a secret of the log's own, over the place
//! of the record and everything else in it. The bytes are whatever a command wrote: it does not know the key,
//! so that nothing that it writes is ever taken for a record, wherever a reader has to begin.

use super::segments::Key;

/// The start of every record; the last byte is the version of the framing.
pub(super) const MAGIC: [u8; 4] = [0xff, b'J', b'L', 1];
/// Bytes before those of the command.
pub(super) const HEADER: usize = 28;
const SUMMED: usize = 20;
/// Bytes of a command in one record at most.
pub(super) const MOST: usize = 64 * 1024;

/// Whose words they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The command's stdout.
    Out,
    /// The command's stderr.
    Err,
    /// Those of `aj`: text, a line.
    System,
}

impl Stream {
    fn byte(self) -> u8 {
        match self {
            Stream::Out => 1,
            Stream::Err => 2,
            Stream::System => 3,
        }
    }

    fn of_byte(byte: u8) -> Option<Stream> {
        match byte {
            1 => Some(Stream::Out),
            2 => Some(Stream::Err),
            3 => Some(Stream::System),
            _ => None,
        }
    }

    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Stream::Out => "stdout",
            Stream::Err => "stderr",
            Stream::System => "system",
        }
    }
}

/// One record, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where the next one begins: a cursor that has seen this one.
    pub end: u64,
    /// Milliseconds since the epoch by the clock of the time, which may have been set back since the one before.
    pub time_ms: u64,
    /// Whose words.
    pub stream: Stream,
    /// At most `MOST`.
    pub bytes: Vec<u8>,
}

/// The record at `place`, appended to `out`. More than [`MOST`] bytes are none.
pub(super) fn encode(
    out: &mut Vec<u8>,
    key: &Key,
    place: u64,
    (stream, time_ms): (Stream, u64),
    bytes: &[u8],
) {
    let Ok(len) = u32::try_from(bytes.len()) else { return };
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[stream.byte(), 0, 0, 0]);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&time_ms.to_le_bytes());
    let sum = checksum(key, place, out.get(start..).unwrap_or_default(), bytes);
    out.extend_from_slice(&sum);
    out.extend_from_slice(bytes);
}

fn checksum(key: &Key, place: u64, head: &[u8], bytes: &[u8]) -> [u8; 8] {
    let hash = key.hasher().update(&place.to_le_bytes()).update(head).update(bytes).finalize();
    let mut sum = [0; 8];
    sum.copy_from_slice(hash.as_bytes().get(..8).unwrap_or(&[0; 8]));
    sum
}

/// The start of a record, whose bytes are not known yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    raw: [u8; HEADER],
    stream: Stream,
    /// Bytes that follow.
    pub(super) len: usize,
}

impl Head {
    /// `None`: no record begins so.
    pub(super) fn parse(raw: [u8; HEADER]) -> Option<Head> {
        let len = usize::try_from(u32::from_le_bytes(raw.get(8..12)?.try_into().ok()?)).ok()?;
        let fits = raw.starts_with(&MAGIC) && raw.get(5..8) == Some(&[0, 0, 0]) && len <= MOST;
        let stream = raw.get(4).copied().and_then(Stream::of_byte)?;
        fits.then_some(Head { raw, stream, len })
    }

    /// The whole record, when that is what it is.
    pub(super) fn with(self, key: &Key, place: u64, bytes: Vec<u8>) -> Option<Entry> {
        let (summed, sum) = (self.raw.get(..SUMMED)?, self.raw.get(SUMMED..)?);
        if bytes.len() != self.len || checksum(key, place, summed, &bytes) != sum {
            return None;
        }
        let time_ms = u64::from_le_bytes(self.raw.get(12..SUMMED)?.try_into().ok()?);
        Some(Entry { end: place + (HEADER + bytes.len()) as u64, time_ms, stream: self.stream, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(key: &Key, place: u64, bytes: &[u8]) -> Option<Entry> {
        let head = Head::parse(bytes.get(..HEADER)?.try_into().ok()?)?;
        head.with(key, place, bytes.get(HEADER..)?.to_vec())
    }

    #[test]
    fn a_record_is_read_back_and_no_bit_of_it_may_differ() {
        let key = Key::of(&[7; 16]);
        let mut bytes = Vec::new();
        encode(&mut bytes, &key, 99, (Stream::Err, 12_345), b"\xff\x1b[31m");
        let entry = parse(&key, 99, &bytes).unwrap();
        assert_eq!(
            entry,
            Entry {
                end: 99 + bytes.len() as u64,
                time_ms: 12_345,
                stream: Stream::Err,
                bytes: b"\xff\x1b[31m".to_vec()
            }
        );
        for bit in 0..bytes.len() * 8 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse(&key, 99, &other), None, "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert_eq!(parse(&key, 99, &bytes[..end]), None, "{end}");
        }
        assert_eq!(parse(&key, 100, &bytes), None, "a record is one at its place only");
        assert_eq!(parse(&Key::of(&[8; 16]), 99, &bytes), None, "nobody else can write one");
    }
}
