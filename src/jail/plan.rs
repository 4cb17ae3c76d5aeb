//! From [`Spec`] to the steps that pid 1 performs. Pure: decides everything, touches nothing.
//!
//! The jail's files are one tmpfs with four directories: `root` becomes the jail's `/` (shown
//! read-only), `tmp`, `home` and `shm` are shown at `/tmp` and `/var/tmp`, `/home/agent` and
//! `/dev/shm`. One superblock for all of them is what makes a start cheap, and one size cap covers
//! everything a jail can write outside its workspace.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

mod cache;
mod gpu;
mod lite;
mod overlay;
mod rooms;

pub use cache::{Hide, MOST_CACHES, Otherwise};
pub use lite::{Grounds, lite};
use overlay::{Layers, overlay};

use super::spec::{BindKind, Covered, Ids, Owner, Spec};
use super::{confine::Confinement, live::Serve};
use crate::base::text;
use crate::policy::settings::{Access, Mode, Net};
use crate::sys::landlock::Right;
use crate::sys::mount::Attr;

/// A mount, made detached and then attached at `at` below the new root.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What.
    pub what: What,
    /// Where, relative to the new root.
    pub at: CString,
    /// Whether `at` was made by us alone (`false`: it may lie below a host directory, so it is
    /// resolved with `openat2` beneath the new root, following no links).
    pub ours: bool,
}

/// What is mounted.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// A host path, cloned inside the new mount namespace.
    Bind {
        /// Host path.
        source: CString,
        /// Attributes.
        attr: Attr,
        /// Whether the path was resolved before, so that a link in it is somebody's trick.
        resolved: bool,
    },
    /// A host path that the launcher cloned with an id mapping (index into [`Plan::mapped`]), where that
    /// is no part of an overlay.
    Mapped(usize),
    /// A directory of the jail's tmpfs.
    Scratch(CString),
    /// A fresh proc.
    Proc,
    /// A fresh devpts.
    Pts,
    /// An overlay over the workspace or beside it.
    Overlay(Overlay),
    /// A directory of the run's tree, which is there once the launcher lets pid 1 go on, or a volume.
    Kept {
        /// Host path.
        source: CString,
        /// Attributes.
        attr: Attr,
    },
    /// A mount of what is seen there, which must have this inode: read-only, or only to keep it in its
    /// place.
    Itself {
        /// Which it is.
        inode: u64,
        /// Not read-only.
        writable: bool,
    },
    /// A read-only overlay over the mount just before, on top of it: what is there can be read and
    /// executed, but its sockets, FIFOs and locks are not the host's. Where the kernel makes none
    /// over that file system, the mount before stays what is seen.
    Veil,
    /// An empty directory that nobody can write.
    Void,
    /// A file with this content (index into [`Plan::texts`]) that nobody can write.
    Text(usize),
}

/// The overlay's parts.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Lower directory, or the [`Plan::mapped`] clone of this index.
    pub lower: Result<CString, usize>,
    /// Sealed layers over that, the newest first.
    pub above: Vec<CString>,
    /// Upper directory.
    pub upper: CString,
    /// Work directory.
    pub work: CString,
    /// Whether these two are in the tmpfs.
    pub memory: bool,
    /// Mount with `volatile`.
    pub volatile: bool,
    /// What to do instead where it cannot be mounted; without it that is an error.
    pub otherwise: Option<Otherwise>,
}

/// A host path that needs an id-mapped clone made by the launcher.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapped {
    /// Host path.
    pub source: CString,
    /// Attributes.
    pub attr: Attr,
    /// Whose files appear as the jail's user's own.
    pub owner: Owner,
    /// Show the files of others where the file system knows no mapping, instead of failing.
    pub lenient: bool,
    /// Go without it there.
    pub optional: bool,
}

/// Everything pid 1 does before it gives up privilege.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Size of the tmpfs, as the mount option wants it.
    pub tmp_size: CString,
    /// The ready-made directory that is the jail's `/`; `None`: `root` of the tmpfs.
    pub root: Option<CString>,
    /// Directories in the tmpfs, parents first.
    pub dirs: Vec<CString>,
    /// Empty files in the tmpfs to mount over.
    pub files: Vec<CString>,
    /// What is in the files that [`What::Text`] shows.
    pub texts: Vec<Vec<u8>>,
    /// Links in the tmpfs: target, path.
    pub links: Vec<(CString, CString)>,
    /// Mounts in order.
    pub mounts: Vec<Mount>,
    /// Upper layers in the tmpfs that are kept elsewhere: the directory there, and the one on the host that
    /// holds the kept one. Pid 1 shows them to the launcher before it mounts anything of them.
    pub uppers: Vec<(CString, CString)>,
    /// Clones that only the launcher can make.
    pub mapped: Vec<Mapped>,
    /// Landlock rules on the pivoted view.
    pub rules: Vec<(CString, Right)>,
    /// Mounts that must report themselves read-only afterwards.
    pub read_only: Vec<CString>,
    /// Go on with the `/proc` around us where no fresh one can be had, and without a pivot where the root
    /// cannot be pivoted away.
    pub nested: bool,
    /// What is given up at the end, and the limits.
    pub confinement: Confinement,
    /// Working directory.
    pub cwd: CString,
    /// Candidates for execve, in order.
    pub programs: Vec<CString>,
    /// Arguments.
    pub argv: Vec<CString>,
    /// Environment as `K=V`.
    pub env: Vec<CString>,
    /// There is no command: commands join.
    pub serve: Option<Serve>,
}

impl Plan {
    /// Open files that carrying it out takes: every mount is a descriptor for a while. The command's
    /// own limit is another matter.
    pub fn descriptors(&self) -> u64 {
        let each = |m: &Mount| match m.what {
            // A covered or hidden file is none any more when the next one comes.
            What::Itself { .. } | What::Text(_) | What::Void => 0,
            // Its three parts, and itself.
            What::Overlay(_) => 4,
            _ => 2,
        };
        64 + self.mounts.iter().map(each).sum::<u64>()
    }

    /// Keep these as they are: last of all, when everything that may show them is there.
    pub fn cover(&mut self, files: &[Covered]) -> Result<(), Error> {
        for file in files {
            let what = What::Itself { inode: file.inode, writable: file.writable };
            let at = relative(&file.path)?;
            self.mounts.push(Mount { what, at, ours: false });
        }
        Ok(())
    }
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A path that the jail needs for itself.
    #[error("`{}` cannot be shown in the jail at its own path: the jail has its own `{owner}`", text::os(.path))]
    Occupied {
        /// The path.
        path: PathBuf,
        /// What is there already.
        owner: &'static str,
    },
    /// A NUL byte in a path, an argument or a variable.
    #[error("{what} contains a NUL byte: `{}`", text::os(.value))]
    Nul {
        /// What kind of text.
        what: &'static str,
        /// The text.
        value: OsString,
    },
    /// A variable name that is empty or contains `=`.
    #[error("`{}` cannot be a variable's name", text::os(.0))]
    Variable(OsString),
    /// A path that is not absolute or not plain.
    #[error("`{}` is not an absolute path without `.` and `..`", text::os(.0))]
    NotPlain(PathBuf),
}

/// How the host is laid out, as far as the plan needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostRoot {
    /// Top-level links to show as they are: name, target (`bin` → `usr/bin`).
    pub links: Vec<(&'static str, PathBuf)>,
    /// Top-level directories that belong with `/usr` on this host (not merged): `lib64` …
    pub dirs: Vec<&'static str>,
    /// Whether there is an `/etc/resolv.conf`.
    pub resolv_conf: bool,
}

/// Names that belong with `/usr`.
pub const USR_NAMES: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// Device nodes of a jail.
pub const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// A directory of the tmpfs that stays empty: what a hidden directory shows, and the second layer that
/// an overlay without an upper one must have.
pub(super) const EMPTY: &CStr = c"empty";

const SCRATCH: [(&str, &str); 4] =
    [("tmp", "tmp"), ("var/tmp", "tmp"), ("home/agent", "home"), ("dev/shm", "shm")];

fn cstring(what: &'static str, bytes: impl Into<Vec<u8>>) -> Result<CString, Error> {
    CString::new(bytes).map_err(|e| Error::Nul { what, value: OsString::from_vec(e.into_vec()) })
}

pub(super) fn cpath(path: &Path) -> Result<CString, Error> {
    cstring("a path", path.as_os_str().as_bytes())
}

/// Where the mount point of `path` must be made: a directory of the tmpfs, or nowhere because it
/// lies below a host directory that is shown.
pub(crate) fn place(path: &Path) -> Result<Option<PathBuf>, Error> {
    let occupied = |owner| Err(Error::Occupied { path: path.to_owned(), owner });
    let Ok(inner) = path.strip_prefix("/") else { return Err(Error::NotPlain(path.to_owned())) };
    if inner.components().any(|c| !matches!(c, Component::Normal(_))) {
        return Err(Error::NotPlain(path.to_owned()));
    }
    for (at, dir) in SCRATCH {
        if let Ok(rest) = inner.strip_prefix(at) {
            return Ok(Some(Path::new(dir).join(rest)));
        }
    }
    match inner.iter().next().and_then(OsStr::to_str) {
        None if inner.as_os_str().is_empty() => occupied("/"),
        Some("usr") if inner == Path::new("usr") => occupied("/usr"),
        Some("usr") => Ok(None),
        // A mount there would cover what the jail has below.
        Some("home") if inner == Path::new("home") => occupied("/home/agent"),
        Some("var") if inner == Path::new("var") => occupied("/var/tmp"),
        Some("etc") => occupied("/etc"),
        Some("proc") => occupied("/proc"),
        Some("dev") => occupied("/dev"),
        Some(name) if USR_NAMES.contains(&name) => occupied("/usr"),
        _ => Ok(Some(Path::new("root").join(inner))),
    }
}

/// Collects what must exist in the tmpfs.
#[derive(Default)]
struct Points {
    /// With all that is above each. Ordered by bytes, which puts what is above first as well and compares
    /// in a tenth of the time that paths take.
    dirs: BTreeSet<OsString>,
    files: Vec<PathBuf>,
}

impl Points {
    fn dir(&mut self, path: &Path) {
        for p in path.ancestors() {
            if p.as_os_str().is_empty() || self.dirs.contains(p.as_os_str()) {
                return;
            }
            self.dirs.insert(p.as_os_str().to_owned());
        }
    }

    fn point(&mut self, path: &Path, directory: bool) -> Result<(), Error> {
        if let Some(p) = place(path)? {
            if directory {
                self.dir(&p);
            } else {
                self.dir(p.parent().unwrap_or(Path::new("root")));
                self.files.push(p);
            }
        }
        Ok(())
    }
}

/// Make the plan.
pub fn plan(spec: &Spec, host: &HostRoot) -> Result<Plan, Error> {
    let mut p = Plan {
        tmp_size: cstring("a size", spec.tmp.to_string())?,
        nested: spec.mode >= Mode::Nested,
        confinement: Confinement::of(spec),
        ..Plan::default()
    };
    let mut points = Points::default();
    for d in ["usr", "etc", "proc", "dev/pts", "dev/shm", "tmp", "home/agent", "var/tmp", "run", "opt"] {
        points.dir(&Path::new("root").join(d));
    }
    for (_, dir) in SCRATCH {
        points.dir(Path::new(dir));
    }
    system(&mut p, &mut points, spec, host)?;
    gpu::devices(&mut p, &mut points, spec)?;
    cache::rooms(&mut p, &mut points, spec)?;
    tools(&mut p, &mut points, spec)?;
    for (number, cache) in spec.caches.iter().enumerate().take(MOST_CACHES) {
        cache::show(&mut p, &mut points, spec, (number, cache))?;
    }
    let (around, beside): (Vec<_>, Vec<_>) =
        spec.sides.iter().partition(|side| spec.at.starts_with(&side.path));
    for side in around {
        overlay(&mut p, &mut points, spec, Layers::of(side))?;
    }
    workspace(&mut p, &mut points, spec)?;
    for side in beside {
        overlay(&mut p, &mut points, spec, Layers::of(side))?;
    }
    for bind in &spec.binds {
        points.point(&bind.path, bind.directory)?;
        let attr = Attr::NOSUID.and(Attr::NODEV);
        let attr = if bind.writable { attr } else { attr.and(Attr::RDONLY) };
        let what = shown(&mut p, spec, &bind.path, attr)?;
        p.mounts.push(Mount { what, at: relative(&bind.path)?, ours: false });
        if bind.kind == BindKind::Veiled && !bind.writable {
            veil(&mut p, &mut points, &bind.path)?;
        }
        if bind.writable {
            // The kernel refuses a rule that gives a file the rights of a directory.
            let right = if bind.directory { Right::Write } else { Right::WriteFile };
            p.rules.push((cpath(&bind.path)?, right));
        } else {
            p.read_only.push(cpath(&bind.path)?);
        }
    }
    rooms::volumes(&mut p, &mut points, spec)?;
    names(&mut p, &mut points, spec)?;
    if !p.mounts.iter().any(|m| m.what == What::Veil) {
        p.confinement.required = p.confinement.required.without_veils();
    }
    if p.nested {
        points.dir(Path::new(OsStr::from_bytes(EMPTY.to_bytes())));
    }
    for d in points.dirs {
        p.dirs.push(cstring("a path", d.as_bytes())?);
    }
    for f in points.files {
        p.files.push(cpath(&f)?);
    }
    command(&mut p, spec)?;
    Ok(p)
}

/// The parts that every jail has.
fn system(p: &mut Plan, points: &mut Points, spec: &Spec, host: &HostRoot) -> Result<(), Error> {
    let read_only = Attr::RDONLY.and(Attr::NOSUID).and(Attr::NODEV);
    let mut bind = |source: CString, at: &str, attr| -> Result<(), Error> {
        p.mounts.push(Mount {
            what: What::Bind { source, attr, resolved: false },
            at: cstring("a path", at)?,
            ours: true,
        });
        Ok(())
    };
    bind(c"/usr".to_owned(), "usr", read_only)?;
    bind(cpath(&spec.etc)?, "etc", read_only)?;
    for dir in &host.dirs {
        points.dir(&Path::new("root").join(dir));
        bind(cstring("a path", format!("/{dir}"))?, dir, read_only)?;
    }
    if spec.net == Net::Host && host.resolv_conf {
        // Names resolve as they do on the host; the ready-made /etc has an empty file here.
        bind(c"/etc/resolv.conf".to_owned(), "etc/resolv.conf", read_only)?;
    }
    for name in DEVICES {
        points.files.push(Path::new("root/dev").join(name));
        // Not NODEV: that would deny the device itself. Read-only is what keeps chmod and chown
        // away from the host's inode; reading and writing the device still works.
        let attr = Attr::RDONLY.and(Attr::NOSUID).and(Attr::NOEXEC);
        bind(cstring("a path", format!("/dev/{name}"))?, &format!("dev/{name}"), attr)?;
    }
    let fixed = |what, at: &str| Ok(Mount { what, at: cstring("a path", at)?, ours: true });
    p.mounts.push(fixed(What::Proc, "proc")?);
    p.mounts.push(fixed(What::Pts, "dev/pts")?);
    for (at, dir) in SCRATCH {
        p.mounts.push(fixed(rooms::scratch(spec, dir)?, at)?);
    }
    rooms::output(p, points, spec)?;
    // Kernel addresses (for anyone on hosts that let perf be used), and the names of the user's keys,
    // which are listed by owner whatever the keyring.
    // Not where programs make jails of their own: the kernel refuses a fresh proc to whoever holds one
    // with something hidden in it.
    let attr = Attr::RDONLY.and(Attr::NOSUID).and(Attr::NOEXEC);
    let masked = if spec.nested_userns { &[][..] } else { &["proc/kallsyms", "proc/keys"] };
    for at in masked {
        p.mounts.push(fixed(What::Bind { source: c"/dev/null".to_owned(), attr, resolved: false }, at)?);
    }

    let links = [
        ("/proc/self/fd", "dev/fd"),
        ("/proc/self/fd/0", "dev/stdin"),
        ("/proc/self/fd/1", "dev/stdout"),
        ("/proc/self/fd/2", "dev/stderr"),
        ("pts/ptmx", "dev/ptmx"),
        ("../run", "var/run"),
    ];
    for (target, at) in links {
        p.links.push((cstring("a path", target)?, cstring("a path", format!("root/{at}"))?));
    }
    for (name, target) in &host.links {
        p.links.push((cpath(target)?, cstring("a path", format!("root/{name}"))?));
    }
    // A rule holds for the directory wherever it is shown: `/tmp`'s for `/var/tmp` as well.
    for (path, right) in [
        ("/", Right::Read),
        ("/tmp", Right::Write),
        ("/home/agent", Right::Write),
        ("/dev", Right::Device),
        ("/dev/shm", Right::Write),
        ("/proc", Right::ExistingFiles),
    ] {
        p.rules.push((cstring("a path", path)?, right));
    }
    p.read_only.extend([c"/".to_owned(), c"/usr".to_owned(), c"/etc".to_owned()]);
    Ok(())
}

/// The caller's tools, before the workspace: that may lie in one of them.
fn tools(p: &mut Plan, points: &mut Points, spec: &Spec) -> Result<(), Error> {
    let attr = Attr::RDONLY.and(Attr::NOSUID).and(Attr::NODEV);
    for tool in &spec.tools {
        points.point(&tool.path, tool.directory)?;
        let source = cpath(&tool.path)?;
        let what = match (spec.ids, tool.owner) {
            (Ids::Range, Some(owner)) => {
                p.mapped.push(Mapped { source, attr, owner, lenient: true, optional: false });
                What::Mapped(p.mapped.len() - 1)
            }
            (Ids::Range, None) | (Ids::Caller { .. }, _) => What::Bind { source, attr, resolved: true },
        };
        p.mounts.push(Mount { what, at: relative(&tool.path)?, ours: false });
        p.read_only.push(cpath(&tool.path)?);
    }
    for hidden in &spec.hidden {
        let what = if hidden.directory {
            points.dir(Path::new(OsStr::from_bytes(EMPTY.to_bytes())));
            What::Void
        } else if hidden.path.extension() == Some(OsStr::new("xml")) {
            p.text(b"<settings/>\n") // Maven does not start with an empty one.
        } else {
            let attr = Attr::RDONLY.and(Attr::NOSUID).and(Attr::NOEXEC);
            What::Bind { source: c"/dev/null".to_owned(), attr, resolved: false }
        };
        p.mounts.push(Mount { what, at: relative(&hidden.path)?, ours: false });
    }
    Ok(())
}

/// Whether a host path can be shown at its own path, also below what is shown of `/usr`.
pub fn can_be_shown(path: &Path) -> bool {
    place(path).is_ok()
}

/// Whether a host path can be shown at its own path: the jail has nothing of its own there.
pub fn has_place(path: &Path) -> bool {
    matches!(place(path), Ok(Some(_)))
}

/// Whether a mount can be made at a host path: the jail has nothing of its own there, or shows the
/// host's directory around it.
pub fn can_show(path: &Path) -> bool {
    place(path).is_ok()
}

/// The workspace at its own path, and `/workspace` as a link to it.
fn workspace(p: &mut Plan, points: &mut Points, spec: &Spec) -> Result<(), Error> {
    let plain = Attr::NOSUID.and(Attr::NODEV);
    if let (Access::Overlay, Some(tree)) = (spec.access, &spec.tree) {
        return overlay(p, points, spec, Layers::of_workspace(spec, tree));
    }
    points.point(&spec.at, true)?;
    let at = relative(&spec.at)?;
    match spec.access {
        Access::Rw => {
            let what = shown(p, spec, &spec.workspace, plain)?;
            p.mounts.push(Mount { what, at, ours: false });
            p.rules.push((cpath(&spec.at)?, Right::Write));
        }
        Access::Ro | Access::Overlay => {
            let what = shown(p, spec, &spec.workspace, plain.and(Attr::RDONLY))?;
            p.mounts.push(Mount { what, at, ours: false });
            veil(p, points, &spec.at)?;
            p.read_only.push(cpath(&spec.at)?);
        }
    }
    Ok(())
}

/// Cover the read-only mount just made at `path`.
fn veil(p: &mut Plan, points: &mut Points, path: &Path) -> Result<(), Error> {
    if p.confinement.without.keeps("ro_overlay") {
        points.dir(Path::new(OsStr::from_bytes(EMPTY.to_bytes())));
        p.mounts.push(Mount { what: What::Veil, at: relative(path)?, ours: false });
    }
    Ok(())
}

/// Links: `/workspace`, and the names that the caller uses for the workspace and the binds. What was
/// made from a shell in a linked directory has that name written in it (CMake caches, shebangs of a
/// virtualenv). A name that is in the way of something else is left out.
fn names(p: &mut Plan, points: &mut Points, spec: &Spec) -> Result<(), Error> {
    let workspace = (Path::new("/workspace"), spec.at.as_path());
    let aliases = spec.aliases.iter().map(|(name, target)| (name.as_path(), target.as_path()));
    for (name, target) in std::iter::once(workspace).chain(aliases) {
        // Not a place of ours, or there with `/usr` or the workspace already.
        let Ok(Some(at)) = place(name) else { continue };
        let taken = |path: &Path| {
            let path = path.as_os_str().as_bytes();
            let link = p.links.iter().any(|(_, l)| l.as_bytes() == path);
            link || points.files.iter().any(|f| f.as_os_str().as_bytes() == path)
        };
        if name.starts_with(target) || points.dirs.contains(at.as_os_str()) || at.ancestors().any(taken) {
            continue;
        }
        points.dir(at.parent().unwrap_or(Path::new("root")));
        p.links.push((cpath(target)?, cpath(&at)?));
    }
    Ok(())
}

/// A host path as it must be shown under this id mapping.
fn shown(p: &mut Plan, spec: &Spec, path: &Path, attr: Attr) -> Result<What, Error> {
    let source = cpath(path)?;
    Ok(match spec.ids {
        Ids::Caller { .. } => What::Bind { source, attr, resolved: true },
        Ids::Range => {
            p.mapped.push(Mapped { source, attr, owner: spec.owner, lenient: false, optional: false });
            What::Mapped(p.mapped.len() - 1)
        }
    })
}

pub(super) fn relative(path: &Path) -> Result<CString, Error> {
    cpath(path.strip_prefix("/").map_err(|_| Error::NotPlain(path.to_owned()))?)
}

/// Arguments, environment and where the program may be.
fn command(p: &mut Plan, spec: &Spec) -> Result<(), Error> {
    p.cwd = cpath(&spec.cwd)?;
    for a in &spec.argv {
        p.argv.push(cstring("an argument", a.as_bytes())?);
    }
    for (k, v) in &spec.env {
        if k.is_empty() || k.as_bytes().contains(&b'=') {
            return Err(Error::Variable(k.clone()));
        }
        let mut pair = k.as_bytes().to_vec();
        pair.push(b'=');
        pair.extend_from_slice(v.as_bytes());
        p.env.push(cstring("a variable", pair)?);
    }
    let Some(program) = spec.argv.first() else { return Ok(()) };
    if program.as_bytes().contains(&b'/') {
        p.programs.push(cpath(Path::new(program))?);
    } else if !program.is_empty() {
        for dir in &spec.search {
            p.programs.push(cpath(&dir.join(program))?);
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
