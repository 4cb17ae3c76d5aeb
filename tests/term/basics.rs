//! Which commands have a terminal, and what it is like.

use std::time::Duration;

use super::Term;
use crate::yard::{Yard, eventually, said};

#[test]
fn on_a_terminal_the_command_has_one_of_the_jails_own() {
    let Some(yard) = Yard::new() else { return };
    let mut term = Term::new();
    let script = "tty; stty size; test -t 0 && test -t 1 && test -t 2 && echo all; \
                  echo to stderr >&2; echo into it > /dev/tty; ls -1 /dev/pts; exit 7";
    let mut aj = term.start(&mut yard.aj(["sh", "-c", script]));
    assert_eq!(term.end(&mut aj), 7);
    assert_eq!(term.rest(), "/dev/pts/0\r\n33 111\r\nall\r\nto stderr\r\ninto it\r\n0\r\nptmx\r\n");
}

#[test]
fn the_first_program_of_many_has_it_in_the_foreground_and_can_be_stopped() {
    let Some(yard) = Yard::new() else { return };
    let mut term = Term::new();
    // Session, process group and foreground group: it leads its group, which has the terminal, and its
    // parent is in its session, so that the kernel does not discard a SIGTSTP.
    let script = "read -r pid name state parent group session tty foreground rest < /proc/self/stat; \
                  echo \"$group $foreground $session\"";
    let mut aj = term.start(&mut yard.aj(["bash", "-c", script]));
    assert_eq!(term.end(&mut aj), 0);
    let rest = term.rest();
    let words: Vec<&str> = rest.split_whitespace().collect();
    assert_eq!((words[0], words[2]), (words[1], "1"), "{rest:?}");
}

#[test]
fn pipes_are_had_for_the_asking_and_with_captured_output() {
    let Some(yard) = Yard::new() else { return };
    for flags in [&["-T"][..], &["--no-tty"], &["--json"], &["--events"]] {
        let mut term = Term::new();
        let script = "test -t 0 || test -t 1 || test -t 2 || echo none; echo x > /dev/tty || echo no tty";
        let mut aj = term.start(&mut yard.exec(flags.iter().copied(), ["sh", "-c", script]));
        assert_eq!(term.end(&mut aj), 0, "{flags:?}");
        let rest = term.rest();
        assert!(rest.contains("none") && rest.contains("no tty"), "{flags:?}: {rest:?}");
    }
}

#[test]
fn a_terminal_that_cannot_be_had_is_refused() {
    let Some(yard) = Yard::new() else { return };
    for command in ["exec -t -- true", "shell", "shell --dry-run"] {
        let said = said(&mut yard.sh(&format!("$AJ {command} < /dev/null")));
        assert_eq!((said.fate, said.out.as_str()), (125, ""), "{said:?}");
        assert!(said.err.contains("a terminal was asked for, and stdin is none"), "{said:?}");
        assert!(said.err.contains("\nhint: "), "{said:?}");
    }
    let json = said(&mut yard.exec(["-t", "--json"], ["true"]));
    assert!(json.fate == 125 && json.err.contains("do not go together"), "{json:?}");
    let both = said(&mut yard.exec(["-t", "-T"], ["true"]));
    assert!(both.fate == 125 && both.err.contains("cannot be used with"), "{both:?}");
    let dry = said(&mut yard.exec(["-t", "--dry-run"], ["true"]));
    assert!(dry.fate == 125 && dry.err.contains("a terminal was asked for"), "{dry:?}");
}

#[test]
fn a_terminal_that_is_asked_for_may_write_elsewhere() {
    let Some(yard) = Yard::new() else { return };
    let mut term = Term::new();
    let before = term.modes();
    let mut command = yard.exec(["-t"], ["sh", "-c", "test -t 1 && tty; read line; echo \"got $line\" >&2"]);
    let out = std::fs::File::create(yard.path("out")).unwrap();
    command.stdin(term.slave()).stdout(out).stderr(term.slave());
    let mut aj = term.start_as_it_is(&mut command);
    assert!(eventually(Duration::from_secs(10), || term.is_raw()));
    term.type_("words\r");
    assert_eq!(term.end(&mut aj), 0);
    let text = std::fs::read_to_string(yard.path("out")).unwrap();
    assert!(text.contains("/dev/pts/0\r\n") && text.ends_with("got words\r\n"), "{text:?}");
    assert_eq!(term.modes(), before);
    // A reader that goes away ends it, as SIGPIPE would.
    let mut shell = yard.sh("$AJ exec -t -- yes 2>/dev/null | head -n 1; echo over");
    let mut sh = term.start(&mut shell);
    assert_eq!(term.end(&mut sh), 0);
    assert!(term.rest().contains("over"), "{:?}", term.rest());
    assert_eq!(term.modes(), before);
}

#[test]
fn nothing_is_lost_or_changed_on_the_way() {
    let Some(yard) = Yard::new() else { return };
    let bytes: Vec<u8> = (0..=255u8).cycle().take(200_000).collect();
    std::fs::write(yard.ws.join("bytes"), &bytes).unwrap();
    for _ in 0..3 {
        let mut term = Term::new();
        let mut aj = term.start(&mut yard.aj(["sh", "-c", "stty raw; cat bytes; stty sane"]));
        assert_eq!(term.end(&mut aj), 0);
        // After them comes what makes the terminal as it was: the bytes are sequences, too.
        assert!(term.seen.starts_with(&bytes), "{} bytes", term.seen.len());
        let mut term = Term::new();
        let mut aj = term.start(&mut yard.aj(["seq", "20000"]));
        assert_eq!(term.end(&mut aj), 0);
        let want: String = (1..=20_000).map(|n| format!("{n}\r\n")).collect();
        assert!(term.rest() == want, "{} bytes of {}", term.rest().len(), want.len());
    }
}

#[test]
fn what_was_shown_is_on_record() {
    let Some(yard) = Yard::new() else { return };
    let mut term = Term::new();
    let script = "echo to stdout; echo to stderr >&2; printf '\\033]0;title\\007'";
    let mut aj = term.start(&mut yard.aj(["sh", "-c", script]));
    assert_eq!(term.end(&mut aj), 0);
    let shown = said(&mut yard.sh(&format!("{} jail show @ --output", crate::common::aj().display())));
    assert!(shown.out.contains("to stdout\nto stderr\n"), "{shown:?}");
    // What a terminal would obey is not in it, on a terminal or elsewhere.
    let mut term = Term::new();
    let mut sh = term.start(&mut yard.sh("$AJ jail show @; $AJ jail show @ --output; $AJ jail list"));
    assert_eq!(term.end(&mut sh), 0);
    let rest = term.rest();
    assert!(rest.contains("title") && !rest.contains("\x1b]0"), "{rest:?}");
}

#[test]
fn the_terminal_says_its_size_and_the_variables_its_kind() {
    let Some(yard) = Yard::new() else { return };
    let mut term = Term::new();
    let script = "echo \"$TERM $COLORTERM ${LINES-none} ${COLUMNS-none}\"";
    let mut command = yard.aj(["sh", "-c", script]);
    command.env("LINES", "5").env("COLUMNS", "6").env("COLORTERM", "truecolor");
    let mut aj = term.start(&mut command);
    assert_eq!(term.end(&mut aj), 0);
    assert_eq!(term.rest(), "xterm-256color truecolor none none\r\n");
    // Asked for by name they come.
    let mut command = yard.exec(["--pass", "COLUMNS", "-e", "LINES=9"], ["sh", "-c", "echo $LINES $COLUMNS"]);
    let mut term = Term::new();
    let mut aj = term.start(command.env("LINES", "5").env("COLUMNS", "6"));
    assert_eq!(term.end(&mut aj), 0);
    assert_eq!(term.rest(), "9 6\r\n");
}

#[test]
fn another_size_of_the_window_is_known_inside() {
    let Some(yard) = Yard::new() else { return };
    let mut term = Term::new();
    let script = "trap 'stty size' WINCH; echo ready; until read -t 0.1 line; do :; done";
    let mut aj = term.start(&mut yard.aj(["bash", "-c", script]));
    term.until("ready");
    term.resize(20, 50);
    term.until("20 50\r\n");
    // bash forgets a signal that comes while its trap runs.
    std::thread::sleep(Duration::from_millis(500));
    term.resize(50, 132);
    term.until("50 132\r\n");
    term.type_("\r");
    assert_eq!(term.end(&mut aj), 0);
}

#[test]
fn what_is_typed_is_read_echoed_and_ended_as_on_any_terminal() {
    let Some(yard) = Yard::new() else { return };
    let mut term = Term::new();
    let mut aj = term.start(&mut yard.aj(["sh", "-c", "echo ready; read a; echo \"got $a\"; cat; echo end"]));
    term.until("ready\r\n");
    // The line discipline inside corrects and echoes.
    term.type_("helxx\x7f\x7flo\r");
    term.until("got hello\r\n");
    term.type_("to cat\r");
    term.until("to cat\r\nto cat\r\n");
    term.type_("\x04");
    term.until("end\r\n");
    assert_eq!(term.end(&mut aj), 0);
}

#[test]
fn what_aj_says_itself_has_nothing_a_terminal_obeys() {
    let Some(yard) = Yard::new() else { return };
    let evil = "\x1b]0;title\x07\x1b[2J";
    std::fs::write(yard.ws.join(evil), "").unwrap();
    for words in [
        "exec -- \"$E\"",
        "exec --cwd \"$E\" -- true",
        "exec --ro \"/$E\" -- true",
        "exec \"-$E\" -- true",
        "exec -- sh -c 'echo x > new$0' \"$E\"",
        "diff @",
        "jail list",
        "jail show @",
        "shell \"$E\"",
        "apply @",
    ] {
        let mut term = Term::new();
        let mut sh = term.start(yard.sh(&format!("exec $AJ {words}")).env("E", evil));
        term.end(&mut sh);
        let rest = term.rest();
        assert!(!rest.is_empty(), "{words}");
        assert!(!rest.contains("\x1b]") && !rest.contains("\x1b[2J") && !rest.contains('\x07'), "{rest:?}");
    }
}
