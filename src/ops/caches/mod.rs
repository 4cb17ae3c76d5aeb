//! Which of the caller's package caches a jail shows: the catalogue against variables and what is on
//! disk, a call or two for each cache that is not there.
//!
//! Variables are the caller's word, what lies on disk is not. A cache is shown whole and can be written
//! (on the run's own side), so that the rules are narrower than for tools: no link, nobody else's, none
//! that everyone can write, none in or around the workspace, secrets, or `aj`'s state.

mod guard;
mod look;
mod tokens;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::config;
use super::tools::{Around, Home, Tools, Unknown, disk, is_system, own};
use crate::base::env;
use crate::jail::spec::{Hidden, Owner};
use crate::policy::flavor::{self, Cache, Caller, is_below, option_in, plain, variable_of};
use crate::policy::settings::Caches as Choice;
use look::Look;

/// The package caches of a jail.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Caches {
    /// Directories that are shown, none below another.
    pub shown: Vec<Shown>,
    /// Directories of the jail's own around them.
    pub rooms: Vec<PathBuf>,
    /// Names in the jail's home that lead to them.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Variables that are set.
    pub variables: Vec<(OsString, OsString)>,
    /// Each cache of which something is shown.
    pub found: Vec<Found>,
    /// What was left out, and why.
    pub warnings: Vec<String>,
}

/// One directory.
#[derive(Debug, PartialEq, Eq)]
pub struct Shown {
    /// A plain file name: which cache, and which of its directories.
    pub name: String,
    /// Without links.
    pub path: PathBuf,
    /// Whose it is.
    pub owner: Owner,
    /// What is seen empty in it, none below another.
    pub hidden: Vec<Hidden>,
    /// What is written to it may be large, also without a network.
    pub grows: bool,
}

/// One cache.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// The program that uses it, or `--caches`.
    pub by: String,
    /// Its directories.
    pub places: Vec<PathBuf>,
    /// What is seen empty in them.
    pub hidden: Vec<PathBuf>,
}

/// Find what `choice` lets the jail show. The names in it that are no cache's come back as well.
pub fn find(
    choice: &Choice,
    around: &Around<'_>,
    tools: &Tools,
) -> Result<(Caches, Vec<Unknown>), config::Error> {
    if matches!(choice, Choice::None) {
        return Ok(Default::default());
    }
    let (own, _) = own::read()?;
    let all: Vec<Cache> = flavor::caches()
        .filter(|c| own.iter().all(|o| o.name != c.name))
        .chain(own.iter().filter_map(|o| o.cache.as_deref().cloned()))
        .collect();
    let unknown = unknown(choice, &all);
    let mut home = Home::of_caller();
    let disk = home.resolve();
    let variables = variables(&all, &home);
    let caller = Caller { home: home.real.as_deref(), variables: &variables };
    let programs = Programs::of(around, tools);
    let named = matches!(choice, Choice::Only(_));
    let mut look = Look::new(around, tools, &caller, disk);
    for cache in all.iter().filter(|c| choice.allows(&c.name)) {
        look.take(cache, |cache| {
            if named {
                return Some("--caches".to_owned());
            }
            cache.programs.iter().find(|program| programs.have(program)).map(str::to_owned)
        });
    }
    Ok((look.finish(), unknown))
}

fn unknown(choice: &Choice, all: &[Cache]) -> Vec<Unknown> {
    let Choice::Only(names) = choice else { return Vec::new() };
    let strange = names.iter().filter(|n| all.iter().all(|c| c.name != n.as_str()));
    let known = || all.iter().map(|c| &*c.name);
    strange.map(|n| Unknown { name: n.clone(), meant: flavor::nearest(n, known()) }).collect()
}

/// The variables of the catalogue that the caller has set, by the names the catalogue has for them. A
/// place that a variable names through a link is what the caller says: without the link from here on.
fn variables(all: &[Cache], home: &Home) -> Vec<(String, PathBuf)> {
    let mut set: Vec<(String, PathBuf)> = Vec::new();
    for (key, _) in all.iter().flat_map(|c| c.places.iter()) {
        if set.iter().any(|(known, _)| known == key) {
            continue;
        }
        let (name, option) = variable_of(key);
        let Some(value) = env::caller(name) else { continue };
        let value = match option {
            None => plain(&value),
            Some(option) => value
                .to_str()
                .and_then(|text| option_in(text, option))
                .and_then(|text| plain(OsStr::new(text))),
        };
        let Some(value) = value.map(|value| home.moved(value)) else { continue };
        set.push((key.to_owned(), disk::real(&value).unwrap_or(value)));
    }
    set
}

/// Where the jail looks for programs.
struct Programs(Vec<PathBuf>);

impl Programs {
    fn of(around: &Around<'_>, tools: &Tools) -> Programs {
        let path = env::caller("PATH").unwrap_or_default();
        let mut dirs: Vec<PathBuf> = Vec::new();
        let there = |dir: &Path| {
            let bytes = dir.as_os_str().as_bytes();
            is_system(bytes)
                || is_below(bytes, around.at.as_os_str().as_bytes())
                || around.binds.iter().any(|b| is_below(bytes, b.path.as_os_str().as_bytes()))
                || tools.reaches(dir)
                || tools.links.iter().any(|(name, _)| is_below(bytes, name.as_os_str().as_bytes()))
        };
        for dir in path.as_bytes().split(|b| *b == b':').filter_map(|e| plain(OsStr::from_bytes(e))) {
            if there(&dir) && !dirs.contains(&dir) {
                dirs.push(dir);
            }
        }
        Programs(dirs)
    }

    fn have(&self, program: &str) -> bool {
        let can_run =
            |dir: &PathBuf| nix::unistd::access(&dir.join(program), nix::unistd::AccessFlags::X_OK).is_ok();
        self.0.iter().any(can_run)
    }
}
