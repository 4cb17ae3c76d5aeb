//! `aj fs` and `aj cp` into a workspace whose jail runs: the jail changes its own files, and nothing that it
//! plants makes it do what it could not have done anyway, hang, or say what is not so.

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::{Shared, python};
use crate::yard::{Running, Said, eventually, said, skip};

/// A workspace whose jail runs and stays.
pub(super) fn started(settings: &[&str]) -> Option<Shared> {
    let shared = Shared::new(settings)?;
    let started = shared.ws("start", &[]);
    assert_eq!(started.fate, 0, "{started:#?}");
    Some(shared)
}

/// `aj` with these words and this on stdin.
pub(super) fn fed(shared: &Shared, words: &[&str], stdin: &[u8]) -> Said {
    let mut aj = shared.aj(words);
    let mut aj = aj.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that refuses does not read.
    aj.stdin.take().unwrap().write_all(stdin).ok();
    let out = aj.wait_with_output().unwrap();
    Said {
        fate: crate::yard::fate(out.status),
        out: String::from_utf8_lossy(&out.stdout).into_owned(),
        err: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

#[track_caller]
pub(super) fn does(shared: &Shared, words: &[&str], stdin: &[u8]) -> Said {
    let ran = fed(shared, words, stdin);
    assert_eq!(ran.fate, 0, "{words:?}: {ran:#?}");
    ran
}

#[track_caller]
pub(super) fn fails(shared: &Shared, words: &[&str], code: i32, why: &str) {
    let ran = fed(shared, words, b"x");
    assert_eq!((ran.fate, ran.out.as_str()), (code, ""), "{words:?}: {ran:#?}");
    assert!(ran.err.contains("aj: error: ") && ran.err.contains(why), "no {why:?}: {ran:#?}");
}

/// What the jail sees, and nothing of ours left beside it.
#[track_caller]
pub(super) fn finds(shared: &Shared, wanted: &str) {
    assert_eq!(shared.sh("find . -mindepth 1 -not -name life | LC_ALL=C sort | tr '\\n' ' '").trim(), wanted);
}

#[test]
fn what_is_changed_from_outside_is_there_at_once_and_stays() {
    let Some(shared) = started(&[]) else { return };
    std::fs::create_dir_all(shared.yard.ws.join("base/deep")).unwrap();
    std::fs::write(shared.yard.ws.join("base/deep/f"), "of the host\n").unwrap();
    does(&shared, &["fs", "write", "api", "notes/a", "--mode", "750"], b"one\n");
    does(&shared, &["fs", "write", "api", "notes/a", "--append"], b"two\n");
    assert_eq!(shared.sh("cat notes/a; stat -c '%a %U' notes/a notes"), "one\ntwo\n750 agent\n755 agent\n");
    let hash = blake3::hash(b"one\ntwo\n").to_hex().to_string();
    fails(&shared, &["fs", "write", "api", "notes/a", "--if-hash", "absent"], 5, "is not what it was taken");
    does(&shared, &["fs", "write", "api", "notes/a", "--if-hash", &hash], b"three\n");
    does(&shared, &["fs", "mkdir", "api", "-p", "x/y", "--mode", "700"], b"");
    // Of the layer below, which the kernel will not rename.
    does(&shared, &["fs", "mv", "api", "base", "x/moved"], b"");
    let replaced = does(&shared, &["fs", "replace", "api", "host", "jail", "x/moved/deep/f"], b"");
    assert_eq!(replaced.out, "1\tx/moved/deep/f\n");
    assert_eq!(shared.sh("cat x/moved/deep/f"), "of the jail\n");
    fails(&shared, &["fs", "rm", "api", "x"], 1, "is not empty");
    does(&shared, &["fs", "rm", "api", "-r", "x"], b"");
    // As in a workspace at rest, directories that nobody may write to go as well; what links lead to stays.
    shared.sh(
        "mkdir -p shut/in ~/kept; touch shut/in/f; ln -s ~/kept shut/in/l; chmod 555 ~/kept shut/in shut",
    );
    std::fs::create_dir_all(shared.yard.ws.join("below/in")).unwrap();
    std::fs::write(shared.yard.ws.join("below/in/f"), "of the host\n").unwrap();
    for dir in ["below/in", "below"] {
        let bits = std::os::unix::fs::PermissionsExt::from_mode(0o555);
        std::fs::set_permissions(shared.yard.ws.join(dir), bits).unwrap();
    }
    does(&shared, &["fs", "rm", "api", "-r", "shut", "below"], b"");
    assert_eq!(shared.sh("stat -c %a ~/kept; chmod 755 ~/kept; rmdir ~/kept"), "555\n");
    does(&shared, &["fs", "write", "api", "/home/agent/h"], b"h");
    does(&shared, &["fs", "write", "api", "/workspace/w"], b"w");
    fails(&shared, &["fs", "write", "api", "/etc/hosts"], 4, "is not a part of the workspace");
    fails(&shared, &["fs", "rm", "api", "none"], 3, "no `none`");
    finds(&shared, "./notes ./notes/a ./w");
    assert_eq!(shared.ws("stop", &[]).fate, 0);
    assert_eq!(shared.sh("cat notes/a ~/h w; test -e base || echo gone"), "three\nhwgone\n");
    assert_eq!(std::fs::read_to_string(shared.yard.ws.join("base/deep/f")).unwrap(), "of the host\n");
}

#[test]
fn directories_and_streams_are_copied_into_a_jail_that_runs() {
    let Some(shared) = started(&[]) else { return };
    let from = shared.yard.path("from");
    std::fs::create_dir_all(from.join("sub")).unwrap();
    std::fs::write(from.join("sub/one"), "1").unwrap();
    std::fs::write(from.join("left.tmp"), "1").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", from.join("away")).unwrap();
    nix::unistd::mkfifo(&from.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::write(from.join("x".repeat(255)), "long").unwrap();
    let text = from.to_str().unwrap();
    let ran = does(&shared, &["cp", "-r", text, "api:.", "--exclude", "*.tmp", "--json"], b"");
    let sum: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (&sum["files"], &sum["directories"], &sum["links"], &sum["skipped"][0]["path"]),
        (&2.into(), &2.into(), &1.into(), &"fifo".into()),
        "{sum:#}"
    );
    let long = "x".repeat(255);
    assert_eq!(
        shared.sh("cd from; readlink away; cat sub/one; for f in x*; do echo; cat $f; done; ls | wc -l"),
        "/etc/passwd\n1\nlong3\n"
    );
    // Times are those of the host, to the nanosecond.
    let time = |path: &std::path::Path| {
        let ran = std::process::Command::new("stat").args(["-c", "%y"]).arg(path).output().unwrap();
        String::from_utf8(ran.stdout).unwrap().replace(" +0000", "")
    };
    let inside = shared.sh(&format!("TZ=UTC stat -c %y from/sub from/{long}")).replace(" +0000", "");
    assert_eq!(inside, time(&from.join("sub")) + &time(&from.join(&long)));
    std::fs::write(from.join("sub/one"), "2").unwrap();
    does(&shared, &["cp", "-r", "--no-clobber", &format!("{text}/."), "api:from"], b"");
    assert_eq!(shared.sh("cat from/sub/one from/left.tmp"), "11");
    does(&shared, &["cp", &format!("{text}/sub/one"), "api:from/sub", "--mode", "600"], b"");
    assert_eq!(shared.sh("cat from/sub/one; stat -c %a from/sub/one"), "2600\n");
    does(&shared, &["cp", "-", "api:/output/s"], &vec![7; 3_000_000]);
    assert_eq!(shared.sh("wc -c < /output/s"), "3000000\n");
    fails(&shared, &["cp", text, "api:."], 2, "`-r` copies it");
    let pair = format!("tar -C '{text}' -c sub | \"$AJ\" cp -r - api:import");
    assert_eq!(said(&mut shared.yard.sh(&pair)).fate, 0);
    assert_eq!(shared.sh("cat import/sub/one"), "2");
}

#[test]
fn what_a_jail_plants_redirects_nothing_and_hangs_nobody() {
    let Some(shared) = started(&[]) else { return };
    let secret = shared.yard.path("secret");
    std::fs::write(&secret, "hunter2\n").unwrap();
    shared.sh(&format!(
        "ln -s {} abs; ln -s ../secret rel; ln -s / root; ln -s /proc/self/fd fds; mkfifo fifo; mkdir real; \
         ln -s real in; touch real/f; mkfifo real/fifo; ln -s /home/agent home",
        secret.display()
    ));
    let began = Instant::now();
    for path in ["abs", "rel", "root/etc/hosts", "fds/3", "fds/9/x"] {
        fails(&shared, &["fs", "write", "api", path], 4, "leads out of the workspace");
        fails(&shared, &["cp", "-", &format!("api:{path}")], 4, "leads out of the workspace");
    }
    for words in [&["fs", "mkdir", "api", "root/tmp/d"][..], &["fs", "rm", "api", "root/etc/hosts"]] {
        fails(&shared, words, 4, "leads out of the workspace");
    }
    fails(&shared, &["fs", "write", "api", "fifo"], 1, "is a fifo");
    let replaced = fed(&shared, &["fs", "replace", "api", "a", "b", "fifo", "real/fifo", "abs"], b"");
    assert_eq!(replaced.fate, 1, "{replaced:#?}");
    fails(&shared, &["cp", "-r", "-", "api:fifo"], 1, "is not a directory");
    does(&shared, &["fs", "write", "api", "in/f"], b"through a link that stays inside");
    does(&shared, &["fs", "write", "api", "home/f"], b"also one to another place");
    assert_eq!(shared.sh("cat real/f ~/f"), "through a link that stays insidealso one to another place");
    // A tar stream does not go through what the jail has planted.
    let tar = "mkdir -p t/abs t/root/etc && echo evil > t/root/etc/x && tar -C t -c root abs | \"$AJ\" cp -r - api:.";
    let ran = said(shared.yard.sh(tar).current_dir(shared.yard.path("")));
    assert!(matches!(ran.fate, 1 | 6), "{ran:#?}");
    does(&shared, &["fs", "rm", "api", "-r", "root", "abs"], b"");
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "hunter2\n");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[test]
fn a_stream_that_is_cut_short_is_never_taken_for_a_whole_one() {
    let Some(shared) = started(&[]) else { return };
    shared.sh("echo old > f");
    let mut aj = shared.aj(&["fs", "write", "api", "f"]);
    let mut aj = aj.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = aj.stdin.take().unwrap();
    stdin.write_all(&[b'n'; 200_000]).unwrap();
    // It is seen while it is made: under a name of its own, beside.
    let seen = || shared.sh("ls -A | grep -c '^\\.aj-' || true") == "1\n";
    assert!(eventually(Duration::from_secs(10), seen));
    fails(&shared, &["fs", "write", "api", "g"], 5, "is in use by another `aj`");
    aj.kill().unwrap();
    aj.wait().unwrap();
    let gone = || shared.sh("ls -A | grep -c '^\\.aj-' || true") == "0\n";
    assert!(eventually(Duration::from_secs(10), gone), "what was begun is taken away");
    assert_eq!(shared.sh("cat f; test -e g || echo none"), "old\nnone\n");
    does(&shared, &["fs", "write", "api", "f"], b"new\n");
    assert_eq!(shared.sh("cat f"), "new\n");
}

#[test]
fn a_jail_can_stop_who_changes_its_files_and_cannot_speak_for_it() {
    let Some(shared) = started(&[]) else { return };
    if !python() {
        return skip("no python3");
    }
    // Whatever appears in the jail gets this signal; its own ancestors excepted.
    let hunter = |signal: i32| {
        format!(
            "
import os, time
known = set(os.listdir('/proc'))
print('ready', flush=True)
end = time.time() + 15
while time.time() < end:
    for p in os.listdir('/proc'):
        if p.isdigit() and p not in known:
            try: os.kill(int(p), {signal})
            except OSError: pass
            try: open(f'/proc/{{p}}/mem').close(); print('read', flush=True)
            except OSError: pass
            try: print('fds', os.listdir(f'/proc/{{p}}/fd'), flush=True)
            except OSError: pass
"
        )
    };
    for (signal, why) in [(19, "stopped the process"), (9, "was killed")] {
        let mut hunter = shared.exec(&["--timeout", "14s"], ["python3", "-c", &hunter(signal)]);
        let mut hunter = Running::start(hunter.stdout(Stdio::piped()).stderr(Stdio::null()));
        let (ready, mut rest) = hunter.first_line();
        assert_eq!(ready, "ready");
        let mut aj = shared.aj(&["fs", "write", "api", "f"]);
        let mut aj = aj.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = aj.stdin.take().unwrap();
        stdin.write_all(&[b'n'; 200_000]).ok();
        // On a busy machine who hunts has few turns.
        std::thread::sleep(Duration::from_secs(2));
        // More than a pipe holds: who is stopped takes nothing.
        stdin.write_all(&[b'n'; 400_000]).ok();
        drop(stdin);
        let out = aj.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{err}");
        // Killed when it had all: then nobody can tell.
        let is_told = err.contains("has not done it") || signal == 9 && err.contains("is not known");
        assert!(is_told && err.contains(why), "{err}");
        drop(hunter);
        let mut seen = String::new();
        rest.read_to_string(&mut seen).unwrap();
        assert!(seen.is_empty(), "{seen}");
        // Who hunts is ended a moment after its `aj`.
        assert!(eventually(Duration::from_secs(10), || shared.shown()["live"]["commands"] == 0));
        assert_eq!(shared.sh("test -e f || echo none"), "none\n");
    }
}

#[test]
fn a_jail_that_wants_to_be_alone_is_told_of() {
    let Some(shared) = Shared::new(&[]) else { return };
    let mut alone = shared.exec(&["--exclusive"], ["sh", "-c", "echo up; sleep 60"]);
    let mut alone = Running::start(alone.stdout(Stdio::piped()));
    alone.first_line();
    fails(&shared, &["fs", "write", "api", "f"], 5, "is busy");
    assert_eq!(shared.ws("stop", &["--kill"]).fate, 0);
    let mut fleeting = shared.exec(&[], ["sh", "-c", "echo up; sleep 60"]);
    let mut fleeting = Running::start(fleeting.stdout(Stdio::piped()));
    fleeting.first_line();
    does(&shared, &["fs", "write", "api", "f"], b"f");
    finds(&shared, "./f");
}

/// A command may shut the workspace's top; those that come after it find it open to its owner.
#[test]
fn a_top_that_a_command_has_shut_is_opened_for_the_next() {
    let Some(shared) = started(&[]) else { return };
    for shut in ["chmod 0 .", "chmod 444 ."] {
        shared.sh(&format!("echo in > f; {shut}"));
        does(&shared, &["fs", "write", "api", "g"], b"new\n");
        shared.sh(shut);
        assert_eq!(shared.sh("cat f g; stat -c %A . | cut -c 2-4"), "in\nnew\nrwx\n");
    }
    // What is shut below it is the command's own business.
    shared.sh("mkdir d; chmod 0 d");
    let ran = said(&mut shared.exec(&["--cwd", "d"], ["true"]));
    assert!(ran.fate == 125 && ran.err.contains("EACCES"), "{ran:#?}");
    shared.sh("rmdir d");
}
