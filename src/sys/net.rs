//! Bringing up `lo` in a new network namespace.

use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::{Error, Result, check};

#[repr(C)]
struct IfReq {
    name: [u8; 16],
    flags: libc::c_short,
    pad: [u8; 22],
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
