//! `aj gc`: what has expired, what killed processes left behind, and what stays.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::json;
use crate::common::aj;
use crate::real::project::{Project, is_root};
use crate::yard::{Running, eventually};

/// `KIND NAME` of all that went, or would.
#[track_caller]
fn gone(p: &Project, flags: &[&str]) -> Vec<String> {
    let words: Vec<&str> = ["gc"].iter().chain(flags).copied().collect();
    let done = json(p, &words);
    assert_eq!(done["failed"], Value::Array(vec![]));
    let row = |r: &Value| format!("{} {}", r["kind"].as_str().unwrap(), r["name"].as_str().unwrap());
    // Control groups are the machine's: those that tests beside this one leave would be among them.
    let here = done["removed"].as_array().unwrap().iter().filter(|r| r["kind"] != "group");
    let mut gone: Vec<String> = here.map(row).collect();
    gone.sort();
    gone
}

fn names(p: &Project) -> Vec<String> {
    let found = json(p, &["ws", "list"]);
    let mut names: Vec<String> = found["workspaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|w| w["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[track_caller]
fn status(p: &Project, name: &str) -> String {
    json(p, &["ws", "show", name])["status"].as_str().unwrap().to_owned()
}

fn configure(p: &Project, text: &str) {
    let dir = p.top().join("config");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("config.toml"), text).unwrap();
}

fn aged(path: impl AsRef<Path>, seconds: u64) {
    let then = SystemTime::now() - Duration::from_secs(seconds);
    std::fs::File::open(path).unwrap().set_modified(then).unwrap();
}

/// The record of a workspace says that it was made, and used, so long ago.
fn age(p: &Project, name: &str, seconds: u64) {
    let id = json(p, &["ws", "show", name])["id"].as_str().unwrap().to_owned();
    let dir = p.state().join("workspaces").join(&id);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
    let then = now - seconds * 1000;
    let change = |file: &Path, key: &str, between: &str| {
        let Ok(text) = std::fs::read_to_string(file) else { return };
        let line = |l: &str| {
            if l.starts_with(key) { format!("{key}{between}{then}\n") } else { format!("{l}\n") }
        };
        std::fs::write(file, text.lines().map(line).collect::<String>()).unwrap();
    };
    change(&dir.join("workspace.toml"), "created_ms", " = ");
    change(&dir.join("workspace.toml"), "touched_ms", " = ");
    change(&dir.join("tree/kept"), "used", " ");
    aged(&dir, seconds);
}

#[test]
fn an_expired_workspace_is_refused_kept_for_a_day_and_then_removed() {
    let Some(p) = Project::in_jails() else { return };
    p.runs(&["ws", "create", "a", "--ttl", "1h"]);
    p.runs(&["ws", "create", "b"]);
    p.runs(&["exec", "a", "--", "touch", "f"]);
    assert_eq!(gone(&p, &[]), [""; 0]);
    age(&p, "a", 2 * 3600);
    assert_eq!(status(&p, "a"), "expired");
    let ran = p.aj(["exec", "a", "--", "true"]);
    assert_eq!(ran.code, Some(125), "{ran:#?}");
    for way in ["aj workspace touch a --for 1h", "aj workspace set a --ttl none", "aj workspace rm a"] {
        assert!(ran.stderr.contains(way), "{ran:#?}");
    }
    let ran = p.aj(["ws", "touch", "a"]);
    assert_eq!(ran.code, Some(1), "a use does not make it younger: {ran:#?}");
    assert!(ran.stderr.contains("has expired") && ran.stderr.contains("--for 1h"), "{ran:#?}");
    assert_eq!(gone(&p, &[]), [""; 0], "it is kept for a day");
    // Each way out is one.
    p.runs(&["ws", "touch", "a", "--for", "1h"]);
    assert_eq!(p.runs(&["exec", "a", "--", "ls"]).stdout, "f\n");
    p.runs(&["ws", "set", "a", "--ttl", "none"]);
    assert_eq!(status(&p, "a"), "ready");
    p.runs(&["ws", "set", "a", "--ttl", "1h"]);
    age(&p, "a", 26 * 3600);
    assert_eq!(names(&p), ["a", "b"], "kept until so long");
    let id = json(&p, &["ws", "show", "a"])["id"].as_str().unwrap().to_owned();
    let record = p.state().join(format!("workspaces/{id}/workspace.toml"));
    let text = std::fs::read_to_string(&record).unwrap();
    let without: String =
        text.lines().filter(|l| !l.starts_with("keep_until")).map(|l| format!("{l}\n")).collect();
    std::fs::write(&record, without).unwrap();
    assert_eq!(gone(&p, &["--dry-run"]), ["workspace a"]);
    assert_eq!(names(&p), ["a", "b"], "nothing was done");
    assert_eq!(gone(&p, &["--orphans"]), [""; 0]);
    assert_eq!(gone(&p, &["--keep-expired", "none"]), [""; 0]);
    configure(&p, "[keep]\nexpired = \"2d\"\n");
    assert_eq!(gone(&p, &[]), [""; 0]);
    configure(&p, "");
    assert_eq!(gone(&p, &["--expired"]), ["workspace a"]);
    assert_eq!(names(&p), ["b"]);
    assert_eq!(gone(&p, &[]), [""; 0]);
}

#[test]
fn what_nobody_uses_is_idle_and_what_is_for_once_is_removed() {
    let Some(p) = Project::in_jails() else { return };
    for (name, flag) in [("i", "--idle"), ("r", "--rm-when-idle")] {
        p.runs(&["ws", "create", name, flag, "1h"]);
        // A server that a command leaves behind.
        p.runs(&[
            "exec",
            name,
            "--",
            "sh",
            "-c",
            "echo x > f; sleep 300 >/dev/null 2>&1 </dev/null & echo ok",
        ]);
        assert_eq!(status(&p, name), "running");
    }
    assert_eq!(gone(&p, &[]), [""; 0], "both were just used");
    age(&p, "i", 7200);
    age(&p, "r", 7200);
    // A command that runs is no idleness, however old its jail is.
    let mut command = p.command(aj());
    command.args(["exec", "i", "--", "sh", "-c", "echo here; sleep 100"]);
    let mut running = Running::start(command.stdout(Stdio::piped()).stderr(Stdio::null()));
    assert_eq!(running.first_line().0, "here");
    age(&p, "i", 7200);
    assert_eq!(gone(&p, &["--dry-run"]), ["jail r", "workspace r"]);
    running.0.kill().unwrap();
    running.end();
    eventually(Duration::from_secs(5), || {
        age(&p, "i", 7200);
        gone(&p, &["--dry-run"]) == ["jail i", "jail r", "workspace r"]
    });
    assert_eq!(gone(&p, &[]), ["jail i", "jail r", "workspace r"]);
    assert_eq!(names(&p), ["i"]);
    age(&p, "i", 7200);
    assert_eq!(status(&p, "i"), "idle");
    assert_eq!(gone(&p, &[]), [""; 0]);
    assert_eq!(p.runs(&["exec", "i", "--", "cat", "f"]).stdout, "x\n", "the next command goes on");
    assert_eq!(status(&p, "i"), "ready");
}

#[test]
fn what_has_the_name_of_a_leftover_and_is_none_is_told_and_the_rest_goes_on() {
    let Some(p) = Project::in_jails() else { return };
    p.runs(&["ws", "create", "w"]);
    p.runs(&["volume", "create", "v"]);
    let s = p.state();
    let outside = p.top().join("outside");
    std::fs::create_dir_all(outside.join("mine")).unwrap();
    let mut odd = Vec::new();
    for within in ["trees", "workspaces", "volumes", "jobs", "layers"] {
        std::fs::create_dir_all(s.join(within)).unwrap();
        let (link, fifo) = (format!("{within}/.gone-x"), format!("{within}/.gone-y"));
        std::os::unix::fs::symlink(&outside, s.join(&link)).unwrap();
        nix::unistd::mkfifo(&s.join(&fifo), nix::sys::stat::Mode::S_IRWXU).unwrap();
        odd.extend([link, fifo]);
    }
    std::fs::create_dir_all(s.join("volumes/.gone-vl-0000000000000000/x")).unwrap();
    let ran = p.aj(["gc"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stdout.contains(".gone-vl-0000000000000000"), "{ran:#?}");
    for name in odd {
        let said = format!("left alone: `{name}`: aj did not make it");
        assert_eq!(ran.stderr.matches(&said).count(), 1, "{name}: {ran:#?}");
        assert!(s.join(&name).symlink_metadata().is_ok(), "{name}");
    }
    assert!(!ran.stderr.contains("could not"), "{ran:#?}");
    assert!(outside.join("mine").exists());
}

#[test]
fn what_killed_processes_left_goes_and_what_nobody_knows_stays() {
    let Some(p) = Project::in_jails() else { return };
    p.runs(&["ws", "create", "w"]);
    p.runs(&["volume", "create", "v"]);
    let s = p.state();
    let id = "0000000000000000";
    let dir = |name: &str, age: u64| {
        std::fs::create_dir_all(s.join(name).join("x/y")).unwrap();
        std::fs::write(s.join(name).join("x/f"), [1; 5000]).unwrap();
        aged(s.join(name), age);
    };
    for name in [".new-vl-", ".gone-vl-"] {
        dir(&format!("volumes/{name}{id}"), 60);
    }
    dir(&format!("workspaces/.new-ws-{id}"), 60);
    dir(&format!("workspaces/.gone-ws-{id}"), 60);
    dir(&format!("jobs/.gone-jb-{id}"), 60);
    dir(&format!("layers/{id}"), 60);
    dir(&format!("trees/.gone-jl-{id}"), 60);
    dir(&format!("trees/jl-{id}"), 60);
    dir(&format!("cache/.etc-1-{id}"), 120);
    std::os::unix::fs::symlink(format!("ws-{id}"), s.join("workspaces/names/lost")).unwrap();
    std::os::unix::fs::symlink(format!("vl-{id}"), s.join("volumes/names/lost")).unwrap();
    std::fs::write(s.join("spool.bad-1000"), "x").unwrap();
    std::fs::write(s.join("ledger.db.corrupt-1000-wal"), "x").unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    std::fs::write(s.join(format!("spool.bad-{now}")), "x").unwrap();
    // Not ours, or not to be judged.
    let odd = ["mine", "trees/mine", "workspaces/notes.txt", "volumes/x", "jobs/y", "layers/z"];
    for name in odd {
        std::fs::create_dir(s.join(name)).unwrap();
    }
    std::os::unix::fs::symlink("/etc/passwd", s.join("spool.bad-2000")).unwrap();
    std::fs::create_dir(s.join(format!("workspaces/ws-{id}"))).unwrap();
    let wanted = [
        format!("cache cache/.etc-1-{id}"),
        "file ledger.db.corrupt-1000-wal".to_owned(),
        "file spool.bad-1000".to_owned(),
        format!("layer {id}"),
        format!("leftover jobs/.gone-jb-{id}"),
        format!("leftover trees/.gone-jl-{id}"),
        format!("leftover trees/jl-{id}"),
        format!("leftover volumes/.gone-vl-{id}"),
        format!("leftover volumes/.new-vl-{id}"),
        format!("leftover workspaces/.gone-ws-{id}"),
        format!("leftover workspaces/.new-ws-{id}"),
        "name volumes/names/lost".to_owned(),
        "name workspaces/names/lost".to_owned(),
    ];
    assert_eq!(gone(&p, &["--expired"]), [""; 0]);
    assert_eq!(gone(&p, &["--dry-run"]), wanted);
    assert_eq!(gone(&p, &["-n"]), wanted, "nothing was done");
    let done = json(&p, &["gc"]);
    assert_eq!(done["removed"].as_array().unwrap().len(), wanted.len(), "{done:#}");
    assert!(done["bytes"].as_u64().unwrap() > 5 * 5000, "{done:#}");
    let mut unknown: Vec<&str> =
        done["unknown"].as_array().unwrap().iter().map(|u| u["name"].as_str().unwrap()).collect();
    unknown.sort_unstable();
    let mut all: Vec<String> = odd.iter().map(|n| (*n).to_owned()).collect();
    all.push(format!("workspaces/ws-{id}"));
    all.sort();
    assert_eq!(unknown, all);
    assert_eq!(gone(&p, &[]), [""; 0]);
    for name in odd {
        assert!(s.join(name).exists(), "{name}");
    }
    assert!(s.join(format!("spool.bad-{now}")).exists() && std::fs::metadata("/etc/passwd").is_ok());
    let said = p.runs(&["gc"]);
    assert!(said.stderr.contains("left alone: `mine`") && said.stdout.is_empty(), "{said:#?}");
    assert_eq!((names(&p), p.runs(&["volume", "list", "-q"]).stdout.trim()), (vec!["w".to_owned()], "v"));
}

#[test]
fn the_socket_of_a_killed_holder_goes_and_that_of_a_jail_stays() {
    let Some(p) = Project::in_jails() else { return };
    p.runs(&["ws", "create", "a"]);
    p.runs(&["ws", "create", "b"]);
    for name in ["a", "b"] {
        p.runs(&["ws", "start", name]);
    }
    let holder = json(&p, &["ws", "show", "a"])["live"]["pid"].as_i64().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(holder as i32), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    let id = json(&p, &["ws", "show", "a"])["id"].as_str().unwrap().to_owned();
    eventually(Duration::from_secs(5), || {
        gone(&p, &["--dry-run"]) == [format!("socket workspaces/{id}/live")]
    });
    assert_eq!(gone(&p, &[]), [format!("socket workspaces/{id}/live")]);
    assert_eq!(status(&p, "b"), "running");
    assert_eq!(p.runs(&["exec", "a", "--", "echo", "on"]).stdout, "on\n");
    p.runs(&["ws", "stop", "b"]);
}

#[test]
fn a_control_group_that_would_go_is_shown_and_stays() {
    let p = Project::new();
    p.runs(&["ws", "create", "w"]);
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|l| l.split_once(":memory:").map(|(_, path)| path.to_owned()));
    let Some(own) = own else { return eprintln!("SKIP: no cgroup v1 to make a group in") };
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let name = format!("aj-jl-7k3m000000000000.{}", child.id());
    let group = Path::new("/sys/fs/cgroup/memory").join(own.trim_start_matches('/')).join(name);
    // Whatever aj runs beside this one may remove it.
    let shown = (0..20).any(|_| {
        if std::fs::create_dir(&group).is_err() {
            return false;
        }
        let ran = p.runs(&["gc", "--dry-run"]);
        let there = std::fs::remove_dir(&group).is_ok();
        let one = ran.stdout.contains("1 control group\t") && ran.stdout.contains("its aj has ended");
        assert!(!there || one || ran.stdout.contains(" control groups\t"), "{ran:#?}");
        there && one
    });
    if std::fs::create_dir(&group).is_err() {
        return eprintln!("SKIP: no group can be made here");
    }
    p.runs(&["gc"]);
    assert!(shown && !group.exists());
}

#[test]
fn kept_changes_jobs_and_records_go_by_their_age_and_number() {
    let Some(p) = Project::in_jails() else { return };
    for n in 0..4 {
        p.runs(&["exec", "--", "sh", "-c", &format!("echo {n} > f{n}")]);
    }
    p.runs(&["job", "start", "--name", "old", "--", "true"]);
    p.runs(&["job", "wait", "old"]);
    for _ in 0..3 {
        p.runs(&["exec", "--", "true"]);
    }
    let rows = |p: &Project| json(p, &["jail", "list", "--limit", "0"])["jails"].as_array().unwrap().len();
    let before = rows(&p);
    assert_eq!(gone(&p, &[]), [""; 0]);
    configure(&p, "[keep]\ntrees = 2\nlogs = \"1ms\"\nrecords = 3\n");
    let kept: Vec<String> = gone(&p, &["--dry-run"]);
    assert_eq!(kept.iter().filter(|g| g.starts_with("changes ")).count(), 2, "{kept:?}");
    assert_eq!(gone(&p, &["--expired"]).len(), kept.len());
    assert_eq!(
        std::fs::read_dir(p.state().join("jobs")).unwrap().flatten().filter(|e| e.path().is_dir()).count(),
        0
    );
    // The runs whose changes are kept stay in the ledger with the newest three.
    assert_eq!(rows(&p), 5, "of {before}");
    let applied = p.runs(&["diff", "@"]).stdout;
    assert_eq!(applied, "A f3\n");
    configure(&p, "[keep]\nrecord_age = \"1ms\"\n");
    gone(&p, &["--expired"]);
    assert_eq!(rows(&p), 2, "only those of what is kept");
    configure(&p, "[keep]\nage = \"1ms\"\nrecord_age = \"1ms\"\n");
    gone(&p, &["--expired"]);
    gone(&p, &["--expired"]);
    assert_eq!(rows(&p), 0);
}

#[test]
fn a_ledger_that_cannot_be_read_is_told_once() {
    use std::os::unix::fs::FileExt;
    let p = Project::new();
    p.runs(&["ws", "create", "api"]);
    p.runs(&["exec", "--", "true"]);
    p.runs(&["jail", "list"]);
    // As one that a newer aj has made.
    let ledger = std::fs::OpenOptions::new().write(true).open(p.state().join("ledger.db")).unwrap();
    ledger.write_all_at(&9_999u32.to_be_bytes(), 60).unwrap();
    for flags in [&[][..], &["--expired"], &["--orphans"]] {
        let ran = p.aj([&["gc", "--json"], flags].concat());
        let done: Value = serde_json::from_str(&ran.stdout).unwrap();
        let failed: Vec<_> =
            done["failed"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
        assert_eq!((ran.code, failed.as_slice()), (Some(6), &["ledger.db"][..]), "{flags:?}: {ran:#?}");
    }
}

#[test]
fn nothing_that_is_in_use_is_touched() {
    let Some(p) = Project::in_jails() else { return };
    p.runs(&["exec", "--", "touch", "kept"]);
    let kept = p.newest();
    let start = |words: &[&str]| {
        let mut command = p.command(aj());
        command.args(words).args([
            "--",
            "sh",
            "-c",
            "touch mine; echo here; while ! test -e /tmp/go; do sleep 0.02; done",
        ]);
        let mut running = Running::start(command.stdout(Stdio::piped()).stderr(Stdio::null()));
        assert_eq!(running.first_line().0, "here");
        running
    };
    let mut first = start(&["exec"]);
    let mut again = start(&["exec", &kept]);
    configure(&p, "[keep]\nage = \"1ms\"\ntrees = 1\nrecord_age = \"1ms\"\nexpired = \"1ms\"\n");
    let trees = || {
        let names = std::fs::read_dir(p.state().join("trees")).unwrap().flatten();
        names.filter(|e| e.file_name().to_str().unwrap().starts_with("jl-")).count()
    };
    assert_eq!(trees(), 2);
    for _ in 0..3 {
        let gone = gone(&p, &[]);
        assert!(!gone.iter().any(|g| g.contains("trees") || g.starts_with("changes")), "{gone:?}");
    }
    assert_eq!(trees(), 2);
    let running = json(&p, &["jail", "list", "--status", "running"]);
    assert_eq!(running["jails"].as_array().unwrap().len(), 2);
    for running in [&mut first, &mut again] {
        running.0.kill().unwrap();
        running.end();
    }
    eventually(Duration::from_secs(5), || {
        gone(&p, &[]);
        trees() == 0
    });
}

#[test]
fn many_may_clean_up_at_once_while_others_work() {
    let Some(p) = Project::in_jails() else { return };
    configure(&p, "[keep]\nexpired = \"1ms\"\ntrees = 1\n");
    let p = &p;
    for round in 0..3 {
        for n in 0..6 {
            p.runs(&["ws", "create", &format!("w{n}"), "--ttl", "1ms"]);
        }
        p.runs(&["ws", "create", &format!("stays{round}")]);
        std::thread::scope(|s| {
            for n in 0..3 {
                s.spawn(move || {
                    let ran = p.aj(["gc"]);
                    assert!(matches!(ran.code, Some(0)), "{n}: {ran:#?}");
                });
            }
            s.spawn(move || {
                for n in 0..4 {
                    p.runs(&["exec", "--", "sh", "-c", &format!("echo {n} > f")]);
                    p.runs(&["exec", &format!("stays{round}"), "--", "sh", "-c", "echo x >> f"]);
                }
            });
        });
        assert_eq!(p.runs(&["exec", &format!("stays{round}"), "--", "cat", "f"]).stdout, "x\nx\nx\nx\n");
        assert_eq!(names(p).len(), round + 1);
    }
}

#[test]
fn killed_at_any_step_the_next_one_does_the_rest() {
    let Some(p) = Project::in_jails() else { return };
    configure(&p, "[keep]\nexpired = \"1ms\"\ntrees = 1\nrecords = 1\n");
    p.runs(&["ws", "create", "stays"]);
    p.runs(&["exec", "stays", "--", "sh", "-c", "echo data > f"]);
    let id = "0000000000000000";
    let steps = (1..60).find(|n| {
        if !names(&p).contains(&"w".to_owned()) {
            p.runs(&["ws", "create", "w", "--ttl", "1ms"]);
        }
        for m in 0..2 {
            p.runs(&["exec", "--", "sh", "-c", &format!("echo {m} > f")]);
        }
        let volumes = p.state().join("volumes");
        std::fs::create_dir_all(volumes.join(format!(".gone-vl-{id}/data/x"))).unwrap();
        std::fs::create_dir_all(volumes.join("names")).unwrap();
        std::os::unix::fs::symlink(format!("vl-{id}"), volumes.join("names/lost")).ok();
        std::fs::create_dir_all(p.state().join(format!("layers/{id}/upper"))).unwrap();
        std::fs::write(p.state().join("spool.bad-1000"), "x").unwrap();
        let mut command = p.command(aj());
        let output = command.arg("gc").env("AJ_TEST_KILL_AT", n.to_string()).output().unwrap();
        let killed = output.status.signal() == Some(9);
        assert!(killed || output.status.success(), "{n}: {output:?}");
        p.runs(&["gc"]);
        assert_eq!(names(&p), ["stays"], "{n}");
        let left = |dir: &str| {
            let names = std::fs::read_dir(p.state().join(dir)).unwrap().flatten();
            names.filter(|e| e.file_name().to_str().unwrap().starts_with(".gone-")).count()
        };
        assert_eq!(["trees", "workspaces", "volumes", "layers"].map(left), [0; 4], "{n}");
        assert!(!p.state().join("spool.bad-1000").exists() && !volumes.join("names/lost").is_symlink());
        assert_eq!(p.runs(&["exec", "stays", "--", "cat", "f"]).stdout, "data\n");
        assert_eq!(p.runs(&["diff", "@"]).stdout, "A f\n");
        !killed
    });
    match steps {
        Some(1) => eprintln!("SKIP: this aj is no debug build"),
        steps => assert!(steps.is_some_and(|n| n > 6), "{steps:?}"),
    }
}

#[test]
fn other_commands_do_a_share_of_it_and_only_now_and_then() {
    let Some(p) = Project::in_jails() else { return };
    p.runs(&["ws", "create", "a", "--ttl", "1h"]);
    age(&p, "a", 3 * 86_400);
    let ran = p.runs(&["ws", "create", "b"]);
    assert!(!ran.stderr.contains("expired"), "not again so soon: {ran:#?}");
    aged(p.state().join("cache/gc"), 3600);
    p.runs(&["exec", "--", "true"]);
    assert_eq!(p.runs(&["--quiet", "ws", "list"]).stdout.lines().count(), 2, "a command in a jail does none");
    // That very list did it when it was done.
    assert_eq!(names(&p), ["b"]);
    p.runs(&["ws", "create", "a", "--ttl", "1h"]);
    age(&p, "a", 3 * 86_400);
    aged(p.state().join("cache/gc"), 3600);
    let ran = p.runs(&["volume", "create", "v"]);
    assert_eq!(ran.stdout, "v\n");
    assert!(ran.stderr.contains("removed what had expired: a"), "{ran:#?}");
}

#[test]
fn on_a_full_disk_room_is_made() {
    let script = r#"
        mount -t tmpfs -o size=6m,mode=700 t "$AJ_STATE_DIR" || exit 99
        $AJ ws create a --ttl 1s && $AJ ws create stays || exit 1
        $AJ exec a -- sh -c 'head -c 1M /dev/zero > f' && $AJ exec stays -- sh -c 'echo data > f' || exit 2
        sleep 1.1
        dd if=/dev/zero of="$AJ_STATE_DIR/cache/.etc-1-1" bs=1k 2>/dev/null
        test "$(stat -f -c %a "$AJ_STATE_DIR")" = 0 || exit 3
        $AJ gc --keep-expired 0s; echo "gc $?"
        $AJ ws list -q | wc -l
        test "$(stat -f -c %a "$AJ_STATE_DIR")" -gt 200 && echo room
        rm "$AJ_STATE_DIR/cache/.etc-1-1"
        $AJ exec stays -- cat f && $AJ gc && echo again
    "#;
    let p = Project::new();
    if !is_root() {
        return eprintln!("SKIP: only root mounts a file system that is full at once");
    }
    let mut command = p.command("unshare");
    command.args(["-m", "bash", "-c", script]).env("AJ", aj());
    let output = command.output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    match output.status.code() {
        Some(99) => return eprintln!("SKIP: no tmpfs can be mounted here"),
        Some(1 | 2) => return eprintln!("SKIP: no workspaces on a tmpfs here: {errors}"),
        code => assert_eq!(code, Some(0), "{said}{errors}"),
    }
    let lines: Vec<&str> = said.lines().filter(|l| !l.contains('\t')).collect();
    // Records could not be written; the rest was done.
    assert!(lines.contains(&"gc 0") || lines.contains(&"gc 6"), "{said}{errors}");
    assert!(lines.ends_with(&["1", "room", "data", "again"]), "{said}{errors}");
}
