//! The workspace that a command runs in.

use std::ffi::OsStr;
use std::path::Path;

use super::{Error, Request};
use crate::jail::spec::Spec;
use crate::ops::workspaces::{self, Found, Kept, isolated, life};
use crate::policy::gpu::Gpus;
use crate::store::layout::StateDir;
use crate::store::trees::Tree;
use crate::store::workspaces as store;

/// What is known of it before anything is locked.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) found: Found,
    pub(super) kept: Kept,
}

impl Seat {
    /// The workspace that is asked for; `None`: another tree is, or a new one. Costs nothing then.
    pub(super) fn look(request: &Request) -> Result<Option<Seat>, Error> {
        let Some(word) = request.again.as_deref().filter(|word| !is_jail(word)) else { return Ok(None) };
        let found = workspaces::find(Some(word))?;
        if life::is_over(&found.filed.record) {
            return Err(workspaces::Error::Expired(found.name().to_string()).into());
        }
        let kept = found.kept()?;
        Ok(Some(Seat { found, kept }))
    }

    /// The same for a command that runs there.
    pub(super) fn take(request: &Request) -> Result<Option<Seat>, Error> {
        let seat = Seat::look(request)?;
        seat.as_ref().map_or(Ok(()), |seat| isolated::note_use(&seat.found))?;
        Ok(seat)
    }

    pub(super) fn name(&self) -> String {
        self.found.name().to_string()
    }
}

/// The GPUs that a command has: those that were asked for now, or that its workspace keeps.
pub(super) fn gpus<'a>(request: &'a Request, seat: Option<&'a Seat>) -> Option<&'a Gpus> {
    request.gpus.as_ref().or_else(|| seat.and_then(|seat| seat.kept.gpus.as_ref()))
}

/// Whether a word means the tree of a jail and never a workspace.
pub(super) fn is_jail(word: &OsStr) -> bool {
    let start = word.as_encoded_bytes().get(..3).unwrap_or_default();
    word == "@" || word == "latest" || start.eq_ignore_ascii_case(b"jl-")
}

/// What the jail has of the workspace beside its tree.
pub(super) fn furnish(spec: &mut Spec, state: &StateDir, tree: &Tree) -> Result<(), Error> {
    // Read under the lock: what was sealed before is all there is.
    let filed = store::Filed::read(state, tree.id()).map_err(workspaces::Error::from)?;
    let layers = filed.map(|filed| filed.record.layers).unwrap_or_default();
    spec.layers = layers.iter().map(|layer| store::layer_path(state, layer)).collect();
    let tree = &path_of(tree);
    spec.home = Some(tree.join(store::HOME));
    // A directory of the host's at that place is what was asked for by name.
    let output = Path::new("/output");
    let taken = spec.at.starts_with(output)
        || spec.binds.iter().any(|bind| bind.path.starts_with(output))
        || spec.aliases.iter().any(|(name, _)| name.starts_with(output));
    spec.output = (!taken).then(|| tree.join(store::OUTPUT));
    Ok(())
}

/// Where the tree lies, without links.
fn path_of(tree: &Tree) -> std::path::PathBuf {
    use std::os::fd::{AsFd, AsRawFd};
    let link = format!("/proc/self/fd/{}", tree.as_fd().as_raw_fd());
    std::fs::read_link(link).unwrap_or_else(|_| tree.path().to_owned())
}
