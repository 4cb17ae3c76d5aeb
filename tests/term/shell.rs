//! `aj shell`.

use super::Term;
use crate::yard::{Yard, said};

#[test]
fn a_shell_says_where_it_is_and_what_changed() {
    let Some(yard) = Yard::new() else { return };
    std::fs::write(yard.ws.join("old"), "old\n").unwrap();
    let mut term = Term::new();
    let before = term.modes();
    let mut command = yard.sh("exec $AJ shell");
    let mut aj = term.start(command.env("SHELL", "/bin/bash"));
    term.until("a shell in a jail: `exit` ends it");
    term.until("agent@agentjail:");
    term.type_("echo $0 $SHELL $((6 * 7)); echo new > new; tty\r");
    term.until("/bin/bash /bin/bash 42\r\n");
    term.until("/dev/pts/0");
    term.type_("exit 9\r");
    assert_eq!(term.end(&mut aj), 9);
    let rest = term.rest();
    assert!(rest.contains("1 ") && rest.contains("aj diff jl-"), "{rest:?}");
    assert!(!yard.ws.join("new").exists());
    assert_eq!(term.modes(), before);
    // The same changes once more, by another shell.
    let mut command = yard.sh("exec $AJ shell @");
    let mut aj = term.start(command.env("SHELL", "/bin/sh"));
    term.until("agent@agentjail:");
    term.type_("cat new old; exit\r");
    term.until("new\r\nold\r\n");
    assert_eq!(term.end(&mut aj), 0);
    let listed = said(
        &mut yard.sh("$AJ jail list --kind shell -q | wc -l; $AJ jail show @ | grep -c '^kind: *shell'"),
    );
    assert_eq!(listed.out, "2\n1\n", "{listed:?}");
}

#[test]
fn a_shell_that_the_jail_does_not_have_is_replaced() {
    let Some(yard) = Yard::new() else { return };
    for shell in ["/home/nobody/bin/zsh", "relative", "", "/etc/passwd"] {
        let mut term = Term::new();
        let mut command = yard.sh("exec $AJ shell");
        let mut aj = term.start(command.env("SHELL", shell));
        term.until("$ ");
        term.type_("echo $((20 + 3))$0\r");
        term.until("23/bin/bash");
        term.type_("exit\r");
        assert_eq!(term.end(&mut aj), 0, "{shell}");
    }
}

#[test]
fn a_shell_without_a_terminal_reads_commands_when_it_is_told_to() {
    let Some(yard) = Yard::new() else { return };
    let ran = said(&mut yard.sh("echo 'echo $((2 + 2)); test -t 0 || exit 3' | $AJ shell -T"));
    assert_eq!((ran.fate, ran.out.as_str()), (3, "4\n"), "{ran:?}");
    let json = said(&mut yard.sh("$AJ shell --json < /dev/null"));
    assert!(json.fate == 125 && json.err.contains("do not go together"), "{json:?}");
}
