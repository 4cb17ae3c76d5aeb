//! `install.sh`: everything it installs works, and everything it installed it removes.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Ran, aj, root};

fn install(words: &[&str]) -> Ran {
    let mut command = Command::new("sh");
    command.arg(root().join("install.sh")).args(words).env("PATH", "/usr/bin:/bin");
    Ran::from(command.output().unwrap())
}

fn tree(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(tree(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn what_is_installed_works_and_is_removed_again() {
    let dir = tempfile::tempdir().unwrap();
    // A space, a quote and a dollar: names that break a script which does not quote.
    let prefix = dir.path().join("a 'b $c");
    let (prefix, bin) = (prefix.to_str().unwrap(), aj());
    let ran = install(&["--prefix", prefix, "--from", bin.to_str().unwrap()]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    assert!(ran.stdout.contains("is not in PATH") && ran.stdout.contains("export PATH="), "{ran:?}");
    let installed = Path::new(prefix);
    for file in [
        "share/man/man1/aj.1",
        "share/man/man1/aj-version.1",
        "share/bash-completion/completions/aj",
        "share/zsh/site-functions/_aj",
        "share/fish/vendor_completions.d/aj.fish",
    ] {
        assert!(installed.join(file).is_file(), "{file} in {:?}", tree(installed));
    }
    let version = Command::new(installed.join("bin/aj")).arg("--version").output().unwrap();
    assert!(version.status.success());

    // Again over itself, then away; a file of someone else stays, one of an older version goes.
    let receipt = installed.join("share/agentjail/installed");
    let (old, foreign) = (installed.join("share/man/man1/aj-old.1"), dir.path().join("foreign"));
    std::fs::write(&old, "").unwrap();
    std::fs::write(&foreign, "").unwrap();
    let listed = std::fs::read_to_string(&receipt).unwrap();
    let climbing = installed.join("../foreign");
    let more = format!("{listed}{}\n{}\n{}\n", old.display(), foreign.display(), climbing.display());
    std::fs::write(&receipt, more).unwrap();
    assert_eq!(install(&["--quiet", "--prefix", prefix, "--from", bin.to_str().unwrap()]).stdout, "");
    assert!(!old.exists() && foreign.exists());
    std::fs::write(installed.join("bin/other"), "").unwrap();
    let dry = install(&["--uninstall", "--dry-run", "--prefix", prefix]);
    assert!(dry.code == Some(0) && installed.join("bin/aj").exists(), "{dry:?}");
    let ran = install(&["--uninstall", "--prefix", prefix]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    assert_eq!(tree(installed), [installed.join("bin/other")]);
    assert_eq!(install(&["--uninstall", "--prefix", prefix]).code, Some(1));
}

#[test]
fn nothing_is_touched_when_it_cannot_work() {
    let dir = tempfile::tempdir().unwrap();
    let prefix = dir.path().join("p");
    let prefix_text = prefix.to_str().unwrap();
    let bin = aj();
    let dry = install(&["--dry-run", "--prefix", prefix_text, "--from", bin.to_str().unwrap()]);
    assert!(dry.code == Some(0) && !prefix.exists(), "{dry:?}");
    for words in [
        &["--no-such-flag"] as &[&str],
        &["--prefix"],
        &["--prefix", prefix_text, "--from", "/no/such/file"],
        &["--prefix", "/proc/1/nowhere", "--from", bin.to_str().unwrap()],
    ] {
        let ran = install(words);
        assert!(ran.code == Some(1) && ran.stderr.starts_with("install.sh: error: "), "{words:?}: {ran:?}");
    }
    // A file that is no program for this machine must not replace one that is.
    let bad = dir.path().join("bad");
    let run = dir.path().join("run");
    std::fs::write(&bad, format!("#!/bin/sh\n: >'{}'\nexit 3\n", run.display())).unwrap();
    assert_eq!(install(&["--prefix", prefix_text, "--from", bin.to_str().unwrap()]).code, Some(0));
    let ran = install(&["--prefix", prefix_text, "--from", bad.to_str().unwrap()]);
    assert!(ran.code == Some(1) && ran.stderr.contains("is not an ELF binary"), "{ran:?}");
    assert!(!run.exists(), "it was run");
    std::fs::write(&bad, b"\x7fELF and no more").unwrap();
    let ran = install(&["--prefix", prefix_text, "--from", bad.to_str().unwrap()]);
    assert!(ran.code == Some(1) && ran.stderr.contains("does not run"), "{ran:?}");
    assert!(Command::new(prefix.join("bin/aj")).arg("--version").status().unwrap().success());
    assert!(!tree(&prefix).iter().any(|p| p.to_str().unwrap().contains("staging")), "{:?}", tree(&prefix));
}

#[test]
fn a_directory_in_the_place_of_a_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (prefix, bin) = (dir.path().join("p"), aj());
    let words = ["--prefix", prefix.to_str().unwrap(), "--from", bin.to_str().unwrap()];
    for place in ["share/zsh/site-functions/_aj", "bin/aj"] {
        std::fs::create_dir_all(prefix.join(place)).unwrap();
        let ran = install(&words);
        assert!(ran.code == Some(1) && ran.stderr.contains(&format!("{place}` is a directory")), "{ran:?}");
        assert_eq!(tree(&prefix.join(place)), Vec::<PathBuf>::new());
        std::fs::remove_dir(prefix.join(place)).unwrap();
    }
    std::fs::create_dir_all(prefix.join("bin/aj")).unwrap();
    let dry = install(&["--dry-run", words[0], words[1], words[2], words[3]]);
    assert_eq!(dry.code, Some(1), "{dry:?}");
}
