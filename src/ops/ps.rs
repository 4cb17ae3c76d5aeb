//! `aj ps`: jobs that run, and the processes of jails.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use super::jobs::{self, list};
use super::workspaces;
use crate::base::id::{Id, Kind};
use crate::base::quote::command_line;
use crate::base::text::printable;
use crate::jail::census::Census;
use crate::monitor::Monitor;
use crate::schema::changes::FORMAT;
use crate::schema::job::{OneProcess, Processes, Status};
use crate::store::layout::StateDir;
use crate::store::{alive, live};

/// Bytes of a command line that are shown.
const LONGEST: usize = 4096;

/// Look, at those of one workspace or at all.
pub fn look(workspace: Option<&OsStr>, monitor: &dyn Monitor) -> Result<Processes, jobs::Error> {
    let workspace = workspace.map(|word| workspaces::find(Some(word))).transpose()?.map(|found| found.id());
    let mut answer = Processes { format_version: FORMAT, jobs: Vec::new(), processes: Vec::new() };
    let Some(state) = StateDir::open_if_present()? else { return Ok(answer) };
    let status = vec![Status::Starting, Status::Running, Status::Restarting];
    answer.jobs = list::jobs(&state, &list::Filter { workspace, status, ..list::Filter::default() })?;
    let mut running = live::Running::default();
    let starts = running.look(&state, monitor)?;
    let census = Census::take();
    // In the jail of a workspace the job is whose parent of a command they descend from.
    let mut jobs = BTreeMap::new();
    for job in &mut answer.jobs {
        let run = starts.iter().find(|start| job.pid == Some(start.pid));
        job.jail_id = run.map(|start| start.id).or(job.jail_id);
        let Some(init) = job.init.and_then(|init| i32::try_from(init).ok()) else { continue };
        jobs.insert(init, job.id);
        jobs.extend(census.below(init).iter().map(|member| (member.pid, job.id)));
    }
    for start in starts {
        let of = start.tree.filter(|id: &Id| id.kind() == Kind::Workspace);
        if workspace.is_some() && of != workspace {
            continue;
        }
        let there = |init: &u32| alive::may_be_child(*init, start.pid_start, &start.boot_id);
        let Some(init) = start.init.filter(there).and_then(|init| i32::try_from(init).ok()) else { continue };
        let job = answer.jobs.iter().find(|job| job.pid == Some(start.pid)).map(|job| job.id);
        for member in census.below(init) {
            let command = member.command(LONGEST);
            let words = command.strip_suffix(b"\0").unwrap_or(&command).split(|b| *b == 0).map(printable);
            answer.processes.push(OneProcess {
                pid: u32::try_from(member.pid).unwrap_or(0),
                pid_inside: member.pid_inside(),
                parent: u32::try_from(member.parent).unwrap_or(0),
                jail_id: start.id,
                job_id: jobs.get(&member.pid).copied().or(job),
                workspace: of,
                state: member.state.to_string(),
                cpu_ms: u64::try_from(member.cpu.as_millis()).unwrap_or(u64::MAX),
                memory: member.memory,
                threads: member.threads,
                command: command_line(&words.collect::<Vec<_>>()),
            });
        }
    }
    Ok(answer)
}
