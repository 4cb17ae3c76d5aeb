//! `aj gc`: what is over goes, and what killed processes left behind.
//!
//! `expired` is what time says: workspaces, kept changes, jobs, records. `orphans` is what belongs to
//! nothing any more. Each thing loses its name first, under the lock that its users take, and its files after
//! that: whoever is killed here leaves a name that the next one knows. Other commands do a share of it
//! (`share`), never `aj exec`.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::{config, exec, workspaces};
use crate::base::clock;
use crate::monitor::Monitor;
use crate::policy::keep::Keep;
use crate::schema::changes::FORMAT;
use crate::schema::gc::{Collected, Failed, Removed, Unknown};
use crate::store::gc;
use crate::store::layout::StateDir;
use crate::sys::openat2::{self, For};
use crate::workspace::measure::{self, Most};

mod expired;
mod orphans;
mod share;

pub use share::share;

/// How long another one that cleans up is waited for.
const TURN: Duration = Duration::from_secs(10);
/// How much one thing is looked at to tell its size.
const MOST: Most = Most { entries: 200_000, time: Duration::from_millis(300) };

/// What is to be cleaned up.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// What time says.
    pub expired: bool,
    /// What belongs to nothing.
    pub orphans: bool,
    /// Only say it.
    pub dry_run: bool,
    /// How long expired workspaces are kept, instead of what the configuration says.
    pub keep_expired: Option<Option<Duration>>,
}

/// Why nothing was cleaned up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state directory.
    #[error(transparent)]
    State(#[from] crate::store::Error),
    /// The user's configuration.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// Another one is at it.
    #[error("another `aj gc` is at work")]
    Busy,
}

/// Why one thing is left.
#[derive(Debug, thiserror::Error)]
enum Left {
    #[error(transparent)]
    State(#[from] crate::store::Error),
    #[error(transparent)]
    Workspace(#[from] workspaces::Error),
    #[error(transparent)]
    Exec(Box<exec::Error>),
}

impl From<exec::Error> for Left {
    fn from(e: exec::Error) -> Left {
        Left::Exec(Box::new(e))
    }
}

/// A clean-up that goes on.
struct Work<'a> {
    state: &'a StateDir,
    keep: Keep,
    dry: bool,
    /// Until when files are removed; `None`: as long as it takes, and jails are stopped.
    until: Option<Instant>,
    now_ms: u64,
    monitor: &'a dyn Monitor,
    /// The ledger could not be read, or not changed, and that was said.
    no_ledger: bool,
    done: Collected,
}

impl<'a> Work<'a> {
    fn new(state: &'a StateDir, keep: Keep, dry: bool, monitor: &'a dyn Monitor) -> Work<'a> {
        let done = Collected {
            format_version: FORMAT,
            dry_run: dry,
            removed: Vec::new(),
            bytes: 0,
            unknown: Vec::new(),
            failed: Vec::new(),
        };
        Work { state, keep, dry, until: None, now_ms: clock::now_ms(), monitor, no_ledger: false, done }
    }

    /// Whether there is time for more.
    fn goes_on(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }

    fn took(
        &mut self,
        kind: &'static str,
        name: impl Into<String>,
        bytes: Option<u64>,
        reason: impl Into<String>,
    ) {
        self.done.bytes = self.done.bytes.saturating_add(bytes.unwrap_or(0));
        self.done.removed.push(Removed { kind, name: name.into(), bytes, reason: reason.into() });
    }

    fn unknown(&mut self, name: impl Into<String>, reason: impl Into<String>) {
        self.done.unknown.push(Unknown { name: name.into(), reason: reason.into() });
    }

    /// Note what became of one thing; one failure does not end the rest.
    fn tried<T>(&mut self, name: &str, done: Result<T, impl std::error::Error + 'static>) -> Option<T> {
        match done {
            Ok(done) => Some(done),
            Err(e) => {
                self.done.failed.push(Failed { name: name.to_owned(), error: chain(&e) });
                None
            }
        }
    }
}

fn chain(e: &dyn std::error::Error) -> String {
    match e.source() {
        Some(source) => format!("{e}: {}", chain(source)),
        None => e.to_string(),
    }
}

impl Work<'_> {
    /// Bytes on the disk below a directory; not for a share, which has no time to count.
    fn bytes_of(&self, dir: BorrowedFd<'_>) -> Option<u64> {
        self.until.is_none().then(|| bytes_of(dir)).flatten()
    }
}

/// Bytes on the disk below a directory, as far as that can be told in a moment.
fn bytes_of(dir: BorrowedFd<'_>) -> Option<u64> {
    let top = openat2::beneath(dir, b".", For::Listing).ok()?;
    measure::allocated(top, MOST).ok()
}

/// Clean up.
pub fn collect(request: &Request, monitor: &dyn Monitor) -> Result<Collected, Error> {
    let mut keep = config::user()?.map(|user| user.keep).unwrap_or_default();
    if let Some(time) = request.keep_expired {
        keep.expired = time.into();
    }
    let Some(state) = StateDir::open_if_present()? else {
        let nothing = Collected {
            format_version: FORMAT,
            dry_run: request.dry_run,
            removed: Vec::new(),
            bytes: 0,
            unknown: Vec::new(),
            failed: Vec::new(),
        };
        return Ok(nothing);
    };
    let _turn = gc::take_turn(&state, TURN)?.ok_or(Error::Busy)?;
    let mut work = Work::new(&state, keep, request.dry_run, monitor);
    if request.expired {
        expired::collect(&mut work);
    }
    if request.orphans {
        orphans::collect(&mut work);
    }
    if request.expired {
        // Last: it is what a full disk may refuse.
        expired::records(&mut work);
    }
    Ok(work.done)
}
