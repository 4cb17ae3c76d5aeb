use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Shared, python};
use crate::yard::{Running, assert_gone, eventually, mark, marked, said, skip};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn two_commands_see_the_same_processes_files_and_ports() {
    let Some(shared) = Shared::new(&[]) else { return };
    if !python() {
        return skip("no python3");
    }
    let server = "
import socket, time
s = socket.socket(); s.bind(('127.0.0.1', 8123)); s.listen()
a = socket.socket(socket.AF_UNIX); a.bind('\\0there'); a.listen()
open('/tmp/ready', 'w').close(); print('ready', flush=True)
c, _ = s.accept(); c.sendall(b'hello'); c.close(); time.sleep(60)";
    let mut server = shared.exec(&[], ["python3", "-c", server]);
    let mut server = Running::start(server.stdout(Stdio::piped()));
    assert_eq!(server.first_line().0, "ready");
    let client = "
import os, socket
s = socket.create_connection(('127.0.0.1', 8123)); print(s.recv(9).decode())
a = socket.socket(socket.AF_UNIX); a.connect('\\0there')
print(os.path.exists('/tmp/ready'))
pids = [p for p in os.listdir('/proc') if p.isdigit()]
shown = [p for p in pids if b's.bind' in open(f'/proc/{p}/cmdline', 'rb').read() and int(p) != os.getpid()]
print(len(shown)); os.kill(int(shown[0]), 15)";
    let ran = said(&mut shared.exec(&[], ["python3", "-c", client]));
    assert_eq!((ran.fate, &*ran.out, &*ran.err), (0, "hello\nTrue\n1\n", ""));
    assert_eq!(crate::yard::fate(server.end()), 128 + 15, "one command may signal another");
    assert!(shared.ends(SOON));
    assert_eq!(shared.sh("test -e /tmp/ready || echo gone"), "gone\n", "/tmp is the jail's");
}

#[test]
fn a_joined_command_is_relayed_as_any_other() {
    let Some(shared) = Shared::new(&[]) else { return };
    assert_eq!(shared.ws("start", &[]).fate, 0);
    let code = |words: &[&str]| said(&mut shared.exec(&[], words)).fate;
    assert_eq!(code(&["sh", "-c", "exit 7"]), 7);
    assert_eq!(code(&["no-such-program"]), 127);
    assert_eq!(code(&["/etc/passwd"]), 126);
    assert_eq!(code(&["sh", "-c", "kill -9 $$"]), 137);
    let ran = said(&mut shared.exec(&["--cwd", "/nowhere"], ["true"]));
    assert_eq!(ran.fate, 125, "{ran:#?}");
    let ran = said(
        &mut shared
            .exec(&["--env", "A=b c", "--timeout", "9s"], ["sh", "-c", "echo $A; echo err >&2; umask"]),
    );
    assert_eq!((ran.fate, &*ran.err), (0, "err\n"), "{ran:#?}");
    assert!(ran.out.starts_with("b c\n"), "{ran:#?}");
    let mut cat = shared.exec(&[], ["cat"]);
    let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = cat.stdin.take().unwrap();
    // Beside reading: all the pipes together do not always hold as much.
    let writer = std::thread::spawn(move || stdin.write_all(&[b'x'; 300_000]).unwrap());
    assert_eq!(cat.wait_with_output().unwrap().stdout.len(), 300_000);
    writer.join().unwrap();
    let ran = said(shared.exec(&[], ["sh", "-c", "echo out; exit 3"]).arg("--json").args::<_, &str>([]));
    assert_eq!(ran.fate, 3, "what stands after `--` is the command's: {ran:#?}");
    let ran = said(&mut shared.aj(&["--json", "exec", "api", "--", "sh", "-c", "echo out; exit 3"]));
    let answer: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (&answer["stdout"], &answer["exit_code"], &answer["workspace"]),
        (&"out\n".into(), &3.into(), &"api".into())
    );
    let ran = said(&mut shared.exec(&["--events"], ["echo", "hi"]));
    let kinds: Vec<String> = ran
        .out
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["type"].to_string())
        .collect();
    assert_eq!(kinds, ["\"started\"", "\"stdout\"", "\"completed\""], "{ran:#?}");
    let listed = said(&mut shared.aj(&["jail", "list", "--json"]));
    let listed: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    let live = listed["jails"].as_array().unwrap().iter().filter(|j| j["kind"] == "live").count();
    assert_eq!(live, 1, "{listed:#}");
}

#[test]
fn what_a_command_leaves_behind_lives_on_and_the_jail_with_it() {
    let Some(shared) = Shared::new(&[]) else { return };
    let mark = mark();
    // It goes on writing to what the command wrote to, and neither holds up anybody nor dies of it.
    let script = format!("(while :; do echo {mark}; echo err >&2; sleep 0.01; done) & echo $!");
    let ran = said(&mut shared.exec(&[], ["sh", "-c", &script]));
    assert_eq!(ran.fate, 0, "{ran:#?}");
    let pid = ran.out.lines().find_map(|l| l.parse::<i32>().ok()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let live = shared.shown()["live"].clone();
    assert_eq!((&live["commands"], &live["keep"]), (&0.into(), &false.into()), "{live:#}");
    assert!(live["processes"].as_i64().unwrap() >= 1, "{live:#}");
    assert_eq!(shared.sh(&format!("kill -0 {pid} && kill -9 {pid} && echo there")), "there\n");
    assert!(shared.ends(SOON), "{:#}", shared.shown());
    assert_gone(&mark, SOON);
}

#[test]
fn the_end_of_a_command_that_is_made_to_end_is_that_of_all_it_started() {
    let Some(shared) = Shared::new(&[]) else { return };
    let (other, mine) = (mark(), mark());
    let mut bystander = shared.exec(&[], ["sh", "-c", &format!("sleep 60; : {other}")]);
    let mut bystander = Running::start(&mut bystander);
    assert!(eventually(SOON, || !marked(&other).is_empty()));
    // Out of its session, deaf, and stopped.
    let script = format!(
        "trap '' TERM INT; setsid sh -c 'trap \"\" TERM; sleep 61; : {mine}' & sleep 60 & kill -STOP $!; : {mine}; wait"
    );
    let ran = said(&mut shared.exec(&["--timeout", "300ms", "--grace", "100ms"], ["sh", "-c", &script]));
    assert_eq!(ran.fate, 124, "{ran:#?}");
    assert_gone(&mine, SOON);
    let mut interrupted = shared.exec(&[], ["sh", "-c", &script]);
    let mut interrupted = Running::start(&mut interrupted);
    assert!(eventually(SOON, || marked(&mine).len() >= 3));
    std::thread::sleep(Duration::from_millis(100));
    interrupted.signal(Signal::SIGINT);
    std::thread::sleep(Duration::from_millis(50));
    interrupted.signal(Signal::SIGINT);
    interrupted.end();
    assert_gone(&mine, SOON);
    assert!(bystander.0.try_wait().unwrap().is_none(), "the other command goes on");
    assert!(!marked(&other).is_empty());
}

#[test]
fn a_command_that_wants_to_be_alone_is_alone() {
    let Some(shared) = Shared::new(&[]) else { return };
    let mut long = shared.exec(&[], ["sh", "-c", "echo up; sleep 60"]);
    let mut long = Running::start(long.stdout(Stdio::piped()));
    long.first_line();
    let ran = said(&mut shared.exec(&["--exclusive"], ["true"]));
    assert_eq!((ran.fate, &*ran.out), (5, ""), "{ran:#?}");
    assert!(
        ran.err.contains("a command runs in it") && ran.err.contains("aj workspace wait api"),
        "{ran:#?}"
    );
    long.signal(Signal::SIGTERM);
    long.end();
    assert!(shared.ends(SOON));
    let mut alone = shared.exec(&["--exclusive"], ["sh", "-c", "echo up; sleep 60"]);
    let mut alone = Running::start(alone.stdout(Stdio::piped()));
    alone.first_line();
    for options in [&["--exclusive"][..], &[]] {
        assert_eq!(said(&mut shared.exec(options, ["true"])).fate, 5);
    }
    alone.signal(Signal::SIGTERM);
    alone.end();
    // What was left behind is company, too.
    assert_eq!(shared.sh("sleep 60 > /dev/null 2>&1 & echo up"), "up\n");
    assert_eq!(said(&mut shared.exec(&["--exclusive"], ["true"])).fate, 5);
}

#[test]
fn a_command_with_a_terminal_joins_as_well() {
    use std::os::fd::AsFd;
    let Some(shared) = Shared::new(&[]) else { return };
    assert_eq!(shared.ws("start", &[]).fate, 0);
    let (master, slave) = crate::yard::terminal();
    let stdio = || Stdio::from(slave.try_clone().unwrap());
    let script =
        "test -t 0 && test -t 1 && tty; ps -o sid= -p $$ > /tmp/sid; read line; echo got $line; exit 4";
    let mut shell = shared.exec(&["-t"], ["sh", "-c", script]);
    let mut shell = Running::start(shell.stdin(stdio()).stdout(stdio()).stderr(stdio()));
    let mut seen = String::new();
    let read = |until: &str, seen: &mut String| {
        let mut bytes = [0; 1024];
        while !seen.contains(until) {
            let n = nix::unistd::read(master.as_fd(), &mut bytes).unwrap();
            seen.push_str(&String::from_utf8_lossy(&bytes[..n]));
        }
    };
    read("/dev/pts/", &mut seen);
    nix::unistd::write(&master, b"words\n").unwrap();
    read("got words", &mut seen);
    assert_eq!(crate::yard::fate(shell.end()), 4, "{seen}");
}
