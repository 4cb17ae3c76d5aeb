//! What the plan says, as values.

use super::*;
use crate::base::id::{Id, Kind};
use crate::jail::spec::{Bind, Hidden, Owner, Storage};
use crate::policy::settings::{Mode, Seccomp};

fn spec() -> Spec {
    Spec {
        id: Id::random(Kind::Jail).unwrap(),
        hostname: "agentjail".into(),
        argv: vec!["true".into()],
        env: vec![("HOME".into(), "/home/agent".into())],
        search: vec!["/usr/bin".into(), "/bin".into()],
        cwd: "/home/me/p".into(),
        workspace: "/home/me/p".into(),
        at: "/home/me/p".into(),
        aliases: vec![],
        umask: 0o022,
        access: Access::Overlay,
        layers: Vec::new(),
        home: None,
        output: None,
        tree: Some("/state/trees/x".into()),
        storage: Storage::Disk,
        owner: Owner { uid: 5, gid: 5 },
        durable: false,
        sides: vec![],
        rooms: vec![],
        caches: vec![],
        binds: vec![],
        volumes: vec![],
        tools: vec![],
        hidden: vec![],
        devices: vec![],
        etc: "/state/cache/etc-0".into(),
        net: Net::None,
        seccomp: Seccomp::Standard,
        nested_userns: false,
        as_root: false,
        pids: None,
        nofile: None,
        inotify: None,
        tmp: 1 << 30,
        ids: Ids::Caller { owner: Owner { uid: 5, gid: 5 } },
        landlock_abi: 7,
        mode: Mode::Full,
        required: Default::default(),
        without: Default::default(),
    }
}

fn at(p: &Plan, at: &str) -> Vec<usize> {
    p.mounts.iter().enumerate().filter(|(_, m)| m.at.to_bytes() == at.as_bytes()).map(|(i, _)| i).collect()
}

#[test]
fn mount_points_have_their_parents_and_come_parents_first() {
    let mut s = spec();
    s.binds.push(Bind {
        path: "/srv/a/b.txt".into(),
        writable: false,
        directory: false,
        kind: BindKind::Plain,
    });
    let p = plan(&s, &HostRoot::default()).unwrap();
    let mut seen = BTreeSet::from([PathBuf::new()]);
    for d in &p.dirs {
        let d = Path::new(OsStr::from_bytes(d.to_bytes()));
        assert!(seen.contains(d.parent().unwrap()), "{d:?} before its parent");
        seen.insert(d.to_owned());
    }
    for f in &p.files {
        let f = Path::new(OsStr::from_bytes(f.to_bytes()));
        assert!(seen.contains(f.parent().unwrap()), "{f:?}");
    }
    assert!(seen.contains(Path::new("root/home/me/p")));
    assert!(p.files.contains(&c"root/srv/a/b.txt".to_owned()));
}

#[test]
fn a_workspace_below_tmp_or_home_is_made_where_it_will_be_seen() {
    for (at, made) in [
        ("/tmp/x/y", "tmp/x/y"),
        ("/var/tmp/x", "tmp/x"),
        ("/home/agent/w", "home/w"),
        ("/dev/shm/w", "shm/w"),
        ("/srv/code/main", "root/srv/code/main"),
    ] {
        let s = Spec { at: at.into(), workspace: at.into(), ..spec() };
        let p = plan(&s, &HostRoot::default()).unwrap();
        assert!(p.dirs.contains(&CString::new(made).unwrap()), "{at}: {:?}", p.dirs);
    }
}

#[test]
fn paths_of_the_jails_own_are_refused() {
    for bad in ["/", "/etc/x", "/proc", "/dev/x", "/bin", "/lib64/x"] {
        let s = Spec { at: bad.into(), ..spec() };
        assert!(matches!(plan(&s, &HostRoot::default()), Err(Error::Occupied { .. })), "{bad}");
    }
    for bad in ["relative", "/a/../b"] {
        let s = Spec { at: bad.into(), ..spec() };
        assert!(matches!(plan(&s, &HostRoot::default()), Err(Error::NotPlain(_))), "{bad}");
    }
}

#[test]
fn root_shows_host_directories_through_an_id_mapping_only() {
    let mut s = Spec { ids: Ids::Range, ..spec() };
    s.binds.push(Bind {
        path: "/root/tools".into(),
        writable: false,
        directory: true,
        kind: BindKind::Plain,
    });
    let p = plan(&s, &HostRoot::default()).unwrap();
    assert_eq!(p.mapped.len(), 2);
    let ws = at(&p, "home/me/p");
    assert!(matches!(&p.mounts[ws[0]].what, What::Overlay(o) if o.lower == Err(0)));
    assert!(matches!(p.mounts[at(&p, "root/tools")[0]].what, What::Mapped(1)));
}

#[test]
fn names_that_lead_to_the_workspace_are_links_unless_in_the_way() {
    let links = |s: &Spec| -> Vec<(String, String)> {
        let text = |c: &CString| c.to_str().unwrap().to_owned();
        let all = plan(s, &HostRoot::default()).unwrap().links;
        all.iter().map(|(t, at)| (text(at), text(t))).filter(|(_, t)| t.ends_with("/p")).collect()
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let named = |names: &[&str]| Spec {
        aliases: names.iter().map(|n| ((*n).into(), "/home/me/p".into())).collect(),
        ..spec()
    };
    let workspace = pair("root/workspace", "/home/me/p");
    let kept = links(&named(&["/data/link", "/tmp/x/link"]));
    let more = [pair("root/data/link", "/home/me/p"), pair("tmp/x/link", "/home/me/p")];
    assert_eq!((&kept[0], &kept[1..]), (&workspace, &more[..]));
    // Covered by a mount, a place of the jail's own, a directory, below another link.
    for name in ["/home/me/p/in", "/usr/src/p", "/etc/p", "/home/me", "/var/run/p", "/workspace/p", "/a/../p"]
    {
        assert_eq!(links(&named(&[name])), std::slice::from_ref(&workspace), "{name}");
    }
    // A workspace where `/workspace` would be.
    let s = Spec { at: "/workspace/p".into(), workspace: "/workspace/p".into(), ..spec() };
    assert_eq!(links(&s), []);
}

#[test]
fn a_mount_that_would_cover_a_place_of_the_jail_is_refused() {
    for (path, place) in
        [("/usr", "/usr"), ("/home", "/home/agent"), ("/var", "/var/tmp"), ("/proc/1", "/proc")]
    {
        let s = Spec { at: path.into(), workspace: path.into(), ..spec() };
        let e = plan(&s, &HostRoot::default()).unwrap_err();
        assert!(matches!(&e, Error::Occupied { owner, .. } if *owner == place), "{path}: {e}");
    }
}

#[test]
fn a_single_file_gets_the_rights_of_a_file() {
    let bind = |directory| Bind { path: "/data/x".into(), writable: true, directory, kind: BindKind::Plain };
    for (directory, right) in [(true, Right::Write), (false, Right::WriteFile)] {
        let s = Spec { binds: vec![bind(directory)], ..spec() };
        let p = plan(&s, &HostRoot::default()).unwrap();
        assert!(p.rules.contains(&(c"/data/x".to_owned(), right)), "{:?}", p.rules);
    }
}

#[test]
fn read_only_is_a_mount_attribute_and_not_a_landlock_rule_alone() {
    let s = Spec { access: Access::Ro, tree: None, ..spec() };
    let p = plan(&s, &HostRoot::default()).unwrap();
    let What::Bind { attr, resolved, .. } = &p.mounts[at(&p, "home/me/p")[0]].what else { panic!() };
    assert_eq!(attr.0 & Attr::RDONLY.0, Attr::RDONLY.0);
    assert!(resolved, "a link in its place would be followed");
    assert!(!p.rules.iter().any(|(path, r)| path.as_c_str() == c"/home/me/p" && *r == Right::Write));
    assert!(p.read_only.contains(&c"/home/me/p".to_owned()));
}

#[test]
fn a_read_only_directory_is_covered_at_once_unless_it_is_plain() {
    let bind = |kind, writable| Bind { path: "/data/x".into(), writable, directory: true, kind };
    let made = |s: &Spec, path: &str| -> Vec<bool> {
        let p = plan(s, &HostRoot::default()).unwrap();
        let veils: Vec<bool> = at(&p, path).iter().map(|i| p.mounts[*i].what == What::Veil).collect();
        assert_eq!(veils.contains(&true), p.dirs.contains(&EMPTY.to_owned()));
        veils
    };
    for ids in [Ids::Range, spec().ids] {
        let with = |kind, writable| Spec { binds: vec![bind(kind, writable)], ids, ..spec() };
        assert_eq!(made(&with(BindKind::Veiled, false), "data/x"), [false, true]);
        assert_eq!(made(&with(BindKind::Plain, false), "data/x"), [false]);
        assert_eq!(made(&with(BindKind::Plain, true), "data/x"), [false]);
        let s = Spec { access: Access::Ro, tree: None, ids, ..spec() };
        assert_eq!(made(&s, "home/me/p"), [false, true]);
    }
    // Whatever lies below comes later.
    let inner = Bind { path: "/data/x/in".into(), ..bind(BindKind::Plain, true) };
    let s = Spec { binds: vec![bind(BindKind::Veiled, false), inner], ..spec() };
    let p = plan(&s, &HostRoot::default()).unwrap();
    assert_eq!(at(&p, "data/x"), [at(&p, "data/x/in")[0] - 2, at(&p, "data/x/in")[0] - 1]);
}

#[test]
fn covered_files_come_last() {
    let covered =
        ["/home/me/p/a", "/data/x/b"].map(|p| Covered { path: p.into(), inode: 7, writable: false }).to_vec();
    let bind = Bind { path: "/data/x".into(), writable: true, directory: true, kind: BindKind::Plain };
    let s = Spec { access: Access::Rw, tree: None, binds: vec![bind], ..spec() };
    let mut p = plan(&s, &HostRoot::default()).unwrap();
    p.cover(&covered).unwrap();
    let last: Vec<_> = p.mounts.iter().rev().take(2).map(|m| (&m.what, m.at.as_c_str(), m.ours)).collect();
    let itself = What::Itself { inode: 7, writable: false };
    assert_eq!(last, [(&itself, c"data/x/b", false), (&itself, c"home/me/p/a", false)]);
}

#[test]
fn odd_bytes_pass_and_nul_is_named() {
    let odd = OsString::from_vec(vec![0xff, b'\n', 0x1b]);
    let s = Spec { argv: vec!["sh".into(), odd.clone()], ..spec() };
    assert_eq!(plan(&s, &HostRoot::default()).unwrap().argv[1].to_bytes(), odd.as_bytes());
    let s = Spec { argv: vec!["sh".into(), "a\0b".into()], ..spec() };
    assert!(matches!(plan(&s, &HostRoot::default()), Err(Error::Nul { .. })));
    let s = Spec { env: vec![("A=B".into(), "x".into())], ..spec() };
    assert!(matches!(plan(&s, &HostRoot::default()), Err(Error::Variable(_))));
}

#[test]
fn what_lies_beside_has_an_overlay_of_its_own_around_the_workspace_or_after_it() {
    let side = |path: &str| crate::jail::spec::Side {
        path: path.into(),
        layers: "/state/trees/x/side-git".into(),
        owner: Owner { uid: 7, gid: 7 },
    };
    for ids in [Ids::Range, Ids::Caller { owner: Owner { uid: 5, gid: 5 } }] {
        let s = Spec { sides: vec![side("/home/me"), side("/srv/git")], ids, ..spec() };
        let p = plan(&s, &HostRoot::default()).unwrap();
        let last = |path| *at(&p, path).last().unwrap();
        assert!(last("home/me") < last("home/me/p") && last("home/me/p") < last("srv/git"));
        for (path, tree) in
            [("home/me/p", c"/state/trees/x/upper"), ("srv/git", c"/state/trees/x/side-git/upper")]
        {
            let What::Overlay(o) = &p.mounts[last(path)].what else { panic!("{path}") };
            assert_eq!(o.upper.as_c_str(), tree);
            if ids == Ids::Range {
                let index = *o.lower.as_ref().unwrap_err();
                assert_eq!(p.mapped[index].source.to_bytes(), format!("/{path}").as_bytes());
                assert_eq!(p.mapped[index].owner.uid, if path == "srv/git" { 7 } else { 5 });
            }
            let rule = CString::new(format!("/{path}")).unwrap();
            assert!(p.rules.contains(&(rule, Right::Write)));
        }
    }
}

#[test]
fn caches_lie_in_rooms_of_the_jails_own_and_write_to_memory_or_to_the_tree() {
    let cache = |path: &str, memory| crate::jail::spec::Cache {
        side: crate::jail::spec::Side {
            path: path.into(),
            layers: "/state/trees/x/cache/c".into(),
            owner: Owner { uid: 5, gid: 5 },
        },
        memory,
        hidden: vec![
            Hidden { path: format!("{path}/key").into(), directory: false },
            Hidden { path: format!("{path}/keys").into(), directory: true },
        ],
    };
    for ids in [Ids::Range, Ids::Caller { owner: Owner { uid: 5, gid: 5 } }] {
        let caches = vec![cache("/home/me/.c/a", true), cache("/home/me/.c/b", false), cache("/usr/c", true)];
        let s = Spec { rooms: vec!["/home/me/.c".into()], caches, ids, ..spec() };
        let mut p = plan(&s, &HostRoot::default()).unwrap();
        let last = |p: &Plan, path: &str| *at(p, path).last().unwrap();
        let room = last(&p, "home/me/.c");
        assert_eq!(p.mounts[room].what, What::Scratch(c"root/home/me/.c".to_owned()));
        assert!(p.rules.contains(&(c"/home/me/.c".to_owned(), Right::Write)));
        for (n, path, upper, empty) in [
            (0, "home/me/.c/a", c"cache-0/upper", Some(c"root/home/me/.c/a")),
            (1, "home/me/.c/b", c"/state/trees/x/cache/c/upper", Some(c"root/home/me/.c/b")),
            (2, "usr/c", c"cache-2/upper", None),
        ] {
            assert!(room < last(&p, path) && last(&p, path) < last(&p, "home/me/p"), "{path}");
            let What::Overlay(o) = &p.mounts[last(&p, path)].what else { panic!("{path}") };
            assert_eq!((o.upper.as_c_str(), o.memory), (upper, n != 1), "{path}");
            let otherwise = o.otherwise.as_ref().unwrap();
            assert_eq!((otherwise.number, otherwise.empty.as_deref()), (n, empty), "{path}");
            let hide: Vec<_> = otherwise.hide.iter().map(|h| (h.at.to_str().unwrap(), h.writable)).collect();
            assert_eq!(hide, [(&*format!("{path}/key"), false), (&*format!("{path}/keys"), true)]);
            assert!(otherwise.hide.iter().all(|h| p.dirs.contains(&h.with) || p.files.contains(&h.with)));
        }
        if ids == Ids::Range {
            // What the launcher could not map is an empty directory, or what `/usr` shows there.
            let lower = |path: &str| {
                let What::Overlay(o) = &p.mounts[last(&p, path)].what else { panic!("{path}") };
                *o.lower.as_ref().unwrap_err()
            };
            let unmapped = [lower("home/me/.c/a"), lower("usr/c")];
            assert_eq!(p.leave_out(&unmapped), 0b101);
            let what = |path: &str| at(&p, path).iter().map(|i| &p.mounts[*i].what).collect::<Vec<_>>();
            assert_eq!(what("home/me/.c/a"), [&What::Scratch(c"root/home/me/.c/a".to_owned())]);
            assert_eq!(what("home/me/.c/b").len(), 1);
            assert_eq!(what("usr/c").len(), 0);
        }
    }
}
