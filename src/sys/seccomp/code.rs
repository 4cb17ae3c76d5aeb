//! Instructions of filters that are written out by hand (`linux/bpf_common.h`).

use seccompiler::sock_filter;

/// Load a word of `struct seccomp_data`.
pub(super) const LOAD: u16 = 0x20;
/// Jump by whether it is `k`.
pub(super) const EQUAL: u16 = 0x15;
/// Jump by whether it has any bit of `k`.
pub(super) const ANY_BIT: u16 = 0x45;
/// Keep the bits of `k`.
pub(super) const KEEP: u16 = 0x54;
/// End with the verdict `k`.
pub(super) const RETURN: u16 = 0x06;

/// One instruction.
pub(super) const fn op(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Load the low word of an argument: all that the kernel sees of an int. The high one is 4 bytes on.
pub(super) const fn load(argument: u32) -> sock_filter {
    op(LOAD, 0, 0, 16 + 8 * argument)
}
