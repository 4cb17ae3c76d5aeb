//! `aj fs`, `aj cp` and `aj search`: the files of a tree, without a jail.
//!
//! [`Target::read`] opens what its jail sees, while one runs as well; [`Target::edit`] also takes the lock,
//! so that nobody mounts the layers that are about to change. Paths are those of the jail: relative ones
//! begin at the workspace, absolute ones are what they are inside.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use crate::base::id::{Id, Kind};
use crate::base::text;
use crate::jail::spec::{AGENT, RANGE_BASE, RANGE_COUNT};
use crate::monitor::Monitor;
use crate::ops::exec::{self, NotLive, again::last, live, mounts::Mounted};
use crate::ops::{changes, volumes, workspaces};
use crate::schema::files::{FORMAT, Failed, File, FormatVersion, Name};
use crate::schema::jail::bytes64;
use crate::store::again::{self, Taken, User};
use crate::store::layout::StateDir;
use crate::store::workspaces as store;
use crate::store::{Error as StateError, edit, trees, volumes as store_volumes};
use crate::sys::at::{self, FileKind, Meta};
use crate::sys::openat2::{self, For};
use crate::workspace::view::edit::{Owners, Staging};
use crate::workspace::view::resolve::{Last, Place, components};
use crate::workspace::view::{self, At, Dir, Editor, Entry, Spot, Stack, View};

pub mod copy;
mod ignored;
pub mod inside;
mod mounts;
pub mod order;
pub mod read;
pub mod replace;
pub mod search;
pub mod volume;
mod wire;
pub mod write;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Which tree is meant, or what it lies over.
    #[error(transparent)]
    Tree(#[from] changes::Error),
    /// Which workspace is meant.
    #[error(transparent)]
    Workspace(#[from] workspaces::Error),
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// What a workspace lies over is not there any more, and the path is in it.
    #[error("{source}")]
    Baseless {
        /// The workspace.
        title: String,
        /// Why it cannot be had.
        source: Box<changes::Error>,
    },
    /// Something in the tree.
    #[error(transparent)]
    View(#[from] view::Error),
    /// A jail is at work in it, and what is below its mount may not change.
    #[error("a jail is at work in `{0}`")]
    Live(String),
    /// A jail has the volume, or somebody reads in it.
    #[error("`{0}` is in use: a jail that runs has it, or another `aj` reads in it")]
    HasVolume(String),
    /// `aj diff` or another reader has it.
    #[error("`{0}` is in use by another `aj`")]
    InUse(String),
    /// Which volume is meant.
    #[error(transparent)]
    Volume(#[from] volumes::Error),
    /// What was read to be written, or where it was written to on the host.
    #[error("could not {what} `{name}`")]
    Host {
        /// `read`, `write` …
        what: &'static str,
        /// The file of the host's, printable.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what `--if-hash` says.
    #[error("`{path}` is not what it was taken for: its content has the hash {found}")]
    Changed {
        /// The file, printable.
        path: String,
        /// What it has.
        found: String,
    },
    /// What was asked for cannot be.
    #[error("{0}")]
    Asked(String),
    /// The jail that is at work in it cannot be asked.
    #[error(transparent)]
    NotLive(#[from] NotLive),
    /// Whether one is cannot be told.
    #[error(transparent)]
    Jail(Box<exec::Error>),
    /// A jail is at work in it, and holds in its memory what it writes.
    #[error("what is written in `{0}` is in the memory of its jail until that ends (storage memory)")]
    InMemory(String),
    /// It is mounted so that nobody writes there.
    #[error("`{0}` is mounted read-only in the workspace (EROFS)")]
    ReadOnly(String),
    /// It is the host's.
    #[error("`{0}` is the host's own, and mounted in the workspace")]
    OnHost(String),
    /// Something is mounted there.
    #[error("`{0}` is, or holds, what something is mounted on in the workspace (EBUSY)")]
    Mounted(String),
    /// It does not say what it did.
    #[error("whether the jail of workspace `{title}` has done it is not known: {why}")]
    Unsure {
        /// The workspace.
        title: String,
        /// Why.
        why: &'static str,
    },
    /// It has not done it.
    #[error("the jail of workspace `{title}` has not done it: {why}")]
    Undone {
        /// The workspace.
        title: String,
        /// Why.
        why: String,
    },
}

impl Error {
    /// What is said of a workspace whose directory is not there.
    fn of_workspace(self, title: &str) -> Error {
        match self {
            Error::Tree(source) if source.of_base().is_some() && !title.starts_with("jl-") => {
                Error::Baseless { title: title.to_owned(), source: Box::new(source) }
            }
            e => e,
        }
    }
}

/// Answers of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// A tree, opened.
#[derive(Debug)]
pub struct Target {
    /// The id of the workspace, or of the jail that made the tree.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// A jail is at work in it.
    pub running: bool,
    view: View,
    /// Whose things are in each place of the view.
    owners: Vec<Owners>,
    /// Volumes among them.
    volumes: mounts::Volumes,
    /// Why the directory that it lies over is not in the view: only what the workspace has beside it is.
    without: Option<changes::Error>,
    /// Keeps it from being removed or mounted meanwhile.
    _held: Held,
}

#[derive(Debug)]
enum Held {
    Read(#[expect(dead_code, reason = "held")] changes::Tree),
    Edit(trees::Tree),
    ReadVolume(#[expect(dead_code, reason = "held")] store_volumes::Held),
    EditVolume(store_volumes::Held),
    /// In the jail: it is there as long as we are.
    Inside,
}

impl Target {
    /// Open the tree that `word` means: a workspace, or a jail whose changes are kept; or `vol:NAME`.
    pub fn read(word: &OsStr, monitor: &dyn Monitor) -> Result<Target> {
        if let Some(volume) = volume::named(word) {
            return volume::read(volume);
        }
        let meant = Meant::by(word, monitor)?;
        let (target, in_memory) = Target::look(meant, Base::Wanted)?;
        if in_memory {
            return Err(Error::InMemory(target.title.clone()));
        }
        Ok(target)
    }

    /// The same for whoever needs to know only where everything is. Whether what is in it is not to be seen now.
    fn look(meant: Meant, base: Base) -> Result<(Target, bool)> {
        let tree = changes::open_tree(meant.id)?;
        let workspace = tree.running && meant.id.kind() == Kind::Workspace;
        let seen = if workspace { live::mounts(&meant.state, meant.id) } else { None };
        let in_memory = tree.in_memory;
        let (name, running) = (tree.id.to_string(), tree.running);
        let title = meant.title;
        let seen = view_of(&tree, seen, base).map_err(|e| e.of_workspace(&title))?;
        let Seen { view, owners, volumes, without } = seen;
        let held = Held::Read(tree);
        Ok((Target { name, title, running, view, owners, volumes, without, _held: held }, in_memory))
    }

    /// The same to change it. With the empty directory in which new things are made.
    pub fn edit(word: &OsStr, monitor: &dyn Monitor) -> Result<(Target, Staging)> {
        if let Some(volume) = volume::named(word) {
            return volume::edit(volume);
        }
        let Meant { state, id, title, over } = Meant::by(word, monitor)?;
        if over {
            return Err(workspaces::Error::Expired(title).into());
        }
        let tree = match again::take(&state, id)? {
            Taken::Tree(tree) => tree,
            Taken::Gone => return Err(changes::Error::NothingKept(id.to_string()).into()),
            Taken::By(User::Run) => return Err(Error::Live(title)),
            Taken::By(User::Reader) => return Err(Error::InUse(title)),
        };
        let described = changes::tree_of_run_in(&state, &tree)?;
        let seen = view_of(&described, None, Base::Needed).map_err(|e| e.of_workspace(&title))?;
        let Seen { view, owners, volumes, without } = seen;
        let staging =
            edit::begin(&tree, |run| last(&state, run))?.ok_or_else(|| Error::Live(title.clone()))?;
        let staging = Staging::Apart(staging);
        let name = id.to_string();
        let held = Held::Edit(tree);
        Ok((Target { name, title, running: false, view, owners, volumes, without, _held: held }, staging))
    }

    /// Where it lies itself, when it is being changed.
    fn directory(&self) -> Result<Option<Meta>> {
        match &self._held {
            Held::Read(_) | Held::Inside => Ok(None),
            Held::Edit(tree) => Ok(Some(at::fstat(tree).map_err(view::Error::sys("look at", b"."))?)),
            Held::ReadVolume(_) => Ok(None),
            Held::EditVolume(held) => {
                Ok(Some(at::fstat(held.dir()).map_err(view::Error::sys("look at", b"."))?))
            }
        }
    }

    /// The place of the view that `spot` is in.
    fn stack(&self, spot: &Spot) -> &Stack {
        &self.view.places[spot.place].stack
    }

    /// Find what `path` names and what is there. Following the last link or not.
    fn find(&self, path: &OsStr, last: Last) -> Result<Spot> {
        let Some(source) = self.without.as_ref().and_then(changes::Error::of_base) else {
            return Ok(self.view.find(path.as_bytes(), last)?);
        };
        let beside = path.as_bytes().starts_with(b"/").then(|| self.view.find(path.as_bytes(), last));
        match beside {
            None | Some(Err(view::Error::Elsewhere(_))) => {
                Err(Error::Baseless { title: self.title.clone(), source: Box::new(source) })
            }
            Some(found) => Ok(found?),
        }
    }

    /// One who changes the place that `spot` is in.
    fn editor<'a>(&'a self, place: usize, staging: &Staging) -> Result<Editor<'a>> {
        let staging = self.staging(place, staging)?;
        Ok(Editor::new(&self.view.places[place].stack, staging, self.owners[place]))
    }

    /// What is at a path, as it is shown. `meta` in the layer `layer` of place `place`.
    fn file(&self, place: usize, path: &[u8], entry: &Entry, target: Option<&[u8]>) -> File {
        let meta = &entry.meta;
        let of = &self.view.places[place];
        let host = of.mount.as_ref().is_some_and(|mount| mount.host);
        let bottom = host || entry.layer + 1 == of.stack.depth() && entry.layer > 0;
        let (uid, gid) = self.inside(place, meta, bottom);
        let link = target.map(name);
        File {
            name: name(path),
            kind: kind(meta),
            size: if meta.kind == FileKind::File { meta.size } else { 0 },
            allocated: meta.allocated,
            mode: format!("{:04o}", meta.mode),
            uid,
            gid,
            links: meta.nlink,
            modified_at: crate::base::clock::rfc3339_exact(meta.mtime.sec, meta.mtime.nsec),
            target_base64: link.as_ref().and_then(|l| l.path_base64.clone()),
            target: link.map(|l| l.path),
            own: entry.layer == 0,
        }
    }

    /// Ids as the jail's user sees them.
    fn inside(&self, place: usize, meta: &Meta, bottom: bool) -> (u32, u32) {
        const NOBODY: u32 = 65_534;
        let owners = &self.owners[place];
        let range = |id: u32| id.checked_sub(RANGE_BASE).filter(|id| *id < RANGE_COUNT).unwrap_or(NOBODY);
        let own = |id: u32, mine: u32, jail: u32| if id == mine { jail } else { NOBODY };
        match owners.jail {
            Some(_) if !bottom => (range(meta.uid), range(meta.gid)),
            Some((uid, gid)) => {
                (own(meta.uid, owners.bottom.0, range(uid)), own(meta.gid, owners.bottom.1, range(gid)))
            }
            None => (own(meta.uid, owners.bottom.0, AGENT), own(meta.gid, owners.bottom.1, AGENT)),
        }
    }
}

/// What a word means.
struct Meant {
    state: StateDir,
    id: Id,
    title: String,
    /// Its time is up.
    over: bool,
}

impl Meant {
    fn is_jail(word: &OsStr) -> bool {
        let start = word.as_bytes().get(..3).unwrap_or_default();
        word == "@" || word == "latest" || start.eq_ignore_ascii_case(b"jl-")
    }

    /// As for `aj exec`: `@` and `jl-…` are jails, everything else is a workspace.
    fn by(word: &OsStr, monitor: &dyn Monitor) -> Result<Meant> {
        if !Meant::is_jail(word) {
            let found = workspaces::find(Some(word))?;
            let (id, title) = (found.id(), found.name().to_string());
            let over = workspaces::life::is_over(&found.filed.record);
            return Ok(Meant { id, title, over, state: found.state });
        }
        let not_found = || changes::Error::NotFound(text::os(word));
        let state = StateDir::open_if_present()?.ok_or_else(not_found)?;
        let (_, id) = changes::selected(&state, word, monitor)?;
        Ok(Meant { state, id, title: id.to_string(), over: false })
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // What is left of it is removed by the next one who changes something, or with the tree.
        match &self._held {
            Held::Edit(tree) => drop(edit::end(tree)),
            Held::EditVolume(held) => drop(held.unstage()),
            Held::Read(_) | Held::ReadVolume(_) | Held::Inside => {}
        }
    }
}

/// Whether a tree can be looked at without the directory that it lies over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base {
    /// It can: what a workspace has beside it does not depend on it.
    Wanted,
    /// It cannot.
    Needed,
}

/// What is seen of a tree.
struct Seen {
    view: View,
    owners: Vec<Owners>,
    volumes: mounts::Volumes,
    without: Option<changes::Error>,
}

/// In the place of what a workspace lies over: seen nowhere, because no component of a path is called so.
fn stand_in(dir: &OwnedFd) -> Result<Place> {
    let dir = openat2::beneath(dir, b".", For::Listing).map_err(view::Error::sys("open", b"."))?;
    Ok(Place { at: vec![b"/".to_vec()], stack: Stack::plain(dir), mount: None })
}

/// What is seen of a tree, by whoever has looked at its live jail.
fn view_of(tree: &changes::Tree, seen: Option<Vec<Mounted>>, base: Base) -> Result<Seen> {
    let mut places = Vec::new();
    let mut owners = Vec::new();
    let workspace = vec![b"workspace".to_vec()];
    let look = |fd: &OwnedFd| {
        let meta = at::fstat(fd).map_err(view::Error::sys("look at", b""))?;
        Ok::<_, Error>((meta.uid, meta.gid))
    };
    let caller = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let (mut beside, mut found) = (None, None);
    let (opened, without) = match tree.opened() {
        Err(e) if base == Base::Wanted && e.of_base().is_some() && tree.id.kind() == Kind::Workspace => {
            let dir = openat2::parent(&tree.upper, For::Listing).map_err(view::Error::sys("open", b"."))?;
            places.push(stand_in(&dir)?);
            owners.push(Owners { jail: None, bottom: caller });
            beside = Some(dir);
            (Vec::new(), Some(e))
        }
        opened => (opened?, None),
    };
    for opened in opened {
        owners.push(if at::is_root() {
            Owners { jail: Some(look(&opened.upper)?), bottom: look(&opened.base)? }
        } else {
            Owners { jail: None, bottom: caller }
        });
        let first = places.is_empty();
        if first {
            beside = openat2::parent(&opened.upper, For::Listing).ok();
        }
        let at = match &tree.seen_at {
            Some(at) if first => components(at.as_os_str().as_bytes()).collect(),
            None if tree.homeless && first => workspace.clone(),
            _ => components(opened.at.as_os_str().as_bytes()).collect(),
        };
        places.push(Place {
            at,
            stack: Stack::overlay(opened.upper, opened.sealed, opened.base),
            mount: None,
        });
    }
    // What a workspace has beside its tree: directories that are bound as they are, or, once it stands on
    // layers, overlays of what each has of them.
    if let Some(beside) = beside.filter(|_| tree.id.kind() == Kind::Workspace) {
        let state = StateDir::open()?;
        let filed = store::Filed::read(&state, tree.id).map_err(workspaces::Error::from)?;
        let layers = filed.as_ref().map(|filed| filed.record.layers.clone()).unwrap_or_default();
        for (room, at) in [(c"home", &b"/home/agent"[..]), (c"output", b"/output")] {
            let Ok(dir) = openat2::beneath(&beside, room.to_bytes(), For::Listing) else { continue };
            let jail = if at::is_root() { Some(look(&dir)?) } else { None };
            let mut sealed = store::open_layers(&state, &layers, room)?;
            // The oldest lies over nothing, and belongs to the same as the others.
            let (stack, bottom) = match sealed.pop() {
                Some(oldest) => (Stack::overlay(dir, sealed, oldest), jail.unwrap_or(caller)),
                None => (Stack::plain(dir), caller),
            };
            owners.push(Owners { jail, bottom });
            places.push(Place { at: components(at).collect(), stack, mount: None });
        }
        found = filed.map(|filed| workspaces::Found { state, filed });
    }
    let mut volumes = mounts::Volumes::default();
    if let Some(found) = found {
        let mounted = mounts::of(&found, (tree, seen));
        volumes = mounts::add((&found.state, mounted), (&mut places, &mut owners))?;
    }
    let elsewhere = places
        .first()
        .filter(|place| without.is_none() && place.at != workspace)
        .map(|place| place.at.clone());
    let aliases = elsewhere.map(|at| (workspace, at)).into_iter().collect();
    Ok(Seen { view: View { places, aliases }, owners, volumes, without })
}

/// A path as it is shown in JSON.
pub(crate) fn name(path: &[u8]) -> Name {
    let shown = text::printable(path);
    let base64 = (shown.as_bytes() != path).then(|| bytes64::encode(path));
    Name { path: shown, path_base64: base64 }
}

fn kind(meta: &Meta) -> &'static str {
    match meta.kind {
        FileKind::File => "file",
        FileKind::Dir => "directory",
        FileKind::Symlink => "symlink",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
        FileKind::Char(..) | FileKind::Block => "device",
        FileKind::Other => "unknown",
    }
}

fn failed(path: &[u8], reason: impl std::fmt::Display) -> Failed {
    Failed { name: name(path), reason: reason.to_string() }
}

/// Why a call failed, for a line about the entry.
pub(super) fn why(e: &crate::sys::Error) -> String {
    use nix::errno::Errno;
    match e.errno {
        Errno::EXDEV => "another file system is mounted there".to_owned(),
        Errno::ESTALE | Errno::ELOOP => "became something else meanwhile".to_owned(),
        errno => format!("{} ({})", errno.desc(), e.name()),
    }
}

fn format() -> FormatVersion {
    FORMAT
}

/// The directory that a spot is, if it is one.
fn directory(target: &Target, spot: &Spot, given: &OsStr) -> Result<(Dir, Vec<u8>)> {
    let shown = target.view.shown(spot);
    let stack = target.stack(spot);
    let read = |e| view::Error::sys("read", given.as_bytes())(e);
    match &spot.at {
        At::Top(dir) => Ok((dir.again().map_err(read)?, shown)),
        At::In { entry: None, .. } => Err(view::Error::Missing(given.as_bytes().to_vec()).into()),
        At::In { parent, entry: Some(entry) } if entry.meta.kind == FileKind::Dir => {
            let name = view::split(&spot.path).1;
            let dir = parent.enter(stack, name).map_err(read)?;
            Ok((dir, shown))
        }
        At::In { .. } => Err(view::Error::NotDir(given.as_bytes().to_vec()).into()),
    }
}
