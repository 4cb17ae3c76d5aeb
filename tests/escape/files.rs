//! Files by other ways than their names, kernel files, device nodes, setuid programs (jail.md C3).

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use crate::probe::{Ground, is_root, run, skip, teeth, text};

const NODES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// What must stay as it is: mode, owner, and when the node was changed.
fn node(path: &str) -> (u32, u32, u32, u64, i64, i64) {
    let m = std::fs::metadata(path).unwrap();
    (m.mode(), m.uid(), m.gid(), m.rdev(), m.ctime(), m.ctime_nsec())
}

/// A whole machine lost its `/dev/null` to a chmod inside a jail (jail.md I.1).
#[test]
fn the_hosts_device_nodes_cannot_be_changed() {
    let Some(ground) = Ground::new() else { return };
    let before = NODES.map(node);
    for flags in [&[][..], &["--as-root"], &["--rw"]] {
        let said = ground.jail(flags, &["nodes"]);
        for (name, result) in said.all() {
            let refused = match name.split(' ').next().unwrap() {
                "link" => ["EXDEV", "EPERM"].contains(&result),
                _ => result == "EROFS",
            };
            assert!(refused, "{name}: {result}");
        }
        assert!(said.all().count() >= NODES.len() * 7);
    }
    assert_eq!(NODES.map(node), before);
    if !is_root() {
        skip("an ordinary user may not change these nodes outside of a jail either");
        return;
    }
    // A node of the test's own under bwrap, bound as bwrap binds the real ones.
    let own = ground.path("node");
    let made = Command::new("mknod").args([&own, "c", "1", "3"]).status().unwrap();
    assert!(made.success());
    let said = ground.jail(&["--as-root"], &["nodes"]);
    if let Some(weaker) = ground.bwrap(&["--dev-bind", &own, "/tmp/node"], &["nodes", "/tmp/node"]) {
        for change in ["chmod", "utimes", "fchmod", "chmod by link"] {
            assert_ne!(said.of(&format!("{change} /dev/null")), weaker.of(&format!("{change} /tmp/node")));
        }
        assert_eq!(node(&own).0 & 0o777, 0o600, "the node of the host was changed");
    }
}

#[test]
fn no_device_node_can_be_made() {
    let Some(ground) = Ground::new() else { return };
    let places = ["mknod", ".", "/tmp", "/dev/shm", "/home/agent"];
    for flags in [&[][..], &["--as-root"], &["--rw"]] {
        for (name, result) in ground.jail(flags, &places).all() {
            // The mark of overlay is no device: it opens nothing. Landlock of some kernels (Debian's 6.12)
            // leaves it to everybody; in the tree of an overlay it would hide a file, and there it is refused.
            let harmless = name.starts_with("whiteout") && (name != "whiteout ." || flags == ["--rw"]);
            let refused = ["EPERM", "EACCES"].contains(&result);
            assert!(refused || (harmless && result == "ok"), "{name}: {result} {flags:?}");
        }
    }
    if is_root() {
        let said = ground.jail(&["--as-root"], &places[..2]);
        teeth(&said, ground.outside(&places[..2]), &["char .", "block .", "kmsg ."]);
    }
    // Capabilities of the jail's own user namespace make none either.
    if let Some(weaker) = ground.jail_without("caps,landlock", &["--as-root"], &places) {
        weaker.expect("EPERM", &["char /tmp", "block /tmp", "char ."]);
    }
}

/// A node that somebody outside put into the tree is no device inside.
#[test]
fn a_device_node_in_the_workspace_cannot_be_opened() {
    if !is_root() {
        skip("only root can make a device node to show");
        return;
    }
    let Some(ground) = Ground::new() else { return };
    for (name, major, minor) in [("zero", "1", "5"), ("kmsg", "1", "11")] {
        let path = ground.ws.join(name);
        assert!(
            Command::new("mknod")
                .arg("-m")
                .arg("666")
                .arg(path)
                .args(["c", major, minor])
                .status()
                .unwrap()
                .success()
        );
    }
    let words = ["open", "./zero", "./kmsg"];
    for flags in [&[][..], &["--as-root"], &["--rw"]] {
        let said = ground.jail(flags, &words);
        said.expect("EACCES", &words[1..]);
        let outside = ground.outside(&words).unwrap();
        if outside.of("./zero") == "ok" {
            teeth(&said, Some(outside), &["./zero"]);
        } else {
            skip("the temp directory is mounted without device nodes");
        }
    }
}

/// Shocker: the root directory of a file system, or any file of it, by a guessed handle.
#[test]
fn files_cannot_be_opened_by_handle() {
    let Some(ground) = Ground::new() else { return };
    for flags in [&[][..], &["--as-root"]] {
        let said = ground.jail(flags, &["handle", "/usr/bin"]);
        said.expect("EPERM", &["open_by_handle_at", "guessed"]);
    }
    let said = ground.jail(&["--as-root"], &["handle", "/usr/bin"]);
    if !is_root() {
        skip("open_by_handle_at needs root outside as well");
        return;
    }
    let outside = ground.outside(&["handle", "/usr/bin"]).unwrap();
    if outside.of("open_by_handle_at") == "ok" {
        teeth(&said, Some(outside), &["open_by_handle_at"]);
    } else {
        skip(format!("this file system has no handles: {}", outside.of("open_by_handle_at")));
    }
}

/// Files that configure the whole machine: what they hold stays as it is.
#[test]
fn kernel_settings_cannot_be_written() {
    let Some(ground) = Ground::new() else { return };
    let paths = [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hotplug",
        "/proc/sys/kernel/poweroff_cmd",
        "/proc/sys/kernel/randomize_va_space",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/vm/drop_caches",
        "/proc/sys/fs/file-max",
        "/proc/sys/fs/suid_dumpable",
        "/proc/sys/kernel/hostname",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/sysrq",
        "/proc/acpi/wakeup",
        "/proc/sys/fs/binfmt_misc/register",
        "/proc/irq/default_smp_affinity",
        "/proc/mtrr",
        "/proc/scsi/scsi",
        "/proc/1/oom_score_adj",
        "/proc/1/uid_map",
        "/proc/1/setgroups",
        "/proc/1/sched",
    ];
    let before: Vec<_> = paths[..9].iter().map(text).collect();
    for flags in [&[][..], &["--as-root"], &["--net", "host", "--as-root"]] {
        // Opens only: what could be opened could be written.
        let said = ground.jail(flags, &[&["write", ""][..], &paths].concat());
        for path in paths {
            let result = said.of(path);
            // A setting of a namespace of the jail's own is its root's to change.
            let own = flags == ["--as-root"] && path.starts_with("/proc/sys/net/");
            assert!(
                own || ["EACCES", "EPERM", "EROFS", "ENOENT"].contains(&result),
                "{path}: {result} {flags:?}"
            );
        }
        said.expect("EACCES", &["/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches"]);
        let said = ground.jail(flags, &["write", "|/tmp/x", "/proc/sys/kernel/core_pattern"]);
        said.expect("EACCES", &["/proc/sys/kernel/core_pattern"]);
    }
    assert_eq!(paths[..9].iter().map(text).collect::<Vec<_>>(), before);
    if is_root() {
        let said = ground.jail(&["--as-root"], &["write", "", paths[0], paths[6]]);
        teeth(&said, ground.outside(&["write", "", paths[0], paths[6]]), &[paths[0], paths[6]]);
        // bwrap, as root, leaves it open.
        let weaker = ground.bwrap(&[], &["write", "", paths[0]]);
        if weaker.is_some_and(|w| w.of(paths[0]) != "ok") {
            skip("bwrap protects core_pattern here");
        }
    }
}

#[test]
fn kernel_memory_and_addresses_cannot_be_read() {
    let Some(ground) = Ground::new() else { return };
    let paths = [
        "open",
        "/proc/kcore",
        "/proc/kallsyms",
        "/proc/keys",
        "/proc/timer_list",
        "/proc/sched_debug",
        "/proc/kmsg",
        "/proc/slabinfo",
        "/proc/vmallocinfo",
        "/proc/pagetypeinfo",
        "/proc/kpagecount",
        "/proc/kpageflags",
        "/dev/mem",
        "/dev/kmem",
        "/dev/port",
        "/dev/kmsg",
        "/dev/fuse",
        "/dev/kvm",
        "/dev/net/tun",
        "/dev/loop0",
        "/dev/sda",
        "/dev/vda",
        "/dev/userfaultfd",
        "/dev/vsock",
        "/dev/uinput",
        "/dev/input",
        "/dev/console",
    ];
    for flags in [&[][..], &["--as-root"]] {
        let said = ground.jail(flags, &paths);
        for (path, result) in said.all() {
            assert!(["EACCES", "EPERM", "ENOENT", "empty"].contains(&result), "{path}: {result}");
        }
        let must: &[&str] =
            if is_root() { &["/proc/kallsyms", "/proc/timer_list"] } else { &["/proc/kallsyms"] };
        teeth(&said, ground.outside(&paths), must);
    }
}

/// A file of root's with the setuid bit in the tree: nothing that is executed gains anything.
#[test]
fn a_setuid_file_in_the_workspace_grants_nothing() {
    if !is_root() {
        skip("only root can leave a setuid file of root's");
        return;
    }
    let Some(ground) = Ground::new() else { return };
    ground.open_to_all();
    assert!(
        Command::new("cp").args(["-p", "probe", "suid"]).current_dir(&ground.ws).status().unwrap().success()
    );
    assert!(Command::new("chmod").args(["6755", "suid"]).current_dir(&ground.ws).status().unwrap().success());
    for flags in [&[][..], &["--rw"], &["--ro"]] {
        let said = run(&mut ground.aj(flags, ["./suid", "ids"]));
        said.expect("1000 1000 1000", &["uid", "gid"]);
        // As it is told by its parent, too, and with the mount's nosuid as the only layer.
        let watched = run(&mut ground.aj(flags, ["./probe", "suid", "./suid", "walk"]));
        watched.expect("1000\t1000\t1000\t1000", &["Uid"]);
        if ground.jail_without("no_new_privs,caps,seccomp,landlock", flags, &["ids"]).is_some() {
            let layers = "no_new_privs,caps,seccomp,landlock";
            let weaker = run(ground.aj(flags, ["./suid", "ids"]).env("AJ_TEST_WITHOUT", layers));
            weaker.expect("1000 1000 1000", &["uid"]);
        }
    }
    let outside = ground.outside(&["as-uid", "65534", "./suid", "ids"]).unwrap();
    if outside.of("uid") != "65534 0 0" {
        skip("the temp directory is mounted nosuid");
    }
}

/// Programs of the host that run as root for anybody.
#[test]
fn the_hosts_setuid_programs_grant_nothing() {
    let Some(ground) = Ground::new() else { return };
    ground.open_to_all();
    let su = ["suid", "su", "-c", "true", "root"];
    let found = |p: &&str| {
        ["/usr/bin/", "/bin/"]
            .iter()
            .any(|d| std::fs::metadata(format!("{d}{p}")).is_ok_and(|m| m.mode() & 0o4000 != 0))
    };
    let there: Vec<&str> =
        ["su", "sudo", "mount", "umount", "newuidmap", "newgidmap", "fusermount3", "pkexec", "passwd"]
            .into_iter()
            .filter(|p| found(p))
            .collect();
    if there.is_empty() {
        skip("no setuid program on this machine");
        return;
    }
    // All of them start as the jail's user: their own check of the effective id is the first to fail.
    for program in &there {
        let said = ground.jail(&[], &["suid", program, "--probe-none"]);
        if said.of("State").starts_with('Z') {
            continue;
        }
        said.expect("1000\t1000\t1000\t1000", &["Uid"]);
    }
    if there.contains(&"su") {
        let said = ground.jail(&[], &su);
        let outside = if is_root() {
            ground.outside(&[&["as-uid", "65534", "./probe"][..], &su].concat())
        } else {
            ground.outside(&su)
        };
        let outside = outside.unwrap();
        if outside.of("Uid").split('\t').nth(1) == Some("0") {
            assert_ne!(
                said.all().find(|(n, _)| *n == "Uid").map(|(_, r)| r.split('\t').nth(1)),
                Some(Some("0"))
            );
        } else {
            skip(format!("su waits for nothing here: {}", outside.of("State")));
        }
    }
}

/// A program marked setuid through `--rw` would be the host's: as root, root's own.
#[test]
fn no_setuid_file_is_left_on_the_host() {
    let Some(ground) = Ground::new() else { return };
    let script = "for m in 4755 2755; do cp probe left-$m && chmod $m left-$m; done; exit 0";
    let mode = |name: &str| std::fs::metadata(ground.ws.join(name)).unwrap().mode() & 0o7000;
    let jail = |without: &str| {
        let mut aj = ground.aj(&["--rw"], ["sh", "-c", script]);
        assert!(aj.env("AJ_TEST_WITHOUT", without).output().unwrap().status.success());
    };
    jail("");
    assert_eq!((mode("left-4755"), mode("left-2755")), (0, 0));
    // Teeth: without the filter the bits are there.
    jail("no_setuid");
    if mode("left-4755") == 0 {
        skip("the temp directory refuses setuid bits, or this aj leaves no layer out");
    }
    for name in ["left-4755", "left-2755"] {
        std::fs::remove_file(ground.ws.join(name)).unwrap();
    }
}
