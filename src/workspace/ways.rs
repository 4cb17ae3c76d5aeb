//! Whether the directories of the host on the way to a change are those that the jail saw.
//!
//! A change is judged by its own entry on the host, and that tells nothing when a directory above was
//! swapped (`mv src src.old; mv src.new src`): the files in the new one are as old as they ever were.
//! The overlay does not say which directory it showed: without privileges it keeps no file handles. So
//! there are two witnesses:
//! - **identities**, noted when the run ended ([`Places`](crate::store::origin::Places)): exact from
//!   then on;
//! - **times**, for what happened before: a rename moves the ctime of a directory and not its mtime,
//!   while entries that come and go move both together. A chmod looks like a rename, and is asked
//!   about, too. What was moved and got or lost an entry afterwards, while the jail still ran, is not
//!   seen.
//!
//! A directory born after the start needs neither: whatever is in it was put there later, and has a
//! ctime that says so.

use super::change::{Conflict, Options};
use crate::store::origin::Known;
use crate::sys::at::Meta;

/// What speaks against putting changes into the host's directory `now`, found at `path`.
pub(super) fn unlike(options: &Options, path: &[u8], now: &Meta) -> Option<Conflict> {
    if now.btime.is_some_and(|born| born > options.started) {
        return None;
    }
    let moved = (now.ctime > options.started && now.ctime != now.mtime).then_some(Conflict::Moved);
    match options.places.as_ref().map(|places| places.at(path)) {
        None | Some(Known::Unknown) => moved,
        Some(Known::As(then)) if then.is(&now.identity()) => None,
        Some(Known::As(_)) => Some(Conflict::Replaced),
        // `aj apply` may have made it since.
        Some(Known::Absent) if now.btime.is_none() => moved,
        // Not there when the run ended, or not to be trusted then.
        Some(Known::Absent) => Some(Conflict::Moved),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::origin::Places;
    use crate::sys::at::{self, Stamp};

    #[test]
    fn identities_are_believed_first_then_times() {
        let dir = tempfile::tempdir().unwrap();
        let mut now = at::fstat(std::fs::File::open(dir.path()).unwrap()).unwrap();
        let at = |sec| Stamp { sec, nsec: 0 };
        let judge = |now: &Meta, places: Option<Places>| {
            unlike(&Options { started: at(100), places, ..Options::default() }, b"d", now)
        };
        let with = |ino: u64| {
            let mut places = Places::default();
            places.add(b"d", crate::sys::at::Identity { ino, born: now.btime });
            Some(places)
        };
        let (same, other) = (with(now.ino), with(now.ino + 1));
        now.btime = Some(at(50));
        let (same, other) = (same.map(|p| reborn(p, at(50))), other.map(|p| reborn(p, at(50))));
        (now.mtime, now.ctime) = (at(60), at(60));
        assert_eq!(judge(&now, None), None, "older than the run");
        (now.mtime, now.ctime) = (at(120), at(120));
        assert_eq!(judge(&now, None), None, "entries came or went");
        now.mtime = at(60);
        assert_eq!(judge(&now, None), Some(Conflict::Moved));
        assert_eq!(judge(&now, same.clone()), None, "the very one: a chmod since the end");
        assert_eq!(judge(&now, Some(Places::default())), Some(Conflict::Moved));
        assert_eq!(judge(&now, other.clone()), Some(Conflict::Replaced));
        (now.mtime, now.ctime) = (at(60), at(60));
        assert_eq!(judge(&now, other.clone()), Some(Conflict::Replaced), "whatever its times say");
        now.btime = Some(at(130));
        assert_eq!(judge(&now, other), None, "born later: its entries speak for themselves");
    }

    fn reborn(mut places: Places, born: Stamp) -> Places {
        if let Known::As(identity) = places.at(b"d") {
            places.add(b"d", crate::sys::at::Identity { born: Some(born), ..identity });
        }
        places
    }
}
