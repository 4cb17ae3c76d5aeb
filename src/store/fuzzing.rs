//! Doors for `fuzz/`: records that are read back. The spool holds output of jails, and a disk may give
//! back anything.

use std::fs::File;

use rusqlite::Connection;

use super::database::TABLES;
use super::fold;
use super::frame::{Item, Kind, Scanner};
use super::kept::Kept;
use super::origin::Places;
use super::planted::Planted;

/// The first `len` bytes of a spool: every byte belongs to one item, and the scanner comes to its end.
pub fn spool(file: &File, len: u64) -> std::io::Result<()> {
    let mut scanner = Scanner::new(file, 0, len);
    let mut end = 0;
    while let Some(item) = scanner.next()? {
        let (at, next) = match item {
            Item::Frame { at, .. } => (at, scanner.at()),
            Item::Bad { at, len } => (at, at + len),
        };
        assert_eq!((at, next), (end, scanner.at()));
        assert!(next > at && next <= len);
        end = next;
    }
    assert_eq!(end, len);
    Ok(())
}

/// A ledger in memory.
#[derive(Debug)]
pub struct Ledger(Connection);

impl Ledger {
    /// An empty one.
    pub fn new() -> rusqlite::Result<Ledger> {
        let conn = Connection::open_in_memory()?;
        conn.execute_batch(TABLES)?;
        Ok(Ledger(conn))
    }

    /// A record of the spool on its way into it: understood or passed over, never an error.
    pub fn record(&mut self, start: bool, payload: &[u8]) -> rusqlite::Result<bool> {
        // Rolled back when it is dropped.
        let transaction = self.0.transaction()?;
        let kind = if start { Kind::Start } else { Kind::End };
        let understood = fold::apply(&transaction, Some(kind), payload)?;
        let again = fold::apply(&transaction, Some(kind), payload)?;
        assert_eq!(understood, again, "twice changes nothing");
        Ok(understood)
    }
}

/// The small files beside a tree: what is understood is written so that it is understood alike.
pub fn beside_a_tree(bytes: &[u8]) {
    if let Some(planted) = Planted::decode(bytes) {
        assert_eq!(Planted::decode(&planted.encode()), Some(planted));
    }
    if let Some(places) = Places::decode(bytes) {
        assert_eq!(Places::decode(&places.encode()), Some(places));
    }
    if let Some(kept) = std::str::from_utf8(bytes).ok().and_then(Kept::parse) {
        assert_eq!(Kept::parse(&kept.print()), Some(kept));
    }
}
