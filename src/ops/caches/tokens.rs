//! Passwords in small files of a cache.

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::policy::flavor::has_credentials;
use crate::sys::openat2::{self, For};

/// What is read of a file. No configuration of a tool comes near.
const MOST: u64 = 64 << 10;

/// Whether `path`, a regular file, is to be hidden: it holds a URL with a password, or it cannot be
/// told.
pub(super) fn are_in(path: &Path) -> bool {
    let Ok(file) = openat2::absolute(path.as_os_str().as_bytes(), For::Reading) else { return true };
    let mut bytes = Vec::new();
    match std::fs::File::from(file).take(MOST + 1).read_to_end(&mut bytes) {
        Ok(_) => bytes.len() as u64 > MOST || has_credentials(&bytes),
        Err(_) => true,
    }
}
