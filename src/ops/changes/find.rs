//! Which tree is meant, and which paths in it: the arguments of `aj diff` and `aj apply`.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use super::{Error, Part, Tree};
use super::{paths, workspace};
use crate::base::id::{Id, Kind};
use crate::base::text;
use crate::monitor::Monitor;
use crate::ops::exec::live;
use crate::ops::ledger::{CANDIDATES, MIN_DIGITS, StateError, prefix};
use crate::ops::project;
use crate::schema::ledger::Status;
use crate::store::began::Began;
use crate::store::kept::Kept;
use crate::store::layout::StateDir;
use crate::store::{ledger, sides, trees, workspaces};
use crate::sys;
use crate::sys::at::{self, Stamp};

/// What arguments mean.
#[derive(Debug)]
pub struct Chosen {
    /// The tree.
    pub tree: Tree,
    /// Paths below its base to keep to; empty: all.
    pub only: Vec<Vec<u8>>,
    /// The same as they were given.
    pub paths: Vec<OsString>,
    /// The current directory below the base, where it is in it: paths are shown from there.
    pub here: Vec<u8>,
}

/// Which directory a tree is compared with.
#[derive(Debug, Clone, Copy)]
pub enum To<'a> {
    /// The one that it lies over.
    Base,
    /// The same, or the one that this is a copy of.
    Home,
    /// Another one; only for a tree that has none on the host.
    Dir(&'a Path),
}

/// The tree and the paths that `arguments` mean: a jail or a workspace first, if the first word is one,
/// then paths. Both for the state directory and the current directory of the caller. `to`: what it is compared
/// with, and brought into.
///
/// A word that begins with `ws-`, or is the name of a workspace, is that. Where it could be a path of the
/// newest tree as well, nobody guesses.
/// `@` is the newest kept of this project, as in `aj exec @`; a word that begins with `jl-` is an id or the
/// start of one; another word is a path where there is such a path, and an id otherwise. Without a
/// jail the newest tree over the current directory or a directory above it is meant, whether its
/// jail has ended or not: what is meant must not depend on how fast a jail is.
pub fn choose(arguments: &[OsString], to: To<'_>, monitor: &dyn Monitor) -> Result<Chosen, Error> {
    let cwd = std::env::current_dir();
    let state = StateDir::open_if_present()?;
    let chosen = choose_in(state.as_ref(), (cwd, to), arguments, monitor)?;
    if let Some(said) = state.and_then(|state| lost(&state, chosen.tree.id, monitor)) {
        monitor.warn(&said);
    }
    if chosen.tree.clock_set_back && chosen.tree.elsewhere.is_none() {
        let id = chosen.tree.id;
        monitor.warn(&format!(
            "the clock was set back since `{id}` started: what the host changed since then is told from what it \
             had changed before only in part, so more of it counts as changed"
        ));
    }
    Ok(chosen)
}

/// A line for a run that was killed before it could bring what it changed to disk: "no changes" alone would
/// say that it made none.
fn lost(state: &StateDir, id: Id, monitor: &dyn Monitor) -> Option<String> {
    if !trees::open_tree(state, id).ok()??.is_unchanged().ok()? {
        return None;
    }
    let run = ledger::read(state, monitor, |l| l.get(id.as_str())).ok()??;
    let storage = run.start.filter(|_| run.row.status == Status::Lost)?.policy.storage;
    let place = match storage.as_str() {
        "memory" => "in memory",
        "copy" => "in a private copy",
        _ => return None,
    };
    Some(format!("aj was killed while `{id}` ran: what that changed was {place} until its end, and is lost"))
}

/// The tree of one jail.
pub fn open_tree(id: Id) -> Result<Tree, Error> {
    let none = || Error::NothingKept(id.to_string());
    let state = StateDir::open_if_present()?.ok_or_else(none)?;
    open(&state, id)?.ok_or_else(none)
}

/// The tree of a run that still holds it.
pub fn tree_of_run(tree: &trees::Tree) -> Result<Tree, Error> {
    describe(tree).map_err(|source| Error::Damaged { id: tree.id().to_string(), source })
}

/// The same with the sealed layers of a workspace.
pub fn tree_of_run_in(state: &StateDir, tree: &trees::Tree) -> Result<Tree, Error> {
    let damaged = |source| Error::Damaged { id: tree.id().to_string(), source };
    workspace::with_layers(state, tree_of_run(tree)?).map_err(damaged)
}

/// What the first argument may mean.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// A jail: `@`, or the start of an id.
    Jail(String),
    /// A path where there is one, the start of an id (or nothing) otherwise.
    Either(Option<String>),
    /// A path.
    Path,
}

impl Word {
    pub(super) fn of(word: &OsStr) -> Word {
        let Some(text) = word.to_str() else { return Word::Path };
        let kind = Kind::Jail.prefix();
        let says_jail = text.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind));
        match prefix(text) {
            Some(id) if says_jail || text == "@" => Word::Jail(id),
            // Fewer digits than people are ever shown are more likely a path that is not there.
            Some(id) if id == "@" || id.len() >= kind.len() + MIN_DIGITS => Word::Either(Some(id)),
            None if says_jail && !text.contains('/') => Word::Either(None),
            Some(_) | None => Word::Path,
        }
    }
}

pub(super) fn choose_in(
    state: Option<&StateDir>,
    (cwd, to): (io::Result<PathBuf>, To<'_>),
    arguments: &[OsString],
    monitor: &dyn Monitor,
) -> Result<Chosen, Error> {
    let keep_to = |tree, cwd: Option<&Path>, paths: &[OsString]| keep_to(tree, (cwd, to), paths);
    let (word, rest) = match arguments.split_first() {
        Some((first, rest)) => (Some((first, Word::of(first))), rest),
        None => (None, arguments),
    };
    if let Some((first, Word::Jail(id))) = &word {
        let tree = named(state, first, Some(id), &cwd, monitor)?;
        return keep_to(tree, cwd.ok().as_deref(), rest);
    }
    let cwd = match cwd {
        Ok(cwd) => cwd,
        // A workspace that is named needs none, and there is no path here that the word could be.
        Err(why) => {
            let id = match (state, &word) {
                (Some(state), Some((first, _))) => workspace::named(state, first)?.map(|id| (state, id)),
                _ => None,
            };
            let (state, id) = id.ok_or(Error::CurrentDir { why })?;
            let tree = open(state, id)?.ok_or_else(|| Error::NothingKept(id.to_string()))?;
            return keep_to(tree, None, rest);
        }
    };
    let at = Ok(cwd.clone());
    let over = match state {
        Some(state) => newest_over(state, &cwd, monitor)?,
        None => None,
    };
    if let (Some(state), Some((first, _))) = (state, &word)
        && let Some(id) = workspace::named(state, first)?
    {
        let is_path = || over.as_ref().is_some_and(|t| paths::check(t, Some(&cwd), &arguments[..1]).is_ok());
        if !workspace::is_id(first) && is_path() {
            return Err(Error::Both { word: text::os(first), id: id.to_string() });
        }
        let tree = open(state, id)?.ok_or_else(|| Error::NothingKept(id.to_string()))?;
        return keep_to(tree, Some(&cwd), rest);
    }
    if let Some((first, Word::Either(id))) = &word {
        let is_path = match &over {
            Some(tree) => paths::check(tree, Some(&cwd), &arguments[..1]).is_ok(),
            None => std::fs::symlink_metadata(cwd.join(first)).is_ok(),
        };
        if !is_path {
            return match named(state, first, id.as_deref(), &at, monitor) {
                Err(Error::NotFound(word)) => Err(Error::Neither { word, base: text::os(&cwd) }),
                tree => keep_to(tree?, Some(&cwd), rest),
            };
        }
    }
    let tree = match (over, state) {
        (None, Some(state)) => workspace::over(state, &cwd)?,
        (over, _) => over,
    };
    keep_to(tree.ok_or_else(|| Error::NoTree(text::os(&cwd)))?, Some(&cwd), arguments)
}

fn keep_to(tree: Tree, (cwd, to): (Option<&Path>, To<'_>), paths: &[OsString]) -> Result<Chosen, Error> {
    let tree = match to {
        To::Dir(to) => workspace::over_dir(tree, to)?,
        To::Home => match tree.imported.clone() {
            Some(from) => workspace::over_dir(tree, &from)?,
            None => tree,
        },
        To::Base => tree,
    };
    let only = paths::check(&tree, cwd, paths)?;
    let here = paths::below(&tree.base, cwd);
    Ok(Chosen { tree, only, paths: paths.to_vec(), here })
}

/// The tree of the one jail whose id begins with `id`, as `aj jail show` finds it; of `@`, the newest of
/// the project that `cwd` is in.
fn named(
    state: Option<&StateDir>,
    word: &OsStr,
    id: Option<&str>,
    cwd: &io::Result<PathBuf>,
    monitor: &dyn Monitor,
) -> Result<Tree, Error> {
    let (Some(state), Some(id)) = (state, id) else { return Err(Error::NotFound(text::os(word))) };
    let (jail, tree) = tree_named(state, word, id, cwd, monitor)?;
    open(state, tree)?.ok_or_else(|| Error::NothingKept(jail.to_string()))
}

/// Which jail that is, and the one that made the tree it ran in. That need not be there.
fn tree_named(
    state: &StateDir,
    word: &OsStr,
    id: &str,
    cwd: &io::Result<PathBuf>,
    monitor: &dyn Monitor,
) -> Result<(Id, Id), Error> {
    if id == "@" {
        let cwd = cwd.as_ref().map_err(|why| Error::CurrentDir { why: io::Error::from(why.kind()) })?;
        let tree = newest_of_project(state, &project::root_of(cwd), cwd, monitor)?;
        return Ok((tree, tree));
    }
    // Also of one that cannot be read: whoever opens it says why.
    let has_tree = |id| !matches!(trees::open_tree(state, id), Ok(None));
    // A full id needs no ledger: it works whatever became of that.
    if let Ok(id) = id.parse()
        && has_tree(id)
    {
        return Ok((id, id));
    }
    let found = starting_with(state, id, word, monitor)?;
    let id = found.ok_or_else(|| Error::NotFound(text::os(word)))?;
    if has_tree(id) {
        return Ok((id, id));
    }
    // It may have gone on in the tree of another.
    let record = ledger::read(state, monitor, |l| l.get(id.as_str()))?;
    Ok((id, record.and_then(|r| r.start).and_then(|s| s.tree).unwrap_or(id)))
}

/// The same for a word that can be nothing but a jail.
pub(crate) fn selected(state: &StateDir, word: &OsStr, monitor: &dyn Monitor) -> Result<(Id, Id), Error> {
    let id = word.to_str().and_then(prefix).ok_or_else(|| Error::NotFound(text::os(word)))?;
    tree_named(state, word, &id, &std::env::current_dir(), monitor)
}

/// What `@` means wherever kept changes are meant: the newest tree over the project `root`, or over a part
/// of it that `start` is in. One meaning for all: what `aj exec @` goes on in is what `aj apply @` brings
/// back and `aj discard @` removes, whatever ran over another project meanwhile.
pub(crate) fn newest_of_project(
    state: &StateDir,
    root: &Path,
    start: &Path,
    monitor: &dyn Monitor,
) -> Result<Id, Error> {
    let found = list(state, |base| base.starts_with(root) && start.starts_with(base))?;
    newest(state, found, monitor)?.ok_or_else(|| Error::NoTree(text::os(root)))
}

/// The jail whose id begins with `start`: on record or not, with a tree or without, so that a start
/// means the same jail here as it does for the other commands.
fn starting_with(
    state: &StateDir,
    start: &str,
    word: &OsStr,
    monitor: &dyn Monitor,
) -> Result<Option<Id>, Error> {
    let (rows, count) = ledger::read(state, monitor, |l| l.starting_with(start, CANDIDATES))?;
    let mut ids: Vec<Id> = rows.iter().filter_map(|row| row.id.parse().ok()).collect();
    let known: BTreeSet<Id> = ids.iter().copied().collect();
    let trees = trees::list_trees(state)?;
    ids.extend(trees.into_iter().filter(|id| id.as_str().starts_with(start) && !known.contains(id)));
    if ids.len() > 1 || count > 1 {
        let most = usize::try_from(CANDIDATES).unwrap_or(usize::MAX);
        let ids = ids.iter().take(most).map(Id::to_string).collect();
        return Err(Error::Ambiguous { selector: text::os(word), ids });
    }
    Ok(ids.first().copied())
}

fn newest_over(state: &StateDir, cwd: &Path, monitor: &dyn Monitor) -> Result<Option<Tree>, Error> {
    match newest(state, list(state, |base| cwd.starts_with(base))?, monitor)? {
        Some(id) => open(state, id),
        None => Ok(None),
    }
}

/// A tree that may be meant.
struct Found {
    id: Id,
    started: Stamp,
    /// The jail that ran in it last, when that is another one.
    last: Option<Id>,
}

/// Every tree with a readable record and a base that is wanted.
fn list(state: &StateDir, wanted: impl Fn(&Path) -> bool) -> Result<Vec<Found>, Error> {
    let look = |id| {
        let tree = trees::open_tree(state, id).ok().flatten()?;
        let started = at::stat(&tree, b"base").ok()?.ctime;
        let last = || Kept::read(&tree).and_then(|k| k.last);
        tree.base().is_ok_and(|base| wanted(&base)).then(|| Found { id, started, last: last() })
    };
    Ok(trees::list_trees(state)?.into_iter().filter_map(look).collect())
}

/// The one that was run in last. The ledger has the order in which jails started, whatever the clock did
/// since. A tree that it does not know is from before the ledger was lost, so it comes after all
/// others, and among its like the time of its files has to do.
fn newest(state: &StateDir, found: Vec<Found>, monitor: &dyn Monitor) -> Result<Option<Id>, Error> {
    if found.len() < 2 {
        return Ok(found.first().map(|f| f.id));
    }
    let seq = |l: &ledger::Ledger<'_>, f: &Found| {
        let last = f.last.map_or(Ok(None), |last| l.seq(last.as_str()))?;
        Ok(l.seq(f.id.as_str())?.max(last))
    };
    let order = |l: &ledger::Ledger<'_>| found.iter().map(|f| seq(l, f)).collect();
    let order: Vec<Option<i64>> = ledger::read(state, monitor, order)?;
    Ok(found.iter().zip(order).max_by_key(|(f, seq)| (*seq, f.started, f.id)).map(|(f, _)| f.id))
}

/// Open the tree of jail `id` and keep it from being removed, if its run is over. `None`: there is none.
pub(super) fn open(state: &StateDir, id: Id) -> Result<Option<Tree>, Error> {
    let damaged = |source| Error::Damaged { id: id.to_string(), source };
    let Some(held) = trees::open_tree(state, id).map_err(damaged)? else { return Ok(None) };
    // Who holds the lock is waited for, in case it is not a run.
    let running = live::listens(state, id) || !held.try_share()?;
    match describe(&held).and_then(|tree| workspace::with_layers(state, tree)) {
        Ok(tree) => {
            let in_memory = running && live::is_in_memory(state, id);
            Ok(Some(Tree { running, in_memory, _held: Some(held), ..tree }))
        }
        // Removed since it was opened.
        Err(e) if e.errno() == Some(nix::errno::Errno::ENOENT) => Ok(None),
        Err(e) => Err(damaged(e)),
    }
}

fn describe(tree: &trees::Tree) -> Result<Tree, StateError> {
    let base = tree.base()?;
    let on = |e: sys::Error| StateError::from(e.on(text::os(tree.path())));
    let began = match workspaces::since(tree).filter(|_| tree.is_lasting()) {
        Some(since) => Began::since(since),
        None => Began::of(&at::stat(tree, b"base").map_err(on)?),
    };
    let upper = tree.open_upper()?;
    let part = |side: sides::Side| {
        let started = Began::of(&at::stat(&side.dir, b"base").map_err(on)?).at;
        let upper = side.open_upper()?;
        Ok(Part { base: side.base, upper, started })
    };
    let parts = sides::all(tree, sides::Kind::Part)?;
    let parts = parts.into_iter().map(part).collect::<Result<_, StateError>>()?;
    let homeless = workspaces::is_empty_based(tree) || workspaces::is_over_import(tree);
    Ok(Tree {
        id: tree.id(),
        base,
        upper,
        below: Vec::new(),
        started: began.at,
        clock_set_back: began.set_back,
        parts,
        homeless,
        imported: None,
        seen_at: None,
        elsewhere: None,
        running: false,
        in_memory: false,
        _held: None,
    })
}
