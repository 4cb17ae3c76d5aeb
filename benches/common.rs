//! What the benchmarks share: a workspace with static programs in it, and a little arithmetic.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A workspace and an `aj` state of its own.
#[derive(Clone)]
pub struct Place {
    dir: Rc<tempfile::TempDir>,
    pub ws: PathBuf,
}

const NOOP: &str = "int main(void) { return 0; }";
const POUR: &str = r#"
#include <stdlib.h>
#include <unistd.h>
int main(int c, char **v) {
    size_t total = strtoull(v[1], 0, 0), block = strtoull(v[2], 0, 0);
    char *b = malloc(block);
    for (size_t i = 0; i < block; i++) b[i] = i * 7;
    while (c && total) {
        ssize_t n = write(1, b, total < block ? total : block);
        if (n < 0) return 1;
        total -= n;
    }
    return 0;
}"#;

impl Place {
    /// With these of the programs `noop` and `pour`, built by `cc`.
    pub fn new(programs: &[&str]) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let ws = dir.path().join("ws");
        std::fs::create_dir(&ws).unwrap();
        for name in programs {
            let source = dir.path().join(format!("{name}.c"));
            std::fs::write(&source, if *name == "noop" { NOOP } else { POUR }).unwrap();
            let cc =
                Command::new("cc").args(["-O2", "-static", "-o"]).arg(ws.join(name)).arg(&source).status();
            assert!(cc.is_ok_and(|s| s.success()), "the benchmarks need `cc` and a static C library");
        }
        Place { dir: Rc::new(dir), ws }
    }

    /// `aj WORDS` in the workspace.
    pub fn aj(&self, words: &[&str]) -> Command {
        let aj = std::env::var_os("AJ_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_aj").into());
        let mut aj = Command::new(aj);
        // No tools of whoever measures.
        for flavor in agentjail::policy::flavor::built_in() {
            for (name, _) in flavor.places.iter() {
                aj.env_remove(name);
            }
        }
        aj.args(words)
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .current_dir(&self.ws)
            .env("AJ_STATE_DIR", self.dir.path().join("state"))
            .env("AJ_CONFIG_DIR", self.dir.path().join("config"));
        aj
    }
}

/// Lay out rustup, nvm, pyenv, uv and volta in `home`, as their installers do. Returns the PATH.
pub fn five_managers(home: &std::path::Path) -> String {
    let path = [".cargo/bin", ".nvm/versions/node/v20.1.0/bin", ".pyenv/shims", ".local/bin", ".volta/bin"];
    let more = [
        ".rustup/toolchains",
        ".nvm/.git",
        ".nvm/versions/node/v18.0.0/bin",
        ".pyenv/.git",
        ".pyenv/versions/3.12.1/bin",
        ".pyenv/versions/3.11.7/bin",
        ".local/share/uv/python",
        ".local/share/uv/tools",
        ".volta/tools/image/node/20.1.0",
    ];
    for dir in path.iter().chain(&more) {
        std::fs::create_dir_all(home.join(dir)).unwrap();
    }
    std::fs::write(home.join(".volta/layout.v4"), "").unwrap();
    let path: Vec<String> = path.iter().map(|dir| format!("{}/{dir}", home.display())).collect();
    format!("{}:/usr/local/bin:/usr/bin:/bin", path.join(":"))
}

/// The first number on the command line, or `otherwise`.
pub fn rounds(otherwise: usize) -> usize {
    std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(otherwise)
}

pub fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times[times.len() / 2]
}

/// One command, and how long its runs took.
pub struct Row {
    pub name: &'static str,
    pub command: Box<dyn Fn() -> Command>,
    pub took: Vec<Duration>,
}

impl Row {
    pub fn new(name: &'static str, command: Box<dyn Fn() -> Command>) -> Row {
        Row { name, command, took: Vec::new() }
    }

    /// The shortest run and the median.
    pub fn times(&self) -> (Duration, Duration) {
        (*self.took.iter().min().unwrap(), median(&self.took))
    }
}

/// Run the commands in turns, `count` times each after a few that do not count.
pub fn take_turns(rows: &mut [Row], count: usize) {
    for round in 0..count + 5 {
        for row in &mut *rows {
            let mut command = (row.command)();
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let start = Instant::now();
            let status = command.status().unwrap();
            let took = start.elapsed();
            assert!(status.success(), "{}: {status}", row.name);
            if round >= 5 {
                row.took.push(took);
            }
        }
    }
}

/// Print the rows, as ratios to the first.
pub fn print_ratios(rows: &[Row]) {
    let base = rows[0].times();
    println!("{:34} {:>9} {:>6} {:>9} {:>6}", "", "min ms", "×", "median", "×");
    for row in rows {
        let (min, med) = row.times();
        println!(
            "{:34} {:9.3} {:6.2} {:9.3} {:6.2}",
            row.name,
            min.as_secs_f64() * 1e3,
            min.as_secs_f64() / base.0.as_secs_f64(),
            med.as_secs_f64() * 1e3,
            med.as_secs_f64() / base.1.as_secs_f64(),
        );
    }
}

/// bubblewrap with the same three binds (system, configuration, workspace), a proc and a dev, running `noop`.
#[allow(dead_code, reason = "not every benchmark compares")]
pub fn bwrap(place: &Place) -> Option<Box<dyn Fn() -> Command>> {
    let ws = place.ws.clone();
    let make = move || {
        let mut c = Command::new("bwrap");
        c.args(["--unshare-all", "--die-with-parent", "--new-session", "--ro-bind", "/usr", "/usr"]);
        for name in ["bin", "lib", "lib64"] {
            if Path::new("/").join(name).is_symlink() {
                c.args(["--symlink", &format!("usr/{name}"), &format!("/{name}")]);
            }
        }
        c.args([
            "--ro-bind",
            "/etc",
            "/etc",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--tmpfs",
            "/tmp",
            "--bind",
        ]);
        c.arg(&ws).arg(&ws).arg("--chdir").arg(&ws).arg("./noop");
        c
    };
    match make().stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(status) if status.success() => Some(Box::new(make)),
        _ => {
            println!("no bwrap that works here");
            None
        }
    }
}
