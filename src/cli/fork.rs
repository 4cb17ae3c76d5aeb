//! `aj fork`.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use clap_complete::engine::ArgValueCompleter;
use serde_json::{Value, json};

use super::complete;
use super::error::{CmdResult, CommandError};
use super::exit::{self, Exit};
use super::fork_view::{self, CompareArgs, RmArgs};
use super::ui::Ui;
use crate::base::name::Name;
use crate::base::{duration, text};
use crate::ops::side_by_side::{self, Line};
use crate::ops::workspaces::{self as op, fork};
use crate::schema::changes::FORMAT;
use crate::schema::workspace::Forked;

/// Fork a workspace and run one command in every fork, side by side
///
/// Each line of output begins with the name of the fork; what cannot be printed is escaped. The forks stay
/// as the command leaves them: look at one with `aj diff FORK`, at all of them with `aj fork compare`, let the
/// best become the workspace with `aj promote FORK`, and remove the others with `aj fork rm`.
///
/// What runs in the workspace goes on: it stands still for some milliseconds while what was written is copied.
/// A workspace called `compare` or `rm` is named by its id here.
///
/// With --json one object tells of each fork what `aj exec --json` tells.
///
/// The exit code is 0 when all commands ended with 0, otherwise that of the first fork whose command did
/// not; 125 when aj could not do its part.
#[derive(clap::Args, Debug)]
#[command(
    subcommand_negates_reqs = true,
    after_long_help = "Examples:
  aj fork api -n 4 -- ./try-it
  aj fork compare api
  aj fork rm api
  aj fork api -n 2 --name try --timeout 10m --json -- npm test | jq '.forks[].exit_code'"
)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The workspace
    #[arg(value_name = "WORKSPACE", required = true, add = ArgValueCompleter::new(complete::workspaces))]
    workspace: Option<OsString>,
    /// How many forks
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(fork::MOST)))]
    count: u32,
    /// What they are called: several get a number after it
    #[arg(long, value_name = "NAME")]
    name: Option<Name>,
    /// End each command after this time
    #[arg(long, value_name = "TIME")]
    timeout: Option<String>,
    /// The command and its arguments, untouched
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(clap::Subcommand, Debug)]
enum Verb {
    Compare(CompareArgs),
    #[command(visible_alias = "delete")]
    Rm(RmArgs),
}

/// Run it.
pub fn run(ui: &Ui, args: Args) -> CmdResult {
    // clap's own `args_conflicts_with_subcommands` takes `--json` in front for an argument, too.
    let others = args.workspace.is_some() || args.name.is_some() || args.timeout.is_some() || args.count != 1;
    if args.verb.is_some() && others {
        let said = "`compare` and `rm` come first: what is before them is for `aj fork WORKSPACE -- COMMAND`";
        return Err(CommandError::new(exit::USAGE, "usage", said).hint("see `aj fork --help`"));
    }
    match args.verb {
        Some(Verb::Compare(args)) => return fork_view::compare(ui, &args),
        Some(Verb::Rm(args)) => return fork_view::rm(ui, &args),
        None => {}
    }
    let mut flags: Vec<OsString> = Vec::new();
    if let Some(time) = &args.timeout {
        crate::policy::value::time_limit(time)
            .map_err(|e| CommandError::new(exit::AJ_FAILED, "usage", format!("--timeout: {e}")))?;
        flags.extend(["--timeout".into(), time.into()]);
    }
    if ui.json {
        flags.push("--json".into());
    }
    let failed = |e: CommandError| CommandError { exit: exit::AJ_FAILED, ..e };
    let found = op::find(args.workspace.as_deref()).map_err(|e| failed(e.into()))?;
    let made = fork::fork(found, args.count, args.name.as_ref()).map_err(|e| failed(e.into()))?;
    let names: Vec<&str> = made.forks.iter().map(|w| w.name.as_str()).collect();
    let width = names.iter().map(|n| n.len()).max().unwrap_or(0);
    let mut documents = vec![String::new(); names.len()];
    let began = Instant::now();
    let mut heard = |line: Line| {
        let name = names.get(line.number).copied().unwrap_or_default();
        if ui.json && !line.stderr {
            if let Some(document) = documents.get_mut(line.number) {
                document.push_str(&String::from_utf8_lossy(&line.bytes));
            }
            return true;
        }
        let said = format!("{name:width$} | {}\n", text::printable(&line.bytes));
        if line.stderr { ui.try_err(&said) } else { ui.try_out(&said) }
    };
    let codes = side_by_side::run(&made.forks, (&flags, &args.command), &mut heard).map_err(|e| {
        CommandError::new(exit::AJ_FAILED, "fork_not_started", "could not run the command in the forks")
            .caused_by(&e)
    })?;
    let codes: Vec<u8> =
        codes.into_iter().map(|c| c.and_then(|c| u8::try_from(c).ok()).unwrap_or(125)).collect();
    if ui.json {
        ui.document(&answer(&made, &codes, &documents));
    } else {
        summary(ui, &names, &codes, began.elapsed());
    }
    Ok(Exit(codes.into_iter().find(|code| *code != 0).unwrap_or(exit::OK)))
}

fn summary(ui: &Ui, names: &[&str], codes: &[u8], took: Duration) {
    let one = |(name, code): (&&str, &u8)| match code {
        0 => format!("{name} ended with 0"),
        code => format!("{name} with {code}"),
    };
    let all: Vec<String> = names.iter().zip(codes).map(one).collect();
    ui.status(&format!("{} in {}", all.join(", "), duration::human(took)));
    if let Some(best) = names.iter().zip(codes).find(|(_, code)| **code == 0).map(|(name, _)| name) {
        ui.status(&format!("see what one changed with `aj diff {best}`, keep it with `aj promote {best}`"));
    }
}

fn answer(made: &Forked, codes: &[u8], documents: &[String]) -> Value {
    let one = |((w, code), document): ((&crate::schema::workspace::Workspace, &u8), &String)| {
        let result: Value = serde_json::from_str(document).unwrap_or(Value::Null);
        json!({"name": w.name, "id": w.id, "exit_code": code, "result": result})
    };
    let forks: Vec<Value> = made.forks.iter().zip(codes).zip(documents).map(one).collect();
    json!({"format_version": FORMAT, "parent": made.parent, "group": made.group, "clone_ms": made.clone_ms, "forks": forks})
}
