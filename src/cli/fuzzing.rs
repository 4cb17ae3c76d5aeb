//! Doors for `fuzz/`: the two readers of a command line.

use std::ffi::OsString;

use clap::{Args as _, FromArgMatches as _};

use super::exec::{Args, QUICK};
use super::globals::{Globals, Line};

/// The words after `aj exec`: what the quick reader accepts, clap reads alike.
pub fn exec_words(words: &[OsString]) {
    let line = Line::split(["aj", "exec"].into_iter().map(Into::into).chain(words.iter().cloned()));
    let Some(quick) = QUICK.parse(words.iter()) else { return };
    let command = Globals::augment_args(Args::augment_args(clap::Command::new("exec")));
    let matches = command.no_binary_name(true).try_get_matches_from(words);
    let matches = matches.unwrap_or_else(|e| panic!("accepted by the quick reader alone: {words:?}: {e}"));
    let slow = Args::from_arg_matches(&matches).expect("clap has the words it accepted");
    assert!(quick == slow, "{words:?}: {quick:?} {slow:?}");
    assert_eq!(line.globals(), Globals::of(&matches), "{words:?}");
}
