//! What a jail sees of a tree, without mounting anything: a stack of layers read through descriptors.
//!
//! A [`Stack`] is an upper layer, the layers below it and a directory of the host, or one plain
//! directory. [`dir`] looks a name up and lists a directory in it as overlayfs would: the topmost layer
//! that has a name decides, whiteouts hide, opaque directories cut off, directories merge. [`resolve`]
//! follows a path and the links on it, within what the jail sees and never out of it. [`walk`] goes
//! through a whole tree, and [`edit`] changes the upper layer as the jail itself would have.
//!
//! Everything in it was written by a jail or by whoever wrote the repository. No path is opened by name,
//! nothing but regular files and directories is ever opened at all, and what is read is bounded by whoever
//! reads. A jail may be at work in the tree meanwhile: an entry may be gone or be something else a moment
//! later, which is an error of that entry, never a way out.

use std::os::fd::{AsFd, OwnedFd};

use crate::base::text::{brief, printable};
use crate::sys;
use crate::sys::at::Meta;
use crate::sys::openat2::{self, For};

mod beside;
pub mod dir;
pub mod edit;
pub mod export;
mod listing;
mod mounts;
pub mod resolve;
#[cfg(test)]
mod tests;
mod tree;
pub mod walk;

pub use dir::{Dir, Entry};
pub use edit::Editor;
pub use resolve::{At, Spot, View};
pub use walk::{Step, Walk};

/// What a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A layer that an overlay wrote: whiteouts and the attributes of directories mean something.
    Overlay,
    /// The directory at the bottom. The kernel takes a whiteout in it for one, and looks at nothing else.
    Bottom,
    /// A directory that is bound as it is. Whatever a jail puts there means itself.
    Plain,
}

/// One layer.
#[derive(Debug)]
pub struct Layer {
    /// Its top directory, open for listing.
    pub root: OwnedFd,
    /// What it is.
    pub kind: Kind,
}

/// Layers, the topmost first. Never empty.
#[derive(Debug)]
pub struct Stack {
    layers: Vec<Layer>,
}

impl Stack {
    /// An upper layer over `below`, of which the last one is `bottom`.
    pub fn overlay(upper: OwnedFd, below: Vec<OwnedFd>, bottom: OwnedFd) -> Stack {
        let overlay = |root| Layer { root, kind: Kind::Overlay };
        let mut layers = vec![overlay(upper)];
        layers.extend(below.into_iter().map(overlay));
        layers.push(Layer { root: bottom, kind: Kind::Bottom });
        Stack { layers }
    }

    /// The same without an upper layer.
    pub fn base(sealed: Vec<OwnedFd>, bottom: OwnedFd) -> Stack {
        let overlay = |root| Layer { root, kind: Kind::Overlay };
        let mut layers: Vec<Layer> = sealed.into_iter().map(overlay).collect();
        layers.push(Layer { root: bottom, kind: Kind::Bottom });
        Stack { layers }
    }

    /// A directory as it is.
    pub fn plain(root: OwnedFd) -> Stack {
        Stack { layers: vec![Layer { root, kind: Kind::Plain }] }
    }

    /// The layer that is written to.
    pub fn upper(&self) -> &Layer {
        &self.layers[0]
    }

    /// How many layers it has.
    pub fn depth(&self) -> usize {
        self.layers.len()
    }

    pub(super) fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Its top directory, all layers of it.
    pub fn root(&self) -> sys::Result<Dir> {
        Dir::root(self)
    }
}

/// Why something in a view could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing has this name.
    #[error("no `{}`", shown(.0))]
    Missing(Vec<u8>),
    /// It is not what is needed.
    #[error("`{}` is {is}", shown(.path))]
    Is {
        /// The path.
        path: Vec<u8>,
        /// `a directory`, `a fifo`, …
        is: &'static str,
    },
    /// A component on the way, or a path that must be a directory, is none.
    #[error("`{}` is not a directory", shown(.0))]
    NotDir(Vec<u8>),
    /// It lies outside of what the view shows.
    #[error("`{}` is not a part of the workspace", shown(.0))]
    Elsewhere(Vec<u8>),
    /// A link leads outside of what the view shows.
    #[error("`{}` leads out of the workspace, to `{}`", shown(.path), shown(.to))]
    LeadsOut {
        /// The path as it was given.
        path: Vec<u8>,
        /// Where it leads, as the jail names it.
        to: Vec<u8>,
    },
    /// More links, or a longer way, than a path may have.
    #[error("`{}` leads through too many links", shown(.0))]
    Loop(Vec<u8>),
    /// There already is something.
    #[error("`{}` exists", shown(.0))]
    Exists(Vec<u8>),
    /// A directory that has something in it.
    #[error("the directory `{}` is not empty", shown(.0))]
    NotEmpty(Vec<u8>),
    /// The top of what is shown can be neither removed nor moved.
    #[error("`{}` is the top of what is shown there", shown(.0))]
    Top(Vec<u8>),
    /// A directory into itself.
    #[error("`{}` lies in `{}`", shown(.to), shown(.from))]
    IntoItself {
        /// The directory.
        from: Vec<u8>,
        /// Where to.
        to: Vec<u8>,
    },
    /// It belongs to somebody whom the jail does not know, so no overlay could copy it up (`EOVERFLOW`).
    #[error("`{}` belongs to another user (uid {uid}, gid {gid}), and no jail could change it", shown(.path))]
    Foreign {
        /// The path.
        path: Vec<u8>,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// A copy would be larger than is good.
    #[error("`{}` is too much to copy: at most {most}", shown(.path))]
    TooMuch {
        /// The path.
        path: Vec<u8>,
        /// The bound.
        most: String,
    },
    /// A system call failed.
    #[error("could not {what} `{}`", shown(.path))]
    Sys {
        /// `read`, `write` …
        what: &'static str,
        /// The path.
        path: Vec<u8>,
        /// Why.
        source: sys::Error,
    },
}

impl Error {
    /// For `map_err`: a call that failed when `path` was to be …
    pub fn sys(what: &'static str, path: &[u8]) -> impl FnOnce(sys::Error) -> Error {
        let path = path.to_vec();
        move |source| Error::Sys { what, path, source }
    }
}

/// Answers of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// A path of a jail's as it can be printed.
fn shown(path: &[u8]) -> String {
    brief(&printable(if path.is_empty() { b"." } else { path }))
}

/// `dir/name`.
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// The directory and the last component of a path below the top.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (b"", path),
    }
}

/// What a thing is, in words.
pub fn noun(meta: &Meta) -> &'static str {
    use crate::sys::at::FileKind;
    match meta.kind {
        FileKind::File => "a file",
        FileKind::Dir => "a directory",
        FileKind::Symlink => "a symbolic link",
        FileKind::Fifo => "a fifo",
        FileKind::Socket => "a socket",
        FileKind::Char(..) | FileKind::Block => "a device",
        FileKind::Other => "of an unknown kind",
    }
}

/// A descriptor of its own of the directory `fd`, with a read position of its own.
fn again(fd: impl AsFd, how: For) -> sys::Result<OwnedFd> {
    openat2::beneath(fd, b".", how)
}
