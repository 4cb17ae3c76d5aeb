//! Changing a tree in which a jail is at work: its jail is asked to.
//!
//! What lies below a mounted overlay must not change, so that it is changed through the mount: by a process of
//! ours in the jail (`jail::hands`), with the jail's rights and no more. It sees the places of the tree as plain
//! directories, and goes about it as we do here.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};

use super::copy::{Holes, Options, Sum, into, stream};
use super::order::{Answer, Given, Hands, Order, Sent};
use super::wire::Fail;
use super::{Base, Error, Held, Meant, Result, Target};
use crate::base::id::{Id, Kind};
use crate::jail::cwd::unlock_workspace;
use crate::jail::join::Live;
use crate::monitor::{Monitor, Silent};
use crate::ops::exec::{self, NotLive, live};
use crate::ops::inside::{self, Asked};
use crate::ops::workspaces;
use crate::schema::files::Copied;
use crate::store::layout::StateDir;
use crate::store::lock;
use crate::sys::at;
use crate::sys::openat2::{self, For};
use crate::workspace::view::edit::{Owners, Staging};
use crate::workspace::view::resolve::{Components, Mount, Place};
use crate::workspace::view::{self, Stack, View, Walk};

/// How long a jail that starts or ends is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a jail is told: what to do, and where.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::ops) struct Told {
    /// The id of the workspace.
    name: String,
    /// Where its places are, and what is mounted there.
    places: Vec<(Components, Option<Mount>)>,
    aliases: Vec<(Components, Components)>,
    order: Order,
}

/// A jail that can be asked.
pub(super) struct Jail {
    live: Live,
    state: StateDir,
    id: Id,
    target: Target,
    /// Of those that ask, one at a time, as of those that change a tree here.
    _turn: File,
}

/// Have the tree that `word` means changed by `f`, which is called once more when the jail it was to ask had
/// ended before: `None`.
pub(super) fn change<T>(
    word: &OsStr,
    monitor: &dyn Monitor,
    mut f: impl FnMut(Hands) -> Result<Option<T>>,
) -> Result<T> {
    let until = Instant::now() + PATIENCE;
    if is_workspace(word) {
        workspaces::isolated::note_use(&workspaces::find(Some(word))?)?;
    }
    loop {
        // First: who has the lock of a tree is waited for.
        if let Some(jail) = find(word, monitor)?
            && let Some(done) = f(Hands::Jail(jail))?
        {
            return Ok(done);
        }
        let busy = match Target::edit(word, monitor) {
            Ok((target, staging)) => match f(Hands::Ours(target, staging))? {
                Some(done) => return Ok(done),
                None => Error::Live(crate::base::text::os(word)),
            },
            Err(busy @ Error::Live(_)) => busy,
            Err(e) => return Err(e),
        };
        // One that ends puts its tree in order; one that starts does not listen yet.
        if !is_workspace(word) || Instant::now() >= until {
            return Err(busy);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_workspace(word: &OsStr) -> bool {
    super::volume::named(word).is_none() && !Meant::is_jail(word)
}

/// The live jail of the workspace that `word` means, if there is one.
fn find(word: &OsStr, monitor: &dyn Monitor) -> Result<Option<Jail>> {
    if !is_workspace(word) {
        return Ok(None);
    }
    let meant = Meant::by(word, monitor)?;
    let (id, title, over) = (meant.id, meant.title.clone(), meant.over);
    let state = StateDir::open()?;
    if over || id.kind() != Kind::Workspace {
        return Ok(None);
    }
    let failed = |e: exec::Error| match e {
        exec::Error::NotLive(e) => Error::NotLive(e),
        e => Error::Jail(Box::new(e)),
    };
    let dir = live::dir(&state, id).map_err(failed)?;
    let Some(live) = live::find(&state, id, &dir, &title).map_err(failed)? else { return Ok(None) };
    let turn = turn(&state, id, &dir)?.ok_or_else(|| Error::InUse(title.clone()))?;
    // What is in it is for the jail to see.
    let (target, _) = Target::look(meant, Base::Needed)?;
    Ok(Some(Jail { live, state, id, target, _turn: turn }))
}

/// The turn among those that ask; `None`: it is somebody else's.
fn turn(state: &StateDir, id: Id, dir: &File) -> Result<Option<File>> {
    const NAME: &str = "edit.lock";
    let path = crate::store::workspaces::dir_of(state, id).join(NAME);
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let file = nix::fcntl::openat(dir, NAME, flags, Mode::S_IRUSR | Mode::S_IWUSR);
    let failed =
        |e| crate::store::Error::Sys(crate::sys::Error::new("open", crate::base::text::os(&path), e));
    let file = File::from(file.map_err(failed)?);
    match lock::acquire(&file, lock::Mode::Exclusive, Duration::ZERO, &path) {
        Ok(()) => Ok(Some(file)),
        Err(crate::store::Error::Busy { .. }) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

impl Jail {
    /// Have it carried out; `None`: the jail had ended before.
    pub(super) fn carry_out(self, order: &Order, data: &mut dyn Read) -> Result<Option<Answer>> {
        let Jail { live, state, id, target, _turn } = self;
        let at = |place: &Place| (place.at.clone(), place.mount.clone());
        let told = ToldOf {
            name: &target.name,
            places: target.view.places.iter().map(at).collect(),
            aliases: &target.view.aliases,
            order,
        };
        let bytes = serde_json::to_vec(&told).map_err(|e| Error::Asked(e.to_string()))?;
        let title = || target.title.clone();
        let paused = || live::is_paused(&state, id);
        let undone = |why: &str| Error::Undone { title: title(), why: why.to_owned() };
        // Without anything to wait for it is done at once.
        let (data, whole) = match order {
            Order::Write { .. } | Order::Copy { what: Sent::Stream, .. } => (Some(data), true),
            Order::Copy { .. } => (Some(data), false),
            Order::Mkdir { .. } | Order::Remove { .. } | Order::Rename { .. } | Order::Replace { .. } => {
                (None, false)
            }
        };
        match inside::ask(live, inside::Kind::Files, &bytes, data, &paused) {
            Ok(Asked::Answer(bytes)) => {
                match serde_json::from_slice::<std::result::Result<Answer, Fail>>(&bytes) {
                    Ok(answer) => answer.map(Some).map_err(Error::from),
                    Err(_) => Err(Error::Unsure { title: title(), why: "its answer cannot be read" }),
                }
            }
            Ok(Asked::Gone) => Ok(None),
            Ok(Asked::Busy(commands)) => Err(NotLive::Busy { name: title(), commands }.into()),
            Ok(Asked::Refused(errno)) => Err(NotLive::Refused { name: title(), errno }.into()),
            Ok(Asked::Source(source)) => {
                Err(Error::Host { what: "read what is to be in", name: name_of(order), source })
            }
            Ok(Asked::Lost { all_sent: false, why }) if whole => Err(undone(why)),
            Ok(Asked::Lost { why, .. }) => Err(Error::Unsure { title: title(), why }),
            Err(e) => Err(undone(&e.to_string())),
        }
    }
}

/// The file that an order is about, printable.
fn name_of(order: &Order) -> String {
    match order {
        Order::Write { path, .. } => crate::base::text::os(path),
        Order::Copy { .. } => "-".to_owned(),
        Order::Mkdir { .. } | Order::Remove { .. } | Order::Rename { .. } | Order::Replace { .. } => {
            String::new()
        }
    }
}

/// [`Told`], of what others have.
#[derive(Serialize)]
struct ToldOf<'a> {
    name: &'a str,
    places: Vec<(Components, Option<Mount>)>,
    aliases: &'a [(Components, Components)],
    order: &'a Order,
}

/// In the jail: do what is told, and say what came of it.
pub(in crate::ops) fn carry_out(told: &[u8], data: &mut dyn Read) -> Vec<u8> {
    let done = match serde_json::from_slice::<Told>(told) {
        Ok(told) => open(&told).and_then(|target| {
            // No name that anything has; the id says whose it is, should it be left there.
            let start = Id::random(Kind::Jail).map_err(|e| Error::Asked(e.to_string()))?;
            told.order.run((&target, &Staging::Beside(format!(".aj-{start}"))), data, &Silent)
        }),
        Err(e) => Err(Error::Asked(e.to_string())),
    };
    serde_json::to_vec(&done.map_err(Fail::from)).unwrap_or_default()
}

fn open(told: &Told) -> Result<Target> {
    let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let mut places = Vec::new();
    for (n, (at, mount)) in told.places.iter().enumerate() {
        let path: Vec<u8> = at.iter().flat_map(|c| [b"/", c.as_slice()].concat()).collect();
        if n == 0 {
            unlock_workspace();
        }
        match openat2::absolute(&path, For::Listing) {
            Ok(dir) => places.push(Place { at: at.clone(), stack: Stack::plain(dir), mount: mount.clone() }),
            Err(e) if n == 0 => return Err(view::Error::sys("open", &path)(e).into()),
            // A part that this jail does not show: what is said to lie there lies elsewhere.
            Err(_) => {}
        }
    }
    let owners = places.iter().map(|_| Owners { jail: None, bottom: own }).collect();
    let (name, aliases) = (told.name.clone(), told.aliases.clone());
    let view = View { places, aliases };
    Ok(Target {
        title: name.clone(),
        name,
        running: true,
        view,
        owners,
        volumes: super::mounts::Volumes::default(),
        without: None,
        _held: Held::Inside,
    })
}

/// `aj cp` of the host's `from` to `to` in the tree that `word` means.
pub fn copy(
    word: &OsStr,
    (from, to): (&std::path::Path, &OsStr),
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Copied> {
    change(word, monitor, |hands| match hands {
        Hands::Ours(target, staging) => {
            into::copy_in((&target, &staging), (from, to), options, monitor).map(Some)
        }
        Hands::Jail(jail) => copy_into(jail, (from, to), options, monitor),
    })
}

fn copy_into(
    jail: Jail,
    (from, to): (&std::path::Path, &OsStr),
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Option<Copied>> {
    let (opened, meta, mut source) = into::look(from)?;
    let read = |e: crate::sys::Error| Error::Host {
        what: "read",
        name: crate::base::text::os(from),
        source: std::io::Error::from(e.errno),
    };
    let holes = Holes::of(&opened).map_err(read)?;
    source.sparse = holes.as_ref().map(Holes::size);
    if source.directory && !options.recursive {
        return Err(into::needs_recursive(from));
    }
    let given = Given { no_clobber: options.no_clobber, mode: options.mode, exclude: Vec::new() };
    let order = Order::Copy { to: to.to_owned(), what: Sent::Host(source), options: given };
    monitor.phase("copying", 0);
    let copied = |answer| match answer {
        Some(Answer::Copied(copied)) => Ok(Some(copied)),
        Some(Answer::Done(_) | Answer::Replaced(_)) => Err(Error::Asked("it did something else".to_owned())),
        None => Ok(None),
    };
    if !meta.is_dir() {
        return copied(match &holes {
            Some(holes) => jail.carry_out(&order, &mut holes.sending(&opened))?,
            None => jail.carry_out(&order, &mut &opened)?,
        });
    }
    let own = jail.target.directory_of(&jail.state, jail.id)?;
    let mut sum = Sum::new(&jail.target, "in");
    let (read, write) = crate::sys::fd::pipe().map_err(view::Error::sys("make", b"a pipe"))?;
    // Packed by a thread of ours: what is sent is read from a pipe.
    let answer = std::thread::scope(|scope| {
        let (sum, options) = (&mut sum, options.exact()?);
        let packing = scope.spawn(move || pack(opened.into(), write, &options, sum, own));
        let answer = jail.carry_out(&order, &mut File::from(read));
        let packed = packing.join().unwrap_or(Ok(()));
        answer.and_then(|answer| packed.map(|()| answer))
    });
    let done = copied(answer?)?;
    Ok(done.map(|mut done| {
        done.skipped.append(&mut sum.0.skipped);
        done.failed.append(&mut sum.0.failed);
        done.truncated += sum.0.truncated;
        done
    }))
}

/// Write what is in a directory of the host's to a pipe.
fn pack(dir: OwnedFd, to: OwnedFd, options: &Options, sum: &mut Sum, own: Option<at::Meta>) -> Result<()> {
    let failed = |e: crate::sys::Error| Error::from(view::Error::sys("read", b".")(e));
    let stack = Stack::plain(dir);
    let mut walk = stack.root().and_then(|root| Walk::new(&stack, &root)).map_err(failed)?;
    let turns = |walk: &Walk<'_>| own.as_ref().is_some_and(|own| walk.is_in(own));
    let mut out = std::io::BufWriter::with_capacity(128 << 10, File::from(to));
    match stream::pack(&mut walk, b"", (&mut out, options), sum, (&Silent, &turns)) {
        // Who reads has said why.
        Ok(()) | Err(stream::Broken::Stream(_)) => Ok(()),
        Err(stream::Broken::Directory(e)) => Err(failed(e)),
    }
}

impl Target {
    /// Where the tree of a workspace lies.
    fn directory_of(&self, state: &StateDir, id: Id) -> Result<Option<at::Meta>> {
        let tree = crate::store::trees::open_tree(state, id)?;
        Ok(tree.and_then(|tree| at::fstat(&tree).ok()))
    }
}
