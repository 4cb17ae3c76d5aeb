//! Text that may come from a jail, made safe to print on a terminal.

/// `bytes` as one line of printable text: control characters, ESC, DEL, C1 controls, bidirectional
/// overrides and bytes that are not UTF-8 are written as `\n`, `\x1b`, `\u{202e}` …
///
/// A file name or an output excerpt written by a jailed program must not be able to move the
/// cursor, set the title or the clipboard, or answer for the user (OSC 52, DECRQSS).
pub fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push(&mut out, c);
        }
        for b in chunk.invalid() {
            out.push_str(&format!("\\x{b:02x}"));
        }
    }
    out
}

/// As [`printable`], for the null-terminated strings of system calls.
pub fn c(text: &std::ffi::CStr) -> String {
    printable(text.to_bytes())
}

/// Like [`printable`], but line feeds and tabs stay, and the lines of a terminal (CR LF) are lines: for
/// output excerpts.
pub fn printable_lines(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let mut chars = chunk.valid().chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\n' | '\t' => out.push(c),
                '\r' if chars.peek() == Some(&'\n') => {}
                _ => push(&mut out, c),
            }
        }
        for b in chunk.invalid() {
            out.push_str(&format!("\\x{b:02x}"));
        }
    }
    out
}

fn push(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if (c as u32) < 0x20 || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", c as u32)),
        '\u{80}'..='\u{9f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' => {
            out.push_str(&format!("\\u{{{:x}}}", c as u32));
        }
        c => out.push(c),
    }
}

/// Printable text that a message can hold: what is long is shown by its start and its end, which of a
/// path is its name.
pub fn brief(text: &str) -> String {
    const MOST: usize = 240;
    const END: usize = 80;
    let length = text.chars().count();
    if length <= MOST {
        return text.to_owned();
    }
    let start: String = text.chars().take(MOST - END).collect();
    let end: String = text.chars().skip(length - END).collect();
    format!("{start}[… {} characters …]{end}", length - MOST)
}

/// [`printable`] for paths and arguments.
pub fn os(text: &(impl AsRef<std::ffi::OsStr> + ?Sized)) -> String {
    printable(std::os::unix::ffi::OsStrExt::as_bytes(text.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_odd_bytes_become_text() {
        assert_eq!(printable(b"plain \xc3\xa9"), "plain é");
        assert_eq!(printable(b"a\x1b]52;c;aGk=\x07b"), "a\\x1b]52;c;aGk=\\x07b");
        assert_eq!(printable(b"new\nline\ttab\r"), "new\\nline\\ttab\\r");
        assert_eq!(printable(b"\xff\xfe"), "\\xff\\xfe");
        assert_eq!(printable("\u{202e}gpj.exe\u{9b}31m".as_bytes()), "\\u{202e}gpj.exe\\u{9b}31m");
        assert_eq!(printable_lines(b"a\n\tb\x1b[31m"), "a\n\tb\\x1b[31m");
        assert_eq!(printable_lines(b"a\r\nb\rc\r"), "a\nb\\rc\\r");
    }

    #[test]
    fn a_long_name_is_shown_by_both_its_ends() {
        assert_eq!(brief(&"é".repeat(240)), "é".repeat(240));
        let shown = brief(&format!("/bin/{}.sh", "é".repeat(120_000)));
        assert!(shown.starts_with("/bin/éé") && shown.ends_with("éé.sh"), "{shown}");
        assert!(shown.contains("[… 119768 characters …]"), "{shown}");
    }
}
