//! What a jail plants: it can neither redirect nor hang nor deface whoever looks from outside.

use std::time::{Duration, Instant};

use super::{after, fails, json};
use crate::real::project::{Project, has, os};

/// Longer than anything here takes on a loaded machine, and shorter than for ever.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn links_fifos_and_sockets_are_never_followed_nor_opened() {
    let Some(p) = Project::in_jails() else { return };
    let secret = p.top().join("secret");
    std::fs::write(&secret, "hunter2\n").unwrap();
    let script = format!(
        "ln -s {0} abs; ln -s ../secret rel; ln -s {1} dir; ln -s /proc/self/root root; mkfifo fifo; \
         mkdir d; mkfifo d/.gitignore; \
         python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")' 2>/dev/null || true",
        secret.display(),
        p.top().display()
    );
    after(&p, &script);
    // Teeth: by their names they lead there.
    let upper = p.trees().into_iter().map(|t| t.join("upper")).find(|u| u.join("abs").is_symlink()).unwrap();
    assert_eq!(std::fs::read_to_string(upper.join("abs")).unwrap(), "hunter2\n");
    let began = Instant::now();
    for path in ["abs", "rel", "dir/secret", "root/etc/passwd"] {
        fails(&p.aj(["fs", "cat", "@", path]), 4, "leads out of the workspace");
        fails(&p.aj(["cp", &format!("@:{path}"), "-"]), 4, "leads out of the workspace");
        fails(&super::fed(&p, ["fs", "write", "@", path], b"x"), 4, "leads out of the workspace");
        assert_eq!(p.aj(["fs", "test", "@", path]).code, Some(1));
    }
    fails(&p.aj(["fs", "cat", "@", "fifo"]), 1, "is a fifo");
    fails(&p.aj(["fs", "list", "@", "dir"]), 4, "leads out of the workspace");
    assert_eq!(p.aj(["search", "@", "hunter2"]).code, Some(1));
    let out = p.top().join("out");
    let copied = p.aj(["cp", "-r", "@:.", out.to_str().unwrap(), "--json"]);
    assert_eq!(copied.code, Some(0), "{copied:#?}");
    let sum = json(&copied);
    assert_eq!(
        (&sum["links"], &sum["leading_out"], &sum["files"]),
        (&4.into(), &4.into(), &0.into()),
        "{sum:#}"
    );
    assert!(copied.stderr.contains("links that lead out of what was copied: 4"), "{copied:#?}");
    // A second copy over the first does not go through what the first one brought.
    after(&p, "mkdir -p dir abs; echo evil > dir/planted; echo evil > abs/x");
    let again = p.aj(["cp", "-r", "@:.", out.join("p").to_str().unwrap()]);
    assert!(matches!(again.code, Some(0 | 6)), "{again:#?}");
    after(&p, "mkdir dir2");
    let inner = p.top().join("again");
    std::fs::create_dir(&inner).unwrap();
    std::os::unix::fs::symlink(p.top(), inner.join("d")).unwrap();
    after(&p, "mkdir d; echo evil > d/planted");
    let ran = p.aj(["cp", "-r", "@:.", &format!("{}/.", inner.display())]);
    assert!(matches!(ran.code, Some(1 | 6)), "a link is in the way: {ran:#?}");
    let ran = p.aj(["cp", "-r", "@:d", inner.to_str().unwrap()]);
    assert!(matches!(ran.code, Some(1 | 6)), "a link is in the way: {ran:#?}");
    assert!(!p.top().join("planted").exists(), "nothing was written through a link");
    // Removing a link removes the link.
    after(&p, "ln -s ../secret l");
    p.runs(&["fs", "rm", "@", "-r", "l"]);
    assert!(secret.exists());
    assert!(began.elapsed() < LONG, "{:?}", began.elapsed());
}

#[test]
fn names_and_contents_cannot_control_a_terminal() {
    let Some(p) = Project::in_jails() else { return };
    if !has("python3") {
        return;
    }
    let script = "import os\n\
        esc = b'\\x1b]52;c;ZXZpbA==\\x07'\n\
        for name in [esc, b'a\\nfake line', b'\\xff\\xfe', '\u{202e}gpj.exe'.encode(), b'x' * 255, b'-rf']:\n\
        \x20   open(name, 'wb').write(esc + b'\\n')\n\
        os.symlink(b'target\\x1b[2J', b'link')\n";
    p.write("plant.py", script);
    after(&p, "python3 plant.py");
    let clean = |text: &str| !text.contains('\x1b') && !text.contains('\u{202e}') && !text.contains('\x07');
    let runs: &[&[&str]] = &[
        &["fs", "list", "@"],
        &["fs", "list", "@", "-la"],
        &["fs", "list", "@", "--json"],
        &["search", "@", "52"],
        &["search", "@", "--json", "52"],
        &["cp", "-r", "@:.", "out"],
    ];
    for words in runs {
        let ran = p.aj(*words);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        assert!(clean(&ran.stdout) && clean(&ran.stderr), "{ran:#?}");
    }
    // Into the directory that the tree lies over: what comes out is not copied again.
    assert!(p.dir().join("out").is_dir() && !p.dir().join("out/out").exists());
    // One entry is one line, and what is escaped can be had as it is.
    let list = p.runs(&["fs", "list", "@"]);
    assert_eq!(list.stdout.lines().count(), 9, "{list:#?}");
    let raw = p.command(crate::common::aj()).args(["fs", "list", "@", "-z"]).output().unwrap().stdout;
    assert!(raw.split(|b| *b == 0).any(|name| name == b"\x1b]52;c;ZXZpbA==\x07"));
    let odd = p.command(crate::common::aj()).args(["fs", "cat", "@"]).arg(os(b"\xff\xfe")).output().unwrap();
    assert_eq!(odd.stdout, b"\x1b]52;c;ZXZpbA==\x07\n", "a pipe gets the bytes");
    for words in [&["fs", "rm", "@", "--"][..], &["fs", "stat", "@", "--"]] {
        assert_eq!(p.aj([words, &["-rf"]].concat()).code, Some(0).filter(|_| words[1] == "rm").or(Some(3)));
    }
    // On a terminal nothing of it arrives.
    if !has("script") {
        return;
    }
    let mut command = p.command("script");
    let quoted = format!("'{}' fs cat @ {}", crate::common::aj().display(), "x".repeat(255));
    command.args(["-qec", &quoted, "/dev/null"]);
    let shown = command.output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("\\x1b]52;c;") && clean(&shown), "{shown:?}");
}

#[test]
fn huge_and_endless_things_cost_what_they_take_on_the_disk() {
    let Some(p) = Project::in_jails() else { return };
    let script = "truncate -s 7E huge 2>/dev/null || truncate -s 15T huge; printf x > tail; truncate -s 4G tail; \
                  mkdir many; cd many; i=0; while [ $i -lt 20000 ]; do : > $i; i=$((i+1)); done";
    after(&p, script);
    let began = Instant::now();
    let stat = json(&p.runs(&["fs", "stat", "@", "huge", "--json"]));
    assert!(
        stat["size"].as_u64().unwrap() >= 15 << 40 && stat["allocated"].as_u64().unwrap() < 1 << 20,
        "{stat}"
    );
    let end = p.runs(&["fs", "cat", "@", "huge", "--range", "-4:"]);
    assert_eq!(end.stdout, "\0\0\0\0");
    assert_eq!(p.aj(["search", "@", "needle"]).code, Some(1), "a hole is a file with a NUL");
    let out = p.top().join("tail").to_str().unwrap().to_owned();
    p.runs(&["cp", "@:tail", &out]);
    let meta = std::fs::metadata(&out).unwrap();
    let blocks = std::os::unix::fs::MetadataExt::blocks(&meta);
    assert_eq!((meta.len(), blocks < 1000), (4 << 30, true), "holes stay holes");
    let stream = p.aj(["cp", "-r", "@:.", "-", "--exclude", "many"]);
    assert_eq!(
        (stream.code, stream.stdout.len() < 1 << 20),
        (Some(0), true),
        "holes are no part of an archive"
    );
    let plain = p.aj(["cp", "@:huge", "-"]);
    assert!(plain.code == Some(2) && plain.stderr.contains("holes of more than 1 GiB"), "{plain:#?}");
    let document = p.aj(["fs", "cat", "@", "huge", "--json"]);
    assert!(document.code == Some(2) && document.stderr.contains("longer than a JSON"), "{document:#?}");
    assert_eq!(p.runs(&["fs", "list", "@", "many"]).stdout.lines().count(), 20_000);
    p.runs(&["fs", "mv", "@", "huge", "moved"]);
    p.runs(&["fs", "rm", "@", "-r", "many"]);
    assert!(began.elapsed() < LONG, "{:?}", began.elapsed());
}

#[test]
fn attributes_that_a_jail_sets_mean_nothing_to_the_view() {
    let Some(p) = Project::in_jails() else { return };
    if !has("setfattr") {
        return;
    }
    p.write("d/f", "of the base\n");
    p.runs(&["workspace", "create", "w", "--from-dir", "."]);
    let script = "setfattr -n user.overlay.opaque -v y d 2>/dev/null; \
        : > d/empty; setfattr -n user.overlay.whiteout -v y d/empty 2>/dev/null; \
        setfattr -n user.overlay.redirect -v /etc d 2>/dev/null; \
        cd ~; mkdir h; echo x > h/f; : > h/e; setfattr -n user.overlay.opaque -v x h; \
        setfattr -n user.overlay.whiteout -v y h/e; setfattr -n user.mine -v 1 h/f; true";
    assert_eq!(p.aj(["exec", "-q", "w", "--", "sh", "-c", script]).code, Some(0));
    assert_eq!(p.runs(&["fs", "list", "w", "d"]).stdout, "empty\nf\n");
    assert_eq!(p.runs(&["fs", "list", "w", "/home/agent/h"]).stdout, "e\nf\n");
    // And what inside says is the same.
    let inside = p.aj(["exec", "-q", "w", "--", "sh", "-c", "ls d ~/h"]);
    assert!(inside.stdout.contains("empty\nf") && inside.stdout.contains("e\nf"), "{inside:#?}");
}

#[test]
fn a_tree_that_changes_while_it_is_read_is_read_to_an_end() {
    let Some(p) = Project::in_jails() else { return };
    let outside = p.top().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "hunter2\n").unwrap();
    let script = format!(
        "mkdir d; echo a > d/a; ln -s {} away; echo ready; \
         while [ ! -e stop ]; do mv d t; mv away d; mv d away; mv t d; rm -rf x; mkdir -p x/y; echo z > x/y/z; done",
        outside.display()
    );
    let mut run = p.command(crate::common::aj());
    run.args(["exec", "-q", "--timeout", "60s", "--", "sh", "-c", &script])
        .stdout(std::process::Stdio::piped());
    let mut run = crate::yard::Running::start(&mut run);
    assert_eq!(run.first_line().0, "ready");
    for n in 0..25 {
        for words in
            [&["fs", "list", "@", "-R"][..], &["fs", "cat", "@", "d/secret"], &["search", "@", "hunter2"]]
        {
            let ran = p.aj(words);
            assert!(matches!(ran.code, Some(0 | 1 | 3 | 4 | 6)), "{ran:#?}");
            assert!(!ran.stdout.contains("hunter2") && !ran.stdout.contains("secret"), "{ran:#?}");
        }
        let out = p.top().join(format!("out{n}"));
        let ran = p.aj(["cp", "-r", "@:.", out.to_str().unwrap()]);
        assert!(matches!(ran.code, Some(0 | 1 | 6)), "{ran:#?}");
        assert!(!out.join("d/secret").is_file() || out.join("d").is_symlink());
    }
}
