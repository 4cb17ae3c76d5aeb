//! What is known of a kept tree beside its layers: the file `kept` in its directory.
//!
//! Written at the end of a run that changed something, and at the start of every further run in the
//! same tree. It is a convenience: a tree without it (its run was killed, or an older `aj` made it) is
//! measured when somebody has to know, and its boot is looked up in the ledger.

use std::os::fd::AsFd;

use nix::errno::Errno;

use super::atomic::{self, Durability};
use crate::base::id::Id;

const FILE: &str = "kept";
const HEAD: &str = "aj-kept 1";
/// Bytes of the file at most.
const LIMIT: u64 = 4096;

/// The record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Boot in which it was mounted last; empty when that is not known.
    pub boot: String,
    /// The jail that ran in it last.
    pub last: Option<Id>,
    /// Bytes that its upper layer takes on the disk. `None` while a run goes on in it, and when that
    /// run was killed.
    pub bytes: Option<u64>,
    /// When the last run began or ended, milliseconds since the epoch.
    pub used_ms: u64,
    /// A run goes on in it, or was killed before it could say that its jail was gone.
    pub open: bool,
    /// A power cut may have taken a part of it, and the run that said so has not ended.
    pub torn: bool,
    /// Since when what was written is lost, milliseconds since the epoch: it was in the memory of a jail that was
    /// killed, and the run that said so has not ended.
    pub lost_ms: Option<u64>,
}

impl Kept {
    /// The record in the directory of a tree; `None` when there is none, or it cannot be read.
    pub fn read(tree: impl AsFd) -> Option<Kept> {
        let bytes = atomic::read(tree, FILE, LIMIT).ok().flatten()?;
        Kept::parse(std::str::from_utf8(&bytes).ok()?)
    }

    /// Keep it in the directory of a tree.
    pub fn write(&self, tree: impl AsFd) -> Result<(), Errno> {
        atomic::write(tree, FILE, self.print().as_bytes(), Durability::Cache)
    }

    pub(super) fn print(&self) -> String {
        let mut text = format!("{HEAD}\nboot {}\nused {}\n", self.boot, self.used_ms);
        if let Some(last) = &self.last {
            text.push_str(&format!("last {last}\n"));
        }
        if self.open {
            text.push_str("open yes\n");
        }
        if self.torn {
            text.push_str("torn yes\n");
        }
        if let Some(ms) = self.lost_ms {
            text.push_str(&format!("lost {ms}\n"));
        }
        if let Some(bytes) = self.bytes {
            text.push_str(&format!("bytes {bytes}\n"));
        }
        text
    }

    /// Lines that are not known are passed over: a later `aj` may have more to say.
    pub(super) fn parse(text: &str) -> Option<Kept> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        if lines.next() != Some(HEAD) {
            return None;
        }
        let mut kept = Kept::default();
        for line in lines {
            match line.split_once(' ')? {
                ("boot", boot) => kept.boot = boot.to_owned(),
                ("used", ms) => kept.used_ms = ms.parse().ok()?,
                ("last", id) => kept.last = Some(id.parse().ok()?),
                ("open", _) => kept.open = true,
                ("torn", _) => kept.torn = true,
                ("lost", ms) => kept.lost_ms = Some(ms.parse().ok()?),
                ("bytes", n) => kept.bytes = Some(n.parse().ok()?),
                _ => {}
            }
        }
        Some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::id;

    #[test]
    fn what_is_noted_is_read_back_and_damage_is_no_record() {
        let dir = tempfile::tempdir().unwrap();
        let fd = std::fs::File::open(dir.path()).unwrap();
        assert_eq!(Kept::read(&fd), None);
        let all = Kept {
            boot: "b-1".into(),
            last: Some(id()),
            bytes: Some(u64::MAX),
            used_ms: 7,
            open: true,
            torn: true,
            lost_ms: Some(5),
        };
        let least = Kept { last: None, bytes: None, open: false, torn: false, lost_ms: None, ..all.clone() };
        for kept in [all.clone(), least] {
            kept.write(&fd).unwrap();
            assert_eq!(Kept::read(&fd), Some(kept));
        }
        let newer = format!("{}colour blue\n", all.print());
        assert_eq!(Kept::parse(&newer), Some(all));
        for bad in ["", "aj-kept 1", "aj-kept 2\n", "aj-kept 1\nused x\n", "aj-kept 1\nlast jl-x\n", "x\n"] {
            assert_eq!(Kept::parse(bad), None, "{bad:?}");
        }
    }
}
