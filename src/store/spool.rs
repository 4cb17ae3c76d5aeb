//! The spool: what `aj exec` appends before and after a command. No database is opened for it.
//!
//! One record is one `write` to a file opened with O_APPEND, under a shared lock. The reader that
//! folds the spool into the database (see `fold`) takes the lock exclusively, so it never
//! sees half a record of a live process; halves of dead ones fail their checksum.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::dirfd::{self, open_file};
use super::error::{Error, Result};
use super::frame::{self, Kind};
use super::layout::StateDir;
use super::{fault, lock};
use crate::base::{clock, text};
use crate::monitor::Monitor;
use crate::schema::jail::{End, Excerpt, Start};
use crate::sys::errno;

const NAME: &str = "spool";
const LOCK: &str = "spool.lock";
/// How an append opens the spool: NFS has shared locks only on what is open for reading.
const APPEND: OFlag = OFlag::O_RDWR.union(OFlag::O_APPEND).union(OFlag::O_CREAT);
/// How long a trial waits for others.
const TRY_WAIT: Duration = Duration::from_secs(1);
/// At most this much of what was no record is kept for a person to look at.
const MAX_SET_ASIDE: u64 = 16 << 20;

/// Append a start. To be done before the command runs: when it fails, nothing has been recorded.
///
/// The text, if any, says what was in the place of the spool and had to be set aside for it.
pub fn append_start(state: &StateDir, start: &Start) -> Result<Option<String>> {
    append(state, &encode(Kind::Start, start)?)
}

/// Append an end. When the disk is full it is tried once more without the output excerpts, so that
/// the outcome is recorded if that is at all possible. The text is that of [`append_start`].
pub fn append_end(state: &StateDir, end: &End) -> Result<Option<String>> {
    let first = encode(Kind::End, end).and_then(|frame| append(state, &frame));
    let error = match first {
        Err(error) => error,
        done => return done,
    };
    let full = matches!(error.errno(), Some(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG));
    if !full && !matches!(error, Error::TooLarge { .. }) {
        return Err(error);
    }
    let without = |e: &Excerpt| Excerpt { total: e.total, ..Excerpt::default() };
    let small = End { stdout: without(&end.stdout), stderr: without(&end.stderr), ..end.clone() };
    encode(Kind::End, &small).and_then(|frame| append(state, &frame)).map_err(|_| error)
}

/// Try what an append does, and take it back. The text says what is in the place of the spool and
/// will be set aside by the next run.
pub fn try_append(state: &StateDir) -> Result<Option<String>> {
    let path = state.path().join(NAME);
    let file = match open_regular(state, NAME, APPEND) {
        Ok(file) => file,
        Err(e) => match other_than_file(&path) {
            Some(what) => return Ok(Some(format!("the spool is {what}; the next run sets it aside"))),
            None => return Err(Error::call("open", &path, e)),
        },
    };
    // Alone, so that what is taken back is ours, and not for long: `aj exec` waits for it.
    lock::acquire(&file, lock::Mode::Exclusive, TRY_WAIT, &path)?;
    let io = |call, e: std::io::Error| Error::io(call, &path, &e);
    let len = file.metadata().map_err(|e| io("stat", e))?.len();
    let written = (&file).write_all(&[0; 64]).map_err(|e| io("write", e));
    file.set_len(len).map_err(|e| io("truncate", e))?;
    written.map(|()| None)
}

fn encode<T: serde::Serialize>(kind: Kind, value: &T) -> Result<Vec<u8>> {
    let max = frame::MAX_PAYLOAD;
    frame::encode(kind, value).map_err(Error::Encode)?.ok_or(Error::TooLarge { len: max, max })
}

fn append(state: &StateDir, frame: &[u8]) -> Result<Option<String>> {
    let path = || state.path().join(NAME);
    // Opened anew each time: a kept descriptor would have to be hidden from the jail, and costs more
    // than it saves when the spool has been replaced meanwhile.
    let (mut file, set_aside) = open_or_displace(state, NAME, APPEND)?;
    lock::acquire(&file, lock::Mode::Shared, lock::APPEND_WAIT, &path())?;
    fault::point();
    let written = dirfd::retry(|| (&file).write(frame).map_err(|e| errno(&e)))
        .map_err(|e| Error::call("write", &path(), e))?;
    fault::point();
    if written == frame.len() {
        return Ok(set_aside);
    }
    // With O_APPEND the offset is where our bytes ended, whoever else appends.
    let end = file.stream_position().map_err(|e| Error::io("seek", &path(), &e))?;
    drop(file);
    finish_short_write(state, frame, written, end.saturating_sub(written as u64))?;
    Ok(set_aside)
}

/// A write that ended early (a full disk): take the half back if it is still the last thing in the
/// file, then write the whole once more, alone. What cannot be taken back is skipped by readers.
fn finish_short_write(state: &StateDir, frame: &[u8], written: usize, at: u64) -> Result<()> {
    let path = state.path().join(NAME);
    let file = open_regular(state, NAME, OFlag::O_RDWR).map_err(|e| Error::call("open", &path, e))?;
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
    match open_regular(state, NAME, flags) {
        Ok(file) => Ok(Some(file)),
        Err(Errno::ENOENT) => Ok(None),
        Err(e) => Err(Error::call("open", &state.path().join(NAME), e)),
    }
}

/// Lock the spool against appends.
pub(super) fn lock_exclusively(state: &StateDir, file: &File) -> Result<()> {
    let path = state.path().join(NAME);
    match lock::acquire(file, lock::Mode::Exclusive, lock::read_wait(), &path) {
        // NFS has no such lock on what is open for reading only. Half a record is seen as one.
        Err(e) if e.errno() == Some(Errno::EBADF) => {
            lock::acquire(file, lock::Mode::Shared, lock::read_wait(), &path)
        }
        done => done,
    }
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

/// The lock that at most one folding or repairing reader holds.
pub(super) fn reader_lock(state: &StateDir, monitor: &dyn Monitor) -> Result<File> {
    // Open for writing, without which NFS has no such lock; where nothing can be written it is not needed.
    let opened = match open_or_displace(state, LOCK, OFlag::O_RDWR | OFlag::O_CREAT) {
        Err(e) if matches!(e.errno(), Some(Errno::EROFS | Errno::EACCES)) => {
            open_or_displace(state, LOCK, OFlag::O_RDONLY)
        }
        opened => opened,
    };
    let (file, set_aside) = opened?;
    if let Some(text) = set_aside {
        monitor.warn(&text);
    }
    lock::acquire(&file, lock::Mode::Exclusive, lock::read_wait(), &state.path().join(LOCK))?;
    Ok(file)
}

/// Open a file of the store that is nothing but a file. Whoever can write here can put anything in its
/// place: a link is not followed, and a FIFO, on which an open waits for ever, is ENXIO.
fn open_regular(state: &StateDir, name: &str, flags: OFlag) -> Result<File, Errno> {
    let file = open_file(state, name, flags | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)?;
    match file.metadata() {
        Ok(meta) if meta.is_file() => Ok(file),
        Ok(_) => Err(Errno::ENXIO),
        Err(e) => Err(errno(&e)),
    }
}

/// The same; what is no file is moved out of the way. The text says so.
fn open_or_displace(state: &StateDir, name: &str, flags: OFlag) -> Result<(File, Option<String>)> {
    if let Ok(file) = open_regular(state, name, flags) {
        return Ok((file, None));
    }
    let set_aside = displace(state, name)?;
    // Also when nothing was: another process may have done it just now.
    let file = open_regular(state, name, flags);
    Ok((file.map_err(|e| Error::call("open", &state.path().join(name), e))?, set_aside))
}

/// Move the spool away when it is no file; the text says so.
pub(super) fn displace_spool(state: &StateDir) -> Result<Option<String>> {
    displace(state, NAME)
}

fn displace(state: &StateDir, name: &str) -> Result<Option<String>> {
    let path = state.path().join(name);
    if other_than_file(&path).is_none() {
        return Ok(None);
    }
    // Under a lock, and looked at again: what another process has put there since must not be moved.
    let dir = open_file(state, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY)
        .map_err(|e| Error::call("open", state.path(), e))?;
    lock::acquire(&dir, lock::Mode::Exclusive, lock::APPEND_WAIT, state.path())?;
    let Some(what) = other_than_file(&path) else { return Ok(None) };
    let new = state.path().join(format!("{name}.bad-{}", clock::now_ms()));
    std::fs::rename(&path, &new).map_err(|e| Error::io("rename", &path, &e))?;
    Ok(Some(format!("`{}` was {what}; set aside as `{}`", text::os(&path), text::os(&new))))
}

fn other_than_file(path: &Path) -> Option<&'static str> {
    let kind = std::fs::symlink_metadata(path).ok()?.file_type();
    let known = [
        (kind.is_dir(), "a directory"),
        (kind.is_symlink(), "a symbolic link"),
        (kind.is_fifo(), "a FIFO"),
        (kind.is_socket(), "a socket"),
    ];
    let named = known.into_iter().find(|(is, _)| *is).map_or("a device", |(_, name)| name);
    (!kind.is_file()).then_some(named)
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
    fn what_is_no_file_is_set_aside_and_a_link_is_not_followed() {
        let (dir, state) = state();
        let victim = dir.path().join("victim");
        fs::write(&victim, "mine").unwrap();
        let path = state.path().join(NAME);
        let put: [(&str, &dyn Fn()); 5] = [
            ("a symbolic link", &|| std::os::unix::fs::symlink(&victim, &path).unwrap()),
            ("a symbolic link", &|| std::os::unix::fs::symlink("/nowhere", &path).unwrap()),
            ("a directory", &|| fs::create_dir(&path).unwrap()),
            // Opening one for writing waits until somebody reads.
            ("a FIFO", &|| nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap()),
            ("a socket", &|| drop(std::os::unix::net::UnixListener::bind(&path).unwrap())),
        ];
        for (what, put) in put {
            put();
            let trial = try_append(&state).unwrap().unwrap();
            assert_eq!(trial, format!("the spool is {what}; the next run sets it aside"));
            assert!(!fs::symlink_metadata(&path).unwrap().is_file(), "a trial moves nothing");
            let said = append_start(&state, &start(id(), &["x"])).unwrap().unwrap();
            assert!(said.contains(&format!("/spool` was {what}; set aside as `")), "{said}");
            assert_eq!(append_start(&state, &start(id(), &["y"])).unwrap(), None);
            assert_eq!(whole(&state).len(), 2);
            fs::remove_file(&path).unwrap();
            // Two in one millisecond would be given one name.
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(fs::read(&victim).unwrap(), b"mine");
        // A FIFO that somebody reads opens at once.
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let reader = File::options().read(true).write(true).open(&path).unwrap();
        assert!(append_start(&state, &start(id(), &["x"])).unwrap().unwrap().contains("a FIFO"));
        drop(reader);
    }

    #[test]
    fn a_trial_appends_and_leaves_no_record() {
        let (_dir, state) = state();
        let path = state.path().join(NAME);
        assert_eq!(try_append(&state).unwrap(), None);
        assert_eq!(fs::read(&path).unwrap(), b"");
        append_start(&state, &start(id(), &["x"])).unwrap();
        let before = fs::read(&path).unwrap();
        assert_eq!(try_append(&state).unwrap(), None);
        assert_eq!(fs::read(&path).unwrap(), before);
        if !nix::unistd::geteuid().is_root() {
            let readable = std::os::unix::fs::PermissionsExt::from_mode(0o400);
            fs::set_permissions(&path, readable).unwrap();
            let e = try_append(&state).unwrap_err();
            assert_eq!(e.errno(), Some(Errno::EACCES), "{e}");
        }
    }

    #[test]
    fn many_processes_that_find_it_displaced_lose_no_record() {
        let (_dir, state) = state();
        for round in 0..20 {
            fs::create_dir(state.path().join(NAME)).unwrap();
            let said: Vec<_> = std::thread::scope(|s| {
                let one = || append_start(&state, &start(id(), &["x"])).unwrap();
                let all: Vec<_> = (0..4).map(|_| s.spawn(one)).collect();
                all.into_iter().filter_map(|t| t.join().unwrap()).collect()
            });
            assert_eq!((said.len(), whole(&state).len()), (1, 4), "round {round}: {said:?}");
            fs::remove_file(state.path().join(NAME)).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
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
            match append_start(&state, &start(e.id, &["x"])).and_then(|_| append_end(&state, &e)) {
                Ok(_) => appended += 1,
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
