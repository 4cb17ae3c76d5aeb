//! `aj resume`.

use clap_complete::engine::ArgValueCompleter;

use super::complete;
use super::error::CmdResult;
use super::exit::{self, Exit};
use super::ui::Ui;
use crate::ops::pause;

/// Let a paused jail go on
///
/// One that is not paused is left as it is.
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  aj resume @
  aj resume jl-7k3m")]
pub struct Args {
    /// The jail: its id, the start of one, `@` for the newest, or the name of a workspace
    #[arg(value_name = "JAIL", add = ArgValueCompleter::new(complete::jails))]
    jail: String,
}

/// Run the command.
pub fn run(ui: &Ui, args: Args) -> CmdResult {
    let done = pause::resume(&args.jail, ui)?;
    if ui.json {
        ui.document(&done);
    } else if done.changed {
        ui.status(&format!("{} goes on", done.jail_id));
    } else {
        ui.status(&format!("{} is not paused", done.jail_id));
    }
    Ok(Exit(exit::OK))
}
