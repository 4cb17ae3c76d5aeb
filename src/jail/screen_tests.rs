use super::*;

fn undo(bytes: &[u8]) -> String {
    let undo = |chunk: usize| {
        let mut screen = Screen::default();
        bytes.chunks(chunk).for_each(|part| screen.see(part));
        String::from_utf8(screen.undo()).unwrap()
    };
    // Wherever the output is cut.
    let whole = undo(bytes.len().max(1));
    (1..bytes.len()).for_each(|chunk| assert_eq!(undo(chunk), whole, "{chunk}"));
    whole
}

#[test]
fn what_was_left_on_is_switched_off_and_nothing_else() {
    for (output, left) in [
        (&b"plain text\r\n\xff\xfe\x00"[..], ""),
        (
            b"\x1b[?1049h\x1b[2J\x1b[?25l\x1b[?1000;1006h\x1b[?2004h",
            "\x1b[?25h\x1b[?1000l\x1b[?1006l\x1b[?2004l\x1b[?1049l",
        ),
        (b"\x1b[?1049h\x1b[?25l\x1b[31mred\x1b[0m\x1b[?25h\x1b[?1049l", ""),
        (b"\x1b[31;1mred", "\x1b[m"),
        (b"\x1b[31mred\x1b[m", ""),
        (b"\x1b=\x1b[?1h", "\x1b[?1l\x1b>"),
        (b"\x1b(0lqqk", "\x1b(B"),
        (b"\x1b(0lqqk\x1b(B\x0e\x0f", ""),
        (b"\x1b[2;10r", "\x1b7\x1b[r\x1b8"),
        (b"\x1b[2;10r\x1b[r", ""),
        (b"\x1b[4h\x1b[?7l", "\x1b[?7h\x1b[4l"),
        (b"\x1b[5 q", "\x1b[0 q"),
        (b"\x1b[>1u\x1b[>3u\x1b[<u\x1b[>4;2m", "\x1b[<1u\x1b[>4m"),
        (b"\x1b[?1049h\x1b[?1003hx\x1bc", ""),
        (b"\x1b[?1049h\x1b[?25l\x1b[1m\x1b[!p", "\x1b[?1049l"),
        (b"\x1b[>1u\x1b[?1049h\x1b[>1u", "\x1b[<1u\x1b[?1049l\x1b[<1u"),
        (b"\x1b[=1;1u", "\x1b[=0u"),
        (b"\x1b[=5u\x1b[=0u\x1b[>1u\x1b[=3u\x1b[<u", ""),
        (b"\x1b]8;;http://x/\x1b\\here", "\x1b]8;;\x1b\\"),
        (b"\x1b]8;id=1;http://x/;\x07here", "\x1b]8;;\x1b\\"),
        (b"\x1b]8;;http://x/\x1b\\here\x1b]8;id=1;\x07\x1b]0;title\x07", ""),
        (b"\x1b[?69h\x1b[5;10s\x1b[?9001h", "\x1b[?69l\x1b[?9001l"),
        (b"\x1b[8;1;2\x1b[0m\x1b[8;1;2", "\x18"),
        (b"\x1b[12l", "\x1b[12h"),
        (b"\x1b[?2l", "\x1b<"),
        (b"\x1b*0\x1bn", "\x0f"),
        (b"\x1b%@", "\x1b%G"),
        (b"\x1b[?9999h\x1b[6n\x1b[c\x1b[?u\x1b[?1$p", ""),
        (b"\x1b[?67h\x1b[?8l", "\x1b[?8h\x1b[?67l"),
        (b"\x1b[?40h\x1b[?3h", "\x1b[?3l\x1b[?40l"),
        (b"\x1b[31m\x1b[#{\x1b[m\x1b[#}", "\x1b[m"),
        (b"\x1b[1;1;5;5;1;1$r", ""),
    ] {
        assert_eq!(undo(output), left, "{}", output.escape_ascii());
    }
}

#[test]
fn a_cursor_that_was_kept_brings_back_what_it_had() {
    for (output, left) in [
        (&b"\x1b7\x1b[31mred\x1b8"[..], ""),
        (b"\x1b7\x1b[31m\x1b(0\x0e\x1b[?6hred\x1b8", ""),
        (b"\x1b[31m\x1b7\x1b[m\x1b8", "\x1b[m\x1b7"),
        (b"\x1b(0\x0e\x1b7\x1b(B\x0f\x1b8", "\x1b(B\x0f\x1b7"),
        (b"\x1b[?6h\x1b[s\x1b[?6l\x1b[u", "\x1b[?6l\x1b7"),
        // It would come back to whoever is next.
        (b"\x1b[31m\x1b7\x1b[m", "\x1b7"),
        (b"\x1b[31m\x1b[?1048h\x1b[m\x1b[?1048l", "\x1b[m\x1b7"),
        (b"\x1b[31m\x1b7\x1b[m\x1b7", ""),
        // What another program has kept is not this one's.
        (b"\x1b8\x1b[u\x1b[?1049l", ""),
        (b"\x1b[31m\x1b[2;10r", "\x1b7\x1b[r\x1b8\x1b[m\x1b7"),
    ] {
        assert_eq!(undo(output), left, "{}", output.escape_ascii());
    }
}

#[test]
fn the_alternate_screen_is_left_by_the_mode_that_it_was_entered_by() {
    for (output, left) in [
        (&b"\x1b[?47h"[..], "\x1b[?47l"),
        (b"\x1b[?1047h", "\x1b[?1047l"),
        (b"\x1b[?1049h\x1b[?47h", "\x1b[?1049l"),
        (b"\x1b[?47h\x1b[?1049h", "\x1b[?47l"),
        (b"\x1b[?1049h\x1b[31m", "\x1b[?1049l\x1b[m"),
        (b"\x1b[?1049h\x1b[31m\x1b[?1049l", ""),
        // Any of them leaves it.
        (b"\x1b[?1049h\x1b[?47l", ""),
        (b"\x1b[?47h\x1b[?1047l", ""),
        (b"\x1b[?1047h\x1b[?1049l", ""),
        // To where the cursor was, if that was kept for it.
        (b"\x1b7\x1b[?47h", "\x1b[?47l\x1b8"),
        (b"\x1b[?1048;1047h", "\x1b[?1047l\x1b8"),
        (b"\x1b7\x1b8\x1b[?47h", "\x1b[?47l"),
        (b"\x1b7\x1b[?47h\x1b[2J\x1b[?47l\x1b8", ""),
        // With what was kept there, and on terminals with one place for both what was kept on it.
        (b"\x1b[31m\x1b[?1049h\x1b[m", "\x1b[?1049l\x1b[m\x1b7"),
        (b"\x1b[31m\x1b[?1049h\x1b[m\x1b[?1049l", "\x1b[m\x1b7"),
        (b"\x1b[?1049h\x1b[31m\x1b7\x1b[m", "\x1b[?1049l\x1b[m"),
        (b"\x1b[?1049h\x1b[31m\x1b7\x1b[m\x1b[?1049l", "\x1b[m"),
        (b"\x1b[31m\x1b7\x1b[?47h\x1b[m", "\x1b[?47l\x1b8\x1b[m\x1b7"),
    ] {
        assert_eq!(undo(output), left, "{}", output.escape_ascii());
    }
}

#[test]
fn modes_that_were_kept_are_known_when_they_come_back() {
    for (output, left) in [
        (&b"\x1b[?25s\x1b[?25l\x1b[?25r"[..], ""),
        (b"\x1b[?1;1000s\x1b[?1;1000h\x1b[?1;1000r", ""),
        (b"\x1b[?25l\x1b[?25s\x1b[?25h\x1b[?25r", "\x1b[?25h\x1b[?25s"),
        // A later program would hide the cursor with it.
        (b"\x1b[?25l\x1b[?25s\x1b[?25h", "\x1b[?25s"),
        (b"\x1b[?1000h\x1b[?1000s\x1b[?1000l\x1b[?1000s", ""),
        // Kept by nobody knows whom.
        (b"\x1b[?25r\x1b[?1000r", "\x1b[?25h\x1b[?1000l"),
        (b"\x1b[?1049h\x1b[?1049s\x1b[?1049l", "\x1b[?1049s"),
        (b"\x1b[?1049h\x1b[?1049s\x1b[?1049l\x1b[?47r", "\x1b[?47l\x1b[?1049s"),
        (b"\x1b[?1049s\x1b[?1049h\x1b[?1049r\x1b[?47r", ""),
        (b"\x1b[?1049r", ""),
        (b"\x1b[31m\x1b[?1048s\x1b[m\x1b[?1048r", "\x1b[m\x1b7"),
    ] {
        assert_eq!(undo(output), left, "{}", output.escape_ascii());
    }
}

#[test]
fn colours_that_were_changed_are_reset() {
    let long = [&b"\x1b]4"[..], &b";1;rgb:0000/1111/2222;9;#123456".repeat(20), b"\x07"].concat();
    for (output, left) in [
        (&b"\x1b]11;#000000\x07"[..], "\x1b]111\x1b\\"),
        (b"\x1b]10;red;?;blue\x1b\\", "\x1b]110\x1b\\\x1b]112\x1b\\"),
        (b"\x1b]11;?\x07\x1b]4;1;?\x07\x1b]4;\x07\x1b]2;title\x07\x1b]52;c;eA==\x07", ""),
        (b"\x1b]12;red\x07\x1b]112\x07", ""),
        (b"\x1b]4;1;red;200;blue\x07", "\x1b]104;1;200\x1b\\"),
        (b"\x1b]4;1;red\x07\x1b]4;2;red\x07\x1b]104;1\x07", "\x1b]104;2\x1b\\"),
        (b"\x1b]4;1;red;256;red\x07\x1b]104\x07", "\x1b]105;0\x1b\\"),
        (b"\x1b]5;1;red\x07\x1b]104\x07\x1b]105\x07", ""),
        (b"\x1b]4;99999;red\x07\x1b]4;x;red\x07\x1b]1111;red\x07\x1b]x;1;red\x07", ""),
        (&long, "\x1b]104;1;9\x1b\\"),
        // Whatever ends it, and also at the end.
        (b"\x1b]11;red\x18", "\x1b]111\x1b\\"),
        (b"\x1b]11;red", "\x1b\\\x1b]111\x1b\\"),
        // Some terminals leave them alone at a reset.
        (b"\x1b]11;red\x07\x1b[1m\x1b]8;;x\x07\x1bc", "\x1b]111\x1b\\"),
    ] {
        assert_eq!(undo(output), left, "{}", output.escape_ascii());
    }
}

#[test]
fn a_control_character_within_a_sequence_does_not_end_it() {
    for (output, left) in [
        (&b"\x1b[?2\r\n5l"[..], "\x1b[?25h"),
        (b"\x1b[?25\x7f\x00l", "\x1b[?25h"),
        (b"\x1b\n[?25\x08l", "\x1b[?25h"),
        (b"\x1b[?2\x0e5h", "\x0f"),
        (b"\x1b(\n0", "\x1b(B"),
        (b"\x1b\x0e7", "\x0f\x1b7"),
        (b"\x1b[?25\x1al", ""),
        (b"\x1b[?1000\x1b[?25l", "\x1b[?25h"),
        (b"\x1b(\x1b[?25l", "\x1b[?25h"),
        (b"\x1b]0;x\x1b\n[?25l", "\x1b[?25h"),
        (b"\x1b(%5", "\x1b(B"),
        // A bell does not end a picture.
        (b"\x1bPq\x07...", "\x1b\\"),
    ] {
        assert_eq!(undo(output), left, "{}", output.escape_ascii());
    }
}

#[test]
fn what_was_begun_is_ended() {
    assert_eq!(undo(b"\x1b]0;a title without an end"), "\x1b\\");
    assert_eq!(undo(b"\x1b]0;a title\x07"), "");
    assert_eq!(undo(b"\x1b]0;a title\x1b\\"), "");
    assert_eq!(undo(b"\x1bPq...\x1b[?25l"), "\x1b[?25h");
    assert_eq!(undo(b"\x1b[?25"), "\x18");
    assert_eq!(undo(b"\x1b[?25\x18l"), "");
    assert_eq!(undo(b"\x1b"), "\x18");
    // Its end makes it a link.
    assert_eq!(undo(b"\x1b]8;;http://x/"), "\x1b\\\x1b]8;;\x1b\\");
    let long = [&b"\x1b]8;id="[..], &[b'1'; 100], b";http://x/\x1b[1m"].concat();
    assert_eq!(undo(&long), "\x1b[m\x1b]8;;\x1b\\");
    // In a string there are no modes.
    assert_eq!(undo(b"\x1b]0;[?25l\x07"), "");
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut screen = Screen::default();
    screen.see(b"\x1b[");
    (0..1000).for_each(|_| screen.see(&[b'1'; 1000]));
    assert!(screen.parameters.capacity() < 1000);
    screen.see(b"h\x1b[?25l");
    assert_eq!(screen.undo(), b"\x1b[?25h");
    (0..100_000).for_each(|_| screen.see(b"\x1b[>1u"));
    assert!(screen.undo().len() < 64);
}

proptest::proptest! {
    /// What undoes is itself undone: nothing is left on after it.
    #[test]
    fn after_it_there_is_nothing_to_undo(words in proptest::collection::vec(proptest::sample::select(&[
        "\x1b[?1049h", "\x1b[?25l", "\x1b[?7l", "\x1b[31m", "\x1b[", "\x1b]", "\x1b", "x", "\x07", "\x1b\\", "4h", "\x0e",
        "\x1b(0", "\x1b=", "\x1b[3;4r", "\x1b[2 q", "\x1b[>1u", "\x1b[!p", "\x1b[>4;1m", "\x1b[?1000;1006h",
        "\x1b]8;;", "\x1b[=1u", "\x1b[<2u", "\x1b[?2l", "\x1b[12l", "\x1b%@", "\x1bn", "\x18", ";", "?", "h",
        "\x1b7", "\x1b8", "\x1b[?47h", "\x1b[?1049l", "\x1b[?7;25;1049s", "\x1b[?7;25;1049;5r", "\x1b[?6h", "\x1b[?5h",
        "\x1b]4;1;red", "\x1b]11;red", "\x1b[#{", "\x1b[#}", "\n", "\x1bc",
    ][..]), 0..24)) {
        let mut screen = Screen::default();
        screen.see(words.concat().as_bytes());
        let undo = screen.undo();
        screen.see(&undo);
        proptest::prop_assert_eq!(screen.undo(), b"");
    }
}
