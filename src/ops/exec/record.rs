//! The rows of the ledger that a run writes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::disk::By;
use super::limits::Chosen;
use crate::base::id::Id;
use crate::base::{clock, text};
use crate::jail::spec::Spec;
use crate::jail::supervise::Ended;
use crate::policy::settings::{Access, Net, Seccomp, Settings};
use crate::schema::jail::bytes64::encode;
use crate::schema::jail::{self as record, Effective, Exact, Outcome};
use crate::store::alive;

fn word(value: Access) -> &'static str {
    match value {
        Access::Overlay => "overlay",
        Access::Rw => "rw",
        Access::Ro => "ro",
    }
}

pub(super) fn effective(
    settings: &Settings,
    spec: &Spec,
    (tools, caches, hidden): (Vec<String>, Vec<String>, Vec<String>),
    (limits, disk): (&Chosen, &By),
    lite: bool,
) -> Effective {
    let ms = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let paths =
        |writable| spec.binds.iter().filter(|b| b.writable == writable).map(|b| text::os(&b.path)).collect();
    Effective {
        preset: settings.preset.clone(),
        // What is used is known when the command runs: see `super::mode`.
        mode: settings.mode.to_string(),
        workspace: word(settings.access).to_owned(),
        storage: super::storage::word(spec).to_owned(),
        net: match settings.net {
            Net::None => "none",
            Net::Host => "host",
        }
        .to_owned(),
        seccomp: match settings.seccomp {
            Seccomp::Standard => "standard",
            Seccomp::Strict => "strict",
            Seccomp::Log => "log",
        }
        .to_owned(),
        timeout_ms: settings.timeout.map(ms),
        mem: settings.mem,
        cpu_millis: limits.cpu_millis,
        pids: settings.pids.filter(|_| !lite),
        nofile: settings.nofile,
        tmp: spec.tmp,
        limits_by: limits.by(),
        disk: limits.disk,
        disk_by: disk.word().to_owned(),
        io_read: limits.io_read,
        io_write: limits.io_write,
        uid: if lite { nix::unistd::geteuid().as_raw() } else { spec.inside_id() },
        nested_userns: settings.nested_userns,
        tools,
        tool_dirs: spec.tools.iter().map(|t| text::os(&t.path)).collect(),
        parts: spec.sides.iter().map(|s| text::os(&s.path)).collect(),
        caches,
        cache_dirs: spec.caches.iter().map(|c| text::os(&c.side.path)).collect(),
        hidden,
        ro: paths(false),
        rw: paths(true),
        gpu: Vec::new(),
        volumes: Vec::new(),
        env: variables(settings),
    }
}

/// Names of the variables that were asked for.
pub(super) fn variables(settings: &Settings) -> Vec<String> {
    settings.env.iter().map(|(k, _)| text::os(k)).chain(settings.pass.iter().map(text::os)).collect()
}

/// The tree is `of` the jail that made it; `init` is the jail's pid 1. `kind`: one of
/// [`crate::schema::ledger::KINDS`].
pub(super) fn start(
    spec: &Spec,
    policy: &Effective,
    of: Option<Id>,
    (kind, init): (&str, i32),
) -> record::Start {
    let me = alive::Identity::current();
    let argv: Vec<String> = spec.argv.iter().map(|a| text::printable(a.as_bytes())).collect();
    let (cwd, base) = (text::os(&spec.cwd), text::os(&spec.workspace));
    record::Start {
        format: record::FORMAT,
        id: spec.id,
        kind: kind.to_owned(),
        started_ms: clock::now_ms(),
        boot_id: me.boot_id,
        pid: me.pid,
        pid_start: me.pid_start,
        exact: exact((&spec.argv, &argv), (&spec.cwd, &cwd), (&spec.workspace, &base)),
        argv,
        cwd,
        base,
        overlay: spec.access == Access::Overlay,
        tree: of.filter(|id| *id != spec.id),
        init: u32::try_from(init).ok(),
        joined: None,
        policy: policy.clone(),
    }
}

/// A command that joins the jail `jail` of the workspace `tree`.
pub(super) fn joined(
    id: Id,
    kind: &str,
    (words, cwd, base): (&[OsString], &Path, &Path),
    (tree, jail): (Id, Id),
    policy: &Effective,
) -> record::Start {
    let me = alive::Identity::current();
    let argv: Vec<String> = words.iter().map(|a| text::printable(a.as_bytes())).collect();
    let (shown_cwd, shown_base) = (text::os(cwd), text::os(base));
    record::Start {
        format: record::FORMAT,
        id,
        kind: kind.to_owned(),
        started_ms: clock::now_ms(),
        boot_id: me.boot_id,
        pid: me.pid,
        pid_start: me.pid_start,
        exact: exact((words, &argv), (cwd, &shown_cwd), (base, &shown_base)),
        argv,
        cwd: shown_cwd,
        base: shown_base,
        overlay: true,
        tree: Some(tree),
        init: None,
        joined: Some(jail),
        policy: policy.clone(),
    }
}

/// The exact bytes, when making them printable has changed any.
fn exact(
    (words, argv): (&[OsString], &[String]),
    cwd: (&Path, &str),
    base: (&Path, &str),
) -> Option<Box<Exact>> {
    let of = |(bytes, shown): (&Path, &str)| {
        (bytes.as_os_str() != shown).then(|| encode(bytes.as_os_str().as_bytes()))
    };
    let same = words.iter().zip(argv).all(|(bytes, shown)| bytes == shown.as_str());
    let exact = Exact {
        argv: (!same).then(|| words.iter().map(|a| encode(a.as_bytes())).collect()),
        cwd: of(cwd),
        base: of(base),
    };
    (exact != Exact::default()).then(|| Box::new(exact))
}

pub(super) fn end(
    id: Id,
    outcome: Outcome,
    ended: Option<&Ended>,
    changed: Option<u64>,
    mode: Option<String>,
) -> record::End {
    let layers = ended.map(|e| e.layers.names()).unwrap_or_default();
    record::End {
        format: record::FORMAT,
        id,
        ended_ms: clock::now_ms(),
        outcome,
        layers,
        mode,
        usage: ended.map(|e| e.usage).unwrap_or_default(),
        files_changed: changed,
        killed_for: ended.filter(|e| e.over_disk).map(|_| "disk".to_owned()),
        stdout: ended.map(|e| e.stdout.clone()).unwrap_or_default(),
        stderr: ended.map(|e| e.stderr.clone()).unwrap_or_default(),
    }
}
