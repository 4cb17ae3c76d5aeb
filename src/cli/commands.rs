//! The table of commands: name, help group, how to build and how to run each.

use std::ffi::OsStr;

use clap::{Args as _, Command, FromArgMatches as _};

use super::error::CmdResult;
use super::globals::{Globals, Line};
use super::ui::Ui;
use super::{
    apply, completions, config, cp, diff, discard, doctor, events, exec, fork, fs, gc, help, jail, job, man,
    pause, promote, ps, resume, search, shell, stats, top, version, volume, wait, workspace,
};

/// Where `aj --help` lists a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Running commands in jails.
    Run,
    /// Trees that last.
    Workspaces,
    /// Commands in the background.
    Background,
    /// What a run changed.
    Changes,
    /// The files of a tree.
    Files,
    /// What ran.
    Records,
    /// This machine and this program.
    Setup,
    /// Not listed: for packagers.
    Hidden,
}

impl Group {
    /// The groups of `aj --help`, in order, with their headings.
    pub const SHOWN: &[(Group, &str)] = &[
        (Group::Run, "Run"),
        (Group::Workspaces, "Workspaces"),
        (Group::Background, "Background"),
        (Group::Changes, "Changes of a run"),
        (Group::Files, "Files"),
        (Group::Records, "Records"),
        (Group::Setup, "This machine and aj"),
    ];
}

/// One command.
pub struct Entry {
    /// The word after `aj`.
    pub name: &'static str,
    /// Its group in `aj --help`.
    pub group: Group,
    /// Adds its help and arguments to an empty clap command.
    augment: fn(Command) -> Command,
    /// Runs it on what was parsed.
    pub(super) run: fn(&Ui, &clap::ArgMatches) -> CmdResult,
    /// Runs it without clap if its words are plain (see [`super::quick`]).
    pub(super) quick: Option<fn(&Ui, &Line) -> Option<CmdResult>>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("name", &self.name).field("group", &self.group).finish_non_exhaustive()
    }
}

macro_rules! mount {
    ($name:literal, $group:ident, $module:ident) => {
        Entry {
            name: $name,
            group: Group::$group,
            augment: $module::Args::augment_args,
            run: |ui, matches| {
                let args = $module::Args::from_arg_matches(matches).map_err(super::usage::bug)?;
                $module::run(ui, args)
            },
            quick: None,
        }
    };
    ($name:literal, $group:ident, $module:ident, quick) => {
        Entry {
            quick: Some(|ui, line| Some($module::run(ui, $module::QUICK.parse(line.words())?))),
            ..mount!($name, $group, $module)
        }
    };
}

// With a fourth word `quick`, `QUICK` of the module is tried before clap.
/// Every command, in the order of `aj --help`.
pub const ALL: &[Entry] = &[
    mount!("exec", Run, exec, quick),
    mount!("shell", Run, shell),
    mount!("workspace", Workspaces, workspace),
    mount!("volume", Workspaces, volume),
    mount!("fork", Workspaces, fork),
    mount!("promote", Workspaces, promote),
    mount!("job", Background, job),
    mount!("wait", Background, wait),
    mount!("ps", Background, ps),
    mount!("diff", Changes, diff),
    mount!("apply", Changes, apply),
    mount!("discard", Changes, discard),
    mount!("fs", Files, fs),
    mount!("cp", Files, cp),
    mount!("search", Files, search),
    mount!("jail", Records, jail),
    mount!("top", Records, top),
    mount!("stats", Records, stats),
    mount!("events", Records, events),
    mount!("pause", Records, pause),
    mount!("resume", Records, resume),
    mount!("gc", Setup, gc),
    mount!("doctor", Setup, doctor),
    mount!("config", Setup, config),
    mount!("completions", Setup, completions),
    mount!("version", Setup, version),
    mount!("help", Setup, help),
    mount!("man", Hidden, man),
];

/// The command of that name. Prefixes are not accepted: a new command must not change a script.
pub fn find(name: &OsStr) -> Option<&'static Entry> {
    let alias = ALIASES.iter().find(|(alias, _)| name == *alias).map(|(_, name)| *name);
    ALL.iter().find(|e| name == e.name || alias == Some(e.name))
}

/// Short names of commands.
const ALIASES: &[(&str, &str)] = &[("ws", "workspace")];

/// Only this command, as if it were a program named `aj NAME`, global flags included.
pub fn alone(entry: &Entry) -> Command {
    let command = Command::new(entry.name)
        .bin_name(format!("aj {}", entry.name))
        .display_name(format!("aj-{}", entry.name))
        .disable_help_subcommand(true);
    Globals::augment_args((entry.augment)(command))
}

/// The whole tree: for help, man pages and completion.
pub fn tree() -> Command {
    let mut root = Globals::augment_args(Command::new("aj"))
        .version(env!("CARGO_PKG_VERSION"))
        .about("Run what you do not trust in a jail on your own Linux machine")
        .disable_help_subcommand(true)
        .subcommand_required(true);
    let mut shown = Vec::new();
    for entry in ALL {
        let aliases = ALIASES.iter().filter(|(_, name)| *name == entry.name).map(|(alias, _)| *alias);
        let command = Command::new(entry.name).visible_aliases(aliases);
        let command = (entry.augment)(command).hide(entry.group == Group::Hidden);
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        shown.push((entry.group, entry.name, about));
        root = root.subcommand(command);
    }
    root.help_template(help::template(&shown)).after_help(help::FOOTER)
}
