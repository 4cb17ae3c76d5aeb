//! Limits that a control group holds, and what is said where none can be had.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::yard::{Running, Said, Yard, eventually, said, skip};

/// What holds a limit of memory on this machine; `None` where nothing can.
pub(super) fn held(yard: &Yard) -> Option<String> {
    holds(yard, &["--mem", "64m"])
}

fn holds(yard: &Yard, options: &[&str]) -> Option<String> {
    let ran = said(&mut yard.exec([&["--dry-run", "--json"], options].concat(), ["true"]));
    if ran.fate == 0 {
        return Some(json(&ran)["limits"]["by"].as_str().unwrap().to_owned());
    }
    // The only good reason.
    assert!(ran.err.contains("cannot be enforced here: it needs a cgroup"), "{ran:?}");
    skip(ran.err.lines().next().unwrap_or_default());
    None
}

#[track_caller]
fn json(ran: &Said) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"))
}

/// Groups of the jails that the process `aj` made.
pub(super) fn groups(aj: i32) -> Vec<PathBuf> {
    fn walk(dir: &std::path::Path, depth: u32, end: &str, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|t| t.is_dir()) {
                continue;
            }
            let name = entry.file_name();
            if name.to_str().is_some_and(|n| n.starts_with("aj-jl-") && n.ends_with(end)) {
                into.push(entry.path());
            } else if depth > 0 {
                walk(&entry.path(), depth - 1, end, into);
            }
        }
    }
    let mut found = Vec::new();
    walk("/sys/fs/cgroup".as_ref(), 8, &format!(".{aj}"), &mut found);
    found
}

#[test]
fn memory_is_held_however_it_is_used() {
    let Some(yard) = Yard::new() else { return };
    let Some(by) = held(&yard) else { return };
    let hows = ["anon", "shared", "tmp", "shm", "memfd"];
    // Teeth: without a limit the same programs have it all. Together, because each waits a while.
    let free: Vec<_> = hows
        .map(|how| {
            let mut aj = yard.exec(["--tmp", "1g"], ["./life", "memory", how, "100"]);
            Running::start(aj.stdout(Stdio::null()).stderr(Stdio::inherit()))
        })
        .into();
    for how in hows {
        let mut aj = yard.exec(["--mem", "48m", "--tmp", "1g", "--json"], ["./life", "memory", how, "100"]);
        let ran = said(&mut aj);
        let json = json(&ran);
        assert_eq!(ran.fate, 137, "{how}: {ran:?}");
        assert_eq!(
            (&json["oom_killed"], &json["killed_by"], &json["exit_code"], &json["timed_out"]),
            (&true.into(), &"memory".into(), &137.into(), &false.into()),
            "{how}"
        );
        assert_eq!(
            (&json["policy"]["limits_by"], &json["policy"]["mem"]),
            (&by.as_str().into(), &(48 << 20).into())
        );
        let peak = json["stats"]["peak_memory"].as_u64().unwrap();
        assert!((24 << 20..=48 << 20).contains(&peak), "{how}: {peak}");
    }
    let ran = said(&mut yard.exec(["--mem", "48m", "--tmp", "1g"], ["./life", "memory", "tmp", "100"]));
    assert!(ran.fate == 137 && ran.err.contains("than its limit of 48 MiB (most "), "{ran:?}");
    assert!(ran.err.contains(&by) && ran.err.lines().count() == 1, "{ran:?}");
    for (mut running, how) in free.into_iter().zip(hows) {
        assert!(running.end().success(), "{how}");
    }
    // The ledger says the same.
    let list = said(&mut yard.sh("\"$AJ\" jail list --status oom -q | wc -l"));
    assert_eq!(list.out.trim(), "6", "{list:?}");
    let show =
        said(&mut yard.sh("\"$AJ\" jail show \"$(\"$AJ\" jail list --status oom -q | head -1)\" --json"));
    let show = json(&show);
    assert_eq!((&show["policy"]["mem"], &show["status"]), (&(48 << 20).into(), &"oom".into()));
    assert!(show["usage"]["peak_memory"].as_u64().unwrap() > 24 << 20, "{show}");
}

#[test]
fn the_page_cache_is_counted_and_given_back_not_killed_for() {
    let Some(yard) = Yard::new() else { return };
    if held(&yard).is_none() {
        return;
    }
    let script = "head -c 150M /dev/zero > big && cat big big > /dev/null && rm big";
    let ran = said(&mut yard.exec(["--mem", "48m", "--json"], ["sh", "-c", script]));
    let json = json(&ran);
    assert_eq!(ran.fate, 0, "{ran:?}");
    let peak = json["stats"]["peak_memory"].as_u64().unwrap();
    assert!((24 << 20..=48 << 20).contains(&peak), "{peak}");
}

#[test]
fn the_whole_jail_goes_when_memory_runs_out_in_one_process() {
    let Some(yard) = Yard::new() else { return };
    if held(&yard).is_none() {
        return;
    }
    let start = Instant::now();
    let script = "./life memory anon 400; ./life sleep 60";
    let ran = said(&mut yard.exec(["--mem", "48m"], ["sh", "-c", script]));
    assert_eq!(ran.fate, 137, "{ran:?}");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    // However the rest of it ends: half a jail has not done what it was asked to.
    let ran = said(&mut yard.exec(["--mem", "48m"], ["sh", "-c", "./life memory anon 400; exit 0"]));
    assert_eq!(ran.fate, 137, "{ran:?}");
}

#[test]
fn a_timeout_is_not_called_out_of_memory() {
    let Some(yard) = Yard::new() else { return };
    if held(&yard).is_none() {
        return;
    }
    let options = ["--mem", "64m", "--timeout", "300ms", "--json"];
    let ran = said(&mut yard.exec(options, ["./life", "sleep", "60"]));
    let json = json(&ran);
    assert_eq!((ran.fate, &json["oom_killed"], &json["timed_out"]), (124, &false.into(), &true.into()));
    let ran = said(&mut yard.exec(["--mem", "64m", "--json"], ["./life", "raise", "9"]));
    assert_eq!((ran.fate, &self::json(&ran)["oom_killed"]), (137, &false.into()), "{ran:?}");
}

#[test]
fn processors_are_given_out_by_the_share_that_was_asked_for() {
    let Some(yard) = Yard::new() else { return };
    if holds(&yard, &["--cpus", "0.2"]).is_none() {
        return;
    }
    let spent = |options: &[&str]| {
        let all = [options, &["--timeout", "1500ms", "--grace", "0s", "--json"]].concat();
        let ran = said(&mut yard.exec(all, ["sh", "-c", "while :; do :; done & while :; do :; done"]));
        assert_eq!(ran.fate, 124, "{ran:?}");
        let stats = &json(&ran)["stats"];
        stats["user_ms"].as_u64().unwrap() + stats["system_ms"].as_u64().unwrap()
    };
    let (limited, free) = (spent(&["--cpus", "0.2"]), spent(&[]));
    // 300 ms, and what a period may be overdrawn by.
    assert!(limited < 500, "{limited} ms");
    assert!(free > limited + 100, "{free} ms against {limited} ms");
}

#[test]
fn a_refused_fork_is_told_and_is_no_crash() {
    let Some(yard) = Yard::new() else { return };
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do ./life sleep 2 & done; wait";
    let ran = said(&mut yard.exec(["--pids", "8", "--json"], ["sh", "-c", script]));
    let json = json(&ran);
    assert!(ran.fate > 0 && ran.fate < 125, "{ran:?}");
    assert_eq!((&json["oom_killed"], &json["killed_by"]), (&false.into(), &Value::Null));
    assert!(
        ran.err.contains("limit of 8 processes and threads") && ran.err.contains("--pids N"),
        "{}",
        ran.err
    );
    let ran = said(&mut yard.exec(["--pids", "8"], ["true"]));
    assert_eq!((ran.fate, ran.err.as_str()), (0, ""));
}

#[test]
fn as_many_processes_as_the_kernel_has_numbers_for_can_be_asked_for() {
    let Some(yard) = Yard::new() else { return };
    let ran = said(&mut yard.exec(["--pids", "4194304"], ["true"]));
    assert_eq!((ran.fate, &*ran.err), (0, ""));
    let ran = said(&mut yard.exec(["--pids", "4194305"], ["true"]));
    assert!(ran.fate == 125 && ran.err.contains("is more than 4194304"), "{ran:?}");
}

#[test]
fn a_limit_that_no_program_starts_with_is_called_so() {
    let Some(yard) = Yard::new() else { return };
    let Some(_) = held(&yard) else { return };
    let ran = said(&mut yard.exec(["--mem", "1"], ["true"]));
    assert!(ran.fate != 0 && ran.err.contains("no program starts with so little"), "{ran:?}");
}

/// Where no group counts them, what is said of one tells: on stderr, on stdout with it, on a terminal.
#[test]
fn a_refused_fork_is_told_wherever_its_message_went() {
    let Some(yard) = Yard::new() else { return };
    let script = |say: &str| format!("echo 'sh: 1: Cannot fork' {say}; exit 2");
    for say in ["", ">&2"] {
        let ran = said(&mut yard.aj(["sh", "-c", &script(say)]));
        assert!(ran.fate == 2 && ran.err.contains("--pids N"), "{say:?}: {ran:?}");
    }
    let mut term = crate::term::Term::new();
    let mut aj = term.start(&mut yard.aj(["sh", "-c", &script("")]));
    assert_eq!(term.end(&mut aj), 2);
    let rest = term.rest();
    assert!(rest.contains("--pids N"), "{rest}");
    // Teeth: of data it is not believed, nor of a command that went well.
    let ran = said(&mut yard.aj(["sh", "-c", "echo EAGAIN; exit 2"]));
    assert_eq!((ran.fate, &*ran.err), (2, ""));
    let ran = said(&mut yard.aj(["sh", "-c", "echo Cannot fork >&2"]));
    assert_eq!((ran.fate, &*ran.err), (0, "Cannot fork\n"));
}

#[test]
fn a_plain_run_makes_no_group_and_one_with_a_limit_removes_its_own() {
    let Some(yard) = Yard::new() else { return };
    let Some(_) = held(&yard) else { return };
    for (options, wanted) in [(&[][..], false), (&["--mem", "64m"], true)] {
        let mut aj = yard.exec(options.iter().copied(), ["./life", "ready", "60"]);
        let mut running = Running::start(aj.stdout(Stdio::piped()).stderr(Stdio::null()));
        running.first_line();
        assert_eq!(!groups(running.pid()).is_empty(), wanted, "{options:?}");
        running.signal(Signal::SIGTERM);
        running.end();
        assert_eq!(groups(running.pid()), [] as [PathBuf; 0], "{options:?}");
    }
}

#[test]
fn what_a_killed_run_leaves_is_swept() {
    let Some(yard) = Yard::new() else { return };
    let Some(_) = held(&yard) else { return };
    for sweeper in ["\"$AJ\" jail list -q", "\"$AJ\" exec --mem 64m -- sleep 0.1"] {
        let mut aj = yard.exec(["--mem", "64m"], ["./life", "ready", "60"]);
        let mut running = Running::start(aj.stdout(Stdio::piped()).stderr(Stdio::null()));
        running.first_line();
        let pid = running.pid();
        running.signal(Signal::SIGKILL);
        running.end();
        assert_eq!(groups(pid).len(), 1, "nothing was left to be swept");
        let gone = || {
            assert_eq!(said(&mut yard.sh(sweeper)).fate, 0);
            groups(pid).is_empty()
        };
        // Its processes may take a moment.
        assert!(eventually(Duration::from_secs(3), gone), "{sweeper}: {:?}", groups(pid));
    }
}

#[test]
fn reading_is_held_to_its_rate() {
    let Some(yard) = Yard::new() else { return };
    if holds(&yard, &["--io-read", "1m"]).is_none() {
        return;
    }
    std::fs::write(yard.ws.join("big"), vec![7; 4 << 20]).unwrap();
    said(&mut yard.sh("sync big"));
    let took = |options: &[&str]| {
        let dd = ["dd", "if=big", "of=/dev/null", "bs=64k", "count=48", "iflag=direct"];
        let start = Instant::now();
        let ran = said(&mut yard.exec(options.iter().copied(), dd));
        (ran.fate == 0).then(|| start.elapsed())
    };
    let Some(free) = took(&[]) else { return skip("no direct reads here") };
    let limited = took(&["--io-read", "1m"]).unwrap();
    assert!(limited > Duration::from_millis(1500) && limited > free * 2, "{limited:?} against {free:?}");
}

#[test]
fn what_is_written_to_disk_is_watched_and_the_jail_killed_for_it() {
    let Some(yard) = Yard::new() else { return };
    let script = "head -c 100M /dev/zero > big; ./life sleep 3; echo done";
    let ran = said(&mut yard.exec(["--disk", "20m", "--json"], ["sh", "-c", script]));
    let found = json(&ran);
    assert_eq!(
        (ran.fate, &found["killed_by"], &found["policy"]["disk_by"]),
        (137, &"disk".into(), &"watched".into())
    );
    assert_eq!(found["oom_killed"], false);
    let show = said(&mut yard.sh("\"$AJ\" jail show @ --json"));
    assert_eq!(json(&show)["killed_for"], "disk");
    let ran = said(&mut yard.exec(["--disk", "20m"], ["sh", "-c", script]));
    assert!(ran.fate == 137 && ran.err.contains("more to disk than its limit of 20 MiB"), "{ran:?}");
    // Teeth: with room it is not.
    let ran = said(&mut yard.exec(["--disk", "1g"], ["sh", "-c", script]));
    assert_eq!((ran.fate, ran.out.as_str()), (0, "done\n"), "{ran:?}");
    // What is written to the host itself cannot be told from what is there.
    let ran = said(&mut yard.exec(["--disk", "1g", "--rw"], ["true"]));
    assert!(ran.fate == 125 && ran.err.contains("`--disk` cannot be enforced here"), "{ran:?}");
}

/// A machine whose cgroup v2 has no controllers still shows how a jail is born in a group of it.
#[test]
fn a_jail_is_born_in_its_group_of_cgroup_v2_and_the_group_goes_with_it() {
    let Some(yard) = Yard::new() else { return };
    let script = "cat /proc/self/cgroup; ./life ready 60";
    let mut aj = yard.aj(["sh", "-c", script]);
    aj.env("AJ_TEST_WAYS", "core-group");
    let mut running = Running::start(aj.stdout(Stdio::piped()).stderr(Stdio::null()));
    let (first, mut rest) = running.first_line();
    let mut lines = first;
    while !lines.contains("ready") {
        assert!(std::io::BufRead::read_line(&mut rest, &mut lines).unwrap() > 0, "{lines}");
    }
    let made = groups(running.pid());
    if made.is_empty() {
        return skip("no group of cgroup v2 can be made here");
    }
    // Its cgroup namespace begins there.
    assert!(lines.lines().any(|l| l == "0::/"), "{lines}");
    let inside = std::fs::read_to_string(made[0].join("cgroup.procs")).unwrap();
    assert!(inside.lines().count() >= 3, "{inside}");
    running.signal(Signal::SIGTERM);
    running.end();
    assert_eq!(groups(running.pid()), [] as [PathBuf; 0]);
}

#[test]
fn a_tree_too_large_for_one_look_is_measured_all_the_same() {
    let Some(yard) = Yard::new() else { return };
    let script = "./life names 40000; head -c 200M /dev/zero > zz; ./life sleep 20";
    let start = Instant::now();
    let ran = said(&mut yard.exec(["--disk", "60m", "--json"], ["sh", "-c", script]));
    assert_eq!((ran.fate, &json(&ran)["killed_by"]), (137, &"disk".into()), "{:?}", start.elapsed());
}

#[test]
fn what_was_written_faster_than_anybody_looked_is_told() {
    let Some(yard) = Yard::new() else { return };
    let ran = said(&mut yard.exec(["--disk", "10m"], ["fallocate", "-l", "64M", "big"]));
    if ran.fate == 0 {
        assert!(ran.err.contains("64 MiB were written to disk, more than the limit of 10 MiB"), "{ran:?}");
    } else {
        assert!(ran.fate == 137 && ran.err.contains("more to disk than its limit of 10 MiB"), "{ran:?}");
    }
    let ran = said(&mut yard.exec(["--disk", "100m"], ["fallocate", "-l", "64M", "big"]));
    assert!(ran.fate == 0 && !ran.err.contains("written to disk"), "{ran:?}");
}

#[test]
fn a_tree_on_no_disk_is_not_said_to_want_a_cgroup() {
    let Some(yard) = Yard::new() else { return };
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let root = ["--root-dir", dir.path().to_str().unwrap(), "--io-read", "1m"];
    let ran = said(&mut yard.exec(root, ["true"]));
    assert!(ran.fate == 125 && ran.err.contains("here: `/dev/shm/"), "{ran:?}");
    assert!(ran.err.contains("is on no disk of its own") && !ran.err.contains("cgroup"), "{ran:?}");
}

#[test]
fn buffers_of_sockets_are_memory() {
    let Some(yard) = Yard::new() else { return };
    if held(&yard).is_none() {
        return;
    }
    let ran = said(&mut yard.exec(["--mem", "64m"], ["./life", "sockets", "60"]));
    let queued: i64 = ran.out.trim().rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    assert!(ran.fate == 137 || ran.fate == 0 && queued < 160 << 20, "{ran:?}");
    // Teeth: without a limit they take more.
    let ran = said(&mut yard.exec([""; 0], ["./life", "sockets", "60"]));
    let queued: i64 = ran.out.trim().rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    if queued < 160 << 20 {
        skip("sockets of this machine take little");
    }
}

#[test]
fn memory_that_runs_out_in_a_group_above_is_not_the_jails_own_limit() {
    let Some(yard) = Yard::new() else { return };
    let above = std::path::Path::new("/sys/fs/cgroup/memory").join(format!("aj-test-{}", std::process::id()));
    if held(&yard).as_deref() != Some("cgroup1") || std::fs::create_dir(&above).is_err() {
        return skip("no cgroup v1 to make a group in");
    }
    std::fs::write(above.join("memory.limit_in_bytes"), "150M").unwrap();
    let enter = format!("echo $$ > {}/cgroup.procs; exec ", above.display());
    let mut jail = yard.sh(&format!("{enter} \"$AJ\" exec --mem 140m -- ./life sleep 30"));
    let jail = jail.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let group = || std::fs::read_dir(&above).unwrap().flatten().any(|e| e.path().is_dir());
    assert!(eventually(Duration::from_secs(10), group));
    std::thread::sleep(Duration::from_millis(500));
    let hog = said(&mut yard.sh(&format!("sh -c '{enter} ./life memory anon 400'")));
    // Nobody in the jail has used much: whom the kernel takes is the one that has.
    std::thread::sleep(Duration::from_millis(300));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(jail.id() as i32), Signal::SIGTERM).ok();
    let jail = jail.wait_with_output().unwrap();
    std::fs::remove_dir(&above).ok();
    let err = String::from_utf8_lossy(&jail.stderr);
    assert!(hog.fate == 137 && jail.status.code() != Some(137), "{hog:?} {jail:?}");
    assert!(!err.contains("memory"), "{err}");
}

#[test]
fn a_jail_is_in_its_groups_and_aj_is_where_it_was() {
    let Some(yard) = Yard::new() else { return };
    if held(&yard).is_none() {
        return;
    }
    // One that pid 1 is born into, and one that it is moved into.
    for mem in ["64m", "8m"] {
        let mark = crate::yard::mark();
        let mut aj = yard.exec(["--mem", mem, "--pids", "20"], ["./life", "sleep", "30", &mark]);
        let mut running = Running::start(aj.stdout(Stdio::null()).stderr(Stdio::null()));
        let inside = || {
            let groups = groups(running.pid());
            let count = |g: &PathBuf| std::fs::read_to_string(g.join("cgroup.procs")).unwrap_or_default();
            !groups.is_empty() && groups.iter().all(|g| count(g).lines().count() == 2)
        };
        assert!(eventually(Duration::from_secs(10), inside), "{mem}: {:?}", groups(running.pid()));
        let of = |who: &str| std::fs::read_to_string(format!("/proc/{who}/cgroup")).unwrap();
        // It steps in for a moment, so that pid 1 is born there.
        let back = || of(&running.pid().to_string()) == of("self");
        assert!(eventually(Duration::from_secs(10), back), "{mem}: {}", of(&running.pid().to_string()));
        assert!(eventually(Duration::from_secs(10), inside), "{mem}: {:?}", groups(running.pid()));
        // Before it takes signals over one ends it like any program, and the next run sweeps.
        let blocked = || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
            let mask = status.lines().find_map(|l| l.strip_prefix("SigBlk:")).unwrap().trim();
            u64::from_str_radix(mask, 16).unwrap() & (1 << (Signal::SIGTERM as i32 - 1)) != 0
        };
        assert!(eventually(Duration::from_secs(10), blocked), "{mem}");
        running.signal(Signal::SIGTERM);
        let ended = running.end();
        assert!(groups(running.pid()).is_empty(), "{mem}: {ended:?}");
    }
}
