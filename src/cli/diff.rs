//! `aj diff`.

use std::ffi::OsString;

use super::changes::{Here, Page, plural, summary};
use super::error::{CmdResult, CommandError};
use super::exit::{self, Exit};
use super::ui::Ui;
use crate::base::text;
use crate::ops::changes::{self, Chosen, DiffOptions, To, Tree};
use crate::schema::changes::{Change, Diff};

const EXAMPLES: &str = "\
Examples:
  aj diff                    what the newest jail over this directory changed
  aj diff @ src              what the newest kept run here changed, below src only
  aj diff jl-7k3m --stat     numbers only
  aj diff api                what differs in the workspace `api` from its directory
  aj diff --patch >my.patch  to look through, or for `git apply`
  aj diff --json | jq -r '.changes[].path'";

/// Show what a jail changed in its copy of the directory
///
/// Compares the changes kept from `aj exec` with the directory as it is now. Letters: A added,
/// M modified, m other permissions only, T another type, D deleted. Files that the host would run or
/// obey (git hooks and configuration, editor tasks, shell start files, package scripts, build and CI
/// files) are listed apart with the reason: `aj apply` brings them back only with
/// --allow-exec-files. Nothing is changed.
///
/// With the name or the id of a workspace, the changes in that are meant: all that differ from its
/// directory, or all of one that began empty.
///
/// Without a jail the newest one over this directory (or one above it) whose changes are kept is meant;
/// (where none is kept, the workspace over it); `@` is the newest kept of this project, as in `aj exec @`. A jail that went on in the changes of
/// another (`aj exec JAIL -- COMMAND`) stands for those of both. A first word without `jl-` is a path
/// where there is such a path, and otherwise the start of an id, of four characters at least. Paths are
/// shown and taken from the current directory; in JSON they are below `base`. Those in a part of the
/// project that lies elsewhere (the git directory that a linked worktree or a submodule shares, `parts`
/// in JSON) are absolute, in both. Of a jail that is still running, what it has written so far is
/// shown, and stderr says so.
///
/// --patch prints what differs line by line, in the form of `git diff`, with paths below the project's
/// directory. On stderr it says what a patch cannot hold: the contents of binary files and of those larger than
/// 16 MiB, empty directories, and everything in a git directory.
///
/// Exit codes: 0 also when nothing changed; 3 no such jail, no changes kept, or no such path.
#[derive(clap::Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// A jail (id, start of one, or `@` for the newest kept of this project) or a workspace (name or id),
    /// then paths to keep to
    #[arg(value_name = "JAIL|WORKSPACE|PATH")]
    arguments: Vec<OsString>,
    /// Print numbers only
    #[arg(long, conflicts_with = "name_only")]
    stat: bool,
    /// Print a patch for `git apply`
    #[arg(short = 'p', long, conflicts_with_all = ["name_only", "stat"])]
    patch: bool,
    /// Print paths only
    #[arg(long)]
    name_only: bool,
    /// With --name-only: end each path with a NUL byte and do not escape it
    #[arg(short = 'z', long, requires = "name_only")]
    null: bool,
}

/// Run the command.
pub fn run(ui: &Ui, args: Args) -> CmdResult {
    let Chosen { tree, only, here, .. } = changes::choose(&args.arguments, To::Base, ui)?;
    let here = Here::new(here);
    if tree.running {
        let what = if tree.id.as_str().starts_with("ws-") { "workspace" } else { "jail" };
        let seen = match tree.in_memory {
            true => "is in its memory until it ends (storage memory), and not told here",
            false => "may be half written",
        };
        ui.warn(&format!("{what} `{}` is still running: what it writes {seen}", tree.id));
    }
    let diff = changes::diff(&tree, &DiffOptions { only })?;
    if args.patch && ui.json {
        let message = "a patch is no JSON: it may hold any bytes";
        return Err(CommandError::new(exit::USAGE, "usage", message).hint("leave out `--json`"));
    }
    if args.patch {
        patch(ui, &tree, &diff, &here)?;
    } else if ui.json {
        ui.document(&diff);
    } else if args.stat {
        stat(ui, &diff);
    } else if args.name_only {
        names(ui, &diff, &here, args.null);
    } else {
        show(ui, &diff, &here);
    }
    Ok(Exit(exit::OK))
}

fn show(ui: &Ui, diff: &Diff, here: &Here) {
    let mut page = Page::new(ui);
    let executed = |c: &&Change| c.host_executed.is_some();
    for c in diff.changes.iter().filter(|c| !executed(c)) {
        page.line(&here.line(c));
    }
    let heading = "Run or obeyed by the host, left out by `aj apply` without --allow-exec-files:";
    page.section(heading, diff.changes.iter().filter(executed).map(|c| here.line(c)));
    page.section("Not compared:", diff.skipped.iter().map(|s| here.skipped(s)));
    drop(page);
    if diff.truncated > 0 {
        ui.warn(&format!(
            "{} more not shown; name a path to see them",
            plural(diff.truncated, "entry's line")
        ));
    }
    let mut text = summary(&diff.totals);
    if diff.totals.changes > 0 && !diff.running {
        text.push_str(&format!("; keep them with `aj apply {}`", diff.tree));
    }
    ui.status(&text);
}

fn patch(ui: &Ui, tree: &Tree, diff: &Diff, here: &Here) -> Result<(), CommandError> {
    let safe = ui.stdout_is_terminal();
    let mut write = |bytes: &[u8]| match safe {
        true => ui.out(&text::printable_lines(bytes)),
        false => drop(ui.bytes(bytes)),
    };
    let left = changes::patch(tree, diff, &mut write)?;
    let said = [
        (left.git, "in a git directory"),
        (left.directories, "that is an empty directory"),
        (left.large, "larger than 16 MiB (named only)"),
        (left.unknown, "that could not be read"),
    ];
    for (left, what) in said.iter().filter(|(left, _)| left.count > 0) {
        let example = if left.count == 1 { "" } else { " for example" };
        let why = left.why.as_ref().map_or_else(String::new, |e| format!(": {e}"));
        ui.warn(&format!(
            "not in the patch: {} {what}: `{}`{example}{why}",
            plural(left.count, "change"),
            text::printable(&left.first)
        ));
    }
    for skipped in &diff.skipped {
        ui.warn(&format!("not in the patch: {}", here.skipped(skipped)));
    }
    if diff.truncated > 0 {
        let more = plural(diff.truncated, "change");
        ui.warn(&format!("not in the patch: {more} beyond what one answer lists; name a path to have them"));
    }
    Ok(())
}

fn stat(ui: &Ui, diff: &Diff) {
    let t = &diff.totals;
    let rows = [
        ("added", t.added),
        ("modified", t.modified),
        ("mode_changed", t.mode_changed),
        ("type_changed", t.type_changed),
        ("deleted", t.deleted),
        ("deleted_below", t.deleted_below),
        ("host_executed", t.host_executed),
        ("conflicts", t.conflicts),
        ("skipped", t.skipped),
        ("bytes", t.bytes),
    ];
    let rows: Vec<Vec<String>> = rows.iter().map(|(k, n)| vec![(*k).to_owned(), n.to_string()]).collect();
    ui.table(&["what", "number"], &rows);
}

fn names(ui: &Ui, diff: &Diff, here: &Here, null: bool) {
    if !null {
        let mut page = Page::new(ui);
        for c in &diff.changes {
            page.line(&text::printable(&here.path(c)));
        }
        return;
    }
    let mut bytes = Vec::new();
    for c in &diff.changes {
        bytes.extend_from_slice(&here.path(c));
        bytes.push(0);
    }
    ui.bytes(&bytes);
}
