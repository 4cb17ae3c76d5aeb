//! Inside a container: the `/proc` around us.

use super::{json, with_masked_proc};
use crate::common::Ran;
use crate::real::project::{Project, is_root, skip};

#[test]
fn a_container_gets_a_jail_when_its_user_puts_up_with_less() {
    let p = Project::new();
    let Some(ran) = with_masked_proc(&p, "$AJ exec -- true") else { return };
    assert_eq!(ran.code, Some(125), "{ran:#?}");
    assert!(ran.stderr.contains("fsmount `proc` (EPERM)"), "{ran:#?}");
    assert!(ran.stderr.contains("`aj exec --mode nested -- …`"), "{ran:#?}");
    let ran = with_masked_proc(&p, "$AJ exec --mode nested -- sh -c 'echo ran; echo x >made'").unwrap();
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "ran\n"), "{ran:#?}");
    assert_eq!(ran.stderr.matches("mode nested: ").count(), 1, "{ran:#?}");
    assert!(ran.stderr.contains("processes there, their command lines"), "{ran:#?}");
    let ran =
        with_masked_proc(&p, "$AJ --json exec --mode lite -- true; $AJ jail show @ --json >&2").unwrap();
    assert_eq!(json(&ran, "/policy/mode"), "nested", "the strongest that works: {ran:#?}");
    let layers = json(&ran, "/layers").to_string();
    assert!(layers.contains("\"pivot_root\"") && !layers.contains("\"proc\""), "{layers}");
    let shown = ran.stderr.lines().find(|l| l.contains("\"policy\"")).unwrap();
    let shown: serde_json::Value = serde_json::from_str(shown).unwrap();
    assert_eq!(shown["policy"]["mode"], "nested", "{shown}");
    let ran = with_masked_proc(&p, "$AJ exec --mode nested --require full -- echo ran").unwrap();
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:#?}");
    assert!(ran.stderr.contains("required: proc"), "{ran:#?}");
    let ran = with_masked_proc(&p, "$AJ doctor --json; echo; exit 0").unwrap();
    let told: serde_json::Value = serde_json::from_str(ran.stdout.trim()).unwrap();
    assert_eq!(told["mode"], "nested", "{told:#}");
}

#[test]
fn the_users_own_file_may_allow_it_and_a_projects_may_not() {
    let p = Project::new();
    p.write("aj.toml", "[jail]\nmode = \"nested\"\n");
    let Some(ran) = with_masked_proc(&p, "$AJ exec -- true") else { return };
    assert!(ran.code == Some(125) && ran.stderr.contains("would widen"), "{ran:#?}");
    std::fs::create_dir(p.top().join("config")).unwrap();
    std::fs::write(p.top().join("config/config.toml"), "[defaults]\nmode = \"nested\"\n").unwrap();
    let ran = with_masked_proc(&p, "$AJ exec -- true").unwrap();
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    p.write("aj.toml", "[jail]\nmode = \"full\"\n");
    let ran = with_masked_proc(&p, "$AJ exec -- true").unwrap();
    assert_eq!(ran.code, Some(125), "a project may ask for more: {ran:#?}");
}

#[test]
fn where_everything_works_nothing_is_weaker_for_having_been_allowed() {
    let Some(p) = Project::in_jails() else { return };
    let ran = p.runs(&["--json", "exec", "--mode", "lite", "--require", "full", "--", "true"]);
    assert_eq!(json(&ran, "/policy/mode"), "full");
    assert!(!ran.stderr.contains("mode "), "{ran:#?}");
}

/// What a command tries on a process around the jail, `$1`, whose environment has a secret.
const TRY: &str = "
    out() { echo \"$1: $(cat \"/proc/$2/$1\" 2>/dev/null | tr '\\0' ' ' | grep -c SECRET)\"; }
    cat /proc/$1/cmdline >/dev/null 2>&1 && echo seen: yes || echo seen: no
    out environ $1
    (: </proc/$1/mem) 2>/dev/null && echo mem: opened || echo mem: refused
    ls /proc/$1/root/ >/dev/null 2>&1 && echo root: entered || echo root: refused
    readlink /proc/$1/fd/0 >/dev/null 2>&1 && echo fd: read || echo fd: refused
    (echo 900 >/proc/$1/oom_score_adj) 2>/dev/null && echo oom: written || echo oom: refused
    (echo 1 >/proc/$1/coredump_filter) 2>/dev/null && echo filter: written || echo filter: refused
    kill -0 $1 2>/dev/null && echo signal: could || echo signal: could not
    echo \"keys: $(cat /proc/keys 2>/dev/null | wc -c) acpi: $(ls /proc/acpi 2>/dev/null | wc -l)\"
    (echo x >/proc/sysrq-trigger) 2>/dev/null; cat /proc/sysrq-trigger 2>&1 | wc -c
    (echo 1 >/proc/sys/kernel/printk) 2>/dev/null && echo sysctl: written || echo sysctl: refused
    echo \"self: $(cat /proc/self/comm)\"";

#[test]
fn processes_around_a_nested_jail_are_seen_and_nothing_else() {
    let p = Project::new();
    p.script("try", &format!("#!/bin/sh\n{TRY}\n"));
    let script = |run: &str| {
        format!("SECRET=1 sleep 60 & victim=$!\n{run} ./try $victim; code=$?; kill $victim; exit $code")
    };
    let Some(jail) = with_masked_proc(&p, &script("$AJ exec --mode nested --")) else { return };
    let said = |ran: &Ran, what: &str| {
        let line = ran.stdout.lines().find(|l| l.starts_with(what)).map(str::to_owned);
        line.unwrap_or_else(|| panic!("no {what} in {ran:#?}"))
    };
    for wanted in [
        "seen: yes",
        "environ: 0",
        "mem: refused",
        "root: refused",
        "fd: refused",
        "oom: refused",
        "filter: refused",
        "signal: could not",
        "keys: 0 acpi: 0",
        "sysctl: refused",
        "self: cat",
    ] {
        let what = wanted.split(' ').next().unwrap();
        assert_eq!(said(&jail, what), wanted, "{jail:#?}");
    }
    // The same program without a jail around it.
    let teeth = with_masked_proc(&p, &script("")).unwrap();
    for wanted in [
        "environ: 1",
        "mem: opened",
        "root: entered",
        "fd: read",
        "oom: written",
        "filter: written",
        "signal: could",
    ] {
        let what = wanted.split(' ').next().unwrap();
        assert_eq!(said(&teeth, what), wanted, "outside: {teeth:#?}");
    }
}

#[test]
fn memory_of_a_nested_jail_is_its_own_and_no_more() {
    let p = Project::new();
    // What runs beside it is larger than its limit, and it is not killed for that.
    let hog = "python3 -c 'import time; x = bytearray(300 << 20); time.sleep(8)' & hog=$!; sleep 1";
    let run = "$AJ exec --mode nested --mem 200M --best-effort -- sleep 1; code=$?; kill $hog; exit $code";
    let Some(ran) = with_masked_proc(&p, &format!("{hog}\n{run}")) else { return };
    if ran.stderr.contains("python3: ") {
        return skip("there is no python3");
    }
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let own = "$AJ exec --mode nested --mem 100M --best-effort -- \
               python3 -c 'import time; x = bytearray(300 << 20); time.sleep(8)'";
    let ran = with_masked_proc(&p, own).unwrap();
    assert_eq!(ran.code, Some(137), "{ran:#?}");
}

/// As on the kernel's first file system, which cannot be pivoted away.
#[test]
fn a_root_that_cannot_be_pivoted_away_is_out_of_reach_all_the_same() {
    let Some(p) = Project::in_jails() else { return };
    p.write("inside", "");
    let outside = p.top().join("outside");
    std::fs::write(&outside, "").unwrap();
    let run = |flags: &[&str], script: &str| {
        let mut aj = p.command(crate::common::aj());
        aj.arg("exec").args(flags).args(["--", "sh", "-c", script]).env("AJ_TEST_WITHOUT", "pivot_root");
        Ran::from(aj.output().unwrap())
    };
    let ran = run(&[], "true");
    if ran.code == Some(0) {
        return skip("this build has no such switch");
    }
    assert!(ran.code == Some(125) && ran.stderr.contains("pivot_root (EINVAL)"), "{ran:#?}");
    let look = format!(
        "ls inside; ls {} 2>&1 | grep -c 'No such'; cd /; cd ../../..; ls -d home root boot 2>/dev/null; \
         ls /proc/self/root/; grep -c . /proc/self/mountinfo",
        outside.display()
    );
    let ran = run(&["--mode", "nested"], &look);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(&lines[..2], ["inside", "1"], "{ran:#?}");
    assert!(!lines.contains(&"boot"), "{ran:#?}");
    assert!(ran.stderr.contains("mode nested: the root around it"), "{ran:#?}");
    if is_root() {
        let ran = run(&["--mode", "nested", "--as-root"], "chroot / true 2>&1; unshare -m true 2>&1; exit 0");
        assert_eq!(ran.stdout.matches("not permitted").count(), 2, "{ran:#?}");
    }
}
