//! `aj top` without a terminal: what it says of jails that run.

use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::yard::{Running, Yard, eventually, said, skip};

fn json(yard: &Yard, words: &str) -> Value {
    let said = said(&mut yard.sh(&format!("\"$AJ\" top --json {words}")));
    assert_eq!((said.fate, said.err.as_str()), (0, ""), "{said:?}");
    serde_json::from_str(&said.out).unwrap()
}

/// Keeps a processor busy, holds 30 MB and three processes, and writes.
fn busy(yard: &Yard, options: &[&str]) -> Running {
    let script = "sleep 60 & sleep 60 & exec perl -e '$x = \"x\" x 30_000_000; 1 while 1'";
    let mut aj = yard.exec(options.iter().copied(), ["sh", "-c", script]);
    Running::start(aj.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))
}

#[test]
fn nothing_runs_where_nothing_ran() {
    // The first yard of all has had a run in it.
    let (Some(_), Some(yard)) = (Yard::new(), Yard::new()) else { return };
    let start = Instant::now();
    let said = said(&mut yard.sh("\"$AJ\" top"));
    assert_eq!((said.fate, said.out.as_str(), said.err.as_str()), (0, "", "aj: no jails run\n"));
    assert_eq!(json(&yard, "")["jails"], Value::Array(Vec::new()));
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(!yard.state().exists(), "a look makes nothing");
}

#[test]
fn a_jail_is_seen_with_what_it_uses_and_is_gone_when_it_has_ended() {
    let Some(yard) = Yard::new() else { return };
    if !std::path::Path::new("/usr/bin/perl").exists() {
        return skip("no perl here");
    }
    let mut kinds = Vec::new();
    // With a group where one can be had, and without.
    for options in
        [&["--best-effort", "--mem", "512M", "--pids", "50"][..], &["--best-effort", "--pids", "50"]]
    {
        let mut running = busy(&yard, options);
        let mut seen = Value::Null;
        let found = eventually(Duration::from_secs(20), || {
            seen = json(&yard, "--interval 300ms --once");
            seen["jails"][0]["cpu_millis"].as_u64().is_some_and(|n| n > 200)
                && seen["jails"][0]["memory"].as_u64().is_some_and(|n| n > 25_000_000)
        });
        let jail = &seen["jails"][0];
        assert!(found, "{seen:#}");
        assert_eq!((jail["status"].as_str(), jail["kind"].as_str()), (Some("running"), Some("exec")));
        assert_eq!(jail["pid"], running.pid());
        assert_eq!(jail["argv"][0], "sh");
        assert!(jail["memory"].as_u64().unwrap() < 200_000_000, "{seen:#}");
        assert!((3..=5).contains(&jail["tasks"].as_u64().unwrap()), "{seen:#}");
        assert_eq!(jail["tasks_limit"], 50);
        assert!(
            jail["cpu_ms"].as_u64().unwrap() > 0 && jail["cpu_millis"].as_u64().unwrap() < 3000,
            "{seen:#}"
        );
        kinds.push(jail["counted_by"]["memory"].as_str().unwrap().to_owned());
        let table = said(&mut yard.sh("\"$AJ\" top --once"));
        let cells: Vec<&str> = table.out.trim_end().split('\t').collect();
        assert_eq!((cells.len(), cells[0], cells[1]), (10, jail["id"].as_str().unwrap(), "running"));
        // It stands still, and says so.
        if said(&mut yard.sh("\"$AJ\" pause @")).fate == 0 {
            let paused = json(&yard, "--once");
            assert_eq!(paused["jails"][0]["status"], "paused", "{paused:#}");
            assert!(paused["jails"][0]["cpu_millis"].as_u64().unwrap() < 100, "{paused:#}");
            assert_eq!(said(&mut yard.sh("\"$AJ\" resume @")).fate, 0);
        }
        running.signal(Signal::SIGKILL);
        running.end();
        assert!(eventually(Duration::from_secs(5), || json(&yard, "")["jails"] == Value::Array(Vec::new())));
    }
    if kinds[0] == kinds[1] {
        skip(format!("no control group here: both were counted by {kinds:?}"));
    }
    assert_eq!(kinds[1], "processes");
}

#[test]
fn a_stream_has_one_object_a_line_and_ends_with_its_reader() {
    let Some(yard) = Yard::new() else { return };
    let said = said(&mut yard.sh("\"$AJ\" top --json --interval 100ms | head -n 3"));
    assert_eq!((said.fate, said.err.as_str()), (0, ""), "{said:?}");
    let lines: Vec<Value> = said.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(lines.len() == 3 && lines.iter().all(|l| l["format_version"] == "0.1"), "{lines:?}");
    let ran = crate::common::run(&["top", "--interval", "1ms"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("100ms at least"), "{ran:?}");
}
