//! Layers made by hand, for what no jail on this machine would leave.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::edit::{Owners, Staging};
use super::resolve::{Last, Place, components};
use super::*;
use crate::store::whiteout;
use crate::sys::at::FileKind;
use crate::sys::xattr;

struct Layers {
    dir: tempfile::TempDir,
}

impl Layers {
    /// With these directories.
    fn new() -> Layers {
        let dir = tempfile::tempdir().unwrap();
        for name in ["upper", "low", "base", "staging"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Layers { dir }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn open(&self, path: &str) -> OwnedFd {
        fs::File::open(self.path(path)).unwrap().into()
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }

    fn whiteout(&self, dir: &str, name: &str) {
        whiteout::make(self.open(dir).as_fd(), name.as_bytes()).unwrap();
    }

    fn mark(&self, path: &str, name: &std::ffi::CStr, value: &[u8]) -> bool {
        xattr::set(self.open(path), name, value).inspect_err(|e| eprintln!("SKIP: {e}")).is_ok()
    }

    /// Upper, one sealed layer, base.
    fn stack(&self) -> Stack {
        Stack::overlay(self.open("upper"), vec![self.open("low")], self.open("base"))
    }

    fn view(&self) -> View {
        View {
            places: vec![Place { at: components(b"/p/q").collect(), stack: self.stack(), mount: None }],
            aliases: vec![(components(b"/workspace").collect(), components(b"/p/q").collect())],
        }
    }
}

/// Everything in a view, `path=content` for files, `path/` for directories.
fn all(stack: &Stack) -> Vec<String> {
    let mut walk = Walk::new(stack, &stack.root().unwrap()).unwrap();
    let mut found = Vec::new();
    while let Some(step) = walk.step().unwrap() {
        let path = String::from_utf8_lossy(walk.path()).into_owned();
        match step {
            Step::Left => {}
            Step::Unreadable(e) => found.push(format!("{path}!{}", e.name())),
            Step::Entry(e) => match e.meta.kind {
                FileKind::Dir => {
                    found.push(format!("{path}/"));
                    walk.enter().unwrap();
                }
                FileKind::File => {
                    let text = crate::sys::copy::read_all(walk.open().unwrap(), 99).unwrap().unwrap();
                    found.push(format!("{path}={}", String::from_utf8(text).unwrap()));
                }
                _ => found.push(format!("{path}?")),
            },
        }
    }
    found
}

#[test]
fn the_topmost_layer_that_knows_a_name_decides() {
    let l = Layers::new();
    l.write("base/d/a", "base");
    l.write("base/d/b", "base");
    l.write("base/d/gone", "base");
    l.write("base/f", "base");
    l.write("base/was-dir/x", "base");
    l.write("base/was-file", "base");
    l.write("low/d/b", "low");
    l.write("low/d/c", "low");
    l.write("low/e/x", "low");
    l.whiteout("low/d", "gone");
    l.whiteout("low", "f");
    l.write("upper/d/c", "upper");
    l.write("upper/was-dir", "a file now");
    l.write("upper/was-file/y", "upper");
    l.whiteout("upper", "e");
    l.write("upper/f", "again");
    let expected = [
        "d/",
        "d/a=base",
        "d/b=low",
        "d/c=upper",
        "f=again",
        "was-dir=a file now",
        "was-file/",
        "was-file/y=upper",
    ];
    assert_eq!(all(&l.stack()), expected);
}

#[test]
fn an_opaque_directory_cuts_off_what_is_below_it_and_deeper() {
    let l = Layers::new();
    l.write("base/d/sub/x", "base");
    l.write("low/d/y", "low");
    fs::create_dir_all(l.path("low/d/sub")).unwrap();
    fs::create_dir_all(l.path("upper/d/sub")).unwrap();
    assert_eq!(all(&l.stack()), ["d/", "d/sub/", "d/sub/x=base", "d/y=low"]);
    if !l.mark("low/d", c"user.overlay.opaque", b"y") {
        return;
    }
    assert_eq!(all(&l.stack()), ["d/", "d/sub/", "d/y=low"], "of the base nothing shows");
    l.mark("upper/d", c"user.overlay.opaque", b"y");
    assert_eq!(all(&l.stack()), ["d/", "d/sub/"]);
    // Whiteouts in the other form, in a directory that says so.
    l.write("low/m/one", "low");
    l.write("low/m/two", "low");
    l.write("upper/m/one", "");
    l.mark("upper/m/one", c"user.overlay.whiteout", b"y");
    assert!(all(&l.stack()).contains(&"m/one=".to_owned()), "without the word of its directory a file");
    l.mark("upper/m", c"user.overlay.opaque", b"x");
    assert_eq!(all(&l.stack())[2..], ["m/", "m/two=low"]);
}

#[test]
fn attributes_that_a_repository_or_a_plain_directory_brings_mean_nothing() {
    let l = Layers::new();
    l.write("base/d/x", "base");
    l.write("low/redirected/y", "low");
    l.write("base/elsewhere/secret", "secret");
    if !l.mark("base/d", c"user.overlay.opaque", b"y") {
        return;
    }
    l.mark("low/redirected", c"user.overlay.redirect", b"/elsewhere");
    l.mark("low/redirected/y", c"user.overlay.metacopy", b"");
    let shown =
        ["d/", "d/x=base", "elsewhere/", "elsewhere/secret=secret", "redirected/", "redirected/y=low"];
    assert_eq!(all(&l.stack()), shown);
    // In a directory that is bound as it is, a jail can set all of them, and make the device.
    l.write("staging/d/x", "");
    l.mark("staging/d", c"user.overlay.opaque", b"x");
    l.mark("staging/d/x", c"user.overlay.whiteout", b"y");
    l.whiteout("staging", "device");
    assert_eq!(all(&Stack::plain(l.open("staging"))), ["d/", "d/x=", "device?"]);
}

#[test]
fn paths_are_those_of_the_jail_and_links_never_lead_out() {
    let l = Layers::new();
    l.write("base/a/f", "f");
    l.write("base/a/b/g", "g");
    for (link, target) in [
        ("base/abs", "/p/q/a/f"),
        ("base/alias", "/workspace/a/b"),
        ("base/up", "a/../a/b/../f"),
        ("base/round", "../../workspace/a/f"),
        ("base/out", "/etc/passwd"),
        ("base/climb", "../../../../etc"),
        ("base/loop", "loop"),
        ("base/two", "three"),
        ("base/three", "two"),
        ("base/dangling", "a/none"),
        ("base/proc", "/proc/self/fd/3"),
        ("base/a/rel", "b/g"),
    ] {
        symlink(target, l.path(link)).unwrap();
    }
    let view = l.view();
    let find = |path: &str| match view.find(path.as_bytes(), Last::Follow) {
        Ok(spot) => {
            let there = match &spot.at {
                At::Top(_) => true,
                At::In { entry, .. } => entry.is_some(),
            };
            format!("{}{}", String::from_utf8(view.shown(&spot)).unwrap(), if there { "" } else { " (none)" })
        }
        Err(e) => e.to_string(),
    };
    for (path, found) in [
        (".", "."),
        ("", "."),
        ("a/f", "a/f"),
        ("./a//b/./g", "a/b/g"),
        ("a/b/..", "a"),
        ("/p/q/a/f", "a/f"),
        ("/workspace/a/f", "a/f"),
        ("/workspace", "."),
        ("/p/../workspace/../q/a", "a"),
        ("../q/a", "a"),
        ("abs", "a/f"),
        ("alias/g", "a/b/g"),
        ("up", "a/f"),
        ("round", "a/f"),
        ("a/rel", "a/b/g"),
        ("dangling", "a/none (none)"),
        ("new", "new (none)"),
        ("out", "`out` leads out of the workspace, to `/etc/passwd`"),
        ("climb/passwd", "`climb/passwd` leads out of the workspace, to `/etc/passwd`"),
        ("proc", "`proc` leads out of the workspace, to `/proc/self/fd/3`"),
        ("loop", "`loop` leads through too many links"),
        ("two", "`two` leads through too many links"),
        ("/etc/passwd", "`/etc/passwd` is not a part of the workspace"),
        ("/", "`/` is not a part of the workspace"),
        ("../..", "`/` is not a part of the workspace"),
        ("a/f/x", "`a/f/x` is not a directory"),
        ("a/f/", "`a/f/` is not a directory"),
        ("none/x", "no `none/x`"),
    ] {
        assert_eq!(find(path), found, "{path}");
    }
    assert!(matches!(view.find(b"out", Last::Keep).unwrap().at, At::In { entry: Some(_), .. }));
}

#[test]
fn a_path_of_long_ways_ends() {
    let l = Layers::new();
    let deep = "d/".repeat(300);
    fs::create_dir_all(l.path("base").join(&deep)).unwrap();
    // Down and up again, as often as a link can say, through forty links.
    let mut target = format!("{deep}{}", "../".repeat(300)).repeat(3);
    target.truncate(4000);
    for n in 0..40 {
        symlink(format!("{target}l{}", n + 1), l.path("base").join(format!("l{n}"))).ok();
    }
    let e = l.view().find(b"l0", Last::Follow).unwrap_err();
    assert!(matches!(e, Error::Loop(_) | Error::Missing(_) | Error::Sys { .. }), "{e}");
}

fn editor<'a>(l: &Layers, stack: &'a Stack) -> Editor<'a> {
    let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    Editor::new(stack, Staging::Apart(l.open("staging")), Owners { jail: None, bottom: own })
}

fn put(e: &Editor<'_>, path: &str, text: &str) {
    let (dir, name) = split(path.as_bytes());
    let dir = e.prepare(dir, Some(0o755)).unwrap();
    let staged = e.stage(&dir).unwrap();
    crate::sys::copy::bytes(text.as_bytes(), &staged.fd).unwrap();
    e.file((&dir, name), &staged, (0o640, None), None, path.as_bytes()).unwrap();
}

fn take(e: &Editor<'_>, path: &str) {
    let (dir, name) = split(path.as_bytes());
    e.remove(&e.prepare(dir, None).unwrap(), name, path.as_bytes()).unwrap();
}

#[test]
fn what_is_written_is_what_an_overlay_would_have_written() {
    let l = Layers::new();
    l.write("base/d/deep/x", "base");
    fs::set_permissions(l.path("base/d"), fs::Permissions::from_mode(0o1751)).unwrap();
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    fs::File::open(l.path("base/d/deep")).unwrap().set_modified(old).unwrap();
    l.write("low/gone/x", "low");
    let stack = l.stack();
    let e = editor(&l, &stack);
    e.prepare(b"d/deep", None).unwrap();
    let copied = fs::metadata(l.path("upper/d/deep")).unwrap();
    assert_eq!(copied.modified().unwrap(), old, "a copy up keeps the time");
    assert_eq!(fs::metadata(l.path("upper/d")).unwrap().mode() & 0o7777, 0o1751, "and the bits");
    put(&e, "d/deep/y", "new");
    assert_eq!(fs::metadata(l.path("upper/d/deep/y")).unwrap().mode() & 0o7777, 0o640);
    take(&e, "d/deep/x");
    take(&e, "gone");
    let meta = fs::symlink_metadata(l.path("upper/gone")).unwrap();
    assert_eq!((meta.mode() & 0o170_000, meta.rdev()), (0o020_000, 0), "a whiteout");
    assert_eq!(all(&stack), ["d/", "d/deep/", "d/deep/y=new"]);
    // A directory in the place of one that is gone shows nothing of it.
    put(&e, "gone/new", "1");
    assert_eq!(all(&stack)[3..], ["gone/", "gone/new=1"]);
    assert_eq!(xattr::get(l.open("upper/gone"), c"user.overlay.opaque").unwrap().as_deref(), Some(&b"y"[..]));
    take(&e, "gone");
    take(&e, "d");
    assert_eq!(all(&stack), [""; 0]);
    // What only the upper layer has leaves nothing behind.
    put(&e, "own/x", "");
    take(&e, "own");
    assert!(!l.path("upper/own").exists());
    assert!(l.path("base/d/deep/x").exists() && l.path("low/gone/x").exists(), "layers below stay");
}

#[test]
fn a_move_takes_along_what_shows_and_nothing_else() {
    let l = Layers::new();
    l.write("base/d/a", "base");
    l.write("base/d/sub/b", "base");
    l.write("low/d/sub/c", "low");
    l.write("low/t/old", "low");
    l.whiteout("low/d", "a");
    l.write("upper/own/x", "upper");
    let stack = l.stack();
    let e = editor(&l, &stack);
    let rename = |from: &str, to: &str| {
        let ((fd, fname), (td, tname)) = (split(from.as_bytes()), split(to.as_bytes()));
        let target = e.prepare(td, None).unwrap();
        let dir = e.prepare(fd, None).unwrap();
        let entry = dir.find(fname).unwrap().unwrap();
        e.rename((&dir, fname, &entry), (&target, tname), from.as_bytes()).unwrap();
    };
    rename("d", "e");
    let moved = ["e/", "e/sub/", "e/sub/b=base", "e/sub/c=low", "own/", "own/x=upper", "t/", "t/old=low"];
    assert_eq!(all(&stack), moved);
    take(&e, "t");
    rename("own", "t");
    assert_eq!(all(&stack)[4..], ["t/", "t/x=upper"], "what is below the new name does not show");
    rename("e/sub/b", "t/x");
    assert_eq!(all(&stack), ["e/", "e/sub/", "e/sub/c=low", "t/", "t/x=base"]);
    put(&e, "d", "a file, where a directory was");
    assert!(all(&stack).contains(&"d=a file, where a directory was".to_owned()));
}

#[test]
fn foreign_files_are_not_copied_up() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP: only root can give a file away");
        return;
    }
    let l = Layers::new();
    l.write("base/d/f", "x");
    std::os::unix::fs::chown(l.path("base/d"), Some(4321), Some(4321)).unwrap();
    let stack = l.stack();
    let e = editor(&l, &stack).prepare(b"d", None).unwrap_err();
    assert!(matches!(e, Error::Foreign { uid: 4321, .. }), "{e}");
    assert!(!l.path("upper/d").exists());
}

/// Directories that become links and back, as fast as a thread can.
#[test]
fn a_directory_swapped_for_a_link_is_never_followed() {
    let l = Layers::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    l.write("upper/d/inner", "inner");
    symlink(outside.path(), l.path("upper/link")).unwrap();
    let (d, link) = (l.path("upper/d"), l.path("upper/link"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (mut followed, mut seen) = (0, 0);
    std::thread::scope(|s| {
        s.spawn(|| {
            let dir = fs::File::open(d.parent().unwrap()).unwrap();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                crate::sys::at::rename(&dir, b"d", b"link", crate::sys::at::Replace::Exchange).unwrap();
            }
        });
        let (stack, view) = (l.stack(), l.view());
        for _ in 0..3000 {
            // Teeth: by its path the link is followed.
            followed += usize::from(fs::read(d.join("secret")).is_ok());
            let mut walk = Walk::new(&stack, &stack.root().unwrap()).unwrap();
            while let Ok(Some(step)) = walk.step() {
                if let Step::Entry(e) = step {
                    assert_ne!(walk.name(), b"secret");
                    seen += usize::from(walk.name() == b"inner");
                    if e.meta.kind == FileKind::Dir {
                        walk.enter().ok();
                    }
                }
            }
            if let Ok(Spot { at: At::In { entry, .. }, .. }) = view.find(b"d/secret", Last::Follow) {
                assert!(entry.is_none());
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let _ = link;
    assert!(followed > 0 && seen > 0, "the swaps were seen: {followed}, {seen}");
}

#[test]
fn four_thousand_levels_are_walked_and_copied_out() {
    let t = crate::workspace::tests::memory_dir();
    let (from, to) = (t.path().join("from"), t.path().join("to"));
    for d in [&from, &to] {
        fs::create_dir(d).unwrap();
    }
    let open = |p: &Path| -> OwnedFd { fs::File::open(p).unwrap().into() };
    let mut trail = crate::workspace::trail::Trail::new(open(&from), For::Listing).unwrap();
    for _ in 0..4000 {
        crate::sys::at::make_dir(trail.top().unwrap(), b"d", 0o700).unwrap();
        trail.enter(b"d").unwrap();
    }
    drop(trail);
    let stack = Stack::plain(open(&from));
    let mut walk = Walk::new(&stack, &stack.root().unwrap()).unwrap();
    let how = export::How { no_clobber: false, mode: None, umask: 0o022, excludes: &|_, _| false };
    let mut made = 0;
    let mut tell = |_: &[u8], done: sys::Result<export::Exported>| {
        done.unwrap();
        made += 1;
    };
    export::tree(&mut walk, open(&to), &how, &mut tell).unwrap();
    assert_eq!(made, 4000);
}
