//! Secrets in the tree: what is hidden from a jail, found before it starts.
//!
//! What is looked for and why is in [`crate::policy::hide`]. It is looked for once: a file that the host
//! makes later is seen by the jail. Everything found is named by its path; other names of the same file
//! (hard links) are not looked for.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::base::text::{self, printable};
use crate::policy::hide::{Glob, Pattern, Rules};
use crate::policy::resolve::Resolved;
use crate::schema::policy::Hidden;
use crate::sys;
use crate::sys::at::Meta;

mod cache;
mod git;
mod look;
mod place;
mod walk;

pub use git::{rest, split};
pub use place::Placed;

/// Things that are hidden in one tree: each is an inode to make or a mount.
pub const MOST: usize = 1000;
/// Names that the line for people has room for.
const NAMED: usize = 5;

/// One of them.
#[derive(Debug, Clone)]
pub struct Secret {
    /// Below the root, raw bytes; in a part of the project that lies elsewhere, absolute.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// What it is on the host.
    pub meta: Meta,
    /// The pattern that hides it; `None`: custom.
    pub by: Option<String>,
}

impl Secret {
    /// The same, found in `dir`, by its absolute path.
    fn in_directory(self, dir: &Path) -> Secret {
        Secret { path: [dir.as_os_str().as_bytes(), b"/", &self.path].concat(), ..self }
    }
}

/// What is hidden, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Anything but a directory.
    File,
    /// A directory with all that is in it.
    Directory,
    /// Only a part of it: this is shown instead.
    Part(Vec<u8>),
}

/// All that was found.
#[derive(Debug, Default)]
pub struct Secrets {
    /// Sorted by path, none below another.
    pub found: Vec<Secret>,
    /// Worth a line on stderr.
    pub warnings: Vec<String>,
    /// What it was found by.
    rules: Rules,
    start: Vec<Vec<u8>>,
}

/// Why a tree is not shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More than can be hidden.
    #[error("more than {MOST} names in `{}` are to be hidden, the first of them `{}`", text::os(.root), printable(.first))]
    TooMany {
        /// The tree.
        root: PathBuf,
        /// One of the names.
        first: Vec<u8>,
    },
    /// The walk went too far.
    #[error("what `{}` has to hide could not be looked for to the end: {why}", text::os(.root))]
    Cut {
        /// The tree.
        root: PathBuf,
        /// How far it went.
        why: String,
        /// The pattern that it was for.
        pattern: Option<String>,
    },
    /// A directory that is asked for lies in what is hidden.
    #[error("`{}` lies in `{}`, which is hidden", text::os(.path), printable(.hidden))]
    Within {
        /// The directory of `--ro` or `--rw`.
        path: PathBuf,
        /// What is hidden.
        hidden: Vec<u8>,
    },
    /// The tree could not be looked at.
    #[error("could not look for secrets in `{}`", text::os(.root))]
    Sys {
        /// The tree.
        root: PathBuf,
        /// Why.
        source: sys::Error,
    },
}

/// Look for secrets in the tree at `root`, whose command starts in `start` below it (the parts of the
/// path), and in git directories elsewhere that are shown with it, `parts`. `state` is where an answer
/// about the whole tree may be kept.
pub fn find(
    resolved: &Resolved,
    (root, parts): (&Path, &[PathBuf]),
    start: &[Vec<u8>],
    state: &Path,
) -> Result<Secrets, Error> {
    let rules = Rules::of(&resolved.settings, &root.to_string_lossy());
    let fail = |source| Error::Sys { root: root.to_owned(), source };
    let top = sys::openat2::resolved(root.as_os_str().as_bytes()).map_err(fail)?;
    let mut walk = walk::Walk::new(&rules, root, &top, start);
    walk.remember(state);
    walk.run()?;
    let walk::Done { mut found, repositories, matched } = walk.done();
    git::find((root, &top), &rules, &repositories, &mut found).map_err(fail)?;
    for part in parts {
        let fail = |source| Error::Sys { root: part.clone(), source };
        git::find_in_part(part, &rules, &mut found).map_err(fail)?;
        for below in git::worktrees_in(part).map_err(fail)? {
            let dir = part.join(std::ffi::OsStr::from_bytes(&below));
            // It may be gone, or a link.
            let Ok(top) = sys::openat2::resolved(dir.as_os_str().as_bytes()) else { continue };
            if dir == root {
                continue;
            }
            let mut walk = walk::Walk::new(&rules, &dir, &top, &[]);
            walk.run()?;
            found.extend(walk.done().found.into_iter().map(|s| s.in_directory(&dir)));
        }
    }
    if let Some(first) = found.first().filter(|_| found.len() > MOST) {
        return Err(Error::TooMany { root: root.to_owned(), first: first.path.clone() });
    }
    // What a link leads to may have been found by itself, or lie in a directory that is hidden.
    let directory = |s: &Secret| (s.kind == Kind::Directory).then(|| [&s.path, &b"/"[..]].concat());
    let hidden: Vec<Vec<u8>> = found.iter().filter_map(directory).collect();
    found.retain(|s| !hidden.iter().any(|dir| s.path.starts_with(dir)));
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found.dedup_by(|a, b| a.path == b.path);
    let mut warnings = links(&found);
    let is_missing = |(pattern, glob): &&(Pattern, Glob)| {
        // A git directory that is shown with the tree has an absolute path.
        let is_elsewhere =
            pattern.text.starts_with('/') && Path::new(&pattern.text).symlink_metadata().is_ok();
        !is_elsewhere && glob.plain().is_some_and(|path| !is_there(root, start, &path, glob.is_floating()))
    };
    let hide = rules.hide.iter().zip(matched).filter(|(_, matched)| !matched).map(|(rule, _)| (rule, "hide"));
    let show = rules.show().iter().filter(is_missing).map(|rule| (rule, "show"));
    for ((pattern, _), flag) in hide.chain(show).filter(|((pattern, _), _)| resolved.is_flag(pattern)) {
        warnings.push(format!(
            "`--{flag} {}`: there is no such name in `{}`",
            text::printable(pattern.text.as_bytes()),
            text::os(root)
        ));
    }
    Ok(Secrets { found, warnings, rules, start: start.to_vec() })
}

/// Look for what has the name of a secret at the top of `dir`, a directory of the caller's own programs, and for
/// credentials of a repository that it is. A link there leads to what is not shown, or is found by itself.
pub fn among_programs(resolved: &Resolved, dir: &Path) -> Result<Vec<Secret>, Error> {
    let rules = Rules::of_tools(&resolved.settings, &dir.to_string_lossy());
    if !rules.custom {
        return Ok(Vec::new());
    }
    let fail = |source| Error::Sys { root: dir.to_owned(), source };
    let top = sys::openat2::resolved(dir.as_os_str().as_bytes()).map_err(fail)?;
    let mut walk = walk::Walk::new(&rules, dir, &top, &[]);
    walk.run()?;
    let walk::Done { mut found, repositories, .. } = walk.done();
    git::find((dir, &top), &rules, &repositories, &mut found).map_err(fail)?;
    found.retain(|s| s.meta.kind != sys::at::FileKind::Symlink);
    Ok(found.into_iter().map(|s| s.in_directory(dir)).collect())
}

/// Whether there is something at `path` below the tree `root`, or below one of the directories on the way to `start`
/// when it is `floating`. What cannot be looked at is taken to be there.
fn is_there(root: &Path, start: &[Vec<u8>], path: &[u8], floating: bool) -> bool {
    let on_the_way = if floating { start.len() } else { 0 };
    (0..=on_the_way).any(|depth| {
        let dirs = start.get(..depth).unwrap_or_default().iter().map(Vec::as_slice);
        let below: PathBuf = dirs.chain([path]).map(std::ffi::OsStr::from_bytes).collect();
        match root.join(below).symlink_metadata() {
            Ok(_) => true,
            Err(e) => !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        }
    })
}

/// A line for files that have more names than the one that is hidden.
fn links(found: &[Secret]) -> Vec<String> {
    let linked =
        |s: &&Secret| s.kind == Kind::File && s.meta.kind == sys::at::FileKind::File && s.meta.nlink > 1;
    let mut linked = found.iter().filter(linked);
    let Some(first) = linked.next() else { return Vec::new() };
    let more = match linked.count() {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    vec![format!(
        "`{}`{more} has other names (hard links): they are hidden only where they have such a name, too",
        printable(&first.path)
    )]
}

impl Secrets {
    /// Whether a pattern of the user's shows what is at a path as in [`Secret::path`].
    pub fn is_shown(&self, path: &[u8]) -> bool {
        let mut parts: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
        parts.pop();
        let looked = self.start.iter().map(Vec::as_slice).take(parts.len()).eq(parts);
        self.rules.is_shown(path.strip_prefix(b"/").unwrap_or(path), looked, 0)
    }

    /// The line for people; `None`: nothing is hidden.
    pub fn line(&self) -> Option<String> {
        let part = |s: &&Secret| matches!(s.kind, Kind::Part(_));
        let names = |list: Vec<&Secret>| {
            let mut names: Vec<String> =
                list.iter().take(NAMED).map(|s| format!("`{}`", short(&s.path))).collect();
            if list.len() > NAMED {
                names.push(format!("{} more", list.len() - NAMED));
            }
            match names.pop() {
                Some(last) if !names.is_empty() => format!("{} and {last}", names.join(", ")),
                last => last.unwrap_or_default(),
            }
        };
        let (parts, whole): (Vec<&Secret>, Vec<&Secret>) = self.found.iter().partition(part);
        let credentials = |list| format!("the credentials in {}", names(list));
        let what = match (whole.is_empty(), parts.is_empty()) {
            (true, true) => return None,
            (false, true) => names(whole),
            (true, false) => credentials(parts),
            (false, false) => format!("{}; {}", names(whole), credentials(parts)),
        };
        let all = if self.found.len() > NAMED { "all of them: `aj exec --dry-run`; " } else { "" };
        Some(format!("hidden from the command: {what} ({all}to show one: `--show NAME`)"))
    }

    /// The paths for records.
    pub fn names(&self) -> Vec<String> {
        const MOST_BYTES: usize = 32 << 10;
        let mut bytes = 0;
        let mut names: Vec<String> = Vec::new();
        for secret in &self.found {
            let name = printable(&secret.path);
            bytes += name.len();
            if bytes > MOST_BYTES {
                names.push(format!("… and {} more", self.found.len() - names.len()));
                break;
            }
            names.push(name);
        }
        names
    }

    /// The rows of `--dry-run`.
    pub fn rows(&self) -> Vec<Hidden> {
        let row = |s: &Secret| Hidden {
            path: printable(&s.path),
            how: match s.kind {
                Kind::File => "file",
                Kind::Directory => "directory",
                Kind::Part(_) => "credentials in it",
            },
            by: s.by.as_ref().map_or_else(|| "built-in".to_owned(), |p| printable(p.as_bytes())),
        };
        self.found.iter().map(row).collect()
    }
}

/// A name from a repository, not longer than a line has room for.
fn short(path: &[u8]) -> String {
    const LONGEST: usize = 60;
    let text = printable(path);
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}…", text.get(..cut).unwrap_or_default()),
        None => text,
    }
}

/// What a directory of the walk is opened by.
type Dir<'a> = &'a OwnedFd;
