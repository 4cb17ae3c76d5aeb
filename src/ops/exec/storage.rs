//! Where what a run changes is while it runs, and what is done where the state directory's file system
//! holds no upper layer of an overlay: overlayfs itself, as in every container, some of the network, some
//! of FUSE, those without attributes.
//!
//! Nobody asks a list of file systems. The mount fails, and the run begins once more with the upper layer
//! in the jail's own memory; when it has ended, that is copied to where the mount would have had it. What
//! worked is remembered for a while, so that only the first run tries in vain. A refusal for want of a
//! privilege says something about its caller and is remembered for nobody; and nothing is refused because of
//! what is remembered: then the run begins anew with what was asked for.

use std::fs::Metadata;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

use super::Error;
use crate::base::{clock, size, text};
use crate::host::cause::is_overlay;
use crate::host::read::{file_system, root_without_mounts};
use crate::jail::plan::Plan;
use crate::jail::spec::{Spec, Storage};
use crate::policy::key::Key;
use crate::policy::resolve::{Origin, Resolved};
use crate::policy::settings::{self as policy, Access, Settings};
use crate::schema::jail::Outcome;
use crate::store::layout::StateDir;
use crate::store::refill::refill;
use crate::store::trees::Tree;
use crate::store::{alive, whiteout};
use crate::sys::openat2::{self, For};
use crate::sys::{self, xattr};
use crate::workspace::carry::carry;

/// How long what worked is believed, in milliseconds: a file system may be mounted anew.
const BELIEVED: u64 = 3_600_000;

/// As it is recorded.
pub(super) fn word(spec: &Spec) -> &'static str {
    match (spec.access, spec.storage) {
        (Access::Rw | Access::Ro, _) => "",
        (Access::Overlay, Storage::Disk) => "disk",
        (Access::Overlay, Storage::Memory) => "memory",
        (Access::Overlay, Storage::Copy) => "copy",
    }
}

/// The file that remembers what worked for this state directory.
fn name(state: &StateDir, workspace: &Metadata) -> Option<String> {
    let state = sys::at::fstat(state).ok()?;
    Some(format!("storage-{:x}-{:x}-{:x}", state.dev.0, state.dev.1, workspace.dev()))
}

/// What a run is tried with because something else did not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tried {
    pub(super) storage: Storage,
    /// That did not work for anybody: the file systems are at fault, not what this caller may do.
    lasting: bool,
}

impl Tried {
    fn because_of(storage: Storage, errno: &str) -> Tried {
        Tried { storage, lasting: !matches!(errno, "EPERM" | "EACCES") }
    }

    /// All that was tried before had to fail for everybody as well.
    pub(super) fn after(self, before: Option<Tried>) -> Tried {
        Tried { lasting: self.lasting && before.is_none_or(|before| before.lasting), ..self }
    }
}

/// What is asked for.
fn asked(storage: policy::Storage) -> Storage {
    match storage {
        policy::Storage::Memory => Storage::Memory,
        policy::Storage::Disk => Storage::Disk,
    }
}

/// What is asked for, or what worked the last time if that is weaker.
pub(super) fn known(state: &StateDir, workspace: &Metadata, storage: policy::Storage, kept: bool) -> Storage {
    match worked(state, workspace) {
        // A kept tree would be refused.
        Storage::Copy if kept => asked(storage),
        Storage::Disk => asked(storage),
        worked => worked,
    }
}

/// A line for who asks for it where nothing of the directory is kept apart.
pub(super) fn idle(resolved: &Resolved) -> Option<String> {
    let s = &resolved.settings;
    let named = resolved.origin(Key::Storage) == Some(Origin::Flag);
    let why = match s.access {
        Access::Overlay => return None,
        Access::Rw => "with `--rw` the command writes to it for real",
        Access::Ro => "with `--ro` the command writes nothing to it",
    };
    let memory = named && s.storage == policy::Storage::Memory;
    memory.then(|| format!("`--storage memory` has no effect on the directory: {why}"))
}

/// What to try before a run is refused, if it began with what worked the last time.
pub(super) fn doubt(spec: &Spec, settings: &Settings, tried: Option<Tried>, lite: bool) -> Option<Tried> {
    let storage = asked(settings.storage);
    let believed = tried.is_none() && !lite && spec.access == Access::Overlay && spec.storage != storage;
    believed.then_some(Tried { storage, lasting: true })
}

/// What worked the last time.
fn worked(state: &StateDir, workspace: &Metadata) -> Storage {
    let told = name(state, workspace).and_then(|name| state.cached(&name));
    let read = |bytes: &[u8]| -> Option<Storage> {
        let mut words = std::str::from_utf8(bytes).ok()?.trim_end().split(' ');
        let (boot, ms, word) = (words.next()?, words.next()?.parse::<u64>().ok()?, words.next()?);
        // What comes from the future was written before the clock was set back.
        let age = clock::now_ms().checked_sub(ms);
        let fresh = age.is_some_and(|age| age < BELIEVED) && alive::boot_id()? == boot;
        match word {
            "memory" if fresh => Some(Storage::Memory),
            "copy" if fresh => Some(Storage::Copy),
            _ => None,
        }
    };
    told.as_deref().and_then(read).unwrap_or_default()
}

/// Remember what works, where it was found out from the strongest on: where memory is asked for, nothing is
/// known of the disk. Failing only means that the next run tries again.
pub(super) fn remember(state: &StateDir, workspace: &Metadata, storage: policy::Storage, tried: Tried) {
    let (Some(name), Some(boot)) = (name(state, workspace), alive::boot_id()) else { return };
    let word = match tried.storage {
        _ if !tried.lasting || storage == policy::Storage::Memory => return,
        // Something else was remembered.
        Storage::Disk => "disk",
        Storage::Memory => "memory",
        Storage::Copy => "copy",
    };
    state.cache(&name, format!("{boot} {} {word}\n", clock::now_ms()).as_bytes()).ok();
}

/// What to try when a jail could not be started like this.
pub(super) fn next(spec: &Spec, outcome: &Outcome) -> Option<Tried> {
    let Outcome::Failed { step, errno, .. } = outcome else { return None };
    let weaker = match spec.storage {
        _ if spec.access != Access::Overlay => return None,
        Storage::Disk => Storage::Memory,
        Storage::Memory => Storage::Copy,
        Storage::Copy => return None,
    };
    let (call, on) = step.split_once(" `").map_or((step.as_str(), ""), |(c, o)| (c, o.trim_end_matches('`')));
    // What the kernel says of a file system that is not fit; not of a want of something, nor of a kernel
    // without any overlay.
    let unfit =
        matches!(errno.as_str(), "EINVAL" | "EPERM" | "EACCES" | "EOPNOTSUPP" | "EREMOTE" | "ENOTSUP");
    // The attributes that a tmpfs does not have before Linux 6.6.
    let bare = call == "fsetxattr" && on == "upper";
    ((is_overlay(call, on) || bare) && unfit).then(|| Tried::because_of(weaker, errno))
}

/// The same for an error on the host's side: the workspace cannot be shown under other ids.
pub(super) fn after(spec: &Spec, e: &sys::Error) -> Option<Tried> {
    let ours = e.arg == text::os(&spec.workspace) || spec.sides.iter().any(|s| e.arg == text::os(&s.path));
    let idmap = e.call == "mount_setattr(idmap)" || (e.call == "open_tree" && e.errno == Errno::EPERM);
    let copies = spec.access == Access::Overlay && spec.storage != Storage::Copy;
    (copies && ours && idmap).then(|| Tried::because_of(Storage::Copy, &e.name()))
}

/// Whether the tree can take what a run changes, or what is copied to it at the end: found out before
/// anything runs.
pub(super) fn check(tree: &Tree, spec: &Spec, plan: &Plan) -> Result<(), Error> {
    // An overlay over it mounts all the same, and then no directory of the lower layer can be removed.
    if spec.access == Access::Overlay && !xattr::are_known(tree) {
        let source = sys::Error::new("fgetxattr", "user.*", Errno::ENOTSUP);
        return Err(Error::Unkept { path: tree.path().to_owned(), source });
    }
    for (_, layers) in &plan.uppers {
        let path = Path::new(std::ffi::OsStr::from_bytes(layers.to_bytes())).join("upper");
        let fail = |source| Error::Unkept { path: tree.path().to_owned(), source };
        let dir = openat2::absolute(path.as_os_str().as_bytes(), For::Listing).map_err(fail)?;
        xattr::set(&dir, c"user.overlay.aj", b"y").map_err(fail)?;
        whiteout::can_make(dir.as_fd()).map_err(fail)?;
    }
    Ok(())
}

/// An upper layer in a jail's memory, and the directory whose upper layer is the kept one.
#[derive(Debug)]
pub(super) struct Held {
    memory: OwnedFd,
    layers: PathBuf,
}

/// Fill the upper layers in the jail's memory with what is kept, and with what hides secrets.
pub(super) fn carry_in(
    memory: Vec<OwnedFd>,
    plan: &Plan,
    owner: Option<(u32, u32)>,
) -> Result<Vec<Held>, Error> {
    // Before: others may not even enter the state directory.
    let open = |layers: &std::ffi::CString| {
        let path = [layers.to_bytes(), b"/upper"].concat();
        openat2::absolute(&path, For::Listing)
    };
    let mut opened = plan.uppers.iter().map(|(_, layers)| open(layers)).collect::<Vec<_>>().into_iter();
    // Host uid 0 has no number in the user namespace that the jail's tmpfs belongs to.
    let _as_owner = owner.map(AsOwner::new);
    let mut held = Vec::with_capacity(memory.len());
    for (memory, (_, layers)) in memory.into_iter().zip(&plan.uppers) {
        let layers = PathBuf::from(std::ffi::OsStr::from_bytes(layers.to_bytes()));
        let kept = opened.next().unwrap_or_else(|| Err(sys::Error::new("open", "upper", Errno::EBADF)));
        kept.and_then(|kept| carry(kept, openat2::beneath(&memory, b".", For::Listing)?))
            .map_err(|e| Error::Launch(sys::Error { call: "copy what is kept into the jail", ..e }))?;
        held.push(Held { memory, layers });
    }
    Ok(held)
}

/// File system calls are those of this owner, as long as it lives.
struct AsOwner(Uid, Gid);

impl AsOwner {
    fn new((uid, gid): (u32, u32)) -> AsOwner {
        // The group first: the user's own number may not change it.
        let group = setfsgid(gid.into());
        AsOwner(setfsuid(uid.into()), group)
    }
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        setfsuid(self.0);
        setfsgid(self.1);
    }
}

/// Copy what the jail left in its memory to where it is kept. The jail has ended.
pub(super) fn carry_out(held: Vec<Held>) -> crate::store::Result<()> {
    for Held { memory, layers } in held {
        refill(&layers, |upper| carry(memory, upper))?;
    }
    Ok(())
}

/// A line for a run whose changes were not on disk while it ran.
pub(super) fn line(spec: &Spec, state: &StateDir, settings: &Settings) -> Option<String> {
    match spec.storage {
        // Asked for.
        Storage::Memory if settings.storage == policy::Storage::Memory => None,
        Storage::Memory if spec.access == Access::Overlay => Some(format!(
            "storage memory: `{}` lies on {}, which holds no upper layer of an overlay, so what the command \
             wrote was in memory while it ran ({} at most: `{}`), and was copied there at its end",
            text::os(state.path()),
            file_system(&state.real_path()).map_or_else(|| "a file system".to_owned(), |(kind, _)| kind),
            size::human(spec.tmp),
            if settings.disk == Some(spec.tmp) { "--disk" } else { "--tmp" },
        )),
        Storage::Copy if spec.access == Access::Overlay => Some(format!(
            "storage copy: no overlay over `{}` can be had here ({}{}), so the command worked on a private copy \
             of it, made at its start",
            text::os(&spec.workspace),
            file_system(&spec.workspace).map_or_else(|| "a file system".to_owned(), |(kind, _)| kind),
            if root_without_mounts() { ", as root without CAP_SYS_ADMIN" } else { "" },
        )),
        Storage::Disk | Storage::Memory | Storage::Copy => None,
    }
}

/// Whether the errors of the end name a want of room.
pub(super) fn why_lost(e: &crate::store::Error) -> String {
    let room = matches!(e.errno(), Some(Errno::ENOSPC | Errno::EDQUOT));
    let why = super::chain(e);
    if room { format!("{why}: free some space, or set AJ_STATE_DIR") } else { why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_worked_is_known_until_the_next_boot_and_for_an_hour() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open_at(&dir.path().join("s")).unwrap();
        let meta = std::fs::metadata(dir.path()).unwrap();
        assert_eq!(worked(&state, &meta), Storage::Disk);
        remember(&state, &meta, policy::Storage::Memory, Tried::because_of(Storage::Copy, "EINVAL"));
        assert_eq!(worked(&state, &meta), Storage::Disk, "nobody has tried the disk");
        remember(&state, &meta, policy::Storage::Disk, Tried::because_of(Storage::Memory, "EINVAL"));
        assert_eq!(worked(&state, &meta), Storage::Memory);
        // What was tried once more and worked takes its place.
        remember(&state, &meta, policy::Storage::Disk, Tried { storage: Storage::Disk, lasting: true });
        assert_eq!(worked(&state, &meta), Storage::Disk);
        let name = name(&state, &meta).unwrap();
        let boot = alive::boot_id().unwrap();
        let old = clock::now_ms() - BELIEVED;
        let future = clock::now_ms() + BELIEVED;
        for stale in [
            format!("{boot} {old} memory\n"),
            format!("{boot} {future} memory\n"),
            format!("x {} memory\n", clock::now_ms()),
            "\x1b[".to_owned(),
        ] {
            state.cache(&name, stale.as_bytes()).unwrap();
            assert_eq!(worked(&state, &meta), Storage::Disk, "{stale}");
        }
    }

    #[test]
    fn what_one_caller_may_not_do_is_remembered_for_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open_at(&dir.path().join("s")).unwrap();
        let meta = std::fs::metadata(dir.path()).unwrap();
        let fit = Tried::because_of(Storage::Memory, "EINVAL");
        for errno in ["EPERM", "EACCES"] {
            let refused = Tried::because_of(Storage::Memory, errno);
            let later = Tried::because_of(Storage::Copy, "EINVAL").after(Some(refused));
            let last = Tried::because_of(Storage::Copy, errno).after(Some(fit));
            for tried in [refused, later, last] {
                remember(&state, &meta, policy::Storage::Disk, tried);
                assert_eq!(worked(&state, &meta), Storage::Disk, "{tried:?}");
            }
        }
        remember(
            &state,
            &meta,
            policy::Storage::Disk,
            Tried::because_of(Storage::Copy, "EINVAL").after(Some(fit)),
        );
        assert_eq!(worked(&state, &meta), Storage::Copy);
        assert_eq!(known(&state, &meta, policy::Storage::Disk, false), Storage::Copy);
        assert_eq!(
            known(&state, &meta, policy::Storage::Disk, true),
            Storage::Disk,
            "a kept tree would be refused"
        );
    }
}
