//! A network namespace with `lo` up.

use std::os::fd::{AsRawFd, OwnedFd};
use std::thread::JoinHandle;

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity, setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::Pid;

use super::{Error, Result, check};

#[repr(C)]
struct IfReq {
    name: [u8; 16],
    flags: libc::c_short,
    pad: [u8; 22],
}

/// A network namespace being made by a thread of its own.
///
/// It is the one namespace that is not cheap: as long as all the mounts of a jail together. Made
/// beside them it costs next to nothing where a second processor is free.
#[derive(Debug)]
pub struct Making(JoinHandle<Result<OwnedFd>>);

/// Start making a network namespace owned by this thread's user namespace.
///
/// The thread keeps off the processor that its maker runs on: the scheduler tends to start it there
/// and to leave it there, where it gets nowhere before its maker waits for it.
pub fn make() -> Result<Making> {
    let here = sched_getcpu();
    std::thread::Builder::new()
        .stack_size(64 * 1024)
        .spawn(move || {
            // Failing is no loss: the namespace is made all the same, only later.
            avoid_processor(here).ok();
            unshare(CloneFlags::CLONE_NEWNET).map_err(|e| Error::new("unshare", "net", e))?;
            loopback_up()?;
            let path = c"/proc/thread-self/ns/net";
            openat(AT_FDCWD, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty())
                .map_err(|e| Error::new("open", "/proc/thread-self/ns/net", e))
        })
        .map(Making)
        .map_err(|e| {
            let errno = nix::errno::Errno::from_raw(e.raw_os_error().unwrap_or(libc::EAGAIN));
            Error::new("clone", "thread for the network namespace", errno)
        })
}

/// Take the processor `here` out of those that this thread may run on, unless it is the only one.
fn avoid_processor(here: nix::Result<usize>) -> nix::Result<()> {
    let me = Pid::from_raw(0);
    let mut others = sched_getaffinity(me)?;
    others.unset(here?)?;
    if (0..CpuSet::count()).any(|n| others.is_set(n).unwrap_or(false)) {
        sched_setaffinity(me, &others)?;
    }
    Ok(())
}

impl Making {
    /// Wait for it and enter it. No thread is left afterwards.
    pub fn enter(self) -> Result<()> {
        let made = self.0.join().map_err(|_| Error::new("unshare", "net", nix::errno::Errno::EIO))?;
        setns(made?, CloneFlags::CLONE_NEWNET).map_err(|e| Error::new("setns", "network namespace", e))
    }
}

/// Set `lo` up. Its addresses 127.0.0.1 and ::1 appear by themselves. Needs CAP_NET_ADMIN in the
/// user namespace that owns this network namespace.
pub fn loopback_up() -> Result<()> {
    let s = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|e| Error::new("socket", "AF_INET", e))?;
    let mut name = [0u8; 16];
    name[..2].copy_from_slice(b"lo");
    let request = IfReq { name, flags: (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short, pad: [0; 22] };
    // SAFETY: `request` has the layout and at least the size of `struct ifreq` (40 bytes).
    let r = unsafe { libc::ioctl(s.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    check("ioctl(SIOCSIFFLAGS)", libc::c_long::from(r)).map(drop).map_err(|e| e.on("lo"))
}
