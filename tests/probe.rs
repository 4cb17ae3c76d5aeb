//! The probe: a small C program that runs in a jail and says what it can do there. Here it is built
//! and run in a jail, in a jail with layers left out, outside, and under bubblewrap; `tests/jail`
//! and `tests/escape` compare what it says.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::common;

/// A workspace with the probe in it, and a state directory of its own. Gone when dropped.
pub struct Ground {
    /// Where everything below lies.
    pub dir: tempfile::TempDir,
    /// The current directory of every run; `./probe` is in it.
    pub ws: PathBuf,
}

impl Drop for Ground {
    /// Overlay makes directories of mode 0, which an ordinary user has to open before removing them.
    fn drop(&mut self) {
        Command::new("chmod").args(["-R", "u+rwX"]).arg(self.dir.path()).status().ok();
    }
}

/// What the probe said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    lines: BTreeMap<String, String>,
}

impl Said {
    /// From text that the probe printed.
    pub fn parse(stdout: String) -> Said {
        let lines = stdout
            .lines()
            .filter_map(|l| l.split_once(": ").or_else(|| l.split_once(":\t")))
            .map(|(name, result)| (name.to_owned(), result.to_owned()))
            .collect();
        Said { code: None, lines, stdout, stderr: String::new() }
    }

    /// The result of one attempt.
    #[track_caller]
    pub fn of(&self, name: &str) -> &str {
        self.lines.get(name).unwrap_or_else(|| panic!("the probe did not say `{name}`: {self:#?}"))
    }

    /// Every attempt with its result, by name.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().map(|(name, result)| (name.as_str(), result.as_str()))
    }

    /// Every attempt whose name starts so: the rest of the name and the result.
    pub fn with<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.all().filter_map(move |(name, result)| Some((name.strip_prefix(prefix)?, result)))
    }

    /// Panics unless all of these attempts gave this result.
    #[track_caller]
    pub fn expect(&self, result: &str, names: &[&str]) {
        for name in names {
            assert_eq!(self.of(name), result, "{name}: {self:#?}");
        }
    }
}

/// A line for whoever reads the log: what this machine cannot show.
pub fn skip(reason: impl AsRef<str>) {
    eprintln!("SKIP: {}", reason.as_ref());
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Show that an attack has teeth: `weaker` is the same probe where the layer is missing. Attempts
/// that end there as they do in the jail prove nothing and are named; `must` are those that have to
/// differ on any machine where `weaker` could run at all.
#[track_caller]
pub fn teeth(jail: &Said, weaker: Option<Said>, must: &[&str]) {
    let Some(weaker) = weaker else { return };
    let alike: Vec<&str> = jail
        .all()
        .filter(|(name, result)| *result != "ok" && weaker.lines.get(*name).is_some_and(|w| w == result))
        .map(|(name, _)| name)
        .collect();
    for name in must {
        assert!(
            weaker.of(name) != jail.of(name),
            "`{name}` is {} without the layer too: the test shows nothing",
            jail.of(name)
        );
    }
    if !alike.is_empty() {
        let shown = &alike[..alike.len().min(8)];
        let more = if alike.len() > 8 { format!(" and {} more", alike.len() - 8) } else { String::new() };
        skip(format!("refused on this machine without the layer too: {}{more}", shown.join(", ")));
    }
}

/// The compiled probe: an unlinked file, so that nothing is left behind whatever happens.
fn compiled() -> Result<&'static File, &'static str> {
    static PROBE: OnceLock<Result<File, String>> = OnceLock::new();
    PROBE.get_or_init(compile).as_ref().map_err(String::as_str)
}

fn compile() -> Result<File, String> {
    if let Some(ready) = common::ready_program("probe") {
        return File::open(ready).map_err(|e| e.to_string());
    }
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let program = dir.path().join("probe");
    let sources = common::files("tests/programs", "c")
        .into_iter()
        .map(|(path, _)| common::root().join(path))
        .filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("probe")));
    let built = Command::new("cc").args(["-static", "-O1", "-w", "-o"]).arg(&program).args(sources).output();
    match built {
        Ok(o) if o.status.success() => File::open(program).map_err(|e| e.to_string()),
        Ok(o) => Err(format!("no static C program can be built: {}", String::from_utf8_lossy(&o.stderr))),
        Err(e) => Err(format!("no C compiler: {e}")),
    }
}

/// Whether this machine can have jails at all, as `aj doctor` sees it.
fn jails() -> bool {
    static POSSIBLE: OnceLock<bool> = OnceLock::new();
    *POSSIBLE.get_or_init(|| common::run(&["doctor"]).code != Some(69))
}

/// Whether this `aj` can leave out layers: release builds cannot.
fn can_leave_out() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        let Some(ground) = Ground::new() else { return false };
        let mut aj = ground.aj(&[], ["cat", "/proc/self/status"]);
        let said = run(aj.env("AJ_TEST_WITHOUT", "seccomp"));
        said.code == Some(0) && said.of("Seccomp").trim() == "0"
    })
}

impl Ground {
    /// `None`, with the reason printed, where the probe or a jail cannot be had.
    pub fn new() -> Option<Ground> {
        let probe = match compiled() {
            Ok(probe) => probe,
            Err(why) => {
                common::no_jails(why);
                return None;
            }
        };
        if !jails() {
            common::no_jails("this machine can have no jails (aj doctor says why)");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let ws = dir.path().join("ws");
        for d in [&ws, &dir.path().join("home")] {
            std::fs::create_dir(d).unwrap();
        }
        // By another process: a file that this one holds open for writing, or a child that another
        // thread is just forking, could not be executed (ETXTBSY).
        let copied = Command::new("cp")
            .arg("/dev/stdin")
            .arg(ws.join("probe"))
            .stdin(Stdio::from(probe.try_clone().unwrap()))
            .status()
            .unwrap();
        assert!(copied.success());
        let made = Command::new("chmod").arg("755").arg(ws.join("probe")).status().unwrap();
        assert!(made.success());
        Some(Ground { dir, ws })
    }

    /// Let every user pass through, and reach the workspace.
    pub fn open_to_all(&self) {
        use std::os::unix::fs::PermissionsExt;
        for d in [self.dir.path(), &self.ws] {
            std::fs::set_permissions(d, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    /// A path below the directory of this ground, as text.
    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// Any program in the workspace, with nobody's settings.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        common::without_tools(&mut command)
            .current_dir(&self.ws)
            .stdin(Stdio::null())
            .env("HOME", self.dir.path().join("home"))
            .env("AJ_STATE_DIR", self.dir.path().join("state"))
            .env("AJ_CONFIG_DIR", self.dir.path().join("config"))
            .env_remove("AJ_TEST_WITHOUT");
        command
    }

    /// `aj exec FLAGS -- WORDS` in the workspace.
    pub fn aj<S: AsRef<OsStr>>(&self, flags: &[&str], words: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.program(common::aj());
        command.args(["exec", "--timeout", "15s"]).args(flags).arg("--").args(words);
        command
    }

    /// The probe in a jail.
    pub fn jail(&self, flags: &[&str], words: &[&str]) -> Said {
        run(&mut self.aj(flags, probe(words)))
    }

    /// The probe in a jail without these layers; `None` where that cannot be had.
    pub fn jail_without(&self, layers: &str, flags: &[&str], words: &[&str]) -> Option<Said> {
        if !can_leave_out() {
            skip(format!("this aj cannot leave out {layers}: not a debug build"));
            return None;
        }
        Some(run(self.aj(flags, probe(words)).env("AJ_TEST_WITHOUT", layers)))
    }

    /// The probe outside.
    pub fn outside(&self, words: &[&str]) -> Option<Said> {
        Some(run(self.program("./probe").args(words)))
    }

    /// The probe under bubblewrap with every namespace; `None` where that cannot be had.
    pub fn bwrap(&self, flags: &[&str], words: &[&str]) -> Option<Said> {
        let base =
            ["--unshare-all", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"];
        let bwrap = || {
            let mut command = self.program("bwrap");
            command.args(base).arg("--bind").arg(&self.ws).arg(&self.ws).env("PROBE_CONTAINED", "1");
            command
        };
        match bwrap().arg("true").output() {
            Ok(o) if o.status.success() => Some(run(bwrap().args(flags).args(probe(words)))),
            Ok(o) => {
                skip(format!("bwrap does not work here: {}", String::from_utf8_lossy(&o.stderr)));
                None
            }
            Err(e) => {
                skip(format!("no bwrap: {e}"));
                None
            }
        }
    }
}

fn probe<'a>(words: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    std::iter::once("./probe").chain(words.iter().copied())
}

/// Run it and take apart what it printed: `name: result`, or tabs after the colon as in `/proc`.
pub fn run(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    said(output)
}

/// The same with something to read on stdin.
pub fn run_with_input(command: &mut Command, input: &str) -> Said {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    said(child.wait_with_output().unwrap())
}

fn said(output: std::process::Output) -> Said {
    let said = Said::parse(String::from_utf8_lossy(&output.stdout).into_owned());
    Said { code: output.status.code(), stderr: String::from_utf8_lossy(&output.stderr).into_owned(), ..said }
}

/// A process of the host that waits until it is dropped.
pub struct Sleeper(pub std::process::Child);

impl Sleeper {
    pub fn new() -> Sleeper {
        Sleeper(Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap())
    }

    pub fn pid(&self) -> String {
        self.0.id().to_string()
    }

    /// Whether it still runs.
    pub fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// Whether it ends within two seconds.
    pub fn ends(&mut self) -> bool {
        (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            !self.lives()
        })
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Whether `path` is read by anybody who may: its text, if any.
pub fn text(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok()
}
