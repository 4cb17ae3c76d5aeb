use std::fs;
use std::path::Path;

use super::frame::{Entry, MOST, Stream};
use super::read::Reader;
use super::segments::{self, Key};
use super::write::{LEAST, Writer};

fn dir() -> (tempfile::TempDir, fs::File, Key) {
    let dir = tempfile::tempdir().unwrap();
    let fd = fs::File::open(dir.path()).unwrap();
    (dir, fd, Key::of(&[1; 16]))
}

fn all(reader: &mut Reader) -> Vec<Entry> {
    std::iter::from_fn(|| reader.step().unwrap()).collect()
}

fn text(entries: &[Entry], stream: Stream) -> String {
    let bytes: Vec<u8> =
        entries.iter().filter(|e| e.stream == stream).flat_map(|e| e.bytes.clone()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn files(dir: &Path) -> Vec<u64> {
    fs::read_dir(dir).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).collect()
}

#[test]
fn streams_keep_their_order_and_a_cursor_goes_on_where_it_stopped() {
    let (_tmp, dir, key) = dir();
    let mut writer = Writer::open(&dir, key.clone(), LEAST).unwrap();
    let mut reader = Reader::open(&dir, key.clone(), None).unwrap();
    assert_eq!(reader.step().unwrap(), None);
    writer.add(Stream::Out, b"a\n");
    writer.add(Stream::Err, b"b\n");
    writer.say("said");
    let seen = all(&mut reader);
    let order: Vec<_> = seen.iter().map(|e| (e.stream, e.bytes.as_slice())).collect();
    assert_eq!(order, [(Stream::Out, &b"a\n"[..]), (Stream::Err, b"b\n"), (Stream::System, b"said\n")]);
    assert_eq!(reader.cursor(), writer.at());
    writer.add(Stream::Out, b"c\n");
    assert_eq!(text(&all(&mut reader), Stream::Out), "c\n");
    // Each record's cursor stands for what comes after it.
    for (n, entry) in seen.iter().enumerate() {
        let rest = all(&mut Reader::open(&dir, key.clone(), Some(entry.end)).unwrap());
        assert_eq!(rest.len(), 3 - n);
    }
    let mut end = Reader::open(&dir, key.clone(), Some(u64::MAX)).unwrap();
    assert_eq!(
        (end.step().unwrap(), end.cursor()),
        (None, writer.at()),
        "a cursor of another log waits for nothing"
    );
    let mut within = Reader::open(&dir, key, Some(seen[0].end - 1)).unwrap();
    assert_eq!(all(&mut within)[0].bytes, b"b\n");
    assert_eq!(within.missing(), (0, 0));
}

#[test]
fn a_log_that_is_removed_under_its_reader_has_ended() {
    let (tmp, dir, key) = dir();
    let mut writer = Writer::open(&dir, key.clone(), LEAST).unwrap();
    writer.add(Stream::Out, b"one\n");
    let mut reader = Reader::open(&dir, key.clone(), None).unwrap();
    tmp.close().unwrap();
    assert_eq!(text(&all(&mut reader), Stream::Out), "one\n");
    assert_eq!((reader.step().unwrap(), reader.end().unwrap()), (None, 0));
    assert_eq!(Reader::open(&dir, key, None).unwrap().step().unwrap(), None);
}

#[test]
fn a_flood_stays_within_its_bound_and_what_is_gone_is_told() {
    let (tmp, dir, key) = dir();
    let mut writer = Writer::open(&dir, key.clone(), LEAST).unwrap();
    writer.add(Stream::Out, b"first\n");
    let early = writer.at();
    let mut follower = Reader::open(&dir, key.clone(), None).unwrap();
    all(&mut follower);
    let piece = vec![b'x'; 3 * MOST + 5];
    for _ in 0..40 {
        writer.add(Stream::Out, &piece);
        let total: u64 = files(tmp.path()).iter().sum();
        assert!(total <= LEAST, "{total}");
    }
    let mut reader = Reader::open(&dir, key.clone(), Some(early)).unwrap();
    let kept = all(&mut reader);
    let bytes: usize = kept.iter().map(|e| e.bytes.len()).sum();
    assert!(bytes as u64 > LEAST / 2, "{bytes}");
    assert!(reader.missing().0 > 0);
    assert_eq!(
        reader.missing().0 + (writer.at() - kept[0].end) + (kept[0].bytes.len() + 28) as u64,
        writer.at() - early
    );
    assert_eq!(reader.cursor(), writer.at());
    // One that was reading all the while loses the same, and knows how much.
    let late = all(&mut follower);
    assert_eq!(late.last(), kept.last());
    assert!(follower.missing().0 > 0);
    assert_eq!(
        Reader::open(&dir, key, None).unwrap().missing(),
        (0, 0),
        "whoever wants what there is misses nothing"
    );
}

#[test]
fn a_reader_that_keeps_up_reads_all_of_it_across_rotation() {
    let (_tmp, dir, key) = dir();
    let mut writer = Writer::open(&dir, key.clone(), LEAST).unwrap();
    let mut reader = Reader::open(&dir, key, None).unwrap();
    let mut expected = 0u64;
    let mut seen = 0u64;
    for n in 0..3000u32 {
        let line = format!("{n:>1500}\n");
        expected += line.len() as u64;
        writer.add(Stream::Out, line.as_bytes());
        if n % 7 == 0 {
            seen += all(&mut reader).iter().map(|e| e.bytes.len() as u64).sum::<u64>();
        }
    }
    seen += all(&mut reader).iter().map(|e| e.bytes.len() as u64).sum::<u64>();
    assert_eq!((seen, reader.missing()), (expected, (0, 0)));
}

#[test]
fn a_torn_tail_is_skipped_and_repaired_by_the_next_writer() {
    let (tmp, dir, key) = dir();
    let path = tmp.path().join(segments::name(0));
    let mut writer = Writer::open(&dir, key.clone(), LEAST).unwrap();
    writer.add(Stream::Out, b"one\n");
    let whole = writer.at();
    writer.add(Stream::Out, b"two\n");
    let bytes = fs::read(&path).unwrap();
    drop(writer);
    for end in usize::try_from(whole).unwrap() + 1..bytes.len() {
        for tail in [&bytes[..end], &[&bytes[..end], &[0; 100][..]].concat()] {
            fs::write(&path, tail).unwrap();
            let mut reader = Reader::open(&dir, key.clone(), None).unwrap();
            assert_eq!(text(&all(&mut reader), Stream::Out), "one\n");
            let mut writer = Writer::open(&dir, key.clone(), LEAST).unwrap();
            writer.add(Stream::Out, b"three\n");
            let seen = all(&mut reader);
            assert_eq!(text(&seen, Stream::Out), "three\n", "{end}");
            assert!(text(&seen, Stream::System).contains("cut short"), "{seen:?}");
        }
    }
}

#[test]
fn damage_in_the_middle_costs_what_is_damaged_and_output_cannot_forge_a_record() {
    let (tmp, dir, key) = dir();
    // What a command would have to write, if it knew where: a record under a key of its own.
    let mut forged = Vec::new();
    super::frame::encode(&mut forged, &Key::of(&[2; 16]), 28, (Stream::System, 0), b"all is well\n");
    let mut writer = Writer::open(&dir, key.clone(), LEAST).unwrap();
    writer.add(Stream::Out, &forged);
    writer.add(Stream::Err, b"after\n");
    let path = tmp.path().join(segments::name(0));
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let mut reader = Reader::open(&dir, key.clone(), None).unwrap();
    let seen = all(&mut reader);
    assert_eq!((seen.len(), text(&seen, Stream::Err).as_str()), (1, "after\n"), "{seen:?}");
    // The same under the log's key is one: the test has teeth.
    let mut known = Vec::new();
    super::frame::encode(&mut known, &key, 28, (Stream::System, 0), b"all is well\n");
    bytes[28..28 + known.len()].copy_from_slice(&known);
    fs::write(&path, &bytes).unwrap();
    assert_eq!(text(&all(&mut Reader::open(&dir, key, None).unwrap()), Stream::System), "all is well\n");
}

/// Needs a file system that can be filled: a small tmpfs, which only real root can mount.
#[test]
fn on_a_full_disk_the_oldest_goes_first_and_then_what_is_missing_is_counted_and_said() {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let tmp = tempfile::tempdir().unwrap();
    let none: Option<&str> = None;
    if let Err(e) = mount(none, tmp.path(), Some("tmpfs"), MsFlags::empty(), Some("size=1m")) {
        eprintln!("SKIP: cannot mount a small tmpfs ({e})");
        return;
    }
    let (dir, key) = (fs::File::open(tmp.path()).unwrap(), Key::of(&[1; 16]));
    // Nobody else leaves room for a second file of the log.
    let filler = tmp.path().join("filler");
    fs::write(&filler, vec![0; 700 << 10]).unwrap();
    let mut writer = Writer::open(&dir, key.clone(), 4 << 20).unwrap();
    for n in 0..200u32 {
        writer.add(Stream::Out, format!("{n:>16000}\n").as_bytes());
    }
    let lost = writer.lost();
    let seen = all(&mut Reader::open(&dir, key.clone(), None).unwrap());
    fs::remove_file(&filler).unwrap();
    writer.add(Stream::Out, b"again\n");
    let after = all(&mut Reader::open(&dir, key.clone(), None).unwrap());
    // A log that fills the disk by itself makes its own room.
    for n in 0..200u32 {
        writer.add(Stream::Out, format!("{n:>16000}\n").as_bytes());
    }
    let last = all(&mut Reader::open(&dir, key, None).unwrap());
    umount2(tmp.path(), MntFlags::MNT_DETACH).unwrap();
    assert!(lost > 0 && !seen.is_empty(), "{lost} {}", seen.len());
    let said = text(&after, Stream::System);
    // In one line: those that are about what is missing do not take the room that there is.
    assert!(
        said.contains(&format!("{lost} bytes of output are missing here")) && said.contains("ENOSPC"),
        "{lost} lost: {said}"
    );
    assert!(text(&after, Stream::Out).ends_with("again\n"));
    assert_eq!(writer.lost(), lost);
    assert!(text(&last, Stream::Out).ends_with(" 199\n"));
}
