//! Folding the spool into the database, and finding the jails whose `aj` is gone.
//!
//! Safe against a crash at any instant: rows are keyed by id and by what they record, so a spool that
//! was folded but not emptied is folded again without effect. Reading happens in two passes. The
//! first takes what is whole without keeping `aj exec` waiting; the second, under the exclusive
//! lock, takes the rest, judges what is no record, marks lost jails, and empties the spool.

use std::fs::File;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::error::{Error, Result};
use super::frame::{Item, Kind, Scanner};
use super::layout::StateDir;
use super::{alive, database, spool, trees};
use crate::base::id::Id;
use crate::base::quote::command_line;
use crate::base::text;
use crate::monitor::Monitor;
use crate::schema::jail::{End, Excerpt, FORMAT, Outcome, Start};
use crate::schema::ledger::Status;

/// Payload bytes of one transaction of the first pass.
const CHUNK: u64 = if cfg!(test) { 64 << 10 } else { 16 << 20 };

/// Fold everything there is. `durable`: into the database on disk, emptying the spool; otherwise
/// into one in memory, changing nothing. With `durable` the caller holds the reader lock.
pub(super) fn fold(
    conn: &mut Connection,
    state: &StateDir,
    durable: bool,
    monitor: &dyn Monitor,
) -> Result<()> {
    let Some(file) = open(state, durable, monitor)? else {
        return mark_lost_only(conn, state);
    };
    // Only up to what is there now: appends may come faster than they are folded.
    let there = len(state, &file)?;
    let at = if there > CHUNK { first_passes(conn, state, &file, 0, there)? } else { 0 };
    match spool::lock_exclusively(state, &file) {
        Ok(()) => {}
        Err(e @ Error::Busy { .. }) => {
            monitor.warn(&format!("{e}; the newest records may be missing here"));
            first_passes(conn, state, &file, at, len(state, &file)?)?;
            return Ok(());
        }
        Err(e) => return Err(e),
    }
    let end = len(state, &file)?;
    if end == 0 {
        return mark_lost_only(conn, state);
    }
    let bad = second_pass(conn, state, &file, at, end)?;
    if durable {
        report_bad(state, &file, &bad, monitor);
        file.set_len(0).map_err(|e| Error::io("truncate", &state.path().join("spool"), &e))?;
    }
    Ok(())
}

fn open(state: &StateDir, durable: bool, monitor: &dyn Monitor) -> Result<Option<File>> {
    match spool::open(state, durable) {
        Ok(file) => Ok(file),
        Err(e) if durable => match spool::displace_spool(state)? {
            Some(text) => {
                monitor.warn(&text);
                Ok(None)
            }
            None => Err(e),
        },
        Err(e) => {
            monitor.warn(&format!("the newest records are missing here: {e}"));
            Ok(None)
        }
    }
}

fn len(state: &StateDir, file: &File) -> Result<u64> {
    Ok(file.metadata().map_err(|e| Error::io("stat", &state.path().join("spool"), &e))?.len())
}

/// [`first_pass`] until `end`, or until something is no whole record. Returns where it stopped.
fn first_passes(conn: &mut Connection, state: &StateDir, file: &File, at: u64, end: u64) -> Result<u64> {
    let mut done = at;
    while done < end {
        let next = first_pass(conn, state, file, done, end)?;
        if next == done {
            break;
        }
        done = next;
    }
    Ok(done)
}

/// One transaction of whole records. Stops at what is not one, perhaps not yet. Returns where it stopped.
fn first_pass(conn: &mut Connection, state: &StateDir, file: &File, at: u64, end: u64) -> Result<u64> {
    let fail = database::fail(state);
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&fail)?;
    let mut scanner = Scanner::new(file, at, end);
    let mut done = at;
    while done - at < CHUNK {
        let item = scanner.next().map_err(|e| Error::io("read", &state.path().join("spool"), &e))?;
        let Some(Item::Frame { kind, payload, .. }) = item else { break };
        if !apply(&tx, kind, &payload).map_err(&fail)? {
            break;
        }
        done = scanner.at();
    }
    tx.commit().map_err(fail)?;
    Ok(done)
}

/// Take all that is left and mark what is lost, under the exclusive lock. Returns the ranges that
/// were no records.
fn second_pass(
    conn: &mut Connection,
    state: &StateDir,
    file: &File,
    at: u64,
    end: u64,
) -> Result<Vec<(u64, u64)>> {
    let fail = database::fail(state);
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&fail)?;
    let mut scanner = Scanner::new(file, at, end);
    let mut bad: Vec<(u64, u64)> = Vec::new();
    while let Some(item) = scanner.next().map_err(|e| Error::io("read", &state.path().join("spool"), &e))? {
        match item {
            Item::Frame { kind, payload, at } => {
                if !apply(&tx, kind, &payload).map_err(&fail)? {
                    bad.push((at, scanner.at() - at));
                }
            }
            Item::Bad { at, len } => bad.push((at, len)),
        }
    }
    mark_lost(&tx, state).map_err(&fail)?;
    tx.commit().map_err(fail)?;
    Ok(bad)
}

fn report_bad(state: &StateDir, file: &File, bad: &[(u64, u64)], monitor: &dyn Monitor) {
    if bad.is_empty() {
        return;
    }
    let bytes: u64 = bad.iter().map(|(_, len)| len).sum();
    match spool::set_aside(state, file, bad) {
        Ok(name) => monitor.warn(&format!(
            "{bytes} bytes of the spool were no whole record; set aside as `{}`",
            text::os(&state.path().join(name))
        )),
        Err(e) => monitor.warn(&format!("{bytes} bytes of the spool were no whole record; dropped: {e}")),
    }
}

/// Insert one record. False when this `aj` does not understand it. Doing it twice changes nothing.
pub(super) fn apply(tx: &Transaction<'_>, kind: Option<Kind>, payload: &[u8]) -> rusqlite::Result<bool> {
    match kind {
        Some(Kind::Start) => match serde_json::from_slice::<Start>(payload) {
            Ok(start) if start.format <= FORMAT => apply_start(tx, &start).map(|()| true),
            _ => Ok(false),
        },
        Some(Kind::End) => match serde_json::from_slice::<End>(payload) {
            Ok(end) if end.format <= FORMAT => apply_end(tx, end).map(|()| true),
            _ => Ok(false),
        },
        None => Ok(false),
    }
}

fn apply_start(tx: &Transaction<'_>, start: &Start) -> rusqlite::Result<()> {
    let json = serde_json::to_string(start).unwrap_or_default();
    tx.prepare_cached(
        "INSERT INTO main.jails (id, kind, status, started_ms, command, cwd, base, start_json)
         VALUES (?1, ?2, 'running', ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, started_ms = excluded.started_ms,
             command = excluded.command, cwd = excluded.cwd, base = excluded.base,
             start_json = excluded.start_json
         WHERE start_json IS NULL",
    )?
    .execute(params![
        start.id.as_str(),
        start.kind,
        signed(start.started_ms),
        command_line(&start.argv),
        start.cwd,
        start.base,
        json,
    ])?;
    Ok(())
}

/// An end without a start is kept as well: its start may have been among the bytes a disk lost.
fn apply_end(tx: &Transaction<'_>, mut end: End) -> rusqlite::Result<()> {
    let stdout = std::mem::take(&mut end.stdout);
    let stderr = std::mem::take(&mut end.stderr);
    end.stdout.total = stdout.total;
    end.stderr.total = stderr.total;
    let (status, code) = status_of(&end.outcome);
    let json = serde_json::to_string(&end).unwrap_or_default();
    let changed = tx
        .prepare_cached(
            "INSERT INTO main.jails (id, kind, status, ended_ms, exit_code, wall_ms, command, cwd, base, end_json)
             VALUES (?1, 'unknown', ?2, ?3, ?4, ?5, '', '', '', ?6)
             ON CONFLICT (id) DO UPDATE SET status = excluded.status, ended_ms = excluded.ended_ms,
                 exit_code = excluded.exit_code, wall_ms = excluded.wall_ms, end_json = excluded.end_json
             WHERE end_json IS NULL",
        )?
        .execute(params![
            end.id.as_str(),
            status.as_str(),
            signed(end.ended_ms),
            code,
            signed(end.usage.wall_ms),
            json,
        ])?;
    let silent = |e: &Excerpt| e.head.is_empty() && e.tail.is_empty();
    if changed == 1 && !(silent(&stdout) && silent(&stderr)) {
        tx.prepare_cached(
            "INSERT OR REPLACE INTO main.outputs (jail, stdout_head, stdout_tail, stderr_head, stderr_tail)
             SELECT seq, ?2, ?3, ?4, ?5 FROM main.jails WHERE id = ?1",
        )?
        .execute(params![end.id.as_str(), stdout.head, stdout.tail, stderr.head, stderr.tail])?;
    }
    Ok(())
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// What an outcome is called, and the code `aj` returned for it.
pub(super) fn status_of(outcome: &Outcome) -> (Status, i32) {
    match outcome {
        Outcome::Exited { code } => (Status::Exited, *code),
        Outcome::Signaled { signal } => (Status::Killed, 128i32.saturating_add(*signal)),
        Outcome::TimedOut => (Status::TimedOut, 124),
        Outcome::Interrupted { signal } => (Status::Interrupted, 128i32.saturating_add(*signal)),
        Outcome::OutOfMemory => (Status::Oom, 137),
        Outcome::Failed { code, .. } => (Status::Failed, *code),
    }
}

fn mark_lost_only(conn: &mut Connection, state: &StateDir) -> Result<()> {
    let fail = database::fail(state);
    let running: bool = conn
        .query_row("SELECT EXISTS (SELECT 1 FROM main.jails WHERE status = 'running')", [], |r| r.get(0))
        .map_err(&fail)?;
    if !running {
        return Ok(());
    }
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&fail)?;
    mark_lost(&tx, state).map_err(&fail)?;
    tx.commit().map_err(fail)
}

#[derive(serde::Deserialize)]
struct Owner {
    id: Id,
    pid: u32,
    pid_start: u64,
    boot_id: String,
    overlay: bool,
    #[serde(default)]
    tree: Option<Id>,
}

/// Rows whose process is gone become `lost`. Under the exclusive lock this is exact: a process that is
/// gone by now has appended its end before the lock was taken, or never will.
fn mark_lost(tx: &Transaction<'_>, state: &StateDir) -> rusqlite::Result<()> {
    let mut running = tx.prepare("SELECT seq, start_json FROM main.jails WHERE status = 'running'")?;
    let mut rows = running.query([])?;
    let mut lost: Vec<i64> = Vec::new();
    while let Some(row) = rows.next()? {
        let owner = row.get_ref(1)?.as_bytes_or_null().ok().flatten();
        let owner = owner.and_then(|json| serde_json::from_slice::<Owner>(json).ok());
        // A record too damaged to name its process can never be repaired by it.
        if !owner.is_some_and(|o| lives(&o, state)) {
            lost.push(row.get(0)?);
        }
    }
    for seq in lost {
        tx.execute("UPDATE main.jails SET status = 'lost' WHERE seq = ?1", [seq])?;
    }
    Ok(())
}

fn lives(owner: &Owner, state: &StateDir) -> bool {
    // The lock of its tree speaks across pid namespaces, where the pid means nothing.
    alive::is_alive(owner.pid, owner.pid_start, &owner.boot_id)
        || (owner.overlay && trees::is_locked(state, owner.tree.as_ref().unwrap_or(&owner.id), &owner.id))
}
