use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;

use super::*;

struct Yard {
    _dir: tempfile::TempDir,
    top: PathBuf,
    mirror: Mirror,
}

fn open(path: &Path) -> OwnedFd {
    fs::File::open(path).unwrap().into()
}

impl Yard {
    fn new() -> Yard {
        Yard::in_dir(tempfile::tempdir().unwrap())
    }

    fn in_dir(dir: tempfile::TempDir) -> Yard {
        let top = dir.path().to_owned();
        for name in ["from", "to", "links", "trash"] {
            fs::create_dir(top.join(name)).unwrap();
        }
        let [from, to, links, trash] = ["from", "to", "links", "trash"].map(|n| open(&top.join(n)));
        Yard { _dir: dir, top, mirror: Mirror::new(from, to, (links, trash)) }
    }

    fn from(&self, below: &str) -> PathBuf {
        self.top.join("from").join(below)
    }

    fn to(&self, below: &str) -> PathBuf {
        self.top.join("to").join(below)
    }

    fn follow(&mut self) {
        self.mirror.follow(&mut || ()).unwrap();
    }

    #[track_caller]
    fn finish(&mut self) {
        assert!(self.mirror.finish(None, &mut || ()).unwrap());
    }
}

/// Everything that makes two trees the same, of each entry. Inodes with several names by the first of them.
fn seen(top: &Path) -> BTreeMap<Vec<u8>, String> {
    fn walk(
        dir: &Path,
        top: &Path,
        firsts: &mut BTreeMap<u64, Vec<u8>>,
        all: &mut BTreeMap<Vec<u8>, String>,
    ) {
        let mut entries: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            let meta = fs::symlink_metadata(&path).unwrap();
            let below = path.strip_prefix(top).unwrap().as_os_str().as_bytes().to_vec();
            let kind = meta.file_type();
            let mut text = format!(
                "{:o} {} {} {} {}",
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.mtime(),
                meta.mtime_nsec()
            );
            if kind.is_file() {
                text.push_str(&format!(" {} {:?}", meta.len(), blake3::hash(&fs::read(&path).unwrap())));
            }
            if kind.is_symlink() {
                text.push_str(&format!(" -> {:?}", fs::read_link(&path).unwrap()));
            }
            // Whiteouts are one inode in an upper layer, and any number in a copy.
            if !kind.is_dir() && meta.nlink() > 1 && meta.rdev() == 0 && !text.starts_with("2") {
                let first = firsts.entry(meta.ino()).or_insert_with(|| below.clone());
                text.push_str(&format!(" = {:?}", String::from_utf8_lossy(first)));
            }
            if kind.is_file() || kind.is_dir() {
                let fd = open(&path);
                for name in attribute_names(&fd).unwrap() {
                    text.push_str(&format!(" {name:?}={:?}", xattr::get_all(&fd, &name).unwrap()));
                }
            }
            all.insert(below, text);
            if kind.is_dir() {
                walk(&path, top, firsts, all);
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(top, top, &mut BTreeMap::new(), &mut all);
    let meta = fs::symlink_metadata(top).unwrap();
    all.insert(Vec::new(), format!("{:o} {} {}", meta.mode(), meta.mtime(), meta.mtime_nsec()));
    all
}

#[track_caller]
fn same(yard: &Yard) {
    let (from, to) = (seen(&yard.from("")), seen(&yard.to("")));
    for (path, text) in &from {
        assert_eq!(to.get(path), Some(text), "{}", String::from_utf8_lossy(path));
    }
    assert_eq!(
        from.len(),
        to.len(),
        "{:?}",
        to.keys().filter(|k| !from.contains_key(*k)).collect::<Vec<_>>()
    );
}

/// One of everything that a jail can leave in an upper layer.
fn furnish(yard: &Yard) {
    let from = |below: &str| yard.from(below);
    for dir in ["d", "d/e", "opaque", "tight", "named"] {
        fs::create_dir(from(dir)).unwrap();
    }
    fs::write(from("d/f"), "text").unwrap();
    fs::set_permissions(from("d/f"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::hard_link(from("d/f"), from("d/e/same")).unwrap();
    fs::hard_link(from("d/f"), from("other-name")).unwrap();
    symlink("../../etc/passwd", from("d/link")).unwrap();
    fs::hard_link(from("d/link"), from("d/link-too")).unwrap();
    nix::unistd::mkfifo(&from("fifo"), Mode::from_bits_truncate(0o640)).unwrap();
    drop(std::os::unix::net::UnixListener::bind(from("d/socket")).unwrap());
    whiteout::make(open(&from("d")).as_fd(), b"gone").unwrap();
    whiteout::make(open(&from("opaque")).as_fd(), b"gone").unwrap();
    fs::write(from("tight/x"), "x").unwrap();
    fs::write(from(&format!("named/{}", "n".repeat(255))), "").unwrap();
    fs::write(from("named").join(std::ffi::OsStr::from_bytes(b"\xff\x1b[31m\n")), "bytes").unwrap();
    let sparse = fs::File::create(from("sparse")).unwrap();
    sparse.set_len(1 << 34).unwrap();
    let past = std::time::UNIX_EPOCH + Duration::new(1_000_000, 5);
    fs::File::open(from("d/e/same")).unwrap().set_modified(past).unwrap();
    fs::File::open(from("opaque")).unwrap().set_modified(past).unwrap();
}

#[test]
fn a_copy_means_what_the_original_does() {
    let mut yard = Yard::new();
    furnish(&yard);
    let marked = open(&yard.from("opaque"));
    if xattr::set(&marked, c"user.overlay.opaque", b"y").is_ok() {
        xattr::set(open(&yard.from("d/f")), c"user.overlay.origin", &[7; 30]).unwrap();
        xattr::set(open(&yard.from("d/f")), c"user.long", &[b'l'; 900]).unwrap();
        let empty = yard.from("named/empty");
        fs::write(&empty, "").unwrap();
        xattr::set(open(&empty), c"user.overlay.whiteout", b"y").unwrap();
        xattr::set(open(&yard.from("named")), c"user.overlay.opaque", b"x").unwrap();
        for n in 0..9 {
            let name = CString::new(format!("user.{n}{}", "n".repeat(200))).unwrap();
            xattr::set(open(&yard.from("d/e")), &name, b"").unwrap();
        }
    } else {
        eprintln!("SKIP: no user attributes here");
    }
    fs::remove_file(yard.from("sparse")).unwrap();
    yard.finish();
    same(&yard);
    assert!(at::stat(open(&yard.to("d")), b"gone").is_ok_and(|m| m.kind == FileKind::Char(0, 0)));
    assert!(yard.mirror.tally.bytes <= 10, "of one inode once: {:?}", yard.mirror.tally);
    assert_eq!(fs::read_dir(yard.top.join("trash")).unwrap().count(), 0);
}

#[test]
fn a_hole_stays_one() {
    let mut yard = Yard::new();
    fs::File::create(yard.from("sparse")).unwrap().set_len(1 << 40).unwrap();
    yard.finish();
    let meta = fs::metadata(yard.to("sparse")).unwrap();
    assert_eq!((meta.len(), meta.blocks()), (1 << 40, 0));
}

#[test]
fn a_last_pass_copies_what_has_changed_and_nothing_else() {
    let mut yard = Yard::new();
    if !yard.mirror.is_helped_by_passes() {
        eprintln!("SKIP: ctime promises nothing on this file system");
        return;
    }
    furnish(&yard);
    fs::remove_file(yard.from("sparse")).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    yard.follow();
    let before = yard.mirror.tally;
    std::thread::sleep(Duration::from_millis(50));
    yard.finish();
    same(&yard);
    assert_eq!(yard.mirror.tally, before, "nothing had changed");
    fs::write(yard.from("d/f"), "more").unwrap();
    fs::rename(yard.from("tight"), yard.from("d/tight")).unwrap();
    fs::rename(yard.from("named"), yard.from("tight")).unwrap();
    fs::remove_dir_all(yard.from("opaque")).unwrap();
    fs::write(yard.from("opaque"), "a file now").unwrap();
    fs::remove_file(yard.from("fifo")).unwrap();
    fs::create_dir(yard.from("fifo")).unwrap();
    yard.finish();
    same(&yard);
    assert_eq!(fs::read(yard.to("other-name")).unwrap(), b"more");
}

#[test]
fn what_a_mapping_writes_without_a_word_is_in_the_copy() {
    let mut yard = Yard::new();
    if !yard.mirror.is_helped_by_passes() {
        eprintln!("SKIP: ctime promises nothing on this file system");
        return;
    }
    let mapped = std::process::Command::new("python3")
        .args(["-c", MAPPED])
        .arg(yard.from("map"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn();
    let Ok(mut child) = mapped else {
        eprintln!("SKIP: no python3");
        return;
    };
    use std::io::{Read, Write};
    let mut byte = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
    std::thread::sleep(Duration::from_millis(60));
    yard.follow();
    // Into a page that is dirty already, as far as its writer is concerned.
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
    yard.finish();
    assert_eq!(&fs::read(yard.to("map")).unwrap()[..5], b"later");
    drop(child.stdin.take());
    child.wait().unwrap();
}

const MAPPED: &str = "
import mmap, sys
f = open(sys.argv[1], 'w+b'); f.truncate(4096); m = mmap.mmap(f.fileno(), 4096)
m[:5] = b'first'; sys.stdout.write('1'); sys.stdout.flush(); sys.stdin.readline()
m[:5] = b'later'; sys.stdout.write('2'); sys.stdout.flush(); sys.stdin.readline()";

#[test]
fn a_pass_over_what_is_being_written_never_fails_and_the_last_one_is_exact() {
    for dir in [tempfile::tempdir().unwrap(), super::super::tests::memory_dir()] {
        let mut yard = Yard::in_dir(dir);
        furnish(&yard);
        fs::remove_file(yard.from("sparse")).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        let top = yard.from("");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut number = 7_u64;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    stir(&top, number >> 33);
                }
            });
            for _ in 0..20 {
                yard.follow();
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        yard.finish();
        same(&yard);
    }
}

/// One of many changes; most of them fail.
fn stir(top: &Path, number: u64) {
    let name =
        |n: u64| top.join(["a", "b", "d", "d/x", "d/e", "a/x", "b/x", "a/d", "d/e/y"][(n % 9) as usize]);
    let (one, two) = (name(number / 16), name(number / 256));
    match number % 9 {
        0 => {
            // A fifo opens at once, or not at all.
            let (write, now) = (OFlag::O_WRONLY | OFlag::O_CREAT, OFlag::O_NONBLOCK);
            if let Ok(file) = nix::fcntl::open(&one, write | now, Mode::S_IRWXU) {
                nix::unistd::write(file, number.to_string().as_bytes()).ok();
            }
        }
        1 => drop(fs::create_dir(one)),
        2 => drop(fs::remove_file(one)),
        3 => drop(fs::remove_dir(one)),
        4 => drop(fs::rename(one, two)),
        5 => drop(fs::hard_link(one, two)),
        6 => drop(symlink("nowhere", one)),
        7 if one.symlink_metadata().is_ok_and(|m| m.is_dir()) => {
            drop(fs::set_permissions(one, fs::Permissions::from_mode(0o700 | (number % 7) as u32)));
        }
        _ => drop(nix::unistd::mkfifo(&one, Mode::S_IRWXU)),
    }
}

#[test]
fn a_pass_that_is_late_leaves_the_next_one_nothing_wrong() {
    let mut yard = Yard::new();
    for dir in 0..20 {
        fs::create_dir_all(yard.from(&format!("d{dir}/e"))).unwrap();
        for file in 0..20 {
            fs::write(yard.from(&format!("d{dir}/e/{file}")), "x").unwrap();
        }
        fs::set_permissions(yard.from(&format!("d{dir}")), fs::Permissions::from_mode(0o500)).unwrap();
    }
    for late in 0..12 {
        let until = Instant::now() + Duration::from_millis(late);
        if yard.mirror.finish(Some(until), &mut || ()).unwrap() {
            break;
        }
        fs::write(yard.from("d3/e/7"), late.to_string()).unwrap();
        fs::set_permissions(yard.from("d4"), fs::Permissions::from_mode(0o501 + late as u32)).unwrap();
        yard.follow();
    }
    yard.finish();
    same(&yard);
    let big = fs::File::create(yard.from("big")).unwrap();
    use std::os::unix::fs::FileExt;
    for at in 0..64 {
        big.write_all_at(&vec![1; 1 << 20], at << 20).unwrap();
    }
    let begun = Instant::now();
    let done = yard.mirror.finish(Some(begun + Duration::from_millis(20)), &mut || ()).unwrap();
    // Where blocks can be shared there is time enough.
    assert!(done == (yard.mirror.tally.shared > 0), "{:?}", begun.elapsed());
    yard.finish();
    same(&yard);
}

#[test]
fn a_tree_of_any_depth_is_copied_and_put_right_afterwards() {
    let mut yard = Yard::in_dir(super::super::tests::memory_dir());
    let mut deep = Trail::new(open(&yard.from("")), For::Listing).unwrap();
    for _ in 0..3_000 {
        at::make_dir(deep.top().unwrap(), b"directory", 0o700).unwrap();
        deep.enter(b"directory").unwrap();
    }
    yard.follow();
    openat2::create(deep.top().unwrap(), b"late", 0o600).unwrap();
    yard.finish();
    let mut there = Trail::new(open(&yard.to("")), For::Listing).unwrap();
    for _ in 0..3_000 {
        there.enter(b"directory").unwrap();
    }
    assert!(at::stat(there.top().unwrap(), b"late").is_ok());
}
