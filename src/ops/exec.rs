//! `aj exec`: one command in a one-shot jail over the current directory.

use std::ffi::{CString, OsString};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::stat::Mode;

use super::project::Choice;
use super::{changes, config, keep, pause};

use crate::base::id::{Id, Kind as IdKind};
use crate::jail::limits::Limits;
use crate::jail::spec::Storage;
use crate::jail::supervise::{self, Ended, Leaving, Options};
use crate::monitor::Monitor;
use crate::policy::gpu::Gpus;
use crate::policy::layer::Layer;
use crate::policy::settings::{Access, Settings, Tools};
use crate::schema::changes::{Applied, Diff};
use crate::schema::jail::{Effective, Outcome};
use crate::store::spool;
use crate::store::trees::Tree;
use crate::sys;

pub(in crate::ops) mod again;
mod alias;
mod begin;
mod beside;
mod beyond;
mod born;
mod caller;
mod cargo;
mod check;
mod copied;
mod disk;
mod dry;
mod end;
mod error;
mod filters;
mod foreign;
mod gpu;
mod hide;
mod home;
mod identity;
mod layered;
mod limits;
mod lite;
pub(in crate::ops) mod live;
mod missing;
mod mode;
pub(in crate::ops) mod mounts;
mod offline;
mod parts;
mod prepare;
mod record;
mod relay;
mod seat;
mod setid;
mod shell;
mod shown;
mod sight;
mod spec;
mod storage;
mod streams;
mod tracked;
mod unseen;
mod veil;
mod volumes;

use begin::{Asked, Begun, discard};
use born::Start;
use prepare::{How, Prepared, prepare};
use relay::Relay;
use seat::Seat;
use storage::Tried;

pub use crate::host::gpu::Missing as NoGpu;
pub use caller::{Watcher, die_of, restore_terminal, say_within};
pub use check::WayOut;
pub use dry::explain;
pub use error::Error;
pub use live::{Hold, NotLive, open};
pub use missing::{OnHost, interpreter, on_host};
pub use mode::missing_layers;
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
    /// The workspace that it runs in, or the jail in whose tree it goes on; `@` is the newest of this
    /// directory.
    pub again: Option<OsString>,
    /// Working directory in the tree, relative to the caller's, instead of that.
    pub cwd: Option<PathBuf>,
    /// The GPUs that it has.
    pub gpus: Option<Gpus>,
    /// The volumes that it has.
    pub volumes: Vec<crate::policy::volume::Mount>,
    /// Show directories that are refused otherwise.
    pub i_mean_it: bool,
    /// Hand output to the watcher instead of passing it through.
    pub capture: bool,
    /// Call the watcher twice a second.
    pub ticks: bool,
    /// Descriptor that gets JSON lines about the start and the end.
    pub status_fd: Option<i32>,
    /// In a workspace: only if nothing else runs in it, and alone.
    pub exclusive: bool,
    /// In a workspace that nobody else knows: in a jail of its own, which ends with it.
    pub alone: bool,
    /// It is the run that holds the jail of a workspace, for others to join. Nobody else says so.
    pub hold: Option<Hold>,
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

/// What makes a directory one that is not shown unless the user insists.
pub(super) fn is_private(path: &std::path::Path, meta: &std::fs::Metadata) -> Option<&'static str> {
    check::private(path, meta, Access::Overlay)
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// The jail's id.
    pub id: Id,
    /// The name of the workspace that it ran in.
    pub workspace: Option<String>,
    /// The tree that it shared with other commands: what it changed is not told apart.
    pub shared: Option<Id>,
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
    /// What changed could not be told, as a warning says.
    pub untold: bool,
    /// Files changed in the overlay.
    pub files_changed: Option<u64>,
    /// Things worth a line on stderr.
    pub warnings: Vec<String>,
    /// What the command changed is gone, and why.
    pub lost: Option<String>,
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
        // "It went well" would be a lie.
        if self.lost.is_some() { 125 } else { exit_code(&self.ended) }
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

/// A failure has the exit code that it leads to.
fn give_code(ended: &mut Ended) {
    let exit = exit_code(ended);
    if let Outcome::Failed { code, .. } = &mut ended.outcome {
        *code = i32::from(exit);
    }
}

/// Run the command.
pub fn exec(request: &Request, watcher: &mut dyn Watcher) -> Result<Report, Error> {
    let umask = sys::umask::callers();
    if !request.alone
        && let Some(seat) = Seat::take(request)?
    {
        match live::exec(request, &seat, watcher, umask)? {
            live::Came::Done(report) | live::Came::Holder(report) => return Ok(*report),
            live::Came::NotHere => {}
        }
    }
    let (mut tried, mut lite) = (None, false);
    loop {
        match attempt(request, watcher, umask, (tried, lite))? {
            Attempt::Done(report) => return Ok(*report),
            Attempt::Again(with) => tried = Some(with.after(tried)),
            Attempt::Lite => (tried, lite) = (None, true),
        }
    }
}

/// What came of one start.
enum Attempt {
    /// It ran, or cannot run.
    Done(Box<Report>),
    /// Nothing ran, and the jail could be made with this.
    Again(Tried),
    /// Nothing ran, and the user puts up with a jail without namespaces.
    Lite,
}

fn attempt(
    request: &Request,
    watcher: &mut dyn Watcher,
    umask: Mode,
    (tried, lite): (Option<Tried>, bool),
) -> Result<Attempt, Error> {
    let status = streams::inherited(request.status_fd)?;
    let mut warnings = Vec::new();
    let user = config::user()?;
    let terminal = streams::terminal(request)?;
    let id = Id::random(IdKind::Jail).map_err(Error::Random)?;
    let seat = Seat::take(request)?;
    let in_it = (user.as_ref(), seat.as_ref());
    let reserved = if lite { None } else { born::reserve(request, in_it, &id) };
    let early = if lite { None } else { Start::early((request, terminal), in_it, reserved.as_ref()) };
    let asked = Asked::look_at(request, user, seat.as_ref(), &mut warnings).and_then(|asked| {
        warnings.extend_from_slice(&asked.resolved.warnings);
        if lite {
            lite::check(&asked.resolved.settings)?;
        }
        let mut limits = limits::choose(&asked.resolved, &id, &asked.place.root, reserved, &mut warnings)?;
        if let Some(group) = limits.group.as_mut().filter(|_| request.hold.is_some()) {
            group.divide().map_err(Error::Launch)?;
        }
        Ok((asked, limits))
    });
    let (Asked { older, place, resolved }, mut limits) = match asked {
        Ok(asked) => asked,
        Err(e) => {
            // Said first, whatever this host can do.
            early.map(Start::abandon).transpose().ok();
            return Err(e);
        }
    };
    let settings = &resolved.settings;
    let start = match Start::fitting(early, (request, terminal), settings, (&limits, lite)) {
        Err(e) if !lite && lite::may_follow_error(settings, &e) => return Ok(Attempt::Lite),
        start => start?,
    };
    drop(limits.unused.take());
    let birth = start.birth();
    let ids = birth.ids;
    let meta = place.meta.clone();
    let how =
        How { id, storage: tried.map(|tried| tried.storage), birth, limits: &limits, umask: umask.bits() };
    let in_it = (older.as_ref(), seat.as_ref());
    let prepared = prepare(request, &resolved, place, in_it, how, &mut warnings);
    let (born, prepared) = match start.with(prepared) {
        Err(e) if !lite && lite::may_follow_error(settings, &e) => return Ok(Attempt::Lite),
        both => both?,
    };
    let serve = request.hold.as_ref().map(|hold| hold.serve(&prepared, settings, (request, seat.as_ref())));
    let Prepared {
        state,
        spec,
        mut plan,
        mut policy,
        etc: _etc,
        root,
        beside,
        secrets,
        seeds,
        mut disk,
        volumes,
        absent,
        ..
    } = prepared;
    if serve.is_some() {
        plan.serve = serve;
        plan.cwd = CString::new(spec.at.as_os_str().as_encoded_bytes()).unwrap_or_default();
    }
    let overlay = spec.access == Access::Overlay;
    let mut held = match born.instruct(&spec, &mut plan) {
        Ok(held) => held,
        Err(e) => return storage::after(&spec, &e).map(Attempt::Again).ok_or(Error::Launch(e)),
    };
    let without_caches = held.without_caches();
    let kind = match &request.hold {
        Some(_) => "live",
        None if request.argv.is_empty() => "shell",
        None => "exec",
    };
    let run = (kind, held.pid());
    // From here on the jail prepares its files while its tree is made; it waits for `release` before it
    // needs that, and with its command until its start is recorded.
    let begun = Begun { spec: &spec, plan: &plan, beside: &beside, seeds: &seeds, secrets: &secrets, run };
    let tree = match begun.tree(&state, older, (&mut disk, &limits), &mut warnings) {
        Ok(tree) => tree,
        Err(e) => {
            held.abandon().map_err(Error::Launch)?;
            return Err(e.in_home_of(seat.as_ref(), &volumes));
        }
    };
    let filled = held.uppers(&plan).map_err(Error::Launch).and_then(|memory| {
        tree.iter().try_for_each(|tree| storage::check(tree, &spec, &plan))?;
        let uppers = storage::carry_in(memory, &plan, spec.outside())?;
        let copies = match &tree {
            Some(tree) if overlay && spec.storage == Storage::Copy => {
                copied::make(tree, (&spec, &seeds), &mut |said| watcher.progress(said))?
            }
            Some(_) | None => Vec::new(),
        };
        tree.iter().filter(|_| lite).try_for_each(lite::make)?;
        Ok((uppers, copies))
    });
    let (uppers, copies) = match filled {
        Ok(both) => both,
        Err(e) => {
            let ended = held.abandon();
            discard(tree, &state);
            ended.map_err(Error::Launch)?;
            return storage::doubt(&spec, settings, tried, lite).map(Attempt::Again).ok_or(e);
        }
    };
    let released = match held.release(&plan, !spec::test_takes("own-overlays")) {
        Ok(released) => released,
        Err(e) => {
            discard(tree, &state);
            return Err(Error::Launch(e));
        }
    };
    // Meanwhile it sets itself up.
    let doors = limits.group.as_mut().map_or(Ok(Vec::new()), |group| group.open(begun.run.1));
    let ready = doors.map_err(Error::Launch).and_then(|doors| {
        disk.word().clone_into(&mut policy.disk_by);
        let start = record::start(&spec, &policy, tree.as_ref().map(Tree::id), begun.run);
        warnings.extend(spool::append_start(&state, &start)?);
        Ok(doors)
    });
    let doors = match ready {
        Ok(doors) => doors,
        Err(e) => {
            let ended = released.abandon();
            discard(tree, &state);
            ended.map_err(Error::Launch)?;
            return Err(e);
        }
    };
    let options = Options {
        // That of a command; the jail ends with its last process.
        timeout: settings.timeout.filter(|_| request.hold.is_none()),
        grace: settings.grace,
        capture: request.capture,
        watch_memory: limits.watch_memory,
        watch_disk: disk.watch(&limits),
        group: limits.group.as_ref(),
        ticks: request.ticks,
        findable: request.hold.is_some(),
    };
    let below = beyond::Below::of(&spec);
    let mut relay = Relay::new(watcher, status, &state, tree, below.as_ref());
    relay.run = Some((id, limits.group.as_ref()));
    relay.beside = &beside;
    if let Some(hold) = &request.hold {
        let words = warnings.iter().cloned().chain(secrets.line());
        relay.hold = Some((hold, words.collect()));
    }
    (relay.uppers, relay.copies, relay.lite) = (uppers, copies, lite);
    relay.wanted = root.as_ref().err().and_then(Option::as_ref);
    let ended = released.start(&doors).and_then(|jail| supervise::supervise(jail, &options, &mut relay));
    let unnamed = || request.hold.iter().for_each(|hold| hold.ended());
    let (mut ended, leaving) = match ended {
        Ok((mut ended, leaving)) => {
            give_code(&mut ended);
            (ended, leaving)
        }
        Err(e) => {
            unnamed();
            let outcome = Outcome::Failed { step: e.call.to_owned(), errno: e.name(), code: 125 };
            let end = record::end(id, outcome, None, None, None);
            warnings.extend(spool::append_end(&state, &end)?);
            discard(relay.tree, &state);
            return Err(Error::Launch(e));
        }
    };
    if lite {
        // The keeper did, unless it was killed.
        crate::jail::lite::end_descendants(std::process::id());
    }
    warnings.extend(parts::set_aside(&absent, id));
    let in_the_way = below.as_ref().and_then(|below| below.in_the_way(ids, &ended.outcome));
    let next = match (storage::next(&spec, &ended.outcome), &in_the_way) {
        (Some(with), None) => Some(Attempt::Again(with)),
        _ if !lite && lite::may_follow_end(settings, &ended.outcome, ended.exec_failed) => {
            Some(Attempt::Lite)
        }
        _ => None,
    };
    // The next attempt has the same name, and whoever waits for it looks there.
    if !matches!(next, Some(Attempt::Again(_))) {
        unnamed();
    }
    if let Some(next) = next {
        let end = record::end(id, ended.outcome.clone(), Some(&ended), None, None);
        spool::append_end(&state, &end)?;
        discard(relay.tree, &state);
        sys::signal::give_back();
        return Ok(next);
    }
    if let Some(tried) = tried.filter(|_| mode::used(&ended).is_some()) {
        storage::remember(&state, &meta, settings.storage, tried);
    }
    let written = options.watch_disk.and_then(|_| relay.written());
    warnings.extend(limits::unseen(written, options.watch_disk, ended.over_disk));
    warnings.extend(disk::used_up(&disk, relay.tree.as_ref(), &limits));
    let kept = relay.settle();
    let lost = relay.lost.take();
    let mut untold = false;
    let left = match kept.and_then(|tree| tree.map(|t| end::settle(&state, t, id)).transpose()) {
        Ok(left) => left.flatten(),
        Err(e) => {
            untold = true;
            warnings.push(format!("what changed could not be told: {}", chain(&e)));
            None
        }
    };
    let changes = left.as_ref().map(|left| &left.diff);
    let compared =
        seat.as_ref().is_none_or(|seat| crate::ops::workspaces::has_base(&seat.found.filed.record));
    let known = overlay && compared && !untold && lost.is_none();
    let files_changed = known.then(|| changes.map_or(0, |d| d.totals.changes));
    end::record(&state, (id, &ended), files_changed, &mut policy, &mut warnings);
    // Meanwhile the kernel has taken most of the jail down.
    match leaving.map(Leaving::wait).transpose() {
        Ok(pid) => ended.unkillable = ended.unkillable.or(pid.flatten()),
        Err(e) => warnings.push(format!("whether the jail has ended is not known: {e}")),
    }
    relay.ended(&ended);
    let patience = patience(settings, &ended);
    warnings.extend(relay.finish_status());
    pause::ended(&state, id);
    if let Some(left) = left.as_ref().filter(|left| !left.tree.is_lasting()) {
        keep::enforce(&state, left.diff.tree, left.bytes, &resolved.keep, &mut warnings);
    }
    if overlay && foreign::is_suspect(&ended) {
        warnings.extend(foreign::hint(&spec.workspace, &ids, spec.owner));
    }
    warnings.extend(mode::line(&ended));
    warnings.extend(mode::second_lock(&spec, ended.layers));
    warnings.extend(veil::missing(&spec, ended.layers));
    warnings.extend(storage::line(&spec, &state, settings).filter(|_| mode::used(&ended).is_some()));
    warnings.extend(relay.mounts.take().filter(|_| mode::used(&ended).is_some()));
    warnings.extend(beyond::links(&spec, &secrets.names(), &ended));
    warnings.extend(tracked::line(&spec, &secrets));
    warnings.extend(offline::line(&resolved, &ended));
    warnings.extend(identity::line(&spec, &ended));
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
    let tools = resolved.settings.tools;
    let (changes, held) = left.map(|left| (left.diff, left.tree)).unzip();
    let hidden = secrets.line();
    Ok(Attempt::Done(Box::new(Report {
        id,
        workspace: seat.as_ref().map(Seat::name),
        shared: None,
        ended,
        policy,
        tools,
        hidden,
        files_changed,
        changes,
        untold,
        warnings,
        patience,
        too_few_files,
        mounts_in_the_way: in_the_way,
        lost,
        _held: held,
        _group: limits.group,
    })))
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
