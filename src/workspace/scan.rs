//! Walks an upper layer and its base in step and tells the differences one by one.
//!
//! No recursion, few descriptors, and memory for the names of the directories on the way only. The
//! base may change while the walk is under way: every look at it goes through the descriptor of the
//! directory that was entered, which no rename or link can redirect.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use super::change::{Change, Conflict, Kind, Options, Skipped, Status};
use super::gitbase::{self, Base, Named};
use super::gone;
use super::hostexec::Classifier;
use super::names::Names;
use super::stack::{Stack, Uppers};
use super::temporary::is_temporary;
use super::trail::Trail;
use super::upper::{self, UpperKind};
use super::ways;
use crate::store::origin::Places;
use crate::store::planted::{self, What};
use crate::sys;
use crate::sys::at::{self, FileKind, Meta, Stamp};
use crate::sys::copy;
use crate::sys::openat2::{self, For};

/// One step of the walk.
#[derive(Debug)]
pub(super) enum Event {
    /// A directory was entered; the difference of the directory itself, if any.
    Enter(Option<Item>),
    /// A difference.
    Item(Item),
    /// An entry that is not compared.
    Skip(Skipped),
    /// The directory entered last is done.
    Leave,
}

/// A difference and the metadata it was decided on.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) change: Change,
    /// The entry of the upper layer; `None` for a deletion.
    pub(super) new: Option<Meta>,
    /// The entry of the host.
    pub(super) old: Option<Meta>,
    /// The content that a decision was made on, where it was: what is written must be the same.
    pub(super) content: Option<Vec<u8>>,
    /// Why the host's directory that has to go cannot.
    pub(super) shut: Option<sys::Error>,
}

/// A directory on the way.
#[derive(Debug)]
pub(super) struct Frame {
    /// Where its name starts in the path.
    pub(super) name_at: usize,
    /// Where its path ends.
    pub(super) end: usize,
    names: Names,
    next: usize,
    /// Names of the base that an opaque directory hides.
    gone: Names,
    next_gone: usize,
    /// Nothing of the base shows through.
    pub(super) opaque: bool,
    /// A conflict of this directory that holds for everything in it.
    pub(super) blocked: bool,
    /// It, or a directory above it, is not the one that the jail saw.
    pub(super) unlike: Option<Conflict>,
    /// What stands on the host in its place and must go first.
    pub(super) replaces: Option<Meta>,
    /// Permission bits in the upper layer.
    pub(super) mode: u32,
    /// Whether it has something copied up that is not known, once that was asked.
    pub(super) hides_a_copy: std::cell::OnceCell<bool>,
}

/// The walk.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    pub(super) upper: Stack,
    /// The base's counterpart; shorter than `frames` where the base has no such directory.
    pub(super) base: Trail,
    pub(super) frames: Vec<Frame>,
    pub(super) path: Vec<u8>,
    pub(super) classifier: Classifier,
    pub(super) named: Named,
    pub(super) options: &'a Options,
    override_conflicts: bool,
    /// Give files of the host that equal those of the upper layer the times of these.
    pub(super) touch: bool,
    /// Inodes of those, and their ctime since.
    pub(super) touched: Vec<(u64, Stamp)>,
    /// Whether identities and times of the base's directories mean anything.
    lasting: bool,
    /// Bytes on the disk that the upper layer's entries seen so far take.
    pub(super) allocated: u64,
    /// Directories of the base that were entered and are those that the jail saw, and what else is there.
    pub(super) places: Option<Places>,
    /// Whether the jail may have moved files of the base elsewhere, once that was asked.
    pub(super) moves: std::cell::OnceCell<bool>,
    /// Inodes of the host that lost one of several names to an apply, and their ctime since.
    pub(super) own_changes: HashMap<((u32, u32), u64), Stamp>,
}

impl<'a> Scan<'a> {
    /// Start. `base` must be open for [`For::Passing`] at least.
    pub(super) fn new(
        uppers: Uppers,
        base: std::os::fd::OwnedFd,
        options: &'a Options,
    ) -> sys::Result<Scan<'a>> {
        // A description of its own with a read position of its own; `upper` may be O_PATH.
        let own = |upper| openat2::beneath(&upper, b".", For::Listing);
        let uppers = uppers.into_inner().into_iter().map(own).collect::<sys::Result<_>>()?;
        let lasting = at::keeps_identities(&base);
        let mut scan = Scan {
            upper: Stack::new(uppers)?,
            base: Trail::new(base, For::Passing)?,
            frames: Vec::new(),
            path: Vec::new(),
            classifier: Classifier::default(),
            named: Named::default(),
            options,
            override_conflicts: false,
            touch: false,
            touched: Vec::new(),
            lasting,
            allocated: 0,
            places: None,
            moves: std::cell::OnceCell::new(),
            own_changes: HashMap::new(),
        };
        let frame = scan.frame(0, false, false)?;
        if options.git_directory {
            // What `.git` means, without becoming one by what the jail put there.
            scan.classifier.enter(b".git", true);
        } else if let Some(completed_by) = scan.repository(&frame, true) {
            scan.classifier.enter(b"", true);
            scan.becomes(Some(completed_by), true);
        }
        scan.note_scripts(&frame, true)?;
        scan.frames.push(frame);
        if !options.base.as_os_str().is_empty() {
            gitbase::look_upwards(&mut scan.named, Base { top: scan.base.root()?, path: &options.base });
        }
        Ok(scan)
    }

    /// Why the host would execute the current entry, which has this name and is no directory after
    /// the change.
    pub(super) fn host_executed(&self, name: &[u8]) -> Option<&'static str> {
        self.classifier.reason(name, false).or_else(|| self.named.reason(&self.path))
    }

    /// The same for what is removed.
    pub(super) fn removal_executed(&self, name: &[u8], old: &Meta) -> Option<&'static str> {
        let directory = old.kind == FileKind::Dir;
        self.classifier.removal_reason(name, directory).or_else(|| self.named.reason(&self.path))
    }

    /// Note the build scripts that manifests of the directory entered last name, if anything in it changed.
    fn note_scripts(&mut self, frame: &Frame, here: bool) -> sys::Result<()> {
        if frame.names.len() == 0 || self.options.base.as_os_str().is_empty() || self.classifier.installed() {
            return Ok(());
        }
        let name = (0..frame.names.len())
            .filter_map(|i| frame.names.get(i))
            .find(|name| name.eq_ignore_ascii_case(b"Cargo.toml"));
        let ours = name.and_then(|name| self.read_manifest(name));
        let theirs = if here { Some(self.base.top()?) } else { None };
        if theirs.is_some() || ours.is_some() {
            let base = Base { top: self.base.root()?, path: &self.options.base };
            gitbase::look_for_scripts(&mut self.named, base, (theirs, &self.path), ours.as_deref());
        }
        Ok(())
    }

    /// Walk into directories in conflict as if there were none.
    pub(super) fn overriding(mut self, yes: bool) -> Self {
        self.override_conflicts = yes;
        self
    }

    /// Note the directories of the base that are entered, where that is of use later, beside those that
    /// were noted before.
    pub(super) fn noting(mut self) -> Self {
        let known = || self.options.places.clone().map(Places::to_be_completed).unwrap_or_default();
        // Without identities nothing is said of directories.
        self.places = Some(if self.lasting { known() } else { known().open_ended() });
        self
    }

    /// The next step, `None` at the end. An error ends the walk.
    pub(super) fn next(&mut self) -> sys::Result<Option<Event>> {
        loop {
            let Some(frame) = self.frames.last_mut() else { return Ok(None) };
            let end = frame.end;
            let (name, gone) = if let Some(name) = frame.names.get(frame.next) {
                frame.next += 1;
                (name.to_vec(), false)
            } else if let Some(name) = frame.gone.get(frame.next_gone) {
                frame.next_gone += 1;
                (name.to_vec(), true)
            } else if self.frames.len() == 1 {
                return Ok(None);
            } else {
                self.leave()?;
                return Ok(Some(Event::Leave));
            };
            self.path.truncate(end);
            if end > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name);
            let event = if gone { self.gone_entry(&name) } else { self.upper_entry(&name)? };
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    /// The name of the entry last told.
    pub(super) fn name(&self) -> &[u8] {
        let slash = self.path.iter().rposition(|b| *b == b'/');
        &self.path[slash.map_or(0, |i| i + 1)..]
    }

    fn leave(&mut self) -> sys::Result<()> {
        let left = self.frames.pop();
        self.classifier.leave();
        if let Some(frame) = left {
            self.path.truncate(frame.end);
        }
        if self.base.depth() > self.frames.len() {
            self.base.leave()?;
        }
        self.upper.leave()
    }

    /// Leave the current directory before its end; `false` when it is the root or cannot be left.
    pub(super) fn close_frame(&mut self) -> bool {
        self.frames.len() > 1 && self.leave().is_ok()
    }

    /// Whether the base has a counterpart of the current directory.
    pub(super) fn base_here(&self) -> bool {
        self.base.depth() == self.frames.len()
    }

    fn skip(&self, reason: impl Into<String>) -> Option<Event> {
        Some(Event::Skip(Skipped { path: self.path.clone(), reason: reason.into(), unknown: false }))
    }

    /// What was asked for is a part of something that comes or goes in one piece.
    fn whole(&self) -> Option<Event> {
        self.skip("was deleted or replaced as a whole; name it to choose it")
    }

    pub(super) fn unreadable(&self, e: &sys::Error) -> Option<Event> {
        let reason = format!("could not be read: {} ({})", e.errno.desc(), e.name());
        Some(Event::Skip(Skipped { path: self.path.clone(), reason, unknown: true }))
    }

    fn upper_entry(&mut self, name: &[u8]) -> sys::Result<Option<Event>> {
        let scope = self.scope();
        if scope == Scope::Outside {
            return Ok(None);
        }
        if is_temporary(name) {
            return Ok(self.skip("has a name that `aj apply` uses itself"));
        }
        let (new, kind) = match self.upper.look(name) {
            Ok((_, new, kind)) => (new, kind),
            Err(e) => return Ok(self.unreadable(&e)),
        };
        self.allocated = self.allocated.saturating_add(at::share(&new));
        let old = match self.host_entry(name) {
            Ok(old) => old,
            Err(e) => return Ok(self.unreadable(&e)),
        };
        if scope == Scope::Inside
            && let Some(event) = self.planted(name, kind, &new)
        {
            return Ok(event);
        }
        if scope == Scope::Inside && kind == UpperKind::File && self.classifier.is_git_lock(name) {
            return Ok(self.skip("is a lock that a git left behind"));
        }
        self.note_entry(kind, old.as_ref());
        if kind == UpperKind::Dir {
            return self.enter(name, &new, old, scope);
        }
        if scope != Scope::Inside {
            return Ok(old.and_then(|_| self.whole()));
        }
        Ok(match kind {
            UpperKind::Whiteout => old.and_then(|old| self.deletion(name, old)),
            UpperKind::File => self.file(name, new, old),
            UpperKind::Symlink => self.symlink(name, new, old),
            UpperKind::Special(what) => self.skip(what),
            UpperKind::Dir => None,
        })
    }

    fn host_entry(&self, name: &[u8]) -> sys::Result<Option<Meta>> {
        if self.base_here() { at::stat_opt(self.base.top()?, name) } else { Ok(None) }
    }

    /// What to say of an entry in a place where `aj` hid the host's: nothing that changes the host.
    /// `None`: it is no such place.
    fn planted(&self, name: &[u8], kind: UpperKind, new: &Meta) -> Option<Option<Event>> {
        match self.options.hidden.at(&self.path)? {
            What::Way(_) => None,
            What::Whiteout if kind == UpperKind::Whiteout => Some(None),
            What::Whiteout => Some(self.skip("was hidden from the jail, which made its own")),
            What::File(mode, hash) => {
                let open = || upper::open_file(self.upper.dir_of(name).ok()?, name).ok();
                let same = kind == UpperKind::File
                    && new.mode & 0o777 == mode
                    && open().is_some_and(|f| planted::is_content(f, new.size, &hash).unwrap_or(false));
                let say = "was shown to the jail without the credentials in it, so its version stays out";
                Some(if same { None } else { self.skip(say) })
            }
        }
    }

    /// An entry of the base that an opaque directory hides.
    fn gone_entry(&mut self, name: &[u8]) -> Option<Event> {
        let scope = self.scope();
        let hidden = self.options.hidden.at(&self.path);
        match self.host_entry(name) {
            _ if scope == Scope::Outside => None,
            // The jail could not delete what it never saw.
            _ if matches!(hidden, Some(What::Whiteout | What::File(..))) => None,
            Ok(old) if scope == Scope::OnTheWay => old.and_then(|_| self.whole()),
            Ok(old) => old.and_then(|old| self.deletion(name, old)),
            Err(e) => self.unreadable(&e),
        }
    }

    /// Enter a directory of the upper layer.
    fn enter(
        &mut self,
        name: &[u8],
        new: &Meta,
        old: Option<Meta>,
        scope: Scope,
    ) -> sys::Result<Option<Event>> {
        let inherited = self.frames.last().is_some_and(|f| f.opaque);
        let mut blocked = self.frames.last().is_some_and(|f| f.blocked);
        if let Err(e) = self.upper.enter_unlocking(name) {
            return Ok(self.unreadable(&e));
        }
        let mut unlike = self.frames.last().and_then(|f| f.unlike);
        let mut here = false;
        let mut change = None;
        let mut replaces = None;
        match &old {
            None => {
                let mut c = self.change(Status::Added, Kind::Directory, Some(new), None);
                c.host_executed = self.classifier.completes(name);
                if self.is_gone_directory()? {
                    c.conflict = gone::or(c.conflict);
                    unlike = unlike.or(Some(Conflict::GoneAbove));
                }
                change = Some(c);
            }
            Some(old) if old.kind == FileKind::Dir => match self.base.enter(name) {
                Ok(()) => {
                    here = true;
                    if unlike.is_none() && self.lasting {
                        unlike = ways::unlike(self.options, &self.path, &self.base.meta()?);
                    }
                    if unlike.is_none() {
                        self.note_directory(old)?;
                    }
                    let ours = self.options.hidden.at(&self.path) == Some(What::Way(new.mode & 0o777));
                    if new.mode & 0o777 != old.mode & 0o777 && !ours {
                        change = self.directory_mode(name, new, old, unlike);
                    }
                }
                Err(e) => {
                    blocked = true;
                    let conflict = if e.errno == Errno::EXDEV { Conflict::Mount } else { Conflict::Changed };
                    let mut c = self.change(Status::ModeChanged, Kind::Directory, Some(new), Some(old));
                    c.conflict = Some(conflict);
                    change = Some(c);
                }
            },
            Some(old) => {
                let mut c = self.change(Status::TypeChanged, Kind::Directory, Some(new), Some(old));
                self.conflict_of_replacing(name, old, &mut c);
                // Its entries decide one by one; that something else has to go first is decided here.
                c.host_executed = self.host_executed(name);
                blocked |= c.conflict.is_some_and(|c| !(c.may_be_overridden() && self.override_conflicts));
                replaces = Some(*old);
                change = Some(c);
            }
        }
        // Made on the host after the jail started: nothing of it was there for the jail to delete.
        let newer = old.as_ref().is_some_and(|old| self.made_since(old));
        let name_at = self.path.len() - name.len();
        let mut frame = match self.frame(name_at, inherited && !newer, newer && here) {
            Ok(frame) => frame,
            Err(e) => {
                if here {
                    self.base.leave()?;
                }
                self.upper.leave()?;
                return Ok(self.unreadable(&e));
            }
        };
        frame.blocked = blocked;
        frame.unlike = unlike;
        frame.replaces = replaces;
        frame.mode = new.mode & 0o777;
        if let Some(c) = &mut change {
            c.implied = c.status == Status::Added && frame.names.len() > 0;
        }
        let completed_by = self.repository(&frame, here);
        self.classifier.enter(name, completed_by.is_some());
        self.becomes(completed_by, here);
        self.note_scripts(&frame, here)?;
        self.frames.push(frame);
        if here && !self.options.base.as_os_str().is_empty() {
            let base = Base { top: self.base.root()?, path: &self.options.base };
            gitbase::look_below(&mut self.named, base, self.base.top()?, &self.path);
        }
        // What has to go before anything in it can come is told although only a part was asked for.
        let item = change
            .filter(|c| scope == Scope::Inside || c.status == Status::TypeChanged)
            .map(|change| Item { change, new: Some(*new), old, content: None, shut: None });
        Ok(Some(Event::Enter(item)))
    }

    /// The frame of the directory on top of `upper` (and of `base`, if it has one as deep).
    fn frame(&self, name_at: usize, inherited: bool, newer: bool) -> sys::Result<Frame> {
        let names = self.upper.names()?;
        let opaque = (self.upper.is_opaque()? || inherited) && !newer;
        let here = self.base.depth() == self.upper.depth();
        let gone = if opaque && here {
            Names::read(self.base.top()?, |n| !names.contains(n) && !is_temporary(n))?
        } else {
            Names::default()
        };
        Ok(Frame {
            name_at,
            end: self.path.len(),
            names,
            next: 0,
            gone,
            next_gone: 0,
            opaque,
            blocked: false,
            unlike: None,
            replaces: None,
            mode: 0o755,
            hides_a_copy: std::cell::OnceCell::new(),
        })
    }

    /// Whether the directory would be laid out as a git repository, whichever part of the changes is
    /// applied: what is in the base or in the upper layer counts as there, deletions do not count. If
    /// so, by which entries a base with a `HEAD` becomes one; without it, `HEAD` itself decides.
    fn repository(&self, frame: &Frame, here: bool) -> Option<Vec<&'static str>> {
        let in_base = |name: &[u8]| {
            here && self.base.top().and_then(|dir| at::stat_opt(dir, name)).is_ok_and(|m| m.is_some())
        };
        let in_upper = |name: &[u8]| {
            frame.names.contains(name) && {
                self.upper.look(name).is_ok_and(|(_, _, kind)| kind != UpperKind::Whiteout)
            }
        };
        let has = |name: &[u8]| in_upper(name) || in_base(name);
        if !has(b"HEAD") || !(has(b"commondir") || (has(b"objects") && has(b"refs"))) {
            return None;
        }
        let new = |name: &&str| in_upper(name.as_bytes()) && !in_base(name.as_bytes());
        Some(if in_base(b"HEAD") {
            ["commondir", "objects", "refs"].into_iter().filter(new).collect()
        } else {
            Vec::new()
        })
    }

    /// Tell the classifier how the directory entered last becomes a repository, if it does.
    fn becomes(&mut self, completed_by: Option<Vec<&'static str>>, here: bool) {
        let Some(completed_by) = completed_by else { return };
        let whole = completed_by.is_empty() && here;
        self.classifier.completed_by(completed_by);
        if whole && self.base.top().is_ok_and(has_head) {
            self.classifier.settled();
        }
    }

    fn scope(&self) -> Scope {
        let mut scope = if self.options.only.is_empty() { Scope::Inside } else { Scope::Outside };
        for only in &self.options.only {
            if is_at_or_below(&self.path, only) {
                return Scope::Inside;
            }
            if is_at_or_below(only, &self.path) {
                scope = Scope::OnTheWay;
            }
        }
        scope
    }
}

/// Whether `dir` has a `HEAD` that git takes for one: it begins with a ref's name or is an id. Any other
/// file of that name makes no repository.
fn has_head(dir: BorrowedFd<'_>) -> bool {
    let text = openat2::beneath(dir, b"HEAD", For::Reading).ok().and_then(|file| {
        let plain = at::fstat(&file).is_ok_and(|m| m.kind == FileKind::File);
        plain.then(|| copy::read_all(&file, 4096).ok().flatten()).flatten()
    });
    let text = text.unwrap_or_default();
    let text = text.trim_ascii();
    let is_id = || matches!(text.len(), 40 | 64) && text.iter().all(u8::is_ascii_hexdigit);
    text.starts_with(b"ref: refs/") || is_id()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Inside,
    /// A directory that leads to what was asked for.
    OnTheWay,
    Outside,
}

fn is_at_or_below(path: &[u8], dir: &[u8]) -> bool {
    dir.is_empty() || path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}
