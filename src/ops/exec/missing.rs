//! A command that is not in the jail but on the host: where it is, so that the way in can be named.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use crate::base::env;
use crate::ops::tools;

/// A command that the host has.
#[derive(Debug, PartialEq, Eq)]
pub struct OnHost {
    /// Where the caller would run it.
    pub program: PathBuf,
    /// What to show so that it runs inside: the directory that has it, and the one that has the file
    /// behind it when that is a link; the files themselves where that is the home directory.
    pub places: Vec<PathBuf>,
    /// Tool chains that would show all of these.
    pub tools: Vec<String>,
}

/// Where the host has the command `name`.
pub fn on_host(name: &OsStr) -> Option<OnHost> {
    let path = env::caller("PATH").unwrap_or_default();
    let home = env::HOME.absolute_path().and_then(|home| std::fs::canonicalize(home).ok());
    let (program, places) = find(name, std::env::split_paths(&path), home.as_deref())?;
    let mut tools = tools::that_show(places.first()?);
    for place in places.iter().skip(1) {
        let also = tools::that_show(place);
        tools.retain(|name| also.contains(name));
    }
    Some(OnHost { program, places, tools })
}

fn find(
    name: &OsStr,
    mut path: impl Iterator<Item = PathBuf>,
    home: Option<&Path>,
) -> Option<(PathBuf, Vec<PathBuf>)> {
    let is_program = |p: &Path| p.is_file() && access(p, AccessFlags::X_OK).is_ok();
    let found = if name.as_bytes().contains(&b'/') {
        Some(PathBuf::from(name)).filter(|p| p.is_absolute() && is_program(p))?
    } else {
        path.find_map(|d| Some(d.join(name)).filter(|p| d.is_absolute() && is_program(p)))?
    };
    let real = std::fs::canonicalize(&found).ok();
    let place = |p: &PathBuf| {
        let dir = p.parent()?;
        let whole = home.is_some_and(|home| home.starts_with(dir)) || dir.parent().is_none();
        Some(if whole { p.clone() } else { dir.to_owned() })
    };
    let mut places: Vec<PathBuf> =
        [Some(&found), real.as_ref()].into_iter().flatten().filter_map(place).collect();
    places.dedup();
    Some((found, places))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_program_is_found_where_the_caller_would_run_it() {
        let dir = tempfile::tempdir().unwrap();
        let top = std::fs::canonicalize(dir.path()).unwrap();
        let [a, b, real] = ["a", "b", "real"].map(|n| top.join(n));
        for d in [&a, &b, &real] {
            std::fs::create_dir(d).unwrap();
        }
        std::fs::write(a.join("tool"), "not executable").unwrap();
        std::fs::write(real.join("tool-1.2"), "").unwrap();
        std::fs::set_permissions(real.join("tool-1.2"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("../real/tool-1.2", b.join("tool")).unwrap();
        let path = || [PathBuf::from("."), a.clone(), b.clone()].into_iter();
        let found = |name: &OsStr, home: &Path| find(name, path(), Some(home)).map(|(_, places)| places);
        let nobody = Path::new("/home/nobody");
        assert_eq!(found(OsStr::new("tool"), nobody), Some(vec![b.clone(), real.clone()]));
        assert_eq!(found(OsStr::new("tool-1.2"), nobody), None);
        assert_eq!(found(real.join("tool-1.2").as_os_str(), nobody), Some(vec![real.clone()]));
        assert_eq!(found(OsStr::new("./tool"), nobody), None);
        // Never the whole of the home directory.
        assert_eq!(found(OsStr::new("tool"), &real), Some(vec![b.clone(), real.join("tool-1.2")]));
        assert_eq!(found(OsStr::new("tool"), &b.join("me")), Some(vec![b.join("tool"), real]));
    }
}
