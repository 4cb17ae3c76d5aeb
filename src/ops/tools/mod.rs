//! Which of the caller's tool chains a jail shows: the catalogue against PATH, with a few calls each.
//!
//! PATH and variables are the caller's word, what lies on disk is not: a directory of the catalogue
//! that is a link, that everyone may write, or in which a variable has put the home directory is
//! named and left out. What is shown is opened once, without following links, and opened so again by
//! whoever mounts it.

pub(super) mod disk;
mod look;
pub(super) mod own;

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
use disk::Disk;
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
    let (own, warnings) = own::read()?;
    let unknown = unknown(choice, &own);
    let mut home = Home::of_caller();
    let entries = entries();
    if own.is_empty() && entries.is_empty() && flavor::variables().all(|name| env::caller(name).is_none()) {
        return Ok((Tools { warnings, ..Tools::default() }, unknown));
    }
    let disk = home.resolve();
    let entries: Vec<PathBuf> = entries.into_iter().map(|entry| home.moved(entry)).collect();
    // What is in the project is seen anyway. It is for a repository to say where its links lead.
    let in_project = |entry: &Path| entry.starts_with(around.at);
    let (within, entries): (Vec<PathBuf>, Vec<PathBuf>) = entries.into_iter().partition(|e| in_project(e));
    let variables = home.variables(&own);
    let caller = Caller { home: home.real.as_deref(), variables: &variables };
    let chosen = || flavor::catalogue(&own).filter(|f| choice.allows(&f.name));
    let mut found: Vec<(Flavor, Reached)> =
        chosen().filter_map(|f| reached(&f, &entries, &caller).map(|r| (f, r))).collect();
    let mut links = links(&entries, &found);
    links.extend(self::links(&within, &found).into_iter().filter(|(_, real)| !real.starts_with("/opt")));
    if !links.is_empty() {
        // What the other entries lead to may be of the catalogue.
        let names: Vec<PathBuf> = entries.iter().chain(links.iter().map(|(_, real)| real)).cloned().collect();
        found = chosen().filter_map(|f| reached(&f, &names, &caller).map(|r| (f, r))).collect();
    }
    let mut look = Look::new(around, &caller, &own, disk, warnings);
    for (flavor, reached) in &found {
        look.show(flavor, reached);
    }
    look.settle();
    for (flavor, reached) in &found {
        look.hide(flavor, reached);
        look.set(flavor, reached);
    }
    look.settle_hidden();
    for (name, real) in links {
        look.link_entry(name, real);
    }
    look.link_home(&home);
    Ok((look.tools, unknown))
}

fn unknown(choice: &Choice, own: &[Flavor]) -> Vec<Unknown> {
    let Choice::Only(names) = choice else { return Vec::new() };
    let strange = names.iter().filter(|n| flavor::catalogue(own).all(|f| f.name != n.as_str()));
    strange.map(|n| Unknown { name: n.clone(), meant: flavor::meant(n, own) }).collect()
}

/// Entries of PATH that lead elsewhere through a link, of those that no tool chain knows by name.
fn links(entries: &[PathBuf], found: &[(Flavor, Reached)]) -> Vec<(PathBuf, PathBuf)> {
    let known = |entry: &Path| {
        let entry = entry.as_os_str().as_bytes();
        found.iter().any(|(_, r)| r.at.iter().any(|at| is_below(entry, at.as_os_str().as_bytes())))
    };
    let strange = entries.iter().filter(|entry| !known(entry));
    let linked = strange.filter_map(|entry| Some((entry.clone(), disk::real(entry)?)));
    linked.filter(|(entry, real)| entry != real).collect()
}

/// Tool chains that would show `dir`, a directory in which the caller has a program, by name.
pub fn that_show(dir: &Path) -> Vec<String> {
    let mut home = Home::of_caller();
    home.resolve();
    let dir = plain(dir.as_os_str()).map(|dir| home.moved(dir));
    let (Some(dir), Ok((own, _))) = (dir, own::read()) else { return Vec::new() };
    let variables = home.variables(&own);
    let caller = Caller { home: home.real.as_deref(), variables: &variables };
    let entries = [dir.clone()];
    let shows = |f: &Flavor| {
        let Some(reached) = reached(f, &entries, &caller) else { return false };
        let mut places = f.show.iter().flat_map(|item| places(f, item, &caller, &reached.at));
        places.any(|p| is_below(dir.as_os_str().as_bytes(), p.as_os_str().as_bytes()))
    };
    flavor::catalogue(&own).filter(shows).map(|f| f.name.to_string()).collect()
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
pub(super) struct Home {
    pub(super) name: Option<PathBuf>,
    pub(super) real: Option<PathBuf>,
}

impl Home {
    pub(super) fn of_caller() -> Home {
        let name = env::HOME.get().and_then(|home| plain(&home));
        Home { real: name.clone(), name }
    }

    /// Find out what it is without links. What is asked of it from then on is asked of the result.
    pub(super) fn resolve(&mut self) -> Disk {
        let (disk, real) = Disk::new(self.name.as_deref());
        self.real = real.or(self.real.take());
        disk
    }

    /// The variables of the catalogue that the caller has set: places, those below the home directory
    /// without the links of that.
    fn variables(&self, own: &[Flavor]) -> Vec<(String, PathBuf)> {
        let mut set: Vec<(String, PathBuf)> = Vec::new();
        let mut add = |name: &str| {
            let Some(value) = env::caller(name).and_then(|value| plain(&value)) else { return };
            // A variable that is left over names any directory, and `lib` of that is not Python's.
            let strange = name == "VIRTUAL_ENV" && !value.join("pyvenv.cfg").is_file();
            if !strange && set.iter().all(|(known, _)| known != name) {
                set.push((name.to_owned(), self.moved(value)));
            }
        };
        flavor::variables().for_each(&mut add);
        own.iter().for_each(|f| f.places.iter().for_each(|(name, _)| add(name)));
        set
    }

    pub(super) fn moved(&self, path: PathBuf) -> PathBuf {
        match (&self.name, &self.real) {
            (Some(name), Some(real)) if name != real => {
                path.strip_prefix(name).map(|rest| real.join(rest)).unwrap_or(path)
            }
            _ => path,
        }
    }
}

/// The entries of PATH that may belong to a tool chain: absolute, plain, and not of the system.
fn entries() -> Vec<PathBuf> {
    let path = env::caller("PATH").unwrap_or_default();
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in path.as_bytes().split(|b| *b == b':') {
        if !entry.starts_with(b"/") || is_system(entry) {
            continue;
        }
        if let Some(entry) = plain(OsStr::from_bytes(entry))
            && entries.iter().all(|known| known.as_os_str() != entry.as_os_str())
        {
            entries.push(entry);
        }
    }
    entries
}

/// Whether a path is shown with `/usr`.
pub(super) fn is_system(path: &[u8]) -> bool {
    let inside = path.get(1..).unwrap_or_default();
    is_below(inside, b"usr") || USR_NAMES.iter().any(|name| is_below(inside, name.as_bytes()))
}

/// A path for messages: `~` for the home directory.
pub(super) fn shown(path: &Path, home: Option<&Path>) -> String {
    match home.and_then(|home| path.strip_prefix(home).ok()) {
        Some(rest) if rest.as_os_str().is_empty() => "~".to_owned(),
        Some(rest) => format!("~/{}", os(rest)),
        None => os(path),
    }
}
