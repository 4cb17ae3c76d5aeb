//! Whether messages are coloured: flag, then `NO_COLOR`, `CLICOLOR_FORCE`, then the terminal.

use std::io::{self, IsTerminal};

use crate::base::env;

/// `--color`.
#[derive(clap::ValueEnum, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Color {
    // No doc comments: clap would print them, and the words say it.
    #[default]
    Auto,
    Always,
    Never,
}

impl Color {
    /// The choice spelled by a word of the command line.
    pub(crate) fn of_word(word: impl AsRef<[u8]>) -> Option<Color> {
        match word.as_ref() {
            b"auto" => Some(Color::Auto),
            b"always" => Some(Color::Always),
            b"never" => Some(Color::Never),
            _ => None,
        }
    }

    /// Whether messages on stderr are coloured.
    pub(crate) fn decide(self) -> bool {
        // The environment is read only where it can matter: this is on the way of every `aj exec`.
        match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => decide(
                env::NO_COLOR.get().is_some(),
                env::CLICOLOR_FORCE.get().is_some_and(|v| v != "0"),
                || io::stderr().is_terminal() && env::TERM.get().is_none_or(|t| t != "dumb"),
            ),
        }
    }
}

fn decide(no_color: bool, force: bool, terminal: impl FnOnce() -> bool) -> bool {
    !no_color && (force || terminal())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_color_beats_force_and_force_beats_the_terminal() {
        assert!(!decide(true, true, || true));
        assert!(decide(false, true, || false));
        assert!(decide(false, false, || true));
        assert!(!decide(false, false, || false));
        assert!(Color::Always.decide());
        assert!(!Color::Never.decide());
    }
}
