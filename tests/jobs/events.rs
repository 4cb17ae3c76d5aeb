//! `aj events`: what happened, told from records.

use std::io::BufRead;
use std::time::Duration;

use super::Jobs;
use crate::yard::{Running, eventually};

fn types(lines: &[serde_json::Value], of: &str) -> Vec<String> {
    let about = |l: &&serde_json::Value| l.to_string().contains(of);
    lines.iter().filter(about).map(|l| l["type"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_happens_is_told_to_whoever_follows_and_to_whoever_asks_later() {
    let Some(jobs) = Jobs::new() else { return };
    jobs.out(&["exec", "--", "true"]);
    let mut aj = jobs.aj(&["events", "-f"]);
    let mut follower = Running::start(aj.stdout(std::process::Stdio::piped()));
    drop(aj);
    let (first, mut rest) = follower.first_line();
    assert!(first.contains("format_version"), "{first}");
    let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let lines = heard.clone();
    std::thread::spawn(move || {
        let mut line = String::new();
        while rest.read_line(&mut line).is_ok_and(|n| n > 0) {
            lines.lock().unwrap().push(serde_json::from_str::<serde_json::Value>(&line).unwrap());
            line.clear();
        }
    });
    // Whatever was there before the follower looked is not told.
    std::thread::sleep(Duration::from_millis(700));
    let id = jobs.start(&["--ready", "log:up"], "echo up; sleep 1; exit 4");
    jobs.out(&["workspace", "create", "box"]);
    assert_eq!(jobs.said(&["job", "wait", &id]).fate, 4);
    let of_job = ["job_started", "job_running", "job_ready", "job_ended"];
    let all = || heard.lock().unwrap().clone();
    assert!(eventually(Duration::from_secs(5), || types(&all(), &id) == of_job), "{:#?}", all());
    jobs.out(&["job", "rm", &id]);
    jobs.out(&["workspace", "rm", "box"]);
    let came = |what: &str| eventually(Duration::from_secs(5), || all().iter().any(|l| l["type"] == what));
    for what in ["job_removed", "workspace_created", "workspace_removed", "jail_started", "jail_ended"] {
        assert!(came(what), "{what}: {:#?}", all());
    }
    let told = all();
    assert_eq!(
        told.iter().filter(|l| l["type"] == "jail_started").count(),
        1,
        "not the one before: {told:#?}"
    );
    let seq: Vec<u64> = told.iter().map(|l| l["seq"].as_u64().unwrap()).collect();
    assert_eq!(seq, (1..=told.len() as u64).collect::<Vec<_>>());
    let id = jobs.start(&[], "exit 5");
    assert_eq!(jobs.said(&["job", "wait", &id]).fate, 5);
    let since = jobs.out(&["events", "--since", "1h"]);
    let since: Vec<serde_json::Value> = since.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(types(&since, &id), ["job_started", "job_running", "job_ended"], "{since:#?}");
    let ends = since.iter().filter(|l| l["type"] == "jail_ended").count();
    assert_eq!(ends, 3, "{since:#?}");
    let times: Vec<&str> = since.iter().filter_map(|l| l["time"].as_str()).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(jobs.said(&["events"]).fate, 2);
}
