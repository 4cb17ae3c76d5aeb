use super::super::facts::Container;
use super::*;

fn plain() -> Machine {
    Machine {
        kernel: "6.8.0-45-generic".into(),
        uid: 1000,
        initial_userns: true,
        has_range: true,
        max_user_namespaces: Some(60_000),
        ..Machine::default()
    }
}

#[test]
fn each_step_that_pid_1_reports_has_its_causes() {
    let docker = Machine { container: Some(Container::Docker), seccomp: 2, ..plain() };
    let ubuntu = Machine { apparmor_userns: Some(1), label: Some("unconfined".into()), ..plain() };
    let held = Machine { label: Some("everybody (enforce)".into()), ..plain() };
    let snap = Machine { apparmor_userns: Some(1), ..held.clone() };
    let lxc = Machine { container: Some(Container::Other("lxc".into())), ..held.clone() };
    let old = Machine { kernel: "5.4.0-200-generic".into(), ..plain() };
    let root = Machine { uid: 0, ..plain() };
    let masked = Machine { proc_masks: vec!["/proc/kcore".into()], ..docker.clone() };
    let nested = Machine { initial_userns: false, max_user_namespaces: Some(2_147_483_647), ..plain() };
    let weak_root = Machine { weak_root: true, ..root.clone() };
    let small_root = Machine { has_range: false, initial_userns: false, ..root.clone() };
    let table: &[(&str, &str, &Machine, &[Cause])] = &[
        ("clone3 `new namespaces`", "ENOSPC", &plain(), &[Cause::NamespaceLimit(None)]),
        ("clone3 `new namespaces`", "ENOSPC", &nested, &[Cause::Confined]),
        ("clone3 `new namespaces`", "ENOSYS", &docker, &[Cause::Confined]),
        ("clone3 `new namespaces`", "ENOSYS", &plain(), &[Cause::OldKernel(5, 5)]),
        ("clone3 `new namespaces`", "EPERM", &docker, &[Cause::Confined]),
        ("clone3 `new namespaces`", "EPERM", &ubuntu, &[Cause::AppArmorUserns]),
        ("clone3 `new namespaces`", "EACCES", &held, &[Cause::AppArmorProfile]),
        ("clone3 `new namespaces`", "EACCES", &snap, &[Cause::AppArmorUserns, Cause::AppArmorProfile]),
        ("clone3 `new namespaces`", "EACCES", &lxc, &[Cause::Confined]),
        ("write uid_map `/proc/7/uid_map`", "EPERM", &held, &[Cause::AppArmorProfile]),
        ("fsmount `tmpfs`", "EACCES", &held, &[Cause::AppArmorProfile]),
        ("clone3 `new namespaces`", "EPERM", &plain(), &[Cause::Chroot]),
        ("clone3", "EAGAIN", &root, &[Cause::ProcessLimit]),
        ("unshare `net`", "ENOSPC", &plain(), &[Cause::NamespaceLimit(Some("net"))]),
        ("unshare `mount`", "ENOSPC", &plain(), &[Cause::NamespaceLimit(Some("mnt"))]),
        ("write uid_map `/proc/self/uid_map`", "EPERM", &ubuntu, &[Cause::AppArmorUserns]),
        ("write setgroups `/proc/self/setgroups`", "EACCES", &ubuntu, &[Cause::AppArmorUserns]),
        ("write uid_map `/proc/77/uid_map`", "EPERM", &small_root, &[Cause::LimitedRoot]),
        ("ioctl(SIOCSIFFLAGS) `lo`", "EPERM", &ubuntu, &[Cause::AppArmorUserns]),
        ("fsmount `tmpfs`", "EACCES", &ubuntu, &[Cause::AppArmorUserns]),
        ("fsopen", "EPERM", &docker, &[Cause::Confined]),
        ("fsopen", "ENOSYS", &old, &[Cause::OldKernel(5, 12)]),
        ("openat2 `/s`", "ENOSYS", &docker, &[Cause::Confined]),
        ("openat2 `/s`", "ENOSYS", &Machine { seccomp: 2, ..plain() }, &[Cause::Confined]),
        ("openat2 `/s`", "ENOSYS", &Machine { kernel: "5.4.0".into(), ..plain() }, &[Cause::OldKernel(5, 6)]),
        ("mount_setattr(idmap) `/p`", "EPERM", &weak_root, &[Cause::WeakRoot]),
        ("open_tree `/p`", "EPERM", &weak_root, &[Cause::WeakRoot]),
        ("fchown `pipe`", "EPERM", &weak_root, &[Cause::WeakRoot]),
        ("fchown `pipe`", "EPERM", &root, &[]),
        ("mount_setattr `/usr`", "ENOSYS", &docker, &[Cause::Confined]),
        ("fsmount `proc`", "EPERM", &masked, &[Cause::MaskedProc]),
        ("fsmount `proc`", "EPERM", &ubuntu, &[Cause::AppArmorUserns]),
        ("fsconfig `overlay`", "EINVAL", &plain(), &[Cause::OverlayUpper]),
        ("fsconfig `upperdir=/proc/self/fd/9`", "EINVAL", &plain(), &[Cause::OverlayUpper]),
        ("fsconfig `volatile`", "EINVAL", &old, &[Cause::OldKernel(5, 11)]),
        ("fsconfig `overlay`", "EPERM", &old, &[Cause::OldKernel(5, 11)]),
        ("fsopen `overlay`", "ENODEV", &plain(), &[Cause::Missing("overlay")]),
        ("copy up `overlay`", "EIO", &plain(), &[Cause::OverlayUpper]),
        ("mount_setattr(idmap) `/nfs/p`", "EINVAL", &root, &[Cause::NoIdmap]),
        ("mount_setattr(idmap) `/p`", "EPERM", &small_root, &[Cause::LimitedRoot]),
        ("chown `/s/trees/x/work`", "EINVAL", &small_root, &[Cause::LimitedRoot]),
        ("keyctl(JOIN_SESSION_KEYRING)", "EDQUOT", &plain(), &[Cause::KeyQuota]),
        ("keyctl(JOIN_SESSION_KEYRING)", "EPERM", &docker, &[Cause::Confined]),
        ("landlock_restrict_self", "E2BIG", &plain(), &[Cause::TooManyLayers]),
        ("pivot_root", "EINVAL", &Machine { initramfs: true, ..plain() }, &[Cause::Initramfs]),
        ("clone", "EAGAIN", &plain(), &[Cause::ProcessLimit]),
        ("pipe2", "EMFILE", &plain(), &[Cause::FileLimit]),
        ("mkdir `root/x`", "ENOSPC", &plain(), &[Cause::NoSpace]),
        // Nothing is known about these: no advice is better than a wrong one.
        ("chdir `/x`", "ENOENT", &plain(), &[]),
        ("open_tree `/home/me/x`", "EACCES", &plain(), &[]),
        ("", "", &plain(), &[]),
        ("`", "EPERM", &ubuntu, &[]),
    ];
    for (step, errno, machine, expected) in table {
        assert_eq!(causes(step, errno, machine), *expected, "{step} {errno} {machine:?}");
    }
}

#[test]
fn a_setting_is_blamed_only_when_it_holds_for_the_caller() {
    let off = Machine { unprivileged_userns_clone: Some(0), ..plain() };
    assert_eq!(causes("clone3 `new namespaces`", "EPERM", &off), [Cause::UnprivilegedCloneOff]);
    let root = Machine { uid: 0, apparmor_userns: Some(1), ..off };
    assert_eq!(causes("clone3 `new namespaces`", "EPERM", &root), [Cause::Chroot]);
    let zero = Machine { max_user_namespaces: Some(0), ..plain() };
    assert_eq!(causes("clone3 `new namespaces`", "ENOSPC", &zero), [Cause::UsernsLimitZero]);
    let net = Machine { forbidden_kinds: vec!["net".into()], ..plain() };
    assert_eq!(causes("clone3 `new namespaces`", "ENOSPC", &net), [Cause::NamespaceLimit(Some("net"))]);
}

#[test]
fn every_known_cause_has_a_fix_and_fixes_are_not_repeated() {
    let every = [
        Cause::UsernsLimitZero,
        Cause::NamespaceLimit(None),
        Cause::NamespaceLimit(Some("net")),
        Cause::UnprivilegedCloneOff,
        Cause::AppArmorUserns,
        Cause::Chroot,
        Cause::Confined,
        Cause::MaskedProc,
        Cause::LimitedRoot,
        Cause::OldKernel(5, 12),
        Cause::Missing("overlay"),
        Cause::Missing("x"),
        Cause::OverlayUpper,
        Cause::NoIdmap,
        Cause::Initramfs,
        Cause::ProcessLimit,
        Cause::KeyQuota,
        Cause::FileLimit,
        Cause::NoSpace,
        Cause::TooManyLayers,
        Cause::LandlockOff,
        Cause::WeakRoot,
    ];
    let containers = [
        None,
        Some(Container::Docker),
        Some(Container::Podman),
        Some(Container::Kubernetes),
        Some(Container::Other("lxc\x1b[31m".into())),
    ];
    for container in containers {
        let machine = Machine { container, proc_masks: vec!["/proc/keys".into()], ..plain() };
        for cause in every {
            let told = texts(&[cause, cause], &machine);
            assert!(!told.is_empty(), "{cause:?}");
            assert!(told.iter().all(|t| !t.is_empty() && !t.contains('\x1b')), "{told:?}");
            let mut once = told.clone();
            once.dedup();
            assert_eq!(once, told);
        }
    }
}
