//! git in every way that a repository can lie about: the same work inside, brought back by `aj apply`,
//! and the host's own git agrees.

use std::path::PathBuf;
use std::process::Command;

use super::project::{Project, has, is_root};
use crate::common::{Ran, aj};

/// Makes `src` with two commits and two branches, as others are made from it.
const SOURCE: &str = "\
    git config --global user.name 'Ann Lee'; git config --global user.email ann@example.com; \
    git config --global protocol.file.allow always; git config --global advice.detachedHead false; \
    git init -q -b main src; cd src; for i in 1 2 3; do echo $i > f$i; done; git add .; git commit -q -m first; \
    git branch topic; echo more >> f1; git commit -q -a -m second; git config receive.denyCurrentBranch ignore; cd ..; ";

/// Name, how it is made in the project directory, and where git is used in it.
const LAYOUTS: [(&str, &str, &str); 13] = [
    ("plain", "git clone -q src w", "w"),
    ("linked worktree", "git -C src worktree add -q ../w -b w", "w"),
    ("worktree in its repository", "git -C src worktree add -q w -b w", "src/w"),
    (
        "submodule",
        "git clone -q src up && cd up && git submodule -q add ../src lib/s && git commit -q -m s",
        "up/lib/s",
    ),
    (
        "submodule in a linked worktree",
        "git clone -q src up && cd up && git submodule -q add ../src s && git commit -q -m s && \
         git worktree add -q ../w && cd ../w && git submodule -q update --init",
        "w/s",
    ),
    (
        "bare repository and pointer",
        "mkdir w && git clone -q --bare src w/.bare && echo 'gitdir: ./.bare' > w/.git && cd w && git worktree add -q main main",
        "w/main",
    ),
    (
        "worktree in a bare repository",
        "git clone -q --bare src w.git && cd w.git && git worktree add -q main main",
        "w.git/main",
    ),
    (
        "worktree beside a bare repository",
        "git clone -q --bare src w.git && cd w.git && git worktree add -q ../main main",
        "main",
    ),
    ("shared", "git clone -q --shared src w", "w"),
    ("dissociated only in part", "git clone -q --reference src \"file://$PWD/src\" w", "w"),
    ("shared, with a worktree", "git clone -q --shared src up && git -C up worktree add -q ../w -b w", "w"),
    (
        "git directory elsewhere that says so",
        "git clone -q --separate-git-dir=elsewhere src w && git -C w config core.worktree \"$PWD/w\"",
        "w",
    ),
    (
        "sparse",
        "git -C src worktree add -q ../w -b w && cd w && git sparse-checkout set --no-cone /f1 /f2 /new /side /made",
        "w",
    ),
];

/// Work of a day. It says what it says the second time as well.
const WORK: &str = "\
    set -e; export GIT_COMMITTER_DATE=2026-01-02T03:04:05Z GIT_AUTHOR_DATE=2026-01-02T03:04:05Z; \
    git status --porcelain; git fetch -q 2>&1 | head -0; git branch -q --no-track old HEAD~1; \
    echo new > new; git add new; git commit -q -m 'made inside'; echo x >> f2; git stash -q; git stash list | wc -l; \
    git stash pop -q; git diff --stat; git checkout -q -- f2; git checkout -q -b side old; echo side > side; git add side; \
    git commit -q -m side; git rebase -q @{-1}; git log --format='%s %an'; git worktree list | wc -l; git status --porcelain; \
    git checkout -q @{-1}; git merge -q side; git log -1 --format=%H; git ls-files | tr '\\n' ' '; git fsck 2>&1 | grep -v dangling || true";

struct Ground {
    p: Project,
    dir: PathBuf,
}

impl Ground {
    fn new(make: &str, at: &str) -> Ground {
        let p = Project::new();
        p.outside(&format!("set -e; {SOURCE}{make}"));
        let dir = p.dir().join(at);
        Ground { p, dir }
    }

    fn aj(&self, words: &[&str]) -> Ran {
        let mut command: Command = self.p.command(aj());
        Ran::from(command.args(words).current_dir(&self.dir).output().unwrap())
    }

    /// Inside; nothing of the host changes.
    fn inside(&self, flags: &[&str], script: &str) -> Ran {
        let before = self.p.snapshot();
        let words = [&["exec", "--timeout", "90s"], flags, &["--", "bash", "-c", script]].concat();
        let ran = self.aj(&words);
        assert_eq!(before, self.p.snapshot(), "the host's files");
        ran
    }

    fn outside(&self, script: &str) -> String {
        self.p.outside(&format!("cd '{}' && {{ {script}\n}}", self.dir.display()))
    }
}

/// What of stderr is about git or the tree.
fn warned(ran: &Ran) -> bool {
    ran.stderr.contains("warning: `")
}

#[test]
fn a_days_work_in_every_layout_comes_back_whole() {
    if !has("git") {
        return;
    }
    for (name, make, at) in LAYOUTS {
        let g = Ground::new(make, at);
        let ran = g.inside(&[], WORK);
        assert_eq!((ran.code, warned(&ran)), (Some(0), false), "{name}: {ran:#?}");
        let before = g.outside("git log -1 --format=%H");
        let applied = g.aj(&["apply"]);
        assert_eq!(applied.code, Some(0), "{name}: {applied:#?}");
        let after = g.outside("git log -1 --format=%H; git ls-files | tr '\\n' ' '");
        assert_ne!(after.lines().next(), before.lines().next(), "{name}");
        let said: Vec<&str> = ran.stdout.lines().rev().take(2).collect();
        assert_eq!(after.lines().rev().collect::<Vec<_>>(), said, "{name}: the host is where the jail was");
        let again = g.aj(&["diff"]);
        assert_eq!(again.stdout, "", "{name}: applied once is applied");
        assert_eq!(
            g.outside("git status --porcelain; git fsck 2>&1 | grep -v dangling || true"),
            "",
            "{name}"
        );
        assert_eq!(g.outside("git log -1 --format='%s %an' side --"), "side Ann Lee\n", "{name}");
        // A jail goes on from there.
        let next = g.inside(&[], "git status --porcelain; git log -1 --format=%s");
        assert_eq!(next.stdout, "side\n", "{name}: {next:#?}");
    }
}

#[test]
fn a_worktree_made_inside_comes_back_when_its_pointers_are_allowed() {
    if !has("git") {
        return;
    }
    for (name, make, at) in LAYOUTS {
        let g = Ground::new(make, at);
        let ran = g.inside(&[], "git worktree add -q -b fresh made 2>&1 && cd made && git status --porcelain && git worktree list | wc -l");
        assert_eq!(ran.code, Some(0), "{name}: {ran:#?}");
        let refused = g.aj(&["apply"]);
        assert_eq!(refused.code, Some(4), "{name}: {refused:#?}");
        let out: Vec<&str> = refused.stdout.lines().skip_while(|l| !l.starts_with("Left out")).collect();
        for pointer in ["made/.git", "worktrees/made/commondir", "worktrees/made/gitdir"] {
            assert!(out.iter().any(|line| line.contains(pointer)), "{name}: {pointer} in {out:#?}");
        }
        assert_eq!(g.aj(&["apply", "--allow-exec-files"]).code, Some(0), "{name}");
        let count = ran.stdout.trim();
        assert_eq!(
            g.outside("git -C made status --porcelain; git worktree list | wc -l").trim(),
            count,
            "{name}"
        );
        assert_eq!(g.outside("git fsck 2>&1 | grep -v dangling || true"), "", "{name}");
    }
}

#[test]
fn a_submodule_and_a_bare_repository_in_the_tree_stand_where_the_jail_left_them() {
    if !has("git") {
        return;
    }
    let commit = "echo n > new && git add new && git commit -q -m deep && git rev-parse HEAD";
    let make = "git clone -q src up; cd up; git submodule -q add ../src s; git commit -q -m s; git -C s checkout -q --detach; \
                git clone -q --bare ../src b.git";
    let g = Ground::new(make, "up");
    let ran = g.inside(&[], &format!("cd s && {commit} && cd .. && git commit -q -am up && git -C b.git symbolic-ref HEAD refs/heads/topic"));
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let applied = g.aj(&["apply"]);
    assert_eq!(applied.code, Some(0), "nothing of it is run by git: {applied:#?}");
    let said = g.outside("git -C s rev-parse HEAD; git status --porcelain --ignore-submodules=none; git -C b.git symbolic-ref HEAD; git fsck; git -C s fsck");
    assert_eq!(said, format!("{}?? b.git/\nrefs/heads/topic\n", ran.stdout));
}

#[test]
fn a_shared_directory_can_be_seen_and_chosen_from_by_path() {
    if !has("git") {
        return;
    }
    let g = Ground::new("git -C src worktree add -q ../w -b w", "w");
    let ran = g.inside(&[], "echo a > a; git add a; git commit -q -m a; git branch other");
    assert!(ran.stderr.contains("added"), "{ran:#?}");
    let git = g.p.dir().join("src/.git").display().to_string();
    let branch = format!("{git}/refs/heads/other");
    let diff = g.aj(&["diff"]);
    assert!(diff.stdout.contains("A a\n") && diff.stdout.contains(&format!("A {branch}\n")), "{diff:#?}");
    let json: serde_json::Value = serde_json::from_str(&g.aj(&["diff", "--json"]).stdout).unwrap();
    assert_eq!(json["parts"], serde_json::json!([git]));
    let total = json["changes"].as_array().unwrap().len() as u64;
    assert_eq!(json["totals"]["changes"].as_u64(), Some(total));
    let shown: serde_json::Value =
        serde_json::from_str(&g.aj(&["jail", "show", "@", "--json"]).stdout).unwrap();
    assert!(shown.to_string().contains(&format!("\"files_changed\":{total}")), "{shown:#}");
    for path in [branch.as_str(), "../src/.git/refs/heads/other"] {
        assert_eq!(g.aj(&["diff", path]).stdout, format!("A {branch}\n"));
    }
    assert_eq!(g.aj(&["diff", "../src/f1"]).code, Some(2), "not a part of what the jail ran over");
    assert_eq!(g.aj(&["diff", &format!("{git}/nothing")]).code, Some(3));
    assert_eq!(g.aj(&["apply", "-n", &branch]).code, Some(0));
    assert_eq!(g.outside("git branch --list other"), "");
    let applied = g.aj(&["apply", &format!("{git}/objects"), "../src/.git/refs/heads/other"]);
    assert_eq!(applied.code, Some(0), "{applied:#?}");
    assert_eq!(g.outside("git branch --list other; ls a 2>/dev/null || true"), "  other\n");
    let rest = g.aj(&["apply"]);
    assert_eq!(rest.code, Some(0), "{rest:#?}");
    assert_eq!(g.outside("git log -1 --format=%s; git status --porcelain"), "a\n");
}

#[test]
fn exec_apply_takes_the_shared_directory_along() {
    if !has("git") {
        return;
    }
    let g = Ground::new("git -C src worktree add -q ../w -b w", "w");
    let ran = g.aj(&["exec", "--apply", "--", "bash", "-c", "echo a > a; git add a; git commit -q -m a"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_eq!(g.outside("git log -1 --format=%s w; git status --porcelain; git fsck"), "a\n");
}

#[test]
fn a_commit_on_the_host_meanwhile_is_a_conflict_and_nothing_is_applied() {
    if !has("git") {
        return;
    }
    let g = Ground::new("git -C src worktree add -q ../w -b w", "w");
    let ran = g.inside(&[], "echo a > a; git add a; git commit -q -m inside");
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    g.outside("echo b > b; git add b; git commit -q -m outside");
    let before = g.p.snapshot();
    let applied = g.aj(&["apply"]);
    assert_eq!(applied.code, Some(1), "{applied:#?}");
    assert!(applied.stdout.contains("src/.git/refs/heads/w"), "{applied:#?}");
    assert!(!g.dir.join("a").exists());
    let same = |before: &std::collections::BTreeMap<PathBuf, String>| {
        before.iter().all(|(path, line)| g.p.snapshot().get(path) == Some(line))
    };
    assert!(same(&before), "nothing at all");
    // Another repository in its place is none either.
    let g = Ground::new("git -C src worktree add -q ../w -b w", "w");
    assert_eq!(g.inside(&[], "git branch made").code, Some(0));
    g.outside("cd ../src && cp -a .git copy && mv .git old && mv copy .git");
    let applied = g.aj(&["apply"]);
    assert_eq!(applied.code, Some(1), "{applied:#?}");
    assert!(applied.stderr.contains("is not the directory that the jail ran over"), "{applied:#?}");
}

#[test]
fn with_ro_a_shared_directory_is_read_and_with_rw_written_but_for_its_settings() {
    if !has("git") || !has("perl") {
        return;
    }
    let make = "git -C src worktree add -q ../w -b w; git -C src worktree add -q ../other -b other; \
                git -C src config extensions.worktreeConfig true; git -C w config --worktree core.abbrev 9; \
                git clone -q src up; cd up; git submodule -q add ../src mod; git commit -q -m s; cd ..";
    let g = Ground::new(make, "w");
    let ran = g.inside(&["--ro"], "git status --porcelain && git log --format=%s && git branch x");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(128), "second\nfirst\n"), "{ran:#?}");
    let git = g.p.dir().join("src/.git").display().to_string();
    // Each is written, moved away and removed, as far as that goes; what went is said.
    const FILES: &str = "config hooks/pre-commit info/attributes worktrees/w/config.worktree worktrees/w/commondir \
                         worktrees/w/gitdir modules/mod/config modules/mod/hooks/x";
    let settings = |git: &str| {
        format!(
            "{{ go() {{ perl -e 'exit !rename $ARGV[0], $ARGV[1]' $1 $2; }}; for f in {FILES}; do [ -d $(dirname {git}/$f) ] || continue; echo '#' >> {git}/$f && echo wrote $f; \
             go {git}/$f {git}/$f.away && echo moved $f; done; \
             for d in hooks info modules/mod modules worktrees/w worktrees; do [ -d {git}/$d ] || continue; \
             go {git}/$d {git}/away-$(basename $d) && echo moved $d; done; }} 2>/dev/null; "
        )
    };
    // Teeth: where nothing protects it, all of it is written or moved.
    let bare = g.p.outside(&format!(
        "cp -a src/.git ../copy; cp -a up/.git/modules ../copy/; {} true",
        settings("../copy")
    ));
    for file in FILES.split_whitespace() {
        assert!(bare.contains(&format!("wrote {file}\nmoved {file}\n")), "{file} in {bare}");
    }
    assert!(bare.contains("moved modules\n") && bare.contains("moved worktrees\n"), "{bare}");
    let script = format!(
        "{} perl -e 'exit !rename \".git\", \"away\"' 2>/dev/null && echo moved .git; echo 'gitdir: x' 2>/dev/null > .git && echo wrote .git; \
         echo a > a && git add a && git commit -q -m direct && git branch made && git stash list && git log -1 --format=%s",
        settings(&git)
    );
    let ran = g.aj(&["exec", "--rw", "--", "bash", "-c", &script]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "direct\n"), "{ran:#?}");
    assert_eq!(
        g.outside("git log -1 --format=%s w; git branch --list made; git status --porcelain; git fsck"),
        "direct\n  made\n"
    );
    // A plain one, with a submodule: the directory itself cannot be moved away either.
    let g = Ground::new(make, "up");
    let script = format!(
        "{} perl -e 'exit !rename \".git\", \"away\"' 2>/dev/null && echo moved .git; rm -rf .git/hooks .git/config 2>/dev/null; \
         echo a > a && git add a && git commit -q -m direct && cd mod && echo b > b && git add b && git commit -q -m deep && git log -1 --format=%s",
        settings(".git")
    );
    let ran = g.aj(&["exec", "--rw", "--", "bash", "-c", &script]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "deep\n"), "{ran:#?}");
    assert_eq!(
        g.outside(
            "ls .git/hooks | grep -vc sample || true; git log -1 --format=%s; git -C mod log -1 --format=%s"
        ),
        "0\ndirect\ndeep\n"
    );
}

/// What leads git elsewhere can be made where it is missing: every main repository has no `commondir`.
#[test]
fn what_a_command_makes_in_a_git_directory_for_git_to_obey_is_set_aside() {
    if !has("git") {
        return;
    }
    let Some(p) = crate::real::project::Project::in_jails() else { return };
    p.outside("git init -q; git config user.name x; git config user.email x@y; echo a > a; git add a; git commit -qm one");
    p.outside("git config extensions.worktreeConfig true; rm -f .git/config.worktree; rm -rf .git/hooks");
    let evil = "core.fsmonitor 'touch \"$PWD/pwned\"; false'";
    let script = format!(
        "git init -q --bare n; cp -r .git/objects .git/refs .git/HEAD n/; git -C n config core.bare false; \
         git -C n config {evil}; mv n .git/logs/n; echo logs/n > .git/commondir; \
         git config --file .git/config.worktree {evil}; mkdir .git/hooks; echo x > .git/hooks/pre-commit"
    );
    // Teeth: git obeys it.
    p.outside(&format!("cp -a . ../copy; cd ../copy; {script}; git status >/dev/null 2>&1; ls pwned"));
    let ran = p.aj(["exec", "--rw", "--", "sh", "-c", &script]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    for name in ["commondir", "config.worktree", "hooks"] {
        let told = format!(
            "/.git/{name}` was made while the command ran, and git on this machine would obey it: it is called `{name}.jl-"
        );
        assert!(ran.stderr.contains(&told), "{name}: {ran:#?}");
        assert!(!p.dir().join(".git").join(name).exists(), "{name}");
    }
    assert_eq!(
        p.outside("git status --porcelain; git log --format=%s; ls -d pwned 2>/dev/null; true"),
        "one\n"
    );
    // One that makes none of them is told nothing.
    let ran = p.aj(["exec", "--rw", "--", "sh", "-c", "echo b > a; git commit -qam two"]);
    assert_eq!((ran.code, ran.stderr.contains("obey")), (Some(0), false), "{ran:#?}");
}

#[test]
fn roots_jail_works_in_the_repository_of_another_user() {
    if !has("git") || !is_root() {
        return;
    }
    for (name, make, at) in LAYOUTS {
        let g = Ground::new(make, at);
        g.p.outside("chown -R 1234:2345 .");
        let ran = g.inside(&[], WORK);
        assert_eq!((ran.code, warned(&ran)), (Some(0), false), "{name}: {ran:#?}");
        let applied = g.aj(&["apply"]);
        assert_eq!(applied.code, Some(0), "{name}: {applied:#?}");
        // What is new there is his.
        assert_eq!(g.p.outside("find . ! -uid 1234"), "", "{name}");
        let check = "git -c safe.directory='*' log -1 --format=%s side --; git -c safe.directory='*' status --porcelain";
        assert_eq!(g.outside(check), "side\n", "{name}");
    }
}

#[test]
fn worktrees_that_are_not_seen_inside_outlive_a_jail_that_cleans_up() {
    if !has("git") {
        return;
    }
    let make = "git -C src worktree add -q ../w -b w; git -C src worktree add -q ../other -b other; \
                find src/.git/worktrees/other -exec touch -d 2020-01-01 {} +";
    for (at, flags) in [("w", &[][..]), ("src", &[]), ("w", &["--rw"]), ("src", &["--rw"])] {
        let g = Ground::new(make, at);
        let ran = g.aj(&[&["exec"], flags, &["--", "git", "gc", "-q"]].concat());
        assert_eq!(ran.code, Some(0), "{at} {flags:?}: {ran:#?}");
        if flags.is_empty() {
            assert_eq!(g.aj(&["apply"]).code, Some(0), "{at}");
        }
        assert_eq!(g.outside("git -C ../other status --porcelain"), "", "{at} {flags:?}");
    }
    for at in ["w", "src"] {
        let g = Ground::new(make, at);
        let ran =
            g.aj(&["exec", "--", "sh", "-c", "git worktree prune && git commit -q --allow-empty -m more"]);
        assert_eq!(ran.code, Some(0), "{at}: {ran:#?}");
        let applied = g.aj(&["apply"]);
        assert_eq!(applied.code, Some(4), "{at}: {applied:#?}");
        assert!(applied.stdout.contains(".git/worktrees"), "{at}: {applied:#?}");
        assert_eq!(g.outside("git -C ../other status --porcelain; git log -1 --format=%s"), "more\n", "{at}");
    }
}

/// The command that a warning puts between backticks and that begins with `git`.
fn way(ran: &Ran) -> String {
    let words = ran.stderr.split('`').find(|words| words.starts_with("git "));
    words.unwrap_or_else(|| panic!("{ran:#?}")).to_owned()
}

#[test]
fn what_is_said_of_a_git_directory_that_does_not_know_its_tree_helps() {
    if Project::in_jails().is_none() {
        return;
    }
    for (make, at) in [
        ("git clone -q --separate-git-dir=elsewhere src w", "w"),
        ("git clone -q src w; mv w/.git elsewhere; ln -s ../elsewhere w/.git", "w"),
        ("git -C src worktree add -q ../old -b w; mv old w", "w"),
        ("git -C src worktree add -q ../old -b w; mv old w; rm src/.git/worktrees/old/gitdir", "w"),
    ] {
        let g = Ground::new(make, at);
        let work = "git log --format=%s; echo x > x && git add x && git commit -q -m inside && echo done";
        let ran = g.inside(&[], work);
        assert!(!ran.stdout.contains("done"), "{make}\n{ran:#?}");
        g.outside(&way(&ran));
        let ran = g.inside(&[], work);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "second\nfirst\ndone\n"), "{make}\n{ran:#?}");
    }
}
