//! The caller's own descriptors: what kind they are, and `--status-fd`.

use nix::sys::stat::{FileStat, SFlag, fstat, makedev};

use super::relay::StatusLines;
use super::{Error, Request};
use crate::jail::launch::{Stdin, Streams};
use crate::sys;
use crate::sys::terminal::{Settings, is_terminal};

/// Whether the command has a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tty {
    /// When stdin, stdout and stderr are all terminals, and its output goes there.
    #[default]
    Auto,
    /// Yes: stdin must be one.
    Always,
    /// No.
    Never,
}

/// What the command gets for its three standard descriptors: a terminal, if it is to have one.
pub(super) fn of(request: &Request, terminal: Option<Settings>) -> sys::Result<Streams> {
    Ok(match (&request.hold, terminal) {
        (Some(hold), _) => Streams::Serve(hold.listener()?),
        (None, Some(settings)) => Streams::Terminal(settings),
        (None, None) => Streams::Pipes { stdin: stdin(), separate_stderr: request.capture || !same_file() },
    })
}

/// The caller's terminal, when the command is to have one like it.
pub(super) fn terminal(request: &Request) -> Result<Option<Settings>, Error> {
    let stdin = || Settings::of(sys::fd::standard(0));
    match request.tty {
        Tty::Never => Ok(None),
        Tty::Always => stdin().map(Some).ok_or(Error::NoTerminal),
        Tty::Auto if request.capture => Ok(None),
        Tty::Auto => Ok(stdin().filter(|_| (1..=2).all(|number| is_terminal(sys::fd::standard(number))))),
    }
}

/// The descriptor of `--status-fd`.
pub(super) fn inherited(fd: Option<i32>) -> Result<Option<StatusLines>, Error> {
    let open = |fd| sys::fd::inherited(fd).map_err(|source| Error::StatusFd { fd, source });
    Ok(fd.map(open).transpose()?.map(StatusLines::new))
}

/// Whether stdout and stderr are the same open file, pipe or terminal (`2>&1`): then the command
/// gets one pipe for both, and what it writes keeps its order.
fn same_file() -> bool {
    let (out, err) = (fstat(sys::fd::standard(1)), fstat(sys::fd::standard(2)));
    matches!((out, err), (Ok(a), Ok(b)) if (a.st_dev, a.st_ino, a.st_rdev) == (b.st_dev, b.st_ino, b.st_rdev))
}

/// How the command gets the caller's stdin: through a pipe of its own (see `jail::input`).
fn stdin() -> Stdin {
    match fstat(sys::fd::standard(0)) {
        Ok(s) if s.st_rdev != makedev(1, 3) || !is_device(&s) => Stdin::Relay,
        _ => Stdin::Null,
    }
}

fn is_device(s: &FileStat) -> bool {
    SFlag::from_bits_truncate(s.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR
}
