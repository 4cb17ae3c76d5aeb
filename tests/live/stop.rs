use std::process::Stdio;
use std::time::Duration;

use super::Shared;
use crate::yard::{Running, assert_gone, eventually, mark, marked, said};

const SOON: Duration = Duration::from_secs(8);

#[test]
fn a_workspace_that_was_started_stays_until_it_is_stopped() {
    let Some(shared) = Shared::new(&[]) else { return };
    assert!(shared.shown()["live"].is_null());
    let ran = shared.ws("start", &[]);
    assert_eq!((ran.fate, &*ran.out), (0, ""), "{ran:#?}");
    let live = shared.shown();
    assert_eq!((&live["status"], &live["live"]["keep"]), (&"running".into(), &true.into()), "{live:#}");
    assert_eq!((&live["live"]["commands"], &live["live"]["processes"]), (&0.into(), &0.into()), "{live:#}");
    assert_eq!(shared.sh("echo t > /tmp/t"), "");
    assert_eq!(shared.sh("cat /tmp/t"), "t\n", "the same jail");
    assert!(shared.ws("start", &[]).err.contains("runs already"));
    let text = shared.ws("show", &[]).out;
    assert!(text.contains("running since") && text.contains("until `aj workspace stop`"), "{text}");
    let removed = shared.ws("rm", &[]);
    assert_eq!(removed.fate, 5, "{removed:#?}");
    assert_eq!(shared.ws("stop", &[]).fate, 0);
    assert!(shared.shown()["live"].is_null());
    let again = shared.ws("stop", &[]);
    assert_eq!((again.fate, again.err.contains("nothing runs")), (0, true), "{again:#?}");
    assert_eq!(shared.sh("test -e /tmp/t || echo gone"), "gone\n");
    assert_eq!(shared.ws("rm", &[]).fate, 0);
    assert_eq!(said(&mut shared.exec(&[], ["true"])).fate, 125, "there is none any more");
}

#[test]
fn one_that_runs_already_can_be_kept() {
    let Some(shared) = Shared::new(&[]) else { return };
    let mut long = shared.exec(&[], ["sh", "-c", "echo up; read x"]);
    let mut long = Running::start(long.stdin(Stdio::piped()).stdout(Stdio::piped()));
    long.first_line();
    let ran = shared.ws("start", &[]);
    assert!(ran.fate == 0 && ran.err.contains("runs already, and stays"), "{ran:#?}");
    drop(long.0.stdin.take());
    long.end();
    std::thread::sleep(Duration::from_millis(100));
    assert!(!shared.shown()["live"].is_null());
}

#[test]
fn stop_asks_first_and_kills_what_does_not_listen() {
    let Some(shared) = Shared::new(&["--grace", "300ms"]) else { return };
    let (deaf, polite) = (mark(), mark());
    let start = |script: &str| {
        let mut command = shared.exec(&[], ["sh", "-c", script]);
        let mut one = Running::start(command.stdout(Stdio::piped()));
        assert_eq!(one.first_line().0, "up");
        one
    };
    let mut one = start(&format!(
        "trap 'echo bye > f; exit 3' TERM; echo up; while :; do sleep 0.02; done; : {polite}"
    ));
    let mut two = start(&format!("trap '' TERM; echo up; while :; do sleep 0.02; done; : {deaf}"));
    let began = std::time::Instant::now();
    assert_eq!(shared.ws("stop", &[]).fate, 0);
    assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
    assert_eq!((one.end().code(), two.end().code()), (Some(3), Some(137)));
    assert_gone(&deaf, SOON);
    assert_eq!(shared.sh("cat f"), "bye\n");
    let mut three = start(&format!("trap '' TERM; echo up; while :; do sleep 0.02; done; : {deaf}"));
    assert_eq!(shared.ws("stop", &["--kill"]).fate, 0);
    assert_eq!(three.end().code(), Some(137));
    assert!(marked(&deaf).is_empty());
}

#[test]
fn wait_is_for_the_end_of_all_that_runs() {
    let Some(shared) = Shared::new(&[]) else { return };
    assert_eq!(shared.ws("wait", &[]).fate, 0, "nothing runs");
    assert_eq!(shared.sh("sleep 1 > /dev/null 2>&1 & echo up"), "up\n");
    let ran = shared.ws("wait", &["--timeout", "50ms"]);
    assert_eq!((ran.fate, ran.err.contains("still runs")), (1, true), "{ran:#?}");
    assert_eq!(shared.ws("wait", &["--timeout", "10s"]).fate, 0);
    assert!(shared.shown()["live"].is_null());
    // The tree is free at once.
    assert_eq!(said(&mut shared.aj(&["diff", "api"])).fate, 0);
}

#[test]
fn force_ends_what_runs_and_removes_it() {
    let Some(shared) = Shared::new(&[]) else { return };
    let mark = mark();
    let mut long = shared.exec(&[], ["sh", "-c", &format!("echo up; sleep 60; : {mark}")]);
    let mut long = Running::start(long.stdout(Stdio::piped()));
    long.first_line();
    let ran = shared.ws("rm", &["--force"]);
    assert_eq!(ran.fate, 0, "{ran:#?}");
    long.end();
    assert_gone(&mark, SOON);
    assert_eq!(shared.ws("show", &[]).fate, 3);
}

#[test]
fn what_is_paused_stands_still_and_says_so() {
    let Some(shared) = Shared::new(&[]) else { return };
    let script = "echo up; i=0; while :; do i=$((i+1)); echo $i > /tmp/n; sleep 0.01; done";
    let mut long = shared.exec(&["--timeout", "60s"], ["sh", "-c", script]);
    let mut long = Running::start(long.stdout(Stdio::piped()));
    long.first_line();
    // Signals, where there is no group to freeze, may find no quiet moment among processes that come and go.
    let mut ran = said(&mut shared.aj(&["pause", "api"]));
    for _ in 0..5 {
        if ran.fate != 0 && ran.err.contains("ETIMEDOUT") {
            ran = said(&mut shared.aj(&["pause", "api"]));
        }
    }
    assert_eq!(ran.fate, 0, "{ran:#?}");
    assert_eq!(shared.shown()["status"], "paused");
    let ran = said(&mut shared.exec(&[], ["true"]));
    assert_eq!((ran.fate, ran.err.contains("aj resume api")), (5, true), "{ran:#?}");
    let ran = shared.ws("rm", &[]);
    let says = |word: &str| ran.err.contains(word);
    assert_eq!((ran.fate, says("aj resume api"), says("workspace stop api")), (5, true, true), "{ran:#?}");
    assert!(says("is paused") && !says("wait for its end"), "nothing ends meanwhile: {ran:#?}");
    let ran = said(&mut shared.aj(&["resume", "api"]));
    assert_eq!(ran.fate, 0, "{ran:#?}");
    let (a, b) = (shared.sh("cat /tmp/n; sleep 0.1"), shared.sh("cat /tmp/n"));
    assert!(a != b, "{a} {b}");
    assert_eq!(said(&mut shared.aj(&["pause", "api"])).fate, 0);
    assert_eq!(shared.ws("stop", &["--kill"]).fate, 0, "even so");
    assert!(eventually(SOON, || long.0.try_wait().unwrap().is_some()));
}

/// Nobody could stop it: its name is what it is found by. A paused one is no exception.
#[test]
fn a_jail_whose_state_was_removed_by_hand_ends_by_itself() {
    let Some(shared) = Shared::new(&["--grace", "300ms"]) else { return };
    for pause in [false, true] {
        assert_eq!(shared.ws("start", &[]).fate, 0);
        let mark = mark();
        let script = format!("(trap '' TERM; setsid sh -c 'sleep 600; : {mark}' >/dev/null 2>&1) &");
        assert_eq!(said(&mut shared.exec(&[], ["sh", "-c", &script])).fate, 0);
        assert!(eventually(SOON, || !marked(&mark).is_empty()));
        let holder = format!("/proc/{}/comm", shared.holder());
        if pause {
            let paused = said(&mut shared.aj(&["pause", "api"]));
            assert_eq!(paused.fate, 0, "{paused:#?}");
        }
        let state = shared.yard.state();
        // What overlays left in there may not be removed by an ordinary user: most of it goes.
        drop(std::process::Command::new("rm").arg("-rf").arg(&state).stderr(Stdio::null()).status());
        assert_gone(&mark, Duration::from_secs(15));
        let gone = || std::fs::read_to_string(&holder).map_or(true, |name| name != "aj-live\n");
        assert!(eventually(Duration::from_secs(15), gone), "its holder stays");
        drop(std::process::Command::new("chmod").args(["-R", "u+rwX"]).arg(&state).output());
        std::fs::remove_dir_all(&state).or_else(|e| if state.exists() { Err(e) } else { Ok(()) }).unwrap();
        let made =
            said(&mut shared.aj(&["workspace", "create", "api", "--from-dir", ".", "--grace", "300ms"]));
        assert_eq!(made.fate, 0, "{made:#?}");
    }
}
