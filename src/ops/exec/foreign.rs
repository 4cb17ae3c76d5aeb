//! Files of another owner in the workspace, as the reason for a command that failed, or a part of it.
//!
//! A file whose owner or group has no id in the jail can be read and removed there but not changed:
//! the overlay would have to copy it up with an owner that it cannot write down, and says EOVERFLOW
//! ("Value too large for defined data type"). Nobody guesses the cause from that text.

use std::collections::VecDeque;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::base::text;
use crate::jail::spec::{Ids, Owner};
use crate::jail::supervise::Ended;
use crate::schema::jail::Outcome;

/// Entries and time that a search takes at most: the command has failed already, and the user waits.
const MOST: usize = 2_000;
const LONGEST: Duration = Duration::from_millis(50);

/// What programs print when they run into such a file. The first says so by itself: hardly anything else makes a
/// program print it, and a command that goes on after it and ends well has failed all the same.
const SIGNS: [&str; 5] =
    ["Value too large for defined data type", "EOVERFLOW", "os error 75", "Permission denied", "EACCES"];

/// Whether something in the run failed in a way that foreign files explain. On a terminal both streams are one.
pub(super) fn is_suspect(ended: &Ended) -> bool {
    let signs = match ended.outcome {
        Outcome::Exited { code: 0 } => &SIGNS[..1],
        Outcome::Exited { .. } => &SIGNS[..],
        _ => return false,
    };
    [&ended.stderr, &ended.stdout].into_iter().any(|said| signs.iter().any(|sign| said.has(sign.as_bytes())))
}

/// A line about the first foreign file in `workspace`, if there is one not too deep.
pub(super) fn hint(workspace: &Path, ids: &Ids, top: Owner) -> Option<String> {
    let ours = match ids {
        Ids::Caller { owner } => *owner,
        // As root the owner of the top directory becomes the jail's user.
        Ids::Range => top,
    };
    let (path, m) = first(workspace, ours, MOST, LONGEST)?;
    let shown = text::os(path.strip_prefix(workspace).unwrap_or(&path));
    let (what, theirs, mine) = match () {
        () if m.uid() != ours.uid => ("user", m.uid(), ours.uid),
        () => ("group", m.gid(), ours.gid),
    };
    // As root a bind shows the same owners: there only the owner can be changed.
    let or = match ids {
        Ids::Caller { .. } => ", or let commands write to the directory itself: `--rw`",
        Ids::Range => "",
    };
    Some(format!(
        "`{shown}` belongs to {what} {theirs}, not to {mine}: a command inside can read it but not change it \
         (EOVERFLOW or EACCES); give it the owner of the directory with `chown`{or}"
    ))
}

/// The first entry below `dir`, nearest first, that is not of `ours`. Only looks: opens directories
/// of the same file system and follows no links.
fn first(dir: &Path, ours: Owner, most: usize, longest: Duration) -> Option<(PathBuf, Metadata)> {
    let (began, mut left) = (Instant::now(), most);
    let device = std::fs::symlink_metadata(dir).ok()?.dev();
    let mut to_do = VecDeque::from([dir.to_owned()]);
    while let Some(dir) = to_do.pop_front() {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            if left == 0 || began.elapsed() > longest {
                return None;
            }
            left -= 1;
            // Of the entry itself, not of what it may link to.
            let Ok(m) = entry.metadata() else { continue };
            if (m.uid(), m.gid()) != (ours.uid, ours.gid) {
                return Some((entry.path(), m));
            }
            if m.is_dir() && m.dev() == device {
                to_do.push_back(entry.path());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(path: &Path) -> Owner {
        let m = std::fs::symlink_metadata(path).unwrap();
        Owner { uid: m.uid(), gid: m.gid() }
    }

    #[test]
    fn a_tree_of_one_owner_has_no_foreign_file_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/c"), "").unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("a/root")).unwrap();
        let ours = owner(dir.path());
        assert!(first(dir.path(), ours, MOST, LONGEST).is_none());
        // Teeth: seen by anybody else, the nearest entry is foreign.
        let other = Owner { uid: ours.uid + 1, gid: ours.gid };
        assert_eq!(first(dir.path(), other, MOST, LONGEST).unwrap().0, dir.path().join("a"));
        let text = hint(dir.path(), &Ids::Range, other).unwrap();
        assert!(
            text.starts_with(&format!("`a` belongs to user {}, not to {}", ours.uid, other.uid)),
            "{text}"
        );
        let other = Owner { uid: ours.uid, gid: ours.gid + 1 };
        assert!(hint(dir.path(), &Ids::Caller { owner: other }, ours).unwrap().contains("to group"));
    }

    #[test]
    fn the_search_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..50 {
            std::fs::write(dir.path().join(n.to_string()), "").unwrap();
        }
        let ours = owner(dir.path());
        let other = Owner { uid: ours.uid + 1, ..ours };
        assert!(first(dir.path(), other, 0, LONGEST).is_none());
        assert!(first(dir.path(), other, MOST, Duration::ZERO).is_none());
        assert!(first(dir.path(), other, 1, LONGEST).is_some());
    }
}
