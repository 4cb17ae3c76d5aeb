//! A second filter for jails without namespaces: no socket of any kind can be made.
//!
//! The sockets of the host lie on paths that Landlock does not keep anybody from connecting to (before its
//! ABI 9), and the network is the host's. Pairs of connected sockets can be made, which reach nobody.

use seccompiler::sock_filter;

use super::{ARCH, Program};

const fn op(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

static PROGRAM: [sock_filter; 6] = [
    // Another architecture is refused by the first filter, whole.
    op(LOAD, 0, 0, 4),
    op(EQUAL, 0, 2, ARCH),
    op(LOAD, 0, 0, 0),
    op(EQUAL, 1, 0, libc::SYS_socket as u32),
    op(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    op(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT as u32),
];

/// The filter.
pub fn no_sockets() -> Program {
    Program(&PROGRAM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stops_socket_and_nothing_else() {
        let of = |arch: u32, nr: u32| {
            // Walked by hand: six instructions, of three kinds.
            let (mut at, mut value) = (0, 0);
            loop {
                let i = &PROGRAM[at];
                at += 1;
                match i.code {
                    LOAD => value = if i.k == 4 { arch } else { nr },
                    EQUAL => at += usize::from(if value == i.k { i.jt } else { i.jf }),
                    _ => return i.k,
                }
            }
        };
        let refused = libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT as u32;
        assert_eq!(of(ARCH, libc::SYS_socket as u32), refused);
        for nr in [libc::SYS_socketpair, libc::SYS_read, libc::SYS_connect] {
            assert_eq!(of(ARCH, nr as u32), libc::SECCOMP_RET_ALLOW);
        }
        assert_eq!(
            of(ARCH ^ 1, libc::SYS_socket as u32),
            libc::SECCOMP_RET_ALLOW,
            "the first filter's to refuse"
        );
    }
}
