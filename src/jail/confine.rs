//! The last part of pid 1's preparation: limits, standard descriptors, and every privilege given up
//! and checked to be gone.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::spec::{Spec, Without};
use super::status::{Layer, Layers, Required};
use super::wire::{self, Message};
use crate::base::text;
use crate::policy::settings::Seccomp;
use crate::sys::mount;
use crate::sys::seccomp;
use crate::sys::{Error, Result, caps, fd, landlock, signal, terminal};

/// What is given up before the command starts, and the limits that it gets.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// Host name inside.
    pub hostname: String,
    /// The command's umask.
    pub umask: u32,
    /// Processes and threads at most.
    pub pids: Option<u64>,
    /// Open files per process at most.
    pub nofile: Option<u64>,
    /// The system call filter.
    pub seccomp: Seccomp,
    /// Allow user namespaces inside.
    pub nested_userns: bool,
    /// Inotify instances and watches at most: half of what a user of the host may have.
    pub inotify: Option<(u64, u64)>,
    /// Refuse setuid and setgid bits: what is written lands on the host.
    pub no_setuid: bool,
    /// Kernel's Landlock ABI.
    pub landlock_abi: i32,
    /// There is no namespace around the command.
    pub lite: bool,
    /// The command has joined a jail: not all that it starts ends with whoever minds it.
    pub joined: bool,
    /// No socket that leads to the network.
    pub no_sockets: bool,
    /// Layers without which the command does not run.
    pub required: Required,
    /// See [`Spec::without`].
    pub without: Without,
}

impl Confinement {
    /// As `spec` asks for it.
    pub fn of(spec: &Spec) -> Confinement {
        Confinement {
            hostname: spec.hostname.clone(),
            umask: spec.umask,
            pids: spec.pids,
            nofile: spec.nofile,
            seccomp: spec.seccomp,
            nested_userns: spec.nested_userns,
            inotify: spec.inotify,
            no_setuid: spec.writes_to_host(),
            landlock_abi: spec.landlock_abi,
            lite: false,
            joined: false,
            no_sockets: false,
            required: spec.required,
            without: spec.without.clone(),
        }
    }
}

impl Confinement {
    /// Whether further user namespaces are to be impossible.
    pub(super) fn forbids_nested(&self) -> bool {
        !self.nested_userns && self.without.keeps("no_nested_userns")
    }
}

/// The standard descriptors of the command.
#[derive(Debug)]
pub(super) enum Stdio {
    /// Pipes.
    Pipes {
        /// `None`: the jail's own `/dev/null`.
        stdin: Option<OwnedFd>,
        stdout: OwnedFd,
        /// `None`: the same as stdout.
        stderr: Option<OwnedFd>,
    },
    /// A new terminal with these settings.
    Terminal(terminal::Settings),
    /// None: commands come later, over this socket, and bring their own.
    Serve(OwnedFd),
}

/// What the socket of [`Stdio::Serve`] is numbered once privileges are given up.
pub(super) const LISTENER: i32 = 4;

/// Give up everything, then check that it is gone. Returns the status socket under its new number.
pub(super) fn confine(
    plan: &Plan,
    status: OwnedFd,
    stdio: Stdio,
    layers: &mut Layers,
) -> std::result::Result<OwnedFd, (OwnedFd, Error)> {
    if let Err(e) = limits(&plan.confinement) {
        return Err((status, e));
    }
    let status = dress(status, stdio, plan.confinement.umask)?;
    match privileges(plan, layers) {
        Ok(()) => Ok(status),
        Err(e) => Err((status, e)),
    }
}

/// The same for a command that joins: a process made by a pid 1 that has given up everything has nothing to
/// give up. It is looked at as if it had.
pub(super) fn confine_joined(
    plan: &Plan,
    status: OwnedFd,
    stdio: Stdio,
    layers: Layers,
) -> std::result::Result<OwnedFd, (OwnedFd, Error)> {
    if let Err(e) = open_files(plan.confinement.nofile) {
        return Err((status, e));
    }
    let status = dress(status, stdio, plan.confinement.umask)?;
    match verify(plan, layers) {
        Ok(()) => Ok(status),
        Err(e) => Err((status, e)),
    }
}

/// The same for a child that executes nothing.
pub(super) fn confine_hand(plan: &Plan, layers: Layers) -> Result<()> {
    verify(plan, layers)
}

/// The command's standard descriptors, and no others but the status socket, which comes back under its new
/// number.
fn dress(status: OwnedFd, stdio: Stdio, umask: u32) -> std::result::Result<OwnedFd, (OwnedFd, Error)> {
    let done = (|| -> Result<()> {
        let mut kept = None;
        match stdio {
            Stdio::Pipes { stdin, stdout, stderr } => install_pipes(stdin, &stdout, stderr.as_ref())?,
            Stdio::Terminal(settings) => install_terminal(&settings, &status)?,
            Stdio::Serve(listener) => {
                let null = openat(AT_FDCWD, "/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
                    .map_err(|e| Error::new("open", "/dev/null", e))?;
                // Out of the way of the numbers that are given out here.
                kept = Some(fd::dup_above(listener.as_fd(), LISTENER + 1)?);
                (0..=2).try_for_each(|number| fd::install_at(null.as_fd(), number, false))?;
            }
        }
        signal::default_for_command();
        nix::sys::stat::umask(Mode::from_bits_truncate(umask));
        fd::install_at(status.as_fd(), 3, true)?;
        let Some(listener) = kept else { return fd::close_from(4) };
        fd::install_at(listener.as_fd(), LISTENER, true)?;
        // Closed with everything else.
        std::mem::forget(listener);
        fd::close_from(LISTENER + 1)
    })();
    if let Err(e) = done {
        return Err((status, e));
    }
    // What `status` was numbered is closed now (or is 3 itself).
    std::mem::forget(status);
    Ok(fd::received(3))
}

fn limits(limits: &Confinement) -> Result<()> {
    let set = |what: Resource, soft, hard| {
        setrlimit(what, soft, hard).map_err(|e| Error::new("setrlimit", format!("{what:?}"), e))
    };
    set(Resource::RLIMIT_CORE, 0, 0)?;
    // Counted for the caller as well, at every level of user namespaces: half is left to the host.
    for what in [Resource::RLIMIT_SIGPENDING, Resource::RLIMIT_MSGQUEUE] {
        let (soft, hard) = getrlimit(what).map_err(|e| Error::new("getrlimit", format!("{what:?}"), e))?;
        let half = |n: u64| if n == RLIM_INFINITY { n } else { n / 2 };
        set(what, half(soft), half(hard))?;
    }
    open_files(limits.nofile)?;
    // Without a user namespace all processes of the user's count.
    if let Some(n) = limits.pids.filter(|_| !limits.lite) {
        // Counted per user and user namespace since Linux 5.14, so this one counts the jail's
        // processes and threads alone. One more for ourselves.
        let n = n.saturating_add(1);
        // Those of the caller count them, too: a quarter of his own limit is left to him.
        let (soft, hard) =
            getrlimit(Resource::RLIMIT_NPROC).map_err(|e| Error::new("getrlimit", "RLIMIT_NPROC", e))?;
        let n = n.min(hard).min(if soft == RLIM_INFINITY { soft } else { soft - soft / 4 });
        set(Resource::RLIMIT_NPROC, n, n)?;
    }
    Ok(())
}

fn open_files(most: Option<u64>) -> Result<()> {
    let Some(n) = most else { return Ok(()) };
    let fail = |call| move |e| Error::new(call, "RLIMIT_NOFILE", e);
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(fail("getrlimit"))?;
    let hard = hard.min(n);
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(4096).min(hard), hard).map_err(fail("setrlimit"))
}

fn install_pipes(stdin: Option<OwnedFd>, stdout: &OwnedFd, stderr: Option<&OwnedFd>) -> Result<()> {
    let stdin = match stdin {
        Some(fd) => fd,
        None => openat(AT_FDCWD, "/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|e| Error::new("open", "/dev/null", e))?,
    };
    fd::install_at(stdin.as_fd(), 0, false)?;
    fd::install_at(stdout.as_fd(), 1, false)?;
    fd::install_at(stderr.unwrap_or(stdout).as_fd(), 2, false)
}

/// A terminal of the jail's own devpts, which is that of our session; its master's side goes to the
/// launcher and stays with nobody here.
fn install_terminal(settings: &terminal::Settings, status: &OwnedFd) -> Result<()> {
    let (master, slave) = terminal::pair("/dev/ptmx", settings)?;
    terminal::make_controlling(slave.as_fd())?;
    (0..=2).try_for_each(|number| fd::install_at(slave.as_fd(), number, false))?;
    wire::send(status, &Message::Terminal, Some(master.as_raw_fd()))
}

fn privileges(plan: &Plan, layers: &mut Layers) -> Result<()> {
    let what = &plan.confinement;
    caps::not_dumpable()?;
    layers.add(Layer::NotDumpable);
    // Whoever has no capabilities may not empty the bounding set either; there is nothing to be had from it.
    if what.without.keeps("caps") && !what.lite {
        caps::drop_all()?;
        layers.add(Layer::Caps);
    }
    if what.without.keeps("no_new_privs") {
        caps::no_new_privs()?;
        layers.add(Layer::NoNewPrivs);
    }
    if what.landlock_abi >= landlock::OLDEST && what.without.keeps("landlock") {
        // Whoever is restricted in files may not mount, so nested jails get the scopes alone.
        let rules = (!what.nested_userns).then_some(&plan.rules[..]);
        landlock::restrict_all(rules, what.landlock_abi, what.no_sockets)?;
        if rules.is_some() {
            layers.add(Layer::Landlock);
        }
        if what.landlock_abi >= landlock::SCOPES {
            layers.add(Layer::Scopes);
        }
    }
    if what.lite {
        seccomp::install(&seccomp::alone(what.no_sockets))?;
    }
    if what.no_setuid && what.without.keeps("no_setuid") {
        seccomp::install(&seccomp::no_setuid())?;
    }
    if what.without.keeps("seccomp") {
        seccomp::install(&seccomp::program(&seccomp::Options {
            level: match what.seccomp {
                Seccomp::Standard => seccomp::Level::Standard,
                Seccomp::Strict => seccomp::Level::Strict,
                Seccomp::Log => seccomp::Level::Log,
            },
            nested_userns: what.nested_userns,
        }))?;
        layers.add(Layer::Seccomp);
    }
    verify(plan, *layers)
}

/// The step that fails when a layer is asked for and not in force.
pub const REQUIRE: &str = "require";

/// What was applied must also be so: a call that reports success and does nothing is caught here.
fn verify(plan: &Plan, layers: Layers) -> Result<()> {
    let not = |what: &'static str, detail: String| {
        Err(Error::new("verify", format!("{what}{detail}"), Errno::EPERM))
    };
    if plan.confinement.lite && !(layers.has(Layer::Landlock) && layers.has(Layer::Seccomp)) {
        return not("neither namespaces nor Landlock", String::new());
    }
    if layers.has(Layer::Caps) || plan.confinement.lite {
        let left = caps::left();
        if !left.is_empty() {
            return not("capabilities left: ", left.join(", "));
        }
    }
    if layers.has(Layer::NoNewPrivs) && !caps::has_no_new_privs() {
        return not("no_new_privs is not set", String::new());
    }
    if layers.has(Layer::Seccomp) && caps::seccomp_mode()? != 2 {
        return not("seccomp is not in filter mode", String::new());
    }
    let missing = plan.confinement.required.missing(layers, plan.confinement.landlock_abi);
    if !missing.is_empty() {
        return Err(Error::new(REQUIRE, missing.join(", "), Errno::ENOTSUP));
    }
    for path in &plan.read_only {
        if !mount::is_read_only(path)? {
            return not("not read-only: ", text::c(path));
        }
    }
    Ok(())
}
