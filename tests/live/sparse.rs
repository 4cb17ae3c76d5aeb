//! Files with holes go into a workspace and out of it by what is in them, however long they say that they are.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use super::Shared;
use super::files::{does, fails};
use crate::yard::said;

/// A file of this length with some bytes in its middle and at its end. Its length, if the file system takes it.
fn sparse(path: &Path, length: u64) -> bool {
    let file = std::fs::File::create(path).unwrap();
    if file.set_len(length).is_err() {
        eprintln!("SKIP: no file of {length} bytes here");
        return false;
    }
    file.write_all_at(b"island", length / 2).unwrap();
    file.write_all_at(b"end", length - 3).unwrap();
    true
}

/// The same, and not larger on the disk than a few blocks.
#[track_caller]
fn is_sparse(path: &Path, length: u64) {
    let file = std::fs::File::open(path).unwrap();
    let meta = file.metadata().unwrap();
    assert_eq!(meta.len(), length);
    assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
    let (mut island, mut end) = ([0; 6], [0; 3]);
    file.read_exact_at(&mut island, length / 2).unwrap();
    file.read_exact_at(&mut end, length - 3).unwrap();
    assert_eq!((&island, &end), (b"island", b"end"));
}

const TERA: u64 = 1 << 40;

#[test]
fn holes_stay_holes_in_both_directions_whether_a_jail_runs_or_not() {
    let Some(shared) = Shared::new(&[]) else { return };
    let began = Instant::now();
    let from = shared.yard.path("from");
    std::fs::create_dir(&from).unwrap();
    if !sparse(&from.join("disk.img"), TERA) {
        return;
    }
    std::fs::write(from.join("dense"), vec![b'd'; 300_000]).unwrap();
    let (dir, img) = (from.to_str().unwrap().to_owned(), from.join("disk.img"));
    for live in [false, true] {
        if live {
            assert_eq!(shared.ws("start", &[]).fate, 0);
        }
        let to = shared.yard.path(if live { "live" } else { "idle" });
        std::fs::create_dir(&to).unwrap();
        does(&shared, &["cp", img.to_str().unwrap(), "api:one"], b"");
        does(&shared, &["cp", "-r", &dir, "api:all"], b"");
        does(&shared, &["cp", "api:one", to.join("one").to_str().unwrap()], b"");
        does(&shared, &["cp", "-r", "api:all", to.join("all").to_str().unwrap()], b"");
        for path in ["one", "all/disk.img"] {
            is_sparse(&to.join(path), TERA);
        }
        assert_eq!(std::fs::read(to.join("all/dense")).unwrap(), vec![b'd'; 300_000]);
        // As a stream it is one that tar knows as sparse, and so is one that tar made.
        let there = to.display();
        let out = format!("\"$AJ\" cp -r api:all/. - | tar -C {there} -xf -");
        let ran = said(&mut shared.yard.sh(&out));
        assert_eq!(ran.fate, 0, "{ran:#?}");
        is_sparse(&to.join("disk.img"), TERA);
        let pack = "--format=posix --sparse-version=1.0 -S -cf - disk.img | \"$AJ\" cp -r - api:tar";
        let ran = said(&mut shared.yard.sh(&format!("tar -C {dir} {pack}")));
        assert_eq!(ran.fate, 0, "{ran:#?}");
        does(&shared, &["cp", "api:tar/disk.img", to.join("tar").to_str().unwrap()], b"");
        is_sparse(&to.join("tar"), TERA);
        // Without a form a stream has no holes: nobody is sent zeros for days.
        fails(&shared, &["cp", "api:one", "-"], 2, "has holes of more than 1 GiB");
        // Forms of old are told of, and never taken for the file itself.
        let old = format!("tar -C {dir} --format=gnu -S -cf - disk.img | \"$AJ\" cp -r - api:old");
        let ran = said(&mut shared.yard.sh(&old));
        assert!(matches!(ran.fate, 1 | 6) && ran.err.contains("sparse file"), "{ran:#?}");
        does(&shared, &["fs", "rm", "api", "-r", "one", "all", "tar"], b"");
    }
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
}

#[test]
fn a_file_of_eight_exabytes_that_a_jail_made_costs_nobody_anything() {
    let Some(shared) = Shared::new(&[]) else { return };
    assert_eq!(shared.ws("start", &[]).fate, 0);
    // The most that a file can be, where the file system of the jail's memory takes it; on a disk what that takes.
    let made = shared.sh("for n in 9223372036854775807 17592186040320 1099511627776; do truncate -s $n huge 2>/dev/null && break; done; stat -c %s huge");
    let length: u64 = made.trim().parse().unwrap();
    let began = Instant::now();
    let to = shared.yard.path("to");
    std::fs::create_dir(&to).unwrap();
    does(&shared, &["cp", "api:huge", to.join("huge").to_str().unwrap()], b"");
    assert_eq!(std::fs::metadata(to.join("huge")).unwrap().len(), length);
    does(&shared, &["cp", to.join("huge").to_str().unwrap(), "api:again"], b"");
    assert_eq!(shared.sh("stat -c '%s %b' again"), format!("{length} 0\n"));
    let tar = said(&mut shared.yard.sh("\"$AJ\" cp -r api:. - 2>/dev/null | wc -c"));
    assert!(tar.out.trim().parse::<u64>().unwrap() < 8 << 20, "{tar:#?}");
    // A stream may say what it likes.
    let lies = "import io,tarfile,sys\n\
                def one(name, pax, data):\n    \
                    i = tarfile.TarInfo(name); i.size = len(data); i.pax_headers = pax; t.addfile(i, io.BytesIO(data))\n\
                t = tarfile.open(fileobj=sys.stdout.buffer, mode='w|', format=tarfile.PAX_FORMAT)\n\
                v = {'GNU.sparse.major': '1', 'GNU.sparse.minor': '0'}\n\
                one('a', {**v, 'GNU.sparse.name': 'a', 'GNU.sparse.realsize': '9223372036854775807'}, b'1\\n0\\n9\\n'.ljust(512, b'\\0') + b'123456789')\n\
                one('b', {**v, 'GNU.sparse.name': '../../b', 'GNU.sparse.realsize': '9'}, b'1\\n0\\n9\\n'.ljust(512, b'\\0') + b'123456789')\n\
                one('c', {**v, 'GNU.sparse.name': 'c', 'GNU.sparse.realsize': '9'}, b'1\\n5\\n9\\n'.ljust(512, b'\\0') + b'123456789')\n\
                one('d', {**v, 'GNU.sparse.name': 'd', 'GNU.sparse.realsize': '18446744073709551615'}, b'0\\n'.ljust(512, b'\\0'))\n\
                one('e', {**v, 'GNU.sparse.name': 'e', 'GNU.sparse.realsize': '9'}, b'1\\n0\\n9\\n'.ljust(512, b'\\0'))\n\
                one('last', {}, b'fine')\n\
                t.close()";
    if !super::python() {
        return crate::yard::skip("no python3");
    }
    std::fs::write(shared.yard.path("lies.py"), lies).unwrap();
    let ran = said(&mut shared.yard.sh("python3 ../lies.py | \"$AJ\" cp -r - api:lies"));
    assert!(matches!(ran.fate, 1 | 6), "{ran:#?}");
    assert_eq!(
        shared.sh("cat lies/last; ls lies | grep -v '^a$' | tr '\\n' ' '; ls -A | grep -c aj- || true"),
        "finelast 0\n",
        "{ran:#?}"
    );
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}
