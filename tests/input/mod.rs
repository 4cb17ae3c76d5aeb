//! Bad input: what is refused says what, why and what to do, and leaves nothing behind; what only
//! looks bad works.

use std::ffi::OsStr;
use std::process::Command;

use crate::common::{Ran, aj};
use crate::real::project::{Project, is_root, snapshot};

mod arguments;
mod beyond;
mod directories;
mod hints;
mod mounts;
mod owners;
mod places;
mod process;
mod state;
mod views;

/// A run that aj must refuse: exit 125, nothing on stdout, one error that says all of `said`, one
/// way out at least, nothing left in the state directory and nothing changed in the project.
fn refused<S: AsRef<OsStr>>(p: &Project, words: impl IntoIterator<Item = S>, said: &[&str]) -> Ran {
    let mut command = p.command(aj());
    command.args(words);
    refuses(p, &mut command, said)
}

fn refuses(p: &Project, command: &mut Command, said: &[&str]) -> Ran {
    let before = snapshot(p.dir());
    let ran = Ran::from(command.output().unwrap());
    assert_refused(&ran, said);
    assert_eq!(before, snapshot(p.dir()), "{ran:#?}");
    assert_nothing_left(p, &ran);
    ran
}

fn assert_refused(ran: &Ran, said: &[&str]) {
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:#?}");
    assert_eq!(ran.stderr.matches("aj: error: ").count(), 1, "{ran:#?}");
    assert!(ran.stderr.starts_with("aj: error: "), "{ran:#?}");
    for word in said {
        assert!(ran.stderr.contains(word), "no {word:?} in {ran:#?}");
    }
    assert!(ran.stderr.contains("\nhint: "), "{ran:#?}");
    for bad in ["panicked", "internal error", "os error", "RUST_BACKTRACE", "\x1b"] {
        assert!(!ran.stderr.contains(bad), "{bad:?} in {ran:#?}");
    }
}

fn assert_nothing_left(p: &Project, ran: &Ran) {
    // A spare that waits for the next run is no tree of any jail.
    let left: Vec<_> = p
        .trees()
        .into_iter()
        .filter(|t| t.file_name().unwrap().to_string_lossy().starts_with("jl-"))
        .collect();
    assert!(left.is_empty(), "{left:?} after {ran:#?}");
}

/// Bash in a mount namespace of its own, where it may mount: as root directly, as an ordinary user
/// in a user namespace that keeps the user's id. `None`: this host does not allow that.
pub fn in_mount_namespace(p: &Project, script: &str) -> Option<Command> {
    let unshare = |script: &str| {
        let mut command = p.command("unshare");
        command.arg("--mount");
        if !is_root() {
            command.args(["--user", "--map-current-user", "--keep-caps"]);
        }
        command.args(["bash", "-c", script]).env("AJ", aj());
        command
    };
    if !unshare("mount -t tmpfs t /tmp").output().unwrap().status.success() {
        crate::real::project::skip("mounts of one's own are not allowed here");
        return None;
    }
    Some(unshare(script))
}
