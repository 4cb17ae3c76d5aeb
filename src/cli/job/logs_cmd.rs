//! `aj job logs`: the log for eyes, for pipes, and as JSON.

use super::{LogsArgs, One, logs};
use crate::base::{clock, text};
use crate::cli::error::CmdResult;
use crate::cli::exit::{self, Exit};
use crate::cli::ui::Ui;
use crate::ops::jobs::logs::{Entry, Listener, Stream, Which};
use crate::ops::jobs::{Found, find};
use crate::schema::changes::FORMAT;
use crate::schema::job::Line;

pub(super) fn logs(ui: &Ui, args: &LogsArgs) -> CmdResult {
    let mut found = find(&args.job)?;
    let which = Which {
        since: args.since,
        stream: args.stream.map(|one| match one {
            One::Out => Stream::Out,
            One::Err => Stream::Err,
        }),
        tail: args.tail,
    };
    if ui.json && !args.follow {
        ui.document(&logs::output(&mut found, &which)?);
        say_lost(ui, &found);
        return Ok(Exit(exit::OK));
    }
    if ui.json {
        let mut lines = Lines(ui);
        if lines.0.stream(&Line::Version { format_version: FORMAT }) {
            let (status, exit_code) = logs::read(&mut found, &which, true, &mut lines)?;
            ui.stream(&Line::Ended { status, exit_code });
            say_lost(ui, &found);
        }
        return Ok(Exit(exit::OK));
    }
    let printer =
        Printer { safe: ui.stdout_is_terminal(), timestamps: args.timestamps, ..Printer::default() };
    let mut aloud = Aloud { ui, printer };
    let (status, code) = logs::read(&mut found, &which, args.follow, &mut aloud)?;
    aloud.end();
    say_lost(ui, &found);
    // Who follows may have gone before it.
    if args.follow && !status.is_running() {
        let code = code.map(|code| format!(", exit code {code}")).unwrap_or_default();
        ui.status(&format!("job {} has ended: {}{code}", found.name(), status.as_str()));
    }
    Ok(Exit(exit::OK))
}

/// What no line of the log can tell where the disk was full to the end.
fn say_lost(ui: &Ui, found: &Found) {
    let lost = found.filed.record.log_lost;
    if lost > 0 {
        ui.warn(&format!("in all {lost} bytes of what the job wrote were not kept: the disk was full"));
    }
}

struct Lines<'a>(&'a Ui);

impl Listener for Lines<'_> {
    fn entry(&mut self, entry: &Entry) -> bool {
        self.0.stream(&logs::line(entry))
    }

    fn missing(&mut self, gone: u64, damaged: u64) {
        self.0.warn(&missing(gone, damaged));
    }
}

fn missing(gone: u64, damaged: u64) -> String {
    match (gone, damaged) {
        (gone, 0) => format!("{gone} bytes of the log are gone: it keeps the last of what was written"),
        (0, damaged) => format!("{damaged} bytes of the log are damaged and left out"),
        (gone, damaged) => format!("{gone} bytes of the log are gone, and {damaged} are damaged"),
    }
}

struct Aloud<'a> {
    ui: &'a Ui,
    printer: Printer,
}

impl Aloud<'_> {
    fn end(&mut self) {
        let mut rest = Vec::new();
        self.printer.end(&mut rest);
        self.ui.bytes(&rest);
    }
}

impl Listener for Aloud<'_> {
    fn entry(&mut self, entry: &Entry) -> bool {
        if entry.stream == Stream::System {
            self.end();
            self.ui.status(&text::printable(entry.bytes.trim_ascii_end()));
            return true;
        }
        let mut out = Vec::with_capacity(entry.bytes.len() + 64);
        self.printer.print(entry, &mut out);
        self.ui.bytes(&out)
    }

    fn missing(&mut self, gone: u64, damaged: u64) {
        self.ui.warn(&missing(gone, damaged));
    }
}

/// Makes records what is printed.
#[derive(Default)]
struct Printer {
    /// For a terminal: escape sequences are text.
    safe: bool,
    timestamps: bool,
    /// Whose line has begun and not ended.
    open: Option<Stream>,
    /// A carriage return that may belong to a line feed.
    held: bool,
}

impl Printer {
    fn print(&mut self, entry: &Entry, out: &mut Vec<u8>) {
        if !self.safe && !self.timestamps {
            // Bytes as they were.
            out.extend_from_slice(&entry.bytes);
            return;
        }
        // Two that write at once would write into one another's lines.
        if self.open.is_some_and(|other| other != entry.stream) && (self.timestamps || self.safe) {
            self.end(out);
        }
        for line in entry.bytes.split_inclusive(|b| *b == b'\n') {
            if self.timestamps && self.open.is_none() {
                out.extend_from_slice(clock::rfc3339(entry.time_ms).as_bytes());
                out.extend_from_slice(if entry.stream == Stream::Err { b" err " } else { b" out " });
            }
            self.open = (line.last() != Some(&b'\n')).then_some(entry.stream);
            if !self.safe {
                out.extend_from_slice(line);
                continue;
            }
            let held = if std::mem::take(&mut self.held) { &b"\r"[..] } else { b"" };
            let whole = [held, line].concat();
            let now = match whole.strip_suffix(b"\r") {
                Some(rest) => {
                    self.held = true;
                    rest
                }
                None => &whole,
            };
            out.extend_from_slice(text::printable_lines(now).as_bytes());
        }
    }

    /// End a line that has begun.
    fn end(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.held) {
            out.extend_from_slice(b"\\r");
        }
        if self.open.take().is_some() {
            out.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(safe: bool, timestamps: bool, records: &[(Stream, &[u8])]) -> String {
        let mut printer = Printer { safe, timestamps, ..Printer::default() };
        let mut out = Vec::new();
        for (stream, bytes) in records {
            printer.print(&Entry { end: 0, time_ms: 0, stream: *stream, bytes: bytes.to_vec() }, &mut out);
        }
        printer.end(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn a_terminal_sees_text_and_a_pipe_sees_bytes() {
        let evil: &[(Stream, &[u8])] =
            &[(Stream::Out, b"a\x1b]52;c;aGk=\x07\r"), (Stream::Out, b"\nb\xff\rc\n")];
        assert_eq!(printed(true, false, evil), "a\\x1b]52;c;aGk=\\x07\nb\\xff\\rc\n");
        let mut out = Vec::new();
        let mut printer = Printer::default();
        printer
            .print(&Entry { end: 0, time_ms: 0, stream: Stream::Out, bytes: evil[0].1.to_vec() }, &mut out);
        assert_eq!(out, evil[0].1);
    }

    #[test]
    fn each_line_has_its_time_and_its_stream() {
        use Stream::{Err, Out};
        let text = printed(false, true, &[(Out, b"a\nb"), (Out, b"c\n"), (Out, b"d"), (Err, b"e\n")]);
        let t = "1970-01-01T00:00:00.000Z";
        assert_eq!(text, format!("{t} out a\n{t} out bc\n{t} out d\n{t} err e\n"));
    }
}
