//! Violent ends: nothing of a jail outlives its `aj`, nothing of a run outlives the run.

use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::yard::{Running, Said, Yard, assert_gone, eventually, fate, mark, marked, mounts_of, run, said};

/// How long a start takes here and now, so that instants can be spread over all of it. Not the first:
/// that one prepares the state directory.
fn a_start(yard: &Yard) -> Duration {
    let one = || {
        let start = Instant::now();
        assert_eq!(fate(run(&mut yard.aj(["true"])).status), 0);
        start.elapsed()
    };
    one();
    one().min(one())
}

/// What issue trackers call "bwrap left behind": kill -9 at any instant, the start included.
#[test]
fn nothing_survives_when_aj_is_killed_at_any_instant() {
    const RUNS: u32 = 200;
    let Some(yard) = Yard::new() else { return };
    let whole = a_start(&yard);
    let mark = mark();
    let end = Instant::now() + Duration::from_secs(12);
    let (mut runs, mut running_when_killed) = (0, 0);
    for n in 0..RUNS {
        if Instant::now() > end {
            break;
        }
        // Half of them spread over the start, the rest a little later, with children inside.
        // Silent: a write to the pipe that `aj` has left behind would end them by SIGPIPE.
        let script = "./life sleep 60 $0 & ./life sleep 60 $0";
        let mut aj = yard.aj(["sh", "-c", script, &mark]);
        let aj = Running::start(aj.stdout(Stdio::null()).stderr(Stdio::null()));
        std::thread::sleep(whole * (n % 50) / 33);
        running_when_killed += u32::from(marked(&mark).len() > 1);
        aj.signal(Signal::SIGKILL);
        drop(aj);
        runs += 1;
    }
    assert_gone(&mark, Duration::from_secs(5));
    println!("{runs} runs, {running_when_killed} of them with a jail when killed");
    assert!(running_when_killed > runs / 20, "killed too early to show anything");
    assert_eq!(mounts_of(&yard.state()), [] as [String; 0]);
    assert_eq!(mounts_of(&yard.ws), [] as [String; 0]);
    // The workspace has what it had, and the next run works.
    let names: Vec<_> = std::fs::read_dir(&yard.ws).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["life"]);
    assert_eq!(said(&mut yard.aj(["./life", "exit", "4"])).fate, 4);
    assert_repaired(&yard, runs);
}

/// The process that is lent to pid 1 asks for a call that a sandbox around `aj` may refuse, or kill for:
/// pid 1 does its work then, and nobody waits for it.
#[test]
fn a_jail_starts_whatever_becomes_of_the_process_that_is_lent_to_it() {
    let Some(yard) = Yard::new() else { return };
    let refused = nix::libc::SECCOMP_RET_ERRNO | nix::libc::EPERM as u32;
    let killed = [nix::libc::SECCOMP_RET_KILL_PROCESS, nix::libc::SECCOMP_RET_KILL_THREAD];
    for verdict in [refused, killed[0], killed[1], nix::libc::SECCOMP_RET_TRAP] {
        let call = nix::libc::SYS_setns;
        let script =
            format!("exec ./life filter {call} {verdict} \"$AJ\" exec -- sh -c 'stat -fc %T . && echo x >x'");
        let said = said(&mut yard.sh(&script));
        assert_eq!((said.fate, said.out.as_str()), (0, "overlayfs\n"), "{verdict:#x}: {said:#?}");
    }
}

/// The root that pid 1 has left lies over its new one until the lent process has detached it: were the
/// command to start before, `/..` would lead out.
#[test]
fn no_command_starts_while_the_old_root_is_in_reach() {
    let Some(yard) = Yard::new() else { return };
    for fault in ["error=EBUSY", "signal=KILL"] {
        let Some(said) = started_with(&yard, &format!("umount2:{fault}"), "") else { return };
        assert_eq!((said.fate, said.out.as_str()), (125, ""), "{fault}: {said:#?}");
        assert!(said.err.contains("umount2 `old root`"), "{fault}: {said:#?}");
    }
}

/// `aj exec FLAGS -- echo ran`, with one of its calls injected by strace: `CALL:WHAT`. In the common way of a start,
/// whatever else is tried in this run of the tests. `None`: it could not be, and that is said.
fn started_with(yard: &Yard, inject: &str, flags: &str) -> Option<Said> {
    let log = yard.path("trace");
    let call = inject.split(':').next().unwrap();
    let strace = format!("timeout -k 1 20 strace -f -e trace={call} -e inject={inject} -o {}", log.display());
    let said = said(&mut yard.sh(&format!("unset AJ_TEST_WAYS; {strace} \"$AJ\" exec {flags} -- echo ran")));
    let traced = std::fs::read_to_string(&log).unwrap_or_default();
    if traced.contains(call) {
        return Some(said);
    }
    crate::yard::skip("no strace, or it cannot trace here");
    None
}

/// The kernel sends no descriptors for a user who has too many on their way, which a command in any jail can see to:
/// then nobody waits for what does not come.
#[test]
fn overlays_that_cannot_be_sent_are_not_waited_for() {
    let Some(yard) = Yard::new() else { return };
    let inject = "sendmsg:error=ETOOMANYREFS:when=1";
    let Some(said) = started_with(&yard, inject, "--net host") else { return };
    assert_eq!((said.fate, said.out.as_str()), (125, ""), "{said:#?}");
    assert!(said.err.contains("sendmsg `descriptors`"), "{said:#?}");
}

/// The one instant that chance does not find: after pid 1 has been told to go on, before it has asked
/// to be told of our death. A tracer holds it there.
#[test]
fn nothing_survives_when_aj_dies_before_pid_1_can_be_told() {
    let Some(yard) = Yard::new() else { return };
    let mark = mark();
    let script = format!("kill -STOP $$; exec \"$AJ\" exec -- ./life sleep 60 {mark}");
    let mut aj = Running::start(yard.sh(&script).stdout(Stdio::null()).stderr(Stdio::null()));
    let pid = aj.pid().to_string();
    let (log, root) = (yard.path("trace"), nix::unistd::geteuid().is_root());
    let hold = "inject=prctl:delay_enter=2000000:when=1";
    let strace = std::process::Command::new("strace")
        .args(["-f", "-p", &pid, "-e", "trace=prctl,setresuid", "-e", hold, "-o"])
        .arg(&log)
        .stderr(Stdio::null())
        .spawn();
    let Ok(strace) = strace else { return crate::yard::skip("no strace") };
    let mut strace = Running(strace);
    let traced = || std::fs::read_to_string(&log).unwrap_or_default();
    if !eventually(Duration::from_secs(3), || traced().contains("SIGSTOP")) {
        return crate::yard::skip("strace cannot trace here");
    }
    aj.signal(Signal::SIGCONT);
    // As root a helper for the id map asks first; pid 1 asks once it has changed its ids.
    let changed = |text: &str| text.find("setresuid").unwrap_or(if root { text.len() } else { 0 });
    let held = || {
        let text = traced();
        text[changed(&text)..].contains("PDEATHSIG")
    };
    assert!(eventually(Duration::from_secs(8), held), "{}", traced());
    std::thread::sleep(Duration::from_millis(300));
    aj.signal(Signal::SIGKILL);
    aj.end();
    std::thread::sleep(Duration::from_millis(2500));
    let left: Vec<i32> = marked(&mark);
    assert_eq!(left, [] as [i32; 0], "{}", traced());
    drop(strace.0.kill());
}

/// The process that is lent to pid 1 goes with `aj`, however long its calls take: here they are stopped
/// before it joins the jail, and once it has its ids there.
#[test]
fn the_process_that_is_lent_does_not_survive_aj() {
    let Some(yard) = Yard::new() else { return };
    for call in ["setns", "fsconfig"] {
        let (mark, log) = (mark(), yard.path(call));
        let (trace, stop) = (format!("trace={call}"), format!("inject={call}:signal=STOP"));
        let script = format!(
            "exec strace -f -I 1 -e {trace} -e {stop} -o {} \"$AJ\" exec -- ./life sleep 60 {mark}",
            log.display()
        );
        let mut strace = Running::start(yard.sh(&script).stdout(Stdio::null()).stderr(Stdio::null()));
        // The tracer, `aj`, pid 1 and the process that is lent.
        let stopped = || std::fs::read_to_string(&log).is_ok_and(|log| log.contains("--- SIGSTOP"));
        if !eventually(Duration::from_secs(5), || stopped() && marked(&mark).len() == 4) {
            return crate::yard::skip("no strace, or it cannot trace here");
        }
        std::thread::sleep(Duration::from_millis(300));
        let aj: Vec<i32> = marked(&mark).into_iter().filter(|pid| parent(*pid) == strace.pid()).collect();
        strace.signal(Signal::SIGTERM);
        strace.end();
        let [aj] = aj[..] else { panic!("{aj:?}") };
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(aj), Signal::SIGKILL).unwrap();
        assert_gone(&mark, Duration::from_secs(1));
    }
}

fn parent(pid: i32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok()).unwrap_or(0)
}

/// The same with signals that can be handled: the run ends, whatever it was doing.
#[test]
fn a_signal_at_any_instant_ends_the_run() {
    let Some(yard) = Yard::new() else { return };
    let whole = a_start(&yard);
    let mark = mark();
    let end = Instant::now() + Duration::from_secs(10);
    for n in 0..60 {
        if Instant::now() > end {
            break;
        }
        let signal = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP][n as usize % 3];
        let mut aj = yard.aj(["./life", "sleep", "60", &mark]);
        let mut aj = Running::start(aj.stdout(Stdio::null()).stderr(Stdio::null()));
        std::thread::sleep(whole * n / 40);
        aj.signal(signal);
        assert_eq!(fate(aj.end()), -(signal as i32), "run {n}");
    }
    assert_gone(&mark, Duration::from_secs(5));
}

/// The ledger calls the killed runs lost, and none of their trees is in use or half made.
#[track_caller]
fn assert_repaired(yard: &Yard, runs: u32) {
    let ran = said(&mut yard.sh("\"$AJ\" jail list --json --limit 10000 || \"$AJ\" jail list --json"));
    let list: serde_json::Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
    let rows = list["jails"].as_array().unwrap();
    let with = |status: &str| rows.iter().filter(|r| r["status"] == status).count();
    assert_eq!(with("running"), 0, "{ran:?}");
    assert!(with("lost") > 0, "{ran:?}");
    assert!(rows.len() <= runs as usize + 2, "{} rows", rows.len());
    // Nothing was changed in any of the jails, so no tree is worth keeping.
    let trees = std::fs::read_dir(yard.state().join("trees")).unwrap();
    let left: Vec<_> = trees
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with(".spare-") && !name.starts_with(".ready-"))
        .collect();
    assert_eq!(left, [] as [&str; 0], "{ran:?}");
}

#[test]
fn a_jail_is_gone_within_a_second_of_its_aj() {
    let Some(yard) = Yard::new() else { return };
    let mark = mark();
    let script = "(setsid setsid ./life ignore 60 $0 > /dev/null &); ./life ignore 60 $0";
    let mut running = Running::start(yard.aj(["sh", "-c", script, &mark]).stdout(Stdio::piped()));
    running.first_line();
    assert!(eventually(Duration::from_secs(5), || marked(&mark).len() >= 5), "{:?}", marked(&mark));
    running.signal(Signal::SIGKILL);
    assert_gone(&mark, Duration::from_secs(1));
}

/// `aj fork` has an `aj exec` for each of its forks.
#[test]
fn the_commands_of_forks_are_gone_within_a_second_of_their_aj() {
    let Some(yard) = Yard::new() else { return };
    let made = said(&mut yard.sh("\"$AJ\" workspace create api --from-dir ."));
    assert_eq!(made.fate, 0, "{made:#?}");
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let mark = mark();
        let script = format!(
            "exec \"$AJ\" fork api -n 2 -- sh -c './life ignore 60 {mark} & ./life ignore 60 {mark}'"
        );
        let aj = Running::start(yard.sh(&script).stdout(Stdio::null()).stderr(Stdio::null()));
        // Of each fork `aj exec`, the shell and two commands; and `aj fork`.
        assert!(eventually(Duration::from_secs(10), || marked(&mark).len() >= 9), "{:?}", marked(&mark));
        aj.signal(signal);
        assert_gone(&mark, Duration::from_secs(1));
    }
    said(&mut yard.sh("\"$AJ\" workspace list -q | xargs \"$AJ\" workspace rm --force"));
}

#[test]
fn a_daemon_by_the_book_never_acts_after_the_run() {
    let Some(yard) = Yard::new() else { return };
    // Teeth: outside a jail the same daemon does.
    let path = yard.path("outside");
    let mut outside = yard.sh(&format!("./life later {} 1", path.display()));
    assert_eq!(fate(run(&mut outside).status), 0);
    assert!(eventually(Duration::from_secs(10), || path.exists()), "the daemon does nothing");
    let start = Instant::now();
    let ran = said(&mut yard.exec(["--rw", "."], ["./life", "later", "canary", "6"]));
    assert_eq!(ran.fate, 0, "{ran:?}");
    assert!(start.elapsed() < Duration::from_millis(5900), "too slow here to tell: {:?}", start.elapsed());
    std::thread::sleep(Duration::from_millis(6500).saturating_sub(start.elapsed()));
    assert!(!yard.ws.join("canary").exists());
}

#[test]
fn an_orphan_that_holds_the_output_does_not_hold_up_the_end() {
    let Some(yard) = Yard::new() else { return };
    for options in [&[][..], &["--json"], &["--events"]] {
        let start = Instant::now();
        let ran = said(&mut yard.exec(options.iter().copied(), ["sh", "-c", "./life hold 60; exit 6"]));
        assert_eq!(ran.fate, 6, "{ran:?}");
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    }
}

#[test]
fn a_command_that_kills_all_it_can_kills_only_its_own() {
    let Some(yard) = Yard::new() else { return };
    let script = "./life ignore 60 & kill -9 -1; kill -9 1 2>&1; wait; exit 5";
    let ran = said(&mut yard.aj(["sh", "-c", script]));
    assert_eq!(ran.fate, 5, "{ran:?}");
}

#[test]
fn ten_thousand_orphans_are_reaped_as_they_come() {
    let Some(yard) = Yard::new() else { return };
    let ran = said(&mut yard.aj(["./life", "orphans", "10000"]));
    assert_eq!(ran.fate, 0, "{ran:?}");
    // The most at any moment, which depends on how often pid 1 gets a processor; unreaped, there
    // would be thousands.
    assert!(ran.number("most_zombies") < 100, "{ran:?}");
}

/// A process that cannot be killed, for as long as it is frozen: `aj` says so and returns.
#[test]
fn a_jail_that_cannot_be_killed_is_reported_and_left() {
    struct Freezer(std::path::PathBuf);
    impl Freezer {
        fn set(&self, state: &str) -> bool {
            std::fs::write(self.0.join("freezer.state"), state).is_ok()
        }
    }
    impl Drop for Freezer {
        fn drop(&mut self) {
            self.set("THAWED");
            eventually(Duration::from_secs(5), || std::fs::remove_dir(&self.0).is_ok());
        }
    }
    let Some(yard) = Yard::new() else { return };
    let dir = std::path::PathBuf::from(format!("/sys/fs/cgroup/freezer/aj-test-{}", std::process::id()));
    if std::fs::create_dir(&dir).is_err() {
        return crate::yard::skip("no freezer (cgroup v1) to hold a process in the kernel with");
    }
    let freezer = Freezer(dir);
    let mark = mark();
    let mut aj = yard.exec(["--timeout", "2s", "--grace", "0s"], ["./life", "ready", "60", &mark]);
    let mut running = Running::start(aj.stdout(Stdio::piped()).stderr(Stdio::piped()));
    assert!(running.first_line().0.starts_with("ready"));
    let inside = *marked(&mark).iter().max().unwrap();
    std::fs::write(freezer.0.join("cgroup.procs"), inside.to_string()).unwrap();
    assert!(freezer.set("FROZEN"));
    let start = Instant::now();
    let status = running.end();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut running.0.stderr.take().unwrap(), &mut said).unwrap();
    assert_eq!(fate(status), 124, "{said}");
    assert!(start.elapsed() > Duration::from_secs(8), "it was not held at all: {:?}", start.elapsed());
    assert!(said.contains("does not end"), "{said}");
    drop(freezer);
    assert_gone(&mark, Duration::from_secs(3));
}
