//! `aj exec --dry-run`: everything that a run checks and works out, and nothing of it started.

use nix::sys::stat::{Mode, umask};

use super::{Error, Request, birth, check, config, prepare, streams};
use crate::base::text::os;
use crate::ops::tools::Found;
use crate::policy::resolve::Resolved;
use crate::schema::policy;

/// The effective policy and its origins, and the tools that it shows. What a run would be refused for before it starts anything is
/// the same error here, because it comes from the same checks.
pub fn explain(request: &Request) -> Result<(Resolved, Vec<policy::Tools>), Error> {
    drop(streams::inherited(request.status_fd)?);
    // The state directory may be made on the way, as by a run.
    umask(Mode::from_bits_truncate(0o077));
    let at = check::current_dir()?;
    let mut resolved = config::policy(&at.0, request.flags.clone(), &request.env_files)?;
    let mut warnings = Vec::new();
    let prepared = prepare(request, &resolved, at, birth(&resolved.settings), 0o022, &mut warnings)?;
    resolved.warnings.append(&mut warnings);
    let row = |found: Found| policy::Tools {
        name: found.name,
        found_by: found.by,
        shows: found.places.iter().map(os).collect(),
    };
    Ok((resolved, prepared.tools.into_iter().map(row).collect()))
}
