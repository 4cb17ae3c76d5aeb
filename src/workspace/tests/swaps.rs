//! Directories that another one took the place of on the host, and what only looks like it.

use super::super::change::Conflict;
use super::{Fixture, chmod, lines};
use crate::sys::at;

fn rename(f: &Fixture, from: &str, to: &str) {
    std::fs::rename(f.base(from), f.base(to)).unwrap();
}

/// `d` with a file that the jail changed, one that it deleted, and one that it made; beside it a
/// directory with other files of the same names, as old as the first.
fn two_directories() -> Option<Fixture> {
    let f = Fixture::new(&[
        ("d/a", "v1"),
        ("d/b", "keep"),
        ("d/sub/c", "v1"),
        ("d.new/a", "host v2"),
        ("d.new/b", "host b"),
        ("d.new/sub/c", "host c"),
    ]);
    f.jail("d/a", "jail");
    f.jail("d/new", "jail");
    f.jail("d/sub/c", "jail");
    f.whiteout("d/b").then_some(f)
}

const ALL: [&str; 4] = ["M d/a!", "D d/b!", "A d/new!", "M d/sub/c!"];

#[test]
fn changes_in_a_swapped_directory_are_conflicts_at_any_depth() {
    let Some(f) = two_directories() else { return };
    rename(&f, "d", "d.old");
    rename(&f, "d.new", "d");
    let r = f.apply();
    assert!(!r.performed);
    assert_eq!(lines(&r.conflicts), ALL);
    assert!(r.conflicts.iter().all(|c| c.conflict == Some(Conflict::Moved)), "{:?}", r.conflicts);
    let r = f.apply_with(|c| c.partial = true);
    assert!(r.applied.is_empty(), "{:?}", r.applied);
    assert_eq!(
        (f.read("d/a"), f.read("d/b"), f.read("d/sub/c")),
        ("host v2".into(), "host b".into(), "host c".into())
    );
    let r = f.apply_with(|c| c.overwrite = true);
    assert_eq!(r.applied.len(), 4, "the user's word");
    assert_eq!((f.read("d/a"), f.listing().contains(&"d/b".to_owned())), ("jail".into(), false));
    assert_eq!(f.read("d.old/a"), "v1");
}

#[test]
fn a_swapped_directory_further_down_holds_up_what_is_in_it() {
    let f = Fixture::new(&[("d/a", "v1"), ("d/sub/c", "v1"), ("other/c", "host")]);
    f.jail("d/a", "jail");
    f.jail("d/sub/c", "jail");
    rename(&f, "d/sub", "gone");
    rename(&f, "other", "d/sub");
    assert_eq!(lines(&f.diff().changes), ["M d/a", "M d/sub/c!"]);
    let r = f.apply_with(|c| c.partial = true);
    assert_eq!((lines(&r.applied), f.read("d/sub/c")), (vec!["M d/a".to_owned()], "host".into()));
}

#[test]
fn what_was_noted_at_the_end_of_the_run_tells_a_swap_that_the_times_do_not() {
    let Some(f) = two_directories() else { return };
    let options = f.end(f.options());
    if options.places.is_none() {
        eprintln!("SKIP: the file system here does not keep identities");
        return;
    }
    rename(&f, "d", "d.old");
    rename(&f, "d.new", "d");
    // An entry that comes and goes moves both times of the directory: it looks merely used.
    for dir in ["d", "d/sub"] {
        f.host(&format!("{dir}/.swp"), "");
        std::fs::remove_file(f.base(&format!("{dir}/.swp"))).unwrap();
    }
    let r = f.diff_with(&options);
    assert_eq!(lines(&r.changes), ALL);
    assert!(r.changes.iter().all(|c| c.conflict == Some(Conflict::Replaced)), "{:?}", r.changes);
    assert_eq!(r.totals.conflicts, 4);
}

#[test]
fn a_swap_before_the_end_of_the_run_is_not_forgotten_afterwards() {
    let Some(f) = two_directories() else { return };
    rename(&f, "d", "d.old");
    rename(&f, "d.new", "d");
    let options = f.end(f.options());
    for dir in ["d", "d/sub"] {
        f.host(&format!("{dir}/later"), "");
    }
    if options.places.is_some() {
        assert_eq!(lines(&f.diff_with(&options).changes), ALL);
    }
}

#[test]
fn a_directory_moved_to_where_there_was_none_is_noticed() {
    let f = Fixture::new(&[("other/a", "host"), ("d/a", "v1")]);
    f.jail("d/a", "jail");
    f.jail("new/a", "jail");
    std::fs::rename(f.base("d"), f.dir.path().join("away")).unwrap();
    let options = f.end(f.options());
    assert_eq!(lines(&f.diff_with(&options).changes), ["A d/a", "A new/a"]);
    rename(&f, "other", "new");
    f.host("new/later", "");
    if options.places.is_some() {
        assert_eq!(lines(&f.diff_with(&options).changes), ["A d/a", "M new/a!"]);
    }
}

#[test]
fn ordinary_work_beside_the_jails_is_no_conflict() {
    let f = Fixture::new(&[("d/a", "v1"), ("d/other", "1"), ("d/sub/c", "v1"), ("d/sub/gone", "1")]);
    f.jail("d/a", "jail");
    f.jail("d/sub/c", "jail");
    f.jail("d/sub/new", "jail");
    let work = |text: &str| {
        // Saved atomically, as editors do.
        f.host("d/.other.tmp", text);
        rename(&f, "d/.other.tmp", "d/other");
        f.host(&format!("d/{text}"), "1");
        f.host(&format!("d/sub/made-{text}/x"), "1");
        rename(&f, &format!("d/sub/made-{text}"), &format!("d/sub/renamed-{text}"));
        std::fs::remove_file(f.base(&format!("d/{text}"))).unwrap();
    };
    work("while");
    std::fs::remove_file(f.base("d/sub/gone")).unwrap();
    let options = f.end(f.options());
    let expected = ["M d/a", "M d/sub/c", "A d/sub/new"];
    assert_eq!(lines(&f.diff_with(&options).changes), expected);
    work("after");
    assert_eq!(lines(&f.diff().changes), expected);
    assert_eq!(lines(&f.diff_with(&options).changes), expected);
    if options.places.is_some() {
        chmod(f.base("d"), 0o750);
        chmod(f.upper("d"), 0o750);
        assert_eq!(lines(&f.diff_with(&options).changes), expected, "the same directory");
    }
}

#[test]
fn a_directory_that_the_host_made_anew_is_judged_by_its_entries() {
    let f = Fixture::new(&[("d/a", "v1"), ("d/b", "v1")]);
    f.jail("d/a", "jail");
    f.jail("d/new", "jail");
    let options = f.end(f.options());
    std::fs::remove_dir_all(f.base("d")).unwrap();
    f.host("d/a", "checked out again");
    chmod(f.base("d"), 0o755);
    if at::stat_path(&f.base("d")).unwrap().btime.is_some() {
        assert_eq!(lines(&f.diff_with(&options).changes), ["M d/a!", "A d/new"]);
    }
}

#[test]
fn an_apply_in_two_parts_is_not_held_up_by_its_own_traces() {
    let f = Fixture::new(&[("d/a", "v1"), ("d/sub/c", "v1"), ("file", "1")]);
    f.jail("d/a", "jail");
    f.jail("d/sub/c", "jail");
    f.jail("d/sub/.envrc", "jail");
    f.jail("file/x", "jail");
    f.jail("file/.envrc", "jail");
    f.jail("fresh/x", "jail");
    f.jail("fresh/.envrc", "jail");
    for dir in ["d", "d/sub", "fresh"] {
        chmod(f.upper(dir), 0o711);
    }
    let options = f.end(f.options());
    let first = f.apply_with(|c| c.options = options.clone());
    assert_eq!((first.conflicts, first.withheld.len()), (vec![], 3));
    let second = f.apply_with(|c| {
        c.options = options;
        c.allow_exec_files = true;
    });
    assert_eq!(lines(&second.applied), ["A d/sub/.envrc*", "A file/.envrc*", "A fresh/.envrc*"]);
    assert_eq!(second.conflicts, vec![]);
}

#[test]
fn a_file_moved_over_another_is_a_conflict() {
    let f = Fixture::new(&[("a", "v1"), ("old-draft", "host v2"), ("gone", "v1"), ("old-too", "host")]);
    f.jail("a", "jail");
    if !f.whiteout("gone") {
        return;
    }
    rename(&f, "old-draft", "a");
    rename(&f, "old-too", "gone");
    assert_eq!(lines(&f.diff().changes), ["M a!", "D gone!"]);
}

#[test]
fn a_mount_in_a_swapped_directory_cannot_be_decided_away() {
    let f = Fixture::new(&[("d/gone/x", "1"), ("e/gone/m/x", "1"), ("e/a", "1")]);
    if !(f.whiteout("d/gone") && super::mount_privately(&f.base("e/gone/m"), "")) {
        return;
    }
    rename(&f, "d", "d.old");
    rename(&f, "e", "d");
    let r = f.apply_with(|c| c.overwrite = true);
    nix::mount::umount(&f.base("d/gone/m")).unwrap();
    assert_eq!((r.applied, r.conflicts[0].conflict), (vec![], Some(Conflict::Mount)));
    assert_eq!(f.read("d/gone/m/x"), "1");
}
