//! The table of mounts of this process, from `/proc/self/mountinfo`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Its number.
    pub(super) id: u64,
    /// The file system, as `major:minor`.
    pub(super) device: Vec<u8>,
    /// What part of the file system is shown.
    pub(super) root: PathBuf,
    /// Where.
    pub(super) at: PathBuf,
    /// Type of the file system: `ext4`, `fuse.sshfs`.
    pub(super) kind: String,
    /// Whether this mount is read-only.
    pub(super) read_only: bool,
}

/// Parse the file. Lines that are not understood are left out.
pub(super) fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|b| *b == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|b| *b == b' ');
    // id, parent, device, root, mount point, options, optional fields …, `-`, type, source, options
    let id = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    let device = words.nth(1)?.to_owned();
    let root = unescape(words.next()?);
    let at = unescape(words.next()?);
    let read_only = words.next()?.split(|b| *b == b',').any(|o| o == b"ro");
    let kind = words.skip_while(|w| *w != b"-").nth(1)?;
    Some(Mount {
        id,
        device,
        root: root.into(),
        at: at.into(),
        kind: String::from_utf8_lossy(kind).into_owned(),
        read_only,
    })
}

/// The kernel writes blank, tab, line feed and backslash as `\040` and so on.
pub(super) fn unescape(word: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let code = match (first, after.get(..3)) {
            (b'\\', Some(d)) if d.iter().all(|c| (b'0'..=b'7').contains(c)) => {
                Some(d.iter().fold(0u32, |n, c| n * 8 + u32::from(c - b'0')) as u8)
            }
            _ => None,
        };
        out.push(code.unwrap_or(*first));
        rest = if code.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    OsString::from_vec(out)
}

/// The mount that an absolute path without links lies in: of those over it the deepest, and of
/// several at one place the last.
pub(super) fn of<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    mounts
        .iter()
        .enumerate()
        .filter(|(_, m)| path.starts_with(&m.at))
        .max_by_key(|(i, m)| (m.at.as_os_str().as_bytes().len(), *i))
        .map(|(_, m)| m)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
25 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 25 0:26 / /proc rw,nosuid - proc proc rw
31 30 0:27 / /proc/kcore ro master:1 propagate_from:2 - tmpfs tmpfs rw
40 25 0:40 /sub /home/a\\040b rw - fuse.sshfs x:\\134 rw
41 25 0:41 / /home/a\\040b ro,nodev - nfs4 y rw
broken line
";

    #[test]
    fn the_deepest_and_last_mount_owns_a_path() {
        let mounts = parse(TEXT.as_bytes());
        assert_eq!(mounts.len(), 5);
        let kind = |p: &str| of(&mounts, Path::new(p)).map(|m| (m.kind.as_str(), m.read_only));
        assert_eq!(kind("/etc/passwd"), Some(("ext4", false)));
        assert_eq!(kind("/home/a b/c"), Some(("nfs4", true)));
        assert_eq!(kind("/home/a bc"), Some(("ext4", false)));
        assert_eq!(kind("/proc/kcore"), Some(("tmpfs", true)));
        assert_eq!(mounts.get(3).map(|m| m.root.as_path()), Some(Path::new("/sub")));
        assert_eq!(kind("relative"), None);
    }

    #[test]
    fn only_whole_escapes_are_undone() {
        assert_eq!(unescape(b"a\\040\\011\\134\\9\\04"), "a \t\\\\9\\04");
    }
}
