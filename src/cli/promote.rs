//! `aj promote`.

use std::ffi::OsString;

use clap_complete::engine::ArgValueCompleter;

use super::complete;
use super::error::CmdResult;
use super::exit::{self, Exit};
use super::ui::Ui;
use crate::ops::workspaces::{self as op, promote};

/// Let a workspace have what one of its forks made of it
///
/// The workspace then has the files, the home and the /output of the fork; the fork stays as it is. Nothing
/// is copied. What was written in the workspace since the fork was made, or promoted into it from another,
/// is in the way: it is lost with --overwrite, and nothing happens without.
///
/// Exit codes: 3 no such workspace; 5 one of them is in use, or the workspace has changed since.
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  aj promote api-2
  aj promote api-2 --into api --overwrite")]
pub struct Args {
    /// The fork
    #[arg(value_name = "FORK", add = ArgValueCompleter::new(complete::workspaces))]
    child: OsString,
    /// The workspace; left out, the one that it is a fork of
    #[arg(long, value_name = "WORKSPACE", add = ArgValueCompleter::new(complete::workspaces))]
    into: Option<OsString>,
    /// Lose what the workspace has that the fork has not
    #[arg(long)]
    overwrite: bool,
}

/// Run it.
pub fn run(ui: &Ui, args: Args) -> CmdResult {
    let child = op::find(Some(&args.child))?;
    let into = args.into.as_deref().map(|word| op::find(Some(word))).transpose()?;
    let done = promote::promote(&child, into, args.overwrite)?;
    if ui.json {
        ui.document(&done);
    } else {
        ui.status(&format!("workspace `{}` has what `{}` has", done.workspace.name, child.name()));
    }
    Ok(Exit(exit::OK))
}
