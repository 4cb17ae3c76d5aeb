//! What git needs beside the workspace, as the jail shows it: see [`repository`].

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::beside::Beside;
use crate::base::id::Id;
use crate::base::text;
use crate::jail::spec::{Bind, BindKind, Covered, Spec};
use crate::ops::repository::{self, Around, Needs};
use crate::policy::settings::Access;
use crate::store::sides::Kind;
use crate::sys::at::{self, Replace};
use crate::sys::openat2;

/// Name of the overlay over a shared git directory.
const GIT: &str = "git";
/// Git directories of submodules and worktrees that are protected: each takes some mounts.
const MOST: usize = 100;
/// Directories on the way to one of them.
const DEEPEST: usize = 6;

/// Add it to `spec`, whose binds and workspace are known. What has an overlay of its own comes back, and
/// the paths of all.
pub(super) fn add(spec: &mut Spec, state: &Path, warnings: &mut Vec<String>) -> (Vec<Beside>, Vec<PathBuf>) {
    let binds = &spec.binds;
    let around = Around {
        tree: &spec.workspace,
        owner: spec.owner,
        state,
        overlay: spec.access == Access::Overlay,
        shown: &|path| binds.iter().any(|b| path.starts_with(&b.path)),
    };
    let needs = repository::find(&around, warnings);
    if needs == Needs::default() {
        return Default::default();
    }
    spec.aliases.extend(needs.links);
    let shared = needs.shared.iter().map(|(path, _)| path);
    let all = shared.chain(&needs.borrowed).cloned().collect();
    let mut add = |path, writable| {
        let kind = if writable { BindKind::Plain } else { BindKind::Veiled };
        spec.binds.push(Bind { path, writable, directory: true, kind });
    };
    needs.borrowed.into_iter().for_each(|store| add(store, false));
    let mut beside = Vec::new();
    match (needs.shared, spec.access) {
        (None, _) => {}
        (Some((path, _)), Access::Rw) => add(path, true),
        (Some((path, _)), Access::Ro) => add(path, false),
        (Some((path, owner)), Access::Overlay) => {
            beside.push(Beside { kind: Kind::Part, name: GIT.to_owned(), path, owner });
        }
    }
    spec.binds.sort_by(|a, b| a.path.as_os_str().as_bytes().cmp(b.path.as_os_str().as_bytes()));
    (beside, all)
}

/// What git obeys in the git directories that a jail may write with `--rw`.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// What is there, and on the way to it.
    pub(super) covered: Vec<Covered>,
    /// What is not, and no mount can cover.
    pub(super) absent: Vec<PathBuf>,
}

/// What of the git directories that a jail may write with `--rw` it may not: their configuration, hooks
/// and attributes, and what says where they are. The directories on the way are pinned, so that none can
/// be moved away with another one put in its place.
pub(super) fn protect(spec: &Spec, warnings: &mut Vec<String>) -> Settings {
    if !spec.writes_to_host() {
        return Settings::default();
    }
    let mut found = Found::default();
    if spec.access == Access::Rw {
        found.working_tree(&spec.workspace, warnings);
    }
    for bind in spec.binds.iter().filter(|b| b.writable && b.directory) {
        if is_git_directory(&bind.path) {
            found.git_directory(&bind.path, warnings);
        } else {
            found.working_tree(&bind.path, warnings);
        }
    }
    // What another mount shows in its place is not written, or was looked at for itself.
    let own = |path: &Path| spec.binds.iter().rfind(|b| path.starts_with(&b.path));
    let Found(Settings { mut covered, mut absent }) = found;
    let is_its = |path: &Path| own(path).is_none_or(|b| b.writable && b.path != path);
    covered.retain(|c| is_its(&c.path));
    absent.retain(|path| is_its(path));
    covered.sort_by(|a, b| a.path.as_os_str().as_bytes().cmp(b.path.as_os_str().as_bytes()));
    covered.dedup_by(|a, b| a.path == b.path);
    Settings { covered, absent }
}

/// Put out of git's sight what the run of `jail`, which has ended, made of what was `absent`. While it ran, git
/// would have obeyed it.
pub(super) fn set_aside(absent: &[PathBuf], jail: Id) -> Vec<String> {
    let mut lines = Vec::new();
    for path in absent {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
        // Pinned while the jail ran, so that no link is on the way.
        let Ok(dir) = openat2::resolved(parent.as_os_str().as_bytes()) else { continue };
        if !matches!(at::stat_opt(&dir, name.as_bytes()), Ok(Some(_))) {
            continue;
        }
        let aside = format!("{}.{jail}", name.to_string_lossy());
        let shown = text::os(path);
        lines.push(match at::rename(&dir, name.as_bytes(), aside.as_bytes(), Replace::No) {
            Ok(()) => format!(
                "`{shown}` was made while the command ran, and git on this machine would obey it: it is called `{aside}` now \
                 (rename it back if it is yours)"
            ),
            Err(e) => format!(
                "`{shown}` was made while the command ran, and git on this machine obeys it: remove it (it could not be \
                 renamed: {})",
                e.name()
            ),
        });
    }
    lines
}

fn is_git_directory(dir: &Path) -> bool {
    ["HEAD", "objects", "refs"].iter().all(|name| dir.join(name).symlink_metadata().is_ok())
}

#[derive(Default)]
struct Found(Settings);

impl Found {
    fn add(&mut self, path: PathBuf, writable: bool) -> bool {
        match path.symlink_metadata() {
            Ok(meta) if meta.is_dir() || meta.is_file() => {
                self.0.covered.push(Covered { path, inode: meta.ino(), writable });
                true
            }
            _ => false,
        }
    }

    /// The `.git` of a directory: one that is a file is a pointer, and stays what it is.
    fn working_tree(&mut self, top: &Path, warnings: &mut Vec<String>) {
        let git = top.join(".git");
        match git.symlink_metadata() {
            Ok(meta) if meta.is_dir() => {
                self.add(git.clone(), true);
                self.git_directory(&git, warnings);
            }
            Ok(meta) if meta.is_file() => drop(self.add(git, false)),
            Ok(_) | Err(_) => {}
        }
    }

    fn git_directory(&mut self, git: &Path, warnings: &mut Vec<String>) {
        self.settings(git, &["config", "config.worktree", "hooks", "info", "commondir"], warnings);
        let mut left = MOST;
        self.below(
            &git.join("worktrees"),
            &["config.worktree", "commondir", "gitdir"],
            1,
            &mut left,
            warnings,
        );
        let names = ["config", "config.worktree", "hooks", "info"];
        self.below(&git.join("modules"), &names, DEEPEST, &mut left, warnings);
        if left == 0 {
            let git = text::os(git);
            warnings.push(format!("`{git}` has more submodules and worktrees than {MOST}: not all of their settings are protected"));
        }
    }

    fn settings(&mut self, git: &Path, names: &[&str], warnings: &mut Vec<String>) {
        for name in names {
            let path = git.join(name);
            if self.add(path.clone(), false) {
                continue;
            }
            // What is in `info` names programs that only a configuration has.
            if path.symlink_metadata().is_err() && *name != "info" {
                self.0.absent.push(path);
            } else if path.is_symlink() {
                let shown = text::os(&path);
                warnings.push(format!(
                    "`{shown}` is a link, which a command could replace: `--rw` cannot protect it"
                ));
            }
        }
    }

    /// Git directories below `dir`, at most `depth` directories down.
    fn below(
        &mut self,
        dir: &Path,
        names: &[&str],
        depth: usize,
        left: &mut usize,
        warnings: &mut Vec<String>,
    ) {
        if depth == 0 || !dir.symlink_metadata().is_ok_and(|m| m.is_dir()) {
            return;
        }
        let Ok(entries) = std::fs::read_dir(dir) else { return };
        self.add(dir.to_owned(), true);
        for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
            if *left == 0 {
                return;
            }
            *left -= 1;
            let path = entry.path();
            if path.join("HEAD").symlink_metadata().is_err() {
                self.below(&path, names, depth - 1, left, warnings);
                continue;
            }
            self.add(path.clone(), true);
            self.settings(&path, names, warnings);
            self.below(&path.join("modules"), names, depth - 1, left, warnings);
        }
    }
}
