//! The ledger: one row per jail, folded from the spool by whoever reads.
//!
//! Opening it repairs: it folds the spool, marks lost jails, replaces a damaged database, and falls
//! back to a view in memory where nothing can be written. Every repair is told to the monitor.

use rusqlite::Connection;

pub use super::query::{Filter, Full, Row};

use super::error::{Error, Result};
use super::layout::StateDir;
use super::{database, fold, query, spool, trim, used};
use crate::base::text;
use crate::monitor::Monitor;

/// The open, up-to-date ledger.
#[derive(Debug)]
pub struct Ledger<'a> {
    conn: Connection,
    state: &'a StateDir,
    durable: bool,
}

/// Open the ledger and read from it. When the reading finds the database damaged, it is set aside
/// and `read` runs once more on what the spool still holds.
pub fn read<T>(
    state: &StateDir,
    monitor: &dyn Monitor,
    mut read: impl FnMut(&Ledger<'_>) -> Result<T>,
) -> Result<T> {
    let ledger = Ledger::open(state, monitor)?;
    let seen = database::inode(state);
    match read(&ledger) {
        Err(e) if e.is_damage() => {
            drop(ledger);
            let again = repair_and_open(state, seen, &e, monitor)?;
            read(&again)
        }
        other => other,
    }
}

impl<'a> Ledger<'a> {
    /// Open the database, making, migrating or replacing it, and fold the spool into it.
    ///
    /// The error says [`Error::Newer`] when a newer `aj` made the database; nothing is changed then.
    pub fn open(state: &'a StateDir, monitor: &dyn Monitor) -> Result<Ledger<'a>> {
        match open_durable(state, monitor) {
            Err(e) if e.is_unwritable() => {
                let mut why = chain(&e);
                // SQLite has one word for whatever a write came to.
                if e.is_failed_write() && crate::sys::signal::has_file_size_limit() {
                    why.push_str("; the limit of file sizes (`ulimit -f`) may be too low for it");
                }
                monitor.warn(&format!("the ledger cannot be updated, so it is shown as it is: {why}"));
                open_volatile(state, monitor)
            }
            other => other,
        }
    }

    /// False when this is a view in memory of a state directory that cannot be written to.
    pub fn is_durable(&self) -> bool {
        self.durable
    }

    /// Rows that pass `filter`, newest first.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Row>> {
        query::list(&self.conn, filter).map_err(database::fail(self.state))
    }

    /// Rows whose id starts with `prefix`, newest first, at most `limit`, and how many there are.
    pub fn starting_with(&self, prefix: &str, limit: u32) -> Result<(Vec<Row>, u64)> {
        query::starting_with(&self.conn, prefix, limit).map_err(database::fail(self.state))
    }

    /// The place of a jail in the order of arrival, which no clock changes; larger is newer.
    pub fn seq(&self, id: &str) -> Result<Option<i64>> {
        query::seq(&self.conn, id).map_err(database::fail(self.state))
    }

    /// Everything about one jail.
    pub fn get(&self, id: &str) -> Result<Option<Full>> {
        query::full(&self.conn, id).map_err(database::fail(self.state))
    }

    /// What each jail used that started from `since_ms` on and before `until_ms`, the oldest first.
    pub fn used(
        &self,
        since_ms: Option<u64>,
        until_ms: Option<u64>,
        each: &mut dyn FnMut(used::Used),
    ) -> Result<()> {
        used::each(&self.conn, since_ms, until_ms, each).map_err(database::fail(self.state))
    }

    /// How many rows are beyond what stays; they are removed unless `dry`. What runs stays. The file gets smaller
    /// where that is worth it.
    pub fn trim(&self, stay: &trim::Stay<'_>, dry: bool) -> Result<u64> {
        let dry = dry || !self.durable;
        let count = trim::trim(&self.conn, stay, dry).map_err(database::fail(self.state))?;
        if !dry && count > 0 {
            trim::shrink(&self.conn);
        }
        Ok(count)
    }

    /// Bytes of the shortest prefix of `id` that no other row shares.
    pub fn unique_len(&self, id: &str) -> Result<usize> {
        query::unique_len(&self.conn, id).map_err(database::fail(self.state))
    }
}

fn open_durable<'a>(state: &'a StateDir, monitor: &dyn Monitor) -> Result<Ledger<'a>> {
    let _lock = spool::reader_lock(state, monitor)?;
    // A directory or a socket in its place: SQLite would only say that it cannot open it.
    if std::fs::metadata(database::path(state)).is_ok_and(|m| !m.is_file()) {
        set_aside(state, "it is no file", monitor)?;
    }
    match open_and_fold(state, monitor) {
        Err(e) if e.is_damage() => {
            set_aside(state, &chain(&e), monitor)?;
            open_and_fold(state, monitor)
        }
        other => other,
    }
}

fn open_and_fold<'a>(state: &'a StateDir, monitor: &dyn Monitor) -> Result<Ledger<'a>> {
    let mut conn = database::open(state)?;
    fold::fold(&mut conn, state, true, monitor)?;
    Ok(Ledger { conn, state, durable: true })
}

fn open_volatile<'a>(state: &'a StateDir, monitor: &dyn Monitor) -> Result<Ledger<'a>> {
    let (mut conn, missing) = database::open_in_memory(state)?;
    if let Some(e) = missing {
        monitor.warn(&format!("older records are missing here: {}", chain(&e)));
    }
    fold::fold(&mut conn, state, false, monitor)?;
    Ok(Ledger { conn, state, durable: false })
}

/// Replace the database in which a query found damage, unless another process has done so since.
fn repair_and_open<'a>(
    state: &'a StateDir,
    seen: Option<u64>,
    error: &Error,
    monitor: &dyn Monitor,
) -> Result<Ledger<'a>> {
    {
        let _lock = spool::reader_lock(state, monitor)?;
        if seen.is_some() && database::inode(state) == seen {
            set_aside(state, &chain(error), monitor)?;
        }
    }
    Ledger::open(state, monitor)
}

fn set_aside(state: &StateDir, why: &str, monitor: &dyn Monitor) -> Result<()> {
    let name = database::set_aside(state)?;
    monitor.warn(&format!(
        "the ledger was damaged ({why}); set aside as `{}`, a new one was made",
        text::os(&state.path().join(name))
    ));
    Ok(())
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
