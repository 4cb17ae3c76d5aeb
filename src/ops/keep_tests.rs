use super::*;
use crate::policy::At;
use crate::store::testing::{id, state};
use std::fs;
use std::path::Path;

fn keep(trees: u64, size: u64, age_ms: u64) -> Keep {
    let at = |n| At { value: Some(n), line: 1 };
    Keep {
        trees: at(trees),
        size: at(size),
        age: Some(Duration::from_millis(age_ms)).into(),
        ..Keep::default()
    }
}

const NO_BOUND: u64 = u64::MAX;

/// Trees by the time of their last run: those that go, by that time.
fn goes(mine_bytes: u64, others: &[(u64, u64)], keep: &Keep) -> Vec<(u64, Why)> {
    let mine = Held { id: id(), used_ms: 1000, bytes: mine_bytes };
    let mut held: Vec<Held> =
        others.iter().map(|(used_ms, bytes)| Held { id: id(), used_ms: *used_ms, bytes: *bytes }).collect();
    let all = held.clone();
    let going = judge(Some(&mine), &mut held, keep, 1000);
    let used = |id: &Id| all.iter().find(|t| t.id == *id).unwrap().used_ms;
    going.iter().map(|(id, why)| (used(id), *why)).collect()
}

#[test]
fn the_newest_stay_within_each_bound() {
    let four = [(100, 10), (400, 10), (200, 10), (300, 10)];
    assert_eq!(goes(10, &four, &keep(NO_BOUND, NO_BOUND, NO_BOUND)), []);
    assert_eq!(goes(10, &four, &keep(3, NO_BOUND, NO_BOUND)), [(200, Why::Trees), (100, Why::Trees)]);
    assert_eq!(goes(10, &four, &keep(1, NO_BOUND, NO_BOUND)).len(), 4, "mine stays");
    assert_eq!(goes(10, &four, &keep(NO_BOUND, 40, NO_BOUND)), [(100, Why::Size)]);
    assert_eq!(goes(10, &four, &keep(NO_BOUND, NO_BOUND, 750)), [(200, Why::Age), (100, Why::Age)]);
    // One that does not fit makes room for older ones that do.
    assert_eq!(goes(10, &[(400, 100), (300, 10)], &keep(NO_BOUND, 50, NO_BOUND)), [(400, Why::Size)]);
    // A clock that was set back makes nothing old.
    assert_eq!(goes(10, &[(5000, 10)], &keep(NO_BOUND, NO_BOUND, 1)), []);
}

#[test]
fn the_newest_alone_may_be_too_large_and_the_others_do_not_pay() {
    assert_eq!(goes(1000, &[(400, 10), (300, 35)], &keep(NO_BOUND, 40, NO_BOUND)), [(300, Why::Size)]);
    assert_eq!(goes(u64::MAX, &[(400, u64::MAX)], &keep(NO_BOUND, 40, NO_BOUND)), [(400, Why::Size)]);
}

/// A kept tree of so many bytes (as its record says), last used so long ago.
fn kept(state: &StateDir, age_ms: u64, bytes: Option<u64>) -> Id {
    let tree = trees::create_tree(state, id(), Path::new("/usr"), None).unwrap();
    fs::write(tree.upper().join("x"), vec![1; 10_000]).unwrap();
    let used_ms = clock::now_ms() - age_ms;
    if bytes.is_some() {
        Kept { used_ms, bytes, ..Kept::default() }.write(&tree).unwrap();
    }
    tree.id()
}

fn left(state: &StateDir) -> Vec<Id> {
    trees::list_trees(state).unwrap()
}

#[test]
fn what_goes_is_said_in_one_line_and_nothing_in_use_goes() {
    let (_dir, state) = state();
    let (mine, new, old) =
        (kept(&state, 0, Some(1)), kept(&state, 60_000, Some(1)), kept(&state, 3 * 86_400_000 + 5, Some(1)));
    let reader = trees::open_tree(&state, old).unwrap().unwrap();
    assert!(reader.try_share().unwrap());
    let mut said = Vec::new();
    enforce(&state, mine, 1, &keep(1, NO_BOUND, NO_BOUND), &mut said);
    assert_eq!(
        said,
        ["the kept changes of an older run (1m old) were removed: `keep.trees` = 1 (config.toml)"]
    );
    assert!(!left(&state).contains(&new) && left(&state).contains(&old));
    drop(reader);
    said.clear();
    enforce(&state, mine, 5, &keep(1, 4, NO_BOUND), &mut said);
    assert!(said[0].starts_with("the changes take 5 B, more than `keep.size` = 4 allows"), "{said:?}");
    assert_eq!(
        said[1..],
        ["the kept changes of an older run (3d old) were removed: `keep.trees` = 1 (config.toml)"]
    );
    assert_eq!(left(&state), [mine]);
    said.clear();
    enforce(&state, mine, 1, &keep(1, 4, NO_BOUND), &mut said);
    assert_eq!(said, Vec::<String>::new());
}

#[test]
fn what_nobody_measured_is_measured_once_and_a_first_run_is_not_counted() {
    let (_dir, state) = state();
    let (mine, killed) = (kept(&state, 0, Some(1)), kept(&state, 0, None));
    let running = trees::create_tree(&state, id(), Path::new("/usr"), None).unwrap();
    fs::write(running.upper().join("x"), "").unwrap();
    let mut said = Vec::new();
    enforce(&state, mine, 1, &keep(2, NO_BOUND, NO_BOUND), &mut said);
    assert_eq!(said, Vec::<String>::new());
    let record = || Kept::read(trees::open_tree(&state, killed).unwrap().unwrap()).unwrap();
    let first = record();
    assert!(first.bytes.unwrap() >= 10_000, "{first:?}");
    assert!(clock::now_ms() - first.used_ms < 60_000, "{first:?}");
    fs::write(state.path().join("trees").join(killed.as_str()).join("upper/y"), vec![1; 100_000]).unwrap();
    enforce(&state, mine, 1, &keep(2, NO_BOUND, NO_BOUND), &mut said);
    assert_eq!(record(), first);
    // By its size it would go.
    enforce(&state, mine, 1, &keep(2, 5_000, NO_BOUND), &mut said);
    assert_eq!((said.len(), left(&state).contains(&killed)), (1, false), "{said:?}");
    assert!(left(&state).contains(&running.id()));
}

#[test]
fn many_at_once_remove_no_more_than_the_rule_says() {
    let (_dir, state) = state();
    let all: Vec<Id> = (0..20u64).map(|n| kept(&state, n * 1000, Some(1))).collect();
    std::thread::scope(|s| {
        for mine in &all[..10] {
            s.spawn(|| enforce(&state, *mine, 1, &keep(15, NO_BOUND, NO_BOUND), &mut Vec::new()));
        }
    });
    let left: std::collections::BTreeSet<Id> = left(&state).into_iter().collect();
    assert_eq!(left, all[..15].iter().copied().collect(), "the newest");
}

#[test]
fn a_tree_that_takes_long_to_remove_is_gone_at_once_and_removed_by_the_next() {
    let (_dir, state) = state();
    let (mine, old) = (kept(&state, 0, Some(1)), kept(&state, 10, Some(1)));
    let upper = state.path().join("trees").join(old.as_str()).join("upper");
    for n in 0..200 {
        fs::create_dir_all(upper.join(format!("{n}/a/b/c"))).unwrap();
    }
    let tree = trees::claim_kept(&state, old).unwrap().unwrap();
    // Killed at once.
    drop(tree.take_away(&state).unwrap());
    assert_eq!(left(&state), [mine]);
    let names = || fs::read_dir(state.path().join("trees")).unwrap().count();
    assert_eq!(names(), 2);
    for _ in 0..100 {
        enforce(&state, mine, 1, &keep(9, NO_BOUND, NO_BOUND), &mut Vec::new());
        if names() == 1 {
            return;
        }
    }
    panic!("{} names are left", names());
}
