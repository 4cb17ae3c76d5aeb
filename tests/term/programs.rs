//! Full-screen programs.

use std::time::Duration;

use super::Term;
use crate::real::project::has;
use crate::yard::Yard;

#[test]
fn vim_edits_a_file_and_knows_its_window() {
    if !has("vim") {
        return;
    }
    let Some(yard) = Yard::new() else { return };
    let mut term = Term::new();
    let before = term.modes();
    let mut aj = term.start(&mut yard.exec(["--rw"], ["vim", "-u", "NONE", "-N", "text"]));
    term.until("~");
    std::thread::sleep(Duration::from_millis(300));
    term.resize(20, 60);
    std::thread::sleep(Duration::from_millis(300));
    term.type_("ihello from inside\x1b");
    term.type_(":put =&lines.'x'.&columns\r");
    term.until("20x60");
    term.type_(":wq\r");
    assert_eq!(term.end(&mut aj), 0);
    assert_eq!(std::fs::read_to_string(yard.ws.join("text")).unwrap(), "hello from inside\n20x60\n");
    assert_eq!(term.modes(), before);
}

#[test]
fn less_pages_and_searches() {
    if !has("less") {
        return;
    }
    let Some(yard) = Yard::new() else { return };
    let mut term = Term::new();
    let mut aj = term.start(&mut yard.aj(["sh", "-c", "seq 1000 | less -R"]));
    term.until("32");
    term.type_("/77$\r");
    term.until("108");
    term.type_("G");
    term.until("1000");
    term.type_("q");
    assert_eq!(term.end(&mut aj), 0);
}

#[test]
fn top_shows_the_jails_processes() {
    if !has("top") {
        return;
    }
    let Some(yard) = Yard::new() else { return };
    let mut term = Term::new();
    let mut aj = term.start(&mut yard.aj(["top", "-d", "1"]));
    term.until("PID");
    term.until("top");
    term.type_("q");
    assert_eq!(term.end(&mut aj), 0);
}

#[test]
fn tmux_draws_a_shell_of_its_own() {
    if !has("tmux") {
        return;
    }
    let Some(yard) = Yard::new() else { return };
    let mut term = Term::new();
    let before = term.modes();
    let shell = "PS1='pane>' bash --norc --noprofile -i";
    let mut aj = term.start(&mut yard.aj(["tmux", "-f", "/dev/null", "new-session", shell]));
    term.until("pane>");
    term.type_("stty size\r");
    term.until("32 111");
    term.resize(25, 90);
    std::thread::sleep(Duration::from_millis(500));
    term.type_("stty size\r");
    term.until("24 90");
    term.type_("exit\r");
    assert_eq!(term.end(&mut aj), 0);
    assert_eq!(term.modes(), before);
}
