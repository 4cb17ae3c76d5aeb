//! Secrets of a directory that sealed layers lie over: what a layer has in such a place is the workspace's
//! own, and stays in sight.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::errno::Errno;

use crate::store::planted::{Bed, Sown};
use crate::sys::at::{self, FileKind};
use crate::sys::openat2::{self, For};
use crate::sys::{Result, xattr};

/// Leave out of `beds` what nobody would see anyway below the `layers`, the newest first.
pub(super) fn thin(beds: &mut [Bed], layers: &[PathBuf]) -> Result<()> {
    let Some(bed) = beds.iter_mut().find(|bed| bed.side.is_none()) else { return Ok(()) };
    if layers.is_empty() {
        return Ok(());
    }
    let open = |layer: &PathBuf| openat2::resolved(layer.join("upper").as_os_str().as_bytes());
    let layers: Vec<OwnedFd> = layers.iter().map(open).collect::<Result<_>>()?;
    let mut kept = Vec::with_capacity(bed.seeds.len());
    for mut seed in bed.seeds.drain(..) {
        match seen(&layers, &seed.path)? {
            Seen::Base => kept.push(seed),
            Seen::Layer => {}
            // On the way to what is hidden: as a copy up of the layer's directory would be.
            Seen::Merged(meta) => {
                if let Sown::Way { mode, mtime } = &mut seed.what {
                    (*mode, *mtime) = (meta.mode & 0o3777, meta.mtime);
                    kept.push(seed);
                }
            }
        }
    }
    bed.seeds = kept;
    Ok(())
}

enum Seen {
    /// What the base has there.
    Base,
    /// What a layer has, or nothing.
    Layer,
    /// A directory of a layer that the base's shows through.
    Merged(at::Meta),
}

/// What is seen at `path`.
fn seen(layers: &[OwnedFd], path: &[u8]) -> Result<Seen> {
    let mut merged = None;
    for layer in layers {
        let mut dir = openat2::beneath(layer, b".", For::Listing)?;
        let mut parts = path.split(|b| *b == b'/').peekable();
        while let Some(name) = parts.next() {
            let Some(meta) = at::stat_opt(&dir, name)? else { break };
            if meta.kind != FileKind::Dir {
                return Ok(Seen::Layer);
            }
            dir = match openat2::beneath(&dir, name, For::Listing) {
                Ok(dir) => dir,
                // It cannot be looked into: fail closed, and hide what the base may have there.
                Err(e) if e.errno == Errno::EACCES => break,
                Err(e) => return Err(e),
            };
            if xattr::get(&dir, c"user.overlay.opaque")?.as_deref() == Some(b"y") {
                return Ok(Seen::Layer);
            }
            if parts.peek().is_none() {
                merged = merged.or(Some(meta));
            }
        }
    }
    Ok(merged.map_or(Seen::Base, Seen::Merged))
}
