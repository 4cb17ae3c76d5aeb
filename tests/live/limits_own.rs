//! Limits that one command has for itself in a live jail.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::Shared;
use crate::yard::{Running, assert_gone, eventually, mark, marked, number, said, skip};

const SOON: Duration = Duration::from_secs(8);
/// All that a command may have of its own.
const ALL: [&str; 6] = ["--mem", "64M", "--cpus", "0.5", "--pids", "20"];

/// A workspace whose jail lives as long as the second one, which answers each line that it is sent. `None`, with the
/// reason printed, where no command can have limits of its own: then it is refused, with the way out.
fn live(settings: &[&str]) -> Option<(Shared, Running)> {
    // Limits of the jail that nothing can hold are no reason for it not to start.
    let lenient: &[&str] = if settings.is_empty() { &[] } else { &["--best-effort"] };
    let shared = Shared::new(&[settings, lenient].concat())?;
    let mut other = shared.exec(&[], ["sh", "-c", "echo up; while read x; do echo $x; done"]);
    other.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut other = Running::start(&mut other);
    let (first, out) = other.first_line();
    assert_eq!(first, "up");
    other.0.stdout = Some(out.into_inner());
    let ran = said(&mut shared.exec(&ALL, ["true"]));
    if ran.fate == 0 && !ran.err.contains("is not enforced") {
        return Some((shared, other));
    }
    if !lenient.is_empty() {
        skip(ran.err.lines().next().unwrap_or_default());
        return None;
    }
    // The only good reason.
    let told = ran
        .err
        .contains("cannot be held for one command in the live jail of workspace `api`: it needs a cgroup");
    assert!(ran.fate == 125 && told && ran.err.contains("aj exec --isolated api"), "{ran:#?}");
    assert!(said(&mut shared.exec(&[], ["true"])).fate == 0, "one that asks for nothing runs");
    // Somebody may do without; nothing is pretended.
    let ran = said(&mut shared.exec(&[&["--best-effort"], &ALL[..]].concat(), ["true"]));
    assert!(ran.fate == 0 && ran.err.contains("`--mem` is not enforced for this command"), "{ran:#?}");
    what_a_project_wants_is_no_reason_to_fail(&shared);
    skip(ran.err.lines().next().unwrap_or_default());
    None
}

/// Where no group can be had.
fn what_a_project_wants_is_no_reason_to_fail(shared: &Shared) {
    let file = shared.yard.ws.join("aj.toml");
    std::fs::write(&file, "[jail]\nmem = \"64M\"\npids = 20\n").unwrap();
    let ran = said(&mut shared.exec(&[], ["true"]));
    let told =
        |key: &str| ran.err.contains(&format!("`{key}` (aj.toml:")) && ran.err.contains("is not enforced");
    assert!(ran.fate == 0 && told("mem") && told("pids"), "{ran:#?}");
    let ran = said(&mut shared.exec(&["--mem", "80M"], ["true"]));
    assert_eq!(ran.fate, 125, "{ran:#?}");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn what_the_jail_does_without_is_not_taken_for_held() {
    let Some(shared) = Shared::new(&[]) else { return };
    let mut first = shared.exec(&["--cpus", "0.5", "--best-effort"], ["sh", "-c", "echo up; read x"]);
    let mut first = Running::start(first.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    assert_eq!(first.first_line().0, "up");
    let ran = said(&mut shared.exec(&["--cpus", "0.5", "--json"], ["true"]));
    let held = ran.fate == 0 && json(&ran.out)["policy"]["cpu_millis"] == 500;
    assert!(held || ran.fate == 125 && ran.err.contains("`--cpus` cannot be held"), "{ran:#?}");
    let ran = said(&mut shared.exec(&["--cpus", "0.5", "--best-effort"], ["true"]));
    assert_eq!(ran.fate, 0, "{ran:#?}");
    drop(first.0.stdin.take());
    first.end();
}

/// Whether the other command is still there and answers.
#[track_caller]
fn answers(other: &mut Running) {
    use std::io::{BufRead, BufReader, Write};
    other.0.stdin.as_mut().unwrap().write_all(b"there\n").unwrap();
    let mut line = String::new();
    BufReader::new(other.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "there\n");
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Groups of live jails of this holder, with what lies below them.
fn groups(holder: i32) -> BTreeSet<PathBuf> {
    let end = format!(".{holder}");
    walk("/sys/fs/cgroup".as_ref(), &|path| path.ancestors().any(|p| p.to_string_lossy().ends_with(&end)))
}

/// Groups of the command that this `aj` runs.
fn groups_of(aj: i32) -> BTreeSet<PathBuf> {
    walk("/sys/fs/cgroup".as_ref(), &|path| path.to_string_lossy().ends_with(&format!(".{aj}")))
}

fn walk(dir: &Path, is: &dyn Fn(&Path) -> bool) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            let path = entry.path();
            found.extend(walk(&path, is));
            if path.to_string_lossy().contains("/aj-jl-") && is(&path) {
                found.insert(path);
            }
        }
    }
    found
}

fn processes(group: &Path) -> usize {
    std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines().count()
}

#[test]
fn memory_that_one_command_may_not_have_ends_it_alone() {
    let Some((shared, mut other)) = live(&[]) else { return };
    for how in ["anon", "shm"] {
        let options = ["--mem", "64M", "--json"];
        let ran = said(&mut shared.exec(&options, ["./life", "memory", how, "300"]));
        let told = json(&ran.out);
        assert_eq!((ran.fate, &told["oom_killed"]), (137, &true.into()), "{how}: {ran:#?}");
        let peak = told["stats"]["peak_memory"].as_u64();
        // What is being killed may have a few pages more, for its last moments.
        assert!(peak.is_some_and(|p| (32 << 20..65 << 20).contains(&p)), "{how}: {told:#}");
        assert_eq!(told["policy"]["mem"], 64 << 20, "{told:#}");
        answers(&mut other);
    }
    let ran = said(&mut shared.exec(&["--mem", "64M"], ["./life", "memory", "anon", "300"]));
    assert!(ran.err.contains("more memory than its limit of 64 MiB"), "{ran:#?}");
    // All of it goes, and not only the process that the kernel chose.
    let mark = mark();
    let script =
        format!("(while :; do sleep 0.05; done; : {mark}) & ./life memory anon 300; sleep 60; : {mark}");
    let ran = said(&mut shared.exec(&["--mem", "64M"], ["sh", "-c", &script]));
    assert_eq!(ran.fate, 137, "{ran:#?}");
    assert_gone(&mark, SOON);
    // Teeth: a neighbour may have it.
    let ran = said(&mut shared.exec(&[], ["./life", "memory", "anon", "150"]));
    assert_eq!((ran.fate, ran.number("mib")), (0, 150), "{ran:#?}");
    answers(&mut other);
}

#[test]
fn a_fork_bomb_in_one_command_leaves_the_others_room() {
    let Some((shared, mut other)) = live(&[]) else { return };
    let ran = said(&mut shared.exec(&["--pids", "20"], ["./life", "bomb", "2000"]));
    assert_eq!(ran.number("errno"), i64::from(nix::libc::EAGAIN), "{ran:#?}");
    assert!((15..=20).contains(&ran.number("children")), "{ran:#?}");
    let mark = mark();
    let mut bombs = shared.exec(&["--pids", "20"], ["./life", "bombs", &mark]);
    let mut bombs = Running::start(bombs.stdout(Stdio::piped()).stderr(Stdio::null()));
    assert_eq!(bombs.first_line().0, "ready");
    let ran = said(&mut shared.exec(&[], ["./life", "bomb", "100"]));
    assert_eq!(ran.number("children"), 100, "{ran:#?}");
    answers(&mut other);
    bombs.signal(Signal::SIGKILL);
    bombs.end();
    assert_gone(&mark, SOON);
    answers(&mut other);
    let ran =
        said(&mut shared.exec(&["--pids", "5"], ["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done"]));
    assert!(ran.err.contains("at the limit of 5 processes"), "{ran:#?}");
}

#[test]
fn processors_are_shared_out_to_one_command() {
    let Some((shared, _other)) = live(&[]) else { return };
    let spin = ["timeout", "2", "sh", "-c", "while :; do :; done"];
    // Of a thousand.
    let share = |options: &[&str]| {
        let ran = said(&mut shared.exec(&[&["--json"], options].concat(), spin));
        let told = &json(&ran.out)["stats"];
        let ms = |name: &str| told[name].as_u64().unwrap();
        (ms("user_ms") + ms("system_ms")) * 1000 / ms("wall_ms")
    };
    let (less, free) = (share(&["--cpus", "0.2"]), share(&[]));
    assert!(less < 350, "{less} of 1000 at 0.2");
    if free < 400 {
        skip(format!("{free} of 1000 is all that a processor of this machine gives without a limit"));
    }
}

#[test]
fn the_limit_of_the_jail_holds_all_the_same() {
    let Some((shared, mut other)) = live(&["--mem", "128M", "--pids", "60"]) else { return };
    let ran = said(&mut shared.exec(&["--mem", "64M", "--json"], ["./life", "memory", "anon", "100"]));
    let told = json(&ran.out);
    assert_eq!(
        (ran.fate, &told["oom_killed"], &told["policy"]["mem"]),
        (137, &true.into(), &(64 << 20).into())
    );
    answers(&mut other);
    // More is a number.
    let ran = said(&mut shared.exec(&["--pids", "500", "--mem", "1G"], ["./life", "bomb", "2000"]));
    assert!(ran.number("children") <= 60, "{ran:#?}");
    assert!(ran.err.contains("`--pids`: the limit of the workspace's jail holds, which is 60"), "{ran:#?}");
    assert!(
        ran.err.contains("`--mem`: the limit of the workspace's jail holds, which is 128 MiB"),
        "{ran:#?}"
    );
    // Two of them are together over what neither is.
    let mut one =
        shared.exec(&["--mem", "100M"], ["sh", "-c", "head -c 80M /dev/zero > /tmp/a; echo full; sleep 60"]);
    let mut one = Running::start(one.stdout(Stdio::piped()).stderr(Stdio::piped()));
    assert_eq!(one.first_line().0, "full");
    let ran = said(&mut shared.exec(&["--mem", "100M"], ["./life", "memory", "anon", "90"]));
    assert_ne!(ran.fate, 0, "{ran:#?}");
    assert_eq!(other.end().code(), Some(137), "half a jail is none");
    let shown = json(&said(&mut shared.aj(&["jail", "list", "--json"])).out);
    let of_live = shown["jails"].as_array().unwrap().iter().find(|j| j["kind"] == "live").unwrap();
    assert_eq!(of_live["status"], "oom", "{shown:#}");
}

#[test]
fn one_that_ran_out_alone_does_not_make_the_jail_one_that_did() {
    let Some((shared, mut other)) = live(&["--mem", "256M"]) else { return };
    let ran = said(&mut shared.exec(&["--mem", "32M"], ["./life", "memory", "anon", "100"]));
    assert_eq!(ran.fate, 137, "{ran:#?}");
    answers(&mut other);
    drop(other.0.stdin.take());
    assert_eq!(other.end().code(), Some(0));
    assert!(shared.ends(SOON));
    let shown = json(&said(&mut shared.aj(&["jail", "list", "--json"])).out);
    let of_live = shown["jails"].as_array().unwrap().iter().find(|j| j["kind"] == "live").unwrap();
    assert_eq!(of_live["status"], "exited", "{shown:#}");
}

#[test]
fn what_it_leaves_behind_stays_in_its_group_and_the_group_goes_with_the_jail() {
    let Some((shared, mut other)) = live(&[]) else { return };
    let holder = shared.holder();
    assert!(groups(holder).iter().all(|g| processes(g) == 0), "what was tried is gone");
    let mark = mark();
    let script = format!("(while :; do sleep 0.1; done; : {mark}) > /dev/null 2>&1 & echo $PPID");
    let ran = said(&mut shared.exec(&["--pids", "20", "--mem", "64M"], ["sh", "-c", &script]));
    assert_eq!(ran.fate, 0, "{ran:#?}");
    std::thread::sleep(Duration::from_millis(100));
    assert!(!marked(&mark).is_empty(), "it goes on");
    let left: Vec<_> =
        groups(holder).into_iter().filter(|g| processes(g) > 0 && !g.ends_with("main")).collect();
    assert!(!left.is_empty(), "in its group");
    // A group that nobody is in goes at once.
    let mut brief = shared.exec(&["--pids", "20"], ["sh", "-c", "echo up; read x"]);
    let mut brief = Running::start(brief.stdin(Stdio::piped()).stdout(Stdio::piped()));
    brief.first_line();
    assert!(!groups_of(brief.pid()).is_empty());
    drop(brief.0.stdin.take());
    brief.end();
    assert_eq!(groups_of(brief.pid()), BTreeSet::new());
    answers(&mut other);
    assert_eq!(shared.ws("stop", &["--kill"]).fate, 0);
    assert_gone(&mark, SOON);
    assert!(eventually(SOON, || groups(holder).is_empty()), "{:?}", groups(holder));
}

#[test]
fn what_killed_ones_leave_is_swept() {
    let Some((shared, mut other)) = live(&[]) else { return };
    let start = |mark: &str| {
        let mut one =
            shared.exec(&ALL, ["sh", "-c", &format!("echo up; while :; do sleep 0.1; done; : {mark}")]);
        let mut one = Running::start(one.stdout(Stdio::piped()).stderr(Stdio::null()));
        assert_eq!(one.first_line().0, "up");
        one
    };
    // Its own aj: the command ends, and nothing else.
    let mark = mark();
    let mut one = start(&mark);
    let holder = shared.holder();
    one.signal(Signal::SIGKILL);
    one.end();
    assert_gone(&mark, SOON);
    answers(&mut other);
    assert!(!groups_of(one.pid()).is_empty(), "nobody was there to do it");
    assert_eq!(said(&mut shared.aj(&["gc"])).fate, 0);
    assert_eq!(groups_of(one.pid()), BTreeSet::new());
    // The one that holds the jail: all ends.
    let mut two = start(&mark);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(holder), Signal::SIGKILL).unwrap();
    assert_eq!(two.end().code(), Some(137));
    assert_gone(&mark, SOON);
    assert!(eventually(SOON, || {
        assert_eq!(said(&mut shared.aj(&["gc"])).fate, 0);
        groups(holder).is_empty()
    }));
}

#[test]
fn twenty_at_once_each_have_their_own() {
    let Some((shared, mut other)) = live(&[]) else { return };
    let holder = shared.holder();
    let mut all: Vec<Running> = (0..20)
        .map(|n| {
            let pids = (n + 4).to_string();
            let mut one = shared.exec(&["--pids", &pids, "--mem", "32M"], ["./life", "bomb", "100"]);
            Running::start(one.stdout(Stdio::piped()).stderr(Stdio::piped()))
        })
        .collect();
    for (n, one) in all.iter_mut().enumerate() {
        let mut out = String::new();
        std::io::Read::read_to_string(one.0.stdout.as_mut().unwrap(), &mut out).unwrap();
        one.end();
        let children = number(&out, "children").unwrap_or_else(|| panic!("{n}: {out}"));
        assert!((2..=i64::try_from(n).unwrap() + 4).contains(&children), "{n}: {out}");
    }
    answers(&mut other);
    // But for those of which something was still there when they ended.
    let left = || all.iter().flat_map(|one| groups_of(one.pid())).collect::<Vec<_>>();
    let swept = eventually(SOON, || {
        assert!(left().is_empty() || said(&mut shared.aj(&["gc"])).fate == 0);
        left().is_empty()
    });
    assert!(swept, "{:?}", left());
    drop(other.0.stdin.take());
    other.end();
    assert!(eventually(SOON, || groups(holder).is_empty()), "{:?}", groups(holder));
}

#[test]
fn a_pause_holds_it_too_and_its_limit_afterwards() {
    let Some((shared, mut other)) = live(&[]) else { return };
    // Before there is any group, and with one.
    assert_eq!(said(&mut shared.aj(&["pause", "api"])).fate, 0);
    assert_eq!(said(&mut shared.aj(&["resume", "api"])).fate, 0);
    answers(&mut other);
    let script = "echo $$; n=0; while :; do n=$((n + 1)); echo $n > ticks; read x < go && ./life bomb 100 > bombed; sleep 0.02; done";
    std::fs::write(shared.yard.ws.join("go"), "").unwrap();
    let mut one = shared.exec(&ALL, ["sh", "-c", script]);
    let mut one = Running::start(one.stdout(Stdio::piped()).stderr(Stdio::null()));
    one.first_line();
    let ticks = || shared_file(&shared, "ticks").trim().parse::<u64>().unwrap_or(0);
    assert!(eventually(SOON, || ticks() > 2));
    let inside: BTreeSet<PathBuf> = groups_of(one.pid());
    let many = |groups: &BTreeSet<PathBuf>| groups.iter().map(|g| processes(g)).collect::<Vec<_>>();
    assert!(many(&inside).iter().all(|n| *n >= 2), "{inside:?}");
    let paused = said(&mut shared.aj(&["pause", "api"]));
    assert_eq!(paused.fate, 0, "{paused:#?}");
    let before = ticks_of_host(&shared);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(ticks_of_host(&shared), before, "it stands still");
    assert!(many(&inside).iter().all(|n| *n >= 2), "in its own groups");
    let refused = said(&mut shared.exec(&ALL, ["true"]));
    assert_eq!(refused.fate, 5, "{refused:#?}");
    assert_eq!(said(&mut shared.aj(&["resume", "api"])).fate, 0);
    let before = ticks();
    assert!(eventually(SOON, || ticks() > before));
    // The limit is still there.
    assert_eq!(said(&mut shared.exec(&[], ["sh", "-c", "echo now > go"])).fate, 0);
    let mut children = None;
    let bombed = eventually(SOON, || {
        children = number(&shared_file(&shared, "bombed"), "children");
        children.is_some()
    });
    assert!(bombed && children.is_some_and(|n| n <= 20), "{children:?}");
    answers(&mut other);
    assert_eq!(shared.ws("stop", &["--kill"]).fate, 0);
}

/// A file of the workspace, as one that joins it reads it.
fn shared_file(shared: &Shared, name: &str) -> String {
    said(&mut shared.exec(&[], ["cat", name])).out
}

/// The same from outside: nobody can join a jail that is paused.
fn ticks_of_host(shared: &Shared) -> String {
    let find = format!("find {} -name ticks -exec cat {{}} +", shared.yard.state().display());
    said(&mut shared.yard.sh(&find)).out
}

#[test]
fn a_command_cannot_reach_what_holds_it() {
    let Some((shared, _other)) = live(&[]) else { return };
    let script = "grep -c cgroup /proc/self/mountinfo; ls -l /proc/self/fd | grep -c -e tasks -e cgroup; \
                  find / -xdev -name cgroup.procs 2>/dev/null | wc -l; \
                  mkdir /tmp/cg; mount -t cgroup2 none /tmp/cg 2>/dev/null || mount -t cgroup -o pids none /tmp/cg 2>/dev/null || echo no";
    let ran = said(&mut shared.exec(&ALL, ["sh", "-c", script]));
    assert_eq!(ran.out, "0\n0\n0\nno\n", "{ran:#?}");
    // What minds it has no descriptor of it either.
    let script = "for p in /proc/[0-9]*; do ls -l $p/fd 2>/dev/null; done | grep -c -e /tasks -e cgroup";
    let ran = said(&mut shared.exec(&ALL, ["sh", "-c", script]));
    assert_eq!(ran.out, "0\n", "{ran:#?}");
}

#[test]
fn a_job_has_them_and_has_them_again() {
    let Some((shared, mut other)) = live(&[]) else { return };
    let words = ["job", "start", "--name", "bomb", "--pids", "9", "api", "--", "./life", "bomb", "100"];
    let started = said(&mut shared.aj(&words));
    assert_eq!(started.fate, 0, "{started:#?}");
    assert_eq!(said(&mut shared.aj(&["job", "wait", "bomb"])).fate, 0);
    let logged = || said(&mut shared.aj(&["job", "logs", "bomb"])).out;
    let children = |text: &str| -> Vec<i64> {
        text.lines().filter_map(|l| l.strip_prefix("children")?.trim().parse().ok()).collect()
    };
    assert!(children(&logged()).iter().all(|n| (5..=9).contains(n)), "{}", logged());
    let again = said(&mut shared.aj(&["job", "restart", "bomb"]));
    assert_eq!(again.fate, 0, "{again:#?}");
    assert_eq!(said(&mut shared.aj(&["job", "wait", "bomb"])).fate, 0);
    assert!(
        !children(&logged()).is_empty() && children(&logged()).iter().all(|n| (5..=9).contains(n)),
        "{}",
        logged()
    );
    answers(&mut other);
    assert_eq!(said(&mut shared.aj(&["job", "rm", "bomb"])).fate, 0);
}
