//! From a tree to the host.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::super::read::regular;
use super::super::{Error, Result, Target, directory, why};
use super::{Options, Sum, special};
use crate::base::text;
use crate::monitor::Monitor;
use crate::schema::files::Copied;
use crate::sys;
use crate::sys::at::FileKind;
use crate::sys::openat2::{self, For};
use crate::workspace::view::export::{self, Exported, How};
use crate::workspace::view::resolve::Last;
use crate::workspace::view::{self, At, Spot, Walk};

/// A place on the host: an open directory, and a name in it.
struct Place {
    dir: OwnedFd,
    name: Vec<u8>,
}

fn host(what: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Host { what, name: text::os(path), source }
}

fn call(e: sys::Error) -> io::Error {
    io::Error::from(e.errno)
}

/// Whether a spot is a directory.
pub(super) fn is_directory(spot: &Spot) -> bool {
    match &spot.at {
        At::Top(_) => true,
        At::In { entry, .. } => entry.is_some_and(|e| e.meta.kind == FileKind::Dir),
    }
}

/// The name that a copy of a spot gets. As for `cp`, `DIR/.` is what is in it, and has none.
pub(super) fn own_name(target: &Target, spot: &Spot, given: &OsStr) -> Option<Vec<u8>> {
    if given.as_bytes().ends_with(b"/.") || given.as_bytes() == b"." {
        return None;
    }
    match view::split(&spot.path).1 {
        b"" => target.view.places[spot.place].at.last().cloned(),
        name => Some(name.to_vec()),
    }
}

/// Copy what is at `from` to the host's `to`, into it if that is a directory.
pub fn copy_out(
    target: &Target,
    (from, to): (&OsStr, &Path),
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Copied> {
    let spot = target.find(from, Last::Follow)?;
    let mut sum = Sum::new(target, "out");
    monitor.phase("copying", 0);
    let own = own_name(target, &spot, from);
    let how = How {
        no_clobber: options.no_clobber,
        mode: options.mode,
        umask: sys::umask::callers().bits(),
        excludes: &|path, is_dir| options.excludes(path, is_dir),
    };
    if !is_directory(&spot) {
        let (parent, entry) = regular(&spot, from)?;
        let name = view::split(&spot.path).1;
        let file = parent.open(name).map_err(view::Error::sys("read", from.as_bytes()))?;
        let place = place(to, Some(name))?;
        let done = export::file(&file, &entry.meta, (place.dir.as_fd(), &place.name), &how);
        add(&mut sum, name, Ok(done.map_err(|e| host("write", to, call(e)))?));
        return Ok(sum.0);
    }
    if !options.recursive {
        return Err(view::Error::Is { path: from.as_bytes().to_vec(), is: "a directory" }.into());
    }
    let place = place(to, own.as_deref())?;
    let (dir, _) = directory(target, &spot, from)?;
    let made = export::directory(place.dir.as_fd(), &place.name).map_err(|e| host("make", to, call(e)))?;
    let open = || openat2::beneath(&place.dir, &place.name, For::Listing);
    let (root, top) = open().and_then(|root| Ok((root, open()?))).map_err(|e| host("open", to, call(e)))?;
    let mut walk =
        Walk::over(&target.view, &spot, &dir).map_err(view::Error::sys("read", from.as_bytes()))?;
    let mut tell = |path: &[u8], done| {
        monitor.step(1);
        add(&mut sum, path, done);
    };
    export::tree(&mut walk, root, &how, &mut tell).map_err(view::Error::sys("copy", from.as_bytes()))?;
    if matches!(made, Exported::Directory) {
        export::finish(&top, &dir.meta, &how);
        sum.0.directories += 1;
    }
    Ok(sum.0)
}

fn add(sum: &mut Sum, path: &[u8], done: sys::Result<Exported>) {
    match done {
        Ok(Exported::Directory) => sum.0.directories += 1,
        Ok(Exported::File(bytes)) => (sum.0.files, sum.0.bytes) = (sum.0.files + 1, sum.0.bytes + bytes),
        Ok(Exported::Link(target)) => sum.link(path, &target),
        Ok(Exported::Kept) => {}
        Ok(Exported::Special(meta)) => sum.skip(path, special(&meta)),
        Ok(Exported::Itself) => sum.skip(path, "is the directory that it is copied to"),
        Err(e) => sum.fail(path, why(&e)),
    }
}

/// Where `to` is. `own`: the name that is taken in it, if it is a directory.
fn place(to: &Path, own: Option<&[u8]>) -> Result<Place> {
    let into = std::fs::metadata(to).is_ok_and(|m| m.is_dir());
    let (dir, name) = match (into, own) {
        (true, Some(own)) => (to.to_owned(), own.to_vec()),
        (true, None) => {
            let real = std::fs::canonicalize(to).map_err(|e| host("find", to, e))?;
            match (real.parent(), real.file_name()) {
                (Some(dir), Some(name)) => (dir.to_owned(), name.as_bytes().to_vec()),
                _ => {
                    return Err(Error::Asked(
                        "nothing is copied onto `/` itself: name a directory".to_owned(),
                    ));
                }
            }
        }
        (false, _) => {
            let no_name = || Error::Asked(format!("`{}` is no directory that is there", text::os(to)));
            let bytes = to.as_os_str().as_bytes();
            let name = to.file_name().filter(|_| own.is_none() || !bytes.ends_with(b"/"));
            let name = name.ok_or_else(no_name)?.as_bytes().to_vec();
            let parent = to.parent().filter(|p| !p.as_os_str().is_empty());
            (parent.map_or_else(|| PathBuf::from("."), Path::to_owned), name)
        }
    };
    // The user's own path: its links are followed, here and never again.
    let real = std::fs::canonicalize(&dir).map_err(|e| host("find the directory", &dir, e))?;
    let dir = openat2::absolute(real.as_os_str().as_bytes(), For::Listing);
    Ok(Place { dir: dir.map_err(|e| host("open the directory", &real, call(e)))?, name })
}
