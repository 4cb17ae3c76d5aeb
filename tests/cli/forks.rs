//! `aj fork compare` and `rm`, `aj exec --isolated`, and the files of workspaces that stand on layers.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{fails, json};
use crate::common::aj;
use crate::real::project::Project;

#[track_caller]
fn within(p: &Project, name: &str, script: &str) -> String {
    p.runs(&["exec", name, "--", "sh", "-c", script]).stdout
}

fn names(p: &Project) -> Vec<String> {
    let listed = p.runs(&["ws", "list"]).stdout;
    let mut names: Vec<String> = listed.lines().map(|l| l.split('\t').next().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn make(p: &Project) {
    p.write("f", "host\n");
    p.write("d/x", "1\n");
    p.write("d/y", "2\n");
    p.write(".env", "SECRET=1\n");
    p.runs(&["ws", "create", "api", "--from-dir", "."]);
}

#[test]
fn homes_and_outputs_of_forks_are_compared_as_well() {
    let p = Project::new();
    make(&p);
    within(&p, "api", "echo h > ~/h; echo k > ~/k; mkdir ~/d; echo x > ~/d/x; echo o > /output/o");
    p.runs(&["ws", "fork", "api", "-n", "2"]);
    within(
        &p,
        "api-1",
        "echo 1 > ~/h; rm -r ~/d; mkdir ~/d; echo y > ~/d/y; echo new > /output/new; echo f > f",
    );
    within(
        &p,
        "api-2",
        "echo 2 > ~/h; echo k > ~/k; rm /output/o; echo new > /output/new; touch \"$HOME/$(printf 'e\\033[31m')\"; \
         ln -s /etc/passwd ~/link",
    );
    let ran = p.runs(&["fork", "compare", "api"]);
    let mut lines: Vec<&str> = ran.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            ".\tA\t/home/agent/e\\x1b[31m",
            ".\tA\t/home/agent/link",
            ".\tD\t/output/o",
            "A\t.\t/home/agent/d/y",
            "A\tA = api-1\t/output/new",
            "D\t.\t/home/agent/d/x",
            "M\t.\tf",
            "M\tM\t/home/agent/h",
        ]
    );
    assert!(ran.stderr.contains("api-1 changed 5, api-2 changed 5; 7 are not the same"), "{ran:#?}");
    let ran = p.runs(&["fork", "compare", "api-1", "api-2", "--json"]);
    let told: Value = serde_json::from_str(&ran.stdout).unwrap();
    let root = |path: &str| {
        told["paths"].as_array().unwrap().iter().find(|p| p["path"] == path).unwrap()["root"].clone()
    };
    assert_eq!(
        (root("f"), root("/home/agent/h"), root("/output/o")),
        ("workspace".into(), "home".into(), "output".into())
    );
    // Those that have no layer in common began with nothing there; what a jail plants means itself.
    p.runs(&["ws", "create", "alike", "--from-dir", "."]);
    within(
        &p,
        "alike",
        "echo h > ~/h; mkdir ~/d; mkfifo ~/d/p; setfattr -n user.overlay.opaque -v y ~/d 2>/dev/null; true",
    );
    let ran = p.runs(&["fork", "compare", "alike", "api"]);
    for line in
        ["A\tA = alike\t/home/agent/h", ".\tA\t/home/agent/d/x", "A\t.\t/home/agent/d/p", ".\tA\t/output/o"]
    {
        assert!(ran.stdout.lines().any(|l| l == line), "no {line:?} in {ran:#?}");
    }
}

#[test]
fn forks_are_compared_with_what_they_began_as_and_with_each_other() {
    let p = Project::new();
    make(&p);
    within(&p, "api", "echo before > begun; echo h > ~/h");
    p.runs(&["ws", "fork", "api", "-n", "3"]);
    within(&p, "api-1", "echo 1 > f; echo same > both; rm d/y; echo before > begun");
    within(&p, "api-2", "echo 2 > f; echo same > both; rm -r d; mkdir d; echo 1 > d/x; chmod 711 d");
    within(
        &p,
        "api-3",
        "chmod 600 begun; touch -d 2001-01-01 f; mkdir hollow; ln -s f \"$(printf 'l\\033[31m\\n')\"",
    );
    // Of layers of its own as well.
    p.runs(&["ws", "fork", "api-3", "--name", "deeper"]);
    let rows = "M\tM\t.\tf\n";
    let ran = p.runs(&["fork", "compare", "api"]);
    assert!(ran.stdout.contains(rows), "{ran:#?}");
    let mut lines: Vec<&str> = ran.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            ".\t.\tA\thollow",
            ".\t.\tA\tl\\x1b[31m",
            ".\t.\tm\tbegun",
            ".\tm\t.\td",
            "A\tA = api-1\t.\tboth",
            "D\tD\t.\td/y",
            "M\tM\t.\tf"
        ]
    );
    assert!(ran.stderr.contains("api-1 changed 3, api-2 changed 4, api-3 changed 3"), "{ran:#?}");
    let ran = p.runs(&["fork", "compare", "api-1", "deeper", "--differing", "--json"]);
    let told: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&told["layers_in_common"], &told["complete"]), (&1.into(), &true.into()), "{told:#}");
    let paths = told["paths"].as_array().unwrap();
    let link = paths.iter().find(|p| p["path"] == "l\\x1b[31m").unwrap_or_else(|| panic!("{told:#}"));
    assert!(link["path_base64"].is_string() && link["forks"][1]["status"] == "added");
    assert!(paths.iter().all(|p| p["differ"] == true) && paths.len() == 6, "{told:#}");
    // Global flags may stand anywhere.
    for words in [
        &["--json", "fork", "compare", "api-1", "deeper"][..],
        &["fork", "--color", "never", "--json", "compare", "api-1", "deeper"],
    ] {
        assert!(p.runs(words).stdout.contains("\"paths\""));
    }
    fails(&p, &["fork", "-n", "2", "compare", "api"], 2, &["come first"]);
    fails(&p, &["fork", "api", "compare", "api"], 2, &["come first"]);
    fails(&p, &["fork", "compare", "nope"], 3, &["no workspace"]);
    p.runs(&["ws", "create", "alone"]);
    fails(&p, &["fork", "compare", "alone"], 3, &["no forks"]);
    fails(&p, &["fork", "compare", "alone", "api"], 2, &["do not lie over"]);
    fails(&p, &["fork", "compare"], 2, &[]);
}

#[test]
fn a_directory_that_cannot_be_read_keeps_nobody_from_the_rest() {
    let p = Project::new();
    make(&p);
    p.runs(&["ws", "fork", "api", "-n", "2"]);
    within(
        &p,
        "api-1",
        "echo 1 > f; d=\"$(printf 'l\\033[31m')\"; mkdir $d; echo > $d/in; chmod 0 $d d; mkdir ~/d; echo > ~/d/in; \
         chmod 0 ~/d",
    );
    within(&p, "api-2", "echo 2 > d/x; echo 2 > f; echo > /output/o; chmod 0 ~");
    let ran = p.aj(["fork", "compare", "api"]);
    let json = p.aj(["fork", "compare", "api", "--json"]);
    let told: Value = serde_json::from_str(&json.stdout).unwrap_or_else(|e| panic!("{e}: {json:#?}"));
    let mut lines: Vec<&str> = ran.stdout.lines().collect();
    lines.sort_unstable();
    // Nothing is closed to root.
    if nix::unistd::geteuid().is_root() {
        let wanted = [".\tA\t/output/o", ".\tM\td/x", "A\t.\t/home/agent/d/in", "A\t.\tl\\x1b[31m/in"];
        assert!(wanted.iter().all(|line| lines.contains(line)), "{ran:#?}");
        assert_eq!((ran.code, json.code, &told["failed"]), (Some(0), Some(0), &Value::Array(vec![])));
        return;
    }
    assert_eq!(lines, [".\tA\t/output/o", "?\tM\td/x", "M\tM\tf", "m\t.\td"], "{ran:#?}");
    assert_eq!((ran.code, json.code), (Some(6), Some(6)), "{ran:#?}\n{json:#?}");
    for wanted in [
        "4 directories could not be compared",
        "`d` of `api-1`: Permission denied (EACCES)",
        "`l\\x1b[31m` of `api-1`",
        "`/home/agent/d` of `api-1`",
        "`/home/agent` of `api-2`",
        "chmod u+rx",
    ] {
        assert!(ran.stderr.contains(wanted), "no {wanted:?} in {ran:#?}");
    }
    let failed = told["failed"].as_array().unwrap();
    let at = |path: &str| failed.iter().find(|f| f["path"] == path).unwrap_or_else(|| panic!("{told:#}"));
    assert_eq!((failed.len(), &at("d")["fork"], &at("d")["root"]), (4, &"api-1".into(), &"workspace".into()));
    assert!(at("l\\x1b[31m")["path_base64"].is_string() && at("/home/agent")["root"] == "home", "{told:#}");
    let changed = told["paths"].as_array().unwrap().iter().find(|f| f["path"] == "d/x").unwrap();
    assert_eq!((&changed["forks"][0]["status"], &changed["differ"]), (&"unknown".into(), &true.into()));
    // Their permissions are as they were.
    let mode = within(&p, "api-1", "stat -c %a d");
    assert_eq!(mode, "0\n");
    // With one, it is the error itself that names it.
    within(&p, "api-1", "chmod 755 d ~/d");
    within(&p, "api-2", "chmod 755 ~");
    let ran = p.aj(["fork", "compare", "api"]);
    assert!(ran.code == Some(6) && ran.stdout.contains(".\tM\td/x"), "{ran:#?}");
    assert!(ran.stderr.contains("`l\\x1b[31m` of `api-1` could not be compared"), "{ran:#?}");
}

#[test]
fn forks_go_together_and_none_goes_while_one_is_used() {
    let p = Project::new();
    make(&p);
    let made: Value =
        serde_json::from_str(&p.runs(&["--json", "ws", "fork", "api", "-n", "2", "--name", "try"]).stdout)
            .unwrap();
    p.runs(&["fork", "api", "-n", "3", "--", "true"]);
    p.runs(&["ws", "create", "api-x"]);
    p.runs(&["ws", "create", "api-9"]);
    within(&p, "api-2", "sleep 60 > /dev/null 2>&1 &");
    let all = ["api", "api-1", "api-2", "api-3", "api-9", "api-x", "try-1", "try-2"];
    fails(&p, &["fork", "rm", "api"], 5, &["`api-2` is in use", "aj workspace stop api-2"]);
    assert_eq!(names(&p), all);
    p.runs(&["fork", "rm", "api", "--force", "--keep", "api-3"]);
    assert_eq!(names(&p), ["api", "api-3", "api-9", "api-x", "try-1", "try-2"], "and what is no fork stays");
    p.runs(&["fork", "rm", made["group"].as_str().unwrap()]);
    p.runs(&["fork", "rm", "api-3"]);
    assert_eq!(names(&p), ["api", "api-9", "api-x"]);
    for word in ["api", "api-9", "", "\x1b[31m", "fg-"] {
        fails(&p, &["fork", "rm", word], 3, &["there are no forks"]);
    }
    // Words of their own, and a command as ever.
    p.runs(&["ws", "create", "rm"]);
    fails(&p, &["fork", "rm"], 2, &[]);
    let id: Value = serde_json::from_str(&p.runs(&["ws", "show", "rm", "--json"]).stdout).unwrap();
    assert_eq!(p.runs(&["fork", id["id"].as_str().unwrap(), "--", "echo", "hi"]).stdout, "rm-1 | hi\n");
}

#[test]
fn an_isolated_command_has_a_fork_and_a_jail_of_its_own() {
    let p = Project::new();
    make(&p);
    within(&p, "api", "echo one > a; echo h > ~/h; (while :; do sleep 0.1; done) > /dev/null 2>&1 & echo");
    let script =
        "cat a ~/h; echo gone > ~/h; ls /proc | grep -c '^[0-9]'; (sleep 60 &) > /dev/null 2>&1; exit 7";
    let ran = p.aj(["exec", "--isolated", "api", "--", "sh", "-c", script]);
    assert_eq!(ran.code, Some(7), "{ran:#?}");
    let seen: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(seen[..2], ["one", "h"]);
    assert!(seen[2].parse::<u32>().unwrap() <= 5, "{ran:#?}");
    assert_eq!(names(&p), ["api"], "its home alone is not kept");
    let ran = p.runs(&["exec", "--isolated", "api", "--", "sh", "-c", "echo two > a; echo o > /output/o"]);
    assert!(ran.stderr.contains("aj promote api-1"), "{ran:#?}");
    assert_eq!(within(&p, "api", "cat a ~/h; ls /output"), "one\nh\n");
    let kept: Value = serde_json::from_str(&p.runs(&["ws", "show", "api-1", "--json"]).stdout).unwrap();
    assert_eq!(
        (&kept["rm_idle_ms"], &kept["live"]),
        (&(7 * 86_400_000_u64).into(), &Value::Null),
        "{kept:#}"
    );
    assert_eq!(within(&p, "api-1", "cat a /output/o"), "two\no\n");
    fails(&p, &["exec", "--isolated", "--", "true"], 125, &["--isolated"]);
    fails(&p, &["exec", "--isolated", "--exclusive", "api", "--", "true"], 125, &[]);
    fails(&p, &["exec", "--isolated", "nope", "--", "true"], 125, &["no workspace"]);
    fails(&p, &["exec", "--isolated", "api", "--", "no-such-program"], 127, &[]);
    fails(&p, &["exec", "--isolated", "--timeout", "200ms", "api", "--", "sleep", "60"], 124, &[]);
    assert_eq!(names(&p), ["api", "api-1"]);
    p.runs(&["ws", "stop", "api", "--kill"]);
}

#[test]
fn the_fork_of_a_command_that_was_killed_goes_when_nothing_was_changed_in_it() {
    let p = Project::new();
    make(&p);
    let killed = |script: &str| {
        let before = names(&p);
        let mut command = p.command(aj());
        command.args(["exec", "--isolated", "api", "--", "sh", "-c", script]).stdout(Stdio::piped());
        let mut aj = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(aj.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        // While its command runs it is no leftover.
        p.runs(&["gc"]);
        let made: Vec<String> = names(&p).into_iter().filter(|name| !before.contains(name)).collect();
        aj.kill().unwrap();
        aj.wait().unwrap();
        let [name] = &made[..] else { panic!("{before:?} {made:?}") };
        let over = Instant::now() + Duration::from_secs(10);
        while json(&p, &["ws", "show", name])["status"] != "ready" {
            assert!(Instant::now() < over, "its jail lives on");
            std::thread::sleep(Duration::from_millis(20));
        }
        name.clone()
    };
    let named = killed("echo ready; sleep 60");
    p.runs(&["ws", "rename", &named, "mine"]);
    let changed = killed("echo kept > kept; echo ready; sleep 60");
    // Whoever goes on in one has it for his own, whatever is left of the changes.
    let used = killed("echo ready; sleep 60");
    within(&p, &used, "echo mine > ~/note");
    let written = killed("echo ready; sleep 60");
    p.runs(&["cp", "f", &format!("{written}:/home/agent/note")]);
    let before = names(&p);
    p.runs(&["exec", "--isolated", "api", "--", "touch", "made"]);
    let told_of = names(&p).into_iter().find(|name| !before.contains(name)).unwrap();
    within(&p, &told_of, "rm made; echo note >~/note");
    let empty = killed("echo ready; sleep 60");
    let told = json(&p, &["gc", "--dry-run"]);
    assert!(told["removed"].as_array().unwrap().iter().any(|one| one["name"] == empty.as_str()), "{told:#}");
    let told = p.runs(&["gc"]);
    assert!(told.stdout.contains("its command was killed before it changed anything"), "{told:#?}");
    let mut left = ["api", &changed, "mine", &used, &written, &told_of].map(str::to_owned);
    left.sort();
    let mut there = names(&p);
    there.sort();
    assert_eq!(there, left);
    assert_eq!(within(&p, &changed, "cat kept"), "kept\n");
    assert_eq!(within(&p, &used, "cat ~/note"), "mine\n");
    assert_eq!(within(&p, &written, "cat ~/note"), "host\n");
}

#[test]
fn the_fork_of_a_command_that_was_given_a_name_meanwhile_stays() {
    let p = Project::new();
    make(&p);
    let mut command = p.command(aj());
    command.args(["exec", "--isolated", "api", "--", "sh", "-c", "echo ready; read line"]);
    let mut aj = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(aj.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let made: Vec<String> = names(&p).into_iter().filter(|name| name != "api").collect();
    let [name] = &made[..] else { panic!("{made:?}") };
    p.runs(&["ws", "rename", name, "mine"]);
    drop(aj.stdin.take());
    aj.wait().unwrap();
    let mut there = names(&p);
    there.sort();
    assert_eq!(there, ["api", "mine"]);
}

#[test]
fn the_home_of_a_forked_workspace_is_seen_and_changed_from_outside() {
    let p = Project::new();
    make(&p);
    within(&p, "api", "mkdir ~/d; echo one > ~/d/a; echo two > ~/d/b; echo o > /output/o; ln -s /etc ~/out");
    p.runs(&["ws", "fork", "api"]);
    within(
        &p,
        "api",
        "echo three > ~/d/c; rm ~/d/b; setfattr -n user.overlay.opaque -v y ~/d 2> /dev/null; true",
    );
    for (name, wanted) in [("api", "a\nc\n"), ("api-1", "a\nb\n")] {
        assert_eq!(p.runs(&["fs", "list", name, "/home/agent/d"]).stdout.lines().count(), 2);
        assert_eq!(within(&p, name, "ls ~/d"), wanted);
        assert_eq!(p.runs(&["fs", "cat", name, "/home/agent/d/a"]).stdout, "one\n");
        assert_eq!(p.runs(&["fs", "cat", name, "/output/o"]).stdout, "o\n");
        let found = p.runs(&["search", name, "one", "/home/agent"]).stdout;
        assert!(found.contains("home/agent/d/a"), "{found}");
        assert_ne!(p.aj(["fs", "cat", name, "/home/agent/out/passwd"]).code, Some(0), "no way out");
    }
    // A whiteout in the home of one of them, and files written over those of the layer.
    p.runs(&["fs", "rm", "api-1", "/home/agent/d/a"]);
    p.runs(&["cp", "f", "api-1:/home/agent/d/b"]);
    p.runs(&["fs", "mkdir", "api-1", "/output/new"]);
    p.runs(&["fs", "mv", "api-1", "/output/o", "/output/new/o"]);
    let look = "cat ~/d/b; ls ~/d /output /output/new; touch ~/d/b ~/d/x /output/new/o && stat -c %U ~/d/b /output/new";
    assert_eq!(
        within(&p, "api-1", look),
        "host\n/home/agent/d:\nb\n\n/output:\nnew\n\n/output/new:\no\nagent\nagent\n"
    );
    assert_eq!(within(&p, "api", "cat ~/d/a /output/o"), "one\no\n");
    let _out = p.runs(&["cp", "-r", "api-1:/home/agent/d", "copied"]);
    assert_eq!(std::fs::read(p.dir().join("copied/b")).unwrap(), b"host\n");
    assert!(!p.dir().join("copied/a").exists());
}

#[test]
fn file_commands_change_what_a_sealed_layer_holds_and_lose_nothing_of_it() {
    let p = Project::new();
    make(&p);
    within(&p, "api", "echo first > new; mkdir e; echo x > e/x; ln -s new l");
    p.runs(&["ws", "fork", "api"]);
    for name in ["api", "api-1"] {
        p.runs(&["cp", "f", &format!("{name}:e")]);
        assert_eq!(within(&p, name, "ls e"), "f\nx\n", "into the directory, not in its place");
        assert_eq!(p.aj(["fs", "mkdir", name, "e"]).code, Some(5), "it is there");
        p.runs(&["fs", "mv", name, "new", "e/new"]);
        assert_eq!(within(&p, name, "cat e/new; test -e new || readlink l"), "first\nnew\n");
        p.runs(&["fs", "rm", name, "e/x"]);
        assert_eq!(within(&p, name, "ls e"), "f\nnew\n");
        p.runs(&["fs", "rm", "-r", name, "e"]);
        assert_eq!(within(&p, name, "test -e e || echo gone"), "gone\n");
    }
}

#[test]
fn only_what_the_host_had_is_said_to_be_deleted_there() {
    let p = Project::new();
    for name in ["f", "g", "kept"] {
        std::fs::write(p.dir().join(name), "host\n").unwrap();
    }
    std::thread::sleep(std::time::Duration::from_millis(20));
    p.runs(&["ws", "create", "a", "--from-dir", "."]);
    within(&p, "a", "echo a >> f; mkdir -p own/deep; echo a > own/deep/x; echo a > only");
    p.runs(&["ws", "fork", "a", "--name", "b"]);
    // Copied up from a layer, which the host never had.
    within(&p, "b", "echo b >> own/deep/x; echo b >> only; echo b >> f; mv g h; echo b >> h");
    p.runs(&["ws", "fork", "b", "--name", "c"]);
    within(&p, "c", "echo c >> own/deep/x; mv only other; mv own/deep/x own/y; echo c >> f; chmod 700 own");
    let told = |name: &str| -> Vec<String> {
        let ran = p.aj(["diff", "--json", name]);
        let all: serde_json::Value =
            serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:#?}"));
        let line = |c: &serde_json::Value| {
            let conflict = if c["conflict"].is_string() { "!" } else { "" };
            format!("{}{conflict}", c["path"].as_str().unwrap())
        };
        all["changes"].as_array().unwrap().iter().map(line).collect()
    };
    std::fs::write(p.dir().join("beside"), "").unwrap();
    std::fs::remove_file(p.dir().join("kept")).unwrap();
    assert_eq!(told("b"), ["f", "g", "h", "only", "own/deep/x"]);
    assert_eq!(told("c"), ["f", "g", "h", "other", "own/y"]);
    std::fs::remove_file(p.dir().join("f")).unwrap();
    assert_eq!(told("a"), ["f!", "only", "own/deep/x"]);
    assert_eq!(told("b")[0], "f!");
    assert_eq!(told("c"), ["f!", "g", "h", "other", "own/y"]);
    let ran = p.aj(["apply", "c"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(!p.dir().join("other").exists());
}

/// Nobody who reads no more is written for, and nobody who reads slowly has all of it kept for him.
#[test]
fn commands_in_forks_end_with_the_reader_of_their_output_and_wait_for_him() {
    let Some(p) = Project::in_jails() else { return };
    p.runs(&["ws", "create", "api"]);
    let script = "while :; do printf %1000d 0; echo; done";
    for (stream, others) in [("", "2>/dev/null"), (">&2", "2>&1")] {
        let mut ends = p.command("timeout");
        ends.args(["60", "bash", "-c"]);
        let line = format!(
            "set -o pipefail; \"$0\" fork api -n 2 -- sh -c '{{ {script}; }} {stream}' {others} | head -n 1"
        );
        ends.arg(line).arg(aj());
        let ran = crate::common::Ran::from(ends.output().unwrap());
        assert_eq!((ran.code, ran.stdout.lines().count()), (Some(141), 1), "{ran:#?}");
    }
    let mut slow = p.command(aj());
    slow.args(["fork", "api", "-n", "2", "--", "sh", "-c", script]);
    let mut running = slow.stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap();
    running.kill().unwrap();
    running.wait().unwrap();
    let memory = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = memory.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 64 << 10, "{kib} KiB");
}
