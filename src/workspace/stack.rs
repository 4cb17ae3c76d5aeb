//! The upper layers of a workspace as one, the newest first: its own, and the sealed ones below it.
//!
//! What the kernel makes of them: an entry of a newer layer decides; directories of one name are one, down
//! to the first layer that has something else there, or whose directory is opaque.

use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::names::Names;
use super::trail::Trail;
use super::upper::{self, UpperKind};
use crate::base::text::printable;
use crate::sys::at::{self, Meta};
use crate::sys::openat2::For;
use crate::sys::{Error, Result, errno};

/// Open upper layers, the newest first; never none.
#[derive(Debug)]
pub struct Uppers(Vec<OwnedFd>);

impl From<OwnedFd> for Uppers {
    fn from(upper: OwnedFd) -> Uppers {
        Uppers(vec![upper])
    }
}

impl Uppers {
    /// `upper` over the sealed layers `below`, the newest first.
    pub fn new(upper: OwnedFd, below: Vec<OwnedFd>) -> Uppers {
        Uppers(std::iter::once(upper).chain(below).collect())
    }

    /// Descriptors of their own for the same directories.
    pub fn try_clone(&self) -> Result<Uppers> {
        let dup = |fd: &OwnedFd| fd.try_clone().map_err(|e| Error::new("dup", "", errno(&e)));
        self.0.iter().map(dup).collect::<Result<_>>().map(Uppers)
    }

    /// All of them, the newest first.
    pub fn into_inner(self) -> Vec<OwnedFd> {
        self.0
    }

    /// The workspace's own, which may be written, and the sealed ones below it, the newest first.
    pub fn into_parts(mut self) -> (Option<OwnedFd>, Vec<OwnedFd>) {
        let below = self.0.split_off(self.0.len().min(1));
        (self.0.pop(), below)
    }
}

/// The way down through them.
#[derive(Debug)]
pub(super) struct Stack {
    layers: Vec<Trail>,
    levels: Vec<Level>,
}

/// A directory on the way.
#[derive(Debug)]
struct Level {
    /// Numbers of the layers that have a part of it, the newest first, and whether empty files in that may
    /// be whiteouts.
    members: Vec<(usize, bool)>,
    opaque: bool,
}

impl Stack {
    /// Start at the tops of `layers`.
    pub(super) fn new(layers: Vec<OwnedFd>) -> Result<Stack> {
        let layers = layers.into_iter().map(|fd| Trail::new(fd, For::Listing));
        let mut stack = Stack { layers: layers.collect::<Result<_>>()?, levels: Vec::new() };
        let mut level = Level { members: Vec::with_capacity(stack.layers.len()), opaque: false };
        for number in 0..stack.layers.len() {
            stack.join(&mut level, number)?;
            if level.opaque {
                break;
            }
        }
        stack.levels.push(level);
        Ok(stack)
    }

    /// Take the directory on top of a layer in.
    fn join(&self, level: &mut Level, number: usize) -> Result<()> {
        let opacity = upper::opacity(self.layer(number)?.top()?)?;
        level.members.push((number, opacity.marked_files));
        level.opaque |= opacity.opaque;
        Ok(())
    }

    fn layer(&self, number: usize) -> Result<&Trail> {
        self.layers.get(number).ok_or_else(stale)
    }

    fn layer_mut(&mut self, number: usize) -> Result<&mut Trail> {
        self.layers.get_mut(number).ok_or_else(stale)
    }

    fn here(&self) -> Result<&Level> {
        self.levels.last().ok_or_else(stale)
    }

    /// Directories on the way, the root included.
    pub(super) fn depth(&self) -> usize {
        self.levels.len()
    }

    /// Whether nothing of the base shows through in the current directory.
    pub(super) fn is_opaque(&self) -> Result<bool> {
        self.here().map(|level| level.opaque)
    }

    /// The names in the current directory.
    pub(super) fn names(&self) -> Result<Names> {
        let mut names = Names::default();
        for (number, _) in &self.here()?.members {
            let more = Names::read(self.layer(*number)?.top()?, |name| !names.contains(name))?;
            names.merge(more)?;
        }
        Ok(names)
    }

    /// The entry `name` of the current directory: where it is, and what. `ENOENT` when there is none.
    pub(super) fn look(&self, name: &[u8]) -> Result<(BorrowedFd<'_>, Meta, UpperKind)> {
        for (number, marked) in &self.here()?.members {
            let dir = self.layer(*number)?.top()?;
            if let Some(meta) = at::stat_opt(dir, name)? {
                return Ok((dir, meta, upper::kind(dir, name, &meta, *marked)?));
            }
        }
        Err(Error::new("stat", printable(name), Errno::ENOENT))
    }

    /// The directory that the entry `name` is in.
    pub(super) fn dir_of(&self, name: &[u8]) -> Result<BorrowedFd<'_>> {
        match self.here()?.members.as_slice() {
            // Without looking whether it is there: whoever asks opens it.
            [(only, _)] => self.layer(*only)?.top(),
            _ => self.look(name).map(|(dir, ..)| dir),
        }
    }

    /// Whether empty files in a part of the current directory may be whiteouts.
    pub(super) fn is_marked(&self) -> Result<bool> {
        self.here().map(|level| level.members.iter().any(|(_, marked)| *marked))
    }

    /// The directory of the newest layer, which decides about the current one itself.
    pub(super) fn newest(&self) -> Result<BorrowedFd<'_>> {
        let first = self.here()?.members.first().ok_or_else(stale)?;
        self.layer(first.0)?.top()
    }

    /// The directory of the oldest layer that has a part of it.
    pub(super) fn oldest(&self) -> Result<BorrowedFd<'_>> {
        let last = self.here()?.members.last().ok_or_else(stale)?;
        self.layer(last.0)?.top()
    }

    /// The top of the one layer that there is; `None` when there are several.
    pub(super) fn only_root(&self) -> Result<Option<BorrowedFd<'_>>> {
        match self.layers.as_slice() {
            [only] => only.root().map(Some),
            _ => Ok(None),
        }
    }

    /// Its metadata when it was entered.
    pub(super) fn meta(&self) -> Result<Meta> {
        let first = self.here()?.members.first().ok_or_else(stale)?;
        self.layer(first.0)?.meta()
    }

    /// Go into the directory `name`; see [`Trail::enter_unlocking`].
    pub(super) fn enter_unlocking(&mut self, name: &[u8]) -> Result<()> {
        let mut level = Level { members: Vec::new(), opaque: false };
        let entered = self.enter_each(name, &mut level);
        if entered.is_err() {
            for (number, _) in &level.members {
                self.layer_mut(*number)?.leave()?;
            }
            return entered;
        }
        self.levels.push(level);
        Ok(())
    }

    fn enter_each(&mut self, name: &[u8], level: &mut Level) -> Result<()> {
        let above: Vec<(usize, bool)> = self.here()?.members.clone();
        for (number, marked) in above {
            let trail = self.layer_mut(number)?;
            let dir = trail.top()?;
            let Some(meta) = at::stat_opt(dir, name)? else { continue };
            if upper::kind(dir, name, &meta, marked)? != UpperKind::Dir {
                // It hides what is below, as an opaque directory would.
                level.opaque = true;
                break;
            }
            trail.enter_unlocking(name)?;
            if let Err(e) = self.join(level, number) {
                self.layer_mut(number)?.leave()?;
                return Err(e);
            }
            if level.opaque {
                break;
            }
        }
        if level.members.is_empty() {
            return Err(Error::new("open", printable(name), Errno::ENOENT));
        }
        Ok(())
    }

    /// Back to the parent.
    pub(super) fn leave(&mut self) -> Result<()> {
        let Some(level) = self.levels.pop() else { return Ok(()) };
        let mut done = Ok(());
        for (number, _) in level.members {
            done = done.and(self.layer_mut(number).and_then(Trail::leave));
        }
        done
    }
}

fn stale() -> Error {
    Error::new("walk", "", Errno::ESTALE)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::sys::xattr;

    fn write(top: &Path, name: &str) {
        let path = top.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, top.file_name().unwrap().as_encoded_bytes()).unwrap();
    }

    fn whiteout(top: &Path, name: &str) {
        let path = top.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let dir = std::fs::File::open(path.parent().unwrap()).unwrap();
        crate::store::whiteout::make(
            std::os::fd::AsFd::as_fd(&dir),
            path.file_name().unwrap().as_encoded_bytes(),
        )
        .unwrap();
    }

    /// Everything seen: files with the layer they are of, directories, whiteouts.
    fn seen(tops: &[&Path]) -> Vec<String> {
        fn walk(stack: &mut Stack, at: &str, all: &mut Vec<String>) {
            let names = stack.names().unwrap();
            for name in (0..names.len()).map(|n| names.get(n).unwrap().to_vec()) {
                let path = format!("{at}{}", String::from_utf8_lossy(&name));
                match stack.look(&name).unwrap().2 {
                    UpperKind::Dir => {
                        stack.enter_unlocking(&name).unwrap();
                        all.push(format!("{path}/{}", if stack.is_opaque().unwrap() { "!" } else { "" }));
                        walk(stack, &format!("{path}/"), all);
                        stack.leave().unwrap();
                    }
                    UpperKind::Whiteout => all.push(format!("-{path}")),
                    _ => {
                        let file = upper::open_file(stack.dir_of(&name).unwrap(), &name).unwrap();
                        let of = crate::sys::copy::read_all(file, 99).unwrap().unwrap();
                        all.push(format!("{path}={}", String::from_utf8_lossy(&of)));
                    }
                }
            }
        }
        let open = |top: &&Path| std::fs::File::open(top).unwrap().into();
        let mut stack = Stack::new(tops.iter().map(open).collect()).unwrap();
        let mut all = Vec::new();
        walk(&mut stack, "", &mut all);
        assert_eq!(stack.depth(), 1);
        all
    }

    #[test]
    fn layers_are_one_as_the_kernel_sees_them() {
        let t = tempfile::tempdir().unwrap();
        let [a, b, c] = ["A", "B", "C"].map(|n| t.path().join(n));
        for top in [&a, &b, &c] {
            write(top, "all");
            write(top, "dir/all");
        }
        write(&c, "dir/deep/c");
        write(&b, "dir/deep/b");
        whiteout(&a, "gone");
        write(&b, "gone");
        // A directory over a whiteout, over a file, and one that is opaque.
        write(&a, "over/a");
        whiteout(&b, "over");
        write(&c, "over/c");
        write(&a, "file/a");
        write(&b, "file");
        write(&c, "file/c");
        write(&a, "opaque/a");
        write(&b, "opaque/b");
        // A file where there was a directory.
        write(&a, "flat");
        write(&b, "flat/b");
        let opaque = std::fs::File::open(a.join("opaque")).unwrap();
        if xattr::set(&opaque, c"user.overlay.opaque", b"y").is_err() {
            eprintln!("SKIP: no user attributes here");
            return;
        }
        assert_eq!(
            seen(&[&a, &b, &c]),
            [
                "all=A",
                "dir/",
                "dir/all=A",
                "dir/deep/",
                "dir/deep/b=B",
                "dir/deep/c=C",
                "file/!",
                "file/a=A",
                "flat=A",
                "-gone",
                "opaque/!",
                "opaque/a=A",
                "over/!",
                "over/a=A",
            ]
        );
        assert_eq!(seen(&[&b])[..3], ["all=B", "dir/", "dir/all=B"]);
    }
}
