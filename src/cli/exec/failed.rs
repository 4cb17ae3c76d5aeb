//! A command that never ran, and every other way in which `aj exec` fails, in words with a way out.

use std::ffi::OsStr;

use crate::base::name::Name;
use crate::base::text::brief;
use crate::cli::error::CommandError;
use crate::cli::{exit, hints, policy_flags, volume};
use crate::ops::exec::{self as op, NoGpu, NotLive, Report, WayOut};
use crate::ops::{project, workspaces};

/// The command never ran: what, why, and what to do about it.
pub(in crate::cli) fn not_started(
    program: &OsStr,
    step: &str,
    errno: &str,
    code: u8,
    report: &Report,
) -> CommandError {
    if let Some(missing) = op::missing_layers(step) {
        let message = format!("the command was not started: not in force, but required: {missing}");
        return CommandError::new(code, "layer_missing", message)
            .hint("see what this machine allows: `aj doctor`")
            .hint(
                "or ask for less: leave it out of `--require` (and of `require` in aj.toml and config.toml)",
            );
    }
    let why = if errno.is_empty() { String::new() } else { format!(" ({errno})") };
    let message = format!("the command was not started: {}{why}", brief(step));
    let e = CommandError::new(code, "jail_not_started", message);
    if errno.is_empty() {
        // Nothing failed: somebody killed it, or the kernel did for want of memory.
        return e.hint("try again").hint("see what this machine allows: `aj doctor`");
    }
    if let Some((setting, limit)) = &report.too_few_files {
        return e.hint(format!("raise {setting}: with {limit} open files no jail can be made"));
    }
    match code {
        exit::COMMAND_NOT_FOUND => hints::not_found(program, errno, report),
        exit::NOT_EXECUTABLE if errno == "ENAMETOOLONG" => {
            e.hint("check the words after `--`: the first one is the name of a program")
        }
        exit::NOT_EXECUTABLE => hints::not_executable(e, program, errno, report),
        _ if errno == "E2BIG" => e.hint("pass long arguments in a file or on stdin"),
        _ if step.starts_with("chdir ") => e.hint("start it in a directory of the workspace: `--cwd DIR`"),
        _ => match &report.mounts_in_the_way {
            Some(names) => hints::mounts_in_the_way(e, names),
            None => hints::for_step(e, step, errno),
        },
    }
}

/// [`failed`], of a shell or another command.
pub(super) fn failed_as(e: op::Error, shell: bool) -> CommandError {
    let what_to_do = match e {
        op::Error::NoTerminal if shell => "for a shell that reads commands from a pipe: `aj shell -T`",
        op::Error::NoTerminal => "leave out `-t`: the command gets pipes",
        _ => return failed(e),
    };
    failed(e).hint(what_to_do)
}

/// An error before the command, or in recording it.
pub(in crate::cli) fn failed(e: op::Error) -> CommandError {
    let e = match e {
        op::Error::Policy(e) => return policy_flags::policy_error(&e, exit::AJ_FAILED),
        op::Error::Changes(e) => return CommandError { exit: exit::AJ_FAILED, ..e.into() },
        op::Error::Workspace(e) => return workspace(e),
        op::Error::Volume(e) => return CommandError { exit: exit::AJ_FAILED, ..volume::shown(&e) },
        op::Error::NotLive(e) => return live(&e),
        e => e,
    };
    let shown = CommandError::new(exit::AJ_FAILED, code_of(&e), e.to_string());
    let shown = match std::error::Error::source(&e) {
        Some(source) => shown.caused_by(source),
        None => shown,
    };
    match &e {
        op::Error::Refused { way: WayOut::Insist, .. } => {
            shown.hint("use a project directory, or insist with `--i-mean-it`")
        }
        op::Error::Refused { way: WayOut::Elsewhere, .. } => shown.hint("use a project directory"),
        op::Error::Refused { path, way: WayOut::MoveState, .. } => hints::move_state(shown, path, ""),
        op::Error::Refused { path, way: WayOut::MoveStateAndInsist, .. } => {
            hints::move_state(shown, path, ", and insist with `--i-mean-it`")
        }
        op::Error::Foreign { .. } => {
            shown.hint("write to it for real with `--rw`, or only read it with `--ro`")
        }
        op::Error::Limit { .. } => {
            hints::for_error(shown, &e).hint("or let it be best effort: `--best-effort`")
        }
        op::Error::Gpu(missing) => gpu(shown, missing),
        op::Error::Lite { way, .. } => shown.hint(*way).hint("see what this machine allows: `aj doctor`"),
        op::Error::TooLarge { .. } => shown
            .hint("show less of it: `aj exec --here -- …` in a smaller directory")
            .hint("or let the command write to the directory itself: `aj exec --rw -- …`"),
        op::Error::Unkept { .. } => shown
            .hint("set AJ_STATE_DIR to a directory on ext4, xfs or btrfs (on tmpfs from Linux 6.6 on)")
            .hint("or let the command write to the directory itself: `aj exec --rw -- …`"),
        op::Error::InUse { by_run: true, .. } => shown
            .hint("wait until it has ended: `aj jail list --status running`")
            .hint("start with changes of its own: leave the jail out, `aj exec -- COMMAND`"),
        op::Error::InUse { by_run: false, .. } => shown.hint("wait for it and try again"),
        op::Error::NotAgain { .. } => shown.hint("leave out one of the two"),
        op::Error::OtherId { as_root: true, .. } => shown.hint("leave out `--as-root`"),
        op::Error::OtherId { as_root: false, .. } => shown.hint("add `--as-root`"),
        op::Error::OtherOwner { id, .. } => shown.hint(format!("look at them: `aj diff {id}`")),
        op::Error::Launch(_)
        | op::Error::Store(_)
        | op::Error::Plan(_)
        | op::Error::Place(_)
        | op::Error::Cwd { .. }
        | op::Error::Bind { .. }
        | op::Error::Etc(_)
        | op::Error::Secrets(_)
        | op::Error::Unhidden(_) => hints::for_error(shown, &e),
        op::Error::UnknownTools { meant: Some(meant), .. }
        | op::Error::UnknownCache { meant: Some(meant), .. } => {
            shown.hint(format!("did you mean `{meant}`?"))
        }
        op::Error::UnknownTools { .. } => shown.hint("see the names: `aj help tools`"),
        op::Error::UnknownCache { .. } => shown.hint("see the names: `aj help caches`"),
        op::Error::Home { path, workspace, volume: None, .. } => {
            shown.hint(format!("remove what is there: `aj fs rm {workspace} {path}`"))
        }
        // Where a volume is to be seen, no path leads to what is below it.
        op::Error::Home { path, workspace, volume: Some(volume), .. } => shown
            .hint(format!(
                "remove what is there: `aj volume detach {workspace} {volume}`, then `aj fs rm {workspace} {path}`"
            ))
            .hint(format!("and have it again: `aj volume attach {workspace} {volume}:{path}`")),
        op::Error::Policy(_)
        | op::Error::Volume(_)
        | op::Error::Workspace(_)
        | op::Error::NoTerminal
        | op::Error::StatusFd { .. }
        | op::Error::Changes(_)
        | op::Error::NotLive(_)
        | op::Error::Said(_)
        | op::Error::Holder(_)
        | op::Error::Random(_) => shown,
    }
}

/// What is wrong with the workspace. One that is in use is told from a failure by its exit code.
fn workspace(e: workspaces::Error) -> CommandError {
    use workspaces::Error as E;
    let busy = matches!(e, E::InUse { .. });
    let shown = match &e {
        E::NotFound(name) => {
            let name = name.clone();
            let shown: CommandError = e.into();
            // What reads like an id is neither a name that can be had nor a command.
            if name.parse::<Name>().is_err() {
                shown
            } else {
                shown
                    .hint(format!("make it: `aj workspace create {name}`"))
                    .hint(format!("or put `--` before the command: `aj exec -- {name}`"))
            }
        }
        _ => e.into(),
    };
    CommandError { exit: if busy { exit::BUSY } else { exit::AJ_FAILED }, ..shown }
}

/// The jail of a workspace that cannot take the command.
pub(in crate::cli) fn live(e: &NotLive) -> CommandError {
    let (exit, code) = match e {
        NotLive::Busy { .. } => (exit::BUSY, "workspace_busy"),
        NotLive::Paused(_) => (exit::BUSY, "workspace_paused"),
        NotLive::Differs { .. } => (exit::AJ_FAILED, "workspace_differs"),
        NotLive::Unheld { .. } => (exit::AJ_FAILED, "limit"),
        NotLive::Silent { .. }
        | NotLive::Strange(_)
        | NotLive::Refused { .. }
        | NotLive::NotHere(_)
        | NotLive::Died(_)
        | NotLive::Fleeting(_) => (exit::AJ_FAILED, "workspace_jail"),
    };
    let shown = CommandError::new(exit, code, e.to_string());
    match e {
        NotLive::Busy { name, .. } => shown
            .hint(format!("wait until nothing runs in it: `aj workspace wait {name}`"))
            .hint(format!("see what does: `aj workspace show {name}`")),
        NotLive::Paused(name) => shown.hint(format!("let it go on: `aj resume {name}`")),
        NotLive::Differs { name, .. } => shown
            .hint("leave out what the jail is not: it is the same for all commands in it")
            .hint(format!("or end it first: `aj workspace stop {name}`"))
            .hint(format!("or run it on a fork, in a jail of its own: `aj exec --isolated {name} …`")),
        NotLive::Unheld { name, .. } => shown
            .hint("see what this machine can hold: `aj doctor`")
            .hint(format!(
                "end it first, to have the limits for a jail of its own: `aj workspace stop {name}`"
            ))
            .hint(format!("or run it on a fork, in a jail of its own: `aj exec --isolated {name} …`")),
        NotLive::Silent { name, .. } | NotLive::Strange(name) => {
            shown.hint(format!("end it: `aj workspace stop {name}`"))
        }
        NotLive::Refused { name, .. } => shown
            .hint(format!("see what runs in it: `aj workspace show {name}`"))
            .hint("or allow more processes: `--pids N`, once it is stopped"),
        NotLive::NotHere(_) => shown.hint("see what this machine allows: `aj doctor`"),
        NotLive::Died(_) | NotLive::Fleeting(_) => shown.hint("try again"),
    }
}

/// What would give it one.
fn gpu(shown: CommandError, missing: &NoGpu) -> CommandError {
    match missing {
        NoGpu::Driver => shown.hint("leave out `--gpu`, or install the driver of your GPU"),
        NoGpu::Node(_) => shown.hint("let the driver make its nodes, as root: `nvidia-modprobe -c 0 -u`"),
        NoGpu::Number { .. } => shown.hint("show all that there are: `--gpu all`"),
        NoGpu::NotAllowed(name) | NoGpu::NoDevice(name) => {
            shown.hint(format!("look at it: `ls -l /dev/{name}`"))
        }
    }
}

fn code_of(e: &op::Error) -> &'static str {
    match e {
        op::Error::Policy(_) => "policy",
        op::Error::Store(_) | op::Error::Etc(_) => "state",
        op::Error::Plan(_) => "plan",
        op::Error::Secrets(_) | op::Error::Unhidden(_) => "secrets",
        op::Error::Launch(_) => "jail_not_started",
        op::Error::Place(project::Error::CurrentDir(_)) => "current_dir",
        op::Error::Place(project::Error::Root { .. }) => "root_dir",
        op::Error::Refused { .. } => "workspace_refused",
        op::Error::Foreign { .. } => "foreign_owner",
        op::Error::Cwd { .. } => "cwd",
        op::Error::Bind { .. } => "bind",
        op::Error::UnknownTools { .. } => "tools_not_found",
        op::Error::UnknownCache { .. } => "cache_not_found",
        op::Error::Gpu(_) => "gpu",
        op::Error::Limit { .. } => "limit",
        op::Error::NoTerminal => "no_terminal",
        op::Error::StatusFd { .. } => "status_fd",
        op::Error::InUse { .. } => "tree_in_use",
        op::Error::NotAgain { .. } => "usage",
        op::Error::OtherId { .. } | op::Error::OtherOwner { .. } => "tree_of_another",
        op::Error::Unkept { .. } => "state",
        op::Error::TooLarge { .. } => "too_large",
        op::Error::Lite { .. } => "lite",
        op::Error::Changes(_) => "changes",
        op::Error::Volume(_) => "volume",
        op::Error::Workspace(_) => "workspace",
        op::Error::Home { .. } => "workspace_home",
        op::Error::NotLive(_) | op::Error::Said(_) | op::Error::Holder(_) => "live",
        op::Error::Random(_) => "random",
    }
}
