//! Names of the temporary entries of an apply. They say which process made them: the entries of one that is
//! still at work, below or above the directory of another, are not what a killed one left.

use std::cell::Cell;

use nix::errno::Errno;

use crate::base::id::{Id, Kind};
use crate::store::alive;
use crate::sys::{Error, Result};

const PREFIX: &[u8] = b".aj-apply-";

thread_local! {
    /// This process and its start, once it was asked for.
    static MAKER: Cell<(u32, u64)> = const { Cell::new((0, 0)) };
}

/// A name that nothing has yet: `.aj-apply-PID-START-DIGITS`, the numbers in hexadecimal digits.
pub(super) fn name() -> Result<Vec<u8>> {
    let id = Id::random(Kind::Jail).map_err(|_| Error::new("getrandom", "", Errno::EIO))?;
    let digits = id.as_str().get(Kind::Jail.prefix().len()..).unwrap_or_default();
    let (pid, start) = maker();
    Ok([PREFIX, format!("{pid:x}-{start:x}-{digits}").as_bytes()].concat())
}

fn maker() -> (u32, u64) {
    let pid = std::process::id();
    let known = MAKER.get();
    if known.0 == pid {
        return known;
    }
    let found = (pid, alive::start_of(pid).unwrap_or(0));
    MAKER.set(found);
    found
}

/// Whether `name` is one that `aj apply` gives its temporary files.
pub(super) fn is_temporary(name: &[u8]) -> bool {
    maker_of(name).is_some()
}

/// Whether `name` is one of those, and who made it is no longer at work.
pub(super) fn is_left(name: &[u8]) -> bool {
    match maker_of(name) {
        None => false,
        // Older versions did not say who they were.
        Some(None) => true,
        Some(Some((pid, start))) => !alive::is_alive(pid, start, ""),
    }
}

/// The process that a temporary name says, if it says one. `None`: it is no such name.
fn maker_of(name: &[u8]) -> Option<Option<(u32, u64)>> {
    let is_end = |digits: &[u8]| digits.len() == 16 && digits.iter().all(u8::is_ascii_alphanumeric);
    let rest = name.strip_prefix(PREFIX)?;
    if is_end(rest) {
        return Some(None);
    }
    let mut words = std::str::from_utf8(rest).ok()?.split('-');
    let (pid, start, digits) = (words.next()?, words.next()?, words.next()?);
    // Written in one way only: what looks otherwise is somebody else's.
    let (pid, start) = (u32::from_str_radix(pid, 16).ok()?, u64::from_str_radix(start, 16).ok()?);
    let same = rest == format!("{pid:x}-{start:x}-{digits}").as_bytes();
    (same && is_end(digits.as_bytes())).then_some(Some((pid, start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whether_its_maker_is_at_work() {
        let mine = name().unwrap();
        let (pid, start) = maker();
        assert!(start > 0);
        assert!(is_temporary(&mine) && !is_left(&mine), "{}", String::from_utf8_lossy(&mine));
        let of = |pid: u32, start: u64| format!(".aj-apply-{pid:x}-{start:x}-0123456789abcdef").into_bytes();
        assert!(!is_left(&of(pid, start)));
        // The number is another process's by now.
        for left in [of(pid, start + 1), of(u32::MAX, start), b".aj-apply-0123456789abcdef".to_vec()] {
            assert!(is_temporary(&left) && is_left(&left), "{}", String::from_utf8_lossy(&left));
        }
        for other in [
            &b".aj-apply-note"[..],
            b".aj-apply-",
            b".aj-apply-1-2-3",
            b".aj-apply-01-2-0123456789abcdef",
            b".aj-apply-+1-2-0123456789abcdef",
            b".aj-apply-1-2-0123456789abcdef-",
            b".aj-apply-1-2-0123456789abcd\xff",
            b"aj-apply-0123456789abcdef",
        ] {
            assert!(!is_temporary(other) && !is_left(other), "{}", String::from_utf8_lossy(other));
        }
    }
}
