use std::process::Stdio;

use super::Shared;
use crate::yard::{Running, said};

#[test]
fn settings_of_the_jail_are_those_of_all_its_commands() {
    let Some(shared) = Shared::new(&["--nofile", "200"]) else { return };
    let mut long = shared.exec(&[], ["sh", "-c", "echo up; sleep 60"]);
    let mut long = Running::start(long.stdout(Stdio::piped()));
    long.first_line();
    for (options, named) in [
        (&["--net", "host"][..], "net is none, not host"),
        (&["--as-root"], "as_root is false, not true"),
        (&["--disk", "1G"], "disk is none"),
        (&["--io-read", "1M"], "io_read is none"),
        (&["--tmp", "1M"], "tmp is"),
        (&["--ro", "/var/lib"], "ro is nothing, not /var/lib"),
        (&["--seccomp", "strict"], "seccomp is standard, not strict"),
        (&["--nested-userns"], "nested_userns is false, not true"),
        (&["--show", ".env"], "show is nothing, not .env"),
    ] {
        let ran = said(&mut shared.exec(options, ["true"]));
        assert_eq!(ran.fate, 125, "{options:?}: {ran:#?}");
        assert!(
            ran.err.contains(named) && ran.err.contains("aj workspace stop api"),
            "{options:?}: {ran:#?}"
        );
    }
    // One command may have less of what each process has for itself, never more.
    let files = |options: &[&str]| said(&mut shared.exec(options, ["sh", "-c", "ulimit -Hn"])).out;
    assert_eq!((files(&[]), files(&["--nofile", "77"])), ("200\n".into(), "77\n".into()));
    assert_eq!(files(&["--nofile", "900"]), "200\n");
    let ran = said(&mut shared.exec(&["--require", "full"], ["true"]));
    assert_eq!(ran.fate, 0, "{ran:#?}");
}

#[test]
fn memory_is_that_of_the_jail_as_a_whole() {
    let Some(shared) = Shared::new(&["--mem", "64M", "--best-effort"]) else { return };
    let mut bystander = shared.exec(&[], ["sh", "-c", "echo up; sleep 60"]);
    let mut bystander = Running::start(bystander.stdout(Stdio::piped()).stderr(Stdio::piped()));
    bystander.first_line();
    let ran = said(
        &mut shared.exec(&[], ["sh", "-c", "head -c 200M /dev/zero | tail -c 190M > /dev/null; sleep 2"]),
    );
    assert_ne!(ran.fate, 0, "{ran:#?}");
    // Half a jail is of no use.
    assert_eq!(bystander.end().code(), Some(137));
    let shown = said(&mut shared.aj(&["jail", "list", "--json"]));
    let shown: serde_json::Value = serde_json::from_str(&shown.out).unwrap();
    let of_live = shown["jails"].as_array().unwrap().iter().find(|j| j["kind"] == "live").unwrap();
    assert_eq!(of_live["status"], "oom", "{shown:#}");
}

#[test]
fn a_jail_without_room_for_a_process_says_so_and_can_be_stopped() {
    let Some(shared) = Shared::new(&["--pids", "8"]) else { return };
    let fill =
        "$| = 1; while (defined($p = fork)) { if (!$p) { sleep 60; exit } } print \"full\\n\"; sleep 60";
    let mut full = shared.exec(&[], ["perl", "-e", fill]);
    let mut full = Running::start(full.stdout(Stdio::piped()));
    assert_eq!(full.first_line().0, "full");
    let ran = said(&mut shared.exec(&[], ["sleep", "0"]));
    assert_eq!(ran.fate, 125, "{ran:#?}");
    assert!(ran.err.contains("EAGAIN"), "{ran:#?}");
    assert_eq!(shared.ws("stop", &["--kill"]).fate, 0);
}

#[test]
fn top_has_one_row_for_the_jail_and_its_commands_are_in_it() {
    let Some(shared) = Shared::new(&[]) else { return };
    let mut long = shared.exec(&[], ["sh", "-c", "echo up; sleep 60"]);
    let mut long = Running::start(long.stdout(Stdio::piped()));
    long.first_line();
    let top = said(&mut shared.aj(&["top", "--json"]));
    let top: serde_json::Value = serde_json::from_str(top.out.lines().next().unwrap()).unwrap();
    let rows = top["jails"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{top:#}");
    assert_eq!(
        (&rows[0]["kind"], &rows[0]["argv"]),
        (&"live".into(), &serde_json::json!(["workspace", "api"]))
    );
    assert!(rows[0]["tasks"].as_i64().unwrap() >= 2, "{top:#}");
}
