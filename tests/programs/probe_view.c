/* What a process in the jail is and sees: descriptors, ids, files, device nodes. */
#include "probe.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

extern char **environ;

/* Every open descriptor, asked one by one: listing /proc would open another. */
COMMAND(cmd_fds)
{
    (void)argc, (void)argv;
    for (int fd = 0; fd < 70000; fd++) {
        if (fcntl(fd, F_GETFD) < 0)
            continue;
        char link[64], target[4096], name[32];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, target, sizeof target - 1);
        target[n < 0 ? 0 : n] = 0;
        snprintf(name, sizeof name, "%d", fd);
        tell(name, "%s", target);
    }
    return 0;
}

/* open PATH...: can it be opened for reading, and does a read give something? */
COMMAND(cmd_open)
{
    for (int i = 0; i < argc; i++) {
        char byte[64];
        struct stat s;
        int fd = open(argv[i], O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0) {
            say(argv[i], -1);
            continue;
        }
        if (fstat(fd, &s) == 0 && S_ISDIR(s.st_mode)) {
            say(argv[i], 0);
        } else {
            errno = 0;
            ssize_t n = read(fd, byte, sizeof byte);
            if (n == 0)
                tell(argv[i], "empty");
            else
                say(argv[i], n);
        }
        close(fd);
    }
    return 0;
}

/* write TEXT PATH...: append TEXT to what exists. An empty TEXT only opens. */
COMMAND(cmd_write)
{
    for (int i = 1; i < argc; i++) {
        int fd = open(argv[i], O_WRONLY | O_CLOEXEC);
        if (fd < 0) {
            say(argv[i], -1);
            continue;
        }
        TRY(argv[i], *argv[0] ? write(fd, argv[0], strlen(argv[0])) : 0);
        close(fd);
    }
    return 0;
}

/* store PATH...: put a byte into what exists through a shared mapping, which no write(2) ever sees. */
COMMAND(cmd_store)
{
    for (int i = 0; i < argc; i++) {
        int fd = open(argv[i], O_RDWR | O_CLOEXEC);
        char *page = fd < 0 ? MAP_FAILED : mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        say(argv[i], page == MAP_FAILED ? -1 : 0);
        if (page != MAP_FAILED)
            page[0] = '!';
        close(fd);
    }
    return 0;
}

/* lock PATH...: can it be locked now? */
COMMAND(cmd_lock)
{
    for (int i = 0; i < argc; i++) {
        int fd = open(argv[i], O_RDONLY | O_CLOEXEC);
        say(argv[i], fd < 0 ? -1 : flock(fd, LOCK_EX | LOCK_NB));
        close(fd);
    }
    return 0;
}

COMMAND(cmd_environ)
{
    (void)argc, (void)argv;
    for (char **e = environ; *e; e++)
        puts(*e);
    return 0;
}

COMMAND(cmd_ids)
{
    (void)argc, (void)argv;
    uid_t r, e, s;
    gid_t gr, ge, gs, groups[128];
    getresuid(&r, &e, &s);
    getresgid(&gr, &ge, &gs);
    tell("uid", "%u %u %u", r, e, s);
    tell("gid", "%u %u %u", gr, ge, gs);
    tell("groups", "%d", getgroups(128, groups));
    return 0;
}

COMMAND(cmd_bits)
{
    (void)argc, (void)argv;
    static const struct { const char *name; int which; } LIMITS[] = {
        { "core", RLIMIT_CORE }, { "nofile", RLIMIT_NOFILE }, { "nproc", RLIMIT_NPROC }, { "as", RLIMIT_AS },
    };
    char host[256] = "";
    tell("securebits", "%#x", prctl(PR_GET_SECUREBITS, 0, 0, 0, 0));
    tell("no_new_privs", "%d", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    tell("seccomp", "%d", prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
    gethostname(host, sizeof host);
    tell("hostname", "%s", host);
    tell("leader", "%s", getsid(0) == getpid() ? "yes" : "no");
    tell("umask", "%03o", umask(0));
    for (size_t i = 0; i < sizeof LIMITS / sizeof *LIMITS; i++) {
        struct rlimit l;
        getrlimit(LIMITS[i].which, &l);
        tell(LIMITS[i].name, "%lld %lld", (long long)l.rlim_cur, (long long)l.rlim_max);
    }
    return 0;
}

/* nodes [PATH...]: change a device node by every call that could. The mark is a time nobody else sets. */
COMMAND(cmd_nodes)
{
    static char *ALL[] = { "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty" };
    if (!argc && !contained())
        return 65;
    char **paths = argc ? argv : ALL;
    int count = argc ? argc : (int)(sizeof ALL / sizeof *ALL);
    for (int i = 0; i < count; i++) {
        const char *path = paths[i];
        const struct timespec mark[2] = { { 1234567890, 0 }, { 1234567890, 0 } };
        char name[256];
#define CHANGE(what, call) (snprintf(name, sizeof name, "%s %s", what, path), TRY(name, call))
        CHANGE("chmod", chmod(path, 0600));
        CHANGE("chown", chown(path, getuid(), getgid()));
        CHANGE("utimes", utimensat(AT_FDCWD, path, mark, 0));
        CHANGE("setxattr", syscall(SYS_setxattr, path, "user.probe", "x", 1, 0));
        CHANGE("link", link(path, "/dev/shm/link"));
        int fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (fd >= 0) {
            CHANGE("fchmod", fchmod(fd, 0600));
            CHANGE("fchown", fchown(fd, getuid(), getgid()));
            CHANGE("futimes", futimens(fd, mark));
            close(fd);
        }
        int beside = open(path, O_PATH | O_CLOEXEC);
        if (beside >= 0) {
            char link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", beside);
            CHANGE("chmod by link", chmod(link, 0600));
            close(beside);
        }
        if (!argc)
            CHANGE("unlink", unlink(path));
#undef CHANGE
    }
    return 0;
}

/* mknod DIR...: device nodes of the machine's null and first disk, and overlay's whiteout. */
COMMAND(cmd_mknod)
{
    static const struct { const char *what; mode_t type; unsigned major, minor; } NODES[] = {
        { "char", S_IFCHR, 1, 3 }, { "block", S_IFBLK, 254, 0 }, { "kmsg", S_IFCHR, 1, 11 },
        { "whiteout", S_IFCHR, 0, 0 },
    };
    for (int i = 0; i < argc; i++)
        for (size_t n = 0; n < sizeof NODES / sizeof *NODES; n++) {
            char path[4096], name[4200];
            snprintf(path, sizeof path, "%s/probe-%s", argv[i], NODES[n].what);
            snprintf(name, sizeof name, "%s %s", NODES[n].what, argv[i]);
            TRY(name, mknod(path, NODES[n].type | 0666, makedev(NODES[n].major, NODES[n].minor)));
            unlink(path);
        }
    return 0;
}

/* handle PATH: a file by its handle, past every directory above it. */
COMMAND(cmd_handle)
{
    struct { struct file_handle head; unsigned char room[128]; } h;
    int mount_id;
    if (argc < 1)
        return 64;
    h.head.handle_bytes = sizeof h.room;
    TRY("name_to_handle_at", name_to_handle_at(AT_FDCWD, argv[0], &h.head, &mount_id, 0));
    int fd = open(argv[0], O_RDONLY | O_CLOEXEC);
    TRY("open_by_handle_at", open_by_handle_at(fd, &h.head, O_RDONLY));
    /* The root of an ext or xfs file system, guessed. */
    memset(&h, 0, sizeof h);
    h.head.handle_bytes = 8;
    h.head.handle_type = 1;
    h.room[0] = 2;
    TRY("guessed", open_by_handle_at(fd, &h.head, O_RDONLY | O_DIRECTORY));
    return 0;
}

/* Every way to become somebody, and to get a capability. */
COMMAND(cmd_become)
{
    (void)argc, (void)argv;
    struct { uint32_t version; int pid; } head = { 0x20080522, 0 };
    uint32_t all[6] = { ~0u, ~0u, ~0u, ~0u, ~0u, ~0u };
    TRY("setuid 0", setuid(0));
    TRY("setresuid 65534", syscall(SYS_setresuid, -1, 65534, -1));
    TRY("setgid 0", setgid(0));
    TRY("setgroups", setgroups(0, NULL));
    TRY("capset", syscall(SYS_capset, &head, all));
    TRY("ambient", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0));
    TRY("securebits", prctl(PR_SET_SECUREBITS, 0, 0, 0, 0));
    TRY("keepcaps", prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
    TRY("no_new_privs 0", prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
    TRY("sethostname", sethostname("probe", 5));
    TRY("nice", setpriority(PRIO_PROCESS, 0, -20));
    struct rlimit more = { RLIM_INFINITY, RLIM_INFINITY };
    TRY("rlimit core", setrlimit(RLIMIT_CORE, &more));
    TRY("rlimit nproc", setrlimit(RLIMIT_NPROC, &more));
    return 0;
}

/* The classic way out of a chroot: a second one while a descriptor stays outside of it. */
COMMAND(cmd_chroot)
{
    (void)argc, (void)argv;
    mkdir("/tmp/probe-root", 0700);
    int top = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    TRY("chroot", chroot("/tmp/probe-root"));
    fchdir(top);
    for (int i = 0; i < 64; i++)
        if (chdir("..") < 0)
            break;
    TRY("chroot .", chroot("."));
    struct stat here, root;
    stat(".", &here);
    stat("/", &root);
    rmdir("/tmp/probe-root");
    tell("same root", "%s", here.st_ino == root.st_ino && here.st_dev == root.st_dev ? "yes" : "no");
    return 0;
}
