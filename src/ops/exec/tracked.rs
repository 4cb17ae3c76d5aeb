//! Secrets that git has in its index: what is hidden is deleted, or empty, to git inside.

use std::path::{Path, PathBuf};

use crate::base::text;
use crate::jail::spec::Spec;
use crate::ops::repository;
use crate::ops::secrets::{Kind, Secrets};

/// A longer index is not looked at.
const LIMIT: usize = 16 << 20;
/// Names that are looked for: each takes a look through all of it.
const MOST: usize = 8;
/// Longer `.git` files are none.
const POINTER: usize = 4096;
/// Names in the line.
const NAMES: usize = 3;
/// Bytes of an index before its first entry, and of an entry before its name.
const HEADER: usize = 12;
const BEFORE_NAME: usize = 62;

/// A line for a run in whose repository that matters. Looked for when the command has ended: nobody waits
/// for what is only said.
pub(super) fn line(spec: &Spec, secrets: &Secrets) -> Option<String> {
    let whole = secrets.found.iter().filter(|s| !matches!(s.kind, Kind::Part(_)));
    let names: Vec<(&[u8], bool)> = whole
        .map(|s| (s.path.as_slice(), s.kind == Kind::Directory))
        .filter(|(path, _)| path.first() != Some(&b'/') && !path.starts_with(b".git/"))
        .take(MOST)
        .collect();
    if names.is_empty() {
        return None;
    }
    let index = repository::read_file(&index_of(&spec.workspace)?, LIMIT)?;
    let tracked: Vec<&[u8]> = names.iter().filter(|(p, dir)| has(&index, p, *dir)).map(|(p, _)| *p).collect();
    let first = tracked.first()?;
    let shown: Vec<String> =
        tracked.iter().take(NAMES).map(|p| format!("`{}`", text::printable(p))).collect();
    let more = match tracked.len().saturating_sub(NAMES) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    Some(format!(
        "git tracks {}{more}: hidden, it is a change to git inside, which `git commit -a` commits and `git rebase` \
         stops at (`--show {}` shows it)",
        shown.join(", "),
        text::printable(first)
    ))
}

/// The index of the working tree `tree`.
fn index_of(tree: &Path) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let git = tree.join(".git");
    let meta = git.symlink_metadata().ok()?;
    if meta.is_file() {
        let text = repository::read_file(&git, POINTER)?;
        let to = text.strip_prefix(b"gitdir: ")?.trim_ascii_end();
        return Some(tree.join(std::ffi::OsStr::from_bytes(to)).join("index"));
    }
    Some(std::fs::canonicalize(git).ok()?.join("index"))
}

/// Whether an index has an entry for the file `path`, or one below the directory. In version 4, which
/// leaves out what names have in common, some are not found.
fn has(index: &[u8], path: &[u8], directory: bool) -> bool {
    let mut from = HEADER + BEFORE_NAME;
    while let Some(at) =
        index.get(from..).and_then(|rest| rest.windows(path.len()).position(|w| w == path)).map(|i| from + i)
    {
        from = at + 1;
        // The twelve lower bits of the flags are the length of the name; bits beyond say that the file
        // need not be there (`skip-worktree` makes the flags longer), or that it is taken as unchanged.
        let flags = index.get(at - 2..at).map_or(0, |f| usize::from(f[0]) << 8 | usize::from(f[1]));
        let (length, assumed) = (flags & 0xfff, flags & 0x8000 != 0);
        let fits = match index.get(at + path.len()) {
            Some(0) => !directory && length == path.len(),
            Some(b'/') => directory && length > path.len(),
            _ => false,
        };
        if fits && !assumed {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_whole_names() {
        let entry = |name: &str, flags: usize| {
            let mut bytes = vec![7; BEFORE_NAME - 2];
            bytes.extend([(flags >> 8) as u8, flags as u8]);
            bytes.extend(name.as_bytes());
            bytes.push(0);
            bytes
        };
        let plain = |name: &str| entry(name, name.len());
        let index = |entries: &[Vec<u8>]| [vec![0; HEADER], entries.concat()].concat();
        let all = index(&[plain("a/.env"), plain(".env"), plain("keys/x"), entry("id_x", 0x8004)]);
        assert!(has(&all, b".env", false) && has(&all, b"keys", true));
        assert!(!has(&all, b"keys", false) && !has(&all, b"id_x", false) && !has(&all, b"env", false));
        assert!(!has(&index(&[plain("a/.env")]), b".env", false));
        assert!(!has(b"", b".env", false) && !has(&[0; 80], b".env", false));
    }
}
