//! What a long walk saw, kept in the state directory: of each directory the names that matter, as long
//! as its ctime, which no program can set, says that no name came or went.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Dir;
use crate::policy::hide::Rules;
use crate::store::atomic::{self, Durability};
use crate::sys::at::{self, Meta, Stamp};

const HEAD: &[u8] = b"aj-walk 1\n";
/// Bytes of a file at most: a larger answer is not kept.
const LIMIT: usize = 16 << 20;
/// Trees whose answers are kept.
const TREES: usize = 32;
/// A directory that changed less long before it was read may have changed again within one tick of the
/// file system's clock.
const SETTLED: i64 = 2;

/// Names, and whether each is a directory.
pub(super) type Listing = Vec<(Vec<u8>, bool)>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    ino: u64,
    ctime: Stamp,
    names: Listing,
}

/// The answers about one tree.
#[derive(Debug)]
pub(super) struct Cache {
    dir: File,
    file: String,
    key: [u8; 32],
    known: HashMap<Vec<u8>, Known>,
    seen: HashMap<Vec<u8>, Known>,
    now: i64,
    changed: bool,
}

impl Cache {
    /// Those about the tree at `root`, for these patterns. `None`: nothing can be kept, or times mean
    /// nothing there.
    pub(super) fn open(
        state: &Path,
        root: &Path,
        top: Dir<'_>,
        rules: &Rules,
        start: &[Vec<u8>],
    ) -> Option<Cache> {
        if !at::keeps_identities(top) {
            return None;
        }
        let home = state.join("walks");
        match std::fs::create_dir(&home) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return None,
            _ => {}
        }
        let dir = File::open(home).ok()?;
        let own = at::fstat(top).ok()?;
        let mut hash = blake3::Hasher::new();
        let mut put = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        put(root.as_os_str().as_bytes());
        put(format!("{:?}", own.identity()).as_bytes());
        rules.hide.iter().for_each(|(pattern, _)| put(pattern.text.as_bytes()));
        put(&[u8::from(rules.custom)]);
        start.iter().for_each(|part| put(part));
        let key = *hash.finalize().as_bytes();
        let name = blake3::hash(root.as_os_str().as_bytes()).to_hex();
        let file = name.get(..16)?.to_owned();
        let bytes = atomic::read(&dir, &file, LIMIT as u64 + 1).ok().flatten();
        let known = bytes.and_then(|b| decode(&b, &key)).unwrap_or_default();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
        let now = i64::try_from(now).ok()?;
        Some(Cache { dir, file, key, known, seen: HashMap::new(), now, changed: false })
    }

    /// What was seen in the directory, if it is as it was.
    pub(super) fn listing(&mut self, path: &[u8], dir: Dir<'_>) -> Option<Listing> {
        let (known, now) = (self.known.remove(path)?, at::fstat(dir).ok()?);
        if (known.ino, known.ctime) != (now.ino, now.ctime) {
            return None;
        }
        let names = known.names.clone();
        self.seen.insert(path.to_vec(), known);
        Some(names)
    }

    /// Keep what was seen in the directory, which looked like `before` before it was read.
    pub(super) fn note(&mut self, path: &[u8], before: &Meta, names: Listing) {
        if before.ctime.sec <= self.now - SETTLED {
            self.changed = true;
            self.seen.insert(path.to_vec(), Known { ino: before.ino, ctime: before.ctime, names });
        }
    }

    /// Write it, if there is anything new. Failing is no loss.
    pub(super) fn keep(self) {
        if !self.changed && self.known.is_empty() {
            return;
        }
        let bytes = encode(&self.seen, &self.key);
        if bytes.len() <= LIMIT {
            make_room(&self.dir, &self.file);
            atomic::write(&self.dir, &self.file, &bytes, Durability::Cache).ok();
        }
    }
}

/// Forget all trees when there are too many: the cache is small, and made again at the next walk.
fn make_room(dir: &File, file: &str) {
    let mut names = Vec::new();
    if at::each_name(dir, |name| names.push(name.to_vec())).is_ok() && names.len() >= TREES {
        names.iter().filter(|n| n.as_slice() != file.as_bytes()).for_each(|n| drop(at::remove_file(dir, n)));
    }
}

fn encode(seen: &HashMap<Vec<u8>, Known>, key: &[u8; 32]) -> Vec<u8> {
    let mut out = [HEAD, key].concat();
    let text = |out: &mut Vec<u8>, bytes: &[u8]| {
        out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(bytes);
    };
    for (path, known) in seen {
        text(&mut out, path);
        out.extend_from_slice(&known.ino.to_le_bytes());
        out.extend_from_slice(&known.ctime.sec.to_le_bytes());
        out.extend_from_slice(&known.ctime.nsec.to_le_bytes());
        out.extend_from_slice(&u32::try_from(known.names.len()).unwrap_or(u32::MAX).to_le_bytes());
        for (name, directory) in &known.names {
            out.push(u8::from(*directory));
            text(&mut out, name);
        }
    }
    let sum = blake3::hash(&out);
    out.extend_from_slice(sum.as_bytes());
    out
}

fn decode(bytes: &[u8], key: &[u8; 32]) -> Option<HashMap<Vec<u8>, Known>> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if blake3::hash(body).as_bytes() != sum {
        return None;
    }
    let mut rest = body.strip_prefix(HEAD)?.strip_prefix(key)?;
    let mut known = HashMap::new();
    while !rest.is_empty() {
        let path = text(&mut rest)?;
        let ino = u64::from_le_bytes(*take(&mut rest)?);
        let ctime =
            Stamp { sec: i64::from_le_bytes(*take(&mut rest)?), nsec: u32::from_le_bytes(*take(&mut rest)?) };
        let mut names = Vec::new();
        for _ in 0..u32::from_le_bytes(*take(&mut rest)?) {
            let [directory] = *take(&mut rest)?;
            names.push((text(&mut rest)?, directory != 0));
        }
        known.insert(path, Known { ino, ctime, names });
    }
    Some(known)
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(head)
}

fn text(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let length = u32::from_le_bytes(*take(rest)?);
    let (head, tail) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let bytes = head.to_vec();
    *rest = tail;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_back_and_nothing_else() {
        let names = vec![(b"a\n\xff".to_vec(), true), (b"".to_vec(), false)];
        let known = Known { ino: 7, ctime: Stamp { sec: -1, nsec: 9 }, names };
        let all =
            HashMap::from([(b"x/y".to_vec(), known.clone()), (Vec::new(), Known { names: vec![], ..known })]);
        let bytes = encode(&all, &[1; 32]);
        assert_eq!(decode(&bytes, &[1; 32]), Some(all));
        assert_eq!(decode(&bytes, &[2; 32]), None, "for other patterns");
        for at in 0..bytes.len() {
            assert_eq!(decode(&bytes[..at], &[1; 32]), None);
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(decode(&bad, &[1; 32]), None, "{at}");
        }
    }
}
