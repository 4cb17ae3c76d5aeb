//! git over a repository that was made outside.

use super::project::{Project, has, is_root};
use crate::common::{Ran, aj};

fn repository() -> Project {
    let p = Project::new();
    p.outside(
        "git init -q -b main . && git config user.name me && git config user.email me@example.com && \
         mkdir -p src && for i in $(seq 50); do echo \"file $i\" > src/$i; done && printf 'target\\n' > .gitignore && \
         ln -s src/1 link && git add . && git commit -q -m first && echo two >> src/2 && git commit -q -a -m second && \
         git branch topic HEAD~1 && mkdir target && echo built > target/x",
    );
    p
}

#[test]
fn a_repository_of_the_host_is_clean_inside() {
    if !has("git") {
        return;
    }
    let p = repository();
    let ran = p.same("git status --porcelain; git log --format=%s; git diff HEAD~1 --stat; git fsck --strict 2>&1; git branch -a");
    assert!(!ran.stderr.contains("dubious"), "{ran:#?}");
    // The index of the host is good as it is: nothing is read again, nothing is written.
    assert_eq!(p.inside("git diff-files --name-only; git update-index --refresh; echo $?"), "0\n");
}

#[test]
fn commits_branches_rebases_stashes_and_worktrees_happen_inside_only() {
    if !has("git") {
        return;
    }
    let p = repository();
    let head = p.outside("git rev-parse HEAD");
    // Times are given, so that both sides make the same commits.
    let script = r#"
        export GIT_COMMITTER_DATE=2026-01-02T03:04:05Z GIT_AUTHOR_DATE=2026-01-02T03:04:05Z
        set -e
        echo new > new; git add new; git commit -q -m 'inside'; git rev-parse HEAD
        git checkout -q topic; echo t >> src/3; git commit -q -am topic; git rebase -q main; git log --format='%h %s'
        echo dirty >> src/4; git stash -q; git status --short; git stash pop -q; git status --short; git checkout -q -- .
        git worktree add -q wt main; git worktree list | wc -l
        git merge -q --no-ff -m merged main; git tag -a v1 -m v1; git describe; git gc -q; git fsck 2>&1
        git mv src/5 src/five; git rm -q src/6; git commit -q -m moved; git cherry-pick HEAD~1 -m 1 2>/dev/null || git cherry-pick --skip 2>/dev/null || true
        c=$(mktemp -d); git clone -q . $c/clone; git -C $c/clone log --format=%s | head -3; rm -rf $c
        git bisect start HEAD HEAD~2 >/dev/null 2>&1; git bisect reset >/dev/null 2>&1
        git reset -q --hard HEAD~1; git reflog | wc -l; git blame src/2 | cut -d' ' -f1; git grep -c two; git archive HEAD | tar -t | wc -l
        printf '#!/bin/sh\necho hook ran\n' > .git/hooks/pre-commit; chmod +x .git/hooks/pre-commit; git commit -q --allow-empty -m hooked 2>&1
    "#;
    let ran = p.same(script);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_ne!(p.outside("git rev-parse HEAD"), head, "the run outside did commit");
}

#[test]
fn the_callers_identity_commits_and_nothing_else_of_theirs_comes_along() {
    if !has("git") {
        return;
    }
    let p = Project::new();
    p.outside(
        "git config --global user.name 'Ann Lee'; git config --global user.email ann@example.com; \
         git config --global user.signingkey SECRET; git config --global credential.helper SECRET; git init -q -b main .",
    );
    let said = p.inside("git commit -q --allow-empty -m x && git log --format='%an <%ae> %cn' && git config --list --show-origin");
    assert!(said.starts_with("Ann Lee <ann@example.com> Ann Lee\n"), "{said}");
    assert!(!said.contains("SECRET"), "{said}");
    // What the repository says is stronger.
    p.outside("git config user.email work@example.com");
    assert_eq!(p.inside("git commit -q --allow-empty -m x && git log --format=%ae"), "work@example.com\n");
}

#[test]
fn what_the_callers_configuration_says_of_some_places_holds_there_inside() {
    if !has("git") {
        return;
    }
    let p = Project::new();
    p.outside(
        "git config --global user.name Ann; git config --global user.email home@x; git config --global color.diff.meta red; \
         git config --global pull.rebase true; git config --global alias.evil '!touch pwned'; \
         git config --global \"includeIf.gitdir:$(cd ..; pwd -P)/p/work/.path\" ~/work.inc; \
         git config --global 'includeIf.gitdir:~/nothing/.path' ~/other.inc; \
         printf '[user]\\n\\temail = work@x\\n\\tsigningkey = SECRET\\n[core]\\n\\thooksPath = SECRET\\n[commit]\\n\\tverbose = true\\n' > ~/work.inc; \
         printf '[user]\\n\\temail = wrong@x\\n' > ~/other.inc; \
         git init -q -b main .; git init -q -b main work/a; git -C work/a commit -q --allow-empty -m x; git -C work/a worktree add -q ../../linked",
    );
    let ask = "git config user.email; git config pull.rebase; git config color.diff.meta; git config commit.verbose";
    assert_eq!(p.inside(&format!("{ask} || true")), "home@x\ntrue\nred\n");
    // A linked worktree is where its repository is, as outside.
    for dir in ["work/a", "linked"] {
        let said = p.inside_with(
            &["--root-dir", dir],
            &format!("{ask}; git config --list --show-origin | grep -e SECRET -e evil; true"),
        );
        assert_eq!(said, p.outside(&format!("cd {dir} && {{ {ask}; }}")), "{dir}");
        assert_eq!(said, "work@x\ntrue\nred\ntrue\n", "{dir}");
    }
}

#[test]
fn a_configuration_that_the_caller_names_stands_in_for_the_usual_ones() {
    if !has("git") {
        return;
    }
    let p = Project::new();
    p.outside(
        "git config --global user.name usual; git config --global user.email usual@x; \
         printf '[user]\\n\\tname = named\\n\\tsigningkey = SECRET\\n[include]\\n\\tpath = more\\n' > ~/named; \
         printf '[pull]\\n\\trebase = true\\n' > ~/more; cp ~/named .; git init -q -b main .",
    );
    let ask = "git config user.name; git config user.email; git config pull.rebase; git config --list | grep SECRET; \
               env | grep GIT_CONFIG_GLOBAL; true";
    let ran = |named: &str| {
        let mut aj = p.command(crate::common::aj());
        aj.env("GIT_CONFIG_GLOBAL", named).args(["exec", "--", "bash", "-c", ask]);
        let ran = crate::common::Ran::from(aj.output().unwrap());
        assert_eq!(ran.code, Some(0), "{named}: {ran:#?}");
        (ran.stdout, ran.stderr)
    };
    let home = p.top().join("home").display().to_string();
    assert_eq!(p.inside(ask), "usual\nusual@x\n");
    assert_eq!(ran(&format!("{home}/named")), ("named\ntrue\n".to_owned(), String::new()));
    // None, said or not.
    assert_eq!(ran(""), Default::default());
    assert_eq!(ran("/nowhere/x"), Default::default());
    // What is not read is named: one that is a file of the tree here, and what is endless.
    let (said, warned) = ran("named");
    assert_eq!(said, "");
    let why = "`named` of your git configuration is not read: GIT_CONFIG_GLOBAL is no absolute path";
    assert!(warned.contains(why), "{warned}");
    let (said, warned) = ran("/dev/zero");
    assert_eq!(said, "");
    assert!(warned.contains("`/dev/zero` of your git configuration is not read"), "{warned}");
}

#[test]
fn what_the_machine_says_of_the_caller_is_read_first_and_with_the_same_filter() {
    let Some(p) = Project::in_jails() else { return };
    let file = |name: &str, text: &str| {
        let path = p.top().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let machine = file(
        "machine",
        "[user]\nname = Machine\nemail = machine@x\n[credential]\nhelper = SECRET\n[pull]\nff = only\n",
    );
    let ask = "git init -q r && cd r && git config user.name; git config user.email; git config pull.ff; \
               git commit -q --allow-empty -m x && echo done; cat /etc/gitconfig*; env | grep GIT_CONFIG";
    let ran = |vars: &[(&str, &std::ffi::OsStr)]| {
        let mut aj = p.command(aj());
        aj.envs(vars.iter().copied()).args(["exec", "--", "bash", "-c", ask]);
        let ran = Ran::from(aj.output().unwrap());
        assert!(!ran.stdout.contains("SECRET"), "{ran:#?}");
        ran
    };
    let system = ("GIT_CONFIG_SYSTEM", machine.as_os_str());
    let said = ran(&[system]).stdout;
    assert!(said.starts_with("Machine\nmachine@x\nonly\ndone\n"), "{said}");
    assert!(said.contains("GIT_CONFIG_SYSTEM=/etc/gitconfig\n"), "{said}");
    // The user's own file is the stronger one.
    file("home/.gitconfig", "[user]\nname = Ann\n");
    let said = ran(&[system]).stdout;
    assert!(said.starts_with("Ann\nmachine@x\nonly\ndone\n"), "{said}");
    let without = ran(&[system, ("GIT_CONFIG_NOSYSTEM", "1".as_ref())]).stdout;
    assert!(without.starts_with("Ann\n") && !without.contains("machine@x"), "{without}");
    let relative = ran(&[("GIT_CONFIG_SYSTEM", "named".as_ref())]).stderr;
    assert!(relative.contains("GIT_CONFIG_SYSTEM is no absolute path"), "{relative}");
}

#[test]
fn an_identity_in_variables_is_passed_by_the_flags_that_are_named() {
    let Some(p) = Project::in_jails() else { return };
    let ran = |flags: &[&str]| {
        let mut aj = p.command(aj());
        aj.env("GIT_CONFIG_NOSYSTEM", "1");
        for who in ["AUTHOR", "COMMITTER"] {
            aj.env(format!("GIT_{who}_NAME"), "Ann").env(format!("GIT_{who}_EMAIL"), "ann@x");
        }
        let script = "git init -q r && cd r && git commit -q --allow-empty -m x && git log --format=%an%ce";
        aj.arg("exec").args(flags).args(["--", "bash", "-c", script]);
        Ran::from(aj.output().unwrap())
    };
    let refused = ran(&[]);
    let names = "`-e GIT_AUTHOR_NAME -e GIT_AUTHOR_EMAIL -e GIT_COMMITTER_NAME -e GIT_COMMITTER_EMAIL`";
    assert!(refused.code != Some(0) && refused.stderr.contains(names), "{refused:#?}");
    let flags: Vec<&str> = names.trim_matches('`').split(' ').collect();
    assert_eq!(ran(&flags).stdout, "Annann@x\n");
}

#[test]
fn a_filter_that_is_only_the_callers_is_missed_with_one_line() {
    let Some(p) = Project::in_jails() else { return };
    let line = |flags: &[&str]| {
        let ran = p.aj([&["exec"], flags, &["--", "true"]].concat());
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        let lines: Vec<&str> = ran.stderr.lines().filter(|l| l.contains("filter")).collect();
        assert!(lines.len() <= 1, "{ran:#?}");
        lines.first().map(|l| (*l).to_owned()).unwrap_or_default()
    };
    p.outside("git init -q; git config --global filter.lfs.clean 'git-lfs clean -- %f'");
    assert_eq!(line(&[]), "");
    p.write(".gitattributes", "# *.x filter=lfs\n*.bin filter=lfs diff=lfs merge=lfs -text\n");
    assert!(line(&[]).contains("the filter `lfs`") && line(&[]).contains("`git lfs install --local`"));
    assert_eq!(line(&["--ro"]), "", "nothing can be added there");
    // The way that is named helps.
    p.outside("git config filter.lfs.process cat");
    assert_eq!(line(&[]), "");
    p.outside("git config --unset filter.lfs.process; git config --global --unset filter.lfs.clean");
    assert_eq!(line(&[]), "", "nor does the host filter anything");
    p.outside("git config --global filter.lfs.clean x; rm .gitattributes; mkfifo .gitattributes");
    assert_eq!(line(&[]), "");
}

#[test]
fn a_repository_that_begins_above_the_tree_is_named() {
    let Some(p) = Project::in_jails() else { return };
    p.outside("git init -q; mkdir sub; touch sub/aj.toml");
    let ran = |words: &[&str], script: &str| {
        let mut aj = p.command(aj());
        aj.current_dir(p.dir().join("sub")).arg("exec").args(words).args(["--", "bash", "-c", script]);
        Ran::from(aj.output().unwrap())
    };
    let top = std::fs::canonicalize(p.dir()).unwrap().display().to_string();
    let way = format!("--root-dir {top}");
    let said = ran(&[], "git status").stderr;
    assert!(said.contains("because of its `aj.toml`") && said.contains(&format!("`{way}`")), "{said}");
    assert_eq!(ran(&["--root-dir", &top], "git status").code, Some(0));
    assert!(!ran(&[], "exit 1").stderr.contains("--root-dir"));
}

#[test]
fn a_token_in_the_query_of_a_remote_or_for_its_user_is_hidden_and_a_name_stays() {
    if !has("git") {
        return;
    }
    let Some(p) = Project::in_jails() else { return };
    p.outside(
        "git init -q -b main .; git remote add query 'https://host/x.git?ref=a&Private_Token=hidden-1'; \
         git remote add user https://9b1f0c77a4d2@host/x.git; git remote add name https://alice@host/x.git",
    );
    let read = "for r in query user name; do git config remote.$r.url; done; git status --short";
    let said = p.inside(read);
    assert_eq!(
        said,
        "https://host/x.git?ref=a&Private_Token=\nhttps://host/x.git\nhttps://alice@host/x.git\n"
    );
    let shown = p.inside_with(&["--show", ".git/config"], read);
    assert!(shown.contains("hidden-1") && shown.contains("9b1f0c77a4d2@"), "teeth: {shown}");
}

#[test]
fn a_new_repository_and_an_identity_inside() {
    if !has("git") {
        return;
    }
    let p = Project::new();
    let said = p.inside(
        "git init -q . 2>/dev/null; echo a > a; git add a; git -c user.name=x -c user.email=x@y commit -q -m a; git log --format='%an %s'; \
         git config --global user.name agent; cat ~/.gitconfig | head -1; cd /tmp && git init -q t 2>/dev/null && git -C t status --short",
    );
    assert_eq!(said, "x a\n[user]\n");
}

#[test]
fn a_subdirectory_of_a_repository_is_owned_by_the_one_who_asks() {
    if !has("git") || !is_root() {
        return;
    }
    // As root a repository of an ordinary user shows as the jail's user's own.
    let p = repository();
    p.outside("chown -R 1234:2345 .");
    let ran = p.try_inside(&[], "git status --porcelain && stat -c %U:%G . .git src/1 && echo x >> src/1 && git commit -qam x && git status -s");
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "agent:agent\nagent:agent\nagent:agent\n"),
        "{ran:#?}"
    );
}
