//! The jails that run, looked at again and again: the ledger is read when it has changed, and between two
//! such times only what was appended to the spool.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use super::alive;
use super::error::{Error, Result};
use super::frame::{Item, Kind, Scanner};
use super::layout::StateDir;
use super::ledger::{self, Filter};
use super::{database, spool};
use crate::base::id::Id;
use crate::monitor::Monitor;
use crate::schema::jail::Start;
use crate::schema::ledger::Status;

/// The jails of one state directory that run.
#[derive(Debug, Default)]
pub struct Running {
    starts: Vec<Start>,
    /// What the database and the spool were at the last look; `None` before the first.
    seen: Option<Seen>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    /// Inode, length and time of the database: another process has folded the spool when they differ.
    database: Option<(u64, u64, i64, i64)>,
    /// Inode of the spool, and up to where it has been read.
    spool: Option<(u64, u64)>,
}

impl Running {
    /// The starts of the jails that run now, in the order in which they began.
    ///
    /// The first look is that of `aj jail list`: it folds the spool and repairs. Later ones write nothing
    /// unless somebody else has.
    pub fn look(&mut self, state: &StateDir, monitor: &dyn Monitor) -> Result<&[Start]> {
        if !self.follow(state)? {
            self.starts = ledger::read(state, monitor, |ledger| {
                let filter = Filter { status: vec![Status::Running], ..Filter::default() };
                let rows = ledger.list(&filter)?;
                let starts =
                    rows.iter().rev().map(|row| Ok(ledger.get(&row.id)?.and_then(|full| full.start)));
                Ok(starts.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
            })?;
            let inode = spool::open(state, false)?.and_then(|f| Some((f.metadata().ok()?.ino(), 0)));
            self.seen = Some(Seen { database: stamp(state), spool: inode });
            // What was appended since it was folded.
            self.follow(state)?;
        }
        self.starts.retain(|s| alive::is_alive(s.pid, s.pid_start, &s.boot_id));
        Ok(&self.starts)
    }

    /// Read what the spool has more than at the last look. `false`: that is not enough.
    fn follow(&mut self, state: &StateDir) -> Result<bool> {
        let Some(seen) = self.seen.clone() else { return Ok(false) };
        if stamp(state) != seen.database {
            return Ok(false);
        }
        let Some(file) = spool::open(state, false)? else { return Ok(seen.spool.is_none()) };
        let meta = file.metadata().map_err(|e| Error::io("stat", &state.path().join("spool"), &e))?;
        let from = match seen.spool {
            Some((inode, at)) if inode == meta.ino() && at <= meta.len() => at,
            None => 0,
            Some(_) => return Ok(false),
        };
        let at = self.read(&file, from, meta.len());
        self.seen = Some(Seen { spool: Some((meta.ino(), at)), ..seen });
        Ok(true)
    }

    /// The records of the spool from `at` on; where the last whole one ends.
    fn read(&mut self, file: &File, at: u64, end: u64) -> u64 {
        #[derive(serde::Deserialize)]
        struct Ended {
            id: Id,
        }
        let mut scanner = Scanner::new(file, at, end);
        let mut whole = at;
        // What cannot be read now is read, and told, by whoever folds it.
        while let Ok(Some(item)) = scanner.next() {
            let Item::Frame { kind, payload, .. } = item else { continue };
            whole = scanner.at();
            match kind {
                Some(Kind::Start) => {
                    if let Ok(start) = serde_json::from_slice::<Start>(&payload)
                        && !self.starts.iter().any(|s| s.id == start.id)
                    {
                        self.starts.push(start);
                    }
                }
                Some(Kind::End) => {
                    if let Ok(ended) = serde_json::from_slice::<Ended>(&payload) {
                        self.starts.retain(|s| s.id != ended.id);
                    }
                }
                None => {}
            }
        }
        whole
    }
}

fn stamp(state: &StateDir) -> Option<(u64, u64, i64, i64)> {
    let meta = std::fs::metadata(database::path(state)).ok()?;
    Some((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{dead_start, end, id, start, state};
    use super::*;
    use crate::monitor::Silent;

    fn look(running: &mut Running, state: &StateDir) -> Vec<Id> {
        running.look(state, &Silent).unwrap().iter().map(|s| s.id).collect()
    }

    #[test]
    fn jails_come_and_go_by_spool_and_by_ledger() {
        let (_dir, state) = state();
        let mut running = Running::default();
        assert_eq!(look(&mut running, &state), []);
        let ids = [id(), id(), id()];
        spool::append_start(&state, &start(ids[0], &["one"])).unwrap();
        spool::append_start(&state, &dead_start(id(), &["its aj is gone"])).unwrap();
        assert_eq!(look(&mut running, &state), [ids[0]]);
        // Nothing was folded for that.
        let length = || std::fs::metadata(state.path().join("spool")).unwrap().len();
        assert!(length() > 0);
        spool::append_start(&state, &start(ids[1], &["two"])).unwrap();
        spool::append_end(&state, &end(ids[0], 0)).unwrap();
        assert_eq!(look(&mut running, &state), [ids[1]]);
        // Another process folds what was never seen here.
        spool::append_start(&state, &start(ids[2], &["three"])).unwrap();
        ledger::read(&state, &Silent, |l| l.list(&Filter::default())).unwrap();
        assert_eq!(length(), 0);
        assert_eq!(look(&mut running, &state), [ids[1], ids[2]]);
        spool::append_end(&state, &end(ids[1], 0)).unwrap();
        ledger::read(&state, &Silent, |l| l.list(&Filter::default())).unwrap();
        spool::append_end(&state, &end(ids[2], 0)).unwrap();
        assert_eq!(look(&mut running, &state), []);
        assert_eq!(look(&mut Running::default(), &state), []);
    }

    #[test]
    fn half_a_record_is_read_once_it_is_whole() {
        let (_dir, state) = state();
        let (first, second) = (id(), id());
        let mut running = Running::default();
        spool::append_start(&state, &start(first, &["x"])).unwrap();
        assert_eq!(look(&mut running, &state), [first]);
        spool::append_start(&state, &start(second, &["y"])).unwrap();
        let path = state.path().join("spool");
        let whole = std::fs::read(&path).unwrap();
        // The same inode, as an append that is under way.
        std::fs::write(&path, &whole[..whole.len() - 7]).unwrap();
        assert_eq!(look(&mut running, &state), [first]);
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(look(&mut running, &state), [first, second]);
    }
}
