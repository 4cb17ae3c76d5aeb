//! What happens between two steps: names swapped, files changed, the process killed.

#![allow(clippy::disallowed_methods, reason = "the test runs itself again as the program that is killed")]

use std::cell::Cell;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::super::apply::{Choice, Outcome, apply};
use super::{Fixture, lines};
use crate::monitor::Monitor;

/// Does something once, when the work begins or after its `n`th change.
struct At<F: Fn()> {
    step: Cell<Option<u64>>,
    act: F,
}

impl<F: Fn()> Monitor for At<F> {
    fn phase(&self, what: &str, _total: u64) {
        if what == "apply" && self.step.get() == Some(0) {
            self.step.set(None);
            (self.act)();
        }
    }

    fn step(&self, n: u64) {
        if let Some(left) = self.step.get().filter(|left| *left > 0) {
            self.step.set((left > n).then_some(left - n));
            if left <= n {
                (self.act)();
            }
        }
    }
}

fn apply_and(f: &Fixture, step: u64, act: impl Fn()) -> Outcome {
    let (upper, base) = f.fds();
    let choice = Choice { options: f.options(), partial: true, ..Choice::default() };
    apply(upper, base, &choice, &At { step: Cell::new(Some(step)), act }).unwrap()
}

#[test]
fn a_directory_swapped_for_a_link_while_applying_leads_nowhere() {
    // The comparison counts its three changes as steps, too: 0 is between the two walks, 4 is
    // after the first change that was made.
    for step in [0, 4] {
        let f = Fixture::new(&[("d/a", "old"), ("d/b", "old"), ("d/c", "old")]);
        for n in ["d/a", "d/b", "d/c"] {
            f.jail(n, "new");
        }
        let victim = f.dir.path().join("victim");
        std::fs::create_dir(&victim).unwrap();
        for n in ["a", "b", "c"] {
            std::fs::write(victim.join(n), "victim").unwrap();
        }
        let moved = f.dir.path().join("moved");
        let r = apply_and(&f, step, || {
            std::fs::rename(f.base("d"), &moved).unwrap();
            symlink(&victim, f.base("d")).unwrap();
        });
        for n in ["a", "b", "c"] {
            assert_eq!(std::fs::read_to_string(victim.join(n)).unwrap(), "victim", "{step}");
        }
        assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 3);
        if step == 0 {
            assert_eq!(lines(&r.conflicts), ["T d/!", "A d/a!", "A d/b!", "A d/c!"]);
        }
    }
}

#[test]
fn a_file_changed_between_comparing_and_applying_is_a_conflict() {
    let f = Fixture::new(&[("a", "old"), ("b", "old"), ("c", "old")]);
    f.jail("a", "jail");
    f.jail("b", "jail");
    f.jail("new", "jail");
    let gone = f.whiteout("c");
    let r = apply_and(&f, 0, || {
        for n in ["b", "c", "new"] {
            f.host(n, "host");
        }
    });
    let expected: &[&str] = if gone { &["M b!", "D c!", "M new!"] } else { &["M b!", "M new!"] };
    assert_eq!(lines(&r.conflicts), expected);
    assert_eq!((f.read("a"), f.read("b"), f.read("new")), ("jail".into(), "host".into(), "host".into()));
}

const CHILD: &str = "JAIL_TEST_APPLY_IN";

fn in_place(root: &Path, started: &str) -> Outcome {
    let (sec, nsec) = started.split_once('.').unwrap();
    let mut choice = Choice::default();
    choice.options.started = crate::sys::at::Stamp { sec: sec.parse().unwrap(), nsec: nsec.parse().unwrap() };
    let open = |n: &str| std::fs::File::open(root.join(n)).unwrap().into();
    apply(open("upper"), open("base"), &choice, &crate::monitor::Silent).unwrap()
}

/// Not a test of its own: the process that the next test kills.
#[test]
fn child_of_the_kill_test() {
    if let Some(root) = std::env::var_os(CHILD) {
        let started = std::env::var(format!("{CHILD}_AT")).unwrap();
        in_place(&PathBuf::from(root), &started);
    }
}

#[test]
fn an_apply_killed_at_any_instant_is_completed_by_the_next() {
    let name = "workspace::tests::races::child_of_the_kill_test";
    let mut interrupted = 0;
    for round in 0..12u64 {
        let mut f = Fixture::new(&[]);
        for i in 0..60 {
            f.host(&format!("changed/{i}"), "old");
            f.host(&format!("gone/{i}/x"), "old");
            f.host(&format!("turned{i}/x"), "old");
        }
        f.start();
        let text = "new".repeat(20_000);
        let mut whiteouts = true;
        for i in 0..60 {
            f.jail(&format!("changed/{i}"), &text);
            f.jail(&format!("made/{i}/y"), &text);
            f.jail(&format!("turned{i}"), &text);
            whiteouts &= f.whiteout(&format!("gone/{i}"));
        }
        if !whiteouts {
            return;
        }
        let started = format!("{}.{}", f.started.sec, f.started.nsec);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--test-threads=1"])
            .env(CHILD, f.dir.path())
            .env(format!("{CHILD}_AT"), &started)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // From its first change on, a little later each round.
        while f.read("changed/0") == "old" && child.try_wait().unwrap().is_none() {}
        std::thread::sleep(std::time::Duration::from_micros(1500 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        // Cut short on the way: some changes are made, others are not.
        let left = f.diff().changes.len();
        interrupted += u32::from(left > 0 && left < 240);
        for i in 0..60 {
            let now = f.read(&format!("changed/{i}"));
            assert!(now == "old" || now == text, "half written");
        }
        let r = in_place(f.dir.path(), &started);
        assert_eq!((r.conflicts, r.failed), (vec![], vec![]), "round {round}");
        assert!(f.diff().changes.is_empty());
        let leftovers: Vec<_> = f.listing().into_iter().filter(|n| n.contains(".aj-apply-")).collect();
        assert!(leftovers.is_empty(), "{leftovers:?}");
        assert_eq!(f.read("changed/59"), text);
        assert_eq!(f.read("turned59"), text);
    }
    assert!(interrupted > 0, "no round was cut short");
}

/// In each round `f` is changed, replaced by a directory or deleted in a jail, and while that is applied, `step` later
/// from round to round, somebody on the host does `act`. `check` gets what came of it.
fn meanwhile(
    rounds: u32,
    step: Duration,
    act: impl Fn(&Fixture) + Sync,
    mut check: impl FnMut(u32, &Fixture, Outcome),
) {
    for round in 0..rounds {
        let mut f = Fixture::new(&[("f", "old")]);
        match round % 3 {
            0 => f.jail("f", "jail"),
            1 => f.jail("f/in", "jail"),
            _ if f.whiteout("f") => {}
            _ => continue,
        }
        f.start();
        f.host("new", "editor");
        let done = std::thread::scope(|scope| {
            scope.spawn(|| {
                let until = Instant::now() + step * round;
                while Instant::now() < until {}
                act(&f);
            });
            f.apply_with(|c| c.partial = true)
        });
        let left = |names: &[String]| names.iter().any(|name| name.starts_with(".aj-apply-"));
        assert!(!left(&f.listing()), "{:?}", f.listing());
        check(round, &f, done);
    }
}

/// Whenever an editor puts its version there, it is there in the end: after the last look of apply as well, when the
/// rename of apply would be the later one.
#[test]
fn what_an_editor_puts_there_meanwhile_is_never_lost() {
    let mut lost = Vec::new();
    // A directory of the jail's is in the way of an editor as well.
    let save = |f: &Fixture| drop(std::fs::rename(f.base("new"), f.base("f")));
    meanwhile(160, Duration::from_micros(8), save, |round, f, _| {
        let kept = if f.base("new").exists() { "new" } else { "f" };
        if f.read(kept) != "editor" {
            lost.push((round, f.listing()));
        }
    });
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn what_somebody_deletes_meanwhile_is_a_conflict_or_was_replaced() {
    let delete = |f: &Fixture| drop(std::fs::remove_file(f.base("f")));
    meanwhile(90, Duration::from_micros(12), delete, |round, _, done| {
        assert!(done.failed.is_empty(), "{round}: {done:?}");
    });
}
