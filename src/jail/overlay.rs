//! The overlays of a jail, and who makes them.
//!
//! Making one is the dearest part of what is left for pid 1 (a quarter of a millisecond: overlayfs
//! tries out what the file system of the upper layer can do), and the launcher has nothing to do once
//! the tree exists. So it lends a hand: a process that joins the jail's user and mount namespaces,
//! makes the overlays while pid 1 attaches everything else, and sends them over. It shares the
//! launcher's memory, and the launcher waits for it. Where that does not work for any reason, pid 1
//! makes them itself, and says what is wrong.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::Mode;

use super::launch::Running;
use super::plan::{Overlay, Plan, What};
use super::wire;
use crate::base::text;
use crate::sys::mount::{self, Attr, NewFs};
use crate::sys::openat2::resolved;
use crate::sys::{Error, Result, caps, clone, ns, pidfd};

/// The open parts of an overlay.
#[derive(Debug)]
pub(super) struct Parts {
    /// `None`: an id-mapped mount.
    lower: Option<OwnedFd>,
    upper: OwnedFd,
    work: OwnedFd,
}

/// All overlays of a plan, in order.
fn all(plan: &Plan) -> impl Iterator<Item = &Overlay> {
    plan.mounts.iter().filter_map(|m| match &m.what {
        What::Overlay(overlay) => Some(overlay),
        _ => None,
    })
}

/// How many there are.
pub(super) fn count(plan: &Plan) -> usize {
    all(plan).count()
}

/// Open the parts of all.
pub(super) fn open(plan: &Plan) -> Result<Vec<Parts>> {
    all(plan).map(open_one).collect()
}

fn open_one(overlay: &Overlay) -> Result<Parts> {
    let lower = match &overlay.lower {
        Ok(path) => Some(resolved(path.to_bytes())?),
        Err(_) => None,
    };
    Ok(Parts { lower, upper: directory(&overlay.upper)?, work: directory(&overlay.work)? })
}

fn directory(path: &CStr) -> Result<OwnedFd> {
    openat(AT_FDCWD, path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|e| Error::new("open", text::c(path), e))
}

/// Make one. A lower layer that is an id-mapped mount must have been attached in this mount namespace
/// (`clone_private_mount` checks).
pub(super) fn make(overlay: &Overlay, parts: &Parts, mapped: &[OwnedFd]) -> Result<OwnedFd> {
    let lower = match (&parts.lower, &overlay.lower) {
        (Some(fd), _) => fd.as_raw_fd(),
        (None, Err(index)) => mapped.get(*index).map_or(-1, AsRawFd::as_raw_fd),
        (None, Ok(_)) => -1,
    };
    // By descriptor: kernels before 6.5 take 255 bytes per option, colons in names would need
    // escapes, and the directories may lie behind ones we can no longer enter.
    let by_fd = |fd: i32| CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    let fs = NewFs::open(c"overlay").map_err(|e| e.on("overlay"))?;
    let set_up = || -> Result<()> {
        fs.set(c"lowerdir", &by_fd(lower))?;
        fs.set(c"upperdir", &by_fd(parts.upper.as_raw_fd()))?;
        fs.set(c"workdir", &by_fd(parts.work.as_raw_fd()))?;
        // userxattr alone: the kernel then turns redirect_dir and metacopy off.
        fs.flag(c"userxattr")?;
        if overlay.volatile {
            fs.flag(c"volatile")?;
        }
        Ok(())
    };
    set_up()?;
    fs.mount(Attr::NOSUID.and(Attr::NODEV)).map_err(|e| e.on("overlay"))
}

/// Make the overlays of `jail` for it. `ids`: those of the jail's user inside, where it is not the
/// caller's own. Call it when pid 1 has been told to expect them; it hears of a failure, too.
pub(super) fn make_for(jail: &Running, plan: &Plan, mapped: &[OwnedFd], ids: Option<u32>) -> Result<()> {
    let mut lent = || {
        match make_inside(jail, plan, mapped, ids) {
            Ok(made) => drop(wire::send_descriptors(&jail.status, &made)),
            Err(_) => drop(wire::send_none(&jail.status)),
        }
        0
    };
    // Of our process group, and not to be stopped or ended apart from us.
    let mut mask = SigSet::empty();
    let blocked = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), Some(&mut mask));
    let dumpable = caps::dumpable()?;
    let started = clone::vfork_start(&mut lent);
    // A change of ids there has marked the memory, which is ours.
    caps::set_dumpable(dumpable)?;
    if blocked.is_ok() {
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&mask), None)
            .map_err(|e| Error::new("sigprocmask", "", e))?;
    }
    match started {
        Ok(pid) => pidfd::wait4(pid).map(drop),
        // No more processes for us: it can do without.
        Err(_) => wire::send_none(&jail.status),
    }
}

/// In the process that is lent.
fn make_inside(jail: &Running, plan: &Plan, mapped: &[OwnedFd], ids: Option<u32>) -> Result<Vec<OwnedFd>> {
    ns::join_files(&jail.pidfd)?;
    nix::sys::stat::umask(Mode::empty());
    let parts = open(plan)?;
    if let Some(id) = ids {
        caps::become_ids(id, id)?;
    }
    all(plan)
        .zip(&parts)
        .map(|(overlay, parts)| {
            if let Err(index) = overlay.lower
                && let Some(lower) = mapped.get(index)
            {
                // Onto a directory that nobody in there looks up any more; it goes with the old root.
                mount::attach(lower, &parts.upper, c"")?;
            }
            make(overlay, parts, mapped)
        })
        .collect()
}
