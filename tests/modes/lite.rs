//! Without namespaces: what Landlock and the filter hold, and what is said to be open.

use crate::common::{Ran, aj};
use crate::real::project::{Project, is_root, skip};

/// A bash script where no further user namespace can be made, with no capability left. `$AJ` is the program.
/// `None`, with the reason printed, where that cannot be had.
fn without_namespaces(p: &Project, script: &str) -> Option<Ran> {
    let map = if is_root() { "--map-root-user" } else { "--map-current-user" };
    let drop = if is_root() { "" } else { "setpriv --ambient-caps=-all --inh-caps=-all" };
    let close = format!("echo 0 >/proc/sys/user/max_user_namespaces || exit 99; exec {drop} bash -c \"$0\"");
    let mut command = p.command("unshare");
    command.args(["--user", map, "--keep-caps", "sh", "-c", &close, script]).env("AJ", aj());
    let ran = Ran::from(command.output().unwrap());
    if ran.code == Some(99) || ran.stderr.starts_with("unshare: ") {
        skip("no user namespace can be closed here");
        return None;
    }
    Some(ran)
}

/// The same for a user whose kernel has what the mode takes.
fn lite(p: &Project, script: &str) -> Option<Ran> {
    if is_root() {
        skip("root has no mode lite");
        return None;
    }
    if agentjail::sys::landlock::abi() < 2 {
        skip("no Landlock here");
        return None;
    }
    without_namespaces(p, script)
}

#[test]
fn nobody_gets_it_unasked_and_root_not_at_all() {
    let p = Project::new();
    let Some(ran) = without_namespaces(&p, "$AJ exec --mode nested -- echo ran") else { return };
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:#?}");
    // Root of one id fails before, and has no use for the hint.
    let said = ran.stderr.contains("ENOSPC") && ran.stderr.contains("--mode lite");
    assert_ne!(said, is_root(), "{ran:#?}");
    if is_root() {
        let ran = without_namespaces(&p, "$AJ exec --mode lite -- echo ran").unwrap();
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:#?}");
        assert!(ran.stderr.contains("root keeps its power") && ran.stderr.contains("setpriv"), "{ran:#?}");
    }
}

#[test]
fn a_directory_of_programs_with_a_secret_in_it_is_left_out_where_that_cannot_be_hidden() {
    let p = Project::new();
    let script = "mkdir -p ~/bin; echo 'echo mine' > ~/bin/mine; chmod 755 ~/bin ~/bin/mine; export PATH=~/bin:$PATH; \
                  run() { $AJ exec --mode lite -- sh -c \"mine; cat $HOME/bin/.env; true\"; }; run; \
                  echo the-secret > ~/bin/.env; run";
    let Some(ran) = lite(&p, script) else { return };
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "mine\n"), "{ran:#?}");
    assert!(ran.stderr.contains("/bin/.env` cannot be hidden without namespaces"), "{ran:#?}");
}

#[test]
fn changes_are_made_to_a_private_copy_compared_and_applied() {
    let p = Project::new();
    for (name, text) in [("f", "x\n"), ("gone", ""), ("d/old", ""), (".env", "TOKEN=1\n")] {
        p.write(name, text);
    }
    let change = "cat f; ls -A; echo y >>f; rm -r gone d; mkdir d; echo n >d/new; exit 3";
    let Some(ran) =
        lite(&p, &format!("$AJ exec --mode lite -- sh -c '{change}'; echo $?; cat f; $AJ apply @ >&2"))
    else {
        return;
    };
    assert_eq!(ran.stdout, "x\nd\nf\ngone\n3\nx\n", "{ran:#?}");
    assert_eq!(ran.stderr.matches("mode lite: no namespaces").count(), 1, "{ran:#?}");
    assert_eq!(ran.stderr.matches("storage copy: ").count(), 1, "{ran:#?}");
    assert_eq!(p.outside("cat f d/new; ls -A"), "x\ny\nn\n.env\nd\nf\n");
    let ran = lite(&p, "$AJ --json exec --mode lite -- true").unwrap();
    assert_eq!(super::json(&ran, "/policy/mode"), "lite");
    let layers = super::json(&ran, "/layers").to_string();
    assert!(layers.contains("\"landlock\"") && !layers.contains("ns\""), "{layers}");
    let ran = lite(&p, "$AJ exec --mode lite --require userns -- true").unwrap();
    assert!(ran.code == Some(125) && ran.stderr.contains("required: userns"), "{ran:#?}");
    let trees = std::fs::read_dir(p.state().join("trees")).unwrap().map(|e| e.unwrap().path());
    let left: Vec<_> = trees.filter(|t| ["copy", "home", "tmp"].iter().any(|n| t.join(n).exists())).collect();
    assert!(left.is_empty(), "{left:?}");
}

const TRY: &str = r#"
import os, socket, sys
def t(name, f):
    try: f(); print(name + ": ok")
    except OSError as e: print(name + ": refused")
victim, outside, port, path = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
t("read", lambda: open(outside).read())
t("write", lambda: open(outside, "a").write("x"))
t("list", lambda: os.listdir(os.path.dirname(outside)))
t("make", lambda: open(outside + ".new", "w"))
t("unlink", lambda: os.unlink(outside + ".victim"))
t("link", lambda: os.link(outside, "mine"))
t("rename", lambda: os.rename(outside + ".victim", "mine2"))
t("environ", lambda: open(f"/proc/{victim}/environ").read())
t("mem", lambda: open(f"/proc/{victim}/mem", "rb"))
t("oom", lambda: open(f"/proc/{victim}/oom_score_adj", "w").write("900"))
t("signal", lambda: os.kill(victim, 0))
def tcp(): s = socket.socket(); s.connect(("127.0.0.1", port))
t("tcp", tcp)
t("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
def unix(): s = socket.socket(socket.AF_UNIX); s.connect(path)
t("unix", unix)
def dgram(kind): socket.socketpair(socket.AF_UNIX, kind)[0].sendto(b"x", path + ".dgram")
t("dgram", lambda: dgram(socket.SOCK_DGRAM))
t("raw", lambda: dgram(socket.SOCK_RAW))
import resource
t("limits", lambda: resource.prlimit(victim, resource.RLIMIT_CORE, (0, 0)))
t("own limits", lambda: resource.prlimit(0, resource.RLIMIT_CORE, (0, 0)))
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *args):
    got = getattr(libc, name)(*args)
    if got == -1: raise OSError(ctypes.get_errno(), "")
    return got
t("queue", lambda: call("msgctl", call("msgget", 0, 0o600), 0, None))
t("semaphores", lambda: call("semctl", call("semget", 0, 1, 0o600), 0, 0))
def mqueue(): call("mq_open", b"/aj-lite-try", os.O_RDWR | os.O_CREAT, 0o600, None); call("mq_unlink", b"/aj-lite-try")
t("mqueue", mqueue)
t("memory", lambda: call("shmctl", call("shmget", 0, 4096, 0o600), 0, None))
t("affinity", lambda: os.sched_setaffinity(victim, os.sched_getaffinity(victim)))
t("scheduler", lambda: os.sched_setscheduler(victim, os.SCHED_BATCH, os.sched_param(0)))
t("priority", lambda: os.setpriority(os.PRIO_PROCESS, victim, 19))
def own():
    os.sched_setaffinity(0, os.sched_getaffinity(0)); os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, 0, 19)
t("own priority", own)
# As the C library does for a thread, by its number.
t("own thread", lambda: os.sched_setaffinity(os.getpid(), os.sched_getaffinity(0)))
t("pair", lambda: socket.socketpair())
t("userns", lambda: os.unshare(0x10000000) if hasattr(os, "unshare") else os.open("/nonexistent", 0))
t("own", lambda: open("own", "w").write("x"))
t("tmp", lambda: open(os.environ["TMPDIR"] + "/x", "w").write("x"))
"#;

#[test]
fn what_landlock_and_the_filter_hold_without_namespaces() {
    let p = Project::new();
    p.write("try.py", TRY);
    let outside = p.top().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let run = |jail: &str| {
        format!(
            "echo secret >{o}/f; echo v >{o}/f.victim; SECRET=1 sleep 60 & victim=$!
             python3 -c 'import socket,time,sys; s=socket.socket(); s.bind((\"127.0.0.1\",0)); s.listen(); \
             u=socket.socket(socket.AF_UNIX); u.bind(\"{o}/s\"); u.listen(); d=socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); d.bind(\"{o}/s.dgram\"); print(s.getsockname()[1], flush=True); time.sleep(60)' >{o}/port & server=$!
             for i in $(seq 100); do [ -s {o}/port ] && break; sleep .05; done
             {jail} python3 try.py $victim {o}/f $(cat {o}/port) {o}/s; code=$?
             kill $victim $server; rm -f {o}/*; exit $code",
            o = outside.display()
        )
    };
    let Some(jail) = lite(&p, &run("$AJ exec --mode lite --")) else { return };
    if jail.stderr.contains("python3: ") {
        return skip("there is no python3");
    }
    let of = |ran: &Ran, name: &str| {
        let line = ran.stdout.lines().find_map(|l| l.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("no {name}: {ran:#?}")).to_owned()
    };
    let all = [
        "read",
        "write",
        "list",
        "make",
        "unlink",
        "link",
        "rename",
        "environ",
        "mem",
        "oom",
        "tcp",
        "udp",
        "unix",
        "dgram",
        "raw",
        "limits",
        "queue",
        "semaphores",
        "mqueue",
    ];
    for name in all {
        assert_eq!(of(&jail, name), "refused", "{name}: {jail:#?}");
    }
    if agentjail::sys::landlock::abi() >= 6 {
        assert_eq!(of(&jail, "signal"), "refused", "{jail:#?}");
    }
    for name in [
        "pair",
        "own",
        "tmp",
        "own limits",
        "own priority",
        "own thread",
        "memory",
        "affinity",
        "scheduler",
        "priority",
    ] {
        assert_eq!(of(&jail, name), "ok", "{name}: {jail:#?}");
    }
    // The host's network has no paths in it.
    let with = lite(&p, &run("$AJ exec --mode lite --net host --")).unwrap();
    assert_eq!(
        ["unix", "dgram", "raw", "tcp", "udp"].map(|n| of(&with, n)).join(" "),
        "refused refused refused ok ok"
    );
    // The same program without a jail.
    let teeth = lite(&p, &run("")).unwrap();
    for name in all.into_iter().chain(["signal"]).filter(|n| !["link", "rename"].contains(n)) {
        assert_eq!(of(&teeth, name), "ok", "outside, {name}: {teeth:#?}");
    }
}

#[test]
fn nothing_outlives_the_command_nor_aj() {
    let p = Project::new();
    // A mark that only these processes have.
    let mark = format!("86{:03}", std::process::id() % 1000);
    let hide = format!("(setsid sh -c \"sleep {mark}.1 & sleep {mark}.2\" &) ; setsid sleep {mark}.3 &");
    let count = format!("pgrep -u $(id -u) -fc '^sleep {mark}'");
    let Some(ran) = lite(&p, &format!("$AJ exec --mode lite -- sh -c '{hide} sleep .3'; {count}")) else {
        return;
    };
    assert_eq!(ran.stdout, "0\n", "{ran:#?}");
    // Whoever may open nothing cannot list what it is to end.
    let disarm = "import os, resource
p = os.getpid()
for _ in range(3):
    p = int(open(f'/proc/{p}/stat').read().rsplit(')', 1)[1].split()[1])
    try: resource.prlimit(p, resource.RLIMIT_NOFILE, (0, 0)); print('disarmed')
    except PermissionError: print('refused')
";
    p.write("disarm.py", disarm);
    let script = format!("$AJ exec --mode lite -- sh -c '{hide} python3 disarm.py; sleep .3'; {count}");
    let ran = lite(&p, &script).unwrap();
    if ran.stderr.contains("python3: ") {
        skip("there is no python3");
    } else {
        assert_eq!(ran.stdout, "refused\nrefused\nrefused\n0\n", "{ran:#?}");
    }
    let killed = format!(
        "$AJ exec --mode lite -- sh -c '{hide} sleep {mark}.4' & jail=$!
         for i in $(seq 100); do [ $({count}) -ge 4 ] && break; sleep .05; done; {count}
         kill -KILL $jail; for i in $(seq 100); do [ $({count}) = 0 ] && break; sleep .05; done; {count}"
    );
    let ran = lite(&p, &killed).unwrap();
    assert_eq!(ran.stdout, "4\n0\n", "{ran:#?}");
    let ran = lite(
        &p,
        &format!("$AJ exec --mode lite --timeout 1s -- sh -c '{hide} sleep {mark}.4'; echo $?; {count}"),
    )
    .unwrap();
    assert_eq!(ran.stdout, "124\n0\n", "{ran:#?}");
}

#[test]
fn what_could_not_be_protected_is_refused() {
    let p = Project::new();
    p.write(".env", "TOKEN=1\n");
    let Some(ran) = lite(&p, "$AJ exec --mode lite --ro -- true") else { return };
    assert!(ran.code == Some(125) && ran.stderr.contains(".env` could not be hidden"), "{ran:#?}");
    let ran = lite(
        &p,
        "$AJ exec --mode lite --ro --show .env -- sh -c 'cat .env; echo x 2>/dev/null >new || echo refused'",
    )
    .unwrap();
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "TOKEN=1\nrefused\n"), "{ran:#?}");
    std::fs::remove_file(p.dir().join(".env")).unwrap();
    let ran = lite(&p, "$AJ exec --mode lite --rw -- sh -c 'echo x >new' && cat new").unwrap();
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "x\n"), "{ran:#?}");
    p.outside("git init -q . && git config user.name x");
    let ran = lite(&p, "$AJ exec --mode lite --rw -- true").unwrap();
    assert!(ran.code == Some(125) && ran.stderr.contains("settings and hooks"), "{ran:#?}");
    let ran = lite(&p, "$AJ exec --mode lite --as-root -- true").unwrap();
    assert!(ran.code == Some(125) && ran.stderr.contains("leave out `--as-root`"), "{ran:#?}");
    let ran = lite(&p, "$AJ exec --mode lite -- git status --short").unwrap();
    assert_eq!(ran.code, Some(0), "git works on the copy: {ran:#?}");
}
