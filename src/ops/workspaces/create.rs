//! `aj workspace create`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::import::Copied;
use super::list::{self, detail};
use super::{Error, Found};
use crate::base::id::{Id, Kind};
use crate::base::name::Name;
use crate::base::{clock, text};
use crate::jail::spec::{RANGE_BASE, inside_id};
use crate::monitor::Monitor;
use crate::ops::{config, volumes};
use crate::policy::gpu::Gpus;
use crate::policy::layer::Layer;
use crate::policy::settings::Access;
use crate::policy::stored::{self, Stored};
use crate::policy::volume::Mount;
use crate::schema::workspace::{RECORD, RECORD_OF_IMPORT, Record, WorkspaceDetail};
use crate::store::layout::StateDir;
use crate::store::trees::Tree;
use crate::store::workspaces::{self, Filed, Ground, Named};

/// Tries for a made-up name before it gets a number, and with a number.
const TRIES: u32 = 40;
/// Characters of a label, of a note's key and of its value at most.
const LONGEST: usize = 512;
/// Labels, and notes, at most.
const MOST: usize = 64;

/// What a workspace is to be.
#[derive(Debug, Default)]
pub struct Request {
    /// Its name; `None`: made up.
    pub name: Option<Name>,
    /// The host directory that it lies over; `None`: it begins empty.
    pub from_dir: Option<PathBuf>,
    /// The host directory that it lies over a copy of.
    pub import: Option<PathBuf>,
    /// Where its tree is seen, when it is not the host's; `None`: at `/workspace`.
    pub at: Option<PathBuf>,
    /// Settings for every command in it.
    pub flags: Layer,
    /// Files of variables for every command in it.
    pub env_files: Vec<PathBuf>,
    /// GPUs for every command in it.
    pub gpus: Option<Gpus>,
    /// Volumes for every command in it.
    pub volumes: Vec<Mount>,
    /// How long it lasts.
    pub ttl: Option<Duration>,
    /// After how long without use it is idle.
    pub idle: Option<Duration>,
    /// After how long without use it is removed.
    pub rm_when_idle: Option<Duration>,
    /// Labels.
    pub labels: Vec<String>,
    /// Notes.
    pub meta: BTreeMap<String, String>,
}

/// Make it. `monitor` is told of what is copied.
pub fn create(request: Request, monitor: &dyn Monitor) -> Result<WorkspaceDetail, Error> {
    let cwd = std::env::current_dir().map_err(Error::CurrentDir)?;
    check_words(&request)?;
    let mut flags = request.flags;
    if flags.access.as_ref().is_some_and(|a| a.value != Access::Overlay) {
        let why = "its tree is an overlay; show further directories with `--rw DIR` and `--ro DIR`";
        return Err(Error::Setting { what: "`--rw` or `--ro` for the directory itself", why });
    }
    for dir in flags.ro.iter_mut().chain(flags.rw.iter_mut()) {
        dir.value = cwd.join(&dir.value).components().collect();
    }
    let policy = stored::print(&flags)?;
    let state = StateDir::open()?;
    let from_dir = request.from_dir.as_deref().map(|dir| base(&state, dir, false)).transpose()?;
    let import = request.import.as_deref().map(|dir| base(&state, dir, true)).transpose()?;
    let at = request.at.as_deref().map(super::import::place).transpose()?.flatten();
    let env_files: Result<Vec<String>, Error> = request.env_files.iter().map(|f| env_file(&cwd, f)).collect();
    let as_root = resolve(&flags, from_dir.as_deref().or(import.as_deref()), &cwd, &request.env_files)?;
    let env_files = env_files?;
    let volumes =
        volumes::attachments(&state, from_dir.as_deref().or(at.as_deref().map(Path::new)), &request.volumes)?;
    let made = request.name.is_none();
    let mut name = request.name.map_or_else(Name::random, Ok).map_err(Error::Random)?;
    if !made && let Some(id) = workspaces::holder(&state, &name)? {
        return Err(Error::Taken { name: name.to_string(), id });
    }
    let import =
        import.map(|from| super::import::copy(&state, (&from, plain_path(&from)?), monitor)).transpose()?;
    let mut over = |import: Option<&Copied>| {
        for turn in 1.. {
            let record = Record {
                format: if at.is_some() || import.is_some() { RECORD_OF_IMPORT } else { RECORD },
                id: Id::random(Kind::Workspace).map_err(Error::Random)?,
                name: name.clone(),
                created_ms: clock::now_ms(),
                from_dir: from_dir.as_deref().map(plain_path).transpose()?,
                ttl_ms: request.ttl.map(ms),
                idle_ms: request.idle.map(ms),
                rm_idle_ms: request.rm_when_idle.map(ms),
                touched_ms: None,
                keep_until_ms: None,
                env_files: env_files.clone(),
                gpu: request.gpus.as_ref().map(Gpus::to_string),
                volumes: volumes.clone(),
                parent: None,
                group: None,
                layers: Vec::new(),
                at: at.clone(),
                import: import.map(|copied| copied.import.clone()),
                maker: None,
                labels: request.labels.clone(),
                meta: request.meta.clone(),
            };
            let filed = Filed::new(record, policy.clone());
            let ground = Ground {
                fork_of: None,
                hidden: None,
                base: from_dir.as_deref(),
                import: import.map(|copied| &copied.placed),
                owner: owner(as_root),
            };
            let taken = match workspaces::create(&state, &filed, ground)? {
                Named::Yes => return Ok(filed),
                Named::Taken(id) => Error::Taken { name: name.to_string(), id },
            };
            if !made || turn > 2 * TRIES {
                return Err(taken);
            }
            name = Name::random().map_err(Error::Random)?;
            if turn > TRIES {
                name = name.numbered(turn);
            }
        }
        Err(Error::None)
    };
    let done = over(import.as_ref());
    let filed = Copied::settle(import, &state, done)?;
    detail(&Found { state, filed })
}

/// Host ids of what is written in a workspace; `None`: the caller's own.
pub(super) fn owner(as_root: bool) -> Option<(u32, u32)> {
    let id = RANGE_BASE + inside_id(as_root);
    nix::unistd::geteuid().is_root().then_some((id, id))
}

/// The same as it was when `tree` was made.
pub(super) fn owner_of(tree: &Tree) -> Result<Option<(u32, u32)>, Error> {
    let owner = tree.owner()?;
    Ok(nix::unistd::geteuid().is_root().then_some((owner, owner)))
}

/// What is wrong with the settings is said now and not at the first command. Whether commands are uid 0.
fn resolve(flags: &Layer, dir: Option<&Path>, cwd: &Path, env_files: &[PathBuf]) -> Result<bool, Error> {
    let layer = match env_files {
        [] => flags.clone(),
        files => config::with_env_files(cwd, flags.clone(), files)?,
    };
    let stored = Stored { layer, ..Stored::default() };
    // Without a directory there is no project whose file could say anything.
    let root = dir.unwrap_or(Path::new("/nonexistent"));
    let resolved = config::policy_with(config::user()?, (root, cwd), Some(&stored), Layer::default(), &[])?;
    Ok(resolved.settings.as_root)
}

/// The host directory of a workspace, without links. `copied`: what of it is aj's own is left out.
fn base(state: &StateDir, dir: &Path, copied: bool) -> Result<PathBuf, Error> {
    let refuse = |why: String| Error::Directory { path: dir.to_owned(), why };
    let real = std::fs::canonicalize(dir).map_err(|e| refuse(config::why(&e)))?;
    let meta = std::fs::metadata(&real).map_err(|e| refuse(config::why(&e)))?;
    if !meta.is_dir() {
        return Err(refuse("it is no directory".to_owned()));
    }
    let own = state.real_path();
    if (own.starts_with(&real) && !copied) || real.starts_with(&own) {
        return Err(refuse("aj's state directory is in it, or it in that".to_owned()));
    }
    if let Some(why) = crate::ops::exec::is_private(&real, &meta) {
        return Err(refuse(format!("it {why}")));
    }
    Ok(real)
}

fn plain_path(path: &Path) -> Result<String, Error> {
    match path.to_str() {
        Some(text) if !text.chars().any(char::is_control) => Ok(text.to_owned()),
        _ => {
            let why = "its path is not plain text, which a workspace's record is".to_owned();
            Err(Error::Directory { path: path.to_owned(), why })
        }
    }
}

fn env_file(cwd: &Path, file: &Path) -> Result<String, Error> {
    let whole: PathBuf = cwd.join(file).components().collect();
    match whole.to_str() {
        Some(text) if !text.chars().any(char::is_control) => Ok(text.to_owned()),
        _ => Err(stored::NotText { what: "--env-file", value: text::os(&whole) }.into()),
    }
}

/// Labels and notes are one line each, so that what lists them stays what it is.
fn check_words(request: &Request) -> Result<(), Error> {
    for label in &request.labels {
        list::check_label(label)?;
    }
    let bad = |given: &str, what, why| Error::Word {
        given: text::brief(&text::printable(given.as_bytes())),
        what,
        why,
    };
    for (key, value) in &request.meta {
        for (part, what) in [(key, "the key of a note"), (value, "a note")] {
            if part.chars().any(char::is_control) {
                return Err(bad(part, what, "it has control characters in it"));
            }
            if part.len() > LONGEST {
                return Err(bad(part, what, "it is longer than 512 bytes"));
            }
        }
    }
    if request.labels.len() > MOST {
        return Err(bad(&request.labels.len().to_string(), "a number of labels", "64 are the most"));
    }
    if request.meta.len() > MOST {
        return Err(bad(&request.meta.len().to_string(), "a number of notes", "64 are the most"));
    }
    Ok(())
}

fn ms(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
