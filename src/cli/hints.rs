//! Hints for a jail that was not started: the fixes that `aj doctor` names, for the step that failed.
//!
//! The machine is looked at here only, once a start has failed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::error::CommandError;
use super::exit;
use crate::base::quote::command_line;
use crate::base::text;
use crate::ops::exec::Report;
use crate::ops::{doctor, exec, project, secrets};

pub(super) const CURRENT_DIR: &str = "go to a directory that exists and that you may enter";

const DOCTOR: &str = "see what this machine allows: `aj doctor`";

/// `e` with what to do about `step` (call and `argument`) having failed with `errno`.
pub(super) fn for_step(e: CommandError, step: &str, errno: &str) -> CommandError {
    doctor::fixes(step, errno).into_iter().fold(e, CommandError::hint).hint(DOCTOR)
}

/// `e` with what to do about an error that came before the command.
pub(super) fn for_error(e: CommandError, error: &exec::Error) -> CommandError {
    match error {
        // Somebody has killed the process of ours that was to do it.
        exec::Error::Launch(failed) if failed.call == "umount2" && failed.errno == Errno::EINTR => {
            e.hint("try again")
        }
        exec::Error::Launch(failed) => for_step(e, &crate::host::facts::step_of(failed), &failed.name()),
        exec::Error::Etc(why) => doctor::etc_fixes(why).into_iter().fold(e, CommandError::hint),
        exec::Error::Place(project::Error::CurrentDir(_)) => e.hint(CURRENT_DIR),
        exec::Error::Bind { .. } => e.hint("name something that exists and that you may read"),
        exec::Error::Plan(_) => match error.place_is_taken() {
            Some((true, _)) => e.hint("use a directory below it, or another one"),
            Some((false, top)) => e.hint(format!("use a directory outside of `{}`", text::os(&top))),
            None => e,
        },
        exec::Error::Cwd { .. } => e.hint("name a directory of the workspace"),
        exec::Error::Store(failed) => doctor::state_fixes(failed).into_iter().fold(e, CommandError::hint),
        exec::Error::Limit { needs_cgroup: true, .. } => {
            doctor::limit_fixes().into_iter().fold(e, CommandError::hint)
        }
        exec::Error::Secrets(why) => for_secrets(e, why),
        // The tree is read for it as well, which the state cannot be blamed for.
        exec::Error::Unhidden(failed) => match doctor::outside_of_state(failed) {
            Some(path) => e.hint(format!("check that you may read `{path}` and enter what is above it")),
            None => doctor::state_fixes(failed).into_iter().fold(e, CommandError::hint),
        }
        .hint("or show what is hidden there: `--show '**'`"),
        _ => e,
    }
}

/// `e` for a tree with mounts below it, over which the kernel makes no overlay for an ordinary user.
pub(super) fn mounts_in_the_way(e: CommandError, names: &str) -> CommandError {
    e.hint(format!(
        "{names} in the tree is mounted, and over a directory with a mount below it only root gets an overlay: \
         unmount it, or use a directory beside it: `aj exec --root-dir DIR -- …`"
    ))
    .hint("or let commands write to the directory itself, mounts included: `aj exec --rw -- …`")
}

fn for_secrets(e: CommandError, error: &secrets::Error) -> CommandError {
    match error {
        secrets::Error::TooMany { .. } => e
            .hint("hide the directory that they are in: `--hide DIR`")
            .hint("or show them: `--show '.env.*'`, or `--show '*'` for all that is hidden by its name"),
        secrets::Error::Cut { pattern: Some(pattern), .. } => {
            let show = command_line(&["--show".to_owned(), pattern.clone()]);
            e.hint("say in which directory: `--hide 'DIR/**/NAME'`")
                .hint(format!("or hide nothing by that pattern: `{show}`"))
        }
        secrets::Error::Cut { pattern: None, .. } => e.hint("hide nothing by its name: `--show '*'`"),
        secrets::Error::Within { hidden, .. } => {
            let show = command_line(&["--show".to_owned(), text::printable(hidden)]);
            e.hint(format!("show that: `{show}`"))
        }
        // What it is for want of has been said.
        secrets::Error::Sys { source, .. } if doctor::limit_fix(source).is_some() => e,
        secrets::Error::Sys { .. } => e.hint("check that you may read the directory"),
    }
}

/// `e` with the ways to use a directory that has aj's state in it.
pub(super) fn move_state(e: CommandError, path: &Path, and: &str) -> CommandError {
    let e = e.hint("use a project directory below it, or another one");
    // Of all there is, sockets of services and the host's `/proc` would be a part, read-only or not.
    if path == Path::new("/") {
        return e;
    }
    let e = e.hint("or only read it: `aj exec --ro --i-mean-it -- …`");
    let path = text::os(path);
    e.hint(format!("or set `AJ_STATE_DIR` to a directory outside of `{path}`{and}"))
}

/// A command that is not there: the way in, if the host has it. `report` says what was shown.
pub(super) fn not_found(program: &OsStr, errno: &str, report: &Report) -> CommandError {
    let name = text::brief(&text::os(program));
    let what = if program.as_bytes().contains(&b'/') {
        format!("`{name}` does not exist in the jail ({errno})")
    } else {
        format!("`{name}` was not found in the jail's PATH ({errno})")
    };
    let e = CommandError::new(exit::COMMAND_NOT_FOUND, "command_not_found", what);
    let Some(host) = exec::on_host(program) else {
        let way = exec_line(report, "--ro DIR");
        return e.hint(format!("if it is installed, show its directory: `{way}`"));
    };
    let way = exec_line(report, &way_in(&host, report));
    let program = text::os(&host.program);
    e.hint(match &host.target {
        Some(target) => {
            format!(
                "`{program}` is a link to `{}`, which was not shown; to show it: `{way}`",
                text::os(target)
            )
        }
        None => format!("this machine has it, `{program}`; to show it: `{way}`"),
    })
}

/// `e`, of a program that is there and cannot be executed: what its `#!` line names may not be.
pub(super) fn not_executable(e: CommandError, program: &OsStr, errno: &str, report: &Report) -> CommandError {
    let usual = "check its permissions and its `#!` line";
    let Some(interpreter) = exec::interpreter(program).filter(|_| errno == "ENOEXEC") else {
        return e.hint(usual);
    };
    let name = text::os(&interpreter);
    match exec::on_host(interpreter.as_os_str()) {
        Some(host) => {
            let way = exec_line(report, &way_in(&host, report));
            e.hint(format!("its `#!` line names `{name}`, which was not shown; to show it: `{way}`"))
        }
        None if interpreter.exists() => e.hint(usual),
        None => e.hint(format!("its `#!` line names `{name}`, which this machine does not have")),
    }
}

/// The flags that show a program of the host.
fn way_in(host: &exec::OnHost, report: &Report) -> String {
    // One that was allowed and is not there was refused, with a warning that says why.
    let tools = host.tools.iter().find(|name| !report.tools.allows(name));
    let words: Vec<String> = match tools {
        Some(name) => {
            let names: Vec<&str> = report.policy.tools.iter().chain([name]).map(String::as_str).collect();
            vec!["--tools".to_owned(), names.join(",")]
        }
        None => {
            let shown = |dir: &&PathBuf| report.policy.tool_dirs.iter().any(|t| dir.starts_with(t));
            let missing: Vec<&PathBuf> = host.places.iter().filter(|dir| !shown(dir)).collect();
            let missing = if missing.is_empty() { host.places.iter().collect() } else { missing };
            missing.iter().flat_map(|d| ["--ro".to_owned(), text::os(d)]).collect()
        }
    };
    command_line(&words)
}

/// The command that was given, with these flags.
fn exec_line(report: &Report, flags: &str) -> String {
    match &report.workspace {
        Some(name) => format!("aj exec {flags} {name} -- …"),
        None => format!("aj exec {flags} -- …"),
    }
}
