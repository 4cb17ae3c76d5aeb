//! However a run ends, the caller's terminal is as it was.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::Term;
use crate::yard::{Yard, assert_gone, eventually, mark};

/// Switches on what full-screen programs do, and says `up`.
const EVERYTHING_ON: &str =
    "printf '\\033[?1049h\\033[?25l\\033[?1000;1006h\\033[?2004h\\033[31m\\033=\\033[>1uup'";
/// What switches it off again.
const OFF: [&str; 7] =
    ["\x1b[?1049l", "\x1b[?25h", "\x1b[?1000l", "\x1b[?1006l", "\x1b[?2004l", "\x1b[<1u", "\x1b>"];

fn assert_all_off(term: &Term) {
    let rest = term.rest();
    for off in OFF {
        assert!(rest.contains(off), "{off:?} in {rest:?}");
    }
    assert!(rest.trim_end().ends_with("\x1b[m"), "{rest:?}");
}

#[test]
fn what_a_program_that_is_killed_left_on_is_switched_off() {
    let Some(yard) = Yard::new() else { return };
    let mut term = Term::new();
    let before = term.modes();
    let script = format!("stty raw -echo; {EVERYTHING_ON}; kill -KILL $$");
    let mut aj = term.start(&mut yard.aj(["sh", "-c", &script]));
    term.until("up");
    assert_eq!(term.end(&mut aj), 137);
    assert_all_off(&term);
    assert_eq!(term.modes(), before);
    // One that tidies up is let be: nothing is shown that it has not written.
    let script = "printf '\\033[?1049h\\033[?25lx\\033[?25h\\033[?1049l'";
    let mut term = Term::new();
    let mut aj = term.start(&mut yard.aj(["sh", "-c", script]));
    assert_eq!(term.end(&mut aj), 0);
    assert_eq!(term.rest(), "\x1b[?1049h\x1b[?25lx\x1b[?25h\x1b[?1049l");
}

#[test]
fn what_a_killed_program_has_kept_and_coloured_is_undone() {
    let Some(yard) = Yard::new() else { return };
    for (output, left) in [
        (r"\033[31m\0337\033[m\033[?47hup", "\x1b[?47l\x1b8\x1b[m\x1b7"),
        (r"\033[?25l\033[?25s\033[?25hup", "\x1b[?25s"),
        (r"\033]11;#000000\007\033]4;1;red\007up", "\x1b]111\x1b\\\x1b]104;1\x1b\\"),
        (r"\033[?1\r049\177hup", "\x1b[?1049l"),
        (r"\0337\033[31mx\0338\033[?1s\033[?1h\033[?1r\033]12;red\007\033]112\007up", ""),
    ] {
        let mut term = Term::new();
        let script = format!("stty raw -echo; printf '{output}'; kill -KILL $$");
        let mut aj = term.start(&mut yard.aj(["sh", "-c", &script]));
        assert_eq!(term.end(&mut aj), 137);
        let rest = term.rest();
        assert_eq!(rest.split_once("up").map(|(_, after)| after), Some(left), "{rest:?}");
    }
}

#[test]
fn signals_to_aj_and_the_clock_leave_the_terminal_as_it_was() {
    let Some(yard) = Yard::new() else { return };
    let script = format!("stty raw -echo; {EVERYTHING_ON}; sleep 60");
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
        let mut term = Term::new();
        let before = term.modes();
        let mut aj = term.start(&mut yard.exec([], ["sh", "-c", &format!("ulimit -c 0; {script}")]));
        term.until("up");
        assert!(eventually(Duration::from_secs(5), || term.is_raw()));
        aj.signal(signal);
        assert_eq!(term.end(&mut aj), -(signal as i32));
        assert_all_off(&term);
        assert_eq!(term.modes(), before, "{signal}");
    }
    let ignoring = format!("trap '' TERM; {script}");
    for (flags, script) in
        [(&["--timeout", "1s"][..], &script), (&["--timeout", "1s", "--grace", "200ms"], &ignoring)]
    {
        let mut term = Term::new();
        let before = term.modes();
        let mut aj = term.start(&mut yard.exec(flags.iter().copied(), ["sh", "-c", script]));
        term.until("up");
        assert_eq!(term.end(&mut aj), 124);
        let rest = term.rest();
        assert!(OFF.iter().all(|off| rest.contains(off)), "{rest:?}");
        // What aj says itself comes afterwards.
        assert!(rest.ends_with("its time was up\r\n"), "{rest:?}");
        assert_eq!(term.modes(), before);
    }
}

#[test]
fn a_terminal_that_takes_nothing_does_not_hold_up_the_clock() {
    let Some(yard) = Yard::new() else { return };
    let term = Term::new();
    let before = term.modes();
    let script = format!("trap '' TERM; {EVERYTHING_ON}; yes");
    let mut aj =
        term.start(&mut yard.exec(["--timeout", "700ms", "--grace", "300ms"], ["sh", "-c", &script]));
    assert_eq!(crate::yard::fate(aj.end_within(Duration::from_secs(15))), 124);
    assert_eq!(term.modes(), before);
}

#[test]
fn a_bug_in_aj_leaves_the_terminal_as_it_was() {
    let Some(yard) = Yard::new() else { return };
    let mark = mark();
    let mut term = Term::new();
    let before = term.modes();
    let mut aj =
        term.start(yard.aj(["sh", "-c", &format!(": {mark}; sleep 60")]).env("AJ_TEST_WAYS", "panic"));
    if !eventually(Duration::from_secs(10), || aj.0.try_wait().unwrap().is_some()) {
        return crate::yard::skip("a release build has no bug to be asked for");
    }
    assert_eq!(term.end(&mut aj), 125);
    assert!(term.rest().contains("aj: internal error: a test wanted it"), "{:?}", term.rest());
    // The message comes on a terminal that is no longer raw.
    assert!(!term.rest().replace("\r\n", "").contains('\n'), "{:?}", term.rest());
    assert_eq!(term.modes(), before);
    assert_gone(&mark, Duration::from_secs(5));
}

#[test]
fn a_command_that_cannot_be_started_leaves_the_terminal_as_it_was() {
    let Some(yard) = Yard::new() else { return };
    let mut term = Term::new();
    let before = term.modes();
    let mut aj = term.start(&mut yard.aj(["no-such-program"]));
    assert_eq!(term.end(&mut aj), 127);
    assert!(term.rest().contains("was not found in the jail's PATH (ENOENT)\r\n"), "{:?}", term.rest());
    assert_eq!(term.modes(), before);
}

#[test]
fn a_jail_that_is_killed_from_outside_leaves_the_terminal_as_it_was() {
    let Some(yard) = Yard::new() else { return };
    let mark = mark();
    let mut term = Term::new();
    let before = term.modes();
    let mut aj = term.start(&mut yard.aj(["sh", "-c", &format!(": {mark}; {EVERYTHING_ON}; sleep 60")]));
    term.until("up");
    // Pid 1 may not have told yet that the command has begun: killed before that, it is a jail that did not start.
    std::thread::sleep(Duration::from_millis(300));
    let init = format!("pkill -KILL -P {}", aj.pid());
    assert!(std::process::Command::new("sh").args(["-c", &init]).status().unwrap().success());
    assert_eq!(term.end(&mut aj), 137);
    assert!(term.rest().contains("\x1b[?1049l"), "{:?}", term.rest());
    assert_eq!(term.modes(), before);
    assert_gone(&mark, Duration::ZERO);
}

#[test]
fn a_terminal_that_is_closed_ends_the_jail() {
    let Some(yard) = Yard::new() else { return };
    // The command may say goodbye; one that ignores it has the grace, and no more.
    let polite = "trap 'echo hung up > hup; exit 0' HUP; echo up; while :; do sleep 0.1; done";
    let deaf = "trap '' HUP; echo up; while :; do sleep 0.1; done";
    for (script, said) in [(polite, true), (deaf, false)] {
        let mark = mark();
        let mut term = Term::new();
        let script = format!(": {mark}; {script}");
        let mut command = yard.exec(["--rw", "--grace", "500ms"], ["bash", "-c", &script]);
        let mut aj = term.start(&mut command);
        term.until("up");
        term.hang_up();
        let end = crate::yard::fate(aj.end_within(Duration::from_secs(10)));
        assert_eq!(end, if said { 0 } else { -1 });
        assert_gone(&mark, Duration::ZERO);
        assert_eq!(std::fs::read_to_string(yard.ws.join("hup")).is_ok(), said);
        drop(std::fs::remove_file(yard.ws.join("hup")));
    }
}

#[test]
fn aj_that_is_killed_takes_the_jail_along() {
    let Some(yard) = Yard::new() else { return };
    let mark = mark();
    let mut term = Term::new();
    let mut aj = term.start(&mut yard.aj(["sh", "-c", &format!(": {mark}; echo up; trap '' HUP; sleep 60")]));
    term.until("up");
    aj.signal(Signal::SIGKILL);
    assert_eq!(term.end(&mut aj), -9);
    assert_gone(&mark, Duration::from_secs(5));
}
