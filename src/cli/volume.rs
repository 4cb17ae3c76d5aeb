//! `aj volume`.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap_complete::engine::ArgValueCompleter;

use super::complete;
use super::error::{CmdResult, CommandError};
use super::exit::{self, Exit};
use super::state;
use super::ui::{Ui, human};
use super::workspace::note;
use crate::base::name::Name;
use crate::base::{clock, size, text};
use crate::ops::volumes::{self as op, Error};
use crate::policy::volume::{self, Mount};
use crate::schema::volume::{Attached, Volume, VolumeDetail};

/// Manage volumes: directories that jails share and that last longer than they do
///
/// A volume is a plain directory of aj's. A command sees it with `--vol NAME` at /volumes/NAME, or at
/// another path with `--vol NAME:/path`; a workspace that it is attached to has it in every command. Several
/// jails may have the same volume at once: each sees at once what the others write there, sockets included.
/// What is in it is not among the changes that `aj diff` shows, and `--disk` does not count it. Forks of a
/// workspace have its volumes, the same ones.
///
/// `aj fs list vol:NAME` and `aj cp FILE vol:NAME/PATH` reach its files without a jail.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj volume create data
  aj exec --vol data -- sh -c 'echo kept > /volumes/data/f'
  aj exec --vol data:/srv/data:ro -- ls /srv/data
  aj volume attach api data")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    #[command(visible_alias = "new")]
    Create(CreateArgs),
    #[command(visible_alias = "ls")]
    List(ListArgs),
    #[command(visible_alias = "get")]
    Show(ShowArgs),
    #[command(visible_alias = "delete")]
    Rm(RmArgs),
    Attach(AttachArgs),
    Detach(DetachArgs),
}

/// Make a volume
///
/// Prints the name. Exit codes: 5 there is one of that name already.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj volume create data
  aj volume create --label ci --meta owner=me")]
struct CreateArgs {
    /// Its name: lower-case letters, digits, `-` and `_`; made up when left out
    #[arg(value_name = "NAME")]
    name: Option<Name>,
    /// A word to find it by; may be repeated
    #[arg(long, value_name = "LABEL")]
    label: Vec<String>,
    /// Something to note about it; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = note)]
    meta: Vec<(String, String)>,
}

/// List volumes by name
///
/// With -q only names are printed, one a line.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj volume list
  aj volume list --label ci --json | jq -r '.volumes[].name'")]
struct ListArgs {
    /// Only volumes with this label; may be repeated
    #[arg(long, value_name = "LABEL")]
    label: Vec<String>,
}

/// Show one volume, with its size and where its files lie
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj volume show data
  aj volume show data --json | jq -r .directory")]
struct ShowArgs {
    /// The volume: its name, its id or the start of that
    #[arg(value_name = "VOLUME", add = ArgValueCompleter::new(complete::volumes))]
    volume: String,
}

/// Remove volumes with everything in them
///
/// Exit codes: 3 there is no such volume; 5 a jail, a workspace or another aj has it; 6 some were removed and
/// others not.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj volume rm data
  aj volume rm data models --force")]
struct RmArgs {
    /// The volumes
    #[arg(value_name = "VOLUME", required = true, add = ArgValueCompleter::new(complete::volumes))]
    volumes: Vec<String>,
    /// Take it from workspaces, and from jails that run, which are left with an empty directory; go on when
    /// there is no such volume
    #[arg(short, long)]
    force: bool,
}

/// Give a volume to every later command of a workspace
///
/// A jail that runs in the workspace goes on as it is: the next one has the volume. Of two at one path the
/// later one counts.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj volume attach api data
  aj volume attach api models:/srv/models:ro")]
struct AttachArgs {
    /// The workspace
    #[arg(value_name = "WORKSPACE", add = ArgValueCompleter::new(complete::workspaces))]
    workspace: OsString,
    /// The volume, where it is seen, and whether it is only read
    #[arg(value_name = "NAME[:PATH][:ro]", value_parser = volume::parse,
          add = ArgValueCompleter::new(complete::volumes))]
    volume: Mount,
}

/// Take a volume from a workspace; what is in it stays
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj volume detach api data")]
struct DetachArgs {
    /// The workspace
    #[arg(value_name = "WORKSPACE", add = ArgValueCompleter::new(complete::workspaces))]
    workspace: OsString,
    /// The volume
    #[arg(value_name = "VOLUME", add = ArgValueCompleter::new(complete::volumes))]
    volume: String,
}

/// Run `aj volume`.
pub fn run(ui: &Ui, args: Args) -> CmdResult {
    match args.command {
        Command::Create(args) => create(ui, args),
        Command::List(args) => list(ui, &args),
        Command::Show(args) => {
            let detail = op::show(&args.volume)?;
            if ui.json {
                ui.document(&detail);
            } else {
                ui.out(&page(&detail));
            }
            Ok(Exit(exit::OK))
        }
        Command::Rm(args) => rm(ui, &args),
        Command::Attach(args) => {
            let done = op::attach(&args.workspace, &args.volume)?;
            changed(ui, &done)
        }
        Command::Detach(args) => {
            let done = op::detach(&args.workspace, &args.volume)?;
            changed(ui, &done)
        }
    }
}

fn create(ui: &Ui, args: CreateArgs) -> CmdResult {
    let meta: BTreeMap<String, String> = args.meta.into_iter().collect();
    let made = op::create(args.name, args.label, meta)?;
    if ui.json {
        ui.document(&made);
    } else {
        let name = &made.volume.name;
        ui.line(name.as_str());
        ui.status(&format!("made volume `{name}`: a command sees it with `aj exec --vol {name} -- COMMAND`"));
    }
    Ok(Exit(exit::OK))
}

fn list(ui: &Ui, args: &ListArgs) -> CmdResult {
    let found = op::list(&args.label)?;
    if ui.json {
        ui.document(&found);
    } else if ui.quiet > 0 {
        found.volumes.iter().for_each(|v| ui.line(v.name.as_str()));
    } else if found.volumes.is_empty() {
        ui.status("no volumes to show");
    } else {
        let terminal = ui.stdout_is_terminal();
        let rows: Vec<_> = found.volumes.iter().map(|v| row(v, terminal)).collect();
        ui.listing(&["name", "id", "used", "jails", "workspaces"], &rows);
    }
    Ok(Exit(exit::OK))
}

fn row(v: &Volume, terminal: bool) -> Vec<String> {
    let used = v.used_at.parse::<jiff::Timestamp>().ok().and_then(|t| u64::try_from(t.as_millisecond()).ok());
    let used = used.filter(|_| terminal).map(|ms| human::when(ms, clock::now_ms()));
    vec![
        v.name.to_string(),
        if terminal { v.id.as_str().get(..10).unwrap_or_default().to_owned() } else { v.id.to_string() },
        used.unwrap_or_else(|| v.used_at.clone()),
        if v.in_use { "in use" } else { "-" }.to_owned(),
        if v.workspaces.is_empty() { "-".to_owned() } else { v.workspaces.join(",") },
    ]
}

fn page(detail: &VolumeDetail) -> String {
    let v = &detail.volume;
    let mut rows = vec![
        ("name", v.name.to_string()),
        ("id", v.id.to_string()),
        ("created", v.created_at.clone()),
        ("used", v.used_at.clone()),
        ("in use", if v.in_use { "by a jail that runs" } else { "no" }.to_owned()),
        ("size", detail.bytes.map_or_else(|| "too large to be measured in a moment".to_owned(), size::human)),
    ];
    rows.extend(v.workspaces.iter().map(|name| ("workspace", name.clone())));
    rows.extend((!v.labels.is_empty()).then(|| ("labels", text::printable(v.labels.join(", ").as_bytes()))));
    rows.extend(v.meta.iter().map(|(k, v)| ("meta", text::printable(format!("{k}={v}").as_bytes()))));
    rows.push(("files", detail.directory.clone()));
    rows.iter().map(|(name, value)| format!("{name:9}  {value}\n")).collect()
}

/// What a workspace has now.
fn changed(ui: &Ui, done: &Attached) -> CmdResult {
    if ui.json {
        ui.document(done);
        return Ok(Exit(exit::OK));
    }
    let has = if done.volumes.is_empty() { "no volumes".to_owned() } else { done.volumes.join(", ") };
    ui.status(&format!("workspace `{}` has now: {}", done.workspace, text::printable(has.as_bytes())));
    if done.running {
        ui.warn(&format!(
            "the jail that runs in `{0}` goes on as it is; the next one sees the change: `aj workspace stop {0}`",
            done.workspace
        ));
    }
    Ok(Exit(exit::OK))
}

fn rm(ui: &Ui, args: &RmArgs) -> CmdResult {
    let (mut removed, mut failed) = (Vec::new(), Vec::<CommandError>::new());
    for word in &args.volumes {
        match op::remove(word, args.force, ui) {
            Ok(gone) => {
                ui.status(&format!("removed volume `{}`", gone.volume.name));
                removed.push(gone.volume);
            }
            Err(e @ Error::NotFound(_)) if args.force => ui.warn(&e.to_string()),
            Err(e) => failed.push(e.into()),
        }
    }
    if ui.json {
        ui.document(&serde_json::json!({
            "format_version": crate::schema::changes::FORMAT,
            "removed": removed,
        }));
    }
    let several = failed.len() > 1;
    match failed.pop() {
        None => Ok(Exit(exit::OK)),
        Some(e) if removed.is_empty() && !several => Err(e),
        Some(last) => {
            failed.iter().for_each(|e| ui.error(e));
            let exit = if removed.is_empty() { last.exit } else { exit::PARTIAL };
            Err(CommandError { exit, ..last })
        }
    }
}

impl From<Error> for CommandError {
    fn from(e: Error) -> CommandError {
        match e {
            Error::Workspace(e) => (*e).into(),
            e => shown(&e),
        }
    }
}

/// What is wrong, with a way out.
pub(super) fn shown(e: &Error) -> CommandError {
    let (exit, code) = match e {
        Error::State(e) => return state::error(e),
        Error::NotFound(_) => (exit::NOT_FOUND, "volume_not_found"),
        Error::Ambiguous { .. } => (exit::NOT_FOUND, "volume_ambiguous"),
        Error::Taken { .. } => (exit::BUSY, "volume_exists"),
        Error::Gone { .. } => (exit::NOT_FOUND, "volume_gone"),
        Error::InUse(_) | Error::Attached { .. } | Error::Written(_) => (exit::BUSY, "volume_busy"),
        Error::NotAttached { .. } => (exit::NOT_FOUND, "volume_not_attached"),
        Error::Place { .. } => (exit::USAGE, "volume_place"),
        Error::Record(_) | Error::Damaged { .. } | Error::Attachment(_) => (exit::FAILED, "volume_damaged"),
        Error::Name(_) | Error::Word { .. } => (exit::USAGE, "usage"),
        Error::Workspace(_) => (exit::FAILED, "workspace"),
        Error::Random(_) => (exit::FAILED, "random"),
    };
    let shown = CommandError::new(exit, code, e.to_string());
    match e {
        Error::NotFound(name) if name.parse::<Name>().is_ok() => shown
            .hint("see those that there are: `aj volume list`")
            .hint(format!("or make it: `aj volume create {name}`")),
        Error::NotFound(_) => shown.hint("see those that there are: `aj volume list`"),
        Error::Ambiguous { .. } => shown.hint("write its name, or more of the id"),
        Error::Taken { name, .. } => shown.hint(format!("see that one: `aj volume show {name}`")),
        Error::InUse(name) => shown
            .hint("wait until that has ended: `aj jail list --status running` shows the jails")
            .hint(format!("or take it away from under it: `aj volume rm {name} --force`")),
        Error::Written(_) => shown.hint("try again when that `aj cp` or `aj fs` has ended"),
        Error::Gone { workspace, id } => {
            shown.hint(format!("go on without it: `aj volume detach {workspace} {id}`"))
        }
        Error::Attached { name, workspaces } => shown
            .hint(format!(
                "detach it first: `aj volume detach {} {name}`",
                workspaces.first().map_or("WORKSPACE", String::as_str)
            ))
            .hint(format!("or take it from all of them: `aj volume rm {name} --force`")),
        Error::NotAttached { workspace, .. } => {
            shown.hint(format!("see what it has: `aj workspace show {workspace}`"))
        }
        Error::Place { volume, .. } => {
            shown.hint(format!("show it elsewhere: `--vol {volume}:/srv/{volume}`"))
        }
        Error::Record(_) | Error::Attachment(_) => {
            shown.hint("repair the file by hand; the files lie beside it")
        }
        Error::Damaged { .. }
        | Error::State(_)
        | Error::Name(_)
        | Error::Word { .. }
        | Error::Workspace(_)
        | Error::Random(_) => shown,
    }
}
