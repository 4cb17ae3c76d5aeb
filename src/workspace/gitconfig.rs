//! What a git configuration file makes git run or read: `core.hooksPath` and the like. Pure.
//!
//! A plain reader of git's format, which follows no includes. What git would refuse is passed over:
//! then nothing runs, and naming a file too many does no harm.

/// What a setting names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Setting {
    /// The directory of the hooks.
    Hooks(Vec<u8>),
    /// A command, mostly for a shell.
    Command(Vec<u8>),
    /// A file that git takes further settings from.
    Include(Vec<u8>),
}

/// The settings of `text` that matter here, in order.
pub(super) fn settings(text: &[u8]) -> Vec<Setting> {
    let mut found = Vec::new();
    each_with_part(text, |section, part, key, value| {
        // The rest of an address that begins with what is written there.
        if section == "url" && key.ends_with("insteadof") && is_command_address(part) {
            found.push(Setting::Command(part.to_vec()));
        }
        found.extend(setting(section, key, value));
    });
    found
}

/// Whether git talks to what an address names by running a command (`ext::sh -c …`).
fn is_command_address(address: &[u8]) -> bool {
    address.starts_with(b"ext::")
}

/// Every setting with a value: its section, in lower case and without the subsection, its name and value.
fn each(text: &[u8], mut take: impl FnMut(&str, &str, Vec<u8>)) {
    each_with_part(text, |section, _, key, value| take(section, key, value));
}

/// The same with the subsection, as it is written.
fn each_with_part(text: &[u8], mut take: impl FnMut(&str, &[u8], &str, Vec<u8>)) {
    let mut reader = Reader { text: text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text), at: 0 };
    let (mut section, mut part) = (String::new(), Vec::new());
    while let Some(byte) = reader.peek() {
        match byte {
            b'#' | b';' => reader.skip_line(),
            b'[' => (section, part) = reader.section(),
            b if b.is_ascii_alphabetic() => {
                if let Some((key, value)) = reader.assignment() {
                    take(&section, &part, &key, value);
                }
            }
            _ => reader.at += 1,
        }
    }
}

/// The last value of `key` in `section` (both in lower case), outside of subsections or in one.
pub fn value(text: &[u8], section: &str, key: &str) -> Option<Vec<u8>> {
    let mut found = None;
    each(text, |s, k, value| {
        if (s, k) == (section, key) {
            found = Some(value);
        }
    });
    found
}

/// The files that git takes further settings from, whatever the condition.
pub fn included(text: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    each(text, |section, key, value| {
        if matches!(section, "include" | "includeif") && key == "path" {
            found.push(value);
        }
    });
    found
}

/// `section`: in lower case and without the subsection.
fn setting(section: &str, key: &str, value: Vec<u8>) -> Option<Setting> {
    let command = match section {
        "core" => match key {
            "hookspath" => return Some(Setting::Hooks(value)),
            "attributesfile" => return Some(Setting::Include(value)),
            _ => matches!(
                key,
                "fsmonitor"
                    | "sshcommand"
                    | "editor"
                    | "pager"
                    | "askpass"
                    | "gitproxy"
                    | "alternaterefscommand"
            ),
        },
        "include" | "includeif" if key == "path" => return Some(Setting::Include(value)),
        "pager" => true,
        "sequence" => key == "editor",
        "gpg" => matches!(key, "program" | "defaultkeycommand"),
        "diff" => matches!(key, "external" | "command" | "textconv"),
        "merge" => key == "driver",
        "mergetool" | "difftool" => matches!(key, "cmd" | "path"),
        "filter" => matches!(key, "clean" | "smudge" | "process"),
        "credential" => key == "helper",
        "interactive" => key == "difffilter",
        "remote" if matches!(key, "uploadpack" | "receivepack") => true,
        // Another name for a git command with arguments, unless it says that it is one for a shell.
        "alias" => value.trim_ascii_start().starts_with(b"!") || value.starts_with(b"-") || key == "command",
        "tar" => key == "command",
        "browser" | "man" => matches!(key, "cmd" | "path"),
        "guitool" => key == "cmd",
        "instaweb" => matches!(key, "httpd" | "browser"),
        "sendemail" => matches!(key, "smtpserver" | "sendmailcmd" | "tocmd" | "cccmd" | "headercmd"),
        "imap" => key == "tunnel",
        "lfs" => matches!(key, "path" | "clean" | "smudge"),
        "uploadpack" => key == "packobjectshook",
        "trailer" => matches!(key, "command" | "cmd"),
        "hook" => key == "command",
        "submodule" if key == "update" && value.first() == Some(&b'!') => true,
        _ => is_command_address(&value),
    };
    command.then_some(Setting::Command(value))
}

/// The words of a command that may be names of files, in the way of a shell as far as that goes.
/// What comes from a variable is taken for the top of the repository (`"$PWD"/tools/x`).
pub(super) fn words(command: &[u8]) -> Vec<Vec<u8>> {
    let command = command.strip_prefix(b"ext::").unwrap_or(command);
    let (mut words, mut word, mut quote) = (Vec::new(), Vec::new(), None);
    // Open parentheses of `$(…)`, which stays one word.
    let mut within = 0;
    let mut bytes = command.iter();
    while let Some(&byte) = bytes.next() {
        match (quote, byte) {
            (Some(q), b) if b == q => quote = None,
            (None, b'\'' | b'"') => quote = Some(byte),
            (None | Some(b'"'), b'\\') => word.extend(bytes.next()),
            (_, b'(') if within > 0 || word.ends_with(b"$") => {
                within += 1;
                word.push(b'(');
            }
            (_, b')') if within > 0 => {
                within -= 1;
                word.push(b')');
            }
            (None, b) if within == 0 && (b.is_ascii_whitespace() || b";&|()<>=!`,".contains(&b)) => {
                words.push(std::mem::take(&mut word));
            }
            (_, b) => word.push(b),
        }
    }
    words.push(word);
    for word in &mut words {
        if let Some(dollar) = word.iter().rposition(|b| *b == b'$') {
            let slash = word[dollar..].iter().position(|b| *b == b'/').map(|i| dollar + i + 1);
            word.drain(..slash.unwrap_or(word.len()));
        }
    }
    words.retain(|w| !w.is_empty() && !w.starts_with(b"-"));
    words
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// The next byte, a line end as `\n` whichever it is.
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        if byte == b'\r' && self.peek() == Some(b'\n') {
            self.at += 1;
            return Some(b'\n');
        }
        Some(byte)
    }

    fn skip_line(&mut self) {
        while self.next().is_some_and(|b| b != b'\n') {}
    }

    /// `[name]`, `[name "sub"]` or `[name.sub]`: the name, in lower case, and the part.
    fn section(&mut self) -> (String, Vec<u8>) {
        let (mut name, mut named, mut quoted) = (String::new(), false, false);
        let mut part = Vec::new();
        self.at += 1;
        while let Some(byte) = self.next() {
            match byte {
                b'\n' => break,
                b'\\' if quoted => part.extend(self.next()),
                b'"' => quoted = !quoted,
                b']' if !quoted => break,
                _ if quoted || named => part.push(byte),
                b'.' | b' ' | b'\t' => named = true,
                _ => name.push(char::from(byte.to_ascii_lowercase())),
            }
        }
        (name, part)
    }

    /// `key = value` from its first letter to the end of the line; `None` without a value.
    fn assignment(&mut self) -> Option<(String, Vec<u8>)> {
        let mut key = String::new();
        while let Some(byte) = self.peek().filter(|b| b.is_ascii_alphanumeric() || *b == b'-') {
            key.push(char::from(byte.to_ascii_lowercase()));
            self.at += 1;
        }
        while self.peek().is_some_and(|b| matches!(b, b' ' | b'\t')) {
            self.at += 1;
        }
        if self.peek() != Some(b'=') {
            self.skip_line();
            return None;
        }
        self.at += 1;
        let (mut value, mut quoted, mut keep) = (Vec::new(), false, 0);
        while let Some(byte) = self.next() {
            match byte {
                b'\n' => break,
                b'#' | b';' if !quoted => {
                    self.skip_line();
                    break;
                }
                b'"' => quoted = !quoted,
                b'\\' => match self.next() {
                    Some(b'\n') => continue,
                    Some(b'n') => value.push(b'\n'),
                    Some(b't') => value.push(b'\t'),
                    Some(b'b') => value.push(8),
                    Some(other) => value.push(other),
                    None => break,
                },
                // Blanks before the value do not count, nor do those at its end.
                b' ' | b'\t' if !quoted => {
                    if !value.is_empty() {
                        value.push(byte);
                    }
                    continue;
                }
                _ => value.push(byte),
            }
            keep = value.len();
        }
        value.truncate(keep);
        Some((key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> Vec<String> {
        settings(text.as_bytes())
            .into_iter()
            .map(|s| match s {
                Setting::Hooks(v) => format!("hooks {}", String::from_utf8_lossy(&v)),
                Setting::Command(v) => format!("command {}", String::from_utf8_lossy(&v)),
                Setting::Include(v) => format!("include {}", String::from_utf8_lossy(&v)),
            })
            .collect()
    }

    #[test]
    fn settings_are_found_however_they_are_written() {
        for text in [
            "[core]\n\thooksPath = tools/hooks\n",
            "[core]hookspath=tools/hooks",
            "\u{feff}[CORE]\r\n  HooksPath =   tools/hooks  \r\n",
            "[core] bare = false\n hooksPath = \"tools/hooks\" ; note\n",
            "[core]\nhooksPath = tools/\\\nhooks # note\n",
            "[core]\nhooksPath = tools\"/ho\"oks\n",
            "# [x]\n[user]\nname = \"[core]\"\n[core]\n; hooksPath = no\n  hooksPath = tools/hooks",
            "[broken\n[core]\n= nothing\nnovalue\nhooksPath = tools/hooks\n",
        ] {
            assert_eq!(shown(text), ["hooks tools/hooks"], "{text:?}");
        }
        assert_eq!(shown("[core]\nhooksPath\n[hookspath]\ncore = x\n[x \"core\"]\nhooksPath = y\n"), [""; 0]);
        assert_eq!(
            shown(
                "[core]\n fsmonitor = tools/w.sh\n sshCommand = 'a b' -x\n[include]\n path = ../shared\n\
                 [includeIf \"gitdir:~/x]\"]\n path = ../more\n[filter \"lfs\"]\n clean = tools/clean %f\n\
                 [diff.image]\n textconv = tools/exif\n[submodule \"s\"]\n update = rebase\n update = !x\n"
            ),
            [
                "command tools/w.sh",
                "command 'a b' -x",
                "include ../shared",
                "include ../more",
                "command tools/clean %f",
                "command tools/exif",
                "command !x"
            ]
        );
    }

    #[test]
    fn every_setting_with_a_command_is_known() {
        for (text, command) in [
            ("[alias]\n st = !./scripts/st.sh\n co = checkout ./x\n", "!./scripts/st.sh"),
            ("[alias]\n st = -c core.pager=./p log\n", "-c core.pager=./p log"),
            ("[alias \"st\"]\n command = ./st.sh\n", "./st.sh"),
            ("[tar \"foo\"]\n command = ./tar.sh\n", "./tar.sh"),
            ("[browser \"w\"]\n cmd = ./b.sh\n", "./b.sh"),
            ("[man \"w\"]\n path = ./m.sh\n", "./m.sh"),
            ("[guitool \"t\"]\n cmd = ./g.sh\n", "./g.sh"),
            ("[instaweb]\n httpd = ./h.sh\n port = 1\n", "./h.sh"),
            ("[sendemail \"x\"]\n smtpServer = /w/s.sh\n to = a@b\n", "/w/s.sh"),
            ("[sendemail]\n sendmailCmd = ./s.sh\n", "./s.sh"),
            ("[sendemail]\n headerCmd = ./s.sh\n", "./s.sh"),
            ("[imap]\n tunnel = ./t.sh\n", "./t.sh"),
            ("[lfs \"customtransfer.x\"]\n path = ./l.sh\n url = https://x/y\n", "./l.sh"),
            (
                "[remote \"o\"]\n url = ext::./tools/ext %S\n fetch = +refs/*:refs/x/*\n",
                "ext::./tools/ext %S",
            ),
            ("[remote \"o\"]\n pushUrl = ext::./e\n url = https://x/y\n", "ext::./e"),
            ("[branch \"m\"]\n remote = ext::./e\n merge = refs/heads/m\n", "ext::./e"),
            ("[submodule \"s\"]\n url = ext::./e\n update = rebase\n", "ext::./e"),
            ("[url \"ext::./tools/\\\"e\\\" \"]\n insteadOf = me:\n", "ext::./tools/\"e\" "),
            (
                "[url \"ext::./e \"]\n pushInsteadOf = me:\n[url \"https://x/\"]\n insteadOf = y:\n",
                "ext::./e ",
            ),
        ] {
            assert_eq!(shown(text), [format!("command {command}")], "{text}");
        }
    }

    #[test]
    fn words_of_a_command_are_those_of_a_shell() {
        let get = |c: &str| -> Vec<String> {
            words(c.as_bytes()).into_iter().map(|w| String::from_utf8(w).unwrap()).collect()
        };
        assert_eq!(get("tools/x"), ["tools/x"]);
        assert_eq!(
            get("!f() { A=b python3 'a b/c.py' -v; }; f"),
            ["f", "{", "A", "b", "python3", "a b/c.py", "}", "f"]
        );
        assert_eq!(get("\"$PWD/tools/x\" \"$(git rev-parse --show-toplevel)\"/y ${A}"), ["tools/x", "y"]);
        assert_eq!(get("$(cd a; pwd)/y $(x/y) z"), ["y", "y)", "z"]);
        assert_eq!(get("ext::./tools/ext %S"), ["./tools/ext", "%S"]);
        assert_eq!(get("ssh --config=tools/c a\\ b"), ["ssh", "tools/c", "a b"]);
        assert_eq!(get(""), [""; 0]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_the_end(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            settings(&text);
            words(&text);
        }

        #[test]
        fn text_like_a_configuration_is_read_to_the_end(text in "(\\[|\\]|core|hooksPath|=|\"|\\\\|\n|\r|#| ){0,40}") {
            settings(text.as_bytes());
        }
    }
}
