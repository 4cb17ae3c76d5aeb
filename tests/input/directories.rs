//! The current directory: which ones are refused, which odd ones work.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{assert_nothing_left, assert_refused};
use crate::common::{Ran, aj};
use crate::real::project::{Project, is_root, os, skip, snapshot};

fn at(p: &Project, dir: &Path, words: &[&str]) -> Ran {
    Ran::from(p.command(aj()).current_dir(dir).args(words).output().unwrap())
}

/// What every workspace must do.
fn works(p: &Project, dir: &Path) {
    let before = snapshot(dir);
    let script = "set -e; echo new > new; cat old; rm old; mkdir d; [ \"$(pwd)\" = \"$(cd /workspace && pwd -P)\" ]; pwd";
    std::fs::write(dir.join("old"), "old\n").unwrap();
    let before = if before.is_empty() { before } else { snapshot(dir) };
    let out = p.command(aj()).current_dir(dir).args(["exec", "--", "sh", "-c", script]).output().unwrap();
    let mut want = b"old\n".to_vec();
    want.extend_from_slice(dir.as_os_str().as_encoded_bytes());
    want.push(b'\n');
    assert_eq!(out.stdout, want, "{}: {}", dir.display(), String::from_utf8_lossy(&out.stderr));
    assert_eq!(out.status.code(), Some(0));
    assert_eq!(before, snapshot(dir), "{}", dir.display());
    assert!(String::from_utf8_lossy(&out.stderr).contains("3 changes"), "{out:?}");
}

#[test]
fn names_of_every_kind_work() {
    let p = Project::new();
    let top = std::fs::canonicalize(p.dir()).unwrap();
    let long = "x".repeat(255);
    let names: [&[u8]; 11] = [
        b"a b",
        b"a:b",
        b"a,b",
        b"a\\b",
        b"a\\:b\\,c",
        b"new\nline",
        b"\xff\xfe",
        b"-rf",
        b"'\"$(id)`",
        "é\u{202e}".as_bytes(),
        long.as_bytes(),
    ];
    for name in names {
        let dir = top.join(os(name));
        std::fs::create_dir(&dir).unwrap();
        works(&p, &dir);
    }
}

#[test]
fn a_path_as_long_as_the_kernel_takes_works_and_a_longer_one_is_named() {
    let p = Project::new();
    let mut dir = std::fs::canonicalize(p.dir()).unwrap();
    while dir.as_os_str().len() + 201 < 4000 {
        dir.push("y".repeat(200));
    }
    dir.push("z".repeat(4000 - dir.as_os_str().len() - 1));
    assert_eq!(dir.as_os_str().len(), 4000);
    std::fs::create_dir_all(&dir).unwrap();
    works(&p, &dir);
    // Deeper than any path can say: made and entered step by step.
    let script = "cd -P . && for i in 1 2; do mkdir $N && cd -P $N || exit; done; exec \"$AJ\" exec -- true";
    let mut command = p.command("bash");
    command.current_dir(&dir).args(["-c", script]).env("N", "w".repeat(200)).env("AJ", aj());
    let ran = Ran::from(command.output().unwrap());
    assert_refused(&ran, &["the current directory", "ENAMETOOLONG"]);
    p.command("rm").args(["-rf", "."]).current_dir(p.dir()).output().unwrap();
}

#[test]
fn a_directory_that_is_gone_or_closed_is_named() {
    let p = Project::new();
    let script = "mkdir gone && cd gone && rmdir ../gone && exec \"$AJ\" exec -- true";
    let ran = Ran::from(p.command("bash").args(["-c", script]).env("AJ", aj()).output().unwrap());
    assert_refused(&ran, &["the current directory", "ENOENT"]);
    if is_root() {
        return skip("root may enter every directory");
    }
    let script = "mkdir shut && cd shut && chmod 000 . && exec \"$AJ\" exec -- true";
    let ran = Ran::from(p.command("bash").args(["-c", script]).env("AJ", aj()).output().unwrap());
    assert_refused(&ran, &["EACCES"]);
    let script = "rmdir shut; mkdir -p shut/in && cd shut/in && chmod 000 .. && \"$AJ\" exec -- true; code=$?; chmod 700 ..; exit $code";
    let ran = Ran::from(p.command("bash").args(["-c", script]).env("AJ", aj()).output().unwrap());
    assert_refused(&ran, &["EACCES"]);
}

/// Who names a workspace needs no directory to be in.
#[test]
fn a_workspace_that_is_named_can_be_used_from_a_directory_that_is_gone() {
    let p = Project::new();
    p.write("f", "f\n");
    p.write("sub/g", "g\n");
    assert_eq!(p.aj(["ws", "create", "w", "--from-dir", "."]).code, Some(0));
    let gone = |words: &str| {
        let script = format!("mkdir gone && cd gone && rmdir ../gone && exec \"$AJ\" {words}");
        Ran::from(p.command("bash").args(["-c", &script]).env("AJ", aj()).output().unwrap())
    };
    let dir = p.dir().canonicalize().unwrap();
    for (words, said) in [
        ("exec w -- sh -c 'pwd; echo new > new'", format!("{}\n", dir.display())),
        ("exec w --cwd sub -- cat g", "g\n".to_owned()),
        ("diff w", "A new\n".to_owned()),
        ("diff w sub", String::new()),
        ("apply w --dry-run", "A new\n".to_owned()),
        ("fork w -- cat f", "w-1 | f\n".to_owned()),
    ] {
        let ran = gone(words);
        assert_eq!((ran.code, ran.stdout), (Some(0), said), "{words}: {}", ran.stderr);
    }
    let started = gone("job start --name j w -- pwd");
    assert_eq!(started.code, Some(0), "{started:#?}");
    assert_eq!(p.aj(["job", "wait", "j"]).code, Some(0));
    assert_eq!(p.aj(["job", "logs", "j"]).stdout.trim(), dir.display().to_string());
    // What is named by a path from there is not there, nor anywhere else.
    for words in
        ["exec w --env-file f -- true", "exec w --ro ./sub -- true", "job start w --ro ./sub -- true"]
    {
        let ran = gone(words);
        assert!(ran.code == Some(125) && ran.stderr.contains("ENOENT"), "{words}: {ran:#?}");
    }
}

#[test]
fn the_whole_machine_home_and_the_state_are_refused() {
    let p = Project::new();
    let (top, home, state) = (p.top().to_owned(), p.top().join("home"), p.state());
    let inner = state.join("cache");
    assert_eq!(at(&p, p.dir(), &["exec", "--", "true"]).code, Some(0));
    let link = p.top().join("link");
    symlink(&home, &link).unwrap();
    for (dir, flags, said) in [
        (Path::new("/"), &[][..], &["`/` is the whole machine"][..]),
        (Path::new("/"), &["--ro"], &["`/` is the whole machine"]),
        (&home, &[], &["is your home directory", "--i-mean-it"]),
        (&home, &["--rw"], &["is your home directory"]),
        (&link, &["--ro"], &["is your home directory"]),
        (&top, &[], &["contains aj's state directory", "AJ_STATE_DIR"]),
        (&top, &["--rw"], &["contains aj's state directory, which no jail may write"]),
        (&top, &["--rw", "--i-mean-it"], &["contains aj's state directory, which no jail may write"]),
        (&top, &["--i-mean-it"], &["contains aj's state directory", "AJ_STATE_DIR"]),
        (&top, &["--ro"], &["contains aj's state directory", "--i-mean-it"]),
        (&state, &[], &["is inside aj's state directory"]),
        (&inner, &["--ro", "--i-mean-it"], &["is inside aj's state directory"]),
        (Path::new("/tmp"), &["--rw"], &["holds sockets of other programs", "--i-mean-it"]),
        (Path::new("/run"), &["--ro"], &["holds sockets of other programs"]),
        (Path::new("/usr"), &["--ro"], &["the jail has its own `/usr`"]),
        (Path::new("/home"), &["--ro"], &["the jail has its own `/home/agent`"]),
        (Path::new("/var"), &["--ro"], &["the jail has its own `/var/tmp`"]),
        (Path::new("/etc"), &["--ro"], &["the jail has its own `/etc`"]),
        (Path::new("/proc/self"), &["--ro"], &["the jail has its own `/proc`"]),
        (Path::new("/dev"), &["--ro"], &["the jail has its own `/dev`"]),
    ] {
        if dir == "/home" && state.starts_with("/home") {
            continue; // Refused as well, for the state in it: an earlier row.
        }
        let words = [&["exec"], flags, &["--", "true"]].concat();
        let ran = at(&p, dir, &words);
        assert_refused(&ran, said);
        assert_nothing_left(&p, &ran);
    }
    // What may be insisted on.
    let ran = at(&p, &home, &["exec", "--i-mean-it", "--", "pwd"]);
    assert_eq!((ran.code, ran.stdout.trim()), (Some(0), home.to_str().unwrap()), "{ran:#?}");
    let ran = at(
        &p,
        Path::new("/"),
        &["exec", "--ro", "--i-mean-it", "--", "sh", "-c", "pwd; ls usr >/dev/null && echo shown"],
    );
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "/workspace\nshown\n"), "{ran:#?}");
    let ran = at(&p, &top, &["exec", "--ro", "--i-mean-it", "--", "sh", "-c", "ls; touch x"]);
    assert!(ran.stdout.contains("state") && ran.stderr.contains("Read-only"), "{ran:#?}");
}

#[test]
fn a_tree_that_is_refused_for_the_state_in_it_does_not_get_one() {
    let p = Project::new();
    let up = p.top().join("up");
    symlink(p.dir(), &up).unwrap();
    for state in [p.dir().join("state/new"), up.join("new/state")] {
        let mut command = p.command(aj());
        command.args(["exec", "--", "true"]).env("AJ_STATE_DIR", state);
        let ran = Ran::from(command.output().unwrap());
        assert_refused(&ran, &["contains aj's state directory"]);
        assert_eq!(std::fs::read_dir(p.dir()).unwrap().count(), 0, "{ran:#?}");
    }
}

#[test]
fn a_state_directory_reached_by_another_name_is_still_the_state() {
    let p = Project::new();
    let up = p.top().join("up");
    symlink(p.top(), &up).unwrap();
    for flags in [&["--rw"][..], &[]] {
        let words = [&["exec"], flags, &["--", "true"]].concat();
        let mut command = p.command(aj());
        command.current_dir(p.top()).args(&words).env("AJ_STATE_DIR", up.join("state"));
        let ran = Ran::from(command.output().unwrap());
        assert_refused(&ran, &["contains aj's state directory"]);
    }
    symlink(p.top(), p.dir().join("alias")).unwrap();
    // Not in what is written to: a link there is not followed at all.
    let elsewhere = tempfile::tempdir().unwrap();
    let alias = elsewhere.path().join("alias");
    symlink(p.top(), &alias).unwrap();
    let alias = alias.to_str().unwrap();
    for words in
        [&["exec", "--rw", alias, "--", "true"][..], &["exec", "--ro", "./alias/state", "--", "true"]]
    {
        let ran = p.aj(words);
        assert_refused(&ran, &["aj's state directory"]);
    }
}

#[test]
fn a_linked_directory_keeps_the_name_it_was_entered_by() {
    let p = Project::new();
    let real = std::fs::canonicalize(p.dir()).unwrap();
    std::fs::create_dir(real.join("sub")).unwrap();
    let link = p.top().join("link");
    symlink(&real, &link).unwrap();
    let run = |pwd: &Path, flags: &[&str]| {
        let mut command = p.command(aj());
        command.arg("exec").args(flags).args([
            "--",
            "bash",
            "-c",
            "pwd; pwd -P; /bin/pwd -L; echo $PWD; cd \"$PWD\" && ls -d sub 2>/dev/null",
        ]);
        let out = Ran::from(command.env("PWD", pwd).output().unwrap());
        assert_eq!(out.stderr, "", "{out:#?}");
        out.stdout.lines().map(PathBuf::from).collect::<Vec<_>>()
    };
    let said = run(&link, &[]);
    assert_eq!(said[..4], [&link, &real, &link, &link].map(Clone::clone), "{said:?}");
    assert_eq!(said[4], Path::new("sub"));
    let said = run(&link, &["--cwd", "sub"]);
    assert_eq!(said[..2], [link.join("sub"), real.join("sub")], "{said:?}");
    // A value that is out of date, relative or climbing is nothing to go by.
    for wrong in
        [p.top().join("home"), "p".into(), link.join("sub/.."), p.top().join("no-such"), "/etc".into()]
    {
        assert_eq!(run(&wrong, &[])[..2], [real.clone(), real.clone()], "{}", wrong.display());
    }
}

#[test]
fn a_directory_anywhere_on_the_machine_works() {
    let p = Project::new();
    if !is_root() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        works(&p, &std::fs::canonicalize(dir.path()).unwrap());
        return skip("an ordinary user writes to few directories");
    }
    for parent in [
        "/tmp",
        "/var/tmp",
        "/usr/src",
        "/usr/local",
        "/opt",
        "/root",
        "/srv",
        "/mnt",
        "/media",
        "/home",
        "/run",
        "/dev/shm",
    ] {
        if !Path::new(parent).is_dir() {
            continue;
        }
        let dir = tempfile::tempdir_in(parent).unwrap();
        let deep = std::fs::canonicalize(dir.path()).unwrap().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        works(&p, &deep);
    }
}
