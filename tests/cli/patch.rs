//! `aj diff --patch`: what `git apply` makes of it, and what it does to a terminal.

use std::process::Command;

use crate::common::Ran;
use crate::real::project::Project;

#[test]
fn a_patch_makes_of_a_copy_what_the_jail_made_of_the_directory() {
    let p = Project::new();
    let before = "mkdir -p src gone/deep; echo a > src/a; seq 50 > src/long; ln -s a src/link
        echo x > gone/deep/x; echo y > gone/y; echo tool > tool; printf 'no end' > end; echo f > kind";
    let prepare = |dir: &std::path::Path| {
        let made = Command::new("sh").args(["-c", before]).current_dir(dir).status().unwrap();
        assert!(made.success());
    };
    prepare(p.dir());
    let change = "cd src && echo b >> a && sed -i '/^25$/d' long && ln -sfn long link && cd .. && rm -r gone
        chmod +x tool; echo ' more' >> end; rm kind; ln -s tool kind; echo new > 'a name'; printf 'x\\ny' > q
        mkdir empty; printf '\\0bin' > bin";
    let ran = p.aj(["exec", "-q", "--", "sh", "-c", change]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let patch = p.aj(["diff", "--patch"]);
    assert_eq!(patch.code, Some(0), "{patch:#?}");
    assert!(
        patch.stderr.contains("not in the patch: 1 change that is an empty directory: `empty`\n"),
        "{patch:#?}"
    );

    let copy = tempfile::tempdir().unwrap();
    prepare(copy.path());
    // The contents of a binary file are not in it, so nothing is said of them but the name.
    let (text, binary) = patch.stdout.split_at(patch.stdout.find("diff --git a/bin b/bin").unwrap());
    let rest = binary.find("\ndiff --git a/end").unwrap();
    assert!(binary[..rest].ends_with("Binary files /dev/null and b/bin differ"), "{binary}");
    std::fs::write(copy.path().join(".patch"), format!("{text}{}", &binary[rest + 1..])).unwrap();
    let applied = Ran::from(
        Command::new("git")
            .args(["apply", "--whitespace=nowarn", ".patch"])
            .env("GIT_CEILING_DIRECTORIES", "/")
            .current_dir(copy.path())
            .output()
            .unwrap(),
    );
    assert_eq!(applied.code, Some(0), "{applied:#?}\n{}", patch.stdout);
    std::fs::remove_file(copy.path().join(".patch")).unwrap();
    let kept = p.aj(["apply", "--allow-exec-files"]);
    assert_eq!(kept.code, Some(0), "{kept:#?}");
    std::fs::remove_dir(p.dir().join("empty")).unwrap();
    std::fs::remove_file(p.dir().join("bin")).unwrap();
    let same = Ran::from(
        Command::new("diff").args(["-r", "--no-dereference"]).arg(p.dir()).arg(copy.path()).output().unwrap(),
    );
    assert_eq!(same.code, Some(0), "{same:#?}");
}

#[test]
fn a_patch_says_nothing_of_secrets_and_of_git() {
    let p = Project::new();
    std::fs::create_dir_all(p.dir().join(".git/objects")).unwrap();
    std::fs::write(p.dir().join(".env"), "KEY=not-in-a-patch\n").unwrap();
    let ran = p.aj(["exec", "-q", "--", "sh", "-c", "echo x > .git/x; echo y > y"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let patch = p.aj(["diff", "-p"]);
    assert!(patch.stdout.contains("+++ b/y\n"), "{patch:#?}");
    assert!(!patch.stdout.contains(".git/") && !patch.stdout.contains("not-in-a-patch"), "{patch:#?}");
    assert!(patch.stderr.contains("1 change in a git directory"), "{patch:#?}");
    let json = p.aj(["diff", "-p", "--json"]);
    assert_eq!((json.code, json.stdout.as_str()), (Some(2), ""), "{json:#?}");
}
