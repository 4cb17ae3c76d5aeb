//! A command that is not in the jail but on the host: where it is, so that the way in can be named.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use crate::base::env;

/// Directories to show so that the command `name` runs inside: the one that has it on the host, and
/// the one that has the file behind it when that is a link.
pub fn on_host(name: &OsStr) -> Vec<PathBuf> {
    let path = env::caller("PATH").unwrap_or_default();
    find(name, std::env::split_paths(&path))
}

fn find(name: &OsStr, mut path: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let is_program = |p: &Path| p.is_file() && access(p, AccessFlags::X_OK).is_ok();
    let found = if name.as_bytes().contains(&b'/') {
        Some(PathBuf::from(name)).filter(|p| p.is_absolute() && is_program(p))
    } else {
        path.find_map(|d| Some(d.join(name)).filter(|p| d.is_absolute() && is_program(p)))
    };
    let Some(found) = found else { return Vec::new() };
    let real = std::fs::canonicalize(&found).ok();
    let mut dirs: Vec<PathBuf> =
        [Some(found), real].iter().flatten().filter_map(|p| Some(p.parent()?.to_owned())).collect();
    dirs.dedup();
    dirs
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
        assert_eq!(find(OsStr::new("tool"), path()), [b.clone(), real.clone()]);
        assert_eq!(find(OsStr::new("tool-1.2"), path()), Vec::<PathBuf>::new());
        assert_eq!(find(real.join("tool-1.2").as_os_str(), path()), [real]);
        assert_eq!(find(OsStr::new("./tool"), path()), Vec::<PathBuf>::new());
    }
}
