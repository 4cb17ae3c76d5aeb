//! What holds for every command: help, errors, `--json`, streams, completion.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use agentjail::cli::commands;

use crate::common::{Ran, aj, run};
use crate::real::project::Project;

fn error_of(ran: &Ran) -> serde_json::Value {
    assert_eq!(ran.stdout, "", "{ran:?}");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    serde_json::from_str::<serde_json::Value>(&ran.stderr).unwrap()["error"].clone()
}

#[test]
fn help_is_an_answer_and_its_absence_is_an_error() {
    let asked = run(&["--help"]);
    assert_eq!((asked.code, asked.stderr.as_str()), (Some(0), ""));
    assert!(asked.stdout.contains("Usage: aj"), "{asked:?}");
    assert_eq!(run(&["help"]).stdout, asked.stdout);
    assert_eq!(run(&["-h"]).stdout, asked.stdout);
    let nothing = run(&[]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (Some(2), ""));
    assert_eq!(nothing.stderr, asked.stdout);
}

#[test]
fn every_command_answers_help_on_stdout() {
    for entry in commands::ALL {
        let long = run(&[entry.name, "--help"]);
        assert_eq!((long.code, long.stderr.as_str()), (Some(0), ""), "{}", entry.name);
        assert!(long.stdout.contains(&format!("Usage: aj {}", entry.name)), "{long:?}");
        assert!(long.stdout.contains("\nExamples:\n"), "{long:?}");
        assert_eq!(run(&["help", entry.name]).stdout, long.stdout);
        let short = run(&[entry.name, "-h"]);
        assert!(short.code == Some(0) && short.stdout.len() < long.stdout.len(), "{short:?}");
    }
}

#[test]
fn every_command_refuses_unknown_flags_in_its_own_form() {
    for entry in commands::ALL {
        let code = if matches!(entry.name, "exec" | "shell") { 125 } else { 2 };
        let ran = run(&[entry.name, "--no-such-flag"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{}: {ran:?}", entry.name);
        assert!(ran.stderr.starts_with("aj: error: unexpected argument"), "{ran:?}");
        assert!(ran.stderr.contains("\nhint: "), "{ran:?}");
        for words in [["--json", entry.name, "--no-such-flag"], [entry.name, "--no-such-flag", "--json"]] {
            let ran = run(&words);
            assert_eq!(ran.code, Some(code));
            assert_eq!(error_of(&ran)["code"], "usage");
        }
    }
}

#[test]
fn a_negative_value_is_named_with_its_flag() {
    for (words, said) in [
        (
            &["exec", "--timeout", "-1s", "--", "true"] as &[&str],
            "invalid value `-1s` for `--timeout`: it must be positive",
        ),
        (&["exec", "--mem=-1", "--", "true"], "`-1` is negative; the value must be positive"),
        (&["jail", "list", "--limit", "-1"], "invalid value `-1` for `--limit`: it must be positive"),
        (&["jail", "list", "--kind", "foo"], "[possible values: exec, shell, live, unknown]"),
    ] {
        let ran = run(words);
        assert!(ran.code != Some(0) && ran.stderr.contains(said), "{ran:?}");
    }
}

#[test]
fn unknown_commands_are_answered_with_known_ones() {
    let ran = run(&["versoin"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("hint: did you mean `aj version`?"), "{ran:?}");
    let error = error_of(&run(&["--json", "no-such-command"]));
    assert_eq!((&error["code"], error["hints"].is_array()), (&"unknown_command".into(), true));
    assert_eq!(run(&["help", "no-such-topic"]).code, Some(2));
}

#[test]
fn the_version_is_one_line_or_one_object() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(run(&["--version"]).stdout, format!("aj {version}\n"));
    assert!(run(&["version"]).stdout.starts_with(&format!("aj {version} (")));
    for words in [["--json", "version"], ["version", "--json"]] {
        let ran = run(&words);
        let value: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!((&value["format_version"], &value["version"]), (&"0.1".into(), &version.into()));
        for key in ["commit", "target", "features", "record_format"] {
            assert!(value.get(key).is_some(), "no `{key}` in {value}");
        }
    }
}

#[test]
fn a_full_disk_is_an_error_and_a_closed_pipe_is_not() {
    let full = Command::new(aj())
        .arg("version")
        .stdout(File::options().write(true).open("/dev/full").unwrap())
        .output();
    let full = Ran::from(full.unwrap());
    assert_eq!(full.code, Some(1), "{full:?}");
    assert!(full.stderr.contains("could not write to stdout"), "{full:?}");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let closed = Ran::from(Command::new(aj()).arg("help").stdout(writer).output().unwrap());
    assert_eq!((closed.code, closed.stderr.as_str()), (Some(0), ""));
}

#[test]
fn colour_is_for_those_who_ask() {
    let stderr = |words: &[&str], vars: &[(&str, &str)]| {
        let mut command = Command::new(aj());
        command.args(words).env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").envs(vars.iter().copied());
        Ran::from(command.output().unwrap()).stderr
    };
    assert!(!stderr(&["nope"], &[]).contains('\u{1b}'));
    assert!(stderr(&["nope", "--color", "always"], &[]).contains('\u{1b}'));
    assert!(stderr(&["--color=always", "nope"], &[]).contains('\u{1b}'));
    assert!(stderr(&["nope"], &[("CLICOLOR_FORCE", "1")]).contains('\u{1b}'));
    assert!(!stderr(&["nope"], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]).contains('\u{1b}'));
}

#[test]
fn words_that_are_not_utf_8_do_not_break_an_error() {
    use std::os::unix::ffi::OsStrExt as _;
    let word = std::ffi::OsStr::from_bytes(b"\xff\x1b[2J");
    for words in [vec![word], vec![std::ffi::OsStr::new("version"), word]] {
        let ran = Ran::from(Command::new(aj()).args(words).output().unwrap());
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(!ran.stderr.contains('\u{1b}'), "{ran:?}");
    }
}

/// What a shell is told when its cursor stands at the last of `words`.
fn completed(state: &Path, words: &[&str]) -> Vec<String> {
    let output = Command::new(aj())
        .args(["--", "aj"])
        .args(words)
        .env("AJ_COMPLETE", "bash")
        .env("AJ_STATE_DIR", state)
        .env("AJ_CONFIG_DIR", state.join("config"))
        .env("_CLAP_COMPLETE_INDEX", words.len().to_string())
        .env("_CLAP_IFS", "\n")
        .stdin(Stdio::null())
        .output();
    let ran = Ran::from(output.unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    ran.stdout.lines().map(str::to_owned).filter(|w| !w.starts_with("--")).collect()
}

#[test]
fn the_shell_completes_commands_by_asking_the_binary() {
    assert_eq!(completed(Path::new("/nonexistent"), &["ver"]), ["version"]);
}

#[test]
fn names_complete_without_a_lock_and_without_a_trace() {
    let p = Project::new();
    let state = p.state();
    assert_eq!(completed(&state, &["jail", "show", ""]), ["@"]);
    assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0, "asking makes nothing");
    for _ in 0..2 {
        p.aj(["exec", "--", "true"]);
    }
    let listed = p.aj(["-q", "jail", "list"]).stdout;
    p.aj(["exec", "--", "true"]);
    let found = completed(&state, &["jail", "show", ""]);
    assert_eq!((found[0].as_str(), found.len()), ("@", 4));
    assert_eq!(found[2..], listed.lines().collect::<Vec<_>>());
    let newest = &found[1];
    assert_eq!(completed(&state, &["jail", "show", &newest[..9]]), [newest.as_str()]);
    assert_eq!(completed(&state, &["jail", "show", &newest[3..9]]), [newest.as_str()], "without its prefix");
    // A stopped reader or append holds up nobody.
    let spool = File::options().write(true).open(state.join("spool")).unwrap();
    spool.lock().unwrap();
    assert_eq!(completed(&state, &["jail", "show", ""]), found);
    // What is not the user's to read is not there.
    std::fs::write(state.join("version"), "99").unwrap();
    assert_eq!(completed(&state, &["jail", "show", ""]), ["@"]);

    // Where kept changes are meant, jails that keep none are no candidates.
    for command in ["exec", "discard"] {
        assert_eq!(completed(&state, &[command, ""]), [""; 0]);
    }
    std::fs::write(state.join("version"), "1").unwrap();
    drop(spool);
    p.aj(["exec", "--", "touch", "kept"]);
    let kept = p.aj(["-q", "jail", "list", "--limit", "1"]).stdout.trim().to_owned();
    for command in ["exec", "discard"] {
        assert_eq!(completed(&state, &[command, ""]), ["@", kept.as_str()]);
        assert_eq!(completed(&state, &[command, &kept[..7]]), [kept.as_str()]);
    }

    assert_eq!(completed(&state, &["config", "get", "ni"]), [""; 0]);
    assert_eq!(completed(&state, &["config", "get", "keep.t"]), ["keep.trees"]);
    assert_eq!(completed(&state, &["config", "get", "nof"]), ["nofile"]);
    std::fs::create_dir(state.join("config")).unwrap();
    std::fs::write(state.join("config/config.toml"), "[presets.alone]\npids = 9\n").unwrap();
    assert_eq!(completed(&state, &["exec", "--preset", "a"]), ["agent", "alone"]);
    assert_eq!(completed(&state, &["config", "list", "--preset", "b"]), ["build"]);
    assert_eq!(completed(&state, &["help", "exi"]), ["exit-codes"]);
    assert_eq!(completed(&state, &["help", "ex"]), ["exit-codes", "exec"]);
}
