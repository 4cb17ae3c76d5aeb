//! `aj pause`, and what can go wrong with it and `aj resume`.

use std::path::PathBuf;

use clap_complete::engine::ArgValueCompleter;

use super::complete;
use super::error::{CmdResult, CommandError};
use super::exit::{self, Exit};
use super::state;
use super::ui::Ui;
use crate::ops::pause::{self as op, Error};

/// Make a running jail stand still, with its memory kept
///
/// Nothing in it runs until `aj resume`, and its --timeout does not count that time. It is held by
/// `cgroup.freeze` where there is cgroup v2, by the freezer of cgroup v1, or, where neither can be used, by
/// SIGSTOP to each process: that is weaker, because its programs can notice and undo it among themselves.
/// A paused jail can still be killed, and ends when its `aj` does.
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  aj pause @
  aj pause api
  aj pause jl-7k3m --json | jq -r .by")]
pub struct Args {
    /// The jail: its id, the start of one, `@` for the newest, or the name of a workspace
    #[arg(value_name = "JAIL", required_unless_present = "guard", add = ArgValueCompleter::new(complete::jails))]
    jail: Option<String>,
    /// Wait for this process to end and thaw a group then (used by aj itself)
    #[arg(long, hide = true, num_args = 2, value_names = ["PID", "GROUP"])]
    guard: Option<Vec<String>>,
}

/// Run `aj pause`.
pub fn run(ui: &Ui, args: Args) -> CmdResult {
    if let Some([pid, group]) = args.guard.as_deref() {
        if let Ok(pid) = pid.parse() {
            op::guard_until(pid, PathBuf::from(group));
        }
        return Ok(Exit(exit::OK));
    }
    let done = op::pause(&args.jail.unwrap_or_default(), ui)?;
    if ui.json {
        ui.document(&done);
        return Ok(Exit(exit::OK));
    }
    let by = done.by.unwrap_or_default();
    let id = &done.jail_id;
    if done.changed {
        ui.status(&format!("paused {id} by {by}: go on with `aj resume {id}`"));
        if by == "SIGSTOP" {
            ui.warn("that is the weaker way, used because no cgroup can be: its programs can notice it, and undo it among themselves");
        }
    } else {
        ui.status(&format!("{id} is paused already"));
    }
    Ok(Exit(exit::OK))
}

impl From<Error> for CommandError {
    fn from(e: Error) -> CommandError {
        let message = e.to_string();
        match e {
            Error::Ledger(e) => e.into(),
            Error::State(e) => state::error(&e),
            Error::NotRunning(_) => CommandError::new(exit::FAILED, "jail_not_running", message)
                .hint("see which do: `aj jail list --status running`"),
            Error::Shared { jail, .. } => CommandError::new(exit::FAILED, "jail_shared", message)
                .hint(format!("pause all of it: `aj pause {jail}`")),
            Error::Freeze { source, .. } => CommandError::new(exit::FAILED, "not_paused", message)
                .caused_by(&source)
                .hint("see what this machine allows: `aj doctor`"),
            Error::Thaw { id, source } => CommandError::new(exit::FAILED, "not_resumed", message)
                .caused_by(&source)
                .hint(format!("try it again: `aj resume {id}`")),
            Error::Guard { .. } => CommandError::new(exit::FAILED, "not_paused", message)
                .hint("try it again when the machine has room for one more process"),
        }
    }
}
