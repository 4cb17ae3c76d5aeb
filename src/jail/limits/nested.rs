//! The groups of one command in a live jail: below those of the jail, so that the limits of both hold.
//!
//! The jail's own group is named after it and its holder, like that of any jail. Where it has none, because no
//! limit was asked for it, it is made without any limit as soon as a command needs one below it, in the place
//! where it would have been; the holder takes it away when the jail ends (see [`remove`]). With cgroup v2 a group
//! that hands controllers on holds no processes itself: pid 1 of a live jail is born in a leaf, [`MAIN`].
//!
//! The process that minds the command is made by the jail's pid 1, where no `clone3` is to be had. With v1 it
//! steps in itself, by the descriptors that it is sent; with v2 it is moved, before it executes anything, which
//! takes the kernel some milliseconds: only a command with limits of its own has to wait for that.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

use super::{Backend, Held, Limits, Missing, Wants, group_name, name_of, on, place, shown, sweep};
use crate::base::id::Id;
use crate::host::cgroups::{Controller, Hierarchies};
use crate::sys::cgroup::Group;
use crate::sys::{Error, Result, pidfd};

/// With cgroup v2: the leaf in a live jail's group that has its pid 1 and the commands without limits of their own.
pub const MAIN: &str = "main";

/// A live jail.
#[derive(Debug, Clone, Copy)]
pub struct Jail<'a> {
    /// Its id.
    pub id: Id,
    /// The process that holds it.
    pub holder: i32,
    /// What holds its own limits, as recorded.
    pub limits_by: &'a str,
}

impl Jail<'_> {
    fn group(&self) -> String {
        group_name(&self.id, self.holder)
    }

    /// Where its holder is, and so the place that its groups have.
    fn hierarchies(&self) -> Hierarchies {
        let read = |path: &str| std::fs::read(path).unwrap_or_default();
        Hierarchies::parse(&read(&format!("/proc/{}/cgroup", self.holder)), &read("/proc/self/mountinfo"))
    }
}

/// The group of this name that `own`, the group of a process, is or lies in.
pub fn named(own: &Path, is: impl Fn(&str) -> bool) -> Option<&Path> {
    // One leaf below it, or itself.
    own.ancestors().take(2).find(|path| path.file_name().and_then(|n| n.to_str()).is_some_and(&is))
}

impl Limits {
    /// Find a place for what `wants` asks of the command `id` that joins `jail`, and make its group where it has to
    /// be there before the process. `wants` is what the jail does not hold already; all of it has to be held.
    /// `None`: whoever holds it cannot be seen from here.
    pub fn nested(wants: &Wants, id: &Id, jail: Option<&Jail<'_>>) -> std::result::Result<Limits, Missing> {
        let Some(jail) = jail else {
            return Err(Missing::new(
                wants.needed(),
                "the process that holds the jail cannot be seen from here",
            ));
        };
        if jail.limits_by.starts_with(Backend::Scope.name()) {
            let why = "those of its jail are held by a scope of systemd's, which is not ours to divide";
            return Err(Missing::new(wants.needed(), why));
        }
        let hierarchies = jail.hierarchies();
        let name = name_of(id);
        let v2 = match in_v2(wants, &name, jail, &hierarchies) {
            Ok(limits) => return Ok(limits),
            Err(missing) => missing,
        };
        // Beside the jail, which has no group in a scope's reach.
        if let (Some(manager), Some(h)) = (Limits::manager(&hierarchies), &hierarchies.v2)
            && let Ok(limits) = Limits::in_scope(wants, id, manager, &h.mount)
        {
            return Ok(limits.below());
        }
        in_v1(wants, &name, jail, &hierarchies).map_err(|v1| match hierarchies.v1.is_empty() {
            true => v2,
            false => v1,
        })
    }

    fn below(mut self) -> Limits {
        self.nested = true;
        self
    }

    /// Let the jail have commands with limits of their own: with cgroup v2 its pid 1 is to be born in a leaf.
    pub fn divide(&mut self) -> Result<()> {
        let group = self.held.first().and_then(|held| held.group.as_ref());
        if let Some(group) = group.filter(|_| self.backend == Backend::V2 && self.main.is_none()) {
            self.main = Some(group.make(MAIN)?);
        }
        Ok(())
    }

    /// The jail that the command was in has ended: its group goes with that of the command.
    pub fn jail_ended(&mut self) {
        self.last = self.nested && self.backend != Backend::Scope;
    }

    /// Kill whatever is left in the groups of one command: with cgroup v1 the kernel kills one process only.
    pub fn kill_all(&self) {
        if !self.nested || self.backend == Backend::Scope {
            return;
        }
        for held in &self.held {
            let Some(group) = &held.group else { continue };
            let killed = group.write("cgroup.kill", "1").is_ok();
            for _ in 0..ROUNDS {
                let all = group.processes().unwrap_or_default();
                if all.is_empty() {
                    break;
                }
                if !killed {
                    all.iter().for_each(|pid| end(group, *pid));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Rounds in which a group is killed that makes new processes meanwhile.
const ROUNDS: u32 = 100;

/// Kill a process of `group`, and no later one of its number.
fn end(group: &Group, pid: i32) {
    use std::os::fd::AsFd;
    let Ok(process) = pidfd::open(pid) else { return };
    if group.processes().is_ok_and(|all| all.contains(&pid)) {
        pidfd::signal(process.as_fd(), nix::libc::SIGKILL).ok();
    }
}

/// The group `name` of `parent`, which others may make at the same moment.
fn open_or_make(parent: &Group, name: &str) -> Result<Group> {
    match parent.make(name) {
        Err(e) if e.errno == Errno::EEXIST => parent.child(name),
        made => made,
    }
}

fn in_v2(
    wants: &Wants,
    name: &str,
    jail: &Jail<'_>,
    hierarchies: &Hierarchies,
) -> std::result::Result<Limits, Missing> {
    let needed = wants.needed();
    let hierarchy = hierarchies.v2().ok_or_else(|| Missing::new(needed.clone(), hierarchies.trouble()))?;
    let there = |place: &Path| Group::open(&place.join(jail.group())).ok().map(|g| (g, place.to_owned()));
    let failed = |e: Error, path: &Path| Missing::new(needed.clone(), on(e, path).to_string());
    let (group, place) = match hierarchy.upwards().find_map(there) {
        Some(found) => found,
        None => {
            let (parent, path) = place::v2(hierarchies, wants, Limits::manager(hierarchies).is_some())?;
            (open_or_make(&parent, &jail.group()).map_err(|e| failed(e, &path))?, path)
        }
    };
    let path = place.join(jail.group());
    hand_on(&group, &path, &needed)?;
    let leaf = group.make(name).map_err(|e| failed(e, &path))?;
    let held = Held { controller: None, parent: group, path: path.clone(), group: Some(leaf) };
    let limits = Limits::new(Backend::V2, wants, name, vec![held]).below();
    limits.apply_v2().map_err(|e| failed(e, &path.join(name)))?;
    Ok(limits)
}

/// Have the jail's group hand the controllers on. It has them, as a rule, from its parent.
fn hand_on(group: &Group, path: &Path, needed: &[Controller]) -> std::result::Result<(), Missing> {
    let absent = place::lacking(&place::text(group, place::HANDED_ON), needed);
    if absent.is_empty() {
        return Ok(());
    }
    match place::hand_on(group, &absent) {
        Ok(()) => Ok(()),
        Err(e) if e.errno == Errno::EBUSY => {
            let why = format!("processes are in the group `{}` itself", shown(path));
            Err(Missing::new(absent, why))
        }
        Err(e) if e.errno == Errno::ENOENT => {
            Err(Missing::new(absent, format!("the group `{}` of cgroup v2 does not have it", shown(path))))
        }
        Err(e) => Err(Missing::new(absent, on(e, path).to_string())),
    }
}

fn in_v1(
    wants: &Wants,
    name: &str,
    jail: &Jail<'_>,
    hierarchies: &Hierarchies,
) -> std::result::Result<Limits, Missing> {
    let mut held = place::v1(hierarchies, wants)?;
    for one in &mut held {
        let path = one.path.join(jail.group());
        let failed = |e: Error| Missing::new(one.controller.into_iter().collect(), on(e, &path).to_string());
        let group = open_or_make(&one.parent, &jail.group()).map_err(failed)?;
        if one.controller == Some(Controller::Memory) {
            count_below(&group).map_err(failed)?;
        }
        (one.parent, one.path) = (group, path);
    }
    Ok(Limits::new(Backend::V1, wants, name, held).below())
}

/// Before Linux 5.11 a group of v1 counts the memory of those below it only where it was told to.
fn count_below(group: &Group) -> Result<()> {
    const FILE: &str = "memory.use_hierarchy";
    match group.read(FILE) {
        Ok(content) if content.number() == Some(0) => group.set(FILE, 1),
        _ => Ok(()),
    }
}

/// A live jail of this process has ended: take away its group, which was made for commands with limits of their
/// own, and what those have left. What another `aj` still looks at it takes away itself.
pub fn remove(jail: &Id) {
    let name = name_of(jail);
    let hierarchies = place::here();
    let v2 = hierarchies.v2().into_iter().flat_map(|h| h.upwards()).map(Path::to_owned);
    let v1 = [Controller::Memory, Controller::Cpu, Controller::Pids];
    let v1: Vec<PathBuf> = v1.iter().filter_map(|c| Some(hierarchies.v1(*c)?.own.clone())).collect();
    for path in v2.chain(v1) {
        if let Ok(parent) = Group::open(&path) {
            sweep::with_those_below(&parent, &name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_in_the_group_of_its_jail_or_in_a_leaf_of_it() {
        let is = |name: &str| name.starts_with("aj-jl-1.");
        let of = |path: &str| named(Path::new(path), is).map(|p| p.display().to_string());
        assert_eq!(of("/g/a/aj-jl-1.7").as_deref(), Some("/g/a/aj-jl-1.7"));
        assert_eq!(of("/g/a/aj-jl-1.7/main").as_deref(), Some("/g/a/aj-jl-1.7"));
        assert_eq!((of("/g/a"), of("/g/aj-jl-1.7/x/y"), of("/")), (None, None, None));
    }
}
