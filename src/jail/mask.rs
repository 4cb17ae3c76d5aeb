//! Something else in the place of what is there: how a secret is hidden where no overlay hides it.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::cover::place;
use super::plan::{self, EMPTY, Mount, Plan, What};
use super::spec::Mask;
use crate::base::text;
use crate::sys::mount::{self, Attr};
use crate::sys::{Error, Result, at, errno};

/// The file of the tmpfs that a [`What::Text`] shows.
fn text_file(index: usize) -> CString {
    CString::new(format!("text-{index}")).unwrap_or_default()
}

impl Plan {
    /// Show something else in the place of these, which nobody inside can take away: a mount point can
    /// be neither removed nor renamed where it is one. After everything else, [`Plan::cover`] included.
    pub fn mask(&mut self, masks: &[Mask]) -> std::result::Result<(), plan::Error> {
        for mask in masks {
            let what = match &mask.shows {
                None => {
                    let empty = CString::from(EMPTY);
                    if !self.dirs.contains(&empty) {
                        self.dirs.push(empty);
                    }
                    What::Void
                }
                Some(content) => self.text(content),
            };
            self.mounts.push(Mount { what, at: plan::relative(&mask.path)?, ours: false });
        }
        Ok(())
    }

    /// A file with this content, in the place of another one.
    pub(super) fn text(&mut self, content: &[u8]) -> What {
        let known = self.texts.iter().position(|t| t == content);
        What::Text(known.unwrap_or_else(|| {
            self.texts.push(content.to_vec());
            self.texts.len() - 1
        }))
    }

    /// Show a file of this content at `path`, in a directory of the jail's own below its `/`. Where the jail has
    /// something else there, that stays.
    pub fn add_file(&mut self, path: &Path, content: Vec<u8>) -> std::result::Result<(), plan::Error> {
        let Some(at) = plan::place(path)? else { return Ok(()) };
        let Some(dir) = at.parent().map(plan::cpath).transpose()? else { return Ok(()) };
        let names = self.dirs.iter().chain(&self.files).chain(self.links.iter().map(|(_, at)| at));
        if names.into_iter().any(|name| *name == dir) {
            return Ok(());
        }
        self.dirs.push(dir);
        self.files.push(plan::cpath(&at)?);
        self.mask(&[Mask { path: path.to_owned(), shows: Some(content) }])
    }
}

/// Make the files that are shown, in the tmpfs.
pub(super) fn texts(plan: &Plan, store: &OwnedFd) -> Result<()> {
    for (i, content) in plan.texts.iter().enumerate() {
        let name = text_file(i);
        let fail = |e| Error::new("write", text::c(&name), e);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let file = openat(store, name.as_c_str(), flags, Mode::from_bits_truncate(0o444)).map_err(fail)?;
        File::from(file).write_all(content).map_err(|e| fail(errno(&e)))?;
    }
    Ok(())
}

/// Cover what is at the place of `m`, with the file `text` or an empty directory.
pub(super) fn mask(text: Option<usize>, store: &OwnedFd, root: &OwnedFd, m: &Mount) -> Result<()> {
    match text {
        Some(index) => over(store, &text_file(index), root, m),
        None => over(store, EMPTY, root, m),
    }
}

/// Mount the entry `name` of the tmpfs read-only over what is there.
fn over(store: &OwnedFd, name: &CStr, root: &OwnedFd, m: &Mount) -> Result<()> {
    let fail = |e: Error| e.on(text::c(&m.at));
    let below = match place(root, m) {
        // Nor can the command get there: it is the same user with fewer rights.
        Err(e) if e.errno == Errno::EACCES => return Ok(()),
        other => other?,
    };
    let attr = Attr::RDONLY.and(Attr::NOSUID).and(Attr::NODEV).and(Attr::NOEXEC);
    let tree = mount::clone_tree(Some(store.as_fd()), name, false).map_err(fail)?;
    mount::set_attr(&tree, attr, false).map_err(fail)?;
    mount::attach(&tree, &below, c"").map_err(fail)?;
    // Seen from where the command will be: somebody on the host may have moved it meanwhile.
    let (seen, made) = (place(root, m)?, at::fstat(&tree).map_err(fail)?);
    if at::fstat(&seen).map_err(fail)?.same_inode(&made) {
        Ok(())
    } else {
        Err(Error::new("mask", text::c(&m.at), Errno::ESTALE))
    }
}
