//! `aj events`.

use super::error::{CmdResult, CommandError};
use super::exit::{self, Exit};
use super::ui::Ui;
use crate::ops::events::{self as op, Error, Timed};
use crate::schema::changes::FORMAT;
use crate::schema::events::{Event, Line};

/// Tell what happens to jails, jobs and workspaces, as JSON lines
///
/// Jails start and end; jobs are started, run, are ready, end and are removed; workspaces are made and removed.
/// The first line says the version of the lines. Without --since there is nothing to tell but with -f, which goes
/// on from now; with both, it tells first what --since does and goes on from there.
///
/// Events are told from records. With -f they come a moment later, and what was made and removed again in that
/// moment is not told. Of the time before, --since tells what there are records of still: jails, and the jobs and
/// workspaces that are there now with their last start and end. Of a job or workspace that was removed before, not
/// even the removal is told.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj events -f
  aj events --since 1h | jq -r 'select(.type == \"jail_ended\") | .jail_id'
  aj events -f --since 10m")]
pub struct Args {
    /// Go on until interrupted
    #[arg(short, long, required_unless_present = "since")]
    follow: bool,
    /// From then on: `2h`, `2026-11-21`, `2026-11-21T14:05:00Z`
    #[arg(long, value_name = "TIME", value_parser = super::jail::parse_time)]
    since: Option<u64>,
}

/// Run `aj events`.
pub fn run(ui: &Ui, args: Args) -> CmdResult {
    let mut seq = 0;
    let mut tell = |(time, event): Timed| {
        let line = Line { seq, time, event };
        seq += 1;
        ui.stream(&line)
    };
    if tell((None, Event::Version { format_version: FORMAT })) {
        op::events(args.since, args.follow, ui, &mut tell)?;
    }
    Ok(Exit(exit::OK))
}

impl From<Error> for CommandError {
    fn from(e: Error) -> CommandError {
        match e {
            Error::Ledger(e) => e.into(),
            Error::Jobs(e) => e.into(),
            Error::Workspaces(e) => e.into(),
            Error::State(e) => super::state::error(&e),
        }
    }
}
