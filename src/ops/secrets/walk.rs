//! The walk over the tree: the directories from its top to where the command starts, and what patterns
//! ask for beyond. It is bounded, and a walk that was cut short is an error: what was not looked at may
//! be what was to be hidden.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::dir::Type;
use nix::errno::Errno;

use super::cache::{Cache, Listing};
use super::{Dir, Error, Kind, MOST, Secret, look};
use crate::policy::hide::{Look, Rules, by_custom, is_harmless};
use crate::sys;
use crate::sys::at::{self, FileKind, Meta};
use crate::sys::entries::{Entries, Entry};
use crate::sys::openat2::{self, For};

/// Entries that are looked at: half a second.
const MOST_ENTRIES: usize = 500_000;
/// Levels of directories that a pattern leads down.
const DEEPEST: usize = 64;
/// Bytes of a directory that is worth remembering: a thousand names take longer to list than that takes.
const LARGE: u64 = 32 << 10;
/// Time for all of it.
const LONGEST: Duration = Duration::from_secs(3);

/// A directory to look through.
#[derive(Debug)]
struct Task {
    path: Vec<u8>,
    depth: usize,
    /// Of each pattern that is no single name, where it stands.
    states: Vec<Vec<usize>>,
    /// On the way to where the command starts, this many directories down.
    on_the_way: bool,
}

/// The walk.
pub(super) struct Walk<'a> {
    rules: &'a Rules,
    root: &'a Path,
    top: Dir<'a>,
    start: &'a [Vec<u8>],
    to_do: Vec<Task>,
    left: usize,
    until: Instant,
    cache: Option<Cache>,
    done: Done,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) found: Vec<Secret>,
    /// What is named `.git`, and directories that may be git directories themselves.
    pub(super) repositories: Vec<Vec<u8>>,
    /// Whether each pattern of [`Rules::hide`] named anything.
    pub(super) matched: Vec<bool>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(rules: &'a Rules, root: &'a Path, top: Dir<'a>, start: &'a [Vec<u8>]) -> Walk<'a> {
        let states = rules.hide.iter().map(|(_, glob)| glob.begin()).collect();
        let first = Task { path: Vec::new(), depth: 0, states, on_the_way: true };
        let matched = vec![false; rules.hide.len()];
        Walk {
            rules,
            root,
            top,
            start,
            to_do: vec![first],
            left: MOST_ENTRIES,
            until: Instant::now() + LONGEST,
            cache: None,
            done: Done { matched, ..Done::default() },
        }
    }

    /// Use what was seen the last time, if the walk is to be a long one. `state`: where that is kept.
    pub(super) fn remember(&mut self, state: &Path) {
        let large = || at::fstat(self.top).is_ok_and(|m| m.size > LARGE);
        if self.rules.hide.iter().any(|(_, glob)| glob.is_deep()) || (self.rules.custom && large()) {
            self.cache = Cache::open(state, self.root, self.top, self.rules, self.start);
        }
    }

    pub(super) fn done(self) -> Done {
        if let Some(cache) = self.cache {
            cache.keep();
        }
        self.done
    }

    pub(super) fn run(&mut self) -> Result<(), Error> {
        while let Some(task) = self.to_do.pop() {
            if self.cache.is_some() && Instant::now() > self.until {
                return Err(self.cut("it would take longer than 3 seconds"));
            }
            self.directory(&task)?;
            if let Some(first) = self.done.found.first().filter(|_| self.done.found.len() > MOST) {
                return Err(Error::TooMany { root: self.root.to_owned(), first: first.path.clone() });
            }
        }
        Ok(())
    }

    fn directory(&mut self, task: &Task) -> Result<(), Error> {
        let name = if task.path.is_empty() { &b"."[..] } else { task.path.as_slice() };
        let fail = |root: &Path, source: sys::Error| Error::Sys { root: root.to_owned(), source };
        if let Some(cache) = &mut self.cache
            && let Ok(dir) = openat2::beneath(self.top, name, For::Passing)
            && let Some(listing) = cache.listing(&task.path, &dir)
        {
            for (name, directory) in &listing {
                let kind = if *directory { Type::Directory } else { Type::File };
                self.entry(&dir, task, name, Some(kind))?;
            }
            return Ok(());
        }
        let dir = match openat2::beneath(self.top, name, For::Listing) {
            Ok(dir) => dir,
            Err(e) => match e.errno {
                // Gone, a link by now, or another file system, of which the jail sees nothing here.
                Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV => return Ok(()),
                Errno::EACCES => return self.unlisted(task, name),
                Errno::ENAMETOOLONG => return Err(self.cut("a path is longer than any call takes")),
                _ => return Err(fail(self.root, e)),
            },
        };
        let mut list = Entries::again(&dir).map_err(|e| fail(self.root, e))?;
        let mut kept = match self.cache {
            Some(_) => Some((at::fstat(&dir).map_err(|e| fail(self.root, e))?, Listing::default())),
            None => None,
        };
        while let Some(Entry { name, kind }) = list.step().map_err(|e| fail(self.root, e))? {
            let Some(left) = self.left.checked_sub(1) else {
                return Err(self.cut("there are more than 500000 names"));
            };
            self.left = left;
            if left % 256 == 0 && Instant::now() > self.until {
                return Err(self.cut("it would take longer than 3 seconds"));
            }
            let matters = self.entry(&dir, task, name, kind)?;
            if let (Some((_, kept)), true) = (&mut kept, matters) {
                kept.push((name.to_vec(), kind == Some(Type::Directory)));
            }
        }
        if let (Some(cache), Some((before, kept))) = (&mut self.cache, kept) {
            cache.note(&task.path, &before, kept);
        }
        Ok(())
    }

    /// A directory that the caller may enter but not list: what it may hold by custom is known by name.
    fn unlisted(&mut self, task: &Task, name: &[u8]) -> Result<(), Error> {
        const NAMES: [&[u8]; 9] = [
            b".env",
            b".env.local",
            b".env.production",
            b".netrc",
            b".npmrc",
            b".pypirc",
            b".git-credentials",
            b"credentials.json",
            b".git",
        ];
        let Ok(dir) = openat2::beneath(self.top, name, For::Passing) else { return Ok(()) };
        for name in NAMES {
            self.entry(&dir, task, name, None)?;
        }
        Ok(())
    }

    /// A link with the name of a secret: hidden, with the file of the tree that it leads to, unless that
    /// can be seen to be none.
    fn link(
        &mut self,
        look: Look,
        dir: Dir<'_>,
        name: &[u8],
        path: Vec<u8>,
        meta: Meta,
    ) -> Result<(), Error> {
        let text = at::read_link(dir, name).unwrap_or_default();
        // It may lead there by further links.
        let to = look::target(self.root.as_os_str().as_bytes(), &path, &text);
        let to = to.and_then(|to| look::real(self.root, &to));
        let file = to.and_then(|to| {
            let slash = to.iter().rposition(|b| *b == b'/');
            let (parent, name) = slash.map_or((&b"."[..], to.as_slice()), |i| (&to[..i], &to[i + 1..]));
            let parent = openat2::beneath(self.top, parent, For::Passing).ok()?;
            let meta = at::stat(&parent, name).ok().filter(|m| m.kind == FileKind::File)?;
            let secret = look::is_secret(look, &parent, name, &meta) && !is_harmless(name);
            Some((secret, Secret { path: to.clone(), kind: Kind::File, meta, by: None }))
        });
        if let Some((secret, target)) = file {
            if !secret {
                return Ok(());
            }
            if !self.rules.is_shown(&target.path, false, 0) {
                self.done.found.push(target);
            }
        }
        self.done.found.push(Secret { path, kind: Kind::File, meta, by: None });
        Ok(())
    }

    fn cut(&self, why: &str) -> Error {
        let deep = self.rules.hide.iter().find(|(_, glob)| glob.is_deep());
        let pattern = deep.map(|(pattern, _)| pattern.text.clone());
        Error::Cut { root: self.root.to_owned(), why: why.to_owned(), pattern }
    }

    /// Look at one entry. Says whether a later walk has to look at it again.
    fn entry(&mut self, dir: Dir<'_>, task: &Task, name: &[u8], kind: Option<Type>) -> Result<bool, Error> {
        let rules = self.rules;
        // The pattern of the strongest source.
        let mut by: Option<(u8, usize)> = None;
        let mut states = Vec::new();
        for (i, (pattern, glob)) in rules.hide.iter().enumerate() {
            let hit = if glob.is_floating() {
                task.on_the_way && glob.matches(name, true)
            } else {
                let next = task.states.get(i).map(|s| glob.step(s, name)).unwrap_or_default();
                let hit = glob.is_match(&next);
                // What git keeps there is no file of the project's.
                states.resize(i, Vec::new());
                states.push(if name == b".git" && glob.is_deep() { Vec::new() } else { next });
                hit
            };
            if hit {
                if let Some(matched) = self.done.matched.get_mut(i) {
                    *matched = true;
                }
                by = by.max(Some((pattern.rank, i)));
            }
        }
        states.resize(rules.hide.len(), Vec::new());
        let custom = (task.on_the_way && rules.custom).then(|| by_custom(name)).flatten();
        let child =
            || if task.path.is_empty() { name.to_vec() } else { [&task.path, &b"/"[..], name].concat() };
        let rank = by.map_or(0, |(rank, _)| rank);
        if (by.is_some() || custom.is_some()) && !rules.is_shown(&child(), task.on_the_way, rank) {
            let meta = match at::stat_opt(dir, name) {
                Ok(Some(meta)) => meta,
                Ok(None) => return Ok(true),
                Err(source) => return Err(Error::Sys { root: self.root.to_owned(), source }),
            };
            if let (Some(look), FileKind::Symlink, None) = (custom, meta.kind, by) {
                self.link(look, dir, name, child(), meta)?;
                return Ok(true);
            }
            if by.is_some() || custom.is_some_and(|look| look::is_secret(look, dir, name, &meta)) {
                let kind = if meta.kind == FileKind::Dir { Kind::Directory } else { Kind::File };
                let by = by.and_then(|(_, i)| rules.hide.get(i)).map(|(pattern, _)| pattern.text.clone());
                self.done.found.push(Secret { path: child(), kind, meta, by });
                return Ok(true);
            }
        }
        if task.on_the_way && name == b".git" {
            self.done.repositories.push(child());
        } else if task.on_the_way && name == b"objects" && is_bare(dir) {
            let path = if task.path.is_empty() { b".".to_vec() } else { task.path.clone() };
            self.done.repositories.push(path);
        }
        if !matches!(kind, None | Some(Type::Directory)) {
            let by_git = task.on_the_way && name == b".git";
            return Ok(by_git || by.is_some() || custom.is_some());
        }
        let goes_on = rules.hide.iter().zip(&states).any(|((_, glob), s)| glob.goes_on(s));
        let on_the_way = task.on_the_way && self.start.get(task.depth).is_some_and(|next| next == name);
        if goes_on || on_the_way {
            if goes_on && task.depth >= DEEPEST {
                return Err(self.cut("there are directories more than 64 levels deep"));
            }
            self.to_do.push(Task { path: child(), depth: task.depth + 1, states, on_the_way });
        }
        Ok(true)
    }
}

/// Whether a directory with `objects` in it is a git directory itself.
fn is_bare(dir: Dir<'_>) -> bool {
    [&b"HEAD"[..], b"refs"].iter().all(|name| at::stat_opt(dir, name).is_ok_and(|m| m.is_some()))
}
