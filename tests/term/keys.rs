//! Keys that are for the line discipline: Ctrl-C, Ctrl-Z, and the way out.

use std::time::Duration;

use super::Term;
use crate::yard::{Yard, assert_gone, eventually, mark};

#[test]
fn ctrl_c_goes_to_the_foreground_inside_once() {
    let Some(yard) = Yard::new() else { return };
    let mut term = Term::new();
    let before = term.modes();
    let mut aj = term.start(&mut yard.aj(["./life", "signals"]));
    term.until("ready");
    assert!(eventually(Duration::from_secs(5), || term.is_raw()));
    term.type_("\x03");
    term.until("signal 2\r\nmore 0\r\n");
    assert_eq!(term.end(&mut aj), 3);
    assert!(!term.rest().contains("press Ctrl-C"), "{:?}", term.rest());
    assert_eq!(term.modes(), before);
    // A command that it kills has the code of that; aj was not sent the signal.
    let mut aj = term.start(&mut yard.aj(["./life", "ready", "60"]));
    term.until("ready");
    term.type_("\x03");
    assert_eq!(term.end(&mut aj), 130);
}

#[test]
fn a_flood_of_output_is_bounded_and_can_be_interrupted() {
    let Some(yard) = Yard::new() else { return };
    let mut term = Term::new();
    let mut aj = term.start(&mut yard.aj(["yes"]));
    term.until("y\r\ny\r\n");
    // Nobody looks.
    std::thread::sleep(Duration::from_millis(700));
    // Not with the pages of the program's file: a build for tests is ten times as large as the program.
    assert!(aj.kib("RssAnon") < 8 * 1024, "{} KiB", aj.kib("RssAnon"));
    term.type_("\x03");
    assert_eq!(term.end(&mut aj), 130);
}

#[test]
fn the_way_out_ends_what_ignores_everything() {
    let Some(yard) = Yard::new() else { return };
    let mark = mark();
    let mut term = Term::new();
    let before = term.modes();
    let script =
        format!(": {mark}; trap '' INT QUIT TERM HUP TSTP; stty raw; echo up; while :; do sleep 1; done");
    let mut aj = term.start(&mut yard.aj(["sh", "-c", &script]));
    term.until("up");
    term.type_("\x03\x1c\x1a");
    assert!(!eventually(Duration::from_millis(700), || aj.0.try_wait().unwrap().is_some()));
    // A paste that nobody reads is not in the way of it, either.
    for _ in 0..100 {
        term.type_(vec![b'x'; 4000]);
        std::thread::sleep(Duration::from_millis(10));
    }
    term.type_("\x1d");
    term.type_("\x1d");
    term.type_("\x1d");
    assert_eq!(term.end(&mut aj), -2);
    assert_gone(&mark, Duration::ZERO);
    assert_eq!(term.modes(), before);
}

#[test]
fn a_secret_that_is_asked_for_is_not_shown() {
    let Some(yard) = Yard::new() else { return };
    if !crate::real::project::has("python3") {
        return;
    }
    let script = "import getpass; print('length', len(getpass.getpass('Password: ')))";
    let mut term = Term::new();
    let mut aj = term.start(&mut yard.aj(["/usr/bin/python3", "-c", script]));
    term.until("Password: ");
    term.type_("hunter2\r");
    let seen = term.until("length 7");
    assert!(!seen.contains("hunter"), "{seen:?}");
    assert_eq!(term.end(&mut aj), 0);
}
