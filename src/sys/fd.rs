//! Descriptors: pipes, moving bytes without copying them, closing ranges.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::{Error, Result, check};

/// A close-on-exec pipe: read end, write end.
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|e| Error::new("pipe2", "", e))
}

/// Raise our soft limit of open files to `count`, as far as the hard one allows.
pub fn room_for(count: u64) -> Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let fail = |call| move |e| Error::new(call, "RLIMIT_NOFILE", e);
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(fail("getrlimit"))?;
    if soft < count && soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, count.min(hard), hard).map_err(fail("setrlimit"))?;
    }
    Ok(())
}

/// What is in a small file of `/proc`: one read of 1 KiB at most, which the kernel answers whole.
pub fn read_proc(path: &str) -> Result<Vec<u8>> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let fd = nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty());
    let fd = fd.map_err(|e| Error::new("open", path, e))?;
    let mut bytes = [0; 1024];
    loop {
        match nix::unistd::read(&fd, &mut bytes) {
            Ok(n) => return Ok(bytes.get(..n).unwrap_or_default().to_vec()),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(Error::new("read", path, e)),
        }
    }
}

/// `/dev/null`, to splice to what is not wanted.
pub fn write_null() -> Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    nix::fcntl::open("/dev/null", flags, nix::sys::stat::Mode::empty())
        .map_err(|e| Error::new("open", "/dev/null", e))
}

/// A file in memory that holds `bytes` and can never be changed: to be read by whoever is given it.
pub fn sealed(bytes: &[u8]) -> Result<OwnedFd> {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use std::io::Write;
    let fail = |call| move |e| Error::new(call, "memory", e);
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let fd = memfd_create(c"aj", flags).map_err(fail("memfd_create"))?;
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes).map_err(|e| Error::new("write", "memory", super::errno(&e)))?;
    let all =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(all)).map_err(fail("fcntl(F_ADD_SEALS)"))?;
    Ok(file.into())
}

/// All that is in a file of [`sealed`], from its start, whoever else reads it. `EMSGSIZE` above `most` bytes.
pub fn read_sealed(fd: impl AsFd, most: usize) -> Result<Vec<u8>> {
    let fail = |call: &'static str| move |e| Error::new(call, "memory", e);
    let size = nix::sys::stat::fstat(fd.as_fd()).map_err(fail("fstat"))?.st_size;
    let size =
        usize::try_from(size).ok().filter(|n| *n <= most).ok_or_else(|| fail("fstat")(Errno::EMSGSIZE))?;
    let mut bytes = vec![0; size];
    let mut at = 0;
    while let Some(rest) = bytes.get_mut(at..).filter(|r| !r.is_empty()) {
        match nix::sys::uio::pread(fd.as_fd(), rest, at as libc::off_t) {
            Ok(0) => return Err(fail("pread")(Errno::EIO)),
            Ok(n) => at += n,
            Err(Errno::EINTR) => {}
            Err(e) => return Err(fail("pread")(e)),
        }
    }
    Ok(bytes)
}

/// Make reads and writes through this open file description return instead of waiting.
pub fn set_nonblocking(fd: impl AsFd) -> Result<()> {
    // SAFETY: takes integers only.
    let r = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    check("fcntl(F_SETFL)", libc::c_long::from(r)).map(drop)
}

/// Ask for a pipe capacity of `bytes`; being refused is not an error (per-user limits).
/// Returns the capacity in force.
pub fn grow_pipe(pipe: impl AsFd, bytes: usize) -> usize {
    let fd = pipe.as_fd().as_raw_fd();
    // SAFETY: takes integers only.
    let set = unsafe { libc::fcntl(fd, libc::F_SETPIPE_SZ, bytes as libc::c_int) };
    if set > 0 {
        return set as usize;
    }
    // SAFETY: takes integers only.
    let now = unsafe { libc::fcntl(fd, libc::F_GETPIPE_SZ) };
    usize::try_from(now).unwrap_or(4096)
}

/// Bytes waiting in a pipe.
pub fn waiting(pipe: impl AsFd) -> usize {
    let mut n: libc::c_int = 0;
    // SAFETY: FIONREAD stores an int.
    let r = unsafe { libc::ioctl(pipe.as_fd().as_raw_fd(), libc::FIONREAD as _, &raw mut n) };
    if r < 0 { 0 } else { usize::try_from(n).unwrap_or(0) }
}

/// Move up to `len` bytes between descriptors of which one is a pipe, never blocking on the pipe.
pub fn splice(from: impl AsFd, to: impl AsFd, len: usize) -> std::result::Result<usize, Errno> {
    // SAFETY: null offsets mean the descriptors' own positions.
    let n = unsafe {
        libc::splice(
            from.as_fd().as_raw_fd(),
            std::ptr::null_mut(),
            to.as_fd().as_raw_fd(),
            std::ptr::null_mut(),
            len,
            libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE,
        )
    };
    Errno::result(n).map(|n| n as usize)
}

/// Duplicate up to `len` bytes at the front of one pipe into another, consuming nothing.
pub fn tee(from: impl AsFd, to: impl AsFd, len: usize) -> std::result::Result<usize, Errno> {
    // SAFETY: takes integers only.
    let n =
        unsafe { libc::tee(from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd(), len, libc::SPLICE_F_NONBLOCK) };
    Errno::result(n).map(|n| n as usize)
}

/// Write without blocking although the descriptor may be a blocking pipe (`RWF_NOWAIT`).
pub fn write_nowait(fd: impl AsFd, bytes: &[u8]) -> std::result::Result<usize, Errno> {
    let iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: one iovec over a live buffer that is only read; offset -1 is the current position.
    let n = unsafe { libc::pwritev2(fd.as_fd().as_raw_fd(), &raw const iov, 1, -1, libc::RWF_NOWAIT) };
    Errno::result(n).map(|n| n as usize)
}

/// Send without blocking although the socket may be a blocking one.
pub fn send_nowait(socket: impl AsFd, bytes: &[u8]) -> std::result::Result<usize, Errno> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the buffer is live and only read.
    let n = unsafe { libc::send(socket.as_fd().as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    Errno::result(n).map(|n| n as usize)
}

/// Append up to `len` bytes to `into` in one read. Nothing is zeroed first: an output relay that
/// cleared its buffer would touch every byte once more.
pub fn read_to(fd: impl AsFd, into: &mut Vec<u8>, len: usize) -> std::result::Result<usize, Errno> {
    into.reserve(len);
    let spare = into.spare_capacity_mut();
    let len = len.min(spare.len());
    // SAFETY: writes at most `len` bytes into spare capacity of at least that size.
    let n = unsafe { libc::read(fd.as_fd().as_raw_fd(), spare.as_mut_ptr().cast(), len) };
    let n = Errno::result(n)? as usize;
    // SAFETY: the kernel has initialised the first `n` bytes of the spare capacity.
    unsafe { into.set_len(into.len() + n) };
    Ok(n)
}

/// Open what `fd` refers to once more, for writing without blocking, under a description of our
/// own: setting O_NONBLOCK on the caller's would change it for every process that shares it.
pub fn reopen_nonblocking(fd: BorrowedFd<'_>) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let open = |path: &str| nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty());
    match open(&format!("/proc/self/fd/{}", fd.as_raw_fd())) {
        // After `su` the terminal belongs to somebody else, but it is still ours by this name.
        Err(Errno::EACCES) if foreground_group(fd).is_some() => open("/dev/tty"),
        other => other,
    }
}

/// An end for reading of the pipe whose end for writing is `pipe`.
pub fn other_end(pipe: impl AsFd) -> Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", pipe.as_fd().as_raw_fd());
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    nix::fcntl::open(path.as_str(), flags, nix::sys::stat::Mode::empty())
        .map_err(|e| Error::new("open", path, e))
}

/// Whether a read from the terminal `fd` is ours to make: a background job that reads its terminal
/// is stopped for it. Anything but our own terminal has no such rule.
pub fn in_foreground(fd: BorrowedFd<'_>) -> bool {
    foreground_group(fd).is_none_or(|group| group == nix::unistd::getpgrp().as_raw())
}

/// The foreground process group of `fd`, when it is our controlling terminal.
fn foreground_group(fd: BorrowedFd<'_>) -> Option<libc::pid_t> {
    // SAFETY: takes an integer.
    let group = unsafe { libc::tcgetpgrp(fd.as_raw_fd()) };
    (group >= 0).then_some(group)
}

/// Close every descriptor from `first` up.
pub fn close_from(first: RawFd) -> Result<()> {
    // SAFETY: closes descriptors of this process; the caller owns the decision that none above
    // `first` is used any more (this runs in the jail's init after set-up).
    let r = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
    check("close_range", r).map(drop)
}

/// Close 0, 1 and 2: in pid 1, once the command has its own.
pub fn close_standard() {
    // SAFETY: pid 1 reads and writes nothing but the status socket from here on.
    unsafe { libc::syscall(libc::SYS_close_range, 0, 2, 0) };
}

/// Close what the caller of this program had open beside the standard three: everything of our own is
/// close-on-exec.
pub fn close_inherited() {
    for entry in std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|n| n.parse::<RawFd>().ok()) else { continue };
        // SAFETY: takes integers only; what is not close-on-exec is nothing that this process owns.
        unsafe {
            if number > 2 && libc::fcntl(number, libc::F_GETFD) == 0 {
                libc::close(number);
            }
        }
    }
}

/// Have 0, 1 and 2 lead nowhere.
pub fn null_standard() -> Result<()> {
    let null = nix::fcntl::open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty())
        .map_err(|e| Error::new("open", "/dev/null", e))?;
    (0..=2).try_for_each(|number| install_at(null.as_fd(), number, false))
}

/// Make `fd` known as `number` (keeping close-on-exec when asked).
pub fn install_at(fd: BorrowedFd<'_>, number: RawFd, cloexec: bool) -> Result<()> {
    if fd.as_raw_fd() == number {
        // SAFETY: takes integers only.
        let r = unsafe { libc::fcntl(number, libc::F_SETFD, if cloexec { libc::FD_CLOEXEC } else { 0 }) };
        return check("fcntl(F_SETFD)", libc::c_long::from(r)).map(drop);
    }
    let flags = if cloexec { libc::O_CLOEXEC } else { 0 };
    // SAFETY: takes integers only; whatever `number` was is replaced on purpose.
    let r = unsafe { libc::dup3(fd.as_raw_fd(), number, flags) };
    check("dup3", libc::c_long::from(r)).map(drop)
}

/// A duplicate numbered at least `min`, close-on-exec.
pub fn dup_above(fd: BorrowedFd<'_>, min: RawFd) -> Result<OwnedFd> {
    // SAFETY: takes integers only.
    let r = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, min) };
    let fd = check("fcntl(F_DUPFD_CLOEXEC)", libc::c_long::from(r))?;
    // SAFETY: a new descriptor that only we hold.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Borrow one of the process's standard descriptors.
pub fn standard(number: RawFd) -> BorrowedFd<'static> {
    debug_assert!((0..=2).contains(&number));
    // SAFETY: Rust's runtime opens /dev/null on 0, 1 and 2 when they were closed at start, and
    // nothing here closes them.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Borrow a descriptor the caller was told of by number (`--status-fd N`), if it is open for writing.
pub fn inherited(number: RawFd) -> Result<OwnedFd> {
    // SAFETY: takes integers only.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFL) };
    check("fcntl(F_GETFL)", libc::c_long::from(flags)).map_err(|e| e.on(format!("fd {number}")))?;
    if flags & libc::O_ACCMODE == libc::O_RDONLY {
        return Err(Error::new("write", format!("fd {number}"), Errno::EBADF));
    }
    // SAFETY: open, as just seen; a duplicate is made so that ownership is clear.
    dup_above(unsafe { BorrowedFd::borrow_raw(number) }, 3)
}

/// Take ownership of a descriptor that `recvmsg` has just stored for this process.
pub fn received(number: RawFd) -> OwnedFd {
    // SAFETY: the kernel installed it for us in this call; nobody else knows its number.
    unsafe { OwnedFd::from_raw_fd(number) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_to_appends_what_is_there_and_no_more() {
        let (r, w) = pipe().unwrap();
        nix::unistd::write(&w, b"hello").unwrap();
        let mut bytes = b"> ".to_vec();
        assert_eq!(read_to(&r, &mut bytes, 3), Ok(3));
        assert_eq!(read_to(&r, &mut bytes, 100), Ok(2));
        assert_eq!(bytes, b"> hello");
        drop(w);
        assert_eq!(read_to(&r, &mut bytes, 100), Ok(0));
    }

    #[test]
    fn a_reopened_pipe_does_not_block_and_its_twin_still_does() {
        let (_r, w) = pipe().unwrap();
        let ours = reopen_nonblocking(w.as_fd()).unwrap();
        let mut written = 0;
        loop {
            match nix::unistd::write(&ours, &[0; 4096]) {
                Ok(n) => written += n,
                Err(e) => break assert_eq!(e, Errno::EAGAIN),
            }
        }
        assert!(written >= 4096);
        let flags = nix::fcntl::fcntl(&w, nix::fcntl::FcntlArg::F_GETFL).unwrap();
        assert_eq!(flags & libc::O_NONBLOCK, 0);
    }

    #[test]
    fn tee_and_splice_move_bytes_without_losing_any() {
        let (r, w) = pipe().unwrap();
        let (side_r, side_w) = pipe().unwrap();
        let (out_r, out_w) = pipe().unwrap();
        assert_eq!(nix::unistd::write(&w, b"hello"), Ok(5));
        assert_eq!(waiting(&r), 5);
        assert_eq!(tee(&r, &side_w, 100), Ok(5));
        assert_eq!(splice(&r, &out_w, 100), Ok(5));
        assert_eq!(splice(&r, &out_w, 100), Err(Errno::EAGAIN));
        let mut a = [0; 9];
        let mut b = [0; 9];
        assert_eq!(nix::unistd::read(&side_r, &mut a), Ok(5));
        assert_eq!(nix::unistd::read(&out_r, &mut b), Ok(5));
        assert_eq!((&a[..5], &b[..5]), (&b"hello"[..], &b"hello"[..]));
    }
}
