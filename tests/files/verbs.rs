//! The verbs of `aj fs`, one by one.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Stdio;

use super::{after, fails, fed, json};
use crate::common::aj;
use crate::real::project::Project;
use crate::yard::Running;

#[test]
fn files_are_read_as_the_jail_saw_them() {
    let Some(p) = Project::in_jails() else { return };
    p.write("same", "same\n");
    p.write("changed", "old\n");
    p.write("gone/x", "x");
    p.write(".env", "TOKEN=hunter2");
    let id = after(&p, "echo new > changed; rm -r gone; mkdir -p d; printf 0123456789 > d/n; ln -s d/n l");
    for word in [id.as_str(), "@", &id[..9]] {
        let list = p.runs(&["fs", "list", word]);
        assert_eq!(list.stdout, "changed\nd/\nl -> d/n\nsame\n");
    }
    assert_eq!(p.runs(&["fs", "ls", "@", "-a"]).stdout, list_with_dots());
    assert_eq!(p.runs(&["fs", "list", "@", "-R"]).stdout, "changed\nd/\nd/n\nl -> d/n\nsame\n");
    assert_eq!(p.runs(&["fs", "list", "@", "-z", "d"]).stdout, "n\0");
    assert_eq!(p.runs(&["fs", "cat", "@", "changed"]).stdout, "new\n");
    assert_eq!(p.runs(&["fs", "cat", "@", "same"]).stdout, "same\n");
    assert_eq!(p.runs(&["fs", "cat", "@", "l"]).stdout, "0123456789");
    let own = format!("{}/d/n", p.dir().canonicalize().unwrap().display());
    for path in ["/workspace/d/n", &own, "d/../d/n"] {
        assert_eq!(p.runs(&["fs", "cat", "@", path]).stdout, "0123456789", "{path}");
    }
    for (range, part) in [("2:3", "234"), ("8:", "89"), ("-2:", "89"), ("-99:1", "0"), ("99:", "")] {
        assert_eq!(p.runs(&["fs", "cat", "@", "d/n", "--range", range]).stdout, part, "{range}");
    }
    // What was hidden from the command is not shown here either.
    fails(&p.aj(["fs", "cat", "@", ".env"]), 3, "no `.env`");
    fails(&p.aj(["fs", "cat", "@", "gone/x"]), 3, "no `gone/x`");
    fails(&p.aj(["fs", "cat", "@", "d"]), 1, "`d` is a directory");
    fails(&p.aj(["fs", "cat", "@", "/etc/passwd"]), 4, "not a part of the workspace");
    fails(&p.aj(["fs", "list", "@", "/tmp"]), 4, "hint: of a one-shot only the workspace is kept");
    fails(&p.aj(["fs", "list", "jl-zzzz"]), 3, "no jail `jl-zzzz`");
    fails(&p.aj(["fs", "list", "none-such"]), 3, "no workspace `none-such`");
    let stat = json(&p.runs(&["fs", "stat", "@", "changed", "--json"]));
    assert_eq!((&stat["kind"], &stat["size"], &stat["own"]), (&"file".into(), &4.into(), &true.into()));
    assert_eq!((&stat["uid"], &stat["target"]), (&1000.into(), &serde_json::Value::Null));
    assert_eq!(json(&p.runs(&["fs", "stat", "@", "same", "--json"]))["own"], false);
    assert_eq!(json(&p.runs(&["fs", "stat", "@", "l", "--json"]))["target"], "d/n");
    assert_eq!(json(&p.runs(&["fs", "stat", "@", "-L", "l", "--json"]))["path"], "d/n");
    for (words, code) in [
        (&["same"][..], 0),
        (&["gone"], 1),
        (&["-d", "d"], 0),
        (&["-f", "d"], 1),
        (&["-f", "l"], 0),
        (&["-L", "l"], 0),
        (&["none/such"], 1),
    ] {
        assert_eq!(p.aj(["fs", "test", "@"].iter().chain(words)).code, Some(code), "{words:?}");
    }
    let page = json(&p.runs(&["fs", "list", "@", "--limit", "2", "--json"]));
    assert_eq!(page["entries"].as_array().unwrap().len(), 2);
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = json(&p.runs(&["fs", "list", "@", "--limit", "9", "--cursor", cursor, "--json"]));
    let paths: Vec<_> = rest["entries"].as_array().unwrap().iter().map(|e| e["path"].clone()).collect();
    assert_eq!((paths, &rest["next_cursor"]), (vec!["l".into(), "same".into()], &serde_json::Value::Null));
    let bytes = after(&p, "printf 'a\\377' > bin");
    let doc = json(&p.runs(&["fs", "cat", &bytes, "bin", "--json"]));
    assert_eq!(
        (&doc["encoding"], &doc["content"], &doc["size"]),
        (&"base64".into(), &"Yf8=".into(), &2.into())
    );
}

fn list_with_dots() -> String {
    "changed\nd/\nl -> d/n\nsame\n".to_owned()
}

#[test]
fn what_is_changed_is_there_for_the_next_command_and_for_apply() {
    let Some(p) = Project::in_jails() else { return };
    p.write("src/a", "one two one\n");
    p.write("src/deep/b", "b\n");
    p.write("old/x", "x\n");
    p.script("run.sh", "#!/bin/sh\necho ran\n");
    after(&p, "touch mark");
    let before = p.snapshot();
    let wrote = fed(&p, ["fs", "write", "@", "new/deep/f", "--json"], b"hello\n");
    assert_eq!(wrote.code, Some(0), "{wrote:#?}");
    let change = &json(&wrote)["changed"][0];
    assert_eq!(
        (&change["path"], &change["change"], &change["bytes"]),
        (&"new/deep/f".into(), &"created".into(), &6.into())
    );
    let hash = change["hash"].as_str().unwrap().to_owned();
    assert_eq!(hash, blake3::hash(b"hello\n").to_hex().as_str());
    let stale = fed(&p, ["fs", "write", "@", "new/deep/f", "--if-hash", "absent"], b"x");
    fails(&stale, 5, &format!("has the hash {hash}"));
    assert_eq!(
        fed(&p, ["fs", "write", "@", "new/deep/f", "--if-hash", &hash, "--append"], b"more\n").code,
        Some(0)
    );
    fails(&fed(&p, ["fs", "write", "@", "none", "--if-hash", &hash], b""), 5, "absent");
    assert_eq!(fed(&p, ["fs", "write", "@", "run.sh"], b"#!/bin/sh\necho written\n").code, Some(0));
    fails(&fed(&p, ["fs", "write", "@", "src"], b""), 1, "is a directory");
    fails(&fed(&p, ["fs", "write", "@", "src/a/x"], b""), 1, "not a directory");
    p.runs(&["fs", "mkdir", "@", "-p", "made/er", "src"]);
    fails(&p.aj(["fs", "mkdir", "@", "src"]), 5, "`src` exists");
    fails(&p.aj(["fs", "mkdir", "@", "no/parent"]), 3, "no `no/parent`");
    p.runs(&["fs", "mv", "@", "src/a", "made"]);
    p.runs(&["fs", "mv", "@", "src/deep", "moved"]);
    fails(&p.aj(["fs", "mv", "@", "moved", "moved/into"]), 2, "lies in");
    fails(&p.aj(["fs", "mv", "@", "run.sh", "made/a", "--no-clobber"]), 5, "exists");
    fails(&p.aj(["fs", "rm", "@", "old"]), 1, "is not empty");
    p.runs(&["fs", "rm", "@", "-r", "old"]);
    fails(&p.aj(["fs", "rm", "@", "old"]), 3, "no `old`");
    p.runs(&["fs", "rm", "@", "-f", "old"]);
    fails(&p.aj(["fs", "rm", "@", "-r", "."]), 2, "is the top");
    let dry = p.runs(&["fs", "replace", "@", "-n", "one", "1", "made/a", "moved/b"]);
    assert_eq!(dry.stdout, "2\tmade/a\n0\tmoved/b\n");
    let replaced = p.aj(["fs", "replace", "@", "--regex", "(o)ne", "${1}NE$$", "made/a", "typo"]);
    assert_eq!((replaced.code, replaced.stdout.as_str()), (Some(6), "2\tmade/a\n"), "{replaced:#?}");
    let script = "cat new/deep/f made/a moved/b; ./run.sh; ls -A; ls -A src; stat -c %a run.sh";
    let ran = p.aj(["exec", "-q", "@", "--", "sh", "-c", script]);
    let expected = "hello\nmore\noNE$ two oNE$\nb\nwritten\nmade\nmark\nmoved\nnew\nrun.sh\nsrc\n755\n";
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), expected), "{ran:#?}");
    assert_eq!(p.snapshot(), before, "the directory itself is as it was");
    assert_eq!(p.aj(["apply", "@"]).code, Some(0), "{:#?}", p.aj(["apply", "@"]));
    assert_eq!(std::fs::read_to_string(p.dir().join("made/a")).unwrap(), "oNE$ two oNE$\n");
    assert!(!p.dir().join("old").exists() && p.dir().join("moved/b").exists());
    let me = std::fs::metadata(p.dir()).unwrap();
    assert_eq!(std::fs::metadata(p.dir().join("made/a")).unwrap().uid(), me.uid());
    assert_eq!(std::fs::metadata(p.dir().join("run.sh")).unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn while_a_jail_is_at_work_files_are_read_and_not_changed() {
    let Some(p) = Project::in_jails() else { return };
    p.write("f", "old\n");
    after(&p, "touch mark");
    let mut run = p.command(aj());
    run.args(["exec", "-q", "@", "--", "sh", "-c", "echo half > f; echo ready; read x"]);
    let mut run = Running::start(run.stdin(Stdio::piped()).stdout(Stdio::piped()));
    assert_eq!(run.first_line().0, "ready");
    let cat = p.aj(["fs", "cat", "@", "f"]);
    assert_eq!((cat.code, cat.stdout.as_str()), (Some(0), "half\n"), "{cat:#?}");
    assert!(cat.stderr.contains("something is at work"), "{cat:#?}");
    assert_eq!(json(&p.aj(["fs", "list", "@", "--json"]))["running"], true);
    for words in [&["write", "@", "f"][..], &["rm", "@", "f"], &["mkdir", "@", "d"], &["mv", "@", "f", "g"]] {
        fails(&fed(&p, ["fs"].iter().chain(words), b"x"), 5, "a jail is at work in");
    }
    fails(&p.aj(["cp", "f", "@:g"]), 5, "a jail is at work in");
    assert_eq!(p.aj(["fs", "replace", "@", "-n", "half", "x", "f"]).stdout, "1\tf\n");
    run.0.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(run.end().code(), Some(0));
    assert_eq!(fed(&p, ["fs", "write", "@", "f"], b"x").code, Some(0));
}

#[test]
fn a_workspace_has_a_home_and_a_drop_box_as_well() {
    let Some(p) = Project::in_jails() else { return };
    p.write("f", "of the project\n");
    p.runs(&["workspace", "create", "api", "--from-dir", "."]);
    p.runs(&["workspace", "create", "empty"]);
    let script = "echo h > ~/note; echo o > /output/result; echo w > w; ln -s /home/agent/note l";
    assert_eq!(p.aj(["exec", "-q", "api", "--", "sh", "-c", script]).code, Some(0));
    assert_eq!(p.runs(&["fs", "list", "api"]).stdout, "f\nl -> /home/agent/note\nw\n");
    for (path, text) in [("/home/agent/note", "h\n"), ("/output/result", "o\n"), ("f", "of the project\n")] {
        assert_eq!(p.runs(&["fs", "cat", "api", path]).stdout, text, "{path}");
    }
    assert_eq!(p.runs(&["fs", "cat", "api", "l"]).stdout, "h\n", "a link from one place to another");
    assert_eq!(json(&p.runs(&["fs", "stat", "api", "/home/agent/note", "--json"]))["uid"], 1000);
    assert_eq!(fed(&p, ["fs", "write", "api", "/home/agent/.config/x"], b"from outside\n").code, Some(0));
    assert_eq!(fed(&p, ["fs", "write", "empty", "/workspace/a/b"], b"in an empty one\n").code, Some(0));
    let ran = p.aj(["exec", "-q", "api", "--", "sh", "-c", "cat ~/.config/x; echo more >> ~/.config/x"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "from outside\n"), "{ran:#?}");
    let ran = p.aj(["exec", "-q", "empty", "--", "cat", "a/b"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "in an empty one\n"), "{ran:#?}");
    assert_eq!(p.runs(&["fs", "cat", "empty", "a/b"]).stdout, "in an empty one\n");
    fails(&p.aj(["fs", "mv", "api", "w", "/output/w"]), 2, "different trees");
    p.runs(&["fs", "rm", "api", "/output/result"]);
    assert_eq!(p.runs(&["fs", "list", "api", "/output"]).stdout, "");
}
