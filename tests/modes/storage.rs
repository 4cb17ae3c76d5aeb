//! A state directory on a file system that holds no upper layer of an overlay: overlayfs itself.

use std::path::PathBuf;

use crate::common::{Ran, aj};
use crate::input::in_mount_namespace;
use crate::real::project::{Project, is_root, skip};

/// `script` with the state directory on an overlayfs whose own upper layer has `room`. `None` where
/// this machine or its kernel cannot do that.
fn on_overlayfs(p: &Project, room: &str, script: &str) -> Option<Ran> {
    let options = if is_root() { "" } else { "userxattr," };
    let script = format!(
        "umask 077; mkdir -p ../on && mount -t tmpfs -o size={room} none ../on && mkdir ../on/l ../on/u ../on/w ../on/m && \
         mount -t overlay -o {options}lowerdir=../on/l,upperdir=../on/u,workdir=../on/w none ../on/m || exit 99\n\
         export AJ_STATE_DIR=$(realpath ../on/m)/state\n{script}"
    );
    let ran = Ran::from(in_mount_namespace(p, &script)?.output().unwrap());
    if ran.code == Some(99) {
        skip(&format!("no overlayfs on a tmpfs here: {}", ran.stderr.trim()));
        return None;
    }
    Some(ran)
}

#[test]
fn what_a_live_jail_holds_in_memory_is_not_said_to_be_absent_and_not_forked() {
    let p = project();
    let script = "
        $AJ ws create api --from-dir . && $AJ ws start api && $AJ exec api -- sh -c 'echo held > new; echo y >> f' || exit 1
        for ask in 'fs cat api new' 'fs list api' 'search api held' 'cp api:f ../copy' 'ws fork api --name other'; do
            $AJ $ask; echo $?; done
        echo put | $AJ fs write api put && $AJ exec api -- cat put; $AJ ws show other --json; echo $?
        $AJ ws stop api && $AJ fs cat api new && $AJ fs cat api put; test -e ../copy || echo none";
    let Some(ran) = on_overlayfs(&p, "64M", script) else { return };
    assert!(ran.stdout.ends_with("5\n5\n5\n5\n5\nput\n3\nheld\nput\nnone\n"), "{ran:#?}");
    assert_eq!(ran.stderr.matches("is in the memory of its jail until that ends").count(), 4, "{ran:#?}");
    assert!(ran.stderr.contains("cannot be forked now: what runs in it writes to memory"), "{ran:#?}");
    assert!(!ran.stderr.contains("private copy"), "{ran:#?}");
}

const CHANGE: &str = "echo y >>f; rm gone; mkdir d; echo deep >d/new; ln -s f link; chmod 640 mode; rm -r dir; mkdir dir; touch dir/b";

fn project() -> Project {
    let p = Project::new();
    for name in ["f", "gone", "mode", "dir/a", "kept"] {
        p.write(name, "x\n");
    }
    p
}

#[test]
fn changes_are_held_in_memory_kept_on_disk_and_applied() {
    let p = project();
    let script = format!(
        "$AJ exec -- sh -c '{CHANGE}' || exit 1; ls; echo --; $AJ diff @ --json; echo; \
         $AJ exec @ -- sh -c 'cat f d/new; ls dir gone; echo z >>f; rm kept' ; echo --; \
         $AJ apply @ >&2 || exit 2; $AJ jail list --json; echo"
    );
    let Some(ran) = on_overlayfs(&p, "64M", &script) else { return };
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let parts: Vec<&str> = ran.stdout.split("--\n").collect();
    assert_eq!(parts[0], "dir\nf\ngone\nkept\nmode\n", "the host's own is untouched: {ran:#?}");
    assert!(parts[1].ends_with("x\ny\ndeep\ndir:\nb\n"), "it goes on in what was kept: {ran:#?}");
    assert_eq!(ran.stderr.matches("storage memory: ").count(), 2, "{ran:#?}");
    let text = |name: &str| std::fs::read_to_string(p.dir().join(name));
    assert_eq!(text("f").unwrap(), "x\ny\nz\n", "{ran:#?}");
    assert_eq!((text("d/new").unwrap(), text("dir/b").unwrap()), ("deep\n".to_owned(), String::new()));
    for gone in ["gone", "dir/a", "kept"] {
        assert!(text(gone).is_err(), "{gone}");
    }
    assert_eq!(std::fs::read_link(p.dir().join("link")).unwrap().to_str(), Some("f"));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(p.dir().join("mode")).unwrap().permissions().mode() & 0o777, 0o640);
    // One start in vain: what worked is remembered.
    let list: serde_json::Value = serde_json::from_str(parts[2].trim()).unwrap();
    let jails = list["jails"].as_array().unwrap();
    assert_eq!(jails.iter().filter(|j| j["status"] == "failed").count(), 1, "{list:#}");
    assert_eq!(jails.len(), 3, "{list:#}");
}

/// As tmpfs before Linux 6.6: an overlay over it mounts, and no directory could be removed in it (EIO).
#[test]
fn a_state_without_attributes_is_refused_before_anything_runs() {
    let p = project();
    let script = |command: &str| {
        format!(
            "umask 077; mkdir -p ../on && mount -t ramfs none ../on || exit 99
             export AJ_STATE_DIR=$(realpath ../on)/state
             {command}"
        )
    };
    let Some(mut command) =
        in_mount_namespace(&p, &script("$AJ exec -- rm -r dir; echo $?; $AJ exec --rw -- ls dir"))
    else {
        return;
    };
    let ran = Ran::from(command.output().unwrap());
    if ran.code == Some(99) {
        return skip("no ramfs here");
    }
    assert_eq!(ran.stdout, "125\na\n", "{ran:#?}");
    assert!(ran.stderr.contains("holds neither an upper layer of an overlay nor a copy of one"), "{ran:#?}");
    assert!(ran.stderr.contains("set AJ_STATE_DIR to a directory on ext4"), "{ran:#?}");
    let doctor = in_mount_namespace(&p, &script("$AJ doctor")).unwrap().output().unwrap();
    let ran = Ran::from(doctor);
    assert!(ran.stdout.contains("knows no attributes"), "{ran:#?}");
}

#[test]
fn what_was_in_memory_when_aj_was_killed_is_said_to_be_lost() {
    let p = project();
    let killed = "$AJ exec -- true
        $AJ exec -- sh -c 'echo y >f; echo ready; exec sleep 60' >../said & jail=$!
        for i in $(seq 200); do [ -s ../said ] && break; sleep .05; done
        kill -KILL $jail; wait; $AJ diff";
    let Some(ran) = on_overlayfs(&p, "64M", killed) else { return };
    assert!(ran.stderr.contains("what that changed was in memory until its end, and is lost"), "{ran:#?}");
}

#[test]
fn secrets_are_hidden_there_too_and_are_no_changes() {
    let p = project();
    p.write(".env", "TOKEN=1\n");
    let Some(ran) = on_overlayfs(&p, "64M", "$AJ exec -- sh -c 'ls -a; touch new'; $AJ diff @") else {
        return;
    };
    assert!(!ran.stdout.contains(".env"), "{ran:#?}");
    assert!(ran.stdout.contains("new"), "{ran:#?}");
    let ran = on_overlayfs(&p, "64M", "$AJ exec -- true; $AJ diff @ --json").unwrap();
    assert!(ran.stderr.contains("no changes are kept"), "{ran:#?}");
}

#[test]
fn changes_that_find_no_room_are_lost_with_a_word_and_a_code() {
    let p = project();
    let write = "$AJ exec --tmp 64M -- sh -c 'head -c 40M /dev/urandom >big'; echo $?; ls; $AJ diff @";
    let Some(ran) = on_overlayfs(&p, "16M", write) else { return };
    assert!(ran.stdout.starts_with("125\n"), "{ran:#?}");
    assert!(ran.stderr.contains("what the command changed could not be kept and is lost: "), "{ran:#?}");
    assert!(ran.stderr.contains("ENOSPC"), "{ran:#?}");
    assert!(ran.stderr.contains("no changes are kept"), "nothing half is left: {ran:#?}");
    // What was kept before stays as it was.
    let again = "$AJ exec --tmp 64M -- sh -c 'echo 1 >small'; $AJ exec --tmp 64M @ -- sh -c 'head -c 40M /dev/urandom >big'; \
                 echo $?; $AJ exec @ -- cat small";
    let ran = on_overlayfs(&p, "16M", again).unwrap();
    assert_eq!(ran.stdout, "125\n1\n", "{ran:#?}");
}

#[test]
fn memory_is_bounded_by_tmp() {
    let p = project();
    let write = "$AJ exec --tmp 4M -- sh -c 'head -c 8M /dev/zero >big || echo full'";
    let Some(ran) = on_overlayfs(&p, "64M", write) else { return };
    assert!(ran.stdout.contains("full"), "{ran:#?}");
}

/// The tmpfs is no larger than what may be written in all: a hard limit, for which nobody has to look.
#[test]
fn memory_is_bounded_by_disk_as_well() {
    let p = project();
    let write =
        "$AJ exec --disk 4M --tmp 32M -- sh -c 'head -c 8M /dev/zero >big || echo full; rm big; echo more'";
    let Some(ran) = on_overlayfs(&p, "64M", write) else { return };
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "full\nmore\n"), "{ran:#?}");
    assert!(ran.stderr.contains("4 MiB at most: `--disk`"), "{ran:#?}");
    let ran =
        on_overlayfs(&p, "64M", "$AJ exec -- true; $AJ --json exec --disk 4M --tmp 32M -- true").unwrap();
    assert_eq!(super::json(&ran, "/policy/disk_by"), "tmpfs");
    for limit in ["/policy/disk", "/policy/tmp"] {
        assert_eq!(super::json(&ran, limit), 4 << 20, "{limit}");
    }
    // Teeth: with room it is not full.
    let ran = on_overlayfs(&p, "64M", &write.replace("--disk 4M", "--disk 16M")).unwrap();
    assert_eq!(ran.stdout, "more\n", "{ran:#?}");
}

/// On any file system, for everybody: a hard limit of what is written.
#[test]
fn memory_can_be_asked_for() {
    let Some(p) = Project::in_jails() else { return };
    p.write("f", "x\n");
    let run = ["--json", "exec", "--storage", "memory", "--disk", "4M", "--tmp", "32M", "--"];
    let script = "head -c 8M /dev/zero >big || echo full; rm big; echo y >>f";
    let ran = p.runs(&[&run[..], &["sh", "-c", script]].concat());
    if super::json(&ran, "/policy/storage") == "copy" {
        return skip("a tmpfs of this kernel knows no attributes");
    }
    assert_eq!(super::json(&ran, "/stdout"), "full\n");
    assert_eq!(
        (super::json(&ran, "/policy/storage"), super::json(&ran, "/policy/disk_by")),
        ("memory".into(), "tmpfs".into())
    );
    assert!(!ran.stderr.contains("storage memory"), "it was asked for: {ran:#?}");
    // Kept on the disk, and gone on in.
    assert_eq!(std::fs::read_to_string(p.dir().join("f")).unwrap(), "x\n");
    assert_eq!(p.runs(&["diff"]).stdout.lines().next(), Some("M f"));
    assert_eq!(p.runs(&["exec", "--storage", "memory", "@", "--", "cat", "f"]).stdout, "x\ny\n");
    assert_eq!(p.runs(&["exec", "@", "--", "cat", "f"]).stdout, "x\ny\n");
    // A file that has lost its name counts as well; teeth: with room it is written.
    let script = "exec 3>big; rm big; head -c 8M /dev/zero >&3 && echo all; true";
    for (limit, said) in [("4M", ""), ("16M", "all\n")] {
        let ran = p.runs(&["exec", "--storage", "memory", "--disk", limit, "--", "sh", "-c", script]);
        assert_eq!(ran.stdout, said, "{ran:#?}");
    }
}

#[test]
fn what_is_in_memory_is_not_said_to_be_no_change() {
    let Some(p) = Project::in_jails() else { return };
    p.write("f", "x\n");
    for words in
        [&["ws", "create", "api", "--storage", "memory", "--from-dir", "."][..], &["ws", "start", "api"]]
    {
        assert_eq!(p.runs(words).code, Some(0));
    }
    let ran = p.runs(&["--json", "exec", "api", "--", "touch", "new"]);
    if super::json(&ran, "/policy/storage") != "memory" {
        return skip("a tmpfs of this kernel knows no attributes");
    }
    let ran = p.runs(&["diff", "api"]);
    assert_eq!((ran.code, &*ran.stdout), (Some(0), ""), "{ran:#?}");
    assert!(
        ran.stderr.contains("in its memory until it ends (storage memory), and not told here"),
        "{ran:#?}"
    );
    assert_eq!(p.runs(&["ws", "stop", "api"]).code, Some(0));
    let ran = p.runs(&["diff", "api"]);
    assert!(ran.stdout == "A new\n" && !ran.stderr.contains("memory"), "{ran:#?}");
}

#[test]
fn what_was_in_the_memory_of_a_killed_jail_is_said_to_be_lost() {
    let Some(p) = Project::in_jails() else { return };
    p.write("f", "x\n");
    p.runs(&["ws", "create", "api", "--storage", "memory", "--from-dir", "."]);
    let since = |p: &Project| {
        let shown: serde_json::Value =
            serde_json::from_str(&p.runs(&["ws", "show", "api", "--json"]).stdout).unwrap();
        (shown["lost_since"].clone(), shown["live"]["pid"].as_i64())
    };
    let ran = p.runs(&["--json", "exec", "api", "--", "sh", "-c", "echo kept > kept"]);
    if super::json(&ran, "/policy/storage") != "memory" {
        return skip("a tmpfs of this kernel knows no attributes");
    }
    assert_eq!(since(&p), (serde_json::Value::Null, None), "it has ended as it should");
    p.runs(&["ws", "start", "api"]);
    p.runs(&["exec", "api", "--", "sh", "-c", "echo new > new"]);
    let (none, holder) = since(&p);
    assert!(none.is_null(), "it runs");
    let holder = nix::unistd::Pid::from_raw(holder.unwrap() as i32);
    nix::sys::signal::kill(holder, nix::sys::signal::Signal::SIGKILL).unwrap();
    let told = || since(&p).0.as_str().map(str::to_owned);
    assert!(
        crate::yard::eventually(std::time::Duration::from_secs(10), || told().is_some()),
        "nothing is told"
    );
    let began = told().unwrap();
    let shown = p.runs(&["ws", "show", "api"]).stdout;
    let row = format!("what was written since {began}: its jail, killed, had it in memory");
    assert!(shown.contains(&row), "{shown}");
    // Looking at it and writing from outside leave that as it is.
    p.runs(&["fs", "write", "api", "outside"]);
    assert_eq!(told().as_deref(), Some(&*began));
    let ran = p.runs(&["exec", "api", "--", "sh", "-c", "ls"]);
    assert!(ran.stdout.contains("kept") && !ran.stdout.contains("new"), "{ran:#?}");
    assert!(ran.stderr.contains(&format!("what was written since {began} is lost")), "{ran:#?}");
    // Once.
    assert!(crate::yard::eventually(std::time::Duration::from_secs(10), || told().is_none()));
    assert!(!p.runs(&["exec", "api", "--", "true"]).stderr.contains("lost"));
}

/// Whoever runs the last command in a workspace is told, not only whoever comes next.
#[test]
fn what_could_not_be_kept_of_a_workspace_is_told_by_the_command() {
    let p = project();
    let script = "
        $AJ ws create api --from-dir . && $AJ exec api -- sh -c 'echo kept >>f' || exit 1
        $AJ exec api -- sh -c 'echo lost >>f; head -c 24M /dev/zero >big'; echo $?
        $AJ exec api -- cat f";
    let Some(ran) = on_overlayfs(&p, "16M", script) else { return };
    assert!(ran.stdout.ends_with("125\nx\nkept\n"), "{ran:#?}");
    assert_eq!(ran.stderr.matches("could not be kept and is lost").count(), 1, "{ran:#?}");
}

#[test]
fn it_is_recorded_where_changes_were() {
    let p = project();
    let Some(ran) = on_overlayfs(&p, "64M", "$AJ --json exec -- true") else { return };
    assert_eq!(super::json(&ran, "/policy/storage"), "memory");
    assert_eq!(super::json(&ran, "/policy/mode"), "full");
    let Some(p) = Project::in_jails() else { return };
    assert_eq!(super::json(&p.runs(&["--json", "exec", "--", "true"]), "/policy/storage"), "disk");
    assert_eq!(super::json(&p.runs(&["--json", "exec", "--ro", "--", "true"]), "/policy/storage"), "");
}

/// As root a directory on overlayfs or FUSE cannot be shown under other ids: a private copy is.
#[test]
fn root_works_on_a_private_copy_where_nothing_else_can_be_shown() {
    if !is_root() {
        return skip("an ordinary user needs no other ids");
    }
    let p = project();
    p.write(".env", "TOKEN=1\n");
    let script = format!(
        "mkdir ../l ../u ../w ../m; cp -a . ../l; mount -t tmpfs none ../u && mkdir ../u/u ../u/w && \
         mount -t overlay -o lowerdir=../l,upperdir=../u/u,workdir=../u/w none ../m || exit 99; cd ../m
         chown -R 5:5 . ; chmod 600 mode; chown 7 kept
         $AJ --json exec -- sh -c '{CHANGE}; cat f; stat -c \"%u %a\" f mode; ls .env; echo w >kept; :' || exit 1; echo
         ls; $AJ diff @ >&2; $AJ apply @ >&2 || exit 2; cat f d/new; stat -c '%u %U' f d/new; ls dir; cat kept"
    );
    let ran = Ran::from(in_mount_namespace(&p, &script).unwrap().output().unwrap());
    if ran.code == Some(99) {
        return skip("no overlayfs on a tmpfs here");
    }
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let (answer, rest) = ran.stdout.split_once('\n').unwrap();
    let answer: serde_json::Value = serde_json::from_str(answer).unwrap();
    assert_eq!(answer["policy"]["storage"], "copy", "{answer:#}");
    assert_eq!(answer["stdout"], "x\ny\n1000 644\n1000 640\n", "{answer:#}");
    assert!(answer["stderr"].as_str().unwrap().contains(".env"), "secrets are left out: {answer:#}");
    assert!(
        answer["stderr"].as_str().unwrap().contains("kept: Permission denied"),
        "of another owner: {answer:#}"
    );
    assert_eq!(
        rest.trim(),
        "dir\nf\ngone\nkept\nmode\nx\ny\ndeep\n5 UNKNOWN\n5 UNKNOWN\nb\nx".replace("UNKNOWN", &name_of(5)),
        "{ran:#?}"
    );
    let state = std::fs::read_dir(p.state().join("trees")).unwrap();
    let left: Vec<_> =
        state.filter_map(|e| Some(e.ok()?.path().join("copy"))).filter(|c| c.exists()).collect();
    assert!(left.is_empty(), "the copy goes with its run: {left:?}");
    let again = format!("{}; $AJ exec @ -- true", script.replace("$AJ apply @ >&2 || exit 2", ":"));
    let ran = Ran::from(
        in_mount_namespace(&p, &again.replace("mkdir ../l ../u ../w ../m; cp -a . ../l", ":"))
            .unwrap()
            .output()
            .unwrap(),
    );
    assert!(ran.stderr.contains("no overlay can be had, which that takes"), "{ran:#?}");
}

fn name_of(uid: u32) -> String {
    nix::unistd::User::from_uid(uid.into()).ok().flatten().map_or_else(|| "UNKNOWN".to_owned(), |u| u.name)
}

/// A file system without shared memory, as some of the network: FUSE that caches nothing.
#[test]
fn a_state_without_shared_memory_has_a_ledger_and_keeps_changes() {
    if !is_root() {
        return skip("/dev/fuse belongs to root here");
    }
    if !crate::real::project::has("bindfs") {
        return;
    }
    let p = project();
    let mount = "mkdir -m 700 ../on ../m && bindfs -o direct_io ../on ../m || exit 99; here=$AJ_STATE_DIR
                 elsewhere=$(realpath ../m)/s";
    // The same state, made by a run on an ordinary file system first, and read from both.
    for before in [
        ":",
        "AJ_STATE_DIR=$(realpath ../on)/s $AJ exec -- true; AJ_STATE_DIR=$(realpath ../on)/s $AJ jail list",
    ] {
        let script = format!(
            "{mount}; {before}; export AJ_STATE_DIR=$elsewhere
             $AJ exec -- sh -c 'echo y >>f; rm gone'; echo --; $AJ jail list -q | wc -l; $AJ jail list -q | wc -l
             $AJ apply @ >&2; cat f; ls gone; umount ../m; rmdir ../m; rm -r ../on; echo x >f; echo x >gone"
        );
        let ran = Ran::from(in_mount_namespace(&p, &script).unwrap().output().unwrap());
        if ran.code == Some(99) {
            return skip("this machine has no FUSE");
        }
        let said = ran.stdout.split_once("--\n").unwrap().1;
        let jails = if before == ":" { 2 } else { 3 };
        assert_eq!(said, format!("{jails}\n{jails}\nx\ny\n"), "{ran:#?}");
        assert!(!ran.stderr.contains("ledger") && !ran.stderr.contains("lost"), "{ran:#?}");
        // Teeth: nothing can be mapped there.
        let map = "python3 -c 'import mmap,os; f=os.open(\"../m/t\",os.O_RDWR|os.O_CREAT); os.ftruncate(f,4096); mmap.mmap(f,4096)'";
        let ran = Ran::from(in_mount_namespace(&p, &format!("{mount}; {map}")).unwrap().output().unwrap());
        assert!(ran.stderr.contains("No such device") || ran.stderr.contains("not found"), "{ran:#?}");
        std::fs::remove_dir_all(p.top().join("on")).unwrap();
        std::fs::remove_dir(p.top().join("m")).unwrap();
    }
}

/// The file that remembers what worked, of a run that had to be content with a copy.
fn remember(p: &Project, word: &str) -> PathBuf {
    use std::os::unix::fs::MetadataExt;
    let (state, tree) = (std::fs::metadata(p.state()).unwrap().dev(), p.dir().metadata().unwrap().dev());
    let (major, minor) = (nix::sys::stat::major(state), nix::sys::stat::minor(state));
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let file = p.state().join(format!("cache/storage-{major:x}-{minor:x}-{tree:x}"));
    std::fs::write(&file, format!("{} {now} {word}\n", boot.trim())).unwrap();
    file
}

#[test]
fn nothing_is_refused_because_of_what_is_remembered() {
    let Some(p) = Project::in_jails() else { return };
    p.write("f", "x\n");
    p.runs(&["ws", "create", "api", "--from-dir", "."]);
    let file = remember(&p, "copy");
    let ran = p.runs(&["--json", "exec", "--", "true"]);
    assert_eq!(super::json(&ran, "/policy/storage"), "copy", "teeth: it is believed");
    let ran = p.runs(&["exec", "api", "--", "sh", "-c", "echo y >>f; cat f"]);
    assert_eq!(ran.stdout, "x\ny\n", "{ran:#?}");
    std::fs::remove_file(file).unwrap();
}

/// One that is run by a parent without CAP_SYS_ADMIN, or behind a filter, speaks for itself.
#[test]
fn what_one_caller_may_not_do_is_not_remembered_for_the_next() {
    if !is_root() {
        return skip("an ordinary user has no capability to do without");
    }
    let Some(p) = Project::in_jails() else { return };
    p.write("f", "x\n");
    let without = ["--inh-caps=-sys_admin", "--bounding-set=-sys_admin"];
    let ran = p.command("setpriv").args(without).arg(aj()).args(["exec", "--", "cat", "f"]).output().unwrap();
    let ran = Ran::from(ran);
    let why = "as root without CAP_SYS_ADMIN";
    assert!(ran.stderr.contains(why) || !ran.stderr.contains("private copy"), "{ran:#?}");
    let ran = p.runs(&["--json", "exec", "--", "true"]);
    assert_eq!(super::json(&ran, "/policy/storage"), "disk", "{ran:#?}");
    assert!(!ran.stderr.contains(why), "{ran:#?}");
    let none = ["--inh-caps=-all", "--bounding-set=-all"];
    let ran =
        Ran::from(p.command("setpriv").args(none).arg(aj()).args(["exec", "--", "true"]).output().unwrap());
    assert_eq!(ran.code, Some(125), "{ran:#?}");
    assert!(ran.stderr.contains("this root lacks some"), "{ran:#?}");
}

#[test]
fn memory_that_is_asked_for_and_has_no_use_is_told() {
    let Some(p) = Project::in_jails() else { return };
    for access in ["--rw", "--ro"] {
        let ran = p.runs(&["exec", "--storage", "memory", access, "--", "true"]);
        assert!(ran.stderr.contains("`--storage memory` has no effect on the directory"), "{ran:#?}");
        assert_eq!(p.runs(&["exec", access, "--", "true"]).stderr, "");
    }
    assert_eq!(p.runs(&["exec", "--storage", "memory", "--", "true"]).stderr, "");
}
