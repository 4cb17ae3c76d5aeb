//! Situations as they were seen on other machines, and what they must be told.

use super::super::facts::{Cgroup, Landlock, Machine, State};
use super::*;

/// A desktop where everything works.
fn healthy() -> Facts {
    Facts {
        machine: Machine {
            kernel: "6.8.0-45-generic".into(),
            uid: 1000,
            initial_userns: true,
            has_range: true,
            max_user_namespaces: Some(127_234),
            seccomp_actions: ["kill_process", "errno", "log", "allow"].map(str::to_owned).into(),
            yama: Some(1),
            cgroup: Cgroup { v2: Some("/sys/fs/cgroup".into()), ..Cgroup::default() },
            exe: Some("/usr/local/bin/aj".into()),
            ..Machine::default()
        },
        tried: MECHANISMS
            .iter()
            .map(|m| match m.id {
                "nested" | "lite" => (m.id.to_owned(), Tried::Skipped("not needed".into())),
                id => (id.to_owned(), Tried::Worked("seen".into())),
            })
            .collect(),
        landlock: Landlock { abi: 6, errno: None, errata: None },
        state: State {
            bare: false,
            disk_by: None,
            path: Some("/home/me/.local/state/agentjail".into()),
            fs: Some("ext4".into()),
            free: 50 << 30,
            files: Some(1 << 20),
            note: None,
            trouble: None,
            fix: vec![],
        },
        workspace: Some("/home/me/p".into()),
        workspace_fs: Some("ext4".into()),
    }
}

fn fail(facts: &mut Facts, ids: &[&str], step: &str, errno: &str) {
    for id in ids {
        let failed = Tried::Failed { step: step.into(), errno: errno.into() };
        facts.tried.insert((*id).to_owned(), failed);
    }
}

fn skip(facts: &mut Facts, ids: &[&str]) {
    for id in ids {
        facts.tried.insert((*id).to_owned(), Tried::Skipped("not tried".into()));
    }
}

const IN_USERNS: [&str; 8] =
    ["namespaces", "mounts", "pivot_root", "proc", "devpts", "network", "overlay", "process_limit"];

fn row(document: &Document, id: &str) -> Check {
    document.checks.iter().find(|c| c.id == id).unwrap_or_else(|| panic!("no row {id}")).clone()
}

fn bad(document: &Document) -> Vec<(&str, Status)> {
    let bad = |c: &&Check| matches!(c.status, Status::Warn | Status::Fail);
    document.checks.iter().filter(bad).map(|c| (c.id.as_str(), c.status)).collect()
}

#[test]
fn where_everything_works_nothing_is_said() {
    let told = document(&healthy());
    assert_eq!((told.mode.as_deref(), told.format_version.as_str()), (Some("full"), "0.1"));
    assert_eq!(bad(&told), []);
    assert!(told.checks.iter().all(|c| c.fix.is_empty()), "{told:?}");
}

#[test]
fn the_order_is_always_the_same_and_ids_are_unique() {
    let ids = |f: &Facts| document(f).checks.into_iter().map(|c| c.id).collect::<Vec<_>>();
    let all = ids(&healthy());
    assert_eq!(ids(&Facts::default()), all);
    assert_eq!(all.first().map(String::as_str), Some("kernel"));
    assert_eq!(&all[all.len() - 3..], ["jail", "nested", "lite"]);
    let unique: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(unique.len(), all.len());
    assert_eq!(all.len(), MECHANISMS.len() + 8);
}

#[test]
fn ubuntu_restricts_user_namespaces() {
    let mut f = healthy();
    f.machine.apparmor_userns = Some(1);
    f.machine.label = Some("unconfined".into());
    fail(&mut f, &["userns", "jail"], "write uid_map `/proc/self/uid_map`", "EPERM");
    skip(&mut f, &IN_USERNS);
    let told = document(&f);
    assert_eq!(told.mode, None);
    assert_eq!(bad(&told), [("userns", Status::Fail), ("apparmor", Status::Fail), ("jail", Status::Fail)]);
    let userns = row(&told, "userns");
    assert_eq!(userns.evidence, "write uid_map `/proc/self/uid_map`: EPERM");
    assert_eq!(
        userns.fix,
        [
            "let AppArmor allow user namespaces to aj:\n\
             sudo tee /etc/apparmor.d/aj >/dev/null <<'EOF'\n\
             abi <abi/4.0>,\n\
             include <tunables/global>\n\
             \n\
             profile aj /usr/local/bin/aj flags=(unconfined) {\n\
             \x20 userns,\n\
             \x20 include if exists <local/aj>\n\
             }\n\
             EOF\n\
             sudo apparmor_parser -r /etc/apparmor.d/aj",
            "or allow user namespaces for every program: `sudo sysctl -w \
             kernel.apparmor_restrict_unprivileged_userns=0`, and to keep it: `echo \
             kernel.apparmor_restrict_unprivileged_userns=0 | sudo tee -a /etc/sysctl.d/60-aj.conf`",
            "or put up with much less, no namespaces: `aj exec --mode lite -- …`",
        ]
    );
    assert_eq!(row(&told, "apparmor").fix, userns.fix[..2]);
    assert_eq!(row(&told, "jail").fix, userns.fix);
}

#[test]
fn the_restriction_may_show_only_at_a_later_step() {
    let mut f = healthy();
    f.machine.apparmor_userns = Some(1);
    fail(&mut f, &["mounts"], "fsmount `tmpfs`", "EACCES");
    fail(&mut f, &["network"], "ioctl(SIOCSIFFLAGS) `lo`", "EPERM");
    let told = document(&f);
    assert_eq!((told.mode.clone(), row(&told, "apparmor").status), (None, Status::Fail));
    assert!(row(&told, "mounts").fix[0].contains("profile aj /usr/local/bin/aj"));
    // With the profile loaded the switch is still on and nothing is wrong.
    let mut f = healthy();
    f.machine.apparmor_userns = Some(1);
    f.machine.label = Some("aj (unconfined)".into());
    let told = document(&f);
    assert_eq!((told.mode.as_deref(), bad(&told)), (Some("full"), vec![]));
}

#[test]
fn a_profile_that_holds_for_the_caller_is_named_with_both_ways_out() {
    let mut f = healthy();
    f.machine.label = Some("everybody (enforce)".into());
    // What it says of a machine where all works.
    let told = document(&f);
    assert_eq!(
        row(&told, "apparmor").evidence,
        "no restriction of user namespaces; this process is `everybody (enforce)`"
    );
    assert_eq!(bad(&told), []);
    fail(&mut f, &["userns", "jail"], "clone3 `new namespaces`", "EACCES");
    skip(&mut f, &IN_USERNS);
    let told = document(&f);
    assert_eq!(bad(&told), [("userns", Status::Fail), ("apparmor", Status::Fail), ("jail", Status::Fail)]);
    let apparmor = row(&told, "apparmor");
    assert_eq!(apparmor.evidence, "the profile `everybody` holds for this process");
    assert!(apparmor.fix[0].contains("profile aj /usr/local/bin/aj flags=(unconfined)"), "{apparmor:?}");
    assert!(apparmor.fix[1].contains("the profile `everybody` lets no program"), "{apparmor:?}");
    assert_eq!(apparmor.fix, row(&told, "userns").fix[..2]);
    assert!(row(&told, "userns").fix[2].contains("--mode lite"));
}

#[test]
fn debian_with_user_namespaces_switched_off() {
    let mut f = healthy();
    f.machine.unprivileged_userns_clone = Some(0);
    fail(&mut f, &["userns", "jail"], "clone3 `new namespaces`", "EPERM");
    skip(&mut f, &IN_USERNS);
    let told = document(&f);
    assert_eq!(told.mode, None);
    let row = row(&told, "unprivileged_userns_clone");
    assert_eq!((row.status, row.evidence.as_str()), (Status::Fail, "kernel.unprivileged_userns_clone = 0"));
    assert!(row.fix.concat().contains("`sudo sysctl -w kernel.unprivileged_userns_clone=1`"), "{row:?}");
    assert!(row.fix.iter().all(|f| !f.contains("AppArmor")));
    // Root may make them all the same.
    let mut f = healthy();
    f.machine.unprivileged_userns_clone = Some(0);
    f.machine.uid = 0;
    assert_eq!(bad(&document(&f)), []);
}

#[test]
fn red_hat_with_no_user_namespaces() {
    let mut f = healthy();
    f.machine.kernel = "5.14.0-503.el9.x86_64".into();
    f.machine.max_user_namespaces = Some(0);
    fail(&mut f, &["userns", "jail"], "clone3 `new namespaces`", "ENOSPC");
    skip(&mut f, &IN_USERNS);
    let told = document(&f);
    assert_eq!(told.mode, None);
    assert_eq!(
        row(&told, "userns").fix,
        ["allow user namespaces: `sudo sysctl -w user.max_user_namespaces=15000`, and to keep it: `echo \
          user.max_user_namespaces=15000 | sudo tee -a /etc/sysctl.d/60-aj.conf`"]
    );
    assert_eq!(row(&told, "max_user_namespaces").fix, row(&told, "userns").fix);
}

fn docker() -> Facts {
    let mut f = healthy();
    f.machine.uid = 0;
    f.machine.container = Some(Container::Docker);
    f.machine.seccomp = 2;
    f.machine.label = Some("docker-default (enforce)".into());
    f.machine.proc_masks = ["/proc/acpi", "/proc/bus", "/proc/kcore", "/proc/keys"].map(str::to_owned).into();
    f
}

#[test]
fn docker_as_it_comes() {
    let mut f = docker();
    fail(&mut f, &["userns", "idmap", "jail"], "clone3 `new namespaces`", "ENOSYS");
    fail(&mut f, &["keyring"], "keyctl(JOIN_SESSION_KEYRING)", "EPERM");
    skip(&mut f, &IN_USERNS);
    let told = document(&f);
    assert_eq!(told.mode, None);
    let userns = row(&told, "userns");
    assert!(userns.fix[0].contains("--security-opt seccomp=unconfined"), "{userns:?}");
    assert!(userns.fix[1].contains("run aj on the host"), "{userns:?}");
    assert!(
        userns.fix[2].contains("as an ordinary user of the container")
            && userns.fix[2].contains("--mode lite")
    );
    assert_eq!(row(&told, "keyring").fix, userns.fix);
    let container = row(&told, "container");
    assert_eq!(
        container.evidence,
        "`/.dockerenv` is there; a system call filter is in force; mounts over /proc/acpi, /proc/bus, /proc/kcore, …"
    );
    // No word about a sandbox, a kernel or a sysctl that is not to blame.
    let all: String = told.checks.iter().flat_map(|c| c.fix.clone()).collect();
    assert!(!all.contains("sysctl") && !all.contains("boot a kernel") && !all.contains("bwrap"), "{all}");
}

#[test]
fn docker_with_its_filter_off_still_masks_proc() {
    let mut f = docker();
    f.machine.seccomp = 0;
    f.machine.label = Some("unconfined".into());
    fail(&mut f, &["proc", "jail"], "fsmount `proc`", "EPERM");
    let told = document(&f);
    assert_eq!(told.mode, None);
    let proc = row(&told, "proc");
    assert!(proc.fix[0].contains("systempaths=unconfined"), "{proc:?}");
    assert!(!proc.fix[0].contains("seccomp"), "{proc:?}");
}

#[test]
fn a_state_directory_on_overlayfs() {
    let mut f = healthy();
    f.state.fs = Some("overlay".into());
    fail(&mut f, &["overlay", "jail"], "fsconfig `overlay`", "EINVAL");
    skip(&mut f, &["workspace"]);
    let told = document(&f);
    assert_eq!(told.mode, None);
    let overlay = row(&told, "overlay");
    assert_eq!(overlay.evidence, "fsconfig `overlay`: EINVAL (state on overlay)");
    assert!(overlay.fix[0].contains("AJ_STATE_DIR") && overlay.fix[1].contains("--rw"), "{overlay:?}");
    // A directory that cannot be a lower is no fault of the machine.
    let mut f = healthy();
    fail(&mut f, &["workspace"], "fsconfig `lowerdir=/proc/self/fd/7`", "EINVAL");
    f.workspace_fs = Some("fuse.sshfs".into());
    let told = document(&f);
    assert_eq!((told.mode.as_deref(), bad(&told)), (Some("full"), vec![("workspace", Status::Warn)]));
    assert!(row(&told, "workspace").evidence.ends_with("(fuse.sshfs)"));
}

#[test]
fn an_old_kernel_is_weaker_before_it_is_impossible() {
    let mut f = healthy();
    f.machine.kernel = "5.12.0".into();
    f.landlock = Landlock { abi: 0, errno: Some("ENOSYS".into()), errata: None };
    f.tried.insert("process_limit".into(), Tried::Weak("counts all".into()));
    f.tried.remove("landlock");
    let told = document(&f);
    assert_eq!(told.mode.as_deref(), Some("full"));
    let warned = [("kernel", Status::Warn), ("landlock", Status::Warn), ("process_limit", Status::Warn)];
    assert_eq!(bad(&told), warned);
    for (id, _) in warned {
        assert!(!row(&told, id).fix.is_empty(), "{id}");
    }
    let mut f = healthy();
    f.machine.kernel = "5.4.0-200-generic".into();
    fail(&mut f, &["mounts", "jail"], "mount_setattr `/usr`", "ENOSYS");
    let told = document(&f);
    assert_eq!(told.mode, None);
    assert!(row(&told, "mounts").fix[0].contains("5.12 or later (this is 5.4.0-200-generic)"));
}

#[test]
fn landlock_by_abi() {
    let with = |abi, errno: Option<&str>| {
        let mut f = healthy();
        f.machine.lsm = Some("lockdown,capability,yama".into());
        f.landlock = Landlock { abi, errno: errno.map(str::to_owned), errata: None };
        let told = document(&f);
        assert_eq!(told.mode.as_deref(), Some("full"), "Landlock is the second lock, not the first");
        row(&told, "landlock")
    };
    assert_eq!((with(6, None).status, with(9, None).status), (Status::Ok, Status::Ok));
    assert!(with(3, None).effect.unwrap_or_default().contains("scopes"));
    assert!(with(1, None).evidence.contains("not used"));
    assert!(with(0, Some("EOPNOTSUPP")).fix.concat().contains("lsm=landlock,lockdown,capability,yama"));
    assert!(with(0, Some("ENOSYS")).fix.concat().contains("CONFIG_SECURITY_LANDLOCK"));
}

#[test]
fn the_state_directory_counts() {
    let mut f = healthy();
    f.state.trouble = Some("state directory `/s` is open to other users (mode 0755)".into());
    f.state.fix = vec!["chmod".into()];
    skip(&mut f, &["overlay", "workspace", "jail"]);
    let told = document(&f);
    assert_eq!((told.mode.clone(), row(&told, "state").fix), (None, vec!["chmod".to_owned()]));
    for (free, files) in [(1 << 20, None), (1 << 40, Some(3))] {
        let mut f = healthy();
        f.state.free = free;
        f.state.files = files;
        assert_eq!(bad(&document(&f)), [("state", Status::Warn)]);
    }
}

#[test]
fn what_hangs_or_lies_is_a_failure_without_advice() {
    let mut f = healthy();
    f.tried.insert("proc".into(), Tried::TimedOut(2000));
    f.tried.insert("seccomp".into(), Tried::Wrong("was installed, but unshare ends with Ok(())".into()));
    let told = document(&f);
    assert_eq!(told.mode, None);
    assert_eq!(row(&told, "proc").evidence, "no answer within 2000 ms");
    assert!(row(&told, "seccomp").fix.is_empty());
}
