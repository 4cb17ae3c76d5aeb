//! Forks of a workspace in which something runs.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{NAME, Shared};
use crate::yard::{Running, Said, eventually, said, skip};

/// The best way that is left when these are taken away, for tests of debug builds.
const TAKEN: [&str; 3] = ["", "cgroup.freeze", "cgroup.freeze,freezer"];
const SOON: Duration = Duration::from_secs(5);

impl Shared {
    /// `aj workspace fork api OPTIONS --json`.
    #[track_caller]
    fn fork(&self, options: &[&str], without: &str) -> Value {
        self.fork_of(NAME, options, without)
    }

    /// The same of another workspace.
    #[track_caller]
    fn fork_of(&self, name: &str, options: &[&str], without: &str) -> Value {
        let words = [&["workspace", "fork", name, "--json"], options].concat();
        for _ in 0..60 {
            let ran = said(self.aj(&words).env("AJ_TEST_WITHOUT", without));
            // By signals nothing is held for certain while the machine makes many processes.
            if ran.fate != 0 && ran.err.contains("could not be paused") {
                continue;
            }
            assert_eq!(ran.fate, 0, "{ran:#?}");
            return serde_json::from_str(&ran.out).unwrap();
        }
        panic!("never paused");
    }

    /// A script in another workspace, to its end.
    #[track_caller]
    fn sh_in(&self, name: &str, script: &str) -> String {
        let ran = said(&mut self.aj(&["exec", name, "--", "sh", "-c", script]));
        assert_eq!(ran.fate, 0, "{ran:#?}");
        ran.out
    }

    fn words(&self, words: &[&str]) -> Said {
        said(&mut self.aj(words))
    }

    /// A script that says when it is ready.
    fn start(&self, script: &str) -> Running {
        let mut aj = self.exec(&[], ["sh", "-c", script]);
        let mut running = Running::start(aj.stdout(Stdio::piped()).stderr(Stdio::null()));
        assert_eq!(running.first_line().0, "ready");
        running
    }

    fn is_paused(&self) -> bool {
        self.shown()["status"] == "paused"
    }
}

/// Writes numbers, one after the other, at the end of one file and then over another: at each instant the second
/// is the last line of the first, or the one before.
const COUNTER: &str = "
mkdir -p deep/er; echo h > ~/h; echo o > /output/o; echo 0 > deep/er/now; : > log
echo ready; n=0
while :; do n=$((n+1)); echo $n >> log; echo $n > deep/er/next; mv deep/er/next deep/er/now; done";

#[test]
fn a_fork_has_what_there_was_at_one_instant_and_both_go_on() {
    let Some(shared) = Shared::new(&[]) else { return };
    std::fs::write(shared.yard.ws.join("gone"), "").unwrap();
    std::fs::write(shared.yard.ws.join(".env"), "SECRET=1\n").unwrap();
    let _counter = shared.start(&format!("rm gone; {COUNTER}"));
    let mut seen = Vec::new();
    for without in TAKEN {
        let made = shared.fork(&[], without);
        let by = made["held_by"].as_str().unwrap().to_owned();
        if seen.contains(&by) {
            skip(format!("no other way than {by} without {without}"));
            continue;
        }
        assert!(made["was_frozen"] == true && made["frozen_ms"].is_u64(), "{made:#}");
        assert!(made["files"].as_u64().unwrap() >= 4 && made["method"] != "seal", "{made:#}");
        let fork = made["forks"][0]["name"].as_str().unwrap().to_owned();
        let numbers = shared.sh_in(&fork, "cat ~/h /output/o; tail -n 1 log; cat deep/er/now; wc -l < log");
        let numbers: Vec<&str> = numbers.lines().collect();
        assert_eq!(numbers[..2], ["h", "o"]);
        let [last, now, lines] = [2, 3, 4].map(|n| numbers[n].parse::<u64>().unwrap());
        assert!(last == now || last == now + 1, "{by}: {numbers:?}");
        assert_eq!(lines, last, "{by}: no line is torn or missing");
        assert_eq!(shared.sh_in(&fork, "ls -A; echo mine > own"), "deep\nlife\nlog\n", "{by}");
        // What was hidden is no change of the jail's, and can be shown.
        let shown = shared.words(&["exec", &fork, "--show", ".env", "--", "cat", ".env"]);
        assert_eq!(shown.out, "SECRET=1\n", "{shown:#?}");
        let diff = shared.words(&["diff", "--name-only", &fork]);
        let changed: Vec<&str> = diff.out.lines().filter(|line| !line.ends_with("/next")).collect();
        assert_eq!(changed, ["deep/er/now", "gone", "log", "own"], "{diff:#?}");
        let before: u64 = shared.sh("wc -l < log").trim().parse().unwrap();
        assert!(eventually(SOON, || shared.sh("wc -l < log").trim().parse::<u64>().unwrap() > before));
        assert!(before >= last && !shared.is_paused());
        assert_eq!(shared.sh("ls own 2>&1; echo"), "ls: cannot access 'own': No such file or directory\n\n");
        seen.push(by);
    }
}

#[test]
fn everything_that_a_jail_can_leave_is_in_the_fork() {
    let Some(shared) = Shared::new(&[]) else { return };
    std::fs::create_dir(shared.yard.ws.join("old")).unwrap();
    std::fs::write(shared.yard.ws.join("old/host"), "host\n").unwrap();
    std::fs::write(shared.yard.ws.join("base"), "host\n").unwrap();
    let script = "
umask 022; long=$(printf '%0255d' 0); mkdir -p long; echo x > long/$long; mkfifo pipe; ln -s /etc/shadow out
echo same > a; ln a b; echo same > ~/c; ln ~/c ~/d; truncate -s 1G sparse; rm -r old; mkdir old; echo new > old/new
mkdir shut; echo in > shut/f; chmod 640 shut/f; chmod 0 shut; echo more >> base; touch -d 2001-02-03 past
i=0; while [ $i -lt 12 ]; do mkdir -p $long; cd $long; i=$((i+1)); done; echo bottom > f; cd ~
echo ready; sleep 60";
    let _holds = shared.start(&format!("cd \"{}\"; {script}", shared.yard.ws.display()));
    shared.fork(&["--name", "other"], "");
    let look = "
cat long/*; test -p pipe && readlink out; test a -ef b && cat b; cat ~/d; stat -c %s,%b sparse; ls -A old; cat base
stat -c %a shut; chmod 700 shut; stat -c %a shut/f; cat shut/f; date -r past +%Y; test ~/c -ef ~/d && echo one
long=$(printf '%0255d' 0); i=0; while [ $i -lt 12 ]; do cd $long || exit 1; i=$((i+1)); done; cat f";
    let wanted = "x\n/etc/shadow\nsame\nsame\n1073741824,0\nnew\nhost\nmore\n0\n640\nin\n2001\none\nbottom\n";
    assert_eq!(shared.sh_in("other", look), wanted);
    assert_eq!(shared.sh("cat a; stat -c %a shut"), "same\n0\n");
}

#[test]
fn what_is_paused_is_forked_and_stays_so() {
    let Some(shared) = Shared::new(&[]) else { return };
    let _counter = shared.start(COUNTER);
    // By signals not always at the first attempt.
    assert!(eventually(4 * SOON, || shared.words(&["pause", NAME]).fate == 0));
    let made = shared.fork(&["-n", "2"], "");
    assert!(made["was_frozen"] == true && made["frozen_ms"].is_null(), "{made:#}");
    assert!(shared.is_paused());
    let one = shared.sh_in("api-1", "cat log");
    assert_eq!(shared.sh_in("api-2", "cat log"), one);
    assert_eq!(shared.words(&["resume", NAME]).fate, 0);
    assert!(shared.sh("cat log").starts_with(&one));
}

#[test]
fn commands_come_and_go_while_it_is_forked() {
    let Some(shared) = Shared::new(&[]) else { return };
    let _counter = shared.start(COUNTER);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let commands = scope.spawn(|| {
            let mut count = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(shared.sh("echo here"), "here\n");
                count += 1;
            }
            count
        });
        let forks = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..8 {
                shared.fork(&[], "");
            }
        }));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(commands.join().unwrap() > 0);
        forks.unwrap();
    });
    // Deeper than there may be layers.
    let mut name = "api".to_owned();
    for turn in 0..9 {
        shared.fork_of(&name, &["--name", &format!("at-{turn}")], "");
        name = format!("at-{turn}");
        let mut aj = shared.aj(&[
            "exec",
            &name,
            "--",
            "sh",
            "-c",
            &format!("echo {turn} >> turns; echo ready; sleep 60"),
        ]);
        Box::leak(Box::new(Running::start(aj.stdout(Stdio::piped()).stderr(Stdio::null())))).first_line();
    }
    let listed = shared.words(&["workspace", "list", "--json"]);
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    assert!(
        listed["workspaces"].as_array().unwrap().iter().all(|w| w["layers"].as_array().unwrap().len() <= 7)
    );
    assert_eq!(shared.sh_in(&name, "cat turns"), "0\n1\n2\n3\n4\n5\n6\n7\n8\n");
    for turn in 0..9 {
        shared.words(&["workspace", "rm", "--force", &format!("at-{turn}")]);
    }
}

fn names(dir: &std::path::Path) -> Vec<std::ffi::OsString> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

#[test]
fn killed_at_each_step_it_leaves_no_half_fork_and_what_runs_goes_on() {
    let Some(shared) = Shared::new(&[]) else { return };
    let script = "echo h > ~/h; echo ready; while :; do echo >> ticks; sleep 0.01; done";
    let _ticks = shared.start(&format!("echo one > a; {script}"));
    let killed_at = |n: u32, without: &str| {
        let mut aj = shared.aj(&["workspace", "fork", NAME, "--name", "fork"]);
        aj.env("AJ_TEST_KILL_AT", n.to_string()).env("AJ_TEST_WITHOUT", without);
        for _ in 0..20 {
            let output = aj.output().unwrap();
            // By signals nothing is held for certain while the machine makes many processes.
            if String::from_utf8_lossy(&output.stderr).contains("could not be paused") {
                continue;
            }
            assert!(output.status.success() || output.status.signal() == Some(9), "{output:?}");
            return output.status.signal() == Some(9);
        }
        panic!("never paused");
    };
    if !killed_at(1, "") {
        return skip("this aj is no debug build");
    }
    for without in [TAKEN[0], TAKEN[2]] {
        let steps = (1..).find(|n| {
            let killed = killed_at(*n, without);
            let begun = Instant::now();
            let ticks = || shared.sh("wc -l < ticks").trim().parse::<u64>().unwrap();
            let before = ticks();
            assert!(eventually(SOON, || ticks() > before), "{n}: it stands still");
            assert!(begun.elapsed() < SOON && !shared.is_paused(), "{n}");
            if shared.words(&["workspace", "show", "fork"]).fate == 0 {
                assert_eq!(shared.sh_in("fork", "cat a ~/h; test -s ticks && echo t"), "one\nh\nt\n", "{n}");
                assert_eq!(shared.words(&["workspace", "rm", "fork"]).fate, 0);
            }
            !killed
        });
        assert!(steps.unwrap() > 20, "{steps:?}");
    }
    shared.words(&["workspace", "rm", "--force", NAME]);
    let left = names(&shared.yard.state().join("layers"));
    assert!(left.is_empty(), "{left:?}");
    // What was being written is swept when it is old: see `aj gc`.
    let record = |name: &std::ffi::OsString| !name.to_str().unwrap().contains(".new-");
    let left: Vec<_> = names(&shared.yard.state().join("paused")).into_iter().filter(record).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_hundred_changed_files_are_copied_in_a_moment() {
    let Some(shared) = Shared::new(&[]) else { return };
    let script = "mkdir d; for i in $(seq 100); do echo $i > d/$i; done; echo ready; sleep 60";
    let _holds = shared.start(script);
    let best = (0..5).map(|_| shared.fork(&[], "")).min_by_key(|made| made["clone_ms"].as_u64());
    let made = best.unwrap();
    let ms = |key: &str| made[key].as_u64().unwrap();
    // The budget is 30 and 20, of a release that has the machine for itself.
    assert!(ms("clone_ms") <= 300 && ms("frozen_ms") <= 200 && ms("files") >= 100, "{made:#}");
}

/// What a record names is there after a loss of power: the copy is on the disk before the layer has its name, and what
/// cannot be brought there is no fork.
#[test]
fn a_copied_layer_is_on_the_disk_before_it_has_a_name() {
    let Some(shared) = Shared::new(&[]) else { return };
    let _runs = shared.start("echo 1 > new; echo ready; sleep 60");
    let log = shared.yard.path("trace");
    let traced = |inject: &str| {
        std::fs::remove_file(&log).ok();
        let strace = format!("strace -f -e trace=syncfs,renameat,renameat2 {inject} -o {}", log.display());
        let ran = said(&mut shared.yard.sh(&format!("{strace} \"$AJ\" workspace fork api --name copy")));
        (ran, std::fs::read_to_string(&log).unwrap_or_default())
    };
    let (ran, calls) = traced("-e inject=syncfs:error=EIO");
    if !calls.contains("syncfs(") {
        return skip("no strace, or it cannot trace here");
    }
    assert!(ran.fate == 1 && ran.err.contains("EIO"), "{ran:#?}");
    assert_eq!(shared.words(&["workspace", "show", "copy"]).fate, 3, "there is no fork");
    let layers = || std::fs::read_dir(shared.yard.state().join("layers")).map_or(0, |all| all.count());
    assert_eq!(layers(), 0, "and nothing is left of its layer");
    let (ran, calls) = traced("");
    assert_eq!(ran.fate, 0, "{ran:#?}");
    // `.new` or the like loses its dot.
    let named = calls.lines().position(|l| l.contains("rename") && l.contains("\".") && !l.contains(".tmp"));
    let synced = calls.lines().position(|l| l.contains("syncfs(") && l.contains("= 0"));
    assert!(synced.is_some() && synced < named, "{calls}");
    assert_eq!((layers(), shared.sh_in("copy", "cat new").as_str()), (1, "1\n"));
}
