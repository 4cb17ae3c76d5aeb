//! Places in the home of a workspace that something is mounted on, or linked to: caches, and directories
//! of a host whose own home is `/home/agent`. In the home of a one-shot they are made with the jail.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

use super::Error;
use crate::base::text;
use crate::jail::plan::Plan;
use crate::sys;
use crate::sys::at;
use crate::sys::openat2::{self, For};

/// The directory of the jail's tmpfs that stands for the home in a plan.
const STAND_IN: &[u8] = b"home/";

/// Make what `plan` wants in the home at `home`, for `owner`. What a jail wrote is in there: nothing of
/// it is followed, and what is in the way is an error.
pub(super) fn prepare(home: &Path, plan: &Plan, owner: Option<(u32, u32)>) -> Result<(), Error> {
    let below = |path: &CString| path.to_bytes().strip_prefix(STAND_IN).map(<[u8]>::to_vec);
    let dirs: Vec<Vec<u8>> = plan.dirs.iter().filter_map(below).collect();
    let files: Vec<Vec<u8>> = plan.files.iter().filter_map(below).collect();
    let links: Vec<(&[u8], Vec<u8>)> =
        plan.links.iter().filter_map(|(target, path)| Some((target.to_bytes(), below(path)?))).collect();
    if dirs.is_empty() && files.is_empty() && links.is_empty() {
        return Ok(());
    }
    let failed = |path: &[u8]| {
        let path = format!("/home/agent/{}", text::printable(path));
        move |e: sys::Error| Error::Home { path, source: e }
    };
    let top = openat2::resolved(home.as_os_str().as_bytes()).map_err(failed(b""))?;
    for dir in &dirs {
        make(&top, dir, |parent, name| at::make_dir(parent, name, 0o755), owner).map_err(failed(dir))?;
        openat2::beneath(&top, dir, For::Listing).map_err(failed(dir))?;
    }
    for file in &files {
        make(&top, file, |parent, name| openat2::create(parent, name, 0o644).map(drop), owner)
            .map_err(failed(file))?;
    }
    for (target, link) in &links {
        make(&top, link, |parent, name| at::make_link(parent, name, target), owner).map_err(failed(link))?;
    }
    Ok(())
}

/// Make one, if nothing is there.
fn make(
    top: &OwnedFd,
    path: &[u8],
    made: impl FnOnce(&OwnedFd, &[u8]) -> sys::Result<()>,
    owner: Option<(u32, u32)>,
) -> sys::Result<()> {
    let slash = path.iter().rposition(|b| *b == b'/');
    let (parent, name) = match slash {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (&b"."[..], path),
    };
    let parent = openat2::beneath(top.as_fd(), parent, For::Passing)?;
    match made(&parent, name) {
        Ok(()) => {}
        Err(e) if e.errno == Errno::EEXIST => return Ok(()),
        Err(e) => return Err(e),
    }
    let Some((uid, gid)) = owner else { return Ok(()) };
    let made = openat2::beneath(&parent, name, For::Naming)?;
    at::set_owner(&made, Some(uid), Some(gid))
}
