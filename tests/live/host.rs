//! A workspace whose jail may write to directories of the host's, or has a volume: its filter has no `openat2`, and
//! commands and changes from outside work in it all the same, with the jail's rights and no more.

use std::process::Stdio;

use super::files::{does, fails, finds, started};
use super::{Shared, python};
use crate::yard::{Running, said, skip};

/// A workspace with a directory of the host's that it may write, beside its own.
fn with_more() -> Option<(Shared, tempfile::TempDir)> {
    let more = tempfile::tempdir().unwrap();
    let shared = started(&["--rw", more.path().to_str().unwrap()])?;
    Some((shared, more))
}

#[test]
fn a_jail_that_writes_to_the_host_is_joined_and_changed_as_any_other() {
    let Some((shared, more)) = with_more() else { return };
    std::fs::create_dir_all(shared.yard.ws.join("base/deep")).unwrap();
    std::fs::write(shared.yard.ws.join("base/deep/f"), "of the host\n").unwrap();
    does(&shared, &["fs", "write", "api", "notes/a", "--mode", "750"], b"one\n");
    does(&shared, &["fs", "write", "api", "notes/a", "--append"], b"two\n");
    assert_eq!(shared.sh("cat notes/a; stat -c '%a %U' notes/a notes"), "one\ntwo\n750 agent\n755 agent\n");
    // Of the layer below, which the kernel will not rename.
    does(&shared, &["fs", "mv", "api", "base", "moved"], b"");
    does(&shared, &["fs", "replace", "api", "host", "jail", "moved/deep/f"], b"");
    does(&shared, &["fs", "mkdir", "api", "-p", "x/y"], b"");
    does(&shared, &["fs", "rm", "api", "-r", "x"], b"");
    let from = shared.yard.path("from");
    std::fs::create_dir_all(from.join("sub")).unwrap();
    std::fs::write(from.join("sub/one"), "1").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", from.join("away")).unwrap();
    does(&shared, &["cp", "-r", from.to_str().unwrap(), "api:in"], b"");
    does(&shared, &["cp", "-", "api:/home/agent/s"], &vec![7; 300_000]);
    assert_eq!(
        shared.sh("cat moved/deep/f in/sub/one; readlink in/away; wc -c < ~/s"),
        "of the jail\n1/etc/passwd\n300000\n"
    );
    finds(
        &shared,
        "./in ./in/away ./in/sub ./in/sub/one ./moved ./moved/deep ./moved/deep/f ./notes ./notes/a",
    );
    assert_eq!(std::fs::read_dir(more.path()).unwrap().count(), 0);
    // A command begins where it is told to, through links of the tree as well, and never through those of /proc.
    shared.sh("mkdir -p d/e && ln -s d/e short && ln -s /proc/self/cwd loop");
    let at = |dir: &str| said(&mut shared.exec(&["--cwd", dir], ["pwd", "-P"]));
    let there = at("short");
    assert!(there.fate == 0 && there.out.ends_with("/d/e\n"), "{there:#?}");
    let nowhere = at("loop");
    assert!(nowhere.fate == 125 && nowhere.err.contains("ELOOP"), "{nowhere:#?}");
}

#[test]
fn links_that_are_swapped_in_never_lead_out_of_the_workspace() {
    let Some((shared, _more)) = with_more() else { return };
    if !python() {
        return skip("no python3");
    }
    // A directory, and a link to one outside in its place, as fast as the kernel can exchange them.
    let swap = "
import ctypes, os, time
os.makedirs('d/e', exist_ok=True)
os.makedirs('/tmp/prey')
os.symlink('/tmp/prey', 'l')
c = ctypes.CDLL(None, use_errno=True)
print('up', flush=True)
end = time.time() + 12
while time.time() < end:
    for _ in range(1000):
        c.renameat2(-100, b'd', -100, b'l', 2)
";
    let mut swapper = shared.exec(&["--timeout", "14s"], ["python3", "-c", swap]);
    let mut swapper = Running::start(swapper.stdout(Stdio::piped()).stderr(Stdio::null()));
    assert_eq!(swapper.first_line().0, "up");
    let tar = shared
        .yard
        .sh("mkdir -p t/d/e && echo evil > t/d/e/x && echo evil > t/d/y && tar -C t -cf t.tar d")
        .status();
    assert!(tar.unwrap().success());
    let (mut came, mut began) = (0, std::time::Instant::now());
    while began.elapsed() < std::time::Duration::from_secs(8) {
        let round = [
            "echo x | \"$AJ\" fs write api d/f",
            "\"$AJ\" fs mkdir api -p d/e/g",
            "\"$AJ\" cp -r - api:. < t.tar",
            "\"$AJ\" fs rm api -r d/e/g",
        ];
        for words in round {
            came += i32::from(said(&mut shared.yard.sh(words)).fate == 0);
        }
        // At least some of each.
        began -= std::time::Duration::from_millis(50);
    }
    drop(swapper);
    assert_eq!(shared.sh("ls -A /tmp/prey"), "", "written through a link");
    assert!(came > 0, "nothing was ever written, so nothing is shown");
    // Teeth: by its path the same does land there.
    shared.sh("ln -sfn /tmp/prey way && echo x > way/f && test -f /tmp/prey/f");
}

#[test]
fn what_a_filter_refuses_to_such_a_jail_it_refuses_to_changes_from_outside() {
    let Some((shared, _more)) = with_more() else { return };
    does(&shared, &["fs", "write", "api", "f", "--mode", "755"], b"#!/bin/sh\n");
    fails(&shared, &["fs", "write", "api", "g", "--mode", "4755"], 2, "mode");
    // A directory whose bit would be inherited.
    std::fs::create_dir(shared.yard.ws.join("team")).unwrap();
    let set = std::process::Command::new("chmod").arg("2775").arg(shared.yard.ws.join("team")).status();
    assert!(set.unwrap().success());
    does(&shared, &["fs", "mkdir", "api", "team/new"], b"");
    assert_eq!(shared.sh("test -d team/new && test ! -u f && echo there"), "there\n");
}
