//! `aj discard`.

use std::ffi::OsString;
use std::io::BufRead;

use clap_complete::engine::ArgValueCompleter;

use super::changes::plural;
use super::complete;
use super::error::{CmdResult, CommandError};
use super::exit::{self, Exit};
use super::ui::Ui;
use crate::base::size;
use crate::ops::discard::{self as op, Which};
use crate::schema::discard::{Discarded, KeptTree};

const EXAMPLES: &str = "\
Examples:
  aj discard @               remove what the newest kept run of this project changed
  aj discard jl-7k3m -y      the same of another, without being asked
  aj discard --all --dry-run
  aj discard --all --yes";

/// Remove the kept changes of jails
///
/// What `aj exec` changed in an overlay is kept to be looked at, applied and gone on in, until it is
/// discarded or newer changes take its place (`keep.trees`, `keep.size` and `keep.age` of config.toml).
/// Removing it changes nothing in the directory that the jail ran over, and cannot be undone: on a
/// terminal it is asked about, elsewhere --yes is needed. Runs that went on in the same changes share
/// them. Changes that a run, `aj diff` or `aj apply` has in use stay.
///
/// Exit codes: 0 all of them were removed, or there were none for --all; 1 nothing could be removed;
/// 2 not confirmed; 3 no such jail, or nothing of it is kept: then nothing is removed; 5 in use; 6 a
/// part was left. With --json the result is on stdout also for 1, 5 and 6, and the error on stderr.
#[derive(clap::Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Jails (ids, starts of some, or `@` for the newest kept of this project)
    #[arg(value_name = "JAIL", required_unless_present = "all", conflicts_with = "all",
          add = ArgValueCompleter::new(complete::kept))]
    jails: Vec<OsString>,
    /// All that is kept, of every directory
    #[arg(long)]
    all: bool,
    /// Show what would be removed and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Warn of jails that there are not, or that keep nothing, and go on
    #[arg(long)]
    ignore_missing: bool,
}

/// Run the command.
pub fn run(ui: &Ui, args: Args) -> CmdResult {
    let which = if args.all { Which::All } else { Which::Of(args.jails) };
    let mut meant = op::choose(&which, ui)?;
    if !args.ignore_missing && !meant.missing.is_empty() {
        return Err(meant.missing.swap_remove(0).into());
    }
    for e in meant.missing {
        ui.warn(&e.to_string());
    }
    if meant.trees.is_empty() {
        ui.status("no changes are kept");
    } else if !args.dry_run && !args.yes {
        confirm(ui, &meant.trees)?;
    }
    let progress = ui.progress();
    let done = op::discard(meant.trees, args.dry_run, &progress)?;
    drop(progress);
    if ui.json {
        ui.document(&done);
    } else {
        show(ui, &done);
    }
    verdict(&done).map_or(Ok(Exit(exit::OK)), Err)
}

/// Ask on a terminal; elsewhere it has to have been said.
fn confirm(ui: &Ui, trees: &[KeptTree]) -> Result<(), CommandError> {
    let what = summary(trees);
    if ui.json || !ui.can_ask() {
        let message = format!("not confirmed: {what} would be removed");
        return Err(CommandError::new(exit::USAGE, "not_confirmed", message)
            .hint("add `--yes`; `--dry-run` shows what would be removed"));
    }
    for tree in trees {
        ui.message(&format!("{}\n", line(tree)));
    }
    ui.message(&format!("aj: remove {what}? [y/N] "));
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(CommandError::new(exit::USAGE, "not_confirmed", "not confirmed: nothing was removed"))
}

/// `the changes of 2 jails (1.5 MiB)`.
fn summary(trees: &[KeptTree]) -> String {
    let bytes: u64 = trees.iter().filter_map(|t| t.bytes).fold(0, u64::saturating_add);
    let what = plural(trees.len() as u64, "jail");
    format!("the changes of {what} ({})", size::human(bytes))
}

fn line(tree: &KeptTree) -> String {
    let bytes = tree.bytes.map_or_else(|| "-".to_owned(), size::human);
    format!("{}  {bytes}  {}", tree.tree, tree.base)
}

fn show(ui: &Ui, done: &Discarded) {
    for tree in &done.discarded {
        ui.line(&line(tree));
    }
    if !done.discarded.is_empty() {
        let verb = if done.dry_run { "would remove" } else { "removed" };
        ui.status(&format!("{verb} {}", summary(&done.discarded)));
    }
}

/// What is wrong with the outcome, if anything.
fn verdict(done: &Discarded) -> Option<CommandError> {
    let some = !done.discarded.is_empty();
    if let Some(first) = done.failed.first() {
        let message = format!("could not remove the changes of `{}`", first.tree);
        let exit = if some { exit::PARTIAL } else { exit::FAILED };
        let causes = done.failed.iter().map(|f| format!("{}: {}", f.tree, f.error)).collect();
        return Some(CommandError { causes, ..CommandError::new(exit, "not_removed", message) });
    }
    let first = done.in_use.first()?;
    let message = match done.in_use.len() {
        1 => format!("the changes of `{}` are in use", first.tree),
        n => format!("the changes of {n} jails are in use, of `{}` for example", first.tree),
    };
    let exit = if some { exit::PARTIAL } else { exit::BUSY };
    Some(
        CommandError::new(exit, "tree_in_use", message)
            .hint("wait until the run in them has ended: `aj jail list --status running`"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::changes::FORMAT;
    use crate::schema::discard::FailedTree;

    fn tree() -> KeptTree {
        KeptTree {
            tree: "jl-0123456789abcdef".parse().unwrap(),
            base: "/p".into(),
            bytes: Some(1536),
            used_at: None,
        }
    }

    #[test]
    fn the_exit_code_tells_how_much_was_removed() {
        let failed = || vec![FailedTree { tree: tree().tree, error: "rmdir `x`: EPERM".into() }];
        let code = |discarded: usize, in_use: usize, failed: Vec<FailedTree>| {
            let done = Discarded {
                format_version: FORMAT,
                dry_run: false,
                discarded: vec![tree(); discarded],
                in_use: vec![tree(); in_use],
                failed,
            };
            verdict(&done).map_or(0, |e| e.exit)
        };
        assert_eq!(code(0, 0, vec![]), 0);
        assert_eq!(code(2, 0, vec![]), 0);
        assert_eq!(code(0, 1, vec![]), 5);
        assert_eq!(code(1, 2, vec![]), 6);
        assert_eq!(code(0, 0, failed()), 1);
        assert_eq!(code(1, 1, failed()), 6);
    }

    #[test]
    fn what_would_go_is_one_line_with_its_size() {
        assert_eq!(line(&tree()), "jl-0123456789abcdef  1.5 KiB  /p");
        assert_eq!(line(&KeptTree { bytes: None, ..tree() }), "jl-0123456789abcdef  -  /p");
        assert_eq!(summary(&[tree(), tree()]), "the changes of 2 jails (3 KiB)");
    }
}
