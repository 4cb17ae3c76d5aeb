//! Doors for `fuzz/`: what comes from pid 1, from a command on its terminal, and from files of the kernel's
//! and the user's.

use super::freeze::Stat;
use super::plan::Plan;
use super::screen::Screen;
use super::wire::{MAX as LONGEST, Message};
use super::{gitconfig, usage};

/// A message of pid 1: one that is understood says the same when it is sent again.
pub fn message(bytes: &[u8]) {
    if let Some(message) = Message::decode(bytes) {
        let sent = message.encode();
        // A step as long as a packet is cut, perhaps within a character.
        assert!(sent.len() >= LONGEST || Message::decode(&sent) == Some(message));
        assert!(sent.len() <= LONGEST);
    }
}

/// A plan as pid 1 gets it.
pub fn plan(bytes: &[u8]) {
    let Ok(plan) = postcard::from_bytes::<Plan>(bytes) else { return };
    let Ok(first) = postcard::to_allocvec(&plan) else { return };
    let again: Plan = postcard::from_bytes(&first).expect("what was written is read");
    assert_eq!(postcard::to_allocvec(&again).ok(), Some(first));
}

/// A `/proc/PID/status`: bytes of memory, private and shared.
pub fn status(text: &str) -> (u64, u64) {
    usage::of_status(text)
}

/// A git configuration of the user's: each value is read back from what is written for the jail.
pub fn git_settings(text: &str) {
    for (key, value) in gitconfig::parse(text) {
        let written = format!("[a]\n\tb = {}\n", gitconfig::quoted(&value));
        let kept: String = value.chars().filter(|c| matches!(c, '\n' | '\t') || !c.is_control()).collect();
        assert_eq!(gitconfig::parse(&written), [("a.b".to_owned(), kept)], "{key}");
    }
}

/// A `/proc/PID/stat`: nothing that a program calls itself changes what is read.
pub fn stat(bytes: &[u8]) {
    let stat = Stat::parse(bytes);
    if let Some(end) = bytes.iter().rposition(|b| *b == b')') {
        let other = [b"7 (S 1) R 2", bytes.get(end..).unwrap_or_default()].concat();
        assert_eq!(Stat::parse(&other), stat);
    }
    let text = String::from_utf8_lossy(bytes);
    let _read = (usage::parent(&text), usage::state(&text));
}

/// Output on a terminal: wherever it is cut, the same undoes it, and is itself undone by nothing.
pub fn screen(bytes: &[u8]) {
    let mut screen = Screen::default();
    screen.see(bytes);
    let undo = screen.undo();
    let mut pieces = Screen::default();
    bytes.chunks(3).for_each(|piece| pieces.see(piece));
    assert_eq!(pieces.undo(), undo);
    // Every colour of the palette, by its number, and a little more.
    assert!(undo.len() < 2048);
    screen.see(&undo);
    assert_eq!(screen.undo(), b"");
}
