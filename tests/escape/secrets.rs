//! Secrets of the tree by other ways than their names, and trees made to keep them from being hidden.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use crate::common::Ran;
use crate::real::project::{has, is_root, skip};
use crate::real::secrets::{line, project};

/// Every way to the content by another path, in a shell: prints `hidden-…` where one is left.
const WAYS: &str = r#"
cat .env /workspace/.env ./src/../.env "$PWD"/.env /proc/self/cwd/.env /proc/1/root"$PWD"/.env
ln .env copy; ln -s .env link; cat copy link
mv .env moved; mv -T .env moved; cat moved
mkdir -p d && mv src d/src && ln .env d/e; cat d/src/../../.env d/e
rm -f .env; cat .env; rmdir .env; cat .env
echo own > .env; mv .env own; cat .env own; rm -f .env own; cat .env
mkdir .env; rmdir .env; cat .env; ln -s /dev/null .env; rm -f .env; cat .env
cp -a . ../copy; cat ../copy/.env
mount --bind src .env; umount .env; umount -l .env; cat .env
unshare -rm sh -c 'umount -l .env; umount -l .; cat .env'
tar cf - . | tar xOf - ./.env
find . -inum "$INODE" -exec cat {} +
"#;

#[test]
fn no_other_way_leads_to_what_is_hidden() {
    let Some(p) = project() else { return };
    let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(p.dir().join(".env")).unwrap());
    let script = format!("INODE={inode}\n{WAYS}\ntrue");
    for flags in [
        &[][..],
        &["--rw"],
        &["--ro"],
        &["--as-root"],
        &["--rw", "--as-root"],
        &["--nested-userns"],
        &["--rw", "--nested-userns"],
    ] {
        let ran = p.aj([&["exec"][..], flags, &["--", "bash", "-c", &script]].concat());
        assert!(!ran.stdout.contains("hidden-env"), "{flags:?}: {ran:#?}");
        assert_eq!(fs::read_to_string(p.dir().join(".env")).unwrap(), "A=hidden-env\n", "{flags:?}");
        // Moved about by the jail itself, where it may.
        p.outside("[ -d d/src ] && mv d/src src; rm -rf d copy link moved own; true");
    }
    let ran = p.aj(["exec", "--show", ".env", "--", "bash", "-c", &script]);
    assert!(ran.stdout.contains("hidden-env"), "the ways are ways: {ran:#?}");
}

#[test]
fn a_directory_above_what_is_hidden_can_be_moved_and_made_anew() {
    let Some(p) = project() else { return };
    p.write("a/b/key", "hidden-deep");
    let script = "mv a x; cat x/b/key a/b/key; mkdir -p a/b; cat a/b/key; mv x/b y; cat y/key; cp -a y z; cat z/key; \
                  rm -rf a x y; mkdir -p a/b; cat a/b/key; rmdir a/b a; mkdir a; ls -R a; true";
    for flags in [&[][..], &["--rw"], &["--ro"], &["--as-root"]] {
        let before = p.snapshot();
        let ran = p.aj([&["exec", "--hide", "a/b/key"][..], flags, &["--", "bash", "-c", script]].concat());
        assert!(!ran.stdout.contains("hidden"), "{flags:?}: {ran:#?}");
        if flags.contains(&"--rw") {
            // It is where the jail moved it to, and could not be removed.
            let found = p.outside("find . -name key -exec cat {} +");
            assert_eq!(found, "hidden-deep");
            p.outside("rm -rf a x y z; mkdir -p a/b; printf hidden-deep > a/b/key");
        } else {
            assert_eq!(before, p.snapshot(), "{flags:?}");
        }
    }
}

#[test]
fn a_handle_of_the_file_opens_nothing() {
    if !has("python3") {
        return;
    }
    let Some(p) = project() else { return };
    p.write(
        "handle.py",
        r#"
import ctypes, os, sys
c = ctypes.CDLL(None, use_errno=True)
class H(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("h", ctypes.c_ubyte * 128)]
if sys.argv[1] == "get":
    h, m = H(128), ctypes.c_int()
    r = c.name_to_handle_at(-100, b".env", ctypes.byref(h), ctypes.byref(m), 0)
    open("handle", "wb").write(bytes(h)) if r == 0 else print("none")
else:
    h = H.from_buffer_copy(open("handle", "rb").read())
    fd = c.open_by_handle_at(os.open(".", os.O_RDONLY), ctypes.byref(h), 0)
    print(os.read(fd, 99) if fd >= 0 else os.strerror(ctypes.get_errno()))
"#,
    );
    if p.outside("python3 handle.py get").contains("none") {
        skip("this file system has no handles");
        return;
    }
    if is_root() {
        assert!(p.outside("python3 handle.py open").contains("hidden-env"), "outside it is a way");
    }
    for flags in [&[][..], &["--rw"], &["--as-root"]] {
        let script = "python3 handle.py open; python3 handle.py get; python3 handle.py open";
        let ran = p.aj([&["exec"][..], flags, &["--", "sh", "-c", script]].concat());
        assert!(!ran.stdout.contains("hidden") && ran.stdout.contains('\n'), "{flags:?} {ran:#?}");
    }
}

#[test]
fn directories_that_are_shown_beside_the_tree_do_not_uncover_it() {
    let Some(p) = project() else { return };
    p.write("sub/deep/key", "hidden-deep");
    p.write("sub/.env", "shown-as-nobody-started-there");
    let parent = format!("{}/", p.top().display());
    let sub = "./sub/";
    let read = format!(
        "cat .env sub/deep/key {}/p/.env {}/p/sub/deep/key; true",
        p.top().display(),
        p.top().display()
    );
    for bind in ["--ro", "--rw"] {
        for dir in [sub, "./sub/deep/", "./"] {
            for access in [&[][..], &["--ro"], &["--rw"]] {
                if (bind, dir, access) == ("--rw", "./", &["--ro"][..]) {
                    // Both at once is refused.
                    continue;
                }
                let flags = [&["--hide", "**/key", bind, dir][..], access].concat();
                let ran = p.try_inside(&flags, &read);
                assert!(!ran.stdout.contains("hidden"), "{flags:?}: {ran:#?}");
                assert_eq!(ran.code, Some(0), "{flags:?}: {ran:#?}");
            }
        }
    }
    // What lies around the tree holds the state directory, too, unless that is elsewhere.
    let elsewhere = tempfile::tempdir().unwrap();
    let mut aj = p.command(crate::common::aj());
    aj.env("AJ_STATE_DIR", elsewhere.path().join("state"));
    aj.args(["exec", "--i-mean-it", "--hide", "**/key", "--ro", &parent, "--", "bash", "-c", &read]);
    let ran = Ran::from(aj.output().unwrap());
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:#?}");
    // Asked for by its own name it is shown; what lies in something hidden cannot be shown at all.
    assert_eq!(p.try_inside(&["--ro", "./.env"], "cat .env").stdout, "A=hidden-env\n");
    let ran = p.aj(["exec", "--hide", "sub", "--rw", "./sub/deep", "--", "true"]);
    assert_eq!(ran.code, Some(125), "{ran:#?}");
    assert!(ran.stderr.contains("lies in `sub`, which is hidden"), "{ran:#?}");
}

#[test]
fn other_kinds_of_files_by_these_names_hold_nobody_up() {
    let Some(p) = project() else { return };
    for name in [".npmrc", "id_fifo", "fifo.pem", ".env.fifo"] {
        nix::unistd::mkfifo(&p.dir().join(name), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    fs::File::create(p.dir().join("huge.pem")).unwrap().set_len(10 << 30).unwrap();
    std::os::unix::fs::symlink("/dev/zero", p.dir().join("zero.pem")).unwrap();
    std::os::unix::fs::symlink("loop.pem", p.dir().join("loop.pem")).unwrap();
    std::os::unix::fs::symlink("src/prod.env", p.dir().join(".env.prod")).unwrap();
    std::os::unix::fs::symlink("cert.pem", p.dir().join("ca.pem")).unwrap();
    p.write("src/prod.env", "hidden-by-link");
    let _socket = std::os::unix::net::UnixListener::bind(p.dir().join("id_socket")).unwrap();
    let started = Instant::now();
    for flags in [&[][..], &["--rw"], &["--ro"]] {
        let script =
            "cat src/prod.env .env.prod; cat ca.pem; timeout 5 cat .npmrc fifo.pem huge.pem zero.pem | wc -c";
        let ran = p.aj([&["exec"][..], flags, &["--", "sh", "-c", script]].concat());
        assert!(!ran.stdout.contains("hidden") && ran.stdout.contains("shown-cert"), "{flags:?}: {ran:#?}");
        assert!(ran.stdout.ends_with("\n0\n"), "{flags:?}: {ran:#?}");
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn names_say_nothing_to_the_terminal() {
    let Some(p) = project() else { return };
    for name in [&b".env.\x1b]0;x\x07\n"[..], b".env.\xff\xe2\x80\xae", b".env.aj: all is well\naj: error"] {
        fs::write(p.dir().join(OsStr::from_bytes(name)), "hidden").unwrap();
    }
    for flags in [&[][..], &["--rw"], &["--dry-run"], &["--json"]] {
        let ran = p.aj([&["exec"][..], flags, &["--", "true"]].concat());
        let text = format!("{}{}", ran.stdout, ran.stderr);
        assert!(text.chars().all(|c| c == '\n' || c == '\t' || !c.is_control()), "{flags:?}: {ran:#?}");
        assert!(
            !text.contains('\u{202e}') && !ran.stderr.lines().any(|l| l.starts_with("aj: error")),
            "{ran:#?}"
        );
        assert_eq!(ran.code, Some(0), "{flags:?}: {ran:#?}");
    }
    assert!(line(&p.aj(["exec", "--", "true"])).contains(r".env.\x1b]0;x\x07\n"));
    let long = format!(".env.{}", "x".repeat(240));
    p.write(&long, "");
    p.aj(["exec", "--", "true"]);
    assert!(line(&p.aj(["exec", "--", "true"])).len() < 600);
}

#[test]
fn more_names_than_can_be_hidden_stop_the_run() {
    let Some(p) = project() else { return };
    for n in 0..1100 {
        fs::write(p.dir().join(format!(".env.{n}")), "hidden").unwrap();
    }
    for flags in [&[][..], &["--rw"], &["--ro"]] {
        let ran = p.aj([&["exec"][..], flags, &["--", "cat", ".env.7"]].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:#?}");
        assert!(
            ran.stderr.contains("more than 1000 names") && ran.stderr.contains("--show '.env.*'"),
            "{ran:#?}"
        );
    }
    let left: Vec<_> = p.trees().into_iter().filter(|t| !t.to_str().unwrap().contains("/.")).collect();
    assert!(left.is_empty(), "{left:?}");
    let ran = p.aj(["exec", "--show", ".env.*", "--", "cat", ".env.7"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "hidden"), "{ran:#?}");
    // As many as there may be.
    p.outside("rm .env.10[0-9][0-9] .env.99*");
    for flags in [&[][..], &["--rw"]] {
        let ran = p.aj([&["exec"][..], flags, &["--", "sh", "-c", "cat .env.*"]].concat());
        assert!(!ran.stdout.contains("hidden"), "{ran:#?}");
        assert!(line(&ran).contains(" more "), "{ran:#?}");
    }
}

#[test]
fn a_walk_that_is_cut_short_stops_the_run() {
    let Some(p) = project() else { return };
    p.outside("d=deep; for i in $(seq 70); do d=$d/x; done; mkdir -p $d; echo hidden > $d/key");
    let ran = p.aj(["exec", "--hide", "**/key", "--", "true"]);
    assert_eq!(ran.code, Some(125), "{ran:#?}");
    assert!(
        ran.stderr.contains("more than 64 levels deep") && ran.stderr.contains("--show '**/key'"),
        "{ran:#?}"
    );
    // The user may think otherwise than the project, and name the place.
    p.write("aj.toml", "[jail]\nhide = ['**/key']\n");
    assert_eq!(p.aj(["exec", "--", "true"]).code, Some(125));
    assert_eq!(p.aj(["exec", "--show", "**/key", "--", "true"]).code, Some(0));
    fs::remove_dir_all(p.dir().join("deep")).unwrap();
    assert_eq!(p.aj(["exec", "--", "true"]).code, Some(0));
}

#[test]
fn what_a_walk_remembers_is_never_older_than_the_tree() {
    let Some(p) = project() else { return };
    p.write("a/b/plain", "shown");
    p.write("c/secret.key", "hidden-first");
    p.outside("mkdir -p many; cd many; for i in $(seq 50); do mkdir d$i; done");
    let see = || {
        let ran = p.aj(["exec", "--hide", "**/*.key", "--", "sh", "-c", "cat */*.key */*/*.key; ls -R many"]);
        assert!(!ran.stdout.contains("hidden"), "{ran:#?}");
        line(&ran)
    };
    assert!(see().contains("`c/secret.key`"));
    // Old enough to be believed.
    std::thread::sleep(Duration::from_millis(2500));
    for _ in 0..2 {
        assert!(see().contains("`c/secret.key`"));
    }
    let walks = || fs::read_dir(p.state().join("cache/walks")).unwrap().count();
    assert_eq!(walks(), 1);
    p.write("many/d7/new.key", "hidden-new");
    assert!(see().contains("`many/d7/new.key`"));
    fs::rename(p.dir().join("a/b/plain"), p.dir().join("a/b/plain.key")).unwrap();
    assert!(see().contains("`a/b/plain.key`"));
    fs::remove_dir_all(p.dir().join("many/d8")).unwrap();
    std::os::unix::fs::symlink("../c", p.dir().join("many/d8")).unwrap();
    assert!(!see().contains("d8"), "no link is followed");
    for damage in [&b"garbage"[..], b""] {
        let file = fs::read_dir(p.state().join("cache/walks")).unwrap().next().unwrap().unwrap().path();
        fs::write(file, damage).unwrap();
        assert!(see().contains("`c/secret.key`"));
    }
}

#[test]
fn a_killed_run_leaves_no_deletion_of_what_it_hid() {
    let Some(p) = project() else { return };
    let mut aj = p.command(crate::common::aj());
    let mut child =
        aj.args(["exec", "--", "sleep", "60"]).stderr(std::process::Stdio::null()).spawn().unwrap();
    let upper = || p.trees().iter().any(|t| t.join("upper/.env").symlink_metadata().is_ok());
    let end = Instant::now() + Duration::from_secs(10);
    while !upper() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(upper());
    std::thread::sleep(Duration::from_millis(200));
    child.kill().unwrap();
    child.wait().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let applied = p.aj(["apply", "--overwrite", "--partial", "--allow-exec-files"]);
    assert_eq!(fs::read_to_string(p.dir().join(".env")).unwrap(), "A=hidden-env\n", "{applied:#?}");
    assert!(p.dir().join("key.pem").exists());
    // A record that cannot be read stops everything that would need it.
    p.aj(["exec", "--", "touch", "new"]);
    let kept: Vec<_> = p.trees().into_iter().filter(|t| t.join("upper/new").exists()).collect();
    fs::write(kept[0].join("hidden"), "aj-hidden 1\n").unwrap();
    for words in [&["diff"][..], &["apply"], &["apply", "--overwrite"]] {
        let ran = p.aj(words);
        assert_eq!(ran.code, Some(1), "{ran:#?}");
        assert!(ran.stderr.contains("cannot be read"), "{ran:#?}");
    }
    assert!(p.dir().join(".env").exists() && !p.dir().join("new").exists());
}

#[test]
fn other_names_of_the_same_file_are_pointed_out() {
    let Some(p) = project() else { return };
    fs::hard_link(p.dir().join(".env"), p.dir().join("backup")).unwrap();
    let ran = p.aj(["exec", "--", "cat", "backup"]);
    assert!(ran.stderr.contains("`.env` has other names (hard links)"), "{ran:#?}");
    assert_eq!(p.inside_with(&["--hide", "backup"], "cat backup; true"), "");
}

/// As root the layers belong to another owner, and directories of others are on the way.
#[test]
fn directories_on_the_way_look_inside_as_they_did() {
    let Some(p) = project() else { return };
    p.write("a/b/key", "hidden");
    p.outside("touch -d 2001-02-03 a/b a; chmod 711 a; chmod 2755 a/b");
    if is_root() {
        p.outside("chown 12:34 a/b");
    }
    let look = "stat -c '%n %a %u %g %y' a a/b; cat a/b/key 2>&1; true";
    let without = p.inside_with(&["--show", "**"], look);
    let gone = if is_root() { "" } else { "cat: a/b/key: No such file or directory\n" };
    assert_eq!(p.inside_with(&["--hide", "a/b/key"], look), without.replace("hidden", gone));
    assert!(p.trees().iter().all(|t| fs::read_dir(t.join("upper")).unwrap().count() == 0), "{:?}", p.trees());
}
