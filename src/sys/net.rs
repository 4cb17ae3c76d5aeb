//! A network namespace and its `lo`.

use std::os::fd::AsRawFd;

use nix::sched::CloneFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::{Error, Result, check};

#[repr(C)]
#[derive(Clone, Copy)]
struct IfReq {
    name: [u8; 16],
    flags: libc::c_short,
    pad: [u8; 22],
}

static LO_UP: IfReq = IfReq {
    name: *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    flags: (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short,
    pad: [0; 22],
};

/// Go to a new network namespace, owned by this process's user namespace; its `lo` is down. As dear as
/// all the mounts of a jail together.
pub fn unshare() -> Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNET).map_err(|e| Error::new("unshare", "net", e))
}

/// Set `lo` up. Its addresses 127.0.0.1 and ::1 appear by themselves. Needs CAP_NET_ADMIN in the
/// user namespace that owns this network namespace.
pub fn loopback_up() -> Result<()> {
    let s = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|e| Error::new("socket", "AF_INET", e))?;
    // SAFETY: the request has the layout and at least the size of `struct ifreq` (40 bytes).
    let r = unsafe { libc::ioctl(s.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const LO_UP) };
    check("ioctl(SIOCSIFFLAGS)", libc::c_long::from(r)).map(drop).map_err(|e| e.on("lo"))
}
