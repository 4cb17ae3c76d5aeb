//! Groups that killed runs left behind.

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::base::id::Id;
use crate::host::cgroups::Hierarchies;
use crate::store::alive;
use crate::sys::cgroup::{self, Group};

use super::PREFIX;
use super::nested::MAIN;

/// Groups that one sweep of a place looks at.
const MOST: usize = 4096;

/// The jail and the pid of the `aj` that a group of this name was made by.
pub(crate) fn maker(name: &str) -> Option<(Id, i32)> {
    let (id, pid) = name.strip_prefix(PREFIX)?.split_once('.')?;
    Some((id.parse().ok()?, pid.parse().ok().filter(|pid| *pid > 0)?))
}

/// Remove the groups in `parent` whose `aj` is gone and that nobody is in any more, looking at no more than
/// `most`. One of another pid namespace is at worst made again: the kernel removes none that is in use.
pub(super) fn beside(parent: &Group, most: usize) -> usize {
    let names = cgroup::children(parent, most).unwrap_or_default();
    names.iter().filter(|name| is_stale(name)).filter(|name| with_those_below(parent, name)).count()
}

/// Whether the `aj` that made a group of this name is gone. Where nobody waits for orphans, it stays as a zombie.
pub(super) fn is_stale(name: &str) -> bool {
    let gone = |pid| kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH) || alive::is_zombie(pid);
    maker(name).is_some_and(|(_, pid)| gone(pid))
}

/// Remove the group `name` of a jail that has ended, with the groups of its commands whose `aj` is gone, too: of
/// the others it is told by them whether memory ran out. Whether nothing is left of it.
pub(crate) fn with_those_below(parent: &Group, name: &str) -> bool {
    match parent.remove(name) {
        Err(e) if matches!(e.errno, Errno::EBUSY | Errno::ENOTEMPTY) => {}
        removed => return removed.is_ok(),
    }
    let Ok(group) = parent.child(name) else { return false };
    group.remove(MAIN).ok();
    beside_in(&group);
    parent.remove(name).is_ok()
}

/// The same of the commands of a jail that lives.
fn beside_in(group: &Group) -> usize {
    let names = cgroup::children(group, MOST).unwrap_or_default();
    names.iter().filter(|name| is_stale(name)).filter(|name| group.remove(name).is_ok()).count()
}

/// Whether [`with_those_below`] would leave nothing of a group.
fn would_go(parent: &Group, name: &str) -> bool {
    let empty = |group: &Group| group.processes().map_or(true, |all| all.is_empty());
    let Ok(group) = parent.child(name) else { return false };
    let below = cgroup::children(&group, MOST).unwrap_or_default();
    let goes = |name: &String| {
        (name == MAIN || is_stale(name)) && group.child(name).is_ok_and(|below| empty(&below))
    };
    empty(&group) && below.iter().all(goes)
}

/// Those that [`beside`] would remove.
fn stale(parent: &Group) -> usize {
    let names = cgroup::children(parent, MOST).unwrap_or_default();
    names.iter().filter(|name| is_stale(name) && would_go(parent, name)).count()
}

/// Remove them wherever a run could have made one, or, unless `remove`, look only. Returns how many it is.
pub fn everywhere(hierarchies: &Hierarchies, remove: bool) -> usize {
    let v1 = hierarchies.v1.iter().map(|(_, h)| h.own.as_path());
    let v2 = hierarchies.v2().into_iter().flat_map(|h| h.upwards());
    let open = |path| Group::open(path).ok().filter(Group::is_ours);
    let lives = |group: &Group| {
        let names = cgroup::children(group, MOST).unwrap_or_default();
        names.into_iter().filter(|name| maker(name).is_some()).collect::<Vec<_>>()
    };
    let below = |group: &Group| -> usize {
        // One that goes as a whole is counted once.
        let stay =
            lives(group).into_iter().filter(|name| remove || !(is_stale(name) && would_go(group, name)));
        let jails = stay.filter_map(|name| group.child(&name).ok());
        jails.map(|jail| if remove { beside_in(&jail) } else { stale(&jail) }).sum()
    };
    let these = |group: &Group| if remove { beside(group, MOST) } else { stale(group) };
    v1.chain(v2).filter_map(open).map(|group| these(&group) + below(&group)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_jails_group_goes_with_those_of_its_commands_but_for_what_somebody_looks_at() {
        let dir = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(dir.path()).unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let (dead, me) = (child.id(), std::process::id());
        child.wait().unwrap();
        let name = |id: u32, pid| format!("aj-jl-7k3m00000000000{id}.{pid}");
        let (jail, left, looked_at) = (name(0, dead), name(1, dead), name(2, me));
        for below in [&left, &looked_at, "main"] {
            fs::create_dir_all(path.join(&jail).join(below)).unwrap();
        }
        let parent = Group::open(&path).unwrap();
        assert_eq!((stale(&parent), beside(&parent, 99)), (0, 0));
        let there = fs::read_dir(path.join(&jail)).unwrap().map(|e| e.unwrap().file_name());
        assert_eq!(there.collect::<Vec<_>>(), [&*looked_at]);
        fs::remove_dir(path.join(&jail).join(&looked_at)).unwrap();
        assert_eq!((stale(&parent), beside(&parent, 99)), (1, 1));
        assert!(!path.join(&jail).exists());
    }

    #[test]
    fn an_aj_that_has_ended_and_nobody_waits_for_is_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let name = format!("aj-jl-7k3m000000000000.{}", child.id());
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !is_stale(&name) {
            assert!(std::time::Instant::now() < until, "it is a zombie");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        child.wait().unwrap();
        assert!(!is_stale(&format!("aj-jl-7k3m000000000000.{}", std::process::id())));
    }

    #[test]
    fn only_groups_of_a_jail_whose_aj_is_gone_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(dir.path()).unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dead = child.id();
        child.wait().unwrap();
        let me = std::process::id();
        let names = [
            (format!("aj-jl-7k3m000000000000.{dead}"), false),
            (format!("aj-jl-7k3m000000000000.{me}"), true),
            ("aj-jl-7k3m000000000000".to_owned(), true),
            (format!("aj-jl-7k3.{dead}"), true),
            (format!("aj-x.{dead}"), true),
            (format!("jl-7k3m000000000000.{dead}"), true),
            ("aj-jl-7k3m000000000000.-1".to_owned(), true),
            ("aj-jl-7k3m000000000000.0".to_owned(), true),
        ];
        for (name, _) in &names {
            fs::create_dir(path.join(name)).unwrap();
        }
        let parent = Group::open(&path).unwrap();
        assert_eq!((stale(&parent), beside(&parent, 99)), (1, 1));
        for (name, stays) in &names {
            assert_eq!(path.join(name).exists(), *stays, "{name}");
        }
    }
}
