//! `.git` that is a file or a link: where it leads, and whether what is there belongs to this tree.

use std::ffi::OsStr;
use std::fs::FileType;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Around, CONFIG_LIMIT, Needs, POINTER_LIMIT, plain, read, real};
use crate::base::quote::command_line;
use crate::base::text;
use crate::workspace::gitconfig;

/// The git directory of the tree and the one with its objects and refs, which is the same but for a
/// linked worktree. `None`: neither is visible. The error is a line for the user.
pub(super) fn resolve(
    around: &Around<'_>,
    git: &Path,
    kind: FileType,
    needs: &mut Needs,
) -> Result<Option<(PathBuf, PathBuf)>, String> {
    let here = |why: String| format!("`{}` is not followed: {why}", text::os(git));
    let target = if kind.is_symlink() {
        std::fs::read_link(git).map_err(|e| here(e.to_string()))?
    } else if kind.is_file() {
        let Some(text) = read(git, POINTER_LIMIT).map_err(here)? else { return Ok(None) };
        let Some(path) = text.strip_prefix(b"gitdir: ") else {
            return Err(here("it does not begin with `gitdir: `".to_owned()));
        };
        path_of(path).ok_or_else(|| here("it names nothing".to_owned()))?
    } else {
        return Err(here("it is neither a directory nor a file".to_owned()));
    };
    let named = plain(around.tree, &target);
    let there = |why: String| {
        format!("`{}` leads to `{}`, which is not shown: {why}", text::os(git), text::os(&named))
    };
    if !around.has(&named) {
        around.private(&named).map_err(there)?;
    }
    let own = real(around.tree, &target).map_err(there)?;
    let common = shared(around, &own, &named).map_err(there)?;
    if !around.has(&common) {
        let owner = fit(around, &common).map_err(there)?;
        needs.shared = Some((common.clone(), owner));
    }
    if named != own && !around.has(&named) {
        needs.links.push((named, own.clone()));
    }
    Ok(Some((own, common)))
}

/// A path written in a file of git's: all of it but line ends. `None`: none.
fn path_of(text: &[u8]) -> Option<PathBuf> {
    let end = text.iter().rposition(|b| !matches!(b, b'\n' | b'\r')).map_or(0, |i| i + 1);
    let path = text.get(..end).filter(|path| !path.is_empty() && !path.contains(&0))?;
    Some(PathBuf::from(OsStr::from_bytes(path)))
}

/// The directory with the objects and refs of `own`, if that is the git directory of this very tree.
fn shared(around: &Around<'_>, own: &Path, named: &Path) -> Result<PathBuf, String> {
    let inside = around.has(own);
    if !inside {
        around.private(own)?;
        around.trusted(own)?;
    }
    let Some(text) = read(&own.join("commondir"), POINTER_LIMIT)? else {
        // What lies in the tree is seen anyway, whatever it is.
        if !inside && !is_worktree_of(around, own)? {
            return Err(unproven(around, own, named));
        }
        return Ok(own.to_owned());
    };
    let path = path_of(&text).ok_or("its `commondir` names nothing")?;
    let common = plain(own, &path);
    let on = |why: String| format!("its common directory is `{}`: {why}", text::os(&common));
    if !around.has(&common) {
        around.private(&common).map_err(on)?;
    }
    let common = real(own, &path).map_err(on)?;
    if around.has(&common) {
        return Ok(common);
    }
    around.private(&common).map_err(on)?;
    // git's own layout. Then whoever wrote `own` could write the common directory as well.
    if own.parent() != Some(&common.join("worktrees")) {
        return Err(on("it is none of its worktrees".to_owned()));
    }
    let back = read(&own.join("gitdir"), POINTER_LIMIT)?.and_then(|text| path_of(&text));
    let back = back.filter(|back| back.file_name() == Some(OsStr::new(".git")));
    match back.as_deref().and_then(Path::parent) {
        Some(tree) if around.is_tree(own, tree) => Ok(common),
        Some(tree) if own.join(tree).symlink_metadata().is_err() => Err(format!(
            "it is the worktree of `{}`, which is gone (if that was moved here: `git worktree repair`, outside)",
            text::os(tree)
        )),
        Some(_) => Err("it is the worktree of another directory".to_owned()),
        None => Err(
            "it does not say which worktree it is of (if it is this one's: `git worktree repair`, outside)"
                .to_owned(),
        ),
    }
}

/// With what makes it say so: `git clone --separate-git-dir` and a link write down nothing.
fn unproven(around: &Around<'_>, own: &Path, named: &Path) -> String {
    let why = "nothing in it says that it belongs to this tree";
    if own.join("HEAD").symlink_metadata().is_err() {
        return why.to_owned();
    }
    let words = ["git", "--git-dir"].map(str::to_owned).into_iter();
    let words: Vec<String> = words
        .chain([text::os(named)])
        .chain(["config", "core.worktree"].map(str::to_owned))
        .chain([text::os(around.tree)])
        .collect();
    format!("{why} (if it does: `{}`, outside)", command_line(&words))
}

/// Whether the configuration of a submodule (or of any git directory that lies elsewhere) says that this
/// tree is what it is checked out to.
fn is_worktree_of(around: &Around<'_>, own: &Path) -> Result<bool, String> {
    // The second is where git moves it once worktrees have settings of their own.
    for name in ["config", "config.worktree"] {
        let Some(config) = read(&own.join(name), CONFIG_LIMIT)? else { continue };
        if let Some(path) = gitconfig::value(&config, "core", "worktree") {
            return Ok(around.is_tree(own, Path::new(OsStr::from_bytes(&path))));
        }
    }
    Ok(false)
}

/// Whether `common` can be shown: its owner.
fn fit(around: &Around<'_>, common: &Path) -> Result<crate::jail::spec::Owner, String> {
    let on = |why: String| format!("`{}`: {why}", text::os(common));
    let owner = around.trusted(common).map_err(on)?;
    let is_dir = |name: &str| common.join(name).symlink_metadata().is_ok_and(|m| m.is_dir());
    if common.join("HEAD").symlink_metadata().is_err() || !is_dir("objects") || !is_dir("refs") {
        return Err(on("it is no git directory".to_owned()));
    }
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    if around.overlay && uid != 0 && owner.gid != gid {
        return Err(on(format!(
            "it belongs to group {}, not to yours ({gid}), so that its files could not be changed inside",
            owner.gid
        )));
    }
    Ok(owner)
}
