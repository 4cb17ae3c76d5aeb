//! `aj exec --dry-run`: everything that a run checks and works out, and nothing of it started.

use nix::sys::stat::{Mode, umask};

use super::{Error, Request, birth, config, prepare, streams};
use crate::base::text::os;
use crate::ops::project;
use crate::ops::tools::Found;
use crate::policy::resolve::Resolved;
use crate::schema::policy;

/// What a run would be.
#[derive(Debug)]
pub struct Explained {
    /// The effective policy and its origins.
    pub resolved: Resolved,
    /// The tree that it would see.
    pub tree: policy::Tree,
    /// The tools that it would show.
    pub tools: Vec<policy::Tools>,
    /// What it would hide.
    pub hidden: Vec<policy::Hidden>,
}

/// The effective policy and its origins, and the tools that it shows. What a run would be refused for before it starts anything is
/// the same error here, because it comes from the same checks.
pub fn explain(request: &Request) -> Result<Explained, Error> {
    drop(streams::inherited(request.status_fd)?);
    // The state directory may be made on the way, as by a run.
    umask(Mode::from_bits_truncate(0o077));
    let place = project::find(&request.tree)?;
    let tree = policy::Tree { path: os(&place.root), found_by: place.why };
    let mut resolved = config::policy(&place.root, &place.cwd, request.flags.clone(), &request.env_files)?;
    let mut warnings = Vec::new();
    let prepared = prepare(request, &resolved, place, birth(&resolved.settings), 0o022, &mut warnings)?;
    resolved.warnings.append(&mut warnings);
    let row = |found: Found| policy::Tools {
        name: found.name,
        found_by: found.by,
        shows: found.places.iter().map(os).collect(),
    };
    let hidden = prepared.secrets.rows();
    Ok(Explained { resolved, tree, tools: prepared.tools.into_iter().map(row).collect(), hidden })
}
