//! The flags of every command, and the first look at a command line.

use std::ffi::{OsStr, OsString};

use clap::{ArgAction, ArgMatches, FromArgMatches as _};

use super::ui::Ui;
use super::ui::color::Color;

// Flags that every command takes, before or after its name. (No doc comment: clap would take it for
// the help of the command that these flags are added to.)
#[derive(clap::Args, Debug, Clone, Copy, Default, PartialEq, Eq)]
#[command(next_help_heading = "Global options")]
pub(super) struct Globals {
    /// Answer in JSON; errors become one JSON line on stderr
    #[arg(long, global = true)]
    json: bool,
    /// Drop status lines (-q) and warnings too (-qq); errors stay
    #[arg(short, long, global = true, action = ArgAction::Count)]
    quiet: u8,
    /// Say more about what is done
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// When to colour messages
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = Color::Auto)]
    color: Color,
}

impl Globals {
    /// The flags as parsed by clap.
    pub(super) fn of(matches: &ArgMatches) -> Globals {
        Globals::from_arg_matches(matches).unwrap_or_default()
    }

    /// How to talk to the user.
    pub(super) fn ui(self) -> Ui {
        Ui { json: self.json, quiet: self.quiet, verbose: self.verbose, color: self.color.decide() }
    }
}

/// A command line, cut in three without clap: global flags, the command's name, the rest.
#[derive(Debug)]
pub(super) struct Line {
    program: OsString,
    before: Vec<OsString>,
    command: Option<OsString>,
    after: Vec<OsString>,
}

impl Line {
    /// Cut a command line. The first argument is the program's name; the first word that is neither
    /// a flag nor the value of `--color` is the command.
    pub(super) fn split(mut args: impl Iterator<Item = OsString>) -> Line {
        let program = args.next().unwrap_or_else(|| "aj".into());
        let mut line = Line { program, before: Vec::new(), command: None, after: Vec::new() };
        let mut value_expected = false;
        for arg in args {
            if line.command.is_some() {
                line.after.push(arg);
            } else if value_expected || is_flag(&arg) {
                value_expected = !value_expected && arg == "--color";
                line.before.push(arg);
            } else {
                line.command = Some(arg);
            }
        }
        line
    }

    /// The command's name.
    pub(super) fn command(&self) -> Option<&OsStr> {
        self.command.as_deref()
    }

    /// All arguments but the command's name.
    pub(super) fn words(&self) -> impl Iterator<Item = &OsString> {
        self.before.iter().chain(&self.after)
    }

    /// The arguments for the whole tree, as they were given.
    pub(super) fn for_tree(&self) -> impl Iterator<Item = &OsStr> {
        std::iter::once(&self.program)
            .chain(&self.before)
            .chain(&self.command)
            .chain(&self.after)
            .map(OsString::as_os_str)
    }

    /// The arguments for [`super::commands::alone`]: flags given before the name come first.
    pub(super) fn for_command(&self) -> impl Iterator<Item = &OsStr> {
        std::iter::once(&self.program).chain(&self.before).chain(&self.after).map(OsString::as_os_str)
    }

    /// The global flags as far as they can be seen without parsing: an error about the command line
    /// must be printed in the form that the command line asked for.
    pub(super) fn globals(&self) -> Globals {
        let mut seen = Globals::default();
        let mut words = self.words().map(|w| w.as_encoded_bytes());
        while let Some(word) = words.next() {
            match word {
                b"--" => break,
                b"--json" => seen.json = true,
                b"--quiet" => seen.quiet = seen.quiet.saturating_add(1),
                b"--verbose" => seen.verbose = seen.verbose.saturating_add(1),
                b"--color" => seen.color = words.next().and_then(Color::of_word).unwrap_or_default(),
                [b'-', letters @ ..] if letters.iter().all(|l| matches!(l, b'q' | b'v')) => {
                    let count =
                        |l: u8| u8::try_from(letters.iter().filter(|x| **x == l).count()).unwrap_or(u8::MAX);
                    seen.quiet = seen.quiet.saturating_add(count(b'q'));
                    seen.verbose = seen.verbose.saturating_add(count(b'v'));
                }
                _ => {
                    if let Some(when) = word.strip_prefix(b"--color=") {
                        seen.color = Color::of_word(when).unwrap_or_default();
                    }
                }
            }
        }
        seen
    }
}

fn is_flag(arg: &OsStr) -> bool {
    arg.as_encoded_bytes().starts_with(b"-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(words: &[&str]) -> Line {
        Line::split(std::iter::once("aj").chain(words.iter().copied()).map(OsString::from))
    }

    #[test]
    fn the_first_word_that_is_no_flag_is_the_command() {
        let command = |words: &[&str]| split(words).command.map(|c| c.into_string().unwrap());
        assert_eq!(command(&["exec", "--", "ls"]).as_deref(), Some("exec"));
        assert_eq!(command(&["--json", "-qq", "exec"]).as_deref(), Some("exec"));
        assert_eq!(command(&["--color", "always", "version"]).as_deref(), Some("version"));
        assert_eq!(command(&["--color=always", "version"]).as_deref(), Some("version"));
        assert_eq!(command(&["--colour", "version"]).as_deref(), Some("version"));
        assert_eq!(command(&["--json"]), None);
        assert_eq!(command(&[]), None);
    }

    #[test]
    fn flags_before_the_command_reach_it() {
        let line = split(&["--json", "-v", "exec", "--net", "none", "--", "ls", "-q"]);
        let words: Vec<_> = line.for_command().collect();
        assert_eq!(words, ["aj", "--json", "-v", "--net", "none", "--", "ls", "-q"]);
        let words: Vec<_> = line.for_tree().collect();
        assert_eq!(words, ["aj", "--json", "-v", "exec", "--net", "none", "--", "ls", "-q"]);
    }

    #[test]
    fn what_follows_two_dashes_is_the_commands_own() {
        let seen = split(&["exec", "-qv", "--quiet", "--", "jq", "--json", "-v"]).globals();
        assert_eq!(seen, Globals { json: false, quiet: 2, verbose: 1, color: Color::Auto });
        let seen = split(&["--color", "never", "exec", "--json"]).globals();
        assert_eq!(seen, Globals { json: true, quiet: 0, verbose: 0, color: Color::Never });
    }

    #[test]
    fn clap_sees_global_flags_at_every_depth() {
        #[derive(clap::Subcommand, Debug)]
        enum Verb {
            List,
        }
        #[derive(clap::Args, Debug)]
        struct Noun {
            #[command(subcommand)]
            #[allow(dead_code, reason = "parsed for its place in the tree only")]
            verb: Verb,
        }
        use clap::Args as _;
        let noun = || Globals::augment_args(Noun::augment_args(clap::Command::new("jail")));
        for words in
            [["aj", "--json", "-v", "list"], ["aj", "list", "--json", "-v"], ["aj", "-v", "list", "--json"]]
        {
            let seen = Globals::of(&noun().try_get_matches_from(words).unwrap());
            assert_eq!((seen.json, seen.verbose), (true, 1), "{words:?}");
        }
    }
}
