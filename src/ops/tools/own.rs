//! Tool chains that the user has described: `flavors/NAME.toml` beside `config.toml`.

use std::path::Path;

use crate::base::text::os;
use crate::ops::config;
use crate::policy::flavor::{Flavor, parse};
use crate::policy::value::tool_name;

/// Files that are read. More is no catalogue but a mistake.
const MOST: usize = 128;

/// Read them. Also what is to be said about them.
pub(in crate::ops) fn read() -> Result<(Vec<Flavor>, Vec<String>), config::Error> {
    match config::user_path()?.as_deref().and_then(Path::parent) {
        Some(dir) => read_in(&dir.join("flavors")),
        None => Ok(Default::default()),
    }
}

/// Read those in `dir`, and what is to be said about them. A file that cannot be used is named and
/// left out: it would only have shown more.
fn read_in(dir: &Path) -> Result<(Vec<Flavor>, Vec<String>), config::Error> {
    let (mut flavors, mut warnings) = (Vec::new(), Vec::new());
    let Ok(files) = std::fs::read_dir(dir) else { return Ok((flavors, warnings)) };
    let mut files: Vec<_> = files.flatten().map(|entry| entry.path()).take(MOST).collect();
    files.sort();
    for path in files.iter().filter(|path| path.extension().is_some_and(|e| e == "toml")) {
        let shown = config::shown(path);
        let stem = path.file_stem().map(os).unwrap_or_default();
        let Ok(name) = tool_name(&stem) else {
            warnings.push(format!("`{shown}` is ignored: its name is not one that `--tools` takes"));
            continue;
        };
        let Some(bytes) = config::read_regular(path, &shown, 0)? else { continue };
        match parse(&name, &shown, &bytes) {
            Ok((flavor, strange)) => {
                warnings.extend(strange);
                flavors.push(flavor);
            }
            Err(e) => warnings.push(format!("{e}; the file is ignored")),
        }
    }
    Ok((flavors, warnings))
}
