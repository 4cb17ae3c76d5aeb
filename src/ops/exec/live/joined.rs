//! One command that joins a live jail.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;

use super::super::relay::Relay;
use super::super::seat::{self, Seat};
use super::super::{
    Error, Report, Request, Watcher, born, check, end, give_code, limits, mode, offline, patience, record,
    streams, volumes,
};
use super::blueprint::{Blueprint, shape};
use super::{NotLive, SETTLES, own, start};
use crate::base::id::{Id, Kind};
use crate::jail::join::{self, Asked, Begun, Job, Live, Reached};
use crate::jail::limits::Limits;
use crate::jail::plan;
use crate::jail::status::Required;
use crate::jail::supervise::{self, Options};
use crate::ops::{config, project};
use crate::schema::jail::Outcome;
use crate::store::spool;
use crate::sys::{self, pidfd};

/// How long a jail in which nothing runs may take to end.
const ENDS: Duration = Duration::from_secs(2);

/// Whether a jail ends within that time of itself.
fn ends(live: Live, dir: &File) -> Result<bool, Error> {
    match live.look().map_err(Error::Launch)? {
        None => return Ok(true),
        Some(seen) if seen.keep || seen.commands > 0 || seen.processes > 0 => return Ok(false),
        Some(_) => {}
    }
    match join::reach(dir.as_fd(), ENDS).map_err(Error::Launch)? {
        Reached::Live(live) => live.wait(Some(ENDS)).map_err(Error::Launch),
        Reached::None => Ok(true),
        Reached::Silent { .. } | Reached::Strange { .. } => Ok(false),
    }
}

/// Run it. `None`: the jail has ended, and nothing has run.
pub(super) fn exec(
    request: &Request,
    seat: &Seat,
    (live, dir): (Live, &File),
    (watcher, umask): (&mut dyn Watcher, Mode),
    said: &mut Vec<String>,
) -> Result<Option<Report>, Error> {
    let name = || seat.name();
    let (holder, holder_pid) = (live.holder(), live.holder);
    let strange = || Error::from(NotLive::Strange(seat.name()));
    let state = &seat.found.state;
    let status = streams::inherited(request.status_fd)?;
    let terminal = streams::terminal(request)?;
    let id = Id::random(Kind::Jail).map_err(Error::Random)?;
    let blueprint = Blueprint::parse(&live.blueprint).ok_or_else(strange)?;
    let jail: Id = blueprint.id.parse().map_err(|_| strange())?;
    let mut policy = blueprint.policy().ok_or_else(strange)?;
    let elsewhere = blueprint.elsewhere.then(|| PathBuf::from(&blueprint.sight.at));
    let place = project::of_workspace(PathBuf::from(&blueprint.base), elsewhere)?;
    let at = (&*place.root, &*place.cwd);
    let kept = Some(&seat.kept.stored);
    let resolved = config::policy_with(config::user()?, at, kept, request.flags.clone(), &request.env_files)?;
    let settings = &resolved.settings;
    let mut differ = blueprint.differs(&shape(settings, seat::gpus(request, Some(seat))));
    differ.extend(volumes::missing(state, &request.volumes, &blueprint.volumes)?);
    if !differ.is_empty() {
        // One in which nothing runs is about to end, and makes way.
        if ends(live, dir)? {
            return Ok(None);
        }
        return Err(NotLive::Differs { name: name(), differ }.into());
    }
    let inside = Path::new(&blueprint.sight.at);
    let cwd = check::inside(inside, (&place.root, &place.start), request.cwd.as_deref())?;
    let alias = check::alias(&place).filter(|name| blueprint.sight.aliases.iter().any(|(n, _)| *n == **name));
    let logical = check::known_as(alias.as_deref(), inside, &cwd);
    let started = blueprint.sight.start(request, settings, &logical, id)?;
    let mut own = own::Own::of(&resolved, (&blueprint.asked, &policy));
    (policy.timeout_ms, policy.nofile) =
        (settings.timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)), settings.nofile);
    policy.env = record::variables(settings);
    let job = Job {
        cwd: text("a path", cwd.as_os_str())?,
        programs: programs(&started.argv, &started.search)?,
        argv: started.argv.iter().map(|a| text("an argument", a)).collect::<Result<_, _>>()?,
        env: started.env.iter().map(|(k, v)| variable(k, v)).collect::<Result<_, _>>()?,
        umask: umask.bits(),
        nofile: settings.nofile,
        required: Required::of(&settings.require),
        terminal: None,
    };
    let birth = born::asked_for(settings);
    let streams = streams::of(request, terminal).map_err(Error::Launch)?;
    let waiting = match live.exec(job, &birth, streams, request.exclusive).map_err(Error::Launch)? {
        Asked::Waiting(waiting) => waiting,
        Asked::Gone => return Ok(None),
        Asked::Busy(commands) => return Err(NotLive::Busy { name: name(), commands }.into()),
    };
    // Dropped without the word, the command ends before it has begun.
    let mut group = match own.is_empty() {
        true => None,
        false => {
            let holder = holder.as_ref().map(|_| holder_pid);
            own.hold((seat, dir), &resolved, (&id, jail, holder), &mut policy)?
        }
    };
    let mut warnings = std::mem::take(said);
    warnings.extend_from_slice(&resolved.warnings);
    warnings.append(&mut own.words);
    let kind = if request.argv.is_empty() { "shell" } else { "exec" };
    let start =
        record::joined(id, kind, (&started.argv, &cwd, &place.root), (seat.found.id(), jail), &policy);
    warnings.extend(spool::append_start(state, &start)?);
    let options = Options {
        timeout: settings.timeout,
        grace: settings.grace,
        capture: request.capture,
        ticks: request.ticks,
        ..Options::default()
    };
    let mut relay = Relay::new(watcher, status, state, None, None);
    let failed = |step: &str, errno: String| {
        let outcome = Outcome::Failed { step: step.to_owned(), errno, code: 125 };
        spool::append_end(state, &record::end(id, outcome, None, None, None))
    };
    let begun = waiting.start(group.as_mut());
    let options = Options { group: group.as_ref(), ..options };
    relay.run = Some((jail, group.as_ref()));
    let ended = match begun {
        Ok(Begun::Running(running)) => supervise::supervise(running, &options, &mut relay),
        Ok(Begun::Refused(errno)) => {
            failed("fork", format!("{errno:?}"))?;
            return Err(NotLive::Refused { name: name(), errno }.into());
        }
        // It may have begun: it is not tried again.
        Ok(Begun::Died) => {
            failed("join", String::new())?;
            return Err(NotLive::Died(name()).into());
        }
        Err(e) => Err(e),
    };
    let (mut ended, mut leaving) = match ended {
        // Killed before it had anything to say, by whoever killed the jail as a rule.
        Ok((ended, _)) if matches!(&ended.outcome, Outcome::Failed { errno, .. } if errno.is_empty()) => {
            failed("join", String::new())?;
            return Err(NotLive::Died(name()).into());
        }
        Ok(both) => both,
        Err(e) => {
            failed(e.call, e.name())?;
            return Err(Error::Launch(e));
        }
    };
    give_code(&mut ended);
    if ended.outcome == Outcome::OutOfMemory {
        // The kernel may have killed one process only, the one that minds the rest included.
        group.iter().for_each(Limits::kill_all);
    }
    end::record(state, (id, &ended), None, &mut policy, &mut warnings);
    let left = leaving.as_mut().and_then(supervise::Leaving::leave).transpose();
    let jail_ended = matches!(left, Ok(Some(true)));
    let mut lost = None;
    match left {
        // Whoever comes next is to find a tree that nobody has.
        Ok(Some(true)) if !settles(holder.as_ref())? => {
            warnings.push(format!("the jail of workspace `{}` still puts its tree in order", name()));
        }
        // Nobody else may ever come to hear what became of what was written.
        Ok(Some(true)) => {
            let said = start::unsaid(dir);
            warnings.extend(said.warnings);
            lost = said.lost;
        }
        Ok(_) => {}
        Err(e) => warnings.push(format!("whether the jail has ended is not known: {e}")),
    }
    if killed_with_its_jail(&ended.outcome, holder.as_ref(), dir)? {
        warnings.push(format!(
            "the jail of workspace `{}` has ended, and this command with it: the process that held it was killed",
            name()
        ));
    }
    relay.ended(&ended);
    let patience = patience(settings, &ended);
    warnings.extend(relay.finish_status());
    warnings.extend(group.as_ref().and_then(|_| limits::refused(&resolved, &ended)));
    warnings.extend(mode::line(&ended));
    warnings.extend(offline::line(&resolved, &ended));
    if let Some(pid) = ended.unkillable {
        warnings.push(format!("process {pid} was killed but does not end: it waits inside the kernel"));
    }
    sys::signal::give_back();
    if jail_ended {
        group.iter_mut().for_each(Limits::jail_ended);
    }
    Ok(Some(Report {
        id,
        workspace: Some(name()),
        shared: Some(seat.found.id()),
        too_few_files: check::too_few_files(&resolved, &ended.outcome),
        tools: resolved.settings.tools,
        ended,
        policy,
        hidden: None,
        files_changed: None,
        changes: None,
        untold: false,
        warnings,
        patience,
        mounts_in_the_way: None,
        lost,
        _held: None,
        _group: group,
    }))
}

/// Whether the process that held a jail has ended in time: it puts the tree in order before.
fn settles(holder: Option<&OwnedFd>) -> Result<bool, Error> {
    let Some(holder) = holder else { return Ok(true) };
    pidfd::ends(holder.as_fd(), Instant::now() + SETTLES).map_err(Error::Launch)
}

/// Whether a command was killed because what held its jail was: that has ended without taking the jail's name away.
fn killed_with_its_jail(outcome: &Outcome, holder: Option<&OwnedFd>, dir: &File) -> Result<bool, Error> {
    let killed = matches!(outcome, Outcome::Signaled { signal } if *signal == nix::libc::SIGKILL);
    let Some(holder) = holder.filter(|_| killed) else { return Ok(false) };
    let ended = pidfd::ends(holder.as_fd(), Instant::now()).map_err(Error::Launch)?;
    Ok(ended && join::is_left(dir.as_fd()))
}

fn text(what: &'static str, bytes: &OsStr) -> Result<CString, Error> {
    Ok(CString::new(bytes.as_bytes()).map_err(|_| plan::Error::Nul { what, value: bytes.to_owned() })?)
}

fn variable(name: &OsStr, value: &OsStr) -> Result<CString, Error> {
    if name.is_empty() || name.as_bytes().contains(&b'=') {
        return Err(plan::Error::Variable(name.to_owned()).into());
    }
    let mut pair = name.to_owned();
    pair.push("=");
    pair.push(value);
    text("a variable", &pair)
}

/// Where the program may be.
fn programs(argv: &[std::ffi::OsString], search: &[PathBuf]) -> Result<Vec<CString>, Error> {
    let Some(program) = argv.first().filter(|p| !p.is_empty()) else { return Ok(Vec::new()) };
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![text("a path", program)?]);
    }
    search.iter().map(|dir| text("a path", dir.join(program).as_os_str())).collect()
}
