//! Bytes as they are, for answers that are not text.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Take, Write};
use std::os::fd::AsFd;

use super::Ui;
use crate::base::text;

/// Bytes that are copied at once.
const BLOCK: usize = 256 << 10;
/// Bytes of one line that are escaped together.
const LINE: u64 = 64 << 10;

impl Ui {
    /// Write bytes to stdout unchanged. Only for data the user asked to have raw, and never to a
    /// terminal, unless they were made printable. As with [`Ui::out`] a closed pipe is a quiet end, and any other
    /// failure makes the command fail. Whether somebody still reads.
    pub fn bytes(&self, bytes: &[u8]) -> bool {
        let mut o = io::stdout().lock();
        let done = o.write_all(bytes).and_then(|()| o.flush());
        drop(o);
        self.written(&done);
        done.is_ok()
    }

    /// Stdout as a file, for a command that writes much to it and nothing else.
    pub fn raw_out(&self) -> io::Result<File> {
        io::stdout().as_fd().try_clone_to_owned().map(File::from)
    }

    /// Write what is in an open file to stdout unchanged.
    pub fn pour(&self, mut from: Take<File>) {
        let copy = |mut to: File| {
            // `io::copy` has the kernel move pages into a pipe, which takes twice as long.
            let mut block = vec![0; BLOCK];
            loop {
                match from.read(&mut block) {
                    Ok(0) => return Ok(()),
                    Ok(n) => to.write_all(block.get(..n).unwrap_or_default())?,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
        };
        self.end(self.raw_out().and_then(copy));
    }

    /// The same for a terminal, which what is in the file must not control.
    pub fn escaped(&self, from: Take<File>) {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut from).take(LINE).read_until(b'\n', &mut line) {
                Ok(0) => return,
                Ok(_) if super::stdout_failed() => return,
                Ok(_) => self.out(&text::printable_lines(&line)),
                Err(e) => return self.end(Err(e)),
            }
        }
    }

    fn end(&self, done: io::Result<()>) {
        match done {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
                super::STDOUT_FAILED.store(true, std::sync::atomic::Ordering::Relaxed);
                self.warn(&format!("could not write to stdout: {e}"));
            }
            _ => {}
        }
    }
}
