//! Reading the ledger: filters, prefixes, one row in full. Columns are read leniently, because a
//! database that somebody edited or a disk damaged must not end a listing.

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row as SqlRow};

use crate::schema::jail::{End, Exact, Start};
use crate::schema::ledger::Status;

/// Which rows to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Any of these; empty: all.
    pub status: Vec<Status>,
    /// What made the jail.
    pub kind: Option<String>,
    /// Started at or after, milliseconds since the epoch.
    pub since_ms: Option<u64>,
    /// Started before, milliseconds since the epoch.
    pub until_ms: Option<u64>,
    /// Part of the command or of the base directory; ASCII letters match in either case.
    pub text: Option<String>,
    /// At most so many; `None`: all.
    pub limit: Option<u64>,
}

/// A row of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Full id, as text: damage may have made it something else.
    pub id: String,
    /// What made it.
    pub kind: String,
    /// What became of it.
    pub status: Status,
    /// Start by the wall clock.
    pub started_ms: Option<u64>,
    /// End by the wall clock.
    pub ended_ms: Option<u64>,
    /// The code `aj` returned.
    pub exit_code: Option<i32>,
    /// Wall time by the monotonic clock.
    pub wall_ms: Option<u64>,
    /// The command as one line.
    pub command: String,
    /// Its arguments; empty when their record is damaged.
    pub argv: Vec<String>,
    /// Where it started.
    pub cwd: String,
    /// The host directory.
    pub base: String,
    /// What the three above stand for, where it is more than they say.
    pub exact: Exact,
    /// The jail whose tree it went on in, if it has none of its own.
    pub tree: Option<String>,
}

/// A row with everything that was recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Full {
    /// What lists show.
    pub row: Row,
    /// The start record; `None` when missing or damaged.
    pub start: Option<Start>,
    /// The end record with its excerpts; `None` when missing or damaged.
    pub end: Option<End>,
    /// Whether a record is there but cannot be read.
    pub damaged: bool,
}

const COLUMNS: &str = "id, kind, status, started_ms, ended_ms, exit_code, wall_ms, command, cwd, base, start_json, end_json, seq";

pub(super) fn list(conn: &Connection, filter: &Filter) -> rusqlite::Result<Vec<Row>> {
    let mut sql = format!("SELECT {COLUMNS} FROM main.jails WHERE 1");
    let mut args: Vec<Value> = Vec::new();
    if !filter.status.is_empty() {
        let marks = vec!["?"; filter.status.len()].join(", ");
        sql.push_str(&format!(" AND status IN ({marks})"));
        args.extend(filter.status.iter().map(|s| Value::Text(s.as_str().to_owned())));
    }
    if let Some(kind) = &filter.kind {
        sql.push_str(" AND kind = ?");
        args.push(Value::Text(kind.clone()));
    }
    if let Some(since) = filter.since_ms {
        sql.push_str(" AND coalesce(started_ms, ended_ms) >= ?");
        args.push(int(since));
    }
    if let Some(until) = filter.until_ms {
        sql.push_str(" AND coalesce(started_ms, ended_ms) < ?");
        args.push(int(until));
    }
    if let Some(part) = &filter.text {
        sql.push_str(r" AND (command LIKE ? ESCAPE '\' OR base LIKE ? ESCAPE '\')");
        let pattern = like(part);
        args.extend([Value::Text(pattern.clone()), Value::Text(pattern)]);
    }
    // By arrival, not by time: the clock may have gone backwards.
    sql.push_str(" ORDER BY seq DESC LIMIT ?");
    args.push(filter.limit.map_or(Value::Integer(-1), int));
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(args))?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push(read_row(row)?);
    }
    Ok(out)
}

fn int(n: u64) -> Value {
    Value::Integer(i64::try_from(n).unwrap_or(i64::MAX))
}

/// A `LIKE` pattern for "contains `part`".
fn like(part: &str) -> String {
    let mut pattern = String::from("%");
    for c in part.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

/// The ids that start with `prefix`, newest first, at most `limit`, and how many there are in all.
pub(super) fn starting_with(
    conn: &Connection,
    prefix: &str,
    limit: u32,
) -> rusqlite::Result<(Vec<Row>, u64)> {
    // `~` sorts behind every character of an id.
    let range = (prefix.to_owned(), format!("{prefix}~"));
    let total = conn.query_row(
        "SELECT count(*) FROM main.jails WHERE id >= ?1 AND id < ?2",
        [&range.0, &range.1],
        |r| r.get::<_, i64>(0),
    )?;
    let sql = format!(
        "SELECT {COLUMNS} FROM main.jails WHERE id >= ?1 AND id < ?2 ORDER BY seq DESC LIMIT {limit}"
    );
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query([&range.0, &range.1])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push(read_row(row)?);
    }
    Ok((out, u64::try_from(total).unwrap_or(0)))
}

/// The place of `id` in the order of arrival; larger is newer.
pub(super) fn seq(conn: &Connection, id: &str) -> rusqlite::Result<Option<i64>> {
    let mut statement = conn.prepare_cached("SELECT seq FROM main.jails WHERE id = ?1")?;
    statement.query_row([id], |r| Ok(integer(r, 0))).optional().map(Option::flatten)
}

/// Bytes of the shortest prefix of `id` that no other row shares.
pub(super) fn unique_len(conn: &Connection, id: &str) -> rusqlite::Result<usize> {
    let mut longest = 0;
    for sql in
        ["SELECT max(id) FROM main.jails WHERE id < ?1", "SELECT min(id) FROM main.jails WHERE id > ?1"]
    {
        let other: Option<String> = conn.prepare_cached(sql)?.query_row([id], |r| Ok(text(r, 0)))?;
        let other = other.unwrap_or_default();
        longest = longest.max(id.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count());
    }
    Ok((longest + 1).min(id.len()))
}

pub(super) fn full(conn: &Connection, id: &str) -> rusqlite::Result<Option<Full>> {
    let sql = format!("SELECT {COLUMNS} FROM main.jails WHERE id = ?1");
    let found = conn
        .query_row(&sql, [id], |r| {
            let (start, end) = (text(r, 10), text(r, 11));
            Ok((read_row(r)?, start, end, integer(r, 12).unwrap_or(-1)))
        })
        .optional()?;
    let Some((row, start_json, end_json, seq)) = found else { return Ok(None) };
    let start: Option<Start> = start_json.as_deref().and_then(|j| serde_json::from_str(j).ok());
    let mut end: Option<End> = end_json.as_deref().and_then(|j| serde_json::from_str(j).ok());
    let damaged = start.is_some() != start_json.is_some() || end.is_some() != end_json.is_some();
    if let Some(end) = &mut end {
        let outputs = conn
            .query_row(
                "SELECT stdout_head, stdout_tail, stderr_head, stderr_tail FROM outputs WHERE jail = ?1",
                [seq],
                |r| Ok([blob(r, 0), blob(r, 1), blob(r, 2), blob(r, 3)]),
            )
            .optional()?;
        if let Some([stdout_head, stdout_tail, stderr_head, stderr_tail]) = outputs {
            (end.stdout.head, end.stdout.tail) = (stdout_head, stdout_tail);
            (end.stderr.head, end.stderr.tail) = (stderr_head, stderr_tail);
        }
    }
    Ok(Some(Full { row, start, end, damaged }))
}

fn read_row(row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    #[derive(serde::Deserialize)]
    struct Words {
        argv: Vec<String>,
        #[serde(default)]
        exact: Option<Exact>,
        #[serde(default)]
        tree: Option<String>,
    }
    let words = text(row, 10).and_then(|j| serde_json::from_str::<Words>(&j).ok());
    let (argv, exact, tree) = words.map_or_else(Default::default, |w| (w.argv, w.exact, w.tree));
    Ok(Row {
        id: text(row, 0).unwrap_or_default(),
        kind: text(row, 1).unwrap_or_default(),
        status: text(row, 2).and_then(|s| Status::from_name(&s)).unwrap_or(Status::Lost),
        started_ms: unsigned(row, 3),
        ended_ms: unsigned(row, 4),
        exit_code: integer(row, 5).and_then(|n| i32::try_from(n).ok()),
        wall_ms: unsigned(row, 6),
        command: text(row, 7).unwrap_or_default(),
        cwd: text(row, 8).unwrap_or_default(),
        base: text(row, 9).unwrap_or_default(),
        argv,
        exact: exact.unwrap_or_default(),
        tree,
    })
}

fn text(row: &SqlRow<'_>, column: usize) -> Option<String> {
    match row.get_ref(column) {
        Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => {
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
        _ => None,
    }
}

fn blob(row: &SqlRow<'_>, column: usize) -> Vec<u8> {
    match row.get_ref(column) {
        Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => bytes.to_vec(),
        _ => Vec::new(),
    }
}

fn integer(row: &SqlRow<'_>, column: usize) -> Option<i64> {
    match row.get_ref(column) {
        Ok(ValueRef::Integer(n)) => Some(n),
        _ => None,
    }
}

fn unsigned(row: &SqlRow<'_>, column: usize) -> Option<u64> {
    integer(row, column).and_then(|n| u64::try_from(n).ok())
}
