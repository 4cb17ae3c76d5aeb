//! Command lines that are no order to run something: `--help`, `--version`, mistakes.

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::commands;
use super::error::{CmdResult, CommandError};
use super::exit::{self, Exit};
use super::globals::Line;
use super::ui::Ui;
use super::version;
use crate::base::name::Name;
use crate::base::text;

/// `aj` without a command: what its flags ask for, or the short help as an error.
pub(super) fn without_command(line: &Line, ui: &Ui) -> CmdResult {
    let mut tree = commands::tree();
    match tree.try_get_matches_from_mut(line.for_tree()) {
        Err(e) if e.kind() == ErrorKind::MissingSubcommand && !ui.json => {
            ui.message(&tree.render_help().to_string());
            Ok(Exit(exit::USAGE))
        }
        Err(e) if e.kind() == ErrorKind::DisplayHelp => {
            // One page is enough for the root: the long form has no more to say.
            ui.help(&tree.render_help());
            Ok(Exit(exit::OK))
        }
        Err(e) if e.kind() == ErrorKind::DisplayVersion && ui.json => Ok(version::show(ui)),
        Err(e) => answer(&e, line, ui, exit::USAGE),
        Ok(_) => Err(CommandError::new(exit::USAGE, "usage", "no command was given").hint("see `aj --help`")),
    }
}

/// What clap found instead of arguments: help or the version on stdout, or an error with `exit`.
pub(super) fn answer(e: &clap::Error, line: &Line, ui: &Ui, exit: u8) -> CmdResult {
    match e.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            ui.help(&e.render());
            Ok(Exit(exit::OK))
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if !ui.json => {
            ui.message(&e.render().to_string());
            Ok(Exit(exit))
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Err(CommandError::new(exit, "usage", "a subcommand is missing"))
        }
        _ => {
            let earlier = earlier(e, line);
            let taken = taken(e, line);
            let mut error = mistake(earlier.as_ref().unwrap_or(e), exit, taken, || page(line));
            if let Some(message) = negative(e, line) {
                error.message = message;
            }
            Err(error)
        }
    }
}

/// What is wrong before a word too many: in `aj exec make all` the command begins with `make`.
fn earlier(e: &clap::Error, line: &Line) -> Option<clap::Error> {
    let word =
        context(e, ContextKind::InvalidArg).pop().filter(|_| e.kind() == ErrorKind::UnknownArgument)?;
    let entry = commands::find(line.command()?)?;
    let before = line.for_command().take_while(|w| *w != word.as_str());
    let earlier = commands::alone(entry).try_get_matches_from(before).err()?;
    stray(&earlier).is_some().then_some(earlier)
}

/// The word of a command without its `--` that was taken for a workspace: what follows it, or is missing
/// after it, is what clap complains about.
fn taken(e: &clap::Error, line: &Line) -> Option<String> {
    let end = match e.kind() {
        ErrorKind::UnknownArgument => Some(context(e, ContextKind::InvalidArg).pop()?),
        ErrorKind::MissingRequiredArgument => None,
        _ => return None,
    };
    let entry = commands::find(line.command()?).filter(|e| matches!(e.name, "exec" | "shell"))?;
    let words: Vec<&OsStr> = line.for_command().collect();
    if words.iter().any(|w| *w == "--") {
        return None;
    }
    let before = words.iter().take_while(|w| end.as_deref().is_none_or(|end| **w != end)).copied();
    let rest: &[&str] = if entry.name == "exec" { &["--", "true"] } else { &[] };
    let whole = before.chain(rest.iter().map(OsStr::new));
    let matches = commands::alone(entry).try_get_matches_from(whole).ok()?;
    let word = matches.get_one::<OsString>("jail").and_then(|word| word.to_str());
    // `@` and an id are what they look like.
    word.filter(|w| w.parse::<Name>().is_ok()).map(str::to_owned)
}

/// The word of a command without its `--` that cannot be a workspace.
fn stray(e: &clap::Error) -> Option<String> {
    let of = context(e, ContextKind::InvalidArg).pop().filter(|_| e.kind() == ErrorKind::ValueValidation)?;
    context(e, ContextKind::InvalidValue).pop().filter(|_| of == "[WORKSPACE]")
}

/// A negative number for a value: clap takes it for a cluster of short flags, and none of ours is a
/// digit.
fn negative(e: &clap::Error, line: &Line) -> Option<String> {
    let arg = context(e, ContextKind::InvalidArg).pop().filter(|_| e.kind() == ErrorKind::UnknownArgument)?;
    arg.strip_prefix('-')?.chars().next().filter(char::is_ascii_digit)?;
    let words: Vec<&OsStr> = line.words().map(OsString::as_os_str).take_while(|w| *w != "--").collect();
    let (flag, value) = words.windows(2).find_map(|pair| match pair {
        [flag, value] if value.as_encoded_bytes().starts_with(arg.as_bytes()) => Some((flag, value)),
        _ => None,
    })?;
    Some(format!("invalid value `{}` for `{}`: it must be positive", text::os(value), text::os(flag)))
}

/// A usage error in the form of every other error.
///
/// clap knows no name for the command that failed other than the one in its usage line.
fn mistake(
    e: &clap::Error,
    exit: u8,
    taken: Option<String>,
    page: impl FnOnce() -> Option<String>,
) -> CommandError {
    // clap's text is `error: WHAT` (some lines), then paragraphs `  tip: …`, `Usage: …`, `For more …`.
    let text = text::printable_lines(e.render().to_string().as_bytes());
    let mut paragraphs = text.trim().split("\n\n");
    let what = paragraphs.next().unwrap_or_default();
    let what = what.strip_prefix("error: ").unwrap_or(what);
    let what = what.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let mut error = CommandError::new(exit, "usage", what);
    for flag in context(e, ContextKind::InvalidArg) {
        error
            .hints
            .extend(FOREIGN_FLAGS.iter().filter(|(f, _)| *f == flag).map(|(_, hint)| (*hint).to_owned()));
    }
    let answers_for_another = exit == exit::AJ_FAILED;
    let mut command = String::from(if answers_for_another { "aj exec" } else { "aj" });
    for text in paragraphs.flat_map(str::lines).map(str::trim) {
        if let Some(tip) = text.strip_prefix("tip: ") {
            // After `--` comes the command: what clap proposes would run the flag as a program.
            if !(answers_for_another && tip.contains("'-- -")) {
                error.hints.push(tip.to_owned());
            }
        } else if let Some(usage) = text.strip_prefix("Usage: ") {
            let words = usage.split(' ').take_while(|w| !w.starts_with(['[', '<', '-', '(']));
            command = words.collect::<Vec<_>>().join(" ");
        }
    }
    // A complaint about a value names no command: the command line does.
    if command == "aj" {
        command = page().unwrap_or(command);
    }
    let missing = context(e, ContextKind::InvalidArg).pop().filter(|_| is_missing(e));
    if let Some(flag) = missing.filter(|w| w.starts_with("--")) {
        // A flag that another one is nothing without.
        error.hints.push(format!("add `{flag}`"));
    } else if answers_for_another {
        let unexpected = || {
            let word = context(e, ContextKind::InvalidArg).pop().filter(|w| !w.starts_with(['-', '<']));
            word.filter(|_| e.kind() == ErrorKind::UnknownArgument)
        };
        let stray = stray(e);
        if let Some(word) = &stray {
            error.message = format!(
                "unexpected argument '{}' found: a workspace is named in lower case, a jail is `@` or begins with `jl-`",
                printable(word)
            );
        }
        if let Some(word) = taken.as_ref().filter(|_| is_missing(e)) {
            error.message = format!(
                "no command for '{}', which was taken for a workspace: the command comes after `--`",
                printable(word)
            );
        }
        let word = stray.or(taken).or_else(unexpected);
        if word.is_some() || is_missing(e) {
            // A flag is none, and `aj shell` runs none: it may be that which complains.
            let word = word.filter(|w| !w.starts_with('-')).unwrap_or_else(|| "COMMAND".to_owned());
            error.hints.push(format!("put `--` before the command: `aj exec -- {}`", printable(&word)));
        }
    }
    error.hint(format!("see `{command} --help`"))
}

/// The command of a line, with the subcommand of a group.
fn page(line: &Line) -> Option<String> {
    let name = line.command()?;
    let command = commands::alone(commands::find(name)?);
    let first = line.for_command().skip(1).find(|word| !word.as_encoded_bytes().starts_with(b"-"));
    let below = first.and_then(|word| command.find_subcommand(word)).map(|found| found.get_name().to_owned());
    Some(["aj".to_owned(), text::os(name)].into_iter().chain(below).collect::<Vec<_>>().join(" "))
}

/// A word after `aj` that names no command: the command that was meant, if that can be guessed.
pub(super) fn unknown_command(line: &Line, name: &OsStr) -> CommandError {
    let shown = text::os(name);
    let mut error =
        CommandError::new(exit::USAGE, "unknown_command", format!("`{shown}` is not a command of aj"));
    let known = FOREIGN_WORDS.iter().find(|(word, meant)| name == *word && mounted(meant));
    if let Some((_, meant)) = known {
        return error.hint(format!("did you mean `aj {meant}`?"));
    }
    if let Err(e) = commands::tree().try_get_matches_from(line.for_tree()) {
        for word in context(&e, ContextKind::SuggestedSubcommand) {
            error = error.hint(format!("did you mean `aj {word}`?"));
        }
    }
    if error.hints.is_empty() && mounted("exec") {
        error = error.hint(format!("`aj exec -- {shown}` runs a program in a jail"));
    }
    error.hint("`aj --help` lists the commands")
}

/// The command line was accepted, but its values could not be read back: our mistake.
pub(super) fn bug(e: clap::Error) -> CommandError {
    CommandError::bug(e.render())
}

fn printable(word: &str) -> String {
    text::printable(word.as_bytes())
}

fn is_missing(e: &clap::Error) -> bool {
    e.kind() == ErrorKind::MissingRequiredArgument
}

fn context(e: &clap::Error, kind: ContextKind) -> Vec<String> {
    match e.get(kind) {
        Some(ContextValue::String(word)) => vec![word.clone()],
        Some(ContextValue::Strings(words)) => words.clone(),
        _ => Vec::new(),
    }
}

fn mounted(command: &str) -> bool {
    command.split(' ').next().is_some_and(|word| commands::find(OsStr::new(word)).is_some())
}

/// What people type who come from another tool. None may be a command of ours (tested).
const FOREIGN_WORDS: &[(&str, &str)] = &[
    ("run", "exec"),
    ("start", "exec"),
    ("sandbox", "exec"),
    ("sh", "shell"),
    ("bash", "shell"),
    ("console", "shell"),
    ("jobs", "job list"),
    ("ls", "jail list"),
    ("list", "jail list"),
    ("history", "jail list"),
    ("log", "jail list"),
    ("logs", "jail show"),
    ("show", "jail show"),
    ("inspect", "jail show"),
    ("changes", "diff"),
    ("merge", "apply"),
    ("patch", "apply"),
    ("commit", "apply"),
    ("check", "doctor"),
    ("status", "doctor"),
    ("info", "doctor"),
    ("settings", "config"),
    ("policy", "config"),
    ("completion", "completions"),
];

/// Flags of other tools and what does the same here.
const FOREIGN_FLAGS: &[(&str, &str)] = &[
    ("--rm", "a jail is always gone when its command ends"),
    ("--volume", "`--ro DIR` and `--rw DIR` show a directory of the host"),
    ("--mount", "`--ro DIR` and `--rw DIR` show a directory of the host"),
    ("--bind", "`--rw DIR` shows a directory of the host for writing"),
    ("--ro-bind", "`--ro DIR` shows a directory of the host read-only"),
    ("--network", "the network is chosen by `--net none` or `--net host`"),
    ("--unshare-all", "every namespace is always new"),
    ("--memory", "memory is limited by `--mem SIZE`"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &[&str]) -> Line {
        Line::split(std::iter::once("aj").chain(words.iter().copied()).map(Into::into))
    }

    #[test]
    fn foreign_words_are_not_commands_and_lead_to_commands() {
        for (word, _) in FOREIGN_WORDS {
            assert!(commands::find(OsStr::new(word)).is_none(), "`{word}` has become a command");
        }
        let e = unknown_command(&line(&["completion"]), OsStr::new("completion"));
        assert_eq!(e.hints, ["did you mean `aj completions`?"]);
    }

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        let e = unknown_command(&line(&["verison"]), OsStr::new("verison"));
        assert_eq!((e.exit, e.code), (2, "unknown_command"));
        assert_eq!(e.hints[0], "did you mean `aj version`?");
        let e = unknown_command(&line(&["\u{1b}[31mx"]), OsStr::new("\u{1b}[31mx"));
        assert_eq!(e.message, "`\\x1b[31mx` is not a command of aj");
    }

    #[test]
    fn a_forgotten_separator_is_named() {
        let exec = || commands::alone(commands::find(OsStr::new("exec")).unwrap());
        for words in
            [&["exec", "make"][..], &["exec", "make", "all"], &["exec", "--net", "none", "make", "all"]]
        {
            let line = line(words);
            let e = exec().try_get_matches_from(line.for_command()).unwrap_err();
            let taken = taken(&e, &line);
            assert_eq!(
                mistake(&e, 125, taken, || None).hints[0],
                "put `--` before the command: `aj exec -- make`"
            );
        }
        let e = mistake(&exec().try_get_matches_from(["aj", "./make"]).unwrap_err(), 125, None, || None);
        assert_eq!(e.hints[0], "put `--` before the command: `aj exec -- ./make`");
        let e = mistake(&exec().try_get_matches_from(["aj"]).unwrap_err(), 125, None, || None);
        assert_eq!(e.hints[0], "put `--` before the command: `aj exec -- COMMAND`");
        // A shell in a jail runs none: neither is `aj shell -- id` the way, nor `aj exec -- -c`.
        let shell = || commands::alone(commands::find(OsStr::new("shell")).unwrap());
        for (words, named) in [(&["aj", "@", "id"][..], "id"), (&["aj", "--", "-c"], "COMMAND")] {
            let e = mistake(&shell().try_get_matches_from(words).unwrap_err(), 125, None, || None);
            assert_eq!(e.hints[0], format!("put `--` before the command: `aj exec -- {named}`"));
        }
        // What clap proposes would run the flag as a program.
        let e =
            mistake(&exec().try_get_matches_from(["aj", "--frobnicate"]).unwrap_err(), 125, None, || None);
        assert!(!e.hints.iter().any(|h| h.contains("-- --frobnicate")), "{e:?}");
    }

    #[test]
    fn a_flag_that_needs_another_names_it() {
        let exec = || commands::alone(commands::find(OsStr::new("exec")).unwrap());
        let words = ["aj", "--allow-exec-files", "--", "true"];
        let e = mistake(&exec().try_get_matches_from(words).unwrap_err(), 125, None, || None);
        assert_eq!(e.message, "the following required arguments were not provided: --apply");
        assert_eq!(e.hints, ["add `--apply`", "see `aj exec --help`"]);
        let jail = || commands::alone(commands::find(OsStr::new("jail")).unwrap());
        let e =
            mistake(&jail().try_get_matches_from(["aj", "show", "--raw", "@"]).unwrap_err(), 2, None, || {
                None
            });
        assert!(e.hints[0].starts_with("add `--output"), "{e:?}");
    }

    #[test]
    fn a_negative_value_is_no_flag() {
        for (words, said) in [
            (&["exec", "--timeout", "-1s", "--", "x"] as &[&str], "invalid value `-1s` for `--timeout`"),
            (&["exec", "--mem", "-512M", "--", "x", "-512M"], "invalid value `-512M` for `--mem`"),
            (&["exec", "--pids", "-1"], "invalid value `-1` for `--pids`"),
            (&["jail", "list", "--limit", "-1"], "invalid value `-1` for `--limit`"),
        ] {
            let line = line(words);
            let command = commands::alone(commands::find(line.command().unwrap()).unwrap());
            let e = command.try_get_matches_from(line.for_command()).unwrap_err();
            assert_eq!(negative(&e, &line).as_deref(), Some(&*format!("{said}: it must be positive")));
        }
        let line = line(&["exec", "--timeout", "--mem", "1G", "--", "true"]);
        let command = commands::alone(commands::find(OsStr::new("exec")).unwrap());
        let e = command.try_get_matches_from(line.for_command()).unwrap_err();
        assert_eq!(negative(&e, &line), None);
        assert!(
            mistake(&e, 125, None, || None).message.starts_with("a value is required for '--timeout <TIME>'"),
            "{e}"
        );
    }

    #[test]
    fn clap_errors_become_ours() {
        let command = || commands::alone(commands::find(OsStr::new("completions")).unwrap());
        let e = mistake(&command().try_get_matches_from(["aj"]).unwrap_err(), 2, None, || None);
        assert_eq!(e.message, "the following required arguments were not provided: <SHELL>");
        assert!(e.hints.iter().any(|h| h == "see `aj completions --help`"), "{e:?}");
        let e = mistake(&command().try_get_matches_from(["aj", "tcsh"]).unwrap_err(), 125, None, || None);
        assert_eq!(e.exit, 125);
        assert!(e.message.contains("[possible values: bash, zsh, fish]"), "{e:?}");
        let e =
            mistake(&command().try_get_matches_from(["aj", "bash", "--rm"]).unwrap_err(), 2, None, || None);
        assert_eq!(e.hints[0], "a jail is always gone when its command ends");
    }
}
