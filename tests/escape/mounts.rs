//! Changing what is mounted, and being tricked while mounting (jail.md C3).

use std::collections::BTreeMap;
use std::io::{BufRead, Read, Write};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::probe::{Ground, run, skip, teeth};

/// Every attempt and the call that makes it, which the filter refuses with EPERM.
#[test]
fn nothing_can_be_mounted_unmounted_or_made_writable() {
    let Some(ground) = Ground::new() else { return };
    for flags in [&[][..], &["--as-root"], &["--rw"]] {
        let said = ground.jail(flags, &["mounts"]);
        for (name, result) in said.all() {
            // Its mode or its mount, whichever the kernel looks at first.
            let read_only = name == "write /usr" && ["EROFS", "EACCES"].contains(&result);
            assert!(result == "EPERM" || read_only, "{name}: {result} {flags:?}");
        }
        assert!(said.all().count() >= 25, "{said:?}");
    }
    let said = ground.jail(&["--as-root"], &["mounts"]);
    let Some(weaker) = ground.bwrap(&["--cap-add", "ALL"], &["mounts"]) else { return };
    if weaker.of("mount tmpfs") == "ok" {
        teeth(
            &said,
            Some(weaker),
            &["mount tmpfs", "mount bind", "open_tree", "fsopen", "fsmount", "move_mount"],
        );
    } else {
        // The next test shows it with aj's own layers.
        skip("an ordinary user's bwrap gives no capability over its mounts");
    }
}

/// The three layers that forbid mounts, each alone, and none of them.
#[test]
fn each_of_three_layers_alone_forbids_mounts() {
    let Some(ground) = Ground::new() else { return };
    let with = |layers: &str| ground.jail_without(layers, &["--as-root"], &["mounts"]);
    let Some(none) = with("caps,seccomp,landlock") else { return };
    let mounts =
        ["mount tmpfs", "mount bind", "remount /usr", "move_mount", "pivot_root", "umount /proc/kallsyms"];
    for name in ["mount tmpfs", "mount bind", "fsopen", "fsmount", "move_mount", "open_tree"] {
        none.expect("ok", &[name]);
    }
    with("seccomp,landlock").unwrap().expect("EPERM", &mounts);
    with("caps,landlock").unwrap().expect("EPERM", &mounts);
    if agentjail::sys::landlock::abi() >= agentjail::sys::landlock::OLDEST {
        let landlock = with("caps,seccomp").unwrap();
        landlock.expect("EPERM", &["mount tmpfs", "mount bind", "move_mount", "remount /usr"]);
    } else {
        skip("no Landlock here");
    }
}

#[test]
fn no_namespace_by_any_route() {
    let Some(ground) = Ground::new() else { return };
    for flags in [&[][..], &["--as-root"]] {
        let said = ground.jail(flags, &["namespaces"]);
        let mut seen = BTreeMap::new();
        for (name, result) in said.all() {
            let wanted = if name.starts_with("clone3") { "ENOSYS" } else { "EPERM" };
            assert_eq!(result, wanted, "{name}");
            *seen.entry(name.rsplit(' ').next().unwrap()).or_insert(0) += 1;
        }
        assert!(seen.len() == 8 && seen.values().all(|n| *n == 6), "{seen:?}");
    }
    let said = ground.jail(&[], &["namespaces"]);
    let outside = ground.outside(&["namespaces"]).unwrap();
    if outside.of("unshare user") == "ok" {
        teeth(
            &said,
            Some(outside),
            &["unshare user", "clone user", "clone3 user", "clone3 net", "clone mnt"],
        );
    } else {
        skip("this machine allows no user namespaces to this user");
    }
}

/// A user namespace inside is refused by the filter, and by the number of them when that is gone.
#[test]
fn each_of_two_layers_alone_forbids_user_namespaces() {
    let Some(ground) = Ground::new() else { return };
    let routes = ["unshare user", "clone user", "clone3 user"];
    let with = |layers: &str| ground.jail_without(layers, &[], &["namespaces"]);
    let Some(none) = with("seccomp,no_nested_userns") else { return };
    none.expect("ok", &routes);
    with("no_nested_userns").unwrap().expect("EPERM", &routes[..2]);
    with("seccomp").unwrap().expect("ENOSPC", &routes);
    // And asked for by name, all of it is open.
    let nested = ground.jail(&["--nested-userns"], &["namespaces"]);
    nested.expect("ok", &routes);
}

#[test]
fn chroot_and_pivot_root_lead_nowhere() {
    let Some(ground) = Ground::new() else { return };
    for flags in [&[][..], &["--as-root"]] {
        let said = ground.jail(flags, &["chroot"]);
        said.expect("EPERM", &["chroot", "chroot ."]);
        said.expect("yes", &["same root"]);
    }
    let said = ground.jail(&["--as-root"], &["chroot"]);
    teeth(&said, ground.jail_without("caps,seccomp", &["--as-root"], &["chroot"]), &["chroot"]);
    // Even with the call and the capability, up ends at the jail's own root.
    let script = "cd /proc/self/root/../../..; ls -d home usr workspace; ls root 2>&1 | grep -c 'No such'";
    let up = run(&mut ground.aj(&["--as-root"], ["sh", "-c", script]));
    assert_eq!(up.stdout, "home\nusr\nworkspace\n1\n", "{up:?}");
}

/// By `--cwd` a command starts behind a link that an earlier one may have left in the tree. Without the file rules of
/// Landlock it sees what is there.
#[test]
fn a_link_that_climbs_out_leads_to_the_jails_own_root() {
    let Some(ground) = Ground::new() else { return };
    std::os::unix::fs::symlink("../".repeat(32), ground.ws.join("up")).unwrap();
    for flags in [&[][..], &["--as-root"], &["--nested-userns"], &["--rw"], &["--ro"], &["--net", "host"]] {
        let flags = [flags, &["--cwd", "up"]].concat();
        let script = "[ . -ef / ] && pwd -P && ls -d workspace";
        let there = run(&mut ground.aj(&flags, ["sh", "-c", script]));
        assert_eq!(there.stdout, "/\nworkspace\n", "{flags:?}: {there:?}");
    }
}

/// A release agent is a program that the host runs as root; it is set in a cgroup v1 hierarchy.
#[test]
fn no_cgroup_file_system_is_in_sight() {
    let Some(ground) = Ground::new() else { return };
    let paths = [
        "open",
        "/sys",
        "/sys/fs/cgroup",
        "/sys/firmware",
        "/sys/kernel/debug",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/security",
        "/sys/fs/bpf",
        "/run/systemd",
    ];
    let said = ground.jail(&["--as-root"], &paths);
    said.expect("ENOENT", &paths[1..]);
    teeth(&said, ground.outside(&paths), &["/sys", "/sys/fs/cgroup"]);
    ground
        .jail(&["--as-root"], &["mounts"])
        .expect("EPERM", &["mount cgroup", "mount cgroup2", "mount sysfs"]);
    let kinds =
        run(&mut ground.aj(&[], ["sh", "-c", "grep -c cgroup /proc/self/mountinfo; cat /proc/self/cgroup"]));
    assert!(kinds.stdout.starts_with("0\n"), "{kinds:?}");
    // The cgroup namespace hides where on the host this is.
    for line in kinds.stdout.lines().skip(1) {
        assert!(line.ends_with(":/"), "{line}");
    }
}

/// Somebody who may write to the tree swaps a directory that is being bound for a link, again and
/// again, while jails start (the family of CVE-2021-30465): whatever comes of a start, no jail ever
/// has at that place what the link points to.
#[test]
fn a_bind_swapped_for_a_link_never_shows_what_the_link_points_to() {
    let Some(ground) = Ground::new() else { return };
    let (victim, target) = (ground.path("victim"), ground.ws.join("mnt"));
    std::fs::create_dir(&victim).unwrap();
    std::fs::create_dir(&target).unwrap();
    let (aside, link) = (ground.ws.join("aside"), ground.ws.join("link"));
    std::os::unix::fs::symlink(&victim, &link).unwrap();
    let path = target.to_str().unwrap();
    let stop = AtomicBool::new(false);
    let mut results: BTreeMap<String, u32> = BTreeMap::new();
    let mut tricked = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // The directory away and the link in its place; then back.
                std::fs::rename(&target, &aside).ok();
                std::fs::rename(&link, &target).ok();
                std::thread::yield_now();
                std::fs::rename(&target, &link).ok();
                std::fs::rename(&aside, &target).ok();
            }
        });
        let begun = std::time::Instant::now();
        for round in 0..100 {
            if begun.elapsed().as_secs() > 5 {
                break;
            }
            let access = if round % 2 == 0 { "--rw" } else { "--ro" };
            let flags = if round % 3 == 0 { vec![access, path] } else { vec!["--rw", access, path] };
            let said = run(&mut ground.aj(&flags, ["cat", "/proc/self/mountinfo"]));
            for line in said.stdout.lines() {
                let fields: Vec<&str> = line.split(' ').collect();
                // Resolved while the link was there, the user has named the victim itself, and it is
                // shown under its own name; under another it is a trick.
                if fields[3].contains("victim") && fields[4] != victim {
                    tricked.push(line.to_owned());
                }
            }
            let why = said.stderr.lines().next().unwrap_or_default().to_owned();
            *results.entry(format!("{:?} {why}", said.code)).or_insert(0) += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(tricked.is_empty(), "{} times, the first: {}", tricked.len(), tricked[0]);
    let started = results.iter().filter(|(k, _)| k.starts_with("Some(0)")).map(|(_, n)| n).sum::<u32>();
    assert!(started > 0, "no jail ever started: {results:#?}");
}

/// The same with a parent of the workspace, swapped between aj's look at its own directory and the
/// mount. The shell has gone there before, so that nothing ever names the victim.
#[test]
fn a_workspace_swapped_for_a_link_never_shows_what_the_link_points_to() {
    let Some(ground) = Ground::new() else { return };
    let (outer, aside, link) = (ground.path("outer"), ground.path("aside"), ground.path("link"));
    for dir in ["outer/ws", "victim/ws"] {
        std::fs::create_dir_all(ground.path(dir)).unwrap();
    }
    std::fs::write(ground.path("victim/ws/secret"), "x").unwrap();
    std::os::unix::fs::symlink(ground.path("victim"), &link).unwrap();
    let stop = AtomicBool::new(false);
    let script = format!(
        "cd {outer}/ws; echo ready; read go; i=0; while [ $i -lt 40 ]; do i=$((i+1)); for access in '' --rw --ro; do
        {} exec $access -- ls -A; done; done 2>/dev/null; echo end",
        crate::common::aj().display()
    );
    let mut shell = ground.program("timeout");
    shell.args(["8", "sh", "-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    let mut out = std::io::BufReader::new(shell.stdout.take().unwrap());
    let mut seen = String::new();
    out.read_line(&mut seen).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                std::fs::rename(&outer, &aside).ok();
                std::fs::rename(&link, &outer).ok();
                std::thread::yield_now();
                std::fs::rename(&outer, &link).ok();
                std::fs::rename(&aside, &outer).ok();
            }
        });
        drop(shell.stdin.take().map(|mut go| go.write_all(b"go\n")));
        out.read_to_string(&mut seen).unwrap();
        stop.store(true, Ordering::Relaxed);
    });
    shell.wait().unwrap();
    assert!(seen.starts_with("ready"), "{seen}");
    assert!(!seen.contains("secret"), "{seen}");
}
