//! The tree that a command sees is the project's, and it starts where its caller is.

use std::path::Path;
use std::process::Command;

use super::project::{Project, has, is_root};
use crate::common::{Ran, aj};

fn in_dir(p: &Project, dir: &Path, words: &[&str]) -> Ran {
    let mut command: Command = p.command(aj());
    command.current_dir(dir).env("PWD", dir).args(words);
    Ran::from(command.output().unwrap())
}

#[test]
fn a_command_below_the_top_sees_the_project_and_starts_where_it_was() {
    let p = Project::new();
    p.write("lib/code", "lib");
    p.write("app/src/main", "main");
    let deep = p.dir().join("app/src");
    let look = ["exec", "--", "sh", "-c", "pwd; cat main; cat ../../lib/code; echo x > ../../new"];
    let alone = in_dir(&p, &deep, &look);
    assert!(alone.stderr.contains("lib/code"), "no project, no way up: {alone:?}");
    for mark in ["aj.toml", ".git"] {
        p.write(mark, "");
        let ran = in_dir(&p, &deep, &look);
        assert_eq!(ran.stdout, format!("{}\nmainlib", deep.display()), "{mark}: {ran:?}");
        let said = in_dir(&p, &deep, &["exec", "--dry-run", "--", "true"]).stdout;
        let tree = said.lines().next().unwrap();
        let top = p.dir().to_str().unwrap();
        assert!(tree.starts_with("tree") && tree.contains(top) && tree.ends_with(mark), "{said}");
        let here = in_dir(&p, &deep, &["exec", "--here", "--", "sh", "-c", "pwd; cat main; ls ../.."]);
        assert_eq!(here.stdout, format!("{}\nmainapp\n", deep.display()), "{here:?}");
        std::fs::remove_file(p.dir().join(mark)).unwrap();
    }
    // What the last of them changed is brought back from where it was run.
    let diff = in_dir(&p, &deep, &["diff"]);
    assert!(diff.stdout.contains("new"), "{diff:?}");
    assert_eq!(in_dir(&p, &deep, &["apply"]).code, Some(0));
    assert_eq!(std::fs::read_to_string(p.dir().join("new")).unwrap(), "x\n");
}

#[test]
fn a_mount_below_a_project_is_a_tree_of_its_own_for_who_is_in_it() {
    if !is_root() {
        eprintln!("SKIP: only root can mount");
        return;
    }
    let p = Project::new();
    p.write(".git/HEAD", "");
    p.write("data/.keep", "");
    let script = "mount -t tmpfs t data || exit 77; mkdir data/deep && cd data/deep && echo x > file && \
                  exec \"$AJ\" exec -- sh -c 'pwd; cat file; ls -A ..'";
    let mut command = p.command("unshare");
    let ran = Ran::from(command.args(["-m", "sh", "-c", script]).env("AJ", aj()).output().unwrap());
    if ran.code == Some(77) {
        eprintln!("SKIP: nothing can be mounted here");
        return;
    }
    assert_eq!(ran.stdout, format!("{}\nx\ndeep\n", p.dir().join("data/deep").display()), "{ran:?}");
}

#[test]
fn another_tree_can_be_named_and_its_policy_holds() {
    let p = Project::new();
    p.write("a/aj.toml", "[jail]\npids = 77\n");
    p.write("a/sub/file", "");
    p.write("b/file", "b");
    let (a, sub) = (p.dir().join("a"), p.dir().join("a/sub"));
    let pids = |dir: &Path, words: &[&str]| {
        let words = [&["exec", "--dry-run"], words, &["--", "true"]].concat();
        let said = in_dir(&p, dir, &words).stdout;
        said.lines().find(|l| l.starts_with("pids")).unwrap().to_owned()
    };
    assert!(pids(&sub, &[]).contains("77") && pids(&a, &["--here"]).contains("77"));
    assert!(!pids(&sub, &["--here"]).contains("77"), "a project's file is at its top");
    let ran = in_dir(&p, &sub, &["exec", "--root-dir", "../../b", "--", "sh", "-c", "pwd; cat file"]);
    assert_eq!(ran.stdout, format!("{}\nb", p.dir().join("b").display()), "{ran:?}");
    let ran = in_dir(&p, &sub, &["exec", "--root-dir", "..", "--cwd", ".", "--", "sh", "-c", "pwd"]);
    assert_eq!(ran.stdout, format!("{}\n", sub.display()), "{ran:?}");
    let ran = in_dir(&p, &sub, &["exec", "--root-dir", "nowhere", "--", "true"]);
    assert!(ran.code == Some(125) && ran.stderr.contains("ENOENT"), "{ran:?}");
    let ran = in_dir(&p, &sub, &["exec", "--cwd", "../..", "--", "true"]);
    assert_eq!(ran.code, Some(125), "{ran:?}");
}

#[test]
fn a_name_through_a_link_is_kept() {
    let p = Project::new();
    p.write(".git/HEAD", "");
    p.write("sub/file", "");
    let link = p.top().join("link");
    std::os::unix::fs::symlink(p.dir(), &link).unwrap();
    let ran = in_dir(&p, &link.join("sub"), &["exec", "--", "sh", "-c", "echo $PWD; ls ../..; ls $OLD"]);
    assert!(ran.stdout.starts_with(&format!("{}\n", link.join("sub").display())), "{ran:?}");
}

#[test]
fn git_works_from_a_directory_below_the_top() {
    if !has("git") {
        return;
    }
    let p = Project::new();
    p.outside("git init -q . && mkdir sub && echo 1 > sub/f && git add . && git -c user.name=n -c user.email=e commit -qm one");
    let script = "git status --short; echo 2 > f; git -c user.name=n -c user.email=e commit -qam two; git log --oneline | wc -l";
    let ran = in_dir(&p, &p.dir().join("sub"), &["exec", "--apply", "--", "sh", "-c", script]);
    assert_eq!(ran.stdout.trim(), "2", "{ran:?}");
    assert_eq!(p.outside("git log --oneline | wc -l; git status --short").trim(), "2");
}
