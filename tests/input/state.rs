//! The state directory: refused, full, damaged, of another version.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::{assert_nothing_left, assert_refused, in_mount_namespace};
use crate::common::{Ran, aj};
use crate::real::project::{Project, is_root, skip};

fn with_state(p: &Project, state: &Path) -> Ran {
    Ran::from(p.command(aj()).args(["exec", "--", "true"]).env("AJ_STATE_DIR", state).output().unwrap())
}

#[test]
fn a_state_directory_that_is_not_the_callers_alone_is_refused() {
    let p = Project::new();
    let at = |name: &str| p.top().join(name);
    let mode =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    symlink(p.state(), at("link")).unwrap();
    assert_refused(&with_state(&p, &at("link")), &["/link`", "symbolic link"]);
    symlink(at("nowhere"), at("dangling")).unwrap();
    assert_refused(&with_state(&p, &at("dangling")), &["/dangling`", "symbolic link"]);
    std::fs::create_dir(at("open")).unwrap();
    for bits in [0o777, 0o755, 0o1777, 0o710] {
        mode(&at("open"), bits);
        assert_refused(&with_state(&p, &at("open")), &["/open`", "open to other users", "chmod 700"]);
    }
    std::fs::write(at("file"), "").unwrap();
    assert_refused(&with_state(&p, &at("file")), &["/file`", "not a directory"]);
    assert_refused(&with_state(&p, &at("file/below")), &["/file/below`", "ENOTDIR"]);
    assert_refused(&with_state(&p, Path::new("/proc/agentjail")), &["/proc/agentjail", "ENOENT"]);
    // Somebody's files, and somebody's directory.
    std::fs::create_dir(at("mine")).unwrap();
    mode(&at("mine"), 0o700);
    std::fs::write(at("mine/thesis.tex"), "").unwrap();
    assert_refused(&with_state(&p, &at("mine")), &["/mine`"]);
    assert_eq!(std::fs::read_dir(at("mine")).unwrap().count(), 1);
    let foreign = if is_root() {
        std::os::unix::fs::chown(at("open"), Some(4321), None).unwrap();
        mode(&at("open"), 0o700);
        at("open")
    } else {
        "/usr".into()
    };
    assert_refused(&with_state(&p, &foreign), &["belongs to uid"]);
}

#[test]
fn another_version_is_never_touched() {
    let p = Project::new();
    assert_eq!(with_state(&p, &p.state()).code, Some(0));
    let version = p.state().join("version");
    for (content, said) in [
        ("99\n", "made by a newer aj"),
        ("2", "made by a newer aj"),
        ("abc", "not a format number"),
        ("-1", "not a format number"),
    ] {
        std::fs::write(&version, content).unwrap();
        let ran = with_state(&p, &p.state());
        assert_refused(&ran, &["/version`", said]);
        assert_eq!(std::fs::read_to_string(&version).unwrap(), content);
        assert_nothing_left(&p, &ran);
    }
    // What a crash of the machine leaves is no version at all.
    for torn in ["", "\0\0\0", "\n"] {
        std::fs::write(&version, torn).unwrap();
        assert_eq!(with_state(&p, &p.state()).code, Some(0), "{torn:?}");
        assert_eq!(std::fs::read_to_string(&version).unwrap(), "1\n");
    }
}

#[test]
fn damage_is_set_aside_and_commands_go_on() {
    let p = Project::new();
    let state = p.state();
    let list = || p.aj(["jail", "list"]);
    assert_eq!(p.aj(["exec", "--", "sh", "-c", "exit 3"]).code, Some(3));
    let noise: Vec<u8> = (0..9000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(state.join("spool"), &noise).unwrap();
    assert_eq!(p.aj(["exec", "--", "sh", "-c", "exit 4"]).code, Some(4), "a run does not read the spool");
    let ran = list();
    assert!(
        ran.code == Some(0) && ran.stderr.contains("set aside") && ran.stdout.contains("exit 4"),
        "{ran:#?}"
    );
    // The file of the database, and a page in its middle.
    for damage in [&noise[..], b"", b"SQLite format 3\0"] {
        std::fs::write(state.join("ledger.db"), damage).unwrap();
        let ran = p.aj(["exec", "--", "sh", "-c", "exit 5"]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(5), ""), "a run opens no database");
        let ran = list();
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        assert!(ran.stdout.contains("exit 5"), "{ran:#?}");
    }
    // A file where a directory must be, and the other way round.
    for name in ["trees", "cache"] {
        // Away, not gone: the kernel leaves directories in a tree that their owner may not enter.
        std::fs::rename(state.join(name), p.top().join(name)).unwrap();
        std::fs::write(state.join(name), "").unwrap();
        let ran = with_state(&p, &state);
        assert_refused(&ran, &[]);
        std::fs::remove_file(state.join(name)).unwrap();
        assert_eq!(with_state(&p, &state).code, Some(0), "{name}");
    }
}

/// What cleans up takes old empty directories, and a copy of a home may leave them out.
#[test]
fn a_ready_made_root_that_was_damaged_fails_one_run_at_most() {
    let p = Project::new();
    let run = || p.aj(["exec", "--", "true"]);
    let root = || {
        let mut all = std::fs::read_dir(p.state().join("cache")).unwrap().map(|e| e.unwrap().path());
        all.find(|path| path.file_name().unwrap().to_string_lossy().starts_with("root-"))
    };
    let damages: [fn(&Path); 2] = [
        |root| std::fs::remove_dir(root.join("proc")).unwrap(),
        |root| ["bin", "lib", "lib64"].iter().for_each(|link| drop(std::fs::remove_file(root.join(link)))),
    ];
    for damage in damages {
        assert_eq!([(); 3].map(|()| run().code), [Some(0); 3]);
        damage(&root().unwrap());
        let ran = run();
        if ran.code != Some(0) {
            assert!(ran.stderr.contains("damaged and is set aside: run it again"), "{ran:#?}");
        }
        let ran = run();
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        std::fs::remove_dir_all(p.state().join("cache")).unwrap();
    }
}

#[test]
fn a_state_directory_on_a_mount_of_any_kind_serves_every_run() {
    let p = Project::new();
    for options in ["noexec,nosuid,nodev", "nosymfollow", "noatime"] {
        let script = format!(
            "mount -t tmpfs -o mode=700,{options} t ../state || exit 0; \
             for n in 1 2 3 4; do \"$AJ\" exec -- sh -c 'readlink /workspace >/dev/null' || exit; done"
        );
        let Some(mut command) = in_mount_namespace(&p, &script) else { return };
        let ran = Ran::from(command.output().unwrap());
        assert_eq!(ran.code, Some(0), "{options}: {ran:#?}");
    }
}

#[test]
fn what_stands_in_the_place_of_a_file_is_set_aside_and_the_run_goes_on() {
    let p = Project::new();
    let (spool, lock) = (p.state().join("spool"), p.state().join("spool.lock"));
    let victim = p.top().join("victim");
    std::fs::write(&victim, "mine").unwrap();
    let fifo = |path: &Path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    type Put<'a> = &'a dyn Fn(&Path);
    let put: [(&str, Put<'_>); 3] = [
        ("a directory", &|path| std::fs::create_dir(path).unwrap()),
        ("a symbolic link", &|path| symlink(&victim, path).unwrap()),
        // An open of it that waits would hang the run.
        ("a FIFO", &fifo),
    ];
    for (n, (what, put)) in (1..).zip(put) {
        put(&spool);
        let mut run = p.command("timeout");
        let ran = Ran::from(run.arg("20").arg(aj()).args(["exec", "--", "true"]).output().unwrap());
        assert_eq!(ran.code, Some(0), "{what}: {ran:#?}");
        let said =
            format!("aj: warning: `{}` was {what}; set aside as `{}.bad-", spool.display(), spool.display());
        assert!(ran.stderr.starts_with(&said) && ran.stderr.lines().count() == 1, "{ran:#?}");
        put(&lock);
        let mut list = p.command("timeout");
        let ran = Ran::from(list.arg("20").arg(aj()).args(["jail", "list"]).output().unwrap());
        assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), n), "{what}: {ran:#?}");
        assert!(ran.stderr.contains(&format!("/spool.lock` was {what}; set aside as `")), "{ran:#?}");
        assert!(spool.is_file() && lock.is_file());
        std::fs::remove_file(&spool).unwrap();
        std::fs::remove_file(&lock).unwrap();
    }
    assert_eq!(std::fs::read(&victim).unwrap(), b"mine");
}

#[test]
fn a_full_state_directory_is_named() {
    let p = Project::new();
    let script = "mount -t tmpfs -o size=64k,mode=700 t ../state && exec \"$AJ\" exec -- true";
    let Some(mut command) = in_mount_namespace(&p, script) else { return };
    assert_refused(&Ran::from(command.output().unwrap()), &["ENOSPC", "free some space"]);
    // Filled by the command: the command hears of it, the run is told as it was, and the next works.
    let script = "mount -t tmpfs -o size=6m,mode=700 t ../state && \"$AJ\" exec -- sh -c 'head -c 9000000 /dev/zero > big; echo $?'; echo \"aj $?\"; \
                  \"$AJ\" exec -- echo next; ls ../state/trees | grep -c '^jl-'";
    let ran = Ran::from(in_mount_namespace(&p, script).unwrap().output().unwrap());
    assert!(ran.stdout.starts_with("1\naj 0\n"), "{ran:#?}");
    assert!(ran.stderr.contains("No space left on device"), "{ran:#?}");
    if !ran.stdout.contains("next\n") {
        assert!(ran.stderr.contains("ENOSPC") && ran.stderr.contains("free some space"), "{ran:#?}");
    }
}

#[test]
fn a_read_only_state_directory_is_named() {
    let p = Project::new();
    let script = "mount -t tmpfs -o mode=700 t ../state && \"$AJ\" exec -- true && mount -o remount,ro ../state && exec \"$AJ\" exec -- true";
    let Some(mut command) = in_mount_namespace(&p, script) else { return };
    assert_refused(&Ran::from(command.output().unwrap()), &["EROFS", "AJ_STATE_DIR"]);
    let script = "mount -t tmpfs -o mode=700,ro t ../state && exec \"$AJ\" exec -- true";
    assert_refused(
        &Ran::from(in_mount_namespace(&p, script).unwrap().output().unwrap()),
        &["EROFS", "AJ_STATE_DIR"],
    );
    if is_root() {
        return skip("root writes wherever the file system lets it");
    }
    std::fs::set_permissions(p.state(), std::fs::Permissions::from_mode(0o500)).unwrap();
    let ran = with_state(&p, &p.state());
    std::fs::set_permissions(p.state(), std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_refused(&ran, &["EACCES"]);
}

#[test]
fn what_is_to_be_cleaned_up_is_shown_of_a_read_only_state_directory() {
    let p = Project::new();
    let script = "mount -t tmpfs -o mode=700 t ../state && \"$AJ\" ws create w && \"$AJ\" ws fork w && \"$AJ\" exec w -- true && \
        mkdir ../state/workspaces/.gone-ws-7k3m000000000000 && \
        mount -o remount,ro ../state && exec \"$AJ\" gc --dry-run";
    let Some(mut command) = in_mount_namespace(&p, script) else { return };
    let ran = Ran::from(command.output().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stdout.contains("workspaces/.gone-ws-7k3m000000000000\t"), "{ran:#?}");
}

#[test]
fn a_home_that_cannot_be_written_is_named() {
    let p = Project::new();
    let home = p.top().join("home");
    let run = |home: &Path| {
        let mut command = p.command(aj());
        command.env_remove("AJ_STATE_DIR").env("HOME", home).args(["exec", "--", "true"]);
        Ran::from(command.output().unwrap())
    };
    assert_eq!(run(&home).code, Some(0));
    assert!(home.join(".local/state/agentjail/version").is_file());
    std::fs::write(p.top().join("plain"), "").unwrap();
    assert_refused(&run(&p.top().join("plain")), &["/plain/.local/state/agentjail", "ENOTDIR"]);
    assert_refused(&run(Path::new("/proc")), &["/proc/.local"]);
}

#[test]
fn the_hint_names_the_directory_that_is_shut() {
    if is_root() {
        return skip("root can enter every directory");
    }
    let p = Project::new();
    p.runs(&["volume", "create", "v"]);
    let shut = p.state().join("volumes");
    std::fs::set_permissions(&shut, std::fs::Permissions::from_mode(0o600)).unwrap();
    let ran = p.aj(["volume", "create", "u"]);
    let hint = format!("`chmod u+rwX '{}'`", shut.display());
    assert!(ran.code == Some(1) && ran.stderr.contains(&hint), "{hint}: {ran:#?}");
    p.outside(&format!("chmod u+rwX '{}'", shut.display()));
    p.runs(&["volume", "create", "u"]);
}

#[test]
fn a_cache_that_was_shut_is_not_blamed_on_the_machine() {
    let Some(p) = Project::in_jails() else { return };
    p.runs(&["exec", "--", "true"]);
    let cache = p.state().join("cache");
    let mode = |bits| std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(bits)).unwrap();
    mode(0o000);
    let ran = p.aj(["exec", "--", "true"]);
    mode(0o700);
    let hint = format!("chmod u+rwX '{}'", cache.display());
    assert!(ran.code == Some(125) && ran.stderr.contains(&hint), "{hint}: {ran:#?}");
    assert!(!ran.stderr.contains("seccomp") && !ran.stderr.contains("sandbox"), "{ran:#?}");
}
