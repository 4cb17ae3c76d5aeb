//! Which workspace is meant.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use super::{Error, not_found};
use crate::base::id::{Id, Kind};
use crate::base::name::Name;
use crate::base::text;
use crate::ops::ledger::{self, start_of_id};
use crate::schema::workspace::Record;
use crate::store::layout::StateDir;
use crate::store::workspaces::{self, Filed, Unread};

/// Candidates that an ambiguous selector names.
const CANDIDATES: usize = ledger::CANDIDATES as usize;

/// A workspace that was meant.
#[derive(Debug)]
pub struct Found {
    /// The state directory that it is in.
    pub state: StateDir,
    /// Its record.
    pub filed: Filed,
}

impl Found {
    /// Its id.
    pub fn id(&self) -> Id {
        self.filed.record.id
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.filed.record.name
    }
}

/// One that an ambiguous selector may mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: Name,
    /// Its id.
    pub id: Id,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.id)
    }
}

/// Whether a word may mean a workspace: a name, an id or the start of one. What `@` and `jl-…` mean where
/// jails may be meant, too, is decided there.
pub fn is_selector(word: &OsStr) -> bool {
    let Some(text) = word.to_str() else { return false };
    text.parse::<Name>().is_ok() || Id::looks_like(&text.to_ascii_lowercase()) && is_id(text)
}

fn is_id(text: &str) -> bool {
    let kind = Kind::Workspace.prefix();
    text.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind))
}

/// The one that `word` means: an id, a name, the start of an id that no other has (with its `ws-`, or four
/// digits at least), `@` for the newest. Without a word: the one whose directory the current one is in.
pub fn find(word: Option<&OsStr>) -> Result<Found, Error> {
    let state = StateDir::open_if_present()?;
    let Some(word) = word else {
        let cwd = std::env::current_dir().map_err(Error::CurrentDir)?;
        let state = state.ok_or_else(|| Error::NoneHere(text::os(&cwd)))?;
        let filed = owner_of(&state, &cwd)?;
        return Ok(Found { state, filed });
    };
    let state = state.ok_or_else(|| not_found(word))?;
    let filed = named(&state, word)?;
    Ok(Found { state, filed })
}

fn named(state: &StateDir, word: &OsStr) -> Result<Filed, Error> {
    let text = word.to_str().ok_or_else(|| not_found(word))?;
    if matches!(text, "@" | "latest") {
        let newest = readable(state)?.into_iter().max_by_key(|f| (f.record.created_ms, f.record.id));
        return newest.ok_or(Error::None);
    }
    let lower = text.to_ascii_lowercase();
    if let Ok(id) = lower.parse::<Id>() {
        let filed = if id.kind() == Kind::Workspace { Filed::read(state, id)? } else { None };
        return filed.ok_or_else(|| not_found(word));
    }
    if let Ok(name) = text.parse::<Name>()
        && let Some(filed) = workspaces::of_name(state, &name)?
    {
        return Ok(filed);
    }
    let start = start_of_id(Kind::Workspace, &lower).ok_or_else(|| not_found(word))?;
    let mut ids: Vec<Id> = workspaces::list(state)?;
    ids.retain(|id| id.as_str().starts_with(&start));
    ids.sort_unstable();
    let mut found = Vec::new();
    for id in ids.iter().take(CANDIDATES) {
        found.extend(Filed::read(state, *id)?);
    }
    one(found, || not_found(word), || format!("`{}` is the start of the ids of several", text::os(word)))
}

/// The workspace that owns the directory `cwd`: of those over it or a directory above it, the nearest. Of
/// several over one directory the one that is no fork of another.
pub fn owner_of(state: &StateDir, cwd: &Path) -> Result<Filed, Error> {
    let depth = |r: &Record| r.from_dir.as_ref().map_or(0, |d| PathBuf::from(d).components().count());
    let holds = |r: &Record| r.from_dir.as_ref().is_some_and(|d| cwd.starts_with(d));
    let mut found: Vec<Filed> = readable(state)?.into_iter().filter(|f| holds(&f.record)).collect();
    let nearest = found.iter().map(|f| depth(&f.record)).max().unwrap_or(0);
    found.retain(|f| depth(&f.record) == nearest);
    if found.iter().filter(|f| f.record.parent.is_none()).count() == 1 {
        found.retain(|f| f.record.parent.is_none());
    }
    found.sort_by(|a, b| a.record.name.cmp(&b.record.name));
    found.truncate(CANDIDATES);
    let here = || text::os(cwd);
    one(found, || Error::NoneHere(here()), || format!("several workspaces lie over `{}`", here()))
}

fn one(
    mut found: Vec<Filed>,
    none: impl FnOnce() -> Error,
    several: impl FnOnce() -> String,
) -> Result<Filed, Error> {
    match found.len() {
        0 => Err(none()),
        1 => found.pop().ok_or_else(none),
        _ => {
            let of = |f: Filed| Candidate { name: f.record.name, id: f.record.id };
            Err(Error::Ambiguous { what: several(), candidates: found.into_iter().map(of).collect() })
        }
    }
}

/// Every workspace whose record can be read: one damaged record must not hide the others.
pub(super) fn readable(state: &StateDir) -> Result<Vec<Filed>, Error> {
    Ok(sorted_out(state)?.0)
}

/// One that cannot be read, and why.
pub(super) type Damaged = (Id, Unread);

/// The same, and those that cannot be read.
pub(super) fn sorted_out(state: &StateDir) -> Result<(Vec<Filed>, Vec<Damaged>), Error> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for id in workspaces::list(state)? {
        match Filed::read(state, id) {
            Ok(filed) => good.extend(filed),
            Err(e) => bad.push((id, e)),
        }
    }
    Ok((good, bad))
}
