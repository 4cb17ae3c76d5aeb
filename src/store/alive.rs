//! Is the process that wrote a record still there? A pid alone is not an answer: it is used again.

use std::fs;

use crate::schema::job::Process;
use crate::sys::fd::read_proc;

/// What tells one process of one boot from every other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `/proc/sys/kernel/random/boot_id`, empty when it cannot be read.
    pub boot_id: String,
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot, 0 when it cannot be read.
    pub pid_start: u64,
}

impl Identity {
    /// Of this process. Two small reads of `/proc`.
    pub fn current() -> Identity {
        Identity {
            boot_id: boot_id().unwrap_or_default(),
            pid: std::process::id(),
            pid_start: read_proc("/proc/self/stat").ok().and_then(|s| parse(&s)).map_or(0, |s| s.start),
        }
    }
}

/// This process, for a record.
pub fn this_process() -> Process {
    let Identity { boot_id, pid, pid_start } = Identity::current();
    Process { pid, start: pid_start, boot: boot_id }
}

/// As [`is_alive`].
pub fn lives(process: &Process) -> bool {
    is_alive(process.pid, process.start, &process.boot)
}

/// Start time of process `pid`, in clock ticks since boot; `None`: it is gone, or cannot be looked at.
pub fn start_of(pid: u32) -> Option<u64> {
    parse(&fs::read(format!("/proc/{pid}/stat")).ok()?).map(|s| s.start)
}

/// Id of this boot, `None` without `/proc`.
pub fn boot_id() -> Option<String> {
    let text = String::from_utf8(read_proc("/proc/sys/kernel/random/boot_id").ok()?).ok()?;
    Some(text.trim_end().to_owned())
}

/// Whether the process of a record still runs. True when it cannot be told: a row that stays
/// `running` too long is repaired later, one called `lost` too early is wrong.
pub fn is_alive(pid: u32, pid_start: u64, boot: &str) -> bool {
    let Some(now) = boot_id() else { return true };
    if !boot.is_empty() && boot != now {
        return false;
    }
    match fs::read(format!("/proc/{pid}/stat")) {
        // A zombie has run its last instruction: no record will come from it.
        Ok(stat) => parse(&stat).is_none_or(|s| !s.dead && (pid_start == 0 || s.start == pid_start)),
        // ESRCH: it ended between open and read.
        Err(e) => !matches!(e.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ESRCH)),
    }
}

/// Whether `pid` has run its last instruction, and nobody has waited for it yet.
pub fn is_zombie(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/stat")).is_ok_and(|stat| parse(&stat).is_some_and(|s| s.dead))
}

/// Whether `pid` may be a process that one which started at `parent_start` made soon after, and which has
/// not ended. `false` when it cannot be told.
pub fn may_be_child(pid: u32, parent_start: u64, boot: &str) -> bool {
    /// Clock ticks, a hundred a second: pids do not come around as fast.
    const SOON: u64 = 1000;
    let Ok(stat) = fs::read(format!("/proc/{pid}/stat")) else { return false };
    boot_id().is_some_and(|now| now == boot)
        && parse(&stat)
            .is_some_and(|s| !s.dead && (parent_start..=parent_start.saturating_add(SOON)).contains(&s.start))
}

struct Stat {
    dead: bool,
    start: u64,
}

/// State and start time (fields 3 and 22) of a stat line. Field 2, the command's name, is chosen by
/// the process and may hold spaces, parentheses and newlines: the last `)` ends it.
fn parse(stat: &[u8]) -> Option<Stat> {
    let end = stat.iter().rposition(|&b| b == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let dead = matches!(fields.next()?, "Z" | "X" | "x");
    let start = fields.nth(18)?.parse().ok()?;
    Some(Stat { dead, start })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn this_process_is_alive_and_its_neighbours_in_time_are_not() {
        let me = Identity::current();
        assert!(me.pid_start > 0 && me.boot_id.len() == 36, "{me:?}");
        assert!(is_alive(me.pid, me.pid_start, &me.boot_id));
        assert!(!is_alive(me.pid, me.pid_start + 1, &me.boot_id), "pid used again");
        assert!(!is_alive(me.pid, me.pid_start, "00000000-0000-0000-0000-000000000000"), "earlier boot");
        assert!(!is_alive(u32::MAX, me.pid_start, &me.boot_id));
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line = b"7 (a) R 1 (x) \n) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1\n";
        let stat = parse(line).unwrap();
        assert_eq!((stat.start, stat.dead), (4242, false));
        assert!(parse(b"7 (a) Z 1 7 7 0 -1 0 1 0 0 0 0 0 0 0 20 0 1 0 5 0").unwrap().dead);
        for bad in [&b""[..], b"7 (a", b"7 (a)", b"7 (a) S 1 2", b"7 (a) \xff\xfe"] {
            assert!(parse(bad).is_none());
        }
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        let start = parse(&fs::read(format!("/proc/{pid}/stat")).unwrap()).unwrap().start;
        let boot = boot_id().unwrap();
        assert!(is_alive(pid, start, &boot));
        drop(child.stdin.take());
        // Until it is waited for it stays a zombie.
        for _ in 0..1000 {
            if !is_alive(pid, start, &boot) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(fs::read(format!("/proc/{pid}/stat")).is_ok(), "still a zombie");
        assert!(!is_alive(pid, start, &boot));
        child.wait().unwrap();
        assert!(!is_alive(pid, start, &boot));
    }
}
