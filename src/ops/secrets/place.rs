//! How what was found is hidden: by what is in an overlay before it is mounted, or by mounts over it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Error, Kind, Secrets};
use crate::jail::spec::{Ids, Mask, RANGE_BASE, Spec};
use crate::policy::settings::Access;
use crate::store::planted::{Seed, Sown};
use crate::sys::openat2::{self, For};
use crate::sys::{
    self,
    at::{self, Meta},
};

/// Both.
#[derive(Debug, Default)]
pub struct Placed {
    /// For the upper layer, directories before what is in them.
    pub seeds: Vec<Seed>,
    /// For the plan.
    pub masks: Vec<Mask>,
}

impl Placed {
    /// Where everything that was found is to be hidden in the jail of `spec`.
    ///
    /// Binds are mounted after the workspace, so what lies in one is seen through it and not through an
    /// overlay.
    pub fn of(secrets: &Secrets, spec: &Spec) -> Result<Placed, Error> {
        let mut placed = Placed::default();
        let mut sown: BTreeMap<Vec<u8>, Seed> = BTreeMap::new();
        let fail = |source| Error::Sys { root: spec.workspace.clone(), source };
        let mut top = None;
        for secret in &secrets.found {
            let below = Path::new(OsStr::from_bytes(&secret.path));
            let path = spec.workspace.join(below);
            if let Some(inner) = spec.binds.iter().find(|b| b.path != path && b.path.starts_with(&path)) {
                return Err(Error::Within { path: inner.path.clone(), hidden: secret.path.clone() });
            }
            let bound = spec.binds.iter().any(|b| b.directory && path.starts_with(&b.path));
            if spec.access == Access::Overlay && !bound {
                let top = match &top {
                    Some(top) => top,
                    None => {
                        let open = openat2::resolved(spec.workspace.as_os_str().as_bytes()).map_err(fail)?;
                        top.insert(open)
                    }
                };
                if let Some(ways) = ways(top, below, spec).map_err(fail)? {
                    let (mode, mtime) = (secret.meta.mode & 0o777, secret.meta.mtime);
                    let what = match &secret.kind {
                        Kind::File | Kind::Directory => Some(Sown::Whiteout),
                        Kind::Part(_) if !is_owners(&secret.meta, spec) => None,
                        Kind::Part(text) => Some(Sown::File { mode, mtime, content: text.clone() }),
                    };
                    if let Some(what) = what {
                        let path = secret.path.clone();
                        let seeds = ways.into_iter().chain([Seed { path, what, owner: owner(spec) }]);
                        seeds.for_each(|seed| drop(sown.insert(seed.path.clone(), seed)));
                        continue;
                    }
                }
            }
            let shows = match &secret.kind {
                Kind::File => Some(Vec::new()),
                Kind::Directory => None,
                Kind::Part(text) => Some(text.clone()),
            };
            placed.masks.push(Mask { path: if bound { path } else { spec.at.join(below) }, shows });
        }
        placed.seeds = sown.into_values().collect();
        Ok(placed)
    }
}

/// The directories that lead to `below`, as a copy up of each would be. `None`: one of them belongs to
/// somebody else, whose directories no overlay of the jail's can copy up (EOVERFLOW).
fn ways(top: &OwnedFd, below: &Path, spec: &Spec) -> sys::Result<Option<Vec<Seed>>> {
    let mut seeds = Vec::new();
    for way in below.ancestors().skip(1).filter(|w| !w.as_os_str().is_empty()) {
        let path = way.as_os_str().as_bytes().to_vec();
        let meta = at::fstat(openat2::beneath(top, &path, For::Passing)?)?;
        if !is_owners(&meta, spec) {
            return Ok(None);
        }
        let what = Sown::Way { mode: meta.mode & 0o3777, mtime: meta.mtime };
        seeds.push(Seed { path, what, owner: owner(spec) });
    }
    Ok(Some(seeds))
}

/// Whether it belongs to the owner of the tree.
fn is_owners(meta: &Meta, spec: &Spec) -> bool {
    (meta.uid, meta.gid) == (spec.owner.uid, spec.owner.gid)
}

/// Who owns what is in the upper layer, on the host: whom the jail's user is mapped to.
fn owner(spec: &Spec) -> Option<(u32, u32)> {
    match spec.ids {
        Ids::Caller { .. } => None,
        Ids::Range => {
            let inside = RANGE_BASE + spec.inside_id();
            Some((inside, inside))
        }
    }
}
