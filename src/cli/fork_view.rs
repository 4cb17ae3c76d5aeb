//! `aj fork compare` and `aj fork rm`.

use std::ffi::OsString;

use clap_complete::engine::ArgValueCompleter;

use super::complete;
use super::error::{self, CmdResult, CommandError};
use super::exit::{self, Exit};
use super::ui::Ui;
use super::workspace_view as view;
use crate::base::name::Name;
use crate::base::text;
use crate::ops::workspaces::{change, compare, fork};
use crate::schema::fork::{Compared, Failed, Path};

/// Show what forks of one workspace have changed, side by side
///
/// Changes are told against what the forks have in common: the directory they lie over and the layers that all
/// stand on. One column a fork: `A` added, `M` modified, `m` other permission bits alone, `T` another kind of
/// file, `D` deleted, `.` unchanged, `?` not readable here; `=` and the name of an earlier fork when that has the same there. What
/// they have in their homes and in /output is told by its path inside. Of what runs meanwhile, something may be half written.
///
/// Given one workspace that has forks, all of these are compared.
///
/// Exit codes: 2 they do not lie over one directory; 3 no such workspace, or it has no forks; 6 a part could not be
/// read, and the rest was compared.
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  aj fork compare api
  aj fork compare api-1 api-2
  aj fork compare api --json | jq -r '.paths[] | select(.differ).path'")]
pub(super) struct CompareArgs {
    /// The forks, or the workspace that they are forks of
    #[arg(value_name = "WORKSPACE", required = true, add = ArgValueCompleter::new(complete::workspaces))]
    workspaces: Vec<OsString>,
    /// Only paths that are not the same in all of them
    #[arg(long)]
    differing: bool,
}

/// Remove all forks that were made together, with everything in them
///
/// They are named by what their names have before the number (`api` for api-1, api-2 and so on; `try` after
/// `--name try`), or by the group that `--json` tells. Only forks are removed, never the workspace that they are
/// forks of. What was never promoted or applied is gone for good.
///
/// Exit codes: 3 there are no such forks; 5 something runs in one of them, and none is removed; 6 some were
/// removed and others not.
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  aj fork rm api
  aj fork rm try --keep try-2
  aj fork rm api --force")]
pub(super) struct RmArgs {
    /// What their names begin with, or their group
    #[arg(value_name = "FORKS", required = true)]
    forks: Vec<String>,
    /// Not this one; may be repeated
    #[arg(long, value_name = "FORK", add = ArgValueCompleter::new(complete::workspaces))]
    keep: Vec<Name>,
    /// End what runs in them
    #[arg(short, long)]
    force: bool,
}

pub(super) fn compare(ui: &Ui, args: &CompareArgs) -> CmdResult {
    let mut compared = compare::compare(&args.workspaces)?;
    if args.differing {
        compared.paths.retain(|path| path.differ);
    }
    if ui.json {
        ui.document(&compared);
        return partly(&compared);
    }
    for fork in compared.forks.iter().filter(|fork| fork.running) {
        ui.warn(&format!("something runs in `{}`: what it writes now may be seen by half", fork.name));
    }
    if !compared.complete {
        ui.warn("there are more changes than are compared: look at one fork with `aj diff FORK`");
    }
    let mut headers: Vec<&str> = compared.forks.iter().map(|fork| fork.name.as_str()).collect();
    headers.push("PATH");
    let rows: Vec<Vec<String>> = compared.paths.iter().map(|path| row(&compared, path)).collect();
    if rows.is_empty() {
        ui.status("nothing to show");
    } else {
        ui.table(&headers, &rows);
    }
    let differing = compared.paths.iter().filter(|path| path.differ).count();
    let all: Vec<String> =
        compared.forks.iter().map(|fork| format!("{} changed {}", fork.name, fork.changes)).collect();
    let differ = match compared.forks.len() {
        0 | 1 => String::new(),
        _ => format!("; {differing} are not the same in all"),
    };
    ui.status(&format!("{}{differ}", all.join(", ")));
    partly(&compared)
}

/// Not well done when something could not be looked at.
fn partly(compared: &Compared) -> CmdResult {
    let Some(first) = compared.failed.first() else { return Ok(Exit(exit::OK)) };
    let of = |failed: &Failed| match &failed.fork {
        Some(fork) => format!("`{}` of `{fork}`", failed.name.path),
        None => format!("`{}` of what they have in common", failed.name.path),
    };
    let message = match compared.failed.len() {
        1 => format!("{} could not be compared", of(first)),
        n => format!("{n} directories could not be compared, {} for example", of(first)),
    };
    let causes = compared.failed.iter().map(|failed| format!("{}: {}", of(failed), failed.reason)).collect();
    let error = CommandError::new(exit::PARTIAL, "partly_failed", message);
    Err(CommandError { causes, ..error }.hint("`aj exec FORK -- chmod u+rx DIRECTORY` lets it be read"))
}

fn row(compared: &Compared, path: &Path) -> Vec<String> {
    let mut cells: Vec<String> = path
        .forks
        .iter()
        .zip(&compared.forks)
        .map(|(side, fork)| {
            let letter = match side.status {
                "added" => "A",
                "deleted" => "D",
                "modified" => "M",
                "mode_changed" => "m",
                "type_changed" => "T",
                "unknown" => "?",
                _ => ".",
            };
            match letter != "." && side.same_as != fork.name && letter != "D" {
                true => format!("{letter} = {}", side.same_as),
                false => letter.to_owned(),
            }
        })
        .collect();
    cells.push(path.name.path.clone());
    cells
}

pub(super) fn rm(ui: &Ui, args: &RmArgs) -> CmdResult {
    let mut found = Vec::new();
    for word in &args.forks {
        found.extend(fork::meant(word, &args.keep)?);
    }
    found.dedup_by_key(|found| found.id());
    if !args.force {
        // All or none: a part of them would be nobody's wish.
        change::refuse_used(&found)?;
    }
    let (mut removed, mut failed) = (Vec::new(), Vec::<CommandError>::new());
    for one in found {
        match change::remove(one, args.force, ui) {
            Ok(gone) => {
                ui.status(&format!("removed workspace `{}`", gone.workspace.name));
                removed.push(gone);
            }
            Err(e) => failed.push(e.into()),
        }
    }
    if removed.is_empty() && failed.is_empty() {
        ui.status(&format!(
            "nothing to remove of `{}`",
            text::brief(&text::printable(args.forks.join(" ").as_bytes()))
        ));
    }
    if ui.json {
        ui.document(&view::removed(&removed));
    }
    error::of_several(ui, !removed.is_empty(), failed)
}
