//! The filter in a real kernel: each test forks, installs in the child and looks at what calls do.
//!
//! To learn the kernel's verdict on calls that must not be performed (`reboot`, `exit`), a second
//! filter stands under ours: it fails every call whose last argument is [`PROBE`] with [`PASSED`].
//! Of two filters that both return an errno the newer one counts, so a probe fails with our errno
//! where we refuse, and with `PASSED` where we allow; the call itself never happens.

#![allow(
    clippy::disallowed_methods,
    reason = "a filter is installed in a child, which gets its level by a variable"
)]

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use seccompiler::sock_filter;

use super::super::{Program, X32_BIT, install};
use super::*;

/// Marks a call as a probe, in its sixth argument.
const PROBE: u32 = 0x6a61_696c;
/// The errno of a probe that no other filter refuses.
const PASSED: u16 = 3333;

const fn op(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Fails probes, and all calls of another architecture, with [`PASSED`].
static UNDER: [sock_filter; 6] = [
    op(0x20, 0, 0, 4),
    op(0x15, 0, 2, ARCH),
    op(0x20, 0, 0, 16 + 8 * 5),
    op(0x15, 0, 1, PROBE),
    op(0x06, 0, 0, libc::SECCOMP_RET_ERRNO | PASSED as u32),
    op(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
];

/// Run `body` in a forked child, which shares `results` with us. `body` may use nothing but system
/// calls, since this process has threads; it returns the child's exit code.
fn in_child(results: usize, body: impl FnOnce(&mut [u16]) -> i32) -> (Vec<u16>, WaitStatus) {
    let bytes = results.max(1) * size_of::<u16>();
    let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, at an address the kernel chooses.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), bytes, prot, flags, -1, 0) };
    assert_ne!(page, libc::MAP_FAILED);
    // SAFETY: the mapping is zeroed, aligned, `results` long, and used by nobody else: the parent
    // looks at it only when the child is gone.
    let shared = unsafe { std::slice::from_raw_parts_mut(page.cast::<u16>(), results) };
    // SAFETY: the child only runs `body`, which is async-signal-safe, and leaves by _exit.
    let status = match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let code = body(shared);
            // SAFETY: ends the process.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => waitpid(child, None).unwrap(),
    };
    let copy = shared.to_vec();
    // SAFETY: unmaps what was mapped above; `shared` is not used any more.
    unsafe { libc::munmap(page, bytes) };
    (copy, status)
}

fn exited(status: WaitStatus, code: i32) -> bool {
    matches!(status, WaitStatus::Exited(_, got) if got == code)
}

fn no_new_privs() {
    // SAFETY: no pointers.
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
}

/// The errno of a call, 0 when it succeeds.
fn errno_of(nr: u32, args: [u64; 6]) -> u16 {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the callers pass calls that fail before they look at memory, or take no pointers.
    match unsafe { libc::syscall(nr as i32 as libc::c_long, a, b, c, d, e, f) } {
        -1 => Errno::last_raw() as u16,
        _ => 0,
    }
}

/// The errno of each of `calls` when it is probed under the filter of `options`, or under none.
fn probed(options: Option<Options>, calls: &[(u32, [u64; 6])]) -> Vec<u16> {
    let filter = options.map(|options| program(&options));
    let (got, status) = in_child(calls.len(), |results| {
        no_new_privs();
        if install(&Program(&UNDER)).is_err() || filter.is_some_and(|filter| install(&filter).is_err()) {
            return 1;
        }
        for ((nr, args), result) in calls.iter().zip(results) {
            let [a, b, c, d, e, _] = *args;
            *result = errno_of(*nr, [a, b, c, d, e, PROBE.into()]);
        }
        // The register of the last argument still holds the mark, and `_exit` would be a probe too.
        errno_of(number("getpid"), [0; 6]);
        0
    });
    assert!(exited(status, 0), "{status:?}");
    got
}

/// What a probe of a call should fail with.
fn as_errno(verdict: Verdict) -> u16 {
    match verdict {
        Verdict::Errno(errno) => errno,
        Verdict::Allow | Verdict::Log => PASSED,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_kernel_decides_every_number_as_the_interpreter_does() {
    // The kernel shows no filter the calls of its own trampolines, and kills who else makes them.
    let trampoline = |nr: &u32| matches!(name(*nr), Some("uretprobe" | "uprobe"));
    let mut calls: Vec<(u32, [u64; 6])> =
        (0..1024).filter(|nr| !trampoline(nr)).map(|nr| (nr, [0; 6])).collect();
    calls.extend((0..1024).map(|nr| (nr | X32_BIT, [0; 6])));
    calls.extend([(0x3fff_ffff, [0; 6]), (0x7fff_ffff, [0; 6]), (0x8000_0000, [0; 6])]);
    // Without our filter every probe passes, x32 ones as well: that is what ours has to stop.
    assert!(probed(None, &calls).iter().all(|errno| *errno == PASSED));
    for options in all_options() {
        let got = probed(Some(options), &calls);
        for ((nr, args), got) in calls.iter().zip(got) {
            let wanted = as_errno(interpret(&program(&options), *nr, ARCH, *args));
            assert_eq!(got, wanted, "{nr:#x} {:?} {options:?}", name(*nr));
        }
    }
}

#[test]
fn the_kernel_decides_arguments_as_the_interpreter_does() {
    let numbers: Vec<u32> =
        (0..1024).filter(|nr| matches!(expected(*nr, &STANDARD), Rule::ByArgument(_))).collect();
    let mut calls = Vec::new();
    for nr in numbers {
        for value in edges() {
            calls.push((nr, [value; 6]));
            calls.push((nr, [value | 0xffff_fff0 << 32; 6]));
            calls.extend([1, 2, 10, 16].map(|family| (nr, [family, 1, value, 0, 0, 0])));
            calls.extend([2, 2 | 1 << 40].map(|family| (nr, [family, value, 6, 0, 0, 0])));
        }
    }
    for options in all_options() {
        let got = probed(Some(options), &calls);
        for ((nr, args), got) in calls.iter().zip(got) {
            let wanted = as_errno(interpret(&program(&options), *nr, ARCH, *args));
            assert_eq!(got, wanted, "{:?} {args:x?} {options:?}", name(*nr));
        }
    }
}

/// Calls that get past any filter here and are answered by the kernel itself: each shows another
/// errno, or success, without ours.
#[test]
fn real_calls_are_refused() {
    let unspecific = libc::AF_UNSPEC as u64;
    let calls = [
        (number("io_uring_setup"), [0; 6], libc::ENOSYS),
        (number("clone3"), [0; 6], libc::ENOSYS),
        (number("unshare"), [libc::CLONE_NEWUSER as u64, 0, 0, 0, 0, 0], libc::EPERM),
        (number("socket"), [libc::AF_PACKET as u64, unspecific, 0, 0, 0, 0], libc::EAFNOSUPPORT),
        (number("open_tree"), [u64::MAX, 0, 0, 0, 0, 0], libc::EPERM),
        (number("personality"), [0x0400000, 0, 0, 0, 0, 0], libc::EPERM),
        (number("ioctl"), [u64::MAX, 0x5412 | 1 << 32, 0, 0, 0, 0], libc::EPERM),
        (1000, [0; 6], libc::ENOSYS),
    ];
    let filter = program(&STANDARD);
    let mut seen = [Vec::new(), Vec::new()];
    for (filtered, seen) in [false, true].into_iter().zip(&mut seen) {
        let (errnos, status) = in_child(calls.len(), |results| {
            no_new_privs();
            if filtered && install(&filter).is_err() {
                return 1;
            }
            for ((nr, args, _), result) in calls.iter().zip(results) {
                *result = errno_of(*nr, *args);
            }
            0
        });
        assert!(exited(status, 0), "{status:?}");
        *seen = errnos;
    }
    let [without, with] = seen;
    for (at, (nr, _, errno)) in calls.iter().enumerate() {
        assert_eq!(i32::from(with[at]), *errno, "{:?}", name(*nr));
        let same = without[at] == with[at];
        if same && *nr != 1000 {
            eprintln!("SKIP: {:?} fails with {} here without a filter too", name(*nr), with[at]);
        }
    }
    // At least these say something else in any kernel and any container.
    for call in ["personality", "ioctl"] {
        let at = calls.iter().position(|(nr, ..)| *nr == number(call)).unwrap();
        assert_ne!(without[at], with[at], "{call}");
    }
}

/// A 32-bit call of this process: its negative errno, as the kernel returns it.
#[cfg(target_arch = "x86_64")]
fn int80(nr: u32) -> i32 {
    let result: i32;
    // SAFETY: `getpid` and refused calls take no pointers; the old entry code clobbers r8 to r11.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("eax") nr as i32 => result,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    result
}

#[cfg(target_arch = "x86_64")]
#[test]
fn calls_by_int80_are_refused() {
    const GETPID: u32 = 20;
    let ask = |filtered: bool| {
        let filter = program(&STANDARD);
        in_child(1, move |results| {
            no_new_privs();
            if filtered && install(&filter).is_err() {
                return 1;
            }
            results[0] = u16::from(int80(GETPID) > 0);
            if int80(GETPID) == -libc::ENOSYS && int80(26) == -libc::ENOSYS {
                results[0] = 2;
            }
            0
        })
    };
    match ask(false) {
        (_, WaitStatus::Signaled(_, Signal::SIGSEGV, _)) => {
            eprintln!("SKIP: this kernel has no 32-bit calls")
        }
        (without, status) => {
            assert!(exited(status, 0), "{status:?}");
            assert_eq!(without, [1], "getpid works without the filter");
            assert_eq!(ask(true).0, [2]);
        }
    }
}

#[test]
fn without_no_new_privs_an_ordinary_user_gets_eacces() {
    let filter = program(&STANDARD);
    let (errnos, status) = in_child(1, |results| {
        // SAFETY: only numbers; root becomes nobody, others stay who they are.
        unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
        results[0] = install(&filter).map_or_else(|error| error.errno as u16, |()| 0);
        0
    });
    assert!(exited(status, 0), "{status:?}");
    assert_eq!(i32::from(errnos[0]), libc::EACCES);
}

#[test]
fn a_second_filter_cannot_open_what_the_first_refused() {
    static OPEN: [sock_filter; 1] = [op(0x06, 0, 0, libc::SECCOMP_RET_ALLOW)];
    let filter = program(&STANDARD);
    let (errnos, status) = in_child(1, |results| {
        no_new_privs();
        if install(&filter).is_err() || install(&Program(&OPEN)).is_err() {
            return 1;
        }
        results[0] = errno_of(number("add_key"), [0; 6]);
        0
    });
    assert!(exited(status, 0), "{status:?}");
    assert_eq!(i32::from(errnos[0]), libc::ENOSYS);
}

/// The test below under each filter: threads, children, sockets and the rest still work.
#[test]
fn programs_work_under_every_filter() {
    let this = std::env::current_exe().unwrap();
    for options in all_options() {
        let filter = program(&options);
        let mut command = Command::new(&this);
        command.args(["--exact", "--nocapture", "sys::seccomp::tests::kernel::ordinary_work"]);
        command.env("JAIL_TEST_LEVEL", format!("{:?}", options.level));
        // SAFETY: both calls are async-signal-safe and allocate nothing.
        unsafe {
            command.pre_exec(move || {
                no_new_privs();
                install(&filter).map_err(|error| error.errno.into())
            })
        };
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{options:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("1 passed"), "{said}");
    }
}

#[test]
fn ordinary_work() {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    let strict = std::env::var("JAIL_TEST_LEVEL").is_ok_and(|level| level == "Strict");
    let threads: Vec<_> = (0..8).map(|n| std::thread::spawn(move || n * n)).collect();
    assert_eq!(threads.into_iter().map(|it| it.join().unwrap()).sum::<i32>(), 140);

    let (mut one, mut two) = UnixStream::pair().unwrap();
    one.write_all(b"hello").unwrap();
    let mut buffer = [0; 5];
    two.read_exact(&mut buffer).unwrap();

    let listener = TcpListener::bind("127.0.0.1:0");
    assert_eq!(listener.is_err(), strict, "{listener:?}");
    if let Ok(listener) = listener {
        TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    }

    let output = Command::new("sh").args(["-c", "echo $(echo a; echo b) | cat; exit 3"]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), b"a b\n".as_slice()));

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, "x").unwrap();
    std::fs::copy(&path, directory.path().join("copy")).unwrap();
    std::fs::rename(&path, directory.path().join("moved")).unwrap();

    // SAFETY: numbers only.
    let persona = unsafe { libc::personality(0xffff_ffff) };
    assert!(persona >= 0);
    // SAFETY: a constant name and no other pointer; the descriptor stays open until the end.
    assert!(unsafe { libc::memfd_create(c"aj".as_ptr(), 0) } >= 0);
    // SAFETY: numbers only; the descriptors stay open until the end.
    assert!(unsafe {
        libc::inotify_init1(0) >= 0 && libc::epoll_create1(0) >= 0 && libc::eventfd(0, 0) >= 0
    });

    // A debugger's first steps: a child that asks to be traced and stops.
    // SAFETY: the child makes three async-signal-safe calls and leaves.
    match unsafe { fork() }.unwrap() {
        // SAFETY: numbers only.
        ForkResult::Child => unsafe {
            let traced = libc::ptrace(libc::PTRACE_TRACEME) == 0 && libc::personality(0x0040000) >= 0;
            libc::raise(libc::SIGUSR1);
            libc::_exit(if traced { 7 } else { 1 });
        },
        ForkResult::Parent { child } => {
            // The signal stops the tracee before it is delivered; continued with none, it lives.
            assert!(matches!(waitpid(child, None), Ok(WaitStatus::Stopped(_, Signal::SIGUSR1))));
            // SAFETY: `child` is our tracee, in a stop; no memory is passed.
            unsafe { libc::ptrace(libc::PTRACE_CONT, child.as_raw(), 0, 0) };
            let end = waitpid(child, None).unwrap();
            assert!(matches!(end, WaitStatus::Exited(_, 7)), "{end:?}");
        }
    }
}
