//! `clone3` into new namespaces, and the `vfork`-like start of the command inside.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow};

use super::{Error, Result, check};

/// Namespace flags of clone(2), as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespaces(u64);

impl Namespaces {
    /// None at all.
    pub const NONE: Namespaces = Namespaces(0);
    /// A user namespace alone: for trying one.
    pub const USER: Namespaces = Namespaces(libc::CLONE_NEWUSER as u64);
    /// Every namespace, the network's too: for trying them all at once.
    pub const ALL: Namespaces = Namespaces(Namespaces::WITHOUT_NET.0 | libc::CLONE_NEWNET as u64);
    /// Every namespace but the network's, which [`super::net`] makes (time namespaces are not used).
    pub const WITHOUT_NET: Namespaces = Namespaces(
        (libc::CLONE_NEWUSER
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWCGROUP) as u64,
    );
}

/// `struct clone_args` up to `cgroup` (CLONE_ARGS_SIZE_VER2).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What `clone3` returned.
#[derive(Debug)]
pub enum Cloned {
    /// In the parent: the child's pid and pidfd.
    Parent(i32, OwnedFd),
    /// In the child.
    Child,
}

/// Fork into new namespaces. Signal handlers are reset in the child, ignored signals stay ignored.
///
/// The process must be single-threaded (checked: EBUSY otherwise): the child runs arbitrary code,
/// allocation included, on a copy of this memory, where locks held by other threads would never be
/// released. The child must leave by [`exit_now`].
pub fn clone3(ns: Namespaces, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned> {
    single_threaded()?;
    let mut pidfd: libc::c_int = -1;
    let mut args = CloneArgs {
        flags: ns.0 | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = fd.as_raw_fd() as u64;
    }
    // SAFETY: `args` is a valid clone_args of the size given, `pidfd` outlives the call, no stack
    // is passed, so the child continues on a copy of this one (fork semantics).
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match check("clone3", pid).map_err(|e| e.on("new namespaces"))? {
        0 => {
            ALONE.store(true, Ordering::Relaxed);
            Ok(Cloned::Child)
        }
        // SAFETY: on success in the parent the kernel stored a new descriptor that only we hold.
        pid => Ok(Cloned::Parent(pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// Fork this process as it is: where `clone3` is not to be had, behind the filter. `Ok(None)` in the child, which
/// must leave by [`exit_now`]; the pid in the parent. As with [`clone3`], this process must be single-threaded.
pub fn fork() -> Result<Option<i32>> {
    single_threaded()?;
    // SAFETY: with one thread the child has a whole and consistent copy of this process.
    let pid = unsafe { libc::fork() };
    let pid = check("fork", libc::c_long::from(pid))? as i32;
    if pid == 0 {
        ALONE.store(true, Ordering::Relaxed);
    }
    Ok((pid != 0).then_some(pid))
}

/// This process was made by [`clone3`] or [`fork`].
static ALONE: AtomicBool = AtomicBool::new(false);

/// Whether this process is a copy that was made with a single thread. To look would cost thirty microseconds in a
/// process that is as young: the kernel has no entry in `/proc` for it yet.
pub(super) fn is_copy() -> bool {
    ALONE.load(Ordering::Relaxed)
}

/// One link for each of `.`, `..` and the threads: a check at the price of a stat.
fn single_threaded() -> Result<()> {
    let tasks =
        nix::sys::stat::stat(c"/proc/self/task").map_err(|e| Error::new("stat", "/proc/self/task", e))?;
    if tasks.st_nlink == 3 { Ok(()) } else { Err(Error::new("clone3", "with threads running", Errno::EBUSY)) }
}

/// Run `child` in a process that shares this memory until it execs or exits, while the caller
/// waits (the semantics of vfork(2), spelled with `clone` so that the stack is separate).
/// Returns the pid.
///
/// `child` should make system calls and nothing else: what it writes to captured variables is seen
/// by the caller, and a lock held by another thread would block it forever. Its return value is
/// the exit status.
pub fn vfork_start(child: &mut dyn FnMut() -> i32) -> Result<i32> {
    const STACK: usize = 32 * 1024;
    extern "C" fn trampoline(arg: *mut libc::c_void) -> libc::c_int {
        // SAFETY: `arg` is the pointer to the `&mut dyn FnMut` passed below; the caller is
        // suspended by CLONE_VFORK, so the reference is not used concurrently.
        let child = unsafe { &mut *arg.cast::<&mut dyn FnMut() -> i32>() };
        child()
    }
    // Not zeroed: only the pages that the child really uses should ever be touched.
    let mut stack = Vec::<u128>::with_capacity(STACK / size_of::<u128>());
    let mut child = child;
    // SAFETY: one past the end of the allocation, aligned to 16, as clone(2) asks for a stack that
    // grows down.
    let top = unsafe { stack.as_mut_ptr().add(STACK / size_of::<u128>()) };
    // SAFETY: the stack is ours and large enough for the trampoline; CLONE_VFORK suspends us until
    // the child has exec'ed or exited, so stack and closure outlive its use of this memory.
    let pid = unsafe {
        libc::clone(
            trampoline,
            top.cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            (&raw mut child).cast(),
        )
    };
    Ok(check("clone", libc::c_long::from(pid))? as i32)
}

/// A process that does nothing, in a new user namespace: something to hang an id map on. See [`parked`].
pub fn parked_in_userns() -> Result<(i32, OwnedFd)> {
    park_in(libc::CLONE_NEWUSER)
}

/// A process that does nothing. It shares this memory instead of copying it and never touches it, and no signal that
/// can be blocked is delivered to it. End it with SIGKILL and reap it; it ends by itself with us.
pub fn parked() -> Result<(i32, OwnedFd)> {
    let fail = |e| Error::new("pthread_sigmask", "", e);
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).map_err(fail)?;
    let made = park_in(0);
    before.thread_set_mask().map_err(fail)?;
    made
}

fn park_in(namespaces: libc::c_int) -> Result<(i32, OwnedFd)> {
    extern "C" fn park(parent: *mut libc::c_void) -> libc::c_int {
        // SAFETY: both take integers only.
        let orphan = unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::getppid() as usize != parent.addr()
        };
        if orphan {
            return 0;
        }
        // Its table of descriptors is a copy: pipes and locks are to end with who uses them.
        // SAFETY: takes integers only, and the descriptors of this process are used by nobody.
        unsafe { libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0) };
        loop {
            // SAFETY: takes nothing; returns only after a signal handler, and there are none that
            // could run here: signals are not sent to this process but the one that kills it.
            unsafe { libc::pause() };
        }
    }
    const STACK: usize = 4 * 1024;
    // Leaked on purpose, once per start: the process uses it until it is killed.
    let stack: &'static mut [std::mem::MaybeUninit<u128>] =
        Vec::leak(Vec::from_iter((0..STACK / size_of::<u128>()).map(|_| std::mem::MaybeUninit::uninit())));
    let mut pidfd: libc::c_int = -1;
    // SAFETY: one past the end of the allocation, aligned to 16, for a stack that grows down.
    let top = unsafe { stack.as_mut_ptr().add(stack.len()) };
    let parent = std::ptr::without_provenance_mut(std::process::id() as usize);
    // SAFETY: the stack is the child's alone and lives forever; the child's calls write nothing but
    // its own stack; `pidfd` is stored before clone returns.
    let pid = unsafe {
        libc::clone(
            park,
            top.cast(),
            libc::CLONE_VM | namespaces | libc::CLONE_PIDFD | libc::SIGCHLD,
            parent,
            &raw mut pidfd,
        )
    };
    let pid = check("clone", libc::c_long::from(pid))? as i32;
    // SAFETY: on success the kernel stored a new descriptor that only we hold.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Leave at once, without destructors or atexit handlers: the only way out of a child.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: takes no pointers and does not return.
    unsafe { libc::_exit(status) }
}

/// Replace the process image. Returns only on failure.
///
/// `argv` and `envp` are null-terminated arrays made by [`CStrings`].
pub fn execve(path: &std::ffi::CStr, argv: &CStrings, envp: &CStrings) -> Error {
    // SAFETY: `path` is null-terminated; the arrays are null-terminated arrays of pointers to
    // null-terminated strings that `CStrings` keeps alive.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr()) };
    Error::last("execve")
}

/// Strings with the null-terminated pointer array that `execve` wants, built before the clone.
#[derive(Debug)]
pub struct CStrings {
    // Never read, only kept: `pointers` points into them.
    _strings: Vec<std::ffi::CString>,
    pointers: Vec<*const libc::c_char>,
}

impl CStrings {
    /// The array for `strings`.
    pub fn new(strings: Vec<std::ffi::CString>) -> CStrings {
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
        CStrings { _strings: strings, pointers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vfork_start_shares_memory_and_returns_the_pid() {
        let mut seen = 0;
        let pid = vfork_start(&mut || {
            seen = 42;
            7
        })
        .unwrap();
        let status = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).unwrap();
        assert_eq!(seen, 42);
        assert!(matches!(status, nix::sys::wait::WaitStatus::Exited(_, 7)), "{status:?}");
    }
}
