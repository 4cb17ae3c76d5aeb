//! Secrets in the tree: out of sight, named once, never lost, never brought back.

use std::os::unix::fs::symlink;

use super::project::{Project, has};
use crate::common::Ran;

pub const KEY: &str = "-----BEGIN PRIVATE KEY-----\nhidden-key\n-----END PRIVATE KEY-----\n";
pub const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n[remote \"origin\"]\n\turl = https://me:hidden-token@host/x.git\n";

/// A project with secrets in it; `None` where there are no jails.
pub fn project() -> Option<Project> {
    let p = Project::in_jails()?;
    p.write(".env", "A=hidden-env\n");
    p.write(".env.local", "A=hidden-local\n");
    p.write(".env.example", "A=shown-example\n");
    p.write("key.pem", KEY);
    p.write("cert.pem", "-----BEGIN CERTIFICATE-----\nshown-cert\n");
    p.write("src/main.rs", "shown-source\n");
    Some(p)
}

/// The line that says what was hidden.
#[track_caller]
pub fn line(ran: &Ran) -> String {
    let lines: Vec<&str> = ran.stderr.lines().filter(|l| l.contains("hidden from the command")).collect();
    match lines[..] {
        [line] => line.to_owned(),
        [] => String::new(),
        _ => panic!("more than one line: {ran:#?}"),
    }
}

#[test]
fn names_that_are_secrets_by_custom_are_out_of_sight_and_named_in_one_line() {
    let Some(p) = project() else { return };
    p.write(".npmrc", "//registry/:_authToken=hidden-npm\n");
    p.write("web/.npmrc", "shown: not in the root\n");
    p.write("credentials.json", "hidden-json");
    p.write("id_ed25519", KEY);
    p.write("id_ed25519.pub", "ssh-ed25519 shown-public");
    for (name, text) in
        [(".netrc", "hidden-netrc"), (".pypirc", "hidden-pypi"), (".git-credentials", "hidden-git")]
    {
        p.write(name, text);
    }
    let read = "ls -A; grep -rh shown . | sort; ! grep -rh hidden .";
    for flags in [&[][..], &["--rw"], &["--ro"], &["--as-root"], &["--rw", "--as-root"]] {
        let text = p.inside_with(flags, read);
        assert!(!text.contains("hidden"), "{flags:?}: {text}");
        for shown in ["shown-example", "shown-cert", "shown-source", "shown-public", "shown: not"] {
            assert!(text.contains(shown), "{flags:?}: {text}");
        }
    }
    // The same commands see them when they are shown.
    assert!(p.try_inside(&["--show", "**"], read).stdout.contains("hidden-npm"));
    let ran = p.aj(["exec", "--", "true"]);
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:#?}");
    assert_eq!(
        line(&ran),
        "aj: hidden from the command: `.env`, `.env.local`, `.git-credentials`, `.netrc`, `.npmrc` and 4 more \
         (all of them: `aj exec --dry-run`; to show one: `--show NAME`)"
    );
    assert_eq!(p.aj(["exec", "-q", "--", "true"]).stderr, "");
    assert!(p.trees().iter().all(|t| t.to_str().unwrap().contains('.')), "nothing is kept: {:?}", p.trees());
}

#[test]
fn what_was_hidden_is_in_the_dry_run_and_on_record() {
    let Some(p) = project() else { return };
    p.write("deep/secrets/a.json", "");
    p.write("deep/secrets/sub/b.json", "");
    let flags = ["--hide", "**/secrets/*.json", "--show", ".env.local"];
    let words = |all: &[&'static str]| [&["exec"][..], &flags, all].concat();
    let dry = p.aj(words(&["--dry-run", "--", "true"]));
    for line in [
        "hide\t**/secrets/*.json\tflag --hide",
        "show\t.env.local\tflag --show",
        ".env\tfile\tbuilt-in",
        "deep/secrets/a.json\tfile\t**/secrets/*.json",
    ] {
        assert!(dry.stdout.lines().any(|l| l == line), "{line}\n{dry:#?}");
    }
    let document: serde_json::Value =
        serde_json::from_str(&p.aj(words(&["--dry-run", "--json", "--", "true"])).stdout).unwrap();
    let hidden = serde_json::json!([".env", "deep/secrets/a.json", "key.pem"]);
    let paths: Vec<_> = document["hidden"].as_array().unwrap().iter().map(|h| h["path"].clone()).collect();
    assert_eq!(serde_json::json!(paths), hidden);
    let answer: serde_json::Value =
        serde_json::from_str(&p.aj(words(&["--json", "--", "sh", "-c", "ls deep/secrets"])).stdout).unwrap();
    assert_eq!(answer["policy"]["hidden"], hidden, "{answer:#}");
    assert_eq!(answer["stdout"], "sub\n", "{answer:#}");
    let shown = p.aj(["jail", "show", "@"]).stdout;
    assert!(shown.contains("  hidden: .env, deep/secrets/a.json, key.pem\n"), "{shown}");
    let typo = p.aj(["exec", "--hide", "**/sercets", "--", "true"]);
    assert!(typo.stderr.contains("`--hide **/sercets`: there is no such name in"), "{typo:#?}");
    for (show, is_told) in
        [(".evn", true), ("deep/x.pem", true), (".env", false), ("deep", false), ("*.pen", false)]
    {
        let told = p.aj(["exec", "--show", show, "--", "true"]).stderr;
        let line = format!("`--show {show}`: there is no such name in");
        assert_eq!(told.contains(&line), is_told, "{told}");
    }
}

#[test]
fn a_projects_own_file_hides_and_never_shows() {
    let Some(p) = project() else { return };
    p.write("aj.toml", "[jail]\nhide = ['src/*.rs', '.env.example']\nshow = ['.env']\n");
    let script = "cat .env .env.example src/main.rs .env.local; ls -A";
    let ran = p.try_inside(&[], script);
    assert!(!ran.stdout.contains("hidden-env") && !ran.stdout.contains("shown"), "{ran:#?}");
    let ran = p.aj(["exec", "--", "true"]);
    assert!(ran.stderr.contains("aj.toml:3: `show` (`.env`) would widen"), "{ran:#?}");
    std::fs::create_dir_all(p.top().join("config")).unwrap();
    std::fs::write(p.top().join("config/config.toml"), "[defaults]\nshow = ['.env', 'src/main.rs']\n")
        .unwrap();
    let ran = p.try_inside(&[], script);
    assert!(ran.stdout.contains("hidden-env"), "the user's own file may show: {ran:#?}");
    assert!(!ran.stdout.contains("shown-source"), "and the project hides more: {ran:#?}");
    assert!(p.try_inside(&["--show", "src/main.rs"], script).stdout.contains("shown-source"));
}

#[test]
fn the_directory_that_a_command_starts_in_counts_as_the_root_does() {
    let Some(p) = project() else { return };
    std::fs::create_dir(p.dir().join(".git")).unwrap();
    for dir in ["packages", "packages/api", "packages/api/src", "packages/web"] {
        p.write(&format!("{dir}/.env"), "hidden\n");
    }
    symlink("packages/web", p.dir().join("web")).unwrap();
    let files = |sub: &str, flags: &[&str]| {
        let mut aj = p.command(crate::common::aj());
        aj.current_dir(p.dir().join(sub)).arg("exec").args(flags);
        let ran = Ran::from(
            aj.args(["--", "sh", "-c", "cd /workspace; find . -name .env | sort"]).output().unwrap(),
        );
        ran.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let all = ["./packages/.env", "./packages/api/.env", "./packages/api/src/.env", "./packages/web/.env"];
    assert_eq!(files("", &[]), all);
    assert_eq!(files("packages/api", &[]), all[2..]);
    let covered: Vec<&str> = std::iter::once("./.env").chain(all).collect();
    assert_eq!(files("packages/api", &["--rw"]), covered, "there, and nothing in them");
    assert_eq!(files("", &["--cwd", "packages/web"]), all[1..3]);
    assert_eq!(files("", &["--cwd", "web"]), all[1..3], "through a link");
    assert_eq!(files("", &["--hide", "**/.env"]), [""; 0]);
    assert_eq!(
        files("packages/api", &["--show", "packages/.env"]),
        ["./packages/.env", "./packages/api/src/.env", "./packages/web/.env"]
    );
}

#[test]
fn a_run_that_changes_nothing_leaves_nothing_whatever_was_hidden() {
    let Some(p) = project() else { return };
    p.write("a/b/c/x.key", "hidden");
    p.write(".git/config", CONFIG);
    let mut upper = Vec::new();
    for _ in 0..3 {
        let ran = p.aj(["exec", "--hide", "**/*.key", "--", "sh", "-c", "cat .git/config; ls a/b/c"]);
        assert!(line(&ran).contains("`a/b/c/x.key`"), "{ran:#?}");
        assert!(
            ran.stdout.contains("url = https://host/x.git") && !ran.stdout.contains("hidden"),
            "{ran:#?}"
        );
        assert_eq!(ran.stderr.lines().count(), 1, "no changes are told: {ran:#?}");
        upper = p.trees();
        for tree in &upper {
            assert_eq!(std::fs::read_dir(tree.join("upper")).unwrap().count(), 0, "{tree:?}");
            assert!(!tree.join("hidden").exists());
        }
    }
    assert!(!upper.is_empty(), "put aside for the next run");
    // Over another base, where the same names are deleted for real.
    let other = p.top().join("other");
    std::fs::create_dir_all(other.join("a/b")).unwrap();
    std::fs::write(other.join("x"), "1").unwrap();
    std::fs::write(other.join("a/b/c"), "2").unwrap();
    let mut aj = p.command(crate::common::aj());
    aj.current_dir(&other).args(["exec", "--apply", "--", "rm", "x", "a/b/c"]);
    let ran = Ran::from(aj.output().unwrap());
    assert_eq!(
        (ran.code, other.join("x").exists(), other.join("a/b/c").exists()),
        (Some(0), false, false),
        "{ran:#?}"
    );
}

#[test]
fn the_hosts_secrets_survive_whatever_the_jail_does_with_their_names() {
    let Some(p) = project() else { return };
    p.write("conf/prod/.env", "hidden-deep\n");
    p.write("conf/prod/x", "1");
    let flags = ["--hide", "conf/prod/.env"];
    let exec = |script: &str| p.aj([&["exec"][..], &flags, &["--", "bash", "-c", script]].concat());
    // Its own file of the name: told as skipped, applied never.
    let ran = exec("echo own > .env && mkdir key.pem && echo x > key.pem/x && cat .env && echo new > new");
    assert_eq!(ran.stdout, "own\n", "{ran:#?}");
    let diff = p.aj(["diff"]);
    assert!(diff.stdout.contains("A new"), "{diff:#?}");
    for name in [".env", "key.pem"] {
        assert!(
            diff.stdout.contains(&format!("{name}  (was hidden from the jail, which made its own)")),
            "{diff:#?}"
        );
    }
    assert!(!diff.stdout.contains("D "), "{diff:#?}");
    for words in [&["apply"][..], &["apply", "--overwrite"], &["apply", "--partial", "--allow-exec-files"]] {
        p.aj(words);
    }
    let kept = || {
        let read = |name: &str| std::fs::read_to_string(p.dir().join(name)).unwrap_or_default();
        [read(".env"), read("key.pem"), read("conf/prod/.env")]
    };
    let before = ["A=hidden-env\n".to_owned(), KEY.to_owned(), "hidden-deep\n".to_owned()];
    assert_eq!(kept(), before);
    assert!(p.dir().join("new").exists());
    // The directory around one: gone, made anew, another kind of thing, of other bits.
    for script in [
        "rm -r conf",
        "rm -r conf/prod && mkdir conf/prod && echo y > conf/prod/y",
        "rm -r conf/prod && echo file > conf/prod",
        "rm -r conf/prod && ln -s / conf/prod",
        "mv conf/prod conf/old",
        "chmod 700 conf/prod; rm -f conf/prod/x",
    ] {
        assert_eq!(exec(script).code, Some(0), "{script}");
        for words in [
            &["apply"][..],
            &["apply", "--overwrite"],
            &["apply", "--partial", "--overwrite", "--allow-exec-files"],
        ] {
            p.aj(words);
            assert_eq!(kept(), before, "{script} {words:?}");
        }
    }
    let ran = exec("rm -r conf");
    assert!(!ran.stderr.contains("0 changes"), "{ran:#?}");
    let applied = p.aj(["apply"]);
    assert_eq!(applied.code, Some(1), "{applied:#?}");
    assert!(applied.stdout.contains("something in it was hidden from the jail"), "{applied:#?}");
    // What the hint says gets further: `--overwrite` would not.
    assert!(!applied.stderr.contains("--overwrite"), "{applied:#?}");
    let hint = applied.stderr.lines().find(|l| l.contains("may go")).unwrap();
    let commands: Vec<&str> = hint.split('`').skip(3).step_by(2).collect();
    let [remove, again] = commands[..] else { panic!("{hint}") };
    p.outside(remove);
    assert!(!p.dir().join("conf").exists(), "{hint}");
    let applied = p.aj(again.split(' ').skip(1));
    assert_eq!((applied.code, kept()[0].as_str()), (Some(0), "A=hidden-env\n"), "{applied:#?}");
}

#[test]
fn secrets_that_change_on_the_host_meanwhile_are_no_conflict() {
    let Some(p) = project() else { return };
    p.aj(["exec", "--", "sh", "-c", "echo x > new; echo own > .env"]);
    p.write(".env", "A=changed\n");
    std::fs::remove_file(p.dir().join("key.pem")).unwrap();
    let ran = p.aj(["apply"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_eq!(std::fs::read_to_string(p.dir().join(".env")).unwrap(), "A=changed\n");
    assert!(!p.dir().join("key.pem").exists() && p.dir().join("new").exists());
}

#[test]
fn apply_at_the_end_of_a_run_knows_what_was_hidden() {
    let Some(p) = project() else { return };
    let ran = p.aj([
        "exec",
        "--apply",
        "--",
        "sh",
        "-c",
        "rm -f .env key.pem; echo own > .env.local; echo x > new",
    ]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let read = |name: &str| std::fs::read_to_string(p.dir().join(name)).unwrap();
    assert_eq!(
        [read(".env"), read(".env.local"), read("key.pem"), read("new")],
        ["A=hidden-env\n", "A=hidden-local\n", KEY, "x\n"]
    );
}

#[test]
fn git_works_without_the_credentials_in_its_configuration() {
    if !has("git") {
        return;
    }
    let Some(p) = project() else { return };
    p.outside(
        "git init -q . && git config user.name x && git config user.email x@y && git add src && git commit -qm one && \
         git remote add origin https://me:hidden-token@host/x.git && \
         git config http.https://host/.extraheader 'AUTHORIZATION: basic hidden-header'",
    );
    let before = std::fs::read(p.dir().join(".git/config")).unwrap();
    let text = p.inside(
        "git status --porcelain -uno && git log --oneline | wc -l && git remote -v && git config -l && \
         echo x >> src/main.rs && git commit -qam two && git log --oneline | wc -l",
    );
    assert!(!text.contains("hidden") && text.contains("https://host/x.git"), "{text}");
    assert!(text.starts_with("1\n") && text.ends_with("2\n"), "{text}");
    let applied = p.aj(["apply"]);
    assert_eq!(applied.code, Some(0), "{applied:#?}");
    assert_eq!(p.outside("git log --oneline | wc -l").trim(), "2");
    // What the jail does to that file stays in the jail, whatever is allowed.
    let ran = p.aj(["exec", "--", "git", "config", "core.fsmonitor", "evil"]);
    assert!(
        ran.stderr.contains("aj: no changes that can be kept, 1 left out: see why with `aj diff"),
        "{ran:#?}"
    );
    let applied = p.aj(["apply", "--allow-exec-files", "--overwrite"]);
    assert!(
        applied.stdout.contains(".git/config  (was shown to the jail without the credentials in it"),
        "{applied:#?}"
    );
    p.aj(["exec", "--apply", "--allow-exec-files", "--", "rm", "-f", ".git/config"]);
    assert_eq!(std::fs::read(p.dir().join(".git/config")).unwrap(), before);
    // Without an overlay it is a mount: git reads it, and nothing changes it.
    let ran = p.aj([
        "exec",
        "--rw",
        "--",
        "sh",
        "-c",
        "git remote -v; git commit -q --allow-empty -m three; mv .git g; cat g/config; mv g .git",
    ]);
    assert!(ran.stdout.contains("https://host/x.git") && !ran.stdout.contains("hidden"), "{ran:#?}");
    assert_eq!(std::fs::read(p.dir().join(".git/config")).unwrap(), before);
    assert_eq!(p.outside("git log --oneline | wc -l").trim(), "3");
    let shown = p.aj(["exec", "--show", ".git/config", "--", "git", "remote", "-v"]);
    assert!(shown.stdout.contains("hidden-token"), "{shown:#?}");
    assert!(line(&p.aj(["exec", "--", "true"])).contains("; the credentials in `.git/config`"));
    p.outside("mkdir -p .git/modules/a/b && cp .git/config .git/modules/a/b/config && echo x > .git/modules/a/b/HEAD");
    assert!(line(&p.aj(["exec", "--", "true"])).contains("`.git/modules/a/b/config`"));
}

#[test]
fn a_virtual_environment_in_dot_env_is_no_secret_and_a_directory_of_them_is() {
    let Some(p) = project() else { return };
    std::fs::remove_file(p.dir().join(".env")).unwrap();
    p.write(".env/pyvenv.cfg", "home = /usr/bin\n");
    p.write(".env/bin/activate", "shown-venv\n");
    assert_eq!(p.inside("cat .env/bin/activate"), "shown-venv\n");
    std::fs::remove_file(p.dir().join(".env/pyvenv.cfg")).unwrap();
    for flags in [&[][..], &["--rw"], &["--ro"]] {
        let ran =
            p.try_inside(flags, "cat .env/bin/activate; ls -A .env; mkdir .env/x; mv .env e; rmdir .env");
        assert_eq!(ran.stdout, "", "{flags:?} {ran:#?}");
    }
    assert!(p.dir().join(".env/bin/activate").exists());
}

/// A repository with credentials in every place of its git directory that may hold some, a linked worktree
/// of it, a bare one with a worktree inside, and one that `.git` is a pointer to.
pub const PARTS: &str = "\
    set -e; cd src; git init -q; git config user.name x; git config user.email x@y; echo x > f; git add f; git commit -qm one; \
    git remote add origin https://me:hidden-token@host/x.git; git config extensions.worktreeConfig true; \
    git worktree add -q ../w -b w; git -C ../w config --worktree http.extraheader 'AUTH: hidden-header'; \
    git config --file .git/more http.proxy http://u:hidden-proxy@proxy; git config include.path more; \
    echo 'https://u:hidden-stored@h' > .git/credentials; \
    mkdir -p .git/modules/a; cp .git/config .git/HEAD .git/modules/a/; cd ..; \
    clone() { git clone -q --bare src $1; git -C $1 remote set-url origin https://me:hidden-token@host/x.git; }; \
    clone b.git; git -C b.git worktree add -q main w; mkdir l; clone l/.bare; echo 'gitdir: ./.bare' > l/.git; \
    git -C l worktree add -q main w; mkdir m; cp -a src/.git m/real; ln -s real m/.git";

#[test]
fn credentials_are_hidden_in_every_git_directory_that_is_shown() {
    if !has("git") {
        return;
    }
    let Some(p) = project() else { return };
    p.outside(PARTS);
    let aj = |at: &str, words: &[&str]| {
        let mut aj = p.command(crate::common::aj());
        Ran::from(aj.current_dir(p.dir().join(at)).args(words).output().unwrap())
    };
    let read = format!(
        "git config --get remote.origin.url; grep -rI hidden {} && exit 1; exit 0",
        p.dir().display()
    );
    for at in ["w", "src", "b.git/main", "b.git", "l", "l/main", "m"] {
        let bare = if at == "b.git" { &["--root-dir", "."][..] } else { &[] };
        for flags in [&[][..], &["--rw"], &["--ro"], &["--as-root"]] {
            let ran = aj(at, &[&["exec"], bare, flags, &["--", "sh", "-c", &read]].concat());
            assert_eq!(
                (ran.code, ran.stdout.as_str()),
                (Some(0), "https://host/x.git\n"),
                "{at} {flags:?}: {ran:#?}"
            );
            assert!(line(&ran).contains("config`"), "{at} {flags:?}: {ran:#?}");
            assert_eq!(ran.stderr.lines().count(), 1, "nothing is kept: {at} {flags:?}: {ran:#?}");
        }
        let shown = aj(at, &[&["exec"], bare, &["--show", "**", "--", "sh", "-c", &read]].concat());
        assert!(shown.stdout.contains("hidden-token"), "teeth: {at}: {shown:#?}");
    }
    let git = p.dir().join("src/.git").display().to_string();
    let shown = aj("w", &["exec", "--show", &format!("{git}/config"), "--", "sh", "-c", &read]);
    assert!(shown.stdout.contains("hidden-token") && !shown.stdout.contains("hidden-stored"), "{shown:#?}");
}

#[test]
fn a_shared_configuration_that_was_cleaned_never_comes_back() {
    if !has("git") {
        return;
    }
    let Some(p) = project() else { return };
    p.outside(PARTS);
    let aj = |words: &[&str]| {
        let mut aj = p.command(crate::common::aj());
        Ran::from(aj.current_dir(p.dir().join("w")).args(words).output().unwrap())
    };
    let config = p.dir().join("src/.git/config");
    let before = std::fs::read(&config).unwrap();
    // git writes to it, and goes on.
    let work = "git branch -q --set-upstream-to=master 2>/dev/null || git config branch.w.merge x; \
                echo y > g; git add g; git commit -qm two; git remote add more https://host/more.git";
    let ran = aj(&["exec", "--", "sh", "-ec", work]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let ran = aj(&[
        "exec",
        "@",
        "--",
        "sh",
        "-c",
        "git remote -v; rm ../src/.git/credentials; grep -rI hidden ../src/.git",
    ]);
    assert!(ran.stdout.contains("more\thttps://host/more.git") && !ran.stdout.contains("hidden"), "{ran:#?}");
    let diff = aj(&["diff"]);
    assert!(
        diff.stdout.contains("/config  (was shown to the jail without the credentials in it"),
        "{diff:#?}"
    );
    assert!(!diff.stdout.contains("D "), "{diff:#?}");
    let applied = aj(&["apply", "--allow-exec-files", "--overwrite"]);
    assert_eq!(applied.code, Some(0), "{applied:#?}");
    assert_eq!(std::fs::read(&config).unwrap(), before);
    assert!(p.dir().join("src/.git/credentials").exists());
    assert_eq!(p.outside("git -C w log -1 --format=%s; git -C w status --porcelain").trim(), "two");
    aj(&[
        "exec",
        "--apply",
        "--allow-exec-files",
        "--",
        "sh",
        "-c",
        "rm -rf ../src/.git/config ../src/.git/modules",
    ]);
    assert_eq!(std::fs::read(&config).unwrap(), before);
    assert!(p.dir().join("src/.git/modules/a/config").exists());
    // A record that cannot be read is no record of nothing.
    aj(&["exec", "--", "touch", "new"]);
    let records =
        p.trees().iter().map(|t| t.join("side-git/hidden")).filter(|f| f.exists()).collect::<Vec<_>>();
    assert!(!records.is_empty());
    records.iter().for_each(|record| std::fs::write(record, "aj-hidden 1\n").unwrap());
    let ran = aj(&["apply", "--overwrite", "--allow-exec-files"]);
    assert!(ran.code != Some(0) && ran.stderr.contains("read `hidden`"), "{ran:#?}");
    assert!(config.exists() && !p.dir().join("w/new").exists());
}

#[test]
fn more_credentials_than_can_be_hidden_stop_the_run() {
    if !has("git") {
        return;
    }
    let Some(p) = project() else { return };
    p.outside("git init -q");
    p.write(".git/config", CONFIG);
    p.outside(
        "for i in $(seq 1001); do mkdir -p .git/modules/$i; cp .git/config .git/HEAD .git/modules/$i; done",
    );
    let ran = p.aj(["exec", "--", "sh", "-c", "grep -rl hidden .git/modules"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:#?}");
    assert!(ran.stderr.contains("more than 1000 names"), "{ran:#?}");
}

#[test]
fn other_worktrees_in_a_shared_directory_keep_their_secrets() {
    if !has("git") {
        return;
    }
    let Some(p) = project() else { return };
    p.outside(PARTS);
    p.outside("git -C b.git worktree add -q other --detach w; echo hidden-other > b.git/other/.env; echo hidden-main > b.git/main/.env");
    let aj = |words: &[&str]| {
        let mut aj = p.command(crate::common::aj());
        Ran::from(aj.current_dir(p.dir().join("b.git/main")).args(words).output().unwrap())
    };
    for flags in [&[][..], &["--rw"], &["--ro"]] {
        let ran =
            aj(&[&["exec"], flags, &["--", "sh", "-c", "cat ../other/f; grep -rI hidden .. .; exit 0"]]
                .concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "x\n"), "{flags:?}: {ran:#?}");
        assert!(line(&ran).contains("b.git/other/.env"), "{ran:#?}");
    }
    aj(&["exec", "--apply", "--allow-exec-files", "--", "sh", "-c", "rm -rf ../other; echo x > new"]);
    assert_eq!(p.outside("cat b.git/other/.env"), "hidden-other\n");
}

#[test]
fn what_a_secret_is_a_link_to_is_hidden_however_many_links_lead_there() {
    let Some(p) = project() else { return };
    p.write("config/prod.env", "hidden-chain\n");
    p.write("config/other.env", "hidden-directory\n");
    for (target, name) in [
        ("prod.env", "config/current.env"),
        ("config/current.env", ".env.prod"),
        ("config", "conf"),
        ("conf/other.env", ".env.other"),
        (".env.loop", ".env.loop"),
    ] {
        symlink(target, p.dir().join(name)).unwrap();
    }
    let ran = p.aj(["exec", "--", "sh", "-c", "grep -r hidden .; ls config"]);
    assert_eq!(ran.stdout, "current.env\n", "{ran:#?}");
}

#[test]
fn a_hidden_file_that_git_tracks_is_said_to_be_a_change() {
    if !has("git") {
        return;
    }
    let Some(p) = project() else { return };
    p.outside("git init -q && git config user.name x && git config user.email x@y && git add src key.pem && git commit -qm one");
    let ran = p.aj(["exec", "--", "git", "status", "--porcelain"]);
    assert!(
        ran.stdout.contains(" D key.pem") && ran.stderr.contains("warning: git tracks `key.pem`: hidden"),
        "{ran:#?}"
    );
    let ran = p.aj(["exec", "--show", "key.pem", "--", "git", "status", "--porcelain", "-uno"]);
    assert_eq!((ran.stdout.as_str(), ran.stderr.contains("git tracks")), ("", false), "{ran:#?}");
    // In a linked worktree, too; and not where git does not look for the file.
    p.outside("git worktree add -q ../w -b w");
    let linked = |script: &str| {
        let mut aj = p.command(crate::common::aj());
        Ran::from(
            aj.current_dir(p.dir().join("../w")).args(["exec", "--", "sh", "-c", script]).output().unwrap(),
        )
    };
    assert!(linked("true").stderr.contains("git tracks `key.pem`"));
    p.outside("git -C ../w update-index --skip-worktree key.pem");
    let ran = linked("git status --porcelain");
    assert_eq!((ran.stdout.as_str(), ran.stderr.contains("git tracks")), ("", false), "{ran:#?}");
}
