//! The terminal: the only place that writes to stdout and stderr.
//!
//! stdout carries only the answer; everything else goes to stderr with the prefix `aj:`.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use super::error::CommandError;
use super::exit;
use crate::monitor::Monitor;

mod bytes;
pub(crate) mod color;
pub mod human;
pub mod progress;
pub mod table;

/// Whether an answer could not be written to stdout. A process has one stdout.
static STDOUT_FAILED: AtomicBool = AtomicBool::new(false);

/// Whether some answer was lost: the command has not done its work, whatever it returns.
pub(crate) fn stdout_failed() -> bool {
    STDOUT_FAILED.load(Ordering::Relaxed)
}

/// How long the reader of stderr is waited for, ms. A process has one stderr.
static PATIENCE_MS: AtomicU64 = AtomicU64::new(u64::MAX);

/// From now on, wait no longer than this for the reader of a message: the time is up, and that is a
/// promise about `aj`, too.
pub(crate) fn hurry(patience: Duration) {
    PATIENCE_MS.store(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// Text on stderr when no [`Ui`] is at hand: the report of a bug.
pub(crate) fn last_words(text: &str) {
    match PATIENCE_MS.load(Ordering::Relaxed) {
        // Nothing can be reported when stderr itself is gone.
        u64::MAX => drop(io::stderr().lock().write_all(text.as_bytes())),
        ms => crate::ops::exec::say_within(text, Duration::from_millis(ms)),
    }
}

/// How to talk to the user, decided once at start.
#[derive(Debug, Clone, Default)]
pub struct Ui {
    /// `--json` was given.
    pub json: bool,
    /// Times `-q` was given: 1 drops status lines, 2 drops warnings.
    pub quiet: u8,
    /// Times `-v` was given.
    pub verbose: u8,
    /// Whether messages on stderr are coloured.
    pub color: bool,
}

impl Ui {
    /// Whether stdout is a terminal.
    pub fn stdout_is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Whether stderr is a terminal.
    pub fn stderr_is_terminal(&self) -> bool {
        io::stderr().is_terminal()
    }

    /// Whether a question reaches somebody who can answer it.
    pub fn can_ask(&self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Write data to stdout. A closed pipe is a quiet end; any other failure is reported once and
    /// makes the command fail. Whether it was written.
    pub fn try_out(&self, text: &str) -> bool {
        let mut o = io::stdout().lock();
        let written = o.write_all(text.as_bytes()).and_then(|()| o.flush());
        drop(o);
        self.written(&written);
        written.is_ok()
    }

    /// As before, by who has no more to say.
    pub fn out(&self, text: &str) {
        self.try_out(text);
    }

    /// What a command said on stderr, said on ours: whether it was written.
    pub fn try_err(&self, text: &str) -> bool {
        io::stderr().lock().write_all(text.as_bytes()).is_ok()
    }

    /// What came of writing to stdout.
    fn written(&self, done: &io::Result<()>) {
        if let Err(e) = done
            && e.kind() != io::ErrorKind::BrokenPipe
            && !STDOUT_FAILED.swap(true, Ordering::Relaxed)
        {
            self.error(
                &CommandError::new(exit::FAILED, "stdout_failed", "could not write to stdout").caused_by(e),
            );
        }
    }

    /// A page of help on stdout, coloured on a terminal.
    pub fn help(&self, page: &clap::builder::StyledStr) {
        if self.color && self.stdout_is_terminal() {
            self.out(&page.ansi().to_string());
        } else {
            self.out(&page.to_string());
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

    /// One JSON document of many, one a line; whether somebody still reads.
    pub fn stream<T: Serialize + ?Sized>(&self, value: &T) -> bool {
        let Ok(text) = serde_json::to_string(value) else { return false };
        let mut o = io::stdout().lock();
        let written = writeln!(o, "{text}").and_then(|()| o.flush());
        drop(o);
        match written {
            Ok(()) => true,
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => false,
            // Said once, and the command has failed.
            Err(_) => {
                self.out(&text);
                false
            }
        }
    }

    /// A status line on stderr, dropped by `-q`. Under `--json` the answer says it.
    pub fn status(&self, text: &str) {
        if self.quiet == 0 && !self.json {
            self.stderr(&format!("aj: {text}\n"));
        }
    }

    /// A warning on stderr, in the form of `--json` when asked; dropped by `-qq`.
    pub fn warn(&self, text: &str) {
        if self.quiet >= 2 {
            return;
        }
        if self.json {
            self.stderr(&format!("{}\n", serde_json::json!({"warning": {"message": text}})));
        } else {
            self.stderr(&format!("aj: {}: {text}\n", self.paint(YELLOW, "warning")));
        }
    }

    /// What `-v` adds.
    pub fn info(&self, text: &str) {
        if self.verbose > 0 && !self.json {
            self.stderr(&format!("aj: {text}\n"));
        }
    }

    /// Text on stderr as it is: help that was not asked for.
    pub fn message(&self, text: &str) {
        self.stderr(text);
    }

    /// An error on stderr, in the form of `--json` when asked.
    pub fn error(&self, e: &CommandError) {
        if self.json {
            match serde_json::to_string(&Json { error: e }) {
                Ok(line) => self.stderr(&format!("{line}\n")),
                Err(e) => self.stderr(&format!("aj: error: could not encode an error: {e}\n")),
            }
            return;
        }
        let mut text = format!("aj: {}: {}\n", self.paint(RED, "error"), e.message);
        for cause in &e.causes {
            text.push_str(&format!("  caused by: {cause}\n"));
        }
        if !e.hints.is_empty() {
            text.push('\n');
        }
        for hint in &e.hints {
            text.push_str(&format!("{}: {hint}\n", self.paint(CYAN, "hint")));
        }
        self.stderr(&text);
    }

    fn paint(&self, color: &str, word: &str) -> String {
        if self.color { format!("\x1b[1;{color}m{word}\x1b[0m") } else { word.to_owned() }
    }

    fn stderr(&self, text: &str) {
        last_words(text);
    }
}

/// The form of an error under `--json`.
#[derive(Serialize)]
struct Json<'a> {
    error: &'a CommandError,
}

const RED: &str = "31";
const YELLOW: &str = "33";
const CYAN: &str = "36";

impl Monitor for Ui {
    fn warn(&self, text: &str) {
        Ui::warn(self, text);
    }
}
