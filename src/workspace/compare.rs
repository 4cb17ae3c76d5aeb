//! Trees that began as one, side by side: which paths each has written to, and what is there in each.
//!
//! Candidates come from the layers that a tree has for itself, so that the cost is that of the changes. What is
//! said of a path comes from looking at it in every tree and in what they began with: writing the same bytes
//! again is no change, and a whiteout of nothing is none either.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use super::stack::Stack as Own;
use super::upper::UpperKind;
use super::view::{self, Stack};
use crate::store::planted::{Planted, What};
use crate::sys::at::{FileKind, Meta};
use crate::sys::{Result, copy};

/// One of the trees.
#[derive(Debug)]
pub struct Side {
    /// What it has for itself, the newest first.
    pub own: Vec<OwnedFd>,
    /// All of it.
    pub whole: Stack,
    /// What was hidden in it.
    pub hidden: Planted,
}

/// What is at a path of one tree.
#[derive(Debug)]
pub struct Thing {
    meta: Meta,
    content: Option<OwnedFd>,
    link: Option<Vec<u8>>,
}

/// What became of a path in one tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    /// It is what they began with.
    Same,
    /// There was nothing.
    Added,
    /// There is nothing any more.
    Deleted,
    /// Other content, or another target.
    Modified,
    /// Other permission bits alone.
    ModeChanged,
    /// Another kind of thing.
    TypeChanged,
}

/// One path.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// Below the top.
    pub path: Vec<u8>,
    /// Of each tree, what became of it, and the first tree that has the same there.
    pub sides: Vec<(Became, usize)>,
}

/// Names in all paths that are compared, and bytes of these, at most: a path is looked up name by name, and a chain of
/// directories as deep as a jail can make has long ones.
const MOST_NAMES: usize = 1 << 19;
const MOST_BYTES: usize = 32 << 20;

/// What is to be compared, within bounds.
struct Paths {
    all: BTreeSet<Vec<u8>>,
    most: usize,
    names: usize,
    bytes: usize,
}

impl Paths {
    fn insert(&mut self, path: Vec<u8>) {
        let (names, bytes) = (1 + path.iter().filter(|b| **b == b'/').count(), path.len());
        if self.all.insert(path) {
            self.names += names;
            self.bytes += bytes;
        }
    }

    fn are_too_many(&self) -> bool {
        self.all.len() > self.most || self.names > MOST_NAMES || self.bytes > MOST_BYTES
    }
}

/// Compare `sides` with each other and with `base`, which is nothing where they began empty. `false` beside: there are
/// more than `most` paths, or very long ones, and not all were looked at.
pub fn compare(sides: Vec<Side>, base: Option<&Stack>, most: usize) -> Result<(Vec<Row>, bool)> {
    let mut paths = Paths { all: BTreeSet::new(), most, names: 0, bytes: 0 };
    let mut wholes = Vec::new();
    for Side { own, whole, hidden } in sides {
        touched(own, base, &hidden, &mut paths)?;
        wholes.push(whole);
    }
    let all = !paths.are_too_many();
    let mut rows = Vec::new();
    for path in paths.all.into_iter().take(most) {
        let before = thing(base, &path)?;
        let now: Vec<Option<Thing>> =
            wholes.iter().map(|whole| thing(Some(whole), &path)).collect::<Result<_>>()?;
        let mut row = Vec::with_capacity(now.len());
        for (at, one) in now.iter().enumerate() {
            let mut like = at;
            for (first, other) in now.iter().enumerate().take(at) {
                if became(other.as_ref(), one.as_ref())? == Became::Same {
                    like = first;
                    break;
                }
            }
            row.push((became(before.as_ref(), one.as_ref())?, like));
        }
        if row.iter().any(|(became, _)| *became != Became::Same) {
            rows.push(Row { path, sides: row });
        }
    }
    Ok((rows, all))
}

/// Note the paths that the layers of one tree have something to say about.
fn touched(own: Vec<OwnedFd>, base: Option<&Stack>, hidden: &Planted, paths: &mut Paths) -> Result<()> {
    let mut own = Own::new(own)?;
    // Names with where each directory's path ends.
    let mut frames = vec![(own.names()?, 0, 0)];
    let mut path: Vec<u8> = Vec::new();
    while let Some((names, next, end)) = frames.last_mut() {
        path.truncate(*end);
        let Some(name) = names.get(*next).map(<[u8]>::to_vec) else {
            frames.pop();
            if !frames.is_empty() {
                own.leave()?;
            }
            continue;
        };
        *next += 1;
        if paths.are_too_many() {
            return Ok(());
        }
        path = view::join(&path, &name);
        let (_, meta, kind) = own.look(&name)?;
        match kind {
            UpperKind::Dir => {
                own.enter_unlocking(&name)?;
                let below = own.names()?;
                let there = thing(base, &path)?.filter(|t| t.meta.kind == FileKind::Dir);
                // A new directory is told by what is in it.
                if there.is_some() || below.len() == 0 {
                    paths.insert(path.clone());
                }
                if there.is_some() && own.is_opaque()? {
                    for gone in names_in(base, &path)?.into_iter().filter(|name| !below.contains(name)) {
                        paths.insert(view::join(&path, &gone));
                    }
                }
                frames.push((below, 0, path.len()));
            }
            _ if is_ours(hidden, &path, kind, &meta) => {}
            _ => {
                paths.insert(path.clone());
            }
        }
    }
    Ok(())
}

/// Whether aj put it there.
fn is_ours(hidden: &Planted, path: &[u8], kind: UpperKind, meta: &Meta) -> bool {
    match hidden.at(path) {
        Some(What::Whiteout) => kind == UpperKind::Whiteout,
        // With the credentials in it, it is what the base has.
        Some(What::File(mode, _)) => kind == UpperKind::File && meta.mode == mode,
        Some(What::Way(_)) | None => false,
    }
}

/// The directory that `path` is in, and the last component.
fn place<'a>(stack: &Stack, path: &'a [u8]) -> Result<Option<(view::Dir, &'a [u8])>> {
    let (parents, name) = view::split(path);
    let mut dir = stack.root()?;
    for part in parents.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
        match dir.find(part)? {
            Some(entry) if entry.meta.kind == FileKind::Dir => dir = dir.enter(stack, part)?,
            _ => return Ok(None),
        }
    }
    Ok(Some((dir, name)))
}

fn names_in(stack: Option<&Stack>, path: &[u8]) -> Result<Vec<Vec<u8>>> {
    let Some(stack) = stack else { return Ok(Vec::new()) };
    match place(stack, path)? {
        Some((dir, name)) => dir.enter(stack, name)?.names(),
        None => Ok(Vec::new()),
    }
}

fn thing(stack: Option<&Stack>, path: &[u8]) -> Result<Option<Thing>> {
    let Some(stack) = stack else { return Ok(None) };
    let Some((dir, name)) = place(stack, path)? else { return Ok(None) };
    let Some(entry) = dir.find(name)? else { return Ok(None) };
    let content = match entry.meta.kind {
        // Of what may not be read the size and the time have to do.
        FileKind::File => dir.open(name).ok(),
        _ => None,
    };
    let link = if entry.meta.kind == FileKind::Symlink { Some(dir.link(name)?) } else { None };
    Ok(Some(Thing { meta: entry.meta, content, link }))
}

fn became(before: Option<&Thing>, now: Option<&Thing>) -> Result<Became> {
    let (Some(before), Some(now)) = (before, now) else {
        return Ok(match (before, now) {
            (None, None) => Became::Same,
            (None, Some(_)) => Became::Added,
            _ => Became::Deleted,
        });
    };
    let (a, b) = (&before.meta, &now.meta);
    if std::mem::discriminant(&a.kind) != std::mem::discriminant(&b.kind) {
        return Ok(Became::TypeChanged);
    }
    let same = match a.kind {
        _ if a.same_inode(b) => true,
        FileKind::File if a.size != b.size => false,
        FileKind::File => match (&before.content, &now.content) {
            (Some(x), Some(y)) => copy::same_content(x, y, a.size)?,
            _ => a.mtime == b.mtime,
        },
        FileKind::Symlink => before.link == now.link,
        _ => true,
    };
    Ok(match (same, a.mode == b.mode || a.kind == FileKind::Symlink) {
        (false, _) => Became::Modified,
        (true, false) => Became::ModeChanged,
        (true, true) => Became::Same,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd;
    use std::path::Path;

    fn open(path: &Path) -> OwnedFd {
        fs::File::open(path).unwrap().into()
    }

    #[test]
    fn what_each_has_written_is_told_and_what_is_the_same_is_not() {
        let t = tempfile::tempdir().unwrap();
        let at = |name: &str| t.path().join(name);
        for dir in ["base/d", "base/old", "common/d", "a/d", "b/d", "a/new/deep", "b/old", "a/empty"] {
            fs::create_dir_all(at(dir)).unwrap();
        }
        let write = |path: &str, text: &str| fs::write(at(path), text).unwrap();
        write("base/same", "1");
        write("base/f", "1");
        write("base/old/x", "1");
        write("base/gone", "1");
        write("common/d/shared", "1");
        for (side, text) in [("a", "2"), ("b", "3")] {
            write(&format!("{side}/f"), text);
            write(&format!("{side}/same"), "1");
            write(&format!("{side}/both"), "new");
            write(&format!("{side}/d/shared"), "1");
        }
        write("a/new/deep/x", "");
        let whiteout = |dir: &str, name: &[u8]| {
            crate::store::whiteout::make(open(&at(dir)).as_fd(), name).unwrap();
        };
        whiteout("a", b"gone");
        whiteout("a", b"nothing");
        whiteout("b", b".env");
        write("base/.env", "secret");
        let opaque = crate::sys::xattr::set(open(&at("b/old")), c"user.overlay.opaque", b"y");
        if opaque.is_err() {
            eprintln!("SKIP: no user attributes here");
            return;
        }
        let side = |name: &str, hidden: &[&[u8]]| Side {
            own: vec![open(&at(name))],
            whole: Stack::overlay(open(&at(name)), vec![open(&at("common"))], open(&at("base"))),
            hidden: Planted::whiteouts(hidden),
        };
        let base = Stack::base(vec![open(&at("common"))], open(&at("base")));
        let sides = vec![side("a", &[]), side("b", &[b".env"])];
        let (rows, all) = compare(sides, Some(&base), 99).unwrap();
        let told: Vec<String> = rows
            .iter()
            .map(|row| format!("{} {:?}", String::from_utf8_lossy(&row.path), row.sides))
            .collect();
        let wanted = [
            "both [(Added, 0), (Added, 0)]",
            "empty [(Added, 0), (Same, 1)]",
            "f [(Modified, 0), (Modified, 1)]",
            "gone [(Deleted, 0), (Same, 1)]",
            "new/deep/x [(Added, 0), (Same, 1)]",
            "old/x [(Same, 0), (Deleted, 1)]",
        ];
        assert_eq!((told.as_slice(), all), (&wanted.map(str::to_owned)[..], true));
        // Each of these has hundreds of names: no more are held than the bound allows.
        let mut paths = Paths { all: BTreeSet::new(), most: 99_999, names: 0, bytes: 0 };
        for n in 0usize.. {
            if paths.are_too_many() {
                break;
            }
            paths.insert([b"d/".repeat(1 << 9), n.to_string().into_bytes()].concat());
        }
        assert!(paths.all.len() < 1 << 12 && !paths.all.is_empty());
        let (few, all) = compare(vec![side("a", &[]), side("b", &[])], Some(&base), 2).unwrap();
        assert!(few.len() <= 2 && !all);
    }
}
