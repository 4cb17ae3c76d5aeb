//! `aj wait`.

use std::ffi::OsString;
use std::time::Duration;

use clap_complete::engine::ArgValueCompleter;

use super::complete;
use super::error::{CmdResult, CommandError};
use super::exit::{self, Exit};
use super::ui::Ui;
use crate::ops::jobs::Condition;
use crate::ops::jobs::wait::{self as op, Exit as Came, For, WaitError};
use crate::policy::value;

/// Wait for jobs and jails
///
/// For their end, or until a job is ready (`--for ready`), or a line of its output matches since it was last
/// started. Prints nothing, or one object with --json.
///
/// The exit code is that of the first that did not go well, in the order of the command line: the code of its
/// command, as `aj exec` would have returned it; 1 when it ended before it was ready; 3 when there is no such job or
/// jail, and nothing was waited for; 124 when the time was up; 125 when nobody knows how it ended.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj wait jb-7k3m
  aj wait web --for ready --timeout 1m
  aj wait web --for 'log:compiled successfully'
  aj wait jl-7k3m jb-7k3n --json")]
pub struct Args {
    /// Jobs (id, start of one, name, or `@`), or jails (`jl-…`)
    #[arg(value_name = "ID", required = true, add = ArgValueCompleter::new(complete::jobs))]
    ids: Vec<OsString>,
    /// What for: `exit`, `ready`, `port:3000`, `http:3000/path` or `log:REGEX`
    #[arg(long = "for", value_name = "WHAT", value_parser = what, default_value = "exit")]
    what: For,
    /// Wait no longer than this, for all of them together
    #[arg(long, value_name = "TIME", value_parser = value::time_value)]
    timeout: Option<Duration>,
}

fn what(text: &str) -> Result<For, String> {
    match text {
        "exit" => Ok(For::Exit),
        "ready" => Ok(For::Ready),
        other => match other.parse::<Condition>() {
            Ok(condition) => Ok(For::Condition(condition)),
            Err(e) => Err(e.to_string()),
        },
    }
}

/// Run `aj wait`.
pub fn run(ui: &Ui, args: Args) -> CmdResult {
    wait(ui, &args.ids, &args.what, args.timeout)
}

pub(super) fn wait(ui: &Ui, ids: &[OsString], what: &For, timeout: Option<Duration>) -> CmdResult {
    let report = op::wait(ids, what, timeout, ui)?;
    if ui.json {
        ui.document(&report.answer);
    }
    let see = |name: &str| format!("see what it wrote: `aj job logs {name}`");
    match report.exit {
        Came::Code(code) => Ok(Exit(code)),
        Came::TimeUp(name, seen) => {
            let message = format!("`{name}` was waited for in vain: the time is up");
            let causes = seen.iter().map(ToString::to_string).collect();
            Err(CommandError { causes, ..CommandError::new(exit::TIMED_OUT, "timed_out", message) })
        }
        Came::Ended(name) => {
            Err(CommandError::new(exit::FAILED, "job_ended", format!("job `{name}` ended before that"))
                .hint(see(&name)))
        }
        Came::Lost(name) => Err(CommandError::new(
            exit::AJ_FAILED,
            "lost",
            format!("nobody knows how `{name}` ended: its aj was killed, or the machine went down"),
        )),
    }
}

impl From<WaitError> for CommandError {
    fn from(e: WaitError) -> CommandError {
        let message = e.to_string();
        match e {
            WaitError::Job(e) => {
                let shown = CommandError::from(e);
                // These commands answer for another program, but for one that there is not.
                match shown.exit {
                    exit::NOT_FOUND => shown,
                    _ => CommandError { exit: exit::AJ_FAILED, ..shown },
                }
            }
            WaitError::NoReady(_) => CommandError::new(exit::AJ_FAILED, "no_ready", message)
                .hint("say what to wait for: `--for port:3000`, `--for http:3000/`, `--for log:REGEX`"),
            WaitError::OnlyEnd(_) => {
                CommandError::new(exit::AJ_FAILED, "usage", message).hint("leave out `--for`")
            }
        }
    }
}
