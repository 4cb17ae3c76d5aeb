//! The state directory under another name: a bind mount of it, of a directory over it, or of the
//! disk that a home is a part of. Paths without links do not tell; places on file systems do.

use std::io;
use std::path::Path;

use super::beside::Beside;
use super::{Error, WayOut};
use crate::host::places::{Place, Table, overlap};
use crate::jail::spec::Spec;
use crate::policy::settings::Access;
use crate::store::layout::StateDir;
use crate::sys::at::Meta;
use crate::sys::{at, openat2};

/// Refuse to show the state by any name. By its own it has been refused before.
pub(super) fn state(spec: &Spec, beside: &[Beside], state: &StateDir, insist: bool) -> Result<(), Error> {
    let own = at::fstat(state).map_err(Error::Launch)?;
    let workspace = look(&spec.workspace)?;
    // The usual jail pays for two calls: in one mount names are enough, and an overlay shows one mount.
    let overlay = spec.access == Access::Overlay;
    let alone = spec.binds.is_empty() && beside.is_empty();
    if overlay && alone && (workspace.mount == own.mount || workspace.dev != own.dev) {
        return Ok(());
    }
    let table = Table::read().map_err(Error::Launch)?;
    let real = state.real_path();
    let own = table.places(&real, &own).ok_or_else(|| unknown(&real))?;
    let refuse_where = |path: &Path, places: Option<Vec<Place>>, writable| {
        if !overlap(&places.ok_or_else(|| unknown(path))?, &own) {
            return Ok(());
        }
        let (why, way) = match writable {
            true => {
                ("shows aj's state directory by another name, and no jail may write that", WayOut::Elsewhere)
            }
            false if overlay => ("shows aj's state directory by another name", WayOut::Elsewhere),
            false => ("shows aj's state directory by another name", WayOut::Insist),
        };
        Err(Error::Refused { path: path.to_owned(), why: why.to_owned(), way })
    };
    let (path, writable) = (spec.workspace.as_path(), spec.access == Access::Rw);
    if overlay && path.starts_with(&real) {
        // By its own name it was let through: an empty directory of a workspace.
    } else if overlay {
        refuse_where(path, table.place(path, &workspace).map(|p| vec![p]), false)?;
    } else if writable || !insist {
        refuse_where(path, table.places(path, &workspace), writable)?;
    }
    for side in beside {
        refuse_where(&side.path, table.place(&side.path, &look(&side.path)?).map(|p| vec![p]), false)?;
    }
    for bind in spec.binds.iter().filter(|b| b.writable || !insist) {
        refuse_where(&bind.path, table.places(&bind.path, &look(&bind.path)?), bind.writable)?;
    }
    Ok(())
}

fn look(path: &Path) -> Result<Meta, Error> {
    openat2::resolved(path.as_os_str().as_encoded_bytes()).and_then(at::fstat).map_err(Error::Launch)
}

fn unknown(path: &Path) -> Error {
    let why = io::Error::other("the mount that it lies in is not in `/proc/self/mountinfo`");
    Error::Bind { path: path.to_owned(), why }
}
