//! Commands to the terminal's system (OSC) that change what stays: links and colours.

/// Colours of the palette and, behind those, the special ones (bold, underlined …).
const COLOURS: usize = 320;
/// Where the special ones begin.
const SPECIAL: usize = 256;

/// One command, byte by byte, however long: `NUMBER;FIELD;FIELD…`.
#[derive(Debug, Clone, Default)]
pub(super) struct Command {
    number: u16,
    /// Which field this is. The number is field 0.
    field: u16,
    /// Its length so far, and its value if it is a number.
    len: usize,
    value: Option<u16>,
    query: bool,
    /// The colour that the field before has named.
    colour: Option<u16>,
}

impl Command {
    pub(super) fn see(&mut self, byte: u8, set: &mut Set) {
        // Where a link leads may have semicolons in it.
        if byte == b';' && (self.number, self.field) != (8, 2) {
            self.end_field(set, false);
            self.field = self.field.saturating_add(1);
            (self.len, self.value, self.query) = (0, None, false);
            return;
        }
        self.query = self.len == 0 && byte == b'?';
        self.value = match (self.len, self.value) {
            _ if !byte.is_ascii_digit() => None,
            (0, _) => Some(u16::from(byte - b'0')),
            (_, value) => value.and_then(|v| v.checked_mul(10)?.checked_add(u16::from(byte - b'0'))),
        };
        self.len = self.len.saturating_add(1);
    }

    /// It is terminated.
    pub(super) fn end(&mut self, set: &mut Set) {
        self.end_field(set, true);
        *self = Command::default();
    }

    fn end_field(&mut self, set: &mut Set, last: bool) {
        let first = if matches!(self.number, 5 | 105) { SPECIAL } else { 0 };
        let written = self.len > 0 && !self.query;
        match (self.field, self.number) {
            (0, _) => {
                // What is none is not known either.
                self.number = self.value.unwrap_or(u16::MAX);
                match self.number {
                    110..=119 => set.texts &= !(1 << (self.number - 110)),
                    104 if last => set.colours.iter_mut().take(SPECIAL).for_each(|c| *c = false),
                    105 if last => set.colours.iter_mut().skip(SPECIAL).for_each(|c| *c = false),
                    _ => {}
                }
            }
            (2, 8) => set.link = self.len > 0,
            // More than one text sets the following ones.
            (field, 10..=19) => {
                let which = (self.number - 10).saturating_add(field - 1);
                if written && which < 10 {
                    set.texts |= 1 << which;
                }
            }
            (field, 4 | 5) if field % 2 == 1 => self.colour = self.value,
            (_, 4 | 5) if written => set.colour(first, self.colour, true),
            (_, 104 | 105) => set.colour(first, self.value, false),
            _ => {}
        }
    }
}

/// What commands have set.
#[derive(Debug, Clone)]
pub(super) struct Set {
    /// What is written is a link.
    link: bool,
    /// Colours of the text, its background, the cursor …: those of 10 to 19.
    texts: u16,
    colours: [bool; COLOURS],
}

impl Default for Set {
    fn default() -> Set {
        Set { link: false, texts: 0, colours: [false; COLOURS] }
    }
}

impl Set {
    pub(super) fn without_link(self) -> Set {
        Set { link: false, ..self }
    }

    fn colour(&mut self, first: usize, which: Option<u16>, changed: bool) {
        if let Some(colour) = which.and_then(|w| self.colours.get_mut(first + usize::from(w))) {
            *colour = changed;
        }
    }

    /// What makes it as it was.
    pub(super) fn undo(&self) -> Vec<u8> {
        let mut out = String::new();
        if self.link {
            out.push_str("\x1b]8;;\x1b\\");
        }
        for which in (0..10).filter(|which| self.texts & 1 << which != 0) {
            out.push_str(&format!("\x1b]11{which}\x1b\\"));
        }
        let (usual, special) = self.colours.split_at(SPECIAL);
        for (number, colours) in [(104, usual), (105, special)] {
            // Each by its number: the others may be the user's own.
            let changed: String =
                (0..).zip(colours).filter(|(_, c)| **c).map(|(n, _): (u16, _)| format!(";{n}")).collect();
            if !changed.is_empty() {
                out.push_str(&format!("\x1b]{number}{changed}\x1b\\"));
            }
        }
        out.into_bytes()
    }
}
