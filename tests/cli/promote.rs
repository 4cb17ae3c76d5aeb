//! `aj promote`, at its edges: what the host changed meanwhile, many layers, git directories elsewhere, `kill -9`.

use crate::common::{Ran, aj};
use crate::real::project::Project;
use std::os::unix::process::ExitStatusExt;

#[track_caller]
fn within(p: &Project, name: &str, script: &str) -> String {
    p.runs(&["exec", name, "--", "sh", "-c", script]).stdout
}

#[track_caller]
fn refused(p: &Project, words: &[&str], code: i32, why: &str) {
    let ran = p.aj(words);
    assert!(ran.code == Some(code) && ran.stderr.contains(why), "{ran:#?}");
}

fn layers(p: &Project, name: &str) -> usize {
    let shown = p.runs(&["ws", "show", name, "--json"]).stdout;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    shown["layers"].as_array().unwrap().len()
}

#[test]
fn what_the_host_changed_since_is_in_conflict_in_a_younger_workspace_as_well() {
    let Some(p) = Project::in_jails() else { return };
    p.write("f", "one\n");
    p.runs(&["ws", "create", "old", "--from-dir", "."]);
    within(&p, "old", "echo jail > f");
    std::thread::sleep(std::time::Duration::from_millis(20));
    p.write("f", "host\n");
    p.runs(&["ws", "create", "young", "--from-dir", "."]);
    refused(&p, &["promote", "old", "--into", "old"], 2, "workspace `old` cannot become itself");
    p.runs(&["promote", "old", "--into", "young"]);
    refused(&p, &["apply", "young"], 1, "1 change in conflict");
    assert_eq!(std::fs::read_to_string(p.dir().join("f")).unwrap(), "host\n");
}

#[test]
fn however_often_the_layers_stay_few_and_a_fork_of_many_is_still_one() {
    let Some(p) = Project::in_jails() else { return };
    p.runs(&["ws", "create", "w"]);
    p.runs(&["ws", "fork", "w", "--name", "k"]);
    for n in 0..10 {
        within(&p, "k", &format!("echo {n} > n{n}; rm -f n{}; echo {n} >> ~/h", n - 2));
        p.runs(&["promote", "k"]);
        assert!(layers(&p, "k") <= 7 && layers(&p, "w") <= 7, "{n}");
    }
    assert_eq!(within(&p, "w", "ls; cat ~/h"), "n8\nn9\n0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n");
    // Layers that were made one stand for what they were.
    let stands_on = layers(&p, "w");
    assert!(stands_on > 2, "or nothing is shown");
    for n in 0..6 {
        within(&p, "k", &format!("echo {n} > m{n}"));
        p.runs(&["ws", "fork", "k", "--name", &format!("k{n}")]);
    }
    p.runs(&["promote", "k"]);
    assert_eq!(within(&p, "w", "cat m0 m5 n9"), "0\n5\n9\n");
    within(&p, "w", "echo own > own");
    refused(&p, &["promote", "k"], 5, "has changed since");
}

#[test]
fn a_fork_whose_parent_was_removed_is_told_what_to_name() {
    let Some(p) = Project::in_jails() else { return };
    p.write("f", "one\n");
    p.runs(&["ws", "create", "w", "--from-dir", "."]);
    p.runs(&["ws", "fork", "w", "--name", "k"]);
    within(&p, "k", "echo two > f");
    p.runs(&["ws", "rm", "w"]);
    refused(&p, &["promote", "k"], 3, "`aj promote k --into WORKSPACE`");
    refused(&p, &["promote", "k"], 3, "that `k` is a fork of was removed");
    p.runs(&["ws", "create", "v", "--from-dir", "."]);
    p.runs(&["promote", "k", "--into", "v"]);
    assert_eq!(within(&p, "v", "cat f"), "two\n");
}

#[test]
fn a_git_directory_elsewhere_is_not_left_behind_without_a_word() {
    let Some(p) = Project::in_jails() else { return };
    p.outside(
        "git init -q ../main; cd ../main; git config user.email a@b; git config user.name n; echo 1 > f; \
         git add f; git commit -qm one; git worktree add -q ../tree",
    );
    let tree = p.top().join("tree");
    for name in ["a", "b"] {
        p.runs(&["ws", "create", name, "--from-dir", tree.to_str().unwrap()]);
    }
    let commit = ["exec", "a", "--", "sh", "-c", "echo 2 > f; git commit -qam two"];
    let ran = Ran::from(p.command(aj()).current_dir(&tree).args(commit).output().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    refused(&p, &["promote", "a", "--into", "b"], 1, "its git directory lies elsewhere");
    refused(&p, &["promote", "b", "--into", "a", "--overwrite"], 1, "its git directory lies elsewhere");
}

#[test]
fn what_belongs_to_another_user_of_the_jail_is_refused() {
    let Some(p) = Project::in_jails() else { return };
    if !crate::real::project::is_root() {
        return eprintln!("SKIP: an ordinary user's jails write as that user, whatever they see");
    }
    p.runs(&["ws", "create", "zero", "--as-root"]);
    p.runs(&["ws", "create", "w"]);
    within(&p, "zero", "echo 0 > f");
    refused(&p, &["promote", "zero", "--into", "w"], 2, "uid 0");
    within(&p, "w", "echo mine > f");
    assert_eq!(within(&p, "zero", "cat f"), "0\n");
}

#[test]
fn killed_at_any_step_either_has_what_it_had_or_what_it_was_to_get() {
    let Some(p) = Project::in_jails() else { return };
    p.write("f", "host\n");
    p.write(".env", "SECRET=1\n");
    p.runs(&["ws", "create", "w", "--from-dir", "."]);
    within(&p, "w", "echo 0 > n; echo 0 > ~/h");
    p.runs(&["ws", "fork", "w", "--name", "k"]);
    let (look, mut had) = ("cat n ~/h; ls -A", 0);
    let all = |n: u32| format!("{n}\n{n}\nf\nn\n");
    let steps = (1..150).find(|n| {
        within(&p, "k", &format!("echo {n} > n; echo {n} > ~/h"));
        // Also what is lost with the user's word is whole until then.
        within(&p, "w", "touch ~/own");
        let mut command = p.command(aj());
        let words = ["promote", "k", "--overwrite"];
        let output = command.args(words).env("AJ_TEST_KILL_AT", n.to_string()).output().unwrap();
        let killed = output.status.signal() == Some(9);
        assert!(killed || output.status.success(), "{n}: {output:?}");
        let now = within(&p, "w", look);
        assert!(now == all(*n) || killed && now == all(had), "{n}: {now}");
        assert_eq!(within(&p, "k", look), all(*n), "{n}");
        assert_eq!(p.runs(&["diff", "--name-only", "w"]).stdout, "n\n", "{n}");
        p.runs(&["promote", "k", "--overwrite"]);
        assert_eq!(within(&p, "w", look), all(*n), "{n}");
        assert!(layers(&p, "w") <= 7 && layers(&p, "k") <= 7);
        had = *n;
        !killed
    });
    if steps == Some(1) {
        return eprintln!("SKIP: this aj is no debug build");
    }
    assert!(steps.is_some_and(|n| n > 20), "{steps:?}");
    p.runs(&["ws", "rm", "w", "k"]);
    assert_eq!(std::fs::read_dir(p.state().join("layers")).unwrap().count(), 0, "no layer is left behind");
}
