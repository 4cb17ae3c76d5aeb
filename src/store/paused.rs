//! Which jails are paused, and for how long each has been: one small file a jail in `paused`.
//!
//! Written by `aj pause` and `aj resume`; the supervisor of a jail reads it only when the jail's time is
//! up, or when it was killed and is still there.

use std::fs::File;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::UnlinkatFlags;

use super::atomic::{self, Durability};
use super::error::{Error, Result};
use super::layout::StateDir;
use super::{alive, dirfd, fault, lock};
use crate::base::clock;
use crate::base::id::Id;

const DIR: &str = "paused";
const HEAD: &str = "aj-paused 1";
/// Bytes of a file at most: a path of a group is the longest part.
const LIMIT: u64 = 16 * 1024;

/// How a jail is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// `cgroup.freeze` of this group of cgroup v2.
    Freeze(String),
    /// `freezer.state` of this group of cgroup v1.
    Freezer(String),
    /// SIGSTOP to each of its processes.
    Signal,
}

impl How {
    /// As shown.
    pub fn name(&self) -> &'static str {
        match self {
            How::Freeze(_) => "cgroup.freeze",
            How::Freezer(_) => "freezer",
            How::Signal => "SIGSTOP",
        }
    }
}

/// The record of one jail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paused {
    /// The boot that the times belong to.
    pub boot: String,
    /// How it is held, or was last.
    pub how: How,
    /// Since when it is held, by the monotonic clock; `None` while it runs.
    pub since_ms: Option<u64>,
    /// Time that earlier pauses took.
    pub total_ms: u64,
    /// It goes on in a moment, by itself: whoever wants something of it waits.
    pub brief: bool,
}

impl Paused {
    /// The record of a jail; `None` when it was never paused in this boot, or cannot be told.
    pub fn read(state: &StateDir, id: Id) -> Option<Paused> {
        let bytes = atomic::read(state, &format!("{DIR}/{id}"), LIMIT).ok().flatten()?;
        let paused = Paused::parse(std::str::from_utf8(&bytes).ok()?)?;
        (alive::boot_id().as_deref() == Some(&*paused.boot)).then_some(paused)
    }

    /// Write it.
    pub fn write(&self, state: &StateDir, id: Id) -> Result<()> {
        let dir = state.subdir(DIR)?;
        fault::point();
        atomic::write(dir, id.as_str(), self.print().as_bytes(), Durability::Cache)
            .map_err(|e| Error::call("write", &state.path().join(DIR).join(id.as_str()), e))
    }

    /// Put it in the place of a longer one, for which a full disk has room: the length stays as it is.
    pub fn overwrite(&self, state: &StateDir, id: Id) -> Result<()> {
        use std::os::unix::fs::{FileExt, OpenOptionsExt};
        let path = state.path().join(DIR).join(id.as_str());
        let put = || -> std::io::Result<()> {
            let file = File::options().write(true).custom_flags(nix::libc::O_NOFOLLOW).open(&path)?;
            let (before, after) = (file.metadata()?.len(), self.print());
            let pad = usize::try_from(before).ok().and_then(|n| n.checked_sub(after.len()));
            let pad = "0".repeat(pad.filter(|n| *n <= 64).ok_or(Errno::EFBIG)?);
            file.write_all_at(after.replacen("\ntotal ", &format!("\ntotal {pad}"), 1).as_bytes(), 0)
        };
        put().map_err(|e| Error::call("write", &path, crate::sys::errno(&e)))
    }

    /// How long it has been paused in all, until now.
    pub fn so_far(&self) -> Duration {
        let now = self.since_ms.map_or(0, |since| clock::monotonic_ms().saturating_sub(since));
        Duration::from_millis(self.total_ms.saturating_add(now))
    }

    fn print(&self) -> String {
        let mut text = format!("{HEAD}\nboot {}\ntotal {}\n", self.boot, self.total_ms);
        if let Some(since) = self.since_ms {
            text.push_str(&format!("since {since}\n"));
        }
        if self.brief {
            text.push_str("brief -\n");
        }
        text.push_str(&match &self.how {
            How::Freeze(group) => format!("freeze {group}\n"),
            How::Freezer(group) => format!("freezer {group}\n"),
            How::Signal => "signal -\n".to_owned(),
        });
        text
    }

    fn parse(text: &str) -> Option<Paused> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        if lines.next() != Some(HEAD) {
            return None;
        }
        let (mut boot, mut how, mut since_ms, mut total_ms) = (String::new(), None, None, 0);
        let mut brief = false;
        for line in lines {
            match line.split_once(' ')? {
                ("boot", id) => boot = id.to_owned(),
                ("total", ms) => total_ms = ms.parse().ok()?,
                ("since", ms) => since_ms = Some(ms.parse().ok()?),
                ("brief", _) => brief = true,
                ("freeze", group) => how = Some(How::Freeze(group.to_owned())),
                ("freezer", group) => how = Some(How::Freezer(group.to_owned())),
                ("signal", _) => how = Some(How::Signal),
                _ => {}
            }
        }
        Some(Paused { boot, how: how?, since_ms, total_ms, brief })
    }
}

/// Whoever pauses or resumes holds this; a reader needs nothing.
pub fn turn(state: &StateDir) -> Result<File> {
    let dir = state.subdir(DIR)?;
    lock::acquire(&dir, lock::Mode::Exclusive, lock::APPEND_WAIT, &state.path().join(DIR))?;
    Ok(dir)
}

/// This process was forked off to undo a pause when the other one is killed: a test that does that spares it.
pub fn guards() {
    fault::spare();
}

/// Jails with a record, whatever it says.
pub fn all(state: &StateDir) -> Vec<Id> {
    let Ok(dir) = dirfd::open_dir(state, c"paused") else { return Vec::new() };
    let names = dirfd::names(&dir).unwrap_or_default();
    names.iter().filter_map(|name| name.to_str().ok()?.parse().ok()).collect()
}

/// Remove the record of a jail, which has ended or goes on.
pub fn forget(state: &StateDir, id: Id) -> std::result::Result<(), Errno> {
    let path = std::ffi::CString::new(format!("{DIR}/{id}")).map_err(|_| Errno::EINVAL)?;
    dirfd::unlink(state, &path, UnlinkatFlags::NoRemoveDir)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{id, state};
    use super::*;

    #[test]
    fn a_record_is_read_back_and_of_another_boot_it_is_none() {
        let (_dir, state) = state();
        let (id, boot) = (id(), alive::boot_id().unwrap());
        assert_eq!((Paused::read(&state, id), all(&state)), (None, vec![]));
        for how in [How::Freeze("/a b".into()), How::Freezer("/x".into()), How::Signal] {
            let paused = Paused { boot: boot.clone(), how, since_ms: Some(7), total_ms: 5, brief: true };
            paused.write(&state, id).unwrap();
            assert_eq!(Paused::read(&state, id), Some(paused.clone()));
            Paused { boot: "another".into(), ..paused }.write(&state, id).unwrap();
            assert_eq!(Paused::read(&state, id), None);
        }
        assert_eq!(all(&state), [id]);
        forget(&state, id).unwrap();
        forget(&state, id).unwrap();
        assert_eq!(all(&state), []);
        for bad in
            ["", "aj-paused 1\n", "aj-paused 1\nboot x\nsince y\nsignal -\n", "aj-paused 2\nsignal -\n"]
        {
            assert_eq!(Paused::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_record_takes_the_place_of_a_longer_one() {
        let (_dir, state) = state();
        let id = id();
        let how = How::Freezer("/sys/fs/cgroup/freezer/x".to_owned());
        let boot = alive::boot_id().unwrap();
        let held = Paused { boot, how, since_ms: Some(1_234_567), total_ms: 0, brief: true };
        let goes_on = Paused { since_ms: None, total_ms: 98_765, brief: false, ..held.clone() };
        assert!(goes_on.overwrite(&state, id).is_err(), "there is none");
        held.write(&state, id).unwrap();
        goes_on.overwrite(&state, id).unwrap();
        assert_eq!(Paused::read(&state, id), Some(goes_on));
        assert!(held.overwrite(&state, id).is_ok(), "as long as before");
        let longer = Paused { how: How::Freezer("/sys/fs/cgroup/freezer/longer".to_owned()), ..held.clone() };
        assert!(longer.overwrite(&state, id).is_err());
        assert_eq!(Paused::read(&state, id), Some(held));
    }

    #[test]
    fn pauses_add_up_and_the_one_at_hand_counts() {
        let paused =
            Paused { boot: String::new(), how: How::Signal, since_ms: None, total_ms: 1500, brief: false };
        assert_eq!(paused.so_far(), Duration::from_millis(1500));
        let since = clock::monotonic_ms().saturating_sub(60_000);
        let held = Paused { since_ms: Some(since), ..paused }.so_far();
        assert!((61_500..70_000).contains(&held.as_millis()), "{held:?}");
    }
}
