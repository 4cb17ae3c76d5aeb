//! `aj fs`, `aj cp` and `aj search`: what they show is what the jail saw, what they change is what the next
//! command finds, and nothing that a jail or a repository planted redirects, hangs or defaces them.

mod attacks;
mod baseless;
mod copy;
mod property;
mod search;
mod verbs;

use std::ffi::OsStr;
use std::io::Write;
use std::process::Stdio;

use crate::common::{Ran, aj};
use crate::real::project::Project;

/// A project over which a jail has done what `script` says, and its id.
fn after(p: &Project, script: &str) -> String {
    let ran = p.aj(["exec", "-q", "--", "sh", "-c", script]);
    assert_eq!(ran.code, Some(0), "{script}: {ran:#?}");
    p.newest()
}

/// `aj` with these words and this on stdin.
fn fed<S: AsRef<OsStr>>(p: &Project, words: impl IntoIterator<Item = S>, stdin: &[u8]) -> Ran {
    let mut child = p
        .command(aj())
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses does not read.
    child.stdin.take().unwrap().write_all(stdin).ok();
    Ran::from(child.wait_with_output().unwrap())
}

#[track_caller]
fn json(ran: &Ran) -> serde_json::Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:#?}"))
}

/// An error with this exit code and code, and nothing on stdout.
#[track_caller]
fn fails(ran: &Ran, code: i32, said: &str) {
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{ran:#?}");
    assert!(ran.stderr.contains("aj: error: ") && ran.stderr.contains(said), "no {said:?} in {ran:#?}");
}
