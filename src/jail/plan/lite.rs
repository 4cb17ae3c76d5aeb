//! The plan of a jail without namespaces: no mounts, and the rules of Landlock on the paths of the host.

use std::path::{Path, PathBuf};

use super::super::spec::Spec;
use super::{Confinement, DEVICES, Error, HostRoot, Plan, command, cpath};
use crate::policy::settings::{Access, Net};
use crate::sys::landlock::Right;

/// What is there to be allowed, beside what the [`Spec`] names.
#[derive(Debug, Default)]
pub struct Grounds {
    /// Below `/etc`: path, and whether it is a directory.
    pub etc: Vec<(PathBuf, bool)>,
    /// There is a `gitconfig` in the ready-made `/etc`.
    pub gitconfig: bool,
    /// Directories of the run's own.
    pub own: Vec<PathBuf>,
}

/// Make it. What is hidden in a tool cannot be, so such a tool is left out.
pub fn lite(spec: &Spec, host: &HostRoot, grounds: &Grounds) -> Result<Plan, Error> {
    let mut p = Plan { confinement: Confinement::of(spec), ..Plan::default() };
    p.confinement.lite = true;
    p.confinement.no_sockets = spec.net == Net::None;
    p.confinement.required = p.confinement.required.without_veils();
    let mut allow = |path: &Path, right| -> Result<(), Error> {
        p.rules.push((cpath(path)?, right));
        Ok(())
    };
    let read = |directory| if directory { Right::Read } else { Right::ReadFile };
    allow(Path::new("/usr"), Right::Read)?;
    for dir in &host.dirs {
        allow(&Path::new("/").join(dir), Right::Read)?;
    }
    for (path, directory) in &grounds.etc {
        allow(path, read(*directory))?;
    }
    if grounds.gitconfig {
        allow(&spec.etc.join("gitconfig"), Right::ReadFile)?;
    }
    for name in DEVICES {
        allow(&Path::new("/dev").join(name), Right::DeviceFile)?;
    }
    allow(Path::new("/proc"), Right::Read)?;
    for tool in &spec.tools {
        if !spec.hidden.iter().any(|h| h.path.starts_with(&tool.path)) {
            allow(&tool.path, read(tool.directory))?;
        }
    }
    for bind in &spec.binds {
        let right = match (bind.writable, bind.directory) {
            (true, true) => Right::Write,
            (true, false) => Right::WriteFile,
            (false, directory) => read(directory),
        };
        allow(&bind.path, right)?;
    }
    allow(&spec.at, if spec.access == Access::Ro { Right::Read } else { Right::Write })?;
    for dir in &grounds.own {
        allow(dir, Right::Write)?;
    }
    command(&mut p, spec)?;
    Ok(p)
}
