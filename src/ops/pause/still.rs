//! A jail that stands still for a moment, while what is in it is looked at.
//!
//! It is a pause like any other, with a record and the same ways; but who holds it lets it go again, and a
//! process of our own does so if we are killed meanwhile. With the last of the ways, SIGSTOP, it stands still
//! when each thread of each process is seen to have stopped: none is in the middle of a call then. What is
//! weaker about it: whoever may signal these processes from outside can continue one.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::{Error, forget, goes_on, how, ms, running, ways};
use crate::base::clock;
use crate::base::id::Id;
use crate::jail::freeze::{self, Hold, Jail};
use crate::monitor::Silent;
use crate::store::alive;
use crate::store::layout::StateDir;
use crate::store::paused::{self, Paused};
use crate::sys::{self, clone, fd, pidfd, signal};

/// It is held as long as this value lives, or is let go on with an error that is told.
#[derive(Debug)]
pub(in crate::ops) struct Still<'a> {
    state: &'a StateDir,
    jail: &'a Jail,
    held: Held,
    began: Instant,
    _turn: std::fs::File,
}

#[derive(Debug)]
enum Held {
    /// By us.
    Here { way: Hold, record: Paused, guard: Guard },
    /// By `aj pause`, and it stays so.
    Before(&'static str),
    /// No more.
    No,
}

/// Whether a jail is paused and goes on in a moment.
pub(in crate::ops) fn is_brief(state: &StateDir, id: Id) -> bool {
    Paused::read(state, id).is_some_and(|p| p.since_ms.is_some() && p.brief)
}

/// The jail `id`, if it runs.
pub(in crate::ops) fn jail(state: &StateDir, id: Id) -> Result<Option<Jail>, Error> {
    match running(state, id.as_str(), &Silent) {
        Ok(jail) => Ok(Some(jail)),
        Err(Error::NotRunning(_) | Error::Shared { .. }) => Ok(None),
        Err(Error::Ledger(crate::ops::ledger::Error::NotFound(_))) => Ok(None),
        Err(e) => Err(e),
    }
}

impl<'a> Still<'a> {
    /// Make `jail` stand still.
    pub(in crate::ops) fn hold(state: &'a StateDir, jail: &'a Jail) -> Result<Still<'a>, Error> {
        let turn = paused::turn(state)?;
        let before = Paused::read(state, jail.id);
        if let Some(held) = before.as_ref().filter(|p| p.since_ms.is_some() && !p.brief) {
            let held = Held::Before(held.how.name());
            return Ok(Still { state, jail, held, began: Instant::now(), _turn: turn });
        }
        let total_ms = before.map_or(0, |p| p.total_ms);
        let boot = alive::boot_id().unwrap_or_default();
        let mut last = None;
        for way in ways(jail) {
            let since_ms = Some(clock::monotonic_ms());
            let record = Paused { boot: boot.clone(), how: how(&way), since_ms, total_ms, brief: true };
            // The guard comes before anything stands still, and the record before both: whatever happens to
            // us, `aj resume` knows what to undo.
            record.write(state, jail.id)?;
            let guard = match Guard::post(state, jail, &way, &record) {
                Ok(guard) => guard,
                Err(e) => {
                    goes_on(state, jail, &mut Paused { since_ms: None, ..record })?;
                    return Err(Error::Guard { id: jail.id.to_string(), why: e.errno.into() });
                }
            };
            let tried = way.clone();
            let began = Instant::now();
            let frozen = jail.freeze(&way).and_then(|()| jail.is_stopped(&way));
            let held = Held::Here { way, record, guard };
            let mut still = Still { state, jail, held, began, _turn: turn.try_clone().map_err(broken)? };
            match frozen {
                Ok(()) => return Ok(still),
                Err(e) => {
                    still.let_go()?;
                    freeze::remove(&tried);
                    last = Some(e);
                }
            }
            if jail.is_gone() {
                forget(state, jail.id);
                return Err(Error::NotRunning(jail.id.to_string()));
            }
        }
        let source = last.unwrap_or_else(|| sys::Error::new("freeze", "", nix::errno::Errno::ENOSYS));
        Err(Error::Freeze { id: jail.id.to_string(), source })
    }

    /// What it is held by.
    pub(in crate::ops) fn by(&self) -> &'static str {
        match &self.held {
            Held::Here { record, .. } => record.how.name(),
            Held::Before(name) => name,
            Held::No => "",
        }
    }

    /// Whether it was paused already, and stays so.
    pub(in crate::ops) fn was_before(&self) -> bool {
        matches!(self.held, Held::Before(_))
    }

    /// Whether it still stands still: it may have been killed, or continued by somebody.
    pub(in crate::ops) fn lasts(&self) -> bool {
        let stopped = match &self.held {
            Held::Here { way: way @ Hold::Signal, .. } => self.jail.is_stopped(way).is_ok(),
            _ => true,
        };
        stopped && !self.jail.is_gone()
    }

    /// Let it go on. For how long it stood still.
    pub(in crate::ops) fn thaw(mut self) -> Result<Duration, Error> {
        self.let_go()?;
        Ok(self.began.elapsed())
    }

    fn let_go(&mut self) -> Result<(), Error> {
        let Held::Here { way, mut record, guard } = std::mem::replace(&mut self.held, Held::No) else {
            return Ok(());
        };
        self.jail.thaw(&way).map_err(|source| Error::Thaw { id: self.jail.id.to_string(), source })?;
        record.total_ms = ms(record.so_far());
        goes_on(self.state, self.jail, &mut record)?;
        guard.dismiss();
        Ok(())
    }
}

impl Drop for Still<'_> {
    fn drop(&mut self) {
        // Where this fails its guard tries once more.
        self.let_go().ok();
    }
}

fn broken(e: std::io::Error) -> Error {
    Error::State(sys::Error::new("dup", "", sys::errno(&e)).into())
}

/// A copy of this process that lets the jail go on when this one has ended.
#[derive(Debug)]
struct Guard {
    /// It ends when it hears something here, and acts when it hears the end.
    pipe: OwnedFd,
    pid: i32,
}

impl Guard {
    fn post(state: &StateDir, jail: &Jail, way: &Hold, record: &Paused) -> sys::Result<Guard> {
        let (read, write) = fd::pipe()?;
        if let Some(pid) = clone::fork()? {
            return Ok(Guard { pipe: write, pid });
        }
        drop(write);
        paused::guards();
        // Ctrl-C is meant for the one that is guarded, which may die of it.
        signal::take_over().ok();
        let mut byte = [0];
        let heard = loop {
            match nix::unistd::read(read.as_fd(), &mut byte) {
                Err(nix::errno::Errno::EINTR) => {}
                heard => break heard,
            }
        };
        if heard != Ok(1) {
            let let_go = jail.thaw(way).is_ok();
            let mut record = Paused { total_ms: ms(record.so_far()), ..record.clone() };
            if let_go {
                goes_on(state, jail, &mut record).ok();
            }
        }
        clone::exit_now(0)
    }

    /// It is not needed any more.
    fn dismiss(self) {
        nix::unistd::write(&self.pipe, b".").ok();
        pidfd::wait4(self.pid).ok();
    }
}
