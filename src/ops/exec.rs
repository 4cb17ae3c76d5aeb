//! `aj exec`: one command in a one-shot jail over the current directory.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::stat::Mode;
use serde_json::json;

use super::caches::Found as FoundCache;
use super::project::{self, Choice, Place};
use super::secrets::{Placed, Secrets};
use super::tools::Found;
use super::{changes, config, keep, pause};

use crate::base::id::{Id, Kind as IdKind};
use crate::jail::etc;
use crate::jail::launch;
use crate::jail::limits::Limits;
use crate::jail::plan;
use crate::jail::ready::Ready;
use crate::jail::root;
use crate::jail::spec::{Birth, Spec};
use crate::jail::supervise::{self, Ended, Leaving, Options};
use crate::monitor::Monitor;
use crate::policy::file::UserFile;
use crate::policy::layer::Layer;
use crate::policy::resolve::Resolved;
use crate::policy::settings::{Access, Net, Settings, Tools};
use crate::schema::changes::{Applied, Diff};
use crate::schema::jail::{Effective, Outcome, Usage};
use crate::store::layout::StateDir;
use crate::store::planted::{self, Bed};
use crate::store::sides::Kind;
use crate::store::spool;
use crate::store::trees::{self, Tree};
use crate::sys;
use crate::sys::sink;

mod again;
mod alias;
mod beside;
mod beyond;
mod born;
mod check;
mod dry;
mod end;
mod error;
mod foreign;
mod hide;
mod limits;
mod missing;
mod offline;
mod parts;
mod record;
mod relay;
mod setid;
mod shell;
mod shown;
mod spec;
mod streams;
mod tracked;
mod veil;

use beside::Beside;
use born::Start;
use limits::Chosen;
use relay::Relay;

pub use check::WayOut;
pub use dry::explain;
pub use error::Error;
pub use missing::{OnHost, on_host};
pub use streams::Tty;

/// Where in the state directory what is ready-made lies.
const CACHE: &str = "cache";

/// What the user asked for.
#[derive(Debug, Default)]
pub struct Request {
    /// Settings from flags.
    pub flags: Layer,
    /// `--env-file`s, in order.
    pub env_files: Vec<PathBuf>,
    /// The command. Empty: the user's shell.
    pub argv: Vec<OsString>,
    /// Whether it has a terminal.
    pub tty: Tty,
    /// Which directory it sees.
    pub tree: Choice,
    /// The jail in whose tree it goes on; `@` is the newest of this directory.
    pub again: Option<OsString>,
    /// Working directory in the tree, relative to the caller's, instead of that.
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
    /// The caller's terminal is about to be the command's: the last moment to write to it.
    fn attaching(&mut self);
    /// The first Ctrl-C was passed on.
    fn stopping(&mut self);
}

/// Make the caller's terminal as it was: for whoever ends the process in the middle of a run.
pub fn restore_terminal() {
    sys::screen::give_back(sys::fd::standard(1));
    sys::terminal::restore();
}

/// Write a message of `aj` to stderr, waiting for its reader no longer than `patience`.
pub fn say_within(text: &str, patience: Duration) {
    // Nothing can be reported when stderr itself is gone.
    sink::write_within(sys::fd::standard(2), text.as_bytes(), patience);
}

/// How long a reader of our own words is waited for after the run: what is left of the command's
/// time, but a moment at least; without a timeout and an interrupt, for ever (a day).
fn patience(settings: &Settings, ended: &Ended) -> Duration {
    const MOMENT: Duration = Duration::from_secs(1);
    const EVER: Duration = Duration::from_secs(86_400);
    let used = Duration::from_millis(ended.usage.wall_ms);
    match (settings.timeout, &ended.outcome) {
        (_, Outcome::Interrupted { .. }) => MOMENT,
        (Some(limit), _) => limit.saturating_sub(used).max(MOMENT).min(EVER),
        (None, _) => EVER,
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
    /// What was hidden of the tree, as a line.
    pub hidden: Option<String>,
    /// What changed in the overlay, when anything did: it is kept for `aj diff` and `aj apply`.
    pub changes: Option<Diff>,
    /// Files changed in the overlay.
    pub files_changed: Option<u64>,
    /// Things worth a line on stderr.
    pub warnings: Vec<String>,
    /// How long the reader of what is still to say may take.
    pub patience: Duration,
    /// The start failed for want of descriptors, and somebody set their limit: the setting, where it
    /// stands, and its value.
    pub too_few_files: Option<(String, u64)>,
    /// The start failed because of what is mounted below the tree: names of it.
    pub mounts_in_the_way: Option<String>,
    /// Keeps the changes from being removed as long as they may be applied.
    _held: Option<Tree>,
    /// Removed when this is dropped: once everything has been said.
    _group: Option<Limits>,
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

/// Run the command.
pub fn exec(request: &Request, watcher: &mut dyn Watcher) -> Result<Report, Error> {
    let status = streams::inherited(request.status_fd)?;
    let terminal = streams::terminal(request)?;
    // Whatever is made on the host side is private; the command gets the caller's umask.
    let umask = nix::sys::stat::umask(Mode::from_bits_truncate(0o077));
    sys::signal::ignore_sigxfsz();
    let mut warnings = Vec::new();
    let user = config::user()?;
    let early = Start::early((request, terminal), user.as_ref());
    let asked = Asked::look_at(request, user, &mut warnings);
    let Asked { older, place, resolved } = match asked {
        Ok(asked) => asked,
        Err(e) => {
            // Said first, whatever this host can do.
            early.map(Start::abandon).transpose().ok();
            return Err(e);
        }
    };
    warnings.extend_from_slice(&resolved.warnings);
    let settings = &resolved.settings;
    let id = Id::random(IdKind::Jail).map_err(Error::Random)?;
    let chosen = limits::choose(&resolved, &id, &place.root, &mut warnings);
    let mut limits = match chosen {
        Ok(limits) => limits,
        Err(e) => {
            early.map(Start::abandon).transpose().ok();
            return Err(e);
        }
    };
    let start = Start::fitting(early, (request, terminal), settings, limits.group.as_mut())?;
    let birth = start.birth();
    let ids = birth.ids;
    let given = (id, &limits, umask.bits());
    let prepared = prepare(request, &resolved, place, older.as_ref(), birth, given, &mut warnings);
    let (born, prepared) = start.with(prepared)?;
    let Prepared { state, spec, mut plan, policy, etc: _etc, root, beside, secrets, seeds, .. } = prepared;
    let overlay = spec.access == Access::Overlay;
    let held = born.instruct(&spec, &mut plan).map_err(Error::Launch)?;
    let without_caches = held.without_caches();
    let kind = if request.argv.is_empty() { "shell" } else { "exec" };
    let run = (kind, held.pid());
    // From here on the jail prepares its files while its tree is made; it waits for `release` before it
    // needs that, and with its command until its start is recorded.
    let begun = Begun { spec: &spec, beside: &beside, seeds: &seeds, secrets: &secrets, run };
    let tree = match begun.tree(&state, older, &mut warnings) {
        Ok(tree) => tree,
        Err(e) => {
            held.abandon().map_err(Error::Launch)?;
            return Err(e);
        }
    };
    let released = match held.release(&plan, !spec::test_takes("own-overlays")) {
        Ok(released) => released,
        Err(e) => {
            discard(tree, &state);
            return Err(Error::Launch(e));
        }
    };
    match spool::append_start(&state, &record::start(&spec, &policy, tree.as_ref().map(Tree::id), begun.run))
    {
        Ok(set_aside) => warnings.extend(set_aside),
        Err(e) => {
            let ended = released.abandon();
            discard(tree, &state);
            ended.map_err(Error::Launch)?;
            return Err(e.into());
        }
    }
    let options = Options {
        timeout: settings.timeout,
        grace: settings.grace,
        capture: request.capture,
        watch_memory: limits.watch_memory,
        watch_disk: limits.watch_disk,
        group: limits.group.as_ref(),
        ticks: request.ticks,
    };
    let below = beyond::Below::of(&spec);
    let mut relay = Relay::new(watcher, status, &state, tree, below.as_ref());
    relay.run = Some((id, limits.group.as_ref()));
    relay.beside = &beside;
    relay.wanted = root.as_ref().err().and_then(Option::as_ref);
    let ended = released.start().and_then(|jail| supervise::supervise(jail, &options, &mut relay));
    let (mut ended, leaving) = match ended {
        Ok((mut ended, leaving)) => {
            let exit = exit_code(&ended);
            if let Outcome::Failed { code, .. } = &mut ended.outcome {
                *code = i32::from(exit);
            }
            (ended, leaving)
        }
        Err(e) => {
            let outcome = Outcome::Failed { step: e.call.to_owned(), errno: e.name(), code: 125 };
            let end = record::end(id, outcome, None, &[], None);
            warnings.extend(spool::append_end(&state, &end)?);
            discard(relay.tree, &state);
            return Err(Error::Launch(e));
        }
    };
    let kept = relay.settle();
    let left = match kept.and_then(|tree| tree.map(|t| end::settle(&state, t, id)).transpose()) {
        Ok(left) => left.flatten(),
        Err(e) => {
            warnings.push(format!("what changed could not be told: {}", chain(&e)));
            None
        }
    };
    let changes = left.as_ref().map(|left| &left.diff);
    let files_changed = overlay.then(|| changes.map_or(0, |d| d.totals.changes));
    let end = record::end(id, ended.outcome.clone(), Some(&ended), &ended.layers.names(), files_changed);
    match spool::append_end(&state, &end) {
        Ok(set_aside) => warnings.extend(set_aside),
        Err(e) => warnings.push(format!("the run was not recorded: {e}")),
    }
    // Meanwhile the kernel has taken most of the jail down.
    match leaving.map(Leaving::wait).transpose() {
        Ok(pid) => ended.unkillable = ended.unkillable.or(pid.flatten()),
        Err(e) => warnings.push(format!("whether the jail has ended is not known: {e}")),
    }
    relay.status(match &ended.outcome {
        Outcome::Failed { step, errno, .. } => json!({"event": "failed", "stage": step, "errno": errno}),
        outcome => json!({"event": "exited", "code": exit_code(&ended), "outcome": outcome}),
    });
    let patience = patience(settings, &ended);
    relay.finish_status(patience);
    pause::forget(&state, id);
    if let Some(left) = &left {
        keep::enforce(&state, left.diff.tree, left.bytes, &resolved.keep, &mut warnings);
    }
    if overlay && foreign::is_suspect(&ended) {
        warnings.extend(foreign::hint(&spec.workspace, &ids, spec.owner));
    }
    warnings.extend(veil::missing(&spec, ended.layers));
    warnings.extend(relay.mounts.take());
    warnings.extend(beyond::links(&spec, &ended));
    warnings.extend(tracked::line(&spec, &secrets));
    warnings.extend(offline::line(&resolved, &ended));
    warnings.extend(limits::refused(&resolved, &ended));
    warnings.extend(beside::missing(&spec, without_caches | ended.layers.caches_missing()));
    if let Ok(root) = &root {
        warnings.extend(end::damaged(root, &ended.outcome));
    }
    if let Some(pid) = ended.unkillable {
        warnings.push(format!(
            "process {pid} was killed but does not end: a process of the jail waits inside the kernel"
        ));
    }
    sys::signal::give_back();
    let too_few_files = check::too_few_files(&resolved, &ended.outcome);
    let mounts_in_the_way = below.and_then(|below| below.in_the_way(ids, &ended.outcome));
    let tools = resolved.settings.tools;
    let (changes, held) = left.map(|left| (left.diff, left.tree)).unzip();
    let hidden = secrets.line();
    Ok(Report {
        id,
        ended,
        policy,
        tools,
        hidden,
        files_changed,
        changes,
        warnings,
        patience,
        too_few_files,
        mounts_in_the_way,
        _held: held,
        _group: limits.group,
    })
}

/// What is asked for, over which directory.
struct Asked {
    /// The tree to go on in.
    older: Option<Tree>,
    place: Place,
    resolved: Resolved,
}

impl Asked {
    fn look_at(
        request: &Request,
        user: Option<UserFile>,
        warnings: &mut Vec<String>,
    ) -> Result<Asked, Error> {
        let (older, place) = match again::take(request, warnings)? {
            Some((tree, place)) => (Some(tree), place),
            None => (None, project::find(&request.tree)?),
        };
        let flags = request.flags.clone();
        let resolved = config::policy_with(user, &place.root, &place.cwd, flags, &request.env_files)?;
        Ok(Asked { older, place, resolved })
    }
}

/// What a run is to be, checked and worked out.
struct Prepared {
    state: StateDir,
    spec: Spec,
    plan: plan::Plan,
    policy: Effective,
    /// Kept for the length of the run.
    etc: Ready,
    /// Likewise; or what is to be made for later runs.
    root: Result<root::Root, Option<root::Wanted>>,
    /// The tools that are shown.
    tools: Vec<Found>,
    /// The caches that are shown.
    caches: Vec<FoundCache>,
    /// What has an overlay beside the workspace.
    beside: Vec<Beside>,
    /// What is shown because git needs it, in whichever way.
    parts: Vec<PathBuf>,
    /// What is hidden.
    secrets: Secrets,
    /// What the tree has in it before anything runs.
    seeds: Vec<Bed>,
}

fn prepare(
    request: &Request,
    resolved: &Resolved,
    place: Place,
    older: Option<&Tree>,
    birth: Birth,
    (id, limits, umask): (Id, &Chosen, u32),
    warnings: &mut Vec<String>,
) -> Result<Prepared, Error> {
    let settings = &resolved.settings;
    if let Some(tree) = older {
        again::check(tree, resolved, &birth)?;
    }
    let state = StateDir::open()?;
    let real = state.real_path();
    let owner = check::workspace((&place.root, &place.meta), &real, settings, request.i_mean_it)?;
    let cache = state.path().join(CACHE);
    let etc = etc::ready(&cache).map_err(Error::Etc)?;
    let alias = check::alias(&place);
    let mut shown = shown::beside(resolved, &place.root, Some(&real), warnings)?;
    let names = shown.tools.names();
    let tools = std::mem::take(&mut shown.tools.found);
    let caches = std::mem::take(&mut shown.caches.found);
    let (names, shown_caches) = ((names, cache_names(&caches)), std::mem::take(&mut shown.caches.shown));
    let mut spec = spec::spec(request, settings, id, (place, alias, owner), birth, shown, etc.path.clone())?;
    spec.umask = umask;
    spec.pids = limits.rlimit_pids(spec.pids);
    let (mut beside, parts) = parts::add(&mut spec, &real, warnings);
    check::binds_and_state(&spec, &real, request.i_mean_it)?;
    alias::state(&spec, &beside, &state, request.i_mean_it)?;
    // What a network brings may be large.
    let memory = !shown_caches.is_empty() && settings.net == Net::None && beside::memory_has_attributes();
    beside.extend(shown_caches.iter().filter(|c| !memory || c.grows).map(Beside::cache));
    let tree = trees::path_of(&state, older.map_or(id, Tree::id));
    spec.caches = beside::caches(shown_caches, &tree, memory);
    if settings.access == Access::Overlay {
        spec.sides = beside.iter().filter(|b| b.kind == Kind::Part).map(|b| b.side(&tree)).collect();
        spec.sides.sort_by(|a, b| a.path.cmp(&b.path));
    }
    // Without an overlay of the workspace there may be one over a cache.
    spec.tree = (settings.access == Access::Overlay || !beside.is_empty()).then_some(tree);
    let secrets = hide::find(resolved, &spec, &parts, (&state, request.cwd.is_some()), warnings)?;
    let names = (names.0, names.1, secrets.names());
    let policy = record::effective(settings, &spec, names, limits);
    let mut plan = plan::plan(&spec, &launch::host_root(settings.net))?;
    plan.cover(&parts::protect(&spec, warnings))?;
    plan.cover(&setid::find(&spec, warnings)?)?;
    let Placed { seeds, masks } = Placed::of(&secrets, &spec)?;
    plan.mask(&masks)?;
    let owner = spec.outside().map(|(uid, _)| uid);
    let mut root = root::ready(&cache, &mut plan, owner);
    if let (Err(Some(wanted)), true) = (&root, spec::test_takes("ready-root")) {
        wanted.make(&cache);
        root = root::ready(&cache, &mut plan, owner);
    }
    Ok(Prepared { state, spec, plan, policy, etc, root, tools, caches, beside, parts, secrets, seeds })
}

fn cache_names(found: &[FoundCache]) -> Vec<String> {
    found.iter().map(|f| f.name.clone()).collect()
}

/// A run whose jail has been born.
struct Begun<'a> {
    spec: &'a Spec,
    beside: &'a [Beside],
    seeds: &'a [Bed],
    secrets: &'a Secrets,
    /// What kind of run it is, and the pid of the jail's pid 1.
    run: (&'static str, i32),
}

impl Begun<'_> {
    /// Make the tree, or go on in an older one; leave nothing new when that fails.
    fn tree(
        &self,
        state: &StateDir,
        older: Option<Tree>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Tree>, Error> {
        let Begun { spec, beside, seeds, secrets, .. } = *self;
        let owner = spec.outside();
        let tree = match older {
            Some(tree) => Some(again::begin(state, tree, spec.id, warnings)?),
            None if spec.tree.is_some() => Some(trees::create_tree(state, spec.id, &spec.workspace, owner)?),
            None => None,
        };
        if let Some(Err(e)) =
            tree.as_ref().map(|tree| beside.iter().try_for_each(|b| b.make(state, tree, owner)))
        {
            discard(tree, state);
            return Err(e.into());
        }
        if let Some(Err(e)) =
            tree.as_ref().map(|tree| planted::plant(tree, seeds, &|path| secrets.is_shown(path)))
        {
            discard(tree, state);
            return Err(Error::Unhidden(e));
        }
        Ok(tree)
    }
}

fn discard(tree: Option<Tree>, state: &StateDir) {
    // What earlier runs left is not this one's to take away.
    if let Some(tree) = tree.filter(|tree| !tree.is_older()) {
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

/// Bring the changes of a run back to the host directory.
pub fn apply(id: Id, allow_exec_files: bool, monitor: &dyn Monitor) -> Result<Applied, Error> {
    let tree = changes::open_tree(id)?;
    let options = changes::ApplyOptions { allow_exec_files, ..changes::ApplyOptions::default() };
    Ok(changes::apply(&tree, &options, monitor)?)
}
