//! Directories of the jail's own that last longer than it: the home and the output of a workspace, volumes.
//!
//! Each is a plain directory, until the workspace is forked: then it is what is written over the same
//! directories of the sealed layers.

use std::ffi::CString;
use std::path::Path;

use super::{Error, Mapped, Mount, Overlay, Plan, Points, What, cpath, cstring, relative};
use crate::jail::spec::{Ids, Spec};
use crate::sys::landlock::Right;
use crate::sys::mount::Attr;

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

/// Show the volumes. There is no veil over those that are only read: what another jail writes there is to be
/// seen at once, and an overlay would show it or not.
pub(super) fn volumes(p: &mut Plan, points: &mut Points, spec: &Spec) -> Result<(), Error> {
    for volume in &spec.volumes {
        points.point(&volume.at, true)?;
        let attr = Attr::NOSUID.and(Attr::NODEV);
        let attr = if volume.read_only { attr.and(Attr::RDONLY) } else { attr };
        let source = cpath(&volume.data)?;
        let owner = volume.owner;
        // Made by another id of the jail's range than the one it has now.
        let foreign = spec.ids == Ids::Range && spec.outside() != Some((owner.uid, owner.gid));
        let what = if foreign {
            p.mapped.push(Mapped { source, attr, owner, lenient: false, optional: false });
            What::Mapped(p.mapped.len() - 1)
        } else {
            What::Kept { source, attr }
        };
        p.mounts.push(Mount { what, at: relative(&volume.at)?, ours: false });
        if volume.read_only {
            p.read_only.push(cpath(&volume.at)?);
        } else {
            p.rules.push((cpath(&volume.at)?, Right::Write));
        }
    }
    Ok(())
}

/// A directory as it is.
pub(super) fn kept(dir: &Path) -> Result<What, Error> {
    Ok(What::Kept { source: cpath(dir)?, attr: Attr::NOSUID.and(Attr::NODEV) })
}

fn room(spec: &Spec, dir: &Path, name: &str) -> Result<What, Error> {
    let layers = spec.layers.iter().map(|layer| cpath(&layer.join(name)));
    let mut above: Vec<CString> = layers.collect::<Result<_, _>>()?;
    let Some(lower) = above.pop() else { return kept(dir) };
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
