//! A tree as the kernel writes it.

use std::process::Command;

use super::{Fixture, lines};

/// Run `script` in a real overlay over the fixture's base, as a jail would. `false`: not possible here.
pub(super) fn in_overlay(f: &Fixture, script: &str) -> bool {
    let work = f.dir.path().join("work");
    let merged = f.dir.path().join("merged");
    for d in [&work, &merged] {
        std::fs::create_dir_all(d).unwrap();
    }
    let program = format!(
        "mount -t overlay overlay -o userxattr,lowerdir=base,upperdir=upper,workdir=work merged || exit 99
         cd merged || exit 99
         set -e
         {script}"
    );
    let out = Command::new("unshare").args(["-Urm", "sh", "-c", &program]).current_dir(f.dir.path()).output();
    // The kernel makes it without permission bits, so an ordinary user could not remove it.
    if work.join("work").exists() {
        super::chmod(work.join("work"), 0o700);
    }
    match out {
        Ok(out) if out.status.success() => true,
        Ok(out) if out.status.code() == Some(99) || out.status.code() == Some(1) && out.stdout.is_empty() => {
            eprintln!("SKIP: no overlay here: {}", String::from_utf8_lossy(&out.stderr));
            false
        }
        Ok(out) => panic!("{out:?}"),
        Err(e) => {
            eprintln!("SKIP: no unshare here: {e}");
            false
        }
    }
}

#[test]
fn what_the_kernel_writes_is_read_and_applied() {
    let f = Fixture::new(&[
        ("edited", "old"),
        ("touched", "same"),
        ("appended-nothing", "same"),
        ("gone", "x"),
        ("gone-dir/a/b", "x"),
        ("remade/a", "x"),
        ("remade/sub/b", "x"),
        ("renamed-dir/a", "x"),
        ("file-to-dir", "x"),
        ("dir-to-file/a", "x"),
        ("mode", "x"),
        ("merged/kept", "x"),
    ]);
    let ran = in_overlay(
        &f,
        "echo new > edited
         touch touched
         : >> appended-nothing
         rm gone
         rm -r gone-dir
         rm -r remade && mkdir -p remade/sub && echo y > remade/sub/c
         mv renamed-dir other-dir
         rm file-to-dir && mkdir file-to-dir && echo y > file-to-dir/x
         rm -r dir-to-file && echo y > dir-to-file
         chmod 700 mode
         echo y > merged/new
         mkdir -p fresh/deep && ln -s ../../etc/passwd fresh/deep/link",
    );
    if !ran {
        return;
    }
    let r = f.diff();
    assert_eq!(
        lines(&r.changes),
        [
            "T dir-to-file",
            "M edited",
            "T file-to-dir/",
            "A file-to-dir/x",
            "A fresh/deep/link",
            "D gone",
            "D gone-dir/",
            "A merged/new",
            "m mode",
            "A other-dir/a",
            "A remade/sub/c",
            "D remade/sub/b",
            "D remade/a",
            "D renamed-dir/",
        ]
    );
    assert!(r.skipped.is_empty(), "{:?}", r.skipped);
    let done = f.apply();
    assert_eq!((done.failed, done.conflicts), (vec![], vec![]));
    assert!(f.diff().changes.is_empty());
    assert_eq!(
        f.listing(),
        [
            "appended-nothing",
            "dir-to-file",
            "edited",
            "file-to-dir",
            "file-to-dir/x",
            "fresh",
            "fresh/deep",
            "fresh/deep/link",
            "merged",
            "merged/kept",
            "merged/new",
            "mode",
            "other-dir",
            "other-dir/a",
            "remade",
            "remade/sub",
            "remade/sub/c",
            "touched",
        ]
    );
}
