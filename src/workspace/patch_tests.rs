use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::*;

fn text(path: &str, old: Option<&Entry>, new: Option<&Entry>) -> String {
    let mut out = Vec::new();
    append(&mut out, path.as_bytes(), old, new);
    String::from_utf8(out).unwrap()
}

fn file(content: &[u8]) -> Entry {
    Entry { mode: 0o100_644, content: Some(content.to_vec()) }
}

#[test]
fn a_change_reads_as_git_writes_it() {
    let got = text("a", Some(&file(b"one\ntwo\n")), Some(&file(b"one\n2")));
    assert_eq!(
        got,
        "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n\\ No newline at end of file\n"
    );
    let got = text("x y", None, Some(&Entry { mode: 0o100_755, ..file(b"#!\n") }));
    assert!(
        got.starts_with(
            "diff --git a/x y b/x y\nnew file mode 100755\n--- /dev/null\n+++ b/x y\t\n@@ -0,0 +1"
        ),
        "{got}"
    );
    assert_eq!(
        text("m", Some(&file(b"a")), Some(&Entry { mode: 0o100_755, ..file(b"a") })),
        "diff --git a/m b/m\nold mode 100644\nnew mode 100755\n"
    );
    assert_eq!(text("same", Some(&file(b"a")), Some(&file(b"a"))), "");
    let binary = text("b", None, Some(&file(b"\0")));
    assert!(binary.ends_with("Binary files /dev/null and b/b differ\n"), "{binary}");
    let large = text("l", Some(&Entry { content: None, ..file(b"") }), Some(&file(b"")));
    assert!(large.ends_with("Binary files a/l and b/l differ\n"), "{large}");
}

#[test]
fn a_name_cannot_pass_for_something_else() {
    let mut out = Vec::new();
    append(&mut out, b"a\nb\xff\"\x1b", None, Some(&file(b"x\n")));
    let out = String::from_utf8(out).unwrap();
    assert!(out.starts_with("diff --git \"a/a\\nb\\377\\\"\\033\" \"b/a\\nb\\377\\\"\\033\"\n"), "{out}");
}

#[test]
fn no_link_is_followed_and_nothing_that_could_hang_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("d")).unwrap();
    std::fs::write(at("secret"), "s").unwrap();
    symlink(at("secret"), at("d/link")).unwrap();
    symlink("..", at("d/up")).unwrap();
    nix::unistd::mkfifo(&at("d/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let d = std::fs::File::open(at("d")).unwrap();
    let link = read(&d, b"link").unwrap().unwrap();
    assert_eq!(link.mode, 0o120_000);
    assert_eq!(link.content.unwrap(), at("secret").as_os_str().as_bytes());
    assert_eq!(read(&d, b"up/secret").unwrap(), None);
    assert_eq!(read(&d, b"fifo").unwrap(), None);
    assert_eq!(read(&d, b"none").unwrap(), None);
    assert!(read(&d, b"../secret").is_err());
    // A hole is as long as it looks.
    std::fs::File::create(at("d/sparse")).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(read(&d, b"sparse").unwrap().unwrap().content, None);
}

/// Make `dir` hold `entry` at `name`.
fn lay(dir: &Path, name: &[u8], entry: Option<&Entry>) {
    use std::os::unix::fs::PermissionsExt;
    let at = dir.join(std::ffi::OsStr::from_bytes(name));
    let Some(entry) = entry else { return };
    let content = entry.content.as_deref().unwrap();
    if entry.mode == 0o120_000 {
        symlink(std::ffi::OsStr::from_bytes(content), at).unwrap();
    } else {
        std::fs::write(&at, content).unwrap();
        std::fs::set_permissions(at, PermissionsExt::from_mode(entry.mode & 0o777)).unwrap();
    }
}

fn entries() -> impl Strategy<Value = Option<Entry>> {
    let lines = prop::collection::vec("[a-c]{0,2}\n?", 0..12).prop_map(|l| l.concat().into_bytes());
    let mode = prop::sample::select(vec![0o100_644u32, 0o100_755]);
    let file = (mode, lines).prop_map(|(mode, content)| Entry { mode, content: Some(content) });
    let link = "[a-z]{1,4}".prop_map(|to| Entry { mode: 0o120_000, content: Some(to.into_bytes()) });
    prop_oneof![4 => file.prop_map(Some), 1 => link.prop_map(Some), 1 => Just(None)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn git_makes_the_one_of_the_other(
        old in entries(),
        new in entries(),
        name in prop::sample::select(vec![&b"f"[..], b"a b", b"q\"\\", b"t\tn\nx", b"\xff\xfe", b"-f"]),
    ) {
        let dir = tempfile::tempdir().unwrap();
        lay(dir.path(), name, old.as_ref());
        let mut patch = Vec::new();
        append(&mut patch, name, old.as_ref(), new.as_ref());
        if !patch.is_empty() {
            let to = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(to.path(), &patch).unwrap();
            let git = Command::new("git")
                .args(["apply", "--whitespace=nowarn", "--unidiff-zero"])
                .arg(to.path())
                .current_dir(dir.path())
                .env("GIT_CEILING_DIRECTORIES", "/")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&git.stderr).into_owned();
            prop_assert!(git.status.success(), "{said}\n{}", String::from_utf8_lossy(&patch));
        }
        let now = std::fs::File::open(dir.path()).unwrap();
        prop_assert_eq!(read(&now, name).unwrap(), new);
    }
}
