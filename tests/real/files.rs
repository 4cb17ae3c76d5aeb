//! What file systems promise, on the overlay, on the jail's tmpfs and on a real directory.

use super::project::{Project, assert_lines, has, skip};

/// Prints one line per promise. `$1` is the directory to try.
const PROBE: &str = r#"
import ctypes, errno, fcntl, mmap, os, select, socket, stat, struct, sys
d = sys.argv[1]; os.makedirs(d, exist_ok=True); os.chdir(d)
libc = ctypes.CDLL(None, use_errno=True)
def say(name, call):
    try: print(name, call())
    except OSError as e: print(name, errno.errorcode[e.errno])

def tmpfile():
    fd = os.open('.', os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, b'x')
    if libc.linkat(-100, b'/proc/self/fd/%d' % fd, -100, b'linked', 0x400) < 0:
        raise OSError(ctypes.get_errno(), 'linkat')
    return os.stat('linked').st_size
say('O_TMPFILE', tmpfile)

def xattr():
    open('x', 'w').close(); os.setxattr('x', 'user.a', b'v'); os.mkdir('xd'); os.setxattr('xd', 'user.b', b'w')
    return os.getxattr('x', 'user.a'), os.listxattr('xd')
say('xattr', xattr)

def rename2(flags, a, b):
    if libc.syscall(316 if os.uname().machine == 'x86_64' else 276, -100, a.encode(), -100, b.encode(), flags) < 0:
        raise OSError(ctypes.get_errno(), 'renameat2')
    return sorted(n for n in os.listdir('.') if n.startswith('r'))
for n in ('r1', 'r2'): open(n, 'w').write(n)
say('RENAME_NOREPLACE', lambda: rename2(1, 'r1', 'r2'))
say('RENAME_NOREPLACE to a new name', lambda: rename2(1, 'r1', 'r3'))
say('RENAME_EXCHANGE', lambda: (rename2(2, 'r3', 'r2'), open('r2').read()))

def ranges():
    with open('from', 'wb') as f: f.write(b'0123456789' * 1000)
    a, b = os.open('from', os.O_RDONLY), os.open('to', os.O_RDWR | os.O_CREAT)
    n = os.copy_file_range(a, b, 5000); n += os.sendfile(b, a, None, 5000)
    return n, os.stat('to').st_size
say('copy_file_range and sendfile', ranges)

def shared():
    with open('m', 'w+b') as f:
        f.truncate(8192); m = mmap.mmap(f.fileno(), 8192); m[5000:5005] = b'hello'; m.flush()
        pid = os.fork()
        if pid == 0: m[0:3] = b'kid'; os._exit(0)
        os.waitpid(pid, 0)
    return open('m', 'rb').read()[:3], open('m', 'rb').read()[5000:5005]
say('MAP_SHARED', shared)

def locks():
    f, g = open('l', 'w'), open('l', 'w')
    fcntl.flock(f, fcntl.LOCK_EX)
    try: fcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB); second = 'free'
    except OSError as e: second = errno.errorcode[e.errno]
    fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10)
    pid = os.fork()
    if pid == 0:
        try: fcntl.lockf(g, fcntl.LOCK_EX | fcntl.LOCK_NB, 10); os._exit(0)
        except OSError: os._exit(9)
    ofd = fcntl.fcntl(g, 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 100, 10, 0)) is not None
    return second, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), ofd
say('flock and fcntl locks', locks)

def fifo():
    os.mkfifo('f'); pid = os.fork()
    if pid == 0:
        with open('f', 'w') as w: w.write('through')
        os._exit(0)
    with open('f') as r: text = r.read()
    os.waitpid(pid, 0); return text, stat.S_ISFIFO(os.stat('f').st_mode)
say('mkfifo', fifo)

def unix():
    s = socket.socket(socket.AF_UNIX); s.bind('s'); s.listen()
    c = socket.socket(socket.AF_UNIX); c.connect('s'); a, _ = s.accept()
    socket.send_fds(c, [b'fd'], [1]); m, fds, _, _ = socket.recv_fds(a, 10, 1)
    pid = struct.unpack('3i', a.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    abstract = socket.socket(socket.AF_UNIX); abstract.bind('\0aj-%d' % os.getpid()); abstract.listen()
    other = socket.socket(socket.AF_UNIX); other.connect('\0aj-%d' % os.getpid())
    return m, len(fds), pid == os.getpid()
say('unix sockets', unix)

def inotify():
    fd = libc.inotify_init1(0); libc.inotify_add_watch(fd, b'.', 0x100 | 0x200 | 0x2 | 0x40 | 0x80)
    os.write(os.open('watched', os.O_CREAT | os.O_WRONLY), b'1'); os.rename('watched', 'moved'); os.unlink('moved')
    got = []
    while select.select([fd], [], [], 0.2)[0]:
        buffer = os.read(fd, 4096); at = 0
        while at < len(buffer):
            _, mask, _, size = struct.unpack_from('iIII', buffer, at)
            got.append((hex(mask), buffer[at + 16:at + 16 + size].rstrip(b'\0').decode())); at += 16 + size
    return got
say('inotify', inotify)

def memfd():
    fd = os.memfd_create('m', os.MFD_ALLOW_SEALING); os.write(fd, b'#!/bin/sh\necho ran\n')
    fcntl.fcntl(fd, 1033, 0xF)
    return os.pread(fd, 9, 0), os.popen(f'sh /proc/{os.getpid()}/fd/{fd}').read()
say('memfd', memfd)

def directory():
    os.makedirs('dir/sub'); open('dir/sub/file', 'w').write('1'); os.rename('dir', 'dir2'); os.replace('dir2/sub', 'sub2')
    return os.listdir('dir2'), open('sub2/file').read()
say('directory rename', directory)

def links():
    open('h1', 'w').write('1'); os.link('h1', 'h2'); open('h1', 'a').write('2')
    return os.stat('h2').st_nlink, open('h2').read(), os.path.samefile('h1', 'h2')
say('hard links', links)

def odd():
    names = [b'\xff\xfe', b'new\nline', ' '.encode(), 'é'.encode(), b'a:b,c\\d', b'n' * 255]
    for n in names: open(n, 'w').close()
    return all(n in os.listdir(b'.') for n in names)
say('names', odd)
say('a name too long', lambda: open('n' * 256, 'w'))

def statx():
    s = os.statvfs('.'); return s.f_namemax, os.access('.', os.W_OK), os.stat('h1').st_dev == os.stat('.').st_dev
say('statvfs and access', statx)
def sparse():
    with open('holes', 'wb') as f: f.truncate(1 << 20); f.seek(1 << 19); f.write(b'x')
    with open('holes', 'rb') as f: return f.seek(0, os.SEEK_DATA) <= 1 << 19, os.stat('holes').st_size
say('holes', sparse)
def mode(): os.chmod('h1', 0o1751); return oct(os.stat('h1').st_mode)
say('chmod', mode)
def times(): os.utime('h1', ns=(1, 2)); return os.stat('h1').st_mtime_ns
say('utime', times)
def sync(): f = open('h1'); os.fsync(f.fileno()); os.fdatasync(f.fileno()); os.posix_fallocate(os.open('fa', os.O_CREAT|os.O_RDWR), 0, 100); return os.stat('fa').st_size
say('fsync and fallocate', sync)
"#;

#[test]
fn every_kind_of_file_operation_works_in_a_workspace() {
    if !has("python3") {
        return;
    }
    let p = Project::new();
    p.write("probe.py", PROBE);
    p.same("/usr/bin/python3 probe.py place");
    // The same in a directory that the host filled, where everything is a copy-up.
    p.outside("mkdir -p lower && cp probe.py lower");
    p.same("/usr/bin/python3 probe.py lower");
}

#[test]
fn every_kind_of_file_operation_works_in_the_jails_tmpfs() {
    if !has("python3") {
        return;
    }
    let p = Project::new();
    p.write("probe.py", PROBE);
    let inside = p.inside(
        "for d in /tmp /var/tmp ~ /dev/shm; do /usr/bin/python3 probe.py $d/x || exit; rm -r $d/x; done",
    );
    let outside = p.outside("/usr/bin/python3 probe.py place");
    // tmpfs before Linux 6.6 has no user attributes.
    let no_attributes = inside.contains("xattr EOPNOTSUPP");
    let lines = |text: &str| -> String {
        text.lines().filter(|l| !no_attributes || !l.starts_with("xattr")).map(|l| format!("{l}\n")).collect()
    };
    assert_lines(&lines(&inside), &lines(&outside).repeat(4), "probe.py");
}

#[test]
fn files_of_the_host_are_changed_in_every_way_and_the_host_keeps_them() {
    let p = Project::new();
    p.outside(
        "mkdir -p d/e/f; for i in 1 2 3 4 5 6 7 8 9; do echo $i > d/e/$i; done; ln -s e d/link; chmod 444 d/e/9; \
         mkfifo d/pipe; echo '#!/bin/sh' > d/run; chmod +x d/run; truncate -s 1M d/sparse",
    );
    p.same(
        r#"cd d; echo more >> e/1; : > e/2; rm e/3; mv e/4 moved; ln e/5 hard; chmod 700 e/6; touch -d @5 e/7
        ln -sf nowhere link; rmdir e/f; mkdir e/f; echo new > e/f/new; rm -r e/f; mkfifo e/f; mv -T e E 2>&1; ls -l E | wc -l
        echo x | tee E/9 2>/dev/null >/dev/null; chmod 644 E/9 && echo x > E/9; rm pipe; echo file > pipe; cat run pipe E/[0-9]
        printf tail >> sparse; tail -c 4 sparse; find . -type f -o -type l | sort; exec 3<>E/1; echo over >&3; cat E/1"#,
    );
}

#[test]
fn names_of_a_hard_linked_file_part_at_the_first_write() {
    // What overlayfs does without an index; a store that is linked into a project (pnpm, uv) must
    // not change with it in any case.
    let p = Project::new();
    p.outside("echo old > a; ln a b");
    assert_eq!(
        p.inside("stat -c %h a; echo new > a; cat a b; echo two >> b; cat a b"),
        "2\nnew\nold\nnew\nold\ntwo\n"
    );
}

#[test]
fn deep_and_long_paths() {
    let p = Project::new();
    p.same(
        r#"set -e; name=$(printf 'n%.0s' $(seq 200)); for i in $(seq 40); do mkdir $name; cd $name; done
        echo deep > file; pwd | wc -c | awk '{ print ($1 > 8000) }'; cat file; cd - >/dev/null; find / -xdev -path "*$name*" -name file 2>/dev/null | wc -l
        for i in $(seq 300); do mkdir -p $(printf 'd/%.0s' $(seq $((i % 60 + 1)))); done; find . -type d -name d | wc -l"#,
    );
}

#[test]
fn a_real_directory_is_written_for_real() {
    let p = Project::new();
    if !has("python3") {
        return;
    }
    p.write("probe.py", PROBE);
    let ran = p.aj(["exec", "--rw", "--", "/usr/bin/python3", "probe.py", "inside"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let outside = p.outside("/usr/bin/python3 probe.py outside");
    assert_lines(&ran.stdout, &outside, "probe.py");
    p.outside("diff -r --no-dereference inside outside | grep -v 'is a fifo\\|is a socket' ; true");
    let owners = |d| p.outside(&format!("cd {d}; find . -printf '%p %m %U %G %y\\n' | sort"));
    assert_eq!(owners("inside"), owners("outside"));
    let ran = p.aj([
        "exec",
        "--ro",
        "--",
        "sh",
        "-c",
        "echo x > new; echo y >> probe.py; rm probe.py; mkdir d; cat probe.py | wc -c",
    ]);
    assert_eq!(ran.stdout.trim(), PROBE.len().to_string(), "{ran:#?}");
    assert_eq!(ran.stderr.matches("Read-only file system").count(), 4, "{ran:#?}");
}

#[test]
fn a_full_jail_tmpfs_is_an_error_of_the_program_and_not_of_the_host() {
    let ran = Project::new().aj([
        "exec",
        "--tmp",
        "8M",
        "--",
        "sh",
        "-c",
        "head -c 20M /dev/zero > /tmp/x; echo $?; ls -s /tmp/x | cut -d' ' -f1",
    ]);
    assert!(ran.stderr.contains("No space left on device"), "{ran:#?}");
    if ran.stdout.lines().next() != Some("1") {
        skip("head ignores errors here");
    }
}
