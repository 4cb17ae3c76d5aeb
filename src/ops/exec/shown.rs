//! What a jail shows beside its workspace: directories that were asked for, the caller's tools, and the
//! caller's package caches.

use std::path::{Path, PathBuf};

use super::{Error, check};
use crate::jail::spec::Bind;
use crate::ops::caches::{self, Caches};
use crate::ops::tools::{self, Around, Tools, Unknown};
use crate::policy::key::Key;
use crate::policy::resolve::{Origin, Resolved};
use crate::policy::settings::Tools as Choice;

/// What was found.
pub(super) struct Shown {
    pub(super) binds: Vec<Bind>,
    pub(super) aliases: Vec<(PathBuf, PathBuf)>,
    pub(super) tools: Tools,
    pub(super) caches: Caches,
}

/// Look for all, beside a workspace that is shown at `at`. What was left out of the tools and the caches is a warning.
pub(super) fn beside(
    resolved: &Resolved,
    at: &Path,
    state: Option<&Path>,
    warnings: &mut Vec<String>,
) -> Result<Shown, Error> {
    let choice = &resolved.settings.tools;
    let (binds, mut aliases) = check::binds(&resolved.settings, Some(at))?;
    let around = Around { at, binds: &binds, state };
    let (tools, unknown) = tools::find(choice, &around)?;
    strange(resolved, Key::Tools, unknown, warnings)?;
    if let (Choice::Only(names), Some(Origin::Flag)) = (choice, resolved.origin(Key::Tools)) {
        for name in names.iter().filter(|n| tools.found.iter().all(|f| f.name != **n)) {
            warnings.push(format!("neither PATH nor a variable leads to the tools `{name}`"));
        }
    }
    warnings.extend(tools.warnings.iter().cloned());
    aliases.extend(tools.links.iter().cloned());
    let choice = &resolved.settings.caches;
    let (caches, unknown) = caches::find(choice, &around, &tools)?;
    strange(resolved, Key::Caches, unknown, warnings)?;
    if let (Choice::Only(names), Some(Origin::Flag), []) =
        (choice, resolved.origin(Key::Caches), &*caches.warnings)
    {
        for name in names.iter().filter(|n| caches.found.iter().all(|f| f.name != **n)) {
            warnings.push(format!("there is nothing of the cache `{name}` on this machine"));
        }
    }
    warnings.extend(caches.warnings.iter().cloned());
    aliases.extend(caches.links.iter().cloned());
    Ok(Shown { binds, aliases, tools, caches })
}

/// Names of nothing: refused where they were typed, a warning where a file has them.
fn strange(
    resolved: &Resolved,
    key: Key,
    unknown: Vec<Unknown>,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let origin = resolved.origin(key).unwrap_or(Origin::BuiltIn);
    let what = if key == Key::Caches { "is no cache" } else { "are no tools" };
    for Unknown { name, meant } in unknown {
        match origin {
            Origin::Flag if key == Key::Caches => return Err(Error::UnknownCache { name, meant }),
            Origin::Flag => return Err(Error::UnknownTools { name, meant }),
            _ => {}
        }
        let from = resolved.origin_text(key, origin);
        let meant = meant.map(|m| format!("; did you mean `{m}`?")).unwrap_or_default();
        warnings.push(format!("{from}: there {what} of the name `{name}`{meant}"));
    }
    Ok(())
}
