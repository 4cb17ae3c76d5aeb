//! A second filter for jails that may write to a host directory: nothing can set a setuid or setgid
//! bit there.
//!
//! With `--rw` a jail of root writes through an id-mapped mount, so what it makes belongs to the
//! tree's owner on the host: a program it marked setuid would be the host's setuid program. `nosuid`
//! holds for the jail's own mount only. systemd's RestrictSUIDSGID does the same, for the same reason.
//!
//! Every call that takes a mode is judged by it; `openat2`, whose mode lies in memory that a filter
//! cannot read, is ENOSYS, and libraries fall back to `openat`.

use seccompiler::sock_filter;

use super::code::{ANY_BIT, EQUAL, LOAD, RETURN, load, op};
use super::{ARCH, Program};

/// Bits that the filter is about.
const BITS: u32 = 0o6000;
/// Flags with which open takes a mode: O_CREAT, or O_TMPFILE without its O_DIRECTORY.
const MAKES: u32 = 0o100 | 0o20_000_000;
const LEN: usize = 128;

const ALLOW: sock_filter = op(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW);
const DENY: sock_filter = op(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
const MISSING: sock_filter = op(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);

/// `fchmodat2`, which libc does not name for every architecture. Calls from 424 on have one number everywhere.
const FCHMODAT2: libc::c_long = 452;

/// Calls with a mode: number, argument with the mode, argument with the flags that make it count.
#[cfg(target_arch = "x86_64")]
const CALLS: [(libc::c_long, u32, Option<u32>); 9] = [
    (libc::SYS_chmod, 1, None),
    (libc::SYS_fchmod, 1, None),
    (libc::SYS_fchmodat, 2, None),
    (FCHMODAT2, 2, None),
    (libc::SYS_creat, 1, None),
    (libc::SYS_mknod, 1, None),
    (libc::SYS_mknodat, 2, None),
    (libc::SYS_open, 2, Some(1)),
    (libc::SYS_openat, 3, Some(2)),
];
/// Calls with a mode: number, argument with the mode, argument with the flags that make it count.
#[cfg(target_arch = "aarch64")]
const CALLS: [(libc::c_long, u32, Option<u32>); 5] = [
    (libc::SYS_fchmod, 1, None),
    (libc::SYS_fchmodat, 2, None),
    (FCHMODAT2, 2, None),
    (libc::SYS_mknodat, 2, None),
    (libc::SYS_openat, 3, Some(2)),
];

const fn assemble() -> ([sock_filter; LEN], usize) {
    let mut code = [ALLOW; LEN];
    // Another architecture is refused by the first filter, whole.
    code[0] = op(LOAD, 0, 0, 4);
    code[1] = op(EQUAL, 1, 0, ARCH);
    code[3] = op(LOAD, 0, 0, 0);
    let (mut at, mut i) = (4, 0);
    while i < CALLS.len() {
        let (number, mode, flags) = CALLS[i];
        let mut n = at + 1;
        if let Some(flags) = flags {
            code[n] = load(flags);
            code[n + 1] = op(ANY_BIT, 0, 3, MAKES);
            n += 2;
        }
        code[n] = load(mode);
        code[n + 1] = op(ANY_BIT, 0, 1, BITS);
        code[n + 2] = DENY;
        code[n + 3] = ALLOW;
        n += 4;
        code[at] = op(EQUAL, 0, (n - at - 1) as u8, number as u32);
        at = n;
        i += 1;
    }
    code[at] = op(EQUAL, 0, 1, libc::SYS_openat2 as u32);
    code[at + 1] = MISSING;
    code[at + 2] = ALLOW;
    (code, at + 3)
}

static CODE: ([sock_filter; LEN], usize) = assemble();

/// The filter: installed beside, and before, the one of [`super::program`].
pub fn no_setuid() -> Program {
    Program(CODE.0.split_at(CODE.1).0)
}

#[cfg(test)]
mod tests {
    use super::super::{Verdict, interpret};
    use super::*;

    fn judge(number: libc::c_long, args: [u64; 6]) -> Verdict {
        interpret(&no_setuid(), number as u32, ARCH, args)
    }

    #[test]
    fn every_way_to_set_the_bits_is_refused_and_every_other_mode_passes() {
        let denied = Verdict::Errno(libc::EPERM as u16);
        for (number, mode, flags) in CALLS {
            for bits in [0o4755u64, 0o2755, 0o6000, 0o4000 | 1 << 40] {
                let mut args = [0u64; 6];
                args[mode as usize] = bits;
                if let Some(flags) = flags {
                    assert_eq!(judge(number, args), Verdict::Allow, "{number}: no file is made");
                    for makes in [libc::O_CREAT, libc::O_TMPFILE, libc::O_CREAT | libc::O_EXCL] {
                        args[flags as usize] = makes as u64;
                        assert_eq!(judge(number, args), denied, "{number} {bits:o}");
                    }
                } else {
                    assert_eq!(judge(number, args), denied, "{number} {bits:o}");
                }
            }
            let mut plain = [0o1777u64; 6];
            if let Some(flags) = flags {
                plain[flags as usize] = libc::O_CREAT as u64;
            }
            assert_eq!(judge(number, plain), Verdict::Allow, "{number}");
        }
        assert_eq!(judge(libc::SYS_openat2, [0; 6]), Verdict::Errno(libc::ENOSYS as u16));
        for number in [libc::SYS_read, libc::SYS_execve, libc::SYS_mkdirat, 1_000] {
            assert_eq!(judge(number, [u64::MAX; 6]), Verdict::Allow);
        }
    }
}
