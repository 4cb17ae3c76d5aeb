//! Prints the linker script `.cargo/start-order.ld`: the functions that a start of `aj` calls, in the order of
//! their first call.
//!
//! A start executes a twentieth of the program, a few lines here and there. Laid out as the compiler leaves them,
//! those are in sixty places, and each costs an exception, the mapping of the sixteen pages around it and their
//! unmapping; next to each other they are in ten. That was a tenth of `aj exec -- true`.
//!
//! ```text
//! CARGO_PROFILE_RELEASE_STRIP=none cargo build --release --target x86_64-unknown-linux-musl --bin aj
//! AJ_BIN=$PWD/target/x86_64-unknown-linux-musl/release/aj cargo bench --bench order > new.ld
//! ```
//!
//! Every start is followed one instruction at a time, with all its processes but the command. The binary has to
//! have its symbols; `nm` reads them. Names lose what changes from build to build (see [`pattern`]) where few others
//! have the same name then, so that the script outlives changes of the program: what it names in vain costs nothing.
#![allow(
    clippy::zombie_processes, // all are waited for, by `waitpid` of any
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    dead_code
)]
#![cfg_attr(not(target_arch = "x86_64"), allow(unused_imports))]

#[path = "common.rs"]
mod common;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use common::Place;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// What is started: the common ways, the commonest first.
const STARTS: [&[&str]; 8] = [
    &["exec", "--", "./noop"],
    &["exec", "--", "./noop"],
    &["exec", "--rw", "--", "./noop"],
    &["exec", "--net", "host", "--", "./noop"],
    &["exec", "--preset", "build", "--best-effort", "--", "./noop"],
    &["exec", "--", "cp", "noop", "copy"],
    // Its jail runs already: this side of a join.
    &["exec", WORKSPACE, "--", "./noop"],
    &["exec", "--preset", "agent", "--best-effort", "--", "./noop"],
];

/// A workspace whose jail runs.
const WORKSPACE: &str = "kept";

#[cfg(not(target_arch = "x86_64"))]
fn main() {
    println!("SKIP: instructions are followed on x86_64 only");
}

#[cfg(target_arch = "x86_64")]
fn main() {
    let Some(aj) = std::env::var_os("AJ_BIN") else {
        println!("SKIP: AJ_BIN names no binary; see the beginning of benches/order.rs");
        return;
    };
    let symbols = symbols(&aj);
    assert!(symbols.len() > 1000, "{aj:?} has no symbols");
    let place = Place::new(&["noop"]);
    // The first starts make what later ones find.
    for _ in 0..3 {
        assert!(place.aj(STARTS[0]).stderr(Stdio::null()).status().unwrap().success());
    }
    let run = |words: &[&str]| {
        assert!(place.aj(words).stdout(Stdio::null()).status().unwrap().success(), "{words:?}");
    };
    run(&["workspace", "create", WORKSPACE, "--from-dir", "."]);
    run(&["workspace", "start", WORKSPACE]);
    let mut order = Vec::new();
    let mut seen = HashSet::new();
    for words in STARTS {
        for offset in follow(place.aj(words), &aj) {
            match symbols.range(..=offset).next_back() {
                Some((_, name)) if seen.insert(name) => order.push(name.as_str()),
                _ => {}
            }
        }
    }
    run(&["workspace", "stop", WORKSPACE]);
    eprintln!("{} functions of {}", order.len(), symbols.len());
    print_script(&order, &symbols);
}

/// Functions by their offset in the file as it is mapped.
fn symbols(aj: &std::ffi::OsStr) -> BTreeMap<u64, String> {
    let output = Command::new("nm").arg(aj).output().expect("`nm` is in the package binutils");
    let text = String::from_utf8(output.stdout).unwrap();
    let function = |line: &str| {
        let mut words = line.split(' ');
        let (at, kind, name) = (words.next()?, words.next()?, words.next()?);
        matches!(kind, "t" | "T" | "w" | "W").then(|| (u64::from_str_radix(at, 16).unwrap(), name.to_owned()))
    };
    text.lines().filter_map(function).collect()
}

#[cfg(target_arch = "x86_64")]
/// The offsets at which one start executes, in the order of their first time.
fn follow(mut command: Command, aj: &std::ffi::OsStr) -> Vec<u64> {
    let started = || ptrace::traceme().map_err(Into::into);
    // SAFETY: one system call.
    unsafe { command.pre_exec(started) };
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let first = Pid::from_raw(child.id().cast_signed());
    assert!(matches!(waitpid(first, None).unwrap(), WaitStatus::Stopped(_, Signal::SIGTRAP)));
    let all = Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    ptrace::setoptions(first, all).unwrap();
    let base = base(first, aj);
    // Whether a process runs `aj`: what it executes is the command and no business of ours.
    let mut ours = HashMap::from([(first, true)]);
    let (mut order, mut seen) = (Vec::new(), HashSet::new());
    ptrace::step(first, None).unwrap();
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::__WALL)) {
        let (pid, signal) = match status {
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => continue,
            WaitStatus::PtraceEvent(pid, _, event) => {
                if event == nix::libc::PTRACE_EVENT_EXEC {
                    ours.insert(pid, false);
                }
                (pid, None)
            }
            WaitStatus::Stopped(pid, Signal::SIGTRAP | Signal::SIGSTOP) => (pid, None),
            WaitStatus::Stopped(pid, signal) => (pid, Some(signal)),
            _ => continue,
        };
        // A process may be killed at any time; then there is nothing to go on with.
        if *ours.entry(pid).or_insert(true) {
            if let Ok(registers) = ptrace::getregs(pid) {
                let offset = registers.rip.wrapping_sub(base);
                if seen.insert(offset) {
                    order.push(offset);
                }
            }
            ptrace::step(pid, signal).ok();
        } else {
            ptrace::cont(pid, signal).ok();
        }
    }
    order
}

/// What the addresses of its symbols are counted from: nothing for a program that has a fixed address, or else
/// where it is mapped.
fn base(pid: Pid, aj: &std::ffi::OsStr) -> u64 {
    const ET_EXEC: u8 = 2;
    if std::fs::read(aj).unwrap()[16] == ET_EXEC {
        return 0;
    }
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let file = std::fs::canonicalize(aj).unwrap();
    let line = maps.lines().find(|l| l.ends_with(file.to_str().unwrap())).expect("the program is mapped");
    u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap()
}

fn print_script(order: &[&str], symbols: &BTreeMap<u64, String>) {
    let mut alike: HashMap<String, usize> = HashMap::new();
    for name in symbols.values() {
        *alike.entry(pattern(name)).or_default() += 1;
    }
    println!("/* What a start of aj executes, in that order: made by benches/order.rs, which says why. */");
    println!("SECTIONS {{\n  .text.start : {{");
    let mut printed = HashSet::new();
    for name in order {
        let pattern = pattern(name);
        let few = alike.get(&pattern).is_some_and(|n| *n <= 3);
        let pattern = if few { pattern } else { (*name).to_owned() };
        if printed.insert(pattern.clone()) {
            println!("    *(.text.{pattern} .text.unlikely.{pattern})");
        }
    }
    println!("  }}\n}}\nINSERT BEFORE .text;");
}

/// A name as the linker looks for it, with `*` for what differs between two builds of the same function: in a name
/// mangled the `v0` way the hashes of crates (`Cs…_`), the places that it refers back to (`B…_`), and what the
/// optimizer appended (`.llvm.…`).
fn pattern(name: &str) -> String {
    let Some(path) = name.strip_prefix("_R") else { return name.to_owned() };
    let (path, appended) = path.split_once('.').map_or((path, ""), |(path, _)| (path, "*"));
    let mut pattern = "_R".to_owned();
    let mut rest = path;
    while let Some(at) = rest.find(['C', 'B']) {
        let (before, from) = rest.split_at(at);
        pattern.push_str(before);
        let skipped = if from.starts_with("Cs") { 2 } else { 1 };
        let hash = from.get(skipped..).unwrap_or_default();
        let length =
            hash.find(|c: char| !c.is_ascii_alphanumeric()).filter(|at| hash[*at..].starts_with('_'));
        let is_hash = length.is_some_and(|n| if skipped == 2 { n > 5 } else { n < 4 });
        let Some(length) = length.filter(|_| is_hash) else {
            pattern.push_str(&from[..1]);
            rest = &from[1..];
            continue;
        };
        pattern.push_str(&from[..skipped]);
        pattern.push_str("*_");
        rest = &hash[length + 1..];
    }
    pattern + rest + appended
}
