//! Directories that are made once and shown in many jails, read-only: `cache/KIND-STAMP`.
//!
//! What one holds is named by its stamp. It is made under a temporary name and renamed, so a half-made
//! one is never used, and never changed afterwards, so a running jail keeps what it started with.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc;

use crate::base::text;
use crate::sys;

/// A ready-made directory. It stays as long as somebody holds one of these.
#[derive(Debug)]
pub struct Ready {
    /// Where it is.
    pub path: PathBuf,
    /// With a shared lock: [`remove_others`] takes an exclusive one.
    _held: fs::File,
}

/// The directory at `path`, if there is one and it is not on its way out.
pub(super) fn hold(path: &Path) -> Option<Ready> {
    try_hold(path).ok()
}

fn try_hold(path: &Path) -> io::Result<Ready> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let held = fs::File::options().read(true).custom_flags(flags).open(path)?;
    held.try_lock_shared().map_err(|e| why_not(path, e))?;
    // It may have been removed between the two calls.
    let same = |m: fs::Metadata, n: fs::Metadata| (m.dev(), m.ino()) == (n.dev(), n.ino());
    let there = fs::symlink_metadata(path).ok().zip(held.metadata().ok()).is_some_and(|(m, n)| same(m, n));
    if there { Ok(Ready { path: path.to_owned(), _held: held }) } else { Err(removed()) }
}

fn removed() -> io::Error {
    io::Error::other("it was removed while it was being made")
}

/// Whoever removes one holds it alone. Anything else is a file system that has no such locks, or a filter.
fn why_not(path: &Path, e: fs::TryLockError) -> io::Error {
    match e {
        fs::TryLockError::WouldBlock => removed(),
        fs::TryLockError::Error(e) => {
            io::Error::other(sys::Error::new("flock", text::os(path), sys::errno(&e)))
        }
    }
}

/// Make the directory `name`, which is of `kind`, in `cache`; of the others of that kind, the newest
/// `kept` stay. `fill` gets an empty directory that everybody may read.
pub(super) fn make(
    cache: &Path,
    kind: &str,
    name: &str,
    kept: usize,
    fill: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<Ready> {
    let path = cache.join(name);
    fs::create_dir_all(cache)?;
    remove_leftovers(cache, kind);
    let temporary = cache.join(format!(".{kind}-{}-{}", std::process::id(), crate::base::clock::now_ms()));
    let made = directory(&temporary).and_then(|()| fill(&temporary)).and_then(|()| {
        match fs::rename(&temporary, &path) {
            // Another aj was faster; its own is as good.
            Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty) => {
                Ok(())
            }
            other => other,
        }
    });
    if fs::symlink_metadata(&temporary).is_ok() {
        drop(fs::remove_dir_all(&temporary));
    }
    made?;
    let ready = try_hold(&path)?;
    remove_others(cache, kind, &path, kept);
    Ok(ready)
}

/// Make a directory that the jail's user can read whatever our umask is.
pub(super) fn directory(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// Remove those of `kind` but for `current`, the newest `kept`, and those that a jail still shows.
/// Failing is no reason not to start.
fn remove_others(cache: &Path, kind: &str, current: &Path, kept: usize) {
    let of_kind = |name: &[u8]| name.strip_prefix(kind.as_bytes()).is_some_and(|rest| rest.starts_with(b"-"));
    let mut others: Vec<_> = fs::read_dir(cache)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| of_kind(e.file_name().as_encoded_bytes()) && e.path() != current)
        .filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path())))
        .collect();
    others.sort();
    let old = others.len().saturating_sub(kept);
    for (_, path) in others.into_iter().take(old) {
        let Ok(dir) = fs::File::open(&path) else { continue };
        if dir.try_lock().is_ok() {
            // Renamed first: one that is found is a whole one.
            let mut gone = path.clone();
            gone.set_file_name(format!(".{}", path.file_name().unwrap_or_default().display()));
            if fs::rename(&path, &gone).is_ok() {
                drop(fs::remove_dir_all(&gone));
            }
        }
    }
}

/// Remove what a killed process left half made or half removed. Making one takes a moment; after a
/// minute it is nobody's. Failing is no reason not to start.
fn remove_leftovers(cache: &Path, kind: &str) {
    const MOMENT: Duration = Duration::from_secs(60);
    let prefix = format!(".{kind}-");
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let left = entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes());
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
        if left && age.is_some_and(|age| age > MOMENT) {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

/// Ready-made directories that no jail shows, made at least `age` ago, but for the newest of each kind; and what
/// killed processes left half made. They are removed when `remove`. Their names and bytes.
pub fn collect(cache: &Path, age: Duration, remove: bool) -> Vec<(String, u64)> {
    const MOMENT: Duration = Duration::from_secs(60);
    let mut gone = Vec::new();
    for kind in ["etc", "root"] {
        let mut found: Vec<_> = fs::read_dir(cache)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e)))
            .filter(|(_, e)| e.file_type().is_ok_and(|t| t.is_dir()))
            .collect();
        found.sort_by_key(|(made, _)| std::cmp::Reverse(*made));
        let mut newest = true;
        for (made, entry) in found {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let old = |age| made.elapsed().is_ok_and(|since| since >= age);
            let due = if name.starts_with(&format!("{kind}-")) {
                !std::mem::take(&mut newest) && old(age)
            } else {
                name.starts_with(&format!(".{kind}-")) && old(MOMENT)
            };
            let Some(dir) = fs::File::open(entry.path()).ok().filter(|_| due) else { continue };
            if dir.try_lock().is_err() {
                continue;
            }
            let bytes = walkdir::WalkDir::new(entry.path()).into_iter().flatten();
            let bytes = bytes.filter_map(|e| Some(e.metadata().ok()?.blocks() * 512)).sum();
            if remove {
                let away = entry.path().with_file_name(format!(".{}", name.trim_start_matches('.')));
                drop(fs::rename(entry.path(), &away));
                drop(fs::remove_dir_all(&away));
            }
            gone.push((name.to_owned(), bytes));
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn make(cache: &Path, n: u64) -> Ready {
        super::make(cache, "etc", &format!("etc-{n}"), 3, |to| fs::write(to.join("n"), n.to_string()))
            .unwrap()
    }

    fn aged(path: &Path, seconds: u64) {
        let then = SystemTime::now() - Duration::from_secs(seconds);
        fs::File::open(path).unwrap().set_modified(then).unwrap();
    }

    #[test]
    fn what_a_killed_process_left_half_made_goes_when_it_is_old() {
        let cache = tempfile::tempdir().unwrap();
        let left = |name: &str, age: u64| {
            let dir = cache.path().join(name);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("passwd"), "x").unwrap();
            aged(&dir, age);
            dir
        };
        let (old, new, other) = (left(".etc-1-1", 90), left(".etc-1-2", 10), left("etc-0", 90));
        let foreign = left(".root-1-1", 90);
        let etc = make(cache.path(), 1).path;
        assert!(!old.exists() && new.exists() && other.exists() && etc.exists() && foreign.exists());
    }

    #[test]
    fn old_ones_go_but_for_the_newest_and_those_in_use() {
        let cache = tempfile::tempdir().unwrap();
        let foreign = super::make(cache.path(), "root", "root-1", 0, |_| Ok(())).unwrap().path;
        aged(&foreign, 1_000);
        let mut all = Vec::new();
        for n in 0..7 {
            let one = make(cache.path(), n);
            aged(&one.path, 100 - n);
            // The first is shown by a running jail.
            all.push((one.path.clone(), (n == 0).then_some(one)));
        }
        let left =
            |all: &[(PathBuf, Option<Ready>)]| -> Vec<bool> { all.iter().map(|(p, _)| p.exists()).collect() };
        assert_eq!(left(&all), [true, false, false, true, true, true, true]);
        assert_eq!(fs::read_to_string(all[0].0.join("n")).unwrap(), "0");
        all[0].1 = None;
        drop(make(cache.path(), 7));
        assert_eq!(left(&all), [false, false, false, false, true, true, true]);
        assert!(foreign.exists(), "of another kind");
    }

    #[test]
    fn what_no_jail_shows_is_collected_when_it_is_old_but_for_the_newest() {
        let cache = tempfile::tempdir().unwrap();
        let all: Vec<PathBuf> = (0..4)
            .map(|n| {
                let path = make(cache.path(), n).path;
                aged(&path, 1000 - n);
                path
            })
            .collect();
        let held = hold(&all[0]).unwrap();
        fs::create_dir(cache.path().join(".etc-1-1")).unwrap();
        aged(&cache.path().join(".etc-1-1"), 90);
        fs::create_dir(cache.path().join("other-1")).unwrap();
        let names = |found: Vec<(String, u64)>| {
            let mut names: Vec<String> = found.into_iter().map(|(name, _)| name).collect();
            names.sort();
            names
        };
        let day = Duration::from_secs(86_400);
        assert_eq!(names(collect(cache.path(), day, false)), [".etc-1-1"]);
        let second = Duration::from_secs(1);
        let due = [".etc-1-1", "etc-1", "etc-2"];
        assert_eq!(names(collect(cache.path(), second, false)), due);
        assert!(all.iter().all(|p| p.exists()), "nothing was done");
        assert_eq!(names(collect(cache.path(), second, true)), due);
        assert_eq!(all.iter().map(|p| p.exists()).collect::<Vec<_>>(), [true, false, false, true]);
        drop(held);
        assert_eq!(names(collect(cache.path(), second, true)), ["etc-0"]);
        assert!(cache.path().join("other-1").exists());
    }

    #[test]
    fn a_lock_that_cannot_be_had_is_not_said_to_be_a_removal() {
        let why = |e| why_not(Path::new("/s/etc-1"), e).to_string();
        assert_eq!(why(fs::TryLockError::WouldBlock), removed().to_string());
        let told = why(fs::TryLockError::Error(io::Error::from_raw_os_error(libc::ENOLCK)));
        assert!(told.contains("flock `/s/etc-1`") && told.contains("ENOLCK"), "{told}");
    }

    #[test]
    fn one_that_could_not_be_filled_leaves_nothing() {
        let cache = tempfile::tempdir().unwrap();
        let fill = |to: &Path| fs::write(to.join("half"), "").and_then(|()| Err(io::Error::other("full")));
        assert!(super::make(cache.path(), "etc", "etc-1", 3, fill).is_err());
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
    }
}
