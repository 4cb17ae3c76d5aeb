//! What one entry of the upper layer means for the host's entry of the same name: how they differ,
//! whether the host's changed meanwhile, and whether the host would execute it.

use nix::errno::Errno;

use super::change::{Change, Conflict, Kind, Status, leads_out};
use super::gone;
use super::manifest;
use super::remove::survey;
use super::scan::{Event, Item, Scan};
use super::upper;
use crate::sys::at::{self, FileKind, Meta};
use crate::sys::openat2::{self, For};
use crate::sys::{self, copy};

impl Scan<'_> {
    pub(super) fn deletion(&mut self, name: &[u8], old: Meta) -> Option<Event> {
        let mut change = self.change(Status::Deleted, old.kind.into(), None, Some(&old));
        let shut = self.conflict_of_replacing(name, &old, &mut change);
        change.host_executed = self.removal_executed(name, &old);
        Some(Event::Item(Item { change, new: None, old: Some(old), content: None, shut }))
    }

    pub(super) fn file(&mut self, name: &[u8], new: Meta, old: Option<Meta>) -> Option<Event> {
        let status = match &old {
            None => Status::Added,
            Some(old) if old.kind != FileKind::File => Status::TypeChanged,
            Some(old) => match self.same_file(name, &new, old) {
                Ok(true) if new.mode & 0o777 == old.mode & 0o777 => {
                    self.agree(old);
                    self.touch(name, &new, old);
                    return None;
                }
                Ok(true) => Status::ModeChanged,
                Ok(false) => Status::Modified,
                Err(e) => return self.unreadable(&e),
            },
        };
        let mut change = self.change(status, Kind::File, Some(&new), old.as_ref());
        change.hard_links = new.nlink > 1;
        let shut = self.conflict_of_putting(name, (&new, old.as_ref()), &mut change);
        let mut content = None;
        change.host_executed = if manifest::is_manifest(name) && !self.classifier.installed() {
            let ours = self.read_manifest(name);
            let reason = self.manifest(name, ours.as_deref(), old.as_ref());
            // What was found harmless is what is written, whatever the file holds by then.
            content = ours;
            reason.or_else(|| self.named.reason(&self.path))
        } else {
            self.host_executed(name)
        };
        Some(Event::Item(Item { change, new: Some(new), old, content, shut }))
    }

    /// The host's entry is what the jail has, whoever made it so, most likely an apply that was killed before it
    /// could note that. When the jail changes it again, that is no conflict.
    fn agree(&mut self, old: &Meta) {
        if self.touch && self.changed(old) {
            self.touched.push((old.ino, old.ctime));
        }
    }

    /// A build that wrote the same bytes again did so at another time, by which build tools tell what is
    /// up to date: cargo's marks of a build never hold anything else. The time moves forward only, and
    /// only where nobody on the host wrote meanwhile, nor for a file that has other names, which may be anywhere.
    /// Failing is no loss but that of work.
    fn touch(&mut self, name: &[u8], new: &Meta, old: &Meta) {
        if !self.touch || old.kind != FileKind::File || old.has_other_names() || new.mtime <= old.mtime {
            return;
        }
        let mut change = self.change(Status::Modified, Kind::File, Some(new), Some(old));
        self.conflict_of_replacing(name, old, &mut change);
        let Ok(dir) = self.base.top() else { return };
        let unchanged = |now: Meta| now.same_inode(old) && now.ctime == old.ctime;
        if change.conflict.is_some() || !at::stat(dir, name).is_ok_and(unchanged) {
            return;
        }
        if at::set_mtime(dir, name, new.mtime).is_ok()
            && let Ok(now) = at::stat(dir, name)
        {
            self.own_changes.insert((now.dev, now.ino), now.ctime);
            self.touched.push((now.ino, now.ctime));
        }
    }

    fn same_file(&self, name: &[u8], new: &Meta, old: &Meta) -> sys::Result<bool> {
        if new.size != old.size {
            return Ok(false);
        }
        let theirs = match openat2::beneath(self.base.top()?, name, For::Reading) {
            Ok(fd) => fd,
            // The host's own file cannot be read: nothing says that it is the same.
            Err(e) if matches!(e.errno, Errno::EACCES | Errno::ENOENT | Errno::ELOOP) => return Ok(false),
            Err(e) => return Err(e),
        };
        let ours = upper::open_file(self.upper.dir_of(name)?, name)?;
        if at::fstat(&theirs)?.kind != FileKind::File || at::fstat(&ours)?.kind != FileKind::File {
            return Ok(false);
        }
        copy::same_content(ours, theirs, new.size)
    }

    pub(super) fn read_manifest(&self, name: &[u8]) -> Option<Vec<u8>> {
        let file = self.upper.dir_of(name).and_then(|dir| upper::open_file(dir, name)).ok()?;
        copy::read_all(file, manifest::LIMIT).ok().flatten()
    }

    fn manifest(&self, name: &[u8], ours: Option<&[u8]>, old: Option<&Meta>) -> Option<&'static str> {
        let theirs = old
            .filter(|old| old.kind == FileKind::File)
            .and_then(|_| openat2::beneath(self.base.top().ok()?, name, For::Reading).ok())
            .and_then(|file| copy::read_all(file, manifest::LIMIT).ok().flatten());
        manifest::reason(name, theirs.as_deref(), ours)
    }

    pub(super) fn symlink(&mut self, name: &[u8], new: Meta, old: Option<Meta>) -> Option<Event> {
        let target = match self.upper.dir_of(name).and_then(|dir| at::read_link(dir, name)) {
            Ok(target) => target,
            Err(e) => return self.unreadable(&e),
        };
        let status = match &old {
            None => Status::Added,
            Some(old) if old.kind != FileKind::Symlink => Status::TypeChanged,
            Some(_) => match self.base.top().and_then(|dir| at::read_link(dir, name)) {
                Ok(theirs) if theirs == target => {
                    old.iter().for_each(|old| self.agree(old));
                    return None;
                }
                _ => Status::Modified,
            },
        };
        let mut change = self.change(status, Kind::Symlink, Some(&new), old.as_ref());
        change.leads_out = leads_out(&self.path, &target);
        change.target = Some(target);
        let shut = self.conflict_of_putting(name, (&new, old.as_ref()), &mut change);
        change.host_executed = if manifest::is_manifest(name) && !self.classifier.installed() {
            Some("its scripts are elsewhere")
        } else {
            self.host_executed(name).or_else(|| self.classifier.link_reason())
        };
        Some(Event::Item(Item { change, new: Some(new), old, content: None, shut }))
    }

    pub(super) fn change(
        &self,
        status: Status,
        kind: Kind,
        new: Option<&Meta>,
        old: Option<&Meta>,
    ) -> Change {
        let size = |m: &Meta| (m.kind == FileKind::File).then_some(m.size);
        let mode = |m: &Meta| matches!(m.kind, FileKind::File | FileKind::Dir).then_some(m.mode & 0o777);
        let above = self.frames.last();
        let blocked = above.is_some_and(|f| f.blocked).then_some(Conflict::Above);
        Change {
            path: self.path.clone(),
            status,
            kind,
            old_kind: old.map(|m| m.kind.into()),
            size: new.and_then(size),
            old_size: old.and_then(size),
            mode: new.and_then(mode),
            old_mode: old.and_then(mode),
            below: 0,
            target: None,
            leads_out: false,
            hard_links: false,
            special_bits: new.is_some_and(|m| m.kind == FileKind::File && m.mode & 0o7000 != 0),
            host_executed: None,
            conflict: blocked.or(above.and_then(|f| f.unlike)),
            implied: false,
        }
    }

    /// Whether the host's entry changed after the jail started, other than by this walk or an earlier one.
    pub(super) fn changed(&self, old: &Meta) -> bool {
        old.ctime > self.options.started
            && self.own_changes.get(&(old.dev, old.ino)) != Some(&old.ctime)
            && !self.options.applied.has(old.ino, old.ctime)
    }

    /// Whether a directory was made on the host after the jail started, other than by applying what the
    /// jail made.
    pub(super) fn made_since(&self, old: &Meta) -> bool {
        old.btime.is_some_and(|b| b > self.options.started && !self.options.applied.has(old.ino, b))
    }

    /// Note the base's directory that was entered last, with its permission bits if nobody but the jail and what
    /// was applied of it has changed them.
    pub(super) fn note_directory(&mut self, old: &Meta) -> sys::Result<()> {
        let own = self.places.is_some() && !self.changed(old);
        let Some(places) = &mut self.places else { return Ok(()) };
        places.add(&self.path, self.base.meta()?.identity());
        if own {
            places.add_mode(&self.path, old.mode);
        }
        Ok(())
    }

    /// Other permission bits of a directory that both sides have. `None`: the jail did not change them.
    pub(super) fn directory_mode(
        &self,
        name: &[u8],
        new: &Meta,
        old: &Meta,
        unlike: Option<Conflict>,
    ) -> Option<Change> {
        let mut change = self.change(Status::ModeChanged, Kind::Directory, Some(new), Some(old));
        let gives = new.mode & !old.mode & 0o777;
        let made = self.made_since(old);
        // So an apply that was killed leaves a directory that it opened for its owner, or had just made. Giving
        // it the jail's bits opens it to nobody.
        let left = old.mode & 0o777 == (new.mode | 0o700) & 0o777;
        if self.changed(old) && !left {
            // What was noted may be from before that was applied.
            let noted =
                self.options.places.as_ref().filter(|_| !made && !self.options.applied.knows(old.ino));
            let conflict = match noted.and_then(|places| places.mode_of(&self.path)) {
                Some(before) if before == new.mode & 0o777 => return None,
                Some(before) => before != old.mode & 0o777,
                // Made there and here: that it is to be closer than it is was asked for by nobody else.
                None if made => gives != 0,
                // Entries coming and going move ctime and mtime together; ctime alone is a chmod, chown or
                // rename. Bits that nobody knows to have been given on purpose are not given.
                None => old.ctime != old.mtime || gives != 0,
            };
            if conflict {
                change.conflict = change.conflict.or(Some(Conflict::Changed));
            }
        }
        change.conflict = change.conflict.or(unlike);
        // Whoever may write in a directory may put there what the host runs or obeys.
        change.host_executed = (gives & 0o022 != 0)
            .then_some("lets others put files there")
            .or_else(|| self.classifier.directory_reason(name));
        Some(change)
    }

    /// What speaks against putting `new`, which is no directory, where `old` is, or where nothing is; otherwise as
    /// [`Scan::conflict_of_replacing`].
    fn conflict_of_putting(
        &mut self,
        name: &[u8],
        (new, old): (&Meta, Option<&Meta>),
        change: &mut Change,
    ) -> Option<sys::Error> {
        if let Some(old) = old {
            return self.conflict_of_replacing(name, old, change);
        }
        if self.is_gone(name, new) {
            change.conflict = gone::or(change.conflict);
        }
        None
    }

    /// What speaks against removing or replacing `old`, and how much is below it. What is returned: why
    /// it could not be removed whole.
    pub(super) fn conflict_of_replacing(
        &self,
        name: &[u8],
        old: &Meta,
        change: &mut Change,
    ) -> Option<sys::Error> {
        if change.conflict == Some(Conflict::Above) {
            return None;
        }
        let mut shut = None;
        let found = if old.kind == FileKind::Dir && self.options.hidden.hides_below(&self.path) {
            Some(Conflict::Hidden)
        } else if old.kind == FileKind::Dir {
            match self.base.top().and_then(|dir| survey(dir, name, |meta| self.changed(meta))) {
                Ok(seen) => {
                    change.below = seen.files;
                    shut = seen.shut;
                    if seen.mount {
                        Some(Conflict::Mount)
                    } else if seen.unreadable {
                        Some(Conflict::Unreadable)
                    } else {
                        (seen.changed || self.changed(old)).then_some(Conflict::ChangedBelow)
                    }
                }
                Err(_) => Some(Conflict::Unreadable),
            }
        } else {
            self.changed(old).then_some(Conflict::Changed)
        };
        // What the user may not decide away must not hide behind what they may.
        change.conflict = match change.conflict {
            Some(above) if found.is_none_or(Conflict::may_be_overridden) => Some(above),
            _ => found,
        };
        shut
    }
}
