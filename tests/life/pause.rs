//! `aj pause` and `aj resume`: by every way that this user has.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::yard::{Running, Said, Yard, assert_gone, eventually, fate, mark, said, skip};

/// The best way that is left when these are taken away, for tests of debug builds.
const TAKEN: [&str; 3] = ["", "cgroup.freeze", "cgroup.freeze,freezer"];

fn aj(yard: &Yard, words: &str, without: &str) -> Said {
    said(yard.sh(&format!("\"$AJ\" {words}")).env("AJ_TEST_WITHOUT", without))
}

/// Counts lines in the background; what it was paused by, the newest jail.
fn paused(yard: &Yard, without: &str, seen: &mut Vec<&'static str>) -> Option<&'static str> {
    let ran = aj(yard, "pause @ --json", without);
    assert_eq!(ran.fate, 0, "{ran:?}");
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let by = ["cgroup.freeze", "freezer", "SIGSTOP"].into_iter().find(|by| json["by"] == *by).unwrap();
    assert_eq!((&json["paused"], &json["changed"]), (&true.into(), &true.into()));
    if seen.contains(&by) {
        skip(format!("no other way than {by} without {without}"));
        return None;
    }
    seen.push(by);
    Some(by)
}

fn counter(yard: &Yard, options: &[&str], mark: &str) -> (Running, Command) {
    let script = "while :; do echo >> ticks; sleep 0.02; done";
    let mut aj = yard.exec(options.iter().copied(), ["sh", "-c", script, mark]);
    let running = Running::start(aj.stdout(Stdio::null()).stderr(Stdio::null()));
    (running, aj)
}

/// Lines in the file that the counter of the newest jail writes, in its upper layer.
fn ticks(yard: &Yard) -> u64 {
    let trees = std::fs::read_dir(yard.state().join("trees")).into_iter().flatten().flatten();
    let sizes = trees.filter_map(|t| std::fs::metadata(t.path().join("upper/ticks")).ok());
    sizes.map(|m| m.len()).sum()
}

fn runs(yard: &Yard) -> bool {
    let before = ticks(yard);
    eventually(Duration::from_secs(5), || ticks(yard) > before + 2)
}

#[test]
fn a_paused_jail_stands_still_and_goes_on_and_its_clock_with_it() {
    let Some(yard) = Yard::new() else { return };
    let mut seen = Vec::new();
    for without in TAKEN {
        let start = Instant::now();
        let (mut running, _) = counter(&yard, &["--timeout", "4s", "--grace", "0s"], &mark());
        assert!(runs(&yard));
        let by = paused(&yard, without, &mut seen);
        let before = ticks(&yard);
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(ticks(&yard), before, "{by:?}");
        let list = aj(&yard, "jail list --status paused -q", "");
        assert!(list.out.starts_with("jl-") && list.out.lines().count() == 1, "{list:?}");
        // Once more changes nothing.
        let again = aj(&yard, "pause @", without);
        assert!(again.fate == 0 && again.err.contains("is paused already"), "{again:?}");
        assert_eq!(aj(&yard, "resume @", "").fate, 0);
        assert!(runs(&yard), "{by:?}");
        let again = aj(&yard, "resume @", "");
        assert!(again.fate == 0 && again.err.contains("is not paused"), "{again:?}");
        assert_eq!(fate(running.end()), 124);
        // Four seconds of its own.
        assert!(start.elapsed() > Duration::from_millis(5400), "{by:?}: {:?}", start.elapsed());
        let ended = aj(&yard, "pause @", "");
        assert!(ended.fate == 1 && ended.err.contains("does not run"), "{ended:?}");
        assert_eq!(std::fs::read_dir(yard.state().join("paused")).unwrap().count(), 0);
        aj(&yard, "discard --all --yes", "");
    }
}

#[test]
fn a_paused_jail_dies_with_its_aj_within_a_second() {
    let Some(yard) = Yard::new() else { return };
    let mut seen = Vec::new();
    for without in TAKEN {
        let mark = mark();
        let (mut running, _) = counter(&yard, &[], &mark);
        assert!(runs(&yard));
        let by = paused(&yard, without, &mut seen);
        running.signal(Signal::SIGKILL);
        running.end();
        assert_gone(&mark, Duration::from_secs(1));
        println!("{by:?}");
        // The record and the group go with the next look.
        aj(&yard, "jail list", "");
        assert_eq!(std::fs::read_dir(yard.state().join("paused")).unwrap().count(), 0, "{by:?}");
        aj(&yard, "discard --all --yes", "");
    }
}

#[test]
fn a_paused_jail_can_be_killed() {
    let Some(yard) = Yard::new() else { return };
    let mut seen = Vec::new();
    for without in TAKEN {
        let mark = mark();
        let (mut running, _) = counter(&yard, &[], &mark);
        assert!(runs(&yard));
        let by = paused(&yard, without, &mut seen);
        // The first one waits inside; the second kills.
        running.signal(Signal::SIGINT);
        std::thread::sleep(Duration::from_millis(100));
        running.signal(Signal::SIGINT);
        let start = Instant::now();
        running.end();
        assert!(start.elapsed() < Duration::from_secs(2), "{by:?}: {:?}", start.elapsed());
        assert_gone(&mark, Duration::from_secs(1));
        aj(&yard, "discard --all --yes", "");
    }
}

/// A program that does not want to stand still.
fn held_whatever_it_does(command: &[&str], ways: &[&str]) {
    let Some(yard) = Yard::new() else { return };
    let mut seen = Vec::new();
    for without in ways {
        let mark = mark();
        let mut aj = yard.exec([""; 0], command.iter().chain([&&*mark]));
        let mut running = Running::start(aj.stdout(Stdio::null()).stderr(Stdio::null()));
        assert!(runs(&yard));
        let by = paused(&yard, without, &mut seen);
        let before = ticks(&yard);
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(ticks(&yard), before, "{by:?}");
        assert_eq!(aj_resume(&yard).fate, 0);
        assert!(runs(&yard), "{by:?}");
        running.signal(Signal::SIGINT);
        std::thread::sleep(Duration::from_millis(50));
        running.signal(Signal::SIGINT);
        running.end();
        assert_gone(&mark, Duration::from_secs(1));
        assert_eq!(super::limits::groups(running.pid()), [""; 0].map(std::path::PathBuf::from));
        aj_discard(&yard);
    }
}

fn aj_resume(yard: &Yard) -> Said {
    aj(yard, "resume @", "")
}

fn aj_discard(yard: &Yard) {
    aj(yard, "discard --all --yes", "");
}

#[test]
fn a_process_that_makes_the_next_one_and_ends_is_held() {
    held_whatever_it_does(&["./life", "restless", "ticks", "200"], &["", "cgroup.freeze"]);
}

#[test]
fn a_program_whose_first_thread_has_ended_is_held() {
    held_whatever_it_does(&["./life", "headless", "ticks"], &TAKEN);
}

#[test]
fn more_processes_than_a_page_has_lines_for_are_held() {
    let script = "i=0; while [ $i -lt 900 ]; do ./life sleep 60 & i=$((i+1)); done; \
                  while :; do echo >> ticks; sleep 0.02; done";
    held_whatever_it_does(&["sh", "-c", script], &[""]);
}

#[test]
fn a_jail_that_ends_meanwhile_is_not_called_paused() {
    let Some(yard) = Yard::new() else { return };
    for n in 0..12 {
        let mut aj = yard.exec([""; 0], ["./life", "sleep", "0.1"]);
        let mut running = Running::start(aj.stdout(Stdio::null()).stderr(Stdio::null()));
        std::thread::sleep(Duration::from_millis(60 + 10 * n));
        let start = Instant::now();
        let ran = self::aj(&yard, "pause @", "");
        if ran.fate == 0 {
            // It is held, and stays so.
            let resumed = aj_resume(&yard);
            assert!(resumed.fate == 0 && resumed.err.contains("goes on"), "{ran:?} {resumed:?}");
        } else {
            assert!(ran.err.contains("does not run") || ran.err.contains("no jail"), "{ran:?}");
        }
        assert!(start.elapsed() < Duration::from_millis(1500), "{ran:?}: {:?}", start.elapsed());
        running.end();
        let left = std::fs::read_dir(yard.state().join("paused")).into_iter().flatten().count();
        assert_eq!((left, super::limits::groups(running.pid()).len()), (0, 0));
        aj_discard(&yard);
    }
}

#[test]
fn a_jail_with_limits_is_paused_in_its_own_group() {
    let Some(yard) = Yard::new() else { return };
    if super::limits::held(&yard).is_none() {
        return;
    }
    let mark = mark();
    let (mut running, _) = counter(&yard, &["--mem", "64m"], &mark);
    assert!(runs(&yard));
    paused(&yard, "", &mut Vec::new());
    let before = ticks(&yard);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(ticks(&yard), before);
    assert_eq!(aj(&yard, "resume @", "").fate, 0);
    assert!(runs(&yard));
    running.signal(Signal::SIGTERM);
    running.end();
    assert_gone(&mark, Duration::from_secs(1));
    let mut lines = Vec::new();
    for entry in std::fs::read_dir("/sys/fs/cgroup/unified").into_iter().flatten().flatten() {
        lines.extend(entry.file_name().into_string());
    }
    let name = format!(".{}", running.pid());
    assert!(!lines.iter().any(|l| l.ends_with(&name)), "{lines:?}");
}

/// `aj pause` is killed at each of its steps. What the freezer of cgroup v1 holds cannot be killed: somebody has
/// to let it die with its `aj` all the same.
#[test]
fn what_a_killed_pause_has_frozen_dies_with_its_aj() {
    let Some(yard) = Yard::new() else { return };
    for without in TAKEN {
        let mut stood_still = false;
        for step in 1..20 {
            let mark = mark();
            let (mut running, _) = counter(&yard, &[], &mark);
            assert!(runs(&yard));
            let mut pause = yard.sh("exec \"$AJ\" pause @");
            let ran = said(pause.env("AJ_TEST_WITHOUT", without).env("AJ_TEST_KILL_AT", step.to_string()));
            let before = ticks(&yard);
            std::thread::sleep(Duration::from_millis(200));
            stood_still |= ran.fate == -9 && ticks(&yard) == before;
            running.signal(Signal::SIGKILL);
            running.end();
            assert_gone(&mark, Duration::from_secs(1));
            aj(&yard, "discard --all --yes", "");
            if ran.fate == 0 {
                break;
            }
        }
        assert!(stood_still, "teeth: one was frozen: {without:?}");
    }
}

/// On a full disk, and on one that takes nothing at all: the jail goes on, and so does its clock.
#[test]
fn a_jail_is_resumed_where_its_record_cannot_be_written() {
    let Some(yard) = Yard::new() else { return };
    let script = r#"
        mkdir -p -m 700 "$AJ_STATE_DIR"
        [ "$FULL" ] && { mount -t tmpfs -o size=8m,mode=700 t "$AJ_STATE_DIR" || exit 99; }
        "$AJ" exec --timeout 3s --grace 0s -- sh -c 'while :; do echo >> ticks; sleep .02; done' & aj=$!
        for i in $(seq 200); do [ -s "$AJ_STATE_DIR"/trees/*/upper/ticks ] && break; sleep .05; done
        "$AJ" pause @ || exit 1
        sleep 1
        [ "$FULL" ] && { head -c 9M /dev/zero > "$AJ_STATE_DIR/fill"; df "$AJ_STATE_DIR" >&2; }
        (trap '' XFSZ; [ "$FULL" ] || ulimit -f 0; "$AJ" resume @ 2>&1 | cat >&2; exit ${PIPESTATUS:-0})
        grep -H '' "$AJ_STATE_DIR"/paused/* >&2
        "$AJ" jail list --status paused -q
        wait $aj; echo $?"#;
    for full in ["", "1"] {
        if full == "1" && !nix::unistd::geteuid().is_root() {
            skip("only root mounts a file system that is full at once");
            continue;
        }
        let mut sh = yard.sh("exec ${FULL:+unshare -m} bash -c \"$SCRIPT\"");
        let ran = said(sh.env("FULL", full).env("SCRIPT", script));
        if ran.fate == 99 {
            skip("no tmpfs can be mounted here");
            continue;
        }
        println!("{ran:?}");
        assert_eq!((ran.fate, &*ran.out), (0, "124\n"), "{ran:?}");
    }
}
