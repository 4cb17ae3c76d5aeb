//! Directories swapped on the host by `mv`, as people and deployment scripts do, against `aj apply`.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use super::project::Project;
use crate::common::aj;

/// `src`, and `src.new` beside it with other files of the same names.
fn project() -> Option<Project> {
    let p = Project::in_jails()?;
    for (name, text) in [
        ("src/a.c", "v1\n"),
        ("src/b.c", "keep\n"),
        ("src/deep/c.c", "v1\n"),
        ("src.new/a.c", "host v2\n"),
        ("src.new/b.c", "host b\n"),
        ("src.new/deep/c.c", "host c\n"),
    ] {
        p.write(name, text);
    }
    // File times advance in ticks of a few milliseconds.
    std::thread::sleep(std::time::Duration::from_millis(50));
    Some(p)
}

const CHANGES: &str = "echo jail > src/a.c; rm src/b.c; echo jail > src/deep/c.c; echo jail > src/new.c";

const UNTOUCHED: &str = "host v2\nhost b\nhost c\n";

fn content(p: &Project) -> String {
    p.outside("cat src/a.c src/b.c src/deep/c.c; ls src/new.c 2>/dev/null || true")
}

#[test]
fn a_directory_swapped_after_the_run_keeps_the_hosts_files() {
    let swaps = [
        "mv src src.old; mv src.new src",
        // What touches the directory afterwards must not hide it.
        "mv src src.old; mv src.new src; : > src/x; rm src/x; : > src/deep/x; rm src/deep/x",
        "mv src src.old; cp -a src.new src",
        "mv src src.old; mv src.new elsewhere; ln -s elsewhere src",
    ];
    for swap in swaps {
        let Some(p) = project() else { return };
        p.inside(CHANGES);
        p.outside(swap);
        let ran = p.aj(["apply"]);
        assert_eq!(ran.code, Some(1), "{swap}: {ran:#?}");
        assert!(ran.stderr.contains("conflict"), "{ran:#?}");
        assert_eq!(content(&p), UNTOUCHED, "{swap}");
        let ran = p.aj(["apply", "--partial"]);
        assert_ne!(ran.code, Some(0), "{swap}: {ran:#?}");
        // A copy made later holds nothing of the jail's: a new file is no conflict there.
        let expected =
            if swap.contains("cp -a") { format!("{UNTOUCHED}src/new.c\n") } else { UNTOUCHED.into() };
        assert_eq!(content(&p), expected, "{swap}");
    }
}

#[test]
fn a_directory_further_down_is_told_as_well_and_the_rest_can_be_applied() {
    let Some(p) = project() else { return };
    p.inside(CHANGES);
    p.outside("mv src/deep src/deep.old; mv src.new/deep src/deep; : > src/deep/later");
    let ran = p.aj(["apply", "--partial"]);
    assert_eq!(ran.code, Some(6), "{ran:#?}");
    assert_eq!(
        p.outside("cat src/a.c src/deep/c.c src/new.c; ls src/b.c 2>/dev/null || true"),
        "jail\nhost c\njail\n"
    );
}

/// A run that does `script` and ends when `../gate/go` is there. It has done it when this returns.
fn running(p: &Project, script: &str) -> Child {
    let gate = p.top().join("gate");
    std::fs::create_dir(&gate).unwrap();
    let script =
        format!("{script}; echo ready; until [ -e {}/go ]; do sleep 0.02; done", gate.to_str().unwrap());
    let mut command = p.command(aj());
    // Not `--ro`, whose overlay need not show what appears while it is mounted.
    command.args(["exec", "--timeout", "60s", "--rw"]).arg(&gate).args(["--", "sh", "-c", &script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    child
}

#[test]
fn a_directory_swapped_during_the_run_keeps_the_hosts_files() {
    let Some(p) = project() else { return };
    let mut child = running(&p, CHANGES);
    p.outside("mv src src.old; mv src.new src; touch ../gate/go");
    assert!(child.wait().unwrap().success());
    p.outside(": > src/x; rm src/x");
    let ran = p.aj(["apply", "--partial"]);
    assert_eq!(ran.code, Some(6), "{ran:#?}");
    assert_eq!(content(&p), UNTOUCHED);
}

#[test]
fn ordinary_work_in_the_same_directories_is_no_conflict() {
    let Some(p) = project() else { return };
    let work = "for d in src src/deep; do echo t > $d/.b.tmp; mv $d/.b.tmp $d/other; mkdir -p $d/m; rmdir $d/m; done";
    let mut child = running(&p, CHANGES);
    p.outside(&format!("{work}; touch ../gate/go"));
    assert!(child.wait().unwrap().success());
    p.outside(work);
    let ran = p.aj(["apply"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_eq!(p.outside("cat src/a.c src/deep/c.c src/new.c; cat src/other"), "jail\njail\njail\nt\n");
}

#[test]
fn another_directory_in_place_of_the_project_is_refused() {
    let Some(p) = project() else { return };
    p.inside(CHANGES);
    p.outside("cp -a . ../other; echo host > ../other/src/a.c; mv ../p ../p.old; mv ../other ../p");
    // The shell of `outside` stood in the old one.
    for words in [&["apply"][..], &["apply", "--partial"], &["diff"], &["apply", "-n"]] {
        let ran = p.aj(words);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:#?}");
        assert!(ran.stderr.contains("is not the directory that the jail ran over"), "{ran:#?}");
        let hint = format!("\nhint: `aj apply {} --overwrite` puts", p.newest());
        assert!(ran.stderr.contains(&hint), "{ran:#?}");
    }
    assert_eq!(p.outside("cat src/a.c src/b.c"), "host\nkeep\n");
    p.outside("mv ../p ../other; mv ../p.old ../p");
    let ran = p.aj(["apply"]);
    assert_eq!(ran.code, Some(0), "back in its place: {ran:#?}");
    assert_eq!(p.outside("cat src/a.c"), "jail\n");
}

#[test]
fn trees_that_are_used_again_know_their_own_base() {
    let Some(p) = project() else { return };
    // Runs that change nothing leave spare trees behind, which the next ones take.
    for _ in 0..4 {
        p.inside("true");
    }
    let run = |dir: &std::path::Path, words: &[&str]| {
        let mut command: Command = p.command(aj());
        crate::common::Ran::from(command.current_dir(dir).args(words).output().unwrap())
    };
    let ran = run(&p.dir().join("src"), &["exec", "--", "sh", "-c", "echo jail > a.c"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let ran = run(&p.dir().join("src"), &["apply"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    p.outside("mv src src.old; mv src.new src");
    for words in [&["exec", "--", "true"][..], &["exec", "--", "sh", "-c", "echo again > a.c"], &["apply"]] {
        let ran = run(&p.dir().join("src"), words);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
    }
    assert_eq!(p.outside("cat src/a.c"), "again\n");
}
