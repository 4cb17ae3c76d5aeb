//! `aj workspace fork`: further workspaces that begin with what is in one.
//!
//! What was written in it is sealed, in as many steps whatever its size, and all of them stand on that: no
//! data is copied.

use std::path::PathBuf;

use super::list::detail;
use super::{Error, Found};
use crate::base::clock;
use crate::base::id::{Id, Kind};
use crate::base::name::Name;
use crate::schema::changes::FORMAT;
use crate::schema::workspace::{Forked, Record};
use crate::store::again::{self, Taken, User};
use crate::store::trees::Tree;
use crate::store::workspaces::{self, Filed, Ground, MOST_LAYERS, Named};

/// Forks made by one command at most.
pub const MOST: u32 = 64;
/// Numbers that are tried for a name.
const TRIES: u32 = 1000;

/// Make `count` forks of a workspace in which nothing runs. Their names are `name` or that of the workspace
/// with a number; one fork alone is called `name`.
pub fn fork(found: Found, count: u32, name: Option<&Name>) -> Result<Forked, Error> {
    let started = std::time::Instant::now();
    let state = &found.state;
    let tree = hold(&found)?;
    let parent = seal(&found, &tree)?;
    let mut answer =
        Forked { format_version: FORMAT, parent: parent.record.id, forks: Vec::new(), clone_ms: 0 };
    for number in 1..=count {
        let made = one(&found, &parent, &tree, (name, (count > 1).then_some(number)))?;
        answer.forks.push(made);
    }
    answer.clone_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let records = std::mem::take(&mut answer.forks);
    drop(tree);
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
    parent: &Filed,
    tree: &Tree,
    (wish, number): (Option<&Name>, Option<u32>),
) -> Result<crate::schema::workspace::Workspace, Error> {
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
            ..parent.record.clone()
        };
        let filed = Filed::new(record, parent.policy().to_owned());
        let ground =
            Ground { fork_of: Some(tree), base: base.as_deref(), owner: super::create::owner_of(tree)? };
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
