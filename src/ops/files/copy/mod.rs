//! `aj cp`: between the host and a tree.
//!
//! Out of a tree (see [`out`]) nothing is written through a link: every file is made beside its place and
//! renamed into it, and a directory in the way has to be one. Into a tree (see [`into`]) things go as the
//! jail would have made them. Both sides can be a tar stream (see [`stream`]).

use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::{Error, Result, Target, failed, format};
use crate::schema::files::{Copied, Failed};

pub mod into;
pub mod out;
mod sparse;
pub mod stream;

/// What is sent of an open file of the host's, and its size, when it has holes that are not to be sent.
pub(in crate::ops::files) struct Holes(sparse::Map);

impl Holes {
    /// `None`: it has none.
    pub(in crate::ops::files) fn of(file: &std::fs::File) -> crate::sys::Result<Option<Holes>> {
        let meta = crate::sys::at::fstat(file)?;
        let some = meta.kind == crate::sys::at::FileKind::File && meta.size > meta.allocated;
        if some { sparse::Map::of(file, meta.size).map(|map| Some(Holes(map))) } else { Ok(None) }
    }

    /// The size of the whole.
    pub(in crate::ops::files) fn size(&self) -> u64 {
        self.0.size
    }

    /// Its map and its data.
    pub(in crate::ops::files) fn sending<'a>(&'a self, file: &'a std::fs::File) -> impl std::io::Read + 'a {
        self.0.sending(file)
    }
}

/// Lines of reports at most.
const LINES: usize = 1000;

/// Bytes of a member's path at most: what the kernel takes in one call. A longer one could be made name by name, and
/// nobody could open by its path what is there. Above all, what moves a directory to its place looks at all that it
/// lies in: the 500 000 directories that a name of 1 MiB has room for would take hours.
const LONGEST_PATH: usize = nix::libc::PATH_MAX as usize - 1;

/// A name of a stream as a path below a directory, or why it is none.
fn sound(name: &[u8]) -> std::result::Result<Vec<u8>, &'static str> {
    let components: Vec<&[u8]> = name.split(|b| *b == b'/').filter(|c| !matches!(*c, b"" | b".")).collect();
    let path = components.join(&b'/');
    match () {
        () if components.contains(&&b".."[..]) => Err("its name leads out of the directory"),
        () if path.len() > LONGEST_PATH || components.iter().any(|c| c.len() > 255) => {
            Err("its name is longer than a path can be")
        }
        () if path.contains(&0) => Err("its name has a zero in it"),
        () => Ok(path),
    }
}

/// How to copy.
#[derive(Debug)]
pub struct Options {
    /// Directories with what is in them.
    pub recursive: bool,
    /// Leave what is there as it is.
    pub no_clobber: bool,
    /// Permission bits of files, instead of those that they have.
    pub mode: Option<u32>,
    /// Patterns as they were given.
    pub exclude: Vec<String>,
    /// A tar stream has times to the nanosecond: what reads it is this program.
    exact: bool,
    excluded: Gitignore,
}

impl Options {
    /// With patterns of what is left out, as in a `.gitignore` at the top of what is copied.
    pub fn new(recursive: bool, no_clobber: bool, mode: Option<u32>, exclude: &[String]) -> Result<Options> {
        let mut excluded = GitignoreBuilder::new("");
        for pattern in exclude {
            let bad = |e: ignore::Error| Error::Asked(format!("`--exclude {pattern}` is no pattern: {e}"));
            excluded.add_line(None, pattern).map_err(bad)?;
        }
        let bad = |e: ignore::Error| Error::Asked(format!("the patterns of `--exclude` are too much: {e}"));
        let excluded = excluded.build().map_err(bad)?;
        Ok(Options { recursive, no_clobber, mode, exclude: exclude.to_vec(), exact: false, excluded })
    }

    /// The same for a tar stream that this program reads.
    pub(in crate::ops::files) fn exact(&self) -> Result<Options> {
        let same = Options::new(self.recursive, self.no_clobber, self.mode, &self.exclude)?;
        Ok(Options { exact: true, ..same })
    }

    /// Whether a directory on the way is left out.
    fn excludes_above(&self, path: &[u8]) -> bool {
        let slashes = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i);
        slashes.into_iter().any(|end| self.excludes(path.get(..end).unwrap_or_default(), true))
    }

    fn excludes(&self, path: &[u8], is_dir: bool) -> bool {
        use std::os::unix::ffi::OsStrExt;
        self.excluded.matched(Path::new(std::ffi::OsStr::from_bytes(path)), is_dir).is_ignore()
    }
}

/// What was done so far.
#[derive(Debug)]
pub(in crate::ops::files) struct Sum(pub(in crate::ops::files) Copied);

impl Sum {
    pub(in crate::ops::files) fn new(target: &Target, direction: &'static str) -> Sum {
        Sum(Copied {
            format_version: format(),
            target: target.name.clone(),
            direction: direction.into(),
            files: 0,
            directories: 0,
            links: 0,
            bytes: 0,
            leading_out: 0,
            skipped: Vec::new(),
            failed: Vec::new(),
            truncated: 0,
        })
    }

    fn skip(&mut self, path: &[u8], reason: impl std::fmt::Display) {
        let line = failed(path, reason);
        push(&mut self.0.skipped, line, &mut self.0.truncated);
    }

    fn fail(&mut self, path: &[u8], reason: impl std::fmt::Display) {
        let line = failed(path, reason);
        push(&mut self.0.failed, line, &mut self.0.truncated);
    }

    /// A link at `path` below what is copied was made.
    fn link(&mut self, path: &[u8], target: &[u8]) {
        self.0.links += 1;
        self.0.leading_out += u64::from(leads_out(path, target));
    }
}

fn push(lines: &mut Vec<Failed>, line: Failed, truncated: &mut u64) {
    if lines.len() < LINES { lines.push(line) } else { *truncated += 1 }
}

/// Whether the link at `path` leads out of the directory that paths begin in, judged by its text.
fn leads_out(path: &[u8], target: &[u8]) -> bool {
    if target.first() == Some(&b'/') {
        return true;
    }
    let mut depth = path.iter().filter(|b| **b == b'/').count();
    for component in target.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." if depth == 0 => return true,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

/// Why an entry of this kind is not copied.
fn special(meta: &crate::sys::at::Meta) -> String {
    format!("is {}", crate::workspace::view::noun(meta))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_judged_from_where_they_lie() {
        for (path, target, out) in [
            ("l", "f", false),
            ("l", "../f", true),
            ("a/l", "../f", false),
            ("a/l", "../../f", true),
            ("a/l", "b/../../f", false),
            ("a/l", "/f", true),
            ("a/l", "", false),
        ] {
            assert_eq!(leads_out(path.as_bytes(), target.as_bytes()), out, "{path} -> {target}");
        }
    }

    #[test]
    fn names_of_streams_are_paths_that_somebody_can_open() {
        let most = [&b"d/".repeat(2047)[..], b"f"].concat();
        assert_eq!(sound(&most).as_ref(), Ok(&most), "4095 bytes");
        assert_eq!(sound(&[b"./", &most[..], b"//."].concat()), Ok(most.clone()));
        for (name, why) in [
            ([b"d/", &most[..]].concat(), "longer"),
            (b"d/".repeat(100_000), "longer"),
            (vec![b'n'; 256], "longer"),
            ([&b"d/".repeat(100_000)[..], b".."].concat(), "out of"),
            (b"a\0b".to_vec(), "zero"),
        ] {
            assert!(sound(&name).unwrap_err().contains(why), "{why}");
        }
    }

    #[test]
    fn patterns_are_those_of_gitignore() {
        let lines = ["*.log", "/top", "dir/", "!keep.log"].map(str::to_owned);
        let options = Options::new(true, false, None, &lines).unwrap();
        for (path, is_dir, out) in [
            ("a.log", false, true),
            ("deep/a.log", false, true),
            ("deep/keep.log", false, false),
            ("top", false, true),
            ("deep/top", false, false),
            ("dir", true, true),
            ("dir", false, false),
        ] {
            assert_eq!(options.excludes(path.as_bytes(), is_dir), out, "{path}");
        }
        assert!(options.excludes(b"\xff.log", false), "names need not be text");
        assert!(Options::new(true, false, None, &["a{b".to_owned()]).is_err());
    }
}
