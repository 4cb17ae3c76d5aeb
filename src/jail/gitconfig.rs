//! The jail's system-wide git configuration: what makes a repository of the host work inside as it
//! does outside, and the caller's identity, so that `git commit` knows who commits.
//!
//! The caller's own files are not shown: they name credential helpers, tokens in URLs, signing
//! keys, programs to run. A few keys are copied out of them. git itself is never run on the host.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::base::env;

/// What every jail gets, weaker than anything a repository or the jail's home says.
///
/// The index of the host's repository records the owner and inode of every file. Inside both are
/// others, so git would read every file of the tree again in every new jail; `checkStat` leaves
/// size and times to tell. `safe.directory` protects a user from another user's repository, and
/// here is one user and nothing of theirs to lose.
const FIXED: &str = "[core]\n\tcheckStat = minimal\n[safe]\n\tdirectory = *\n";
/// Where a git that was not installed by the distribution keeps its own.
const LOCAL: &str = "[include]\n\tpath = /usr/local/etc/gitconfig\n";

/// Keys that are copied: they say who commits and what a commit holds, and name no program, file
/// or address.
const COPIED: [&str; 9] = [
    "user.name",
    "user.email",
    "init.defaultbranch",
    "core.autocrlf",
    "core.eol",
    "core.safecrlf",
    "core.quotepath",
    "merge.conflictstyle",
    "pull.rebase",
];

/// Bytes of one file, files in all, and lines of one file at most.
const MAX_FILE: u64 = 256 << 10;
const MAX_FILES: usize = 16;

/// The text for `/etc/gitconfig`, from the caller's configuration as it is now.
pub(super) fn text() -> String {
    let home = env::HOME.absolute_path();
    let xdg = env::XDG_CONFIG_HOME.absolute_path().or_else(|| Some(home.as_ref()?.join(".config")));
    let files = [xdg.map(|x| x.join("git/config")), home.as_ref().map(|h| h.join(".gitconfig"))];
    text_from(home.as_deref(), files.into_iter().flatten())
}

fn text_from(home: Option<&Path>, files: impl Iterator<Item = PathBuf>) -> String {
    let mut settings = Vec::new();
    let mut left = MAX_FILES;
    for file in files {
        collect(&file, home, &mut settings, &mut left);
    }
    let mut text = format!("{FIXED}{LOCAL}");
    for (key, value) in settings {
        if let Some((section, name)) = key.split_once('.') {
            text.push_str(&format!("[{section}]\n\t{name} = {}\n", quoted(&value)));
        }
    }
    text
}

/// Add the settings of `file` in their order; the last one of a key wins, as in git.
fn collect(file: &Path, home: Option<&Path>, into: &mut Vec<(String, String)>, left: &mut usize) {
    if *left == 0 {
        return;
    }
    *left -= 1;
    let Some(text) = read(file) else { return };
    for (key, value) in parse(&text) {
        if key == "include.path" {
            let path = match (value.strip_prefix("~/"), home) {
                (Some(rest), Some(home)) => home.join(rest),
                _ => file.parent().unwrap_or(Path::new("/")).join(&value),
            };
            collect(&path, home, into, left);
        } else if COPIED.contains(&key.as_str()) {
            into.retain(|(k, _)| *k != key);
            into.push((key, value));
        }
    }
}

/// A plain file of reasonable size; a pipe in its place must not hold up a start.
fn read(file: &Path) -> Option<String> {
    let file =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(file).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    String::from_utf8(bytes).ok()
}

/// `section.name` (lower case) and value of every setting outside subsections. What cannot be
/// understood is left out: git complains about it where the user works.
fn parse(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut section: Option<String> = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut line = line.trim_start();
        if let Some(rest) = line.strip_prefix('[') {
            let Some((name, after)) = rest.split_once(']') else { continue };
            let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            section = plain.then(|| name.to_ascii_lowercase());
            line = after.trim_start();
        }
        let Some((name, mut rest)) = line.split_once('=') else { continue };
        let name = name.trim_end().to_ascii_lowercase();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            continue;
        }
        let mut value = Value::default();
        while value.line(rest) {
            let Some(next) = lines.next() else { break };
            rest = next;
        }
        if let (Some(section), Some(value)) = (&section, value.finish()) {
            found.push((format!("{section}.{name}"), value));
        }
    }
    found
}

/// A value as git reads it: quotes, escapes, comments, continued lines.
#[derive(Default)]
struct Value {
    text: String,
    /// Length without the blanks at the end.
    kept: usize,
    quoted: bool,
    bad: bool,
}

impl Value {
    /// Take one line. `true`: the value goes on in the next one.
    fn line(&mut self, line: &str) -> bool {
        let mut chars = line.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => self.quoted = !self.quoted,
                '#' | ';' if !self.quoted => return false,
                '\\' => match chars.next() {
                    None => return true,
                    Some('n') => self.push('\n', true),
                    Some('t') => self.push('\t', true),
                    Some(c @ ('"' | '\\')) => self.push(c, true),
                    Some(_) => self.bad = true,
                },
                c if c.is_ascii_whitespace() => self.push(c, self.quoted),
                c => self.push(c, true),
            }
        }
        false
    }

    fn push(&mut self, c: char, keep: bool) {
        if keep || !self.text.is_empty() {
            self.text.push(c);
        }
        if keep {
            self.kept = self.text.len();
        }
    }

    fn finish(mut self) -> Option<String> {
        self.text.truncate(self.kept);
        (!self.bad && !self.quoted && !self.text.contains('\0')).then_some(self.text)
    }
}

fn quoted(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text)
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn values_are_read_as_git_reads_them() {
        let text = "# comment\n[User]\n  Name = Ann  Lee ; who\n\temail=\"a;b\" \\\n  tail\n[user \"sub\"]\nname = other\n\
                    [core] autocrlf = input\n[x\nbroken\nflag\n[merge]\n = 1\nconflictStyle = \"a\\tb\\\\\"\nbad = \\q\nopen = \"x\n";
        assert_eq!(
            pairs(text),
            [
                pair("user.name", "Ann  Lee"),
                pair("user.email", "a;b   tail"),
                pair("core.autocrlf", "input"),
                pair("merge.conflictstyle", "a\tb\\"),
            ]
        );
    }

    #[test]
    fn only_harmless_keys_come_along_and_includes_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write(
            "main",
            "[user]\nname=first\nsigningkey=SECRET\n[credential]\nhelper=SECRET\n[include]\npath=~/more\npath=main\n[core]\npager=SECRET\n[url \"https://SECRET@x\"]\ninsteadOf=y\n",
        );
        write("more", "[user]\nname = \"O\\\"Neil [x]\"\nemail = e@x\n");
        let text = text_from(Some(dir.path()), std::iter::once(dir.path().join("main")));
        assert!(!text.contains("SECRET"), "{text}");
        assert!(text.starts_with(FIXED));
        // `main` includes itself: bounded, and what it says last wins.
        assert!(text.contains("[user]\n\temail = \"e@x\"\n"), "{text}");
        assert!(parse(&text).contains(&pair("user.name", "O\"Neil [x]")), "{text}");
    }

    #[test]
    fn nothing_there_is_nothing_added() {
        let dir = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&dir.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let files = ["pipe", "gone", "."].map(|n| dir.path().join(n));
        assert_eq!(text_from(None, files.into_iter()), format!("{FIXED}{LOCAL}"));
    }
}
