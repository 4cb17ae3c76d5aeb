//! `aj fs`.

use std::ffi::OsString;

use super::error::CmdResult;
use super::ui::Ui;

mod change;
mod look;

pub(super) use change::{parse_mode, unexpected};

/// Look at and change the files of a workspace, without starting a jail
///
/// WS is a workspace, by its name, its id or the start of that, or a jail whose changes are kept (`jl-…`, or
/// `@` for the newest of this project). What is shown is what its commands saw: the directory that they ran
/// over with their changes on top, and without what was hidden from them. What is changed is changed for the
/// next command in it, and for `aj apply`; the directory itself stays as it is.
///
/// A relative PATH begins at the workspace, an absolute one is what it is in the jail: `/workspace/x`, the
/// directory's own path, and of a workspace `/home/agent/x` and `/output/x`. Links are followed within the
/// workspace and never out of it.
///
/// While a workspace's jail runs, files are read as they are (they may be half written), and it is the jail that
/// changes them, at once and with its own rights: what is in the making lies beside its place as `.aj-…`. The
/// tree of a run that has not ended is only read.
///
/// Exit codes: 0 done; 1 failed, and for `test` no; 2 usage; 3 no such workspace or path; 4 the path is
/// outside of the workspace; 5 busy, or it exists; 6 done in part.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj fs list @ src
  aj fs cat api /home/agent/.profile
  echo 'log = true' | aj fs write @ conf/app.toml
  aj fs rm @ -r target")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    #[command(visible_alias = "ls")]
    List(look::ListArgs),
    Stat(look::StatArgs),
    Cat(look::CatArgs),
    Test(look::TestArgs),
    Find(look::FindArgs),
    Write(change::WriteArgs),
    Mkdir(change::MkdirArgs),
    Mv(change::MvArgs),
    Rm(change::RmArgs),
    Replace(change::ReplaceArgs),
}

/// Which tree is meant.
#[derive(Debug, clap::Args)]
struct Which {
    /// A workspace, or a jail whose changes are kept (`jl-…`, `@` for the newest of this project)
    #[arg(value_name = "WS", add = clap_complete::engine::ArgValueCompleter::new(super::complete::places))]
    ws: OsString,
}

/// Run `aj fs`.
pub fn run(ui: &Ui, args: Args) -> CmdResult {
    match args.command {
        Command::List(args) => look::list(ui, args),
        Command::Stat(args) => look::stat(ui, &args),
        Command::Cat(args) => look::cat(ui, &args),
        Command::Test(args) => look::test(ui, &args),
        Command::Find(args) => look::find(ui, args),
        Command::Write(args) => change::write(ui, args),
        Command::Mkdir(args) => change::mkdir(ui, args),
        Command::Mv(args) => change::mv(ui, args),
        Command::Rm(args) => change::rm(ui, args),
        Command::Replace(args) => change::replace(ui, args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Args as _;

    #[test]
    fn the_command_line_is_sound_and_every_page_has_examples() {
        let mut command = Args::augment_args(clap::Command::new("fs"));
        command.clone().debug_assert();
        command.build();
        for page in std::iter::once(&command).chain(command.get_subcommands()) {
            if page.get_name() != "help" {
                let examples = page.get_after_long_help().map(ToString::to_string).unwrap_or_default();
                assert!((2..=4).contains(&examples.matches(" aj fs ").count()), "{}", page.get_name());
            }
        }
    }
}
