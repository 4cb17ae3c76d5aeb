//! Hand-made upper layers over a base directory. The same trees as the kernel makes them are checked
//! in `overlay`, with a real overlay mount.

mod apply;
mod attributes;
mod diff;
mod gone;
mod hooks;
mod modes;
mod names;
mod overlay;
mod races;
mod swaps;

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::apply::{Choice, Outcome};
use super::change::{Change, Options};
use super::diff::Report;
use crate::sys::at::{self, Stamp};
use crate::sys::openat2::{self, For};
use crate::sys::xattr;

/// A base, an upper layer, and the time between making the base and the first change.
pub(super) struct Fixture {
    pub(super) dir: tempfile::TempDir,
    pub(super) started: Stamp,
}

impl Fixture {
    /// A base with `files`; names that end in `/` are directories.
    pub(super) fn new(files: &[(&str, &str)]) -> Fixture {
        Fixture::within(tempfile::tempdir().unwrap(), files)
    }

    /// As [`Fixture::new`] in memory, where thousands of directories are cheap.
    pub(super) fn in_memory(files: &[(&str, &str)]) -> Fixture {
        Fixture::within(memory_dir(), files)
    }

    fn within(dir: tempfile::TempDir, files: &[(&str, &str)]) -> Fixture {
        for d in ["base", "upper"] {
            std::fs::create_dir(dir.path().join(d)).unwrap();
        }
        let mut f = Fixture { dir, started: Stamp::default() };
        for (name, text) in files {
            f.host(name, text);
        }
        f.start();
        f
    }

    /// The jail starts now: waits until the clock of the file system has moved on either side.
    pub(super) fn start(&mut self) {
        let before = self.clock();
        while self.clock() == before {}
        self.started = self.clock();
        while self.clock() == self.started {}
    }

    fn clock(&self) -> Stamp {
        let path = self.dir.path().join("clock");
        drop(std::fs::remove_file(&path));
        std::fs::write(&path, b"").unwrap();
        at::fstat(std::fs::File::open(&path).unwrap()).unwrap().ctime
    }

    pub(super) fn base(&self, name: &str) -> PathBuf {
        self.dir.path().join("base").join(name)
    }

    pub(super) fn upper(&self, name: &str) -> PathBuf {
        self.dir.path().join("upper").join(name)
    }

    fn write(path: PathBuf, text: &str) {
        if path.as_os_str().as_bytes().ends_with(b"/") {
            std::fs::create_dir_all(path).unwrap();
        } else {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    /// Write on the host.
    pub(super) fn host(&self, name: &str, text: &str) {
        Fixture::write(self.base(name), text);
    }

    /// Write in the jail.
    pub(super) fn jail(&self, name: &str, text: &str) {
        Fixture::write(self.upper(name), text);
    }

    /// Delete in the jail. `false` (and a reason printed) where this cannot be made by hand.
    #[must_use]
    pub(super) fn whiteout(&self, name: &str) -> bool {
        use nix::sys::stat::{Mode, SFlag, makedev, mknod};
        let path = self.upper(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match mknod(&path, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0)) {
            Ok(()) => true,
            Err(e) => {
                eprintln!("SKIP: a whiteout cannot be made here: {e}");
                false
            }
        }
    }

    /// Make a directory of the upper layer opaque. `false` as for [`Fixture::whiteout`].
    #[must_use]
    pub(super) fn opaque(&self, name: &str) -> bool {
        std::fs::create_dir_all(self.upper(name)).unwrap();
        let dir = std::fs::File::open(self.upper(name)).unwrap();
        match xattr::set(dir, c"user.overlay.opaque", b"y") {
            Ok(()) => true,
            Err(e) => {
                eprintln!("SKIP: user attributes cannot be set here: {e}");
                false
            }
        }
    }

    pub(super) fn options(&self) -> Options {
        let base = self.dir.path().canonicalize().unwrap().join("base");
        Options { started: self.started, base, ..Options::default() }
    }

    pub(super) fn fds(&self) -> (OwnedFd, OwnedFd) {
        let open = |n: &str| {
            let path = self.dir.path().canonicalize().unwrap().join(n);
            openat2::absolute(path.as_os_str().as_bytes(), For::Listing).unwrap()
        };
        (open("upper"), open("base"))
    }

    pub(super) fn diff(&self) -> Report {
        self.diff_with(&self.options())
    }

    pub(super) fn diff_with(&self, options: &Options) -> Report {
        let (upper, base) = self.fds();
        super::diff::diff(upper, base, options).unwrap()
    }

    /// The run has ended: with what is noted of the base then.
    pub(super) fn end(&self, options: Options) -> Options {
        let (upper, base) = self.fds();
        let places = super::diff::diff_at_end(upper, base, &options).unwrap().places;
        Options { places, ..options }
    }

    pub(super) fn apply(&self) -> Outcome {
        self.apply_with(|_| {})
    }

    pub(super) fn apply_with(&self, change: impl FnOnce(&mut Choice)) -> Outcome {
        let mut choice = Choice { options: self.options(), ..Choice::default() };
        change(&mut choice);
        self.applied(&choice, &crate::monitor::Silent)
    }

    pub(super) fn apply_watched(&self, monitor: &dyn crate::monitor::Monitor) -> Outcome {
        self.applied(&Choice { options: self.options(), ..Choice::default() }, monitor)
    }

    fn applied(&self, choice: &Choice, monitor: &dyn crate::monitor::Monitor) -> Outcome {
        loop {
            let (upper, base) = self.fds();
            match super::apply::apply(upper, base, choice, monitor) {
                // A process that another test forks has the lock of the apply before until it executes something.
                Err(super::apply::Error::Busy) => std::thread::yield_now(),
                done => return done.unwrap(),
            }
        }
    }

    pub(super) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.base(name)).unwrap_or_else(|e| format!("<{}>", e.kind()))
    }

    pub(super) fn mode(&self, name: &str) -> u32 {
        std::fs::symlink_metadata(self.base(name)).unwrap().permissions().mode() & 0o7777
    }

    /// Every path below the base, sorted.
    pub(super) fn listing(&self) -> Vec<String> {
        let root = self.base("");
        let mut all: Vec<String> = walkdir::WalkDir::new(&root)
            .min_depth(1)
            .into_iter()
            .map(|e| e.unwrap().path().strip_prefix(&root).unwrap().to_string_lossy().into_owned())
            .collect();
        all.sort();
        all
    }
}

/// A scratch directory in memory if there is such a place: ext4 needs half a millisecond for each new
/// directory.
pub(super) fn memory_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub(super) fn chmod(path: PathBuf, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// `A path` lines, `!` after those in conflict and `*` after host-executed ones.
pub(super) fn lines(changes: &[Change]) -> Vec<String> {
    let line = |c: &Change| {
        let path = OsStr::from_bytes(&c.path).to_string_lossy().into_owned();
        let slash = if c.kind == super::change::Kind::Directory { "/" } else { "" };
        let conflict = if c.conflict.is_some() { "!" } else { "" };
        let executed = if c.host_executed.is_some() { "*" } else { "" };
        format!("{} {path}{slash}{conflict}{executed}", c.status.letter())
    };
    changes.iter().map(line).collect()
}

/// Mount an empty tmpfs for this thread alone; it goes with the thread. `false`: not possible here.
#[must_use]
pub(super) fn mount_privately(at: &std::path::Path, options: &str) -> bool {
    use nix::mount::{MsFlags, mount};
    let none = None::<&str>;
    let done = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
        .and_then(|()| mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(options)));
    if let Err(e) = done {
        eprintln!("SKIP: no mount of one's own here: {e}");
    }
    done.is_ok()
}
