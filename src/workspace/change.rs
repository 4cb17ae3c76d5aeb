//! One difference between a tree and its base directory.

use std::path::PathBuf;

use crate::store::applied::Applied;
use crate::store::origin::Places;
use crate::store::planted::Planted;
use crate::sys::at::{FileKind, Stamp};

/// How an entry differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Not in the base.
    Added,
    /// Other content (and maybe other permission bits).
    Modified,
    /// Other permission bits only.
    ModeChanged,
    /// Another kind of entry than in the base.
    TypeChanged,
    /// Gone.
    Deleted,
}

impl Status {
    /// `added`, `modified`, `mode_changed`, `type_changed` or `deleted`.
    pub fn name(self) -> &'static str {
        match self {
            Status::Added => "added",
            Status::Modified => "modified",
            Status::ModeChanged => "mode_changed",
            Status::TypeChanged => "type_changed",
            Status::Deleted => "deleted",
        }
    }

    /// One letter for people: `A`, `M`, `m`, `T` or `D`.
    pub fn letter(self) -> char {
        match self {
            Status::Added => 'A',
            Status::Modified => 'M',
            Status::ModeChanged => 'm',
            Status::TypeChanged => 'T',
            Status::Deleted => 'D',
        }
    }
}

/// What an entry is, as far as changes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Fifo, socket or device (of the base only: a jail's own are skipped).
    Special,
}

impl Kind {
    /// `file`, `directory`, `symlink` or `special`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::File => "file",
            Kind::Directory => "directory",
            Kind::Symlink => "symlink",
            Kind::Special => "special",
        }
    }
}

impl From<FileKind> for Kind {
    fn from(kind: FileKind) -> Kind {
        match kind {
            FileKind::File => Kind::File,
            FileKind::Dir => Kind::Directory,
            FileKind::Symlink => Kind::Symlink,
            FileKind::Fifo | FileKind::Socket | FileKind::Char(..) | FileKind::Block | FileKind::Other => {
                Kind::Special
            }
        }
    }
}

/// Why a change is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// The host's entry changed after the jail started.
    Changed,
    /// Something in the directory that would be removed changed after the jail started.
    ChangedBelow,
    /// A directory on the way is something else on the host, and that is in conflict.
    Above,
    /// A directory on the way may be another one than when the jail started: its times say that it
    /// was moved to its place, or that its permissions or attributes changed.
    Moved,
    /// A directory on the way is another one than when the jail ended.
    Replaced,
    /// The host had the entry and has it no longer.
    Gone,
    /// A directory on the way is one that the host had and has no longer.
    GoneAbove,
    /// Another file system is mounted at or below it.
    Mount,
    /// A part of what would be removed cannot be read, so nobody knows whether it changed.
    Unreadable,
    /// A part of what would be removed was hidden from the jail, which never knew that it was there.
    Hidden,
}

impl Conflict {
    /// For people and for JSON.
    pub fn text(self) -> &'static str {
        match self {
            Conflict::Changed => "changed on the host since the jail started",
            Conflict::ChangedBelow => "something in it changed on the host since the jail started",
            Conflict::Above => "a directory above it is in conflict",
            Conflict::Moved => {
                "its directory was moved there on the host, or got other permissions or times, since the jail started"
            }
            Conflict::Replaced => {
                "its directory was replaced by another one on the host since the jail ended"
            }
            Conflict::Gone => "deleted on the host since the jail started",
            Conflict::GoneAbove => "its directory was deleted on the host since the jail started",
            Conflict::Mount => "another file system is mounted there",
            Conflict::Unreadable => "a part of it cannot be read",
            Conflict::Hidden => "something in it was hidden from the jail",
        }
    }

    /// Whether the user may decide that the jail's version wins.
    pub fn may_be_overridden(self) -> bool {
        match self {
            Conflict::Changed | Conflict::ChangedBelow | Conflict::Moved | Conflict::Replaced => true,
            Conflict::Gone | Conflict::GoneAbove => true,
            Conflict::Above | Conflict::Mount | Conflict::Unreadable | Conflict::Hidden => false,
        }
    }
}

/// A difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Path below the base, raw bytes, no leading `/`.
    pub path: Vec<u8>,
    /// How it differs.
    pub status: Status,
    /// What it is now; what it was, when deleted.
    pub kind: Kind,
    /// What it was on the host, `None` when added.
    pub old_kind: Option<Kind>,
    /// Bytes now, for files.
    pub size: Option<u64>,
    /// Bytes on the host, for files.
    pub old_size: Option<u64>,
    /// Permission bits now (`0o777`), for files and directories.
    pub mode: Option<u32>,
    /// Permission bits on the host.
    pub old_mode: Option<u32>,
    /// Files below a directory that is deleted or replaced.
    pub below: u64,
    /// Target of a link, raw bytes.
    pub target: Option<Vec<u8>>,
    /// The target leads out of the base, or is absolute.
    pub leads_out: bool,
    /// The file has further names in the tree; each is brought back as a file of its own.
    pub hard_links: bool,
    /// It has a setuid, setgid or sticky bit, which is not brought back.
    pub special_bits: bool,
    /// Why the host would execute it, `None` when it would not.
    pub host_executed: Option<&'static str>,
    /// Why it cannot simply be applied.
    pub conflict: Option<Conflict>,
    /// An added directory that has entries: they speak for it.
    pub implied: bool,
}

/// An entry that is not compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Path below the base, raw bytes.
    pub path: Vec<u8>,
    /// Why, for people: `fifo`, `socket`, `device`, `could not be read: …`.
    pub reason: String,
    /// It could not be looked at: there may be changes that nobody knows of.
    pub unknown: bool,
}

/// What to compare.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// When the jail started, on a file system's clock: a host entry whose ctime is later has changed
    /// meanwhile. See the module `diff` for what it must be.
    pub started: Stamp,
    /// Where the base is: absolute, no component of it a link. Empty: not known, and what its git
    /// repository names is not looked for.
    pub base: PathBuf,
    /// Paths below the base to keep to, raw bytes without `.`, `..` or doubled slashes; empty: all.
    pub only: Vec<Vec<u8>>,
    /// The directories of the base that the run had changes in, as they were when it ended.
    pub places: Option<Places>,
    /// What was put on the host from the same tree before: no change of the host's own.
    pub applied: Applied,
    /// What `aj` itself put into the upper layer to hide things from the jail: no changes of the jail's.
    pub hidden: Planted,
    /// The base is the directory that the jail saw, and no other that the changes are brought to.
    pub seen: bool,
    /// The base is itself a git directory, whatever its name.
    pub git_directory: bool,
}

/// Whether `target`, a link at `path`, leads out of the tree, judged by its text alone.
pub(super) fn leads_out(path: &[u8], target: &[u8]) -> bool {
    if target.first() == Some(&b'/') {
        return true;
    }
    let mut depth = path.iter().filter(|b| **b == b'/').count();
    for part in target.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match depth.checked_sub(1) {
                Some(d) => depth = d,
                None => return true,
            },
            _ => depth += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_leads_out_is_told_by_its_text() {
        for (path, target, out) in [
            (&b"l"[..], &b"/etc/passwd"[..], true),
            (b"l", b"x", false),
            (b"l", b"..", true),
            (b"a/l", b"..", false),
            (b"a/l", b"../../x", true),
            (b"a/l", b"b/../../x", false),
            (b"a/l", b"./b//../../../x", true),
        ] {
            assert_eq!(leads_out(path, target), out, "{path:?} -> {target:?}");
        }
    }
}
