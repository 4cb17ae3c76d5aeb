//! Trees that began as one, side by side: which paths each has written to, and what is there in each.
//!
//! Candidates come from the layers that a tree has for itself, so that the cost is that of the changes. What is
//! said of a path comes from looking at it in every tree and in what they began with: writing the same bytes
//! again is no change, and a whiteout of nothing is none either.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

use super::stack::Stack as Own;
use super::upper::UpperKind;
use super::view::{self, Stack};
use crate::store::planted::{Planted, What};
use crate::sys::at::{FileKind, Meta};
use crate::sys::{Error, Result, copy};

/// One of the trees.
#[derive(Debug)]
pub struct Side {
    /// What it has for itself, the newest first.
    pub own: Vec<OwnedFd>,
    /// All of it, or why it cannot be looked at.
    pub whole: Result<Stack>,
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
    /// Nobody can say: it could not be looked at.
    Unknown,
}

impl Became {
    /// Whether it is known to be another.
    pub fn is_change(self) -> bool {
        !matches!(self, Became::Same | Became::Unknown)
    }
}

/// What is seen at a path of one tree.
#[derive(Debug)]
enum Sight {
    Nothing,
    There(Thing),
    Unread,
}

/// What could not be looked at: in which tree (`None`: in what they began with), where, and why.
pub type Unread = BTreeMap<(Option<usize>, Vec<u8>), Error>;

/// What a comparison has to say.
#[derive(Debug)]
pub struct Compared {
    /// Paths that at least one tree has changed.
    pub rows: Vec<Row>,
    /// What could not be looked at.
    pub unread: Unread,
    /// `false`: there are more paths than are compared, or very long ones, and not all were looked at.
    pub all: bool,
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

/// Compare `sides` with each other and with `base`, which is nothing where they began empty: `most` paths at most.
/// What cannot be read of one keeps nobody from the rest.
pub fn compare(sides: Vec<Side>, base: Option<&Stack>, most: usize) -> Result<Compared> {
    let mut paths = Paths { all: BTreeSet::new(), most, names: 0, bytes: 0 };
    let (mut wholes, mut unread) = (Vec::new(), Unread::new());
    for (at, Side { own, whole, hidden }) in sides.into_iter().enumerate() {
        touched((at, own), base, &hidden, &mut paths, &mut unread)?;
        wholes.push(whole.map_err(|e| unread.insert((Some(at), Vec::new()), e)).ok());
    }
    let all = !paths.are_too_many();
    let mut rows = Vec::new();
    for path in paths.all.into_iter().take(most) {
        let before = base.map_or(Sight::Nothing, |base| sight(None, base, &path, &mut unread));
        let look = |(at, whole): (usize, &Option<Stack>)| match whole {
            Some(whole) => sight(Some(at), whole, &path, &mut unread),
            None => Sight::Unread,
        };
        let now: Vec<Sight> = wholes.iter().enumerate().map(look).collect();
        let mut judge = |at: usize, before: &Sight, now: &Sight| match became(before, now) {
            Ok(became) => became,
            Err(e) => {
                unread.entry((Some(at), path.clone())).or_insert(e);
                Became::Unknown
            }
        };
        let mut row = Vec::with_capacity(now.len());
        for (at, one) in now.iter().enumerate() {
            let like = now.iter().take(at).position(|other| judge(at, other, one) == Became::Same);
            row.push((judge(at, &before, one), like.unwrap_or(at)));
        }
        // What is known of none is told by the directory that could not be read.
        if row.iter().any(|(became, _)| became.is_change()) {
            rows.push(Row { path, sides: row });
        }
    }
    Ok(Compared { rows, unread, all })
}

/// Note the paths that the layers of one tree have something to say about.
fn touched(
    (at, own): (usize, Vec<OwnedFd>),
    base: Option<&Stack>,
    hidden: &Planted,
    paths: &mut Paths,
    unread: &mut Unread,
) -> Result<()> {
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
        let (meta, kind) = match own.look(&name) {
            Ok((_, meta, kind)) => (meta, kind),
            Err(e) => {
                unread.entry((Some(at), path.clone())).or_insert(e);
                continue;
            }
        };
        match kind {
            UpperKind::Dir => {
                if let Err(e) = own.enter_unlocking(&name) {
                    unread.entry((Some(at), path.clone())).or_insert(e);
                    paths.insert(path.clone());
                    continue;
                }
                let below = own.names()?;
                let there = match base.map(|base| sight(None, base, &path, unread)) {
                    Some(Sight::There(thing)) => thing.meta.kind == FileKind::Dir,
                    Some(Sight::Nothing | Sight::Unread) | None => false,
                };
                // A new directory is told by what is in it.
                if there || below.len() == 0 {
                    paths.insert(path.clone());
                }
                if there && own.is_opaque()? {
                    let all = base.map_or(Ok(Vec::new()), |base| names_in(base, &path));
                    let all = all.unwrap_or_else(|(at, e)| {
                        unread.entry((None, at)).or_insert(e);
                        Vec::new()
                    });
                    for gone in all.into_iter().filter(|name| !below.contains(name)) {
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

/// What a look at a path came to, or where it ended and why.
type Looked<T> = std::result::Result<T, (Vec<u8>, Error)>;

/// The directory that `path` is in, and the last component.
fn place<'a>(stack: &Stack, path: &'a [u8]) -> Looked<Option<(view::Dir, &'a [u8])>> {
    let (parents, name) = view::split(path);
    let mut dir = stack.root().map_err(|e| (Vec::new(), e))?;
    let mut end = 0;
    for part in parents.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
        let at = |end: usize| path.get(..end).unwrap_or_default().to_vec();
        let found = dir.find(part).map_err(|e| (at(end), e))?;
        end += usize::from(end > 0) + part.len();
        match found {
            Some(entry) if entry.meta.kind == FileKind::Dir => {
                dir = dir.enter(stack, part).map_err(|e| (at(end), e))?;
            }
            _ => return Ok(None),
        }
    }
    Ok(Some((dir, name)))
}

fn names_in(stack: &Stack, path: &[u8]) -> Looked<Vec<Vec<u8>>> {
    match place(stack, path)? {
        Some((dir, name)) => {
            let names = dir.enter(stack, name).and_then(|dir| dir.names());
            names.map_err(|e| (path.to_vec(), e))
        }
        None => Ok(Vec::new()),
    }
}

/// What is at `path` of the tree `whose`; what cannot be looked at is noted.
fn sight(whose: Option<usize>, stack: &Stack, path: &[u8], unread: &mut Unread) -> Sight {
    match thing(stack, path) {
        Ok(Some(thing)) => Sight::There(thing),
        Ok(None) => Sight::Nothing,
        Err((at, e)) => {
            unread.entry((whose, at)).or_insert(e);
            Sight::Unread
        }
    }
}

fn thing(stack: &Stack, path: &[u8]) -> Looked<Option<Thing>> {
    let Some((dir, name)) = place(stack, path)? else { return Ok(None) };
    let Some(entry) = dir.find(name).map_err(|e| (view::split(path).0.to_vec(), e))? else { return Ok(None) };
    let content = match entry.meta.kind {
        // Of what may not be read the size and the time have to do.
        FileKind::File => dir.open(name).ok(),
        _ => None,
    };
    let link = match entry.meta.kind {
        FileKind::Symlink => Some(dir.link(name).map_err(|e| (path.to_vec(), e))?),
        _ => None,
    };
    Ok(Some(Thing { meta: entry.meta, content, link }))
}

fn became(before: &Sight, now: &Sight) -> Result<Became> {
    let (before, now) = match (before, now) {
        (Sight::Unread, _) | (_, Sight::Unread) => return Ok(Became::Unknown),
        (Sight::Nothing, Sight::Nothing) => return Ok(Became::Same),
        (Sight::Nothing, Sight::There(_)) => return Ok(Became::Added),
        (Sight::There(_), Sight::Nothing) => return Ok(Became::Deleted),
        (Sight::There(before), Sight::There(now)) => (before, now),
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
            whole: Ok(Stack::overlay(open(&at(name)), vec![open(&at("common"))], open(&at("base")))),
            hidden: Planted::whiteouts(hidden),
        };
        let base = Stack::base(vec![open(&at("common"))], open(&at("base")));
        let sides = vec![side("a", &[]), side("b", &[b".env"])];
        let compared = compare(sides, Some(&base), 99).unwrap();
        assert!(compared.unread.is_empty(), "{compared:?}");
        let told: Vec<String> = compared
            .rows
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
        assert_eq!((told.as_slice(), compared.all), (&wanted.map(str::to_owned)[..], true));
        // Each of these has hundreds of names: no more are held than the bound allows.
        let mut paths = Paths { all: BTreeSet::new(), most: 99_999, names: 0, bytes: 0 };
        for n in 0usize.. {
            if paths.are_too_many() {
                break;
            }
            paths.insert([b"d/".repeat(1 << 9), n.to_string().into_bytes()].concat());
        }
        assert!(paths.all.len() < 1 << 12 && !paths.all.is_empty());
        let few = compare(vec![side("a", &[]), side("b", &[])], Some(&base), 2).unwrap();
        assert!(few.rows.len() <= 2 && !few.all);
    }
}
