//! `--disk` where the file system of the state directory holds projects to a quota: there a write beyond it fails,
//! and the run goes on. Elsewhere these tests say why they cannot be run.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use agentjail::sys::quota::{self, Project};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::yard::{Running, Said, Yard, said, skip};

#[track_caller]
fn json(ran: &Said) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"))
}

/// A yard whose state lies where a quota holds.
fn yard() -> Option<Yard> {
    let yard = Yard::new()?;
    let ran = said(&mut yard.exec(["--disk", "1g", "--dry-run", "--json"], ["true"]));
    let limits = &json(&ran)["limits"];
    if limits["disk_by"] == "quota" {
        return Some(yard);
    }
    assert_eq!(limits["disk_by"], "watched", "{ran:?}");
    skip(format!("`--disk` is watched here: {}", limits["disk_why"].as_str().unwrap()));
    None
}

/// The directory of the only tree.
fn tree(yard: &Yard) -> PathBuf {
    let all = std::fs::read_dir(yard.state().join("trees")).unwrap().map(|e| e.unwrap().path());
    let mut trees = all.filter(|p| p.file_name().unwrap().to_str().unwrap().starts_with("jl-"));
    let tree = trees.next().unwrap();
    assert_eq!(trees.next(), None);
    tree
}

fn project(dir: &Path) -> u32 {
    quota::project(File::open(dir).unwrap())
}

fn get(yard: &Yard, id: u32) -> Project {
    quota::get(File::open(yard.state()).unwrap().as_fd(), id).unwrap()
}

#[test]
fn a_write_beyond_it_fails_and_the_run_goes_on() {
    let Some(yard) = yard() else { return };
    let script = "head -c 64M /dev/zero > big; echo $?; rm big; echo more > small; cat small";
    let ran = said(&mut yard.exec(["--disk", "8m", "--json"], ["sh", "-c", script]));
    let found = json(&ran);
    assert_eq!(
        (ran.fate, &found["policy"]["disk_by"], &found["killed_by"]),
        (0, &"quota".into(), &Value::Null)
    );
    assert_eq!(found["policy"]["disk"], 8 << 20);
    assert!(found["stdout"].as_str().unwrap().contains("1\nmore"), "{found:#}");
    let show = said(&mut yard.sh("\"$AJ\" jail show @ --json"));
    assert_eq!(json(&show)["policy"]["disk_by"], "quota", "{show:?}");
    // What a look from outside does not see: a file that has lost its name.
    let script = "exec 3>big; rm big; head -c 64M /dev/zero >&3; echo $?; df -k . | awk 'END { print $2 }'";
    let ran = said(&mut yard.exec(["--disk", "8m"], ["sh", "-c", script]));
    assert_eq!((ran.fate, ran.out.as_str()), (0, "1\n8192\n"), "{ran:?}");
    assert!(ran.err.contains("Disk quota exceeded"), "{ran:?}");
    // Neither caches of pages that are mapped, nor room that is only reserved, nor empty files without end.
    let ran = said(&mut yard.exec(["--disk", "8m"], ["fallocate", "-l", "64M", "big"]));
    assert!(ran.fate == 1 && ran.err.contains("quota"), "{ran:?}");
    let ran = said(&mut yard.exec(["--disk", "1m"], ["sh", "-c", "touch $(seq 2100)"]));
    assert!(
        ran.fate != 0 && ran.err.contains("2048 files, which go with 1 MiB, on disk is used up"),
        "{ran:?}"
    );
    // Teeth: with more, and without.
    for options in [&["--disk", "256m"][..], &[]] {
        let ran = said(&mut yard.exec(options.iter().copied(), ["sh", "-c", "head -c 64M /dev/zero > big"]));
        assert_eq!((ran.fate, ran.err.contains("used up")), (0, false), "{ran:?}");
    }
}

#[test]
fn what_used_it_up_is_told() {
    let Some(yard) = yard() else { return };
    let ran = said(&mut yard.exec(["--disk", "4m"], ["sh", "-c", "head -c 64M /dev/zero > big"]));
    assert_eq!(ran.fate, 1, "{ran:?}");
    assert!(ran.err.contains("the limit of 4 MiB on disk is used up"), "{ran:?}");
}

#[test]
fn nobody_in_a_jail_leaves_it() {
    let Some(yard) = yard() else { return };
    let script = "./life project .; mkdir -p a/b; head -c 3M /dev/zero > one; mv one a/b/; ln a/b/one two; \
                  head -c 3M /dev/zero > /tmp/t; mv /tmp/t a/; mv a c; rm two; head -c 4M /dev/zero > d; echo $?";
    let ran = said(&mut yard.exec(["--disk", "8m"], ["sh", "-c", script]));
    let tree = tree(&yard);
    let id = project(&tree);
    assert!(id > 1 << 30, "{ran:?}");
    for name in ["project", "file"] {
        assert_eq!(ran.number(name), i64::from(id), "{ran:?}");
    }
    assert_eq!(ran.number("hands-on"), 1);
    for way in ["leave", "change", "keep", "clear", "free"] {
        assert!(ran.number(way) > 0, "{way}: {ran:?}");
    }
    assert!(ran.out.ends_with("\n1\n"), "six of eight were taken: {ran:?}");
    for path in ["upper", "work", "upper/c", "upper/c/b", "upper/c/b/one", "upper/c/t", "upper/of-a-project"]
    {
        assert_eq!(project(&tree.join(path)), id, "{path}");
    }
    // Teeth: the host's root may.
    let ours = said(std::process::Command::new(yard.ws.join("life")).arg("project").arg(tree.join("upper")));
    for way in ["leave", "change", "keep", "clear", "free"] {
        assert_eq!(ours.number(way), 0, "{way}: {ours:?}");
    }
}

#[test]
fn the_id_is_given_back_with_the_tree() {
    let Some(yard) = yard() else { return };
    // Unchanged: put aside for another one, which has nothing of it.
    let script = "cp life /tmp/life; /tmp/life project . | sed -n 's/^project //p'; rm of-a-project";
    let ran = said(&mut yard.exec(["--disk", "8m"], ["sh", "-c", script]));
    let id: u32 = ran.out.trim().parse().unwrap();
    assert_eq!(get(&yard, id).room, 0, "{ran:?}");
    for _ in 0..3 {
        let ran = said(&mut yard.exec([], ["sh", "-c", script]));
        assert_eq!(ran.out, "0\n", "{ran:?}");
    }
    // Kept, and then discarded.
    said(&mut yard.exec(["--disk", "8m"], ["touch", "new"]));
    let id = project(&tree(&yard));
    assert_eq!((get(&yard, id).room, get(&yard, id).inodes_used > 3), (8 << 20, true));
    assert_eq!(said(&mut yard.sh("\"$AJ\" discard --yes @")).fate, 0);
    assert_eq!(get(&yard, id), Project::default());
    // Killed.
    let mut aj = yard.exec(["--disk", "8m"], ["sh", "-c", "echo x >new; ./life ready 60"]);
    let mut running = Running::start(aj.stdout(Stdio::piped()).stderr(Stdio::null()));
    running.first_line();
    let id = project(&tree(&yard));
    assert_eq!(get(&yard, id).room, 8 << 20);
    running.signal(Signal::SIGKILL);
    running.end();
    let ran = said(&mut yard.sh("\"$AJ\" discard --yes @"));
    assert_eq!(get(&yard, id), Project::default(), "{ran:?}");
}

#[test]
fn a_further_run_has_the_limit_that_it_asks_for() {
    let Some(yard) = yard() else { return };
    said(&mut yard.exec(["--disk", "8m"], ["sh", "-c", "head -c 6M /dev/zero > one"]));
    let id = project(&tree(&yard));
    let ran =
        said(&mut yard.exec(["--disk", "8m", "@"], ["sh", "-c", "head -c 6M /dev/zero > two; echo $?"]));
    assert_eq!(ran.out, "1\n", "it counts over all of them: {ran:?}");
    let ran = said(&mut yard.exec(["@"], ["sh", "-c", "head -c 20M /dev/zero > two; echo $?"]));
    assert_eq!((ran.out.as_str(), get(&yard, id).room), ("0\n", 0), "{ran:?}");
    // More is there than it may have; it can be removed.
    let script =
        "head -c 1M /dev/zero >three; echo $?; rm one two three; head -c 4M /dev/zero >four; echo $?";
    let ran = said(&mut yard.exec(["--disk", "8m", "@"], ["sh", "-c", script]));
    assert_eq!((ran.out.as_str(), project(&tree(&yard))), ("1\n0\n", id), "{ran:?}");
    // From outside it can be changed, and what is put there counts.
    let ran = said(&mut yard.sh("echo from outside >o && \"$AJ\" cp o @:in && \"$AJ\" diff @"));
    assert!(ran.fate == 0 && ran.out.contains("in"), "{ran:?}");
    assert_eq!(project(&tree(&yard).join("upper/in")), id);
    // What began without is watched.
    said(&mut yard.sh("\"$AJ\" discard --yes @"));
    said(&mut yard.exec([], ["touch", "new"]));
    let ran = said(&mut yard.exec(["--disk", "8m", "--json", "@"], ["true"]));
    assert_eq!(json(&ran)["policy"]["disk_by"], "watched", "{ran:?}");
}

#[test]
fn a_fork_that_is_killed_at_any_step_leaves_no_limit_for_what_was_sealed() {
    let Some(yard) = yard() else { return };
    let ran = said(&mut yard.sh("\"$AJ\" workspace create one --from-dir . --disk 8m"));
    assert_eq!(ran.fate, 0, "{ran:?}");
    for n in 1.. {
        // Of what is sealed nothing counts; with it, this would be too much from the second round on.
        let script = "rm -f f; head -c 5M /dev/zero >f; echo $?";
        let ran = said(&mut yard.sh(&format!("\"$AJ\" exec one -- sh -c '{script}'")));
        assert_eq!(ran.out, "0\n", "killed at {}: {ran:?}", n - 1);
        let fork = format!("AJ_TEST_KILL_AT={n} \"$AJ\" workspace fork one --name two-{n} >/dev/null 2>&1");
        match said(&mut yard.sh(&format!("{fork}; echo $?"))).out.trim() {
            "137" => {}
            "0" if n == 1 => return skip("this aj is no debug build"),
            "0" => break,
            other => panic!("{n}: {other}"),
        }
    }
}

#[test]
fn a_workspace_keeps_its_own_and_a_fork_gets_another() {
    let Some(yard) = yard() else { return };
    let step = |script: &str| {
        let ran = said(&mut yard.sh(&format!("set -e; {script}")));
        assert_eq!(ran.fate, 0, "{script}: {ran:?}");
        ran.out
    };
    step("\"$AJ\" workspace create one --from-dir . --disk 8m >/dev/null");
    step("\"$AJ\" exec one -- sh -c 'head -c 3M /dev/zero >f; head -c 1M /dev/zero >~/h'");
    assert_eq!(step("\"$AJ\" exec one -- sh -c 'head -c 5M /dev/zero >/output/o; echo $?'"), "1\n");
    step("\"$AJ\" workspace fork one --name two >/dev/null");
    for name in ["one", "two"] {
        let script = "rm -f /output/o; head -c 2M /dev/zero >g; echo $?; mv f e; ls e; mv ~/h ~/i";
        assert_eq!(step(&format!("\"$AJ\" exec {name} -- sh -c '{script}'")), "0\ne\n");
    }
    assert_eq!(step("\"$AJ\" exec two -- sh -c 'head -c 3M /dev/zero >more; echo $?'"), "1\n");
    let document: Value = serde_json::from_str(&step("\"$AJ\" exec one --json -- true")).unwrap();
    assert_eq!(document["policy"]["disk_by"], "quota");
    let trees: Vec<PathBuf> = std::fs::read_dir(yard.state().join("workspaces"))
        .unwrap()
        .map(|e| e.unwrap().path().join("tree"))
        .filter(|p| p.exists())
        .collect();
    let ids: Vec<u32> = trees.iter().map(|tree| project(tree)).collect();
    assert!(
        ids.len() == 2 && ids[0] != ids[1] && ids.iter().all(|id| get(&yard, *id).room == 8 << 20),
        "{ids:?}"
    );
    let ran = said(&mut yard.sh("\"$AJ\" workspace rm --force one two"));
    assert_eq!(ran.fate, 0, "{ran:?}");
    for id in ids {
        assert_eq!(get(&yard, id), Project::default());
    }
}
