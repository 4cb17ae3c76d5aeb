//! Doors for `fuzz/`: what a planted repository says.

use std::path::Path;

use super::objects;

pub use super::{Around, Needs, find};

/// Look for an object in the index of a pack.
pub fn pack_index(index: &Path, id: &[u8; 20]) -> Option<bool> {
    objects::in_pack(index, id)
}
