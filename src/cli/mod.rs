//! The command line: one file per command, each a clap `Args` (doc comment = help) and `run`.
//!
//! To add a command: write `src/cli/NAME.rs`, add one `mount!` line to [`commands::ALL`], run
//! `UPDATE=1 cargo test --test main docs`.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::process::ExitCode;

pub mod apply;
mod bug;
mod changes;
pub mod commands;
pub mod complete;
mod completions;
pub mod config;
pub mod cp;
pub mod diff;
pub mod discard;
mod doctor;
pub mod error;
pub mod events;
pub mod exec;
mod exec_isolated;
pub mod exit;
mod files;
pub mod fork;
mod fork_view;
pub mod fs;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod gc;
mod globals;
mod help;
mod hints;
pub mod jail;
mod jail_view;
pub mod job;
mod job_view;
mod man;
pub mod pause;
pub mod policy_flags;
pub mod promote;
pub mod ps;
mod quick;
pub mod resume;
pub mod search;
pub mod shell;
mod state;
pub mod stats;
pub mod top;
mod top_view;
mod topics;
pub mod ui;
mod usage;
mod version;
pub mod volume;
pub mod wait;
pub mod workspace;
mod workspace_live;
mod workspace_set;
mod workspace_view;

use error::CmdResult;
use globals::{Globals, Line};
use ui::Ui;

/// Run `aj` on a whole command line (the program's name first) and return its exit code.
///
/// Only the command that was named is parsed and built: `aj exec` must not pay for the help of
/// all the others. Everything else (`aj --help`, a word that is no command) takes the whole tree.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let line = Line::split(args);
    bug::report_panics(line.command().is_some_and(is_exec));
    let ui = line.globals().ui();
    match dispatch(&line, &ui) {
        Ok(exit) if exit.0 == exit::OK && ui::stdout_failed() => {
            let exec = line.command().is_some_and(is_exec);
            exit::Exit(if exec { exit::AJ_FAILED } else { exit::FAILED }).into()
        }
        Ok(exit) => exit.into(),
        Err(e) => {
            ui.error(&e);
            exit::Exit(e.exit).into()
        }
    }
}

fn dispatch(line: &Line, ui: &Ui) -> CmdResult {
    let Some(name) = line.command() else {
        return usage::without_command(line, ui);
    };
    let Some(entry) = commands::find(name) else {
        return Err(usage::unknown_command(line, name));
    };
    if let Some(quick) = entry.quick
        && let Some(result) = quick(ui, line)
    {
        return result;
    }
    let usage_exit = if is_exec(name) { exit::AJ_FAILED } else { exit::USAGE };
    match commands::alone(entry).try_get_matches_from(line.for_command()) {
        Ok(matches) => {
            let ui = Globals::of(&matches).ui();
            let done = (entry.run)(&ui, &matches);
            if done.is_ok() && SHARING.contains(&entry.name) {
                gc::share(&ui);
            }
            done
        }
        Err(e) => usage::answer(&e, line, ui, usage_exit),
    }
}

/// Commands that clean up a little when they are done: they look after what lasts, and nobody waits for them.
const SHARING: [&str; 7] = ["workspace", "volume", "fork", "promote", "apply", "discard", "jail"];

/// `aj exec` and `aj shell` answer for another program: their own errors are 125, never a code of the
/// program's.
fn is_exec(command: impl AsRef<std::ffi::OsStr>) -> bool {
    matches!(command.as_ref().as_encoded_bytes(), b"exec" | b"shell")
}
