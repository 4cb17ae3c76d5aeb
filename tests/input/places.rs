//! The state directory by another name: what is the same place on a file system is the same place.

use super::{assert_refused, in_mount_namespace};
use crate::common::Ran;
use crate::real::project::{Project, is_root, skip};

/// In a mount namespace of its own with these mounts, beside the project: `aj exec` in `dir`.
fn exec(p: &Project, mounts: &str, dir: &str, flags: &str) -> Option<Ran> {
    let script = format!(
        "cd .. && {mounts} && cd {dir} && AJ_STATE_DIR=${{STATE:-$AJ_STATE_DIR}} exec \"$AJ\" exec {flags} -- true"
    );
    let mut command = in_mount_namespace(p, &script)?;
    Some(Ran::from(command.output().unwrap()))
}

const WRITABLE: &str = "shows aj's state directory by another name, and no jail may write that";

#[test]
fn a_mount_of_the_state_is_the_state() {
    let p = Project::new();
    let mounts = "mkdir -p x y/z && mount --bind state x && mount --bind . y/z";
    for (dir, flags) in [
        ("p", "--rw ../x"),
        ("p", "--rw ../x --i-mean-it"),
        ("p", "--rw ../x/cache"),
        ("p", "--rw ../x/version"),
        ("p", "--rw ../y/z"),
        ("p", "--rw --rw ../y/z/state"),
        // Shown along with what it is mounted in.
        ("p", "--rw ../y"),
        ("x", "--rw"),
        ("x/trees", "--rw --i-mean-it"),
        ("y/z", "--rw"),
    ] {
        p.aj(["exec", "--", "true"]);
        let Some(ran) = exec(&p, mounts, dir, flags) else { return };
        assert_refused(&ran, &[WRITABLE]);
    }
    for (dir, flags) in [
        ("p", "--ro ../x"),
        ("p", "--ro ../y/z/state"),
        ("x", "--ro"),
        ("y/z", "--ro"),
        ("x", ""),
        ("y/z", ""),
    ] {
        let ran = exec(&p, mounts, dir, flags).unwrap();
        assert_refused(&ran, &["shows aj's state directory by another name"]);
        assert!(!ran.stderr.contains("no jail may write"), "{ran:#?}");
    }
    for (dir, flags) in [
        ("p", "--ro ../x --i-mean-it"),
        ("p", "--rw ../y/z/home"),
        ("p", "--rw"),
        ("y/z/p", "--rw"),
        ("y/z/p", "--ro"),
        ("y/z/p", ""),
    ] {
        let ran = exec(&p, mounts, dir, flags).unwrap();
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{dir} {flags}");
    }
    // Teeth: it is no read-only mount that keeps anybody from writing there.
    let script = format!("cd .. && {mounts} && touch x/forged");
    assert!(in_mount_namespace(&p, &script).unwrap().status().unwrap().success());
    assert!(p.state().join("forged").exists());
}

/// `/home` as a part of a disk that is mounted elsewhere as a whole.
#[test]
fn a_disk_that_the_home_is_a_part_of_holds_the_state() {
    let p = Project::new();
    let mounts = "mkdir -p disk h && mount -t tmpfs t disk && mkdir -p disk/home disk/other && chmod 755 disk/home && \
                  mount --bind disk/home h && mkdir -m 700 h/state && STATE=$PWD/h/state";
    for flags in ["--rw ../disk", "--rw ../disk/home", "--rw ../disk/home/state"] {
        let Some(ran) = exec(&p, mounts, "p", flags) else { return };
        assert_refused(&ran, &["/disk", WRITABLE]);
    }
    assert_refused(&exec(&p, mounts, "disk", "--rw").unwrap(), &["/disk`", WRITABLE]);
    let ran = exec(&p, mounts, "p", "--rw ../disk/other").unwrap();
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:#?}");
}

/// What root is told not to show of its own home, it is told of anybody's: `sudo aj exec` where somebody keeps his
/// settings in git.
#[test]
fn where_somebody_else_lives_is_no_project_either() {
    if !is_root() {
        return skip("only root works in other people's directories");
    }
    let p = Project::new();
    let mounts = "mkdir -p u/.ssh u/sub u/code/.git u/code/in && git init -q u && echo KEY > u/.ssh/id && \
                  echo x > u/sub/own && chown -R 4242:4242 u && \
                  printf 'root:x:0:0::/root:/bin/sh\\nme:x:4242:4242::%s:/bin/sh\\n' $PWD/u > passwd && \
                  mount --bind passwd /etc/passwd && mount --bind u u";
    let tree = |dir: &str, flags: &str| exec(&p, &format!("rm -rf u; {mounts}"), dir, flags);
    let Some(ran) = tree("u", "--ro") else { return };
    assert_refused(&ran, &["is its owner's home directory, with every key and token in it", "--i-mean-it"]);
    let shown = |dir: &str| {
        let ran = tree(dir, "--ro --dry-run").unwrap();
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        let tree = ran.stdout.lines().find_map(|l| l.strip_prefix("tree\t")).unwrap_or_default().to_owned();
        tree.split('\t').next().unwrap_or_default().to_owned()
    };
    assert!(shown("u/sub").ends_with("/u/sub"), "{}", shown("u/sub"));
    assert!(shown("u/code/in").ends_with("/u/code"), "{}", shown("u/code/in"));
}
