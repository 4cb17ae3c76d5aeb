//! What `.gitignore`, `.ignore` and `.git/info/exclude` say.
//!
//! They are files of the jail's: read through the view, bounded, and handed to the `ignore` crate as lines.
//! Its own way of finding and reading them, by path, is not used.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::workspace::view::{Dir, Stack};

/// Bytes of one file that are looked at.
const MOST: u64 = 1 << 20;
/// Lines of one file that are looked at, and bytes of one line.
const LINES: usize = 10_000;
const LONGEST: usize = 4096;

/// The rules of the directories on the way.
#[derive(Debug, Default)]
pub(super) struct Ignored {
    /// Of each level: where its path ends, and its rules.
    levels: Vec<(usize, Gitignore)>,
}

impl Ignored {
    /// Go into `dir`, whose path has so many bytes. What could not be used is told.
    pub(super) fn enter(&mut self, dir: &Dir, stack: &Stack, end: usize, say: &mut dyn FnMut(&str)) {
        let mut builder = GitignoreBuilder::new("");
        let mut lines = 0;
        if self.levels.is_empty() {
            let exclude = dir.enter(stack, b".git").and_then(|git| git.enter(stack, b"info"));
            if let Ok(info) = exclude {
                read(&info, b"exclude", &mut builder, &mut lines, say);
            }
        }
        // Later lines win, so what is meant for more than git comes last.
        for name in [&b".gitignore"[..], b".ignore"] {
            read(dir, name, &mut builder, &mut lines, say);
        }
        let rules = if lines == 0 { Ok(Gitignore::empty()) } else { builder.build() };
        let rules = rules.unwrap_or_else(|e| {
            say(&format!("the rules are too much together: {e}"));
            Gitignore::empty()
        });
        self.levels.push((end, rules));
    }

    /// Leave the directory entered last.
    pub(super) fn leave(&mut self) {
        self.levels.pop();
    }

    /// Whether the entry at `path` is ignored.
    pub(super) fn ignores(&self, path: &[u8], is_dir: bool) -> bool {
        for (end, rules) in self.levels.iter().rev() {
            let below = path.get(*end..).unwrap_or_default();
            let below = below.strip_prefix(b"/").unwrap_or(below);
            match rules.matched(Path::new(OsStr::from_bytes(below)), is_dir) {
                Match::None => {}
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
            }
        }
        false
    }
}

fn read(dir: &Dir, name: &[u8], into: &mut GitignoreBuilder, lines: &mut usize, say: &mut dyn FnMut(&str)) {
    let Ok(fd) = dir.open(name) else { return };
    let mut bytes = Vec::new();
    if File::from(fd).take(MOST).read_to_end(&mut bytes).is_err() {
        return;
    }
    let mut bad = 0u64;
    for line in bytes.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        *lines += 1;
        if *lines > LINES {
            bad += 1;
            break;
        }
        // A pattern that is no text matches no name that is; such names are not ignored then.
        match std::str::from_utf8(line) {
            Ok(line) if line.len() <= LONGEST => bad += u64::from(into.add_line(None, line).is_err()),
            _ => bad += 1,
        }
    }
    if bad > 0 || bytes.len() as u64 == MOST {
        say(&format!("`{}` has lines that are no patterns, or too many", crate::base::text::printable(name)));
    }
}
