//! `aj ps`.

use std::ffi::OsString;
use std::time::Duration;

use clap_complete::engine::ArgValueCompleter;

use super::complete;
use super::error::CmdResult;
use super::exit::{self, Exit};
use super::ui::Ui;
use crate::base::{duration, size};
use crate::ops::ps;
use crate::schema::job::OneProcess;

/// Show the processes in jails, and the jobs that they belong to
///
/// Each with its number on this machine and in its jail, its state, processor time since it began, resident
/// memory and command line. Piped, columns are separated by tabs, in milliseconds and bytes. `aj top` shows
/// whole jails.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj ps
  aj ps api
  aj ps --json | jq -r '.processes[] | select(.memory > 1e9) | .pid'")]
pub struct Args {
    /// Only those in this workspace
    #[arg(value_name = "WORKSPACE", add = ArgValueCompleter::new(complete::workspaces))]
    workspace: Option<OsString>,
}

const HEADERS: [&str; 7] = ["pid", "inside", "of", "state", "cpu", "memory", "command"];

/// Run `aj ps`.
pub fn run(ui: &Ui, args: Args) -> CmdResult {
    let found = ps::look(args.workspace.as_deref(), ui)?;
    if ui.json {
        ui.document(&found);
    } else if found.processes.is_empty() {
        ui.status("nothing runs in a jail");
    } else {
        let terminal = ui.stdout_is_terminal();
        ui.listing(&HEADERS, &found.processes.iter().map(|p| row(p, terminal)).collect::<Vec<_>>());
    }
    Ok(Exit(exit::OK))
}

fn row(p: &OneProcess, terminal: bool) -> Vec<String> {
    let of = p.job_id.unwrap_or(p.jail_id);
    let short = |id: &str| id.get(..10).unwrap_or_default().to_owned();
    vec![
        p.pid.to_string(),
        p.pid_inside.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
        if terminal { short(of.as_str()) } else { of.to_string() },
        p.state.clone(),
        if terminal { duration::human(Duration::from_millis(p.cpu_ms)) } else { p.cpu_ms.to_string() },
        if terminal { size::human(p.memory) } else { p.memory.to_string() },
        p.command.clone(),
    ]
}
