//! The spool and the ledger together: what is recorded, races, crashes.

#![allow(clippy::disallowed_methods, reason = "the test runs itself again as another process")]

use std::fs;
use std::io::Write;
use std::process::Command;
use std::time::Duration;

use super::layout::StateDir;
use super::ledger::{Filter, Row, read};
use super::testing::{dead_start, end, id, start, state};
use super::{database, fold, spool, trees};
use crate::monitor::{Recording, Silent};
use crate::schema::jail::{Excerpt, FORMAT, Outcome};
use crate::schema::ledger::Status;

fn rows(state: &StateDir) -> Vec<Row> {
    read(state, &Silent, |l| l.list(&Filter::default())).unwrap()
}

fn spool_path(state: &StateDir) -> std::path::PathBuf {
    state.path().join("spool")
}

#[test]
fn a_run_is_one_row_with_all_that_was_recorded() {
    let (_dir, state) = state();
    let (a, b) = (id(), id());
    spool::append_start(&state, &start(a, &["make", "all"])).unwrap();
    spool::append_end(&state, &end(a, 3)).unwrap();
    spool::append_start(&state, &start(b, &["sleep", "1"])).unwrap();
    let rows = rows(&state);
    let seen: Vec<_> = rows.iter().map(|r| (r.id.as_str(), r.status, r.exit_code)).collect();
    assert_eq!(seen, [(b.as_str(), Status::Running, None), (a.as_str(), Status::Exited, Some(3))]);
    assert_eq!((rows[1].command.as_str(), rows[1].wall_ms), ("make all", Some(1000)));
    assert_eq!(fs::metadata(spool_path(&state)).unwrap().len(), 0, "folded and emptied");

    let full = read(&state, &Silent, |l| l.get(a.as_str())).unwrap().unwrap();
    assert_eq!(full.start, Some(start(a, &["make", "all"])));
    assert_eq!(full.end, Some(end(a, 3)));
    assert!(!full.damaged);
}

#[test]
fn every_outcome_has_a_status_and_a_code() {
    let failed = Outcome::Failed { step: "mount".to_owned(), errno: "EPERM".to_owned(), code: 125 };
    for (outcome, status, code) in [
        (Outcome::Exited { code: 0 }, Status::Exited, 0),
        (Outcome::Signaled { signal: 11 }, Status::Killed, 139),
        (Outcome::TimedOut, Status::TimedOut, 124),
        (Outcome::Interrupted { signal: 2 }, Status::Interrupted, 130),
        (Outcome::OutOfMemory, Status::Oom, 137),
        (failed, Status::Failed, 125),
        (Outcome::Signaled { signal: i32::MAX }, Status::Killed, i32::MAX),
    ] {
        assert_eq!(fold::status_of(&outcome), (status, code), "{outcome:?}");
    }
}

#[test]
fn a_fold_that_was_not_finished_is_done_again_without_effect() {
    let (_dir, state) = state();
    let (a, b) = (id(), id());
    spool::append_start(&state, &start(a, &["one"])).unwrap();
    spool::append_end(&state, &end(a, 0)).unwrap();
    spool::append_start(&state, &start(b, &["two"])).unwrap();
    let bytes = fs::read(spool_path(&state)).unwrap();
    let first = rows(&state);
    // What a crash between the commit and the truncation leaves.
    fs::write(spool_path(&state), &bytes).unwrap();
    assert_eq!(rows(&state), first);
    // In another order, as two folds of a copied state directory would have it.
    spool::append_end(&state, &end(b, 9)).unwrap();
    let done = rows(&state);
    fs::write(spool_path(&state), &bytes).unwrap();
    assert_eq!(rows(&state), done);
    assert_eq!(done[0].exit_code, Some(9));
}

#[test]
fn a_start_whose_process_is_gone_is_lost_until_its_end_arrives() {
    let (_dir, state) = state();
    let [gone, reboot, reused, alive] = [id(), id(), id(), id()];
    spool::append_start(&state, &dead_start(gone, &["gone"])).unwrap();
    let mut s = start(reboot, &["reboot"]);
    s.boot_id = "00000000-1111-2222-3333-444444444444".to_owned();
    spool::append_start(&state, &s).unwrap();
    let mut s = start(reused, &["reused"]);
    s.pid_start += 1;
    spool::append_start(&state, &s).unwrap();
    spool::append_start(&state, &start(alive, &["alive"])).unwrap();
    let status: Vec<_> = rows(&state).iter().map(|r| (r.command.clone(), r.status)).collect();
    let expect = |c: &str, s| (c.to_owned(), s);
    assert_eq!(
        status,
        [
            expect("alive", Status::Running),
            expect("reused", Status::Lost),
            expect("reboot", Status::Lost),
            expect("gone", Status::Lost)
        ]
    );
    spool::append_end(&state, &end(gone, 7)).unwrap();
    let row = rows(&state).into_iter().find(|r| r.id == gone.as_str()).unwrap();
    assert_eq!((row.status, row.exit_code), (Status::Exited, Some(7)), "a late end wins");
}

#[test]
fn a_process_that_dies_later_is_found_without_a_new_record() {
    let (_dir, state) = state();
    let a = id();
    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let mut s = start(a, &["x"]);
    s.pid = child.id();
    s.pid_start = stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().parse().unwrap();
    spool::append_start(&state, &s).unwrap();
    assert_eq!(rows(&state)[0].status, Status::Running);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(rows(&state)[0].status, Status::Lost);
}

#[test]
fn a_locked_tree_keeps_a_jail_of_another_pid_namespace_alive() {
    let (_dir, state) = state();
    let a = id();
    let tree = trees::create_tree(&state, a, "/".as_ref(), None).unwrap();
    spool::append_start(&state, &dead_start(a, &["x"])).unwrap();
    assert_eq!(rows(&state)[0].status, Status::Running);
    drop(tree);
    assert_eq!(rows(&state)[0].status, Status::Lost);
}

#[test]
fn an_end_without_a_start_is_kept() {
    let (_dir, state) = state();
    let a = id();
    spool::append_end(&state, &end(a, 1)).unwrap();
    let row = rows(&state).remove(0);
    assert_eq!((row.status, row.exit_code, row.started_ms), (Status::Exited, Some(1), None));
    spool::append_start(&state, &dead_start(a, &["late"])).unwrap();
    let row = rows(&state).remove(0);
    assert_eq!((row.status, row.command.as_str()), (Status::Exited, "late"));
}

/// The spool is cut at every byte of two records, and cut with a third appended behind the cut.
#[test]
fn a_spool_cut_anywhere_keeps_every_whole_record() {
    let (_dir, state) = state();
    let (a, c) = (id(), id());
    let path = spool_path(&state);
    spool::append_start(&state, &start(a, &["one"])).unwrap();
    let first = fs::read(&path).unwrap().len();
    spool::append_end(&state, &end(a, 0)).unwrap();
    let both = fs::read(&path).unwrap();
    fs::write(&path, b"").unwrap();
    spool::append_start(&state, &start(c, &["three"])).unwrap();
    let third = fs::read(&path).unwrap();
    for cut in 0..=both.len() {
        for tail in [&b""[..], &third] {
            fs::write(&path, [&both[..cut], tail].concat()).unwrap();
            let monitor = Recording::default();
            let (mut conn, _) = database::open_in_memory(&state).unwrap();
            fold::fold(&mut conn, &state, true, &monitor).unwrap();
            let count = |sql: &str| conn.query_row(sql, [], |r| r.get::<_, i64>(0)).unwrap();
            let starts = i64::from(cut >= first) + i64::from(!tail.is_empty());
            assert_eq!(count("SELECT count(*) FROM main.jails"), starts, "cut at {cut}");
            let ends = count("SELECT count(*) FROM main.jails WHERE end_json IS NOT NULL");
            assert_eq!(ends, i64::from(cut == both.len()), "cut at {cut}");
            let torn = cut != 0 && cut != first && cut != both.len();
            assert_eq!(monitor.warnings().len(), usize::from(torn), "{:?}", monitor.warnings());
            assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        }
    }
    let kept: Vec<_> = fs::read_dir(state.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.starts_with("spool.bad-"))
        .collect();
    assert!(!kept.is_empty(), "what was cut is set aside");
}

#[test]
fn records_of_a_newer_aj_and_garbage_are_set_aside_byte_for_byte() {
    let (_dir, state) = state();
    let (a, b) = (id(), id());
    spool::append_start(&state, &start(a, &["one"])).unwrap();
    let len = fs::metadata(spool_path(&state)).unwrap().len() as usize;
    spool::append_start(&state, &crate::schema::jail::Start { format: FORMAT + 1, ..start(b, &["new"]) })
        .unwrap();
    let mut file = fs::File::options().append(true).open(spool_path(&state)).unwrap();
    file.write_all(b"\xff\xfegarbage").unwrap();
    let expect = fs::read(spool_path(&state)).unwrap()[len..].to_vec();
    let monitor = Recording::default();
    let rows = read(&state, &monitor, |l| l.list(&Filter::default())).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(monitor.warnings().len(), 1);
    let bad = fs::read_dir(state.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.to_str().unwrap().contains("spool.bad-"))
        .unwrap();
    assert_eq!(fs::read(bad).unwrap(), expect);
}

const CHILD_DIR: &str = "LEDGER_TEST_DIR";
const CHILDREN: usize = 4;
const THREADS: usize = 2;
const FOLDS: usize = 8;

/// Not a test of its own: what the children of the next one run, until `stop` appears beside the
/// state directory. Each thread leaves a file named after the number of its runs.
#[test]
fn child_that_appends() {
    let Some(dir) = std::env::var_os(CHILD_DIR).map(std::path::PathBuf::from) else { return };
    let state = StateDir::open_at(&dir.join("state")).unwrap();
    let work = || {
        let mut runs = 0;
        // A parent that failed never says stop.
        let limit = std::time::Instant::now() + Duration::from_secs(60);
        while !dir.join("stop").exists() && std::time::Instant::now() < limit {
            let id = id();
            spool::append_start(&state, &start(id, &["run"])).unwrap();
            let mut e = end(id, 0);
            e.stdout.head = vec![b'x'; runs % 100 * 37];
            spool::append_end(&state, &e).unwrap();
            runs += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
        fs::write(dir.join(format!("{}.{runs}", id())), "").unwrap();
    };
    std::thread::scope(|s| {
        (0..THREADS).for_each(|_| {
            s.spawn(work);
        });
    });
}

#[test]
fn no_record_is_lost_or_doubled_while_many_processes_append_and_two_readers_fold() {
    let (dir, state) = state();
    let mut children: Vec<_> = (0..CHILDREN)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "store::ledger_tests::child_that_appends", "-q"])
                .env(CHILD_DIR, dir.path())
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let fold = || {
        let monitor = Recording::default();
        let mut rows = 0;
        for _ in 0..FOLDS {
            rows = read(&state, &monitor, |l| l.list(&Filter::default())).unwrap().len();
        }
        (rows, monitor.warnings())
    };
    let none = Vec::<String>::new();
    // The children need a moment to start.
    while fold().0 < CHILDREN * THREADS {}
    std::thread::scope(|s| {
        let other = s.spawn(fold);
        assert_eq!(fold().1, none);
        assert_eq!(other.join().unwrap().1, none);
    });
    fs::write(dir.path().join("stop"), "").unwrap();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let runs: usize = fs::read_dir(dir.path())
        .unwrap()
        .filter_map(|e| e.unwrap().file_name().to_str()?.split_once('.')?.1.parse::<usize>().ok())
        .sum();
    let rows = rows(&state);
    assert!(runs > CHILDREN * THREADS);
    assert_eq!(rows.len(), runs, "every start is there once");
    assert!(rows.iter().all(|r| r.status == Status::Exited), "every end found its start");
}

#[test]
fn a_large_spool_is_folded_in_pieces() {
    let (_dir, state) = state();
    let ids: Vec<_> = (0..8).map(|_| id()).collect();
    for id in &ids {
        spool::append_start(&state, &start(*id, &["big"])).unwrap();
        let mut e = end(*id, 0);
        e.stdout = Excerpt { total: 1 << 30, head: vec![b'h'; 64 << 10], tail: vec![b't'; 64 << 10] };
        e.stderr = Excerpt { total: 1 << 30, head: vec![0xff; 64 << 10], tail: vec![0; 64 << 10] };
        spool::append_end(&state, &e).unwrap();
    }
    assert!(fs::metadata(spool_path(&state)).unwrap().len() > 2 << 20, "many pieces of 64 KiB");
    let listed = rows(&state);
    assert_eq!(listed.len(), ids.len());
    assert!(listed.iter().all(|r| r.status == Status::Exited));
    let full = read(&state, &Silent, |l| l.get(ids[7].as_str())).unwrap().unwrap();
    assert_eq!(full.end.unwrap().stderr.head, vec![0xff; 64 << 10]);
}

#[test]
fn filters_select_and_order_is_by_arrival() {
    let (_dir, state) = state();
    let add = |argv: &[&str], ms: u64, code: Option<i32>| {
        let id = id();
        let mut s = start(id, argv);
        s.started_ms = ms;
        spool::append_start(&state, &s).unwrap();
        if let Some(code) = code {
            spool::append_end(&state, &end(id, code)).unwrap();
        }
    };
    add(&["npm", "install"], 3_000, Some(0));
    // The clock went backwards.
    add(&["echo", "100%", "a_b"], 1_000, Some(1));
    add(&["make"], 2_000, None);
    let list = |f: Filter| -> Vec<String> {
        read(&state, &Silent, |l| l.list(&f)).unwrap().into_iter().map(|r| r.command).collect()
    };
    let none = Filter::default();
    assert_eq!(list(none.clone()), ["make", "echo 100% a_b", "npm install"]);
    assert_eq!(list(Filter { limit: Some(1), ..none.clone() }), ["make"]);
    assert_eq!(list(Filter { status: vec![Status::Running], ..none.clone() }), ["make"]);
    let two = vec![Status::Running, Status::Exited];
    assert_eq!(list(Filter { status: two, ..none.clone() }).len(), 3);
    assert_eq!(list(Filter { since_ms: Some(2_000), ..none.clone() }), ["make", "npm install"]);
    assert_eq!(list(Filter { until_ms: Some(2_000), ..none.clone() }), ["echo 100% a_b"]);
    let text = |t: &str| list(Filter { text: Some(t.to_owned()), ..Filter::default() });
    assert_eq!(text("INSTALL"), ["npm install"]);
    assert_eq!(text("%"), ["echo 100% a_b"], "a wildcard is a character");
    assert_eq!(text("_"), ["echo 100% a_b"]);
    assert_eq!(text("project").len(), 3, "the base directory is searched as well");
    assert_eq!(text("' OR 1 --"), Vec::<String>::new());
    assert_eq!(list(Filter { kind: Some("shell".to_owned()), ..none }), Vec::<String>::new());
}

#[test]
fn prefixes_are_unique_or_counted() {
    let (_dir, state) = state();
    let ids = ["jl-aaaa000000000000", "jl-aaaa100000000000", "jl-aabb000000000000", "jl-b000000000000000"];
    for id in ids {
        spool::append_start(&state, &start(id.parse().unwrap(), &["x"])).unwrap();
    }
    read(&state, &Silent, |l| {
        let short: Vec<_> = ids.iter().map(|id| &id[..l.unique_len(id).unwrap()]).collect();
        assert_eq!(short, ["jl-aaaa0", "jl-aaaa1", "jl-aab", "jl-b"]);
        let (rows, count) = l.starting_with("jl-aa", 2)?;
        assert_eq!((rows.len(), count, rows[0].id.as_str()), (2, 3, ids[2]));
        assert_eq!(l.starting_with("jl-aaab", 8)?.1, 0);
        assert_eq!(l.starting_with(ids[0], 8)?.1, 1);
        Ok(())
    })
    .unwrap();
}
