//! A seccomp filter run in user space: what a kernel would decide, without the kernel. It shows
//! what happens to x32 and 32-bit calls where the kernel at hand has none.

use seccompiler::sock_filter;

use super::Program;

/// What a filter decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The call is performed.
    Allow,
    /// The call is performed and logged.
    Log,
    /// The call is left to a tracer.
    Trace(u16),
    /// The call is left to a supervisor.
    Notify,
    /// The call fails with this errno.
    Errno(u16),
    /// SIGSYS.
    Trap(u16),
    /// The thread dies.
    KillThread,
    /// The process dies. Also for actions that no kernel knows, as the kernel does.
    KillProcess,
    /// Not a filter: an instruction that the kernel's verifier refuses. Never for a [`Program`].
    Invalid,
}

/// What `program` decides on a call with this number, `AUDIT_ARCH_*` and arguments.
pub fn interpret(program: &Program, nr: u32, arch: u32, args: [u64; 6]) -> Verdict {
    run(program.instructions(), nr, arch, args).0
}

/// The same for any filter, with the number of instructions executed.
pub(super) fn run(code: &[sock_filter], nr: u32, arch: u32, args: [u64; 6]) -> (Verdict, usize) {
    let mut steps = 0;
    let action = execute(code, &words(nr, arch, args), &mut steps);
    (action.map_or(Verdict::Invalid, verdict), steps)
}

/// `struct seccomp_data` as the 32-bit words that a filter can load, little-endian.
fn words(nr: u32, arch: u32, args: [u64; 6]) -> [u32; 16] {
    let mut words = [0; 16];
    words[0] = nr;
    words[1] = arch;
    // Words 2 and 3 are the instruction pointer.
    for (pair, arg) in words[4..].chunks_exact_mut(2).zip(args) {
        pair[0] = arg as u32;
        pair[1] = (arg >> 32) as u32;
    }
    words
}

fn verdict(action: u32) -> Verdict {
    let data = action as u16;
    match action & libc::SECCOMP_RET_ACTION_FULL {
        libc::SECCOMP_RET_ALLOW => Verdict::Allow,
        libc::SECCOMP_RET_LOG => Verdict::Log,
        libc::SECCOMP_RET_TRACE => Verdict::Trace(data),
        libc::SECCOMP_RET_USER_NOTIF => Verdict::Notify,
        libc::SECCOMP_RET_ERRNO => Verdict::Errno(data),
        libc::SECCOMP_RET_TRAP => Verdict::Trap(data),
        libc::SECCOMP_RET_KILL_THREAD => Verdict::KillThread,
        _ => Verdict::KillProcess,
    }
}

/// The part of classic BPF that seccomp accepts; `None` for the rest.
fn execute(code: &[sock_filter], data: &[u32; 16], steps: &mut usize) -> Option<u32> {
    use libc::{
        BPF_A, BPF_ABS, BPF_ADD, BPF_ALU, BPF_AND, BPF_DIV, BPF_IMM, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JGT,
        BPF_JMP, BPF_JSET, BPF_LD, BPF_LDX, BPF_LEN, BPF_LSH, BPF_MEM, BPF_MISC, BPF_MUL, BPF_NEG, BPF_OR,
        BPF_RET, BPF_RSH, BPF_ST, BPF_STX, BPF_SUB, BPF_TAX, BPF_TXA, BPF_X, BPF_XOR,
    };
    let (mut a, mut x, mut memory) = (0u32, 0u32, [0u32; 16]);
    let mut at = 0usize;
    loop {
        let op = code.get(at)?;
        *steps += 1;
        at += 1;
        let word = u32::from(op.code);
        let operand = if word & BPF_X != 0 { x } else { op.k };
        match word & 7 {
            BPF_LD => {
                a = match word & 0xf8 {
                    BPF_ABS if op.k % 4 == 0 => *data.get(op.k as usize / 4)?,
                    BPF_IMM => op.k,
                    BPF_MEM => *memory.get(op.k as usize)?,
                    BPF_LEN => 64,
                    _ => return None,
                }
            }
            BPF_LDX => {
                x = match word & 0xf8 {
                    BPF_IMM => op.k,
                    BPF_MEM => *memory.get(op.k as usize)?,
                    BPF_LEN => 64,
                    _ => return None,
                }
            }
            BPF_ST => *memory.get_mut(op.k as usize)? = a,
            BPF_STX => *memory.get_mut(op.k as usize)? = x,
            BPF_ALU => {
                a = match word & 0xf0 {
                    BPF_ADD => a.wrapping_add(operand),
                    BPF_SUB => a.wrapping_sub(operand),
                    BPF_MUL => a.wrapping_mul(operand),
                    BPF_DIV => a.checked_div(operand)?,
                    BPF_AND => a & operand,
                    BPF_OR => a | operand,
                    BPF_XOR => a ^ operand,
                    BPF_LSH => a.checked_shl(operand)?,
                    BPF_RSH => a.checked_shr(operand)?,
                    BPF_NEG => a.wrapping_neg(),
                    _ => return None,
                }
            }
            BPF_JMP => {
                let holds = match word & 0xf0 {
                    BPF_JA => {
                        at = at.checked_add(op.k as usize)?;
                        continue;
                    }
                    BPF_JEQ => a == operand,
                    BPF_JGT => a > operand,
                    BPF_JGE => a >= operand,
                    BPF_JSET => a & operand != 0,
                    _ => return None,
                };
                at += usize::from(if holds { op.jt } else { op.jf });
            }
            BPF_RET => return Some(if word & 0x18 == BPF_A { a } else { op.k }),
            BPF_MISC => match word & 0xf8 {
                BPF_TAX => x = a,
                BPF_TXA => a = x,
                _ => return None,
            },
            _ => return None,
        }
    }
}
