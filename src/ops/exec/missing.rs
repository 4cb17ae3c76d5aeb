//! A command that is not in the jail but on the host: where it is, so that the way in can be named.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use crate::base::env;
use crate::ops::{project, tools};

/// Bytes that the kernel reads of a `#!` line.
const FIRST_LINE: u64 = 256;
/// Links that are followed from one program.
const LINKS: usize = 16;

/// A command that the host has.
#[derive(Debug, PartialEq, Eq)]
pub struct OnHost {
    /// Where the caller would run it.
    pub program: PathBuf,
    /// What it leads to, where it is a link of the tree that is shown.
    pub target: Option<PathBuf>,
    /// What to show so that it runs inside: the directory that has it, or the installation that this is
    /// the `bin` of, and the same of the file behind it when that is a link; the files themselves where
    /// that is the home directory.
    pub places: Vec<PathBuf>,
    /// Tool chains that would show all of these.
    pub tools: Vec<String>,
}

/// Where the host has the command `name`.
pub fn on_host(name: &OsStr) -> Option<OnHost> {
    let surroundings = Surroundings::of_caller();
    let found = find(name, callers_path().into_iter(), &surroundings)?;
    let Found { program, target, places } = found;
    let mut tools = tools::that_show(places.first()?);
    for place in places.iter().skip(1) {
        let also = tools::that_show(place);
        tools.retain(|name| also.contains(name));
    }
    Some(OnHost { program, target, places, tools })
}

/// What the `#!` line of the program `name` names, a file of the caller's; `None`: it has no such line.
pub fn interpreter(name: &OsStr) -> Option<PathBuf> {
    let program = locate(name, callers_path().into_iter(), std::env::current_dir().ok().as_deref())?;
    // It may be of a tree that nobody trusts.
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(program).ok()?;
    let mut head = Vec::new();
    file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    file.take(FIRST_LINE).read_to_end(&mut head).ok()?;
    named(&head)
}

/// As the kernel reads it.
fn named(head: &[u8]) -> Option<PathBuf> {
    let line = head.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    let line = line.trim_ascii();
    let word = line.split(|b| matches!(b, b' ' | b'\t')).next()?;
    Some(PathBuf::from(OsStr::from_bytes(word))).filter(|path| path.is_absolute())
}

fn callers_path() -> Vec<PathBuf> {
    std::env::split_paths(&env::caller("PATH").unwrap_or_default()).collect()
}

/// What no whole of is offered to be shown.
#[derive(Debug, Default)]
struct Surroundings {
    home: Option<PathBuf>,
    here: Option<PathBuf>,
    /// The tree that is shown.
    tree: Option<PathBuf>,
}

impl Surroundings {
    fn of_caller() -> Surroundings {
        let home = env::HOME.absolute_path().and_then(|home| std::fs::canonicalize(home).ok());
        let here = std::env::current_dir().ok();
        Surroundings { home, tree: here.as_deref().map(project::root_of), here }
    }
}

struct Found {
    program: PathBuf,
    target: Option<PathBuf>,
    places: Vec<PathBuf>,
}

fn is_program(path: &Path) -> bool {
    path.is_file() && access(path, AccessFlags::X_OK).is_ok()
}

/// The file that the caller would run.
fn locate(name: &OsStr, mut path: impl Iterator<Item = PathBuf>, here: Option<&Path>) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        let named = Path::new(name);
        let found = if named.is_absolute() { named.to_owned() } else { here?.join(named) };
        Some(found).filter(|p| is_program(p))
    } else {
        path.find_map(|d| Some(d.join(name)).filter(|p| d.is_absolute() && is_program(p)))
    }
}

fn find(name: &OsStr, path: impl Iterator<Item = PathBuf>, around: &Surroundings) -> Option<Found> {
    let (home, here) = (around.home.as_deref(), around.here.as_deref());
    let program = locate(name, path, here)?;
    let place = |p: &PathBuf| {
        let dir = p.parent()?;
        let whole = home.is_some_and(|home| home.starts_with(dir)) || dir.parent().is_none();
        let place = installation(dir, home, here).unwrap_or(dir);
        Some(if whole { p.clone() } else { place.to_owned() })
    };
    let names = chain(&program);
    let in_tree = |p: &Path| around.tree.as_deref().is_some_and(|tree| p.starts_with(tree));
    let (names, target) = if names.first().is_some_and(|first| in_tree(first)) {
        let names: Vec<PathBuf> = names.into_iter().filter(|p| !in_tree(p)).collect();
        let target = Some(names.first()?.clone());
        (names, target)
    } else {
        let real = std::fs::canonicalize(&program).ok();
        ([Some(program.clone()), real].into_iter().flatten().collect(), None)
    };
    let mut places: Vec<PathBuf> = names.iter().filter_map(place).collect();
    places.dedup();
    Some(Found { program, target, places })
}

/// The names that lead from `path` to the file behind it, each in a directory without links.
fn chain(path: &Path) -> Vec<PathBuf> {
    let settled = |path: &Path| {
        let dir = std::fs::canonicalize(path.parent()?).ok()?;
        Some(dir.join(path.file_name()?))
    };
    let mut names: Vec<PathBuf> = Vec::new();
    let mut next = settled(path);
    while let Some(name) = next.filter(|_| names.len() < LINKS) {
        let target = std::fs::read_link(&name).ok();
        next = target.and_then(|target| settled(&name.parent()?.join(target)));
        names.push(name);
    }
    names
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
        let found = |name: &OsStr, home: &Path| {
            let around = Surroundings { home: Some(home.to_owned()), ..Surroundings::default() };
            find(name, path(), &around).map(|found| found.places)
        };
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
    fn of_a_link_of_the_tree_what_it_leads_to_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let top = std::fs::canonicalize(dir.path()).unwrap();
        let tree = top.join("p");
        std::fs::create_dir_all(tree.join(".venv/bin")).unwrap();
        std::fs::create_dir_all(top.join("py-3.1/bin")).unwrap();
        std::fs::create_dir_all(top.join("py-3.1/lib")).unwrap();
        std::fs::write(top.join("py-3.1/bin/python3"), "").unwrap();
        std::fs::set_permissions(top.join("py-3.1/bin/python3"), std::fs::Permissions::from_mode(0o755))
            .unwrap();
        std::os::unix::fs::symlink("py-3.1", top.join("py-3")).unwrap();
        std::os::unix::fs::symlink("python3", tree.join(".venv/bin/python")).unwrap();
        std::os::unix::fs::symlink(top.join("py-3/bin/python3"), tree.join(".venv/bin/python3")).unwrap();
        let around = Surroundings { home: None, here: Some(tree.clone()), tree: Some(tree.clone()) };
        let found = find(OsStr::new(".venv/bin/python"), std::iter::empty(), &around).unwrap();
        assert_eq!(found.target, Some(top.join("py-3.1/bin/python3")));
        assert_eq!(found.places, [top.join("py-3.1")]);
        // One that is there inside is not missing because of a link.
        std::fs::remove_file(tree.join(".venv/bin/python3")).unwrap();
        std::fs::copy(top.join("py-3.1/bin/python3"), tree.join(".venv/bin/python3")).unwrap();
        assert!(find(OsStr::new(".venv/bin/python"), std::iter::empty(), &around).is_none());
    }

    #[test]
    fn a_line_is_read_as_the_kernel_reads_it() {
        for (line, want) in [
            ("#!/a/b\nx", Some("/a/b")),
            ("#! \t/a/b -x\n", Some("/a/b")),
            ("#!/a", Some("/a")),
            ("#!b\n", None),
            ("#!\n", None),
            ("x", None),
        ] {
            assert_eq!(named(line.as_bytes()).as_deref(), want.map(Path::new), "{line:?}");
        }
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
