//! The jail's system-wide git configuration: what makes a repository of the host work inside as it
//! does outside, and the caller's identity, so that `git commit` knows who commits.
//!
//! The caller's own files are not shown: they name credential helpers, tokens in URLs, signing
//! keys, programs to run. Harmless settings are copied out of them. git itself is never run on the host.
//!
//! Includes are resolved here, but for those with a condition (`includeIf`): these become includes, with
//! the same condition, of further files of the jail, and git decides inside, where the repository has the
//! same path as outside. So one `/etc` serves every project.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::gitkeys::is_copied;
use crate::base::{env, text};

/// What every jail gets, weaker than anything a repository or the jail's home says.
///
/// The index of the host's repository records the owner and inode of every file. Inside both are
/// others, so git would read every file of the tree again in every new jail; `checkStat` leaves
/// size and times to tell. `safe.directory` protects a user from another user's repository, and
/// here is one user and nothing of theirs to lose. Other worktrees of a repository are not seen inside,
/// and `gc` would take what it knows of them for left over.
const FIXED: &str =
    "[core]\n\tcheckStat = minimal\n[safe]\n\tdirectory = *\n[gc]\n\tworktreePruneExpire = never\n";
/// Where a git that was not installed by the distribution keeps its own.
const LOCAL: &str = "[include]\n\tpath = /usr/local/etc/gitconfig\n";

/// Bytes of one file, and files in all, that are read at most, and bytes of what comes of them.
const MAX_FILE: u64 = 256 << 10;
const MAX_FILES: usize = 16;
const MAX_TEXT: usize = 64 << 10;
/// Settings of one file and what it includes.
const MAX_ITEMS: usize = 1_000;

/// Conditions of `includeIf` that git can judge inside. The first two are about paths.
const CONDITIONS: [&str; 4] = ["gitdir:", "gitdir/i:", "onbranch:", "hasconfig:remote.*.url:"];

/// Where the host's git has its own.
const SYSTEM: &str = "/etc/gitconfig";

/// What comes of the caller's configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    /// The texts of `/etc/gitconfig` and of what it includes.
    pub(super) texts: Vec<String>,
    /// The filters (`filter.NAME.clean` and the like) that it has, and that the jail does not have from it.
    pub(super) filters: Vec<String>,
}

/// The caller's configuration as it is now. A line for each file of it that was not read goes to `warnings`.
pub(super) fn own(warnings: &mut Vec<String>) -> Own {
    let home = env::HOME.absolute_path();
    // Two files may be in it, and mostly it is not there.
    let xdg = env::config_home().map(|x| x.join("git")).filter(|dir| dir.is_dir());
    let global = env::caller(env::GIT_CONFIG_GLOBAL.name);
    let files = match global {
        Some(named) => [instead(named, env::GIT_CONFIG_GLOBAL, warnings), None],
        None => [xdg.as_ref().map(|x| x.join("config")), home.as_ref().map(|h| h.join(".gitconfig"))],
    };
    let named = env::caller(env::GIT_CONFIG_SYSTEM.name);
    let none = env::caller(env::GIT_CONFIG_NOSYSTEM.name).is_some_and(|value| is_true(&value));
    let usual = named.is_none() && !none;
    let system = match named.filter(|_| !none) {
        Some(named) => instead(named, env::GIT_CONFIG_SYSTEM, warnings),
        None => usual.then(|| PathBuf::from(SYSTEM)),
    };
    let files = system.into_iter().chain(files.into_iter().flatten());
    let mut own = own_from(home.as_deref(), files, xdg.map(|x| x.join("ignore")), warnings);
    if let (false, Some(text)) = (usual, own.texts.first_mut()) {
        *text = text.replacen(LOCAL, "", 1);
    }
    own
}

/// As git reads a variable that is a boolean; what it would complain about counts for nothing.
fn is_true(value: &OsStr) -> bool {
    let value = value.to_string_lossy().to_ascii_lowercase();
    matches!(value.as_str(), "true" | "yes" | "on") || value.parse::<i64>().is_ok_and(|n| n != 0)
}

/// The file that the caller's git reads instead of the usual ones; an empty name is none. A relative one is
/// another file in each directory, and may be one of the tree that nobody trusts.
fn instead(named: OsString, var: env::Var, warnings: &mut Vec<String>) -> Option<PathBuf> {
    let file = PathBuf::from(named);
    if file.as_os_str().is_empty() || file.is_absolute() {
        return Some(file).filter(|file| file.is_absolute());
    }
    let (name, file) = (var.name, text::os(&file));
    warnings.push(format!("`{file}` of your git configuration is not read: {name} is no absolute path"));
    None
}

/// The name in `/etc` of the `n`th of the texts.
pub(super) fn name(n: usize) -> String {
    if n == 0 { "gitconfig".to_owned() } else { format!("gitconfig-{n}") }
}

/// What a file says, in its order.
enum Item {
    Setting(String, String),
    /// A condition, and what holds then.
    If(String, Vec<Item>),
}

fn own_from(
    home: Option<&Path>,
    files: impl Iterator<Item = PathBuf>,
    ignored: Option<PathBuf>,
    warnings: &mut Vec<String>,
) -> Own {
    let mut items = Vec::new();
    let mut reader =
        Reader { home, left: MAX_FILES, depth: 0, ignored, refused: Vec::new(), filters: Vec::new() };
    for file in files {
        reader.collect(&file, &mut items);
    }
    let ignored = reader.ignored();
    warnings.append(&mut reader.refused);
    let mut texts = vec![format!("{FIXED}{LOCAL}")];
    write(&items, 0, &mut texts);
    if let Some(ignored) = ignored {
        let setting = format!("[core]\n\texcludesFile = /etc/{}\n", name(texts.len()));
        texts[0].push_str(&setting);
        texts.push(ignored);
    }
    Own { texts, filters: reader.filters }
}

/// Append `items` to the text `at`; what has a condition becomes a text of its own.
fn write(items: &[Item], at: usize, texts: &mut Vec<String>) {
    for item in items {
        let line = match item {
            Item::Setting(key, value) => {
                let (Some((section, rest)), value) = (key.split_once('.'), quoted(value)) else { continue };
                match rest.rsplit_once('.') {
                    Some((sub, name)) => format!("[{section} {}]\n\t{name} = {value}\n", quoted(sub)),
                    None => format!("[{section}]\n\t{rest} = {value}\n"),
                }
            }
            Item::If(condition, items) => {
                let n = texts.len();
                texts.push(String::new());
                write(items, n, texts);
                format!("[includeIf {}]\n\tpath = /etc/{}\n", quoted(condition), name(n))
            }
        };
        if texts.iter().map(String::len).sum::<usize>() + line.len() <= MAX_TEXT
            && let Some(text) = texts.get_mut(at)
        {
            text.push_str(&line);
        }
    }
}

struct Reader<'a> {
    home: Option<&'a Path>,
    /// Files that may still be read.
    left: usize,
    /// Files that include the one that is read.
    depth: usize,
    /// The file with the patterns of what git ignores everywhere.
    ignored: Option<PathBuf>,
    /// What was not read, a line each.
    refused: Vec<String>,
    /// Names of filters.
    filters: Vec<String>,
}

impl Reader<'_> {
    /// Add what `file` says in its order; the last setting of a key wins, as in git.
    fn collect(&mut self, file: &Path, into: &mut Vec<Item>) {
        let text = match read(file) {
            Ok(Some(_)) if self.left == 0 => return self.refuse(file, "too many files are included"),
            Ok(Some(text)) => text,
            Ok(None) => return,
            Err(why) => return self.refuse(file, why),
        };
        self.left -= 1;
        self.depth += 1;
        let (beside, home) = (file.parent().unwrap_or(Path::new("/")), self.home);
        let path = |value: &str| match (value.strip_prefix("~/"), home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => beside.join(value),
        };
        for (key, value) in parse(&text) {
            if key == "include.path" {
                self.collect(&path(&value), into);
            } else if let Some(condition) =
                key.strip_prefix("includeif.").and_then(|k| k.strip_suffix(".path"))
            {
                if let Some(condition) = inside(condition, beside, home) {
                    let mut items = Vec::new();
                    self.collect(&path(&value), &mut items);
                    if !items.is_empty() {
                        into.push(Item::If(condition, items));
                    }
                }
            } else if is_copied(&key)
                && !value.contains(char::REPLACEMENT_CHARACTER)
                && into.len() < MAX_ITEMS
            {
                into.retain(|item| !matches!(item, Item::Setting(k, _) if *k == key));
                into.push(Item::Setting(key, value));
            } else if key == "core.excludesfile" && self.depth == 1 {
                // Not of an included file: it may be a project's, and name any file of the caller's.
                self.ignored = (!value.is_empty()).then(|| path(&value));
            } else if let Some(name) = filter(&key)
                && self.filters.len() < MAX_ITEMS
                && !self.filters.iter().any(|known| known == name)
            {
                self.filters.push(name.to_owned());
            }
        }
        self.depth -= 1;
    }

    /// The patterns of what the caller ignores in every repository.
    fn ignored(&mut self) -> Option<String> {
        let file = self.ignored.take()?;
        match read(&file) {
            Ok(text) => text.filter(|text| !text.trim().is_empty()),
            Err(why) => {
                self.refuse(&file, why);
                None
            }
        }
    }

    fn refuse(&mut self, file: &Path, why: &str) {
        let line = format!("`{}` of your git configuration is not read: {why}", text::os(file));
        if !self.refused.contains(&line) {
            self.refused.push(line);
        }
    }
}

/// The name of the filter that a setting gives a program.
fn filter(key: &str) -> Option<&str> {
    let (name, setting) = key.strip_prefix("filter.")?.rsplit_once('.')?;
    matches!(setting, "clean" | "process").then_some(name)
}

/// A condition as it must be written inside, where home is another directory and so is the file's.
fn inside(condition: &str, beside: &Path, home: Option<&Path>) -> Option<String> {
    let start = CONDITIONS.iter().find(|start| condition.starts_with(**start))?;
    let pattern = &condition[start.len()..];
    if pattern.chars().any(char::is_control) {
        return None;
    }
    let real = |dir: &Path| Some(std::fs::canonicalize(dir).ok()?.to_str()?.to_owned());
    let pattern = match (start.starts_with("gitdir"), pattern.strip_prefix("~/"), pattern.strip_prefix("./"))
    {
        (true, Some(rest), _) => format!("{}/{rest}", real(home?)?),
        (true, None, Some(rest)) => format!("{}/{rest}", real(beside)?),
        _ => pattern.to_owned(),
    };
    Some(format!("{start}{pattern}"))
}

/// The text of a plain file of reasonable size, `None` where there is none, or why it is not read. A pipe
/// in its place must not hold up a start. What is not UTF-8 in it reads as U+FFFD.
pub(super) fn read(file: &Path) -> Result<Option<String>, &'static str> {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(file);
    let Ok(file) = opened else { return Ok(None) };
    match file.metadata() {
        Ok(meta) if meta.is_file() => {}
        // A link to /dev/null says that there is nothing.
        Ok(meta) if meta.rdev() == libc::makedev(1, 3) => return Ok(None),
        _ => return Err("it is not a plain file"),
    }
    let mut bytes = Vec::new();
    if file.take(MAX_FILE + 1).read_to_end(&mut bytes).is_err() {
        return Ok(None);
    }
    if bytes.len() as u64 > MAX_FILE {
        return Err("it is larger than 256 KiB");
    }
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
    Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
}

/// `section.name` or `section.subsection.name`, in lower case but for the subsection, and value of every
/// setting. What cannot be understood is left out: git complains about it where the user works.
pub(super) fn parse(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut section: Option<String> = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut line = line.trim_start();
        if let Some(rest) = line.strip_prefix('[') {
            let Some((name, after)) = header(rest) else { continue };
            section = name;
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

/// The header of a section behind its `[`: its name, `None` when that is none, and what follows. `None`:
/// it has no end.
fn header(text: &str) -> Option<(Option<String>, &str)> {
    let end = text.find([']', '"'])?;
    let (name, rest) = text.split_at(end);
    let name = name.trim_end().to_ascii_lowercase();
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if let Some(after) = rest.strip_prefix(']') {
        return Some((plain.then_some(name), after));
    }
    let (mut sub, mut chars) = (String::new(), rest.get(1..)?.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => sub.push(chars.next()?.1),
            '"' => {
                let after = rest.get(at + 2..)?.trim_start().strip_prefix(']')?;
                return Some((plain.then(|| format!("{name}.{sub}")), after));
            }
            c => sub.push(c),
        }
    }
    None
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

pub(super) fn quoted(value: &str) -> String {
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

    fn texts_from(
        home: Option<&Path>,
        files: impl Iterator<Item = PathBuf>,
        ignored: Option<PathBuf>,
        warnings: &mut Vec<String>,
    ) -> Vec<String> {
        own_from(home, files, ignored, warnings).texts
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
                pair("user.sub.name", "other"),
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
        let text =
            texts_from(Some(dir.path()), std::iter::once(dir.path().join("main")), None, &mut Vec::new())
                .concat();
        assert!(!text.contains("SECRET"), "{text}");
        assert!(text.starts_with(FIXED));
        // `main` includes itself: bounded, and what it says last wins.
        assert!(text.contains("[user]\n\temail = \"e@x\"\n"), "{text}");
        assert!(parse(&text).contains(&pair("user.name", "O\"Neil [x]")), "{text}");
    }

    #[test]
    fn the_names_of_filters_are_known_and_their_programs_do_not_come_along() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("main");
        let text = "[filter \"lfs\"]\nclean = SECRET\nprocess = SECRET\nrequired = true\n[filter \"x\"]\nsmudge = SECRET\n";
        std::fs::write(&main, text).unwrap();
        let own = own_from(None, std::iter::once(main), None, &mut Vec::new());
        assert_eq!((own.filters, own.texts.concat().contains("SECRET")), (vec!["lfs".to_owned()], false));
    }

    #[test]
    fn a_variable_is_true_as_it_is_to_git() {
        for (value, want) in
            [("1", true), ("yes", true), ("TRUE", true), ("0", false), ("", false), ("off", false)]
        {
            assert_eq!(is_true(OsStr::new(value)), want, "{value}");
        }
    }

    #[test]
    fn nothing_there_is_nothing_added() {
        let dir = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&dir.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/dev/null", dir.path().join("null")).unwrap();
        let files = ["pipe", "gone", ".", "null"].map(|n| dir.path().join(n));
        let mut warnings = Vec::new();
        assert_eq!(texts_from(None, files.into_iter(), None, &mut warnings), [format!("{FIXED}{LOCAL}")]);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
    }

    #[test]
    fn conditions_are_left_to_git_and_say_what_they_said() {
        let dir = tempfile::tempdir().unwrap();
        let home = std::fs::canonicalize(dir.path()).unwrap();
        let write = |name: &str, text: &str| std::fs::write(home.join(name), text).unwrap();
        write(
            "main",
            "[user]\nemail=me@x\n[includeIf \"gitdir:~/work/\"]\npath=work\n[includeIf \"gitdir:./a]b\\\"/\"]\npath=~/work\n\
             [includeIf \"onbranch:x\"]\npath=none\n[includeIf \"env:X\"]\npath=work\n[color \"diff\"]\nmeta=red\n",
        );
        write("work", "[user]\nemail=me@work\nsigningkey=SECRET\n[include]\npath=more\n");
        write("more", "[pull]\nff=only\n");
        let texts = texts_from(Some(&home), std::iter::once(home.join("main")), None, &mut Vec::new());
        let top = home.display();
        assert_eq!(
            texts[0].strip_prefix(&format!("{FIXED}{LOCAL}")).unwrap(),
            format!(
                "[user]\n\temail = \"me@x\"\n[includeIf \"gitdir:{top}/work/\"]\n\tpath = /etc/gitconfig-1\n\
                 [includeIf \"gitdir:{top}/a]b\\\"/\"]\n\tpath = /etc/gitconfig-2\n[color \"diff\"]\n\tmeta = \"red\"\n"
            )
        );
        assert_eq!(texts[1], "[user]\n\temail = \"me@work\"\n[pull]\n\tff = \"only\"\n");
        assert_eq!((&texts[2], texts.len()), (&texts[1], 3));
    }

    #[test]
    fn what_is_huge_endless_or_includes_itself_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let texts = || {
            let mut warnings = Vec::new();
            let main = std::iter::once(dir.path().join("main"));
            (texts_from(Some(dir.path()), main, None, &mut warnings), warnings.join("\n"))
        };
        write(
            "main",
            "[includeIf \"onbranch:x\"]\npath=main\n[include]\npath=main\npath=/dev/zero\n[user]\nname=me\n",
        );
        let (found, warnings) = texts();
        assert!(found.len() <= MAX_FILES && found[0].contains("me"));
        assert!(warnings.contains("`/dev/zero` of your git configuration is not read"), "{warnings}");
        let mut many = String::new();
        for n in 0..8_000 {
            many.push_str(&format!("[color \"{n}\"]\nui=auto\n"));
        }
        write("main", &many);
        let (found, warnings) = texts();
        assert!(found.concat().len() <= MAX_TEXT && warnings.is_empty(), "{warnings}");
        // A part of it could say something else than the whole.
        write("more", &format!("[user]\nname=early\n{}name=late\n", "#\n".repeat(200_000)));
        write("main", "[include]\npath=more\n[user]\nemail=me@x\n");
        let (found, warnings) = texts();
        assert!(!found[0].contains("early") && found[0].contains("me@x"), "{found:?}");
        assert!(warnings.contains("more` of your git configuration is not read: it is larger"), "{warnings}");
    }

    #[test]
    fn a_mark_at_the_start_and_what_is_not_utf8_cost_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("main");
        std::fs::write(&main, b"\xef\xbb\xbf[user]\nname = J\xf6rg\nemail = j@x\n").unwrap();
        let mut warnings = Vec::new();
        let texts = texts_from(None, std::iter::once(main), None, &mut warnings);
        assert_eq!(texts, [format!("{FIXED}{LOCAL}[user]\n\temail = \"j@x\"\n")]);
    }

    #[test]
    fn what_the_caller_ignores_everywhere_comes_along_but_no_file_that_an_included_one_names() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let texts = || {
            let usual = Some(dir.path().join("usual"));
            texts_from(Some(dir.path()), std::iter::once(dir.path().join("main")), usual, &mut Vec::new())
        };
        write("main", "[user]\nname=me\n[include]\npath=more\n");
        write("more", "[core]\nexcludesFile=~/secret\n");
        write("secret", "SECRET\n");
        assert_eq!(texts().len(), 1, "there is none");
        write("usual", "*.swp\n");
        assert_eq!(texts()[1], "*.swp\n");
        assert!(texts()[0].ends_with("[core]\n\texcludesFile = /etc/gitconfig-1\n"), "{:?}", texts());
        write("own", "*.orig\n");
        write("main", "[core]\nexcludesFile=~/own\n[include]\npath=more\n");
        assert_eq!(texts()[1], "*.orig\n");
        write("main", "[core]\nexcludesFile=\n");
        assert_eq!(texts().len(), 1);
    }

    #[test]
    fn any_text_is_read_to_the_end() {
        for text in
            ["[", "[\"", "[a \"", "[a \"\\", "[a \"é\" x]\nb=c", "[a\"é\"]\nb=\\", "[a]b=\\\n", "=\n[]\nx=y"]
        {
            parse(text);
        }
        assert_eq!(pairs("[a \"é]\"] b=c"), [pair("a.é].b", "c")]);
    }
}
