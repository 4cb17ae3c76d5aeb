//! What may lie in the state directory beside what is in use: leftovers of killed processes, files that were
//! set aside, and names that nobody knows. What takes a look here changes nothing; what is removed is removed
//! by name, and only what is ours by its name and by its lock.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::UnlinkatFlags;

use super::dirfd::{self, open_file};
use super::error::{Error, Result};
use super::layout::StateDir;
use super::remove::remove_dir_while;
use super::{alive, fault, lock};
use crate::base::clock;
use crate::base::id::{Id, Kind};
use crate::base::text;

/// What is half made is looked at by nobody else for so long: between its making and its lock.
const MAKING: Duration = Duration::from_secs(5);
/// A small file that was being written is its writer's for so long, if that cannot be told.
const WRITING: Duration = Duration::from_secs(3600);
/// Files of the state directory itself, and directories in it.
const KNOWN: [&str; 15] = [
    "version",
    "spool",
    "spool.lock",
    "ledger.db",
    "ledger.db-wal",
    "ledger.db-shm",
    "ledger.db-journal",
    "trees",
    "jobs",
    "workspaces",
    "layers",
    "volumes",
    "keep.lock",
    "cache",
    "paused",
];

/// The turn of one process among those that clean up, until it is dropped. `None`: another one has it.
pub fn take_turn(state: &StateDir, wait: Duration) -> Result<Option<File>> {
    // Of the directory itself: a full disk may have no room for a file to lock.
    let dir = open_file(state, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY);
    let dir = dir.map_err(|e| Error::call("open", state.path(), e))?;
    match lock::acquire(&dir, lock::Mode::Exclusive, wait, state.path()) {
        Ok(()) => Ok(Some(dir)),
        Err(Error::Busy { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

fn open_dir(parent: impl AsFd, name: &str) -> Option<File> {
    open_file(parent, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY).ok()
}

fn names(dir: &File) -> Vec<CString> {
    dirfd::names(dir).unwrap_or_default()
}

/// A directory that a killed process left half made or half removed, with the lock that keeps others from it.
#[derive(Debug)]
pub struct Leftover {
    within: &'static str,
    name: CString,
    dir: Option<File>,
    _lock: Option<File>,
}

impl Leftover {
    /// Below the state directory, printable.
    pub fn shown(&self) -> String {
        format!("{}/{}", self.within, text::printable(self.name.to_bytes()))
    }

    /// The open directory.
    pub fn dir(&self) -> Option<&File> {
        self.dir.as_ref()
    }

    /// Remove it, as long as `go_on`, asked for each entry, says yes. `false`: it said no, and a part is left.
    pub fn remove(self, state: &StateDir, go_on: &mut dyn FnMut() -> bool) -> Result<bool> {
        fault::point();
        remove_dir_while(&state.subdir(self.within)?, &self.name, &state.path().join(self.within), go_on)
    }
}

/// All of them, but for those in `trees`, which `sweep` knows.
pub fn leftovers(state: &StateDir) -> Vec<Leftover> {
    let mut found = Vec::new();
    for within in ["workspaces", "layers", "volumes", "jobs"] {
        let Some(all) = open_dir(state, within) else { continue };
        for name in names(&all) {
            let Ok(text) = name.to_str() else { continue };
            let (new, gone) = (text.starts_with(".new-"), text.starts_with(".gone-"));
            if !new && !gone {
                continue;
            }
            // We make directories only: `unknown` tells of it.
            if !is_dir(&all, &name) {
                continue;
            }
            let dir = open_dir(&all, text);
            let age = dir.as_ref().and_then(|dir| dir.metadata().ok()?.modified().ok()?.elapsed().ok());
            if new && age.is_none_or(|age| age < MAKING) {
                continue;
            }
            // Whoever takes a workspace away holds the lock of its tree, everybody else that of the directory.
            let tree =
                dir.as_ref().filter(|_| within == "workspaces" && gone).and_then(|dir| open_dir(dir, "tree"));
            let locked =
                |dir: &File| lock::try_acquire(dir, lock::Mode::Exclusive, state.path()).unwrap_or(false);
            if tree.as_ref().is_some_and(|tree| !locked(tree)) || dir.as_ref().is_some_and(|dir| !locked(dir))
            {
                continue;
            }
            found.push(Leftover { within, name, dir, _lock: tree });
        }
    }
    found
}

/// A file that nobody needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    within: &'static str,
    name: CString,
    /// Its bytes.
    pub bytes: u64,
    /// What it is.
    pub why: &'static str,
}

impl Stray {
    /// Below the state directory, printable.
    pub fn shown(&self) -> String {
        let name = text::printable(self.name.to_bytes());
        if self.within == "." { name } else { format!("{}/{name}", self.within) }
    }

    /// Remove it.
    pub fn remove(&self, state: &StateDir) -> Result<()> {
        fault::point();
        let path = state.path().join(self.within);
        let dir = open_file(state, self.within, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
        let dir = dir.map_err(|e| Error::call("open", &path, e))?;
        dirfd::unlink(&dir, &self.name, UnlinkatFlags::NoRemoveDir)
            .map_err(|e| Error::call("unlink", &path, e))
    }
}

/// Files that were set aside at least `age` ago, and those that killed processes were writing.
pub fn strays(state: &StateDir, age: Duration) -> Vec<Stray> {
    let mut found = Vec::new();
    for within in [".", "cache", "paused"] {
        let Some(dir) = open_dir(state, within) else { continue };
        for name in names(&dir) {
            let Some(meta) = stat(&dir, &name) else { continue };
            let why = match name.to_str() {
                Ok(text) if within == "." && set_aside_ms(text).is_some_and(|ms| is_older(ms, age)) => {
                    "set aside"
                }
                Ok(text) if is_abandoned(text, &meta) => "half written",
                _ => continue,
            };
            if meta.is_file() {
                found.push(Stray { within, name, bytes: meta.blocks().saturating_mul(512), why });
            }
        }
    }
    found
}

fn stat(dir: &File, name: &CStr) -> Option<std::fs::Metadata> {
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;
    let name = std::ffi::OsStr::from_bytes(name.to_bytes());
    // By the descriptor: a link is looked at itself.
    std::fs::symlink_metadata(std::path::Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name))
        .ok()
}

fn is_dir(dir: &File, name: &CStr) -> bool {
    stat(dir, name).is_some_and(|meta| meta.is_dir())
}

fn is_older(ms: u64, age: Duration) -> bool {
    u128::from(clock::now_ms().saturating_sub(ms)) >= age.as_millis()
}

/// When a file of that name was set aside.
fn set_aside_ms(name: &str) -> Option<u64> {
    let end = name.split_once(".bad-").or_else(|| name.split_once(".corrupt-"))?.1;
    let digits = end.split_once('-').map_or(end, |(digits, _)| digits);
    digits.parse().ok()
}

/// Whether a file is what a dead process was writing (see `atomic`).
fn is_abandoned(name: &str, meta: &std::fs::Metadata) -> bool {
    let writer = || -> Option<u32> {
        let (pid, turn) = name.rsplit_once(".new-")?.1.split_once('-')?;
        turn.parse::<u32>().ok()?;
        pid.parse().ok()
    };
    let age = meta.modified().ok().and_then(|at| at.elapsed().ok());
    // One of another pid namespace looks dead: hence the age.
    writer().is_some_and(|pid| !alive::is_alive(pid, 0, "")) && age.is_some_and(|age| age > WRITING)
}

/// What nobody knows, printable, with why it is noticed. It stays.
pub fn unknown(state: &StateDir) -> Vec<(String, &'static str)> {
    let mut found = Vec::new();
    let moved = |text: &str| text.starts_with(".new-") || text.starts_with(".gone-");
    let mut look = |within: &'static str, known: &dyn Fn(&str) -> bool| {
        let Some(dir) = open_dir(state, within) else { return };
        for name in names(&dir) {
            let moved = name.to_str().is_ok_and(moved);
            let known = name.to_str().is_ok_and(|text| known(text) || is_temporary(text));
            if !known || moved && stat(&dir, &name).is_some_and(|meta| !meta.is_dir()) {
                let shown = text::printable(name.to_bytes());
                let shown = if within == "." { shown } else { format!("{within}/{shown}") };
                found.push((shown, "aj did not make it"));
            }
        }
    };
    let of = |kind: Kind| move |text: &str| text.parse::<Id>().is_ok_and(|id| id.kind() == kind);
    look(".", &|text| KNOWN.contains(&text) || set_aside_ms(text).is_some());
    look("trees", &|text| {
        of(Kind::Jail)(text) || moved(text) || text.starts_with(".spare") || text.starts_with(".ready")
    });
    look("workspaces", &|text| of(Kind::Workspace)(text) || moved(text) || ["names", "lock"].contains(&text));
    look("volumes", &|text| of(Kind::Volume)(text) || moved(text) || ["names", "lock"].contains(&text));
    look("jobs", &|text| of(Kind::Job)(text) || moved(text) || text == "lock");
    look("layers", &|text| super::workspaces::is_layer_name(text) || moved(text));
    found.sort_unstable();
    found
}

fn is_temporary(name: &str) -> bool {
    name.contains(".new-")
}

#[cfg(test)]
mod tests {
    use super::super::testing::state;
    use super::*;
    use std::fs;

    fn aged(path: &std::path::Path, seconds: u64) {
        let then = std::time::SystemTime::now() - Duration::from_secs(seconds);
        File::open(path).unwrap().set_modified(then).unwrap();
    }

    #[test]
    fn leftovers_are_told_by_name_age_and_lock() {
        let (_dir, state) = state();
        let at = |name: &str| state.path().join(name);
        let make = |name: &str, age: u64| {
            fs::create_dir_all(at(name).join("x")).unwrap();
            aged(&at(name), age);
        };
        make("volumes/.new-vl-0000000000000000", 10);
        make("volumes/.new-vl-1111111111111111", 1);
        make("volumes/.gone-vl-0000000000000000", 0);
        make("jobs/.gone-jb-0000000000000000", 0);
        make("layers/.gone-0000000000000000", 0);
        make("volumes/vl-0000000000000000", 10);
        make("workspaces/.gone-ws-0000000000000000/tree", 0);
        let held = File::open(at("layers/.gone-0000000000000000")).unwrap();
        held.try_lock().unwrap();
        let tree = File::open(at("workspaces/.gone-ws-0000000000000000/tree")).unwrap();
        tree.try_lock().unwrap();
        let mut shown: Vec<String> = leftovers(&state).iter().map(Leftover::shown).collect();
        shown.sort();
        assert_eq!(
            shown,
            [
                "jobs/.gone-jb-0000000000000000",
                "volumes/.gone-vl-0000000000000000",
                "volumes/.new-vl-0000000000000000"
            ]
        );
        for leftover in leftovers(&state) {
            assert!(leftover.remove(&state, &mut || true).unwrap());
        }
        drop((held, tree));
        assert_eq!(leftovers(&state).len(), 2);
        assert!(
            at("volumes/.new-vl-1111111111111111").exists() && at("volumes/vl-0000000000000000").exists()
        );
    }

    #[test]
    fn files_are_strays_when_they_are_old_and_their_writer_is_gone() {
        let (_dir, state) = state();
        let now = clock::now_ms();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let (dead, me) = (child.id(), std::process::id());
        child.wait().unwrap();
        fs::create_dir(state.path().join("cache")).unwrap();
        let old = now - 2 * 86_400_000;
        let bad = format!("spool.bad-{old}");
        let wal = format!("ledger.db.corrupt-{old}-wal");
        let half = format!("cache/doctor.new-{dead}-0");
        for (name, age) in [
            (bad.clone(), 0),
            (wal.clone(), 0),
            (format!("spool.bad-{now}"), 0),
            ("spool.bad-x".to_owned(), 0),
            (half.clone(), 7200),
            (format!("cache/doctor.new-{dead}-1"), 10),
            (format!("cache/doctor.new-{me}-0"), 7200),
            ("cache/doctor.new-0x-0".to_owned(), 7200),
        ] {
            fs::write(state.path().join(&name), "x").unwrap();
            aged(&state.path().join(&name), age);
        }
        // A link is none of ours, whatever its name.
        std::os::unix::fs::symlink("/etc/passwd", state.path().join(format!("spool.bad-{}", old + 1)))
            .unwrap();
        let day = Duration::from_secs(86_400);
        let mut shown: Vec<String> = strays(&state, day).iter().map(Stray::shown).collect();
        shown.sort();
        let mut wanted = vec![bad, wal, half];
        wanted.sort();
        assert_eq!(shown, wanted);
        strays(&state, day).iter().for_each(|s| s.remove(&state).unwrap());
        assert_eq!(strays(&state, day), []);
        let mut found: Vec<String> = unknown(&state).into_iter().map(|(name, _)| name).collect();
        assert_eq!(found.pop().as_deref(), Some("spool.bad-x"));
        assert_eq!(found.len(), 0);
    }
}
