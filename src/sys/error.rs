//! An error of a system call: which call, on what, errno by name.

use std::fmt;

use nix::errno::Errno;

/// `mount /usr: Operation not permitted (EPERM)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The call or step.
    pub call: &'static str,
    /// What it was applied to, printable; may be empty.
    pub arg: String,
    /// Why.
    pub errno: Errno,
}

/// The result of a system call.
pub type Result<T> = std::result::Result<T, Error>;

/// The errno inside an error of the standard library; EIO for one that has none.
pub fn errno(e: &std::io::Error) -> Errno {
    e.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

impl Error {
    /// An error of `call` on `arg`.
    pub fn new(call: &'static str, arg: impl Into<String>, errno: Errno) -> Error {
        Error { call, arg: arg.into(), errno }
    }

    /// The last error of this thread, for `call`.
    pub fn last(call: &'static str) -> Error {
        Error::new(call, "", Errno::last())
    }

    /// The same with what it was applied to.
    #[must_use]
    pub fn on(mut self, arg: impl Into<String>) -> Error {
        self.arg = arg.into();
        self
    }

    /// The errno by name, for example `EPERM`.
    pub fn name(&self) -> String {
        format!("{:?}", self.errno)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.arg.is_empty() {
            write!(f, "{}: {} ({:?})", self.call, self.errno.desc(), self.errno)
        } else {
            write!(f, "{} `{}`: {} ({:?})", self.call, self.arg, self.errno.desc(), self.errno)
        }
    }
}

impl std::error::Error for Error {}

/// Turn a raw return value into a result.
pub fn check(call: &'static str, value: libc::c_long) -> Result<libc::c_long> {
    if value < 0 { Err(Error::last(call)) } else { Ok(value) }
}
