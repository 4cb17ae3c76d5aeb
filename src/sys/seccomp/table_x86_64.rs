//! Every system call of x86-64, through Linux 6.18, and what becomes of it.
//!
//! A number without a row is unknown and answered ENOSYS. The rules are in `rules.rs`; why a call
//! is refused stands on its row.

use super::rules::*;

/// All calls in the order of their numbers.
pub(super) const TABLE: &[Row] = &[
    Row(0, "read", ALLOWED),
    Row(1, "write", ALLOWED),
    Row(2, "open", ALLOWED),
    Row(3, "close", ALLOWED),
    Row(4, "stat", ALLOWED),
    Row(5, "fstat", ALLOWED),
    Row(6, "lstat", ALLOWED),
    Row(7, "poll", ALLOWED),
    Row(8, "lseek", ALLOWED),
    Row(9, "mmap", ALLOWED),
    Row(10, "mprotect", ALLOWED),
    Row(11, "munmap", ALLOWED),
    Row(12, "brk", ALLOWED),
    Row(13, "rt_sigaction", ALLOWED),
    Row(14, "rt_sigprocmask", ALLOWED),
    Row(15, "rt_sigreturn", ALLOWED),
    Row(16, "ioctl", IOCTL), // no typing into terminals
    Row(17, "pread64", ALLOWED),
    Row(18, "pwrite64", ALLOWED),
    Row(19, "readv", ALLOWED),
    Row(20, "writev", ALLOWED),
    Row(21, "access", ALLOWED),
    Row(22, "pipe", ALLOWED),
    Row(23, "select", ALLOWED),
    Row(24, "sched_yield", ALLOWED),
    Row(25, "mremap", ALLOWED),
    Row(26, "msync", ALLOWED),
    Row(27, "mincore", ALLOWED),
    Row(28, "madvise", ALLOWED),
    Row(29, "shmget", ALLOWED),
    Row(30, "shmat", ALLOWED),
    Row(31, "shmctl", ALLOWED),
    Row(32, "dup", ALLOWED),
    Row(33, "dup2", ALLOWED),
    Row(34, "pause", ALLOWED),
    Row(35, "nanosleep", ALLOWED),
    Row(36, "getitimer", ALLOWED),
    Row(37, "alarm", ALLOWED),
    Row(38, "setitimer", ALLOWED),
    Row(39, "getpid", ALLOWED),
    Row(40, "sendfile", ALLOWED),
    Row(41, "socket", SOCKET), // families and protocols of a list
    Row(42, "connect", ALLOWED),
    Row(43, "accept", ALLOWED),
    Row(44, "sendto", ALLOWED),
    Row(45, "recvfrom", ALLOWED),
    Row(46, "sendmsg", ALLOWED),
    Row(47, "recvmsg", ALLOWED),
    Row(48, "shutdown", ALLOWED),
    Row(49, "bind", ALLOWED),
    Row(50, "listen", ALLOWED),
    Row(51, "getsockname", ALLOWED),
    Row(52, "getpeername", ALLOWED),
    Row(53, "socketpair", SOCKET), // families and protocols of a list
    Row(54, "setsockopt", ALLOWED),
    Row(55, "getsockopt", ALLOWED),
    Row(56, "clone", CLONE), // no namespace flags
    Row(57, "fork", ALLOWED),
    Row(58, "vfork", ALLOWED),
    Row(59, "execve", ALLOWED),
    Row(60, "exit", ALLOWED),
    Row(61, "wait4", ALLOWED),
    Row(62, "kill", ALLOWED),
    Row(63, "uname", ALLOWED),
    Row(64, "semget", ALLOWED),
    Row(65, "semop", ALLOWED),
    Row(66, "semctl", ALLOWED),
    Row(67, "shmdt", ALLOWED),
    Row(68, "msgget", ALLOWED),
    Row(69, "msgsnd", ALLOWED),
    Row(70, "msgrcv", ALLOWED),
    Row(71, "msgctl", ALLOWED),
    Row(72, "fcntl", ALLOWED),
    Row(73, "flock", ALLOWED),
    Row(74, "fsync", ALLOWED),
    Row(75, "fdatasync", ALLOWED),
    Row(76, "truncate", ALLOWED),
    Row(77, "ftruncate", ALLOWED),
    Row(78, "getdents", ALLOWED),
    Row(79, "getcwd", ALLOWED),
    Row(80, "chdir", ALLOWED),
    Row(81, "fchdir", ALLOWED),
    Row(82, "rename", ALLOWED),
    Row(83, "mkdir", ALLOWED),
    Row(84, "rmdir", ALLOWED),
    Row(85, "creat", ALLOWED),
    Row(86, "link", ALLOWED),
    Row(87, "unlink", ALLOWED),
    Row(88, "symlink", ALLOWED),
    Row(89, "readlink", ALLOWED),
    Row(90, "chmod", ALLOWED),
    Row(91, "fchmod", ALLOWED),
    Row(92, "chown", ALLOWED),
    Row(93, "fchown", ALLOWED),
    Row(94, "lchown", ALLOWED),
    Row(95, "umask", ALLOWED),
    Row(96, "gettimeofday", ALLOWED),
    Row(97, "getrlimit", ALLOWED),
    Row(98, "getrusage", ALLOWED),
    Row(99, "sysinfo", ALLOWED),
    Row(100, "times", ALLOWED),
    Row(101, "ptrace", ALLOWED),
    Row(102, "getuid", ALLOWED),
    Row(103, "syslog", DENIED), // kernel log
    Row(104, "getgid", ALLOWED),
    Row(105, "setuid", ALLOWED),
    Row(106, "setgid", ALLOWED),
    Row(107, "geteuid", ALLOWED),
    Row(108, "getegid", ALLOWED),
    Row(109, "setpgid", ALLOWED),
    Row(110, "getppid", ALLOWED),
    Row(111, "getpgrp", ALLOWED),
    Row(112, "setsid", ALLOWED),
    Row(113, "setreuid", ALLOWED),
    Row(114, "setregid", ALLOWED),
    Row(115, "getgroups", ALLOWED),
    Row(116, "setgroups", ALLOWED),
    Row(117, "setresuid", ALLOWED),
    Row(118, "getresuid", ALLOWED),
    Row(119, "setresgid", ALLOWED),
    Row(120, "getresgid", ALLOWED),
    Row(121, "getpgid", ALLOWED),
    Row(122, "setfsuid", ALLOWED),
    Row(123, "setfsgid", ALLOWED),
    Row(124, "getsid", ALLOWED),
    Row(125, "capget", ALLOWED),
    Row(126, "capset", ALLOWED),
    Row(127, "rt_sigpending", ALLOWED),
    Row(128, "rt_sigtimedwait", ALLOWED),
    Row(129, "rt_sigqueueinfo", ALLOWED),
    Row(130, "rt_sigsuspend", ALLOWED),
    Row(131, "sigaltstack", ALLOWED),
    Row(132, "utime", ALLOWED),
    Row(133, "mknod", MKNOD),
    Row(134, "uselib", ABSENT),           // obsolete
    Row(135, "personality", PERSONALITY), // not READ_IMPLIES_EXEC
    Row(136, "ustat", ABSENT),            // obsolete
    Row(137, "statfs", ALLOWED),
    Row(138, "fstatfs", ALLOWED),
    Row(139, "sysfs", ABSENT), // obsolete
    Row(140, "getpriority", ALLOWED),
    Row(141, "setpriority", ALLOWED),
    Row(142, "sched_setparam", ALLOWED),
    Row(143, "sched_getparam", ALLOWED),
    Row(144, "sched_setscheduler", ALLOWED),
    Row(145, "sched_getscheduler", ALLOWED),
    Row(146, "sched_get_priority_max", ALLOWED),
    Row(147, "sched_get_priority_min", ALLOWED),
    Row(148, "sched_rr_get_interval", ALLOWED),
    Row(149, "mlock", ALLOWED),
    Row(150, "munlock", ALLOWED),
    Row(151, "mlockall", ALLOWED),
    Row(152, "munlockall", ALLOWED),
    Row(153, "vhangup", DENIED),    // hangs up the terminal
    Row(154, "modify_ldt", DENIED), // 16-bit segments: a bug farm
    Row(155, "pivot_root", NESTED),
    Row(156, "_sysctl", DENIED),        // removed from the kernel
    Row(157, "prctl", PRCTL),           // not the memory map, not the secure bits
    Row(158, "arch_prctl", ARCH_PRCTL), // own registers and features
    Row(159, "adjtimex", DENIED),       // clocks are not namespaced
    Row(160, "setrlimit", ALLOWED),
    Row(161, "chroot", NESTED),
    Row(162, "sync", ALLOWED),
    Row(163, "acct", DENIED),         // process accounting
    Row(164, "settimeofday", DENIED), // clocks are not namespaced
    Row(165, "mount", NESTED),
    Row(166, "umount2", NESTED),
    Row(167, "swapon", DENIED),  // the whole machine
    Row(168, "swapoff", DENIED), // the whole machine
    Row(169, "reboot", DENIED),  // the whole machine
    Row(170, "sethostname", NESTED),
    Row(171, "setdomainname", NESTED),
    Row(172, "iopl", DENIED),            // hardware ports
    Row(173, "ioperm", DENIED),          // hardware ports
    Row(174, "create_module", DENIED),   // removed from the kernel
    Row(175, "init_module", DENIED),     // kernel modules
    Row(176, "delete_module", DENIED),   // kernel modules
    Row(177, "get_kernel_syms", DENIED), // removed from the kernel
    Row(178, "query_module", DENIED),    // removed from the kernel
    Row(179, "quotactl", DENIED),        // quotas of host file systems
    Row(180, "nfsservctl", DENIED),      // removed from the kernel
    Row(181, "getpmsg", DENIED),         // never implemented
    Row(182, "putpmsg", DENIED),         // never implemented
    Row(183, "afs_syscall", DENIED),     // never implemented
    Row(184, "tuxcall", DENIED),         // never implemented
    Row(185, "security", DENIED),        // never implemented
    Row(186, "gettid", ALLOWED),
    Row(187, "readahead", ALLOWED),
    Row(188, "setxattr", ALLOWED),
    Row(189, "lsetxattr", ALLOWED),
    Row(190, "fsetxattr", ALLOWED),
    Row(191, "getxattr", ALLOWED),
    Row(192, "lgetxattr", ALLOWED),
    Row(193, "fgetxattr", ALLOWED),
    Row(194, "listxattr", ALLOWED),
    Row(195, "llistxattr", ALLOWED),
    Row(196, "flistxattr", ALLOWED),
    Row(197, "removexattr", ALLOWED),
    Row(198, "lremovexattr", ALLOWED),
    Row(199, "fremovexattr", ALLOWED),
    Row(200, "tkill", ALLOWED),
    Row(201, "time", ALLOWED),
    Row(202, "futex", ALLOWED),
    Row(203, "sched_setaffinity", ALLOWED),
    Row(204, "sched_getaffinity", ALLOWED),
    Row(205, "set_thread_area", DENIED), // 32-bit only
    Row(206, "io_setup", ALLOWED),
    Row(207, "io_destroy", ALLOWED),
    Row(208, "io_getevents", ALLOWED),
    Row(209, "io_submit", ALLOWED),
    Row(210, "io_cancel", ALLOWED),
    Row(211, "get_thread_area", DENIED), // 32-bit only
    Row(212, "lookup_dcookie", DENIED),  // removed from the kernel
    Row(213, "epoll_create", ALLOWED),
    Row(214, "epoll_ctl_old", ABSENT),  // never implemented
    Row(215, "epoll_wait_old", ABSENT), // never implemented
    Row(216, "remap_file_pages", ALLOWED),
    Row(217, "getdents64", ALLOWED),
    Row(218, "set_tid_address", ALLOWED),
    Row(219, "restart_syscall", ALLOWED),
    Row(220, "semtimedop", ALLOWED),
    Row(221, "fadvise64", ALLOWED),
    Row(222, "timer_create", ALLOWED),
    Row(223, "timer_settime", ALLOWED),
    Row(224, "timer_gettime", ALLOWED),
    Row(225, "timer_getoverrun", ALLOWED),
    Row(226, "timer_delete", ALLOWED),
    Row(227, "clock_settime", DENIED), // clocks are not namespaced
    Row(228, "clock_gettime", ALLOWED),
    Row(229, "clock_getres", ALLOWED),
    Row(230, "clock_nanosleep", ALLOWED),
    Row(231, "exit_group", ALLOWED),
    Row(232, "epoll_wait", ALLOWED),
    Row(233, "epoll_ctl", ALLOWED),
    Row(234, "tgkill", ALLOWED),
    Row(235, "utimes", ALLOWED),
    Row(236, "vserver", ABSENT), // never implemented
    Row(237, "mbind", ALLOWED),
    Row(238, "set_mempolicy", ALLOWED),
    Row(239, "get_mempolicy", ALLOWED),
    Row(240, "mq_open", ALLOWED),
    Row(241, "mq_unlink", ALLOWED),
    Row(242, "mq_timedsend", ALLOWED),
    Row(243, "mq_timedreceive", ALLOWED),
    Row(244, "mq_notify", ALLOWED),
    Row(245, "mq_getsetattr", ALLOWED),
    Row(246, "kexec_load", DENIED), // the whole machine
    Row(247, "waitid", ALLOWED),
    Row(248, "add_key", ABSENT),     // keyrings are not namespaced
    Row(249, "request_key", ABSENT), // keyrings are not namespaced
    Row(250, "keyctl", ABSENT),      // keyrings are not namespaced
    Row(251, "ioprio_set", ALLOWED),
    Row(252, "ioprio_get", ALLOWED),
    Row(253, "inotify_init", ALLOWED),
    Row(254, "inotify_add_watch", ALLOWED),
    Row(255, "inotify_rm_watch", ALLOWED),
    Row(256, "migrate_pages", ABSENT), // moves memory of other processes
    Row(257, "openat", ALLOWED),
    Row(258, "mkdirat", ALLOWED),
    Row(259, "mknodat", MKNODAT),
    Row(260, "fchownat", ALLOWED),
    Row(261, "futimesat", ALLOWED),
    Row(262, "newfstatat", ALLOWED),
    Row(263, "unlinkat", ALLOWED),
    Row(264, "renameat", ALLOWED),
    Row(265, "linkat", ALLOWED),
    Row(266, "symlinkat", ALLOWED),
    Row(267, "readlinkat", ALLOWED),
    Row(268, "fchmodat", ALLOWED),
    Row(269, "faccessat", ALLOWED),
    Row(270, "pselect6", ALLOWED),
    Row(271, "ppoll", ALLOWED),
    Row(272, "unshare", CLONE), // no namespace flags
    Row(273, "set_robust_list", ALLOWED),
    Row(274, "get_robust_list", ALLOWED),
    Row(275, "splice", ALLOWED),
    Row(276, "tee", ALLOWED),
    Row(277, "sync_file_range", ALLOWED),
    Row(278, "vmsplice", ALLOWED),
    Row(279, "move_pages", ABSENT), // moves memory of other processes
    Row(280, "utimensat", ALLOWED),
    Row(281, "epoll_pwait", ALLOWED),
    Row(282, "signalfd", ALLOWED),
    Row(283, "timerfd_create", ALLOWED),
    Row(284, "eventfd", ALLOWED),
    Row(285, "fallocate", ALLOWED),
    Row(286, "timerfd_settime", ALLOWED),
    Row(287, "timerfd_gettime", ALLOWED),
    Row(288, "accept4", ALLOWED),
    Row(289, "signalfd4", ALLOWED),
    Row(290, "eventfd2", ALLOWED),
    Row(291, "epoll_create1", ALLOWED),
    Row(292, "dup3", ALLOWED),
    Row(293, "pipe2", ALLOWED),
    Row(294, "inotify_init1", ALLOWED),
    Row(295, "preadv", ALLOWED),
    Row(296, "pwritev", ALLOWED),
    Row(297, "rt_tgsigqueueinfo", ALLOWED),
    Row(298, "perf_event_open", DENIED), // kernel attack surface
    Row(299, "recvmmsg", ALLOWED),
    Row(300, "fanotify_init", DENIED), // watches whole mounts
    Row(301, "fanotify_mark", DENIED), // watches whole mounts
    Row(302, "prlimit64", PRLIMIT),
    Row(303, "name_to_handle_at", ALLOWED),
    Row(304, "open_by_handle_at", DENIED), // opens files past every path check
    Row(305, "clock_adjtime", DENIED),     // clocks are not namespaced
    Row(306, "syncfs", ALLOWED),
    Row(307, "sendmmsg", ALLOWED),
    Row(308, "setns", NESTED),
    Row(309, "getcpu", ALLOWED),
    Row(310, "process_vm_readv", ALLOWED),
    Row(311, "process_vm_writev", ALLOWED),
    Row(312, "kcmp", DENIED),         // compares kernel pointers
    Row(313, "finit_module", DENIED), // kernel modules
    Row(314, "sched_setattr", ALLOWED),
    Row(315, "sched_getattr", ALLOWED),
    Row(316, "renameat2", RENAME),
    Row(317, "seccomp", ALLOWED),
    Row(318, "getrandom", ALLOWED),
    Row(319, "memfd_create", ALLOWED),
    Row(320, "kexec_file_load", DENIED), // the whole machine
    Row(321, "bpf", DENIED),             // kernel attack surface
    Row(322, "execveat", ALLOWED),
    Row(323, "userfaultfd", DENIED), // kernel attack surface
    Row(324, "membarrier", ALLOWED),
    Row(325, "mlock2", ALLOWED),
    Row(326, "copy_file_range", ALLOWED),
    Row(327, "preadv2", ALLOWED),
    Row(328, "pwritev2", ALLOWED),
    Row(329, "pkey_mprotect", ALLOWED),
    Row(330, "pkey_alloc", ALLOWED),
    Row(331, "pkey_free", ALLOWED),
    Row(332, "statx", ALLOWED),
    Row(333, "io_pgetevents", ALLOWED),
    Row(334, "rseq", ALLOWED),
    Row(335, "uretprobe", ALLOWED), // only from a kernel trampoline
    Row(336, "uprobe", ALLOWED),    // only from a kernel trampoline
    Row(424, "pidfd_send_signal", ALLOWED),
    Row(425, "io_uring_setup", ABSENT), // performs calls that no filter sees
    Row(426, "io_uring_enter", ABSENT), // performs calls that no filter sees
    Row(427, "io_uring_register", ABSENT), // performs calls that no filter sees
    Row(428, "open_tree", NESTED),
    Row(429, "move_mount", NESTED),
    Row(430, "fsopen", NESTED),
    Row(431, "fsconfig", NESTED),
    Row(432, "fsmount", NESTED),
    Row(433, "fspick", NESTED),
    Row(434, "pidfd_open", ALLOWED),
    Row(435, "clone3", NESTED_ABSENT), // flags behind a pointer: libraries fall back to clone
    Row(436, "close_range", ALLOWED),
    Row(437, "openat2", ALLOWED),
    Row(438, "pidfd_getfd", DENIED), // takes descriptors of other processes
    Row(439, "faccessat2", ALLOWED),
    Row(440, "process_madvise", ABSENT), // advice for other processes
    Row(441, "epoll_pwait2", ALLOWED),
    Row(442, "mount_setattr", NESTED),
    Row(443, "quotactl_fd", DENIED), // quotas of host file systems
    Row(444, "landlock_create_ruleset", ALLOWED),
    Row(445, "landlock_add_rule", ALLOWED),
    Row(446, "landlock_restrict_self", ALLOWED),
    Row(447, "memfd_secret", ABSENT),     // memory the host cannot inspect
    Row(448, "process_mrelease", ABSENT), // for out-of-memory daemons
    Row(449, "futex_waitv", ALLOWED),
    Row(450, "set_mempolicy_home_node", ALLOWED),
    Row(451, "cachestat", ALLOWED),
    Row(452, "fchmodat2", ALLOWED),
    Row(453, "map_shadow_stack", ALLOWED),
    Row(454, "futex_wake", ALLOWED),
    Row(455, "futex_wait", ALLOWED),
    Row(456, "futex_requeue", ALLOWED),
    Row(457, "statmount", NESTED_ABSENT),  // /proc/self/mountinfo tells
    Row(458, "listmount", NESTED_ABSENT),  // /proc/self/mountinfo tells
    Row(459, "lsm_get_self_attr", ABSENT), // describes the security modules of the host
    Row(460, "lsm_set_self_attr", ABSENT), // describes the security modules of the host
    Row(461, "lsm_list_modules", ABSENT),  // describes the security modules of the host
    Row(462, "mseal", ALLOWED),
    Row(463, "setxattrat", ALLOWED),
    Row(464, "getxattrat", ALLOWED),
    Row(465, "listxattrat", ALLOWED),
    Row(466, "removexattrat", ALLOWED),
    Row(467, "open_tree_attr", NESTED),
    Row(468, "file_getattr", ALLOWED),
    Row(469, "file_setattr", ALLOWED),
];
