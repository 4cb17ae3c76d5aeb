use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::sys::xattr;

struct Yard {
    _dir: tempfile::TempDir,
    top: PathBuf,
}

fn open(path: &Path) -> OwnedFd {
    fs::File::open(path).unwrap().into()
}

impl Yard {
    fn new() -> Yard {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().to_owned();
        for name in ["from", "to", "links", "state"] {
            fs::create_dir(top.join(name)).unwrap();
        }
        Yard { _dir: dir, top }
    }

    fn from(&self, below: impl AsRef<Path>) -> PathBuf {
        self.top.join("from").join(below)
    }

    fn to(&self, below: impl AsRef<Path>) -> PathBuf {
        self.top.join("to").join(below)
    }

    fn copy(&self) -> Result<Taken> {
        self.copy_with(&mut || ())
    }

    fn copy_with(&self, step: &mut dyn FnMut()) -> Result<Taken> {
        let apart = at::fstat(open(&self.top.join("state"))).unwrap();
        let links = open(&self.top.join("links"));
        copy_in(open(&self.from("")), open(&self.to("")), links.as_fd(), &mut Ask { apart, step })
    }
}

fn named(few: &Few) -> Vec<(String, &str)> {
    few.named.iter().map(|(path, why)| (printable(path), why.as_str())).collect()
}

#[test]
fn files_links_and_directories_are_copied_as_they_are() {
    let y = Yard::new();
    let past = UNIX_EPOCH - Duration::from_secs(1000);
    fs::create_dir_all(y.from("d/empty")).unwrap();
    fs::write(y.from("d/f"), "text").unwrap();
    fs::set_permissions(y.from("d/f"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::hard_link(y.from("d/f"), y.from("again")).unwrap();
    fs::File::open(y.from("d/f")).unwrap().set_modified(past).unwrap();
    fs::set_permissions(y.from("d/empty"), fs::Permissions::from_mode(0o1711)).unwrap();
    fs::File::open(y.from("d")).unwrap().set_modified(past).unwrap();
    let outside = y.top.join("outside");
    fs::write(&outside, "not yours").unwrap();
    for (name, target) in [
        ("absolute", outside.to_str().unwrap()),
        ("dangling", "nowhere"),
        ("out", "../outside"),
        ("loop", "loop"),
        ("dir", "d"),
    ] {
        symlink(target, y.from(name)).unwrap();
    }
    let odd = std::ffi::OsStr::from_bytes(b"-\n\x1b]0;x\x07\xff");
    fs::write(y.from(odd), "odd").unwrap();
    let long = "n".repeat(255);
    fs::write(y.from(&long), "long").unwrap();
    let taken = y.copy().unwrap();
    assert_eq!((taken.files, taken.directories, taken.links), (4, 2, 5));
    assert_eq!((taken.left_out.total, taken.changed.total), (0, 0), "{taken:?}");
    let meta = fs::metadata(y.to("d/f")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.modified().unwrap()), (0o751, past), "no setuid bit");
    assert_eq!(meta.ino(), fs::metadata(y.to("again")).unwrap().ino(), "one file with two names");
    assert_ne!(meta.ino(), fs::metadata(y.from("again")).unwrap().ino(), "and not the host's");
    assert_eq!(fs::metadata(y.to("d")).unwrap().modified().unwrap(), past);
    assert_eq!(fs::metadata(y.to("d/empty")).unwrap().mode() & 0o7777, 0o1711);
    for (name, target) in [("absolute", outside.to_str().unwrap()), ("out", "../outside"), ("loop", "loop")] {
        assert_eq!(fs::read_link(y.to(name)).unwrap(), Path::new(target));
    }
    assert_eq!(fs::read(y.to(odd)).unwrap(), b"odd");
    assert_eq!(fs::read(y.to(&long)).unwrap(), b"long");
}

#[test]
fn what_a_jail_could_not_use_stays_behind_and_is_named() {
    let y = Yard::new();
    nix::unistd::mkfifo(&y.from("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(y.from("socket")).unwrap();
    fs::create_dir(y.from("mine")).unwrap();
    fs::write(y.from("mine/x"), "").unwrap();
    // The state directory, in the tree: met by another way than the one that was looked at.
    fs::rename(y.top.join("state"), y.from("mine/state")).unwrap();
    fs::write(y.from("mine/state/endless"), "").unwrap();
    let apart = at::fstat(open(&y.from("mine/state"))).unwrap();
    let links = open(&y.top.join("links"));
    let mut ask = Ask { apart, step: &mut || () };
    let taken = copy_in(open(&y.from("")), open(&y.to("")), links.as_fd(), &mut ask).unwrap();
    assert_eq!(
        named(&taken.left_out),
        [
            ("fifo".to_owned(), "a fifo"),
            ("mine/state".to_owned(), "the state of aj, which this copy is in"),
            ("socket".to_owned(), "a socket")
        ]
    );
    assert!(y.to("mine/x").exists() && !y.to("mine/state").exists());
    if at::is_root() {
        let device = nix::sys::stat::makedev(0, 0);
        let made =
            nix::sys::stat::mknod(&y.from("null"), nix::sys::stat::SFlag::S_IFCHR, 0o600.into_mode(), device);
        if made.is_err() {
            eprintln!("SKIP: no devices can be made here");
            return;
        }
        let y2 = Yard { top: y.top.clone(), _dir: tempfile::tempdir().unwrap() };
        fs::remove_dir_all(y2.to("")).unwrap();
        fs::create_dir(y2.to("")).unwrap();
        fs::create_dir(y2.top.join("state")).unwrap();
        let taken = y2.copy().unwrap();
        assert!(named(&taken.left_out).contains(&("null".to_owned(), "a device")), "it would be a whiteout");
    }
}

trait IntoMode {
    fn into_mode(self) -> nix::sys::stat::Mode;
}

impl IntoMode for u32 {
    fn into_mode(self) -> nix::sys::stat::Mode {
        nix::sys::stat::Mode::from_bits_truncate(self)
    }
}

#[test]
fn attributes_of_a_user_are_kept_and_what_an_overlay_would_believe_is_not() {
    let y = Yard::new();
    fs::create_dir(y.from("d")).unwrap();
    fs::write(y.from("f"), "").unwrap();
    let long = vec![7u8; 1000];
    if xattr::set(open(&y.from("f")), c"user.mine", &long).is_err() {
        eprintln!("SKIP: no user attributes here");
        return;
    }
    for (file, name) in [("f", c"user.overlay.whiteout"), ("d", c"user.overlay.opaque")] {
        xattr::set(open(&y.from(file)), name, b"y").unwrap();
    }
    xattr::set(open(&y.from("d")), c"user.dir", b"\0").unwrap();
    if at::is_root() {
        xattr::set(open(&y.from("d")), c"trusted.overlay.opaque", b"y").ok();
    }
    y.copy().unwrap();
    assert_eq!(xattr::get_all(open(&y.to("f")), c"user.mine").unwrap(), Some(long));
    assert_eq!(xattr::all_names(open(&y.to("f"))).unwrap(), [b"user.mine"]);
    assert_eq!(xattr::all_names(open(&y.to("d"))).unwrap(), [b"user.dir"]);
}

#[test]
fn holes_stay_holes() {
    let y = Yard::new();
    let f = fs::File::create(y.from("sparse")).unwrap();
    f.set_len(1 << 40).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&f, b"island", 1 << 30).unwrap();
    let taken = y.copy().unwrap();
    let meta = fs::metadata(y.to("sparse")).unwrap();
    assert_eq!(meta.len(), 1 << 40);
    assert!(meta.blocks() * 512 < 1 << 20 && taken.bytes < 1 << 20, "{} {}", meta.blocks(), taken.bytes);
}

#[test]
fn any_depth_is_copied() {
    let y = Yard::new();
    let mut deep = Trail::new(open(&y.from("")), For::Listing).unwrap();
    for _ in 0..3_000 {
        at::make_dir(deep.top().unwrap(), b"dd", 0o700).unwrap();
        deep.enter(b"dd").unwrap();
    }
    openat2::create(deep.top().unwrap(), b"last", 0o600).unwrap();
    assert_eq!(y.copy().unwrap().directories, 3_000);
    let mut there = Trail::new(open(&y.to("")), For::Listing).unwrap();
    for _ in 0..3_000 {
        there.enter(b"dd").unwrap();
    }
    assert!(at::stat(there.top().unwrap(), b"last").is_ok());
}

#[test]
fn what_cannot_be_read_is_an_error_that_names_it() {
    if at::is_root() {
        eprintln!("SKIP: root reads everything");
        return;
    }
    for (name, parent) in [("d/secret", false), ("d", true)] {
        let y = Yard::new();
        fs::create_dir(y.from("d")).unwrap();
        fs::write(y.from("d/secret"), "").unwrap();
        fs::set_permissions(y.from(name), fs::Permissions::from_mode(0o0)).unwrap();
        let e = y.copy().unwrap_err();
        assert_eq!((e.arg.as_str(), e.errno), (name, Errno::EACCES));
        if parent {
            fs::set_permissions(y.from(name), fs::Permissions::from_mode(0o700)).unwrap();
        }
    }
}

#[test]
fn a_file_that_is_written_to_meanwhile_is_read_anew_or_named() {
    let y = Yard::new();
    fs::write(y.from("a"), "1").unwrap();
    fs::write(y.from("z"), "1").unwrap();
    let end = std::sync::atomic::AtomicBool::new(false);
    let growing = fs::File::create(y.from("m")).unwrap();
    growing.set_len(64 << 20).unwrap();
    let text = vec![1u8; 64 << 20];
    std::os::unix::fs::FileExt::write_all_at(&growing, &text, 0).unwrap();
    let taken = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0u64;
            while !end.load(std::sync::atomic::Ordering::Relaxed) {
                n += 1;
                growing.set_len((64 << 20) + n % 512).unwrap();
            }
        });
        let gone = y.from("z");
        let taken = y.copy_with(&mut || drop(fs::remove_file(&gone)));
        end.store(true, std::sync::atomic::Ordering::Relaxed);
        taken.unwrap()
    });
    assert_eq!(
        named(&taken.changed),
        [("m".to_owned(), "it was written to all the time"), ("z".to_owned(), "it was removed or replaced")]
    );
}

#[test]
fn a_directory_that_is_swapped_for_a_link_leads_nowhere() {
    let y = Yard::new();
    fs::create_dir(y.from("d")).unwrap();
    fs::write(y.from("d/f"), "inside").unwrap();
    fs::create_dir(y.top.join("secret")).unwrap();
    fs::write(y.top.join("secret/key"), "secret").unwrap();
    symlink(y.top.join("secret"), y.top.join("link")).unwrap();
    /// Also when a test fails: the other thread would go on for ever.
    struct AtEnd<'a>(&'a std::sync::atomic::AtomicBool);
    impl Drop for AtEnd<'_> {
        fn drop(&mut self) {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let end = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _at_end = AtEnd(&end);
        scope.spawn(|| {
            while !end.load(std::sync::atomic::Ordering::Relaxed) {
                crate::sys::exchange::exchange((&open(&y.from("")), c"d"), (&open(&y.top), c"link")).unwrap();
            }
        });
        for _ in 0..300 {
            fs::remove_dir_all(y.to("")).unwrap();
            fs::create_dir(y.to("")).unwrap();
            y.copy().unwrap();
            let copied = fs::symlink_metadata(y.to("d"));
            assert!(!copied.is_ok_and(|m| m.is_dir() && y.to("d/key").exists()), "the link was followed");
        }
    });
}
