//! What pid 1 does where a container around us keeps it from mounting a fresh `/proc`.
//!
//! The kernel makes none for whoever sees one with something mounted over parts of it, as every container
//! has: a fresh one would show what those mounts hide. So the one around us is shown, with those mounts.
//! It lists the processes of the container. None of them can be read or traced: the jail's user namespace
//! is another than theirs, which every such file of `/proc` asks for. None can be signalled: they have no
//! number in the jail's pid namespace. But a few of their settings are guarded by the uid alone
//! (`oom_score_adj`, `coredump_filter`), which is why all of it is read-only.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use super::confine::Confinement;
use super::cover::place_of;
use super::init::attach;
use super::plan::{EMPTY, Mount};
use crate::base::text;
use crate::sys::at::{self, FileKind};
use crate::sys::mount::{self, Attr};
use crate::sys::{Error, Result, ns};

/// What is covered in it: keys, the kernel's memory, addresses and log, and switches. Most of it cannot be
/// opened by an ordinary user, on most hosts.
const MASKED: [&std::ffi::CStr; 12] = [
    c"proc/acpi",
    c"proc/kallsyms",
    c"proc/kcore",
    c"proc/keys",
    c"proc/key-users",
    c"proc/kmsg",
    c"proc/latency_stats",
    c"proc/sched_debug",
    c"proc/scsi",
    c"proc/sysrq-trigger",
    c"proc/timer_list",
    c"proc/timer_stats",
];

/// Show the `/proc` around us at the place of `m`. Says whether further user namespaces are forbidden,
/// which takes a setting that a container may have made read-only.
pub(super) fn outer_proc(
    confinement: &Confinement,
    (store, root): (&OwnedFd, &OwnedFd),
    m: &Mount,
) -> Result<bool> {
    // While it can be written at all. The limits are those of our own user namespace.
    let forbidden = confinement.forbids_nested() && ns::forbid_nested().is_ok();
    if let Some((instances, watches)) = confinement.inotify {
        // The half that is left to the host is a courtesy, and no reason not to run.
        ns::limit_inotify(instances, watches).ok();
    }
    let read_only = Attr::RDONLY.and(Attr::NOSUID).and(Attr::NODEV).and(Attr::NOEXEC);
    let fail = |e: Error| e.on("proc");
    // With all that is mounted below it, which the kernel does not part from it either.
    let tree = mount::clone_tree(None, c"/proc", true).map_err(fail)?;
    mount::set_attr(&tree, read_only, true).map_err(fail)?;
    attach(&tree, root, m)?;
    for at in MASKED {
        let below = match place_of(root, at) {
            // A kernel built without it.
            Err(e) if e.errno == Errno::ENOENT => continue,
            other => other?,
        };
        let fail = |e: Error| e.on(text::c(at));
        let cover = match at::fstat(&below).map_err(fail)?.kind {
            FileKind::Dir => mount::clone_tree(Some(store.as_fd()), EMPTY, false),
            _ => mount::clone_tree(None, c"/dev/null", false),
        };
        let cover = cover.map_err(fail)?;
        mount::set_attr(&cover, Attr::RDONLY.and(Attr::NOSUID).and(Attr::NOEXEC), false).map_err(fail)?;
        mount::attach(&cover, &below, c"").map_err(fail)?;
    }
    // A call that reports success and does nothing is caught here.
    if mount::is_read_only_mount(&tree)? {
        Ok(forbidden)
    } else {
        Err(Error::new("verify", "not read-only: /proc", Errno::EPERM))
    }
}
