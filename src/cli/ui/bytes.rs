//! Bytes as they are, for answers that are not text.

use std::io::{self, Write};

use super::Ui;

impl Ui {
    /// Write bytes to stdout unchanged. Only for data the user asked to have raw, and never to a
    /// terminal, unless they were made printable. A closed pipe is a quiet end, not an error. Whether somebody
    /// still reads.
    pub fn bytes(&self, bytes: &[u8]) -> bool {
        let mut o = io::stdout().lock();
        match o.write_all(bytes).and_then(|()| o.flush()) {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
                self.warn(&format!("could not write to stdout: {e}"));
                false
            }
            done => done.is_ok(),
        }
    }
}
