//! The spool: what `aj exec` appends before and after a command. No database is opened for it.
//!
//! One record is one `write` to a file opened with O_APPEND, under a shared lock. The reader that
//! folds the spool into the database (see `fold`) takes the lock exclusively, so it never
//! sees half a record of a live process; halves of dead ones fail their checksum.

use std::ffi::CString;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::dirfd::{self, errno, open_file};
use super::error::{Error, Result};
use super::frame::{self, Kind};
use super::layout::StateDir;
use super::lock;
use crate::base::clock;
use crate::schema::jail::{End, Excerpt, Start};

const NAME: &str = "spool";
/// At most this much of what was no record is kept for a person to look at.
const MAX_SET_ASIDE: u64 = 16 << 20;

/// Append a start. To be done before the command runs: when it fails, nothing has been recorded.
pub fn append_start(state: &StateDir, start: &Start) -> Result<()> {
    append(state, &encode(Kind::Start, start)?)
}

/// Append an end. When the disk is full it is tried once more without the output excerpts, so that
/// the outcome is recorded if that is at all possible.
pub fn append_end(state: &StateDir, end: &End) -> Result<()> {
    let first = encode(Kind::End, end).and_then(|frame| append(state, &frame));
    let Err(error) = first else { return Ok(()) };
    let full = matches!(error.errno(), Some(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG));
    if !full && !matches!(error, Error::TooLarge { .. }) {
        return Err(error);
    }
    let without = |e: &Excerpt| Excerpt { total: e.total, ..Excerpt::default() };
    let small = End { stdout: without(&end.stdout), stderr: without(&end.stderr), ..end.clone() };
    encode(Kind::End, &small).and_then(|frame| append(state, &frame)).map_err(|_| error)
}

fn encode<T: serde::Serialize>(kind: Kind, value: &T) -> Result<Vec<u8>> {
    let max = frame::MAX_PAYLOAD;
    frame::encode(kind, value).map_err(Error::Encode)?.ok_or(Error::TooLarge { len: max, max })
}

fn append(state: &StateDir, frame: &[u8]) -> Result<()> {
    let path = || state.path().join(NAME);
    // Opened anew each time: a kept descriptor would have to be hidden from the jail, and costs more
    // than it saves when the spool has been replaced meanwhile.
    let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT;
    let mut file = open_file(state, NAME, flags).map_err(|e| Error::call("open", &path(), e))?;
    lock::acquire(&file, lock::Mode::Shared, lock::APPEND_WAIT, &path())?;
    let written = dirfd::retry(|| (&file).write(frame).map_err(|e| errno(&e)))
        .map_err(|e| Error::call("write", &path(), e))?;
    if written == frame.len() {
        return Ok(());
    }
    // With O_APPEND the offset is where our bytes ended, whoever else appends.
    let end = file.stream_position().map_err(|e| Error::io("seek", &path(), &e))?;
    drop(file);
    finish_short_write(state, frame, written, end.saturating_sub(written as u64))
}

/// A write that ended early (a full disk): take the half back if it is still the last thing in the
/// file, then write the whole once more, alone. What cannot be taken back is skipped by readers.
fn finish_short_write(state: &StateDir, frame: &[u8], written: usize, at: u64) -> Result<()> {
    let path = state.path().join(NAME);
    let file = open_file(state, NAME, OFlag::O_RDWR).map_err(|e| Error::call("open", &path, e))?;
    lock::acquire(&file, lock::Mode::Exclusive, lock::APPEND_WAIT, &path)?;
    let io = |call, e: std::io::Error| Error::io(call, &path, &e);
    let mut len = file.metadata().map_err(|e| io("stat", e))?.len();
    if len == at + written as u64 {
        let mut there = vec![0; written];
        file.read_exact_at(&mut there, at).map_err(|e| io("read", e))?;
        if there == frame[..written] {
            file.set_len(at).map_err(|e| io("truncate", e))?;
            len = at;
        }
    }
    file.write_all_at(frame, len).map_err(|e| {
        // Half a record again: gone, or skipped by readers.
        drop(file.set_len(len));
        io("write", e)
    })
}

/// The spool, for reading and emptying; `None` when there is none. Not locked yet.
pub(super) fn open(state: &StateDir, writable: bool) -> Result<Option<File>> {
    let flags = if writable { OFlag::O_RDWR } else { OFlag::O_RDONLY };
    match open_file(state, NAME, flags | OFlag::O_NONBLOCK) {
        Ok(file) => Ok(Some(file)),
        Err(Errno::ENOENT) => Ok(None),
        Err(e) => Err(Error::call("open", &state.path().join(NAME), e)),
    }
}

/// Lock the spool against appends.
pub(super) fn lock_exclusively(state: &StateDir, file: &File) -> Result<()> {
    lock::acquire(file, lock::Mode::Exclusive, lock::read_wait(), &state.path().join(NAME))
}

/// Copy the ranges that are no records into `spool.bad-MS`; returns its name.
pub(super) fn set_aside(state: &StateDir, spool: &File, ranges: &[(u64, u64)]) -> Result<String> {
    let name = format!("{NAME}.bad-{}", clock::now_ms());
    let path = state.path().join(&name);
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND;
    let mut out = open_file(state, &name, flags).map_err(|e| Error::call("open", &path, e))?;
    let mut left = MAX_SET_ASIDE;
    let mut buf = vec![0; 64 << 10];
    for &(mut at, len) in ranges {
        let end = at + len.min(left);
        left -= len.min(left);
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(buf.len()).min(buf.len());
            let got = spool.read_at(&mut buf[..want], at).map_err(|e| Error::io("read", &path, &e))?;
            if got == 0 {
                break;
            }
            out.write_all(&buf[..got]).map_err(|e| Error::io("write", &path, &e))?;
            at += got as u64;
        }
    }
    Ok(name)
}

/// Move the spool away when it is something that cannot be a spool (a directory, a link, a device);
/// returns the new name.
pub(super) fn displace(state: &StateDir) -> Result<Option<String>> {
    let path = state.path().join(NAME);
    match std::fs::symlink_metadata(&path) {
        Ok(meta) if !meta.is_file() => {
            let name = format!("{NAME}.bad-{}", clock::now_ms());
            std::fs::rename(&path, state.path().join(&name)).map_err(|e| Error::io("rename", &path, &e))?;
            Ok(Some(name))
        }
        _ => Ok(None),
    }
}

/// The lock that at most one folding or repairing reader holds.
pub(super) fn reader_lock(state: &StateDir) -> Result<File> {
    let name = CString::from(c"spool.lock");
    let path = state.path().join("spool.lock");
    let flags = OFlag::O_RDONLY | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(state, name.as_c_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)
        .map(File::from)
        .map_err(|e| Error::call("open", &path, e))?;
    lock::acquire(&file, lock::Mode::Exclusive, lock::read_wait(), &path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{end, id, start, state};
    use super::*;
    use std::fs;

    fn whole(state: &StateDir) -> Vec<Vec<u8>> {
        let file = open(state, false).unwrap().unwrap();
        let mut scanner = frame::Scanner::new(&file, 0, file.metadata().unwrap().len());
        let mut out = Vec::new();
        while let Some(item) = scanner.next().unwrap() {
            if let frame::Item::Frame { payload, .. } = item {
                out.push(payload);
            }
        }
        out
    }

    #[test]
    fn a_short_write_is_taken_back_and_written_whole() {
        let (_dir, state) = state();
        let path = state.path().join(NAME);
        append_start(&state, &start(id(), &["first"])).unwrap();
        let at = fs::metadata(&path).unwrap().len();
        let frame = encode(Kind::End, &end(id(), 0)).unwrap();
        for written in [1, 19, 20, 21, frame.len() - 1] {
            let mut bytes = fs::read(&path).unwrap()[..at as usize].to_vec();
            bytes.extend_from_slice(&frame[..written]);
            fs::write(&path, &bytes).unwrap();
            finish_short_write(&state, &frame, written, at).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().len(), at + frame.len() as u64, "no half is left");
            assert_eq!(whole(&state).len(), 2);
        }
    }

    #[test]
    fn a_short_write_that_others_appended_behind_or_folded_away_harms_nobody() {
        let (_dir, state) = state();
        let path = state.path().join(NAME);
        let frame = encode(Kind::End, &end(id(), 0)).unwrap();
        fs::write(&path, &frame[..30]).unwrap();
        append_start(&state, &start(id(), &["behind"])).unwrap();
        finish_short_write(&state, &frame, 30, 0).unwrap();
        assert_eq!(whole(&state).len(), 2);
        // A reader emptied the spool, and another record happens to end where the half did.
        fs::write(&path, b"").unwrap();
        append_start(&state, &start(id(), &["new"])).unwrap();
        let len = fs::metadata(&path).unwrap().len();
        finish_short_write(&state, &frame, 30, len - 30).unwrap();
        assert_eq!(whole(&state).len(), 2);
    }

    #[test]
    fn a_link_in_place_of_the_spool_is_not_followed() {
        let (dir, state) = state();
        let victim = dir.path().join("victim");
        fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, state.path().join(NAME)).unwrap();
        let e = append_start(&state, &start(id(), &["x"])).unwrap_err();
        assert_eq!(e.errno(), Some(Errno::ELOOP), "{e}");
        assert_eq!(fs::read(&victim).unwrap(), b"mine");
    }

    #[test]
    fn two_megabytes_of_arguments_are_recorded() {
        let (_dir, state) = state();
        let arg = "\u{1b}".repeat(2 << 20);
        append_start(&state, &start(id(), &[&arg])).unwrap();
        assert_eq!(whole(&state).len(), 1);
    }

    /// Needs a file system that can be filled: a small tmpfs, which only real root can mount.
    #[test]
    fn a_full_disk_is_an_error_and_leaves_no_half() {
        use nix::mount::{MntFlags, MsFlags, mount, umount2};
        let dir = tempfile::tempdir().unwrap();
        let none: Option<&str> = None;
        if let Err(e) = mount(none, dir.path(), Some("tmpfs"), MsFlags::empty(), Some("size=256k,mode=0700"))
        {
            eprintln!("SKIP: cannot mount a small tmpfs ({e})");
            return;
        }
        let state = StateDir::open_at(&dir.path().join("state")).unwrap();
        fs::write(state.path().join("cache"), vec![0; 100 << 10]).unwrap();
        let mut appended = 0;
        let error = loop {
            let mut e = end(id(), 0);
            e.stdout.head = vec![b'x'; 20 << 10];
            e.stdout.tail = vec![b'y'; 1000];
            match append_start(&state, &start(e.id, &["x"])).and_then(|()| append_end(&state, &e)) {
                Ok(()) => appended += 1,
                Err(e) => break e,
            }
            assert!(appended < 1000, "never full");
        };
        let records = whole(&state).len();
        let last: crate::schema::jail::End =
            whole(&state).iter().rev().find_map(|p| serde_json::from_slice(p).ok()).unwrap();
        let folded = super::super::ledger::read(&state, &crate::monitor::Silent, |l| {
            l.list(&super::super::ledger::Filter::default())
        });
        umount2(dir.path(), MntFlags::MNT_DETACH).unwrap();
        assert_eq!(error.errno(), Some(Errno::ENOSPC), "{error}");
        assert!(error.to_string().contains("ENOSPC") && error.to_string().contains("spool"), "{error}");
        assert!(records >= 2 * appended && records <= 2 * appended + 1, "{records} of {appended} runs");
        assert!(last.stdout.head.is_empty() && last.stdout.total == 6, "the last ones without excerpts");
        assert!(folded.unwrap().len() >= appended, "a full disk can still be read");
    }
}
