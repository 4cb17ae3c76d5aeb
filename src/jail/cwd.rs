//! The working directory of a command, found in what the jail sees.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};

use super::overlay;
use crate::base::text;
use crate::sys::{Error, Result};

/// The directory `path`, as it is called below `root`. Nothing may lie over `root`: a link in the tree that climbs
/// out (`../../..`) ends there, and would lead into that. Descriptors that the caller left open are still ours here,
/// the host's directories among them, so no link of `/proc` may be part of the way (CVE-2024-21626).
pub(super) fn find(root: impl AsFd, path: &CStr) -> Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(root, path, how).map_err(|e| Error::new("chdir", text::c(path), e))
}

/// Go to what [`find`] has found.
pub(super) fn go_to(dir: OwnedFd, path: &CStr) -> Result<()> {
    nix::unistd::fchdir(dir).map_err(|e| Error::new("chdir", text::c(path), e))
}

/// Both, when our root is that of the jail.
pub(super) fn enter(path: &CStr) -> Result<()> {
    let root = overlay::directory(AT_FDCWD, c"/", OFlag::O_PATH)?;
    go_to(find(root, path)?, path)
}
