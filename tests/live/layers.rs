//! Every attempt of the probe, by a command that joined: what comes of it is what comes of it in a jail of
//! one's own.

use std::collections::BTreeMap;

use crate::common;
use crate::probe::{Ground, Said, run};

/// A probe in a workspace whose jail is kept. Stopped when dropped.
struct Joined<'a>(&'a Ground, String);

impl<'a> Joined<'a> {
    fn new(ground: &'a Ground, name: &str, settings: &[&str]) -> Joined<'a> {
        let joined = Joined(ground, name.to_owned());
        joined.ws(&[&["create", name, "--from-dir", "."], settings].concat());
        joined.ws(&["start", name]);
        joined
    }

    #[track_caller]
    fn ws(&self, words: &[&str]) {
        let done = self.0.program(common::aj()).arg("workspace").args(words).output().unwrap();
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn probe(&self, words: &[&str]) -> Said {
        let mut aj = self.0.program(common::aj());
        run(aj.args(["exec", "--timeout", "15s", &*self.1, "--", "./probe"]).args(words))
    }
}

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        drop(self.0.program(common::aj()).args(["workspace", "stop", "--kill", &*self.1]).output());
    }
}

/// What differs from run to run, or must: numbers of processes.
fn comparable(said: &Said) -> BTreeMap<String, String> {
    // That of a workspace has its name.
    let own = ["hostname", "Pid", "PPid", "Tgid", "Ngid", "NStgid", "NSpid", "NSpgid", "NSsid", "Name"];
    let counts =
        |name: &str| name.starts_with("Vm") || name.starts_with("Rss") || name.contains("ctxt_switches");
    let taken = said.all().filter(|(name, _)| !own.contains(name) && !counts(name));
    let result = |result: &str| result.split("pipe:[").next().unwrap_or_default().to_owned();
    taken.map(|(name, said)| (name.to_owned(), result(said))).collect()
}

const ATTEMPTS: &[&[&str]] = &[
    &["bits"],
    &["ids"],
    &["fds"],
    &["dangerous"],
    &["namespaces"],
    &["mounts"],
    &["sockets"],
    &["prctl"],
    &["int80"],
    &["second-filter"],
    &["memfd", "dangerous"],
    &["memfd", "bits"],
    &["nodes"],
    &["handle", "/usr/bin"],
    &["chroot"],
    &["become"],
    &["interfaces"],
    &[
        "open",
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/dev/urandom",
        "/proc/1/root",
        "/proc/1/fd",
        "/proc/1/environ",
        "/proc/1/mem",
        "/proc/kcore",
        "/proc/keys",
        "/proc/kallsyms",
    ],
    &["write", "", "/usr/x", "/etc/x", "/x", "/dev/x", "/proc/sys/kernel/core_pattern", "/proc/1/mem"],
];

#[test]
fn every_attempt_of_the_probe_ends_as_in_a_jail_of_its_own() {
    let Some(ground) = Ground::new() else { return };
    for (name, settings) in
        [("plain", &[][..]), ("root", &["--as-root"]), ("strict", &["--seccomp", "strict"])]
    {
        let joined = Joined::new(&ground, name, settings);
        for attempt in ATTEMPTS {
            let (own, here) = (ground.jail(settings, attempt), joined.probe(attempt));
            assert!(!comparable(&own).is_empty() || own.code == here.code, "{attempt:?}: {own:#?}");
            assert_eq!(comparable(&here), comparable(&own), "{name} {attempt:?}: {here:#?}");
            assert_eq!(here.code, own.code, "{name} {attempt:?}: {here:#?}");
        }
    }
}

#[test]
fn who_minds_a_command_is_out_of_reach_of_another_one() {
    let Some(ground) = Ground::new() else { return };
    let _joined = Joined::new(&ground, "minded", &[]);
    // One of them stands in the door all the time: it opens whatever it can of every process that comes.
    let spy = "import os, sys, time
end = time.time() + 3
seen = set()
def look(path, name):
    if name == 'exe':
        return os.readlink(path)
    if name in ('fd', 'root', 'cwd'):
        return os.listdir(path)
    # Between exec and its new name, a program's own map is seen under the old name.
    bytes = open(path, 'rb').read(100000)
    return bytes if name != 'maps' or sys.argv[1].encode() in bytes else None
while time.time() < end:
    for pid in [p for p in os.listdir('/proc') if p.isdigit()]:
        for name in ['environ', 'mem', 'root', 'fd', 'cwd', 'maps', 'exe']:
            try:
                found = look(f'/proc/{pid}/{name}', name)
                who = open(f'/proc/{pid}/comm').read().strip()
            except OSError:
                continue
            if found:
                seen.add((who, name))
print(sorted({f'{who} {name}' for who, name in seen if who.startswith('aj')}), ('python3', 'environ') in seen)";
    let own = common::aj();
    if !super::python() {
        return crate::probe::skip("no python3");
    }
    let mut watch = ground.program(common::aj());
    watch.args(["exec", "minded", "--", "python3", "-c", spy]).arg(&own).stdout(std::process::Stdio::piped());
    let watch = watch.spawn().unwrap();
    for _ in 0..60 {
        let mut one = ground.program(common::aj());
        let done = one.args(["exec", "minded", "--env", "SECRET=hunter2", "--", "true"]).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    let said = watch.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "[] True\n");
}

#[test]
fn nobody_inside_can_end_the_jail_or_be_heard_as_its_holder() {
    let Some(ground) = Ground::new() else { return };
    let joined = Joined::new(&ground, "firm", &[]);
    let sh = |script: &str| {
        let mut aj = ground.program(common::aj());
        aj.args(["exec", "firm", "--", "sh", "-c", script]).output().unwrap()
    };
    assert!(sh("echo there > /tmp/there").status.success());
    for signal in ["TERM", "INT", "HUP", "QUIT", "USR1", "ALRM", "PIPE", "CONT", "CHLD", "KILL", "STOP"] {
        let ran = sh(&format!("trap '' {signal}; kill -{signal} 1; sleep 0.02; exit 9"));
        assert_eq!(ran.status.code(), Some(9), "{signal}: {ran:?}");
    }
    // Those who mind commands are killed with everybody else, and told of as what they are.
    let ran = sh("sleep 60 & ./probe kill 9 -1; kill -9 $PPID; exit 9");
    assert_eq!(ran.status.code(), Some(137), "{ran:?}");
    assert_eq!(sh("cat /tmp/there").stdout, b"there\n", "it is still the same jail");
    // Limits are for whoever has the same user: one of processor time would be its end.
    let teeth = "sleep 60 & prlimit --pid $! --nofile=9:9; r=$?; kill $!; exit $r";
    assert!(sh(teeth).status.success(), "of others they can be set");
    for limit in ["cpu=0:0", "nofile=0:0", "fsize=0", "nproc=1"] {
        let ran = sh(&format!("prlimit --pid 1 --{limit} 2>&1; echo $?"));
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(said.contains("not permitted") && !said.ends_with("\n0\n"), "{limit}: {ran:?}");
    }
    assert!(sh("prlimit --pid 1 --cpu").status.success(), "a look at them is nothing");
    assert_eq!(sh("cat /tmp/there").stdout, b"there\n", "it is still the same jail");
    // Nothing that could be knocked at, or answered from, is to be seen.
    let ran = sh("cat /proc/net/unix | grep -c live; ls /proc/1/fd 2>&1 | grep -c denied");
    assert_eq!(ran.stdout, b"0\n1\n", "{ran:?}");
    drop(joined);
}

#[test]
fn layers_are_told_as_for_a_jail_of_its_own() {
    let Some(ground) = Ground::new() else { return };
    let joined = Joined::new(&ground, "told", &[]);
    let layers = |words: &[&str]| {
        let done = ground.program(common::aj()).arg("--json").args(words).output().unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        answer["layers"].clone()
    };
    let own = layers(&["exec", "--", "true"]);
    assert!(own.as_array().unwrap().len() > 10, "{own}");
    assert_eq!(layers(&["exec", "told", "--", "true"]), own);
    drop(joined);
}
