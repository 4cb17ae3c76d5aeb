//! A parser for the plain spellings of one command's flags, ahead of clap.
//!
//! Building clap's tables for the forty flags of `aj exec` touches 120 KB of fresh memory: 0.15 to
//! 0.25 ms of a cold process (static binary, two-core machine) where the whole jail takes 1.6 ms. A
//! host that starts thousands of jails pays that each time. This parser reads `--name value`,
//! `--name=value` and `--flag` in front of `--`, and *gives up* on everything else, without a word:
//! clap then parses the same words, and it alone reports mistakes and prints help.
//!
//! The contract, held by a property test beside each table: what is accepted here, clap accepts with
//! the same result.

#![allow(dead_code, reason = "used by the command that is worth it: exec")]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// What one flag does to the arguments `A`. `false` from a setter gives up (bad value, given twice).
pub(super) enum Take<A> {
    /// `--flag`.
    Flag(fn(&mut A) -> bool),
    /// `--name value` or `--name=value`.
    Value(fn(&mut A, &OsStr) -> bool),
}

/// The flags of a command that are parsed without clap.
pub(super) struct Quick<A: 'static> {
    /// Spelled in full, dashes included.
    pub(super) flags: &'static [(&'static str, Take<A>)],
    /// Takes a word that is no flag, if the command has one.
    pub(super) word: fn(&mut A, &OsStr) -> bool,
    /// Takes the words after `--`, at least one.
    pub(super) command: fn(&mut A, &[OsString]) -> bool,
}

impl<A: Default> Quick<A> {
    /// The arguments that `words` spell (flags, then `--`, then a command), or `None`: ask clap.
    /// Global flags are skipped; [`super::globals::Line::globals`] has read them.
    pub(super) fn parse<'a>(&self, words: impl Iterator<Item = &'a OsString>) -> Option<A> {
        let words: Vec<&OsString> = words.collect();
        let end = words.iter().position(|w| *w == "--")?;
        let mut args = A::default();
        let mut before = words.get(..end)?.iter();
        let mut json = None;
        while let Some(word) = before.next() {
            if word.as_bytes() == b"--json" {
                if !once(&mut json, Some(())) {
                    return None;
                }
                continue;
            }
            if matches!(word.as_bytes(), b"-q" | b"-v" | b"--quiet" | b"--verbose") {
                continue;
            }
            let (name, joined) = cut(word);
            let Some((_, take)) = self.flags.iter().find(|(flag, _)| flag.as_bytes() == name) else {
                if !word.as_bytes().starts_with(b"-") && (self.word)(&mut args, word) {
                    continue;
                }
                return None;
            };
            let done = match (take, joined) {
                (Take::Flag(set), None) => set(&mut args),
                (Take::Value(set), Some(value)) => set(&mut args, value),
                (Take::Value(set), None) => {
                    // A value that looks like a flag is clap's to judge.
                    let value = before.next().filter(|v| !v.as_bytes().starts_with(b"-"))?;
                    set(&mut args, value)
                }
                (Take::Flag(_), Some(_)) => false,
            };
            if !done {
                return None;
            }
        }
        let command: Vec<OsString> = words.get(end + 1..)?.iter().map(|w| (*w).clone()).collect();
        (!command.is_empty() && (self.command)(&mut args, &command)).then_some(args)
    }
}

/// `--name=value` in two; short flags are never joined to their value here.
fn cut(word: &OsStr) -> (&[u8], Option<&OsStr>) {
    let bytes = word.as_bytes();
    match bytes.iter().position(|b| *b == b'=') {
        Some(at) if bytes.starts_with(b"--") => {
            let (name, value) = bytes.split_at(at);
            (name, value.get(1..).map(OsStr::from_bytes))
        }
        _ => (bytes, None),
    }
}

/// Set an option that may be given once. `false`: given before, or `parse` refused.
pub(super) fn once<T>(slot: &mut Option<T>, value: Option<T>) -> bool {
    let free = slot.is_none();
    *slot = value;
    free && slot.is_some()
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};
    use proptest::prelude::*;

    use super::super::globals::{Globals, Line};
    use super::*;

    #[derive(clap::Args, Debug, Default, PartialEq)]
    struct Sample {
        #[arg(long)]
        dry_run: bool,
        #[arg(long, value_name = "NET")]
        net: Option<String>,
        #[arg(long)]
        pids: Option<u64>,
        #[arg(long, short)]
        env: Vec<OsString>,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    }

    fn text(value: &OsStr) -> Option<String> {
        value.to_str().map(str::to_owned)
    }

    const QUICK: Quick<Sample> = Quick {
        flags: &[
            ("--dry-run", Take::Flag(|a| !std::mem::replace(&mut a.dry_run, true))),
            ("--net", Take::Value(|a, v| once(&mut a.net, text(v)))),
            ("--pids", Take::Value(|a, v| once(&mut a.pids, text(v).and_then(|v| v.parse().ok())))),
            (
                "--env",
                Take::Value(|a, v| {
                    a.env.push(v.to_owned());
                    true
                }),
            ),
            (
                "-e",
                Take::Value(|a, v| {
                    a.env.push(v.to_owned());
                    true
                }),
            ),
        ],
        word: |_, _| false,
        command: |a, words| {
            a.command = words.to_vec();
            true
        },
    };

    fn clap(words: &[OsString]) -> Option<(Sample, Globals)> {
        let command = Globals::augment_args(Sample::augment_args(clap::Command::new("exec")));
        let words = std::iter::once(OsString::from("aj")).chain(words.iter().cloned());
        let matches = command.try_get_matches_from(words).ok()?;
        Some((Sample::from_arg_matches(&matches).ok()?, Globals::of(&matches)))
    }

    fn os(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn plain_spellings_are_read_and_the_rest_is_left_to_clap() {
        let quick = |words: &[&str]| QUICK.parse(os(words).iter());
        let all =
            ["--dry-run", "--net=none", "-q", "--pids", "12", "-e", "A=b=c", "--env=X=", "--", "ls", "-l"];
        let parsed = quick(&all).unwrap();
        assert_eq!(parsed, clap(&os(&all)).unwrap().0);
        assert_eq!((parsed.env, parsed.command), (os(&["A=b=c", "X="]), os(&["ls", "-l"])));
        for left in [
            &["ls"] as &[&str],
            &["--"],
            &["--net", "a", "--net", "b", "--", "ls"],
            &["--pids", "many", "--", "ls"],
            &["--net", "--", "ls"],
            &["--env", "-x", "--", "ls"],
            &["--dry-run=1", "--", "ls"],
            &["--help", "--", "ls"],
            &["--json", "--json", "--", "ls"],
            &["-eA=b", "--", "ls"],
            &["word", "--", "ls"],
        ] {
            assert_eq!(quick(left), None, "{left:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_here_clap_reads_alike(words in prop::collection::vec(prop::sample::select(&[
            "--dry-run", "--net", "--net=none", "--net=", "--pids", "--pids=7", "12", "none", "-e", "-eA", "--env",
            "--env=A=b", "A=b", "--", "-", "", "ls", "--json", "-q", "-v", "-qv", "--color", "--color=never", "--help",
            "--dry-run=true", "--quiet", "=", "--=", "-e=x",
        ][..]), 0..9)) {
            let words = os(&words);
            if let Some(quick) = QUICK.parse(words.iter()) {
                let line = Line::split(["aj", "exec"].into_iter().map(Into::into).chain(words.iter().cloned()));
                let (slow, globals) = clap(&words).expect("accepted here, refused by clap");
                prop_assert_eq!(quick, slow);
                prop_assert_eq!(line.globals(), globals);
            }
        }
    }
}
