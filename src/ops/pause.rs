//! `aj pause` and `aj resume`: a running jail stands still and goes on, with its memory kept.

use std::path::PathBuf;
use std::process::ChildStdin;
use std::time::{Duration, Instant};

use crate::base::clock;
use crate::base::id::Id;
use crate::base::text;
use crate::host::cgroups::{Controller, Hierarchies};
use crate::jail::freeze::{self, Hold, Jail};
use crate::jail::limits;
use crate::monitor::Monitor;
use crate::ops::ledger;
use crate::ops::workspaces::live;
use crate::schema::jail::Start;
use crate::schema::pause::{Done, FORMAT};
use crate::store::alive;
use crate::store::fault;
use crate::store::layout::StateDir;
use crate::store::paused::{self, How, Paused};
use crate::sys::{self, pidfd, signal};

mod still;

pub(super) use still::{Still, is_brief, jail as jail_that_runs};

/// Why a jail was not paused or resumed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The jail could not be found.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// The state directory.
    #[error(transparent)]
    State(#[from] crate::store::Error),
    /// It has ended, or begins only now.
    #[error("the jail `{0}` does not run")]
    NotRunning(String),
    /// It is one of several commands in a jail.
    #[error("`{id}` is a command in the jail `{jail}` of a workspace, which is paused as a whole")]
    Shared {
        /// The command.
        id: String,
        /// The jail.
        jail: Id,
    },
    /// No way to hold it worked.
    #[error("the jail `{id}` could not be paused")]
    Freeze {
        /// The jail.
        id: String,
        /// What became of the last way.
        source: sys::Error,
    },
    /// It could not be let go on.
    #[error("the jail `{id}` could not be resumed")]
    Thaw {
        /// The jail.
        id: String,
        /// Why.
        source: sys::Error,
    },
    /// What keeps a frozen jail from outliving its `aj` could not be started.
    #[error("the jail `{id}` is not paused: its guard could not be started: {why}")]
    Guard {
        /// The jail.
        id: String,
        /// Why.
        why: std::io::Error,
    },
}

fn hold(how: &How) -> Hold {
    match how {
        How::Freeze(path) => Hold::Freeze(path.into()),
        How::Freezer(path) => Hold::Freezer(path.into()),
        How::Signal => Hold::Signal,
    }
}

fn how(hold: &Hold) -> How {
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    match hold {
        Hold::Freeze(path) => How::Freeze(text(path)),
        Hold::Freezer(path) => How::Freezer(text(path)),
        Hold::Signal => How::Signal,
    }
}

/// A jail that runs, by the record of its start.
fn running(state: &StateDir, selector: &str, monitor: &dyn Monitor) -> Result<Jail, Error> {
    // The name of a workspace is that of the jail in it.
    let shared = live::jail_named(selector).map(|jail| jail.to_string());
    let (id, start, ended) = ledger::start_of(state, shared.as_deref().unwrap_or(selector), monitor)?;
    let not = || Error::NotRunning(text::printable(shared.as_ref().map_or(&*id, |_| selector).as_bytes()));
    let start: Start = start.filter(|_| !ended).ok_or_else(not)?;
    if let Some(jail) = start.joined {
        return Err(Error::Shared { id: text::printable(id.as_bytes()), jail });
    }
    let init = start.init.ok_or_else(not)?;
    let lives = alive::is_alive(start.pid, start.pid_start, &start.boot_id)
        && alive::may_be_child(init, start.pid_start, &start.boot_id);
    if !lives {
        return Err(not());
    }
    let number = |pid: u32| i32::try_from(pid).map_err(|_| not());
    Ok(Jail { id: start.id, aj: number(start.pid)?, init: number(init)? })
}

fn state(selector: &str) -> Result<StateDir, Error> {
    let none = || ledger::Error::NotFound(text::printable(selector.as_bytes()));
    Ok(StateDir::open_if_present()?.ok_or_else(none)?)
}

/// Make a running jail stand still. One that does already is left as it is.
pub fn pause(selector: &str, monitor: &dyn Monitor) -> Result<Done, Error> {
    let state = state(selector)?;
    let jail = running(&state, selector, monitor)?;
    let _turn = paused::turn(&state)?;
    let before = Paused::read(&state, jail.id);
    if let Some(held) = before.as_ref().filter(|p| p.since_ms.is_some()) {
        return Ok(done(&jail, held, false, 0));
    }
    let total_ms = before.map_or(0, |p| p.total_ms);
    let boot = alive::boot_id().unwrap_or_default();
    let id = || jail.id.to_string();
    let ended = || {
        // Its aj may have looked for what is to be forgotten before there was any.
        forget(&state, jail.id);
        Err(Error::NotRunning(id()))
    };
    let mut last = None;
    for way in ways(&jail) {
        let began = Instant::now();
        // Written first: whatever happens to us, the jail's aj and `aj resume` know what to undo. And nothing
        // stands still before its guard is there.
        let since_ms = Some(clock::monotonic_ms());
        let mut record = Paused { boot: boot.clone(), how: how(&way), since_ms, total_ms, brief: false };
        record.write(&state, jail.id)?;
        let guard = match guard(&jail, &way) {
            Ok(guard) => guard,
            Err(why) => {
                goes_on(&state, &jail, &mut record)?;
                return Err(Error::Guard { id: id(), why });
            }
        };
        let frozen = jail.freeze(&way);
        fault::point();
        let failed = match frozen {
            Ok(()) => return Ok(done(&jail, &record, true, ms(began.elapsed()))),
            Err(e) => e,
        };
        jail.thaw(&way).map_err(|source| Error::Thaw { id: id(), source })?;
        drop(guard);
        freeze::remove(&way);
        if jail.is_gone() {
            return ended();
        }
        goes_on(&state, &jail, &mut record)?;
        last = Some(failed);
    }
    let source = last.unwrap_or_else(|| sys::Error::new("freeze", "", nix::errno::Errno::ENOSYS));
    Err(Error::Freeze { id: id(), source })
}

/// The ways that there are; a test may want to see the weaker ones.
fn ways(jail: &Jail) -> Vec<Hold> {
    let ways = jail.ways();
    let without = crate::base::env::TEST_WITHOUT.get().filter(|_| cfg!(debug_assertions));
    let without = without.map(|list| list.to_string_lossy().into_owned()).unwrap_or_default();
    ways.into_iter().filter(|way| !without.split(',').any(|w| w == how(way).name())).collect()
}

/// Let a paused jail go on. One that runs is left as it is.
pub fn resume(selector: &str, monitor: &dyn Monitor) -> Result<Done, Error> {
    let state = state(selector)?;
    let jail = running(&state, selector, monitor)?;
    let _turn = paused::turn(&state)?;
    let Some(mut record) = Paused::read(&state, jail.id) else {
        let record =
            Paused { boot: String::new(), how: How::Signal, since_ms: None, total_ms: 0, brief: false };
        return Ok(done(&jail, &record, false, 0));
    };
    let was = record.since_ms.is_some();
    if was {
        jail.thaw(&hold(&record.how)).map_err(|source| Error::Thaw { id: jail.id.to_string(), source })?;
        record.total_ms = ms(record.so_far());
        goes_on(&state, &jail, &mut record)?;
    }
    Ok(done(&jail, &record, was, 0))
}

/// Note that a jail is no longer held. It may end before that is written, and its aj has then looked for what
/// is to be forgotten before there was this. With what it says no longer true, a record that cannot be written
/// anew is written over, and one that cannot be is removed: its time limit would never come, for want of room
/// on a disk. Then the time limit counts the pause.
fn goes_on(state: &StateDir, jail: &Jail, record: &mut Paused) -> Result<(), Error> {
    record.since_ms = None;
    record.brief = false;
    if let Err(e) = record.write(state, jail.id)
        && record.overwrite(state, jail.id).is_err()
        && !matches!(paused::forget(state, jail.id), Ok(()) | Err(nix::errno::Errno::ENOENT))
    {
        return Err(e.into());
    }
    if jail.is_gone() {
        forget(state, jail.id);
    }
    Ok(())
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn done(jail: &Jail, record: &Paused, changed: bool, took_ms: u64) -> Done {
    Done {
        format_version: FORMAT,
        jail_id: jail.id.to_string(),
        paused: record.since_ms.is_some(),
        changed,
        by: record.since_ms.map(|_| record.how.name()),
        took_ms,
        paused_ms: ms(record.so_far()),
    }
}

/// Where a frozen process cannot even be killed (the freezer of cgroup v1), somebody has to let the jail
/// die when its `aj` does: this program once more, for as long as the pause. It looks whether the jail stands
/// still once what is returned is closed, which it is when this process is killed as well.
fn guard(jail: &Jail, way: &Hold) -> Result<Option<ChildStdin>, std::io::Error> {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};
    let Hold::Freezer(path) = way else { return Ok(None) };
    Command::new("/proc/self/exe")
        .arg0("aj")
        .args(["pause", "--guard", &jail.aj.to_string()])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .process_group(0)
        .spawn()
        .map(|child| child.stdin)
}

/// The guard: when stdin ends whoever posted it has done what it could. It ends when the group is thawed or
/// gone, and thaws it when the process `aj` has ended.
pub fn guard_until(aj: i32, group: PathBuf) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    const LOOK: u16 = 250;
    // Ctrl-C and the end of the terminal are meant for others.
    signal::take_over().ok();
    let process = pidfd::open(aj);
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).ok();
    let hold = Hold::Freezer(group);
    let Hold::Freezer(group) = &hold else { return };
    while freeze::is_frozen(group) {
        let ended = match &process {
            Ok(fd) => {
                let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
                poll(&mut fds, PollTimeout::from(LOOK)).is_ok_and(|n| n > 0)
            }
            Err(_) => true,
        };
        if ended {
            freeze::thaw(&hold).ok();
            return;
        }
    }
}

/// How long a jail has been paused so far: its clock stood still for that long.
pub(super) fn so_far(state: &StateDir, id: Id) -> Duration {
    Paused::read(state, id).map_or(Duration::ZERO, |p| p.so_far())
}

/// Whether a jail is paused now.
pub(super) fn is_paused(state: &StateDir, id: Id) -> bool {
    Paused::read(state, id).is_some_and(|p| p.since_ms.is_some())
}

/// A jail that was killed is still there: let it go, if it is frozen.
pub(super) fn let_die(state: &StateDir, id: Id) {
    if let Some(record) = Paused::read(state, id) {
        freeze::thaw(&hold(&record.how)).ok();
    }
}

/// A jail of this process has ended: remove what pauses of it left.
pub(super) fn ended(state: &StateDir, id: Id) {
    if Paused::read(state, id).is_some() {
        freeze::remove_all(&id);
        forget(state, id);
    }
}

/// A jail has ended: remove the group and the record that a pause made.
fn forget(state: &StateDir, id: Id) {
    if let Some(record) = Paused::read(state, id) {
        freeze::remove(&hold(&record.how));
        paused::forget(state, id).ok();
    }
}

/// Remove what pauses and killed runs left, but for the jails that run. How many groups it was.
pub(super) fn sweep(state: &StateDir, runs: &dyn Fn(Id) -> bool) -> usize {
    for id in paused::all(state).into_iter().filter(|id| !runs(*id)) {
        if let Some(record) = Paused::read(state, id) {
            freeze::thaw(&hold(&record.how)).ok();
        }
        forget(state, id);
        paused::forget(state, id).ok();
    }
    limits::sweep::everywhere(&groups(), true)
}

/// How many groups of killed runs there are that [`sweep`] would remove.
pub(super) fn left() -> usize {
    limits::sweep::everywhere(&groups(), false)
}

/// Where a run of ours can have made a group.
fn groups() -> Hierarchies {
    let mut hierarchies = limits::here();
    // The others are where no run of ours can have made one.
    let mine = [Controller::Memory, Controller::Cpu, Controller::Pids, Controller::Io, Controller::Freezer];
    hierarchies.v1.retain(|(names, _)| mine.iter().any(|c| names.iter().any(|n| n == c.v1())));
    hierarchies
}
