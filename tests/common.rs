//! What every test needs: the binary, the sources, a run of a command.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program under test. `AJ_BIN` names another one: CI runs these tests as a user who may not
/// read the target directory.
pub fn aj() -> PathBuf {
    std::env::var_os("AJ_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_aj")), PathBuf::from)
}

/// The checkout. Cargo names it at run time as well, and so does CI when it runs a copy.
pub fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

/// A program of `tests/programs` that was compiled before: `AJ_TEST_PROGRAMS` names the directory where
/// there is no compiler, as in the machines of `tests/vm`.
pub fn ready_program(name: &str) -> Option<PathBuf> {
    std::env::var_os("AJ_TEST_PROGRAMS").map(|dir| PathBuf::from(dir).join(name))
}

/// Whether the files in the checkout are to be rewritten instead of compared.
pub fn update() -> bool {
    std::env::var_os("UPDATE").is_some_and(|v| v == "1")
}

/// What programs of the system are found by.
pub const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Leave out what leads to the tool chains of whoever runs the tests: a jail would show them.
pub fn without_tools(command: &mut Command) -> &mut Command {
    for flavor in agentjail::policy::flavor::built_in() {
        for (name, _) in flavor.places.iter() {
            command.env_remove(name);
        }
    }
    command.env("PATH", SYSTEM_PATH)
}

/// Say why no jail can be tried on this machine. Where `JAILS_MUST_WORK` is set, as in `.ci/run`, that
/// is a failure: tests that all skip would pass for ever.
pub fn no_jails(reason: impl AsRef<str>) {
    let reason = reason.as_ref();
    assert!(std::env::var_os("JAILS_MUST_WORK").is_none(), "{reason}");
    eprintln!("SKIP: {reason}");
}

/// A run of `aj` with a quiet environment of its own.
pub fn run(words: &[&str]) -> Ran {
    let state = tempfile::tempdir().unwrap();
    let output = without_tools(&mut Command::new(aj()))
        .args(words)
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE")
        // Made by `aj`, for itself alone: what `tempdir` makes is open to whom the umask says.
        .env("AJ_STATE_DIR", state.path().join("state"))
        .env("AJ_CONFIG_DIR", state.path().join("config"))
        .output()
        .unwrap();
    Ran::from(output)
}

/// What a run left behind, as text.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Compare a file of the checkout with what it should hold, or write it when `UPDATE=1`.
pub fn assert_file(relative: &str, expected: &str) {
    let path = root().join(relative);
    if update() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, expected).unwrap();
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "`{relative}` is out of date; run `UPDATE=1 cargo test --test main docs`\n{}",
        first_difference(&found, expected)
    );
}

fn first_difference(found: &str, expected: &str) -> String {
    let pairs =
        found.lines().chain(std::iter::once("(end)")).zip(expected.lines().chain(std::iter::once("(end)")));
    match pairs.enumerate().find(|(_, (a, b))| a != b) {
        Some((n, (a, b))) => format!("line {}:\n- {a}\n+ {b}", n + 1),
        None => "the files differ in length".to_owned(),
    }
}

/// Every file below `dir` with this extension, sorted, as (path from the checkout, text).
pub fn files(dir: &str, extension: &str) -> Vec<(String, String)> {
    fn walk(dir: &Path, extension: &str, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, extension, into);
            } else if path.extension().is_some_and(|e| e == extension) {
                into.push(path);
            }
        }
    }
    let (root, mut found) = (root(), Vec::new());
    walk(&root.join(dir), extension, &mut found);
    found.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), text)
    };
    found.into_iter().map(read).collect()
}

/// Whether this kernel is older than that.
pub fn older_than(major: u32, minor: u32) -> bool {
    let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (major, minor)
}
