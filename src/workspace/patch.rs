//! Changes as a patch that `git apply` and `patch -p1` take.
//!
//! Contents come from a jail: they go into the patch as they are, and never decide its form. A name with
//! anything but plain printable ASCII is quoted as git quotes it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use similar::{Algorithm, TextDiff};

use crate::sys::at::{self, FileKind};
use crate::sys::openat2::{self, For};
use crate::sys::{Error, Result};

/// Files larger than this, in bytes, are shown as binary ones are: by name.
pub const LARGEST: u64 = 16 << 20;
/// Looked at for a NUL byte, which makes a file binary; git's number.
const LOOKED_AT: usize = 8000;
/// After this long a comparison is no longer the shortest one. Hostile files can make that take for ever.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is at a path on one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As git has it: `0o100644`, `0o100755` or `0o120000` (a link, with its target as content).
    pub mode: u32,
    /// `None`: too large to be compared.
    pub content: Option<Vec<u8>>,
}

impl Entry {
    fn is_binary(&self) -> bool {
        self.content.as_ref().is_none_or(|bytes| bytes.iter().take(LOOKED_AT).any(|b| *b == 0))
    }
}

/// The file or link at `path` below `dir`, reached through no link. `None`: nothing that a patch can hold
/// is there.
pub fn read(dir: impl AsFd, path: &[u8]) -> Result<Option<Entry>> {
    let (above, name) = match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&b"."[..], path),
    };
    let above = match openat2::beneath(dir, above, For::Passing) {
        Err(e) if is_absent(&e) => return Ok(None),
        above => above?,
    };
    let Some(meta) = at::stat_opt(&above, name)? else { return Ok(None) };
    match meta.kind {
        FileKind::Symlink => Ok(Some(Entry { mode: 0o120_000, content: Some(at::read_link(&above, name)?) })),
        FileKind::File => {
            let mode = if meta.mode & 0o100 != 0 { 0o100_755 } else { 0o100_644 };
            if meta.size > LARGEST {
                return Ok(Some(Entry { mode, content: None }));
            }
            let file = File::from(openat2::beneath(&above, name, For::Reading)?);
            let mut content = Vec::new();
            // It may grow while it is read.
            let read = file.take(LARGEST + 1).read_to_end(&mut content);
            read.map_err(|e| {
                let errno = nix::errno::Errno::from_raw(e.raw_os_error().unwrap_or(nix::libc::EIO));
                Error::new("read", crate::base::text::printable(path), errno)
            })?;
            let whole = content.len() as u64 <= LARGEST;
            Ok(Some(Entry { mode, content: whole.then_some(content) }))
        }
        _ => Ok(None),
    }
}

fn is_absent(e: &Error) -> bool {
    use nix::errno::Errno;
    matches!(e.errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP)
}

/// Append what turns `old` into `new` at `path`. Nothing when they are the same.
pub fn append(to: &mut Vec<u8>, path: &[u8], old: Option<&Entry>, new: Option<&Entry>) {
    match (old, new) {
        // One kind cannot be turned into another: the one goes, the other comes.
        (Some(a), Some(b)) if (a.mode == 0o120_000) != (b.mode == 0o120_000) => {
            append(to, path, old, None);
            append(to, path, None, new);
        }
        (None, None) => {}
        (Some(a), Some(b)) if a == b && a.content.is_some() => {}
        _ => difference(to, path, old, new),
    }
}

fn difference(to: &mut Vec<u8>, path: &[u8], old: Option<&Entry>, new: Option<&Entry>) {
    let (a, b) = (name(b"a/", path), name(b"b/", path));
    line(to, &[b"diff --git ", &a, b" ", &b]);
    match (old, new) {
        (None, Some(new)) => line(to, &[format!("new file mode {:o}", new.mode).as_bytes()]),
        (Some(old), None) => line(to, &[format!("deleted file mode {:o}", old.mode).as_bytes()]),
        (Some(old), Some(new)) if old.mode != new.mode => {
            line(to, &[format!("old mode {:o}", old.mode).as_bytes()]);
            line(to, &[format!("new mode {:o}", new.mode).as_bytes()]);
        }
        _ => {}
    }
    let from = if old.is_some() { a } else { b"/dev/null".to_vec() };
    let into = if new.is_some() { b } else { b"/dev/null".to_vec() };
    if [old, new].into_iter().flatten().any(Entry::is_binary) {
        if old.map(|e| &e.content) != new.map(|e| &e.content) || old.is_some_and(|e| e.content.is_none()) {
            line(to, &[b"Binary files ", &from, b" and ", &into, b" differ"]);
        }
        return;
    }
    let bytes = |e: Option<&Entry>| e.and_then(|e| e.content.clone()).unwrap_or_default();
    let (old, new) = (bytes(old), bytes(new));
    if old == new {
        return;
    }
    // A name with a blank is ended by a tab, as git does, so that `patch` takes no date for a part of it.
    let end: &[u8] = if path.contains(&b' ') { b"\t" } else { b"" };
    line(to, &[b"--- ", &from, if from == b"/dev/null" { b"" } else { end }]);
    line(to, &[b"+++ ", &into, if into == b"/dev/null" { b"" } else { end }]);
    let diff = TextDiff::configure()
        .algorithm(Algorithm::Myers)
        .timeout(PATIENCE)
        .diff_lines(old.as_slice(), new.as_slice());
    // A vector takes everything.
    drop(diff.unified_diff().context_radius(3).to_writer(&mut *to));
}

fn line(to: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        to.extend_from_slice(part);
    }
    to.push(b'\n');
}

/// A name as git writes it: quoted as in C when there is anything in it that could be mistaken.
fn name(prefix: &[u8], path: &[u8]) -> Vec<u8> {
    let plain = path.iter().all(|b| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\'));
    if plain {
        return [prefix, path].concat();
    }
    let mut quoted = vec![b'"'];
    quoted.extend_from_slice(prefix);
    for b in path {
        match b {
            b'"' | b'\\' => quoted.extend_from_slice(&[b'\\', *b]),
            b'\n' => quoted.extend_from_slice(b"\\n"),
            b'\t' => quoted.extend_from_slice(b"\\t"),
            b' '..=b'~' => quoted.push(*b),
            // A vector takes everything.
            _ => drop(write!(quoted, "\\{b:03o}")),
        }
    }
    quoted.push(b'"');
    quoted
}

#[cfg(test)]
#[path = "patch_tests.rs"]
mod tests;
