//! `aj diff` and `aj apply`: what a one-shot jail changed, and bringing it back.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::base::id::Id;
use crate::base::text;
use crate::monitor::Monitor;
use crate::schema::changes::{Applied, Change, Diff, FORMAT, Failure, Skipped, Totals};
use crate::schema::jail::bytes64;
use crate::store::origin::Places;
use crate::store::{Error as StateError, trees};
use crate::sys;
use crate::sys::at::Stamp;
use crate::sys::openat2::{self, For};
use crate::workspace::{apply as merge, diff as compare};

pub use find::{Chosen, choose, open_tree, tree_of_run};
mod base;
mod find;
#[cfg(test)]
mod find_tests;
mod paths;

/// The tree of one jail.
#[derive(Debug)]
pub struct Tree {
    /// The jail.
    pub id: Id,
    /// The host directory it was made over: absolute, and no component of it a link.
    pub base: PathBuf,
    /// The upper layer, open for listing (or `O_PATH`).
    pub upper: OwnedFd,
    /// When it was made, on a file system's clock: see [`mod@crate::workspace::diff`].
    pub started: Stamp,
    /// Its jail has not ended: what is in it may be half written.
    pub running: bool,
    /// Keeps it from being removed meanwhile.
    _held: Option<trees::Tree>,
}

/// What to compare.
#[derive(Debug, Clone, Default)]
pub struct DiffOptions {
    /// Paths to keep to, below the base as [`choose`] makes them; empty: all.
    pub only: Vec<Vec<u8>>,
}

/// How to apply.
#[derive(Debug, Clone, Default)]
pub struct ApplyOptions {
    /// What to compare.
    pub diff: DiffOptions,
    /// Report only.
    pub dry_run: bool,
    /// Files that the host would execute, too.
    pub allow_exec_files: bool,
    /// Apply the rest when there are conflicts.
    pub partial: bool,
    /// The jail's version wins over changes made on the host meanwhile.
    pub overwrite: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No tree is kept for this directory.
    #[error("no changes are kept for `{0}`")]
    NoTree(String),
    /// No jail has this id.
    #[error("no jail `{0}`")]
    NotFound(String),
    /// The jail is known and has no tree.
    #[error("no changes are kept of jail `{0}`")]
    NothingKept(String),
    /// A word that may be either is neither.
    #[error("`{word}` is neither a path in `{base}` nor a jail")]
    Neither {
        /// The argument.
        word: String,
        /// The current directory.
        base: String,
    },
    /// Several jails match.
    #[error("`{selector}` matches several jails: {}", ids.join(", "))]
    Ambiguous {
        /// What was asked for.
        selector: String,
        /// At most 8 candidates, newest first.
        ids: Vec<String>,
    },
    /// A path argument lies elsewhere.
    #[error("`{path}` is not in `{base}`")]
    Outside {
        /// The argument.
        path: String,
        /// The tree's base.
        base: String,
    },
    /// A path argument names nothing.
    #[error("no `{path}` in `{base}`, nor among the changes of `{id}`")]
    NoPath {
        /// The argument.
        path: String,
        /// The tree's base.
        base: String,
        /// The jail.
        id: String,
    },
    /// The jail has not ended, so its changes are not what they will be.
    #[error("jail `{0}` is still running")]
    Running(String),
    /// The base is gone, or a link now.
    #[error("could not open the directory `{base}`")]
    Base {
        /// The tree's base.
        base: String,
        /// Why.
        source: sys::Error,
    },
    /// Another directory has the name of the base now.
    #[error("`{base}` is not the directory that the jail ran over")]
    Replaced {
        /// The tree's base.
        base: String,
    },
    /// The record of a tree is damaged.
    #[error("the kept changes of `{id}` cannot be read")]
    Damaged {
        /// The jail.
        id: String,
        /// Why.
        source: StateError,
    },
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The current directory.
    #[error("the current directory cannot be used: {}", super::config::why(.why))]
    CurrentDir {
        /// Why.
        why: io::Error,
    },
    /// The comparison broke off.
    #[error("could not compare the tree of `{id}` with `{base}`")]
    Compare {
        /// The jail.
        id: String,
        /// The tree's base.
        base: String,
        /// Why.
        source: sys::Error,
    },
    /// Nothing could be applied.
    #[error("could not apply to `{base}`")]
    Apply {
        /// The tree's base.
        base: String,
        /// Why.
        source: merge::Error,
    },
}

/// Compare a tree with its base. Nothing on the host is changed.
pub fn diff(tree: &Tree, options: &DiffOptions) -> Result<Diff, Error> {
    let base = text::os(&tree.base);
    let failed = |source| Error::Compare { id: tree.id.to_string(), base: base.clone(), source };
    let upper = openat2::beneath(&tree.upper, b".", For::Listing).map_err(failed)?;
    let r = compare::diff(upper, base::open(tree)?, &options.compare(tree)?).map_err(failed)?;
    Ok(document(tree, r))
}

/// As [`diff`] of a whole tree whose run has just ended, and what later comparisons want to know
/// about the base's directories.
pub(super) fn diff_at_end(tree: &Tree) -> Result<(Diff, Option<Places>), Error> {
    let failed = |source| Error::Compare { id: tree.id.to_string(), base: text::os(&tree.base), source };
    let upper = openat2::beneath(&tree.upper, b".", For::Listing).map_err(failed)?;
    let options = DiffOptions::default().compare(tree)?;
    let (r, places) = compare::diff_at_end(upper, base::open(tree)?, &options).map_err(failed)?;
    Ok((document(tree, r), places))
}

fn document(tree: &Tree, r: compare::Report) -> Diff {
    Diff {
        format: FORMAT,
        tree: tree.id,
        base: text::os(&tree.base),
        running: tree.running,
        changes: r.changes.into_iter().map(change).collect(),
        skipped: r.skipped.into_iter().map(skipped).collect(),
        totals: totals(&r.totals),
        truncated: r.truncated,
    }
}

/// Bring the changes of a tree into its base. Conflicts, withheld files and failures are part of the
/// answer; an error means that nothing was written.
pub fn apply(tree: &Tree, options: &ApplyOptions, monitor: &dyn Monitor) -> Result<Applied, Error> {
    if tree.running {
        return Err(Error::Running(tree.id.to_string()));
    }
    let base = text::os(&tree.base);
    let failed = |source| Error::Apply { base: base.clone(), source };
    let upper = openat2::beneath(&tree.upper, b".", For::Listing).map_err(|e| failed(e.into()))?;
    let choice = merge::Choice {
        options: options.diff.compare(tree)?,
        dry_run: options.dry_run,
        allow_exec_files: options.allow_exec_files,
        partial: options.partial,
        overwrite: options.overwrite,
    };
    // The user's word covers the directory itself, too.
    let opened = if options.overwrite { base::open_any(tree)? } else { base::open(tree)? };
    let r = merge::apply(upper, opened, &choice, monitor).map_err(failed)?;
    let changes = |list: Vec<compare::Change>| list.into_iter().map(change).collect();
    Ok(Applied {
        format: FORMAT,
        tree: tree.id,
        base,
        dry_run: options.dry_run,
        performed: r.performed,
        applied: changes(r.applied),
        withheld: changes(r.withheld),
        conflicts: changes(r.conflicts),
        failed: r.failed.into_iter().map(|f| failure(&tree.base, &f)).collect(),
        skipped: r.skipped.into_iter().map(skipped).collect(),
        totals: totals(&r.totals),
        withheld_total: r.withheld_total,
        conflicts_total: r.conflicts_total,
        stopped: r.stopped,
        cleaned: r.cleaned,
        truncated: r.truncated,
    })
}

impl DiffOptions {
    fn compare(&self, tree: &Tree) -> Result<compare::Options, Error> {
        Ok(compare::Options {
            started: tree.started,
            base: tree.base.clone(),
            only: self.only.clone(),
            places: base::places(tree),
            hidden: base::hidden(tree)?,
        })
    }
}

fn change(c: compare::Change) -> Change {
    let path = text::printable(&c.path);
    let mode = |m: Option<u32>| m.map(|m| format!("{m:04o}"));
    Change {
        path_base64: (path.as_bytes() != c.path).then(|| bytes64::encode(&c.path)),
        path,
        status: c.status.name().to_owned(),
        kind: c.kind.name().to_owned(),
        old_kind: c.old_kind.map(|k| k.name().to_owned()),
        size: c.size,
        old_size: c.old_size,
        mode: mode(c.mode),
        old_mode: mode(c.old_mode),
        files_below: c.below,
        target: c.target.as_deref().map(text::printable),
        leads_out: c.leads_out,
        hard_links: c.hard_links,
        special_bits: c.special_bits,
        host_executed: c.host_executed.map(str::to_owned),
        conflict: c.conflict.map(|c| c.text().to_owned()),
    }
}

fn failure(base: &Path, f: &merge::Failure) -> Failure {
    let parent = Path::new(OsStr::from_bytes(&f.path)).parent().unwrap_or(Path::new(""));
    // Joined with nothing, a path would end in a slash.
    let parent = if parent.as_os_str().is_empty() { base.to_owned() } else { base.join(parent) };
    let directory = f.shut.then(|| text::os(&parent));
    let errno = f.error.name();
    let error = match &directory {
        Some(at) => format!("could not change directory `{at}`: {} ({errno})", f.error.errno.desc()),
        None => f.error.to_string(),
    };
    Failure { path: text::printable(&f.path), error, errno, directory }
}

fn skipped(s: compare::Skipped) -> Skipped {
    Skipped { path: text::printable(&s.path), reason: s.reason, unknown: s.unknown }
}

fn totals(t: &compare::Totals) -> Totals {
    Totals {
        changes: t.changes(),
        added: t.added,
        modified: t.modified,
        mode_changed: t.mode_changed,
        type_changed: t.type_changed,
        deleted: t.deleted,
        deleted_below: t.deleted_below,
        host_executed: t.host_executed,
        conflicts: t.conflicts,
        skipped: t.skipped,
        bytes: t.bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn tree(base: &Path) -> Tree {
        Tree {
            id: "jl-0123456789abcdef".parse().unwrap(),
            base: base.to_owned(),
            upper: std::fs::File::open("/").unwrap().into(),
            started: Stamp::default(),
            running: false,
            _held: None,
        }
    }

    #[test]
    fn names_that_need_escaping_carry_their_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for d in ["base", "upper"] {
            std::fs::create_dir(root.join(d)).unwrap();
        }
        let odd = std::ffi::OsStr::from_bytes(b"a\x1b]0;x\x07\xff");
        std::fs::write(root.join("upper").join(odd), b"x").unwrap();
        std::fs::write(root.join("upper/plain"), b"x").unwrap();
        let mut t = tree(&root.join("base"));
        t.upper = std::fs::File::open(root.join("upper")).unwrap().into();
        let d = diff(&t, &DiffOptions::default()).unwrap();
        assert_eq!(d.changes[0].path, "a\\x1b]0;x\\x07\\xff");
        let raw = bytes64::decode(d.changes[0].path_base64.as_deref().unwrap()).unwrap();
        assert_eq!(raw, odd.as_bytes());
        assert_eq!((d.changes[1].path.as_str(), &d.changes[1].path_base64), ("plain", &None));
        let done = apply(&t, &ApplyOptions::default(), &crate::monitor::Silent).unwrap();
        assert_eq!(done.totals.changes, 2);
        assert!(root.join("base").join(odd).exists());
    }

    #[test]
    fn a_base_that_became_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink("real", root.join("base")).unwrap();
        let e =
            apply(&tree(&root.join("base")), &ApplyOptions::default(), &crate::monitor::Silent).unwrap_err();
        assert!(matches!(e, Error::Base { source, .. } if source.name() == "ENOTDIR"));
    }
}
