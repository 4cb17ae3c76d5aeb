//! What can go wrong with the state directory. Hints are decided by the command line, not here.

use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;

use crate::base::text;
use crate::sys;

/// The result of a store function.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the state directory or of something in it. All paths are printable text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No variable names a place for the state directory.
    #[error("no state directory: neither `AJ_STATE_DIR`, `XDG_STATE_HOME` nor `HOME` is an absolute path")]
    NoHome,
    /// `AJ_STATE_DIR` is relative; it would name another directory after every `cd`.
    #[error("`AJ_STATE_DIR` is `{value}`, which is not an absolute path")]
    Relative {
        /// What it holds.
        value: String,
    },
    /// A symbolic link could be pointed elsewhere between two commands.
    #[error("state directory `{path}` is a symbolic link")]
    Symlink {
        /// The directory.
        path: String,
    },
    /// Something else is there.
    #[error("state directory `{path}` is not a directory")]
    NotADirectory {
        /// What is there.
        path: String,
    },
    /// Another user could change what this one trusts.
    #[error("state directory `{path}` belongs to uid {owner}, not to uid {me}")]
    ForeignOwner {
        /// The directory.
        path: String,
        /// Its owner.
        owner: u32,
        /// The effective uid.
        me: u32,
    },
    /// Others may enter it.
    #[error("state directory `{path}` is open to other users (mode {mode:04o})")]
    Exposed {
        /// The directory.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// A directory with somebody's files in it.
    #[error("`{path}` is not a state directory: it has other files in it and no `version`")]
    NotAState {
        /// The directory.
        path: String,
    },
    /// A newer `aj` has written here.
    #[error("`{path}` has format {found}, made by a newer aj; this one knows format {known}")]
    Newer {
        /// The file.
        path: String,
        /// Its format.
        found: String,
        /// The newest format known here.
        known: u32,
    },
    /// The `version` file holds something else than a number.
    #[error("`{path}` holds `{text}`, not a format number")]
    BadVersion {
        /// The file.
        path: String,
        /// The start of what it holds, printable.
        text: String,
    },
    /// A system call failed.
    #[error(transparent)]
    Sys(#[from] sys::Error),
    /// A lock was held by another process for too long.
    #[error("`{path}` was locked by another aj for more than {} s", waited.as_secs())]
    Busy {
        /// The locked file.
        path: String,
        /// How long this process waited.
        waited: Duration,
    },
    /// SQLite refused.
    #[error("could not use database `{path}`")]
    Db {
        /// The database.
        path: String,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A record that no reader would accept.
    #[error("a record of {len} bytes is larger than {max}")]
    TooLarge {
        /// Its length.
        len: usize,
        /// The largest accepted.
        max: usize,
    },
    /// A record that could not be written as JSON.
    #[error("could not encode a record")]
    Encode(#[source] serde_json::Error),
}

impl Error {
    /// An error of `call` on `path`, with the errno of `error`.
    pub(super) fn io(call: &'static str, path: &Path, error: &std::io::Error) -> Error {
        Error::call(call, path, crate::sys::errno(error))
    }

    /// An error of `call` on `path`.
    pub(super) fn call(call: &'static str, path: &Path, errno: Errno) -> Error {
        Error::Sys(sys::Error::new(call, text::os(path), errno))
    }

    /// The errno, for an error of a system call.
    pub fn errno(&self) -> Option<Errno> {
        if let Error::Sys(e) = self { Some(e.errno) } else { None }
    }

    /// Whether nothing may be written there: whoever only looks needs no lock then.
    pub fn is_read_only(&self) -> bool {
        matches!(self.errno(), Some(Errno::EROFS | Errno::EACCES | Errno::EPERM))
    }

    /// Whether the database itself is damaged, so that a new one has to be made.
    pub(super) fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        let Error::Db { source, .. } = self else { return false };
        matches!(source.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
            // A schema without our tables or columns: the file is SQLite's, but not what we wrote.
            || source.to_string().contains("no such table")
            || source.to_string().contains("no such column")
    }

    /// Whether SQLite could not read or write.
    pub(super) fn is_failed_write(&self) -> bool {
        let Error::Db { source, .. } = self else { return false };
        source.sqlite_error_code() == Some(rusqlite::ErrorCode::SystemIoFailure)
    }

    /// Whether nothing can be written here now, though reading may work: read-only, full, locked.
    pub(super) fn is_unwritable(&self) -> bool {
        use rusqlite::ErrorCode::{
            CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, PermissionDenied, ReadOnly, SystemIoFailure,
        };
        match self {
            Error::Busy { .. } => true,
            Error::Sys(e) => {
                matches!(
                    e.errno,
                    Errno::EROFS | Errno::EACCES | Errno::EPERM | Errno::ENOSPC | Errno::EDQUOT | Errno::EIO
                )
            }
            Error::Db { source, .. } => matches!(
                source.sqlite_error_code(),
                Some(
                    CannotOpen
                        | DatabaseBusy
                        | DatabaseLocked
                        | DiskFull
                        | PermissionDenied
                        | ReadOnly
                        | SystemIoFailure
                )
            ),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_object_and_the_errno() {
        let e = Error::call("open", Path::new("/x\ny/spool"), Errno::EROFS);
        assert_eq!(e.to_string(), "open `/x\\ny/spool`: Read-only file system (EROFS)");
        assert!(e.is_unwritable());
        assert!(!e.is_damage());
        assert!(!Error::NoHome.is_unwritable());
    }
}
