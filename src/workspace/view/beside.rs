//! Changing what others are at work in: a mounted overlay, from inside the jail that has it.
//!
//! To whoever is inside it is one plain directory, and the kernel does what an overlay has to do. What is left to
//! be done here is what a program has to do that changes a tree which does not stand still.

use std::os::fd::AsFd;

use nix::errno::Errno;

use super::Dir;
use super::edit::Editor;
use crate::sys;
use crate::sys::at::{self, FileKind, Replace};
use crate::workspace::remove::remove_tree;

impl Editor<'_> {
    /// Remove the directory `name` with all that is in it. It is gone at once where it can be renamed; a directory
    /// that shows through from below cannot (`EXDEV`), and goes entry by entry, as it would for `rm`.
    pub(super) fn take_out_beside(&self, dir: &Dir, name: &[u8]) -> sys::Result<()> {
        let upper = dir.upper().ok_or_else(|| sys::Error::new("unlink", "", Errno::EROFS))?;
        let (staging, temporary) = self.temporary(dir)?;
        match at::rename_between((upper, name), (staging, &temporary), Replace::No) {
            Ok(()) => {}
            Err(e) if e.errno == Errno::EXDEV => {
                self.settled(&temporary);
                return remove_tree(upper, name);
            }
            Err(e) => return Err(e),
        }
        let removed = remove_tree(staging, &temporary);
        if removed.is_err() {
            // What could not be removed is not to lie there under a name that nobody knows.
            at::rename_between((staging, &temporary), (upper, name), Replace::No).ok();
        }
        self.settled(&temporary);
        removed
    }
}

impl Drop for Editor<'_> {
    /// What was begun and has no name of its own is taken away again.
    fn drop(&mut self) {
        for (dir, name) in self.left.borrow_mut().drain(..) {
            match at::stat_opt(&dir, &name) {
                Ok(Some(meta)) if meta.kind == FileKind::Dir => drop(remove_tree(dir.as_fd(), &name)),
                Ok(Some(_)) => drop(at::remove_file(&dir, &name)),
                Ok(None) | Err(_) => {}
            }
        }
    }
}
