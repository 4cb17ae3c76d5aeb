/* A program of the tests of lifetime and streams: `life VERB …`. Static, so that it runs in any jail
 * and outside. Every verb says on stdout what it saw, one fact a line. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void say(const char *what, long value) { dprintf(1, "%s %ld\n", what, value); }
static void die(const char *what) { dprintf(2, "life: %s: %s\n", what, strerror(errno)); _exit(99); }
static void nap(double s) { struct timespec t = { (time_t)s, (long)((s - (time_t)s) * 1e9) }; while (nanosleep(&t, &t) && errno == EINTR) {} }

/* The stream: 64-bit words of a counter times an odd constant. */
static uint64_t word(uint64_t i) { uint64_t x = (i + 1) * 0x9e3779b97f4a7c15ull; return x ^ x >> 29; }

/* write TOTAL BLOCK [FD]: the stream in writes of BLOCK bytes. */
static int writes(uint64_t total, size_t block, int fd) {
    char *b = malloc(block + 16);
    uint64_t at = 0;
    while (at < total) {
        size_t n = total - at < block ? total - at : block;
        uint64_t first = at / 8;
        size_t skip = at % 8;
        for (size_t i = 0; i <= (n + skip) / 8; i++) { uint64_t w = word(first + i); memcpy(b + i * 8, &w, 8); }
        for (size_t done = 0; done < n;) {
            ssize_t r = write(fd, b + skip + done, n - done);
            if (r < 0) { if (errno == EINTR) continue; return 40 + (errno == EPIPE); }
            done += r;
        }
        at += n;
    }
    return 0;
}

/* check [BLOCK]: reads the stream to its end; says its length and whether every byte was right. */
static int check(size_t block, useconds_t pause) {
    unsigned char *b = malloc(block);
    uint64_t at = 0, bad = 0;
    for (;;) {
        ssize_t n = read(0, b, block);
        if (n < 0) die("read");
        if (n == 0) break;
        ssize_t i = 0;
        for (; i < n; i++) {
            if ((at + i) % 8 == 0 && n - i >= 8) {
                uint64_t w = word((at + i) / 8), got;
                memcpy(&got, b + i, 8);
                if (w != got) bad++;
                i += 7;
            } else if ((word((at + i) / 8) >> ((at + i) % 8 * 8) & 255) != b[i]) bad++;
        }
        at += n;
        if (pause) usleep(pause);
    }
    say("bytes", at);
    say("bad", bad);
    return bad != 0;
}

static volatile sig_atomic_t seen[65];
static void note(int s) { seen[s]++; }

/* signals LIMIT: says each signal as it comes; ends with 3 after LIMIT of them. */
static int signals(int limit) {
    int all[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT, 0 };
    struct sigaction a = { .sa_handler = note };
    for (int *s = all; *s; s++) sigaction(*s, &a, 0);
    say("ready", getpid());
    for (int total = 0;;) {
        nap(0.01);
        for (int *s = all; *s; s++)
            while (seen[*s]) { seen[*s]--; say("signal", *s); if (++total == limit) { nap(0.3); int more = 0; for (int *t = all; *t; t++) more += seen[*t]; say("more", more); return 3; } }
    }
}

static int ignore(double s) {
    int all[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, 0 };
    for (int *i = all; *i; i++) signal(*i, SIG_IGN);
    say("ready", getpid());
    nap(s);
    return 0;
}

/* later PATH SECONDS: a daemon by the book that makes PATH after a while. */
static int later(const char *path, double s) {
    if (fork()) return 0;
    setsid();
    signal(SIGHUP, SIG_IGN);
    if (fork()) _exit(0);
    for (int i = 0; i < 256; i++) close(i);
    nap(s);
    close(open(path, O_CREAT | O_WRONLY, 0644));
    _exit(0);
}

static long zombies(void) {
    DIR *d = opendir("/proc");
    long n = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        char p[300], t[600];
        if (e->d_name[0] < '0' || e->d_name[0] > '9') continue;
        snprintf(p, sizeof p, "/proc/%s/stat", e->d_name);
        int fd = open(p, O_RDONLY);
        ssize_t r = fd < 0 ? 0 : read(fd, t, sizeof t - 1);
        if (fd >= 0) close(fd);
        if (r <= 0) continue;
        t[r] = 0;
        char *c = strrchr(t, ')');
        if (c && c[2] == 'Z') n++;
    }
    if (d) closedir(d);
    return n;
}

/* orphans N: N children whose parent does not wait for them. */
static int orphans(int n) {
    long most = 0;
    for (int i = 0; i < n; i++) {
        pid_t p;
        while ((p = fork()) < 0) usleep(1000);
        if (!p) {
            fork();
            _exit(0);
        }
        waitpid(p, 0, 0);
        if (i % 500 == 499) { nap(0.005); long z = zombies(); if (z > most) most = z; }
    }
    say("most_zombies", most);
    return 0;
}

/* bomb: forks until the kernel refuses. */
static int bomb(int most) {
    int n = 0;
    pid_t *children = malloc(most * sizeof *children);
    while (n < most) {
        pid_t p = fork();
        if (p < 0) { say("errno", errno); break; }
        if (!p) { pause(); _exit(0); }
        children[n++] = p;
    }
    say("children", n);
    while (n) kill(children[--n], SIGKILL);
    return 0;
}

/* bombs: every child does the same, for ever. */
static _Noreturn void bombs(void) {
    dprintf(1, "ready\n");
    for (;;) { if (fork() < 0) usleep(1000); }
}

static int memory(const char *how, long mib) {
    long step = 1 << 20;
    int fd = -1;
    if (!strcmp(how, "tmp")) fd = open("/tmp/fill", O_CREAT | O_RDWR, 0600);
    if (!strcmp(how, "shm")) fd = open("/dev/shm/fill", O_CREAT | O_RDWR, 0600);
    if (!strcmp(how, "memfd")) fd = memfd_create("fill", 0);
    char *b = malloc(step);
    memset(b, 1, step);
    dprintf(1, "ready\n");
    for (long i = 0; i < mib; i++) {
        if (fd >= 0) {
            if (write(fd, b, step) != step) { say("errno", errno); say("mib", i); return 7; }
        } else {
            int shared = !strcmp(how, "shared") ? MAP_SHARED : MAP_PRIVATE;
            char *m = mmap(0, step, PROT_READ | PROT_WRITE, shared | MAP_ANONYMOUS, -1, 0);
            if (m == MAP_FAILED) { say("errno", errno); return 7; }
            memset(m, 1, step);
        }
        if (i % 4 == 0) usleep(500);
    }
    nap(5);
    say("mib", mib);
    return 0;
}

static int exhaust(const char *what) {
    long n = 0;
    int r = 0;
    errno = 0;
    for (; n < 200000; n++) {
        if (!strcmp(what, "fds")) r = open("/dev/null", O_RDONLY);
        else if (!strcmp(what, "ptys")) r = posix_openpt(O_RDWR | O_NOCTTY);
        else if (!strcmp(what, "inotify")) r = inotify_init();
        else if (!strcmp(what, "shm")) r = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
        if (r < 0) break;
        if (!strcmp(what, "ptys") && n >= 5000) break;
        if (!strcmp(what, "shm") && n >= 100) { n++; break; }
    }
    say("count", n);
    say("errno", r < 0 ? errno : 0);
    return 0;
}

/* Holds all it can get until it is killed. */
static int hold_all(const char *what) {
    exhaust(what);
    say("holding", 1);
    nap(60);
    return 0;
}

/* filter CALL VERDICT COMMAND…: runs it where that system call has that verdict. */
static int filter(int call, uint32_t verdict, char **command) {
    struct sock_filter f[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, verdict),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog p = { sizeof f / sizeof *f, f };
    struct rlimit no = { 0, 0 };
    setrlimit(RLIMIT_CORE, &no);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p)) die("filter");
    execv(command[0], command);
    die(command[0]);
    return 99;
}

static void *ticker(void *file) {
    for (;; nap(0.02)) {
        int fd = open(file, O_WRONLY | O_CREAT | O_APPEND, 0644);
        if (write(fd, "\n", 1) == 1) close(fd);
    }
}

/* restless FILE IDLE: a line in FILE now and then, by a process that makes the next one and ends, among IDLE
 * others that wait. */
static int restless(const char *file, long idle) {
    while (idle--) if (!fork()) { nap(60); return 0; }
    if (fork()) { nap(60); return 0; }
    for (long n = 0;; n++) {
        if (n % 100 == 0) { int fd = open(file, O_WRONLY | O_CREAT | O_APPEND, 0644); if (write(fd, "\n", 1) == 1) close(fd); }
        if (fork() > 0) _exit(0);
    }
}

/* names N: as many names of few files, which take next to nothing, in directories that come before others. */
static int names(long n) {
    char dir[32] = "", first[64], path[64];
    for (long i = 0; i < n; i++) {
        if (i % 30000 == 0) {
            snprintf(dir, sizeof dir, "a%ld", i / 30000);
            snprintf(first, sizeof first, "%s/x", dir);
            if (mkdir(dir, 0755) || close(open(first, O_CREAT | O_WRONLY, 0644))) die(first);
        }
        snprintf(path, sizeof path, "%s/%ld", dir, i);
        if (link(first, path)) die(path);
    }
    return 0;
}

/* sockets N: bytes that N connections to ourselves take that nobody reads from. */
static int sockets(long n) {
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof a;
    long sum = 0;
    int l = socket(AF_INET, SOCK_STREAM, 0);
    char *b = calloc(1, 65536);
    if (bind(l, (void *)&a, len) || listen(l, 100) || getsockname(l, (void *)&a, &len)) die("listen");
    while (n--) {
        int c = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(c, (void *)&a, len)) die("connect");
        for (int still = 0; still < 5;) {
            ssize_t k = send(c, b, 65536, MSG_DONTWAIT);
            if (k > 0) { sum += k; still = 0; } else { still++; nap(0.002); }
        }
    }
    say("queued", sum);
    return 0;
}

/* project DIR: what may be done about the project of DIR and of a file in it. 0, or an errno. */
static int project(const char *dir) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY), flags = 0;
    struct fsxattr is, other;
    if (fd < 0 || ioctl(fd, FS_IOC_FSGETXATTR, &is)) die("FS_IOC_FSGETXATTR");
    say("project", is.fsx_projid);
    say("hands-on", !!(is.fsx_xflags & FS_XFLAG_PROJINHERIT));
    other = is; other.fsx_projid = 0;
    say("leave", ioctl(fd, FS_IOC_FSSETXATTR, &other) ? errno : 0);
    other = is; other.fsx_projid++;
    say("change", ioctl(fd, FS_IOC_FSSETXATTR, &other) ? errno : 0);
    other = is; other.fsx_xflags &= ~FS_XFLAG_PROJINHERIT;
    say("keep", ioctl(fd, FS_IOC_FSSETXATTR, &other) ? errno : 0);
    if (ioctl(fd, FS_IOC_GETFLAGS, &flags)) die("FS_IOC_GETFLAGS");
    flags &= ~0x20000000; /* FS_PROJINHERIT_FL */
    say("clear", ioctl(fd, FS_IOC_SETFLAGS, &flags) ? errno : 0);
    int file = openat(fd, "of-a-project", O_CREAT | O_RDWR, 0600);
    if (file < 0) die("create");
    struct fsxattr of;
    if (ioctl(file, FS_IOC_FSGETXATTR, &of)) die("FS_IOC_FSGETXATTR");
    say("file", of.fsx_projid);
    of.fsx_projid = 0;
    say("free", ioctl(file, FS_IOC_FSSETXATTR, &of) ? errno : 0);
    ioctl(fd, FS_IOC_FSSETXATTR, &is);
    return 0;
}

int main(int c, char **v) {
    const char *verb = c > 1 ? v[1] : "";
    long a = c > 2 ? strtol(v[2], 0, 0) : 0, b = c > 3 ? strtol(v[3], 0, 0) : 0;
    if (!strcmp(verb, "exit")) return a;
    if (!strcmp(verb, "raise")) { struct rlimit no = { 0, 0 }; setrlimit(RLIMIT_CORE, &no); signal(a, SIG_DFL); raise(a); return 98; }
    if (!strcmp(verb, "write")) return writes(a, b ? b : 65536, c > 4 ? atoi(v[4]) : 1);
    if (!strcmp(verb, "check")) return check(a ? a : 65536, b);
    if (!strcmp(verb, "signals")) return signals(a ? a : 1);
    if (!strcmp(verb, "ignore")) return ignore(a ? a : 60);
    if (!strcmp(verb, "later")) return later(v[2], atof(v[3]));
    if (!strcmp(verb, "orphans")) return orphans(a);
    if (!strcmp(verb, "bomb")) return bomb(a);
    if (!strcmp(verb, "bombs")) bombs();
    if (!strcmp(verb, "memory")) return memory(v[2], b);
    if (!strcmp(verb, "project")) return project(v[2]);
    if (!strcmp(verb, "exhaust")) return exhaust(v[2]);
    if (!strcmp(verb, "hold-all")) return hold_all(v[2]);
    if (!strcmp(verb, "ready")) { say("ready", getpid()); nap(a); return 0; }
    if (!strcmp(verb, "names")) return names(a);
    if (!strcmp(verb, "sockets")) return sockets(a);
    if (!strcmp(verb, "restless")) return restless(v[2], b);
    if (!strcmp(verb, "headless")) { pthread_t t; pthread_create(&t, 0, ticker, v[2]); pthread_exit(0); }
    if (!strcmp(verb, "sleep")) { nap(atof(v[2])); return 0; }
    if (!strcmp(verb, "hold")) { if (fork()) return 0; setsid(); nap(a); return 0; }
    /* eof: says how many bytes of stdin it read in reads of one byte, at most A. */
    if (!strcmp(verb, "take")) { char x; long n = 0; while (n < a && read(0, &x, 1) == 1) n++; say("took", n); return 0; }
    if (!strcmp(verb, "filter") && c > 4) return filter(a, strtoul(v[3], 0, 0), v + 4);
    if (!strcmp(verb, "fds")) { for (int i = 0; i < 4096; i++) if (fcntl(i, F_GETFD) >= 0) say("open", i); return 0; }
    /* steal: reads what it wrote to its own stdout, again and again. */
    if (!strcmp(verb, "steal")) {
        int r = open("/proc/self/fd/1", O_RDONLY);
        if (r < 0) die("open");
        signal(SIGTERM, SIG_IGN);
        char x[65536];
        fcntl(r, F_SETFL, O_NONBLOCK);
        for (;;) { if (write(1, x, 100) < 0) return 1; if (read(r, x, sizeof x) < 0 && errno != EAGAIN) return 1; }
    }
    /* inject WORD: writes into its own stdin. */
    if (!strcmp(verb, "inject")) {
        int w = open("/proc/self/fd/0", O_WRONLY | O_NONBLOCK);
        if (w < 0) { say("errno", errno); return 0; }
        char x;
        while (read(0, &x, 1) == 1 && x != '\n') {}
        say("wrote", write(w, v[2], strlen(v[2])));
        return 0;
    }
    dprintf(2, "life: no verb `%s`\n", verb);
    return 97;
}
