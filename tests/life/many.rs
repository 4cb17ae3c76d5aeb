//! Many jails at once: none fails, and nothing of them is left.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::yard::{Said, Yard, assert_gone, mark, mounts_of, said};

const TOTAL: usize = 120;
const AT_ONCE: usize = 40;

/// Names of directories below the hierarchies of control groups that begin with `aj-` and one of `ids`.
fn groups(ids: &BTreeSet<String>) -> Vec<String> {
    fn walk(dir: &Path, depth: usize, ids: &BTreeSet<String>, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if depth < 10 && entry.file_type().is_ok_and(|t| t.is_dir()) {
                let name = entry.file_name().to_string_lossy().into_owned();
                let id = name.strip_prefix("aj-").and_then(|n| n.split('.').next());
                if id.is_some_and(|id| ids.contains(id)) {
                    found.push(name);
                }
                walk(&entry.path(), depth + 1, ids, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), 0, ids, &mut found);
    found
}

#[test]
fn many_at_once_all_work_and_nothing_of_them_is_left() {
    // The first yard of all has had a run in it.
    let (Some(_), Some(yard)) = (Yard::new(), Yard::new()) else { return };
    let (mark, temporary) = (mark(), yard.path("temporary"));
    std::fs::create_dir(&temporary).unwrap();
    let next = AtomicUsize::new(0);
    let run = |n: usize| -> Said {
        // With a group and without, with changes and without.
        let options: &[&str] = if n.is_multiple_of(3) { &["--best-effort", "--mem", "256M"] } else { &[] };
        let script = if n.is_multiple_of(4) { "echo x > x; echo done" } else { "echo done" };
        let mut aj = yard.exec(options.iter().copied(), ["sh", "-c", script, &mark]);
        said(aj.env("TMPDIR", &temporary))
    };
    let wrong: Vec<(usize, Said)> = std::thread::scope(|scope| {
        let worker = || {
            let mut wrong = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= TOTAL {
                    return wrong;
                }
                let said = run(n);
                if said.fate != 0 || said.out != "done\n" {
                    wrong.push((n, said));
                }
            }
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|w| w.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{} of {TOTAL}: {wrong:#?}", wrong.len());
    assert_gone(&mark, Duration::from_secs(5));
    let ledger = said(&mut yard.sh("\"$AJ\" jail list --json --limit 0"));
    let ledger: serde_json::Value = serde_json::from_str(&ledger.out).unwrap();
    let jails = ledger["jails"].as_array().unwrap();
    let odd: Vec<_> = jails.iter().filter(|j| j["status"] != "exited" || j["exit_code"] != 0).collect();
    assert!(jails.len() == TOTAL && odd.is_empty(), "{}: {odd:#?}", jails.len());
    let ids: BTreeSet<String> = jails.iter().map(|j| j["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), TOTAL, "an id was given twice");
    assert_eq!(groups(&ids), [""; 0]);
    assert_eq!(mounts_of(&yard.state()), [""; 0]);
    assert_eq!(mounts_of(&yard.ws), [""; 0]);
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.lines().any(|l| l.contains(" - nsfs ") && l.contains("/net:[")), "{table}");
    let names = |dir: &Path| {
        let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name());
        entries.map(|n| n.to_string_lossy().into_owned()).collect::<BTreeSet<_>>()
    };
    assert_eq!(names(&temporary), BTreeSet::new());
    assert_eq!(names(&yard.ws), BTreeSet::from(["life".to_owned()]));
    // Of the trees there are those with changes that are kept, by the id of their jail, and no others.
    let kept: BTreeSet<String> = jails
        .iter()
        .filter(|j| j["changes_kept"] == true)
        .map(|j| j["id"].as_str().unwrap().to_owned())
        .collect();
    let trees = names(&yard.state().join("trees"));
    assert!(trees.iter().filter(|t| t.starts_with("jl-")).all(|t| kept.contains(t)), "{trees:?}\n{kept:?}");
    assert!(!kept.is_empty() && kept.len() <= TOTAL.div_ceil(4), "{kept:?}");
}
