//! Commands that share the jail of a workspace.

mod files;
mod fork;
mod host;
mod layers;
mod limits;
mod limits_own;
mod mounts;
mod races;
mod share;
mod sparse;
mod stop;

use std::ffi::OsStr;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::common;
use crate::yard::{Said, Yard, eventually, said};

/// A workspace over a directory with `./life` in it. What runs in it is ended when this is dropped.
pub struct Shared {
    pub yard: Yard,
}

const NAME: &str = "api";

impl Shared {
    /// With settings that it keeps. `None`, with the reason printed, where this machine can have no jails.
    pub fn new(settings: &[&str]) -> Option<Shared> {
        let shared = Shared { yard: Yard::new()? };
        let words = ["create", NAME, "--from-dir", "."];
        let made = said(&mut shared.aj(&[&["workspace"], &words[..], settings].concat()));
        assert_eq!(made.fate, 0, "{made:#?}");
        Some(shared)
    }

    pub fn aj(&self, words: &[&str]) -> Command {
        let mut aj = self.yard.sh("exec \"$AJ\" \"$@\"");
        aj.arg("sh").args(words);
        aj
    }

    /// `aj exec OPTIONS api -- COMMAND`.
    pub fn exec(&self, options: &[&str], command: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let options = options.iter().copied().chain([NAME]);
        self.yard.exec(options, command)
    }

    /// The same of a script, to its end; its stdout.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        let ran = said(&mut self.exec(&[], ["sh", "-c", script]));
        assert_eq!((ran.fate, ran.err.as_str()), (0, ""), "{ran:#?}");
        ran.out
    }

    /// `aj workspace WORD api OPTIONS`.
    pub fn ws(&self, word: &str, options: &[&str]) -> Said {
        said(&mut self.aj(&[&["workspace", word, NAME], options].concat()))
    }

    /// `aj workspace show api --json`.
    #[track_caller]
    pub fn shown(&self) -> Value {
        let shown = self.ws("show", &["--json"]);
        serde_json::from_str(&shown.out).unwrap_or_else(|e| panic!("{e}: {shown:#?}"))
    }

    /// Whether its jail ends within `limit`.
    pub fn ends(&self, limit: Duration) -> bool {
        eventually(limit, || self.shown()["live"].is_null())
    }

    /// The process that holds its jail.
    #[track_caller]
    pub fn holder(&self) -> i32 {
        let shown = self.shown();
        i32::try_from(shown["live"]["pid"].as_i64().unwrap_or_else(|| panic!("{shown:#}"))).unwrap()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        drop(self.aj(&["workspace", "stop", NAME, "--kill"]).output());
        // An overlay's working directory, which an ordinary user has to open before it is removed.
        drop(Command::new("chmod").args(["-R", "u+rwX"]).arg(self.yard.state()).output());
    }
}

/// Whether there is a Python to serve and to connect with.
pub fn python() -> bool {
    let there = common::without_tools(&mut Command::new("python3")).args(["-c", ""]).output();
    there.is_ok_and(|o| o.status.success())
}
