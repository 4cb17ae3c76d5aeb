/*
 * The program that runs inside a jail and says what it can do there. Tests copy it into a workspace
 * and run it in a jail, outside of one, under a weaker tool, or with a layer of the jail left out,
 * and compare. Each line of output is `name: result`; a result is `ok`, the name of an errno, or text.
 *
 * What it tries must be harmless where it succeeds: it also runs outside, as root.
 */
#include "probe.h"
#include <stdarg.h>
#include <sys/wait.h>

static const struct { int number; const char *name; } ERRNOS[] = {
#define E(x) { x, #x }
    E(EPERM), E(ENOENT), E(ESRCH), E(EINTR), E(EIO), E(ENXIO), E(E2BIG), E(ENOEXEC), E(EBADF), E(ECHILD),
    E(EAGAIN), E(ENOMEM), E(EACCES), E(EFAULT), E(ENOTBLK), E(EBUSY), E(EEXIST), E(EXDEV), E(ENODEV),
    E(ENOTDIR), E(EISDIR), E(EINVAL), E(ENFILE), E(EMFILE), E(ENOTTY), E(ETXTBSY), E(EFBIG), E(ENOSPC),
    E(ESPIPE), E(EROFS), E(EMLINK), E(EPIPE), E(ERANGE), E(ENAMETOOLONG), E(ENOSYS), E(ELOOP), E(ENODATA),
    E(EOVERFLOW), E(ENOTSOCK), E(EDESTADDRREQ), E(EPROTOTYPE), E(EPROTONOSUPPORT), E(ESOCKTNOSUPPORT),
    E(EOPNOTSUPP), E(EPFNOSUPPORT), E(EAFNOSUPPORT), E(EADDRINUSE), E(EADDRNOTAVAIL), E(ENETUNREACH),
    E(ECONNREFUSED), E(ETIMEDOUT), E(EHOSTUNREACH), E(ENOKEY), E(EKEYREVOKED), E(ESTALE), E(EUSERS),
#undef E
};

void tell(const char *name, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    printf("%s: ", name);
    vprintf(format, list);
    printf("\n");
    va_end(list);
    fflush(stdout);
}

void say(const char *name, long rc)
{
    int number = errno;
    if (rc >= 0) {
        tell(name, "ok");
        return;
    }
    for (size_t i = 0; i < sizeof ERRNOS / sizeof *ERRNOS; i++)
        if (ERRNOS[i].number == number) {
            tell(name, "%s", ERRNOS[i].name);
            return;
        }
    tell(name, "E%d", number);
}

int contained(void)
{
    if (getenv("AGENTJAIL") || getenv("PROBE_CONTAINED"))
        return 1;
    fprintf(stderr, "probe: not outside of a jail\n");
    return 0;
}

int end_of(pid_t child)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) { }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static const struct { const char *name; int (*run)(int, char **); } COMMANDS[] = {
    { "fds", cmd_fds }, { "open", cmd_open }, { "write", cmd_write }, { "ids", cmd_ids }, { "bits", cmd_bits },
    { "nodes", cmd_nodes }, { "mknod", cmd_mknod }, { "handle", cmd_handle }, { "become", cmd_become },
    { "chroot", cmd_chroot }, { "environ", cmd_environ }, { "store", cmd_store }, { "lock", cmd_lock },
    { "walk", cmd_walk }, { "mounts", cmd_mounts }, { "namespaces", cmd_namespaces },
    { "dangerous", cmd_dangerous }, { "sockets", cmd_sockets }, { "prctl", cmd_prctl }, { "int80", cmd_int80 },
    { "second-filter", cmd_second_filter }, { "memfd", cmd_memfd },
    { "connect", cmd_connect }, { "tty", cmd_tty }, { "trace", cmd_trace }, { "kill", cmd_kill },
    { "shm", cmd_shm }, { "key", cmd_key }, { "with-key", cmd_with_key }, { "with-fds", cmd_with_fds },
    { "use-fd", cmd_use_fd }, { "as-uid", cmd_as_uid }, { "suid", cmd_suid }, { "interfaces", cmd_interfaces },
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof COMMANDS / sizeof *COMMANDS; i++)
        if (strcmp(argv[1], COMMANDS[i].name) == 0)
            return COMMANDS[i].run(argc - 2, argv + 2);
    fprintf(stderr, "probe: no such command\n");
    return 64;
}
