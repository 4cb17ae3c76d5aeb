//! What the command sees of files: a root of its own and nothing beside the list.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::probe::{Ground, is_root, run, skip, teeth};

/// One line of `/proc/self/mountinfo`.
#[derive(Debug)]
struct Mount {
    root: String,
    at: String,
    flags: String,
    kind: String,
}

fn mounts(ground: &Ground, flags: &[&str]) -> Vec<Mount> {
    let said = run(&mut ground.aj(flags, ["cat", "/proc/self/mountinfo"]));
    assert_eq!(said.code, Some(0), "{said:?}");
    let parse = |line: &str| {
        let (left, right) = line.split_once(" - ").unwrap();
        let left: Vec<&str> = left.split(' ').collect();
        Mount {
            root: left[3].to_owned(),
            at: left[4].to_owned(),
            flags: left[5].to_owned(),
            kind: right.split(' ').next().unwrap().to_owned(),
        }
    };
    said.stdout.lines().map(parse).collect()
}

/// Every mount there may be, with the flags it must have; nothing of the host beside them.
#[test]
fn the_mounts_are_exactly_the_list() {
    let Some(ground) = Ground::new() else { return };
    let ws = ground.ws.to_str().unwrap();
    let extra = ground.path("extra");
    std::fs::create_dir(&extra).unwrap();
    for (access, writable) in [(None, true), (Some("--rw"), true), (Some("--ro"), false)] {
        let flags: Vec<&str> = match access {
            Some("--ro") => vec!["--ro"],
            Some(flag) => vec![flag],
            None => vec!["--ro", &extra],
        };
        let found = mounts(&ground, &flags);
        let mut wanted: BTreeMap<&str, &[&str]> = BTreeMap::from([
            ("/", &["ro", "nosuid", "nodev"][..]),
            ("/usr", &["ro", "nosuid", "nodev"]),
            ("/etc", &["ro", "nosuid", "nodev"]),
            ("/proc", &["rw", "nosuid", "nodev", "noexec"]),
            ("/proc/kallsyms", &["ro", "nosuid", "noexec"]),
            ("/proc/keys", &["ro", "nosuid", "noexec"]),
            ("/dev/pts", &["rw", "nosuid", "noexec"]),
            ("/tmp", &["rw", "nosuid", "nodev"]),
            ("/var/tmp", &["rw", "nosuid", "nodev"]),
            ("/home/agent", &["rw", "nosuid", "nodev"]),
            ("/dev/shm", &["rw", "nosuid", "nodev"]),
        ]);
        for node in ["null", "zero", "full", "random", "urandom", "tty"] {
            wanted.insert(format!("/dev/{node}").leak(), &["ro", "nosuid", "noexec"]);
        }
        for dir in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
            let path = Path::new("/").join(dir);
            if path.is_dir() && !path.is_symlink() {
                wanted.insert(format!("/{dir}").leak(), &["ro", "nosuid", "nodev"]);
            }
        }
        let at_ws: &[&str] = if writable { &["rw", "nosuid", "nodev"] } else { &["ro", "nosuid", "nodev"] };
        wanted.insert(ws, at_ws);
        if access.is_none() {
            wanted.insert(&extra, &["ro", "nosuid", "nodev"]);
        }
        let mut seen = BTreeSet::new();
        for m in &found {
            let flags: Vec<&str> = m.flags.split(',').collect();
            let must = wanted.get(m.at.as_str()).unwrap_or_else(|| panic!("`{}` is mounted", m.at));
            // Under root's overlay lies its own lower layer, read-only, where nothing reaches it.
            let covered = m.at == ws && access.is_none() && m.kind != "overlay";
            assert!(covered || must.iter().all(|f| flags.contains(f)), "{}: {flags:?}", m.at);
            assert!(!covered || is_root() && flags.contains(&"ro"), "{}: {flags:?}", m.at);
            // The root of a file system of the host is never what a mount shows.
            let own = ["proc", "devpts", "overlay"].contains(&m.kind.as_str());
            assert!(
                own || m.root != "/"
                    || crate::probe::text("/proc/self/mountinfo").is_some_and(|t| {
                        // … unless that is a mount point of the same name, `/usr` on a partition of its own.
                        t.lines().any(|l| l.split(' ').nth(4) == Some(m.at.as_str()))
                    }),
                "{} shows the root of a file system",
                m.at
            );
            seen.insert(m.at.as_str());
        }
        let missing: Vec<_> = wanted.keys().filter(|w| !seen.contains(**w)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        let root = found.iter().find(|m| m.at == "/").unwrap();
        // Of the jail's own tmpfs, or made by an earlier run.
        let ready = root.root.contains("/cache/root-");
        assert!(ready || (root.kind.as_str(), root.root.as_str()) == ("tmpfs", "/root"), "{root:?}");
    }
}

#[test]
fn nothing_but_the_writable_places_can_be_written() {
    let Some(ground) = Ground::new() else { return };
    let script = r#"for d in / /usr /usr/bin /etc /dev /run /opt /var /home /proc /proc/self /dev/pts; do
        touch $d/probe 2>/dev/null && echo "wrote $d"; mkdir $d/probe-d 2>/dev/null && echo "made $d"; done
        for d in . /tmp /var/tmp /home/agent /dev/shm /workspace; do
        touch $d/probe || echo "not $d"; done; echo end"#;
    for flags in [&[][..], &["--as-root"]] {
        let said = run(&mut ground.aj(flags, ["sh", "-c", script]));
        assert_eq!(said.stdout, "end\n", "{said:?}");
    }
    assert!(!ground.ws.join("probe-d").exists());
}

#[test]
fn the_root_has_nothing_of_the_host() {
    let Some(ground) = Ground::new() else { return };
    let said = run(&mut ground.aj(&[], ["ls", "-A", "/"]));
    let first = ground.ws.components().nth(1).unwrap().as_os_str().to_str().unwrap();
    let allowed = [
        "bin",
        "dev",
        "etc",
        "home",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "opt",
        "proc",
        "run",
        "sbin",
        "tmp",
        "usr",
        "var",
        "workspace",
        first,
    ];
    for name in said.stdout.lines() {
        assert!(allowed.contains(&name), "`/{name}` is there");
    }
    // No way up: the root's parent is the root, also by descriptor and through links of /proc.
    let script = "cd /; cd ../../..; ls -A; ls -A /proc/self/root/; ls -A /proc/self/root/../..";
    let up = run(&mut ground.aj(&[], ["sh", "-c", script])).stdout;
    assert_eq!(up, said.stdout.repeat(3));
    // Parents of the workspace hold nothing but the way to it.
    let beside = run(&mut ground.aj(&[], ["sh", "-c", "ls -A .."])).stdout;
    assert_eq!(beside, "ws\n", "the home and state directories lie beside it on the host");
}

#[test]
fn etc_is_a_list_and_identities_are_the_jails() {
    let Some(ground) = Ground::new() else { return };
    let list = run(&mut ground.aj(&[], ["ls", "-A", "/etc"])).stdout;
    for name in list.lines() {
        let secret = [
            "shadow",
            "shadow-",
            "gshadow",
            "gshadow-",
            "sudoers",
            "sudoers.d",
            "ssh",
            "passwd-",
            "group-",
            "krb5.keytab",
            "docker",
            "wireguard",
            "netplan",
            "NetworkManager",
            "crontab",
            "fstab",
            "subuid",
        ];
        assert!(!secret.contains(&name), "/etc/{name}");
    }
    assert!(list.lines().any(|l| l == "passwd") && list.lines().any(|l| l == "ld.so.cache"), "{list}");
    let passwd = run(&mut ground.aj(&[], ["cat", "/etc/passwd", "/etc/group"])).stdout;
    let users: Vec<&str> = passwd.lines().filter_map(|l| l.split(':').next()).collect();
    assert_eq!(users, ["root", "agent", "nobody", "root", "tty", "agent", "nogroup"]);
    let paths =
        ["open", "/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/ssh/ssh_host_ed25519_key", "/root"];
    let said = ground.jail(&["--as-root"], &paths);
    said.expect("ENOENT", &paths[1..]);
    if is_root() {
        teeth(&said, ground.outside(&paths), &["/etc/shadow", "/root"]);
    }
}

#[test]
fn dev_is_a_list() {
    let Some(ground) = Ground::new() else { return };
    let list = run(&mut ground.aj(&[], ["ls", "-A", "/dev"])).stdout;
    let wanted = [
        "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom",
        "zero",
    ];
    assert_eq!(list.lines().collect::<Vec<_>>(), wanted);
    // A terminal namespace of its own: the first pty inside is number 0.
    let pts = run(&mut ground.aj(&[], ["ls", "-A", "/dev/pts"])).stdout;
    assert_eq!(pts, "ptmx\n");
    ground
        .jail(&[], &["open", "/dev/null", "/dev/zero", "/dev/full", "/dev/urandom"])
        .expect("ok", &["/dev/zero"]);
}

#[test]
fn the_places_programs_expect_are_there() {
    let Some(ground) = Ground::new() else { return };
    let script =
        "stat -c '%a %u' /tmp /var/tmp /dev/shm /home/agent; readlink /workspace; pwd; id -un; hostname";
    let said = run(&mut ground.aj(&[], ["sh", "-c", script]));
    let ws = ground.ws.to_str().unwrap();
    let wanted = ["1777 1000", "1777 1000", "1777 1000", "755 1000", ws, ws, "agent", "agentjail"];
    assert_eq!(said.stdout.lines().collect::<Vec<_>>(), wanted, "{}", said.stderr);
}

#[test]
fn no_more_user_namespaces_and_the_jail_cannot_raise_the_number() {
    let Some(ground) = Ground::new() else { return };
    let path = "/proc/sys/user/max_user_namespaces";
    let before = crate::probe::text(path);
    for flags in [&[][..], &["--as-root"]] {
        let script = format!("cat {path}; echo 9 > {path} || cat {path}");
        let said = run(&mut ground.aj(flags, ["sh", "-c", &script]));
        assert_eq!(said.stdout, "0\n0\n", "{said:?}");
    }
    assert_eq!(crate::probe::text(path), before);
}

/// What a jail made on the host belongs to whom it should, and none of it has a privilege there.
#[test]
fn files_made_inside_belong_to_the_owner_of_the_tree() {
    let Some(ground) = Ground::new() else { return };
    let owner = if is_root() {
        (65534, 65534)
    } else {
        (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw())
    };
    if is_root() {
        ground.open_to_all();
        std::os::unix::fs::chown(&ground.ws, Some(owner.0), Some(owner.1)).unwrap();
    }
    let script = "mkdir d && echo x > d/f && cp probe suid && chmod 6755 suid; stat -c '%u %g' d/f; id -u";
    let said = run(&mut ground.aj(&["--rw"], ["sh", "-c", script]));
    assert_eq!(said.stdout, "1000 1000\n1000\n", "{said:?}");
    for name in ["d", "d/f", "suid"] {
        let m = std::fs::metadata(ground.ws.join(name)).unwrap();
        assert_eq!((m.uid(), m.gid()), owner, "{name}");
    }
    let said = run(&mut ground.aj(&[], ["sh", "-c", "echo y > d/f; echo z > new; chmod 4755 new; cat d/f"]));
    assert_eq!(said.stdout, "y\n", "{said:?}");
    assert_eq!(std::fs::read_to_string(ground.ws.join("d/f")).unwrap(), "x\n");
    assert!(!ground.ws.join("new").exists());
    // The upper layer of the run, on the host: of nobody that exists there when root started it.
    let found = walkdir::WalkDir::new(ground.dir.path().join("state")).into_iter().flatten();
    let new = found.into_iter().find(|e| e.file_name() == "new").expect("the change is kept");
    let m = new.metadata().unwrap();
    let kept = if is_root() { 1_001_000 } else { owner.0 };
    assert_eq!(m.uid(), kept);
    assert_ne!(m.uid(), 0);
    let state = std::fs::metadata(ground.dir.path().join("state")).unwrap();
    assert_eq!(state.permissions().mode() & 0o777, 0o700, "nobody else reaches what is in it");
}

/// A tree of root's, run by root: writable inside, and what is made there is no file of root's.
#[test]
fn a_tree_of_roots_is_shown_through_an_id_mapping() {
    if !is_root() {
        skip("only root has a tree of root's");
        return;
    }
    let Some(ground) = Ground::new() else { return };
    std::fs::write(ground.ws.join("mine"), "x").unwrap();
    std::fs::write(ground.ws.join("theirs"), "x").unwrap();
    std::os::unix::fs::chown(ground.ws.join("theirs"), Some(1234), Some(1234)).unwrap();
    let script = "stat -c %u mine theirs; echo y > mine && cat mine; chown 1000 theirs; echo $?; id -u";
    let said = run(&mut ground.aj(&[], ["sh", "-c", script]));
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(lines, ["1000", "65534", "y", "1", "1000"], "{said:?}");
    assert_eq!(std::fs::read_to_string(ground.ws.join("mine")).unwrap(), "x");
}
