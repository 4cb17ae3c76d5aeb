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
    /// What to show so that it runs inside: the directory that has it, or the installation that this is
    /// the `bin` of, and the same of the file behind it when that is a link; the files themselves where
    /// that is the home directory.
    pub places: Vec<PathBuf>,
    /// Tool chains that would show all of these.
    pub tools: Vec<String>,
}

/// Where the host has the command `name`.
pub fn on_host(name: &OsStr) -> Option<OnHost> {
    let path = env::caller("PATH").unwrap_or_default();
    let home = env::HOME.absolute_path().and_then(|home| std::fs::canonicalize(home).ok());
    let here = std::env::current_dir().ok();
    let (program, places) = find(name, std::env::split_paths(&path), home.as_deref(), here.as_deref())?;
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
    here: Option<&Path>,
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
        let place = installation(dir, home, here).unwrap_or(dir);
        Some(if whole { p.clone() } else { place.to_owned() })
    };
    let mut places: Vec<PathBuf> =
        [Some(&found), real.as_ref()].into_iter().flatten().filter_map(place).collect();
    places.dedup();
    Some((found, places))
}

/// The installation that `dir` is the `bin` of: a tool chain that was unpacked somewhere starts there, and
/// fails without what lies beside. Not one that is more than that: what is hidden in the home directory
/// (`~/.cargo`, `~/.local`) has credentials beside its `bin`, and around `here` lie other projects.
fn installation<'a>(dir: &'a Path, home: Option<&Path>, here: Option<&Path>) -> Option<&'a Path> {
    let top = dir.parent().filter(|_| dir.file_name().is_some_and(|name| name == "bin"))?;
    let hidden = top.file_name()?.as_bytes().starts_with(b".");
    let wide = [home, here].into_iter().flatten().any(|p| p.starts_with(top));
    let parts = || ["lib", "lib64", "libexec", "pkg"].iter().any(|name| top.join(name).is_dir());
    (!hidden && !wide && parts()).then_some(top)
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
        let found =
            |name: &OsStr, home: &Path| find(name, path(), Some(home), None).map(|(_, places)| places);
        let nobody = Path::new("/home/nobody");
        assert_eq!(found(OsStr::new("tool"), nobody), Some(vec![b.clone(), real.clone()]));
        assert_eq!(found(OsStr::new("tool-1.2"), nobody), None);
        assert_eq!(found(real.join("tool-1.2").as_os_str(), nobody), Some(vec![real.clone()]));
        assert_eq!(found(OsStr::new("./tool"), nobody), None);
        // Never the whole of the home directory.
        assert_eq!(found(OsStr::new("tool"), &real), Some(vec![b.clone(), real.join("tool-1.2")]));
        assert_eq!(found(OsStr::new("tool"), &b.join("me")), Some(vec![b.join("tool"), real]));
    }

    #[test]
    fn what_lies_beside_bin_is_shown_with_it_when_it_is_an_installation_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let top = std::fs::canonicalize(dir.path()).unwrap();
        let place = |name: &str, home: &str, here: &str| {
            let bin = top.join(name).join("bin");
            std::fs::create_dir_all(&bin).unwrap();
            let found = installation(&bin, Some(&top.join(home)), Some(&top.join(here)));
            found.map(|p| p.strip_prefix(&top).unwrap().to_owned())
        };
        for name in ["me/go", "me/.acme", "me/work", "me/plain/bin", "srv"] {
            std::fs::create_dir_all(top.join(name).join("lib")).unwrap();
        }
        assert_eq!(place("me/go", "me", "me/work/p"), Some(PathBuf::from("me/go")));
        for (name, home, here) in [
            ("me/.acme", "me", "me/work/p"),
            ("me/work", "me", "me/work/p"),
            ("me/plain", "me", "me/work/p"),
            ("srv", "srv/me", "elsewhere"),
        ] {
            assert_eq!(place(name, home, here), None, "{name}");
        }
    }
}
