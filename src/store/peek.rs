//! The newest jails as they can be seen without a lock and without a write: for the completion of a
//! shell, which must never hold up a run or wait for a reader. What is missed is no harm.

use std::collections::HashSet;

use rusqlite::{Connection, OpenFlags};

use super::frame::{Item, Kind, Scanner};
use super::layout::StateDir;
use super::{database, spool};
use crate::base::quote::command_line;

/// Bytes at the end of the spool that are looked at: a spool grows until somebody reads the ledger.
const MOST: u64 = 2 << 20;

/// Ids and commands, newest first, at most `limit`.
pub fn newest(state: &StateDir, limit: usize) -> Vec<(String, String)> {
    let mut found = in_spool(state);
    found.reverse();
    found.extend(in_database(state, limit).unwrap_or_default());
    let mut seen = HashSet::new();
    found.retain(|(id, _)| seen.insert(id.clone()));
    found.truncate(limit);
    found
}

fn in_spool(state: &StateDir) -> Vec<(String, String)> {
    #[derive(serde::Deserialize)]
    struct Begun {
        id: String,
        argv: Vec<String>,
    }
    let mut found = Vec::new();
    let Ok(Some(file)) = spool::open(state, false) else { return found };
    let Ok(len) = file.metadata().map(|m| m.len()) else { return found };
    // The first item is then the rest of a record, and is passed over.
    let mut scanner = Scanner::new(&file, len.saturating_sub(MOST), len);
    while let Ok(Some(item)) = scanner.next() {
        if let Item::Frame { kind: Some(Kind::Start), payload, .. } = item
            && let Ok(begun) = serde_json::from_slice::<Begun>(&payload)
        {
            found.push((begun.id, command_line(&begun.argv)));
        }
    }
    found
}

fn in_database(state: &StateDir, limit: usize) -> rusqlite::Result<Vec<(String, String)>> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    // `immutable`: SQLite takes no lock and makes no file for shared memory.
    let conn = Connection::open_with_flags(database::uri(state, "immutable=1"), flags)?;
    let mut statement = conn.prepare("SELECT id, command FROM jails ORDER BY seq DESC LIMIT ?1")?;
    let rows =
        statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |r| Ok((r.get(0)?, r.get(1)?)))?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::super::ledger::{Filter, read};
    use super::super::testing::{id, start, state};
    use super::*;
    use crate::monitor::Silent;

    #[test]
    fn the_newest_come_from_spool_and_database_without_a_lock() {
        let (_dir, state) = state();
        assert_eq!(newest(&state, 9), []);
        let ids = [id(), id(), id()];
        for (n, id) in ids.iter().enumerate() {
            spool::append_start(&state, &start(*id, &["echo", &format!("{n} x")])).unwrap();
            if n == 1 {
                read(&state, &Silent, |l| l.list(&Filter::default())).unwrap();
            }
        }
        // Another process holds both locks.
        let _reader = spool::reader_lock(&state, &Silent).unwrap();
        let file = spool::open(&state, true).unwrap().unwrap();
        spool::lock_exclusively(&state, &file).unwrap();
        let row = |n: usize| (ids[n].to_string(), format!("echo '{n} x'"));
        assert_eq!(newest(&state, 9), [row(2), row(1), row(0)]);
        assert_eq!(newest(&state, 2), [row(2), row(1)]);
        let names = super::super::dirfd::names(&state).unwrap();
        assert!(!names.iter().any(|n| n.to_bytes().ends_with(b"-shm")), "{names:?}");
        std::fs::write(database::path(&state), "no database").unwrap();
        assert_eq!(newest(&state, 9), [row(2)]);
    }
}
