//! Between the supervisor and the caller: the status descriptor, and the tree as soon as the command
//! has ended.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use serde_json::json;

use super::beside::Beside;
use super::beyond::Below;
use super::copied::{self, Copied};
use super::limits::{LAST_LOOK, LOOK};
use super::storage::{self, Held};
use super::{Error, Hold, Watcher, discard, exit_code, lite};
use crate::base::id::Id;
use crate::jail::limits::Limits;
use crate::jail::root;
use crate::jail::status::Layers;
use crate::jail::supervise::{self, Ended};
use crate::ops::pause;
use crate::schema::jail::{Outcome, Usage};
use crate::store::layout::StateDir;
use crate::store::sides;
use crate::store::trees::{self, Tree};
use crate::sys::sink::{self, Sink};
use crate::workspace::measure::{self, Most, Walk};

/// `--status-fd`: short lines, written when the reader takes them, never waited for while the
/// command runs.
pub(super) struct StatusLines {
    to: OwnedFd,
    pending: Vec<u8>,
    failed: Option<Errno>,
}

impl StatusLines {
    pub(super) fn new(to: OwnedFd) -> StatusLines {
        StatusLines { to, pending: Vec::new(), failed: None }
    }

    fn push(&mut self, line: &serde_json::Value) {
        self.pending.extend_from_slice(format!("{line}\n").as_bytes());
        self.advance();
    }

    fn advance(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        match Sink::new(self.to.as_fd()).write(&self.pending) {
            Ok(n) => drop(self.pending.drain(..n)),
            Err(Errno::EAGAIN) => {}
            // It does not change what the command does.
            Err(e) => {
                self.pending.clear();
                self.failed = Some(e);
            }
        }
    }
}

/// Between the supervisor and the caller: writes `--status-fd`.
pub(super) struct Relay<'a> {
    to: &'a mut dyn Watcher,
    status: Option<StatusLines>,
    state: &'a StateDir,
    pub(super) tree: Option<Tree>,
    /// What has an overlay beside the workspace.
    pub(super) beside: &'a [Beside],
    /// What later runs would like to find made.
    pub(super) wanted: Option<&'a root::Wanted>,
    /// Upper layers in the jail's memory.
    pub(super) uppers: Vec<Held>,
    /// Private copies.
    pub(super) copies: Vec<Copied>,
    /// There are no namespaces around the command.
    pub(super) lite: bool,
    /// Why what was in them is gone.
    pub(super) lost: Option<String>,
    below: Option<&'a Below>,
    /// Which jail it is, and its control groups.
    pub(super) run: Option<(Id, Option<&'a Limits>)>,
    /// What is to be said of what is mounted below the workspace.
    pub(super) mounts: Option<String>,
    /// It is the jail of a workspace: who holds it, and what is to be said when it is there.
    pub(super) hold: Option<(&'a Hold, Vec<String>)>,
    /// A look at what was written that is not through.
    walk: Option<Walk>,
}

impl<'a> Relay<'a> {
    pub(super) fn new(
        to: &'a mut dyn Watcher,
        status: Option<StatusLines>,
        state: &'a StateDir,
        tree: Option<Tree>,
        below: Option<&'a Below>,
    ) -> Relay<'a> {
        Relay {
            to,
            status,
            state,
            tree,
            beside: &[],
            wanted: None,
            uppers: Vec::new(),
            copies: Vec::new(),
            lite: false,
            lost: None,
            below,
            run: None,
            mounts: None,
            hold: None,
            walk: None,
        }
    }

    /// The tree, when anything changed in it; put aside otherwise.
    pub(super) fn settle(&mut self) -> Result<Option<Tree>, Error> {
        let out = storage::carry_out(std::mem::take(&mut self.uppers));
        if let Err(e) = out.and_then(|()| copied::settle(std::mem::take(&mut self.copies))) {
            self.lost = Some(storage::why_lost(&e));
            discard(self.tree.take(), self.state);
        }
        if let Some(tree) = self.tree.as_ref().filter(|_| self.lite) {
            self.mounts = lite::clean(tree);
        }
        keep_if_changed(self.tree.take(), self.state)
    }

    pub(super) fn status(&mut self, line: serde_json::Value) {
        if let Some(lines) = &mut self.status {
            lines.push(&line);
        }
    }

    /// The status line of the end.
    pub(super) fn ended(&mut self, ended: &Ended) {
        self.status(match &ended.outcome {
            Outcome::Failed { step, errno, .. } => {
                json!({"event": "failed", "stage": step, "errno": errno})
            }
            outcome => json!({"event": "exited", "code": exit_code(ended), "outcome": outcome}),
        });
    }

    /// Bytes that the run has on the disk, now that it has ended.
    pub(super) fn written(&mut self) -> Option<u64> {
        self.walk = None;
        let tree = std::fs::File::open(self.tree.as_ref()?.path()).ok()?;
        measure::allocated(tree.into(), Most { entries: u64::MAX, time: LAST_LOOK }).ok()
    }

    /// What is left of the status lines, once the run is over: a moment, whatever time the command had. Who
    /// reads them waits for the next one, and nobody else may be held up by who does not. What to say when
    /// some could not be written; a reader that went away knows.
    pub(super) fn finish_status(&mut self) -> Option<String> {
        const MOMENT: Duration = Duration::from_secs(1);
        let lines = self.status.as_mut()?;
        lines.advance();
        let rest = sink::write_within(lines.to.as_fd(), &lines.pending, MOMENT);
        let why = match lines.failed.or(rest.err())? {
            Errno::EPIPE | Errno::ECONNRESET => return None,
            Errno::EAGAIN => "nobody read them within 1 s".to_owned(),
            e => format!("{e:?}"),
        };
        Some(format!("the lines of `--status-fd` could not all be written: {why}"))
    }
}

impl supervise::Watcher for Relay<'_> {
    fn meanwhile(&mut self) {
        if self.tree.is_some() {
            // Not later: a short command would wait for it. Failing is no loss.
            trees::prepare_spare(self.state).ok();
            sides::prepare_spares(self.state, self.beside.iter().filter_map(Beside::part));
        }
        if let Some(wanted) = self.wanted {
            wanted.make_if_seen(&self.state.path().join(super::CACHE));
        }
        self.mounts = self.below.and_then(Below::line);
    }

    fn lives(&mut self) {
        if let Some((_, Some(group))) = self.run {
            group.sweep();
        }
    }

    fn started(&mut self, layers: Layers, pid: i32, lines: &mut Vec<u8>) {
        assert!(!super::spec::test_takes("panic"), "a test wanted it");
        if let Some((hold, words)) = &self.hold {
            hold.ready(words);
        }
        self.status(json!({"event": "started", "pid": pid}));
        self.to.started(layers.names(), pid, lines);
    }

    fn output(&mut self, stderr: bool, bytes: &[u8], lines: &mut Vec<u8>) {
        self.to.output(stderr, bytes, lines);
    }

    fn tick(&mut self, usage: Usage, lines: &mut Vec<u8>) {
        self.to.tick(usage, lines);
    }

    fn attaching(&mut self) {
        self.to.attaching();
    }

    fn stopping(&mut self) {
        self.to.stopping();
    }

    fn disk(&mut self) -> Option<(u64, bool)> {
        let mut walk = match self.walk.take() {
            Some(walk) => walk,
            None => Walk::new(std::fs::File::open(self.tree.as_ref()?.path()).ok()?.into()).ok()?,
        };
        // What was moved away under it is looked for anew.
        let whole = walk.go_on(Most { entries: u64::MAX, time: LOOK }).unwrap_or(true);
        let bytes = walk.bytes();
        self.walk = (!whole).then_some(walk);
        Some((bytes, whole))
    }

    fn paused(&mut self) -> Duration {
        self.run.map_or(Duration::ZERO, |(id, _)| pause::so_far(self.state, id))
    }

    fn is_findable(&mut self) -> bool {
        self.hold.as_ref().is_none_or(|(hold, _)| hold.is_findable())
    }

    fn lingers(&mut self) {
        if let Some((id, _)) = self.run {
            pause::let_die(self.state, id);
        }
    }
}

fn keep_if_changed(tree: Option<Tree>, state: &StateDir) -> Result<Option<Tree>, Error> {
    tree.iter().for_each(Tree::make_removable);
    match tree {
        Some(tree) if !tree.is_lasting() && tree.is_unchanged()? => {
            tree.retire(state)?;
            Ok(None)
        }
        other => Ok(other),
    }
}
