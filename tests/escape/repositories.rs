//! Repositories that point out of themselves: nothing outside becomes visible, and what was refused is
//! named in one line.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::common::Ran;
use crate::real::project::{Project, has, is_root, skip};

/// A hostile tree, and beside it what it is after: a private repository with a worktree, and keys.
struct Trap {
    p: Project,
}

impl Trap {
    fn new() -> Option<Trap> {
        if !has("git") {
            return None;
        }
        let p = Project::in_jails()?;
        p.outside(
            "cd ..; git config --global user.name x; git config --global user.email x@y; mkdir -p home/.ssh; echo KEY > home/.ssh/id; \
             git init -q -b main private; cd private; echo SECRET > secret; git add .; git commit -q -m SECRET; \
             git worktree add -q ../other 2>/dev/null",
        );
        Some(Trap { p })
    }

    fn private(&self) -> PathBuf {
        std::fs::canonicalize(self.p.top().join("private")).unwrap()
    }

    /// Plant it, run, and see that nothing is there. What was said.
    #[track_caller]
    fn springs(&self, plant: &str) -> Ran {
        let top = std::fs::canonicalize(self.p.top()).unwrap();
        self.p.outside(&format!("rm -rf .git; P={}; {plant}", self.private().display()));
        let script = format!(
            "cd {0} && ls -a private other home state 2>/dev/null; \
             find {0} -name secret -o -name id -o -name packed-refs | grep -v ^{0}/p/; \
             cd {0}/p && timeout 5 git cat-file --batch-all-objects --batch 2>/dev/null | grep -a -c SECRET; true",
            top.display()
        );
        let ran = self.p.aj(["exec", "--", "bash", "-c", &script]);
        assert_eq!((ran.code, ran.stdout.trim()), (Some(0), "0"), "{plant}\n{ran:#?}");
        let before = Instant::now();
        let mut said = self.p.aj(["exec", "--", "true"]);
        assert!(before.elapsed() < Duration::from_secs(5), "{plant}");
        assert_eq!(said.code, Some(0), "the run goes on: {plant}\n{said:#?}");
        said.stderr = said.stderr.lines().filter(|l| l.contains("warning: ")).collect::<Vec<_>>().join("\n");
        said
    }
}

#[test]
fn a_git_pointer_to_what_is_not_this_trees_is_refused_by_name() {
    let Some(t) = Trap::new() else { return };
    let home = std::fs::canonicalize(t.p.top().join("home")).unwrap();
    for (plant, why) in [
        ("echo \"gitdir: $HOME/.ssh\" > .git", "secrets are kept in `.ssh`"),
        ("echo 'gitdir: ../home/.ssh/../.ssh' > .git", "secrets are kept in `.ssh`"),
        ("echo \"gitdir: $HOME\" > .git", "it has your home directory in it"),
        ("echo 'gitdir: ../..' > .git", "it has your home directory in it"),
        ("echo 'gitdir: ../state' > .git", "aj's state directory is there"),
        ("echo 'gitdir: /proc/self/root' > .git", "a place of the machine"),
        ("echo 'gitdir: /etc' > .git", "a place of the machine"),
        ("echo \"gitdir: $P/.git\" > .git", "nothing in it says that it belongs to this tree"),
        ("echo \"gitdir: $P\" > .git", "nothing in it says that it belongs to this tree"),
        ("echo \"gitdir: $P/.git/worktrees/other\" > .git", "it is the worktree of another directory"),
        ("ln -s $P/.git .git", "nothing in it says that it belongs to this tree"),
        ("ln -s $P/.git/worktrees/other .git", "it is the worktree of another directory"),
        ("ln -s $P/.git link; echo 'gitdir: ./link' > .git", "nothing in it says"),
        (
            "rm -f link; ln -s $P/.git/worktrees link; echo 'gitdir: link/other' > .git",
            "it is the worktree of another",
        ),
        ("ln -s ../home/.ssh .git", "secrets are kept in `.ssh`"),
        ("echo 'gitdir: ./gone' > .git", "there is no such directory"),
        ("printf 'gitdir: /tmp/a\\nb\\033[31mred' > .git", "`/tmp/a\\nb\\x1b[31mred`, which is not shown"),
        ("printf 'gitdir: /tmp\\0/x' > .git", "it names nothing"),
        ("ln -s .git .git", "cannot be followed (ELOOP)"),
        ("mkfifo .git", "neither a directory nor a file"),
        ("truncate -s 10G .git", "is too long"),
        ("head -c 5000 /dev/zero | tr '\\0' x > .git", "is too long"),
        ("echo \"$P/.git\" > .git", "does not begin with `gitdir: `"),
        // In the tree is what the pointer names, and it leads on.
        (
            "mkdir -p fake && echo 'ref: refs/heads/main' > fake/HEAD && echo \"$P/.git\" > fake/commondir && \
             echo ../.git > fake/gitdir && echo 'gitdir: ./fake' > .git",
            "it is none of its worktrees",
        ),
        ("rm fake/commondir; mkfifo fake/commondir; echo 'gitdir: ./fake' > .git", "is no file"),
        (
            "rm fake/commondir; ln -s $P/.git/HEAD fake/commondir; echo 'gitdir: ./fake' > .git",
            "cannot be opened (ELOOP)",
        ),
        (
            "rm fake/commondir; echo \"$HOME/.ssh\" > fake/commondir; echo 'gitdir: ./fake' > .git",
            "secrets are kept in",
        ),
    ] {
        let said = t.springs(plant);
        assert_eq!(said.stderr.lines().count(), 1, "one line: {plant}\n{said:#?}");
        assert!(said.stderr.contains(why), "{plant}\n{said:#?}");
        assert!(!said.stderr.contains('\x1b') && !said.stderr.contains("KEY"), "{said:#?}");
    }
    // Teeth: a pointer that leads back is followed.
    let p = t.private();
    t.p.outside(&format!("rm -rf .git; git -C {} worktree add -q -f ../p2 -b p2; mv ../p2/.git .git; cd {0}/.git/worktrees/p2; echo '{}/.git' > gitdir", p.display(), std::fs::canonicalize(t.p.dir()).unwrap().display()));
    let ran = t.p.try_inside(&[], &format!("git log --format=%s; ls {}/.git", p.display()));
    assert!(ran.stdout.starts_with("SECRET\n") && ran.stdout.contains("objects"), "{ran:#?}");
    assert!(!ran.stdout.contains(&*home.to_string_lossy()));
}

#[test]
fn a_repository_that_borrows_what_it_never_saw_is_not_shown_it() {
    let Some(t) = Trap::new() else { return };
    let init = "git init -q -b main .; git commit -q --allow-empty -m own; A=.git/objects/info/alternates";
    for (plant, why) in [
        ("echo \"$P/.git/objects\" > $A", "nothing that this repository names is in it"),
        ("echo ../../../private/.git/objects > $A", "nothing that this repository names is in it"),
        ("echo \"$HOME/.ssh\" > $A", "secrets are kept in"),
        ("echo / > $A", "it has your home directory in it"),
        ("echo \"$P\" > $A", "not the `objects` of a git directory"),
        ("mkfifo $A", "is no file"),
        ("truncate -s 1G $A", "is too long"),
        ("rm -r .git/objects; ln -s $P/.git/objects .git/objects", "is a link to `"),
        ("ln -s $P/.git/objects .git/o2; echo ../o2 > $A", "nothing that this repository names is in it"),
        (
            "for i in $(seq 50); do echo $PWD/.git/objects/../objects; done > $A",
            "more stores than are looked at",
        ),
    ] {
        let said = t.springs(&format!("{init}; {plant}"));
        assert_eq!(said.stderr.lines().count(), 1, "one line: {plant}\n{said:#?}");
        assert!(said.stderr.contains(why), "{plant}\n{said:#?}");
    }
    // Teeth: who has seen what is there gets to see it, and the user may say so.
    let id = t.p.outside("git -C ../private rev-parse HEAD");
    let see = "git cat-file -p HEAD | tail -1";
    t.p.outside(&format!("rm -rf .git; git init -q -b main .; echo {0}/.git/objects > .git/objects/info/alternates; git update-ref HEAD {id}", t.private().display()));
    let ran = t.p.try_inside(&[], see);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "SECRET\n"), "{ran:#?}");
    let ran = t.p.try_inside(&[], &format!("touch {}/.git/objects/x", t.private().display()));
    assert_ne!(ran.code, Some(0), "read-only: {ran:#?}");
}

#[test]
fn links_in_a_git_directory_lead_nowhere_and_are_named_when_git_fails() {
    let Some(t) = Trap::new() else { return };
    for (plant, name) in [
        ("rm -r .git/refs; ln -s $P/.git/refs .git/refs", "`.git/refs` is a link to `"),
        ("rm -r .git/HEAD; ln -s $P/.git/HEAD .git/HEAD", "`.git/HEAD` is a link to `"),
        ("echo $P/.git > .git/commondir", "`.git/commondir` says"),
    ] {
        t.springs(&format!("git init -q -b main .; {plant}"));
        let ran = t.p.aj(["exec", "--", "git", "log"]);
        assert!(ran.code != Some(0) && ran.stderr.contains(name), "{plant}\n{ran:#?}");
    }
}

#[test]
fn a_pointer_into_the_repository_of_somebody_else_is_refused_although_it_leads_back() {
    let Some(t) = Trap::new() else { return };
    if !is_root() {
        skip("only root can give files away");
        return;
    }
    let p = t.private();
    let tree = std::fs::canonicalize(t.p.dir()).unwrap();
    let back = |owner: &str, mode: &str| {
        t.p.outside(&format!(
            "cd {0}; chown -R 0:0 .; rm -rf .git/worktrees; git worktree add -q -f ../p3 -B p3; cp ../p3/.git {1}/.git; rm -rf ../p3; \
             echo {1}/.git > .git/worktrees/p3/gitdir; chown -R {owner} .; chmod {mode} .git",
            p.display(),
            tree.display()
        ));
        t.p.aj(["exec", "--", "git", "log", "-1", "--format=%s"])
    };
    let own = back("0:0", "755");
    assert_eq!((own.code, own.stdout.as_str()), (Some(0), "SECRET\n"), "{own:#?}");
    for (owner, mode, why) in
        [("1234:1234", "755", "it belongs to user 1234"), ("0:0", "777", "everyone may write it")]
    {
        let ran = back(owner, mode);
        assert!(ran.code != Some(0) && ran.stderr.contains(why), "{ran:#?}");
    }
}

#[test]
fn what_a_jail_wrote_into_a_shared_directory_does_not_run_unannounced() {
    let Some(t) = Trap::new() else { return };
    let at = |name: &str| t.p.top().join(name);
    let git = t.private().join(".git");
    let run = |script: &str, words: &[&str]| {
        let mut command = t.p.command(crate::common::aj());
        let words: Vec<&str> =
            words.iter().copied().chain(script.split('\x1f').filter(|s| !s.is_empty())).collect();
        Ran::from(command.current_dir(at("other")).args(words).output().unwrap())
    };
    let g = git.display();
    let evil = "#!/bin/sh\\ntouch ~/pwned\\n";
    let fsmonitor = "[core]\\n\\tfsmonitor = \\\"touch ~/pwned; false\\\"\\n";
    let plants: Vec<(String, &str)> = vec![
        (
            format!("printf '{evil}' > {g}/hooks/post-checkout; chmod 755 {g}/hooks/post-checkout"),
            "hooks/post-checkout",
        ),
        (format!("printf \"{fsmonitor}\" >> {g}/config"), "config"),
        (format!("printf \"{fsmonitor}\" > {g}/config.worktree"), "config.worktree"),
        (
            format!("printf \"{fsmonitor}\" > {g}/worktrees/other/config.worktree"),
            "worktrees/other/config.worktree",
        ),
        (format!("mkdir -p {g}/info; echo '* filter=x' > {g}/info/attributes"), "info/attributes"),
        (format!("echo /tmp > {g}/worktrees/other/commondir"), "worktrees/other/commondir"),
        (format!("echo /tmp/x/.git > {g}/worktrees/other/gitdir"), "worktrees/other/gitdir"),
        (format!("echo /tmp > {g}/commondir"), "commondir"),
        (format!("mkdir -p {g}/modules/m/hooks; echo x > {g}/modules/m/hooks/x"), "modules/m/hooks/x"),
        (format!("mkdir -p {g}/modules/m; echo x > {g}/modules/m/config"), "modules/m/config"),
        (
            format!("mkdir -p {g}/rebase-merge; echo 'exec x' > {g}/rebase-merge/git-rebase-todo"),
            "rebase-merge/git-rebase-todo",
        ),
        (
            format!(
                "mkdir -p {g}/worktrees/other/rebase-merge; echo 'exec x' > {g}/worktrees/other/rebase-merge/git-rebase-todo"
            ),
            "git-rebase-todo",
        ),
        (format!("echo /home > {g}/objects/info/alternates"), "objects/info/alternates"),
        (format!("ln -sf ../../.bashrc {g}/logs/HEAD"), "logs/HEAD"),
        (format!("ln -s /tmp {g}/refs/heads/out"), "refs/heads/out"),
        (format!("rm -r {g}/hooks; ln -s /tmp {g}/hooks"), "hooks"),
        (format!("echo x > {g}/new-in-some-later-git"), "new-in-some-later-git"),
        ("rm .git; mkdir -p evil/objects evil/refs; echo 'gitdir: ./evil' > .git".to_owned(), ".git"),
    ];
    for (plant, name) in plants {
        let before = crate::real::project::snapshot(&git);
        let ran = run(
            &format!("bash\x1f-c\x1f{plant} && git -C {g}/.. branch -f harmless HEAD 2>/dev/null; true"),
            &["exec", "--"],
        );
        assert_eq!(ran.code, Some(0), "{plant}: {ran:#?}");
        assert_eq!(before, crate::real::project::snapshot(&git), "{plant}");
        let applied = run("", &["apply"]);
        assert_eq!(applied.code, Some(4), "{plant}: {applied:#?}");
        let left: Vec<&str> = applied.stdout.lines().skip_while(|l| !l.starts_with("Left out")).collect();
        assert!(left.iter().any(|l| l.contains(name)), "{name} in {applied:#?}");
        let status = t.p.outside("cd ../other; git status --porcelain; git checkout -q -f; git fsck 2>&1 | grep -v dangling || true");
        assert!(!Path::new(&at("home/pwned")).exists(), "{plant}: {status}");
        t.p.outside("rm -rf ../other/evil");
    }
    // Teeth: with the user's word it comes, and git runs it.
    let plant = format!("printf '{evil}' > {g}/hooks/post-checkout; chmod 755 {g}/hooks/post-checkout");
    assert_eq!(run(&format!("bash\x1f-c\x1f{plant}"), &["exec", "--"]).code, Some(0));
    assert_eq!(run("", &["apply", "--allow-exec-files"]).code, Some(0));
    t.p.outside("cd ../other; git checkout -q -f");
    assert!(at("home/pwned").exists());
}
