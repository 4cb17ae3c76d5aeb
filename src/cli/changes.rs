//! What `aj diff` and `aj apply` share: from where paths are shown, how a change looks, how errors read.

use super::error::CommandError;
use super::ui::Ui;
use super::{exit, hints, state};
use crate::base::{quote, text};
use crate::ops::changes::Error;
use crate::schema::changes::{Change, Failure, Skipped, Totals};
use crate::schema::jail::bytes64;

/// Where paths are shown from: the current directory below the base, as for path arguments, so that
/// what was printed can be given back.
#[derive(Debug, Default)]
pub(super) struct Here(Vec<u8>);

impl Here {
    pub(super) fn new(below: Vec<u8>) -> Here {
        Here(below)
    }

    /// The bytes of the path of a change.
    pub(super) fn path(&self, c: &Change) -> Vec<u8> {
        match c.path_base64.as_deref().and_then(bytes64::decode) {
            Some(raw) => from(&self.0, &raw),
            None => from(&self.0, c.path.as_bytes()),
        }
    }

    /// A path that is printable already.
    fn printable(&self, path: &str) -> String {
        let here = text::printable(&self.0);
        String::from_utf8_lossy(&from(here.as_bytes(), path.as_bytes())).into_owned()
    }

    pub(super) fn skipped(&self, s: &Skipped) -> String {
        format!("{}  ({})", self.printable(&s.path), s.reason)
    }

    pub(super) fn failed(&self, f: &Failure) -> String {
        format!("{}: {}", self.printable(&f.path), f.error)
    }

    /// `M src/main.rs`, with what one should know in brackets.
    pub(super) fn line(&self, c: &Change) -> String {
        line(&text::printable(&self.path(c)), c)
    }
}

/// `path`, seen from `here`: both below the same directory.
///
/// An absolute one, of a part of the project that lies elsewhere, stays what it is.
fn from(here: &[u8], path: &[u8]) -> Vec<u8> {
    if path.starts_with(b"/") {
        return path.to_vec();
    }
    let parts = |p| <[u8]>::split(p, |b| *b == b'/').filter(|part| !part.is_empty());
    let shared = parts(here).zip(parts(path)).take_while(|(a, b)| a == b).count();
    let up = parts(here).skip(shared).map(|_| &b".."[..]);
    let all: Vec<&[u8]> = up.chain(parts(path).skip(shared)).collect();
    if all.is_empty() { b".".to_vec() } else { all.join(&b'/') }
}

/// Text for stdout, written in large pieces.
pub(super) struct Page<'a> {
    ui: &'a Ui,
    text: String,
}

impl<'a> Page<'a> {
    pub(super) fn new(ui: &'a Ui) -> Page<'a> {
        Page { ui, text: String::new() }
    }

    pub(super) fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
        if self.text.len() > 1 << 16 {
            self.flush();
        }
    }

    /// Bytes that are no line.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.flush();
        self.ui.bytes(bytes);
    }

    /// A list under a heading, set off by an empty line; nothing when it is empty.
    pub(super) fn section(&mut self, heading: &str, lines: impl Iterator<Item = String>) {
        let mut lines = lines.peekable();
        if lines.peek().is_none() {
            return;
        }
        if !self.text.is_empty() {
            self.line("");
        }
        self.line(heading);
        for line in lines {
            self.line(&format!("  {line}"));
        }
    }

    fn flush(&mut self) {
        self.ui.out(&self.text);
        self.text.clear();
    }
}

impl Drop for Page<'_> {
    fn drop(&mut self) {
        if !self.text.is_empty() {
            self.flush();
        }
    }
}

fn line(path: &str, c: &Change) -> String {
    let letter = match c.status.as_str() {
        "added" => 'A',
        "modified" => 'M',
        "mode_changed" => 'm',
        "type_changed" => 'T',
        _ => 'D',
    };
    let mut text = format!("{letter} {path}");
    if c.kind == "directory" {
        text.push('/');
    }
    if let Some(target) = &c.target {
        text.push_str(&format!(" -> {target}"));
    }
    let mut notes = Vec::new();
    if c.status == "mode_changed"
        && let (Some(old), Some(new)) = (&c.old_mode, &c.mode)
    {
        notes.push(format!("mode {old} to {new}"));
    }
    if c.status == "type_changed"
        && let Some(old) = &c.old_kind
    {
        notes.push(format!("was a {old}"));
    }
    if c.files_below > 0 {
        notes.push(plural(c.files_below, "file"));
    }
    for (fact, note) in [
        (c.leads_out, "leads out of the tree"),
        (c.hard_links, "hard link, becomes a file of its own"),
        (c.special_bits, "setuid, setgid or sticky bit dropped"),
    ] {
        if fact {
            notes.push(note.to_owned());
        }
    }
    notes.extend(c.host_executed.clone());
    notes.extend(c.conflict.clone());
    if !notes.is_empty() {
        text.push_str(&format!("  ({})", notes.join("; ")));
    }
    text
}

/// `3 files`.
pub(super) fn plural(n: u64, what: &str) -> String {
    match what.strip_suffix('y') {
        _ if n == 1 => format!("1 {what}"),
        Some(stem) => format!("{n} {stem}ies"),
        None => format!("{n} {what}s"),
    }
}

/// Where changes go: the directory, and the parts of the project that lie elsewhere.
pub(super) fn places(base: &str, parts: &[String]) -> String {
    std::iter::once(base).chain(parts.iter().map(String::as_str)).collect::<Vec<_>>().join(" and ")
}

/// `12 changes: 3 added, 8 modified, 1 deleted`.
pub(super) fn summary(t: &Totals) -> String {
    let parts: Vec<String> = [
        (t.added, "added"),
        (t.modified, "modified"),
        (t.mode_changed, "with other permissions"),
        (t.type_changed, "of another type"),
        (t.deleted, "deleted"),
    ]
    .iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, what)| format!("{n} {what}"))
    .collect();
    match t.changes {
        0 => "no changes".to_owned(),
        n => format!("{}: {}", plural(n, "change"), parts.join(", ")),
    }
}

impl From<Error> for CommandError {
    fn from(e: Error) -> CommandError {
        use crate::workspace::apply::Error as Apply;
        let (exit, code) = match &e {
            Error::State(e) => return state::error(e),
            Error::NoTree(_) | Error::NothingKept(_) => (exit::NOT_FOUND, "tree_not_found"),
            Error::NotFound(_) => (exit::NOT_FOUND, "jail_not_found"),
            Error::Ambiguous { .. } => (exit::NOT_FOUND, "jail_ambiguous"),
            Error::Neither { .. } | Error::NoPath { .. } => (exit::NOT_FOUND, "path_not_found"),
            Error::Running(_) => (exit::BUSY, "jail_running"),
            Error::Both { .. } => (exit::USAGE, "workspace_or_path"),
            Error::Homeless(_) => (exit::USAGE, "no_base"),
            Error::HasBase { .. } => (exit::USAGE, "other_base"),
            Error::Workspace(_) => (exit::FAILED, "workspace"),
            Error::CurrentDir { .. } => (exit::FAILED, "current_dir"),
            Error::Outside { .. } => (exit::USAGE, "path_outside"),
            Error::Base { .. } => (exit::FAILED, "base_not_usable"),
            Error::Replaced { .. } => (exit::FAILED, "base_replaced"),
            Error::Damaged { .. } => (exit::FAILED, "tree_damaged"),
            Error::Compare { .. } => (exit::FAILED, "compare_failed"),
            Error::Apply { source: Apply::Busy, .. } => (exit::BUSY, "busy"),
            Error::Apply { source: Apply::NoSpace { .. }, .. } => (exit::FAILED, "no_space"),
            Error::Apply { source: Apply::Sys(_), .. } => (exit::FAILED, "apply_failed"),
        };
        if let Error::Workspace(e) = e {
            return e.into();
        }
        let mut shown = CommandError::new(exit, code, e.to_string());
        if let Some(source) = std::error::Error::source(&e) {
            shown = shown.caused_by(source);
        }
        match &e {
            Error::NoTree(_) => shown
                .hint("changes are kept when `aj exec -- CMD` ran in this directory and changed something")
                .hint("`aj jail list` shows what ran; name a jail by its id"),
            Error::NothingKept(_) => {
                shown.hint("it changed nothing, or did without an overlay; `aj jail list` shows the others")
            }
            Error::NotFound(_) => shown.hint("`aj jail list` shows the jails"),
            Error::Ambiguous { .. } => shown.hint("write more of the id"),
            Error::Neither { word, .. } => unknown_path(shown, word).hint("`aj jail list` shows the jails"),
            Error::NoPath { path, .. } => unknown_path(shown, path),
            Error::Running(id) => shown
                .hint(format!("when it has ended: `aj apply {id}`"))
                .hint(format!("what it has changed so far: `aj diff {id}`"))
                .hint("another jail can be named by its id: `aj jail list`"),
            Error::Both { word, id } => {
                shown.hint(format!("for the path: `./{word}`")).hint(format!("for the workspace: `{id}`"))
            }
            Error::Homeless(id) => shown.hint(format!("name a directory: `aj apply {id} --to DIR`")),
            Error::HasBase { .. } => shown.hint("leave out `--to`"),
            Error::CurrentDir { .. } => shown.hint(hints::CURRENT_DIR),
            Error::Base { base, source } => match source.name().as_str() {
                "EACCES" => shown.hint(format!(
                    "let yourself read the directory and enter what is above it: `chmod u+rx {}`",
                    quote::command_line(std::slice::from_ref(base))
                )),
                // The limit has been named.
                "EMFILE" => shown,
                _ => shown
                    .hint("the directory that the jail ran over was moved, removed or replaced by a link"),
            },
            Error::Replaced { id, .. } => shown
                .hint("move the directory that the jail ran over back to its place")
                .hint(format!("`aj apply {id} --overwrite` puts the changes into the one that is there now")),
            Error::Apply { source: Apply::Busy, .. } => shown.hint("wait for it and try again"),
            Error::Apply { source: Apply::NoSpace { .. }, id, .. } => {
                shown.hint(format!("free some space, or apply a part: `aj apply {id} PATH…`"))
            }
            Error::Outside { .. } => shown.hint("name paths below it, or a jail that ran elsewhere"),
            Error::Workspace(_)
            | Error::Damaged { .. }
            | Error::State(_)
            | Error::Compare { .. }
            | Error::Apply { .. } => shown,
        }
    }
}

/// Nothing has this path. What is no text is printed in another form than it is given in.
fn unknown_path(e: CommandError, path: &str) -> CommandError {
    let e = e.hint("paths are taken from the current directory, as `aj diff` prints them");
    match quote::escaped(path) {
        Some(word) => e.hint(format!("a name that is printed like this is given as {word}")),
        None => e,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cli) fn sample(path: &str, status: &str) -> Change {
        Change {
            path: path.into(),
            path_base64: None,
            status: status.into(),
            kind: "file".into(),
            old_kind: None,
            size: Some(1),
            old_size: None,
            mode: Some("0755".into()),
            old_mode: Some("0644".into()),
            files_below: 0,
            target: None,
            leads_out: false,
            hard_links: false,
            special_bits: false,
            host_executed: None,
            conflict: None,
        }
    }

    #[test]
    fn paths_are_shown_from_where_they_are_asked_for() {
        let shown = |here: &str, path: &str| {
            Here::new(here.as_bytes().to_vec()).line(&sample(path, "added")).split_off(2)
        };
        assert_eq!(shown("", "a/b"), "a/b");
        assert_eq!(shown("a", "a/b"), "b");
        assert_eq!(shown("a/b", "a/c/d"), "../c/d");
        assert_eq!(shown("ab", "a"), "../a");
        assert_eq!(shown("a/b", "a"), "..");
        assert_eq!(shown("a", "a"), ".");
        assert_eq!(shown("a", "/main/.git/HEAD"), "/main/.git/HEAD");
        let odd = Change { path_base64: Some(bytes64::encode(b"a/\xff")), ..sample("a/\\xff", "added") };
        assert_eq!(Here::new(b"a".to_vec()).path(&odd), b"\xff");
        assert_eq!(Here::new(b"a".to_vec()).line(&odd), "A \\xff");
        let skipped = Skipped { path: "a/\\xff".into(), reason: "fifo".into(), unknown: false };
        assert_eq!(Here::new(b"b".to_vec()).skipped(&skipped), "../a/\\xff  (fifo)");
    }

    #[test]
    fn a_change_is_one_line_with_notes() {
        let line = |c: &Change| Here::default().line(c);
        assert_eq!(line(&sample("a b", "added")), "A a b");
        assert_eq!(line(&sample("x", "mode_changed")), "m x  (mode 0644 to 0755)");
        let gone = Change { kind: "directory".into(), files_below: 12, ..sample("old", "deleted") };
        assert_eq!(line(&gone), "D old/  (12 files)");
        let link = Change {
            target: Some("/etc/passwd".into()),
            leads_out: true,
            conflict: Some("changed".into()),
            ..sample("l", "modified")
        };
        assert_eq!(line(&link), "M l -> /etc/passwd  (leads out of the tree; changed)");
    }

    #[test]
    fn hints_to_apply_name_the_tree() {
        use crate::workspace::apply::Error as Apply;
        let (id, base) = ("ws-0123456789abcdef".to_owned(), "/p".to_owned());
        let full = Error::Apply {
            id: id.clone(),
            base: base.clone(),
            source: Apply::NoSpace { needed: 2, free: 1 },
        };
        let replaced = Error::Replaced { id, base };
        for (e, wanted) in [
            (full, "free some space, or apply a part: `aj apply ws-0123456789abcdef PATH…`"),
            (
                replaced,
                "`aj apply ws-0123456789abcdef --overwrite` puts the changes into the one that is there now",
            ),
        ] {
            let error = CommandError::from(e);
            assert_eq!(error.hints.last().map(String::as_str), Some(wanted));
        }
    }

    #[test]
    fn totals_read_as_a_sentence() {
        assert_eq!(summary(&Totals::default()), "no changes");
        let t = Totals { changes: 1, added: 1, ..Totals::default() };
        assert_eq!(summary(&t), "1 change: 1 added");
        let t = Totals { changes: 5, modified: 3, deleted: 2, ..Totals::default() };
        assert_eq!(summary(&t), "5 changes: 3 modified, 2 deleted");
    }
}
