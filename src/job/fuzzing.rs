//! Doors for `fuzz/`: logs that are read back, and what a server in a jail answers.

use super::frame::{HEADER, Head, MOST, Stream, encode};
use super::http::{self, Unready};
use super::segments::Key;

/// A record of a log, by a key that the corpus was written with: what is one is written so, and whatever a
/// command wrote is read back.
pub fn frame(bytes: &[u8]) {
    let key = Key::of(b"fuzz");
    let read = |place: u64, bytes: &[u8]| {
        let (head, rest) = bytes.split_first_chunk::<HEADER>()?;
        let head = Head::parse(*head)?;
        assert!(head.len <= MOST);
        head.with(&key, place, rest.get(..head.len)?.to_vec())
    };
    if let Some(entry) = read(0, bytes) {
        let mut again = Vec::new();
        encode(&mut again, &key, 0, (entry.stream, entry.time_ms), &entry.bytes);
        assert_eq!(again.len() as u64, entry.end);
        assert!(bytes.starts_with(&again));
    }
    let words = bytes.get(..bytes.len().min(MOST)).unwrap_or_default();
    let mut written = Vec::new();
    encode(&mut written, &key, 5, (Stream::Err, 7), words);
    assert_eq!(read(5, &written).map(|entry| entry.bytes).as_deref(), Some(words));
    assert_eq!(read(6, &written), None);
}

/// The first line of an answer, and what one process tells another about it.
pub fn answer(bytes: &[u8]) {
    if let Some(status) = http::parse(bytes) {
        assert!(status < 1000);
    }
    if let Some(unready) = std::str::from_utf8(bytes).ok().and_then(Unready::read) {
        assert_eq!(Unready::read(&unready.wire()), Some(unready));
    }
}
