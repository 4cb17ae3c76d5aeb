//! The ledger when its files are damaged, newer, locked or not to be written.

use std::fs;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::error::Error;
use super::layout::StateDir;
use super::ledger::{Filter, Ledger, Row, read};
use super::testing::{dead_start, end, id, start, state};
use super::{database, lock, spool};
use crate::monitor::{Recording, Silent};
use crate::schema::ledger::Status;

fn rows(state: &StateDir) -> Vec<Row> {
    read(state, &Silent, |l| l.list(&Filter::default())).unwrap()
}

fn spool_path(state: &StateDir) -> std::path::PathBuf {
    state.path().join("spool")
}

#[test]
fn damaged_databases_are_set_aside_and_the_spool_survives() {
    type Damage = fn(&std::path::Path);
    let damages: [(&str, Damage); 6] = [
        ("text", |p| {
            fs::write(p, "this is not a database, but long enough to have a header".repeat(99)).unwrap()
        }),
        ("short", |p| fs::write(p, "SQLite format 3\0").unwrap()),
        ("first page", |p| {
            fs::File::options().write(true).open(p).unwrap().write_all_at(&[0x5a; 3000], 90).unwrap();
        }),
        ("directory", |p| {
            fs::remove_file(p).unwrap();
            fs::create_dir(p).unwrap();
        }),
        ("foreign", |p| {
            let conn = rusqlite::Connection::open(p).unwrap();
            conn.execute_batch("DROP TABLE jails; CREATE TABLE jails (x)").unwrap();
        }),
        ("cut", |p| {
            let len = fs::metadata(p).unwrap().len();
            fs::File::options().write(true).open(p).unwrap().set_len(len - 5000).unwrap();
        }),
    ];
    for (name, damage) in damages {
        let (_dir, state) = state();
        for _ in 0..30 {
            spool::append_start(&state, &start(id(), &["old"; 40])).unwrap();
        }
        assert_eq!(rows(&state).len(), 30);
        spool::append_start(&state, &start(id(), &["new"])).unwrap();
        damage(&database::path(&state));
        let monitor = Recording::default();
        let got = read(&state, &monitor, |l| l.list(&Filter::default())).unwrap();
        assert_eq!(got.len(), 1, "{name}: what was in the spool");
        let warnings = monitor.warnings();
        assert_eq!(warnings.len(), 1, "{name}: {warnings:?}");
        assert!(warnings[0].contains("ledger.db.corrupt-"), "{name}: {warnings:?}");
        let monitor = Recording::default();
        assert_eq!(read(&state, &monitor, |l| l.list(&Filter::default())).unwrap().len(), 1, "{name}");
        assert_eq!(monitor.warnings(), Vec::<String>::new(), "{name}: healthy again");
    }
}

#[test]
fn damage_that_only_a_query_meets_is_set_aside_too() {
    let (_dir, state) = state();
    for _ in 0..300 {
        let id = id();
        spool::append_start(&state, &dead_start(id, &["old"; 40])).unwrap();
        spool::append_end(&state, &end(id, 0)).unwrap();
    }
    assert_eq!(rows(&state).len(), 300);
    let path = database::path(&state);
    let len = fs::metadata(&path).unwrap().len();
    let file = fs::File::options().write(true).open(&path).unwrap();
    // All but the first pages, which hold the schema and the roots.
    file.write_all_at(&vec![0xa5; (len - 16 * 4096) as usize], 16 * 4096).unwrap();
    let monitor = Recording::default();
    read(&state, &monitor, |l| l.list(&Filter::default())).unwrap();
    assert!(monitor.warnings()[0].contains("ledger.db.corrupt-"), "{:?}", monitor.warnings());
}

#[test]
fn rows_that_somebody_edited_do_not_end_a_listing() {
    let (_dir, state) = state();
    let a = id();
    spool::append_start(&state, &start(a, &["x"])).unwrap();
    spool::append_end(&state, &end(a, 0)).unwrap();
    rows(&state);
    let conn = rusqlite::Connection::open(database::path(&state)).unwrap();
    for sql in [
        "UPDATE jails SET start_json = '{', end_json = 'null', status = 'exploded'",
        "UPDATE jails SET started_ms = -5, wall_ms = -1, exit_code = 99999999999, kind = CAST(x'ff00' AS TEXT)",
        "UPDATE jails SET start_json = NULL, end_json = CAST(x'fffe' AS TEXT), command = CAST(x'1b5d' AS TEXT)",
        "UPDATE jails SET status = 'running', start_json = '[]'",
        "UPDATE outputs SET jail = jail + 1000",
        "DELETE FROM outputs",
    ] {
        conn.execute_batch(sql).unwrap();
        assert_eq!(rows(&state).len(), 1, "{sql}");
        let full = read(&state, &Silent, |l| l.get(a.as_str())).unwrap().unwrap();
        assert!(full.damaged, "{sql}");
    }
    assert_eq!(rows(&state)[0].status, Status::Lost, "a running row that names no process");
}

#[test]
fn a_newer_database_is_refused_and_nothing_is_touched() {
    let (_dir, state) = state();
    spool::append_start(&state, &start(id(), &["x"])).unwrap();
    rows(&state);
    spool::append_start(&state, &start(id(), &["y"])).unwrap();
    let before = fs::read(spool_path(&state)).unwrap();
    let conn = rusqlite::Connection::open(database::path(&state)).unwrap();
    conn.pragma_update(None, "user_version", 7).unwrap();
    drop(conn);
    let e = Ledger::open(&state, &Silent).unwrap_err();
    assert!(matches!(&e, Error::Newer { found, known: 1, .. } if found == "7"), "{e}");
    assert!(e.to_string().contains("format 7") && e.to_string().contains("format 1"), "{e}");
    assert_eq!(fs::read(spool_path(&state)).unwrap(), before);
    spool::append_end(&state, &end(id(), 0)).unwrap();
}

#[test]
fn a_reader_that_cannot_write_shows_disk_and_spool_from_memory() {
    let (_dir, state) = state();
    let (a, b) = (id(), id());
    spool::append_start(&state, &start(a, &["old"])).unwrap();
    spool::append_end(&state, &end(a, 0)).unwrap();
    rows(&state);
    spool::append_start(&state, &start(b, &["new"])).unwrap();
    spool::append_end(&state, &end(b, 1)).unwrap();
    let before = fs::read(spool_path(&state)).unwrap();
    // Another reader was stopped while it held the lock.
    let held = spool::reader_lock(&state, &Silent).unwrap();
    lock::tests::READ_WAIT.set(Duration::from_millis(100));
    let monitor = Recording::default();
    let ledger = Ledger::open(&state, &monitor).unwrap();
    assert!(!ledger.is_durable());
    assert_eq!(ledger.list(&Filter::default()).unwrap().len(), 2);
    for (id, code) in [(a, 0), (b, 1)] {
        assert_eq!(ledger.get(id.as_str()).unwrap().unwrap().end, Some(end(id, code)));
    }
    assert_eq!(monitor.warnings().len(), 1, "{:?}", monitor.warnings());
    assert_eq!(fs::read(spool_path(&state)).unwrap(), before);
    drop(held);
    assert_eq!(rows(&state).len(), 2);
}

#[test]
fn a_stopped_append_does_not_hang_a_reader() {
    let (_dir, state) = state();
    spool::append_start(&state, &start(id(), &["x"])).unwrap();
    let held = fs::File::open(spool_path(&state)).unwrap();
    lock::acquire(&held, lock::Mode::Shared, Duration::ZERO, state.path()).unwrap();
    lock::tests::READ_WAIT.set(Duration::from_millis(100));
    let monitor = Recording::default();
    let rows = read(&state, &monitor, |l| l.list(&Filter::default())).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(monitor.warnings().len(), 1);
    assert!(fs::metadata(spool_path(&state)).unwrap().len() > 0, "not emptied under an append");
}

#[test]
fn a_spool_or_a_lock_that_is_no_file_is_moved_away() {
    let (_dir, state) = state();
    fs::create_dir(spool_path(&state)).unwrap();
    let lock = state.path().join("spool.lock");
    let put: [&dyn Fn(); 3] = [
        &|| fs::create_dir(&lock).unwrap(),
        &|| std::os::unix::fs::symlink("/nowhere", &lock).unwrap(),
        &|| nix::unistd::mkfifo(&lock, nix::sys::stat::Mode::S_IRWXU).unwrap(),
    ];
    for (n, put) in put.into_iter().enumerate() {
        put();
        let monitor = Recording::default();
        assert_eq!(read(&state, &monitor, |l| l.list(&Filter::default())).unwrap().len(), n);
        let warnings = monitor.warnings();
        assert!(
            warnings[0].contains("/spool.lock` was ") && warnings[0].contains("set aside"),
            "{warnings:?}"
        );
        assert_eq!(warnings.len(), if n == 0 { 2 } else { 1 }, "{warnings:?}");
        assert!(fs::symlink_metadata(&lock).unwrap().is_file());
        fs::remove_file(&lock).unwrap();
        spool::append_start(&state, &start(id(), &["x"])).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(rows(&state).len(), 3);
}
