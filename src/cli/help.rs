//! `aj help [TOPIC|COMMAND…]` and the shape of `aj --help`.

use clap::builder::StyledStr;
use clap_complete::engine::ArgValueCandidates;

use super::commands::{self, Group};
use super::complete;
use super::error::{CmdResult, CommandError};
use super::exit::{self, Exit};
use super::topics;
use super::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  aj help
  aj help version
  aj help exit-codes
  aj help environment";

/// Show the help of a command, or a page about a topic
///
/// The topics are caches, environment, exit-codes, json, policy, secrets, terminals and tools.
#[derive(clap::Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// A command (`version`) or a topic (`exit-codes`)
    #[arg(value_name = "TOPIC", add = ArgValueCandidates::new(complete::help_words))]
    words: Vec<String>,
}

pub(super) fn run(ui: &Ui, args: Args) -> CmdResult {
    match args.words.as_slice() {
        [] => ui.help(&commands::tree().render_help()),
        [word] => match topics::find(word) {
            Some(page) => ui.out(&page),
            None => ui.help(&command_help(&args.words)?),
        },
        path => ui.help(&command_help(path)?),
    }
    Ok(Exit(exit::OK))
}

fn command_help(path: &[String]) -> Result<StyledStr, CommandError> {
    let mut tree = commands::tree();
    tree.build();
    let mut command = &mut tree;
    for word in path {
        let Some(next) = command.find_subcommand_mut(word) else {
            let names: Vec<&str> = topics::ALL.iter().map(|t| t.name).collect();
            return Err(CommandError::new(
                exit::USAGE,
                "unknown_topic",
                format!("`{}` is neither a command nor a topic", crate::base::text::os(&path.join(" "))),
            )
            .hint(format!("the topics are {}", names.join(", ")))
            .hint("`aj --help` lists the commands"));
        };
        command = next;
    }
    Ok(command.render_long_help())
}

/// Below the options of `aj --help`.
pub(super) const FOOTER: &str = "\
`aj COMMAND --help` has examples; `aj help TOPIC` explains environment, exit-codes, json and policy.";

/// The help template of the root: commands by group, because clap lists them in one heap.
pub(super) fn template(commands: &[(Group, &str, String)]) -> String {
    let width = commands.iter().map(|(_, name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::from("{about-with-newline}\n{usage-heading} aj [OPTIONS] <COMMAND>\n");
    for (group, heading) in Group::SHOWN {
        let mut members = commands.iter().filter(|(g, _, _)| g == group).peekable();
        if members.peek().is_none() {
            continue;
        }
        text.push_str(&format!("\n{heading}:\n"));
        for (_, name, about) in members {
            text.push_str(&format!("  {name:width$}  {about}\n"));
        }
    }
    text.push_str("\nOptions:\n{options}{after-help}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group_of_the_help() {
        let help = commands::tree().render_help().to_string();
        for entry in commands::ALL {
            let lines = help.lines().filter(|l| l.starts_with(&format!("  {} ", entry.name))).count();
            assert_eq!(lines, usize::from(entry.group != Group::Hidden), "`{}` in\n{help}", entry.name);
            assert_eq!(commands::ALL.iter().filter(|e| e.name == entry.name).count(), 1);
        }
        for group in commands::ALL.iter().map(|e| e.group).filter(|g| *g != Group::Hidden) {
            assert!(Group::SHOWN.iter().any(|(g, _)| *g == group), "{group:?} has no heading");
        }
        assert!(help.contains("--json"), "{help}");
    }

    #[test]
    fn a_command_alone_has_the_same_help_as_in_the_tree() {
        let mut tree = commands::tree();
        tree.build();
        for entry in commands::ALL {
            let in_tree = tree.find_subcommand_mut(entry.name).unwrap().render_long_help().to_string();
            assert_eq!(commands::alone(entry).render_long_help().to_string(), in_tree);
        }
    }
}
