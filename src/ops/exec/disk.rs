//! What holds `--disk`: a quota of the file system's, the jail's own tmpfs, or the supervisor that looks.

use super::limits::Chosen;
use crate::base::size;
use crate::jail::spec::{Spec, Storage};
use crate::policy::settings::Access;
use crate::store::layout::StateDir;
use crate::store::quota::{self, Not};
use crate::store::trees::Tree;

/// What holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum By {
    /// There is no limit.
    Nothing,
    /// The file system: what goes beyond it fails in the jail (EDQUOT).
    Quota,
    /// What is written is in the jail's tmpfs, which is no larger. `all`: none of it is anywhere else.
    Memory { all: bool },
    /// The supervisor, by looking, and why nothing better does.
    Watched(String),
}

impl By {
    /// As recorded.
    pub(super) fn word(&self) -> &'static str {
        match self {
            By::Nothing => "",
            By::Quota => "quota",
            By::Memory { all: true } => "tmpfs",
            By::Memory { all: false } => "tmpfs+watched",
            By::Watched(_) => "watched",
        }
    }

    /// Why it is only watched.
    pub(super) fn why(&self) -> Option<String> {
        match self {
            By::Watched(why) => Some(why.clone()),
            By::Nothing | By::Quota | By::Memory { .. } => None,
        }
    }

    /// The limit that the supervisor looks after.
    pub(super) fn watch(&self, limits: &Chosen) -> Option<u64> {
        match self {
            By::Watched(_) | By::Memory { all: false } => limits.disk,
            By::Nothing | By::Quota | By::Memory { all: true } => None,
        }
    }
}

/// Decide for the run of `spec`, which goes on in `older`, if there is one. With a tmpfs, its size is set.
pub(super) fn choose(
    spec: &mut Spec,
    (limits, lite): (&Chosen, bool),
    (state, older): (&StateDir, Option<&Tree>),
) -> By {
    let Some(limit) = limits.disk else { return By::Nothing };
    let watched = |why: &str| By::Watched(why.to_owned());
    match (spec.access, spec.storage) {
        _ if lite => watched("a quota does not hold without namespaces"),
        (Access::Rw, _) => watched("the host's own directories are written to"),
        (Access::Overlay, Storage::Memory) => {
            spec.tmp = spec.tmp.min(limit);
            By::Memory { all: spec.home.is_none() && spec.output.is_none() }
        }
        (Access::Overlay, Storage::Copy) => watched("the command works on a private copy"),
        (Access::Ro, _) if spec.tree.is_none() => watched("nothing of the run is on disk"),
        (Access::Overlay | Access::Ro, _) => {
            let possible =
                older.map_or_else(|| quota::is_possible(state), |tree| quota::is_possible_in(state, tree));
            possible.map_or_else(|not| By::Watched(not.to_string()), |()| By::Quota)
        }
    }
}

/// Have it hold `tree`, before anything is written there. Where it does not after all, it is watched.
pub(super) fn hold(by: &mut By, tree: &mut Tree, limits: &Chosen, warnings: &mut Vec<String>) {
    let done = match (&*by, limits.disk) {
        (By::Quota, Some(limit)) => quota::hold(tree, limit),
        // The limit of an earlier run is not this one's.
        _ if tree.is_older() => quota::let_go(tree).map_err(Not::Failed),
        _ => Ok(()),
    };
    let Err(not) = done else { return };
    if *by == By::Quota {
        warnings.push(format!("`--disk` is watched only, a quota could not be set: {not}"));
        *by = By::Watched(not.to_string());
    } else {
        warnings.push(format!("the limit of an earlier run may still hold: {not}"));
    }
}

/// What a run is told that has used up its limit: a program says little more than "Disk quota exceeded".
pub(super) fn used_up(by: &By, tree: Option<&Tree>, limits: &Chosen) -> Option<String> {
    /// What is left is less than a write takes as a rule.
    const NEARLY: u64 = 64 << 10;
    let (By::Quota, Some(limit)) = (by, limits.disk) else { return None };
    let used = quota::used(tree?)?;
    let what = if used.used.saturating_add(NEARLY) >= used.room {
        size::human(limit)
    } else if used.inodes_used >= used.inodes {
        format!("{} files, which go with {},", used.inodes, size::human(limit))
    } else {
        return None;
    };
    Some(format!(
        "the limit of {what} on disk is used up: what goes beyond it fails (EDQUOT); more: `--disk SIZE`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_it_is_one_word_and_only_what_is_watched_is_looked_at() {
        let limits = Chosen { disk: Some(7), ..Chosen::default() };
        let all = [
            (By::Nothing, "", None),
            (By::Quota, "quota", None),
            (By::Memory { all: true }, "tmpfs", None),
            (By::Memory { all: false }, "tmpfs+watched", Some(7)),
            (By::Watched("x".to_owned()), "watched", Some(7)),
        ];
        for (by, word, watch) in all {
            assert_eq!((by.word(), by.watch(&limits)), (word, watch));
            assert_eq!(by.why().is_some(), word == "watched");
        }
    }
}
