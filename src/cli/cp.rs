//! `aj cp`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::changes::plural;
use super::error::{CmdResult, CommandError};
use super::exit::{self, Exit};
use super::files::{partial, warn_if_running};
use super::fs::{parse_mode, unexpected};
use super::ui::Ui;
use crate::base::quote::command_line;
use crate::base::{size, text};
use crate::ops::files::copy::{Options, out, stream};
use crate::ops::files::order::{Answer, Given, Order, Sent};
use crate::ops::files::{Error, Target, inside, volume};
use crate::schema::files::Copied;
use crate::workspace::view::Error as View;

const EXAMPLES: &str = "\
Examples:
  aj cp notes.txt @:docs/
  aj cp -r api:target/doc ./doc --exclude '*.tmp'
  aj cp -r @:src - | tar -t
  aj cp model.bin vol:models/
  tar -c src | aj cp -r - @:import";

/// Copy files into a workspace or out of it
///
/// One of SRC and DST is WS:PATH: a workspace, or a jail whose changes are kept (`jl-…` or `@`), and a path
/// in it, or vol:NAME/PATH, a path in a volume; the other is a path of the host (write `./a:b` for one with a colon), or `-`. Into DST, if
/// that is a directory; `DIR/.` is what is in a directory.
///
/// With -r directories are copied with all that is in them, and `-` is a tar stream; without, `-` is the
/// bytes of one file. Files keep their permission bits and times, links are copied as links and never
/// followed, on neither side; fifos, sockets and devices are left out, and setuid and setgid bits are taken
/// off. On the host each file is made beside its place and renamed into it. What goes into a workspace
/// belongs to the jail's user.
///
/// Exit codes: 0 done; 1 failed; 2 usage; 3 no such workspace or path; 4 the path is outside of the
/// workspace; 5 it is busy, or a run is at work in it; 6 a part failed, named on stderr.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// What to copy
    #[arg(value_name = "SRC")]
    from: OsString,
    /// Where to
    #[arg(value_name = "DST")]
    to: OsString,
    /// Directories with all that is in them
    #[arg(short, long)]
    recursive: bool,
    /// Leave out what this names, as in a `.gitignore` at the top of what is copied; may be repeated
    #[arg(long, value_name = "PATTERN", requires = "recursive")]
    exclude: Vec<String>,
    /// Replace nothing
    #[arg(long)]
    no_clobber: bool,
    /// Permission bits of files (octal) instead of those that they have
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    mode: Option<u32>,
}

/// One side.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    Host(&'a OsStr),
    Stream,
    Tree(&'a OsStr, &'a OsStr),
}

impl Side<'_> {
    fn of(word: &OsStr) -> Side<'_> {
        let bytes = word.as_bytes();
        if bytes == b"-" {
            return Side::Stream;
        }
        if let Some((volume, path)) = volume::split(word) {
            return Side::Tree(volume, path);
        }
        let colon = bytes.iter().position(|b| *b == b':');
        let slash = bytes.iter().position(|b| *b == b'/').unwrap_or(bytes.len());
        match colon {
            Some(at) if at > 0 && at < slash => {
                let (ws, path) = (&bytes[..at], &bytes[at + 1..]);
                let path = if path.is_empty() { b"." } else { path };
                Side::Tree(OsStr::from_bytes(ws), OsStr::from_bytes(path))
            }
            _ => Side::Host(word),
        }
    }
}

/// Run the command.
pub fn run(ui: &Ui, args: Args) -> CmdResult {
    let options = Options::new(args.recursive, args.no_clobber, args.mode, &args.exclude)?;
    let progress = ui.progress();
    let copied = match (Side::of(&args.from), Side::of(&args.to)) {
        (Side::Tree(ws, from), Side::Host(to)) => {
            let target = Target::read(ws, ui)?;
            warn_if_running(ui, &target);
            out::copy_out(&target, (from, Path::new(to)), &options, &progress)?
        }
        (Side::Tree(ws, from), Side::Stream) => {
            if ui.stdout_is_terminal() && args.recursive {
                let message = "a tar stream is not for a terminal";
                return Err(CommandError::new(exit::USAGE, "raw_to_terminal", message)
                    .hint("redirect it: `aj cp -r WS:PATH - > out.tar`"));
            }
            let target = Target::read(ws, ui)?;
            warn_if_running(ui, &target);
            if ui.stdout_is_terminal() {
                let opened = crate::ops::files::read::open(&target, from, Default::default())?;
                ui.escaped(opened.file);
                return Ok(Exit(exit::OK));
            }
            let mut to = ui.raw_out().map_err(no_stdout)?;
            match stream::copy_stream_out(&target, from, &mut to, &options, &progress) {
                // Nobody reads any more: a quiet end.
                Err(Error::Host { source, .. }) if source.kind() == std::io::ErrorKind::BrokenPipe => {
                    return Ok(Exit(exit::OK));
                }
                done => {
                    drop(progress);
                    return told(ui, &done?, false);
                }
            }
        }
        (Side::Host(from), Side::Tree(ws, to)) => {
            inside::copy(ws, (Path::new(from), to), &options, &progress)?
        }
        (Side::Stream, Side::Tree(ws, to)) => {
            let what = if args.recursive { Sent::Tar } else { Sent::Stream };
            let given = Given { no_clobber: args.no_clobber, mode: args.mode, exclude: args.exclude.clone() };
            let order = Order::Copy { to: to.to_owned(), what, options: given };
            let done = order.carry_out(ws, &mut std::io::stdin().lock(), &progress);
            match done.map_err(|e| not_into_directory(e, &args))? {
                Answer::Copied(copied) => copied,
                Answer::Done(_) | Answer::Replaced(_) => return Err(unexpected()),
            }
        }
        (Side::Tree(..), Side::Tree(..)) => {
            return Err(CommandError::new(exit::USAGE, "not_possible", "both sides are workspaces")
                .hint("through a stream: `aj cp -r WS:PATH - | aj cp -r - OTHER:PATH`"));
        }
        (Side::Host(_) | Side::Stream, Side::Host(_) | Side::Stream) => {
            return Err(CommandError::new(exit::USAGE, "not_possible", "neither side is a workspace")
                .hint("write one as WS:PATH: `aj cp FILE @:docs/`"));
        }
    };
    drop(progress);
    told(ui, &copied, true)
}

/// The bytes of a file have no name that they could have in a directory.
fn not_into_directory(e: Error, args: &Args) -> CommandError {
    let is_directory = matches!(&e, Error::View(View::Is { is: "a directory", .. }));
    let error = CommandError::from(e);
    if !is_directory || args.recursive {
        return error;
    }
    let to = text::os(&args.to);
    let slash = if to.ends_with(['/', ':']) { "" } else { "/" };
    let command = |words: &[&str]| command_line(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
    let file = command(&["aj", "cp", "-", &format!("{to}{slash}FILE")]);
    CommandError { hints: Vec::new(), ..error }
        .hint(format!("name a file in it: `{file}`"))
        .hint(format!("a tar stream goes into it with `{}`", command(&["aj", "cp", "-r", "-", &to])))
}

fn no_stdout(e: std::io::Error) -> CommandError {
    CommandError::new(exit::FAILED, "stdout_failed", "could not write to stdout").caused_by(&e)
}

/// `document`: stdout is free for one.
fn told(ui: &Ui, copied: &Copied, document: bool) -> CmdResult {
    if ui.json && document {
        ui.document(copied);
    }
    if !ui.json {
        for s in &copied.skipped {
            ui.status(&format!("left out {}: {}", s.name.path, s.reason));
        }
        ui.status(&summary(copied));
    }
    if copied.leading_out > 0 && copied.direction == "out" {
        let n = copied.leading_out;
        ui.warn(&format!("links that lead out of what was copied: {n}; look where before you follow one"));
    }
    let some = copied.files + copied.directories + copied.links > 0;
    partial(ui, &copied.failed, copied.truncated, some, "copied").map_or(Ok(Exit(exit::OK)), Err)
}

fn summary(copied: &Copied) -> String {
    let mut parts = vec![plural(copied.files, "file")];
    for (n, what) in [(copied.directories, "directory"), (copied.links, "link")] {
        if n > 0 {
            parts.push(plural(n, what));
        }
    }
    format!("copied {} ({})", parts.join(", "), size::human(copied.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_a_tree_a_path_or_a_stream() {
        let tree = |ws: &'static str, path: &'static str| Side::Tree(OsStr::new(ws), OsStr::new(path));
        assert_eq!(Side::of(OsStr::new("@:a/b:c")), tree("@", "a/b:c"));
        assert_eq!(Side::of(OsStr::new("jl-7k:")), tree("jl-7k", "."));
        assert_eq!(Side::of(OsStr::new("ws:/workspace/x")), tree("ws", "/workspace/x"));
        for host in ["a", "./a:b", "/a:b", ":a", "dir/a:b"] {
            assert_eq!(Side::of(OsStr::new(host)), Side::Host(OsStr::new(host)), "{host}");
        }
        assert_eq!(Side::of(OsStr::new("-")), Side::Stream);
    }
}
