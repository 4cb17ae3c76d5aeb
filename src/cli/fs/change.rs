//! The commands that change something.

use std::ffi::OsString;

use super::super::error::{CmdResult, CommandError};
use super::super::exit::{self, Exit};
use super::super::files::partial;
use super::super::ui::Ui;
use super::Which;
use crate::ops::files::Target;
use crate::ops::files::order::{Answer, Order};
use crate::ops::files::replace::{self, Replacement};
use crate::ops::files::write::{DIR_MODE, Writing};
use crate::schema::files::Done;

/// Permission bits, octal.
pub(in crate::cli) fn parse_mode(text: &str) -> Result<u32, String> {
    let bad = || "write it as octal digits, like `644`; setuid, setgid and sticky are not given".to_owned();
    let mode = u32::from_str_radix(text, 8).map_err(|_| bad())?;
    if mode > 0o777 { Err(bad()) } else { Ok(mode) }
}

/// Have it carried out, and say what was done.
fn carry_out(ui: &Ui, which: &Which, order: Order) -> CmdResult {
    match order.carry_out(&which.ws, &mut std::io::stdin().lock(), ui)? {
        Answer::Done(done) => show(ui, &done),
        Answer::Replaced(_) | Answer::Copied(_) => Err(unexpected()),
    }
}

/// An answer to another question: a mistake of this program's.
pub(in crate::cli) fn unexpected() -> CommandError {
    CommandError::new(exit::BUG, "internal", "the answer is one to another question")
}

fn show(ui: &Ui, done: &Done) -> CmdResult {
    if ui.json {
        ui.document(done);
        return Ok(Exit(exit::OK));
    }
    for change in &done.changed {
        match change.bytes {
            Some(bytes) => ui.status(&format!("{} `{}` ({bytes} bytes)", change.change, change.name.path)),
            None => ui.status(&format!("{} `{}`", change.change, change.name.path)),
        }
    }
    Ok(Exit(exit::OK))
}

/// Write what comes on stdin to a file
///
/// The file is replaced in one step: whoever reads it sees the old or the new. It keeps its permission
/// bits, and directories on the way are made. With --if-hash it is only written if its content still has
/// that hash, which `write --json` says, or if it is `absent`; otherwise the exit code is 5.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  echo 'hello' | aj fs write @ notes/today.txt
  cat run.sh | aj fs write @ run.sh --mode 755
  date | aj fs write @ log.txt --append
  cat new.txt | aj fs write @ new.txt --if-hash absent")]
pub(super) struct WriteArgs {
    #[command(flatten)]
    which: Which,
    /// The file
    #[arg(value_name = "PATH")]
    path: OsString,
    /// Its permission bits (octal) instead of those that it has
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    mode: Option<u32>,
    /// Add to what is in it
    #[arg(long)]
    append: bool,
    /// Only if the content has this BLAKE3 hash, or is `absent`
    #[arg(long, value_name = "HASH")]
    if_hash: Option<String>,
}

pub(super) fn write(ui: &Ui, args: WriteArgs) -> CmdResult {
    let how = Writing { mode: args.mode, append: args.append, if_hash: args.if_hash };
    carry_out(ui, &args.which, Order::Write { path: args.path, how })
}

/// Make directories
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj fs mkdir @ build
  aj fs mkdir @ -p build/deep/er --mode 700")]
pub(super) struct MkdirArgs {
    #[command(flatten)]
    which: Which,
    /// Directories
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<OsString>,
    /// Those on the way, too; one that is there is fine
    #[arg(short, long)]
    parents: bool,
    /// Permission bits (octal)
    #[arg(long, value_name = "MODE", value_parser = parse_mode, default_value = "755")]
    mode: u32,
}

pub(super) fn mkdir(ui: &Ui, args: MkdirArgs) -> CmdResult {
    let order = Order::Mkdir { paths: args.paths, mode: args.mode, parents: args.parents };
    carry_out(ui, &args.which, order)
}

/// Move a file, a link or a directory
///
/// Into TO, if that is a directory. What comes from the directory below and is moved for the first time
/// is copied, as `mv` in the jail would have to, up to a million entries and half of what is free.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj fs mv @ old.txt new.txt
  aj fs mv @ src/lib.rs attic --no-clobber")]
pub(super) struct MvArgs {
    #[command(flatten)]
    which: Which,
    /// What to move
    #[arg(value_name = "FROM")]
    from: OsString,
    /// Where to
    #[arg(value_name = "TO")]
    to: OsString,
    /// Replace nothing
    #[arg(long)]
    no_clobber: bool,
}

pub(super) fn mv(ui: &Ui, args: MvArgs) -> CmdResult {
    let order = Order::Rename { from: args.from, to: args.to, no_clobber: args.no_clobber };
    carry_out(ui, &args.which, order)
}

/// Remove files, links and, with -r, directories with all that is in them
///
/// An empty directory goes without -r. A link goes, never what it leads to.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj fs rm @ notes.txt
  aj fs rm @ -r target node_modules
  aj fs rm @ -f may-be-there")]
pub(super) struct RmArgs {
    #[command(flatten)]
    which: Which,
    /// What to remove
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<OsString>,
    /// Directories with all that is in them
    #[arg(short, long)]
    recursive: bool,
    /// What is not there is fine
    #[arg(short, long)]
    force: bool,
}

pub(super) fn rm(ui: &Ui, args: RmArgs) -> CmdResult {
    let order = Order::Remove { paths: args.paths, recursive: args.recursive, force: args.force };
    carry_out(ui, &args.which, order)
}

/// Replace a text in files
///
/// Each file is replaced in one step, if the text is in it. With --regex OLD is a regular expression, whose
/// `^` and `$` are those of lines, and NEW may name groups: `$1`, `${name}`, and `$$` for a dollar. The
/// numbers of replacements are printed, one file a line. Files are 64 MiB at most.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj fs replace @ http:// https:// README.md docs/index.md
  aj fs replace @ --regex 'v(\\d+)\\.0' 'v$1.1' version.txt
  aj fs replace @ -n old new src/main.rs")]
pub(super) struct ReplaceArgs {
    #[command(flatten)]
    which: Which,
    /// The text
    #[arg(value_name = "OLD")]
    old: String,
    /// What comes in its place
    #[arg(value_name = "NEW")]
    new: String,
    /// Files
    #[arg(value_name = "FILE", required = true)]
    files: Vec<OsString>,
    /// OLD is a regular expression
    #[arg(long)]
    regex: bool,
    /// Count, and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub(super) fn replace(ui: &Ui, args: ReplaceArgs) -> CmdResult {
    let what = Replacement { old: args.old, new: args.new, pattern: args.regex, dry_run: args.dry_run };
    let done = if args.dry_run {
        let target = Target::read(&args.which.ws, ui)?;
        replace::replace((&target, None), &args.files, &what)?
    } else {
        let order = Order::Replace { paths: args.files, what };
        match order.carry_out(&args.which.ws, &mut std::io::empty(), ui)? {
            Answer::Replaced(done) => done,
            Answer::Done(_) | Answer::Copied(_) => return Err(unexpected()),
        }
    };
    if ui.json {
        ui.document(&done);
    } else {
        for file in &done.files {
            ui.line(&format!("{}\t{}", file.count, file.name.path));
        }
    }
    let some = !done.files.is_empty();
    partial(ui, &done.failed, 0, some, "changed").map_or(Ok(Exit(exit::OK)), Err::<Exit, CommandError>)
}

const _: () = assert!(DIR_MODE == 0o755, "as the help says");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_octal_and_plain() {
        assert_eq!(parse_mode("644"), Ok(0o644));
        assert_eq!(parse_mode("0755"), Ok(0o755));
        for bad in ["", "4755", "8", "u+x", "-1"] {
            assert!(parse_mode(bad).is_err(), "{bad}");
        }
    }
}
