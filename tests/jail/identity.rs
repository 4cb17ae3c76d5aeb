//! Who the command is: namespaces, ids, names, descriptors, environment, limits.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::probe::{self, Ground, is_root, run, skip, teeth};

const SPACES: [&str; 7] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"];

fn host_space(name: &str) -> String {
    std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap().to_str().unwrap().to_owned()
}

fn spaces(ground: &Ground, flags: &[&str]) -> BTreeMap<String, String> {
    let script = "for n in user mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done";
    let said = run(&mut ground.aj(flags, ["sh", "-c", script]));
    let links = said.stdout.lines().map(str::to_owned);
    SPACES.iter().map(|s| (*s).to_owned()).zip(links).collect()
}

#[test]
fn every_namespace_is_the_jails_own() {
    let Some(ground) = Ground::new() else { return };
    // Both at once: the kernel gives the number of a namespace that is gone to the next one.
    let script = "for n in user mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done; read end";
    let mut first = ground.aj(&[], ["sh", "-c", script]);
    let mut first = first.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(first.stdout.take().unwrap()).lines().map(Result::unwrap);
    let one: BTreeMap<String, String> = SPACES.iter().map(|s| (*s).to_owned()).zip(lines).collect();
    let two = spaces(&ground, &[]);
    drop(first.stdin.take());
    first.wait().unwrap();
    for name in SPACES {
        assert!(one[name].starts_with(&format!("{name}:[")), "{one:?}");
        assert_ne!(one[name], host_space(name));
        assert_ne!(one[name], two[name], "two jails share a {name} namespace");
    }
    let host = spaces(&ground, &["--net", "host"]);
    assert_eq!(host["net"], host_space("net"), "--net host is the host's network");
    assert_ne!(host["user"], host_space("user"));
}

#[test]
fn ids_are_mapped_to_nobody_special() {
    let Some(ground) = Ground::new() else { return };
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    for (flags, inside) in [(&[][..], 1000), (&["--as-root"][..], 0)] {
        let said = ground.jail(flags, &["ids"]);
        said.expect(&format!("{inside} {inside} {inside}"), &["uid", "gid"]);
        let script = "cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups";
        let maps = run(&mut ground.aj(flags, ["sh", "-c", script])).stdout;
        let maps: Vec<_> = maps.split_whitespace().map(str::to_owned).collect();
        let wanted = if is_root() {
            said.expect("0", &["groups"]);
            ["0 1000000 65536", "0 1000000 65536", "allow"].join(" ")
        } else {
            [format!("{inside} {uid} 1"), format!("{inside} {gid} 1"), "deny".to_owned()].join(" ")
        };
        assert_eq!(maps.join(" "), wanted);
    }
}

/// Seen from outside, while it runs: no process of a jail has the id of root or of anybody else.
#[test]
fn the_host_sees_the_jails_processes_with_unprivileged_ids_and_no_capabilities() {
    let Some(ground) = Ground::new() else { return };
    for flags in [&["--events"][..], &["--events", "--as-root"]] {
        let mut child =
            ground.aj(flags, ["sleep", "10"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let started: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let first = started["pid"].as_i64().unwrap();
        let children = probe::text(format!("/proc/{first}/task/{first}/children")).unwrap_or_default();
        let pids: Vec<String> =
            [first.to_string()].into_iter().chain(children.split_whitespace().map(str::to_owned)).collect();
        let statuses: Vec<_> =
            pids.iter().map(|p| probe::text(format!("/proc/{p}/status")).unwrap_or_default()).collect();
        let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        child.wait().unwrap();
        assert!(statuses.len() >= 2, "{pids:?}");
        for status in statuses {
            let field = |name: &str| {
                let line = status.lines().find_map(|l| l.strip_prefix(&format!("{name}:\t"))).unwrap();
                line.split('\t').map(str::to_owned).collect::<Vec<_>>()
            };
            for id in [field("Uid"), field("Gid")].concat() {
                let id: u32 = id.parse().unwrap();
                if is_root() {
                    assert!((1_000_000..1_065_536).contains(&id), "{status}");
                } else {
                    assert!(id == nix::unistd::getuid().as_raw() || id == nix::unistd::getgid().as_raw());
                }
            }
            assert_eq!(field("CapEff"), ["0000000000000000"]);
            assert_eq!(field("CapPrm"), ["0000000000000000"]);
        }
    }
}

#[test]
fn the_host_name_is_the_jails_and_stays_there() {
    let Some(ground) = Ground::new() else { return };
    let before = nix::unistd::gethostname().unwrap();
    ground.jail(&[], &["bits"]).expect("agentjail", &["hostname"]);
    assert_eq!(nix::unistd::gethostname().unwrap(), before);
    assert_ne!(before, "agentjail");
}

#[test]
fn limits_hold_and_cannot_be_raised() {
    let Some(ground) = Ground::new() else { return };
    let said = ground.jail(&["--pids", "77", "--nofile", "300"], &["bits"]);
    // One more for the jail's pid 1, and another where a control group is to speak first.
    assert!(matches!(said.of("nproc"), "78 78" | "79 79"), "{said:?}");
    said.expect("300 300", &["nofile"]);
    said.expect("0 0", &["core"]);
    said.expect("-1 -1", &["as"]);
    said.expect("yes", &["leader"]);
    ground.jail(&["--as-root"], &["become"]).expect("EPERM", &["rlimit core", "rlimit nproc"]);
}

/// The first descriptor is a way out (CVE-2024-21626): 42 is the host's root directory.
#[test]
fn inherited_descriptors_do_not_reach_the_command() {
    let Some(ground) = Ground::new() else { return };
    let mut wrap = ground.program("./probe");
    wrap.arg("with-fds").arg(crate::common::aj()).args(["exec", "--", "./probe"]);
    let seen = run(wrap.arg("fds"));
    assert_eq!(seen.all().map(|(fd, _)| fd).collect::<Vec<_>>(), ["0", "1", "2"], "{seen:?}");
    let mut wrap = ground.program("./probe");
    wrap.arg("with-fds").arg(crate::common::aj()).args(["exec", "--", "./probe"]);
    let jail = run(wrap.arg("use-fd"));
    jail.expect("EBADF", &["openat", "read", "getsockname", "fchdir"]);
    jail.expect("ENOENT", &["chdir"]);
    let outside = ground.outside(&["with-fds", "./probe", "use-fd"]);
    teeth(&jail, outside, &["openat", "read", "getsockname", "fchdir", "chdir"]);
}

#[test]
fn the_environment_is_an_allow_list() {
    let Some(ground) = Ground::new() else { return };
    let secrets = [
        "SSH_AUTH_SOCK",
        "SSH_AGENT_PID",
        "GPG_AGENT_INFO",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "GITHUB_TOKEN",
        "ANTHROPIC_API_KEY",
        "OPENAI_API_KEY",
        "NPM_TOKEN",
        "DATABASE_URL",
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "LD_AUDIT",
        "GCONV_PATH",
        "PYTHONSTARTUP",
        "NODE_OPTIONS",
        "BASH_ENV",
        "ENV",
        "DBUS_SESSION_BUS_ADDRESS",
        "XDG_RUNTIME_DIR",
        "DISPLAY",
        "WAYLAND_DISPLAY",
        "XAUTHORITY",
        "DOCKER_HOST",
        "KUBECONFIG",
        "VSCODE_IPC_HOOK_CLI",
        "WSL_INTEROP",
        "http_proxy",
        "TMPDIR",
        "BASH_FUNC_ls%%",
        "OLDPWD",
        "SUDO_USER",
        "REQUESTS_CA_BUNDLE",
    ];
    let mut aj = ground.aj(&[], ["./probe", "environ"]);
    for name in secrets {
        aj.env(name, "/tmp/secret-value");
    }
    aj.env("LANG", "C.UTF-8").env("LC_ALL", "C").env("TERM", "dumb");
    let out = run(&mut aj).stdout;
    let names: BTreeSet<&str> = out.lines().filter_map(|l| Some(l.split_once('=')?.0)).collect();
    let fixed =
        ["AGENTJAIL", "GIT_CONFIG_SYSTEM", "HOME", "LOGNAME", "PATH", "PWD", "SHELL", "TMPDIR", "USER"];
    for name in &names {
        let copied = [
            "LANG",
            "LANGUAGE",
            "TERM",
            "COLORTERM",
            "TZ",
            "NO_COLOR",
            "CLICOLOR",
            "CLICOLOR_FORCE",
            "FORCE_COLOR",
        ];
        let terminal = ["CI", "COLUMNS", "LINES"];
        // What the machine itself has set leads to public certificates.
        let trust = ["SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT"];
        let more = ["NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "CARGO_HTTP_CAINFO", "AWS_CA_BUNDLE"];
        let rest = ["NIX_SSL_CERT_FILE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"];
        let known = [&fixed[..], &copied, &terminal, &trust, &more, &rest].iter().any(|l| l.contains(name));
        assert!(known || name.starts_with("LC_"), "`{name}` came in");
    }
    assert!(fixed.iter().all(|f| names.contains(f)), "{out}");
    assert!(!out.contains("secret-value"), "{out}");
    assert!(out.contains("GIT_CONFIG_SYSTEM=/etc/gitconfig\n"), "the jail's own file: {out}");
    assert!(names.contains("LC_ALL") && names.contains("TERM"));
}

#[test]
fn only_the_jails_processes_are_listed_and_pid_1_is_ajs() {
    let Some(ground) = Ground::new() else { return };
    let mut host = probe::Sleeper::new();
    let list = run(&mut ground.aj(&[], ["sh", "-c", "ls /proc; cat /proc/1/comm"])).stdout;
    let pids: Vec<u32> = list.lines().filter_map(|l| l.parse().ok()).collect();
    assert!(pids.contains(&1) && pids.len() <= 4 && pids.iter().all(|p| *p < 10), "{pids:?}");
    assert_eq!(list.lines().last(), Some("aj-init"));
    assert!(host.lives());
    // A mount of proc in the jail's pid namespace, not the host's with names left out.
    let outside = std::fs::read_dir("/proc").unwrap().flatten();
    let outside = outside.filter(|e| e.file_name().to_string_lossy().parse::<u32>().is_ok()).count();
    if outside <= pids.len() {
        skip("this machine has hardly any processes to hide");
    }
}
