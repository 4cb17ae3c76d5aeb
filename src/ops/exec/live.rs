//! A command in a workspace: it joins the workspace's jail, and starts that first where there is none.
//!
//! The jail is held by a process of its own, the *holder*: a copy of the `aj` that found none, in a session
//! of its own, which does all that `aj exec` does for a jail but has no command (see [`start`]). Whoever wants
//! to start one takes the lock `live.lock` first, so that of many that come at once one does it and the
//! others find it done. A jail ends when nothing is left in it; whoever meets it in that moment is told that
//! nothing of theirs has run, and goes round once more.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::mounts::Mounted;
use super::seat::Seat;
use super::{Error, Report, Request, Watcher};
use crate::base::id::{Id, Kind};
use crate::jail::join::{self, Live, Reached};
use crate::ops::pause;
use crate::store::layout::StateDir;
use crate::store::{lock, trees, workspaces};
use crate::sys;

mod blueprint;
mod joined;
mod own;
mod start;

pub use start::Hold;
pub(super) use start::Start;

/// What a holder is called by the kernel.
pub(in crate::ops) const HOLDER: &str = "aj-live";
/// Rounds in which a jail is started or found, and has ended before the command was in it.
const ROUNDS: u32 = 20;
/// How long the first word of a jail is waited for before it is asked whether it is paused.
const WORD: Duration = Duration::from_millis(300);
/// How long it is waited for in all.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long another one that starts the jail is waited for.
const STARTS: Duration = Duration::from_secs(60);
/// How long a jail that has ended may take to put its tree in order.
const SETTLES: Duration = Duration::from_secs(30);

/// Why a command could not run in a live jail.
#[derive(Debug, thiserror::Error)]
pub enum NotLive {
    /// It, or what runs, wants to be alone.
    #[error("workspace `{name}` is busy: {}", busy(*.commands))]
    Busy {
        /// The workspace.
        name: String,
        /// Commands in it.
        commands: u32,
    },
    /// The jail is paused.
    #[error("workspace `{0}` is paused")]
    Paused(String),
    /// The jail says nothing.
    #[error("the jail of workspace `{name}` does not answer (its holder is process {holder})")]
    Silent {
        /// The workspace.
        name: String,
        /// The process that holds it.
        holder: i32,
    },
    /// Another aj made it.
    #[error("the jail of workspace `{0}` was started by another version of aj")]
    Strange(String),
    /// The command asks for what the jail is not.
    #[error("the jail of workspace `{name}` runs with other settings: {}", differ.join("; "))]
    Differs {
        /// The workspace.
        name: String,
        /// Each setting that differs, with both values.
        differ: Vec<String>,
    },
    /// The command's own limits cannot be held.
    #[error("{what} cannot be held for one command in the live jail of workspace `{name}`: {why}")]
    Unheld {
        /// The workspace.
        name: String,
        /// The flags, or the settings and where they stand.
        what: String,
        /// Why.
        why: String,
    },
    /// It has no process to give.
    #[error("the jail of workspace `{name}` could not make a process ({errno:?})")]
    Refused {
        /// The workspace.
        name: String,
        /// Why.
        errno: nix::errno::Errno,
    },
    /// It was killed at the wrong moment.
    #[error(
        "the jail of workspace `{0}`, or the command's own process in it, was killed while the command began"
    )]
    Died(String),
    /// There are no namespaces for it.
    #[error("workspace `{0}` cannot have a jail that commands join: this machine gives it no namespaces")]
    NotHere(String),
    /// It ended again and again.
    #[error("the jail of workspace `{0}` ended each time before the command could run in it")]
    Fleeting(String),
}

fn busy(commands: u32) -> String {
    match commands {
        0 => "processes that commands left behind run in it".to_owned(),
        1 => "a command runs in it".to_owned(),
        n => format!("{n} commands run in it"),
    }
}

/// What came of it.
pub(super) enum Came {
    /// It ran, or cannot run.
    Done(Box<Report>),
    /// There can be no live jail here: it is to have one of its own.
    NotHere,
    /// In the holder, which has nothing more to do with the command: the jail was never there.
    Holder(Box<Report>),
}

/// Run the command of `request` in the jail of its workspace.
pub(super) fn exec(
    request: &Request,
    seat: &Seat,
    watcher: &mut dyn Watcher,
    umask: Mode,
) -> Result<Came, Error> {
    let mut said = Vec::new();
    let (state, id) = (&seat.found.state, seat.found.id());
    let dir = dir(state, id)?;
    let (mut round, mut starts) = (0, 0);
    loop {
        let live = match find(state, id, &dir, &seat.name())? {
            Some(live) => live,
            None => match start::start(request, seat, umask, (&dir, false))? {
                Start::Done(words) => {
                    said.extend(words);
                    // It is there no more when we knock: that, too, is not tried for ever.
                    starts += 1;
                    if starts > ROUNDS {
                        return Err(NotLive::Fleeting(seat.name()).into());
                    }
                    continue;
                }
                Start::NotHere => return Ok(Came::NotHere),
                Start::Holder(report) => return Ok(Came::Holder(report)),
            },
        };
        let done = joined::exec(request, seat, (live, &dir), (watcher, umask), &mut said);
        // Since when nobody uses it, where its jail goes on.
        dir.set_modified(std::time::SystemTime::now()).ok();
        let done = done?;
        if let Some(report) = done {
            return Ok(Came::Done(Box::new(report)));
        }
        round += 1;
        if round >= ROUNDS {
            return Err(NotLive::Fleeting(seat.name()).into());
        }
    }
}

/// Start the jail of the workspace that `request` names, unless it runs, and have it stay when nothing is left in
/// it. Whether it was started now, and what is to be said.
pub fn open(request: &Request) -> Result<(bool, Vec<String>), Error> {
    let umask = sys::umask::callers();
    let seat = Seat::take(request)?.ok_or(workspaces_error())?;
    let (state, id) = (&seat.found.state, seat.found.id());
    let dir = dir(state, id)?;
    for _ in 0..ROUNDS {
        if let Some(live) = find(state, id, &dir, &seat.name())? {
            if live.keep().map_err(Error::Launch)? {
                return Ok((false, Vec::new()));
            }
            continue;
        }
        match start::start(request, &seat, umask, (&dir, true))? {
            Start::Done(words) => {
                // Another one may have started it, to end with what that one runs.
                let kept = find(state, id, &dir, &seat.name())?.map(Live::keep).transpose();
                if kept.map_err(Error::Launch)? == Some(true) {
                    return Ok((true, words));
                }
            }
            Start::NotHere => return Err(NotLive::NotHere(seat.name()).into()),
            Start::Holder(report) => return Err(Error::Holder(report)),
        }
    }
    Err(NotLive::Fleeting(seat.name()).into())
}

fn workspaces_error() -> Error {
    crate::ops::workspaces::Error::None.into()
}

/// The directory of a workspace.
pub(in crate::ops) fn dir(state: &StateDir, id: Id) -> Result<File, Error> {
    let path = workspaces::dir_of(state, id);
    let named = |e: &std::io::Error| sys::Error::new("open", crate::base::text::os(&path), sys::errno(e));
    File::open(&path).map_err(|e| Error::Launch(named(&e)))
}

/// The live jail of a workspace, if there is one.
pub(in crate::ops) fn find(state: &StateDir, id: Id, dir: &File, name: &str) -> Result<Option<Live>, Error> {
    let until = Instant::now() + PATIENCE;
    loop {
        match join::reach(dir.as_fd(), WORD).map_err(Error::Launch)? {
            Reached::Live(live) => return Ok(Some(live)),
            Reached::None => return Ok(None),
            Reached::Strange { .. } => return Err(NotLive::Strange(name.to_owned()).into()),
            Reached::Silent { .. }
                if jail_of(state, id).is_some_and(|jail| {
                    let soon = Instant::now() < until && pause::is_brief(state, jail);
                    pause::is_paused(state, jail) && !soon
                }) =>
            {
                return Err(NotLive::Paused(name.to_owned()).into());
            }
            Reached::Silent { holder } if Instant::now() >= until => {
                return Err(NotLive::Silent { name: name.to_owned(), holder }.into());
            }
            Reached::Silent { .. } => {}
        }
    }
}

/// What is mounted in the live jail of a workspace beside its trees. `None`: there is none, or none that answers at
/// once.
pub(in crate::ops) fn mounts(state: &StateDir, id: Id) -> Option<Vec<Mounted>> {
    if is_paused(state, id) {
        return None;
    }
    match join::reach(dir(state, id).ok()?.as_fd(), WORD) {
        Ok(Reached::Live(live)) => {
            blueprint::Blueprint::parse(&live.blueprint).map(|blueprint| blueprint.mounts)
        }
        Ok(Reached::None | Reached::Strange { .. } | Reached::Silent { .. }) | Err(_) => None,
    }
}

/// Whether there is a live jail of this id's, as far as one call can tell.
pub(in crate::ops) fn listens(state: &StateDir, id: Id) -> bool {
    id.kind() == Kind::Workspace
        && dir(state, id)
            .is_ok_and(|dir| !matches!(join::reach(dir.as_fd(), WORD), Ok(Reached::None) | Err(_)))
}

/// Whether the jail of a workspace is paused.
pub(in crate::ops) fn is_paused(state: &StateDir, id: Id) -> bool {
    jail_of(state, id).is_some_and(|jail| pause::is_paused(state, jail))
}

/// The jail that ran in a workspace last.
pub(in crate::ops) fn jail_of(state: &StateDir, id: Id) -> Option<Id> {
    let tree = trees::open_tree(state, id).ok().flatten()?;
    crate::store::kept::Kept::read(&tree)?.last
}

/// Whether what the jail that runs in the tree of `id` writes is in its memory until it ends.
pub(in crate::ops) fn is_in_memory(state: &StateDir, id: Id) -> bool {
    let jail = jail_of(state, id).unwrap_or(id);
    super::again::last(state, jail).is_some_and(|last| last.in_memory_since().is_some())
}

/// The turn of one process among those that start the jail of a workspace, until it is dropped.
fn turn(state: &StateDir, id: Id, dir: &File) -> Result<File, Error> {
    turn_within(state, id, dir, STARTS)
}

fn turn_within(state: &StateDir, id: Id, dir: &File, wait: Duration) -> Result<File, Error> {
    const NAME: &str = "live.lock";
    let path = workspaces::dir_of(state, id).join(NAME);
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let file = nix::fcntl::openat(dir, NAME, flags, Mode::S_IRUSR | Mode::S_IWUSR);
    let failed = |e| crate::store::Error::Sys(sys::Error::new("open", crate::base::text::os(&path), e));
    let file = File::from(file.map_err(failed)?);
    lock::acquire(&file, lock::Mode::Exclusive, wait, &path)?;
    Ok(file)
}

/// The same without waiting; `None`: somebody starts one.
pub(in crate::ops) fn try_turn(state: &StateDir, id: Id, dir: &File) -> Result<Option<File>, Error> {
    match turn_within(state, id, dir, Duration::ZERO) {
        Err(Error::Store(crate::store::Error::Busy { .. })) => Ok(None),
        turn => turn.map(Some),
    }
}

/// Wait until nobody has the tree for a run any more, at most for a while.
pub(in crate::ops) fn wait_until_settled(state: &StateDir, id: Id) -> Result<bool, Error> {
    let until = Instant::now() + SETTLES;
    let mut pause = Duration::from_micros(200);
    loop {
        let Some(tree) = trees::open_tree(state, id)? else { return Ok(true) };
        if !tree.is_in_use()? {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}
