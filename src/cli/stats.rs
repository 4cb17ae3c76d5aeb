//! `aj stats`.

use std::time::Duration;

use clap_complete::engine::ArgValueCompleter;

use super::complete;
use super::error::CmdResult;
use super::exit::{self, Exit};
use super::jail::parse_time;
use super::ui::Ui;
use crate::base::{duration, size};
use crate::ops::stats::{self as op, Request};
use crate::schema::stats::{Group, Stats, Sum};

/// Add up what ran: runs, failures, processor time, memory
///
/// Over the whole ledger, a time, or the jails that are named. `failed` are commands that exited with another
/// code than 0 and those that could not be started; `other` were killed, interrupted or lost. Wall times are
/// added up, also of jails that ran beside each other; memory is the most that one of them had. What a jail uses
/// is known when it has ended: `aj top` shows those that run.
#[derive(clap::Args, Debug)]
#[command(after_long_help = "Examples:
  aj stats
  aj stats --since 7d --by day
  aj stats --by program --since 2h
  aj stats @ --json | jq .total.user_ms")]
pub struct Args {
    /// These jails only: ids, starts of ids, or `@` for the newest
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::jails))]
    jails: Vec<String>,
    /// Only jails started since then: `2h`, `2026-11-21`, `2026-11-21T14:05:00Z`
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<u64>,
    /// Only jails started before then
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<u64>,
    /// Sort them into parts
    #[arg(long, value_name = "WHAT", value_enum)]
    by: Option<By>,
}

#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    // No doc comments: clap would print them, and the words say it.
    Day,
    Program,
    Preset,
    Kind,
    Dir,
    Jail,
}

impl From<By> for op::By {
    fn from(by: By) -> op::By {
        match by {
            By::Day => op::By::Day,
            By::Program => op::By::Program,
            By::Preset => op::By::Preset,
            By::Kind => op::By::Kind,
            By::Dir => op::By::Dir,
            By::Jail => op::By::Jail,
        }
    }
}

/// Run `aj stats`.
pub fn run(ui: &Ui, args: Args) -> CmdResult {
    let request = Request {
        jails: args.jails,
        since_ms: args.since,
        until_ms: args.until,
        by: args.by.map(Into::into),
    };
    let stats = op::stats(&request, ui)?;
    if ui.json {
        ui.document(&stats);
    } else if stats.total.runs == 0 {
        ui.status("no jails to add up");
    } else {
        let terminal = ui.stdout_is_terminal();
        ui.listing(&HEADERS, &rows(&stats, terminal));
        if stats.kept.jails > 0 {
            let (n, bytes) = (stats.kept.jails, size::human(stats.kept.bytes));
            ui.status(&format!("changes of {n} kept, {bytes}: see `aj jail list`"));
        }
    }
    Ok(Exit(exit::OK))
}

const HEADERS: [&str; 11] =
    ["runs", "running", "ok", "failed", "timed out", "oom", "other", "cpu", "wall", "peak memory", "what"];

/// The parts, and all together as the last.
fn rows(stats: &Stats, people: bool) -> Vec<Vec<String>> {
    let key = |g: &Group| g.key.clone().unwrap_or_else(|| "-".to_owned());
    let mut rows: Vec<_> = stats.groups.iter().map(|g| row(&g.sum, key(g), people)).collect();
    rows.push(row(&stats.total, "total".to_owned(), people));
    rows
}

fn row(sum: &Sum, what: String, people: bool) -> Vec<String> {
    let time = |ms: u64| if people { duration::human(Duration::from_millis(ms)) } else { format!("{ms}ms") };
    let counts = [
        sum.runs,
        sum.running,
        sum.succeeded,
        sum.failed,
        sum.timed_out,
        sum.oom,
        sum.killed + sum.interrupted + sum.lost,
    ];
    let mut cells: Vec<String> = counts.iter().map(u64::to_string).collect();
    cells.push(time(sum.user_ms.saturating_add(sum.system_ms)));
    cells.push(time(sum.wall_ms));
    cells.push(if people { size::human(sum.peak_memory) } else { sum.peak_memory.to_string() });
    cells.push(what);
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_ends_with_the_total() {
        let sum = Sum { runs: 3, succeeded: 1, killed: 1, lost: 1, user_ms: 1500, ..Sum::default() };
        let group = Group { key: None, sum };
        let stats = Stats { total: sum, groups: vec![group], ..Stats::default() };
        let shown = rows(&stats, true);
        assert_eq!(shown[0], ["3", "0", "1", "0", "0", "0", "2", "1.5s", "0ms", "0 B", "-"]);
        assert_eq!(rows(&stats, false)[1][7..], ["1500ms", "0ms", "0", "total"]);
        assert_eq!(shown[0].len(), HEADERS.len());
    }
}
