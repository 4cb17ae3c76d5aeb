//! `aj diff` and `aj apply` on the command line: which jail and which paths are meant, what is said
//! when that cannot be, and what a script gets.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{Ran, aj};
use crate::input::in_mount_namespace;
use crate::real::project::{Project, is_root, private, skip};
use crate::yard::Running;

/// `aj` with these words in the directory `at` of the project.
fn at(p: &Project, at: &str, words: &[&str]) -> Ran {
    Ran::from(p.command(aj()).current_dir(p.dir().join(at)).args(words).output().unwrap())
}

/// A run that changes files; its id.
fn changing(p: &Project, script: &str) -> String {
    let ran = p.aj(["exec", "-q", "--", "sh", "-c", script]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    p.aj(["jail", "list", "-q", "--limit", "1"]).stdout.trim().to_owned()
}

/// What is written now is older than the next jail, also by the coarse clock of the file system.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(20));
}

#[track_caller]
fn fails(ran: &Ran, code: i32, said: &[&str]) {
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{ran:#?}");
    assert!(ran.stderr.starts_with("aj: error: ") && ran.stderr.contains("\nhint: "), "{ran:#?}");
    for word in said {
        assert!(ran.stderr.contains(word), "no {word:?} in {ran:#?}");
    }
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e} in {text}"))
}

#[test]
fn the_state_directory_is_checked_as_it_is_by_every_command() {
    let p = Project::new();
    let id = changing(&p, "echo evil > planted");
    let with = |state: &Path, words: &[&str]| {
        Ran::from(p.command(aj()).args(words).env("AJ_STATE_DIR", state).output().unwrap())
    };
    let refused = |state: &Path, said: &str| {
        for words in [&["diff"][..], &["diff", "@"], &["apply"], &["apply", "@"], &["apply", &id]] {
            fails(&with(state, words), 1, &[said]);
        }
        assert!(!p.dir().join("planted").exists());
    };
    symlink(p.state(), p.top().join("link")).unwrap();
    refused(&p.top().join("link"), "symbolic link");
    // From the project's directory this would lead to the right one.
    refused(Path::new("../state"), "not an absolute path");
    std::fs::set_permissions(p.state(), std::fs::Permissions::from_mode(0o755)).unwrap();
    refused(&p.state(), "open to other users");
    private(&p.state());
    std::fs::write(p.state().join("version"), "99\n").unwrap();
    refused(&p.state(), "made by a newer aj");
    std::fs::write(p.state().join("version"), "1\n").unwrap();
    if is_root() {
        std::os::unix::fs::chown(p.state(), Some(4321), None).unwrap();
        refused(&p.state(), "belongs to uid 4321");
        std::os::unix::fs::chown(p.state(), Some(0), None).unwrap();
    }
    let none = p.top().join("none");
    for words in [["diff"], ["apply"]] {
        fails(&with(&none, &words), 3, &["no changes are kept for"]);
    }
    assert!(!none.exists(), "looking makes nothing");
    assert_eq!(with(&p.state(), &["apply"]).code, Some(0));
}

#[test]
fn a_running_jail_is_shown_with_a_warning_and_never_applied() {
    let p = Project::new();
    p.write("f", "old\n");
    settle();
    changing(&p, "echo earlier > earlier");
    let script = "echo half > f; echo ready; read x; echo full > f";
    let mut run = p.command(aj());
    run.args(["exec", "-q", "--", "sh", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut run = Running::start(&mut run);
    assert_eq!(run.first_line().0, "ready");
    let id = p.aj(["jail", "list", "-q", "--limit", "1"]).stdout.trim().to_owned();
    for words in [&["diff"][..], &["diff", "@"], &["diff", &id], &["diff", &id[3..9]]] {
        let ran = p.aj(words);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "M f\n"), "{ran:#?}");
        assert!(ran.stderr.contains(&format!("warning: jail `{id}` is still running")), "{ran:#?}");
        assert!(!ran.stderr.contains("aj apply"), "{ran:#?}");
    }
    assert_eq!(json(&p.aj(["diff", "--json"]).stdout)["running"], true);
    for words in
        [&["apply"][..], &["apply", "@"], &["apply", &id], &["apply", "-n"], &["apply", "--overwrite"]]
    {
        let ran = p.aj(words);
        fails(&ran, 5, &[&format!("jail `{id}` is still running"), &format!("`aj diff {id}`")]);
    }
    let ran = p.aj(["apply", "--json"]);
    assert_eq!((ran.code, json(&ran.stderr)["error"]["code"].as_str()), (Some(5), Some("jail_running")));
    assert_eq!(std::fs::read_to_string(p.dir().join("f")).unwrap(), "old\n");
    assert!(!p.dir().join("earlier").exists(), "no other jail instead");
    run.0.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(run.end().code(), Some(0));
    assert_eq!(json(&p.aj(["diff", "--json"]).stdout)["running"], false);
    assert_eq!(p.aj(["apply"]).code, Some(0));
    assert_eq!(std::fs::read_to_string(p.dir().join("f")).unwrap(), "full\n");
}

#[test]
fn an_id_is_read_as_by_jail_show_and_what_is_nothing_is_an_error() {
    let p = Project::new();
    p.write("old", "");
    p.write("same", "");
    settle();
    let id = changing(&p, "echo 1 > new; rm old");
    let digits = &id[3..];
    for word in [&id, digits, &digits[..6], &id[..9], &id.to_uppercase(), &digits[..8].to_uppercase(), "@"] {
        let ran = p.aj(["diff", "--name-only", word]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "new\nold\n"), "{word}: {ran:#?}");
        assert_eq!(p.aj(["jail", "show", word]).code, Some(0), "{word}");
    }
    // What there is and did not change is an answer.
    let ran = p.aj(["diff", "same", "."]);
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 2), "{ran:#?}");
    assert_eq!(p.aj(["diff", "same"]).code, Some(0));
    let last = if digits.ends_with('0') { '1' } else { '0' };
    let misspelt = format!("{}{last}", &id[..id.len() - 1]);
    for command in ["diff", "apply"] {
        fails(&p.aj([command, &misspelt]), 3, &[&format!("no jail `{misspelt}`")]);
        fails(&p.aj([command, &misspelt[3..]]), 3, &[&format!("`{}` is neither", &misspelt[3..])]);
        fails(&p.aj([command, "jl-zzzz"]), 3, &["no jail `jl-zzzz`"]);
        fails(&p.aj([command, "zzzz"]), 3, &["`zzzz` is neither a path in"]);
        fails(&p.aj([command, "src/typo.rs"]), 3, &["no `src/typo.rs` in"]);
        fails(&p.aj([command, &id, "new", "typo"]), 3, &["no `typo` in"]);
        fails(&p.aj([command, "/etc/passwd"]), 2, &["`/etc/passwd` is not in"]);
    }
    let ran = p.aj(["apply", "--json", "zzzz"]);
    assert_eq!(
        (ran.stdout.as_str(), json(&ran.stderr)["error"]["code"].as_str()),
        ("", Some("path_not_found"))
    );
    assert!(p.dir().join("old").exists() && !p.dir().join("new").exists());
}

#[test]
fn what_is_printed_in_a_subdirectory_can_be_given_back_there() {
    let p = Project::new();
    p.write("sub/deep/old", "");
    p.write("old", "");
    settle();
    changing(&p, "rm old sub/deep/old; mkdir sub/new; touch sub/f 'sub/new/a b'");
    let shown = at(&p, "sub", &["diff", "--name-only"]);
    assert_eq!(shown.stdout, "../old\ndeep/old\nf\nnew/a b\n", "{shown:#?}");
    for name in shown.stdout.lines() {
        let one = at(&p, "sub", &["diff", "--name-only", name]);
        assert_eq!((one.code, one.stdout), (Some(0), format!("{name}\n")));
    }
    assert_eq!(at(&p, "sub", &["diff", "."]).stdout, "D deep/old\nA f\nA new/a b\n");
    assert_eq!(at(&p, "sub", &["diff", "--name-only", "-z", ".."]).stdout, "../old\0deep/old\0f\0new/a b\0");
    let json = json(&at(&p, "sub", &["diff", "--json", "f"]).stdout);
    assert_eq!(json["changes"][0]["path"], "sub/f", "in JSON a path is below `base`");
    assert_eq!(at(&p, "sub/deep", &["apply", "../f"]).stdout, "A ../f\n");
    assert!(p.dir().join("sub/f").exists() && p.dir().join("old").exists());
}

#[test]
fn a_result_that_is_not_all_comes_with_an_error_line_under_json() {
    let p = Project::new();
    p.write("both", "old");
    p.write(".git/config", "");
    settle();
    let id = changing(&p, "echo jail > both; echo jail > mine; echo evil >> .git/config");
    p.write("both", "host");
    let ask = |words: &[&str]| {
        let ran = p.aj(["apply", "--json"].iter().chain(words));
        assert_eq!(ran.stderr.lines().count(), 1, "{ran:#?}");
        (ran.code, json(&ran.stdout), json(&ran.stderr)["error"].clone())
    };
    let (code, document, error) = ask(&[]);
    assert_eq!((code, error["code"].as_str()), (Some(1), Some("conflict")));
    assert_eq!((&document["performed"], &document["applied"]), (&false.into(), &serde_json::json!([])));
    assert_eq!((&document["totals"]["changes"], &document["conflicts_total"]), (&0.into(), &1.into()));
    assert_eq!(document["conflicts"][0]["path"], "both");
    let plain = p.aj(["apply"]);
    assert_eq!(plain.code, Some(1));
    assert!(!plain.stdout.contains("mine"), "{plain:#?}");
    let dry = p.aj(["apply", "-n"]);
    assert_eq!(dry.code, Some(0));
    assert!(!dry.stdout.contains("mine") && dry.stderr.contains("would apply nothing"), "{dry:#?}");
    assert!(!p.dir().join("mine").exists());
    let (code, document, error) = ask(&["--partial"]);
    assert_eq!((code, error["code"].as_str()), (Some(6), Some("partly_applied")));
    assert_eq!((&document["performed"], &document["applied"][0]["path"]), (&true.into(), &"mine".into()));
    let (code, document, error) = ask(&["--overwrite", &id]);
    assert_eq!((code, error["code"].as_str()), (Some(4), Some("exec_files_withheld")));
    assert_eq!(document["withheld"][0]["path"], ".git/config");
    let page = p.aj(["help", "json"]).stdout;
    for code in ["conflict", "partly_applied", "exec_files_withheld"] {
        assert!(page.contains(code), "{code} in {page}");
    }
}

#[test]
fn the_hint_after_a_conflict_works() {
    let p = Project::new();
    for name in ["both", "other", "left alone"] {
        p.write(name, "old");
    }
    settle();
    changing(&p, "for f in both other 'left alone'; do echo jail > \"$f\"; done");
    p.write("both", "host");
    p.write("left alone", "host");
    let ran = p.aj(["apply", "--partial", "both", "other"]);
    assert_eq!((ran.code, ran.stdout.lines().next()), (Some(6), Some("M other")), "{ran:#?}");
    let hint = ran.stderr.lines().last().unwrap();
    let command = hint.split('`').nth(1).unwrap_or_else(|| panic!("no command in {ran:#?}"));
    let ran = p
        .command("sh")
        .args(["-c", &format!("aj() {{ \"$AJ\" \"$@\"; }}; {command}")])
        .env("AJ", aj())
        .output();
    let ran = Ran::from(ran.unwrap());
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "M both  (changed on the host since the jail started)\n"),
        "{command}: {ran:#?}"
    );
    assert_eq!(
        std::fs::read_to_string(p.dir().join("left alone")).unwrap(),
        "host",
        "what was asked, no more"
    );
}

#[test]
fn the_newest_is_the_one_that_started_last_whatever_clocks_say() {
    let p = Project::new();
    let old = changing(&p, "touch first");
    let new = changing(&p, "touch second");
    let base = |id: &str| p.state().join("trees").join(id).join("base");
    let touch = |id: &str| Command::new("touch").arg("-h").arg(base(id)).status().unwrap();
    settle();
    assert!(touch(&old).success());
    for words in [&["diff", "--name-only"][..], &["diff", "--name-only", "@"]] {
        assert_eq!(p.aj(words).stdout, "second\n");
    }
    // One that changed nothing is the newest for `aj jail show` alone: `@` is of what is kept here.
    assert_eq!(p.aj(["exec", "--", "true"]).code, Some(0));
    let shown = p.aj(["jail", "show", "@", "--json"]).stdout;
    let last = json(&shown)["id"].as_str().unwrap().to_owned();
    assert_ne!(last, new);
    fails(&p.aj(["apply", &last]), 3, &[&format!("no changes are kept of jail `{last}`")]);
    assert_eq!(p.aj(["diff", "--name-only", "@"]).stdout, "second\n");
    assert_eq!(p.aj(["diff", "--name-only"]).stdout, "second\n");
}

#[test]
fn a_directory_that_cannot_be_changed_is_named() {
    let p = Project::new();
    p.write("sub/old", "");
    changing(&p, "echo 1 > sub/new");
    let said = |ran: &Ran, errno: &str| {
        let directory = std::fs::canonicalize(p.dir()).unwrap().join("sub");
        let line = format!("  sub/new: could not change directory `{}`: ", directory.display());
        assert_eq!(ran.code, Some(1), "{ran:#?}");
        assert!(ran.stdout.contains(&line) && ran.stdout.contains(errno), "{ran:#?}");
        assert!(!ran.stdout.contains(".aj-apply-"), "{ran:#?}");
        assert!(ran.stderr.contains(&format!("hint: make `{}` writable", directory.display())), "{ran:#?}");
    };
    let script = "mount --bind . . && mount -o remount,bind,ro . && cd \"$PWD\" && exec \"$AJ\" apply";
    if let Some(mut command) = in_mount_namespace(&p, script) {
        said(&Ran::from(command.output().unwrap()), "(EROFS)");
    }
    if is_root() {
        return skip("root may write to every directory");
    }
    std::fs::set_permissions(p.dir().join("sub"), std::fs::Permissions::from_mode(0o555)).unwrap();
    // Its own directory `aj` would open for a moment, but not one whose bits the jail changed and nobody asked for.
    settle();
    changing(&p, "chmod 755 sub; echo 1 > sub/new; chmod 511 sub");
    said(&p.aj(["apply", "sub/new"]), "Permission denied (EACCES)");
}

/// A module cache: directories that nobody may write to, their owner included.
const SHUT: &str = "mkdir -p shut/in/deep && echo s > shut/s && echo k > shut/in/k && echo d > shut/in/deep/d && \
    chmod 555 shut/in/deep shut/in shut";

#[test]
fn directories_that_are_not_writable_go_whole_and_nothing_is_left_of_them() {
    for (jail, wanted) in [
        ("rm -rf shut", "f\n"),
        ("rm -rf shut; echo file > shut", "f\nshut\n"),
        ("rm -rf shut; mkdir shut; echo new > shut/n", "f\nshut\nshut/n\n"),
        ("rm -rf shut/in; echo in > shut/in", "f\nshut\nshut/in\nshut/s\n"),
    ] {
        let p = Project::new();
        p.write("f", "");
        p.outside(SHUT);
        settle();
        changing(&p, &format!("chmod -R u+w shut; {jail}"));
        let ran = p.aj(["apply", "--json"]);
        assert_eq!(ran.code, Some(0), "{jail}: {ran:#?}");
        assert_eq!(json(&ran.stdout)["failed"].as_array().unwrap().len(), 0, "{jail}: {ran:#?}");
        let found = p.outside("find . -mindepth 1 -printf '%P\\n' | sort");
        assert_eq!(found, wanted, "{jail}: {ran:#?}");
    }
}

#[test]
fn what_a_killed_apply_left_of_directories_that_are_not_writable_goes() {
    let p = Project::new();
    p.outside(SHUT);
    // Links in it lead to what is to stay as it is.
    p.outside(
        "mkdir -m 500 ../kept && chmod u+w shut/in && ln -s ../../../kept shut/in/link && chmod u-w shut/in",
    );
    p.outside("mv shut .aj-apply-0123456789abcdef");
    settle();
    changing(&p, "echo new > n");
    let ran = p.aj(["apply", "--json"]);
    assert_eq!((ran.code, json(&ran.stdout)["cleaned"].as_u64()), (Some(0), Some(1)), "{ran:#?}");
    assert_eq!(p.outside("ls -A; stat -c %a ../kept"), "n\n500\n");
}

#[test]
fn a_directory_becomes_writable_before_what_is_in_it_changes() {
    let p = Project::new();
    p.outside(
        "mkdir -p sub/dir && echo s > sub/s && echo d > sub/dir/d && echo m > sub/m && chmod 500 sub/dir sub",
    );
    settle();
    changing(
        &p,
        "chmod 700 sub sub/dir; echo x > sub/n; rm sub/s; echo M > sub/m; rm -r sub/dir; mkdir sub/dir",
    );
    let ran = p.aj(["apply"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stdout.contains("m sub/  (mode 0500 to 0700)"), "{ran:#?}");
    assert_eq!(
        p.outside("cat sub/n sub/m; stat -c '%n %a' sub sub/*"),
        "x\nM\nsub 700\nsub/dir 755\nsub/m 644\nsub/n 644\n"
    );
    assert_eq!(p.aj(["apply"]).code, Some(0));
}

/// Directories that nobody may write in, and a jail that opened them for a moment.
fn for_a_moment(p: &Project) {
    p.outside("mkdir ro && echo 1 > ro/f && echo 1 > ro/gone && chmod 555 ro");
    settle();
    changing(p, "chmod u+w ro; echo 2 > ro/f; rm ro/gone; mkdir ro/new; echo 2 > ro/new/f; chmod 555 ro");
}

const AFTER_A_MOMENT: &str = "2\n2\nro 555\nro/f 644\nro/new 755\n";
const LOOK: &str = "cat ro/f ro/new/f; stat -c '%n %a' ro ro/*";

#[test]
fn a_directory_that_is_not_writable_is_opened_while_it_is_changed() {
    let p = Project::new();
    for_a_moment(&p);
    let ran = p.aj(["apply"]);
    assert_eq!((ran.code, p.outside(LOOK)), (Some(0), AFTER_A_MOMENT.into()), "{ran:#?}");
    assert_eq!(p.aj(["diff"]).stdout, "");
}

#[test]
fn killed_at_any_step_the_next_apply_closes_what_was_opened() {
    for n in 1.. {
        let p = Project::new();
        for_a_moment(&p);
        let killed = p.command(aj()).arg("apply").env("AJ_TEST_KILL_AT", n.to_string()).output().unwrap();
        if killed.status.signal() != Some(9) {
            assert!(n == 1 || n > 10, "{n}: {killed:?}");
            break;
        }
        let ran = p.aj(["apply"]);
        assert_eq!((ran.code, p.outside(LOOK)), (Some(0), AFTER_A_MOMENT.into()), "killed at {n}: {ran:#?}");
        assert_eq!(p.outside("find . -name '.aj-*'"), "", "killed at {n}");
    }
}

#[test]
fn nothing_is_said_of_a_rest_that_there_is_not() {
    let p = Project::new();
    p.write("f", "host\n");
    settle();
    changing(&p, "echo jail > f");
    p.write("f", "host again\n");
    let ran = p.aj(["apply"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("--overwrite"), "{ran:#?}");
    assert!(!ran.stderr.contains("--partial"), "{ran:#?}");
}

#[test]
fn a_current_directory_that_is_gone_is_worded_as_for_exec() {
    let p = Project::new();
    let id = changing(&p, "touch new");
    let said = |command: &str| {
        let script = format!("mkdir gone && cd gone && rmdir ../gone && exec \"$AJ\" {command}");
        Ran::from(p.command("bash").args(["-c", &script]).env("AJ", aj()).output().unwrap())
    };
    let exec = said("exec -- true");
    for command in ["diff", "apply", "diff new"] {
        let ran = said(command);
        assert_eq!((ran.code, &ran.stderr), (Some(1), &exec.stderr), "{command}");
    }
    assert_eq!(said(&format!("diff {id} new")).stdout, "A new\n", "a jail that is named needs no directory");
}

#[test]
fn what_runs_leave_in_the_state_directory_can_be_removed_by_hand() {
    let p = Project::new();
    changing(&p, "touch new");
    assert_eq!(p.aj(["exec", "--", "true"]).code, Some(0));
    assert_eq!(p.aj(["exec", "--durable", "--", "touch", "new"]).code, Some(0));
    let mut seen = 0;
    for tree in p.trees() {
        for left in ["work/work", "work/work/incompat", "work/work/incompat/volatile"] {
            let Ok(meta) = std::fs::metadata(tree.join(left)) else { continue };
            assert_eq!(meta.mode() & 0o700, 0o700, "{}", tree.join(left).display());
            seen += 1;
        }
    }
    assert!(seen > 0, "overlayfs left nothing: {:?}", p.trees());
    if is_root() {
        return skip("root removes everything");
    }
    let rm = Ran::from(Command::new("rm").arg("-rf").arg(p.state()).output().unwrap());
    assert_eq!((rm.code, rm.stderr.as_str()), (Some(0), ""));
    assert!(!p.state().exists());
}

#[test]
fn what_was_deleted_on_the_host_does_not_come_back_silently() {
    let p = Project::new();
    std::fs::create_dir(p.dir().join("d")).unwrap();
    for name in ["g", "d/x", "d/y", "q", "r", "moved"] {
        std::fs::write(p.dir().join(name), "B\n").unwrap();
    }
    settle();
    changing(
        &p,
        "echo J >> g; echo J >> d/x; chmod 755 q; echo J >> r; mv moved here; echo J >> here; echo J > new",
    );
    for name in ["g", "q"] {
        std::fs::remove_file(p.dir().join(name)).unwrap();
    }
    std::fs::remove_dir_all(p.dir().join("d")).unwrap();
    std::fs::rename(p.dir().join("r"), p.dir().join("r2")).unwrap();
    let gone = ["d/x", "g", "q", "r"];
    let told = json(&p.aj(["diff", "--json"]).stdout);
    let conflicts = |changes: &serde_json::Value| -> Vec<String> {
        let one =
            |c: &serde_json::Value| c["conflict"].is_string().then(|| c["path"].as_str().unwrap().to_owned());
        changes.as_array().unwrap().iter().filter_map(one).collect()
    };
    assert_eq!(conflicts(&told["changes"]), gone, "{told}");
    let ran = p.aj(["apply"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stdout.contains("A g  (deleted on the host since the jail started)"), "{ran:#?}");
    assert!(ran.stderr.contains("--overwrite"), "{ran:#?}");
    let there = |name: &str| p.dir().join(name).exists();
    assert!(!gone.iter().any(|name| there(name)) && !there("new"));
    let ran = p.aj(["apply", "--partial"]);
    assert_eq!(ran.code, Some(6), "{ran:#?}");
    assert!(!gone.iter().any(|name| there(name)) && there("new") && there("here"));
    let ran = p.aj(["apply", "--overwrite"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(gone.iter().all(|name| there(name)) && !there("d/y"));
}

#[test]
fn locks_that_a_killed_git_left_behind_stay_out() {
    let p = Project::new();
    p.outside("git init -q -b main && git config user.name a && git config user.email a@b && git commit -q --allow-empty -m x");
    let locks = [".git/index.lock", ".git/HEAD.lock", ".git/packed-refs.lock", ".git/refs/heads/main.lock"];
    let script = format!(
        "git -c gc.auto=0 commit -q --allow-empty -m inside && touch {} && echo x > Cargo.lock",
        locks.join(" ")
    );
    let id = changing(&p, &script);
    let ran = p.aj(["apply", &id]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    for lock in locks {
        assert!(
            ran.stdout.contains(&format!("{lock}  (is a lock that a git left behind)")),
            "{lock} {ran:#?}"
        );
        assert!(!p.dir().join(lock).exists(), "{lock}");
    }
    assert_eq!(
        p.outside("cat Cargo.lock; git commit -q --allow-empty -m outside; git log --format=%s"),
        "x\noutside\ninside\nx\n"
    );
}
