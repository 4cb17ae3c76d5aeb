//! Landlock on the pivoted view: the second lock on files, and the scopes that keep signals and
//! abstract sockets inside.

use std::ffi::CString;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};

use super::{Error, Result, check};

/// What is allowed below one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Right {
    /// Read, list, execute.
    Read,
    /// Everything but making device nodes.
    Write,
    /// The same for a single file: what can be done with a file at all.
    WriteFile,
    /// The same as [`Right::Read`] for a single file.
    ReadFile,
    /// The same as [`Right::Device`] for a single node.
    DeviceFile,
    /// Read and write of existing files, and device ioctls: for device nodes.
    Device,
    /// Read and write of existing files: for `/proc`.
    ExistingFiles,
}

/// The kernel's Landlock ABI, 0 when it has none or it is switched off.
pub fn abi() -> i32 {
    const LANDLOCK_CREATE_RULESET_VERSION: libc::c_uint = 1;
    // SAFETY: a null attribute with size 0 and this flag asks for the version.
    let r = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    check("landlock_create_ruleset", r).map_or(0, |v| v as i32)
}

/// The oldest ABI that is used: below it every rename across directories fails with EXDEV, which
/// breaks git, npm and mv.
pub const OLDEST: i32 = 2;

/// The newest ABI that is made use of.
pub const NEWEST: i32 = 6;

/// The first ABI with TCP ports.
pub const TCP: i32 = 4;

/// The first ABI with scopes.
pub const SCOPES: i32 = 6;

/// Restrict this thread and its children to `rules`, or, without any, by the scopes alone.
/// `no_new_privs` must be set.
pub fn restrict(rules: Option<&[(CString, Right)]>, kernel: i32) -> Result<()> {
    restrict_all(rules, kernel, false)
}

/// The same; `no_tcp`: no TCP port can be bound or connected to either, where the kernel knows that (ABI 4).
pub fn restrict_all(rules: Option<&[(CString, Right)]>, kernel: i32, no_tcp: bool) -> Result<()> {
    let fail = |call: &'static str| move |_| Error::new(call, "", Errno::last());
    // Never more than this code was written for: a right the kernel handles later must not be
    // denied by accident.
    let newest = match kernel.min(NEWEST) {
        2 => ABI::V2,
        3 => ABI::V3,
        4 => ABI::V4,
        5 => ABI::V5,
        _ => ABI::V6,
    };
    let devices = AccessFs::MakeChar | AccessFs::MakeBlock;
    let all = AccessFs::from_all(newest);
    if rules.is_none() && kernel < SCOPES {
        return Ok(());
    }
    let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    if rules.is_some() {
        ruleset = ruleset.handle_access(all).map_err(fail("landlock handle_access"))?;
    }
    if no_tcp && kernel >= TCP {
        ruleset =
            ruleset.handle_access(AccessNet::from_all(newest)).map_err(fail("landlock handle_access"))?;
    }
    if kernel >= SCOPES {
        ruleset = ruleset.scope(Scope::AbstractUnixSocket | Scope::Signal).map_err(fail("landlock scope"))?;
    }
    let mut created = ruleset.create().map_err(fail("landlock_create_ruleset"))?;
    for (path, right) in rules.unwrap_or_default() {
        let access = all
            & match right {
                Right::Read => AccessFs::from_read(newest),
                Right::Write => all & !devices,
                Right::WriteFile => AccessFs::from_file(newest),
                Right::ReadFile => AccessFs::ReadFile | AccessFs::Execute,
                Right::DeviceFile => {
                    AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev
                }
                Right::Device => {
                    AccessFs::ReadFile
                        | AccessFs::WriteFile
                        | AccessFs::ReadDir
                        | AccessFs::Truncate
                        | AccessFs::IoctlDev
                }
                Right::ExistingFiles => {
                    AccessFs::ReadFile
                        | AccessFs::WriteFile
                        | AccessFs::ReadDir
                        | AccessFs::Execute
                        | AccessFs::Truncate
                }
            };
        let name = || crate::base::text::c(path);
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let fd = openat(AT_FDCWD, path.as_c_str(), flags, Mode::empty())
            .map_err(|e| Error::new("open", name(), e))?;
        created = created
            .add_rule(PathBeneath::new(fd, access))
            .map_err(|_| Error::new("landlock_add_rule", name(), Errno::last()))?;
    }
    let status = created.restrict_self().map_err(fail("landlock_restrict_self"))?;
    if status.ruleset == RulesetStatus::FullyEnforced {
        Ok(())
    } else {
        Err(Error::new("landlock_restrict_self", format!("{:?}", status.ruleset), Errno::ENOTSUP))
    }
}
