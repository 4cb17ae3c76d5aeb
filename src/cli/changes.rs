//! What `aj diff` and `aj apply` share: their arguments, how a change looks, how errors read.

use std::ffi::OsString;

use super::error::CommandError;
use super::exit;
use super::ui::Ui;
use crate::base::id::Id;
use crate::ops::changes::Error;
use crate::schema::changes::{Change, Skipped, Totals};

/// The first argument is a tree if it is `@` or looks like an id; everything else is a path.
pub(super) fn split(mut arguments: Vec<OsString>) -> (Option<String>, Vec<OsString>) {
    let selector = arguments
        .first()
        .and_then(|a| a.to_str())
        .filter(|a| *a == "@" || Id::looks_like(a))
        .map(str::to_owned);
    if selector.is_some() {
        arguments.remove(0);
    }
    (selector, arguments)
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

/// `M src/main.rs`, with what one should know in brackets.
pub(super) fn line(c: &Change) -> String {
    let letter = match c.status.as_str() {
        "added" => 'A',
        "modified" => 'M',
        "mode_changed" => 'm',
        "type_changed" => 'T',
        _ => 'D',
    };
    let mut text = format!("{letter} {}", c.path);
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

pub(super) fn skipped(s: &Skipped) -> String {
    format!("{}  ({})", s.path, s.reason)
}

/// `3 files`.
pub(super) fn plural(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
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
            Error::NoTree(_) | Error::NotFound(_) => (exit::NOT_FOUND, "tree_not_found"),
            Error::Ambiguous { .. } => (exit::NOT_FOUND, "ambiguous"),
            Error::Outside { .. } => (exit::USAGE, "path_outside"),
            Error::Base { .. } => (exit::FAILED, "base_not_usable"),
            Error::Replaced { .. } => (exit::FAILED, "base_replaced"),
            Error::Damaged { .. } => (exit::FAILED, "tree_damaged"),
            Error::State { .. } => (exit::FAILED, "state_not_readable"),
            Error::Compare { .. } => (exit::FAILED, "compare_failed"),
            Error::Apply { source: Apply::Busy, .. } => (exit::BUSY, "busy"),
            Error::Apply { source: Apply::NoSpace { .. }, .. } => (exit::FAILED, "no_space"),
            Error::Apply { source: Apply::Sys(_), .. } => (exit::FAILED, "apply_failed"),
        };
        let mut shown = CommandError::new(exit, code, e.to_string());
        if let Some(source) = std::error::Error::source(&e) {
            shown = shown.caused_by(source);
        }
        match &e {
            Error::NoTree(_) => shown
                .hint("changes are kept when `aj exec -- CMD` ran in this directory and changed something")
                .hint("`aj jail list` shows what ran; name a jail by its id, or the newest by `@`"),
            Error::NotFound(_) => shown.hint("`aj jail list` shows the jails"),
            Error::Ambiguous { .. } => shown.hint("write more of the id"),
            Error::Base { .. } => {
                shown.hint("the directory that the jail ran over was moved, removed or replaced by a link")
            }
            Error::Replaced { .. } => shown
                .hint("move the directory that the jail ran over back to its place")
                .hint("`aj apply --overwrite` puts the changes into the one that is there now"),
            Error::Apply { source: Apply::Busy, .. } => shown.hint("wait for it and try again"),
            Error::Apply { source: Apply::NoSpace { .. }, .. } => {
                shown.hint("free some space, or apply a part: `aj apply PATH…`")
            }
            Error::Outside { .. }
            | Error::Damaged { .. }
            | Error::State { .. }
            | Error::Compare { .. }
            | Error::Apply { .. } => shown,
        }
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
    fn the_first_argument_is_a_tree_only_when_it_looks_like_one() {
        let case = |args: &[&str]| {
            let (s, p) = split(args.iter().map(OsString::from).collect());
            (s, p.len())
        };
        assert_eq!(case(&["@", "src"]), (Some("@".into()), 1));
        assert_eq!(case(&["jl-7k", "src"]), (Some("jl-7k".into()), 1));
        assert_eq!(case(&["src", "@"]), (None, 2));
        assert_eq!(case(&["./jl-7k"]), (None, 1));
        assert_eq!(case(&[]), (None, 0));
    }

    #[test]
    fn a_change_is_one_line_with_notes() {
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
    fn totals_read_as_a_sentence() {
        assert_eq!(summary(&Totals::default()), "no changes");
        let t = Totals { changes: 1, added: 1, ..Totals::default() };
        assert_eq!(summary(&t), "1 change: 1 added");
        let t = Totals { changes: 5, modified: 3, deleted: 2, ..Totals::default() };
        assert_eq!(summary(&t), "5 changes: 3 modified, 2 deleted");
    }
}
