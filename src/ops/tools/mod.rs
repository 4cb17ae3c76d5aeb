//! Which of the caller's tool chains a jail shows: the catalogue against PATH, with a few calls each.
//!
//! PATH and variables are the caller's word, what lies on disk is not: a directory of the catalogue
//! that is a link, that everyone may write, or in which a variable has put the home directory is
//! named and left out. What is shown is opened once, without following links, and opened so again by
//! whoever mounts it.

mod look;
mod own;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::base::env;
use crate::base::text::os;
use crate::jail::plan::USR_NAMES;
use crate::jail::spec::{Bind, Hidden, Tool};
use crate::ops::config;
use crate::policy::flavor::{self, Caller, Flavor, Reached, expand, is_below, plain, reached};
use crate::policy::settings::Tools as Choice;
use look::Look;

/// What a jail shows apart from its tools.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// Where the workspace is shown.
    pub at: &'a Path,
    /// Directories of `--ro` and `--rw`.
    pub binds: &'a [Bind],
    /// The state directory, without links, when there is one.
    pub state: Option<&'a Path>,
}

/// The tool chains of a jail.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tools {
    /// What is shown, parents before children.
    pub shown: Vec<Tool>,
    /// Directories of which single programs are shown.
    pub of_programs: Vec<PathBuf>,
    /// What is seen empty in it.
    pub hidden: Vec<Hidden>,
    /// Names that lead to it: links inside.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Variables that are set.
    pub variables: Vec<(OsString, OsString)>,
    /// Each tool chain, what led to it, and its places that are there.
    pub found: Vec<Found>,
    /// What was left out, and why.
    pub warnings: Vec<String>,
}

/// One tool chain.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// An entry of PATH or the name of a variable.
    pub by: String,
    /// What is shown of it.
    pub places: Vec<PathBuf>,
}

/// A name that is no tool chain's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// As given.
    pub name: String,
    /// The nearest known one.
    pub meant: Option<String>,
}

impl Tools {
    /// Whether programs in `dir` can be run inside.
    pub fn reaches(&self, dir: &Path) -> bool {
        self.shows(dir) || self.of_programs.iter().any(|d| d == dir)
    }

    /// Whether `dir` is shown.
    pub fn shows(&self, dir: &Path) -> bool {
        let dir = dir.as_os_str().as_bytes();
        self.shown.iter().any(|t| is_below(dir, t.path.as_os_str().as_bytes()))
    }

    /// The directories and files shown, and the names of the tool chains: for the record.
    pub fn names(&self) -> Vec<String> {
        self.found.iter().map(|f| f.name.clone()).collect()
    }
}

/// Find what `choice` lets the jail show. The names in it that are no tool chain's come back as well.
pub fn find(choice: &Choice, around: &Around<'_>) -> Result<(Tools, Vec<Unknown>), config::Error> {
    if matches!(choice, Choice::None) {
        return Ok((Tools::default(), Vec::new()));
    }
    let (catalogue, warnings) = own::catalogue()?;
    let unknown = unknown(choice, &catalogue);
    let home = Home::of_caller();
    let variables = home.variables(&catalogue);
    let entries = entries(&home);
    let names: Vec<PathBuf> = entries.iter().flat_map(|(name, real)| [name, real]).cloned().collect();
    let caller = Caller { home: home.real.as_deref(), variables: &variables };
    let chosen = catalogue.iter().filter(|f| choice.allows(&f.name));
    let found: Vec<Reached<'_>> = chosen.filter_map(|f| reached(f, &names, &caller)).collect();
    let mut look = Look::new(around, &caller, &catalogue, warnings);
    for reached in &found {
        look.show(reached);
    }
    look.settle();
    for reached in &found {
        look.hide(reached);
        look.set(reached);
    }
    look.settle_hidden();
    for (name, real) in entries {
        look.link_entry(name, real);
    }
    look.link_home(&home);
    Ok((look.tools, unknown))
}

fn unknown(choice: &Choice, catalogue: &[Flavor]) -> Vec<Unknown> {
    let Choice::Only(names) = choice else { return Vec::new() };
    let strange = names.iter().filter(|n| catalogue.iter().all(|f| f.name != n.as_str()));
    strange.map(|n| Unknown { name: n.clone(), meant: flavor::meant(n, catalogue) }).collect()
}

/// Tool chains that would show `dir`, a directory in which the caller has a program, by name.
pub fn that_show(dir: &Path) -> Vec<String> {
    let home = Home::of_caller();
    let dir = plain(dir.as_os_str()).map(|dir| home.moved(dir));
    let (Some(dir), Ok((catalogue, _))) = (dir, own::catalogue()) else { return Vec::new() };
    let variables = home.variables(&catalogue);
    let caller = Caller { home: home.real.as_deref(), variables: &variables };
    let entries = [dir.clone()];
    let shows = |f: &&Flavor| {
        let Some(reached) = reached(f, &entries, &caller) else { return false };
        let mut places = f.show.iter().flat_map(|item| places(f, item, &caller, &reached.at));
        places.any(|p| is_below(dir.as_os_str().as_bytes(), p.as_os_str().as_bytes()))
    };
    catalogue.iter().filter(shows).map(|f| f.name.to_string()).collect()
}

/// What an item of `show` means: once for each place that was reached when it starts with `@`.
fn places(flavor: &Flavor, item: &str, caller: &Caller<'_>, at: &[PathBuf]) -> Vec<PathBuf> {
    if item == "@" || item.starts_with("@/") {
        at.iter().filter_map(|at| expand(flavor, item, caller, Some(at))).collect()
    } else {
        expand(flavor, item, caller, None).into_iter().collect()
    }
}

/// The caller's home directory under the name it has in the environment, and without links.
#[derive(Debug)]
struct Home {
    name: Option<PathBuf>,
    real: Option<PathBuf>,
}

impl Home {
    fn of_caller() -> Home {
        let name = env::HOME.get().and_then(|home| plain(&home));
        let real = name.as_deref().map(|name| look::real(name).unwrap_or_else(|| name.to_owned()));
        Home { name, real }
    }

    /// The variables of `catalogue` that the caller has set: places, those below the home directory
    /// without the links of that.
    fn variables(&self, catalogue: &[Flavor]) -> Vec<(String, PathBuf)> {
        let mut set: Vec<(String, PathBuf)> = Vec::new();
        for (name, _) in catalogue.iter().flat_map(|f| f.places.iter()) {
            let Some(value) = env::caller(name).and_then(|value| plain(&value)) else { continue };
            if set.iter().all(|(known, _)| known != name) {
                set.push((name.to_owned(), self.moved(value)));
            }
        }
        set
    }

    fn moved(&self, path: PathBuf) -> PathBuf {
        match (&self.name, &self.real) {
            (Some(name), Some(real)) if name != real => {
                path.strip_prefix(name).map(|rest| real.join(rest)).unwrap_or(path)
            }
            _ => path,
        }
    }
}

/// The entries of PATH that may belong to a tool chain, and what each is without links: absolute,
/// existing, and not of the system.
fn entries(home: &Home) -> Vec<(PathBuf, PathBuf)> {
    let path = env::caller("PATH").unwrap_or_default();
    let mut entries: Vec<(PathBuf, PathBuf)> = Vec::new();
    for entry in path.as_bytes().split(|b| *b == b':') {
        if !entry.starts_with(b"/") || is_system(entry) {
            continue;
        }
        let Some(name) = plain(OsStr::from_bytes(entry)).map(|e| home.moved(e)) else { continue };
        if entries.iter().all(|(known, _)| *known != name)
            && let Some(real) = look::real(&name)
        {
            entries.push((name, real));
        }
    }
    entries
}

/// Whether a path is shown with `/usr`.
fn is_system(path: &[u8]) -> bool {
    let inside = path.get(1..).unwrap_or_default();
    is_below(inside, b"usr") || USR_NAMES.iter().any(|name| is_below(inside, name.as_bytes()))
}

/// A path for messages: `~` for the home directory.
fn shown(path: &Path, home: Option<&Path>) -> String {
    match home.and_then(|home| path.strip_prefix(home).ok()) {
        Some(rest) if rest.as_os_str().is_empty() => "~".to_owned(),
        Some(rest) => format!("~/{}", os(rest)),
        None => os(path),
    }
}
