//! What a jail may use, and that the host does not suffer when it tries to use more.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::libc;

use crate::yard::{Running, Yard, assert_gone, fate, mark, run, said};

#[test]
fn a_fork_bomb_meets_eagain_at_the_limit() {
    let Some(yard) = Yard::new() else { return };
    let ran = said(&mut yard.exec(["--pids", "64"], ["./life", "bomb", "2000"]));
    assert_eq!(ran.number("errno"), i64::from(libc::EAGAIN), "{ran:?}");
    // The command itself and pid 1 count too.
    assert!((60..=64).contains(&ran.number("children")), "{ran:?}");
    // Teeth: outside, nothing stops it there.
    let outside = said(&mut yard.sh("./life bomb 100"));
    assert_eq!(outside.number("children"), 100, "{outside:?}");
}

#[test]
fn the_host_goes_on_while_a_bomb_bursts_and_nothing_is_left_of_it() {
    let Some(yard) = Yard::new() else { return };
    let rate = || {
        let start = Instant::now();
        for _ in 0..50 {
            assert!(
                run(std::process::Command::new(yard.ws.join("life")).args(["exit", "0"])).status.success()
            );
        }
        start.elapsed()
    };
    let mark = mark();
    let options = ["--pids", "128", "--timeout", "5s", "--grace", "0s"];
    let mut aj = yard.exec(options, ["./life", "bombs", &mark]);
    let mut running = Running::start(aj.stdout(Stdio::piped()).stderr(Stdio::null()));
    assert_eq!(running.first_line().0, "ready");
    let during = rate();
    // 128 spinning processes take most of the processors' time; the host must still get on.
    assert!(during < Duration::from_secs(8), "50 processes took {during:?}");
    assert_eq!(fate(running.end()), 124);
    assert_gone(&mark, Duration::ZERO);
}

/// Where no control group can be had, memory is watched; see `limits` for where one can.
#[test]
fn memory_over_the_limit_is_137_and_says_so_however_it_is_held() {
    let Some(yard) = Yard::new() else { return };
    if let Some(by) = super::limits::held(&yard) {
        return crate::yard::skip(format!("memory is not watched where it is held by {by}"));
    }
    for how in ["anon", "shared", "tmp", "memfd"] {
        let options = ["--mem", "64m", "--best-effort", "--tmp", "1g", "--json"];
        let ran = said(&mut yard.exec(options, ["./life", "memory", how, "400"]));
        assert_eq!(ran.fate, 137, "{how}: {ran:?}");
        let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(
            (&json["oom_killed"], &json["killed_by"], &json["exit_code"]),
            (&true.into(), &"memory".into(), &137.into()),
            "{how}"
        );
        let warnings = json["warnings"].to_string();
        let unseen = "buffers of pipes and sockets, segments of System V that nobody has attached, and memfds that are \
                      neither mapped nor open";
        assert!(warnings.contains("best effort") && warnings.contains(unseen), "{how}: {json}");
    }
    let ran = said(&mut yard.exec(["--mem", "200m", "--best-effort"], ["./life", "memory", "anon", "20"]));
    assert_eq!((ran.fate, ran.number("mib")), (0, 20), "{ran:?}");
}

#[test]
fn a_program_that_dies_of_sigkill_by_itself_is_not_called_out_of_memory() {
    let Some(yard) = Yard::new() else { return };
    let ran = said(&mut yard.exec(["--json"], ["./life", "raise", "9"]));
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.fate, &json["oom_killed"], &json["signal"]), (137, &false.into(), &9.into()));
}

#[test]
fn the_jails_own_files_are_capped() {
    let Some(yard) = Yard::new() else { return };
    let ran = said(&mut yard.exec(["--tmp", "16m"], ["./life", "memory", "tmp", "64"]));
    assert_eq!((ran.fate, ran.number("errno")), (7, i64::from(libc::ENOSPC)), "{ran:?}");
    assert!((14..=16).contains(&ran.number("mib")), "{ran:?}");
    // Home and /dev/shm are under the same cap.
    let script = "head -c 10M /dev/zero > /dev/shm/a; head -c 10M /dev/zero > $HOME/b; echo $?";
    let ran = said(&mut yard.exec(["--tmp", "16m"], ["sh", "-c", script]));
    assert_eq!(ran.out, "1\n", "{ran:?}");
}

#[test]
fn descriptors_run_out_at_the_jails_limit() {
    let Some(yard) = Yard::new() else { return };
    let ran = said(&mut yard.exec(["--nofile", "512"], ["./life", "exhaust", "fds"]));
    assert_eq!(ran.number("errno"), i64::from(libc::EMFILE), "{ran:?}");
    assert_eq!(ran.number("count"), 509, "{ran:?}");
}

#[test]
fn what_is_counted_for_the_whole_machine_does_not_run_out_on_the_host() {
    let Some(yard) = Yard::new() else { return };
    for what in ["ptys", "inotify"] {
        // It holds all it could get while the host tries.
        let mut aj = yard.aj(["./life", "hold-all", what]);
        let mut running = Running::start(aj.stdout(Stdio::piped()).stderr(Stdio::null()));
        let (first, mut rest) = running.first_line();
        let mut lines = String::new();
        while !lines.contains("holding") {
            assert!(std::io::BufRead::read_line(&mut rest, &mut lines).unwrap() > 0, "{first} {lines}");
        }
        // The jail has run into its limit.
        assert!(lines.contains(&format!("errno {}", libc::EMFILE)) || what == "ptys", "{first} {lines}");
        match what {
            "ptys" => drop(crate::yard::terminal()),
            _ => {
                // SAFETY: takes an integer.
                let fd = unsafe { libc::inotify_init1(libc::IN_CLOEXEC) };
                assert!(fd >= 0, "no inotify instance left on the host");
                // SAFETY: our own descriptor from above.
                unsafe { libc::close(fd) };
            }
        }
    }
}

#[test]
fn forty_terminals_at_once_and_inotify_work() {
    let Some(yard) = Yard::new() else { return };
    let ran = said(&mut yard.aj(["./life", "exhaust", "ptys"]));
    assert!(ran.number("count") >= 40, "{ran:?}");
    let ran = said(&mut yard.aj(["./life", "exhaust", "inotify"]));
    assert!(ran.number("count") >= 8, "{ran:?}");
}

#[test]
fn shared_memory_segments_go_with_the_jail() {
    let Some(yard) = Yard::new() else { return };
    let segments = || std::fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let before = segments();
    let ran = said(&mut yard.aj(["sh", "-c", "./life exhaust shm; wc -l < /proc/sysvipc/shm"]));
    assert!(ran.number("count") > 50, "{ran:?}");
    assert_eq!(ran.out.lines().last().and_then(|l| l.trim().parse().ok()), Some(ran.number("count") + 1));
    assert_eq!(segments(), before);
    assert!(said(&mut yard.aj(["wc", "-l", "/proc/sysvipc/shm"])).out.starts_with('1'));
}

#[test]
fn aj_stays_small_while_much_output_waits_for_a_slow_reader() {
    let Some(yard) = Yard::new() else { return };
    for options in [&[][..], &["--events"]] {
        let mut aj =
            yard.exec(options.iter().copied(), ["sh", "-c", "./life write 200000000; ./life write 99 9 2"]);
        let mut running = Running::start(aj.stdout(Stdio::piped()).stderr(Stdio::null()));
        let mut out = running.0.stdout.take().unwrap();
        let (mut most, mut total, mut buffer) = (0, 0, vec![0; 1 << 20]);
        loop {
            let n = out.read(&mut buffer).unwrap();
            if n == 0 {
                break;
            }
            total += n;
            // Without the program itself, which is a debug build here: what is held is the question.
            // One that has ended has neither.
            let program = running.kib("RssFile");
            if program > 0 {
                most = most.max(running.kib("VmHWM").saturating_sub(program));
            }
            if total < 20_000_000 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        assert!(total >= 200_000_000, "{total}");
        assert!(most > 0 && most < 8 * 1024, "{options:?}: {most} KiB");
        assert_eq!(fate(running.end()), 0);
    }
}

#[test]
fn scheduling_above_others_is_refused() {
    let Some(yard) = Yard::new() else { return };
    let script = "nice -n -20 true 2>&1 >/dev/null | wc -l; chrt -f 50 true 2>/dev/null; echo $?";
    let ran = said(&mut yard.aj(["sh", "-c", script]));
    assert!(ran.out == "1\n1\n" || ran.out == "1\n127\n", "{ran:?}");
}
