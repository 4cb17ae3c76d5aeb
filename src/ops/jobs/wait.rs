//! `aj job wait` and `aj wait`.

use std::ffi::{OsStr, OsString};
use std::time::{Duration, Instant};

use super::probe::{Met, until};
use super::{Error, Found, find};
use crate::job::http::Unready;
use crate::job::ready::Condition;
use crate::job::watch::Watch;
use crate::monitor::Monitor;
use crate::ops::ledger;
use crate::schema::changes::FORMAT;
use crate::schema::job::{self as schema, Status, Waited, WaitedFor};

/// What is waited for.
#[derive(Debug, Clone)]
pub enum For {
    /// Its end.
    Exit,
    /// That it is ready, as it was started to be.
    Ready,
    /// Something else that a job may be ready by.
    Condition(Condition),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// Of a job.
    #[error(transparent)]
    Job(#[from] Error),
    /// Nobody said when the job is ready.
    #[error("job `{0}` was started without `--ready`")]
    NoReady(String),
    /// Jails are only waited for to end.
    #[error("`{0}` is a jail: only its end can be waited for")]
    OnlyEnd(String),
}

impl From<ledger::Error> for WaitError {
    fn from(e: ledger::Error) -> WaitError {
        WaitError::Job(Error::Ledger(e))
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// For JSON.
    pub answer: Waited,
    /// The exit code: of the first that did not go well, in the order of the command line; 0 when all have.
    pub exit: Exit,
}

/// How a wait ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// With that code of a command.
    Code(u8),
    /// The time was up; what was seen last of a server that was not ready.
    TimeUp(String, Option<Unready>),
    /// It ended before it was ready.
    Ended(String),
    /// It is lost: nobody knows its code.
    Lost(String),
}

/// Wait for all of `words`, jobs or jails, for `limit` at most.
pub fn wait(
    words: &[OsString],
    what: &For,
    limit: Option<Duration>,
    monitor: &dyn Monitor,
) -> Result<Report, WaitError> {
    let began = Instant::now();
    // All are looked up before one is waited for: a mistake is told at once.
    let targets = words.iter().map(|word| target(word, what, monitor)).collect::<Result<Vec<_>, _>>()?;
    let mut waited = Vec::new();
    let mut exit = Exit::Code(0);
    for target in targets {
        let left = limit.map(|limit| limit.saturating_sub(began.elapsed()));
        let (one, code) = match target {
            Target::Job(mut found) => job(&mut found, what, left)?,
            Target::Jail(id) => jail(&id, left, monitor)?,
        };
        waited.push(one);
        if exit == Exit::Code(0) {
            exit = code;
        }
    }
    Ok(Report { answer: Waited { format_version: FORMAT, waited }, exit })
}

enum Target {
    Job(Box<Found>),
    Jail(String),
}

fn target(word: &OsStr, what: &For, monitor: &dyn Monitor) -> Result<Target, WaitError> {
    let text = word.to_string_lossy().to_ascii_lowercase();
    if text.starts_with("jl-") {
        if !matches!(what, For::Exit) {
            return Err(WaitError::OnlyEnd(crate::base::text::os(word)));
        }
        return Ok(Target::Jail(ledger::show(&text, monitor)?.id));
    }
    let found = find(word)?;
    if matches!(what, For::Ready) && found.filed.record.ready.is_none() {
        return Err(WaitError::NoReady(found.name()));
    }
    Ok(Target::Job(Box::new(found)))
}

fn job(found: &mut Found, what: &For, limit: Option<Duration>) -> Result<(WaitedFor, Exit), Error> {
    let turn = found.filed.record.turn;
    let mut seen = None;
    let met = match what {
        For::Exit => ended(found, limit)?,
        For::Ready => ready(found, turn, limit)?,
        For::Condition(condition) => until(found, condition, turn, limit, &mut |_, now| seen = Some(now))?,
    };
    if met == Met::TimeUp && matches!(what, For::Ready) {
        seen = found.unready();
    }
    let status = found.status()?;
    let code = found.filed.record.end.as_ref().map(|end| end.exit_code);
    let exit = match (what, met, code) {
        (_, Met::TimeUp, _) => Exit::TimeUp(found.name(), seen),
        (For::Exit, _, Some(code)) => Exit::Code(code),
        (For::Exit, _, None) => Exit::Lost(found.name()),
        (For::Ready | For::Condition(_), Met::Yes, _) => Exit::Code(0),
        (For::Ready | For::Condition(_), Met::Ended, _) => Exit::Ended(found.name()),
    };
    let unready = seen.filter(|_| met == Met::TimeUp).map(told);
    let met = matches!(met, Met::Yes) && (status != Status::Lost || !matches!(what, For::Exit));
    let id = found.filed.record.id.to_string();
    Ok((WaitedFor { id, status: status.as_str().to_owned(), met, exit_code: code, unready }, exit))
}

fn told(seen: Unready) -> schema::Unready {
    schema::Unready { port: seen.port, status: seen.status(), text: seen.to_string() }
}

fn ended(found: &mut Found, limit: Option<Duration>) -> Result<Met, Error> {
    let began = Instant::now();
    let watch = Watch::new([found.home.path()]);
    while found.status()?.is_running() {
        let left = limit.map_or(Duration::MAX, |limit| limit.saturating_sub(began.elapsed()));
        if left.is_zero() {
            return Ok(Met::TimeUp);
        }
        watch.wait(left.min(Duration::from_millis(500)));
        found.look()?;
    }
    Ok(Met::Yes)
}

fn ready(found: &mut Found, turn: u32, limit: Option<Duration>) -> Result<Met, Error> {
    let began = Instant::now();
    let watch = Watch::new([found.home.path()]);
    loop {
        let running = found.status()?.is_running();
        if found.home.ready_since(turn).is_some() {
            return Ok(Met::Yes);
        }
        if !running {
            return Ok(Met::Ended);
        }
        let left = limit.map_or(Duration::MAX, |limit| limit.saturating_sub(began.elapsed()));
        if left.is_zero() {
            return Ok(Met::TimeUp);
        }
        watch.wait(left.min(Duration::from_millis(500)));
        found.look()?;
    }
}

/// A jail, by the ledger: looked at again and again, since nobody tells when one ends.
fn jail(id: &str, limit: Option<Duration>, monitor: &dyn Monitor) -> Result<(WaitedFor, Exit), WaitError> {
    let began = Instant::now();
    let mut pause = Duration::from_millis(20);
    loop {
        let detail = ledger::show(id, monitor)?;
        let running = crate::schema::ledger::Status::Running;
        let over = detail.status != running && detail.status != crate::schema::ledger::Status::Paused;
        let left = limit.map_or(Duration::MAX, |limit| limit.saturating_sub(began.elapsed()));
        if over || left.is_zero() {
            let code = detail.exit_code.and_then(|code| u8::try_from(code).ok());
            let exit = match (over, code) {
                (false, _) => Exit::TimeUp(id.to_owned(), None),
                (true, Some(code)) => Exit::Code(code),
                (true, None) => Exit::Lost(id.to_owned()),
            };
            let status = detail.status.as_str().to_owned();
            return Ok((
                WaitedFor { id: id.to_owned(), status, met: over, exit_code: code, unready: None },
                exit,
            ));
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 3 / 2).min(Duration::from_millis(500));
    }
}
