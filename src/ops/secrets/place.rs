//! How what was found is hidden: by what is in an overlay before it is mounted, or by mounts over it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Error, Kind, Secret, Secrets};
use crate::jail::spec::{Mask, Owner, Spec};
use crate::policy::settings::Access;
use crate::store::planted::{Bed, Seed, Sown};
use crate::sys::openat2::{self, For};
use crate::sys::{
    self,
    at::{self, Meta},
};

/// Both.
#[derive(Debug, Default)]
pub struct Placed {
    /// For the upper layers.
    pub seeds: Vec<Bed>,
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
        let mut grounds: Vec<Ground<'_>> = Vec::new();
        for secret in &secrets.found {
            let path = spec.workspace.join(OsStr::from_bytes(&secret.path));
            let part = secret.path.first() == Some(&b'/');
            let bind = spec.binds.iter().find(|b| b.path != path && b.path.starts_with(&path));
            if let Some(inner) = bind.filter(|_| !part) {
                return Err(Error::Within { path: inner.path.clone(), hidden: secret.path.clone() });
            }
            let bound = spec.binds.iter().any(|b| b.directory && path.starts_with(&b.path));
            let side = spec.sides.iter().find(|s| part && path.starts_with(&s.path));
            if spec.access == Access::Overlay && !bound && part == side.is_some() {
                let (base, owner) = side.map_or((&spec.workspace, spec.owner), |s| (&s.path, s.owner));
                let ground = match grounds.iter_mut().position(|g| g.base == base) {
                    Some(at) => &mut grounds[at],
                    None => {
                        let fail = |source| Error::Sys { root: base.clone(), source };
                        let top = openat2::resolved(base.as_os_str().as_bytes()).map_err(fail)?;
                        let side = side.map(|s| s.layers.clone());
                        grounds.push(Ground { base, owner, top, side, sown: BTreeMap::new() });
                        let last = grounds.len() - 1;
                        &mut grounds[last]
                    }
                };
                if ground.sow(secret, &path, spec)? {
                    continue;
                }
            }
            let shows = match &secret.kind {
                Kind::File => Some(Vec::new()),
                Kind::Directory => None,
                Kind::Part(text) => Some(text.clone()),
            };
            let inside = path.strip_prefix(&spec.workspace).ok().filter(|_| !bound && !part);
            let path = inside.map_or(path.clone(), |below| spec.at.join(below));
            placed.masks.push(Mask { path, shows });
        }
        let bed = |g: Ground<'_>| Bed { side: g.side, seeds: g.sown.into_values().collect() };
        placed.seeds = grounds.into_iter().map(bed).collect();
        Ok(placed)
    }
}

/// What an overlay lies over, and what is to be put into its upper layer.
struct Ground<'a> {
    base: &'a Path,
    owner: Owner,
    top: OwnedFd,
    side: Option<PathBuf>,
    sown: BTreeMap<Vec<u8>, Seed>,
}

impl Ground<'_> {
    /// Hide what is at the absolute `path`. `false`: no overlay can.
    fn sow(&mut self, secret: &Secret, path: &Path, spec: &Spec) -> Result<bool, Error> {
        let Ok(below) = path.strip_prefix(self.base) else { return Ok(false) };
        let fail = |source| Error::Sys { root: self.base.to_owned(), source };
        let Some(ways) = self.ways(below, spec).map_err(fail)? else { return Ok(false) };
        let (mode, mtime) = (secret.meta.mode & 0o777, secret.meta.mtime);
        let what = match &secret.kind {
            Kind::File | Kind::Directory => Sown::Whiteout,
            Kind::Part(_) if !is_owners(&secret.meta, self.owner) => return Ok(false),
            Kind::Part(text) => Sown::File { mode, mtime, content: text.clone() },
        };
        let seed = Seed { path: below.as_os_str().as_bytes().to_vec(), what, owner: spec.outside() };
        for seed in ways.into_iter().chain([seed]) {
            self.sown.insert(seed.path.clone(), seed);
        }
        Ok(true)
    }

    /// The directories that lead to `below`, as a copy up of each would be. `None`: one of them belongs to
    /// somebody else, whose directories no overlay of the jail's can copy up (EOVERFLOW).
    fn ways(&self, below: &Path, spec: &Spec) -> sys::Result<Option<Vec<Seed>>> {
        let mut seeds = Vec::new();
        for way in below.ancestors().skip(1).filter(|w| !w.as_os_str().is_empty()) {
            let path = way.as_os_str().as_bytes().to_vec();
            let meta = at::fstat(openat2::beneath(&self.top, &path, For::Passing)?)?;
            if !is_owners(&meta, self.owner) {
                return Ok(None);
            }
            let what = Sown::Way { mode: meta.mode & 0o3777, mtime: meta.mtime };
            seeds.push(Seed { path, what, owner: spec.outside() });
        }
        Ok(Some(seeds))
    }
}

/// Whether it belongs to the owner of what the overlay lies over.
fn is_owners(meta: &Meta, owner: Owner) -> bool {
    (meta.uid, meta.gid) == (owner.uid, owner.gid)
}
