//! How what was found is hidden: by what is in an overlay before it is mounted, or by mounts over it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Error, Kind, Secrets};
use crate::jail::launch::mapped_id;
use crate::jail::spec::{Ids, Mask, RANGE_BASE, Spec};
use crate::policy::settings::Access;
use crate::store::planted::{Seed, Sown};
use crate::sys::at::{self, Meta};
use crate::sys::openat2::{self, For};

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
                if top.is_none() {
                    top = Some(openat2::resolved(spec.workspace.as_os_str().as_bytes()).map_err(fail)?);
                }
                for way in below.ancestors().skip(1).filter(|w| !w.as_os_str().is_empty()) {
                    let way = way.as_os_str().as_bytes();
                    if let (false, Some(top)) = (sown.contains_key(way), &top) {
                        let dir = openat2::beneath(top, way, For::Passing).map_err(fail)?;
                        let meta = at::fstat(&dir).map_err(fail)?;
                        let what = Sown::Way { mode: meta.mode & 0o777, mtime: meta.mtime };
                        sown.insert(
                            way.to_vec(),
                            Seed { path: way.to_vec(), what, owner: owner(spec, &meta) },
                        );
                    }
                }
                let (mode, mtime) = (secret.meta.mode & 0o777, secret.meta.mtime);
                let what = match &secret.kind {
                    Kind::File | Kind::Directory => Sown::Whiteout,
                    Kind::Part(text) => Sown::File { mode, mtime, content: text.clone() },
                };
                let seed = Seed { path: secret.path.clone(), what, owner: owner(spec, &secret.meta) };
                sown.insert(secret.path.clone(), seed);
            } else {
                let shows = match &secret.kind {
                    Kind::File => Some(Vec::new()),
                    Kind::Directory => None,
                    Kind::Part(text) => Some(text.clone()),
                };
                let path = if bound { path } else { spec.at.join(below) };
                placed.masks.push(Mask { path, shows });
            }
        }
        placed.seeds = sown.into_values().collect();
        Ok(placed)
    }
}

/// Who owns a copy in the upper layer, on the host.
fn owner(spec: &Spec, meta: &Meta) -> Option<(u32, u32)> {
    match spec.ids {
        Ids::Caller { .. } => None,
        Ids::Range => {
            let inside = RANGE_BASE + spec.inside_id();
            Some((mapped_id(meta.uid, spec.owner.uid, inside), mapped_id(meta.gid, spec.owner.gid, inside)))
        }
    }
}
