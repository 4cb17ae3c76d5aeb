//! `aj workspace create --import DIR`: a workspace over a copy of a host directory.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use super::fails;
use crate::common::{Ran, aj};
use crate::input::in_mount_namespace;
use crate::real::project::{Project, is_root, os, skip};
use crate::yard::eventually;

#[track_caller]
fn within(p: &Project, name: &str, script: &str) -> String {
    p.runs(&["exec", "-q", name, "--", "sh", "-c", script]).stdout
}

/// Nothing is applied, because of one conflict.
#[track_caller]
fn refused(p: &Project, words: &[&str]) {
    let ran = p.aj(words);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("nothing was applied: 1 change in conflict"), "{ran:#?}");
}

fn layers(p: &Project) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(p.state().join("layers")) else { return Vec::new() };
    entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

fn read(p: &Project, name: &str) -> String {
    std::fs::read_to_string(p.dir().join(name)).unwrap()
}

#[test]
fn what_the_host_does_later_is_not_seen_and_only_changes_since_are_told() {
    let p = Project::new();
    p.write("f", "host\n");
    p.write("d/g", "g\n");
    assert_eq!(p.runs(&["ws", "create", "api", "--import", "."]).stdout, "api\n");
    p.write("f", "later\n");
    p.write("new", "later\n");
    std::fs::remove_dir_all(p.dir().join("d")).unwrap();
    assert_eq!(within(&p, "api", "pwd; cat f d/g; ls"), "/workspace\nhost\ng\nd\nf\n");
    assert_eq!(p.runs(&["diff", "api"]).stdout, "", "nothing was written in it");
    within(&p, "api", "echo in >> d/g; echo n > n; rm f");
    assert_eq!(p.runs(&["diff", "api"]).stdout, "M d/g\nD f\nA n\n");
    assert_eq!(p.runs(&["fs", "cat", "api", "d/g"]).stdout, "g\nin\n");
    let from = std::fs::canonicalize(p.dir()).unwrap();
    let shown: Value = serde_json::from_str(&p.runs(&["--json", "ws", "show", "api"]).stdout).unwrap();
    let copy = serde_json::json!({"from": from, "files": 2, "bytes": shown["imported"]["bytes"]});
    assert_eq!(
        (&shown["imported"], &shown["from_dir"], &shown["path"]),
        (&copy, &Value::Null, &"/workspace".into())
    );
    let text = p.runs(&["ws", "show", "api"]).stdout;
    assert!(text.contains(&format!("a copy of {} (2 files, ", from.display())), "{text}");
    p.runs(&["ws", "create", "shared", "--from-dir", "."]);
    let text = p.runs(&["ws", "show", "shared"]).stdout;
    assert!(text.contains(&format!("{} (the host's own, shared as it is)", from.display())), "{text}");
}

#[test]
fn forks_share_the_copy_which_goes_with_the_last_of_them() {
    let p = Project::new();
    p.write("f", "host\n");
    p.runs(&["ws", "create", "a", "--import", "."]);
    let copy = layers(&p);
    assert_eq!(copy.len(), 1);
    within(&p, "a", "echo a >> f");
    p.runs(&["ws", "fork", "a", "--name", "b"]);
    p.runs(&["ws", "fork", "b", "--name", "c"]);
    within(&p, "b", "echo b >> f; echo b > only");
    assert_eq!(within(&p, "c", "cat f; ls"), "host\na\nf\n");
    p.runs(&["gc"]);
    p.runs(&["promote", "b", "--into", "a"]);
    assert_eq!(within(&p, "a", "cat f only"), "host\na\nb\nb\n");
    p.runs(&["ws", "rm", "a", "b"]);
    p.runs(&["gc"]);
    assert!(layers(&p).contains(&copy[0]), "one still lies over it");
    assert_eq!(within(&p, "c", "cat f"), "host\na\n");
    // Of another copy of the same directory, it is none.
    p.runs(&["ws", "create", "d", "--import", "."]);
    fails(&p, &["promote", "c", "--into", "d"], 2, &["do not lie over the same directory"]);
    p.runs(&["ws", "rm", "c", "d"]);
    assert_eq!(layers(&p), [""; 0]);
}

#[test]
fn a_fork_may_lie_over_a_copy_of_the_directory_that_its_parent_shares() {
    let p = Project::new();
    for f in ["f", "g", ".env"] {
        p.write(f, "host\n");
    }
    let at = std::fs::canonicalize(p.dir()).unwrap();
    p.runs(&["ws", "create", "api", "--from-dir", "."]);
    within(&p, "api", "echo in >> f; echo h > ~/h");
    p.runs(&["ws", "fork", "api", "--import", "--name", "fork"]);
    p.write("g", "later\n");
    let look = "pwd; cat f g ~/h; cat .env 2>/dev/null; ls";
    let wanted = |g: &str| format!("{}\nhost\nin\n{g}\nh\nf\ng\n", at.display());
    assert_eq!((within(&p, "fork", look), within(&p, "api", look)), (wanted("host"), wanted("later")));
    assert_eq!(p.runs(&["diff", "fork"]).stdout, "M f\n", "nothing of the copy is taken for newer");
    let text = p.runs(&["ws", "show", "fork"]).stdout;
    assert!(text.contains(&format!("a copy of {} (3 files", at.display())), "{text}");
    fails(&p, &["promote", "fork", "--into", "api"], 2, &["do not lie over the same directory"]);
    // Changed on both sides, as far as the workspace knows: over a copy of that it would be no conflict.
    within(&p, "fork", "echo mine > g");
    refused(&p, &["apply", "-q", "fork"]);
    p.write("g", "host\n");
    assert_eq!(p.runs(&["apply", "fork"]).stdout, "M f\nM g\n");
    assert_eq!((read(&p, "f"), read(&p, "g")), ("host\nin\n".to_owned(), "mine\n".to_owned()));
    within(&p, "api", "echo theirs > g");
    p.write("g", "host, later\n");
    fails(&p, &["ws", "fork", "api", "--import"], 1, &["1 of its changes are in conflict", "aj diff api"]);
    fails(&p, &["ws", "fork", "fork", "--import"], 2, &["no directory of the host's"]);
    p.runs(&["ws", "rm", "api", "fork"]);
    assert_eq!(layers(&p), [""; 0]);
}

#[test]
fn changes_come_back_to_where_the_copy_was_made_of_what_nobody_touched_there() {
    let p = Project::new();
    for f in ["f", "both", "gone", "d/x", "d/y"] {
        p.write(f, "1\n");
    }
    p.runs(&["ws", "create", "api", "--import", "."]);
    within(&p, "api", "echo 2 >> f; echo 2 >> both; rm -r gone d; echo n > n");
    // As a checkout to and fro leaves it: written anew, and the same as ever.
    p.write("f", "1\n");
    p.write("both", "host\n");
    refused(&p, &["apply", "-q", "api"]);
    assert_eq!(read(&p, "f"), "1\n");
    p.write("both", "1\n");
    // Somebody's own file in a directory that is about to go.
    p.write("d/mine", "host\n");
    refused(&p, &["apply", "-q", "api"]);
    std::fs::remove_file(p.dir().join("d/mine")).unwrap();
    assert_eq!(p.runs(&["apply", "api"]).stdout, "M both\nD d/  (2 files)\nM f\nD gone\nA n\n");
    assert_eq!((read(&p, "f"), read(&p, "n")), ("1\n2\n".to_owned(), "n\n".to_owned()));
    assert!(!p.dir().join("d").exists() && !p.dir().join("gone").exists());
    // What was brought back is no change of the host's when it is changed again.
    within(&p, "api", "echo 3 >> f; rm n");
    assert_eq!(p.runs(&["apply", "api"]).stdout, "M f\n", "the copy never had an `n`");
    assert_eq!(read(&p, "f"), "1\n2\n3\n");
    // Into another directory that has the same, and into one that has not.
    let other = p.top().join("other");
    std::fs::create_dir_all(other.join("d")).unwrap();
    for f in ["f", "both", "gone", "d/x", "d/y"] {
        std::fs::write(other.join(f), "1\n").unwrap();
    }
    let to = other.to_str().unwrap();
    p.runs(&["apply", "api", "--to", to]);
    assert_eq!(std::fs::read_to_string(other.join("f")).unwrap(), "1\n2\n3\n");
    assert!(!other.join("d").exists());
    let stranger = p.top().join("stranger");
    std::fs::create_dir(&stranger).unwrap();
    std::fs::write(stranger.join("f"), "mine\n").unwrap();
    refused(&p, &["apply", "-q", "api", "--to", stranger.to_str().unwrap()]);
    std::fs::rename(p.dir(), p.top().join("away")).unwrap();
    std::fs::create_dir(p.dir()).unwrap();
    std::fs::remove_dir(p.dir()).unwrap();
    symlink(&stranger, p.dir()).unwrap();
    let ran = p.command(aj()).current_dir(p.top()).args(["apply", "-q", "api"]).output().unwrap();
    assert_ne!(ran.status.code(), Some(0), "another directory by way of a link");
    assert_eq!(std::fs::read_to_string(stranger.join("f")).unwrap(), "mine\n");
}

#[test]
fn secrets_are_hidden_as_those_of_any_directory() {
    let p = Project::new();
    p.write("f", "text\n");
    p.write(".env", "KEY=s3cret\n");
    p.write("deep/down/id_rsa", "s3cret\n");
    p.write("link.txt", "");
    // With teeth: whoever may look at the directory finds them.
    assert_eq!(p.outside("grep -rl s3cret . | sort").trim(), "./.env\n./deep/down/id_rsa");
    p.runs(&["ws", "create", "api", "--import", ".", "--hide", "deep/**/id_*"]);
    let ran = p.aj([
        "exec",
        "api",
        "--",
        "sh",
        "-c",
        "grep -rl s3cret /workspace/ /output /tmp ~; ls -A; ls -A deep/down",
    ]);
    assert_eq!(ran.stdout, "deep\nf\nlink.txt\n", "{ran:#?}");
    assert!(ran.stderr.contains("`.env`"), "and it is said: {ran:#?}");
    for look in [&["fs", "cat", "api", ".env"][..], &["fs", "cat", "api", "deep/down/id_rsa"]] {
        assert_ne!(p.aj(look).code, Some(0), "{look:?}");
    }
    assert_eq!(p.runs(&["diff", "api"]).stdout, "");
    p.runs(&["ws", "fork", "api", "--name", "b"]);
    assert_eq!(within(&p, "b", "grep -rl s3cret . 2>/dev/null; true"), "");
    assert_eq!(p.runs(&["exec", "-q", "--show", ".env", "b", "--", "cat", ".env"]).stdout, "KEY=s3cret\n");
    p.runs(&["apply", "b"]);
    assert_eq!(read(&p, ".env"), "KEY=s3cret\n", "what was hidden was not removed");
}

#[test]
fn a_hostile_tree_is_copied_as_it_is_and_leads_nowhere() {
    let p = Project::new();
    let top = p.dir();
    let secret = p.top().join("outside-secret");
    std::fs::write(&secret, "outside\n").unwrap();
    for (name, target) in [
        ("absolute", secret.to_str().unwrap()),
        ("up", "../outside-secret"),
        ("dangling", "x/y"),
        ("loop", "loop"),
    ] {
        symlink(target, top.join(name)).unwrap();
    }
    symlink(p.top(), top.join("dir")).unwrap();
    nix::unistd::mkfifo(&top.join("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(top.join("socket")).unwrap();
    p.write("a", "a");
    std::fs::hard_link(top.join("a"), top.join("b")).unwrap();
    std::fs::write(top.join(os(b"esc\x1b]0;owned\x07\n\xff")), "odd").unwrap();
    std::fs::write(top.join("n".repeat(255)), "long").unwrap();
    let suid = p.write("suid", "");
    std::fs::set_permissions(&suid, std::fs::Permissions::from_mode(0o6755)).unwrap();
    // An overlay would take these for removed, and for a directory with nothing below.
    let attributes = std::process::Command::new("setfattr")
        .args(["-n", "user.overlay.opaque", "-v", "y"])
        .arg(top)
        .status()
        .is_ok_and(|s| s.success());
    let ran = p.aj(["ws", "create", "api", "--import", "."]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(
        ran.stderr.contains("fifo` was left out: a fifo")
            && ran.stderr.contains("socket` was left out: a socket"),
        "{ran:#?}"
    );
    assert!(!ran.stderr.contains('\x1b'), "{ran:#?}");
    let look = "cat absolute up 2>/dev/null; readlink absolute up dangling loop; stat -c %h a; stat -c %a suid; \
                test -e fifo -o -e socket || echo left out; ls -q | wc -l; cat n*";
    let said = within(&p, "api", look);
    let wanted = format!("{}\n../outside-secret\nx/y\nloop\n2\n755\nleft out\n10\nlong", secret.display());
    assert_eq!(said, wanted);
    if !attributes {
        skip("there is no setfattr");
    }
}

#[test]
fn a_tree_that_holds_the_state_directory_is_copied_without_it() {
    let p = Project::new();
    p.write("f", "text\n");
    let state = p.dir().join("sub/state");
    std::fs::create_dir_all(p.dir().join("sub")).unwrap();
    let aj =
        |words: &[&str]| Ran::from(p.command(aj()).args(words).env("AJ_STATE_DIR", &state).output().unwrap());
    assert_eq!(aj(&["ws", "create", "one"]).code, Some(0));
    let ran = aj(&["ws", "create", "api", "--import", "."]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains("sub/state` was left out: the state of aj"), "{ran:#?}");
    let ran = aj(&["exec", "-q", "api", "--", "find", "."]);
    assert_eq!(ran.stdout, ".\n./f\n./sub\n", "{ran:#?}");
    let ran = aj(&["ws", "create", "inner", "--import", "sub/state"]);
    assert!(
        ran.code == Some(1) && ran.stderr.contains("aj's state directory is in it, or it in that"),
        "{ran:#?}"
    );
}

#[test]
fn what_is_mounted_in_it_stays_behind_and_is_named() {
    let p = Project::new();
    p.write("m/covered", "below\n");
    p.write("f", "text\n");
    let script = r#"
        mount -t tmpfs t m && echo on > m/mounted || exit 99
        "$AJ" ws create api --import . || exit 1
        umount m
        "$AJ" exec -q api -- sh -c 'find . -type f; ls -A m'
    "#;
    let Some(mut command) = in_mount_namespace(&p, script) else { return };
    let ran = Ran::from(command.output().unwrap());
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "api\n./f\n"), "{ran:#?}");
    assert!(ran.stderr.contains("m` was left out: something else is mounted there"), "{ran:#?}");
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let p = Project::new();
    p.write("small", "text\n");
    p.write("zz-large", vec![7u8; 8 << 20]);
    let script = r#"
        mkdir -p "$AJ_STATE_DIR"; mount -t tmpfs -o size=4m,mode=700 t "$AJ_STATE_DIR" || exit 99
        "$AJ" ws create api --import .; echo "full: $?"
        "$AJ" ws list -q; ls -A "$AJ_STATE_DIR/layers" "$AJ_STATE_DIR/workspaces"
        rm zz-large; "$AJ" ws create api --import . ; echo "again: $?"
    "#;
    let Some(mut command) = in_mount_namespace(&p, script) else { return };
    let ran = Ran::from(command.output().unwrap());
    assert!(ran.stderr.contains("zz-large") && ran.stderr.contains("ENOSPC"), "{ran:#?}");
    assert!(ran.stderr.contains("make room"), "{ran:#?}");
    let state = p.state();
    let (layers, workspaces) = (state.join("layers"), state.join("workspaces"));
    let list = format!("full: 1\n{}:\n\n{}:\n", layers.display(), workspaces.display());
    assert!(ran.stdout.starts_with(&list) || ran.stdout.starts_with("full: 1\n"), "{ran:#?}");
    assert!(ran.stdout.ends_with("api\nagain: 0\n"), "{ran:#?}");
    assert!(!ran.stdout.contains("ws-"), "no workspace is left: {ran:#?}");
}

#[test]
fn what_cannot_be_read_is_named_and_nothing_is_made() {
    if is_root() {
        return skip("root reads everything");
    }
    let p = Project::new();
    let file = p.write("d/locked", "");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o0)).unwrap();
    fails(&p, &["ws", "create", "api", "--import", "."], 1, &["d/locked", "EACCES", "chmod u+rX"]);
    assert_eq!((p.runs(&["ws", "list", "-q"]).stdout.as_str(), layers(&p).len()), ("", 0));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o400)).unwrap();
    p.runs(&["ws", "create", "api", "--import", "."]);
    assert_eq!(within(&p, "api", "stat -c %a d/locked"), "400\n");
}

#[test]
fn killed_at_any_step_it_leaves_nothing_that_has_a_name() {
    let p = Project::new();
    p.write("f", "host\n");
    p.write("d/g", "g\n");
    let killed_at = |n: u32, words: &[&str]| {
        let output = p.command(aj()).args(words).env("AJ_TEST_KILL_AT", n.to_string()).output().unwrap();
        let killed = output.status.signal() == Some(9);
        assert!(killed || output.status.success(), "{output:?}");
        killed
    };
    if !killed_at(1, &["ws", "create", "first"]) {
        return skip("this aj is no debug build");
    }
    let steps = (1..).find(|n| {
        let killed = killed_at(*n, &["ws", "create", "w", "--import", "."]);
        let made = !p.runs(&["ws", "list", "-q"]).stdout.is_empty();
        if !made {
            p.runs(&["ws", "create", "w", "--import", "."]);
        }
        assert_eq!(layers(&p).iter().filter(|l| !l.starts_with('.')).count(), 1, "{n}: {:?}", layers(&p));
        assert_eq!(within(&p, "w", "cat f d/g"), "host\ng\n", "{n}");
        p.runs(&["ws", "rm", "w"]);
        assert_eq!(layers(&p), [""; 0], "{n}");
        !killed
    });
    assert!(steps.unwrap() > 10, "{steps:?}");
}

#[test]
fn interrupted_it_leaves_nothing_that_has_a_name_and_the_next_one_cleans_up() {
    let p = Project::new();
    for n in 0..40 {
        std::fs::File::create(p.dir().join(format!("large-{n}"))).unwrap();
        p.write(&format!("large-{n}"), vec![n; 8 << 20]);
    }
    let mut command = p.command(aj());
    command.args(["ws", "create", "api", "--import", "."]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let begun = eventually(std::time::Duration::from_secs(20), || !layers(&p).is_empty());
    assert!(begun);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let ended = child.wait().unwrap();
    if ended.success() {
        return skip("it was faster than Ctrl-C");
    }
    assert_eq!(p.runs(&["ws", "list", "-q"]).stdout, "");
    assert!(layers(&p).iter().all(|l| l.starts_with('.')), "{:?}", layers(&p));
    p.runs(&["gc"]);
    assert_eq!(layers(&p), [""; 0]);
}

#[test]
fn it_is_seen_where_it_was_asked_for() {
    let p = Project::new();
    p.write("f", "text\n");
    p.runs(&["ws", "create", "api", "--import", ".", "--at", "/srv/app"]);
    assert_eq!(within(&p, "api", "pwd; cat f /workspace/f; echo n > /workspace/n"), "/srv/app\ntext\ntext\n");
    assert_eq!(p.runs(&["fs", "cat", "api", "/srv/app/n"]).stdout, "n\n");
    assert_eq!(p.runs(&["fs", "cat", "api", "/workspace/n"]).stdout, "n\n");
    p.runs(&["cp", "f", "api:/srv/app/new/f"]);
    p.runs(&["fs", "mkdir", "api", "/srv/app/new/d"]);
    assert_eq!(within(&p, "api", "cat new/f; ls new"), "text\nd\nf\n", "changed where it is seen");
    fails(&p, &["fs", "mkdir", "api", "/srv/other"], 4, &["/srv/other"]);
    p.runs(&["ws", "create", "empty", "--at", "/home/me/p"]);
    p.runs(&["cp", "f", "empty:/home/me/p/f"]);
    assert_eq!(within(&p, "empty", "pwd; cat f"), "/home/me/p\ntext\n");
    p.runs(&["ws", "start", "api"]);
    assert_eq!(within(&p, "api", "pwd; cat n"), "/srv/app\nn\n", "in a jail that was there before");
    p.runs(&["cp", "f", "api:/srv/app/new/live"]);
    assert_eq!(within(&p, "api", "cat new/live"), "text\n");
    p.runs(&["ws", "stop", "api"]);
    for bad in
        ["", "x", "/", "/usr/x", "/etc", "/proc/x", "/home/agent", "/home/agent/x", "/a/../b", "/dev", "/tmp"]
    {
        fails(&p, &["ws", "create", "--at", bad], 2, &["--at"]);
    }
    fails(&p, &["ws", "create", "--from-dir", ".", "--at", "/srv"], 2, &["--at"]);
    fails(&p, &["ws", "create", "--from-dir", ".", "--import", "."], 2, &["--import"]);
}

#[test]
fn an_older_aj_refuses_its_record_rather_than_take_the_copy_away() {
    let p = Project::new();
    p.write("f", "text\n");
    p.runs(&["ws", "create", "plain"]);
    p.runs(&["ws", "create", "api", "--import", "."]);
    let record = |name: &str| {
        let shown: Value = serde_json::from_str(&p.runs(&["--json", "ws", "show", name]).stdout).unwrap();
        let dir = shown["directory"].as_str().unwrap().to_owned();
        std::fs::read_to_string(Path::new(&dir).join("workspace.toml")).unwrap()
    };
    assert!(record("plain").starts_with("format = 1\n"), "{}", record("plain"));
    assert!(record("api").starts_with("format = 2\n"), "{}", record("api"));
}

#[test]
fn a_copy_whose_repository_lies_elsewhere_says_that_git_is_not_in_it() {
    // What lies there, and what is said.
    let elsewhere = "git directory elsewhere, which is not copied: git has no repository in the workspace";
    let cases: [(&str, Option<&str>); 9] = [
        ("echo 'gitdir: /src/main/.git/worktrees/w' > .git", Some(elsewhere)),
        ("echo 'gitdir: ../.git/modules/sub' > .git", Some(elsewhere)),
        ("ln -s ../other/.git .git", Some(elsewhere)),
        ("mkdir .git; echo ../common > .git/commondir", Some(elsewhere)),
        ("mkdir -p .git/objects/info; echo /other > .git/objects/info/alternates", Some("borrows objects")),
        // All that belongs to it is there, or there is nothing to be judged.
        ("mkdir .real; echo 'gitdir: .real' > .git", None),
        ("mkdir -p .git/objects/info; echo '# none' > .git/objects/info/alternates", None),
        ("mkfifo .git", None),
        ("mkdir -p .git/objects; mkfifo .git/commondir; ln -s /etc .git/objects/info", None),
    ];
    for (script, wanted) in cases {
        let p = Project::new();
        let made =
            std::process::Command::new("sh").args(["-c", script]).current_dir(p.dir()).status().unwrap();
        assert!(made.success());
        p.write("f", "x\n");
        let ran = p.runs(&["ws", "create", "api", "--import", "."]);
        let said: Vec<&str> =
            ran.stderr.lines().filter(|l| l.contains(".git`") && l.contains("copied")).collect();
        match wanted {
            Some(wanted) => assert!(said.len() == 1 && said[0].contains(wanted), "{script}: {ran:#?}"),
            None => assert!(said.is_empty(), "{script}: {ran:#?}"),
        }
        assert_eq!(within(&p, "api", "cat f"), "x\n");
    }
}
