//! The command line: flags, the command, its arguments and variables.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use super::{assert_nothing_left, assert_refused, refused};
use crate::common::{Ran, aj};
use crate::real::project::{Project, os};

#[test]
fn mistakes_on_the_command_line_are_refused() {
    let p = Project::new();
    for (words, said) in [
        (&["exec"][..], &["<COMMAND>", "aj exec -- COMMAND"][..]),
        (&["exec", "--"], &["<COMMAND>"]),
        (&["exec", "make"], &["'make'", "aj exec -- make"]),
        (&["exec", "--", ""], &["the command is empty"]),
        (&["exec", "--frobnicate", "--", "true"], &["'--frobnicate'", "aj exec --help"]),
        (&["exec", "--tiemout", "5s", "--", "true"], &["'--tiemout'", "'--timeout'"]),
        (&["exec", "--timeout", "--", "true"], &["--timeout"]),
        (&["exec", "--timeout", "soon", "--", "true"], &["soon"]),
        (&["exec", "--net", "wifi", "--", "true"], &["wifi"]),
        (&["exec", "--env", "=x", "--", "true"], &["--env"]),
        (&["exec", "--env-file", "/no/such", "--", "true"], &["/no/such", "ENOENT"]),
        (&["exec", "--preset", "nope", "--", "true"], &["nope"]),
        (&["exec", "--ro", "name", "--", "true"], &["./name"]),
        (&["exec", "--rw", "--ro", "--", "true"], &["--rw", "--ro"]),
        (&["exec", "--cwd", "..", "--", "true"], &["--cwd ..", "not below"]),
        (&["exec", "--cwd", "/etc", "--", "true"], &["--cwd /etc", "not below"]),
        (&["exec", "--cwd", "no/such", "--", "true"], &["no/such", "ENOENT", "--cwd"]),
        (&["exec", "--status-fd", "x", "--", "true"], &["--status-fd"]),
        (&["exec", "--sh", "true", "--", "true"], &["--sh"]),
    ] {
        refused(&p, words, said);
    }
}

#[test]
fn a_command_that_cannot_be_run_is_126_or_127_and_says_why() {
    let p = Project::new();
    p.write("plain", "echo x\n");
    p.script("no-interpreter", "#!/no/such/interpreter\n");
    p.script("no-header", "echo x\n");
    p.write("empty", "");
    let tool = p.top().join("home/tool");
    std::fs::copy("/bin/true", &tool).unwrap();
    let tool = tool.to_str().unwrap();
    for (program, code, said) in [
        ("no-such", 127, &["`no-such` was not found in the jail's PATH", "--ro DIR"][..]),
        ("./no-such", 127, &["`./no-such` does not exist in the jail"]),
        ("plain/x", 127, &["`plain/x` does not exist", "ENOTDIR"]),
        // On the host but not in the jail: the way in is named.
        (tool, 127, &["does not exist in the jail", "this machine has it", "--ro "]),
        ("./plain", 126, &["EACCES", "permissions"]),
        ("/tmp", 126, &["EACCES"]),
        ("./no-interpreter", 126, &["the interpreter of `./no-interpreter`"]),
        ("./no-header", 126, &["ENOEXEC", "`#!`"]),
        ("no\u{1b}[31mcolour", 127, &["\\x1b[31m"]),
    ] {
        let ran = p.aj(["exec", "--", program]);
        assert_eq!(ran.code, Some(code), "{ran:#?}");
        for word in said {
            assert!(ran.stderr.contains(word), "{word:?} in {ran:#?}");
        }
        assert!(ran.stderr.contains("\nhint: "), "{ran:#?}");
        assert_nothing_left(&p, &ran);
    }
    let dir = p.top().join("home");
    let ran = p.aj(["exec", "--ro", dir.to_str().unwrap(), "--", tool]);
    assert_eq!(ran.code, Some(0), "the way that was named: {ran:#?}");
}

#[test]
fn a_word_too_long_for_a_name_is_told_as_that() {
    let p = Project::new();
    for word in ["x".repeat(120_000), "x".repeat(300), format!("/{}", "y/".repeat(3000))] {
        let ran = p.aj(["exec", "--", &word]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(126), ""), "{} bytes", word.len());
        assert!(ran.stderr.contains("(ENAMETOOLONG)") && ran.stderr.len() < 600, "{}", ran.stderr);
        assert!(ran.stderr.contains("hint: check the words after `--`"), "{}", ran.stderr);
    }
    // A name that could be one, and is not there.
    let ran = p.aj(["exec", "--", &format!("./{}", "z/".repeat(1500))]);
    assert!(ran.code == Some(127) && ran.stderr.len() < 600, "{}", ran.stderr);
}

#[test]
fn bytes_that_are_not_text_pass_through() {
    let p = Project::new();
    let run = |words: &[OsString]| {
        let mut all: Vec<OsString> = vec!["exec".into()];
        all.extend_from_slice(words);
        p.command(aj()).args(all).output().unwrap()
    };
    let odd: Vec<u8> = (1..=255).collect();
    let argument = os(&odd).to_owned();
    let out = run(&["--".into(), "printf".into(), "%s".into(), argument.clone()]);
    assert_eq!(out.stdout, odd, "{out:?}");
    let mut variable = OsString::from("ODD=");
    variable.push(&argument);
    let out =
        run(&["-e".into(), variable, "--".into(), "sh".into(), "-c".into(), "printf %s \"$ODD\"".into()]);
    assert_eq!(out.stdout, odd, "{out:?}");
    // By inheritance, too.
    let out = p
        .command(aj())
        .args(["exec", "-e", "ODD", "--", "sh", "-c", "printf %s \"$ODD\""])
        .env("ODD", &argument)
        .output();
    assert_eq!(out.unwrap().stdout, odd);
    let name = os(b"\xff\xfe \n\x1b[31m'\"\\");
    std::fs::write(p.dir().join(name), "content").unwrap();
    let out = run(&["--".into(), "cat".into(), name.to_owned()]);
    assert_eq!(out.stdout, b"content", "{out:?}");
    let program = p.script("run", "#!/bin/sh\nprintf ran");
    std::fs::rename(program, p.dir().join(os(b"run\xff"))).unwrap();
    let out = run(&["--".into(), os(b"./run\xff").to_owned()]);
    assert_eq!(out.stdout, b"ran", "{out:?}");
    let out = run(&["--".into(), os(b"no\xff").to_owned()]);
    assert!(String::from_utf8(out.stderr).unwrap().contains("`no\\xff`"));
}

/// Runs `aj exec -- sh -c 'echo $#' x…` with this many arguments of 16 bytes.
fn many(p: &Project, count: usize) -> std::io::Result<Ran> {
    let mut command = p.command(aj());
    command.args(["exec", "--", "sh", "-c", "echo $#", "sh"]);
    command.args((0..count).map(|n| format!("{n:015}")));
    Ok(Ran::from(command.output()?))
}

#[test]
fn as_many_arguments_as_the_kernel_takes_and_one_word_about_more() {
    let p = Project::new();
    assert_eq!(many(&p, 20_000).unwrap().stdout, "20000\n");
    // The largest number that the kernel lets us give to aj itself; the jail's environment is another
    // one, so that the command's own limit is somewhere near.
    let (mut works, mut fails) = (20_000, 400_000);
    while fails - works > 1 {
        let middle = (works + fails) / 2;
        let mut probe = p.command("true");
        probe.args(["exec", "--", "sh", "-c", "echo $#", "sh"]);
        probe.args((0..middle).map(|n| format!("{n:015}")));
        match probe.output() {
            Ok(_) => works = middle,
            Err(e) => {
                assert_eq!(e.raw_os_error(), Some(libc::E2BIG), "{e}");
                fails = middle;
            }
        }
    }
    let mut answers = Vec::new();
    for count in [works - 300, works - 20, works - 5] {
        let Ok(ran) = many(&p, count) else { continue };
        if ran.code == Some(0) {
            assert_eq!(ran.stdout, format!("{count}\n"), "{:.500}", ran.stderr);
        } else {
            assert_refused(
                &Ran { stdout: ran.stdout, stderr: ran.stderr, code: ran.code },
                &["E2BIG", "in a file or on stdin"],
            );
        }
        answers.push(ran.code);
    }
    assert!(!answers.is_empty());
    // One argument may have 128 KiB, inside as outside.
    let long = "x".repeat(131_000);
    let ran = p.aj(["exec", "--", "sh", "-c", "echo ${#1}", "sh", &long]);
    assert_eq!(ran.stdout, "131000\n", "{:.500}", ran.stderr);
}

#[test]
fn an_environment_too_large_for_the_command_is_named() {
    let p = Project::new();
    // Passed by name, so that aj's own arguments stay small: what the kernel takes once it may not
    // take twice, because the jail adds variables of its own.
    let mut command = p.command(aj());
    command.arg("exec");
    for n in 0..15 {
        let name = format!("LC_{n:02}");
        command.env(&name, "x".repeat(130_000));
    }
    command.args(["--", "sh", "-c", "echo ${#LC_00}"]);
    match command.output() {
        Ok(out) => {
            let ran = Ran::from(out);
            if ran.code == Some(0) {
                assert_eq!(ran.stdout, "130000\n");
            } else {
                assert_refused(&ran, &["E2BIG"]);
            }
        }
        Err(e) => assert_eq!(e.raw_os_error(), Some(libc::E2BIG)),
    }
}

#[test]
fn the_first_word_of_the_command_is_what_the_user_gave() {
    let p = Project::new();
    // Like `exec -a`: programs such as busybox look at it.
    let out =
        p.command(aj()).arg0("other-name").args(["exec", "--", "sh", "-c", "echo $0"]).output().unwrap();
    assert_eq!(out.stdout, b"sh\n", "{out:?}");
}
