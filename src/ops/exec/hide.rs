//! The secrets of a run's tree.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::Error;
use crate::jail::spec::Spec;
use crate::ops::secrets::{self, Secrets};
use crate::policy::resolve::Resolved;
use crate::store::layout::StateDir;

/// Look for them. `parts`: git directories elsewhere that are shown, too.
pub(super) fn find(
    resolved: &Resolved,
    spec: &Spec,
    parts: &[PathBuf],
    (state, spelled): (&StateDir, bool),
    warnings: &mut Vec<String>,
) -> Result<Secrets, Error> {
    let mut start =
        spec.cwd.strip_prefix(&spec.at).map(|below| spec.workspace.join(below)).unwrap_or_default();
    // By `--cwd` it may lead through a link.
    if spelled {
        start = std::fs::canonicalize(&start).unwrap_or(start);
    }
    let below = start.strip_prefix(&spec.workspace).map(|p| p.to_owned()).unwrap_or_default();
    let start: Vec<Vec<u8>> = below.iter().map(|part| part.as_bytes().to_vec()).collect();
    let mut found = secrets::find(resolved, (&spec.workspace, parts), &start, &state.path().join("cache"))?;
    // What is asked for by its own name is shown.
    found.found.retain(|s| {
        let path = spec.workspace.join(std::ffi::OsStr::from_bytes(&s.path));
        !spec.binds.iter().any(|b| b.path == path)
    });
    warnings.append(&mut found.warnings);
    Ok(found)
}
