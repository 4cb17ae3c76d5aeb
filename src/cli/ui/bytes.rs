//! Bytes as they are, for answers that are not text.

use std::io::{self, Write};

use super::Ui;

impl Ui {
    /// Write bytes to stdout unchanged. Only for data the user asked to have raw, and never to a
    /// terminal. A closed pipe is a quiet end, not an error.
    pub fn bytes(&self, bytes: &[u8]) {
        let mut o = io::stdout().lock();
        match o.write_all(bytes).and_then(|()| o.flush()) {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
                self.warn(&format!("could not write to stdout: {e}"));
            }
            _ => {}
        }
    }
}
