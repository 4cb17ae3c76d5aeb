//! What a program has done to the terminal and not undone, told from its output: so that one that dies
//! of SIGKILL in the alternate screen, with the mouse on and the cursor hidden, leaves a terminal that
//! can be used. What it did not switch on is never switched off.

/// Longest parameters of a control sequence that are understood; every known one is far shorter.
const LONGEST: usize = 48;

/// Private modes that are off in a terminal as shells expect it, and what a program switches on:
/// cursor keys, reverse video, origin, wrapping backwards, keypad, margins at the sides, the mouse in its
/// protocols, focus, pasting, updates held back, keys as Windows has them, the alternate screens. Those go
/// last: the others may be kept apart for each screen.
const OFF: [u16; 24] = [
    1, 5, 6, 9, 45, 66, 69, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 2004, 2026, 2031, 2048,
    9001, 47, 1047, 1049,
];
/// How many of these are alternate screens.
const ALTERNATE: usize = 3;
/// Those that are on: wrapping at the margin, the cursor.
const ON: [u16; 2] = [7, 25];
/// Modes without a `?` that are off: keyboard locked, insert, line feeds that return.
const PLAIN: [u16; 3] = [2, 4, 20];

/// Where in the language of terminals the output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum At {
    /// Text.
    #[default]
    Text,
    /// After an escape.
    Escape,
    /// In a sequence of an escape, this byte, and one more.
    Designation(u8),
    /// In a control sequence.
    Control,
    /// In a string (a title, a picture), until it is terminated. A command to the system (`]`), such as
    /// where a link leads, or another one.
    String { command: bool },
    /// After an escape in one.
    StringEscape,
}

/// How keys are told, which each of the two screens keeps for itself.
#[derive(Debug, Default)]
struct Keyboard {
    /// Pushed so often.
    pushed: u16,
    /// Changed without that.
    changed: bool,
}

impl Keyboard {
    fn undo(&self, out: &mut Vec<u8>) {
        if self.pushed > 0 {
            out.extend_from_slice(format!("\x1b[<{}u", self.pushed).as_bytes());
        }
        if self.changed {
            out.extend_from_slice(b"\x1b[=0u");
        }
    }
}

/// What is not as it was.
#[derive(Debug, Default)]
pub(super) struct Screen {
    at: At,
    parameters: Vec<u8>,
    /// Bits of [`OFF`], [`ON`] and [`PLAIN`].
    off: u32,
    on: u32,
    plain: u32,
    keypad: bool,
    /// Line drawing instead of letters: G0 is another one, or G1 is in use.
    charset: bool,
    shifted: bool,
    /// Colours and the like.
    style: bool,
    /// A shape of the cursor.
    cursor: bool,
    /// A part of the screen scrolls.
    margins: bool,
    /// Keys are told in another way: on the usual screen, and on the alternate one.
    keyboard: [Keyboard; 2],
    other_keys: bool,
    /// What is typed is also shown, by the terminal itself.
    local_echo: bool,
    /// It obeys what a VT52 did, and nothing else.
    vt52: bool,
    /// It takes bytes for Latin-1.
    latin1: bool,
    /// What is written is a link.
    link: bool,
}

impl Screen {
    /// The next bytes that the terminal was given.
    pub(super) fn see(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        loop {
            if self.at == At::Text {
                // Most output is nothing but text.
                let Some(at) = rest.iter().position(|b| matches!(b, 0x1b | 0x0e | 0x0f)) else { return };
                rest = rest.get(at..).unwrap_or_default();
            }
            let Some((byte, more)) = rest.split_first() else { return };
            self.step(*byte);
            rest = more;
        }
    }

    fn step(&mut self, byte: u8) {
        self.at = match (self.at, byte) {
            // Cancelled, wherever it was.
            (At::Control | At::Escape | At::Designation(_), 0x18 | 0x1a) => At::Text,
            (At::String { .. } | At::StringEscape, 0x18 | 0x1a) => self.end_string(),
            (At::Text, 0x0e | 0x0f) => {
                self.shifted = byte == 0x0e;
                At::Text
            }
            (At::Text | At::Escape | At::Control | At::Designation(_), 0x1b) => At::Escape,
            (At::Text, _) => At::Text,
            (At::Escape | At::StringEscape, b'[') => {
                self.end_string();
                At::Control
            }
            (At::Escape | At::StringEscape, b']' | b'P' | b'X' | b'^' | b'_') => {
                self.end_string();
                At::String { command: byte == b']' }
            }
            (At::Escape, b'(' | b')' | b'*' | b'+' | b'#' | b'%' | b' ') => At::Designation(byte),
            (At::Escape, _) => self.escape(byte),
            (At::Designation(what), _) => {
                match what {
                    b'(' => self.charset = byte != b'B',
                    b'%' => self.latin1 = byte == b'@',
                    _ => {}
                }
                At::Text
            }
            (At::Control, 0x40..=0x7e) => {
                let parameters = std::mem::take(&mut self.parameters);
                self.control(&parameters, byte);
                self.parameters = parameters;
                At::Text
            }
            (At::Control, _) => {
                // One that is too long is none that is known.
                if byte >= 0x20 && self.parameters.len() <= LONGEST {
                    self.parameters.push(byte);
                }
                At::Control
            }
            (At::String { .. }, 0x07) | (At::StringEscape, b'\\') => self.end_string(),
            (At::String { .. }, 0x1b) => At::StringEscape,
            (At::String { command }, _) => {
                if command && self.parameters.len() <= LONGEST {
                    self.parameters.push(byte);
                }
                self.at
            }
            // Any other escape ends a string, too.
            (At::StringEscape, 0x1b) => At::StringEscape,
            (At::StringEscape, _) => {
                self.end_string();
                self.escape(byte)
            }
        };
    }

    /// Whatever ends a string, some terminal obeys it then.
    fn end_string(&mut self) -> At {
        self.link = self.is_link();
        self.parameters.clear();
        At::Text
    }

    /// Whether what is written is a link, with the string that was begun: `8;KEYS;WHERE`, which ends
    /// one where it is empty.
    fn is_link(&self) -> bool {
        let string = matches!(self.at, At::String { .. } | At::StringEscape);
        let Some(rest) = self.parameters.strip_prefix(b"8;").filter(|_| string) else { return self.link };
        match rest.iter().position(|b| *b == b';') {
            Some(at) => rest.len() > at + 1,
            None => self.link || self.parameters.len() > LONGEST,
        }
    }

    /// Of the screen that is shown.
    fn keyboard(&mut self) -> &mut Keyboard {
        let [usual, alternate] = &mut self.keyboard;
        if is_alternate(self.off) { alternate } else { usual }
    }

    fn escape(&mut self, byte: u8) -> At {
        match byte {
            b'=' => self.keypad = true,
            b'>' => self.keypad = false,
            b'<' => self.vt52 = false,
            // G2 and G3 instead of G0.
            b'n' | b'o' => self.shifted = true,
            // Reset: all of it is as it was.
            b'c' => *self = Screen::default(),
            _ => {}
        }
        At::Text
    }

    /// A control sequence: its parameters and its last byte.
    fn control(&mut self, parameters: &[u8], last: u8) {
        if parameters.len() > LONGEST {
            return;
        }
        let numbers = |from: usize| {
            let text = parameters.get(from..).unwrap_or_default();
            text.split(|b| matches!(b, b';' | b':'))
                .map(|n| std::str::from_utf8(n).ok().and_then(|n| n.parse::<u16>().ok()).unwrap_or(0))
        };
        match (parameters.first(), last) {
            (Some(b'?'), b'h' | b'l') => {
                for number in numbers(1) {
                    set(&mut self.off, &OFF, number, last == b'h');
                    set(&mut self.on, &ON, number, last == b'l');
                    self.vt52 |= number == 2 && last == b'l';
                }
            }
            (Some(b'>'), b'u') => {
                let keyboard = self.keyboard();
                keyboard.pushed = keyboard.pushed.saturating_add(1).min(99);
            }
            (Some(b'<'), b'u') => {
                let popped = numbers(1).next().unwrap_or(0).max(1);
                let keyboard = self.keyboard();
                // All that is left is given up with the last.
                keyboard.changed &= popped <= keyboard.pushed;
                keyboard.pushed = keyboard.pushed.saturating_sub(popped);
            }
            (Some(b'='), b'u') => {
                let mut given = numbers(1);
                let (flags, how) = (given.next().unwrap_or(0), given.next().unwrap_or(1));
                let keyboard = self.keyboard();
                match (flags, how) {
                    _ if keyboard.pushed > 0 => {}
                    (0, 0 | 1) => keyboard.changed = false,
                    (0, _) | (_, 3) => {}
                    _ => keyboard.changed = true,
                }
            }
            (Some(b'>'), b'm') => {
                let mut given = numbers(1);
                if given.next() == Some(4) {
                    self.other_keys = given.next().unwrap_or(0) != 0;
                }
            }
            (Some(b'?' | b'<' | b'=' | b'>'), _) => {}
            (_, b'h' | b'l') => {
                for number in numbers(0) {
                    set(&mut self.plain, &PLAIN, number, last == b'h');
                    if number == 12 {
                        self.local_echo = last == b'l';
                    }
                }
            }
            (_, b'm') => self.style = numbers(0).any(|n| n != 0),
            (_, b'r') => self.margins = !parameters.is_empty(),
            (_, b'q') if parameters.ends_with(b" ") => {
                self.cursor = !matches!(parameters, b" " | b"0 ");
            }
            (_, b'p') if parameters == b"!" => {
                // A soft reset, which leaves the mouse and the screen alone.
                [1, 6, 66].iter().for_each(|n| set(&mut self.off, &OFF, *n, false));
                (self.on, self.plain) = (0, 0);
                (self.keypad, self.charset, self.shifted) = (false, false, false);
                (self.style, self.margins) = (false, false);
            }
            _ => {}
        }
    }

    /// What makes the terminal as it was. Empty when it is.
    pub(super) fn undo(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self.at {
            At::Text => {}
            At::String { .. } | At::StringEscape => out.extend_from_slice(b"\x1b\\"),
            At::Escape | At::Designation(_) | At::Control => out.push(0x18),
        }
        if self.vt52 {
            out.extend_from_slice(b"\x1b<");
        }
        if is_alternate(self.off) {
            self.keyboard[1].undo(&mut out);
        }
        if self.margins {
            // It moves the cursor.
            out.extend_from_slice(b"\x1b7\x1b[r\x1b8");
        }
        for (modes, known, end) in [(self.on, &ON[..], 'h'), (self.off, &OFF[..], 'l')] {
            for (bit, number) in known.iter().enumerate() {
                if modes & 1 << bit != 0 {
                    out.extend_from_slice(format!("\x1b[?{number}{end}").as_bytes());
                }
            }
        }
        self.keyboard[0].undo(&mut out);
        for (bit, number) in PLAIN.iter().enumerate() {
            if self.plain & 1 << bit != 0 {
                out.extend_from_slice(format!("\x1b[{number}l").as_bytes());
            }
        }
        for (is, text) in [
            (self.other_keys, &b"\x1b[>4m"[..]),
            (self.keypad, b"\x1b>"),
            (self.charset, b"\x1b(B"),
            (self.shifted, b"\x0f"),
            (self.cursor, b"\x1b[0 q"),
            (self.style, b"\x1b[m"),
            (self.local_echo, b"\x1b[12h"),
            (self.latin1, b"\x1b%G"),
            // The one that its string begins, too, once that is ended.
            (self.is_link(), b"\x1b]8;;\x1b\\"),
        ] {
            if is {
                out.extend_from_slice(text);
            }
        }
        out
    }
}

/// Whether one of the alternate screens is shown, by the bits of [`OFF`].
fn is_alternate(off: u32) -> bool {
    off >> (OFF.len() - ALTERNATE) != 0
}

fn set(bits: &mut u32, known: &[u16], number: u16, set: bool) {
    if let Some(bit) = known.iter().position(|n| *n == number) {
        *bits = if set { *bits | 1 << bit } else { *bits & !(1 << bit) };
    }
}

#[cfg(test)]
mod tests {
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
        ][..]), 0..24)) {
            let mut screen = Screen::default();
            screen.see(words.concat().as_bytes());
            let undo = screen.undo();
            screen.see(&undo);
            proptest::prop_assert_eq!(screen.undo(), b"");
        }
    }
}
