//! The clock: TERM, grace, KILL, 124, whatever the command or the reader of its output does.

use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::yard::{Running, Yard, assert_gone, fate, mark, said};

/// For what takes a second or two on an idle machine. Without the clock it would take a minute.
const SLOW: Duration = Duration::from_secs(15);

fn timed<T>(what: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    (what(), start.elapsed())
}

#[test]
fn a_command_that_ends_at_term_gets_124_at_once() {
    let Some(yard) = Yard::new() else { return };
    let (ran, took) = timed(|| said(&mut yard.exec(["--timeout", "500ms"], ["sleep", "60"])));
    assert_eq!((ran.fate, ran.out.as_str()), (124, ""));
    assert_eq!(ran.err, "aj: the command was stopped: its time was up\n");
    assert!(took >= Duration::from_millis(500) && took < SLOW, "{took:?}");
}

#[test]
fn a_command_that_uses_its_grace_may_finish_its_work() {
    let Some(yard) = Yard::new() else { return };
    let script = "trap 'echo tidy; exit 9' TERM; echo go; while :; do sleep 0.05; done";
    let ran = said(&mut yard.exec(["--timeout", "2500ms", "--grace", "60s"], ["sh", "-c", script]));
    assert_eq!((ran.fate, ran.out.as_str()), (124, "go\ntidy\n"), "{ran:?}");
}

#[test]
fn a_command_that_ignores_everything_dies_after_the_grace_with_all_its_children() {
    let Some(yard) = Yard::new() else { return };
    for (grace, least) in [("0s", 1000), ("700ms", 1700)] {
        let mark = mark();
        let script =
            format!("trap '' TERM INT HUP; (setsid ./life ignore 60 {mark} &); ./life ignore 60 {mark}");
        // Long enough for all of them to have started on any machine.
        let options = ["--timeout", "1s", "--grace", grace];
        let (ran, took) = timed(|| said(&mut yard.exec(options, ["sh", "-c", &script])));
        assert_eq!(ran.fate, 124, "{ran:?}");
        assert!(took >= Duration::from_millis(least) && took < SLOW, "{took:?}");
        assert_gone(&mark, Duration::ZERO);
    }
}

#[test]
fn a_stopped_command_is_told_as_well() {
    let Some(yard) = Yard::new() else { return };
    let script = "trap 'echo tidy; exit' TERM; kill -STOP $$; sleep 60";
    let options = ["--timeout", "2500ms", "--grace", "60s"];
    let (ran, took) = timed(|| said(&mut yard.exec(options, ["sh", "-c", script])));
    assert_eq!((ran.fate, ran.out.as_str()), (124, "tidy\n"), "{ran:?}");
    assert!(took < SLOW, "{took:?}");
}

#[test]
fn no_time_at_all_is_a_timeout_too() {
    let Some(yard) = Yard::new() else { return };
    let ran = said(&mut yard.exec(["--timeout", "1ms", "--json"], ["sleep", "60"]));
    assert_eq!(ran.fate, 124, "{ran:?}");
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&json["timed_out"], &json["killed_by"]), (&true.into(), &"timeout".into()));
}

#[test]
fn an_early_end_is_not_a_timeout() {
    let Some(yard) = Yard::new() else { return };
    let ran = said(&mut yard.exec(["--timeout", "30s"], ["./life", "exit", "5"]));
    assert_eq!(ran.fate, 5);
}

/// Nobody reads: the command blocks, the clock does not. In every way output can leave.
#[test]
fn a_reader_that_does_not_read_does_not_hold_up_the_clock() {
    let Some(yard) = Yard::new() else { return };
    let options: [&[&str]; 3] = [&[], &["--events"], &["--json"]];
    for extra in options {
        // The second ends by itself, with its output in pipes that nobody empties.
        let little = if extra.is_empty() { "./life write 1500000" } else { "./life write 150000" };
        for what in ["./life write 100000000; sleep 60", little] {
            let options = ["--timeout", "700ms", "--grace", "300ms"].into_iter().chain(extra.iter().copied());
            let mut aj = yard.exec(options, ["sh", "-c", what]);
            let mut running = Running::start(aj.stdout(Stdio::piped()).stderr(Stdio::null()));
            let started = Instant::now();
            if extra == ["--json"] {
                // The document is written when all is over, and waits for its reader like any program.
                let (line, _) = running.first_line();
                let json: serde_json::Value = serde_json::from_str(&line).unwrap();
                assert_eq!(json["exit_code"], if what.contains("sleep") { 124 } else { 0 }, "{what}");
                continue;
            }
            let status = running.end_within(SLOW);
            assert_eq!(fate(status), 124, "{extra:?} {what}: {:?}", started.elapsed());
        }
    }
}

#[test]
fn a_socket_and_a_terminal_that_nobody_reads_do_not_hold_up_the_clock() {
    use std::os::fd::OwnedFd;
    let Some(yard) = Yard::new() else { return };
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let (master, slave) = crate::yard::terminal();
    for (name, out) in [("socket", OwnedFd::from(theirs)), ("terminal", slave)] {
        let mut aj = yard.exec(["--timeout", "700ms", "--grace", "300ms"], ["./life", "write", "50000000"]);
        let mut running = Running::start(aj.stdout(out).stderr(Stdio::null()));
        drop(aj);
        assert_eq!(fate(running.end_within(SLOW)), 124, "{name}");
    }
    drop((ours, master));
}

/// Where nobody could continue it, a SIGTSTP stops nothing, least of all the clock.
#[test]
fn without_job_control_there_is_no_stopping() {
    let Some(yard) = Yard::new() else { return };
    let script = "exec setsid $AJ exec --timeout 1500ms --grace 0s -- sh -c 'echo ready; sleep 60'";
    let mut running = Running::start(yard.sh(script).stdout(Stdio::piped()).stderr(Stdio::null()));
    assert_eq!(running.first_line().0, "ready");
    running.signal(Signal::SIGTSTP);
    assert_eq!(fate(running.end_within(SLOW)), 124);
}

/// Nor does a reader of what `aj` itself has to say: on stderr, and on the status descriptor.
#[test]
fn nobody_who_reads_the_messages_does_not_hold_up_the_clock() {
    use std::os::fd::{AsRawFd, OwnedFd};
    let Some(yard) = Yard::new() else { return };
    let full = || {
        let (read, write) = agentjail::sys::fd::pipe().unwrap();
        while agentjail::sys::fd::write_nowait(&write, &[b'x'; 4096]).is_ok() {}
        (read, write)
    };
    for what in ["yes >&2; yes", "sleep 60"] {
        for both in [false, true] {
            let (reader, writer) = full();
            let mut aj = yard.exec(["--timeout", "700ms", "--grace", "300ms"], ["sh", "-c", what]);
            let out = if both { Stdio::from(writer.try_clone().unwrap()) } else { Stdio::null() };
            let mut running = Running::start(aj.stdout(out).stderr(Stdio::from(writer)));
            drop(aj);
            assert_eq!(fate(running.end_within(SLOW)), 124, "{what} {both}");
            drop(reader);
        }
    }
    let (reader, writer): (OwnedFd, OwnedFd) = full();
    let number = writer.as_raw_fd().to_string();
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let options = ["--timeout", "700ms", "--grace", "300ms", "--status-fd", &number];
    let mut running = Running::start(yard.exec(options, ["sleep", "60"]).stderr(Stdio::null()));
    assert_eq!(fate(running.end_within(SLOW)), 124);
    drop((reader, writer));
}

/// A jail can read its own stdout pipe; that must not make `aj` wait for bytes that are gone.
#[test]
fn a_command_that_takes_back_its_output_does_not_hold_up_the_clock() {
    let Some(yard) = Yard::new() else { return };
    let options = ["--timeout", "1500ms", "--grace", "300ms"];
    let (ran, took) = timed(|| said(yard.exec(options, ["./life", "steal"]).stdout(Stdio::null())));
    assert_eq!(ran.fate, 124, "{ran:?}");
    assert!(took < SLOW, "{took:?}");
}

#[test]
fn the_clock_stands_still_while_the_user_has_stopped_aj() {
    let Some(yard) = Yard::new() else { return };
    let mut aj = yard.exec(["--timeout", "4s"], ["sh", "-c", "echo ready; sleep 1; echo slept"]);
    // As a shell with job control starts it: a group of its own, whose parent could continue it.
    std::os::unix::process::CommandExt::process_group(&mut aj, 0);
    let mut running = Running::start(aj.stdout(Stdio::piped()));
    let (line, mut rest) = running.first_line();
    assert_eq!(line, "ready");
    running.signal(Signal::SIGTSTP);
    std::thread::sleep(Duration::from_millis(4500));
    running.signal(Signal::SIGCONT);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut rest, &mut text).unwrap();
    assert_eq!((fate(running.end()), text.as_str()), (0, "slept\n"));
}
