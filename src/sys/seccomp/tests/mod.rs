//! The filter against four judges: a plain description of the policy, `seccompiler`, the rules that
//! the kernel's verifier has, and (in `kernel`) the kernel itself.

#![allow(clippy::unwrap_used, clippy::print_stderr)] // a failed test may panic, a skipped one says why

mod kernel;
mod oracle;
mod policy;

/// The table of the other architecture, checked as data.
#[cfg(target_arch = "x86_64")]
#[path = "../table_aarch64.rs"]
mod other;
#[cfg(target_arch = "aarch64")]
#[path = "../table_x86_64.rs"]
mod other;
use super::rules;

use super::{ARCH, Check, Level, Options, Rule, Verdict, expected, interpret, name, program};

/// Every combination of options.
fn all_options() -> impl Iterator<Item = Options> {
    [Level::Standard, Level::Strict, Level::Log]
        .into_iter()
        .flat_map(|level| [false, true].map(|nested_userns| Options { level, nested_userns }))
}

const STANDARD: Options = Options { level: Level::Standard, nested_userns: false };

/// The number of a call of this architecture.
fn number(wanted: &str) -> u32 {
    (0..1024).find(|nr| name(*nr) == Some(wanted)).unwrap_or_else(|| panic!("no call `{wanted}`"))
}

/// The verdict on a native call, by name.
fn verdict(options: &Options, call: &str, args: [u64; 6]) -> Verdict {
    interpret(&program(options), number(call), ARCH, args)
}

fn as_verdict(rule: Rule) -> Option<Verdict> {
    match rule {
        Rule::Allow => Some(Verdict::Allow),
        Rule::Log => Some(Verdict::Log),
        Rule::Errno(errno) => Some(Verdict::Errno(errno)),
        Rule::ByArgument(_) => None,
    }
}

/// What the policy says about the arguments of a call, in words of its own: not the steps of
/// `rules`, but what the kernel's prototypes and the policy's description say.
fn judged(check: Check, args: [u64; 6], options: &Options) -> Verdict {
    let int = |at: usize| args[at] as u32 as i32;
    let refusal = match check {
        Check::Clone => {
            let namespaces = libc::CLONE_NEWCGROUP
                | libc::CLONE_NEWUTS
                | libc::CLONE_NEWIPC
                | libc::CLONE_NEWUSER
                | libc::CLONE_NEWPID
                | libc::CLONE_NEWNET
                | libc::CLONE_NEWNS
                | 0x80;
            let words = [args[0] as u32, (args[0] >> 32) as u32];
            words.iter().any(|word| word & namespaces as u32 != 0).then_some(libc::EPERM)
        }
        Check::Socket => match int(0) {
            libc::AF_UNIX => None,
            libc::AF_INET | libc::AF_INET6 if options.level != Level::Strict => {
                // 10 is SOCK_PACKET; 262 is MPTCP, 136 UDP-Lite, 58 ICMPv6.
                match (int(1) & 0xf, int(2)) {
                    (10, _) => Some(libc::EAFNOSUPPORT),
                    (_, 0 | 1 | 6 | 17 | 58 | 136 | 255 | 262) => None,
                    _ => Some(libc::EPROTONOSUPPORT),
                }
            }
            libc::AF_NETLINK => (int(2) != libc::NETLINK_ROUTE).then_some(libc::EPROTONOSUPPORT),
            _ => Some(libc::EAFNOSUPPORT),
        },
        // TIOCSTI, TIOCLINUX, TIOCSETD
        Check::Ioctl => [0x5412, 0x541C, 0x5423].contains(&int(1)).then_some(libc::EPERM),
        Check::Personality => match int(0) {
            -1 => None,
            flags => (flags & !(0x40000 | 0x20000 | 8) != 0).then_some(libc::EPERM),
        },
        // PR_SET_SECUREBITS, PR_SET_MM
        Check::Prctl => [28, 35].contains(&int(0)).then_some(libc::EPERM),
        Check::ArchPrctl => {
            let harmless =
                [0x1001..=0x1004, 0x1011..=0x1012, 0x1021..=0x1023, 0x4001..=0x4003, 0x5001..=0x5005];
            (!harmless.iter().any(|range| range.contains(&int(0)))).then_some(libc::EPERM)
        }
        Check::Mknod => is_device(args[1]).then_some(libc::EPERM),
        Check::Mknodat => is_device(args[2]).then_some(libc::EPERM),
        // RENAME_WHITEOUT
        Check::Rename => (int(4) & 4 != 0).then_some(libc::EINVAL),
        Check::Prlimit => (int(0) == 1 && args[2] != 0).then_some(libc::EPERM),
    };
    match (refusal, options.level) {
        (None, _) => Verdict::Allow,
        (Some(_), Level::Log) => Verdict::Log,
        (Some(errno), _) => Verdict::Errno(errno as u16),
    }
}

/// By the kinds of files that the kernel knows, and those that it knows nothing of.
fn is_device(mode: u64) -> bool {
    [0o02, 0o03, 0o06, 0o07].contains(&(mode >> 12 & 0o17))
}

/// What must come of a native call.
fn wanted(nr: u32, args: [u64; 6], options: &Options) -> Verdict {
    match expected(nr, options) {
        Rule::ByArgument(check) => judged(check, args, options),
        rule => as_verdict(rule).unwrap_or(Verdict::Invalid),
    }
}

/// Values at which one of the checks changes its mind.
fn edges() -> Vec<u64> {
    let mut values: Vec<u64> = (0..=50).chain(130..=140).chain(250..=270).collect();
    for near in
        [0x541, 0x1001, 0x1004, 0x1011, 0x1013, 0x1020, 0x1024, 0x2001, 0x4001, 0x4004, 0x5001, 0x5006]
    {
        values.extend(near - 1..=near + 1);
    }
    values.extend((0..16).map(|kind| kind << 12 | 0o644));
    values.extend(0x5410..=0x5424);
    values.extend((0..64).map(|bit| 1u64 << bit));
    values.extend([
        0x40000,
        0x60008,
        0x440000,
        0x400008,
        0xffff_ffff,
        u64::MAX,
        1 << 31 | 1,
        0x80001,
        0x80003,
    ]);
    values
}
