//! What is kept of runs: how it is bounded, shown and discarded.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;

use crate::common::{Ran, aj};
use crate::real::project::{Project, is_root, skip};
use crate::yard::Running;

/// A run that changes something: the id of its jail, and what aj said.
#[track_caller]
fn keeps(p: &Project, script: &str) -> (String, String) {
    let ran = p.runs(&["exec", "--", "sh", "-c", script]);
    (p.newest(), ran.stderr)
}

fn configured(keep: &str) -> Project {
    let p = Project::new();
    std::fs::create_dir(p.top().join("config")).unwrap();
    std::fs::write(p.top().join("config/config.toml"), format!("[keep]\n{keep}\n")).unwrap();
    p
}

/// Ids of the trees that are there.
fn trees(p: &Project) -> Vec<String> {
    let names = p.trees().into_iter().map(|t| t.file_name().unwrap().to_str().unwrap().to_owned());
    let mut names: Vec<String> = names.filter(|n| n.starts_with("jl-")).collect();
    names.sort();
    names
}

fn sorted(ids: &[&String]) -> Vec<String> {
    let mut ids: Vec<String> = ids.iter().map(|id| (*id).clone()).collect();
    ids.sort();
    ids
}

#[track_caller]
fn fails(ran: &Ran, code: i32, said: &[&str]) {
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{ran:#?}");
    for word in said {
        assert!(ran.stderr.contains(word), "no {word:?} in {ran:#?}");
    }
}

/// Make a record say that its tree was last used so long ago.
fn aged(p: &Project, id: &str, ago: Duration) {
    let note = p.state().join("trees").join(id).join("kept");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let text = std::fs::read_to_string(&note).unwrap();
    let lines = text.lines().map(|l| match l.strip_prefix("used ") {
        Some(_) => format!("used {}\n", (now - ago).as_millis()),
        None => format!("{l}\n"),
    });
    std::fs::write(&note, lines.collect::<String>()).unwrap();
}

#[test]
fn the_newest_are_kept_and_what_goes_is_said_once() {
    let p = configured("trees = 2\nsize = \"1M\"\nage = \"2d\"");
    let (a, said) = keeps(&p, "echo a > a");
    assert!(!said.contains("removed"), "{said}");
    let (b, _) = keeps(&p, "echo b > b");
    let (c, said) = keeps(&p, "echo c > c");
    assert_eq!(trees(&p), sorted(&[&b, &c]));
    let lines: Vec<&str> = said.lines().filter(|l| l.contains("removed")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].starts_with("aj: warning: the kept changes of an older run ("), "{said}");
    assert!(lines[0].ends_with(" old) were removed: `keep.trees` = 2 (config.toml)"), "{said}");
    // Nothing is looked after by a run that changed nothing, and none of what is used again goes.
    aged(&p, &b, Duration::from_secs(3 * 86_400));
    assert!(!p.runs(&["exec", "--", "true"]).stderr.contains("removed"));
    assert_eq!(trees(&p), sorted(&[&b, &c]));
    let said = p.runs(&["exec", &b, "--", "sh", "-c", "echo b2 >> b"]).stderr;
    assert!(!said.contains("removed"), "{said}");
    aged(&p, &c, Duration::from_secs(3 * 86_400));
    let ran = p.aj(["exec", "--json", "--", "sh", "-c", "head -c 600000 /dev/zero | tr '\\0' x > d"]);
    let d: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let warned =
        d["warnings"].as_array().unwrap().iter().filter(|w| {
            w.as_str().unwrap().contains("(the oldest") || w.as_str().unwrap().contains("(3d old)")
        });
    assert_eq!(warned.count(), 1, "{ran:#?}");
    let d = d["jail_id"].as_str().unwrap().to_owned();
    assert_eq!(trees(&p), sorted(&[&b, &d]));
    let (e, said) = keeps(&p, "head -c 600000 /dev/zero | tr '\\0' y > e");
    assert!(said.contains("`keep.size` = 1M"), "{said}");
    assert_eq!(trees(&p), sorted(&[&b, &e]), "what fits stays");
    let (f, said) = keeps(&p, "head -c 1500000 /dev/zero | tr '\\0' z > f");
    assert!(said.contains("the changes take 1.4 MiB, more than `keep.size` = 1M allows"), "{said}");
    assert_eq!(trees(&p).len(), 2, "the others do not pay for it: {said}");
    assert!(trees(&p).contains(&f));
    let gone = p.aj(["diff", &a]);
    assert_eq!(gone.code, Some(3), "{gone:#?}");
}

#[test]
fn a_project_has_no_say_in_what_others_keep() {
    let p = Project::new();
    for n in 0..3 {
        keeps(&p, &format!("echo {n} > f"));
    }
    p.write("aj.toml", "[keep]\ntrees = 1\n[jail]\nkeep = 1\n");
    keeps(&p, "echo 4 > f");
    assert_eq!(trees(&p).len(), 4);
    let listed = p.runs(&["config", "list", "-q"]).stdout;
    for row in ["keep.trees\t20\tbuilt-in", "keep.size\t2G\tbuilt-in", "keep.age\t7d\tbuilt-in"] {
        assert!(listed.contains(row), "{listed}");
    }
    assert_eq!(p.runs(&["config", "get", "keep.age"]).stdout, "7d\n");
}

#[test]
fn what_is_about_to_be_applied_is_not_taken_away() {
    let p = configured("trees = 1");
    let dir = |n: usize| p.dir().join(n.to_string());
    let start = |n: usize| {
        std::fs::create_dir(dir(n)).unwrap();
        let mut run = p.command(aj());
        run.current_dir(dir(n)).args(["exec", "--apply", "--", "sh", "-c", "echo x > f"]);
        Running::start(run.stdout(Stdio::null()).stderr(Stdio::piped()))
    };
    let mut all: Vec<Running> = (0..8).map(start).collect();
    for (n, run) in all.iter_mut().enumerate() {
        let mut said = String::new();
        run.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(run.end().code(), Some(0), "{n}: {said}");
        assert!(dir(n).join("f").exists(), "{n}: {said}");
    }
}

#[test]
fn twenty_runs_that_end_at_once_leave_what_the_rule_says() {
    let p = configured("trees = 5");
    let start = |n: u32| {
        let mut run = p.command(aj());
        run.args(["exec", "--", "sh", "-c", &format!("echo {n} > f; read x")]);
        Running::start(run.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()))
    };
    let mut all: Vec<Running> = (0..20).map(start).collect();
    std::thread::sleep(Duration::from_millis(500));
    // All of them at the end of their input.
    all.iter_mut().for_each(|run| drop(run.0.stdin.take()));
    let mut removed = 0;
    for run in &mut all {
        let mut said = String::new();
        run.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(run.end().code(), Some(1), "{said}");
        for line in said.lines().filter(|l| l.contains("removed")) {
            let before = line.split_once(" older run").unwrap().0;
            removed += before.rsplit(' ').next().unwrap().parse::<usize>().unwrap_or(1);
        }
        assert!(!said.contains("could not"), "{said}");
    }
    // While they end, each has its own in its hands, which nobody takes away.
    assert_eq!((trees(&p).len() + removed, trees(&p).len() >= 5), (20, true));
    keeps(&p, "echo last > f");
    assert_eq!(trees(&p).len(), 5);
}

#[test]
fn discarding_is_confirmed_and_says_what_went() {
    let p = Project::new();
    let (a, _) = keeps(&p, "echo a > a");
    let (b, _) = keeps(&p, "echo b > b");
    p.runs(&["exec", &b, "--", "sh", "-c", "echo c > c"]);
    let shown = p.runs(&["discard", "--all", "-n"]);
    assert_eq!(shown.stdout.lines().count(), 2, "{shown:#?}");
    assert!(shown.stderr.contains("would remove the changes of 2 jails ("), "{shown:#?}");
    fails(&p.aj(["discard", "@"]), 2, &["not confirmed", "add `--yes`"]);
    fails(&p.aj(["discard"]), 2, &["required"]);
    fails(&p.aj(["discard", "--all", &a]), 2, &["cannot be used with"]);
    assert_eq!(trees(&p), sorted(&[&a, &b]));
    // The jail that went on and the one that began are of one tree.
    let ran = p.runs(&["discard", "--json", "-y", "@", &b, &b[..12]]);
    let done: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(done["discarded"].as_array().unwrap().len(), 1, "{done}");
    assert_eq!((&done["discarded"][0]["tree"], &done["dry_run"]), (&b.as_str().into(), &false.into()));
    assert!(done["discarded"][0]["bytes"].as_u64().unwrap() > 0, "{done}");
    assert_eq!(trees(&p), sorted(&[&a]));
    fails(&p.aj(["discard", "-y", &a, &b]), 3, &["no changes are kept of jail"]);
    fails(&p.aj(["discard", "-y", "jl-zzzz"]), 3, &["no jail `jl-zzzz`"]);
    assert_eq!(trees(&p), sorted(&[&a]), "all or nothing");
    let ran = p.runs(&["discard", "-y", "--ignore-missing", &b, &a]);
    assert!(ran.stderr.contains("warning: no changes are kept of jail"), "{ran:#?}");
    assert_eq!(trees(&p), Vec::<String>::new());
    let ran = p.runs(&["discard", "--all", "-y"]);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", "aj: no changes are kept\n"));
    let show = p.runs(&["jail", "show", &a]).stdout;
    assert!(!show.contains("changes: kept"), "{show}");
}

#[test]
fn on_a_terminal_it_is_asked_about() {
    let p = Project::new();
    if !crate::real::project::has("script") {
        return;
    }
    let (a, _) = keeps(&p, "echo a > a");
    let answer = |answer: &str| {
        let mut ask = p.command("script");
        ask.args(["-qec", &format!("{} discard @", aj().display()), "/dev/null"]);
        let mut asked = ask.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        asked.stdin.take().unwrap().write_all(format!("{answer}\n").as_bytes()).unwrap();
        Ran::from(asked.wait_with_output().unwrap())
    };
    for no in ["", "n", "nein", "yess"] {
        let ran = answer(no);
        assert!(
            ran.stdout.contains("remove the changes of 1 jail (") && ran.stdout.contains("? [y/N]"),
            "{ran:#?}"
        );
        assert_eq!((ran.code, trees(&p)), (Some(2), sorted(&[&a])), "{no}");
    }
    assert_eq!((answer("Yes").code, trees(&p)), (Some(0), Vec::new()));
}

#[test]
fn a_discard_that_was_killed_is_finished_by_the_next_command() {
    let p = Project::new();
    for n in 0..3 {
        let (id, _) = keeps(
            &p,
            "mkdir d; cd d; i=0; while [ $i -lt 200 ]; do mkdir -p $i/a; echo x > $i/a/f; i=$((i+1)); done",
        );
        let mut run = p.command(aj());
        run.args(["discard", "-y", &id]).stdout(Stdio::null()).stderr(Stdio::null());
        let run = Running::start(&mut run);
        std::thread::sleep(Duration::from_millis(4 + 4 * n));
        run.signal(Signal::SIGKILL);
        drop(run);
        // Whole, or gone for everyone.
        if trees(&p).contains(&id) {
            assert!(p.runs(&["diff", "--stat", &id]).stdout.contains("added\t200"));
            p.runs(&["discard", "-y", &id]);
        } else {
            assert_eq!(p.aj(["diff", &id]).code, Some(3));
        }
        let left = || {
            p.trees().into_iter().filter(|t| t.to_str().unwrap().contains(".gone-")).collect::<Vec<PathBuf>>()
        };
        match n % 3 {
            0 => drop(p.runs(&["discard", "--all", "-y"])),
            1 => drop(p.runs(&["jail", "list"])),
            _ => {
                for _ in 0..20 {
                    keeps(&p, "echo x > f");
                    if left().is_empty() {
                        break;
                    }
                }
            }
        }
        assert_eq!(left(), Vec::<PathBuf>::new());
    }
}

#[test]
fn what_a_hostile_run_left_can_be_discarded() {
    let p = Project::new();
    let (id, _) = keeps(
        &p,
        "d=deep; i=0; while [ $i -lt 300 ]; do mkdir $d && cd $d && i=$((i+1)); done; cd /workspace; \
         mkdir shut; echo x > shut/f; chmod 0 shut; mkfifo pipe; ln -s / root; : > \"$(printf 'a\\n\\033[31m')\"",
    );
    p.runs(&["discard", "-y", &id]);
    assert_eq!(p.trees().len(), 0);
    let ran = p.aj(["discard", "-y", &id]);
    assert_eq!(ran.code, Some(3), "{ran:#?}");
    // A file of another owner, which only root can make, does not keep root from it.
    if !is_root() {
        return skip("the owner of a tree cannot be changed here");
    }
    let (id, _) = keeps(&p, "mkdir d; echo x > d/f");
    let upper = p.state().join("trees").join(&id).join("upper");
    std::os::unix::fs::chown(upper.join("d"), Some(4321), Some(4321)).unwrap();
    p.runs(&["discard", "-y", &id]);
    assert_eq!(p.trees().len(), 0);
}

/// What one command goes on in, the others show, bring back and remove: not what ran over another
/// project meanwhile, nor nothing because a later run here changed nothing.
#[test]
fn at_means_the_same_kept_changes_for_every_command() {
    let p = Project::new();
    let (ours, _) = keeps(&p, "echo 1 > ours");
    let other = p.top().join("other");
    std::fs::create_dir(&other).unwrap();
    let there = |words: &[&str]| Ran::from(p.command(aj()).current_dir(&other).args(words).output().unwrap());
    assert_eq!(there(&["exec", "--", "sh", "-c", "echo 1 > theirs"]).code, Some(0));
    let (_, said) = keeps(&p, "true");
    assert_eq!(said, "");
    assert_eq!(p.runs(&["exec", "@", "--", "ls"]).stdout, "ours\n");
    assert_eq!(p.runs(&["diff", "@"]).stdout, "A ours\n");
    assert_eq!(there(&["diff", "@"]).stdout, "A theirs\n");
    assert!(p.runs(&["discard", "@", "-n"]).stdout.starts_with(&ours));
    assert_eq!(p.runs(&["apply", "@"]).stdout, "A ours\n");
    assert!(p.dir().join("ours").exists() && !other.join("theirs").exists());
    p.runs(&["discard", "@", "--yes"]);
    for command in
        [&["exec", "@", "--", "true"][..], &["diff", "@"], &["apply", "@"], &["discard", "@", "-y"]]
    {
        let ran = p.aj(command);
        assert!(ran.stderr.contains("no changes are kept for"), "{command:?} {ran:#?}");
    }
    assert_eq!(there(&["diff", "@"]).stdout, "A theirs\n");
}
