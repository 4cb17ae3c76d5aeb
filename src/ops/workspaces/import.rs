//! `aj workspace create --import`: a host directory copied into a layer that workspaces lie over.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Error;
use crate::base::text;
use crate::monitor::Monitor;
use crate::ops::volumes;
use crate::schema::workspace::Import;
use crate::store::layout::StateDir;
use crate::store::workspaces::{NewLayer, Placed, UPPER, open_room, release};
use crate::sys::at;
use crate::sys::openat2::{self, For};
use crate::workspace::import::{Ask, Few, copy_in};

/// How often progress is told.
const BETWEEN: Duration = Duration::from_millis(50);
/// What is named of what stayed behind, and of what changed.
const NAMED: usize = 5;

/// Bytes of a path that a tree is seen at, at most.
const LONGEST: usize = 1024;

/// A copy that is there, and kept from being taken for a leftover as long as this lives.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) placed: Placed,
    pub(super) import: Import,
}

/// Copy the directory `from`: absolute, without links. What stays behind is told.
pub(super) fn copy(
    state: &StateDir,
    (from, shown): (&Path, String),
    monitor: &dyn Monitor,
) -> Result<Copied, Error> {
    let failed = |source: crate::sys::Error| Error::Import { from: from.to_owned(), source };
    let source = openat2::absolute(from.as_os_str().as_bytes(), For::Listing).map_err(failed)?;
    // What a killed one left, which may be large. Failing is no reason not to make another.
    release(state).ok();
    let layer = NewLayer::ground(state)?;
    let done = fill(state, (source, from), &layer, monitor);
    let taken = match done {
        Ok(taken) => taken,
        Err(e) => {
            // Its own error would tell less; what is left has no name, and goes with the next sweep.
            layer.discard().ok();
            return Err(e);
        }
    };
    if let Some(why) = without_git(from) {
        monitor.warn(&why);
    }
    tell(monitor, (from, "was left out"), &taken.left_out);
    tell(monitor, (from, "changed while it was copied"), &taken.changed);
    let placed = layer.place(state)?;
    let import = Import {
        from: shown,
        layer: placed.name.clone(),
        files: taken.files + taken.links,
        bytes: taken.bytes,
    };
    Ok(Copied { placed, import })
}

/// Bytes of a file of git's that are looked at.
const POINTER: usize = 4096;

/// Why git does not work in a copy of `from`, or not with all that it had, if that is so: what a repository has
/// elsewhere is not copied, and a copy at another place is nobody's worktree. Only said, so what cannot be read
/// is not judged; what is judged was written by whoever made the tree, and decides nothing else.
fn without_git(from: &Path) -> Option<String> {
    let top = openat2::absolute(from.as_os_str().as_bytes(), For::Listing).ok()?;
    let text = |dir: &std::os::fd::OwnedFd, name: &[u8]| {
        let named = openat2::beneath(dir, name, For::Naming).ok()?;
        let file =
            (at::fstat(&named).ok()?.kind == at::FileKind::File).then(|| at::reopen(&named).ok())??;
        let mut bytes = Vec::new();
        let file = std::fs::File::from(file);
        std::io::Read::read_to_end(&mut std::io::Read::take(file, POINTER as u64), &mut bytes).ok()?;
        Some(bytes)
    };
    let leads_out =
        |path: &[u8]| path.first() == Some(&b'/') || path.split(|b| *b == b'/').any(|c| c == b"..");
    let whole = text::brief(&text::os(&from.join(".git")));
    let elsewhere = |what: &str| {
        Some(format!(
            "`{whole}` is {what} a git directory elsewhere, which is not copied: git has no repository in the \
             workspace (`--from-dir` shows it, and a clone can be imported)"
        ))
    };
    match at::stat(&top, b".git").ok()?.kind {
        at::FileKind::File => {
            let bytes = text(&top, b".git")?;
            let path = bytes.strip_prefix(b"gitdir:")?.trim_ascii();
            if leads_out(path) {
                elsewhere("the pointer of a linked worktree or a submodule to")
            } else {
                None
            }
        }
        at::FileKind::Symlink => {
            if leads_out(&at::read_link(&top, b".git").ok()?) {
                elsewhere("a link to")
            } else {
                None
            }
        }
        at::FileKind::Dir => {
            let git = openat2::beneath(&top, b".git", For::Listing).ok()?;
            if text(&git, b"commondir").is_some_and(|path| leads_out(path.trim_ascii())) {
                return elsewhere("a part of");
            }
            let borrowed = text(&git, b"objects/info/alternates")?;
            let some =
                borrowed.split(|b| *b == b'\n').any(|line| !line.is_empty() && !line.starts_with(b"#"));
            some.then(|| {
                format!(
                    "`{whole}` borrows objects from another repository (`objects/info/alternates`), which is not \
                     copied: `git repack -ad` brings them in, then import it"
                )
            })
        }
        _ => None,
    }
}

impl Copied {
    /// What came of making what was to lie over it. Where that is nothing, the copy goes.
    pub(super) fn settle<T>(
        copied: Option<Copied>,
        state: &StateDir,
        made: Result<T, Error>,
    ) -> Result<T, Error> {
        if copied.is_some() && made.is_err() {
            drop(copied);
            // Nobody stands on it. The error is what counts; the next sweep tries again.
            release(state).ok();
        }
        made
    }
}

fn fill(
    state: &StateDir,
    (source, from): (std::os::fd::OwnedFd, &Path),
    layer: &NewLayer,
    monitor: &dyn Monitor,
) -> Result<crate::workspace::import::Taken, Error> {
    let failed = |source: crate::sys::Error| Error::Import { from: from.to_owned(), source };
    let links = c"links";
    let (scratch, upper) = (layer.scratch(links)?, open_room(layer.dir(), UPPER)?);
    monitor.phase("entries copied:", 0);
    let (mut told, mut since) = (Instant::now(), 0);
    let mut step = || {
        layer.step();
        since += 1;
        if since & 63 == 0 && told.elapsed() >= BETWEEN {
            monitor.step(since);
            (told, since) = (Instant::now(), 0);
        }
    };
    let mut ask = Ask { apart: at::fstat(state).map_err(failed)?, step: &mut step };
    let taken = copy_in(source, upper, std::os::fd::AsFd::as_fd(&scratch), &mut ask).map_err(failed)?;
    drop(scratch);
    layer.drop_scratch(links)?;
    // The user may remove the original once the copy is there.
    nix::unistd::syncfs(layer.dir()).map_err(|e| failed(crate::sys::Error::new("syncfs", "", e)))?;
    Ok(taken)
}

fn tell(monitor: &dyn Monitor, (from, what): (&Path, &str), few: &Few) {
    for (path, why) in few.named.iter().take(NAMED) {
        let whole = from.join(OsStr::from_bytes(path));
        monitor.warn(&format!("`{}` {what}: {why}", text::brief(&text::os(&whole))));
    }
    let more = few.total.saturating_sub(NAMED as u64);
    if more > 0 {
        monitor.warn(&format!("{more} more in `{}` {what}", text::os(from)));
    }
}

/// `--at`: a path that a tree of the workspace's own can be seen at.
pub(super) fn place(path: &Path) -> Result<Option<String>, Error> {
    let refuse = |why: &str| Error::At { path: path.to_owned(), why: why.to_owned() };
    let plain = path.to_str().filter(|text| !text.chars().any(char::is_control));
    let Some(text) = plain else { return Err(refuse("it is not plain text")) };
    let whole: PathBuf = path.components().collect();
    if !path.is_absolute() || text.split('/').any(|part| part == "." || part == "..") {
        return Err(refuse("it is not an absolute path without `.` and `..`"));
    }
    if whole == Path::new("/workspace") {
        return Ok(None);
    }
    if text.len() > LONGEST || text.split('/').any(|part| part.len() > 255) {
        return Err(refuse("it is too long"));
    }
    if whole.starts_with("/home/agent") {
        return Err(refuse("the jail has its own `/home/agent`"));
    }
    match volumes::taken(&whole) {
        Some(why) => Err(refuse(&why)),
        None => Ok(whole.to_str().map(str::to_owned)),
    }
}
