//! Ends: by themselves, by signals, by violence.

use std::time::{Duration, Instant};

use super::{Jobs, kill_hard};
use crate::yard::{Running, assert_gone, eventually, mark, marked};

#[test]
fn a_supervisor_that_is_killed_takes_its_jail_along_and_the_job_is_lost() {
    let Some(jobs) = Jobs::new() else { return };
    let mark = mark();
    let script = format!(
        "(setsid ./life ignore 60 {mark} >/dev/null 2>&1 &); echo one; exec ./life ignore 60 {mark} >/dev/null 2>&1"
    );
    let id = jobs.start(&[], &script);
    assert!(eventually(Duration::from_secs(5), || jobs.out(&["job", "logs", &id]) == "one\n"));
    assert!(eventually(Duration::from_secs(5), || marked(&mark).len() >= 2));
    kill_hard(jobs.pid(&id));
    assert_gone(&mark, Duration::from_secs(2));
    assert_eq!(jobs.status(&id), "lost");
    let lost = jobs.show(&id);
    assert_eq!(
        (&lost["exit_code"], &lost["running"]),
        (&serde_json::Value::Null, &serde_json::Value::Bool(false))
    );
    assert_eq!(jobs.said(&["job", "wait", &id]).fate, 125);
    assert_eq!(jobs.said(&["job", "kill", &id]).fate, 1);
    // It can be started again, and its log goes on.
    assert_eq!(jobs.out(&["job", "restart", &id]).trim(), id);
    assert!(eventually(Duration::from_secs(5), || jobs.out(&["job", "logs", &id]) == "one\none\n"));
    jobs.out(&["job", "rm", "-f", &id]);
    assert_gone(&mark, Duration::from_secs(5));
}

#[test]
fn whenever_a_supervisor_is_killed_its_log_is_what_was_written_up_to_then() {
    let Some(jobs) = Jobs::new() else { return };
    let id = jobs.start(&["--log-max", "1M"], "i=0; while :; do i=$((i+1)); echo $i; done");
    for n in 0..8u64 {
        std::thread::sleep(Duration::from_millis(40 + n * 37));
        kill_hard(jobs.pid(&id));
        jobs.wait_for(&id, "lost");
        let out = jobs.out(&["job", "logs", &id]);
        // Whole lines that count, but for where the log begins, a life ends and the next begins.
        let numbers: Vec<u64> = out.lines().map(|l| l.parse().unwrap_or_else(|_| panic!("{l:?}"))).collect();
        let breaks = numbers.windows(2).filter(|w| w[1] != w[0] + 1).count();
        assert!(breaks <= 2 * usize::try_from(n).unwrap(), "{breaks} breaks after {n} kills");
        assert!(!numbers.is_empty());
        jobs.out(&["job", "restart", &id]);
    }
}

#[test]
fn signals_reach_the_group_of_the_command_or_all_of_it() {
    let Some(jobs) = Jobs::new() else { return };
    let daemon = "trap 'echo daemon' USR1; echo up; while :; do sleep 0.05; done";
    let script =
        format!("trap 'echo command' USR1; setsid sh -c \"{daemon}\" & while :; do sleep 0.05; done");
    let id = jobs.start(&[], &script);
    let log = || jobs.out(&["job", "logs", &id]);
    assert!(eventually(Duration::from_secs(5), || log() == "up\n"));
    jobs.out(&["job", "kill", &id, "-s", "USR1"]);
    assert!(eventually(Duration::from_secs(5), || log().contains("command")), "{}", log());
    assert!(!log().contains("daemon"), "{}", log());
    jobs.out(&["job", "kill", &id, "-s", "usr1", "--all"]);
    assert!(eventually(Duration::from_secs(5), || log().contains("daemon")), "{}", log());
    assert_eq!(jobs.status(&id), "running");
    assert_eq!(jobs.said(&["job", "kill", &id, "-s", "NOPE"]).fate, 2);
    jobs.out(&["job", "kill", &id, "-s", "KILL"]);
    assert_eq!(jobs.said(&["job", "wait", &id]).fate, 137);
    assert_eq!(jobs.status(&id), "killed");
}

#[test]
fn one_whose_directory_is_gone_is_not_restarted_and_stays_what_it_was() {
    let Some(jobs) = Jobs::new() else { return };
    let dir = jobs.0.ws.join("gone");
    std::fs::create_dir(&dir).unwrap();
    let mut start = jobs.aj(&["job", "start", "--here", "--", "sh", "-c", "exit 3"]);
    let id = crate::yard::said(start.current_dir(&dir)).out.trim().to_owned();
    assert_eq!(jobs.said(&["job", "wait", &id]).fate, 3);
    std::fs::remove_dir(&dir).unwrap();
    for flags in [&["job", "restart", &id][..], &["job", "restart", "--force", &id]] {
        let said = jobs.said(flags);
        assert!(said.fate == 125 && said.err.contains("cannot be used"), "{said:#?}");
    }
    assert_eq!((jobs.status(&id).as_str(), &jobs.show(&id)["exit_code"]), ("exited", &3.into()));
}

#[test]
fn restarts_are_bounded_and_a_kill_ends_them() {
    let Some(jobs) = Jobs::new() else { return };
    let id = jobs.start(&["--restart", "on-failure:2"], "echo run; exit 9");
    assert_eq!(jobs.said(&["job", "wait", &id, "--timeout", "15s"]).fate, 9);
    let logs = jobs.json(&["job", "logs", &id]);
    assert_eq!(logs["stdout"], "run\nrun\nrun\n");
    assert_eq!(jobs.show(&id)["restarts"], 2);
    assert!(logs["system"].to_string().contains("failed 3 times in a row"), "{logs}");
    // What ends well, or because its time is up, is not started again.
    let id = jobs.start(&["--restart", "on-failure"], "echo run");
    assert_eq!(jobs.said(&["job", "wait", &id]).fate, 0);
    assert_eq!(jobs.show(&id)["restarts"], 0);
    let id = jobs.start(&["--restart", "on-failure", "--timeout", "300ms", "--grace", "0"], "sleep 60");
    assert_eq!(jobs.said(&["job", "wait", &id]).fate, 124);
    assert_eq!((jobs.status(&id).as_str(), &jobs.show(&id)["restarts"]), ("timed_out", &0.into()));
    let logs = jobs.said(&["job", "logs", &id]);
    assert!(logs.err.contains("its time was up, and is not started again"), "{logs:#?}");
    // In the pause before the next life, and in the middle of one.
    let id = jobs.start(&["--restart", "on-failure:1000"], "exit 1");
    assert!(eventually(Duration::from_secs(10), || jobs.show(&id)["restarts"].as_u64() >= Some(4)));
    let began = Instant::now();
    jobs.said(&["job", "kill", &id]);
    assert!(eventually(Duration::from_secs(5), || !jobs.show(&id)["running"].as_bool().unwrap()));
    let restarts = jobs.show(&id)["restarts"].clone();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(jobs.show(&id)["restarts"], restarts, "{:?}", began.elapsed());
}

#[test]
fn one_whose_workspace_is_gone_is_not_restarted_and_hints_name_what_there_is() {
    let Some(jobs) = Jobs::new() else { return };
    let workspace = jobs.json(&["workspace", "create", "gone"])["id"].as_str().unwrap().to_owned();
    let id = jobs.out(&["job", "start", "gone", "--name", "web", "--", "sh", "-c", "exit 3"]);
    let id = id.trim();
    assert_eq!(jobs.said(&["job", "wait", id]).fate, 3);
    jobs.out(&["workspace", "rm", "--force", "gone"]);
    for flags in [&["job", "restart", "web"][..], &["job", "restart", "--force", id]] {
        let said = jobs.said(flags);
        assert!(said.fate == 125 && said.err.contains("no longer there"), "{said:#?}");
        assert!(said.err.contains("aj job start WORKSPACE") && !said.err.contains("create"), "{said:#?}");
    }
    assert_eq!((jobs.status(id).as_str(), &jobs.show(id)["exit_code"]), ("exited", &3.into()));
    // An id is no name that can be had, and no command.
    let said = jobs.said(&["exec", &workspace, "--", "true"]);
    assert!(said.fate == 125 && !said.err.contains("create"), "{said:#?}");
    assert!(jobs.said(&["exec", "gone", "--", "true"]).err.contains("aj workspace create gone"));
    let id = jobs.start(&["--name", "web"], "sleep 60");
    for words in [["job", "restart", "web"], ["job", "rm", "web"]] {
        let said = jobs.said(&words);
        assert!(said.fate == 5 && said.err.contains("`aj job kill web`"), "{said:#?}");
    }
    jobs.out(&["job", "rm", "--force", &id]);
}

/// What it was ready by in a life before says nothing of this one.
#[test]
fn a_job_that_is_started_again_is_not_ready_until_it_is_so_again() {
    let Some(jobs) = Jobs::new() else { return };
    let flags = ["--rw", "--ready", "log:READY", "--restart", "on-failure:9"];
    let script = "n=$(cat n 2>/dev/null || echo 0); echo $((n+1)) > n; \
                  case $n in 0) echo READY; while ! test -e fail; do sleep 0.02; done; exit 1;; \
                  1) sleep 0.5; exit 1;; 2) while ! test -e on; do sleep 0.02; done; echo READY; exec sleep 60;; esac";
    let id = jobs.start(&flags, script);
    let first = jobs.show(&id);
    assert_eq!(first["ready"], true, "{first}");
    std::fs::write(jobs.0.ws.join("fail"), "").unwrap();
    // In the pauses, in a life that is never ready, and in one that is not so yet.
    let mut seen = first;
    let came = eventually(Duration::from_secs(15), || {
        seen = jobs.show(&id);
        if seen["restarts"] != 0 {
            assert_eq!(
                (&seen["ready"], &seen["ready_at"]),
                (&false.into(), &serde_json::Value::Null),
                "{seen}"
            );
        }
        seen["restarts"] == 2 && seen["status"] == "running"
    });
    assert!(came, "{seen}");
    for what in ["ready", "log:READY"] {
        let said = jobs.said(&["wait", &id, "--for", what, "--timeout", "300ms"]);
        assert_eq!(said.fate, 124, "{what}: {said:#?}");
    }
    std::fs::write(jobs.0.ws.join("on"), "").unwrap();
    let said = jobs.said(&["wait", &id, "--for", "ready", "--timeout", "10s"]);
    assert_eq!(said.fate, 0, "{said:#?}");
    let last = jobs.show(&id);
    assert_eq!((&last["ready"], &last["status"]), (&true.into(), &"running".into()), "{last}");
    assert!(last["ready_at"].as_str() >= last["started_at"].as_str(), "{last}");
    // Whoever looked for the lives before is gone.
    let pid = jobs.pid(&id);
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let probes = children.split_whitespace().filter(|child| {
        let read = |name: &str| std::fs::read(format!("/proc/{child}/{name}")).unwrap_or_default();
        read("comm") == b"aj\n"
    });
    assert!(probes.count() <= 1, "{children}");
}

#[test]
fn two_that_remove_one_job_do_not_get_in_each_others_way() {
    let Some(jobs) = Jobs::new() else { return };
    let mark = mark();
    for _ in 0..4 {
        let id = jobs.out(&["job", "start", "--", "./life", "sleep", "60", &mark]).trim().to_owned();
        assert_eq!(jobs.said(&["job", "rm", &id]).fate, 5);
        let mut all: Vec<_> =
            (0..3).map(|_| Running::start(&mut jobs.aj(&["job", "rm", "-q", "-f", &id]))).collect();
        let fates: Vec<_> = all.iter_mut().map(|aj| crate::yard::fate(aj.end())).collect();
        assert_eq!(fates, [0, 0, 0]);
        assert_eq!(jobs.said(&["job", "rm", &id]).fate, 3);
        assert_gone(&mark, Duration::from_secs(1));
    }
    let left: Vec<_> =
        std::fs::read_dir(jobs.0.state().join("jobs")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);
}

#[test]
fn a_supervisor_passes_a_signal_on_and_writes_down_that_it_was_one() {
    let Some(jobs) = Jobs::new() else { return };
    let id = jobs.start(
        &["--restart", "on-failure"],
        "trap 'echo term; exit 3' TERM; echo up; while :; do sleep 0.05; done",
    );
    assert!(eventually(Duration::from_secs(5), || jobs.out(&["job", "logs", &id]) == "up\n"));
    let pid = nix::unistd::Pid::from_raw(jobs.pid(&id));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    // Its end is the command's own, and the last.
    jobs.wait_for(&id, "exited");
    assert!(jobs.out(&["job", "logs", &id]).contains("term\n"));
    assert_eq!((&jobs.show(&id)["exit_code"], &jobs.show(&id)["restarts"]), (&3.into(), &0.into()));
    let id = jobs.start(&["--restart", "on-failure"], "exec ./life sleep 60");
    let pid = nix::unistd::Pid::from_raw(jobs.pid(&id));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    jobs.wait_for(&id, "interrupted");
}

#[test]
fn a_record_that_is_damaged_or_newer_is_told_of_and_is_in_nobodys_way() {
    let Some(jobs) = Jobs::new() else { return };
    let bad = jobs.start(&[], "true");
    jobs.said(&["job", "wait", &bad]);
    let good = jobs.start(&["--name", "good"], "true");
    let file = jobs.0.state().join("jobs").join(&bad).join("job.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    for (broken, why) in
        [("\u{1b}[31m".to_owned(), "damaged"), (text.replacen("format = 1", "format = 2", 1), "newer aj")]
    {
        std::fs::write(&file, broken).unwrap();
        let said = jobs.said(&["job", "show", &bad]);
        assert!(said.fate == 1 && said.err.contains(why) && !said.err.contains('\u{1b}'), "{said:#?}");
        assert_eq!(jobs.out(&["job", "list", "-q"]).trim(), good);
    }
    std::fs::write(&file, text).unwrap();
}

/// The wall clock is not ours to set in a test; what is written with it is.
#[test]
fn a_clock_that_was_set_back_changes_neither_the_order_nor_what_became_of_a_job() {
    let Some(jobs) = Jobs::new() else { return };
    let id = jobs.start(&[], "echo one; sleep 1; echo two");
    let file = jobs.0.state().join("jobs").join(&id).join("job.toml");
    jobs.said(&["job", "wait", &id]);
    let text = std::fs::read_to_string(&file).unwrap();
    let future = |line: &str| match line.split_once("_ms = ") {
        Some((name, _)) if ["created", "started"].contains(&name) => format!("{name}_ms = 4102444800000"),
        _ => line.to_owned(),
    };
    std::fs::write(&file, text.lines().map(future).collect::<Vec<_>>().join("\n")).unwrap();
    let job = jobs.show(&id);
    assert_eq!((job["status"].as_str(), job["exit_code"].as_i64()), (Some("exited"), Some(0)));
    assert!(job["duration_ms"].as_u64().unwrap() >= 1000, "{job}");
    assert_eq!(jobs.out(&["job", "logs", &id]), "one\ntwo\n");
    assert!(jobs.out(&["job", "list"]).contains(&id));
}
