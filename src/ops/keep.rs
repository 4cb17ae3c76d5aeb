//! Kept trees are bounded: how many, how much, how old (`[keep]` of config.toml).
//!
//! A run that kept its changes looks after it, when it has ended and been recorded. What goes loses its
//! name at once; its files are removed for a moment, and the rest by whoever comes next.

use std::time::{Duration, Instant};

use crate::base::id::Id;
use crate::base::{clock, size};
use crate::policy::keep::{Keep, age_text};
use crate::policy::value::{limit_text, size_text};
use crate::store::kept::Kept;
use crate::store::layout::StateDir;
use crate::store::{gone, trees};
use crate::sys::at;
use crate::workspace::measure::{self, Most};

/// How long the end of a run may be held up by removing files.
const MOMENT: Duration = Duration::from_millis(250);
/// How long it waits for another run that is at the same.
const TURN: Duration = Duration::from_secs(1);
/// How much a tree is looked at that nobody measured.
const MOST: Most = Most { entries: 50_000, time: Duration::from_millis(50) };
/// Trees without a record that are measured by one run.
const UNMEASURED: usize = 4;

/// A tree, as far as the rule is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    id: Id,
    /// When the last run in it ended, milliseconds since the epoch.
    used_ms: u64,
    /// Bytes on the disk; 0 while that is not known.
    bytes: u64,
}

/// What the rule takes a tree away for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    Age,
    Trees,
    Size,
}

/// Which of `others` go, when `mine` has just been made: the newest stay as long as all of them are
/// within the bounds. `mine` stays whatever it is; when it alone is larger than all may be together, the
/// others do not pay for it. `None`: nobody has just made one.
fn judge(mine: Option<&Held>, others: &mut [Held], keep: &Keep, now_ms: u64) -> Vec<(Id, Why)> {
    others.sort_unstable_by_key(|t| (std::cmp::Reverse(t.used_ms), t.id));
    let (most, room) = (keep.trees.value.unwrap_or(u64::MAX), keep.size.value.unwrap_or(u64::MAX));
    let oldest = keep.age.value.map_or(u64::MAX, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let taken = mine.map_or(0, |mine| mine.bytes);
    let (mut count, mut sum) = (u64::from(mine.is_some()), if taken > room { 0 } else { taken });
    let mut going = Vec::new();
    for tree in others.iter() {
        let why = if now_ms.saturating_sub(tree.used_ms) > oldest {
            Why::Age
        } else if count >= most {
            Why::Trees
        } else if sum.saturating_add(tree.bytes) > room {
            Why::Size
        } else {
            count += 1;
            sum = sum.saturating_add(tree.bytes);
            continue;
        };
        going.push((tree.id, why));
    }
    going
}

/// Hold the trees of `state` to `keep`, now that `mine` was kept, which takes `bytes`. What is to be said
/// about it is added to `said`.
pub(super) fn enforce(state: &StateDir, mine: Id, bytes: u64, keep: &Keep, said: &mut Vec<String>) {
    if let Some(room) = keep.size.value.filter(|room| bytes > *room) {
        said.push(format!(
            "the changes take {}, more than `keep.size` = {} allows for all that is kept: the next run that \
             keeps changes removes them",
            size::human(bytes),
            size_text(room)
        ));
    }
    // Failing is no loss: the next run looks after it.
    let Ok(Some(_turn)) = trees::take_turn(state, TURN) else { return };
    let now = clock::now_ms();
    let Ok(mut others) = held(state, Some(mine)) else { return };
    let ages: Vec<(Id, u64)> = others.iter().map(|t| (t.id, now.saturating_sub(t.used_ms))).collect();
    let going = judge(Some(&Held { id: mine, used_ms: now, bytes }), &mut others, keep, now);
    let mut gone = Vec::new();
    for (id, why) in going {
        if let Ok(Some(tree)) = trees::claim_kept(state, id)
            && let Ok(Some(tree)) = tree.take_away(state)
        {
            let age = ages.iter().find(|(other, _)| *other == id).map_or(0, |(_, age)| *age);
            gone.push((tree, age, why));
        }
    }
    let removed: Vec<(u64, Why)> = gone.iter().map(|(_, age, why)| (*age, *why)).collect();
    said.extend(sentence(&removed, keep));
    let end = Instant::now() + MOMENT;
    let mut go_on = || Instant::now() < end;
    for (tree, _, _) in gone {
        tree.remove(state, &mut go_on).ok();
    }
    gone::finish_all(state, &mut go_on).ok();
}

/// The kept trees beyond the bounds, with their bytes and the key that says so; the caller has the turn. They
/// are taken away when `take`, as those that nobody has just now.
pub(super) fn beyond(state: &StateDir, keep: &Keep, take: bool) -> Result<Vec<Beyond>, crate::store::Error> {
    let mut all = held(state, None)?;
    let going = judge(None, &mut all, keep, clock::now_ms());
    let mut gone = Vec::new();
    for (id, why) in going {
        let bytes = all.iter().find(|t| t.id == id).map_or(0, |t| t.bytes);
        let Some(tree) = trees::claim_kept(state, id)? else { continue };
        let tree = if take { tree.take_away(state)? } else { None };
        if tree.is_some() || !take {
            gone.push(Beyond { id, bytes, key: key(why, keep), tree });
        }
    }
    Ok(gone)
}

/// One of them.
#[derive(Debug)]
pub(super) struct Beyond {
    pub(super) id: Id,
    pub(super) bytes: u64,
    pub(super) key: String,
    /// Without its name.
    pub(super) tree: Option<gone::Gone>,
}

fn key(why: Why, keep: &Keep) -> String {
    match why {
        Why::Age => format!("`keep.age` = {}", limit_text(keep.age.value, age_text)),
        Why::Trees => format!("`keep.trees` = {}", limit_text(keep.trees.value, |n| n.to_string())),
        Why::Size => format!("`keep.size` = {}", limit_text(keep.size.value, size_text)),
    }
}

/// What went, how old it was, and the keys that say so.
fn sentence(removed: &[(u64, Why)], keep: &Keep) -> Option<String> {
    let oldest = removed.iter().map(|(age, _)| *age).max()?;
    let mut why: Vec<Why> = removed.iter().map(|(_, why)| *why).collect();
    why.sort_unstable();
    why.dedup();
    let keys: Vec<String> = why.into_iter().map(|why| key(why, keep)).collect();
    let age = rough(oldest);
    let what = match removed.len() {
        1 => format!("the kept changes of an older run ({age} old) were removed"),
        n => format!("the kept changes of {n} older runs (the oldest {age} old) were removed"),
    };
    Some(format!("{what}: {} (config.toml)", keys.join(", ")))
}

/// An age for people, in its largest unit.
fn rough(ms: u64) -> String {
    match ms / 1000 {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3_600 => format!("{}m", s / 60),
        s @ 3_600..86_400 => format!("{}h", s / 3_600),
        s => format!("{}d", s / 86_400),
    }
}

/// The kept trees but `mine`. Those that a first run holds are not kept yet.
fn held(state: &StateDir, mine: Option<Id>) -> Result<Vec<Held>, crate::store::Error> {
    let mut found = Vec::new();
    let mut unmeasured = UNMEASURED;
    for id in trees::list_trees(state)?.into_iter().filter(|id| Some(*id) != mine) {
        let Ok(Some(tree)) = trees::open_tree(state, id) else { continue };
        match Kept::read(&tree) {
            Some(Kept { used_ms, bytes: Some(bytes), .. }) => found.push(Held { id, used_ms, bytes }),
            kept => {
                drop(tree);
                found.extend(measured(state, id, kept, &mut unmeasured));
            }
        }
    }
    Ok(found)
}

/// A tree that a killed run left, or an older `aj`: measured once.
fn measured(state: &StateDir, id: Id, kept: Option<Kept>, left: &mut usize) -> Option<Held> {
    // One without a record may be about to be a first run's.
    let claimed = if kept.is_some() { trees::claim_kept(state, id) } else { trees::claim(state, id) };
    let Ok(Some(tree)) = claimed else {
        return kept.map(|k| Held { id, used_ms: k.used_ms, bytes: 0 });
    };
    if tree.is_unchanged().unwrap_or(true) {
        return None;
    }
    // The top changes with its entries, the link once: the later of both is not after the last run.
    let ms = |name: &[u8]| at::stat(&tree, name).ok().and_then(|m| u64::try_from(m.ctime.sec).ok());
    let made_ms = ms(b"upper").max(ms(b"base")).unwrap_or(0).saturating_mul(1000);
    let kept = kept.unwrap_or(Kept { used_ms: made_ms, ..Kept::default() });
    let mut bytes = 0;
    if *left > 0 {
        *left -= 1;
        let upper = tree.open_upper().ok()?;
        bytes = measure::allocated(upper, MOST).unwrap_or(0);
        Kept { bytes: Some(bytes), ..kept.clone() }.write(&tree).ok();
    }
    Some(Held { id, used_ms: kept.used_ms, bytes })
}

#[cfg(test)]
#[path = "keep_tests.rs"]
mod tests;
