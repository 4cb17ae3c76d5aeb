//! `aj shell`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap_complete::engine::ArgValueCompleter;

use super::error::CmdResult;
use super::exec;
use super::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  aj shell                       # look around in a jail over this project
  aj shell @                     # go on in what the last run left
  aj shell --net host --rw       # with the network, and writing here for real
  cat commands.sh | aj shell -T  # without a terminal: commands from a pipe";

/// Start a shell in a jail over the current directory
///
/// It is your own shell (SHELL) where the jail has it, otherwise bash or sh: interactive, on a terminal of
/// its own, in this directory. Everything else is as for `aj exec`: the project through an overlay, no
/// network, and at the end a line that says what changed and how to keep it. Your home directory is not
/// there, so that neither are your aliases and your history; the history of this shell goes with its jail.
/// The host name in the prompt says where you are.
///
/// The exit code is the shell's own, or as for `aj exec`.
#[derive(clap::Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    policy: super::policy_flags::PolicyArgs,
    /// Show only this directory, not the whole project that it belongs to
    #[arg(long, help_heading = "Jail")]
    here: bool,
    /// Show this directory instead of the project
    #[arg(long, value_name = "DIR", conflicts_with = "here", help_heading = "Jail")]
    root_dir: Option<PathBuf>,
    /// Start in this directory of the tree
    #[arg(long, value_name = "DIR", help_heading = "Jail")]
    cwd: Option<PathBuf>,
    /// Have no terminal: read commands from stdin, as from a pipe
    #[arg(short = 'T', long, help_heading = "Jail")]
    no_tty: bool,
    /// Show a directory that is refused otherwise (/, your home)
    #[arg(long, help_heading = "Jail")]
    i_mean_it: bool,
    /// Apply the changes to the directory when the shell ends with 0
    #[arg(long, help_heading = "Changes")]
    apply: bool,
    /// With --apply: also what the host would execute (git hooks, editor tasks …)
    #[arg(long, requires = "apply", help_heading = "Changes")]
    allow_exec_files: bool,
    /// Check everything that can be checked before a start, print the effective policy and where each
    /// value comes from, and run nothing
    #[arg(long, visible_alias = "explain", short = 'n', overrides_with = "dry_run", help_heading = "Output")]
    dry_run: bool,
    /// Write JSON lines about the start and the end to this descriptor
    #[arg(long, value_name = "FD", help_heading = "Output")]
    status_fd: Option<i32>,
    /// Run in this workspace (name, id or the start of one), or go on in the kept changes of a jail (id,
    /// start of one, or `@` for the newest of this project)
    #[arg(value_name = "WORKSPACE", value_parser = exec::jail(), add = ArgValueCompleter::new(super::complete::places))]
    jail: Option<OsString>,
}

/// Run it.
pub fn run(ui: &Ui, args: Args) -> CmdResult {
    let exec = exec::Args {
        policy: args.policy,
        here: args.here,
        root_dir: args.root_dir,
        cwd: args.cwd,
        tty: !args.no_tty,
        no_tty: args.no_tty,
        i_mean_it: args.i_mean_it,
        apply: args.apply,
        allow_exec_files: args.allow_exec_files,
        dry_run: args.dry_run,
        status_fd: args.status_fd,
        jail: args.jail,
        ..exec::Args::default()
    };
    exec::start(ui, exec, true)
}
