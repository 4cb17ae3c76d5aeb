//! Files of the tree that the host's own git runs because of what is there already: hooks that are
//! links into the tree, `core.hooksPath`, commands in the repository's configuration. A jail that
//! edits one of them writes what `git commit` runs, under a name that no table knows. So it is with the build
//! script that a `Cargo.toml` names, there or in what the jail wrote.
//!
//! Repositories are looked for where git looks: in the base, above it, and in every directory that the
//! walk enters (such a nested one is known from there on: what its hooks name beside it may have been
//! passed already). All that is read is small or read in part, and no name from a link or a file is opened
//! through a link. What the user's own configuration (`~/.gitconfig`) says holds for every repository
//! and is not looked at.

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::gitconfig::{self, Setting};
use super::hostexec::fold;
use super::names::Names;
use super::{cargo, manifest};
use crate::base::env;
use crate::sys::at::{self, FileKind};
use crate::sys::copy;
use crate::sys::openat2::{self, For};

/// Longer configuration files are not looked at.
const CONFIG_LIMIT: usize = 1 << 20;
/// Longer `.git` and `commondir` files are none.
const POINTER_LIMIT: usize = 4096;
/// Hooks of one directory, and paths in all, that are looked at.
const HOOKS_LIMIT: usize = 256;
const PATHS_LIMIT: usize = 10_000;
/// Links on the way to one file, as the kernel allows.
const LINKS_LIMIT: usize = 40;

const HOOK: &str = "git runs it as a hook";
const COMMAND: &str = "the repository's configuration makes git run it";
const SCRIPT: &str = "cargo runs it as a build script";
const CONFIG: &str = "the repository's configuration takes settings from it";

/// What was found. Paths are below the base and folded as [`fold`] does.
#[derive(Debug, Default)]
pub(super) struct Named {
    files: HashMap<String, &'static str>,
    /// Everything in them counts.
    directories: HashMap<String, &'static str>,
    /// All directories above the others: what is no directory in their place redirects them.
    above: HashSet<String>,
}

impl Named {
    /// Why the entry at `path`, which is no directory after the change, is in the class.
    pub(super) fn reason(&self, path: &[u8]) -> Option<&'static str> {
        if self.files.is_empty() && self.directories.is_empty() {
            return None;
        }
        let path = fold(path);
        if let Some(reason) = self.files.get(&path) {
            return Some(reason);
        }
        if self.above.contains(&path) {
            return Some("a file that the host runs is below it");
        }
        std::iter::successors(Some(path.as_str()), |p| p.rfind('/').map(|i| &p[..i]))
            .find_map(|p| self.directories.get(p).copied())
    }

    fn add(&mut self, path: &[u8], reason: &'static str, directory: bool) {
        // The base as a whole is no file.
        if path.is_empty() || self.files.len() + self.directories.len() >= PATHS_LIMIT {
            return;
        }
        let path = fold(path);
        for (slash, _) in path.match_indices('/') {
            self.above.insert(path[..slash].to_owned());
        }
        let known = if directory { &mut self.directories } else { &mut self.files };
        known.entry(path).or_insert(reason);
    }
}

/// The base that is looked over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Base<'a> {
    /// Its top directory.
    pub(super) top: BorrowedFd<'a>,
    /// Absolute, no component of it a link.
    pub(super) path: &'a Path,
}

/// Look for the repository that the base is in, from its top upwards, as git does.
pub(super) fn look_upwards(named: &mut Named, base: Base<'_>) {
    for dir in base.path.ancestors() {
        let Ok(fd) = openat2::absolute(dir.as_os_str().as_bytes(), For::Passing) else { return };
        if at::stat(&fd, b".git").is_ok() {
            return look(named, base, &fd, dir.as_os_str().as_bytes());
        }
    }
}

/// Look at the repository whose working tree is the directory `below` of the base, if it is one.
pub(super) fn look_below(named: &mut Named, base: Base<'_>, dir: BorrowedFd<'_>, below: &[u8]) {
    if at::stat(dir, b".git").is_ok() {
        let path = join(base.path.as_os_str().as_bytes(), below);
        look(named, base, dir, &path);
    }
}

/// Look at the manifests of the directory `below` of the base, the base's own and `ours`, for build scripts with
/// other names than the table knows.
pub(super) fn look_for_scripts(
    named: &mut Named,
    base: Base<'_>,
    (dir, below): (Option<BorrowedFd<'_>>, &[u8]),
    ours: Option<&[u8]>,
) {
    let theirs = dir.and_then(|dir| read(dir, b"Cargo.toml", manifest::LIMIT));
    for text in [theirs.as_deref(), ours].into_iter().flatten() {
        for script in cargo::build_scripts(text) {
            let here = join(base.path.as_os_str().as_bytes(), below);
            Found { named, base }.file(&join(&here, &script), SCRIPT);
        }
    }
}

fn look(named: &mut Named, base: Base<'_>, dir: impl AsFd + Copy, path: &[u8]) {
    let Some((own, own_path)) = git_directory(dir, path) else { return };
    let common = text(&own, b"commondir").and_then(|p| open(&join(&own_path, first_line(&p))));
    let (common, common_path) = match &common {
        Some((fd, path)) => (fd, path),
        None => (&own, &own_path),
    };
    let mut found = Found { named, base };
    found.hooks(&join(common_path, b"hooks"));
    for (dir, dir_path, name) in
        [(common, common_path, &b"config"[..]), (&own, &own_path, b"config.worktree")]
    {
        let Some(config) = read(dir, name, CONFIG_LIMIT) else { continue };
        for setting in gitconfig::settings(&config) {
            match setting {
                Setting::Hooks(value) if value.len() < POINTER_LIMIT => found.hooks(&join_home(path, &value)),
                Setting::Include(value) if value.len() < POINTER_LIMIT => {
                    found.file(&join_home(dir_path, &value), CONFIG);
                }
                Setting::Command(value) if value.len() < POINTER_LIMIT => found.command(path, &value),
                // Longer than a path can be.
                Setting::Hooks(_) | Setting::Include(_) | Setting::Command(_) => {}
            }
        }
    }
}

/// The git directory of the working tree `dir`, which is at `path`: `.git`, or what it points to.
fn git_directory(dir: impl AsFd + Copy, path: &[u8]) -> Option<(OwnedFd, Vec<u8>)> {
    match at::stat(dir, b".git").ok()?.kind {
        FileKind::Dir => {
            let fd = openat2::beneath(dir, b".git", For::Passing).ok()?;
            Some((fd, join(path, b".git")))
        }
        FileKind::File => {
            let pointer = text(dir, b".git")?;
            open(&join(path, first_line(pointer.strip_prefix(b"gitdir:")?)))
        }
        FileKind::Symlink => open(&join(path, &at::read_link(dir, b".git").ok()?)),
        FileKind::Fifo | FileKind::Socket | FileKind::Char(..) | FileKind::Block | FileKind::Other => None,
    }
}

fn open(path: &[u8]) -> Option<(OwnedFd, Vec<u8>)> {
    Some((openat2::absolute(path, For::Passing).ok()?, path.to_vec()))
}

fn text(dir: impl AsFd, name: &[u8]) -> Option<Vec<u8>> {
    read(dir, name, POINTER_LIMIT)
}

fn read(dir: impl AsFd, name: &[u8], limit: usize) -> Option<Vec<u8>> {
    let file = openat2::beneath(dir, name, For::Reading).ok()?;
    (at::fstat(&file).ok()?.kind == FileKind::File)
        .then(|| copy::read_all(&file, limit).ok().flatten())
        .flatten()
}

fn first_line(text: &[u8]) -> &[u8] {
    text.split(|b| matches!(b, b'\n' | b'\r')).next().unwrap_or(text).trim_ascii()
}

/// `path` as seen from the absolute `dir`, without `.`, `..` and doubled slashes; by text alone.
fn join(dir: &[u8], path: &[u8]) -> Vec<u8> {
    let whole = if path.starts_with(b"/") { path.to_vec() } else { [dir, b"/", path].concat() };
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in whole.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.iter().flat_map(|p| [&b"/"[..], p]).flatten().copied().collect()
}

/// The same for a path that may begin with `~/`.
fn join_home(dir: &[u8], path: &[u8]) -> Vec<u8> {
    match (path.strip_prefix(b"~/"), env::HOME.absolute_path()) {
        (Some(rest), Some(home)) => join(home.as_os_str().as_bytes(), rest),
        _ => join(dir, path),
    }
}

struct Found<'a, 'b> {
    named: &'a mut Named,
    base: Base<'b>,
}

impl Found<'_, '_> {
    /// A directory of hooks: all that is in it, and what links in it lead to.
    fn hooks(&mut self, path: &[u8]) {
        let (dir, at) = match self.follow(path, HOOK) {
            End::Below(below) => {
                let whole = join(self.base.path.as_os_str().as_bytes(), &below);
                // In `.git` it is in the class anyway.
                if whole != path || !path.ends_with(b"/.git/hooks") {
                    self.named.add(&below, HOOK, true);
                }
                (openat2::beneath(self.base.top, &below, For::Listing), whole)
            }
            End::Outside(path) => (openat2::absolute(&path, For::Listing), path),
        };
        let Ok(dir) = dir else { return };
        let Ok(names) = Names::read(&dir, |_| true) else { return };
        for name in (0..HOOKS_LIMIT).map_while(|i| names.get(i)) {
            if let Ok(target) = at::read_link(&dir, name) {
                self.file(&join(&at, &target), HOOK);
            }
        }
    }

    fn command(&mut self, top: &[u8], command: &[u8]) {
        for word in gitconfig::words(command) {
            // A word without a slash is mostly a program in PATH or an argument.
            let path = join(top, &word);
            if word.contains(&b'/') || self.is_file(&path) {
                self.file(&path, COMMAND);
            }
        }
    }

    fn file(&mut self, path: &[u8], reason: &'static str) {
        if let End::Below(below) = self.follow(path, reason)
            && !self.kind(&below).is_some_and(|kind| kind == FileKind::Dir)
        {
            self.named.add(&below, reason, false);
        }
    }

    fn is_file(&self, path: &[u8]) -> bool {
        let kind = self.below(path).and_then(|below| self.kind(below));
        matches!(kind, Some(FileKind::File | FileKind::Symlink))
    }

    fn kind(&self, below: &[u8]) -> Option<FileKind> {
        let named = openat2::beneath(self.base.top, below, For::Naming).ok()?;
        at::fstat(named).ok().map(|meta| meta.kind)
    }

    /// `path` as one below the base.
    fn below<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        let rest = path.strip_prefix(self.base.path.as_os_str().as_bytes())?;
        if self.base.path == Path::new("/") { Some(rest) } else { rest.strip_prefix(b"/") }
    }

    /// Where the absolute `path` leads to. Links of the base are followed and count themselves, since
    /// changing one leads elsewhere; outside of it the text is all that is looked at.
    fn follow(&mut self, path: &[u8], reason: &'static str) -> End {
        let split = |path: &[u8]| -> VecDeque<Vec<u8>> {
            path.split(|b| *b == b'/').filter(|p| !p.is_empty()).map(<[u8]>::to_vec).collect()
        };
        let (mut done, mut left, mut links) = (Vec::new(), split(path), 0);
        while let Some(part) = left.pop_front() {
            let here = done.clone();
            done = join(&here, &part);
            let Some(below) = self.below(&done).filter(|below| !below.is_empty()) else { continue };
            if self.kind(below) != Some(FileKind::Symlink) {
                continue;
            }
            links += 1;
            let parent = below.iter().rposition(|b| *b == b'/').map_or(&b"."[..], |slash| &below[..slash]);
            let target = openat2::beneath(self.base.top, parent, For::Passing)
                .and_then(|dir| at::read_link(dir, &part));
            let Ok(target) = target else { break };
            let below = below.to_vec();
            self.named.add(&below, reason, false);
            if links > LINKS_LIMIT {
                break;
            }
            // What is left continues from where the link leads, `..` in it included.
            done = if target.starts_with(b"/") { Vec::new() } else { here };
            let mut rest = split(&target);
            rest.append(&mut left);
            left = rest;
        }
        match self.below(&done) {
            Some(below) => End::Below(below.to_vec()),
            None => End::Outside(done),
        }
    }
}

/// The end of a chain of links.
enum End {
    /// A path below the base, whether there is anything or not.
    Below(Vec<u8>),
    /// An absolute path.
    Outside(Vec<u8>),
}
