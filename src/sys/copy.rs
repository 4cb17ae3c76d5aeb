//! Copying and reading file content: reflink where the file system can, holes kept.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::unistd::{Whence, ftruncate, lseek};

use super::{Error, Result};

const BLOCK: usize = 128 * 1024;

/// Copy all of `from` (`size` bytes long) to the empty file `to`.
///
/// Tries a reflink, then `copy_file_range`, then reads and writes. Holes stay holes, so a sparse file
/// of any length costs what it has allocated.
pub fn file(from: impl AsFd, to: impl AsFd, size: u64) -> Result<()> {
    if reflink(&from, &to) { Ok(()) } else { data(from, to, size) }
}

/// Let the empty file `to` share the blocks of `from`, however large it is. Whether the file system can.
pub fn reflink(from: impl AsFd, to: impl AsFd) -> bool {
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    // SAFETY: FICLONE takes a descriptor number; both descriptors are open for the whole call.
    unsafe { libc::ioctl(to, libc::FICLONE as _, from) == 0 }
}

/// As [`file()`], without the attempt at a reflink.
pub fn data(from: impl AsFd, to: impl AsFd, size: u64) -> Result<()> {
    let (from, to) = (from.as_fd(), to.as_fd());
    ftruncate(to, offset(size)?).map_err(|e| Error::new("ftruncate", "", e))?;
    let mut ranged = true;
    let mut at = 0;
    while let Some((start, end)) = next_data(from, at, size)? {
        let mut at_in = offset(start)?;
        while (at_in as u64) < end {
            let left = (end - at_in as u64).min(1 << 30) as usize;
            if ranged {
                match copy_range(from, to, &mut at_in, left) {
                    // Shorter than when it was measured, or a file system that cannot tell.
                    Ok(0) => ranged = false,
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(Errno::EXDEV | Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::EPERM) => {
                        ranged = false;
                    }
                    Err(e) => return Err(Error::new("copy_file_range", "", e)),
                }
            } else {
                let mut block = vec![0u8; left.min(BLOCK)];
                let n = read_at(from, &mut block, at_in as u64)?;
                if n == 0 {
                    return Ok(());
                }
                write_at(to, &block[..n], at_in as u64)?;
                at_in += offset(n as u64)?;
            }
        }
        at = end;
    }
    Ok(())
}

/// Write all of `bytes` to the empty file `to`.
pub fn bytes(bytes: &[u8], to: impl AsFd) -> Result<()> {
    write_at(to.as_fd(), bytes, 0)
}

fn copy_range(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    at: &mut i64,
    len: usize,
) -> std::result::Result<usize, Errno> {
    let mut out = *at;
    let (a, b) = (from.as_raw_fd(), to.as_raw_fd());
    // SAFETY: both offsets are writable and outlive the call; both descriptors are open.
    let n = unsafe { libc::copy_file_range(a, &raw mut *at, b, &raw mut out, len, 0) };
    Errno::result(n).map(|n| n as usize)
}

/// Whether two files of `size` bytes hold the same bytes. Holes are not read.
pub fn same_content(a: impl AsFd, b: impl AsFd, size: u64) -> Result<bool> {
    let (a, b) = (a.as_fd(), b.as_fd());
    let (mut x, mut y) = (vec![0u8; BLOCK], vec![0u8; BLOCK]);
    let mut at = 0;
    while at < size {
        let data = [next_data(a, at, size)?, next_data(b, at, size)?];
        let Some(start) = data.iter().flatten().map(|d| d.0).min() else { return Ok(true) };
        at = start;
        let want = (size - at).min(BLOCK as u64) as usize;
        let (n, m) = (read_at(a, &mut x[..want], at)?, read_at(b, &mut y[..want], at)?);
        if n != m || x[..n] != y[..m] {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
        at += n as u64;
    }
    Ok(true)
}

/// The content of a file, `None` when it is longer than `limit`.
pub fn read_all(fd: impl AsFd, limit: usize) -> Result<Option<Vec<u8>>> {
    let mut out = Vec::new();
    let mut block = vec![0u8; BLOCK.min(limit + 1)];
    loop {
        let n = read_at(fd.as_fd(), &mut block, out.len() as u64)?;
        if n == 0 {
            return Ok(Some(out));
        }
        out.extend_from_slice(&block[..n]);
        if out.len() > limit {
            return Ok(None);
        }
    }
}

/// The next range of data at or after `at`, never beyond `size`. Without hole support: all of it.
fn next_data(fd: BorrowedFd<'_>, at: u64, size: u64) -> Result<Option<(u64, u64)>> {
    if at >= size {
        return Ok(None);
    }
    let start = match lseek(fd, offset(at)?, Whence::SeekData) {
        Ok(start) => start as u64,
        Err(Errno::ENXIO) => return Ok(None),
        Err(Errno::EINVAL) => return Ok(Some((at, size))),
        Err(e) => return Err(Error::new("lseek", "", e)),
    };
    if start >= size {
        return Ok(None);
    }
    let end = match lseek(fd, offset(start)?, Whence::SeekHole) {
        Ok(end) => (end as u64).min(size),
        Err(_) => size,
    };
    Ok(Some((start, end.max(start + 1))))
}

/// The ranges of data of a file, as beginning and end, below `size`: found one by one, as they are asked for.
#[derive(Debug)]
pub struct Pieces<'a> {
    fd: BorrowedFd<'a>,
    at: u64,
    size: u64,
}

impl<'a> Pieces<'a> {
    /// Of an open file.
    pub fn of(fd: BorrowedFd<'a>, size: u64) -> Pieces<'a> {
        Pieces { fd, at: 0, size }
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<(u64, u64)>;

    fn next(&mut self) -> Option<Result<(u64, u64)>> {
        let next = next_data(self.fd, self.at, self.size).transpose()?;
        self.at = next.as_ref().map_or(self.size, |(_, end)| *end);
        Some(next)
    }
}

/// Read what one call gives at a place, 0 at the end of the file.
pub fn read_some(fd: BorrowedFd<'_>, into: &mut [u8], at: u64) -> std::io::Result<usize> {
    let at = i64::try_from(at).map_err(|_| std::io::Error::from(Errno::EOVERFLOW))?;
    loop {
        match nix::sys::uio::pread(fd, into, at) {
            Err(Errno::EINTR) => {}
            done => return done.map_err(std::io::Error::from),
        }
    }
}

fn read_at(fd: BorrowedFd<'_>, buffer: &mut [u8], at: u64) -> Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match nix::sys::uio::pread(fd, &mut buffer[done..], offset(at + done as u64)?) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(Errno::EINTR) => {}
            Err(e) => return Err(Error::new("read", "", e)),
        }
    }
    Ok(done)
}

fn write_at(fd: BorrowedFd<'_>, mut bytes: &[u8], mut at: u64) -> Result<()> {
    while !bytes.is_empty() {
        match nix::sys::uio::pwrite(fd, bytes, offset(at)?) {
            Ok(n) => {
                bytes = &bytes[n..];
                at += n as u64;
            }
            Err(Errno::EINTR) => {}
            Err(e) => return Err(Error::new("write", "", e)),
        }
    }
    Ok(())
}

fn offset(n: u64) -> Result<i64> {
    i64::try_from(n).map_err(|_| Error::new("offset", "", Errno::EOVERFLOW))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, SeekFrom, Write};
    use std::os::unix::fs::MetadataExt;

    fn sparse(len: u64, at: u64, data: &[u8]) -> std::fs::File {
        let mut f = tempfile::tempfile().unwrap();
        f.set_len(len).unwrap();
        f.seek(SeekFrom::Start(at)).unwrap();
        f.write_all(data).unwrap();
        f
    }

    #[test]
    fn holes_survive_a_copy_and_a_huge_sparse_file_costs_nothing() {
        let len = 1 << 40;
        let from = sparse(len, 1 << 30, b"island");
        let to = tempfile::tempfile().unwrap();
        file(&from, &to, len).unwrap();
        let m = to.metadata().unwrap();
        assert_eq!(m.len(), len);
        assert!(m.blocks() * 512 < 1 << 20, "{} blocks", m.blocks());
        assert!(same_content(&from, &to, len).unwrap());
        let mut text = [0; 6];
        nix::sys::uio::pread(&to, &mut text, 1 << 30).unwrap();
        assert_eq!(&text, b"island");
    }

    #[test]
    fn one_byte_makes_files_differ_also_behind_a_hole() {
        let a = sparse(1 << 34, 1 << 33, b"a");
        let b = sparse(1 << 34, 1 << 33, b"b");
        let zero = sparse(1 << 34, 5, b"\0\0");
        let none = sparse(1 << 34, 0, b"");
        assert!(!same_content(&a, &b, 1 << 34).unwrap());
        assert!(!same_content(&a, &none, 1 << 34).unwrap());
        assert!(same_content(&zero, &none, 1 << 34).unwrap(), "written zeros equal a hole");
    }

    #[test]
    fn plain_content_is_copied_in_full() {
        let text: Vec<u8> = (0..700_000u32).flat_map(u32::to_le_bytes).collect();
        let from = sparse(0, 0, &text);
        let mut to = tempfile::tempfile().unwrap();
        file(&from, &to, text.len() as u64).unwrap();
        let mut back = Vec::new();
        to.rewind().unwrap();
        to.read_to_end(&mut back).unwrap();
        assert!(back == text);
        assert_eq!(read_all(&from, text.len()).unwrap().as_deref(), Some(&text[..]));
        assert_eq!(read_all(&from, text.len() - 1).unwrap(), None);
    }
}
