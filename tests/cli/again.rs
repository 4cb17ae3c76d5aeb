//! `aj exec JAIL -- COMMAND`: one more run in what an earlier one left.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, Flock, FlockArg};
use nix::sys::signal::Signal;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use crate::common::{Ran, aj};
use crate::input::in_mount_namespace;
use crate::real::project::{Project, is_root, skip};
use crate::yard::{Running, eventually};

/// What is written now is older than the next jail, and newer than the last, by every clock.
fn settle() {
    std::thread::sleep(Duration::from_millis(20));
}

/// `aj exec JAIL -- sh -c SCRIPT`; its stdout.
#[track_caller]
fn go_on(p: &Project, jail: &str, script: &str) -> String {
    p.runs(&["exec", jail, "--", "sh", "-c", script]).stdout
}

/// A first run; the id of its jail.
#[track_caller]
fn first(p: &Project, script: &str) -> String {
    p.runs(&["exec", "--", "sh", "-c", script]);
    p.newest()
}

#[track_caller]
fn fails(ran: &Ran, code: i32, said: &[&str]) {
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{ran:#?}");
    assert!(ran.stderr.contains("aj: error: ") && ran.stderr.contains("\nhint: "), "{ran:#?}");
    for word in said {
        assert!(ran.stderr.contains(word), "no {word:?} in {ran:#?}");
    }
}

fn read(p: &Project, name: &str) -> String {
    std::fs::read_to_string(p.dir().join(name)).unwrap_or_else(|e| format!("({:?})", e.kind()))
}

fn tree(p: &Project, id: &str) -> std::path::PathBuf {
    p.state().join("trees").join(id)
}

#[test]
fn a_run_goes_on_in_what_the_last_one_left_with_a_policy_of_its_own() {
    let p = Project::new();
    p.write("kept/old", "old\n");
    p.write("f", "1\n");
    settle();
    let id = first(&p, "echo 2 >> f; rm -r kept; mkdir new; echo x > new/x; ln -s new link");
    let ran = p.runs(&["exec", "-e", "A=b", "@", "--", "sh", "-c", "cat f link/x; ls; echo $A; echo 3 >> f"]);
    assert_eq!(ran.stdout, "1\n2\nx\nf\nlink\nnew\nb\n");
    let second = p.newest();
    assert_ne!(second, id);
    assert!(ran.stderr.contains(&format!("`aj diff {id}`")), "one name for one tree: {ran:#?}");
    assert_eq!(go_on(&p, &id[..8], "cat f; echo $A"), "1\n2\n3\n\n");
    let third = p.newest();
    for word in ["@", &id, &second, &third, &third[3..]] {
        let ran = p.runs(&["diff", "--name-only", word]);
        assert_eq!(ran.stdout, "f\nkept\nlink\nnew/x\n", "{word}: {ran:#?}");
    }
    let shown: serde_json::Value =
        serde_json::from_str(&p.runs(&["jail", "show", "--json", &second]).stdout).unwrap();
    assert_eq!((&shown["tree"], &shown["changes_kept"]), (&id.as_str().into(), &true.into()));
    assert!(shown["kept_bytes"].as_u64().unwrap() > 0, "{shown}");
    let listed = p.runs(&["jail", "list", "--json"]).stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert!(listed["jails"].as_array().unwrap().iter().all(|j| j["changes_kept"] == true), "{listed}");
    assert_eq!(read(&p, "f"), "1\n", "the host's is what it was");
    assert_eq!(p.trees().len(), 1);
    p.runs(&["apply", &second]);
    assert_eq!((read(&p, "f"), read(&p, "new/x")), ("1\n2\n3\n".into(), "x\n".into()));
    assert!(!p.dir().join("kept").exists());
}

#[test]
fn the_newest_is_looked_for_in_this_project_and_an_id_goes_wherever_it_lies() {
    let p = Project::new();
    for dir in ["one", "two"] {
        p.write(&format!("{dir}/aj.toml"), "");
        p.write(&format!("{dir}/src/deep/x"), "");
    }
    let at = |dir: &str, words: &[&str]| {
        Ran::from(p.command(aj()).current_dir(p.dir().join(dir)).args(words).output().unwrap())
    };
    let said = |dir: &str, words: &[&str]| {
        let ran = at(dir, words);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        ran.stdout
    };
    said("one/src", &["exec", "--", "sh", "-c", "echo one > /workspace/mark"]);
    let one = p.newest();
    said("two", &["exec", "--", "sh", "-c", "echo two > mark"]);
    assert_eq!(said("one/src/deep", &["exec", "@", "--", "cat", "../../mark"]), "one\n");
    let top = p.dir().canonicalize().unwrap().join("one");
    // In the tree the current directory stays; elsewhere it is the top.
    assert_eq!(said("one/src", &["exec", &one, "--", "pwd"]), format!("{}/src\n", top.display()));
    assert_eq!(said("two/src", &["exec", &one, "--", "pwd"]), format!("{}\n", top.display()));
    assert_eq!(said("two/src", &["exec", "@", "--", "cat", "../mark"]), "two\n");
    assert_eq!(said("two", &["exec", "--root-dir", "../one", "@", "--", "cat", "mark"]), "one\n");
    // What ran over a part of the project is found from there.
    said("two/src", &["exec", "--here", "--", "sh", "-c", "echo part > part"]);
    assert_eq!(said("two/src/deep", &["exec", "@", "--", "cat", "../part"]), "part\n");
    assert_eq!(said("two", &["exec", "@", "--", "cat", "mark"]), "two\n");
    // The directories above a project are another matter.
    fails(&at(".", &["exec", "@", "--", "true"]), 125, &["no changes are kept for"]);
    fails(&at("two", &["exec", "--here", &one, "--", "true"]), 125, &["`--here` says which directory"]);
}

#[test]
fn what_goes_last_is_the_newest_for_everyone() {
    let p = Project::new();
    let (a, b) = (first(&p, "echo a > a"), first(&p, "echo b > b"));
    assert_eq!(p.runs(&["diff", "--name-only"]).stdout, "b\n");
    go_on(&p, &a, "echo c > c");
    assert_eq!(p.runs(&["diff", "--name-only"]).stdout, "a\nc\n");
    assert_eq!(go_on(&p, "@", "ls"), "a\nc\n");
    assert_eq!(go_on(&p, &b, "ls"), "b\n");
}

#[test]
fn a_tree_that_equals_its_base_again_goes() {
    let p = Project::new();
    p.write("f", "1\n");
    settle();
    let id = first(&p, "echo 2 > f; mkdir d; echo x > d/x");
    go_on(&p, "@", "echo 1 > f; rm -r d");
    assert_eq!(p.trees().len(), 0);
    fails(&p.aj(["diff", "@"]), 3, &["no changes are kept for"]);
    fails(&p.aj(["diff", &p.newest()]), 3, &[&format!("no changes are kept of jail `{}`", p.newest())]);
    fails(&p.aj(["exec", "@", "--", "true"]), 125, &["no changes are kept for", "`aj exec -- CMD`"]);
    fails(&p.aj(["exec", &id, "--", "true"]), 125, &["no changes are kept of jail"]);
    // An empty layer as well.
    first(&p, "echo x > new");
    go_on(&p, "@", "rm new");
    assert!(!p.trees().iter().any(|t| t.join("kept").exists()), "{:?}", p.trees());
    let none = p.top().join("none");
    let ran = p.command(aj()).args(["exec", "@", "--", "true"]).env("AJ_STATE_DIR", &none).output().unwrap();
    fails(&Ran::from(ran), 125, &["no changes are kept for"]);
    assert!(!none.exists(), "looking makes nothing");
}

#[test]
fn what_is_in_use_is_refused() {
    let p = Project::new();
    let id = first(&p, "echo 1 > f");
    let mut run = p.command(aj());
    run.args(["exec", "-q", "@", "--", "sh", "-c", "echo ready; read x; echo 2 >> f"]);
    let mut run = Running::start(run.stdin(Stdio::piped()).stdout(Stdio::piped()));
    assert_eq!(run.first_line().0, "ready");
    for word in ["@", &id] {
        let ran = p.aj(["exec", word, "--", "true"]);
        fails(
            &ran,
            125,
            &[&format!("`{id}` are in use: a run goes on in them"), "aj jail list --status running"],
        );
    }
    let ran = p.aj(["exec", "--json", "@", "--", "true"]);
    assert!(ran.stderr.contains(r#""code":"tree_in_use""#), "{ran:#?}");
    fails(&p.aj(["exec", "--dry-run", "@", "--", "true"]), 125, &["in use"]);
    fails(&p.aj(["apply", &id]), 5, &["is still running"]);
    fails(&p.aj(["discard", "-y", &id]), 5, &["in use"]);
    let running = p.runs(&["jail", "list", "-q", "--status", "running"]).stdout;
    assert_eq!(running.lines().count(), 1, "the second one, and not the first one again: {running}");
    drop(run.0.stdin.take());
    run.end();
    // A reader holds it as `aj diff` does.
    let dir = std::fs::File::open(tree(&p, &id)).unwrap();
    let reader = Flock::lock(dir, FlockArg::LockShared).unwrap();
    fails(&p.aj(["exec", "@", "--", "true"]), 125, &["another `aj` reads in it"]);
    drop(reader);
    assert_eq!(go_on(&p, "@", "cat f"), "1\n2\n");
}

#[test]
fn of_two_at_once_one_goes_on() {
    let p = Project::new();
    first(&p, "echo 1 > f");
    let start = |_| {
        let mut run = p.command(aj());
        run.args(["exec", "@", "--", "sh", "-c", "echo x >> f; sleep 1"]);
        Running::start(run.stdout(Stdio::null()).stderr(Stdio::null()))
    };
    let mut all: Vec<Running> = (0..6).map(start).collect();
    let mut codes: Vec<_> = all.iter_mut().map(|r| r.end().code()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(125), Some(125), Some(125), Some(125), Some(125)]);
    assert_eq!(go_on(&p, "@", "cat f"), "1\nx\n");
}

#[test]
fn a_base_that_is_another_one_now_is_refused() {
    let p = Project::new();
    p.write("base/f", "1\n");
    p.write("other/f", "theirs\n");
    let at = |words: &[&str]| Ran::from(p.command(aj()).current_dir(p.top()).args(words).output().unwrap());
    let run = p
        .command(aj())
        .current_dir(p.dir().join("base"))
        .args(["exec", "--", "sh", "-c", "echo 2 > f"])
        .output();
    assert!(run.unwrap().status.success());
    let id = p.newest();
    let (base, other, aside) = (p.dir().join("base"), p.dir().join("other"), p.dir().join("aside"));
    let before = std::fs::read(tree(&p, &id).join("upper/f")).unwrap();
    std::fs::rename(&base, &aside).unwrap();
    fails(
        &at(&["exec", &id, "--", "true"]),
        125,
        &["could not open the directory", "ENOENT", "moved, removed"],
    );
    symlink("other", &base).unwrap();
    fails(&at(&["exec", &id, "--", "true"]), 125, &["could not open the directory", "replaced by a link"]);
    std::fs::remove_file(&base).unwrap();
    std::fs::rename(&other, &base).unwrap();
    let ran = at(&["exec", &id, "--", "cat", "f"]);
    if agentjail::sys::at::keeps_identities(std::fs::File::open(&base).unwrap()) {
        fails(&ran, 125, &["is not the directory that the jail ran over"]);
    } else {
        skip("this file system does not keep the numbers of directories");
    }
    std::fs::rename(&base, &other).unwrap();
    std::fs::rename(&aside, &base).unwrap();
    assert_eq!(std::fs::read(tree(&p, &id).join("upper/f")).unwrap(), before);
    let ran = at(&["exec", &id, "--", "cat", "f"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "2\n"), "{ran:#?}");
}

#[test]
fn what_contradicts_kept_changes_is_named() {
    let p = Project::new();
    let id = first(&p, "echo 1 > f");
    for (flag, name) in [("--rw", "`--rw or --ro`"), ("--ro", "`--rw or --ro`")] {
        fails(&p.aj(["exec", "@", flag, "--", "true"]), 125, &[name, "does without an overlay"]);
    }
    p.write("aj.toml", "[jail]\nworkspace = \"ro\"\n");
    fails(&p.aj(["exec", "@", "--", "true"]), 125, &["`workspace` (aj.toml:2)"]);
    std::fs::remove_file(p.dir().join("aj.toml")).unwrap();
    // A run that has no overlay leaves nothing to go on in.
    p.runs(&["exec", "--rw", "--", "sh", "-c", "echo x > real"]);
    fails(
        &p.aj(["exec", &p.newest(), "--", "true"]),
        125,
        &["no changes are kept of jail", "did without an overlay"],
    );
    assert_eq!(go_on(&p, "@", "cat f"), "1\n");
    for (words, said) in [
        (&["exec", "make"][..], "put `--` before the command: `aj exec -- make`"),
        (&["exec", "make", "all"], "put `--` before the command: `aj exec -- make`"),
        (&["exec", "--net", "none", "bash"], "put `--` before the command: `aj exec -- bash`"),
        (&["exec", "@", "make"], "put `--` before the command: `aj exec -- make`"),
        (&["exec", "@"], "put `--` before the command: `aj exec -- COMMAND`"),
        (&["exec", "jl-zzzz", "--", "true"], "no jail `jl-zzzz`"),
    ] {
        fails(&p.aj(words), 125, &[said]);
    }
    // Ids of other users of this machine, in a tree that was copied here.
    let ran = p.aj(["exec", "--as-root", "@", "--", "sh", "-c", "id -u; cat f; echo 2 >> f"]);
    if is_root() {
        fails(&ran, 125, &["were made as uid 1000, not as uid 0", "leave out `--as-root`"]);
        std::os::unix::fs::chown(tree(&p, &id).join("upper"), Some(4321), None).unwrap();
        fails(&p.aj(["exec", "@", "--", "true"]), 125, &["belong to uid 4321 of this machine"]);
        std::os::unix::fs::chown(tree(&p, &id).join("upper"), Some(1_001_000), None).unwrap();
        let zero = first_as_root(&p);
        fails(
            &p.aj(["exec", &zero, "--", "true"]),
            125,
            &["were made as uid 0, not as uid 1000", "add `--as-root`"],
        );
        assert_eq!(p.runs(&["exec", "--as-root", &zero, "--", "cat", "zero"]).stdout, "0\n");
    } else {
        // One id outside, whatever it is inside.
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "0\n1\n"), "{ran:#?}");
        assert_eq!(go_on(&p, "@", "echo 3 >> f; cat f"), "1\n2\n3\n");
    }
}

fn first_as_root(p: &Project) -> String {
    p.runs(&["exec", "--as-root", "--", "sh", "-c", "echo 0 > zero"]);
    p.newest()
}

#[test]
fn what_changed_on_the_host_between_two_runs_is_seen_or_in_conflict() {
    let p = Project::new();
    for name in ["both", "host", "late", "d/in", "e/in"] {
        p.write(name, "1\n");
    }
    settle();
    first(&p, "echo jail > both; echo jail > d/in");
    settle();
    for name in ["both", "host", "late"] {
        p.write(name, "host\n");
    }
    std::fs::create_dir(p.dir().join("e/new")).unwrap();
    settle();
    let seen = go_on(&p, "@", "cat both host late; echo jail > late; echo jail > e/in; ls e");
    assert_eq!(seen, "jail\nhost\nhost\nin\nnew\n");
    let ran = p.aj(["apply"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    let conflicts: Vec<&str> = ran.stdout.lines().skip(1).map(str::trim).collect();
    assert_eq!(conflicts.len(), 2, "{ran:#?}");
    assert!(conflicts[0].starts_with("M both") && conflicts[1].starts_with("M late"), "{ran:#?}");
    assert_eq!(read(&p, "both"), "host\n");
    assert_eq!(p.aj(["apply", "--partial"]).code, Some(6));
    assert_eq!((read(&p, "d/in"), read(&p, "e/in")), ("jail\n".into(), "jail\n".into()));
    assert_eq!((read(&p, "both"), read(&p, "host")), ("host\n".into(), "host\n".into()));
}

/// A directory that was swapped between the runs holds other files than the changes are about.
#[test]
fn a_directory_swapped_between_two_runs_stays_in_conflict_and_new_ones_do_not() {
    let p = Project::new();
    for name in ["d/f", "d.new/f", "late/f"] {
        p.write(name, "1\n");
    }
    settle();
    first(&p, "echo jail > d/f");
    std::fs::rename(p.dir().join("d"), p.dir().join("d.old")).unwrap();
    std::fs::rename(p.dir().join("d.new"), p.dir().join("d")).unwrap();
    settle();
    // The second run is the first to have changes in `late`.
    go_on(&p, "@", "echo jail > late/f; echo jail > d/g");
    let ran = p.aj(["apply", "--partial"]);
    assert_eq!(ran.code, Some(6), "{ran:#?}");
    assert_eq!((read(&p, "late/f"), read(&p, "d/f")), ("jail\n".into(), "1\n".into()), "{ran:#?}");
    assert!(!p.dir().join("d/g").exists(), "{ran:#?}");
}

#[test]
fn what_was_applied_may_be_changed_again_by_a_later_run() {
    let p = Project::new();
    p.write("f", "1\n");
    p.write("gone/x", "1\n");
    settle();
    p.runs(&[
        "exec",
        "--apply",
        "--",
        "sh",
        "-c",
        "echo 2 > f; mkdir -p d/e; echo x > d/e/x; echo y > d/y; ln -s f l",
    ]);
    settle();
    // Every kind of change to what came from the tree itself, without a question.
    let again = "echo 3 > f; rm -r d; mkdir -p d/e; echo z > d/e/z; chmod 700 d; ln -sfn gone l; rm -r gone";
    let ran = p.runs(&["exec", "@", "--apply", "--", "sh", "-c", again]);
    assert!(ran.stderr.contains("applied"), "{ran:#?}");
    assert_eq!((read(&p, "f"), read(&p, "d/e/z")), ("3\n".into(), "z\n".into()));
    for gone in ["d/y", "d/e/x", "gone"] {
        assert!(!p.dir().join(gone).exists(), "{gone}");
    }
    assert_eq!(std::fs::read_link(p.dir().join("l")).unwrap(), Path::new("gone"));
    settle();
    // A change of the host's own is one, also when it was made to what was applied.
    p.write("f", "host\n");
    p.write("d/host", "host\n");
    settle();
    let ran = p.aj(["exec", "@", "--apply", "--", "sh", "-c", "echo 4 > f; rm -r d"]);
    assert_eq!(ran.code, Some(125), "{ran:#?}");
    assert_eq!((read(&p, "f"), read(&p, "d/host")), ("host\n".into(), "host\n".into()), "{ran:#?}");
    for conflict in ["M f", "D d/"] {
        assert!(ran.stderr.contains(&format!("not applied: {conflict}")), "{ran:#?}");
    }
}

#[test]
fn a_run_that_was_killed_leaves_a_tree_that_goes_on() {
    let p = Project::new();
    p.write("old", "old\n");
    settle();
    let id = first(&p, "echo 1 > f");
    for n in 0..12 {
        let mut run = p.command(aj());
        let script =
            format!("echo {n} > now; echo {n} >> old; while :; do echo x >> more; rm -f t; echo x > t; done");
        run.args(["exec", "@", "--", "sh", "-c", &script]).stdout(Stdio::null()).stderr(Stdio::null());
        let run = Running::start(&mut run);
        // At different instants, before the mount and in the middle of the work.
        std::thread::sleep(Duration::from_millis(5 * n));
        if n == 11 {
            let wrote = || tree(&p, &id).join("upper/now").exists();
            assert!(eventually(Duration::from_secs(10), wrote), "it never came so far");
        }
        run.signal(Signal::SIGKILL);
        drop(run);
        // At once, and nothing of the killed jail is at work any more.
        let check = "touch more; a=$(wc -c <more); sleep 0.05; test $a = $(wc -c <more) && cat f";
        assert_eq!(go_on(&p, &id, check), "1\n", "{n}");
    }
    let left = go_on(&p, "@", "head -1 old; cat now");
    assert!(left.strip_prefix("old\n").is_some_and(|n| n.trim().parse::<u32>().is_ok()), "{left}");
    let names = p.runs(&["diff", "--name-only"]).stdout;
    assert!(names.contains("more\n") && names.contains("now\n") && names.contains("old\n"), "{names}");
    assert_eq!(p.aj(["apply"]).code, Some(0));
    assert_eq!(read(&p, "f"), "1\n");
}

#[test]
fn another_boot_is_said_once_and_the_run_goes_on() {
    let p = Project::new();
    let id = first(&p, "echo 1 > f");
    let note = tree(&p, &id).join("kept");
    let text = std::fs::read_to_string(&note).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(text.contains(&format!("boot {boot}")), "{text}");
    std::fs::write(&note, text.replace(boot.trim(), "00000000-0000-0000-0000-000000000000")).unwrap();
    let said = |p: &Project| {
        let ran = p.runs(&["exec", "@", "--", "sh", "-c", "cat f; echo 1 >> g"]);
        assert_eq!(ran.stdout, "1\n");
        ran.stderr.contains("if it lost power")
    };
    assert!(said(&p));
    assert!(!said(&p), "it was mounted in this boot since");
    // One that waits for the disk has nothing to lose.
    p.runs(&["exec", "--durable", "@", "--", "true"]);
    let text = std::fs::read_to_string(&note).unwrap();
    std::fs::write(&note, text.replace(boot.trim(), "00000000-0000-0000-0000-000000000000")).unwrap();
    assert!(!said(&p));
}

#[test]
fn a_full_disk_takes_nothing_away() {
    let p = Project::new();
    p.write("f", "1\n");
    settle();
    let script = r#"
        mount -t tmpfs -o size=3m,mode=700 t "$AJ_STATE_DIR" || exit 99
        "$AJ" exec -- sh -c 'echo kept > new' || exit 1
        dd if=/dev/zero of="$AJ_STATE_DIR/rest" bs=4k count=100 2>/dev/null
        "$AJ" exec @ -- sh -c 'cat /dev/zero > big'; echo "filled: $?"
        "$AJ" exec @ -- cat new; echo "full: $?"
        "$AJ" diff --name-only @; echo "diff: $?"
        rm "$AJ_STATE_DIR/rest"
        "$AJ" exec @ -- sh -c 'rm big; cat new'; echo "again: $?"
        dd if=/dev/zero of="$AJ_STATE_DIR/rest" bs=4k 2>/dev/null
        "$AJ" discard --all --yes >/dev/null; echo "discard: $?"
        ls "$AJ_STATE_DIR/trees"
    "#;
    let Some(mut command) = in_mount_namespace(&p, script) else { return };
    let ran = Ran::from(command.output().unwrap());
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines.contains(&"filled: 1"), "{ran:#?}");
    // Refused or not, nothing is lost by it.
    assert!(lines.contains(&"diff: 0") && lines.contains(&"new"), "{ran:#?}");
    assert!(lines.contains(&"again: 0") && lines.contains(&"kept"), "{ran:#?}");
    assert_eq!(lines.last(), Some(&"discard: 0"), "{ran:#?}");
    assert!(!ran.stderr.contains("internal error"), "{ran:#?}");
}

#[test]
fn of_several_at_once_each_goes_on_or_is_told_that_another_does() {
    let p = Project::new();
    assert_eq!(p.aj(["exec", "--", "sh", "-c", "echo start > log"]).code, Some(0));
    let one = |n: usize| {
        let script = format!("echo {n} >> log; sleep 0.1");
        p.command(aj()).args(["exec", "-q", "@", "--", "sh", "-c", &script]).output().unwrap()
    };
    let all: Vec<Ran> = std::thread::scope(|s| {
        let runs: Vec<_> = (0..8).map(|n| s.spawn(move || Ran::from(one(n)))).collect();
        runs.into_iter().map(|r| r.join().unwrap()).collect()
    });
    let (went_on, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(|ran| ran.code == Some(0));
    assert!(!went_on.is_empty());
    for ran in refused {
        assert!(ran.code == Some(125) && ran.stderr.contains("` are in use: "), "{ran:#?}");
    }
    let log = p.aj(["exec", "-q", "@", "--", "cat", "log"]).stdout;
    assert_eq!(log.lines().count(), 1 + went_on.len(), "{log}");
}

/// The top of a tree belongs to the jail, which may take all permissions away from it: what was done is there all
/// the same, and the next run finds it.
#[test]
fn a_top_that_the_jail_shut_is_opened_for_its_owner() {
    let Some(p) = Project::in_jails() else { return };
    for mode in ["0", "100", "300", "400", "600"] {
        p.write("f", "host\n");
        settle();
        let ran = p.runs(&["--json", "exec", "--", "sh", "-c", &format!("echo {mode} > f; chmod {mode} .")]);
        let answer: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(answer["files_changed"], 1, "{mode}: {ran:#?}");
        assert_eq!(p.runs(&["diff", "--name-only"]).stdout, "f\n", "{mode}");
        // As it is when aj was killed before it could look.
        let upper = p.state().join("trees").join(p.newest()).join("upper");
        std::fs::set_permissions(upper, std::fs::Permissions::from_mode(0o0)).unwrap();
        assert_eq!(go_on(&p, "@", "cat f"), format!("{mode}\n"));
        p.runs(&["apply"]);
        assert_eq!(read(&p, "f"), format!("{mode}\n"));
    }
    let ran = p.runs(&["exec", "--apply", "--", "sh", "-c", "echo applied > f; chmod 0 ."]);
    assert_eq!(read(&p, "f"), "applied\n", "{ran:#?}");
    let script = "echo memory > f; chmod 0 .";
    p.runs(&["exec", "--storage", "memory", "--apply", "--", "sh", "-c", script]);
    assert_eq!(read(&p, "f"), "memory\n");
}

#[test]
fn a_workspace_whose_top_and_home_were_shut_is_still_one() {
    let Some(p) = Project::in_jails() else { return };
    p.write("f", "host\n");
    p.runs(&["ws", "create", "w", "--from-dir", "."]);
    p.runs(&["exec", "w", "--", "sh", "-c", "echo > new; chmod 0 ."]);
    assert_eq!(p.runs(&["exec", "w", "--", "ls"]).stdout, "f\nnew\n");
    // What hides a new file has to be put there.
    p.runs(&["exec", "w", "--", "chmod", "500", "."]);
    p.write(".env", "SECRET=1\n");
    assert_eq!(p.runs(&["exec", "w", "--", "ls", "-A"]).stdout, "f\nnew\n");
    p.runs(&["exec", "w", "--", "sh", "-c", "chmod 0 . ~ /output"]);
    assert_eq!(p.runs(&["exec", "--isolated", "w", "--", "ls"]).stdout, "f\nnew\n", "sealed and forked");
    assert_eq!(p.runs(&["diff", "--name-only", "w"]).stdout, "new\n");
}

#[test]
fn a_repository_elsewhere_that_the_jail_shut_is_opened_as_well() {
    let Some(p) = Project::in_jails() else { return };
    p.write("f", "host\n");
    p.outside("git init -q main && git -C main -c user.name=a -c user.email=a@b.invalid commit -q --allow-empty -m x && git -C main worktree add -q ../linked");
    let linked = p.dir().join("linked");
    let aj = |words: &[&str]| {
        let out = p.command(aj()).args(words).current_dir(&linked).output().unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
    };
    let script = "echo x > x; git add x; chmod 0 $(git rev-parse --git-common-dir)";
    let ran = aj(&["exec", "--", "sh", "-c", script]);
    assert!(ran.0 == Some(0) && ran.2.contains("changes: "), "{ran:?}");
    let ran = aj(&["exec", "@", "--", "git", "status", "--short"]);
    assert_eq!((ran.0, ran.1.as_str()), (Some(0), "A  x\n"), "{ran:?}");
    let ran = aj(&["apply"]);
    assert_eq!(ran.0, Some(0), "{ran:?}");
    assert!(linked.join("x").exists());
}

/// A record that says nothing any more: then nothing is said to have been applied, nor that nothing changed.
#[test]
fn what_cannot_be_told_is_not_said_to_be_applied() {
    let Some(p) = Project::in_jails() else { return };
    p.write("f", "host\n");
    for (words, code) in [(&["exec"][..], 0), (&["exec", "--apply"], 125)] {
        let before = p.trees();
        let mut command = p.command(aj());
        command.args(["--json"]).args(words).args(["--", "sh", "-c", "echo jail > f; cat"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let made = || p.trees().into_iter().find(|t| !before.contains(t) && t.join("upper/f").exists());
        assert!(eventually(Duration::from_secs(20), || made().is_some()));
        std::fs::write(made().unwrap().join("hidden"), "no record").unwrap();
        drop(child.stdin.take());
        let out = child.wait_with_output().unwrap();
        let (said, answer) = (String::from_utf8_lossy(&out.stderr), String::from_utf8_lossy(&out.stdout));
        assert_eq!(out.status.code(), Some(code), "{said}");
        assert!(said.contains("what changed could not be told"), "{said}");
        assert!(answer.contains("\"files_changed\":null"), "{answer}");
        assert_eq!(said.contains("nothing was applied"), code != 0, "{said}");
        assert_eq!(read(&p, "f"), "host\n");
    }
}

/// The clock itself is left alone: what was noted of it says that it stood 100 seconds further on.
#[test]
fn what_changed_on_the_host_after_the_clock_was_set_back_is_in_conflict() {
    let Some(p) = Project::in_jails() else { return };
    for name in ["f", "g"] {
        p.write(name, "host\n");
    }
    settle();
    let id = first(&p, "echo jail > f");
    let base = tree(&p, &id).join("base");
    let plain = p.runs(&["diff", "--json", &id]);
    assert!(plain.stdout.contains("\"conflict\":null") && !plain.stderr.contains("clock"), "{plain:#?}");
    let link = std::fs::symlink_metadata(&base).unwrap();
    let noted = TimeSpec::new(link.mtime() + 100, link.mtime_nsec());
    let now = TimeSpec::UTIME_NOW;
    utimensat(AT_FDCWD, &base, &now, &noted, UtimensatFlags::NoFollowSymlink).unwrap();
    // Written before by the clock of now, and who knows when by that of then.
    let ran = p.aj(["apply", &id]);
    assert_eq!((ran.code, read(&p, "f")), (Some(1), "host\n".into()), "{ran:#?}");
    assert!(ran.stderr.contains("the clock was set back") && ran.stderr.contains("--overwrite"), "{ran:#?}");
    p.runs(&["apply", "--overwrite", &id]);
    assert_eq!(read(&p, "f"), "jail\n");
}
