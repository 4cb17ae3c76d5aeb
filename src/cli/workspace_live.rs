//! `aj workspace start`, `stop` and `wait`.

use std::time::Duration;

use serde_json::json;

use super::error::{CmdResult, CommandError};
use super::exec::failed;
use super::exit::{self, Exit};
use super::ui::Ui;
use super::workspace::{Which, lasting};
use crate::ops::exec::{self as exec, Request, Tty};
use crate::ops::workspaces::{self as op, live};
use crate::schema::changes::FORMAT;

/// Start the jail of a workspace and keep it, with nothing running in it
///
/// Commands in a workspace share one jail: its processes, its /tmp, its localhost. The first command starts
/// it and it ends with the last process; after this, only `aj workspace stop` ends it.
///
/// Exit codes: 0 it runs, now or already; 3 there is no such workspace.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj workspace start api
  aj exec api -- npm run dev &")]
pub(super) struct StartArgs {
    #[command(flatten)]
    which: Which,
}

/// End what runs in a workspace
///
/// Every process gets SIGTERM, and SIGKILL after the grace that the workspace keeps (`--grace`, 2s by
/// default). Its files stay.
///
/// Exit codes: 0 nothing runs in it any more; 3 there is no such workspace.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj workspace stop api
  aj workspace stop api --kill")]
pub(super) struct StopArgs {
    #[command(flatten)]
    which: Which,
    /// SIGKILL at once
    #[arg(short, long)]
    kill: bool,
}

/// Wait until nothing runs in a workspace
///
/// Exit codes: 0 nothing runs in it; 1 `--timeout` was over before; 3 there is no such workspace.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj workspace wait api
  aj workspace wait api --timeout 5m && aj apply api")]
pub(super) struct WaitArgs {
    #[command(flatten)]
    which: Which,
    /// Wait no longer than this
    #[arg(long, value_name = "TIME", value_parser = lasting)]
    timeout: Option<Duration>,
}

/// An error of `ops::exec` in a command that answers for itself.
fn own(e: exec::Error) -> CommandError {
    let e = failed(e);
    if e.exit == exit::AJ_FAILED { CommandError { exit: exit::FAILED, ..e } } else { e }
}

pub(super) fn start(ui: &Ui, args: &StartArgs) -> CmdResult {
    let found = op::find(args.which.workspace.as_deref())?;
    let name = found.name().to_string();
    let request = Request { again: Some(found.id().as_str().into()), tty: Tty::Never, ..Request::default() };
    let (started, warnings) = match exec::open(&request) {
        Ok(done) => done,
        Err(exec::Error::Said(code)) => {
            return Ok(Exit(if code == exit::AJ_FAILED { exit::FAILED } else { code }));
        }
        Err(exec::Error::Holder(report)) => {
            return super::exec::holder_failed(ui, *report);
        }
        Err(e) => return Err(own(e)),
    };
    warnings.iter().for_each(|w| ui.warn(w));
    let what = if started { "started" } else { "runs already, and stays" };
    ui.status(&format!("workspace `{name}` {what}: `aj workspace stop {name}` ends it"));
    answer(ui, &found, "started", started)
}

pub(super) fn stop(ui: &Ui, args: &StopArgs) -> CmdResult {
    let found = op::find(args.which.workspace.as_deref())?;
    let ended = live::stop(&found, args.kill).map_err(own)?;
    let name = found.name();
    ui.status(&if ended {
        format!("stopped workspace `{name}`")
    } else {
        format!("nothing runs in workspace `{name}`")
    });
    answer(ui, &found, "stopped", ended)
}

pub(super) fn wait(ui: &Ui, args: &WaitArgs) -> CmdResult {
    let found = op::find(args.which.workspace.as_deref())?;
    let ended = live::wait(&found, args.timeout).map_err(own)?;
    if !ended {
        ui.status(&format!("workspace `{}` still runs", found.name()));
    }
    answer(ui, &found, "ended", ended)?;
    Ok(Exit(if ended { exit::OK } else { exit::FAILED }))
}

/// What came of it, for programs.
fn answer(ui: &Ui, found: &op::Found, what: &str, done: bool) -> CmdResult {
    if ui.json {
        let mut object = json!({"format_version": FORMAT, "id": found.id(), "name": found.name()});
        object[what] = done.into();
        ui.document(&object);
    }
    Ok(Exit(exit::OK))
}
