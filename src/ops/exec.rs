//! `aj exec`: one command in a one-shot jail over the current directory.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, fstat};
use serde_json::json;

use super::{changes, config};

use crate::base::id::{Id, Kind};
use crate::base::{env, text};
use crate::jail::etc::{self, Etc};
use crate::jail::launch::{self, Stdin};
use crate::jail::plan;
use crate::jail::spec::{Birth, Ids, Owner, RANGE_BASE, Spec};
use crate::jail::status::Layers;
use crate::jail::supervise::{self, Ended, Options};
use crate::monitor::Monitor;
use crate::policy::layer::Layer;
use crate::policy::resolve::Resolved;
use crate::policy::settings::{Access, Tools};
use crate::schema::changes::{Applied, Diff};
use crate::schema::jail::{Effective, Outcome, Usage};
use crate::store::layout::StateDir;
use crate::store::spool;
use crate::store::trees::{self, Tree};
use crate::sys;

mod check;
mod foreign;
mod missing;
mod record;
mod shown;
mod spec;

pub use check::WayOut;
pub use missing::{OnHost, on_host};
pub use shown::explain;

/// What the user asked for.
#[derive(Debug, Default)]
pub struct Request {
    /// Settings from flags.
    pub flags: Layer,
    /// `--env-file`s, in order.
    pub env_files: Vec<PathBuf>,
    /// The command. Never empty.
    pub argv: Vec<OsString>,
    /// Working directory inside the workspace, relative to it, instead of its top.
    pub cwd: Option<PathBuf>,
    /// Show directories that are refused otherwise.
    pub i_mean_it: bool,
    /// Hand output to the watcher instead of passing it through.
    pub capture: bool,
    /// Call the watcher twice a second.
    pub ticks: bool,
    /// Descriptor that gets JSON lines about the start and the end.
    pub status_fd: Option<i32>,
}

/// What the caller hears while the command runs. What it appends to `lines` is written to stdout,
/// in order and without holding up the command's clock.
pub trait Watcher {
    /// The command is running, with these layers in force; `pid` is the jail's pid 1.
    fn started(&mut self, layers: Vec<String>, pid: i32, lines: &mut Vec<u8>);
    /// Output, when it is captured instead of passed through.
    fn output(&mut self, stderr: bool, bytes: &[u8], lines: &mut Vec<u8>);
    /// Twice a second, when asked for.
    fn tick(&mut self, usage: Usage, lines: &mut Vec<u8>);
    /// The first Ctrl-C was passed on.
    fn stopping(&mut self);
}

/// Between the supervisor and the caller: writes `--status-fd`.
struct Relay<'a> {
    to: &'a mut dyn Watcher,
    status: Option<File>,
    state: &'a StateDir,
    tree: Option<Tree>,
    /// Whether `tree` was looked at and kept for its changes.
    kept: Option<Result<(), Error>>,
}

impl Relay<'_> {
    /// Put the tree aside when nothing changed.
    fn settle(&mut self) {
        if self.kept.is_none() {
            let kept = keep_if_changed(self.tree.take(), self.state);
            self.kept = Some(kept.map(|tree| self.tree = tree));
        }
    }
}

impl Relay<'_> {
    fn status(&mut self, line: serde_json::Value) {
        if let Some(file) = &mut self.status {
            // A reader that went away does not change what the command does.
            drop(file.write_all(format!("{line}\n").as_bytes()));
        }
    }
}

impl supervise::Watcher for Relay<'_> {
    fn started(&mut self, layers: Layers, pid: i32, lines: &mut Vec<u8>) {
        self.status(json!({"event": "started", "pid": pid}));
        self.to.started(layers.names(), pid, lines);
        if self.tree.is_some() {
            // The command has only begun and a processor is free: before, the jail needed it for its
            // network namespace. Failing is no loss.
            trees::prepare_spare(self.state).ok();
        }
    }

    fn output(&mut self, stderr: bool, bytes: &[u8], lines: &mut Vec<u8>) {
        self.to.output(stderr, bytes, lines);
    }

    fn tick(&mut self, usage: Usage, lines: &mut Vec<u8>) {
        self.to.tick(usage, lines);
    }

    fn stopping(&mut self) {
        self.to.stopping();
    }

    fn settled(&mut self) {
        self.settle();
    }
}

/// Die of `signal`, so that the caller's shell sees what the user did. Returns only when it does
/// not kill.
pub fn die_of(signal: i32) {
    sys::signal::die_of(signal);
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// The jail's id.
    pub id: Id,
    /// How it ended.
    pub ended: Ended,
    /// The policy that was enforced.
    pub policy: Effective,
    /// The tool chains that it allowed.
    pub tools: Tools,
    /// What changed in the overlay, when anything did: it is kept for `aj diff` and `aj apply`.
    pub changes: Option<Diff>,
    /// Files changed in the overlay.
    pub files_changed: Option<u64>,
    /// Things worth a line on stderr.
    pub warnings: Vec<String>,
}

impl Report {
    /// Why output of the command could not be written: which stream, and the errno by name.
    pub fn output_failure(&self) -> Option<(&'static str, String)> {
        let (stream, errno) = self.ended.undelivered.failure()?;
        Some((stream, format!("{} ({errno:?})", errno.desc())))
    }

    /// The exit code of `aj exec`: the command's own, or 124 to 127 and 128+n.
    pub fn exit_code(&self) -> u8 {
        exit_code(&self.ended)
    }
}

fn exit_code(ended: &Ended) -> u8 {
    let code = match ended.outcome {
        // Its output is lost, so "it went well" would be a lie.
        _ if ended.undelivered.failure().is_some() => 125,
        Outcome::Exited { code } => code,
        Outcome::Signaled { signal } | Outcome::Interrupted { signal } => 128 + signal,
        Outcome::TimedOut => 124,
        Outcome::OutOfMemory => 137,
        Outcome::Failed { .. } => match ended.errno {
            Some(Errno::ENOENT | Errno::ENOTDIR) if ended.exec_failed => 127,
            Some(Errno::E2BIG | Errno::EAGAIN | Errno::ENOMEM) if ended.exec_failed => 125,
            _ if ended.exec_failed => 126,
            _ => 125,
        },
    };
    u8::try_from(code).unwrap_or(255)
}

/// Why nothing ran, or why what ran could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The policy could not be made.
    #[error(transparent)]
    Policy(#[from] config::Error),
    /// The state directory.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    /// The plan.
    #[error(transparent)]
    Plan(#[from] plan::Error),
    /// A system call on the host side.
    #[error("start the jail")]
    Launch(#[source] sys::Error),
    /// The current directory.
    #[error("the current directory cannot be used: {}", config::why(.why))]
    CurrentDir {
        /// Why.
        why: io::Error,
    },
    /// A directory that is not shown unless the user insists.
    #[error("`{}` {why}", text::os(.path))]
    Refused {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
        /// What would do.
        way: WayOut,
    },
    /// The overlay could not copy up files of this owner.
    #[error(
        "`{}` belongs to {} {theirs}, not to you ({ours}): an overlay over it could not change its files (EOVERFLOW)",
        text::os(.path), .what
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// `user` or `group`.
        what: &'static str,
        /// Its id.
        theirs: u32,
        /// The caller's.
        ours: u32,
    },
    /// A working directory that is not in the workspace.
    #[error("`--cwd {}` is not below `{}`", text::os(.path), text::os(.at))]
    Cwd {
        /// The path.
        path: PathBuf,
        /// Where the workspace is shown.
        at: PathBuf,
    },
    /// A host path given by `--ro` or `--rw`.
    #[error("cannot show `{}`: {}", text::os(.path), config::why(.why))]
    Bind {
        /// The path.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// `--tools` names what is in no catalogue.
    #[error("there are no tools of the name `{name}`")]
    UnknownTools {
        /// As given.
        name: String,
        /// The nearest known one.
        meant: Option<String>,
    },
    /// The jail's `/etc` could not be prepared.
    #[error("prepare the jail's /etc in the state directory: {}", config::why(.0))]
    Etc(io::Error),
    /// A limit that was asked for cannot be held here.
    #[error("`--{what}` cannot be enforced here: {why}")]
    Limit {
        /// Flag without dashes.
        what: &'static str,
        /// Why.
        why: &'static str,
    },
    /// `--status-fd` is not open.
    #[error("`--status-fd {fd}`")]
    StatusFd {
        /// The number.
        fd: i32,
        /// Why.
        source: sys::Error,
    },
    /// What changed could not be compared or applied.
    #[error(transparent)]
    Changes(#[from] changes::Error),
    /// No randomness.
    #[error("no random bytes for an id: {0}")]
    Random(getrandom::Error),
}

impl Error {
    /// Whether a directory was refused because the jail has one of its own in that place.
    pub fn place_is_taken(&self) -> bool {
        matches!(self, Error::Plan(plan::Error::Occupied { .. }))
    }
}

/// Run the command.
pub fn exec(request: &Request, watcher: &mut dyn Watcher) -> Result<Report, Error> {
    let status = match request.status_fd {
        Some(fd) => {
            let open = sys::fd::inherited(fd).map_err(|source| Error::StatusFd { fd, source })?;
            Some(File::from(open))
        }
        None => None,
    };
    // Whatever is made on the host side is private; the command gets the caller's umask.
    let umask = nix::sys::stat::umask(Mode::from_bits_truncate(0o077));
    sys::signal::ignore_sigxfsz();
    let (workspace, meta) = check::current_dir()?;
    let resolved = config::policy(&workspace, request.flags.clone(), &request.env_files)?;
    let mut warnings = resolved.warnings.clone();
    let settings = &resolved.settings;
    let euid = nix::unistd::geteuid().as_raw();
    let ids = match euid {
        0 => Ids::Range,
        uid => Ids::Caller { owner: Owner { uid, gid: nix::unistd::getegid().as_raw() } },
    };
    // As early as can be: pid 1 makes its namespaces on another processor while the rest is checked
    // and planned here. A host that cannot is reported after a request that could not be met anyway.
    let birth = Birth { ids, as_root: settings.as_root, net: settings.net, without: without() };
    let born = launch::bear(&birth, stdin(), request.capture || !same_file());
    let prepared = prepare(request, &resolved, (workspace, meta), birth, umask.bits(), &mut warnings);
    let (born, prepared) = match (born, prepared) {
        (Ok(born), Ok(prepared)) => (born, prepared),
        (Ok(born), Err(e)) => {
            born.abandon().map_err(Error::Launch)?;
            return Err(e);
        }
        (Err(_), Err(e)) => return Err(e),
        (Err(e), Ok(_)) => return Err(Error::Launch(e)),
    };
    let Prepared { state, spec, plan, policy, watch_memory, etc: _etc } = prepared;
    let (id, overlay) = (spec.id, spec.tree.is_some());
    let held = born.instruct(&spec, &plan).map_err(Error::Launch)?;
    // From here on the jail prepares its files while its tree is made and its start recorded; it
    // waits for `release` before it needs either.
    let tree = match record_start(&state, &spec, &policy, ids) {
        Ok(tree) => tree,
        Err(e) => {
            held.abandon().map_err(Error::Launch)?;
            return Err(e);
        }
    };
    let options = Options {
        timeout: settings.timeout,
        grace: settings.grace,
        capture: request.capture,
        watch_memory,
        ticks: request.ticks,
    };
    let mut relay = Relay { to: watcher, status, state: &state, tree, kept: None };
    let ended = held.release().and_then(|jail| supervise::supervise(jail, &options, &mut relay));
    let ended = match ended {
        Ok(mut ended) => {
            let exit = exit_code(&ended);
            if let Outcome::Failed { code, .. } = &mut ended.outcome {
                *code = i32::from(exit);
            }
            ended
        }
        Err(e) => {
            let outcome = Outcome::Failed { step: e.call.to_owned(), errno: e.name(), code: 125 };
            let end = record::end(id, outcome, None, &[], None);
            spool::append_end(&state, &end)?;
            discard(relay.tree, &state);
            return Err(Error::Launch(e));
        }
    };
    relay.status(match &ended.outcome {
        Outcome::Failed { step, errno, .. } => json!({"event": "failed", "stage": step, "errno": errno}),
        outcome => json!({"event": "exited", "code": exit_code(&ended), "outcome": outcome}),
    });
    relay.settle();
    let kept = relay.kept.unwrap_or(Ok(()));
    let changes = match kept.and_then(|()| relay.tree.map(|t| compare(&state, t)).transpose()) {
        Ok(changes) => changes.flatten(),
        Err(e) => {
            warnings.push(format!("what changed could not be told: {}", chain(&e)));
            None
        }
    };
    let files_changed = overlay.then(|| changes.as_ref().map_or(0, |d| d.totals.changes));
    let end = record::end(id, ended.outcome.clone(), Some(&ended), &ended.layers.names(), files_changed);
    if let Err(e) = spool::append_end(&state, &end) {
        warnings.push(format!("the run was not recorded: {e}"));
    }
    if overlay && foreign::is_suspect(&ended) {
        warnings.extend(foreign::hint(&spec.workspace, &ids, spec.owner));
    }
    if let Some(pid) = ended.unkillable {
        warnings.push(format!(
            "process {pid} was killed but does not end: a process of the jail waits inside the kernel"
        ));
    }
    sys::signal::give_back();
    let tools = resolved.settings.tools;
    Ok(Report { id, ended, policy, tools, files_changed, changes, warnings })
}

/// What a run is to be, checked and worked out.
struct Prepared {
    state: StateDir,
    spec: Spec,
    plan: plan::Plan,
    policy: Effective,
    watch_memory: Option<u64>,
    /// Kept for the length of the run.
    etc: Etc,
}

fn prepare(
    request: &Request,
    resolved: &Resolved,
    (workspace, meta): (PathBuf, Metadata),
    birth: Birth,
    umask: u32,
    warnings: &mut Vec<String>,
) -> Result<Prepared, Error> {
    let settings = &resolved.settings;
    let state = StateDir::open()?;
    let owner = check::workspace((&workspace, &meta), &state, settings, request.i_mean_it)?;
    let watch_memory = check::limits(settings, warnings)?;
    let id = Id::random(Kind::Jail).map_err(Error::Random)?;
    let etc = etc::ready(&state.path().join("cache")).map_err(Error::Etc)?;
    let alias = check::alias(&workspace, &meta);
    let shown = shown::beside(resolved, &workspace, Some(&state.real_path()), warnings)?;
    let names = shown.tools.names();
    let mut spec =
        spec::spec(request, settings, id, (workspace, alias, owner), birth, shown, etc.path.clone())?;
    spec.umask = umask;
    check::binds_and_state(&spec, &state, request.i_mean_it)?;
    spec.tree = (settings.access == Access::Overlay).then(|| trees::path_of(&state, id));
    let policy = record::effective(settings, &spec, names, watch_memory);
    let plan = plan::plan(&spec, &launch::host_root(settings.net))?;
    Ok(Prepared { state, spec, plan, policy, watch_memory, etc })
}

/// Make the tree and write the start record; leave nothing when either fails.
fn record_start(state: &StateDir, spec: &Spec, policy: &Effective, ids: Ids) -> Result<Option<Tree>, Error> {
    let tree = if spec.tree.is_some() {
        let inside = RANGE_BASE + spec.inside_id();
        let owner = (ids == Ids::Range).then_some((inside, inside));
        Some(trees::create_tree(state, spec.id, &spec.workspace, owner)?)
    } else {
        None
    };
    if let Err(e) = spool::append_start(state, &record::start(spec, policy)) {
        discard(tree, state);
        return Err(e.into());
    }
    Ok(tree)
}

/// Whether stdout and stderr are the same open file, pipe or terminal (`2>&1`): then the command
/// gets one pipe for both, and what it writes keeps its order.
fn same_file() -> bool {
    let (out, err) = (fstat(sys::fd::standard(1)), fstat(sys::fd::standard(2)));
    matches!((out, err), (Ok(a), Ok(b)) if (a.st_dev, a.st_ino, a.st_rdev) == (b.st_dev, b.st_ino, b.st_rdev))
}

/// How the command gets the caller's stdin: through a pipe of its own (see `jail::input`).
fn stdin() -> Stdin {
    match fstat(sys::fd::standard(0)) {
        Ok(s) if s.st_rdev != nix::sys::stat::makedev(1, 3) || !is_device(&s) => Stdin::Relay,
        _ => Stdin::Null,
    }
}

fn is_device(s: &nix::sys::stat::FileStat) -> bool {
    SFlag::from_bits_truncate(s.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR
}

/// Layers to leave out, so that a test can show what each one stops. In debug builds only: a
/// released binary has no such switch.
fn without() -> Vec<String> {
    match env::TEST_WITHOUT.get() {
        Some(list) if cfg!(debug_assertions) => {
            list.to_string_lossy().split(',').map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

fn discard(tree: Option<Tree>, state: &StateDir) {
    if let Some(tree) = tree {
        // Whatever is left is swept by the next command that looks.
        drop(tree.remove(state));
    }
}

/// An error with its sources, on one line.
fn chain(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut next = e.source();
    while let Some(source) = next {
        text.push_str(&format!(": {source}"));
        next = source.source();
    }
    text
}

/// What a finished run left in its tree. A tree that equals its base after all is put aside.
fn compare(state: &StateDir, tree: Tree) -> Result<Option<Diff>, Error> {
    let found = changes::find_tree(state.path(), Some(tree.id().as_str()), Path::new("/"))?;
    let diff = changes::diff(&found, &changes::DiffOptions::default())?;
    if diff.totals.changes == 0 && diff.totals.skipped == 0 {
        tree.remove(state)?;
        return Ok(None);
    }
    Ok(Some(diff))
}

/// Bring the changes of a run back to the host directory.
pub fn apply(id: Id, allow_exec_files: bool, monitor: &dyn Monitor) -> Result<Applied, Error> {
    let (tree, _) = changes::open_tree(Some(id.as_str()))?;
    let options = changes::ApplyOptions { allow_exec_files, ..changes::ApplyOptions::default() };
    Ok(changes::apply(&tree, &options, monitor)?)
}

fn keep_if_changed(tree: Option<Tree>, state: &StateDir) -> Result<Option<Tree>, Error> {
    match tree {
        Some(tree) if tree.is_unchanged()? => {
            tree.retire(state)?;
            Ok(None)
        }
        other => Ok(other),
    }
}
