/* What the parts of the probe share. */
#ifndef PROBE_H
#define PROBE_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Numbers that the headers of an older system lack are the same on every architecture. */
enum {
    NR_open_tree = 428, NR_move_mount, NR_fsopen, NR_fsconfig, NR_fsmount, NR_fspick,
    NR_io_uring_setup = 425, NR_io_uring_enter, NR_io_uring_register,
    NR_pidfd_open = 434, NR_clone3, NR_close_range, NR_openat2, NR_pidfd_getfd,
    NR_process_madvise = 440, NR_mount_setattr = 442, NR_quotactl_fd, NR_memfd_secret = 447,
    NR_statmount = 457, NR_listmount, NR_open_tree_attr = 467
};

/* Prints `name: ok` when rc is not negative, `name: EPERM` (errno by name) otherwise. */
void say(const char *name, long rc);
/* Prints `name: ` and the text. */
void tell(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define TRY(name, call) (errno = 0, say(name, (long)(call)))

/* Whether this process is in a jail or under another tool: some commands would harm the machine. */
int contained(void);
/* The end of `child`: its exit code, or 128 and its signal. */
int end_of(pid_t child);

#define COMMAND(name) int name(int argc, char **argv)
/* Who and where: probe_view.c */
COMMAND(cmd_fds); COMMAND(cmd_open); COMMAND(cmd_write); COMMAND(cmd_ids); COMMAND(cmd_bits);
COMMAND(cmd_nodes); COMMAND(cmd_mknod); COMMAND(cmd_handle); COMMAND(cmd_become); COMMAND(cmd_chroot);
COMMAND(cmd_environ); COMMAND(cmd_store); COMMAND(cmd_lock);
/* System calls: probe_calls.c */
COMMAND(cmd_walk); COMMAND(cmd_mounts); COMMAND(cmd_namespaces); COMMAND(cmd_dangerous); COMMAND(cmd_sockets);
COMMAND(cmd_prctl); COMMAND(cmd_int80); COMMAND(cmd_second_filter); COMMAND(cmd_memfd);
/* Other processes and the host: probe_peers.c */
COMMAND(cmd_connect); COMMAND(cmd_tty); COMMAND(cmd_trace); COMMAND(cmd_kill); COMMAND(cmd_shm);
COMMAND(cmd_key); COMMAND(cmd_with_key); COMMAND(cmd_with_fds); COMMAND(cmd_use_fd); COMMAND(cmd_as_uid);
COMMAND(cmd_suid); COMMAND(cmd_interfaces);
#endif
