//! The secrets of a run's tree.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::Error;
use crate::base::text;
use crate::jail::spec::{Hidden, Spec};
use crate::ops::secrets::{self, Kind, Secrets};
use crate::ops::tools::Found;
use crate::policy::resolve::Resolved;
use crate::store::layout::StateDir;

/// Tool chains that are directories of the caller's own programs: people put there what these need as well.
const OWN: [&str; 2] = ["home-bin", "local-bin"];

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

/// The same at the top of the directories of the caller's own programs that are shown. Without mounts (`lite`)
/// such a directory is not shown.
pub(super) fn among_programs(
    resolved: &Resolved,
    spec: &mut Spec,
    (tools, lite): (&[Found], bool),
    secrets: &mut Secrets,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    for dir in tools.iter().filter(|f| OWN.contains(&f.name.as_str())).flat_map(|f| &f.places) {
        if !spec.tools.iter().any(|t| t.directory && t.path == *dir) {
            continue;
        }
        let found = secrets::among_programs(resolved, dir)?;
        if let (Some(first), true) = (found.first(), lite) {
            let (dir, first) = (text::os(dir), text::printable(&first.path));
            warnings.push(format!("`{dir}` is not shown: `{first}` cannot be hidden without namespaces"));
            let hidden = found.iter().map(|s| Hidden {
                path: PathBuf::from(std::ffi::OsStr::from_bytes(&s.path)),
                directory: s.kind == Kind::Directory,
            });
            spec.hidden.extend(hidden);
        } else if !found.is_empty() {
            secrets.found.extend(found);
            secrets.found.sort_by(|a, b| a.path.cmp(&b.path));
            secrets.found.dedup_by(|a, b| a.path == b.path);
        }
    }
    Ok(())
}
