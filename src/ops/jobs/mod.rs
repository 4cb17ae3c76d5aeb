//! `aj job`: commands in the background.
//!
//! [`start`](mod@start) makes a record and a supervisor, [`supervise`](mod@supervise) is what that does, and
//! lives exactly as long as its job. All others look at the record and the log: [`list`], [`logs`], [`wait`],
//! [`kill`], [`remove`].

use std::ffi::OsStr;
use std::fmt;

use crate::base::id::{Id, Kind};
use crate::base::name::{Name, NotAName};
use crate::base::text;
use crate::job::http::Unready;
use crate::ops::ledger::{self, start_of_id};
use crate::schema::jail::Outcome;
use crate::schema::job::{Phase, Record, Status};
use crate::store::alive;
use crate::store::jobs::{self, Filed, Home, Unread};
use crate::store::layout::StateDir;

pub mod kill;
pub(in crate::ops) mod knock;
pub mod list;
pub mod logs;
pub mod probe;
pub mod remove;
pub mod start;
pub mod supervise;
pub mod wait;

pub use crate::job::ready::Condition;
pub use crate::job::write::LEAST as LEAST_LOG;

/// Candidates that an ambiguous selector names.
const CANDIDATES: usize = ledger::CANDIDATES as usize;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state directory.
    #[error(transparent)]
    State(#[from] crate::store::Error),
    /// A record that cannot be used.
    #[error(transparent)]
    Record(Unread),
    /// The log.
    #[error("the log of job `{id}` cannot be read")]
    Log {
        /// The job.
        id: Id,
        /// Why.
        source: crate::sys::Error,
    },
    /// The workspace.
    #[error(transparent)]
    Workspace(#[from] super::workspaces::Error),
    /// No job is meant.
    #[error("no job `{0}`")]
    NotFound(String),
    /// There are none at all.
    #[error("there are no jobs")]
    None,
    /// No job is in that group.
    #[error("no job is in group `{0}`")]
    NoGroup(Name),
    /// Several are meant.
    #[error("`{what}` is the start of several ids: {}", .candidates.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Ambiguous {
        /// What was asked for.
        what: String,
        /// At most 8.
        candidates: Vec<Candidate>,
    },
    /// A running job has the name.
    #[error("job `{name}` runs already ({id})")]
    Taken {
        /// The name.
        name: Name,
        /// Who has it.
        id: Id,
    },
    /// It runs.
    #[error("job `{0}` runs")]
    Running(String),
    /// It does not run.
    #[error("job `{0}` does not run")]
    NotRunning(String),
    /// It was removed meanwhile.
    #[error("job `{0}` was removed meanwhile")]
    Removed(String),
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] NotAName),
    /// A setting that a record cannot hold.
    #[error(transparent)]
    NotText(#[from] crate::policy::stored::NotText),
    /// The kept changes of a jail.
    #[error("a job runs in a workspace or over this directory, not in the kept changes of a jail (`{0}`)")]
    NotAWorkspace(String),
    /// The current directory.
    #[error("the current directory cannot be used: {}", super::config::why(.0))]
    CurrentDir(std::io::Error),
    /// Where it began is gone.
    #[error("job `{job}` began in `{dir}`, which cannot be used: {}", super::config::why(.why))]
    Directory {
        /// Which.
        job: String,
        /// Where it began, printable.
        dir: String,
        /// Why.
        why: std::io::Error,
    },
    /// The workspace that it ran in was removed.
    #[error("job `{job}` ran in workspace `{workspace}`, which is no longer there")]
    NoWorkspace {
        /// Which.
        job: String,
        /// The workspace.
        workspace: Id,
    },
    /// The supervisor could not be started.
    #[error("the supervisor of the job could not be started: {}", super::config::why(.0))]
    Supervisor(std::io::Error),
    /// The supervisor ended without a word.
    #[error("the supervisor of the job ended before its command ran")]
    Silent,
    /// A signal could not be sent.
    #[error("signal {signal} could not be sent to job `{id}`")]
    Signal {
        /// The job.
        id: Id,
        /// The signal.
        signal: i32,
        /// Why.
        source: crate::sys::Error,
    },
    /// It was killed and is still there.
    #[error("job `{0}` was killed but does not end")]
    Unkillable(Id),
    /// No randomness.
    #[error("no random bytes for an id: {0}")]
    Random(getrandom::Error),
    /// What runs in jails could not be told.
    #[error(transparent)]
    Ledger(#[from] super::ledger::Error),
}

impl From<Unread> for Error {
    fn from(e: Unread) -> Error {
        match e {
            Unread::Store(e) => Error::State(e),
            e => Error::Record(e),
        }
    }
}

/// One that an ambiguous selector may mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: Id,
    /// Its command as one line, printable.
    pub command: String,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)
    }
}

/// A job that was meant.
#[derive(Debug)]
pub struct Found {
    /// The state directory that it is in.
    pub state: StateDir,
    /// Its directory.
    pub home: Home,
    /// Its record, as it was read.
    pub filed: Filed,
}

impl Found {
    /// What people call it: its name, or its id.
    pub fn name(&self) -> String {
        let record = &self.filed.record;
        record.name.as_ref().map_or_else(|| record.id.to_string(), Name::to_string)
    }

    /// What its server that is not ready was seen to do last.
    fn unready(&self) -> Option<Unready> {
        self.home.unready(self.filed.record.turn).and_then(|seen| Unready::read(&seen))
    }

    /// Read its record once more.
    pub fn look(&mut self) -> Result<&Record, Error> {
        self.filed = self.home.read()?.ok_or_else(|| Error::Removed(self.name()))?;
        Ok(&self.filed.record)
    }

    /// What became of it, by its record as it was last read, which is read once more where that is not enough.
    pub fn status(&mut self) -> Result<Status, Error> {
        if self.filed.record.end.is_none() && !alive::lives(&self.filed.record.supervisor) {
            // Its supervisor may have ended a moment ago, after it had noted how.
            self.look()?;
        }
        Ok(status(&self.filed.record))
    }
}

/// What became of a job.
fn status(record: &Record) -> Status {
    let Some(end) = &record.end else {
        return match record.phase {
            _ if !alive::lives(&record.supervisor) => Status::Lost,
            Phase::Starting | Phase::Ended => Status::Starting,
            Phase::Running => Status::Running,
            Phase::Restarting => Status::Restarting,
        };
    };
    match &end.outcome {
        None | Some(Outcome::Failed { .. }) if !end.by_kill => Status::Failed,
        None | Some(Outcome::Signaled { .. } | Outcome::Failed { .. }) => Status::Killed,
        Some(Outcome::Exited { .. }) => Status::Exited,
        Some(Outcome::TimedOut) => Status::TimedOut,
        Some(Outcome::OutOfMemory) => Status::Oom,
        Some(Outcome::Interrupted { .. }) => Status::Interrupted,
    }
}

fn not_found(word: &OsStr) -> Error {
    Error::NotFound(text::brief(&text::os(word)))
}

/// All jobs whose records can be read, newest first.
/// Jobs that ended before a time, milliseconds since the epoch, with the bytes of their logs. Of one that was lost the
/// last sign counts.
pub(in crate::ops) fn ended_before(
    state: &StateDir,
    before_ms: u64,
) -> Result<Vec<(Found, Option<u64>)>, Error> {
    let mut old = Vec::new();
    for (home, filed) in all(state)? {
        let record = &filed.record;
        let last =
            record.end.as_ref().map_or(record.started_ms.unwrap_or(record.created_ms), |end| end.ended_ms);
        if last >= before_ms || status(record).is_running() {
            continue;
        }
        let bytes = std::fs::read_dir(home.path()).map_or(0, |entries| {
            use std::os::unix::fs::MetadataExt;
            let sizes =
                entries.flatten().filter_map(|e| Some(e.metadata().ok()?.blocks().saturating_mul(512)));
            sizes.fold(0, u64::saturating_add)
        });
        old.push((Found { state: StateDir::open_at(state.path())?, home, filed }, Some(bytes)));
    }
    Ok(old)
}

fn all(state: &StateDir) -> Result<Vec<(Home, Filed)>, Error> {
    let mut found = Vec::new();
    for id in jobs::list(state)? {
        let Some(home) = Home::open(state, id)? else { continue };
        // One that cannot be read is told of by whoever asks for it.
        match home.read() {
            Ok(Some(filed)) => found.push((home, filed)),
            Ok(None) | Err(Unread::Damaged { .. } | Unread::Newer { .. }) => {}
            Err(Unread::Store(e)) => return Err(e.into()),
        }
    }
    found.sort_unstable_by_key(|(_, f)| std::cmp::Reverse((f.record.created_ms, f.record.id)));
    Ok(found)
}

/// The one that `word` means: an id, a name (of several jobs the one that was made last), the start of an id
/// that no other has (with its `jb-`, or four digits at least), `@` for the newest.
pub fn find(word: &OsStr) -> Result<Found, Error> {
    let state = StateDir::open_if_present()?.ok_or_else(|| not_found(word))?;
    let (home, filed) = named(&state, word)?;
    Ok(Found { state, home, filed })
}

fn named(state: &StateDir, word: &OsStr) -> Result<(Home, Filed), Error> {
    let text = word.to_str().ok_or_else(|| not_found(word))?;
    let lower = text.trim().to_ascii_lowercase();
    if let Ok(id) = lower.parse::<Id>() {
        let home = if id.kind() == Kind::Job { Home::open(state, id)? } else { None };
        let home = home.ok_or_else(|| not_found(word))?;
        let filed = home.read()?.ok_or_else(|| not_found(word))?;
        return Ok((home, filed));
    }
    let mut all = all(state)?;
    if matches!(lower.as_str(), "@" | "latest") {
        return if all.is_empty() { Err(Error::None) } else { Ok(all.swap_remove(0)) };
    }
    if let Ok(name) = text.parse::<Name>()
        && let Some(at) = all.iter().position(|(_, f)| f.record.name.as_ref() == Some(&name))
    {
        return Ok(all.swap_remove(at));
    }
    let start = start_of_id(Kind::Job, &lower).ok_or_else(|| not_found(word))?;
    let fits = |(_, f): &(Home, Filed)| f.record.id.as_str().starts_with(&start);
    let candidates: Vec<Candidate> = all.iter().filter(|one| fits(one)).map(candidate).collect();
    match candidates.len() {
        0 => Err(not_found(word)),
        1 => all.into_iter().find(fits).ok_or_else(|| not_found(word)),
        _ => Err(Error::Ambiguous {
            what: text::brief(&text::printable(text.as_bytes())),
            candidates: candidates.into_iter().take(CANDIDATES).collect(),
        }),
    }
}

fn candidate((_, filed): &(Home, Filed)) -> Candidate {
    Candidate { id: filed.record.id, command: list::command(&filed.record) }
}

/// Ids, names and commands of the newest jobs, printable: nothing when that is not possible.
pub fn peek(limit: usize) -> Vec<(String, Option<String>, String)> {
    let Ok(Some(state)) = StateDir::open_if_present() else { return Vec::new() };
    let all = all(&state).unwrap_or_default().into_iter().take(limit);
    let one = |record: Record| {
        (record.id.to_string(), record.name.as_ref().map(Name::to_string), list::command(&record))
    };
    all.map(|(_, filed)| one(filed.record)).collect()
}
