//! `aj workspace`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueHint;
use clap::builder::PossibleValuesParser;
use clap_complete::engine::ArgValueCompleter;

use super::complete;
use super::error::{self, CmdResult, CommandError};
use super::exit::{self, Exit};
use super::policy_flags::PolicyArgs;
use super::ui::Ui;
use super::{workspace_live as live, workspace_view as view};
use crate::base::name::Name;
use crate::base::{clock, text};
use crate::ops::workspaces::{self as op, change, create, fork, list};
use crate::policy::value;
use crate::schema::workspace::{Status, WorkspaceDetail};

/// Manage workspaces: named trees that last, with settings for every command in them
///
/// What one `aj exec NAME -- …` writes to the tree (/workspace, which is a name for the directory that it
/// was made from), to /output and to its home /home/agent, the next one finds. `aj diff NAME` shows what
/// changed and `aj apply NAME` brings it back.
///
/// Commands that run at the same time share one jail: they see the same processes, the same /tmp and the
/// same localhost. It ends with its last process, or with `aj workspace stop`; after `aj workspace start`
/// with that alone.
///
/// A workspace is named by its name, its id or the start of that; `@` is the newest. Left out, the one is
/// meant whose directory the current directory is in.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj workspace create api --from-dir .
  aj exec api -- npm ci
  aj workspace list
  aj workspace rm api")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    #[command(visible_alias = "new")]
    Create(Box<CreateArgs>),
    #[command(visible_alias = "ls")]
    List(ListArgs),
    #[command(visible_alias = "get")]
    Show(ShowArgs),
    Fork(ForkArgs),
    Rename(RenameArgs),
    #[command(visible_alias = "delete")]
    Rm(RmArgs),
    Touch(TouchArgs),
    Set(super::workspace_set::SetArgs),
    Start(live::StartArgs),
    Stop(live::StopArgs),
    Wait(live::WaitArgs),
}

/// Make a workspace
///
/// With --from-dir it lies over that directory of the host as a run of `aj exec` does: commands see it at
/// its own path, what they write stays apart, and what the host changes there later may or may not be
/// seen. With --import it lies over a copy of the directory, at /workspace: nothing that happens there later
/// is seen, and forks share the copy. Blocks are shared with the original where the file system can. Secrets
/// in it are hidden from commands as those of any directory are; fifos, sockets, devices and what is mounted
/// in it are left out and named; everything belongs to the jail's user, without setuid bits. `aj diff` shows
/// what changed since, `aj apply` brings it back into the directory, or into another one (`--to DIR`). With
/// neither it begins empty, at /workspace.
///
/// Flags that say what a command may do are kept and hold for every command in it, below the flags of
/// that command and above `aj.toml` and the user's own configuration.
///
/// Prints the name. Exit codes: 5 there is one of that name already.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj workspace create api --from-dir .
  aj workspace create api --import ~/src/api
  aj workspace create scratch --mem 1G --ttl 2h
  aj ws create --label ci --meta branch=main
  id=$(aj ws create --json | jq -r .id)")]
struct CreateArgs {
    /// Its name: lower-case letters, digits, `-` and `_`; made up when left out
    #[arg(value_name = "NAME")]
    name: Option<Name>,
    /// The directory of the host that it lies over
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    from_dir: Option<PathBuf>,
    /// The directory of the host that it lies over a copy of: what happens there later is not seen
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "from_dir")]
    import: Option<PathBuf>,
    /// Where commands see its tree, instead of at /workspace, which is a link to it then
    #[arg(long, value_name = "PATH", conflicts_with = "from_dir")]
    at: Option<PathBuf>,
    /// How long it lasts (`90m`, `7d`); for ever when left out. Then no command runs in it any more, and it
    /// is removed a day later (`keep.expired` of config.toml)
    #[arg(long, value_name = "TIME", value_parser = lasting)]
    ttl: Option<Duration>,
    /// After how long without being used it is idle: what still runs in it, a server that a command left
    /// behind for example, is stopped; the next command goes on as ever
    #[arg(long, value_name = "TIME", value_parser = lasting)]
    idle: Option<Duration>,
    /// Remove it, with everything in it, when nobody has used it for so long
    #[arg(long, value_name = "TIME", value_parser = lasting)]
    rm_when_idle: Option<Duration>,
    /// A word to find it by; may be repeated
    #[arg(long, value_name = "LABEL")]
    label: Vec<String>,
    /// Something to note about it; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = note)]
    meta: Vec<(String, String)>,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// List workspaces, newest first
///
/// With -q only full ids are printed, one a line. Piped, columns are separated by tabs and nothing is
/// shortened. Workspaces whose records cannot be read are not listed: stderr says so (with --json
/// `unreadable` has them all), and the exit code stays 0.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj workspace list
  aj workspace list --status running --label ci
  aj workspace list --limit 100 --json | jq -r '.next_cursor'")]
struct ListArgs {
    /// Only workspaces with this status; may be repeated
    #[arg(long, value_name = "STATUS", value_delimiter = ',',
          value_parser = PossibleValuesParser::new(Status::ALL.map(Status::as_str)))]
    status: Vec<String>,
    /// Only workspaces with this label; may be repeated
    #[arg(long, value_name = "LABEL")]
    label: Vec<String>,
    /// Only workspaces with this text in the name, the id or the directory, in either case
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// At most so many; 0 lists all
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Those after the end of an earlier list (its `next_cursor`)
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

/// Show one workspace
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj workspace show api
  aj workspace show @ --json | jq .policy")]
struct ShowArgs {
    #[command(flatten)]
    which: Which,
}

/// Make further workspaces that begin with what is in one
///
/// Each has the files, the home and the /output of the workspace as they are now, and its settings, and is
/// on its own from then on: what one writes no other sees. Nothing is copied, however much there is. The
/// directory of the host that they lie over is one and the same, and what happens there is seen in all of
/// them; with --import they lie over a copy of it as it is now, at its path.
///
/// While something runs in it, what was written in it is copied (shared, where the file system can). For the
/// last of that its jail stands still, some milliseconds as a rule and two seconds at most: held by
/// `cgroup.freeze`, the freezer of cgroup v1, or, where neither can be used, by SIGSTOP, which its programs can
/// notice. Sockets come along, but nobody listens on them. A workspace that is paused stays so.
///
/// Prints the names; with --json also how they were made, and their group, which `aj fork rm` takes. Exit
/// codes: 5 the workspace is in use by a reader, or changes faster than it can be copied.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj workspace fork api
  aj workspace fork api -n 4
  aj workspace fork api --name api-try
  aj workspace fork api --import")]
struct ForkArgs {
    #[command(flatten)]
    which: Which,
    /// How many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(fork::MOST)))]
    count: u32,
    /// What they are called: several get a number after it; left out, the name of the workspace with a
    /// number
    #[arg(long, value_name = "NAME")]
    name: Option<Name>,
    /// Copy the directory of the host that the workspace lies over, instead of sharing it
    #[arg(long)]
    import: bool,
}

/// Give a workspace another name
#[derive(Debug, clap::Args)]
#[command(
    allow_missing_positional = true,
    after_long_help = "Examples:
  aj workspace rename calm-otter api
  aj workspace rename @ api
  aj workspace rename api"
)]
struct RenameArgs {
    /// The workspace; left out, the one over this directory
    #[arg(value_name = "WORKSPACE", add = ArgValueCompleter::new(complete::workspaces))]
    workspace: Option<OsString>,
    /// Its new name
    #[arg(value_name = "NAME", required = true)]
    name: Name,
}

/// Remove workspaces with everything in them
///
/// The directories that they lie over are not touched. What was never applied is gone for good.
///
/// Exit codes: 3 there is no such workspace; 5 it is in use; 6 some were removed and others not.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj workspace rm api
  aj workspace rm api web --force
  aj workspace list --label ci -q | xargs aj workspace rm")]
struct RmArgs {
    /// The workspaces; left out, the one over this directory
    #[arg(value_name = "WORKSPACE", add = ArgValueCompleter::new(complete::workspaces))]
    workspaces: Vec<OsString>,
    /// End what runs in them, and go on when there is no such workspace
    #[arg(short, long)]
    force: bool,
}

/// Note that a workspace is in use, so that it does not end of idleness
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj workspace touch api
  aj workspace touch api --for 2h")]
struct TouchArgs {
    #[command(flatten)]
    which: Which,
    /// Keep it so long from now on, whatever `--ttl`, `--idle` and `--rm-when-idle` said
    #[arg(long = "for", value_name = "TIME", value_parser = lasting)]
    for_time: Option<Duration>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// The workspace: its name, its id or the start of that, `@` for the newest; left out, the one over
    /// this directory
    #[arg(value_name = "WORKSPACE", add = ArgValueCompleter::new(complete::workspaces))]
    pub(super) workspace: Option<OsString>,
}

pub(super) fn lasting(text: &str) -> Result<Duration, String> {
    match value::time_limit(text) {
        Ok(Some(time)) => Ok(time),
        Ok(None) => Err("leave the flag out for no limit".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

pub(super) fn note(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{}` is not KEY=VALUE", text::printable(text.as_bytes()))),
    }
}

/// Run `aj workspace`.
pub fn run(ui: &Ui, args: Args) -> CmdResult {
    match args.command {
        Command::Create(args) => create(ui, *args),
        Command::List(args) => list(ui, args),
        Command::Show(args) => show(ui, &args.which),
        Command::Fork(args) => {
            let (found, name) = (op::find(args.which.workspace.as_deref())?, args.name.as_ref());
            let made = match args.import {
                true => fork::fork_with_import(found, args.count, name, &ui.progress())?,
                false => fork::fork(found, args.count, name)?,
            };
            if ui.json {
                ui.document(&made);
            } else {
                made.forks.iter().for_each(|w| ui.line(w.name.as_str()));
            }
            Ok(Exit(exit::OK))
        }
        Command::Rename(args) => {
            let found = op::find(args.workspace.as_deref())?;
            let before = args.workspace.as_deref().map_or_else(|| found.name().to_string(), text::os);
            let done = change::rename(found, &args.name)?;
            ui.status(&format!("workspace `{before}` is called `{}` now", args.name));
            answer(ui, &done)
        }
        Command::Rm(args) => rm(ui, &args),
        Command::Start(args) => live::start(ui, &args),
        Command::Stop(args) => live::stop(ui, &args),
        Command::Wait(args) => live::wait(ui, &args),
        Command::Set(args) => super::workspace_set::run(ui, args),
        Command::Touch(args) => {
            let done = change::touch(op::find(args.which.workspace.as_deref())?, args.for_time)?;
            if let Some(until) = &done.workspace.expires_at {
                ui.status(&format!("workspace `{}` lasts until {until}", done.workspace.name));
            }
            answer(ui, &done)
        }
    }
}

/// The object after a change, for programs.
pub(super) fn answer(ui: &Ui, done: &WorkspaceDetail) -> CmdResult {
    if ui.json {
        ui.document(done);
    }
    Ok(Exit(exit::OK))
}

fn create(ui: &Ui, args: CreateArgs) -> CmdResult {
    let mut meta = BTreeMap::new();
    for (key, value) in args.meta {
        meta.insert(key, value);
    }
    // These flags belong to commands that answer for another program; this one does not.
    let flags = args.policy.into_flags().map_err(|e| CommandError { exit: exit::USAGE, ..e })?;
    let request = create::Request {
        name: args.name,
        from_dir: args.from_dir,
        import: args.import,
        at: args.at,
        flags: flags.layer,
        env_files: flags.env_files,
        gpus: flags.gpus,
        volumes: flags.volumes,
        ttl: args.ttl,
        idle: args.idle,
        rm_when_idle: args.rm_when_idle,
        labels: args.label,
        meta,
    };
    let progress = ui.progress();
    let made = create::create(request, &progress)?;
    drop(progress);
    if ui.json {
        ui.document(&made);
    } else {
        let name = &made.workspace.name;
        ui.line(name.as_str());
        ui.status(&format!("made workspace `{name}`: run something in it with `aj exec {name} -- COMMAND`"));
    }
    Ok(Exit(exit::OK))
}

fn list(ui: &Ui, args: ListArgs) -> CmdResult {
    let filter = list::Filter {
        status: Status::ALL.into_iter().filter(|s| args.status.iter().any(|a| a == s.as_str())).collect(),
        labels: args.label,
        text: args.search,
        limit: Some(args.limit).filter(|n| *n > 0),
        cursor: args.cursor,
    };
    let found = list::list(&filter)?;
    if let Some(first) = found.unreadable.first() {
        let many = super::changes::plural(found.unreadable.len() as u64, "workspace");
        ui.warn(&format!("{many} cannot be read, `{}` for one: {}", first.id, first.error));
    }
    if ui.json {
        ui.document(&found);
    } else if ui.quiet > 0 {
        found.workspaces.iter().for_each(|w| ui.line(w.id.as_str()));
    } else if found.workspaces.is_empty() {
        ui.status("no workspaces to show");
    } else {
        let rows: Vec<_> =
            found.workspaces.iter().map(|w| view::row(w, ui.stdout_is_terminal(), clock::now_ms())).collect();
        ui.listing(&view::HEADERS, &rows);
        if let Some(cursor) = &found.next_cursor {
            ui.status(&format!("there are more: `--limit 0`, or `--cursor {cursor}` for the next"));
        }
    }
    Ok(Exit(exit::OK))
}

fn show(ui: &Ui, which: &Which) -> CmdResult {
    let detail = list::show(&op::find(which.workspace.as_deref())?)?;
    if ui.json {
        ui.document(&detail);
    } else {
        ui.out(&view::detail(&detail));
    }
    Ok(Exit(exit::OK))
}

fn rm(ui: &Ui, args: &RmArgs) -> CmdResult {
    let words: Vec<Option<&OsString>> =
        if args.workspaces.is_empty() { vec![None] } else { args.workspaces.iter().map(Some).collect() };
    let (mut removed, mut failed) = (Vec::new(), Vec::<CommandError>::new());
    for word in words {
        let found = op::find(word.map(OsString::as_os_str));
        match found.and_then(|found| change::remove(found, args.force, ui)) {
            Ok(gone) => {
                ui.status(&format!("removed workspace `{}`", gone.workspace.name));
                removed.push(gone);
            }
            Err(e @ op::Error::NotFound(_)) if args.force => ui.warn(&e.to_string()),
            Err(e) => failed.push(e.into()),
        }
    }
    if ui.json {
        ui.document(&view::removed(&removed));
    }
    error::of_several(ui, !removed.is_empty(), failed)
}
