//! Jobs, driven as a user drives them: what starts, what is kept, what is left, and what a hostile command
//! can do to its log.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::yard::{Said, Yard, eventually, said};

mod ends;
mod events;
mod http;
mod log;
mod start;

/// A yard whose jobs are gone when it is.
pub struct Jobs(pub Yard);

impl Jobs {
    pub fn new() -> Option<Jobs> {
        Yard::new().map(Jobs)
    }

    /// `aj WORDS`.
    pub fn aj(&self, words: &[&str]) -> Command {
        let mut aj = self.0.sh("exec \"$AJ\" \"$@\"");
        aj.arg("aj").args(words);
        aj
    }

    #[track_caller]
    pub fn said(&self, words: &[&str]) -> Said {
        said(&mut self.aj(words))
    }

    /// The same, which goes well: what it says on stdout.
    #[track_caller]
    pub fn out(&self, words: &[&str]) -> String {
        let said = self.said(words);
        assert_eq!(said.fate, 0, "{words:?}: {said:#?}");
        said.out
    }

    /// Start a job with these flags, and `sh -c SCRIPT` as its command: its id.
    #[track_caller]
    pub fn start(&self, flags: &[&str], script: &str) -> String {
        let words = [&["job", "start"], flags, &["--", "sh", "-c", script]].concat();
        self.out(&words).trim().to_owned()
    }

    #[track_caller]
    pub fn json(&self, words: &[&str]) -> Value {
        let out = self.out(&[words, &["--json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
    }

    #[track_caller]
    pub fn show(&self, id: &str) -> Value {
        self.json(&["job", "show", id])
    }

    #[track_caller]
    pub fn status(&self, id: &str) -> String {
        self.show(id)["status"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn wait_for(&self, id: &str, status: &str) {
        let mut seen = String::new();
        let came = eventually(Duration::from_secs(15), || {
            seen = self.status(id);
            seen == status
        });
        assert!(came, "{id} is {seen}, not {status}: {:#?}", self.said(&["job", "logs", id]));
    }

    pub fn pid(&self, id: &str) -> i32 {
        i32::try_from(self.show(id)["pid"].as_i64().unwrap()).unwrap()
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        let mut all = self.aj(&["job", "list", "-q", "--limit", "0"]);
        for id in String::from_utf8_lossy(&all.output().unwrap().stdout).lines() {
            drop(self.aj(&["job", "rm", "--force", id]).output());
        }
    }
}

pub fn kill_hard(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).ok();
}
