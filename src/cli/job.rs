//! `aj job`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap_complete::engine::ArgValueCompleter;

use super::complete;
use super::error::{self, CmdResult, CommandError};
use super::exit::{self, Exit};
use super::job_view as view;
use super::policy_flags::PolicyArgs;
use super::ui::Ui;
use crate::base::clock;
use crate::base::id::Id;
use crate::base::name::Name;
use crate::ops::jobs::start::Request;
use crate::ops::jobs::{self as op, kill, list, logs, probe, remove, start, supervise};
use crate::ops::workspaces;
use crate::policy::value;
use crate::schema::job::Status;

mod logs_cmd;
mod start_cmd;

/// Run commands in the background: dev servers, watchers, long builds
///
/// A job is a command in a jail as with `aj exec`, without a terminal and with nothing on its stdin. What it
/// writes is kept in a log. It goes on when this terminal is closed, and ends with its supervisor, a process
/// of its own.
///
/// A job is named by its id, the start of that, or its name (the newest of that name); `@` is the newest.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj job start --name web --ready port:3000 -- npm run dev
  aj job logs web -f
  aj job list
  aj job kill web
  aj job rm web")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    #[command(visible_alias = "new")]
    Start(Box<StartArgs>),
    #[command(visible_alias = "ls")]
    List(ListArgs),
    #[command(visible_alias = "get")]
    Show(ShowArgs),
    Logs(LogsArgs),
    Wait(WaitArgs),
    Kill(KillArgs),
    Restart(RestartArgs),
    #[command(visible_alias = "delete")]
    Rm(RmArgs),
    Group(GroupArgs),
    #[command(hide = true)]
    Supervise(InternalArgs),
    #[command(hide = true)]
    Probe(InternalArgs),
}

/// Start a command in the background
///
/// Without WORKSPACE it runs as with `aj exec`: over this project, in a jail and an overlay of its own. With
/// WORKSPACE it runs in that workspace. Prints the id of the job once the command runs; with --ready, once it
/// is ready. When the command cannot be started, nothing is left of the job, and the exit code is that of
/// `aj exec`. When it was not ready in time it is ended (exit code 124), and when it ended before it was ready
/// the exit code is 1; then the job is kept, with its log.
///
/// --ready port:3000 waits until something in the jail listens on that TCP port, http:3000/path (or
/// http://localhost:3000/path) until a GET of that path over the jail's loopback is answered with 2xx or 3xx,
/// http:/path the same on any port that is listened on, and log:REGEX until a line of
/// its output matches.
///
/// With --restart on-failure a command that ends with another code than 0, or is killed by something else than
/// `aj job kill`, is started again in a new jail: after 100ms, then twice as long each time, 30s at most; after
/// ten failures in a row, or N, no more. A run of ten seconds ends a row. With --ready it is not ready until it
/// is so once more. One whose time is up (--timeout) has ended as it was meant to, and is not started again.
///
/// Settings are kept with the job, for `aj job restart`; variables that are copied from here (`-e NAME`) are
/// copied anew then.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj job start -- npm run dev
  aj job start api --name web --ready port:3000 --ready-timeout 1m -- npm run dev
  aj job start --group ci --timeout 10m -- make check
  aj job start --restart on-failure:5 -- ./worker
  aj job start --ready http:3000/healthz -- npm start
  id=$(aj job start --ready 'log:listening on' -- ./server)")]
struct StartArgs {
    #[command(flatten)]
    policy: PolicyArgs,
    /// Show only this directory, not the whole project that it belongs to
    #[arg(long, help_heading = "Jail")]
    here: bool,
    /// Show this directory instead of the project
    #[arg(long, value_name = "DIR", conflicts_with = "here", help_heading = "Jail")]
    root_dir: Option<PathBuf>,
    /// Start in this directory of the tree
    #[arg(long, value_name = "DIR", help_heading = "Jail")]
    cwd: Option<PathBuf>,
    /// Run STRING with a shell inside: `--sh 'a | b'`
    #[arg(long, value_name = "STRING", conflicts_with = "command", help_heading = "Jail")]
    sh: Option<OsString>,
    /// Show a directory that is refused otherwise (/, your home)
    #[arg(long, help_heading = "Jail")]
    i_mean_it: bool,
    /// Its name: lower-case letters, digits, `-` and `_`
    #[arg(long, value_name = "NAME", help_heading = "Job")]
    name: Option<Name>,
    /// The group that it belongs to, made when it is new
    #[arg(long, value_name = "GROUP", help_heading = "Job")]
    group: Option<Name>,
    /// Start it again: `no`, `on-failure`, or `on-failure:N` for N times in a row at most
    #[arg(long, value_name = "WHEN", value_parser = restart, default_value = "no", help_heading = "Job")]
    restart: Restart,
    /// When it is ready: `port:3000`, `http:3000/path` or `log:REGEX`
    #[arg(long, value_name = "WHEN", value_parser = condition, help_heading = "Job")]
    ready: Option<crate::ops::jobs::Condition>,
    /// How long that may take
    #[arg(long, value_name = "TIME", value_parser = value::time_value, default_value = "30s", help_heading = "Job")]
    ready_timeout: Duration,
    /// Bytes of the log at most, 1M at least: the oldest goes first
    #[arg(long, value_name = "SIZE", value_parser = log_size, default_value = "64M", help_heading = "Job")]
    log_max: u64,
    /// Run in this workspace (name, id or the start of one)
    #[arg(value_name = "WORKSPACE", value_parser = super::exec::jail(), add = ArgValueCompleter::new(complete::workspaces))]
    workspace: Option<OsString>,
    /// The command and its arguments, untouched
    #[arg(last = true, required_unless_present = "sh", value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// The value of `--restart`.
#[derive(Debug, Clone, Copy)]
struct Restart(Option<u32>);

/// How often a job is started again in a row when nobody said.
const USUAL_RESTARTS: u32 = 10;

fn restart(text: &str) -> Result<Restart, String> {
    let count = |n: &str| n.parse::<u32>().ok().filter(|n| (1..=1_000_000).contains(n));
    match (text, text.strip_prefix("on-failure:")) {
        ("no", _) => Ok(Restart(None)),
        ("on-failure", _) => Ok(Restart(Some(USUAL_RESTARTS))),
        (_, Some(n)) => {
            count(n).map(|n| Restart(Some(n))).ok_or_else(|| "N is a number from 1 on".to_owned())
        }
        _ => Err("write `no`, `on-failure` or `on-failure:5`".to_owned()),
    }
}

fn condition(text: &str) -> Result<op::Condition, String> {
    text.parse::<op::Condition>().map_err(|e| e.to_string())
}

fn log_size(text: &str) -> Result<u64, String> {
    match crate::base::size::parse(text) {
        Ok(bytes) if bytes < op::LEAST_LOG => Err("1M is the least".to_owned()),
        Ok(bytes) if i64::try_from(bytes).is_err() => Err("it is too large".to_owned()),
        Ok(bytes) => Ok(bytes),
        Err(e) => Err(e.to_string()),
    }
}

/// List jobs, newest first
///
/// With -q only full ids are printed, one a line. Piped, columns are separated by tabs and nothing is
/// shortened.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj job list
  aj job list --ws api --status running
  aj job list --group ci --json | jq -r '.jobs[] | select(.exit_code != 0) | .id'")]
struct ListArgs {
    /// Only jobs in this workspace
    #[arg(long, value_name = "WORKSPACE", add = ArgValueCompleter::new(complete::workspaces))]
    ws: Option<OsString>,
    /// Only jobs of this group
    #[arg(long, value_name = "GROUP")]
    group: Option<Name>,
    /// Only jobs with this status; may be repeated
    #[arg(long, value_name = "STATUS", value_delimiter = ',',
          value_parser = PossibleValuesParser::new(Status::ALL.map(Status::as_str)))]
    status: Vec<String>,
    /// At most so many; 0 lists all
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

/// Show one job
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj job show web
  aj job show @ --json | jq .status")]
struct ShowArgs {
    /// The job: id, start of one, name, or `@`
    #[arg(value_name = "JOB", add = ArgValueCompleter::new(complete::jobs))]
    job: OsString,
}

/// Show what a job has written
///
/// Both streams in the order in which they came, on stdout; what aj has to say about the job is on stderr. On
/// a terminal escape sequences are shown as text; in a pipe bytes are as they were.
///
/// The log keeps the last 64M (--log-max). With --json one object is printed, of 4M of output at most:
/// stdout, stderr, exit_code, running, and next_cursor, which --since takes for what comes after it. Output that
/// is no UTF-8 is base64, and `encoding` says so. With -f and --json each piece of output is a line.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj job logs web -f
  aj job logs web --tail 100 --timestamps
  aj job logs @ --stream err
  aj job logs web --json --since 4711 | jq -r .stdout")]
struct LogsArgs {
    /// The job: id, start of one, name, or `@`
    #[arg(value_name = "JOB", add = ArgValueCompleter::new(complete::jobs))]
    job: OsString,
    /// Go on until the job has ended
    #[arg(short, long)]
    follow: bool,
    /// Only what comes after this cursor, the `next_cursor` of an earlier answer
    #[arg(long, value_name = "CURSOR")]
    since: Option<u64>,
    /// Only one of the two streams
    #[arg(long, value_name = "STREAM", value_enum)]
    stream: Option<One>,
    /// Only the last so many lines
    #[arg(short = 'n', long, value_name = "N")]
    tail: Option<u64>,
    /// Begin each line with its time
    #[arg(short, long)]
    timestamps: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum One {
    #[value(alias = "stdout")]
    Out,
    #[value(alias = "stderr")]
    Err,
}

/// Wait for the end of a job
///
/// The exit code is that of its command, as `aj exec` would have returned it; 124 when the time was up, 125
/// when nobody knows how it ended (it is lost). `aj wait` can wait for more.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj job wait @
  aj job wait build --timeout 10m && echo done")]
struct WaitArgs {
    /// The job: id, start of one, name, or `@`
    #[arg(value_name = "JOB", add = ArgValueCompleter::new(complete::jobs))]
    job: OsString,
    /// Wait no longer than this
    #[arg(long, value_name = "TIME", value_parser = value::time_value)]
    timeout: Option<Duration>,
}

/// Send a signal to the command of a job
///
/// To its process group: what it has started itself, but for daemons. A signal that ends programs (TERM, KILL,
/// INT, QUIT, HUP, ABRT) also keeps the job from being started again. Of a jail of its own nothing is left when
/// the command has ended.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj job kill web
  aj job kill web -s KILL
  aj job kill @ -s USR1 --all")]
struct KillArgs {
    /// The job: id, start of one, name, or `@`
    #[arg(value_name = "JOB", add = ArgValueCompleter::new(complete::jobs))]
    job: OsString,
    /// The signal, by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "TERM", value_parser = kill::signal)]
    signal: i32,
    /// To every process that the command has started
    #[arg(long)]
    all: bool,
}

/// Start a job that has ended once more
///
/// With the same settings, in the same directory; its log goes on. One that runs is refused, or ended first.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj job restart web
  aj job restart web --force")]
struct RestartArgs {
    /// The job: id, start of one, name, or `@`
    #[arg(value_name = "JOB", add = ArgValueCompleter::new(complete::jobs))]
    job: OsString,
    /// Kill it first if it runs
    #[arg(short, long)]
    force: bool,
}

/// Remove jobs with their logs
///
/// Exit codes: 3 there is no such job; 5 it runs; 6 some were removed and others not.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj job rm web
  aj job rm --group ci --force
  aj job list --status exited -q | xargs aj job rm")]
struct RmArgs {
    /// The jobs
    #[arg(value_name = "JOB", required_unless_present = "group", add = ArgValueCompleter::new(complete::jobs))]
    jobs: Vec<OsString>,
    /// All jobs of this group
    #[arg(long, value_name = "GROUP", conflicts_with = "jobs")]
    group: Option<Name>,
    /// Kill what runs, and go on when there is no such job
    #[arg(short, long)]
    force: bool,
}

/// Look at groups of jobs, and remove them
///
/// A group is there as long as a job is in it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj job group list
  aj job group rm ci --force")]
struct GroupArgs {
    #[command(subcommand)]
    command: GroupCommand,
}

#[derive(Debug, clap::Subcommand)]
enum GroupCommand {
    /// List groups by name
    #[command(visible_alias = "ls")]
    List,
    /// Remove all jobs of a group
    #[command(visible_alias = "delete")]
    Rm {
        /// The group
        #[arg(value_name = "GROUP")]
        group: Name,
        /// Kill what runs
        #[arg(short, long)]
        force: bool,
    },
}

#[derive(Debug, clap::Args)]
struct InternalArgs {
    job: Id,
    turn: u32,
}

/// Run `aj job`.
pub fn run(ui: &Ui, args: Args) -> CmdResult {
    match args.command {
        Command::Start(args) => start_cmd::start(ui, *args),
        Command::List(args) => list_jobs(ui, args),
        Command::Show(args) => {
            let detail = list::show(&mut op::find(&args.job)?)?;
            if ui.json {
                ui.document(&detail);
            } else {
                ui.out(&view::detail(&detail));
            }
            Ok(Exit(exit::OK))
        }
        Command::Logs(args) => logs_cmd::logs(ui, &args),
        Command::Wait(args) => super::wait::wait(ui, &[args.job], &op::wait::For::Exit, args.timeout),
        Command::Kill(args) => {
            let mut found = op::find(&args.job)?;
            let done = kill::kill(&mut found, args.signal, args.all)?;
            if ui.json {
                ui.document(&done);
            }
            Ok(Exit(exit::OK))
        }
        Command::Restart(args) => start_cmd::report(ui, start::restart(op::find(&args.job)?, args.force)?),
        Command::Rm(RmArgs { group: Some(group), force, .. })
        | Command::Group(GroupArgs { command: GroupCommand::Rm { group, force } }) => {
            match remove::of_group(&group) {
                Ok(all) => rm(ui, all.into_iter().map(Ok), force),
                Err(e @ op::Error::NoGroup(_)) if force => {
                    ui.warn(&e.to_string());
                    rm(ui, std::iter::empty(), force)
                }
                Err(e) => Err(e.into()),
            }
        }
        Command::Rm(RmArgs { jobs, force, .. }) => rm(ui, jobs.iter().map(|word| op::find(word)), force),
        Command::Group(GroupArgs { command: GroupCommand::List }) => {
            let groups = list::groups()?;
            if ui.json {
                ui.document(&groups);
            } else {
                let rows: Vec<_> = groups
                    .groups
                    .iter()
                    .map(|g| vec![g.name.to_string(), g.jobs.to_string(), g.running.to_string()])
                    .collect();
                ui.listing(&["group", "jobs", "running"], &rows);
            }
            Ok(Exit(exit::OK))
        }
        Command::Supervise(args) => {
            supervise::supervise(args.job, args.turn, &start_cmd::Words)?;
            Ok(Exit(exit::OK))
        }
        Command::Probe(args) => {
            probe::probe(args.job, args.turn)?;
            Ok(Exit(exit::OK))
        }
    }
}

fn list_jobs(ui: &Ui, args: ListArgs) -> CmdResult {
    let workspace = args.ws.map(|word| workspaces::find(Some(&word))).transpose()?;
    let filter = list::Filter {
        workspace: workspace.map(|found| found.id()),
        group: args.group,
        status: Status::ALL.into_iter().filter(|s| args.status.iter().any(|a| a == s.as_str())).collect(),
        limit: Some(args.limit).filter(|n| *n > 0),
    };
    let found = list::list(&filter)?;
    if ui.json {
        ui.document(&found);
    } else if ui.quiet > 0 {
        found.jobs.iter().for_each(|job| ui.line(job.id.as_str()));
    } else if found.jobs.is_empty() {
        ui.status("no jobs to show");
    } else {
        let rows: Vec<_> =
            found.jobs.iter().map(|j| view::row(j, ui.stdout_is_terminal(), clock::now_ms())).collect();
        ui.listing(&view::HEADERS, &rows);
    }
    Ok(Exit(exit::OK))
}

fn rm(ui: &Ui, all: impl Iterator<Item = Result<op::Found, op::Error>>, force: bool) -> CmdResult {
    let (mut removed, mut failed) = (Vec::new(), Vec::<CommandError>::new());
    for found in all {
        let name = found.as_ref().map(op::Found::name).unwrap_or_default();
        match found.and_then(|found| remove::remove(found, force)) {
            Ok(Some(id)) => {
                ui.status(&format!("removed job `{name}`"));
                removed.push(id);
            }
            Ok(None) if force => ui.warn(&format!("job `{name}` was removed meanwhile")),
            Ok(None) => failed.push(op::Error::Removed(name).into()),
            Err(e @ op::Error::NotFound(_)) if force => ui.warn(&e.to_string()),
            Err(e) => failed.push(e.into()),
        }
    }
    if ui.json {
        ui.document(&view::removed(&removed));
    }
    error::of_several(ui, !removed.is_empty(), failed)
}
