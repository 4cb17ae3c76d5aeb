//! Job control: of shells inside, and of a shell outside whose job `aj` is.

use std::time::Duration;

use super::Term;
use crate::yard::{Running, Yard, eventually, said};

/// An interactive bash on a terminal, outside, with `$AJ`.
fn outer_shell(yard: &Yard, term: &mut Term) -> Running {
    let mut command = std::process::Command::new("bash");
    command.args(["--norc", "--noprofile", "-i"]);
    for (name, value) in yard.sh("").get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let running = term.start(command.current_dir(&yard.ws).env("PS1", "outer>").env("HISTFILE", ""));
    term.until("outer>");
    running
}

#[test]
fn jobs_of_a_shell_inside_are_its_own_affair() {
    let Some(yard) = Yard::new() else { return };
    let mut term = Term::new();
    let mut command = yard.exec(["-e", "PS1=in>"], ["bash", "--norc", "--noprofile", "-i"]);
    let mut aj = term.start(&mut command);
    term.until("in>");
    term.type_("sleep 60; echo code $?\r");
    std::thread::sleep(Duration::from_millis(500));
    term.type_("\x1a");
    term.until("Stopped");
    term.until("in>");
    term.type_("bg; kill %1; wait %1; echo over $((100 + 43))\r");
    term.until("over 143");
    term.type_("sleep 60\r");
    std::thread::sleep(Duration::from_millis(500));
    term.type_("\x03");
    term.until("in>");
    term.type_("echo code $?; exit 4\r");
    term.until("code 130");
    assert_eq!(term.end(&mut aj), 4);
}

#[test]
fn a_command_that_is_stopped_stops_aj_and_goes_on_with_fg() {
    let Some(yard) = Yard::new() else { return };
    let mut term = Term::new();
    let cooked = term.modes();
    let mut shell = outer_shell(&yard, &mut term);
    // A daemon of the jail stands still as well.
    term.type_("$AJ exec --rw -- sh -c '(while :; do echo x >> count; sleep 0.05; done) & echo up; \
                trap \"echo on again\" CONT; while :; do read line && echo \"got $line\" && kill $! && exit 5; done'\r");
    term.until("up\r\n");
    assert!(eventually(Duration::from_secs(5), || term.is_raw()));
    term.type_("\x1a");
    term.until("Stopped");
    term.until("outer>");
    let lines = || std::fs::metadata(yard.ws.join("count")).map_or(0, |m| m.len());
    let still = || {
        let before = lines();
        std::thread::sleep(Duration::from_millis(400));
        lines() == before
    };
    assert!(eventually(Duration::from_secs(5), still));
    // The shell has its terminal: what is typed is for it.
    term.type_("echo the $((1 + 1))nd; jobs\r");
    term.until("the 2nd");
    term.until("Stopped");
    term.resize(21, 77);
    term.type_("fg\r");
    term.until("on again");
    assert!(eventually(Duration::from_secs(5), || term.is_raw()));
    term.type_("hello\r");
    term.until("got hello");
    term.until("outer>");
    term.type_("echo code $?\r");
    term.until("code 5");
    term.type_("exit\r");
    assert_eq!(term.end(&mut shell), 0);
    assert_eq!(term.modes().0[3], cooked.0[3]);
}

#[test]
fn aj_that_is_stopped_by_a_signal_gives_the_terminal_back_and_takes_it_again() {
    let Some(yard) = Yard::new() else { return };
    for signal in ["TSTP", "STOP"] {
        let mut term = Term::new();
        let mut shell = outer_shell(&yard, &mut term);
        term.type_("$AJ exec -- sh -c 'echo up; read line; echo \"got $line\"; exit 6'\r");
        term.until("up\r\n");
        let kill = format!("pkill -{signal} -P {} -x aj", shell.pid());
        assert!(std::process::Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
        term.until("Stopped");
        term.until("outer>");
        term.type_("echo here $((3 + 4))\r");
        term.until("here 7");
        term.type_("fg\r");
        assert!(eventually(Duration::from_secs(5), || term.is_raw()), "{signal}");
        term.type_("again\r");
        term.until("got again");
        term.until("outer>");
        term.type_("echo code $?; exit\r");
        term.until("code 6");
        assert_eq!(term.end(&mut shell), 0);
    }
}

#[test]
fn in_the_background_aj_leaves_the_terminal_to_the_shell_until_it_is_brought_back() {
    let Some(yard) = Yard::new() else { return };
    let mut term = Term::new();
    let mut shell = outer_shell(&yard, &mut term);
    term.type_("$AJ exec -- sh -c 'echo in the $((1 + 1))nd; read line; echo \"got $line\"' &\r");
    term.until("in the 2nd");
    assert!(!term.is_raw() || term.shows("outer>"));
    // What is typed is for the shell.
    term.type_("echo shell $((5 + 5))\r");
    term.until("shell 10");
    term.type_("fg\r");
    assert!(eventually(Duration::from_secs(5), || term.is_raw()));
    std::thread::sleep(Duration::from_millis(500));
    term.type_("typed\r");
    term.until("got typed");
    term.until("outer>");
    term.type_("exit\r");
    assert_eq!(term.end(&mut shell), 0);
}

#[test]
fn without_a_shell_to_continue_it_a_command_that_stops_goes_on() {
    let Some(yard) = Yard::new() else { return };
    let mut term = Term::new();
    // `aj` leads the session: nobody could continue it.
    let mut aj = term.start(&mut yard.aj(["sh", "-c", "echo up; kill -TSTP $$; echo on again"]));
    assert_eq!(term.end(&mut aj), 0);
    assert_eq!(term.rest(), "up\r\non again\r\n");
}

#[test]
fn two_on_one_terminal_leave_it_as_it_was() {
    let Some(yard) = Yard::new() else { return };
    let mut term = Term::new();
    let before = term.modes();
    // Without job control both are in the foreground. The second finds what the first has made raw.
    let script = "\"$AJ\" exec -- sh -c 'echo one; read line; echo \"one $line\"' </dev/tty & \
                  while ! stty -a | grep -q -e -icanon; do sleep 0.05; done; \
                  \"$AJ\" exec -- sh -c 'stty -a; echo two; sleep 2; echo over'; wait";
    let mut both = term.start(&mut yard.sh(script));
    let shown = term.until("two\r\n");
    assert!(shown.contains(" icanon") && shown.contains("\nopost"), "{shown}");
    // Whoever reads it, the first ends before the second.
    for _ in 0..20 {
        term.type_("x\r");
        if term.shows("one x") {
            break;
        }
    }
    term.until("over");
    assert_eq!(term.end(&mut both), 0);
    assert_eq!(term.modes(), before);
}

#[test]
fn a_jail_that_is_paused_from_elsewhere_does_not_stop_its_aj() {
    let Some(yard) = Yard::new() else { return };
    let mut term = Term::new();
    let mut shell = outer_shell(&yard, &mut term);
    term.type_("$AJ exec -- sh -c 'echo up; while read line; do echo \"got $line\"; done; echo over'\r");
    term.until("up\r\n");
    // By SIGSTOP, which looks like a Ctrl-Z inside.
    let aj = |words: &str| {
        let ran =
            said(yard.sh(&format!("\"$AJ\" {words} @")).env("AJ_TEST_WITHOUT", "cgroup.freeze,freezer"));
        assert_eq!(ran.fate, 0, "{ran:?}");
    };
    for round in 0..8 {
        aj("pause");
        term.type_(format!("{round}\r"));
        assert!(!term.shows("got"), "{:?}", term.rest());
        aj("resume");
        let shown = term.until(&format!("got {round}"));
        assert!(!shown.contains("Stopped"), "{shown}");
    }
    term.type_("\x04");
    let shown = term.until("outer>");
    assert!(shown.contains("over") && !shown.contains("Stopped"), "{shown}");
    // The keys that end a jail end one that is paused, too.
    term.type_("$AJ exec -- sh -c 'echo up; sleep 60'\r");
    term.until("up\r\n");
    aj("pause");
    term.type_("\x1d\x1d\x1d");
    term.until("outer>");
    term.type_("exit\r");
    term.end(&mut shell);
}

#[test]
fn keys_of_a_pager_behind_the_command_are_the_pagers() {
    let Some(yard) = Yard::new() else { return };
    let mut term = Term::new();
    let pager = "stty -icanon -echo </dev/tty; echo paging; for key in 1 2 3 4 5 6 7 8 9 10 11 12; do \
                 dd bs=1 count=1 </dev/tty 2>/dev/null; done; stty icanon </dev/tty; echo quit";
    let script = "\"$AJ\" exec -- sh -c 'read line; echo \"got $line\" >&2; sleep 1' | (eval \"$PAGER\")";
    let mut aj = term.start(yard.sh(script).env("PAGER", pager));
    term.until("paging");
    for key in "abcdefghijkl".chars() {
        std::thread::sleep(Duration::from_millis(60));
        term.type_(key.to_string());
    }
    term.until("abcdefghijkl");
    // Lines are the command's, as soon as it is lines that are read.
    term.until("quit");
    term.type_("hello\r");
    term.until("got hello");
    assert_eq!(term.end(&mut aj), 0);
}
