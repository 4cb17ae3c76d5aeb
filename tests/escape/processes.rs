//! Processes outside, and the one that watches the jail (jail.md C5).

use crate::probe::{Ground, Sleeper, run, teeth};

#[test]
fn processes_of_the_host_cannot_be_signalled_or_looked_into() {
    let Some(ground) = Ground::new() else { return };
    let mut victim = Sleeper::new();
    let mut other = Sleeper::new();
    // The test's own pid, aj's parent; and the sleeper's: numbers that mean nothing inside.
    let pid = victim.pid();
    for flags in [&[][..], &["--as-root"], &["--net", "host"]] {
        let said = ground.jail(flags, &["kill", "9", &pid]);
        for (name, result) in said.all() {
            assert_eq!(result, "ESRCH", "{name} {flags:?}");
        }
        let said = ground.jail(flags, &["trace", &pid]);
        for (name, result) in said.with(&format!("{pid} ")) {
            let wanted = match name {
                // Refused before anybody looks for the process.
                "pidfd_getfd" | "kcmp" => "EPERM",
                "read memory" | "write memory" | "seize" | "attach" | "prlimit" => "ESRCH",
                _ => "ENOENT",
            };
            assert_eq!(result, wanted, "{name} {flags:?}");
        }
    }
    assert!(victim.lives());
    let said = ground.jail(&[], &["kill", "9", &pid]);
    teeth(
        &said,
        ground.outside(&["kill", "9", &other.pid()]).map(|s| rename(s, &other.pid(), &pid)),
        &[&format!("kill {pid}")],
    );
    assert!(other.ends(), "outside it is killed");
    assert!(victim.lives());
}

/// The same results under the name of another pid.
fn rename(said: crate::probe::Said, from: &str, to: &str) -> crate::probe::Said {
    crate::probe::Said::parse(said.stdout.replace(from, to))
}

/// `kill -9 -1`: everything that the caller may signal, which is the jail.
#[test]
fn killing_everybody_kills_the_jail_only() {
    let Some(ground) = Ground::new() else { return };
    let mut host = Sleeper::new();
    for flags in [&[][..], &["--as-root"]] {
        let script =
            "sleep 30 & ./probe kill 9 -1; echo survived; kill -9 1; kill -9 $PPID; echo still; exit 7";
        let said = run(&mut ground.aj(flags, ["sh", "-c", script]));
        // The shell is among those that are killed; aj is not, and reports it.
        assert_eq!(said.code, Some(137), "{said:?}");
        let script = "kill -9 1; kill -KILL 1; kill -STOP 1; echo $?; exit 7";
        let said = run(&mut ground.aj(flags, ["sh", "-c", script]));
        assert_eq!((said.code, said.stdout.as_str()), (Some(7), "0\n"), "{said:?}");
    }
    assert!(host.lives());
}

/// Signals to pid 1 that it does handle reach the jail's own command and nobody else.
#[test]
fn signals_to_pid_1_stay_inside() {
    let Some(ground) = Ground::new() else { return };
    let mut host = Sleeper::new();
    for signal in ["TERM", "INT", "HUP", "QUIT", "USR1", "ALRM", "SEGV", "PIPE", "CONT", "CHLD", "ABRT"] {
        let script = format!("trap '' {signal}; kill -{signal} 1; sleep 0.05; exit 9");
        let said = run(&mut ground.aj(&[], ["sh", "-c", &script]));
        assert_eq!(said.code, Some(9), "{signal}: {said:?}");
    }
    assert!(host.lives());
}

/// The supervisor cannot be confused: its socket is not there, whatever is closed or opened inside.
#[test]
fn the_command_has_no_line_to_the_supervisor() {
    let Some(ground) = Ground::new() else { return };
    // Descriptor 3 is pid 1's status socket; a command that had it could report an end of its own.
    let script = "printf '\\003\\000\\000\\000\\000' >&3 2>/dev/null; ls /proc/1/fd 2>&1; exit 5";
    let said = run(&mut ground.aj(&[], ["bash", "-c", script]));
    assert_eq!(said.code, Some(5), "{said:?}");
    assert!(said.stdout.contains("Permission denied"), "{said:?}");
}
