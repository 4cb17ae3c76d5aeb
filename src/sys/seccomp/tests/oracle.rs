//! The same policy compiled by `seccompiler`, which knows nothing of ranges or of our steps.

use std::collections::BTreeMap;

use proptest::prelude::*;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::super::interp::run;
use super::*;

#[cfg(target_arch = "x86_64")]
const TARGET: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const TARGET: TargetArch = TargetArch::aarch64;

fn compile(rules: BTreeMap<i64, Vec<SeccompRule>>, hit: SeccompAction, miss: SeccompAction) -> BpfProgram {
    SeccompFilter::new(rules, miss, hit, TARGET).unwrap().try_into().unwrap()
}

fn condition(arg: u8, len: Len, op: Op, value: u64) -> SeccompCondition {
    SeccompCondition::new(arg, len, op, value).unwrap()
}

fn int(arg: u8, value: u64) -> SeccompCondition {
    condition(arg, Len::Dword, Op::Eq, value)
}

fn not(arg: u8, value: u64) -> SeccompCondition {
    condition(arg, Len::Dword, Op::Ne, value)
}

fn without_devices(arg: u8) -> Vec<Vec<SeccompCondition>> {
    let kinds = (0..16u64).filter(|kind| ![2, 3, 6, 7].contains(kind));
    kinds.map(|kind| vec![condition(arg, Len::Dword, Op::MaskedEq(0xf000), kind << 12)]).collect()
}

/// When the check lets a call pass: any rule, all conditions of it.
fn passes(check: Check, level: Level) -> Vec<Vec<SeccompCondition>> {
    match check {
        Check::Clone => {
            let flags = 0x7e02_0080u64;
            vec![vec![condition(0, Len::Qword, Op::MaskedEq(flags << 32 | flags), 0)]]
        }
        Check::Socket => {
            let mut rules = vec![vec![int(0, 1)], vec![int(0, 16), int(2, 0)]];
            for family in [2, 10].into_iter().filter(|_| level != Level::Strict) {
                for protocol in [0, 1, 6, 17, 58, 136, 255, 262] {
                    for kind in (0..16).filter(|kind| *kind != 10) {
                        let kind = condition(1, Len::Dword, Op::MaskedEq(0xf), kind);
                        rules.push(vec![int(0, family), int(2, protocol), kind]);
                    }
                }
            }
            rules
        }
        Check::Ioctl => vec![vec![not(1, 0x5412), not(1, 0x541c), not(1, 0x5423)]],
        Check::Personality => {
            vec![vec![int(0, 0xffff_ffff)], vec![condition(0, Len::Dword, Op::MaskedEq(0xfff9_fff7), 0)]]
        }
        Check::Prctl => vec![vec![not(0, 28), not(0, 35)]],
        Check::Mknod => without_devices(1),
        Check::Mknodat => without_devices(2),
        Check::Rename => vec![vec![condition(4, Len::Dword, Op::MaskedEq(4), 0)]],
        Check::Prlimit => vec![vec![not(0, 1)], vec![condition(2, Len::Qword, Op::Eq, 0)]],
        Check::ArchPrctl => {
            [0x1001..=0x1004, 0x1011..=0x1012, 0x1021..=0x1023, 0x4001..=0x4003, 0x5001..=0x5005]
                .into_iter()
                .map(|range: std::ops::RangeInclusive<u64>| {
                    vec![
                        condition(0, Len::Dword, Op::Ge, *range.start()),
                        condition(0, Len::Dword, Op::Le, *range.end()),
                    ]
                })
                .collect()
        }
    }
}

/// An allow-list of everything but `nr` and the calls with checks.
fn constants(options: &Options) -> BpfProgram {
    let allowed = (0..1024).filter(|nr| expected(*nr, options) == Rule::Allow);
    compile(allowed.map(|nr| (nr.into(), vec![])).collect(), SeccompAction::Allow, SeccompAction::Trap)
}

/// The calls refused with `errno`.
fn refused(options: &Options, errno: i32) -> BpfProgram {
    let rows = (0..1024).filter(|nr| expected(*nr, options) == Rule::Errno(errno as u16));
    let hit = SeccompAction::Errno(errno as u32);
    compile(rows.map(|nr| (nr.into(), vec![])).collect(), hit, SeccompAction::Trap)
}

#[test]
fn every_number_agrees_with_seccompiler() {
    for options in all_options().filter(|options| options.level != Level::Log) {
        let ours = program(&options);
        let allowed = constants(&options);
        let denied = refused(&options, libc::EPERM);
        let absent = refused(&options, libc::ENOSYS);
        for nr in 0..1024 {
            let votes: Vec<Verdict> = [&allowed, &denied, &absent]
                .iter()
                .map(|code| run(code, nr, ARCH, [0; 6]).0)
                .filter(|verdict| *verdict != Verdict::Trap(0))
                .collect();
            match expected(nr, &options) {
                Rule::ByArgument(_) => assert_eq!(votes, []),
                _ => assert_eq!(votes, [interpret(&ours, nr, ARCH, [0; 6])], "{nr} {options:?}"),
            }
        }
    }
}

/// `(number, its check compiled by seccompiler)` for each call with one.
fn checks(options: &Options) -> Vec<(u32, BpfProgram)> {
    (0..1024)
        .filter_map(|nr| match expected(nr, options) {
            Rule::ByArgument(check) => Some((nr, check)),
            _ => None,
        })
        .map(|(nr, check)| {
            let rules = passes(check, options.level).into_iter().map(|all| SeccompRule::new(all).unwrap());
            let rules = BTreeMap::from([(i64::from(nr), rules.collect())]);
            (nr, compile(rules, SeccompAction::Allow, SeccompAction::Trap))
        })
        .collect()
}

fn agree(options: &Options, nr: u32, theirs: &BpfProgram, args: [u64; 6]) {
    let ours = interpret(&program(options), nr, ARCH, args);
    let theirs = run(theirs, nr, ARCH, args).0;
    assert_eq!(ours == Verdict::Allow, theirs == Verdict::Allow, "{:?} {args:x?}", name(nr));
    assert_eq!(ours, wanted(nr, args, options), "{:?} {args:x?}", name(nr));
}

#[test]
fn every_check_agrees_with_seccompiler_at_its_edges() {
    for options in all_options() {
        for (nr, theirs) in checks(&options) {
            for value in edges() {
                agree(&options, nr, &theirs, [value; 6]);
                agree(&options, nr, &theirs, [value | 0x1234_5678 << 32; 6]);
                for family in [1, 2, 10, 16, 2 | 1 << 32, 38] {
                    agree(&options, nr, &theirs, [family, 1, value, 0, 0, 0]);
                    agree(&options, nr, &theirs, [family, value, 6, 0, 0, 0]);
                    agree(&options, nr, &theirs, [family, value, 132, 0, 0, 0]);
                }
            }
        }
    }
}

/// Mostly values near an edge, sometimes with a high word, sometimes anything.
fn argument() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => proptest::sample::select(edges()),
        2 => (proptest::sample::select(edges()), any::<u32>()).prop_map(|(low, high)| low | u64::from(high) << 32),
        1 => any::<u64>(),
    ]
}

proptest! {
    #[test]
    fn any_arguments_agree_with_seccompiler(args in proptest::array::uniform6(argument()), pick in any::<usize>()) {
        thread_local!(static CHECKS: Vec<(Options, Vec<(u32, BpfProgram)>)> =
            all_options().map(|options| (options, checks(&options))).collect());
        CHECKS.with(|all| {
            let (options, checks) = &all[pick % all.len()];
            for (nr, theirs) in checks {
                agree(options, *nr, theirs, args);
            }
        });
    }

    #[test]
    fn any_call_is_decided_as_its_row_says(nr in any::<u32>(), small in 0u32..600, args in proptest::array::uniform6(argument())) {
        for options in all_options() {
            for nr in [nr, small] {
                prop_assert_eq!(interpret(&program(&options), nr, ARCH, args), wanted(nr, args, &options));
            }
        }
    }
}
