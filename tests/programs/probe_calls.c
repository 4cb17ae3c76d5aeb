/* System calls: what the filter lets through, and what the kernel says to the rest. */
#include "probe.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <sys/wait.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
/* The sixth argument of a call that is only to be judged, not performed. */
#define MARK 0x6a61696cu
/* What a judged call that every filter lets through fails with. */
#define PASSED 3333

static int filter(unsigned flags, struct sock_filter *code, unsigned short length)
{
    struct sock_fprog program = { length, code };
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

/*
 * walk: read lines `number a b c d e` (hexadecimal) and print the errno of each call, without
 * performing any. A filter of our own sends marked calls to a listener, which fails them with PASSED;
 * a refusal by a filter below takes precedence and never gets here.
 */
COMMAND(cmd_walk)
{
    (void)argc, (void)argv;
    enum { MOST = 65536 };
    unsigned long (*calls)[6] = mmap(NULL, MOST * sizeof *calls, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int *errnos = mmap(NULL, MOST * sizeof *errnos, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    size_t count = 0;
    while (count < MOST && scanf("%lx %lx %lx %lx %lx %lx", &calls[count][0], &calls[count][1], &calls[count][2],
                                 &calls[count][3], &calls[count][4], &calls[count][5]) == 6)
        count++;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MARK, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    int listener = filter(SECCOMP_FILTER_FLAG_NEW_LISTENER, code, COUNT(code)), ends[2];
    if (listener < 0 || pipe(ends) < 0) {
        say("listener", -1);
        return 1;
    }
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        for (size_t i = 0; i < count; i++) {
            unsigned long *c = calls[i];
            errno = 0;
            long rc = syscall((long)(int)c[0], c[1], c[2], c[3], c[4], c[5], (unsigned long)MARK);
            errnos[i] = rc == -1 ? errno : 0;
        }
        /* The register of the sixth argument still holds the mark, and _exit would be judged too. */
        syscall(SYS_getpid, 0, 0, 0, 0, 0, 0);
        _exit(0);
    }
    close(ends[1]);
    struct pollfd wait[2] = { { listener, POLLIN, 0 }, { ends[0], POLLIN, 0 } };
    while (poll(wait, 2, -1) > 0 && !(wait[1].revents & POLLHUP)) {
        if (!(wait[0].revents & POLLIN))
            continue;
        struct seccomp_notif asked;
        memset(&asked, 0, sizeof asked);
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked) < 0)
            continue;
        struct seccomp_notif_resp answer = { asked.id, 0, -PASSED, 0 };
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
    int end = end_of(child);
    for (size_t i = 0; i < count; i++)
        printf("%d\n", errnos[i]);
    return end;
}

struct attributes { uint64_t set, clear, propagation, userns; };

/* Every way to change what is mounted. */
COMMAND(cmd_mounts)
{
    (void)argc, (void)argv;
    if (!contained())
        return 65;
    const char *at = "/tmp/probe-mount", *beside = "/tmp/probe-moved";
    mkdir(at, 0700);
    mkdir(beside, 0700);
    static const char *KINDS[] = { "tmpfs", "proc", "sysfs", "cgroup", "cgroup2", "debugfs", "overlay", "mqueue" };
    for (size_t i = 0; i < COUNT(KINDS); i++) {
        char name[64];
        snprintf(name, sizeof name, "mount %s", KINDS[i]);
        TRY(name, mount("probe", at, KINDS[i], 0, strcmp(KINDS[i], "cgroup") ? NULL : "none,name=probe"));
    }
    TRY("mount bind", mount("/usr", at, NULL, MS_BIND | MS_REC, NULL));
    TRY("mount move", mount(at, beside, NULL, MS_MOVE, NULL));
    TRY("mount shared", mount(NULL, "/usr", NULL, MS_SHARED, NULL));
    TRY("remount /usr", mount(NULL, "/usr", NULL, MS_REMOUNT | MS_BIND, NULL));
    TRY("remount /", mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL));
    TRY("umount /proc/kallsyms", umount2("/proc/kallsyms", MNT_DETACH));
    int tree = (int)syscall(NR_open_tree, AT_FDCWD, "/usr", 1 | O_CLOEXEC);
    say("open_tree", tree);
    TRY("open_tree_attr", syscall(NR_open_tree_attr, AT_FDCWD, "/usr", 1 | O_CLOEXEC, NULL, 0));
    int context = (int)syscall(NR_fsopen, "tmpfs", 1);
    say("fsopen", context);
    TRY("fsconfig", syscall(NR_fsconfig, context, 6, NULL, NULL, 0));
    int made = (int)syscall(NR_fsmount, context, 1, 0);
    say("fsmount", made);
    TRY("move_mount", syscall(NR_move_mount, made, "", AT_FDCWD, at, 4));
    TRY("fspick", syscall(NR_fspick, AT_FDCWD, "/tmp", 1));
    struct attributes writable = { 0, 1, 0, 0 };
    TRY("mount_setattr", syscall(NR_mount_setattr, AT_FDCWD, "/usr", 0, &writable, sizeof writable));
    TRY("write /usr", open("/usr/probe", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    TRY("pivot_root", syscall(SYS_pivot_root, at, at));
    TRY("umount /usr", umount2("/usr", MNT_DETACH));
    umount2(at, MNT_DETACH);
    rmdir(at);
    rmdir(beside);
    return 0;
}

/* A child of `flags` made by the raw call: 0, or -1 and errno. */
static long by_clone(unsigned long flags)
{
    long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(0);
    if (pid > 0)
        end_of((pid_t)pid);
    return pid;
}

static long by_clone3(uint64_t flags)
{
    uint64_t arguments[11] = { flags, 0, 0, 0, SIGCHLD };
    long pid = syscall(NR_clone3, arguments, sizeof arguments);
    if (pid == 0)
        _exit(0);
    if (pid > 0)
        end_of((pid_t)pid);
    return pid;
}

/* Every namespace by every route; each unshare in a child, so that one does not help the next. */
COMMAND(cmd_namespaces)
{
    (void)argc, (void)argv;
    static const struct { const char *name; unsigned long flag; } SPACES[] = {
        { "user", CLONE_NEWUSER }, { "mnt", CLONE_NEWNS }, { "pid", CLONE_NEWPID }, { "net", CLONE_NEWNET },
        { "ipc", CLONE_NEWIPC }, { "uts", CLONE_NEWUTS }, { "cgroup", CLONE_NEWCGROUP }, { "time", 0x80 },
    };
    for (size_t i = 0; i < COUNT(SPACES); i++) {
        unsigned long flag = SPACES[i].flag, with_user = flag | CLONE_NEWUSER;
        char name[64], path[64];
#define ROUTE(what, call) (snprintf(name, sizeof name, "%s %s", what, SPACES[i].name), TRY(name, call))
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            ROUTE("unshare", syscall(SYS_unshare, flag));
            ROUTE("unshare with user", syscall(SYS_unshare, with_user));
            _exit(0);
        }
        end_of(child);
        ROUTE("clone", by_clone(with_user));
        ROUTE("clone high", by_clone(flag << 32));
        ROUTE("clone3", by_clone3(with_user));
        snprintf(path, sizeof path, "/proc/self/ns/%s", SPACES[i].name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ROUTE("setns", syscall(SYS_setns, fd, 0));
        close(fd);
#undef ROUTE
    }
    return 0;
}

/* Calls that reach deep into the kernel or concern the machine, in a form that harms nobody. */
COMMAND(cmd_dangerous)
{
    (void)argc, (void)argv;
    static char zero[512], page[4096];
    uint32_t perf[32] = { 1, sizeof perf }, map[18] = { 2, 4, 4, 1 };
    struct { void *base; size_t length; } part = { page, sizeof page };
    int own = (int)syscall(NR_pidfd_open, getpid(), 0);
    pid_t me = getpid();
    TRY("io_uring_setup", syscall(NR_io_uring_setup, 1, memset(zero, 0, sizeof zero)));
    TRY("io_uring_enter", syscall(NR_io_uring_enter, -1, 0, 0, 0, NULL, 0));
    TRY("io_uring_register", syscall(NR_io_uring_register, -1, 0, NULL, 0));
    TRY("userfaultfd", syscall(SYS_userfaultfd, O_CLOEXEC | 1));
    TRY("perf_event_open", syscall(SYS_perf_event_open, perf, 0, -1, -1, 0));
    TRY("bpf", syscall(SYS_bpf, 0, map, sizeof map));
    TRY("add_key", syscall(SYS_add_key, "user", "probe", "x", 1, -1));
    TRY("request_key", syscall(SYS_request_key, "user", "probe-none", NULL, 0));
    TRY("keyctl", syscall(SYS_keyctl, 0, -3, 0, 0, 0));
    TRY("kcmp", syscall(SYS_kcmp, me, me, 0, 1, 1));
    TRY("pidfd_getfd", syscall(NR_pidfd_getfd, own, 1, 0));
    TRY("memfd_secret", syscall(NR_memfd_secret, 0));
    TRY("process_madvise", syscall(NR_process_madvise, own, &part, 1, 20, 0));
    TRY("fanotify_init", syscall(SYS_fanotify_init, 0x200, O_RDONLY));
    TRY("fanotify_mark", syscall(SYS_fanotify_mark, -1, 1, 0, AT_FDCWD, "/"));
    TRY("syslog", syscall(SYS_syslog, 10, NULL, 0));
    TRY("quotactl", syscall(SYS_quotactl, 0x800004, "/probe-none", 0, NULL));
    TRY("quotactl_fd", syscall(NR_quotactl_fd, -1, 0, 0, NULL));
    TRY("swapon", syscall(SYS_swapon, "/probe-none", 0));
    TRY("swapoff", syscall(SYS_swapoff, "/probe-none"));
    TRY("acct", syscall(SYS_acct, "/probe-none"));
    TRY("reboot", syscall(SYS_reboot, 0, 0, 0, NULL));
    TRY("kexec_load", syscall(SYS_kexec_load, 0, 0, NULL, 0xffff0000ul));
    TRY("init_module", syscall(SYS_init_module, NULL, 0, ""));
    TRY("finit_module", syscall(SYS_finit_module, -1, "", 0));
    TRY("delete_module", syscall(SYS_delete_module, "probe_none", 0));
    TRY("settimeofday", syscall(SYS_settimeofday, NULL, NULL));
    TRY("clock_settime", syscall(SYS_clock_settime, 99, NULL));
    TRY("adjtimex", syscall(SYS_adjtimex, memset(zero, 0, sizeof zero)));
    TRY("clock_adjtime", syscall(SYS_clock_adjtime, 0, memset(zero, 0, sizeof zero)));
    TRY("statmount", syscall(NR_statmount, NULL, NULL, 0, 0));
    TRY("listmount", syscall(NR_listmount, NULL, NULL, 0, 0));
    TRY("move_pages", syscall(SYS_move_pages, 0, 0, NULL, NULL, NULL, 0));
    TRY("migrate_pages", syscall(SYS_migrate_pages, 0, 0, NULL, NULL));
    TRY("process_mrelease", syscall(448, -1, 0));
    TRY("setns", syscall(SYS_setns, -1, 0));
    TRY("sethostname", syscall(SYS_sethostname, NULL, -1));
#ifdef __x86_64__
    TRY("iopl", syscall(SYS_iopl, 0));
    TRY("ioperm", syscall(SYS_ioperm, 0, 1, 0));
    TRY("modify_ldt", syscall(SYS_modify_ldt, 0, page, sizeof page));
    TRY("sysfs", syscall(SYS_sysfs, 3));
    TRY("ustat", syscall(SYS_ustat, 0, NULL));
#endif
    return 0;
}

/* Every family with every type; every netlink protocol; protocols of INET that are loaded on demand. */
COMMAND(cmd_sockets)
{
    (void)argc, (void)argv;
    static const int TYPES[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, 10 };
    static const int PROTOCOLS[] = { 33, 115, 132, 256 };
    char name[64];
    for (int family = 0; family <= 50; family++)
        for (size_t t = 0; t < COUNT(TYPES); t++) {
            snprintf(name, sizeof name, "socket %d %d", family, TYPES[t]);
            int fd = socket(family, TYPES[t], 0);
            say(name, fd);
            close(fd);
        }
    for (int protocol = 0; protocol < 32; protocol++) {
        snprintf(name, sizeof name, "netlink %d", protocol);
        int fd = socket(AF_NETLINK, SOCK_RAW, protocol);
        say(name, fd);
        close(fd);
    }
    for (size_t i = 0; i < COUNT(PROTOCOLS); i++) {
        snprintf(name, sizeof name, "inet %d", PROTOCOLS[i]);
        int fd = socket(AF_INET, SOCK_STREAM, PROTOCOLS[i]);
        say(name, fd);
        close(fd);
    }
    int fd = socket(AF_INET, SOCK_RAW, 1);
    say("raw icmp", fd);
    close(fd);
    int pair[2];
    TRY("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    return 0;
}

COMMAND(cmd_prctl)
{
    (void)argc, (void)argv;
    unsigned long persona = (unsigned long)syscall(SYS_personality, 0xffffffff);
    tell("personality", "%#lx", persona);
    TRY("personality READ_IMPLIES_EXEC", syscall(SYS_personality, persona | 0x0400000));
    TRY("personality ADDR_NO_RANDOMIZE", syscall(SYS_personality, persona | 0x0040000));
    syscall(SYS_personality, persona);
    TRY("PR_SET_DUMPABLE", prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
    TRY("PR_SET_NAME", prctl(PR_SET_NAME, "probe", 0, 0, 0));
    TRY("PR_SET_NO_NEW_PRIVS 0", prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
    TRY("PR_SET_SECUREBITS", prctl(PR_SET_SECUREBITS, prctl(PR_GET_SECUREBITS, 0, 0, 0, 0), 0, 0, 0));
    TRY("PR_CAPBSET_DROP", prctl(PR_CAPBSET_DROP, 0, 0, 0, 0));
    /* Out of range: EINVAL from the kernel when it gets there, whoever asks. */
    TRY("PR_SET_MM", prctl(PR_SET_MM, 99, 0, 0, 0));
    return 0;
}

#ifdef __x86_64__
static int int80(int number, int a, void *b)
{
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(0)
                     : "r8", "r9", "r10", "r11", "memory");
    return result;
}

static void compat(const char *name, int result)
{
    errno = -result;
    say(name, result < 0 && result > -4096 ? -1 : 0);
}
#endif

/* 32-bit calls: other numbers, which a filter that forgets the architecture takes for its own. */
COMMAND(cmd_int80)
{
    (void)argc, (void)argv;
#ifdef __x86_64__
    pid_t child = fork();
    if (child == 0) {
        /* Below 4 GiB, where a 32-bit call can see it. */
        int *arguments = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
        compat("getpid", int80(20, 0, NULL));
        arguments[0] = AF_UNIX, arguments[1] = SOCK_STREAM, arguments[2] = 0;
        compat("socketcall unix", int80(102, 1, arguments));
        arguments[0] = 40;
        compat("socketcall vsock", int80(102, 1, arguments));
        arguments[0] = 38, arguments[1] = SOCK_SEQPACKET;
        compat("socketcall alg", int80(102, 1, arguments));
        compat("unshare user", int80(310, CLONE_NEWUSER, NULL));
        compat("io_uring_setup", int80(425, 1, memset(arguments, 0, 512)));
        _exit(0);
    }
    int end = end_of(child);
    if (end != 0)
        tell("getpid", "died %d", end);
#else
    tell("getpid", "died 0");
#endif
    return 0;
}

#ifdef __x86_64__
/* A tracer that makes io_uring_setup out of an allowed call when the kernel has stopped on it. */
static void swapped_by_tracer(void)
{
    static char parameters[256];
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        errno = 0;
        long rc = syscall(SYS_getpgid, 1, parameters, 0, 0, 0, 0x5357);
        say("swapped by a tracer", rc);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    while (ptrace(PTRACE_SYSCALL, child, 0, 0) == 0 && waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
        struct user_regs_struct r;
        if (WSTOPSIG(status) != (SIGTRAP | 0x80) || ptrace(PTRACE_GETREGS, child, 0, &r) < 0)
            continue;
        if (r.orig_rax == SYS_getpgid && r.r9 == 0x5357) {
            r.orig_rax = NR_io_uring_setup;
            r.r9 = 0;
            ptrace(PTRACE_SETREGS, child, 0, &r);
        }
    }
}
#endif

/* Ways to open again what a filter refused: one more filter, a listener, a tracer. */
COMMAND(cmd_second_filter)
{
    (void)argc, (void)argv;
    static char parameters[256];
    struct sock_filter open_all[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
    struct sock_filter ask[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
#ifdef __x86_64__
    swapped_by_tracer();
#endif
    TRY("install", filter(0, open_all, COUNT(open_all)));
    TRY("after a second filter", syscall(NR_io_uring_setup, 1, parameters));
    int listener = filter(SECCOMP_FILTER_FLAG_NEW_LISTENER, ask, COUNT(ask));
    say("listener", listener);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        TRY("through a listener", syscall(NR_io_uring_setup, 1, memset(parameters, 0, sizeof parameters)));
        _exit(0);
    }
    struct pollfd wait = { listener, POLLIN, 0 };
    if (listener >= 0 && poll(&wait, 1, 300) > 0 && (wait.revents & POLLIN)) {
        struct seccomp_notif asked;
        memset(&asked, 0, sizeof asked);
        ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked);
        struct seccomp_notif_resp answer = { asked.id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE };
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
    return end_of(child);
}

/* memfd COMMAND...: this program again, from memory. */
COMMAND(cmd_memfd)
{
    (void)argc;
    extern char **environ;
    static char bytes[65536];
    int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), to = (int)syscall(SYS_memfd_create, "probe", 1);
    ssize_t n;
    while ((n = read(from, bytes, sizeof bytes)) > 0)
        if (write(to, bytes, (size_t)n) != n)
            return 1;
    fexecve(to, argv - 1, environ);
    say("fexecve", -1);
    return 1;
}
