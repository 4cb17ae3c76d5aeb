//! `aj workspace list` and `show`.

use super::find::sorted_out;
use super::{Error, Found, life, live, own_place};
use crate::base::clock::{self, rfc3339};
use crate::base::id::Id;
use crate::base::text;
use crate::ops::exec::again::last;
use crate::ops::volumes;
use crate::policy::key::Key;
use crate::schema::changes::FORMAT;
use crate::schema::workspace::{
    Imported, Kept as Setting, Live, Record, Status, Unreadable, Workspace, WorkspaceDetail, WorkspaceList,
};
use crate::store::kept::Kept;
use crate::store::layout::StateDir;
use crate::store::{trees, workspaces};

/// Which ones.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// With one of these; empty: any.
    pub status: Vec<Status>,
    /// With all of these.
    pub labels: Vec<String>,
    /// With this text in the name, the id or the directory, in either case.
    pub text: Option<String>,
    /// At most so many.
    pub limit: Option<usize>,
    /// After the ones that an earlier list ended with.
    pub cursor: Option<String>,
}

/// Look at them, newest first.
pub fn list(filter: &Filter) -> Result<WorkspaceList, Error> {
    let mut answer = WorkspaceList {
        format_version: FORMAT,
        workspaces: Vec::new(),
        next_cursor: None,
        unreadable: Vec::new(),
    };
    let after = filter.cursor.as_deref().map(place).transpose()?;
    let Some(state) = StateDir::open_if_present()? else { return Ok(answer) };
    let (mut all, bad) = sorted_out(&state)?;
    if after.is_none() {
        let told = |(id, e): (Id, _)| Unreadable { id, error: Error::from(e).to_string() };
        answer.unreadable = bad.into_iter().map(told).collect();
        answer.unreadable.sort_unstable_by_key(|u| u.id);
    }
    all.sort_unstable_by_key(|f| std::cmp::Reverse((f.record.created_ms, f.record.id)));
    let text = filter.text.as_ref().map(|t| t.to_lowercase());
    let mut last = None;
    for filed in all {
        let record = &filed.record;
        if after.is_some_and(|after| (record.created_ms, record.id) >= after)
            || !wanted(record, filter, text.as_deref())
        {
            continue;
        }
        let workspace = view(&state, record);
        if !filter.status.is_empty() && !filter.status.contains(&workspace.status) {
            continue;
        }
        if filter.limit.is_some_and(|limit| answer.workspaces.len() >= limit) {
            answer.next_cursor = last;
            break;
        }
        last = Some(format!("{}.{}", record.created_ms, record.id));
        answer.workspaces.push(workspace);
    }
    Ok(answer)
}

fn wanted(record: &Record, filter: &Filter, text: Option<&str>) -> bool {
    let has = |label: &String| record.labels.contains(label);
    let within = |text: &str| {
        record.name.as_str().contains(text)
            || record.id.as_str().contains(text)
            || record.from_dir.as_ref().is_some_and(|dir| dir.to_lowercase().contains(text))
            || record.import.as_ref().is_some_and(|import| import.from.to_lowercase().contains(text))
    };
    filter.labels.iter().all(has) && text.is_none_or(within)
}

/// The place of a workspace in the list.
fn place(cursor: &str) -> Result<(u64, Id), Error> {
    let read = || {
        let (ms, id) = cursor.split_once('.')?;
        Some((ms.parse().ok()?, id.parse().ok()?))
    };
    read().ok_or_else(|| Error::Cursor(text::brief(&text::printable(cursor.as_bytes()))))
}

/// A label is one word, so that it can be given as it is shown.
pub(in crate::ops) fn check_label(label: &str) -> Result<(), Error> {
    let bad =
        |why| Error::Word { given: text::brief(&text::printable(label.as_bytes())), what: "a label", why };
    if label.is_empty() || label.len() > 128 {
        return Err(bad("it has 1 to 128 bytes"));
    }
    if label.chars().any(|c| c.is_control() || c.is_whitespace() || c == ',') {
        return Err(bad("it has no blanks, commas and control characters"));
    }
    Ok(())
}

/// One workspace.
pub fn show(found: &Found) -> Result<WorkspaceDetail, Error> {
    detail(found)
}

pub(super) fn detail(found: &Found) -> Result<WorkspaceDetail, Error> {
    let record = &found.filed.record;
    Ok(WorkspaceDetail {
        format_version: FORMAT,
        workspace: view(&found.state, record),
        policy: settings(found.filed.policy()),
        env_files: record.env_files.clone(),
        volumes: record.volumes.iter().map(|v| volumes::shown(&found.state, v)).collect(),
        directory: workspaces::shown(&found.state, record.id),
        lost_since: lost_ms(&found.state, record.id).map(rfc3339),
    })
}

/// Since when what was written in a workspace was in the memory of a jail that was killed.
fn lost_ms(state: &StateDir, id: Id) -> Option<u64> {
    let tree = trees::open_tree(state, id).ok().flatten()?;
    // Before the note is read: whoever has the tree says it himself.
    let running = tree.is_in_use().unwrap_or(true);
    let kept = Kept::read(&tree)?;
    let killed =
        || kept.last.filter(|_| kept.open && !running).and_then(|jail| last(state, jail)?.in_memory_since());
    kept.lost_ms.or_else(killed)
}

/// The section as it was written, a row for each setting. The values of variables are left out: they are
/// often secrets, and this goes into bug reports.
pub(in crate::ops) fn settings(section: &str) -> Vec<Setting> {
    let row = |line: &str| {
        let (key, value) = line.split_once(" = ")?;
        let key = Key::from_name(key)?;
        let value = match key {
            Key::Env => {
                let table: toml::Table = toml::from_str(line).ok()?;
                let names = table.get("env")?.as_table()?.keys().map(|k| text::printable(k.as_bytes()));
                names.collect::<Vec<_>>().join(", ")
            }
            _ => text::printable(value.trim_matches('"').as_bytes()),
        };
        Some(Setting { key: key.name(), value })
    };
    section.lines().filter_map(row).collect()
}

pub(super) fn view(state: &StateDir, record: &Record) -> Workspace {
    // What cannot be opened is shown as if nothing were known about it: whoever uses it says why.
    let tree = trees::open_tree(state, record.id).ok().flatten();
    let kept = tree.as_ref().and_then(Kept::read);
    let running = tree.as_ref().is_some_and(|tree| tree.is_in_use().unwrap_or(false));
    let used = life::used_ms(record, kept.as_ref());
    let ends = life::ends_ms(record, used);
    let now = clock::now_ms();
    // Only where somebody has the tree: whoever lists a thousand does not knock at all of them.
    let live = if running { live::look(state, record.id).ok().flatten() } else { None };
    let status = match ends {
        _ if live.as_ref().is_some_and(|live| live.paused) => Status::Paused,
        _ if running => Status::Running,
        Some(ends) if ends <= now => Status::Expired,
        _ if life::idles_ms(record, used).is_some_and(|at| at <= now) => Status::Idle,
        _ => Status::Ready,
    };
    Workspace {
        id: record.id,
        name: record.name.clone(),
        status,
        live: live.map(shown),
        from_dir: record.from_dir.as_ref().map(|dir| text::printable(dir.as_bytes())),
        imported: record.import.as_ref().map(|import| Imported {
            from: text::printable(import.from.as_bytes()),
            files: import.files,
            bytes: import.bytes,
        }),
        path: own_place(record)
            .map(|at| text::os(&at))
            .or_else(|| record.from_dir.as_ref().map(|dir| text::printable(dir.as_bytes())))
            .unwrap_or_default(),
        created_at: rfc3339(record.created_ms),
        used_at: rfc3339(used),
        expires_at: ends.map(rfc3339),
        ttl_ms: record.ttl_ms,
        idle_ms: record.idle_ms,
        rm_idle_ms: record.rm_idle_ms,
        bytes: kept.and_then(|k| k.bytes),
        parent: record.parent,
        group: record.group.clone(),
        layers: record.layers.clone(),
        labels: record.labels.clone(),
        meta: record.meta.clone(),
    }
}

fn shown(live: live::Live) -> Live {
    Live {
        jail_id: live.jail,
        pid: live.holder,
        since: rfc3339(live.since_ms),
        commands: live.commands,
        processes: live.processes,
        keep: live.keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_variables_are_not_shown() {
        let section =
            "[policy]\nnet = \"host\"\nro = [\"/a\"]\nenv = { \"TOKEN\" = \"s3cret\", \"A\" = \"\" }\n";
        let rows = settings(section);
        let rows: Vec<_> = rows.iter().map(|r| (r.key, r.value.as_str())).collect();
        assert_eq!(rows, [("net", "host"), ("ro", "[\"/a\"]"), ("env", "A, TOKEN")]);
    }
}
