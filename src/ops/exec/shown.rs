//! What a jail shows beside its workspace: directories that were asked for, and the caller's tools.

use std::path::{Path, PathBuf};

use super::{Error, check};
use crate::jail::spec::Bind;
use crate::ops::tools::{self, Around, Tools};
use crate::policy::key::Key;
use crate::policy::resolve::{Origin, Resolved};
use crate::policy::settings::Tools as Choice;

/// What was found.
pub(super) struct Shown {
    pub(super) binds: Vec<Bind>,
    pub(super) aliases: Vec<(PathBuf, PathBuf)>,
    pub(super) tools: Tools,
}

/// Where a workspace is shown.
pub(super) fn at(workspace: &Path) -> &Path {
    if workspace == Path::new("/") { Path::new("/workspace") } else { workspace }
}

/// Look for both. What was left out of the tools is a warning.
pub(super) fn beside(
    resolved: &Resolved,
    workspace: &Path,
    state: Option<&Path>,
    warnings: &mut Vec<String>,
) -> Result<Shown, Error> {
    let choice = &resolved.settings.tools;
    let (binds, mut aliases) = check::binds(&resolved.settings)?;
    let around = Around { at: at(workspace), binds: &binds, state };
    let (tools, unknown) = tools::find(choice, &around)?;
    let origin = resolved.origin(Key::Tools).unwrap_or(Origin::BuiltIn);
    for strange in unknown {
        if origin == Origin::Flag {
            return Err(Error::UnknownTools { name: strange.name, meant: strange.meant });
        }
        let (from, meant) = (resolved.origin_text(Key::Tools, origin), strange.meant);
        let meant = meant.map(|m| format!("; did you mean `{m}`?")).unwrap_or_default();
        warnings.push(format!("{from}: there are no tools of the name `{}`{meant}", strange.name));
    }
    if let (Choice::Only(names), Origin::Flag) = (choice, origin) {
        for name in names.iter().filter(|n| tools.found.iter().all(|f| f.name != **n)) {
            warnings.push(format!("neither PATH nor a variable leads to the tools `{name}`"));
        }
    }
    warnings.extend(tools.warnings.iter().cloned());
    aliases.extend(tools.links.iter().cloned());
    Ok(Shown { binds, aliases, tools })
}
