//! The launcher's part of a start: everything that can fail on the host side, then the clone.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use nix::errno::Errno;

use super::confine::Stdio;
use super::handover::{self, Word};
use super::init::{self, Hand};
use super::plan::{HostRoot, Mapped, Plan, USR_NAMES};
use super::spec::{AGENT, Birth, Ids, Owner, RANGE_BASE, RANGE_COUNT, Spec, inside_id};
use super::wire::{self, Message, Received};
use super::{lite, overlay};
use crate::policy::settings::Net;
use crate::sys::clone::{Cloned, Namespaces, clone3};
use crate::sys::ns::{IdMap, Mapping};
use crate::sys::{Error, Result, caps, cpu, fd, mount, ns, openat2, pidfd, signal, terminal, title};

/// Descriptors that a start takes without any mount.
const FEW: u64 = 64;

/// Where the command's standard input comes from.
#[derive(Debug)]
pub enum Stdin {
    /// The jail's own `/dev/null`.
    Null,
    /// A pipe that the supervisor fills.
    Relay,
}

/// What the command's standard streams are.
#[derive(Debug)]
pub enum Streams {
    /// Pipes of the jail's own.
    Pipes {
        /// Where stdin comes from.
        stdin: Stdin,
        /// Another pipe for stderr.
        separate_stderr: bool,
    },
    /// A terminal of the jail's own with these settings, for all three.
    Terminal(terminal::Settings),
    /// None: commands join over this socket, which listens.
    Serve(OwnedFd),
}

/// A jail that has been cloned; whether its command ever ran is known from the status socket.
#[derive(Debug)]
pub struct Running {
    /// Pid of the jail's pid 1, as the host numbers it.
    pub pid: i32,
    /// The same by descriptor.
    pub pidfd: OwnedFd,
    /// Our end of the status socket.
    pub status: OwnedFd,
    /// Read end of the command's stdout (of stderr too when that is `None`). With a terminal there is
    /// none: its master's side comes over the status socket.
    pub stdout: Option<OwnedFd>,
    /// Read end of the command's stderr.
    pub stderr: Option<OwnedFd>,
    /// Write end of the command's stdin, with [`Stdin::Relay`].
    pub stdin: Option<OwnedFd>,
    /// When it was cloned.
    pub started: Instant,
    /// What pid 1 said before it was supervised.
    pub(super) said: Option<Message>,
    /// It is no jail but a command that has joined one: `pid` is that of the process that minds it.
    pub(super) joined: Option<Joined>,
}

/// What a command that has joined a jail has beside its streams.
#[derive(Debug)]
pub(super) struct Joined {
    /// Its connection to the jail's pid 1, which ends all of the command when this is shut down.
    pub(super) conn: OwnedFd,
    /// Pid of the process that minds it, as the jail numbers it.
    pub(super) inner: i32,
}

/// A jail whose pid 1 makes its namespaces, and waits for its plan.
/// Dropped instead, it ends by itself.
#[derive(Debug)]
pub struct Born {
    running: Running,
    go: File,
    ids: Ids,
    /// It makes a network namespace of its own.
    own_net: bool,
}

impl Born {
    /// Give it its plan. It prepares itself while the caller makes its tree; then [`Held::release`] lets
    /// it go on.
    pub fn instruct(self, spec: &Spec, plan: &mut Plan) -> Result<Held> {
        match self.hand_over(spec, plan) {
            Ok((mapped, mappings, without)) => {
                let inside = matches!(self.ids, Ids::Range).then(|| spec.inside_id());
                Ok(Held {
                    running: self.running,
                    go: self.go,
                    mapped,
                    mappings,
                    inside,
                    own_net: self.own_net,
                    without,
                })
            }
            Err(e) => {
                self.abandon()?;
                Err(e)
            }
        }
    }

    fn hand_over(&self, spec: &Spec, plan: &mut Plan) -> Result<(Vec<OwnedFd>, Vec<Mapping>, u64)> {
        fd::room_for(plan.descriptors())?;
        let mut mapped = Vec::with_capacity(plan.mapped.len());
        // One for each owner: that of the workspace, and that of the caller's tools when it is another.
        let mut mappings: Vec<(Owner, Mapping)> = Vec::new();
        let mut unmapped = Vec::new();
        for (index, m) in plan.mapped.iter().enumerate() {
            let known = mappings.iter().position(|(owner, _)| *owner == m.owner);
            let at = match known {
                Some(at) => at,
                None => {
                    mappings.push((m.owner, mapping_for(m.owner, RANGE_BASE + spec.inside_id())?));
                    mappings.len() - 1
                }
            };
            if let Some((_, mapping)) = mappings.get(at) {
                mapped.push(match mapped_clone(m, mapping)? {
                    Some(clone) => clone,
                    // Its place in the list is kept by a descriptor that nothing is made of.
                    None => {
                        unmapped.push(index);
                        fd::write_null()?
                    }
                });
            }
        }
        let without = plan.leave_out(&unmapped);
        handover::send(&self.go, &self.running.status, plan, &mapped)?;
        Ok((mapped, mappings.into_iter().map(|(_, mapping)| mapping).collect(), without))
    }

    /// Pid of the jail's pid 1, as the host numbers it.
    pub fn pid(&self) -> i32 {
        self.running.pid
    }

    /// End it without a trace; waits until it is gone.
    pub fn abandon(self) -> Result<()> {
        end(&self.running)
    }
}

/// A jail that waits for [`Held::release`] before it touches its overlay.
/// Dropped instead, it ends by itself.
#[derive(Debug)]
pub struct Held {
    running: Running,
    go: File,
    mapped: Vec<OwnedFd>,
    mappings: Vec<Mapping>,
    /// As root: the id of the jail's user.
    inside: Option<u32>,
    own_net: bool,
    /// Caches that are left out.
    without: u64,
}

impl Held {
    /// Numbers of the caches that cannot be shown, a bit each.
    pub fn without_caches(&self) -> u64 {
        self.without
    }

    /// Pid of the jail's pid 1, as the host numbers it.
    pub fn pid(&self) -> i32 {
        self.running.pid
    }

    /// The upper layers that the jail holds in its memory, in the order of [`Plan::uppers`], for whoever has
    /// something to put there before [`Held::release`]. Empty when pid 1 has failed: then it says why once it
    /// is supervised.
    pub fn uppers(&mut self, plan: &Plan) -> Result<Vec<OwnedFd>> {
        if plan.uppers.is_empty() {
            return Ok(Vec::new());
        }
        match wire::receive(&self.running.status, true)? {
            Received::Message(Message::Uppers, _) => {
                Ok(wire::receive_descriptors(&self.running.status, plan.uppers.len())?.unwrap_or_default())
            }
            Received::Message(other, _) => {
                self.running.said = Some(other);
                Ok(Vec::new())
            }
            Received::Nothing | Received::Closed => Ok(Vec::new()),
        }
    }

    /// Let it go on, with the plan that it has: the tree exists. `lend`: make its overlays for it.
    pub fn release(mut self, plan: &Plan, lend: bool) -> Result<Released> {
        // Pid 1 expects none when it has upper layers in memory.
        if !lend || !plan.uppers.is_empty() || !overlay::any_to_lend(plan) {
            handover::release(&self.go, Word::Go)?;
        } else {
            handover::release(&self.go, Word::Lending)?;
            overlay::make_for(&mut self.running, plan, &self.mapped, (self.inside, self.own_net))?;
        }
        Ok(Released { running: self.running, mappings: self.mappings })
    }

    /// End it without a trace; waits until it is gone.
    pub fn abandon(self) -> Result<()> {
        end(&self.running)?;
        self.mappings.into_iter().try_for_each(Mapping::finish)
    }
}

/// A jail that sets itself up, and waits for [`Released::start`] before its command runs.
/// Dropped instead, it ends by itself.
#[derive(Debug)]
pub struct Released {
    running: Running,
    mappings: Vec<Mapping>,
}

impl Released {
    /// Let the command run, in the groups that `doors` lead into: the start is recorded.
    pub fn start(self, doors: &[OwnedFd]) -> Result<Running> {
        wire::send_start(&self.running.status, doors)?;
        self.mappings.into_iter().try_for_each(Mapping::finish)?;
        Ok(self.running)
    }

    /// End it before the command ran; waits until it is gone.
    pub fn abandon(self) -> Result<()> {
        end(&self.running)?;
        self.mappings.into_iter().try_for_each(Mapping::finish)
    }
}

fn end(jail: &Running) -> Result<()> {
    pidfd::signal(jail.pidfd.as_fd(), nix::libc::SIGKILL)?;
    pidfd::reap(jail.pidfd.as_fd())
}

/// How this host lays out what belongs with `/usr`.
pub fn host_root(net: Net) -> HostRoot {
    let resolv_conf = net == Net::Host && Path::new("/etc/resolv.conf").exists();
    let mut root = HostRoot { resolv_conf, ..HostRoot::default() };
    for name in USR_NAMES {
        let path = Path::new("/").join(name);
        match std::fs::read_link(&path) {
            Ok(target) => root.links.push((name, target)),
            Err(_) if path.is_dir() => root.dirs.push(name),
            Err(_) => {}
        }
    }
    root
}

/// Clone pid 1, into `group` where there is one. It makes its namespaces while the caller finds out what
/// the jail is to look like. The process must be single-threaded.
pub fn bear(birth: &Birth, streams: Streams, group: Option<BorrowedFd<'_>>) -> Result<Born> {
    signal::default_sigchld();
    fd::room_for(FEW)?;
    let (status, status_inside) = wire::pair()?;
    let (go, go_write) = fd::pipe()?;
    let (stdio, Outside { stdout, stderr, stdin }) = stdio(birth, streams)?;
    if birth.lite {
        caps::adopt_orphans()?;
    }
    let space = if birth.lite { Namespaces::NONE } else { Namespaces::WITHOUT_NET };
    let processors = cpu::mine();
    let started = Instant::now();
    match clone3(space, group)? {
        Cloned::Child => {
            drop((status, go_write, stdout, stderr, stdin));
            // Whoever is in the jail may read it, and it is a copy of the caller's: names of the host, and values of
            // variables. The holder of a workspace has given itself a title before.
            if !matches!(stdio, Stdio::Serve(_)) {
                title::set("aj-init", "aj: init");
            }
            let hand = Hand { status: status_inside, go: go.into(), stdio, processors };
            if birth.lite { lite::run(hand) } else { init::run(birth, hand) }
        }
        Cloned::Parent(pid, pidfd) => {
            if let Some(processors) = processors {
                processors.elsewhere(pid);
            }
            drop(stdio);
            let running =
                Running { pid, pidfd, status, stdout, stderr, stdin, started, said: None, joined: None };
            let mut born =
                Born { running, go: go_write.into(), ids: birth.ids, own_net: birth.net == Net::None };
            // Here and not in pid 1, which may not even have begun to run on its processor.
            let mapped = match birth.ids {
                _ if birth.lite => Ok(()),
                Ids::Range => {
                    let line = IdMap { inside: 0, outside: RANGE_BASE, count: RANGE_COUNT };
                    ns::map_child(pid, &[line], &[line])
                }
                Ids::Caller { owner } => {
                    let inside = inside_id(birth.as_root);
                    let line = |outside| IdMap { inside, outside, count: 1 };
                    ns::map_child_to_self(pid, line(owner.uid), line(owner.gid))
                }
            };
            if let Err(e) = mapped {
                // It has failed already, and its own word for why is the better one.
                if let Received::Message(word, _) = wire::receive(&born.running.status, false)? {
                    born.running.said = Some(word);
                    return Ok(born);
                }
                born.abandon()?;
                return Err(e);
            }
            Ok(born)
        }
    }
}

/// The launcher's ends of the command's pipes.
#[derive(Debug, Default)]
pub(super) struct Outside {
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    pub(super) stdin: Option<OwnedFd>,
}

pub(super) fn stdio(birth: &Birth, streams: Streams) -> Result<(Stdio, Outside)> {
    let (stdin, separate_stderr) = match streams {
        Streams::Terminal(settings) => return Ok((Stdio::Terminal(settings), Outside::default())),
        Streams::Serve(listener) => return Ok((Stdio::Serve(listener), Outside::default())),
        Streams::Pipes { stdin, separate_stderr } => (stdin, separate_stderr),
    };
    let (stdout, stdout_inside) = fd::pipe()?;
    let (stderr, stderr_inside) = if separate_stderr {
        let (r, w) = fd::pipe()?;
        (Some(r), Some(w))
    } else {
        (None, None)
    };
    let (stdin_inside, stdin) = match stdin {
        Stdin::Null => (None, None),
        Stdin::Relay => {
            let (r, w) = fd::pipe()?;
            (Some(r), Some(w))
        }
    };
    if birth.ids == Ids::Range {
        // So that `/dev/stdout` and `/dev/stdin` can be opened again inside: a pipe belongs to
        // whoever made it, and host uid 0 is nobody there.
        let inside = RANGE_BASE + inside_id(birth.as_root);
        let pipes = [Some(&stdout_inside), stderr_inside.as_ref(), stdin_inside.as_ref()];
        for pipe in pipes.into_iter().flatten() {
            nix::unistd::fchown(pipe, Some(inside.into()), Some(inside.into()))
                .map_err(|e| Error::new("fchown", "pipe", e))?;
        }
    }
    let stdio = Stdio::Pipes { stdin: stdin_inside, stdout: stdout_inside, stderr: stderr_inside };
    Ok((stdio, Outside { stdout: Some(stdout), stderr, stdin }))
}

/// The mapping of an id-mapped mount: the tree's owner becomes the jail's user; every other owner
/// keeps an id of its own that the jail does not have, so that it can be seen but never taken.
fn mapping_for(owner: Owner, inside: u32) -> Result<Mapping> {
    const OTHERS: u32 = 1_100_000;
    const LIMIT: u32 = 1_000_000_000;
    let lines = |id: u32| {
        let mut lines = vec![IdMap { inside: id, outside: inside, count: 1 }];
        if id > 0 {
            lines.push(IdMap { inside: 0, outside: OTHERS, count: id });
        }
        if id < LIMIT {
            lines.push(IdMap { inside: id + 1, outside: OTHERS + id + 1, count: LIMIT - id });
        }
        lines
    };
    Mapping::new(&lines(owner.uid), &lines(owner.gid))
}

/// `None`: the file system knows no mapping, and the jail can do without.
fn mapped_clone(m: &Mapped, mapping: &Mapping) -> Result<Option<OwnedFd>> {
    let name = || crate::base::text::c(&m.source);
    // Resolved before: a link in it now is somebody's trick (see `init::bind`).
    let exact = openat2::resolved(m.source.to_bytes()).map_err(|e| e.on(name()))?;
    let tree = mount::clone_tree(Some(exact.as_fd()), c"", false).map_err(|e| e.on(name()))?;
    match mount::set_idmap(&tree, m.attr, mapping.userns(), false) {
        Ok(()) => {}
        // A network file system, or the overlay of a container.
        Err(Error { errno: Errno::EINVAL | Errno::EPERM | Errno::EOPNOTSUPP, .. }) if m.lenient => {
            mount::set_attr(&tree, m.attr, false).map_err(|e| e.on(name()))?;
        }
        Err(Error { errno: Errno::EINVAL | Errno::EPERM | Errno::EOPNOTSUPP, .. }) if m.optional => {
            return Ok(None);
        }
        Err(e) => return Err(Error { call: "mount_setattr(idmap)", ..e.on(name()) }),
    }
    Ok(Some(tree))
}

const _: () = assert!(AGENT < RANGE_COUNT);
