//! Sealed layers merged into one that means the same: directories are made anew, everything else is linked.

use std::os::fd::OwnedFd;

use nix::fcntl::AtFlags;
use nix::unistd::linkat;

use super::carry::finish_directory;
use super::names::Names;
use super::stack::Stack;
use super::trail::Trail;
use super::upper::UpperKind;
use crate::base::text::printable;
use crate::sys::openat2::{self, For};
use crate::sys::{Error, Result, at, xattr};

struct Frame {
    names: Names,
    next: usize,
}

/// Merge `layers`, the newest first, into the empty directory `to` of the same file system.
pub fn merge(layers: Vec<OwnedFd>, to: OwnedFd) -> Result<()> {
    let mut from = Stack::new(layers)?;
    let mut to = Trail::new(to, For::Listing)?;
    let mut frames = vec![frame(&from, &to)?];
    while let Some(Frame { names, next }) = frames.last_mut() {
        let Some(name) = names.get(*next) else {
            finish_directory(from.newest()?, to.top()?, &from.meta()?)?;
            frames.pop();
            if !frames.is_empty() {
                from.leave()?;
                to.leave()?;
            }
            continue;
        };
        *next += 1;
        let (dir, _, kind) = from.look(name)?;
        match kind {
            UpperKind::Dir => {
                at::make_dir(to.top()?, name, 0o700)?;
                from.enter_unlocking(name)?;
                to.enter(name)?;
                let below = frame(&from, &to)?;
                frames.push(below);
            }
            // In an opaque directory there is nothing that it could hide.
            UpperKind::Whiteout if from.is_opaque()? => {}
            UpperKind::Whiteout | UpperKind::File | UpperKind::Symlink | UpperKind::Special(_) => {
                let path = openat2::path(name)?;
                linkat(dir, path.as_c_str(), to.top()?, path.as_c_str(), AtFlags::empty())
                    .map_err(|e| Error::new("link", printable(name), e))?;
            }
        }
    }
    Ok(())
}

fn frame(from: &Stack, to: &Trail) -> Result<Frame> {
    let names = from.names()?;
    let value: Option<&[u8]> = match (from.is_opaque()?, from.is_marked()?) {
        (true, _) => Some(b"y"),
        (false, true) => Some(b"x"),
        (false, false) => None,
    };
    if let Some(value) = value {
        xattr::set(to.top()?, c"user.overlay.opaque", value)?;
    }
    Ok(Frame { names, next: 0 })
}
