//! `aj search`.

use std::ffi::{OsStr, OsString};

use clap_complete::engine::ArgValueCompleter;

use super::changes::Page;
use super::complete;
use super::error::{CmdResult, CommandError};
use super::exit::{self, Exit};
use super::files::warn_if_running;
use super::ui::Ui;
use crate::base::text;
use crate::ops::files::Target;
use crate::ops::files::search::{Query, search};
use crate::schema::files::{Found, Line};

const EXAMPLES: &str = "\
Examples:
  aj search @ 'fn main'
  aj search api -i todo -g '*.rs' -C 2 src
  aj search @ --fixed 'a.b(c)' --max 20
  aj search @ --json 'TODO|FIXME' | jq -r 'select(.type == \"match\") | .path'";

/// Search the files of a workspace for a pattern, without starting a jail
///
/// WS is a workspace, or a jail whose changes are kept (`jl-…` or `@`). PATTERN is a regular expression
/// (Rust's syntax: no look-around, and no pattern can take for ever), matched against each line. What
/// `.gitignore`, `.ignore` and `.git/info/exclude` name is left out, as are names that begin with a dot and
/// files with a NUL byte; nothing on the host but the workspace's own files is asked. -g chooses files as in
/// a `.gitignore` turned round: `-g '*.rs'` only those, `-g '!*.min.js'` all but those.
///
/// Links are not followed. While a jail is at work in it, files may be half written.
///
/// Exit codes: 0 found; 1 nothing found; 2 usage; 3 no such workspace or path; 6 some files could not be
/// read. --json prints one object a line, of `type` `match`, `context`, `failed` and at last `summary`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// A workspace, or a jail whose changes are kept (`jl-…`, `@` for the newest of this project)
    #[arg(value_name = "WS", add = ArgValueCompleter::new(complete::places))]
    ws: OsString,
    /// What to search for
    #[arg(value_name = "PATTERN", allow_hyphen_values = true)]
    pattern: String,
    /// Files and directories in it
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    /// Only files that this chooses, or with `!` all others; may be repeated
    #[arg(short, long, value_name = "GLOB")]
    glob: Vec<String>,
    /// In either case
    #[arg(short, long)]
    ignore_case: bool,
    /// Show so many lines on either side
    #[arg(short = 'C', long, value_name = "N", default_value_t = 0)]
    context: u16,
    /// At most so many matching lines
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// PATTERN is a text
    #[arg(short = 'F', long)]
    fixed: bool,
    /// Names that begin with a dot, too
    #[arg(long)]
    hidden: bool,
    /// What ignore files name, too
    #[arg(long)]
    no_ignore: bool,
    /// Print the names of the files only
    #[arg(short = 'l', long)]
    files: bool,
}

/// How matches are shown.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// Lines around them are asked for.
    context: bool,
    /// Names only.
    files: bool,
}

/// Run the command.
pub fn run(ui: &Ui, args: Args) -> CmdResult {
    let shown = Shown { context: args.context > 0, files: args.files };
    let query = Query {
        pattern: args.pattern,
        fixed: args.fixed,
        ignore_case: args.ignore_case,
        globs: args.glob,
        context: args.context.into(),
        max: args.max,
        hidden: args.hidden,
        no_ignore: args.no_ignore,
    };
    answer(ui, (&args.ws, &args.paths), &query, &shown)
}

/// Search and show what was found.
pub(super) fn answer(ui: &Ui, at: (&OsStr, &[OsString]), query: &Query, shown: &Shown) -> CmdResult {
    let (ws, paths) = at;
    let target = Target::read(ws, ui)?;
    warn_if_running(ui, &target);
    let (mut page, mut last) = (Page::new(ui), None::<(String, u64)>);
    let (matches, all_read) = search(
        &target,
        paths,
        query,
        &mut |found| {
            if ui.json {
                return ui.stream(&found);
            }
            match &found {
                Found::Match(line) if shown.files => {
                    if last.as_ref().is_none_or(|(path, _)| *path != line.name.path) {
                        page.line(&line.name.path);
                    }
                    last = Some((line.name.path.clone(), line.line));
                }
                Found::Match(line) => show(&mut page, line, ':', shown, &mut last),
                Found::Context(line) if !shown.files => show(&mut page, line, '-', shown, &mut last),
                Found::Failed(f) => ui.warn(&format!("{}: {}", f.name.path, f.reason)),
                Found::Context(_) | Found::Version { .. } | Found::Summary { .. } => {}
            }
            !super::ui::stdout_failed()
        },
        ui,
    )?;
    drop(page);
    if !all_read {
        return Err(CommandError::new(exit::PARTIAL, "partly_failed", "some files could not be searched"));
    }
    Ok(Exit(if matches > 0 { exit::OK } else { exit::FAILED }))
}

/// `path:12:text`, with `--` between groups of lines.
fn show(page: &mut Page<'_>, line: &Line, mark: char, shown: &Shown, last: &mut Option<(String, u64)>) {
    let follows = |(path, n): &(String, u64)| *path == line.name.path && n + 1 == line.line;
    if shown.context && last.as_ref().is_some_and(|last| !follows(last)) {
        page.line("--");
    }
    *last = Some((line.name.path.clone(), line.line));
    // A line that the jail wrote must not control the terminal.
    let text = text::printable_lines(line.text.as_bytes());
    page.line(&format!("{}{mark}{}{mark}{text}", line.name.path, line.line));
}
