use std::fs;

use super::*;
use crate::base::id::Id;

/// A hierarchy of files: what the kernel would show, as far as places are judged by it.
struct Fake {
    _dir: tempfile::TempDir,
    top: PathBuf,
}

impl Fake {
    fn new() -> Fake {
        let dir = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(dir.path()).unwrap();
        Fake { _dir: dir, top }
    }

    /// A group with the controllers that it has and those that it hands on; `ours` may be changed.
    fn group(&self, path: &str, has: &str, hands_on: &str) -> PathBuf {
        let at = self.top.join(path);
        fs::create_dir_all(&at).unwrap();
        for (file, text) in
            [("cgroup.controllers", has), ("cgroup.subtree_control", hands_on), ("cgroup.procs", "")]
        {
            fs::write(at.join(file), text).unwrap();
        }
        if !path.is_empty() {
            fs::write(at.join("cgroup.type"), "domain\n").unwrap();
        }
        at
    }

    fn v2(&self, own: &str) -> Hierarchies {
        let hierarchy = Hierarchy { mount: self.top.clone(), own: self.top.join(own), read_only: false };
        Hierarchies { v2: Some(hierarchy), v1: Vec::new() }
    }
}

fn wants() -> Wants {
    Wants { mem: Some(1 << 30), pids: Some(9), ..Wants::default() }
}

#[test]
fn a_group_beside_our_own_has_what_ours_has() {
    let fake = Fake::new();
    fake.group("", "cpu memory pids", "cpu memory pids");
    let slice = fake.group("app.slice", "cpu memory pids", "memory pids");
    fake.group("app.slice/me.scope", "memory pids", "");
    let h = fake.v2("app.slice/me.scope");
    // What we may not hand on ourselves is looked for above.
    fs::remove_file(fake.top.join("app.slice/me.scope/cgroup.procs")).unwrap();
    assert_eq!(v2(&h, &wants(), false).unwrap().1, slice);
    // Root may change any group and leaves it; a user's own, with nobody in it, hands on what it has.
    let cpu = Wants { cpu_millis: Some(500), ..wants() };
    let root = nix::unistd::geteuid().is_root();
    assert_eq!(v2(&h, &cpu, false).unwrap().1, if root { fake.top.clone() } else { slice });
}

#[test]
fn nothing_is_made_in_what_systemd_keeps() {
    let fake = Fake::new();
    let all = "cpu memory pids";
    fake.group("", all, all);
    let manager = "user.slice/user-7.slice/user@7.service";
    fake.group("user.slice", all, all);
    fake.group("user.slice/user-7.slice", all, all);
    fake.group(manager, all, all);
    fake.group(&format!("{manager}/app.slice"), all, all);
    let unit = fake.group(&format!("{manager}/app.slice/me.service"), all, all);
    let own = fake.group(&format!("{manager}/app.slice/me.service/leaf"), "", "");
    let of = |own: &Path| fake.v2(own.strip_prefix(&fake.top).unwrap().to_str().unwrap());
    assert_eq!(v2(&of(&own), &wants(), true).unwrap().1, unit);
    // Without the unit of one's own there is no place, though everything above would do.
    fs::write(unit.join("cgroup.controllers"), "").unwrap();
    fs::write(unit.join("cgroup.subtree_control"), "").unwrap();
    assert_eq!(v2(&of(&own), &wants(), true).unwrap_err().controllers, [Controller::Memory]);
    assert_eq!(v2(&of(&own), &wants(), false).unwrap().1, unit.parent().unwrap());
}

#[test]
fn what_no_group_has_is_named() {
    let fake = Fake::new();
    fake.group("", "memory", "memory");
    fake.group("own", "memory", "");
    let io = Wants { io_read: Some(1), disks: vec![(8, 0)], ..wants() };
    let missing = v2(&fake.v2("own"), &io, false).unwrap_err();
    assert_eq!(missing.controllers, [Controller::Io]);
    assert!(missing.why.contains("does not have it"), "{missing:?}");
    // Without a controller there is still a place to stand still in.
    let nothing = Wants::default();
    assert_eq!(v2(&fake.v2("own"), &nothing, false).unwrap().1, fake.top.join("own"));
    let pids = Wants { mem: None, ..wants() };
    assert_eq!(v2(&fake.v2("own"), &pids, false).unwrap_err().controllers, [Controller::Pids]);
}

#[test]
fn our_own_group_is_asked_to_hand_on_what_it_has() {
    let fake = Fake::new();
    fake.group("", "", "");
    fs::remove_file(fake.top.join("cgroup.procs")).unwrap();
    let own = fake.group("own", "cpu memory pids", "");
    assert_eq!(v2(&fake.v2("own"), &wants(), false).unwrap().1, own);
    assert_eq!(fs::read_to_string(own.join("cgroup.subtree_control")).unwrap(), "+memory +pids");
}

#[test]
fn a_group_with_processes_in_it_is_left_as_it_is() {
    let fake = Fake::new();
    fake.group("", "", "");
    fs::remove_file(fake.top.join("cgroup.procs")).unwrap();
    let own = fake.group("own", "cpu memory pids", "");
    fs::write(own.join("cgroup.procs"), "0\n").unwrap();
    let cpu = Wants { cpu_millis: Some(500), ..Wants::default() };
    let missing = v2(&fake.v2("own"), &cpu, false).unwrap_err();
    assert_eq!(missing.controllers, [Controller::Cpu]);
    assert!(missing.why.contains("processes are in the group"), "{missing:?}");
    assert_eq!(fs::read_to_string(own.join("cgroup.subtree_control")).unwrap(), "");
}

#[test]
fn nothing_mounted_and_nothing_writable_are_told_apart() {
    let none = v2(&Hierarchies::default(), &wants(), false).unwrap_err();
    assert_eq!(
        (none.controllers.as_slice(), none.why.as_str()),
        (&[Controller::Memory][..], "no cgroup hierarchy is mounted")
    );
    let fake = Fake::new();
    let mut h = fake.v2("");
    assert!(v2(&h, &wants(), false).unwrap_err().why.contains("changed by this user"));
    h.v2.as_mut().unwrap().read_only = true;
    assert!(v2(&h, &wants(), false).unwrap_err().why.contains("read-only"));
}

#[test]
fn of_cgroup_v1_each_controller_has_a_place_of_its_own() {
    let fake = Fake::new();
    for name in ["memory/me", "pids"] {
        fake.group(name, "", "");
    }
    let of = |names: &[&str], own: &str| {
        let h = Hierarchy { mount: fake.top.join(names[0]), own: fake.top.join(own), read_only: false };
        (names.iter().map(|n| (*n).to_owned()).collect(), h)
    };
    let h = Hierarchies { v2: None, v1: vec![of(&["memory"], "memory/me"), of(&["pids"], "pids")] };
    let held = v1(&h, &wants()).unwrap();
    let paths: Vec<_> = held.iter().map(|h| (h.controller, h.path.clone())).collect();
    assert_eq!(
        paths,
        [
            (Some(Controller::Memory), fake.top.join("memory/me")),
            (Some(Controller::Pids), fake.top.join("pids"))
        ]
    );
    let cpu = Wants { cpu_millis: Some(500), ..wants() };
    let missing = v1(&h, &cpu).unwrap_err();
    assert_eq!(missing.controllers, [Controller::Cpu]);
    assert!(missing.why.contains("no hierarchy of cgroup v1 with `cpu`"), "{missing:?}");
    // Only what can be done without may be absent.
    let memory = Hierarchies { v1: h.v1[..1].to_vec(), ..h.clone() };
    assert_eq!(v1(&memory, &wants()).unwrap().len(), 1);
    assert_eq!(v1(&Hierarchies::default(), &wants()).unwrap_err().controllers, [Controller::Memory]);
}

#[test]
fn a_group_that_was_reserved_holds_what_it_has_the_files_for() {
    let fake = Fake::new();
    fake.group("", "cpu memory pids", "cpu memory pids");
    let id = Id::random(crate::base::id::Kind::Jail).unwrap();
    let guess = Wants { cpu_millis: Some(u64::MAX), ..wants() };
    let mut group = super::super::Limits::reserve(&guess, &id, &fake.v2("")).unwrap();
    assert!(group.to_be_born_in().is_some(), "before anything is known");
    let at = group.paths().remove(0);
    assert!(!group.claim(&Wants::default()), "nothing is to be held");
    // `RLIMIT_NPROC` is there for processes.
    fs::write(at.join("pids.max"), "").unwrap();
    for file in ["memory.max", "memory.oom.group"] {
        assert!(!group.claim(&wants()), "{file} is not there yet");
        fs::write(at.join(file), "").unwrap();
    }
    fs::write(at.join("memory.swap.max"), "").unwrap();
    assert!(group.claim(&wants()));
    assert_eq!(fs::read_to_string(at.join("memory.max")).unwrap(), (1u64 << 30).to_string());
    assert_eq!(fs::read_to_string(at.join("pids.max")).unwrap(), "10");
    assert!(!group.claim(&guess), "it has no processor time to give");
    let io = Wants { io_read: Some(1), ..guess };
    assert!(super::super::Limits::reserve(&io, &id, &fake.v2("")).is_none());
}
