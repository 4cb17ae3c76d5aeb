//! Doors for `fuzz/`: files and names that a jail wrote.

use super::gitconfig::{self, Setting};
use super::gitcreds::{self, Clean};
use super::hostexec::Classifier;

/// A git configuration: what it makes git run, and what is left of it without its credentials.
pub fn git_config(text: &[u8]) {
    for setting in gitconfig::settings(text) {
        if let Setting::Command(command) = setting {
            let words = gitconfig::words(&command);
            assert!(words.iter().map(Vec::len).sum::<usize>() <= command.len());
        }
    }
    let _files = (gitconfig::included(text), gitconfig::value(text, "core", "worktree"));
    if let Clean::Text(clean) = gitcreds::clean(text) {
        assert!(clean.len() <= text.len());
        assert_eq!(gitcreds::clean(&clean), Clean::Same, "cleaned once, and still not clean");
    }
}

/// Names of a tree, one path: the rules about them are asked on the way down and left on the way up.
pub fn path(path: &[u8]) {
    let mut classifier = Classifier::default();
    let names: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
    for (i, name) in names.iter().enumerate() {
        let whole = classifier.reason(name, false);
        assert_eq!(classifier.reason(name, true), None);
        assert_eq!(whole, classifier.reason(name, false));
        let _said = (classifier.completes(name), classifier.in_object_store(name), classifier.link_reason());
        classifier.enter(name, i % 3 == 1);
    }
    for _ in names {
        classifier.leave();
    }
    assert!(!classifier.installed());
}
