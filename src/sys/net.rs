//! A network namespace with `lo` up.

use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::sched::{CloneFlags, sched_getcpu, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::clone::beside;
use super::{Error, Result, check, pidfd};

#[repr(C)]
#[derive(Clone, Copy)]
struct IfReq {
    name: [u8; 16],
    flags: libc::c_short,
    pad: [u8; 22],
}

const SET_FLAGS: rustix::ioctl::Opcode = libc::SIOCSIFFLAGS as rustix::ioctl::Opcode;
static LO_UP: IfReq = IfReq {
    name: *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    flags: (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short,
    pad: [0; 22],
};

/// A network namespace being made by a process of its own, which shares our memory.
///
/// It is the one namespace that is not cheap: as long as all the mounts of a jail together. Made
/// beside them it costs next to nothing where a second processor is free.
#[derive(Debug)]
pub struct Making {
    pid: i32,
    outcome: &'static Outcome,
}

/// What came of it, written by the process and read after its end.
#[derive(Debug)]
struct Outcome {
    /// The processor to keep off, or -1.
    avoid: i32,
    /// The namespace, or minus errno.
    made: AtomicI32,
    /// Index in [`STEPS`] of what is being done.
    step: AtomicUsize,
}

const STEPS: [(&str, &str); 4] =
    [("unshare", "net"), ("socket", "AF_INET"), ("ioctl(SIOCSIFFLAGS)", "lo"), ("open", "/proc/self/ns/net")];

/// Start making a network namespace owned by this process's user namespace.
///
/// The process keeps off the processor that its maker runs on: the scheduler tends to start it there
/// and to leave it there, where it gets nowhere before its maker waits for it.
pub fn make() -> Result<Making> {
    let avoid = sched_getcpu().ok().and_then(|n| i32::try_from(n).ok()).unwrap_or(-1);
    // Leaked on purpose, once per start.
    let outcome: &'static Outcome =
        Box::leak(Box::new(Outcome { avoid, made: AtomicI32::new(0), step: AtomicUsize::new(0) }));
    // SAFETY: `task` keeps to rustix's system calls and atomics; `outcome` lives forever.
    let pid = unsafe { beside(task, std::ptr::from_ref(outcome).cast_mut().cast()) }
        .map_err(|e| e.on("for the network namespace"))?;
    Ok(Making { pid, outcome })
}

extern "C" fn task(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the pointer that `make` passed, to an outcome that lives forever.
    let outcome = unsafe { &*argument.cast_const().cast::<Outcome>() };
    let made = namespace(outcome).unwrap_or_else(|e| -e.raw_os_error());
    outcome.made.store(made, Ordering::Release);
    0
}

/// Make it; its descriptor is that of the maker, too. Runs without thread-local storage.
fn namespace(outcome: &Outcome) -> rustix::io::Result<i32> {
    // Failing is no loss: the namespace is made all the same, only later.
    avoid_processor(outcome.avoid).ok();
    let step = |n| outcome.step.store(n, Ordering::Release);
    // SAFETY: nothing here has to be in the old namespace; descriptors stay as they are.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }?;
    step(1);
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        flags,
        None,
    )?;
    step(2);
    // SAFETY: the request has the layout and at least the size of `struct ifreq`, which this call
    // reads and leaves as it is.
    unsafe { rustix::ioctl::ioctl(&socket, rustix::ioctl::Setter::<SET_FLAGS, IfReq>::new(LO_UP)) }?;
    step(3);
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let made = rustix::fs::open(c"/proc/self/ns/net", flags, rustix::fs::Mode::empty())?;
    Ok(made.into_raw_fd())
}

/// Take the processor `here` out of those that this process may run on, unless it is the only one.
fn avoid_processor(here: i32) -> rustix::io::Result<()> {
    let mut others = rustix::thread::sched_getaffinity(None)?;
    if let Ok(here) = usize::try_from(here)
        && here < rustix::thread::CpuSet::MAX_CPU
    {
        others.unset(here);
    }
    if others.count() > 0 { rustix::thread::sched_setaffinity(None, &others) } else { Ok(()) }
}

impl Making {
    /// Wait for it and enter it. Nothing of the process is left afterwards.
    pub fn enter(self) -> Result<()> {
        pidfd::wait4(self.pid)?;
        let made = self.outcome.made.load(Ordering::Acquire);
        if made <= 0 {
            let step = self.outcome.step.load(Ordering::Acquire);
            let (call, on) = STEPS.get(step).copied().unwrap_or(("unshare", "net"));
            // Zero: it was killed before it could say anything.
            let errno = if made == 0 { Errno::EIO } else { Errno::from_raw(-made) };
            return Err(Error::new(call, on, errno));
        }
        let made = super::fd::received(made);
        setns(made, CloneFlags::CLONE_NEWNET).map_err(|e| Error::new("setns", "network namespace", e))
    }
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
