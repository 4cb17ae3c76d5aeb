//! What the processes of a running jail use, read through the jail's own `/proc`: its numbers are
//! the kernel's, and it lists exactly the jail's processes.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::dir::Dir;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::schema::jail::Usage;

/// Read a small proc file below `proc`.
fn read(proc: &OwnedFd, path: &str) -> Option<String> {
    let fd = openat(proc, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    let mut text = String::new();
    std::fs::File::from(fd).take(4096).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Call `each` with every pid of the jail.
fn pids(proc: &OwnedFd, mut each: impl FnMut(&str)) {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let Ok(mut dir) = Dir::openat(proc.as_fd(), ".", flags, Mode::empty()) else { return };
    for entry in dir.iter().flatten() {
        if let Ok(name) = entry.file_name().to_str() {
            if name.bytes().all(|b| b.is_ascii_digit()) {
                each(name);
            }
        }
    }
}

/// Anonymous memory of all processes in bytes: resident pages that no file backs. Pages shared
/// between a parent and its fork are counted for both, so this errs towards too much.
pub(super) fn anonymous_memory(proc: &OwnedFd) -> u64 {
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
    let page = u64::try_from(page).unwrap_or(4096);
    let mut sum = 0;
    pids(proc, |pid| {
        if let Some(text) = read(proc, &format!("{pid}/statm")) {
            let mut fields = text.split(' ').skip(1).map_while(|f| f.parse::<u64>().ok());
            if let (Some(resident), Some(shared)) = (fields.next(), fields.next()) {
                sum += resident.saturating_sub(shared) * page;
            }
        }
    });
    sum
}

/// CPU time so far and resident memory now.
pub(super) fn live(proc: Option<&OwnedFd>, wall: Duration) -> Usage {
    let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let mut usage = Usage { wall_ms: ms(wall), ..Usage::default() };
    let Some(proc) = proc else { return usage };
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    let per_tick = 1000 / u64::try_from(ticks).unwrap_or(100).max(1);
    pids(proc, |pid| {
        let Some(text) = read(proc, &format!("{pid}/stat")) else { return };
        // The command's name may contain spaces and parentheses: fields start after the last one.
        let Some((_, rest)) = text.rsplit_once(") ") else { return };
        let field = |n: usize| rest.split(' ').nth(n).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        // Fields 14 to 17 of proc(5): own and reaped children's user and system time.
        usage.user_ms += (field(11) + field(13)) * per_tick;
        usage.system_ms += (field(12) + field(14)) * per_tick;
    });
    usage.peak_rss = anonymous_memory(proc);
    usage
}
