//! `aj volume` and `--vol`: directories that jails share and that outlast them.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use super::{fails, json};
use crate::common::aj;
use crate::real::project::{Project, is_root};
use crate::yard::{Running, eventually};

#[track_caller]
fn sh(p: &Project, flags: &[&str], script: &str) -> String {
    let words: Vec<&str> = ["exec"].iter().chain(flags).chain(&["--", "sh", "-c", script]).copied().collect();
    p.runs(&words).stdout
}

fn names(p: &Project) -> Vec<String> {
    let found = json(p, &["volume", "list"]);
    found["volumes"].as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap().to_owned()).collect()
}

/// A jail with the volume `data` that has begun and goes on until it is killed.
#[track_caller]
fn at_work(p: &Project, flags: &[&str], script: &str) -> Running {
    let mut command = p.command(aj());
    command.arg("exec").args(flags).args(["--", "sh", "-c", script]);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    Running::start(&mut command)
}

#[test]
fn what_one_jail_writes_the_next_one_finds_and_nobody_else() {
    let Some(p) = Project::in_jails() else { return };
    assert_eq!(p.runs(&["volume", "create", "data", "--label", "l", "--meta", "k=v"]).stdout, "data\n");
    assert_eq!(sh(&p, &["--vol", "data"], "echo kept > /volumes/data/f; mkdir /volumes/data/d"), "");
    assert_eq!(
        sh(&p, &["--vol", "data:/srv/x"], "cat /srv/x/f; ls /volumes 2>&1 || true").lines().next(),
        Some("kept")
    );
    assert_eq!(sh(&p, &["--vol", "data:/home/agent/.cache"], "cat ~/.cache/f"), "kept\n");
    assert_eq!(sh(&p, &[], "ls /volumes 2>/dev/null || echo none"), "none\n");
    // As another uid of the jail it is the same files.
    assert_eq!(sh(&p, &["--as-root", "--vol", "data"], "echo more >> /volumes/data/f; id -u"), "0\n");
    assert_eq!(
        sh(&p, &["--vol", "data"], "cat /volumes/data/f; stat -c %U /volumes/data/f"),
        "kept\nmore\nagent\n"
    );
    let shown = json(&p, &["volume", "show", "data"]);
    assert_eq!((&shown["labels"][0], &shown["meta"]["k"]), (&"l".into(), &"v".into()));
    assert_eq!((&shown["in_use"], &shown["workspaces"]), (&false.into(), &Value::Array(vec![])));
    let id = shown["id"].as_str().unwrap();
    assert_eq!(sh(&p, &["--vol", &id[..9]], "cat /volumes/data/f"), "kept\nmore\n", "by the start of its id");
    // It is no change of the project's, and the record says that the jail had it.
    assert_eq!(std::fs::read_dir(p.dir()).unwrap().count(), 0);
    let record = json(&p, &["jail", "show", "@"]);
    assert_eq!(record["policy"]["volumes"], serde_json::json!(["data:/volumes/data"]));
    fails(&p, &["volume", "create", "data"], 5, &["there is a volume `data` already", "aj volume show data"]);
    p.runs(&["volume", "rm", "data"]);
    fails(&p, &["exec", "--vol", "data", "--", "true"], 125, &["no volume `data`", "aj volume create data"]);
}

#[test]
fn one_that_is_only_read_is_not_written_and_modes_mean_nothing() {
    let Some(p) = Project::in_jails() else { return };
    p.runs(&["volume", "create", "data"]);
    sh(
        &p,
        &["--vol", "data"],
        "cp /usr/bin/id /volumes/data/tool; chmod 4755 /volumes/data/tool; mkfifo /volumes/data/p",
    );
    let tried = sh(
        &p,
        &["--vol", "data:ro"],
        "cd /volumes/data; for w in 'touch n' 'rm tool' 'chmod 0 tool' 'mkdir d' 'ln tool m' 'sh -c :>tool'; do \
         $w 2>/dev/null && echo \"$w\"; done; grep ' /volumes/data ' /proc/self/mounts | cut -d' ' -f4",
    );
    assert!(!tried.contains("tool\n") && !tried.contains("touch") && !tried.contains("mkdir"), "{tried}");
    for option in ["ro", "nosuid", "nodev"] {
        assert!(tried.trim().split(',').any(|o| o == option), "{option}: {tried}");
    }
    // What is written there is nobody's on the host that counts.
    use std::os::unix::fs::MetadataExt;
    let directory = json(&p, &["volume", "show", "data"])["directory"].as_str().unwrap().to_owned();
    let tool = std::fs::symlink_metadata(format!("{directory}/tool")).unwrap();
    let me = nix::unistd::geteuid().as_raw();
    assert_eq!(tool.uid(), if is_root() { 1_001_000 } else { me });
}

/// Held as `aj fs write` holds it.
#[test]
fn who_only_writes_in_it_is_not_called_a_jail() {
    let Some(p) = Project::in_jails() else { return };
    p.runs(&["volume", "create", "data"]);
    let directory = json(&p, &["volume", "show", "data"])["directory"].as_str().unwrap().to_owned();
    let volume = std::path::Path::new(&directory).parent().unwrap().to_owned();
    let mut writer = std::process::Command::new("flock");
    writer.args(["-x"]).arg(&volume).args(["sh", "-c", "echo has it; read x"]);
    writer.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut writer = crate::yard::Running::start(&mut writer);
    assert_eq!(writer.first_line().0, "has it");
    let ran = p.aj(["volume", "rm", "data"]);
    assert_eq!(ran.code, Some(5), "{ran:#?}");
    assert!(ran.stderr.contains("is being written by another `aj`"), "{ran:#?}");
    assert!(!ran.stderr.contains("jail"), "{ran:#?}");
    drop(writer.0.stdin.take());
    writer.end();
    p.runs(&["volume", "rm", "data"]);
}

#[test]
fn several_jails_have_it_at_once_and_keep_it_from_being_removed() {
    let Some(p) = Project::in_jails() else { return };
    p.runs(&["volume", "create", "data"]);
    let mut first = at_work(
        &p,
        &["--vol", "data"],
        "echo here; until test -e /volumes/data/go; do sleep 0.02; done; echo seen > /volumes/data/back",
    );
    assert_eq!(first.first_line().0, "here");
    assert_eq!(json(&p, &["volume", "list"])["volumes"][0]["in_use"], true);
    fails(&p, &["volume", "rm", "data"], 5, &["a jail that runs has it", "--force"]);
    sh(&p, &["--vol", "data"], "touch /volumes/data/go");
    assert!(first.end().success());
    assert_eq!(sh(&p, &["--vol", "data:ro"], "cat /volumes/data/back"), "seen\n");
    // By force it goes from under a jail, and its name is free.
    let mut second = at_work(
        &p,
        &["--vol", "data"],
        "echo here; while test -e /volumes/data/back; do sleep 0.02; done; touch /volumes/data/x 2>/dev/null || echo gone",
    );
    let (line, mut rest) = second.first_line();
    assert_eq!(line, "here");
    p.runs(&["volume", "rm", "data", "--force"]);
    assert!(second.end().success());
    let mut said = String::new();
    std::io::Read::read_to_string(&mut rest, &mut said).unwrap();
    assert_eq!(said, "gone\n");
    p.runs(&["volume", "create", "data"]);
    assert_eq!(sh(&p, &["--vol", "data"], "ls /volumes/data"), "");
    p.runs(&["volume", "rm", "data"]);
    let left = std::fs::read_dir(p.state().join("volumes")).unwrap().flatten();
    let mut left: Vec<_> = left.map(|e| e.file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["lock", "names"]);
}

#[test]
fn a_killed_aj_does_not_keep_a_volume() {
    let Some(p) = Project::in_jails() else { return };
    p.runs(&["volume", "create", "data"]);
    let mut jail = at_work(&p, &["--vol", "data"], "echo here; sleep 100");
    assert_eq!(jail.first_line().0, "here");
    jail.0.kill().unwrap();
    jail.end();
    eventually(Duration::from_secs(5), || p.aj(["volume", "rm", "data"]).code == Some(0));
}

#[test]
fn places_that_the_jail_needs_are_refused_with_the_reason() {
    let Some(p) = Project::in_jails() else { return };
    p.runs(&["volume", "create", "a"]);
    p.runs(&["volume", "create", "b"]);
    let tree = p.dir().to_str().unwrap().to_owned();
    let inside = format!("{tree}/node_modules");
    let above = p.top().to_str().unwrap().to_owned();
    for (place, why) in [
        ("/usr", "its own `/usr`"),
        ("/usr/local/x", "its own `/usr`"),
        ("/etc/ssl", "something of its own"),
        ("/proc/sys", "something of its own"),
        ("/lib64", "something of its own"),
        ("/dev/shm/x", "its own `/dev`"),
        ("/home/agent", "its own `/home/agent`"),
        ("/tmp", "its own `/tmp`"),
        ("/workspace", "its own `/workspace`"),
        ("/output/x", "its own `/output`"),
        (&tree, "the tree"),
        (&inside, "the tree"),
        (&above, "the tree"),
    ] {
        let vol = format!("a:{place}");
        fails(&p, &["exec", "--vol", &vol, "--", "true"], 125, &["cannot be shown", place, why, "hint:"]);
    }
    let ro = p.top().join("home");
    let within = format!("a:{}/x", ro.display());
    let bound = ["exec", "--ro", ro.to_str().unwrap(), "--vol", &within, "--", "true"];
    fails(&p, &bound, 125, &["the directory", "is shown there"]);
    let twice = ["exec", "--vol", "a:/srv/x", "--vol", "b:/srv/x/y", "--", "true"];
    fails(&p, &twice, 125, &["the volume at `/srv/x` is shown there"]);
    let (part, deep) = (format!("a:/srv/{}", "x".repeat(256)), format!("a:{}", "/xx".repeat(400)));
    for long in [&part, &deep] {
        fails(&p, &["exec", "--vol", long, "--", "true"], 125, &["is too long"]);
    }
    for bad in ["a:x", "a:/x/../y", "a:/x:rx", "/x", "a:/\u{1b}[2J"] {
        let ran = p.aj(["exec", "--vol", bad, "--", "true"]);
        assert_eq!(ran.code, Some(125), "{ran:#?}");
        assert!(!ran.stderr.contains('\u{1b}'));
    }
    // What a jail planted in the home of a workspace is no place either.
    p.runs(&["ws", "create", "w"]);
    p.runs(&["exec", "w", "--", "ln", "-s", "/etc", "/home/agent/link"]);
    let ran = p.aj(["exec", "w", "--vol", "a:/home/agent/link/x", "--", "true"]);
    assert_eq!(ran.code, Some(125), "{ran:#?}");
}

#[test]
fn a_workspace_has_its_volumes_in_every_command() {
    let Some(p) = Project::in_jails() else { return };
    p.runs(&["volume", "create", "data"]);
    p.runs(&["volume", "create", "more"]);
    p.runs(&["ws", "create", "api", "--vol", "data:/srv/data"]);
    sh(&p, &["api"], "echo x > /srv/data/f");
    assert_eq!(sh(&p, &["api"], "cat /srv/data/f"), "x\n");
    assert_eq!(json(&p, &["ws", "show", "api"])["volumes"], serde_json::json!(["data:/srv/data"]));
    fails(&p, &["volume", "rm", "data"], 5, &["attached to api", "aj volume detach api data"]);
    // A jail that runs goes on as it is, and that is said.
    p.runs(&["ws", "start", "api"]);
    let ran = p.runs(&["volume", "attach", "api", "more:ro"]);
    assert!(ran.stderr.contains("goes on as it is"), "{ran:#?}");
    assert_eq!(sh(&p, &["api"], "ls /volumes 2>/dev/null || echo none"), "none\n");
    let ran = p.aj(["exec", "api", "--vol", "more", "--", "true"]);
    assert!(ran.code == Some(125) || ran.code == Some(5), "{ran:#?}");
    assert!(ran.stderr.contains("without the volume more:/volumes/more"), "{ran:#?}");
    assert_eq!(sh(&p, &["api", "--vol", "data:/srv/data"], "cat /srv/data/f"), "x\n", "it has that one");
    fails(&p, &["volume", "rm", "data"], 5, &["attached"]);
    // The jail that runs has it, whatever the record says by now.
    p.runs(&["volume", "detach", "api", "data"]);
    fails(&p, &["volume", "rm", "data"], 5, &["a jail that runs has it, or an"]);
    p.runs(&["volume", "attach", "api", "data:/srv/data"]);
    p.runs(&["ws", "stop", "api"]);
    assert_eq!(
        sh(&p, &["api"], "ls -d /volumes/more; touch /volumes/more/x 2>/dev/null || echo ro"),
        "/volumes/more\nro\n"
    );
    // Of two at one place the later one counts.
    p.runs(&["volume", "attach", "api", "more:/srv/data"]);
    let shown = json(&p, &["ws", "show", "api"]);
    assert_eq!(shown["volumes"], serde_json::json!(["more:/volumes/more:ro", "more:/srv/data"]));
    fails(&p, &["volume", "attach", "api", "more:/srv"], 2, &["another volume"]);
    fails(&p, &["volume", "detach", "api", "data"], 3, &["not attached"]);
    p.runs(&["volume", "detach", "api", "more"]);
    assert_eq!(json(&p, &["ws", "show", "api"])["volumes"], serde_json::json!([]));
    // A volume outlasts the workspace.
    p.runs(&["volume", "attach", "api", "data"]);
    p.runs(&["ws", "rm", "api"]);
    assert_eq!(sh(&p, &["--vol", "data"], "cat /volumes/data/f"), "x\n");
    // One that is taken away by force is taken from workspaces, and another of its name is not it.
    p.runs(&["ws", "create", "api", "--vol", "data"]);
    p.runs(&["volume", "rm", "data", "--force"]);
    p.runs(&["volume", "create", "data"]);
    assert_eq!(sh(&p, &["api"], "ls -d /volumes/data 2>/dev/null || echo none"), "none\n");
}

#[test]
fn one_that_is_gone_from_under_a_workspace_is_told_with_the_way_out() {
    let Some(p) = Project::in_jails() else { return };
    p.runs(&["volume", "create", "data"]);
    p.runs(&["ws", "create", "w", "--vol", "data"]);
    let id = json(&p, &["volume", "show", "data"])["id"].as_str().unwrap().to_owned();
    // As a killed `aj volume rm` leaves it.
    std::fs::remove_dir_all(p.state().join("volumes").join(&id)).unwrap();
    let way = format!("aj volume detach w {id}");
    fails(&p, &["exec", "w", "--", "true"], 125, &["has a volume that is gone", &way]);
    p.runs(&["volume", "detach", "w", &id]);
    p.runs(&["exec", "w", "--", "true"]);
}

#[test]
fn a_dry_run_shows_it_and_a_job_has_it() {
    let Some(p) = Project::in_jails() else { return };
    p.runs(&["volume", "create", "data"]);
    let shown = json(&p, &["exec", "--dry-run", "--vol", "data:/srv/d:ro", "--", "true"]);
    let row = &shown["volumes"][0];
    assert_eq!(
        (&row["name"], &row["path"], &row["read_only"]),
        (&"data".into(), &"/srv/d".into(), &true.into())
    );
    let table = p.runs(&["exec", "-n", "--vol", "data", "--", "true"]).stdout;
    assert!(table.contains("writable") && table.contains("/volumes/data"), "{table}");
    p.runs(&["job", "start", "--name", "j", "--vol", "data", "--", "sh", "-c", "echo job > /volumes/data/j"]);
    p.runs(&["job", "wait", "j"]);
    assert_eq!(sh(&p, &["--vol", "data:ro"], "cat /volumes/data/j"), "job\n");
    // Another volume of that name is not the job's.
    p.runs(&["volume", "rm", "data"]);
    p.runs(&["volume", "create", "data"]);
    let ran = p.aj(["job", "restart", "j"]);
    assert!(ran.code == Some(125) && ran.stderr.contains("no volume `vl-"), "{ran:#?}");
    assert_eq!(p.runs(&["fs", "list", "vol:data"]).stdout, "");
}

#[test]
fn hostile_content_is_neither_followed_nor_in_the_way_of_removal() {
    let Some(p) = Project::in_jails() else { return };
    let outside = p.top().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("kept"), "kept").unwrap();
    p.runs(&["volume", "create", "data"]);
    let target = outside.display();
    sh(
        &p,
        &["--vol", "data"],
        &format!(
            "cd /volumes/data; ln -s {target} l; ln -s / root; mkfifo p; mkdir -p d/e/f; chmod 0 d/e d; \
             touch \"$(printf 'n\\033[2J\\nx')\"; n=$(printf 'y%.0s' $(seq 250)); mkdir $n; cd $n; \
             for i in $(seq 60); do mkdir $n && cd $n || break; done; chmod 0 /volumes/data"
        ),
    );
    let shown = p.runs(&["volume", "show", "data"]);
    assert!(!shown.stdout.contains('\u{1b}'), "{shown:#?}");
    // Its own top, without permissions, is no obstacle for the next jail of the same owner.
    sh(
        &p,
        &["--vol", "data"],
        "chmod 755 /volumes/data; ls /volumes/data/l/ 2>/dev/null; chmod 0 /volumes/data",
    );
    // Nor for whoever looks from outside.
    let listed = p.runs(&["fs", "list", "vol:data"]).stdout;
    assert!(listed.contains("l -> ") && listed.contains("d/"), "{listed}");
    sh(&p, &["--vol", "data"], "chmod 0 /volumes/data");
    p.runs(&["volume", "rm", "data"]);
    assert_eq!(std::fs::read_to_string(outside.join("kept")).unwrap(), "kept");
    assert_eq!(names(&p), [""; 0]);
}

#[test]
fn a_volume_whose_files_are_somebody_elses_is_refused() {
    let Some(p) = Project::in_jails() else { return };
    p.runs(&["volume", "create", "data"]);
    let directory = json(&p, &["volume", "show", "data"])["directory"].as_str().unwrap().to_owned();
    if is_root() {
        // Mapped to the jail's user, its files would be root's on this machine.
        std::os::unix::fs::chown(&directory, Some(0), Some(0)).unwrap();
        for flags in [&["--vol", "data"][..], &["--as-root", "--vol", "data"]] {
            let words: Vec<&str> = ["exec"].iter().chain(flags).chain(&["--", "true"]).copied().collect();
            fails(&p, &words, 125, &["belong to uid 0"]);
        }
    }
    // A link in its place leads nowhere.
    std::fs::remove_dir(&directory).unwrap();
    std::os::unix::fs::symlink(p.top().join("home"), &directory).unwrap();
    fails(&p, &["exec", "--vol", "data", "--", "true"], 125, &["no directory"]);
    let record = format!("{}/volume.toml", directory.trim_end_matches("/data"));
    std::fs::write(&record, "format = 1\n\u{1b}[2J").unwrap();
    let ran = p.aj(["exec", "--vol", "data", "--", "true"]);
    assert_eq!(ran.code, Some(125));
    assert!(ran.stderr.contains("damaged") && !ran.stderr.contains('\u{1b}'), "{ran:#?}");
}

#[test]
fn killed_at_any_step_a_volume_is_there_whole_or_not_at_all() {
    let p = Project::new();
    let killed_at = |n: u32, words: &[&str]| {
        let mut command = p.command(aj());
        let output = command.args(words).env("AJ_TEST_KILL_AT", n.to_string()).output().unwrap();
        let killed = output.status.signal() == Some(9);
        assert!(killed || output.status.success(), "{words:?}: {output:?}");
        killed
    };
    if !killed_at(1, &["volume", "create", "first"]) {
        return eprintln!("SKIP: this aj is no debug build");
    }
    let steps = (1..).find(|n| {
        let killed = killed_at(*n, &["volume", "create", "v"]);
        if names(&p).is_empty() {
            assert!(killed);
            p.runs(&["volume", "create", "v"]);
        }
        assert_eq!(names(&p), ["v"]);
        p.runs(&["volume", "rm", "v"]);
        !killed
    });
    assert!(steps.unwrap() > 4, "{steps:?}");
    let steps = (1..).find(|n| {
        if names(&p).is_empty() {
            p.runs(&["volume", "create", "v"]);
        }
        let killed = killed_at(*n, &["volume", "rm", "v"]);
        !killed
    });
    assert!(steps.unwrap() > 2, "{steps:?}");
    // What they left is cleaned up, once it is old enough to be nobody's.
    let volumes = p.state().join("volumes");
    let old = std::time::SystemTime::now() - Duration::from_secs(60);
    for entry in std::fs::read_dir(&volumes).unwrap().flatten() {
        if entry.file_name().to_str().unwrap().starts_with(".new-") {
            std::fs::File::open(entry.path()).unwrap().set_modified(old).unwrap();
        }
    }
    p.runs(&["gc", "--orphans"]);
    let mut left: Vec<_> =
        std::fs::read_dir(&volumes).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["lock", "names"]);
    assert_eq!(std::fs::read_dir(volumes.join("names")).unwrap().count(), 0);
}

#[test]
fn its_files_are_read_and_written_without_a_jail() {
    let Some(p) = Project::in_jails() else { return };
    p.runs(&["volume", "create", "data"]);
    p.write("m.bin", "bytes\n");
    p.runs(&["fs", "mkdir", "vol:data", "models"]);
    p.runs(&["cp", "m.bin", "vol:data/models/"]);
    p.write("d/a", "a");
    p.runs(&["cp", "-r", "d", "vol:data"]);
    let outside = p.top().join("outside");
    std::fs::write(&outside, "host").unwrap();
    assert_eq!(
        sh(
            &p,
            &["--vol", "data"],
            &format!(
                "cd /volumes/data; cat models/m.bin d/a; stat -c %U models/m.bin; echo more > models/m.bin; ln -s {} out",
                outside.display()
            )
        ),
        "bytes\naagent\n"
    );
    assert_eq!(p.runs(&["fs", "cat", "vol:data", "models/m.bin"]).stdout, "more\n");
    assert_eq!(p.runs(&["cp", "vol:data/models/m.bin", "-"]).stdout, "more\n");
    let listed = json(&p, &["fs", "list", "vol:data", "--limit", "2"]);
    let names: Vec<&str> =
        listed["entries"].as_array().unwrap().iter().map(|e| e["path"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 2, "{listed:#}");
    // A link that a jail made leads nowhere.
    for words in [&["fs", "cat", "vol:data", "out"][..], &["cp", "vol:data/out", "x"]] {
        let ran = p.aj(words);
        assert!(ran.code != Some(0) || !ran.stdout.contains("host"), "{ran:#?}");
    }
    p.aj(["cp", "m.bin", "vol:data/out"]);
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "host");
    // It is not written beside a jail that has it; reading is fine, and says so.
    let mut jail = at_work(&p, &["--vol", "data"], "echo here; sleep 100");
    assert_eq!(jail.first_line().0, "here");
    fails(
        &p,
        &["cp", "m.bin", "vol:data/x"],
        5,
        &["`vol:data` is in use: a jail that runs has it, or another `aj` reads in it"],
    );
    let ran = p.runs(&["fs", "cat", "vol:data", "models/m.bin"]);
    assert!(ran.stdout == "more\n" && ran.stderr.contains("half written"), "{ran:#?}");
    jail.0.kill().unwrap();
    jail.end();
    // Nor is it taken for one that is not there by whoever comes while it is written.
    let mut writer = p.command(aj());
    writer.args(["fs", "write", "vol:data", "slow"]);
    writer.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut writer = writer.spawn().unwrap();
    let written = || p.aj(["exec", "--vol", "data", "--", "true"]).stderr.contains("is being written");
    eventually(Duration::from_secs(5), written);
    fails(&p, &["fs", "list", "vol:data"], 5, &["`data` is being written", "hint:"]);
    drop(writer.stdin.take());
    assert!(writer.wait().unwrap().success());
    eventually(Duration::from_secs(5), || p.aj(["cp", "m.bin", "vol:data/x"]).code == Some(0));
    let ran = p.runs(&["fs", "cat", "vol:data", "x"]);
    assert!(ran.stderr.is_empty(), "{ran:#?}");
    fails(&p, &["fs", "list", "vol:none"], 3, &["no volume `none`"]);
    fails(&p, &["volume", "create", "vol"], 2, &["a word of aj"]);
}
