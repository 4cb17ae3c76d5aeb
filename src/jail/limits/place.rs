//! Where the groups of a jail are made.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Held, Missing, Wants, on, shown};
use crate::host::cgroups::{Controller, Hierarchies, Hierarchy};
use crate::sys::Error;
use crate::sys::cgroup::Group;

/// The hierarchies as this process sees them. Two files of `/proc`.
pub fn here() -> Hierarchies {
    let read = |path| std::fs::read(path).unwrap_or_default();
    Hierarchies::parse(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
}

/// Whether a group of cgroup v2 may hold limits: somewhere it has controllers. One call.
pub fn may_be_v2() -> bool {
    let names = std::fs::read("/sys/fs/cgroup/cgroup.controllers");
    names.map_or_else(|e| e.kind() != std::io::ErrorKind::NotFound, |names| !names.is_empty())
}

/// The nearest group from our own upwards in which we may make one with all the controllers: children
/// get those that their parent hands on. One that holds processes itself cannot be made to hand on more
/// ("no internal processes"), so that a group beside our own is the usual case.
///
/// Not in what `systemd` keeps, if it is there and answers: it takes controllers away from its groups when none
/// of its units needs them any more, and with them the limits of whatever else is in there.
pub(super) fn v2(
    hierarchies: &Hierarchies,
    wants: &Wants,
    systemd: bool,
) -> Result<(Group, PathBuf), Missing> {
    let needed = wants.needed();
    let Some(hierarchy) = hierarchies.v2() else {
        return Err(Missing::new(needed, hierarchies.trouble()));
    };
    let mut best = Missing::new(needed.clone(), hierarchies.trouble());
    let free = |path: &&Path| !systemd || !is_kept(path, &hierarchy.mount);
    for path in hierarchy.upwards().filter(free) {
        let Ok(group) = Group::open(path) else { continue };
        if !group.is_ours() {
            continue;
        }
        match missing(&group, path, hierarchy, wants) {
            Ok(()) => return Ok((group, path.to_owned())),
            Err(missing)
                if missing.controllers.len() < best.controllers.len()
                    || best.why == hierarchies.trouble() =>
            {
                best = missing;
            }
            Err(_) => {}
        }
    }
    Err(best)
}

/// Whether systemd sets the controllers of the children of this group: a slice, the top, or where a service manager
/// of a user's has its units.
fn is_kept(path: &Path, mount: &Path) -> bool {
    let name = path.file_name().map(|name| name.as_bytes()).unwrap_or_default();
    path == mount || name.ends_with(b".slice") || (name.starts_with(b"user@") && name.ends_with(b".service"))
}

/// Whether children of `group` have all the controllers, after it was asked to hand on what it has.
fn missing(group: &Group, path: &Path, hierarchy: &Hierarchy, wants: &Wants) -> Result<(), Missing> {
    let needed = wants.needed();
    let handed_on = text(group, HANDED_ON);
    let not_handed_on = lacking(&handed_on, &needed);
    if not_handed_on.is_empty() {
        return Ok(());
    }
    let has = text(group, "cgroup.controllers");
    let absent = lacking(&has, &needed);
    if !absent.is_empty() {
        let why = format!("the group `{}` of cgroup v2 does not have it", shown(path));
        return Err(Missing::new(absent, why));
    }
    // Root may change any group; what is not his own or everybody's is left as it is.
    let everybodys = !group.has("cgroup.type");
    if nix::unistd::geteuid().is_root() && path != hierarchy.own {
        let why = format!("the group `{}` does not hand it on", shown(path));
        return Err(Missing::new(not_handed_on, why));
    }
    // The kernel refuses it for memory and allows it for processor time, but then children of the group are
    // no places for a whole process (EOPNOTSUPP).
    let holds = group.read("cgroup.procs").map_or(true, |list| !list.text().is_empty());
    if holds && !everybodys {
        let why =
            format!("processes are in the group `{}` itself, and none beside it may be used", shown(path));
        return Err(Missing::new(not_handed_on, why));
    }
    let mut all = not_handed_on.clone();
    let lacks_pids = |list: &str| !lacking(list, &[Controller::Pids]).is_empty();
    if wants.pids.is_some() && !lacks_pids(&has) && lacks_pids(&handed_on) {
        all.push(Controller::Pids);
    }
    hand_on(group, &all).map_err(|e| Missing::new(not_handed_on, on(e, path).to_string()))
}

/// The file of a group of cgroup v2 with the controllers that its children get.
pub(super) const HANDED_ON: &str = "cgroup.subtree_control";

/// What stands in a file of a group; nothing where it cannot be read.
pub(super) fn text(group: &Group, file: &'static str) -> String {
    group.read(file).map(|content| content.text().to_owned()).unwrap_or_default()
}

/// Those of `needed` that are not in a list of the kernel's.
pub(super) fn lacking(list: &str, needed: &[Controller]) -> Vec<Controller> {
    let lacks = |c: &Controller| c.v2().is_some_and(|name| !list.split_whitespace().any(|word| word == name));
    needed.iter().copied().filter(lacks).collect()
}

/// Have the children of a group of cgroup v2 get these controllers, too.
pub(super) fn hand_on(group: &Group, controllers: &[Controller]) -> Result<(), Error> {
    let words: Vec<String> =
        controllers.iter().filter_map(|c| c.v2()).map(|name| format!("+{name}")).collect();
    group.write(HANDED_ON, &words.join(" "))
}

/// Below our own group in each hierarchy of cgroup v1 that is needed.
pub(super) fn v1(hierarchies: &Hierarchies, wants: &Wants) -> Result<Vec<Held>, Missing> {
    let mut held = Vec::with_capacity(4);
    let mut missing = Missing::new(Vec::new(), "");
    let needed = wants.needed();
    let soft = (wants.pids.is_some() && !needed.contains(&Controller::Pids)).then_some(Controller::Pids);
    for controller in needed.iter().copied().chain(soft) {
        let place = hierarchies.v1(controller).map(|h| (Group::open(&h.own), &h.own));
        let why = match place {
            Some((Ok(parent), path)) if parent.is_ours() => {
                held.push(Held { controller: Some(controller), parent, path: path.clone(), group: None });
                continue;
            }
            Some((Ok(_), path)) => format!("only root may change the group `{}`", shown(path)),
            Some((Err(e), path)) => on(e, path).to_string(),
            None if hierarchies.v1.is_empty() => hierarchies.trouble().to_owned(),
            None => format!("no hierarchy of cgroup v1 with `{}` can be written", controller.v1()),
        };
        if needed.contains(&controller) {
            missing.controllers.push(controller);
            missing.why = why;
        }
    }
    match (missing.controllers.is_empty(), held.is_empty()) {
        (true, false) => Ok(held),
        (true, true) => Err(Missing::new(needed, hierarchies.trouble())),
        (false, _) => Err(missing),
    }
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
