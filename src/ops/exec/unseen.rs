//! Which entries of the caller's PATH a jail does without, and why: asked for by `--dry-run` alone.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

use super::sight::Sight;
use crate::base::env;
use crate::base::text::os;
use crate::policy::settings::Settings;
use crate::schema::policy::LeftOut;

/// They, in the order of PATH, each once. None where PATH comes in as it is or is another one.
pub(super) fn entries(sight: &Sight, settings: &Settings) -> Vec<LeftOut> {
    let given = settings.pass.iter().chain(settings.env.iter().map(|(name, _)| name)).any(|n| n == "PATH");
    let Some(path) = env::caller("PATH").filter(|path| !given && !path.is_empty()) else { return Vec::new() };
    let mut seen: Vec<&[u8]> = Vec::new();
    let mut left = Vec::new();
    for entry in path.as_bytes().split(|b| *b == b':') {
        if seen.contains(&entry) {
            continue;
        }
        seen.push(entry);
        if let Some(why) = why(Path::new(OsStr::from_bytes(entry)), sight) {
            left.push(LeftOut { entry: os(OsStr::from_bytes(entry)), why });
        }
    }
    left
}

/// Why an entry is left out, a fact about it; `None`: it is not.
fn why(entry: &Path, sight: &Sight) -> Option<String> {
    if !entry.is_absolute() {
        let empty = entry.as_os_str().is_empty();
        let what = if empty { "is empty: it means" } else { "is relative: it depends on" };
        return Some(format!("it {what} the current directory, whatever that holds"));
    }
    if sight.shows(entry) {
        return None;
    }
    Some(match std::fs::canonicalize(entry) {
        Ok(real) if real != entry => format!("it leads to `{}`, which is not shown", os(&real)),
        Ok(_) => "it is not shown".to_owned(),
        Err(e) => match e.raw_os_error().map(Errno::from_raw) {
            None | Some(Errno::ENOENT | Errno::ENOTDIR) => "there is no such directory".to_owned(),
            Some(errno) => format!("it cannot be followed ({errno:?})"),
        },
    })
}
