//! `aj stats`: what ran and what it used, added up over the ledger.

use std::collections::{BTreeSet, HashMap};

use crate::base::clock::rfc3339;
use crate::base::text::printable;
use crate::monitor::Monitor;
use crate::ops::ledger::{self, Error};
use crate::schema::ledger::Status;
use crate::schema::stats::{FORMAT, Group, Kept, Stats, Sum};
use crate::store;
use crate::store::layout::StateDir;
use crate::store::trees;
use crate::store::used::Used;

/// What the jails are sorted into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The local day on which they started.
    Day,
    /// The first word of the command, without its directory.
    Program,
    /// The preset.
    Preset,
    /// `exec` or `shell`.
    Kind,
    /// The host directory.
    Dir,
    /// Each by itself.
    Jail,
}

impl By {
    fn name(self) -> &'static str {
        match self {
            By::Day => "day",
            By::Program => "program",
            By::Preset => "preset",
            By::Kind => "kind",
            By::Dir => "dir",
            By::Jail => "jail",
        }
    }

    fn key(self, used: &Used) -> Option<String> {
        let known = |text: &str| (!text.is_empty()).then(|| printable(text.as_bytes()));
        match self {
            By::Day => used.at_ms.and_then(day),
            By::Program => known(used.program.rsplit('/').next().unwrap_or_default()),
            By::Preset => used.preset.as_deref().and_then(known),
            By::Kind => known(&used.kind),
            By::Dir => known(&used.base),
            By::Jail => known(&used.id),
        }
    }
}

fn day(ms: u64) -> Option<String> {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()?;
    Some(at.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d").to_string())
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// These jails only; empty: all.
    pub jails: Vec<String>,
    /// Started at or after, milliseconds since the epoch.
    pub since_ms: Option<u64>,
    /// Started before.
    pub until_ms: Option<u64>,
    /// Into what they are sorted.
    pub by: Option<By>,
}

/// Add up. Repairs the ledger as every reader does.
pub fn stats(request: &Request, monitor: &dyn Monitor) -> Result<Stats, Error> {
    let mut stats = Stats {
        format_version: FORMAT,
        since: request.since_ms.map(rfc3339),
        until: request.until_ms.map(rfc3339),
        by: request.by.map(By::name),
        ..Stats::default()
    };
    let Some(state) = StateDir::open_if_present()? else {
        return match request.jails.first() {
            Some(jail) => Err(Error::NotFound(printable(jail.as_bytes()))),
            None => Ok(stats),
        };
    };
    let mut wanted = BTreeSet::new();
    for selector in &request.jails {
        wanted.insert(ledger::start_of(&state, selector, monitor)?.0);
    }
    let (total, groups) = store::ledger::read(&state, monitor, |ledger| {
        // Anew, should the ledger have to be read a second time.
        let (mut total, mut groups) = (Sum::default(), HashMap::<Option<String>, Sum>::new());
        ledger.used(request.since_ms, request.until_ms, &mut |used| {
            if !wanted.is_empty() && !wanted.contains(&used.id) {
                return;
            }
            // What was used in the jail of a workspace is told of the commands in it.
            if used.kind == "live" && wanted.is_empty() {
                return;
            }
            add(&mut total, &used);
            if let Some(by) = request.by {
                add(groups.entry(by.key(&used)).or_default(), &used);
            }
        })?;
        Ok((total, groups))
    })?;
    stats.total = total;
    stats.groups = groups.into_iter().map(|(key, sum)| Group { key, sum }).collect();
    let cpu = |g: &Group| g.sum.user_ms.saturating_add(g.sum.system_ms);
    match request.by {
        Some(By::Day) => stats.groups.sort_by(|a, b| a.key.cmp(&b.key)),
        _ => stats.groups.sort_by(|a, b| cpu(b).cmp(&cpu(a)).then_with(|| a.key.cmp(&b.key))),
    }
    stats.kept = kept(&state);
    Ok(stats)
}

fn add(sum: &mut Sum, used: &Used) {
    sum.runs += 1;
    let counter = match (used.status, used.exit_code) {
        (Some(Status::Running | Status::Paused), _) => &mut sum.running,
        (Some(Status::Exited), Some(0)) => &mut sum.succeeded,
        (Some(Status::Exited | Status::Failed), _) => &mut sum.failed,
        (Some(Status::TimedOut), _) => &mut sum.timed_out,
        (Some(Status::Oom), _) => &mut sum.oom,
        (Some(Status::Killed), _) => &mut sum.killed,
        (Some(Status::Interrupted), _) => &mut sum.interrupted,
        (Some(Status::Lost) | None, _) => &mut sum.lost,
    };
    *counter += 1;
    if let Some(usage) = &used.usage {
        sum.user_ms = sum.user_ms.saturating_add(usage.user_ms);
        sum.system_ms = sum.system_ms.saturating_add(usage.system_ms);
        sum.wall_ms = sum.wall_ms.saturating_add(usage.wall_ms);
        sum.peak_memory = sum.peak_memory.max(usage.peak_memory).max(usage.peak_rss);
    }
}

fn kept(state: &StateDir) -> Kept {
    let mut kept = Kept::default();
    for id in trees::list_trees(state).unwrap_or_default() {
        let tree = trees::open_tree(state, id).ok().flatten();
        if let Some(tree) = tree.filter(|tree| !tree.is_unchanged().unwrap_or(false)) {
            kept.jails += 1;
            let bytes = store::kept::Kept::read(&tree).and_then(|k| k.bytes).unwrap_or(0);
            kept.bytes = kept.bytes.saturating_add(bytes);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::jail::Usage;

    fn used(status: Status, exit_code: Option<i64>) -> Used {
        let usage = Usage { wall_ms: 10, user_ms: 2, system_ms: 1, peak_rss: 5, peak_memory: 7 };
        Used { status: Some(status), exit_code, usage: Some(usage), ..Used::default() }
    }

    #[test]
    fn every_jail_is_counted_once_and_times_add_up() {
        let mut sum = Sum::default();
        for status in Status::ALL {
            add(&mut sum, &used(status, Some(0)));
        }
        add(&mut sum, &used(Status::Exited, Some(3)));
        add(&mut sum, &Used::default());
        let parts = sum.running
            + sum.succeeded
            + sum.failed
            + sum.timed_out
            + sum.oom
            + sum.killed
            + sum.interrupted
            + sum.lost;
        assert_eq!((sum.runs, parts), (11, 11));
        assert_eq!((sum.succeeded, sum.failed, sum.running, sum.lost), (1, 2, 2, 2));
        assert_eq!((sum.user_ms, sum.wall_ms, sum.peak_memory), (20, 100, 7));
        add(
            &mut sum,
            &Used { usage: Some(Usage { user_ms: u64::MAX, ..Usage::default() }), ..Used::default() },
        );
        assert_eq!(sum.user_ms, u64::MAX);
    }

    #[test]
    fn keys_are_printable_and_what_is_not_known_has_none() {
        let jail = Used {
            program: "/usr/bin/\u{1b}[2Jmake".to_owned(),
            at_ms: Some(1_795_257_302_005),
            base: "/a\nb".to_owned(),
            ..Used::default()
        };
        assert_eq!(By::Program.key(&jail).as_deref(), Some("\\x1b[2Jmake"));
        assert_eq!(By::Dir.key(&jail).as_deref(), Some("/a\\nb"));
        assert!(By::Day.key(&jail).unwrap().starts_with("2026-11-2"));
        assert_eq!((By::Preset.key(&jail), By::Kind.key(&jail), By::Jail.key(&jail)), (None, None, None));
        assert_eq!(By::Day.key(&Used { at_ms: Some(u64::MAX), ..Used::default() }), None);
    }
}
