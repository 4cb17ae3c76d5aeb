//! When a run began, on the clock by which the host's files are dated, and what became of that clock since.
//!
//! The ctime of the link `base` in the directory of a tree is the beginning: what the host changed later has a
//! later ctime. That fails when the clock is set back meanwhile. So the mtime of that link, which means
//! nothing otherwise, is the moment at which the machine was booted by the clock of then: it stays the same
//! for as long as nobody sets the clock, and is found again from the clocks of now.

use nix::sys::time::TimeSpec;

use crate::base::clock::{self, Clocks};
use crate::sys::at::{Meta, Stamp};

const SECOND: i128 = 1_000_000_000;
/// How far two looks at two clocks may be apart.
const INACCURACY: i128 = SECOND / 100;
/// How far the clock of a file system may be from ours: that of another machine may hold the tree.
const SKEW: i128 = 2 * SECOND;
/// A boot cannot be told from the last one by less than this.
const UNSURE: i128 = 10 * SECOND;

/// Since when a change of the host's is one that a run did not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Began {
    /// The ctime of what the host changed since is later.
    pub at: Stamp,
    /// The clock was set back since, so that this is earlier than it was: also what was changed before may seem
    /// to be changed since.
    pub set_back: bool,
}

impl Began {
    /// Of the tree with this link `base`.
    pub fn of(base: &Meta) -> Began {
        Began::judge(base.ctime, Some(base.mtime), clock::clocks())
    }

    /// Of one of which no more is known than the beginning.
    pub fn since(at: Stamp) -> Began {
        Began::judge(at, None, clock::clocks())
    }

    fn judge(at: Stamp, boot: Option<Stamp>, now: Option<Clocks>) -> Began {
        let known = Began { at, set_back: false };
        let Some(now) = now else { return known };
        let (began, boot_now) = (nanos(at), now.wall - now.up);
        // Older versions noted nothing, and then the link was made when it was changed last.
        let boot = boot.map(nanos).filter(|boot| began - boot > SECOND);
        let earlier = match boot {
            Some(boot) if now.up + UNSURE < began - boot => (boot_now < began).then_some(boot_now),
            Some(boot) => {
                // A file system may know whole seconds only.
                let inaccuracy = if boot % SECOND == 0 { SECOND } else { INACCURACY };
                (boot - boot_now > inaccuracy).then_some(began - (boot - boot_now))
            }
            None => (now.wall + SKEW < began).then_some(i128::MIN),
        };
        earlier.map_or(known, |at| Began { at: stamp(at), set_back: true })
    }
}

/// What the mtime of a link `base` is to be that is made, or made fit, now.
pub(super) fn note() -> TimeSpec {
    let Some(now) = clock::clocks() else { return TimeSpec::UTIME_NOW };
    let Stamp { sec, nsec } = stamp(now.wall - now.up);
    TimeSpec::new(sec, nsec.into())
}

fn nanos(stamp: Stamp) -> i128 {
    i128::from(stamp.sec) * SECOND + i128::from(stamp.nsec)
}

fn stamp(nanos: i128) -> Stamp {
    match i64::try_from(nanos.div_euclid(SECOND)) {
        Ok(sec) => Stamp { sec, nsec: u32::try_from(nanos.rem_euclid(SECOND)).unwrap_or(0) },
        Err(_) => Stamp { sec: i64::MIN, nsec: 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Stamp {
        stamp((seconds * 1e9) as i128)
    }

    /// Booted at `boot` by a clock that shows `wall`.
    fn now(boot: f64, wall: f64) -> Option<Clocks> {
        let ns = |seconds: f64| (seconds * 1e9) as i128;
        Some(Clocks { wall: ns(wall), up: ns(wall) - ns(boot) })
    }

    #[test]
    fn a_clock_that_went_back_makes_a_beginning_earlier_and_no_other_one_does() {
        let judge = |boot: f64, now| {
            let began = Began::judge(at(5000.5), Some(at(boot)), now);
            (began.at, began.set_back)
        };
        let same = (at(5000.5), false);
        // Nobody set it; two looks at two clocks are not one.
        assert_eq!(judge(1000.25, now(1000.25, 6000.0)), same);
        assert_eq!(judge(1000.25, now(1000.245, 6000.0)), same);
        // Set forward, and another boot: what comes is later in any case.
        assert_eq!(judge(1000.25, now(1060.0, 6000.0)), same);
        assert_eq!(judge(1000.25, now(5500.0, 5600.0)), same);
        // Set back by half a second, and by an hour, to before the beginning.
        assert_eq!(judge(1000.25, now(999.75, 6000.0)), (at(5000.0), true));
        assert_eq!(judge(1000.25, now(-2599.75, 1500.0)), (at(1400.5), true));
        // Another boot, by a clock that stood before the beginning: what happens there is later than that boot.
        assert_eq!(judge(1000.25, now(4000.0, 4100.0)), (at(4000.0), true));
        assert_eq!(judge(1000.25, now(300.0, 400.0)), (at(300.0), true));
        // Whole seconds are less exact.
        assert_eq!(judge(1000.0, now(999.5, 6000.0)), same);
        assert_eq!(judge(1000.0, now(998.5, 6000.0)), (at(4999.0), true));
    }

    #[test]
    fn a_beginning_that_is_still_to_come_is_none() {
        let never = Began { at: Stamp { sec: i64::MIN, nsec: 0 }, set_back: true };
        for boot in [None, Some(at(5000.4))] {
            let judge = |now| Began::judge(at(5000.5), boot, now);
            assert_eq!(judge(now(1000.0, 4000.0)), never);
            for now in [now(1000.0, 6000.0), now(1000.0, 4999.5), None] {
                assert_eq!(judge(now), Began { at: at(5000.5), set_back: false });
            }
        }
    }

    #[test]
    fn what_is_noted_now_is_what_is_found_now() {
        let noted = note();
        let boot = Stamp { sec: noted.tv_sec(), nsec: u32::try_from(noted.tv_nsec()).unwrap() };
        let began = stamp(clock::clocks().unwrap().wall);
        assert_eq!(Began::judge(began, Some(boot), clock::clocks()), Began { at: began, set_back: false });
    }
}
