//! A project directory on the host and what happens in it, inside and outside the jail.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::common::{Ran, aj};

/// What both sides find in PATH.
pub const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A scratch directory with a project, a home and a state directory of its own.
#[derive(Debug)]
pub struct Project {
    top: TempDir,
    dir: PathBuf,
}

impl Project {
    /// An empty project.
    pub fn new() -> Project {
        let top = tempfile::Builder::new().prefix("project-").tempdir().unwrap();
        for name in ["p", "home", "state"] {
            std::fs::create_dir(top.path().join(name)).unwrap();
        }
        private(&top.path().join("state"));
        let dir = top.path().join("p");
        Project { top, dir }
    }

    /// The same; `None` where there are no jails.
    pub fn in_jails() -> Option<Project> {
        let p = Project::new();
        if p.aj(["exec", "--", "true"]).code == Some(0) {
            return Some(p);
        }
        crate::common::no_jails("`aj exec -- true` does not work on this machine");
        None
    }

    /// The project's directory: where commands start.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The scratch directory around it.
    pub fn top(&self) -> &Path {
        self.top.path()
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.top().join("state")
    }

    /// Write a file of the project, with its parents.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The same, executable.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.write(name, text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// `program` in the project directory with a plain environment.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.dir)
            .env_clear()
            .env("PATH", SYSTEM_PATH)
            .env("HOME", self.top().join("home"))
            .env("LANG", "C.UTF-8")
            .env("AJ_STATE_DIR", self.state())
            .env("AJ_CONFIG_DIR", self.top().join("config"))
            .stdin(Stdio::null());
        command
    }

    /// `aj` with these words.
    pub fn aj<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Ran {
        let mut command = self.command(aj());
        command.args(words);
        Ran::from(command.output().unwrap())
    }

    /// The same; its success is expected.
    #[track_caller]
    pub fn runs(&self, words: &[&str]) -> Ran {
        let ran = self.aj(words);
        assert_eq!(ran.code, Some(0), "{words:?} {ran:#?}");
        ran
    }

    /// Id of the newest jail.
    pub fn newest(&self) -> String {
        self.aj(["jail", "list", "-q", "--limit", "1"]).stdout.trim().to_owned()
    }

    /// A bash script outside; its success is expected.
    pub fn outside(&self, script: &str) -> String {
        let ran = self.bash(script);
        assert_eq!(ran.code, Some(0), "outside:\n{script}\n{ran:#?}");
        ran.stdout
    }

    fn bash(&self, script: &str) -> Ran {
        let ran = self.command("timeout").args(["90", "bash", "-c", script]).output();
        Ran::from(ran.unwrap())
    }

    /// A bash script inside, with flags for `aj exec`. The host's files must be what they were.
    pub fn try_inside(&self, flags: &[&str], script: &str) -> Ran {
        let before = self.snapshot();
        let mut words: Vec<OsString> = vec!["exec".into(), "--timeout".into(), "90s".into()];
        words.extend(flags.iter().map(OsString::from));
        words.extend(["--", "bash", "-c", script].map(OsString::from));
        let mut ran = self.aj(words);
        assert_same_files(&before, &self.snapshot(), script);
        // What aj says for itself is not the command's.
        ran.stderr = ran.stderr.lines().filter(|l| !l.starts_with("aj: ")).collect::<Vec<_>>().join("\n");
        ran
    }

    /// The same; its success is expected, and its output returned.
    pub fn inside(&self, script: &str) -> String {
        self.inside_with(&[], script)
    }

    /// The same with flags.
    pub fn inside_with(&self, flags: &[&str], script: &str) -> String {
        let ran = self.try_inside(flags, script);
        assert_eq!(ran.code, Some(0), "inside {flags:?}:\n{script}\n{ran:#?}");
        ran.stdout
    }

    /// The script does inside what it does outside: output, errors and exit code. It runs inside
    /// first, because only there it leaves the project as it was.
    pub fn same(&self, script: &str) -> Ran {
        let inside = self.try_inside(&[], script);
        let mut outside = self.bash(script);
        outside.stderr = outside.stderr.trim_end().to_owned();
        let shown = |r: &Ran| format!("exit {:?}\n{}---- stderr\n{}\n", r.code, r.stdout, r.stderr);
        assert_lines(&shown(&inside), &shown(&outside), script);
        inside
    }

    /// Everything about every file of the project that a careless jail could change.
    pub fn snapshot(&self) -> BTreeMap<PathBuf, String> {
        snapshot(&self.dir)
    }

    /// Jails whose trees are still on disk.
    pub fn trees(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.state().join("trees")) else { return Vec::new() };
        entries.map(|e| e.unwrap().path()).collect()
    }
}

impl Drop for Project {
    /// The kernel leaves directories in a tree (`work/work`) that their owner may not enter, and
    /// tests make some of their own: an ordinary user could not remove them.
    fn drop(&mut self) {
        if !is_root() {
            Command::new("chmod").args(["-R", "u+rwX"]).arg(self.top()).stderr(Stdio::null()).status().ok();
        }
    }
}

/// Make a directory private, whatever the umask.
pub fn private(dir: &Path) {
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).unwrap();
}

/// Path, kind, bits, owner, size, times to the nanosecond (ctime cannot be set back), content.
pub fn snapshot(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in walkdir::WalkDir::new(dir) {
        let entry = entry.unwrap();
        let m = entry.metadata().unwrap();
        let content = if m.is_file() {
            std::fs::read(entry.path()).map_or_else(|e| e.to_string(), |b| blake3::hash(&b).to_string())
        } else if m.is_symlink() {
            format!("{:?}", std::fs::read_link(entry.path()).unwrap())
        } else {
            String::new()
        };
        let (mtime, ctime) = ((m.mtime(), m.mtime_nsec()), (m.ctime(), m.ctime_nsec()));
        let line = format!(
            "{:o} {}:{} {} bytes, {} links, {mtime:?} {ctime:?} {content}",
            m.mode(),
            m.uid(),
            m.gid(),
            m.len(),
            m.nlink()
        );
        found.insert(entry.path().to_owned(), line);
    }
    found
}

fn assert_same_files(before: &BTreeMap<PathBuf, String>, after: &BTreeMap<PathBuf, String>, script: &str) {
    if before == after {
        return;
    }
    let names: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed: Vec<_> = names
        .into_iter()
        .filter(|n| before.get(*n) != after.get(*n))
        .map(|n| format!("{}: {:?} -> {:?}", n.display(), before.get(n), after.get(n)))
        .collect();
    panic!("the host's files changed:\n{}\nby:\n{script}", changed.join("\n"));
}

/// Compare line by line: `-` is what the jail did, `+` what happens outside.
pub fn assert_lines(inside: &str, outside: &str, script: &str) {
    if inside == outside {
        return;
    }
    let (a, b): (Vec<_>, Vec<_>) = (inside.lines().collect(), outside.lines().collect());
    let mut text = String::new();
    for n in 0..a.len().max(b.len()) {
        match (a.get(n), b.get(n)) {
            (Some(a), Some(b)) if a == b => text.push_str(&format!("  {a}\n")),
            (a, b) => {
                a.inspect(|a| text.push_str(&format!("- {a}\n")));
                b.inspect(|b| text.push_str(&format!("+ {b}\n")));
            }
        }
    }
    panic!("inside (-) is not what it is outside (+):\n{text}of:\n{script}");
}

/// Whether a program is in the PATH of the tests; says so when not.
pub fn has(program: &str) -> bool {
    let found = SYSTEM_PATH.split(':').any(|d| Path::new(d).join(program).exists());
    if !found {
        skip(&format!("{program} is not installed"));
    }
    found
}

/// Say why a test does not test.
pub fn skip(why: &str) {
    eprintln!("SKIP: {why}");
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// `bytes` as an argument or a name.
pub fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}
