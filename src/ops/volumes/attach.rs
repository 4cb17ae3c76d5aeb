//! Volumes that the commands of a workspace get: kept in its record, by id, so that another volume that
//! takes the name later is not taken for it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

use super::{Error, find, hold, place_of, taken};
use crate::base::id::Id;
use crate::base::text;
use crate::ops::workspaces::{self, Found};
use crate::policy::volume::{self, Mount};
use crate::schema::changes::FORMAT;
use crate::schema::volume::Attached;
use crate::store::layout::StateDir;
use crate::store::{trees, workspaces as records};

/// Workspaces by the volumes that they have.
#[derive(Debug, Default)]
pub(super) struct Users(BTreeMap<String, Vec<String>>);

impl Users {
    /// The names of those that have `id`.
    pub(super) fn of(&self, id: Id) -> Vec<String> {
        self.0.get(id.as_str()).cloned().unwrap_or_default()
    }
}

fn readable(state: &StateDir) -> Vec<records::Filed> {
    let ids = records::list(state).unwrap_or_default().into_iter();
    ids.filter_map(|id| records::Filed::read(state, id).ok().flatten()).collect()
}

pub(super) fn users(state: &StateDir) -> Users {
    let mut users = Users::default();
    for filed in readable(state) {
        for text in &filed.record.volumes {
            if let Ok(mount) = volume::parse(text) {
                let names = users.0.entry(mount.volume).or_default();
                let name = filed.record.name.to_string();
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
    }
    users.0.values_mut().for_each(|names| names.sort_unstable());
    users
}

/// Take a volume that is gone out of the records that name it. Failing is said by the next command there.
pub(super) fn forget(state: &StateDir, id: Id) {
    let names = |text: &String| volume::parse(text).is_ok_and(|mount| mount.volume == id.as_str());
    for filed in readable(state) {
        if filed.record.volumes.iter().any(names) {
            let without = |filed: &mut records::Filed| filed.record.volumes.retain(|text| !names(text));
            records::amend(state, filed.record.id, without).ok();
        }
    }
}

/// What a record keeps of `asked`, for a workspace over `base`.
pub fn attachments(state: &StateDir, base: Option<&Path>, asked: &[Mount]) -> Result<Vec<String>, Error> {
    let mut kept = Vec::new();
    for mount in asked {
        add(state, base, mount, &mut kept)?;
    }
    Ok(kept)
}

/// Add one to what a record keeps; the one that was at its place goes.
fn add(state: &StateDir, base: Option<&Path>, mount: &Mount, kept: &mut Vec<String>) -> Result<(), Error> {
    let record = find(state, &mount.volume)?;
    let path = place_of(mount, &record.name);
    let refuse = |why: String| Err(Error::Place { volume: record.name.to_string(), path: path.clone(), why });
    if let Some(why) = taken(&path) {
        return refuse(why);
    }
    // As long as its name is what it is.
    let at = |text: &String| {
        let other = volume::parse(text).ok()?;
        let name = find(state, &other.volume).ok()?.name;
        Some((text.clone(), place_of(&other, &name)))
    };
    let meets = |other: &Path| other.starts_with(&path) || path.starts_with(other);
    if let Some(base) = base.filter(|base| meets(base)) {
        return refuse(format!("the tree `{}` is shown there", text::os(base)));
    }
    let others: Vec<_> = kept.iter().filter_map(at).collect();
    if let Some((_, other)) = others.iter().find(|(_, other)| *other != path && meets(other)) {
        return refuse(format!("another volume is shown at `{}`", text::os(other)));
    }
    let replaced: Vec<_> = others.iter().filter(|(_, other)| *other == path).map(|(text, _)| text).collect();
    kept.retain(|text| !replaced.contains(&text));
    let whole = Mount { volume: record.id.to_string(), path: Some(path.clone()), ..mount.clone() };
    kept.push(whole.to_string());
    Ok(())
}

/// One of a record as people see it: by name.
pub fn shown(state: &StateDir, kept: &str) -> String {
    let name = |mount: &Mount| Some(find(state, &mount.volume).ok()?.name.to_string());
    match volume::parse(kept) {
        Ok(mount) => match name(&mount) {
            Some(volume) => Mount { volume, ..mount }.to_string(),
            None => format!("{mount} (gone)"),
        },
        Err(_) => text::brief(&text::printable(kept.as_bytes())),
    }
}

/// Give a volume to every later command of a workspace.
pub fn attach(word: &OsStr, mount: &Mount) -> Result<Attached, Error> {
    let found = workspaces::find(Some(word))?;
    let record = &found.filed.record;
    let base = record.from_dir.clone().or_else(|| record.at.clone());
    // Removed meanwhile, it would stay in the record for good.
    let _held = hold(&found.state, &mount.volume)?;
    let mut failed = None;
    let changed = records::amend(&found.state, found.id(), |filed| {
        failed = add(&found.state, base.as_deref().map(Path::new), mount, &mut filed.record.volumes).err();
    })?;
    match failed {
        Some(e) => Err(e),
        None => attached(&found, changed),
    }
}

/// Take a volume from a workspace, wherever it was seen.
pub fn detach(word: &OsStr, volume: &str) -> Result<Attached, Error> {
    let found = workspaces::find(Some(word))?;
    // One that is gone is still named by its id.
    let id = match find(&found.state, volume) {
        Ok(record) => record.id.to_string(),
        Err(Error::NotFound(_)) => volume.to_owned(),
        Err(e) => return Err(e),
    };
    let names = |text: &String| volume::parse(text).is_ok_and(|mount| mount.volume == id);
    let mut had = false;
    let changed = records::amend(&found.state, found.id(), |filed| {
        had = filed.record.volumes.iter().any(names);
        filed.record.volumes.retain(|text| !names(text));
    })?;
    if !had {
        let volume = text::brief(&text::printable(volume.as_bytes()));
        return Err(Error::NotAttached { volume, workspace: found.name().to_string() });
    }
    attached(&found, changed)
}

fn attached(found: &Found, changed: Option<records::Filed>) -> Result<Attached, Error> {
    let gone = || workspaces::Error::NotFound(found.name().to_string());
    let filed = changed.ok_or_else(gone)?;
    let tree = trees::open_tree(&found.state, found.id())?;
    Ok(Attached {
        format_version: FORMAT,
        workspace: filed.record.name.to_string(),
        volumes: filed.record.volumes.iter().map(|kept| shown(&found.state, kept)).collect(),
        running: tree.is_some_and(|tree| tree.is_in_use().unwrap_or(false)),
    })
}
