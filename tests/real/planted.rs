//! What a jail plants for the host's own git to run: announced before it arrives, or never run.

use super::project::{Project, has};

fn project() -> Option<Project> {
    if has("git") { Project::in_jails() } else { None }
}

/// Whether the planted command ran on the host.
fn ran(p: &Project) -> bool {
    p.top().join("home/pwned").exists()
}

#[test]
fn a_repository_made_in_two_runs_does_not_run_anything_unannounced() {
    let plant = "mkdir -p docs/refs && echo 'ref: refs/heads/main' > docs/HEAD && \
                 printf '[core]\\n\\trepositoryformatversion = 0\\n\\tbare = false\\n\\tworktree = .\\n\\tfsmonitor = \"touch ~/pwned; false\"\\n' > docs/config";
    let (complete, status) = ("mkdir -p docs/objects", "cd docs && git status 2>&1 || true");
    let Some(p) = project() else { return };
    p.outside(&format!("mkdir ../twin && cd ../twin && {plant} && {complete} && {status}"));
    assert!(ran(&p), "outside: git takes it for a repository");
    p.outside("rm ~/pwned");
    p.inside(plant);
    assert_eq!(p.aj(["apply"]).code, Some(0), "no repository yet");
    p.inside(complete);
    let applied = p.aj(["apply"]);
    assert_eq!(applied.code, Some(4), "{applied:#?}");
    p.outside(status);
    assert!(!ran(&p));
    assert_eq!(p.aj(["apply", "--allow-exec-files"]).code, Some(0));
    p.outside(status);
    assert!(ran(&p), "the user said so");
}

#[test]
fn hooks_that_lie_elsewhere_in_the_tree_are_announced() {
    let hook = "#!/bin/sh\\ntouch ~/pwned\\n";
    let commit = "git -c user.name=x -c user.email=x@y commit -q --allow-empty -m x 2>&1 || true";
    for (setup, file) in [
        ("mkdir -p tools/hooks && git config core.hooksPath tools/hooks", "tools/hooks/pre-commit"),
        ("mkdir scripts && ln -s ../../scripts/lint .git/hooks/pre-commit", "scripts/lint"),
        ("rm -r .git/hooks && mkdir hooks && ln -s ../hooks .git/hooks", "hooks/pre-commit"),
        ("git config core.fsmonitor \"$PWD/tools/watch\"", "tools/watch"),
    ] {
        let Some(p) = project() else { return };
        p.outside(&format!("git init -q . && {setup}"));
        p.inside(&format!(
            "mkdir -p $(dirname {file}) && printf '{hook}' > {file} && chmod 755 {file} && echo y > y"
        ));
        let diff = p.aj(["diff"]);
        assert!(diff.stdout.contains("left out by `aj apply`"), "{file}: {diff:#?}");
        let applied = p.aj(["apply"]);
        assert_eq!(applied.code, Some(4), "{file}: {applied:#?}");
        assert_eq!(p.outside("ls y"), "y\n");
        p.outside(&format!("git status -s; {commit}"));
        assert!(!ran(&p), "{file}");
        assert_eq!(p.aj(["apply", "--allow-exec-files"]).code, Some(0));
        p.outside(&format!("git status -s; {commit}"));
        assert!(ran(&p), "{file}: git would have run it");
    }
}
