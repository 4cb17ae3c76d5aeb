//! Pid 1 of the jail: applies the plan, gives up every privilege, starts the command, reaps.
//!
//! Runs on a copy of the single-threaded launcher's memory. It decides nothing: the first failure
//! is sent to the launcher and ends it.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, mkdirat, mknodat};

use super::confine::{Stdio, confine};
use super::cover::{cover, place, place_of, veil};
use super::cwd;
use super::handover::{self, Word};
use super::mask::{mask, texts};
use super::nested;
use super::overlay::{self, Overlays};
use super::plan::{Mount, Otherwise, Plan, What};
use super::serve;
use super::spec::{Birth, Ids, inside_id};
use super::status::{Layer, Layers};
use super::wire::{self, Message};
use crate::base::text;
use crate::policy::settings::Net;
use crate::store::fault;
use crate::sys::clone::{self, CStrings};
use crate::sys::cpu::Processors;
use crate::sys::mount::{self, Attr, NewFs};
use crate::sys::ns;
use crate::sys::openat2::resolved as resolved_path;
use crate::sys::pidfd::{self, Change};
use crate::sys::terminal::take_foreground;
use crate::sys::{Error, Result, caps, cgroup, fd, net, signal};

/// What pid 1 is born with.
#[derive(Debug)]
pub(super) struct Hand {
    /// Our end of the status socket.
    pub(super) status: OwnedFd,
    /// Where the plan comes from (see [`handover`]).
    pub(super) go: File,
    /// The command's.
    pub(super) stdio: Stdio,
    /// Those that the command may run on; ours are fewer at first.
    pub(super) processors: Option<Processors>,
}

/// Run as pid 1. Never returns.
pub(super) fn run(birth: &Birth, hand: Hand) -> ! {
    fault::enter(fault::Role::Init);
    let Hand { status, go, stdio, processors } = hand;
    let mut layers = Layers::default();
    let terminal = matches!(stdio, Stdio::Terminal(_));
    let plan = match leave(terminal).and_then(|()| set_up(birth, (&go, &status), processors, &mut layers)) {
        Ok(plan) => plan,
        Err(e) => fail(&status, &e, false),
    };
    fault::point();
    let status = match confine(&plan, status, stdio, &mut layers) {
        Ok(status) => status,
        Err((status, e)) => fail(&status, &e, false),
    };
    if plan.serve.is_some() {
        serve::run(plan, status, layers)
    } else {
        command(&plan, &status, layers, terminal)
    }
}

pub(super) fn fail(status: &OwnedFd, e: &Error, exec: bool) -> ! {
    let step = if e.arg.is_empty() { e.call.to_owned() } else { format!("{} `{}`", e.call, e.arg) };
    // When even this cannot be sent the launcher sees the socket close and says so.
    drop(wire::send(status, &Message::Failed { step, errno: e.errno as i32, exec }, None));
    clone::exit_now(125)
}

/// Out of the launcher's process group: Ctrl-C would reach the command twice, once from here and once
/// passed on by the launcher. With a `terminal` out of its session, too: we lead that of the command, so
/// that its process group has a parent to be continued by, and may be stopped (Ctrl-Z).
pub(super) fn leave(terminal: bool) -> Result<()> {
    if terminal {
        return nix::unistd::setsid().map(drop).map_err(|e| Error::new("setsid", "", e));
    }
    nix::unistd::setpgid(nix::unistd::Pid::from_raw(0), nix::unistd::Pid::from_raw(0))
        .map_err(|e| Error::new("setpgid", "", e))
}

/// Namespaces, ids and the file system view.
fn set_up(
    birth: &Birth,
    (go, status): (&File, &OwnedFd),
    processors: Option<Processors>,
    layers: &mut Layers,
) -> Result<Plan> {
    for layer in [Layer::UserNs, Layer::MountNs, Layer::PidNs, Layer::IpcNs, Layer::UtsNs, Layer::CgroupNs] {
        layers.add(layer);
    }
    // First, because it takes longest: meanwhile the launcher checks and plans. It needs no mapped id.
    if birth.net == Net::None {
        net::unshare()?;
        layers.add(Layer::NetNs);
    }
    fault::point();
    // Our ids are mapped, too, once it is here.
    let Some((plan, mapped)) = handover::receive(go, status)? else { clone::exit_now(125) };
    if let Some(processors) = processors {
        // Not before: the launcher may have been slower to keep us off its processor.
        processors.restore();
    }
    fd::room_for(plan.descriptors())?;
    if plan.confinement.without.keeps("keyring") && caps::fresh_session_keyring()? {
        layers.add(Layer::Keyring);
    }
    // Host paths are opened first: as root they may lie behind directories that only host uid 0
    // may enter, and that identity ends below.
    let binds = open_binds(&plan)?;
    let ready = plan.root.as_deref().map(ready_root).transpose()?;
    let anchor = anchor(&plan)?;
    let (mut overlays, mut kept) = (None, Vec::new());
    if birth.ids == Ids::Range {
        // Before our ids change: they may not enter the state directory.
        let lending = plan.uppers.is_empty() && wait_for_launcher(go);
        overlays = Some((lending, overlay::open(&plan)?));
        kept = open_kept(&plan)?;
        let inside = inside_id(birth.as_root);
        caps::become_ids(inside, inside)?;
    }
    caps::die_with_parent()?;
    if birth.ids == Ids::Range && wire::is_closed(status) {
        // The launcher died between its word and that call: nobody will tell us.
        clone::exit_now(125);
    }
    fault::point();
    let (store, root) = tmpfs(&plan, &anchor, ready)?;
    if !plan.uppers.is_empty() {
        show_uppers(&plan, &store, status)?;
        wait_for_launcher(go);
        overlays.get_or_insert_with(|| (false, Vec::new()));
    }
    // As late as can be: meanwhile the launcher makes the tree and writes the ledger.
    let (lending, parts) = overlays.unwrap_or_else(|| (wait_for_launcher(go), Vec::new()));
    if birth.ids != Ids::Range {
        kept = open_kept(&plan)?;
    }
    let overlays = Overlays::new(&plan, lending, status, parts);
    let shown = files(&plan, &mapped, (&store, &root), (&binds, &kept), overlays)?;
    if shown.veils.0 > 0 && shown.veils.0 == shown.veils.1 {
        layers.add(Layer::ReadOnlyOverlay);
    }
    layers.without_caches(shown.without);
    if shown.pivoted {
        layers.add(Layer::Pivot);
    }
    if birth.net == Net::None && !(lending && wire::is_loopback_up(status)) {
        net::loopback_up()?;
    }
    let hostname = &*plan.confinement.hostname;
    nix::unistd::sethostname(hostname).map_err(|e| Error::new("sethostname", hostname, e))?;
    if let Some(forbidden) = shown.outer_proc {
        if forbidden {
            layers.add(Layer::NoNestedUserNs);
        }
        return Ok(plan);
    }
    layers.add(Layer::Proc);
    if plan.confinement.forbids_nested() {
        ns::forbid_nested()?;
        layers.add(Layer::NoNestedUserNs);
    }
    if let Some((instances, watches)) = plan.confinement.inotify {
        ns::limit_inotify(instances, watches)?;
    }
    Ok(plan)
}

/// The launcher says when its side is ready, and whether it makes the overlays. When it is gone so must
/// we be: its death may have come before `die_with_parent` could see it.
fn wait_for_launcher(go: &File) -> bool {
    match handover::wait(go) {
        Some(word) => word == Word::Lending,
        None => clone::exit_now(125),
    }
}

/// Send the launcher the upper layers that are in our memory: it has what an earlier run left there, and
/// takes out what this one leaves.
fn show_uppers(plan: &Plan, store: &OwnedFd, status: &OwnedFd) -> Result<()> {
    let open = |(upper, _): &(CString, CString)| overlay::directory(store, upper, OFlag::O_RDONLY);
    let uppers = plan.uppers.iter().map(open).collect::<Result<Vec<_>>>()?;
    wire::send(status, &Message::Uppers, None)?;
    wire::send_descriptors(status, &uppers)
}

/// A clone for each [`What::Bind`], in order, made in the new mount namespace.
fn open_binds(plan: &Plan) -> Result<Vec<OwnedFd>> {
    plan.mounts
        .iter()
        .filter_map(|m| match &m.what {
            What::Bind { source, attr, resolved } => Some(bind(source, *attr, *resolved)),
            What::Mapped(_) | What::Scratch(_) | What::Proc | What::Pts => None,
            What::Overlay(_) | What::Kept { .. } => None,
            What::Veil | What::Itself { .. } | What::Void | What::Text(_) => None,
        })
        .collect()
}

/// A clone for each [`What::Kept`], in order.
fn open_kept(plan: &Plan) -> Result<Vec<OwnedFd>> {
    let kept = plan.mounts.iter().filter_map(|m| match &m.what {
        What::Kept { source, attr } => Some(bind(source, *attr, true)),
        _ => None,
    });
    kept.collect()
}

fn open_dir(path: &CStr) -> Result<OwnedFd> {
    overlay::directory(AT_FDCWD, path, OFlag::O_PATH)
}

/// A detached clone of a host path with its attributes. Other mounts below it come along only
/// where the kernel insists: in a copied mount namespace they are locked to their parent.
///
/// A path that was `resolved` before has no link in it unless somebody put one there since, who may
/// be another jail with a writable view of its parent (CVE-2021-30465): that is ELOOP.
fn bind(source: &CStr, attr: Attr, resolved: bool) -> Result<OwnedFd> {
    let clone = |recursive| {
        if resolved {
            let exact = resolved_path(source.to_bytes())?;
            mount::clone_tree(Some(exact.as_fd()), c"", recursive)
        } else {
            mount::clone_tree(None, source, recursive)
        }
    };
    let (tree, recursive) = match clone(false) {
        Err(Error { errno: Errno::EINVAL, .. }) => (clone(true), true),
        other => (other, false),
    };
    let tree = tree.map_err(|e| e.on(text::c(source)))?;
    mount::set_attr(&tree, attr, recursive).map_err(|e| e.on(text::c(source)))?;
    Ok(tree)
}

/// The ready-made root. Its links (`/lib64`) lead nowhere but in the jail; the state directory may be
/// mounted with `nosymfollow`.
fn ready_root(path: &CStr) -> Result<OwnedFd> {
    let attr = Attr::RDONLY.and(Attr::NOSUID).and(Attr::NODEV);
    mount::clone_tree(None, path, false)
        .and_then(|tree| mount::set_attr_and_follow(&tree, attr).map(|()| tree))
        .map_err(|e| e.on(text::c(path)))
}

/// A directory of the host that nobody looks up any more once the binds are open: the ready-made `/etc`.
/// Not one like `/dev`, which the tree or the state may lie below.
fn anchor(plan: &Plan) -> Result<OwnedFd> {
    let etc = plan.mounts.iter().find_map(|m| match &m.what {
        What::Bind { source, .. } if m.at.as_c_str() == c"etc" => Some(source),
        _ => None,
    });
    open_dir(etc.ok_or_else(|| Error::new("plan", "etc", Errno::EBADF))?)
}

/// The tmpfs and the new root in it, which is the ready-made one if there is one.
fn tmpfs(plan: &Plan, anchor: &OwnedFd, ready: Option<OwnedFd>) -> Result<(OwnedFd, OwnedFd)> {
    // The modes below are meant as they are; the command's umask is set once all is in place.
    nix::sys::stat::umask(Mode::empty());
    let tmpfs = NewFs::open(c"tmpfs")?;
    tmpfs.set(c"size", &plan.tmp_size)?;
    tmpfs.set(c"mode", c"0755")?;
    let store = tmpfs.mount(Attr::NOSUID.and(Attr::NODEV)).map_err(|e| e.on("tmpfs"))?;
    for d in &plan.dirs {
        mkdirat(&store, d.as_c_str(), Mode::from_bits_truncate(0o755))
            .map_err(|e| Error::new("mkdir", text::c(d), e))?;
    }
    for dir in [c"tmp", c"shm"] {
        // Not by mkdir, which has no sticky bit everywhere.
        nix::sys::stat::fchmodat(
            &store,
            dir,
            Mode::from_bits_truncate(0o1777),
            nix::sys::stat::FchmodatFlags::FollowSymlink,
        )
        .map_err(|e| Error::new("chmod", text::c(dir), e))?;
    }
    for f in &plan.files {
        // Not by open, which would be a call more to close it again.
        mknodat(&store, f.as_c_str(), SFlag::S_IFREG, Mode::from_bits_truncate(0o644), 0)
            .map_err(|e| Error::new("create", text::c(f), e))?;
    }
    texts(plan, &store)?;
    for (target, at) in &plan.links {
        nix::unistd::symlinkat(target.as_c_str(), &store, at.as_c_str())
            .map_err(|e| Error::new("symlink", text::c(at), e))?;
    }
    // Kernels before 6.15 clone attached trees only. Nobody outside sees this mount.
    mount::attach(&store, anchor, c"").map_err(|e| e.on("tmpfs"))?;
    let root = match ready {
        Some(root) => root,
        None => mount::clone_tree(Some(store.as_fd()), c"root", false).map_err(|e| e.on("new root"))?,
    };
    mount::attach(&root, &store, c"root").map_err(|e| e.on("new root"))?;
    Ok((store, root))
}

/// What came of the mounts.
#[derive(Default)]
struct Shown {
    /// Veils that were asked for, and those that could be had.
    veils: (usize, usize),
    /// The caches that could not, a bit each.
    without: u64,
    /// The `/proc` is the one around us; whether further user namespaces are forbidden.
    outer_proc: Option<bool>,
    /// The host's root is gone.
    pivoted: bool,
}

/// Everything mounted on the new root, and the pivot.
fn files(
    plan: &Plan,
    mapped: &[OwnedFd],
    (store, root): (&OwnedFd, &OwnedFd),
    (binds, kept): (&[OwnedFd], &[OwnedFd]),
    mut overlays: Overlays<'_>,
) -> Result<Shown> {
    let (mut binds, mut kept) = (binds.iter(), kept.iter());
    let mut below = None;
    let mut shown = Shown::default();
    for m in &plan.mounts {
        let tree = match &m.what {
            What::Bind { .. } => {
                let tree = binds.next().ok_or_else(|| Error::new("plan", text::c(&m.at), Errno::EBADF))?;
                below = Some(tree);
                match attach(tree, root, m) {
                    // A kernel built without what is to be masked.
                    Err(e) if e.errno == Errno::ENOENT && m.at.to_bytes().starts_with(b"proc/") => {}
                    done => done?,
                }
                continue;
            }
            What::Mapped(i) => {
                let tree = mapped.get(*i).ok_or_else(|| Error::new("plan", text::c(&m.at), Errno::EBADF))?;
                below = Some(tree);
                attach(tree, root, m)?;
                continue;
            }
            What::Kept { .. } => {
                let tree = kept.next().ok_or_else(|| Error::new("plan", text::c(&m.at), Errno::EBADF))?;
                attach(tree, root, m)?;
                continue;
            }
            What::Veil => {
                let below = below.ok_or_else(|| Error::new("plan", text::c(&m.at), Errno::EBADF))?;
                shown.veils.0 += 1;
                shown.veils.1 += usize::from(veil(below, store)?);
                continue;
            }
            What::Itself { inode, writable } => {
                cover(root, m, *inode, *writable)?;
                continue;
            }
            What::Scratch(dir) => {
                mount::clone_tree(Some(store.as_fd()), dir, false).map_err(|e| e.on(text::c(dir)))
            }
            What::Void => {
                mask(None, store, root, m)?;
                continue;
            }
            What::Text(i) => {
                mask(Some(*i), store, root, m)?;
                continue;
            }
            What::Proc => match fresh_proc() {
                Err(e) if plan.nested && matches!(e.errno, Errno::EPERM | Errno::EACCES) => {
                    shown.outer_proc = Some(nested::outer_proc(&plan.confinement, (store, root), m)?);
                    continue;
                }
                made => made,
            },
            What::Pts => devpts().map_err(|e| e.on("devpts")),
            What::Overlay(o) => match (overlays.next((o, m), (store, root), mapped), &o.otherwise) {
                (Ok(made), Some(cache)) => {
                    attach(&made, root, m)?;
                    hide(cache, (store, root))?;
                    continue;
                }
                (Err(e), Some(cache)) if !is_shortage(e.errno) => {
                    shown.without |= 1 << cache.number;
                    let Some(empty) = &cache.empty else { continue };
                    mount::clone_tree(Some(store.as_fd()), empty, false).map_err(|e| e.on(text::c(empty)))
                }
                (made, _) => made,
            },
        }?;
        attach(&tree, root, m)?;
    }
    if plan.root.is_none() {
        mount::set_attr(root, Attr::RDONLY, false).map_err(|e| e.on("new root"))?;
    }
    // Before the old root lies over this one, where a link in the tree that climbs out (`../../..`) would lead
    // into it.
    let cwd = cwd::find(root, &plan.cwd)?;
    let pivoted = if plan.confinement.without.keeps("pivot_root") {
        overlays.pivot(root)
    } else {
        Err(Error::new("pivot_root", "", Errno::EINVAL))
    };
    shown.pivoted = match pivoted {
        Ok(()) => true,
        // The kernel's first file system, or a chroot.
        Err(e) if plan.nested && e.errno == Errno::EINVAL => {
            overlays.cover_root(root)?;
            false
        }
        Err(e) => return Err(e),
    };
    cwd::go_to(cwd, &plan.cwd)?;
    Ok(shown)
}

fn fresh_proc() -> Result<OwnedFd> {
    NewFs::open(c"proc")
        .and_then(|fs| fs.mount(Attr::NOSUID.and(Attr::NODEV).and(Attr::NOEXEC)))
        .map_err(|e| e.on("proc"))
}

/// Whether a mount failed for want of something that the next one may have.
fn is_shortage(errno: Errno) -> bool {
    matches!(errno, Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE)
}

/// Cover what is not to be seen of a cache that has just been attached.
fn hide(cache: &Otherwise, (store, root): (&OwnedFd, &OwnedFd)) -> Result<()> {
    for hidden in &cache.hide {
        let fail = |e: Error| e.on(text::c(&hidden.at));
        let cover = mount::clone_tree(Some(store.as_fd()), &hidden.with, false).map_err(fail)?;
        if !hidden.writable {
            mount::set_attr(&cover, Attr::RDONLY, false).map_err(fail)?;
        }
        mount::attach(cover, place_of(root, &hidden.at)?, c"").map_err(fail)?;
    }
    Ok(())
}

pub(super) fn attach(tree: &OwnedFd, root: &OwnedFd, m: &Mount) -> Result<()> {
    if m.ours {
        return mount::attach(tree, root, &m.at).map_err(|e| e.on(text::c(&m.at)));
    }
    mount::attach(tree, place(root, m)?, c"").map_err(|e| e.on(text::c(&m.at)))
}

fn devpts() -> Result<OwnedFd> {
    let fs = NewFs::open(c"devpts")?;
    fs.flag(c"newinstance").or_else(|e| if e.errno == Errno::EINVAL { Ok(()) } else { Err(e) })?;
    fs.set(c"ptmxmode", c"0666")?;
    fs.set(c"mode", c"0620")?;
    fs.mount(Attr::NOSUID.and(Attr::NOEXEC))
}

/// Wait until the command may start, and step into the groups that hold its limits.
pub(super) fn await_start(status: &OwnedFd) {
    let Some(doors) = wire::wait_start(status) else { clone::exit_now(125) };
    if let Err(e) = doors.iter().try_for_each(cgroup::step_in) {
        fail(status, &e, false);
    }
}

/// Start the command, report, reap until it ends. The kernel kills everything else in the pid
/// namespace when we leave, and holds our end back until all of it is gone.
pub(super) fn command(plan: &Plan, status: &OwnedFd, layers: Layers, terminal: bool) -> ! {
    let argv = CStrings::new(plan.argv.clone());
    let env = CStrings::new(plan.env.clone());
    // Its start is on record by then, mostly long before.
    await_start(status);
    let mut failed: Option<(Errno, usize)> = None;
    if terminal {
        signal::block_sigttou();
    }
    let me = plan.confinement.joined.then(nix::unistd::getpid);
    let mut child = || {
        // Fail only for a process group leader, which a new process is not, and without a terminal.
        if terminal {
            nix::unistd::setpgid(nix::unistd::Pid::from_raw(0), nix::unistd::Pid::from_raw(0)).ok();
            take_foreground(fd::standard(0)).ok();
        } else {
            nix::unistd::setsid().ok();
        }
        signal::unblock_all();
        if plan.confinement.joined {
            // Whoever kills the one who minds it has killed it as well, before that call, too.
            caps::die_with_parent().ok();
            if Some(nix::unistd::getppid()) != me {
                return 137;
            }
        }
        // Kept apart from `failed` until the end: a candidate that does exec never gets there.
        let mut last: Option<(Errno, usize)> = None;
        for (i, program) in plan.programs.iter().enumerate() {
            let errno = clone::execve(program, &argv, &env).errno;
            match errno {
                // Keep looking, and remember a file that was there but could not be used.
                Errno::ENOENT | Errno::ENOTDIR => last = last.or(Some((errno, i))),
                Errno::EACCES => last = Some((errno, i)),
                _ => {
                    last = Some((errno, i));
                    break;
                }
            }
        }
        failed = last.or(Some((Errno::ENOENT, 0)));
        127
    };
    let pid = match clone::vfork_start(&mut child) {
        Ok(pid) => pid,
        Err(e) => fail(status, &e, false),
    };
    if let Some((errno, i)) = failed {
        let name = plan.programs.get(i).map(|p| text::c(p)).unwrap_or_default();
        let interpreter_missing = errno == Errno::ENOENT
            && plan.programs.get(i).is_some_and(|p| {
                nix::unistd::faccessat(
                    AT_FDCWD,
                    p.as_c_str(),
                    nix::unistd::AccessFlags::F_OK,
                    AtFlags::empty(),
                )
                .is_ok()
            });
        let errno = if interpreter_missing { Errno::ENOEXEC } else { errno };
        let call = if interpreter_missing { "find the interpreter of" } else { "execve" };
        fail(status, &Error::new(call, name, errno), true);
    }
    // The command's ends of the pipes must be the only ones: their end of file is its end. A terminal
    // stays open: it has not ended when the command opens none of it for a while.
    if !terminal {
        fd::close_standard();
    }
    if let Err(e) = signal::forward_to_group(pid) {
        fail(status, &e, false);
    }
    // With it goes the jail's `/proc`, through which the launcher sees exactly the jail's processes.
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let proc = openat(AT_FDCWD, "/proc", flags, Mode::empty()).ok();
    if wire::send(status, &Message::Started(layers), proc.as_ref().map(AsRawFd::as_raw_fd)).is_err() {
        // Nobody is left to run it for. Where that is not all of the jail, pid 1 is about to end it, with what it
        // has started meanwhile.
        while plan.confinement.joined && !pidfd::no_children() {
            pidfd::wait_any(false);
        }
        clone::exit_now(125);
    }
    drop(proc);
    loop {
        match pidfd::wait_any(terminal) {
            Some(Some((p, Change::Stopped))) => {
                // Unless it is the launcher's doing. Its shell's jobs are its own affair.
                if p == pid && !signal::all_stopped() {
                    drop(wire::send(status, &Message::Stopped, None));
                }
            }
            Some(Some((p, Change::Ended(end)))) if p == pid => {
                // Every process of the namespace is a descendant of ours, and orphans become our
                // children: having none means that there is nobody.
                let alone = !plan.confinement.lite && pidfd::no_children();
                let used = pidfd::used_by_children();
                drop(wire::send(status, &Message::Ended { end, alone, used }, None));
                clone::exit_now(0)
            }
            Some(_) => {}
            None => clone::exit_now(125),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs no privilege: the refusal comes before the clone.
    #[test]
    fn a_resolved_path_that_has_become_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(top.join("victim/ws")).unwrap();
        std::os::unix::fs::symlink(top.join("victim"), top.join("link")).unwrap();
        for name in ["link", "link/ws"] {
            let path = CString::new(top.join(name).to_str().unwrap()).unwrap();
            let tried = bind(&path, Attr::RDONLY, true).unwrap_err();
            assert_eq!(tried.errno, Errno::ELOOP, "{name}");
            // Followed otherwise: only the clone may fail, for want of privilege.
            let followed = bind(&path, Attr::RDONLY, false);
            assert!(followed.is_ok() || followed.unwrap_err().errno == Errno::EPERM);
        }
    }
}
