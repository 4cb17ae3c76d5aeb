//! The state directory: where it is, who may use it, what lies in it.
//!
//! ```text
//! version        `1`
//! spool          frames appended by `aj exec` (see `spool`)
//! spool.lock     held by the one process that folds the spool or replaces the database
//! spool.bad-MS   bytes that were no frame, or what stood there and was no file; set aside
//! ledger.db      what the spool is folded into; ledger.db.corrupt-MS: a damaged one, set aside
//! trees/ID/      one-shot overlays: base (link to the host directory), upper/, work/, and notes
//! jobs/          commands in the background: a directory each, with record and log (see `jobs`)
//! workspaces/    named trees that last: a directory each, names/ and a lock (see `workspaces`)
//! layers/        what workspaces were sealed to, and stand on (see `workspaces`)
//! volumes/       directories that jails share: a directory each, names/ and a lock (see `volumes`)
//! paused/        which jails are paused (see `paused`)
//! keep.lock      held by the one process that holds kept trees to their bounds
//! cache/         whatever can be made again
//! ```

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::libc;

use super::atomic::{self, Durability};
use super::dirfd;
use super::error::{Error, Result};
use crate::base::{env, text};
use crate::sys::{openat2, xattr};

/// Format of the state directory. An older `aj` refuses a newer one.
pub const VERSION: u32 = 1;

const FILE: &str = "version";

/// Where the state directory is: `$AJ_STATE_DIR`, else `$XDG_STATE_HOME/agentjail`, else
/// `$HOME/.local/state/agentjail`. Looks at the environment only.
pub fn locate() -> Result<PathBuf> {
    locate_from(env::STATE_DIR.get(), env::XDG_STATE_HOME.absolute_path(), env::HOME.absolute_path())
}

fn locate_from(own: Option<OsString>, xdg: Option<PathBuf>, home: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(value) = own {
        let path = PathBuf::from(&value);
        return if path.is_absolute() { Ok(path) } else { Err(Error::Relative { value: text::os(&value) }) };
    }
    xdg.or_else(|| Some(home?.join(".local/state"))).map(|base| base.join("agentjail")).ok_or(Error::NoHome)
}

/// The open state directory: ours alone (owner, mode 0700) and of a format we know.
#[derive(Debug)]
pub struct StateDir {
    dir: File,
    path: PathBuf,
    /// No component of the path is a link, or `..`.
    direct: bool,
}

impl StateDir {
    /// Open the one that [`locate`] names, making it the first time.
    pub fn open() -> Result<StateDir> {
        StateDir::open_at(&locate()?)
    }

    /// The same, once `check` has nothing against the place where it is to be made (a path without links).
    pub fn open_checked<E: From<Error>>(check: impl FnOnce(&Path) -> Result<(), E>) -> Result<StateDir, E> {
        let path = locate()?;
        StateDir::open_or_make(&path, || check(&without_links(&path)))
    }

    /// Open the one that [`locate`] names; `None` when there is none yet. For commands that only read.
    pub fn open_if_present() -> Result<Option<StateDir>> {
        StateDir::open_existing(&locate()?)
    }

    /// Open `path` (absolute), making it and its parents with mode 0700 the first time.
    ///
    /// The usual case is six system calls: open, stat, open, read twice, close.
    pub fn open_at(path: &Path) -> Result<StateDir> {
        StateDir::open_or_make(path, || Ok(()))
    }

    /// The same; `check` is asked before it is made.
    fn open_or_make<E: From<Error>>(
        path: &Path,
        check: impl FnOnce() -> Result<(), E>,
    ) -> Result<StateDir, E> {
        let found = match StateDir::open_dir(path)? {
            Some(found) => found,
            None => {
                check()?;
                create(path)?;
                StateDir::open_dir(path)?.ok_or_else(|| Error::call("open", path, Errno::ENOENT))?
            }
        };
        found.check_version(true)?;
        Ok(found)
    }

    /// Open `path` if it is there.
    pub fn open_existing(path: &Path) -> Result<Option<StateDir>> {
        let found = StateDir::open_dir(path)?;
        if let Some(found) = &found {
            found.check_version(false)?;
        }
        Ok(found)
    }

    fn open_dir(path: &Path) -> Result<Option<StateDir>> {
        use std::os::unix::ffi::OsStrExt;
        let without_links = openat2::absolute(path.as_os_str().as_bytes(), openat2::For::Listing);
        let direct = without_links.is_ok() && !path.components().any(|c| c == Component::ParentDir);
        let opened = without_links.map(File::from).or_else(|_| {
            File::options()
                .read(true)
                .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC)
                .open(path)
        });
        let dir = match opened {
            Ok(dir) => dir,
            Err(e) => return StateDir::explain(path, &e),
        };
        let meta = dir.metadata().map_err(|e| Error::io("stat", path, &e))?;
        let me = nix::unistd::geteuid().as_raw();
        if meta.uid() != me {
            return Err(Error::ForeignOwner { path: text::os(path), owner: meta.uid(), me });
        }
        // Not repaired here: whoever opened it to others may have put something in.
        if meta.mode() & 0o077 != 0 {
            return Err(Error::Exposed { path: text::os(path), mode: meta.mode() & 0o7777 });
        }
        Ok(Some(StateDir { dir, path: path.to_owned(), direct }))
    }

    /// A refused open, told apart only once it has failed.
    fn explain(path: &Path, error: &std::io::Error) -> Result<Option<StateDir>> {
        match std::fs::symlink_metadata(path) {
            Ok(m) if m.is_symlink() => Err(Error::Symlink { path: text::os(path) }),
            // Not there, or made by another process since.
            _ if crate::sys::errno(error) == Errno::ENOENT => Ok(None),
            Ok(m) if !m.is_dir() => Err(Error::NotADirectory { path: text::os(path) }),
            _ => Err(Error::io("open", path, error)),
        }
    }

    fn check_version(&self, may_write: bool) -> Result<()> {
        let read = |e| Error::call("read", &self.path.join(FILE), e);
        let bytes = atomic::read(&self.dir, FILE, 64).map_err(read)?;
        // Only blanks or zeros: what a crash of the machine leaves of a file just made.
        let content = bytes.as_deref().map(|b| b.trim_ascii()).filter(|b| b.iter().any(|&c| c != 0));
        let Some(content) = content else {
            return if may_write { self.write_version(bytes.is_some()) } else { Ok(()) };
        };
        let line = content.split(|&c| c == b'\n').next().unwrap_or_default();
        if line == VERSION.to_string().as_bytes() {
            return Ok(());
        }
        let path = text::os(&self.path.join(FILE));
        match std::str::from_utf8(line).ok().filter(|l| l.bytes().all(|b| b.is_ascii_digit())) {
            Some(number) if number.parse().map_or(true, |n: u32| n > VERSION) => {
                Err(Error::Newer { path, found: number.to_owned(), known: VERSION })
            }
            // Format 0 never existed; older ones will be migrated here.
            Some(_) | None => Err(Error::BadVersion { path, text: text::printable(line) }),
        }
    }

    /// Write `version`, unless the directory is somebody's home or project.
    fn write_version(&self, had_one: bool) -> Result<()> {
        let ours = |name: &[u8]| {
            [&b"version"[..], b"spool", b"ledger.db", b"trees", b"cache", b"workspaces", b"volumes", b"jobs"]
                .iter()
                .any(|p| name.starts_with(p))
        };
        if !had_one {
            let names = dirfd::names(&self.dir).map_err(|e| Error::call("read", &self.path, e))?;
            if !names.is_empty() && !names.iter().any(|n| ours(n.to_bytes())) {
                return Err(Error::NotAState { path: text::os(&self.path) });
            }
        }
        atomic::write(&self.dir, FILE, format!("{VERSION}\n").as_bytes(), Durability::Synced)
            .map_err(|e| Error::call("write", &self.path.join(FILE), e))
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its path without links, as the kernel knows it: for comparing with other such paths.
    pub fn real_path(&self) -> PathBuf {
        if self.direct {
            return self.path.components().collect();
        }
        use std::os::fd::AsRawFd;
        let link = format!("/proc/self/fd/{}", self.dir.as_raw_fd());
        std::fs::read_link(link).unwrap_or_else(|_| self.path.clone())
    }

    /// The open directory `name` in it, made with mode 0700 when missing.
    pub fn subdir(&self, name: &str) -> Result<File> {
        use nix::fcntl::OFlag;
        use nix::sys::stat::{Mode, mkdirat};
        let open = || dirfd::open_file(&self.dir, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
        let fail = |e| Error::call("open", &self.path.join(name), e);
        match open() {
            Err(Errno::ENOENT) => {}
            other => return other.map_err(fail),
        }
        match mkdirat(&self.dir, name, Mode::S_IRWXU) {
            Ok(()) => {
                let made = open().map_err(fail)?;
                // Without a journal ext4 takes no inode again for a minute, and looks at each of those in a block group
                // whenever it makes another: where much comes and goes beside us, a start would wait for that.
                xattr::spread_children(&made);
                Ok(made)
            }
            Err(Errno::EEXIST) => open().map_err(fail),
            Err(e) => Err(Error::call("mkdir", &self.path.join(name), e)),
        }
    }

    /// The content of `cache/NAME`, `None` when it is missing or cannot be read: a cache is never an error.
    pub fn cached(&self, name: &str) -> Option<Vec<u8>> {
        atomic::read(&self.dir, &format!("cache/{name}"), 1 << 20).ok().flatten()
    }

    /// Replace `cache/NAME`.
    pub fn cache(&self, name: &str, bytes: &[u8]) -> Result<()> {
        atomic::write(self.subdir("cache")?, name, bytes, Durability::Cache)
            .map_err(|e| Error::call("write", &self.path.join("cache").join(name), e))
    }
}

impl AsFd for StateDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// The path with every link resolved of what is there of it.
fn without_links(path: &Path) -> PathBuf {
    let real = |above: &Path| Some(std::fs::canonicalize(above).ok()?.join(path.strip_prefix(above).ok()?));
    path.ancestors().find_map(real).unwrap_or_else(|| path.to_owned())
}

/// Make the directory and its missing parents, all 0700 as the XDG specification asks.
fn create(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| Error::io("mkdir", path, &e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn the_place_is_the_first_variable_that_names_one() {
        let at = |own: Option<&str>, xdg: Option<&str>, home: Option<&str>| {
            locate_from(own.map(Into::into), xdg.map(Into::into), home.map(Into::into))
        };
        let ok = |path: &str| PathBuf::from(path);
        assert_eq!(at(Some("/s"), Some("/x"), Some("/h")).unwrap(), ok("/s"));
        assert_eq!(at(None, Some("/x"), Some("/h")).unwrap(), ok("/x/agentjail"));
        assert_eq!(at(None, None, Some("/h")).unwrap(), ok("/h/.local/state/agentjail"));
        assert!(matches!(at(None, None, None), Err(Error::NoHome)));
        assert!(matches!(at(Some("s"), Some("/x"), Some("/h")), Err(Error::Relative { .. })));
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn the_real_path_has_no_links_and_nothing_that_stands_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        let real = top.join("real/state");
        drop(StateDir::open_at(&real).unwrap());
        symlink("real", top.join("link")).unwrap();
        for name in ["real/state", "link/state", "real/../real/state", "real//./state/", "link/../real/state"]
        {
            let state = StateDir::open_at(&top.join(name)).unwrap();
            assert_eq!(state.real_path().as_os_str(), real.as_os_str(), "{name}");
        }
    }

    #[test]
    fn directories_in_it_are_spread_where_the_file_system_can() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open_at(&dir.path().join("state")).unwrap();
        let made = state.subdir("trees").unwrap();
        let ext4 =
            nix::sys::statfs::fstatfs(&made).unwrap().filesystem_type() == nix::sys::statfs::EXT4_SUPER_MAGIC;
        let spread = xattr::flags(&made).is_some_and(|flags| flags & 0x20000 != 0);
        assert_eq!(spread, ext4 && xattr::flags(&made).is_some());
    }

    #[test]
    fn the_first_open_makes_it_private_with_a_version() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/agentjail");
        assert!(StateDir::open_existing(&path).unwrap().is_none());
        assert!(!path.exists(), "reading makes nothing");
        let state = StateDir::open_at(&path).unwrap();
        assert_eq!(fs::read_to_string(path.join("version")).unwrap(), "1\n");
        assert_eq!(
            (mode(&path), mode(&dir.path().join("a")), mode(&path.join("version"))),
            (0o700, 0o700, 0o600)
        );
        assert_eq!(state.path(), path);
        assert!(StateDir::open_existing(&path).unwrap().is_some());
    }

    #[test]
    fn a_directory_that_is_not_ours_alone_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        StateDir::open_at(&path).unwrap();
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(StateDir::open_at(&link), Err(Error::Symlink { .. })));
        symlink(dir.path().join("nowhere"), dir.path().join("dangling")).unwrap();
        assert!(matches!(StateDir::open_at(&dir.path().join("dangling")), Err(Error::Symlink { .. })));
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(matches!(StateDir::open_at(&dir.path().join("file")), Err(Error::NotADirectory { .. })));
        for open in [0o710, 0o701, 0o770, 0o704] {
            fs::set_permissions(&path, Permissions::from_mode(open)).unwrap();
            let e = StateDir::open_at(&path).unwrap_err();
            assert!(matches!(e, Error::Exposed { mode, .. } if mode == open), "{e}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(1234), None).unwrap();
            let e = StateDir::open_at(&path).unwrap_err();
            assert!(matches!(e, Error::ForeignOwner { owner: 1234, me: 0, .. }), "{e}");
        } else {
            let e = StateDir::open_at(Path::new("/usr")).unwrap_err();
            assert!(matches!(e, Error::ForeignOwner { owner: 0, .. }), "{e}");
        }
    }

    #[test]
    fn a_directory_of_somebody_elses_files_is_not_adopted() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        fs::write(dir.path().join(".bashrc"), "").unwrap();
        assert!(matches!(StateDir::open_at(dir.path()), Err(Error::NotAState { .. })));
        assert!(!dir.path().join("version").exists());
        fs::remove_file(dir.path().join(".bashrc")).unwrap();
        StateDir::open_at(dir.path()).unwrap();
    }

    #[test]
    fn versions_are_compared_and_a_torn_one_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        StateDir::open_at(&path).unwrap();
        let with = |content: &[u8]| {
            fs::write(path.join("version"), content).unwrap();
            StateDir::open_at(&path).map(|_| ())
        };
        for newer in ["2", "99999999999\nmore", "10\n"] {
            let e = with(newer.as_bytes()).unwrap_err();
            assert!(matches!(e, Error::Newer { known: 1, .. }), "{newer}: {e}");
            assert!(StateDir::open_existing(&path).is_err());
        }
        for bad in [&b"one"[..], b"0", b"-1", b"\x1b[31m", b"1x"] {
            let e = with(bad).unwrap_err();
            assert!(matches!(e, Error::BadVersion { .. }), "{e}");
            assert!(!e.to_string().contains('\x1b'));
        }
        for torn in [&b""[..], b"\0\0", b"\n"] {
            with(torn).unwrap();
            assert_eq!(fs::read_to_string(path.join("version")).unwrap(), "1\n");
        }
        with(b"1").unwrap();
        fs::remove_file(path.join("version")).unwrap();
        StateDir::open_at(&path).unwrap();
    }

    #[test]
    fn many_processes_may_make_it_at_once() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let path = dir.path().join(format!("{round}/s"));
            std::thread::scope(|s| {
                let all: Vec<_> = (0..4).map(|_| s.spawn(|| StateDir::open_at(&path).map(|_| ()))).collect();
                for t in all {
                    t.join().unwrap().unwrap();
                }
            });
            assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_directory_that_cannot_be_made_names_the_errno() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let e = StateDir::open_at(&dir.path().join("file/s")).unwrap_err();
        assert_eq!(e.errno(), Some(Errno::ENOTDIR), "{e}");
        let e = StateDir::open_at(Path::new("/proc/agentjail")).unwrap_err();
        assert!(e.to_string().starts_with("mkdir `/proc/agentjail`: "), "{e}");
    }

    #[test]
    fn the_cache_forgives() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open_at(&dir.path().join("s")).unwrap();
        assert_eq!(state.cached("host"), None);
        state.cache("host", b"facts").unwrap();
        assert_eq!(state.cached("host").as_deref(), Some(&b"facts"[..]));
    }
}
