//! What lies beyond the workspace although it seems to be in it: file systems mounted below, of which an
//! overlay shows the empty directory underneath, and links that lead out, which lead nowhere inside.
//!
//! A start waits for neither. Mounts are looked for while the jail is set up, and always: an empty
//! directory makes nothing fail that would be asked about. Links are looked at when a command has failed
//! for want of a file.

use std::path::{Path, PathBuf};

use crate::base::quote::command_line;
use crate::base::{env, text};
use crate::host::places::Table;
use crate::jail::plan::USR_NAMES;
use crate::jail::spec::{Ids, Spec};
use crate::jail::supervise::Ended;
use crate::policy::flavor::private;
use crate::policy::settings::Access;
use crate::schema::jail::Outcome;

/// Entries of one directory that are looked at.
const MOST: usize = 2_000;
/// Names in one line.
const NAMES: usize = 3;

/// What programs print when there is no such file.
const SIGNS: [&str; 6] =
    ["No such file", "ENOENT", "os error 2", "not found", "cannot find", "not a git repository"];

/// Below a directory: what is mounted there and seen empty.
#[derive(Debug)]
pub(super) struct Below {
    workspace: PathBuf,
    /// Shown by another mount.
    shown: Vec<PathBuf>,
}

impl Below {
    /// `None` where mounts below come along.
    pub(super) fn of(spec: &Spec) -> Option<Below> {
        let alone = spec.access == Access::Overlay || spec.ids == Ids::Range;
        let shown = spec.binds.iter().map(|b| &b.path).chain(spec.sides.iter().map(|s| &s.path));
        let shown = shown.cloned().collect();
        (alone && spec.workspace != Path::new("/"))
            .then(|| Below { workspace: spec.workspace.clone(), shown })
    }

    /// A line about them, if there are any. What cannot be told is not.
    pub(super) fn line(&self) -> Option<String> {
        let mounts = self.mounts();
        let (names, first) = (self.names(&mounts)?, mounts.first()?);
        Some(if mounts.len() == 1 {
            let at = text::os(first);
            format!("{names} is a mount of its own, which was seen empty inside: `--ro {at}` shows it")
        } else {
            format!("{names} are mounts of their own, which were seen empty inside: `--ro DIR` shows one")
        })
    }

    /// Their names, when they are why there was no overlay: a mount that an ordinary user does not own
    /// cannot be lifted off what is below it, and the kernel makes no overlay over both (EINVAL).
    pub(super) fn in_the_way(&self, ids: Ids, outcome: &Outcome) -> Option<String> {
        let overlay = matches!(outcome, Outcome::Failed { step, errno, .. }
            if errno == "EINVAL" && step.contains("overlay"));
        if !overlay || ids == Ids::Range {
            return None;
        }
        self.names(&table_below(&self.workspace))
    }

    fn mounts(&self) -> Vec<PathBuf> {
        let mut all = table_below(&self.workspace);
        all.retain(|m| !self.shown.iter().any(|s| m.starts_with(s)));
        all
    }

    fn names(&self, mounts: &[PathBuf]) -> Option<String> {
        let name = |m: &PathBuf| format!("`{}`", text::os(m.strip_prefix(&self.workspace).unwrap_or(m)));
        let names: Vec<String> = mounts.iter().take(NAMES).map(name).collect();
        let more = match mounts.len().saturating_sub(NAMES) {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        (!names.is_empty()).then(|| format!("{}{more}", names.join(", ")))
    }
}

fn table_below(dir: &Path) -> Vec<PathBuf> {
    let table = Table::read().ok();
    table.map(|t| t.below(dir).map(Path::to_owned).collect()).unwrap_or_default()
}

/// Lines about links of the workspace that lead to what is not shown, and about a repository around it, for a
/// command that missed a file. `hidden` are the names of what is hidden in it.
pub(super) fn links(spec: &Spec, hidden: &[String], ended: &Ended) -> Vec<String> {
    let said = [ended.stderr.text().0, ended.stdout.text().0];
    let failed = matches!(ended.outcome, Outcome::Exited { code } if code != 0);
    if !failed || !said.iter().any(|text| SIGNS.iter().any(|sign| text.contains(sign))) {
        return Vec::new();
    }
    let top = &spec.workspace;
    let mut found: Vec<(PathBuf, PathBuf)> = leading_out(top, &|path| is_seen(spec, path));
    let git = top.join(".git");
    let in_git = leading_out(&git, &|path| is_seen(spec, path));
    // That one was named before the start.
    found.extend(in_git.into_iter().filter(|(path, _)| !path.ends_with("objects")));
    let named = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        said.iter().any(|text| text.contains(&*name))
    };
    if found.iter().any(|(path, _)| named(path)) {
        found.retain(|(path, _)| named(path));
    }
    let home = env::HOME.absolute_path();
    let line = |(path, to): &(PathBuf, PathBuf)| {
        let (name, to_shown) = (text::os(path.strip_prefix(top).unwrap_or(path)), text::os(to));
        let words = |words: &[&str]| command_line(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        let way = match private(to, home.as_deref()) {
            // By its name the link is a secret, wherever it leads.
            None if hidden.contains(&name) => {
                format!(
                    " and is hidden by its name: `{}` shows it",
                    words(&["--show", &name, "--ro", &to_shown])
                )
            }
            None => format!(": `{}` shows it", words(&["--ro", &to_shown])),
            Some(_) => String::new(),
        };
        format!("`{name}` is a link to `{to_shown}`, which was not shown{way}")
    };
    let mut lines: Vec<String> = found.iter().take(NAMES).map(line).collect();
    if git.is_dir() && git.join("commondir").symlink_metadata().is_ok() {
        lines.push(
            "`.git/commondir` says that the repository is a part of another one, which was not shown"
                .to_owned(),
        );
    }
    if said.iter().any(|text| text.contains("not a git repository")) {
        lines.extend(repository_around(top));
    }
    lines
}

/// A line about the repository that a tree without a `.git` is a part of.
fn repository_around(top: &Path) -> Option<String> {
    if top.join(".git").symlink_metadata().is_ok() {
        return None;
    }
    let above = top.ancestors().skip(1).find(|dir| dir.join(".git").symlink_metadata().is_ok())?;
    let why = if top.join("aj.toml").symlink_metadata().is_ok() { " because of its `aj.toml`" } else { "" };
    let (shown, above) = (text::os(top), text::os(above));
    let way = command_line(&["--root-dir".to_owned(), above.clone()]);
    Some(format!(
        "the tree that was shown begins at `{shown}`{why}, and the repository around it is that of `{above}`: \
         `{way}` shows all of it"
    ))
}

/// The links in `dir` that lead to something of the host that is not `seen`, and where they lead.
fn leading_out(dir: &Path, seen: &dyn Fn(&Path) -> bool) -> Vec<(PathBuf, PathBuf)> {
    if !dir.symlink_metadata().is_ok_and(|m| m.is_dir()) {
        return Vec::new();
    }
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let links = entries.take(MOST).flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_symlink()));
    let mut found: Vec<_> = links
        .filter_map(|link| Some((link.path(), std::fs::canonicalize(link.path()).ok()?)))
        .filter(|(_, to)| !seen(to))
        .collect();
    found.sort();
    found
}

/// Whether the jail has a host path at its own path.
fn is_seen(spec: &Spec, path: &Path) -> bool {
    let own = ["usr", "etc", "proc", "dev"];
    let first = path.iter().nth(1).and_then(|name| name.to_str());
    first.is_some_and(|name| own.contains(&name) || USR_NAMES.contains(&name))
        || path.starts_with(&spec.workspace)
        || spec.binds.iter().any(|b| path.starts_with(&b.path))
        || spec.sides.iter().any(|s| path.starts_with(&s.path))
        || spec.tools.iter().any(|t| path.starts_with(&t.path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_that_lead_out_are_found_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let top = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir_all(top.join("p/in")).unwrap();
        std::fs::create_dir(top.join("out")).unwrap();
        for (target, name) in [("in", "a"), ("../out", "b"), ("/nowhere", "c"), ("d", "d"), ("/usr", "e")] {
            symlink(target, top.join("p").join(name)).unwrap();
        }
        let seen = |path: &Path| path.starts_with(top.join("p")) || path.starts_with("/usr");
        assert_eq!(leading_out(&top.join("p"), &seen), [(top.join("p/b"), top.join("out"))]);
        symlink("p", top.join("l")).unwrap();
        assert_eq!(leading_out(&top.join("l"), &seen), [], "a link itself");
    }
}
