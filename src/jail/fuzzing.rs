//! Doors for `fuzz/`: what comes from pid 1 and from files of the kernel's and the user's.

use super::plan::Plan;
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
