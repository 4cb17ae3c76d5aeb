//! Two entries that change places in one step.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd};

use nix::libc;

use super::error::check;
use super::{Error, Result};
use crate::base::text;

/// Let the entry `a` (a name in an open directory) and the entry `b` change places. Both are there before
/// and after; at no instant is one of the names without an entry.
pub fn exchange(a: (impl AsFd, &CStr), b: (impl AsFd, &CStr)) -> Result<()> {
    let (from, to) = (a.0.as_fd().as_raw_fd(), b.0.as_fd().as_raw_fd());
    // SAFETY: both names are NUL-terminated and outlive the call, and both descriptors are open.
    let r = unsafe {
        libc::syscall(libc::SYS_renameat2, from, a.1.as_ptr(), to, b.1.as_ptr(), libc::RENAME_EXCHANGE)
    };
    check("rename", r).map(drop).map_err(|e: Error| e.on(text::c(b.1)))
}
