//! Jobs as people see them, and what is wrong with them in words with a way out.

use std::time::Duration;

use super::error::CommandError;
use super::ui::human;
use super::{exit, state};
use crate::base::id::Id;
use crate::base::quote::command_line;
use crate::base::{duration, size};
use crate::ops::jobs::Error;
use crate::schema::changes::FORMAT;
use crate::schema::job::{Job, JobDetail, Removed};

pub(super) const HEADERS: [&str; 7] = ["id", "name", "status", "exit", "started", "group", "command"];

/// On a terminal short and relative; piped whole and absolute.
pub(super) fn row(job: &Job, terminal: bool, now: u64) -> Vec<String> {
    let dash = || "-".to_owned();
    let begun = job.started_at.as_ref().unwrap_or(&job.created_at);
    let ready = if job.running && job.ready == Some(true) { " (ready)" } else { "" };
    vec![
        if terminal { job.id.as_str().get(..10).unwrap_or_default().to_owned() } else { job.id.to_string() },
        job.name.as_ref().map_or_else(dash, ToString::to_string),
        if terminal { format!("{}{ready}", job.status.as_str()) } else { job.status.as_str().to_owned() },
        job.exit_code.map_or_else(dash, |code| code.to_string()),
        if terminal { ago(begun, now) } else { begun.clone() },
        job.group.as_ref().map_or_else(dash, ToString::to_string),
        command_line(&job.argv),
    ]
}

/// An RFC 3339 time for eyes.
fn ago(time: &str, now: u64) -> String {
    let ms = time.parse::<jiff::Timestamp>().ok().and_then(|t| u64::try_from(t.as_millisecond()).ok());
    ms.map_or_else(|| time.to_owned(), |ms| human::when(ms, now))
}

/// Everything, a line each.
pub(super) fn detail(detail: &JobDetail) -> String {
    let job = &detail.job;
    let mut rows: Vec<(&str, String)> = vec![("id", job.id.to_string())];
    rows.extend(job.name.as_ref().map(|name| ("name", name.to_string())));
    rows.extend(job.group.as_ref().map(|group| ("group", group.to_string())));
    rows.push(("status", job.status.as_str().to_owned()));
    rows.extend(job.exit_code.map(|code| ("exit", code.to_string())));
    rows.extend(job.signal.map(|signal| ("signal", signal.to_string())));
    rows.extend(detail.failure.as_ref().map(|failure| ("failed", failure.message.clone())));
    rows.push(("command", command_line(&job.argv)));
    rows.push(("directory", job.dir.clone()));
    rows.extend(job.workspace.map(|id| ("workspace", id.to_string())));
    rows.push(("created", job.created_at.clone()));
    rows.extend(job.started_at.clone().map(|at| ("started", at)));
    rows.extend(detail.ready_when.as_ref().map(|when| {
        let since = job.ready_at.as_ref().map_or_else(|| "not yet".to_owned(), |at| format!("since {at}"));
        ("ready", format!("{since} ({})", crate::base::text::printable(when.as_bytes())))
    }));
    rows.extend(job.ended_at.clone().map(|at| ("ended", at)));
    rows.extend(job.duration_ms.map(|ms| ("took", duration::human(Duration::from_millis(ms)))));
    rows.extend(
        detail.restart_max.map(|most| ("restarts", format!("{} ({most} in a row at most)", job.restarts))),
    );
    rows.extend(job.pid.map(|pid| ("pid", pid.to_string())));
    rows.extend(job.jail_id.map(|id| ("last jail", id.to_string())));
    rows.extend(detail.policy.iter().map(|kept| (kept.key, kept.value.clone())));
    let log = &detail.log;
    let lost = if log.lost > 0 {
        format!(", {} were not kept: the disk was full", size::human(log.lost))
    } else {
        String::new()
    };
    rows.push(("log", format!("{} of {} at most{lost}", size::human(log.bytes), size::human(log.max))));
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

/// What was removed, for programs.
pub(super) fn removed(ids: &[Id]) -> Removed {
    Removed { format_version: FORMAT, removed: ids.to_vec() }
}

impl From<Error> for CommandError {
    fn from(e: Error) -> CommandError {
        let message = e.to_string();
        let new = |exit, code| CommandError::new(exit, code, message.clone());
        let see = "see what there is: `aj job list`";
        match e {
            Error::State(e) => state::error(&e),
            Error::Workspace(e) => e.into(),
            Error::Ledger(e) => e.into(),
            Error::Record(_) => {
                new(exit::FAILED, "job_record").hint("remove its directory in aj's state directory")
            }
            Error::Log { ref source, .. } => new(exit::FAILED, "job_log").caused_by(source),
            Error::NotFound(_) | Error::None | Error::NoGroup(_) | Error::Removed(_) => {
                new(exit::NOT_FOUND, "job_not_found").hint(see)
            }
            Error::Ambiguous { ref candidates, .. } => {
                let e = new(exit::NOT_FOUND, "job_ambiguous");
                candidates.iter().fold(e, |e, c| {
                    e.hint(format!("`aj job show {}`: {}", c.id, super::jail_view::shorten(&c.command, 60)))
                })
            }
            Error::Taken { id, .. } => new(exit::BUSY, "job_name_taken")
                .hint(format!("end it: `aj job kill {id}`"))
                .hint("or give this one another name"),
            Error::Running(ref job) => new(exit::BUSY, "job_running")
                .hint(format!("end it first: `aj job kill {job}`, or add `--force`")),
            Error::NotRunning(_) => {
                new(exit::FAILED, "job_not_running").hint("see which do: `aj job list --status running`")
            }
            Error::NotAWorkspace(_) => new(exit::AJ_FAILED, "usage")
                .hint("name a workspace: `aj job start WORKSPACE -- COMMAND`, or none"),
            Error::Name(_) | Error::NotText(_) => new(exit::USAGE, "usage"),
            Error::CurrentDir(_) => new(exit::AJ_FAILED, "current_dir").hint(super::hints::CURRENT_DIR),
            Error::Directory { .. } => new(exit::AJ_FAILED, "job_directory")
                .hint("make the directory again, or start the command anew: `aj job start -- COMMAND`"),
            Error::NoWorkspace { ref job, .. } => new(exit::AJ_FAILED, "job_workspace")
                .hint(format!("see what it ran: `aj job show {job}`"))
                .hint("start that anew in another one: `aj job start WORKSPACE -- COMMAND`"),
            Error::Supervisor(_) | Error::Silent => new(exit::AJ_FAILED, "job_supervisor")
                .hint("try it again; if that does not help: `aj exec -- COMMAND` says more"),
            Error::Signal { ref source, .. } => new(exit::FAILED, "job_signal").caused_by(source),
            Error::Unkillable(_) => new(exit::FAILED, "job_unkillable")
                .hint("a process of it waits inside the kernel: see `aj ps`"),
            Error::Random(_) => new(exit::FAILED, "random"),
        }
    }
}
