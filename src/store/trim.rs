//! Old rows go from the ledger: what `keep.records` and `keep.record_age` say.

use rusqlite::{Connection, params};

use super::fault;

/// Rows of one transaction: a reader waits for no more than that.
const CHUNK: usize = 1000;
/// A database with so many free bytes is written anew, when they are a quarter of it.
const WORTH: i64 = 8 << 20;

/// Which rows stay.
pub struct Stay<'a> {
    /// Those that began at or after this time, milliseconds since the epoch. `None`: all.
    pub since_ms: Option<u64>,
    /// So many of the newest; `None`: all.
    pub newest: Option<u64>,
    /// Those of these ids, whatever their age.
    pub also: &'a dyn Fn(&str) -> bool,
}

impl std::fmt::Debug for Stay<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stay")
            .field("since_ms", &self.since_ms)
            .field("newest", &self.newest)
            .finish_non_exhaustive()
    }
}

/// How many rows are beyond that; they are removed unless `dry`. What runs stays.
pub(super) fn trim(conn: &Connection, stay: &Stay<'_>, dry: bool) -> rusqlite::Result<u64> {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    // By arrival: a row whose time is not known is not old.
    let oldest: Option<i64> = match stay.newest {
        None => None,
        Some(n) => {
            let sql = "SELECT seq FROM main.jails ORDER BY seq DESC LIMIT 1 OFFSET ?1";
            let mut found = conn.prepare(sql)?;
            let mut rows = found.query([signed(n)])?;
            rows.next()?.map(|row| row.get(0)).transpose()?
        }
    };
    let since = stay.since_ms.map_or(i64::MIN, signed);
    let mut beyond: Vec<i64> = Vec::new();
    {
        let mut found = conn.prepare(
            "SELECT seq, id FROM main.jails WHERE status != 'running'
             AND (seq <= ?1 OR coalesce(started_ms, ended_ms, ?2) < ?2)",
        )?;
        let mut rows = found.query(params![oldest.unwrap_or(i64::MIN), since])?;
        while let Some(row) = rows.next()? {
            let id = row.get_ref(1)?.as_str().map(str::to_owned).unwrap_or_default();
            if !(stay.also)(&id) {
                beyond.push(row.get(0)?);
            }
        }
    }
    if !dry {
        for chunk in beyond.chunks(CHUNK) {
            let tx = conn.unchecked_transaction()?;
            {
                let mut output = tx.prepare_cached("DELETE FROM main.outputs WHERE jail = ?1")?;
                let mut row =
                    tx.prepare_cached("DELETE FROM main.jails WHERE seq = ?1 AND status != 'running'")?;
                for seq in chunk {
                    output.execute([seq])?;
                    row.execute([seq])?;
                }
            }
            fault::point();
            tx.commit()?;
        }
    }
    Ok(beyond.len() as u64)
}

/// Give free pages back to the file system, where it is worth it. Failing is no loss: they are used again.
pub(super) fn shrink(conn: &Connection) {
    let number = |name: &str| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap_or(0);
    let free = number("freelist_count").saturating_mul(number("page_size"));
    if free > WORTH && number("freelist_count").saturating_mul(4) > number("page_count") {
        fault::point();
        conn.execute_batch("VACUUM").ok();
    }
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).ok();
}

#[cfg(test)]
mod tests {
    use super::super::ledger::{self, Filter};
    use super::super::spool;
    use super::super::testing::{end, id, start, state};
    use super::*;
    use crate::base::id::Id;
    use crate::monitor::Silent;
    use crate::schema::jail::Start;

    fn ids(state: &super::super::layout::StateDir) -> Vec<String> {
        ledger::read(state, &Silent, |l| l.list(&Filter::default()))
            .unwrap()
            .into_iter()
            .map(|row| row.id)
            .collect()
    }

    #[test]
    fn old_rows_go_by_time_and_by_number_and_what_runs_or_is_wanted_stays() {
        let (_dir, state) = state();
        let mut made: Vec<Id> = Vec::new();
        for n in 0..6 {
            let one = id();
            let begun = Start { started_ms: 1000 * (n + 1), ..start(one, &["x"]) };
            spool::append_start(&state, &begun).unwrap();
            // The oldest still runs.
            if n > 0 {
                spool::append_end(&state, &end(one, 0)).unwrap();
            }
            made.push(one);
        }
        assert_eq!(ids(&state).len(), 6);
        let trim = |since_ms, newest, also: &dyn Fn(&str) -> bool, dry| {
            let stay = Stay { since_ms, newest, also };
            ledger::read(&state, &Silent, |l| l.trim(&stay, dry)).unwrap()
        };
        let none = |_: &str| false;
        assert_eq!(trim(None, None, &none, false), 0);
        assert_eq!(trim(Some(4000), None, &none, true), 2);
        assert_eq!(ids(&state).len(), 6, "nothing was done");
        let wanted = made[1].to_string();
        assert_eq!(trim(Some(4000), None, &|id| id == wanted, false), 1);
        let left: Vec<String> = [5, 4, 3, 1, 0].map(|n: usize| made[n].to_string()).into();
        assert_eq!(ids(&state), left);
        assert_eq!(trim(None, Some(2), &none, false), 2);
        let left: Vec<String> = [5, 4, 0].map(|n: usize| made[n].to_string()).into();
        assert_eq!(ids(&state), left);
    }
}
