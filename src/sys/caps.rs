//! Giving up privilege: capabilities, securebits, `no_new_privs`, dumpability, ids, keyring.

use caps::CapSet;
use nix::errno::Errno;

use super::{Error, Result, check};

fn prctl(what: &'static str, op: libc::c_int, a: libc::c_ulong, b: libc::c_ulong) -> Result<libc::c_int> {
    // SAFETY: every operation used in this file takes integers only.
    let r = unsafe { libc::prctl(op, a, b, 0, 0) };
    check(what, libc::c_long::from(r)).map(|v| v as libc::c_int)
}

/// Empty every capability set: ambient, bounding, inheritable, permitted, effective; lock the
/// securebits so that uid 0 means nothing. Needs CAP_SETPCAP in this user namespace.
pub fn drop_all() -> Result<()> {
    // NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE set, every lock set, KEEP_CAPS clear.
    prctl("prctl(PR_SET_SECUREBITS)", libc::PR_SET_SECUREBITS, 0b1110_1111, 0)?;
    prctl("prctl(PR_CAP_AMBIENT)", libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0)?;
    for cap in 0..64 {
        match prctl("prctl(PR_CAPBSET_DROP)", libc::PR_CAPBSET_DROP, cap, 0) {
            Ok(_) => {}
            // The first number the kernel does not know ends the list.
            Err(e) if e.errno == Errno::EINVAL => break,
            Err(e) => return Err(e),
        }
    }
    #[repr(C)]
    struct Header {
        version: u32,
        pid: libc::c_int,
    }
    let header = Header { version: 0x2008_0522, pid: 0 }; // _LINUX_CAPABILITY_VERSION_3
    let none = [0u32; 6];
    // SAFETY: version 3 takes two sets of three words, which is what is passed.
    let r = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    check("capset", r).map(drop)
}

/// Names of the sets that are not empty: the verification after [`drop_all`].
pub fn left() -> Vec<&'static str> {
    let sets = [
        (CapSet::Effective, "effective"),
        (CapSet::Permitted, "permitted"),
        (CapSet::Inheritable, "inheritable"),
    ];
    sets.into_iter()
        .filter(|(set, _)| !caps::read(None, *set).is_ok_and(|s| s.is_empty()))
        .map(|(_, name)| name)
        .collect()
}

/// The user that this process was started as. The kernel has noted it: this is no call.
pub fn started_as() -> u32 {
    // SAFETY: reads the vector that the kernel has put beside the arguments.
    u32::try_from(unsafe { libc::getauxval(libc::AT_EUID) }).unwrap_or(u32::MAX)
}

/// No execve grants privilege any more: setuid bits and file capabilities are ignored.
pub fn no_new_privs() -> Result<()> {
    prctl("prctl(PR_SET_NO_NEW_PRIVS)", libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// Whether `no_new_privs` is set.
pub fn has_no_new_privs() -> bool {
    prctl("prctl(PR_GET_NO_NEW_PRIVS)", libc::PR_GET_NO_NEW_PRIVS, 0, 0) == Ok(1)
}

/// Seccomp mode of this thread: 0 none, 2 filter.
pub fn seccomp_mode() -> Result<i32> {
    prctl("prctl(PR_GET_SECCOMP)", libc::PR_GET_SECCOMP, 0, 0)
}

/// Nobody may ptrace this process or follow its `/proc` links; no core dump.
pub fn not_dumpable() -> Result<()> {
    prctl("prctl(PR_SET_DUMPABLE)", libc::PR_SET_DUMPABLE, 0, 0).map(drop)
}

/// Whether others may (see [`not_dumpable`]), as a number of the kernel's.
pub fn dumpable() -> Result<i32> {
    prctl("prctl(PR_GET_DUMPABLE)", libc::PR_GET_DUMPABLE, 0, 0)
}

/// Set back what [`dumpable`] said.
pub fn set_dumpable(value: i32) -> Result<()> {
    prctl("prctl(PR_SET_DUMPABLE)", libc::PR_SET_DUMPABLE, (value == 1).into(), 0).map(drop)
}

/// What `ps` and `top` call this process: 15 bytes are kept.
pub fn name_process(name: &str) {
    if let Ok(name) = std::ffi::CString::new(name) {
        // SAFETY: the name is null-terminated and only read.
        unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
    }
}

/// SIGKILL when the parent thread dies. Cleared by a change of ids: call it after [`become_ids`].
pub fn die_with_parent() -> Result<()> {
    prctl("prctl(PR_SET_PDEATHSIG)", libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0).map(drop)
}

/// Orphans among our descendants become our children, instead of the system's pid 1's.
pub fn adopt_orphans() -> Result<()> {
    prctl("prctl(PR_SET_CHILD_SUBREAPER)", libc::PR_SET_CHILD_SUBREAPER, 1, 0).map(drop)
}

/// Set all uids and gids and drop supplementary groups. Capabilities survive when neither the old
/// nor the new uid is 0 of this namespace.
pub fn become_ids(uid: u32, gid: u32) -> Result<()> {
    // Raw calls: glibc's wrappers would signal other threads, and there are none.
    // SAFETY: takes a null list of length 0.
    let r = unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) };
    check("setgroups", r)?;
    // SAFETY: takes integers only.
    check("setresgid", unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: takes integers only.
    check("setresuid", unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Join a fresh anonymous session keyring, so that the caller's keys are out of reach.
/// `Ok(false)` when the kernel has no keyrings.
pub fn fresh_session_keyring() -> Result<bool> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let r = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0) };
    match check("keyctl(JOIN_SESSION_KEYRING)", r) {
        Ok(_) => Ok(true),
        Err(Error { errno: Errno::ENOSYS | Errno::EOPNOTSUPP, .. }) => Ok(false),
        Err(e) => Err(e),
    }
}
