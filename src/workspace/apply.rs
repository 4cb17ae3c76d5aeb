//! Bringing what a jail changed back into its base directory.
//!
//! # The order of things
//! First the whole tree is compared ([`mod@super::diff`]) and every change gets a verdict; nothing is
//! written. A change is *withheld* when the host would execute the file and that was not allowed; it
//! is a *conflict* when the host's entry changed meanwhile. **With any conflict nothing at all is
//! applied**, unless a partial apply was asked for: half of a jail's work is rarely what one wants,
//! and the rest can still be applied later. Withheld files do not hold up the others.
//!
//! Then the tree is walked again and each change is made as it is met, with a last look at the host's
//! entry just before: what changed between the two walks becomes a conflict as well.
//!
//! # Objects first
//! What git names must be there. So new objects of a repository go before everything else, and objects
//! that are gone after everything else, each in a walk of its own, where there are any: a ref, an index
//! or a pack that takes the place of single objects never stands for what is still to come.
//!
//! # What an interruption leaves
//! Every entry is replaced by one rename. What was applied is equal to the tree and no change any more,
//! so applying again completes the work, and removes temporary files. A full disk stops the work at
//! the file that did not fit.
//!
//! # What comes back without being a change
//! The times of files that were written again with the same bytes: build tools compare them. Not of a file of
//! the host that has several names.
//!
//! # Several names
//! A file of the host that has more names than the one in the base is never changed where it is: what comes
//! back takes the place of this name alone, also where only permission bits changed.
//!
//! # What does not come back
//! Setuid, setgid and sticky bits, extended attributes, ACLs, access times, times of directories, hard
//! links as such, and special files. What a file of the host has of a user's attributes and of ACLs stays when it
//! gets other content. As root everything put on the host is given to the owner of the entry it replaces or of the
//! directory it is in.

use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::change::{Change, Conflict, Kind, Options, Skipped, Status};
use super::diff::Totals;
use super::put::{self, Content, Place, Refused};
use super::scan::{Event, Item, Scan};
use super::stack::Uppers;
use super::upper;
use crate::monitor::Monitor;
use crate::sys;
use crate::sys::at::{self, FileKind, Stamp};
use crate::sys::openat2::{self, For};

mod directories;

/// Bytes of path text that a report holds at most; further entries are counted only.
const PATHS_LIMIT: usize = 256 << 20;

/// How to apply.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// What to compare.
    pub options: Options,
    /// Decide and report, write nothing.
    pub dry_run: bool,
    /// Bring back files that the host would execute, too.
    pub allow_exec_files: bool,
    /// Apply what can be applied although there are conflicts.
    pub partial: bool,
    /// The jail's version wins where the host's entry changed meanwhile.
    pub overwrite: bool,
}

/// A change that could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Path below the base, raw bytes.
    pub path: Vec<u8>,
    /// Which call, and why.
    pub error: sys::Error,
    /// Whether the directory it is in is at fault: it lets nothing be made, replaced or removed.
    pub shut: bool,
}

/// What was done, or in a dry run would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the host was written to. `false`: dry run, or conflicts stopped it beforehand.
    pub performed: bool,
    /// Changes made (in a dry run: that would be made), sorted by path; none when conflicts stop it.
    pub applied: Vec<Change>,
    /// Files that the host would execute, left out.
    pub withheld: Vec<Change>,
    /// Changes in conflict with the host, left out.
    pub conflicts: Vec<Change>,
    /// Entries of the tree that are never applied.
    pub skipped: Vec<Skipped>,
    /// Changes that could not be made.
    pub failed: Vec<Failure>,
    /// Whether a failure ended the work early (a full disk).
    pub stopped: bool,
    /// Numbers of `applied`.
    pub totals: Totals,
    /// Changes withheld, listed or not.
    pub withheld_total: u64,
    /// Changes in conflict, listed or not.
    pub conflicts_total: u64,
    /// Changes that only the conflicts of others stopped.
    pub rest: u64,
    /// Temporary files of an earlier, killed apply that were removed.
    pub cleaned: u64,
    /// Entries that the lists had no room for.
    pub truncated: u64,
    /// Inodes that were put on the host, with the times they are known by: see
    /// [`Applied`](crate::store::applied::Applied).
    pub put: Vec<(u64, Stamp)>,
    listed: usize,
    /// There are new objects, and objects that are gone, in a repository's store.
    objects: (bool, bool),
}

impl Outcome {
    fn list(&mut self, path: &[u8]) -> bool {
        self.listed += path.len();
        let room = self.listed <= PATHS_LIMIT;
        self.truncated += u64::from(!room);
        room
    }

    fn put(&mut self, change: Change, verdict: Verdict) {
        match verdict {
            Verdict::Apply => self.totals.count(&change),
            Verdict::Withhold => self.withheld_total += 1,
            Verdict::Conflict => self.conflicts_total += 1,
        }
        if self.list(&change.path) {
            match verdict {
                Verdict::Apply => self.applied.push(change),
                Verdict::Withhold => self.withheld.push(change),
                Verdict::Conflict => self.conflicts.push(change),
            }
        }
    }

    fn skip(&mut self, skipped: Skipped) {
        self.totals.skipped += 1;
        if self.list(&skipped.path) {
            self.skipped.push(skipped);
        }
    }
}

/// Why nothing could be applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another apply is at work on the same base.
    #[error("another `aj apply` is at work on this directory")]
    Busy,
    /// The content would not fit.
    #[error("the changes need {needed} bytes, and {free} are free")]
    NoSpace {
        /// Bytes to write.
        needed: u64,
        /// Bytes free for an ordinary user.
        free: u64,
    },
    /// The walk could not begin or go on.
    #[error(transparent)]
    Sys(#[from] sys::Error),
}

/// Which changes a walk makes and reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// All.
    All,
    /// New objects, as far as nothing speaks against them.
    Objects,
    /// All but objects that are gone.
    Rest,
    /// Objects that are gone.
    Gone,
}

impl Pass {
    fn takes(self, status: Status, in_store: bool) -> bool {
        match self {
            Pass::All => true,
            Pass::Objects => in_store && status == Status::Added,
            Pass::Rest => !(in_store && status == Status::Deleted),
            Pass::Gone => in_store && status == Status::Deleted,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Apply,
    Withhold,
    Conflict,
}

impl Choice {
    fn verdict(&self, change: &Change) -> Verdict {
        match change.conflict {
            // Left out anyway: no reason to hold up the others.
            _ if change.host_executed.is_some() && !self.allow_exec_files => Verdict::Withhold,
            Some(c) if !(self.overwrite && c.may_be_overridden()) => Verdict::Conflict,
            _ => Verdict::Apply,
        }
    }
}

/// Merge the upper layers `uppers` into `base`, a directory open for listing.
pub fn apply(
    uppers: impl Into<Uppers>,
    base: OwnedFd,
    choice: &Choice,
    monitor: &dyn Monitor,
) -> Result<Outcome, Error> {
    let uppers = uppers.into();
    match at::lock(&base) {
        Err(e) if e.errno == Errno::EWOULDBLOCK => return Err(Error::Busy),
        done => done?,
    }
    let scan =
        |uppers, base| Scan::new(uppers, base, &choice.options).map(|s| s.overriding(choice.overwrite));
    monitor.phase("compare", 0);
    let look = scan(uppers.try_clone()?, duplicate(&base)?)?;
    let mut plan = Work::new(look, choice, monitor, false).run()?;
    if plan.conflicts_total > 0 && !choice.partial {
        plan.applied.clear();
        plan.rest = plan.totals.changes();
        plan.totals = Totals { skipped: plan.totals.skipped, ..Totals::default() };
        return Ok(plan);
    }
    if choice.dry_run {
        return Ok(plan);
    }
    let free = at::free_bytes(&base)?;
    if plan.totals.bytes > free {
        return Err(Error::NoSpace { needed: plan.totals.bytes, free });
    }
    monitor.phase("apply", plan.totals.changes());
    let passes: &[Pass] = match plan.objects {
        (false, false) => &[Pass::All],
        (true, false) => &[Pass::Objects, Pass::Rest],
        (false, true) => &[Pass::Rest, Pass::Gone],
        (true, true) => &[Pass::Objects, Pass::Rest, Pass::Gone],
    };
    drop(plan);
    let mut done = Outcome::default();
    for &pass in passes {
        let walk = scan(uppers.try_clone()?, duplicate(&base)?);
        let walk = match walk {
            Err(e) if done.performed => {
                done.stopped = true;
                done.failed.push(Failure { path: Vec::new(), error: e, shut: false });
                break;
            }
            walk => walk?,
        };
        done = Work { pass, out: done, ..Work::new(walk, choice, monitor, true) }.run()?;
        done.performed = true;
        if done.stopped {
            break;
        }
    }
    if passes.len() > 1 {
        for list in [&mut done.applied, &mut done.withheld, &mut done.conflicts] {
            list.sort_by(|a, b| a.path.cmp(&b.path));
        }
    }
    // `base` holds the lock until the end.
    drop(base);
    Ok(done)
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd, Error> {
    fd.try_clone().map_err(|e| {
        let errno = e.raw_os_error().map_or(Errno::EMFILE, Errno::from_raw);
        sys::Error::new("dup", "", errno).into()
    })
}

/// A directory on the way that the work has to come back to.
#[derive(Debug, Default)]
struct Level {
    name: Vec<u8>,
    /// Permission bits to set when its entries are done.
    mode: Option<u32>,
    /// What it was before it was opened for its owner until then.
    unlocked: Option<at::Meta>,
    /// It stands for something that stays on the host, so nothing can be put into it.
    withheld: bool,
    /// Something in it was put there or removed, or its own bits were set.
    touched: bool,
}

struct Work<'a> {
    scan: Scan<'a>,
    choice: &'a Choice,
    monitor: &'a dyn Monitor,
    act: bool,
    pass: Pass,
    levels: Vec<Level>,
    out: Outcome,
}

impl<'a> Work<'a> {
    fn new(scan: Scan<'a>, choice: &'a Choice, monitor: &'a dyn Monitor, act: bool) -> Work<'a> {
        let mut scan = scan;
        scan.touch = act;
        Work { scan, choice, monitor, act, pass: Pass::All, levels: Vec::new(), out: Outcome::default() }
    }

    fn run(mut self) -> Result<Outcome, Error> {
        self.clean();
        while !self.out.stopped {
            match self.scan.next() {
                Ok(None) => break,
                Ok(Some(event)) => self.event(event),
                Err(e) if self.act => {
                    self.out.stopped = true;
                    self.fail(e);
                }
                Err(e) => return Err(e.into()),
            }
        }
        // A walk that broke off still closes the directories it opened wide.
        while !self.levels.is_empty() && self.out.stopped && self.scan.close_frame() {
            self.leave();
        }
        self.out.put.append(&mut self.scan.touched);
        Ok(self.out)
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Enter(item) => {
                let mut level = Level { name: self.scan.name().to_vec(), ..Level::default() };
                level.withheld = self.levels.last().is_some_and(|l| l.withheld);
                self.levels.push(level);
                if let Some(item) = item {
                    self.directory(item);
                }
                self.clean();
            }
            Event::Item(item) => self.item(item),
            Event::Skip(skipped) if matches!(self.pass, Pass::All | Pass::Rest) => self.out.skip(skipped),
            Event::Skip(_) => {}
            Event::Leave => self.leave(),
        }
    }

    /// A change of a directory itself.
    fn directory(&mut self, item: Item) {
        let verdict = self.verdict(&item.change);
        if item.change.implied {
            return;
        }
        // Its entries need no other bits than it has.
        let stays = item.change.status == Status::ModeChanged;
        if verdict == Verdict::Withhold
            && !stays
            && let Some(level) = self.levels.last_mut()
        {
            level.withheld = true;
        }
        if self.opened_up(&item, verdict) {
            self.close(item.change, verdict, Ok(()));
            return;
        }
        if self.pass == Pass::Objects {
            // Nothing is put where something else has to go first.
            if let Some(level) = self.levels.last_mut() {
                level.withheld |=
                    (verdict != Verdict::Apply && !stays) || item.change.status == Status::TypeChanged;
            }
            return;
        }
        if self.pass == Pass::Gone {
            return;
        }
        let mode = item.new.map(|m| m.mode & 0o777);
        let done = match (verdict, item.change.status) {
            _ if !self.act => Ok(()),
            // Made now also when it has no entries. Otherwise with the first entry.
            (Verdict::Apply, Status::Added) => self.ensure(),
            (Verdict::Apply, Status::TypeChanged) => self.ensure(),
            (Verdict::Apply, _) => {
                if let Some(level) = self.levels.last_mut() {
                    level.mode = mode;
                }
                Ok(())
            }
            _ => Ok(()),
        };
        self.close(item.change, verdict, done);
    }

    fn verdict(&self, change: &Change) -> Verdict {
        if self.levels.last().is_some_and(|l| l.withheld) {
            return Verdict::Withhold;
        }
        self.choice.verdict(change)
    }

    fn item(&mut self, item: Item) {
        let in_store = self.scan.classifier.in_object_store(self.scan.name());
        let status = item.change.status;
        self.out.objects.0 |= in_store && status == Status::Added;
        self.out.objects.1 |= in_store && status == Status::Deleted;
        let verdict = self.verdict(&item.change);
        if !self.pass.takes(status, in_store) || (self.pass == Pass::Objects && verdict != Verdict::Apply) {
            return;
        }
        let mut done = Ok(());
        if verdict == Verdict::Apply {
            // Of a file with several names also a change of its bits is a copy.
            let copied = item.old.as_ref().is_some_and(at::Meta::has_other_names);
            if matches!(status, Status::Added | Status::Modified | Status::TypeChanged)
                || (status == Status::ModeChanged && copied)
            {
                self.out.totals.bytes += item.new.map_or(0, |m| m.allocated.min(m.size));
            }
            if self.act {
                done = self.make(&item);
            }
        }
        self.close(item.change, verdict, done);
    }

    fn close(&mut self, mut change: Change, verdict: Verdict, done: Result<(), Refused>) {
        if verdict == Verdict::Withhold && change.host_executed.is_none() {
            change.host_executed = Some("is in a directory that is withheld");
        }
        match done {
            Ok(()) => {
                self.out.put(change, verdict);
                self.monitor.step(1);
            }
            Err(Refused::Raced) => {
                change.conflict = Some(Conflict::Changed);
                self.out.put(change, Verdict::Conflict);
            }
            Err(Refused::Shut(e)) => self.failed(change.path, e, true),
            Err(Refused::Failed(e)) => self.failed(change.path, e, false),
        }
    }

    fn failed(&mut self, path: Vec<u8>, error: sys::Error, shut: bool) {
        // Nothing that follows can go better, or it would name objects that are not there.
        self.out.stopped =
            matches!(error.errno, Errno::ENOSPC | Errno::EDQUOT | Errno::EROFS) || self.pass == Pass::Objects;
        if self.out.list(&path) {
            self.out.failed.push(Failure { path, error, shut });
        }
    }

    fn fail(&mut self, error: sys::Error) {
        let path = self.scan.path.clone();
        if self.out.list(&path) {
            self.out.failed.push(Failure { path, error, shut: false });
        }
    }

    /// Make one change on the host.
    fn make(&mut self, item: &Item) -> Result<(), Refused> {
        if item.change.status != Status::Deleted {
            self.ensure()?;
        }
        if let Some(e) = &item.shut {
            return Err(Refused::Failed(e.clone()));
        }
        self.unlock()?;
        let name = self.scan.name();
        let place = Place { dir: self.scan.base.top()?, name, old: item.old.as_ref() };
        // Taking one of several names away moves the ctime that the other names are judged by.
        let linked = match &item.old {
            Some(old) if old.has_other_names() => Some(openat2::beneath(place.dir, name, For::Naming)?),
            _ => None,
        };
        self.change_entry(item, &place)?;
        if let Some(meta) = linked.and_then(|fd| at::fstat(fd).ok()) {
            self.scan.own_changes.insert((meta.dev, meta.ino), meta.ctime);
        }
        self.note(item);
        Ok(())
    }

    /// Remember what was put there, unless somebody has been at it already.
    fn note(&mut self, item: &Item) {
        if let Some(level) = self.levels.last_mut() {
            level.touched = true;
        }
        let found = self.scan.base.top().and_then(|dir| at::stat(dir, self.scan.name()));
        if let (Ok(now), Some(new)) = (found, &item.new)
            && now.kind == new.kind
            && (now.size, now.mode & 0o777) == (new.size, expected_mode(new))
            && (now.mtime == new.mtime || item.change.status == Status::ModeChanged)
        {
            self.out.put.push((now.ino, now.ctime));
        }
    }

    fn change_entry(&self, item: &Item, place: &Place<'_>) -> Result<(), Refused> {
        let name = place.name;
        match (item.change.status, item.change.kind, &item.new) {
            (Status::Deleted, ..) => put::remove(place),
            (Status::ModeChanged, _, Some(new)) => put::mode(place, new.mode),
            (_, Kind::File, Some(new)) => {
                let content = match &item.content {
                    Some(bytes) => Content::Bytes(bytes),
                    None => Content::File(upper::open_file(self.scan.upper.dir_of(name)?, name)?),
                };
                put::file(place, content, new)
            }
            (_, Kind::Symlink, Some(new)) => {
                put::symlink(place, item.change.target.as_deref().unwrap_or_default(), new)
            }
            (_, Kind::Directory | Kind::Special, _) | (_, _, None) => {
                Err(sys::Error::new("apply", "", Errno::EINVAL).into())
            }
        }
    }
}

/// Permission bits that an entry put on the host has.
fn expected_mode(new: &at::Meta) -> u32 {
    if new.kind == FileKind::Symlink { 0o777 } else { new.mode & 0o777 }
}
