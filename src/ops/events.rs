//! `aj events`: what happened to jails, jobs and workspaces, told from their records.
//!
//! Nobody writes events: each is the difference of two looks at what is recorded anyway. Of a job that is
//! started, ready and ended between two looks all three are told, by the times in its record; of one that was
//! made and removed in between, nothing. The first look finds what is recorded then: no record is kept of what was
//! removed before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::jobs::{self, list};
use super::ledger::{self, Filter};
use super::workspaces;
use crate::base::id::Id;
use crate::job::watch::Watch;
use crate::monitor::Monitor;
use crate::schema::events::Event;
use crate::schema::job::Job;
use crate::schema::ledger::{JailSummary, Status};
use crate::store::layout::StateDir;

/// Jails that a look takes in at first.
const PAGE: u64 = 64;
/// The shortest time between two looks: each folds the ledger, for which runs wait.
const APART: Duration = Duration::from_millis(250);
/// The longest: the end of a process that was killed is told by nobody.
const LOOK: Duration = Duration::from_secs(1);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Of jails.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// Of jobs.
    #[error(transparent)]
    Jobs(#[from] jobs::Error),
    /// Of workspaces.
    #[error(transparent)]
    Workspaces(#[from] workspaces::Error),
    /// The state directory.
    #[error(transparent)]
    State(#[from] crate::store::Error),
}

/// An event with its time, as the record has it.
pub type Timed = (Option<String>, Event);

/// What was seen at the last look.
#[derive(Debug, Default)]
struct Seen {
    /// Jails of the last page, the newest first in it.
    jails: BTreeSet<String>,
    running: BTreeSet<String>,
    jobs: BTreeMap<Id, Job>,
    workspaces: BTreeSet<Id>,
}

/// Tell what happened since `since_ms` (milliseconds since the epoch), or from now on; with `follow` go on until
/// `tell` says that nobody listens.
pub fn events(
    since_ms: Option<u64>,
    follow: bool,
    monitor: &dyn Monitor,
    tell: &mut dyn FnMut(Timed) -> bool,
) -> Result<(), Error> {
    // Made when it is missing: what is to come has to be watched somewhere.
    let state = if follow { Some(StateDir::open()?) } else { StateDir::open_if_present()? };
    let Some(state) = state else { return Ok(()) };
    let jobs_dir = if follow { Some(crate::store::jobs::all_path(&state)?) } else { None };
    let dirs = || [Some(state.path()), jobs_dir.as_deref()].into_iter().flatten();
    let watch = follow.then(|| Watch::new(dirs()));
    let mut seen = Seen::default();
    let mut first = seen.look(since_ms, monitor)?;
    if since_ms.is_none() {
        first.clear();
    }
    if let Some(since) = since_ms {
        let since = crate::base::clock::rfc3339(since);
        first.retain(|(time, _)| time.as_ref().is_none_or(|time| *time >= since));
    }
    for event in first {
        if !tell(event) {
            return Ok(());
        }
    }
    let Some(watch) = watch else { return Ok(()) };
    loop {
        let began = Instant::now();
        watch.wait(pause(&seen));
        std::thread::sleep(APART.saturating_sub(began.elapsed()));
        for event in seen.look(None, monitor)? {
            if !tell(event) {
                return Ok(());
            }
        }
    }
}

/// How long to wait: jobs that run change in their own directories, where a log that grows would wake us each
/// time. Their records are looked at now and then instead.
fn pause(seen: &Seen) -> Duration {
    if seen.jobs.values().any(|job| job.running) { APART } else { LOOK }
}

impl Seen {
    /// What is new, in the order of its time.
    fn look(&mut self, since_ms: Option<u64>, monitor: &dyn Monitor) -> Result<Vec<Timed>, Error> {
        let mut found = Vec::new();
        self.jails(since_ms, monitor, &mut found)?;
        self.jobs(&mut found)?;
        self.workspaces(&mut found)?;
        // Times are RFC 3339 in UTC, of one length. What has none is of now.
        found.sort_by(|(a, _), (b, _)| match (a, b) {
            (Some(a), Some(b)) => a.cmp(b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        });
        Ok(found)
    }

    fn jails(
        &mut self,
        since_ms: Option<u64>,
        monitor: &dyn Monitor,
        found: &mut Vec<Timed>,
    ) -> Result<(), Error> {
        let mut limit = if since_ms.is_some() { None } else { Some(PAGE) };
        let page = loop {
            let filter = Filter { since_ms, limit, ..Filter::default() };
            let page: Vec<JailSummary> =
                ledger::list(&filter, monitor)?.jails.into_iter().map(|j| j.summary).collect();
            let whole = limit.is_none_or(|limit| (page.len() as u64) < limit);
            if whole || self.jails.is_empty() || page.iter().any(|j| self.jails.contains(&j.id)) {
                break page;
            }
            limit = limit.map(|limit| limit * 4);
        };
        let fresh = page.iter().take_while(|j| !self.jails.contains(&j.id));
        for jail in fresh {
            found.push((jail.started_at.clone(), started(jail)));
            if is_over(jail.status) {
                found.push((jail.ended_at.clone(), ended(jail)));
            } else {
                self.running.insert(jail.id.clone());
            }
        }
        let mut over = Vec::new();
        for id in &self.running {
            let in_page = page.iter().find(|j| j.id == *id).cloned();
            let one = match in_page {
                Some(one) => one,
                None => match ledger::list_one(id, monitor)? {
                    Some(one) => one,
                    None => continue,
                },
            };
            if is_over(one.status) {
                over.push(id.clone());
                // Told above when it is new.
                if self.jails.contains(id) {
                    found.push((one.ended_at.clone(), ended(&one)));
                }
            }
        }
        self.running.retain(|id| !over.contains(id));
        self.jails = page.into_iter().map(|j| j.id).chain(self.running.iter().cloned()).collect();
        Ok(())
    }

    fn jobs(&mut self, found: &mut Vec<Timed>) -> Result<(), Error> {
        let now: BTreeMap<Id, Job> =
            list::list(&list::Filter::default())?.jobs.into_iter().map(|j| (j.id, j)).collect();
        for (id, job) in &now {
            let before = self.jobs.get(id);
            changes(before, job, found);
        }
        for id in self.jobs.keys().filter(|id| !now.contains_key(id)) {
            found.push((None, Event::JobRemoved { job_id: *id }));
        }
        self.jobs = now;
        Ok(())
    }

    fn workspaces(&mut self, found: &mut Vec<Timed>) -> Result<(), Error> {
        let all = workspaces::list::list(&workspaces::list::Filter::default())?.workspaces;
        for one in all.iter().filter(|w| !self.workspaces.contains(&w.id)) {
            let event = Event::WorkspaceCreated { workspace_id: one.id, name: one.name.to_string() };
            found.push((Some(one.created_at.clone()), event));
        }
        let now: BTreeSet<Id> = all.iter().map(|w| w.id).collect();
        for id in self.workspaces.difference(&now) {
            found.push((None, Event::WorkspaceRemoved { workspace_id: *id }));
        }
        self.workspaces = now;
        Ok(())
    }
}

/// What happened to one job between two looks, in its order.
fn changes(before: Option<&Job>, job: &Job, found: &mut Vec<Timed>) {
    let job_id = job.id;
    let text = |name: &Option<crate::base::name::Name>| name.as_ref().map(ToString::to_string);
    // Started by hand once more: it had ended, and has begun since.
    let anew = before.is_some_and(|b| !b.running && (job.running || job.started_at != b.started_at));
    if before.is_none() || anew {
        let event = Event::JobStarted {
            job_id,
            name: text(&job.name),
            group: text(&job.group),
            argv: job.argv.clone(),
        };
        let at = if anew { job.started_at.clone() } else { Some(job.created_at.clone()) };
        found.push((at, event));
    }
    if job.started_at.is_some() && before.is_none_or(|b| b.started_at != job.started_at) {
        found.push((job.started_at.clone(), Event::JobRunning { job_id, restarts: job.restarts }));
    }
    if job.ready_at.is_some() && before.is_none_or(|b| b.ready_at != job.ready_at) {
        found.push((job.ready_at.clone(), Event::JobReady { job_id }));
    }
    if !job.running && before.is_none_or(|b| b.running || b.ended_at != job.ended_at) {
        let event = Event::JobEnded { job_id, status: job.status, exit_code: job.exit_code };
        found.push((job.ended_at.clone(), event));
    }
}

fn is_over(status: Status) -> bool {
    !matches!(status, Status::Running | Status::Paused)
}

fn started(jail: &JailSummary) -> Event {
    let JailSummary { id, kind, argv, cwd, .. } = jail.clone();
    Event::JailStarted { jail_id: id, kind, argv, cwd }
}

fn ended(jail: &JailSummary) -> Event {
    Event::JailEnded { jail_id: jail.id.clone(), status: jail.status, exit_code: jail.exit_code }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::Kind;
    use crate::schema::job::Status as JobStatus;

    fn job(status: JobStatus, started: Option<&str>, ready: Option<&str>, ended: Option<&str>) -> Job {
        let text = |t: Option<&str>| t.map(str::to_owned);
        Job {
            id: Id::random(Kind::Job).unwrap(),
            name: None,
            group: None,
            status,
            running: status.is_running(),
            ready: None,
            exit_code: None,
            signal: None,
            workspace: None,
            argv: vec![],
            dir: String::new(),
            created_at: "0".to_owned(),
            started_at: text(started),
            ready_at: text(ready),
            ended_at: text(ended),
            duration_ms: None,
            restarts: 0,
            pid: None,
            jail_id: None,
            init: None,
        }
    }

    #[test]
    fn what_happened_between_two_looks_is_told_once_and_in_order() {
        let told = |before: Option<&Job>, now: &Job| {
            let mut found = Vec::new();
            changes(before, now, &mut found);
            found
                .iter()
                .map(|(_, e)| serde_json::to_value(e).unwrap()["type"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        use JobStatus::{Exited, Restarting, Running, Starting};
        let starting = job(Starting, None, None, None);
        let running = job(Running, Some("1"), None, None);
        let ready = job(Running, Some("1"), Some("2"), None);
        let waits = job(Restarting, Some("1"), Some("2"), None);
        let again = job(Running, Some("3"), Some("2"), None);
        let ended = job(Exited, Some("3"), Some("2"), Some("4"));
        assert_eq!(told(None, &starting), ["job_started"]);
        assert_eq!(told(Some(&starting), &running), ["job_running"]);
        assert_eq!(told(Some(&running), &ready), ["job_ready"]);
        assert_eq!(told(Some(&ready), &waits), [""; 0]);
        assert_eq!(told(Some(&waits), &again), ["job_running"]);
        assert_eq!(told(Some(&again), &ended), ["job_ended"]);
        assert_eq!(told(Some(&ended), &ended), [""; 0]);
        assert_eq!(told(None, &ended), ["job_started", "job_running", "job_ready", "job_ended"]);
        let anew = job(Exited, Some("5"), None, Some("6"));
        assert_eq!(told(Some(&ended), &anew), ["job_started", "job_running", "job_ended"]);
    }
}
