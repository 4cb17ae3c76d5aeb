//! Set-id programs that are on the host already, in what a jail may write for real.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::probe::{Ground, is_root, run, skip};

/// Mode, and whether a byte was put into it.
fn state(path: &Path) -> (u32, bool) {
    (std::fs::metadata(path).unwrap().mode() & 0o7777, std::fs::read(path).unwrap()[0] == b'!')
}

/// A store through a shared mapping takes no bit from a file as write(2) does: a program of root's
/// with content of the jail's would be the host's next time somebody runs it.
#[test]
fn a_set_id_program_of_the_host_cannot_be_written_or_replaced() {
    if !is_root() {
        skip("a jail of an ordinary user gets no more over a set-id file than that user has");
        return;
    }
    let Some(ground) = Ground::new() else { return };
    let elsewhere = ground.path("elsewhere");
    let make =
        "rm -rf suid sgid plain cap d && mkdir d && for f in suid sgid plain cap; do cp probe $f; done &&
        chmod 4755 suid && chmod 2755 sgid && ln suid d/hard";
    let make_in = |dir: &str| {
        let script = format!("mkdir -p {dir} && cp probe {dir} ; cd {dir} && {make}");
        assert!(ground.program("sh").args(["-c", &script]).status().unwrap().success());
        Command::new("setcap")
            .arg("cap_net_raw+ep")
            .arg(format!("{dir}/cap"))
            .status()
            .is_ok_and(|s| s.success())
    };
    for (dir, flags) in [(ground.ws.to_str().unwrap(), vec!["--rw"]), (&elsewhere, vec!["--rw", &elsewhere])]
    {
        let capable = make_in(dir);
        if !capable {
            skip("capabilities cannot be given to files here");
        }
        let at = |name: &str| format!("{dir}/{name}");
        let [suid, sgid, hard, moved, plain, cap] =
            ["suid", "sgid", "d/hard", "e/hard", "plain", "cap"].map(at);
        let mut protected = vec![suid.as_str(), &sgid, &hard];
        protected.extend(capable.then_some(cap.as_str()));
        let store = [&["store"][..], &protected, &[&plain]].concat();
        let said = ground.jail(&flags, &store);
        said.expect("EROFS", &protected);
        said.expect("ok", &[&plain]);
        let count = protected.len();
        assert!(said.stderr.contains(&format!("aj: warning: {count} set-id programs")), "{said:?}");
        // Not by another name either, nor by moving what is around it; and it can be run.
        let script = format!(
            "cd {dir} && for c in 'mv suid x' 'ln suid x' 'rm suid' 'mv plain suid' 'chmod 755 suid' \
             'mv -T d/hard suid' 'rm -r d'; do $c 2>/dev/null && echo \"done: $c\"; done
             mv d e && ./probe store {moved}; mv e d; ./suid open plain"
        );
        let said = run(&mut ground.aj(&flags, ["sh", "-c", &script]));
        assert_eq!(said.stdout, format!("{moved}: EROFS\nplain: ok\n"), "{said:?}");
        for path in &protected {
            let mode = if *path == sgid {
                0o2755
            } else if *path == cap {
                0o755
            } else {
                0o4755
            };
            assert_eq!(state(Path::new(path)), (mode, false), "{path}");
        }
        // Teeth: without the mounts over them, the bit and the content of the jail are both there.
        let Some(said) = ground.jail_without("setid_cover", &flags, &store) else { return };
        said.expect("ok", &protected);
        assert_eq!(state(Path::new(&suid)), (0o4755, true));
        assert_eq!(state(Path::new(&sgid)), (0o2755, true));
    }
    // What is shown in its place, or not seen, is no obstacle.
    let plain = 2 + usize::from(make_in(&elsewhere));
    let [d, suid] = ["d", "suid"].map(|name| format!("{elsewhere}/{name}"));
    for flags in [["--ro", &d, "--rw", &elsewhere], ["--rw", &d, "--rw", &elsewhere]] {
        let hard = format!("{d}/hard");
        let said = ground.jail(&flags, &["store", &suid, &hard]);
        said.expect("EROFS", &[&suid, &hard]);
        let count = if flags[0] == "--ro" { plain } else { plain + 1 };
        assert!(said.stderr.contains(&format!("aj: warning: {} set-id", count)), "{said:?}");
    }
    // Asked for by its own name it is not shown at all.
    let said = run(&mut ground.aj(&["--rw", &suid], ["true"]));
    assert_eq!(said.code, Some(125), "{said:?}");
    assert!(said.stderr.contains("is a set-id program, which no jail may write"), "{said:?}");
}

/// Nothing is looked for where nothing can be written.
#[test]
fn set_id_programs_are_nobodys_business_in_an_overlay() {
    let Some(ground) = Ground::new() else { return };
    let made = ground.program("sh").args(["-c", "cp probe suid && chmod 4755 suid"]).status().unwrap();
    assert!(made.success());
    for flags in [&[][..], &["--ro"]] {
        let said = run(&mut ground.aj(flags, ["sh", "-c", "./probe store ./suid; stat -c %a suid"]));
        assert!(!said.stderr.contains("set-id"), "{said:?}");
        assert_eq!(state(&ground.ws.join("suid")), (0o4755, false));
    }
}
