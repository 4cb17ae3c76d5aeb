//! Which objects a repository names, and whether a store has one: enough of git's formats for that.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{POINTER_LIMIT, read};
use crate::sys::openat2::{self, For};

/// Longer logs and lists of refs are not read.
const TEXT_LIMIT: usize = 4 << 20;
/// Ids that are looked for.
const MOST: usize = 256;
/// Packs of a store that are looked into.
const PACKS: usize = 1_000;

/// Ids, in hexadecimal, that the repository names: where it stands, where it began, what it fetched.
/// Each costs a look into every pack of a store, so there are few.
pub(super) fn named(own: &Path, common: &Path) -> Vec<Vec<u8>> {
    let mut ids: Vec<Vec<u8>> = Vec::new();
    let mut add = |text: &[u8]| {
        if is_id(text) && ids.len() < MOST && !ids.iter().any(|known| known == text) {
            ids.push(text.to_vec());
        }
    };
    let text = |path: &Path, limit| read(path, limit).ok().flatten();
    let head = text(&own.join("HEAD"), POINTER_LIMIT).unwrap_or_default();
    match head.trim_ascii().strip_prefix(b"ref: ") {
        None => add(head.trim_ascii()),
        Some(name) if name.starts_with(b"refs/") && !name.windows(2).any(|w| w == b"..") => {
            let path = common.join(Path::new(OsStr::from_bytes(name)));
            add(text(&path, POINTER_LIMIT).unwrap_or_default().trim_ascii());
        }
        Some(_) => {}
    }
    let log = text(&own.join("logs/HEAD"), TEXT_LIMIT).unwrap_or_default();
    // Old and new id: what it began with is the newest that may be borrowed.
    for line in log.split(|b| *b == b'\n').take(4) {
        line.split(|b| *b == b' ').take(2).for_each(&mut add);
    }
    let packed = text(&common.join("packed-refs"), TEXT_LIMIT).unwrap_or_default();
    let lines: Vec<&[u8]> = packed.split(|b| *b == b'\n').collect();
    // Of many, some of each kind: old tags may be what is borrowed, and they stand together.
    for line in lines.iter().step_by(lines.len() / MOST + 1) {
        add(line.split(|b| *b == b' ').next().unwrap_or_default());
    }
    ids
}

fn is_id(text: &[u8]) -> bool {
    let zero = text.iter().all(|b| *b == b'0');
    matches!(text.len(), 40 | 64) && !zero && text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether the store `objects` has the object `id` itself.
pub(super) fn has(objects: &Path, id: &[u8]) -> bool {
    let Some((first, rest)) = id.split_at_checked(2) else { return false };
    let loose = objects.join(OsStr::from_bytes(first)).join(OsStr::from_bytes(rest));
    if loose.symlink_metadata().is_ok_and(|m| m.is_file()) {
        return true;
    }
    let Some(raw) = unhex(id) else { return false };
    let Ok(packs) = std::fs::read_dir(objects.join("pack")) else { return false };
    let indexes = packs.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "idx"));
    indexes.take(PACKS).any(|path| in_pack(&path, &raw).unwrap_or(false))
}

fn unhex(id: &[u8]) -> Option<Vec<u8>> {
    let digit = |b: &u8| char::from(*b).to_digit(16);
    id.chunks_exact(2)
        .map(|pair| u8::try_from(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?).ok())
        .collect()
}

/// Look `id` up in the index of a pack (version 2): a table of how many ids begin with which byte at
/// most, then the ids in order.
pub(super) fn in_pack(index: &Path, id: &[u8]) -> Option<bool> {
    const HEAD: &[u8] = b"\xfftOc\0\0\0\x02";
    const IDS: u64 = 8 + 256 * 4;
    let file: File = openat2::absolute(index.as_os_str().as_bytes(), For::Reading).ok()?.into();
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut head = [0; HEAD.len()];
    file.read_exact_at(&mut head, 0).ok()?;
    if head != *HEAD {
        return None;
    }
    let count = |byte: u8| {
        let mut number = [0; 4];
        file.read_exact_at(&mut number, 8 + u64::from(byte) * 4).ok()?;
        Some(u64::from(u32::from_be_bytes(number)))
    };
    let first = *id.first()?;
    let mut low = if first == 0 { 0 } else { count(first - 1)? };
    let mut high = count(first)?;
    let mut found = vec![0; id.len()];
    while low < high {
        let middle = low + (high - low) / 2;
        file.read_exact_at(&mut found, IDS + middle * id.len() as u64).ok()?;
        match found.as_slice().cmp(id) {
            std::cmp::Ordering::Equal => return Some(true),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    Some(false)
}
