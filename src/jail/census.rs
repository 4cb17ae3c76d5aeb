//! The processes of jails, one by one, as the host sees them.

use std::collections::HashMap;
use std::time::Duration;

use crate::store::alive;
use crate::sys::{Result, pidfd};

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// As the host numbers it.
    pub pid: i32,
    /// Its parent.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// `R`, `S`, `D` …
    pub state: char,
    /// Processor time, with that of children which it has waited for.
    pub cpu: Duration,
    /// Threads.
    pub threads: u64,
    /// Resident memory, bytes.
    pub memory: u64,
    /// When it started, clock ticks since boot.
    start: u64,
}

/// All processes of this machine, looked at once.
#[derive(Debug, Default)]
pub struct Census {
    all: HashMap<i32, Member>,
    children: HashMap<i32, Vec<i32>>,
}

impl Census {
    /// Look.
    pub fn take() -> Census {
        use nix::unistd::{SysconfVar, sysconf};
        let number = |of| sysconf(of).ok().flatten().and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
        let units =
            (number(SysconfVar::CLK_TCK).unwrap_or(100), number(SysconfVar::PAGE_SIZE).unwrap_or(4096));
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
        Census::of(
            pids.filter_map(|pid| parse(pid, &std::fs::read(format!("/proc/{pid}/stat")).ok()?, units)),
        )
    }

    fn of(members: impl Iterator<Item = Member>) -> Census {
        let mut census = Census::default();
        for member in members {
            census.children.entry(member.parent).or_default().push(member.pid);
            census.all.insert(member.pid, member);
        }
        census
    }

    /// What descends from `init`, without itself: whatever is in its pid namespace does. By pid.
    pub fn below(&self, init: i32) -> Vec<&Member> {
        let mut found: Vec<&Member> = Vec::new();
        let mut at = 0;
        let mut next = Some(init);
        // A table that was read piece by piece may have a circle.
        while let Some(pid) = next.filter(|_| found.len() <= self.all.len()) {
            found.extend(self.children.get(&pid).into_iter().flatten().filter_map(|pid| self.all.get(pid)));
            next = found.get(at).map(|m| m.pid);
            at += 1;
        }
        found.sort_unstable_by_key(|m| m.pid);
        found.dedup_by_key(|m| m.pid);
        found.retain(|m| m.pid != init);
        found
    }

    /// The process group of the command that `init` has started: the first of its children. Those that others
    /// have left it came later.
    pub fn command_group(&self, init: i32) -> Option<i32> {
        let children = self.children.get(&init)?.iter().filter_map(|pid| self.all.get(pid));
        children.min_by_key(|m| (m.start, m.pid)).map(|m| m.group)
    }
}

impl Member {
    /// Send it `signal`; `false`: it is gone. Its number may be another's by now, which gets nothing.
    pub fn signal(&self, signal: i32) -> Result<bool> {
        use std::os::fd::AsFd;
        let process = match pidfd::open(self.pid) {
            Ok(process) => process,
            Err(e) if e.errno == nix::errno::Errno::ESRCH => return Ok(false),
            Err(e) => return Err(e),
        };
        let same = u32::try_from(self.pid).ok().and_then(alive::start_of) == Some(self.start);
        if same { pidfd::signal(process.as_fd(), signal) } else { Ok(false) }
    }

    /// Its number in its own pid namespace; `None`: that is the host's.
    pub fn pid_inside(&self) -> Option<u32> {
        let status = std::fs::read(format!("/proc/{}/status", self.pid)).ok()?;
        let status = String::from_utf8_lossy(&status);
        let numbers = status.lines().find_map(|l| l.strip_prefix("NSpid:"))?;
        numbers.split_ascii_whitespace().skip(1).last()?.parse().ok()
    }

    /// Its command line, words parted by NUL, at most `most` bytes; its short name when it has none. A process
    /// that gave itself a title leaves NULs behind it, where the old words were: they are no words.
    pub fn command(&self, most: usize) -> Vec<u8> {
        let read = |name: &str| {
            let file = std::fs::File::open(format!("/proc/{}/{name}", self.pid)).ok()?;
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::Read::take(file, most as u64), &mut bytes).ok()?;
            bytes.truncate(words_end(&bytes));
            Some(bytes).filter(|b| !b.is_empty())
        };
        let name = || read("comm").map(|b| [b"[", b.trim_ascii_end(), b"]"].concat());
        read("cmdline").or_else(name).unwrap_or_default()
    }
}

/// Where the last word of a command line ends, with its NUL.
fn words_end(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last.saturating_add(2))
}

/// The name of a program, in parentheses, may hold anything.
fn parse(pid: i32, stat: &[u8], (ticks, page): (u64, u64)) -> Option<Member> {
    let end = stat.iter().rposition(|b| *b == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |n: usize| fields.get(n)?.parse::<u64>().ok();
    // Fields 14 to 17 of proc(5).
    let spent = [11, 12, 13, 14].map(number).into_iter().flatten().fold(0, u64::saturating_add);
    Some(Member {
        pid,
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        cpu: Duration::from_millis(spent.saturating_mul(1000) / ticks),
        threads: number(17)?,
        start: number(19)?,
        memory: number(21)?.saturating_mul(page),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(pid: i32, parent: i32, group: i32, start: u64) -> Member {
        Member { pid, parent, group, state: 'S', cpu: Duration::ZERO, threads: 1, memory: 0, start }
    }

    #[test]
    fn what_descends_is_found_and_the_command_is_the_first_child() {
        let all = [
            member(1, 0, 1, 0),
            member(10, 1, 10, 5),
            member(12, 10, 12, 6),
            member(13, 12, 12, 7),
            // Left behind by the command, with a lower number than it: numbers come around.
            member(11, 10, 11, 9),
            member(30, 31, 30, 1),
            member(31, 30, 30, 1),
        ];
        let census = Census::of(all.into_iter());
        let below = |init| census.below(init).iter().map(|m| m.pid).collect::<Vec<_>>();
        assert_eq!((below(10), below(13), below(99)), (vec![11, 12, 13], vec![], vec![]));
        assert_eq!(below(30), [31], "circles end");
        assert_eq!((census.command_group(10), census.command_group(13)), (Some(12), None));
    }

    #[test]
    fn what_a_title_left_behind_it_is_no_words() {
        let shown = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes.truncate(words_end(&bytes));
            bytes
        };
        assert_eq!(shown(b"aj: workspace w\0\0\0\0"), b"aj: workspace w\0");
        assert_eq!(
            (shown(b"sleep\x001\0"), shown(b"cut sho")),
            (b"sleep\x001\0".to_vec(), b"cut sho".to_vec())
        );
        assert_eq!(shown(b"\0\0"), b"");
    }

    #[test]
    fn a_line_is_read_behind_a_name_that_lies() {
        let line = b"7 (a) R 1 (x) \n) S 12 8 7 0 -1 4194560 1 0 0 0 3 4 5 6 20 0 9 0 4242 1 2 1\n";
        let read = parse(7, line, (100, 4096)).unwrap();
        let expected =
            Member { cpu: Duration::from_millis(180), threads: 9, memory: 8192, ..member(7, 12, 8, 4242) };
        assert_eq!(read, expected);
        for bad in [&b""[..], b"7 (a", b"7 (a) S", b"7 (a) \xff", b"7 (a) S 1 2 3"] {
            assert_eq!(parse(7, bad, (100, 4096)), None);
        }
    }

    #[test]
    fn a_signal_does_not_reach_whoever_has_the_number_now() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let start = alive::start_of(child.id()).unwrap();
        assert!(!member(pid, 0, 0, start + 1).signal(nix::libc::SIGKILL).unwrap());
        assert_eq!(child.try_wait().unwrap(), None);
        assert!(member(pid, 0, 0, start).signal(nix::libc::SIGKILL).unwrap());
        child.wait().unwrap();
        assert!(!member(pid, 0, 0, start).signal(nix::libc::SIGKILL).unwrap());
    }
}
