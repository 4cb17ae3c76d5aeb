/* Other processes, the terminal, sockets, keys: what a jail could reach of the host. */
#include "probe.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>

static long connected(int family, int type, const void *address, socklen_t length)
{
    int fd = socket(family, type | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    long rc = connect(fd, address, length);
    if (rc == 0 && type == SOCK_DGRAM)
        rc = send(fd, "x", 1, 0);
    int number = errno;
    close(fd);
    errno = number;
    return rc;
}

/* connect unix PATH | abstract NAME | tcp ADDRESS:PORT | udp ADDRESS:PORT ... */
COMMAND(cmd_connect)
{
    for (int i = 0; i + 1 < argc; i += 2) {
        const char *how = argv[i], *where = argv[i + 1];
        errno = 0;
        if (strcmp(how, "unix") == 0 || strcmp(how, "abstract") == 0) {
            struct sockaddr_un a = { .sun_family = AF_UNIX };
            int hidden = how[0] == 'a';
            strncpy(a.sun_path + hidden, where, sizeof a.sun_path - 2);
            say(where, connected(AF_UNIX, SOCK_STREAM, &a,
                                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + hidden + strlen(where))));
        } else {
            char address[128], *port;
            struct sockaddr_in v4 = { .sin_family = AF_INET };
            struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
            int type = how[0] == 'u' ? SOCK_DGRAM : SOCK_STREAM;
            snprintf(address, sizeof address, "%s", where);
            if (!(port = strrchr(address, ':')))
                return 64;
            *port++ = 0;
            v4.sin_port = v6.sin6_port = htons((uint16_t)atoi(port));
            if (inet_pton(AF_INET, address, &v4.sin_addr) == 1)
                say(where, connected(AF_INET, type, &v4, sizeof v4));
            else if (inet_pton(AF_INET6, address, &v6.sin6_addr) == 1)
                say(where, connected(AF_INET6, type, &v6, sizeof v6));
        }
    }
    return 0;
}

/* The interfaces and addresses that the kernel lists by netlink. */
COMMAND(cmd_interfaces)
{
    (void)argc, (void)argv;
    struct ifaddrs *list = NULL;
    TRY("getifaddrs", getifaddrs(&list));
    for (struct ifaddrs *a = list; a; a = a->ifa_next)
        if (a->ifa_addr && a->ifa_addr->sa_family != AF_PACKET)
            tell(a->ifa_name, "%s", a->ifa_flags & IFF_UP ? "up" : "down");
    struct if_nameindex *names = if_nameindex();
    for (struct if_nameindex *n = names; n && n->if_index; n++)
        tell(n->if_name, "%s", "seen");
    return 0;
}

static long control(int fd, unsigned long request, void *argument)
{
    return syscall(SYS_ioctl, fd, request, argument);
}

/* Typing into a terminal of our own, which is our controlling terminal; and the caller's. */
COMMAND(cmd_tty)
{
    (void)argc, (void)argv;
    char name[64], letter = 'x', paste = 2;
    int number = -1, unlocked = 0;
    TRY("/dev/tty", open("/dev/tty", O_RDWR | O_CLOEXEC));
    tell("stdin", "%s", isatty(0) ? "terminal" : "none");
    TRY("stdin TIOCSTI", control(0, TIOCSTI, &letter));
    TRY("stdout TIOCSTI", control(1, TIOCSTI, &letter));
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    say("ptmx", master);
    ioctl(master, TIOCSPTLCK, &unlocked);
    ioctl(master, TIOCGPTN, &number);
    snprintf(name, sizeof name, "/dev/pts/%d", number);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        setsid();
        int tty = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC), line = 0;
        TRY("TIOCSCTTY", ioctl(tty, TIOCSCTTY, 0));
        TRY("TIOCSTI", control(tty, TIOCSTI, &letter));
        TRY("TIOCSTI high", control(tty, TIOCSTI | 1ul << 32, &letter));
        TRY("TIOCSTI highest", control(tty, TIOCSTI | 1ul << 63, &letter));
        TRY("TIOCSTI master", control(master, TIOCSTI, &letter));
        TRY("TIOCLINUX", control(tty, 0x541c, &paste));
        TRY("TIOCLINUX high", control(tty, 0x541c | 1ul << 32, &paste));
        TRY("TIOCSETD", control(tty, TIOCSETD, &line));
        struct winsize size = { 10, 20, 0, 0 };
        TRY("TIOCSWINSZ", control(tty, TIOCSWINSZ, &size));
        _exit(0);
    }
    return end_of(child);
}

/* trace PID...: memory and descriptors of other processes; and of a child, which is allowed. */
COMMAND(cmd_trace)
{
    char name[160], bytes[16] = "";
    int status;
    pid_t child = fork();
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, 0, 0))
            _exit(errno);
        raise(SIGSTOP);
        _exit(0);
    }
    waitpid(child, &status, 0);
    errno = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    say("child", WIFSTOPPED(status) ? 0 : -1);
    struct iovec here = { bytes, 1 }, there = { (void *)&cmd_trace, 1 };
    TRY("child memory", process_vm_readv(child, &here, 1, &there, 1, 0));
    ptrace(PTRACE_CONT, child, 0, 0);
    end_of(child);
    for (int i = 0; i < argc; i++) {
        pid_t pid = (pid_t)atoi(argv[i]);
        static const char *LINKS[] = { "exe", "root", "cwd", "environ", "mem", "maps", "auxv", "stack", "io",
                                       "fd/0", "fd/3", "task/%d/root", "task/%d/mem", "ns/user", "ns/mnt" };
        for (size_t l = 0; l < sizeof LINKS / sizeof *LINKS; l++) {
            char part[64], path[128];
            snprintf(part, sizeof part, LINKS[l], pid);
            snprintf(path, sizeof path, "/proc/%d/%s", pid, part);
            snprintf(name, sizeof name, "%s %s", argv[i], part);
            TRY(name, open(path, O_RDONLY | O_CLOEXEC));
        }
#define AGAINST(what, call) (snprintf(name, sizeof name, "%s %s", argv[i], what), TRY(name, call))
        char target[64], path[128];
        snprintf(path, sizeof path, "/proc/%d/exe", pid);
        AGAINST("readlink exe", readlink(path, target, sizeof target));
        AGAINST("beside exe", open(path, O_PATH | O_CLOEXEC));
        AGAINST("write exe", open(path, O_WRONLY | O_CLOEXEC));
        snprintf(path, sizeof path, "/proc/%d/mem", pid);
        AGAINST("write mem", open(path, O_RDWR | O_CLOEXEC));
        AGAINST("read memory", process_vm_readv(pid, &here, 1, &there, 1, 0));
        AGAINST("write memory", process_vm_writev(pid, &here, 1, &there, 1, 0));
        int fd = (int)syscall(NR_pidfd_open, pid, 0);
        AGAINST("pidfd_getfd", syscall(NR_pidfd_getfd, fd, 0, 0));
        AGAINST("kcmp", syscall(SYS_kcmp, getpid(), pid, 0, 0, 0));
        AGAINST("seize", ptrace(PTRACE_SEIZE, pid, 0, 0));
        AGAINST("attach", ptrace(PTRACE_ATTACH, pid, 0, 0));
        AGAINST("prlimit", syscall(SYS_prlimit64, pid, 7, NULL, bytes));
#undef AGAINST
    }
    return 0;
}

/* kill SIGNAL PID...: by every call. `kill SIGNAL -1` is for jails only. */
COMMAND(cmd_kill)
{
    if (argc < 2)
        return 64;
    int signal = atoi(argv[0]);
    for (int i = 1; i < argc; i++) {
        pid_t pid = (pid_t)atoi(argv[i]);
        char name[64];
        siginfo_t info;
        memset(&info, 0, sizeof info);
        info.si_code = SI_QUEUE;
        if (pid <= 0 && !contained())
            return 65;
#define SEND(what, call) (snprintf(name, sizeof name, "%s %s", what, argv[i]), TRY(name, call))
        SEND("kill", kill(pid, signal));
        if (pid <= 0)
            continue;
        SEND("tkill", syscall(SYS_tkill, pid, signal));
        SEND("tgkill", syscall(SYS_tgkill, pid, pid, signal));
        SEND("sigqueue", syscall(SYS_rt_sigqueueinfo, pid, signal, &info));
        SEND("tgsigqueue", syscall(SYS_rt_tgsigqueueinfo, pid, pid, signal, &info));
        SEND("pidfd_open", syscall(NR_pidfd_open, pid, 0));
#undef SEND
    }
    return 0;
}

/* shm make KEY | get KEY | rm KEY: a System V segment. */
COMMAND(cmd_shm)
{
    if (argc < 2)
        return 64;
    key_t key = (key_t)strtol(argv[1], NULL, 0);
    errno = 0;
    int id = shmget(key, 4096, strcmp(argv[0], "make") == 0 ? IPC_CREAT | 0666 : 0);
    if (id >= 0 && strcmp(argv[0], "rm") == 0)
        shmctl(id, IPC_RMID, NULL);
    say(argv[0], id);
    return 0;
}

/* with-key NAME COMMAND...: run it with a key in the session keyring; `KEYID` becomes its number. */
COMMAND(cmd_with_key)
{
    static char number[32];
    if (argc < 2)
        return 64;
    syscall(SYS_keyctl, 1 /* JOIN_SESSION_KEYRING */, NULL);
    long key = syscall(SYS_add_key, "user", argv[0], "secret", 6, -3);
    if (key < 0) {
        say("add_key", -1);
        return 69;
    }
    /* Everything for the possessor and for every process of this user. */
    syscall(SYS_keyctl, 5 /* SETPERM */, key, 0x3f3f0000);
    snprintf(number, sizeof number, "%ld", key);
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "KEYID") == 0)
            argv[i] = number;
    execvp(argv[1], argv + 1);
    return 127;
}

/* key NAME NUMBER: find it, read it by number, see it listed. */
COMMAND(cmd_key)
{
    char text[64];
    if (argc < 2)
        return 64;
    TRY("search", syscall(SYS_keyctl, 10 /* SEARCH */, -3, "user", argv[0], 0));
    TRY("request", syscall(SYS_request_key, "user", argv[0], NULL, 0));
    TRY("read", syscall(SYS_keyctl, 11 /* READ */, atol(argv[1]), text, sizeof text));
    TRY("link", syscall(SYS_keyctl, 8 /* LINK */, atol(argv[1]), -1));
    char line[512];
    int listed = 0;
    FILE *keys = fopen("/proc/keys", "re");
    while (keys && fgets(line, sizeof line, keys))
        listed |= strstr(line, argv[0]) != NULL;
    tell("listed", "%s", listed ? "yes" : "no");
    return 0;
}

/* with-fds COMMAND...: run it with the root directory, a file and a listening socket as 42, 43, 44. */
COMMAND(cmd_with_fds)
{
    (void)argc;
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    bind(listener, (struct sockaddr *)&a, sizeof(sa_family_t));
    listen(listener, 1);
    dup2(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), 42);
    dup2(open("/etc/passwd", O_RDONLY | O_CLOEXEC), 43);
    dup2(listener, 44);
    execvp(argv[0], argv);
    return 127;
}

/* use-fd: the three descriptors of with-fds. */
COMMAND(cmd_use_fd)
{
    (void)argc, (void)argv;
    char byte;
    struct sockaddr_un a;
    socklen_t length = sizeof a;
    TRY("openat", openat(42, "etc/passwd", O_RDONLY | O_CLOEXEC));
    TRY("read", read(43, &byte, 1));
    TRY("getsockname", getsockname(44, (struct sockaddr *)&a, &length));
    TRY("fchdir", fchdir(42));
    TRY("chdir", chdir("/proc/self/fd/42"));
    return 0;
}

/* as-uid UID COMMAND...: give up root for an ordinary id. */
COMMAND(cmd_as_uid)
{
    if (argc < 2)
        return 64;
    uid_t id = (uid_t)atoi(argv[0]);
    if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, id, id, id) < 0
        || syscall(SYS_setresuid, id, id, id) < 0)
        return 1;
    execvp(argv[1], argv + 1);
    return 127;
}

/* suid COMMAND...: start it, with a stdin that stays open, and look at its ids from beside it. */
COMMAND(cmd_suid)
{
    (void)argc;
    int ends[2];
    char path[64], line[256];
    if (pipe(ends) < 0)
        return 1;
    pid_t child = fork();
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(ends[0], 0), dup2(null, 1), dup2(null, 2);
        execvp(argv[0], argv);
        _exit(127);
    }
    usleep(200000);
    snprintf(path, sizeof path, "/proc/%d/status", child);
    FILE *status = fopen(path, "re");
    while (status && fgets(line, sizeof line, status))
        if (strncmp(line, "Uid:", 4) == 0 || strncmp(line, "CapPrm:", 7) == 0 || strncmp(line, "State:", 6) == 0)
            fputs(line, stdout);
    kill(child, SIGKILL);
    end_of(child);
    return 0;
}
