//! The caller's own descriptors: what kind they are, and `--status-fd`.

use nix::sys::stat::{FileStat, SFlag, fstat, makedev};

use super::Error;
use super::relay::StatusLines;
use crate::jail::launch::Stdin;
use crate::sys;

/// The descriptor of `--status-fd`.
pub(super) fn inherited(fd: Option<i32>) -> Result<Option<StatusLines>, Error> {
    let open = |fd| sys::fd::inherited(fd).map_err(|source| Error::StatusFd { fd, source });
    Ok(fd.map(open).transpose()?.map(StatusLines::new))
}

/// Whether stdout and stderr are the same open file, pipe or terminal (`2>&1`): then the command
/// gets one pipe for both, and what it writes keeps its order.
pub(super) fn same_file() -> bool {
    let (out, err) = (fstat(sys::fd::standard(1)), fstat(sys::fd::standard(2)));
    matches!((out, err), (Ok(a), Ok(b)) if (a.st_dev, a.st_ino, a.st_rdev) == (b.st_dev, b.st_ino, b.st_rdev))
}

/// How the command gets the caller's stdin: through a pipe of its own (see `jail::input`).
pub(super) fn stdin() -> Stdin {
    match fstat(sys::fd::standard(0)) {
        Ok(s) if s.st_rdev != makedev(1, 3) || !is_device(&s) => Stdin::Relay,
        _ => Stdin::Null,
    }
}

fn is_device(s: &FileStat) -> bool {
    SFlag::from_bits_truncate(s.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR
}
