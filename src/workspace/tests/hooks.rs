//! What the host's own git would run: repositories completed in steps, hooks elsewhere in the tree,
//! and manifests that change while they are looked at.

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Fixture, lines};

/// What each step leaves out when the steps are applied one after the other.
fn withheld_by_step(base: &[(&str, &str)], steps: &[&[&str]]) -> Vec<Vec<String>> {
    let f = Fixture::new(base);
    let mut withheld = Vec::new();
    for step in steps {
        std::fs::remove_dir_all(f.upper("")).unwrap();
        std::fs::create_dir(f.upper("")).unwrap();
        for name in *step {
            f.jail(name, "from the jail");
        }
        let r = f.apply();
        assert!(r.performed && r.failed.is_empty(), "{r:?}");
        withheld.push(lines(&r.withheld));
    }
    withheld
}

#[test]
fn what_completes_a_repository_is_announced_in_whichever_order_it_comes() {
    // The directory itself and, for git in the top of the workspace, the base.
    for dir in ["docs/", "a/docs/", ""] {
        let names = |parts: &[&str]| -> Vec<String> { parts.iter().map(|p| format!("{dir}{p}")).collect() };
        for (first, second) in [
            (&["HEAD", "config", "refs/"][..], &["objects/"][..]),
            (&["HEAD", "config", "refs/heads/x"], &["objects/"]),
            (&["HEAD", "config", "refs/"], &["objects/ab/"]),
            (&["HEAD", "config", "objects/"], &["refs/heads/main"]),
            (&["HEAD", "config"], &["objects/", "refs/"]),
            (&["config", "objects/", "refs/"], &["HEAD"]),
            (&["HEAD", "config"], &["commondir"]),
        ] {
            let (first, second) = (names(first), names(second));
            let steps: [Vec<&str>; 2] =
                [&first, &second].map(|step| step.iter().map(String::as_str).collect());
            let withheld = withheld_by_step(&[], &[&steps[0], &steps[1]]);
            let expected: Vec<String> =
                second.iter().map(|n| format!("A {}", n.trim_end_matches('/'))).collect();
            let got: Vec<String> = withheld[1]
                .iter()
                .map(|l| l.trim_end_matches('*').trim_end_matches('/').to_owned())
                .collect();
            assert_eq!((&withheld[0], &got), (&vec![], &expected), "{first:?} then {second:?}");
        }
    }
}

#[test]
fn a_repository_is_not_completed_by_a_part_of_the_changes() {
    // The run deletes what is there; applied is only what it adds.
    let f = Fixture::new(&[("docs/HEAD", "x"), ("docs/config", "x"), ("docs/refs/x", "x")]);
    f.jail("docs/objects/x", "1");
    if !(f.whiteout("docs/HEAD") && f.opaque("docs")) {
        return;
    }
    let r = f.apply_with(|c| c.options.only = vec![b"docs/objects".to_vec()]);
    assert_eq!((lines(&r.withheld), r.applied), (vec!["A docs/objects/x*".to_owned()], vec![]));
}

#[test]
fn work_in_a_repository_of_the_host_goes_on() {
    let base = [("bare/HEAD", "x"), ("bare/config", "x"), ("bare/objects/x", "x"), ("bare/refs/x", "x")];
    let withheld =
        withheld_by_step(&base, &[&["bare/objects/ab/cd", "bare/refs/heads/new"], &["bare/config"]]);
    assert_eq!(withheld, [vec![], vec!["M bare/config*".to_owned()]]);
    let base = [(".git/HEAD", "x"), (".git/config", ""), ("HEAD", "a file"), ("refs/x", "x")];
    assert_eq!(withheld_by_step(&base, &[&[".git/HEAD", ".git/objects/ab/cd", "HEAD"]]), [vec![""; 0]]);
}

/// Paths that are in the class of those that the jail writes.
fn flagged(f: &Fixture, jail: &[&str]) -> Vec<String> {
    for name in jail {
        f.jail(name, "from the jail");
    }
    let r = f.diff();
    r.changes
        .iter()
        .filter(|c| c.host_executed.is_some())
        .map(|c| String::from_utf8_lossy(&c.path).into_owned())
        .collect()
}

#[test]
fn files_that_a_hook_of_the_base_links_to_are_hooks() {
    let f = Fixture::new(&[
        (".git/config", "[core]\n\tbare = false\n"),
        (".git/hooks/plain", "x"),
        ("scripts/lint", "x"),
        ("tools/real/check", "x"),
        ("tools/other", "x"),
        ("sub/.git/config", ""),
        ("sub/x", "x"),
    ]);
    symlink("../../scripts/lint", f.base(".git/hooks/pre-commit")).unwrap();
    symlink(f.base("").canonicalize().unwrap().join("abs"), f.base(".git/hooks/pre-push")).unwrap();
    symlink("../../tools/link/check", f.base(".git/hooks/post-merge")).unwrap();
    symlink("real", f.base("tools/link")).unwrap();
    symlink("/usr/bin/true", f.base(".git/hooks/post-commit")).unwrap();
    symlink("../y", f.base("sub/.git/hooks")).unwrap();
    let jail =
        ["scripts/lint", "scripts/other", "abs", "tools/real/check", "tools/other", "sub/x", "sub/y/z"];
    assert_eq!(flagged(&f, &jail), ["abs", "scripts/lint", "sub/y/z", "tools/real/check"]);
    let f2 = f;
    std::fs::remove_dir_all(f2.upper("")).unwrap();
    std::fs::create_dir_all(f2.upper("tools")).unwrap();
    symlink("evil", f2.upper("tools/link")).unwrap();
    symlink("evil", f2.upper("scripts")).unwrap();
    assert_eq!(flagged(&f2, &["tools/evil/check"]), ["scripts", "tools/link"], "leading elsewhere counts");
}

#[test]
fn what_the_configuration_of_the_base_names_is_in_the_class() {
    let f = Fixture::new(&[
        (
            ".git/config",
            "[core]\n\thooksPath = Tools/./hooks/\n\tfsmonitor = \"$PWD/bin/watch\" -v\n[include]\n\tpath = ../shared.ini\n\
             [filter \"x\"]\n\tclean = python3 clean.py\n[alias]\n\tst = !./wrap/st.sh\n\
             [remote \"o\"]\n\turl = ext::./wrap/ext %S\n[url \"ext::wrap/url \"]\n\tinsteadOf = me:\n",
        ),
        (".git/config.worktree", "[core]\n\tsshCommand = ./wrap/ssh -x\n"),
        ("Tools/hooks/lib/x", "x"),
        ("clean.py", "x"),
        ("python3/x", "a directory"),
        ("x", "1"),
    ]);
    let jail = [
        "Tools/hooks/pre-commit",
        "Tools/hooks/lib/x",
        "Tools/x",
        "bin/watch",
        "bin/x",
        "shared.ini",
        "clean.py",
        "wrap/ssh",
        "wrap/st.sh",
        "wrap/ext",
        "wrap/url",
        "wrap/x",
        "python3/x",
        "x",
    ];
    let expected = [
        "Tools/hooks/lib/x",
        "Tools/hooks/pre-commit",
        "bin/watch",
        "clean.py",
        "shared.ini",
        "wrap/ext",
        "wrap/ssh",
        "wrap/st.sh",
        "wrap/url",
    ];
    assert_eq!(flagged(&f, &jail), expected);
    let r = f.apply();
    assert_eq!((r.applied.len(), r.withheld.len()), (5, 9), "{r:?}");
}

#[test]
fn a_repository_around_the_base_and_one_behind_a_pointer_count_too() {
    // The base is a directory of the repository above it.
    let f = Fixture::new(&[("hooks/pre-commit", "x"), ("bin/x", "x")]);
    std::fs::create_dir_all(f.dir.path().join(".git/hooks")).unwrap();
    std::fs::write(f.dir.path().join(".git/config"), "[core]\n hooksPath = base/hooks\n").unwrap();
    symlink("../../base/bin/x", f.dir.path().join(".git/hooks/pre-push")).unwrap();
    assert_eq!(flagged(&f, &["hooks/pre-commit", "bin/x", "bin/y"]), ["bin/x", "hooks/pre-commit"]);
    // The base is a linked working tree.
    let f = Fixture::new(&[
        ("hooks/pre-commit", "x"),
        ("bin/x", "x"),
        (".git", "gitdir: ../main/.git/worktrees/w\n"),
    ]);
    std::fs::create_dir_all(f.dir.path().join("main/.git/worktrees/w")).unwrap();
    std::fs::write(f.dir.path().join("main/.git/worktrees/w/commondir"), "../..\n").unwrap();
    std::fs::write(f.dir.path().join("main/.git/config"), "[core]\n hooksPath = hooks\n").unwrap();
    assert_eq!(flagged(&f, &["hooks/pre-commit", "bin/x"]), ["hooks/pre-commit"]);
}

#[test]
fn links_in_a_circle_and_a_configuration_of_odd_values_do_no_harm() {
    let f = Fixture::new(&[
        (".git/config", "[core]\n hooksPath = .\n hooksPath =\n hooksPath = ../../..\n hooksPath = loop/x\n"),
        ("x", "1"),
    ]);
    symlink("loop", f.base("loop")).unwrap();
    symlink("../loop", f.base(".git/hooks")).unwrap();
    assert_eq!(flagged(&f, &["x"]), [""; 0]);
}

#[test]
fn a_manifest_is_written_as_it_was_when_it_was_judged() {
    use std::os::unix::fs::FileExt;
    // Of one length, and changed in place, as by a jail that knows when it is looked at.
    let (plain, evil) =
        (r#"{"version":"2","a":"               "}"#, r#"{"scripts":{"postinstall":"touch x"}}"#);
    assert_eq!(plain.len(), evil.len());
    let f = Fixture::new(&[]);
    f.jail("package.json", plain);
    let file = std::fs::File::options().write(true).open(f.upper("package.json")).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for text in [evil, plain] {
                    file.write_all_at(text.as_bytes(), 0).unwrap();
                    std::thread::sleep(std::time::Duration::from_micros(20));
                }
            }
        });
        // The other thread ends also when this one panics.
        let applying = scope.spawn(|| {
            let mut applied = 0;
            for _ in 0..300 {
                f.apply();
                let now = f.read("package.json");
                assert!(!now.contains("scripts"), "unannounced: {now}");
                applied += u32::from(std::fs::remove_file(f.base("package.json")).is_ok());
            }
            applied
        });
        let applied = applying.join();
        done.store(true, Ordering::Relaxed);
        assert!(applied.unwrap() > 0);
    });
}

#[test]
fn a_build_script_of_any_name_waits_for_the_users_word() {
    let plain = "[package]\nname = 'x'\n";
    let named = "[package]\nname = 'x'\nbuild = 'src/gen/util.rs'\n";
    // Named on the host already, in the top and below.
    let f = Fixture::new(&[
        ("Cargo.toml", named),
        ("src/gen/util.rs", "fn main() {}"),
        ("a/Cargo.toml", "[package]\nname = 'a'\nbuild = '../shared/b.rs'\n"),
        ("shared/b.rs", "fn main() {}"),
    ]);
    f.jail("Cargo.toml", "[package]\nname = 'x'\nversion = '2.0.0'\nbuild = 'src/gen/util.rs'\n");
    f.jail("src/gen/util.rs", "fn main() { evil() }");
    f.jail("src/gen/other.rs", "");
    f.jail("a/src/lib.rs", "");
    f.jail("shared/b.rs", "fn main() { evil() }");
    f.jail("shared/c.rs", "");
    let r = f.apply();
    assert_eq!(lines(&r.withheld), ["M shared/b.rs*", "M src/gen/util.rs*"]);
    // Named by what the jail wrote: neither comes without the other.
    let f = Fixture::new(&[("Cargo.toml", plain), ("src/gen/util.rs", "fn main() {}")]);
    f.jail("Cargo.toml", named);
    f.jail("src/gen/util.rs", "fn main() { evil() }");
    f.jail("new/Cargo.toml", "[package]\nname = 'n'\nbuild = 'setup.rs'\n");
    f.jail("new/setup.rs", "");
    f.jail("new/lib.rs", "");
    f.jail("node_modules/n/Cargo.toml", named);
    let r = f.apply();
    assert_eq!(
        lines(&r.withheld),
        ["M Cargo.toml*", "A new/Cargo.toml*", "A new/setup.rs*", "M src/gen/util.rs*"]
    );
}
