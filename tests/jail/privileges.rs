//! What the command may do: nothing that needs a privilege, each way to one closed twice.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use crate::probe::{Ground, Said, is_root, run, skip, teeth};

const SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
const NONE: &str = "0000000000000000";

fn status(ground: &Ground, flags: &[&str]) -> Said {
    run(&mut ground.aj(flags, ["cat", "/proc/self/status"]))
}

#[test]
fn capabilities_no_new_privs_and_the_filter_are_in_force() {
    let Some(ground) = Ground::new() else { return };
    for flags in [&[][..], &["--as-root"], &["--net", "host"], &["--rw"], &["--nested-userns"]] {
        let said = status(&ground, flags);
        said.expect(NONE, &SETS);
        said.expect("1", &["NoNewPrivs"]);
        // What may write to the host has one for setuid bits as well.
        said.expect(if flags.contains(&"--rw") { "2" } else { "1" }, &["Seccomp_filters"]);
        said.expect("2", &["Seccomp"]);
        let bits = ground.jail(flags, &["bits"]);
        // NOROOT, NO_SETUID_FIXUP, NO_CAP_AMBIENT_RAISE, and the locks of these and of KEEP_CAPS.
        bits.expect("0xef", &["securebits"]);
    }
}

/// Without a layer the same lines say so: they are no constants.
#[test]
fn the_status_shows_when_a_layer_is_missing() {
    let Some(ground) = Ground::new() else { return };
    let cat = |layers: &str| {
        ground.jail_without(layers, &["--as-root"], &["bits"])?;
        Some(run(ground.aj(&["--as-root"], ["cat", "/proc/self/status"]).env("AJ_TEST_WITHOUT", layers)))
    };
    let Some(said) = cat("caps") else { return };
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_ne!(said.of(set), NONE);
    }
    cat("seccomp").unwrap().expect("0", &["Seccomp"]);
    // Landlock and the filter need it or a capability.
    cat("no_new_privs,landlock,seccomp").unwrap().expect("0", &["NoNewPrivs"]);
}

#[test]
fn nobody_can_become_somebody_else() {
    let Some(ground) = Ground::new() else { return };
    for flags in [&[][..], &["--as-root"]] {
        let said = ground.jail(flags, &["become"]);
        said.expect("EPERM", &["capset", "ambient", "securebits", "keepcaps", "setgroups", "sethostname"]);
        said.expect("EINVAL", &["no_new_privs 0"]);
        said.expect("EACCES", &["nice"]);
        // With one id mapped the other does not exist.
        let foreign = if is_root() { "EPERM" } else { "EINVAL" };
        said.expect(foreign, &["setresuid 65534"]);
        if flags.is_empty() {
            said.expect(foreign, &["setuid 0", "setgid 0"]);
        }
    }
    let said = ground.jail(&["--as-root"], &["become"]);
    let weaker = ground.jail_without("caps,seccomp", &["--as-root"], &["become"]);
    teeth(&said, weaker, &["sethostname", "ambient", "keepcaps", "securebits"]);
}

/// Attempts that nothing but Landlock refuses, so that they show it is in force.
#[test]
fn landlock_is_in_force() {
    let Some(ground) = Ground::new() else { return };
    if agentjail::sys::landlock::abi() < agentjail::sys::landlock::OLDEST {
        skip("this kernel has no Landlock, or too old a one");
        return;
    }
    // The filter says EPERM before anybody else, and without it a missing capability does; that it is EACCES
    // is Landlock's answer, which comes before that.
    let Some(said) = ground.jail_without("seccomp", &[], &["mknod", "/tmp"]) else { return };
    said.expect("EACCES", &["char /tmp", "block /tmp"]);
    let without = ground.jail_without("seccomp,landlock", &[], &["mknod", "/tmp"]);
    teeth(&said, without, &["char /tmp", "block /tmp"]);
}

/// With the host's network its abstract sockets have the jail's names as well; the scope has not.
#[test]
fn landlock_scopes_keep_abstract_sockets_of_the_host_out() {
    let Some(ground) = Ground::new() else { return };
    if agentjail::sys::landlock::abi() < 6 {
        skip("this kernel's Landlock has no scopes");
        return;
    }
    let name = format!("agentjail-test-{}", ground.dir.path().file_name().unwrap().to_string_lossy());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let words = ["connect", "abstract", &name];
    let said = ground.jail(&["--net", "host"], &words);
    said.expect("EPERM", &[&name]);
    teeth(&said, ground.outside(&words), &[&name]);
    let without = ground.jail_without("landlock", &["--net", "host"], &words);
    teeth(&said, without, &[&name]);
    // Without the host's network there is no such name, whatever Landlock says.
    ground.jail(&[], &words).expect("ECONNREFUSED", &[&name]);
}

/// Each of two locks alone: a session keyring of the jail's own, and no calls to look at keys.
#[test]
fn keys_of_the_caller_are_out_of_reach() {
    let Some(ground) = Ground::new() else { return };
    let name = format!("agentjail-{}", ground.dir.path().file_name().unwrap().to_string_lossy());
    let with_key = |layers: &str, inside: bool| {
        let mut command = ground.program("./probe");
        command.args(["with-key", &name]).env("AJ_TEST_WITHOUT", layers);
        if inside {
            command.arg(crate::common::aj()).args(["exec", "--"]);
        }
        run(command.args(["./probe", "key", &name, "KEYID"]))
    };
    let outside = with_key("", false);
    if outside.code == Some(69) {
        skip("this kernel has no keys");
        return;
    }
    outside.expect("ok", &["search", "request", "read", "link"]);
    outside.expect("yes", &["listed"]);
    let jail = with_key("", true);
    jail.expect("ENOSYS", &["search", "request", "read", "link"]);
    jail.expect("no", &["listed"]);
    if ground.jail_without("keyring,seccomp", &[], &["bits"]).is_none() {
        return;
    }
    let bare = with_key("keyring,seccomp", true);
    bare.expect("ok", &["search", "read"]);
    with_key("keyring", true).expect("ENOSYS", &["search", "request", "read", "link"]);
    let keyring = with_key("seccomp", true);
    keyring.expect("ENOKEY", &["request"]);
    assert_ne!(keyring.of("search"), "ok");
}

/// `kernel.yama.ptrace_scope`: who may trace whom.
fn yama() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

#[test]
fn pid_1_cannot_be_looked_into_or_touched() {
    let Some(ground) = Ground::new() else { return };
    for flags in [&[][..], &["--as-root"]] {
        let said = ground.jail(flags, &["trace", "1"]);
        match yama() {
            0 | 1 => said.expect("ok", &["child", "child memory"]),
            // Yama leaves tracing to those with a capability, which nobody in a jail has.
            _ => said.expect("EPERM", &["child"]),
        }
        for part in
            ["exe", "root", "cwd", "environ", "mem", "maps", "auxv", "fd/0", "fd/3", "ns/user", "ns/mnt"]
        {
            said.expect("EACCES", &[&format!("1 {part}")]);
        }
        said.expect(
            "EACCES",
            &["1 task/1/root", "1 task/1/mem", "1 readlink exe", "1 beside exe", "1 write exe"],
        );
        said.expect("EACCES", &["1 write mem"]);
        said.expect("EPERM", &["1 read memory", "1 write memory", "1 pidfd_getfd", "1 seize", "1 attach"]);
        // A process of the same user that does not hide itself is open to all of it.
        let sleeper = crate::probe::Sleeper::new();
        let outside = ground.outside(&["trace", &sleeper.pid()]).unwrap();
        let open = outside.with(&format!("{} ", sleeper.pid())).filter(|(_, r)| *r == "ok").count();
        if open < 8 {
            skip("this machine lets nobody look into processes (Yama)");
        }
    }
}

/// It is a copy of `aj`, whose command line is the caller's.
#[test]
fn nobody_in_the_jail_shows_the_command_line_of_aj() {
    let Some(ground) = Ground::new() else { return };
    let secret = "hunter2-of-the-caller";
    let variable = format!("WORD={secret}");
    let script =
        "for p in /proc/[0-9]*; do [ $p = /proc/$$ ] || tr '\\0' ' ' <$p/cmdline; done; cat /proc/1/comm";
    for flags in [&["--env", &variable][..], &["--env", &variable, "--as-root"]] {
        let said = crate::probe::run(&mut ground.aj(flags, ["sh", "-c", script]));
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.stdout.starts_with("aj: init ") && said.stdout.ends_with("aj-init\n"), "{said:?}");
        for word in [secret, "--env", "exec", ground.ws.to_str().unwrap()] {
            assert!(!said.stdout.contains(word), "{word}: {said:?}");
        }
    }
}
