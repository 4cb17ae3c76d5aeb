//! Many at once: 2 000 jails, 200 of them at any time, in turns with as many runs of bubblewrap with the same
//! mounts. None may fail, and afterwards nothing may be left: no mount, no control group, no process, no file
//! in the temporary directory, no network namespace. Then what a supervisor that waits holds in memory.
//!
//! bubblewrap binds the directory, as `aj exec --rw` does: those two are to be compared. The overlay of a plain
//! `aj exec` costs inodes of the file system that the state directory is on, and where that has a journal, it
//! and not the processors is what many at once wait for: `TMPDIR=/dev/shm` shows the difference.
//!
//! `cargo bench --bench many [TOTAL] [CONCURRENT]`; `AJ_BIN` measures another binary. Run it on an idle
//! machine; compare ratios, never milliseconds of different days.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    dead_code
)]

#[path = "common.rs"]
mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Place, bwrap};

/// The two take turns so many times: what else the machine does then hits both.
const TURNS: usize = 4;

/// A name, what makes a command, how long each turn took.
type Row<'a> = (&'a str, &'a dyn Fn() -> Command, Vec<Duration>);

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|a| a.parse::<usize>().ok());
    let total = numbers.next().unwrap_or(2000);
    let at_once = numbers.next().unwrap_or(200).max(1);
    let place = Place::new(&["noop"]);
    let temporary = tempfile::tempdir().unwrap();
    let aj = |words: &[&str]| {
        let mut aj = place.aj(words);
        aj.env("TMPDIR", temporary.path());
        aj
    };
    let exec = || aj(&["exec", "--tools", "none", "--", "./noop"]);
    let bound = || aj(&["exec", "--tools", "none", "--rw", "--", "./noop"]);
    let with_limits = || aj(&["exec", "--tools", "none", "--best-effort", "--mem", "256M", "--", "./noop"]);
    // The first one makes what later ones use.
    assert!(exec().stderr(Stdio::null()).status().unwrap().success());
    let before = Residue::now(&place, temporary.path());
    let bwrap = bwrap(&place);
    let mut rows: Vec<Row<'_>> = vec![
        ("aj exec --rw -- ./noop", &bound, Vec::new()),
        ("aj exec -- ./noop", &exec, Vec::new()),
        ("aj exec --mem 256M -- ./noop", &with_limits, Vec::new()),
    ];
    if let Some(bwrap) = &bwrap {
        rows.push(("bwrap --unshare-all, same mounts", bwrap.as_ref(), Vec::new()));
    }
    let each = total.div_ceil(TURNS);
    for _ in 0..TURNS {
        for (name, command, took) in &mut rows {
            took.push(turn(name, command, each, at_once));
        }
    }
    println!("{} runs of each, {at_once} at once", each * TURNS);
    let per_second = |took: &[Duration]| (each * TURNS) as f64 / took.iter().sum::<Duration>().as_secs_f64();
    let peer = rows.last().filter(|_| bwrap.is_some()).map(|(.., took)| per_second(took));
    for (name, _, took) in &rows {
        let ratio = peer.map_or_else(String::new, |peer| format!("{:6.2} × bwrap", per_second(took) / peer));
        println!("{name:34} {:8.0} a second {ratio}", per_second(took));
    }
    // The kernel takes namespaces down after their last process has gone.
    let end = Instant::now() + Duration::from_secs(10);
    let mut left = Residue::now(&place, temporary.path());
    while left != before && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(100));
        left = Residue::now(&place, temporary.path());
    }
    println!(
        "left over: {}",
        if left == before { "nothing".to_owned() } else { format!("{left:#?}, before {before:#?}") }
    );
    supervisor(&|| aj(&["exec", "--tools", "none", "--", "sleep", "30"]));
    assert_eq!(left, before);
}

/// `count` runs, `at_once` at any time; how long all took.
fn turn(name: &str, command: &dyn Fn() -> Command, count: usize, at_once: usize) -> Duration {
    // Made here: what makes them need not be shared by threads.
    let commands: Vec<_> = (0..count).map(|_| std::sync::Mutex::new(Some(command()))).collect();
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let worker = || {
            while let Some(slot) = commands.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut command = slot.lock().unwrap().take().unwrap();
                let output = command.stdin(Stdio::null()).output().unwrap();
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{name}: {}: {said}", output.status);
            }
        };
        for _ in 0..at_once {
            scope.spawn(worker);
        }
    });
    start.elapsed()
}

/// What could be left behind.
#[derive(Debug, PartialEq, Eq)]
struct Residue {
    mounts: Vec<String>,
    groups: BTreeSet<String>,
    processes: Vec<String>,
    temporary: Vec<String>,
    /// Mounts of namespaces: what else holds one is a process.
    namespaces: usize,
}

impl Residue {
    fn now(place: &Place, temporary: &Path) -> Residue {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let top = place.ws.parent().unwrap().to_str().unwrap().to_owned();
        let names = |dir: &Path| {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
            entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        let ids = ids(place);
        let of_ours = |pid: &String| {
            let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            let is_self = *pid == std::process::id().to_string();
            !is_self && pid.bytes().all(|b| b.is_ascii_digit()) && cwd.starts_with(&top)
        };
        let mut groups = BTreeSet::new();
        walk(Path::new("/sys/fs/cgroup"), 0, &mut |name| {
            // Others may be at work on this machine.
            if name.strip_prefix("aj-").is_some_and(|rest| ids.iter().any(|id| rest.starts_with(id.as_str())))
            {
                groups.insert(name.to_owned());
            }
        });
        Residue {
            mounts: table.lines().filter(|l| l.contains(&top)).map(str::to_owned).collect(),
            groups,
            processes: names(Path::new("/proc")).into_iter().filter(of_ours).collect(),
            temporary: names(temporary),
            namespaces: table.lines().filter(|l| l.contains(" - nsfs ")).count(),
        }
    }
}

/// The jails of this benchmark.
fn ids(place: &Place) -> BTreeSet<String> {
    let list = place.aj(&["jail", "list", "-q", "--limit", "0"]).output().unwrap();
    String::from_utf8_lossy(&list.stdout).lines().map(str::to_owned).collect()
}

fn walk(dir: &Path, depth: usize, each: &mut dyn FnMut(&str)) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if depth < 8 && entry.file_type().is_ok_and(|t| t.is_dir()) {
            each(&entry.file_name().to_string_lossy());
            walk(&entry.path(), depth + 1, each);
        }
    }
}

/// What an `aj` that waits for its command holds.
fn supervisor(command: &dyn Fn() -> Command) {
    let mut child =
        command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", child.id())).unwrap_or_default();
        text.lines()
            .find_map(|l| l.strip_prefix(name)?.trim().split(' ').next()?.parse::<u64>().ok())
            .unwrap_or(0)
    };
    println!(
        "a supervisor that waits: {} KiB resident, {} KiB of them its own (Pss {} KiB)",
        field("status", "VmRSS:"),
        field("smaps_rollup", "Private_Dirty:") + field("smaps_rollup", "Private_Clean:"),
        field("smaps_rollup", "Pss:"),
    );
    // Only what was started here.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    child.wait().unwrap();
}
