//! `aj workspace fork`: further workspaces that begin with what is in one.
//!
//! What was written in it is sealed, in as many steps whatever its size, and all of them stand on that: no
//! data is copied. While something runs in it, that is copied instead: see `fork_live`.

use std::path::PathBuf;

use super::list::detail;
use super::{Error, Found, fork_live, import};
use crate::base::clock;
use crate::base::id::{Id, Kind};
use crate::base::name::Name;
use crate::monitor::Monitor;
use crate::ops::changes;
use crate::schema::changes::FORMAT;
use crate::schema::workspace::{Forked, Method, RECORD_OF_IMPORT, Record};
use crate::store::again::{self, Taken, User};
use crate::store::layout::StateDir;
use crate::store::trees::{self, Tree};
use crate::store::workspaces::{self, Filed, Ground, MOST_LAYERS, Named};

/// Forks made by one command at most.
pub const MOST: u32 = 64;
/// Numbers that are tried for a name.
const TRIES: u32 = 1000;

/// What forks are made of.
struct Source {
    /// The record of the workspace, with the layers that they stand on.
    parent: Filed,
    tree: Tree,
    hidden: Option<Vec<u8>>,
    /// How it was come by.
    how: Method,
    /// Keeps what was copied for them.
    _copied: Option<fork_live::Copied>,
}

/// Make `count` forks of a workspace. Their names are `name` or that of the workspace with a number; one
/// fork alone is called `name`.
pub fn fork(found: Found, count: u32, name: Option<&Name>) -> Result<Forked, Error> {
    fork_over(found, count, name, (None, &|_| {}))
}

/// One fork, whose record `change` makes another.
pub(super) fn fork_with(found: Found, change: &dyn Fn(&mut Record)) -> Result<Forked, Error> {
    fork_over(found, 1, None, (None, change))
}

/// The same over a copy of the host directory that it lies over, whose path they keep. `monitor` is told of what is
/// copied.
pub fn fork_with_import(
    found: Found,
    count: u32,
    name: Option<&Name>,
    monitor: &dyn Monitor,
) -> Result<Forked, Error> {
    let record = &found.filed.record;
    let Some(from) = record.from_dir.clone() else {
        return Err(Error::NoDirectory(record.name.to_string()));
    };
    let state = StateDir::open()?;
    let copied = import::copy(&state, (&PathBuf::from(&from), from), monitor)?;
    let made = over(found, count, name, &copied);
    import::Copied::settle(Some(copied), &state, made)
}

fn over(found: Found, count: u32, name: Option<&Name>, copied: &import::Copied) -> Result<Forked, Error> {
    let record = &found.filed.record;
    // Looked at now: what the host changes later is not in the copy. Over it, nobody could tell any more what was
    // in conflict.
    let tree = changes::open_tree(record.id).map_err(Box::new)?;
    let conflicts =
        changes::diff(&tree, &changes::DiffOptions::default()).map_err(Box::new)?.totals.conflicts;
    drop(tree);
    if conflicts > 0 {
        return Err(Error::Conflicts { name: record.name.to_string(), conflicts });
    }
    fork_over(found, count, name, (Some(copied), &|_| {}))
}

fn fork_over(
    found: Found,
    count: u32,
    name: Option<&Name>,
    (copied, change): (Option<&import::Copied>, &dyn Fn(&mut Record)),
) -> Result<Forked, Error> {
    let started = std::time::Instant::now();
    let state = &found.state;
    let mut source = source(&found)?;
    if let Some(copied) = copied {
        let record = &mut source.parent.record;
        record.format = RECORD_OF_IMPORT;
        record.at = record.from_dir.take();
        record.import = Some(copied.import.clone());
    }
    source.parent.record.maker = None;
    change(&mut source.parent.record);
    let mut answer = Forked {
        format_version: FORMAT,
        parent: source.parent.record.id,
        group: group()?,
        forks: Vec::new(),
        clone_ms: 0,
        how: source.how.clone(),
    };
    for number in 1..=count {
        let made = one(&found, &source, &answer.group, (name, (count > 1).then_some(number)), copied)?;
        answer.forks.push(made);
    }
    answer.clone_ms = ms(started.elapsed());
    let records = std::mem::take(&mut answer.forks);
    drop(source);
    // As they are now that nobody holds the parent.
    for fork in records {
        let filed = Filed::read(state, fork.id)?;
        let again =
            filed.map(|filed| detail(&Found { state: crate::store::layout::StateDir::open()?, filed }));
        answer.forks.push(
            again.transpose()?.map_or(fork, |d: crate::schema::workspace::WorkspaceDetail| d.workspace),
        );
    }
    Ok(answer)
}

/// A word for all that one command makes.
fn group() -> Result<String, Error> {
    let id = Id::random(Kind::Workspace).map_err(Error::Random)?;
    Ok(format!("fg-{}", id.as_str().trim_start_matches(Kind::Workspace.prefix())))
}

/// The forks that `word` means: those that one command made (by its group), or those of a name with a number
/// after it. Those that `keep` names are not among them.
pub fn meant(word: &str, keep: &[Name]) -> Result<Vec<Found>, Error> {
    let not_found =
        || Error::NoSuchForks(crate::base::text::brief(&crate::base::text::printable(word.as_bytes())));
    let state = crate::store::layout::StateDir::open_if_present()?.ok_or_else(not_found)?;
    let mut all = super::find::readable(&state)?;
    all.retain(|filed| filed.record.parent.is_some());
    let numbered = |name: &str| {
        let rest = name.strip_prefix(word).and_then(|rest| rest.strip_prefix('-'));
        rest.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    let of = |test: &dyn Fn(&Filed) -> bool| all.iter().any(test);
    let by_group = |filed: &Filed| filed.record.group.as_deref() == Some(word);
    let by_number = |filed: &Filed| numbered(filed.record.name.as_str());
    let by_name = |filed: &Filed| filed.record.name.as_str() == word;
    let chosen: &dyn Fn(&Filed) -> bool = if of(&by_group) {
        &by_group
    } else if of(&by_number) {
        &by_number
    } else {
        &by_name
    };
    let mut found: Vec<Filed> = all
        .iter()
        .filter(|f| chosen(f))
        .map(|f| Filed::new(f.record.clone(), f.policy().to_owned()))
        .collect();
    if found.is_empty() {
        return Err(not_found());
    }
    found.retain(|filed| !keep.contains(&filed.record.name));
    found.sort_by_key(|filed| (filed.record.created_ms, filed.record.id));
    found
        .into_iter()
        .map(|filed| Ok(Found { state: crate::store::layout::StateDir::open()?, filed }))
        .collect()
}

fn ms(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Seal what is in the workspace; while something runs in it, copy that.
fn source(found: &Found) -> Result<Source, Error> {
    loop {
        // Looked at first: a lock is waited for.
        let Some(mut copied) = fork_live::copy(found)? else {
            match hold(found) {
                Ok(tree) => return sealed(found, tree),
                Err(Error::InUse { by_run: true, .. }) => continue,
                Err(e) => return Err(e),
            }
        };
        let gone = || Error::NotFound(found.name().to_string());
        let mut parent = Filed::read(&found.state, found.id())?.ok_or_else(gone)?;
        parent.record.layers = std::mem::take(&mut copied.layers);
        let tree = trees::open_tree(&found.state, found.id())?.ok_or_else(gone)?;
        let how = Method {
            method: if copied.how.tally.shared > 0 { "reflink" } else { "copy" },
            files: copied.how.tally.files,
            bytes: copied.how.tally.bytes,
            was_frozen: true,
            frozen_ms: copied.how.still.map(ms),
            held_by: Some(copied.how.by),
        };
        return Ok(Source { parent, tree, hidden: copied.hidden.take(), how, _copied: Some(copied) });
    }
}

fn sealed(found: &Found, tree: Tree) -> Result<Source, Error> {
    let parent = seal(found, &tree)?;
    let how =
        Method { method: "seal", files: 0, bytes: 0, was_frozen: false, frozen_ms: None, held_by: None };
    Ok(Source { parent, tree, hidden: None, how, _copied: None })
}

/// Seal what was written in a workspace, whose tree the caller holds for itself alone. Its record afterwards.
pub(super) fn seal(found: &Found, tree: &Tree) -> Result<Filed, Error> {
    let state = &found.state;
    let gone = || Error::NotFound(found.name().to_string());
    if tree.has_parts()? {
        return Err(Error::Unforkable { name: found.name().to_string() });
    }
    let layers = Filed::read(state, found.id())?.ok_or_else(gone)?.record.layers.len();
    if layers >= MOST_LAYERS && !workspaces::is_bare_but_for_ours(tree)? {
        super::flatten::flatten(state, tree)?;
    }
    workspaces::seal(state, tree)?.ok_or_else(gone)
}

/// Lock the tree of a workspace for itself alone.
pub(super) fn hold(found: &Found) -> Result<Tree, Error> {
    let name = || found.name().to_string();
    match again::take(&found.state, found.id())? {
        Taken::Tree(tree) => Ok(tree),
        Taken::Gone => Err(Error::NotFound(name())),
        Taken::By(user) => Err(Error::InUse { name: name(), by_run: user == User::Run }),
    }
}

fn one(
    found: &Found,
    source: &Source,
    group: &str,
    (wish, number): (Option<&Name>, Option<u32>),
    copied: Option<&import::Copied>,
) -> Result<crate::schema::workspace::Workspace, Error> {
    let Source { parent, tree, hidden, .. } = source;
    let stem = wish.unwrap_or(found.name());
    let base = parent.record.from_dir.as_ref().map(PathBuf::from);
    for turn in 0..TRIES {
        let name = match (wish, number) {
            // The one that was asked for, and no other.
            (Some(name), None) => name.clone(),
            (_, number) => stem.numbered(number.unwrap_or(1) + turn),
        };
        let record = Record {
            id: Id::random(Kind::Workspace).map_err(Error::Random)?,
            name: name.clone(),
            created_ms: clock::now_ms(),
            touched_ms: None,
            keep_until_ms: None,
            parent: Some(parent.record.id),
            group: Some(group.to_owned()),
            ..parent.record.clone()
        };
        let filed = Filed::new(record, parent.policy().to_owned());
        let ground = Ground {
            fork_of: Some(tree),
            hidden: hidden.as_deref(),
            base: base.as_deref(),
            import: copied.map(|copied| &copied.placed),
            owner: super::create::owner_of(tree)?,
        };
        match workspaces::create(&found.state, &filed, ground)? {
            Named::Yes => return Ok(super::list::view(&found.state, &filed.record)),
            Named::Taken(id) if wish.is_some() && number.is_none() => {
                return Err(Error::Taken { name: name.to_string(), id });
            }
            Named::Taken(_) => {}
        }
    }
    Err(Error::Taken { name: stem.to_string(), id: parent.record.id })
}
