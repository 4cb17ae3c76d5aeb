//! Signals: pid 1's forwarding handler, the launcher's signalfd, dying of a signal.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
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

/// Signals that mean "end": the user wants the command to stop.
pub const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// Process group that pid 1 forwards to; 0 before the command runs.
static COMMAND_GROUP: AtomicI32 = AtomicI32::new(0);
/// How far a signal goes: a whole pid namespace of ours, or one process group where there is none.
static REACH: AtomicI32 = AtomicI32::new(JAIL);
const JAIL: i32 = 0;
const GROUP: i32 = 1;
const RELAY: i32 = 2;
/// Whether the whole jail was stopped, so that the next SIGCONT is for all of it.
static STOPPED: AtomicBool = AtomicBool::new(false);

extern "C" fn forward(signal: libc::c_int) {
    let group = COMMAND_GROUP.load(Ordering::Relaxed);
    if group <= 0 {
        return;
    }
    let (target, signal) = match (signal, REACH.load(Ordering::Relaxed)) {
        // To one that has this very handler.
        (other, RELAY) => (-group, other),
        // Without a pid namespace, -1 would be every process of the user's.
        (libc::SIGTSTP, GROUP) => (-group, libc::SIGSTOP),
        (other, GROUP) => (-group, other),
        // Everything stops, daemons too: the user has stopped the run, and its clock with it. A
        // plain SIGTSTP would be discarded by the command's group, which is orphaned (its session
        // has no parent outside).
        (libc::SIGTSTP, _) => {
            STOPPED.store(true, Ordering::Relaxed);
            (-1, libc::SIGSTOP)
        }
        (libc::SIGCONT, _) if STOPPED.swap(false, Ordering::Relaxed) => (-1, libc::SIGCONT),
        (other, _) => (-group, other),
    };
    // SAFETY: kill(2) is async-signal-safe and takes integers. From pid 1, -1 means every other
    // process of its pid namespace.
    unsafe { libc::kill(target, signal) };
}

/// From now on [`forward_to_group`] reaches that group and nobody else: there is no pid namespace. The group
/// is of a process that passes signals on in its turn (`relay`), or of the command.
pub fn keep_to_group(relay: bool) {
    REACH.store(if relay { RELAY } else { GROUP }, Ordering::Relaxed);
}

/// In pid 1: pass [`FORWARDED`] signals on to the process group `group`.
pub fn forward_to_group(group: i32) -> Result<()> {
    COMMAND_GROUP.store(group, Ordering::Relaxed);
    // One after the other: a handler that interrupted another would pass on the later signal first,
    // and a stopped command would go on at SIGCONT before it has been told to end.
    let action = SigAction::new(SigHandler::Handler(forward), SaFlags::empty(), SigSet::from_iter(FORWARDED));
    for signal in FORWARDED {
        // SAFETY: the handler only loads an atomic and calls kill(2).
        unsafe { sigaction(signal, &action) }.map_err(|e| Error::new("sigaction", signal.as_str(), e))?;
    }
    // A launcher that had taken signals over before it made this process has handed that on.
    sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&SigSet::from_iter(FORWARDED)), None)
        .map_err(|e| Error::new("sigprocmask", "", e))
}

/// In pid 1: whether the whole jail was stopped by the launcher's word, and not yet continued.
pub fn all_stopped() -> bool {
    STOPPED.load(Ordering::Relaxed)
}

/// Block SIGTTOU, for a process that sets up a terminal from its background.
pub fn block_sigttou() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTTOU);
    // Cannot fail: the operation and the set are valid.
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).ok();
}

/// In the launcher: take [`FORWARDED`] signals as readable records instead of deaths, until
/// [`give_back`]. A blocked signal is queued even when the caller had it ignored (nohup): the reader
/// leaves those out by [`is_ignored`].
pub fn take_over() -> Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in FORWARDED {
        set.add(signal);
    }
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).map_err(|e| Error::new("sigprocmask", "", e))?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|e| Error::new("signalfd", "", e))
}

/// In pid 1 of a jail that several commands join: [`ENDING`] signals and SIGCHLD as readable records.
/// [`unblock_all`] undoes it in a child.
pub fn take_over_as_init() -> Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in ENDING.into_iter().chain([Signal::SIGCHLD]) {
        set.add(signal);
    }
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).map_err(|e| Error::new("sigprocmask", "", e))?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|e| Error::new("signalfd", "", e))
}

/// Let the [`ENDING`] signals act on this process again: once the run is over and recorded, Ctrl-C
/// during what is left to do ends it as it would any program. The others stay blocked, because a
/// SIGUSR1 meant for the command must not kill `aj` when it comes late.
pub fn give_back() {
    let mut set = SigSet::empty();
    for signal in ENDING {
        set.add(signal);
    }
    // Cannot fail: the operation and the set are valid.
    sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&set), None).ok();
}

/// Whether the caller had this process ignore `signal`.
pub fn is_ignored(signal: i32) -> bool {
    let mut old = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: only asks for the present action, into live storage of the right type.
    let r = unsafe { libc::sigaction(signal, std::ptr::null(), old.as_mut_ptr()) };
    // SAFETY: zeroed at first, then filled in by the kernel.
    r == 0 && unsafe { old.assume_init() }.sa_sigaction == libc::SIG_IGN
}

/// Give SIGCHLD its default action. A caller that ignores it passes that on, and then the kernel
/// reaps our children by itself and nobody learns how they ended.
pub fn default_sigchld() {
    // SAFETY: SIG_DFL installs no code.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// First of all, in every command: a file that may not grow (`ulimit -f`) is an error to report, not a
/// death that leaves a tree, a half-written record or a file of ours in the user's project.
pub fn ignore_sigxfsz() {
    // SAFETY: SIG_IGN installs no code.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Whether the caller lets no file become larger than some size (`ulimit -f`).
pub fn has_file_size_limit() -> bool {
    getrlimit(Resource::RLIMIT_FSIZE).is_ok_and(|(now, _)| now != RLIM_INFINITY)
}

/// Give what `aj` ignores its default action for the command, because exec keeps what is ignored:
/// SIGPIPE (by Rust's runtime) and SIGXFSZ.
pub fn default_for_command() {
    for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
        // SAFETY: SIG_DFL installs no code.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
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

/// Stop this process as Ctrl-Z would have, where somebody can continue it: in a process group without
/// a parent in its session (`setsid`, a service) the kernel discards a SIGTSTP, and so it is with us.
/// Returns when it is continued. SIGTSTP is blocked before and afterwards.
pub fn stop_self() {
    stop(false);
}

/// As [`stop_self`], with the whole process group: for a Ctrl-Z that the terminal did not send to it,
/// because it was raw.
pub fn stop_group() {
    stop(true);
}

fn stop(group: bool) {
    if is_ignored(libc::SIGTSTP) {
        return;
    }
    // SAFETY: SIG_DFL installs no code; the mask is a live, initialised set.
    unsafe {
        let before = libc::signal(libc::SIGTSTP, libc::SIG_DFL);
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTSTP);
        if group {
            libc::kill(0, libc::SIGTSTP);
        } else {
            libc::raise(libc::SIGTSTP);
        }
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        libc::signal(libc::SIGTSTP, before);
    }
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
