//! `aj completions SHELL`.

use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};

use super::error::{CmdResult, CommandError};
use super::exit;
use super::ui::Ui;
use crate::base::env;

const EXAMPLES: &str = "\
Examples:
  aj completions bash > ~/.local/share/bash-completion/completions/aj
  aj completions zsh > ~/.local/share/zsh/site-functions/_aj
  aj completions fish > ~/.config/fish/completions/aj.fish";

/// Print the completion script for a shell
///
/// The script asks `aj` itself for every candidate, so it stays right when `aj` changes.
#[derive(clap::Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// The shell that will read the script
    #[arg(value_enum)]
    shell: Shell,
}

/// A shell whose completion is known.
#[derive(clap::ValueEnum, Debug, Clone, Copy)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(ui: &Ui, args: Args) -> CmdResult {
    let shell: &dyn EnvCompleter = match args.shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    shell.write_registration(env::COMPLETE.name, "aj", "aj", "aj", &mut script).map_err(|e| {
        CommandError::new(exit::FAILED, "completions_failed", "could not write the script").caused_by(&e)
    })?;
    ui.out(&String::from_utf8_lossy(&script));
    Ok(exit::Exit(exit::OK))
}
