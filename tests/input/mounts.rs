//! Directories on other file systems.

use std::process::Command;

use super::{assert_nothing_left, assert_refused, in_mount_namespace};
use crate::common::{Ran, older_than};
use crate::real::project::{Project, is_root, skip};

/// `set_up` mounts `m` (a directory beside the project); then `aj exec` with these flags runs there.
fn on(p: &Project, set_up: &str, flags: &str) -> Option<Ran> {
    const PROBE: &str = "cat f; echo y >> f; echo x > new; rm gone; mkdir d; cat f new; ls";
    let script = format!(
        "cd .. && mkdir -p l u w m src && echo f > src/f && echo g > src/gone && cp src/* l && {set_up} && cd m && \
         \"$AJ\" exec {flags} -- sh -c '{PROBE}'; code=$?; echo \"left: $(ls)\" | tr '\\n' ' '; exit $code"
    );
    let mut command: Command = in_mount_namespace(p, &script)?;
    Some(Ran::from(command.output().unwrap()))
}

const CHANGED: &str = "f\nf\ny\nx\nd\nf\nnew\n";

#[test]
fn tmpfs() {
    let p = Project::new();
    let Some(ran) = on(&p, "mount -t tmpfs t m && cp src/* m", "") else { return };
    assert_eq!(ran.stdout, format!("{CHANGED}left: f gone "), "{ran:#?}");
    // It cannot be shown under other ids before.
    let copied = ran.stderr.contains("storage copy: ");
    assert_eq!(copied, is_root() && older_than(6, 3), "{ran:#?}");
}

#[test]
fn a_mount_that_is_read_only() {
    let p = Project::new();
    let read_only = "mount --bind src m && mount -o remount,ro,bind m";
    let Some(ran) = on(&p, read_only, "") else { return };
    assert_eq!(ran.stdout, format!("{CHANGED}left: f gone "), "an overlay needs no writable lower: {ran:#?}");
    let ran = on(&p, read_only, "--rw").unwrap();
    assert!(ran.stdout.starts_with("f\nf\n") && ran.stdout.ends_with("left: f gone "), "{ran:#?}");
    assert_eq!(ran.stderr.matches("Read-only file system").count(), 4, "{ran:#?}");
}

#[test]
fn overlayfs_works_for_a_user_and_as_a_private_copy_for_root() {
    let p = Project::new();
    let overlay = "mount -t overlay o -o userxattr,lowerdir=l,upperdir=u,workdir=w m";
    let Some(ran) = on(&p, overlay, "") else { return };
    assert_eq!(ran.stdout, format!("{CHANGED}left: f gone "), "{ran:#?}");
    if is_root() {
        assert!(ran.stderr.contains("storage copy: ") && ran.stderr.contains("(overlay)"), "{ran:#?}");
        // There is no copy of what is to be written for real.
        let ran = on(&p, overlay, "--rw").unwrap();
        assert!(ran.stdout.starts_with("left:"), "{ran:#?}");
        let ran = Ran { stdout: String::new(), ..ran };
        assert_refused(&ran, &["/m`", "EINVAL", "run aj as the ordinary user", "ext4"]);
    } else {
        let ran = on(&p, overlay, "--rw").unwrap();
        assert_eq!(ran.stdout, format!("{CHANGED}left: d f new "), "{ran:#?}");
    }
}

/// Over two levels of overlay there is no third: the directory itself is shown then, with a word.
#[test]
fn a_read_only_directory_over_which_no_overlay_can_be_mounted() {
    let p = Project::new();
    let twice = "mount -t tmpfs t u && mkdir u/u u/w && mount -t overlay o -o userxattr,lowerdir=l:src w && \
                 mount -t overlay o -o userxattr,lowerdir=w,upperdir=u/u,workdir=u/w m";
    let Some(ran) = on(&p, twice, "--ro") else { return };
    if is_root() {
        assert!(ran.stdout.starts_with("left:") && ran.stderr.contains("EINVAL"), "{ran:#?}");
        return skip("an overlay cannot be shown under other ids, as root wants it");
    }
    assert!(ran.stdout.starts_with("f\n") && ran.stderr.contains("Read-only"), "{ran:#?}");
    let warnings: Vec<_> = ran.stderr.lines().filter(|l| l.starts_with("aj: warning: ")).collect();
    assert_eq!(warnings.len(), 1, "{ran:#?}");
    assert!(
        warnings[0].contains("/m` lies on a file system over which no overlay can be mounted"),
        "{ran:#?}"
    );
    let ran = on(&p, "mount --bind src m", "--ro").unwrap();
    assert!(ran.stdout.starts_with("f\n") && !ran.stderr.contains("aj: warning"), "{ran:#?}");
}

#[test]
fn fuse() {
    if !is_root() {
        return skip("/dev/fuse belongs to root here");
    }
    if !crate::real::project::has("bindfs") {
        return;
    }
    let p = Project::new();
    let Some(ran) = on(&p, "bindfs -o allow_other src m", "") else { return };
    if ran.stderr.contains("fuse:") {
        return skip("this machine has no FUSE");
    }
    assert!(ran.stdout.ends_with("left: f gone "), "{ran:#?}");
    // A FUSE that can be shown under other ids, or a private copy of it.
    assert!(ran.stdout.starts_with(CHANGED), "{ran:#?}");
}

#[test]
fn a_state_directory_that_can_keep_nothing_is_named() {
    let p = Project::new();
    if !is_root() {
        return skip("/dev/fuse belongs to root here");
    }
    if !crate::real::project::has("bindfs") {
        return;
    }
    let script = "cd .. && mkdir -m 700 m on && bindfs --xattr-none on m && cd p && \
                  AJ_STATE_DIR=$PWD/../m/s exec \"$AJ\" exec -- true";
    let Some(mut command) = in_mount_namespace(&p, script) else { return };
    let ran = Ran::from(command.env("PWD", p.dir()).output().unwrap());
    if ran.stderr.contains("fuse:") {
        return skip("this machine has no FUSE");
    }
    assert_refused(&ran, &["holds neither an upper layer", "AJ_STATE_DIR", "--rw"]);
    assert_nothing_left(&p, &ran);
}

#[test]
fn a_state_directory_on_tmpfs() {
    let p = Project::new();
    let script = "mount -t tmpfs -o mode=700 t ../state && echo 1 > f && \"$AJ\" exec -- sh -c 'echo 2 >> f; cat f; touch new' && cat f && \"$AJ\" diff --json | grep -c '\"new\"'";
    let Some(mut command) = in_mount_namespace(&p, script) else { return };
    let ran = Ran::from(command.output().unwrap());
    if older_than(6, 6) {
        assert_refused(&ran, &["user.*", "from Linux 6.6 on", "AJ_STATE_DIR"]);
        return;
    }
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "1\n2\n1\n1\n"), "{ran:#?}");
}

/// A cache that cannot be shown is empty inside and can be written all the same; the run goes on.
/// The jail has directories of its own there, and so has the host.
#[test]
fn a_tree_and_a_state_directory_below_dev() {
    let Ok(top) = tempfile::Builder::new().prefix("aj-").tempdir_in("/dev/shm") else {
        return skip("/dev/shm cannot be written");
    };
    let (tree, state) = (top.path().join("tree"), top.path().join("state"));
    std::fs::create_dir(&tree).unwrap();
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let p = Project::new();
    let run = |dir: &std::path::Path, state: &std::path::Path, flags: &[&str]| {
        let mut command = p.command(crate::common::aj());
        command.current_dir(dir).env("AJ_STATE_DIR", state).arg("exec").args(flags);
        Ran::from(command.args(["--", "sh", "-c", "pwd; echo x > new && cat new"]).output().unwrap())
    };
    // Again and again: who comes first, pid 1 or who makes its overlays, is chance.
    for _ in 0..8 {
        for (dir, state) in [(&*tree, &*state), (p.dir(), &*state), (&*tree, &*p.state())] {
            let ran = run(dir, state, &[]);
            let said = format!("{}\nx\n", dir.canonicalize().unwrap().display());
            assert_eq!((ran.code, ran.stdout), (Some(0), said), "{}", ran.stderr);
        }
    }
    assert_eq!(run(&tree, &state, &["--rw"]).code, Some(0));
    assert_eq!(std::fs::read_to_string(tree.join("new")).unwrap(), "x\n");
}

#[test]
fn a_cache_over_which_no_overlay_can_be_mounted_is_cold() {
    let p = Project::new();
    // Root can show no overlay under other ids; for a user there is no third level.
    let mount = if is_root() {
        "mount -t overlay o -o userxattr,lowerdir=l,upperdir=u,workdir=w m"
    } else {
        "mount -t tmpfs t u && mkdir u/u u/w && mount -t overlay o -o userxattr,lowerdir=l:src w && \
         mount -t overlay o -o userxattr,lowerdir=w,upperdir=u/u,workdir=u/w m"
    };
    let script = format!(
        "cd .. && mkdir -p l u w src home/.npm home/.cargo/registry && echo g > home/.cargo/registry/f && \
         mkdir home/.npm/_cacache && ln -s home/.npm/_cacache m && echo f > l/f && echo secret > src/s && {mount} && \
         cat home/.npm/_cacache/f && cd p && H=$(cd ../home && pwd -P) && \
         exec \"$AJ\" exec --caches npm,cargo -- \
         sh -c \"ls -A $H/.npm/_cacache; echo x > $H/.npm/_cacache/x && cat $H/.npm/_cacache/x $H/.cargo/registry/f\""
    );
    let Some(mut command) = in_mount_namespace(&p, &script) else { return };
    let ran = Ran::from(command.output().unwrap());
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "f\nx\ng\n"), "{ran:#?}");
    let warnings: Vec<_> = ran.stderr.lines().filter(|l| l.starts_with("aj: warning: ")).collect();
    assert_eq!(warnings.len(), 1, "{ran:#?}");
    assert!(warnings[0].contains("/home/.npm/_cacache` was empty inside: no overlay"), "{ran:#?}");
}
