//! The caller's package caches as a way to what lies beside them, and as a way to leave something for the
//! next build. Outside, each of the secrets is read by the same name, and each change changes the cache.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use crate::common::Ran;
use crate::real::project::{is_root, skip, snapshot};
use crate::real::tools::Caller;

const ALL: &[&str] = &["--caches", "auto"];

/// A caller with a secret and the programs that caches are for, or `None` where there are no jails.
fn caller() -> Option<Caller> {
    let mut caller = Caller::in_jails()?.with_secrets();
    for program in ["cargo", "npm", "go", "uv", "ccache", "gradle", "mvn", "pnpm", "poetry", "bun"] {
        caller.program(&format!(".local/bin/{program}"), "echo $0");
    }
    caller.path(".local/bin");
    Some(caller)
}

/// The secret is read outside by each of these names, and inside by none.
#[track_caller]
fn out_of_reach(caller: &Caller, flags: &[&str], names: &[&str]) -> Ran {
    let ran = caller.out_of_reach(flags, names, "; true");
    assert_eq!(ran.code, Some(0), "never fatal: {ran:#?}");
    ran
}

#[test]
fn a_cache_that_leads_to_secrets_is_refused_by_name() {
    for (place, target, secret, told) in [
        (
            ".npm/_cacache",
            "../.aws",
            "credentials",
            "`~/.npm/_cacache` (npm): it is a link and leads to `~/.aws`",
        ),
        (
            ".cargo/registry",
            "../.ssh",
            "id_ed25519",
            "`~/.cargo/registry` (cargo): it is a link and leads to `~/.ssh`",
        ),
        (".cargo", ".aws", "../.aws/credentials", ""),
        (".cache", ".", ".aws/credentials", ""),
        ("go/pkg/mod", "../..", ".aws/credentials", "`~/go/pkg/mod` (go): it is a link and leads to `~`"),
        (".m2/repository", "/", "", "`~/.m2/repository` (maven): it is a link and leads to `/`"),
    ] {
        let Some(mut caller) = caller() else { return };
        caller.link(target, place);
        let name = format!("{place}/{secret}");
        let names = if secret.is_empty() { vec![] } else { vec![name.as_str()] };
        let ran = out_of_reach(&caller, ALL, &names);
        assert!(ran.stderr.contains(told), "{told}\n{ran:#?}");
        // One line for all.
        assert!(ran.stderr.matches("not every cache is shown").count() <= 1, "{ran:#?}");
    }
}

#[test]
fn links_inside_a_cache_lead_nowhere() {
    let Some(mut caller) = caller() else { return };
    let home = caller.home.display().to_string();
    caller.file(".npm/_cacache/index", "").link(format!("{home}/.aws"), ".npm/_cacache/aws");
    caller
        .link("/", ".npm/_cacache/root")
        .file(".cargo/registry/src/x", "")
        .link("../../.ssh", ".cargo/registry/ssh");
    let below = format!(".npm/_cacache/root{home}/.aws/credentials");
    let names = [".npm/_cacache/aws/credentials", ".cargo/registry/ssh/id_ed25519", &below];
    let ran = out_of_reach(&caller, ALL, &names);
    assert!(caller.inside(ALL, &format!("ls {home}/.npm/_cacache")).stdout.contains("index"), "{ran:#?}");
}

#[test]
fn variables_of_caches_that_name_too_much_show_nothing() {
    for (name, value, told) in [
        ("CARGO_HOME", "~/", "(cargo): it has your home directory in it"),
        ("CARGO_HOME", "/", "(cargo): it has your home directory in it"),
        ("UV_CACHE_DIR", "~/", "(uv): it has your home directory in it"),
        ("UV_CACHE_DIR", "/", "(uv): it has your home directory in it"),
        ("UV_CACHE_DIR", "~/.ssh", "(uv): secrets are kept in `~/.ssh`"),
        ("GOMODCACHE", "~/.aws", "(go): secrets are kept in `~/.aws`"),
        ("GOCACHE", "/etc", "(go): it is no place of caches"),
        ("CCACHE_DIR", "/proc", "(ccache): it is no place of caches"),
        ("BUN_INSTALL_CACHE_DIR", "~/.aws/../.aws", ""),
        ("MAVEN_OPTS", "-Xmx1g -Dmaven.repo.local=HOME", "(maven): it has your home directory in it"),
        (
            "npm_config_store_dir",
            "~/.local/share",
            "(pnpm): secrets are kept in `~/.local/share/gem/credentials`",
        ),
    ] {
        let Some(mut caller) = caller() else { return };
        std::fs::create_dir_all(caller.home.join("registry")).unwrap();
        std::fs::create_dir_all(caller.home.join(".local/share")).unwrap();
        let value = value.replace("HOME", caller.home.to_str().unwrap());
        caller.var(name, &value);
        let ran = out_of_reach(&caller, ALL, &[".aws/credentials", ".ssh/id_ed25519"]);
        // `registry` of `/` is no place that a test can make.
        let root = (name, value.as_str()) == ("CARGO_HOME", "/");
        assert!(root || ran.stderr.contains(told), "{name}={value}: {told}\n{ran:#?}");
        let mounts = "grep -c overlay /proc/self/mountinfo";
        let (shown, without) = (caller.inside(ALL, mounts), caller.inside(&[], mounts));
        assert_eq!(shown.stdout, without.stdout, "{name}={value}: {shown:#?}");
    }
}

#[test]
fn a_cache_in_the_project_or_in_the_state_is_not_shown_as_one() {
    let Some(mut caller) = caller() else { return };
    let ws = caller.p.dir().canonicalize().unwrap();
    caller.p.write("cache/_cacache/x", "of the project\n");
    caller.var("npm_config_cache", ws.join("cache").to_str().unwrap());
    let ran = caller.inside(ALL, "grep -c overlay /proc/self/mountinfo; cat cache/_cacache/x; echo $npm_config_cache; echo y > cache/_cacache/y");
    assert_eq!(ran.stdout, format!("1\nof the project\n{}\n", ws.join("cache").display()), "{ran:#?}");
    // It is the project's, so that it is compared like the rest.
    assert!(ran.stderr.contains("1 change"), "{ran:#?}");
    // The state directory, what lies in it, and what has it in it.
    let state = caller.p.state().canonicalize().unwrap();
    let around = state.parent().unwrap().to_owned();
    for dir in [&state, &state.join("trees"), &around] {
        let Some(mut other) = self::caller() else { return };
        std::mem::swap(&mut other.p, &mut caller.p);
        std::fs::create_dir_all(dir.join("_cacache")).unwrap();
        other.var("UV_CACHE_DIR", dir.to_str().unwrap()).var("npm_config_cache", dir.to_str().unwrap());
        let ran = other.inside(ALL, &format!("ls -A {}", dir.display()));
        // A directory of the jail's own around what is a cache: nothing else of the host is in it.
        let shown = if dir == &around { "_cacache\np\n" } else { "" };
        assert_eq!(ran.stdout, shown, "{dir:?}: {ran:#?}");
        assert!(ran.stderr.contains("(uv): "), "{dir:?}: {ran:#?}");
        std::mem::swap(&mut other.p, &mut caller.p);
    }
}

#[test]
fn what_everyone_may_write_and_what_is_another_users_is_not_shown() {
    let Some(mut caller) = caller() else { return };
    caller.file(".npm/_cacache/x", "planted");
    let cache = caller.home.join(".npm/_cacache");
    let mode = |mode| std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o777);
    let show = format!("cat {}/x", cache.display());
    let ran = caller.inside(ALL, &show);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:#?}");
    assert!(ran.stderr.contains("`~/.npm/_cacache` (npm): everyone may write to it"), "{ran:#?}");
    mode(0o700);
    assert_eq!(caller.inside(ALL, &show).stdout, "planted");
    if is_root() {
        std::os::unix::fs::chown(&cache, Some(4321), Some(4321)).unwrap();
        let ran = caller.inside(ALL, &show);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:#?}");
        assert!(ran.stderr.contains("it belongs to user 4321, not to you"), "{ran:#?}");
    } else {
        skip("only root may give a directory away");
    }
}

#[test]
fn a_project_brings_no_caches_and_describes_none() {
    let Some(mut caller) = caller() else { return };
    caller.file("documents/x", "the-secret\n").file(".npm/_cacache/x", "the-secret\n");
    let described = "[cache]\nabout = \"x\"\nfor = [\"sh\"]\nshow = [\"~/documents\", \"~/.aws\"]\n";
    for dir in ["flavors", ".config/agentjail/flavors", ".agentjail/flavors", "config/flavors"] {
        caller.p.write(&format!("{dir}/evil.toml"), described);
    }
    caller.p.write("aj.toml", "[jail]\ncaches = \"auto\"\npreset = \"build\"\n");
    let ran = out_of_reach(&caller, &[], &["documents/x", ".aws/credentials", ".npm/_cacache/x"]);
    assert!(ran.stderr.contains("aj.toml:2: `caches = auto` would widen"), "{ran:#?}");
    out_of_reach(&caller, &["--caches", "cargo"], &["documents/x", ".npm/_cacache/x"]);
    // The user's own is read; it may show documents, but no known secret.
    let config = caller.p.top().join("config/flavors");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("own.toml"), described).unwrap();
    let show = format!("cat {0}/documents/x {0}/.aws/credentials", caller.home.display());
    let ran = caller.inside(ALL, &show);
    assert_eq!(ran.stdout, "the-secret\n", "{ran:#?}");
    assert!(ran.stderr.contains("`~/.aws` (own): secrets are kept in `~/.aws`"), "{ran:#?}");
}

#[test]
fn tokens_in_a_cache_are_seen_empty() {
    let Some(mut caller) = caller() else { return };
    let token = "https://me:the-secret@x.org/y\n";
    caller.file(".cargo/registry/index/own-1/config.json", token).file(".cargo/git/db/dep-1/config", token);
    caller.file(".cargo/registry/index/crates-2/config.json", "https://crates.example\n");
    caller.file(".cargo/git/db/dep-2/config", "[core]\n").file(".cargo/git/db/dep-1/FETCH_HEAD", token);
    caller.file("go/pkg/mod/cache/vcs/1/config", token).file("go/pkg/mod/cache/download/x", "x\n");
    caller.file(".ccache/ccache.conf", token).file(".ccache/0/x", "x\n");
    caller.file(".gradle/caches/8.1/cc-keystore/k", token).file(".gradle/caches/8.1/x", "x\n");
    caller.file(".gradle/gradle.properties", token).file(".gradle/init.d/x.gradle", token);
    caller
        .file(".m2/settings.xml", token)
        .file(".m2/settings-security.xml", token)
        .file(".m2/repository/a/x", "x\n");
    caller
        .file(".cache/pypoetry/virtualenvs/e/pip.conf", token)
        .file(".cache/pypoetry/virtualenvs/e/x", "x\n");
    caller
        .file(".cache/pypoetry/cache/repositories/x", token)
        .file(".npm/_logs/x", token)
        .file(".npm/_cacache/x", "x\n");
    let home = caller.home.display().to_string();
    let read = format!("grep -rhs the-secret {home} /home/agent | wc -l");
    assert_eq!(caller.outside(&read).stdout.trim(), "15", "outside");
    let script = format!(
        "{read}; cd {home} && cat .cargo/registry/index/*/config.json .cargo/git/db/dep-2/config \
         go/pkg/mod/cache/download/x .ccache/0/x .gradle/caches/8.1/x .m2/repository/a/x \
         .cache/pypoetry/virtualenvs/e/x .npm/_cacache/x ~/.m2/repository/a/x ~/.ccache/0/x && \
         mkdir go/pkg/mod/cache/vcs/own .gradle/caches/8.1/cc-keystore/own && ! (echo x > .ccache/ccache.conf) 2>&-"
    );
    let ran = caller.inside(ALL, &script);
    let want = format!("0\nhttps://crates.example\n[core]\n{}", "x\n".repeat(8));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), want.as_str()), "{ran:#?}");
}

/// Each way to change a file of a cache, as a script of Python: `d` is the cache.
const POISON: &str = r#"
import ctypes, fcntl, mmap, os, socket, struct, sys
d = sys.argv[1]; p = lambda n: os.path.join(d, n)
def ways():
    def write(): open(p('write'), 'a').write('poison')
    def truncate(): os.truncate(p('truncate'), 0)
    def chmod(): os.chmod(p('chmod'), 0o4777)
    def rename(): os.rename(p('rename'), p('renamed'))
    def rename_over(): open(p('new'), 'w').write('poison'); os.rename(p('new'), p('over'))
    def unlink(): os.unlink(p('unlink'))
    def link():
        os.link(p('link'), p('linked')); open(p('linked'), 'a').write('poison')
    def mapped():
        f = open(p('mapped'), 'r+b'); m = mmap.mmap(f.fileno(), 0); m[0:6] = b'poison'; m.flush()
    def times(): os.utime(p('times'), (1, 1))
    def attribute(): os.setxattr(p('attribute'), 'user.x', b'poison')
    def directory(): os.rename(p('dir'), p('moved')); os.makedirs(p('dir')); open(p('dir/file'), 'w').write('poison')
    def special(): os.mkfifo(p('fifo2'))
    def whiteout(): os.mknod(p('unlink2'), 0o020000, 0)
    def empty():
        for n in os.listdir(p('tree')): os.unlink(p('tree/' + n))
        os.rmdir(p('tree'))
    def through_fd():
        f = os.open(p('fd'), os.O_RDONLY); g = os.open('/proc/self/fd/%d' % f, os.O_RDWR | os.O_APPEND); os.write(g, b'poison')
    def top(): os.chmod(d, 0o777)
    return [f for n, f in sorted(locals().items()) if callable(f)]
done = []
for way in ways():
    try: way(); done.append(way.__name__)
    except OSError as e: print(way.__name__, e, file=sys.stderr)
print(*done)
"#;

/// A cache with a file for each way.
fn stock(cache: &Path) {
    std::fs::create_dir_all(cache.join("dir")).unwrap();
    std::fs::create_dir_all(cache.join("tree")).unwrap();
    for name in [
        "write",
        "truncate",
        "chmod",
        "rename",
        "over",
        "unlink",
        "link",
        "mapped",
        "times",
        "attribute",
        "fd",
    ] {
        std::fs::write(cache.join(name), format!("as it was: {name}\n")).unwrap();
    }
    std::fs::write(cache.join("dir/file"), "as it was\n").unwrap();
    std::fs::write(cache.join("tree/file"), "as it was\n").unwrap();
}

#[test]
fn poisoning_a_cache_changes_neither_the_hosts_nor_the_next_runs() {
    let Some(mut caller) = caller() else { return };
    caller.file("attack.py", POISON);
    let attack = std::fs::read_to_string(caller.home.join("attack.py")).unwrap();
    caller.p.write("attack.py", attack);
    // One that writes to memory, and one to the disk.
    for place in [".npm/_cacache", "go/pkg/mod"] {
        let cache = caller.home.join(place);
        stock(&cache);
        let before = snapshot(&cache);
        let run = format!("python3 attack.py {}", cache.display());
        for flags in [ALL, &["--caches", "auto", "--rw"], &["--caches", "auto", "--ro"]] {
            let ran = caller.inside(flags, &run);
            let done = ran.stdout.split_whitespace().count();
            assert!(ran.code == Some(0) && done >= 13, "{place} {flags:?}: {done} {ran:#?}");
            assert_eq!(snapshot(&cache), before, "{place} {flags:?}");
            // Nothing of it is a change of the project.
            assert!(!ran.stderr.contains("change"), "{place} {flags:?}: {ran:#?}");
            let diff = Ran::from(
                caller.command(crate::common::aj().to_str().unwrap()).args(["diff", "@"]).output().unwrap(),
            );
            assert!(!diff.stdout.contains("poison") && !diff.stdout.contains("_cacache"), "{diff:#?}");
            let next =
                caller.inside(ALL, &format!("cat {0}/write {0}/over {0}/dir/file; ls {0}", cache.display()));
            assert_eq!(next.stdout.lines().filter(|l| l.contains("poison")).count(), 0, "{next:#?}");
            assert!(next.stdout.starts_with("as it was: write\nas it was: over\nas it was\n"), "{next:#?}");
        }
        // Teeth: the same program changes it outside.
        assert!(caller.outside(&run).stdout.split_whitespace().count() >= 13);
        assert_ne!(snapshot(&cache), before, "{place}");
    }
}

#[test]
fn a_lock_held_inside_holds_up_nobody_outside_and_fifos_and_sockets_are_not_the_hosts() {
    let Some(mut caller) = caller() else { return };
    caller.file(".npm/_cacache/lock", "x");
    let cache = caller.home.join(".npm/_cacache");
    nix::unistd::mkfifo(&cache.join("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(cache.join("socket"));
    if listener.is_err() {
        skip("the path of the cache is too long for a socket");
    }
    let lock = format!(
        "import fcntl, os, struct, sys, time\nf = os.open('{0}/lock', os.O_RDWR)\nfcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)\n\
         fcntl.fcntl(f, 37, struct.pack('hhqqi', fcntl.F_WRLCK, 0, 0, 0, 0) + b'\\0' * 4)\n",
        cache.display()
    );
    caller.p.write("lock.py", &lock);
    // Both sides take it at once: whoever came second would fail.
    let outside = caller.command("python3").args(["-c", &format!("{lock}time.sleep(60)")]).spawn();
    let mut outside = outside.unwrap();
    let taken = std::time::Instant::now();
    let held = || {
        !std::fs::read_to_string("/proc/locks").unwrap().is_empty()
            && caller.outside("python3 lock.py 2>&1").code != Some(0)
    };
    while !held() && taken.elapsed().as_secs() < 15 {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(held(), "teeth: outside, the second one fails");
    let ran = caller.inside(ALL, "python3 lock.py && echo locked");
    drop((outside.kill(), outside.wait()));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "locked\n"), "{ran:#?}");
    if let Ok(listener) = listener {
        listener.set_nonblocking(true).unwrap();
        let connect = format!(
            "python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"{}/socket\")'",
            cache.display()
        );
        assert_ne!(caller.inside(ALL, &connect).code, Some(0));
        assert!(listener.accept().is_err(), "nobody came from inside");
        assert_eq!(caller.outside(&connect).code, Some(0), "outside it is reached");
    }
    assert!(std::fs::metadata(cache.join("fifo")).unwrap().file_type().is_fifo());
}

#[test]
fn a_cache_of_ten_thousand_files_is_not_walked() {
    let Some(mut caller) = caller() else { return };
    caller.file(".npm/_cacache/content-v2/x", "");
    let dir = caller.home.join(".npm/_cacache/content-v2");
    for n in 0..10_000 {
        std::fs::write(dir.join(format!("{n}")), "").unwrap();
    }
    // Times of access tell a listing, where the file system keeps them.
    let read = |path: &Path| std::fs::metadata(path).map(|m| (m.atime(), m.atime_nsec())).unwrap();
    let old = std::process::Command::new("touch").args(["-a", "-d", "2001-01-01"]).arg(&dir).status();
    assert!(old.unwrap().success());
    let before = read(&dir);
    let ran = caller.inside(ALL, "true");
    assert_eq!((ran.code, read(&dir)), (Some(0), before), "{ran:#?}");
    std::fs::read_dir(&dir).unwrap().for_each(drop);
    if read(&dir) == before {
        skip("this file system keeps no times of access: only that it starts was shown");
    }
}
