//! Records and state directories for tests.

use super::alive::Identity;
use super::layout::StateDir;
use crate::base::id::{Id, Kind};
use crate::schema::jail::{Effective, End, Excerpt, FORMAT, Outcome, Start, Usage};

/// A state directory that is removed with the first value.
pub(crate) fn state() -> (tempfile::TempDir, StateDir) {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open_at(&dir.path().join("state")).unwrap();
    (dir, state)
}

/// A fresh id.
pub(crate) fn id() -> Id {
    Id::random(Kind::Jail).unwrap()
}

/// A start by this very process, so that it counts as running.
pub(crate) fn start(id: Id, argv: &[&str]) -> Start {
    let me = Identity::current();
    Start {
        format: FORMAT,
        id,
        kind: "exec".to_owned(),
        started_ms: 1_795_257_302_005,
        boot_id: me.boot_id,
        pid: me.pid,
        pid_start: me.pid_start,
        argv: argv.iter().map(|a| (*a).to_owned()).collect(),
        cwd: "/home/u/project".to_owned(),
        base: "/home/u/project".to_owned(),
        exact: None,
        overlay: true,
        tree: None,
        init: None,
        joined: None,
        policy: Effective { mode: "full".to_owned(), net: "none".to_owned(), ..Effective::default() },
    }
}

/// The same by a process that is gone.
pub(crate) fn dead_start(id: Id, argv: &[&str]) -> Start {
    Start { pid: u32::MAX, ..start(id, argv) }
}

/// An ordinary end.
pub(crate) fn end(id: Id, code: i32) -> End {
    End {
        format: FORMAT,
        id,
        ended_ms: 1_795_257_303_005,
        outcome: Outcome::Exited { code },
        mode: None,
        layers: vec!["userns".to_owned(), "seccomp".to_owned()],
        usage: Usage { wall_ms: 1_000, user_ms: 20, system_ms: 10, peak_rss: 4 << 20, peak_memory: 0 },
        files_changed: Some(2),
        killed_for: None,
        stdout: Excerpt { total: 6, head: b"hello\n".to_vec(), tail: Vec::new() },
        stderr: Excerpt::default(),
    }
}
