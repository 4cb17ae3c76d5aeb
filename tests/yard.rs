//! Where commands are run in jails, watched from outside: a workspace, a state directory of its own,
//! and the helper `./life` (`tests/programs/life.c`). `tests/life` and `tests/io` use it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common;

/// Nothing here may take longer.
pub const LIMIT: Duration = Duration::from_secs(18);

/// A workspace with `./life` in it and an `aj` state of its own. Gone when dropped.
pub struct Yard {
    dir: tempfile::TempDir,
    /// The current directory of every run.
    pub ws: PathBuf,
}

/// Say why something cannot be shown on this machine.
pub fn skip(reason: impl AsRef<str>) {
    eprintln!("SKIP: {}", reason.as_ref());
}

/// `./life`, compiled once: its bytes, so that nothing is left behind.
fn program() -> Result<&'static [u8], &'static str> {
    static PROGRAM: OnceLock<Result<Vec<u8>, String>> = OnceLock::new();
    let compile = || {
        if let Some(ready) = common::ready_program("life") {
            return std::fs::read(ready).map_err(|e| e.to_string());
        }
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        let out = dir.path().join("life");
        let source = common::root().join("tests/programs/life.c");
        let cc = Command::new("cc").args(["-static", "-O1", "-w", "-o"]).arg(&out).arg(source).output();
        match cc {
            Ok(o) if o.status.success() => std::fs::read(out).map_err(|e| e.to_string()),
            Ok(o) => Err(format!("no static C program can be built: {}", String::from_utf8_lossy(&o.stderr))),
            Err(e) => Err(format!("no C compiler: {e}")),
        }
    };
    PROGRAM.get_or_init(compile).as_ref().map(Vec::as_slice).map_err(String::as_str)
}

/// Whether this machine can have jails at all.
fn jails(yard: &Yard) -> bool {
    static POSSIBLE: OnceLock<bool> = OnceLock::new();
    *POSSIBLE.get_or_init(|| yard.aj(["true"]).status().is_ok_and(|s| s.code() == Some(0)))
}

impl Yard {
    /// `None`, with the reason printed, where this machine cannot run the test.
    pub fn new() -> Option<Yard> {
        let program = match program() {
            Ok(program) => program,
            Err(reason) => {
                common::no_jails(reason);
                return None;
            }
        };
        let dir = tempfile::tempdir().unwrap();
        let ws = dir.path().join("ws");
        std::fs::create_dir(&ws).unwrap();
        // By a child of another process: a file that a test writes itself may be open for writing
        // in a process another test has just forked, and then executing it is ETXTBSY.
        let mut cp = Command::new("sh")
            .args(["-c", "umask 022; cat > life && chmod 755 life"])
            .current_dir(&ws)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(cp.stdin.as_mut().unwrap(), program).unwrap();
        assert!(cp.wait().unwrap().success());
        let yard = Yard { dir, ws };
        if jails(&yard) {
            return Some(yard);
        }
        common::no_jails("`aj exec -- true` does not work on this machine");
        None
    }

    /// `aj exec OPTIONS -- COMMAND`.
    pub fn exec<'a>(
        &self,
        options: impl IntoIterator<Item = &'a str>,
        command: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Command {
        let mut aj = Command::new(common::aj());
        aj.arg("exec").args(options).arg("--").args(command);
        self.set(&mut aj);
        aj
    }

    /// `aj exec -- COMMAND`.
    pub fn aj(&self, command: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        self.exec([], command)
    }

    /// A shell on the host, with `$AJ` for `aj exec --`.
    pub fn sh(&self, script: &str) -> Command {
        let mut sh = Command::new("sh");
        sh.args(["-c", script]).env("AJ", common::aj());
        self.set(&mut sh);
        sh
    }

    fn set(&self, command: &mut Command) {
        common::without_tools(command)
            .current_dir(&self.ws)
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR_FORCE")
            .env("HOME", self.dir.path())
            .env("AJ_STATE_DIR", self.state())
            .env("AJ_CONFIG_DIR", self.dir.path().join("config"))
            .stdin(Stdio::null());
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A path outside the workspace.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Run to the end, at most [`LIMIT`]: a hang is a failure, not a stuck test run.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    fn reader(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes).unwrap();
            bytes
        })
    }
    let mut running = Running::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let out = reader(running.0.stdout.take().unwrap());
    let err = reader(running.0.stderr.take().unwrap());
    let status = running.end();
    Output { status, stdout: out.join().unwrap(), stderr: err.join().unwrap() }
}

/// [`run`], as text.
#[track_caller]
pub fn said(command: &mut Command) -> Said {
    Said::from(run(command))
}

/// What a run said, and its fate: an exit code, or minus the signal that killed `aj` itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    pub fate: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(o: Output) -> Said {
        Said {
            fate: fate(o.status),
            out: String::from_utf8_lossy(&o.stdout).into_owned(),
            err: String::from_utf8_lossy(&o.stderr).into_owned(),
        }
    }
}

impl Said {
    /// The number after `name` on a line of its own.
    #[track_caller]
    pub fn number(&self, name: &str) -> i64 {
        number(&self.out, name).unwrap_or_else(|| panic!("no `{name}` in {self:#?}"))
    }
}

pub fn number(text: &str, name: &str) -> Option<i64> {
    text.lines().find_map(|l| l.strip_prefix(name)?.trim().parse().ok())
}

/// An exit code, or minus a signal.
pub fn fate(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
}

/// A process that is gone when this is dropped.
pub struct Running(pub Child);

impl Running {
    #[track_caller]
    pub fn start(command: &mut Command) -> Running {
        Running(command.spawn().unwrap())
    }

    /// Its first line on stdout; then its stdout.
    #[track_caller]
    pub fn first_line(&mut self) -> (String, BufReader<std::process::ChildStdout>) {
        let mut out = BufReader::new(self.0.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        (line.trim().to_owned(), out)
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Wait for its end, at most [`LIMIT`].
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        self.end_within(LIMIT)
    }

    #[track_caller]
    pub fn end_within(&mut self, limit: Duration) -> ExitStatus {
        let child = &mut self.0;
        let mut status = None;
        eventually(limit, || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap_or_else(|| panic!("still running after {limit:?}"))
    }

    /// A field of its `/proc/PID/status`, in KiB.
    pub fn kib(&self, field: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
        line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its jail goes with it.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Whether `what` becomes true within `limit`.
pub fn eventually(limit: Duration, mut what: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if what() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A word that no other process has on its command line.
pub fn mark() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("mark-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Host pids of the processes with `mark` on their command line, and of each pid 1 of a jail that belongs to one of
/// them: what it shows is a title. One that was seen is known as long as it lives, whoever else is gone.
pub fn marked(mark: &str) -> Vec<i32> {
    static KNOWN: Mutex<BTreeSet<(String, i32, String)>> = Mutex::new(BTreeSet::new());
    let read = |pid: i32, name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let pids: Vec<i32> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect();
    let has = |pid: i32| read(pid, "cmdline").windows(mark.len()).any(|w| w == mark.as_bytes());
    let found: Vec<i32> = pids.iter().copied().filter(|pid| has(*pid)).collect();
    // Parent and time of its start: fields 4 and 22 of proc(5). One that nobody has waited for yet is gone.
    let stat = |pid: i32| {
        let text = String::from_utf8_lossy(&read(pid, "stat")).into_owned();
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        (*fields.first()? != "Z").then_some(())?;
        Some((fields.get(1)?.parse::<i32>().ok()?, (*fields.get(19)?).to_owned()))
    };
    let parents: BTreeSet<i32> = found.iter().filter_map(|pid| Some(stat(*pid)?.0)).collect();
    let mut known = KNOWN.lock().unwrap();
    let mut init = |pid: &i32| {
        let Some((parent, born)) = stat(*pid) else { return false };
        let key = (mark.to_owned(), *pid, born);
        let ours = found.contains(&parent) || parents.contains(pid);
        read(*pid, "comm") == b"aj-init\n" && (known.contains(&key) || ours && known.insert(key))
    };
    let inits: Vec<i32> =
        pids.into_iter().filter(|pid| !found.contains(pid)).filter(|pid| init(pid)).collect();
    [inits, found].concat()
}

/// Panics unless nothing with `mark` is left within `limit`.
#[track_caller]
pub fn assert_gone(mark: &str, limit: Duration) {
    if !eventually(limit, || marked(mark).is_empty()) {
        let left: Vec<_> = marked(mark).into_iter().map(ancestors).collect();
        assert!(left.is_empty(), "still there: {left:#?}");
    }
}

/// What proc(5) says of a process and of those above it.
fn ancestors(mut pid: i32) -> Vec<String> {
    let mut all = Vec::new();
    while let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) {
        let field = |name: &str| {
            let found = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
            found.unwrap_or("?").trim().to_owned()
        };
        let waits = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
        let (name, state, inside) = (field("Name"), field("State"), field("NSpid"));
        all.push(format!("{pid} {name} {state} in {waits}, numbers {inside}"));
        pid = field("PPid").parse().unwrap_or(0);
    }
    all
}

/// Lines of this process's mount table that name `path`.
pub fn mounts_of(path: &Path) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|l| l.contains(path.to_str().unwrap())).map(str::to_owned).collect()
}

/// A new terminal: the master's side and the slave's.
pub fn terminal() -> (std::os::fd::OwnedFd, std::os::fd::OwnedFd) {
    use nix::fcntl::{OFlag, open};
    use nix::sys::stat::Mode;
    use std::os::fd::AsRawFd;
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = open("/dev/ptmx", flags, Mode::empty()).unwrap();
    let (mut number, unlock) = (0i32, 0i32);
    // SAFETY: TIOCSPTLCK reads and TIOCGPTN writes one int.
    unsafe {
        assert_eq!(nix::libc::ioctl(master.as_raw_fd(), nix::libc::TIOCSPTLCK, &raw const unlock), 0);
        assert_eq!(nix::libc::ioctl(master.as_raw_fd(), nix::libc::TIOCGPTN, &raw mut number), 0);
    }
    let slave = open(format!("/dev/pts/{number}").as_str(), flags, Mode::empty()).unwrap();
    (master, slave)
}
