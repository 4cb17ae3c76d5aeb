//! `aj job list`, `show` and `group list`.

use std::collections::BTreeMap;

use super::{Error, Found, all};
use crate::base::clock::rfc3339;
use crate::base::id::Id;
use crate::base::name::Name;
use crate::base::quote::command_line;
use crate::job::read::Reader;
use crate::ops::workspaces::list::settings;
use crate::schema::changes::FORMAT;
use crate::schema::jail::Outcome;
use crate::schema::job::{Group, GroupList, Job, JobDetail, JobList, Log, Record, Status};
use crate::store::jobs::{Filed, Home};
use crate::store::layout::StateDir;

/// Which ones.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// In this workspace.
    pub workspace: Option<Id>,
    /// In this group.
    pub group: Option<Name>,
    /// With one of these; empty: any.
    pub status: Vec<Status>,
    /// At most so many.
    pub limit: Option<usize>,
}

/// Look at them, newest first.
pub fn list(filter: &Filter) -> Result<JobList, Error> {
    let jobs = match StateDir::open_if_present()? {
        Some(state) => jobs(&state, filter)?,
        None => Vec::new(),
    };
    Ok(JobList { format_version: FORMAT, jobs })
}

pub(in crate::ops) fn jobs(state: &StateDir, filter: &Filter) -> Result<Vec<Job>, Error> {
    let wanted = |record: &Record| {
        filter.workspace.is_none_or(|id| record.workspace == Some(id))
            && filter.group.as_ref().is_none_or(|group| record.group.as_ref() == Some(group))
    };
    let found = all(state)?.into_iter().filter(|(_, f)| wanted(&f.record));
    let views = found.filter_map(|(home, filed)| settled(&home, &filed));
    let views = views.filter(|job| filter.status.is_empty() || filter.status.contains(&job.status));
    Ok(views.take(filter.limit.unwrap_or(usize::MAX)).collect())
}

/// A job that seems lost is looked at once more: its supervisor may have ended as it should since it was read.
fn settled(home: &Home, filed: &Filed) -> Option<Job> {
    let seen = view(home, &filed.record);
    if seen.status != Status::Lost {
        return Some(seen);
    }
    Some(view(home, &home.read().ok()??.record))
}

/// Groups, by name.
pub fn groups() -> Result<GroupList, Error> {
    let mut groups = BTreeMap::<Name, Group>::new();
    for job in list(&Filter::default())?.jobs {
        let Some(name) = job.group else { continue };
        let group = groups.entry(name.clone()).or_insert(Group { name, jobs: 0, running: 0 });
        group.jobs += 1;
        group.running += u64::from(job.running);
    }
    Ok(GroupList { format_version: FORMAT, groups: groups.into_values().collect() })
}

/// One job.
pub fn show(found: &mut Found) -> Result<JobDetail, Error> {
    found.status()?;
    detail(found)
}

pub(super) fn detail(found: &Found) -> Result<JobDetail, Error> {
    let record = &found.filed.record;
    let reader = Reader::open(&found.home, found.key(), None);
    let log = reader.and_then(|r| r.end()).map_err(|source| Error::Log { id: record.id, source })?;
    Ok(JobDetail {
        format_version: FORMAT,
        job: view(&found.home, record),
        ready_when: record.ready.clone(),
        restart_max: record.restart,
        policy: settings(found.filed.policy()),
        failure: record.end.as_ref().and_then(|end| end.failure.clone()),
        log: Log { bytes: found.home.size(), max: record.log_max, end: log, lost: record.log_lost },
    })
}

fn view(home: &Home, record: &Record) -> Job {
    let status = super::status(record);
    let end = record.end.as_ref();
    let ready_ms = record.ready_ms.or_else(|| home.ready_since(record.turn));
    let signal = match end.and_then(|e| e.outcome.as_ref()) {
        Some(Outcome::Signaled { signal } | Outcome::Interrupted { signal }) => Some(*signal),
        Some(Outcome::Exited { .. } | Outcome::TimedOut | Outcome::OutOfMemory | Outcome::Failed { .. })
        | None => None,
    };
    Job {
        id: record.id,
        name: record.name.clone(),
        group: record.group.clone(),
        status,
        running: status.is_running(),
        ready: record.ready.as_ref().map(|_| ready_ms.is_some()),
        exit_code: end.map(|e| e.exit_code),
        signal,
        workspace: record.workspace,
        argv: record.argv.iter().map(|a| a.shown()).collect(),
        dir: record.dir.shown(),
        created_at: rfc3339(record.created_ms),
        started_at: record.started_ms.map(rfc3339),
        ready_at: ready_ms.map(rfc3339),
        ended_at: end.map(|e| rfc3339(e.ended_ms)),
        duration_ms: end.map(|e| e.duration_ms),
        restarts: record.runs.saturating_sub(1),
        pid: status.is_running().then_some(record.supervisor.pid),
        jail_id: record.jail,
        init: record.init.as_ref().filter(|_| status.is_running()).map(|init| init.pid),
    }
}

/// Its command as one line, printable.
pub(super) fn command(record: &Record) -> String {
    command_line(&record.argv.iter().map(|a| a.shown()).collect::<Vec<_>>())
}
