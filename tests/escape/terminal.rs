//! Typing into terminals (jail.md C2).

use crate::probe::{Ground, run, skip, teeth};

const TYPING: [&str; 4] = ["TIOCSTI", "TIOCSTI high", "TIOCSTI highest", "TIOCSTI master"];

/// Into a terminal of the jail's own, where nothing but the filter stands in the way; with bits that
/// the kernel ignores and a filter of 64 bits compares (CVE-2017-5226, CVE-2019-7303, CVE-2023-1523).
#[test]
fn nobody_types_into_a_terminal() {
    let Some(ground) = Ground::new() else { return };
    for flags in [&[][..], &["--as-root"]] {
        let said = ground.jail(flags, &["tty"]);
        said.expect("EPERM", &TYPING);
        said.expect("EPERM", &["TIOCLINUX", "TIOCLINUX high", "TIOCSETD", "stdin TIOCSTI", "stdout TIOCSTI"]);
        said.expect("ok", &["ptmx", "TIOCSCTTY", "TIOCSWINSZ"]);
        let outside = ground.outside(&["tty"]).unwrap();
        if outside.of("TIOCSTI") == "ok" {
            // Through the master it takes a capability.
            teeth(&said, Some(outside), &TYPING[..3]);
            teeth(&said, ground.bwrap(&[], &["tty"]), &TYPING[..3]);
        } else {
            skip(format!("this kernel refuses TIOCSTI to everybody: {}", outside.of("TIOCSTI")));
        }
        let without = ground.jail_without("seccomp", flags, &["tty"]);
        teeth(&said, without, &["TIOCSETD"]);
    }
}

/// The same where it is the command's own, which its shell reads afterwards.
#[test]
fn nobody_types_into_the_terminal_of_the_jails_shell() {
    let Some(ground) = Ground::new() else { return };
    let mut term = crate::term::Term::new();
    let script = "./probe tty; read -t 1 line; echo \"got:$line.\"";
    let mut aj = term.start(&mut ground.aj(&[], ["bash", "-c", script]));
    term.until("got:.");
    assert_eq!(term.end(&mut aj), 0);
    let text = String::from_utf8_lossy(&term.seen).into_owned();
    let refused = |what: &str| text.lines().any(|l| l.contains(what) && l.contains("EPERM"));
    for what in ["stdin TIOCSTI", "stdout TIOCSTI", "TIOCLINUX", "TIOCSETD"] {
        assert!(refused(what), "{what}: {text}");
    }
}

/// The whole attack: a shell on a terminal runs a jail, and finds a line typed when it is over.
#[test]
fn a_jail_run_on_a_terminal_leaves_nothing_typed_there() {
    let Some(ground) = Ground::new() else { return };
    if std::process::Command::new("script").arg("--version").output().is_err() {
        skip("no script(1) to make a terminal");
        return;
    }
    let typed = |inside: String| {
        let shell = format!("{inside} >/dev/null 2>&1; read -t 1 x; echo \"got:$x.\"");
        run(ground.program("script").args(["-qec", &format!("bash -c '{shell}'"), "/dev/null"]))
    };
    // With pipes, and with a terminal of its own.
    for flag in ["-T", "-t"] {
        let jail = typed(format!("{} exec {flag} -- ./probe tty < /dev/tty", crate::common::aj().display()));
        assert!(jail.stdout.contains("got:."), "{flag}: {jail:?}");
    }
    let outside = typed("./probe tty < /dev/tty".to_owned());
    if !outside.stdout.contains("got:x") {
        skip(format!("nothing can be typed outside either: {}", outside.stdout.trim()));
    }
}
