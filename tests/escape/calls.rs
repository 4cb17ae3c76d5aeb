//! The system call filter as a command meets it (jail.md C4). `src/sys/seccomp/tests` holds the
//! program itself; here it is the one of a real jail.

use std::fmt::Write as _;

use agentjail::sys::seccomp::{self, ARCH, Level, Options, Rule, Verdict};
use nix::errno::Errno;

use crate::probe::{Ground, run_with_input, skip, teeth};

/// What a call fails with when no filter refuses it (see `walk` of the probe).
const PASSED: i32 = 3333;

const STANDARD: Options = Options { level: Level::Standard, nested_userns: false };

type Call = (u32, [u64; 5]);

fn number(wanted: &str) -> u32 {
    (0..1024).find(|nr| seccomp::name(*nr) == Some(wanted)).unwrap_or_else(|| panic!("no call `{wanted}`"))
}

/// The errno that the kernel gives to each call in a jail, none of which it performs.
fn judged(ground: &Ground, flags: &[&str], calls: &[Call]) -> Vec<i32> {
    let mut input = String::new();
    for (nr, [a, b, c, d, e]) in calls {
        writeln!(input, "{nr:x} {a:x} {b:x} {c:x} {d:x} {e:x}").unwrap();
    }
    let said = run_with_input(&mut ground.aj(flags, ["./probe", "walk"]), &input);
    let errnos: Vec<i32> = said.stdout.lines().filter_map(|l| l.parse().ok()).collect();
    assert_eq!(
        errnos.len(),
        calls.len(),
        "{} {}",
        said.stderr,
        said.stdout.lines().next().unwrap_or_default()
    );
    errnos
}

/// The same outside.
fn judged_outside(ground: &Ground, calls: &[Call]) -> Vec<i32> {
    let input: String = calls.iter().map(|(nr, _)| format!("{nr:x} 0 0 0 0 0\n")).collect();
    let said = run_with_input(ground.program("./probe").arg("walk"), &input);
    said.stdout.lines().filter_map(|l| l.parse().ok()).collect()
}

fn wanted(options: &Options, (nr, args): &Call) -> i32 {
    let [a, b, c, d, e] = *args;
    match seccomp::interpret(&seccomp::program(options), *nr, ARCH, [a, b, c, d, e, 0]) {
        Verdict::Errno(errno) => errno.into(),
        Verdict::Allow | Verdict::Log => PASSED,
        other => panic!("{other:?}"),
    }
}

/// Numbers that reach the kernel's trampolines are killed by it before any filter.
fn walkable(nr: &u32) -> bool {
    !matches!(seccomp::name(*nr), Some("uretprobe" | "uprobe"))
}

#[test]
fn every_number_is_decided_as_the_table_says() {
    let Some(ground) = Ground::new() else { return };
    let calls: Vec<Call> = (0..1024).filter(walkable).map(|nr| (nr, [0; 5])).collect();
    let got = judged(&ground, &[], &calls);
    let mut refused = 0;
    for (call, got) in calls.iter().zip(&got) {
        let nr = call.0;
        match seccomp::expected(nr, &STANDARD) {
            Rule::Allow => assert_eq!(*got, PASSED, "{nr} {:?}", seccomp::name(nr)),
            Rule::Errno(errno) => {
                refused += 1;
                assert_eq!(*got, i32::from(errno), "{nr} {:?}", seccomp::name(nr));
            }
            Rule::ByArgument(_) | Rule::Log => {
                assert_eq!(*got, wanted(&STANDARD, call), "{nr} {:?}", seccomp::name(nr));
            }
        }
        // Not from any table: what is unknown now will be unknown when a kernel learns it.
        assert!(nr < 470 || *got == Errno::ENOSYS as i32, "{nr}");
    }
    assert!(refused > 600, "{refused}");
    // The walk itself stops nothing.
    assert!(judged_outside(&ground, &calls).iter().all(|errno| *errno == PASSED));
}

#[test]
fn levels_and_nesting_are_the_ones_asked_for() {
    let Some(ground) = Ground::new() else { return };
    let calls: Vec<Call> = (0..1024).filter(walkable).map(|nr| (nr, [2, 1, 0, 0, 0])).collect();
    for (flags, level, nested_userns) in [
        (&["--seccomp", "strict"][..], Level::Strict, false),
        (&["--nested-userns"], Level::Standard, true),
        (&["--seccomp", "strict", "--nested-userns", "--as-root"], Level::Strict, true),
        (&["--net", "host", "--rw"], Level::Standard, false),
    ] {
        let options = Options { level, nested_userns };
        for (call, got) in calls.iter().zip(judged(&ground, flags, &calls)) {
            // What may write to the host has a second filter, which cannot see the mode in this call.
            let hidden = flags.contains(&"--rw") && seccomp::name(call.0) == Some("openat2");
            let wanted = if hidden { Errno::ENOSYS as i32 } else { wanted(&options, call) };
            assert_eq!(got, wanted, "{:?} {flags:?}", seccomp::name(call.0));
        }
    }
}

/// x32 calls, by number with the bit set: judged in a real jail, whatever the kernel would do.
#[cfg(target_arch = "x86_64")]
#[test]
fn no_call_of_the_x32_kind_passes() {
    let Some(ground) = Ground::new() else { return };
    let calls: Vec<Call> = (0..1024).map(|nr| (nr | seccomp::X32_BIT, [0; 5])).collect();
    assert!(judged(&ground, &[], &calls).iter().all(|errno| *errno == Errno::ENOSYS as i32));
    assert!(judged_outside(&ground, &calls).iter().all(|errno| *errno == PASSED), "no teeth");
}

/// 32-bit calls by `int 0x80`, for real; and every number of them by the interpreter.
#[cfg(target_arch = "x86_64")]
#[test]
fn no_32_bit_call_passes() {
    let Some(ground) = Ground::new() else { return };
    for options in [STANDARD, Options { nested_userns: true, ..STANDARD }] {
        let program = seccomp::program(&options);
        for nr in 0..1024 {
            let verdict = seccomp::interpret(&program, nr, seccomp::ARCH_32, [0; 6]);
            assert_eq!(verdict, Verdict::Errno(Errno::ENOSYS as u16), "{nr}");
        }
    }
    let outside = ground.outside(&["int80"]).unwrap();
    if outside.of("getpid") != "ok" {
        skip("this kernel has no 32-bit calls");
        return;
    }
    let said = ground.jail(&[], &["int80"]);
    for (name, result) in said.all() {
        assert_eq!(result, "ENOSYS", "{name}");
    }
    teeth(&said, Some(outside), &["getpid", "socketcall unix", "unshare user"]);
}

/// Bits that a program may set where the kernel does not look, against filters of another width.
#[test]
fn high_bits_change_no_verdict() {
    let Some(ground) = Ground::new() else { return };
    let mut calls: Vec<Call> = Vec::new();
    for high in [0, 1 << 32, 1 << 63, 0xffff_ffff_0000_0000u64] {
        for request in [0x5412u64, 0x541c, 0x5423] {
            calls.push((number("ioctl"), [0, request | high, 0, 0, 0]));
        }
        for family in [40u64, 38, 17, 0x5a, 16] {
            calls.push((number("socket"), [family | high, 3 | high, 9 | high, 0, 0]));
        }
        for persona in [0x0400000u64, 0x0100000] {
            calls.push((number("personality"), [persona | high, 0, 0, 0, 0]));
        }
        for option in [35u64, 28] {
            calls.push((number("prctl"), [option | high, 0, 0, 0, 0]));
        }
    }
    for flag in
        [0x1000_0000u64, 0x0002_0000, 0x2000_0000, 0x4000_0000, 0x0800_0000, 0x0400_0000, 0x0200_0000, 0x80]
    {
        for call in ["clone", "unshare"] {
            calls.push((number(call), [flag, 0, 0, 0, 0]));
            calls.push((number(call), [flag << 32 | 17, 0, 0, 0, 0]));
            calls.push((number(call), [flag | 0xffff_ffff_0000_0000, 0, 0, 0, 0]));
        }
    }
    let got = judged(&ground, &[], &calls);
    let refusals = [Errno::EPERM, Errno::EAFNOSUPPORT, Errno::EPROTONOSUPPORT].map(|e| e as i32);
    for (call, got) in calls.iter().zip(got) {
        assert!(refusals.contains(&got), "{:?} {:x?}: {got}", seccomp::name(call.0), call.1);
        assert_eq!(got, wanted(&STANDARD, call));
    }
}

/// Calls with arguments that the kernel would take: each refused as the table says, and most of
/// them performed, or refused for another reason, outside.
#[test]
fn dangerous_calls_are_refused_for_real() {
    let Some(ground) = Ground::new() else { return };
    for flags in [&[][..], &["--as-root"]] {
        let said = ground.jail(flags, &["dangerous"]);
        for (name, result) in said.all() {
            let nr = (0..1024).find(|nr| seccomp::name(*nr) == Some(name));
            let nr = nr.unwrap_or_else(|| panic!("the table does not know `{name}`"));
            let Rule::Errno(errno) = seccomp::expected(nr, &STANDARD) else { panic!("`{name}` is allowed") };
            assert_eq!(result, format!("{:?}", Errno::from_raw(errno.into())), "{name}");
        }
        assert!(said.all().count() >= 37, "{said:?}");
    }
    let said = ground.jail(&[], &["dangerous"]);
    let anywhere =
        ["io_uring_setup", "kcmp", "memfd_secret", "adjtimex", "pidfd_getfd", "move_pages", "fanotify_init"];
    let outside = ground.outside(&["dangerous"]).unwrap();
    let worked: Vec<&str> = anywhere.into_iter().filter(|n| outside.of(n) == "ok").collect();
    if worked.len() < anywhere.len() {
        skip(format!(
            "refused outside as well: {:?}",
            anywhere.iter().filter(|n| !worked.contains(n)).collect::<Vec<_>>()
        ));
    }
    assert!(worked.len() >= 3, "{worked:?}");
    teeth(&said, Some(outside), &worked);
    let weaker = ground.bwrap(&[], &["dangerous"]);
    let rings = if worked.contains(&"io_uring_setup") { &["io_uring_setup"][..] } else { &[] };
    teeth(&said, weaker, rings);
}

#[test]
fn prctl_and_personality_keep_what_debuggers_need_and_no_more() {
    let Some(ground) = Ground::new() else { return };
    for flags in [&[][..], &["--as-root"]] {
        let said = ground.jail(flags, &["prctl"]);
        said.expect("ok", &["personality ADDR_NO_RANDOMIZE", "PR_SET_DUMPABLE", "PR_SET_NAME"]);
        said.expect(
            "EPERM",
            &["personality READ_IMPLIES_EXEC", "PR_SET_SECUREBITS", "PR_SET_MM", "PR_CAPBSET_DROP"],
        );
        said.expect("EINVAL", &["PR_SET_NO_NEW_PRIVS 0"]);
    }
    let said = ground.jail(&["--as-root"], &["prctl"]);
    teeth(&said, ground.outside(&["prctl"]), &["personality READ_IMPLIES_EXEC"]);
    let weaker = ground.jail_without("caps,seccomp", &["--as-root"], &["prctl"]);
    teeth(&said, weaker, &["PR_SET_SECUREBITS", "PR_CAPBSET_DROP"]);
}

/// Programs may add filters of their own; none of them opens anything again, nor does a listener
/// that lets every call continue, nor a tracer that changes the number after the first look.
#[test]
fn nothing_undoes_a_refusal() {
    let Some(ground) = Ground::new() else { return };
    let said = ground.jail(&[], &["second-filter"]);
    said.expect("ok", &["install", "listener"]);
    said.expect("ENOSYS", &["after a second filter", "through a listener"]);
    if cfg!(target_arch = "x86_64") {
        said.expect("ENOSYS", &["swapped by a tracer"]);
    }
    let outside = ground.outside(&["second-filter"]).unwrap();
    if outside.of("after a second filter") == "ok" {
        teeth(&said, Some(outside), &["after a second filter", "through a listener"]);
    } else {
        skip("io_uring is switched off on this machine");
    }
}
