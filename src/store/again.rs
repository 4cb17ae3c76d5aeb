//! A kept tree taken for one more run.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{fstat, fstatat};

use super::alive;
use super::error::{Error, Result};
use super::kept::Kept;
use super::layout::StateDir;
use super::origin::Places;
use super::spare;
use super::trees::{Tree, is_current, open_tree};
use super::workspaces;
use crate::base::clock;
use crate::base::id::Id;
use crate::schema::jail::Start;

/// Who holds a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// A run.
    Run,
    /// `aj diff` or `aj apply`, or several of them.
    Reader,
}

/// The answer of [`take`].
#[derive(Debug)]
pub enum Taken {
    /// Locked for a run; nothing in it was changed.
    Tree(Tree),
    /// In use.
    By(User),
    /// There is none.
    Gone,
}

/// How often a tree is asked for that others only look at.
const TURNS: u32 = 3;

/// Lock the tree of `id` for a further run, as [`create_tree`](super::trees::create_tree) does for the
/// first one.
pub fn take(state: &StateDir, id: Id) -> Result<Taken> {
    let Some(mut tree) = open_tree(state, id)? else { return Ok(Taken::Gone) };
    let mut turns = TURNS;
    while !tree.lock_patiently()? {
        if !tree.try_share()? {
            return Ok(Taken::By(User::Run));
        }
        // Shared with a reader, or with a run that was ending and others that ask who it was, as we do.
        turns -= 1;
        if turns == 0 {
            return Ok(Taken::By(User::Reader));
        }
    }
    // Removed between our two calls: what we hold has another name by now.
    if !is_current(state, &tree)? || !tree.unlock_upper() {
        return Ok(Taken::Gone);
    }
    tree.goes_on();
    Ok(Taken::Tree(tree))
}

/// What [`begin`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Before {
    /// The last run wrote without waiting for the disk, in an earlier boot or in one nobody noted: a
    /// power cut may have taken a part of it.
    pub may_be_torn: bool,
    /// Since when what was written was in the memory of a jail that was killed, and is lost.
    pub lost_ms: Option<u64>,
    /// The jail of the last run, whose `aj` was killed, has not ended: nothing was changed.
    pub still_runs: bool,
}

/// What is known of the run that was the last one in a tree.
#[derive(Debug)]
pub struct Last {
    /// Its beginning.
    pub start: Start,
    /// It has noted its end.
    pub ended: bool,
}

impl Last {
    /// Since when what it wrote is in its memory and nowhere else, until it has noted its end: lost, if it is gone.
    pub fn in_memory_since(&self) -> Option<u64> {
        (!self.ended && self.start.policy.storage == "memory").then_some(self.start.started_ms)
    }
}

/// How long the jail of a killed `aj` may take to end: the kernel is at it.
const LAST_MOMENTS: Duration = Duration::from_secs(2);

/// Make a tree that [`take`] locked fit to be mounted by jail `jail`. `record_of` is asked for the
/// record of the last run when the tree itself does not know enough of it.
///
/// The lock says that its `aj` is gone, and a killed one is gone a moment before its jail: that is waited
/// for, because two mounts of one upper layer must never be.
///
/// Nothing that a run wrote is lost when this fails or is cut short.
pub fn begin(tree: &Tree, jail: Id, record_of: impl FnOnce(Id) -> Option<Last>) -> Result<Before> {
    let boot = alive::boot_id().unwrap_or_default();
    let mut old = Kept::read(tree).unwrap_or_default();
    if old.open || old.last.is_none() {
        let record = record_of(old.last.unwrap_or(tree.id()));
        if record.as_ref().is_some_and(|last| !is_gone(&last.start)) {
            return Ok(Before { still_runs: true, ..Before::default() });
        }
        old.lost_ms = old.lost_ms.or(record.as_ref().and_then(Last::in_memory_since));
        if let Some(record) = record.filter(|_| old.boot.is_empty()) {
            old.boot = record.start.boot_id;
        }
    }
    spare::open_work(tree).map_err(|e| Error::call("chmod", &tree.work(), e))?;
    let torn = old.torn || (is_marked(tree)? && (boot.is_empty() || old.boot != boot));
    // Noted before the mark goes: when we are killed in between, the next run has to say it.
    let used_ms = clock::now_ms();
    let kept = Kept { boot, last: Some(jail), bytes: None, used_ms, open: true, torn, lost_ms: old.lost_ms };
    kept.write(tree).map_err(|e| Error::call("write", &tree.path().join("kept"), e))?;
    if let Some(places) = Places::read(tree) {
        // Where this run will have changes is not known to be absent.
        places.open_ended().write(tree).map_err(|e| Error::call("write", &tree.path().join("places"), e))?;
    }
    spare::empty_work(tree, tree.path())?;
    if tree.is_lasting() {
        workspaces::clear_works(tree)?;
    }
    Ok(Before { may_be_torn: torn, lost_ms: old.lost_ms, still_runs: false })
}

/// Whether the jail of that run has ended, which it has when its pid 1 has: the kernel ends it last.
pub(super) fn is_gone(run: &Start) -> bool {
    let Some(init) = run.init else { return true };
    let end = Instant::now() + LAST_MOMENTS;
    while alive::may_be_child(init, run.pid_start, &run.boot_id) {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// Whether the mark of a mount that did not wait for the disk is there.
fn is_marked(tree: &Tree) -> Result<bool> {
    match fstatat(tree, c"work/work/incompat/volatile", AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        Err(e) => Err(Error::call("stat", &tree.work(), e)),
    }
}

impl Tree {
    /// The owner of the writable layer's top: the jail's user, by its id on the host.
    pub fn owner(&self) -> Result<u32> {
        let upper = fstatat(self, c"upper", AtFlags::AT_SYMLINK_NOFOLLOW);
        upper.map(|m| m.st_uid).map_err(|e| Error::call("stat", &self.upper(), e))
    }

    /// Whether both are the same directory.
    pub(super) fn is(&self, other: &Tree) -> bool {
        let of = |tree: &Tree| fstat(tree).map(|m| (m.st_dev, m.st_ino));
        matches!((of(self), of(other)), (Ok(a), Ok(b)) if a == b)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{id, state};
    use super::super::trees::{self, create_tree, remove_tree};
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    fn kept(state: &StateDir) -> Id {
        let tree = create_tree(state, id(), "/usr".as_ref(), None).unwrap();
        fs::write(tree.upper().join("x"), "x").unwrap();
        tree.id()
    }

    fn taken(state: &StateDir, id: Id) -> Tree {
        match take(state, id).unwrap() {
            Taken::Tree(tree) => tree,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_tree_is_taken_by_one_run_and_not_while_somebody_reads_it() {
        let (_dir, state) = state();
        let id = kept(&state);
        let first = taken(&state, id);
        assert!(matches!(take(&state, id).unwrap(), Taken::By(User::Run)));
        drop(first);
        let reader = trees::open_tree(&state, id).unwrap().unwrap();
        assert!(reader.try_share().unwrap());
        assert!(matches!(take(&state, id).unwrap(), Taken::By(User::Reader)));
        drop(reader);
        drop(taken(&state, id));
        remove_tree(&state, id).unwrap();
        assert!(matches!(take(&state, id).unwrap(), Taken::Gone));
    }

    #[test]
    fn what_the_kernel_left_goes_and_what_the_jail_wrote_stays() {
        let (_dir, state) = state();
        let id = kept(&state);
        let tree = taken(&state, id);
        let left = tree.work().join("work/incompat/volatile");
        fs::create_dir_all(&left).unwrap();
        fs::write(left.join("dirty"), "").unwrap();
        // What a power cut leaves of a file that was being copied up.
        fs::create_dir_all(tree.work().join("work/#1/deep")).unwrap();
        for dir in
            [&tree.work().join("work/#1"), &tree.work().join("work/incompat"), &tree.work().join("work")]
        {
            fs::set_permissions(dir, Permissions::from_mode(0o0)).unwrap();
        }
        let jail = super::super::testing::id();
        assert!(begin(&tree, jail, |_| None).unwrap().may_be_torn, "nobody knows the boot");
        assert_eq!(fs::read_dir(tree.work()).unwrap().count(), 0);
        assert_eq!(fs::read(tree.upper().join("x")).unwrap(), b"x");
        let note = Kept::read(&tree).unwrap();
        assert_eq!((note.last, note.bytes, &note.boot), (Some(jail), None, &alive::boot_id().unwrap()));
        let here = Kept { torn: false, open: false, ..note };
        here.write(&tree).unwrap();
        fs::create_dir_all(&left).unwrap();
        assert!(!begin(&tree, jail, |_| panic!("it is noted")).unwrap().may_be_torn, "the same boot");
        fs::create_dir_all(&left).unwrap();
        Kept { boot: "another".into(), ..Kept::default() }.write(&tree).unwrap();
        for _ in 0..2 {
            assert!(begin(&tree, jail, |_| None).unwrap().may_be_torn, "until a run has ended");
        }
        Kept { boot: "another".into(), ..Kept::default() }.write(&tree).unwrap();
        assert!(!begin(&tree, jail, |_| None).unwrap().may_be_torn, "a durable run leaves no mark");
    }

    #[test]
    fn the_jail_of_a_killed_run_is_waited_for() {
        let (_dir, state) = state();
        let id = kept(&state);
        let tree = taken(&state, id);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let began: u64 =
            stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().parse().unwrap();
        let known = super::super::testing::start(id, &["x"]);
        let (init, jail) = (child.id(), super::super::testing::id());
        let ask = |init, pid_start| {
            let run = Start { init: Some(init), pid_start, ..known.clone() };
            begin(&tree, jail, |_| Some(Last { start: run, ended: false })).unwrap().still_runs
        };
        assert!(ask(init, began - 2));
        assert_eq!(Kept::read(&tree), None, "nothing was changed");
        std::thread::scope(|s| {
            s.spawn(|| {
                std::thread::sleep(Duration::from_millis(200));
                child.kill().unwrap();
            });
            assert!(!ask(init, began - 2), "it ends meanwhile, though nobody has waited for it");
        });
        child.wait().unwrap();
        for (init, pid_start) in [(std::process::id(), u64::MAX - 2000), (u32::MAX, began)] {
            assert!(!ask(init, pid_start), "another process");
        }
    }

    #[test]
    fn what_was_in_the_memory_of_a_killed_jail_is_lost_until_a_run_has_ended() {
        let (_dir, state) = state();
        let id = kept(&state);
        let tree = taken(&state, id);
        let mut start = super::super::testing::start(id, &["x"]);
        (start.init, start.started_ms, start.policy.storage) = (None, 7, "memory".into());
        let last = |ended, storage: &str| {
            let mut start = start.clone();
            start.policy.storage = storage.into();
            Some(Last { start, ended })
        };
        let lost = |last| begin(&tree, id, |_| last).unwrap().lost_ms;
        for (ended, storage) in [(true, "memory"), (false, "disk"), (false, "copy")] {
            assert_eq!(lost(last(ended, storage)), None, "{ended} {storage}");
        }
        assert_eq!(lost(last(false, "memory")), Some(7));
        assert_eq!(lost(last(false, "disk")), Some(7), "the one that said so was killed as well");
        let note = Kept::read(&tree).unwrap();
        Kept { open: false, lost_ms: None, ..note }.write(&tree).unwrap();
        assert_eq!(lost(last(false, "memory")), None, "it has ended");
    }

    #[test]
    fn a_tree_that_went_on_is_never_used_again_for_another_jail() {
        let (_dir, state) = state();
        let id = kept(&state);
        let tree = taken(&state, id);
        begin(&tree, id, |_| None).unwrap();
        fs::remove_file(tree.upper().join("x")).unwrap();
        tree.retire(&state).unwrap();
        assert_eq!(trees::names(&state).unwrap().len(), 0, "its notes are about another jail");
    }
}
