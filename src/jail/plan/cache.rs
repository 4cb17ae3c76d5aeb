//! The part of the plan that is about package caches, without which a jail goes on where it must.

use std::ffi::CString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::super::spec::{Cache, Spec};
use super::{Error, Layers, Mount, Overlay, Plan, Points, What, cpath, overlay, place, relative};
use crate::sys::landlock::Right;

/// A file of the tmpfs that stays empty: what a hidden file of a cache shows.
const EMPTY_FILE: &str = "empty-file";

/// Caches that are told apart when they could not be had: bits of a message.
pub const MOST_CACHES: usize = 64;

/// A cache, and what becomes of it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Otherwise {
    /// Which of [`Spec::caches`]: said to the launcher when it could not be had.
    pub number: u8,
    /// The directory of the tmpfs to show in its place. `None`: what is below is seen.
    pub empty: Option<CString>,
    /// What is covered in it.
    pub hide: Vec<Hide>,
}

/// What is seen empty in a cache.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hide {
    /// Where, as in [`Mount::at`].
    pub at: CString,
    /// The directory or file of the tmpfs that covers it.
    pub with: CString,
    /// Whether that can be written.
    pub writable: bool,
}

impl Plan {
    /// Leave out the caches whose lower layer is one of these [`Plan::mapped`], which could not be made.
    /// Their numbers come back.
    pub fn leave_out(&mut self, unmapped: &[usize]) -> u64 {
        let mut left = 0;
        let mounts = std::mem::take(&mut self.mounts).into_iter().filter_map(|m| match m.what {
            What::Mapped(index) if unmapped.contains(&index) => None,
            What::Overlay(Overlay { lower: Err(index), otherwise: Some(cache), .. })
                if unmapped.contains(&index) =>
            {
                left |= 1 << cache.number;
                cache.empty.map(|dir| Mount { what: What::Scratch(dir), ..m })
            }
            what => Some(Mount { what, ..m }),
        });
        self.mounts = mounts.collect();
        left
    }
}

/// Directories of the jail's own: those of its tmpfs that lie at these paths, which only the mount
/// over the root makes read-only.
pub(super) fn rooms(p: &mut Plan, points: &mut Points, spec: &Spec) -> Result<(), Error> {
    for room in &spec.rooms {
        points.point(room, true)?;
        let Some(dir) = place(room)? else { continue };
        p.mounts.push(Mount { what: What::Scratch(cpath(&dir)?), at: relative(room)?, ours: true });
        p.rules.push((cpath(room)?, Right::Write));
    }
    Ok(())
}

/// A cache. The workspace does not lie in it.
pub(super) fn show(
    p: &mut Plan,
    points: &mut Points,
    spec: &Spec,
    (number, cache): (usize, &Cache),
) -> Result<(), Error> {
    let mut hide = Vec::with_capacity(cache.hidden.len());
    for (n, hidden) in cache.hidden.iter().enumerate() {
        let with = if hidden.directory {
            let own = PathBuf::from(format!("hidden-{number}-{n}"));
            points.dir(&own);
            own
        } else {
            PathBuf::from(EMPTY_FILE)
        };
        if !hidden.directory && !points.files.contains(&with) {
            points.files.push(with.clone());
        }
        hide.push(Hide { at: relative(&hidden.path)?, with: cpath(&with)?, writable: hidden.directory });
    }
    let empty = place(&cache.side.path)?.map(|dir| cpath(&dir)).transpose()?;
    let number = u8::try_from(number).unwrap_or(u8::MAX);
    let otherwise = Otherwise { number, empty, hide };
    let own = PathBuf::from(format!("cache-{number}"));
    let layers = Layers { memory: cache.memory, otherwise: Some(otherwise), ..Layers::of(&cache.side) };
    if !cache.memory {
        return overlay(p, points, spec, layers);
    }
    points.dir(&own.join("upper"));
    points.dir(&own.join("work"));
    overlay(p, points, spec, Layers { tree: &own, ..layers })
}
