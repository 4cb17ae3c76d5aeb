//! What is mounted in the jail of a workspace beside its own trees: directories of the host's, and volumes. For
//! whoever looks at the workspace from outside (`ops::files`), which is to see what commands in it see.

use std::ffi::OsString;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::check;
use super::volumes::Volumes;
use crate::jail::spec::{Bind, Owner, Spec};
use crate::ops::volumes::{self, place_of};
use crate::ops::{config, workspaces};
use crate::policy::layer::Layer;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::ops) struct Mounted {
    /// Where it is seen: absolute, without links.
    pub(in crate::ops) at: OsString,
    /// What.
    pub(in crate::ops) what: What,
    /// Commands may write there.
    pub(in crate::ops) writable: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::ops) enum What {
    /// The host's own directory at that path. As root: who owns what the jail's user owns inside.
    Directory(Owner),
    /// The host's own file.
    File(Owner),
    /// The volume of this id.
    Volume(String),
}

impl Mounted {
    fn bind(bind: &Bind, owner: Owner) -> Mounted {
        let what = if bind.directory { What::Directory(owner) } else { What::File(owner) };
        Mounted { at: bind.path.clone().into(), what, writable: bind.writable }
    }
}

/// Those of a jail.
pub(super) fn of(spec: &Spec, volumes: &Volumes) -> Vec<Mounted> {
    spec.binds.iter().map(|bind| Mounted::bind(bind, spec.owner)).chain(volumes.mounted()).collect()
}

/// Those that the next command in a workspace would find, over the directory `base`. What cannot be had, no
/// command would start with: it is left out.
pub(in crate::ops) fn asked_for(found: &workspaces::Found, base: &Path, owner: Owner) -> Vec<Mounted> {
    let Ok(kept) = found.kept() else { return Vec::new() };
    let user = config::user().ok().flatten();
    let stored = Some(&kept.stored);
    let resolved = config::policy_with(user, (base, base), stored, Layer::default(), &[]);
    let binds = resolved.ok().and_then(|r| check::binds(&r.settings, Some(base)).ok());
    let (binds, _) = binds.unwrap_or_default();
    let volume = |mount: &crate::policy::volume::Mount| {
        let record = volumes::find(&found.state, &mount.volume).ok()?;
        Some(Mounted {
            at: place_of(mount, &record.name).into(),
            what: What::Volume(record.id.to_string()),
            writable: !mount.read_only,
        })
    };
    let binds = binds.iter().map(|bind| Mounted::bind(bind, owner));
    binds.chain(kept.volumes.iter().filter_map(volume)).collect()
}
