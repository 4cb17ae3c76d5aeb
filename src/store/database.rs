//! The SQLite file behind the ledger: opening, its schema, migration, and setting a damaged one aside.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::error::{Error, Result};
use super::layout::StateDir;
use crate::base::{clock, text};
use crate::sys::shared;

/// Schema version, kept in `user_version`. An older `aj` refuses a newer one.
pub(super) const SCHEMA: u32 = 1;

/// `seq` orders rows by arrival: the wall clock may go backwards. Excerpts have a table of their
/// own so that lists never read them.
pub(super) const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS jails (
        seq        INTEGER PRIMARY KEY AUTOINCREMENT,
        id         TEXT NOT NULL UNIQUE,
        kind       TEXT NOT NULL,
        status     TEXT NOT NULL,
        started_ms INTEGER,
        ended_ms   INTEGER,
        exit_code  INTEGER,
        wall_ms    INTEGER,
        command    TEXT NOT NULL,
        cwd        TEXT NOT NULL,
        base       TEXT NOT NULL,
        start_json TEXT,
        end_json   TEXT
    ) STRICT;
    CREATE TABLE IF NOT EXISTS outputs (
        jail        INTEGER PRIMARY KEY,
        stdout_head BLOB NOT NULL,
        stdout_tail BLOB NOT NULL,
        stderr_head BLOB NOT NULL,
        stderr_tail BLOB NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS jails_running ON jails (id) WHERE status = 'running';
";

/// Touches every column: fails when the file is a database but not ours.
const PROBE: &str = "
    SELECT seq, id, kind, status, started_ms, ended_ms, exit_code, wall_ms, command, cwd, base,
           start_json, end_json, jail, stdout_head, stdout_tail, stderr_head, stderr_tail
    FROM jails LEFT JOIN outputs ON jail = seq LIMIT 1";

/// Path of the database of a state directory.
pub(super) fn path(state: &StateDir) -> PathBuf {
    state.path().join("ledger.db")
}

/// Tag an SQLite error with the database it came from.
pub(super) fn fail(state: &StateDir) -> impl Fn(rusqlite::Error) -> Error {
    let path = text::os(&path(state));
    move |source| Error::Db { path: path.clone(), source }
}

/// Open the database, making or migrating it. The caller holds the reader lock.
pub(super) fn open(state: &StateDir) -> Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path(state), flags).map_err(fail(state))?;
    prepare(state, conn)
}

fn prepare(state: &StateDir, mut conn: Connection) -> Result<Connection> {
    let fail = fail(state);
    conn.busy_timeout(Duration::from_secs(5)).map_err(&fail)?;
    // A write-ahead log is shared memory. SQLite would note it in the file first, and be refused then.
    let shared = shared::can_be_mapped(state).unwrap_or(true);
    if !shared {
        // One that was made elsewhere is read without it, and turned back.
        conn.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(())).map_err(&fail)?;
    }
    let found: u32 = conn.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(&fail)?;
    if found > SCHEMA {
        return Err(Error::Newer { path: text::os(&path(state)), found: found.to_string(), known: SCHEMA });
    }
    let mode = if shared { "WAL" } else { "DELETE" };
    let wal = conn.pragma_update_and_check(None, "journal_mode", mode, |r| r.get::<_, String>(0));
    if !matches!(&wal, Ok(held) if held.eq_ignore_ascii_case(mode)) {
        if let Err(e) = wal {
            let e = fail(e);
            if e.is_damage() {
                return Err(e);
            }
        }
        conn.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(())).map_err(&fail)?;
    }
    if !shared {
        conn.pragma_update_and_check(None, "locking_mode", "NORMAL", |_| Ok(())).map_err(&fail)?;
    }
    // The spool is emptied after a commit: the commit has to be on the disk by then.
    conn.pragma_update(None, "synchronous", "FULL").map_err(&fail)?;
    if found < SCHEMA {
        migrate(&mut conn, found).map_err(&fail)?;
    }
    conn.query_row(PROBE, [], |_| Ok(())).or_else(none_is_fine).map_err(&fail)?;
    Ok(conn)
}

fn none_is_fine(e: rusqlite::Error) -> rusqlite::Result<()> {
    if e == rusqlite::Error::QueryReturnedNoRows { Ok(()) } else { Err(e) }
}

/// Bring the schema from version `from` to [`SCHEMA`] in one transaction.
fn migrate(conn: &mut Connection, from: u32) -> rusqlite::Result<()> {
    let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    if from < 1 {
        tx.execute_batch(TABLES)?;
    }
    tx.pragma_update(None, "user_version", SCHEMA)?;
    tx.commit()
}

/// A ledger in memory that shows what is on the disk, for a state directory nothing can be written
/// to. Light columns are copied, excerpts are read from the disk when asked for. The second value
/// says why the disk's part is missing, if it is.
pub(super) fn open_in_memory(state: &StateDir) -> Result<(Connection, Option<Error>)> {
    let fail = fail(state);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let mut conn = Connection::open_in_memory_with_flags(flags).map_err(&fail)?;
    migrate(&mut conn, 0).map_err(&fail)?;
    if !path(state).exists() {
        return Ok((conn, None));
    }
    // `immutable` works without the shared memory file that WAL needs, but does not see a WAL that was
    // not checkpointed; so it is the second choice.
    let mut missing = None;
    for mode in ["mode=ro", "immutable=1"] {
        match attach(state, &conn, mode) {
            Ok(()) => return Ok((conn, None)),
            Err(e @ Error::Newer { .. }) => return Err(e),
            Err(e) => missing = Some(e),
        }
        // Nothing is attached when attaching itself was what failed.
        drop(conn.execute_batch("DELETE FROM main.jails; DETACH disk;"));
    }
    Ok((conn, missing))
}

fn attach(state: &StateDir, conn: &Connection, mode: &str) -> Result<()> {
    let fail = fail(state);
    conn.execute("ATTACH ?1 AS disk", [uri(state, mode)]).map_err(&fail)?;
    let found: u32 = conn.query_row("PRAGMA disk.user_version", [], |r| r.get(0)).map_err(&fail)?;
    if found > SCHEMA {
        return Err(Error::Newer { path: text::os(&path(state)), found: found.to_string(), known: SCHEMA });
    }
    conn.execute_batch(
        "INSERT INTO main.jails SELECT * FROM disk.jails;
         CREATE TEMP VIEW outputs AS SELECT * FROM main.outputs UNION ALL SELECT * FROM disk.outputs;",
    )
    .map_err(fail)
}

/// The database as SQLite's URI, opened in this way.
pub(super) fn uri(state: &StateDir, mode: &str) -> String {
    format!("file:{}?{mode}", percent(&path(state)))
}

fn percent(path: &Path) -> String {
    path.as_os_str()
        .as_bytes()
        .iter()
        .map(|&b| match b {
            b'/' | b'-' | b'_' | b'.' => char::from(b).to_string(),
            b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
            b => format!("%{b:02x}"),
        })
        .collect()
}

/// Which file a connection was opened on; another process may have replaced it since.
pub(super) fn inode(state: &StateDir) -> Option<u64> {
    std::fs::symlink_metadata(path(state)).ok().map(|m| m.ino())
}

/// Rename a damaged database, with its journal, out of the way; returns the new name. The caller
/// holds the reader lock.
pub(super) fn set_aside(state: &StateDir) -> Result<String> {
    let name = format!("ledger.db.corrupt-{}", clock::now_ms());
    // The journal first: left behind, it would be played into the new file. A crash in between leaves
    // a damaged database without one, which is set aside the next time.
    for suffix in ["-wal", "-journal", "-shm", ""] {
        let old = state.path().join(format!("ledger.db{suffix}"));
        match std::fs::rename(&old, state.path().join(format!("{name}{suffix}"))) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("rename", &old, &e)),
        }
    }
    Ok(name)
}
