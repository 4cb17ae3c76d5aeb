//! What a program has done to the terminal and not undone, told from its output: so that one that dies
//! of SIGKILL in the alternate screen, with the mouse on and the cursor hidden, leaves a terminal that
//! can be used. What it did not switch on is never switched off.

mod command;

use command::{Command, Set};

/// Longest parameters of a control sequence that are understood; every known one is far shorter.
const LONGEST: usize = 48;

/// Private modes that are off in a terminal as shells expect it, and what a program switches on:
/// 132 columns and that they are allowed, cursor keys, reverse video, origin, wrapping backwards, keypad,
/// a key that erases with ^H, margins at the sides, the mouse in its protocols, focus, pasting, updates held
/// back, keys as Windows has them. The alternate screens are not among them.
const OFF: [u16; 24] = [
    3, 40, 1, 5, 6, 9, 45, 66, 67, 69, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 2004, 2026,
    2031, 2048, 9001,
];
/// Those that are on: wrapping at the margin, keys that repeat, the cursor.
const ON: [u16; 3] = [7, 8, 25];
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
#[derive(Debug, Clone, Default)]
struct Keyboard {
    /// Pushed so often.
    pushed: u16,
    /// Changed without that.
    changed: bool,
}

impl Keyboard {
    fn undo(&self) -> Vec<u8> {
        let mut out = String::new();
        if self.pushed > 0 {
            out = format!("\x1b[<{}u", self.pushed);
        }
        if self.changed {
            out.push_str("\x1b[=0u");
        }
        out.into_bytes()
    }
}

/// What is kept with the place of the cursor, and comes back with it.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    style: bool,
    charset: bool,
    shifted: bool,
    /// Bits of [`OFF`] and [`ON`].
    off: u32,
    on: u32,
    /// It was kept, and not gone back to.
    fresh: bool,
}

impl Cursor {
    fn is_plain(self) -> bool {
        !self.style && !self.charset && !self.shifted && self.off == 0 && self.on == 0
    }
}

/// Private modes that were kept (`CSI ? … s`), to be gone back to (`CSI ? … r`): which, and the bits then.
#[derive(Debug, Clone, Default)]
struct Kept {
    off: (u32, u32),
    on: (u32, u32),
    /// Whether one of the alternate screens was shown, and since which mode.
    alternate: Option<Option<u16>>,
}

/// What is not as it was.
#[derive(Debug, Clone, Default)]
pub(super) struct Screen {
    at: At,
    parameters: Vec<u8>,
    command: Command,
    /// Bits of [`OFF`], [`ON`] and [`PLAIN`].
    off: u32,
    on: u32,
    plain: u32,
    /// The alternate screen is shown, since this mode was set.
    alternate: Option<u16>,
    /// The cursor that each of the two screens keeps.
    cursors: [Option<Cursor>; 2],
    kept: Kept,
    keypad: bool,
    /// Line drawing instead of letters: G0 is another one, or G1 is in use.
    charset: bool,
    shifted: bool,
    /// Colours and the like; and some were pushed on the terminal's stack of them.
    style: bool,
    styles: bool,
    /// A shape of the cursor.
    shape: bool,
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
    /// What commands have set: what is written is a link, colours are others.
    set: Set,
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
            (At::Text | At::Escape | At::Control | At::Designation(_), 0x1b) => At::Escape,
            // A control character within a sequence is obeyed, and the sequence goes on.
            (At::Text | At::Escape | At::Control | At::Designation(_), 0..=0x1f | 0x7f) => {
                if matches!(byte, 0x0e | 0x0f) {
                    self.shifted = byte == 0x0e;
                }
                self.at
            }
            (At::Text, _) => At::Text,
            (At::Escape, b'[') => {
                self.parameters.clear();
                At::Control
            }
            (At::Escape, b']' | b'P' | b'X' | b'^' | b'_') => {
                self.command = Command::default();
                At::String { command: byte == b']' }
            }
            (At::Escape, 0x20..=0x2f) => At::Designation(byte),
            (At::Escape, _) => self.escape(byte),
            // A set that has two bytes for a name is not letters either.
            (At::Designation(b'('), 0x20..=0x2f) => self.at,
            (At::Designation(_), 0x20..=0x2f) => At::Designation(b' '),
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
                if self.parameters.len() <= LONGEST {
                    self.parameters.push(byte);
                }
                At::Control
            }
            (At::String { command: true }, 0x07) | (At::StringEscape, b'\\') => self.end_string(),
            (At::String { command }, 0x1b) => {
                if command {
                    self.command.end(&mut self.set);
                }
                At::StringEscape
            }
            (At::String { command }, _) => {
                if command {
                    self.command.see(byte, &mut self.set);
                }
                self.at
            }
            // Any other escape ends a string, too.
            (At::StringEscape, 0x1b) => At::StringEscape,
            (At::StringEscape, _) => {
                self.at = At::Escape;
                return self.step(byte);
            }
        };
    }

    /// Whatever ends a string, some terminal obeys it then.
    fn end_string(&mut self) -> At {
        if self.at == (At::String { command: true }) {
            self.command.end(&mut self.set);
        }
        At::Text
    }

    /// Of the screen that is shown.
    fn keyboard(&mut self) -> &mut Keyboard {
        let [usual, alternate] = &mut self.keyboard;
        if self.alternate.is_some() { alternate } else { usual }
    }

    fn escape(&mut self, byte: u8) -> At {
        match byte {
            b'=' => self.keypad = true,
            b'>' => self.keypad = false,
            b'<' => self.vt52 = false,
            b'7' => self.keep_cursor(),
            b'8' => self.restore_cursor(),
            // G2 and G3 instead of G0.
            b'n' | b'o' => self.shifted = true,
            // Reset: all of it is as it was, but for colours and kept modes, which some terminals leave alone.
            b'c' => {
                let (set, kept) = (std::mem::take(&mut self.set), std::mem::take(&mut self.kept));
                *self = Screen { set: set.without_link(), kept, ..Screen::default() };
            }
            _ => {}
        }
        At::Text
    }

    fn keep_cursor(&mut self) {
        let Screen { style, charset, shifted, .. } = *self;
        // Some terminals keep wrapping and reverse video, too.
        let (off, on) = (self.off & (bit(&OFF, 5) | bit(&OFF, 6)), self.on & bit(&ON, 7));
        let kept = Cursor { style, charset, shifted, off, on, fresh: true };
        let [usual, alternate] = &mut self.cursors;
        *(if self.alternate.is_some() { alternate } else { usual }) = Some(kept);
    }

    /// Where the command has kept none, there is nothing of its doing that could come back.
    fn restore_cursor(&mut self) {
        let [usual, alternate] = &mut self.cursors;
        let Some(kept) = (if self.alternate.is_some() { alternate } else { usual }) else { return };
        kept.fresh = false;
        (self.style, self.charset, self.shifted) = (kept.style, kept.charset, kept.shifted);
        self.off = self.off & !bit(&OFF, 6) | kept.off;
        self.on |= kept.on;
    }

    /// A private mode is set, or reset.
    fn mode(&mut self, number: u16, set: bool) {
        match (number, set) {
            (47 | 1047, true) => self.alternate = self.alternate.or(Some(number)),
            (47 | 1047, false) => self.alternate = None,
            (1048, true) => self.keep_cursor(),
            (1048, false) => self.restore_cursor(),
            (1049, true) => {
                self.keep_cursor();
                self.alternate = self.alternate.or(Some(number));
            }
            (1049, false) => {
                // Terminals with one place for both screens go back to what was kept on this one.
                let there = self.cursors[1].filter(|_| self.alternate.is_some()).unwrap_or_default();
                self.alternate = None;
                self.restore_cursor();
                self.style |= there.style;
                self.charset |= there.charset;
                self.shifted |= there.shifted;
                self.off |= there.off;
                self.on |= there.on;
            }
            (2, false) => self.vt52 = true,
            _ => {
                put(&mut self.off, bit(&OFF, number), set);
                put(&mut self.on, bit(&ON, number), !set);
            }
        }
    }

    /// A private mode is kept as it is.
    fn keep_mode(&mut self, number: u16) {
        match number {
            47 | 1047 | 1049 => self.kept.alternate = Some(self.alternate),
            1048 => self.keep_cursor(),
            _ => {
                let (off, on) = (bit(&OFF, number), bit(&ON, number));
                self.kept.off = (self.kept.off.0 | off, self.kept.off.1 & !off | self.off & off);
                self.kept.on = (self.kept.on.0 | on, self.kept.on.1 & !on | self.on & on);
            }
        }
    }

    /// And is as it was then. What the command has not kept comes back as nobody knows.
    fn restore_mode(&mut self, number: u16) {
        match number {
            // Nobody keeps that one is shown, and lives on.
            47 | 1047 | 1049 => {
                if let Some(shown) = self.kept.alternate {
                    self.mode(number, shown.is_some());
                }
            }
            1048 => self.restore_cursor(),
            _ => {
                let (off, on) = (bit(&OFF, number), bit(&ON, number));
                let changed = |bits: u32, (known, then): (u32, u32)| bits & (then | !known) != 0;
                put(&mut self.off, off, changed(off, self.kept.off));
                put(&mut self.on, on, changed(on, self.kept.on));
            }
        }
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
            (Some(b'?'), b'h' | b'l') => numbers(1).for_each(|n| self.mode(n, last == b'h')),
            (Some(b'?'), b's') => numbers(1).for_each(|n| self.keep_mode(n)),
            (Some(b'?'), b'r') => numbers(1).for_each(|n| self.restore_mode(n)),
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
                    put(&mut self.plain, bit(&PLAIN, number), last == b'h');
                    if number == 12 {
                        self.local_echo = last == b'l';
                    }
                }
            }
            (_, b'm') => self.style = numbers(0).any(|n| n != 0),
            (None, b's') if self.off & bit(&OFF, 69) == 0 => self.keep_cursor(),
            (None, b'u') => self.restore_cursor(),
            (_, b'{' | b'p') if parameters.ends_with(b"#") => self.styles |= self.style,
            (_, b'}' | b'q') if parameters.ends_with(b"#") => self.style |= self.styles,
            (_, b'r') if parameters.iter().all(|b| matches!(b, b'0'..=b'9' | b';')) => {
                self.margins = !parameters.is_empty();
            }
            (_, b'q') if parameters.ends_with(b" ") => {
                self.shape = !matches!(parameters, b" " | b"0 ");
            }
            (_, b'p') if parameters == b"!" => {
                // A soft reset, which leaves the mouse and the screen alone.
                [1, 6, 66].iter().for_each(|n| put(&mut self.off, bit(&OFF, *n), false));
                [7, 25].iter().for_each(|n| put(&mut self.on, bit(&ON, *n), false));
                self.plain = 0;
                (self.keypad, self.charset, self.shifted) = (false, false, false);
                (self.style, self.margins) = (false, false);
            }
            _ => {}
        }
    }

    /// What makes the terminal as it was. Empty when it is.
    pub(super) fn undo(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // Followed as the command's own output was: what brings back something else is undone, too.
        let mut after = self.clone();
        let mut give = |after: &mut Screen, bytes: &[u8]| {
            after.see(bytes);
            out.extend_from_slice(bytes);
        };
        match after.at {
            At::Text => {}
            At::String { .. } | At::StringEscape => give(&mut after, b"\x1b\\"),
            At::Escape | At::Designation(_) | At::Control => give(&mut after, b"\x18"),
        }
        if after.vt52 {
            give(&mut after, b"\x1b<");
        }
        if after.alternate.is_some() {
            let bytes = after.keyboard[1].undo();
            give(&mut after, &bytes);
        }
        if after.margins {
            // It moves the cursor.
            give(&mut after, b"\x1b7\x1b[r\x1b8");
        }
        after.give_modes(&mut give);
        if let Some(number) = after.alternate {
            give(&mut after, format!("\x1b[?{number}l").as_bytes());
            // The others do not go back to where the cursor was.
            if number != 1049 && after.cursors[0].is_some_and(|c| c.fresh) {
                give(&mut after, b"\x1b8");
            }
            after.give_modes(&mut give);
        }
        let bytes = after.keyboard[0].undo();
        give(&mut after, &bytes);
        for (bit, number) in PLAIN.iter().enumerate() {
            if after.plain & 1 << bit != 0 {
                give(&mut after, format!("\x1b[{number}l").as_bytes());
            }
        }
        // Not every terminal brings these back with the cursor, as it leaves the alternate screen.
        for (is, text) in [
            (after.other_keys, &b"\x1b[>4m"[..]),
            (after.keypad, b"\x1b>"),
            (self.charset || after.charset, b"\x1b(B"),
            (self.shifted || after.shifted, b"\x0f"),
            (after.shape, b"\x1b[0 q"),
            (self.style || after.style, b"\x1b[m"),
            (after.local_echo, b"\x1b[12h"),
            (after.latin1, b"\x1b%G"),
        ] {
            if is {
                give(&mut after, text);
            }
        }
        let bytes = after.set.undo();
        give(&mut after, &bytes);
        // What is kept is now what is: a later program that goes back to it finds nothing of this one's.
        if after.cursors[0].is_some_and(|c| !c.is_plain()) {
            give(&mut after, b"\x1b7");
        }
        let alternate = after.kept.alternate.flatten();
        let kept = numbers(after.kept.on.1, &ON).chain(numbers(after.kept.off.1, &OFF)).chain(alternate);
        for number in kept.collect::<Vec<_>>() {
            give(&mut after, format!("\x1b[?{number}s").as_bytes());
        }
        out
    }

    fn give_modes(&mut self, give: &mut impl FnMut(&mut Screen, &[u8])) {
        for (modes, known, end) in [(self.on, &ON[..], 'h'), (self.off, &OFF[..], 'l')] {
            for number in numbers(modes, known) {
                give(self, format!("\x1b[?{number}{end}").as_bytes());
            }
        }
    }
}

/// The bit of a mode. None when it is not known.
fn bit(known: &[u16], number: u16) -> u32 {
    known.iter().position(|n| *n == number).map_or(0, |at| 1 << at)
}

/// The modes of these bits.
fn numbers(bits: u32, known: &[u16]) -> impl Iterator<Item = u16> {
    known.iter().enumerate().filter(move |(at, _)| bits & 1 << at != 0).map(|(_, n)| *n)
}

fn put(bits: &mut u32, bit: u32, set: bool) {
    *bits = if set { *bits | bit } else { *bits & !bit };
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
