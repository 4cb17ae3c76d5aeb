use std::collections::BTreeSet;
use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Shared;
use crate::yard::{Running, assert_gone, eventually, mark, marked, run, said};

const SOON: Duration = Duration::from_secs(8);

#[test]
fn many_commands_at_once_on_a_cold_workspace_share_one_jail() {
    let Some(shared) = Shared::new(&["--pids", "none"]) else { return };
    let script = "readlink /proc/self/ns/pid; readlink /proc/self/ns/net; read x";
    let all: Vec<_> = (0..50)
        .map(|_| {
            let mut command = shared.exec(&[], ["sh", "-c", script]);
            Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))
        })
        .collect();
    let mut seen = BTreeSet::new();
    let mut readers = Vec::new();
    for mut one in all {
        let (first, rest) = one.first_line();
        seen.insert(first);
        readers.push((one, rest));
    }
    assert_eq!(shared.shown()["live"]["commands"], 50);
    for (one, _) in &mut readers {
        drop(one.0.stdin.take());
    }
    for (one, _) in &mut readers {
        let status = one.end();
        let mut err = String::new();
        std::io::Read::read_to_string(&mut one.0.stderr.take().unwrap(), &mut err).unwrap();
        assert_eq!((status.code(), err.as_str()), (Some(1), ""));
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(shared.ends(SOON));
}

#[test]
fn a_command_that_meets_a_jail_that_ends_gets_another_one() {
    let Some(shared) = Shared::new(&[]) else { return };
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                for _ in 0..25 {
                    let ran = said(&mut shared.exec(&[], ["sh", "-c", "echo ran"]));
                    assert_eq!((ran.fate, &*ran.out, &*ran.err), (0, "ran\n", ""));
                }
            });
        }
    });
    assert!(shared.ends(SOON));
}

#[test]
fn the_jail_dies_with_its_holder_and_its_commands_and_the_next_one_say_so() {
    let Some(shared) = Shared::new(&[]) else { return };
    let mark = mark();
    let mut long = shared.exec(&[], ["sh", "-c", &format!("echo up; trap '' TERM; sleep 60; : {mark}")]);
    let mut long = Running::start(long.stdout(Stdio::piped()).stderr(Stdio::piped()));
    long.first_line();
    kill(Pid::from_raw(shared.holder()), Signal::SIGKILL).unwrap();
    assert_eq!(long.end().code(), Some(137));
    let mut words = String::new();
    long.0.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    assert!(words.contains("and this command with it: the process that held it was killed"), "{words}");
    assert_eq!(words.lines().count(), 1, "{words}");
    assert_gone(&mark, SOON);
    let ran = said(&mut shared.exec(&[], ["echo", "again"]));
    assert_eq!((ran.fate, &*ran.out), (0, "again\n"), "{ran:#?}");
    assert!(ran.err.contains("had ended with the process that held it"), "{ran:#?}");
    assert_eq!(ran.err.lines().count(), 1, "{ran:#?}");
    let ran = said(&mut shared.exec(&[], ["echo", "again"]));
    assert_eq!((ran.fate, &*ran.err), (0, ""), "once: {ran:#?}");
}

#[test]
fn a_holder_that_is_killed_while_commands_join_leaves_none_half_jailed() {
    let Some(shared) = Shared::new(&[]) else { return };
    // Inside, the host's pid 1 cannot be seen, and these are always empty.
    let script = "cat /proc/1/root/etc/shadow 2>/dev/null; grep -c . /proc/self/uid_map; grep CapEff /proc/self/status";
    for round in 0..12 {
        assert_eq!(shared.ws("start", &[]).fate, 0);
        let holder = shared.holder();
        std::thread::scope(|s| {
            let joins: Vec<_> =
                (0..4).map(|_| s.spawn(|| said(&mut shared.exec(&[], ["sh", "-c", script])))).collect();
            std::thread::sleep(Duration::from_micros(700 * round));
            kill(Pid::from_raw(holder), Signal::SIGKILL).unwrap();
            for join in joins {
                let ran = join.join().unwrap();
                match ran.fate {
                    // In this jail or in the next one.
                    0 => assert_eq!(ran.out, "1\nCapEff:\t0000000000000000\n", "{ran:#?}"),
                    // Killed with it, before it began or after.
                    137 | 125 => assert!("1\nCapEff:\t0000000000000000\n".starts_with(&*ran.out), "{ran:#?}"),
                    _ => panic!("{ran:#?}"),
                }
            }
        });
    }
}

#[test]
fn a_command_whose_aj_is_killed_at_any_instant_leaves_nothing_behind() {
    let Some(shared) = Shared::new(&[]) else { return };
    assert_eq!(shared.ws("start", &[]).fate, 0);
    let mark = mark();
    let script = format!("setsid sh -c 'sleep 60; : {mark}' & sleep 60; : {mark}");
    let mut least = 0;
    for round in 0..60 {
        let mut one = shared.exec(&[], ["sh", "-c", &script]);
        let mut one = Running::start(&mut one);
        std::thread::sleep(Duration::from_micros(250 * round));
        least = least.max(marked(&mark).len());
        one.0.kill().unwrap();
        one.end();
    }
    assert_gone(&mark, SOON);
    assert!(least > 1, "some had begun: {least}");
    assert!(eventually(SOON, || shared.shown()["live"]["processes"] == 0), "{:#}", shared.shown());
}

#[test]
fn a_workspace_may_be_stopped_at_any_instant_of_a_join() {
    let Some(shared) = Shared::new(&["--grace", "100ms"]) else { return };
    std::thread::scope(|s| {
        let stopper = s.spawn(|| {
            for round in 0..25 {
                // Now and then one is to get as far as running, on a busy machine too.
                std::thread::sleep(Duration::from_millis(if round % 6 == 5 { 500 } else { 3 * round % 17 }));
                let ran = shared.ws("stop", &[]);
                assert_eq!(ran.fate, 0, "{ran:#?}");
            }
        });
        let mut fates = BTreeSet::new();
        while !stopper.is_finished() {
            let ran = said(&mut shared.exec(&[], ["sh", "-c", "sleep 0.01; echo ran"]));
            assert!(matches!(ran.fate, 0 | 143 | 137 | 125), "{ran:#?}");
            assert!(ran.fate != 0 || ran.out == "ran\n", "{ran:#?}");
            fates.insert(ran.fate);
        }
        assert!(fates.contains(&0) || fates.contains(&143), "{fates:?}");
    });
}

#[test]
fn a_jail_that_nobody_joins_ends_and_one_of_an_earlier_boot_is_none() {
    let Some(shared) = Shared::new(&[]) else { return };
    assert_eq!(shared.sh("echo x > f; echo ran"), "ran\n");
    let dir = std::fs::read_dir(shared.yard.state().join("workspaces")).unwrap().flatten();
    let dir = dir.map(|e| e.path()).find(|p| p.join("workspace.toml").exists()).unwrap();
    // As a machine leaves it that went down while something ran.
    let kept = std::fs::read_to_string(dir.join("tree/kept")).unwrap();
    let boot = kept.lines().find_map(|l| l.strip_prefix("boot ")).unwrap();
    let other = kept.replace(boot, "00000000-0000-0000-0000-000000000000") + "open yes\n";
    std::fs::write(dir.join("tree/kept"), other).unwrap();
    drop(std::os::unix::net::UnixListener::bind(dir.join("live")).unwrap());
    let volatile = dir.join("tree/work/work/incompat/volatile");
    std::fs::create_dir_all(&volatile).unwrap();
    let ran = run(&mut shared.exec(&[], ["cat", "f"]));
    let err = String::from_utf8_lossy(&ran.stderr);
    assert_eq!((ran.status.code(), &*ran.stdout), (Some(0), &b"x\n"[..]), "{err}");
    assert!(err.contains("the machine was started again") && err.contains("that held it"), "{err}");
}
