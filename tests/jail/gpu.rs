//! `--gpu`: on this machine, and on one that is made to look as if it had an NVIDIA driver.

use serde_json::Value;

use crate::yard::{Said, Yard, said, skip};

#[test]
fn where_there_is_no_gpu_it_is_refused_before_anything_runs() {
    let Some(yard) = Yard::new() else { return };
    if std::path::Path::new("/dev/nvidiactl").exists() {
        return skip("this machine has an NVIDIA driver");
    }
    for dry in [&[][..], &["--dry-run"]] {
        let options = ["--gpu", "all"].iter().chain(dry).copied();
        let said = said(&mut yard.exec(options, ["touch", "ran"]));
        assert!(said.fate == 125 && said.err.contains("there is no NVIDIA driver"), "{said:?}");
        assert!(said.err.contains("hint: leave out `--gpu`"), "{said:?}");
    }
    let bad = said(&mut yard.exec(["--gpu", "first"], ["true"]));
    assert!(bad.fate == 125 && bad.err.contains("neither `all` nor numbers"), "{bad:?}");
}

/// A `/dev` with the nodes of a driver, each of them a harmless device, and a library of it in `/opt`, in a
/// mount namespace of its own.
const MACHINE: &str = r#"
set -e
dev=$1; shift
mount -t tmpfs -o mode=755 dev "$dev"
for node in null zero full random urandom tty; do : > "$dev/$node"; mount --bind /dev/$node "$dev/$node"; done
mkdir "$dev/pts" "$dev/shm" "$dev/nvidia-caps"; mount --rbind /dev/pts "$dev/pts"; ln -s pts/ptmx "$dev/ptmx"
for node in nvidia0 nvidia1 nvidia-uvm; do mknod -m 666 "$dev/$node" c 1 5; done
mknod -m 666 "$dev/nvidiactl" c 1 3
mknod -m 400 "$dev/nvidia-caps/nvidia-cap1" c 1 3
mknod -m 444 "$dev/nvidia-caps/nvidia-cap2" c 1 3
mknod -m 666 "$dev/nvidia-nvswitch0" c 1 3
mount -t tmpfs -o mode=755 opt /opt
mkdir /opt/driver
echo 'int x;' | cc -shared -x c - -o /opt/driver/libcuda.so.550.1 -Wl,-soname,libcuda.so.1
echo private > /opt/driver/private
echo /opt/driver > /opt/conf
ldconfig -f /opt/conf -C /opt/cache 2>/opt/said
mount --bind /opt/cache /etc/ld.so.cache
mount --rbind "$dev" /dev
exec "$@"
"#;

fn on_machine(yard: &Yard, words: &str, script: &str) -> Said {
    std::fs::create_dir_all(yard.path("dev")).unwrap();
    let quoted = script.replace('\'', r"'\''");
    let words = words.replace("SCRIPT", &format!("sh -c '{quoted}'"));
    let line = format!("unshare -m sh -c \"$MACHINE\" sh \"$DEV\" \"$AJ\" {words}");
    said(yard.sh(&line).env("MACHINE", MACHINE).env("DEV", yard.path("dev")))
}

#[test]
fn the_nodes_that_are_asked_for_work_inside_and_nothing_else_is_there() {
    let Some(yard) = Yard::new() else { return };
    if !nix::unistd::geteuid().is_root() {
        return skip("only root can make device nodes");
    }
    let script = "cd /dev; echo nvidia*; echo nvidia-caps/*; head -c 3 nvidia0 | od -An -tx1; echo x > nvidia0 && \
                  echo written; chmod 600 nvidia0 2>/dev/null || echo kept; cat nvidia-caps/nvidia-cap2; \
                  readlink /opt/driver/libcuda.so.1; head -c 4 /opt/driver/libcuda.so.1 | tail -c 3; echo; \
                  ls /opt/driver; rm nvidia0 2>/dev/null || echo stays";
    let ran = on_machine(&yard, "exec --gpu 0 -- SCRIPT", script);
    let shown = "nvidia-caps nvidia-uvm nvidia0 nvidiactl\nnvidia-caps/nvidia-cap2\n 00 00 00\nwritten\nkept\n\
                 /opt/driver/libcuda.so.550.1\nELF\nlibcuda.so.1\nlibcuda.so.550.1\nstays\n";
    assert_eq!((ran.fate, ran.out.as_str()), (0, shown), "{ran:?}");
    let record = said(&mut yard.sh("\"$AJ\" jail show @ --json"));
    let record: Value = serde_json::from_str(&record.out).unwrap();
    let nodes = ["/dev/nvidia-caps/nvidia-cap2", "/dev/nvidia-uvm", "/dev/nvidia0", "/dev/nvidiactl"];
    assert_eq!(record["policy"]["gpu"], serde_json::json!(nodes));
    let dry = on_machine(&yard, "exec --dry-run --json --gpu 0 -- true", "");
    let dry: Value = serde_json::from_str(&dry.out).unwrap();
    assert_eq!(dry["gpu"], serde_json::json!(nodes));
    // The second run over a tree has its root ready-made.
    for _ in 0..3 {
        let all = on_machine(&yard, "exec --gpu all -- SCRIPT", "cd /dev; ls -d nvidia?");
        assert_eq!((all.fate, all.out.as_str()), (0, "nvidia0\nnvidia1\n"), "{all:?}");
    }
    let none = on_machine(&yard, "exec -- SCRIPT", "ls -d /dev/nvidia* /opt/driver");
    assert!(none.fate == 2 && none.out.is_empty(), "{none:?}");
    let missing = on_machine(&yard, "exec --gpu 0,7 -- true", "");
    let message = "there is no `/dev/nvidia7`; there is `/dev/nvidia0`, `/dev/nvidia1`";
    assert!(missing.fate == 125 && missing.err.contains(message), "{missing:?}");
}
