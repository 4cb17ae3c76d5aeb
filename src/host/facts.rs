//! What is known about this machine. Plain data, so that a situation can be recorded and tested.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::sys;

/// What came of trying one mechanism for real.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tried {
    /// It worked; what was seen.
    Worked(String),
    /// It works, but not as it should; what was seen.
    Weak(String),
    /// A step of it failed.
    Failed {
        /// The step, in the form that a failed jail reports: call and `argument`.
        step: String,
        /// Errno by name.
        errno: String,
    },
    /// It failed without an errno to show; what was seen.
    Wrong(String),
    /// A process that nobody here sent a signal died of one.
    Killed {
        /// The process.
        what: String,
        /// The signal's number.
        signal: i32,
    },
    /// No answer within this many milliseconds.
    TimedOut(u64),
    /// It was not tried, and why.
    Skipped(String),
}

impl Tried {
    /// Whether it worked at all.
    pub fn worked(&self) -> bool {
        matches!(self, Tried::Worked(_) | Tried::Weak(_))
    }

    /// What was seen, in words.
    pub fn text(&self) -> String {
        match self {
            Tried::Worked(seen) | Tried::Weak(seen) | Tried::Wrong(seen) | Tried::Skipped(seen) => {
                seen.clone()
            }
            Tried::Failed { step, errno } => format!("{step}: {errno}"),
            Tried::Killed { what, signal } => match nix::sys::signal::Signal::try_from(*signal) {
                Ok(name) => format!("{what} was killed by {name}"),
                Err(_) => format!("{what} was killed by signal {signal}"),
            },
            Tried::TimedOut(ms) => format!("no answer within {ms} ms"),
        }
    }
}

impl From<sys::Error> for Tried {
    fn from(e: sys::Error) -> Tried {
        Tried::Failed { step: step_of(&e), errno: e.name() }
    }
}

impl From<sys::Result<String>> for Tried {
    fn from(r: sys::Result<String>) -> Tried {
        match r {
            Ok(seen) => Tried::Worked(seen),
            Err(e) => e.into(),
        }
    }
}

/// The step of an error, as the jail's pid 1 reports it.
pub fn step_of(e: &sys::Error) -> String {
    if e.arg.is_empty() { e.call.to_owned() } else { format!("{} `{}`", e.call, e.arg) }
}

/// A container that this process seems to run in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Container {
    /// `/.dockerenv` is there.
    Docker,
    /// `/run/.containerenv` is there.
    Podman,
    /// A service account of Kubernetes is mounted.
    Kubernetes,
    /// `/run/systemd/container` holds this word, or `container` is in the environment of pid 1.
    Other(String),
}

/// How resource limits of groups of processes could be set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cgroup {
    /// Controllers of v1 hierarchies that this process is in.
    pub v1: Vec<String>,
    /// Where v2 is mounted.
    pub v2: Option<PathBuf>,
    /// This process's own v2 group.
    pub own: Option<PathBuf>,
    /// Controllers offered by its own v2 group.
    pub controllers: Vec<String>,
    /// Whether its own v2 group may be written by this user.
    pub writable: bool,
}

/// What can be read about this machine in well under a millisecond.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Machine {
    /// Release of the kernel, as uname says.
    pub kernel: String,
    /// Effective uid.
    pub uid: u32,
    /// Whether this is the first user namespace: every id is mapped to itself.
    pub initial_userns: bool,
    /// Whether the range of host ids that root's jails are mapped to exists here.
    pub has_range: bool,
    /// `user.max_user_namespaces`.
    pub max_user_namespaces: Option<u64>,
    /// Other kinds of namespaces of which none may be made: `user.max_KIND_namespaces` is 0.
    pub forbidden_kinds: Vec<String>,
    /// `kernel.unprivileged_userns_clone` (Debian's and Arch's kernels).
    pub unprivileged_userns_clone: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns` (Ubuntu's kernels).
    pub apparmor_userns: Option<u64>,
    /// Security label of this process.
    pub label: Option<String>,
    /// Active security modules, from `/sys/kernel/security/lsm`.
    pub lsm: Option<String>,
    /// Seccomp mode that this process was started in: 2 when a filter is in force.
    pub seccomp: u8,
    /// Whether `no_new_privs` was set before us.
    pub no_new_privs: bool,
    /// `kernel.seccomp.actions_avail`.
    pub seccomp_actions: Vec<String>,
    /// Container hints.
    pub container: Option<Container>,
    /// Paths below `/proc` with other mounts over them, which keep a fresh proc from being mounted.
    pub proc_masks: Vec<String>,
    /// Whether `/` is no mount of this namespace: a chroot.
    pub chroot: bool,
    /// Whether `/` is the kernel's first file system, which cannot be pivoted away from.
    pub initramfs: bool,
    /// `kernel.yama.ptrace_scope`.
    pub yama: Option<u64>,
    /// Control groups.
    pub cgroup: Cgroup,
    /// Where this program is installed, links resolved.
    pub exe: Option<PathBuf>,
    /// The soft limit of the stack in bytes (`ulimit -s`).
    pub stack: Option<u64>,
    /// Root without capabilities that it needs for jails.
    #[serde(default)]
    pub weak_root: bool,
}

impl Machine {
    /// Major and minor version of the kernel; 0.0 when it does not say.
    pub fn version(&self) -> (u32, u32) {
        let mut numbers = self.kernel.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }

    /// Whether an AppArmor profile is enforced on this process.
    pub fn is_labelled(&self) -> bool {
        self.label.as_deref().is_some_and(|l| l.ends_with("(enforce)"))
    }

    /// The name of that profile.
    pub fn profile(&self) -> Option<&str> {
        self.label.as_deref()?.strip_suffix(" (enforce)")
    }

    /// Whether somebody else's rules hold for this process: a container or a sandbox.
    pub fn is_confined(&self) -> bool {
        self.container.is_some() || self.seccomp == 2 || !self.initial_userns
    }
}

/// The state directory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    /// Its path, printable.
    pub path: Option<String>,
    /// Type of its file system.
    pub fs: Option<String>,
    /// Bytes free for this user.
    pub free: u64,
    /// Files that can still be made; `None` when the file system has no such limit.
    pub files: Option<u64>,
    /// Its file system knows no attributes, which an upper layer needs.
    #[serde(default)]
    pub bare: bool,
    /// What `--disk` would be.
    #[serde(default)]
    pub disk_by: Option<String>,
    /// What is not as it should be, though a run copes with it.
    pub note: Option<String>,
    /// Why it cannot be used.
    pub trouble: Option<String>,
    /// What to do about that.
    pub fix: Vec<String>,
}

/// Landlock.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Landlock {
    /// ABI; 0 when there is none.
    pub abi: i32,
    /// Errno that asking for the ABI ended with, by name.
    pub errno: Option<String>,
    /// Bugs fixed (bit set), when the kernel tells.
    pub errata: Option<i32>,
}

/// Everything that `aj doctor` knows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Facts {
    /// What was read.
    pub machine: Machine,
    /// What was tried, by the id of its check.
    pub tried: BTreeMap<String, Tried>,
    /// Landlock.
    pub landlock: Landlock,
    /// The state directory.
    pub state: State,
    /// The current directory, printable.
    pub workspace: Option<String>,
    /// Type of its file system.
    pub workspace_fs: Option<String>,
}
