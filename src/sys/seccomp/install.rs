//! Handing a program to the kernel.

use super::Program;
use crate::sys::{Result, check};

/// Put `program` in force for the calling thread and all it will start, for good.
///
/// `no_new_privs` must be set already, else EACCES. Allocates nothing and is async-signal-safe, so
/// it may run between fork and exec. Speculation defences stay as the system has them: no flags.
pub fn install(program: &Program) -> Result<()> {
    let code = program.instructions();
    let fprog = libc::sock_fprog {
        len: code.len() as libc::c_ushort, // far below 2^16: every jump inside fits in a byte
        filter: code.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: `fprog` describes the instructions of `program`, which live for ever and have the
    // kernel's layout (`seccompiler::sock_filter` is its repr(C) twin); the kernel only reads both.
    let done = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, std::ptr::from_ref(&fprog))
    };
    check("seccomp", done).map(drop)
}
