//! What an apply does with directories on its way: when they are made and get their permission bits, and
//! what is cleaned up in them.

use nix::errno::Errno;

use super::super::put::{self, Place, Refused};
use super::super::scan::Item;
use super::{Failure, Level, Pass, Status, Verdict, Work};
use crate::sys;
use crate::sys::at::{self, FileKind};

impl Work<'_> {
    /// Remove what an earlier, killed apply left in the current directory.
    pub(super) fn clean(&mut self) {
        let (true, Ok(dir)) = (self.act && self.scan.base_here(), self.scan.base.top()) else { return };
        let (here, out) = (&self.scan.path, &mut self.out);
        let cleaned = put::clean(dir, &mut |name, error| {
            let slash: &[u8] = if here.is_empty() { b"" } else { b"/" };
            let path = [here, slash, name].concat();
            // One that stays is met again by each pass.
            if !out.failed.iter().any(|f| f.path == path) && out.list(&path) {
                out.failed.push(Failure { path, error, shut: false });
            }
        });
        self.out.cleaned += cleaned;
    }

    /// Whether a directory that gives its owner all permissions now, and did not before, has got them: what
    /// is in it could not be changed otherwise. Where that fails, it is tried again and told at its end.
    pub(super) fn opened_up(&mut self, item: &Item, verdict: Verdict) -> bool {
        let (Some(old), Some(new)) = (&item.old, &item.new) else { return false };
        let opens = item.change.status == Status::ModeChanged
            && (new.mode & 0o700, old.mode & 0o700 == 0o700) == (0o700, false);
        if !(self.act && opens && verdict == Verdict::Apply && self.pass != Pass::Gone) {
            return false;
        }
        let dir = self.scan.base.top().map_err(Refused::from);
        let done = dir.and_then(|dir| put::open_up(dir, old, new.mode)).is_ok();
        if let (true, Some(level)) = (done, self.levels.last_mut()) {
            level.touched = true;
        }
        done
    }

    /// Let entries be put into and removed from the directory of the base that was entered last, where it is the
    /// caller's own and lets its owner do neither: it gets its bits back when it is left. Killed in between, it
    /// differs from the jail's by bits of its owner alone, and the next apply takes these away
    /// ([`Scan::directory_mode`](super::super::scan::Scan::directory_mode)). So that holds, nothing is opened whose
    /// bits the jail changed without their being applied, nor git's directories, whose bits are withheld.
    pub(super) fn unlock(&mut self) -> Result<(), Refused> {
        let meta = self.scan.base.meta()?;
        let own = || meta.uid == nix::unistd::geteuid().as_raw() && !at::is_root();
        if meta.mode & 0o300 == 0o300 || !own() || self.scan.classifier.directory_reason(b"").is_some() {
            return Ok(());
        }
        // Of the workspace itself the jail has no bits.
        let Some(at) = self.scan.base.depth().checked_sub(2) else { return Ok(()) };
        let (Some(level), Some(frame)) = (self.levels.get_mut(at), self.scan.frames.get(at + 1)) else {
            return Ok(());
        };
        let mode = match level.mode {
            _ if level.unlocked.is_some() => return Ok(()),
            Some(pending) => pending,
            None if frame.mode == meta.mode & 0o777 => frame.mode,
            None => return Ok(()),
        };
        put::open_up(self.scan.base.top()?, &meta, mode | 0o700)?;
        (level.mode, level.unlocked) = (Some(mode), Some(meta));
        Ok(())
    }

    /// Make the directories on the way that the host does not have yet.
    pub(super) fn ensure(&mut self) -> Result<(), Refused> {
        while !self.scan.base_here() {
            let at = self.scan.base.depth();
            self.unlock()?;
            let Some(frame) = self.scan.frames.get(at) else { break };
            let (mode, name) = (frame.mode, &self.scan.path[frame.name_at..frame.end]);
            let place = Place { dir: self.scan.base.top()?, name, old: frame.replaces.as_ref() };
            put::directory(&place, mode)?;
            let name = name.to_vec();
            self.scan.base.enter(&name)?;
            let made = self.scan.base.meta()?;
            self.out.put.extend(made.btime.map(|born| (made.ino, born)));
            // Each directory on the way from the first that was made.
            for level in self.levels.iter_mut().skip(at.saturating_sub(2)) {
                level.touched = true;
            }
            if mode & 0o700 != 0o700
                && let Some(level) = self.levels.get_mut(at - 1)
            {
                level.mode = Some(mode);
            }
        }
        Ok(())
    }

    /// The directory entered last is done: its permission bits, if they had to wait.
    pub(super) fn leave(&mut self) {
        let Some(level) = self.levels.pop() else { return };
        self.set_bits(&level);
        if self.act && (level.touched || level.mode.is_some()) {
            self.note_directory(&level.name);
        }
    }

    /// Remember a directory that was made, or that entries came to and went from.
    fn note_directory(&mut self, name: &[u8]) {
        if let Ok(now) = self.scan.base.top().and_then(|dir| at::stat(dir, name))
            && now.kind == FileKind::Dir
        {
            self.out.put.push((now.ino, now.ctime));
        }
    }

    fn set_bits(&mut self, level: &Level) {
        let (true, Some(mode)) = (self.act, level.mode) else { return };
        let done =
            self.scan.base.top().map_err(Refused::from).and_then(|dir| {
                put::mode(&Place { dir, name: &level.name, old: level.unlocked.as_ref() }, mode)
            });
        if let Err(refused) = done {
            let error = match refused {
                Refused::Failed(e) | Refused::Shut(e) => e,
                Refused::Raced => sys::Error::new("chmod", "", Errno::ESTALE),
            };
            self.fail(error);
        }
    }
}
