//! Output arrives as it was written, wherever it goes and however fast the reader is.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use crate::yard::{Running, Yard, fate, said, terminal};

/// A shell line on the host whose last command reads the stream and says whether it was right.
#[track_caller]
fn assert_right(yard: &Yard, script: &str, bytes: i64) {
    let ran = said(&mut yard.sh(script));
    assert_eq!((ran.number("bytes"), ran.number("bad")), (bytes, 0), "{script}: {ran:?}");
}

#[test]
fn a_gibibyte_arrives_byte_for_byte() {
    let Some(yard) = Yard::new() else { return };
    let g = 1 << 30;
    assert_right(&yard, &format!("$AJ exec -- ./life write {g} 262144 | ./life check 262144"), g);
}

#[test]
fn every_size_of_write_and_read_arrives_byte_for_byte() {
    let Some(yard) = Yard::new() else { return };
    let n = 3_000_003;
    for (write, read) in [(1, 65536), (13, 7), (4095, 4097), (65537, 1000), (1 << 20, 1 << 20)] {
        let n = if write == 1 { 300_003 } else { n };
        assert_right(&yard, &format!("$AJ exec -- ./life write {n} {write} | ./life check {read}"), n);
    }
    // Much, then little, then much: the relay changes its way of moving bytes and back. (Each part
    // of the stream starts where the last ended only if the sizes are whole words, so: one writer.)
    let slow = "$AJ exec -- ./life write 4000000 100000 | ./life check 5000 300";
    assert_right(&yard, slow, 4_000_000);
    assert_right(&yard, "$AJ exec -- sh -c 'cat data' | ./life check; :", {
        let full = said(&mut yard.sh("./life write 9000001 > data; wc -c < data"));
        full.out.trim().parse().unwrap()
    });
}

#[test]
fn files_get_everything_at_the_right_place() {
    let Some(yard) = Yard::new() else { return };
    assert_right(&yard, "$AJ exec -- ./life write 5000005 > out; ./life check < out", 5_000_005);
    // Appending: nothing before is touched.
    let script = "./life write 1000 > all; ./life write 300000 > part; cp all log; \
                  $AJ exec -- ./life write 300000 >> log; cat all part | cmp - log && ./life check < part";
    assert_right(&yard, script, 300_000);
    // In the middle of what a shell writes: one file, one offset.
    let script = "{ echo before; $AJ exec -- ./life write 200000; echo after; } > mixed; \
                  tail -c 6 mixed; head -n 1 mixed; tail -c +8 mixed | head -c 200000 | ./life check";
    let ran = said(&mut yard.sh(script));
    assert!(ran.out.starts_with("after\nbefore\n") && ran.number("bad") == 0, "{ran:?}");
}

#[test]
fn both_streams_into_one_file_keep_their_order() {
    let Some(yard) = Yard::new() else { return };
    let script = "for i in $(seq 300); do echo out $i; echo err $i >&2; done";
    let ran = said(&mut yard.sh(&format!("$AJ exec -- sh -c '{script}' > both 2>&1; cat both")));
    let expected: String = (1..=300).map(|i| format!("out {i}\nerr {i}\n")).collect();
    assert_eq!(ran.out, expected);
    let ran = said(&mut yard.sh(&format!("$AJ exec -- sh -c '{script}' 2>&1 | cat")));
    assert_eq!(ran.out, expected);
}

#[test]
fn two_files_get_one_stream_each() {
    let Some(yard) = Yard::new() else { return };
    let script = "./life write 2000000 5000 1 & ./life write 1500000 7000 2; wait";
    assert_right(
        &yard,
        &format!("$AJ exec -- sh -c '{script}' > a 2> b; ./life check < a && ./life check < b | tail -n 2"),
        2_000_000,
    );
    assert_right(&yard, "./life check < b", 1_500_000);
}

#[test]
fn a_socket_and_a_named_pipe_get_everything() {
    let Some(yard) = Yard::new() else { return };
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut aj = yard.aj(["./life", "write", "5000000"]);
    let mut running = Running::start(aj.stdout(OwnedFd::from(theirs)));
    drop(aj);
    let mut check = Command::new(yard.ws.join("life"));
    let ran = said(check.arg("check").stdin(OwnedFd::from(ours)));
    assert_eq!((ran.number("bytes"), ran.number("bad")), (5_000_000, 0), "{ran:?}");
    assert_eq!(fate(running.end()), 0);
    assert_right(&yard, "mkfifo f; ($AJ exec -- ./life write 5000000 > f &); ./life check < f", 5_000_000);
}

#[test]
fn a_terminal_gets_everything_and_keeps_its_mode() {
    let Some(yard) = Yard::new() else { return };
    let (master, slave) = terminal();
    let mut aj = yard.aj(["seq", "30000"]);
    let mut running = Running::start(aj.stdout(slave.try_clone().unwrap()));
    drop(aj);
    let expected: String = (1..=30000).map(|i| format!("{i}\r\n")).collect();
    let mut got = vec![0; expected.len()];
    let mut master = File::from(master);
    master.read_exact(&mut got).unwrap();
    assert!(got == expected.as_bytes());
    assert_eq!(fate(running.end()), 0);
    // The caller's own description has not become non-blocking.
    let flags = nix::fcntl::fcntl(&slave, nix::fcntl::FcntlArg::F_GETFL).unwrap();
    assert_eq!(flags & nix::libc::O_NONBLOCK, 0);
}

#[test]
fn a_reader_that_leaves_ends_the_command_as_it_would_without_a_jail() {
    let Some(yard) = Yard::new() else { return };
    // Without a jail: the writer dies of SIGPIPE, 141 for the shell.
    let script = |word: &str| format!("{{ {word} yes; echo $? >&3; }} 3>code | head -n 1; cat code");
    assert_eq!(said(&mut yard.sh(&script(""))).out, "y\n141\n");
    assert_eq!(said(&mut yard.sh(&script("$AJ exec --"))).out, "y\n141\n");
    let script =
        "{ $AJ exec -- ./life write 100000000; echo $? >&3; } 3>code | head -c 1000000 | wc -c; cat code";
    assert_eq!(said(&mut yard.sh(script)).out, "1000000\n141\n");
    // A command that does not write is not disturbed.
    let ran =
        said(&mut yard.sh("{ $AJ exec -- sh -c 'sleep 0.5; exit 7'; echo $? >&3; } 3>code | true; cat code"));
    assert_eq!(ran.out, "7\n");
}

#[test]
fn output_that_could_not_be_written_is_an_error_never_a_success() {
    let Some(yard) = Yard::new() else { return };
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for n in ["3", "5000000"] {
        let ran = said_without_stdout(yard.aj(["./life", "write", n]).stdout(full()));
        assert_eq!(ran.0, 125, "{ran:?}");
        assert_eq!(
            ran.1,
            "aj: error: could not write the command's output to stdout: No space left on device (ENOSPC)\n"
        );
    }
    // A limit on the size of files is the same. (The signal for it is ignored here, as in CI.)
    let script = "trap '' XFSZ; ulimit -f 1; $AJ exec -- ./life write 100000 > small; echo $?; wc -c < small";
    let ran = said(&mut yard.sh(script));
    assert!(ran.out.starts_with("125\n") && ran.err.contains("EFBIG"), "{ran:?}");
}

fn said_without_stdout(command: &mut Command) -> (i32, String) {
    let mut running = Running::start(command.stderr(Stdio::piped()));
    let mut err = String::new();
    running.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (fate(running.end()), err)
}

#[test]
fn nothing_but_the_standard_descriptors_gets_in() {
    let Some(yard) = Yard::new() else { return };
    let secret = yard.path("secret");
    std::fs::write(&secret, "x").unwrap();
    let script = "exec 3<secret 4</ 5>>secret 9<&0; cd ws; $AJ exec -- ./life fds";
    let ran = said(yard.sh(script).current_dir(secret.parent().unwrap()));
    assert_eq!(ran.out, "open 0\nopen 1\nopen 2\n", "{ran:?}");
}

#[test]
fn aj_adds_nothing_of_its_own() {
    let Some(yard) = Yard::new() else { return };
    let ran = said(&mut yard.aj(["printf", "no newline"]));
    assert_eq!((ran.out.as_str(), ran.err.as_str(), ran.fate), ("no newline", "", 0));
    let mut file =
        File::options().read(true).write(true).create(true).truncate(true).open(yard.path("raw")).unwrap();
    let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    file.write_all(&bytes).unwrap();
    std::fs::copy(yard.path("raw"), yard.ws.join("raw")).unwrap();
    let out = File::create(yard.path("copy")).unwrap();
    assert_eq!(fate(Running::start(yard.aj(["cat", "raw"]).stdout(out)).end()), 0);
    file.seek(SeekFrom::Start(0)).unwrap();
    assert!(std::fs::read(yard.path("copy")).unwrap() == bytes);
}
