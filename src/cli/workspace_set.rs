//! `aj workspace set`.

use std::time::Duration;

use super::error::{CmdResult, CommandError};
use super::exit;
use super::policy_flags::Limit;
use super::ui::Ui;
use super::workspace::{Which, answer};
use crate::ops::workspaces::{self as op, life};
use crate::policy::value;

/// Change how long a workspace lasts, and its labels
///
/// Times count as they do for `create`: --ttl from when it was made, --idle and --rm-when-idle from its last
/// use, which this is. What a command may do is said by the flags of `create` and of the command.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  aj workspace set api --ttl none
  aj workspace set api --ttl 30d --idle 2h
  aj workspace set api --label ci --remove-label new")]
pub(super) struct SetArgs {
    #[command(flatten)]
    which: Which,
    /// How long it lasts since it was made; `none`: for ever
    #[arg(long, value_name = "TIME", value_parser = time)]
    ttl: Option<Limit<Duration>>,
    /// After how long without use it is idle; `none`: never
    #[arg(long, value_name = "TIME", value_parser = time)]
    idle: Option<Limit<Duration>>,
    /// After how long without use it is removed; `none`: never
    #[arg(long, value_name = "TIME", value_parser = time)]
    rm_when_idle: Option<Limit<Duration>>,
    /// A word to find it by; may be repeated
    #[arg(long, value_name = "LABEL")]
    label: Vec<String>,
    /// A word that it loses; may be repeated
    #[arg(long, value_name = "LABEL")]
    remove_label: Vec<String>,
}

fn time(text: &str) -> Result<Limit<Duration>, String> {
    value::time_limit(text).map(Limit).map_err(|e| e.to_string())
}

pub(super) fn run(ui: &Ui, args: SetArgs) -> CmdResult {
    let ms = |limit: Limit<Duration>| limit.0.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
    let change = life::Change {
        ttl_ms: args.ttl.map(ms),
        idle_ms: args.idle.map(ms),
        rm_idle_ms: args.rm_when_idle.map(ms),
        add_labels: args.label,
        remove_labels: args.remove_label,
    };
    if change == life::Change::default() {
        return Err(CommandError::new(exit::USAGE, "usage", "nothing is to be changed")
            .hint("say what: `--ttl`, `--idle`, `--rm-when-idle`, `--label` or `--remove-label`"));
    }
    let done = life::set(op::find(args.which.workspace.as_deref())?, change)?;
    let name = &done.workspace.name;
    match &done.workspace.expires_at {
        Some(at) => ui.status(&format!("workspace `{name}` lasts until {at}")),
        None => ui.status(&format!("workspace `{name}` lasts for ever")),
    }
    answer(ui, &done)
}
