//! The table and the program against the policy as written down here.

use super::super::interp::run;
use super::super::rules::Row;
use super::super::table::TABLE;
use super::super::{ARCH_32, X32_BIT};
use super::*;

const ENOSYS: Verdict = Verdict::Errno(libc::ENOSYS as u16);
const EPERM: Verdict = Verdict::Errno(libc::EPERM as u16);

#[test]
fn tables_are_in_order_and_name_each_call_once() {
    for table in [TABLE, other::TABLE] {
        assert!(table.windows(2).all(|rows| rows[0].0 < rows[1].0));
        let mut names: Vec<&str> = table.iter().map(|row| row.1).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), table.len());
        // The numbers that all architectures share.
        assert!((424..=469).all(|nr| table.iter().any(|row| row.0 == nr)));
    }
    #[cfg(target_arch = "x86_64")]
    assert!((0..=336).all(|nr| name(nr).is_some()));
}

#[test]
fn both_architectures_have_the_same_rules() {
    let find = |table: &'static [Row], name| table.iter().find(|row: &&Row| row.1 == name);
    let shared: Vec<_> =
        TABLE.iter().filter_map(|row| find(other::TABLE, row.1).map(|it| (row, it))).collect();
    assert!(shared.len() > 300);
    for options in all_options() {
        for (row, it) in &shared {
            assert_eq!(row.2.rule(options), it.2.rule(options), "{}", row.1);
        }
    }
}

#[test]
fn numbers_are_those_of_the_c_library() {
    let known = [
        ("read", libc::SYS_read),
        ("ioctl", libc::SYS_ioctl),
        ("socket", libc::SYS_socket),
        ("socketpair", libc::SYS_socketpair),
        ("clone", libc::SYS_clone),
        ("execve", libc::SYS_execve),
        ("ptrace", libc::SYS_ptrace),
        ("personality", libc::SYS_personality),
        ("prctl", libc::SYS_prctl),
        ("pivot_root", libc::SYS_pivot_root),
        ("mount", libc::SYS_mount),
        ("umount2", libc::SYS_umount2),
        ("chroot", libc::SYS_chroot),
        ("reboot", libc::SYS_reboot),
        ("init_module", libc::SYS_init_module),
        ("keyctl", libc::SYS_keyctl),
        ("unshare", libc::SYS_unshare),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("fanotify_init", libc::SYS_fanotify_init),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("setns", libc::SYS_setns),
        ("finit_module", libc::SYS_finit_module),
        ("seccomp", libc::SYS_seccomp),
        ("bpf", libc::SYS_bpf),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("rseq", libc::SYS_rseq),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("open_tree", libc::SYS_open_tree),
        ("clone3", libc::SYS_clone3),
        ("openat2", libc::SYS_openat2),
        ("pidfd_getfd", libc::SYS_pidfd_getfd),
        ("mount_setattr", libc::SYS_mount_setattr),
        ("landlock_restrict_self", libc::SYS_landlock_restrict_self),
        ("memfd_secret", libc::SYS_memfd_secret),
        ("mseal", libc::SYS_mseal),
    ];
    for (call, nr) in known {
        assert_eq!(name(nr as u32), Some(call));
    }
}

/// The numbers of the machine's headers, where they are installed.
#[test]
fn numbers_are_those_of_the_headers() {
    let header = ["/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok());
    let Some(header) = header.filter(|_| cfg!(target_arch = "x86_64")) else {
        eprintln!("SKIP: no asm/unistd_64.h here");
        return;
    };
    let mut seen = 0;
    for line in header.lines() {
        let mut words = line.split_whitespace();
        let call = words.nth(1).and_then(|word| word.strip_prefix("__NR_"));
        if let (Some(call), Some(Ok(nr))) = (call, words.next().map(str::parse)) {
            if let Some(known) = name(nr) {
                assert_eq!(known, call);
            }
            seen += 1;
        }
    }
    assert!(seen > 300);
}

#[test]
fn every_number_is_decided_as_its_row_says() {
    for options in all_options() {
        let filter = program(&options);
        for nr in 0..1024 {
            for args in [[0; 6], [u64::MAX; 6], [0x5412; 6]] {
                let got = interpret(&filter, nr, ARCH, args);
                assert_eq!(got, wanted(nr, args, &options), "{nr} {:?} {args:x?} {options:?}", name(nr));
            }
            if name(nr).is_none() {
                let unknown = if options.level == Level::Log { Verdict::Log } else { ENOSYS };
                assert_eq!(interpret(&filter, nr, ARCH, [0; 6]), unknown);
            }
        }
    }
}

/// The policy once more, as a list that a change of the table must face.
#[test]
fn dangerous_calls_are_refused() {
    let denied = "syslog vhangup pivot_root adjtimex chroot acct settimeofday mount umount2 swapon swapoff \
        reboot sethostname setdomainname init_module delete_module quotactl clock_settime kexec_load \
        perf_event_open fanotify_init fanotify_mark open_by_handle_at clock_adjtime setns kcmp finit_module \
        kexec_file_load bpf userfaultfd open_tree move_mount fsopen fsconfig fsmount fspick pidfd_getfd \
        mount_setattr quotactl_fd open_tree_attr lookup_dcookie";
    let absent = "add_key request_key keyctl io_uring_setup io_uring_enter io_uring_register clone3 \
        process_madvise memfd_secret migrate_pages move_pages statmount listmount lsm_set_self_attr";
    #[cfg(target_arch = "x86_64")]
    let denied = format!("{denied} iopl ioperm modify_ldt set_thread_area");
    for call in denied.split_whitespace() {
        assert_eq!(verdict(&STANDARD, call, [0; 6]), EPERM, "{call}");
    }
    for call in absent.split_whitespace() {
        assert_eq!(verdict(&STANDARD, call, [0; 6]), ENOSYS, "{call}");
    }
}

#[test]
fn what_programs_need_is_allowed() {
    let calls = "read write execve execveat ptrace process_vm_readv process_vm_writev seccomp \
        landlock_create_ruleset landlock_restrict_self memfd_create inotify_add_watch setpgid kill \
        sched_setscheduler statx renameat2 copy_file_range getxattr setxattr futex futex_waitv rseq membarrier \
        set_robust_list timer_create timerfd_create signalfd4 eventfd2 epoll_pwait2 pidfd_open \
        pidfd_send_signal close_range openat2 faccessat2 fchmodat2 cachestat mseal getrandom mbind \
        get_mempolicy mq_open shmget semget msgget setresuid setgroups mknodat fchownat name_to_handle_at \
        io_setup prlimit64 pkey_alloc splice tee vmsplice sendfile mlock2 capset unlinkat setsockopt bind";
    for options in all_options() {
        for call in calls.split_whitespace() {
            assert_eq!(verdict(&options, call, [0; 6]), Verdict::Allow, "{call} {options:?}");
        }
    }
}

#[test]
fn nested_user_namespaces_open_what_a_sandbox_needs_and_no_more() {
    let nested = Options { nested_userns: true, ..STANDARD };
    let opened: Vec<&str> = (0..1024)
        .filter(|nr| expected(*nr, &STANDARD) != expected(*nr, &nested))
        .filter_map(|nr| {
            assert_eq!(expected(nr, &nested), Rule::Allow);
            name(nr)
        })
        .collect();
    let mut wanted: Vec<&str> = vec![
        "chroot",
        "clone",
        "clone3",
        "fsconfig",
        "fsmount",
        "fsopen",
        "fspick",
        "listmount",
        "mknod",
        "mknodat",
        "mount",
        "mount_setattr",
        "move_mount",
        "open_tree",
        "open_tree_attr",
        "pivot_root",
        "renameat2",
        "setdomainname",
        "sethostname",
        "setns",
        "statmount",
        "umount2",
        "unshare",
    ];
    let mut got = opened;
    got.sort_unstable();
    // Other architectures have the newer of the two only.
    wanted.retain(|call| *call != "mknod" || cfg!(target_arch = "x86_64"));
    wanted.sort_unstable();
    assert_eq!(got, wanted);
    let flags = [(libc::CLONE_NEWUSER | libc::SIGCHLD) as u64, 0, 0, 0, 0, 0];
    assert_eq!(verdict(&nested, "clone", flags), Verdict::Allow);
    assert_eq!(verdict(&STANDARD, "clone", flags), EPERM);
}

#[test]
fn foreign_and_x32_calls_are_refused_at_every_level() {
    for options in all_options() {
        let filter = program(&options);
        for nr in (0..1024).chain([0x3fff_ffff, X32_BIT - 1, u32::MAX]) {
            for arch in [ARCH_32, ARCH ^ 1, 0, u32::MAX] {
                assert_eq!(interpret(&filter, nr, arch, [0; 6]), ENOSYS, "{nr} of {arch:x}");
            }
            assert_eq!(interpret(&filter, nr | X32_BIT, ARCH, [0; 6]), ENOSYS, "x32 {nr}");
            assert_eq!(expected(nr | X32_BIT, &options), Rule::Errno(libc::ENOSYS as u16));
        }
    }
}

#[test]
fn each_namespace_flag_of_clone_and_unshare_is_refused_in_both_words() {
    let flags = [
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWNS,
        0x80, // CLONE_NEWTIME
    ];
    for flag in flags.map(|flag| u64::from(flag as u32)) {
        for call in ["clone", "unshare"] {
            assert_eq!(verdict(&STANDARD, call, [flag, 0, 0, 0, 0, 0]), EPERM);
            assert_eq!(verdict(&STANDARD, call, [flag << 32, 0, 0, 0, 0, 0]), EPERM);
            assert_eq!(verdict(&STANDARD, call, [flag | 17 | 0xffff << 48, 0, 0, 0, 0, 0]), EPERM);
        }
    }
    // What fork, vfork and pthread_create pass.
    for flags in [0x0120_0011, 0x4111, 0x003d_0f00, 0x8000_0011] {
        assert_eq!(verdict(&STANDARD, "clone", [flags, 0, 0, 0, 0, 0]), Verdict::Allow);
    }
}

#[test]
fn bits_above_an_int_change_nothing() {
    for options in all_options() {
        let filter = program(&options);
        for nr in (0..1024).filter(|nr| name(*nr) != Some("clone") && name(*nr) != Some("unshare")) {
            for value in edges() {
                let low = [value & 0xffff_ffff; 6];
                let high = low.map(|value| value | 0xdead_beef << 32);
                assert_eq!(interpret(&filter, nr, ARCH, low), interpret(&filter, nr, ARCH, high));
            }
        }
    }
}

#[test]
fn sockets_are_limited_to_families_and_protocols_of_the_list() {
    let strict = Options { level: Level::Strict, ..STANDARD };
    let socket = |options: &Options, family: i32, kind: i32, protocol: i32| {
        verdict(options, "socket", [family as u64, kind as u64, protocol as u64, 0, 0, 0])
    };
    let no_family = Verdict::Errno(libc::EAFNOSUPPORT as u16);
    for family in (-1..=60).filter(|it| ![1, 2, 10, 16].contains(it)) {
        assert_eq!(socket(&STANDARD, family, libc::SOCK_STREAM, 0), no_family, "family {family}");
    }
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    assert_eq!(socket(&STANDARD, libc::AF_INET, kind, libc::IPPROTO_UDP), Verdict::Allow);
    assert_eq!(socket(&STANDARD, libc::AF_INET6, libc::SOCK_STREAM, 0), Verdict::Allow);
    assert_eq!(socket(&STANDARD, libc::AF_INET, 10 | libc::SOCK_CLOEXEC, 0x300), no_family);
    for protocol in [33, 89, 115, libc::IPPROTO_SCTP, 256] {
        let refused = Verdict::Errno(libc::EPROTONOSUPPORT as u16);
        assert_eq!(socket(&STANDARD, libc::AF_INET, libc::SOCK_STREAM, protocol), refused);
    }
    for protocol in 1..32 {
        assert_ne!(socket(&STANDARD, libc::AF_NETLINK, libc::SOCK_RAW, protocol), Verdict::Allow);
    }
    assert_eq!(socket(&STANDARD, libc::AF_NETLINK, libc::SOCK_RAW, 0), Verdict::Allow);
    assert_eq!(socket(&strict, libc::AF_INET, libc::SOCK_STREAM, 0), no_family);
    assert_eq!(socket(&strict, libc::AF_INET6, libc::SOCK_DGRAM, 0), no_family);
    assert_eq!(socket(&strict, libc::AF_UNIX, libc::SOCK_STREAM, 0), Verdict::Allow);
    assert_eq!(socket(&strict, libc::AF_NETLINK, libc::SOCK_RAW, 0), Verdict::Allow);
}

#[test]
fn terminals_cannot_be_typed_into_whatever_the_high_bits() {
    for request in [0x5412u64, 0x541C] {
        for high in [0, 1, 0x8000_0000, 0xffff_ffff] {
            assert_eq!(verdict(&STANDARD, "ioctl", [0, request | high << 32, 0, 0, 0, 0]), EPERM);
        }
    }
    #[allow(clippy::unnecessary_cast)] // their type is another one on ARM
    for request in [libc::TIOCGWINSZ, libc::TIOCSCTTY, libc::TCGETS, libc::FIONREAD, 0x4004_9409] {
        assert_eq!(verdict(&STANDARD, "ioctl", [0, request as u64, 0, 0, 0, 0]), Verdict::Allow);
    }
}

#[test]
fn debuggers_get_their_personality_and_nobody_executable_data() {
    let persona = |value: u64| verdict(&STANDARD, "personality", [value, 0, 0, 0, 0, 0]);
    for allowed in [0, 8, 0x40000, 0x20000, 0xffff_ffff] {
        assert_eq!(persona(allowed), Verdict::Allow);
    }
    for refused in [0x0400000, 0x0440000, 0x0100000, 1, 0xffff_fffe] {
        assert_eq!(persona(refused), EPERM);
    }
}

#[test]
fn devices_and_whiteouts_cannot_be_made_and_every_other_kind_can() {
    let nested = Options { nested_userns: true, ..STANDARD };
    for (call, at) in [("mknodat", 2), ("mknod", 1)] {
        if call == "mknod" && !cfg!(target_arch = "x86_64") {
            continue; // other architectures never had it
        }
        let with = |mode: u64| std::array::from_fn(|n| if n == at { mode } else { 0 });
        for high in [0, 1 << 16, 0xffff_ffff << 32] {
            for device in [libc::S_IFCHR, libc::S_IFBLK, libc::S_IFCHR | 0o644, libc::S_IFBLK | 0o7777] {
                let mode = u64::from(device) | high;
                assert_eq!(verdict(&STANDARD, call, with(mode)), EPERM, "{call} {mode:o}");
                assert_eq!(verdict(&nested, call, with(mode)), Verdict::Allow, "{call} {mode:o}");
            }
            for kind in [0, libc::S_IFREG, libc::S_IFIFO, libc::S_IFSOCK] {
                let mode = u64::from(kind | 0o1777) | high;
                assert_eq!(verdict(&STANDARD, call, with(mode)), Verdict::Allow, "{call} {mode:o}");
            }
        }
    }
}

#[test]
fn a_rename_leaves_no_whiteout_and_may_do_all_else() {
    let with = |flags: u64| verdict(&STANDARD, "renameat2", [0, 0, 0, 0, flags, 0]);
    for flags in [0, 1, 2, 4 << 32] {
        assert_eq!(with(flags), Verdict::Allow, "{flags:x}");
    }
    for flags in [4, 5, 4 | 8 << 32, u64::MAX] {
        assert_eq!(with(flags), Verdict::Errno(libc::EINVAL as u16), "{flags:x}");
    }
}

/// A path is what every filtered call pays; the length and the mean path are what installing costs.
#[test]
fn programs_are_short_and_flat() {
    for options in all_options() {
        let code = program(&options).instructions();
        assert!(code.len() <= 170, "{} instructions", code.len());
        let paths: Vec<usize> = (0..470).map(|nr| run(code, nr, ARCH, [u64::MAX - 1; 6]).1).collect();
        assert!(paths.iter().all(|steps| *steps <= 30));
        assert!(paths.iter().sum::<usize>() <= 10 * paths.len(), "{}", paths.iter().sum::<usize>());
        assert_eq!(run(code, 0, ARCH_32, [0; 6]).1, 3);
    }
}

/// What the kernel's verifier asks, and that nothing is dead.
#[test]
fn programs_end_in_returns_and_have_no_dead_instruction() {
    const RETURN: u16 = 0x06;
    for options in all_options() {
        let code = program(&options).instructions();
        let mut reached = vec![false; code.len()];
        reached[0] = true;
        for (at, op) in code.iter().enumerate() {
            assert!(reached[at], "instruction {at} is dead in {options:?}");
            match op.code & 7 {
                5 => {
                    reached[at + 1 + usize::from(op.jt)] = true;
                    reached[at + 1 + usize::from(op.jf)] = true;
                }
                6 => assert_eq!(op.code, RETURN),
                _ => reached[at + 1] = true,
            }
        }
        assert_eq!(code.last().map(|op| op.code), Some(RETURN));
    }
}
