//! Signals: pid 1's forwarding handler, the launcher's signalfd, dying of a signal.

use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::{Error, Result};

/// Signals that `aj` passes on to the command.
pub const FORWARDED: [Signal; 9] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGCONT,
    Signal::SIGTSTP,
];

/// Process group that pid 1 forwards to; 0 before the command runs.
static COMMAND_GROUP: AtomicI32 = AtomicI32::new(0);

extern "C" fn forward(signal: libc::c_int) {
    let group = COMMAND_GROUP.load(Ordering::Relaxed);
    if group > 0 {
        // SIGTSTP would be discarded: the command's group is orphaned (its session has no parent
        // outside), so the stop that cannot be ignored is sent instead.
        let signal = if signal == libc::SIGTSTP { libc::SIGSTOP } else { signal };
        // SAFETY: kill(2) is async-signal-safe and takes integers.
        unsafe { libc::kill(-group, signal) };
    }
}

/// In pid 1: pass [`FORWARDED`] signals on to the process group `group`.
pub fn forward_to_group(group: i32) -> Result<()> {
    COMMAND_GROUP.store(group, Ordering::Relaxed);
    let action = SigAction::new(SigHandler::Handler(forward), SaFlags::empty(), SigSet::empty());
    for signal in FORWARDED {
        // SAFETY: the handler only loads an atomic and calls kill(2).
        unsafe { sigaction(signal, &action) }.map_err(|e| Error::new("sigaction", signal.as_str(), e))?;
    }
    Ok(())
}

/// In the launcher: take [`FORWARDED`] signals as readable records instead of deaths. A signal the
/// caller had ignored (nohup) stays ignored.
pub fn take_over() -> Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in FORWARDED {
        set.add(signal);
    }
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).map_err(|e| Error::new("sigprocmask", "", e))?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|e| Error::new("signalfd", "", e))
}

/// Give SIGPIPE its default action (Rust's runtime ignores it, and exec keeps that).
pub fn default_sigpipe() {
    // SAFETY: SIG_DFL installs no code.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Die of `signal` as if it had never been handled, so that a shell sees a signal death and stops
/// its own loop. Returns only when the signal does not kill.
pub fn die_of(signal: i32) {
    // SAFETY: SIG_DFL installs no code; the mask is a live, initialised set.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        libc::raise(signal);
    }
}

/// Stop this process as Ctrl-Z would have; returns when it is continued.
pub fn stop_self() {
    // SAFETY: takes an integer.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// Unblock every signal: in the command before it execs.
pub fn unblock_all() {
    // SAFETY: the mask is a live, initialised set.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}
