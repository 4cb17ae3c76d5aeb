//! The overlays of a jail, and who makes them.
//!
//! Making one is the dearest part of what is left for pid 1 (a quarter of a millisecond: overlayfs
//! tries out what the file system of the upper layer can do), and the launcher has nothing to do once
//! the tree exists. So it lends a hand: a process that joins the jail's user and mount namespaces,
//! makes the overlays while pid 1 attaches everything else, and sends them over. It shares the
//! launcher's memory, and the launcher waits for it. Where that does not work for any reason, pid 1
//! makes them itself, and says what is wrong.
//!
//! The same process then brings up `lo`, and detaches the old root once pid 1 has pivoted, for which the
//! kernel has to wait for every processor: meanwhile pid 1 gives up its privileges. The command cannot start
//! before: the launcher says the word for it when all this is done.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use super::cover::place;
use super::launch::Running;
use super::plan::{Mount, Overlay, Plan, What};
use super::wire::{self, Message, Received};
use crate::base::text;
use crate::sys::mount::{self, Attr, NewFs};
use crate::sys::openat2::resolved;
use crate::sys::pidfd::{self, End};
use crate::sys::{Error, Result, caps, clone, net, ns, xattr};

/// The open parts of an overlay.
#[derive(Debug)]
pub(super) struct Parts {
    /// `None`: an id-mapped mount.
    lower: Option<OwnedFd>,
    /// Sealed layers over it.
    above: Vec<OwnedFd>,
    /// Upper and work; `None`: in the tmpfs.
    own: Option<(OwnedFd, OwnedFd)>,
}

fn all(plan: &Plan) -> impl Iterator<Item = &Overlay> {
    plan.mounts.iter().filter_map(|m| match &m.what {
        What::Overlay(overlay) => Some(overlay),
        _ => None,
    })
}

/// Those that the launcher makes: what a jail cannot do without.
fn lent(plan: &Plan) -> impl Iterator<Item = &Overlay> {
    all(plan).filter(|o| o.otherwise.is_none() && !o.memory)
}

/// Whether there is anything that the launcher could make.
pub(super) fn any_to_lend(plan: &Plan) -> bool {
    lent(plan).next().is_some()
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
    let above = overlay.above.iter().map(|path| resolved(path.to_bytes())).collect::<Result<_>>()?;
    let directory = |path| directory(AT_FDCWD, path, OFlag::O_PATH);
    let own =
        if overlay.memory { None } else { Some((directory(&overlay.upper)?, directory(&overlay.work)?)) };
    Ok(Parts { lower, above, own })
}

/// A directory, opened as `how`.
pub(super) fn directory(at: impl AsFd, path: &CStr, how: OFlag) -> Result<OwnedFd> {
    openat(at, path, how | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|e| Error::new("open", text::c(path), e))
}

/// Make one. A lower layer that is an id-mapped mount must have been attached in this mount namespace
/// (`clone_private_mount` checks). `store`: the jail's tmpfs.
fn make(overlay: &Overlay, parts: Parts, mapped: &[OwnedFd], store: Option<&OwnedFd>) -> Result<OwnedFd> {
    let (upper, work) = match (parts.own, store) {
        (Some(own), _) => own,
        (None, Some(store)) => {
            let upper = directory(store, &overlay.upper, OFlag::O_RDONLY)?;
            // Without attributes (before Linux 6.6) an upper layer could not tell what was replaced in it.
            xattr::set(&upper, c"user.overlay.aj", b"y").map_err(|e| e.on("upper"))?;
            (upper, directory(store, &overlay.work, OFlag::O_PATH)?)
        }
        (None, None) => return Err(Error::new("plan", "overlay", Errno::EBADF)),
    };
    let lower = match (&parts.lower, &overlay.lower) {
        (Some(fd), _) => fd.as_raw_fd(),
        (None, Err(index)) => mapped.get(*index).map_or(-1, AsRawFd::as_raw_fd),
        (None, Ok(_)) => -1,
    };
    // By descriptor: kernels before 6.5 take 255 bytes per option, colons in names would need
    // escapes, and the directories may lie behind ones we can no longer enter.
    let by_fd = |fd: i32| CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    let lowers: Vec<String> = parts
        .above
        .iter()
        .map(AsRawFd::as_raw_fd)
        .chain([lower])
        .map(|fd| format!("/proc/self/fd/{fd}"))
        .collect();
    let lowers = CString::new(lowers.join(":")).unwrap_or_default();
    let fs = NewFs::open(c"overlay").map_err(|e| e.on("overlay"))?;
    let set_up = || -> Result<()> {
        fs.set(c"lowerdir", &lowers)?;
        fs.set(c"upperdir", &by_fd(upper.as_raw_fd()))?;
        fs.set(c"workdir", &by_fd(work.as_raw_fd()))?;
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

/// Where pid 1 has its overlays from.
#[derive(Debug)]
pub(super) struct Overlays<'a> {
    /// How many come from the launcher, by this socket; 0 once they are here.
    expected: usize,
    status: &'a OwnedFd,
    lent: std::vec::IntoIter<OwnedFd>,
    /// They came from the launcher.
    are_lent: bool,
    /// Opened before pid 1 changed its ids.
    parts: std::vec::IntoIter<Parts>,
}

impl<'a> Overlays<'a> {
    /// Those of `plan`. `lending`: the launcher said that it makes some. `parts`: of all, or none.
    pub(super) fn new(plan: &Plan, lending: bool, status: &'a OwnedFd, parts: Vec<Parts>) -> Overlays<'a> {
        let expected = if lending { lent(plan).count() } else { 0 };
        let (lent, parts) = (Vec::new().into_iter(), parts.into_iter());
        Overlays { expected, status, lent, are_lent: false, parts }
    }

    /// Make `root` ours, with all in place. Whoever has lent overlays detaches the old root, while we go on to
    /// give up our privileges: the launcher says that the command may start when that is done.
    pub(super) fn pivot(&self, root: &OwnedFd) -> Result<()> {
        if !self.are_lent {
            return mount::pivot_into(root);
        }
        mount::pivot_onto(root)?;
        wire::send(self.status, &Message::Root { pivoted: true }, None)
    }

    /// Put `root` over the old one, where it cannot be made ours.
    pub(super) fn cover_root(&self, root: &OwnedFd) -> Result<()> {
        mount::move_over_root(root)?;
        if !self.are_lent {
            return Ok(());
        }
        wire::send(self.status, &Message::Root { pivoted: false }, None)
    }

    /// The next one, which is to be attached at `m`.
    pub(super) fn next(
        &mut self,
        (overlay, m): (&Overlay, &Mount),
        (store, root): (&OwnedFd, &OwnedFd),
        mapped: &[OwnedFd],
    ) -> Result<OwnedFd> {
        let parts = self.parts.next();
        if overlay.otherwise.is_none() && !overlay.memory {
            if self.expected > 0 {
                let Some(lent) = wire::receive_descriptors(self.status, self.expected)? else {
                    clone::exit_now(125)
                };
                if lent.len() == self.expected {
                    self.lent = lent.into_iter();
                    self.are_lent = true;
                }
                self.expected = 0;
            }
            if let Some(lent) = self.lent.next() {
                return Ok(lent);
            }
        }
        let parts = parts.map_or_else(|| open_one(overlay), Ok)?;
        if let Err(index) = overlay.lower
            && let Some(lower) = mapped.get(index)
        {
            mount::attach(lower, place(root, m)?, c"").map_err(|e| e.on(text::c(&m.at)))?;
        }
        make(overlay, parts, mapped, Some(store))
    }
}

/// Make the overlays of `jail` for it. `ids`: those of the jail's user inside, where it is not the
/// caller's own. Call it when pid 1 has been told to expect them; it hears of a failure, too.
/// `own_net`: it has a network namespace of its own, and a moment later its `lo` is up.
///
/// An error means that the old root is still there: the command must not start.
pub(super) fn make_for(
    jail: &mut Running,
    plan: &Plan,
    mapped: &[OwnedFd],
    (ids, own_net): (Option<u32>, bool),
) -> Result<()> {
    let launcher = nix::unistd::getpid();
    let mut stage = Stage::Making;
    let mut lent = || {
        // Of our process group, and not to be stopped or ended apart from us. Our own signals are left as
        // they are: what is to end us ends the wait, and the process with us.
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), None).ok();
        match make_inside(jail, plan, mapped, (ids, own_net, launcher)) {
            Ok((made, in_net)) => {
                stage = Stage::Lent(undone(Errno::EINTR));
                if let Err(e) = wire::send_descriptors(&jail.status, &made) {
                    // Pid 1 cannot do without: their upper layers are marked as used.
                    stage = Stage::Lent(e);
                    return 0;
                }
                if in_net && net::loopback_up().is_ok() {
                    drop(wire::send_loopback(&jail.status));
                }
                stage = match wire::wait_root(&jail.status).map(detach) {
                    Some(Ok(())) => Stage::Detached,
                    Some(Err(e)) => Stage::Lent(undone(e.errno)),
                    None => Stage::Lent(undone(Errno::ECONNRESET)),
                };
            }
            Err(_) => drop(wire::send_none(&jail.status)),
        }
        0
    };
    let dumpable = caps::dumpable()?;
    let started = clone::vfork_start(&mut lent);
    // A change of ids there has marked the memory, which is ours.
    caps::set_dumpable(dumpable)?;
    match (started.and_then(pidfd::wait4), stage) {
        (_, Stage::Detached) | (Ok((End::Exited(0), _)), Stage::Making) => Ok(()),
        // No more processes for us, or it was killed before it said anything (by a filter of the caller's
        // that kills whoever asks for `setns`): pid 1 can do without, but must not wait for it.
        (_, Stage::Making) => wire::send_none(&jail.status),
        (_, Stage::Lent(e)) => match wire::receive(&jail.status, false)? {
            Received::Closed => Ok(()),
            // Pid 1 has failed: its own word for why.
            Received::Message(word @ Message::Failed { .. }, _) => {
                jail.said = Some(word);
                Ok(())
            }
            Received::Message(..) | Received::Nothing => Err(e),
        },
    }
}

/// How far the process that is lent has come. It writes this into our memory.
#[derive(Debug)]
enum Stage {
    /// Pid 1 has heard nothing, or that nothing comes.
    Making,
    /// Pid 1 has the overlays, or waits for them, and leaves its old root to us. Why that is not detached.
    Lent(Error),
    /// All is done.
    Detached,
}

fn undone(errno: Errno) -> Error {
    Error::new("umount2", "old root", errno)
}

/// In the process that is lent, which has the root that pid 1 has.
fn detach(pivoted: bool) -> Result<()> {
    if pivoted { mount::detach_root_above() } else { Ok(()) }
}

/// In the process that is lent: the overlays, and whether we are in the jail's network namespace.
fn make_inside(
    jail: &Running,
    plan: &Plan,
    mapped: &[OwnedFd],
    (ids, own_net, launcher): (Option<u32>, bool, Pid),
) -> Result<(Vec<OwnedFd>, bool)> {
    die_with(launcher)?;
    ns::join_files(&jail.pidfd)?;
    // Now or never: once pid 1 has changed its ids it cannot be joined any more. Where it has no such
    // namespace yet, or this fails, it brings up `lo` itself.
    let in_net = own_net && ns::join_net(&jail.pidfd).is_ok();
    nix::sys::stat::umask(Mode::empty());
    let parts: Vec<Parts> = lent(plan).map(open_one).collect::<Result<_>>()?;
    if let Some(id) = ids {
        caps::become_ids(id, id)?;
        die_with(launcher)?;
    }
    let one = |(overlay, parts): (&Overlay, Parts)| {
        if let Err(index) = overlay.lower
            && let (Some(lower), Some((upper, _))) = (mapped.get(index), &parts.own)
        {
            // Onto a directory that nobody in there looks up any more; it goes with the old root.
            mount::attach(lower, upper, c"")?;
        }
        make(overlay, parts, mapped, None)
    };
    let made = lent(plan).zip(parts).map(one).collect::<Result<_>>()?;
    Ok((made, in_net))
}

/// It has the launcher's end of the status socket: were it to outlive the launcher, on a file system that
/// takes its time, pid 1 could not tell that nobody is there.
fn die_with(launcher: Pid) -> Result<()> {
    caps::die_with_parent()?;
    if nix::unistd::getppid() != launcher {
        clone::exit_now(125);
    }
    Ok(())
}
