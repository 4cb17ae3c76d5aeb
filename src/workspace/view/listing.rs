//! The names of a directory of the view.

use std::os::fd::{AsFd, BorrowedFd};

use nix::dir::Type;

use super::dir::Part;
use crate::sys::at::{self, FileKind};
use crate::sys::entries::Entries;
use crate::sys::{Result, xattr};
use crate::workspace::names::Names;
use crate::workspace::upper;

/// What one layer has in a directory.
struct Layered {
    present: Names,
    whiteouts: Names,
}

/// All names that show in a directory of which `parts` are the layers, sorted by their bytes. Costs the
/// names themselves and a few bytes each, and a `stat` for each character device.
pub(super) fn read<F: AsFd>(parts: &[Part<F>]) -> Result<Names> {
    if let [only] = parts {
        return Ok(layer(only)?.present);
    }
    let layers = parts.iter().map(layer).collect::<Result<Vec<_>>>()?;
    let mut at = vec![(0, 0); layers.len()];
    let mut shown = Names::default();
    loop {
        // The least name that is left, and what the topmost layer that has it says.
        let mut least: Option<(&[u8], bool)> = None;
        for (layer, (p, w)) in layers.iter().zip(&at) {
            let heads = [(layer.present.get(*p), true), (layer.whiteouts.get(*w), false)];
            for (name, visible) in heads {
                let Some(name) = name else { continue };
                if least.is_none_or(|(known, _)| name < known) {
                    least = Some((name, visible));
                }
            }
        }
        let Some((name, visible)) = least else { return Ok(shown) };
        if visible {
            shown.add(name)?;
        }
        for (layer, (p, w)) in layers.iter().zip(&mut at) {
            *p += usize::from(layer.present.get(*p) == Some(name));
            *w += usize::from(layer.whiteouts.get(*w) == Some(name));
        }
    }
}

fn layer<F: AsFd>(part: &Part<F>) -> Result<Layered> {
    let mut found = Layered { present: Names::default(), whiteouts: Names::default() };
    let mut entries = Entries::again(&part.fd)?;
    while let Some(entry) = entries.step()? {
        let hidden = match entry.kind {
            _ if part.plain => false,
            Some(Type::CharacterDevice) | None => is_whiteout(part, entry.name)?,
            Some(Type::File) if part.marked => is_whiteout(part, entry.name)?,
            Some(_) => false,
        };
        if hidden { found.whiteouts.add(entry.name)? } else { found.present.add(entry.name)? }
    }
    found.present.sort();
    found.whiteouts.sort();
    Ok(found)
}

fn is_whiteout<F: AsFd>(part: &Part<F>, name: &[u8]) -> Result<bool> {
    let Some(meta) = at::stat_opt(&part.fd, name)? else { return Ok(false) };
    whiteout(part.fd.as_fd(), name, &meta, part.marked)
}

/// Whether the entry of a layer's directory hides what is below it.
pub(super) fn whiteout(dir: BorrowedFd<'_>, name: &[u8], meta: &at::Meta, marked: bool) -> Result<bool> {
    Ok(match meta.kind {
        FileKind::Char(0, 0) => true,
        FileKind::File if marked && meta.size == 0 => xattr::has(dir, name, upper::WHITEOUT)?,
        _ => false,
    })
}
