//! What is mounted in the jail of a workspace beside its trees, as places of the view: directories and files of the
//! host's (`--ro`, `--rw`), and volumes.
//!
//! They are read as they are. Changed from here are volumes alone, while no jail has them; the host's own
//! directories lie at the same path on the host, and what is mounted read-only nobody changes through a
//! workspace. Where a jail is at work, it changes what it may write itself, as everything else.

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Error, Result, Target};
use crate::base::id::Id;
use crate::base::text;
use crate::jail::spec::Owner;
use crate::ops::exec::mounts::{self, Mounted, What};
use crate::ops::workspaces::Found;
use crate::ops::{changes, volumes};
use crate::store::layout::StateDir;
use crate::store::volumes as store;
use crate::sys::at::{self, FileKind};
use crate::sys::openat2::{self, For};
use crate::workspace::view::edit::{Owners, Staging};
use crate::workspace::view::resolve::{Mount, Place, components};
use crate::workspace::view::{self, Stack};

/// Volumes that are seen in a view.
#[derive(Debug, Default)]
pub(super) struct Volumes(RefCell<Vec<Volume>>);

#[derive(Debug)]
struct Volume {
    id: Id,
    name: String,
    /// The place of the view that it is.
    place: usize,
    held: Option<store::Held>,
    /// It is held alone, and has a directory in which new things are made.
    alone: bool,
}

impl Drop for Volumes {
    fn drop(&mut self) {
        for volume in self.0.get_mut() {
            if let Some(held) = volume.held.as_ref().filter(|_| volume.alone) {
                held.unstage().ok();
            }
        }
    }
}

impl Volumes {
    /// Have the volume at a place to ourselves, to change it; where new things are made. `None`: it is none.
    pub(super) fn take(&self, place: usize) -> Result<Option<OwnedFd>> {
        let mut all = self.0.borrow_mut();
        let Some(volume) = all.iter_mut().find(|volume| volume.place == place) else { return Ok(None) };
        if !volume.alone {
            // Two locks of one process are in each other's way.
            volume.held = None;
            let held = store::hold_alone(&StateDir::open()?, volume.id).map_err(volumes::Error::from)?;
            volume.held = Some(held.ok_or_else(|| Error::HasVolume(format!("vol:{}", volume.name)))?);
            volume.alone = true;
        }
        let held = volume.held.as_ref().map(store::Held::stage).transpose()?;
        Ok(held)
    }
}

/// What is mounted in the workspace `found`, whose tree is `tree`: in its jail where one runs, or else in the one
/// that its next command would start.
pub(super) fn of(found: &Found, (tree, seen): (&changes::Tree, Option<Vec<Mounted>>)) -> Vec<Mounted> {
    seen.unwrap_or_else(|| {
        let meta = openat2::absolute(tree.base.as_os_str().as_bytes(), For::Passing).and_then(at::fstat);
        // Of a base that is gone nothing is mounted either.
        let Ok(meta) = meta else { return Vec::new() };
        mounts::asked_for(found, &tree.base, Owner { uid: meta.uid, gid: meta.gid })
    })
}

/// Add to a view what is mounted. What cannot be opened now is left out: nobody sees what is below it either.
pub(super) fn add(
    (state, mounted): (&StateDir, Vec<Mounted>),
    (places, owners): (&mut Vec<Place>, &mut Vec<Owners>),
) -> Result<Volumes> {
    let mut seen = Vec::new();
    let root = at::is_root();
    let jail = owners.first().and_then(|owners| owners.jail);
    let caller = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    for Mounted { at, what, writable } in mounted {
        let path = Path::new(&at);
        let mut mount = Mount { writable, only: None, host: true };
        let (dir, whole, owner) = match &what {
            What::Directory(owner) => (openat2::absolute(at.as_bytes(), For::Listing), path, Some(owner)),
            What::File(owner) => {
                let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
                mount.only = Some(name.as_bytes().to_vec());
                (openat2::absolute(parent.as_os_str().as_bytes(), For::Listing), parent, Some(owner))
            }
            What::Volume(id) => {
                let Ok(held) = volumes::hold(state, id) else { continue };
                mount.host = false;
                let data = held.data()?;
                let (id, name) = (held.record.id, held.record.name.to_string());
                let place = places.len();
                seen.push(Volume { id, name, place, held: Some(held), alone: false });
                (openat2::beneath(&data, b".", For::Listing), path, None)
            }
        };
        let Ok(dir) = dir else { continue };
        let meta = at::fstat(&dir).map_err(view::Error::sys("look at", at.as_bytes()))?;
        owners.push(match owner {
            Some(owner) => Owners { jail: jail.filter(|_| root), bottom: (owner.uid, owner.gid) },
            None => Owners { jail: root.then_some((meta.uid, meta.gid)), bottom: caller },
        });
        let at = components(whole.as_os_str().as_bytes()).collect();
        places.push(Place { at, stack: Stack::plain(dir), mount: Some(mount) });
    }
    Ok(Volumes(seen.into()))
}

impl Target {
    /// Refuse to change what is mounted at a place, where that cannot be.
    pub(super) fn check_writable(&self, place: usize, staging: &Staging) -> Result<()> {
        let Some(place) = self.view.places.get(place) else { return Ok(()) };
        let Some(mount) = &place.mount else { return Ok(()) };
        let path = || {
            let whole: Vec<_> = place.at.iter().cloned().chain(mount.only.clone()).collect();
            text::printable(&[b"/", whole.join(&b'/').as_slice()].concat())
        };
        // In its jail nothing has to be made elsewhere.
        let inside = matches!(staging, Staging::Beside(_));
        match mount {
            Mount { writable: false, .. } => Err(Error::ReadOnly(path())),
            Mount { host: true, only, .. } if only.is_some() || !inside => Err(Error::OnHost(path())),
            Mount { .. } => Ok(()),
        }
    }

    /// Refuse to move or remove what something is mounted on or in. What is no directory holds nothing: where a jail
    /// has put it in the way, it is removed before anything is mounted below it again.
    pub(super) fn check_free(&self, place: usize, path: &[u8], kind: Option<FileKind>) -> Result<()> {
        let whole: Vec<_> = self.view.places[place].at.iter().cloned().chain(components(path)).collect();
        let holds = kind.is_none_or(|kind| kind == FileKind::Dir);
        if self.view.is_mounted_at(&whole) || holds && self.view.is_mounted_on(&whole) {
            return Err(Error::Mounted(text::printable(&self.view.shown_path(&whole))));
        }
        Ok(())
    }

    /// Where new things for a place are made.
    pub(super) fn staging(&self, place: usize, staging: &Staging) -> Result<Staging> {
        self.check_writable(place, staging)?;
        let start = match staging {
            Staging::Beside(start) => return Ok(Staging::Beside(start.clone())),
            Staging::Apart(staging) => staging,
        };
        let own = self.volumes.take(place)?;
        let start = own.as_ref().map_or(start.as_fd(), AsFd::as_fd);
        let opened = openat2::beneath(start, b".", For::Listing);
        Ok(Staging::Apart(opened.map_err(view::Error::sys("open", b"edit"))?))
    }
}
