//! `aj top` on a terminal: what is drawn, and that the terminal is as it was afterwards.

use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::Term;
use crate::yard::{Running, Yard, eventually, mark};

const TAKEN: &str = "\x1b[?1049h";
const BACK: &str = "\x1b[?25h\x1b[?1049l";

fn top(yard: &Yard, words: &str) -> Command {
    yard.sh(&format!("exec \"$AJ\" top {words}"))
}

/// A jail that runs, with `argument` among its words.
fn jail(yard: &Yard, argument: &str) -> Running {
    let mut aj = yard.aj(["sh", "-c", "while :; do sleep 0.1; done", &mark(), argument]);
    let running = Running::start(aj.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
    let listed = || {
        let list = yard.sh("\"$AJ\" jail list --status running -q").output().unwrap();
        !list.stdout.is_empty()
    };
    assert!(eventually(Duration::from_secs(10), listed));
    running
}

#[test]
fn the_table_is_drawn_again_in_place_and_q_gives_the_terminal_back() {
    let Some(yard) = Yard::new() else { return };
    let hostile = "\u{1b}]0;owned\u{7}\u{1b}[2J";
    let _jail = jail(&yard, hostile);
    let mut term = Term::new();
    term.resize(33, 250);
    let before = term.modes();
    let mut aj = term.start(&mut top(&yard, "--interval 200ms"));
    term.until(TAKEN);
    let first = term.until("\x1b[J");
    assert!(first.contains("aj top: 1 jail, by cpu") && first.contains("COMMAND"), "{first:?}");
    assert!(first.contains("running") && first.contains("\\x1b]0;owned"), "{first:?}");
    assert!(term.is_raw());
    // Drawn again without being wiped.
    let second = term.until("\x1b[J");
    assert!(second.contains("\x1b[Haj top: 1 jail"), "{second:?}");
    term.type_("m");
    term.until("by memory");
    term.type_("t");
    term.until("by tasks");
    // Another size of the window is drawn at once, and kept to.
    term.resize(4, 30);
    term.until("aj top: 1 jail, by tasks; ord…");
    let seen = String::from_utf8_lossy(&term.seen).into_owned();
    assert!(!seen.contains(hostile) && !seen.contains("\x1b[2J"), "{seen:?}");
    term.type_("q");
    assert_eq!(term.end(&mut aj), 0);
    assert!(term.rest().ends_with(BACK), "{:?}", term.rest());
    assert_eq!(term.modes(), before);
}

#[test]
fn however_it_ends_the_terminal_is_as_it_was() {
    let Some(yard) = Yard::new() else { return };
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
        for typed in [false, true] {
            let key = match signal {
                Signal::SIGINT => "\x03",
                Signal::SIGQUIT => "\x1c",
                _ if typed => continue,
                _ => "",
            };
            let mut term = Term::new();
            let before = term.modes();
            let mut aj = term.start(&mut yard.sh("ulimit -c 0; exec \"$AJ\" top"));
            term.until(TAKEN);
            term.until("\x1b[J");
            if typed {
                term.type_(key)
            } else {
                aj.signal(signal)
            }
            assert_eq!(term.end(&mut aj), -(signal as i32));
            assert!(term.rest().ends_with(BACK), "{signal}: {:?}", term.rest());
            assert_eq!(term.modes(), before, "{signal}");
        }
    }
}

#[test]
fn it_stops_and_goes_on_and_a_terminal_that_has_gone_ends_it() {
    let Some(yard) = Yard::new() else { return };
    let mut term = Term::new();
    let before = term.modes();
    // A shell that has jobs, so that Ctrl-Z means something.
    let mut shell =
        term.start(&mut yard.sh("set -m; \"$AJ\" top --interval 200ms; echo stopped; fg; echo over"));
    term.until(TAKEN);
    term.until("\x1b[J");
    term.type_("\x1a");
    term.until(BACK);
    term.until("stopped");
    term.until(TAKEN);
    term.until("\x1b[J");
    term.type_("q");
    term.until("over");
    term.end(&mut shell);
    assert_eq!(term.modes(), before);

    let mut term = Term::new();
    let mut aj = term.start(&mut top(&yard, ""));
    term.until("\x1b[J");
    term.hang_up();
    aj.end_within(Duration::from_secs(5));
}

#[test]
fn a_terminal_that_takes_nothing_does_not_keep_it_from_ending() {
    let Some(yard) = Yard::new() else { return };
    let mut term = Term::new();
    // More than a terminal holds, as nobody reads it.
    term.resize(500, 500);
    let _jail = jail(&yard, "x");
    let mut aj = term.start(&mut top(&yard, "--interval 100ms"));
    term.until(TAKEN);
    std::thread::sleep(Duration::from_secs(2));
    aj.signal(Signal::SIGTERM);
    aj.end_within(Duration::from_secs(5));
}
