//! A second filter for jails without namespaces, for what only a namespace would keep apart.
//!
//! - The sockets of the host lie on paths that Landlock does not keep anybody from connecting to (before its
//!   ABI 9): none of that family can be made, and none at all without the host's network. Pairs of connected
//!   sockets can, but for datagrams: a message can be sent from one of those to whatever path it names.
//! - Processes outside are the user's own, whose limits can be set by whoever can name them: one without
//!   descriptors could not even list what it is to end, one without processor time would be killed. Their
//!   processors, priorities and schedulers stay within reach: the C library sets those of a thread by its number.
//! - Message queues and semaphores of the user are named by numbers alone: there are none, as in a kernel without
//!   them. Shared memory of System V is as open, but no PostgreSQL starts without it.

use seccompiler::sock_filter;

use super::code::{EQUAL, KEEP, LOAD, RETURN, load, op};
use super::{ARCH, Program};

const ALLOW: sock_filter = op(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW);
const NO_FAMILY: u32 = libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT as u32;
const NOT_YOURS: sock_filter = op(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
const MISSING: sock_filter = op(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);
/// `SOCK_TYPE_MASK`.
const KIND: u32 = 0xf;
/// Queues and semaphores. Without `mq_open` there is nothing for the other calls of its family.
const ABSENT: [libc::c_long; 10] = [
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
];

/// The last part.
const TAIL: usize = 21;
const LEN: usize = 3 + 2 * ABSENT.len() + TAIL;

/// `others`: what becomes of sockets of the families that lead to the network.
const fn code(others: u32) -> [sock_filter; LEN] {
    let mut code = [ALLOW; LEN];
    code[0] = op(LOAD, 0, 0, 4);
    // Another architecture is refused by the first filter, whole.
    code[1] = op(EQUAL, 0, (LEN - 5) as u8, ARCH);
    code[2] = op(LOAD, 0, 0, 0);
    let (mut at, mut i) = (3, 0);
    while i < ABSENT.len() {
        code[at] = op(EQUAL, 0, 1, ABSENT[i] as u32);
        code[at + 1] = MISSING;
        (at, i) = (at + 2, i + 1);
    }
    let tail = [
        op(EQUAL, 3, 0, libc::SYS_socket as u32),
        op(EQUAL, 5, 0, libc::SYS_socketpair as u32),
        op(EQUAL, 9, 0, libc::SYS_prlimit64 as u32),
        ALLOW,
        // socket
        load(0),
        op(EQUAL, 13, 0, libc::AF_UNIX as u32),
        op(RETURN, 0, 0, others),
        // socketpair
        load(1),
        op(KEEP, 0, 0, KIND),
        op(EQUAL, 9, 0, libc::SOCK_DGRAM as u32),
        // Another name of the same.
        op(EQUAL, 8, 0, libc::SOCK_RAW as u32),
        ALLOW,
        // prlimit64: one's own, by 0, or a look at those of others
        load(0),
        op(EQUAL, 4, 0, 0),
        load(2),
        op(EQUAL, 0, 4, 0),
        op(LOAD, 0, 0, 16 + 8 * 2 + 4),
        op(EQUAL, 0, 2, 0),
        ALLOW,
        op(RETURN, 0, 0, NO_FAMILY),
        NOT_YOURS,
    ];
    i = 0;
    while i < TAIL {
        let sock_filter { code: c, jt, jf, k } = tail[i];
        code[at + i] = sock_filter { code: c, jt, jf, k };
        i += 1;
    }
    code
}

static WITHOUT_NETWORK: [sock_filter; LEN] = code(NO_FAMILY);
static WITH_NETWORK: [sock_filter; LEN] = code(libc::SECCOMP_RET_ALLOW);

/// The filter. `no_sockets`: the jail has no network either.
pub fn alone(no_sockets: bool) -> Program {
    Program(if no_sockets { &WITHOUT_NETWORK } else { &WITH_NETWORK })
}

#[cfg(test)]
mod tests {
    use super::super::{Verdict, interpret};
    use super::*;

    fn judge(no_sockets: bool, number: libc::c_long, args: [u64; 6]) -> Verdict {
        interpret(&alone(no_sockets), number as u32, ARCH, args)
    }

    #[test]
    fn no_socket_reaches_the_hosts() {
        let refused = Verdict::Errno(libc::EAFNOSUPPORT as u16);
        let unix = libc::AF_UNIX as u64;
        for none in [true, false] {
            assert_eq!(judge(none, libc::SYS_socket, [unix | 1 << 32, 1, 0, 0, 0, 0]), refused);
            let inet = judge(none, libc::SYS_socket, [libc::AF_INET as u64, 1, 0, 0, 0, 0]);
            assert_eq!(inet, if none { refused } else { Verdict::Allow });
            for (kind, said) in [(1, Verdict::Allow), (2, refused), (3, refused), (5, Verdict::Allow)] {
                for flags in [0, libc::SOCK_CLOEXEC as u64, 1 << 32] {
                    assert_eq!(judge(none, libc::SYS_socketpair, [unix, kind | flags, 0, 0, 0, 0]), said);
                }
            }
        }
    }

    #[test]
    fn queues_and_semaphores_are_absent() {
        for number in ABSENT {
            assert_eq!(judge(true, number, [0; 6]), Verdict::Errno(libc::ENOSYS as u16), "{number}");
        }
        for number in [libc::SYS_shmget, libc::SYS_shmat, libc::SYS_sched_setaffinity, libc::SYS_setpriority]
        {
            assert_eq!(judge(true, number, [7; 6]), Verdict::Allow, "{number}");
        }
    }

    #[test]
    fn limits_are_set_of_oneself_and_nothing_else_is_judged() {
        let limit = |args| judge(false, libc::SYS_prlimit64, args);
        for args in
            [[0, 7, 0x7fff_0000_0000, 0, 0, 0], [9, 7, 0, 0x7fff_1234, 0, 0], [1 << 32, 7, 8, 0, 0, 0]]
        {
            assert_eq!(limit(args), Verdict::Allow, "{args:x?}");
        }
        for new in [8, 0x7fff_0000_0000, 0x7fff_1234] {
            assert_eq!(limit([9, 7, new, 0, 0, 0]), Verdict::Errno(libc::EPERM as u16), "{new:x}");
        }
        for number in [libc::SYS_read, libc::SYS_connect, libc::SYS_setrlimit, 1_000] {
            assert_eq!(judge(true, number, [u64::MAX; 6]), Verdict::Allow);
        }
        let foreign = interpret(&alone(true), libc::SYS_socket as u32, ARCH ^ 1, [0; 6]);
        assert_eq!(foreign, Verdict::Allow, "the first filter's to refuse");
    }
}
