//! An upper layer copied to another file system: out of the memory of a jail that has ended, and back into
//! that of the next one.
//!
//! Only what belongs to it comes along: files, links, directories, whiteouts, and attributes that are the
//! jail's own. What the kernel notes to itself in an upper layer is made anew where it means something.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, mknodat};

use super::names::Names;
use super::trail::Trail;
use super::upper::{self, Opacity, UpperKind};
use crate::base::text::printable;
use crate::store::whiteout;
use crate::sys::at::{self, Meta};
use crate::sys::openat2::{self, For};
use crate::sys::{Error, Result, copy, xattr};

/// What the kernel notes to itself.
const OVERLAYS: &[u8] = b"user.overlay.";

struct Frame {
    names: Names,
    next: usize,
    opacity: Opacity,
}

/// Copy what is in the upper layer `from` into the empty directory `to`. As root, owners come along.
/// Sockets do not: nobody listens on them any more. Files with several names become several files.
pub fn carry(from: OwnedFd, to: OwnedFd) -> Result<()> {
    let mut from = Trail::of_jail(from, For::Listing)?;
    let mut to = Trail::new(to, For::Listing)?;
    let mut frames = vec![frame(&from, &to)?];
    loop {
        let Some(Frame { names, next, opacity }) = frames.last_mut() else { return Ok(()) };
        let Some(name) = names.get(*next) else {
            finish(&from, &to)?;
            frames.pop();
            if !frames.is_empty() {
                from.leave()?;
                to.leave()?;
            }
            continue;
        };
        *next += 1;
        let dir = from.top()?;
        let meta = at::stat(dir, name)?;
        let kind = upper::kind(dir, name, &meta, opacity.marked_files)?;
        match kind {
            // In an opaque directory there is nothing that it could hide.
            UpperKind::Whiteout if opacity.opaque => {}
            UpperKind::Whiteout => {
                whiteout::make(to.top()?, name)?;
                own_by_name(to.top()?, name, &meta)?;
            }
            UpperKind::Dir => {
                at::make_dir(to.top()?, name, 0o700)?;
                from.enter_unlocking(name)?;
                to.enter(name)?;
                let below = frame(&from, &to)?;
                frames.push(below);
            }
            UpperKind::File | UpperKind::Symlink | UpperKind::Special(_) => {
                entry(dir, to.top()?, name, &meta)?;
            }
        }
    }
}

fn frame(from: &Trail, to: &Trail) -> Result<Frame> {
    let opacity = upper::opacity(from.top()?)?;
    if opacity.opaque {
        xattr::set(to.top()?, c"user.overlay.opaque", b"y")?;
    }
    Ok(Frame { names: Names::read(from.top()?, |_| true)?, next: 0, opacity })
}

/// What a directory is, once nothing more is made in it.
fn finish(from: &Trail, to: &Trail) -> Result<()> {
    finish_directory(from.top()?, to.top()?, &from.meta()?)
}

/// The same for one directory, which `meta` is about.
pub(super) fn finish_directory(from: BorrowedFd<'_>, made: BorrowedFd<'_>, meta: &Meta) -> Result<()> {
    attributes(from, made);
    own(made, meta)?;
    at::set_mode(made, meta.mode & 0o7777)?;
    // A time that the file system cannot hold is no reason to lose the content.
    at::set_mtime_of(made, meta.mtime).ok();
    Ok(())
}

/// Copy one entry that is no directory, whatever it says of itself in attributes of the overlay's.
pub(super) fn entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &[u8], meta: &Meta) -> Result<()> {
    match meta.kind {
        at::FileKind::File => {
            let source = upper::open_file(from, name)?;
            let now = at::fstat(&source)?;
            if now.kind != at::FileKind::File {
                return Err(Error::new("open", printable(name), Errno::ESTALE));
            }
            let made = openat2::create(to, name, 0o600)?;
            copy::file(&source, &made, now.size).map_err(|e| e.on(printable(name)))?;
            attributes(&source, &made);
            own(&made, meta)?;
            at::set_mode(&made, meta.mode & 0o7777)?;
            at::set_mtime_of(&made, meta.mtime).ok();
            Ok(())
        }
        at::FileKind::Symlink => {
            at::make_link(to, name, &at::read_link(from, name)?)?;
            own_by_name(to, name, meta)?;
            at::set_mtime(to, name, meta.mtime).ok();
            Ok(())
        }
        at::FileKind::Fifo => {
            let fail = |e| Error::new("mkfifo", printable(name), e);
            let path = openat2::path(name)?;
            mknodat(to, path.as_c_str(), SFlag::S_IFIFO, Mode::empty(), 0).map_err(fail)?;
            own_by_name(to, name, meta)?;
            at::set_mode_by_path_fd(&openat2::beneath(to, name, For::Naming)?, meta.mode & 0o777)
        }
        at::FileKind::Dir
        | at::FileKind::Socket
        | at::FileKind::Char(..)
        | at::FileKind::Block
        | at::FileKind::Other => Ok(()),
    }
}

/// Copy the attributes that are not the overlay's notes. File systems without any, or without room: the content is
/// what matters.
pub(super) fn attributes(from: impl AsFd, to: impl AsFd) {
    attributes_or(from, to, |_, _| Ok(())).ok();
}

/// The same, where `failed` decides what an attribute that could not be copied means.
pub(super) fn attributes_or(
    from: impl AsFd,
    to: impl AsFd,
    mut failed: impl FnMut(&CStr, Error) -> Result<()>,
) -> Result<()> {
    let names = xattr::all_names(&from)?;
    for name in names.into_iter().filter(|n| n.starts_with(b"user.") && !n.starts_with(OVERLAYS)) {
        let Ok(name) = CString::new(name) else { continue };
        let value = xattr::get_all(&from, &name);
        let copied = value.and_then(|v| v.map_or(Ok(()), |value| xattr::set(&to, &name, &value)));
        if let Err(e) = copied {
            failed(&name, e)?;
        }
    }
    Ok(())
}

fn own(made: impl AsFd, meta: &Meta) -> Result<()> {
    if !at::is_root() {
        return Ok(());
    }
    at::set_owner(made, Some(meta.uid), Some(meta.gid))
}

fn own_by_name(dir: BorrowedFd<'_>, name: &[u8], meta: &Meta) -> Result<()> {
    if !at::is_root() {
        return Ok(());
    }
    own(openat2::beneath(dir, name, For::Naming)?, meta)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    fn open(path: &Path) -> OwnedFd {
        fs::File::open(path).unwrap().into()
    }

    #[test]
    fn an_upper_layer_means_the_same_when_it_has_been_carried() {
        let t = super::super::tests::memory_dir();
        let [a, b, c] = ["a", "b", "c"].map(|n| t.path().join(n));
        for d in [&a, &b, &c, &a.join("d"), &a.join("d/shut"), &a.join("opaque")] {
            fs::create_dir(d).unwrap();
        }
        fs::write(a.join("d/f"), "text").unwrap();
        fs::set_permissions(a.join("d/f"), fs::Permissions::from_mode(0o4750)).unwrap();
        symlink("../../etc/passwd", a.join("d/link")).unwrap();
        nix::unistd::mkfifo(&a.join("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(a.join("socket")).unwrap();
        fs::write(a.join("d/shut/x"), "").unwrap();
        fs::set_permissions(a.join("d/shut"), fs::Permissions::from_mode(0o0)).unwrap();
        let past = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        fs::File::open(a.join("d/f")).unwrap().set_modified(past).unwrap();
        whiteout::make(open(&a.join("d")).as_fd(), b"gone").unwrap();
        xattr::set(open(&a.join("opaque")), c"user.overlay.opaque", b"y").unwrap();
        xattr::set(open(&a.join("d/f")), c"user.mine", b"1").unwrap();
        xattr::set(open(&a.join("d/f")), c"user.overlay.redirect", b"/etc").unwrap();
        carry(open(&a), open(&b)).unwrap();
        carry(open(&b), open(&c)).unwrap();
        for to in [&b, &c] {
            let meta = fs::symlink_metadata(to.join("d/f")).unwrap();
            assert_eq!((meta.mode() & 0o7777, meta.modified().unwrap()), (0o4750, past));
            assert_eq!(fs::read(to.join("d/f")).unwrap(), b"text");
            assert_eq!(fs::read_link(to.join("d/link")).unwrap(), Path::new("../../etc/passwd"));
            assert!(
                fs::symlink_metadata(to.join("socket")).is_err()
                    && fs::symlink_metadata(to.join("fifo")).is_ok()
            );
            assert_eq!(fs::metadata(to.join("d/shut")).unwrap().mode() & 0o7777, 0);
            let d = open(&to.join("d"));
            let opacity = upper::opacity(&d).unwrap();
            let meta = at::stat(&d, b"gone").unwrap();
            assert_eq!(
                upper::kind(d.as_fd(), b"gone", &meta, opacity.marked_files).unwrap(),
                UpperKind::Whiteout
            );
            assert!(upper::opacity(open(&to.join("opaque"))).unwrap().opaque);
            assert_eq!(xattr::get(open(&to.join("d/f")), c"user.mine").unwrap().as_deref(), Some(&b"1"[..]));
            assert_eq!(xattr::get(open(&to.join("d/f")), c"user.overlay.redirect").unwrap(), None);
        }
        for d in [&a, &b, &c] {
            fs::set_permissions(d.join("d/shut"), fs::Permissions::from_mode(0o700)).unwrap();
        }
    }

    #[test]
    fn a_tree_of_any_depth_is_carried() {
        let t = super::super::tests::memory_dir();
        let [a, b] = ["a", "b"].map(|n| t.path().join(n));
        for d in [&a, &b] {
            fs::create_dir(d).unwrap();
        }
        let mut deep = Trail::new(open(&a), For::Listing).unwrap();
        for _ in 0..2_000 {
            at::make_dir(deep.top().unwrap(), b"d", 0o700).unwrap();
            deep.enter(b"d").unwrap();
        }
        carry(open(&a), open(&b)).unwrap();
        let mut there = Trail::new(open(&b), For::Listing).unwrap();
        for _ in 0..2_000 {
            there.enter(b"d").unwrap();
        }
    }
}
