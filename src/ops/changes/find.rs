//! Which tree is meant: a scan of `trees/` in the state directory.

use std::path::{Path, PathBuf};

use super::{Error, Tree};
use crate::base::{env, id::Id, text};
use crate::sys;
use crate::sys::at::{self, Stamp};
use crate::sys::openat2::{self, For};

/// As [`find_tree`], in the caller's state directory and current directory, which is returned too.
pub fn open_tree(selector: Option<&str>) -> Result<(Tree, PathBuf), Error> {
    let cwd = std::env::current_dir().map_err(|source| Error::State { path: ".".into(), source })?;
    let state = env::STATE_DIR.get().map(PathBuf::from).or_else(|| {
        let xdg = env::XDG_STATE_HOME.absolute_path();
        let base = xdg.or_else(|| env::HOME.absolute_path().map(|home| home.join(".local/state")));
        base.map(|base| base.join("agentjail"))
    });
    match state {
        Some(state) => Ok((find_tree(&state, selector, &cwd)?, cwd)),
        None => Err(Error::NoTree(text::os(&cwd))),
    }
}

/// Open the tree that `selector` means: an id or a unique beginning of one, `@` for the newest tree,
/// nothing for the newest tree over `cwd` or a directory above it.
pub fn find_tree(state: &Path, selector: Option<&str>, cwd: &Path) -> Result<Tree, Error> {
    let mut found = list(state)?;
    match selector {
        None => found.retain(|t| cwd.starts_with(&t.base)),
        Some("@") => {}
        Some(prefix) => {
            found.retain(|t| t.id.as_str().starts_with(prefix));
            if found.len() > 1 && !found.iter().any(|t| t.id.as_str() == prefix) {
                found.sort_by_key(|t| std::cmp::Reverse(t.started));
                let ids = found.iter().take(8).map(|t| t.id.to_string()).collect();
                return Err(Error::Ambiguous { selector: text::os(prefix), ids });
            }
        }
    }
    match found.into_iter().max_by_key(|t| (t.started, t.id)) {
        Some(tree) => tree.open(),
        None => Err(match selector {
            Some(s) if s != "@" => Error::NotFound(text::os(s)),
            _ => Error::NoTree(text::os(cwd)),
        }),
    }
}

struct Found {
    id: Id,
    dir: PathBuf,
    base: PathBuf,
    started: Stamp,
}

impl Found {
    fn open(self) -> Result<Tree, Error> {
        let upper = open(&self.dir).and_then(|dir| openat2::beneath(dir, b"upper", For::Listing));
        match upper {
            Ok(upper) => Ok(Tree { id: self.id, base: self.base, upper, started: self.started }),
            Err(source) => Err(Error::Damaged { id: self.id.to_string(), source }),
        }
    }
}

/// Every tree with a readable record; one without a `base` link is being made or removed.
fn list(state: &Path) -> Result<Vec<Found>, Error> {
    let trees = state.join("trees");
    let entries = match std::fs::read_dir(&trees) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::State { path: text::os(&trees), source }),
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|n| n.parse::<Id>().ok()) else { continue };
        let dir = entry.path();
        let record = open(&dir).and_then(|fd| Ok((at::stat(&fd, b"base")?, at::read_link(&fd, b"base")?)));
        if let Ok((meta, base)) = record {
            let base = PathBuf::from(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(base));
            found.push(Found { id, dir, base, started: meta.ctime });
        }
    }
    Ok(found)
}

fn open(dir: &Path) -> sys::Result<std::os::fd::OwnedFd> {
    let file = std::fs::File::open(dir).map_err(|e| {
        let errno = nix::errno::Errno::from_raw(e.raw_os_error().unwrap_or(0));
        sys::Error::new("open", text::os(dir), errno)
    })?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(state: &Path, id: &str, base: &str) {
        let dir = state.join("trees").join(id);
        std::fs::create_dir_all(dir.join("upper")).unwrap();
        std::os::unix::fs::symlink(base, dir.join("base")).unwrap();
        // The next one is later by the clock of the file system.
        std::thread::sleep(std::time::Duration::from_millis(12));
    }

    #[test]
    fn the_newest_tree_over_the_current_directory_is_meant_by_default() {
        let t = tempfile::tempdir().unwrap();
        let s = t.path();
        make(s, "jl-aaaaaaaaaaaaaaaa", "/p");
        make(s, "jl-aabbbbbbbbbbbbbb", "/p");
        make(s, "jl-cccccccccccccccc", "/q");
        std::fs::create_dir_all(s.join("trees/jl-dddddddddddddddd")).unwrap();
        std::fs::create_dir_all(s.join("trees/other")).unwrap();
        let id = |selector: Option<&str>, cwd: &str| {
            find_tree(s, selector, Path::new(cwd)).map(|t| t.id.to_string()).map_err(|e| e.to_string())
        };
        assert_eq!(id(None, "/p/sub").as_deref(), Ok("jl-aabbbbbbbbbbbbbb"));
        assert_eq!(id(Some("@"), "/p").as_deref(), Ok("jl-cccccccccccccccc"));
        assert_eq!(id(Some("jl-aaa"), "/").as_deref(), Ok("jl-aaaaaaaaaaaaaaaa"));
        assert_eq!(
            id(Some("jl-aa"), "/").unwrap_err(),
            "`jl-aa` matches several jails: jl-aabbbbbbbbbbbbbb, jl-aaaaaaaaaaaaaaaa"
        );
        assert_eq!(id(Some("jl-z"), "/").unwrap_err(), "no kept changes match `jl-z`");
        assert_eq!(id(None, "/pp").unwrap_err(), "no changes are kept for `/pp`");
        assert_eq!(
            find_tree(&s.join("none"), None, Path::new("/")).unwrap_err().to_string(),
            "no changes are kept for `/`"
        );
    }
}
