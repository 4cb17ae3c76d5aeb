//! Workspaces as people see them, and what is wrong with them in words with a way out.

use nix::errno::Errno;

use super::error::CommandError;
use super::policy_flags::policy_error;
use super::ui::human;
use super::{exit, hints, state};
use crate::base::{duration, size, text};
use crate::ops::workspaces::Error;
use crate::schema::changes::FORMAT;
use crate::schema::workspace::{Workspace, WorkspaceDetail};

pub(super) const HEADERS: [&str; 6] = ["name", "id", "status", "used", "size", "directory"];

/// On a terminal short and relative; piped whole and absolute.
pub(super) fn row(w: &Workspace, terminal: bool, now: u64) -> Vec<String> {
    let dash = || "-".to_owned();
    vec![
        w.name.to_string(),
        if terminal { w.id.as_str().get(..10).unwrap_or_default().to_owned() } else { w.id.to_string() },
        w.status.as_str().to_owned(),
        if terminal { ago(&w.used_at, now) } else { w.used_at.clone() },
        w.bytes.map_or_else(dash, |n| if terminal { size::human(n) } else { n.to_string() }),
        w.began_with().map_or_else(dash, str::to_owned),
    ]
}

/// An RFC 3339 time for eyes.
fn ago(time: &str, now: u64) -> String {
    let ms = time.parse::<jiff::Timestamp>().ok().and_then(|t| u64::try_from(t.as_millisecond()).ok());
    ms.map_or_else(|| time.to_owned(), |ms| human::when(ms, now))
}

/// Everything, a line each.
pub(super) fn detail(detail: &WorkspaceDetail) -> String {
    let w = &detail.workspace;
    let time = |ms: u64| duration::human(std::time::Duration::from_millis(ms));
    let mut rows: Vec<(&str, String)> = vec![
        ("name", w.name.to_string()),
        ("id", w.id.to_string()),
        ("status", status(w)),
        ("directory", directory(w)),
        ("seen at", w.path.clone()),
        ("created", w.created_at.clone()),
        ("used", w.used_at.clone()),
    ];
    rows.extend(w.expires_at.iter().map(|at| ("expires", at.clone())));
    rows.extend(w.ttl_ms.map(|ms| ("ttl", time(ms))));
    rows.extend(w.idle_ms.map(|ms| ("idle", time(ms))));
    rows.extend(w.rm_idle_ms.map(|ms| ("rm when idle", time(ms))));
    rows.extend(w.bytes.map(|n| ("size", size::human(n))));
    rows.extend(w.parent.map(|id| ("fork of", id.to_string())));
    rows.extend((!w.layers.is_empty()).then(|| ("layers", w.layers.len().to_string())));
    rows.extend((!w.labels.is_empty()).then(|| ("labels", text::printable(w.labels.join(", ").as_bytes()))));
    let note = |(k, v): (&String, &String)| ("meta", text::printable(format!("{k}={v}").as_bytes()));
    rows.extend(w.meta.iter().map(note));
    rows.extend(detail.policy.iter().map(|kept| (kept.key, kept.value.clone())));
    rows.extend(detail.env_files.iter().map(|file| ("env file", text::printable(file.as_bytes()))));
    rows.extend(detail.volumes.iter().map(|volume| ("volume", text::printable(volume.as_bytes()))));
    rows.push(("lies in", detail.directory.clone()));
    let lost = |since: &String| format!("what was written since {since}: its jail, killed, had it in memory");
    rows.extend(detail.lost_since.iter().map(|since| ("lost", lost(since))));
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

fn directory(w: &Workspace) -> String {
    match (&w.from_dir, &w.imported) {
        (Some(dir), _) => format!("{dir} (the host's own, shared as it is)"),
        (None, Some(copy)) => {
            let count = if copy.files == 1 { "file" } else { "files" };
            format!("a copy of {} ({} {count}, {})", copy.from, copy.files, size::human(copy.bytes))
        }
        (None, None) => "none: it began empty".to_owned(),
    }
}

fn status(w: &Workspace) -> String {
    let word = w.status.as_str();
    let Some(live) = &w.live else { return word.to_owned() };
    let count = |n: u32, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    let mut text = format!("{word} since {} (process {})", live.since, live.pid);
    if let Some((commands, processes)) = live.commands.zip(live.processes) {
        text.push_str(&format!(
            ": {}, {}",
            count(commands, "command", "commands"),
            count(processes, "process", "processes")
        ));
    }
    if live.keep {
        text.push_str("; until `aj workspace stop`");
    }
    text
}

/// What `rm` took away.
pub(super) fn removed(gone: &[WorkspaceDetail]) -> serde_json::Value {
    let gone: Vec<&Workspace> = gone.iter().map(|d| &d.workspace).collect();
    serde_json::json!({"format_version": FORMAT, "removed": gone})
}

impl From<Error> for CommandError {
    fn from(e: Error) -> CommandError {
        let e = match e {
            Error::Still(e) => return CommandError::from(e).hint("or fork it when nothing runs in it"),
            Error::Changes(e) => return (*e).into(),
            e => e,
        };
        let (exit, code) = match &e {
            Error::State(e) => return state::error(e),
            Error::Policy(e) => return policy_error(e, exit::FAILED),
            Error::NotFound(_) | Error::NoneHere(_) | Error::None | Error::Orphan { .. } => {
                (exit::NOT_FOUND, "workspace_not_found")
            }
            Error::Ambiguous { .. } => (exit::NOT_FOUND, "workspace_ambiguous"),
            Error::Taken { .. } => (exit::BUSY, "workspace_exists"),
            Error::InUse { .. } | Error::Paused(_) => (exit::BUSY, "workspace_busy"),
            Error::Volume(e) => return super::volume::shown(e),
            Error::Still(_) | Error::Changes(_) | Error::Restless { .. } | Error::InMemory { .. } => {
                (exit::BUSY, "workspace_not_still")
            }
            Error::Attachment(_) => (exit::FAILED, "workspace_damaged"),
            Error::Unforkable { .. } => (exit::FAILED, "workspace_not_forkable"),
            Error::NoForks(_) | Error::NoSuchForks(_) => (exit::NOT_FOUND, "workspace_no_forks"),
            Error::Itself(_) | Error::NoFork(_) | Error::Unrelated { .. } | Error::OtherId { .. } => {
                (exit::USAGE, "workspace_no_fork")
            }
            Error::Parted { .. } => (exit::BUSY, "workspace_changed"),
            Error::Expired(_) => (exit::FAILED, "workspace_expired"),
            Error::Record(_) | Error::Settings(_) => (exit::FAILED, "workspace_damaged"),
            Error::Name(_) => (exit::USAGE, "usage"),
            Error::Directory { .. } => (exit::FAILED, "workspace_refused"),
            Error::NotText(_)
            | Error::Setting { .. }
            | Error::Word { .. }
            | Error::Cursor(_)
            | Error::At { .. } => (exit::USAGE, "usage"),
            Error::Import { .. } => (exit::FAILED, "import_failed"),
            Error::NoDirectory(_) => (exit::USAGE, "workspace_no_directory"),
            Error::Conflicts { .. } => (exit::FAILED, "workspace_conflicts"),
            Error::CurrentDir(_) => (exit::FAILED, "current_dir"),
            Error::Random(_) => (exit::FAILED, "random"),
        };
        let mut shown = CommandError::new(exit, code, e.to_string());
        if let Error::Import { source, .. } = &e {
            shown = shown.caused_by(source);
        }
        match &e {
            Error::NotFound(_) => shown.hint("`aj workspace list` shows the workspaces"),
            Error::NoneHere(_) => shown
                .hint("name one: `aj workspace list` shows them")
                .hint("or make one over this directory: `aj workspace create --from-dir .`"),
            Error::None => shown.hint("make one: `aj workspace create NAME`"),
            Error::Ambiguous { .. } => shown.hint("write its name, or more of the id"),
            Error::Taken { name, .. } => shown
                .hint("choose another name, or leave it out")
                .hint(format!("see that one: `aj workspace show {name}`")),
            Error::InUse { name, by_run: true } => shown
                .hint(format!("see since when: `aj workspace show {name}`"))
                .hint(format!("wait for its end: `aj workspace wait {name}`"))
                .hint(format!("or end it: `aj workspace stop {name}`")),
            Error::Paused(name) => shown
                .hint(format!("let it go on: `aj resume {name}`"))
                .hint(format!("or end it: `aj workspace stop {name}`")),
            Error::Restless { name, .. } => shown
                .hint(format!("pause it, and it is copied however long that takes: `aj pause {name}`"))
                .hint(format!("or fork it when nothing runs in it: `aj workspace wait {name}`")),
            Error::InMemory { name } => shown
                .hint(format!("fork it when nothing runs in it: `aj workspace wait {name}`"))
                .hint(format!("or end its jail, which keeps what is in it: `aj workspace stop {name}`")),
            Error::InUse { by_run: false, .. } => shown.hint("wait for it and try again"),
            Error::Expired(name) => shown
                .hint(format!("keep it for longer: `aj workspace touch {name} --for 1h`"))
                .hint(format!("or for ever: `aj workspace set {name} --ttl none`"))
                .hint(format!("or remove it: `aj workspace rm {name}`")),
            Error::Record(_) | Error::Settings(_) | Error::Attachment(_) => {
                shown.hint("repair the file by hand; what is in the workspace lies beside it")
            }
            Error::Unforkable { .. } => {
                shown.hint("fork one over the main working tree, not a linked one or a submodule")
            }
            Error::Orphan { child, .. } => shown
                .hint(format!(
                    "name another one over the same directory: `aj promote {child} --into WORKSPACE`"
                ))
                .hint(format!("or go on in the fork: it has all of it, `aj exec {child} -- COMMAND`")),
            Error::NoFork(_) => shown.hint("name the workspace: `--into WORKSPACE`"),
            Error::Itself(name) => shown
                .hint(format!("see its forks: `aj workspace list`; then `aj promote FORK --into {name}`")),
            Error::Unrelated { .. } => shown.hint("see what they lie over: `aj workspace list`"),
            Error::OtherId { parent, .. } => {
                shown.hint(format!("see what is kept for it: `aj workspace show {parent}`"))
            }
            Error::Parted { child, parent } => shown
                .hint(format!("see what it has: `aj diff {parent}`"))
                .hint(format!("lose that: `aj promote {child} --into {parent} --overwrite`")),
            Error::CurrentDir(_) => shown.hint(hints::CURRENT_DIR),
            Error::Directory { .. } => shown.hint("use a project directory"),
            Error::NoDirectory(name) => shown.hint(format!(
                "leave out `--import`: `aj workspace fork {name}` shares nothing of the host's"
            )),
            Error::Conflicts { name, .. } => shown
                .hint(format!("see them: `aj diff {name}`"))
                .hint(format!("bring back what is not in conflict: `aj apply {name} --partial`")),
            Error::At { .. } => shown.hint("leave it out: the tree is at /workspace then"),
            Error::Import { source, .. } => match source.errno {
                Errno::EACCES | Errno::EPERM => shown
                    .hint("let yourself read it (`chmod u+rX`), or move it out of the directory")
                    .hint("or leave the directory where it is: `aj workspace create --from-dir DIR`"),
                Errno::ENOSPC | Errno::EDQUOT => shown
                    .hint("make room (`aj gc`), or set AJ_STATE_DIR to a directory on a larger file system"),
                _ => shown,
            },
            Error::State(_)
            | Error::Volume(_)
            | Error::Policy(_)
            | Error::Name(_)
            | Error::NotText(_)
            | Error::Setting { .. }
            | Error::Word { .. }
            | Error::Cursor(_)
            | Error::Random(_)
            | Error::Still(_)
            | Error::Changes(_) => shown,
            Error::NoForks(_) | Error::NoSuchForks(_) => {
                shown.hint("`aj workspace list` shows which workspaces are forks, and of what")
            }
        }
    }
}
