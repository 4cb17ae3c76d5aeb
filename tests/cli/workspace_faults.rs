//! `kill -9` at every step of what changes workspaces: the next command works, and nothing that a command
//! reported is lost.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use crate::common::{Ran, aj};
use crate::real::project::Project;

/// Run `aj` with `words`, killed at its `n`th change of the state directory. `false`: it came to its end.
#[track_caller]
fn killed_at(p: &Project, n: u32, words: &[&str]) -> bool {
    let mut command = p.command(aj());
    let output = command.args(words).env("AJ_TEST_KILL_AT", n.to_string()).output().unwrap();
    if output.status.signal() == Some(9) {
        return true;
    }
    assert!(output.status.success(), "{words:?}: {output:?}");
    false
}

#[track_caller]
fn said(p: &Project, name: &str, script: &str) -> String {
    p.runs(&["exec", name, "--", "sh", "-c", script]).stdout
}

fn names(p: &Project) -> Vec<String> {
    let listed = p.runs(&["ws", "list"]).stdout;
    let mut names: Vec<String> = listed.lines().map(|l| l.split('\t').next().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// What lies in the directory of all workspaces.
fn litter(p: &Project) -> Vec<String> {
    let entries = std::fs::read_dir(p.state().join("workspaces")).unwrap();
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|n| n.starts_with('.')).collect()
}

/// Debug builds alone can be killed so.
fn can_be_killed(p: &Project) -> bool {
    if killed_at(p, 1, &["ws", "create", "first"]) {
        return true;
    }
    eprintln!("SKIP: this aj is no debug build");
    false
}

#[test]
fn making_renaming_and_removing() {
    let p = Project::new();
    if !can_be_killed(&p) {
        return;
    }
    p.write("f", "host\n");
    let steps = (1..).find(|n| {
        let killed = killed_at(&p, *n, &["ws", "create", "w", "--from-dir", "."]);
        // It is there whole, or the name is free.
        if names(&p).is_empty() {
            p.runs(&["ws", "create", "w", "--from-dir", "."]);
        }
        assert_eq!(said(&p, "w", "cat f"), "host\n", "{n}");
        p.runs(&["ws", "rm", "w"]);
        !killed
    });
    assert!(steps.unwrap() > 8, "{steps:?}");
    p.runs(&["ws", "create", "a"]);
    assert_eq!(litter(&p), [""; 0], "cleaned up by the next one");
    said(&p, "a", "echo data > d");
    let steps = (1..).find(|n| {
        let killed = killed_at(&p, *n, &["ws", "rename", "a", "b"]);
        let now = names(&p);
        assert!(now == ["a"] || now == ["b"], "{n}: {now:?}");
        assert_eq!(said(&p, &now[0], "cat d"), "data\n");
        // Neither name is lost to a link that leads nowhere.
        let other = if now == ["a"] { "b" } else { "a" };
        p.runs(&["ws", "create", other]);
        p.runs(&["ws", "rm", other]);
        if now == ["b"] {
            p.runs(&["ws", "rename", "b", "a"]);
        }
        !killed
    });
    assert!(steps.unwrap() > 3, "{steps:?}");
    let steps = (1..).find(|n| {
        if names(&p).is_empty() {
            p.runs(&["ws", "create", "a"]);
            said(&p, "a", "echo data > d");
        }
        let killed = killed_at(&p, *n, &["ws", "rm", "a"]);
        if names(&p) == ["a"] {
            assert_eq!(said(&p, "a", "cat d"), "data\n");
        }
        !killed
    });
    assert!(steps.unwrap() > 2, "{steps:?}");
    p.runs(&["ws", "create", "last"]);
    assert_eq!(litter(&p), [""; 0]);
}

#[test]
fn forking() {
    let p = Project::new();
    if !can_be_killed(&p) {
        return;
    }
    p.write("f", "host\n");
    p.write(".env", "SECRET=1\n");
    p.runs(&["ws", "create", "w", "--from-dir", "."]);
    let look = "cat f d/n ~/h /output/o; ls -A";
    let mut wanted = String::from("host\n");
    // Every time there is something to seal, and now and then there are so many layers that some are made one.
    let steps = (1..).find(|n| {
        said(
            &p,
            "w",
            &format!("echo {n} >> f; mkdir -p d; echo {n} > d/n; echo {n} > ~/h; echo {n} > /output/o"),
        );
        wanted.push_str(&format!("{n}\n"));
        let all = format!("{wanted}{n}\n{n}\n{n}\nd\nf\n");
        let killed = killed_at(&p, *n, &["ws", "fork", "w", "--name", "fork"]);
        let ran = Ran::from(p.command(aj()).args(["diff", "--name-only", "w"]).output().unwrap());
        assert_eq!(ran.stdout, "d/n\nf\n", "{n}: {ran:#?}");
        assert_eq!(said(&p, "w", look), all, "{n}");
        if names(&p).contains(&"fork".to_owned()) {
            assert_eq!(said(&p, "fork", look), all, "{n}");
            p.runs(&["ws", "rm", "fork"]);
        }
        !killed
    });
    assert!(steps.unwrap() > 20, "{steps:?}");
    p.runs(&["ws", "rm", "w"]);
    assert_eq!(std::fs::read_dir(p.state().join("layers")).unwrap().count(), 0, "no layer is left behind");
}

#[test]
fn applying() {
    let p = Project::new();
    let Some(jails) = Project::in_jails() else { return };
    drop(jails);
    if !can_be_killed(&p) {
        return;
    }
    let host = "chmod -R u+w . && rm -rf * && echo a > mod && echo b > del && mkdir -p gone/x dtof/q && echo 1 > gone/x/f && \
        echo f > ftod && echo z > dtof/q/z && ln -s a link && echo c > bits && \
        mkdir -p shut/in swap/in open && echo s | tee shut/f shut/in/f swap/in/f open/f >open/g && \
        chmod 555 shut/in shut swap/in swap && chmod 500 open";
    let jail = "echo A > mod; rm del; rm -r gone ftod dtof; mkdir ftod; echo N > ftod/f; echo D > dtof; \
        ln -sfn b link; chmod 755 bits; mkdir -p new/deep; echo E > new/deep/f; mkdir -m 700 empty; \
        chmod -R u+w shut swap open; rm -r shut swap open/f; echo S > swap; echo o > open/n; echo G > open/g";
    let list = "find . -printf '%P %y %m %l\\n' | sort; cat mod dtof ftod/f new/deep/f bits";
    let mut wanted = None;
    let steps = (1..200).find(|n| {
        p.outside(host);
        p.runs(&["ws", "create", "w", "--from-dir", "."]);
        said(&p, "w", jail);
        let killed = killed_at(&p, *n, &["apply", "w"]);
        // What was there is there, or what takes its place: never half, and under its name.
        let now = |name: &str| std::fs::read_to_string(p.dir().join(name));
        assert!(matches!(now("mod").unwrap().as_str(), "a\n" | "A\n"), "{n}");
        assert!(now("bits").unwrap() == "c\n" && p.dir().join("link").is_symlink(), "{n}");
        assert!(now("new/deep/f").is_ok_and(|f| f == "E\n") || !p.dir().join("new/deep/f").exists(), "{n}");
        p.runs(&["apply", "w"]);
        let now = p.outside(list);
        assert_eq!(&now, wanted.get_or_insert(now.clone()), "{n}");
        assert_eq!(p.runs(&["diff", "w", "--name-only"]).stdout, "", "{n}");
        // What the killed one had put there is not taken for the host's own.
        said(&p, "w", "echo again | tee mod dtof new/deep/f; ln -sfn c link");
        p.runs(&["apply", "w"]);
        assert_eq!(p.outside("cat mod dtof new/deep/f; readlink link"), "again\nagain\nagain\nc\n", "{n}");
        p.runs(&["ws", "rm", "w"]);
        !killed
    });
    assert!(steps.is_some_and(|n| n > 20), "{steps:?}");
}

/// Each process that makes a run, at each of its steps, dies as by `kill -9`.
#[test]
fn running() {
    let Some(p) = Project::in_jails() else { return };
    if !can_be_killed(&p) {
        return;
    }
    p.write("f", "host\n");
    p.write(".env", "SECRET=1\n");
    p.runs(&["ws", "create", "w", "--from-dir", "."]);
    said(&p, "w", "echo data > keep; echo home > ~/h");
    for (role, least) in [("", 5), ("holder:", 8), ("init:", 5), ("minder:", 3)] {
        // A step more or less has to do with what there was to clean up.
        let mut unharmed = 0;
        let steps = (1..100).find(|n| {
            let mut command = p.command(aj());
            command.args(["exec", "w", "--", "sh", "-c", &format!("echo {n} > n; echo ran")]);
            let output = command.env("AJ_TEST_KILL_AT", format!("{role}{n}")).output().unwrap();
            let ran = Ran::from(output);
            // It is as good as without, or says that it is not.
            let said_so = match ran.code {
                Some(0) => ran.stdout == "ran\n",
                Some(125) => ran.stderr.contains("try again") && !ran.stderr.contains("ECHILD"),
                Some(137) | None => true,
                _ => false,
            };
            assert!(said_so, "{role}{n}: {ran:#?}");
            // One that came while what was killed still went down is told so, and nothing of it ran.
            let look = ["exec", "w", "--", "sh", "-c", "cat f keep ~/h; ls -A; cat n 2>/dev/null || :"];
            // While the jail of the killed one lasts, processes are made in it that die as that one did.
            let mut told = Vec::new();
            let next = (0..20)
                .inspect(|tried| std::thread::sleep(Duration::from_millis(50) * *tried))
                .map(|_| Ran::from(p.command(aj()).args(look).output().unwrap()))
                .inspect(|next| told.push(next.stderr.clone()))
                .find(|next| !(next.code == Some(125) && next.stderr.contains("try again")))
                .unwrap_or_else(|| panic!("{role}{n}: it does not go on: {ran:#?} {told:#?}"));
            assert_eq!(next.code, Some(0), "{role}{n}: {next:#?}");
            let now =
                next.stdout.strip_prefix("host\ndata\nhome\nf\nkeep\n").map(|s| s.trim_start_matches("n\n"));
            assert!(now.is_some(), "{role}{n}: {next:#?}");
            assert!(
                ran.code != Some(0) || now == Some(&format!("{n}\n")),
                "{role}{n}: lost: {ran:#?} {next:#?}"
            );
            let changed = p.runs(&["diff", "--name-only", "w"]).stdout;
            assert!(matches!(changed.as_str(), "keep\n" | "keep\nn\n"), "{role}{n}: {changed}");
            let quiet = ran.code == Some(0) && !next.stderr.contains("that held it");
            unharmed = if quiet { unharmed + 1 } else { 0 };
            unharmed == 3
        });
        assert!(steps.is_some_and(|n| n > least), "{role}: {steps:?}");
    }
    p.runs(&["ws", "rm", "w"]);
}

#[test]
fn many_that_are_made_at_once_do_not_take_each_other_for_leftovers() {
    let p = Project::new();
    for _ in 0..3 {
        let all: Vec<_> = (0..30)
            .map(|_| {
                let mut command = p.command(aj());
                command.args(["ws", "create", "-q"]).stdout(Stdio::piped()).stderr(Stdio::piped());
                command.spawn().unwrap()
            })
            .collect();
        for one in all {
            let ran = Ran::from(one.wait_with_output().unwrap());
            assert_eq!(ran.code, Some(0), "{ran:#?}");
        }
    }
    assert_eq!(p.runs(&["ws", "list", "--limit", "0"]).stdout.lines().count(), 90);
}

#[test]
fn without_descriptors_nobody_says_that_a_workspace_is_gone() {
    let p = Project::new();
    p.runs(&["ws", "create", "w"]);
    for limit in 4..20 {
        let mut command = p.command("bash");
        command.args(["-c", "ulimit -n $0 && exec $AJ ws fork w", &limit.to_string()]).env("AJ", aj());
        let ran = Ran::from(command.output().unwrap());
        let said_so = ran.stderr.contains("EMFILE") || ran.stderr.contains("Too many open files");
        assert!(ran.code == Some(0) || said_so, "{limit}: {ran:#?}");
        assert!(names(&p).contains(&"w".to_owned()));
    }
}

#[test]
fn without_descriptors_files_are_not_said_to_be_called_wrongly() {
    let p = Project::new();
    p.runs(&["ws", "create", "w"]);
    for limit in 5..20 {
        for script in ["mkdir w d$0", "mv w d0 d1", "rm -r w d0"] {
            p.runs(&["fs", "mkdir", "-p", "w", "d0"]);
            let mut command = p.command("bash");
            let script = format!("ulimit -n $0 && exec $AJ fs {script}");
            let ran = command.args(["-c", &script, &limit.to_string()]).env("AJ", aj()).output().unwrap();
            let ran = Ran::from(ran);
            let said_so = ran.stderr.contains("EMFILE") && ran.stderr.contains("ulimit -n");
            assert!(ran.code == Some(0) || ran.code == Some(1) && said_so, "{script} {limit}: {ran:#?}");
            p.runs(&["fs", "rm", "-rf", "w", "d0", "d1"]);
        }
    }
}

#[test]
fn on_a_full_disk_files_of_a_workspace_can_be_removed() {
    let script = r#"
        mount -t tmpfs -o size=6m,mode=700 t "$AJ_STATE_DIR" || exit 99
        $AJ ws create w --from-dir . || exit 1
        $AJ exec w -- sh -c 'echo data > f; mkdir d; head -c 20M /dev/zero > d/big' || [ $? = 1 ] || exit 2
        test "$(stat -f -c %a "$AJ_STATE_DIR")" = 0 || exit 3
        $AJ exec w -- true && exit 4
        head -c 1M /dev/urandom > new
        $AJ cp new w:d/new 2>said; [ $? = 1 ] && grep -q '`d/new`' said && grep -q 'make room' said || exit 6
        $AJ fs write w d/new < new 2>said; [ $? = 1 ] && grep -q 'make room' said || exit 7
        $AJ fs rm -r w d || exit 5
        $AJ exec w -- cat f && $AJ diff w --name-only
    "#;
    let p = Project::new();
    if !crate::real::project::is_root() {
        return eprintln!("SKIP: only root mounts a file system that is full at once");
    }
    let mut command = p.command("unshare");
    let ran = Ran::from(command.args(["-m", "bash", "-c", script]).env("AJ", aj()).output().unwrap());
    match ran.code {
        Some(99) => return eprintln!("SKIP: no tmpfs can be mounted here"),
        Some(1 | 2) => return eprintln!("SKIP: no workspaces on a tmpfs here: {ran:#?}"),
        code => assert_eq!(code, Some(0), "{ran:#?}"),
    }
    assert!(ran.stderr.contains("aj fs rm WORKSPACE PATH"), "{ran:#?}");
    assert!(ran.stdout.ends_with("data\nf\n"), "{ran:#?}");
}
