//! The assembler: from the table to a program, at build time.
//!
//! The numbers fall into ranges of equal outcome, and a balanced tree of `>=` comparisons finds the
//! range of a call in about seven steps. A leaf costs no instruction: the comparison jumps straight
//! to a return, or to a check, that all leaves of that outcome share. These stand behind the tree,
//! because jumps only go forward:
//! ```text
//! load arch · foreign? ENOSYS · load number · tree · checks · returns
//! ```
//! A conditional jump reaches 255 instructions. A table that outgrows this fails the build.

use seccompiler::sock_filter;

use super::rules::{ABSENT, Check, Rule, Step, Then};
use super::table::TABLE;
use super::{ARCH, Level, Options, X32_BIT};

/// More instructions, ranges and outcomes than there are: too small a number fails the build.
const MAX: usize = 256;

/// The kernel evaluates a new filter for the numbers below this one, so only they have weight.
const WEIGHED: u32 = 470;

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const KEEP: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const ANY_BIT: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

// Offsets in `struct seccomp_data`; argument words are those of a little-endian machine.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;
#[cfg(target_endian = "big")]
compile_error!("the filter loads the words of arguments in little-endian order");

/// Where a jump leads in the end.
#[derive(Clone, Copy)]
enum Outcome {
    Check(Check),
    Return(u32),
}

impl Outcome {
    const fn of(rule: Rule) -> Outcome {
        match rule {
            Rule::Allow => Outcome::Return(libc::SECCOMP_RET_ALLOW),
            Rule::Log => Outcome::Return(libc::SECCOMP_RET_LOG),
            Rule::Errno(errno) => Outcome::Return(libc::SECCOMP_RET_ERRNO | errno as u32),
            Rule::ByArgument(check) => Outcome::Check(check),
        }
    }

    const fn same(self, other: Outcome) -> bool {
        match (self, other) {
            (Outcome::Check(one), Outcome::Check(two)) => one as u8 == two as u8,
            (Outcome::Return(one), Outcome::Return(two)) => one == two,
            _ => false,
        }
    }
}

/// Numbers from `start` to the next range's start.
#[derive(Clone, Copy)]
struct Range {
    start: u32,
    outcome: Outcome,
}

/// One side of a conditional jump, to be filled in when the place of `to` is known.
#[derive(Clone, Copy)]
struct Jump {
    at: usize,
    taken: bool,
    to: Outcome,
    landed: bool,
}

/// An assembled program in an array that is too long for it.
pub(super) struct Code {
    code: [sock_filter; MAX],
    len: usize,
}

impl Code {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The program in an array of its length; any other `N` fails the build.
    pub(super) const fn trim<const N: usize>(&self) -> [sock_filter; N] {
        assert!(N == self.len);
        let mut out = [const { instruction(0, 0) }; N];
        let mut at = 0;
        while at < N {
            let sock_filter { code, jt, jf, k } = self.code[at];
            out[at] = sock_filter { code, jt, jf, k };
            at += 1;
        }
        out
    }
}

/// The program for `options`.
pub(super) const fn assemble(options: Options) -> Code {
    let (ranges, count) = ranges(options);
    let mut program = Assembler::new();
    program.put(LOAD, ARCHITECTURE);
    let foreign = program.put(EQUAL, ARCH);
    program.jump(foreign, false, Outcome::of(Rule::Errno(libc::ENOSYS as u16)));
    program.put(LOAD, NUMBER);
    program.tree(&ranges, 0, count);
    program.outcomes(options.level);
    program.out
}

/// The ranges of the table, and how many there are.
const fn ranges(options: Options) -> ([Range; MAX], usize) {
    let unknown = Outcome::of(ABSENT.rule(options));
    let mut ranges = [Range { start: u32::MAX, outcome: unknown }; MAX];
    ranges[0].start = 0;
    let mut count = 1;
    let mut at = 0;
    let mut number = 0;
    while at < TABLE.len() {
        let row = &TABLE[at];
        assert!(row.0 >= number, "the table is not in order");
        if row.0 > number {
            count = extend(&mut ranges, count, Range { start: number, outcome: unknown });
        }
        count = extend(&mut ranges, count, Range { start: row.0, outcome: Outcome::of(row.2.rule(options)) });
        number = row.0 + 1;
        at += 1;
    }
    count = extend(&mut ranges, count, Range { start: number, outcome: unknown });
    let x32 = Outcome::of(Rule::Errno(libc::ENOSYS as u16));
    count = extend(&mut ranges, count, Range { start: X32_BIT, outcome: x32 });
    (ranges, count)
}

/// Append a range, or let the last one cover it too.
const fn extend(ranges: &mut [Range; MAX], count: usize, range: Range) -> usize {
    let last = ranges[count - 1];
    if last.start == range.start {
        ranges[count - 1] = range;
        count
    } else if last.outcome.same(range.outcome) {
        count
    } else {
        ranges[count] = range;
        count + 1
    }
}

const fn instruction(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

struct Assembler {
    out: Code,
    jumps: [Jump; 2 * MAX],
    pending: usize,
}

impl Assembler {
    const fn new() -> Assembler {
        Assembler {
            out: Code { code: [const { instruction(0, 0) }; MAX], len: 0 },
            jumps: [Jump { at: 0, taken: false, to: Outcome::Return(0), landed: false }; 2 * MAX],
            pending: 0,
        }
    }

    /// Append an instruction and return where it is.
    const fn put(&mut self, code: u32, k: u32) -> usize {
        let at = self.out.len;
        self.out.code[at] = instruction(code, k);
        self.out.len = at + 1;
        at
    }

    /// Note that a side of the comparison at `at` leads to `to`.
    const fn jump(&mut self, at: usize, taken: bool, to: Outcome) {
        self.jumps[self.pending] = Jump { at, taken, to, landed: false };
        self.pending += 1;
    }

    /// Fill in one side of the comparison at `at`.
    const fn aim(&mut self, at: usize, taken: bool, target: usize) {
        let distance = target - at - 1;
        assert!(distance <= u8::MAX as usize, "a jump is too far for one byte");
        if taken {
            self.out.code[at].jt = distance as u8;
        } else {
            self.out.code[at].jf = distance as u8;
        }
    }

    /// The comparisons that find a number among `ranges[first..end]`, two ranges or more.
    const fn tree(&mut self, ranges: &[Range; MAX], first: usize, end: usize) {
        let middle = middle(ranges, first, end);
        let at = self.put(AT_LEAST, ranges[middle].start);
        self.side(ranges, at, false, first, middle);
        self.side(ranges, at, true, middle, end);
    }

    const fn side(&mut self, ranges: &[Range; MAX], at: usize, taken: bool, first: usize, end: usize) {
        if end - first == 1 {
            self.jump(at, taken, ranges[first].outcome);
        } else {
            let here = self.out.len;
            self.aim(at, taken, here);
            self.tree(ranges, first, end);
        }
    }

    /// What the jumps lead to: the checks first, since their steps lead to returns.
    const fn outcomes(&mut self, level: Level) {
        let mut next = 0;
        while next < self.pending {
            let jump = self.jumps[next];
            if let Outcome::Check(check) = jump.to
                && !jump.landed
            {
                self.land(jump.to);
                self.check(check, level);
            }
            next += 1;
        }
        next = 0;
        while next < self.pending {
            let jump = self.jumps[next];
            if let Outcome::Return(action) = jump.to
                && !jump.landed
            {
                self.land(jump.to);
                self.put(RETURN, action);
            }
            next += 1;
        }
    }

    /// All jumps to `outcome` lead to the next instruction.
    const fn land(&mut self, outcome: Outcome) {
        let here = self.out.len;
        let mut next = 0;
        while next < self.pending {
            let jump = self.jumps[next];
            if jump.to.same(outcome) {
                assert!(!jump.landed);
                self.aim(jump.at, jump.taken, here);
                self.jumps[next].landed = true;
            }
            next += 1;
        }
    }

    /// The steps of a check, one instruction each.
    const fn check(&mut self, check: Check, level: Level) {
        let steps = check.steps(level);
        let mut next = 0;
        while next < steps.len() {
            match steps[next] {
                Step::Low(arg) => _ = self.put(LOAD, ARGUMENTS + 8 * arg),
                Step::High(arg) => _ = self.put(LOAD, ARGUMENTS + 8 * arg + 4),
                Step::Keep(mask) => _ = self.put(KEEP, mask),
                Step::If(value, then) => self.branch(EQUAL, value, true, then, level),
                Step::IfNot(value, then) => self.branch(EQUAL, value, false, then, level),
                Step::IfAny(bits, then) => self.branch(ANY_BIT, bits, true, then, level),
                Step::IfBelow(bound, then) => self.branch(AT_LEAST, bound, false, then, level),
                Step::Finally(then) => match Outcome::of(then.rule(level)) {
                    Outcome::Return(action) => _ = self.put(RETURN, action),
                    Outcome::Check(_) => panic!("a check ends in a return"),
                },
            }
            next += 1;
        }
    }

    const fn branch(&mut self, code: u32, k: u32, taken: bool, then: Then, level: Level) {
        let at = self.put(code, k);
        match then {
            Then::Skip(steps) => self.aim(at, taken, at + 1 + steps as usize),
            Then::Allow | Then::Refuse(_) => self.jump(at, taken, Outcome::of(then.rule(level))),
        }
    }
}

/// Where to divide `ranges[first..end]` so that both halves weigh about the same.
const fn middle(ranges: &[Range; MAX], first: usize, end: usize) -> usize {
    let total = weight(ranges, first, end);
    let mut best = first + 1;
    let mut least = u32::MAX;
    let mut at = first + 1;
    while at < end {
        let left = weight(ranges, first, at);
        let difference = left.abs_diff(total - left);
        if difference < least {
            least = difference;
            best = at;
        }
        at += 1;
    }
    best
}

/// How many numbers the kernel evaluates in `ranges[first..end]`.
const fn weight(ranges: &[Range; MAX], first: usize, end: usize) -> u32 {
    // Behind the last range stands a start that is greater than every number.
    bounded(ranges[end].start) - bounded(ranges[first].start)
}

const fn bounded(number: u32) -> u32 {
    if number < WEIGHED { number } else { WEIGHED }
}
