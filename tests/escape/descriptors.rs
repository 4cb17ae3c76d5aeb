//! Descriptors, `/proc` links and the ways of executing something (jail.md C1).

use std::process::Command;

use crate::common;
use crate::probe::{Ground, is_root, run, skip, teeth};

/// A private copy of `aj`, owned by whoever runs the tests: the jail of an ordinary user has that
/// user's id outside, so the file's mode would let it write.
fn own_aj(ground: &Ground) -> String {
    let path = ground.path("aj");
    assert!(Command::new("cp").arg(common::aj()).arg(&path).status().unwrap().success());
    path
}

fn hash(path: &str) -> String {
    blake3::hash(&std::fs::read(path).unwrap()).to_hex().to_string()
}

/// CVE-2019-5736: the program that starts the jail is reachable as somebody's `exe`, and is written.
#[test]
fn the_aj_binary_cannot_be_reached_or_overwritten() {
    let Some(ground) = Ground::new() else { return };
    let aj = own_aj(&ground);
    let before = hash(&aj);
    let run_with = |words: &[&str], without: &str| {
        run(ground
            .program(&aj)
            .args(["exec", "--timeout", "15s", "--"])
            .args(words)
            .env("AJ_TEST_WITHOUT", without))
    };
    let script = "i=0; while [ $i -lt 300 ]; do i=$((i+1)); for e in /proc/*/exe; do
        (printf x >> $e) 2>/dev/null && echo \"wrote $e\"; done; done; ls -l /proc/1/exe 2>&1";
    let said = run_with(&["sh", "-c", script], "");
    assert!(!said.stdout.contains("wrote"), "{said:?}");
    assert!(said.stdout.contains("Permission denied"), "{said:?}");

    // The command's own interpreter, at the one moment when its process still runs aj.
    std::fs::write(ground.ws.join("evil"), "#!/proc/self/exe\n").unwrap();
    Command::new("chmod").arg("755").arg(ground.ws.join("evil")).status().unwrap();
    let said = run_with(&["./evil"], "");
    if agentjail::sys::landlock::abi() >= agentjail::sys::landlock::OLDEST {
        // Landlock knows that the file is not below anything that was allowed.
        assert_eq!((said.code, said.stderr.contains("EACCES")), (Some(126), true), "{said:?}");
        if ground.jail_without("landlock", &[], &["ids"]).is_some() {
            // Without it a jailed aj starts, which has no privilege and nobody beside it.
            let weaker = run_with(&["./evil"], "landlock");
            assert_eq!(
                (weaker.code, weaker.stderr.contains("is not a command of aj")),
                (Some(2), true),
                "{weaker:?}"
            );
        }
    } else {
        skip("this kernel has no Landlock to refuse aj as an interpreter");
    }
    assert_eq!(hash(&aj), before);
}

/// Not a boundary, and not a way around the filter either.
#[test]
fn a_program_in_memory_runs_under_the_same_filter() {
    let Some(ground) = Ground::new() else { return };
    let direct = ground.jail(&[], &["dangerous"]);
    let memory = ground.jail(&[], &["memfd", "dangerous"]);
    assert_eq!(direct.stdout, memory.stdout);
    memory.expect("ENOSYS", &["io_uring_setup"]);
    teeth(&memory, ground.outside(&["memfd", "dangerous"]), &["memfd_secret", "adjtimex", "kcmp"]);
    ground.jail(&[], &["memfd", "bits"]).expect("2", &["seccomp"]);
}

/// CVE-2024-21626: the start directory is a descriptor of the host's that the caller left open.
#[test]
fn a_start_directory_outside_of_the_workspace_is_refused() {
    let Some(ground) = Ground::new() else { return };
    let start = |cwd: &str| {
        let mut wrap = ground.program("./probe");
        wrap.arg("with-fds").arg(common::aj()).args(["exec", "--cwd", cwd, "--", "sh", "-c", "pwd; ls"]);
        wrap.env("AJ_TEST_WITHOUT", "landlock");
        run(&mut wrap)
    };
    for bad in ["/proc/self/fd/42", "/proc/1/root", "/proc/1/cwd", "..", "probe/../..", "/root", "/"] {
        let said = start(bad);
        assert_eq!((said.code, said.stdout.as_str()), (Some(125), ""), "{bad}: {said:?}");
    }
    // A link in the tree may lead anywhere in the jail, but not through the links of proc.
    for (name, target) in [("a", "/proc/self/fd/42"), ("b", "/proc/self/cwd"), ("c", "a")] {
        std::os::unix::fs::symlink(target, ground.ws.join(name)).unwrap();
        let said = start(name);
        assert_eq!((said.code, said.stdout.as_str()), (Some(125), ""), "{name}: {said:?}");
        assert!(said.stderr.contains("ELOOP"), "{said:?}");
    }
    std::os::unix::fs::symlink("/", ground.ws.join("top")).unwrap();
    let said = start("top");
    assert!(said.stdout.contains("workspace"), "the jail's root: {said:?}");
    // Outside, that descriptor is a working directory.
    let outside = ground.outside(&["with-fds", "./probe", "use-fd"]).unwrap();
    outside.expect("ok", &["chdir"]);
}

/// aj's own records are no place for a jail to write, by whatever name.
#[test]
fn the_state_directory_cannot_be_made_writable() {
    let Some(ground) = Ground::new() else { return };
    assert_eq!(run(&mut ground.aj(&[], ["true"])).code, Some(0));
    std::os::unix::fs::symlink(ground.dir.path(), ground.path("link")).unwrap();
    std::os::unix::fs::symlink(ground.dir.path().join("state/cache"), ground.path("cache")).unwrap();
    for name in ["", "state", "state/cache", "link", "link/state", "cache"] {
        let path = ground.path(name);
        let said = run(&mut ground.aj(&["--rw", &path], ["true"]));
        assert_eq!(said.code, Some(125), "{path}: {said:?}");
        // A link in what it makes writable is refused for being that.
        let why = if name == "link" { "leads through the link" } else { "state directory" };
        assert!(said.stderr.contains(why), "{path}: {said:?}");
    }
    // With the state reached by a link, and the workspace around it.
    let mut aj = ground.aj(&["--rw"], ["true"]);
    aj.current_dir(ground.dir.path()).env("AJ_STATE_DIR", ground.dir.path().join("link/state"));
    let said = run(&mut aj);
    assert_eq!(said.code, Some(125), "{said:?}");
}

/// `ld.so` runs a file without an executable bit, which is no boundary; a mount without exec is one.
#[test]
fn mounts_without_exec_execute_nothing() {
    let Some(ground) = Ground::new() else { return };
    let script = "cp probe plain; chmod 644 plain; ./plain ids; echo $?; \
        cat plain > /dev/pts/probe; echo $?; /proc/self/exe 2>/dev/null; echo $?";
    let said = run(&mut ground.aj(&[], ["sh", "-c", script]));
    assert_eq!(said.stdout.lines().next(), Some("126"), "{said:?}");
}

#[test]
fn a_terminal_of_the_caller_is_not_there() {
    let Some(ground) = Ground::new() else { return };
    let said = ground.jail(&[], &["tty"]);
    said.expect("ENXIO", &["/dev/tty"]);
    said.expect("none", &["stdin"]);
}

#[test]
fn arguments_that_are_too_long_end_with_a_clear_125() {
    let Some(ground) = Ground::new() else { return };
    // The kernel takes 128 KiB per argument; aj itself is started with it through a file.
    let said = run(ground
        .program("sh")
        .arg("-c")
        .arg(format!("exec {} exec --env-file big -- true", common::aj().display()))
        .arg("x"));
    assert_ne!(said.code, Some(0), "a missing file is an error: {said:?}");
    std::fs::write(ground.ws.join("big"), format!("BIG={}\n", "x".repeat(200_000))).unwrap();
    let said = run(&mut ground.aj(&["--env-file", "big"], ["true"]));
    assert_eq!(said.code, Some(125), "{said:?}");
    assert!(said.stderr.contains("E2BIG") || said.stderr.contains("too long"), "{said:?}");
}

#[test]
fn device_and_proc_links_of_stdio_lead_to_the_jails_pipes_only() {
    let Some(ground) = Ground::new() else { return };
    let script =
        "readlink /proc/self/fd/0; readlink /proc/self/fd/1; echo again > /dev/stdout; cat < /dev/stdin";
    let said = run(&mut ground.aj(&[], ["sh", "-c", script]));
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert!(lines[0] == "/dev/null" && lines[1].starts_with("pipe:["), "{said:?}");
    assert_eq!(lines[2..], ["again"]);
    // A file that the caller redirects is not handed over: its inode could be changed through it.
    let target = ground.path("out");
    let script = format!(
        "exec {} exec -- sh -c 'chmod 777 /proc/self/fd/1; echo x' > {target}",
        common::aj().display()
    );
    let said = run(ground.program("sh").args(["-c", &script]));
    assert_eq!(said.code, Some(0), "{said:?}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&target).unwrap().permissions());
    assert_eq!(mode & 0o111, 0);
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "x\n");
    if is_root() && std::fs::metadata(&target).unwrap().len() == 0 {
        skip("nothing was written");
    }
}
