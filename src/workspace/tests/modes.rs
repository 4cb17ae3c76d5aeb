//! Permission bits of directories that both sides have.

use super::{Fixture, chmod, lines};

/// Directories of the base and, in the upper layer, with the bits that the jail gave them.
fn given(dirs: &[(&str, u32, u32)]) -> Fixture {
    let mut f = Fixture::new(&[]);
    for (dir, host, _) in dirs {
        f.host(&format!("{dir}/"), "");
        chmod(f.base(dir), *host);
    }
    f.start();
    for (dir, _, jail) in dirs {
        f.jail(&format!("{dir}/"), "");
        chmod(f.upper(dir), *jail);
    }
    f
}

#[test]
fn bits_that_let_others_put_files_there_are_withheld() {
    let f = given(&[
        (".git", 0o755, 0o777),
        (".git/hooks", 0o755, 0o777),
        (".git/objects", 0o755, 0o700),
        (".vscode", 0o755, 0o775),
        ("closed", 0o755, 0o700),
        ("read", 0o700, 0o755),
        ("src", 0o755, 0o757),
    ]);
    for dir in [".git", "."] {
        chmod(f.upper(dir), 0o777);
    }
    f.jail("src/notes.txt", "jail");
    let all = ["m .git/*", "m .git/hooks/*", "m .git/objects/*", "m .vscode/*", "m src/*"];
    let options = f.end(f.options());
    let r = f.apply_with(|c| c.options = options.clone());
    assert_eq!(lines(&r.withheld), all);
    assert_eq!(lines(&r.applied), ["m closed/", "m read/", "A src/notes.txt"], "entries need no other bits");
    let modes =
        || [".git", ".git/hooks", ".git/objects", ".vscode", "src", "closed", "read"].map(|d| f.mode(d));
    assert_eq!(modes(), [0o755, 0o755, 0o755, 0o755, 0o755, 0o700, 0o755]);
    let r = f.apply_with(|c| {
        c.options = options;
        c.allow_exec_files = true;
    });
    assert_eq!((lines(&r.applied).len(), r.withheld), (5, vec![]));
    assert_eq!(modes(), [0o777, 0o777, 0o700, 0o775, 0o757, 0o700, 0o755]);
}

#[test]
fn bits_that_the_host_changed_are_a_conflict_though_entries_came_since() {
    let f = given(&[("d", 0o755, 0o711), ("same", 0o755, 0o711), ("used", 0o755, 0o711)]);
    let options = f.end(f.options());
    chmod(f.base("d"), 0o700);
    chmod(f.base("same"), 0o711);
    for dir in ["d", "used"] {
        f.host(&format!("{dir}/key"), "host");
    }
    assert_eq!(lines(&f.diff_with(&options).changes), ["m d/!", "m used/"]);
    let r = f.apply_with(|c| c.options = options);
    assert!(!r.performed && f.mode("d") == 0o700);
    // Without notes, what nobody knows to have been given on purpose is not given.
    assert_eq!(lines(&f.diff().changes), ["m d/!", "m used/"]);
}

#[test]
fn bits_that_only_the_host_changed_are_not_the_jails() {
    let f = given(&[("d", 0o555, 0o555), ("e", 0o755, 0o755)]);
    f.jail("e/f", "jail");
    let options = f.end(f.options());
    for dir in ["d", "e"] {
        chmod(f.base(dir), 0o700);
    }
    assert_eq!(lines(&f.diff_with(&options).changes), ["A e/f"]);
    let r = f.apply_with(|c| c.options = options);
    assert_eq!((lines(&r.applied), f.mode("d"), f.mode("e")), (vec!["A e/f".to_owned()], 0o700, 0o700));
}

#[test]
fn bits_that_the_jail_gives_back_after_they_were_applied_are_a_change() {
    let f = given(&[("d", 0o755, 0o711)]);
    let mut options = f.end(f.options());
    let r = f.apply_with(|c| c.options = options.clone());
    assert_eq!(lines(&r.applied), ["m d/"]);
    options.applied = options.applied.with(&r.put);
    chmod(f.upper("d"), 0o755);
    assert_eq!(lines(&f.diff_with(&options).changes), ["m d/"]);
    f.host("d/x", "host");
    options = f.end(options);
    assert_eq!(lines(&f.diff_with(&options).changes), ["m d/!"], "the notes are of before that");
}

#[test]
fn a_directory_that_both_sides_made_is_not_opened() {
    let f = given(&[]);
    for (dir, host, jail) in [("priv", 0o700, 0o777), ("more", 0o755, 0o700), ("empty", 0o700, 0o755)] {
        f.host(&format!("{dir}/"), "");
        f.jail(&format!("{dir}/jail"), "jail");
        chmod(f.base(dir), host);
        chmod(f.upper(dir), jail);
    }
    f.host("priv/key", "host");
    assert_eq!(
        lines(&f.diff().changes),
        ["m empty/!", "A empty/jail", "m more/", "A more/jail", "m priv/!*", "A priv/jail"]
    );
    f.apply_with(|c| c.partial = true);
    assert_eq!(["empty", "more", "priv"].map(|d| f.mode(d)), [0o700, 0o700, 0o700]);
}

#[test]
fn what_a_killed_apply_left_open_to_its_owner_gets_the_jails_bits() {
    let f = given(&[("ro", 0o755, 0o555), ("own", 0o755, 0o500)]);
    let options = f.end(f.options());
    // The one has all that the jail's has and its owner's bits, the other is open to others.
    chmod(f.base("ro"), 0o700);
    for (dir, mode) in [("ro", 0o755), ("own", 0o711)] {
        chmod(f.base(dir), mode);
    }
    assert_eq!(lines(&f.diff_with(&options).changes), ["m own/!", "m ro/"]);
    assert_eq!(lines(&f.diff().changes), ["m own/!", "m ro/!"], "without notes it may be another directory");
    let r = f.apply_with(|c| {
        c.options = options;
        c.partial = true;
    });
    assert_eq!((lines(&r.applied), f.mode("ro"), f.mode("own")), (vec!["m ro/".to_owned()], 0o555, 0o711));
}
