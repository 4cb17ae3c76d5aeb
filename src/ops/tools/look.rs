//! What is on disk of the tool chains that were reached.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::disk::{self, Disk};
use super::{Around, Found, Home, Tools, is_system, places, shown};
use crate::base::env;
use crate::jail::plan;
use crate::jail::spec::{Hidden, Tool};
use crate::policy::flavor::{self, Caller, Flavor, Reached, Refusal, expand, is_below, lead, refusal};

/// The jail's home directory.
const HOME_INSIDE: &str = "/home/agent";

/// A place that has been looked at.
#[derive(Debug)]
enum Place {
    /// There is nothing.
    Missing,
    /// It is shown without us: with `/usr`, the workspace or a bind.
    Visible(PathBuf),
    /// It is to be shown; with its mode.
    Shown(Tool, u32),
    /// It is not, for this reason, a fact about it.
    Refused(String),
}

/// The search.
pub(super) struct Look<'a> {
    around: &'a Around<'a>,
    caller: &'a Caller<'a>,
    own: &'a [Flavor],
    disk: Disk,
    pub(super) tools: Tools,
}

/// Whether two plain paths are one. (By bytes: `==` takes both apart.)
fn same(a: &Path, b: &Path) -> bool {
    a.as_os_str() == b.as_os_str()
}

/// Whether `path` is `dir` or below it.
fn below(path: &Path, dir: &Path) -> bool {
    is_below(path.as_os_str().as_bytes(), dir.as_os_str().as_bytes())
}

impl<'a> Look<'a> {
    pub(super) fn new(
        around: &'a Around<'a>,
        caller: &'a Caller<'a>,
        own: &'a [Flavor],
        disk: Disk,
        warnings: Vec<String>,
    ) -> Look<'a> {
        let tools = Tools { warnings, ..Tools::default() };
        Look { around, caller, own, disk, tools }
    }

    /// Look at the places of one tool chain.
    pub(super) fn show(&mut self, flavor: &Flavor, reached: &Reached) {
        let caller = self.caller;
        let mut found = Found { name: flavor.name.to_string(), by: reached.by.clone(), places: Vec::new() };
        for item in flavor.show.iter() {
            for path in places(flavor, item, caller, &reached.at) {
                self.take(flavor, item, path, &mut found);
            }
        }
        for item in flavor.home.iter() {
            let Some(pattern) = expand(flavor, item, caller, None) else { continue };
            for path in self.disk.glob(&pattern) {
                let inside = caller.home.and_then(|home| path.strip_prefix(home).ok());
                let link = inside.map(|rest| Path::new(HOME_INSIDE).join(rest));
                if let (Some(target), Some(name)) = (self.take(flavor, item, path, &mut found), link) {
                    self.link(name, target);
                }
            }
        }
        if !found.places.is_empty() {
            self.tools.found.push(found);
        }
    }

    /// Look at one place and remember what is to become of it. Returns what it is without links when
    /// it can be seen inside.
    fn take(&mut self, flavor: &Flavor, item: &str, path: PathBuf, found: &mut Found) -> Option<PathBuf> {
        let real = match self.look(flavor, item, &path) {
            Place::Missing => return None,
            Place::Refused(why) => {
                let name = shown(&path, self.caller.home);
                let warning = format!("`{name}` of the tools `{}` is not shown: {why}", flavor.name);
                if !self.tools.warnings.contains(&warning) {
                    self.tools.warnings.push(warning);
                }
                return None;
            }
            Place::Visible(real) => {
                found.places.push(path.clone());
                real
            }
            Place::Shown(tool, mode) => {
                let real = tool.path.clone();
                // `dotnet` lies in a directory that is not shown as a whole.
                if !tool.directory && mode & 0o111 != 0 {
                    self.tools.of_programs.extend(real.parent().map(Path::to_owned));
                }
                found.places.push(path.clone());
                self.tools.shown.push(tool);
                real
            }
        };
        if !same(&real, &path) {
            self.link(path, real.clone());
        }
        Some(real)
    }

    fn look(&mut self, flavor: &Flavor, item: &str, path: &Path) -> Place {
        let Some((real, seen)) = self.disk.look(path) else { return Place::Missing };
        if self.is_visible(&real) {
            return Place::Visible(real);
        }
        let home = self.caller.home;
        let name = |path: &Path| shown(path, home);
        if let Some(refusal) = refusal(&real, home) {
            return Place::Refused(match refusal {
                Refusal::Home => "it has your home directory in it".to_owned(),
                Refusal::Secret(secret) if same(&real, path) => format!("secrets are kept in `~/{secret}`"),
                Refusal::Secret(secret) => {
                    format!("it leads to `{}`, and secrets are kept in `~/{secret}`", name(&real))
                }
                Refusal::Machine if same(&real, path) => "it is no place of tools".to_owned(),
                Refusal::Machine => format!("it leads to `{}`, which is no place of tools", name(&real)),
            });
        }
        if !same(&real, path) && !self.may_lead(flavor, item, path, &real) {
            return Place::Refused(format!("it leads to `{}`, which is in no catalogue", name(&real)));
        }
        // Below /opt people have more than what is installed, and beside the project there may be anything.
        if real.starts_with("/opt") && below(self.around.at, &real) {
            return Place::Refused("this project is in it".to_owned());
        }
        if self.around.state.is_some_and(|state| below(state, &real) || below(&real, state)) {
            return Place::Refused("aj keeps its state there".to_owned());
        }
        if !plan::has_place(&real) {
            return Place::Refused("the jail has something of its own there".to_owned());
        }
        let directory = seen.is_dir();
        if !directory && !seen.is_file() {
            return Place::Missing;
        }
        if directory && seen.mode & 0o002 != 0 {
            return Place::Refused("everyone may write to it".to_owned());
        }
        // What belongs to the machine is shown as /usr is, also to a jail that root starts.
        let machine = ["/opt", "/nix", "/home/linuxbrew"].iter().any(|dir| below(&real, Path::new(dir)));
        let owner = (!machine).then_some(seen.owner);
        Place::Shown(Tool { path: real, directory, owner }, seen.mode)
    }

    fn is_visible(&self, path: &Path) -> bool {
        is_system(path.as_os_str().as_bytes())
            || below(path, self.around.at)
            || self.around.binds.iter().any(|b| below(path, &b.path))
    }

    /// Whether a place of the catalogue that is a link may lead to `real`: to another place of the
    /// catalogue, or because it is a variable of the caller's that leads through the link.
    fn may_lead(&self, flavor: &Flavor, item: &str, path: &Path, real: &Path) -> bool {
        let root = item.strip_prefix('$').and_then(|rest| rest.split('/').next());
        let said = root.and_then(|name| self.caller.variable(name));
        if let Some(said) = said
            && let (Ok(rest), Some(target)) = (path.strip_prefix(said), disk::real(said))
            && real == if rest.as_os_str().is_empty() { target } else { target.join(rest) }
        {
            return true;
        }
        let bytes = real.as_os_str().as_bytes();
        let shows = |other: &Flavor| {
            let at: Vec<PathBuf> = other
                .path
                .iter()
                .filter_map(|p| expand(other, p, self.caller, None))
                .filter_map(|p| {
                    lead(p.as_os_str().as_bytes(), bytes).map(|l| PathBuf::from(OsStr::from_bytes(l)))
                })
                .collect();
            let mut shown = other.show.iter().flat_map(|item| places(other, item, self.caller, &at));
            shown.any(|place| below(real, &place))
        };
        shows(flavor) || flavor::catalogue(self.own).any(|other| shows(&other))
    }

    /// Parents before children, each once.
    pub(super) fn settle(&mut self) {
        outermost(&mut self.tools.shown, |t| (&t.path, t.directory));
    }

    /// Find what is to be hidden in what is shown.
    pub(super) fn hide(&mut self, flavor: &Flavor, reached: &Reached) {
        for item in flavor.hide.iter() {
            for pattern in places(flavor, item, self.caller, &reached.at) {
                // Mostly there is nothing to look at: no call is spent then.
                if !self.is_shown(fixed_part(&pattern)) {
                    continue;
                }
                for path in self.disk.glob(&pattern) {
                    let Some((real, seen)) = self.disk.look(&path) else { continue };
                    if self.tools.shows(&real) {
                        self.tools.hidden.push(Hidden { path: real, directory: seen.is_dir() });
                    }
                }
            }
        }
    }

    /// Whether a directory, under this name, is one that is shown.
    fn is_shown(&self, dir: &Path) -> bool {
        self.tools.shows(dir) || self.tools.links.iter().any(|(name, _)| below(dir, name))
    }

    /// None below another: a mount needs a place.
    pub(super) fn settle_hidden(&mut self) {
        outermost(&mut self.tools.hidden, |h| (&h.path, h.directory));
    }

    /// The variables of one tool chain.
    pub(super) fn set(&mut self, flavor: &Flavor, reached: &Reached) {
        if self.tools.found.iter().all(|f| f.name != flavor.name) {
            return;
        }
        for name in flavor.copy.iter() {
            if let Some(value) = env::caller(name) {
                self.tools.variables.push((name.into(), value));
            }
        }
        for (name, item) in flavor.set.iter() {
            let at = reached.at.first().map(PathBuf::as_path);
            let Some(value) = expand(flavor, item, self.caller, at) else { continue };
            // Its parts may be all that is shown of it.
            let seen = |place: &Path| below(&value, place) || below(place, &value);
            let seen = self.is_visible(&value)
                || self.tools.shown.iter().any(|t| seen(&t.path))
                || self.tools.links.iter().any(|(link, _)| seen(link));
            if seen {
                self.tools.variables.push((name.into(), value.into()));
            }
        }
    }

    fn link(&mut self, name: PathBuf, target: PathBuf) {
        if name != target && self.tools.links.iter().all(|(known, _)| *known != name) {
            self.tools.links.push((name, target));
        }
    }

    /// An entry of PATH that leads, through a link, to what can be seen: the same name inside.
    pub(super) fn link_entry(&mut self, name: PathBuf, real: PathBuf) {
        let known = |path: &Path| self.tools.shows(path) || self.is_visible(path);
        if name != real && known(&real) && !known(&name) {
            self.link(name, real);
        }
    }

    /// A home directory that is a link keeps that name.
    pub(super) fn link_home(&mut self, home: &Home) {
        if let (Some(name), Some(real)) = (&home.name, &home.real)
            && self.tools.shown.iter().any(|t| below(&t.path, real))
        {
            self.link(name.clone(), real.clone());
        }
    }
}

/// Parents before children, each once, and nothing below a directory of the list: `place` says where an
/// entry is, and whether it is a directory.
fn outermost<T>(list: &mut Vec<T>, place: impl Fn(&T) -> (&PathBuf, bool)) {
    list.sort_by(|a, b| place(a).0.as_os_str().as_bytes().cmp(place(b).0.as_os_str().as_bytes()));
    list.dedup_by(|a, b| same(place(a).0, place(b).0));
    let all: Vec<PathBuf> = list.iter().map(&place).filter(|p| p.1).map(|p| p.0.clone()).collect();
    list.retain(|t| !all.iter().any(|dir| below(place(t).0, dir) && !same(dir, place(t).0)));
}

/// The directory in which the first `*` of `pattern` is looked up, or the one it lies in.
fn fixed_part(pattern: &Path) -> &Path {
    let bytes = pattern.as_os_str().as_bytes();
    let star = bytes.iter().position(|b| *b == b'*').unwrap_or(bytes.len());
    let slash = bytes.iter().take(star).rposition(|b| *b == b'/').unwrap_or(0);
    Path::new(OsStr::from_bytes(bytes.get(..slash).unwrap_or_default()))
}
