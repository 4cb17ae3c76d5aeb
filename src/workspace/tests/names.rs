//! Files of the host that have several names, and temporary names of applies that are at work at the same time.

use std::os::unix::fs::MetadataExt;

use super::{Fixture, chmod, lines};
use crate::sys::xattr;

#[test]
fn a_changed_mode_stays_with_the_name_that_it_was_changed_by() {
    let mut f = Fixture::new(&[("dep", "text"), ("alone", "text")]);
    let store = f.dir.path().join("store");
    std::fs::hard_link(f.base("dep"), &store).unwrap();
    std::fs::hard_link(f.base("dep"), f.base("dep2")).unwrap();
    for name in ["dep", "alone"] {
        chmod(f.base(name), 0o644);
    }
    let noted = xattr::set(std::fs::File::open(&store).unwrap(), c"user.note", b"1").is_ok();
    f.start();
    for (name, mode) in [("dep", 0o755), ("dep2", 0o700), ("alone", 0o755)] {
        f.jail(name, "text");
        chmod(f.upper(name), mode);
    }
    let (before, alone) = (std::fs::metadata(&store).unwrap(), std::fs::metadata(f.base("alone")).unwrap());
    let r = f.apply();
    assert_eq!(lines(&r.applied), ["m alone", "m dep", "m dep2"]);
    assert_eq!((&r.failed, &r.conflicts), (&vec![], &vec![]));
    assert_eq!((f.mode("dep"), f.mode("dep2"), f.mode("alone")), (0o755, 0o700, 0o755));
    let after = std::fs::metadata(&store).unwrap();
    assert_eq!((after.mode() & 0o7777, after.ino(), after.nlink()), (0o644, before.ino(), 1), "left alone");
    assert_eq!(std::fs::metadata(f.base("alone")).unwrap().ino(), alone.ino(), "where it is");
    let copy = std::fs::metadata(f.base("dep")).unwrap();
    assert_eq!((f.read("dep"), copy.modified().unwrap()), ("text".into(), before.modified().unwrap()));
    let note = xattr::get(std::fs::File::open(f.base("dep")).unwrap(), c"user.note").ok().flatten();
    assert_eq!(note.is_some(), noted);
    // What was put there is known: the jail may change it once more.
    assert!(r.put.iter().any(|(ino, _)| *ino == copy.ino()));
    assert!(f.diff().changes.is_empty());
}

#[test]
fn what_an_apply_that_is_at_work_made_is_not_taken_for_left_over() {
    let f = Fixture::new(&[("sub/f", "old")]);
    let mine = String::from_utf8(super::super::temporary::name().unwrap()).unwrap();
    let dead = ".aj-apply-ffffffff-1-0123456789abcdef";
    for name in [mine.as_str(), dead] {
        f.host(&format!("sub/{name}"), "half");
        f.host(&format!("sub/{name}x/in"), "somebody's");
    }
    f.jail("sub/f", "new");
    let r = f.apply();
    assert_eq!((r.cleaned, f.read("sub/f")), (1, "new".into()));
    let left: Vec<String> = f.listing().into_iter().filter(|n| n.contains("aj-apply")).collect();
    assert!(left.contains(&format!("sub/{mine}")) && !left.contains(&format!("sub/{dead}")), "{left:?}");
}
