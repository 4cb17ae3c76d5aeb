//! How long a workspace lasts: `--ttl`, `--idle`, `--rm-when-idle`, and what `aj workspace touch` and `set` do.

use super::change::gone;
use super::list::detail;
use super::{Error, Found};
use crate::base::clock;
use crate::schema::workspace::{Record, WorkspaceDetail};
use crate::store::kept::Kept;
use crate::store::workspaces;

/// What `aj workspace set` changes. `Some(None)` takes a limit away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// How long it lasts, milliseconds from when it was made.
    pub ttl_ms: Option<Option<u64>>,
    /// After how long without use it is idle.
    pub idle_ms: Option<Option<u64>>,
    /// After how long without use it is removed.
    pub rm_idle_ms: Option<Option<u64>>,
    /// Labels that it gets.
    pub add_labels: Vec<String>,
    /// Labels that it loses.
    pub remove_labels: Vec<String>,
}

/// Change it. It counts as a use.
pub fn set(found: Found, change: Change) -> Result<WorkspaceDetail, Error> {
    for label in &change.add_labels {
        super::list::check_label(label)?;
    }
    let changed = workspaces::amend(&found.state, found.id(), |filed| {
        let record = &mut filed.record;
        record.ttl_ms = change.ttl_ms.unwrap_or(record.ttl_ms);
        record.idle_ms = change.idle_ms.unwrap_or(record.idle_ms);
        record.rm_idle_ms = change.rm_idle_ms.unwrap_or(record.rm_idle_ms);
        record.labels.retain(|label| !change.remove_labels.contains(label));
        for label in &change.add_labels {
            if !record.labels.contains(label) {
                record.labels.push(label.clone());
            }
        }
        record.touched_ms = Some(clock::now_ms());
    })?;
    match changed {
        Some(filed) => detail(&Found { filed, ..found }),
        None => Err(gone(&found)),
    }
}

/// When it was used last, as far as it is written down: a jail that runs is asked itself.
pub(in crate::ops) fn used_ms(record: &Record, kept: Option<&Kept>) -> u64 {
    let ran = kept.map_or(0, |k| k.used_ms);
    record.created_ms.max(ran).max(record.touched_ms.unwrap_or(0))
}

/// When it ends if nobody uses it.
pub(in crate::ops) fn ends_ms(record: &Record, used: u64) -> Option<u64> {
    let by_age = record.ttl_ms.map(|ttl| record.created_ms.saturating_add(ttl));
    let by_idleness = record.rm_idle_ms.map(|idle| used.saturating_add(idle));
    let ends = by_age.into_iter().chain(by_idleness).min()?;
    Some(ends.max(record.keep_until_ms.unwrap_or(0)))
}

/// When it is idle if nobody uses it.
pub(in crate::ops) fn idles_ms(record: &Record, used: u64) -> Option<u64> {
    Some(used.saturating_add(record.idle_ms?).max(record.keep_until_ms.unwrap_or(0)))
}

/// When it is to be removed if nobody uses it, when what has expired is kept for `keep_ms` (`None`: for ever).
pub(in crate::ops) fn due_ms(record: &Record, used: u64, keep_ms: Option<u64>) -> Option<u64> {
    let by_age = record.ttl_ms.zip(keep_ms).map(|(ttl, keep)| {
        record.created_ms.saturating_add(ttl).max(record.keep_until_ms.unwrap_or(0)).saturating_add(keep)
    });
    let by_idleness =
        record.rm_idle_ms.map(|idle| used.saturating_add(idle).max(record.keep_until_ms.unwrap_or(0)));
    by_age.into_iter().chain(by_idleness).min()
}

/// Whether its time is up. Idleness ends with the next use.
pub(crate) fn is_over(record: &Record) -> bool {
    let by_age = Record { rm_idle_ms: None, ..record.clone() };
    ends_ms(&by_age, 0).is_some_and(|ends| ends <= clock::now_ms())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::{Id, Kind};
    use crate::schema::workspace::RECORD;

    fn record() -> Record {
        Record {
            format: RECORD,
            id: Id::random(Kind::Workspace).unwrap(),
            name: "api".parse().unwrap(),
            created_ms: 1000,
            from_dir: None,
            ttl_ms: None,
            idle_ms: None,
            rm_idle_ms: None,
            touched_ms: None,
            keep_until_ms: None,
            env_files: vec![],
            gpu: None,
            volumes: vec![],
            parent: None,
            group: None,
            layers: vec![],
            at: None,
            import: None,
            maker: None,
            labels: vec![],
            meta: Default::default(),
        }
    }

    #[test]
    fn the_earlier_of_age_and_idleness_ends_it_unless_it_is_kept() {
        let ends = |ttl, idle, keep| {
            let record = Record { ttl_ms: ttl, rm_idle_ms: idle, keep_until_ms: keep, ..record() };
            ends_ms(&record, 5000)
        };
        assert_eq!(ends(None, None, None), None);
        assert_eq!(ends(None, None, Some(9)), None, "it lasts anyway");
        assert_eq!(ends(Some(10), None, None), Some(1010));
        assert_eq!(ends(None, Some(10), None), Some(5010));
        assert_eq!(ends(Some(10), Some(10), None), Some(1010));
        assert_eq!(ends(Some(10), Some(10), Some(7000)), Some(7000));
        assert_eq!(ends(Some(u64::MAX), None, None), Some(u64::MAX));
    }

    #[test]
    fn being_idle_ends_nothing() {
        let idle = Record { idle_ms: Some(10), ..record() };
        assert_eq!((ends_ms(&idle, 5000), idles_ms(&idle, 5000)), (None, Some(5010)));
        assert_eq!(idles_ms(&Record { keep_until_ms: Some(9000), ..idle }, 5000), Some(9000));
        assert_eq!(idles_ms(&record(), 5000), None);
    }

    #[test]
    fn what_has_expired_is_kept_for_a_while_and_what_is_for_once_is_not() {
        let due = |ttl, idle, until, keep| {
            let record = Record { ttl_ms: ttl, rm_idle_ms: idle, keep_until_ms: until, ..record() };
            due_ms(&record, 5000, keep)
        };
        assert_eq!(due(Some(10), None, None, Some(100)), Some(1110));
        assert_eq!(due(Some(10), None, Some(3000), Some(100)), Some(3100));
        assert_eq!(due(Some(10), None, None, None), None, "kept for ever");
        assert_eq!(due(None, Some(10), None, Some(100)), Some(5010));
        assert_eq!(due(Some(10), Some(10), None, None), Some(5010));
        assert_eq!(due(None, None, None, Some(0)), None);
    }
}
