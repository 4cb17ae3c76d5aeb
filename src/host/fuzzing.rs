//! Doors for `fuzz/`: what reads the kernel's tables, whose paths anybody may choose.

use std::path::Path;

use super::mounts;

/// Reads a `mountinfo` and looks paths up in it. The number of mounts found.
pub fn mountinfo(text: &[u8]) -> usize {
    let mounts = mounts::parse(text);
    for path in ["/", "/proc", "/a b/c", "relative"] {
        let found = mounts::of(&mounts, Path::new(path));
        assert!(found.is_none_or(|m| Path::new(path).starts_with(&m.at)));
    }
    assert!(mounts.len() <= text.iter().filter(|b| **b == b'\n').count() + 1);
    mounts.len()
}
