//! What a program asks the system about: who, where, when, how much.

use std::path::Path;

use super::project::{Project, has};

#[test]
fn the_user_the_host_and_the_root_are_the_jails() {
    let p = Project::new();
    let said = p.inside("whoami; id -un; hostname; getent hosts $(hostname) | wc -l; echo ~; ls -ld ~ | cut -c1-10; ls / | tr '\\n' ' '; echo; pwd; readlink /workspace");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..6], ["agent", "agent", "agentjail", "1", "/home/agent", "drwxr-xr-x"], "{said}");
    assert_eq!(lines[7], p.dir().to_str().unwrap());
    assert_eq!(lines[8], p.dir().to_str().unwrap());
    for name in lines[6].split_whitespace() {
        let known = [
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
        ];
        let ours = p.dir().components().nth(1).unwrap().as_os_str().to_str().unwrap();
        assert!(known.contains(&name) || name == ours, "/{name}");
    }
}

#[test]
fn processes_shown_are_the_jails_alone() {
    if !has("ps") {
        return;
    }
    let p = Project::new();
    let said = p.inside("ps -eo pid= | wc -l; ps -eo pid= | sort -n | head -1 | tr -d ' '; pgrep -c sleep; sleep 9 & until pgrep sleep >/dev/null; do :; done; pgrep -c sleep; pkill sleep; ls -d /proc/[0-9]* | wc -l");
    let lines: Vec<u32> = said.lines().map(|l| l.trim().parse().unwrap()).collect();
    assert!(lines[0] < 8 && lines[1] == 1 && lines[2] == 0 && lines[3] == 1 && lines[4] < 8, "{said}");
}

#[test]
fn language_time_and_processors_are_the_hosts() {
    let p = Project::new();
    p.same("nproc; date +%Z%z; date -d '2026-07-01 12:00 UTC' +%H; TZ=America/New_York date -d @0 +%H%Z; locale -a | sort; locale charmap; uname -rm; getconf _NPROCESSORS_ONLN PAGESIZE; printf '%s\\n' é | LC_ALL=C.UTF-8 wc -m; tput -T xterm colors");
    // A zone of the caller's comes along; a language too.
    let mut command = p.command(crate::common::aj());
    command.env("TZ", "Asia/Tokyo").env("LC_TIME", "C").args([
        "exec",
        "--",
        "sh",
        "-c",
        "date -d @0 +%H; echo $LC_TIME",
    ]);
    let out = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "09\nC\n", "{out:?}");
}

#[test]
fn places_that_programs_expect_are_there() {
    let p = Project::new();
    let said = p.inside(
        "for d in /tmp /var/tmp /dev/shm; do stat -c '%n %a' $d; echo x > $d/x && rm $d/x; done; [ -w $HOME ] && echo home; mkdir -p ~/.cache/x ~/.config && echo dirs; \
         for f in /etc/passwd /etc/group /etc/hosts /etc/nsswitch.conf /etc/localtime /etc/ld.so.cache /etc/ssl/certs /dev/null /dev/tty /dev/ptmx /dev/fd /proc/self/exe /etc/mtab /etc/os-release; do [ -e $f ] || echo missing $f; done; \
         echo x > /dev/null; head -c 3 /dev/zero | od -An -tx1; head -c 8 /dev/urandom | wc -c; echo full > /dev/full; echo $?; umask; for t in sh env perl awk; do command -v $t >/dev/null || echo no $t; done; \
         readlink -e /etc/alternatives/awk >/dev/null || echo alternatives; echo 500 > /proc/self/oom_score_adj && cat /proc/self/oom_score_adj; cat /proc/cpuinfo /proc/meminfo /proc/loadavg /proc/uptime /proc/stat | wc -l | awk '{ print ($1 > 10) }'",
    );
    assert_eq!(
        said, "/tmp 1777\n/var/tmp 1777\n/dev/shm 1777\nhome\ndirs\n 00 00 00\n8\n1\n0022\n500\n1\n",
        "{said}"
    );
}

#[test]
fn a_name_service_answers_for_what_exists_and_only_that() {
    let p = Project::new();
    p.inside("getent passwd agent && getent passwd 1000 && getent group agent && getent services http && getent protocols tcp && ! getent passwd no-such && getent hosts localhost");
    assert!(Path::new("/etc").is_dir());
}

/// A program that brings its own sandbox needs what a jail refuses by default. Asked for by name, it
/// gets namespaces, mounts and a fresh proc, and the outer jail holds all the same.
#[test]
fn a_sandbox_in_a_jail_works_when_asked_for() {
    if !has("bwrap") {
        return;
    }
    let p = Project::new();
    p.write("file", "host ");
    let inner = "bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev";
    let refused = p.aj(["exec", "--", "sh", "-c", &format!("{inner} true")]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let jailed = p.aj([
        "exec",
        "--nested-userns",
        "--",
        "sh",
        "-c",
        &format!(
            "{inner} sh -c 'cat file; ls -d /proc/[0-9]* | wc -l; echo x > file; umount /usr; ls /root'"
        ),
    ]);
    let processes = jailed.stdout.strip_prefix("host ").unwrap_or_else(|| panic!("{jailed:?}"));
    let processes: u32 = processes.trim().parse().unwrap();
    assert!(processes < 6, "{jailed:?}");
    for said in ["Read-only file system", "umount: /usr", "ls: cannot"] {
        assert!(jailed.stderr.contains(said), "{said}: {jailed:?}");
    }
    assert_eq!(p.outside("cat file"), "host ");
}
