//! CPython of the system.

use super::project::{Project, has};

fn python(script: &str) -> Option<Project> {
    if !has("python3") {
        return None;
    }
    let p = Project::new();
    p.write("main.py", script);
    Some(p)
}

fn same(script: &str) {
    if let Some(p) = python(script) {
        p.same("/usr/bin/python3 main.py");
    }
}

#[test]
fn threads_processes_and_shared_memory() {
    same(
        r#"
import multiprocessing as mp, threading, os, sys, signal, time
from multiprocessing import shared_memory, Pool, Semaphore, Queue, Lock, Value
from concurrent.futures import ThreadPoolExecutor, ProcessPoolExecutor
def square(x): return x * x
def add(v, lock, s):
    for _ in range(100):
        with lock: v.value += 1
    s.release()
def write(name):
    m = shared_memory.SharedMemory(name); m.buf[:5] = b'child'; m.close()
if __name__ == '__main__':
    with ProcessPoolExecutor(2) as e: print(sum(e.map(square, range(10))))
    for method in ('fork', 'spawn', 'forkserver'):
        c = mp.get_context(method)
        with c.Pool(2) as pool: print(method, pool.map(square, range(5)))
    v, lock, s = Value('i', 0), Lock(), Semaphore(0)
    ps = [mp.Process(target=add, args=(v, lock, s)) for _ in range(3)]
    [p.start() for p in ps]; [s.acquire() for _ in ps]; [p.join() for p in ps]; print(v.value, [p.exitcode for p in ps])
    m = shared_memory.SharedMemory(create=True, size=100); p = mp.Process(target=write, args=(m.name,)); p.start(); p.join()
    print(bytes(m.buf[:5])); m.close(); m.unlink()
    with mp.Manager() as manager:
        d = manager.dict(a=1); print(dict(d))
    q = Queue(); p = mp.Process(target=q.put, args=('through',)); p.start(); print(q.get()); p.join()
    with ThreadPoolExecutor(20) as e: print(sum(e.map(square, range(100))))
    ts = [threading.Thread(target=time.sleep, args=(0.01,)) for _ in range(200)]; [t.start() for t in ts]; [t.join() for t in ts]; print('threads')
    pid = os.fork()
    if pid == 0: signal.pause()
    os.kill(pid, signal.SIGTERM); print(os.waitpid(pid, 0)[1])
    print(os.sched_getaffinity(0) == set(range(os.cpu_count())) or 'fewer')
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)); print(os.sched_getscheduler(0)); os.nice(1)
"#,
    );
}

#[test]
fn asyncio_subprocesses_and_sockets() {
    same(
        r#"
import asyncio, socket, sys, os
async def main():
    p = await asyncio.create_subprocess_exec(sys.executable, '-c', 'import sys; sys.stdout.write(sys.stdin.read().upper())',
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    print((await p.communicate(b'hello'))[0], p.returncode)
    p = await asyncio.create_subprocess_shell('exit 7'); print(await p.wait())
    async def echo(r, w): w.write(await r.readline()); await w.drain(); w.close()
    for start, kind in ((asyncio.start_server(echo, '127.0.0.1', 0), 'tcp'), (asyncio.start_unix_server(echo, 'sock'), 'unix')):
        server = await start
        if kind == 'tcp': r, w = await asyncio.open_connection('localhost', server.sockets[0].getsockname()[1])
        else: r, w = await asyncio.open_unix_connection('sock')
        w.write(b'line\n'); print(kind, await r.readline()); w.close(); server.close()
    loop = asyncio.get_running_loop()
    print(set(await loop.getaddrinfo('localhost', 80, family=socket.AF_INET, type=socket.SOCK_STREAM)))
asyncio.run(main())
a, b = socket.socketpair(); a.sendall(b'x'); print(b.recv(1))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('127.0.0.1', 0)); u.sendto(b'udp', u.getsockname()); print(u.recv(10))
s = socket.socket(socket.AF_INET6); s.bind(('::1', 0)); print(s.getsockname()[0])
print(socket.gethostbyname('localhost'), bool(socket.gethostbyname(socket.gethostname())), [n for _, n in socket.if_nameindex()][:1])
"#,
    );
}

#[test]
fn the_standard_library_finds_its_data() {
    same(
        r#"
import ssl, zoneinfo, locale, tempfile, sqlite3, ctypes, ctypes.util, time, datetime, json, mimetypes, encodings, unicodedata, curses, readline, lzma, bz2, zlib, hashlib, uuid, pwd, grp, os, platform, getpass, pathlib, webbrowser, decimal
print(len(ssl.create_default_context().get_ca_certs()) > 0 or ssl.get_default_verify_paths().cafile)
print(zoneinfo.ZoneInfo('Europe/Berlin').utcoffset(datetime.datetime(2026, 7, 1)), time.tzname, datetime.datetime(2026, 7, 1).astimezone().tzname())
print(locale.setlocale(locale.LC_ALL, ''), locale.getpreferredencoding(), sys.getfilesystemencoding() if (sys := __import__('sys')) else '')
with tempfile.TemporaryDirectory() as d, tempfile.NamedTemporaryFile() as f, tempfile.TemporaryFile() as g: print(os.path.isdir(d), os.path.exists(f.name))
db = sqlite3.connect('x.db'); db.execute('pragma journal_mode=wal'); db.execute('create table t(a)'); db.execute('insert into t values (1)'); db.commit(); print(db.execute('select * from t').fetchall())
print(mimetypes.guess_type('a.html'), hashlib.sha256(b'').hexdigest()[:8], bool(pwd.getpwuid(os.getuid()).pw_dir), bool(grp.getgrgid(os.getgid()).gr_name))
curses.setupterm('xterm'); print(curses.tigetnum('colors'))
print(ctypes.CDLL(ctypes.util.find_library('c')).abs(-5), platform.system(), bool(getpass.getuser()))
print(os.access(pathlib.Path.home(), os.W_OK), pathlib.Path('/etc/localtime').exists(), os.path.exists(os.ttyname(0)) if os.isatty(0) else 'no tty')
"#,
    );
}

#[test]
fn a_virtual_environment_made_outside_works_on_both_sides() {
    let Some(p) = python("import sys; print(sys.prefix != sys.base_prefix)") else { return };
    p.write("pkg/setup.py", "from setuptools import setup; setup(name='pkg')");
    p.outside("/usr/bin/python3 -m venv --without-pip env");
    let site = p.outside("ls -d env/lib/python3*/site-packages");
    p.write(&format!("{}/mine.py", site.trim()), "def main(): print('mine')\n");
    let shebang = format!("#!{}/env/bin/python\nimport mine; mine.main()\n", p.dir().display());
    p.script("env/bin/mine", &shebang);
    let ran = p.same("env/bin/python main.py; env/bin/mine; source env/bin/activate; mine; command -v python | sed \"s|$PWD||\"; python -c 'import mine; print(mine.__file__)'");
    assert!(ran.stdout.starts_with("True\nmine\nmine\n/env/bin/python\n"), "{ran:#?}");
    assert_eq!(
        p.inside(
            "/workspace/env/bin/mine; python3 -m venv --without-pip new && new/bin/python -c 'print(1)'"
        ),
        "mine\n1\n"
    );
}

#[test]
fn bytecode_made_outside_is_used_and_not_made_again() {
    let Some(p) = python("import mod; print(mod.x)") else { return };
    p.write("mod.py", "x = 1");
    p.outside("/usr/bin/python3 main.py; touch -d '1 minute ago' mod.py; rm -r __pycache__; /usr/bin/python3 main.py");
    assert_eq!(p.inside("/usr/bin/python3 -v main.py 2>&1 | grep -c 'wrote.*mod'; true"), "0\n");
}
