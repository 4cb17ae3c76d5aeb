//! JSON as programs read it: one header, exact bytes beside text, nothing else on either stream.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::common::{Ran, aj, run};
use crate::real::project::Project;

fn document(ran: &Ran) -> Value {
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:#?}"))
}

/// What `base64 -d` makes of it: it refuses what is not padded.
fn decoded(text: &Value) -> Vec<u8> {
    let mut base64 =
        Command::new("base64").arg("-d").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(base64.stdin.as_mut().unwrap(), text.as_str().unwrap().as_bytes()).unwrap();
    let output = base64.wait_with_output().unwrap();
    assert!(output.status.success(), "{text}");
    output.stdout
}

#[test]
fn every_document_has_the_same_header() {
    let p = Project::new();
    let made = document(&p.aj(["exec", "--json", "--", "sh", "-c", "echo x > made"]));
    assert_eq!(made["files_changed"], 1);
    for words in [
        &["jail", "list"] as &[&str],
        &["jail", "show", "@"],
        &["diff", "@"],
        &["apply", "@", "--dry-run"],
        &["config", "list"],
        &["config", "get", "mem"],
        &["config", "path"],
        &["config", "check"],
        &["exec", "--dry-run", "--", "true"],
        &["version"],
        &["-V"],
        &["--version"],
    ] {
        let ran = p.aj([&["--json"], words].concat());
        assert_eq!(
            (&document(&ran)["format_version"], ran.stderr.as_str()),
            (&json!("0.1"), ""),
            "{words:?}"
        );
        for old in ["schema", "format"] {
            assert!(document(&ran).get(old).is_none(), "{words:?} has `{old}`");
        }
    }
    let doctor: Value = serde_json::from_str(&p.aj(["doctor", "--json"]).stdout).unwrap();
    assert_eq!(doctor["format_version"], "0.1");
    let events = p.aj(["exec", "--events", "--", "true"]).stdout;
    let first: Value = serde_json::from_str(events.lines().next().unwrap()).unwrap();
    assert_eq!((&first["type"], &first["format_version"]), (&json!("started"), &json!("0.1")));
    assert!(run(&["help", "json"]).stdout.contains("`format_version`"));
}

#[test]
fn stderr_has_json_lines_only() {
    let p = Project::new();
    let ran = p.aj(["exec", "--json", "--", "sh", "-c", "echo x > made"]);
    assert_eq!((document(&ran)["files_changed"].as_u64(), ran.stderr.as_str()), (Some(1), ""));
    // Teeth: without it there is a line about the change.
    assert!(p.aj(["exec", "--", "sh", "-c", "echo x > made"]).stderr.starts_with("aj: 1 change"));
    let ran = p.aj(["exec", "--json", "--timeout", "100ms", "--", "sleep", "9"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(124), ""));
    p.write("aj.toml", "[jail]\nnet = \"host\"\n");
    let ran = p.aj(["exec", "--json", "--", "true"]);
    let line: Value = serde_json::from_str(ran.stderr.trim_end()).unwrap();
    assert_eq!(line["warning"]["message"], document(&ran)["warnings"][0]);
}

#[test]
fn what_is_not_text_is_there_in_padded_base64() {
    let p = Project::new();
    let script = r"printf 'a\377' ; printf '\377' >&2; printf x > $(printf 'n\377')";
    let ran = document(&p.aj(["exec", "--json", "--", "sh", "-c", script]));
    assert_eq!(
        (decoded(&ran["stdout_base64"]), decoded(&ran["stderr_base64"])),
        (b"a\xff".to_vec(), b"\xff".to_vec())
    );
    let shown = document(&p.aj(["jail", "show", "@", "--json"]));
    assert_eq!(decoded(&shown["stdout"]["text_base64"]), b"a\xff");
    let diff = document(&p.aj(["diff", "@", "--json"]));
    assert_eq!(decoded(&diff["changes"][0]["path_base64"]), b"n\xff");
    let events = p.aj(["exec", "--events", "--", "printf", r"\377"]).stdout;
    let stdout =
        events.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()).find(|v| v["type"] == "stdout");
    assert_eq!(decoded(&stdout.unwrap()["base64"]), b"\xff");
}

#[test]
fn an_escape_and_the_text_that_stands_for_one_are_told_apart() {
    let p = Project::new();
    let dir = p.dir().join(OsStr::from_bytes(b"d\xff"));
    std::fs::create_dir(&dir).unwrap();
    let exec = |words: &[&[u8]], dir: &std::path::Path| {
        let mut command = p.command(aj());
        command.current_dir(dir).args(["exec", "--"]).args(words.iter().map(|w| OsStr::from_bytes(w)));
        assert_eq!(command.output().unwrap().status.code(), Some(0));
    };
    exec(&[b"true", b"\x1b", b"\xff"], &dir);
    exec(&[b"true", br"\x1b", "é".as_bytes()], p.dir());
    let listed = document(&p.aj(["jail", "list", "--json"]));
    let (plain, escaped) = (&listed["jails"][0], &listed["jails"][1]);
    assert_eq!((&plain["argv"][1], &escaped["argv"][1]), (&json!(r"\x1b"), &json!(r"\x1b")));
    for key in ["argv_base64", "cwd_base64", "base_base64"] {
        assert_eq!(plain.get(key), Some(&Value::Null), "{plain}");
    }
    let shown = document(&p.aj(["jail", "show", escaped["id"].as_str().unwrap(), "--json"]));
    for record in [escaped, &shown] {
        let argv: Vec<_> = record["argv_base64"].as_array().unwrap().iter().map(decoded).collect();
        assert_eq!(argv, [b"true".to_vec(), b"\x1b".to_vec(), b"\xff".to_vec()]);
        let end = |key: &str| decoded(&record[key]).ends_with(b"/p/d\xff");
        assert!(end("cwd_base64") && end("base_base64"), "{record}");
    }
}

/// A complaint about a value is one about one command.
#[test]
fn a_bad_value_leads_to_the_page_of_its_command() {
    for (words, page) in [
        (&["gc", "--keep-expired", "x"][..], "aj gc"),
        (&["workspace", "create", "--ttl", "x"], "aj workspace create"),
        (&["exec", "--mem", "x", "--", "true"], "aj exec"),
    ] {
        let ran = crate::common::run(words);
        assert!(ran.stderr.ends_with(&format!("hint: see `{page} --help`\n")), "{words:?}: {ran:#?}");
    }
}

#[test]
fn a_listing_into_a_pipe_cuts_commands_that_no_line_is_for() {
    let p = Project::new();
    let long = "é".repeat(40_000);
    p.runs(&["exec", "--", "true", &long]);
    p.runs(&["exec", "--", "true", "short"]);
    let listed = p.runs(&["jail", "list"]).stdout;
    let rows: Vec<_> =
        listed.lines().filter(|l| l.contains("true")).map(|l| l.split('\t').next_back()).collect();
    assert_eq!(rows[0], Some("true short"), "{listed}");
    let cut = rows[1].unwrap();
    assert!(cut.chars().count() == 1024 && cut.starts_with("true ") && cut.ends_with("é…"), "{cut}");
    // Whole where a program asks, and where one record is asked for.
    assert_eq!(document(&p.aj(["--json", "jail", "list"]))["jails"][1]["argv"][1], long.as_str());
    let id = listed.lines().find(|l| l.contains('…')).unwrap().split('\t').next().unwrap();
    assert!(p.runs(&["jail", "show", id]).stdout.contains(&long));
}
