//! `kill -9` at every step of what changes workspaces: the next command works, and nothing that a command
//! reported is lost.

use std::os::unix::process::ExitStatusExt;

use crate::common::{Ran, aj};
use crate::real::project::Project;

/// Run `aj` with `words`, killed at its `n`th change of the state directory. `false`: it came to its end.
#[track_caller]
fn killed_at(p: &Project, n: u32, words: &[&str]) -> bool {
    let mut command = p.command(aj());
    let output = command.args(words).env("AJ_TEST_KILL_AT", n.to_string()).output().unwrap();
    if output.status.signal() == Some(9) {
        return true;
    }
    assert!(output.status.success(), "{words:?}: {output:?}");
    false
}

#[track_caller]
fn said(p: &Project, name: &str, script: &str) -> String {
    p.runs(&["exec", name, "--", "sh", "-c", script]).stdout
}

fn names(p: &Project) -> Vec<String> {
    let listed = p.runs(&["ws", "list"]).stdout;
    let mut names: Vec<String> = listed.lines().map(|l| l.split('\t').next().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// What lies in the directory of all workspaces.
fn litter(p: &Project) -> Vec<String> {
    let entries = std::fs::read_dir(p.state().join("workspaces")).unwrap();
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|n| n.starts_with('.')).collect()
}

/// Debug builds alone can be killed so.
fn can_be_killed(p: &Project) -> bool {
    if killed_at(p, 1, &["ws", "create", "first"]) {
        return true;
    }
    eprintln!("SKIP: this aj is no debug build");
    false
}

#[test]
fn making_renaming_and_removing() {
    let p = Project::new();
    if !can_be_killed(&p) {
        return;
    }
    p.write("f", "host\n");
    let steps = (1..).find(|n| {
        let killed = killed_at(&p, *n, &["ws", "create", "w", "--from-dir", "."]);
        // It is there whole, or the name is free.
        if names(&p).is_empty() {
            p.runs(&["ws", "create", "w", "--from-dir", "."]);
        }
        assert_eq!(said(&p, "w", "cat f"), "host\n", "{n}");
        p.runs(&["ws", "rm", "w"]);
        !killed
    });
    assert!(steps.unwrap() > 8, "{steps:?}");
    p.runs(&["ws", "create", "a"]);
    assert_eq!(litter(&p), [""; 0], "cleaned up by the next one");
    said(&p, "a", "echo data > d");
    let steps = (1..).find(|n| {
        let killed = killed_at(&p, *n, &["ws", "rename", "a", "b"]);
        let now = names(&p);
        assert!(now == ["a"] || now == ["b"], "{n}: {now:?}");
        assert_eq!(said(&p, &now[0], "cat d"), "data\n");
        // Neither name is lost to a link that leads nowhere.
        let other = if now == ["a"] { "b" } else { "a" };
        p.runs(&["ws", "create", other]);
        p.runs(&["ws", "rm", other]);
        if now == ["b"] {
            p.runs(&["ws", "rename", "b", "a"]);
        }
        !killed
    });
    assert!(steps.unwrap() > 3, "{steps:?}");
    let steps = (1..).find(|n| {
        if names(&p).is_empty() {
            p.runs(&["ws", "create", "a"]);
            said(&p, "a", "echo data > d");
        }
        let killed = killed_at(&p, *n, &["ws", "rm", "a"]);
        if names(&p) == ["a"] {
            assert_eq!(said(&p, "a", "cat d"), "data\n");
        }
        !killed
    });
    assert!(steps.unwrap() > 2, "{steps:?}");
    p.runs(&["ws", "create", "last"]);
    assert_eq!(litter(&p), [""; 0]);
}

#[test]
fn forking() {
    let p = Project::new();
    if !can_be_killed(&p) {
        return;
    }
    p.write("f", "host\n");
    p.write(".env", "SECRET=1\n");
    p.runs(&["ws", "create", "w", "--from-dir", "."]);
    let look = "cat f d/n ~/h /output/o; ls -A";
    let mut wanted = String::from("host\n");
    // Every time there is something to seal, and now and then there are so many layers that some are made one.
    let steps = (1..).find(|n| {
        said(
            &p,
            "w",
            &format!("echo {n} >> f; mkdir -p d; echo {n} > d/n; echo {n} > ~/h; echo {n} > /output/o"),
        );
        wanted.push_str(&format!("{n}\n"));
        let all = format!("{wanted}{n}\n{n}\n{n}\nd\nf\n");
        let killed = killed_at(&p, *n, &["ws", "fork", "w", "--name", "fork"]);
        let ran = Ran::from(p.command(aj()).args(["diff", "--name-only", "w"]).output().unwrap());
        assert_eq!(ran.stdout, "d/n\nf\n", "{n}: {ran:#?}");
        assert_eq!(said(&p, "w", look), all, "{n}");
        if names(&p).contains(&"fork".to_owned()) {
            assert_eq!(said(&p, "fork", look), all, "{n}");
            p.runs(&["ws", "rm", "fork"]);
        }
        !killed
    });
    assert!(steps.unwrap() > 20, "{steps:?}");
    p.runs(&["ws", "rm", "w"]);
    assert_eq!(std::fs::read_dir(p.state().join("layers")).unwrap().count(), 0, "no layer is left behind");
}
