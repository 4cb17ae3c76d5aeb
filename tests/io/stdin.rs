//! Input arrives as it was sent, and what the command did not read is there for the next reader.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::yard::{Running, Yard, eventually, fate, said};

#[test]
fn a_hundred_megabytes_arrive_byte_for_byte() {
    let Some(yard) = Yard::new() else { return };
    let n = 100_000_007;
    for script in [
        format!("./life write {n} | $AJ exec -- ./life check"),
        format!("./life write {n} > in; $AJ exec -- ./life check < in; rm in"),
    ] {
        let ran = said(&mut yard.sh(&script));
        assert_eq!((ran.number("bytes"), ran.number("bad")), (n, 0), "{script}: {ran:?}");
    }
}

#[test]
fn every_size_of_write_and_read_arrives_byte_for_byte() {
    let Some(yard) = Yard::new() else { return };
    for (write, read) in [(1, 65536), (13, 7), (4095, 4097), (65537, 1000), (1 << 20, 1 << 20)] {
        let n = if write == 1 { 100_003 } else { 1_000_003 };
        let ran = said(&mut yard.sh(&format!("./life write {n} {write} | $AJ exec -- ./life check {read}")));
        assert_eq!((ran.number("bytes"), ran.number("bad")), (n, 0), "{write} {read}: {ran:?}");
    }
    // A reader that takes its time, in the middle of much.
    let ran = said(&mut yard.sh("./life write 700000 | $AJ exec -- ./life check 10000 5000"));
    assert_eq!((ran.number("bytes"), ran.number("bad")), (700_000, 0), "{ran:?}");
}

/// `take` reads single bytes, so that it is known exactly how much the command took.
#[test]
fn what_was_not_read_stays_for_the_next_reader() {
    let Some(yard) = Yard::new() else { return };
    for taken in [0, 1, 5, 4095, 4096, 4097, 70_000, 300_000] {
        for feed in ["cat data |", ""] {
            let from = if feed.is_empty() { "< data" } else { "" };
            let script = format!(
                "./life write 400000 > data; {feed} ( $AJ exec -- ./life take {taken}; cat > rest ) {from}; \
                 tail -c +{} data | cmp - rest && echo same",
                taken + 1
            );
            let ran = said(&mut yard.sh(&script));
            assert_eq!(ran.number("took"), taken, "{ran:?}");
            assert!(ran.out.ends_with("same\n"), "{taken} {feed}: {ran:?}");
        }
    }
}

#[test]
fn a_loop_over_lines_keeps_its_lines() {
    let Some(yard) = Yard::new() else { return };
    let script = "seq 5 | while read n; do $AJ exec -- echo got $n; done";
    assert_eq!(said(&mut yard.sh(script)).out, "got 1\ngot 2\ngot 3\ngot 4\ngot 5\n");
    let script = "seq 6 | while read n; do $AJ exec -- sh -c \"read next; echo $n \\$next\"; done";
    assert_eq!(said(&mut yard.sh(script)).out, "1 2\n3 4\n5 6\n");
}

/// The next reader on the host trusts its input: nothing from inside may get into it.
#[test]
fn a_command_cannot_write_into_its_callers_input() {
    let Some(yard) = Yard::new() else { return };
    let script = |word: &str| {
        format!("(printf 'one\\ntwo\\n'; sleep 3) | ( {word} ./life inject evil; timeout 1 cat )")
    };
    // Teeth: without a jail it can.
    assert!(said(&mut yard.sh(&script(""))).out.contains("evil"));
    let ran = said(&mut yard.sh(&script("$AJ exec --")));
    assert!(ran.out.contains("two\n") && !ran.out.contains("evil"), "{ran:?}");
}

#[test]
fn a_command_that_does_not_read_is_not_held_up_and_one_that_waits_sees_the_end() {
    let Some(yard) = Yard::new() else { return };
    let start = Instant::now();
    let ran = said(&mut yard.sh("yes | $AJ exec -- ./life exit 4"));
    assert_eq!(ran.fate, 4, "{ran:?}");
    assert!(start.elapsed() < Duration::from_secs(15));
    assert_eq!(said(&mut yard.sh("$AJ exec -- wc -c < /dev/null")).out.trim(), "0");
    assert_eq!(said(&mut yard.sh(": | $AJ exec -- wc -c")).out.trim(), "0");
    assert_eq!(said(&mut yard.sh("printf x | $AJ exec -- wc -c")).out.trim(), "1");
    assert_eq!(said(&mut yard.sh("$AJ exec -- wc -c <&-")).out.trim(), "0");
    assert_eq!(said(&mut yard.sh("$AJ exec -- head -c 100000 < /dev/zero | wc -c")).out.trim(), "100000");
}

#[test]
fn a_command_that_closes_its_input_lets_go_of_the_writer() {
    let Some(yard) = Yard::new() else { return };
    // The writer gets SIGPIPE once nobody can read any more, not when the command ends.
    let script =
        "{ ./life write 100000000; echo $? >&3; } 3>code | $AJ exec -- sh -c 'exec <&-; sleep 1'; cat code";
    let ran = said(&mut yard.sh(script));
    assert_eq!(ran.out, "141\n", "{ran:?}");
}

#[test]
fn lines_arrive_when_they_are_sent() {
    let Some(yard) = Yard::new() else { return };
    let mut aj = yard.aj(["sh", "-c", "while read line; do echo \"<$line>\"; done"]);
    let mut running = Running::start(aj.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut input = running.0.stdin.take().unwrap();
    let mut out = std::io::BufReader::new(running.0.stdout.take().unwrap());
    for i in 0..50 {
        writeln!(input, "line {i}").unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        assert_eq!(line, format!("<line {i}>\n"));
    }
    drop(input);
    assert_eq!(fate(running.end()), 0);
}

#[test]
fn sockets_and_named_pipes_are_read_to_their_end() {
    let Some(yard) = Yard::new() else { return };
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut aj = yard.aj(["./life", "check"]);
    aj.stdin(OwnedFd::from(theirs));
    let mut write = yard.sh("./life write 3000000");
    let mut writer = Running::start(write.stdout(OwnedFd::from(ours)));
    drop(write);
    let ran = said(&mut aj);
    assert_eq!((ran.number("bytes"), ran.number("bad")), (3_000_000, 0), "{ran:?}");
    assert_eq!(fate(writer.end()), 0);
    let ran = said(&mut yard.sh("mkfifo f; (./life write 3000000 > f &); $AJ exec -- ./life check < f"));
    assert_eq!((ran.number("bytes"), ran.number("bad")), (3_000_000, 0), "{ran:?}");
}

/// The command gets a pipe of its own, so what it does to "its" stdin stays with it.
#[test]
fn what_the_command_does_to_its_stdin_does_not_reach_the_callers_file() {
    let Some(yard) = Yard::new() else { return };
    std::fs::write(yard.path("in"), "data\n").unwrap();
    let mode = || std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(yard.path("in")).unwrap());
    let before = mode();
    let mut aj = yard.aj(["sh", "-c", "chmod 777 /proc/self/fd/0; echo x >> /proc/self/fd/0; cat"]);
    said(aj.stdin(File::open(yard.path("in")).unwrap()));
    assert_eq!(mode(), before);
    assert_eq!(std::fs::read_to_string(yard.path("in")).unwrap(), "data\n");
}

#[test]
fn aj_does_not_spin_while_nothing_happens() {
    let Some(yard) = Yard::new() else { return };
    // A full pipe in front, a command that neither reads nor writes, a stdout that nobody reads.
    let mut feed =
        Running::start(yard.sh("./life write 10000000").stdout(Stdio::piped()).stderr(Stdio::null()));
    let mut aj = yard.exec(["--timeout", "30s"], ["sh", "-c", "./life write 3000000 & sleep 30"]);
    let running = Running::start(aj.stdin(feed.0.stdout.take().unwrap()).stdout(Stdio::piped()));
    std::thread::sleep(Duration::from_millis(1500));
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.pid())).unwrap();
        let rest = stat.rsplit_once(") ").unwrap().1.to_owned();
        let field = |n: usize| rest.split(' ').nth(n).unwrap().parse::<u64>().unwrap();
        field(11) + field(12)
    };
    let before = ticks();
    assert!(!eventually(Duration::from_millis(1500), || ticks() > before + 10), "{} ticks", ticks() - before);
}

/// Of a file, what the command reads is read, also what was on its way when the file ended; what it
/// leaves is there for the next reader.
#[test]
fn a_file_is_read_once() {
    let Some(yard) = Yard::new() else { return };
    for (script, wanted) in [
        ("( $AJ exec -- cat; cat ) < file | wc -l", "1000\n"),
        ("( $AJ exec -- sh -c 'sleep 0.2; cat'; cat ) < file | wc -l", "1000\n"),
        ("( $AJ exec -- wc -l; $AJ exec -- wc -l ) < file", "1000\n0\n"),
        ("while read -r x; do n=$((n+1)); $AJ exec -- cat >/dev/null; done < file; echo $n", "1\n"),
        ("( $AJ exec -- true; cat ) < file | wc -l", "1000\n"),
        ("( $AJ exec -- dd bs=1 count=4 2>/dev/null; head -n 1 ) < file", "1\n2\n3\n"),
    ] {
        let ran = said(&mut yard.sh(&format!("seq 1000 > file; {script}")));
        assert_eq!(ran.out, wanted, "{script}: {ran:?}");
    }
}
