//! The descriptor-based mount API (Linux 5.2; attributes 5.12): every mount is made detached, gets
//! its attributes, and is attached last, so that nothing is ever visible half-made and no target
//! is resolved twice (CVE-2021-30465).

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};

use super::{Error, Result, check};

const OPEN_TREE_CLONE: libc::c_uint = 1;
const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC as libc::c_uint;
const AT_RECURSIVE: libc::c_uint = 0x8000;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;

/// Mount attributes (`MOUNT_ATTR_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Attr(pub u64);

impl Attr {
    /// No writes through this mount.
    pub const RDONLY: Attr = Attr(1);
    /// Setuid bits and file capabilities have no effect.
    pub const NOSUID: Attr = Attr(2);
    /// Device nodes cannot be opened.
    pub const NODEV: Attr = Attr(4);
    /// Nothing can be executed.
    pub const NOEXEC: Attr = Attr(8);

    /// Both.
    pub const fn and(self, other: Attr) -> Attr {
        Attr(self.0 | other.0)
    }
}

#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

fn owned(call: &'static str, value: libc::c_long) -> Result<OwnedFd> {
    let fd = check(call, value)?;
    // SAFETY: every caller passes the result of a call that returns a new descriptor; it fits in
    // an int as all descriptors do.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// A detached copy of the mount at `path` (of the whole tree below it when `recursive`).
pub fn clone_tree(dir: Option<BorrowedFd<'_>>, path: &CStr, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= AT_RECURSIVE;
    }
    if path.is_empty() {
        flags |= libc::AT_EMPTY_PATH as libc::c_uint;
    }
    let dir = dir.map_or(libc::AT_FDCWD, |d| d.as_raw_fd());
    // SAFETY: `path` is null-terminated and outlives the call.
    owned("open_tree", unsafe { libc::syscall(libc::SYS_open_tree, dir, path.as_ptr(), flags) })
}

/// Set attributes on a detached (or attached) mount.
pub fn set_attr(mount: impl AsFd, attr: Attr, recursive: bool) -> Result<()> {
    setattr(mount.as_fd(), &MountAttr { attr_set: attr.0, ..MountAttr::default() }, recursive)
}

/// The same for a directory of our own whose links are meant to be followed, wherever it lies.
pub fn set_attr_and_follow(mount: impl AsFd, attr: Attr) -> Result<()> {
    const MOUNT_ATTR_NOSYMFOLLOW: u64 = 0x0020_0000;
    let args = MountAttr { attr_set: attr.0, attr_clr: MOUNT_ATTR_NOSYMFOLLOW, ..MountAttr::default() };
    setattr(mount.as_fd(), &args, false)
}

/// Map the owners shown by a detached mount through `userns` (`MOUNT_ATTR_IDMAP`), with further
/// attributes in the same call.
pub fn set_idmap(mount: impl AsFd, attr: Attr, userns: BorrowedFd<'_>, recursive: bool) -> Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
    let args = MountAttr {
        attr_set: attr.0 | MOUNT_ATTR_IDMAP,
        userns_fd: userns.as_raw_fd() as u64,
        ..MountAttr::default()
    };
    setattr(mount.as_fd(), &args, recursive)
}

fn setattr(mount: BorrowedFd<'_>, args: &MountAttr, recursive: bool) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH as libc::c_uint | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the empty path and `args` outlive the call; the size is that of the structure.
    let r = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            args,
            size_of::<MountAttr>(),
        )
    };
    check("mount_setattr", r).map(drop)
}

/// Attach a detached mount at `path` below `dir`.
pub fn attach(mount: impl AsFd, dir: impl AsFd, path: &CStr) -> Result<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | if path.is_empty() { MOVE_MOUNT_T_EMPTY_PATH } else { 0 };
    // SAFETY: both paths are null-terminated and outlive the call.
    let r = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            dir.as_fd().as_raw_fd(),
            path.as_ptr(),
            flags,
        )
    };
    check("move_mount", r).map(drop)
}

/// A filesystem being configured.
#[derive(Debug)]
pub struct NewFs {
    context: OwnedFd,
}

impl NewFs {
    /// Start configuring a filesystem of `kind`.
    pub fn open(kind: &CStr) -> Result<NewFs> {
        // SAFETY: `kind` is null-terminated and outlives the call.
        let r = unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) };
        Ok(NewFs { context: owned("fsopen", r)? })
    }

    fn config(&self, cmd: libc::c_uint, key: *const libc::c_char, value: *const libc::c_char) -> Result<()> {
        // SAFETY: `key` and `value` are null or null-terminated strings that outlive the call.
        let r = unsafe { libc::syscall(libc::SYS_fsconfig, self.context.as_raw_fd(), cmd, key, value, 0) };
        check("fsconfig", r).map(drop)
    }

    /// Set a string option.
    pub fn set(&self, key: &CStr, value: &CStr) -> Result<()> {
        self.config(FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr())
            .map_err(|e| e.on(format!("{}={}", key.to_string_lossy(), value.to_string_lossy())))
    }

    /// Set a flag.
    pub fn flag(&self, key: &CStr) -> Result<()> {
        self.config(FSCONFIG_SET_FLAG, key.as_ptr(), std::ptr::null())
            .map_err(|e| e.on(key.to_string_lossy()))
    }

    /// Make the superblock and a detached mount of it.
    pub fn mount(self, attr: Attr) -> Result<OwnedFd> {
        self.config(FSCONFIG_CMD_CREATE, std::ptr::null(), std::ptr::null())?;
        // SAFETY: takes no pointers.
        let r =
            unsafe { libc::syscall(libc::SYS_fsmount, self.context.as_raw_fd(), FSMOUNT_CLOEXEC, attr.0) };
        owned("fsmount", r)
    }

    /// What the kernel says about the last failure, if anything (`fscontext` message queue).
    pub fn message(&self) -> Option<String> {
        let mut text = [0u8; 512];
        let n = nix::unistd::read(&self.context, &mut text).ok()?;
        Some(String::from_utf8_lossy(text.get(..n)?).trim_end().to_owned())
    }
}

/// `pivot_root(".", ".")` into `new_root` and detach the old root from under it.
pub fn pivot_into(new_root: impl AsFd) -> Result<()> {
    pivot_onto(new_root)?;
    detach_root_above()?;
    nix::unistd::chdir("/").map_err(|e| Error::new("chdir", "/", e))
}

/// Make `new_root` the root and working directory of this process, and of every other one of the mount
/// namespace that had the old one. That one lies over the new one until [`detach_root_above`], where `/..`
/// leads into it.
pub fn pivot_onto(new_root: impl AsFd) -> Result<()> {
    nix::unistd::fchdir(new_root.as_fd()).map_err(|e| Error::new("fchdir", "new root", e))?;
    // SAFETY: both paths are null-terminated.
    let r = unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) };
    check("pivot_root", r).map(drop)
}

/// Detach the old root, the working directory being the new one. The kernel waits until nobody looks up
/// anything in it, for some 50 µs.
pub fn detach_root_above() -> Result<()> {
    // pivot_root stacked the old root over ".": what umount(".") reaches is the old root.
    // SAFETY: the path is null-terminated.
    let r = unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) };
    check("umount2", libc::c_long::from(r)).map(drop)
}

/// Put the attached mount `new_root` over the root of this mount namespace and make it ours: what is left
/// where the root cannot be pivoted away. The old one lies below it, out of reach of whoever has neither
/// `CAP_SYS_CHROOT` nor `CAP_SYS_ADMIN` here.
pub fn move_over_root(new_root: impl AsFd + Copy) -> Result<()> {
    let fail = |call: &'static str| move |e| Error::new(call, "new root", e);
    nix::unistd::fchdir(new_root.as_fd()).map_err(fail("fchdir"))?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let old = nix::fcntl::open(c"/", flags, nix::sys::stat::Mode::empty()).map_err(fail("open"))?;
    attach(new_root, &old, c"").map_err(|e| e.on("/"))?;
    nix::unistd::chroot(c".").map_err(fail("chroot"))?;
    nix::unistd::chdir("/").map_err(fail("chdir"))
}

/// Whether the mount at `path` is read-only, as the kernel reports it.
pub fn is_read_only(path: &CStr) -> Result<bool> {
    nix::sys::statvfs::statvfs(path)
        .map(|s| s.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY))
        .map_err(|e| Error::new("statvfs", path.to_string_lossy(), e))
}

/// Whether the mount that a descriptor (`O_PATH` too) was opened through is read-only.
pub fn is_read_only_mount(fd: impl AsFd) -> Result<bool> {
    nix::sys::statvfs::fstatvfs(fd)
        .map(|s| s.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY))
        .map_err(|e| Error::new("fstatvfs", "", e))
}
