//! Directories of the jail's own that last longer than it: the home and the output of a workspace.
//!
//! Each is a plain directory, until the workspace is forked: then it is what is written over the same
//! directories of the sealed layers.

use std::ffi::CString;
use std::path::Path;

use super::{Error, Mount, Overlay, Plan, Points, What, cpath, cstring};
use crate::jail::spec::Spec;
use crate::sys::landlock::Right;

/// The directory of the jail's tmpfs that is its home, where no other one lasts; of a layer the same.
const HOME: &str = "home";
const OUTPUT: &str = "output";

/// What is shown in the place of the tmpfs's directory `dir`.
pub(super) fn scratch(spec: &Spec, dir: &str) -> Result<What, Error> {
    match &spec.home {
        Some(home) if dir == HOME => room(spec, home, HOME),
        Some(_) | None => Ok(What::Scratch(cstring("a path", dir)?)),
    }
}

/// Show `/output`, where there is one.
pub(super) fn output(p: &mut Plan, points: &mut Points, spec: &Spec) -> Result<(), Error> {
    let Some(output) = &spec.output else { return Ok(()) };
    points.dir(&Path::new("root").join(OUTPUT));
    let (what, at) = (room(spec, output, OUTPUT)?, cstring("a path", OUTPUT)?);
    p.mounts.push(Mount { what, at, ours: true });
    p.rules.push((cpath(&Path::new("/").join(OUTPUT))?, Right::Write));
    Ok(())
}

fn room(spec: &Spec, dir: &Path, name: &str) -> Result<What, Error> {
    let layers = spec.layers.iter().map(|layer| cpath(&layer.join(name)));
    let mut above: Vec<CString> = layers.collect::<Result<_, _>>()?;
    let Some(lower) = above.pop() else { return Ok(What::Kept { source: cpath(dir)? }) };
    Ok(What::Overlay(Overlay {
        lower: Ok(lower),
        above,
        upper: cpath(dir)?,
        work: cpath(&dir.with_file_name(format!("{name}-work")))?,
        memory: false,
        volatile: !spec.durable,
        otherwise: None,
    }))
}
