//! `aj workspace`, and `aj exec WORKSPACE -- COMMAND`: trees that last.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::common::{Ran, aj};
use crate::real::project::{Project, is_root};
use crate::yard::{Running, eventually};

/// `aj exec NAME -- sh -c SCRIPT`; its stdout.
#[track_caller]
fn within(p: &Project, name: &str, script: &str) -> String {
    p.runs(&["exec", name, "--", "sh", "-c", script]).stdout
}

#[track_caller]
fn json(p: &Project, words: &[&str]) -> Value {
    let words: Vec<&str> = ["--json"].iter().chain(words).copied().collect();
    serde_json::from_str(&p.runs(&words).stdout).unwrap()
}

#[track_caller]
fn fails(p: &Project, words: &[&str], code: i32, said: &[&str]) {
    let ran = p.aj(words);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{ran:#?}");
    for word in said {
        assert!(ran.stderr.contains(word), "no {word:?} in {ran:#?}");
    }
}

#[track_caller]
fn make(p: &Project, words: &[&str]) -> String {
    let words: Vec<&str> = ["workspace", "create"].iter().chain(words).copied().collect();
    p.runs(&words).stdout.trim().to_owned()
}

fn names(p: &Project) -> Vec<String> {
    let found = json(p, &["ws", "list"]);
    found["workspaces"].as_array().unwrap().iter().map(|w| w["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_one_command_leaves_the_next_one_finds() {
    let p = Project::new();
    p.write("f", "host\n");
    assert_eq!(make(&p, &["api", "--from-dir", "."]), "api");
    within(
        &p,
        "api",
        "echo in >> f; echo new > g; echo h > ~/h; mkdir ~/.cache; echo o > /output/o; echo t > /tmp/t",
    );
    assert_eq!(
        within(&p, "api", "cat f g ~/h /output/o /workspace/f; ls -A ~; test -e /tmp/t || echo gone"),
        "host\nin\nnew\nh\no\nhost\nin\n.cache\nh\ngone\n"
    );
    assert_eq!(p.runs(&["diff", "api"]).stdout, "M f\nA g\n");
    assert_eq!(p.runs(&["diff", "api", "g"]).stdout, "A g\n");
    assert_eq!(std::fs::read_to_string(p.dir().join("f")).unwrap(), "host\n");
    p.runs(&["apply", "api"]);
    assert_eq!(std::fs::read_to_string(p.dir().join("f")).unwrap(), "host\nin\n");
    // The tree of a workspace that equals its directory again stays.
    within(&p, "api", "rm g; git --version > /dev/null; true");
    assert_eq!(within(&p, "api", "cat ~/h"), "h\n");
    assert_eq!(p.runs(&["diff", "api"]).stdout, "D g\n");
}

#[test]
fn an_empty_one_has_a_place_of_its_own_and_is_applied_where_it_is_told() {
    let p = Project::new();
    let name = make(&p, &[]);
    assert!(name.contains('-'), "{name}");
    assert_eq!(within(&p, &name, "pwd; ls -A; mkdir d; echo x > d/x; echo y > y"), "/workspace\n");
    assert_eq!(within(&p, &name, "cd d && pwd && cat x"), "/workspace/d\nx\n");
    assert_eq!(p.runs(&["exec", "--cwd", "/workspace/d", &name, "--", "cat", "x"]).stdout, "x\n");
    assert_eq!(p.runs(&["diff", "--name-only", &name]).stdout, "d/x\ny\n");
    fails(&p, &["apply", &name], 2, &["--to DIR"]);
    p.write("out/y", "the host's\n");
    let ran = p.aj(["apply", &name, "--to", "out"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("in conflict"), "{ran:#?}");
    assert_eq!(
        std::fs::read_to_string(p.dir().join("out/y")).unwrap(),
        "the host's\n",
        "it was never seen there"
    );
    p.runs(&["apply", &name, "--to", "out", "d"]);
    assert_eq!(std::fs::read_to_string(p.dir().join("out/d/x")).unwrap(), "x\n");
    assert!(!p.dir().join("out/d").join("y").exists());
    // Nothing of the state directory is seen at the other names.
    let answer = json(&p, &["exec", &name, "--", "true"]);
    assert_eq!((&answer["workspace"], &answer["files_changed"]), (&name.as_str().into(), &Value::Null));
}

#[test]
fn settings_are_kept_and_a_flag_wins_over_them() {
    let p = Project::new();
    p.write("vars", "FROM_FILE=1\n");
    p.write("aj.toml", "[jail]\npids = 500\ntimeout = \"1h\"\n");
    make(
        &p,
        &[
            "api",
            "--from-dir",
            ".",
            "--pids",
            "700",
            "-e",
            "A=kept",
            "--env-file",
            "vars",
            "--ro",
            "/usr/share/",
        ],
    );
    assert_eq!(
        within(&p, "api", "echo $A $FROM_FILE"),
        "kept 1
"
    );
    let row = |words: &[&str], key: &str| {
        let shown = json(&p, words);
        let rows = shown["settings"].as_array().unwrap().clone();
        let row = rows.into_iter().find(|r| r["key"] == key).unwrap();
        (
            row["value"].clone(),
            row["origin"].as_str().unwrap().to_owned(),
            row["layer"].as_str().unwrap().to_owned(),
        )
    };
    let dry = ["exec", "--dry-run", "api", "--", "true"];
    assert_eq!(row(&dry, "pids"), (700.into(), "workspace api".into(), "workspace".into()));
    assert_eq!(row(&dry, "ro").0, "/usr/share");
    assert_eq!(row(&dry, "timeout").1, "aj.toml:3", "below it the project is heard");
    let flag = ["exec", "--dry-run", "--pids", "9", "api", "--", "true"];
    assert_eq!(row(&flag, "pids"), (9.into(), "flag --pids".into(), "flag".into()));
    assert_eq!(p.runs(&["exec", "-e", "A=mine", "api", "--", "sh", "-c", "echo $A"]).stdout, "mine\n");
    let shown = p.runs(&["workspace", "show", "api"]).stdout;
    assert!(shown.contains("pids") && shown.contains("700") && !shown.contains("kept"), "{shown}");
    fails(&p, &["ws", "create", "b", "--rw"], 2, &["a workspace cannot keep"]);
    fails(&p, &["ws", "create", "b", "--preset", "no-such"], 1, &["no preset `no-such`"]);
    fails(&p, &["ws", "create", "b", "--env-file", "missing"], 1, &["missing"]);
    assert_eq!(names(&p), ["api"]);
}

#[test]
fn one_is_meant_by_name_id_start_of_it_newest_or_directory() {
    let p = Project::new();
    p.write("sub/deep/x", "");
    make(&p, &["outer", "--from-dir", "."]);
    make(&p, &["inner", "--from-dir", "sub"]);
    make(&p, &["other"]);
    let id = json(&p, &["workspace", "show", "inner"])["id"].as_str().unwrap().to_owned();
    for word in [&id, &id[..7], &id[3..8], &id.to_uppercase(), "inner"] {
        assert_eq!(json(&p, &["ws", "show", word])["name"], "inner", "{word}");
        assert_eq!(p.runs(&["exec", word, "--", "true"]).code, Some(0));
    }
    assert_eq!(json(&p, &["ws", "show", "@"])["name"], "other");
    let here = |dir: &str| {
        let ran = Ran::from(
            p.command(aj()).current_dir(p.dir().join(dir)).args(["ws", "show", "--json"]).output().unwrap(),
        );
        serde_json::from_str::<Value>(&ran.stdout).unwrap()["name"].clone()
    };
    assert_eq!((here("."), here("sub"), here("sub/deep")), ("outer".into(), "inner".into(), "inner".into()));
    fails(&p, &["ws", "show", "nope"], 3, &["no workspace `nope`"]);
    fails(&p, &["exec", "nope", "--", "true"], 125, &["no workspace `nope`", "`aj workspace create nope`"]);
    fails(&p, &["ws", "show", "ws-"], 3, &[]);
    fails(&p, &["ws", "create", "outer"], 5, &["there is a workspace `outer` already"]);
    for bad in ["Outer", "ws-7k3m", "jl-x", "latest", "a/b", "-", "\u{1b}[31m"] {
        let ran = p.aj(["ws", "create", "--", bad]);
        assert_eq!(ran.code, Some(2), "{ran:#?}");
        assert!(!ran.stderr.contains('\u{1b}'), "{ran:#?}");
    }
}

#[test]
fn names_are_given_and_taken_and_lists_are_cut() {
    let p = Project::new();
    for n in 1..=5 {
        let label = if n % 2 == 0 { "even" } else { "odd" };
        make(&p, &[&format!("w{n}"), "--label", label, "--meta", "n=\u{e9} 1"]);
    }
    p.runs(&["ws", "rename", "w3", "three"]);
    assert_eq!(names(&p), ["w5", "w4", "three", "w2", "w1"]);
    fails(&p, &["ws", "rename", "w1", "three"], 5, &[]);
    p.runs(&["ws", "rename", "three", "three"]);
    make(&p, &["w3"]);
    let pick = |words: &[&str]| {
        let all: Vec<&str> = ["ws", "list"].iter().chain(words).copied().collect();
        let found = json(&p, &all);
        let names = found["workspaces"].as_array().unwrap().iter();
        (
            names.map(|w| w["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>(),
            found["next_cursor"].clone(),
        )
    };
    assert_eq!(pick(&["--label", "even"]).0, ["w4", "w2"]);
    assert_eq!(pick(&["--search", "HRE"]).0, ["three"]);
    assert_eq!(pick(&["--status", "running"]).0, [""; 0]);
    let (first, cursor) = pick(&["--limit", "4"]);
    assert_eq!(first, ["w3", "w5", "w4", "three"]);
    let (rest, end) = pick(&["--limit", "4", "--cursor", cursor.as_str().unwrap()]);
    assert_eq!((rest, end), (vec!["w2".to_owned(), "w1".to_owned()], Value::Null));
    fails(&p, &["ws", "list", "--cursor", "x"], 2, &["not a cursor"]);
    let ids = p.runs(&["ws", "list", "-q"]).stdout;
    assert!(
        ids.lines().count() == 6 && ids.lines().all(|id| id.len() == 19 && id.starts_with("ws-")),
        "{ids}"
    );
    p.runs(&["ws", "rm", "w1", "w2", "w3"]);
    fails(&p, &["ws", "rm", "w1"], 3, &[]);
    assert_eq!(p.aj(["ws", "rm", "-f", "w1", "w4"]).code, Some(0));
    assert_eq!(p.aj(["ws", "rm", "w1", "w5"]).code, Some(6));
    assert_eq!(names(&p), ["three"]);
    let left: Vec<_> =
        std::fs::read_dir(p.state().join("workspaces")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn one_that_is_in_use_is_neither_entered_nor_removed_unless_it_must_be() {
    let p = Project::new();
    make(&p, &["api"]);
    let mut run = Running::start(
        p.command(aj())
            .args(["exec", "api", "--", "sh", "-c", "echo up; exec sleep 60"])
            .stdout(Stdio::piped()),
    );
    assert_eq!(run.first_line().0, "up");
    fails(&p, &["exec", "api", "--", "true"], 5, &["workspace `api` is in use: a command runs in it"]);
    fails(&p, &["apply", "api", "--to", "."], 5, &["still running"]);
    fails(&p, &["ws", "rm", "api"], 5, &["in use"]);
    assert_eq!(json(&p, &["ws", "show", "api"])["status"], "running");
    p.runs(&["ws", "rm", "--force", "api"]);
    assert_eq!(run.end_within(Duration::from_secs(20)).code(), Some(137));
    assert_eq!(names(&p), [""; 0]);
}

#[test]
fn a_command_that_was_killed_with_its_aj_loses_nothing() {
    let p = Project::new();
    make(&p, &["api"]);
    let mut run = Running::start(
        p.command(aj())
            .args(["exec", "api", "--", "sh", "-c", "echo 1 > f; echo h > ~/h; echo up; exec sleep 60"])
            .stdout(Stdio::piped()),
    );
    assert_eq!(run.first_line().0, "up");
    run.0.kill().unwrap();
    run.0.wait().unwrap();
    assert!(eventually(Duration::from_secs(10), || p.aj(["exec", "api", "--", "true"]).code == Some(0)));
    assert_eq!(within(&p, "api", "cat f ~/h"), "1\nh\n");
}

#[test]
fn its_time_is_up_and_it_can_be_kept() {
    let p = Project::new();
    make(&p, &["short", "--ttl", "1ms"]);
    make(&p, &["idle", "--idle", "1ms"]);
    std::thread::sleep(Duration::from_millis(20));
    let status = |name| json(&p, &["ws", "show", name])["status"].clone();
    assert_eq!((status("short"), status("idle")), ("expired".into(), "expired".into()));
    fails(&p, &["exec", "short", "--", "true"], 125, &["has expired", "`aj workspace touch short --for 1h`"]);
    // Whoever uses it does so.
    p.runs(&["exec", "idle", "--", "true"]);
    p.runs(&["ws", "touch", "short", "--for", "1h"]);
    assert_eq!(status("short"), "ready");
    p.runs(&["exec", "short", "--", "true"]);
}

#[test]
fn what_is_no_directory_for_one_is_refused() {
    let p = Project::new();
    p.write("file", "");
    for (dir, why) in [
        ("file", "no directory"),
        ("missing", "ENOENT"),
        ("/", ""),
        (p.state().to_str().unwrap(), "state directory"),
    ] {
        fails(&p, &["ws", "create", "x", "--from-dir", dir], 1, &[why]);
    }
    assert_eq!(names(&p), [""; 0]);
}

#[test]
fn a_damaged_record_hides_no_other_and_its_name_stays_taken() {
    let p = Project::new();
    make(&p, &["api"]);
    make(&p, &["web"]);
    let id = json(&p, &["ws", "show", "api"])["id"].as_str().unwrap().to_owned();
    let record = p.state().join("workspaces").join(id).join("workspace.toml");
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, "name = [").unwrap();
    assert_eq!(names(&p), ["web"]);
    fails(&p, &["exec", "api", "--", "true"], 125, &["workspace.toml", "is damaged"]);
    fails(&p, &["ws", "create", "api"], 5, &[]);
    std::fs::write(&record, text.replace("format = 1", "format = 2")).unwrap();
    fails(&p, &["ws", "show", "api"], 1, &["made by a newer aj"]);
}

#[test]
fn a_home_that_the_jail_wrote_leads_nobody_astray() {
    let p = Project::new();
    p.write("shown/x", "x\n");
    make(&p, &["api"]);
    within(&p, "api", "ln -s /etc ~/w; mkdir ~/d");
    // Neither is a link in the home followed when something is put there, nor is what is there replaced.
    let outside = p.dir().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let id = json(&p, &["ws", "show", "api"])["id"].as_str().unwrap().to_owned();
    let home = p.state().join("workspaces").join(&id).join("tree/home");
    assert!(home.join("w").symlink_metadata().unwrap().is_symlink());
    if is_root() {
        use std::os::unix::fs::MetadataExt;
        assert_eq!(home.join("d").metadata().unwrap().uid(), 1_001_000);
    }
    assert_eq!(within(&p, "api", "readlink ~/w"), "/etc\n");
}
