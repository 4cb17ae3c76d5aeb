//! What running jails use, seen from outside: by the control group that a jail has to itself, and, where
//! there is none or it does not count something, by its processes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::limits::{group_name, nested};
use super::usage;
use crate::base::id::Id;
use crate::host::cgroups::{Controller, Hierarchies};
use crate::sys::cgroup::Group;

/// Who counted something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum By {
    /// The kernel, in a group of cgroup v2.
    V2,
    /// The kernel, in a group of cgroup v1.
    V1,
    /// We did, over the processes that there are now: what came and went between two looks is not in it.
    #[default]
    Processes,
}

impl By {
    /// As shown.
    pub fn name(self) -> &'static str {
        match self {
            By::V2 => "cgroup2",
            By::V1 => "cgroup1",
            By::Processes => "processes",
        }
    }
}

/// A jail to be looked at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its id, which its groups are named after.
    pub id: Id,
    /// Its pid 1.
    pub init: i32,
    /// What holds its limits, as recorded: a group that only holds it while it is paused has not counted
    /// from the start.
    pub limits_by: &'a str,
}

/// What one of them has used, each with who counted it. `None`: nobody could.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// Processor time since it began.
    pub cpu: (Option<Duration>, By),
    /// Bytes of memory now.
    pub memory: (Option<u64>, By),
    /// Processes and threads now, without ours.
    pub tasks: (Option<u64>, By),
    /// Bytes read from and written to block devices since it began.
    pub io: (Option<(u64, u64)>, By),
}

/// Look at all of `jails`, in their order. The processes of this machine are listed once.
pub fn look(jails: &[Subject<'_>]) -> Vec<Sample> {
    let read = |path: &str| std::fs::read(path).unwrap_or_default();
    let mounts = if jails.is_empty() { Vec::new() } else { read("/proc/self/mountinfo") };
    let processes = if jails.is_empty() { Processes::default() } else { Processes::list() };
    let one = |jail: &Subject<'_>| {
        let groups = Groups::of(jail, &read(&format!("/proc/{}/cgroup", jail.init)), &mounts);
        sample(jail, &groups, &processes)
    };
    jails.iter().map(one).collect()
}

fn sample(jail: &Subject<'_>, groups: &Groups, processes: &Processes) -> Sample {
    let family = processes.family(jail.init);
    let or = |counted: Option<(u64, By)>, seen: &dyn Fn() -> Option<u64>| match counted {
        Some((n, by)) => (Some(n), by),
        None => (seen(), By::Processes),
    };
    let cpu = or(groups.cpu(), &|| Some(family.iter().map(|p| p.cpu_us).sum()));
    let memory = or(groups.memory(), &|| usage::of_processes(family.iter().map(|p| p.pid)));
    let tasks = or(groups.tasks(), &|| Some(family.iter().map(|p| p.threads).sum()));
    let io = match groups.io() {
        Some((n, by)) => (Some(n), by),
        None => (io_of(family.iter().map(|p| p.pid)), By::Processes),
    };
    Sample {
        at: Instant::now(),
        cpu: (cpu.0.map(Duration::from_micros), cpu.1),
        memory,
        tasks: (tasks.0.map(|n| n.saturating_sub(own(jail.init))), tasks.1),
        io,
    }
}

/// Processes of a jail that are ours: its pid 1, and without a pid namespace of its own one more.
fn own(init: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{init}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|l| l.strip_prefix("NSpid:"));
    if numbers.is_some_and(|n| n.split_ascii_whitespace().count() == 1) { 2 } else { 1 }
}

/// The groups that a jail has to itself.
#[derive(Debug, Default)]
struct Groups {
    v2: Option<Group>,
    v1: Vec<(Vec<String>, Group)>,
}

impl Groups {
    fn of(jail: &Subject<'_>, cgroup: &[u8], mounts: &[u8]) -> Groups {
        if !jail.limits_by.starts_with("cgroup") && !jail.limits_by.starts_with("systemd") {
            return Groups::default();
        }
        let found = Hierarchies::parse(cgroup, mounts);
        let name = group_name(&jail.id, "");
        let own = |path: &PathBuf| {
            nested::named(path, |n| n.starts_with(&name)).and_then(|path| Group::open(path).ok())
        };
        let v1 = found.v1.into_iter().filter_map(|(names, h)| Some((names, own(&h.own)?))).collect();
        Groups { v2: found.v2.and_then(|h| own(&h.own)), v1 }
    }

    fn v1(&self, controller: &str) -> Option<&Group> {
        self.v1.iter().find(|(names, _)| names.iter().any(|n| n == controller)).map(|(_, group)| group)
    }

    /// A number in a file of the one or of the other.
    fn number(&self, v2: &'static str, controller: Controller, v1: &'static str) -> Option<(u64, By)> {
        let of = |group: &Group, file| group.read(file).ok()?.number();
        let second = || Some((of(self.v1(controller.v1())?, v1)?, By::V1));
        self.v2.as_ref().and_then(|g| Some((of(g, v2)?, By::V2))).or_else(second)
    }

    fn memory(&self) -> Option<(u64, By)> {
        self.number("memory.current", Controller::Memory, "memory.usage_in_bytes")
    }

    fn tasks(&self) -> Option<(u64, By)> {
        self.number("pids.current", Controller::Pids, "pids.current")
    }

    /// Microseconds.
    fn cpu(&self) -> Option<(u64, By)> {
        let v2 = || Some((self.v2.as_ref()?.read("cpu.stat").ok()?.value("usage_usec")?, By::V2));
        let v1 = || Some((self.v1("cpuacct")?.read("cpuacct.usage").ok()?.number()? / 1000, By::V1));
        v2().or_else(v1)
    }

    /// Bytes read and written.
    fn io(&self) -> Option<((u64, u64), By)> {
        let v2 = || Some((io_stat(self.v2.as_ref()?.read("io.stat").ok()?.text()), By::V2));
        let file = "blkio.throttle.io_service_bytes";
        let v1 = || Some((io_service(self.v1("blkio")?.read(file).ok()?.text()), By::V1));
        v2().or_else(v1)
    }
}

/// `8:0 rbytes=1 wbytes=2 …`, one line a device. One that is there more than once (a file system on a
/// device of the device mapper) counts as often: the kernel tells each what it did.
fn io_stat(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        let values = text.split_ascii_whitespace().filter_map(|w| w.strip_prefix(key)?.parse::<u64>().ok());
        values.fold(0, u64::saturating_add)
    };
    (sum("rbytes="), sum("wbytes="))
}

/// `8:0 Read 1`, `8:0 Write 2`, …, one line a device and kind.
fn io_service(text: &str) -> (u64, u64) {
    let sum = |kind: &str| {
        let of = |line: &str| line.split_once(kind)?.1.trim().parse::<u64>().ok();
        text.lines().filter_map(of).fold(0, u64::saturating_add)
    };
    (sum(" Read "), sum(" Write "))
}

/// The same from `/proc/PID/io`, as far as it may be read; `None` when none may.
fn io_of(pids: impl Iterator<Item = i32>) -> Option<(u64, u64)> {
    let mut sum = None;
    for pid in pids {
        let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/io")) else { continue };
        let of = |key: &str| text.lines().find_map(|l| l.strip_prefix(key)?.trim().parse().ok()).unwrap_or(0);
        let (read, written) = sum.unwrap_or((0u64, 0u64));
        sum = Some((read.saturating_add(of("read_bytes:")), written.saturating_add(of("write_bytes:"))));
    }
    sum
}

/// The processes of this machine.
#[derive(Debug, Default)]
struct Processes {
    all: HashMap<i32, Process>,
    children: HashMap<i32, Vec<i32>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    /// Its own processor time and that of children which it has waited for.
    cpu_us: u64,
    threads: u64,
}

impl Processes {
    fn list() -> Processes {
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        let per_tick = 1_000_000 / u64::try_from(ticks).unwrap_or(100).max(1);
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
        let read = |pid| Process::parse(pid, &std::fs::read(format!("/proc/{pid}/stat")).ok()?, per_tick);
        Processes::of(pids.filter_map(read))
    }

    fn of(list: impl Iterator<Item = Process>) -> Processes {
        let mut processes = Processes::default();
        for process in list {
            processes.children.entry(process.parent).or_default().push(process.pid);
            processes.all.insert(process.pid, process);
        }
        processes
    }

    /// Pid 1 of a jail and what descends from it: whatever is in a pid namespace does.
    fn family(&self, init: i32) -> Vec<Process> {
        let mut family: Vec<Process> = self.all.get(&init).copied().into_iter().collect();
        let mut at = 0;
        // A table that was read piece by piece may have a circle.
        while let Some(process) = family.get(at).filter(|_| family.len() <= self.all.len()) {
            let children = self.children.get(&process.pid).into_iter().flatten();
            family.extend(children.filter_map(|pid| self.all.get(pid)).copied().collect::<Vec<_>>());
            at += 1;
        }
        family.truncate(self.all.len());
        family
    }
}

impl Process {
    /// The name of a program, in parentheses, may hold anything.
    fn parse(pid: i32, stat: &[u8], per_tick: u64) -> Option<Process> {
        let end = stat.iter().rposition(|b| *b == b')')?;
        let fields: Vec<&str> =
            std::str::from_utf8(stat.get(end + 1..)?).ok()?.split_ascii_whitespace().collect();
        let number = |n: usize| fields.get(n)?.parse::<u64>().ok();
        // Fields 14 to 17 of proc(5), and 20.
        let ticks = [11, 12, 13, 14].map(number).into_iter().flatten().fold(0, u64::saturating_add);
        Some(Process {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            cpu_us: ticks.saturating_mul(per_tick),
            threads: number(17)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32) -> Process {
        Process { pid, parent, cpu_us: 10, threads: 2 }
    }

    #[test]
    fn a_family_is_pid_1_and_all_that_descends_from_it_and_circles_end() {
        let table = [(1, 0), (10, 1), (11, 10), (12, 11), (20, 1), (30, 31), (31, 30)];
        let processes = Processes::of(table.iter().map(|(pid, parent)| process(*pid, *parent)));
        let pids = |init| processes.family(init).iter().map(|p| p.pid).collect::<Vec<_>>();
        assert_eq!(pids(10), [10, 11, 12]);
        assert_eq!(pids(20), [20]);
        assert_eq!(pids(99), [0; 0]);
        assert!(pids(30).len() <= table.len());
    }

    #[test]
    fn a_stat_line_is_read_behind_a_name_that_lies() {
        let line = b"7 (a) R 1 (x) \n) S 12 7 7 0 -1 4194560 1 0 0 0 3 4 5 6 20 0 9 0 4242 1 1\n";
        let process = Process::parse(7, line, 10_000).unwrap();
        assert_eq!(process, Process { pid: 7, parent: 12, cpu_us: 180_000, threads: 9 });
        for bad in [&b""[..], b"7 (a", b"7 (a) S", b"7 (a) S x", b"7 (a) \xff", b"7 (a) S 1 2 3"] {
            assert_eq!(Process::parse(7, bad, 1), None);
        }
    }

    #[test]
    fn bytes_of_devices_are_added_up_in_both_forms() {
        let v2 = "8:0 rbytes=1024 wbytes=10 rios=3 wios=1 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=2\n254:0\n";
        assert_eq!(io_stat(v2), (1025, 12));
        let v1 = "8:0 Read 7\n8:0 Write 8\n8:0 Sync 9\n8:0 Total 15\n8:16 Read 1\nTotal 16\n";
        assert_eq!(io_service(v1), (8, 8));
        assert_eq!((io_stat("rbytes=x wbytes=-1"), io_service("8:0 Read x")), ((0, 0), (0, 0)));
    }

    #[test]
    fn only_groups_named_after_the_jail_and_made_for_its_limits_count() {
        let dir = tempfile::tempdir().unwrap();
        let top = std::fs::canonicalize(dir.path()).unwrap();
        let id = Id::random(crate::base::id::Kind::Jail).unwrap();
        let name = format!("aj-{id}.77");
        let group = top.join(&name);
        std::fs::create_dir(&group).unwrap();
        for (file, text) in [
            ("cpu.stat", "usage_usec 1500000\nuser_usec 1\n"),
            ("memory.current", "4096\n"),
            ("pids.current", "4\n"),
            ("io.stat", "8:0 rbytes=5 wbytes=6\n"),
        ] {
            std::fs::write(group.join(file), text).unwrap();
        }
        let mounts = format!("1 2 0:3 / {} rw - cgroup2 x rw\n", top.display());
        let subject = |limits_by| Subject { id, init: 999_999_999, limits_by };
        let of = |limits_by, path: &str| {
            let jail = subject(limits_by);
            let groups = Groups::of(&jail, format!("0::{path}\n").as_bytes(), mounts.as_bytes());
            sample(&jail, &groups, &Processes::default())
        };
        let held = of("cgroup2", &format!("/{name}"));
        assert_eq!(held.cpu, (Some(Duration::from_millis(1500)), By::V2));
        assert_eq!(held.memory, (Some(4096), By::V2));
        assert_eq!(held.tasks, (Some(3), By::V2), "without pid 1");
        assert_eq!(held.io, (Some((5, 6)), By::V2));
        // The group of whoever started it, and one that a pause made.
        for other in [of("cgroup2", "/"), of("rlimit+poll", &format!("/{name}"))] {
            assert_eq!((other.memory.1, other.cpu.1), (By::Processes, By::Processes));
        }
    }
}
