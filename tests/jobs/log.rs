//! The log: whatever a command writes, and however much.

use std::time::Duration;

use super::Jobs;
use crate::yard::{eventually, run};

/// Bytes of all files of the log.
fn size(jobs: &Jobs, id: &str) -> u64 {
    let files = std::fs::read_dir(jobs.0.state().join("jobs").join(id)).unwrap();
    let of = |e: std::fs::DirEntry| {
        if e.file_name().to_str()?.starts_with("log-") { e.metadata().ok().map(|m| m.len()) } else { None }
    };
    files.flatten().filter_map(of).sum()
}

#[test]
fn a_flood_is_bounded_on_the_disk_and_in_memory_and_its_end_is_kept() {
    let Some(jobs) = Jobs::new() else { return };
    // One line of a gigabyte and more, then an end.
    let script = "head -c 1500000000 /dev/zero | tr '\\0' x; echo; echo the end";
    let id = jobs.start(&["--log-max", "2M"], script);
    let pid = jobs.pid(&id);
    let (mut most, mut rss) = (0, 0);
    eventually(Duration::from_secs(60), || {
        most = most.max(size(&jobs, &id));
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let kib = status
            .lines()
            .find_map(|l| l.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        rss = rss.max(kib.unwrap_or(0));
        jobs.status(&id) != "running"
    });
    assert_eq!(jobs.said(&["job", "wait", &id]).fate, 0);
    // Files that come and go while they are added up are counted with those that they made room for.
    assert!(most > 0 && most <= 5 << 19, "{most} bytes");
    assert!(size(&jobs, &id) <= 2 << 20, "{} bytes", size(&jobs, &id));
    assert!(rss > 0 && rss < 32 << 10, "{rss} KiB");
    let tail = jobs.out(&["job", "logs", &id, "--tail", "1"]);
    assert_eq!(tail, "the end\n");
    let all = jobs.json(&["job", "logs", &id, "--since", "0"]);
    assert!(all["skipped"].as_u64().unwrap() > 1_000_000_000, "{}", all["skipped"]);
    assert!(all["stdout"].as_str().unwrap().ends_with("x\nthe end\n"));
    assert_eq!(
        jobs.json(&["job", "logs", &id])["skipped"],
        0,
        "whoever asks for what there is misses nothing"
    );
}

#[test]
fn a_cursor_shows_nothing_twice_and_leaves_nothing_out() {
    let Some(jobs) = Jobs::new() else { return };
    let id = jobs.start(
        &[],
        "i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); [ $((i%50)) = 0 ] && sleep 0.1; done; true",
    );
    let (mut cursor, mut seen) = (0, String::new());
    eventually(Duration::from_secs(15), || {
        let part = jobs.json(&["job", "logs", &id, "--since", &format!("{cursor}")]);
        assert_eq!(part["skipped"], 0);
        seen.push_str(part["stdout"].as_str().unwrap());
        cursor = part["next_cursor"].as_u64().unwrap();
        part["running"] == false && part["more"] == false
    });
    let rest = jobs.json(&["job", "logs", &id, "--since", &format!("{cursor}")]);
    seen.push_str(rest["stdout"].as_str().unwrap());
    let expected: String = (0..300).map(|n| format!("{n}\n")).collect();
    assert_eq!(seen, expected);
    assert_eq!(jobs.out(&["job", "logs", &id, "-n", "2"]), "298\n299\n");
}

#[test]
fn following_ends_with_the_job_and_has_seen_all_of_it() {
    let Some(jobs) = Jobs::new() else { return };
    let id = jobs.start(&[], "for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; sleep 0.2; done; exit 5");
    let followed = jobs.said(&["job", "logs", &id, "--follow", "--stream", "out"]);
    assert_eq!(followed.fate, 0, "{followed:#?}");
    assert_eq!(followed.out, "out 1\nout 2\nout 3\nout 4\nout 5\n");
    assert!(followed.err.contains("exited, exit code 5"), "{followed:#?}");
    let lines = jobs.out(&["job", "logs", &id, "-f", "--json"]);
    let lines: Vec<serde_json::Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(
        (lines[0]["type"].as_str(), lines.last().unwrap()["exit_code"].as_i64()),
        (Some("version"), Some(5))
    );
    let err = lines.iter().filter(|l| l["stream"] == "stderr").count();
    assert_eq!(err, 5, "{lines:?}");
    let stamped = jobs.out(&["job", "logs", &id, "--timestamps", "--stream", "err"]);
    assert!(stamped.lines().all(|l| l.starts_with("20") && l.contains("Z err err ")), "{stamped}");
}

#[test]
fn hostile_bytes_are_data_in_a_pipe_base64_in_json_and_text_on_a_terminal() {
    let Some(jobs) = Jobs::new() else { return };
    let evil = "printf '\\033]52;c;aGk=\\007\\377\\376\\033[2J\\r\\n\\000x'; printf '\\033c' >&2";
    let id = jobs.start(&[], evil);
    assert_eq!(jobs.said(&["job", "wait", &id]).fate, 0);
    let raw = run(&mut jobs.aj(&["job", "logs", &id, "--stream", "out"])).stdout;
    assert_eq!(raw, b"\x1b]52;c;aGk=\x07\xff\xfe\x1b[2J\r\n\0x");
    let json = jobs.json(&["job", "logs", &id]);
    assert_eq!(
        (json["encoding"]["stdout"].as_str(), json["encoding"]["stderr"].as_str()),
        (Some("base64"), Some("utf-8"))
    );
    assert_eq!(
        (json["stdout"].as_str(), json["stderr"].as_str()),
        (Some("G101MjtjO2FHaz0H//4bWzJKDQoAeA=="), Some("\u{1b}c"))
    );
    let (master, slave) = crate::yard::terminal();
    let mut aj = jobs.aj(&["job", "logs", &id]);
    let mut running = crate::yard::Running::start(aj.stdout(slave).stderr(std::process::Stdio::null()));
    assert!(running.end().success());
    drop(aj);
    let mut shown = Vec::new();
    // The terminal ends with its last writer.
    drop(std::io::Read::read_to_end(&mut std::fs::File::from(master), &mut shown));
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{7}'), "{shown:?}");
    assert!(
        shown.contains("\\x1b]52;c;aGk=\\x07\\xff\\xfe\\x1b[2J") && shown.contains("\\x1bc"),
        "{shown:?}"
    );
}

#[test]
fn a_log_that_cannot_be_written_out_is_an_error_and_one_that_nobody_reads_is_none() {
    let Some(jobs) = Jobs::new() else { return };
    let id = jobs.start(&[], "echo said");
    assert_eq!(jobs.said(&["job", "wait", &id]).fate, 0);
    let runs = jobs.start(&[], "echo said; exec sleep 60");
    for words in [&["job", "logs", &id][..], &["job", "logs", &id, "-f"], &["job", "logs", &runs, "-f"]] {
        let to = |out: std::process::Stdio| {
            let mut aj = jobs.aj(words);
            let mut running =
                crate::yard::Running::start(aj.stdout(out).stderr(std::process::Stdio::piped()));
            let fate = crate::yard::fate(running.end());
            let mut err = String::new();
            std::io::Read::read_to_string(&mut running.0.stderr.take().unwrap(), &mut err).unwrap();
            (fate, err)
        };
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let (fate, err) = to(full.into());
        assert_eq!(fate, 1, "{words:?}: {err}");
        assert!(err.contains("could not write to stdout"), "{words:?}: {err}");
        assert!(!err.contains("has ended: running"), "{words:?}: {err}");
        let (nobody, end) = std::io::pipe().unwrap();
        drop(nobody);
        let (fate, err) = to(end.into());
        assert_eq!(fate, 0, "{words:?}: {err}");
        assert!(!err.contains("stdout"), "{words:?}: {err}");
    }
}

#[test]
fn what_a_job_was_called_with_cannot_deface_the_list() {
    let Some(jobs) = Jobs::new() else { return };
    use std::os::unix::ffi::OsStrExt;
    let mut aj = jobs.aj(&["job", "start", "--", "true"]);
    aj.arg(std::ffi::OsStr::from_bytes(b"\x1b]0;x\x07\xff\n"));
    assert!(run(&mut aj).status.success());
    jobs.said(&["job", "wait", "@"]);
    for words in [&["job", "list"][..], &["job", "show", "@"], &["ps"]] {
        let out = jobs.out(words);
        assert!(!out.contains('\u{1b}') && !out.contains('\u{7}'), "{out:?}");
    }
    assert_eq!(jobs.out(&["job", "restart", "@"]).len(), 20, "its bytes are kept as they were");
}

/// Needs a file system that can be filled: a small tmpfs, which only real root can mount.
#[test]
fn on_a_full_disk_the_job_goes_on_its_end_is_known_and_the_log_says_what_is_missing() {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let Some(jobs) = Jobs::new() else { return };
    jobs.start(&[], "true");
    let state = jobs.0.path("small");
    std::fs::create_dir(&state).unwrap();
    let none: Option<&str> = None;
    if let Err(e) = mount(none, &state, Some("tmpfs"), MsFlags::empty(), Some("size=4m,mode=0700")) {
        return crate::yard::skip(format!("cannot mount a small tmpfs ({e})"));
    }
    let aj = |words: &[&str]| {
        let mut aj = jobs.aj(words);
        crate::yard::said(aj.env("AJ_STATE_DIR", state.join("state")))
    };
    let script = "echo first; while ! test -e go; do sleep 0.05; done; \
                  head -c 300000 /dev/zero | tr '\\0' x; echo; echo written; while ! test -e on; do sleep 0.05; done; echo again; exit 6";
    let started = aj(&["job", "start", "--rw", "--", "sh", "-c", script]);
    let filler = state.join("filler");
    let mut full = std::fs::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut full, &[0; 4096]).is_ok() {}
    std::fs::write(jobs.0.ws.join("go"), "").unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    drop(full);
    let during = aj(&["job", "show", "@", "--json"]);
    std::fs::remove_file(&filler).unwrap();
    std::fs::write(jobs.0.ws.join("on"), "").unwrap();
    let ended = aj(&["job", "wait", "@"]);
    let log = aj(&["job", "logs", "@"]);
    let show = aj(&["job", "show", "@"]);
    // Once more, full to the end.
    std::fs::remove_file(jobs.0.ws.join("go")).unwrap();
    let again = aj(&["job", "restart", "@"]);
    let mut full = std::fs::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut full, &[0; 512]).is_ok() {}
    std::fs::write(jobs.0.ws.join("go"), "").unwrap();
    let last = aj(&["job", "wait", "@"]);
    let (silent, json) = (aj(&["job", "logs", "@"]), aj(&["job", "logs", "@", "--json"]));
    let (shown, told) = (aj(&["job", "show", "@"]), aj(&["job", "show", "@", "--json"]));
    let gone = aj(&["job", "rm", "@"]);
    umount2(&state, MntFlags::MNT_DETACH).unwrap();
    assert_eq!(started.fate, 0, "{started:#?}");
    assert!(during.out.contains(r#""status":"running""#), "it goes on: {during:#?}");
    assert_eq!(ended.fate, 6, "{ended:#?}");
    assert!(log.out.starts_with("first\n") && log.out.ends_with("again\n"), "{log:#?}");
    assert!(log.err.contains("bytes of output are missing here") && log.err.contains("ENOSPC"), "{log:#?}");
    assert!(show.out.contains("were not kept: the disk was full"), "{show:#?}");
    // Whether or not a line of the log could say so.
    let told: serde_json::Value =
        serde_json::from_str(&told.out).unwrap_or_else(|e| panic!("{e}: {told:#?}"));
    let all = told["log"]["lost"].as_u64().unwrap();
    for logs in [&silent, &json] {
        assert!(
            logs.err.contains(&format!("in all {all} bytes of what the job wrote were not kept")),
            "{logs:#?}"
        );
    }
    assert!(shown.out.contains("were not kept: the disk was full"), "{shown:#?}");
    assert_eq!((again.fate, last.fate, gone.fate), (0, 6, 0), "{again:#?} {last:#?} {gone:#?}");
}
