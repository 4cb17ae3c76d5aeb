//! `aj diff` and `aj apply`: what a one-shot jail changed, and bringing it back.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use layers::Layer;
pub use layers::Part;

use crate::base::id::Id;
use crate::base::text;
use crate::monitor::Monitor;
use crate::schema::changes::{Applied, Change, Diff, FORMAT, Failure, Skipped, Totals};
use crate::schema::jail::bytes64;
use crate::store::origin::Places;
use crate::store::{Error as StateError, trees};
use crate::sys;
use crate::sys::at::Stamp;
use crate::workspace::{Uppers, apply as merge, diff as compare};

pub use find::{Chosen, To, choose, open_tree, tree_of_run, tree_of_run_in};
pub(super) use find::{newest_of_project, selected};
pub use patch::{LeftOut, patch};
mod base;
mod find;
#[cfg(test)]
mod find_tests;
mod layers;
mod opened;
mod patch;
mod paths;
mod workspace;

/// The tree of one jail.
#[derive(Debug)]
pub struct Tree {
    /// The jail.
    pub id: Id,
    /// The host directory it was made over: absolute, and no component of it a link.
    pub base: PathBuf,
    /// The upper layer, open for listing (or `O_PATH`).
    pub upper: OwnedFd,
    /// Sealed layers below that, the newest first, open for listing.
    pub below: Vec<OwnedFd>,
    /// When it was made, on a file system's clock: see [`mod@crate::workspace::diff`].
    pub started: Stamp,
    /// The clock was set back since, and that is earlier than it was.
    pub clock_set_back: bool,
    /// What it has over further directories.
    pub parts: Vec<Part>,
    /// It lies over a directory of its own, empty or a copy: there is nothing to bring its changes into.
    pub homeless: bool,
    /// The host directory that it lies over a copy of.
    pub imported: Option<PathBuf>,
    /// Where its jails see it, when that is neither the path of its base nor `/workspace`.
    pub seen_at: Option<PathBuf>,
    /// It is judged by another directory than the one that it lies over: what of that is known to be as it was.
    pub elsewhere: Option<Vec<(u64, Stamp)>>,
    /// Its jail has not ended: what is in it may be half written.
    pub running: bool,
    /// And what it writes comes here when it ends only.
    pub in_memory: bool,
    /// Keeps it from being removed meanwhile.
    _held: Option<trees::Tree>,
}

/// What to compare.
#[derive(Debug, Clone, Default)]
pub struct DiffOptions {
    /// Paths to keep to as [`choose`] makes them: below the base, or absolute in a part; empty: all.
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
    #[error("{noun} `{0}` is still running", noun = noun(.0))]
    Running(String),
    /// A word that is both.
    #[error("`{word}` is a workspace, and a path among the newest changes here")]
    Both {
        /// The argument.
        word: String,
        /// The workspace.
        id: String,
    },
    /// The tree began empty, so that it is not said where its changes belong.
    #[error("workspace `{0}` lies over no directory that its changes could be brought into")]
    Homeless(String),
    /// It has a directory of its own.
    #[error("the changes belong to `{base}`, and cannot be brought into another directory")]
    HasBase {
        /// The tree's base.
        base: String,
    },
    /// No workspace is meant, or several.
    #[error(transparent)]
    Workspace(#[from] super::workspaces::Error),
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
        /// The jail.
        id: String,
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
        /// The jail.
        id: String,
        /// The tree's base.
        base: String,
        /// Why.
        source: merge::Error,
    },
}

/// What an id names.
fn noun(id: &str) -> &'static str {
    if id.starts_with("ws-") { "workspace" } else { "jail" }
}

/// Compare a tree with its base and its parts with theirs. Nothing on the host is changed.
pub fn diff(tree: &Tree, options: &DiffOptions) -> Result<Diff, Error> {
    let mut document = empty(tree);
    for layer in tree.layers() {
        let Some(options) = layer.options(tree, options)? else { continue };
        let r = compare::diff(listing(tree, layer)?, base::open(layer)?, &options);
        add(&mut document, layer, r.map_err(|e| not_compared(tree, layer, e))?);
    }
    Ok(document)
}

/// What later comparisons want to know about the directories that a tree lies over, in their order.
pub(super) struct Noted(Vec<Option<Places>>);

impl Noted {
    /// Keep it with the tree.
    pub(super) fn keep(&self, tree: &Tree) {
        for (layer, places) in tree.layers().zip(&self.0) {
            layer.note(places.as_ref());
        }
    }
}

/// As [`diff`] of a whole tree whose run has just ended; with it, what to note, and the bytes that the
/// upper layers take on the disk.
pub(super) fn diff_at_end(tree: &Tree) -> Result<(Diff, Noted, u64), Error> {
    let (mut document, mut noted, mut bytes) = (empty(tree), Vec::new(), 0);
    for layer in tree.layers() {
        let Some(mut options) = layer.options(tree, &DiffOptions::default())? else { continue };
        // Where this run is the first to have changes is not in the notes of those before it.
        options.places = options.places.map(Places::open_ended);
        let end = compare::diff_at_end(listing(tree, layer)?, base::open(layer)?, &options);
        let end = end.map_err(|e| not_compared(tree, layer, e))?;
        add(&mut document, layer, end.report);
        noted.push(end.places);
        bytes += end.allocated;
    }
    Ok((document, Noted(noted), bytes))
}

/// Whether the directories that a tree was made over are still in their places.
pub(super) fn check_base(tree: &Tree) -> Result<(), Error> {
    tree.layers().try_for_each(|layer| base::open(layer).map(drop))
}

fn listing(tree: &Tree, layer: Layer<'_>) -> Result<Uppers, Error> {
    layer.open().map_err(|e| not_compared(tree, layer, e))
}

fn not_compared(tree: &Tree, layer: Layer<'_>, source: sys::Error) -> Error {
    Error::Compare { id: tree.id.to_string(), base: text::os(layer.base), source }
}

fn empty(tree: &Tree) -> Diff {
    Diff {
        format: FORMAT,
        tree: tree.id,
        base: text::os(&tree.base),
        parts: tree.parts.iter().map(|p| text::os(&p.base)).collect(),
        running: tree.running,
        changes: Vec::new(),
        skipped: Vec::new(),
        totals: Totals::default(),
        truncated: 0,
    }
}

fn add(to: &mut Diff, layer: Layer<'_>, r: compare::Report) {
    to.changes.extend(r.changes.into_iter().map(|c| change(layer, c)));
    to.skipped.extend(r.skipped.into_iter().map(|s| skipped(layer, s)));
    to.totals += totals(&r.totals);
    to.truncated += r.truncated;
}

/// Bring the changes of a tree into its base, and those of its parts into theirs. Conflicts, withheld
/// files and failures are part of the answer; an error means that nothing was written.
pub fn apply(tree: &Tree, options: &ApplyOptions, monitor: &dyn Monitor) -> Result<Applied, Error> {
    if tree.running {
        return Err(Error::Running(tree.id.to_string()));
    }
    if tree.homeless {
        return Err(Error::Homeless(tree.id.to_string()));
    }
    let mut layers = Vec::new();
    for layer in tree.layers() {
        layers.extend(layer.options(tree, &options.diff)?.map(|options| (layer, options)));
    }
    let choice = |options_here: &compare::Options, dry_run| merge::Choice {
        options: options_here.clone(),
        dry_run,
        allow_exec_files: options.allow_exec_files,
        partial: options.partial,
        overwrite: options.overwrite,
    };
    let one = |layer: Layer<'_>, options_here: &compare::Options, dry_run| {
        let failed = |source| Error::Apply { id: tree.id.to_string(), base: text::os(layer.base), source };
        let upper = layer.open().map_err(|e| failed(e.into()))?;
        // The user's word covers the directory itself, too.
        let opened = if options.overwrite { base::open_any(layer)? } else { base::open(layer)? };
        let r = merge::apply(upper, opened, &choice(options_here, dry_run), monitor).map_err(failed)?;
        if !r.put.is_empty() {
            // Without it, what a later run changes again is asked about.
            base::note_applied(layer, &r.put);
        }
        Ok(r)
    };
    if let [(layer, options_here)] = layers.as_slice() {
        let mut document = nothing_yet(tree, options.dry_run);
        take(&mut document, *layer, one(*layer, options_here, options.dry_run)?);
        return Ok(document);
    }
    // A conflict anywhere stops it everywhere, so all is looked at first.
    let mut document = nothing_yet(tree, options.dry_run);
    for (layer, options_here) in &layers {
        take(&mut document, *layer, one(*layer, options_here, true)?);
    }
    let stopped = document.conflicts_total > 0 && !options.partial;
    if stopped {
        document.applied.clear();
        document.rest += document.totals.changes;
        document.totals = Totals { skipped: document.totals.skipped, ..Totals::default() };
    }
    if stopped || options.dry_run {
        return Ok(document);
    }
    // The parts first: what the project's directory says of commits is true then whatever happens.
    let mut done = Vec::new();
    layers.rotate_left(1);
    for (layer, options_here) in &layers {
        match one(*layer, options_here, false) {
            Ok(r) => {
                let stopped = r.stopped;
                done.push((*layer, Ok(r)));
                if stopped {
                    break;
                }
            }
            Err(e) if done.is_empty() => return Err(e),
            Err(e) => {
                done.push((*layer, Err(e)));
                break;
            }
        }
    }
    let mut document = nothing_yet(tree, false);
    done.sort_by_key(|(layer, _)| layer.part);
    for (layer, r) in done {
        match r {
            Ok(r) => take(&mut document, layer, r),
            Err(e) => {
                document.stopped = true;
                document.failed.push(broken(layer, &e));
            }
        }
    }
    Ok(document)
}

fn nothing_yet(tree: &Tree, dry_run: bool) -> Applied {
    let Diff { format, tree, base, parts, .. } = empty(tree);
    Applied {
        format,
        tree,
        base,
        parts,
        dry_run,
        performed: false,
        applied: Vec::new(),
        withheld: Vec::new(),
        conflicts: Vec::new(),
        failed: Vec::new(),
        skipped: Vec::new(),
        totals: Totals::default(),
        withheld_total: 0,
        conflicts_total: 0,
        rest: 0,
        stopped: false,
        cleaned: 0,
        truncated: 0,
    }
}

fn take(to: &mut Applied, layer: Layer<'_>, r: merge::Outcome) {
    to.performed |= r.performed;
    to.applied.extend(r.applied.into_iter().map(|c| change(layer, c)));
    to.withheld.extend(r.withheld.into_iter().map(|c| change(layer, c)));
    to.conflicts.extend(r.conflicts.into_iter().map(|c| change(layer, c)));
    to.failed.extend(r.failed.into_iter().map(|f| failure(layer, &f)));
    to.skipped.extend(r.skipped.into_iter().map(|s| skipped(layer, s)));
    to.totals += totals(&r.totals);
    to.withheld_total += r.withheld_total;
    to.conflicts_total += r.conflicts_total;
    to.rest += r.rest;
    to.stopped |= r.stopped;
    to.cleaned += r.cleaned;
    to.truncated += r.truncated;
}

/// A directory that could not be worked on when another one had been.
fn broken(layer: Layer<'_>, e: &Error) -> Failure {
    let source = std::error::Error::source(e).map(|s| format!(": {s}")).unwrap_or_default();
    let errno = match e {
        Error::Base { source, .. } | Error::Apply { source: merge::Error::Sys(source), .. } => source.name(),
        Error::Apply { source: merge::Error::NoSpace { .. }, .. } => "ENOSPC".to_owned(),
        _ => "EBUSY".to_owned(),
    };
    let path = if layer.part { text::os(layer.base) } else { ".".to_owned() };
    Failure { path, error: format!("{e}{source}"), errno, directory: None }
}

fn change(layer: Layer<'_>, c: compare::Change) -> Change {
    let exact = layer.shown(&c.path);
    let path = text::printable(&exact);
    let mode = |m: Option<u32>| m.map(|m| format!("{m:04o}"));
    Change {
        path_base64: (path.as_bytes() != exact).then(|| bytes64::encode(&exact)),
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
        // Sealed layers share files among each other: that says nothing about the jail.
        hard_links: c.hard_links && layer.below.is_empty(),
        special_bits: c.special_bits,
        host_executed: c.host_executed.map(str::to_owned),
        conflict: c.conflict.map(|c| c.text().to_owned()),
    }
}

fn failure(layer: Layer<'_>, f: &merge::Failure) -> Failure {
    let base = layer.base;
    let parent = Path::new(OsStr::from_bytes(&f.path)).parent().unwrap_or(Path::new(""));
    // Joined with nothing, a path would end in a slash.
    let parent = if parent.as_os_str().is_empty() { base.to_owned() } else { base.join(parent) };
    let directory = f.shut.then(|| text::os(&parent));
    let errno = f.error.name();
    let error = match &directory {
        Some(at) => format!("could not change directory `{at}`: {} ({errno})", f.error.errno.desc()),
        None => f.error.to_string(),
    };
    Failure { path: text::printable(&layer.shown(&f.path)), error, errno, directory }
}

fn skipped(layer: Layer<'_>, s: compare::Skipped) -> Skipped {
    Skipped { path: text::printable(&layer.shown(&s.path)), reason: s.reason, unknown: s.unknown }
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
            below: Vec::new(),
            started: Stamp::default(),
            clock_set_back: false,
            parts: Vec::new(),
            homeless: false,
            imported: None,
            seen_at: None,
            elsewhere: None,
            running: false,
            in_memory: false,
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
