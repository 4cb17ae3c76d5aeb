//! What the processes of a running jail use, read through the jail's own `/proc`: its numbers are
//! the kernel's, and it lists exactly the jail's processes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

use super::limits::Limits;
use super::supervise::Watcher;
use crate::schema::jail::Usage;
use crate::sys::at;
use crate::sys::entries::Entries;

/// Read a small proc file below `proc`.
fn read(proc: &OwnedFd, path: &str) -> Option<String> {
    let fd = openat(proc, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    let mut text = String::new();
    std::fs::File::from(fd).take(4096).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The `/proc` through which a jail is seen.
#[derive(Debug)]
pub(super) struct View {
    proc: OwnedFd,
    /// It lists other processes as well: those of the jail descend from this one.
    of: Option<i32>,
    /// There is a `/tmp` of the jail's own beside it.
    tmp: bool,
}

impl View {
    /// The jail's own, or one in which its pid 1 is `of`.
    pub(super) fn new(proc: OwnedFd, of: Option<i32>, tmp: bool) -> View {
        View { proc, of, tmp }
    }

    /// Call `each` with every pid of the jail.
    fn pids(&self, mut each: impl FnMut(&str)) {
        let Some(top) = self.of else { return all(&self.proc, each) };
        let mut parents = BTreeMap::new();
        all(&self.proc, |pid| {
            let stat = read(&self.proc, &format!("{pid}/stat"));
            if let (Ok(pid), Some(parent)) = (pid.parse::<i32>(), stat.as_deref().and_then(parent)) {
                parents.insert(pid, parent);
            }
        });
        for pid in parents.keys() {
            // Bounded: a table that was read while processes came and went may have a circle in it.
            let ancestors = std::iter::successors(Some(*pid), |pid| parents.get(pid).copied());
            if ancestors.take(parents.len() + 1).any(|pid| pid == top) {
                each(&pid.to_string());
            }
        }
    }
}

/// The parent that a `/proc/PID/stat` names: field 4 of proc(5), after the name in parentheses.
pub(super) fn parent(stat: &str) -> Option<i32> {
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// The state of the same line: `R`, `S`, `Z` …
pub(super) fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Call `each` with every pid that is listed.
fn all(proc: &OwnedFd, mut each: impl FnMut(&str)) {
    let Ok(mut entries) = Entries::again(proc) else { return };
    while let Ok(Some(entry)) = entries.step() {
        if let Ok(name) = std::str::from_utf8(entry.name)
            && name.bytes().all(|b| b.is_ascii_digit())
        {
            each(name);
        }
    }
}

/// Memory that the jail holds, in bytes, as far as it can be seen without a cgroup: what its
/// processes have to themselves (with swap and page tables), and what they share, keep in the jail's
/// tmpfs or in files of memory alone. Pages shared between a parent and its fork count for both. Of
/// shared memory the largest user alone is counted, or those files when that is more: a sum would count
/// each page for every process that maps it. What is not seen is said in [`UNSEEN`].
fn memory(view: &View) -> u64 {
    let (mut private, mut shared) = (0u64, 0u64);
    let mut files = Files::default();
    view.pids(|pid| {
        let Some(text) = read(&view.proc, &format!("{pid}/status")) else { return };
        let (mine, common) = of_status(&text);
        private = private.saturating_add(mine);
        shared = shared.max(common);
        files.look(&view.proc, pid);
    });
    let kept = files.bytes.saturating_add(if view.tmp { tmpfs(&view.proc) } else { 0 });
    private.saturating_add(shared.max(kept))
}

/// What a look at the memory cannot see, for whoever is told that it is watched.
pub const UNSEEN: &str = "buffers of pipes and sockets, segments of System V that nobody has attached, and memfds that \
                          are neither mapped nor open";

/// Descriptors that one look goes through at most: a jail with very many would be looked at too seldom.
const DESCRIPTORS: u32 = 4096;

/// Files that are in memory alone and have no name (`memfd_create`), each once.
#[derive(Debug, Default)]
struct Files {
    seen: BTreeSet<((u32, u32), u64)>,
    bytes: u64,
    looked: u32,
}

impl Files {
    /// Those that a process has open.
    fn look(&mut self, proc: &OwnedFd, pid: &str) {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let Ok(open) = openat(proc, &*format!("{pid}/fd"), flags, Mode::empty()) else { return };
        let Ok(mut entries) = Entries::again(&open) else { return };
        while let Ok(Some(entry)) = entries.step() {
            if self.looked >= DESCRIPTORS {
                return;
            }
            self.looked += 1;
            let Ok(name) = std::str::from_utf8(entry.name) else { continue };
            let is_memory = |link: std::ffi::OsString| link.as_encoded_bytes().starts_with(b"/memfd:");
            if !readlinkat(&open, name).is_ok_and(is_memory) {
                continue;
            }
            // A file of another kind may lie at such a path. It is counted, and never waited for.
            let Ok(meta) = at::stat_at_hand(&open, name) else { continue };
            if self.seen.insert((meta.dev, meta.ino)) {
                self.bytes = self.bytes.saturating_add(meta.allocated);
            }
        }
    }
}

/// The same of some processes, by their numbers out here, where the jail's tmpfs is not in sight. `None`
/// when not one of them could be read.
pub(super) fn of_processes(pids: impl Iterator<Item = i32>) -> Option<u64> {
    let mut seen = None;
    for pid in pids {
        let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        let (mine, common) = of_status(&text);
        let (private, shared) = seen.unwrap_or((0u64, 0u64));
        seen = Some((private.saturating_add(mine), shared.max(common)));
    }
    seen.map(|(private, shared)| private.saturating_add(shared))
}

/// Private and shared bytes from a `/proc/PID/status`.
pub(super) fn of_status(text: &str) -> (u64, u64) {
    let mut sums = (0u64, 0u64);
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        // Only these have a unit; the first line is the program's name for itself, which it chooses.
        let bytes = || {
            let kib = value.trim().strip_suffix(" kB").and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
            // More than there can be stays more than any limit.
            kib.saturating_mul(1024)
        };
        match name {
            "RssAnon" | "VmSwap" | "VmPTE" => sums.0 = sums.0.saturating_add(bytes()),
            "RssShmem" => sums.1 = sums.1.saturating_add(bytes()),
            _ => {}
        }
    }
    sums
}

/// Bytes in the jail's tmpfs, which is at `/tmp`. The mount that `proc` is the root of lies in the jail's
/// root directory; nothing inside can change either, or what is mounted there.
fn tmpfs(proc: &OwnedFd) -> u64 {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let Ok(root) = openat(proc, "../tmp", flags, Mode::empty()) else { return 0 };
    match fstatfs(&root) {
        Ok(fs) if fs.filesystem_type() == TMPFS_MAGIC => {
            #[allow(clippy::useless_conversion)] // its type is another one on each architecture
            let block = u64::try_from(fs.block_size()).unwrap_or(0);
            fs.blocks().saturating_sub(fs.blocks_free()) * block
        }
        _ => 0,
    }
}

/// Watches the jail's memory.
#[derive(Debug)]
pub(super) struct Meter {
    /// The jail's `/proc`, once it has sent it.
    pub(super) proc: Option<View>,
    limit: Option<u64>,
    /// Most bytes seen.
    pub(super) peak: u64,
    next: Instant,
}

/// No two looks are closer than this.
const SOONEST: Duration = Duration::from_millis(20);
/// Or further apart.
const LATEST: Duration = Duration::from_secs(1);
/// Bytes per millisecond that a jail may be expected to fill at most: page faults of several
/// processors. The nearer the limit, the sooner the next look.
const FASTEST: u64 = 8_000_000;
/// A look takes at most this part of the time between looks.
const SHARE: u32 = 25;

impl Meter {
    pub(super) fn new(limit: Option<u64>, started: Instant) -> Meter {
        Meter { proc: None, limit, peak: 0, next: started + 2 * SOONEST }
    }

    /// When to look next.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        (self.limit.is_some() && self.proc.is_some()).then_some(self.next)
    }

    /// Look when it is time: whether the limit is exceeded.
    pub(super) fn over(&mut self, now: Instant) -> bool {
        let (Some(limit), Some(proc)) = (self.limit, &self.proc) else { return false };
        if now < self.next {
            return false;
        }
        let used = memory(proc);
        self.peak = self.peak.max(used);
        let done = Instant::now();
        self.next = done + wait(limit.saturating_sub(used), done - now);
        used > limit
    }
}

/// Watches what the jail has written to disk, which its watcher measures.
#[derive(Debug)]
pub(super) struct DiskMeter {
    limit: Option<u64>,
    next: Instant,
}

impl DiskMeter {
    pub(super) fn new(limit: Option<u64>, started: Instant) -> DiskMeter {
        DiskMeter { limit, next: started + SOONEST }
    }

    /// When to look next.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.limit.map(|_| self.next)
    }

    /// Look when it is time: whether the limit is exceeded.
    pub(super) fn over(&mut self, now: Instant, watcher: &mut dyn Watcher) -> bool {
        let Some(limit) = self.limit.filter(|_| now >= self.next) else { return false };
        let (used, whole) = watcher.disk().unwrap_or((0, true));
        let done = Instant::now();
        // A large tree is seen in pieces, with time for everything else between them.
        self.next =
            done + if whole { wait(limit.saturating_sub(used), done - now) } else { 3 * (done - now) };
        used > limit
    }
}

/// Time to the next look, with `room` bytes to the limit, when the last one took `cost`.
fn wait(room: u64, cost: Duration) -> Duration {
    Duration::from_millis(room / FASTEST).clamp(SOONEST, LATEST).max(cost * SHARE)
}

/// CPU time so far and memory held now.
pub(super) fn live(view: Option<&View>, group: Option<&Limits>, wall: Duration) -> Usage {
    let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let mut usage = Usage { wall_ms: ms(wall), ..Usage::default() };
    let Some(view) = view else { return usage };
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    let per_tick = 1000 / u64::try_from(ticks).unwrap_or(100).max(1);
    view.pids(|pid| {
        let Some(text) = read(&view.proc, &format!("{pid}/stat")) else { return };
        // The command's name may contain spaces and parentheses: fields start after the last one.
        let Some((_, rest)) = text.rsplit_once(") ") else { return };
        let field = |n: usize| rest.split(' ').nth(n).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        // Fields 14 to 17 of proc(5): own and reaped children's user and system time.
        usage.user_ms += (field(11) + field(13)) * per_tick;
        usage.system_ms += (field(12) + field(14)) * per_tick;
    });
    let counted = group.map(Limits::counted).unwrap_or_default();
    if let Some((user, system)) = counted.cpu {
        (usage.user_ms, usage.system_ms) = (ms(user), ms(system));
    }
    usage.peak_rss = counted.memory.unwrap_or_else(|| memory(view));
    usage.peak_memory = counted.peak.unwrap_or(0);
    usage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_by_name_and_a_program_cannot_name_itself_into_it() {
        let text = "Name:\tRssAnon: 9 kB\nVmPTE:\t     100 kB\nRssAnon:\t    1000 kB\nRssFile:\t 7 kB\n\
                    RssShmem:\t      50 kB\nVmSwap:\t      10 kB\nThreads:\t1\n";
        assert_eq!(of_status(text), (1110 * 1024, 50 * 1024));
        assert_eq!(of_status("Name:\tx\nState:\tZ (zombie)\n"), (0, 0));
        let huge = format!("RssShmem:\t {0} kB\nVmSwap:\t {0} kB\nRssAnon:\t 1 kB\n", u64::MAX);
        assert_eq!(of_status(&huge), (u64::MAX, u64::MAX));
    }

    #[test]
    fn a_jail_seen_through_another_proc_is_what_descends_from_its_pid_1() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let proc: OwnedFd = std::fs::File::open("/proc").unwrap().into();
        let me = i32::try_from(std::process::id()).unwrap();
        let view = View::new(proc, Some(me), false);
        let mut seen = Vec::new();
        view.pids(|pid| seen.push(pid.to_owned()));
        assert!(seen.contains(&child.id().to_string()) && seen.contains(&me.to_string()), "{seen:?}");
        assert!(!seen.contains(&std::os::unix::process::parent_id().to_string()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(parent("12 (a) b) S 7 1 1"), Some(7), "a name may hold anything");
        assert_eq!(parent("12 (a"), None);
    }

    #[test]
    fn a_file_in_memory_is_seen_once_while_it_is_open_mapped_or_not() {
        use std::io::Write;
        let proc: OwnedFd = std::fs::File::open("/proc").unwrap().into();
        let file = nix::sys::memfd::memfd_create(c"big", nix::sys::memfd::MFdFlags::empty()).unwrap();
        let mut file = std::fs::File::from(file);
        file.write_all(&vec![1; 3 << 20]).unwrap();
        let again = file.try_clone().unwrap();
        let meta = at::fstat(&again).unwrap();
        let mut files = Files::default();
        files.look(&proc, "self");
        assert!(files.seen.contains(&(meta.dev, meta.ino)));
        let (seen, before) = (files.seen.clone(), files.bytes);
        assert!(before >= 3 << 20);
        // Other tests may open some meanwhile; not this one again.
        files.look(&proc, "self");
        assert!(files.bytes == before || files.seen != seen, "{files:?}");
        let mut many = Files { looked: DESCRIPTORS, ..Files::default() };
        many.look(&proc, "self");
        assert_eq!((many.seen.len(), many.bytes), (0, 0), "not without end");
        let view = View::new(proc, Some(i32::try_from(std::process::id()).unwrap()), false);
        assert!(memory(&view) >= 3 << 20);
    }

    #[test]
    fn looks_come_closer_near_the_limit_and_stay_cheap() {
        let cheap = Duration::from_micros(10);
        assert_eq!(wait(64 << 30, cheap), LATEST);
        assert_eq!(wait(0, cheap), SOONEST);
        assert!(wait(1 << 30, cheap) < Duration::from_millis(200));
        assert_eq!(wait(0, Duration::from_millis(40)), Duration::from_secs(1));
    }
}
