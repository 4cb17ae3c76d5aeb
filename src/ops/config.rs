//! Configuration: find and read the files, measure the facts, resolve the policy.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};

use crate::base::env;
use crate::base::quote::command_line;
use crate::base::text::os;
use crate::policy::envfile::{self, EnvFileError};
use crate::policy::file::{self, FileError, LARGEST, ProjectFile, UserFile};
use crate::policy::presets;
use crate::policy::stored::Stored;
use crate::policy::{Facts, Layer, Resolved, Sources, resolve};
use crate::sys;

/// Name of the project's file, looked for at the top of the tree only.
pub const PROJECT_FILE: &str = "aj.toml";

/// Why configuration could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is there but could not be read.
    #[error("could not read `{path}`: {}", reason(errno))]
    Read {
        /// The file as shown.
        path: String,
        /// Why.
        errno: Errno,
    },
    /// A file that may not be what it is.
    #[error("could not read `{path}`: it is {what}, not a regular file")]
    Kind {
        /// The file as shown.
        path: String,
        /// `a symbolic link`, `a FIFO` and so on.
        what: &'static str,
    },
    /// A link to nothing, in the name of the user's file: what it leads to may hold hard limits.
    #[error("could not read `{path}`: `{link}` is a link to `{target}`, which does not exist (ENOENT)")]
    Dangling {
        /// The file as shown.
        path: String,
        /// The link, the file itself or a directory on the way, as shown.
        link: String,
        /// What the link holds, printable.
        target: String,
    },
    /// Something else where a directory on the way to the user's file has to be.
    #[error("could not read `{path}`: `{place}` is {what}, not a directory (ENOTDIR)")]
    NotADirectory {
        /// The file as shown.
        path: String,
        /// What is no directory, as shown.
        place: String,
        /// `a file`, `a device` and so on.
        what: &'static str,
    },
    /// An environment file above the bound.
    #[error("could not read `{path}`: it is larger than 1 MiB")]
    TooLarge {
        /// The file as shown.
        path: String,
    },
    /// `AJ_CONFIG_DIR` depends on the current directory.
    #[error("`AJ_CONFIG_DIR` is `{0}`, not an absolute path")]
    RelativeConfigDir(String),
    /// A file does not say anything usable.
    #[error(transparent)]
    File(#[from] FileError),
    /// An environment file does not say anything usable.
    #[error("could not read `{path}`: {source}")]
    EnvFile {
        /// The file as shown.
        path: String,
        /// Where and what.
        source: EnvFileError,
    },
    /// The sources do not go together.
    #[error(transparent)]
    Policy(#[from] crate::policy::Error),
}

fn reason(errno: &Errno) -> String {
    format!("{} ({errno:?})", errno.desc())
}

/// An error of the standard library in our words: what it is, and the errno by name.
pub(super) fn why(e: &io::Error) -> String {
    match e.raw_os_error() {
        Some(_) => reason(&errno(e)),
        None => e.to_string(),
    }
}

/// The files as found.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The user configuration.
    pub user: Option<UserFile>,
    /// The project's file.
    pub project: Option<ProjectFile>,
}

/// Where the user configuration is or would be; `None` without a home directory.
pub fn user_path() -> Result<Option<PathBuf>, Error> {
    // Ours is not ignored when relative, as XDG asks for theirs: it may hold hard limits.
    if let Some(dir) = env::CONFIG_DIR.get().map(PathBuf::from) {
        if !dir.is_absolute() {
            return Err(Error::RelativeConfigDir(os(&dir)));
        }
        return Ok(Some(dir.join("config.toml")));
    }
    Ok(env::config_home().map(|b| b.join("agentjail/config.toml")))
}

/// Where the project's file is or would be.
pub fn project_path(cwd: &Path) -> PathBuf {
    cwd.join(PROJECT_FILE)
}

/// Whether something of that name is there.
pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Read both files. Two failed `open` calls when there are none: this runs before every jail.
pub fn load(cwd: &Path) -> Result<Loaded, Error> {
    Ok(Loaded { user: user()?, project: load_project(&project_path(cwd), PROJECT_FILE)? })
}

/// Read the user's own configuration.
pub fn user() -> Result<Option<UserFile>, Error> {
    user_path()?.map_or(Ok(None), |path| load_user(&path))
}

/// Read one file as user configuration; `None` when it does not exist.
pub fn load_user(path: &Path) -> Result<Option<UserFile>, Error> {
    let shown = shown(path);
    // The user's own: dotfile managers put links here.
    let Some((bytes, meta)) = read_with(path, &shown, 0)? else {
        return absent(path, shown).map(|()| None);
    };
    let mut file = file::parse_user(&shown, &bytes, home().as_deref())?;
    file.warnings.extend(exposed(&shown, path, &meta));
    Ok(Some(file))
}

/// What to say of a file with hard limits in it that is not the user's alone. It is obeyed all the same: that
/// somebody could widen it is no reason to do without what it says now.
fn exposed(shown: &str, path: &Path, meta: &Metadata) -> Option<String> {
    let (mode, uid) = (meta.mode(), meta.uid());
    let name = command_line(&[os(path)]);
    // A group with the number of the owner is that user's own, on systems that let it write by default.
    let group = mode & 0o020 != 0 && meta.gid() != uid;
    if mode & 0o002 != 0 || group {
        let who = if mode & 0o002 != 0 { "everybody" } else { "its group" };
        return Some(format!(
            "{who} may change `{shown}`, which decides what jails may do; to end that: `chmod go-w {name}`"
        ));
    }
    (uid != 0 && uid != sys::caps::started_as()).then(|| {
        format!("`{shown}`, which decides what jails may do, belongs to another user ({uid}); to end that: `chown` it, or set AJ_CONFIG_DIR")
    })
}

/// Read one file as a project's; `None` when it does not exist.
///
/// It comes with a tree that nobody vouches for: a link is refused (an error message must not
/// quote `/etc/shadow`), a FIFO or device neither blocks nor is read.
///
/// `shown` is what messages call it.
pub fn load_project(path: &Path, shown: &str) -> Result<Option<ProjectFile>, Error> {
    let Some(bytes) = read_regular(path, shown, libc::O_NOFOLLOW)? else { return Ok(None) };
    Ok(Some(file::parse_project(shown, &bytes)?))
}

/// The policy of a command over the tree `root`: files, flags and environment files together.
///
/// Directories given relative to `cwd` become absolute.
pub fn policy(root: &Path, cwd: &Path, flags: Layer, env_files: &[PathBuf]) -> Result<Resolved, Error> {
    policy_of(&load(root)?, cwd, None, flags, env_files)
}

/// The same where the user's own configuration has been read before.
pub fn policy_with(
    user: Option<UserFile>,
    (root, cwd): (&Path, &Path),
    workspace: Option<&Stored>,
    flags: Layer,
    env_files: &[PathBuf],
) -> Result<Resolved, Error> {
    let project = load_project(&project_path(root), PROJECT_FILE)?;
    policy_of(&Loaded { user, project }, cwd, workspace, flags, env_files)
}

fn policy_of(
    loaded: &Loaded,
    cwd: &Path,
    workspace: Option<&Stored>,
    mut flags: Layer,
    env_files: &[PathBuf],
) -> Result<Resolved, Error> {
    for dir in flags.ro.iter_mut().chain(flags.rw.iter_mut()) {
        // Collected from its parts: `.` in the middle or at the end means nothing.
        dir.value = cwd.join(&dir.value).components().collect();
    }
    if !env_files.is_empty() {
        flags = with_env_files(cwd, flags, env_files)?;
    }
    let sources =
        Sources { user: loaded.user.as_ref(), project: loaded.project.as_ref(), workspace, flags: &flags };
    Ok(resolve(sources, &facts())?)
}

/// What [`check`] read and found.
#[derive(Debug, Default)]
pub struct Checked {
    /// The files, as shown.
    pub files: Vec<String>,
    /// Keys that are not known, values that are ignored, layers that are weakened.
    pub warnings: Vec<String>,
}

/// Read and resolve without running anything: the files that hold in `cwd`, or `file` in the place of
/// one of them (of the project's when it has that name). `None`: `file` does not exist.
pub fn check(cwd: &Path, file: Option<&Path>) -> Result<Option<Checked>, Error> {
    let Some(file) = file else { return checked(&load(cwd)?).map(Some) };
    let path = cwd.join(file);
    let loaded = if path.file_name().is_some_and(|n| n == PROJECT_FILE) {
        let Some(project) = load_project(&path, &os(file))? else { return Ok(None) };
        // Judged against the user's own file: what is wider depends on it.
        Loaded { user: user()?, project: Some(project) }
    } else {
        let Some(user) = load_user(&path)? else { return Ok(None) };
        Loaded { user: Some(user), project: None }
    };
    checked(&loaded).map(Some)
}

/// Names of presets and what they are for: those that are built in, and the user's own.
pub fn presets() -> Vec<(String, String)> {
    let user = user().ok().flatten();
    let own =
        user.iter().flat_map(|file| file.presets.keys().map(|name| (os(name), format!("of {}", file.path))));
    presets::BUILT_IN.iter().map(|(name, what)| ((*name).to_owned(), (*what).to_owned())).chain(own).collect()
}

fn checked(loaded: &Loaded) -> Result<Checked, Error> {
    let flags = Layer::default();
    let sources = Sources {
        user: loaded.user.as_ref(),
        project: loaded.project.as_ref(),
        workspace: None,
        flags: &flags,
    };
    let warnings = resolve(sources, &facts())?.warnings;
    let user = loaded.user.as_ref().map(|f| f.path.clone());
    let files = user.into_iter().chain(loaded.project.as_ref().map(|f| f.path.clone())).collect();
    Ok(Checked { files, warnings })
}

/// `--env` is the more deliberate word: it wins over every `--env-file`, wherever it stands.
pub(super) fn with_env_files(cwd: &Path, mut flags: Layer, env_files: &[PathBuf]) -> Result<Layer, Error> {
    let (env, pass) = (std::mem::take(&mut flags.env), std::mem::take(&mut flags.pass));
    for path in env_files {
        let shown = os(path);
        let bytes = read_any(&cwd.join(path), &shown)?;
        envfile::parse(&bytes, &mut flags).map_err(|source| Error::EnvFile { path: shown, source })?;
    }
    for e in env {
        flags.set_env(e.value.0, e.value.1, e.line);
    }
    for p in pass {
        flags.pass_env(p.value, p.line);
    }
    Ok(flags)
}

/// What the built-in values depend on, of this machine and process.
pub fn facts() -> Facts {
    let (nofile_soft, nofile_hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 4096));
    let cpus = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    Facts {
        ram: nix::sys::sysinfo::sysinfo().map_or(0, |info| info.ram_total()),
        cpus: cpus.and_then(|n| u64::try_from(n).ok()).unwrap_or(1).max(1),
        nofile_soft,
        nofile_hard,
    }
}

fn home() -> Option<PathBuf> {
    env::HOME.absolute_path()
}

/// A path for messages: `~` for the home directory.
pub(super) fn shown(path: &Path) -> String {
    match home().as_deref().and_then(|h| path.strip_prefix(h).ok()) {
        Some(rest) => format!("~/{}", os(rest)),
        None => os(path),
    }
}

/// Make sure that the user's file was never made: one that only cannot be reached may hold hard
/// limits, which must not go away because a link broke or a name was taken by something else.
///
/// `path` could not be opened just now (ENOENT or ENOTDIR).
fn absent(path: &Path, path_shown: String) -> Result<(), Error> {
    // A home that is none (`HOME=/dev/null`) has no configuration in it.
    let home = home().unwrap_or_default();
    for place in path.ancestors().take_while(|p| !home.starts_with(p)) {
        let fail = |errno| Error::Read { path: path_shown.clone(), errno };
        let meta = match place.symlink_metadata() {
            Ok(meta) => meta,
            Err(e) if matches!(errno(&e), Errno::ENOENT | Errno::ENOTDIR) => continue,
            Err(e) => return Err(fail(errno(&e))),
        };
        if meta.is_dir() {
            return Ok(());
        }
        // Whether what is there leads on by links.
        return match place.metadata() {
            Ok(end) if end.is_dir() => Ok(()),
            // Made since the open failed.
            Ok(_) if place == path => Err(fail(Errno::EAGAIN)),
            Ok(end) => Err(Error::NotADirectory {
                path: path_shown,
                place: shown(place),
                what: describe(end.file_type()),
            }),
            Err(_) if meta.is_symlink() => {
                let target = std::fs::read_link(place).unwrap_or_default();
                Err(Error::Dangling { path: path_shown, link: shown(place), target: os(&target) })
            }
            Err(e) => Err(fail(errno(&e))),
        };
    }
    Ok(())
}

/// The bytes of a regular file of at most [`LARGEST`] bytes (one more is read, for the parser to
/// refuse). `None` when there is nothing of that name.
pub(super) fn read_regular(path: &Path, shown: &str, flags: i32) -> Result<Option<Vec<u8>>, Error> {
    Ok(read_with(path, shown, flags)?.map(|(bytes, _)| bytes))
}

/// The same with what the file is.
fn read_with(path: &Path, shown: &str, flags: i32) -> Result<Option<(Vec<u8>, Metadata)>, Error> {
    let kind = |what| Error::Kind { path: shown.to_owned(), what };
    // O_NONBLOCK: opening a FIFO nobody writes to would wait for ever.
    let opened =
        File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | flags).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(e) => {
            return match errno(&e) {
                Errno::ENOENT | Errno::ENOTDIR => Ok(None),
                Errno::ELOOP if flags & libc::O_NOFOLLOW != 0 => Err(kind("a symbolic link")),
                Errno::ENXIO => Err(kind("a socket")),
                errno => Err(Error::Read { path: shown.to_owned(), errno }),
            };
        }
    };
    // Of the descriptor, not of the name: the name may mean something else by now.
    let read_error = |e: io::Error| Error::Read { path: shown.to_owned(), errno: errno(&e) };
    let meta = file.metadata().map_err(read_error)?;
    let kind_of = meta.file_type();
    if !kind_of.is_file() {
        return Err(kind(describe(kind_of)));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST as u64 + 1).read_to_end(&mut bytes).map_err(read_error)?;
    Ok(Some((bytes, meta)))
}

/// The bytes of whatever the user named: pipes as well, for `--env-file <(…)`.
fn read_any(path: &Path, shown: &str) -> Result<Vec<u8>, Error> {
    let read_error = |e: io::Error| Error::Read { path: shown.to_owned(), errno: errno(&e) };
    let file = File::open(path).map_err(read_error)?;
    let mut bytes = Vec::new();
    file.take(LARGEST as u64 + 1).read_to_end(&mut bytes).map_err(read_error)?;
    if bytes.len() > LARGEST {
        return Err(Error::TooLarge { path: shown.to_owned() });
    }
    Ok(bytes)
}

fn errno(e: &io::Error) -> Errno {
    Errno::from_raw(e.raw_os_error().unwrap_or(0))
}

fn describe(kind: std::fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_file() {
        "a file"
    } else {
        "a device"
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
