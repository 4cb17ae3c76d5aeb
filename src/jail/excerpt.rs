//! The first and last bytes of a stream, in bounded memory.

use crate::schema::jail::Excerpt;

/// Bytes kept from each end.
pub const KEEP: usize = 64 * 1024;

/// Collects an [`Excerpt`] from chunks.
#[derive(Debug, Default)]
pub struct Collector {
    total: u64,
    head: Vec<u8>,
    /// The last bytes after `head`, up to twice [`KEEP`]: cut back only when full, so that each
    /// byte is moved at most once more.
    tail: Vec<u8>,
}

impl Collector {
    /// Whether the head is complete, so that only the last bytes matter from here on.
    pub fn head_is_full(&self) -> bool {
        self.head.len() == KEEP
    }

    /// The next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = (KEEP - self.head.len()).min(bytes.len());
        let (first, rest) = bytes.split_at(room);
        self.head.extend_from_slice(first);
        let rest = &rest[rest.len().saturating_sub(KEEP)..];
        self.tail.extend_from_slice(rest);
        if self.tail.len() > 2 * KEEP {
            self.tail.drain(..self.tail.len() - KEEP);
        }
    }

    /// `n` bytes went by unseen; `last` are the final ones of them.
    pub fn skip(&mut self, n: u64, last: &[u8]) {
        let seen = last.len() as u64;
        self.total += n.saturating_sub(seen);
        if n > seen {
            self.tail.clear();
        }
        self.push(last);
    }

    /// The excerpt.
    pub fn finish(mut self) -> Excerpt {
        if self.tail.len() > KEEP {
            self.tail.drain(..self.tail.len() - KEEP);
        }
        Excerpt { total: self.total, head: self.head, tail: self.tail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_kept_whatever_the_chunks() {
        let data: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        for chunk in [1, 7, 4096, 65_536, 65_537, 299_999, 300_000] {
            let mut c = Collector::default();
            for part in data.chunks(chunk) {
                c.push(part);
            }
            let e = c.finish();
            assert_eq!(e.total, 300_000, "{chunk}");
            assert_eq!(e.head, &data[..KEEP], "{chunk}");
            assert_eq!(e.tail, &data[data.len() - KEEP..], "{chunk}");
        }
    }

    #[test]
    fn a_short_stream_is_whole_and_ends_do_not_overlap() {
        let mut c = Collector::default();
        c.push(&[1; 70_000]);
        let e = c.finish();
        assert_eq!((e.head.len(), e.tail.len(), e.total), (KEEP, 70_000 - KEEP, 70_000));
    }

    #[test]
    fn bytes_that_went_by_unseen_are_counted() {
        let mut c = Collector::default();
        c.push(&[1; KEEP + 10]);
        c.skip(1_000_000, &[2; 100]);
        let e = c.finish();
        assert_eq!(e.total, (KEEP + 10) as u64 + 1_000_000);
        assert_eq!(e.tail, vec![2; 100]);
    }
}
