//! Directories of which only a private upper layer is written.

use std::path::{Path, PathBuf};

use super::super::spec::{Ids, Owner, Side, Spec, Storage};
use super::{Error, Mapped, Mount, Otherwise, Overlay, Plan, Points, What, cpath, relative};
use crate::sys::landlock::Right;
use crate::sys::mount::Attr;

/// An overlay and where its parts are.
pub(super) struct Layers<'a> {
    /// Host directory.
    pub(super) lower: &'a Path,
    /// Directories whose `upper` is a sealed layer over it, the newest first.
    pub(super) above: &'a [PathBuf],
    /// Where it is shown.
    pub(super) at: &'a Path,
    /// What holds `upper` and `work`.
    pub(super) tree: &'a Path,
    /// With [`Ids::Range`]: whose files appear as the jail's user's own.
    pub(super) owner: Owner,
    /// As in [`Overlay::memory`].
    pub(super) memory: bool,
    /// As in [`Overlay::otherwise`].
    pub(super) otherwise: Option<Otherwise>,
}

impl<'a> Layers<'a> {
    pub(super) fn of_workspace(spec: &'a Spec, tree: &'a Path) -> Layers<'a> {
        Layers {
            lower: &spec.workspace,
            above: &spec.layers,
            at: &spec.at,
            tree,
            owner: spec.owner,
            memory: false,
            otherwise: None,
        }
    }

    pub(super) fn of(side: &'a Side) -> Layers<'a> {
        Layers {
            lower: &side.path,
            above: &[],
            at: &side.path,
            tree: &side.layers,
            owner: side.owner,
            memory: false,
            otherwise: None,
        }
    }
}

/// A host directory of which only a private upper layer is written.
pub(super) fn overlay(
    p: &mut Plan,
    points: &mut Points,
    spec: &Spec,
    layers: Layers<'_>,
) -> Result<(), Error> {
    points.point(layers.at, true)?;
    let at = relative(layers.at)?;
    if spec.storage == Storage::Copy && layers.otherwise.is_none() {
        p.mounts.push(Mount { what: super::rooms::kept(&layers.tree.join("copy"))?, at, ours: false });
        p.rules.push((cpath(layers.at)?, Right::Write));
        return Ok(());
    }
    let lower = match spec.ids {
        Ids::Caller { .. } => Ok(cpath(layers.lower)?),
        Ids::Range => {
            let attr = Attr::NOSUID.and(Attr::NODEV).and(Attr::RDONLY);
            let source = cpath(layers.lower)?;
            let optional = layers.otherwise.is_some();
            p.mapped.push(Mapped { source, attr, owner: layers.owner, lenient: false, optional });
            let index = p.mapped.len() - 1;
            Err(index)
        }
    };
    let own = PathBuf::from(format!("layers-{}", p.uppers.len()));
    let spilled = spec.storage == Storage::Memory && !layers.memory;
    let tree = if spilled { &own } else { layers.tree };
    if spilled {
        points.dir(&own.join("upper"));
        points.dir(&own.join("work"));
        if layers.otherwise.is_none() {
            p.uppers.push((cpath(&own.join("upper"))?, cpath(layers.tree)?));
        }
    }
    let above: Result<_, Error> = layers.above.iter().map(|dir| cpath(&dir.join("upper"))).collect();
    let what = What::Overlay(Overlay {
        lower,
        above: above?,
        upper: cpath(&tree.join("upper"))?,
        work: cpath(&tree.join("work"))?,
        memory: layers.memory || spilled,
        volatile: !spec.durable,
        otherwise: layers.otherwise,
    });
    p.mounts.push(Mount { what, at, ours: false });
    p.rules.push((cpath(layers.at)?, Right::Write));
    Ok(())
}
