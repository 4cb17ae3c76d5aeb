//! Secrets in trees that runs went on in: what a run was shown and has copied, and what it made itself.

use super::project::{Project, has};
use super::secrets::{CONFIG, KEY, PARTS, line, project};
use crate::common::{Ran, aj};

/// `aj exec WORDS -- sh -c SCRIPT`, which has to end well.
#[track_caller]
fn exec(p: &Project, words: &[&str], script: &str) -> Ran {
    let ran = p.aj([&["exec"], words, &["--", "sh", "-c", script]].concat());
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    ran
}

const READ: &str = "cat .env key.pem .git/config 2>/dev/null; exit 0";

#[test]
fn what_an_earlier_run_was_shown_and_has_copied_is_hidden_from_a_later_one() {
    if !has("git") {
        return;
    }
    let Some(p) = project() else { return };
    p.outside("git init -q");
    p.write(".git/config", CONFIG);
    let all = ["--show", ".env", "--show", "key.pem", "--show", ".git/config"];
    // Copied as they are, changed, and made anew with the same content.
    let script = "chmod 640 .env; echo '# more' >> key.pem; cp -p .git/config c; mv c .git/config
        git config user.name jail";
    exec(&p, &all, script);
    let later = |words: &[&str]| exec(&p, &[&["@"], words].concat(), READ);
    let ran = later(&[]);
    assert!(!ran.stdout.contains("hidden"), "{ran:#?}");
    assert!(ran.stdout.contains("name = jail") && ran.stdout.contains("https://host/x.git"), "{ran:#?}");
    assert!(["`.env`", "`key.pem`", "`.git/config`"].iter().all(|n| line(&ran).contains(n)), "{ran:#?}");
    let ran = later(&all);
    let seen = ["A=hidden-env", "hidden-key", "# more", "hidden-token", "name = jail"];
    assert!(seen.iter().all(|text| ran.stdout.contains(text)), "{ran:#?}");
    // Nothing of that is a change.
    let diff = p.aj(["diff", "--name-only"]);
    assert_eq!(diff.stdout, ".env\n.git/config\nkey.pem\n", "{diff:#?}");
}

#[test]
fn a_directory_that_an_earlier_run_has_changed_is_hidden_whole_and_its_changes_are_kept() {
    let Some(p) = project() else { return };
    p.write("hid/z", "hidden-z\n");
    exec(&p, &[], "echo mine > hid/new");
    p.write("hid/late", "hidden-late\n");
    let ran = exec(&p, &["@", "--hide", "/hid", "--json"], "ls -A hid; cat hid/* 2>/dev/null; exit 0");
    let answer: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(answer["stdout"], "", "{answer:#}");
    assert!(answer["policy"]["hidden"].as_array().unwrap().contains(&"hid".into()), "{answer:#}");
    assert_eq!(exec(&p, &["@"], "cat hid/new hid/z").stdout, "mine\nhidden-z\n");
    assert_eq!(p.aj(["diff", "--name-only"]).stdout, "hid/new\n");
    // One that the jail made itself, in the place of the host's, has nothing of the host's in it.
    exec(&p, &["@"], "rm -r hid; mkdir hid; echo own > hid/own");
    let ran = exec(&p, &["@", "--hide", "/hid"], "ls -A hid");
    assert_eq!((ran.stdout.as_str(), line(&ran).contains("`hid`")), ("own\n", false), "{ran:#?}");
}

#[test]
fn what_is_the_jails_own_is_seen_and_not_said_to_be_hidden() {
    let Some(p) = project() else { return };
    let ran = exec(&p, &[], "echo own > .env; rm -f key.pem");
    assert!(line(&ran).contains("`.env`"), "{ran:#?}");
    let ran = exec(&p, &["@"], READ);
    assert_eq!(ran.stdout, "own\n", "{ran:#?}");
    assert!(!line(&ran).contains("`.env`,") && line(&ran).contains("`.env.local`"), "{ran:#?}");
}

#[test]
fn what_the_jail_made_and_apply_brought_back_stays_its_own() {
    let Some(p) = Project::in_jails() else { return };
    p.write(".env.example", "A=\n");
    exec(&p, &[], "echo own > .env; echo 1 > f");
    assert_eq!(p.aj(["apply"]).code, Some(0));
    // A secret of the host's by now, and the same file to whoever goes on.
    let ran =
        exec(&p, &["@"], "cat .env; echo two >> .env; cat .env; cp .env.example .new; mv .new .env; rm .env");
    assert_eq!((ran.stdout.as_str(), line(&ran).as_str()), ("own\nown\ntwo\n", ""), "{ran:#?}");
}

#[test]
fn in_a_workspace_and_its_forks_it_is_the_same() {
    let Some(p) = project() else { return };
    let ok = |words: &[&str]| {
        let ran = p.aj(words);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
    };
    ok(&["workspace", "create", "w", "--from-dir", "."]);
    exec(&p, &["w", "--show", ".env"], "chmod 640 .env; rm -f key.pem; echo own > key.pem");
    ok(&["workspace", "stop", "w"]);
    let check = |words: &[&str]| {
        let ran = exec(&p, words, READ);
        assert_eq!((ran.stdout.as_str(), line(&ran).contains("`.env`")), ("own\n", true), "{ran:#?}");
        assert!(!line(&ran).contains("`key.pem`"), "{ran:#?}");
    };
    check(&["w"]);
    check(&["w", "--isolated"]);
    ok(&["workspace", "fork", "w", "--name", "w2"]);
    check(&["w2"]);
    check(&["w2", "--isolated"]);
    check(&["w"]);
    // The host's own: what the workspace has copied is the same file to it.
    exec(&p, &["w2", "--isolated", "--show", ".env"], "grep -q hidden-env .env");
}

#[test]
fn a_later_run_in_the_same_changes_is_shown_what_it_asks_for() {
    if !has("git") {
        return;
    }
    let Some(p) = project() else { return };
    p.write("a/.env", "A=hidden-a\n");
    p.write("a/b", "shown\n");
    p.outside(PARTS);
    let aj = |at: &str, words: &[&str]| {
        let mut aj = p.command(aj());
        Ran::from(aj.current_dir(p.dir().join(at)).args(words).output().unwrap())
    };
    let read = "cat .env key.pem a/.env 2>/dev/null; exit 0";
    aj("", &["exec", "--hide", "a/.env", "--", "sh", "-c", "echo 1 > new; rm -f .env.local"]);
    let again = |flags: &[&str]| aj("", &[&["exec", "@"], flags, &["--", "sh", "-c", read]].concat()).stdout;
    assert_eq!(again(&[]), "", "hidden once, it stays so");
    assert_eq!(again(&["--show", ".env"]), "A=hidden-env\n");
    assert_eq!(again(&[]), "", "and is hidden again");
    assert_eq!(again(&["--show", "a/.env", "--show", "key.pem"]), format!("{KEY}A=hidden-a\n"));
    // Its own file of the name stays.
    aj("", &["exec", "@", "--", "sh", "-c", "echo own > .env"]);
    assert_eq!(again(&["--show", ".env"]), "own\nA=hidden-a\n", "the other is no secret by its name there");
    let diff = aj("", &["diff"]);
    assert!(diff.stdout.contains("A new") && !diff.stdout.contains("D "), "{diff:#?}");
    assert!(diff.stdout.contains(".env  (was hidden from the jail, which made its own)"), "{diff:#?}");
    assert_eq!(aj("", &["apply"]).code, Some(0));
    assert_eq!(std::fs::read_to_string(p.dir().join(".env")).unwrap(), "A=hidden-env\n");
    // Of a shared git directory as well.
    aj("w", &["exec", "--", "sh", "-c", "echo 1 > new; git remote -v"]);
    let config = p.dir().join("src/.git/config").display().to_string();
    let ran = aj("w", &["exec", "@", "--show", &config, "--", "git", "remote", "-v"]);
    assert!(ran.stdout.contains("hidden-token"), "{ran:#?}");
    let ran = aj("w", &["exec", "@", "--", "git", "remote", "-v"]);
    assert!(ran.stdout.contains("https://host/x.git"), "{ran:#?}");
    assert!(!aj("w", &["diff"]).stdout.contains("config"));
}
