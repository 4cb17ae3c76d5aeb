//! The clocks: wall time for records, monotonic time for durations.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch, 0 when the clock stands before it. Wall time may go backwards;
/// durations are measured with `std::time::Instant`.
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// Milliseconds of the clock that [`std::time::Instant`] reads, the same for all processes of this boot.
pub fn monotonic_ms() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    let ms = |t: nix::sys::time::TimeSpec| t.tv_sec() * 1000 + t.tv_nsec() / 1_000_000;
    now.ok().and_then(|t| u64::try_from(ms(t)).ok()).unwrap_or(0)
}

/// Two clocks at one moment, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// Wall time since the epoch.
    pub wall: i128,
    /// Time since boot, also while the machine slept. Nobody sets it.
    pub up: i128,
}

/// Both clocks now. No call into the kernel, unless the process was kept from running between the looks.
pub fn clocks() -> Option<Clocks> {
    use nix::time::{ClockId, clock_gettime};
    const CLOSE: i128 = 1_000_000;
    let read = |id| {
        let t = clock_gettime(id).ok()?;
        Some(i128::from(t.tv_sec()) * 1_000_000_000 + i128::from(t.tv_nsec()))
    };
    let look = || {
        let (before, wall, after) =
            (read(ClockId::CLOCK_BOOTTIME)?, read(ClockId::CLOCK_REALTIME)?, read(ClockId::CLOCK_BOOTTIME)?);
        Some((after - before, Clocks { wall, up: before + (after - before) / 2 }))
    };
    let mut best = look()?;
    for _ in 0..8 {
        if best.0 < CLOSE {
            break;
        }
        best = std::cmp::min_by_key(best, look()?, |(apart, _)| *apart);
    }
    Some(best.1)
}

/// RFC 3339 in UTC with milliseconds and `Z`, as JSON shows times.
pub fn rfc3339(ms: u64) -> String {
    i64::try_from(ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| "invalid".to_owned(), |t| format!("{t:.3}"))
}

/// The same with nanoseconds, of a time of a file system's, which may be any. `None`: no calendar has it.
pub fn rfc3339_exact(sec: i64, nsec: u32) -> Option<String> {
    let nsec = i32::try_from(nsec).ok()?;
    // Before the epoch, too, the nanoseconds count forwards.
    let t = jiff::Timestamp::from_second(sec).ok()?.checked_add(jiff::SignedDuration::new(0, nsec)).ok()?;
    Some(format!("{t:.9}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_795_257_302_005), "2026-11-21T10:35:02.005Z");
        assert_eq!(rfc3339(u64::MAX), "invalid");
        let exact = |sec, nsec| rfc3339_exact(sec, nsec).unwrap();
        assert_eq!(exact(0, 1), "1970-01-01T00:00:00.000000001Z");
        assert_eq!(exact(-1, 999_999_999), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(rfc3339_exact(i64::MAX, 0), None);
    }
}
