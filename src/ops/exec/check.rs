//! What is refused before anything is started.

use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::Error;
use crate::base::env;
use crate::jail::spec::{Bind, Owner, Spec};
use crate::policy::settings::{Access, Settings};
use crate::store::layout::StateDir;

/// `--ro` and `--rw` directories, resolved, parents before children.
pub(super) fn binds(settings: &Settings) -> Result<Vec<Bind>, Error> {
    let mut binds = Vec::with_capacity(settings.ro.len() + settings.rw.len());
    for (list, writable) in [(&settings.ro, false), (&settings.rw, true)] {
        for path in list {
            let fail = |why| Error::Bind { path: path.clone(), why };
            let real = std::fs::canonicalize(path).map_err(fail)?;
            let directory = std::fs::metadata(&real).map_err(fail)?.is_dir();
            binds.push(Bind { path: real, writable, directory });
        }
    }
    binds.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(binds)
}

/// Where the command starts: at the top of the workspace, or where `--cwd` says below it.
pub(super) fn cwd(at: &Path, asked: Option<&Path>) -> Result<PathBuf, Error> {
    let Some(asked) = asked else { return Ok(at.to_owned()) };
    let path = at.join(asked);
    let plain = !path.components().any(|c| c == Component::ParentDir);
    if plain && path.starts_with(at) {
        Ok(path)
    } else {
        Err(Error::Cwd { path: asked.to_owned(), at: at.to_owned() })
    }
}

/// Refuse `--rw` of aj's own state: both paths are free of links by now.
pub(super) fn writable_binds(spec: &Spec, state: &StateDir) -> Result<(), Error> {
    let state = state.real_path();
    let refuse = |bind: &Bind, why| Err(Error::Refused { path: bind.path.clone(), why, insist: false });
    for bind in spec.binds.iter().filter(|b| b.writable) {
        if state.starts_with(&bind.path) {
            return refuse(bind, "contains aj's state directory, which no jail may write");
        }
        if bind.path.starts_with(&state) {
            return refuse(bind, "is inside aj's state directory");
        }
    }
    Ok(())
}

/// Refuse what would show the user's keys or aj's own state, and what an overlay cannot change.
pub(super) fn workspace(
    path: &Path,
    state: &StateDir,
    settings: &Settings,
    insist: bool,
) -> Result<Owner, Error> {
    let refuse = |why, could| Err(Error::Refused { path: path.to_owned(), why, insist: could });
    let meta = std::fs::metadata(path).map_err(|why| Error::CurrentDir { why })?;
    let state = state.real_path();
    if state.starts_with(path) && settings.access != Access::Ro {
        return refuse("contains aj's state directory, which no jail may write", false);
    }
    if path.starts_with(&state) {
        return refuse("is inside aj's state directory", false);
    }
    if !insist {
        if path == Path::new("/") {
            return refuse("is the whole machine", true);
        }
        let home = env::HOME.absolute_path();
        if home.is_some_and(|h| h == path || std::fs::canonicalize(h).is_ok_and(|h| h == path)) {
            return refuse("is your home directory, with every key and token in it", true);
        }
        if state.starts_with(path) {
            return refuse("contains aj's state directory", true);
        }
    }
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    if uid != 0 && settings.access == Access::Overlay {
        for (what, theirs, ours) in [("user", meta.uid(), uid), ("group", meta.gid(), gid)] {
            if theirs != ours {
                return Err(Error::Foreign { path: path.to_owned(), what, theirs, ours });
            }
        }
    }
    Ok(Owner { uid: meta.uid(), gid: meta.gid() })
}

/// Which limits can be held. Memory is watched by the supervisor, which is best effort and says so;
/// processor limits need a cgroup.
pub(super) fn limits(settings: &Settings, warnings: &mut Vec<String>) -> Result<Option<u64>, Error> {
    if settings.mem_explicit && !settings.best_effort {
        return Err(Error::Limit {
            what: "mem",
            why: "without a cgroup, memory can only be watched, not limited",
        });
    }
    if settings.mem_explicit {
        warnings
            .push("`--mem` is best effort: memory is watched and the jail killed when it is over".to_owned());
    }
    if settings.cpu_explicit {
        if !settings.best_effort {
            return Err(Error::Limit { what: "cpus", why: "it needs a cgroup" });
        }
        warnings.push("`--cpus` is not enforced: it needs a cgroup".to_owned());
    }
    Ok(settings.mem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_directory_is_below_the_workspace() {
        let at = Path::new("/home/me/p");
        let ask = |path: &str| cwd(at, Some(Path::new(path))).ok();
        assert_eq!(cwd(at, None).ok().as_deref(), Some(at));
        assert_eq!(ask("src/x"), Some("/home/me/p/src/x".into()));
        assert_eq!(ask("/home/me/p/src"), Some("/home/me/p/src".into()));
        for bad in ["..", "src/../..", "/", "/home/me", "/proc/self/fd/42", "/home/me/p2"] {
            assert_eq!(ask(bad), None, "{bad}");
        }
    }
}
