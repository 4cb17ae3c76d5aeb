//! The terminal: the only place that writes to stdout and stderr.
//!
//! stdout carries only the answer; everything else goes to stderr with the prefix `aj:`.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::error::CommandError;
use crate::monitor::Monitor;

mod bytes;
pub mod table;

/// How to talk to the user, decided once at start.
#[derive(Debug, Clone)]
pub struct Ui {
    /// `--json` was given.
    pub json: bool,
    /// Times `-q` was given: 1 drops status lines, 2 drops warnings.
    pub quiet: u8,
    /// Times `-v` was given.
    pub verbose: u8,
}

impl Ui {
    /// Whether stdout is a terminal.
    pub fn stdout_is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Write data to stdout. A closed pipe is a quiet end, not an error.
    pub fn out(&self, text: &str) {
        let mut o = io::stdout().lock();
        if let Err(e) = o.write_all(text.as_bytes()).and_then(|()| o.flush()) {
            if e.kind() != io::ErrorKind::BrokenPipe {
                self.warn(&format!("could not write to stdout: {e}"));
            }
        }
    }

    /// One line of data.
    pub fn line(&self, text: &str) {
        self.out(&format!("{text}\n"));
    }

    /// One JSON document: pretty on a terminal, compact otherwise.
    pub fn document<T: Serialize + ?Sized>(&self, value: &T) {
        let text = if self.stdout_is_terminal() {
            serde_json::to_string_pretty(value)
        } else {
            serde_json::to_string(value)
        };
        match text {
            Ok(text) => self.line(&text),
            Err(e) => self.warn(&format!("could not encode the answer: {e}")),
        }
    }

    /// A status line on stderr, dropped by `-q`.
    pub fn status(&self, text: &str) {
        if self.quiet == 0 {
            self.stderr(&format!("aj: {text}\n"));
        }
    }

    /// A warning on stderr, dropped by `-qq`.
    pub fn warn(&self, text: &str) {
        if self.quiet < 2 {
            self.stderr(&format!("aj: warning: {text}\n"));
        }
    }

    /// An error on stderr, in the form of `--json` when asked.
    pub fn error(&self, e: &CommandError) {
        if self.json {
            let v = serde_json::json!({"error": {"code": e.code, "message": e.message, "causes": e.causes, "hints": e.hints}});
            self.stderr(&format!("{v}\n"));
            return;
        }
        let mut text = format!("aj: error: {}\n", e.message);
        for cause in &e.causes {
            text.push_str(&format!("  caused by: {cause}\n"));
        }
        if !e.hints.is_empty() {
            text.push('\n');
        }
        for hint in &e.hints {
            text.push_str(&format!("hint: {hint}\n"));
        }
        self.stderr(&text);
    }

    fn stderr(&self, text: &str) {
        // Nothing can be reported when stderr itself is gone.
        drop(io::stderr().lock().write_all(text.as_bytes()));
    }
}

impl Monitor for Ui {
    fn warn(&self, text: &str) {
        Ui::warn(self, text);
    }
}
