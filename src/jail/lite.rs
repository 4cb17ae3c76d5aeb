//! A jail without namespaces: what is in the place of pid 1, and who sees to it that nothing is left.
//!
//! ```text
//! aj exec ── keeper ── worker ── command
//! ```
//! The worker is confined (Landlock, the filter, no privileges) and starts the command as pid 1 would. The
//! keeper is not, and adopts every orphan below it: when the worker has ended, or aj is gone, it ends
//! whatever descends from it. A keeper that is killed leaves its orphans to aj, which does the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::confine::{Stdio, confine};
use super::handover;
use super::init::{Hand, command, fail, leave};
use super::plan::Plan;
use super::status::{Layer, Layers};
use crate::base::text;
use crate::sys::clone::{self, Cloned, Namespaces, clone3};
use crate::sys::{Error, Result, caps, pidfd, signal};

/// How long the end of what is left is waited for.
const LAST_MOMENTS: Duration = Duration::from_secs(5);

/// Run as the keeper. Never returns.
pub(super) fn run(hand: Hand) -> ! {
    let Hand { status, go, stdio, processors } = hand;
    let started = (|| {
        nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0)).map_err(|e| Error::new("setpgid", "", e))?;
        let Some((plan, _)) = handover::receive(&go, &status)? else { clone::exit_now(125) };
        if let Some(processors) = processors {
            processors.restore();
        }
        if handover::wait(&go).is_none() {
            clone::exit_now(125);
        }
        caps::adopt_orphans()?;
        caps::not_dumpable()?;
        work(plan, &go, &status, stdio)
    })();
    let (pid, worker) = match started {
        Ok(both) => both,
        Err(e) => fail(&status, &e, false),
    };
    signal::keep_to_group(true);
    // Only the supervisor sends any; without it, the command is not told.
    signal::forward_to_group(pid).ok();
    watch(&worker, &status);
    end_descendants(std::process::id());
    clone::exit_now(0)
}

/// Start the worker.
fn work(plan: Plan, go: &File, status: &OwnedFd, stdio: Stdio) -> Result<(i32, OwnedFd)> {
    let keeper = nix::unistd::getpid();
    match clone3(Namespaces::NONE, None)? {
        Cloned::Parent(pid, pidfd) => Ok((pid, pidfd)),
        Cloned::Child => {
            let ours = status.try_clone().unwrap_or_else(|_| clone::exit_now(125));
            let mut layers = Layers::default();
            let terminal = matches!(stdio, Stdio::Terminal(_));
            if let Err(e) = prepare(&plan, keeper, terminal, &mut layers) {
                fail(&ours, &e, false);
            }
            // The pipe is closed with everything else.
            let _ = go;
            let ours = match confine(&plan, ours, stdio, &mut layers) {
                Ok(ours) => ours,
                Err((ours, e)) => fail(&ours, &e, false),
            };
            command(&plan, &ours, layers, terminal)
        }
    }
}

fn prepare(plan: &Plan, keeper: Pid, terminal: bool, layers: &mut Layers) -> Result<()> {
    caps::die_with_parent()?;
    if nix::unistd::getppid() != keeper {
        clone::exit_now(125);
    }
    leave(terminal)?;
    signal::keep_to_group(false);
    if plan.confinement.without.keeps("keyring") && caps::fresh_session_keyring()? {
        layers.add(Layer::Keyring);
    }
    nix::unistd::chdir(plan.cwd.as_c_str()).map_err(|e| Error::new("chdir", text::c(&plan.cwd), e))
}

/// Until the worker has ended or the launcher is gone.
fn watch(worker: &OwnedFd, status: &OwnedFd) {
    loop {
        let mut both =
            [PollFd::new(worker.as_fd(), PollFlags::POLLIN), PollFd::new(status.as_fd(), PollFlags::empty())];
        match poll(&mut both, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            Err(_) => return,
            Ok(_) => {
                let seen = both.map(|p| p.revents().unwrap_or(PollFlags::empty()));
                if seen.iter().any(|s| !s.is_empty()) {
                    return;
                }
            }
        }
    }
}

/// End everything that descends from this process, which adopts orphans. What is stopped first can make
/// nothing new.
pub fn end_descendants(me: u32) {
    let deadline = Instant::now() + LAST_MOMENTS;
    let me = i32::try_from(me).unwrap_or(0);
    let mut stopped = BTreeSet::new();
    while Instant::now() < deadline {
        while pidfd::reap_any() {}
        let all = descendants(me);
        if all.is_empty() {
            return;
        }
        if stop_the_new(all.iter().copied(), &mut stopped) {
            continue;
        }
        for pid in all {
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Stop those of `all` that are not `stopped` yet; whether there were any.
pub(super) fn stop_the_new(all: impl Iterator<Item = i32>, stopped: &mut BTreeSet<i32>) -> bool {
    let new: Vec<i32> = all.filter(|pid| stopped.insert(*pid)).collect();
    for pid in &new {
        kill(Pid::from_raw(*pid), Signal::SIGSTOP).ok();
    }
    !new.is_empty()
}

/// Every process that descends from `top`, as `/proc` has it now. One that has ended and was not waited
/// for is one, too, until it is.
pub(super) fn descendants(top: i32) -> Vec<i32> {
    let mut parents = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let stat = std::fs::read(entry.path().join("stat")).unwrap_or_default();
        let stat = String::from_utf8_lossy(&stat);
        if let Some(parent) = super::usage::parent(&stat) {
            parents.insert(pid, parent);
        }
    }
    let below = |pid: &i32| {
        let mut ancestors = std::iter::successors(parents.get(pid), |pid| parents.get(pid));
        ancestors.by_ref().take(parents.len()).any(|pid| *pid == top)
    };
    parents.keys().copied().filter(|pid| *pid > 1 && below(pid)).collect()
}

/// Whether a process has ended, waited for or not.
pub(super) fn has_ended(pid: i32) -> bool {
    let Ok(stat) = std::fs::read(format!("/proc/{pid}/stat")) else { return true };
    matches!(super::usage::state(&String::from_utf8_lossy(&stat)), Some('Z' | 'X') | None)
}
