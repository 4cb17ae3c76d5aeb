//! What each jail of the ledger used, one after the other: a ledger of a year is not held in memory.

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Row as SqlRow};

use crate::schema::jail::Usage;
use crate::schema::ledger::Status;

/// One jail.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Used {
    /// Full id.
    pub id: String,
    /// What made it.
    pub kind: String,
    /// What became of it; `None` for a word that this `aj` does not know.
    pub status: Option<Status>,
    /// The code `aj` returned.
    pub exit_code: Option<i64>,
    /// Start by the wall clock, or the end where that is not known.
    pub at_ms: Option<u64>,
    /// First word of its command; empty when the record is damaged.
    pub program: String,
    /// The host directory.
    pub base: String,
    /// The preset, if one was named.
    pub preset: Option<String>,
    /// What it used; `None` while it runs, when it was lost, and when the record is damaged.
    pub usage: Option<Usage>,
}

/// Call `each` for the jails that started from `since_ms` on and before `until_ms`, the oldest first.
pub(super) fn each(
    conn: &Connection,
    since_ms: Option<u64>,
    until_ms: Option<u64>,
    each: &mut dyn FnMut(Used),
) -> rusqlite::Result<()> {
    let mut statement = conn.prepare(
        "SELECT id, kind, status, exit_code, coalesce(started_ms, ended_ms), base, start_json, end_json
         FROM main.jails WHERE coalesce(started_ms, ended_ms, 0) >= ?1
         AND coalesce(started_ms, ended_ms, 0) < ?2 ORDER BY seq",
    )?;
    let int = |n: u64| Value::Integer(i64::try_from(n).unwrap_or(i64::MAX));
    let mut rows = statement.query([int(since_ms.unwrap_or(0)), int(until_ms.unwrap_or(u64::MAX))])?;
    while let Some(row) = rows.next()? {
        each(read(row));
    }
    Ok(())
}

fn read(row: &SqlRow<'_>) -> Used {
    #[derive(serde::Deserialize)]
    struct Begun {
        argv: Vec<String>,
        #[serde(default)]
        policy: Policy,
    }
    #[derive(serde::Deserialize, Default)]
    struct Policy {
        #[serde(default)]
        preset: Option<String>,
    }
    #[derive(serde::Deserialize)]
    struct Ended {
        usage: Usage,
    }
    let begun = text(row, 6).and_then(|j| serde_json::from_str::<Begun>(&j).ok());
    let ended = text(row, 7).and_then(|j| serde_json::from_str::<Ended>(&j).ok());
    let (program, preset) = begun
        .map_or_else(Default::default, |b| (b.argv.into_iter().next().unwrap_or_default(), b.policy.preset));
    Used {
        id: text(row, 0).unwrap_or_default(),
        kind: text(row, 1).unwrap_or_default(),
        status: text(row, 2).and_then(|s| Status::from_name(&s)),
        exit_code: integer(row, 3),
        at_ms: integer(row, 4).and_then(|n| u64::try_from(n).ok()),
        program,
        base: text(row, 5).unwrap_or_default(),
        preset,
        usage: ended.map(|e| e.usage),
    }
}

fn text(row: &SqlRow<'_>, column: usize) -> Option<String> {
    match row.get_ref(column) {
        Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => {
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
        _ => None,
    }
}

fn integer(row: &SqlRow<'_>, column: usize) -> Option<i64> {
    match row.get_ref(column) {
        Ok(ValueRef::Integer(n)) => Some(n),
        _ => None,
    }
}
