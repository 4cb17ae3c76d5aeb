//! Making a running jail stand still, and letting it go on, from outside of it.
//!
//! By `cgroup.freeze` where a group of cgroup v2 can be had, by the freezer of cgroup v1, and otherwise by
//! SIGSTOP to each process. The first two are seen by nobody inside, and nothing inside can undo them. A
//! group that the jail has not got already is made for it, frozen before the first process is in it.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;

use super::limits::PREFIX;
use crate::base::id::Id;
use crate::host::cgroups::{Controller, Hierarchies, Hierarchy};
use crate::sys::cgroup::Group;
use crate::sys::{Error, Result, pidfd};

/// How long it may take until everything stands still.
const PATIENCE: Duration = Duration::from_secs(2);

/// How a jail is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// This group of cgroup v2.
    Freeze(PathBuf),
    /// This group of cgroup v1's freezer.
    Freezer(PathBuf),
    /// SIGSTOP.
    Signal,
}

/// The processes of a jail, as this pid namespace numbers them.
#[derive(Debug)]
pub struct Jail {
    /// Its id.
    pub id: Id,
    /// Its `aj`, which its groups are named after.
    pub aj: i32,
    /// Its pid 1.
    pub init: i32,
}

impl Jail {
    /// Ways to hold it that this user has, the best first. Nothing is done yet.
    pub fn ways(&self) -> Vec<Hold> {
        let hierarchies = self.hierarchies();
        let name = format!("{PREFIX}{}.{}", self.id, self.aj);
        let group = |h: &Hierarchy| {
            // The one that it is in, if that is its own; otherwise one beside or below that.
            if h.own.file_name().is_some_and(|n| n == name.as_str()) {
                return Some(h.own.clone());
            }
            let ours = |path: &&Path| Group::open(path).is_ok_and(|g| g.is_ours());
            h.upwards().find(ours).map(|parent| parent.join(&name))
        };
        let v2 = hierarchies.v2().and_then(group).map(Hold::Freeze);
        let v1 = hierarchies.v1(Controller::Freezer).and_then(group).map(Hold::Freezer);
        v2.into_iter().chain(v1).chain([Hold::Signal]).collect()
    }

    fn hierarchies(&self) -> Hierarchies {
        let read = |path: &str| std::fs::read(path).unwrap_or_default();
        Hierarchies::parse(&read(&format!("/proc/{}/cgroup", self.init)), &read("/proc/self/mountinfo"))
    }

    /// Make it stand still. On `Err` it may do so in part: [`Jail::thaw`] undoes that.
    pub fn freeze(&self, how: &Hold) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        match how {
            Hold::Freeze(path) => {
                let group = open_or_make(path)?;
                group.write("cgroup.freeze", "1")?;
                self.gather(&group, until)?;
                wait(until, "cgroup.freeze", || Ok(group.read("cgroup.events")?.value("frozen") == Some(1)))
            }
            Hold::Freezer(path) => {
                let group = open_or_make(path)?;
                group.write("freezer.state", "FROZEN")?;
                self.gather(&group, until)?;
                wait(until, "freezer.state", || Ok(group.read("freezer.state")?.text() == "FROZEN"))
            }
            Hold::Signal => {
                // Whoever still runs may have made another one meanwhile.
                wait(until, "SIGSTOP", || {
                    let (init, others) = self.init_and_others();
                    let mut all = true;
                    // Pid 1 first, and alone: it would take what stops for stopped by the user (Ctrl-Z).
                    let running = init.iter().any(|p| !p.stopped);
                    for process in if running { init } else { others } {
                        all &= !running;
                        if !process.stopped {
                            all = false;
                            process.signal(libc::SIGSTOP)?;
                        }
                    }
                    Ok(all)
                })
            }
        }
    }

    /// Let it go on.
    pub fn thaw(&self, how: &Hold) -> Result<()> {
        match how {
            // Pid 1 last, for the same reason.
            Hold::Signal => {
                let (init, others) = self.init_and_others();
                others.iter().chain(&init).try_for_each(|p| p.signal(libc::SIGCONT))
            }
            group => thaw(group),
        }
    }

    /// Pid 1, and the others.
    fn init_and_others(&self) -> (Vec<Process>, Vec<Process>) {
        self.processes().into_iter().partition(|p| p.pid == self.init)
    }

    /// Move all processes of the jail into `group`: what is in it can make no more.
    fn gather(&self, group: &Group, until: Instant) -> Result<()> {
        wait(until, "cgroup.procs", || {
            let inside = group.processes()?;
            let outside: Vec<_> = self.processes().into_iter().filter(|p| !inside.contains(&p.pid)).collect();
            for process in &outside {
                match process.is_same().then(|| group.enter(process.pid)) {
                    None | Some(Ok(()) | Err(Error { errno: Errno::ESRCH, .. })) => {}
                    Some(Err(e)) => return Err(e),
                }
            }
            Ok(outside.is_empty())
        })
    }

    /// Pid 1 and all that descends from it. Those that have ended are left out.
    fn processes(&self) -> Vec<Process> {
        let all: HashMap<i32, Stat> = pids().filter_map(|pid| Some((pid, Stat::of(pid)?))).collect();
        let descends = |pid: i32| {
            let mut at = pid;
            // No chain is longer than there are processes: a table read piece by piece may have a circle.
            for _ in 0..=all.len() {
                if at == self.init {
                    return true;
                }
                match all.get(&at) {
                    Some(stat) if stat.parent > 0 => at = stat.parent,
                    _ => return false,
                }
            }
            false
        };
        let of = |(pid, stat): (&i32, &Stat)| {
            (!stat.ended && descends(*pid)).then_some(Process {
                pid: *pid,
                start: stat.start,
                stopped: stat.stopped,
            })
        };
        all.iter().filter_map(of).collect()
    }
}

/// Let what is in a group go on, whoever it is.
pub fn thaw(how: &Hold) -> Result<()> {
    let gone = |e: Error| if e.errno == Errno::ENOENT { Ok(()) } else { Err(e) };
    match how {
        Hold::Freeze(path) => Group::open(path).and_then(|g| g.write("cgroup.freeze", "0")).or_else(gone),
        Hold::Freezer(path) => {
            Group::open(path).and_then(|g| g.write("freezer.state", "THAWED")).or_else(gone)
        }
        Hold::Signal => Ok(()),
    }
}

/// Whether a group of cgroup v1 is frozen; `false` when it is gone.
pub fn is_frozen(path: &Path) -> bool {
    let state = Group::open(path).and_then(|g| g.read("freezer.state"));
    state.is_ok_and(|s| matches!(s.text(), "FROZEN" | "FREEZING"))
}

/// Remove the group that a pause made, if nobody is in it.
pub fn remove(how: &Hold) {
    if let Hold::Freeze(path) | Hold::Freezer(path) = how
        && let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
        && name.starts_with(PREFIX)
        && let Ok(parent) = Group::open(parent)
    {
        // Its limits' own group is removed by its own aj.
        drop(parent.remove(name));
    }
}

fn open_or_make(path: &Path) -> Result<Group> {
    match Group::open(path) {
        Err(Error { errno: Errno::ENOENT, .. }) => {}
        other => return other,
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Err(Error::new("mkdir", crate::base::text::os(path), Errno::EINVAL));
    };
    Group::open(parent)?.make(name)
}

/// Until `done`, or an error with the name of what did not come.
fn wait(until: Instant, what: &'static str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    while !done()? {
        if Instant::now() >= until {
            return Err(Error::new("freeze", what, Errno::ETIMEDOUT));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok())
}

/// A process that was seen.
#[derive(Debug)]
struct Process {
    pid: i32,
    start: u64,
    stopped: bool,
}

impl Process {
    /// Whether its number still means the same process.
    fn is_same(&self) -> bool {
        Stat::of(self.pid).is_some_and(|s| s.start == self.start && !s.ended)
    }

    fn signal(&self, number: i32) -> Result<()> {
        let Ok(fd) = pidfd::open(self.pid) else { return Ok(()) };
        if self.is_same() {
            pidfd::signal(fd.as_fd(), number)?;
        }
        Ok(())
    }
}

/// What `/proc/PID/stat` says.
struct Stat {
    parent: i32,
    start: u64,
    stopped: bool,
    ended: bool,
}

impl Stat {
    fn of(pid: i32) -> Option<Stat> {
        Stat::parse(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name of a program, in parentheses, may hold anything.
    fn parse(stat: &[u8]) -> Option<Stat> {
        let end = stat.iter().rposition(|b| *b == b')')?;
        let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let start = fields.nth(17)?.parse().ok()?;
        Some(Stat {
            parent,
            start,
            stopped: matches!(state, "T" | "t"),
            ended: matches!(state, "Z" | "X" | "x"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn family() -> (std::process::Child, Jail) {
        let mut child = Command::new("sh")
            .args(["-c", "sleep 60 & sleep 60 & wait"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let init = child.id() as i32;
        let jail = Jail { id: Id::random(crate::base::id::Kind::Jail).unwrap(), aj: 1, init };
        let start = Instant::now();
        while jail.processes().len() < 3 {
            assert!(start.elapsed() < Duration::from_secs(5));
            assert!(child.try_wait().unwrap().is_none());
            std::thread::sleep(Duration::from_millis(5));
        }
        (child, jail)
    }

    #[test]
    fn signals_stop_a_process_and_all_that_descends_from_it() {
        let (mut child, jail) = family();
        jail.freeze(&Hold::Signal).unwrap();
        let held = jail.processes();
        assert!(held.len() == 3 && held.iter().all(|p| p.stopped), "{held:?}");
        assert!(!Stat::of(std::process::id() as i32).unwrap().stopped);
        jail.thaw(&Hold::Signal).unwrap();
        let start = Instant::now();
        while jail.processes().iter().any(|p| p.stopped) {
            assert!(start.elapsed() < Duration::from_secs(5));
        }
        for process in jail.processes() {
            process.signal(libc::SIGKILL).unwrap();
        }
        child.wait().unwrap();
    }

    #[test]
    fn a_group_that_is_gone_has_nobody_to_thaw() {
        for how in [Hold::Freeze("/nowhere/x".into()), Hold::Freezer("/nowhere/x".into()), Hold::Signal] {
            thaw(&how).unwrap();
            remove(&how);
        }
        assert!(!is_frozen(Path::new("/nowhere")));
    }

    #[test]
    fn a_stat_line_is_read_behind_the_name() {
        let line = b"7 (a) R 1 (x) \n) T 12 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1\n";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.parent, stat.start, stat.stopped, stat.ended), (12, 4242, true, false));
        for bad in [&b""[..], b"7 (a", b"7 (a) S", b"7 (a) S x", b"7 (a) \xff"] {
            assert!(Stat::parse(bad).is_none());
        }
    }
}
