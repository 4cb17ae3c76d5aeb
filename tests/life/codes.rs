//! Every way a command can end has its exit code.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use crate::yard::{Yard, run, said};

#[test]
fn the_exit_code_is_the_commands_own() {
    let Some(yard) = Yard::new() else { return };
    for code in [0, 1, 2, 77, 124, 125, 126, 127, 128, 255] {
        let ran = said(&mut yard.aj(["./life", "exit", &code.to_string()]));
        assert_eq!((ran.fate, ran.out.as_str(), ran.err.as_str()), (code, "", ""), "{code}");
    }
}

#[test]
fn death_by_signal_n_is_128_plus_n_for_every_signal() {
    let Some(yard) = Yard::new() else { return };
    // CHLD, CONT, URG, WINCH are ignored by default; STOP, TSTP, TTIN, TTOU stop.
    let not_deadly = [17, 18, 19, 20, 21, 22, 23, 28];
    for n in (1..=64).filter(|n| !not_deadly.contains(n)) {
        if (32..34).contains(&n) {
            continue; // the C library's own
        }
        let ran = said(&mut yard.aj(["./life", "raise", &n.to_string()]));
        assert_eq!(ran.fate, 128 + n, "{n}: {ran:?}");
    }
    for n in not_deadly.into_iter().filter(|n| [17, 18, 23, 28].contains(n)) {
        assert_eq!(said(&mut yard.aj(["./life", "raise", &n.to_string()])).fate, 98, "{n}");
    }
}

#[test]
fn what_cannot_be_executed_is_126_or_127_and_says_why() {
    let Some(yard) = Yard::new() else { return };
    let file = |name: &str, text: &[u8], mode| {
        std::fs::write(yard.ws.join(name), text).unwrap();
        std::fs::set_permissions(yard.ws.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    file("plain", b"hello\n", 0o644);
    file("empty", b"", 0o755);
    file("text", b"no interpreter line\n", 0o755);
    file("lost", b"#!/no/such/interpreter\n", 0o755);
    file("broken", b"\x7fELF\x02\x01\x01garbage", 0o755);
    std::fs::create_dir(yard.ws.join("dir")).unwrap();
    std::os::unix::fs::symlink("circle", yard.ws.join("circle")).unwrap();
    for (command, code, errno) in [
        ("no-such-program", 127, "ENOENT"),
        ("./no-such-program", 127, "ENOENT"),
        ("/no/such/program", 127, "ENOENT"),
        ("./plain/program", 127, "ENOTDIR"),
        ("./plain", 126, "EACCES"),
        ("./dir", 126, "EACCES"),
        ("./text", 126, "ENOEXEC"),
        ("./empty", 126, "ENOEXEC"),
        ("./broken", 126, "ENOEXEC"),
        ("./lost", 126, "ENOEXEC"),
        ("./circle", 126, "ELOOP"),
    ] {
        let ran = said(&mut yard.aj([command]));
        assert_eq!(ran.fate, code, "`{command}`: {ran:?}");
        assert!(ran.err.contains(errno) && ran.err.starts_with("aj: error: "), "`{command}`: {ran:?}");
        assert_eq!(ran.out, "");
    }
}

#[test]
fn too_many_or_too_long_arguments_are_a_clear_125() {
    let Some(yard) = Yard::new() else { return };
    let many = vec!["x".repeat(1000); 2100];
    let long = "x".repeat(129 * 1024);
    // `aj` itself can only be given what the kernel lets through, so the words come by a shell
    // builtin inside: the same limit, seen by the command, is its own affair.
    let direct = |words: &[String]| {
        let mut aj = yard.aj(["./life", "exit", "0"]);
        aj.args(words);
        aj.output()
    };
    assert_eq!(direct(&many).unwrap_err().raw_os_error(), Some(nix::libc::E2BIG), "2 MB of arguments");
    assert_eq!(
        direct(std::slice::from_ref(&long)).unwrap_err().raw_os_error(),
        Some(nix::libc::E2BIG),
        "128 KiB"
    );
    // Just below: the jail's own variables must not be what breaks it without a word.
    let nearly = vec!["x".repeat(1000); 1900];
    if let Ok(o) = direct(&nearly) {
        let code = o.status.code();
        let err = String::from_utf8_lossy(&o.stderr).into_owned();
        assert!(code == Some(0) || code == Some(125) && err.contains("E2BIG"), "{code:?} {err}");
    }
    // A variable from a file is not limited by the kernel before the command's own execve.
    std::fs::write(yard.path("env"), format!("BIG={long}\n")).unwrap();
    let file = yard.path("env").to_str().unwrap().to_owned();
    let ran = said(&mut yard.exec(["--env-file", &file], ["./life", "exit", "0"]));
    assert_eq!(ran.fate, 125, "{ran:?}");
    assert!(ran.err.contains("E2BIG") && ran.err.contains("hint: "), "{ran:?}");
}

#[test]
fn a_caller_that_ignores_sigchld_is_no_problem() {
    let Some(yard) = Yard::new() else { return };
    let mut aj = yard.aj(["sh", "-c", "sleep 0.1 & wait; exit 7"]);
    // SAFETY: signal(2) is async-signal-safe.
    unsafe {
        aj.pre_exec(|| {
            nix::libc::signal(nix::libc::SIGCHLD, nix::libc::SIG_IGN);
            Ok(())
        });
    }
    assert_eq!(run(&mut aj).status.code(), Some(7));
}

#[test]
fn closed_standard_descriptors_are_no_problem() {
    let Some(yard) = Yard::new() else { return };
    for (closed, fate) in [("<&-", 3), (">&-", 3), ("2>&-", 3), ("<&- >&- 2>&-", 3)] {
        let ran = said(&mut yard.sh(&format!("$AJ exec -- sh -c 'cat; echo x; exit 3' {closed}")));
        assert_eq!(ran.fate, fate, "{closed}: {ran:?}");
        assert_eq!(ran.err, "", "{closed}");
    }
}
