//! `aj jail list` and `aj jail show`: reading the ledger, which repairs it on the way.

use std::collections::BTreeSet;

use crate::base::clock::rfc3339;
use crate::base::id::{Id, Kind};
use crate::base::text::printable;
use crate::monitor::Monitor;
use crate::schema::jail::bytes64::encode;
use crate::schema::jail::{Excerpt, Outcome};
use crate::schema::ledger::{FORMAT_VERSION, Failure, JailDetail, JailList, JailSummary, Output, Status};
use crate::store::layout::StateDir;
use crate::store::ledger::{self, Full, Ledger, Row};
use crate::store::sweep::{self, Rules};
use crate::store::trees;

pub use crate::store::Error as StateError;
pub use crate::store::ledger::Filter;

/// Digits of an id that people are shown at least.
const MIN_DIGITS: usize = 4;
/// Candidates that an ambiguous selector names.
const CANDIDATES: u32 = 8;

/// Why the ledger did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state directory or the database.
    #[error(transparent)]
    State(#[from] StateError),
    /// No row matches.
    #[error("no jail `{0}` in the ledger")]
    NotFound(String),
    /// Several rows match.
    #[error("`{selector}` is the start of the ids of {count} jails")]
    Ambiguous {
        /// What was asked for, printable.
        selector: String,
        /// How many match.
        count: u64,
        /// The newest of them, at most 8.
        candidates: Vec<Candidate>,
    },
}

/// One jail that an ambiguous selector may mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Full id.
    pub id: String,
    /// Its command as one line, printable.
    pub command: String,
}

/// One row, with what only people are shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// What JSON shows.
    pub summary: JailSummary,
    /// The shortest prefix of its id that is unique, at least 4 digits.
    pub short: String,
    /// The command as one line, printable.
    pub command: String,
    /// Start by the wall clock, milliseconds since the epoch.
    pub started_ms: Option<u64>,
}

/// The answer of [`list`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Newest first.
    pub jails: Vec<Listed>,
}

impl Report {
    /// As JSON shows it.
    pub fn into_json(self) -> JailList {
        JailList {
            format_version: FORMAT_VERSION,
            jails: self.jails.into_iter().map(|j| j.summary).collect(),
        }
    }
}

/// The jails that pass `filter`, newest first. Removes what killed runs left behind.
pub fn list(filter: &Filter, monitor: &dyn Monitor) -> Result<Report, Error> {
    match StateDir::open_if_present()? {
        Some(state) => list_in(&state, filter, monitor),
        None => Ok(Report::default()),
    }
}

/// Everything recorded about one jail: a full id, a unique prefix (with or without `jl-`), or `@`
/// for the newest.
pub fn show(selector: &str, monitor: &dyn Monitor) -> Result<JailDetail, Error> {
    match StateDir::open_if_present()? {
        Some(state) => show_in(&state, selector, monitor),
        None => Err(Error::NotFound(printable(selector.as_bytes()))),
    }
}

fn list_in(state: &StateDir, filter: &Filter, monitor: &dyn Monitor) -> Result<Report, Error> {
    let jails = ledger::read(state, monitor, |ledger| {
        tidy(state, ledger, monitor)?;
        ledger.list(filter)?.into_iter().map(|row| listed(ledger, row)).collect()
    })?;
    Ok(Report { jails })
}

fn tidy(state: &StateDir, ledger: &Ledger<'_>, monitor: &dyn Monitor) -> Result<(), StateError> {
    if !ledger.is_durable() {
        return Ok(());
    }
    let running = Filter { status: vec![Status::Running], ..Filter::default() };
    let running: BTreeSet<Id> = ledger.list(&running)?.iter().filter_map(|r| r.id.parse().ok()).collect();
    // Changes are kept until `aj gc` knows how long.
    let rules = Rules { running: &running, expired: &|_| false };
    sweep::sweep(state, &rules, monitor).map(drop)
}

fn listed(ledger: &Ledger<'_>, row: Row) -> Result<Listed, StateError> {
    let least = Kind::Jail.prefix().len() + MIN_DIGITS;
    let digits = ledger.unique_len(&row.id)?.max(least);
    Ok(Listed {
        short: printable(row.id.get(..digits).unwrap_or(&row.id).as_bytes()),
        command: printable(row.command.as_bytes()),
        started_ms: row.started_ms,
        summary: summary(row),
    })
}

fn summary(row: Row) -> JailSummary {
    JailSummary {
        id: row.id,
        kind: row.kind,
        status: row.status,
        exit_code: row.exit_code,
        started_at: row.started_ms.map(rfc3339),
        ended_at: row.ended_ms.map(rfc3339),
        duration_ms: row.wall_ms,
        argv: row.argv,
        cwd: row.cwd,
        base: row.base,
    }
}

fn show_in(state: &StateDir, selector: &str, monitor: &dyn Monitor) -> Result<JailDetail, Error> {
    enum Found {
        One(Box<Full>),
        None,
        Many(Vec<Row>, u64),
    }
    let found = ledger::read(state, monitor, |ledger| {
        let (rows, count) = match prefix(selector) {
            None => (Vec::new(), 0),
            Some(prefix) if prefix == "@" => {
                let rows = ledger.list(&Filter { limit: Some(1), ..Filter::default() })?;
                let count = rows.len() as u64;
                (rows, count)
            }
            Some(prefix) => ledger.starting_with(&prefix, CANDIDATES)?,
        };
        Ok(match rows.first() {
            Some(row) if count == 1 => ledger.get(&row.id)?.map_or(Found::None, |f| Found::One(Box::new(f))),
            None => Found::None,
            Some(_) => Found::Many(rows, count),
        })
    })?;
    match found {
        Found::One(full) => Ok(detail(state, *full, monitor)),
        Found::None => Err(Error::NotFound(printable(selector.as_bytes()))),
        Found::Many(rows, count) => Err(Error::Ambiguous {
            selector: printable(selector.as_bytes()),
            count,
            candidates: rows
                .into_iter()
                .map(|r| Candidate { id: r.id, command: printable(r.command.as_bytes()) })
                .collect(),
        }),
    }
}

/// The start of an id that a selector means, `@` for the newest, `None` for what no id starts with.
fn prefix(selector: &str) -> Option<String> {
    let lower = selector.trim().to_ascii_lowercase();
    if matches!(lower.as_str(), "@" | "latest") {
        return Some("@".to_owned());
    }
    let kind = Kind::Jail.prefix();
    let full = if lower.starts_with(kind) { lower } else { format!("{kind}{lower}") };
    (full.len() > kind.len() && Id::looks_like(&full)).then_some(full)
}

fn detail(state: &StateDir, full: Full, monitor: &dyn Monitor) -> JailDetail {
    let Full { row, start, end, damaged } = full;
    if damaged {
        monitor.warn(&format!("a part of the record of `{}` is damaged", printable(row.id.as_bytes())));
    }
    let id: Option<Id> = row.id.parse().ok();
    let changes_kept = id.is_some_and(|id| {
        trees::open_tree(state, id).ok().flatten().is_some_and(|tree| !tree.is_unchanged().unwrap_or(false))
    });
    let (signal, failure) = match end.as_ref().map(|e| &e.outcome) {
        Some(Outcome::Signaled { signal } | Outcome::Interrupted { signal }) => (Some(*signal), None),
        Some(Outcome::Failed { step, errno, .. }) => {
            let errno = Some(errno.clone()).filter(|e| !e.is_empty());
            (None, Some(Failure { step: step.clone(), errno }))
        }
        Some(Outcome::Exited { .. } | Outcome::TimedOut | Outcome::OutOfMemory) | None => (None, None),
    };
    let (files_changed, usage) = end.as_ref().map_or((None, None), |e| (e.files_changed, Some(e.usage)));
    let (layers, stdout, stderr) =
        end.map_or_else(Default::default, |e| (e.layers, output(e.stdout), output(e.stderr)));
    let pid = start.as_ref().map(|s| s.pid);
    let row = summary(row);
    JailDetail {
        format_version: FORMAT_VERSION,
        id: row.id,
        kind: row.kind,
        status: row.status,
        exit_code: row.exit_code,
        signal,
        failure,
        started_at: row.started_at,
        ended_at: row.ended_at,
        duration_ms: row.duration_ms,
        argv: row.argv,
        cwd: row.cwd,
        base: row.base,
        pid,
        files_changed,
        changes_kept,
        policy: start.map(|s| s.policy),
        layers,
        usage,
        stdout,
        stderr,
    }
}

/// What was kept of a stream. Without a gap head and tail are one text: the place where they meet
/// may lie inside a character.
fn output(excerpt: Excerpt) -> Output {
    let Excerpt { total, mut head, mut tail } = excerpt;
    let kept = (head.len() + tail.len()) as u64;
    let truncated = total > kept;
    if !truncated {
        head.append(&mut tail);
    }
    Output {
        total,
        truncated,
        text: String::from_utf8_lossy(&head).into_owned(),
        tail: String::from_utf8_lossy(&tail).into_owned(),
        text_base64: encode(&head),
        tail_base64: encode(&tail),
        head_bytes: head,
        tail_bytes: tail,
    }
}
