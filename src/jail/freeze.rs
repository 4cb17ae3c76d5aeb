//! Making a running jail stand still, and letting it go on, from outside of it.
//!
//! By `cgroup.freeze` where a group of cgroup v2 can be had, by the freezer of cgroup v1, and otherwise by
//! SIGSTOP to each process. The first two are seen by nobody inside, and nothing inside can undo them. A
//! group that the jail has not got already is made for it, frozen before the first process is in it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;

use super::limits::{PREFIX, group_name, name_of, nested, sweep};
use crate::base::id::Id;
use crate::host::cgroups::{Controller, Hierarchies, Hierarchy};
use crate::sys::cgroup::{self, Group};
use crate::sys::entries::Entries;
use crate::sys::{self, Error, Result, pidfd};

/// How long it may take until everything stands still.
const PATIENCE: Duration = Duration::from_secs(2);
/// Leaves of a jail's group that are looked at.
const MOST: usize = 65_536;

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
        let name = group_name(&self.id, self.aj);
        let group = |h: &Hierarchy| {
            // The one that it is in, if that is its own, or one that commands in it have limits below; otherwise one
            // beside or below that.
            if let Some(own) = nested::named(&h.own, |n| n == name) {
                return Some(own.to_owned());
            }
            let there = h.upwards().map(|place| place.join(&name)).find(|group| group.is_dir());
            let ours = |path: &&Path| Group::open(path).is_ok_and(|g| g.is_ours());
            there.or_else(|| h.upwards().find(ours).map(|parent| parent.join(&name)))
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
                // Where commands have limits below it, or may come to have, it holds no processes itself.
                let into = match self.hierarchies().v2.is_some_and(|h| h.own == *path) {
                    true => None,
                    false => Some(open_or_make(&path.join(nested::MAIN))?),
                };
                self.gather((&group, into.as_ref().unwrap_or(&group)), until)?;
                self.settle(until, "cgroup.freeze", || {
                    Ok(group.read("cgroup.events")?.value("frozen") == Some(1))
                })
            }
            Hold::Freezer(path) => {
                let group = open_or_make(path)?;
                group.write("freezer.state", "FROZEN")?;
                self.gather((&group, &group), until)?;
                self.settle(until, "freezer.state", || Ok(group.read("freezer.state")?.text() == "FROZEN"))
            }
            Hold::Signal => {
                // Pid 1 first, and alone: it would take what stops for stopped by the user (Ctrl-Z).
                wait(until, "SIGSTOP", || {
                    if Stat::of(self.init).is_ok_and(|init| init.stopped) {
                        return Ok(true);
                    }
                    self.init()?.signal(libc::SIGSTOP).map(|()| false)
                })?;
                // Whoever still runs may have made another one meanwhile.
                let mut before = None;
                wait(until, "SIGSTOP", || {
                    let mut all = true;
                    let seen = self.look(&mut |process| {
                        if process.stopped {
                            return Ok(());
                        }
                        all = false;
                        process.signal(libc::SIGSTOP)
                    })?;
                    Ok(seen.settles(all, &mut before))
                })
            }
        }
    }

    /// Wait until the kernel says that the group stands still, and look whether the jail is still in it: an
    /// empty group does as well, or never does.
    fn settle(&self, until: Instant, what: &'static str, done: impl Fn() -> Result<bool>) -> Result<()> {
        let lives = || match self.is_gone() {
            true => Err(Error::new("freeze", "pid 1", Errno::ESRCH)),
            false => Ok(()),
        };
        wait(until, what, || lives().and_then(|()| done()))?;
        lives()
    }

    /// Wait until no thread of it runs. Groups see to that themselves; of those that SIGSTOP stops, one may be
    /// in the middle of a call.
    pub fn is_stopped(&self, how: &Hold) -> Result<()> {
        if *how != Hold::Signal {
            return Ok(());
        }
        wait(Instant::now() + PATIENCE, "SIGSTOP", || {
            let mut all = true;
            self.look(&mut |process| {
                all &= process.threads_stand();
                Ok(())
            })?;
            Ok(all)
        })
    }

    /// Let it go on.
    pub fn thaw(&self, how: &Hold) -> Result<()> {
        match how {
            // Pid 1 last, for the same reason.
            Hold::Signal => {
                let others = self.look(&mut |process| match process.pid == self.init {
                    true => Ok(()),
                    false => process.signal(libc::SIGCONT),
                });
                match others.and_then(|_| self.init()?.signal(libc::SIGCONT)) {
                    Err(e) if e.errno != Errno::ESRCH => Err(e),
                    _ => Ok(()),
                }
            }
            group => thaw(group),
        }
    }

    /// Pid 1, if it is still there.
    fn init(&self) -> Result<Process> {
        let gone = || Error::new("freeze", "pid 1", Errno::ESRCH);
        let stat = Stat::of(self.init).map_err(|_| gone())?;
        if stat.ended || stat.parent != self.aj {
            return Err(gone());
        }
        Ok(Process { pid: self.init, start: stat.start, stopped: stat.stopped })
    }

    /// Move all processes of the jail that are neither in `group` nor in a leaf of it `into` that or such a leaf: what
    /// is in it can make no more.
    fn gather(&self, (group, into): (&Group, &Group), until: Instant) -> Result<()> {
        let mut before = None;
        wait(until, "cgroup.procs", || {
            let mut inside: HashSet<i32> = group.processes()?.into_iter().collect();
            for leaf in cgroup::children(group, MOST)? {
                // One that is gone had nobody in it.
                inside.extend(group.child(&leaf).and_then(|leaf| leaf.processes()).unwrap_or_default());
            }
            let mut all = true;
            let seen = self.look(&mut |process| {
                if inside.contains(&process.pid) {
                    return Ok(());
                }
                all = false;
                match into.enter(process.pid) {
                    Err(e) if e.errno != Errno::ESRCH => Err(e),
                    _ => Ok(()),
                }
            })?;
            Ok(seen.settles(all, &mut before))
        })
    }

    /// Whether its pid 1 has ended: there is nobody to be held, or to be let go on.
    pub fn is_gone(&self) -> bool {
        Stat::of(self.init).ok().is_none_or(|s| s.ended || s.parent != self.aj)
    }

    /// Look once at pid 1 and all that descends from it, and `meet` each that has not ended as soon as it
    /// is seen: a process that lives no longer than it takes to make the next one is gone a moment later.
    fn look(&self, meet: &mut dyn FnMut(&Process) -> Result<()>) -> Result<Seen> {
        let mut all: HashMap<i32, Stat> = HashMap::new();
        let mut seen = Seen { members: BTreeSet::new(), whole: true };
        let proc = std::fs::File::open("/proc").map_err(|e| Error::new("open", "/proc", sys::errno(&e)))?;
        let mut entries = Entries::one_by_one(proc.into());
        while let Some(entry) = entries.step()? {
            let Some(pid) = std::str::from_utf8(entry.name).ok().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let stat = match Stat::of(pid) {
                Ok(stat) => stat,
                // Whose it was cannot be told any more.
                Err(Errno::ENOENT | Errno::ESRCH) => {
                    seen.whole = false;
                    continue;
                }
                // Of another user.
                Err(_) => continue,
            };
            let process = Process { pid, start: stat.start, stopped: stat.stopped };
            let parent = all.get(&stat.parent).map(|parent| (stat.parent, parent.start));
            let is_ours = pid == self.init || parent.is_some_and(|parent| seen.members.contains(&parent));
            if is_ours {
                seen.members.insert((pid, stat.start));
                if !stat.ended {
                    meet(&process)?;
                }
            }
            all.insert(pid, stat);
        }
        if !seen.members.iter().any(|(pid, _)| *pid == self.init) || self.is_gone() {
            return Err(Error::new("freeze", "pid 1", Errno::ESRCH));
        }
        // Those whose number is lower than that of their parent: numbers come around.
        for (pid, stat) in &all {
            if self.descends(*pid, &all) && seen.members.insert((*pid, stat.start)) && !stat.ended {
                let process = Process { pid: *pid, start: stat.start, stopped: stat.stopped };
                if process.is_same() {
                    meet(&process)?;
                }
            }
        }
        Ok(seen)
    }

    fn descends(&self, pid: i32, all: &HashMap<i32, Stat>) -> bool {
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
    }
}

/// What one look saw of a jail.
#[derive(Debug)]
struct Seen {
    /// Numbers and start times of all processes, ended ones included: pid 1, once it is held, reaps none.
    members: BTreeSet<(i32, u64)>,
    /// No process was gone between the list and the look at it.
    whole: bool,
}

impl Seen {
    /// Whether this is the last look that is needed: everybody is held (`all`), and nothing has come or
    /// gone since the look `before`. A table of processes is read piece by piece. One that makes another
    /// and ends is never in it where it is looked for, but it leaves a gap or a dead process at each look.
    fn settles(self, all: bool, before: &mut Option<BTreeSet<(i32, u64)>>) -> bool {
        let same = before.as_ref() == Some(&self.members);
        *before = self.whole.then_some(self.members);
        all && same && before.is_some()
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

/// Remove whatever groups pauses have made for the jail `id` of this `aj`, which has ended: where one way
/// did not work, another was used, and what the first had gathered stayed in its group.
pub fn remove_all(id: &Id) {
    let name = name_of(id);
    let hierarchies = super::limits::here();
    let v2 = hierarchies.v2().into_iter().flat_map(Hierarchy::upwards).map(|p| Hold::Freeze(p.join(&name)));
    let v1 = hierarchies.v1(Controller::Freezer).map(|h| Hold::Freezer(h.own.join(&name)));
    v2.chain(v1).for_each(|how| remove(&how));
}

/// Remove the group that a pause made, if nobody is in it.
pub fn remove(how: &Hold) {
    if let Hold::Freeze(path) | Hold::Freezer(path) = how
        && let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
        && name.starts_with(PREFIX)
        && let Ok(parent) = Group::open(parent)
    {
        // Its limits' own group is removed by its own aj.
        sweep::with_those_below(&parent, name);
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
        Stat::of(self.pid).is_ok_and(|s| s.start == self.start && !s.ended)
    }

    /// Whether each of its threads has stopped, or is gone.
    fn threads_stand(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten();
        let mut stats = tasks.filter_map(|task| Stat::read(task.path().to_str()?).ok());
        stats.all(|stat| stat.stopped || stat.ended)
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
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stat {
    parent: i32,
    start: u64,
    threads: u32,
    stopped: bool,
    /// So its first thread is; see [`Stat::of`].
    ended: bool,
}

impl Stat {
    fn of(pid: i32) -> std::result::Result<Stat, Errno> {
        let mut stat = Stat::read(&format!("/proc/{pid}"))?;
        if stat.ended && stat.threads > 1 {
            // Its first thread has ended, and others run.
            stat.ended = false;
            let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            let stands = |t: Stat| t.stopped || t.ended;
            stat.stopped = threads.filter_map(|t| Stat::read(t.path().to_str()?).ok()).all(stands);
        }
        Ok(stat)
    }

    fn read(dir: &str) -> std::result::Result<Stat, Errno> {
        let stat = std::fs::read(format!("{dir}/stat")).map_err(|e| sys::errno(&e))?;
        Stat::parse(&stat).ok_or(Errno::EIO)
    }

    /// The name of a program, in parentheses, may hold anything.
    pub(super) fn parse(stat: &[u8]) -> Option<Stat> {
        let end = stat.iter().rposition(|b| *b == b')')?;
        let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let threads = fields.nth(15)?.parse().ok()?;
        let start = fields.nth(1)?.parse().ok()?;
        Some(Stat {
            parent,
            start,
            threads,
            stopped: matches!(state, "T" | "t"),
            ended: matches!(state, "Z" | "X" | "x"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn processes(jail: &Jail) -> Vec<Process> {
        let mut all = Vec::new();
        jail.look(&mut |p| {
            all.push(Process { ..*p });
            Ok(())
        })
        .unwrap();
        all
    }

    fn family() -> (std::process::Child, Jail) {
        let mut child = Command::new("sh")
            .args(["-c", "sleep 60 & sleep 60 & wait"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let init = child.id() as i32;
        let aj = std::process::id() as i32;
        let jail = Jail { id: Id::random(crate::base::id::Kind::Jail).unwrap(), aj, init };
        let start = Instant::now();
        while processes(&jail).len() < 3 {
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
        let held = processes(&jail);
        assert!(held.len() == 3 && held.iter().all(|p| p.stopped), "{held:?}");
        assert!(!Stat::of(std::process::id() as i32).unwrap().stopped);
        jail.thaw(&Hold::Signal).unwrap();
        let start = Instant::now();
        while processes(&jail).iter().any(|p| p.stopped) {
            assert!(start.elapsed() < Duration::from_secs(5));
        }
        for process in processes(&jail) {
            process.signal(libc::SIGKILL).unwrap();
        }
        child.wait().unwrap();
    }

    #[test]
    fn a_look_is_the_last_one_only_when_nothing_has_moved_since_the_one_before() {
        let look = |pids: &[i32], whole, all, before: &mut Option<BTreeSet<(i32, u64)>>| {
            Seen { members: pids.iter().map(|pid| (*pid, 1)).collect(), whole }.settles(all, before)
        };
        let before = &mut None;
        assert!(!look(&[1, 2], true, true, before), "the first");
        assert!(!look(&[1, 2], true, false, before), "somebody runs");
        assert!(!look(&[1, 3], true, true, before), "another one");
        assert!(!look(&[1, 3], false, true, before), "somebody is gone");
        assert!(!look(&[1, 3], true, true, before), "behind a gap");
        assert!(look(&[1, 3], true, true, before));
    }

    #[test]
    fn a_jail_that_has_ended_is_not_held() {
        let (mut child, jail) = family();
        for process in processes(&jail) {
            process.signal(libc::SIGKILL).unwrap();
        }
        let start = Instant::now();
        while !jail.is_gone() {
            assert!(start.elapsed() < Duration::from_secs(5));
        }
        assert_eq!(jail.freeze(&Hold::Signal).unwrap_err().errno, Errno::ESRCH);
        jail.thaw(&Hold::Signal).unwrap();
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
        assert_eq!((stat.parent, stat.start, stat.threads), (12, 4242, 1));
        assert_eq!((stat.stopped, stat.ended), (true, false));
        for bad in [&b""[..], b"7 (a", b"7 (a) S", b"7 (a) S x", b"7 (a) \xff"] {
            assert!(Stat::parse(bad).is_none());
        }
    }
}
