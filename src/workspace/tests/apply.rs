use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};

use super::{Fixture, chmod, lines};

#[test]
fn everything_comes_back_and_a_second_apply_has_nothing_to_do() {
    let f = Fixture::new(&[
        ("content", "old"),
        ("mode", "text"),
        ("to-link", "text"),
        ("to-dir", "text"),
        ("dir-to-file/a/b", "1"),
        ("gone", "x"),
        ("gone-dir/a/b", "1"),
        ("untouched", "x"),
        ("opaque/gone", "1"),
        ("opaque/same", "1"),
    ]);
    f.jail("content", "new and longer");
    f.jail("mode", "text");
    chmod(f.upper("mode"), 0o751);
    symlink("/nowhere", f.upper("to-link")).unwrap();
    f.jail("to-dir/x", "1");
    f.jail("dir-to-file", "file");
    f.jail("new-dir/deep/file", "1");
    chmod(f.upper("new-dir/deep"), 0o500);
    f.jail("new-empty/", "");
    f.jail("opaque/same", "1");
    if !(f.whiteout("gone") && f.whiteout("gone-dir") && f.opaque("opaque")) {
        return;
    }
    let inode = std::fs::metadata(f.base("mode")).unwrap().ino();
    let r = f.apply();
    assert!(r.performed && !r.stopped, "{r:?}");
    assert_eq!((&r.failed, &r.conflicts, &r.withheld), (&vec![], &vec![], &vec![]));
    assert_eq!(
        f.listing(),
        [
            "content",
            "dir-to-file",
            "mode",
            "new-dir",
            "new-dir/deep",
            "new-dir/deep/file",
            "new-empty",
            "opaque",
            "opaque/same",
            "to-dir",
            "to-dir/x",
            "to-link",
            "untouched"
        ]
    );
    assert_eq!(f.read("content"), "new and longer");
    assert_eq!(f.read("dir-to-file"), "file");
    assert_eq!(f.mode("mode"), 0o751);
    assert_eq!(std::fs::metadata(f.base("mode")).unwrap().ino(), inode, "a mode changes in place");
    assert_eq!(f.mode("new-dir/deep"), 0o500);
    assert_eq!(std::fs::read_link(f.base("to-link")).unwrap().to_str(), Some("/nowhere"));
    assert_eq!(
        std::fs::metadata(f.base("content")).unwrap().modified().unwrap(),
        std::fs::metadata(f.upper("content")).unwrap().modified().unwrap()
    );
    let again = f.apply();
    assert_eq!((again.applied, again.conflicts, again.failed), (vec![], vec![], vec![]));
    for d in ["base", "upper"] {
        chmod(f.dir.path().join(d).join("new-dir/deep"), 0o700);
    }
}

#[test]
fn a_dry_run_tells_the_same_and_writes_nothing() {
    let f = Fixture::new(&[("a", "old")]);
    f.jail("a", "new");
    f.jail("b", "new");
    f.jail(".envrc", "evil");
    let dry = f.apply_with(|c| c.dry_run = true);
    assert!(!dry.performed);
    assert_eq!((f.read("a"), f.listing()), ("old".into(), vec!["a".to_owned()]));
    let wet = f.apply();
    assert_eq!(dry.applied, wet.applied);
    assert_eq!(dry.withheld, wet.withheld);
    assert_eq!(dry.totals, wet.totals);
}

#[test]
fn a_conflict_stops_everything_unless_part_was_asked_for() {
    let f = Fixture::new(&[("both", "old"), ("mine", "old"), ("dir/a", "1")]);
    f.jail("both", "jail");
    f.jail("mine", "jail");
    f.host("both", "host");
    for dry_run in [true, false] {
        let r = f.apply_with(|c| c.dry_run = dry_run);
        assert!(!r.performed);
        assert_eq!(lines(&r.conflicts), ["M both!"]);
        assert_eq!(
            (lines(&r.applied), r.totals.changes(), r.totals.bytes),
            (vec![], 0, 0),
            "nothing is done"
        );
    }
    assert_eq!((f.read("both"), f.read("mine")), ("host".into(), "old".into()));
    let r = f.apply_with(|c| c.partial = true);
    assert!(r.performed);
    assert_eq!((f.read("both"), f.read("mine")), ("host".into(), "jail".into()));
    let r = f.apply_with(|c| c.overwrite = true);
    assert_eq!(lines(&r.applied), ["M both!"]);
    assert_eq!(f.read("both"), "jail");
}

#[test]
fn a_deletion_never_takes_what_the_host_changed() {
    let f = Fixture::new(&[("gone", "old"), ("dir/a", "1"), ("dir/b/c", "1"), ("fine/a", "1")]);
    if !(f.whiteout("gone") && f.whiteout("dir") && f.whiteout("fine")) {
        return;
    }
    f.host("gone", "work of an hour");
    f.host("dir/b/c", "work of a day");
    let r = f.apply_with(|c| c.partial = true);
    assert_eq!(lines(&r.conflicts), ["D dir/!", "D gone!"]);
    assert_eq!(f.listing(), ["dir", "dir/a", "dir/b", "dir/b/c", "gone"]);
    f.apply_with(|c| c.overwrite = true);
    assert!(f.listing().is_empty());
}

#[test]
fn planted_hooks_and_configuration_wait_for_the_users_word() {
    let f =
        Fixture::new(&[(".git/config", "safe"), (".git/HEAD", "1"), ("wt/.git", "gitdir: x"), ("a", "1")]);
    f.jail(".git/config", "evil");
    f.jail(".git/hooks/pre-commit", "evil");
    f.jail(".git/HEAD", "2");
    f.jail(".husky/pre-push", "evil");
    f.jail("wt/.git/config", "evil");
    f.jail("wt/.git/HEAD", "1");
    f.jail("a", "2");
    symlink("../evil", f.upper(".vscode")).unwrap();
    let r = f.apply();
    assert!(r.performed);
    assert_eq!(lines(&r.applied), ["M .git/HEAD", "M a"]);
    assert_eq!(
        lines(&r.withheld),
        [
            "M .git/config*",
            "A .git/hooks/pre-commit*",
            "A .husky/pre-push*",
            "A .vscode*",
            "T wt/.git/*",
            "A wt/.git/HEAD*",
            "A wt/.git/config*"
        ]
    );
    assert_eq!(f.listing(), [".git", ".git/HEAD", ".git/config", "a", "wt", "wt/.git"]);
    assert_eq!((f.read(".git/config"), f.read("wt/.git")), ("safe".into(), "gitdir: x".into()));
    let r = f.apply_with(|c| c.allow_exec_files = true);
    assert_eq!(r.applied.len(), 7);
    assert_eq!(f.read(".git/hooks/pre-commit"), "evil");
}

#[test]
fn nothing_is_written_through_a_link_on_the_host() {
    let f = Fixture::new(&[("d/f", "old"), ("d2/g", "old"), ("l", "old")]);
    let away = f.dir.path().join("away");
    std::fs::create_dir(&away).unwrap();
    std::fs::write(away.join("f"), b"victim").unwrap();
    std::fs::write(away.join("v"), b"victim").unwrap();
    f.jail("d/f", "new");
    f.jail("d/new", "new");
    f.jail("d2/g", "new");
    f.jail("l", "new");
    std::fs::remove_dir_all(f.base("d")).unwrap();
    symlink(&away, f.base("d")).unwrap();
    std::fs::remove_file(f.base("l")).unwrap();
    symlink(away.join("v"), f.base("l")).unwrap();
    let r = f.apply_with(|c| c.partial = true);
    assert_eq!(lines(&r.applied), ["M d2/g"]);
    assert_eq!(lines(&r.conflicts), ["T d/!", "A d/f!", "A d/new!", "T l!"]);
    // The user's word replaces the links themselves; what they point at stays.
    f.apply_with(|c| c.overwrite = true);
    assert_eq!((f.read("d/f"), f.read("l")), ("new".into(), "new".into()));
    assert!(std::fs::symlink_metadata(f.base("d")).unwrap().is_dir());
    assert_eq!(std::fs::read(away.join("f")).unwrap(), b"victim");
    assert_eq!(std::fs::read(away.join("v")).unwrap(), b"victim");
    assert_eq!(std::fs::read_dir(&away).unwrap().count(), 2);
}

#[test]
fn links_of_the_jail_arrive_as_links() {
    let f = Fixture::new(&[("x", "old")]);
    let victim = f.dir.path().join("victim");
    std::fs::write(&victim, b"victim").unwrap();
    symlink(&victim, f.upper("x")).unwrap();
    f.apply();
    assert!(std::fs::symlink_metadata(f.base("x")).unwrap().is_symlink());
    assert_eq!(std::fs::read(&victim).unwrap(), b"victim");
}

#[test]
fn setuid_sticky_and_attributes_stay_behind() {
    let f = Fixture::new(&[("old", "text")]);
    chmod(f.base("old"), 0o4755);
    let mut f = f;
    f.start();
    f.jail("new", "x");
    f.jail("old", "more text");
    f.jail("dir/x", "1");
    chmod(f.upper("new"), 0o6755);
    chmod(f.upper("old"), 0o4755);
    chmod(f.upper("dir"), 0o1777);
    let file = std::fs::File::open(f.upper("new")).unwrap();
    let attribute = crate::sys::xattr::set(file, c"user.evil", b"1");
    let r = f.apply();
    assert!(r.applied.iter().any(|c| c.path == b"new" && c.special_bits));
    assert_eq!((f.mode("new"), f.mode("old"), f.mode("dir")), (0o755, 0o755, 0o777));
    if attribute.is_ok() {
        let file = std::fs::File::open(f.base("new")).unwrap();
        assert_eq!(crate::sys::xattr::get(file, c"user.evil").unwrap(), None);
    }
}

#[test]
fn sparse_files_stay_sparse_and_hard_links_become_files() {
    let f = Fixture::new(&[]);
    std::fs::File::create(f.upper("sparse")).unwrap().set_len(1 << 36).unwrap();
    f.jail("a", "text");
    std::fs::hard_link(f.upper("a"), f.upper("b")).unwrap();
    let r = f.apply();
    assert!(r.failed.is_empty(), "{:?}", r.failed);
    let m = std::fs::metadata(f.base("sparse")).unwrap();
    assert_eq!(m.len(), 1 << 36);
    assert!(m.blocks() < 1024);
    assert_eq!(std::fs::metadata(f.base("a")).unwrap().nlink(), 1);
    assert_eq!(f.read("b"), "text");
    assert!(r.applied.iter().filter(|c| c.hard_links).count() == 2);
}

#[test]
fn hard_links_of_the_host_are_no_conflict_with_each_other() {
    let f = Fixture::new(&[("a", "old")]);
    std::fs::hard_link(f.base("a"), f.base("b")).unwrap();
    std::fs::hard_link(f.base("a"), f.dir.path().join("outside")).unwrap();
    let mut f = f;
    f.start();
    f.jail("a", "new a");
    f.jail("b", "new b");
    let r = f.apply();
    assert_eq!(r.conflicts, vec![]);
    assert_eq!((f.read("a"), f.read("b")), ("new a".into(), "new b".into()));
    assert_eq!(std::fs::read(f.dir.path().join("outside")).unwrap(), b"old", "other names keep the content");
}

#[test]
fn leftovers_of_a_killed_apply_go_and_other_names_stay() {
    let f = Fixture::new(&[
        ("d/f", "old"),
        ("d/.aj-apply-0123456789abcdef", "half"),
        ("d/.aj-apply-fedcba9876543210/x/y", "half"),
        ("d/.aj-apply-note", "the user's own"),
        ("other/.aj-apply-0123456789abcdef", "not on the way"),
    ]);
    f.jail("d/f", "new");
    if !f.opaque("d") {
        return;
    }
    f.jail("d/.aj-apply-note", "the user's own");
    let r = f.apply();
    assert_eq!(r.cleaned, 2);
    assert_eq!(f.listing(), ["d", "d/.aj-apply-note", "d/f", "other", "other/.aj-apply-0123456789abcdef"]);
}

/// As an ordinary user, of whom this thread has the rights, with somebody else's directory in the user's.
#[test]
fn a_directory_that_cannot_be_removed_whole_keeps_its_name() {
    if !crate::sys::at::is_root() {
        return eprintln!("SKIP: needs directories of another owner, which only root can make");
    }
    let user = nix::unistd::Uid::from_raw(65534);
    // Found out before anything is touched, or on the way only: in a sticky directory anybody may make files.
    for (mode, found_out, replaced) in
        [(0o755, true, false), (0o755, true, true), (0o1777, false, false), (0o1777, false, true)]
    {
        let f = Fixture::new(&[("gone/own/f", "1"), ("gone/theirs/k", "1")]);
        for name in ["", "gone", "gone/own", "gone/own/f"] {
            nix::unistd::chown(&f.base(name), Some(user), None).unwrap();
        }
        nix::unistd::chown(&f.base("gone/theirs"), Some(nix::unistd::Uid::from_raw(12345)), None).unwrap();
        chmod(f.base("gone/theirs"), mode);
        if replaced {
            f.jail("gone", "file");
        } else if !f.whiteout("gone") {
            return;
        }
        let mut f = f;
        f.start();
        let (upper, base) = f.fds();
        let choice = super::super::apply::Choice { options: f.options(), ..Default::default() };
        let r = std::thread::scope(|scope| {
            let apply = || {
                nix::unistd::setfsuid(user);
                super::super::apply::apply(upper, base, &choice, &crate::monitor::Silent).unwrap()
            };
            scope.spawn(apply).join().unwrap()
        });
        let failed: Vec<&[u8]> = r.failed.iter().map(|failure| failure.path.as_slice()).collect();
        assert_eq!((failed, r.totals.changes()), (vec![&b"gone"[..]], 0), "{mode:o} {replaced}: {r:?}");
        let wanted: &[&str] = match found_out {
            true => &["gone", "gone/own", "gone/own/f", "gone/theirs", "gone/theirs/k"],
            false => &["gone", "gone/theirs", "gone/theirs/k"],
        };
        assert_eq!(f.listing(), wanted, "{mode:o} {replaced}: {r:?}");
    }
}

#[test]
fn paths_restrict_and_make_only_the_directories_they_need() {
    let f = Fixture::new(&[("a", "1")]);
    for n in ["x/y/z", "x/w", "a"] {
        f.jail(n, "22");
    }
    f.apply_with(|c| c.options.only = vec![b"x/y".to_vec()]);
    assert_eq!(f.listing(), ["a", "x", "x/y", "x/y/z"]);
    assert_eq!(f.read("a"), "1");
}

#[test]
fn odd_names_arrive_byte_for_byte() {
    let f = Fixture::new(&[]);
    let names: [&[u8]; 4] = [b"\x1b]0;title\x07", b"\xff\xfe", b"a\nb", b"--"];
    for n in names {
        std::fs::write(f.upper("").join(std::ffi::OsStr::from_bytes(n)), n).unwrap();
    }
    f.apply();
    for n in names {
        assert_eq!(std::fs::read(f.base("").join(std::ffi::OsStr::from_bytes(n))).unwrap(), n);
    }
}

#[test]
fn only_one_apply_at_a_time_works_on_a_directory() {
    let f = Fixture::new(&[]);
    let (upper, base) = f.fds();
    let (_, other) = f.fds();
    crate::sys::at::lock(&other).unwrap();
    let choice = super::super::apply::Choice { options: f.options(), ..Default::default() };
    let r = super::super::apply::apply(upper, base, &choice, &crate::monitor::Silent);
    assert!(matches!(r, Err(super::super::apply::Error::Busy)));
}

#[test]
fn a_full_disk_stops_and_leaves_nothing_half_written() {
    let small = tempfile::tempdir().unwrap();
    if !super::mount_privately(small.path(), "size=1m") {
        return;
    }
    let f = Fixture::new(&[]);
    std::fs::write(f.upper("a-small"), b"x").unwrap();
    std::fs::write(f.upper("b-large"), vec![7u8; 3 << 20]).unwrap();
    std::fs::write(f.upper("c-small"), b"x").unwrap();
    let (upper, _) = f.fds();
    let open = || {
        crate::sys::openat2::absolute(small.path().as_os_str().as_bytes(), crate::sys::openat2::For::Listing)
            .unwrap()
    };
    let choice = super::super::apply::Choice { options: f.options(), ..Default::default() };
    let early = super::super::apply::apply(upper, open(), &choice, &crate::monitor::Silent);
    let early = matches!(early, Err(super::super::apply::Error::NoSpace { needed, .. }) if needed >= 3 << 20);
    let nothing = std::fs::read_dir(small.path()).unwrap().count();
    // The same when space runs out on the way.
    let place = std::fs::File::open(small.path()).unwrap();
    let content = std::fs::File::open(f.upper("b-large")).unwrap();
    let meta = crate::sys::at::fstat(&content).unwrap();
    use std::os::fd::AsFd;
    let place = super::super::put::Place { dir: place.as_fd(), name: b"b-large", old: None };
    let late = super::super::put::file(&place, super::super::put::Content::File(content.into()), &meta);
    let late =
        matches!(late, Err(super::super::put::Refused::Failed(e)) if e.errno == nix::errno::Errno::ENOSPC);
    let still_nothing = std::fs::read_dir(small.path()).unwrap().count();
    nix::mount::umount2(small.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    assert!(early && late);
    assert_eq!((nothing, still_nothing), (0, 0));
}

#[test]
fn as_root_the_owner_of_the_directory_gets_what_comes_back() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP: not root");
        return;
    }
    use std::os::unix::fs::{chown, lchown};
    let f = Fixture::new(&[("theirs/old", "old"), ("mixed/old", "old")]);
    chown(f.base("theirs"), Some(1234), Some(2345)).unwrap();
    chown(f.base("theirs/old"), Some(1111), Some(2222)).unwrap();
    let mut f = f;
    f.start();
    f.jail("theirs/old", "new");
    f.jail("theirs/new", "new");
    f.jail("theirs/dir/file", "new");
    symlink("x", f.upper("theirs/link")).unwrap();
    for n in ["theirs", "theirs/old", "theirs/new", "theirs/dir", "theirs/dir/file", "theirs/link"] {
        lchown(f.upper(n), Some(1_001_000), Some(1_001_000)).unwrap();
    }
    let r = f.apply();
    assert!(r.failed.is_empty(), "{:?}", r.failed);
    let ids = |n: &str| {
        let m = std::fs::symlink_metadata(f.base(n)).unwrap();
        (m.uid(), m.gid())
    };
    assert_eq!(ids("theirs/old"), (1111, 2222));
    for n in ["theirs/new", "theirs/dir", "theirs/dir/file", "theirs/link"] {
        assert_eq!(ids(n), (1234, 2345), "{n}");
    }
}

#[test]
fn a_mount_point_on_the_way_is_left_alone() {
    let f = Fixture::new(&[("m/sub/x", "1"), ("gone/m/x", "1")]);
    if !(super::mount_privately(&f.base("m/sub"), "") && super::mount_privately(&f.base("gone/m"), "")) {
        return;
    }
    f.jail("m/sub/x", "2");
    let made = f.whiteout("gone");
    let r = f.apply_with(|c| {
        c.partial = true;
        c.overwrite = true;
    });
    for n in ["m/sub", "gone/m"] {
        assert!(std::fs::read_dir(f.base(n)).unwrap().next().is_none(), "{n}");
        nix::mount::umount(&f.base(n)).unwrap();
    }
    assert!(r.applied.is_empty(), "{:?}", lines(&r.applied));
    assert_eq!((f.read("m/sub/x"), f.read("gone/m/x")), ("1".into(), "1".into()));
    if made {
        assert_eq!(lines(&r.conflicts), ["D gone/!", "m m/sub/!", "A m/sub/x!"]);
    }
}

#[test]
fn five_thousand_levels_are_applied() {
    let f = Fixture::in_memory(&[]);
    let (upper, base) = f.fds();
    let mut trail = super::super::trail::Trail::new(upper, crate::sys::openat2::For::Passing).unwrap();
    for _ in 0..5_000 {
        crate::sys::at::make_dir(trail.top().unwrap(), b"d", 0o700).unwrap();
        trail.enter(b"d").unwrap();
    }
    drop(crate::sys::openat2::create(trail.top().unwrap(), b"leaf", 0o600).unwrap());
    drop(trail);
    let r = f.apply();
    assert_eq!((r.applied.len(), r.failed.len()), (1, 0));
    use std::os::fd::AsFd;
    let (upper, _) = f.fds();
    super::super::remove::remove_tree(upper.as_fd(), b"d").unwrap();
    super::super::remove::remove_tree(base.as_fd(), b"d").unwrap();
}

/// Sees to it, after every change that an apply makes, that what git names is there.
struct Whole<'a>(&'a Fixture, std::cell::Cell<u32>);

impl crate::monitor::Monitor for Whole<'_> {
    fn step(&self, _n: u64) {
        self.1.set(self.1.get() + 1);
        let read = |name: &str| std::fs::read_to_string(self.0.base(name)).unwrap_or_default();
        for (git, name) in [
            (".git", "refs/heads/main"),
            (".git", "HEAD"),
            (".git", "index"),
            (".git/modules/m", "HEAD"),
            ("sub", "refs/heads/x"),
        ] {
            let id = read(&format!("{git}/{name}"));
            let loose = self.0.base(&format!("{git}/objects/{id}")).exists();
            let packed = read(&format!("{git}/objects/pack/p.pack")).contains(&id);
            assert!(id.is_empty() || loose || packed, "{git}/{name} names {id:?}, which is not there");
        }
    }
}

#[test]
fn an_interrupted_apply_never_leaves_a_name_of_an_object_that_is_not_there() {
    const ZZ: &str = "0123456789012345678901234567890123456789";
    const AA: &str = "abcdefabcdefabcdefabcdefabcdefabcdefabcd";
    let [m_zz, m_aa] = [ZZ, AA].map(|id| format!(".git/modules/m/objects/{id}"));
    let f = Fixture::new(&[
        (".git/HEAD", "old"),
        (".git/index", "old"),
        (".git/objects/old", "1"),
        (".git/objects/zz", "1"),
        (".git/refs/heads/main", "old"),
        (".git/modules/m/HEAD", ZZ),
        (&m_zz, "1"),
        (".git/modules/m/refs/x", "1"),
        ("sub/HEAD", "ref: refs/heads/x"),
        ("sub/objects/old", "x"),
        ("sub/refs/heads/x", "old"),
    ]);
    // Everything moves on, and what is named no more, or in a pack now, is gone.
    for (name, text) in [
        (".git/HEAD", "new"),
        (".git/index", "packed"),
        (".git/refs/heads/main", "new"),
        (".git/objects/new", "1"),
        (".git/objects/pack/p.pack", "packed"),
        (".git/modules/m/HEAD", AA),
        (&m_aa, "1"),
        ("sub/refs/heads/x", "packed"),
        ("sub/objects/pack/p.pack", "packed"),
    ] {
        f.jail(name, text);
    }
    let gone = [".git/objects/old", ".git/objects/zz", &m_zz, "sub/objects/old"];
    if !gone.iter().all(|name| f.whiteout(name)) {
        return;
    }
    let seen = Whole(&f, std::cell::Cell::new(0));
    let r = f.apply_watched(&seen);
    assert_eq!((&r.failed, &r.conflicts, &r.withheld), (&vec![], &vec![], &vec![]), "{r:#?}");
    assert_eq!(seen.1.get(), 2 * 13, "every change, when it was compared and when it was made");
    assert_eq!(r.totals.changes(), 13);
    let paths: Vec<_> = r.applied.iter().map(|c| c.path.clone()).collect();
    assert!(paths.is_sorted(), "told in order all the same: {paths:?}");
    assert!(f.diff().changes.is_empty());
}

#[test]
fn a_new_object_that_cannot_be_put_there_stops_what_would_name_it() {
    if nix::unistd::geteuid().is_root() {
        eprintln!("SKIP: root may write everywhere");
        return;
    }
    let f = Fixture::new(&[(".git/objects/x", "1"), (".git/refs/heads/main", "old")]);
    f.jail(".git/objects/new", "1");
    f.jail(".git/refs/heads/main", "new");
    // The host's directory is closed meanwhile: a conflict, which stops all, or a failure to write.
    chmod(f.base(".git/objects"), 0o500);
    let r = f.apply();
    chmod(f.base(".git/objects"), 0o700);
    assert!(r.conflicts.len() + r.failed.len() > 0 && r.applied.is_empty(), "{r:#?}");
    assert_eq!(std::fs::read_to_string(f.base(".git/refs/heads/main")).unwrap(), "old");
}

/// Build tools compare times: cargo's mark of a build is a file that never holds anything else.
#[test]
fn the_same_bytes_written_again_bring_their_time_and_are_no_change() {
    let mut f = Fixture::new(&[("mark", "same"), ("older", "same"), ("twin", "same"), ("x", "old")]);
    std::fs::hard_link(f.base("twin"), f.base("twin2")).unwrap();
    f.start();
    f.jail("x", "new");
    for name in ["mark", "older", "twin", "twin2", "raced"] {
        f.jail(name, "same");
    }
    let time = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().modified().unwrap();
    let past = time(f.base("older")) - std::time::Duration::from_secs(100);
    std::fs::File::options().write(true).open(f.upper("older")).unwrap().set_modified(past).unwrap();
    f.host("raced", "same");
    let host = ["older", "raced"].map(|name| time(f.base(name)));
    let twin = time(f.base("twin"));
    let ahead = host[1] + std::time::Duration::from_secs(100);
    std::fs::File::options().write(true).open(f.upper("raced")).unwrap().set_modified(ahead).unwrap();
    let marked = time(f.base("mark"));
    assert!(f.apply_with(|c| c.dry_run = true).conflicts.is_empty());
    assert_eq!(time(f.base("mark")), marked, "a dry run");
    let r = f.apply();
    assert_eq!((r.applied.len(), r.totals.changes(), r.conflicts.len()), (1, 1, 0), "{r:?}");
    assert_eq!(time(f.base("mark")), time(f.upper("mark")));
    let mark = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(f.base("mark")).unwrap());
    assert!(r.put.iter().any(|(ino, _)| *ino == mark), "or the next run's changes of it would be a conflict");
    assert_eq!(time(f.base("twin")), twin, "the other name may be anywhere");
    assert_eq!(["older", "raced"].map(|name| time(f.base(name))), host, "never back, nor over the host's");
    assert_eq!((f.read("mark"), f.read("x")), ("same".into(), "new".into()));
}
