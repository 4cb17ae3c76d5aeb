//! The jail's `/`, ready-made: the directories, links and empty files that things are mounted over.
//!
//! Thirty calls on a tmpfs are the better part of what it costs to make one; a ready-made directory is
//! a bind. It depends on where the workspace and the tools are, so there is one for each of the last
//! few kinds of jail. The first run of a kind makes its own on its tmpfs; the second one also leaves a
//! ready-made one for the third, while its command runs: who only ever runs things in fresh directories
//! is not to pay for what nobody will use.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{AtFlags, readlinkat};
use nix::libc;
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstatat, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

use super::plan::{Plan, What};
use super::ready::{self, Ready};
use crate::base::clock;
use crate::base::stamp::Stamp;

/// Format of the directory: a change here makes new ones.
const FORMAT: u32 = 1;
/// Its kind among what is ready-made.
const KIND: &str = "root";
/// Others that are kept: so many kinds of jail are in use at a time.
const KEPT: usize = 31;
/// The file that remembers which kinds were seen once: so many stamps, in the places that they choose.
const SEEN: &str = "seen-roots";
const PLACES: u64 = 256;

/// What is in a root, as paths of the tmpfs.
#[derive(Debug)]
struct Parts {
    dirs: Vec<CString>,
    files: Vec<CString>,
    links: Vec<(CString, CString)>,
}

/// A root that is not there yet.
#[derive(Debug)]
pub struct Wanted {
    stamp: u64,
    parts: Parts,
    owner: Option<u32>,
}

/// A ready-made root that a run uses.
#[derive(Debug)]
pub struct Root {
    ready: Ready,
    /// See [`Root::set_aside_if_damaged`].
    parts: Parts,
}

/// Let `plan` use the ready-made root below `cache`, if there is one; if not, what later runs would use.
/// As root everything in it belongs to `owner`, the host's id of the jail's user.
pub fn ready(cache: &Path, plan: &mut Plan, owner: Option<u32>) -> Result<Root, Option<Wanted>> {
    if shows_parts(plan) {
        return Err(None);
    }
    let stamp = stamp(plan, owner);
    let path = cache.join(name(stamp));
    let ready =
        ready::hold(&path).and_then(|r| Some((r, CString::new(path.as_os_str().as_encoded_bytes()).ok()?)));
    let Some((ready, path)) = ready else {
        let inside = |paths: &[CString]| paths.iter().filter(|p| below(p).is_some()).cloned().collect();
        let links = plan.links.iter().filter(|(_, at)| below(at).is_some()).cloned().collect();
        let parts = Parts { dirs: inside(&plan.dirs), files: inside(&plan.files), links };
        return Err(Some(Wanted { stamp, parts, owner }));
    };
    plan.root = Some(path);
    let parts = Parts {
        dirs: plan.dirs.extract_if(.., |d| below(d).is_some()).collect(),
        files: plan.files.extract_if(.., |f| below(f).is_some()).collect(),
        links: plan.links.extract_if(.., |(_, at)| below(at).is_some()).collect(),
    };
    Ok(Root { ready, parts })
}

impl Parts {
    // Paths below the root itself.
    fn dirs(&self) -> impl Iterator<Item = &CStr> {
        self.dirs.iter().filter_map(|p| below(p))
    }

    fn files(&self) -> impl Iterator<Item = &CStr> {
        self.files.iter().filter_map(|p| below(p))
    }

    fn links(&self) -> impl Iterator<Item = (&CStr, &CStr)> {
        self.links.iter().filter_map(|(target, at)| Some((target.as_c_str(), below(at)?)))
    }
}

impl Root {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.ready.path
    }

    /// Take it out of the way of later runs if it is not what it was made as: a tool that cleans up
    /// takes old empty directories, a copy of a home leaves them out. Looked at by a run that failed,
    /// since a look before every run would cost what the root saves. Says whether it was damaged.
    pub fn set_aside_if_damaged(&self) -> bool {
        if self.is_whole().unwrap_or(false) {
            return false;
        }
        // Under a name of its kind: it goes when nobody shows it any more.
        let mut aside = self.path().to_owned();
        aside.as_mut_os_string().push(format!(".bad-{}", clock::now_ms()));
        drop(fs::rename(self.path(), aside));
        true
    }

    fn is_whole(&self) -> io::Result<bool> {
        let top = fs::File::open(self.path())?;
        let is = |path: &CStr, mode: u32| -> io::Result<bool> {
            Ok(fstatat(&top, path, AtFlags::AT_SYMLINK_NOFOLLOW)?.st_mode == mode)
        };
        for dir in self.parts.dirs() {
            if !is(dir, libc::S_IFDIR | 0o755)? {
                return Ok(false);
            }
        }
        for file in self.parts.files() {
            if !is(file, libc::S_IFREG | 0o644)? {
                return Ok(false);
            }
        }
        for (target, at) in self.parts.links() {
            if readlinkat(&top, at)?.as_bytes() != target.to_bytes() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether directories of the root are shown on their own, for the jail to write to: they must be its own.
fn shows_parts(plan: &Plan) -> bool {
    plan.mounts.iter().any(|m| match &m.what {
        What::Scratch(dir) => below(dir).is_some(),
        What::Overlay(o) => o.otherwise.is_some(),
        _ => false,
    })
}

/// The path below the root of one in the tmpfs, if it is there.
fn below(path: &CStr) -> Option<&CStr> {
    CStr::from_bytes_with_nul(path.to_bytes_with_nul().strip_prefix(b"root/")?).ok()
}

fn name(stamp: u64) -> String {
    format!("{KIND}-{stamp:016x}")
}

fn stamp(plan: &Plan, owner: Option<u32>) -> u64 {
    let mut h = Stamp::default();
    h.put(&FORMAT.to_le_bytes());
    h.put(&owner.unwrap_or(u32::MAX).to_le_bytes());
    // With their NUL bytes, which no name has, texts cannot run into each other.
    let links = plan.links.iter().flat_map(|(to, at)| [to, at]);
    for (kind, path) in plan
        .dirs
        .iter()
        .map(|p| (b"d", p))
        .chain(plan.files.iter().map(|p| (b"f", p)))
        .chain(links.map(|p| (b"l", p)))
    {
        h.put(kind);
        h.put(path.to_bytes_with_nul());
    }
    h.value()
}

impl Wanted {
    /// Make it below `cache` if an earlier run wanted it as well. Failing is no loss.
    pub fn make_if_seen(&self, cache: &Path) {
        if self.was_seen(cache).unwrap_or(false) {
            self.make(cache);
        }
    }

    /// Make it below `cache`. Failing is no loss.
    pub fn make(&self, cache: &Path) {
        drop(ready::make(cache, KIND, &name(self.stamp), KEPT, |to| self.fill(to)));
    }

    /// Whether an earlier run wanted it; later ones will be told so.
    fn was_seen(&self, cache: &Path) -> io::Result<bool> {
        let mut options = fs::File::options();
        options
            .read(true)
            .write(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = options.open(cache.join(SEEN))?;
        let (at, mut there) = (self.stamp % PLACES * 8, [0; 8]);
        let mine = self.stamp.to_le_bytes();
        // Short at first: nothing was seen.
        let read = file.read_at(&mut there, at)?;
        if read == there.len() && there == mine {
            return Ok(true);
        }
        file.write_all_at(&mine, at)?;
        Ok(false)
    }

    fn fill(&self, to: &Path) -> io::Result<()> {
        let top = fs::File::open(to)?;
        for dir in self.parts.dirs() {
            mkdirat(&top, dir, Mode::S_IRWXU)?;
            // Apart from mkdir, which the umask cuts down.
            fchmodat(&top, dir, Mode::from_bits_truncate(0o755), FchmodatFlags::FollowSymlink)?;
        }
        for file in self.parts.files() {
            mknodat(&top, file, SFlag::S_IFREG, Mode::S_IRUSR, 0)?;
            fchmodat(&top, file, Mode::from_bits_truncate(0o644), FchmodatFlags::FollowSymlink)?;
        }
        for (target, at) in self.parts.links() {
            symlinkat(target, &top, at)?;
        }
        let links = self.parts.links().map(|(_, at)| at);
        for path in self.parts.dirs().chain(self.parts.files()).chain(links).chain([c""]) {
            self.give_away(&top, path)?;
        }
        Ok(())
    }

    fn give_away(&self, top: impl AsFd, path: &CStr) -> io::Result<()> {
        let Some(owner) = self.owner else { return Ok(()) };
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_EMPTY_PATH;
        Ok(fchownat(top, path, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)), flags)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn plan(workspace: &CStr) -> Plan {
        let own = |path: &CStr| path.to_owned();
        Plan {
            dirs: [c"home", c"root", c"root/dev", c"root/srv"].map(own).to_vec(),
            files: vec![own(c"root/dev/null")],
            links: vec![(own(workspace), own(c"root/workspace"))],
            ..Plan::default()
        }
    }

    fn run(cache: &Path, workspace: &CStr) -> (bool, Plan) {
        let mut plan = plan(workspace);
        let ready = ready(cache, &mut plan, None);
        if let Err(Some(wanted)) = &ready {
            wanted.make_if_seen(cache);
        }
        (ready.is_ok(), plan)
    }

    #[test]
    fn the_third_run_of_a_kind_finds_it_made_and_no_other_kind_does() {
        let cache = tempfile::tempdir().unwrap();
        let made = [c"/a", c"/a", c"/b", c"/a", c"/a"].map(|workspace| run(cache.path(), workspace).0);
        assert_eq!(made, [false, false, false, true, true]);
        let (_, plan) = run(cache.path(), c"/a");
        assert_eq!(plan.dirs, [c"home".to_owned(), c"root".to_owned()]);
        assert!(plan.files.is_empty() && plan.links.is_empty());
        let root = std::path::PathBuf::from(plan.root.unwrap().into_string().unwrap());
        let mode = |name: &str| fs::symlink_metadata(root.join(name)).unwrap().permissions().mode();
        assert_eq!(mode("dev") & 0o7777, 0o755);
        assert_eq!((mode("dev/null"), mode("") & 0o7777), (0o100_644, 0o755));
        assert_eq!(fs::read_link(root.join("workspace")).unwrap(), Path::new("/a"));
    }

    #[test]
    fn a_jail_that_writes_to_parts_of_it_has_one_of_its_own() {
        let cache = tempfile::tempdir().unwrap();
        let mut all = [(); 3].map(|()| plan(c"/a"));
        for plan in &mut all {
            let what = What::Scratch(c"root/srv".to_owned());
            plan.mounts.push(super::super::plan::Mount { what, at: c"srv".to_owned(), ours: true });
            assert!(ready(cache.path(), plan, None).unwrap_err().is_none());
            assert!(plan.root.is_none() && plan.dirs.len() == 4);
        }
    }

    #[test]
    fn a_file_that_was_damaged_or_planted_is_no_reason_to_fail() {
        let cache = tempfile::tempdir().unwrap();
        let seen = cache.path().join(SEEN);
        fs::write(&seen, "short").unwrap();
        assert_eq!([(); 3].map(|()| run(cache.path(), c"/a").0), [false, false, true]);
        fs::remove_file(&seen).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &seen).unwrap();
        assert_eq!([(); 3].map(|()| run(cache.path(), c"/b").0), [false, false, false]);
    }

    #[test]
    fn one_that_is_no_longer_whole_is_set_aside_and_made_anew() {
        let cache = tempfile::tempdir().unwrap();
        let damages: [fn(&Path); 5] = [
            |root| fs::remove_dir(root.join("srv")).unwrap(),
            |root| fs::remove_file(root.join("workspace")).unwrap(),
            |root| fs::remove_file(root.join("dev/null")).unwrap(),
            |root| fs::set_permissions(root.join("dev"), fs::Permissions::from_mode(0o700)).unwrap(),
            |root| fs::remove_dir_all(root).unwrap(),
        ];
        while !run(cache.path(), c"/a").0 {}
        for damage in damages {
            let root = ready(cache.path(), &mut plan(c"/a"), None).unwrap();
            assert!(!root.set_aside_if_damaged() && root.path().exists());
            damage(root.path());
            // The name it gets has the time in it.
            std::thread::sleep(std::time::Duration::from_millis(2));
            assert!(root.set_aside_if_damaged() && !root.path().exists());
            assert_eq!([(); 2].map(|()| run(cache.path(), c"/a").0), [false, true]);
        }
    }

    #[test]
    fn as_root_it_belongs_to_the_jails_user() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIP: only root can give files away");
            return;
        }
        let cache = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let wanted = ready(cache.path(), &mut plan(c"/a"), Some(1_001_000)).unwrap_err();
            wanted.unwrap().make_if_seen(cache.path());
        }
        let root = ready(cache.path(), &mut plan(c"/a"), Some(1_001_000)).unwrap();
        assert!(root.is_whole().unwrap());
        let root = root.path();
        for name in ["", "dev", "dev/null", "workspace"] {
            assert_eq!(fs::symlink_metadata(root.join(name)).unwrap().uid(), 1_001_000, "{name}");
        }
        assert!(ready(cache.path(), &mut plan(c"/a"), None).is_err(), "another owner's");
    }
}
