//! `aj job kill`.

use std::time::{Duration, Instant};

use nix::libc;

use super::{Error, Found, alive, list};
use crate::jail::census::Census;
use crate::job::watch::Watch;
use crate::schema::job::{JobDetail, Phase, Process};
use crate::sys::pidfd;

/// How long a command that is about to begin is waited for.
const BEGINS: Duration = Duration::from_secs(10);
/// How long the end of a job that was killed is waited for.
const ENDS: Duration = Duration::from_secs(15);

/// Send `signal` to the process group of the job's command, or to every process that descends from it. One
/// that ends programs also keeps the job from being started again.
pub fn kill(found: &mut Found, signal: i32, all: bool) -> Result<JobDetail, Error> {
    if !found.status()?.is_running() {
        return Err(Error::NotRunning(found.name()));
    }
    let ending = [libc::SIGTERM, libc::SIGKILL, libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGABRT];
    if ending.contains(&signal) {
        match found.home.ask_to_stop(found.filed.record.turn) {
            Err(e) if e.errno() == Some(nix::errno::Errno::ENOENT) => {
                return Err(Error::Removed(found.name()));
            }
            done => done?,
        }
    }
    if let Some(init) = wait_for_command(found)? {
        send(found, &init, signal, all)?;
    }
    found.look()?;
    list::detail(found)
}

/// The parent of the command, once there is one; `None`: the job ends without.
fn wait_for_command(found: &mut Found) -> Result<Option<Process>, Error> {
    let began = Instant::now();
    let watch = Watch::new([found.home.path()]);
    loop {
        let status = found.status()?;
        let record = &found.filed.record;
        match (&record.init, record.phase) {
            _ if !status.is_running() => return Ok(None),
            (Some(init), Phase::Running) if alive::lives(init) => return Ok(Some(init.clone())),
            _ if began.elapsed() > BEGINS => return Ok(None),
            _ => watch.wait(Duration::from_millis(100)),
        }
        found.look()?;
    }
}

fn send(found: &Found, init: &Process, signal: i32, all: bool) -> Result<(), Error> {
    let id = found.filed.record.id;
    let failed = |source| Error::Signal { id, signal, source };
    let Ok(pid) = i32::try_from(init.pid) else { return Ok(()) };
    // A group, or a whole tree, is met one by one: what was born meanwhile is met in the next round.
    let mut met = std::collections::BTreeSet::new();
    for _ in 0..16 {
        let census = Census::take();
        let group = census.command_group(pid);
        let mut fresh = false;
        for member in census.below(pid) {
            if (all || Some(member.group) == group) && member.state != 'Z' && met.insert(member.pid) {
                fresh = true;
                member.signal(signal).map_err(failed)?;
            }
        }
        if !fresh || !alive::lives(init) {
            break;
        }
    }
    Ok(())
}

/// Kill it and wait for its end.
pub(super) fn end(found: &mut Found) -> Result<(), Error> {
    let began = Instant::now();
    if found.status()?.is_running() {
        match kill(found, libc::SIGKILL, false) {
            Ok(_) | Err(Error::NotRunning(_)) => {}
            Err(e) => return Err(e),
        }
    }
    let watch = Watch::new([found.home.path()]);
    let mut hard = false;
    while found.status()?.is_running() {
        let passed = began.elapsed();
        if passed > ENDS && !hard {
            // Its jail goes with it.
            hard = true;
            use std::os::fd::AsFd;
            let supervisor = found.filed.record.supervisor.clone();
            let process = i32::try_from(supervisor.pid).ok().and_then(|pid| pidfd::open(pid).ok());
            if let Some(process) = process.filter(|_| alive::lives(&supervisor)) {
                pidfd::signal(process.as_fd(), libc::SIGKILL).ok();
            }
        }
        if passed > ENDS + Duration::from_secs(5) {
            return Err(Error::Unkillable(found.filed.record.id));
        }
        watch.wait(Duration::from_millis(100));
        found.look()?;
    }
    Ok(())
}

/// The number of a signal that is given by name, with or without `SIG`, or by number.
pub fn signal(given: &str) -> Result<i32, String> {
    use nix::sys::signal::Signal;
    let upper = given.trim().to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper.clone() } else { format!("SIG{upper}") };
    let number = upper.parse::<i32>().ok().filter(|n| (1..=64).contains(n));
    let named = || name.parse::<Signal>().ok().map(|s| s as i32);
    number.or_else(named).ok_or_else(|| "write it like `TERM`, `SIGKILL` or `10`".to_owned())
}
