//! A command as one line of text.

/// Arguments as one line that a shell would read back: for lists and for searching. Arguments that
/// hold no special characters stay bare. The caller makes them printable.
pub fn command_line(argv: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-+=:,./@%^".contains(c) || !c.is_ascii();
    let mut line = String::new();
    for arg in argv {
        if !line.is_empty() {
            line.push(' ');
        }
        if !arg.is_empty() && arg.chars().all(plain) {
            line.push_str(arg);
        } else {
            line.push('\'');
            line.push_str(&arg.replace('\'', "'\\''"));
            line.push('\'');
        }
    }
    line
}

/// A word in which what [`printable`](super::text::printable) writes as an escape is one, as bash and zsh read
/// it; `None` for text that has none.
pub fn escaped(printed: &str) -> Option<String> {
    let mut word = String::from("$'");
    let (mut rest, mut found) = (printed, false);
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        let hex = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
        match c {
            '\'' => word.push_str("\\'"),
            '\\' if rest.starts_with(['n', 'r', 't'])
                || rest.strip_prefix('x').and_then(|r| r.get(..2)).is_some_and(hex) =>
            {
                word.push('\\');
                found = true;
            }
            '\\' => match rest.strip_prefix("u{").and_then(|r| r.split_once('}')) {
                Some((digits, after)) if hex(digits) && digits.len() <= 4 => {
                    word.push_str(&format!("\\u{digits:0>4}"));
                    (rest, found) = (after, true);
                }
                _ => word.push_str("\\\\"),
            },
            c => word.push(c),
        }
    }
    word.push('\'');
    found.then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_printed_can_be_given_back() {
        assert_eq!(escaped("a b"), None);
        assert_eq!(escaped(r"a\b"), None);
        assert_eq!(escaped(r"e\x1b[2J").as_deref(), Some(r"$'e\x1b[2J'"));
        assert_eq!(escaped(r"it's\u{9b}\n\q").as_deref(), Some(r"$'it\'s\u009b\n\\q'"));
    }

    #[test]
    fn a_shell_would_read_it_back() {
        let line = |argv: &[&str]| command_line(&argv.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>());
        assert_eq!(line(&["npm", "install", "--prefix=/a"]), "npm install --prefix=/a");
        assert_eq!(line(&["sh", "-c", "echo $HOME; it's", ""]), r"sh -c 'echo $HOME; it'\''s' ''");
        assert_eq!(line(&["é", "*"]), "é '*'");
        assert_eq!(line(&[]), "");
    }
}
