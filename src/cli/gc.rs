//! `aj gc`.

use std::time::Duration;

use super::error::{CmdResult, CommandError};
use super::exit::{self, Exit};
use super::policy_flags::{Limit, policy_error};
use super::state;
use super::ui::Ui;
use crate::base::{size, text};
use crate::ops::gc::{self as op, Error, Request};
use crate::policy::value;
use crate::schema::gc::Collected;

/// Clean up: what has expired, and what killed processes left behind
///
/// Expired (--expired): workspaces a day after their --ttl, or once they were not used for as long as
/// --rm-when-idle said; what still runs in workspaces that have expired or are idle is stopped; kept changes
/// beyond `keep.trees`, `keep.size` and `keep.age`; jobs that ended long ago (`keep.logs`); old records
/// (`keep.record_age`, `keep.records`). `aj help policy` has these keys of config.toml.
///
/// Orphans (--orphans): what is half made or half removed, names and sockets that lead nowhere, layers that no
/// workspace stands on, control groups of jails that have ended, files that were set aside a month ago, cached
/// copies that no jail shows.
///
/// Without either it is both. What is in use stays, and so do volumes. What aj did not make is told and left
/// alone. Other commands do a small share of this by themselves.
///
/// Exit codes: 5 another one is at work; 6 something could not be cleaned up.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj gc --dry-run
  aj gc
  aj gc --expired --keep-expired 0s
  aj gc --json | jq .bytes")]
pub struct Args {
    /// What time says
    #[arg(long)]
    expired: bool,
    /// What belongs to nothing any more
    #[arg(long)]
    orphans: bool,
    /// Show what would be removed and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// How long expired workspaces are kept, instead of `keep.expired` of config.toml; `none`: for ever
    #[arg(long, value_name = "TIME", value_parser = time)]
    keep_expired: Option<Limit<Duration>>,
}

fn time(text: &str) -> Result<Limit<Duration>, String> {
    if matches!(text, "0" | "0s") {
        return Ok(Limit(Some(Duration::ZERO)));
    }
    value::time_limit(text).map(Limit).map_err(|e| e.to_string())
}

/// Run the command.
pub fn run(ui: &Ui, args: Args) -> CmdResult {
    let both = !args.expired && !args.orphans;
    let request = Request {
        expired: args.expired || both,
        orphans: args.orphans || both,
        dry_run: args.dry_run,
        keep_expired: args.keep_expired.map(|limit| limit.0),
    };
    let done = op::collect(&request, ui)?;
    if ui.json {
        ui.document(&done);
    } else {
        show(ui, &done);
    }
    let Some(first) = done.failed.first() else { return Ok(Exit(exit::OK)) };
    let verb = if done.dry_run { "looked through" } else { "cleaned up" };
    let message = match done.failed.len() {
        1 => format!("`{}` could not be {verb}", first.name),
        n => format!("{n} things could not be {verb}, `{}` for example", first.name),
    };
    let causes = done.failed.iter().map(|f| format!("{}: {}", f.name, f.error)).collect();
    let error = CommandError::new(exit::PARTIAL, "partly_failed", message);
    Err(CommandError { causes, ..error })
}

fn show(ui: &Ui, done: &Collected) {
    let terminal = ui.stdout_is_terminal();
    let row = |r: &crate::schema::gc::Removed| {
        let bytes =
            r.bytes.map_or_else(|| "-".to_owned(), |n| if terminal { size::human(n) } else { n.to_string() });
        vec![
            r.kind.to_owned(),
            text::printable(r.name.as_bytes()),
            bytes,
            text::printable(r.reason.as_bytes()),
        ]
    };
    let rows: Vec<_> = done.removed.iter().map(row).collect();
    if !rows.is_empty() {
        ui.listing(&["kind", "name", "size", "why"], &rows);
    }
    for odd in &done.unknown {
        ui.warn(&format!("left alone: `{}`: {}", odd.name, text::printable(odd.reason.as_bytes())));
    }
    let verb = if done.dry_run { "would be removed" } else { "removed" };
    match rows.len() {
        // What could not be looked at is told of as well.
        0 if !done.failed.is_empty() => {}
        0 => ui.status("there is nothing to clean up"),
        n => ui.status(&format!(
            "{} {verb}: {}",
            super::changes::plural(n as u64, "thing"),
            size::human(done.bytes)
        )),
    }
}

impl From<Error> for CommandError {
    fn from(e: Error) -> CommandError {
        match &e {
            Error::State(e) => state::error(e),
            Error::Config(e) => policy_error(e, exit::FAILED),
            Error::Busy => {
                CommandError::new(exit::BUSY, "busy", e.to_string()).hint("wait until it has ended")
            }
        }
    }
}

/// The share of another command, once in a while. It is said on stderr what went: it was kept for long, but not
/// for ever.
pub(super) fn share(ui: &Ui) {
    let gone = op::share();
    let of = |kind: &str| -> Vec<String> {
        let names = gone.iter().filter(|r| r.kind == kind).map(|r| text::printable(r.name.as_bytes()));
        names.collect()
    };
    let workspaces = of("workspace");
    if !workspaces.is_empty() {
        ui.status(&format!("removed what had expired: {}", text::brief(&workspaces.join(", "))));
    }
    match of("changes").len() {
        0 => {}
        n => ui.status(&format!(
            "removed the kept changes of {} (`[keep]`)",
            super::changes::plural(n as u64, "run")
        )),
    }
}
