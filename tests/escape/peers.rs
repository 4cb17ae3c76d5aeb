//! Services of the host that listen on sockets, segments and names (jail.md C7).

use std::fs::File;
use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use crate::probe::{Ground, is_root, run, skip, teeth};

/// Where the desktop and the daemons of a machine listen. Each is planted as far as this user may.
fn planted(ground: &Ground) -> (Vec<String>, Vec<UnixListener>) {
    let own = ground.dir.path().file_name().unwrap().to_string_lossy().into_owned();
    let runtime =
        std::env::var("XDG_RUNTIME_DIR").unwrap_or_else(|_| format!("/run/user/{}", nix::unistd::getuid()));
    let places = [
        ground.path("agent.sock"),
        format!("/tmp/{own}.sock"),
        format!("/run/{own}.sock"),
        format!("{runtime}/{own}.sock"),
        format!("/dev/shm/{own}.sock"),
        format!("/var/tmp/{own}.sock"),
    ];
    let (mut paths, mut listeners) = (Vec::new(), Vec::new());
    for path in places {
        if let Ok(listener) = UnixListener::bind(&path) {
            paths.push(path);
            listeners.push(listener);
        }
    }
    (paths, listeners)
}

#[test]
fn sockets_of_the_host_are_not_there() {
    let Some(ground) = Ground::new() else { return };
    let (paths, _listeners) = planted(&ground);
    let known = [
        "/var/run/docker.sock",
        "/run/docker.sock",
        "/run/podman/podman.sock",
        "/run/containerd/containerd.sock",
        "/run/systemd/private",
        "/run/dbus/system_bus_socket",
        "/tmp/.X11-unix/X0",
        "/run/snapd.socket",
        "/var/run/nscd/socket",
        "/run/pcscd/pcscd.comm",
        "/run/systemd/journal/socket",
    ];
    let mut words = vec!["connect"];
    for path in paths.iter().map(String::as_str).chain(known) {
        words.extend(["unix", path]);
    }
    for flags in [&[][..], &["--as-root"], &["--net", "host"]] {
        let said = ground.jail(flags, &words);
        for path in paths.iter().map(String::as_str).chain(known) {
            said.expect("ENOENT", &[path]);
        }
        let planted: Vec<&str> = paths.iter().map(String::as_str).collect();
        teeth(&said, ground.outside(&words), &planted);
        // bwrap shows the file system, and a path connects through any network namespace.
        teeth(
            &said,
            ground.bwrap(&[], &words),
            &planted.iter().filter(|p| p.starts_with("/var/tmp")).copied().collect::<Vec<_>>(),
        );
    }
    for path in paths {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn abstract_sockets_of_the_host_are_not_there() {
    let Some(ground) = Ground::new() else { return };
    let name = format!("agentjail-peers-{}", ground.dir.path().file_name().unwrap().to_string_lossy());
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let words = ["connect", "abstract", &name];
    let said = ground.jail(&[], &words);
    said.expect("ECONNREFUSED", &[&name]);
    teeth(&said, ground.outside(&words), &[&name]);
}

/// A socket that a process of the host made inside the tree. Through the overlay it is a name
/// without a listener. With `--rw` it is the host's own inode, and connects: `--rw` shows the
/// directory as it is, and SECURITY.md says so.
#[test]
fn a_socket_in_the_workspace_is_dead_in_an_overlay() {
    let Some(ground) = Ground::new() else { return };
    let path = ground.ws.join("s");
    let listener = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let words = ["connect", "unix", "./s"];
    let said = ground.jail(&[], &words);
    said.expect("ECONNREFUSED", &["./s"]);
    teeth(&said, ground.outside(&words), &["./s"]);
    ground.jail(&["--rw"], &words).expect("ok", &["./s"]);
    drop(listener);
}

/// What a directory that is shown read-only must not be: a way to whoever listens in it, a reader of
/// its pipes, a holder of its locks. Reading and executing what is in it works.
#[test]
fn sockets_pipes_and_locks_of_a_read_only_directory_are_not_the_hosts() {
    let Some(ground) = Ground::new() else { return };
    let elsewhere = ground.path("shown");
    std::fs::create_dir(&elsewhere).unwrap();
    ground.open_to_all();
    for (dir, flags) in [(ground.ws.to_str().unwrap(), &["--ro"][..]), (&elsewhere, &["--ro", &elsewhere])] {
        let [socket, pipe, file] = ["s", "pipe", "file"].map(|name| format!("{dir}/{name}"));
        let _listener = UnixListener::bind(&socket).unwrap();
        nix::unistd::mkfifo(pipe.as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::write(&file, "content").unwrap();
        for path in [&socket, &pipe, &file] {
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        }
        let mut host = File::options().read(true).write(true).open(&pipe).unwrap();
        host.write_all(b"for the host").unwrap();
        let lock = File::open(&file).unwrap();
        lock.lock().unwrap();

        let (connect, read, lock) = (["connect", "unix", &socket], ["open", &pipe, &file], ["lock", &file]);
        ground.jail(flags, &connect).expect("ECONNREFUSED", &[&socket]);
        let said = ground.jail(flags, &read);
        said.expect("empty", &[&pipe]);
        said.expect("ok", &[&file]);
        ground.jail(flags, &lock).expect("ok", &[&file]);
        // Teeth: shown by a plain bind, all of it is the host's.
        let plain = |words: &[&str]| ground.jail_without("ro_overlay", flags, words);
        let Some(said) = plain(&connect) else { return };
        said.expect("ok", &[&socket]);
        plain(&lock).unwrap().expect("EAGAIN", &[&file]);
        plain(&read).unwrap().expect("ok", &[&pipe]);
    }
    let program = format!("{elsewhere}/program");
    std::fs::copy(ground.ws.join("probe"), &program).unwrap();
    let said = run(&mut ground.aj(&["--ro", &elsewhere], [&program, "write", "x", &program]));
    said.expect("EROFS", &[&program]);
}

#[test]
fn shared_memory_of_the_host_is_not_there() {
    let Some(ground) = Ground::new() else { return };
    let name = format!("agentjail-{}", ground.dir.path().file_name().unwrap().to_string_lossy());
    let posix = format!("/dev/shm/{name}");
    if std::fs::write(&posix, "secret").is_err() {
        skip("/dev/shm cannot be written");
        return;
    }
    let said = ground.jail(&[], &["open", &posix]);
    let outside = ground.outside(&["open", &posix]);
    std::fs::remove_file(&posix).unwrap();
    said.expect("ENOENT", &[&posix]);
    teeth(&said, outside, &[&posix]);

    let key = format!("{:#x}", 0x616a_0000 + std::process::id());
    let made = ground.outside(&["shm", "make", &key]).unwrap();
    if made.of("make") != "ok" {
        skip(format!("no System V segments here: {}", made.of("make")));
        return;
    }
    let said = ground.jail(&[], &["shm", "get", &key]);
    let host = ground.jail(&["--net", "host"], &["shm", "get", &key]);
    let outside = ground.outside(&["shm", "get", &key]);
    ground.outside(&["shm", "rm", &key]);
    said.expect("ENOENT", &["get"]);
    host.expect("ENOENT", &["get"]);
    teeth(&said, outside, &["get"]);
}

/// Programs that ask a daemon of the host to run something.
#[test]
fn nobody_outside_runs_something_for_the_jail() {
    let Some(ground) = Ground::new() else { return };
    let marker = ground.path("marker");
    let asks = [
        "systemd-run --user touch",
        "systemd-run touch",
        "busctl --user list #",
        "dbus-send --session --dest=x / x.y #",
        "flatpak-spawn --host touch",
        "docker run x #",
        "loginctl list-sessions #",
        "xdg-open",
        "at now -f",
    ];
    for ask in asks {
        let script = format!("{ask} {marker}");
        let said = run(&mut ground.aj(&["--net", "host"], ["sh", "-c", &script]));
        assert_ne!(said.code, Some(0), "{ask}: {said:?}");
    }
    let said = run(&mut ground.aj(&[], ["sh", "-c", "echo '* * * * * x' | crontab - && echo planted"]));
    assert!(!said.stdout.contains("planted"), "{said:?}");
    assert!(!std::path::Path::new(&marker).exists());
    if is_root() && std::process::Command::new("crontab").arg("-l").output().is_err() {
        skip("no crontab on this machine");
    }
}
