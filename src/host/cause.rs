//! From a step that failed to its causes on this machine: the same answer for `aj doctor` and for a
//! jail that could not be started. Pure.

use nix::sys::signal::Signal;

use super::facts::Machine;
use super::fix;

/// Why a step of a start fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// `user.max_user_namespaces` is 0.
    UsernsLimitZero,
    /// A limit of namespaces is used up, of this kind when it is known.
    NamespaceLimit(Option<&'static str>),
    /// `kernel.unprivileged_userns_clone` is 0.
    UnprivilegedCloneOff,
    /// Ubuntu's restriction: user namespaces without capabilities.
    AppArmorUserns,
    /// An AppArmor profile that holds for this process, and that no container brought.
    AppArmorProfile,
    /// A process in a chroot may not make user namespaces.
    Chroot,
    /// The rules of a container or of a sandbox around us.
    Confined,
    /// A fresh proc would show what the mounts over this one hide.
    MaskedProc,
    /// Root of a container: the host ids that jails of root use do not exist here.
    LimitedRoot,
    /// The kernel is older than this version, which a mechanism needs.
    OldKernel(u32, u32),
    /// The kernel was built without, or the module is not loaded.
    Missing(&'static str),
    /// This file system cannot hold an overlay's upper directory.
    OverlayUpper,
    /// This file system cannot be shown under other ids.
    NoIdmap,
    /// `/` is the kernel's first file system.
    Initramfs,
    /// The limit of processes of the user or of the control group.
    ProcessLimit,
    /// The quota of keys of the user.
    KeyQuota,
    /// The limit of descriptors.
    FileLimit,
    /// The limit of the size of files.
    FileSizeLimit,
    /// The limit of the stack.
    StackLimit,
    /// The limit of processor time.
    ProcessorTime,
    /// Somebody, or the kernel for want of memory.
    Killed,
    /// There is no `/proc` around us.
    NoProc,
    /// No space, inodes or quota left.
    NoSpace,
    /// Too many nested Landlock domains or system call filters.
    TooManyLayers,
    /// Landlock is built in but not switched on.
    LandlockOff,
    /// Root that somebody has taken capabilities from.
    WeakRoot,
}

/// What to do about `step` (call and `argument`, as pid 1 sends it) having failed with `errno` (by
/// name). Empty when it is not known.
pub fn fixes(step: &str, errno: &str, machine: &Machine) -> Vec<String> {
    let causes = causes(step, errno, machine);
    let mut all = texts(&causes, machine);
    // What has no namespaces can be had without them.
    let namespaces = |c: &Cause| {
        matches!(
            c,
            Cause::UsernsLimitZero
                | Cause::NamespaceLimit(_)
                | Cause::UnprivilegedCloneOff
                | Cause::AppArmorUserns
                | Cause::AppArmorProfile
                | Cause::Chroot
                | Cause::Confined
        )
    };
    if causes.iter().any(namespaces) {
        all.extend(fix::lite(machine));
    }
    all
}

/// What to do about a process of ours that died of `signal`. Empty when it is not known.
pub fn fixes_of_signal(signal: i32, machine: &Machine) -> Vec<String> {
    /// Programs are made for 8 MiB; a shell that sets less means it, or has it from somebody who did.
    const SMALL_STACK: u64 = 1 << 20;
    let cause = match Signal::try_from(signal) {
        Ok(Signal::SIGXFSZ) => Cause::FileSizeLimit,
        Ok(Signal::SIGXCPU) => Cause::ProcessorTime,
        Ok(Signal::SIGKILL) => Cause::Killed,
        // SIGABRT is how the runtime says that the stack is full.
        Ok(Signal::SIGSEGV | Signal::SIGBUS | Signal::SIGABRT)
            if machine.stack.is_some_and(|n| n < SMALL_STACK) =>
        {
            Cause::StackLimit
        }
        _ => return Vec::new(),
    };
    texts(&[cause], machine)
}

/// The fixes for these causes, without repetition.
pub fn texts(causes: &[Cause], machine: &Machine) -> Vec<String> {
    let mut all = Vec::new();
    for text in causes.iter().flat_map(|c| fix::of(*c, machine)) {
        if !all.contains(&text) {
            all.push(text);
        }
    }
    all
}

/// Why `step` failed with `errno`, the likeliest first.
pub fn causes(step: &str, errno: &str, m: &Machine) -> Vec<Cause> {
    // What is done to files and processes outside of the jail takes capabilities of the namespace around it.
    const OUTSIDE: [&str; 7] = [
        "mount_setattr(idmap)",
        "open_tree",
        "write setgroups",
        "write uid_map",
        "write gid_map",
        "chown",
        "fchown",
    ];
    let mut all = likely(step, errno, m);
    let call = step.split_once(" `").map_or(step, |(call, _)| call);
    if m.weak_root && matches!(errno, "EPERM" | "EACCES") && OUTSIDE.contains(&call) {
        all.retain(|cause| *cause != Cause::NoIdmap);
        all.insert(0, Cause::WeakRoot);
    }
    all
}

fn likely(step: &str, errno: &str, m: &Machine) -> Vec<Cause> {
    let (call, on) = match step.split_once(" `") {
        Some((call, rest)) => (call, rest.strip_suffix('`').unwrap_or(rest)),
        None => (step, ""),
    };
    let denied = matches!(errno, "EPERM" | "EACCES");
    match (call, errno) {
        (_, "ENOENT") if on.starts_with("/proc/") => vec![Cause::NoProc],
        (_, "EMFILE" | "ENFILE") => vec![Cause::FileLimit],
        // Plain `clone` makes the namespace that holds the mapping of root's id-mapped mounts.
        ("clone3" | "unshare", _) | ("clone", "ENOSPC" | "EUSERS" | "EPERM" | "EACCES") => {
            namespaces(call, on, errno, m)
        }
        ("write setgroups" | "write uid_map" | "write gid_map", _) if denied || errno == "EINVAL" => ids(m),
        ("keyctl(JOIN_SESSION_KEYRING)", "EDQUOT") => vec![Cause::KeyQuota],
        ("landlock_restrict_self", "E2BIG") | ("seccomp", "ENOMEM" | "E2BIG") => vec![Cause::TooManyLayers],
        ("seccomp", "EINVAL") => vec![Cause::Missing("CONFIG_SECCOMP_FILTER")],
        ("clone" | "fork", "EAGAIN") => vec![Cause::ProcessLimit],
        ("pidfd_open" | "pidfd_send_signal", "ENOSYS") => kernel((5, 3), m),
        ("openat2", "ENOSYS") => kernel((5, 6), m),
        ("close_range", "ENOSYS") => kernel((5, 9), m),
        ("mount_setattr(idmap)", "EINVAL" | "EOPNOTSUPP") => vec![Cause::NoIdmap],
        ("mount_setattr(idmap)", "EPERM") if !m.has_range || !m.initial_userns => vec![Cause::LimitedRoot],
        ("mount_setattr(idmap)", "EPERM") => vec![Cause::NoIdmap],
        // Host ids that a user namespace around ours does not have.
        ("chown" | "fchown", "EINVAL") if m.uid == 0 && !m.has_range => vec![Cause::LimitedRoot],
        ("pivot_root", "EINVAL") if m.initramfs => vec![Cause::Initramfs],
        _ if is_overlay(call, on) => overlay(on, errno, m),
        ("fsopen" | "fsconfig" | "fsmount" | "open_tree" | "move_mount" | "mount_setattr", "ENOSYS") => {
            kernel((5, 12), m)
        }
        ("fsopen", "ENODEV") => vec![Cause::Missing("this file system")],
        ("fsconfig" | "fsmount", _) if denied && on == "proc" => proc(m),
        (_, "ENOSPC" | "EDQUOT") => vec![Cause::NoSpace],
        (_, "EFBIG") => vec![Cause::FileSizeLimit],
        // A restricted user namespace has no capabilities: whatever needs one first is refused.
        _ if denied && is_privileged(call) => refused(m),
        _ => Vec::new(),
    }
}

/// Steps that need a capability in the new user namespace.
fn is_privileged(call: &str) -> bool {
    const CALLS: [&str; 15] = [
        "ioctl(SIOCSIFFLAGS)",
        "keyctl(JOIN_SESSION_KEYRING)",
        "fsopen",
        "fsconfig",
        "fsmount",
        "open_tree",
        "move_mount",
        "mount_setattr",
        "pivot_root",
        "umount2",
        "sethostname",
        "setgroups",
        "capset",
        "seccomp",
        "write max_user_namespaces",
    ];
    CALLS.contains(&call) || call.starts_with("prctl(")
}

fn kernel(needed: (u32, u32), m: &Machine) -> Vec<Cause> {
    if m.version() < needed || !m.is_confined() {
        vec![Cause::OldKernel(needed.0, needed.1)]
    } else {
        // The kernel has the call: a filter pretends that it has not.
        vec![Cause::Confined]
    }
}

fn namespaces(call: &str, on: &str, errno: &str, m: &Machine) -> Vec<Cause> {
    match errno {
        "ENOSPC" | "EUSERS" => limits(call, on, m),
        "ENOSYS" => kernel((5, 5), m),
        "EINVAL" if m.version() < (5, 5) => vec![Cause::OldKernel(5, 5)],
        "EINVAL" => vec![Cause::Missing("one of CONFIG_USER_NS, PID_NS, NET_NS, IPC_NS, UTS_NS, CGROUPS")],
        "EAGAIN" => vec![Cause::ProcessLimit],
        "EPERM" | "EACCES" => {
            let mut causes = Vec::new();
            if m.uid != 0 && m.unprivileged_userns_clone == Some(0) {
                causes.push(Cause::UnprivilegedCloneOff);
            }
            if m.chroot {
                causes.push(Cause::Chroot);
            }
            if causes.is_empty() {
                causes = refused(m);
            }
            // With no rules around us the kernel itself refuses in a chroot only, and a chroot into a
            // mount point cannot be told from a root.
            if m.seccomp == 0
                && !m.is_labelled()
                && m.initial_userns
                && !causes.contains(&Cause::AppArmorUserns)
            {
                causes.retain(|c| *c != Cause::Confined);
                if causes.is_empty() {
                    causes.push(Cause::Chroot);
                }
            }
            causes
        }
        _ => Vec::new(),
    }
}

/// Which limit of namespaces is used up.
fn limits(call: &str, on: &str, m: &Machine) -> Vec<Cause> {
    /// No value that anybody sets: what a new user namespace starts with.
    const NO_LIMIT: u64 = 1 << 30;
    let kind = |name: &str| KINDS.into_iter().find(|k| *k == if name == "mount" { "mnt" } else { name });
    let mut causes: Vec<Cause> = Vec::new();
    if call == "unshare" {
        causes.extend(kind(on).map(|k| Cause::NamespaceLimit(Some(k))));
    } else {
        if m.max_user_namespaces == Some(0) {
            causes.push(Cause::UsernsLimitZero);
        }
        causes
            .extend(m.forbidden_kinds.iter().filter_map(|k| kind(k)).map(|k| Cause::NamespaceLimit(Some(k))));
    }
    if causes.is_empty() {
        if m.max_user_namespaces.is_none_or(|n| n < NO_LIMIT) {
            causes.push(Cause::NamespaceLimit(None));
        }
        if !m.initial_userns {
            // The limit of a user namespace around ours, which is not shown in here.
            causes.push(Cause::Confined);
        }
    }
    causes
}

const KINDS: [&str; 6] = ["mnt", "pid", "ipc", "uts", "cgroup", "net"];

/// Something that is not a setting of the kernel's own refused.
fn refused(m: &Machine) -> Vec<Cause> {
    let mut causes = Vec::new();
    if m.uid != 0 && m.apparmor_userns == Some(1) && m.container.is_none() {
        causes.push(Cause::AppArmorUserns);
    }
    if m.is_labelled() && m.container.is_none() {
        causes.push(Cause::AppArmorProfile);
    }
    if m.is_confined() {
        causes.push(Cause::Confined);
    }
    causes
}

fn ids(m: &Machine) -> Vec<Cause> {
    if m.uid == 0 && !m.has_range { vec![Cause::LimitedRoot] } else { refused(m) }
}

fn proc(m: &Machine) -> Vec<Cause> {
    if !m.proc_masks.is_empty() {
        return vec![Cause::MaskedProc];
    }
    refused(m)
}

/// Whether a step belongs to the overlay. Its options are set on a context that has no name yet.
pub fn is_overlay(call: &str, on: &str) -> bool {
    let option = ["lowerdir=", "upperdir=", "workdir="].iter().any(|o| on.starts_with(o));
    let flag = matches!(on, "userxattr" | "volatile");
    on == "overlay" || (call == "fsconfig" && (option || flag))
}

fn overlay(on: &str, errno: &str, m: &Machine) -> Vec<Cause> {
    match errno {
        "ENODEV" => vec![Cause::Missing("overlay")],
        "ENOSYS" => kernel((5, 12), m),
        "EINVAL" if matches!(on, "userxattr" | "volatile") => vec![Cause::OldKernel(5, 11)],
        "ENOSPC" | "EDQUOT" => vec![Cause::NoSpace],
        "EPERM" | "EACCES" if m.version() < (5, 11) => vec![Cause::OldKernel(5, 11)],
        "EPERM" | "EACCES" => {
            let mut causes = refused(m);
            causes.push(Cause::OverlayUpper);
            causes
        }
        _ => vec![Cause::OverlayUpper],
    }
}

#[cfg(test)]
#[path = "cause_tests.rs"]
mod tests;
