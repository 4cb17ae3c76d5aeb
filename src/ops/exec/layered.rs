//! Secrets of a directory that layers of earlier runs lie over. What a run made in the place of something that
//! was hidden from it is its own, and stays in sight. What it has copied up of something that was not hidden from
//! it is as secret as ever, and no whiteout hides it any more: a mount does, as where there is no overlay.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::errno::Errno;

use super::Error;
use crate::jail::spec::{Mask, Spec};
use crate::ops::secrets::{Kind, Placed, Secrets, rest, split};
use crate::store::planted::{Bed, Planted, Seed, Sown, What};
use crate::store::trees::Tree;
use crate::store::whiteout::{self, OPAQUE};
use crate::sys::at::{self, FileKind};
use crate::sys::openat2::{self, For};
use crate::sys::{self, Result, xattr};
use crate::workspace::ORIGIN;

/// Fit what is hidden to what is there in the tree to go on in, if any. What nobody would see anyway is no longer
/// in `secrets`.
pub(super) fn settle(
    placed: &mut Placed,
    secrets: &mut Secrets,
    spec: &Spec,
    older: Option<&Tree>,
) -> std::result::Result<(), Error> {
    let Some(tree) = older else { return Ok(()) };
    let unread = |e| Error::Launch(sys::Error::new("read", "what was hidden", e));
    for bed in &mut placed.seeds {
        let top = match &bed.side {
            None => None,
            // Not there where an earlier run did without it.
            Some(side) => match openat2::resolved(side.as_os_str().as_bytes()) {
                Ok(top) => Some(top),
                Err(e) if e.errno == Errno::ENOENT => continue,
                Err(e) => return Err(Error::Launch(e)),
            },
        };
        let (dir, sealed) = match &top {
            Some(side) => (side.as_fd(), Vec::new()),
            None => (tree.as_fd(), layers(&spec.layers).map_err(Error::Launch)?),
        };
        let own = openat2::beneath(dir, b"upper", For::Passing).map_err(Error::Launch)?;
        let record = Planted::read(dir).map_err(unread)?.unwrap_or_default();
        let stack = Stack { own, sealed, record };
        stack.fit(bed, &mut placed.masks, secrets, spec).map_err(Error::Launch)?;
    }
    Ok(())
}

fn layers(paths: &[PathBuf]) -> Result<Vec<OwnedFd>> {
    paths.iter().map(|layer| openat2::resolved(layer.join("upper").as_os_str().as_bytes())).collect()
}

/// The layers over one directory.
struct Stack {
    /// The one that is written to.
    own: OwnedFd,
    /// The others, the newest first.
    sealed: Vec<OwnedFd>,
    /// What was hidden in all of them.
    record: Planted,
}

impl Stack {
    fn fit(&self, bed: &mut Bed, masks: &mut Vec<Mask>, secrets: &mut Secrets, spec: &Spec) -> Result<()> {
        let side = bed.side.as_ref();
        let base = spec.sides.iter().find(|s| Some(&s.layers) == side).map(|s| s.path.as_os_str().as_bytes());
        let mut kept = Vec::with_capacity(bed.seeds.len());
        for mut seed in bed.seeds.drain(..) {
            if let Sown::Way { mode, mtime } = &mut seed.what {
                match seen(self.sealed.iter(), &seed.path)? {
                    Seen::Base => kept.push(seed),
                    Seen::Nothing | Seen::Layer(..) => {}
                    // As a copy up of the layer's directory would be.
                    Seen::Merged(meta) => {
                        (*mode, *mtime) = (meta.mode & 0o3777, meta.mtime);
                        kept.push(seed);
                    }
                }
                continue;
            }
            let named = base.map_or(seed.path.clone(), |base| [base, b"/", &seed.path].concat());
            let Some(at) = secrets.found.iter().position(|s| s.path == named) else { continue };
            match self.instead(&seed, &secrets.found[at].kind)? {
                Instead::Hide => kept.push(seed),
                Instead::Mask(shows) => {
                    let below = std::path::Path::new(std::ffi::OsStr::from_bytes(&named));
                    masks.push(Mask { path: spec.at.join(below), shows });
                }
                Instead::Leave { hidden: true } => {}
                Instead::Leave { hidden: false } => drop(secrets.found.remove(at)),
            }
        }
        bed.seeds = kept;
        Ok(())
    }

    /// What is to be done about a secret of the base.
    fn instead(&self, seed: &Seed, kind: &Kind) -> Result<Instead> {
        let was_hidden = self.record.at(&seed.path).is_some_and(|what| !matches!(what, What::Way(_)));
        Ok(match seen(std::iter::once(&self.own).chain(&self.sealed), &seed.path)? {
            Seen::Base => Instead::Hide,
            Seen::Nothing => Instead::Leave { hidden: was_hidden },
            Seen::Merged(_) if *kind == Kind::Directory => Instead::Mask(None),
            // A directory of the jail's own in the place of a file.
            Seen::Merged(_) => Instead::Leave { hidden: false },
            Seen::Layer(..) if was_hidden => Instead::Leave { hidden: matches!(kind, Kind::Part(_)) },
            // A directory, a link, a socket: the jail's own, with nothing of the base's in it.
            Seen::Layer(what, _) if what != FileKind::File => Instead::Leave { hidden: false },
            Seen::Layer(_, layer) if matches!(kind, Kind::Part(_)) || is_copy(layer, &seed.path)? => {
                match rest(kind, layer, &seed.path) {
                    Some(shows) => Instead::Mask(Some(shows)),
                    None => Instead::Leave { hidden: false },
                }
            }
            // Made there when the base had none, or in its place.
            Seen::Layer(..) => Instead::Leave { hidden: false },
        })
    }
}

/// Whether the file at `path` of `layer` was copied up from what is below: overlayfs notes that, out of reach of
/// whoever works over it.
fn is_copy(layer: &OwnedFd, path: &[u8]) -> Result<bool> {
    let (parent, name) = split(path);
    xattr::has(openat2::beneath(layer, parent, For::Listing)?, name, ORIGIN)
}

enum Instead {
    /// It is hidden in the upper layer.
    Hide,
    /// It is hidden by what is mounted over it.
    Mask(Option<Vec<u8>>),
    /// Nothing: it is `hidden` as it is, or what is there is the jail's own.
    Leave { hidden: bool },
}

enum Seen<'a> {
    /// What the base has there.
    Base,
    /// Nothing, as something of a layer is above it, or in its place.
    Nothing,
    /// What this layer has.
    Layer(FileKind, &'a OwnedFd),
    /// A directory of a layer that the base's shows through.
    Merged(at::Meta),
}

/// What is seen at `path`.
fn seen<'a>(layers: impl Iterator<Item = &'a OwnedFd>, path: &[u8]) -> Result<Seen<'a>> {
    let mut merged = None;
    for layer in layers {
        let mut dir = openat2::beneath(layer, b".", For::Listing)?;
        let mut parts = path.split(|b| *b == b'/').peekable();
        let mut opaque = false;
        while let Some(name) = parts.next() {
            let last = parts.peek().is_none();
            let Some(meta) = at::stat_opt(&dir, name)? else { break };
            if meta.kind != FileKind::Dir {
                let there = last && !whiteout::is(&dir, name, &meta)?;
                return Ok(match merged {
                    Some(_) => Seen::Layer(FileKind::Dir, layer),
                    None if there => Seen::Layer(meta.kind, layer),
                    None => Seen::Nothing,
                });
            }
            dir = match openat2::beneath(&dir, name, For::Listing) {
                Ok(dir) => dir,
                // It cannot be looked into: fail closed, and hide what the base may have there.
                Err(e) if e.errno == Errno::EACCES => break,
                Err(e) => return Err(e),
            };
            opaque |= xattr::get(&dir, OPAQUE)?.as_deref() == Some(b"y");
            if last {
                merged = merged.or(Some(meta));
            }
        }
        if opaque {
            return Ok(if merged.is_some() { Seen::Layer(FileKind::Dir, layer) } else { Seen::Nothing });
        }
    }
    Ok(merged.map_or(Seen::Base, Seen::Merged))
}
