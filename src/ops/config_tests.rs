use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use super::*;
use crate::policy::settings::Access;

fn project(setup: impl FnOnce(&Path)) -> Result<Option<ProjectFile>, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(PROJECT_FILE);
    setup(&path);
    load_project(&path, PROJECT_FILE)
}

fn refused(setup: impl FnOnce(&Path)) -> String {
    let started = Instant::now();
    let message = project(setup).unwrap_err().to_string();
    assert!(started.elapsed() < Duration::from_secs(20), "it waited");
    assert!(message.len() < 400, "{message}");
    message
}

#[test]
fn a_missing_project_file_is_no_file() {
    assert!(project(|_| ()).unwrap().is_none());
    assert!(project(|p| std::fs::write(p, "").unwrap()).unwrap().is_some());
}

#[test]
fn a_hostile_project_file_is_refused_by_kind_and_never_read() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "root:hunter2").unwrap();
    // Teeth: the same text in the file itself is read, and refused as TOML.
    assert!(refused(|p| std::fs::write(p, "root:hunter2").unwrap()).contains("not valid TOML"));
    let message = refused(|p| symlink(secret.path(), p).unwrap());
    assert_eq!(message, "could not read `aj.toml`: it is a symbolic link, not a regular file");
    let message = refused(|p| symlink("/nowhere", p).unwrap());
    assert!(message.contains("a symbolic link"), "{message}");
    let message = refused(|p| nix::unistd::mkfifo(p, nix::sys::stat::Mode::S_IRWXU).unwrap());
    assert!(message.contains("a FIFO"), "{message}");
    let message = refused(|p| std::fs::create_dir(p).unwrap());
    assert!(message.contains("a directory"), "{message}");
    let message = refused(|p| drop(std::os::unix::net::UnixListener::bind(p).unwrap()));
    assert!(message.contains("a socket"), "{message}");
}

#[test]
fn a_huge_project_file_costs_a_bounded_read() {
    // Sparse: reading it whole would take 1 TiB of memory.
    let message = refused(|p| File::create(p).unwrap().set_len(1 << 40).unwrap());
    assert_eq!(message, "aj.toml:1: the file is larger than 1 MiB");
}

#[test]
fn unreadable_files_are_errors_not_absences() {
    // Not a file without permissions: root reads that one too.
    let e = load_project(&Path::new("/tmp").join("x".repeat(300)), "x").unwrap_err();
    assert!(e.to_string().contains("ENAMETOOLONG"), "{e}");
    let e = load_user(&Path::new("/tmp").join("x".repeat(300))).unwrap_err();
    assert!(matches!(e, Error::Read { errno: Errno::ENAMETOOLONG, .. }), "{e}");
}

#[test]
fn the_users_file_may_be_a_link() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("real"), "[defaults]\nworkspace = \"ro\"\n").unwrap();
    let path = dir.path().join("config.toml");
    symlink("real", &path).unwrap();
    let file = load_user(&path).unwrap().unwrap();
    assert_eq!(file.defaults.access.unwrap().value, Access::Ro);
    assert!(load_user(&dir.path().join("none")).unwrap().is_none());
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(load_user(&fifo), Err(Error::Kind { .. })));
}

#[test]
fn a_users_file_that_cannot_be_reached_is_not_taken_for_none() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let load = |name: &str| load_user(&at(name).join("config.toml")).map(|f| f.is_some());
    // Never made, in a directory or without one.
    std::fs::create_dir_all(at("empty")).unwrap();
    symlink("empty", at("linked")).unwrap();
    for name in ["empty", "linked", "none", "none/below"] {
        assert_eq!(load(name).ok(), Some(false), "{name}");
    }
    // The file, its directory and a directory above it as links to nothing.
    std::fs::create_dir_all(at("a")).unwrap();
    symlink("/dotfiles/config.toml", at("a/config.toml")).unwrap();
    symlink("../dotfiles", at("b")).unwrap();
    for (name, link, target) in [
        ("a", "a/config.toml", "/dotfiles/config.toml"),
        ("b", "b", "../dotfiles"),
        ("b/below", "b", "../dotfiles"),
    ] {
        let message = load(name).unwrap_err().to_string();
        let said = format!("`{}` is a link to `{target}`, which does not exist (ENOENT)", at(link).display());
        assert!(message.ends_with(&said), "{message}");
    }
    std::fs::write(at("file"), "").unwrap();
    symlink("file", at("to-file")).unwrap();
    for (name, place) in [("file", "file"), ("file/below", "file"), ("to-file", "to-file")] {
        let message = load(name).unwrap_err().to_string();
        let said = format!("`{}` is a file, not a directory (ENOTDIR)", at(place).display());
        assert!(message.ends_with(&said), "{message}");
    }
    symlink("loop", at("loop")).unwrap();
    assert!(load("loop").unwrap_err().to_string().contains("ELOOP"));
}

#[test]
fn env_files_come_before_env_flags_and_may_be_pipes() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.env"), "A=file\nB=file\nC\n").unwrap();
    std::fs::write(dir.path().join("b.env"), "B=later\n").unwrap();
    let mut flags = Layer::default();
    flags.set_env("A".into(), "flag".into(), 0);
    let flags = with_env_files(dir.path(), flags, &["a.env".into(), "b.env".into()]).unwrap();
    let got: Vec<(&str, &str)> =
        flags.env.iter().map(|e| (e.value.0.to_str().unwrap(), e.value.1.to_str().unwrap())).collect();
    assert_eq!(got, [("B", "later"), ("A", "flag")]);
    assert_eq!(flags.pass.len(), 1);

    std::fs::write(dir.path().join("bad.env"), "\nB=\"x").unwrap();
    let e = with_env_files(dir.path(), Layer::default(), &["bad.env".into()]).unwrap_err();
    assert_eq!(
        e.to_string(),
        "could not read `bad.env`: line 2: the value of `B` has no closing quote on its line"
    );

    let (reader, mut writer) = io::pipe().unwrap();
    io::Write::write_all(&mut writer, b"P=1\n").unwrap();
    drop(writer);
    let fd = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
    let flags = with_env_files(dir.path(), Layer::default(), &[fd.into()]).unwrap();
    assert_eq!(flags.env.len(), 1);
    assert!(matches!(
        with_env_files(dir.path(), Layer::default(), &["/dev/zero".into()]),
        Err(Error::TooLarge { .. })
    ));
}

#[test]
fn names_with_escapes_reach_no_terminal() {
    let e = read_any(Path::new(std::ffi::OsStr::from_bytes(b"/x\x1b]0;t\x07")), &os("/x\x1b]0;t\x07"))
        .unwrap_err();
    assert!(!e.to_string().contains('\x1b'));
}

#[test]
fn the_facts_of_this_machine_are_plausible() {
    let facts = facts();
    assert!(facts.ram > 64 << 20 && facts.cpus >= 1, "{facts:?}");
    assert!(facts.nofile_soft <= facts.nofile_hard);
}

#[test]
fn directories_of_flags_become_absolute() {
    let dir = tempfile::tempdir().unwrap();
    let ro = ["sub/../x", ".", "/y"].map(|p| PathBuf::from(p).into()).to_vec();
    let flags = Layer { ro, ..Layer::default() };
    let ro = policy_of(&Loaded::default(), dir.path(), None, flags, &[]).unwrap().settings.ro;
    let want = [dir.path().join("sub/../x"), dir.path().to_owned(), "/y".into()];
    assert_eq!(ro, want);
    assert_eq!(ro[1].as_os_str(), dir.path().as_os_str(), "no `/.` at the end");
}

#[test]
fn a_check_names_what_would_be_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(PROJECT_FILE);
    assert!(check(dir.path(), Some(&path)).unwrap().is_none());
    assert!(check(dir.path(), Some(Path::new("none.toml"))).unwrap().is_none());
    std::fs::write(&path, "[jail]\nnet = \"host\"\nmen = 1\n").unwrap();
    let loaded = Loaded { user: None, project: load_project(&path, PROJECT_FILE).unwrap() };
    let found = checked(&loaded).unwrap();
    assert_eq!(found.files, ["aj.toml"]);
    let mine = found.warnings;
    assert!(mine.len() == 2 && mine[0].contains("did you mean `mem`") && mine[1].contains("would widen"));
    let user = dir.path().join("other.toml");
    std::fs::write(&user, "[defaults]\npreset = \"bild\"\n").unwrap();
    let e = check(dir.path(), Some(&user)).unwrap_err();
    assert!(e.to_string().contains("there is no preset `bild`"), "{e}");
}

#[test]
fn a_users_file_that_others_may_change_is_told_of() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, "").unwrap();
    let said = |mode| {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        load_user(&path).unwrap().unwrap().warnings
    };
    assert_eq!(said(0o644), Vec::<String>::new());
    for mode in [0o666, 0o602] {
        let warnings = said(mode);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with("everybody may change `"), "{warnings:?}");
        assert!(warnings[0].ends_with(&format!("`chmod go-w {}`", path.display())), "{warnings:?}");
    }
    let meta = std::fs::metadata(&path).unwrap();
    // The group of the same number is the user's own.
    assert_eq!(said(0o664).is_empty(), meta.uid() == meta.gid());
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(0), Some(12_345)).unwrap();
        assert!(said(0o664)[0].starts_with("its group may change `"));
        std::os::unix::fs::chown(&path, Some(12_345), Some(12_345)).unwrap();
        let warnings = said(0o664);
        assert!(warnings[0].contains("belongs to another user (12345)"), "{warnings:?}");
    }
}
