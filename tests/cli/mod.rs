//! The command line as a user meets it: streams, exit codes, errors.

mod again;
mod caches;
mod changes;
mod doctor;
mod forks;
mod gc;
mod imports;
mod install;
mod json;
mod kept;
mod patch;
mod policy;
mod promote;
mod shell;
mod stats;
mod tools;
mod top;
mod volumes;
mod workspace_faults;
mod workspaces;

use serde_json::Value;

use crate::real::project::Project;

/// What `aj --json WORDS` says.
#[track_caller]
fn json(p: &Project, words: &[&str]) -> Value {
    let words: Vec<&str> = ["--json"].iter().chain(words).copied().collect();
    serde_json::from_str(&p.runs(&words).stdout).unwrap()
}

/// `aj WORDS` ends with `code`, prints nothing, and tells all that is to be `said` on stderr.
#[track_caller]
fn fails(p: &Project, words: &[&str], code: i32, said: &[&str]) {
    let ran = p.aj(words);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{ran:#?}");
    for word in said {
        assert!(ran.stderr.contains(word), "no {word:?} in {ran:#?}");
    }
}
