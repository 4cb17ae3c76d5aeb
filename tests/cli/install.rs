//! `install.sh`: everything it installs works, and everything it installed it removes.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Ran, aj, root};

fn install(words: &[&str]) -> Ran {
    install_in(Path::new("/"), "/usr/bin:/bin", words)
}

fn install_in(dir: &Path, path: &str, words: &[&str]) -> Ran {
    let mut command = Command::new("sh");
    command.arg(root().join("install.sh")).args(words).env("PATH", path).current_dir(dir);
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

/// Whatever the prefix is called, it is the same place: for what is installed and for what is removed.
#[test]
fn a_prefix_may_be_spelled_in_any_way() {
    let dir = tempfile::tempdir().unwrap();
    let (work, prefix, bin) = (dir.path().join("work"), dir.path().join("rel"), aj());
    std::fs::create_dir(&work).unwrap();
    std::os::unix::fs::symlink("rel", dir.path().join("link")).unwrap();
    let (bin, link) = (bin.to_str().unwrap(), dir.path().join("link"));
    let (link, plain) = (link.to_str().unwrap(), prefix.to_str().unwrap());
    let spelled = ["../rel", "./../rel/", "../work/.././rel//", link, plain];
    let here = |words: &[&str]| install_in(&work, "/usr/bin:/bin", words);
    std::fs::create_dir(&prefix).unwrap();
    for (n, name) in spelled.iter().enumerate() {
        let ran = here(&["--quiet", "--prefix", name, "--from", bin]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{name}: {ran:?}");
        let receipt = std::fs::read_to_string(prefix.join("share/agentjail/installed")).unwrap();
        assert!(receipt.lines().all(|l| l.starts_with("share/") || l.starts_with("bin/")), "{receipt}");
        // By another name than it was installed by.
        let other = spelled[(n + 1) % spelled.len()];
        let ran = here(&["--uninstall", "--quiet", "--prefix", other]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{other}: {ran:?}");
        assert_eq!(tree(dir.path()), Vec::<PathBuf>::new(), "{name}, {other}");
        std::fs::create_dir_all(&prefix).unwrap();
    }
    // Receipts of older versions hold what was said, made absolute by the working directory.
    for base in ["work/../rel", "work/./../rel", "link", "rel"] {
        assert_eq!(here(&["--quiet", "--prefix", plain, "--from", bin]).code, Some(0));
        let receipt = prefix.join("share/agentjail/installed");
        let base = dir.path().join(base);
        let listed = std::fs::read_to_string(&receipt).unwrap();
        let old: String = listed.lines().map(|l| format!("{}/{l}\n", base.display())).collect();
        std::fs::write(&receipt, old).unwrap();
        let ran = here(&["--uninstall", "--quiet", "--prefix", "../rel"]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{base:?}: {ran:?}");
        assert_eq!(tree(dir.path()), Vec::<PathBuf>::new(), "{base:?}");
        std::fs::create_dir_all(&prefix).unwrap();
    }
}

#[test]
fn what_cannot_be_removed_is_said_and_the_receipt_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (prefix, bin) = (dir.path().join("p"), aj());
    let words = ["--prefix", prefix.to_str().unwrap(), "--from", bin.to_str().unwrap()];
    assert_eq!(install(&words).code, Some(0));
    let receipt = prefix.join("share/agentjail/installed");
    // Lines that this script never wrote: in other places, by `..`, by another prefix.
    let foreign = dir.path().join("foreign");
    std::fs::create_dir_all(dir.path().join("q/bin")).unwrap();
    std::fs::write(dir.path().join("q/bin/aj"), "").unwrap();
    std::fs::write(prefix.join("bin/mine"), "").unwrap();
    std::fs::write(&foreign, "").unwrap();
    let listed = std::fs::read_to_string(&receipt).unwrap();
    let d = dir.path().display();
    let more = format!(
        "{listed}{d}/foreign\n../foreign\nshare/man/man1/../../../../foreign\n{d}/q/bin/aj\nbin/mine\n"
    );
    std::fs::write(&receipt, more).unwrap();
    // What is there cannot be removed: not by root either.
    std::fs::remove_file(prefix.join("bin/aj")).unwrap();
    std::fs::create_dir_all(prefix.join("bin/aj/full")).unwrap();
    let ran = install(&["--uninstall", words[0], words[1]]);
    assert!(ran.code == Some(1) && ran.stderr.contains("`../foreign`"), "{ran:?}");
    assert!(ran.stderr.contains(&format!("could not remove `{}/bin/aj`", prefix.display())), "{ran:?}");
    assert!(!ran.stdout.contains("removed aj"), "{ran:?}");
    std::fs::write(&receipt, &listed).unwrap();
    let ran = install(&["--uninstall", words[0], words[1]]);
    assert!(ran.code == Some(1) && ran.stderr.contains("install.sh: error: not everything"), "{ran:?}");
    assert_eq!(std::fs::read_to_string(&receipt).unwrap(), listed);
    std::fs::remove_dir_all(prefix.join("bin/aj")).unwrap();
    let ran = install(&["--uninstall", words[0], words[1]]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    let mut left = tree(dir.path());
    left.sort();
    assert_eq!(left, [foreign, prefix.join("bin/mine"), dir.path().join("q/bin/aj")]);
}

/// A failure before the first file leaves nothing, one among the files leaves what --uninstall removes.
#[test]
fn half_an_installation_can_be_removed() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    let (prefix, bin) = (dir.path().join("p"), aj());
    let words = ["--prefix", prefix.to_str().unwrap(), "--from", bin.to_str().unwrap()];
    std::fs::create_dir_all(prefix.join("share")).unwrap();
    std::fs::write(prefix.join("share/man"), "mine").unwrap();
    let ran = install(&words);
    assert!(ran.code == Some(1) && ran.stderr.starts_with("install.sh: error: could not make `"), "{ran:?}");
    assert!(ran.stderr.contains("\nhint: "), "{ran:?}");
    assert_eq!(tree(&prefix), [prefix.join("share/man")]);
    assert!(!prefix.join("bin").exists() && !prefix.join("share/agentjail").exists());
    std::fs::remove_file(prefix.join("share/man")).unwrap();

    if !nix::unistd::geteuid().is_root() {
        let zsh = prefix.join("share/zsh/site-functions");
        std::fs::create_dir_all(&zsh).unwrap();
        std::fs::set_permissions(&zsh, PermissionsExt::from_mode(0o555)).unwrap();
        let ran = install(&words);
        assert!(ran.code == Some(1) && ran.stderr.contains("site-functions` is not writable"), "{ran:?}");
        assert_eq!(tree(&prefix), Vec::<PathBuf>::new());
        std::fs::set_permissions(&zsh, PermissionsExt::from_mode(0o755)).unwrap();
    }

    // What nobody foresees: the disk is full, someone kills it.
    let tools = dir.path().join("tools");
    std::fs::create_dir(&tools).unwrap();
    let mv = "#!/bin/sh\ncase $* in *_aj*) echo full >&2; exit 1;; esac\nexec /bin/mv \"$@\"\n";
    std::fs::write(tools.join("mv"), mv).unwrap();
    std::fs::set_permissions(tools.join("mv"), PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", tools.display());
    let ran = install_in(Path::new("/"), &path, &words);
    assert!(ran.code == Some(1) && ran.stderr.contains("install.sh: error: could not put `"), "{ran:?}");
    assert!(ran.stderr.contains("hint: ") && prefix.join("share/man/man1/aj.1").is_file(), "{ran:?}");
    let ran = install(&["--uninstall", words[0], words[1]]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    assert_eq!(tree(&prefix), Vec::<PathBuf>::new());
}

#[test]
fn a_relative_prefix_is_refused_where_the_directory_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let script =
        "mkdir gone && cd gone && rmdir ../gone && exec sh \"$0\" --dry-run --prefix rel --from \"$1\"";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(root().join("install.sh")).arg(aj()).current_dir(dir.path());
    let ran = Ran::from(command.output().unwrap());
    assert!(
        ran.code == Some(1) && ran.stderr.contains("error: the working directory does not exist"),
        "{ran:?}"
    );
}
