//! Files with holes in a stream: where the data lies, then the data.
//!
//! The form is that of GNU tar's sparse files, version 1.0: the number of pieces, then of each where it begins and
//! how long it is, a line for each number, filled up to a block; then the pieces. In an archive the attributes
//! of the member say so, and what is read here may be anybody's. A file costs what is allocated of it, however
//! long it says that it is.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::sys::copy::Pieces;
use crate::sys::{Error, Result, copy};

const BLOCK: usize = 512;
/// Pieces of one file at most.
const MOST: usize = 1 << 20;
/// Digits of a number at most: a file is shorter than 2^63 bytes.
const DIGITS: usize = 19;

/// Where the data of a file lies.
#[derive(Debug)]
pub(super) struct Map {
    /// How long the file is.
    pub(super) size: u64,
    /// Beginning and length of each piece, ascending, none in another.
    pieces: Vec<(u64, u64)>,
}

impl Map {
    /// That of an open file, as it is now.
    pub(super) fn of(file: impl AsFd, size: u64) -> Result<Map> {
        let mut pieces = Vec::new();
        for piece in Pieces::of(file.as_fd(), size) {
            let (start, end) = piece?;
            if pieces.len() == MOST {
                return Err(Error::new("lseek", "a file with more than a million holes", Errno::E2BIG));
            }
            pieces.push((start, end - start));
        }
        Ok(Map { size, pieces })
    }

    /// As it stands in the stream.
    fn text(&self) -> Vec<u8> {
        let mut text = format!("{}\n", self.pieces.len());
        for (start, length) in &self.pieces {
            text.push_str(&format!("{start}\n{length}\n"));
        }
        let mut text = text.into_bytes();
        text.resize(text.len().next_multiple_of(BLOCK), 0);
        text
    }

    /// Bytes of the data.
    fn data(&self) -> u64 {
        self.pieces.iter().map(|(_, length)| length).sum()
    }

    /// What is sent of `file`. Always as many bytes as it says.
    pub(super) fn sending<'a>(&'a self, file: &'a File) -> Sending<'a> {
        Sending {
            head: io::Cursor::new(self.text()),
            file: file.as_fd(),
            pieces: self.pieces.iter(),
            at: (0, 0),
        }
    }

    /// How many bytes that is.
    pub(super) fn stored(&self) -> u64 {
        self.text().len() as u64 + self.data()
    }

    /// The map that begins a stream, of a file of `size` bytes. `stored`: how long the stream is, if that is known.
    fn read(from: &mut dyn Read, (size, stored): (u64, Option<u64>)) -> io::Result<Map> {
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "no map of a sparse file");
        let mut lines = Lines { from, block: [0; BLOCK], at: BLOCK, blocks: 0 };
        let count = lines.number()?;
        if count > MOST as u64 || i64::try_from(size).is_err() {
            return Err(bad());
        }
        let (mut pieces, mut end) = (Vec::new(), 0u64);
        for _ in 0..count {
            let (start, length) = (lines.number()?, lines.number()?);
            if start < end {
                return Err(bad());
            }
            end = start.checked_add(length).filter(|end| *end <= size).ok_or_else(bad)?;
            pieces.push((start, length));
        }
        let map = Map { size, pieces };
        // Said here, it is no stream that was cut short.
        let whole = lines.blocks * BLOCK as u64 + map.data();
        if stored.is_some_and(|stored| stored != whole) { Err(bad()) } else { Ok(map) }
    }
}

/// Numbers, each with a line of its own, in whole blocks.
struct Lines<'a> {
    from: &'a mut dyn Read,
    block: [u8; BLOCK],
    at: usize,
    blocks: u64,
}

impl Lines<'_> {
    fn number(&mut self) -> io::Result<u64> {
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "no map of a sparse file");
        let mut digits = String::new();
        loop {
            if self.at == BLOCK {
                self.from.read_exact(&mut self.block)?;
                self.at = 0;
                self.blocks += 1;
            }
            let byte = self.block.get(self.at).copied().ok_or_else(bad)?;
            self.at += 1;
            match byte {
                b'\n' => return digits.parse().map_err(|_| bad()),
                b'0'..=b'9' if digits.len() < DIGITS => digits.push(char::from(byte)),
                _ => return Err(bad()),
            }
        }
    }
}

/// The stream of a file: its map, then its data. What the file has lost since is zeros.
pub(super) struct Sending<'a> {
    head: io::Cursor<Vec<u8>>,
    file: BorrowedFd<'a>,
    pieces: std::slice::Iter<'a, (u64, u64)>,
    /// What is left of the piece that is sent: from where, how much.
    at: (u64, u64),
}

impl Read for Sending<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.head.read(into)?;
        if n > 0 || into.is_empty() {
            return Ok(n);
        }
        while self.at.1 == 0 {
            let Some(next) = self.pieces.next() else { return Ok(0) };
            self.at = *next;
        }
        let most = into.len().min(usize::try_from(self.at.1).unwrap_or(usize::MAX));
        let into = into.get_mut(..most).unwrap_or_default();
        let n = match copy::read_some(self.file, into, self.at.0)? {
            0 => {
                into.fill(0);
                most
            }
            n => n,
        };
        self.at = (self.at.0 + n as u64, self.at.1 - n as u64);
        Ok(n)
    }
}

/// Fill the empty file `to`, of `size` bytes, from such a stream of `stored` bytes, if that is known. Returns its size.
pub(super) fn fill(from: &mut dyn Read, (size, stored): (u64, Option<u64>), to: &OwnedFd) -> Result<u64> {
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::InvalidData => Error::new("read", "the map of a sparse file", Errno::EBADMSG),
        io::ErrorKind::UnexpectedEof => Error::new(super::stream::CUT, "", Errno::EIO),
        _ => Error::new("write", "", crate::sys::errno(&e)),
    };
    let map = Map::read(from, (size, stored)).map_err(failed)?;
    let out = to.try_clone().map(File::from).map_err(failed)?;
    out.set_len(map.size).map_err(failed)?;
    for (start, length) in map.pieces {
        io::Seek::seek(&mut &out, io::SeekFrom::Start(start)).map_err(failed)?;
        let copied = io::copy(&mut (&mut *from).take(length), &mut &out).map_err(failed)?;
        if copied < length {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
    }
    (&out).flush().map_err(failed)?;
    Ok(size)
}

/// An attribute of a member: `LENGTH KEY=VALUE\n`. The number counts itself.
pub(super) fn attribute(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// Bytes of a file that are not allocated.
pub(super) fn holes(meta: &crate::sys::at::Meta) -> u64 {
    meta.size.saturating_sub(meta.allocated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn a_file_of_a_terabyte_is_sent_by_what_it_has() {
        let from = tempfile::tempfile().unwrap();
        from.set_len(1 << 40).unwrap();
        from.write_all_at(b"first", 5).unwrap();
        from.write_all_at(b"last", (1 << 40) - 4).unwrap();
        let map = Map::of(&from, 1 << 40).unwrap();
        let mut sent = Vec::new();
        map.sending(&from).read_to_end(&mut sent).unwrap();
        assert_eq!(sent.len() as u64, map.stored());
        assert!(sent.len() < 1 << 17, "{}", sent.len());
        let to: OwnedFd = tempfile::tempfile().unwrap().into();
        assert_eq!(fill(&mut &*sent, (1 << 40, Some(map.stored())), &to).unwrap(), 1 << 40);
        let to = File::from(to);
        assert!(to.metadata().unwrap().blocks() * 512 < 1 << 20);
        assert!(copy::same_content(&from, &to, 1 << 40).unwrap());
        // Cut short it is no file.
        let short: OwnedFd = tempfile::tempfile().unwrap().into();
        assert!(fill(&mut &sent[..sent.len() - 1], (1 << 40, None), &short).is_err());
    }

    #[test]
    fn maps_that_make_no_sense_are_refused_and_cost_nothing() {
        let to: OwnedFd = tempfile::tempfile().unwrap().into();
        let block = |text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            bytes.resize(BLOCK, 0);
            bytes.resize(2 * BLOCK, b'x');
            bytes
        };
        for text in [
            "",
            "x\n",
            "-1\n",
            "1\n",
            "1\n0\n",
            "2\n5\n5\n0\n5\n",
            "2\n0\n5\n4\n5\n",
            "1\n0\n101\n",
            "1\n101\n0\n",
            "1\n18446744073709551615\n18446744073709551615\n",
            "1\n99999999999999999999\n1\n",
            "9999999\n0\n1\n",
            "1\n0x1\n1\n",
            "\n\n\n",
            "1\r\n0\r\n1\r\n",
        ] {
            assert!(fill(&mut &*block(text), (100, None), &to).is_err(), "{text:?}");
        }
        assert!(fill(&mut &*block("0\n"), (u64::MAX, None), &to).is_err(), "longer than a file can be");
        assert!(fill(&mut &*block("1\n0\n100\n"), (100, Some(612)), &to).is_ok());
        assert!(fill(&mut &*block("1\n0\n100\n"), (100, Some(611)), &to).is_err());
    }
}
