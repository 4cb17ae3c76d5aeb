//! What the host has deleted since the jail started.

use std::os::unix::fs::symlink;

use super::super::apply::Outcome;
use super::super::change::{Conflict, Options};
use super::overlay::in_overlay;
use super::{Fixture, lines};

/// The run has ended: what it leaves is noted, and read back as later commands read it.
fn end(f: &Fixture, options: &Options) -> Options {
    let (upper, base) = f.fds();
    let places = super::super::diff::diff_at_end(upper, base, options).unwrap().places.unwrap();
    let tree = tempfile::tempdir().unwrap();
    let tree = std::fs::File::open(tree.path()).unwrap();
    places.write(&tree).unwrap();
    Options { places: crate::store::origin::Places::read(&tree), ..f.options() }
}

fn remove(f: &Fixture, name: &str) {
    let path = f.base(name);
    if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.unwrap();
}

#[test]
fn what_is_deleted_on_the_host_after_the_run_is_in_conflict() {
    let mut f = Fixture::new(&[
        ("file", "host"),
        ("kept", "host"),
        ("replaced", "host"),
        ("to-dir", "host"),
        ("to-file/x", "host"),
        ("both", "host"),
        ("d/x", "host"),
        ("d/y", "host"),
        ("d/sub/z", "host"),
    ]);
    symlink("a", f.base("link")).unwrap();
    f.start();
    for name in ["file", "kept", "d/x", "d/new", "d/sub/z", "to-dir/x", "to-file", "new", "new-dir/x"] {
        f.jail(name, "jail");
    }
    symlink("b", f.upper("link")).unwrap();
    // Both have made it: the host's end is no end of something that the jail saw.
    f.host("twice", "host's own");
    f.jail("twice", "jail");
    if !(f.whiteout("both") && f.opaque("to-dir")) {
        return;
    }
    let options = end(&f, &f.options());
    for name in ["file", "link", "d", "to-dir", "to-file", "both", "twice"] {
        remove(&f, name);
    }
    let all = [
        "A d/new!",
        "A d/sub/z!",
        "A d/x!",
        "A file!",
        "M kept",
        "A link!",
        "A new",
        "A new-dir/x",
        // A killed apply may have taken the file away that is in its place.
        "A to-dir/x",
        "A to-file!",
        "A twice",
    ];
    let r = f.diff_with(&options);
    assert_eq!(lines(&r.changes), all);
    let of = |name: &str| r.changes.iter().find(|c| c.path == name.as_bytes()).unwrap().conflict;
    assert_eq!((of("file"), of("d/x")), (Some(Conflict::Gone), Some(Conflict::Gone)));
    assert_eq!(of("d/new"), Some(Conflict::GoneAbove));
    let apply = |partial, overwrite| -> Outcome {
        f.apply_with(|c| {
            c.options = options.clone();
            (c.partial, c.overwrite) = (partial, overwrite);
        })
    };
    let r = apply(false, false);
    assert!(!r.performed && r.conflicts_total == 6, "{r:?}");
    assert_eq!(f.listing(), ["kept", "replaced"]);
    let r = apply(true, false);
    assert_eq!(lines(&r.applied), ["M kept", "A new", "A new-dir/x", "A to-dir/x", "A twice"]);
    assert_eq!(
        f.listing(),
        ["kept", "new", "new-dir", "new-dir/x", "replaced", "to-dir", "to-dir/x", "twice"]
    );
    let r = apply(false, true);
    assert_eq!(r.applied.len(), 6, "{r:?}");
    assert_eq!(
        (f.read("d/x"), f.read("file"), f.read("d/y")),
        ("jail".into(), "jail".into(), "<entity not found>".into())
    );
    assert!(f.diff_with(&options).changes.is_empty());
}

#[test]
fn a_further_run_forgets_nothing_of_what_was_deleted_before_it() {
    let f = Fixture::new(&[("file", "host"), ("d/x", "host")]);
    f.jail("file", "jail");
    f.jail("d/x", "jail");
    let options = end(&f, &f.options());
    remove(&f, "file");
    remove(&f, "d");
    f.jail("new", "jail");
    let options = end(&f, &Options { places: options.places.map(|p| p.open_ended()), ..f.options() });
    assert_eq!(lines(&f.diff_with(&options).changes), ["A d/x!", "A file!", "A new"]);
}

/// While the jail is at work: there is no note yet.
fn during(f: &Fixture) -> Options {
    Options { seen: true, ..f.options() }
}

#[test]
fn what_was_copied_up_and_is_deleted_during_the_run_is_in_conflict() {
    let f = Fixture::new(&[
        ("file", "host"),
        ("mode", "host"),
        ("d/x", "host"),
        ("d/sub/y", "host"),
        ("e/x", "1"),
    ]);
    let ran = in_overlay(
        &f,
        "echo >> file; chmod 700 mode; echo >> d/x; chmod 700 d/sub; mkdir new; echo > new/x; echo > e/new",
    );
    if !ran {
        return;
    }
    let new = ["A e/new", "M file", "m mode", "A new/x"];
    assert!(lines(&f.diff_with(&during(&f)).changes).iter().all(|line| !line.contains('!')));
    for name in ["file", "mode", "d"] {
        remove(&f, name);
    }
    let wanted = ["A d/sub/!", "A d/x!", new[0], "A file!", "A mode!", new[3]];
    assert_eq!(lines(&f.diff_with(&during(&f)).changes), wanted);
    // The changes of another directory are no news of what this one had.
    let elsewhere = f.diff_with(&f.options());
    assert_eq!(elsewhere.totals.conflicts, 0, "{elsewhere:?}");
}

#[test]
fn what_the_jail_moved_or_linked_is_new_whatever_the_host_does() {
    for script in [
        "mv a b",
        "mv a b; echo >> b",
        "mv d/x b; echo >> b",
        "mv a b; echo new > a; echo >> b",
        "mv a b; echo host > a; echo >> b",
        "ln a b; echo >> b",
        "mkdir n; mv a n/b; echo >> n/b; mv n m",
        "mv d/x b; echo >> b; rm -r d; mkdir d",
        "mv a b; echo >> b; ln -s x a",
        "mv a b; echo >> b; mkdir a",
    ] {
        let f = Fixture::new(&[("a", "host"), ("d/x", "host"), ("other", "host")]);
        if !in_overlay(&f, script) {
            return;
        }
        // Something came and something went beside it.
        f.host("beside", "");
        remove(&f, "other");
        for options in [during(&f), Options { seen: true, ..end(&f, &f.options()) }] {
            let conflicts = f.diff_with(&options).totals.conflicts;
            assert_eq!(conflicts, 0, "{script}: {:?}", f.diff_with(&options));
        }
    }
}

#[test]
fn what_the_host_deleted_before_the_jail_changed_it_is_in_conflict_where_nothing_else_was_copied() {
    let gone = "cat ?/c; rm ../base/[1-3]/c ../base/5/c; mv ../base/4/c ../base/4/c9;
        echo K >> 1/c; chmod 700 2/c; echo > 3/c; echo K >> 4/c; echo K >> 5/c; echo K >> 5/o";
    let new = "rm ../base/[1-4]/c; echo new > 1/c; mkdir 2/n; echo new > 2/n/x; mv 2/n/x 2/c;
        echo K >> 3/o; echo new > 3/c; echo K >> 4/d/x; echo new > 4/c";
    let moved = "rm ../base/[1-2]/c; mv 1/o 1/c; mv 3/o 2/n; rm 2/n; echo new > 2/c";
    for (script, wanted) in [
        // In the last one what the mark of the directory is about may be the other that was copied up.
        (gone, &["A 1/c!", "A 2/c!", "A 3/c!", "A 4/c!", "A 5/c"][..]),
        (new, &["A 1/c", "A 2/c", "A 3/c", "A 4/c"]),
        (moved, &["A 1/c", "A 2/c"]),
    ] {
        let names: Vec<String> =
            ["c", "o", "d/x"].iter().flat_map(|f| (1..6).map(move |i| format!("{i}/{f}"))).collect();
        let names: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "host")).collect();
        let f = Fixture::new(&names);
        if !in_overlay(&f, script) {
            return;
        }
        for options in [during(&f), Options { seen: true, ..end(&f, &during(&f)) }] {
            let mut found = lines(&f.diff_with(&options).changes);
            found.retain(|line| line.starts_with("A ") && line.contains("/c"));
            assert_eq!(found, wanted, "{script}");
        }
    }
}
