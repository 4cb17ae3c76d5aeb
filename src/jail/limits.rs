//! The control groups of one jail: made below or beside our own, read back, and removed.
//!
//! cgroup v2 is tried first, then a scope of systemd's, then v1: the first that can hold everything that is wanted
//! is taken. Only groups named `aj-…` are made, entered or removed; of other groups nothing is changed but, where
//! the group is our own and empty or the whole hierarchy, the list of controllers that its children get.
//! With v2 pid 1 is born in its group (`CLONE_INTO_CGROUP`): moving a process into one takes the kernel ten
//! milliseconds, in which it waits for all processors. A thread that moves itself need not wait, which v1 allows:
//! the groups are made while pid 1 sets itself up, and it steps in before it starts the command. By then it has no
//! right to anything, and uses that of whoever opened the file that it is sent.

use std::fmt::Display;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

use crate::base::id::Id;
use crate::host::cgroups::{Controller, Hierarchies};
use crate::sys::cgroup::Group;
use crate::sys::{Error, Result};

pub mod nested;
mod place;
mod scope;
pub mod sweep;

pub use place::{here, may_be_v2};

/// What is to be limited. Not all of it must be: see [`Wants::hard`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wants {
    /// Bytes of memory, with page cache and tmpfs; there is no swap beside it.
    pub mem: Option<u64>,
    /// Thousandths of a processor.
    pub cpu_millis: Option<u64>,
    /// Processes and threads, pid 1 not counted. No reason to fail where `RLIMIT_NPROC` holds as well.
    pub pids: Option<u64>,
    /// It does not: the processes of others count for it too.
    pub only_group: bool,
    /// Bytes read in a second from each of `disks`.
    pub io_read: Option<u64>,
    /// Bytes written in a second to each of `disks`.
    pub io_write: Option<u64>,
    /// Block devices, by number.
    pub disks: Vec<(u32, u32)>,
}

impl Wants {
    /// What a place must have to be of use.
    pub fn hard(&self) -> Vec<Controller> {
        let io = self.io_read.is_some() || self.io_write.is_some();
        let of = [
            (self.mem.is_some(), Controller::Memory),
            (self.cpu_millis.is_some(), Controller::Cpu),
            (io, Controller::Io),
            (self.only_group && self.pids.is_some(), Controller::Pids),
        ];
        of.into_iter().filter_map(|(wanted, c)| wanted.then_some(c)).collect()
    }

    /// What a group has to have so that it is worth making.
    fn needed(&self) -> Vec<Controller> {
        let hard = self.hard();
        if hard.is_empty() && self.pids.is_some() { vec![Controller::Pids] } else { hard }
    }

    /// Whether nothing at all is wanted.
    pub fn is_empty(&self) -> bool {
        self.pids.is_none() && self.hard().is_empty()
    }

    /// The same without what these controllers do.
    pub fn without(&mut self, controllers: &[Controller]) {
        for controller in controllers {
            match controller {
                Controller::Memory => self.mem = None,
                Controller::Cpu => self.cpu_millis = None,
                Controller::Pids => self.pids = None,
                Controller::Io => (self.io_read, self.io_write) = (None, None),
                Controller::Freezer => {}
            }
        }
    }
}

/// Why what is wanted cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What no place has.
    pub controllers: Vec<Controller>,
    /// Why.
    pub why: String,
    /// What is missing is a group, not something to be limited by one.
    pub needs_cgroup: bool,
}

impl Missing {
    fn new(controllers: Vec<Controller>, why: impl Into<String>) -> Missing {
        Missing { controllers, why: why.into(), needs_cgroup: true }
    }
}

/// What holds the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A group of cgroup v2.
    V2,
    /// A scope of the user's service manager, or of root's, in cgroup v2.
    Scope,
    /// Groups of cgroup v1, one in each hierarchy.
    V1,
}

impl Backend {
    /// As recorded.
    pub fn name(self) -> &'static str {
        match self {
            Backend::V2 => "cgroup2",
            Backend::Scope => "systemd-scope",
            Backend::V1 => "cgroup1",
        }
    }
}

/// The prefix of the name of every group that is ours.
pub const PREFIX: &str = "aj-";

/// The group of the jail or command `id` that the process `aj` makes. [`sweep::maker`] reads it.
pub(super) fn group_name(id: &Id, aj: impl Display) -> String {
    format!("{PREFIX}{id}.{aj}")
}

/// The same where we make it.
pub(super) fn name_of(id: &Id) -> String {
    group_name(id, std::process::id())
}

/// The groups of one jail. They are removed when this is dropped, which must not be before the jail is gone.
#[derive(Debug)]
pub struct Limits {
    backend: Backend,
    wants: Wants,
    name: String,
    held: Vec<Held>,
    /// Of a live jail with cgroup v2: the leaf that its pid 1 is in.
    main: Option<Group>,
    /// They are those of one command in a live jail, below the jail's.
    nested: bool,
    /// The jail has ended, and its group is to go as well.
    last: bool,
    /// What keeps the scope that the group is in; systemd removes it afterwards.
    scope: Option<scope::Scope>,
}

/// A group, or where it is about to be made.
#[derive(Debug)]
struct Held {
    /// `None`: the one of cgroup v2, which has all.
    controller: Option<Controller>,
    parent: Group,
    /// Where that is.
    path: PathBuf,
    group: Option<Group>,
}

impl Held {
    /// The group, made if it is not there yet.
    fn make(&mut self, name: &str) -> Result<&Group> {
        if self.group.is_none() {
            let made = self.parent.make(name).map_err(|e| e.on(format!("{}/{name}", self.path.display())))?;
            self.group = Some(made);
        }
        self.group.as_ref().ok_or_else(|| Error::new("mkdir", name, Errno::EINVAL))
    }
}

/// What the kernel has counted for a jail. `None` where it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Bytes of memory now.
    pub memory: Option<u64>,
    /// Most bytes of memory.
    pub peak: Option<u64>,
    /// CPU time in user mode and in the kernel.
    pub cpu: Option<(Duration, Duration)>,
    /// Processes killed because memory ran out.
    pub oom_kills: u64,
    /// It ran out in a group above or on the whole machine: the jail never was at its own limit.
    pub elsewhere: bool,
    /// Times that a process or thread was refused.
    pub refused: u64,
}

impl Limits {
    fn new(backend: Backend, wants: &Wants, name: &str, held: Vec<Held>) -> Limits {
        let (wants, name) = (wants.clone(), name.to_owned());
        Limits { backend, wants, name, held, main: None, nested: false, last: false, scope: None }
    }

    /// Find a place for what `wants` asks of the jail `id`; with cgroup v2 make the group, ready for
    /// [`Limits::to_be_born_in`]. `Err` names what cannot be had.
    pub fn prepare(
        wants: &Wants,
        id: &Id,
        hierarchies: &Hierarchies,
    ) -> std::result::Result<Limits, Missing> {
        let systemd = Limits::manager(hierarchies);
        let in_v2 = |kept: bool| {
            let (parent, path) = place::v2(hierarchies, wants, kept)?;
            Limits::in_v2(wants, &name_of(id), parent, path)
                .map_err(|e| Missing::new(wants.needed(), e.to_string()))
        };
        let v2 = match in_v2(systemd.is_some()) {
            Ok(limits) => return Ok(limits),
            Err(missing) => missing,
        };
        let v2 = match (systemd, &hierarchies.v2) {
            (Some(manager), Some(h)) => match Limits::in_scope(wants, id, manager, &h.mount) {
                Ok(limits) => return Ok(limits),
                Err(missing) => missing,
            },
            _ => v2,
        };
        match place::v1(hierarchies, wants) {
            Ok(held) => Ok(Limits::new(Backend::V1, wants, &name_of(id), held)),
            // What one of the two could do is not missing.
            Err(v1) => {
                let controllers: Vec<_> =
                    v1.controllers.iter().copied().filter(|c| v2.controllers.contains(c)).collect();
                match controllers.is_empty() {
                    false if hierarchies.v1.is_empty() => Err(Missing { controllers, ..v2 }),
                    false => Err(Missing { controllers, ..v1 }),
                    true => Err(Missing::new(wants.needed(), "cgroup v1 and v2 each have only a part of it")),
                }
            }
        }
    }

    /// The service manager of this user, where cgroup v2 is mounted. It writes to the groups, we do not: how they
    /// are mounted here is not its concern.
    fn manager(hierarchies: &Hierarchies) -> Option<scope::Manager> {
        scope::Manager::of(nix::unistd::geteuid().as_raw(), &hierarchies.v2.as_ref()?.mount)
    }

    /// In a scope of the manager's.
    fn in_scope(
        wants: &Wants,
        id: &Id,
        manager: scope::Manager,
        mount: &Path,
    ) -> std::result::Result<Limits, Missing> {
        let mut needed = wants.needed();
        let lacks = manager.lacks(&needed);
        if !lacks.is_empty() {
            return Err(Missing::new(lacks, scope::LACKS));
        }
        if !needed.contains(&Controller::Pids) && manager.lacks(&[Controller::Pids]).is_empty() {
            needed.push(Controller::Pids);
        }
        let made = manager.scope(format!("{PREFIX}{id}.scope"), mount, &needed).and_then(|made| {
            let (scope, parent, path) = made;
            let mut limits = Limits::in_v2(wants, &name_of(id), parent, path)?;
            (limits.backend, limits.scope) = (Backend::Scope, Some(scope));
            Ok(limits)
        });
        made.map_err(|e| Missing::new(wants.needed(), format!("systemd makes no scope: {e}")))
    }

    /// Make a group of cgroup v2 for the jail `id` before it is known what it has to hold, which is at most what
    /// `guess` names: pid 1 can be born in it already. Then [`Limits::claim`] it. `None`: there is no place.
    pub fn reserve(guess: &Wants, id: &Id, hierarchies: &Hierarchies) -> Option<Limits> {
        let kept = Limits::manager(hierarchies).is_some();
        let (parent, path) = place::v2(hierarchies, guess, kept).ok()?;
        Limits::in_v2(&Wants::default(), &name_of(id), parent, path).ok()
    }

    /// Let a group that was reserved hold `wants`. `false`: it cannot, or there is nothing to hold.
    pub fn claim(&mut self, wants: &Wants) -> bool {
        let file = |controller: &Controller| match controller {
            Controller::Memory => "memory.max",
            Controller::Cpu => "cpu.max",
            Controller::Io => "io.max",
            Controller::Pids => "pids.max",
            Controller::Freezer => "cgroup.freeze",
        };
        let can = |c: &Controller| self.of(*c).is_some_and(|group| group.has(file(c)));
        if wants.is_empty() || !wants.needed().iter().all(can) {
            return false;
        }
        self.wants = wants.clone();
        self.apply_v2().is_ok()
    }

    fn in_v2(wants: &Wants, name: &str, parent: Group, path: PathBuf) -> Result<Limits> {
        let group = parent.make(name)?;
        let held = Held { controller: None, parent, path, group: Some(group) };
        let limits = Limits::new(Backend::V2, wants, name, vec![held]);
        limits.apply_v2()?;
        Ok(limits)
    }

    fn apply_v2(&self) -> Result<()> {
        let Some(group) = self.held.first().and_then(|h| h.group.as_ref()) else { return Ok(()) };
        if let Some(bytes) = self.wants.mem {
            group.set("memory.max", bytes)?;
            no_swap(group.set("memory.swap.max", 0))?;
            // Half a jail is of no use, and whoever survives would be taken for the whole.
            group.set("memory.oom.group", 1)?;
        }
        if let Some(millis) = self.wants.cpu_millis {
            group.write("cpu.max", &format!("{} {PERIOD}", millis * PERIOD / 1000))?;
        }
        if let Some(n) = self.wants.pids.filter(|_| group.has("pids.max")) {
            group.set("pids.max", with_init(n))?;
        }
        let rate = |n: Option<u64>| n.map_or_else(|| "max".to_owned(), |n| n.to_string());
        if self.wants.hard().contains(&Controller::Io) {
            for (major, minor) in &self.wants.disks {
                let (r, w) = (rate(self.wants.io_read), rate(self.wants.io_write));
                group.write("io.max", &format!("{major}:{minor} rbps={r} wbps={w}"))?;
            }
        }
        Ok(())
    }

    /// The group that pid 1 is to be born in, where it can be.
    pub fn to_be_born_in(&self) -> Option<BorrowedFd<'_>> {
        match self.backend {
            Backend::V2 => self.main.as_ref().or(self.held.first()?.group.as_ref()).map(AsFd::as_fd),
            Backend::Scope | Backend::V1 => None,
        }
    }

    /// Make what is still to be made, while pid 1 prepares itself, and set the limits. With cgroup v1 the answer
    /// is what it steps into the groups with before it starts anything; into a scope it is put now, and so is the
    /// process `pid` that minds a command in a live jail into a group of cgroup v2.
    pub fn open(&mut self, pid: i32) -> Result<Vec<OwnedFd>> {
        match (self.backend, &self.scope) {
            (Backend::V1, _) => return self.open_v1(),
            (_, Some(scope)) => scope.attach(&self.name, pid)?,
            (_, None) if self.nested => {
                // 0 would be ourselves.
                let gone = || Error::new("write", "cgroup.procs", Errno::ESRCH);
                let group = self.held.first().and_then(|h| h.group.as_ref()).filter(|_| pid > 0);
                group.ok_or_else(gone)?.enter(pid)?;
            }
            (_, None) => {}
        }
        Ok(Vec::new())
    }

    fn open_v1(&mut self) -> Result<Vec<OwnedFd>> {
        let mut doors = Vec::with_capacity(self.held.len());
        for held in &mut self.held {
            let controller = held.controller;
            let group = held.make(&self.name)?;
            apply_v1(&self.wants, controller, group)?;
            doors.push(group.door()?);
        }
        Ok(doors)
    }

    /// What holds the limits.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The groups: for people.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.held.iter().map(|h| h.path.join(&self.name)).collect()
    }

    fn of(&self, controller: Controller) -> Option<&Group> {
        let has = |h: &&Held| h.controller.is_none_or(|c| c == controller);
        self.held.iter().find(has)?.group.as_ref()
    }

    /// Whether this is held here, and not by other means.
    pub fn holds(&self, controller: Controller) -> bool {
        match (self.backend, controller) {
            (Backend::V2 | Backend::Scope, Controller::Pids) => {
                self.wants.pids.is_some() && self.of(controller).is_some_and(|g| g.has("pids.max"))
            }
            (Backend::V1, Controller::Pids) => self.held.iter().any(|h| h.controller == Some(controller)),
            _ => self.wants.hard().contains(&controller),
        }
    }

    /// With cgroup v1: what becomes readable when memory runs out, because there the kernel kills one
    /// process only. `None` where that is not needed or cannot be had; the end tells as well.
    pub fn on_memory_shortage(&self) -> Option<OwnedFd> {
        let v1 = self.backend == Backend::V1 && self.wants.mem.is_some();
        self.of(Controller::Memory).filter(|_| v1)?.on_memory_shortage().ok()
    }

    /// Whether the jail has been at its own limit of memory. The kernel tells of, and kills for, a shortage
    /// in any group above as well.
    pub fn was_short(&self) -> bool {
        let Some(group) = self.of(Controller::Memory).filter(|_| self.wants.mem.is_some()) else {
            return false;
        };
        match self.backend {
            // Not every kernel counts the failures. What kills is a charge of a few pages that has no room.
            Backend::V1 => {
                let peak = group.read("memory.max_usage_in_bytes").ok().and_then(|c| c.number());
                peak.zip(self.wants.mem).is_none_or(|(peak, limit)| peak.saturating_add(CHARGE) >= limit)
            }
            Backend::V2 | Backend::Scope => {
                group.read(self.events()).ok().and_then(|c| c.value("oom")).is_none_or(|n| n > 0)
            }
        }
    }

    /// Where cgroup v2 tells of shortages of memory. Those of commands that have limits of their own, below the
    /// group of a live jail, are not the jail's.
    fn events(&self) -> &'static str {
        if self.main.is_some() { "memory.events.local" } else { "memory.events" }
    }

    /// What has been counted so far.
    pub fn counted(&self) -> Counted {
        let mut counted = Counted::default();
        let v2 = self.backend != Backend::V1;
        if let Some(group) = self.of(Controller::Memory).filter(|_| self.wants.mem.is_some()) {
            let [now, peak, events] = match v2 {
                true => ["memory.current", "memory.peak", self.events()],
                false => ["memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control"],
            };
            let number = |file| group.read(file).ok().and_then(|c| c.number());
            (counted.memory, counted.peak) = (number(now), number(peak));
            let kills =
                |group: &Group| group.read(events).ok().and_then(|c| c.value("oom_kill")).unwrap_or(0);
            // Whom the limit of the jail has killed may have been in any leaf; that it was the jail's is known.
            let short = u64::from(self.main.is_some() && self.was_short());
            counted.oom_kills = short.max(kills(group) + self.main.as_ref().map_or(0, kills));
            counted.elsewhere = counted.oom_kills > 0 && !self.was_short();
        }
        if let Some(group) = self.of(Controller::Pids).filter(|_| self.wants.pids.is_some()) {
            counted.refused = group.read("pids.events").ok().and_then(|c| c.value("max")).unwrap_or(0);
        }
        if let Some(stat) = self.of(Controller::Cpu).filter(|_| v2).and_then(|g| g.read("cpu.stat").ok()) {
            let time = |key| stat.value(key).map(Duration::from_micros);
            counted.cpu = time("user_usec").zip(time("system_usec"));
        }
        counted
    }

    /// Kill whatever is in it, at once where the kernel can. Pid 1 takes its namespace along anyway; this
    /// is for one that does not go.
    pub fn kill(&self) {
        for group in self.held.iter().filter_map(|h| h.group.as_ref()) {
            if group.write("cgroup.kill", "1").is_ok() {
                return;
            }
        }
    }

    /// Remove the groups, which are empty once pid 1 has been reaped.
    fn remove(&mut self) {
        self.main = None;
        for held in &mut self.held {
            if held.group.take().is_some() {
                // What is left is swept by a later run.
                sweep::with_those_below(&held.parent, &self.name);
            }
            // What holds the jail could not take its group away while there was ours below it.
            if self.nested
                && self.backend != Backend::Scope
                && let (Some(place), Some(jail)) = (held.path.parent(), held.path.file_name())
                && let Some(jail) = jail.to_str().filter(|jail| self.last || sweep::is_stale(jail))
                && let Ok(place) = Group::open(place)
            {
                sweep::with_those_below(&place, jail);
            }
        }
    }

    /// Remove what killed runs left beside these groups. Done while the command runs.
    pub fn sweep(&self) {
        for held in self.held.iter().filter(|_| self.backend != Backend::Scope) {
            sweep::beside(&held.parent, FEW);
        }
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Bytes below a limit at which memory may already have run out.
const CHARGE: u64 = 1 << 20;
/// Groups that one run looks at beside its own.
const FEW: usize = 64;
/// Microseconds in which a quota of processor time is given out.
const PERIOD: u64 = 100_000;

/// `n` processes and pid 1. The kernel refuses more than its `PID_MAX_LIMIT`, which may be asked for.
fn with_init(n: u64) -> u64 {
    n.saturating_add(1).min(4_194_304)
}

/// Without swap in the kernel or in its groups there is nothing to limit, unless there is swap all the same.
fn no_swap(done: Result<()>) -> Result<()> {
    match done {
        Err(e) if e.errno == Errno::ENOENT => match std::fs::read_to_string("/proc/swaps") {
            Ok(text) if text.lines().count() > 1 => Err(e),
            _ => Ok(()),
        },
        done => done,
    }
}

fn apply_v1(wants: &Wants, controller: Option<Controller>, group: &Group) -> Result<()> {
    match controller {
        Some(Controller::Memory) => {
            if let Some(bytes) = wants.mem {
                group.set("memory.limit_in_bytes", bytes)?;
                // The same sum for memory and swap together leaves nothing for swap.
                no_swap(group.set("memory.memsw.limit_in_bytes", bytes))?;
                group.set("memory.swappiness", 0)?;
                // Buffers of network sockets are counted apart, and only where there is a limit. cgroup v2
                // has them with the rest.
                match group.set("memory.kmem.tcp.limit_in_bytes", bytes) {
                    Err(e) if e.errno != Errno::ENOENT => return Err(e),
                    _ => {}
                }
            }
        }
        Some(Controller::Cpu) => {
            if let Some(millis) = wants.cpu_millis {
                group.set("cpu.cfs_period_us", PERIOD)?;
                group.set("cpu.cfs_quota_us", millis * PERIOD / 1000)?;
            }
        }
        Some(Controller::Pids) => {
            if let Some(n) = wants.pids {
                group.set("pids.max", with_init(n))?;
            }
        }
        Some(Controller::Io) => {
            for (major, minor) in &wants.disks {
                let rates = [
                    (wants.io_read, "blkio.throttle.read_bps_device"),
                    (wants.io_write, "blkio.throttle.write_bps_device"),
                ];
                for (rate, file) in rates {
                    if let Some(rate) = rate {
                        group.write(file, &format!("{major}:{minor} {rate}"))?;
                    }
                }
            }
        }
        Some(Controller::Freezer) | None => {}
    }
    Ok(())
}

/// What a path of a group is called in messages.
pub(super) fn shown(path: &Path) -> String {
    crate::base::text::os(path)
}

/// An error on a group.
fn on(e: Error, path: &Path) -> Error {
    let arg = if e.arg.is_empty() { shown(path) } else { format!("{}/{}", shown(path), e.arg) };
    e.on(arg)
}
