//! `aj jail list` and `aj jail show`: reading the ledger, which repairs it on the way.

use std::collections::BTreeSet;

use crate::base::clock::rfc3339;
use crate::base::id::{Id, Kind};
use crate::base::text::printable;
use crate::monitor::Monitor;
use crate::ops::pause;
use crate::schema::jail::bytes64::encode;
use crate::schema::jail::{Effective, End, Excerpt, Outcome, Start};
use crate::schema::ledger::{FORMAT_VERSION, Failure, JailDetail, JailList, JailSummary, Output, Status};
use crate::store::kept::Kept;
use crate::store::layout::StateDir;
use crate::store::ledger::{self, Full, Ledger, Row};
use crate::store::peek;
use crate::store::sweep::{self, Rules};
use crate::store::trees;

pub use crate::store::Error as StateError;
pub use crate::store::ledger::Filter;

/// Digits of an id that people are shown at least.
pub(super) const MIN_DIGITS: usize = 4;
/// Candidates that an ambiguous selector names.
pub(super) const CANDIDATES: u32 = 8;

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

/// The row of the jail with this full id.
pub(super) fn list_one(id: &str, monitor: &dyn Monitor) -> Result<Option<JailSummary>, Error> {
    let Some(state) = StateDir::open_if_present()? else { return Ok(None) };
    match find(&state, id, monitor) {
        Ok(full) => Ok(Some(summary(full.row, &state))),
        Err(Error::NotFound(_)) => Ok(None),
        Err(e) => Err(e),
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

/// Ids and commands of the newest jails, printable: without a lock, without a repair, and nothing when
/// that is not possible.
pub fn peek(limit: usize) -> Vec<(String, String)> {
    let Ok(Some(state)) = StateDir::open_if_present() else { return Vec::new() };
    let rows = peek::newest(&state, limit).into_iter();
    rows.map(|(id, command)| (printable(id.as_bytes()), printable(command.as_bytes()))).collect()
}

/// Ids of the jails that made the trees that are kept, by their names alone.
pub fn peek_kept() -> BTreeSet<String> {
    let Ok(Some(state)) = StateDir::open_if_present() else { return BTreeSet::new() };
    trees::list_trees(&state).unwrap_or_default().iter().map(Id::to_string).collect()
}

fn list_in(state: &StateDir, filter: &Filter, monitor: &dyn Monitor) -> Result<Report, Error> {
    let jails = ledger::read(state, monitor, |ledger| {
        tidy(state, ledger, monitor)?;
        let rows = ledger.list(&wider(filter))?.into_iter().map(|row| listed(ledger, row, state));
        rows.collect::<Result<Vec<Listed>, StateError>>()
    })?;
    let wanted = |j: &Listed| filter.status.is_empty() || filter.status.contains(&j.summary.status);
    Ok(Report { jails: jails.into_iter().filter(wanted).collect() })
}

/// The ledger knows no paused jails: to it they run.
fn wider(filter: &Filter) -> Filter {
    let mut filter = filter.clone();
    if filter.status.contains(&Status::Paused) {
        filter.status.retain(|s| *s != Status::Paused);
        filter.status.push(Status::Running);
    }
    filter
}

/// What became of a jail, with what only a look at it can tell.
fn status(state: &StateDir, row: &Row) -> Status {
    let paused = || row.id.parse().is_ok_and(|id| pause::is_paused(state, id));
    if row.status == Status::Running && paused() { Status::Paused } else { row.status }
}

/// The jails that run, and the trees that they have.
pub(super) struct Run {
    pub(super) jails: BTreeSet<Id>,
    pub(super) trees: BTreeSet<Id>,
}

pub(super) fn run(ledger: &Ledger<'_>) -> Result<Run, StateError> {
    let running = Filter { status: vec![Status::Running], ..Filter::default() };
    let of = |r: &Row| r.tree.as_ref().unwrap_or(&r.id).parse().ok();
    let rows = ledger.list(&running)?;
    let jails = rows.iter().filter_map(|r| r.id.parse().ok()).collect();
    Ok(Run { jails, trees: rows.iter().filter_map(of).collect() })
}

fn tidy(state: &StateDir, ledger: &Ledger<'_>, monitor: &dyn Monitor) -> Result<(), StateError> {
    if !ledger.is_durable() {
        return Ok(());
    }
    let run = run(ledger)?;
    // How long changes are kept is looked after by the runs that keep some.
    let rules = Rules { running: &run.trees, expired: &|_| false, goes: &|_, _, _| true };
    sweep::sweep(state, &rules, monitor)?;
    pause::sweep(state, &|id| run.jails.contains(&id));
    Ok(())
}

fn listed(ledger: &Ledger<'_>, row: Row, state: &StateDir) -> Result<Listed, StateError> {
    let least = Kind::Jail.prefix().len() + MIN_DIGITS;
    let digits = ledger.unique_len(&row.id)?.max(least);
    Ok(Listed {
        short: printable(row.id.get(..digits).unwrap_or(&row.id).as_bytes()),
        command: printable(row.command.as_bytes()),
        started_ms: row.started_ms,
        summary: summary(row, state),
    })
}

/// Whether the changes of a jail are kept, and the bytes that they take on the disk where that is known.
fn kept(state: &StateDir, row: &Row) -> (bool, Option<u64>) {
    let id = row.tree.as_ref().unwrap_or(&row.id).parse().ok();
    let tree = id.and_then(|id| trees::open_tree(state, id).ok().flatten());
    match tree.filter(|tree| !tree.is_unchanged().unwrap_or(false)) {
        Some(tree) => (true, Kept::read(&tree).and_then(|k| k.bytes)),
        None => (false, None),
    }
}

fn summary(row: Row, state: &StateDir) -> JailSummary {
    let (changes_kept, kept_bytes) = kept(state, &row);
    let status = status(state, &row);
    JailSummary {
        id: row.id,
        kind: row.kind,
        status,
        exit_code: row.exit_code,
        started_at: row.started_ms.map(rfc3339),
        ended_at: row.ended_ms.map(rfc3339),
        duration_ms: row.wall_ms,
        argv: row.argv,
        cwd: row.cwd,
        base: row.base,
        argv_base64: row.exact.argv,
        cwd_base64: row.exact.cwd,
        base_base64: row.exact.base,
        tree: row.tree,
        changes_kept,
        kept_bytes,
    }
}

fn show_in(state: &StateDir, selector: &str, monitor: &dyn Monitor) -> Result<JailDetail, Error> {
    find(state, selector, monitor).map(|full| detail(state, full, monitor))
}

/// The id of a jail, the record of its start, and whether it has ended.
pub(super) fn start_of(
    state: &StateDir,
    selector: &str,
    monitor: &dyn Monitor,
) -> Result<(String, Option<Start>, bool), Error> {
    let full = find(state, selector, monitor)?;
    let ended = full.end.is_some() || full.row.status != Status::Running;
    Ok((full.row.id, full.start, ended))
}

fn find(state: &StateDir, selector: &str, monitor: &dyn Monitor) -> Result<Full, Error> {
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
        Found::One(full) => Ok(*full),
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

/// The start of an id of this kind that `lower` means: with its prefix, or of so many digits that it is hardly
/// a name that is not there.
pub(super) fn start_of_id(kind: Kind, lower: &str) -> Option<String> {
    let kind = kind.prefix();
    let start = match lower.starts_with(kind) {
        true => lower.to_owned(),
        // Fewer are never shown to people.
        false if lower.len() >= MIN_DIGITS => format!("{kind}{lower}"),
        false => return None,
    };
    (start.len() > kind.len() && Id::looks_like(&start)).then_some(start)
}

/// The start of an id that a selector means, `@` for the newest, `None` for what no id starts with.
pub(super) fn prefix(selector: &str) -> Option<String> {
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
    let (signal, failure) = match end.as_ref().map(|e| &e.outcome) {
        Some(Outcome::Signaled { signal } | Outcome::Interrupted { signal }) => (Some(*signal), None),
        Some(Outcome::Failed { step, errno, .. }) => {
            let errno = Some(errno.clone()).filter(|e| !e.is_empty());
            (None, Some(Failure { step: step.clone(), errno }))
        }
        Some(Outcome::Exited { .. } | Outcome::TimedOut | Outcome::OutOfMemory) | None => (None, None),
    };
    let (files_changed, usage) = end.as_ref().map_or((None, None), |e| (e.files_changed, Some(e.usage)));
    let policy = start.as_ref().map(|s| s.policy.clone()).map(|policy| match &end {
        Some(End { mode: Some(mode), .. }) => Effective { mode: mode.clone(), ..policy },
        _ => policy,
    });
    let killed_for = end.as_ref().and_then(|e| e.killed_for.clone());
    let (layers, stdout, stderr) =
        end.map_or_else(Default::default, |e| (e.layers, output(e.stdout), output(e.stderr)));
    let pid = start.as_ref().map(|s| s.pid);
    let row = summary(row, state);
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
        argv_base64: row.argv_base64,
        cwd_base64: row.cwd_base64,
        base_base64: row.base_base64,
        pid,
        files_changed,
        tree: row.tree,
        changes_kept: row.changes_kept,
        kept_bytes: row.kept_bytes,
        policy,
        layers,
        usage,
        killed_for,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::{Recording, Silent};
    use crate::schema::jail::Start;
    use crate::store::testing::{dead_start, end, id, start, state};
    use crate::store::{spool, trees};
    use std::fs;

    fn add(state: &StateDir, id: &str) {
        let start = Start { id: id.parse().unwrap(), ..start(crate::store::testing::id(), &["echo", id]) };
        spool::append_start(state, &start).unwrap();
    }

    fn shown(state: &StateDir, selector: &str) -> Result<String, Error> {
        show_in(state, selector, &Silent).map(|d| d.id)
    }

    #[test]
    fn a_selector_is_an_id_a_unique_start_of_one_or_the_newest() {
        let (_dir, state) = state();
        assert!(matches!(shown(&state, "@"), Err(Error::NotFound(_))));
        let ids = ["jl-7k3m000000000000", "jl-7k3n000000000000", "jl-9000000000000000"];
        ids.iter().for_each(|id| add(&state, id));
        for (selector, found) in [
            (ids[0], 0),
            ("jl-7k3n", 1),
            ("7k3n", 1),
            ("7K3N", 1),
            ("JL-9", 2),
            ("9", 2),
            (" 9 ", 2),
            ("@", 2),
            ("latest", 2),
        ] {
            assert_eq!(shown(&state, selector).unwrap(), ids[found], "{selector}");
        }
        for missing in
            ["", "jl-", "8", "jl-7k3m0000000000000", "ws-7", "7k3m%", "../x", "\u{1b}[31m", "7k3m\0", "ü"]
        {
            let e = shown(&state, missing).unwrap_err();
            assert!(matches!(e, Error::NotFound(_)), "{missing}: {e}");
            assert!(!e.to_string().contains('\u{1b}'));
        }
        let Err(Error::Ambiguous { selector, count, candidates }) = shown(&state, "7k3") else {
            panic!("ambiguous")
        };
        assert_eq!((selector.as_str(), count), ("7k3", 2));
        assert_eq!(candidates[0].id, ids[1], "newest first");
        assert_eq!(candidates[0].command, format!("echo {}", ids[1]));
        for n in 0..10 {
            add(&state, &format!("jl-a00{n}000000000000"));
        }
        let Err(Error::Ambiguous { count, candidates, .. }) = shown(&state, "a") else { panic!("ambiguous") };
        assert_eq!((count, candidates.len()), (10, 8));
    }

    #[test]
    fn a_list_shows_short_ids_that_show_accepts() {
        let (_dir, state) = state();
        for id in ["jl-7k3m0a0000000000", "jl-7k3m0b0000000000", "jl-9000000000000000"] {
            add(&state, id);
        }
        let report = list_in(&state, &Filter::default(), &Silent).unwrap();
        let short: Vec<_> = report.jails.iter().map(|j| j.short.as_str()).collect();
        assert_eq!(short, ["jl-9000", "jl-7k3m0b", "jl-7k3m0a"]);
        for jail in &report.jails {
            assert_eq!(shown(&state, &jail.short).unwrap(), jail.summary.id);
        }
    }

    #[test]
    fn the_json_of_a_list_and_of_a_record_is_as_documented() {
        let (_dir, state) = state();
        let a = id();
        let mut s = start(a, &["make", "a b"]);
        s.policy.timeout_ms = Some(5);
        spool::append_start(&state, &s).unwrap();
        let mut e = end(a, 2);
        // A character of two bytes, cut where head and tail meet.
        e.stdout = Excerpt { total: 4, head: b"\xc3".to_vec(), tail: b"\xa9\x1b\xff".to_vec() };
        e.stderr = Excerpt { total: 100, head: b"head".to_vec(), tail: b"tail".to_vec() };
        spool::append_end(&state, &e).unwrap();
        let list = list_in(&state, &Filter::default(), &Silent).unwrap().into_json();
        assert_eq!(
            serde_json::to_value(list).unwrap(),
            serde_json::json!({"format_version": "0.1", "jails": [{
                "id": a.as_str(), "kind": "exec", "status": "exited", "exit_code": 2,
                "started_at": "2026-11-21T10:35:02.005Z", "ended_at": "2026-11-21T10:35:03.005Z",
                "duration_ms": 1000, "argv": ["make", "a b"],
                "cwd": "/home/u/project", "base": "/home/u/project",
                "argv_base64": null, "cwd_base64": null, "base_base64": null,
                "tree": null, "changes_kept": false, "kept_bytes": null,
            }]})
        );
        let detail = show_in(&state, "@", &Silent).unwrap();
        assert_eq!(detail.stdout.head_bytes, b"\xc3\xa9\x1b\xff");
        let json = serde_json::to_value(&detail).unwrap();
        assert_eq!(
            json["stdout"],
            serde_json::json!({"total": 4, "truncated": false, "text": "é\u{1b}\u{fffd}", "tail": "",
                "text_base64": "w6kb/w==", "tail_base64": ""})
        );
        assert_eq!(
            json["stderr"],
            serde_json::json!({"total": 100, "truncated": true, "text": "head", "tail": "tail",
                "text_base64": "aGVhZA==", "tail_base64": "dGFpbA=="})
        );
        assert_eq!(json["policy"]["timeout_ms"], 5);
        assert_eq!(json["usage"]["wall_ms"], 1000);
        assert_eq!((&json["signal"], &json["failure"]), (&serde_json::Value::Null, &serde_json::Value::Null));
        assert_eq!(json["layers"], serde_json::json!(["userns", "seccomp"]));
    }

    #[test]
    fn how_it_failed_is_shown() {
        let (_dir, state) = state();
        let (a, b) = (id(), id());
        let failed = Outcome::Failed { step: "mount proc".to_owned(), errno: "EPERM".to_owned(), code: 125 };
        for (id, outcome) in [(a, failed), (b, Outcome::Interrupted { signal: 15 })] {
            spool::append_start(&state, &start(id, &["x"])).unwrap();
            spool::append_end(&state, &crate::schema::jail::End { outcome, ..end(id, 0) }).unwrap();
        }
        let d = show_in(&state, a.as_str(), &Silent).unwrap();
        assert_eq!((d.status, d.exit_code), (Status::Failed, Some(125)));
        assert_eq!(
            d.failure,
            Some(Failure { step: "mount proc".to_owned(), errno: Some("EPERM".to_owned()) })
        );
        let d = show_in(&state, b.as_str(), &Silent).unwrap();
        assert_eq!((d.status, d.exit_code, d.signal), (Status::Interrupted, Some(143), Some(15)));
    }

    #[test]
    fn listing_repairs_what_a_killed_run_left() {
        let (_dir, state) = state();
        let (killed, changed) = (id(), id());
        for id in [killed, changed] {
            let tree = trees::create_tree(&state, id, "/".as_ref(), None).unwrap();
            if id == changed {
                fs::write(tree.upper().join("x"), "").unwrap();
            }
            spool::append_start(&state, &dead_start(id, &["x"])).unwrap();
        }
        let monitor = Recording::default();
        let report = list_in(&state, &Filter::default(), &monitor).unwrap();
        assert!(report.jails.iter().all(|j| j.summary.status == Status::Lost));
        assert_eq!(trees::list_trees(&state).unwrap(), [changed]);
        assert!(show_in(&state, changed.as_str(), &monitor).unwrap().changes_kept);
        assert!(!show_in(&state, killed.as_str(), &monitor).unwrap().changes_kept);
        assert_eq!(monitor.warnings(), Vec::<String>::new());
    }
}
