//! Credentials in the configuration of a git repository: the files in `.git`, and in the git directories
//! that it leads to, that may hold some.

use std::collections::VecDeque;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

use super::{Dir, Kind, MOST, Secret, look};
use crate::base::text::printable;
use crate::policy::hide::Rules;
use crate::sys::at::{self, FileKind};
use crate::sys::openat2::{self, For};
use crate::sys::{Error, Result};
use crate::workspace::gitconfig;
use crate::workspace::gitcreds::{self, Clean};

/// A larger file is hidden.
const LARGEST: u64 = 1 << 20;
/// Entries of directories with submodules and worktrees that are looked through.
const MODULES: usize = 5000;
/// Files that the configuration of one tree includes.
const INCLUDES: usize = 100;
/// Longer `.git` files and the like are none.
const POINTER: u64 = 4096;
/// The repository of a part, below itself.
const ITSELF: &[u8] = b".";

/// Look at the git directory at `part`, an absolute path, with all that is in it.
pub(super) fn find_in_part(part: &Path, rules: &Rules, found: &mut Vec<Secret>) -> Result<()> {
    let top = openat2::resolved(part.as_os_str().as_bytes())?;
    let mut search = Search { top: &top, root: part, part: true, rules, found, seen: 0, includes: INCLUDES };
    search.directory(ITSELF).map(drop)
}

/// The worktrees of the repository at `part` that lie in it and so are shown with it, below it.
pub(super) fn worktrees_in(part: &Path) -> Result<Vec<Vec<u8>>> {
    let top = openat2::resolved(part.as_os_str().as_bytes())?;
    let Ok(list) = openat2::beneath(&top, b"worktrees", For::Passing) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    at::each_name(&list, |name| {
        let by = [&b"worktrees/"[..], name, b"/gitdir"].concat();
        let text = openat2::beneath(&list, name, For::Passing).ok();
        let text = text.and_then(|dir| look::read(&dir, b"gitdir", POINTER)).unwrap_or_default();
        let git = look::target(part.as_os_str().as_bytes(), &by, text.trim_ascii_end());
        found.extend(git.as_deref().and_then(|git| git.strip_suffix(b"/.git")).map(<[u8]>::to_vec));
    })?;
    Ok(found)
}

/// Add what is found in the repositories of the tree at `root`, opened as `top`: `.git` entries of any kind,
/// and `.` or directories that may be repositories themselves.
pub(super) fn find(
    (root, top): (&Path, Dir<'_>),
    rules: &Rules,
    repositories: &[Vec<u8>],
    found: &mut Vec<Secret>,
) -> Result<()> {
    for git in repositories {
        let covered = |s: &Secret| *git == s.path || git.starts_with(&[&s.path, &b"/"[..]].concat());
        if found.iter().any(covered) {
            continue;
        }
        let mut search = Search { top, root, part: false, rules, found, seen: 0, includes: INCLUDES };
        if !search.directory(git)? {
            search.led(git)?;
        }
    }
    Ok(())
}

/// What is to be seen of the file at `path` in `layer`, in the place of which the base has a secret of that `kind`;
/// `None`: there is nothing to hide in it.
pub fn rest(kind: &Kind, layer: Dir<'_>, path: &[u8]) -> Option<Vec<u8>> {
    if !matches!(kind, Kind::Part(_)) {
        return Some(Vec::new());
    }
    let (parent, name) = split(path);
    let dir = openat2::beneath(layer, parent, For::Passing).ok();
    let Some(text) = dir.and_then(|dir| look::read(&dir, name, LARGEST)) else { return Some(Vec::new()) };
    match gitcreds::clean(&text) {
        Clean::Same => None,
        Clean::Text(text) => Some(text),
        Clean::Hide => Some(Vec::new()),
    }
}

struct Search<'a> {
    top: Dir<'a>,
    root: &'a Path,
    /// Whether what is found is named by its absolute path.
    part: bool,
    rules: &'a Rules,
    found: &'a mut Vec<Secret>,
    /// Entries of directories with submodules and worktrees.
    seen: usize,
    /// How many more files of `include.path` are looked at.
    includes: usize,
}

impl Search<'_> {
    /// `git` is a file or a link: look at the directories of the tree that it leads to. Those elsewhere
    /// are parts, or not shown.
    fn led(&mut self, git: &[u8]) -> Result<()> {
        let (parent, name) = split(git);
        let Ok(dir) = openat2::beneath(self.top, parent, For::Passing) else { return Ok(()) };
        let text = match look::read(&dir, name, POINTER) {
            Some(text) => text.strip_prefix(b"gitdir: ").map(<[u8]>::to_vec),
            None => at::read_link(&dir, name).ok(),
        };
        let Some(own) = text.and_then(|text| self.below(git, &text)) else { return Ok(()) };
        self.directory(&own)?;
        let Ok(dir) = openat2::beneath(self.top, &own, For::Passing) else { return Ok(()) };
        let common = look::read(&dir, b"commondir", POINTER);
        match common.and_then(|text| self.below(&join(&own, b"commondir"), &text)) {
            Some(common) => self.directory(&common).map(drop),
            None => Ok(()),
        }
    }

    /// What of the tree a path leads to that is written in the file `by`, links of the tree followed.
    fn below(&self, by: &[u8], text: &[u8]) -> Option<Vec<u8>> {
        let end = text.iter().rposition(|b| !matches!(b, b'\n' | b'\r')).map_or(0, |i| i + 1);
        let text = text.get(..end).filter(|text| !text.contains(&0))?;
        let named = look::target(self.root.as_os_str().as_bytes(), by, text)?;
        look::real(self.root, &named)
    }

    /// A git directory, those of its submodules and what its worktrees have for themselves. `false`: it is
    /// a file or a link.
    fn directory(&mut self, git: &[u8]) -> Result<bool> {
        let mut to_do = vec![git.to_vec()];
        while let Some(path) = to_do.pop() {
            let dir = match openat2::beneath(self.top, &path, For::Passing) {
                Ok(dir) => dir,
                Err(e) if path == *git && matches!(e.errno, Errno::ENOTDIR | Errno::ELOOP) => {
                    return Ok(false);
                }
                Err(e) if is_none(&e) => continue,
                Err(e) => return Err(e),
            };
            for name in [&b"config"[..], b"config.worktree"] {
                self.settings(&dir, &path, name)?;
            }
            // Where `credential.helper = store --file` often puts them.
            if let Some(meta) = at::stat_opt(&dir, b"credentials")?
                && meta.kind == FileKind::File
            {
                self.add(Secret { path: join(&path, b"credentials"), kind: Kind::File, meta, by: None });
            }
            // Of a submodule whose name has slashes in it, `modules` holds the first part.
            let is_git = path == *git || at::stat_opt(&dir, b"HEAD")?.is_some();
            let holders = match is_git {
                true => vec![join(&path, b"modules"), join(&path, b"worktrees")],
                false => vec![path],
            };
            for holds in holders {
                let Ok(list) = openat2::beneath(self.top, &holds, For::Passing) else { continue };
                at::each_name(&list, |name| {
                    self.seen += 1;
                    if self.seen <= MODULES {
                        to_do.push(join(&holds, name));
                    }
                })?;
                if self.seen > MODULES {
                    // Some of them would not have been looked at.
                    return Err(Error::new("look through", printable(&holds), Errno::E2BIG));
                }
            }
        }
        Ok(true)
    }

    /// A configuration file, with the files of the tree that it includes.
    fn settings(&mut self, dir: Dir<'_>, path: &[u8], name: &[u8]) -> Result<()> {
        let mut includes = VecDeque::new();
        self.file(dir, &join(path, name), name, &mut includes)?;
        while let Some(path) = includes.pop_front() {
            // More of them, or a loop, and git gives up as well.
            let Some(left) = self.includes.checked_sub(1) else { break };
            self.includes = left;
            let (parent, name) = split(&path);
            match openat2::beneath(self.top, parent, For::Passing) {
                Ok(dir) => self.file(&dir, &path, name, &mut includes)?,
                Err(e) if is_none(&e) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        dir: Dir<'_>,
        path: &[u8],
        name: &[u8],
        includes: &mut VecDeque<Vec<u8>>,
    ) -> Result<()> {
        let Some(meta) = at::stat_opt(dir, name)? else { return Ok(()) };
        if meta.kind != FileKind::File {
            return Ok(());
        }
        let kind = match look::read(dir, name, LARGEST) {
            Some(text) => {
                let included = gitconfig::included(&text);
                includes.extend(included.iter().filter_map(|to| self.below(path, to)));
                match gitcreds::clean(&text) {
                    Clean::Same => return Ok(()),
                    Clean::Text(text) => Kind::Part(text),
                    Clean::Hide => Kind::File,
                }
            }
            None => Kind::File,
        };
        self.add(Secret { path: path.to_vec(), kind, meta, by: None });
        Ok(())
    }

    /// Add what is at a path below the root, unless it is known or shown.
    fn add(&mut self, mut secret: Secret) {
        if self.part {
            secret.path = [self.root.as_os_str().as_bytes(), b"/", &secret.path].concat();
        }
        // Patterns have no `/` at their front.
        let name = secret.path.strip_prefix(b"/").unwrap_or(&secret.path);
        let known = self.found.iter().any(|s| s.path == secret.path);
        // One more than there may be is enough to refuse the run.
        if !known && !self.rules.is_shown(name, false, 0) && self.found.len() <= MOST {
            self.found.push(secret);
        }
    }
}

fn is_none(e: &Error) -> bool {
    matches!(e.errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV | Errno::EACCES)
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path == ITSELF { name.to_vec() } else { [path, b"/", name].concat() }
}

/// The directory that a path is in, and its name there.
/// The directory that a path below a top is in, and the name there.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (ITSELF, path),
    }
}
