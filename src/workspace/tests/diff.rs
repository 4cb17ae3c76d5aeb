use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use super::super::change::{Conflict, Options};
use super::{Fixture, chmod, lines};
use crate::store::planted::Planted;
use crate::sys::at;

#[test]
fn each_kind_of_change_is_told_apart() {
    let mut f = Fixture::new(&[
        ("same", "text"),
        ("content", "old"),
        ("mode", "text"),
        ("to-link", "text"),
        ("to-dir", "text"),
        ("dir-to-file/a", "1"),
        ("dir-to-file/b/c", "2"),
        ("gone", "x"),
        ("gone-dir/a", "1"),
        ("gone-dir/b/c", "2"),
        ("kept/inside", "x"),
    ]);
    symlink("a", f.base("link")).unwrap();
    symlink("a", f.base("link-same")).unwrap();
    f.start();
    f.jail("same", "text");
    f.jail("content", "new");
    f.jail("mode", "text");
    chmod(f.upper("mode"), 0o755);
    symlink("elsewhere", f.upper("to-link")).unwrap();
    f.jail("to-dir/x", "1");
    f.jail("dir-to-file", "now a file");
    f.jail("kept/", "");
    f.jail("new", "1");
    f.jail("new-dir/deep/file", "1");
    f.jail("new-empty/", "");
    symlink("b", f.upper("link")).unwrap();
    symlink("a", f.upper("link-same")).unwrap();
    if !(f.whiteout("gone") && f.whiteout("gone-dir") && f.whiteout("never-there")) {
        return;
    }
    let r = f.diff();
    assert_eq!(
        lines(&r.changes),
        [
            "M content",
            "T dir-to-file",
            "D gone",
            "D gone-dir/",
            "M link",
            "m mode",
            "A new",
            "A new-dir/deep/file",
            "A new-empty/",
            "T to-dir/",
            "A to-dir/x",
            "T to-link",
        ]
    );
    assert_eq!(r.totals.changes(), 12);
    assert_eq!((r.totals.added, r.totals.modified, r.totals.deleted), (4, 2, 2));
    assert_eq!(r.totals.deleted_below, 4, "two files each below gone-dir and dir-to-file");
    assert_eq!(r.totals.conflicts, 0);
    assert!(r.skipped.is_empty());
    let mode = r.changes.iter().find(|c| c.path == b"mode").unwrap();
    assert_eq!((mode.old_mode, mode.mode), (Some(0o644), Some(0o755)));
}

#[test]
fn an_opaque_directory_deletes_what_it_does_not_hold_at_any_depth() {
    let f = Fixture::new(&[
        ("d/same", "1"),
        ("d/gone", "1"),
        ("d/sub/same", "1"),
        ("d/sub/gone", "1"),
        ("d/sub/deep/gone", "1"),
        ("other/kept", "1"),
    ]);
    f.jail("d/same", "1");
    f.jail("d/new", "1");
    // Below an opaque directory nothing carries the mark again.
    f.jail("d/sub/same", "1");
    f.jail("d/sub/deep/", "");
    f.jail("other/", "");
    if !f.opaque("d") {
        return;
    }
    let r = f.diff();
    assert_eq!(lines(&r.changes), ["A d/new", "D d/sub/deep/gone", "D d/sub/gone", "D d/gone"]);
}

#[test]
fn an_opaque_directory_hides_nothing_that_the_host_made_later() {
    let f = Fixture::new(&[("x", "1")]);
    // The kernel marks every directory that is made in a merged one, also where there was none.
    f.jail("target/out", "jail");
    if !f.opaque("target") {
        return;
    }
    f.host("target/host-file", "host");
    f.host("target/sub/host-file", "host");
    let r = f.diff();
    let expected: &[&str] = if at::stat_path(&f.base("x")).unwrap().btime.is_some() {
        &["A target/out"]
    } else {
        &["A target/out", "D target/host-file!", "D target/sub/!"]
    };
    assert_eq!(lines(&r.changes), expected, "never deleted without a conflict");
}

#[test]
fn what_changed_on_the_host_is_a_conflict_unless_both_agree() {
    let f = Fixture::new(&[
        ("both", "old"),
        ("agree", "old"),
        ("mtime-set-back", "old"),
        ("gone", "old"),
        ("dir/a", "1"),
        ("dir2/a", "1"),
        ("jail-only", "old"),
        ("gone-on-host", "old"),
    ]);
    for n in ["both", "agree", "mtime-set-back", "jail-only", "gone-on-host"] {
        f.jail(n, "new");
    }
    f.jail("new-on-both", "jail");
    let (whiteouts, old) = (f.whiteout("gone") && f.whiteout("dir") && f.whiteout("dir2"), "same length");
    f.host("both", "host");
    f.host("agree", "new");
    f.host("mtime-set-back", "abc");
    let file = std::fs::File::options().write(true).open(f.base("mtime-set-back")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    f.host("new-on-both", old);
    f.host("gone", "edited");
    f.host("dir/new-below", "1");
    std::fs::remove_file(f.base("gone-on-host")).unwrap();
    if !whiteouts {
        return;
    }
    assert_eq!(
        lines(&f.diff().changes),
        [
            "M both!",
            "D dir/!",
            "D dir2/",
            "D gone!",
            // By hand nothing is copied up, and no run has ended: see `gone`.
            "A gone-on-host",
            "M jail-only",
            "M mtime-set-back!",
            "M new-on-both!"
        ]
    );
}

#[test]
fn links_are_compared_as_links_and_never_followed() {
    let f = Fixture::new(&[("keep", "1")]);
    let secret = f.dir.path().join("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("inside"), b"secret").unwrap();
    symlink(&secret, f.upper("to-dir")).unwrap();
    symlink("/etc/passwd", f.upper("passwd")).unwrap();
    symlink("loop", f.upper("loop")).unwrap();
    symlink("../../x", f.upper("up")).unwrap();
    symlink("keep", f.upper("inner")).unwrap();
    let r = f.diff();
    assert_eq!(lines(&r.changes), ["A inner", "A loop", "A passwd", "A to-dir", "A up"]);
    let out: Vec<bool> = r.changes.iter().map(|c| c.leads_out).collect();
    assert_eq!(out, [false, false, true, true, true]);
}

#[test]
fn a_host_directory_swapped_for_a_link_is_not_followed() {
    let f = Fixture::new(&[("d/f", "old"), ("d/sub/g", "1")]);
    f.jail("d/f", "new");
    f.jail("d/sub/g", "2");
    let away = f.dir.path().join("away");
    std::fs::rename(f.base("d"), &away).unwrap();
    symlink(&away, f.base("d")).unwrap();
    let r = f.diff();
    assert_eq!(lines(&r.changes), ["T d/!", "A d/f!", "A d/sub/g!"]);
    assert_eq!(r.changes[1].conflict, Some(Conflict::Above));
}

#[test]
fn special_files_are_skipped_with_a_record_and_block_nothing() {
    let f = Fixture::new(&[]);
    nix::unistd::mkfifo(&f.upper("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(f.upper("socket")).unwrap();
    f.jail(".aj-apply-0123456789abcdef", "not ours");
    let r = f.diff();
    let skipped: Vec<_> = r.skipped.iter().map(|s| (s.path.as_slice(), s.reason.as_str())).collect();
    assert_eq!(
        skipped,
        [
            (&b".aj-apply-0123456789abcdef"[..], "has a name that `aj apply` uses itself"),
            (b"fifo", "fifo"),
            (b"socket", "socket"),
        ]
    );
    assert!(r.changes.is_empty());
}

#[test]
fn names_are_kept_byte_for_byte() {
    let f = Fixture::new(&[]);
    let names: [&[u8]; 5] = [b"esc\x1b[31m", b"invalid\xff\xfe", b"new\nline", b"-rf", &[b'n'; 255]];
    for n in names {
        std::fs::write(f.upper("").join(std::ffi::OsStr::from_bytes(n)), b"x").unwrap();
    }
    let mut got: Vec<_> = f.diff().changes.into_iter().map(|c| c.path).collect();
    let mut expected: Vec<_> = names.iter().map(|n| n.to_vec()).collect();
    expected.sort();
    assert!(got.is_sorted());
    got.sort();
    assert_eq!(got, expected);
}

#[test]
fn paths_restrict_the_comparison() {
    let f = Fixture::new(&[("a/x", "1"), ("ab/x", "1"), ("b", "1")]);
    for n in ["a/x", "a/y/z", "ab/x", "b"] {
        f.jail(n, "22");
    }
    let only = |paths: &[&str]| {
        let only = paths.iter().map(|p| p.as_bytes().to_vec()).collect();
        lines(&f.diff_with(&Options { only, ..f.options() }).changes)
    };
    assert_eq!(only(&["a"]), ["M a/x", "A a/y/z"]);
    assert_eq!(only(&["a/y"]), ["A a/y/z"]);
    assert_eq!(only(&["a/x", "b"]), ["M a/x", "M b"]);
    assert!(only(&["none"]).is_empty());
}

#[test]
fn files_hidden_from_the_jail_are_no_deletions() {
    let f = Fixture::new(&[(".env", "SECRET=1"), ("x", "1"), (".env.local", "SECRET=2")]);
    if !(f.whiteout(".env") && f.whiteout("x")) {
        return;
    }
    f.jail(".env.local", "the jail's");
    let hidden = Planted::whiteouts(&[b".env", b".env.local"]);
    let r = f.diff_with(&Options { hidden, ..f.options() });
    assert_eq!(lines(&r.changes), ["D x"]);
    assert_eq!(r.skipped.len(), 1);
}

#[test]
fn host_executed_files_are_marked_with_a_reason() {
    let f = Fixture::new(&[
        (".git/config", "[core]\n"),
        (".git/HEAD", "ref: refs/heads/main\n"),
        ("package.json", r#"{"version":"1","scripts":{"test":"a"}}"#),
        ("sub/package.json", r#"{"version":"1","scripts":{"test":"a"}}"#),
        ("bare/objects/x", "1"),
        ("bare/refs/x", "1"),
    ]);
    f.jail(".git/config", "[core]\n fsmonitor = evil\n");
    f.jail(".git/hooks/pre-commit", "#!/bin/sh\n");
    f.jail(".git/objects/ab/cd", "data");
    f.jail(".git/HEAD", "ref: refs/heads/other\n");
    f.jail("package.json", r#"{"version":"2","scripts":{"test":"a"}}"#);
    f.jail("sub/package.json", r#"{"version":"1","scripts":{"test":"evil"}}"#);
    f.jail("bare/HEAD", "ref: refs/heads/main\n");
    f.jail("bare/config", "[core]\n fsmonitor = evil\n");
    f.jail("bare/readme", "x");
    f.jail("nested/.git", "gitdir: ../bare\n");
    symlink("innocent", f.upper(".vscode")).unwrap();
    f.jail("src/main.rs", "fn main() {}");
    let r = f.diff();
    assert_eq!(
        lines(&r.changes),
        [
            "M .git/HEAD",
            "M .git/config*",
            "A .git/hooks/pre-commit*",
            "A .git/objects/ab/cd",
            "A .vscode*",
            "A bare/HEAD*",
            "A bare/config*",
            "A bare/readme*",
            "A nested/.git*",
            "M package.json",
            "A src/main.rs",
            "M sub/package.json*",
        ]
    );
    assert_eq!(r.totals.host_executed, 8);
}

#[test]
fn a_file_or_directory_without_permission_bits_is_compared_and_keeps_them() {
    use std::os::unix::fs::PermissionsExt;
    let f = Fixture::new(&[("f", "text"), ("d/x", "1")]);
    f.jail("f", "text");
    f.jail("d/x", "2");
    chmod(f.upper("f"), 0);
    chmod(f.upper("d"), 0);
    let r = f.diff();
    assert_eq!(lines(&r.changes), ["m d/", "M d/x", "m f"]);
    for n in ["f", "d"] {
        assert_eq!(std::fs::metadata(f.upper(n)).unwrap().permissions().mode() & 0o7777, 0, "{n}");
    }
    chmod(f.upper("d"), 0o700);
}

#[test]
fn ten_thousand_levels_and_huge_sparse_files_are_no_trouble() {
    let f = Fixture::in_memory(&[]);
    let big = std::fs::File::create(f.upper("big")).unwrap();
    let len = (1u64 << 43).min(if big.set_len(1 << 43).is_ok() { 1 << 43 } else { 1 << 30 });
    big.set_len(len).unwrap();
    std::fs::File::create(f.base("big")).unwrap().set_len(len).unwrap();
    let (upper, _) = f.fds();
    let mut trail = super::super::trail::Trail::new(upper, crate::sys::openat2::For::Passing).unwrap();
    for _ in 0..10_000 {
        crate::sys::at::make_dir(trail.top().unwrap(), b"d", 0o700).unwrap();
        trail.enter(b"d").unwrap();
    }
    drop(crate::sys::openat2::create(trail.top().unwrap(), b"leaf", 0o600).unwrap());
    drop(trail);
    let r = f.diff();
    assert_eq!(r.changes.len(), 1, "the equal sparse files are equal");
    assert_eq!(r.changes[0].path.len(), 2 * 10_000 + 4);
    // `TempDir` removes by path, which is too long here.
    let parent = std::fs::File::open(f.upper("")).unwrap();
    use std::os::fd::AsFd;
    super::super::remove::remove_tree(parent.as_fd(), b"d").unwrap();
}

#[test]
fn a_part_of_what_goes_as_a_whole_is_told_and_not_taken_for_unchanged() {
    let f = Fixture::new(&[("gone/a", "1"), ("gone/b", "1"), ("file/a", "1"), ("again/sub/a", "1")]);
    if !(f.whiteout("gone") && f.opaque("again")) {
        return;
    }
    f.jail("file", "x");
    let ask = |only: &str| {
        let r = f.diff_with(&Options { only: vec![only.as_bytes().to_vec()], ..f.options() });
        let skipped = r.skipped.iter().map(|s| String::from_utf8_lossy(&s.path).into_owned());
        (lines(&r.changes), skipped.collect::<Vec<_>>())
    };
    for (only, whole) in [("gone/a", "gone"), ("file/a", "file"), ("again/sub/a", "again/sub")] {
        assert_eq!(ask(only), (vec![], vec![whole.to_owned()]), "{only}");
        assert_eq!(ask(whole).0.len(), 1, "{whole}");
    }
    let r = f.apply_with(|c| c.options.only = vec![b"gone/a".to_vec()]);
    assert_eq!((r.applied.len(), f.read("gone/a"), f.read("gone/b")), (0, "1".into(), "1".into()));
}
