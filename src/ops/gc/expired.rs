//! What time says: expired and idle workspaces, kept changes beyond their bounds, jobs that ended long ago,
//! old records.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::time::Duration;

use super::{Left, Work};
use crate::base::clock::rfc3339;
use crate::base::id::Id;
use crate::ops::workspaces::{self, Found, isolated, life, live};
use crate::ops::{exec, jobs, keep};
use crate::policy::keep::age_text;
use crate::schema::workspace::Record;
use crate::store::kept::Kept;
use crate::store::layout::StateDir;
use crate::store::trim::Stay;
use crate::store::workspaces::{self as store, Filed};
use crate::store::{ledger, trees};

pub(super) fn collect(work: &mut Work<'_>) {
    workspaces(work);
    changes(work);
    if work.until.is_none() {
        finished(work);
    }
}

/// Workspaces whose time is up.
pub(super) fn workspaces(work: &mut Work<'_>) {
    let ids = store::list(work.state);
    for id in work.tried("workspaces", ids).unwrap_or_default() {
        if !work.goes_on() {
            break;
        }
        // A record that cannot be read says nothing of its time; `orphans` tells of it.
        let Ok(Some(filed)) = Filed::read(work.state, id) else { continue };
        let name = filed.record.name.to_string();
        let done = one(work, &filed.record);
        work.tried(&name, done);
    }
}

/// What is due of one of them.
enum Due {
    Nothing,
    /// What runs in it is stopped.
    Stop(String),
    /// It goes, and what runs in it with it.
    Go(String),
}

fn judge(record: &Record, used: u64, commands: Option<u32>, work: &Work<'_>) -> Due {
    let keep = work.keep.expired.value;
    let keep_ms = keep.map(|keep| u64::try_from(keep.as_millis()).unwrap_or(u64::MAX));
    let now = work.now_ms;
    let is_past = |at: Option<u64>| at.is_some_and(|at| at <= now);
    // Somebody is at work in it: that ends no idleness.
    let busy = commands.is_some_and(|n| n > 0);
    let by_age = Record { rm_idle_ms: None, ..record.clone() };
    let over = life::ends_ms(&by_age, used);
    if is_past(life::due_ms(&by_age, used, keep_ms)) {
        let kept = keep.map_or_else(String::new, |keep| format!(", kept for {}", age_text(keep)));
        return Due::Go(format!("expired {}{kept}", over.map(rfc3339).unwrap_or_default()));
    }
    if is_past(over) {
        return Due::Stop(format!("the workspace expired {}", over.map(rfc3339).unwrap_or_default()));
    }
    let unused = |ms: Option<u64>| ms.map_or_else(String::new, |ms| age_text(Duration::from_millis(ms)));
    if !busy && is_past(life::due_ms(&Record { ttl_ms: None, ..record.clone() }, used, None)) {
        return Due::Go(format!("not used for {}", unused(record.rm_idle_ms)));
    }
    if !busy && is_past(life::idles_ms(record, used)) {
        return Due::Stop(format!("not used for {}", unused(record.idle_ms)));
    }
    if commands.is_none() && is_empty_left_over(work, record) {
        return Due::Go("its command was killed before it changed anything".into());
    }
    Due::Nothing
}

/// Whether it is the fork of one command that did not come to its end, with nothing in it. Its home counts, unlike
/// at the end of a command: somebody may have copied a file there since.
fn is_empty_left_over(work: &Work<'_>, record: &Record) -> bool {
    let is_bare = |tree: &trees::Tree| -> Result<bool, crate::store::Error> {
        Ok(store::is_room_bare(tree, c"home")? && !isolated::is_changed(tree)?)
    };
    isolated::is_left(record)
        && match trees::open_tree(work.state, record.id) {
            Ok(Some(tree)) => is_bare(&tree).unwrap_or(false),
            _ => false,
        }
}

/// When a workspace was used last, and how many commands run in its jail, if it has one.
fn look(work: &Work<'_>, record: &Record) -> Result<(u64, Option<u32>), Left> {
    let state = work.state;
    let tree = trees::open_tree(state, record.id)?;
    let mut used = life::used_ms(record, tree.as_ref().and_then(Kept::read).as_ref());
    let running = match &tree {
        Some(tree) => tree.is_in_use()?,
        None => false,
    };
    drop(tree);
    if !running {
        return Ok((used, None));
    }
    // A share stops nothing, and does not knock at a jail that may be slow to answer.
    if work.until.is_some() {
        return Ok((used, Some(1)));
    }
    // What runs may be older than the last command that joined it.
    let joined = std::fs::metadata(store::dir_of(state, record.id)).and_then(|m| m.modified()).ok();
    let joined = joined.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    used = used.max(joined.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)));
    // One that does not say is taken to be at work: paused, of another version, or no jail that is joined.
    let live = live::look(state, record.id)?;
    Ok((used, Some(live.map_or(1, |live| live.commands.unwrap_or(1)))))
}

fn one(work: &mut Work<'_>, record: &Record) -> Result<(), Left> {
    let (state, id) = (work.state, record.id);
    let (used, commands) = look(work, record)?;
    let due = judge(record, used, commands, work);
    let stops = !matches!(due, Due::Nothing) && commands.is_some();
    if let (Due::Go(why) | Due::Stop(why), true) = (&due, stops) {
        // It takes the time that the jail takes: not for a share.
        if work.until.is_some() {
            return Ok(());
        }
        let found = || -> Result<Found, Left> {
            let filed = Filed::read(state, id).map_err(workspaces::Error::from)?;
            let filed = filed.ok_or_else(|| workspaces::Error::NotFound(record.name.to_string()))?;
            Ok(Found { state: StateDir::open_at(state.path())?, filed })
        };
        if work.dry || stop(&found()?)? {
            work.took("jail", record.name.to_string(), None, why.clone());
        }
    }
    let Due::Go(_) = due else { return Ok(()) };
    // Its end, if it came from us, is no use of the workspace.
    let ours = stops.then(|| exec::live::jail_of(state, id)).flatten();
    if work.dry {
        let Due::Go(why) = due else { return Ok(()) };
        let bytes = trees::open_tree(state, id)?.and_then(|tree| work.bytes_of(tree.as_fd()));
        work.took("workspace", record.name.to_string(), bytes, why);
        return Ok(());
    }
    let tree = trees::open_tree(state, id)?;
    if let Some(tree) = &tree
        && !tree.lock_patiently()?
    {
        // A reader, or a run that has just begun.
        return Ok(());
    }
    // A command may have run meanwhile, or somebody has given it more time.
    let Ok(Some(filed)) = Filed::read(state, id) else { return Ok(()) };
    let kept = tree.as_ref().and_then(Kept::read).filter(|kept| ours.is_none() || kept.last != ours);
    let used = match kept {
        None if ours.is_some() => used.max(life::used_ms(&filed.record, None)),
        kept => life::used_ms(&filed.record, kept.as_ref()),
    };
    let Due::Go(why) = judge(&filed.record, used, None, work) else { return Ok(()) };
    let bytes = tree.as_ref().and_then(|tree| work.bytes_of(tree.as_fd()));
    let Some(gone) = store::take_away(state, id, tree)? else { return Ok(()) };
    work.took("workspace", filed.record.name.to_string(), bytes, why);
    let until = work.until;
    gone.remove_while(state, &mut || until.is_none_or(|until| std::time::Instant::now() < until))?;
    Ok(())
}

fn stop(found: &Found) -> Result<bool, exec::Error> {
    live::stop(found, false)
}

/// Kept changes beyond the bounds of `[keep]`.
pub(super) fn changes(work: &mut Work<'_>) {
    // Whoever keeps changes may be at it: then this is done.
    let wait = if work.until.is_some() { Duration::ZERO } else { Duration::from_secs(10) };
    let _turn = match trees::take_turn(work.state, wait) {
        // Nobody changes anything there.
        Err(e) if work.dry && e.is_read_only() => None,
        turn => match work.tried("keep.lock", turn) {
            Some(Some(turn)) => Some(turn),
            _ => return,
        },
    };
    let gone = keep::beyond(work.state, &work.keep, !work.dry);
    for beyond in work.tried("trees", gone).unwrap_or_default() {
        let name = beyond.id.to_string();
        work.took("changes", name.clone(), Some(beyond.bytes), beyond.key);
        if let Some(tree) = beyond.tree {
            let until = work.until;
            let mut go_on = || until.is_none_or(|until| std::time::Instant::now() < until);
            let done = tree.remove(work.state, &mut go_on);
            work.tried(&name, done);
        }
    }
}

/// Jobs that ended long ago, with their logs.
fn finished(work: &mut Work<'_>) {
    let Some(age) = work.keep.logs.value else { return };
    let before = work.now_ms.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let old = jobs::ended_before(work.state, before);
    for (found, bytes) in work.tried("jobs", old).unwrap_or_default() {
        let name = found.name();
        let why = format!("ended more than {} ago: `keep.logs`", age_text(age));
        let gone =
            if work.dry { Ok(true) } else { jobs::remove::remove(found, false).map(|gone| gone.is_some()) };
        if work.tried(&name, gone) == Some(true) {
            work.took("job", name, bytes, why);
        }
    }
}

/// Rows of the ledger.
pub(super) fn records(work: &mut Work<'_>) {
    let state = work.state;
    // What is kept is found, and judged, by the record of its run.
    let mut wanted: BTreeSet<Id> = trees::list_trees(state).unwrap_or_default().into_iter().collect();
    let with_tree: Vec<Id> = wanted.iter().copied().chain(store::list(state).unwrap_or_default()).collect();
    for id in with_tree {
        let last = trees::open_tree(state, id).ok().flatten().and_then(|tree| Kept::read(&tree)?.last);
        wanted.extend(last);
    }
    let age = work.keep.record_age.value;
    let ms = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    let stay = Stay {
        since_ms: age.map(|age| work.now_ms.saturating_sub(ms(age))),
        newest: work.keep.records.value,
        also: &|id| id.parse::<Id>().is_ok_and(|id| wanted.contains(&id)),
    };
    let size = || std::fs::metadata(state.path().join("ledger.db")).map_or(0, |m| m.len());
    if size() == 0 || work.no_ledger {
        return;
    }
    let before = size();
    let dry = work.dry;
    let gone = ledger::read(state, work.monitor, |ledger| ledger.trim(&stay, dry));
    match work.tried("ledger.db", gone) {
        None | Some(0) => {}
        Some(n) => {
            let bytes = Some(before.saturating_sub(size())).filter(|n| *n > 0);
            let age = age.map_or_else(|| "none".to_owned(), age_text);
            let most = work.keep.records.value.map_or_else(|| "none".to_owned(), |n| n.to_string());
            let why = format!("`keep.record_age` = {age}, `keep.records` = {most}");
            work.took("records", format!("{n} of the ledger"), bytes, why);
        }
    }
}
