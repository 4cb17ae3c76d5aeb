//! Directories of the jail's own that last longer than it: the home and the output of a workspace.

use std::path::Path;

use super::{Error, Mount, Plan, Points, What, cpath, cstring};
use crate::jail::spec::Spec;
use crate::sys::landlock::Right;

/// The directory of the jail's tmpfs that is its home, where no other one lasts.
const HOME: &str = "home";
const OUTPUT: &str = "output";

/// What is shown in the place of the tmpfs's directory `dir`.
pub(super) fn scratch(spec: &Spec, dir: &str) -> Result<What, Error> {
    Ok(match &spec.home {
        Some(home) if dir == HOME => What::Kept { source: cpath(home)? },
        Some(_) | None => What::Scratch(cstring("a path", dir)?),
    })
}

/// Show `/output`, where there is one.
pub(super) fn output(p: &mut Plan, points: &mut Points, spec: &Spec) -> Result<(), Error> {
    let Some(output) = &spec.output else { return Ok(()) };
    points.dir(&Path::new("root").join(OUTPUT));
    let (what, at) = (What::Kept { source: cpath(output)? }, cstring("a path", OUTPUT)?);
    p.mounts.push(Mount { what, at, ours: true });
    p.rules.push((cpath(&Path::new("/").join(OUTPUT))?, Right::Write));
    Ok(())
}
