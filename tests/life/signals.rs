//! Signals to `aj` reach the command, once each; Ctrl-C ends it; the shell sees a signal death.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::Signal;

use crate::yard::{Running, Yard, assert_gone, eventually, fate, mark, terminal};

#[test]
fn every_forwarded_signal_arrives_once_and_the_commands_answer_is_the_exit_code() {
    let Some(yard) = Yard::new() else { return };
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGWINCH,
        Signal::SIGCONT,
    ] {
        let mut running = Running::start(yard.aj(["./life", "signals"]).stdout(Stdio::piped()));
        let (ready, mut rest) = running.first_line();
        assert!(ready.starts_with("ready"), "{ready}");
        running.signal(signal);
        let mut text = String::new();
        rest.read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("signal {}\nmore 0\n", signal as i32));
        assert_eq!(fate(running.end()), 3, "{signal}");
    }
}

#[test]
fn a_command_killed_by_the_signal_takes_aj_with_it_as_the_shell_expects() {
    let Some(yard) = Yard::new() else { return };
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        let mut aj = yard.aj(["./life", "ready", "60"]);
        // SAFETY: setrlimit(2) is async-signal-safe. SIGQUIT would leave a core file here.
        unsafe {
            aj.pre_exec(|| {
                let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
                Ok(())
            });
        }
        let mut running = Running::start(aj.stdout(Stdio::piped()));
        assert!(running.first_line().0.starts_with("ready"));
        running.signal(signal);
        assert_eq!(fate(running.end()), -(signal as i32), "{signal}");
    }
}

#[test]
fn twice_is_enough_for_a_command_that_ignores_everything() {
    let Some(yard) = Yard::new() else { return };
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mark = mark();
        let mut running = Running::start(yard.aj(["./life", "ignore", "60", &mark]).stdout(Stdio::piped()));
        let (ready, _rest) = running.first_line();
        assert!(ready.starts_with("ready"));
        running.signal(signal);
        assert!(!eventually(Duration::from_millis(700), || running.0.try_wait().unwrap().is_some()));
        running.signal(signal);
        assert_eq!(fate(running.end()), -(signal as i32), "{signal}");
        assert_gone(&mark, Duration::ZERO);
    }
}

#[test]
fn signals_that_the_caller_ignores_stay_ignored() {
    let Some(yard) = Yard::new() else { return };
    let mut aj = yard.aj(["sh", "-c", "echo ready; sleep 1.5; echo done"]);
    // SAFETY: signal(2) is async-signal-safe.
    unsafe {
        aj.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            libc::signal(libc::SIGINT, libc::SIG_IGN);
            Ok(())
        });
    }
    let mut running = Running::start(aj.stdout(Stdio::piped()));
    let (_, mut rest) = running.first_line();
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGHUP, Signal::SIGINT] {
        running.signal(signal);
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut text = String::new();
    rest.read_to_string(&mut text).unwrap();
    assert_eq!((fate(running.end()), text.as_str()), (0, "done\n"));
}

#[test]
fn stop_stops_the_whole_jail_and_continue_continues_it() {
    let Some(yard) = Yard::new() else { return };
    // A daemon in a session of its own counts; it must stand still as well.
    let script = "(setsid sh -c 'i=0; while :; do i=$((i+1)); echo $i > count; sleep 0.05; done' &); \
                  echo ready; exec sleep 60";
    let mut aj = yard.exec(["--rw", "."], ["sh", "-c", script]);
    // Nobody in an orphaned process group is stopped, which ours may be.
    let mut running = Running::start(aj.stdout(Stdio::piped()).process_group(0));
    assert_eq!(running.first_line().0, "ready");
    let count = || {
        let text = std::fs::read_to_string(yard.ws.join("count")).unwrap_or_default();
        text.trim().parse::<u32>().unwrap_or(0)
    };
    let counts_on = || {
        let before = count();
        eventually(Duration::from_secs(5), || count() > before + 1)
    };
    assert!(counts_on());
    running.signal(Signal::SIGTSTP);
    let stopped = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.pid())).unwrap();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    };
    assert!(eventually(Duration::from_secs(5), stopped), "aj itself stops");
    let still = || {
        let before = count();
        std::thread::sleep(Duration::from_millis(600));
        before > 0 && count() == before
    };
    assert!(eventually(Duration::from_secs(5), still), "the daemon goes on counting");
    running.signal(Signal::SIGCONT);
    assert!(counts_on());
}

/// `aj` in the foreground of a terminal of its own.
fn on_terminal(yard: &Yard, options: &[&str], command: &[&str]) -> (Running, File) {
    let (master, slave) = terminal();
    let mut aj = yard.exec(options.iter().copied(), command);
    let copy = || slave.try_clone().unwrap();
    aj.stdin(copy()).stdout(copy()).stderr(copy());
    // SAFETY: setsid(2) and ioctl(2) are async-signal-safe; the terminal becomes stdin's.
    unsafe {
        aj.pre_exec(|| {
            libc::setsid();
            if libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    (Running::start(&mut aj), File::from(master))
}

/// Read lines until one contains `what`; returns all of them.
fn until(from: &mut BufReader<File>, what: &str) -> String {
    let mut all = String::new();
    while !all.contains(what) {
        let mut line = String::new();
        match from.read_line(&mut line) {
            Ok(n) if n > 0 => all.push_str(&line),
            _ => panic!("no `{what}` in {all:?}"),
        }
    }
    all
}

#[test]
fn ctrl_c_on_a_terminal_reaches_the_command_once() {
    let Some(yard) = Yard::new() else { return };
    let (mut running, master) = on_terminal(&yard, &[], &["./life", "signals"]);
    let mut keyboard = master.try_clone().unwrap();
    let mut screen = BufReader::new(master);
    until(&mut screen, "ready");
    keyboard.write_all(b"\x03").unwrap();
    // Both the kernel (to the whole foreground group) and `aj` could send it: one must.
    let seen = until(&mut screen, "more");
    assert!(seen.contains("signal 2\r\nmore 0\r\n"), "{seen:?}");
    assert!(seen.contains("aj: stopping; press Ctrl-C again to kill"), "{seen:?}");
    assert_eq!(fate(running.end()), 3);
}

#[test]
fn a_line_typed_on_the_terminal_reaches_the_command() {
    let Some(yard) = Yard::new() else { return };
    let (mut running, master) = on_terminal(&yard, &[], &["sh", "-c", "echo ready; read a; echo \"got $a\""]);
    let mut keyboard = master.try_clone().unwrap();
    let mut screen = BufReader::new(master);
    until(&mut screen, "ready");
    keyboard.write_all(b"hello\n").unwrap();
    until(&mut screen, "got hello");
    assert_eq!(fate(running.end()), 0);
}

/// A background job that reads its terminal is stopped by the kernel. `aj` reads on behalf of a
/// command that may never ask, so it must not.
#[test]
fn a_job_in_the_background_leaves_the_terminal_to_the_shell() {
    let Some(yard) = Yard::new() else { return };
    let (master, slave) = terminal();
    let script = "set -m; $AJ exec -- sh -c 'echo up; sleep 2; echo finished' & \
                  read line; echo \"shell got $line\"; wait %1; echo \"code $?\"";
    let mut sh = yard.sh(script);
    let copy = || slave.try_clone().unwrap();
    sh.stdin(copy()).stdout(copy()).stderr(copy());
    // SAFETY: as above.
    unsafe {
        sh.pre_exec(|| {
            libc::setsid();
            libc::ioctl(0, libc::TIOCSCTTY, 0);
            Ok(())
        });
    }
    let mut running = Running::start(&mut sh);
    let mut keyboard = File::from(master.try_clone().unwrap());
    let mut screen = BufReader::new(File::from(master));
    until(&mut screen, "up");
    keyboard.write_all(b"typed\n").unwrap();
    let seen = until(&mut screen, "code ");
    assert!(
        seen.contains("shell got typed") && seen.contains("finished") && seen.contains("code 0"),
        "{seen:?}"
    );
    running.end();
}
