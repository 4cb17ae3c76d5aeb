//! Starting: what the starter hears, what the supervisor has, when a job is ready.

use std::time::{Duration, Instant};

use super::Jobs;
use crate::yard::{assert_gone, eventually, mark, marked, skip};

#[test]
fn a_job_runs_on_by_itself_and_all_about_it_can_be_asked() {
    let Some(jobs) = Jobs::new() else { return };
    let began = Instant::now();
    let id = jobs.start(&["--name", "web", "--group", "g"], "pwd; cat; echo err >&2; sleep 2; exit 7");
    assert!(began.elapsed() < Duration::from_secs(10) && id.starts_with("jb-") && id.len() == 19, "{id}");
    let running = jobs.show("web");
    assert_eq!((running["status"].as_str(), running["running"].as_bool()), (Some("running"), Some(true)));
    let ps = jobs.json(&["ps"]);
    let mine = |p: &&serde_json::Value| p["job_id"] == id.as_str();
    assert!(ps["processes"].as_array().unwrap().iter().filter(mine).any(|p| p["pid_inside"] == 2), "{ps}");
    assert_eq!(jobs.said(&["job", "wait", &id]).fate, 7);
    assert_eq!(jobs.said(&["wait", "web", &id]).fate, 7);
    let logs = jobs.json(&["job", "logs", "@"]);
    assert_eq!(logs["stdout"], format!("{}\n", jobs.0.ws.display()), "stdin is empty, the directory is kept");
    assert_eq!((logs["stderr"].as_str(), logs["exit_code"].as_i64()), (Some("err\n"), Some(7)));
    assert_eq!(logs["running"], false);
    let list = jobs.out(&["job", "list", "--group", "g", "--status", "exited", "-q"]);
    assert_eq!(list.trim(), id);
    assert_eq!(jobs.json(&["job", "group", "list"])["groups"][0]["jobs"], 1);
    jobs.out(&["job", "group", "rm", "g"]);
    assert_eq!(jobs.said(&["job", "show", &id]).fate, 3);
    assert_eq!(std::fs::read_dir(jobs.0.state().join("jobs")).unwrap().count(), 1, "but for the lock");
}

#[test]
fn processes_in_the_jail_of_a_workspace_are_those_of_their_job() {
    let Some(jobs) = Jobs::new() else { return };
    jobs.out(&["workspace", "create", "w"]);
    jobs.out(&["workspace", "start", "w"]);
    let ids = [(); 2].map(|()| jobs.out(&["job", "start", "w", "--", "sh", "-c", "sleep 60 & sleep 60"]));
    let mut other = jobs.aj(&["exec", "w", "--", "sleep", "60"]).spawn().unwrap();
    let mut ps = serde_json::Value::Null;
    let begun = eventually(Duration::from_secs(10), || {
        ps = jobs.json(&["ps", "w"]);
        let sleeps = |p: &&serde_json::Value| p["command"] == "sleep 60";
        ps["processes"].as_array().unwrap().iter().filter(sleeps).count() == 5
    });
    jobs.out(&["workspace", "stop", "w"]);
    other.wait().unwrap();
    assert!(begun, "{ps:#}");
    let rows = ps["processes"].as_array().unwrap();
    let of = |id: &serde_json::Value| {
        rows.iter().filter(|p| p["job_id"] == *id && p["command"] == "sleep 60").count()
    };
    let own = ids.each_ref().map(|id| of(&id.trim().into()));
    assert_eq!((own, of(&serde_json::Value::Null)), ([2, 2], 1), "{ps:#}");
    // Each run of a command is told by its own id, as in `aj jail list`.
    let jails: std::collections::BTreeSet<_> = ps["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["jail_id"].as_str().unwrap().to_owned())
        .collect();
    assert!(jails.len() == 2 && jails.iter().all(|id| id.starts_with("jl-")), "{ps:#}");
}

#[test]
fn who_waits_for_what_there_is_not_hears_that_it_is_not_found() {
    let Some(jobs) = Jobs::new() else { return };
    for words in [&["wait", "nosuch"][..], &["job", "wait", "nosuch"], &["wait", "jl-zzzz"]] {
        let said = jobs.said(words);
        assert_eq!((said.fate, said.out.as_str()), (3, ""), "{words:?}: {said:#?}");
    }
}

#[test]
fn what_cannot_start_says_why_and_leaves_nothing() {
    let Some(jobs) = Jobs::new() else { return };
    for (words, code, text) in [
        (&["--", "no-such-program"][..], 127, "no-such-program"),
        (&["--", "/etc/passwd"], 126, "EACCES"),
        (&["--cwd", "nowhere", "--", "true"], 125, "nowhere"),
        (&["--restart", "on-failure", "--", "no-such-program"], 127, "no-such-program"),
        (&["no-such-workspace", "--", "true"], 3, "no-such-workspace"),
        (&["@", "--", "true"], 125, "kept changes"),
        (&["--ready", "log:(", "--", "true"], 2, "not a pattern"),
        (&["--log-max", "1", "--", "true"], 2, "1M is the least"),
    ] {
        let said = jobs.said(&[&["job", "start"], words].concat());
        assert_eq!((said.fate, said.out.as_str()), (code, ""), "{words:?}: {said:#?}");
        assert!(said.err.contains(text), "{words:?}: {said:#?}");
    }
    assert_eq!(jobs.out(&["job", "list", "-q"]), "");
    let said = jobs.said(&["job", "start", "--json", "--", "no-such-program"]);
    assert!(said.err.contains(r#""code":"command_not_found""#), "{said:#?}");
}

/// The pipes of this test would be held open by a supervisor that had kept them: `said` reads to their end.
#[test]
fn a_supervisor_has_nothing_of_its_starter() {
    let Some(jobs) = Jobs::new() else { return };
    let mark = mark();
    let script = format!("exec 7<>/dev/zero; trap '' INT HUP; \"$AJ\" job start -- ./life sleep 60 {mark}");
    let id = crate::yard::said(&mut jobs.0.sh(&script)).out.trim().to_owned();
    let pid = jobs.pid(&id);
    let open: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|e| std::fs::read_link(e.unwrap().path()).unwrap_or_default().display().to_string())
        .collect();
    assert!(!open.iter().any(|to| to == "/dev/zero" || to.contains("/dev/pts")), "{open:?}");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    assert_eq!((fields[3], fields[4]), (&*pid.to_string(), "0"), "a session of its own, without a terminal");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let ignored = status.lines().find_map(|l| l.strip_prefix("SigIgn:")).unwrap();
    assert_eq!(u64::from_str_radix(ignored.trim(), 16).unwrap() & 0b11, 0, "HUP and INT are heard again");
    assert!(!std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap().contains(&mark));
    jobs.out(&["job", "kill", &id]);
    assert_gone(&mark, Duration::from_secs(5));
}

#[test]
fn a_starter_that_is_killed_leaves_a_whole_job_or_none() {
    let Some(jobs) = Jobs::new() else { return };
    let mark = mark();
    jobs.start(&[], "true");
    let end = Instant::now() + Duration::from_secs(12);
    for n in 0..60 {
        if Instant::now() > end {
            break;
        }
        let mut aj = jobs.aj(&["job", "start", "--", "./life", "sleep", "60", &mark]);
        let aj = crate::yard::Running::start(
            aj.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()),
        );
        std::thread::sleep(Duration::from_millis(n * 4));
        drop(aj);
    }
    let settled = || {
        let list = jobs.json(&["job", "list", "--limit", "0"]);
        list["jobs"].as_array().unwrap().iter().all(|j| j["status"] != "starting")
    };
    assert!(eventually(Duration::from_secs(10), settled));
    let list = jobs.json(&["job", "list", "--limit", "0", "--status", "running"]);
    let running = list["jobs"].as_array().unwrap().len();
    assert!(running > 0, "all were killed too early to show anything");
    // Each that runs has a command and a pid 1 of its own; nothing runs that is not a job.
    let commands = || marked(&mark).len();
    assert!(
        eventually(Duration::from_secs(5), || commands() == 2 * running),
        "{} of 2 × {running}",
        commands()
    );
    for job in list["jobs"].as_array().unwrap() {
        jobs.out(&["job", "rm", "--force", job["id"].as_str().unwrap()]);
    }
    assert_gone(&mark, Duration::from_secs(5));
}

#[test]
fn ready_is_a_line_or_a_port_and_what_does_not_come_ends_the_job() {
    let Some(jobs) = Jobs::new() else { return };
    let mark = mark();
    let script = format!("printf 'rea'; sleep 0.3; printf 'dy on 80'; : {mark}; sleep 60");
    let id = jobs.start(&["--ready", "log:^ready on \\d+$"], &script);
    assert_eq!(jobs.show(&id)["ready"], true);
    assert_eq!(jobs.said(&["wait", &id, "--for", "ready"]).fate, 0);
    assert_eq!(jobs.said(&["wait", &id, "--for", "log:rea", "--timeout", "5s"]).fate, 0);
    assert_eq!(jobs.said(&["wait", &id, "--for", "log:never", "--timeout", "300ms"]).fate, 124);
    assert_eq!(jobs.said(&["wait", &id, "--timeout", "300ms"]).fate, 124);
    jobs.out(&["job", "rm", "--force", &id]);
    assert_gone(&mark, Duration::from_secs(5));
    // What matches in an earlier life of the job is not what is waited for.
    let script = format!("test -e seen || echo ready; : {mark}; exit 3");
    let ended = jobs.said(&["job", "start", "--ready", "log:steady", "--", "sh", "-c", &script]);
    assert_eq!((ended.fate, ended.out.as_str()), (1, ""), "{ended:#?}");
    assert!(ended.err.contains("exit code 3") && ended.err.contains("aj job logs"), "{ended:#?}");
    let late = [
        "job",
        "start",
        "--ready",
        "log:never",
        "--ready-timeout",
        "500ms",
        "--",
        "./life",
        "sleep",
        "60",
        &mark,
    ];
    let late = jobs.said(&late);
    assert_eq!((late.fate, late.out.as_str()), (124, ""), "{late:#?}");
    assert_gone(&mark, Duration::from_secs(1));
    assert_eq!(jobs.status("@"), "killed");
    let python = std::process::Command::new("python3").arg("--version").output();
    if !python.is_ok_and(|o| o.status.success()) {
        return skip("no python3 to listen with");
    }
    let server = "import socket,time; s=socket.socket(); time.sleep(0.5); s.bind(('127.0.0.1',3210)); s.listen(); time.sleep(60)";
    let id = jobs.out(&["job", "start", "--ready", "port:3210", "--", "python3", "-c", server]);
    let job = jobs.show(id.trim());
    assert!(job["ready_at"].as_str() > job["started_at"].as_str(), "{job}");
    // The same number outside is another port.
    let said = jobs.said(&["wait", id.trim(), "--for", "port:3211", "--timeout", "300ms"]);
    assert_eq!(said.fate, 124, "{said:#?}");
}

#[test]
fn names_belong_to_what_runs_and_mean_the_newest() {
    let Some(jobs) = Jobs::new() else { return };
    let first = jobs.start(&["--name", "web"], "exit 1");
    assert_eq!(jobs.said(&["job", "wait", "web"]).fate, 1);
    let second = jobs.start(&["--name", "web"], "sleep 60");
    assert_eq!(jobs.show("web")["id"], second.as_str());
    let taken = jobs.said(&["job", "start", "--name", "web", "--", "true"]);
    assert_eq!(taken.fate, 5, "{taken:#?}");
    assert_eq!(jobs.said(&["job", "restart", &first]).fate, 5);
    assert_eq!(jobs.show(&first[3..9])["id"], first.as_str(), "the start of an id is enough");
    for bad in ["jb-web", "ws-1", "Web", "@", "latest", "-"] {
        assert_eq!(jobs.said(&["job", "start", &format!("--name={bad}"), "--", "true"]).fate, 2, "{bad}");
    }
}

#[test]
fn a_job_in_a_workspace_writes_to_it_and_keeps_its_settings() {
    let Some(jobs) = Jobs::new() else { return };
    jobs.out(&["workspace", "create", "box", "--env", "A=kept"]);
    let words =
        ["job", "start", "box", "--env", "B=own", "--", "sh", "-c", "echo $A $B > /workspace/f; echo $A $B"];
    let id = jobs.out(&words).trim().to_owned();
    assert_eq!(jobs.said(&["job", "wait", &id]).fate, 0);
    assert_eq!(jobs.json(&["job", "logs", &id])["stdout"], "kept own\n");
    assert_eq!(jobs.out(&["exec", "box", "--", "cat", "/workspace/f"]), "kept own\n");
    assert_eq!(jobs.out(&["job", "list", "--ws", "box", "-q"]).trim(), id);
    assert_eq!(jobs.out(&["job", "restart", &id]).trim(), id);
    assert_eq!(jobs.said(&["job", "wait", &id]).fate, 0);
    assert_eq!(jobs.json(&["job", "logs", &id])["stdout"], "kept own\nkept own\n");
}

#[test]
fn jobs_in_a_workspace_share_its_jail_and_each_ends_by_itself() {
    let Some(jobs) = Jobs::new() else { return };
    jobs.out(&["workspace", "create", "box"]);
    let (first, second) = (mark(), mark());
    let script = |mark: &str| format!("echo {mark} >> /tmp/seen; : {mark}; while :; do sleep 0.05; done");
    let start =
        |mark: &str| jobs.out(&["job", "start", "box", "--", "sh", "-c", &script(mark)]).trim().to_owned();
    let (one, two) = (start(&first), start(&second));
    let seen = || jobs.said(&["exec", "box", "--", "sort", "/tmp/seen"]).out;
    let both = format!("{first}\n{second}\n");
    if !eventually(Duration::from_secs(10), || seen() == both) {
        return skip(format!("no jail can be shared here: {:#?}", jobs.said(&["job", "logs", &two])));
    }
    // A supervisor that is killed takes its own command along, and nobody else's.
    super::kill_hard(jobs.pid(&one));
    assert_gone(&first, Duration::from_secs(5));
    assert_eq!((jobs.status(&one).as_str(), jobs.status(&two).as_str()), ("lost", "running"));
    jobs.out(&["job", "kill", &two]);
    assert_eq!(jobs.said(&["job", "wait", &two]).fate, 143);
    assert_gone(&second, Duration::from_secs(5));
    // Nothing of a job is left in the hands of the jail that goes on.
    jobs.out(&["job", "rm", &one, &two]);
    jobs.out(&["workspace", "rm", "--force", "box"]);
}
