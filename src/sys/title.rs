//! What `ps` and `/proc/PID/cmdline` show of this process.

use std::os::unix::fs::FileExt;

use super::fd::read_proc;

/// Show `title` instead of the command line, as far as there is room for it: the old one may have been that of
/// something else, with words in it that are nobody's business. `name` is what `top` shows, 15 bytes of it.
/// Failing is no loss but for that. Nothing may look at the arguments of this process afterwards.
pub fn set(name: &str, title: &str) {
    super::caps::name_process(name);
    rewrite(title.as_bytes());
}

fn rewrite(title: &[u8]) -> Option<()> {
    let stat = read_proc("/proc/self/stat").ok()?;
    let (start, end) = arguments(&stat)?;
    let mut bytes = vec![0; usize::try_from(end.checked_sub(start)?).ok().filter(|n| *n <= 1 << 22)?];
    // The last byte stays 0: otherwise the kernel shows what lies behind as well.
    let room = bytes.len().checked_sub(1)?;
    bytes.iter_mut().take(room).zip(title).for_each(|(to, from)| *to = *from);
    let memory = std::fs::File::options().write(true).open("/proc/self/mem").ok()?;
    memory.write_all_at(&bytes, start).ok()
}

/// Where the arguments lie: fields 48 and 49 of proc(5), after the name in parentheses.
fn arguments(stat: &[u8]) -> Option<(u64, u64)> {
    let end = stat.iter().rposition(|&b| b == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace().skip(45).map(|f| f.parse().ok());
    Some((fields.next()??, fields.next()??)).filter(|(start, end)| *start > 0 && start < end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_found_behind_a_name_that_lies() {
        let stat = std::fs::read("/proc/self/stat").unwrap();
        let (start, end) = arguments(&stat).unwrap();
        let shown = std::fs::read("/proc/self/cmdline").unwrap();
        assert_eq!(end - start, shown.len() as u64);
        let mut lying = b"1 (a) b) ".to_vec();
        lying.extend_from_slice(&stat[stat.iter().rposition(|&b| b == b')').unwrap() + 1..]);
        assert_eq!(arguments(&lying), Some((start, end)));
        for bad in [&b""[..], b"1 (a", b"1 (a) S 1 2", b"1 (a) \xff"] {
            assert_eq!(arguments(bad), None);
        }
    }
}
