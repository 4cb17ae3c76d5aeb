//! `aj apply`.

use std::ffi::OsString;

use super::changes::{Page, line, plural, skipped, split, summary};
use super::error::{CmdResult, CommandError};
use super::exit::{self, Exit};
use super::ui::Ui;
use crate::ops::changes::{self, ApplyOptions, DiffOptions};
use crate::schema::changes::Applied;

const EXAMPLES: &str = "\
Examples:
  aj apply                   bring back what the newest jail over this directory changed
  aj apply -n                show what would be done
  aj apply @ src docs        a part of what the newest jail of all changed
  aj apply --allow-exec-files .github/workflows";

/// Bring what a jail changed back into the directory
///
/// Each file is replaced in one step; nothing is ever half written, and applying again after an
/// interruption completes the work. When anything to be changed also changed on the host since the
/// jail started, nothing is applied (see --partial and --overwrite). Files that the host would run or
/// obey are left out unless --allow-exec-files is given. Setuid bits, attributes and special files do
/// not come back.
///
/// Exit codes: 0 everything was applied; 1 nothing was, because of conflicts or a failure; 3 no such
/// jail; 4 files that the host would execute were left out; 5 another apply is at work; 6 a part was
/// left out.
#[derive(clap::Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// A jail (id, beginning of one, or `@` for the newest), then paths to keep to
    #[arg(value_name = "JAIL|PATH")]
    arguments: Vec<OsString>,
    /// Show what would be done and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Bring back files that the host would execute as well
    #[arg(long)]
    allow_exec_files: bool,
    /// Apply the rest when some changes are in conflict
    #[arg(long)]
    partial: bool,
    /// Let the jail's version win over changes made on the host meanwhile
    #[arg(long)]
    overwrite: bool,
}

/// Run the command.
pub fn run(ui: &Ui, args: Args) -> CmdResult {
    let (selector, paths) = split(args.arguments);
    let (tree, cwd) = changes::open_tree(selector.as_deref())?;
    let options = ApplyOptions {
        diff: DiffOptions { only: changes::relative(&tree, &cwd, &paths)?, ..DiffOptions::default() },
        dry_run: args.dry_run,
        allow_exec_files: args.allow_exec_files,
        partial: args.partial,
        overwrite: args.overwrite,
    };
    let done = changes::apply(&tree, &options, ui)?;
    finish(ui, &done)
}

/// Show what was done and decide the exit code: also for `aj exec --apply`.
pub fn finish(ui: &Ui, done: &Applied) -> CmdResult {
    let verdict = verdict(done);
    if ui.json {
        ui.document(done);
        return Ok(Exit(verdict.map_or(exit::OK, |e| e.exit)));
    }
    let mut page = Page::new(ui);
    // What conflicts stopped beforehand is no list of things done.
    if done.performed || done.dry_run {
        for c in &done.applied {
            page.line(&line(c));
        }
    }
    let heading = "Left out, the host would run or obey them:";
    page.section(heading, done.withheld.iter().map(line));
    page.section("In conflict:", done.conflicts.iter().map(line));
    page.section("Failed:", done.failed.iter().map(|f| format!("{}: {}", f.path, f.error)));
    page.section("Never applied:", done.skipped.iter().map(skipped));
    drop(page);
    if done.truncated > 0 {
        ui.warn(&format!("{} more not shown", plural(done.truncated, "line")));
    }
    if done.cleaned > 0 {
        let what = plural(done.cleaned, "temporary file");
        ui.status(&format!("removed {what} that an interrupted apply had left"));
    }
    if done.performed {
        ui.status(&format!("applied {} to {}", summary(&done.totals), done.base));
    } else if done.dry_run {
        ui.status(&format!("would apply {} to {}", summary(&done.totals), done.base));
    }
    match verdict {
        Some(error) if !done.dry_run => Err(error),
        _ => Ok(Exit(exit::OK)),
    }
}

/// The same on stderr alone, for `aj exec --apply`, whose stdout is the command's.
pub(super) fn finish_quietly(ui: &Ui, done: &Applied) -> Result<(), CommandError> {
    if done.performed {
        ui.status(&format!("applied {} to {}", summary(&done.totals), done.base));
    }
    for c in done.withheld.iter().chain(&done.conflicts) {
        ui.warn(&format!("not applied: {}", line(c)));
    }
    verdict(done).map_or(Ok(()), Err)
}

/// What is wrong with the outcome, if anything. A dry run is always right.
fn verdict(done: &Applied) -> Option<CommandError> {
    let (id, unknown) = (done.tree, done.skipped.iter().filter(|s| s.unknown).count());
    if done.dry_run {
        return None;
    }
    if !done.performed {
        let what = plural(done.conflicts_total, "change");
        return Some(
            CommandError::new(exit::FAILED, "conflict", format!("nothing was applied: {what} in conflict"))
                .hint(format!("apply the rest with `aj apply {id} --partial`"))
                .hint(format!("let the jail's version win with `aj apply {id} --overwrite`")),
        );
    }
    if !done.failed.is_empty() || done.conflicts_total > 0 || unknown > 0 {
        let nothing = done.totals.changes == 0 && !done.failed.is_empty();
        let exit = if nothing { exit::FAILED } else { exit::PARTIAL };
        let mut message = "not everything was applied".to_owned();
        if done.stopped {
            message = "the work stopped early".to_owned();
        }
        let error = CommandError::new(exit, "partly_applied", message);
        return Some(error.hint(format!("`aj apply {id}` again continues where this one ended")));
    }
    if done.withheld_total > 0 {
        let what = plural(done.withheld_total, "file");
        return Some(
            CommandError::new(
                exit::REFUSED,
                "exec_files_withheld",
                format!("{what} that the host would execute left out"),
            )
            .hint(format!("look at them, then `aj apply {id} --allow-exec-files`")),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::changes::tests::sample;
    use crate::schema::changes::{FORMAT, Failure, Skipped, Totals};

    fn done() -> Applied {
        Applied {
            format: FORMAT,
            tree: "jl-0123456789abcdef".parse().unwrap(),
            base: "/p".into(),
            dry_run: false,
            performed: true,
            applied: vec![sample("a", "added")],
            withheld: vec![],
            conflicts: vec![],
            failed: vec![],
            skipped: vec![],
            totals: Totals { changes: 1, added: 1, ..Totals::default() },
            withheld_total: 0,
            conflicts_total: 0,
            stopped: false,
            cleaned: 0,
            truncated: 0,
        }
    }

    #[test]
    fn the_exit_code_tells_how_much_was_applied() {
        let code = |d: Applied| verdict(&d).map_or(0, |e| e.exit);
        let failure = || vec![Failure { path: "x".into(), error: "write: ENOSPC".into() }];
        assert_eq!(code(done()), 0);
        assert_eq!(code(Applied { withheld_total: 1, ..done() }), 4);
        assert_eq!(code(Applied { conflicts_total: 1, performed: false, ..done() }), 1);
        assert_eq!(code(Applied { conflicts_total: 1, withheld_total: 1, ..done() }), 6);
        assert_eq!(code(Applied { failed: failure(), ..done() }), 6);
        assert_eq!(code(Applied { failed: failure(), totals: Totals::default(), ..done() }), 1);
        let unknown = Skipped { path: "d".into(), reason: "could not be read".into(), unknown: true };
        assert_eq!(code(Applied { skipped: vec![unknown], ..done() }), 6);
        let dry = Applied { dry_run: true, performed: false, conflicts_total: 3, ..done() };
        assert_eq!(code(dry), 0, "a dry run did what was asked");
    }
}
