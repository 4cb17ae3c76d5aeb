//! What a directory still has of a tree that it was copied from, or to: the third side of a three-way check where
//! the original is kept. An entry that is the same as the original's, in content and permission bits, was changed
//! by nobody, whenever it was made; every other one is somebody's own.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use super::names::Names;
use super::trail::Trail;
use crate::sys::at::{self, FileKind, Meta, Stamp};
use crate::sys::openat2::{self, For};
use crate::sys::{Result, copy};

/// Where to look.
#[derive(Debug, Default)]
pub struct Paths {
    /// Entries that are about to be replaced or changed, and the directories on the way.
    pub single: BTreeSet<Vec<u8>>,
    /// Those that are about to go with everything below them.
    pub whole: BTreeSet<Vec<u8>>,
}

impl Paths {
    fn below(set: &BTreeSet<Vec<u8>>, dir: &[u8]) -> bool {
        let mut start = dir.to_vec();
        start.push(b'/');
        set.range(start.clone()..).next().is_some_and(|path| path.starts_with(&start))
    }

    /// Whether something below the directory at `dir` is to be looked at.
    fn leads_on(&self, dir: &[u8]) -> bool {
        Paths::below(&self.single, dir) || Paths::below(&self.whole, dir)
    }
}

struct Frame {
    names: Names,
    next: usize,
    end: usize,
    whole: bool,
}

/// Which of the entries at `paths` of the directory `there` are as they are in `original`: by inode and time, as
/// `store::applied` knows what was put somewhere. What cannot be read is not known to be the same.
pub fn unchanged(original: OwnedFd, there: OwnedFd, paths: &Paths) -> Result<Vec<(u64, Stamp)>> {
    let mut same = Vec::new();
    let mut ours = Trail::new(original, For::Listing)?;
    let mut theirs = Trail::new(there, For::Listing)?;
    note(&ours.meta()?, &theirs.meta()?, true, &mut same);
    let mut path = Vec::new();
    let mut frames =
        vec![Frame { names: Names::read(ours.top()?, |_| true)?, next: 0, end: 0, whole: false }];
    while let Some(Frame { names, next, end, whole }) = frames.last_mut() {
        path.truncate(*end);
        let Some(name) = names.get(*next).map(<[u8]>::to_vec) else {
            frames.pop();
            if !frames.is_empty() {
                ours.leave()?;
                theirs.leave()?;
            }
            continue;
        };
        *next += 1;
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let whole = *whole || paths.whole.contains(&path);
        let leads_on = whole || paths.leads_on(&path);
        if !leads_on && !paths.single.contains(&path) {
            continue;
        }
        let (Ok(a), Ok(b)) = (at::stat(ours.top()?, &name), at::stat(theirs.top()?, &name)) else { continue };
        if a.kind != b.kind {
            continue;
        }
        if a.kind != FileKind::Dir {
            let equal = match a.kind {
                FileKind::File => is_same_file((&ours, &theirs), &name, (&a, &b)),
                FileKind::Symlink => {
                    let read = |trail: &Trail| trail.top().and_then(|dir| at::read_link(dir, &name)).ok();
                    read(&ours).is_some_and(|target| Some(target) == read(&theirs))
                }
                _ => false,
            };
            note(&a, &b, equal, &mut same);
            continue;
        }
        note(&a, &b, true, &mut same);
        if !leads_on || theirs.enter(&name).is_err() {
            continue;
        }
        if ours.enter(&name).is_err() {
            theirs.leave()?;
            continue;
        }
        let names = Names::read(ours.top()?, |_| true)?;
        let end = path.len();
        frames.push(Frame { names, next: 0, end, whole });
    }
    Ok(same)
}

fn note(original: &Meta, there: &Meta, equal: bool, same: &mut Vec<(u64, Stamp)>) {
    if original.kind == FileKind::Dir {
        // It was there before, whoever made it.
        same.extend(there.btime.map(|born| (there.ino, born)));
    }
    let modes = original.kind == FileKind::Symlink || original.mode & 0o777 == there.mode & 0o777;
    if equal && modes {
        same.push((there.ino, there.ctime));
    }
}

fn is_same_file((ours, theirs): (&Trail, &Trail), name: &[u8], (a, b): (&Meta, &Meta)) -> bool {
    let equal = || {
        let (x, y) = (
            openat2::beneath(ours.top()?, name, For::Reading)?,
            openat2::beneath(theirs.top()?, name, For::Reading)?,
        );
        // What is looked at now is what is compared, and not what was there a moment ago.
        let now = at::fstat(&y)?;
        let same = copy::same_content(x, &y, a.size)?;
        let after = at::fstat(&y)?;
        Ok::<bool, crate::sys::Error>(
            same && now.ctime == b.ctime && after.ctime == b.ctime && now.ino == b.ino,
        )
    };
    a.size == b.size && equal().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    fn open(path: &Path) -> OwnedFd {
        fs::File::open(path).unwrap().into()
    }

    #[test]
    fn what_is_as_it_was_is_known_and_what_somebody_changed_is_not() {
        let t = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|n| t.path().join(n));
        for top in [&a, &b] {
            fs::create_dir_all(top.join("d/deep")).unwrap();
            fs::create_dir_all(top.join("gone/sub")).unwrap();
            for f in ["same", "other", "mode", "d/f", "d/deep/g", "gone/x", "gone/sub/y", "unasked", "size"] {
                fs::write(top.join(f), "text").unwrap();
            }
            symlink("same", top.join("link")).unwrap();
        }
        fs::write(b.join("other"), "TEXT").unwrap();
        fs::write(b.join("size"), "longer").unwrap();
        fs::set_permissions(b.join("mode"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(a.join("mode"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(b.join("gone/sub/mine"), "").unwrap();
        let set = |paths: &[&str]| paths.iter().map(|p| p.as_bytes().to_vec()).collect();
        let paths = Paths {
            single: set(&["same", "other", "mode", "d/f", "link", "none", "size"]),
            whole: set(&["gone"]),
        };
        let same = unchanged(open(&a), open(&b), &paths).unwrap();
        let known = |name: &str| {
            let m = fs::symlink_metadata(b.join(name)).unwrap();
            let ctime = Stamp { sec: m.ctime(), nsec: u32::try_from(m.ctime_nsec()).unwrap() };
            same.contains(&(m.ino(), ctime))
        };
        for name in ["same", "d/f", "link", "gone", "gone/x", "gone/sub", "gone/sub/y", "d"] {
            assert!(known(name), "{name}");
        }
        for name in ["other", "mode", "gone/sub/mine", "d/deep/g", "unasked", "size"] {
            assert!(!known(name), "{name}");
        }
    }
}
